// SPDX-License-Identifier: Apache-2.0
// The first directory of a TIFF structure (TIFF 6.0, section 2): what EXIF says of the orientation,
// and the size of a TIFF picture. Nothing else of EXIF is read.
#include <string.h>

#include "base/error.h"
#include "media/decode.h"

enum {
    TAG_WIDTH = 256,
    TAG_HEIGHT = 257,
    TAG_ORIENTATION = 274,
    TYPE_SHORT = 3,
    TYPE_LONG = 4,
};

struct tiff {
    const uint8_t *data;
    size_t size;
    bool is_big; // the most significant byte first
    uint32_t width;
    uint32_t height;
    unsigned orientation;
};

static uint32_t tiff_u16(const struct tiff *t, size_t at)
{
    return t->is_big ? big_u16(t->data + at) : little_u16(t->data + at);
}

static uint32_t tiff_u32(const struct tiff *t, size_t at)
{
    return t->is_big ? big_u32(t->data + at) : little_u32(t->data + at);
}

static void read_entry(struct tiff *t, size_t at)
{
    uint32_t tag = tiff_u16(t, at);
    uint32_t type = tiff_u16(t, at + 2);
    if (tiff_u32(t, at + 4) != 1 || (type != TYPE_SHORT && type != TYPE_LONG)) {
        return;
    }
    uint32_t value = type == TYPE_SHORT ? tiff_u16(t, at + 8) : tiff_u32(t, at + 8);
    if (tag == TAG_WIDTH) {
        t->width = value;
    } else if (tag == TAG_HEIGHT) {
        t->height = value;
    } else if (tag == TAG_ORIENTATION && value >= 1 && value <= 8) {
        t->orientation = value;
    }
}

static bool read_directory(struct tiff *t, const uint8_t *data, size_t size)
{
    *t = (struct tiff){.data = data, .size = size, .orientation = ORIENTATION_NORMAL};
    if (size < 8 || (memcmp(data, "II*", 4) != 0 && memcmp(data, "MM\0*", 4) != 0)) {
        return false;
    }
    t->is_big = data[0] == 'M';
    size_t at = tiff_u32(t, 4);
    if (at > size || size - at < 2) {
        return false;
    }
    size_t n = tiff_u16(t, at);
    for (at += 2; n > 0 && size - at >= 12; n--, at += 12) {
        read_entry(t, at);
    }
    return n == 0;
}

unsigned exif_orientation(const uint8_t *data, size_t size)
{
    struct tiff t;
    read_directory(&t, data, size);
    return t.orientation;
}

int header_tiff(struct picture_header *out, const struct media_input *in, struct carat_error *err)
{
    struct tiff t;
    if (!read_directory(&t, in->data, in->size)) {
        return fail_cut(in, "inside a TIFF's directory", err);
    }
    out->width = t.width;
    out->height = t.height;
    out->orientation = t.orientation;
    buf_add(&out->bytes, in->data, in->size);
    return 0;
}
