// SPDX-License-Identifier: Apache-2.0
// A decoded medium and what it becomes in a prompt. The media room fills it; prompts read it.
#ifndef CARAT_ENGINE_MEDIA_H
#define CARAT_ENGINE_MEDIA_H

#include "base/hash.h"
#include "base/str.h"

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
    struct hash content;     // media_describe's own: of the first n_hashed samples
    size_t n_hashed;
};

// One step of what a medium becomes in a prompt: ordinary text, then soft tokens between their
// begin and end markers. docs/media.md, "In the prompt".
// - A picture is one run.
// - A sound is one run for each span, all but the first with its time before it (" 00:30 "), so
//   that a sound which turns out longer changes nothing that came before. Without samples it is a
//   run without tokens.
// - A film is one run for each frame, "00:02 " before it and a space between frames, and one for
//   each span of its sound: a sound track of one span comes last, of several each behind the frames
//   that are shown before its end; a time before it (" 00:30 ") unless it is the first.
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
// i below media_n_runs.
struct media_run media_run_at(const struct carat_media *m, size_t i);
// Sets info.n_tokens, n_segments and hash from the content. Called whenever that changed; of
// samples that were there at the last call nothing may have changed.
void media_describe(struct carat_media *m);

#endif
