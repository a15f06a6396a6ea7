// SPDX-License-Identifier: Apache-2.0
// Copies of rows between caches. The rows are the CPU's own memory here, as in kv_cache.c.
#include "model/kv_rows.h"

#include <string.h>

#include "base/error.h"

// ------------------------------------------------------------------------------------------ lanes

bool kv_lanes_next(struct kv_lanes *at, struct kv_lane *out)
{
    const struct kv_cache *kv = at->kv;
    while (at->layer < kv->n_layers) {
        const struct kv_view *view = &kv->layers[at->layer];
        size_t vectors = view->keys ? 2 : 1;
        if (at->i == vectors * view->n_heads) {
            at->layer++;
            at->i = 0;
            continue;
        }
        uint8_t *base = at->i < view->n_heads ? view->values : view->keys;
        *out = (struct kv_lane){
            .rows = base + at->i % view->n_heads * view->capacity * view->row_size,
            .row_size = view->row_size,
            .capacity = view->capacity,
            .is_sliding = view->window > 0,
        };
        at->i++;
        return true;
    }
    return false;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t kv_lane_run(const struct kv_lane *lane, size_t position, size_t n, uint8_t **rows)
{
    size_t slot = position % lane->capacity;
    *rows = lane->rows + slot * lane->row_size;
    return smaller(n, lane->capacity - slot);
}

uint64_t kv_rows_size(const struct kv_cache *kv, bool is_sliding)
{
    struct kv_lanes lanes = {.kv = kv};
    struct kv_lane lane;
    uint64_t size = 0;
    while (kv_lanes_next(&lanes, &lane)) {
        size += lane.is_sliding == is_sliding ? lane.row_size : 0;
    }
    return size;
}

static void copy_rows(const struct kv_lane *to, const struct kv_lane *from, size_t first,
                      size_t end)
{
    require(to->row_size == from->row_size);
    while (first < end) {
        uint8_t *source = NULL;
        uint8_t *target = NULL;
        size_t n = kv_lane_run(from, first, end - first, &source);
        n = kv_lane_run(to, first, n, &target);
        memcpy(target, source, n * to->row_size);
        first += n;
    }
}

// --------------------------------------------------------------------------------------- what is
// held

static size_t oldest_needed(size_t window, size_t n)
{
    return n + 1 > window ? n + 1 - window : 0;
}

struct kv_held kv_cache_held(const struct kv_cache *kv, size_t n_tokens, size_t n_written)
{
    size_t first = n_written > kv->ring_capacity ? n_written - kv->ring_capacity : 0;
    return (struct kv_held){.first = first, .end = n_tokens};
}

size_t kv_held_longest(struct kv_held held, size_t window, size_t limit)
{
    size_t n = smaller(held.end, limit);
    return held.first <= oldest_needed(window, n) ? n : 0;
}

size_t kv_cache_written(const struct kv_cache *kv, size_t first, size_t n)
{
    return first > 0 ? larger(n, first + kv->ring_capacity) : n;
}

size_t kv_cache_copy(struct kv_cache *to, const struct kv_cache *from, struct kv_held held,
                     size_t full_first, size_t n)
{
    struct kv_lanes to_lanes = {.kv = to};
    struct kv_lanes from_lanes = {.kv = from};
    struct kv_lane a;
    struct kv_lane b;
    size_t first = larger(held.first, n > to->ring_capacity ? n - to->ring_capacity : 0);
    while (kv_lanes_next(&to_lanes, &a)) {
        bool has_both = kv_lanes_next(&from_lanes, &b);
        require(has_both && a.is_sliding == b.is_sliding);
        copy_rows(&a, &b, a.is_sliding ? first : full_first, n);
    }
    return kv_cache_written(to, first, n);
}

// ------------------------------------------------------------------------------------------- marks

static size_t mark_capacity(size_t window, size_t context_max)
{
    return smaller(window + KV_MARK_SLACK, context_max);
}

uint64_t kv_mark_size(const struct model_config *config, const struct kv_options *o)
{
    // What a ring without room for rewinding takes.
    uint64_t size = 0;
    for (uint32_t i = 0; i < config->n_layers; i++) {
        const struct layer_config *l = &config->layers[i];
        size_t row_size = 0;
        if (l->is_sliding && dtype_row_size(&row_size, o->type, l->head_dim)) {
            size += (uint64_t)l->n_kv_heads * row_size * (l->has_shared_kv_vector ? 1 : 2);
        }
    }
    return size * mark_capacity(config->window, o->context_max);
}

int kv_mark_init(struct kv_mark *out, const struct kv_cache *kv, struct carat_error *err)
{
    struct kv_mark mark = {.capacity = mark_capacity(kv->window, kv->options.context_max)};
    uint64_t size = kv_rows_size(kv, true) * mark.capacity;
    if (size > SIZE_MAX) {
        return fail(err, CARAT_E_MEMORY, "%llu bytes for a window do not fit this machine",
                    (unsigned long long)size);
    }
    mark.memory = device_alloc(kv->device, (size_t)size, err);
    if (!mark.memory) {
        return CARAT_E_MEMORY;
    }
    *out = mark;
    return 0;
}

void kv_mark_release(struct kv_mark *mark, const struct kv_cache *kv)
{
    if (mark->memory) {
        device_release(kv->device, mark->memory);
    }
    *mark = (struct kv_mark){0};
}

struct kv_lane kv_mark_lane(const struct kv_mark *mark, const struct kv_lane *lane,
                            uint64_t *offset)
{
    struct kv_lane own = {.rows = mark->memory + *offset,
                          .row_size = lane->row_size,
                          .capacity = mark->capacity,
                          .is_sliding = true};
    *offset += (uint64_t)own.capacity * own.row_size;
    return own;
}

void kv_mark_take(struct kv_mark *mark, const struct kv_cache *kv, size_t end)
{
    struct kv_lanes lanes = {.kv = kv};
    struct kv_lane lane;
    uint64_t offset = 0;
    mark->held.first = end > mark->capacity ? end - mark->capacity : 0;
    mark->held.end = end;
    while (kv_lanes_next(&lanes, &lane)) {
        if (lane.is_sliding) {
            struct kv_lane own = kv_mark_lane(mark, &lane, &offset);
            copy_rows(&own, &lane, mark->held.first, end);
        }
    }
}

size_t kv_mark_put(const struct kv_mark *mark, struct kv_cache *to, size_t n)
{
    struct kv_lanes lanes = {.kv = to};
    struct kv_lane lane;
    uint64_t offset = 0;
    size_t first = larger(mark->held.first, n > to->ring_capacity ? n - to->ring_capacity : 0);
    while (kv_lanes_next(&lanes, &lane)) {
        if (lane.is_sliding) {
            struct kv_lane own = kv_mark_lane(mark, &lane, &offset);
            copy_rows(&lane, &own, first, n);
        }
    }
    return kv_cache_written(to, first, n);
}
