// SPDX-License-Identifier: Apache-2.0
// What several conversations that are computed together will take.
#ifndef CARAT_CLI_SLOTS_H
#define CARAT_CLI_SLOTS_H

#include <stdint.h>

#include "carat.h"

// The weights once, the rest for each of n conversations.
int slots_plan_memory(struct carat_memory *need, struct carat_engine *engine,
                      const struct carat_session_options *options, uint64_t n,
                      struct carat_error *err);
// Says so when that is more than the machine has.
void slots_warn(const struct carat_memory *need);

#endif
