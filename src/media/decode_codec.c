// SPDX-License-Identifier: Apache-2.0
// A decoder of the FFmpeg libraries under our limits, the libraries' log, and their errors.
#include <libavutil/imgutils.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/decode_ffmpeg.h"

#define ROUNDING_PIXELS (64 * 65536)

// ------------------------------------------------------------------------------------- log

// The last error of this thread: the only way to learn what a decoder passed over.
static _Thread_local char last_error[512];

// The libraries hand over pieces; a line of ours is one of theirs. What goes wrong in files is the
// files' matter, so nothing of it is above the debug level.
static void on_log(void *object, int level, const char *format, va_list arguments)
{
    char line[512];
    int prefix = 0; // its prefix has an address in it
    if (level > AV_LOG_WARNING) {
        return;
    }
    int n = av_log_format_line2(object, level, format, arguments, line, sizeof(line), &prefix);
    if (n <= 0) {
        return;
    }
    size_t size = strlen(line);
    while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == ' ')) {
        line[--size] = 0;
    }
    if (size > 0) {
        log_line(CARAT_LOG_DEBUG, "%s", line);
    }
    if (size > 0 && level <= AV_LOG_ERROR) {
        memcpy(last_error, line, size + 1);
    }
}

void ffmpeg_forget_errors(void)
{
    last_error[0] = 0;
}

void ffmpeg_start(void)
{
    static atomic_flag is_started = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&is_started)) {
        av_log_set_callback(on_log);
    }
    ffmpeg_forget_errors();
}

bool ffmpeg_has_errors(void)
{
    return last_error[0] != 0;
}

int ffmpeg_fail(struct carat_error *err, enum carat_status status, int av_status, const char *name,
                const char *what)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = "no picture";
    if (av_status == AVERROR(ENOMEM)) {
        return fail(err, CARAT_E_MEMORY, "%s: out of memory", name);
    }
    if (last_error[0]) {
        return fail(err, status, "%s: %s: %s", name, what, last_error);
    }
    if (av_status < 0) {
        av_strerror(av_status, text, sizeof(text));
    }
    return fail(err, status, "%s: %s: %s", name, what, text);
}

// ---------------------------------------------------------------------------------- memory

// Stands between a frame and its memory, to count it while it lives.
struct held {
    AVBufferRef *inner;
    struct codec_memory *memory;
    uint64_t bytes;
};

static bool memory_take(struct codec_memory *m, uint64_t bytes)
{
    uint64_t used = atomic_fetch_add(&m->used, bytes) + bytes;
    if (used > atomic_load(&m->max)) {
        atomic_fetch_sub(&m->used, bytes);
        atomic_store(&m->failure, CARAT_E_FULL);
        return false;
    }
    return true;
}

static void release_held(void *user, uint8_t *data)
{
    (void)data;
    struct held *h = user;
    atomic_fetch_sub(&h->memory->used, h->bytes);
    av_buffer_unref(&h->inner);
    mem_free(h);
}

static uint64_t frame_bytes(const AVFrame *f, enum AVMediaType type)
{
    if (type == AVMEDIA_TYPE_AUDIO) {
        return (uint64_t)f->nb_samples * (uint64_t)f->ch_layout.nb_channels * 8;
    }
    int size = av_image_get_buffer_size(f->format, f->width, f->height, 64);
    return size > 0 ? (uint64_t)size : 0;
}

static int get_buffer(AVCodecContext *context, AVFrame *frame, int flags)
{
    struct codec_memory *memory = context->opaque;
    uint64_t bytes = frame_bytes(frame, context->codec_type);
    if (!memory_take(memory, bytes)) {
        return AVERROR(ENOMEM);
    }
    struct held *h = mem_new(sizeof(*h), NULL);
    if (!h) {
        atomic_store(&memory->failure, CARAT_E_MEMORY);
    }
    int status = h ? avcodec_default_get_buffer2(context, frame, flags) : AVERROR(ENOMEM);
    if (status < 0) {
        mem_free(h);
        atomic_fetch_sub(&memory->used, bytes);
        return status;
    }
    *h = (struct held){.inner = frame->buf[0], .memory = memory, .bytes = bytes};
    AVBufferRef *outer = av_buffer_create(h->inner->data, h->inner->size, release_held, h, 0);
    if (!outer) {
        mem_free(h);
        atomic_fetch_sub(&memory->used, bytes);
        av_frame_unref(frame);
        return AVERROR(ENOMEM);
    }
    frame->buf[0] = outer;
    return 0;
}

// ----------------------------------------------------------------------------------- codec

// The libraries' own Opus decoder is not close enough to the reference decoder.
static const AVCodec *find_decoder(enum AVCodecID id)
{
    const AVCodec *codec = id == AV_CODEC_ID_OPUS ? avcodec_find_decoder_by_name("libopus") : NULL;
    if (!codec && id == AV_CODEC_ID_AV1) {
        codec = avcodec_find_decoder_by_name("libdav1d");
    }
    return codec ? codec : avcodec_find_decoder(id);
}

// Older versions want to be told that get_buffer may run on any thread; newer ones require it.
#if LIBAVCODEC_VERSION_MAJOR < 60
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void say_thread_safe(AVCodecContext *context)
{
    context->thread_safe_callbacks = 1;
}
#pragma GCC diagnostic pop
#else
static void say_thread_safe(AVCodecContext *context)
{
    (void)context;
}
#endif

static void set_up(struct codec *c, int n_threads)
{
    AVCodecContext *x = c->context;
    // The libraries count rows rounded up; what they let through is checked again, frame by frame.
    uint64_t pixels_max = c->budget->limits.pixels_max;
    x->max_pixels = pixels_max < INT64_MAX / 2 ? (int64_t)pixels_max + ROUNDING_PIXELS : INT64_MAX;
    x->thread_count = n_threads;
    x->opaque = c->memory;
    x->get_buffer2 = get_buffer;
    say_thread_safe(x);
}

static void set_memory_max(struct codec *c)
{
    uint64_t max = c->budget->limits.memory_max;
    uint64_t used = c->budget->memory;
    atomic_store(&c->memory->max, max > used ? max - used : 0);
}

int codec_open(struct codec *out, enum AVCodecID id, const AVCodecParameters *parameters,
               int n_threads, struct media_budget *b, const char *name, struct carat_error *err)
{
    *out = (struct codec){.budget = b, .name = name};
    ffmpeg_start();
    int rc = CARAT_E_MEMORY;
    const AVCodec *decoder = find_decoder(id);
    if (!decoder) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: the FFmpeg libraries here do not decode %s",
                    name, avcodec_get_name(id));
    }
    out->memory = mem_new(sizeof(*out->memory), err);
    if (!out->memory) {
        goto out;
    }
    set_memory_max(out);
    out->context = avcodec_alloc_context3(decoder);
    out->frame = av_frame_alloc();
    int status = out->context && out->frame ? 0 : AVERROR(ENOMEM);
    if (status == 0 && parameters) {
        status = avcodec_parameters_to_context(out->context, parameters);
    }
    if (status >= 0) {
        set_up(out, n_threads);
        // For JPEG the transform of libjpeg; films were recorded with the libraries' own.
        // Check sums, where there are any. TIFF would be refused for tags that nobody needs.
        if ((!parameters && id != AV_CODEC_ID_TIFF) || id == AV_CODEC_ID_FLAC) {
            out->context->err_recognition =
                AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER | AV_EF_EXPLODE;
        }
        out->context->idct_algo = parameters ? FF_IDCT_AUTO : FF_IDCT_INT;
        status = avcodec_open2(out->context, decoder, NULL);
    }
    rc = status < 0 ? ffmpeg_fail(err, CARAT_E_FORMAT, status, name, "the decoder does not start")
                    : 0;
out:
    if (rc) {
        codec_close(out);
    }
    return rc;
}

int codec_fail(struct codec *c, int av_status, const char *what, struct carat_error *err)
{
    int failure = atomic_load(&c->memory->failure);
    if (failure == CARAT_E_FULL) {
        return fail(err, CARAT_E_FULL,
                    "%s: decoding needs more than the limit of %llu MiB of memory", c->name,
                    (unsigned long long)(c->budget->limits.memory_max >> 20));
    }
    if (failure == CARAT_E_MEMORY) {
        return fail(err, CARAT_E_MEMORY, "%s: out of memory", c->name);
    }
    int rc = media_budget_tick(c->budget, 0, 0, err);
    return rc ? rc : ffmpeg_fail(err, CARAT_E_FORMAT, av_status, c->name, what);
}

static int codec_error(struct codec *c, int status, struct carat_error *err)
{
    char what[96];
    snprintf(what, sizeof(what), "damaged or cut off (%s)", avcodec_get_name(c->context->codec_id));
    return codec_fail(c, status, what, err);
}

int codec_send(struct codec *c, const AVPacket *packet, struct carat_error *err)
{
    set_memory_max(c);
    int status = avcodec_send_packet(c->context, packet);
    return status < 0 && status != AVERROR_EOF ? codec_error(c, status, err) : 0;
}

int codec_receive(struct codec *c, bool *has_frame, struct carat_error *err)
{
    *has_frame = false;
    set_memory_max(c);
    int status = avcodec_receive_frame(c->context, c->frame);
    if (status == AVERROR(EAGAIN) || status == AVERROR_EOF) {
        return 0;
    }
    if (status < 0) {
        return codec_error(c, status, err);
    }
    *has_frame = true;
    return 0;
}

void codec_close(struct codec *c)
{
    av_frame_free(&c->frame);
    avcodec_free_context(&c->context);
    mem_free(c->memory);
    *c = (struct codec){0};
}
