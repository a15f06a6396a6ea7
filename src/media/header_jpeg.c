// SPDX-License-Identifier: Apache-2.0
// A JPEG's markers (ITU-T T.81, annex B): size, number of scans, orientation; and a copy of the
// file with the segments that a decoder needs.
#include <string.h>

#include "base/error.h"
#include "media/decode.h"

enum {
    MARKER_SOF0 = 0xc0,
    MARKER_SOF2 = 0xc2,
    MARKER_SOF15 = 0xcf,
    MARKER_DHT = 0xc4,
    MARKER_JPG = 0xc8,
    MARKER_DAC = 0xcc,
    MARKER_RST0 = 0xd0,
    MARKER_SOI = 0xd8,
    MARKER_EOI = 0xd9,
    MARKER_SOS = 0xda,
    MARKER_DQT = 0xdb,
    MARKER_APP0 = 0xe0,
    MARKER_APP1 = 0xe1,
    MARKER_APP14 = 0xee,
    MARKER_APP15 = 0xef,
    MARKER_COM = 0xfe,
};

#define COMPONENTS_MAX 4
#define TABLES_MAX     4

struct jpeg {
    const struct media_input *in;
    struct picture_header *out;
    size_t at;
    unsigned n_scans;
    unsigned n_components;
    uint8_t ids[COMPONENTS_MAX];
    uint8_t sampling[COMPONENTS_MAX]; // across and down, 4 bits each
    uint8_t table[COMPONENTS_MAX];    // of quanta
    uint16_t quanta[TABLES_MAX][64];
    bool has_late_quanta; // tables behind the first scan: not all blocks have the same
    bool is_progressive;
    bool has_adobe;
    unsigned adobe_transform; // 0: none, 1: YCbCr, 2: YCCK
    bool has_jfif;
    bool is_done;
};

static bool is_frame_header(unsigned marker)
{
    return marker >= MARKER_SOF0 && marker <= MARKER_SOF15 && marker != MARKER_DHT &&
           marker != MARKER_JPG && marker != MARKER_DAC;
}

// A decoder needs all but the notes of applications.
static bool is_kept(unsigned marker)
{
    return !(marker >= MARKER_APP0 && marker <= MARKER_APP15) && marker != MARKER_COM;
}

// "Adobe", version, two words of flags, the transform
static void read_adobe(struct jpeg *j, const uint8_t *body, size_t size)
{
    if (size >= 12 && memcmp(body, "Adobe", 5) == 0) {
        j->has_adobe = true;
        j->adobe_transform = body[11];
    }
}

// Adobe's segment with the transform that no decoder of ours undoes by itself.
static void add_adobe(struct buf *out)
{
    static const uint8_t adobe[] = {
        0xff, MARKER_APP14, 0, 14, 'A', 'd', 'o', 'b', 'e', 0, 0, 0, 0, 0, 0, 1};
    buf_add(out, adobe, sizeof(adobe));
}

// What the components are, by the rules of libjpeg.
static void settle_colours(struct jpeg *j)
{
    if (j->n_components == 4) {
        j->out->ink = j->has_adobe && j->adobe_transform == 2 ? INK_YCCK : INK_CMYK;
    } else if (j->n_components == 3 && !j->has_jfif) {
        bool is_named = memcmp(j->ids, "RGB", 3) == 0;
        bool is_rgb = j->has_adobe ? j->adobe_transform == 0 : is_named;
        j->out->ink = is_rgb ? INK_RGB : INK_NONE;
    }
}

// Components get the numbers 1 to 4 for names, because decoders read a meaning into others.
static uint8_t plain_id(const struct jpeg *j, uint8_t id)
{
    for (unsigned i = 0; i < j->n_components; i++) {
        if (j->ids[i] == id) {
            return (uint8_t)(i + 1);
        }
    }
    return 0; // of none: the decoder refuses it
}

// In the copy of a frame's or scan's header, whose last bytes are `size`.
static void rename_components(struct jpeg *j, unsigned marker, size_t size)
{
    const struct buf *b = &j->out->bytes;
    if (b->has_failed) {
        return;
    }
    size_t first = marker == MARKER_SOS ? 3 : 8;
    size_t step = marker == MARKER_SOS ? 2 : 3;
    size_t n =
        marker == MARKER_SOS && size > 2 ? (uint8_t)b->data[b->size - size + 2] : j->n_components;
    char *segment = b->data + b->size - size;
    for (size_t i = 0; i < n && first + i * step < size; i++) {
        char *id = segment + first + i * step;
        *id = (char)plain_id(j, (uint8_t)*id);
    }
}

static int read_frame_header(struct jpeg *j, unsigned marker, const uint8_t *body, size_t size,
                             struct carat_error *err)
{
    if (size < 6 || j->n_components > 0) {
        return fail(err, CARAT_E_FORMAT, "%s: JPEG: a frame header that is too short or repeated",
                    j->in->name);
    }
    if (marker > MARKER_SOF2) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: JPEG of type %u (lossless, hierarchical or arithmetic) is not read",
                    j->in->name, marker - MARKER_SOF0);
    }
    if (body[0] != 8) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: JPEG with %u bits a sample is not read",
                    j->in->name, body[0]);
    }
    j->is_progressive = marker == MARKER_SOF2;
    j->out->height = big_u16(body + 1);
    j->out->width = big_u16(body + 3);
    j->n_components = body[5];
    if (j->n_components == 0 || j->n_components > COMPONENTS_MAX ||
        size < 6 + (size_t)j->n_components * 3) {
        return fail(err, CARAT_E_FORMAT, "%s: JPEG of %u components; expected 1, 3 or 4",
                    j->in->name, j->n_components);
    }
    for (unsigned i = 0; i < j->n_components; i++) {
        const uint8_t *component = body + 6 + 3 * (size_t)i;
        j->ids[i] = component[0];
        j->sampling[i] = component[1];
        j->table[i] = component[2] % TABLES_MAX;
    }
    return 0;
}

// Tables of 64 numbers of 8 or 16 bits, along the zigzag (T.81, figure 5).
static void read_quanta(struct jpeg *j, const uint8_t *body, size_t size)
{
    static const uint8_t zigzag[64] = {
        0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
        41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
        30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};
    j->has_late_quanta = j->has_late_quanta || j->n_scans > 0;
    while (size > 0) {
        size_t width = body[0] >> 4 == 0 ? 1 : 2;
        uint16_t *table = j->quanta[body[0] % TABLES_MAX];
        if (size < 1 + 64 * width) {
            return;
        }
        for (size_t i = 0; i < 64; i++) {
            table[zigzag[i]] = (uint16_t)(width == 1 ? body[1 + i] : big_u16(body + 1 + 2 * i));
        }
        body += 1 + 64 * width;
        size -= 1 + 64 * width;
    }
}

// Where decoders hand over the blocks as they are: the first component has one to four blocks for
// one of each other.
static void settle_quanta(struct jpeg *j)
{
    bool is_known = !j->has_late_quanta;
    unsigned across = j->sampling[0] >> 4;
    unsigned down = j->sampling[0] & 15;
    is_known = is_known && across >= 1 && across <= 2 && down >= 1 && down <= 2;
    for (unsigned i = 1; i < j->n_components; i++) {
        unsigned expected = i == 3 ? j->sampling[0] : 0x11;
        is_known = is_known && j->sampling[i] == expected;
    }
    for (unsigned i = 0; i < j->n_components && is_known; i++) {
        const uint16_t *table = j->quanta[j->table[i]];
        for (size_t k = 0; k < 64; k++) {
            is_known = is_known && table[k] > 0;
        }
    }
    for (unsigned i = 0; i < j->n_components && is_known; i++) {
        memcpy(j->out->quanta.values[i], j->quanta[j->table[i]], sizeof(j->quanta[0]));
    }
}

static int count_scan(struct jpeg *j, struct carat_error *err)
{
    uint64_t pixels = (uint64_t)j->out->width * j->out->height;
    j->n_scans++;
    if (j->n_scans > JPEG_SCANS_MAX || j->n_scans * pixels > JPEG_SCAN_PIXELS_MAX) {
        return fail(err, CARAT_E_FULL,
                    "%s: JPEG with more than %u scans of %u x %u pixels, the limit is %d, and %llu "
                    "pixels in all",
                    j->in->name, j->n_scans - 1, j->out->width, j->out->height, JPEG_SCANS_MAX,
                    (unsigned long long)JPEG_SCAN_PIXELS_MAX);
    }
    return 0;
}

// Coded data up to the next marker that is none of its own.
static void copy_coded(struct jpeg *j)
{
    const uint8_t *d = j->in->data;
    size_t from = j->at;
    size_t at = from;
    for (;;) {
        const uint8_t *found = memchr(d + at, 0xff, j->in->size - at);
        at = found ? (size_t)(found - d) : j->in->size;
        if (j->in->size - at < 2) {
            at = j->in->size;
            break;
        }
        unsigned next = d[at + 1];
        bool is_data = next == 0 || (next >= MARKER_RST0 && next < MARKER_SOI);
        if (!is_data && next != 0xff) {
            break;
        }
        at += next == 0xff ? 1 : 2;
    }
    buf_add(&j->out->bytes, d + from, at - from);
    j->at = at;
}

static int read_segment(struct jpeg *j, unsigned marker, struct carat_error *err)
{
    const struct media_input *in = j->in;
    if (in->size - j->at < 2) {
        return fail_cut(in, "inside a segment of a JPEG", err);
    }
    size_t size = big_u16(in->data + j->at);
    if (size < 2 || size > in->size - j->at) {
        return fail_cut(in, "inside a segment of a JPEG", err);
    }
    const uint8_t *body = in->data + j->at + 2;
    int rc = 0;
    if (is_frame_header(marker)) {
        rc = read_frame_header(j, marker, body, size - 2, err);
    } else if (marker == MARKER_SOS) {
        rc = count_scan(j, err);
    } else if (marker == MARKER_APP1 && size > 8 && memcmp(body, "Exif\0", 6) == 0) {
        j->out->orientation = exif_orientation(body + 6, size - 8);
    } else if (marker == MARKER_APP0) {
        j->has_jfif = j->has_jfif || (size > 7 && memcmp(body, "JFIF", 5) == 0);
    } else if (marker == MARKER_APP14) {
        read_adobe(j, body, size - 2);
    } else if (marker == MARKER_DQT) {
        read_quanta(j, body, size - 2);
    }
    if (rc) {
        return rc;
    }
    if (is_kept(marker)) {
        uint8_t start[2] = {0xff, (uint8_t)marker};
        buf_add(&j->out->bytes, start, 2);
        buf_add(&j->out->bytes, in->data + j->at, size);
    }
    if (is_frame_header(marker) || marker == MARKER_SOS) {
        rename_components(j, marker, size);
    }
    j->at += size;
    if (marker == MARKER_SOS) {
        copy_coded(j);
    }
    return 0;
}

// From a marker to what follows it.
static int read_marker(struct jpeg *j, struct carat_error *err)
{
    const struct media_input *in = j->in;
    while (j->at < in->size && in->data[j->at] != 0xff) {
        j->at++; // decoders skip what lies between segments, too
    }
    while (j->at < in->size && in->data[j->at] == 0xff) {
        j->at++;
    }
    if (j->at == in->size) {
        return fail_cut(in, "JPEG without its end", err);
    }
    unsigned marker = in->data[j->at++];
    if (marker == MARKER_EOI) {
        j->is_done = true;
        return j->n_scans > 0 ? 0 : fail_cut(in, "before a JPEG's picture", err);
    }
    bool is_alone = marker <= 1 || (marker >= MARKER_RST0 && marker <= MARKER_SOI);
    return is_alone ? 0 : read_segment(j, marker, err);
}

int header_jpeg(struct picture_header *out, const struct media_input *in, struct carat_error *err)
{
    struct jpeg j = {.in = in, .out = out, .at = 2};
    buf_add(&out->bytes, "\xff\xd8", 2);
    add_adobe(&out->bytes);
    while (!j.is_done) {
        int rc = read_marker(&j, err);
        if (rc) {
            return rc;
        }
    }
    buf_add(&out->bytes, "\xff\xd9", 2);
    settle_colours(&j);
    settle_quanta(&j);
    if (j.is_progressive) { // all coefficients, 16 bits each
        out->decoder_bytes = (uint64_t)out->width * out->height * j.n_components * 2;
    }
    return 0;
}
