// SPDX-License-Identifier: Apache-2.0
// The kv cache's rows: where they stand, and how a chunk's new ones enter.
#include <string.h>

#include "base/error.h"
#include "compute/cpu/cpu.h"

uint8_t *cpu_kv_row(const struct kv_view *kv, uint8_t *base, uint8_t *recent, size_t head,
                    size_t position, size_t first)
{
    if (kv->window > 0 && position >= first) {
        return recent + (head * kv->recent_capacity + (position - first)) * kv->row_size;
    }
    return base + (head * kv->capacity + position % kv->capacity) * kv->row_size;
}

static void store_row(const struct kv_view *kv, uint8_t *row, const float *values)
{
    if (kv->type == DTYPE_F32) {
        memcpy(row, values, kv->head_dim * sizeof(float));
    } else {
        dtypes[kv->type].pack(row, values, NULL, kv->head_dim);
    }
}

struct store_job {
    const struct kv_view *kv;
    struct tensor k;
    struct tensor v;
    size_t first;
};

static void store_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct store_job *job = context;
    const struct kv_view *kv = job->kv;
    const size_t i = task / kv->n_heads;
    const size_t head = task % kv->n_heads;
    const size_t at = head * kv->head_dim;
    const size_t position = job->first + i;
    store_row(kv, cpu_kv_row(kv, kv->values, kv->recent_values, head, position, job->first),
              job->v.data + i * job->v.stride + at);
    if (kv->keys) {
        store_row(kv, cpu_kv_row(kv, kv->keys, kv->recent_keys, head, position, job->first),
                  job->k.data + i * job->k.stride + at);
    }
}

void cpu_kv_store(struct device *base, const struct kv_view *kv, struct tensor k, struct tensor v,
                  size_t first)
{
    struct cpu_device *dev = (struct cpu_device *)base;
    struct store_job job = {.kv = kv, .k = k, .v = v, .first = first};
    require(kv->type == DTYPE_F32 || dtypes[kv->type].pack);
    pool_run(v.rows > 4 ? dev->pool : NULL, v.rows * kv->n_heads, store_task, &job);
}

void cpu_kv_commit(struct device *base, const struct kv_view *kv, size_t first, size_t n)
{
    (void)base;
    if (kv->window == 0) {
        return;
    }
    // Of a chunk longer than the ring only the newest rows remain.
    const size_t begin = n > kv->capacity ? n - kv->capacity : 0;
    for (size_t head = 0; head < kv->n_heads; head++) {
        for (size_t i = begin; i < n; i++) {
            const size_t to = (head * kv->capacity + (first + i) % kv->capacity) * kv->row_size;
            const size_t from = (head * kv->recent_capacity + i) * kv->row_size;
            memcpy(kv->values + to, kv->recent_values + from, kv->row_size);
            if (kv->keys) {
                memcpy(kv->keys + to, kv->recent_keys + from, kv->row_size);
            }
        }
    }
}
