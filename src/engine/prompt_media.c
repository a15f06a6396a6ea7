// SPDX-License-Identifier: Apache-2.0
// The soft tokens of a prompt: which placeholders stand for which picture or sound, copies of the
// data, and the keys by which a session knows what it has read already.
#include "engine/engine.h"

#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"

// ------------------------------------------------------------------------------------------- keys

static uint64_t nonzero(uint64_t key)
{
    return key ? key : 1;
}

uint64_t span_key(const struct prompt_span *span, size_t i)
{
    struct hash h;
    hash_init(&h, NULL);
    hash_add_u64(&h, span->key);
    hash_add_u64(&h, i);
    return nonzero(hash_u64(&h));
}

// A frame of sound alone, so that a recording and a longer one share their beginning. The last
// frame is filled with zeros, as the model sees it.
static uint64_t frame_key(const struct prompt_span *span, size_t i)
{
    float frame[MEDIA_FRAME_SAMPLES] = {0};
    struct hash h;
    size_t first = i * MEDIA_FRAME_SAMPLES;
    size_t left = span->n_samples - first;
    size_t n = left < MEDIA_FRAME_SAMPLES ? left : MEDIA_FRAME_SAMPLES;
    memcpy(frame, span->samples + first, n * sizeof(float));
    hash_init(&h, NULL);
    hash_add(&h, frame, sizeof(frame));
    return nonzero(hash_u64(&h));
}

static uint64_t picture_key(const struct prompt_span *span)
{
    struct hash h;
    hash_init(&h, NULL);
    hash_add(&h, span->pixels, (size_t)span->width * span->height * 3);
    hash_add_u64(&h, span->width);
    hash_add_u64(&h, span->height);
    return hash_u64(&h);
}

// Sets the span's key and those of its positions.
static void set_keys(struct prompt_span *span, uint64_t *keys)
{
    if (span->kind == SOFT_IMAGE) {
        span->key = picture_key(span);
        for (size_t i = 0; i < span->n; i++) {
            keys[i] = span_key(span, i);
        }
        return;
    }
    struct hash h;
    hash_init(&h, NULL);
    for (size_t i = 0; i < span->n; i++) {
        keys[i] = frame_key(span, i);
        hash_add_u64(&h, keys[i]);
    }
    span->key = hash_u64(&h);
}

// ------------------------------------------------------------------------------------------ spans

static const char *kind_name(enum soft_kind kind)
{
    return kind == SOFT_IMAGE ? "picture" : "sound";
}

void prompt_drop_spans(struct carat_prompt *p)
{
    for (size_t i = 0; i < p->n_spans; i++) {
        mem_free(p->spans[i].pixels);
        mem_free(p->spans[i].samples);
    }
    mem_free(p->spans);
    mem_free(p->keys);
    p->spans = NULL;
    p->keys = NULL;
    p->n_spans = 0;
    p->span_capacity = 0;
}

static int make_room(struct carat_prompt *p, struct carat_error *err)
{
    if (!p->keys) {
        p->keys = mem_new_array(p->n_tokens, sizeof(p->keys[0]), err);
        if (!p->keys) {
            return CARAT_E_MEMORY;
        }
    }
    if (p->n_spans < p->span_capacity) {
        return 0;
    }
    size_t capacity = p->span_capacity ? 2 * p->span_capacity : 4;
    struct prompt_span *grown = p->spans ? mem_resize(p->spans, capacity * sizeof(*grown), err)
                                         : mem_new_array(capacity, sizeof(*grown), err);
    if (!grown) {
        return CARAT_E_MEMORY;
    }
    p->spans = grown;
    p->span_capacity = capacity;
    return 0;
}

static int copy_content(struct prompt_span *span, const struct carat_media *m,
                        const struct media_run *run, struct carat_error *err)
{
    if (span->kind == SOFT_IMAGE) {
        span->width = m->info.width;
        span->height = m->info.height;
        size_t size = (size_t)span->width * span->height * 3;
        span->pixels = mem_new(size, err);
        if (!span->pixels) {
            return CARAT_E_MEMORY;
        }
        memcpy(span->pixels, m->frames[run->i_frame].pixels, size);
        return 0;
    }
    span->n_samples = run->n_samples;
    span->samples = mem_new_array(run->n_samples, sizeof(float), err);
    if (!span->samples) {
        return CARAT_E_MEMORY;
    }
    memcpy(span->samples, m->samples + run->first_sample, run->n_samples * sizeof(float));
    return 0;
}

// A film's frames may stand where pictures are expected, and the other way round.
static bool is_placeholder(const struct special_tokens *s, enum soft_kind kind, carat_token token)
{
    return kind == SOFT_AUDIO ? token == s->audio : token == s->image || token == s->video;
}

static int check_run(const struct carat_prompt *p, const struct carat_engine *engine,
                     const struct prompt_span *span, size_t n_expected, struct carat_error *err)
{
    if (span->n != n_expected) {
        return fail(err, CARAT_E_ARGUMENT,
                    "position %zu: expected %zu placeholders for a %s of that many soft tokens, "
                    "found %zu",
                    span->first, n_expected, kind_name(span->kind), span->n);
    }
    size_t behind = p->n_spans ? p->spans[p->n_spans - 1].first + p->spans[p->n_spans - 1].n : 0;
    bool is_inside = span->n > 0 && span->first >= behind && span->first <= p->n_tokens &&
                     span->n <= p->n_tokens - span->first;
    require(is_inside);
    for (size_t i = 0; i < span->n; i++) {
        if (!is_placeholder(tokenizer_specials(engine->tokenizer), span->kind,
                            p->tokens[span->first + i])) {
            return fail(err, CARAT_E_UNSUPPORTED,
                        "position %zu: expected a placeholder for a %s; the model's vocabulary "
                        "has none",
                        span->first + i, kind_name(span->kind));
        }
    }
    if (span->is_open && span->first + span->n != p->n_tokens) {
        return fail(err, CARAT_E_ARGUMENT,
                    "position %zu: a sound that is not finished must end the prompt", span->first);
    }
    return 0;
}

int prompt_add_run(struct carat_prompt *p, const struct carat_engine *engine, size_t first,
                   size_t n, const struct carat_media *media, size_t i_run, struct carat_error *err)
{
    struct media_run run = media_run_at(media, i_run);
    struct prompt_span span = {
        .kind = run.kind == MEDIA_RUN_AUDIO ? SOFT_AUDIO : SOFT_IMAGE,
        .first = first,
        .n = n,
        .is_open = run.is_open,
    };
    int rc = check_run(p, engine, &span, run.n_tokens, err);
    if (rc == 0) {
        rc = make_room(p, err);
    }
    if (rc == 0) {
        rc = copy_content(&span, media, &run, err);
    }
    if (rc) {
        return rc;
    }
    set_keys(&span, p->keys + first);
    p->spans[p->n_spans++] = span;
    return 0;
}

// -------------------------------------------------------------------------- prompts made of tokens

// The runs of one kind, in the order of the media.
struct queue {
    const struct carat_media *const *media;
    size_t n_media;
    enum soft_kind kind;
    size_t i_medium;
    size_t i_run;
};

// Moves to the next run of this kind that has tokens; false at the end.
static bool find_next(struct queue *q)
{
    for (; q->i_medium < q->n_media; q->i_medium++, q->i_run = 0) {
        const struct carat_media *m = q->media[q->i_medium];
        for (size_t n = media_n_runs(m); q->i_run < n; q->i_run++) {
            struct media_run run = media_run_at(m, q->i_run);
            bool is_sound = run.kind == MEDIA_RUN_AUDIO;
            if (run.n_tokens > 0 && is_sound == (q->kind == SOFT_AUDIO)) {
                return true;
            }
        }
    }
    return false;
}

// The placeholders from `first` on, all of one token, take the next run.
static int add_next(struct carat_prompt *p, const struct carat_engine *engine, size_t first,
                    size_t *end, struct queue *q, struct carat_error *err)
{
    size_t n = 1;
    while (first + n < p->n_tokens && p->tokens[first + n] == p->tokens[first]) {
        n++;
    }
    *end = first + n;
    if (!find_next(q)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "position %zu: placeholders for a %s, but no %s is left: give one for each run",
                    first, kind_name(q->kind), kind_name(q->kind));
    }
    int rc = prompt_add_run(p, engine, first, n, q->media[q->i_medium], q->i_run, err);
    q->i_run++;
    return rc;
}

int carat_prompt_add_media(struct carat_prompt *p, const struct carat_engine *engine,
                           const struct carat_media *const *media, size_t n,
                           struct carat_error *err)
{
    struct queue pictures = {.media = media, .n_media = n, .kind = SOFT_IMAGE};
    struct queue sounds = {.media = media, .n_media = n, .kind = SOFT_AUDIO};
    if (p->n_spans > 0) {
        return fail(err, CARAT_E_ARGUMENT, "the prompt has its media already");
    }
    if (atomic_load(&p->n_holders) > 1) {
        return fail(err, CARAT_E_ARGUMENT,
                    "a session was prepared with the prompt: give it its media before");
    }
    const struct special_tokens *s = tokenizer_specials(engine->tokenizer);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < p->n_tokens;) {
        if (is_placeholder(s, SOFT_IMAGE, p->tokens[i])) {
            rc = add_next(p, engine, i, &i, &pictures, err);
        } else if (is_placeholder(s, SOFT_AUDIO, p->tokens[i])) {
            rc = add_next(p, engine, i, &i, &sounds, err);
        } else {
            i++;
        }
    }
    const struct queue *left = find_next(&pictures) ? &pictures
                               : find_next(&sounds) ? &sounds
                                                    : NULL;
    if (rc == 0 && left) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "medium %zu: the prompt has no placeholders left for its %s", left->i_medium,
                  kind_name(left->kind));
    }
    if (rc) {
        prompt_drop_spans(p);
    }
    return rc;
}
