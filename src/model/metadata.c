// SPDX-License-Identifier: Apache-2.0
// GGUF keys of a checkpoint. What the keys mean: docs/formats.md; config.c reads them back.
#include "model/metadata.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "model/tokenizer.h"
#include "model/vocab.h"

// llama.cpp's token types.
enum { TYPE_NORMAL = 1, TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4, TYPE_UNUSED = 5, TYPE_BYTE = 6 };

// Added tokens that its converter keeps visible in text.
static const char *const visible[] = {"<|tool_call>",     "<tool_call|>", "<|tool_response>",
                                      "<tool_response|>", "<|\"|>",       "<|channel>",
                                      "<channel|>"};

// ----------------------------------------------------------------------------------------
// vocabulary

struct token_table {
    struct slice *texts; // [n]
    int32_t *types;
    float *scores;
    size_t n;
    char *fillers; // names of ids without a token
};

static void table_release(struct token_table *t)
{
    mem_free(t->texts);
    mem_free(t->types);
    mem_free(t->scores);
    mem_free(t->fillers);
}

static int put(struct token_table *t, const struct json_value *id, struct slice text, int32_t type,
               const char *file, struct carat_error *err)
{
    uint64_t i = 0;
    if (!json_u64(id, &i) || i >= t->n) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tokenizer.json: token '%.*s': expected an id below %zu, the rows of the "
                    "embedding",
                    file, (int)(text.size > 64 ? 64 : text.size), text.data, t->n);
    }
    t->texts[i] = text;
    t->types[i] = type;
    return 0;
}

static bool is_byte_token(struct slice s)
{
    static const char digits[] = "0123456789ABCDEF";
    return s.size == 6 && memcmp(s.data, "<0x", 3) == 0 && s.data[5] == '>' &&
           strchr(digits, s.data[3]) && strchr(digits, s.data[4]);
}

static int32_t type_of_added(const struct json_value *token, struct slice text)
{
    for (size_t i = 0; i < sizeof(visible) / sizeof(visible[0]); i++) {
        if (slice_is(text, visible[i])) {
            return TYPE_USER_DEFINED;
        }
    }
    return json_bool(json_get(token, "special")) ? TYPE_CONTROL : TYPE_USER_DEFINED;
}

#define FILLER_SIZE 32 // "[PAD262143]", with room to spare

static int table_read(struct token_table *t, const struct json_value *root, size_t n,
                      const char *file, struct carat_error *err)
{
    t->n = n;
    t->texts = mem_new_array(n, sizeof(t->texts[0]), err);
    t->types = t->texts ? mem_new_array(n, sizeof(t->types[0]), err) : NULL;
    t->scores = t->types ? mem_new_array(n, sizeof(t->scores[0]), err) : NULL;
    t->fillers = t->scores ? mem_new_array(n, FILLER_SIZE, err) : NULL;
    int rc = t->fillers ? 0 : CARAT_E_MEMORY;
    struct json_iter it = json_iter(json_get(json_get(root, "model"), "vocab"));
    while (rc == 0 && json_next(&it)) {
        rc = put(t, it.value, it.key, is_byte_token(it.key) ? TYPE_BYTE : TYPE_NORMAL, file, err);
    }
    it = json_iter(json_get(root, "added_tokens"));
    while (rc == 0 && json_next(&it)) {
        struct slice text = json_string(json_get(it.value, "content"));
        rc = put(t, json_get(it.value, "id"), text, type_of_added(it.value, text), file, err);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        t->scores[i] = -1000.0f;
        if (t->texts[i].size == 0) {
            char *name = t->fillers + i * FILLER_SIZE;
            snprintf(name, FILLER_SIZE, "[PAD%zu]", i);
            t->texts[i] = slice_of(name);
            t->types[i] = TYPE_UNUSED;
        }
    }
    return rc;
}

// "left right" of each merge, whichever form it has.
static int set_merges(struct gguf_writer *w, const struct json_value *merges,
                      struct carat_error *err)
{
    size_t n = json_count(merges);
    struct slice *pairs = mem_new_array(n + 1, sizeof(*pairs), err);
    struct arena arena = {0};
    int rc = pairs ? 0 : CARAT_E_MEMORY;
    size_t i = 0;
    struct json_iter it = json_iter(merges);
    for (; rc == 0 && json_next(&it); i++) {
        pairs[i] = json_string(it.value);
        if (json_kind(it.value) == JSON_STRING) {
            continue;
        }
        struct json_iter pair = json_iter(it.value);
        json_next(&pair);
        struct slice left = json_string(pair.value);
        json_next(&pair);
        struct slice right = json_string(pair.value);
        char *text = arena_take(&arena, left.size + right.size + 1, err);
        if (!text) {
            rc = CARAT_E_MEMORY;
            break;
        }
        memcpy(text, left.data, left.size);
        text[left.size] = ' ';
        memcpy(text + left.size + 1, right.data, right.size);
        pairs[i] = slice_make(text, left.size + right.size + 1);
    }
    if (rc == 0) {
        gguf_set_strings(w, "tokenizer.ggml.merges", pairs, i);
    }
    mem_free(pairs);
    arena_release(&arena);
    return rc;
}

static void set_special_ids(struct gguf_writer *w, const struct special_tokens *s,
                            const struct model_config *c)
{
    const struct {
        const char *key;
        carat_token id;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", s->bos},
        {"tokenizer.ggml.eos_token_id", s->eos != CARAT_TOKEN_NONE ? s->eos
                                        : c->stops.count > 0       ? c->stops.ids[0]
                                                                   : CARAT_TOKEN_NONE},
        {"tokenizer.ggml.unknown_token_id", s->unk},
        {"tokenizer.ggml.padding_token_id", s->pad},
        {"tokenizer.ggml.mask_token_id", s->mask},
    };
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        if (ids[i].id != CARAT_TOKEN_NONE) {
            gguf_set_u32(w, ids[i].key, (uint32_t)ids[i].id);
        }
    }
    for (size_t i = 0; i < c->stops.count; i++) {
        if (c->stops.ids[i] == s->turn_close) {
            gguf_set_u32(w, "tokenizer.ggml.eot_token_id", (uint32_t)s->turn_close);
        }
    }
    if (c->stops.count > 0) {
        gguf_set_array(w, "tokenizer.ggml.eos_token_ids", GGUF_I32, c->stops.ids, c->stops.count);
    }
    if (c->suppressed.count > 0) {
        gguf_set_array(w, "tokenizer.ggml.suppress_tokens", GGUF_I32, c->suppressed.ids,
                       c->suppressed.count);
    }
}

static int set_tokenizer(struct gguf_writer *w, struct source *source,
                         const struct model_config *config, struct carat_error *err)
{
    const struct json_doc *doc = NULL;
    struct tokenizer *tokenizer = NULL;
    struct token_table table = {0};
    // Made once, so that a tokenizer of another kind is refused here, not by whoever loads the
    // file.
    int rc = tokenizer_new(&tokenizer, source, err);
    rc = rc ? rc : source_tokenizer(source, &doc, err);
    rc = rc ? rc : table_read(&table, json_root(doc), config->n_vocab, source_path(source), err);
    if (rc == 0) {
        gguf_set_string(w, "tokenizer.ggml.model", slice_of("gemma4"));
        gguf_set_strings(w, "tokenizer.ggml.tokens", table.texts, table.n);
        gguf_set_array(w, "tokenizer.ggml.scores", GGUF_F32, table.scores, table.n);
        gguf_set_array(w, "tokenizer.ggml.token_type", GGUF_I32, table.types, table.n);
        rc = set_merges(w, json_get(json_get(json_root(doc), "model"), "merges"), err);
        set_special_ids(w, tokenizer_specials(tokenizer), config);
        gguf_set_bool(w, "tokenizer.ggml.add_bos_token", true);
        gguf_set_bool(w, "tokenizer.ggml.add_space_prefix", false);
    }
    table_release(&table);
    tokenizer_free(tokenizer);
    source_drop_tokenizer(source);
    struct slice chat = source_chat_template(source);
    if (chat.size > 0) {
        gguf_set_string(w, "tokenizer.chat_template", chat);
    }
    return rc;
}

// --------------------------------------------------------------------------------------------
// sizes

static const char *key_of(char out[96], const char *name)
{
    snprintf(out, 96, "gemma4.%s", name);
    return out;
}

static void set_size(struct gguf_writer *w, const char *name, uint32_t value)
{
    char key[96];
    gguf_set_u32(w, key_of(key, name), value);
}

static void set_number(struct gguf_writer *w, const char *name, double value)
{
    char key[96];
    gguf_set_f32(w, key_of(key, name), (float)value);
}

// One number where all layers agree, else one for each.
static int set_per_layer(struct gguf_writer *w, const char *name, const struct model_config *c,
                         size_t offset, struct carat_error *err)
{
    char key[96];
    bool is_same = true;
    int32_t *values = mem_new_array(c->n_layers, sizeof(*values), err);
    if (!values) {
        return CARAT_E_MEMORY;
    }
    for (uint32_t i = 0; i < c->n_layers; i++) {
        uint32_t value;
        memcpy(&value, (const char *)&c->layers[i] + offset, sizeof(value));
        values[i] = (int32_t)value;
        is_same = is_same && values[i] == values[0];
    }
    if (is_same) {
        gguf_set_u32(w, key_of(key, name), (uint32_t)values[0]);
    } else {
        gguf_set_array(w, key_of(key, name), GGUF_I32, values, c->n_layers);
    }
    mem_free(values);
    return 0;
}

static int set_layers(struct gguf_writer *w, const struct model_config *c, struct carat_error *err)
{
    uint32_t full = 0;
    uint32_t sliding = 0;
    uint8_t *pattern = mem_new(c->n_layers, err);
    if (!pattern) {
        return CARAT_E_MEMORY;
    }
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const struct layer_config *l = &c->layers[i];
        pattern[i] = l->is_sliding;
        uint32_t *dim = l->is_sliding ? &sliding : &full;
        if (*dim != 0 && *dim != l->head_dim) {
            mem_free(pattern);
            return fail(err, CARAT_E_UNSUPPORTED,
                        "layer %u: a GGUF file has one head size for each kind of layer", i);
        }
        *dim = l->head_dim;
    }
    full = full ? full : sliding;
    sliding = sliding ? sliding : full;
    gguf_set_array(w, "gemma4.attention.sliding_window_pattern", GGUF_BOOL, pattern, c->n_layers);
    mem_free(pattern);
    set_size(w, "attention.key_length", full);
    set_size(w, "attention.value_length", full);
    set_size(w, "attention.key_length_swa", sliding);
    set_size(w, "attention.value_length_swa", sliding);
    set_size(w, "rope.dimension_count", full);
    set_size(w, "rope.dimension_count_swa", sliding);
    int rc = set_per_layer(w, "attention.head_count_kv", c,
                           offsetof(struct layer_config, n_kv_heads), err);
    return rc ? rc
              : set_per_layer(w, "feed_forward_length", c, offsetof(struct layer_config, ffn_size),
                              err);
}

static void set_name(struct gguf_writer *w, const struct source *source, uint64_t n_parameters)
{
    char label[24];
    const char *path = source_path(source);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    size_t start = n;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    if (n > start && path[start] != '.') {
        gguf_set_string(w, "general.name", slice_make(path + start, n - start));
    }
    double p = (double)n_parameters;
    const char *unit = p >= 1e9 ? "B" : p >= 1e6 ? "M" : "K";
    p /= p >= 1e9 ? 1e9 : p >= 1e6 ? 1e6 : 1e3;
    snprintf(label, sizeof(label), p < 10 ? "%.1f%s" : "%.0f%s", p, unit);
    gguf_set_string(w, "general.size_label", slice_of(label));
}

int metadata_set_model(struct gguf_writer *w, struct source *source, const struct model_config *c,
                       uint64_t n_parameters, struct carat_error *err)
{
    gguf_set_string(w, "general.architecture", slice_of("gemma4"));
    gguf_set_string(w, "general.type", slice_of("model"));
    if (source_generation_config(source)) {
        gguf_set_i32(w, "general.sampling.top_k", (int32_t)c->sampling.top_k);
        gguf_set_f32(w, "general.sampling.top_p", c->sampling.top_p);
        gguf_set_f32(w, "general.sampling.temp", c->sampling.temperature);
    }
    set_name(w, source, n_parameters);
    set_size(w, "block_count", c->n_layers);
    set_size(w, "context_length", c->context_max);
    set_size(w, "embedding_length", c->hidden_size);
    set_size(w, "embedding_length_per_layer_input", 0);
    set_size(w, "attention.head_count", c->n_heads);
    set_number(w, "attention.layer_norm_rms_epsilon", (double)c->norm_eps);
    set_size(w, "attention.sliding_window", c->window);
    set_size(w, "attention.shared_kv_layers", 0);
    set_number(w, "rope.freq_base", c->rope_theta_full);
    set_number(w, "rope.freq_base_swa", c->rope_theta_sliding);
    if (c->softcap > 0) {
        set_number(w, "final_logit_softcapping", (double)c->softcap);
    }
    int rc = set_layers(w, c, err);
    return rc ? rc : set_tokenizer(w, source, c, err);
}

// ---------------------------------------------------------------------------------------
// projections

static void set_path(struct gguf_writer *w, const char *kind, const char *type, uint32_t width,
                     uint32_t hidden_size, float eps)
{
    static const char *const zeros[] = {"feed_forward_length", "block_count",
                                        "attention.head_count"};
    char key[96];
    snprintf(key, sizeof(key), "clip.%s.projector_type", kind);
    gguf_set_string(w, key, slice_of(type));
    snprintf(key, sizeof(key), "clip.%s.projection_dim", kind);
    gguf_set_u32(w, key, hidden_size);
    snprintf(key, sizeof(key), "clip.%s.embedding_length", kind);
    gguf_set_u32(w, key, width);
    snprintf(key, sizeof(key), "clip.%s.attention.layer_norm_epsilon", kind);
    gguf_set_f32(w, key, eps);
    for (size_t i = 0; i < 3; i++) {
        snprintf(key, sizeof(key), "clip.%s.%s", kind, zeros[i]);
        gguf_set_u32(w, key, 0);
    }
}

int metadata_set_projector(struct gguf_writer *w, const struct source *source,
                           const struct projector *p, struct carat_error *err)
{
    uint64_t pooling = 3;
    const float mean[3] = {0, 0, 0};
    const float deviation[3] = {1, 1, 1};
    int rc =
        json_get_u64(source_config(source), "vision_config.pooling_kernel_size", &pooling, err);
    if (rc < 0) {
        return rc;
    }
    gguf_set_bool(w, "clip.has_vision_encoder", p->has_vision);
    gguf_set_bool(w, "clip.has_audio_encoder", p->has_audio);
    if (p->has_vision) {
        if (pooling == 0 || p->block % pooling != 0) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: vision_config.pooling_kernel_size: expected a divisor of %u, found "
                        "%llu",
                        source_path(source), p->block, (unsigned long long)pooling);
        }
        set_path(w, "vision", "gemma4uv", p->width, p->hidden_size, p->vision_rms_eps);
        gguf_set_u32(w, "clip.vision.image_size", 224); // unused, and asked for
        gguf_set_u32(w, "clip.vision.patch_size", p->block / (uint32_t)pooling);
        if (pooling != 3) {
            gguf_set_u32(w, "clip.vision.projector.scale_factor", (uint32_t)pooling);
        }
        gguf_set_array(w, "clip.vision.image_mean", GGUF_F32, mean, 3);
        gguf_set_array(w, "clip.vision.image_std", GGUF_F32, deviation, 3);
    }
    if (p->has_audio) {
        set_path(w, "audio", "gemma4ua", p->frame_samples, p->hidden_size, p->audio_rms_eps);
        gguf_set_u32(w, "clip.audio.num_mel_bins", 128); // unused, and asked for
    }
    return 0;
}
