// SPDX-License-Identifier: Apache-2.0
// Sounds: from a file or from samples, all at once or while they are being recorded.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/parts.h"

#define SECONDS_STATED 30 // the longest sound that the model was made for

/* ------------------------------------------------------------------------------------ segments */

int listen_check_options(struct carat_media *m, const struct carat_media_source *source,
                         struct carat_error *err)
{
    const double seconds = source->segment_seconds == 0 ? SECONDS_STATED : source->segment_seconds;
    if (!isfinite(seconds)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "segment_seconds: expected a number of seconds, found %g", seconds);
    }
    m->segment_samples = SIZE_MAX;
    const double frames = round(seconds * MEDIA_RATE / MEDIA_FRAME_SAMPLES);
    if (seconds >= 0 && frames < (double)UINT32_MAX) {
        m->segment_samples = (frames > 1 ? (size_t)frames : 1) * MEDIA_FRAME_SAMPLES;
    }
    return 0;
}

static int note_length(struct carat_media *m, const struct media_budget *b, const char *what,
                       struct carat_error *err)
{
    const double seconds = (double)m->info.n_samples / MEDIA_RATE;
    if (m->info.n_samples <= (size_t)SECONDS_STATED * MEDIA_RATE) {
        return 0;
    }
    const size_t parts = (m->info.n_samples - 1) / m->segment_samples + 1;
    if (parts == 1) {
        return media_note(m, err,
                          "%s: %s of %.1f s is longer than the %d s the model was made for: it is "
                          "read in one piece, as asked for",
                          b->name, what, seconds, SECONDS_STATED);
    }
    return media_note(m, err,
                      "%s: %s of %.1f s is longer than the %d s the model was made for: it is read "
                      "in %zu parts with their times; another length of the parts can be set",
                      b->name, what, seconds, SECONDS_STATED, parts);
}

/* ---------------------------------------------------------------------------------------- sink */

// Where readers put what they find: the sound, made when its format is known.
struct listener {
    struct sound_sink sink; // first: readers know this alone
    struct carat_media *media;
    struct media_budget *budget;
    struct sound *sound;
};

static struct listener *listener_of(struct sound_sink *sink)
{
    return (struct listener *)(void *)sink;
}

static int on_format(struct sound_sink *sink, uint32_t rate, uint32_t n_channels, const char *name,
                     struct carat_error *err)
{
    struct listener *l = listener_of(sink);
    struct carat_media *m = l->media;
    if (l->sound) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: the sound changes its format on the way",
                    l->budget->name);
    }
    m->info.source_rate = rate;
    m->info.source_channels = n_channels;
    // Of a film the format is the film's.
    if (m->info.type == CARAT_MEDIA_AUDIO) {
        snprintf(m->format, sizeof(m->format), "%s", name);
    }
    return sound_new(&l->sound, rate, n_channels, l->budget, err);
}

static int on_samples(struct sound_sink *sink, const float *interleaved, size_t n,
                      struct carat_error *err)
{
    struct listener *l = listener_of(sink);
    require(l->sound);
    return sound_push(l->sound, interleaved, n, err);
}

static void listener_init(struct listener *l, struct carat_media *m, struct media_budget *b)
{
    *l = (struct listener){.sink = {on_format, on_samples}, .media = m, .budget = b};
}

// The medium gets the samples for good.
static int listener_finish(struct listener *l, const char *what, struct carat_error *err)
{
    struct carat_media *m = l->media;
    if (!l->sound) {
        return fail(err, CARAT_E_FORMAT, "%s: no sound was found", l->budget->name);
    }
    int rc = sound_finish(l->sound, err);
    if (rc) {
        return rc;
    }
    if (m->info.type == CARAT_MEDIA_AUDIO) {
        m->info.source_seconds = (double)sound_n_in(l->sound) / m->info.source_rate;
    }
    (void)sound_samples(l->sound, &m->info.n_samples);
    rc = note_length(m, l->budget, what, err);
    if (rc) {
        return rc;
    }
    m->samples = sound_take(l->sound, &m->info.n_samples);
    m->sample_capacity = m->info.n_samples;
    return 0;
}

/* ------------------------------------------------------------------------------- all at once */

static int read_file(struct making *mk, struct sound_sink *sink, struct carat_error *err)
{
    bool is_other = true;
    int rc = 0;
    if (wav_is(&mk->input)) {
        rc = wav_read(&mk->input, sink, mk->budget, &is_other, err);
    }
    return !rc && is_other ? decode_sound(&mk->input, sink, mk->budget, err) : rc;
}

static int read_samples(const struct carat_media_source *s, struct sound_sink *sink,
                        struct carat_error *err)
{
    int rc = sink->on_format(sink, s->sample_rate, s->n_channels > 0 ? s->n_channels : 1, "samples",
                             err);
    return rc || !s->samples ? rc : sink->on_samples(sink, s->samples, s->n_samples, err);
}

static int open_feed(struct making *mk, struct carat_error *err);

int listen_make(struct making *mk, struct carat_error *err)
{
    if (mk->source->is_open) {
        return open_feed(mk, err);
    }
    struct listener l;
    listener_init(&l, mk->media, mk->budget);
    int rc =
        mk->source->samples ? read_samples(mk->source, &l.sink, err) : read_file(mk, &l.sink, err);
    if (!rc) {
        rc = listener_finish(&l, "sound", err);
    }
    sound_free(l.sound);
    return rc;
}

int listen_to_film(struct making *mk, struct carat_error *err)
{
    struct listener l;
    struct carat_error why = {0};
    listener_init(&l, mk->media, mk->budget);
    int rc = decode_sound(&mk->input, &l.sink, mk->budget, &why);
    if (!rc) {
        rc = listener_finish(&l, "sound track", &why);
    }
    sound_free(l.sound);
    if (rc == CARAT_E_FORMAT || rc == CARAT_E_UNSUPPORTED) {
        // The pictures are worth having.
        return media_note(mk->media, err, "the film is read without its sound track: %s", why.text);
    }
    if (rc && err) {
        *err = why;
    }
    return rc;
}

/* ------------------------------------------------------------------------------ while it goes on
 */

struct media_feed {
    struct carat_media_source source; // for its limits
    struct media_budget budget;
    struct listener listener;
    struct wav_stream *wav; // NULL: samples are appended
    bool has_failed;
};

// The medium shows what has arrived; the samples stay the sound's.
static void show(struct carat_media *m)
{
    const struct listener *l = &m->feed->listener;
    if (l->sound) {
        const float *samples = sound_samples(l->sound, &m->info.n_samples);
        m->samples = (float *)(uintptr_t)samples;
        m->info.source_seconds = (double)sound_n_in(l->sound) / m->info.source_rate;
    }
}

static int open_feed(struct making *mk, struct carat_error *err)
{
    struct carat_media *m = mk->media;
    struct media_feed *f = mem_new(sizeof(*f), err);
    if (!f) {
        return CARAT_E_MEMORY;
    }
    m->feed = f;
    m->info.is_open = true;
    f->source.limits = mk->source->limits;
    media_budget_init(&f->budget, &f->source, "sound");
    listener_init(&f->listener, m, &f->budget);
    if (mk->source->sample_rate == 0) {
        snprintf(m->format, sizeof(m->format), "wav");
        return wav_stream_new(&f->wav, &f->listener.sink, &f->budget, err);
    }
    int rc = read_samples(mk->source, &f->listener.sink, err);
    show(m);
    return rc;
}

void feed_free(struct media_feed *f)
{
    if (f) {
        wav_stream_free(f->wav);
        sound_free(f->listener.sound);
        mem_free(f);
    }
}

// Whether more can come in this form; the clock for it starts anew.
static int check_open(struct carat_media *m, bool is_wav, const char *call, struct carat_error *err)
{
    struct media_feed *f = m->feed;
    if (!f) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected a sound that is open", call);
    }
    if (f->has_failed) {
        return fail(err, CARAT_E_ARGUMENT, "%s: this sound has failed before", call);
    }
    if (is_wav != (f->wav != NULL)) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected %s for this sound", call,
                    f->wav ? "bytes of a WAV file (carat_media_feed)"
                           : "samples (carat_media_append)");
    }
    const uint64_t memory = f->budget.memory;
    media_budget_init(&f->budget, &f->source, "sound");
    f->budget.memory = memory;
    return 0;
}

int carat_media_feed(struct carat_media *media, const void *data, size_t size,
                     struct carat_error *err)
{
    int rc = check_open(media, true, "carat_media_feed", err);
    if (rc) {
        return rc;
    }
    rc = wav_stream_push(media->feed->wav, data, size, err);
    media->feed->has_failed = rc != 0;
    show(media);
    media_describe(media);
    return rc;
}

int carat_media_append(struct carat_media *media, const float *samples, size_t n,
                       struct carat_error *err)
{
    int rc = check_open(media, false, "carat_media_append", err);
    if (rc) {
        return rc;
    }
    rc = sound_push(media->feed->listener.sound, samples, n, err);
    media->feed->has_failed = rc != 0;
    show(media);
    media_describe(media);
    return rc;
}

int carat_media_finish(struct carat_media *media, struct carat_error *err)
{
    struct media_feed *f = media->feed;
    int rc = check_open(media, f && f->wav, "carat_media_finish", err);
    if (!rc && f->wav) {
        rc = wav_stream_finish(f->wav, err);
    }
    if (!rc) {
        rc = listener_finish(&f->listener, "sound", err);
    }
    if (rc) {
        if (f) {
            f->has_failed = true;
        }
        return rc;
    }
    media->feed = NULL;
    media->info.is_open = false;
    feed_free(f);
    media_describe(media);
    return 0;
}
