// SPDX-License-Identifier: Apache-2.0
// Importance from prompts: the squares of what every matrix of the decoder is multiplied with,
// added up column by column on the way. The trace shows those rows; nothing is computed for them
// alone.
#include <string.h>

#include "base/error.h"
#include "engine/engine.h"
#include "model/importance.h"

#define CONTEXT_DEFAULT 4096

struct collection {
    struct carat_importance *importance;
    const struct weights *weights;
    int status; // the first that is not 0
    struct carat_error error;
};

// Which matrices a traced tensor is multiplied with.
struct traced {
    const char *name;
    enum tensor_role roles[3];
    size_t n;
};
static const struct traced traced[] = {
    {"attn_in", {ROLE_Q, ROLE_K, ROLE_V}, 3},
    {"attn_out_in", {ROLE_O}, 1},
    {"ffn_in", {ROLE_GATE, ROLE_UP}, 2},
    {"ffn_down_in", {ROLE_DOWN}, 1},
};

static void add_rows(struct collection *c, enum tensor_role role, size_t layer, size_t n_rows,
                     size_t n_columns, const float *rows)
{
    char name[TENSOR_NAME_SIZE];
    weights_name(name, role, layer, NULL);
    struct importance_matrix *m =
        c->status ? NULL : importance_entry(c->importance, name, n_columns, &c->error);
    if (!m) {
        c->status = c->status ? c->status : c->error.status;
        return;
    }
    for (size_t i = 0; i < n_rows; i++) {
        const float *row = rows + i * n_columns;
        for (size_t k = 0; k < n_columns; k++) {
            m->sums[k] += (double)row[k] * (double)row[k];
        }
    }
    m->count += (double)n_rows;
    m->is_fresh = false;
}

static void on_tensor(void *user, const char *name, int layer, size_t first, size_t n_rows,
                      size_t n_columns, const float *rows)
{
    struct collection *c = user;
    (void)first;
    if (strcmp(name, "norm") == 0) {
        bool is_tied = c->weights->head.data == c->weights->embed.data;
        add_rows(c, is_tied ? ROLE_EMBED : ROLE_HEAD, 0, n_rows, n_columns, rows);
        c->importance->n_tokens += n_rows;
    }
    for (size_t i = 0; layer >= 0 && i < sizeof(traced) / sizeof(traced[0]); i++) {
        if (strcmp(name, traced[i].name) != 0) {
            continue;
        }
        for (size_t k = 0; k < traced[i].n; k++) {
            if (c->weights->layers[layer].matrix[traced[i].roles[k]].columns == n_columns) {
                add_rows(c, traced[i].roles[k], (size_t)layer, n_rows, n_columns, rows);
            }
        }
    }
}

// The session's callbacks go to two different places.
struct watch {
    struct collection collection;
    carat_on_progress on_progress;
    void *user;
};

static void watch_tensor(void *user, const char *name, int layer, size_t first, size_t n_rows,
                         size_t n_columns, const float *rows)
{
    struct watch *w = user;
    on_tensor(&w->collection, name, layer, first, n_rows, n_columns, rows);
}

static bool watch_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    struct watch *w = user;
    return !w->on_progress || w->on_progress(w->user, what, done, total);
}

int carat_importance_collect(struct carat_importance *importance, struct carat_engine *engine,
                             const struct carat_prompt *prompt, size_t context_max,
                             carat_on_progress on_progress, void *user, struct carat_error *err)
{
    struct carat_session *session = NULL;
    struct watch watch = {.collection = {.importance = importance, .weights = &engine->weights},
                          .on_progress = on_progress,
                          .user = user};
    size_t most = context_max ? context_max : CONTEXT_DEFAULT;
    const struct carat_session_options options = {
        .context_max = most < prompt->n_tokens || most < engine->config.context_max
                           ? most
                           : engine->config.context_max,
        .on_tensor = watch_tensor,
        .on_progress = watch_progress,
        .user = &watch,
    };
    int rc = carat_session_new(&session, engine, &options, err);
    rc = rc ? rc : carat_session_sync(session, prompt, NULL, err);
    if (rc == 0 && watch.collection.status) {
        rc = fail(err, (enum carat_status)watch.collection.status, "%s",
                  watch.collection.error.text);
    }
    carat_session_free(session);
    return rc;
}
