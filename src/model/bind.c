// SPDX-License-Identifier: Apache-2.0
// What every tensor goes through before it is used: it is there, its shape is the expected one, its
// element type is one to compute with.
#include "model/bind.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

static int find(const struct source_tensor **out, const struct tensor_binder *b, const char *name,
                struct carat_error *err)
{
    *out = source_find(b->source, name);
    return *out ? 0
                : fail(err, CARAT_E_FORMAT, "%s: tensor '%s' is missing", source_path(b->source),
                       name);
}

// The dimension that stands i places before the last.
static uint64_t dim_from_last(const struct source_tensor *t, uint32_t i)
{
    return i < t->n_dims ? t->dims[t->n_dims - 1 - i] : 1;
}

// "2 x 3 x 4", without the dimensions in front that are not there.
static void describe(char out[96], const uint64_t *dims, uint32_t n)
{
    size_t at = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < n && at < 96; i++) {
        at += (size_t)snprintf(out + at, 96 - at, "%s%llu", i ? " x " : "",
                               (unsigned long long)dims[i]);
    }
}

static int check_tensor(const struct tensor_binder *b, const char *name,
                        const struct source_tensor *t, struct tensor_shape want,
                        struct carat_error *err)
{
    uint32_t n_dims = want.outer > 0 ? 3 : 2;
    want.outer = want.outer > 0 ? want.outer : 1;
    if (t->n_dims > n_dims || dim_from_last(t, 0) != want.columns ||
        dim_from_last(t, 1) != want.rows || dim_from_last(t, 2) != want.outer) {
        const uint64_t dims[3] = {want.outer, want.rows, want.columns};
        char expected[96];
        char found[96];
        describe(expected, dims + 3 - n_dims, n_dims);
        describe(found, t->dims, t->n_dims);
        return fail(err, CARAT_E_FORMAT, "%s: tensor '%s': expected %s, found %s",
                    source_path(b->source), name, expected, found[0] ? found : "a scalar");
    }
    if (t->type >= DTYPE_COUNT_COMPUTE) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: tensor '%s' has element type %s, which carat cannot compute with; use a "
                    "file in Q4_0, Q4_K, Q6_K, Q8_0, BF16 or another common type",
                    source_path(b->source), name, dtypes[t->type].name);
    }
    return 0;
}

// NVFP4 files may keep a factor for a whole tensor beside it, as "<name>.scale" with or without the
// ".weight" in between (gguf.md section 3). 1 where there is none.
static int read_factor(const struct tensor_binder *b, float *out, const char *tensor,
                       struct carat_error *err)
{
    char name[192];
    snprintf(name, sizeof(name), "%s.scale", tensor);
    const struct source_tensor *t = source_find(b->source, name);
    size_t n = strlen(tensor);
    if (!t && n > 7 && strcmp(tensor + n - 7, ".weight") == 0) {
        snprintf(name, sizeof(name), "%.*s.scale", (int)(n - 7), tensor);
        t = source_find(b->source, name);
    }
    *out = 1;
    if (!t) {
        return 0;
    }
    if (t->type != DTYPE_F32 || t->size != sizeof(float)) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: tensor '%s': expected one value of type F32, found %llu bytes of %s",
                    source_path(b->source), name, (unsigned long long)t->size,
                    dtypes[t->type].name);
    }
    memcpy(out, t->data, sizeof(*out));
    return 0;
}

int bind_matrix(struct tensor_binder *b, struct weight *out, float *factor, const char *name,
                struct tensor_shape want, struct carat_error *err)
{
    const struct source_tensor *t = NULL;
    size_t row_size = 0;
    int rc = find(&t, b, name, err);
    if (rc == 0) {
        rc = check_tensor(b, name, t, want, err);
    }
    if (rc == 0) {
        rc = read_factor(b, factor, name, err);
    }
    if (rc == 0 && !dtype_row_size(&row_size, t->type, want.columns)) {
        rc = fail(err, CARAT_E_FORMAT, "%s: tensor '%s': rows of %llu values do not fit type %s",
                  source_path(b->source), name, (unsigned long long)want.columns,
                  dtypes[t->type].name);
    }
    if (rc) {
        return rc;
    }
    // The products fit: the tensor has this shape and lies in the file.
    uint64_t rows = (want.outer > 0 ? want.outer : 1) * want.rows;
    *out = (struct weight){
        .type = t->type,
        .data = t->data,
        .rows = (size_t)rows,
        .columns = (size_t)want.columns,
        .row_size = row_size,
    };
    b->file_size += t->size;
    b->packed_size += device_weight_size(out);
    b->n_parameters += rows * want.columns;
    b->params_by_type[t->type] += rows * want.columns;
    return 0;
}

int bind_vector(struct tensor_binder *b, const float **out, const char *name, uint64_t n,
                struct carat_error *err)
{
    const struct source_tensor *t = NULL;
    int rc = find(&t, b, name, err);
    if (rc == 0) {
        rc = check_tensor(b, name, t, (struct tensor_shape){0, 1, n}, err);
    }
    if (rc == 0 && n % dtypes[t->type].block_values != 0) {
        rc = fail(err, CARAT_E_FORMAT, "%s: tensor '%s': %llu values do not fit type %s",
                  source_path(b->source), name, (unsigned long long)n, dtypes[t->type].name);
    }
    if (rc) {
        return rc;
    }
    float *copy = arena_take(b->arena, (size_t)n * sizeof(float), err);
    if (!copy) {
        return CARAT_E_MEMORY;
    }
    dtypes[t->type].unpack(copy, t->data, (size_t)n);
    b->vector_size += t->size;
    b->n_parameters += n;
    *out = copy;
    return 0;
}
