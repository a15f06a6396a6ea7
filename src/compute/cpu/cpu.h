// SPDX-License-Identifier: Apache-2.0
// The CPU device's own struct and how its files share the work: cpu_device.c owns it and does what
// goes element by element, cpu_weight.c packs matrices, cpu_linear.c has the products, cpu_kv.c the
// kv cache, cpu_attend.c attention over it.
#ifndef CARAT_COMPUTE_CPU_CPU_H
#define CARAT_COMPUTE_CPU_CPU_H

#include "base/pool.h"
#include "compute/cpu/kern.h"
#include "compute/device_ops.h"

enum {
    LINEAR_STRIPS = 4,      // strips unpacked together, and the most in one task
    LINEAR_CHUNK_Q8 = 2048, // columns unpacked at once, for many rows of x
    LINEAR_CHUNK_F32 = 512,
    LINEAR_CHUNK_FEW = 256, // for few rows: stays in the first-level cache
    ATTEND_ROWS = 64,       // query rows (tokens x heads) that a task takes, if heads allow
    ATTEND_SEGMENT = 512,   // keys accumulated apart, aligned to absolute positions
};

struct cpu_device {
    struct device base;
    struct kern kern;
    struct pool *pool;
    bool uses_int8;
    struct device_limits limits; // what scratch was reserved for
    uint8_t *panels;             // activations as int8
    float *partials;             // segments of one token's attention
    uint8_t **threads;           // scratch of each thread
};

// Sizes of the three kinds of scratch; false when they overflow.
struct cpu_scratch {
    size_t panels;
    size_t partials;
    size_t thread;
};
bool cpu_scratch_plan(struct cpu_scratch *out, const struct device_limits *limits);
size_t cpu_linear_thread_size(void);
bool cpu_linear_panels_size(size_t *out, const struct device_limits *limits);
bool cpu_attend_thread_size(size_t *out, const struct device_limits *limits);
bool cpu_attend_partials_size(size_t *out, const struct device_limits *limits);

int cpu_new_weight(struct device *base, struct weight *w, struct carat_error *err);
void cpu_fill_weight(struct device *base, const struct weight *w, size_t first, size_t n);
void cpu_free_weight(struct device *base, struct weight *w);
void cpu_linear(struct device *base, const struct tensor *outs, struct tensor x,
                const struct weight *const *weights, size_t n);
// The row of a position of one head, in keys and recent_keys or in the values. first is where the
// chunk begins: a ring keeps newer rows apart.
uint8_t *cpu_kv_row(const struct kv_view *kv, uint8_t *base, uint8_t *recent, size_t head,
                    size_t position, size_t first);
void cpu_kv_store(struct device *base, const struct kv_view *kv, struct tensor k, struct tensor v,
                  size_t first);
void cpu_kv_commit(struct device *base, const struct kv_view *kv, size_t first, size_t n);
void cpu_attend(struct device *base, struct tensor out, struct tensor q, const struct kv_view *kv,
                size_t n_query_heads, size_t first, const size_t *ends);

// Fills the table for this CPU, or for the lower level that the environment variable CARAT_CPU
// names.
int cpu_kern_init(struct kern *k, struct carat_error *err);
// The level with this name alone, for tests: false when this CPU or build does not have it.
bool cpu_kern_init_level(struct kern *k, const char *level);
// Names of the levels in this build, lowest first; NULL past the last.
const char *cpu_level_name(size_t i);
// For tests: one more level, behind the others and usable by its name.
void cpu_add_level(const char *name, void (*init)(struct kern *k));

#endif
