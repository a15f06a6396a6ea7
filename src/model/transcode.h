// SPDX-License-Identifier: Apache-2.0
// Values of a tensor from one element type to another, a few megabytes at a time, on all cores.
#ifndef CARAT_MODEL_TRANSCODE_H
#define CARAT_MODEL_TRANSCODE_H

#include "base/pool.h"
#include "formats/partial.h"
#include "model/catalog.h"

struct transcoder {
    struct pool *pool;
    float *scratch;  // two segments for each thread
    uint8_t *packed; // a slab
    struct transcode_sum *sums;
    carat_on_progress on_progress; // may be NULL
    void *user;
    const char *what;
    uint64_t done; // bytes of the source, of total
    uint64_t total;
};

// Sums over values: of the squared error and of the squares, weighted by importance.
struct transcode_sum {
    double error;
    double energy;
    bool is_finite; // every value, before and after
};

// A matrix's importance: for each column, or for each column of each outermost part (expert).
struct column_importance {
    const float *values; // NULL: none
    uint64_t n;
};

int transcoder_init(struct transcoder *t, size_t n_threads, struct carat_error *err);
void transcoder_release(struct transcoder *t); // takes zeroed memory

// Appends the item's bytes as item->to. With measures, sum gets the errors; else zeros.
int transcode_item(struct transcoder *t, const struct item *item,
                   struct column_importance importance, bool measures, struct partial *file,
                   struct transcode_sum *sum, struct carat_error *err);
// What the error would be as `type`, from rows spread evenly over the matrix.
void transcode_measure(struct transcoder *t, const struct item *item,
                       struct column_importance importance, enum dtype type,
                       struct transcode_sum *sum);

#endif
