// SPDX-License-Identifier: Apache-2.0
// Rows that nobody evaluated, so that speed can be measured at any depth. They have the size that
// the model's own have (a value is normed, a key is normed and weighted: model.md section 4.1), so
// that attention's arithmetic is the usual one: nothing overflows, nothing is denormal.
#include "base/error.h"
#include "model/kv_cache.h"

#define FILL_ROWS 256 // stored together, again and again

// The generator of Knuth's MMIX; uniform in -1..1.
static void make_rows(struct tensor t, uint64_t seed)
{
    uint64_t state = seed;
    for (size_t row = 0; row < t.rows; row++) {
        for (size_t i = 0; i < t.columns; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            t.data[row * t.stride + i] = (float)(int32_t)(state >> 32) * 0x1p-31f;
        }
    }
}

static void fill_layer(const struct kv_cache *kv, size_t layer, struct tensor k, struct tensor v,
                       size_t n)
{
    const struct kv_view *view = &kv->layers[layer];
    // A ring holds the newest positions only.
    size_t at = n > view->capacity ? n - view->capacity : 0;
    while (at < n) {
        size_t rows = n - at < k.rows ? n - at : k.rows;
        op_kv_store(kv->device, view, tensor_rows(k, 0, rows), tensor_rows(v, 0, rows), at);
        op_kv_commit(kv->device, view, at, rows);
        at += rows;
    }
}

int kv_cache_fill(struct kv_cache *kv, const struct model_config *config,
                  const struct weights *weights, size_t n, struct carat_error *err)
{
    size_t rows = kv->options.recent_max < FILL_ROWS ? kv->options.recent_max : FILL_ROWS;
    size_t widest = config_extent(config).kv_size;
    float *memory = device_alloc(kv->device, 2 * rows * widest * sizeof(float), err);
    if (!memory) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < kv->n_layers; i++) {
        const struct kv_view *view = &kv->layers[i];
        size_t columns = view->n_heads * view->head_dim;
        struct tensor k = tensor_make(memory, rows, columns);
        struct tensor v = tensor_make(memory + rows * widest, rows, columns);
        make_rows(k, 2 * i + 1);
        make_rows(v, 2 * i + 2);
        op_norm(kv->device, k, k, weights->layers[i].vector[ROLE_K_NORM], view->head_dim,
                config->norm_eps);
        op_norm(kv->device, v, v, NULL, view->head_dim, config->norm_eps);
        fill_layer(kv, i, k, v, n);
    }
    kv_cache_fill_rope(kv, weights->rope_full, n);
    int rc = device_wait(kv->device, err);
    device_release(kv->device, memory);
    return rc;
}
