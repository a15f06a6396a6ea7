// SPDX-License-Identifier: Apache-2.0
// Plans and holds the rows of every layer's cache. Which rows are written and read is the device's
// affair (op_kv_store, op_attend).
#include "model/kv_cache.h"

#include "base/error.h"

// One layer's rows, as counts and bytes; shared by the estimate and the allocation.
struct layer_plan {
    size_t capacity;
    size_t row_size;
    uint64_t vector_size; // bytes of all keys, or of all values
    uint64_t recent_size; // the same for the chunk in flight; 0 without a window
    bool has_keys;
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t ring_capacity(const struct model_config *config, const struct kv_options *o)
{
    return smaller((size_t)config->window + o->rewind_max, o->context_max);
}

static int plan_layer(struct layer_plan *out, const struct model_config *config, size_t layer,
                      const struct kv_options *o, struct carat_error *err)
{
    const struct layer_config *l = &config->layers[layer];
    struct layer_plan p = {.has_keys = !l->has_shared_kv_vector};
    if (!dtype_row_size(&p.row_size, o->type, l->head_dim)) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "kv type %s needs head sizes that are multiples of %u, layer %zu has %u; "
                    "choose F16 or F32",
                    dtypes[o->type].name, dtypes[o->type].block_values, layer, l->head_dim);
    }
    p.capacity = l->is_sliding ? ring_capacity(config, o) : o->context_max;
    // Limits in config.h keep this product far below 2^64: 2^24 positions, 2^12 heads, 2^13 bytes.
    p.vector_size = (uint64_t)p.capacity * l->n_kv_heads * p.row_size;
    p.recent_size = l->is_sliding ? (uint64_t)o->recent_max * l->n_kv_heads * p.row_size : 0;
    *out = p;
    return 0;
}

// Rotations are tabulated only where keys are rebuilt for every query.
static uint64_t rope_size(const struct model_config *config, const struct weights *weights,
                          const struct kv_options *o)
{
    bool rebuilds = false;
    for (uint32_t i = 0; i < config->n_layers; i++) {
        rebuilds = rebuilds || config->layers[i].has_shared_kv_vector;
    }
    return rebuilds ? (uint64_t)o->context_max * weights->n_pairs_full * 2 * sizeof(float) : 0;
}

int kv_cache_size(struct kv_size *out, const struct model_config *config,
                  const struct weights *weights, const struct kv_options *options,
                  struct carat_error *err)
{
    struct kv_size size = {0};
    uint64_t recent = 0;
    for (size_t i = 0; i < config->n_layers; i++) {
        struct layer_plan p = {0};
        int rc = plan_layer(&p, config, i, options, err);
        if (rc) {
            return rc;
        }
        uint64_t bytes = p.vector_size * (p.has_keys ? 2 : 1);
        if (config->layers[i].is_sliding) {
            size.sliding += bytes;
        } else {
            size.full += bytes;
        }
        recent = recent > p.recent_size ? recent : p.recent_size;
    }
    size.sliding += 2 * recent;
    size.full += rope_size(config, weights, options);
    *out = size;
    return 0;
}

static uint8_t *take(uint8_t **at, uint64_t size)
{
    uint8_t *block = *at;
    *at += size;
    return block;
}

static void place_layer(struct kv_cache *kv, const struct model_config *config,
                        const struct weights *weights, size_t layer, const struct layer_plan *p,
                        uint8_t **at)
{
    const struct layer_config *l = &config->layers[layer];
    struct kv_view *view = &kv->layers[layer];
    *view = (struct kv_view){
        .type = kv->options.type,
        .row_size = p->row_size,
        .n_heads = l->n_kv_heads,
        .head_dim = l->head_dim,
        .capacity = p->capacity,
        .window = l->is_sliding ? config->window : 0,
        .recent_capacity = l->is_sliding ? kv->options.recent_max : 0,
    };
    view->values = take(at, p->vector_size);
    if (p->has_keys) {
        view->keys = take(at, p->vector_size);
        return;
    }
    view->key_norm = weights->layers[layer].vector[ROLE_K_NORM];
    view->rope_table = kv->rope_table;
    view->n_pairs = weights->n_pairs_full;
}

// The chunk in flight is kept once for all layers: a layer is done with it before the next begins.
static void place_recent(struct kv_cache *kv, uint8_t *keys, uint8_t *values)
{
    for (size_t i = 0; i < kv->n_layers; i++) {
        if (kv->layers[i].window > 0) {
            kv->layers[i].recent_keys = keys;
            kv->layers[i].recent_values = values;
        }
    }
}

int kv_cache_init(struct kv_cache *out, struct device *dev, const struct model_config *config,
                  const struct weights *weights, const struct kv_options *options,
                  struct carat_error *err)
{
    struct kv_cache kv = {
        .options = *options,
        .device = dev,
        .n_layers = config->n_layers,
        .n_pairs = weights->n_pairs_full,
        .ring_capacity = ring_capacity(config, options),
        .window = config->window,
        .has_table = rope_size(config, weights, options) > 0,
    };
    struct kv_size size;
    struct layer_plan p = {0};
    uint64_t recent = 0;
    uint64_t table = rope_size(config, weights, options);
    int rc = kv_cache_size(&size, config, weights, options, err);
    if (rc) {
        return rc;
    }
    rc = CARAT_E_MEMORY;
    if (size.sliding + size.full > SIZE_MAX) {
        fail(err, CARAT_E_MEMORY, "a kv cache of %llu bytes does not fit this machine",
             (unsigned long long)(size.sliding + size.full));
        goto out;
    }
    kv.layers = mem_new_array(kv.n_layers, sizeof(kv.layers[0]), err);
    kv.memory = device_alloc(dev, (size_t)(size.sliding + size.full - table), err);
    kv.rope_table = device_alloc(dev, (size_t)table, err);
    if (!kv.layers || !kv.memory || !kv.rope_table) {
        goto out;
    }
    uint8_t *at = kv.memory;
    for (size_t i = 0; i < kv.n_layers; i++) {
        rc = plan_layer(&p, config, i, options, err);
        if (rc) {
            goto out;
        }
        place_layer(&kv, config, weights, i, &p, &at);
        recent = recent > p.recent_size ? recent : p.recent_size;
    }
    uint8_t *recent_keys = take(&at, recent);
    place_recent(&kv, recent_keys, take(&at, recent));
    *out = kv;
    return 0;
out:
    kv_cache_release(&kv);
    return rc;
}

void kv_cache_release(struct kv_cache *kv)
{
    device_release(kv->device, kv->memory);
    device_release(kv->device, kv->rope_table);
    mem_free(kv->layers);
    *kv = (struct kv_cache){0};
}

bool kv_cache_can_rewind(const struct kv_cache *kv, size_t length, size_t to)
{
    // The token at position `to` sees positions from to - window + 1; the ring holds the newest
    // ring_capacity tokens.
    size_t oldest_needed = to + 1 > kv->window ? to + 1 - kv->window : 0;
    size_t oldest_held = length > kv->ring_capacity ? length - kv->ring_capacity : 0;
    return to <= length && (to == 0 || oldest_held <= oldest_needed);
}

void kv_cache_fill_rope(struct kv_cache *kv, const float *inv_freq, size_t end)
{
    if (kv->has_table && end > kv->rope_filled) {
        size_t n = end - kv->rope_filled;
        op_rope_table(kv->device, kv->rope_table + kv->rope_filled * kv->n_pairs * 2, inv_freq,
                      kv->n_pairs, kv->rope_filled, n);
        kv->rope_filled = end;
    }
}
