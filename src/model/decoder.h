// SPDX-License-Identifier: Apache-2.0
// The text decoder: embeddings, layers, logits. docs/model.md explains the arithmetic.
#ifndef CARAT_MODEL_DECODER_H
#define CARAT_MODEL_DECODER_H

#include "model/kv_cache.h"
#include "model/projector.h"

// Rows of logits that are computed together.
#define DECODER_LOGIT_ROWS 16

enum decoder_logits {
    LOGITS_NONE, // of no row: the middle of a long prompt
    LOGITS_LAST, // of the last row
    LOGITS_ALL,
};

// Consecutive tokens of one timeline, to be appended at position first.
struct decoder_segment {
    struct kv_cache *kv;
    const carat_token *tokens; // [n], all inside the vocabulary
    // Rows whose embeddings come from pictures and sound instead, in order; their tokens are
    // placeholders. A projector must be there for them.
    const struct soft_span *spans; // [n_spans]
    size_t n_spans;
    // How far each row sees ahead in the sliding layers, as positions (op_attend); NULL: causal.
    const size_t *ends; // [n]
    size_t n;
    size_t first;
    enum decoder_logits logits;
    // Called for each row of logits in order: position in the timeline, [n_vocab] values that are
    // borrowed for the call. NULL only with LOGITS_NONE.
    void (*on_logits)(void *user, size_t position, const float *logits);
    carat_on_tensor on_tensor; // may be NULL
    // Called after each layer but the last; false stops the run. May be NULL.
    bool (*on_layer)(void *user, size_t layer);
    void *user;        // for on_logits
    void *tensor_user; // for on_tensor
    void *layer_user;  // for on_layer
};

struct decoder {
    const struct model_config *config;
    const struct weights *weights;
    const struct projector *projector; // NULL: text only
    struct device *device;
    struct embedder embedder; // scratch of the projections
    size_t rows_max;          // rows of all segments of one run
    float *memory;            // all activations below, each [rows_max, ...]
    float *x;                 // residual stream [hidden]
    float *h;                 // branch [hidden]
    float *q;                 // [q_size]
    float *attended;          // [q_size]
    float *k;                 // [kv_size]
    float *v;                 // [kv_size]
    float *gate;              // [ffn_size]
    float *up;                // [ffn_size]
    float *rope_sliding;      // [n_pairs_sliding, 2]
    float *rope_full;         // [n_pairs_full, 2]
    float *logits;            // [DECODER_LOGIT_ROWS, n_vocab]
};

// Bytes of activations and device scratch for runs of rows_max rows over contexts of context_max.
// projector may be NULL.
uint64_t decoder_size(const struct model_config *config, const struct weights *weights,
                      const struct projector *projector, size_t rows_max, size_t context_max,
                      size_t n_threads);

// A zeroed decoder with config, weights, projector and device set. Makes room; more than before
// only.
int decoder_reserve(struct decoder *d, size_t rows_max, size_t context_max,
                    struct carat_error *err);
void decoder_release(struct decoder *d); // takes zeroed memory

// Evaluates the segments together; the sum of n is at most rows_max. Their caches must have room.
// False when on_layer stopped it: there are no logits then, and the caches hold nothing of use from
// `first` on.
bool decoder_run(struct decoder *d, const struct decoder_segment *segments, size_t n_segments);

#endif
