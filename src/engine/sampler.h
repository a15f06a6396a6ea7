// SPDX-License-Identifier: Apache-2.0
// The sampler without an engine: what carat_sampler_new makes once it knows the vocabulary's size
// and the tokens that the model must never say.
#ifndef CARAT_ENGINE_SAMPLER_H
#define CARAT_ENGINE_SAMPLER_H

#include "carat.h"

#define SAMPLER_TOP_MAX    100u              // most log-probabilities of a pick
#define SAMPLER_WINDOW_MAX ((size_t)1 << 24) // longest penalty window, tokens
#define SAMPLER_BIASES_MAX ((size_t)1 << 20)

// temperature 1.0, top-k 64, top-p 0.95, everything else off, a random seed.
void sampling_init(struct carat_sampling *out);

// suppressed is copied; ids outside the vocabulary are passed over. Everything that picking needs
// is allocated here.
int sampler_new(struct carat_sampler **out, size_t n_vocab, const struct carat_sampling *sampling,
                const carat_token *suppressed, size_t n_suppressed, struct carat_error *err);

// Bytes that one takes at most, biases and a penalty window apart.
size_t sampler_memory(size_t n_vocab);

#endif
