// SPDX-License-Identifier: Apache-2.0
// The rule of model.md section 4.4 as a session needs it: soft tokens of one picture see each other
// in both directions in the sliding layers, so they are evaluated together and kept or dropped
// together. Such a span is called a block here.
#include "engine/span.h"

#include "base/error.h"
#include "base/mem.h"

// --------------------------------------------------------------------------------------- checking

static int check_picture(const struct projector *p, const struct soft_span *span,
                         struct carat_error *err)
{
    if (!p || !p->has_vision) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "this model file has no projection of pictures; give the mmproj file that "
                    "belongs to it");
    }
    uint32_t block = p->block;
    if (span->width % block || span->height % block) {
        return fail(err, CARAT_E_ARGUMENT,
                    "a picture of %ux%u pixels: expected sides that are multiples of %u, the "
                    "model's block: make the medium with that block",
                    span->width, span->height, block);
    }
    uint32_t columns = span->width / block;
    uint32_t rows = span->height / block;
    if (columns > p->n_positions || rows > p->n_positions) {
        return fail(err, CARAT_E_ARGUMENT,
                    "a picture of %ux%u pixels: the model knows at most %u blocks of %u pixels "
                    "along a side",
                    span->width, span->height, p->n_positions, block);
    }
    if ((size_t)columns * rows != span->n) {
        return fail(err, CARAT_E_ARGUMENT,
                    "a picture of %ux%u pixels is %zu soft tokens to this model, the prompt has "
                    "%zu: make the medium with a block of %u",
                    span->width, span->height, (size_t)columns * rows, span->n, block);
    }
    return 0;
}

static int check_sound(const struct projector *p, const struct soft_span *span,
                       struct carat_error *err)
{
    if (!p || !p->has_audio) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "this model file has no projection of sound; give the mmproj file that belongs "
                    "to it");
    }
    if (p->frame_samples != MEDIA_FRAME_SAMPLES) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "sound is cut into frames of %d samples, this model takes %u",
                    MEDIA_FRAME_SAMPLES, p->frame_samples);
    }
    size_t n = span->n_samples / MEDIA_FRAME_SAMPLES + (span->n_samples % MEDIA_FRAME_SAMPLES > 0);
    require(span->n == n);
    return 0;
}

int span_check(const struct projector *projector, const struct soft_span *span,
               struct carat_error *err)
{
    return span->kind == SOFT_IMAGE ? check_picture(projector, span, err)
                                    : check_sound(projector, span, err);
}

static bool is_block(const struct span_rule *rule, const struct prompt_span *span)
{
    return span->kind == SOFT_IMAGE ? rule->pictures_see_ahead : rule->sound_sees_ahead;
}

static struct soft_span whole(const struct prompt_span *span)
{
    return (struct soft_span){
        .kind = span->kind,
        .n = span->n,
        .pixels = span->pixels,
        .width = span->width,
        .height = span->height,
        .samples = span->samples,
        .n_samples = span->n_samples,
    };
}

static int check_spans(const struct span_rule *rule, const struct carat_prompt *p,
                       struct carat_error *err)
{
    for (size_t i = 0; i < p->n_spans; i++) {
        struct soft_span span = whole(&p->spans[i]);
        int rc = span_check(rule->projector, &span, err);
        if (rc) {
            return rc;
        }
        if (is_block(rule, &p->spans[i]) && span.n > rule->rows_max) {
            return fail(err, CARAT_E_ARGUMENT,
                        "position %zu: %zu soft tokens have to be read together, the session "
                        "reads at most %zu: open it with a prefill_chunk of that many, or make "
                        "the %s smaller",
                        p->spans[i].first, span.n, rule->rows_max,
                        span.kind == SOFT_IMAGE ? "picture" : "spans of sound");
        }
    }
    return 0;
}

int span_check_prompt(const struct span_rule *rule, const struct carat_prompt *p,
                      const struct special_tokens *specials, struct carat_error *err)
{
    size_t i_span = 0;
    for (size_t i = 0; i < p->n_tokens; i++) {
        carat_token token = p->tokens[i];
        if (i_span < p->n_spans && i == p->spans[i_span].first) {
            i += p->spans[i_span++].n - 1;
        } else if (token == specials->image || token == specials->video ||
                   token == specials->audio) {
            return fail(err, CARAT_E_ARGUMENT,
                        "position %zu: a placeholder for a %s and nothing to put there: give the "
                        "message's part its medium, or the prompt its media with "
                        "carat_prompt_add_media",
                        i, token == specials->audio ? "sound" : "picture");
        }
    }
    return check_spans(rule, p, err);
}

// ---------------------------------------------------------------------------------------- cutting

size_t span_ready(const struct span_rule *rule, const struct carat_prompt *p)
{
    const struct prompt_span *last = p->n_spans ? &p->spans[p->n_spans - 1] : NULL;
    return last && last->is_open && is_block(rule, last) ? last->first : p->n_tokens;
}

uint64_t span_key_at(const struct span_rule *rule, const struct carat_prompt *p, size_t position,
                     size_t *i_span)
{
    while (*i_span < p->n_spans && p->spans[*i_span].first + p->spans[*i_span].n <= position) {
        (*i_span)++;
    }
    const struct prompt_span *span = *i_span < p->n_spans ? &p->spans[*i_span] : NULL;
    if (!span || position < span->first) {
        return 0;
    }
    // A frame's own key says too little where it depends on what comes after it.
    bool is_seen_through = span->kind == SOFT_AUDIO && is_block(rule, span);
    return is_seen_through ? span_key(span, position - span->first) : p->keys[position];
}

size_t span_block_begin(const struct span_rule *rule, const struct carat_prompt *p, size_t position)
{
    for (size_t i = 0; i < p->n_spans && p->spans[i].first < position; i++) {
        const struct prompt_span *span = &p->spans[i];
        if (position < span->first + span->n && is_block(rule, span)) {
            return span->first;
        }
    }
    return position;
}

size_t span_chunk_end(const struct span_rule *rule, const struct carat_prompt *p, size_t from,
                      size_t to, size_t n_max)
{
    size_t end = to - from < n_max ? to : from + n_max;
    size_t begin = span_block_begin(rule, p, end);
    if (begin == end || begin > from) {
        return begin;
    }
    // The block is what the chunk begins with, and it is longer than a chunk.
    for (size_t i = 0; i < p->n_spans; i++) {
        if (p->spans[i].first == from) {
            end = from + p->spans[i].n;
        }
    }
    return end;
}

// --------------------------------------------------------------------------------- for the decoder

size_t span_scratch_size(size_t rows_max)
{
    return rows_max * (sizeof(struct soft_span) + sizeof(size_t));
}

int span_scratch_init(struct span_scratch *s, size_t rows_max, struct carat_error *err)
{
    s->spans = mem_new_array(rows_max, sizeof(s->spans[0]), err);
    s->ends = mem_new_array(rows_max, sizeof(s->ends[0]), err);
    return s->spans && s->ends ? 0 : CARAT_E_MEMORY;
}

void span_scratch_release(struct span_scratch *s)
{
    mem_free(s->spans);
    mem_free(s->ends);
    *s = (struct span_scratch){0};
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

// The part of a span that lies in [first, first + n).
static struct soft_span part_of(const struct prompt_span *span, size_t first, size_t n)
{
    struct soft_span part = whole(span);
    size_t begin = span->first > first ? span->first : first;
    part.row = begin - first;
    part.n = smaller(span->first + span->n, first + n) - begin;
    part.skipped = begin - span->first;
    return part;
}

void span_fill(struct decoder_segment *segment, const struct span_rule *rule,
               const struct carat_prompt *p, struct span_scratch *scratch)
{
    size_t first = segment->first;
    size_t n_spans = 0;
    bool has_block = false;
    for (size_t i = 0; i < segment->n; i++) {
        scratch->ends[i] = first + i + 1;
    }
    for (size_t i = 0; i < p->n_spans; i++) {
        const struct prompt_span *span = &p->spans[i];
        if (span->first + span->n <= first || span->first >= first + segment->n) {
            continue;
        }
        struct soft_span part = part_of(span, first, segment->n);
        scratch->spans[n_spans++] = part;
        if (is_block(rule, span)) {
            require(part.n == span->n);
            has_block = true;
            for (size_t k = 0; k < part.n; k++) {
                scratch->ends[part.row + k] = span->first + span->n;
            }
        }
    }
    segment->spans = scratch->spans;
    segment->n_spans = n_spans;
    segment->ends = has_block ? scratch->ends : NULL;
}
