// SPDX-License-Identifier: Apache-2.0
// A child process: this program again, given other words, at the other end of a socket. It may be
// made to do what is asked of it and little else; its parent waits for it with a deadline.
#ifndef CARAT_BASE_OS_CHILD_H
#define CARAT_BASE_OS_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "carat.h"

// Zeroed memory is none.
struct os_child {
    int pid; // 0: none
    int fd;  // our end
};
// Runs this program with these words behind its name (ends with NULL). The child has the socket as
// its standard input and output, our standard error, and of our environment what libraries and
// sanitizers look for: no secrets. Any thread may call it; returns before the child is ready.
int os_child_start(struct os_child *out, const char *const *words, struct carat_error *err);
// It runs, and has said nothing: as one should that waits for its first word.
bool os_child_is_quiet(const struct os_child *c);
// Ends it, whatever it does, and says how it had ended by itself, if it had: "ended with signal 11
// (segmentation fault)". Takes zeroed memory.
#define OS_CHILD_HOW 80
void os_child_end(struct os_child *c, char how[OS_CHILD_HOW]);

// How long it is waited for. go_on (may be NULL) is asked some times a second.
struct os_patience {
    double silence_seconds; // between two pieces of data; 0: for ever
    double deadline;        // os_seconds(); 0: none
    bool (*go_on)(void *user);
    void *user;
};
// All of size bytes: CARAT_E_IO when the other end is closed, CARAT_E_FULL when the time is over,
// CARAT_E_STOPPED when go_on said no. Broken connections raise no signal.
int os_child_send(const struct os_child *c, const void *data, size_t size,
                  const struct os_patience *p, struct carat_error *err);
int os_child_receive(const struct os_child *c, void *out, size_t size, const struct os_patience *p,
                     struct carat_error *err);

// In the child, first: leaves signals for the parent alone to its parent, ends with it, lets go of
// every file but the standard ones. *parent is then the other end. CARAT_E_ARGUMENT when standard
// input is no socket: somebody has called the program by hand.
int os_child_begin(struct os_child *parent, struct carat_error *err);
// From here on, as far as the system knows how: at most so much memory more than now, no files,
// sockets or programs opened, nothing written but to what is open, no core dump. Under sanitizers,
// which need all that themselves, only the last.
void os_child_confine(uint64_t memory_max);
// So much time of a core from now, then the system ends the process (SIGXCPU).
void os_child_allow_cpu(double seconds);
_Noreturn void os_child_leave(int code); // without the work that libraries do at the end

#endif
