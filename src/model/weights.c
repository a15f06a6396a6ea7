// SPDX-License-Identifier: Apache-2.0
// Binds the tensors of a file to their roles. Names and shapes: docs/model.md, "Tensors".
#include "model/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/bind.h"

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

static struct tensor_shape role_shape(enum tensor_role role, const struct model_config *c,
                                      size_t layer)
{
    const struct layer_config *l = &c->layers[layer];
    uint64_t h = c->hidden_size;
    uint64_t q = (uint64_t)c->n_heads * l->head_dim;
    uint64_t kv = (uint64_t)l->n_kv_heads * l->head_dim;
    switch (role) {
    case ROLE_EMBED:
    case ROLE_HEAD:
        return (struct tensor_shape){0, c->n_vocab, h};
    case ROLE_Q:
        return (struct tensor_shape){0, q, h};
    case ROLE_K:
    case ROLE_V:
        return (struct tensor_shape){0, kv, h};
    case ROLE_O:
        return (struct tensor_shape){0, h, q};
    case ROLE_GATE:
    case ROLE_UP:
        return (struct tensor_shape){0, l->ffn_size, h};
    case ROLE_DOWN:
        return (struct tensor_shape){0, h, l->ffn_size};
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        return (struct tensor_shape){0, 1, l->head_dim};
    case ROLE_LAYER_SCALE:
        return (struct tensor_shape){0, 1, 1};
    case ROLE_NORM:
    case ROLE_ATTN_NORM:
    case ROLE_ATTN_POST_NORM:
    case ROLE_FFN_NORM:
    case ROLE_FFN_POST_NORM:
    case ROLE_COUNT:
        break;
    }
    return (struct tensor_shape){0, 1, h};
}

struct binder {
    struct weights *w;
    const struct model_config *config;
    struct tensor_binder tensors;
    const char *prefix; // of a checkpoint's names
    char name[TENSOR_NAME_SIZE];
};

void weights_name(char out[TENSOR_NAME_SIZE], enum tensor_role role, size_t layer,
                  const char *prefix)
{
    const struct tensor_info *info = &tensor_table[role];
    const char *name = prefix ? info->safetensors : info->gguf;
    // The head stands outside the decoder's prefix in a checkpoint.
    const char *before = prefix && role != ROLE_HEAD ? prefix : "";
    if (info->is_layer) {
        snprintf(out, TENSOR_NAME_SIZE, "%s%s.%zu.%s", before, prefix ? "layers" : "blk", layer,
                 name);
    } else {
        snprintf(out, TENSOR_NAME_SIZE, "%s%s", before, name);
    }
}

static const char *tensor_name(struct binder *b, enum tensor_role role, size_t layer)
{
    weights_name(b->name, role, layer, source_gguf(b->tensors.source) ? NULL : b->prefix);
    return b->name;
}

const char *weights_prefix(const struct source *source)
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

static int bind_role_matrix(struct binder *b, struct weight *out, float *factor,
                            enum tensor_role role, size_t layer, struct carat_error *err)
{
    return bind_matrix(&b->tensors, out, factor, tensor_name(b, role, layer),
                       role_shape(role, b->config, layer), err);
}

static int bind_role_vector(struct binder *b, const float **out, enum tensor_role role,
                            size_t layer, struct carat_error *err)
{
    return bind_vector(&b->tensors, out, tensor_name(b, role, layer),
                       role_shape(role, b->config, layer).columns, err);
}

static struct weight weight_rows(struct weight w, uint64_t first, uint64_t rows)
{
    w.data += first * w.row_size;
    w.rows = (size_t)rows;
    return w;
}

// Some converters write q, k and v as one matrix, in that order of rows.
static int bind_fused_qkv(struct binder *b, struct layer_weights *l, size_t layer, bool *found,
                          struct carat_error *err)
{
    *found = false;
    if (!source_gguf(b->tensors.source)) {
        return 0;
    }
    snprintf(b->name, sizeof(b->name), "blk.%zu.attn_qkv.weight", layer);
    if (!source_find(b->tensors.source, b->name)) {
        return 0;
    }
    struct tensor_shape q = role_shape(ROLE_Q, b->config, layer);
    struct tensor_shape kv = role_shape(ROLE_K, b->config, layer);
    struct tensor_shape want = {0, q.rows + kv.rows * (l->has_shared_kv_vector ? 1 : 2), q.columns};
    struct weight all;
    int rc = bind_matrix(&b->tensors, &all, &l->factor[ROLE_Q], b->name, want, err);
    if (rc) {
        return rc;
    }
    l->matrix[ROLE_Q] = weight_rows(all, 0, q.rows);
    l->matrix[ROLE_K] = weight_rows(all, q.rows, kv.rows);
    if (!l->has_shared_kv_vector) {
        l->matrix[ROLE_V] = weight_rows(all, q.rows + kv.rows, kv.rows);
    }
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
                 ? bind_role_vector(b, &l->vector[role], (enum tensor_role)role, layer, err)
                 : bind_role_matrix(b, &l->matrix[role], &l->factor[role], (enum tensor_role)role,
                                    layer, err);
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
    const struct source_tensor *t = source_find(b->tensors.source, "rope_freqs.weight");
    if (!t || t->type != DTYPE_F32 || t->n_dims != 1 || t->dims[0] != n) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor 'rope_freqs.weight': expected %zu values of type F32, found %s",
                    source_path(b->tensors.source), n,
                    t ? "another shape or type" : "no such tensor");
    }
    w->n_pairs_full = 0;
    for (size_t i = 0; i < n; i++) {
        float divisor = 0;
        memcpy(&divisor, t->data + i * sizeof(float), sizeof(float));
        if (!(divisor > 0)) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: tensor 'rope_freqs.weight': value %zu: expected more than 0, found %g",
                        source_path(b->tensors.source), i, (double)divisor);
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
                source_path(b->tensors.source), i, *dim, c->layers[i].head_dim);
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
    int rc = bind_role_matrix(b, &w->embed, &w->embed_factor, ROLE_EMBED, 0, err);
    if (rc) {
        return rc;
    }
    w->head = w->embed;
    w->head_factor = w->embed_factor;
    if (source_find(b->tensors.source, tensor_name(b, ROLE_HEAD, 0))) {
        rc = bind_role_matrix(b, &w->head, &w->head_factor, ROLE_HEAD, 0, err);
    }
    if (rc == 0) {
        rc = bind_role_vector(b, &w->norm, ROLE_NORM, 0, err);
    }
    for (size_t i = 0; rc == 0 && i < b->config->n_layers; i++) {
        rc = bind_layer(b, i, err);
    }
    if (rc == 0) {
        rc = bind_rope(b, err);
    }
    for (int type = 0; type < DTYPE_COUNT; type++) {
        if (b->tensors.params_by_type[type] > b->tensors.params_by_type[w->main_type]) {
            w->main_type = (enum dtype)type;
        }
    }
    return rc;
}

int weights_bind(struct weights *out, const struct model_config *config,
                 const struct source *source, struct carat_error *err)
{
    struct weights w = {0};
    struct binder b = {.w = &w,
                       .config = config,
                       .tensors = {.source = source, .arena = &w.arena},
                       .prefix = weights_prefix(source)};
    w.layers = arena_take(&w.arena, config->n_layers * sizeof(w.layers[0]), err);
    w.n_layers = config->n_layers;
    int rc = w.layers ? bind_all(&b, err) : CARAT_E_MEMORY;
    if (rc) {
        weights_release(&w);
        return rc;
    }
    w.file_size = b.tensors.file_size;
    w.vector_size = b.tensors.vector_size;
    w.packed_size = b.tensors.packed_size;
    w.n_parameters = b.tensors.n_parameters;
    w.copied_size = w.arena.taken;
    *out = w;
    return 0;
}

void weights_release(struct weights *w)
{
    arena_release(&w->arena);
}
