// SPDX-License-Identifier: Apache-2.0
// The measured limits of the machine, and how near to them a speed is.
#ifndef CARAT_CLI_BENCH_LIMITS_H
#define CARAT_CLI_BENCH_LIMITS_H

#include "base/str.h"
#include "carat.h"

// The level that an engine uses; NULL when it has no vectors.
const struct carat_level_limits *limits_of_level(const struct carat_limits *limits,
                                                 const char *level);
// The seconds that the machine needs at least for this: reading or multiplying, whichever takes
// longer. *is_reading says which.
double limits_seconds(const struct carat_limits *limits, const char *level,
                      const struct carat_cost *cost, bool *is_reading);
void limits_write_table(const struct carat_limits *limits, struct buf *out);
void limits_write_json(const struct carat_limits *limits, struct buf *out);

#endif
