// SPDX-License-Identifier: Apache-2.0
// Hyper-parameters from config.json and generation_config.json, in the published form and in the
// one that newer tools write (per_layer_config).
#include "model/config_read.h"

#include <math.h>
#include <stdio.h>

#include "base/error.h"

struct json_keys {
    const struct json_doc *doc;
    const char *file;
    const char *prefix; // "text_config." or ""
    char path[160];
    char file_text[512];
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
        return config_missing(k->file, path, err);
    }
    rc = config_check_range(k->file, path, value, max, err);
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

// Absent: false.
static int json_flag(struct json_keys *k, const char *name, bool *out, struct carat_error *err)
{
    *out = false;
    int rc = json_get_bool(k->doc, json_path(k, name), out, err);
    return rc < 0 ? rc : 0;
}

// What this version does not run is refused when its key says that the model has it.
static int json_refuse_flag(struct json_keys *k, const char *name, const char *what,
                            struct carat_error *err)
{
    bool is_set = false;
    int rc = json_flag(k, name, &is_set, err);
    return rc == 0 && is_set ? config_unsupported(k->file, what, err) : rc;
}

static int json_refuse_count(struct json_keys *k, const char *name, const char *what,
                             struct carat_error *err)
{
    uint64_t value = 0;
    int rc = json_get_u64(k->doc, json_path(k, name), &value, err);
    return rc >= 0 && value > 0 ? config_unsupported(k->file, what, err) : rc < 0 ? rc : 0;
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
    int rc = json_refuse_flag(k, "enable_moe_block", "experts (26B-A4B)", err);
    if (rc == 0) {
        rc = json_refuse_count(k, "hidden_size_per_layer_input", "per-layer embeddings (E2B, E4B)",
                               err);
    }
    if (rc == 0) {
        rc = json_refuse_count(k, "num_kv_shared_layers",
                               "layers that share keys and values (E2B, E4B)", err);
    }
    if (rc == 0) {
        rc = json_refuse_flag(k, "attention_bias", "biases in attention", err);
    }
    if (rc) {
        return rc;
    }
    struct slice act = json_string(json_at(k->doc, json_path(k, "hidden_activation")));
    if (act.size > 0 && !slice_is(act, "gelu_pytorch_tanh")) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: %s: expected \"gelu_pytorch_tanh\", found \"%.*s\"", k->file, k->path,
                    (int)(act.size > 64 ? 64 : act.size), act.data);
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
        int rc =
            config_check_range(k->file, "per_layer_config head_dim", dim, CONFIG_HEAD_DIM_MAX, err);
        if (rc == 0) {
            rc = config_check_range(k->file, "per_layer_config num_key_value_heads", heads,
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
    int rc = config_new_layers(c, err);
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
    bool is_shared = false;
    if (rc == 0) {
        rc = json_flag(k, "attention_k_eq_v", &is_shared, err);
    }
    if (rc == 0) {
        rc = json_layer_kinds(c, k, err);
    }
    if (rc) {
        return rc;
    }
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

// model.md section 4.4. A file that does not say is taken as the published ones are.
static int json_sight(struct model_config *c, struct json_keys *k, struct carat_error *err)
{
    const struct json_value *v = json_at(k->doc, json_path(k, "use_bidirectional_attention"));
    bool is_off = json_kind(v) == JSON_NULL || (json_kind(v) == JSON_BOOL && !json_bool(v));
    struct slice text = json_string(v);
    if (!is_off && json_kind(v) != JSON_ABSENT && !slice_is(text, "vision")) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: %s: expected \"vision\" or null, found %s%.*s",
                    k->file, k->path, text.size > 0 ? "" : json_kind_name(json_kind(v)),
                    (int)(text.size > 64 ? 64 : text.size), text.size > 0 ? text.data : "");
    }
    c->pictures_see_ahead = !is_off;
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
        id_list_add(list, id);
        return 0;
    }
    bool is_good = json_kind(value) == JSON_ARRAY && json_count(value) <= CONFIG_IDS_MAX;
    struct json_iter it = json_iter(value);
    while (is_good && json_next(&it)) {
        is_good = json_i64(it.value, &id);
        id_list_add(list, id);
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

int config_read_json(struct model_config *c, const struct source *source, struct carat_error *err)
{
    const struct json_doc *doc = source_config(source);
    bool is_nested = json_kind(json_at(doc, "text_config")) == JSON_OBJECT;
    struct json_keys k = {.doc = doc, .prefix = is_nested ? "text_config." : ""};
    snprintf(k.file_text, sizeof(k.file_text), "%s/config.json", source_path(source));
    k.file = k.file_text;
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
        rc = json_sight(c, &k, err);
    }
    if (rc == 0) {
        rc = json_generation(c, &k, source, err);
    }
    c->norm_eps = (float)eps;
    c->softcap = (float)softcap;
    return rc;
}
