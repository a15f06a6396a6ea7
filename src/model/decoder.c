// SPDX-License-Identifier: Apache-2.0
// The network, read from top to bottom: each function is a few operations in the order of
// docs/model.md. Rows of several timelines go through it together; only attention tells them apart.
#include "model/decoder.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

// One pass over all segments.
struct run {
    struct decoder *d;
    struct device *dev;
    const struct decoder_segment *segments;
    size_t n_segments;
    size_t n_rows;
    float eps;
};

static struct tensor view(const struct run *r, float *data, size_t columns)
{
    return tensor_make(data, r->n_rows, columns);
}

static void trace(const struct run *r, const char *name, int layer, struct tensor t)
{
    size_t row = 0;
    for (size_t i = 0; i < r->n_segments; i++) {
        const struct decoder_segment *s = &r->segments[i];
        if (s->on_tensor) {
            struct tensor part = tensor_rows(t, row, s->n);
            s->on_tensor(s->tensor_user, name, layer, s->first, s->n, part.columns, part.data);
        }
        row += s->n;
    }
}

// Rows of text from the table, scaled; those of pictures and sound as their projections give them.
static void embed_segment(const struct run *r, const struct decoder_segment *s, struct tensor x)
{
    float scale = sqrtf((float)r->d->config->hidden_size) * r->d->weights->embed_factor;
    struct embed_trace trace = {s->on_tensor, s->tensor_user};
    size_t row = 0;
    for (size_t i = 0; i <= s->n_spans; i++) {
        const struct soft_span *span = i < s->n_spans ? &s->spans[i] : NULL;
        size_t end = span ? span->row : s->n;
        require(end >= row);
        op_embed(r->dev, tensor_rows(x, row, end - row), &r->d->weights->embed, s->tokens + row,
                 scale);
        row = end;
        if (span) {
            struct tensor soft = tensor_rows(x, row, span->n);
            if (span->kind == SOFT_IMAGE) {
                embed_image(&r->d->embedder, soft, span, trace);
            } else {
                embed_audio(&r->d->embedder, soft, span, trace);
            }
            row += span->n;
        }
    }
}

static void embed(const struct run *r, struct tensor x)
{
    size_t row = 0;
    for (size_t i = 0; i < r->n_segments; i++) {
        const struct decoder_segment *s = &r->segments[i];
        require(s->n_spans == 0 || r->d->projector);
        embed_segment(r, s, tensor_rows(x, row, s->n));
        row += s->n;
    }
}

// Rotations of every row's position, once for all layers.
static void fill_rope(const struct run *r)
{
    const struct weights *w = r->d->weights;
    size_t row = 0;
    for (size_t i = 0; i < r->n_segments; i++) {
        const struct decoder_segment *s = &r->segments[i];
        op_rope_table(r->dev, r->d->rope_sliding + row * w->n_pairs_sliding * 2, w->rope_sliding,
                      w->n_pairs_sliding, s->first, s->n);
        op_rope_table(r->dev, r->d->rope_full + row * w->n_pairs_full * 2, w->rope_full,
                      w->n_pairs_full, s->first, s->n);
        kv_cache_fill_rope(s->kv, w->rope_full, s->first + s->n);
        row += s->n;
    }
}

// Products of x with matrices of one layer, and their factors.
static void linear(const struct run *r, const struct layer_weights *l,
                   const enum tensor_role *roles, size_t n, const struct tensor *outs,
                   struct tensor x)
{
    const struct weight *weights[OP_LINEAR_MAX];
    for (size_t i = 0; i < n; i++) {
        weights[i] = &l->matrix[roles[i]];
    }
    op_linear(r->dev, outs, x, weights, n);
    for (size_t i = 0; i < n; i++) {
        if (l->factor[roles[i]] != 1.0f) {
            op_scale(r->dev, outs[i], l->factor[roles[i]]);
        }
    }
}

// Keys and values of the new rows enter the caches, then each row looks at its own timeline.
static void attend(const struct run *r, size_t layer, struct tensor q, struct tensor k,
                   struct tensor v, struct tensor out)
{
    size_t row = 0;
    for (size_t i = 0; i < r->n_segments; i++) {
        const struct decoder_segment *s = &r->segments[i];
        const struct kv_view *kv = &s->kv->layers[layer];
        op_kv_store(r->dev, kv, tensor_rows(k, row, s->n), tensor_rows(v, row, s->n), s->first);
        op_attend(r->dev, tensor_rows(out, row, s->n), tensor_rows(q, row, s->n), kv,
                  r->d->config->n_heads, s->first, kv->window > 0 ? s->ends : NULL);
        op_kv_commit(r->dev, kv, s->first, s->n);
        row += s->n;
    }
}

// h -> h; writes this layer's keys and values.
static void attention(const struct run *r, size_t layer, struct tensor h)
{
    const struct decoder *d = r->d;
    const struct layer_weights *l = &d->weights->layers[layer];
    size_t head_dim = d->config->layers[layer].head_dim;
    size_t n_pairs = l->is_sliding ? d->weights->n_pairs_sliding : d->weights->n_pairs_full;
    const float *rope = l->is_sliding ? d->rope_sliding : d->rope_full;
    struct tensor q = view(r, d->q, l->matrix[ROLE_Q].rows);
    struct tensor k = view(r, d->k, l->matrix[ROLE_K].rows);
    struct tensor v = view(r, d->v, l->matrix[ROLE_K].rows);
    struct tensor attended = view(r, d->attended, q.columns);

    const struct tensor outs[] = {q, k, v};
    static const enum tensor_role qkv[] = {ROLE_Q, ROLE_K, ROLE_V};
    trace(r, "attn_in", (int)layer, h);
    linear(r, l, qkv, l->has_shared_kv_vector ? 2 : 3, outs, h);

    op_norm(r->dev, q, q, l->vector[ROLE_Q_NORM], head_dim, r->eps);
    op_rope(r->dev, q, head_dim, rope, n_pairs);
    // The value has a norm without weight and no rotation. Where it is the key, it is the raw one:
    // it must be taken before the key's own norm. The cache then rebuilds the key from it.
    op_norm(r->dev, v, l->has_shared_kv_vector ? k : v, NULL, head_dim, r->eps);
    if (!l->has_shared_kv_vector) {
        op_norm(r->dev, k, k, l->vector[ROLE_K_NORM], head_dim, r->eps);
        op_rope(r->dev, k, head_dim, rope, n_pairs);
    }
    attend(r, layer, q, k, v, attended);

    static const enum tensor_role o[] = {ROLE_O};
    trace(r, "attn_out_in", (int)layer, attended);
    linear(r, l, o, 1, &h, attended);
}

static void feed_forward(const struct run *r, size_t layer, struct tensor h)
{
    const struct layer_weights *l = &r->d->weights->layers[layer];
    struct tensor gate = view(r, r->d->gate, l->matrix[ROLE_GATE].rows);
    struct tensor up = view(r, r->d->up, l->matrix[ROLE_UP].rows);
    const struct tensor outs[] = {gate, up};
    static const enum tensor_role gate_up[] = {ROLE_GATE, ROLE_UP};
    static const enum tensor_role down[] = {ROLE_DOWN};
    trace(r, "ffn_in", (int)layer, h);
    linear(r, l, gate_up, 2, outs, h);
    op_geglu(r->dev, gate, gate, up);
    trace(r, "ffn_down_in", (int)layer, gate);
    linear(r, l, down, 1, &h, gate);
}

static void layer_forward(const struct run *r, size_t layer, struct tensor x)
{
    const struct layer_weights *l = &r->d->weights->layers[layer];
    struct tensor h = view(r, r->d->h, x.columns);
    size_t width = x.columns;
    op_norm(r->dev, h, x, l->vector[ROLE_ATTN_NORM], width, r->eps);
    attention(r, layer, h);
    op_norm(r->dev, h, h, l->vector[ROLE_ATTN_POST_NORM], width, r->eps);
    op_add(r->dev, x, x, h, 1.0f);

    op_norm(r->dev, h, x, l->vector[ROLE_FFN_NORM], width, r->eps);
    feed_forward(r, layer, h);
    op_norm(r->dev, h, h, l->vector[ROLE_FFN_POST_NORM], width, r->eps);
    // The layer's scale multiplies the whole stream, the skipped part included.
    op_add(r->dev, x, x, h, l->scale);
    trace(r, "hidden", (int)layer, x);
}

// Rows whose logits are computed together, whatever segments they belong to: the head is the
// largest matrix, and is read once for all of them.
struct logit_rows {
    const struct decoder_segment *segments[DECODER_LOGIT_ROWS];
    size_t positions[DECODER_LOGIT_ROWS];
    size_t n;
};

// Gives the rows that were gathered in h to their segments.
static void head(const struct run *r, struct logit_rows *rows)
{
    const struct decoder *d = r->d;
    struct tensor h = tensor_make(d->h, rows->n, d->config->hidden_size);
    struct tensor logits = tensor_make(d->logits, rows->n, d->config->n_vocab);
    const struct weight *w = &d->weights->head;
    op_linear(r->dev, &logits, h, &w, 1);
    if (d->weights->head_factor != 1.0f) {
        op_scale(r->dev, logits, d->weights->head_factor);
    }
    if (d->config->softcap > 0) {
        op_softcap(r->dev, logits, d->config->softcap);
    }
    for (size_t i = 0; i < rows->n; i++) {
        const struct decoder_segment *s = rows->segments[i];
        const float *row = logits.data + i * logits.stride;
        if (s->on_tensor) {
            s->on_tensor(s->tensor_user, "logits", -1, rows->positions[i], 1, logits.columns, row);
        }
        s->on_logits(s->user, rows->positions[i], row);
    }
    rows->n = 0;
}

static void output(const struct run *r, struct tensor x)
{
    const struct decoder *d = r->d;
    struct logit_rows rows = {.n = 0};
    size_t end = 0;
    op_norm(r->dev, x, x, d->weights->norm, x.columns, r->eps);
    trace(r, "norm", -1, x);
    for (size_t i = 0; i < r->n_segments; i++) {
        const struct decoder_segment *s = &r->segments[i];
        const size_t n = s->logits == LOGITS_ALL ? s->n : s->logits == LOGITS_LAST ? 1 : 0;
        end += s->n;
        for (size_t row = s->n - n; row < s->n; row++) {
            memcpy(d->h + rows.n * x.columns, x.data + (end - s->n + row) * x.stride,
                   x.columns * sizeof(float));
            rows.segments[rows.n] = s;
            rows.positions[rows.n++] = s->first + row;
            if (rows.n == DECODER_LOGIT_ROWS) {
                head(r, &rows);
            }
        }
    }
    if (rows.n > 0) {
        head(r, &rows);
    }
}

static bool goes_on(const struct run *r, size_t layer)
{
    for (size_t i = 0; i < r->n_segments; i++) {
        const struct decoder_segment *s = &r->segments[i];
        if (s->on_layer && !s->on_layer(s->layer_user, layer)) {
            return false;
        }
    }
    return true;
}

bool decoder_run(struct decoder *d, const struct decoder_segment *segments, size_t n_segments)
{
    struct run r = {
        .d = d,
        .dev = d->device,
        .segments = segments,
        .n_segments = n_segments,
        .eps = d->config->norm_eps,
    };
    for (size_t i = 0; i < n_segments; i++) {
        r.n_rows += segments[i].n;
    }
    require(r.n_rows <= d->rows_max);
    struct tensor x = view(&r, d->x, d->config->hidden_size);
    embed(&r, x);
    trace(&r, "embed", -1, x);
    fill_rope(&r);
    for (size_t i = 0; i < d->config->n_layers; i++) {
        layer_forward(&r, i, x);
        if (i + 1 < d->config->n_layers && !goes_on(&r, i)) {
            return false;
        }
    }
    output(&r, x);
    return true;
}

// ----------------------------------------------------------------------------------------- memory

// Floats per row of each buffer, in the order of the struct.
struct row_plan {
    float **place;
    size_t columns;
};
#define N_ROW_PLANS 10

static void plan_rows(struct row_plan plans[N_ROW_PLANS], struct decoder *d)
{
    struct config_extent e = config_extent(d->config);
    const struct row_plan all[N_ROW_PLANS] = {
        {&d->x, d->config->hidden_size},
        {&d->h, d->config->hidden_size},
        {&d->q, e.q_size},
        {&d->attended, e.q_size},
        {&d->k, e.kv_size},
        {&d->v, e.kv_size},
        {&d->gate, e.ffn_size},
        {&d->up, e.ffn_size},
        {&d->rope_sliding, d->weights->n_pairs_sliding * 2},
        {&d->rope_full, d->weights->n_pairs_full * 2},
    };
    memcpy(plans, all, sizeof(all));
}

// Each buffer begins on a cache line.
static size_t padded(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

// Floats of all buffers. config.h's limits keep it far from overflow: 2^20 columns, ten buffers.
static uint64_t total_floats(struct decoder *d, size_t rows_max)
{
    struct row_plan plans[N_ROW_PLANS];
    uint64_t total = padded((size_t)DECODER_LOGIT_ROWS * d->config->n_vocab);
    plan_rows(plans, d);
    for (size_t i = 0; i < N_ROW_PLANS; i++) {
        total += padded(rows_max * plans[i].columns);
    }
    return total;
}

static struct device_limits limits_of(const struct model_config *config,
                                      const struct projector *projector, size_t rows_max,
                                      size_t context_max)
{
    struct config_extent e = config_extent(config);
    size_t widest = config->hidden_size;
    widest = widest > e.q_size ? widest : e.q_size;
    widest = widest > e.ffn_size ? widest : e.ffn_size;
    struct device_limits limits = {
        .rows_max = rows_max > DECODER_LOGIT_ROWS ? rows_max : DECODER_LOGIT_ROWS,
        .columns_max = widest,
        .head_dim_max = e.head_dim,
        .heads_max = config->n_heads,
        .keys_max = context_max,
    };
    if (projector) {
        embedder_limits(&limits, projector);
    }
    return limits;
}

uint64_t decoder_size(const struct model_config *config, const struct weights *weights,
                      const struct projector *projector, size_t rows_max, size_t context_max,
                      size_t n_threads)
{
    struct decoder d = {.config = config, .weights = weights};
    struct device_limits limits = limits_of(config, projector, rows_max, context_max);
    return total_floats(&d, rows_max) * sizeof(float) + device_scratch_size(&limits, n_threads) +
           (projector ? embedder_size(projector) : 0);
}

int decoder_reserve(struct decoder *d, size_t rows_max, size_t context_max, struct carat_error *err)
{
    struct device_limits limits = limits_of(d->config, d->projector, rows_max, context_max);
    int rc = device_reserve(d->device, &limits, err);
    if (rc == 0 && d->projector) {
        rc = embedder_reserve(&d->embedder, d->projector, d->device, err);
    }
    if (rc || rows_max <= d->rows_max) {
        return rc;
    }
    uint64_t total = total_floats(d, rows_max);
    if (total > SIZE_MAX / sizeof(float)) {
        return fail(err, CARAT_E_MEMORY, "chunks of %zu tokens do not fit this machine", rows_max);
    }
    float *memory = device_alloc(d->device, (size_t)total * sizeof(float), err);
    if (!memory) {
        return CARAT_E_MEMORY;
    }
    device_release(d->device, d->memory);
    d->memory = memory;
    d->rows_max = rows_max;
    struct row_plan plans[N_ROW_PLANS];
    plan_rows(plans, d);
    for (size_t i = 0; i < N_ROW_PLANS; i++) {
        *plans[i].place = memory;
        memory += padded(rows_max * plans[i].columns);
    }
    d->logits = memory;
    return 0;
}

void decoder_release(struct decoder *d)
{
    embedder_release(&d->embedder);
    device_release(d->device, d->memory);
    *d = (struct decoder){0};
}
