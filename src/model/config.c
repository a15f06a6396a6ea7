// SPDX-License-Identifier: Apache-2.0
// Hyper-parameters: what both containers share, and the checks on what was read. One table lists
// the scalar fields with their name in each; config_gguf.c and config_json.c read the rest.
#include "model/config_read.h"

#include "base/error.h"
#include "base/mem.h"

const struct config_key config_keys[N_CONFIG_KEYS] = {
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

int config_check_range(const char *file, const char *key, uint64_t value, uint64_t max,
                       struct carat_error *err)
{
    if (value < 1 || value > max) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected 1 to %llu, found %llu", file, key,
                    (unsigned long long)max, (unsigned long long)value);
    }
    return 0;
}

int config_missing(const char *file, const char *key, struct carat_error *err)
{
    return fail(err, CARAT_E_FORMAT, "%s: required key '%s' is missing", file, key);
}

int config_unsupported(const char *file, const char *what, struct carat_error *err)
{
    return fail(err, CARAT_E_UNSUPPORTED,
                "%s: this Gemma 4 model uses %s, which this version of carat does not run", file,
                what);
}

int config_new_layers(struct model_config *c, struct carat_error *err)
{
    c->layers = mem_new_array(c->n_layers, sizeof(c->layers[0]), err);
    return c->layers ? 0 : CARAT_E_MEMORY;
}

void id_list_add(struct id_list *list, int64_t id)
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
    int rc =
        source_gguf(source) ? config_read_gguf(&c, source, err) : config_read_json(&c, source, err);
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
