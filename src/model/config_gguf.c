// SPDX-License-Identifier: Apache-2.0
// Hyper-parameters from GGUF keys. The list of keys: docs/formats.md.
#include "model/config_read.h"

#include <math.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"

// Keys have one prefix; the buffer outlives each look-up.
struct gguf_keys {
    const struct source *source;
    const struct gguf *g;
    const char *file;
    char key[96];
};

static const char *full_key(struct gguf_keys *k, const char *name)
{
    snprintf(k->key, sizeof(k->key), "gemma4.%s", name);
    return k->key;
}

static int gguf_u32(struct gguf_keys *k, const char *name, uint64_t max, uint32_t *out,
                    struct carat_error *err)
{
    uint64_t value = 0;
    const char *key = full_key(k, name);
    int rc = gguf_get_u64(k->g, key, &value, err);
    if (rc < 0) {
        return rc;
    }
    if (rc == 1) {
        return config_missing(k->file, key, err);
    }
    rc = config_check_range(k->file, key, value, max, err);
    if (rc == 0) {
        *out = (uint32_t)value;
    }
    return rc;
}

static int gguf_float(struct gguf_keys *k, const char *name, double otherwise, double *out,
                      struct carat_error *err)
{
    *out = otherwise;
    int rc = gguf_get_f64(k->g, full_key(k, name), out, err);
    if (rc < 0) {
        return rc;
    }
    if (!isfinite(*out) || *out < 0) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected a number of at least 0, found %g",
                    k->file, k->key, *out);
    }
    return 0;
}

// A value per layer: one integer for all, or an array of n_layers.
static int gguf_per_layer(struct gguf_keys *k, const char *name, uint64_t max, uint32_t *out,
                          uint32_t n_layers, struct carat_error *err)
{
    const char *key = full_key(k, name);
    struct gguf_array array;
    struct carat_error not_array = {0};
    int rc = gguf_get_array(k->g, key, &array, &not_array);
    if (rc == 1) {
        return config_missing(k->file, key, err);
    }
    if (rc < 0) {
        uint32_t value = 0;
        rc = gguf_u32(k, name, max, &value, err);
        for (uint32_t i = 0; rc == 0 && i < n_layers; i++) {
            out[i] = value;
        }
        return rc;
    }
    if (array.count != n_layers || array.type == GGUF_STRING || array.type == GGUF_F32 ||
        array.type == GGUF_F64 || array.type == GGUF_ARRAY) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: %s: expected an integer or %u integers, one per layer, found %llu values",
                    k->file, key, n_layers, (unsigned long long)array.count);
    }
    for (uint32_t i = 0; i < n_layers; i++) {
        int64_t value = gguf_array_next_i64(&array);
        if (array.type == GGUF_BOOL) {
            out[i] = value != 0;
            continue;
        }
        rc = config_check_range(k->file, key, (uint64_t)value, max, err);
        if (rc) {
            return rc;
        }
        out[i] = (uint32_t)value;
    }
    return 0;
}

static bool gguf_positive(struct gguf_keys *k, const char *name)
{
    uint64_t value = 0;
    return gguf_get_u64(k->g, full_key(k, name), &value, NULL) == 0 && value > 0;
}

static int gguf_refuse_other_members(struct gguf_keys *k, struct carat_error *err)
{
    struct slice arch = {0};
    int rc = gguf_get_string(k->g, "general.architecture", &arch, err);
    if (rc < 0) {
        return rc;
    }
    if (rc == 1) {
        return config_missing(k->file, "general.architecture", err);
    }
    struct slice type = {0};
    if (gguf_get_string(k->g, "general.type", &type, NULL) == 0 && slice_is(type, "adapter")) {
        return fail(
            err, CARAT_E_UNSUPPORTED,
            "%s: this file holds an adapter (LoRA), not a model; give the model it was made for",
            k->file);
    }
    if (slice_is(arch, "clip") || slice_is(arch, "gemma4-assistant")) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: this file holds %s, not a decoder; give the model's own GGUF file",
                    k->file,
                    slice_is(arch, "clip") ? "image and audio projections (mmproj)" : "a drafter");
    }
    if (!slice_is(arch, "gemma4")) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: general.architecture: expected \"gemma4\", found \"%.*s\"; carat runs "
                    "Gemma 4 models only",
                    k->file, (int)(arch.size > 64 ? 64 : arch.size), arch.data);
    }
    if (gguf_positive(k, "expert_count")) {
        return config_unsupported(k->file, "experts (26B-A4B)", err);
    }
    if (gguf_positive(k, "embedding_length_per_layer_input")) {
        return config_unsupported(k->file, "per-layer embeddings (E2B, E4B)", err);
    }
    if (gguf_positive(k, "attention.shared_kv_layers")) {
        return config_unsupported(k->file, "layers that share keys and values (E2B, E4B)", err);
    }
    return 0;
}

static int gguf_layers(struct model_config *c, struct gguf_keys *k, struct carat_error *err)
{
    uint32_t n = c->n_layers;
    uint32_t full_dim = 0;
    uint32_t sliding_dim = 0;
    uint32_t *rows = mem_new_array(n, 3 * sizeof(uint32_t), err);
    int rc = rows ? config_new_layers(c, err) : CARAT_E_MEMORY;
    if (rc) {
        goto out;
    }
    rc = gguf_per_layer(k, "attention.sliding_window_pattern", 1, rows, n, err);
    if (rc) {
        goto out;
    }
    rc = gguf_per_layer(k, "attention.head_count_kv", CONFIG_HEADS_MAX, rows + n, n, err);
    if (rc) {
        goto out;
    }
    rc = gguf_per_layer(k, "feed_forward_length", CONFIG_WIDTH_MAX, rows + 2 * n, n, err);
    if (rc) {
        goto out;
    }
    rc = gguf_u32(k, "attention.key_length", CONFIG_HEAD_DIM_MAX, &full_dim, err);
    if (rc) {
        goto out;
    }
    rc = gguf_u32(k, "attention.key_length_swa", CONFIG_HEAD_DIM_MAX, &sliding_dim, err);
    if (rc) {
        goto out;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct layer_config *layer = &c->layers[i];
        char name[48];
        snprintf(name, sizeof(name), "blk.%u.attn_v.weight", i);
        bool has_v = source_find(k->source, name) != NULL;
        snprintf(name, sizeof(name), "blk.%u.attn_qkv.weight", i);
        layer->is_sliding = rows[i] != 0;
        layer->n_kv_heads = rows[n + i];
        layer->ffn_size = rows[2 * n + i];
        layer->head_dim = layer->is_sliding ? sliding_dim : full_dim;
        // No key says it: a full layer without a value matrix uses the key as value.
        layer->has_shared_kv_vector = !layer->is_sliding && !has_v && !source_find(k->source, name);
    }
out:
    mem_free(rows);
    return rc;
}

static int gguf_id_array(struct id_list *list, struct gguf_keys *k, const char *key,
                         struct carat_error *err)
{
    if (!gguf_has(k->g, key)) {
        return 0;
    }
    struct gguf_array array;
    int rc = gguf_get_array(k->g, key, &array, err);
    if (rc) {
        return rc;
    }
    if (array.count > CONFIG_IDS_MAX || array.type == GGUF_STRING || array.type == GGUF_ARRAY) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected at most %d token ids, found %llu values",
                    k->file, key, CONFIG_IDS_MAX, (unsigned long long)array.count);
    }
    for (uint64_t i = 0; i < array.count; i++) {
        id_list_add(list, gguf_array_next_i64(&array));
    }
    return 0;
}

static int gguf_generation(struct model_config *c, struct gguf_keys *k, struct carat_error *err)
{
    static const char *const single[] = {"tokenizer.ggml.eos_token_id",
                                         "tokenizer.ggml.eot_token_id",
                                         "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < sizeof(single) / sizeof(single[0]); i++) {
        uint64_t id = 0;
        int rc = gguf_get_u64(k->g, single[i], &id, err);
        if (rc < 0) {
            return rc;
        }
        if (rc == 0 && id < CONFIG_VOCAB_MAX) {
            id_list_add(&c->stops, (int64_t)id);
        }
    }
    int rc = gguf_id_array(&c->stops, k, "tokenizer.ggml.eos_token_ids", err);
    if (rc) {
        return rc;
    }
    rc = gguf_id_array(&c->suppressed, k, "tokenizer.ggml.suppress_tokens", err);
    if (rc) {
        return rc;
    }
    uint64_t top_k = 0;
    double value = 0;
    if (gguf_get_u64(k->g, "general.sampling.top_k", &top_k, NULL) == 0 &&
        top_k <= CONFIG_VOCAB_MAX) {
        c->sampling.top_k = (size_t)top_k;
    }
    if (gguf_get_f64(k->g, "general.sampling.top_p", &value, NULL) == 0 && value > 0 &&
        value <= 1) {
        c->sampling.top_p = (float)value;
    }
    if (gguf_get_f64(k->g, "general.sampling.min_p", &value, NULL) == 0 && value >= 0 &&
        value <= 1) {
        c->sampling.min_p = (float)value;
    }
    if (gguf_get_f64(k->g, "general.sampling.temp", &value, NULL) == 0 && value >= 0 &&
        value <= 100) {
        c->sampling.temperature = (float)value;
    }
    return 0;
}

static int gguf_vocab(struct model_config *c, struct gguf_keys *k, struct carat_error *err)
{
    const struct source_tensor *embed = source_find(k->source, "token_embd.weight");
    if (!embed || embed->n_dims != 2) {
        return fail(err, CARAT_E_FORMAT, "%s: tensor 'token_embd.weight' %s", k->file,
                    embed ? "does not have two dimensions"
                          : "is missing: the file holds no model, only a vocabulary or metadata");
    }
    int rc = config_check_range(k->file, "rows of token_embd.weight", embed->dims[0],
                                CONFIG_VOCAB_MAX, err);
    if (rc == 0) {
        c->n_vocab = (uint32_t)embed->dims[0];
    }
    return rc;
}

int config_read_gguf(struct model_config *c, const struct source *source, struct carat_error *err)
{
    struct gguf_keys k = {.source = source, .g = source_gguf(source), .file = source_path(source)};
    int rc = gguf_refuse_other_members(&k, err);
    for (size_t i = 0; rc == 0 && i < N_CONFIG_KEYS; i++) {
        uint32_t *field = (uint32_t *)(void *)((char *)c + config_keys[i].offset);
        rc = gguf_u32(&k, config_keys[i].gguf, config_keys[i].max, field, err);
    }
    double eps = 0;
    double softcap = 0;
    if (rc == 0) {
        rc = gguf_vocab(c, &k, err);
    }
    if (rc == 0) {
        rc = gguf_layers(c, &k, err);
    }
    if (rc == 0) {
        rc = gguf_float(&k, "attention.layer_norm_rms_epsilon", 1e-6, &eps, err);
    }
    if (rc == 0) {
        rc = gguf_float(&k, "final_logit_softcapping", 0, &softcap, err);
    }
    if (rc == 0) {
        rc = gguf_float(&k, "rope.freq_base", 1e6, &c->rope_theta_full, err);
    }
    if (rc == 0) {
        rc = gguf_float(&k, "rope.freq_base_swa", 1e4, &c->rope_theta_sliding, err);
    }
    if (rc == 0) {
        rc = gguf_generation(c, &k, err);
    }
    c->norm_eps = (float)eps;
    c->softcap = (float)softcap;
    c->pictures_see_ahead = true; // no key says it; all members with such layer shapes do
    c->is_unified = true;
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) {
        c->is_unified = c->is_unified && (c->layers[i].is_sliding || c->layers[i].n_kv_heads == 1);
    }
    return rc;
}
