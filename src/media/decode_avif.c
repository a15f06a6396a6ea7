// SPDX-License-Identifier: Apache-2.0
// A still AVIF where libheif is not there to read it: the one picture, as the FFmpeg libraries find
// it. They leave turns to the caller, and transparency out.
#include <string.h>

#include "base/error.h"
#include "media/decode_ffmpeg.h"

// Any property that turns or mirrors; what it applies to, and in which order, is libheif's matter.
static bool is_turned(const struct media_input *in)
{
    for (size_t at = 0; at + 4 <= in->size; at++) {
        const uint8_t *found = memchr(in->data + at, 'i', in->size - at - 3);
        if (!found) {
            return false;
        }
        if (memcmp(found, "irot", 4) == 0 || memcmp(found, "imir", 4) == 0) {
            return true;
        }
        at = (size_t)(found - in->data);
        if (memcmp(found, "ipma", 4) == 0) { // comes behind all properties
            return false;
        }
    }
    return false;
}

static struct colour_rule rule_of(const AVFrame *frame)
{
    enum colour_matrix matrix = frame->colorspace == AVCOL_SPC_BT709        ? MATRIX_BT709
                                : frame->colorspace == AVCOL_SPC_BT2020_NCL ? MATRIX_BT2020
                                                                            : MATRIX_BT601;
    return (struct colour_rule){.chroma = CHROMA_FILM,
                                .matrix = matrix,
                                .is_full_range = frame->color_range == AVCOL_RANGE_JPEG};
}

static int decode_first(struct media_picture *out, struct input *input, struct codec *c,
                        bool blends_alpha, struct media_budget *b, struct carat_error *err)
{
    bool has_more = false;
    bool has_frame = false;
    int track = input_track(input, AVMEDIA_TYPE_VIDEO);
    if (track < 0) {
        return fail(err, CARAT_E_FORMAT, "%s: no picture in it", b->name);
    }
    const AVCodecParameters *p = input->format->streams[track]->codecpar;
    int rc = media_check_size(b, p->width > 0 ? (uint64_t)p->width : 0,
                              p->height > 0 ? (uint64_t)p->height : 0, err);
    AVPacket *packet = rc == 0 ? av_packet_alloc() : NULL;
    if (rc == 0 && !packet) {
        rc = fail(err, CARAT_E_MEMORY, "%s: out of memory", b->name);
    }
    rc = rc ? rc : codec_open(c, p->codec_id, p, 1, b, b->name, err);
    rc = rc ? rc : input_next(input, track, packet, &has_more, err);
    rc = rc ? rc : codec_send(c, has_more ? packet : NULL, err);
    rc = rc ? rc : has_more ? codec_send(c, NULL, err) : 0;
    rc = rc ? rc : codec_receive(c, &has_frame, err);
    if (rc == 0 && !has_frame) {
        rc = codec_fail(c, AVERROR_INVALIDDATA, "damaged or cut off", err);
    }
    rc = rc ? rc : frame_to_picture(out, c->frame, rule_of(c->frame), blends_alpha, b, err);
    av_packet_free(&packet);
    return rc;
}

int decode_avif(struct media_picture *out, const struct media_input *in, bool blends_alpha,
                struct media_budget *b, struct carat_error *err)
{
    struct input input = {0};
    struct codec c = {0};
    if (is_turned(in)) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: an AVIF that is to be turned needs libheif, which this build is without",
                    in->name);
    }
    int rc = input_open(&input, in, KIND_AVIF, b, err);
    rc = rc ? rc : decode_first(out, &input, &c, blends_alpha, b, err);
    codec_close(&c);
    input_close(&input);
    return rc;
}
