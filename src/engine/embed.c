// SPDX-License-Identifier: Apache-2.0
// The projections alone: what the media of a prompt look like to the decoder.
#include "base/error.h"
#include "base/mem.h"
#include "engine/span.h"

// One call of carat_media_embed.
struct embedding {
    struct carat_engine *engine;
    const struct carat_media *media;
    struct embedder embedder;
    float *rows; // [EMBED_ROWS, hidden_size]
    size_t n_done;
    carat_on_tensor on_tensor;
    void *user;
};

// A run counts its own soft tokens, the caller those of the whole medium.
static void show(void *user, const char *name, int layer, size_t first, size_t n_rows,
                 size_t n_columns, const float *rows)
{
    const struct embedding *e = user;
    e->on_tensor(e->user, name, layer, e->n_done + first, n_rows, n_columns, rows);
}

static struct soft_span span_of(const struct carat_media *m, const struct media_run *run)
{
    struct soft_span span = {.kind = SOFT_IMAGE, .n = run->n_tokens};
    if (run->kind == MEDIA_RUN_AUDIO) {
        span.kind = SOFT_AUDIO;
        span.samples = m->samples + run->first_sample;
        span.n_samples = run->n_samples;
    } else {
        span.pixels = m->frames[run->i_frame].pixels;
        span.width = m->info.width;
        span.height = m->info.height;
    }
    return span;
}

// A few rows at a time: a sound may be hours long.
static void embed_run(struct embedding *e, struct soft_span span)
{
    struct embed_trace trace = {.on_tensor = e->on_tensor ? show : NULL, .user = e};
    size_t n = span.n;
    for (size_t i = 0; i < n; i += EMBED_ROWS) {
        span.n = n - i < EMBED_ROWS ? n - i : EMBED_ROWS;
        span.skipped = i;
        struct tensor out = tensor_make(e->rows, span.n, e->embedder.projector->hidden_size);
        if (span.kind == SOFT_IMAGE) {
            embed_image(&e->embedder, out, &span, trace);
        } else {
            embed_audio(&e->embedder, out, &span, trace);
        }
    }
}

static int embed_all(struct embedding *e, struct carat_error *err)
{
    for (size_t i = 0; i < media_n_runs(e->media); i++) {
        struct media_run run = media_run_at(e->media, i);
        if (run.n_tokens == 0) {
            continue;
        }
        struct soft_span span = span_of(e->media, &run);
        int rc = span_check(e->engine->decoder.projector, &span, err);
        if (rc) {
            return rc;
        }
        embed_run(e, span);
        e->n_done += run.n_tokens;
    }
    return device_wait(e->engine->device, err);
}

int carat_media_embed(struct carat_engine *engine, const struct carat_media *media,
                      carat_on_tensor on_tensor, void *user, struct carat_error *err)
{
    struct embedding e = {.engine = engine, .media = media, .on_tensor = on_tensor, .user = user};
    const struct projector *p = engine->decoder.projector;
    if (!p) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "this model file has no projection of pictures and sound; give the mmproj "
                    "file that belongs to it");
    }
    e.rows = mem_new_array((size_t)EMBED_ROWS * p->hidden_size, sizeof(float), err);
    if (!e.rows) {
        return CARAT_E_MEMORY;
    }
    struct device_limits limits = {.rows_max = EMBED_ROWS};
    embedder_limits(&limits, p);
    pthread_mutex_lock(&engine->lock);
    int rc = device_reserve(engine->device, &limits, err);
    if (rc == 0) {
        rc = embedder_reserve(&e.embedder, p, engine->device, err);
    }
    if (rc == 0) {
        rc = embed_all(&e, err);
    }
    embedder_release(&e.embedder);
    pthread_mutex_unlock(&engine->lock);
    mem_free(e.rows);
    return rc;
}
