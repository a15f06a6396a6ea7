// SPDX-License-Identifier: Apache-2.0
#include "cli/listen.h"

#include "base/error.h"
#include "base/os.h"

#include <string.h>

#define PIECE          65536
#define HEADER_SIZE    12 // of a WAV file: enough to know it
#define INPUT_SIZE_MAX ((size_t)1 << 30)
#define BATCH_SAMPLES  8000 // half a second: so much sound is worth an evaluation
#define LOOK_MS        200  // how often a waiting listener looks for Ctrl-C
#define LAST_WORDS_S   1.0  // after Ctrl-C the recorder may still hand over what it has

// Reads once; the caller knows that there is something to read, or wants to wait for it.
static int read_piece(struct listener *l, struct carat_error *err)
{
    char piece[PIECE];
    size_t n = 0;
    int rc = os_read_some(piece, sizeof(piece), &n, err);
    if (rc) {
        return rc;
    }
    if (n == 0) {
        l->has_ended = true;
        l->ended_at = os_seconds();
    }
    buf_add(&l->arrived, piece, n);
    return buf_status(&l->arrived, err);
}

// Takes all that is there without waiting.
static int take_arrived(struct listener *l, struct carat_error *err)
{
    int rc = 0;
    while (rc == 0 && !l->has_ended && !os_interrupted() && os_wait_readable(0, 0)) {
        rc = read_piece(l, err);
    }
    // A signal is the caller's to notice.
    return rc == CARAT_E_STOPPED ? 0 : rc;
}

// While the session evaluates, so that the recorder is never kept waiting.
static void take_meanwhile(void *user)
{
    struct listener *l = user;
    if (l->rc == 0) {
        l->rc = take_arrived(l, &l->err);
    }
}

static bool is_wav(const struct buf *b)
{
    struct slice head = slice_make(buf_text(b), b->size < HEADER_SIZE ? b->size : HEADER_SIZE);
    bool is_riff =
        slice_starts(head, "RIFF") || slice_starts(head, "RF64") || slice_starts(head, "BW64");
    return is_riff && slice_ends(head, "WAVE");
}

static int read_until(struct listener *l, size_t size, struct carat_error *err)
{
    int rc = 0;
    while (rc == 0 && !l->has_ended && l->arrived.size < size) {
        rc = read_piece(l, err);
        if (rc == CARAT_E_STOPPED && !os_interrupted()) {
            rc = 0;
        }
    }
    return rc;
}

int listener_open(struct listener *l, struct attachment *sound, const struct loaded *loaded,
                  struct progress *evaluation, struct carat_error *err)
{
    *l = (struct listener){.sound = sound, .evaluation = evaluation, .arrived.max = INPUT_SIZE_MAX};
    struct carat_media_source source;
    attachment_source(&source, sound, loaded->engine, NULL);
    int rc = attachment_check_model(sound, loaded->engine, err);
    rc = rc ? rc : read_until(l, HEADER_SIZE, err);
    if (rc) {
        return rc;
    }
    l->is_live = is_wav(&l->arrived);
    if (l->is_live) {
        source.is_open = true;
    } else {
        rc = read_until(l, SIZE_MAX, err);
        source.data = buf_text(&l->arrived);
        source.size = l->arrived.size;
    }
    rc = rc ? rc : carat_media_new(&sound->media, &source, err);
    if (rc && !l->is_live && rc != CARAT_E_STOPPED) {
        fail_prefix(err, attachment_name(sound));
    }
    if (rc) {
        return rc;
    }
    sound->part->media = sound->media;
    if (l->is_live) {
        evaluation->meanwhile = take_meanwhile;
        evaluation->user = l;
    } else {
        attachment_say_notes(sound);
    }
    return 0;
}

static int feed(struct listener *l, struct carat_error *err)
{
    int rc = 0;
    if (l->arrived.size) {
        rc = carat_media_feed(l->sound->media, l->arrived.data, l->arrived.size, err);
        buf_clear(&l->arrived);
    }
    if (rc == 0 && l->has_ended) {
        rc = carat_media_finish(l->sound->media, err);
    }
    if (rc) {
        fail_prefix(err, attachment_name(l->sound));
    }
    return rc;
}

// Ctrl-C while somebody speaks means: that was it. What the recorder still sends is taken.
static void notice_interrupt(struct listener *l)
{
    if (os_interrupted() && !l->is_ending) {
        os_clear_interrupt();
        l->is_ending = true;
        l->ended_at = os_seconds();
    }
}

int listener_wait(struct listener *l, bool *has_more, struct carat_error *err)
{
    *has_more = false;
    if (l->rc) {
        if (err) {
            *err = l->err;
        }
        return l->rc;
    }
    const struct carat_media_info *info = carat_media_info(l->sound->media);
    for (;;) {
        int rc = take_arrived(l, err);
        notice_interrupt(l);
        if (os_interrupted()) {
            return fail(err, CARAT_E_STOPPED, "interrupted");
        }
        if (l->is_ending && !l->has_ended && os_seconds() - l->ended_at > LAST_WORDS_S) {
            l->has_ended = true;
        }
        rc = rc ? rc : feed(l, err);
        if (rc || l->has_ended) {
            return rc;
        }
        if (info->n_samples >= l->n_samples_done + BATCH_SAMPLES) {
            l->n_samples_done = info->n_samples;
            *has_more = true;
            return 0;
        }
        os_wait_readable(0, LOOK_MS);
    }
}

void listener_stopped(struct listener *l)
{
    notice_interrupt(l);
}

void listener_release(struct listener *l)
{
    if (l->evaluation) {
        l->evaluation->meanwhile = NULL;
    }
    buf_release(&l->arrived);
}
