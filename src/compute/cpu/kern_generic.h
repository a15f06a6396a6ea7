// SPDX-License-Identifier: Apache-2.0
// The half of the generic kernels that unpacks weights.
#ifndef CARAT_COMPUTE_CPU_KERN_GENERIC_H
#define CARAT_COMPUTE_CPU_KERN_GENERIC_H

#include "compute/cpu/kern.h"

void kern_init_generic_strips(struct kern *k);

#endif
