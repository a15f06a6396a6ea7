// SPDX-License-Identifier: Apache-2.0
// Child processes, and what they may do. They are spawned, not forked: other threads may hold locks
// at that moment. The limits are the system's own (setrlimit) and, on Linux, a filter of system
// calls: seccomp(2), and the BPF machine it runs on in linux/filter.h.

// Limits on files, and questions about the system, are older than POSIX's list of names.
#if defined(__linux__) && !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE
#endif

#include "base/os_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__linux__)
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#elif defined(__APPLE__)
#include <crt_externs.h>
#endif

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

#define WORDS_MAX 8
#define LOOK_MS   200     // how often go_on is asked
#define FILES_MAX 65536   // that are closed one by one where there is no better way
#define CPU_MAX   1000000 // seconds

// ------------------------------------------------------------------------------------ the start

#if defined(__APPLE__)
static char **environment(void)
{
    return *_NSGetEnviron(); // libraries have no environ there
}
#else
extern char **environ;

static char **environment(void)
{
    return environ;
}
#endif

#if defined(__linux__)
// The file that runs, even when another one has its name by now.
static const char *program_path(struct buf *out)
{
    (void)out;
    return "/proc/self/exe";
}
#else
static const char *program_path(struct buf *out)
{
    os_program_path(out);
    return buf_text(out);
}
#endif

// What the loader, the libraries and sanitizers read.
static bool is_passed_on(const char *variable)
{
    static const char *const names[] = {"LD_",   "DYLD_",  "LIBHEIF_", "MALLOC_", "GLIBC_TUNABLES=",
                                        "ASAN_", "UBSAN_", "LSAN_",    "TSAN_",   "CARAT_CPU="};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strncmp(variable, names[i], strlen(names[i])) == 0) {
            return strncmp(variable, "MALLOC_ARENA_MAX=", 17) != 0;
        }
    }
    return false;
}

// One arena: each further one reserves 64 MiB of the addresses that are limited.
static char one_arena[] = "MALLOC_ARENA_MAX=1";

// The list is the caller's to free; the strings are not.
static char **make_environment(struct carat_error *err)
{
    char **all = environment();
    size_t n = 0;
    while (all && all[n]) {
        n++;
    }
    char **list = mem_new_array(n + 2, sizeof(*list), err);
    size_t kept = 0;
    for (size_t i = 0; i < n && list; i++) {
        if (is_passed_on(all[i])) {
            list[kept++] = all[i];
        }
    }
    if (list) {
        list[kept] = one_arena;
    }
    return list;
}

#if defined(__linux__)
static int new_pair(int fds[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
}
#else
static int new_pair(int fds[2])
{
    int failed = socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
    for (int i = 0; i < 2 && !failed; i++) {
        const int on = 1;
        fcntl(fds[i], F_SETFD, FD_CLOEXEC);
        setsockopt(fds[i], SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
    }
    return failed;
}
#endif

// A pair of sockets that no other child inherits and whose breaking raises no signal.
static int make_pair(int fds[2], struct carat_error *err)
{
    if (new_pair(fds)) {
        return fail(err, CARAT_E_MEMORY, "no socket for another process: %s", strerror(errno));
    }
    return 0;
}

static int spawn(int *pid, int fd, char *const *words, char *const *variables,
                 struct carat_error *err)
{
    struct buf path = {0};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, usual;
    pid_t child = 0;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int problem = posix_spawn(&child, program_path(&path), &actions, &attributes, words, variables);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    buf_release(&path);
    if (problem) {
        return fail(err, CARAT_E_MEMORY, "no other process can be started: %s", strerror(problem));
    }
    *pid = (int)child;
    return 0;
}

int os_child_start(struct os_child *out, const char *const *words, struct carat_error *err)
{
    static char name[] = "carat";
    char *list[WORDS_MAX + 2] = {name};
    int fds[2];
    int pid = 0;
    for (size_t i = 0; words[i]; i++) {
        require(i < WORDS_MAX);
        list[i + 1] = (char *)(uintptr_t)words[i]; // posix_spawn's own type has no const
    }
    char **variables = make_environment(err);
    int rc = variables ? make_pair(fds, err) : CARAT_E_MEMORY;
    if (!rc) {
        rc = spawn(&pid, fds[1], list, variables, err);
        close(fds[1]);
        if (rc) {
            close(fds[0]);
        } else {
            *out = (struct os_child){.pid = pid, .fd = fds[0]};
        }
    }
    mem_free(variables);
    return rc;
}

// ------------------------------------------------------------------------------------ the end

static const char *signal_name(int number)
{
    static const struct {
        int number;
        const char *name;
    } rows[] = {
        {SIGSEGV, "segmentation fault"},
        {SIGBUS, "bus error"},
        {SIGABRT, "aborted"},
        {SIGFPE, "arithmetic"},
        {SIGILL, "illegal instruction"},
        {SIGKILL, "killed"},
        {SIGXCPU, "time of the processor used up"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].number == number) {
            return rows[i].name;
        }
    }
    return "terminated";
}

static void describe(char how[OS_CHILD_HOW], int status)
{
    if (WIFSIGNALED(status)) {
        snprintf(how, OS_CHILD_HOW, "ended with signal %d (%s)", WTERMSIG(status),
                 signal_name(WTERMSIG(status)));
    } else {
        snprintf(how, OS_CHILD_HOW, "ended with exit code %d", WEXITSTATUS(status));
    }
}

void os_child_end(struct os_child *c, char how[OS_CHILD_HOW])
{
    int status = 0;
    if (c->pid == 0) {
        return;
    }
    close(c->fd);
    // One that is on its way out by itself keeps the reason that it has.
    kill(c->pid, SIGKILL);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (how) {
        describe(how, status);
    }
    *c = (struct os_child){0};
}

bool os_child_is_quiet(const struct os_child *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

// ------------------------------------------------------------------------------------ talking

#if defined(MSG_NOSIGNAL)
#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
#else
#define SEND_FLAGS MSG_DONTWAIT
#endif

static int fail_late(struct carat_error *err)
{
    return fail(err, CARAT_E_FULL, "another process takes longer than it may");
}

static bool is_over(const struct os_patience *p, double now)
{
    return p->deadline > 0 && now > p->deadline;
}

// Until something can be done with the socket, or waiting is over.
static int wait_for(const struct os_child *c, short events, const struct os_patience *p,
                    double last, struct carat_error *err)
{
    for (;;) {
        const double now = os_seconds();
        if (p->go_on && !p->go_on(p->user)) {
            return fail(err, CARAT_E_STOPPED, "waiting for another process was stopped");
        }
        if (is_over(p, now) || (p->silence_seconds > 0 && now > last + p->silence_seconds)) {
            return fail_late(err);
        }
        struct pollfd look = {.fd = c->fd, .events = events};
        const int n = poll(&look, 1, LOOK_MS);
        if (n > 0) {
            return 0;
        }
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return fail(err, CARAT_E_IO, "another process cannot be waited for: %s",
                        strerror(errno));
        }
    }
}

static bool is_later(int problem)
{
    return problem == EINTR || problem == EAGAIN || problem == EWOULDBLOCK || problem == ENOBUFS;
}

int os_child_send(const struct os_child *c, const void *data, size_t size,
                  const struct os_patience *p, struct carat_error *err)
{
    const char *bytes = data;
    double last = os_seconds();
    size_t done = 0;
    int rc = 0;
    while (done < size && !rc) {
        const ssize_t n = send(c->fd, bytes + done, size - done, SEND_FLAGS);
        if (n >= 0) {
            done += (size_t)n;
            last = os_seconds();
            rc = is_over(p, last) ? fail_late(err) : 0;
        } else if (is_later(errno)) {
            rc = wait_for(c, POLLOUT, p, last, err);
        } else {
            rc = fail(err, CARAT_E_IO, "the other process is gone: %s", strerror(errno));
        }
    }
    return rc;
}

int os_child_receive(const struct os_child *c, void *out, size_t size, const struct os_patience *p,
                     struct carat_error *err)
{
    char *bytes = out;
    double last = os_seconds();
    size_t done = 0;
    int rc = 0;
    while (done < size && !rc) {
        const ssize_t n = recv(c->fd, bytes + done, size - done, MSG_DONTWAIT);
        if (n > 0) {
            done += (size_t)n;
            last = os_seconds();
            rc = is_over(p, last) ? fail_late(err) : 0;
        } else if (n == 0) {
            rc = fail(err, CARAT_E_IO, "the other process is gone");
        } else if (is_later(errno)) {
            rc = wait_for(c, POLLIN, p, last, err);
        } else {
            rc = fail(err, CARAT_E_IO, "the other process is gone: %s", strerror(errno));
        }
    }
    return rc;
}

// ------------------------------------------------------------------------------------ the child

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define IS_SANITIZED true
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED false
#endif

static void ignore_signal(int number)
{
    struct sigaction action = {0};
    action.sa_handler = SIG_IGN;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

static void set_limit(int what, rlim_t value)
{
    struct rlimit limit;
    if (getrlimit(what, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max < value ? limit.rlim_max : value;
        limit.rlim_max = limit.rlim_cur;
        setrlimit(what, &limit);
    }
}

#if defined(__linux__) && defined(SYS_close_range)
static bool close_from(unsigned fd)
{
    return syscall(SYS_close_range, fd, ~0u, 0u) == 0;
}
#else
static bool close_from(unsigned fd)
{
    (void)fd;
    return false;
}
#endif

// Files that other libraries opened without saying that children are not to have them.
static void close_files(void)
{
    if (close_from(3)) {
        return;
    }
    struct rlimit limit;
    const bool is_known =
        getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)FILES_MAX;
    const int end = is_known ? (int)limit.rlim_cur : FILES_MAX;
    for (int fd = 3; fd < end; fd++) {
        close(fd);
    }
}

#if defined(__linux__)
static void become_child(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "carat"); // lists of processes would say "exe"
}
#else
static void become_child(void)
{
    // The socket breaks: the next word to the parent, or from it, is the end.
}
#endif

int os_child_begin(struct os_child *parent, struct carat_error *err)
{
    int type = 0;
    socklen_t size = sizeof(type);
    if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "this is what carat starts for itself: standard input is no socket");
    }
    // Ctrl-C reaches every process of the terminal, and a supervisor's SIGTERM every one of the
    // service; but answers may still need this one. SIGXFSZ: a message that finds no room is lost.
    static const int left_alone[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ};
    for (size_t i = 0; i < sizeof(left_alone) / sizeof(left_alone[0]); i++) {
        ignore_signal(left_alone[i]);
    }
    become_child();
    close_files();
    *parent = (struct os_child){.fd = STDIN_FILENO};
    return 0;
}

// Bytes of addresses in use; 0 when unknown.
static uint64_t address_space(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    const bool is_known = f && fscanf(f, "%llu", &pages) == 1;
    if (f) {
        fclose(f);
    }
    const long page = sysconf(_SC_PAGESIZE);
    return is_known && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

#if defined(__linux__) && defined(__x86_64__)
#define FILTER_MACHINE AUDIT_ARCH_X86_64
// What other machines have no more.
static const uint16_t forbidden_here[] = {
    SYS_open,    SYS_creat,  SYS_fork,   SYS_vfork,  SYS_link,   SYS_unlink,
    SYS_symlink, SYS_rename, SYS_mkdir,  SYS_rmdir,  SYS_chmod,  SYS_chown,
    SYS_mknod,   SYS_utime,  SYS_utimes, SYS_lchown, SYS_uselib,
};
#elif defined(__linux__) && defined(__aarch64__)
#define FILTER_MACHINE AUDIT_ARCH_AARCH64
static const uint16_t forbidden_here[] = {SYS_renameat};
#endif

#if defined(FILTER_MACHINE)
// What a decoder never does, and whoever took it over would: files, connections, programs, other
// processes, the system's less used corners. ioctl: a terminal takes words from it.
static const uint16_t forbidden[] = {
    SYS_openat,
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_socket,
    SYS_socketpair,
    SYS_connect,
    SYS_accept,
    SYS_accept4,
    SYS_bind,
    SYS_listen,
    SYS_linkat,
    SYS_unlinkat,
    SYS_symlinkat,
    SYS_renameat2,
    SYS_mkdirat,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchown,
    SYS_fchownat,
    SYS_mknodat,
    SYS_utimensat,
    SYS_truncate,
    SYS_ioctl,
    SYS_kill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kcmp,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_chroot,
    SYS_pivot_root,
    SYS_shmget,
    SYS_shmat,
    SYS_shmctl,
    SYS_semget,
    SYS_msgget,
    SYS_mq_open,
    SYS_memfd_create,
    SYS_io_setup,
    SYS_inotify_init1,
    SYS_fanotify_init,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_personality,
    SYS_setpgid,
    SYS_setsid,
    SYS_setpriority,
    SYS_sched_setaffinity,
    SYS_sched_setscheduler,
};
// Calls that came later have one number everywhere. Libraries do without them: clone3 for threads,
// openat2, io_uring, pidfd.
#define FIRST_UNKNOWN 424u

#define N_HERE       (sizeof(forbidden_here) / sizeof(forbidden_here[0]))
#define N_EVERYWHERE (sizeof(forbidden) / sizeof(forbidden[0]))
#define FILTER_MAX   (2 * (N_HERE + N_EVERYWHERE) + 32)
#define ALLOW        SECCOMP_RET_ALLOW
#define REFUSE       (SECCOMP_RET_ERRNO | EPERM)
#define UNKNOWN      (SECCOMP_RET_ERRNO | ENOSYS)
#define NEW_THREAD   0x10000u // CLONE_THREAD

struct filter {
    struct sock_filter steps[FILTER_MAX];
    unsigned short n;
};

// One step; jumps are numbers of steps to pass over.
static void add_step(struct filter *f, unsigned code, uint32_t k, unsigned if_true,
                     unsigned if_false)
{
    require(f->n < FILTER_MAX);
    f->steps[f->n++] = (struct sock_filter){
        .code = (uint16_t)code, .jt = (uint8_t)if_true, .jf = (uint8_t)if_false, .k = k};
}

static void add_load(struct filter *f, size_t offset)
{
    add_step(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void add_return(struct filter *f, uint32_t what)
{
    add_step(f, BPF_RET | BPF_K, what, 0, 0);
}

static void add_refusals(struct filter *f, const uint16_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        add_step(f, BPF_JMP | BPF_JEQ | BPF_K, numbers[i], 0, 1);
        add_return(f, REFUSE);
    }
}

// This call only where its first argument compares so with value (the low half: the machines here
// are little-endian); otherwise it is refused.
static void add_first_argument(struct filter *f, uint32_t number, unsigned comparison,
                               uint32_t value)
{
    add_step(f, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4);
    add_load(f, offsetof(struct seccomp_data, args[0]));
    add_step(f, BPF_JMP | comparison | BPF_K, value, 0, 1);
    add_return(f, ALLOW);
    add_return(f, REFUSE);
}

static void filter_calls(void)
{
    struct filter f = {.n = 0};
    add_load(&f, offsetof(struct seccomp_data, arch));
    add_step(&f, BPF_JMP | BPF_JEQ | BPF_K, FILTER_MACHINE, 1, 0);
    add_return(&f, REFUSE);
    add_load(&f, offsetof(struct seccomp_data, nr));
    add_step(&f, BPF_JMP | BPF_JGE | BPF_K, FIRST_UNKNOWN, 0, 1);
    add_return(&f, UNKNOWN);
    add_refusals(&f, forbidden, N_EVERYWHERE);
    add_refusals(&f, forbidden_here, N_HERE);
    add_first_argument(&f, SYS_clone, BPF_JSET, NEW_THREAD);
    add_first_argument(&f, SYS_tgkill, BPF_JEQ, (uint32_t)getpid()); // abort() is one to itself
    add_first_argument(&f, SYS_prlimit64, BPF_JEQ, 0);
    add_return(&f, ALLOW);
    const struct sock_fprog program = {.len = f.n, .filter = f.steps};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) {
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
    }
}
#else
static void filter_calls(void)
{
    // The limits alone: files, memory, time.
}
#endif

void os_child_confine(uint64_t memory_max)
{
    set_limit(RLIMIT_CORE, 0);
    if (IS_SANITIZED) {
        return;
    }
    const uint64_t now = address_space();
    if (now > 0 && memory_max < UINT64_MAX - now) {
        set_limit(RLIMIT_AS, (rlim_t)(now + memory_max));
    }
    set_limit(RLIMIT_FSIZE, 0);
    set_limit(RLIMIT_NOFILE, 3);
    filter_calls();
}

void os_child_allow_cpu(double seconds)
{
    struct rusage used;
    struct rlimit limit;
    if (getrusage(RUSAGE_SELF, &used) == 0 && getrlimit(RLIMIT_CPU, &limit) == 0) {
        const double max = seconds < CPU_MAX ? seconds : CPU_MAX;
        const rlim_t end = (rlim_t)used.ru_utime.tv_sec + (rlim_t)used.ru_stime.tv_sec +
                           (rlim_t)max + 2; // both were rounded down
        limit.rlim_cur = limit.rlim_max < end ? limit.rlim_max : end;
        setrlimit(RLIMIT_CPU, &limit);
    }
}

void os_child_leave(int code)
{
    _exit(code);
}
