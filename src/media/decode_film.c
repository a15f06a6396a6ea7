// SPDX-License-Identifier: Apache-2.0
// Frames of a film by their number. One pass over the packets, without decoding, counts the frames
// and brings them into the order in which they are shown; what the header says is not believed.
// Reading is a second pass that decodes only what the wanted frames depend on, from the key frame
// before them: there is no seeking, and so no wrong frame.
#include <libavutil/display.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "media/decode_ffmpeg.h"

#define DECODER_THREADS_MAX 4
#define FPS_UNKNOWN         24
#define BAD_FRAMES_MAX      64 // that one packet brings to light

// A packet of the picture track, in the order of the file.
struct film_packet {
    int64_t shown; // when, in the track's time base
    size_t rank;   // its frame's number; FRAME_NONE: it is decoded but not shown
    bool is_key;
};
#define FRAME_NONE SIZE_MAX

struct film {
    struct media_input in; // data and name are the caller's
    enum media_kind kind;
    struct media_budget *budget;
    struct input input;
    int track;
    struct film_packet *packets;
    size_t n_packets;
    size_t packet_capacity;
    uint64_t packet_bytes; // taken from the budget
    size_t *frame_packets; // which packet shows frame i [n_frames]
    size_t n_frames;
    bool has_times;               // every packet says when it is shown
    bool has_only_keys;           // no frame depends on another
    unsigned orientation;         // as in EXIF
    struct media_picture picture; // the frame at hand
};

// -------------------------------------------------------------------------------- the count

static int add_packet(struct film *f, const AVPacket *packet, bool is_shown,
                      struct carat_error *err)
{
    if (f->n_packets == f->packet_capacity) {
        size_t capacity = f->packet_capacity ? f->packet_capacity * 2 : 1024;
        uint64_t bytes = (capacity - f->packet_capacity) * (sizeof(*f->packets) + sizeof(size_t));
        int rc = media_budget_take(f->budget, bytes, err);
        if (rc) {
            return rc;
        }
        f->packet_bytes += bytes;
        struct film_packet *grown = mem_resize(f->packets, capacity * sizeof(*grown), err);
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        f->packets = grown;
        f->packet_capacity = capacity;
    }
    bool has_time = packet->pts != AV_NOPTS_VALUE;
    bool is_key = (packet->flags & AV_PKT_FLAG_KEY) != 0;
    f->has_times = f->has_times && has_time;
    f->has_only_keys = f->has_only_keys && is_key;
    f->packets[f->n_packets++] = (struct film_packet){
        .shown = has_time ? packet->pts : 0,
        .rank = is_shown ? 0 : FRAME_NONE,
        .is_key = is_key,
    };
    return 0;
}

// VP8 keeps pictures that only others refer to in packets of their own (RFC 6386, 9.1).
static bool is_shown(const AVPacket *packet, enum AVCodecID id)
{
    if ((packet->flags & AV_PKT_FLAG_DISCARD) || packet->size == 0) {
        return false;
    }
    return id != AV_CODEC_ID_VP8 || (packet->data[0] & 0x10) != 0;
}

static int count_packets(struct film *f, int64_t *end, struct carat_error *err)
{
    const AVStream *s = f->input.format->streams[f->track];
    AVPacket *packet = av_packet_alloc();
    if (!packet) {
        return fail(err, CARAT_E_MEMORY, "%s: out of memory", f->in.name);
    }
    bool has_more = true;
    int rc = 0;
    f->has_only_keys = true;
    f->has_times = f->kind != KIND_AVI; // its times are those of decoding
    while (rc == 0) {
        rc = input_next(&f->input, f->track, packet, &has_more, err);
        if (rc || !has_more) {
            break;
        }
        rc = add_packet(f, packet, is_shown(packet, s->codecpar->codec_id), err);
        int64_t duration = packet->duration > 0 ? packet->duration : 0;
        int64_t limit = INT64_MAX / 4;
        if (packet->pts != AV_NOPTS_VALUE && packet->pts < limit && duration < limit &&
            packet->pts + duration > *end) {
            *end = packet->pts + duration;
        }
        av_packet_unref(packet);
    }
    av_packet_free(&packet);
    return rc;
}

// A frame on its way into the order of showing.
struct shown {
    int64_t time;
    size_t i_packet;
};

static int compare_shown(const void *a, const void *b)
{
    const struct shown *x = a;
    const struct shown *y = b;
    if (x->time != y->time) {
        return x->time < y->time ? -1 : 1;
    }
    return (x->i_packet > y->i_packet) - (x->i_packet < y->i_packet);
}

static int order_frames(struct film *f, struct carat_error *err)
{
    struct shown *shown = mem_new_array(f->n_packets, sizeof(*shown), err);
    f->frame_packets = mem_new_array(f->n_packets, sizeof(*f->frame_packets), err);
    if (!shown || !f->frame_packets) {
        mem_free(shown);
        return CARAT_E_MEMORY;
    }
    size_t n = 0;
    for (size_t i = 0; i < f->n_packets; i++) {
        if (f->packets[i].rank != FRAME_NONE) {
            shown[n++] = (struct shown){f->has_times ? f->packets[i].shown : 0, i};
        }
    }
    qsort(shown, n, sizeof(*shown), compare_shown);
    for (size_t i = 0; i < n; i++) {
        f->packets[shown[i].i_packet].rank = i;
        f->frame_packets[i] = shown[i].i_packet;
    }
    f->n_frames = n;
    mem_free(shown);
    return 0;
}

// ---------------------------------------------------------------------------------- opening

// Quarter turns, and mirror images, as EXIF numbers them; other angles count as the nearest.
static unsigned orientation_of(const int32_t *matrix)
{
    if (!matrix) {
        return ORIENTATION_NORMAL;
    }
    bool is_mirrored = (double)matrix[0] * matrix[4] - (double)matrix[1] * matrix[3] < 0;
    int32_t m[9];
    memcpy(m, matrix, sizeof(m));
    if (is_mirrored) {
        av_display_matrix_flip(m, 1, 0);
    }
    double angle = av_display_rotation_get(m); // degrees against the clock
    if (isnan(angle)) {
        return ORIENTATION_NORMAL;
    }
    static const unsigned plain[] = {1, 8, 3, 6};
    static const unsigned mirrored[] = {2, 5, 4, 7};
    unsigned quarter = (unsigned)((lround(angle / 90) % 4 + 4) % 4);
    return is_mirrored ? mirrored[quarter] : plain[quarter];
}

#if LIBAVFORMAT_VERSION_INT >= AV_VERSION_INT(60, 15, 100)
static const int32_t *display_matrix(const AVStream *s)
{
    const AVCodecParameters *p = s->codecpar;
    const AVPacketSideData *d = av_packet_side_data_get(p->coded_side_data, p->nb_coded_side_data,
                                                        AV_PKT_DATA_DISPLAYMATRIX);
    return d && d->size >= 9 * sizeof(int32_t) ? (const int32_t *)(const void *)d->data : NULL;
}
#else
static const int32_t *display_matrix(const AVStream *s)
{
    size_t size = 0;
    const void *data = av_stream_get_side_data(s, AV_PKT_DATA_DISPLAYMATRIX, &size);
    return data && size >= 9 * sizeof(int32_t) ? data : NULL;
}
#endif

static int open_input(struct film *f, struct carat_error *err)
{
    int rc = input_open(&f->input, &f->in, f->kind, f->budget, err);
    if (rc) {
        return rc;
    }
    f->track = input_track(&f->input, AVMEDIA_TYPE_VIDEO);
    if (f->track < 0) {
        return fail(err, CARAT_E_FORMAT, "%s: no picture track in it", f->in.name);
    }
    for (unsigned i = 0; i < f->input.format->nb_streams; i++) {
        bool is_wanted = (int)i == f->track;
        f->input.format->streams[i]->discard = is_wanted ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    }
    return 0;
}

// From the first frame's showing to the end of the last one's; headers round, or count what an edit
// list leaves out.
static double track_seconds(const struct film *f, int64_t end)
{
    const AVStream *s = f->input.format->streams[f->track];
    double base = av_q2d(s->time_base);
    int64_t first = f->has_times ? f->packets[f->frame_packets[0]].shown : end;
    if (end > first) {
        return ((double)end - (double)first) * base;
    }
    return s->duration > 0 ? (double)s->duration * base : 0;
}

static int check_headers(struct film *f, struct carat_error *err)
{
    const AVStream *s = f->input.format->streams[f->track];
    const AVCodecParameters *p = s->codecpar;
    int rc = media_check_size(f->budget, p->width > 0 ? (uint64_t)p->width : 0,
                              p->height > 0 ? (uint64_t)p->height : 0, err);
    if (rc == 0 && s->duration > 0) {
        rc = media_check_seconds(f->budget, (double)s->duration * av_q2d(s->time_base), err);
    }
    int64_t whole = f->input.format->duration; // Matroska has it for the file alone
    if (rc == 0 && whole > 0) {
        rc = media_check_seconds(f->budget, (double)whole / AV_TIME_BASE, err);
    }
    return rc;
}

static int check_count(const struct film *f, struct carat_error *err)
{
    const AVStream *s = f->input.format->streams[f->track];
    if (f->n_frames == 0) {
        return fail(err, CARAT_E_FORMAT, "%s: the picture track is empty", f->in.name);
    }
    if (f->kind == KIND_MP4 && s->nb_frames > 0 && (uint64_t)s->nb_frames > f->n_packets) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: the file ends early: its header says %lld frames, %zu are there",
                    f->in.name, (long long)s->nb_frames, f->n_packets);
    }
    return 0;
}

static void describe(const struct film *f, int64_t end, struct film_info *info)
{
    const AVStream *s = f->input.format->streams[f->track];
    bool is_turned = f->orientation >= 5;
    uint32_t width = (uint32_t)s->codecpar->width;
    uint32_t height = (uint32_t)s->codecpar->height;
    double seconds = track_seconds(f, end);
    *info = (struct film_info){
        .width = is_turned ? height : width,
        .height = is_turned ? width : height,
        .n_frames = f->n_frames,
        .fps = seconds > 0 ? (double)f->n_frames / seconds : FPS_UNKNOWN,
        .has_sound = input_track(&f->input, AVMEDIA_TYPE_AUDIO) >= 0,
    };
    info->seconds = seconds > 0 ? seconds : (double)f->n_frames / FPS_UNKNOWN;
    memcpy(info->format, kind_name(f->kind), strlen(kind_name(f->kind)) + 1);
}

int film_open(struct film **out, struct film_info *info, const struct media_input *in,
              struct media_budget *b, struct carat_error *err)
{
    enum media_kind kind = kind_of(in);
    bool is_film =
        kind == KIND_MP4 || kind == KIND_MATROSKA || kind == KIND_AVI || kind == KIND_GIF;
    if (!is_film) {
        return kind_refuse(in, "MP4, MOV, WebM, Matroska, AVI and GIF films", err);
    }
    struct film *f = mem_new(sizeof(*f), err);
    if (!f) {
        return CARAT_E_MEMORY;
    }
    *f = (struct film){.in = *in, .kind = kind, .budget = b};
    int64_t end = 0;
    int rc = open_input(f, err);
    rc = rc ? rc : check_headers(f, err);
    rc = rc ? rc : count_packets(f, &end, err);
    rc = rc ? rc : order_frames(f, err);
    rc = rc ? rc : check_count(f, err);
    rc = rc ? rc : media_check_seconds(b, track_seconds(f, end), err);
    if (rc) {
        film_close(f);
        return rc;
    }
    f->orientation = orientation_of(display_matrix(f->input.format->streams[f->track]));
    describe(f, end, info);
    *out = f;
    return 0;
}

static void drop_picture(struct film *f)
{
    media_budget_give(f->budget, (uint64_t)f->picture.width * f->picture.height * 3);
    media_picture_release(&f->picture);
}

void film_close(struct film *f)
{
    if (!f) {
        return;
    }
    media_budget_give(f->budget, f->packet_bytes);
    drop_picture(f);
    mem_free(f->packets);
    mem_free(f->frame_packets);
    input_close(&f->input);
    mem_free(f);
}

// ---------------------------------------------------------------------------------- reading

struct film_reader {
    struct film *film;
    struct codec codec;
    const size_t *frames; // wanted, ascending
    size_t n;
    size_t next;     // of frames: the first that is not handed over yet
    size_t i_output; // number of the frame that comes out next, where times do not tell
    film_on_frame on_frame;
    void *user;
};

static struct colour_rule rule_of(const AVFrame *frame)
{
    enum colour_matrix matrix =
        frame->colorspace == AVCOL_SPC_BT709 ? MATRIX_BT709
        : frame->colorspace == AVCOL_SPC_BT2020_NCL || frame->colorspace == AVCOL_SPC_BT2020_CL
            ? MATRIX_BT2020
            : MATRIX_BT601;
    bool is_full = frame->color_range == AVCOL_RANGE_JPEG || frame->format == AV_PIX_FMT_YUVJ420P ||
                   frame->format == AV_PIX_FMT_YUVJ422P || frame->format == AV_PIX_FMT_YUVJ444P ||
                   frame->format == AV_PIX_FMT_YUVJ440P;
    return (struct colour_rule){.chroma = CHROMA_FILM, .matrix = matrix, .is_full_range = is_full};
}

// The frame at hand as it is shown.
static int show(struct film *f, const AVFrame *frame, struct carat_error *err)
{
    uint32_t width = frame->width > 0 ? (uint32_t)frame->width : 0;
    uint32_t height = frame->height > 0 ? (uint32_t)frame->height : 0;
    int rc = 0;
    if (f->picture.width != width || f->picture.height != height) {
        drop_picture(f);
        rc = picture_new(&f->picture, width, height, f->budget, err);
    }
    if (rc == 0) {
        rc = frame_into_picture(&f->picture, frame, rule_of(frame), false, f->budget, err);
    }
    return rc ? rc : picture_orient(&f->picture, f->orientation, f->budget, err);
}

static int hand_over(struct film_reader *r, size_t rank, struct carat_error *err)
{
    const AVFrame *frame = r->codec.frame;
    if (r->next == r->n || rank < r->frames[r->next]) {
        return 0;
    }
    if (rank > r->frames[r->next] || (frame->flags & AV_FRAME_FLAG_CORRUPT) ||
        frame->decode_error_flags) {
        return codec_fail(&r->codec, AVERROR_INVALIDDATA, "a frame is damaged or missing", err);
    }
    int rc = show(r->film, frame, err);
    while (rc == 0 && r->next < r->n && r->frames[r->next] == rank) {
        rc = r->on_frame(r->user, r->next, &r->film->picture, err);
        r->next++;
    }
    return rc;
}

static int receive_all(struct film_reader *r, struct carat_error *err)
{
    for (int n_bad = 0;;) {
        bool has_frame = false;
        struct carat_error bad = {0};
        int rc = codec_receive(&r->codec, &has_frame, &bad);
        if (rc == CARAT_E_FORMAT && n_bad++ < BAD_FRAMES_MAX) {
            continue;
        }
        if (rc || !has_frame) {
            return rc ? fail(err, rc, "%s", bad.text) : 0;
        }
        const AVFrame *frame = r->codec.frame;
        bool has_rank = r->film->has_times && frame->pts >= 0;
        size_t rank = has_rank ? (size_t)frame->pts : r->i_output;
        r->i_output = rank + 1;
        rc = hand_over(r, rank, err);
        if (rc) {
            return rc;
        }
    }
}

// From which packet on a frame can be decoded: the last key frame that is neither behind it in the
// file nor shown after it. Without times only where every packet is a key frame, else the first.
static size_t start_of(const struct film *f, size_t rank)
{
    size_t wanted = f->frame_packets[rank];
    if (!f->has_times) {
        return f->has_only_keys ? wanted : 0;
    }
    for (size_t at = wanted + 1; at-- > 0;) {
        const struct film_packet *p = &f->packets[at];
        if (p->is_key && p->shown <= f->packets[wanted].shown) {
            return at;
        }
    }
    return 0;
}

// A packet that cannot be decoded matters when a wanted frame does not come out. With several
// threads its error comes with a later frame.
static int feed(struct film_reader *r, AVPacket *packet, size_t rank, struct carat_error *err)
{
    struct carat_error bad = {0};
    // The frame's number takes the place of its time and comes out again with it.
    packet->pts = rank != FRAME_NONE ? (int64_t)rank : AV_NOPTS_VALUE;
    packet->dts = AV_NOPTS_VALUE;
    int rc = codec_send(&r->codec, packet, &bad);
    if (rc && rc != CARAT_E_FORMAT) {
        return fail(err, rc, "%s", bad.text);
    }
    return receive_all(r, err);
}

// The second pass: feeds the decoder from the start of the next wanted frame on, until it is out.
static int read_packets(struct film_reader *r, AVPacket *packet, struct carat_error *err)
{
    struct film *f = r->film;
    bool is_decoding = false;
    size_t start = start_of(f, r->frames[0]);
    for (size_t i = 0; i < f->n_packets && r->next < r->n; i++) {
        bool has_more = false;
        size_t next = r->next;
        int rc = input_next(&f->input, f->track, packet, &has_more, err);
        if (rc || !has_more) {
            return rc;
        }
        if (is_decoding && start > i) {
            avcodec_flush_buffers(r->codec.context); // all that was wanted of it is out
            is_decoding = false;
        }
        if (!is_decoding && i == start) {
            is_decoding = true;
            r->i_output = f->packets[i].rank != FRAME_NONE ? f->packets[i].rank : 0;
        }
        if (is_decoding && packet->size > 0) {
            rc = feed(r, packet, f->packets[i].rank, err);
        }
        av_packet_unref(packet);
        if (rc) {
            return rc;
        }
        if (r->next != next && r->next < r->n) {
            start = start_of(f, r->frames[r->next]);
        }
    }
    return 0;
}

// What the decoder still holds at the end of the file.
static int drain(struct film_reader *r, struct carat_error *err)
{
    if (r->next == r->n) {
        return 0;
    }
    int rc = codec_send(&r->codec, NULL, err);
    rc = rc ? rc : receive_all(r, err);
    if (rc == 0 && r->next < r->n) {
        rc = codec_fail(&r->codec, AVERROR_INVALIDDATA, "a frame cannot be decoded", err);
    }
    return rc;
}

static int open_decoder(struct film_reader *r, struct carat_error *err)
{
    struct film *f = r->film;
    input_close(&f->input);
    int rc = open_input(f, err);
    if (rc) {
        return rc;
    }
    size_t cores = os_cores();
    int n_threads = (int)(cores < DECODER_THREADS_MAX ? cores : DECODER_THREADS_MAX);
    const AVCodecParameters *p = f->input.format->streams[f->track]->codecpar;
    return codec_open(&r->codec, p->codec_id, p, n_threads, f->budget, f->in.name, err);
}

int film_read(struct film *f, const size_t *frames, size_t n, film_on_frame on_frame, void *user,
              struct carat_error *err)
{
    struct film_reader r = {
        .film = f, .frames = frames, .n = n, .on_frame = on_frame, .user = user};
    for (size_t i = 0; i < n; i++) {
        require(frames[i] < f->n_frames);
        require(i == 0 || frames[i] >= frames[i - 1]);
    }
    if (n == 0) {
        return 0;
    }
    AVPacket *packet = av_packet_alloc();
    int rc =
        packet ? open_decoder(&r, err) : fail(err, CARAT_E_MEMORY, "%s: out of memory", f->in.name);
    rc = rc ? rc : read_packets(&r, packet, err);
    rc = rc ? rc : drain(&r, err);
    av_packet_free(&packet);
    codec_close(&r.codec);
    return rc;
}
