// SPDX-License-Identifier: Apache-2.0
// The operating system: Linux and macOS. What POSIX gives is written once; the rest is a function
// per system.

// Mapping, core and memory questions are older than POSIX's list of names.
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif

#include "base/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#elif defined(__APPLE__)
#include <mach-o/dyld.h>
#include <mach/mach.h>
#include <sys/random.h>
#include <sys/sysctl.h>
#endif

#include "base/error.h"
#include "base/mem.h"

#define LARGE_PAGE ((size_t)2 << 20) // bytes; what x86 and most arm64 systems have

static size_t page_size(void)
{
    long size = sysconf(_SC_PAGESIZE);
    return size > 0 ? (size_t)size : 4096;
}

/* ------------------------------------------------------------------------------------ mapping */

// What a file is when it is not an ordinary one.
static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode)    ? "a directory"
           : S_ISFIFO(mode) ? "a pipe"
           : S_ISSOCK(mode) ? "a socket"
                            : "a device";
}

int os_map_open(struct os_map *out, const char *path, struct carat_error *err)
{
    // A pipe without a writer would block the open; an ordinary file does not mind the flag.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return fail(err, CARAT_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    }
    int rc;
    struct stat st;
    if (fstat(fd, &st)) {
        rc = fail(err, CARAT_E_IO, "%s: cannot be looked at: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = fail(err, CARAT_E_IO, "%s: expected a file, found %s", path, kind_of(st.st_mode));
        goto out;
    }
    struct os_map m = {0};
    if ((uintmax_t)st.st_size > PTRDIFF_MAX) {
        rc = fail(err, CARAT_E_UNSUPPORTED, "%s: too large for this machine's address space", path);
        goto out;
    }
    m.size = (size_t)st.st_size;
    if (m.size > 0) {
        void *data = mmap(NULL, m.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            rc = fail(err, CARAT_E_IO, "%s: cannot be mapped: %s", path, strerror(errno));
            goto out;
        }
        m.data = data;
    }
    *out = m;
    rc = 0;
out:
    close(fd);
    return rc;
}

// mmap's own type has no const; the pages are read-only all the same.
static void *pages_of(const uint8_t *data)
{
    return (void *)(uintptr_t)data;
}

void os_map_close(struct os_map *m)
{
    if (m && m->data) {
        munmap(pages_of(m->data), m->size);
    }
    if (m) {
        *m = (struct os_map){0};
    }
}

// Cuts a range to the file and widens it to whole pages. False when nothing is left.
static bool clip_to_pages(const struct os_map *m, size_t *offset, size_t *size)
{
    if (!m->data || *offset >= m->size || *size == 0) {
        return false;
    }
    size_t end = *size < m->size - *offset ? *offset + *size : m->size;
    *offset -= *offset % page_size();
    *size = end - *offset;
    return true;
}

void os_map_will_need(const struct os_map *m, size_t offset, size_t size)
{
    if (clip_to_pages(m, &offset, &size)) {
        posix_madvise(pages_of(m->data + offset), size, POSIX_MADV_WILLNEED);
    }
}

void os_map_drop(const struct os_map *m, size_t offset, size_t size)
{
    // Only whole pages: what stands beside the part may still be wanted.
    size_t begin = (offset + page_size() - 1) / page_size() * page_size();
    size_t end = size < m->size - offset ? (offset + size) / page_size() * page_size() : m->size;
    if (m->data && offset < m->size && begin < end) {
        madvise(pages_of(m->data + begin), end - begin, MADV_DONTNEED);
    }
}

static void *map_pages(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

// Large pages begin at multiples of their size: maps more and gives the rest back.
static void *map_large_pages(size_t size)
{
    if (size > SIZE_MAX - LARGE_PAGE) {
        return NULL;
    }
    uint8_t *pages = map_pages(size + LARGE_PAGE);
    if (!pages) {
        return NULL;
    }
    const size_t whole = (size + page_size() - 1) / page_size() * page_size();
    const size_t before = LARGE_PAGE - (uintptr_t)pages % LARGE_PAGE;
    munmap(pages, before);
    if (before + whole < size + LARGE_PAGE) {
        munmap(pages + before + whole, size + LARGE_PAGE - before - whole);
    }
#ifdef MADV_HUGEPAGE
    madvise(pages + before, whole, MADV_HUGEPAGE);
#endif
    return pages + before;
}

void *os_pages_new(size_t size, bool will_be_filled)
{
    return will_be_filled && size >= LARGE_PAGE ? map_large_pages(size) : map_pages(size);
}

void os_pages_free(void *pages, size_t size)
{
    munmap(pages, size);
}

/* -------------------------------------------------------------------------------------- files */

bool os_is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool os_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool os_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

#if defined(__APPLE__)
static uint64_t write_nanoseconds(const struct stat *st)
{
    return (uint64_t)st->st_mtimespec.tv_nsec;
}
#else
static uint64_t write_nanoseconds(const struct stat *st)
{
    return (uint64_t)st->st_mtim.tv_nsec;
}
#endif

uint64_t os_file_stamp(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return 0;
    }
    uint64_t stamp = (uint64_t)st.st_mtime * 1000000000u + write_nanoseconds(&st);
    stamp = stamp * 31 + (uint64_t)st.st_size;
    stamp = stamp * 31 + (uint64_t)st.st_ino;
    return stamp ? stamp : 1;
}

static int compare_names(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;
    return strcmp(*x, *y);
}

struct name_list {
    char **names;
    size_t count;
    size_t capacity;
};

static int add_name(struct name_list *list, const char *name, struct carat_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 16;
        char **names = mem_resize(list->names, capacity * sizeof(*names), err);
        if (!names) {
            return CARAT_E_MEMORY;
        }
        list->names = names;
        list->capacity = capacity;
    }
    list->names[list->count] = mem_strdup(name, err);
    if (!list->names[list->count]) {
        return CARAT_E_MEMORY;
    }
    list->count++;
    return 0;
}

static int read_names(struct name_list *list, DIR *dir, const char *path, size_t count_max,
                      struct carat_error *err)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno) {
            return fail(err, CARAT_E_IO, "%s: cannot be listed: %s", path, strerror(errno));
        }
        if (!entry) {
            return 0;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (list->count == count_max) {
            return fail(err, CARAT_E_FULL, "%s: expected at most %zu entries, found more", path,
                        count_max);
        }
        int rc = add_name(list, entry->d_name, err);
        if (rc) {
            return rc;
        }
    }
}

int os_list(char ***names, size_t *count, const char *path, size_t count_max,
            struct carat_error *err)
{
    DIR *dir = opendir(path);
    if (!dir) {
        return fail(err, CARAT_E_IO, "%s: cannot be listed: %s", path, strerror(errno));
    }
    struct name_list list = {0};
    int rc = read_names(&list, dir, path, count_max, err);
    closedir(dir);
    if (rc) {
        os_list_free(list.names, list.count);
        return rc;
    }
    if (list.count > 0) {
        qsort(list.names, list.count, sizeof(*list.names), compare_names);
    }
    *names = list.names;
    *count = list.count;
    return 0;
}

void os_list_free(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mem_free(names[i]);
    }
    mem_free(names);
}

static int read_all(struct buf *out, int fd, const char *name, size_t max, struct carat_error *err)
{
    char piece[16384];
    for (;;) {
        ssize_t n = read(fd, piece, sizeof(piece));
        if (n < 0 && errno == EINTR && !os_interrupted()) {
            continue;
        }
        if (n < 0 && errno == EINTR) {
            return fail(err, CARAT_E_STOPPED, "%s: reading was interrupted", name);
        }
        if (n < 0) {
            return fail(err, CARAT_E_IO, "%s: cannot be read: %s", name, strerror(errno));
        }
        if (n == 0) {
            return 0;
        }
        if ((size_t)n > max - out->size) {
            return fail(err, CARAT_E_FULL, "%s: expected at most %zu bytes, found more", name, max);
        }
        buf_add(out, piece, (size_t)n);
        if (out->has_failed) {
            return buf_status(out, err);
        }
    }
}

int os_read_file(struct buf *out, const char *path, size_t max, struct carat_error *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    const char *name = is_stdin ? "standard input" : path;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return fail(err, CARAT_E_IO, "%s: cannot be opened: %s", name, strerror(errno));
    }
    struct buf read = {.max = max > 0 ? max : 1};
    int rc;
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        rc = fail(err, CARAT_E_IO, "%s: expected a file, found a directory", name);
        goto out;
    }
    rc = read_all(&read, fd, name, max, err);
    if (rc) {
        goto out;
    }
    buf_clear(out);
    buf_add(out, read.data, read.size);
    rc = buf_status(out, err);
out:
    buf_release(&read);
    if (!is_stdin) {
        close(fd);
    }
    return rc;
}

int os_read_some(void *out, size_t size, size_t *n, struct carat_error *err)
{
    ssize_t got = read(STDIN_FILENO, out, size < SSIZE_MAX ? size : SSIZE_MAX);
    if (got < 0 && errno == EINTR) {
        return fail(err, CARAT_E_STOPPED, "standard input: reading was interrupted");
    }
    if (got < 0) {
        return fail(err, CARAT_E_IO, "standard input: cannot be read: %s", strerror(errno));
    }
    *n = (size_t)got;
    return 0;
}

bool os_full_path(struct buf *out, const char *path)
{
    char full[PATH_MAX];
    if (!realpath(path, full)) {
        return false;
    }
    buf_adds(out, full);
    return !out->has_failed;
}

int os_write_file(const char *path, const void *data, size_t size, struct carat_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
    if (fd < 0) {
        return fail(err, CARAT_E_IO, "%s: cannot be created: %s", path, strerror(errno));
    }
    const char *bytes = data;
    size_t done = 0;
    int problem = 0;
    while (done < size && !problem) {
        ssize_t n = write(fd, bytes + done, size - done);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            problem = errno;
        }
    }
    // Some systems report a full disk only here.
    if (close(fd) && !problem && errno != EINTR) {
        problem = errno;
    }
    if (problem) {
        return fail(err, CARAT_E_IO, "%s: cannot be written: %s", path, strerror(problem));
    }
    return 0;
}

#if defined(__APPLE__)
void os_program_path(struct buf *out)
{
    char path[4096];
    char real[PATH_MAX];
    uint32_t size = sizeof(path);
    buf_clear(out);
    if (_NSGetExecutablePath(path, &size) == 0 && realpath(path, real)) {
        buf_adds(out, real);
    } else {
        buf_adds(out, "");
    }
}
#else
void os_program_path(struct buf *out)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
    buf_clear(out);
    // A path that fills the array may have been cut.
    buf_add(out, path, n > 0 && (size_t)n < sizeof(path) ? (size_t)n : 0);
}
#endif

const char *os_env(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

/* ----------------------------------------------------------------------- time, chance, machine */

double os_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t os_unix_time(void)
{
    return (int64_t)time(NULL);
}

size_t os_raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 256; // what every system gives
    }
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            limit = raised;
        }
    }
    return limit.rlim_cur > 1000000000 ? 1000000000 : (size_t)limit.rlim_cur;
}

uint64_t os_random_u64(void)
{
    uint64_t value;
    if (getentropy(&value, sizeof(value)) == 0) {
        return value;
    }
    // Without a source of chance: what differs between runs, spread over all bits (the finalizer
    // of splitmix64).
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    value = (uint64_t)t.tv_nsec ^ (uint64_t)t.tv_sec << 30 ^ (uint64_t)getpid() << 48;
    value = (value ^ value >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ value >> 27) * UINT64_C(0x94D049BB133111EB);
    return value ^ value >> 31;
}

static size_t cores_online(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (size_t)n : 1;
}

bool os_cpu_list_has(const char *list, size_t cpu)
{
    const char *at = list;
    for (;;) {
        char *end;
        unsigned long first = strtoul(at, &end, 10);
        unsigned long last = first;
        if (end == at) {
            return false;
        }
        if (*end == '-') {
            last = strtoul(end + 1, &end, 10);
        }
        if (cpu >= first && cpu <= last) {
            return true;
        }
        if (*end != ',') {
            return false;
        }
        at = end + 1;
    }
}

bool os_may_use_tiles(void)
{
#if defined(__linux__) && defined(__x86_64__)
    // ARCH_REQ_XCOMP_PERM for XTILEDATA, as numbers because older headers lack the names. What the
    // process may do its threads may, too.
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}

#if defined(__linux__)
// A small file of the kernel's, terminated; false when it is not there.
static bool read_small(char *out, size_t capacity, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    size_t size = 0;
    ssize_t n;
    while (size + 1 < capacity && (n = read(fd, out + size, capacity - 1 - size)) > 0) {
        size += (size_t)n;
    }
    close(fd);
    out[size] = '\0';
    return size > 0;
}

// The number after a name at the beginning of a line, in units; 0 when it is not there.
static uint64_t number_after(const char *path, const char *name, uint64_t unit)
{
    char text[8192];
    if (!read_small(text, sizeof(text), path)) {
        return 0;
    }
    const char *at = text;
    while (at && strncmp(at, name, strlen(name)) != 0) {
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    return at ? (uint64_t)strtoull(at + strlen(name), NULL, 10) * unit : 0;
}

// A container's share of the processors, rounded up; SIZE_MAX when there is no limit.
static size_t cores_quota(void)
{
    char text[128];
    char *end;
    if (!read_small(text, sizeof(text), "/sys/fs/cgroup/cpu.max")) {
        return SIZE_MAX;
    }
    unsigned long long quota = strtoull(text, &end, 10);
    unsigned long long period = strtoull(end, NULL, 10);
    if (end == text || quota == 0 || period == 0) {
        return SIZE_MAX;
    }
    return (size_t)((quota + period - 1) / period);
}

// Whether a lower processor of the set is another hardware thread of the same core.
static bool is_second_thread(size_t cpu, const cpu_set_t *set)
{
    char path[80];
    char list[256];
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list",
             cpu);
    if (!read_small(list, sizeof(list), path)) {
        return false;
    }
    for (size_t i = 0; i < cpu; i++) {
        if (CPU_ISSET(i, set) && os_cpu_list_has(list, i)) {
            return true;
        }
    }
    return false;
}

static size_t count_processors(bool only_first)
{
    cpu_set_t set;
    size_t n = 0;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        for (size_t i = 0; i < CPU_SETSIZE; i++) {
            n += CPU_ISSET(i, &set) && !(only_first && is_second_thread(i, &set));
        }
    }
    n = n > 0 ? n : cores_online();
    size_t quota = cores_quota();
    return quota < n ? quota : n;
}

size_t os_cores(void)
{
    return count_processors(true);
}

size_t os_processors(void)
{
    return count_processors(false);
}

uint64_t os_memory_total(void)
{
    uint64_t total = number_after("/proc/meminfo", "MemTotal:", 1024);
    uint64_t limit = number_after("/sys/fs/cgroup/memory.max", "", 1);
    return limit > 0 && limit < total ? limit : total;
}

uint64_t os_memory_available(void)
{
    uint64_t available = number_after("/proc/meminfo", "MemAvailable:", 1024);
    uint64_t limit = number_after("/sys/fs/cgroup/memory.max", "", 1);
    if (limit > 0) {
        // Cached file pages count as used but are given back on demand.
        uint64_t used = number_after("/sys/fs/cgroup/memory.stat", "anon ", 1);
        uint64_t left = used < limit ? limit - used : 0;
        return left < available ? left : available;
    }
    return available;
}

uint64_t os_memory_unused(void)
{
    uint64_t unused = number_after("/proc/meminfo", "MemFree:", 1024);
    uint64_t available = os_memory_available();
    return unused < available ? unused : available;
}

uint64_t os_memory_private(void)
{
    return number_after("/proc/self/status", "RssAnon:", 1024);
}
#elif defined(__APPLE__)
static uint64_t sysctl_number(const char *name)
{
    uint64_t value = 0;
    size_t size = sizeof(value);
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 ? value : 0;
}

size_t os_cores(void)
{
    uint64_t n = sysctl_number("hw.physicalcpu");
    return n > 0 ? (size_t)n : cores_online();
}

size_t os_processors(void)
{
    return cores_online();
}

uint64_t os_memory_total(void)
{
    return sysctl_number("hw.memsize");
}

static bool memory_counts(vm_statistics64_data_t *out)
{
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    return host_statistics64(mach_host_self(), HOST_VM_INFO64, (host_info64_t)out, &count) == 0;
}

uint64_t os_memory_available(void)
{
    vm_statistics64_data_t stats;
    if (!memory_counts(&stats)) {
        return 0;
    }
    uint64_t pages = (uint64_t)stats.free_count + stats.inactive_count + stats.purgeable_count;
    return pages * page_size();
}

uint64_t os_memory_unused(void)
{
    vm_statistics64_data_t stats;
    return memory_counts(&stats) ? (uint64_t)stats.free_count * page_size() : 0;
}

uint64_t os_memory_private(void)
{
    task_vm_info_data_t info;
    mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
    if (task_info(mach_task_self(), TASK_VM_INFO, (task_info_t)&info, &count)) {
        return 0;
    }
    return info.internal;
}
#else
size_t os_cores(void)
{
    return cores_online();
}

size_t os_processors(void)
{
    return cores_online();
}

uint64_t os_memory_total(void)
{
    return 0;
}

uint64_t os_memory_available(void)
{
    return 0;
}

uint64_t os_memory_unused(void)
{
    return 0;
}

uint64_t os_memory_private(void)
{
    return 0;
}
#endif

#if defined(__APPLE__)
#define RSS_UNIT 1
#else
#define RSS_UNIT 1024
#endif

uint64_t os_memory_resident_peak(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) || usage.ru_maxrss < 0) {
        return 0;
    }
    return (uint64_t)usage.ru_maxrss * RSS_UNIT;
}

/* -------------------------------------------------------------------------- interrupt, terminal */

// A signal handler can tell the rest of the program only through such a variable.
static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    if (interrupted) {
        _exit(130);
    }
    interrupted = 1;
}

void os_catch_interrupt(void)
{
    // Without SA_RESTART: a read that waits for the user returns.
    struct sigaction action = {0};
    action.sa_handler = on_interrupt;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool os_interrupted(void)
{
    return interrupted != 0;
}

void os_clear_interrupt(void)
{
    interrupted = 0;
}

// A pipe, because a handler may do little more than write to one.
static int signal_pipe[2] = {-1, -1};

static void on_signal(int number)
{
    char what = number == SIGHUP ? OS_SIGNAL_RELOAD : OS_SIGNAL_STOP;
    if (what == OS_SIGNAL_STOP) {
        if (interrupted) {
            _exit(130);
        }
        interrupted = 1;
    }
    int kept = errno;
    ssize_t n = write(signal_pipe[1], &what, 1);
    (void)n; // the pipe is full only when more is waiting than anybody will ask for
    errno = kept;
}

int os_catch_signals(bool catches_reload, struct carat_error *err)
{
    if (signal_pipe[0] < 0 && pipe(signal_pipe) != 0) {
        return fail(err, CARAT_E_IO, "no pipe for signals: %s", strerror(errno));
    }
    for (int i = 0; i < 2; i++) {
        fcntl(signal_pipe[i], F_SETFD, FD_CLOEXEC);
        fcntl(signal_pipe[i], F_SETFL, O_NONBLOCK);
    }
    struct sigaction action = {0};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (catches_reload) {
        sigaction(SIGHUP, &action, NULL);
    }
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    return 0;
}

enum os_signal os_wait_signal(int milliseconds)
{
    char what = OS_SIGNAL_NONE;
    struct pollfd p = {.fd = signal_pipe[0], .events = POLLIN};
    if (poll(&p, 1, milliseconds) > 0 || interrupted) {
        if (read(signal_pipe[0], &what, 1) != 1) {
            what = OS_SIGNAL_NONE;
        }
    }
    return (enum os_signal)what;
}

void os_suspend(void)
{
    raise(SIGTSTP);
}

void os_write_error(const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(2, data, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        data += n;
        size -= (size_t)n;
    }
}

bool os_is_terminal(int fd)
{
    return isatty(fd) == 1;
}

bool os_wait_readable(int fd, int milliseconds)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, milliseconds) != 0;
}

size_t os_terminal_columns(int fd)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return 80;
}
