// SPDX-License-Identifier: Apache-2.0
// Keys and values of one timeline: a ring for sliding layers, a growing line for full ones, and
// only one vector per token where the value is the key (model.md section 4.1). Everything is sized
// when the cache is made; pages of the lines that are not reached cost nothing.
#ifndef CARAT_MODEL_KV_CACHE_H
#define CARAT_MODEL_KV_CACHE_H

#include "model/weights.h"

struct kv_options {
    enum dtype type;    // F16, F32 or Q8_0
    size_t context_max; // tokens
    size_t rewind_max;  // tokens that can be taken back once the window is full
    size_t recent_max;  // tokens evaluated together, at most
};

struct kv_cache {
    struct kv_options options;
    struct device *device;
    struct kv_view *layers; // [n_layers]
    size_t n_layers;
    void *memory;         // all rows
    bool has_table;       // a layer rebuilds its keys from values
    float *rope_table;    // [context_max, n_pairs, 2] if so
    size_t rope_filled;   // positions of the table that are computed
    size_t n_pairs;       // of a full layer
    size_t ring_capacity; // slots of a sliding layer
    size_t window;
};

// Bytes a cache will take: the part that the window fixes, and the part that grows with the
// context.
struct kv_size {
    uint64_t sliding;
    uint64_t full; // the table of rotations included
};
// CARAT_E_UNSUPPORTED when a row of a head is not a whole number of the type's blocks.
int kv_cache_size(struct kv_size *out, const struct model_config *config,
                  const struct weights *weights, const struct kv_options *options,
                  struct carat_error *err);

int kv_cache_init(struct kv_cache *out, struct device *dev, const struct model_config *config,
                  const struct weights *weights, const struct kv_options *options,
                  struct carat_error *err);
void kv_cache_release(struct kv_cache *kv); // takes zeroed memory

// Whether a timeline of `length` tokens can be cut to `to` tokens: the ring must still hold what
// the next token's window needs.
bool kv_cache_can_rewind(const struct kv_cache *kv, size_t length, size_t to);

// Rotations for positions up to `end`, where keys are rebuilt from values.
void kv_cache_fill_rope(struct kv_cache *kv, const float *inv_freq, size_t end);

// Puts made-up rows at positions 0 .. n - 1, for measuring: all of them that the cache would hold
// after n tokens, and the same ones each time. In kv_fill.c.
int kv_cache_fill(struct kv_cache *kv, const struct model_config *config,
                  const struct weights *weights, size_t n, struct carat_error *err);

#endif
