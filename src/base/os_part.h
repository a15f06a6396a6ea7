// SPDX-License-Identifier: Apache-2.0
// What a store of large files needs that several processes use at a time: files that are written in
// any order, locks between processes, links, room on the disk. Errors name the path.
#ifndef CARAT_BASE_OS_PART_H
#define CARAT_BASE_OS_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "carat.h"

// A file that is read and written at any place. Zeroed memory is a closed one.
struct os_part {
    char *path; // NULL: closed
    int fd;
};
// Makes the file, for the user alone, when it is not there.
int os_part_open(struct os_part *out, const char *path, struct carat_error *err);
// Longer: the new bytes are zero and take no room before they are written.
int os_part_resize(struct os_part *p, uint64_t size, struct carat_error *err);
// CARAT_E_FULL when the disk is.
int os_part_write(struct os_part *p, uint64_t at, const void *data, size_t size,
                  struct carat_error *err);
// At most size bytes; *n is less only at the end of the file.
int os_part_read(struct os_part *p, uint64_t at, void *out, size_t size, size_t *n,
                 struct carat_error *err);
// What was written is on the disk when this returns.
int os_part_sync(struct os_part *p, struct carat_error *err);
void os_part_close(struct os_part *p);

// A lock is a file that is there while somebody has it; the system frees it when its process ends,
// however it ends. Zeroed memory is none.
struct os_lock {
    char *path; // NULL: not held
    int fd;
};
// 0: it is ours, 1: somebody else's, negative: an error. Shared locks keep only the others out. A
// process takes each lock once at a time.
int os_lock_try(struct os_lock *out, const char *path, bool is_shared, struct carat_error *err);
void os_lock_release(struct os_lock *lock, bool removes_file);

// In place of what was there, if that is no folder with something in it; the new name is on the
// disk when this returns.
int os_rename(const char *from, const char *to, struct carat_error *err);
// Others may read this file or folder, as far as the user lets them read new ones.
int os_share(const char *path, struct carat_error *err);
int os_link(const char *path, const char *target, struct carat_error *err); // symbolic
bool os_remove_folder(const char *path);                                    // an empty one
// Bytes that the user may still write where this path lies; UINT64_MAX when unknown.
uint64_t os_disk_free(const char *path);
void os_pause(int milliseconds); // ends early when a signal comes
// Bytes of the disk that a file takes: less than its size where nothing was written yet.
uint64_t os_disk_used(const char *path);

#endif
