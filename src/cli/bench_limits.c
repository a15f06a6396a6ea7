// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_limits.h"

#include <string.h>

const struct carat_level_limits *limits_of_level(const struct carat_limits *limits,
                                                 const char *level)
{
    for (size_t i = 0; i < limits->n_levels; i++) {
        if (strcmp(limits->levels[i].name, level) == 0) {
            return &limits->levels[i];
        }
    }
    return NULL;
}

const char *const bound_names[] = {"memory", "multiply-adds", "fresh memory"};

double limits_seconds(const struct carat_limits *limits, const char *level,
                      const struct carat_cost *cost, enum bound *by)
{
    const struct carat_level_limits *l = limits_of_level(limits, level);
    double reading = limits->read_rate > 0 ? cost->bytes / limits->read_rate : 0;
    double multiplying =
        l ? cost->int8_products / l->int8_rate + cost->float_products / l->float_rate : 0;
    *by = reading >= multiplying ? BOUND_MEMORY : BOUND_PRODUCTS;
    return reading >= multiplying ? reading : multiplying;
}

double limits_load_seconds(const struct carat_limits *limits, uint64_t bytes, enum bound *by)
{
    double reading = limits->read_rate > 0 ? (double)bytes / limits->read_rate : 0;
    double taking = limits->fresh_rate > 0 ? (double)bytes / limits->fresh_rate : 0;
    *by = reading >= taking ? BOUND_MEMORY : BOUND_FRESH;
    return reading >= taking ? reading : taking;
}

void limits_write_table(const struct carat_limits *limits, struct buf *out)
{
    buf_addf(out, "Limits of this machine, %zu threads: memory is read at %.1f GB/s (%.1f by one)",
             limits->n_threads, limits->read_rate * 1e-9, limits->read_rate_one * 1e-9);
    if (limits->fresh_rate > 0) {
        buf_addf(out, ", handed out at %.2f", limits->fresh_rate * 1e-9);
    }
    buf_adds(out, "\n");
    for (size_t i = 0; i < limits->n_levels; i++) {
        const struct carat_level_limits *l = &limits->levels[i];
        buf_addf(out, "  %-12s %6.0f G multiply-adds/s in int8, %5.0f in float\n", l->name,
                 l->int8_rate * 1e-9, l->float_rate * 1e-9);
    }
    buf_adds(out, "\n");
}

void limits_write_json(const struct carat_limits *limits, struct buf *out)
{
    buf_addf(out, "\"limits\":{\"threads\":%zu,\"read_bytes_per_s\":%.0f,", limits->n_threads,
             limits->read_rate);
    buf_addf(out, "\"read_bytes_per_s_one_thread\":%.0f,\"fresh_bytes_per_s\":%.0f,\"levels\":[",
             limits->read_rate_one, limits->fresh_rate);
    for (size_t i = 0; i < limits->n_levels; i++) {
        const struct carat_level_limits *l = &limits->levels[i];
        buf_addf(out, "%s{\"name\":\"%s\",\"int8_per_s\":%.0f,\"float_per_s\":%.0f}", i ? "," : "",
                 l->name, l->int8_rate, l->float_rate);
    }
    buf_adds(out, "]}");
}
