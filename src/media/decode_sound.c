// SPDX-License-Identifier: Apache-2.0
// The first sound track of a sound or film file, as float samples handed over in pieces. What MP3,
// AAC, Vorbis and Opus encoders put before and behind the sound is cut off by the libraries, as the
// file says.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/decode_ffmpeg.h"

#define CHANNELS_MAX 64
#define RATE_MIN     100
#define RATE_MAX     768000

// Damaged frames that are passed over, in formats whose files are often cut out of a stream: so
// many at the most, and no more than one in so many whole ones.
#define BAD_PACKETS_MAX   8
#define BAD_PACKETS_SHARE 50

struct reader {
    struct input input;
    struct codec codec;
    struct sound_sink *sink;
    int track;
    uint32_t rate; // 0: nothing was decoded yet
    uint32_t n_channels;
    char format[32];
    float *samples; // a piece, interleaved
    size_t sample_capacity;
    uint64_t n_samples;  // so far, per channel
    int64_t packet_time; // of all packets, in the track's time base
    uint64_t n_good;
    uint64_t n_bad;
};

// --------------------------------------------------------------------------------- samples

static void widen_u8(float *out, size_t step, const uint8_t *in, size_t n, size_t in_step)
{
    for (size_t i = 0; i < n; i++) {
        out[i * step] = (float)(in[i * in_step] - 128) / 128;
    }
}

static void widen_s16(float *out, size_t step, const int16_t *in, size_t n, size_t in_step)
{
    for (size_t i = 0; i < n; i++) {
        out[i * step] = (float)in[i * in_step] / 32768;
    }
}

static void widen_s32(float *out, size_t step, const int32_t *in, size_t n, size_t in_step)
{
    for (size_t i = 0; i < n; i++) {
        out[i * step] = (float)((double)in[i * in_step] / 2147483648.0);
    }
}

static void widen_f32(float *out, size_t step, const float *in, size_t n, size_t in_step)
{
    for (size_t i = 0; i < n; i++) {
        out[i * step] = in[i * in_step];
    }
}

static void widen_f64(float *out, size_t step, const double *in, size_t n, size_t in_step)
{
    for (size_t i = 0; i < n; i++) {
        out[i * step] = (float)in[i * in_step];
    }
}

static bool widen(float *out, size_t step, enum AVSampleFormat format, const uint8_t *in, size_t n,
                  size_t in_step)
{
    const void *values = in; // aligned by the library
    switch (av_get_packed_sample_fmt(format)) {
    case AV_SAMPLE_FMT_U8:
        widen_u8(out, step, in, n, in_step);
        return true;
    case AV_SAMPLE_FMT_S16:
        widen_s16(out, step, values, n, in_step);
        return true;
    case AV_SAMPLE_FMT_S32:
        widen_s32(out, step, values, n, in_step);
        return true;
    case AV_SAMPLE_FMT_FLT:
        widen_f32(out, step, values, n, in_step);
        return true;
    case AV_SAMPLE_FMT_DBL:
        widen_f64(out, step, values, n, in_step);
        return true;
    default:
        return false;
    }
}

static int reserve(struct reader *r, size_t n, struct carat_error *err)
{
    if (n <= r->sample_capacity) {
        return 0;
    }
    float *samples = mem_resize(r->samples, n * sizeof(*samples), err);
    if (!samples) {
        return CARAT_E_MEMORY;
    }
    r->samples = samples;
    r->sample_capacity = n;
    return 0;
}

static int set_format(struct reader *r, const AVFrame *f, struct carat_error *err)
{
    int rate = f->sample_rate;
    int channels = f->ch_layout.nb_channels;
    const char *name = r->codec.name;
    if (rate < RATE_MIN || rate > RATE_MAX) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: %d samples a second; %d to %d are read", name,
                    rate, RATE_MIN, RATE_MAX);
    }
    if (channels < 1 || channels > CHANNELS_MAX) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: %d channels; 1 to %d are read", name, channels,
                    CHANNELS_MAX);
    }
    if (r->rate == 0) {
        r->rate = (uint32_t)rate;
        r->n_channels = (uint32_t)channels;
        return r->sink->on_format(r->sink, r->rate, r->n_channels, r->format, err);
    }
    if ((uint32_t)rate != r->rate || (uint32_t)channels != r->n_channels) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: the sound changes from %u Hz, %u channels to %d Hz, %d channels after "
                    "%.1f s; one format is read",
                    name, r->rate, r->n_channels, rate, channels,
                    (double)r->n_samples / (double)r->rate);
    }
    return 0;
}

static int hand_over(struct reader *r, const AVFrame *f, struct carat_error *err)
{
    int rc = set_format(r, f, err);
    size_t n = f->nb_samples > 0 ? (size_t)f->nb_samples : 0;
    size_t channels = r->n_channels;
    if (rc == 0) {
        rc = reserve(r, n * channels, err);
    }
    if (rc) {
        return rc;
    }
    bool is_planar = av_sample_fmt_is_planar(f->format) != 0;
    size_t width = (size_t)av_get_bytes_per_sample(f->format);
    for (size_t c = 0; c < channels; c++) {
        const uint8_t *in = is_planar ? f->extended_data[c] : f->data[0] + c * width;
        if (!widen(r->samples + c, channels, f->format, in, n, is_planar ? 1 : channels)) {
            return fail(err, CARAT_E_UNSUPPORTED, "%s: samples of the format %s are not read",
                        r->codec.name, av_get_sample_fmt_name(f->format));
        }
    }
    r->n_samples += n;
    rc = media_check_seconds(r->input.budget, (double)r->n_samples / (double)r->rate, err);
    return rc ? rc : r->sink->on_samples(r->sink, r->samples, n, err);
}

// ----------------------------------------------------------------------------------- track

// Frames of these stand alone, so one that is damaged costs its own part of a second and no more.
static bool is_lenient(enum AVCodecID id)
{
    return id == AV_CODEC_ID_MP3 || id == AV_CODEC_ID_AAC;
}

static int receive_all(struct reader *r, struct carat_error *err)
{
    bool has_frame = true;
    for (;;) {
        int rc = codec_receive(&r->codec, &has_frame, err);
        if (rc || !has_frame) {
            return rc;
        }
        r->n_good++;
        rc = hand_over(r, r->codec.frame, err);
        if (rc) {
            return rc;
        }
    }
}

static int decode_packet(struct reader *r, const AVPacket *packet, struct carat_error *err)
{
    struct carat_error bad;
    uint64_t before = r->n_good;
    int rc = codec_send(&r->codec, packet, &bad);
    if (rc == 0) {
        rc = receive_all(r, &bad);
    }
    bool is_bad = rc == CARAT_E_FORMAT && r->n_good == before;
    if (is_bad && is_lenient(r->codec.context->codec_id)) {
        r->n_bad++;
        uint64_t allowed = 1 + r->n_good / BAD_PACKETS_SHARE;
        rc = r->n_bad <= BAD_PACKETS_MAX && r->n_bad <= allowed ? 0 : rc;
    }
    return rc ? fail(err, rc, "%s", bad.text) : 0;
}

static int read_track(struct reader *r, struct carat_error *err)
{
    AVPacket *packet = av_packet_alloc();
    if (!packet) {
        return fail(err, CARAT_E_MEMORY, "%s: out of memory", r->codec.name);
    }
    bool has_more = true;
    int rc = 0;
    while (rc == 0 && has_more) {
        rc = input_next(&r->input, r->track, packet, &has_more, err);
        if (rc == 0) {
            int64_t left = INT64_MAX - r->packet_time;
            r->packet_time +=
                packet->duration > 0 && packet->duration < left ? packet->duration : 0;
            rc = decode_packet(r, has_more ? packet : NULL, err);
        }
        av_packet_unref(packet);
    }
    av_packet_free(&packet);
    return rc;
}

// A header that promises more than came: the file was cut off, or lies. MP3 counts frames (Xing's
// header), FLAC samples; of other formats the container was looked at before.
static int check_whole(const struct reader *r, struct carat_error *err)
{
    const AVStream *s = r->input.format->streams[r->track];
    if (r->rate == 0) {
        return fail(err, CARAT_E_FORMAT, "%s: the sound track is empty", r->codec.name);
    }
    bool tells = r->input.kind == KIND_FLAC ||
                 (r->input.kind == KIND_MP3 &&
                  r->input.format->duration_estimation_method != AVFMT_DURATION_FROM_BITRATE);
    double said = s->duration > 0 ? (double)s->duration * av_q2d(s->time_base) : 0;
    double came = r->input.kind == KIND_FLAC ? (double)r->n_samples / (double)r->rate
                                             : (double)r->packet_time * av_q2d(s->time_base);
    if (tells && came + 0.5 / (double)r->rate < said) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: the file ends early: its header says %.2f s of sound, %.2f s are there",
                    r->codec.name, said, came);
    }
    return 0;
}

// "mp3", "flac"; in a container "ogg opus".
static void name_format(struct reader *r)
{
    const char *codec = avcodec_get_name(r->codec.context->codec_id);
    const char *container = kind_name(r->input.kind);
    bool is_same = strcmp(codec, container) == 0;
    snprintf(r->format, sizeof(r->format), "%s%s%s", container, is_same ? "" : " ",
             is_same ? "" : codec);
}

static int open_track(struct reader *r, const struct media_input *in, struct media_budget *b,
                      struct carat_error *err)
{
    r->track = input_track(&r->input, AVMEDIA_TYPE_AUDIO);
    if (r->track < 0) {
        return fail(err, CARAT_E_FORMAT, "%s: no sound track in it", in->name);
    }
    AVStream *s = r->input.format->streams[r->track];
    double seconds = s->duration > 0 ? (double)s->duration * av_q2d(s->time_base) : 0;
    int rc = media_check_seconds(b, seconds, err);
    if (rc) {
        return rc;
    }
    for (unsigned i = 0; i < r->input.format->nb_streams; i++) {
        bool is_wanted = (int)i == r->track;
        r->input.format->streams[i]->discard = is_wanted ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    }
    rc = codec_open(&r->codec, s->codecpar->codec_id, s->codecpar, 1, b, in->name, err);
    if (rc == 0) {
        r->codec.context->pkt_timebase = s->time_base; // to cut off the encoder's own samples
        name_format(r);
    }
    return rc;
}

int decode_sound(const struct media_input *in, struct sound_sink *sink, struct media_budget *b,
                 struct carat_error *err)
{
    enum media_kind kind = kind_of(in);
    if (kind == KIND_UNKNOWN || kind_is_picture(kind)) {
        return kind_refuse(in, "WAV, MP3, FLAC, AAC, M4A, Ogg, WebM and films with sound", err);
    }
    struct reader r = {.sink = sink};
    int rc = input_open(&r.input, in, kind, b, err);
    if (rc == 0) {
        rc = open_track(&r, in, b, err);
    }
    if (rc == 0) {
        rc = read_track(&r, err);
    }
    if (rc == 0) {
        rc = check_whole(&r, err);
    }
    if (rc == 0 && r.input.ends_early) {
        rc = fail(err, CARAT_E_FORMAT,
                  "%s: the file ends before the samples that its header "
                  "promises",
                  in->name);
    }
    codec_close(&r.codec);
    input_close(&r.input);
    mem_free(r.samples);
    return rc;
}
