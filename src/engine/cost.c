// SPDX-License-Identifier: Apache-2.0
// What evaluating tokens costs in bytes moved and multiply-adds, by counting: the yardstick beside
// a measured limit. docs/performance.md derives the same figures by hand.
#include "engine/engine.h"

#include "base/error.h"
#include "compute/limits.h"

static void add_product(struct carat_cost *cost, const struct carat_engine *e,
                        const struct weight *w, double n_rows, double n_passes)
{
    double products = (double)w->rows * (double)w->columns * n_rows;
    double bytes = (double)w->rows * (double)w->row_size * n_passes;
    cost->bytes += bytes;
    cost->weight_bytes += bytes;
    if (device_multiplies_int8(e->device, w->type)) {
        cost->int8_products += products;
    } else {
        cost->float_products += products;
    }
}

// Keys that rows first .. first + n - 1 see together: position p sees p + 1, or the window.
static double keys_seen(size_t first, size_t n, size_t window)
{
    double total = 0;
    size_t growing = n;
    if (window > 0) {
        size_t room = window > first ? window - first : 0;
        growing = n < room ? n : room;
        total = (double)(n - growing) * (double)window;
    }
    double lowest = (double)first + 1;
    double highest = (double)first + (double)growing;
    return total + (lowest + highest) / 2 * (double)growing;
}

// Each row multiplies every key it sees once for the score and once for the value; a chunk reads
// what its last row sees.
static void add_attention(struct carat_cost *cost, const struct carat_engine *e, size_t layer,
                          const struct carat_session_options *o, size_t first, size_t n)
{
    const struct layer_config *l = &e->config.layers[layer];
    size_t window = l->is_sliding ? e->config.window : 0;
    size_t row_size = 0;
    if (!dtype_row_size(&row_size, engine_kv_options(o, 0).type, l->head_dim)) {
        return;
    }
    cost->float_products +=
        keys_seen(first, n, window) * 2 * (double)e->config.n_heads * (double)l->head_dim;
    double vectors = l->has_shared_kv_vector ? 1 : 2;
    for (size_t at = 0; at < n; at += o->prefill_chunk) {
        size_t end = n - at < o->prefill_chunk ? n : at + o->prefill_chunk;
        size_t seen = first + end;
        seen = window > 0 && seen > window + (end - at) ? window + (end - at) : seen;
        cost->bytes += (double)seen * vectors * (double)l->n_kv_heads * (double)row_size;
    }
}

int carat_engine_cost(struct carat_cost *out, const struct carat_engine *e,
                      const struct carat_session_options *session, size_t first, size_t n,
                      struct carat_error *err)
{
    if (e->info.is_vocab_only) {
        return fail(err, CARAT_E_ARGUMENT, "the model was opened for its vocabulary only");
    }
    struct carat_session_options o = {0};
    int rc = engine_session_options(&o, &e->config, session, err);
    if (rc || n == 0) {
        return rc;
    }
    struct carat_cost cost = {0};
    double n_passes = (double)((n - 1) / o.prefill_chunk + 1);
    for (size_t i = 0; i < e->config.n_layers; i++) {
        for (int role = 0; role < ROLE_COUNT; role++) {
            const struct weight *w = &e->weights.layers[i].matrix[role];
            if (w->columns > 0) {
                add_product(&cost, e, w, (double)n, n_passes);
            }
        }
        add_attention(&cost, e, i, &o, first, n);
    }
    add_product(&cost, e, &e->weights.head, 1, 1); // only the last row has logits
    *out = cost;
    return 0;
}

int carat_measure_limits(struct carat_limits *out, size_t n_threads, struct carat_error *err)
{
    return limits_measure(out, n_threads, err);
}
