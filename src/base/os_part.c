// SPDX-License-Identifier: Apache-2.0
// Files written in any order, locks, links and room on the disk, by POSIX's calls.
#include "base/os_part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

// ------------------------------------------------------------------------------------ any order

int os_part_open(struct os_part *out, const char *path, struct carat_error *err)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    if (fd < 0) {
        return fail(err, errno == ENOSPC ? CARAT_E_FULL : CARAT_E_IO, "%s: cannot be opened: %s",
                    path, strerror(errno));
    }
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        return fail(err, CARAT_E_IO, "%s: expected a file", path);
    }
    struct os_part p = {.fd = fd, .path = mem_strdup(path, err)};
    if (!p.path) {
        close(fd);
        return CARAT_E_MEMORY;
    }
    *out = p;
    return 0;
}

static int fail_write(const struct os_part *p, struct carat_error *err)
{
    bool is_full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
    return fail(err, is_full ? CARAT_E_FULL : CARAT_E_IO, "%s: cannot be written: %s", p->path,
                strerror(errno));
}

int os_part_resize(struct os_part *p, uint64_t size, struct carat_error *err)
{
    if (size > INT64_MAX) {
        errno = EFBIG;
        return fail_write(p, err);
    }
    return ftruncate(p->fd, (off_t)size) ? fail_write(p, err) : 0;
}

int os_part_write(struct os_part *p, uint64_t at, const void *data, size_t size,
                  struct carat_error *err)
{
    const char *bytes = data;
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(p->fd, bytes + done, size - done, (off_t)(at + done));
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            return fail_write(p, err);
        }
    }
    return 0;
}

int os_part_read(struct os_part *p, uint64_t at, void *out, size_t size, size_t *n,
                 struct carat_error *err)
{
    char *bytes = out;
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(p->fd, bytes + done, size - done, (off_t)(at + done));
        if (got == 0) {
            break;
        }
        if (got > 0) {
            done += (size_t)got;
        } else if (errno != EINTR) {
            return fail(err, CARAT_E_IO, "%s: cannot be read: %s", p->path, strerror(errno));
        }
    }
    *n = done;
    return 0;
}

int os_part_sync(struct os_part *p, struct carat_error *err)
{
    // Some systems report a full disk only here.
    return fsync(p->fd) ? fail_write(p, err) : 0;
}

void os_part_close(struct os_part *p)
{
    if (p->path) {
        close(p->fd);
        mem_free(p->path);
    }
    *p = (struct os_part){0};
}

// ---------------------------------------------------------------------------------------- locks

// A lock that its last owner removed may have been opened just before: then it guards nothing.
static bool is_still_named(int fd, const char *path)
{
    struct stat ours, named;
    return fstat(fd, &ours) == 0 && stat(path, &named) == 0 && ours.st_dev == named.st_dev &&
           ours.st_ino == named.st_ino;
}

int os_lock_try(struct os_lock *out, const char *path, bool is_shared, struct carat_error *err)
{
    struct os_lock lock = {.path = mem_strdup(path, err)};
    int rc = lock.path ? 0 : CARAT_E_MEMORY;
    for (bool is_ours = false; rc == 0 && !is_ours;) {
        struct flock how = {.l_type = is_shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
        lock.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
        if (lock.fd < 0) {
            rc = fail(err, errno == ENOSPC ? CARAT_E_FULL : CARAT_E_IO, "%s: cannot be created: %s",
                      path, strerror(errno));
            break;
        }
        if (fcntl(lock.fd, F_SETLK, &how)) {
            rc = errno == EACCES || errno == EAGAIN
                     ? 1
                     : fail(err, CARAT_E_IO, "%s: cannot be locked: %s", path, strerror(errno));
            close(lock.fd);
            break;
        }
        is_ours = is_still_named(lock.fd, path);
        if (!is_ours) {
            close(lock.fd);
        }
    }
    if (rc) {
        mem_free(lock.path);
        return rc;
    }
    *out = lock;
    return 0;
}

void os_lock_release(struct os_lock *lock, bool removes_file)
{
    if (lock->path) {
        if (removes_file) {
            unlink(lock->path); // while it is still ours
        }
        close(lock->fd);
        mem_free(lock->path);
    }
    *lock = (struct os_lock){0};
}

// ---------------------------------------------------------------------------------------- names

// The name is in the folder's own content; see os_writer_finish.
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

int os_rename(const char *from, const char *to, struct carat_error *err)
{
    if (rename(from, to)) {
        return fail(err, CARAT_E_IO, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
    }
    sync_folder_of(to);
    return 0;
}

int os_share(const char *path, struct carat_error *err)
{
    // There is no way to ask for the mask but to set it.
    mode_t mask = umask(077);
    umask(mask);
    struct stat st;
    if (stat(path, &st) || chmod(path, (S_ISDIR(st.st_mode) ? 0777 : 0666) & ~mask)) {
        return fail(err, CARAT_E_IO, "%s: cannot be made readable for others: %s", path,
                    strerror(errno));
    }
    return 0;
}

int os_link(const char *path, const char *target, struct carat_error *err)
{
    return symlink(target, path)
               ? fail(err, CARAT_E_IO, "%s: the link cannot be made: %s", path, strerror(errno))
               : 0;
}

bool os_remove_folder(const char *path)
{
    return rmdir(path) == 0;
}

uint64_t os_disk_free(const char *path)
{
    struct statvfs st;
    if (statvfs(path, &st)) {
        return UINT64_MAX;
    }
    uint64_t blocks = st.f_bavail, size = st.f_frsize;
    return size && blocks > UINT64_MAX / size ? UINT64_MAX : blocks * size;
}

void os_pause(int milliseconds)
{
    struct timespec t = {.tv_sec = milliseconds / 1000,
                         .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    nanosleep(&t, NULL);
}

uint64_t os_disk_used(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0
                           : (uint64_t)st.st_blocks * 512; // POSIX leaves the unit open; all agree
}
