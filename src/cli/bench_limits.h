// SPDX-License-Identifier: Apache-2.0
// The measured limits of the machine, and how near to them a speed is.
#ifndef CARAT_CLI_BENCH_LIMITS_H
#define CARAT_CLI_BENCH_LIMITS_H

#include "base/str.h"
#include "carat.h"

// The level that an engine uses; NULL when it has no vectors.
const struct carat_level_limits *limits_of_level(const struct carat_limits *limits,
                                                 const char *level);
// What binds.
enum bound { BOUND_MEMORY, BOUND_PRODUCTS, BOUND_FRESH };
extern const char *const bound_names[];
// The seconds that the machine needs at least for this: reading or multiplying, whichever takes
// longer. *by says which.
double limits_seconds(const struct carat_limits *limits, const char *level,
                      const struct carat_cost *cost, enum bound *by);
// The same for putting that many bytes of a file, which is in memory, into memory of this process:
// reading them or being handed out as much.
double limits_load_seconds(const struct carat_limits *limits, uint64_t bytes, enum bound *by);
void limits_write_table(const struct carat_limits *limits, struct buf *out);
void limits_write_json(const struct carat_limits *limits, struct buf *out);

#endif
