// SPDX-License-Identifier: Apache-2.0
// Threads that run n tasks and wait. Waiting spins for a short while, because tasks of a decode
// step are microseconds apart, and then sleeps.
#ifndef CARAT_BASE_POOL_H
#define CARAT_BASE_POOL_H

#include <stddef.h>

#include "carat.h"

struct pool;

// n_threads counts the caller: 1 starts no thread. 0 takes the number of usable cores.
int pool_new(struct pool **out, size_t n_threads, struct carat_error *err);
void pool_free(struct pool *p); // takes NULL
size_t pool_threads(const struct pool *p);

// Calls run(context, task, thread) for every task in [0, n_tasks), each exactly once, on some
// thread in [0, pool_threads); the caller is thread 0 and takes part. Returns when all are done.
// Neighbouring tasks are mostly run by one thread in order, but a thread that is out of tasks takes
// from the others: a result must not depend on which thread ran what. Fewer than 2^32 tasks. Not
// reentrant; one caller at a time. p may be NULL: everything runs on the caller.
typedef void (*pool_task)(void *context, size_t task, size_t thread);
void pool_run(struct pool *p, size_t n_tasks, pool_task run, void *context);

#endif
