// SPDX-License-Identifier: Apache-2.0
// Large files, written whole or not at all and read in order; folders of them. Errors name the
// path.
#ifndef CARAT_BASE_OS_FILE_H
#define CARAT_BASE_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

// A file in the making. It has another name, which ends with OS_WRITER_SUFFIX, until it is
// finished.
#define OS_WRITER_SUFFIX ".part"
struct os_writer {
    char *path;
    char *path_now;
    int fd;
};
int os_writer_open(struct os_writer *out, const char *path, struct carat_error *err);
int os_writer_add(struct os_writer *w, const void *data, size_t size, struct carat_error *err);
// Gives the file its name, in place of one that was there. is_durable: the file and its name are on
// the disk when this returns, not only in the system's memory.
int os_writer_finish(struct os_writer *w, bool is_durable, struct carat_error *err);
// Removes what was not finished. Takes zeroed and finished writers.
void os_writer_close(struct os_writer *w);

// An ordinary file, read in order.
struct os_reader {
    char *path;
    int fd;              // of a file
    const uint8_t *data; // or bytes of the caller's
    uint64_t size;       // bytes of the whole file
    uint64_t at;         // bytes read
};
int os_reader_open(struct os_reader *out, const char *path, struct carat_error *err);
// The same over bytes that outlive the reader (for tests and fuzzing).
int os_reader_open_memory(struct os_reader *out, const void *data, size_t size, const char *name,
                          struct carat_error *err);
// All of size bytes, or an error: CARAT_E_FORMAT where the file ends before.
int os_reader_next(struct os_reader *r, void *out, size_t size, struct carat_error *err);
void os_reader_close(struct os_reader *r); // takes zeroed memory

struct os_file_info {
    uint64_t size;     // bytes
    int64_t used_at;   // when it was written or touched, in ns since 1970
    bool is_directory; // size means nothing then
};
bool os_file_info(struct os_file_info *out, const char *path); // false: nothing is there
bool os_touch(const char *path);                               // used_at becomes now
bool os_remove(const char *path);                              // a file
// With the folders it lies in, for the user alone; one that is there already is fine.
int os_make_folder(const char *path, struct carat_error *err);
// Appends where the user's programs put what can be made again: $XDG_CACHE_HOME, else ~/.cache, or
// what the system has in its place. False: there is no such folder.
bool os_cache_folder(struct buf *out);

#endif
