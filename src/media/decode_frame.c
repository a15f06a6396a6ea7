// SPDX-License-Identifier: Apache-2.0
// From a frame in whatever pixel format a decoder chose to RGB of 8 bits.
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/decode_ffmpeg.h"

// A frame with what its format is made of.
struct layout {
    const AVFrame *frame;
    const AVPixFmtDescriptor *desc;
    uint32_t width;
    uint32_t height;
    int n_colours; // 1 gray, 3 RGB or YUV
    bool is_palette;
    bool is_yuv;
    bool has_alpha;
    bool is_bytes; // every component is a byte of its own
    bool is_inverted;
};

static int look_at(struct layout *out, const AVFrame *frame, const char *name,
                   struct carat_error *err)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(frame->format);
    if (!d ||
        (d->flags & (AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_FLOAT | AV_PIX_FMT_FLAG_BAYER)) !=
            0 ||
        frame->width <= 0 || frame->height <= 0) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: pixels of the format %s are not read", name,
                    d ? d->name : "unknown");
    }
    bool has_alpha = (d->flags & AV_PIX_FMT_FLAG_ALPHA) != 0;
    bool is_palette = (d->flags & AV_PIX_FMT_FLAG_PAL) != 0;
    *out = (struct layout){
        .frame = frame,
        .desc = d,
        .width = (uint32_t)frame->width,
        .height = (uint32_t)frame->height,
        .n_colours = d->nb_components >= 3 ? 3 : 1,
        .is_palette = is_palette,
        .is_yuv = d->nb_components >= 3 && !is_palette && !(d->flags & AV_PIX_FMT_FLAG_RGB),
        .has_alpha = has_alpha || is_palette,
        .is_bytes = !(d->flags & AV_PIX_FMT_FLAG_BITSTREAM),
        .is_inverted = frame->format == AV_PIX_FMT_MONOWHITE,
    };
    for (int i = 0; i < d->nb_components; i++) {
        out->is_bytes = out->is_bytes && d->comp[i].depth == 8 && d->comp[i].shift == 0;
    }
    return 0;
}

static uint8_t to_8_bits(uint32_t v, int depth)
{
    uint32_t max = (1u << depth) - 1;
    if (depth == 16) {
        return colour_16_to_8(v);
    }
    return (uint8_t)(depth > 8 ? (v * 255 + max / 2) / max : v * 255 / max);
}

// Video levels of more than 8 bits are a power of two apart, so that black stays black.
static uint8_t to_8_levels(uint32_t v, int depth)
{
    uint32_t rounded = depth > 8 ? (v + (1u << (depth - 9))) >> (depth - 8) : v;
    return (uint8_t)(rounded > 255 ? 255 : rounded);
}

// Component i of row y, 8 bits a value; wide is scratch of width values.
static void read_row(uint8_t *out, const struct layout *l, int i, uint32_t y, uint32_t width,
                     uint16_t *wide, uint8_t (*narrow)(uint32_t, int))
{
    const AVComponentDescriptor *c = &l->desc->comp[i];
    const AVFrame *f = l->frame;
    if (l->is_bytes) {
        const uint8_t *in = f->data[c->plane] + (ptrdiff_t)y * f->linesize[c->plane] + c->offset;
        for (uint32_t x = 0; x < width; x++, in += c->step) {
            out[x] = *in;
        }
        return;
    }
    av_read_image_line2(wide, (const uint8_t **)(uintptr_t)f->data, f->linesize, l->desc, 0, (int)y,
                        i, (int)width, 0, sizeof(*wide));
    for (uint32_t x = 0; x < width; x++) {
        out[x] = narrow(wide[x], c->depth);
    }
}

static void palette_row(uint8_t *out, const struct layout *l, uint32_t y, bool blends)
{
    const AVFrame *f = l->frame;
    const uint8_t *in = f->data[0] + (ptrdiff_t)y * f->linesize[0];
    for (uint32_t x = 0; x < l->width; x++, out += 3) {
        uint32_t argb;
        memcpy(&argb, f->data[1] + (size_t)in[x] * 4, sizeof(argb));
        uint32_t alpha = blends ? argb >> 24 : 255;
        for (int i = 0; i < 3; i++) {
            uint8_t v = (uint8_t)(argb >> (16 - 8 * i));
            out[i] = alpha == 255 ? v : colour_on_white(v, alpha);
        }
    }
}

static void blend_row(uint8_t *out, const uint8_t *alpha, uint32_t width)
{
    for (uint32_t x = 0; x < width * 3; x++) {
        out[x] = colour_on_white(out[x], alpha[x / 3]);
    }
}

// Gray levels of video that is not of full range.
static uint8_t stretch(uint8_t v)
{
    int32_t level = ((v - 16) * 255 * 2 + 219) / (219 * 2);
    return (uint8_t)(v < 16 ? 0 : level > 255 ? 255 : level);
}

// Rows of gray and RGB, and the alpha of any format.
struct rows {
    uint8_t *values; // [4][width]
    uint16_t *wide;  // [width]
};

static void colour_row(uint8_t *out, const struct layout *l, uint32_t y, struct rows *r,
                       bool is_full_range)
{
    size_t width = l->width;
    for (int i = 0; i < l->n_colours; i++) {
        read_row(r->values + (size_t)i * width, l, i, y, l->width, r->wide, to_8_bits);
    }
    for (size_t x = 0; x < width; x++) {
        for (size_t i = 0; i < 3; i++) {
            uint8_t v = r->values[(l->n_colours == 3 ? i * width : 0) + x];
            v = l->n_colours == 1 && !is_full_range ? stretch(v) : v;
            out[3 * x + i] = l->is_inverted ? (uint8_t)~v : v;
        }
    }
}

static int convert_rows(struct media_picture *out, const struct layout *l, struct colour_rule rule,
                        bool blends, struct media_budget *b, struct carat_error *err)
{
    struct rows r = {mem_new_array(l->width, 4, err), mem_new_array(l->width, 2, err)};
    int rc = r.values && r.wide ? 0 : CARAT_E_MEMORY;
    blends = blends && l->has_alpha;
    for (uint32_t y = 0; y < l->height && rc == 0; y++) {
        uint8_t *row = out->pixels + (size_t)y * l->width * 3;
        if (l->is_palette) {
            palette_row(row, l, y, blends);
        } else if (!l->is_yuv) {
            colour_row(row, l, y, &r, rule.is_full_range);
        }
        if (blends && !l->is_palette) {
            read_row(r.values, l, l->desc->nb_components - 1, y, l->width, r.wide, to_8_bits);
            blend_row(row, r.values, l->width);
        }
        if (y % 64 == 63) {
            rc = media_budget_tick(b, 0, 0, err);
        }
    }
    mem_free(r.values);
    mem_free(r.wide);
    return rc;
}

static struct colour_planes planes_of(const struct layout *l)
{
    return (struct colour_planes){.log2_x = l->desc->log2_chroma_w,
                                  .log2_y = l->desc->log2_chroma_h,
                                  .width = l->width,
                                  .height = l->height};
}

// YUV of another depth or packing is unpacked to planes of bytes first.
static int convert_unpacked(struct media_picture *out, const struct layout *l,
                            struct colour_rule rule, struct media_budget *b,
                            struct carat_error *err)
{
    struct colour_planes p = planes_of(l);
    size_t width = l->width;
    size_t chroma_width = (width + ((size_t)1 << p.log2_x) - 1) >> p.log2_x;
    size_t chroma_height = ((size_t)l->height + ((size_t)1 << p.log2_y) - 1) >> p.log2_y;
    size_t bytes = width * l->height + 2 * chroma_width * chroma_height;
    int rc = media_budget_take(b, bytes, err);
    if (rc) {
        return rc;
    }
    uint8_t *planes = mem_new(bytes, err);
    uint16_t *wide = mem_new_array(width, sizeof(*wide), err);
    rc = planes && wide ? 0 : CARAT_E_MEMORY;
    uint8_t *at = planes;
    for (int i = 0; i < 3 && rc == 0; i++) {
        size_t w = i == 0 ? width : chroma_width;
        size_t h = i == 0 ? l->height : chroma_height;
        for (size_t y = 0; y < h && rc == 0; y++, at += w) {
            read_row(at, l, i, (uint32_t)y, (uint32_t)w, wide, to_8_levels);
            rc = y % 64 == 63 ? media_budget_tick(b, 0, 0, err) : 0;
        }
    }
    if (rc == 0) {
        p.y = planes;
        p.u = planes + width * l->height;
        p.v = p.u + chroma_width * chroma_height;
        p.y_stride = (ptrdiff_t)width;
        p.u_stride = (ptrdiff_t)chroma_width;
        p.v_stride = p.u_stride;
        rc = colour_to_rgb(out->pixels, &p, rule, b, err);
    }
    mem_free(wide);
    mem_free(planes);
    media_budget_give(b, bytes);
    return rc;
}

static int convert_planes(struct media_picture *out, const struct layout *l,
                          struct colour_rule rule, struct media_budget *b, struct carat_error *err)
{
    const AVComponentDescriptor *c = l->desc->comp;
    const AVFrame *f = l->frame;
    if (!l->is_bytes || c[0].step != 1 || c[1].step != 1 || c[2].step != 1) {
        return convert_unpacked(out, l, rule, b, err);
    }
    struct colour_planes p = planes_of(l);
    p.y = f->data[c[0].plane] + c[0].offset;
    p.u = f->data[c[1].plane] + c[1].offset;
    p.v = f->data[c[2].plane] + c[2].offset;
    p.y_stride = f->linesize[c[0].plane];
    p.u_stride = f->linesize[c[1].plane];
    p.v_stride = f->linesize[c[2].plane];
    return colour_to_rgb(out->pixels, &p, rule, b, err);
}

int frame_into_picture(struct media_picture *out, const AVFrame *frame, struct colour_rule rule,
                       bool blends_alpha, struct media_budget *b, struct carat_error *err)
{
    struct layout l;
    int rc = look_at(&l, frame, b->name, err);
    if (rc) {
        return rc;
    }
    require(out->width == l.width);
    require(out->height == l.height);
    if (rc == 0 && l.is_yuv) {
        rc = convert_planes(out, &l, rule, b, err);
    }
    if (rc == 0 && (!l.is_yuv || (blends_alpha && l.has_alpha))) {
        rc = convert_rows(out, &l, rule, blends_alpha, b, err);
    }
    return rc;
}

int frame_to_picture(struct media_picture *out, const AVFrame *frame, struct colour_rule rule,
                     bool blends_alpha, struct media_budget *b, struct carat_error *err)
{
    struct media_picture p = {0};
    uint64_t width = frame->width > 0 ? (uint64_t)frame->width : 0;
    uint64_t height = frame->height > 0 ? (uint64_t)frame->height : 0;
    int rc = picture_new(&p, width, height, b, err);
    if (rc == 0) {
        rc = frame_into_picture(&p, frame, rule, blends_alpha, b, err);
    }
    if (rc) {
        if (p.pixels) {
            media_budget_give(b, width * height * 3);
        }
        media_picture_release(&p);
        return rc;
    }
    *out = p;
    return 0;
}
