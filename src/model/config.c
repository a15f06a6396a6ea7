// SPDX-License-Identifier: Apache-2.0
// Reads and checks hyper-parameters. One table lists the scalar fields with their GGUF key and
// their config.json path; what differs in form between the two (layer kinds, heads per layer, rope)
// is read by a function for each.
#include "model/config.h"

#include <math.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"

struct config_key {
    const char *gguf; // below "gemma4."
    const char *json; // below "text_config." or at top level
    size_t offset;    // of a uint32_t in struct model_config
    uint64_t max;
};

static const struct config_key config_keys[] = {
    {"block_count", "num_hidden_layers", offsetof(struct model_config, n_layers),
     CONFIG_LAYERS_MAX},
    {"embedding_length", "hidden_size", offsetof(struct model_config, hidden_size),
     CONFIG_WIDTH_MAX},
    {"attention.head_count", "num_attention_heads", offsetof(struct model_config, n_heads),
     CONFIG_HEADS_MAX},
    {"context_length", "max_position_embeddings", offsetof(struct model_config, context_max),
     CONFIG_CONTEXT_MAX},
    {"attention.sliding_window", "sliding_window", offsetof(struct model_config, window),
     CONFIG_CONTEXT_MAX},
};
#define N_CONFIG_KEYS (sizeof(config_keys) / sizeof(config_keys[0]))

static int check_range(const char *file, const char *key, uint64_t value, uint64_t max,
                       struct carat_error *err)
{
    if (value < 1 || value > max) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected 1 to %llu, found %llu", file, key,
                    (unsigned long long)max, (unsigned long long)value);
    }
    return 0;
}

static int missing(const char *file, const char *key, struct carat_error *err)
{
    return fail(err, CARAT_E_FORMAT, "%s: required key '%s' is missing", file, key);
}

static int unsupported(const char *file, const char *what, struct carat_error *err)
{
    return fail(err, CARAT_E_UNSUPPORTED,
                "%s: this Gemma 4 model uses %s, which this version of carat does not run", file,
                what);
}

static int new_layers(struct model_config *c, struct carat_error *err)
{
    c->layers = mem_new_array(c->n_layers, sizeof(c->layers[0]), err);
    return c->layers ? 0 : CARAT_E_MEMORY;
}

static void add_id(struct id_list *list, int64_t id)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->ids[i] == id) {
            return;
        }
    }
    if (id >= 0 && id < CONFIG_VOCAB_MAX && list->count < CONFIG_IDS_MAX) {
        list->ids[list->count++] = (carat_token)id;
    }
}

// The recommendation for every size, model.md section 8.
static void set_sampling_defaults(struct carat_sampling *s)
{
    s->temperature = 1.0f;
    s->top_k = 64;
    s->top_p = 0.95f;
    s->repetition_penalty = 1.0f;
}

// ------------------------------------------------------------------------------------------- GGUF

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
        return missing(k->file, key, err);
    }
    rc = check_range(k->file, key, value, max, err);
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

// A value per layer: one integer for all, or an array of n_layers. get: (context, layer, value).
static int gguf_per_layer(struct gguf_keys *k, const char *name, uint64_t max, uint32_t *out,
                          uint32_t n_layers, struct carat_error *err)
{
    const char *key = full_key(k, name);
    struct gguf_array array;
    struct carat_error not_array = {0};
    int rc = gguf_get_array(k->g, key, &array, &not_array);
    if (rc == 1) {
        return missing(k->file, key, err);
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
        rc = check_range(k->file, key, (uint64_t)value, max, err);
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
        return missing(k->file, "general.architecture", err);
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
        return unsupported(k->file, "experts (26B-A4B)", err);
    }
    if (gguf_positive(k, "embedding_length_per_layer_input")) {
        return unsupported(k->file, "per-layer embeddings (E2B, E4B)", err);
    }
    if (gguf_positive(k, "attention.shared_kv_layers")) {
        return unsupported(k->file, "layers that share keys and values (E2B, E4B)", err);
    }
    return 0;
}

static int gguf_layers(struct model_config *c, struct gguf_keys *k, struct carat_error *err)
{
    uint32_t n = c->n_layers;
    uint32_t full_dim = 0;
    uint32_t sliding_dim = 0;
    uint32_t *rows = mem_new_array(n, 3 * sizeof(uint32_t), err);
    int rc = rows ? new_layers(c, err) : CARAT_E_MEMORY;
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
        add_id(list, gguf_array_next_i64(&array));
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
            add_id(&c->stops, (int64_t)id);
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
    int rc =
        check_range(k->file, "rows of token_embd.weight", embed->dims[0], CONFIG_VOCAB_MAX, err);
    if (rc == 0) {
        c->n_vocab = (uint32_t)embed->dims[0];
    }
    return rc;
}

static int read_gguf(struct model_config *c, const struct source *source, struct carat_error *err)
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
    c->is_unified = true;
    for (uint32_t i = 0; rc == 0 && i < c->n_layers; i++) {
        c->is_unified = c->is_unified && (c->layers[i].is_sliding || c->layers[i].n_kv_heads == 1);
    }
    return rc;
}

// ------------------------------------------------------------------------------------ config.json

struct json_keys {
    const struct json_doc *doc;
    const char *file;
    const char *prefix; // "text_config." or ""
    char path[160];
};

static const char *json_path(struct json_keys *k, const char *name)
{
    snprintf(k->path, sizeof(k->path), "%s%s", k->prefix, name);
    return k->path;
}

// Absent: *out gets `otherwise` when that is not 0, else an error.
static int json_u32(struct json_keys *k, const char *name, uint64_t max, uint64_t otherwise,
                    uint32_t *out, struct carat_error *err)
{
    uint64_t value = otherwise;
    const char *path = json_path(k, name);
    int rc = json_get_u64(k->doc, path, &value, err);
    if (rc < 0) {
        return rc;
    }
    if (rc == 1 && otherwise == 0) {
        return missing(k->file, path, err);
    }
    rc = check_range(k->file, path, value, max, err);
    if (rc == 0) {
        *out = (uint32_t)value;
    }
    return rc;
}

static int json_float(struct json_keys *k, const char *name, double otherwise, double *out,
                      struct carat_error *err)
{
    *out = otherwise;
    int rc = json_get_f64(k->doc, json_path(k, name), out, err);
    if (rc < 0) {
        return rc;
    }
    if (!isfinite(*out) || *out < 0) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected a number of at least 0, found %g",
                    k->file, k->path, *out);
    }
    return 0;
}

static bool json_flag(struct json_keys *k, const char *name)
{
    return json_bool(json_at(k->doc, json_path(k, name)));
}

static bool json_positive(struct json_keys *k, const char *name)
{
    uint64_t value = 0;
    return json_u64(json_at(k->doc, json_path(k, name)), &value) && value > 0;
}

static int json_refuse_other_members(struct model_config *c, struct json_keys *k,
                                     struct carat_error *err)
{
    struct slice type = json_string(json_at(k->doc, "model_type"));
    c->is_unified = slice_starts(type, "gemma4_unified");
    if (slice_ends(type, "_assistant")) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: this is a drafter, not a model of its own",
                    k->file);
    }
    if (!slice_is(type, "gemma4") && !slice_is(type, "gemma4_text") &&
        !slice_is(type, "gemma4_unified") && !slice_is(type, "gemma4_unified_text")) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: model_type: expected \"gemma4\" or \"gemma4_unified\", found \"%.*s\"; "
                    "carat runs Gemma 4 models only",
                    k->file, (int)(type.size > 64 ? 64 : type.size), type.data ? type.data : "");
    }
    if (json_flag(k, "enable_moe_block")) {
        return unsupported(k->file, "experts (26B-A4B)", err);
    }
    if (json_positive(k, "hidden_size_per_layer_input")) {
        return unsupported(k->file, "per-layer embeddings (E2B, E4B)", err);
    }
    if (json_positive(k, "num_kv_shared_layers")) {
        return unsupported(k->file, "layers that share keys and values (E2B, E4B)", err);
    }
    struct slice act = json_string(json_at(k->doc, json_path(k, "hidden_activation")));
    if (act.size > 0 && !slice_is(act, "gelu_pytorch_tanh")) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: %s: expected \"gelu_pytorch_tanh\", found \"%.*s\"", k->file, k->path,
                    (int)(act.size > 64 ? 64 : act.size), act.data);
    }
    if (json_flag(k, "attention_bias")) {
        return unsupported(k->file, "biases in attention", err);
    }
    return 0;
}

// layer_types when it is there; else every 6th layer is full, and the last one is. model.md
// section 9.
static int json_layer_kinds(struct model_config *c, struct json_keys *k, struct carat_error *err)
{
    const struct json_value *types = json_at(k->doc, json_path(k, "layer_types"));
    if (json_kind(types) == JSON_ABSENT || json_kind(types) == JSON_NULL) {
        for (uint32_t i = 0; i < c->n_layers; i++) {
            c->layers[i].is_sliding = (i + 1) % 6 != 0 && i + 1 < c->n_layers;
        }
        return 0;
    }
    if (json_kind(types) != JSON_ARRAY || json_count(types) != c->n_layers) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected %u strings, found %s of %zu", k->file,
                    k->path, c->n_layers, json_kind_name(json_kind(types)), json_count(types));
    }
    size_t i = 0;
    struct json_iter it = json_iter(types);
    for (; json_next(&it); i++) {
        struct slice kind = json_string(it.value);
        c->layers[i].is_sliding = slice_is(kind, "sliding_attention");
        if (!c->layers[i].is_sliding && !slice_is(kind, "full_attention")) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: %s[%zu]: expected \"sliding_attention\" or \"full_attention\", found "
                        "\"%.*s\"",
                        k->file, k->path, i, (int)(kind.size > 64 ? 64 : kind.size),
                        kind.data ? kind.data : "");
        }
    }
    return 0;
}

// The newer form of what differs between layers: {"5": {"head_dim": 512, "num_key_value_heads":
// 1}}.
static int json_layer_exceptions(struct model_config *c, struct json_keys *k,
                                 struct carat_error *err)
{
    const struct json_value *table = json_at(k->doc, json_path(k, "per_layer_config"));
    struct json_iter it = json_iter(table);
    while (json_kind(table) == JSON_OBJECT && json_next(&it)) {
        uint64_t layer = 0;
        bool is_number = it.key.size > 0 && it.key.size < 6;
        for (size_t i = 0; is_number && i < it.key.size; i++) {
            is_number = it.key.data[i] >= '0' && it.key.data[i] <= '9';
            layer = layer * 10 + (uint64_t)(it.key.data[i] - '0');
        }
        if (!is_number || layer >= c->n_layers) {
            return fail(err, CARAT_E_FORMAT, "%s: %s: expected layer numbers below %u as keys",
                        k->file, k->path, c->n_layers);
        }
        uint64_t dim = c->layers[layer].head_dim;
        uint64_t heads = c->layers[layer].n_kv_heads;
        json_u64(json_get(it.value, "head_dim"), &dim);
        json_u64(json_get(it.value, "num_key_value_heads"), &heads);
        int rc = check_range(k->file, "per_layer_config head_dim", dim, CONFIG_HEAD_DIM_MAX, err);
        if (rc == 0) {
            rc = check_range(k->file, "per_layer_config num_key_value_heads", heads,
                             CONFIG_HEADS_MAX, err);
        }
        if (rc) {
            return rc;
        }
        c->layers[layer].head_dim = (uint32_t)dim;
        c->layers[layer].n_kv_heads = (uint32_t)heads;
    }
    return 0;
}

static int json_layers(struct model_config *c, struct json_keys *k, struct carat_error *err)
{
    uint32_t dim = 0;
    uint32_t full_dim = 0;
    uint32_t kv = 0;
    uint32_t full_kv = 0;
    uint32_t ffn = 0;
    int rc = new_layers(c, err);
    if (rc == 0) {
        rc = json_u32(k, "head_dim", CONFIG_HEAD_DIM_MAX, 0, &dim, err);
    }
    if (rc == 0) {
        rc = json_u32(k, "global_head_dim", CONFIG_HEAD_DIM_MAX, dim, &full_dim, err);
    }
    if (rc == 0) {
        rc = json_u32(k, "num_key_value_heads", CONFIG_HEADS_MAX, 0, &kv, err);
    }
    if (rc == 0) {
        rc = json_u32(k, "num_global_key_value_heads", CONFIG_HEADS_MAX, kv, &full_kv, err);
    }
    if (rc == 0) {
        rc = json_u32(k, "intermediate_size", CONFIG_WIDTH_MAX, 0, &ffn, err);
    }
    if (rc == 0) {
        rc = json_layer_kinds(c, k, err);
    }
    if (rc) {
        return rc;
    }
    bool is_shared = json_flag(k, "attention_k_eq_v");
    for (uint32_t i = 0; i < c->n_layers; i++) {
        struct layer_config *layer = &c->layers[i];
        layer->head_dim = layer->is_sliding ? dim : full_dim;
        // The global count applies only where key and value are one: model.md section 4.1.
        layer->n_kv_heads = !layer->is_sliding && is_shared ? full_kv : kv;
        layer->has_shared_kv_vector = !layer->is_sliding && is_shared;
        layer->ffn_size = ffn;
    }
    return json_layer_exceptions(c, k, err);
}

static int json_rope(struct model_config *c, struct json_keys *k, struct carat_error *err)
{
    double rotated = 0;
    int rc =
        json_float(k, "rope_parameters.full_attention.rope_theta", 1e6, &c->rope_theta_full, err);
    if (rc == 0) {
        rc = json_float(k, "rope_parameters.sliding_attention.rope_theta", 1e4,
                        &c->rope_theta_sliding, err);
    }
    if (rc == 0) {
        rc = json_float(k, "rope_parameters.full_attention.partial_rotary_factor", 0.25, &rotated,
                        err);
    }
    if (rc) {
        return rc;
    }
    struct slice type =
        json_string(json_at(k->doc, json_path(k, "rope_parameters.full_attention.rope_type")));
    bool is_plain = slice_is(type, "default");
    if (type.size > 0 && !is_plain && !slice_is(type, "proportional")) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: %s: expected \"proportional\" or \"default\", found \"%.*s\"", k->file,
                    k->path, (int)(type.size > 64 ? 64 : type.size), type.data);
    }
    if (rotated <= 0 || rotated > 1) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: partial_rotary_factor: expected more than 0, at most 1, found %g", k->file,
                    rotated);
    }
    c->rope_rotated = is_plain ? 1 : rotated;
    return 0;
}

// An id or a list of ids.
static int json_ids(struct id_list *list, const struct json_value *value, const char *file,
                    const char *key, struct carat_error *err)
{
    int64_t id = 0;
    if (json_kind(value) == JSON_ABSENT || json_kind(value) == JSON_NULL) {
        return 0;
    }
    if (json_kind(value) == JSON_NUMBER && json_i64(value, &id)) {
        add_id(list, id);
        return 0;
    }
    bool is_good = json_kind(value) == JSON_ARRAY && json_count(value) <= CONFIG_IDS_MAX;
    struct json_iter it = json_iter(value);
    while (is_good && json_next(&it)) {
        is_good = json_i64(it.value, &id);
        add_id(list, id);
    }
    if (!is_good) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected a token id or a list of at most %d",
                    file, key, CONFIG_IDS_MAX);
    }
    return 0;
}

static int json_generation(struct model_config *c, struct json_keys *k, const struct source *source,
                           struct carat_error *err)
{
    int rc = json_ids(&c->stops, json_at(k->doc, json_path(k, "eos_token_id")), k->file,
                      "eos_token_id", err);
    if (rc == 0) {
        rc = json_ids(&c->stops, json_at(k->doc, "eos_token_id"), k->file, "eos_token_id", err);
    }
    const struct json_doc *doc = source_generation_config(source);
    if (rc || !doc) {
        return rc;
    }
    const struct json_value *root = json_root(doc);
    rc = json_ids(&c->stops, json_get(root, "eos_token_id"), "generation_config.json",
                  "eos_token_id", err);
    if (rc == 0) {
        rc = json_ids(&c->suppressed, json_get(root, "suppress_tokens"), "generation_config.json",
                      "suppress_tokens", err);
    }
    struct carat_sampling *s = &c->sampling;
    uint64_t top_k = 0;
    if (json_u64(json_get(root, "top_k"), &top_k) && top_k <= CONFIG_VOCAB_MAX) {
        s->top_k = (size_t)top_k;
    }
    double top_p = json_double(json_get(root, "top_p"));
    double min_p = json_double(json_get(root, "min_p"));
    double temperature = json_double(json_get(root, "temperature"));
    double penalty = json_double(json_get(root, "repetition_penalty"));
    s->top_p = top_p > 0 && top_p <= 1 ? (float)top_p : s->top_p;
    s->min_p = min_p > 0 && min_p <= 1 ? (float)min_p : s->min_p;
    s->temperature = temperature > 0 && temperature <= 100 ? (float)temperature : s->temperature;
    s->repetition_penalty = penalty > 0 && penalty <= 100 ? (float)penalty : s->repetition_penalty;
    const struct json_value *samples = json_get(root, "do_sample");
    if (json_kind(samples) == JSON_BOOL && !json_bool(samples)) {
        s->temperature = 0;
    }
    return rc;
}

static int read_json(struct model_config *c, const struct source *source, struct carat_error *err)
{
    const struct json_doc *doc = source_config(source);
    bool is_nested = json_kind(json_at(doc, "text_config")) == JSON_OBJECT;
    struct json_keys k = {
        .doc = doc, .file = "config.json", .prefix = is_nested ? "text_config." : ""};
    int rc = json_refuse_other_members(c, &k, err);
    for (size_t i = 0; rc == 0 && i < N_CONFIG_KEYS; i++) {
        uint32_t *field = (uint32_t *)(void *)((char *)c + config_keys[i].offset);
        rc = json_u32(&k, config_keys[i].json, config_keys[i].max, 0, field, err);
    }
    if (rc == 0) {
        rc = json_u32(&k, "vocab_size", CONFIG_VOCAB_MAX, 0, &c->n_vocab, err);
    }
    if (rc == 0) {
        rc = json_layers(c, &k, err);
    }
    double eps = 0;
    double softcap = 0;
    if (rc == 0) {
        rc = json_float(&k, "rms_norm_eps", 1e-6, &eps, err);
    }
    if (rc == 0) {
        rc = json_float(&k, "final_logit_softcapping", 0, &softcap, err);
    }
    if (rc == 0) {
        rc = json_rope(c, &k, err);
    }
    if (rc == 0) {
        rc = json_generation(c, &k, source, err);
    }
    c->norm_eps = (float)eps;
    c->softcap = (float)softcap;
    return rc;
}

// ------------------------------------------------------------------------------------------- both

static int check_layers(const struct model_config *c, const char *file, struct carat_error *err)
{
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const struct layer_config *l = &c->layers[i];
        uint64_t q_size = (uint64_t)c->n_heads * l->head_dim;
        if (l->head_dim % 2 != 0) {
            return fail(err, CARAT_E_FORMAT, "%s: layer %u: expected an even head size, found %u",
                        file, i, l->head_dim);
        }
        if (c->n_heads % l->n_kv_heads != 0) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: layer %u: %u query heads are not a multiple of %u key heads", file, i,
                        c->n_heads, l->n_kv_heads);
        }
        if (q_size > CONFIG_WIDTH_MAX) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: layer %u: heads times head size: expected at most %u, found %llu",
                        file, i, CONFIG_WIDTH_MAX, (unsigned long long)q_size);
        }
    }
    return 0;
}

int config_read(struct model_config *out, const struct source *source, struct carat_error *err)
{
    struct model_config c = {0};
    set_sampling_defaults(&c.sampling);
    int rc = source_gguf(source) ? read_gguf(&c, source, err) : read_json(&c, source, err);
    if (rc == 0) {
        rc = check_layers(&c, source_path(source), err);
    }
    if (rc) {
        config_release(&c);
        return rc;
    }
    *out = c;
    return 0;
}

void config_release(struct model_config *config)
{
    mem_free(config->layers);
    config->layers = NULL;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

struct config_extent config_extent(const struct model_config *config)
{
    struct config_extent e = {0};
    for (uint32_t i = 0; i < config->n_layers; i++) {
        const struct layer_config *l = &config->layers[i];
        e.head_dim = larger(e.head_dim, l->head_dim);
        e.q_size = larger(e.q_size, config->n_heads * l->head_dim);
        e.kv_size = larger(e.kv_size, l->n_kv_heads * l->head_dim);
        e.ffn_size = larger(e.ffn_size, l->ffn_size);
    }
    return e;
}
