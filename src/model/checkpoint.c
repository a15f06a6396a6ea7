// SPDX-License-Identifier: Apache-2.0
// config.json, tokenizer.json and the rest as published checkpoints have them. config_json.c and
// vocab_read.c read them back.
#include "model/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

static void add_text(struct buf *b, struct slice s)
{
    buf_add_json(b, s.data ? s.data : "", s.size);
}

static bool has_projector(const struct checkpoint *c)
{
    return c->projector->has_vision || c->projector->has_audio;
}

// ------------------------------------------------------------------------------------- config.json

// What the two kinds of layers have; a layer that differs from its kind cannot be said.
struct kinds {
    const struct layer_config *sliding;
    const struct layer_config *full;
};

static int find_kinds(struct kinds *out, const struct model_config *c, struct carat_error *err)
{
    struct kinds k = {NULL, NULL};
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const struct layer_config *l = &c->layers[i];
        const struct layer_config **kind = l->is_sliding ? &k.sliding : &k.full;
        *kind = *kind ? *kind : l;
        if (l->head_dim != (*kind)->head_dim || l->n_kv_heads != (*kind)->n_kv_heads ||
            l->has_shared_kv_vector != (*kind)->has_shared_kv_vector ||
            l->ffn_size != c->layers[0].ffn_size) {
            return fail(err, CARAT_E_UNSUPPORTED,
                        "layer %u differs from the layers of its kind, which config.json cannot "
                        "say",
                        i);
        }
    }
    k.sliding = k.sliding ? k.sliding : k.full;
    k.full = k.full ? k.full : k.sliding;
    if (!k.full->has_shared_kv_vector && k.full->n_kv_heads != k.sliding->n_kv_heads) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "full layers have %u key heads and values of their own, sliding ones %u: "
                    "config.json cannot say that",
                    k.full->n_kv_heads, k.sliding->n_kv_heads);
    }
    *out = k;
    return 0;
}

static void add_layer_types(struct buf *b, const struct model_config *c)
{
    buf_adds(b, "\"layer_types\":[");
    for (uint32_t i = 0; i < c->n_layers; i++) {
        buf_addf(b, "%s\"%s_attention\"", i ? "," : "",
                 c->layers[i].is_sliding ? "sliding" : "full");
    }
    buf_addc(b, ']');
}

static void add_text_config(struct buf *b, const struct checkpoint *c, const struct kinds *k)
{
    const struct model_config *m = c->config;
    const struct special_tokens *s = tokenizer_specials(c->tokenizer);
    double rotated = m->rope_rotated > 0
                         ? m->rope_rotated
                         : 2.0 * (double)c->weights->n_pairs_full / k->full->head_dim;
    add_layer_types(b, m);
    buf_addf(b,
             ",\"attention_bias\":false,\"attention_dropout\":0.0,\"attention_k_eq_v\":%s,"
             "\"bos_token_id\":%d,\"eos_token_id\":%d,\"pad_token_id\":%d",
             k->full->has_shared_kv_vector ? "true" : "false", s->bos, s->eos, s->pad);
    if (m->softcap > 0) {
        buf_addf(b, ",\"final_logit_softcapping\":%.9g", (double)m->softcap);
    }
    buf_addf(b,
             ",\"head_dim\":%u,\"global_head_dim\":%u,\"hidden_activation\":\"gelu_pytorch_tanh\","
             "\"hidden_size\":%u,\"initializer_range\":0.02,\"intermediate_size\":%u,"
             "\"max_position_embeddings\":%u,\"num_attention_heads\":%u,\"num_hidden_layers\":%u,"
             "\"num_key_value_heads\":%u,\"num_kv_shared_layers\":0",
             k->sliding->head_dim, k->full->head_dim, m->hidden_size, m->layers[0].ffn_size,
             m->context_max, m->n_heads, m->n_layers, k->sliding->n_kv_heads);
    if (k->full->has_shared_kv_vector) {
        buf_addf(b, ",\"num_global_key_value_heads\":%u", k->full->n_kv_heads);
    }
    buf_addf(b,
             ",\"rms_norm_eps\":%.9g,\"rope_parameters\":{\"full_attention\":{"
             "\"partial_rotary_factor\":%.17g,\"rope_theta\":%.17g,\"rope_type\":\"proportional\"},"
             "\"sliding_attention\":{\"rope_theta\":%.17g,\"rope_type\":\"default\"}},"
             "\"sliding_window\":%u,\"tie_word_embeddings\":%s,"
             "\"use_bidirectional_attention\":%s,\"use_cache\":true,\"vocab_size\":%u,"
             "\"enable_moe_block\":false,\"hidden_size_per_layer_input\":0,"
             "\"use_double_wide_mlp\":false",
             (double)m->norm_eps, rotated, m->rope_theta_full, m->rope_theta_sliding, m->window,
             c->has_head ? "false" : "true", m->pictures_see_ahead ? "\"vision\"" : "null",
             m->n_vocab);
}

static void add_token(struct buf *b, const char *name, carat_token id)
{
    if (id != CARAT_TOKEN_NONE) {
        buf_addf(b, ",\"%s\":%d", name, id);
    }
}

static void add_media_config(struct buf *b, const struct checkpoint *c, const char *family)
{
    const struct projector *p = c->projector;
    const struct special_tokens *s = tokenizer_specials(c->tokenizer);
    if (p->has_vision) {
        buf_addf(b,
                 ",\"vision_config\":{\"model_type\":\"%s_vision\",\"initializer_range\":0.02,"
                 "\"mm_embed_dim\":%u,\"mm_posemb_size\":%u,\"output_proj_dims\":%u,"
                 "\"patch_size\":%u,\"pooling_kernel_size\":%u,\"rms_norm_eps\":%.9g}",
                 family, p->width, p->n_positions, p->width, p->block / c->pooling, c->pooling,
                 (double)p->vision_rms_eps);
    }
    if (p->has_audio) {
        buf_addf(b,
                 ",\"audio_config\":{\"model_type\":\"%s_audio\",\"initializer_range\":0.02,"
                 "\"audio_embed_dim\":%u,\"rms_norm_eps\":%.9g}",
                 family, p->frame_samples, (double)p->audio_rms_eps);
    }
    add_token(b, "image_token_id", s->image);
    add_token(b, "boi_token_id", s->image_open);
    add_token(b, "eoi_token_id", s->image_close);
    add_token(b, "audio_token_id", s->audio);
    add_token(b, "boa_token_id", s->audio_open);
    add_token(b, "eoa_token_index", s->audio_close);
    add_token(b, "video_token_id", s->video);
}

int checkpoint_config(struct buf *out, const struct checkpoint *c, struct carat_error *err)
{
    struct kinds kinds;
    const char *family = c->config->is_unified || has_projector(c) ? "gemma4_unified" : "gemma4";
    const char *class_name = c->config->is_unified || has_projector(c) ? "Gemma4Unified" : "Gemma4";
    int rc = find_kinds(&kinds, c->config, err);
    if (rc) {
        return rc;
    }
    if (has_projector(c)) {
        buf_addf(out,
                 "{\"architectures\":[\"%sForConditionalGeneration\"],\"model_type\":\"%s\","
                 "\"dtype\":\"%s\",\"tie_word_embeddings\":%s,\"initializer_range\":0.02",
                 class_name, family, c->dtype, c->has_head ? "false" : "true");
        add_media_config(out, c, family);
        buf_addf(out, ",\"text_config\":{\"model_type\":\"%s_text\",", family);
        add_text_config(out, c, &kinds);
        buf_adds(out, "}}\n");
    } else {
        buf_addf(out,
                 "{\"architectures\":[\"%sForCausalLM\"],\"model_type\":\"%s_text\",\"dtype\":"
                 "\"%s\",",
                 class_name, family, c->dtype);
        add_text_config(out, c, &kinds);
        buf_adds(out, "}\n");
    }
    return buf_status(out, err);
}

// --------------------------------------------------------------------------------------- tokenizer

#define TYPE_UNUSED 5 // of GGUF

static int array_of(struct gguf_array *out, const struct checkpoint *c, const char *key,
                    struct carat_error *err)
{
    int rc = gguf_get_array(source_gguf(c->source), key, out, err);
    return rc > 0 ? fail(err, CARAT_E_FORMAT, "%s: required key '%s' is missing",
                         source_path(c->source), key)
                  : rc;
}

static int add_vocab(struct buf *b, const struct checkpoint *c, struct carat_error *err)
{
    struct gguf_array tokens;
    struct gguf_array types = {.count = 0};
    int rc = array_of(&tokens, c, "tokenizer.ggml.tokens", err);
    bool has_types = rc == 0 && gguf_get_array(source_gguf(c->source), "tokenizer.ggml.token_type",
                                               &types, NULL) == 0;
    bool is_first = true;
    for (uint64_t i = 0; rc == 0 && i < tokens.count; i++) {
        struct slice text = gguf_array_next_string(&tokens);
        int64_t type = has_types ? gguf_array_next_i64(&types) : 0;
        if (type == TYPE_UNUSED || text.size == 0) {
            continue;
        }
        buf_adds(b, is_first ? "" : ",");
        add_text(b, text);
        buf_addf(b, ":%llu", (unsigned long long)i);
        is_first = false;
    }
    return rc;
}

static int add_merges(struct buf *b, const struct checkpoint *c, struct carat_error *err)
{
    struct gguf_array merges;
    int rc = array_of(&merges, c, "tokenizer.ggml.merges", err);
    for (uint64_t i = 0; rc == 0 && i < merges.count; i++) {
        struct slice pair = gguf_array_next_string(&merges);
        const char *space = pair.size > 1 ? memchr(pair.data + 1, ' ', pair.size - 1) : NULL;
        size_t n = space ? (size_t)(space - pair.data) : pair.size;
        buf_adds(b, i ? ",[" : "[");
        add_text(b, slice_make(pair.data, n));
        buf_addc(b, ',');
        add_text(b, space ? slice_make(space + 1, pair.size - n - 1) : slice_make("", 0));
        buf_addc(b, ']');
    }
    return rc;
}

static int add_added(struct buf *b, const struct checkpoint *c, struct carat_error *err)
{
    struct gguf_array tokens;
    struct gguf_array types = {.count = 0};
    int rc = array_of(&tokens, c, "tokenizer.ggml.tokens", err);
    bool has_types = rc == 0 && gguf_get_array(source_gguf(c->source), "tokenizer.ggml.token_type",
                                               &types, NULL) == 0;
    bool is_first = true;
    for (uint64_t i = 0; rc == 0 && i < tokens.count; i++) {
        struct slice text = gguf_array_next_string(&tokens);
        int64_t type = has_types ? gguf_array_next_i64(&types) : 0;
        bool is_special = tokenizer_is_special(c->tokenizer, (carat_token)i);
        if (!is_special && type != 4 && type != 3) {
            continue;
        }
        buf_addf(b, "%s{\"id\":%llu,\"content\":", is_first ? "" : ",", (unsigned long long)i);
        add_text(b, text);
        buf_addf(b,
                 ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
                 "\"special\":%s}",
                 is_special ? "true" : "false");
        is_first = false;
    }
    return rc;
}

int checkpoint_tokenizer(struct buf *out, const struct checkpoint *c, struct carat_error *err)
{
    const struct special_tokens *s = tokenizer_specials(c->tokenizer);
    buf_adds(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    int rc = add_added(out, c, err);
    buf_adds(out, "],\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
                  "\"content\":\"\xE2\x96\x81\"},\"pre_tokenizer\":{\"type\":\"Split\","
                  "\"pattern\":{\"String\":\" \"},\"behavior\":\"MergedWithPrevious\","
                  "\"invert\":false},\"post_processor\":");
    if (s->bos != CARAT_TOKEN_NONE) {
        buf_addf(out,
                 "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<bos>\","
                 "\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":["
                 "{\"SpecialToken\":{\"id\":\"<bos>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
                 "\"type_id\":0}},{\"SpecialToken\":{\"id\":\"<bos>\",\"type_id\":0}},"
                 "{\"Sequence\":{\"id\":\"B\",\"type_id\":0}}],\"special_tokens\":{\"<bos>\":"
                 "{\"id\":\"<bos>\",\"ids\":[%d],\"tokens\":[\"<bos>\"]}}}",
                 s->bos);
    } else {
        buf_adds(out, "null");
    }
    buf_adds(out, ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
                  "\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},{\"type\":"
                  "\"ByteFallback\"},{\"type\":\"Fuse\"}]},\"model\":{\"type\":\"BPE\",\"dropout\":"
                  "null,\"unk_token\":\"<unk>\",\"continuing_subword_prefix\":null,"
                  "\"end_of_word_suffix\":null,\"fuse_unk\":true,\"byte_fallback\":true,"
                  "\"ignore_merges\":false,\"vocab\":{");
    rc = rc ? rc : add_vocab(out, c, err);
    buf_adds(out, "},\"merges\":[");
    rc = rc ? rc : add_merges(out, c, err);
    buf_adds(out, "]}}\n");
    return rc ? rc : buf_status(out, err);
}

struct named_token {
    const char *name;
    size_t offset; // in struct special_tokens
};
#define TOKEN_AT(field) offsetof(struct special_tokens, field)
static const struct named_token named_tokens[] = {
    {"bos_token", TOKEN_AT(bos)},
    {"eos_token", TOKEN_AT(eos)},
    {"pad_token", TOKEN_AT(pad)},
    {"unk_token", TOKEN_AT(unk)},
    {"mask_token", TOKEN_AT(mask)},
    {"boi_token", TOKEN_AT(image_open)},
    {"eoi_token", TOKEN_AT(image_close)},
    {"image_token", TOKEN_AT(image)},
    {"boa_token", TOKEN_AT(audio_open)},
    {"eoa_token", TOKEN_AT(audio_close)},
    {"audio_token", TOKEN_AT(audio)},
    {"sot_token", TOKEN_AT(turn_open)},
    {"eot_token", TOKEN_AT(turn_close)},
    {"soc_token", TOKEN_AT(channel_open)},
    {"eoc_token", TOKEN_AT(channel_close)},
    {"think_token", TOKEN_AT(think)},
    {"escape_token", TOKEN_AT(quote)},
    {"std_token", TOKEN_AT(tool_open)},
    {"etd_token", TOKEN_AT(tool_close)},
    {"stc_token", TOKEN_AT(call_open)},
    {"etc_token", TOKEN_AT(call_close)},
    {"str_token", TOKEN_AT(response_open)},
    {"etr_token", TOKEN_AT(response_close)},
};
#undef TOKEN_AT
#define N_ORDINARY 5 // of them, the ones every tokenizer has

static void add_named(struct buf *b, const struct checkpoint *c, size_t first, size_t end,
                      bool needs_comma)
{
    const struct special_tokens *s = tokenizer_specials(c->tokenizer);
    for (size_t i = first; i < end; i++) {
        carat_token id;
        memcpy(&id, (const char *)s + named_tokens[i].offset, sizeof(id));
        if (id != CARAT_TOKEN_NONE) {
            buf_addf(b, "%s\"%s\":", needs_comma ? "," : "", named_tokens[i].name);
            add_text(b, tokenizer_text(c->tokenizer, id));
            needs_comma = true;
        }
    }
}

void checkpoint_tokenizer_config(struct buf *out, const struct checkpoint *c)
{
    size_t n = sizeof(named_tokens) / sizeof(named_tokens[0]);
    buf_adds(out, "{\"tokenizer_class\":\"GemmaTokenizer\",\"backend\":\"tokenizers\","
                  "\"add_bos_token\":true,\"add_eos_token\":false,\"padding_side\":\"left\","
                  "\"clean_up_tokenization_spaces\":false");
    if (has_projector(c)) {
        buf_adds(out, ",\"processor_class\":\"Gemma4UnifiedProcessor\"");
    }
    add_named(out, c, 0, n, true);
    buf_adds(out, ",\"model_specific_special_tokens\":{");
    add_named(out, c, N_ORDINARY, n, false);
    buf_adds(out, "}}\n");
}

static void add_ids(struct buf *b, const char *name, const struct id_list *list)
{
    buf_addf(b, ",\"%s\":[", name);
    for (size_t i = 0; i < list->count; i++) {
        buf_addf(b, "%s%d", i ? "," : "", list->ids[i]);
    }
    buf_addc(b, ']');
}

void checkpoint_generation(struct buf *out, const struct checkpoint *c)
{
    const struct carat_sampling *s = &c->config->sampling;
    const struct special_tokens *tokens = tokenizer_specials(c->tokenizer);
    if (s->temperature > 0) {
        buf_addf(out, "{\"do_sample\":true,\"temperature\":%.9g,\"top_k\":%zu,\"top_p\":%.9g",
                 (double)s->temperature, s->top_k, (double)s->top_p);
    } else {
        buf_adds(out, "{\"do_sample\":false");
    }
    add_token(out, "bos_token_id", tokens->bos);
    add_token(out, "pad_token_id", tokens->pad);
    if (c->config->stops.count > 0) {
        add_ids(out, "eos_token_id", &c->config->stops);
    }
    if (c->config->suppressed.count > 0) {
        add_ids(out, "suppress_tokens", &c->config->suppressed);
    }
    buf_adds(out, "}\n");
}

#define SOFT_TOKENS_MAX 280 // of a picture, as published

static void add_image_processor(struct buf *b, const struct checkpoint *c, const char *kind,
                                bool normalizes)
{
    buf_addf(b,
             "{\"%s_processor_type\":\"Gemma4Unified%sProcessor\",\"patch_size\":%u,"
             "\"pooling_kernel_size\":%u,\"resample\":3,\"do_resize\":true,\"do_rescale\":true,"
             "\"rescale_factor\":0.00392156862745098,\"do_convert_rgb\":true,\"do_normalize\":%s,"
             "\"image_mean\":[0.0,0.0,0.0],\"image_std\":[1.0,1.0,1.0],\"max_soft_tokens\":%d}",
             kind, kind[0] == 'i' ? "Image" : "Video", c->projector->block / c->pooling, c->pooling,
             normalizes ? "true" : "false", kind[0] == 'i' ? SOFT_TOKENS_MAX : 70);
}

void checkpoint_processor(struct buf *out, const struct checkpoint *c)
{
    buf_addf(out, "{\"processor_class\":\"Gemma4UnifiedProcessor\",\"image_seq_length\":%d",
             SOFT_TOKENS_MAX);
    if (c->projector->has_audio) {
        buf_addf(out,
                 ",\"audio_seq_length\":750,\"audio_ms_per_token\":40,\"feature_extractor\":{"
                 "\"feature_extractor_type\":\"Gemma4UnifiedAudioFeatureExtractor\","
                 "\"feature_size\":%u,\"audio_samples_per_token\":%u,\"sampling_rate\":16000,"
                 "\"padding_value\":0.0,\"padding_side\":\"right\",\"return_attention_mask\":true}",
                 c->projector->frame_samples, c->projector->frame_samples);
    }
    if (c->projector->has_vision) {
        buf_adds(out, ",\"image_processor\":");
        add_image_processor(out, c, "image", false);
        buf_adds(out, ",\"video_processor\":");
        add_image_processor(out, c, "video", true);
    }
    buf_adds(out, "}\n");
}
