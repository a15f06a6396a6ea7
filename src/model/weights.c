// SPDX-License-Identifier: Apache-2.0
// Binds the tensors of a file to their roles. Names and shapes: docs/model.md, "Tensors".
#include "model/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

// clang-format off
const struct tensor_info tensor_table[ROLE_COUNT] = {
    [ROLE_EMBED]          = {"token_embd.weight",          "embed_tokens.weight",                  false, false},
    [ROLE_NORM]           = {"output_norm.weight",         "norm.weight",                          false, true},
    [ROLE_HEAD]           = {"output.weight",              "lm_head.weight",                       false, false},
    [ROLE_ATTN_NORM]      = {"attn_norm.weight",           "input_layernorm.weight",               true,  true},
    [ROLE_Q]              = {"attn_q.weight",              "self_attn.q_proj.weight",              true,  false},
    [ROLE_K]              = {"attn_k.weight",              "self_attn.k_proj.weight",              true,  false},
    [ROLE_V]              = {"attn_v.weight",              "self_attn.v_proj.weight",              true,  false},
    [ROLE_O]              = {"attn_output.weight",         "self_attn.o_proj.weight",              true,  false},
    [ROLE_Q_NORM]         = {"attn_q_norm.weight",         "self_attn.q_norm.weight",              true,  true},
    [ROLE_K_NORM]         = {"attn_k_norm.weight",         "self_attn.k_norm.weight",              true,  true},
    [ROLE_ATTN_POST_NORM] = {"post_attention_norm.weight", "post_attention_layernorm.weight",      true,  true},
    [ROLE_FFN_NORM]       = {"ffn_norm.weight",            "pre_feedforward_layernorm.weight",     true,  true},
    [ROLE_GATE]           = {"ffn_gate.weight",            "mlp.gate_proj.weight",                 true,  false},
    [ROLE_UP]             = {"ffn_up.weight",              "mlp.up_proj.weight",                   true,  false},
    [ROLE_DOWN]           = {"ffn_down.weight",            "mlp.down_proj.weight",                 true,  false},
    [ROLE_FFN_POST_NORM]  = {"post_ffw_norm.weight",       "post_feedforward_layernorm.weight",    true,  true},
    [ROLE_LAYER_SCALE]    = {"layer_output_scale.weight",  "layer_scalar",                         true,  true},
};
// clang-format on

struct shape {
    uint64_t rows; // 1 for a vector
    uint64_t columns;
};

static struct shape role_shape(enum tensor_role role, const struct model_config *c, size_t layer)
{
    const struct layer_config *l = &c->layers[layer];
    uint64_t h = c->hidden_size;
    uint64_t q = (uint64_t)c->n_heads * l->head_dim;
    uint64_t kv = (uint64_t)l->n_kv_heads * l->head_dim;
    switch (role) {
    case ROLE_EMBED:
    case ROLE_HEAD:
        return (struct shape){c->n_vocab, h};
    case ROLE_Q:
        return (struct shape){q, h};
    case ROLE_K:
    case ROLE_V:
        return (struct shape){kv, h};
    case ROLE_O:
        return (struct shape){h, q};
    case ROLE_GATE:
    case ROLE_UP:
        return (struct shape){l->ffn_size, h};
    case ROLE_DOWN:
        return (struct shape){h, l->ffn_size};
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        return (struct shape){1, l->head_dim};
    case ROLE_LAYER_SCALE:
        return (struct shape){1, 1};
    case ROLE_NORM:
    case ROLE_ATTN_NORM:
    case ROLE_ATTN_POST_NORM:
    case ROLE_FFN_NORM:
    case ROLE_FFN_POST_NORM:
    case ROLE_COUNT:
        break;
    }
    return (struct shape){1, h};
}

struct binder {
    struct weights *w;
    const struct model_config *config;
    const struct source *source;
    const char *prefix; // of a checkpoint's names
    uint64_t params_by_type[DTYPE_COUNT];
    char name[160];
};

static const char *tensor_name(struct binder *b, enum tensor_role role, size_t layer)
{
    const struct tensor_info *info = &tensor_table[role];
    bool is_gguf = source_gguf(b->source) != NULL;
    // The head stands outside the decoder's prefix in a checkpoint.
    const char *prefix = is_gguf || role == ROLE_HEAD ? "" : b->prefix;
    const char *name = is_gguf ? info->gguf : info->safetensors;
    if (info->is_layer) {
        snprintf(b->name, sizeof(b->name), "%s%s.%zu.%s", prefix, is_gguf ? "blk" : "layers", layer,
                 name);
    } else {
        snprintf(b->name, sizeof(b->name), "%s%s", prefix, name);
    }
    return b->name;
}

static const char *find_prefix(const struct source *source)
{
    static const char *const prefixes[] = {"model.language_model.", "model.",
                                           "language_model.model.", ""};
    char name[80];
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        snprintf(name, sizeof(name), "%sembed_tokens.weight", prefixes[i]);
        if (source_find(source, name)) {
            return prefixes[i];
        }
    }
    return prefixes[0];
}

static int check_tensor(const struct binder *b, const struct source_tensor *t, struct shape want,
                        struct carat_error *err)
{
    uint64_t rows = t->n_dims == 2 ? t->dims[0] : 1;
    uint64_t columns = t->n_dims == 2 ? t->dims[1] : t->n_dims == 1 ? t->dims[0] : 0;
    bool is_scalar = t->n_dims == 0 && want.rows == 1 && want.columns == 1;
    if (!is_scalar && (t->n_dims > 2 || rows != want.rows || columns != want.columns)) {
        char found[96] = "";
        size_t at = 0;
        for (uint32_t i = 0; i < t->n_dims && i < 4; i++) {
            at += (size_t)snprintf(found + at, sizeof(found) - at, "%s%llu", i ? " x " : "",
                                   (unsigned long long)t->dims[i]);
        }
        return fail(err, CARAT_E_FORMAT, "%s: tensor '%s': expected %llu x %llu, found %s",
                    source_path(b->source), b->name, (unsigned long long)want.rows,
                    (unsigned long long)want.columns, found[0] ? found : "a scalar");
    }
    if (t->type >= DTYPE_COUNT_COMPUTE) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: tensor '%s' has element type %s, which carat cannot compute with; use a "
                    "file in Q4_0, Q4_K, Q6_K, Q8_0, BF16 or another common type",
                    source_path(b->source), b->name, dtypes[t->type].name);
    }
    return 0;
}

// NVFP4 files may keep a factor for a whole tensor beside it, as "<name>.scale" with or without the
// ".weight" in between (gguf.md section 3). 1 where there is none.
static int read_factor(struct binder *b, float *out, struct carat_error *err)
{
    char name[176];
    snprintf(name, sizeof(name), "%s.scale", b->name);
    const struct source_tensor *t = source_find(b->source, name);
    size_t n = strlen(b->name);
    if (!t && n > 7 && strcmp(b->name + n - 7, ".weight") == 0) {
        snprintf(name, sizeof(name), "%.*s.scale", (int)(n - 7), b->name);
        t = source_find(b->source, name);
    }
    *out = 1;
    if (!t) {
        return 0;
    }
    if (t->type != DTYPE_F32 || t->size != sizeof(float)) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: tensor '%s': expected one value of type F32, found %llu bytes of %s",
                    source_path(b->source), name, (unsigned long long)t->size,
                    dtypes[t->type].name);
    }
    memcpy(out, t->data, sizeof(*out));
    return 0;
}

static struct weight weight_view(const struct source_tensor *t, uint64_t first, uint64_t rows,
                                 size_t row_size)
{
    return (struct weight){
        .type = t->type,
        .data = t->data + first * row_size,
        .rows = (size_t)rows,
        .columns = (size_t)t->dims[1],
        .row_size = row_size,
    };
}

static int bind_matrix(struct binder *b, struct weight *out, float *factor, enum tensor_role role,
                       size_t layer, bool is_optional, struct carat_error *err)
{
    const char *name = tensor_name(b, role, layer);
    const struct source_tensor *t = source_find(b->source, name);
    if (!t) {
        return is_optional ? 0
                           : fail(err, CARAT_E_FORMAT, "%s: tensor '%s' is missing",
                                  source_path(b->source), name);
    }
    struct shape want = role_shape(role, b->config, layer);
    int rc = check_tensor(b, t, want, err);
    if (rc == 0) {
        rc = read_factor(b, factor, err);
    }
    size_t row_size = 0;
    if (rc == 0 && !dtype_row_size(&row_size, t->type, want.columns)) {
        rc = fail(err, CARAT_E_FORMAT, "%s: tensor '%s': rows of %llu values do not fit type %s",
                  source_path(b->source), name, (unsigned long long)want.columns,
                  dtypes[t->type].name);
    }
    if (rc) {
        return rc;
    }
    *out = weight_view(t, 0, want.rows, row_size);
    b->w->file_size += t->size;
    b->w->n_parameters += want.rows * want.columns;
    b->params_by_type[t->type] += want.rows * want.columns;
    return 0;
}

static int bind_vector(struct binder *b, const float **out, enum tensor_role role, size_t layer,
                       struct carat_error *err)
{
    const char *name = tensor_name(b, role, layer);
    const struct source_tensor *t = source_find(b->source, name);
    if (!t) {
        return fail(err, CARAT_E_FORMAT, "%s: tensor '%s' is missing", source_path(b->source),
                    name);
    }
    struct shape want = role_shape(role, b->config, layer);
    int rc = check_tensor(b, t, want, err);
    if (rc) {
        return rc;
    }
    size_t n = (size_t)want.columns;
    if (n % dtypes[t->type].block_values != 0) {
        return fail(err, CARAT_E_FORMAT, "%s: tensor '%s': %zu values do not fit type %s",
                    source_path(b->source), name, n, dtypes[t->type].name);
    }
    float *copy = arena_take(&b->w->arena, n * sizeof(float), err);
    if (!copy) {
        return CARAT_E_MEMORY;
    }
    dtypes[t->type].unpack(copy, t->data, n);
    b->w->n_parameters += n;
    *out = copy;
    return 0;
}

// Some converters write q, k and v as one matrix, in that order of rows.
static int bind_fused_qkv(struct binder *b, struct layer_weights *l, size_t layer, bool *found,
                          struct carat_error *err)
{
    *found = false;
    if (!source_gguf(b->source)) {
        return 0;
    }
    snprintf(b->name, sizeof(b->name), "blk.%zu.attn_qkv.weight", layer);
    const struct source_tensor *t = source_find(b->source, b->name);
    if (!t) {
        return 0;
    }
    struct shape q = role_shape(ROLE_Q, b->config, layer);
    struct shape kv = role_shape(ROLE_K, b->config, layer);
    struct shape want = {q.rows + kv.rows * (l->has_shared_kv_vector ? 1 : 2), q.columns};
    size_t row_size = 0;
    int rc = check_tensor(b, t, want, err);
    if (rc == 0) {
        rc = read_factor(b, &l->factor[ROLE_Q], err);
    }
    if (rc == 0 && !dtype_row_size(&row_size, t->type, want.columns)) {
        rc = fail(err, CARAT_E_FORMAT, "%s: tensor '%s': rows of %llu values do not fit type %s",
                  source_path(b->source), b->name, (unsigned long long)want.columns,
                  dtypes[t->type].name);
    }
    if (rc) {
        return rc;
    }
    l->matrix[ROLE_Q] = weight_view(t, 0, q.rows, row_size);
    l->matrix[ROLE_K] = weight_view(t, q.rows, kv.rows, row_size);
    if (!l->has_shared_kv_vector) {
        l->matrix[ROLE_V] = weight_view(t, q.rows + kv.rows, kv.rows, row_size);
    }
    b->w->file_size += t->size;
    b->w->n_parameters += want.rows * want.columns;
    b->params_by_type[t->type] += want.rows * want.columns;
    l->factor[ROLE_K] = l->factor[ROLE_Q];
    l->factor[ROLE_V] = l->factor[ROLE_Q];
    *found = true;
    return 0;
}

static bool is_qkv(enum tensor_role role)
{
    return role == ROLE_Q || role == ROLE_K || role == ROLE_V;
}

static int bind_layer(struct binder *b, size_t layer, struct carat_error *err)
{
    struct layer_weights *l = &b->w->layers[layer];
    const struct layer_config *c = &b->config->layers[layer];
    bool is_fused = false;
    l->is_sliding = c->is_sliding;
    l->has_shared_kv_vector = c->has_shared_kv_vector;
    int rc = bind_fused_qkv(b, l, layer, &is_fused, err);
    for (int role = 0; rc == 0 && role < ROLE_COUNT; role++) {
        if (!tensor_table[role].is_layer || (is_fused && is_qkv((enum tensor_role)role)) ||
            (role == ROLE_V && l->has_shared_kv_vector)) {
            continue;
        }
        rc = tensor_table[role].is_vector
                 ? bind_vector(b, &l->vector[role], (enum tensor_role)role, layer, err)
                 : bind_matrix(b, &l->matrix[role], &l->factor[role], (enum tensor_role)role, layer,
                               false, err);
    }
    if (rc == 0) {
        l->scale = l->vector[ROLE_LAYER_SCALE][0];
    }
    return rc;
}

// model.md section 4.2: the exponent's denominator is the whole head size even where only a part
// rotates, and pairs that do not rotate have frequency 0.
static float *inverse_frequencies(struct binder *b, double theta, uint32_t head_dim, size_t n_pairs,
                                  struct carat_error *err)
{
    float *f = arena_take(&b->w->arena, n_pairs * sizeof(float), err);
    for (size_t i = 0; f && i < n_pairs; i++) {
        f[i] = (float)pow(theta, -2.0 * (double)i / (double)head_dim);
    }
    return f;
}

// GGUF tells which pairs of a full layer rotate by divisors: 1 for those that do, 1e30 for the
// rest.
static int apply_rope_divisors(struct binder *b, uint32_t head_dim, struct carat_error *err)
{
    struct weights *w = b->w;
    size_t n = head_dim / 2;
    const struct source_tensor *t = source_find(b->source, "rope_freqs.weight");
    if (!t || t->type != DTYPE_F32 || t->n_dims != 1 || t->dims[0] != n) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor 'rope_freqs.weight': expected %zu values of type F32, found %s",
                    source_path(b->source), n, t ? "another shape or type" : "no such tensor");
    }
    w->n_pairs_full = 0;
    for (size_t i = 0; i < n; i++) {
        float divisor = 0;
        memcpy(&divisor, t->data + i * sizeof(float), sizeof(float));
        if (!(divisor > 0)) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: tensor 'rope_freqs.weight': value %zu: expected more than 0, found %g",
                        source_path(b->source), i, (double)divisor);
        }
        w->rope_full[i] /= divisor;
        if (divisor < 1e20f) {
            w->n_pairs_full = i + 1;
        }
    }
    return 0;
}

static int bind_rope(struct binder *b, struct carat_error *err)
{
    const struct model_config *c = b->config;
    struct weights *w = b->w;
    uint32_t dims[2] = {0, 0}; // sliding, full
    for (uint32_t i = 0; i < c->n_layers; i++) {
        uint32_t *dim = &dims[c->layers[i].is_sliding ? 0 : 1];
        if (*dim != 0 && *dim != c->layers[i].head_dim) {
            return fail(
                err, CARAT_E_UNSUPPORTED,
                "%s: layer %u: expected head size %u as in the layers of its kind, found %u",
                source_path(b->source), i, *dim, c->layers[i].head_dim);
        }
        *dim = c->layers[i].head_dim;
    }
    w->n_pairs_sliding = dims[0] / 2;
    w->n_pairs_full = dims[1] / 2;
    w->rope_sliding = inverse_frequencies(b, c->rope_theta_sliding, dims[0], dims[0] / 2, err);
    w->rope_full = inverse_frequencies(b, c->rope_theta_full, dims[1], dims[1] / 2, err);
    if (!w->rope_sliding || !w->rope_full) {
        return CARAT_E_MEMORY;
    }
    if (dims[1] > 0 && c->rope_rotated == 0) {
        return apply_rope_divisors(b, dims[1], err);
    }
    w->n_pairs_full = (size_t)(c->rope_rotated * dims[1] / 2);
    return 0;
}

static int bind_all(struct binder *b, struct carat_error *err)
{
    struct weights *w = b->w;
    int rc = bind_matrix(b, &w->embed, &w->embed_factor, ROLE_EMBED, 0, false, err);
    if (rc) {
        return rc;
    }
    w->head = w->embed;
    w->head_factor = w->embed_factor;
    rc = bind_matrix(b, &w->head, &w->head_factor, ROLE_HEAD, 0, true, err);
    if (rc == 0) {
        rc = bind_vector(b, &w->norm, ROLE_NORM, 0, err);
    }
    for (size_t i = 0; rc == 0 && i < b->config->n_layers; i++) {
        rc = bind_layer(b, i, err);
    }
    if (rc == 0) {
        rc = bind_rope(b, err);
    }
    for (int type = 0; type < DTYPE_COUNT; type++) {
        if (b->params_by_type[type] > b->params_by_type[w->main_type]) {
            w->main_type = (enum dtype)type;
        }
    }
    return rc;
}

int weights_bind(struct weights *out, const struct model_config *config,
                 const struct source *source, struct carat_error *err)
{
    struct weights w = {0};
    struct binder b = {.w = &w, .config = config, .source = source, .prefix = find_prefix(source)};
    w.layers = arena_take(&w.arena, config->n_layers * sizeof(w.layers[0]), err);
    int rc = w.layers ? bind_all(&b, err) : CARAT_E_MEMORY;
    if (rc) {
        weights_release(&w);
        return rc;
    }
    w.copied_size = w.arena.taken;
    *out = w;
    return 0;
}

void weights_release(struct weights *w)
{
    arena_release(&w->arena);
}
