// SPDX-License-Identifier: Apache-2.0
// What the machine can do at most, measured: what speeds are compared with.
#ifndef CARAT_COMPUTE_LIMITS_H
#define CARAT_COMPUTE_LIMITS_H

#include "carat.h"

// Reading of memory by one and by all threads, taking of fresh memory, and multiply-adds of all
// threads at each level of kernels that the CPU has.
int limits_measure(struct carat_limits *out, size_t n_threads, struct carat_error *err);

#endif
