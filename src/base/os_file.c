// SPDX-License-Identifier: Apache-2.0
// Files that are too large for one piece of memory, by POSIX's calls.
#include "base/os_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

// ---------------------------------------------------------------------------------------- writing

int os_writer_open(struct os_writer *out, const char *path, struct carat_error *err)
{
    struct os_writer w = {.fd = -1};
    size_t room = strlen(path) + 32;
    w.path = mem_strdup(path, err);
    w.path_now = w.path ? mem_new(room, err) : NULL;
    if (!w.path_now) {
        mem_free(w.path);
        return CARAT_E_MEMORY;
    }
    // A name that nobody else takes, nor this process for another file.
    for (int tries = 0; w.fd < 0 && tries < 10; tries++) {
        snprintf(w.path_now, room, "%s.%016llx" OS_WRITER_SUFFIX, path,
                 (unsigned long long)os_random_u64());
        w.fd = open(w.path_now, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);
        if (w.fd < 0 && errno != EEXIST) {
            break;
        }
    }
    if (w.fd < 0) {
        int rc = fail(err, CARAT_E_IO, "%s: cannot be created: %s", path, strerror(errno));
        mem_free(w.path);
        mem_free(w.path_now);
        return rc;
    }
    *out = w;
    return 0;
}

int os_writer_add(struct os_writer *w, const void *data, size_t size, struct carat_error *err)
{
    const char *bytes = data;
    for (size_t done = 0; done < size;) {
        ssize_t n = write(w->fd, bytes + done, size - done);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            return fail(err, CARAT_E_IO, "%s: cannot be written: %s", w->path, strerror(errno));
        }
    }
    return 0;
}

// The name is in the folder's own content. Systems that cannot tell folders to reach the disk do it
// by themselves, sooner or later.
static void sync_folder_of(const char *path)
{
    char *folder = mem_strdup(path, NULL);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash) {
        slash[slash == folder] = '\0';
    }
    int fd = folder ? open(slash ? folder : ".", O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    mem_free(folder);
}

int os_writer_finish(struct os_writer *w, bool is_durable, struct carat_error *err)
{
    int problem = is_durable && fsync(w->fd) ? errno : 0;
    // Some systems report a full disk only here.
    if (close(w->fd) && !problem && errno != EINTR) {
        problem = errno;
    }
    w->fd = -1;
    if (!problem && rename(w->path_now, w->path)) {
        problem = errno;
    }
    if (problem) {
        return fail(err, CARAT_E_IO, "%s: cannot be written: %s", w->path, strerror(problem));
    }
    if (is_durable) {
        sync_folder_of(w->path);
    }
    mem_free(w->path_now);
    w->path_now = NULL; // it is no longer there
    return 0;
}

void os_writer_close(struct os_writer *w)
{
    if (w->path && w->fd >= 0) {
        close(w->fd);
    }
    if (w->path_now) {
        unlink(w->path_now);
    }
    mem_free(w->path);
    mem_free(w->path_now);
    *w = (struct os_writer){.fd = -1};
}

// ---------------------------------------------------------------------------------------- reading

int os_reader_open(struct os_reader *out, const char *path, struct carat_error *err)
{
    // A pipe without a writer would block the open; an ordinary file does not mind the flag.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0) {
        return fail(err, CARAT_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    }
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        return fail(err, CARAT_E_IO, "%s: expected a file", path);
    }
    struct os_reader r = {.fd = fd, .size = (uint64_t)st.st_size, .path = mem_strdup(path, err)};
    if (!r.path) {
        close(fd);
        return CARAT_E_MEMORY;
    }
    *out = r;
    return 0;
}

int os_reader_open_memory(struct os_reader *out, const void *data, size_t size, const char *name,
                          struct carat_error *err)
{
    struct os_reader r = {.fd = -1, .data = data, .size = size, .path = mem_strdup(name, err)};
    if (!r.path) {
        return CARAT_E_MEMORY;
    }
    *out = r;
    return 0;
}

// As read(2).
static ssize_t read_part(struct os_reader *r, char *out, size_t size)
{
    if (r->fd >= 0) {
        return read(r->fd, out, size);
    }
    uint64_t left = r->size - r->at;
    size_t n = size < left ? size : (size_t)left;
    if (n > 0) {
        memcpy(out, r->data + r->at, n);
    }
    return (ssize_t)n;
}

int os_reader_next(struct os_reader *r, void *out, size_t size, struct carat_error *err)
{
    char *bytes = out;
    for (size_t done = 0; done < size;) {
        ssize_t n = read_part(r, bytes + done, size - done);
        if (n == 0) {
            return fail(err, CARAT_E_FORMAT, "%s: ends after %llu bytes, where more is expected",
                        r->path, (unsigned long long)r->at);
        }
        if (n > 0) {
            done += (size_t)n;
            r->at += (uint64_t)n;
        } else if (errno != EINTR) {
            return fail(err, CARAT_E_IO, "%s: cannot be read: %s", r->path, strerror(errno));
        }
    }
    return 0;
}

void os_reader_close(struct os_reader *r)
{
    if (r->path) {
        if (r->fd >= 0) {
            close(r->fd);
        }
        mem_free(r->path);
    }
    *r = (struct os_reader){0};
}

// ---------------------------------------------------------------------------------------- folders

bool os_file_info(struct os_file_info *out, const char *path)
{
    struct stat st;
    if (stat(path, &st)) {
        return false;
    }
#if defined(__APPLE__)
    struct timespec t = st.st_mtimespec;
#else
    struct timespec t = st.st_mtim;
#endif
    *out = (struct os_file_info){.size = (uint64_t)st.st_size,
                                 .used_at = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec,
                                 .is_directory = S_ISDIR(st.st_mode)};
    return true;
}

bool os_touch(const char *path)
{
    return utimensat(AT_FDCWD, path, NULL, 0) == 0;
}

bool os_remove(const char *path)
{
    return unlink(path) == 0;
}

bool os_cache_folder(struct buf *out)
{
#if defined(__APPLE__)
    static const char below_home[] = "/Library/Caches";
#else
    static const char below_home[] = "/.cache";
#endif
    const char *named = os_env("XDG_CACHE_HOME"); // which does not count unless it is a whole path
    const char *home = os_env("HOME");
    if (named && named[0] == '/') {
        buf_adds(out, named);
        return true;
    }
    if (!home || home[0] != '/') {
        return false;
    }
    buf_adds(out, home);
    buf_adds(out, below_home);
    return true;
}

int os_make_folder(const char *path, struct carat_error *err)
{
    char *part = mem_strdup(path, err);
    int rc = 0;
    if (!part) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 1; rc == 0 && part[0]; i++) {
        char end = part[i];
        if (end != '/' && end != '\0') {
            continue;
        }
        part[i] = '\0';
        if (!os_is_directory(part) && mkdir(part, 0700) && errno != EEXIST) {
            rc = fail(err, CARAT_E_IO, "%s: the folder cannot be made: %s", part, strerror(errno));
        }
        part[i] = end;
        if (end == '\0') {
            break;
        }
    }
    if (rc == 0 && !os_is_directory(path)) {
        rc = fail(err, CARAT_E_IO, "%s: expected a folder", path);
    }
    mem_free(part);
    return rc;
}
