// SPDX-License-Identifier: Apache-2.0
// Hyper-parameters of one Gemma 4 decoder, from GGUF keys or config.json. Everything is checked
// here, once: the rest of the model relies on it. docs/model.md, section "Configuration".
#ifndef CARAT_MODEL_CONFIG_H
#define CARAT_MODEL_CONFIG_H

#include "formats/source.h"

// Limits on what a file may ask for; published members stay far below.
#define CONFIG_LAYERS_MAX   1024
#define CONFIG_WIDTH_MAX    (1u << 20) // hidden size, feed-forward size, heads * head_dim
#define CONFIG_HEADS_MAX    4096
#define CONFIG_HEAD_DIM_MAX 2048
#define CONFIG_VOCAB_MAX    (1u << 24)
#define CONFIG_CONTEXT_MAX  (1u << 24)
#define CONFIG_IDS_MAX      64 // stop tokens, suppressed tokens

struct layer_config {
    bool is_sliding;
    bool has_shared_kv_vector; // the value is the raw key: attention_k_eq_v, full layers
    uint32_t head_dim;
    uint32_t n_kv_heads;
    uint32_t ffn_size;
};

struct id_list {
    carat_token ids[CONFIG_IDS_MAX];
    size_t count;
};
// Adds an id once; one that no vocabulary can have (CARAT_TOKEN_NONE) is dropped.
void id_list_add(struct id_list *list, int64_t id);

struct model_config {
    bool is_unified; // 12B architecture, without encoders
    uint32_t n_layers;
    uint32_t hidden_size;
    uint32_t n_heads;        // query heads, the same in every layer
    uint32_t context_max;    // positions
    uint32_t window;         // sliding window, in tokens, the token itself included
    uint32_t n_vocab;        // rows of the embedding
    bool pictures_see_ahead; // soft tokens of a picture see each other in sliding layers
    float norm_eps;
    float softcap; // of the logits; 0: none
    double rope_theta_full;
    double rope_theta_sliding;
    double rope_rotated; // share of a full layer's head that is rotated; 0: rope_freqs.weight says
    struct layer_config *layers; // [n_layers], owned

    struct id_list stops;           // tokens that end an answer
    struct id_list suppressed;      // tokens never to be sampled
    struct carat_sampling sampling; // the file's own defaults
};

// Fails for anything that is not a Gemma 4 decoder this build can run, saying what is in the way.
int config_read(struct model_config *out, const struct source *source, struct carat_error *err);
void config_release(struct model_config *config); // takes zeroed memory

// What every kind of layer has in common, for planning: the largest of each over the layers.
struct config_extent {
    uint32_t head_dim;
    uint32_t q_size;  // n_heads * head_dim
    uint32_t kv_size; // n_kv_heads * head_dim
    uint32_t ffn_size;
};
struct config_extent config_extent(const struct model_config *config);

#endif
