// SPDX-License-Identifier: Apache-2.0
// What a picture's headers say, before anything is decoded: PNG, GIF and BMP here, the others in
// header_*.c. Limits are checked on these figures, so that a bomb costs nothing.
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/decode.h"

int fail_cut(const struct media_input *in, const char *where, struct carat_error *err)
{
    return fail(err, CARAT_E_FORMAT, "%s: the file ends early, %s: at byte %zu", in->name, where,
                in->size);
}

// Chunks that change what is decoded; the rest is left out.
static bool png_matters(const uint8_t *type)
{
    static const char types[][5] = {"IHDR", "PLTE", "tRNS", "IDAT", "IEND"};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (memcmp(type, types[i], 4) == 0) {
            return true;
        }
    }
    return false;
}

static int png_chunk(struct picture_header *out, const struct media_input *in, const uint8_t *type,
                     uint32_t size, struct carat_error *err)
{
    const uint8_t *body = type + 4;
    bool is_first = type == in->data + 12;
    bool is_header = memcmp(type, "IHDR", 4) == 0;
    if (is_first != is_header || (is_header && size != 13)) {
        return fail(err, CARAT_E_FORMAT, "%s: PNG: the header is not where it belongs", in->name);
    }
    if (is_header) {
        out->width = big_u32(body);
        out->height = big_u32(body + 4);
    } else if (memcmp(type, "eXIf", 4) == 0) {
        out->orientation = exif_orientation(body, size);
    }
    if (png_matters(type)) {
        buf_add(&out->bytes, type - 4, (size_t)size + 12);
    }
    return 0;
}

static int header_png(struct picture_header *out, const struct media_input *in,
                      struct carat_error *err)
{
    size_t at = 8;
    buf_add(&out->bytes, in->data, at);
    for (;;) {
        if (in->size - at < 12) {
            return fail_cut(in, "PNG without its end", err);
        }
        const uint8_t *type = in->data + at + 4;
        uint32_t size = big_u32(in->data + at);
        if (size > in->size - at - 12) {
            return fail_cut(in, "inside a chunk of a PNG", err);
        }
        int rc = png_chunk(out, in, type, size, err);
        if (rc) {
            return rc;
        }
        at += 12 + (size_t)size;
        if (memcmp(type, "IEND", 4) == 0) {
            return 0;
        }
    }
}

// Sub-blocks from at on; *end is behind the empty one that ends them.
static bool gif_blocks(const struct media_input *in, size_t at, size_t *end)
{
    while (at < in->size) {
        size_t n = in->data[at];
        if (n >= in->size - at) {
            return false;
        }
        at += n + 1;
        if (n == 0) {
            *end = at;
            return true;
        }
    }
    return false;
}

static size_t gif_table_size(uint8_t flags)
{
    return (flags & 0x80) != 0 ? (size_t)3 << ((flags & 7) + 1) : 0;
}

// Everything up to the first picture's end, and a trailer.
static int header_gif(struct picture_header *out, const struct media_input *in,
                      struct carat_error *err)
{
    const uint8_t *d = in->data;
    if (in->size < 13) {
        return fail_cut(in, "inside a GIF's header", err);
    }
    out->width = little_u16(d + 6);
    out->height = little_u16(d + 8);
    size_t at = 13 + gif_table_size(d[10]);
    bool is_whole = false;
    while (!is_whole) {
        if (at >= in->size) {
            return fail_cut(in, "GIF without a picture", err);
        }
        if (d[at] == 0x21 && in->size - at > 2) {
            if (!gif_blocks(in, at + 2, &at)) {
                return fail_cut(in, "inside an extension of a GIF", err);
            }
        } else if (d[at] == 0x2c && in->size - at > 10) {
            if (!gif_blocks(in, at + 11 + gif_table_size(d[at + 9]), &at)) {
                return fail_cut(in, "inside a GIF's picture", err);
            }
            is_whole = true;
        } else {
            return fail(err, CARAT_E_FORMAT, "%s: GIF: no picture at byte %zu, found 0x%02x",
                        in->name, at, d[at]);
        }
    }
    buf_add(&out->bytes, d, at);
    buf_addc(&out->bytes, 0x3b);
    return 0;
}

static int header_bmp(struct picture_header *out, const struct media_input *in,
                      struct carat_error *err)
{
    const uint8_t *d = in->data;
    if (in->size < 26) {
        return fail_cut(in, "inside a BMP's header", err);
    }
    if (little_u32(d + 14) == 12) {
        out->width = little_u16(d + 18);
        out->height = little_u16(d + 20);
    } else {
        int64_t height = (int32_t)little_u32(d + 22);
        out->width = little_u32(d + 18);
        out->height = (uint32_t)(height < 0 ? -height : height); // negative: from top to bottom
    }
    buf_add(&out->bytes, d, in->size);
    return 0;
}

static int read_kind(struct picture_header *out, enum media_kind kind, const struct media_input *in,
                     struct carat_error *err)
{
    switch (kind) {
    case KIND_JPEG:
        return header_jpeg(out, in, err);
    case KIND_PNG:
        return header_png(out, in, err);
    case KIND_WEBP:
        return header_webp(out, in, err);
    case KIND_GIF:
        return header_gif(out, in, err);
    case KIND_BMP:
        return header_bmp(out, in, err);
    case KIND_TIFF:
        return header_tiff(out, in, err);
    default:
        return kind_refuse(in, "pictures", err);
    }
}

int header_read(struct picture_header *out, enum media_kind kind, const struct media_input *in,
                struct media_budget *b, struct carat_error *err)
{
    *out = (struct picture_header){.orientation = ORIENTATION_NORMAL};
    uint64_t bytes = in->size + PICTURE_PADDING;
    int rc = media_budget_take(b, bytes, err);
    if (rc) {
        return rc;
    }
    out->bytes.max = bytes < SIZE_MAX ? (size_t)bytes : SIZE_MAX;
    rc = read_kind(out, kind, in, err);
    if (rc == 0) {
        rc = media_check_size(b, out->width, out->height, err);
    }
    if (rc == 0) {
        static const char padding[PICTURE_PADDING];
        size_t size = out->bytes.size;
        buf_add(&out->bytes, padding, sizeof(padding));
        rc = buf_status(&out->bytes, err);
        out->bytes.size = size;
    }
    media_budget_give(b, bytes); // the caller counts what is kept
    if (rc) {
        header_release(out);
    }
    return rc;
}

void header_release(struct picture_header *h)
{
    buf_release(&h->bytes);
    *h = (struct picture_header){0};
}
