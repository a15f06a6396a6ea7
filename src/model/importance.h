// SPDX-License-Identifier: Apache-2.0
// Sums of squares of what each matrix is multiplied with, column by column, and the files that keep
// them (imatrix: docs/formats.md).
#ifndef CARAT_MODEL_IMPORTANCE_H
#define CARAT_MODEL_IMPORTANCE_H

#include "base/map.h"
#include "base/mem.h"
#include "carat_jobs.h"

// Limits of the readers.
#define IMPORTANCE_MATRICES_MAX 65536
#define IMPORTANCE_COLUMNS_MAX  ((uint64_t)1 << 26)

struct importance_matrix {
    char *name;   // of the matrix
    double *sums; // [n]
    float *means; // [n], of the sums as they were when is_fresh was set
    size_t n;
    double count; // rows that were added up
    bool is_fresh;
};
struct carat_importance {
    struct importance_matrix *matrices;
    size_t n;
    struct map names;
    uint64_t n_tokens;
};

// The same as carat_importance_read, over bytes (for tests and fuzzing).
int importance_read_memory(struct carat_importance **out, const void *data, size_t size,
                           const char *name, struct carat_error *err);
// The entry of this name, made with n columns when it is not there; NULL with an error when it has
// another number of columns.
struct importance_matrix *importance_entry(struct carat_importance *im, const char *name, size_t n,
                                           struct carat_error *err);

#endif
