// SPDX-License-Identifier: Apache-2.0
// A decoded medium and what it becomes in a prompt. The media room fills it; prompts read it.
#ifndef CARAT_ENGINE_MEDIA_H
#define CARAT_ENGINE_MEDIA_H

#include "base/str.h"
#include "carat.h"

#define MEDIA_RATE          16000 // samples per second
#define MEDIA_FRAME_SAMPLES 640   // of one soft token
#define MEDIA_NOTES_MAX     8

struct media_frame {
    uint8_t *pixels; // [info.height][info.width][3], owned
    double seconds;
};

// Bytes or samples that are still arriving; the media room's own.
struct media_feed;

struct carat_media {
    struct carat_media_info info;
    struct media_frame *frames; // [info.n_frames]
    float *samples;             // [info.n_samples]
    size_t sample_capacity;
    size_t segment_samples; // most samples of a span of sound, a multiple of a frame; SIZE_MAX: any
    char format[32];        // what info.format points to
    char *notes[MEDIA_NOTES_MAX];
    size_t n_notes;
    struct media_feed *feed; // NULL unless info.is_open
};

// One step of what a medium becomes in a prompt: ordinary text, then soft tokens between their
// begin and end markers. A picture is one run; a film one for each frame ("00:02 " before it, a
// space between frames) and, in time order, one for each span of its sound; a sound one for each
// span, with its time before all but the first (" 00:30 "), so that a sound which turns out longer
// changes nothing that came before.
enum media_run_kind { MEDIA_RUN_IMAGE, MEDIA_RUN_VIDEO, MEDIA_RUN_AUDIO };
struct media_run {
    char text[40];
    enum media_run_kind kind; // which placeholder
    size_t n_tokens;
    size_t i_frame;      // IMAGE, VIDEO
    size_t first_sample; // AUDIO
    size_t n_samples;
    bool is_open; // more of it will come: no end marker yet, and only whole frames count
};

size_t media_n_runs(const struct carat_media *m);
struct media_run media_run_at(const struct carat_media *m, size_t i);
// Sets info.n_tokens, n_segments and hash from the content. Called whenever that changed.
void media_describe(struct carat_media *m);

#endif
