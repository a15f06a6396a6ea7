// SPDX-License-Identifier: Apache-2.0
// The parts of the generic kernels that have files of their own: unpacking weights, and attention.
#ifndef CARAT_COMPUTE_CPU_KERN_GENERIC_H
#define CARAT_COMPUTE_CPU_KERN_GENERIC_H

#include "compute/cpu/kern.h"

void kern_init_generic_strips(struct kern *k);
void kern_init_generic_attend(struct kern *k);
// kern.softmax, for its twin over a strip.
float kern_generic_softmax(float *s, size_t n, struct kern_softmax *state);

#endif
