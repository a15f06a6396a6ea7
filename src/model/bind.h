// SPDX-License-Identifier: Apache-2.0
// One tensor at a time: found by name, checked, and bound. Private to the files that bind tensors
// to roles (weights.c, projector.c).
#ifndef CARAT_MODEL_BIND_H
#define CARAT_MODEL_BIND_H

#include "base/mem.h"
#include "compute/device.h"
#include "formats/source.h"

// What a tensor must have. A vector has one row, and a file may leave that dimension out.
struct tensor_shape {
    uint64_t outer; // 0: two dimensions are all there are
    uint64_t rows;
    uint64_t columns;
};

struct tensor_binder {
    const struct source *source;
    struct arena *arena;  // of the copies
    uint64_t file_size;   // bytes of the matrices
    uint64_t vector_size; // bytes of the vectors in the file
    uint64_t packed_size; // bytes of the device's copies of them
    uint64_t n_parameters;
    uint64_t params_by_type[DTYPE_COUNT];
};

// A matrix stays in the file, in its own type, until load.h takes it. factor: what its products are
// multiplied by.
int bind_matrix(struct tensor_binder *b, struct weight *out, float *factor, const char *name,
                struct tensor_shape want, struct carat_error *err);
// A vector is copied as f32.
int bind_vector(struct tensor_binder *b, const float **out, const char *name, uint64_t n,
                struct carat_error *err);

#endif
