// SPDX-License-Identifier: Apache-2.0
// What a text is like, as a direction: the mean of the last layer's normalised hidden states.
#include "engine/session.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

// Looks at the tensors in the place of the session's own observer, which still gets them.
struct pooling {
    carat_on_tensor on_tensor; // may be NULL
    void *user;
    double *sums; // [hidden_size]
};

static void add_rows(void *user, const char *name, int layer, size_t first, size_t n_rows,
                     size_t n_columns, const float *rows)
{
    struct pooling *p = user;
    for (size_t row = 0; strcmp(name, "norm") == 0 && row < n_rows; row++) {
        for (size_t i = 0; i < n_columns; i++) {
            p->sums[i] += (double)rows[row * n_columns + i];
        }
    }
    if (p->on_tensor) {
        p->on_tensor(p->user, name, layer, first, n_rows, n_columns, rows);
    }
}

// A mean and a sum have the same direction.
static void scale_to_length_1(float *out, const double *sums, size_t n)
{
    double square = 0;
    for (size_t i = 0; i < n; i++) {
        square += sums[i] * sums[i];
    }
    double factor = square > 0 ? 1 / sqrt(square) : 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)(sums[i] * factor);
    }
}

int carat_session_embed(struct carat_session *s, const struct carat_prompt *p, float *out,
                        struct carat_error *err)
{
    const size_t n = s->engine->config.hidden_size;
    struct pooling pooling = {.on_tensor = s->on_tensor, .user = s->tensor_user};
    pooling.sums = mem_new_array(n, sizeof(pooling.sums[0]), err);
    if (!pooling.sums) {
        return CARAT_E_MEMORY;
    }
    // All of it is evaluated: the states of what is in the cache already are not kept.
    s->on_tensor = add_rows;
    s->tensor_user = &pooling;
    int rc = session_read(s, p, true, NULL, err);
    s->prompt_end = 0; // no conversation will go on here: nothing to be kept
    s->on_tensor = pooling.on_tensor;
    s->tensor_user = pooling.user;
    if (rc == 0) {
        scale_to_length_1(out, pooling.sums, n);
    }
    mem_free(pooling.sums);
    return rc;
}
