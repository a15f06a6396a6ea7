// SPDX-License-Identifier: Apache-2.0
// All the operating system there is: files, mapping, clocks, cores, memory figures, signals' one
// flag, terminals.
#ifndef CARAT_BASE_OS_H
#define CARAT_BASE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

// A whole file, mapped read-only. Directories, devices and pipes are refused with the reason.
// An empty file gives size 0 and data NULL.
struct os_map {
    const uint8_t *data;
    size_t size;
};
int os_map_open(struct os_map *out, const char *path, struct carat_error *err);
void os_map_close(struct os_map *m); // takes zeroed memory
// Tells the system that this part will be read soon. Advice only.
void os_map_will_need(const struct os_map *m, size_t offset, size_t size);
// Tells it that the whole pages of this part will not be read again: they no longer count as this
// process's memory. Reading them all the same works. Advice only.
void os_map_drop(const struct os_map *m, size_t offset, size_t size);

bool os_is_directory(const char *path);
bool os_is_file(const char *path);
bool os_exists(const char *path);
// Names in a directory (no "." and ".."), sorted bytewise; freed with os_list_free.
int os_list(char ***names, size_t *count, const char *path, size_t count_max,
            struct carat_error *err);
void os_list_free(char **names, size_t count);
// Reads a whole file, or standard input when path is "-", up to max bytes; more is CARAT_E_FULL.
int os_read_file(struct buf *out, const char *path, size_t max, struct carat_error *err);
// Waits for the next bytes of standard input and reads at most size of them; 0 at its end.
// CARAT_E_STOPPED when a signal came instead.
int os_read_some(void *out, size_t size, size_t *n, struct carat_error *err);
// Appends the path from the root, without links; false when nothing is there.
bool os_full_path(struct buf *out, const char *path);
// A number that changes when a file is written or replaced; 0 when nothing is there.
uint64_t os_file_stamp(const char *path);
int os_write_file(const char *path, const void *data, size_t size, struct carat_error *err);
// Where this program's file is, as a path; empty string when unknown.
void os_program_path(struct buf *out);
const char *os_env(const char *name); // NULL when unset or empty

// Zeroed memory straight from the system, in whole pages: pages that nobody touches cost nothing.
// Memory that will be filled whole is asked for in large pages, which spare address translation.
// For mem.c alone; everybody else uses mem_new. NULL when there is none.
void *os_pages_new(size_t size, bool will_be_filled);
void os_pages_free(void *pages, size_t size);

double os_seconds(void);    // monotonic
int64_t os_unix_time(void); // seconds since 1970
// Lets this process have as many files and sockets open as the system allows it; how many.
size_t os_raise_file_limit(void);
uint64_t os_random_u64(void);
// Cores that this process may use, at least 1. The hardware threads of a core count as one: they
// share its multipliers and its way to memory, so that a second one only takes turns.
size_t os_cores(void);
size_t os_processors(void); // the same with every hardware thread
// Whether a list as the kernel writes them, such as "0-3,8", has this number.
bool os_cpu_list_has(const char *list, size_t cpu);
// Asks the system to let this process use the tiles of AMX; false when it does not. That the CPU
// has them is for the caller to know.
bool os_may_use_tiles(void);
uint64_t os_memory_total(void);     // bytes; 0 when unknown
uint64_t os_memory_available(void); // bytes; 0 when unknown
// Of that, what holds nothing, not even pages of files that could be dropped; 0 when unknown.
uint64_t os_memory_unused(void);
uint64_t os_memory_resident_peak(void); // of this process, bytes; 0 when unknown
// Of that, what belongs to this process alone (anonymous memory), now; 0 when unknown.
uint64_t os_memory_private(void);

// Ctrl-C: after os_catch_interrupt the first interrupt only sets a flag; a second one, while the
// flag is set, ends the program at once with exit code 130.
void os_catch_interrupt(void);
bool os_interrupted(void);
void os_clear_interrupt(void);
// For a program that runs until it is told to stop (SIGTERM, SIGINT) or, where it asked for that,
// to read its files again (SIGHUP; else that stops it, too). A second request to stop ends the
// program at once with exit code 130. Broken pipes are errors of a write from then on, not signals.
enum os_signal { OS_SIGNAL_NONE, OS_SIGNAL_STOP, OS_SIGNAL_RELOAD };
int os_catch_signals(bool catches_reload, struct carat_error *err);
// The next of them; OS_SIGNAL_NONE when none came for that long.
enum os_signal os_wait_signal(int milliseconds);
// Ctrl-Z: stops the program until the user continues it.
void os_suspend(void);

bool os_is_terminal(int fd);
// Writes bytes to standard error in one piece, as far as it takes them.
void os_write_error(const char *data, size_t size);
// Waits at most that long for something to read: data, the end of the file, or an error.
bool os_wait_readable(int fd, int milliseconds);
size_t os_terminal_columns(int fd); // 80 when unknown

#endif
