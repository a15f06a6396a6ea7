// SPDX-License-Identifier: Apache-2.0
// What the parts of the quantizer share. Private to quantize*.c.
#ifndef CARAT_MODEL_QUANTIZE_H
#define CARAT_MODEL_QUANTIZE_H

#include "carat_jobs.h"
#include "model/transcode.h"

// What is known of a matrix's importance. One that does not fit the matrix is an error.
int importance_for(struct column_importance *out, const struct carat_importance *importance,
                   const struct item *item, struct carat_error *err);

// Gives every matrix of the catalog its type, by options->type, rules and all. other_size: bytes of
// the file that are not tensors, for auto.
int quantize_choose(struct catalog *c, const struct carat_quantize_options *options,
                    size_t n_grouped, uint64_t other_size, struct transcoder *t,
                    const struct recipe **recipe, struct carat_error *err);
// The same by measured errors: the best that is not larger than `budget` bytes, all in all.
int quantize_choose_by_error(struct catalog *c, const struct carat_quantize_options *options,
                             uint64_t budget, uint64_t other_size, struct transcoder *t,
                             struct carat_error *err);
// Bytes of an item's values as another type.
uint64_t item_size_as(const struct item *item, enum dtype type);

#endif
