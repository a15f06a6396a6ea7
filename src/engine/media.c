// SPDX-License-Identifier: Apache-2.0
// What a medium becomes in a prompt, and what it is called. docs/media.md, "In the prompt".
#include "engine/media.h"

#include <math.h>
#include <stdio.h>

// Whole frames of a sound that goes on, all samples of one that is there.
static size_t usable_samples(const struct carat_media *m)
{
    size_t n = m->info.n_samples;
    return m->info.is_open ? n - n % MEDIA_FRAME_SAMPLES : n;
}

// Spans of the sound; a medium that is a sound has at least one.
static size_t n_sound_runs(const struct carat_media *m)
{
    size_t n = usable_samples(m);
    size_t runs = n / m->segment_samples + (n % m->segment_samples > 0);
    return runs == 0 && m->info.type == CARAT_MEDIA_AUDIO ? 1 : runs;
}

static bool has_sound(const struct carat_media *m)
{
    return m->info.type == CARAT_MEDIA_AUDIO || m->info.n_samples > 0;
}

size_t media_n_runs(const struct carat_media *m)
{
    size_t frames = m->info.type == CARAT_MEDIA_AUDIO ? 0 : m->info.n_frames;
    return frames + (has_sound(m) ? n_sound_runs(m) : 0);
}

// "MM:SS" as the model knows it: rounded down, minutes beyond an hour go on.
static void add_time(char *text, size_t size, const char *before, double seconds)
{
    double whole = seconds > 0 && seconds < 1e15 ? floor(seconds) : 0;
    unsigned long long t = (unsigned long long)whole;
    snprintf(text, size, "%s%02llu:%02llu ", before, t / 60, t % 60);
}

static double segment_seconds(const struct carat_media *m, size_t i)
{
    return (double)i * (double)m->segment_samples / MEDIA_RATE;
}

static struct media_run sound_run(const struct carat_media *m, size_t i)
{
    struct media_run run = {.kind = MEDIA_RUN_AUDIO};
    size_t n = usable_samples(m);
    if (i > 0) {
        add_time(run.text, sizeof(run.text), " ", segment_seconds(m, i));
        run.first_sample = i * m->segment_samples;
    }
    size_t left = n - run.first_sample;
    run.n_samples = left < m->segment_samples ? left : m->segment_samples;
    run.n_tokens = run.n_samples / MEDIA_FRAME_SAMPLES + (run.n_samples % MEDIA_FRAME_SAMPLES > 0);
    run.is_open = m->info.is_open && i + 1 == n_sound_runs(m);
    return run;
}

static struct media_run frame_run(const struct carat_media *m, size_t i, bool is_first)
{
    struct media_run run = {.kind = MEDIA_RUN_IMAGE, .i_frame = i};
    if (m->info.type == CARAT_MEDIA_VIDEO) {
        run.kind = MEDIA_RUN_VIDEO;
        add_time(run.text, sizeof(run.text), is_first ? "" : " ", m->frames[i].seconds);
    }
    run.n_tokens = (size_t)(m->info.width / m->info.block) * (m->info.height / m->info.block);
    return run;
}

// Frames and spans of sound in time order. Spans of a long sound come as soon as they are over; the
// last one is placed as if it were as long as the others.
struct media_run media_run_at(const struct carat_media *m, size_t i)
{
    if (m->info.type == CARAT_MEDIA_AUDIO) {
        return sound_run(m, i);
    }
    size_t n_spans = has_sound(m) ? n_sound_runs(m) : 0;
    size_t frame = 0;
    size_t span = 0;
    for (;;) {
        bool is_late = n_spans > 1 && span < n_spans && frame < m->info.n_frames &&
                       segment_seconds(m, span + 1) <= m->frames[frame].seconds;
        bool is_sound = is_late || frame == m->info.n_frames;
        if (frame + span == i) {
            return is_sound ? sound_run(m, span) : frame_run(m, frame, i == 0);
        }
        span += is_sound;
        frame += !is_sound;
    }
}

static void add_samples(struct carat_media *m)
{
    if (m->n_hashed == 0) {
        hash_init(&m->content, NULL);
    }
    if (m->info.n_samples > m->n_hashed) {
        hash_add(&m->content, m->samples + m->n_hashed,
                 (m->info.n_samples - m->n_hashed) * sizeof(float));
        m->n_hashed = m->info.n_samples;
    }
}

// The samples come first, so that a sound that grows is hashed as it grows; the dimensions, which
// make the content readable in one way only, end it.
static void describe_content(struct carat_media *m)
{
    add_samples(m);
    struct hash h = m->content;
    size_t picture_size = (size_t)m->info.height * m->info.width * 3;
    size_t n_frames = m->info.type == CARAT_MEDIA_AUDIO ? 0 : m->info.n_frames;
    for (size_t i = 0; i < n_frames; i++) {
        hash_add(&h, m->frames[i].pixels, picture_size);
        hash_add(&h, &m->frames[i].seconds, sizeof(m->frames[i].seconds));
    }
    hash_add_u64(&h, (uint64_t)m->info.type);
    hash_add_u64(&h, m->info.width);
    hash_add_u64(&h, m->info.height);
    hash_add_u64(&h, n_frames);
    hash_add_u64(&h, m->info.n_samples);
    hash_digest(&h, m->info.hash);
}

void media_describe(struct carat_media *m)
{
    m->info.n_tokens = 0;
    m->info.n_segments = has_sound(m) ? n_sound_runs(m) : 0;
    size_t n_frames = m->info.type == CARAT_MEDIA_AUDIO ? 0 : m->info.n_frames;
    for (size_t i = 0; i < m->info.n_segments; i++) {
        m->info.n_tokens += sound_run(m, i).n_tokens;
    }
    for (size_t i = 0; i < n_frames; i++) {
        m->info.n_tokens += frame_run(m, i, false).n_tokens;
    }
    describe_content(m);
}
