// SPDX-License-Identifier: Apache-2.0
// What the files that use the FFmpeg libraries share: a demuxer over memory, a decoder with a limit
// on memory, and errors. No name or address ever reaches the libraries.
#ifndef CARAT_MEDIA_DECODE_FFMPEG_H
#define CARAT_MEDIA_DECODE_FFMPEG_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdatomic.h>

#include "media/decode.h"

// fail() with the library's own words for its status, and the last error it logged, if any.
int ffmpeg_fail(struct carat_error *err, enum carat_status status, int av_status, const char *name,
                const char *what);
// Sends the libraries' log to ours. Any number of times, from any thread.
void ffmpeg_start(void);
// Decoders go on over damage where they can, and only their log says so: whether this thread's log
// had an error since.
void ffmpeg_forget_errors(void);
bool ffmpeg_has_errors(void);

// ---------------------------------------------------------------------------- decode_input.c

// A demuxer that reads from the caller's memory, or from a header of our own and then from there.
struct input {
    struct media_input in; // what it sees: without tags in front
    struct buf prefix;     // comes before in.data
    struct media_budget *budget;
    enum media_kind kind;
    AVFormatContext *format;
    AVIOContext *io;
    size_t at;       // of the next byte to be read
    bool ends_early; // a WAV whose header promises more samples
};
// kind must be one of a sound or film. Checks the file's frame first (container_check).
int input_open(struct input *out, const struct media_input *in, enum media_kind kind,
               struct media_budget *b, struct carat_error *err);
// The first track of a type that is no cover picture; -1: none.
int input_track(const struct input *in, enum AVMediaType type);
// The next packet of that track; *has_more false at the end.
int input_next(struct input *in, int track, AVPacket *packet, bool *has_more,
               struct carat_error *err);
void input_close(struct input *in); // takes zeroed memory

// ---------------------------------------------------------------------------- decode_codec.c

// What a decoder's frames may take. Frames are released on other threads, too.
struct codec_memory {
    _Atomic uint64_t used;
    _Atomic uint64_t max;
    atomic_int
        failure; // CARAT_E_FULL or CARAT_E_MEMORY: why a frame got no memory; decoders hide it
};
struct codec {
    AVCodecContext *context;
    AVFrame *frame;
    struct codec_memory *memory;
    struct media_budget *budget;
    const char *name; // of the file
};
// parameters may be NULL: a picture's bytes say everything. n_threads: 1, or more for films.
int codec_open(struct codec *out, enum AVCodecID id, const AVCodecParameters *parameters,
               int n_threads, struct media_budget *b, const char *name, struct carat_error *err);
// Hands over a packet (NULL: no more will come). A packet that is damaged is CARAT_E_FORMAT; the
// decoder may be given the next one all the same.
int codec_send(struct codec *c, const AVPacket *packet, struct carat_error *err);
// The next decoded frame in c->frame; *has_frame false when the decoder wants another packet.
int codec_receive(struct codec *c, bool *has_frame, struct carat_error *err);
// What went wrong with a frame that is damaged or did not come.
int codec_fail(struct codec *c, int av_status, const char *what, struct carat_error *err);
void codec_close(struct codec *c); // takes zeroed memory

// A still AVIF, where libheif is not there to read it.
int decode_avif(struct media_picture *out, const struct media_input *in, bool blends_alpha,
                struct media_budget *b, struct carat_error *err);

// -------------------------------------------------------------------------- decode_frame.c

// Any pixel format to RGB, the picture's memory from the budget. rule counts for YUV formats; the
// frame's own matrix and range are set in it by the caller.
int frame_to_picture(struct media_picture *out, const AVFrame *frame, struct colour_rule rule,
                     bool blends_alpha, struct media_budget *b, struct carat_error *err);
// The same into a picture that has the frame's size already.
int frame_into_picture(struct media_picture *out, const AVFrame *frame, struct colour_rule rule,
                       bool blends_alpha, struct media_budget *b, struct carat_error *err);

#endif
