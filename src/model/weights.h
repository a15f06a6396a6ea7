// SPDX-License-Identifier: Apache-2.0
// The table of tensors: each role once, with its names in GGUF and in safetensors and its shape as
// a rule over the configuration; and its binding to the tensors of a file.
#ifndef CARAT_MODEL_WEIGHTS_H
#define CARAT_MODEL_WEIGHTS_H

#include "base/mem.h"
#include "compute/device.h"
#include "model/config.h"

enum tensor_role {
    ROLE_EMBED,
    ROLE_NORM,
    ROLE_HEAD, // where it is absent the embedding is used
    ROLE_ATTN_NORM,
    ROLE_Q,
    ROLE_K,
    ROLE_V, // absent where the value is the key
    ROLE_O,
    ROLE_Q_NORM,
    ROLE_K_NORM,
    ROLE_ATTN_POST_NORM,
    ROLE_FFN_NORM,
    ROLE_GATE,
    ROLE_UP,
    ROLE_DOWN,
    ROLE_FFN_POST_NORM,
    ROLE_LAYER_SCALE,
    ROLE_COUNT,
};

struct tensor_info {
    const char *gguf;        // after "blk.N." where is_layer
    const char *safetensors; // after the prefix, and "layers.N." where is_layer
    bool is_layer;
    bool is_vector; // small, copied as f32; matrices are for load.h
};
extern const struct tensor_info tensor_table[ROLE_COUNT];

// What a checkpoint's names of the decoder begin with; the usual prefix when no tensor tells.
const char *weights_prefix(const struct source *source);
// A role's name: in GGUF when prefix is NULL, else in a checkpoint with that prefix. layer counts
// only where the role has one.
#define TENSOR_NAME_SIZE 160
void weights_name(char out[TENSOR_NAME_SIZE], enum tensor_role role, size_t layer,
                  const char *prefix);

struct layer_weights {
    struct weight matrix[ROLE_COUNT]; // by role; columns == 0: absent
    float factor[ROLE_COUNT];         // what a matrix's products are multiplied by, mostly 1
    const float *vector[ROLE_COUNT];
    float scale; // of the whole residual stream, at the layer's end
    bool is_sliding;
    bool has_shared_kv_vector;
};

struct weights {
    struct weight embed;
    struct weight head;
    float embed_factor;
    float head_factor;
    const float *norm;
    float *rope_full;    // inverse frequencies [n_pairs_full]
    float *rope_sliding; // [n_pairs_sliding]
    size_t n_pairs_full; // pairs of a full layer's head that rotate
    size_t n_pairs_sliding;
    struct layer_weights *layers; // [n_layers]
    size_t n_layers;
    uint64_t file_size;   // bytes of the matrices in the file
    uint64_t vector_size; // bytes of the vectors there
    uint64_t packed_size; // bytes of the device's copies of them
    uint64_t copied_size; // bytes of what was copied
    uint64_t n_parameters;
    enum dtype main_type; // holds most of the parameters
    struct arena arena;
};

// Finds, checks and binds every tensor that the configuration asks for. The source must outlive it.
int weights_bind(struct weights *out, const struct model_config *config,
                 const struct source *source, struct carat_error *err);
void weights_release(struct weights *w); // takes zeroed memory

#endif
