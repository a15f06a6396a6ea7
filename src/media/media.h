// SPDX-License-Identifier: Apache-2.0
// The media room's inside: bytes of a file -> decoded pictures, frames, samples -> struct
// carat_media. Data flow: media.c picks a reader by the content (wav.c and ppm.c are always there,
// decode_*.c where the FFmpeg libraries are); readers hand over RGB pictures and pieces of sound;
// resize.c and sound.c bring them to the model's form.
#ifndef CARAT_MEDIA_MEDIA_H
#define CARAT_MEDIA_MEDIA_H

#include "engine/media.h"

// The whole file in memory: mapped, read from a pipe, or the caller's.
struct media_input {
    const uint8_t *data;
    size_t size;
    const char *name; // for messages: the path, or "picture", "sound", "film"
};

// What may still be spent on one medium. Readers ask in every loop.
struct media_budget {
    struct carat_media_limits limits; // every field filled in
    uint64_t memory;                  // bytes taken so far
    double started;                   // os_seconds()
    double deadline;                  // the same clock: when decoding must be done
    bool adds_duration;               // the limit on time is the default, which grows with it
    uint64_t done;                    // what on_progress was told last
    uint64_t total;
    const char *name;              // of the input, for messages
    carat_on_progress on_progress; // may be NULL
    void *user;
};
void media_budget_init(struct media_budget *b, const struct carat_media_source *source,
                       const char *name);
// Time is up, or on_progress said stop: an error. total 0: nothing new to tell.
int media_budget_tick(struct media_budget *b, uint64_t done, uint64_t total,
                      struct carat_error *err);
// Before allocating: takes bytes, or says that the limit is reached.
int media_budget_take(struct media_budget *b, uint64_t bytes, struct carat_error *err);
void media_budget_give(struct media_budget *b, uint64_t bytes);
// Before anything is allocated for a picture: sides above 0, area within limits.pixels_max.
int media_check_size(const struct media_budget *b, uint64_t width, uint64_t height,
                     struct carat_error *err);
// A duration from a header, or reached so far; by default it adds to the time for decoding.
int media_check_seconds(struct media_budget *b, double seconds, struct carat_error *err);

// A decoded picture, right way up. Owned pixels (mem.h), counted in the budget.
struct media_picture {
    uint8_t *pixels; // [height][width][3] RGB
    uint32_t width;
    uint32_t height;
};
void media_picture_release(struct media_picture *p); // takes zeroed memory

// ------------------------------------------------------------------------------------- resize.c

// Bicubic, antialiased, in the reference's fixed point: docs/media.md. out [height][width][3].
int resize_rgb(uint8_t *out, uint32_t width, uint32_t height, const struct media_picture *in,
               struct media_budget *b, struct carat_error *err);

// -------------------------------------------------------------------------------------- sound.c

// Any rate and channels to 16 kHz mono, in pieces. What is in `samples` after any push is final:
// it does not change when more comes.
struct sound;
int sound_new(struct sound **out, uint32_t rate, uint32_t n_channels, struct media_budget *b,
              struct carat_error *err);
// interleaved [n][n_channels]; the mean of the channels is taken. Values that are not finite become
// 0.
int sound_push(struct sound *s, const float *interleaved, size_t n, struct carat_error *err);
int sound_finish(struct sound *s, struct carat_error *err); // ceil(n_in * 16000 / rate) in all
const float *sound_samples(const struct sound *s, size_t *n);
uint64_t sound_n_in(const struct sound *s); // per channel
// The samples as memory that the caller owns; s is then empty.
float *sound_take(struct sound *s, size_t *n);
void sound_free(struct sound *s); // takes NULL

// Where a reader puts what it finds: media.c makes the sound when the format is known.
struct sound_sink {
    int (*on_format)(struct sound_sink *sink, uint32_t rate, uint32_t n_channels, const char *name,
                     struct carat_error *err);
    int (*on_samples)(struct sound_sink *sink, const float *interleaved, size_t n,
                      struct carat_error *err);
};

// ------------------------------------------------------------------------------- wav.c and ppm.c

bool wav_is(const struct media_input *in); // RIFF, RF64 or BW64 "WAVE"
// PCM and float of every width, A-law and mu-law. A file that lacks samples its header promises is
// an error. *is_other: a WAV that holds another codec; nothing was read then.
int wav_read(const struct media_input *in, struct sound_sink *sink, struct media_budget *b,
             bool *is_other, struct carat_error *err);
// A WAV that is still being written, in pieces of any size. It ends where it ends: recorders write
// a length before they know it.
struct wav_stream;
int wav_stream_new(struct wav_stream **out, struct sound_sink *sink, struct media_budget *b,
                   struct carat_error *err);
int wav_stream_push(struct wav_stream *w, const void *data, size_t size, struct carat_error *err);
int wav_stream_finish(struct wav_stream *w, struct carat_error *err);
void wav_stream_free(struct wav_stream *w); // takes NULL

bool ppm_is(const struct media_input *in); // P2, P3, P5, P6
int ppm_read(struct media_picture *out, const struct media_input *in, struct media_budget *b,
             struct carat_error *err);

// --------------------------------------------------------- decode.c: the door to the libraries

// decode_none.c says what is missing when the build has no FFmpeg.
bool decode_has(const char *feature); // "ffmpeg", "heif"

// The first picture of a file. blends_alpha as in struct carat_media_source. format gets a name.
int decode_picture(struct media_picture *out, char format[32], const struct media_input *in,
                   bool blends_alpha, struct media_budget *b, struct carat_error *err);
// The first sound track. CARAT_E_FORMAT when there is none.
int decode_sound(const struct media_input *in, struct sound_sink *sink, struct media_budget *b,
                 struct carat_error *err);

struct film;
struct film_info {
    char format[32];
    uint32_t width; // of a frame, right way up
    uint32_t height;
    size_t n_frames; // in the file
    double fps;      // n_frames / duration of the picture track; 24 when it is unknown
    double seconds;
    bool has_sound;
};
int film_open(struct film **out, struct film_info *info, const struct media_input *in,
              struct media_budget *b, struct carat_error *err);
// Decodes the frames with these numbers (ascending, repeats allowed) and hands each over; the
// picture is the reader's and borrowed for the call.
typedef int (*film_on_frame)(void *user, size_t i, const struct media_picture *picture,
                             struct carat_error *err);
int film_read(struct film *f, const size_t *frames, size_t n, film_on_frame on_frame, void *user,
              struct carat_error *err);
void film_close(struct film *f); // takes NULL

#endif
