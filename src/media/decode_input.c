// SPDX-License-Identifier: Apache-2.0
// A demuxer of the FFmpeg libraries over the caller's memory, fenced in: one format that we chose,
// a list of decoders, no protocols, nothing it could open by itself, a deadline.
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "media/decode_ffmpeg.h"

#define IO_BUFFER  (64 * 1024)
#define PROBE_SIZE (4 << 20) // bytes looked at to learn what the tracks hold
#define DECODERS                                                                                   \
    "h264,hevc,vp8,libvpx,libvpx-vp9,vp9,libdav1d,libaom-av1,av1,mpeg4,mjpeg,mpeg2video,prores,"   \
    "libopus,opus,aac,aac_fixed,mp3float,mp3,flac,vorbis,alac,ac3,eac3,adpcm_ms,adpcm_ima_wav,"    \
    "adpcm_ima_qt,gsm_ms,mp2float,mp2,"                                                            \
    "pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,"         \
    "pcm_f32be,pcm_f64le,pcm_f64be,pcm_alaw,pcm_mulaw"

static size_t bytes_in_all(const struct input *in)
{
    return in->prefix.size + in->in.size;
}

static int read_bytes(void *user, uint8_t *out, int size)
{
    struct input *in = user;
    size_t left = bytes_in_all(in) - in->at;
    if (left == 0 || size <= 0) {
        return AVERROR_EOF;
    }
    bool is_prefix = in->at < in->prefix.size;
    const uint8_t *from = is_prefix ? (const uint8_t *)in->prefix.data + in->at
                                    : in->in.data + (in->at - in->prefix.size);
    size_t here = is_prefix ? in->prefix.size - in->at : left;
    size_t n = (size_t)size < here ? (size_t)size : here;
    memcpy(out, from, n);
    in->at += n;
    return (int)n;
}

static int64_t seek_bytes(void *user, int64_t offset, int whence)
{
    struct input *in = user;
    int64_t size = (int64_t)bytes_in_all(in);
    int64_t base = 0;
    switch (whence & ~AVSEEK_FORCE) {
    case AVSEEK_SIZE:
        return size;
    case SEEK_SET:
        break;
    case SEEK_CUR:
        base = (int64_t)in->at;
        break;
    case SEEK_END:
        base = size;
        break;
    default:
        return AVERROR(EINVAL);
    }
    if (offset < -base || offset > size - base) {
        return AVERROR(EINVAL);
    }
    in->at = (size_t)(base + offset);
    return (int64_t)in->at;
}

// Nobody opens anything by a name that stood in a file.
static int open_nothing(AVFormatContext *format, AVIOContext **io, const char *url, int flags,
                        AVDictionary **options)
{
    (void)format;
    (void)io;
    (void)url;
    (void)flags;
    (void)options;
    return AVERROR(EPERM);
}

static int is_too_late(void *user)
{
    const struct input *in = user;
    return os_seconds() > in->budget->deadline;
}

static const char *demuxer_name(enum media_kind kind)
{
    switch (kind) {
    case KIND_WAV:
        return "wav";
    case KIND_MP3:
        return "mp3";
    case KIND_AAC:
        return "aac";
    case KIND_FLAC:
        return "flac";
    case KIND_OGG:
        return "ogg";
    case KIND_MP4:
    case KIND_AVIF:
        return "mov";
    case KIND_MATROSKA:
        return "matroska";
    case KIND_AVI:
        return "avi";
    case KIND_GIF:
        return "gif";
    default:
        return NULL;
    }
}

// The libraries free these with their own function.
static int make_format(struct input *in, struct carat_error *err)
{
    uint8_t *buffer = av_malloc(IO_BUFFER);
    in->io =
        buffer ? avio_alloc_context(buffer, IO_BUFFER, 0, in, read_bytes, NULL, seek_bytes) : NULL;
    if (!in->io) {
        av_free(buffer);
    }
    in->format = avformat_alloc_context();
    if (!in->io || !in->format) {
        return fail(err, CARAT_E_MEMORY, "%s: out of memory", in->in.name);
    }
    AVFormatContext *f = in->format;
    f->pb = in->io;
    f->flags |= AVFMT_FLAG_CUSTOM_IO;
    f->io_open = open_nothing;
    f->interrupt_callback = (AVIOInterruptCB){is_too_late, in};
    f->protocol_whitelist = av_strdup("");
    f->format_whitelist = av_strdup(demuxer_name(in->kind));
    f->codec_whitelist = av_strdup(DECODERS);
    f->max_streams = TRACKS_MAX;
    f->probesize = PROBE_SIZE;
    if (!f->protocol_whitelist || !f->format_whitelist || !f->codec_whitelist) {
        return fail(err, CARAT_E_MEMORY, "%s: out of memory", in->in.name);
    }
    return 0;
}

static int open_error(const struct input *in, int status, const char *what, struct carat_error *err)
{
    int rc = media_budget_tick(in->budget, 0, 0, err);
    return rc ? rc : ffmpeg_fail(err, CARAT_E_FORMAT, status, in->in.name, what);
}

// Looks at the first packets for what the headers do not say. The decoders it tries get the same
// limits as ours.
static int find_tracks(struct input *in, struct carat_error *err)
{
    unsigned n = in->format->nb_streams;
    AVDictionary *options[TRACKS_MAX] = {0};
    char pixels[32];
    uint64_t pixels_max = in->budget->limits.pixels_max;
    snprintf(pixels, sizeof(pixels), "%llu",
             (unsigned long long)(pixels_max < INT32_MAX ? pixels_max : INT32_MAX));
    int rc = 0;
    if (n > TRACKS_MAX) {
        return fail(err, CARAT_E_FULL, "%s: %u tracks, the limit is %d", in->in.name, n,
                    TRACKS_MAX);
    }
    for (unsigned i = 0; i < n && rc >= 0; i++) {
        rc = av_dict_set(&options[i], "max_pixels", pixels, 0);
        rc = rc < 0 ? rc : av_dict_set(&options[i], "threads", "1", 0);
    }
    if (rc >= 0) {
        rc = avformat_find_stream_info(in->format, n > 0 ? options : NULL);
    }
    for (unsigned i = 0; i < n; i++) {
        av_dict_free(&options[i]);
    }
    return rc < 0 ? open_error(in, rc, "the tracks cannot be read", err) : 0;
}

// A WAV's header with nothing but what describes the samples. At the data's chunk, what follows it
// belongs to the file's end.
static int shorten_wav(struct input *in, struct carat_error *err)
{
    const uint8_t *d = in->in.data;
    size_t size = in->in.size;
    size_t at = 12;
    buf_add(&in->prefix, d, size < at ? size : at);
    while (at < size && size - at >= 8) {
        uint64_t n = little_u32(d + at + 4);
        if (memcmp(d + at, "data", 4) == 0) {
            uint64_t left = size - at;
            in->in.data = d + at;
            in->in.size = (size_t)(n + 8 < left ? n + 8 : left);
            in->ends_early = n + 8 > left && n != UINT32_MAX;
            return buf_status(&in->prefix, err);
        }
        bool is_kept = memcmp(d + at, "fmt ", 4) == 0 || memcmp(d + at, "fact", 4) == 0;
        uint64_t chunk = 8 + n + (n & 1);
        if (chunk > size - at) {
            break;
        }
        if (is_kept) {
            buf_add(&in->prefix, d + at, (size_t)chunk);
        }
        at += (size_t)chunk;
    }
    return fail_cut(&in->in, "before a WAV's samples", err);
}

// Tags are not for us, and may be packed so that they unpack to gigabytes.
static int leave_out_tags(struct input *in, struct carat_error *err)
{
    if (in->kind == KIND_WAV) {
        return shorten_wav(in, err);
    }
    if (in->kind == KIND_MP3 || in->kind == KIND_AAC || in->kind == KIND_FLAC) {
        size_t at = kind_tags_end(&in->in);
        in->in.data += at;
        in->in.size -= at;
    }
    return 0;
}

int input_open(struct input *out, const struct media_input *in, enum media_kind kind,
               struct media_budget *b, struct carat_error *err)
{
    *out = (struct input){.in = *in, .budget = b, .kind = kind};
    ffmpeg_start();
    const char *name = demuxer_name(kind);
    const AVInputFormat *demuxer = name ? av_find_input_format(name) : NULL;
    if (!demuxer) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: the FFmpeg libraries here do not read %s",
                    in->name, kind_name(kind));
    }
    int rc = container_check(kind, in, b, err);
    if (rc == 0) {
        rc = leave_out_tags(out, err);
    }
    if (rc == 0) {
        rc = make_format(out, err);
    }
    if (rc == 0) {
        int status = avformat_open_input(&out->format, NULL, demuxer, NULL);
        rc = status < 0 ? open_error(out, status, "the headers cannot be read", err) : 0;
    }
    if (rc == 0) {
        rc = find_tracks(out, err);
    }
    if (rc) {
        input_close(out);
    }
    return rc;
}

int input_track(const struct input *in, enum AVMediaType type)
{
    for (unsigned i = 0; i < in->format->nb_streams; i++) {
        const AVStream *s = in->format->streams[i];
        if (s->codecpar->codec_type == type && !(s->disposition & AV_DISPOSITION_ATTACHED_PIC)) {
            return (int)i;
        }
    }
    return -1;
}

int input_next(struct input *in, int track, AVPacket *packet, bool *has_more,
               struct carat_error *err)
{
    *has_more = false;
    for (;;) {
        int rc = media_budget_tick(in->budget, in->at, bytes_in_all(in), err);
        if (rc) {
            return rc;
        }
        int status = av_read_frame(in->format, packet);
        if (status == AVERROR_EOF) {
            return 0;
        }
        if (status < 0) {
            return open_error(in, status, "the file cannot be read further", err);
        }
        if (packet->stream_index == track) {
            *has_more = true;
            return 0;
        }
        av_packet_unref(packet);
    }
}

void input_close(struct input *in)
{
    avformat_close_input(&in->format);
    if (in->io) {
        av_freep(&in->io->buffer);
    }
    avio_context_free(&in->io);
    buf_release(&in->prefix);
}
