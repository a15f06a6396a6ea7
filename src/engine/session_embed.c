// SPDX-License-Identifier: Apache-2.0
// What a text is like, as a direction: the mean of the last layer's normalised hidden states.
#include "engine/session.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

// Looks at the tensors in the place of the session's own observer, which still gets them. Rows come
// in the order of positions, so that chunks make no difference to their sum; those of a round that
// failed come again.
static void add_rows(void *user, const char *name, int layer, size_t first, size_t n_rows,
                     size_t n_columns, const float *rows)
{
    struct carat_session *s = user;
    for (size_t row = 0; strcmp(name, "norm") == 0 && row < n_rows; row++) {
        if (first + row != s->n_pooled) {
            continue;
        }
        for (size_t i = 0; i < n_columns; i++) {
            s->pool[i] += (double)rows[row * n_columns + i];
        }
        s->n_pooled++;
    }
    if (s->options.on_tensor) {
        s->options.on_tensor(s->options.user, name, layer, first, n_rows, n_columns, rows);
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

int carat_session_prepare_embedding(struct carat_session *s, const struct carat_prompt *p,
                                    struct carat_error *err)
{
    const size_t n = s->engine->config.hidden_size;
    if (!s->pool) {
        s->pool = mem_new_array(n, sizeof(s->pool[0]), err);
    }
    // All of it is evaluated: the states of what is in the cache already are not kept.
    int rc = s->pool ? session_prepare(s, p, true, NULL, err) : CARAT_E_MEMORY;
    if (rc) {
        return rc;
    }
    for (size_t i = 0; i < n; i++) {
        s->pool[i] = 0;
    }
    s->n_pooled = 0;
    s->prompt_end = 0; // no conversation will go on here: nothing to be kept
    s->on_tensor = add_rows;
    s->tensor_user = s;
    return 0;
}

int carat_session_embedding(const struct carat_session *s, float *out, struct carat_error *err)
{
    if (!s->pool || s->n_pooled == 0 || s->n_pooled != s->n_tokens || s->rest) {
        return fail(err, CARAT_E_ARGUMENT,
                    "there is no embedding: prepare the session for one and evaluate all of it");
    }
    scale_to_length_1(out, s->pool, s->engine->config.hidden_size);
    return 0;
}

int carat_session_embed(struct carat_session *s, const struct carat_prompt *p, float *out,
                        struct carat_error *err)
{
    int rc = carat_session_prepare_embedding(s, p, err);
    rc = rc ? rc : session_read_rest(s, err);
    return rc ? rc : carat_session_embedding(s, out, err);
}
