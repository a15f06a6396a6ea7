// SPDX-License-Identifier: Apache-2.0
// Pictures: the headers are read by our own code; what is left of the file goes to libjpeg,
// libheif, or straight to a decoder of the FFmpeg libraries, without a demuxer.
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/decode_ffmpeg.h"

static enum AVCodecID codec_of(enum media_kind kind)
{
    switch (kind) {
    case KIND_PNG:
        return AV_CODEC_ID_PNG;
    case KIND_WEBP:
        return AV_CODEC_ID_WEBP;
    case KIND_GIF:
        return AV_CODEC_ID_GIF;
    case KIND_BMP:
        return AV_CODEC_ID_BMP;
    case KIND_TIFF:
        return AV_CODEC_ID_TIFF;
    default:
        return AV_CODEC_ID_NONE;
    }
}

static struct colour_rule rule_of(enum media_kind kind)
{
    return (struct colour_rule){.chroma = kind == KIND_WEBP ? CHROMA_WEBP : CHROMA_FILM,
                                .matrix = MATRIX_BT601,
                                .is_full_range = true};
}

// The bytes stay the header's.
static void keep_bytes(void *user, uint8_t *data)
{
    (void)user;
    (void)data;
}

static int decode_bytes(struct codec *c, const struct picture_header *h, struct carat_error *err)
{
    AVPacket *packet = av_packet_alloc();
    if (!packet || h->bytes.size > INT32_MAX - PICTURE_PADDING) {
        av_packet_free(&packet);
        return fail(err, CARAT_E_MEMORY, "%s: out of memory", c->name);
    }
    packet->buf = av_buffer_create((uint8_t *)h->bytes.data, h->bytes.size + PICTURE_PADDING,
                                   keep_bytes, NULL, AV_BUFFER_FLAG_READONLY);
    packet->data = (uint8_t *)h->bytes.data;
    packet->size = (int)h->bytes.size;
    packet->flags = AV_PKT_FLAG_KEY;
    bool has_frame = false;
    ffmpeg_forget_errors();
    int rc = packet->buf ? codec_send(c, packet, err)
                         : fail(err, CARAT_E_MEMORY, "%s: out of memory", c->name);
    av_packet_free(&packet);
    if (rc == 0) {
        rc = codec_receive(c, &has_frame, err);
    }
    if (rc == 0 && !has_frame) {
        rc = codec_send(c, NULL, err);
        rc = rc ? rc : codec_receive(c, &has_frame, err);
    }
    if (rc == 0 && (!has_frame || ffmpeg_has_errors() || c->frame->decode_error_flags ||
                    (c->frame->flags & AV_FRAME_FLAG_CORRUPT))) {
        rc = codec_fail(c, 0, "damaged or cut off", err);
    }
    return rc;
}

// The first picture of an animation may be smaller than its canvas, which is see-through.
static int put_on_canvas(struct media_picture *p, const struct picture_header *h, bool blends_alpha,
                         struct media_budget *b, struct carat_error *err)
{
    if (p->width == h->width && p->height == h->height) {
        return 0;
    }
    if ((uint64_t)h->left + p->width > h->width || (uint64_t)h->top + p->height > h->height) {
        return fail(err, CARAT_E_FORMAT, "%s: the header says %u x %u, the picture has %u x %u",
                    b->name, h->width, h->height, p->width, p->height);
    }
    struct media_picture canvas = {0};
    int rc = picture_new(&canvas, h->width, h->height, b, err);
    if (rc) {
        return rc;
    }
    memset(canvas.pixels, blends_alpha ? 255 : 0, (size_t)h->width * h->height * 3);
    for (uint32_t y = 0; y < p->height; y++) {
        memcpy(canvas.pixels + (((size_t)h->top + y) * h->width + h->left) * 3,
               p->pixels + (size_t)y * p->width * 3, (size_t)p->width * 3);
    }
    media_budget_give(b, (uint64_t)p->width * p->height * 3);
    media_picture_release(p);
    *p = canvas;
    return 0;
}

static int decode_by_codec(struct media_picture *out, enum media_kind kind,
                           const struct picture_header *h, bool blends_alpha,
                           struct media_budget *b, struct carat_error *err)
{
    struct codec c = {0};
    int rc = codec_open(&c, codec_of(kind), NULL, 1, b, b->name, err);
    if (rc == 0) {
        rc = decode_bytes(&c, h, err);
    }
    if (rc == 0) {
        rc = frame_to_picture(out, c.frame, rule_of(kind), blends_alpha, b, err);
    }
    codec_close(&c);
    return rc ? rc : put_on_canvas(out, h, blends_alpha, b, err);
}

static int decode_with_header(struct media_picture *out, enum media_kind kind,
                              const struct media_input *in, bool blends_alpha,
                              struct media_budget *b, struct carat_error *err)
{
    struct picture_header h = {0};
    int rc = header_read(&h, kind, in, b, err);
    if (rc) {
        return rc;
    }
    uint64_t bytes = h.bytes.capacity + h.decoder_bytes;
    rc = media_budget_take(b, bytes, err);
    if (rc == 0) {
        rc = kind == KIND_JPEG ? decode_jpeg(out, &h, b, err)
                               : decode_by_codec(out, kind, &h, blends_alpha, b, err);
        media_budget_give(b, bytes);
    }
    if (rc == 0 && !blends_alpha) {
        rc = picture_orient(out, h.orientation, b, err);
    }
    header_release(&h);
    if (rc && out->pixels) {
        media_budget_give(b, (uint64_t)out->width * out->height * 3);
        media_picture_release(out);
    }
    return rc;
}

bool decode_has(const char *feature)
{
    return strcmp(feature, "ffmpeg") == 0 || (strcmp(feature, "jpeg") == 0 && decode_jpeg_has()) ||
           (strcmp(feature, "heif") == 0 && decode_heif_has(KIND_HEIC));
}

int decode_picture(struct media_picture *out, char format[32], const struct media_input *in,
                   bool blends_alpha, struct media_budget *b, struct carat_error *err)
{
    enum media_kind kind = kind_of(in);
    if (!kind_is_picture(kind)) {
        return kind_refuse(in, "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC, AVIF and PPM pictures", err);
    }
    *out = (struct media_picture){0};
    int rc = media_budget_tick(b, 0, 0, err);
    if (rc) {
        return rc;
    }
    if (kind == KIND_HEIC || (kind == KIND_AVIF && decode_heif_has(kind))) {
        rc = decode_heif(out, in, blends_alpha, b, err);
    } else if (kind == KIND_AVIF) {
        rc = decode_avif(out, in, blends_alpha, b, err);
    } else {
        rc = decode_with_header(out, kind, in, blends_alpha, b, err);
    }
    if (rc == 0) {
        memcpy(format, kind_name(kind), strlen(kind_name(kind)) + 1);
    }
    return rc;
}
