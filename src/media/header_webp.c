// SPDX-License-Identifier: Apache-2.0
// A WebP's chunks (the WebP container specification): size, orientation, and the first frame of an
// animation, which is put together as a file of its own because decoders of still pictures do not
// read animations.
#include <string.h>

#include "base/error.h"
#include "media/decode.h"

#define VP8X_HAS_ALPHA 0x10
#define VP8X_IS_MOVING 0x02
#define FRAME_HEADER   16

struct webp {
    const struct media_input *in;
    struct picture_header *out;
    struct slice alpha; // chunks with their headers
    struct slice picture;
    uint32_t frame_width; // 0: the canvas
    uint32_t frame_height;
    bool has_canvas;
    bool is_moving;
};

static uint32_t little_u24(const uint8_t *p)
{
    return little_u16(p) | (uint32_t)p[2] << 16;
}

// Without VP8X the picture itself is all that tells the size.
static int size_of_picture(struct webp *w, const uint8_t *type, const uint8_t *body, uint32_t size,
                           struct carat_error *err)
{
    uint32_t width = 0;
    uint32_t height = 0;
    if (memcmp(type, "VP8L", 4) == 0 && size >= 5 && body[0] == 0x2f) {
        uint32_t bits = little_u32(body + 1);
        width = (bits & 0x3fff) + 1;
        height = (bits >> 14 & 0x3fff) + 1;
    } else if (memcmp(type, "VP8 ", 4) == 0 && size >= 10 &&
               memcmp(body + 3, "\x9d\x01\x2a", 3) == 0) {
        width = little_u16(body + 6) & 0x3fff;
        height = little_u16(body + 8) & 0x3fff;
    } else {
        return fail(err, CARAT_E_FORMAT, "%s: WebP: the picture has no header", w->in->name);
    }
    if (!w->has_canvas) {
        w->out->width = width;
        w->out->height = height;
    }
    uint32_t wanted_width = w->frame_width ? w->frame_width : w->out->width;
    uint32_t wanted_height = w->frame_width ? w->frame_height : w->out->height;
    if (width != wanted_width || height != wanted_height) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: WebP: the header says %u x %u, the picture itself %u x %u", w->in->name,
                    wanted_width, wanted_height, width, height);
    }
    return 0;
}

static int read_frame_header(struct webp *w, const uint8_t *body, uint32_t size,
                             struct carat_error *err)
{
    if (size < FRAME_HEADER || !w->has_canvas) {
        return fail(err, CARAT_E_FORMAT, "%s: WebP: an animation without header", w->in->name);
    }
    struct picture_header *out = w->out;
    out->left = little_u24(body) * 2;
    out->top = little_u24(body + 3) * 2;
    w->frame_width = little_u24(body + 6) + 1;
    w->frame_height = little_u24(body + 9) + 1;
    if ((uint64_t)out->left + w->frame_width > out->width ||
        (uint64_t)out->top + w->frame_height > out->height) {
        return fail(err, CARAT_E_FORMAT, "%s: WebP: the first frame lies outside of the canvas",
                    w->in->name);
    }
    return 0;
}

static int read_chunk(struct webp *w, const uint8_t *type, uint32_t size, struct carat_error *err)
{
    const uint8_t *body = type + 8;
    struct slice chunk = slice_make((const char *)type, (size_t)size + 8);
    if (memcmp(type, "VP8X", 4) == 0 && size >= 10) {
        w->has_canvas = true;
        w->is_moving = (body[0] & VP8X_IS_MOVING) != 0;
        w->out->width = little_u24(body + 4) + 1;
        w->out->height = little_u24(body + 7) + 1;
    } else if (memcmp(type, "EXIF", 4) == 0) {
        bool has_prefix = size > 6 && memcmp(body, "Exif\0", 6) == 0; // as in JPEG; some write it
        size_t skip = has_prefix ? 6 : 0;
        w->out->orientation = exif_orientation(body + skip, size - skip);
    } else if (w->picture.size > 0) {
        return 0; // of the first picture nothing more can come
    } else if (memcmp(type, "ALPH", 4) == 0) {
        w->alpha = chunk;
    } else if (memcmp(type, "VP8 ", 4) == 0 || memcmp(type, "VP8L", 4) == 0) {
        w->picture = chunk;
        return size_of_picture(w, type, body, size, err);
    }
    return 0;
}

// Chunks in [at, end); the chunks of a frame lie within its own.
static int read_chunks(struct webp *w, size_t at, size_t end, struct carat_error *err)
{
    while (end - at >= 8) {
        const uint8_t *type = w->in->data + at;
        uint32_t size = little_u32(type + 4);
        if (size > end - at - 8) {
            return fail_cut(w->in, "inside a chunk of a WebP", err);
        }
        int rc = 0;
        size_t step = 8 + (size_t)size + (size & 1);
        if (memcmp(type, "ANMF", 4) == 0 && w->frame_width == 0) {
            rc = read_frame_header(w, type + 8, size, err);
            step = 8 + FRAME_HEADER; // on into the frame
        } else {
            rc = read_chunk(w, type, size, err);
        }
        if (rc) {
            return rc;
        }
        at = step < end - at ? at + step : end;
    }
    return 0;
}

static void add_u32(struct buf *b, uint32_t v)
{
    uint8_t bytes[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    buf_add(b, bytes, 4);
}

static void add_chunk(struct buf *b, struct slice chunk)
{
    buf_add_slice(b, chunk);
    if (chunk.size % 2 == 1) {
        buf_addc(b, 0);
    }
}

// A file of the one picture: its alpha, if it has any, and its colours.
static int put_together(struct webp *w, struct carat_error *err)
{
    struct buf *b = &w->out->bytes;
    bool has_alpha = w->alpha.size > 0 && w->picture.data[3] == ' ';
    uint32_t width = w->frame_width ? w->frame_width : w->out->width;
    uint32_t height = w->frame_width ? w->frame_height : w->out->height;
    uint64_t size = 4 + w->picture.size + (w->picture.size & 1);
    size += has_alpha ? 18 + w->alpha.size + (w->alpha.size & 1) : 0;
    b->max += 64; // the new headers may be longer than what was left out
    buf_add(b, "RIFF", 4);
    add_u32(b, (uint32_t)size);
    buf_add(b, "WEBP", 4);
    if (has_alpha) {
        uint8_t vp8x[10] = {VP8X_HAS_ALPHA,
                            0,
                            0,
                            0,
                            (uint8_t)(width - 1),
                            (uint8_t)((width - 1) >> 8),
                            (uint8_t)((width - 1) >> 16),
                            (uint8_t)(height - 1),
                            (uint8_t)((height - 1) >> 8),
                            (uint8_t)((height - 1) >> 16)};
        buf_add(b, "VP8X", 4);
        add_u32(b, sizeof(vp8x));
        buf_add(b, vp8x, sizeof(vp8x));
        add_chunk(b, w->alpha);
    }
    add_chunk(b, w->picture);
    return buf_status(b, err);
}

int header_webp(struct picture_header *out, const struct media_input *in, struct carat_error *err)
{
    struct webp w = {.in = in, .out = out};
    if (in->size < 20) {
        return fail_cut(in, "inside a WebP's header", err);
    }
    uint64_t end = 8 + (uint64_t)little_u32(in->data + 4);
    if (end < 12 || end > in->size) {
        return fail_cut(in, "inside a WebP", err);
    }
    int rc = read_chunks(&w, 12, (size_t)end, err);
    if (rc == 0 && w.picture.size == 0) {
        rc = fail_cut(in, "before a WebP's picture", err);
    }
    // A lossless picture becomes 32 bits a pixel before it becomes a frame.
    out->decoder_bytes = (uint64_t)out->width * out->height * 8;
    return rc ? rc : put_together(&w, err);
}
