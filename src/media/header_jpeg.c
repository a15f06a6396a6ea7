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
    MARKER_DNL = 0xdc,
    MARKER_APP0 = 0xe0,
    MARKER_APP1 = 0xe1,
    MARKER_APP14 = 0xee,
    MARKER_APP15 = 0xef,
    MARKER_COM = 0xfe,
};

#define COMPONENTS_MAX 4

struct jpeg {
    const struct media_input *in;
    struct picture_header *out;
    size_t at;
    unsigned n_scans;
    unsigned n_components;
    bool is_progressive;
    bool is_done;
};

static bool is_frame_header(unsigned marker)
{
    return marker >= MARKER_SOF0 && marker <= MARKER_SOF15 && marker != MARKER_DHT &&
           marker != MARKER_JPG && marker != MARKER_DAC;
}

// A decoder needs all but the notes of applications; of these, the two that say what the components
// are: JFIF's and Adobe's.
static bool is_kept(unsigned marker)
{
    bool is_note = marker >= MARKER_APP0 && marker <= MARKER_APP15;
    return (!is_note || marker == MARKER_APP0 || marker == MARKER_APP14) && marker != MARKER_COM;
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
    return 0;
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
    }
    if (rc) {
        return rc;
    }
    if (is_kept(marker)) {
        uint8_t start[2] = {0xff, (uint8_t)marker};
        buf_add(&j->out->bytes, start, 2);
        buf_add(&j->out->bytes, in->data + j->at, size);
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
    while (!j.is_done) {
        int rc = read_marker(&j, err);
        if (rc) {
            return rc;
        }
    }
    buf_add(&out->bytes, "\xff\xd9", 2);
    if (j.is_progressive) { // all coefficients, 16 bits each
        out->decoder_bytes = (uint64_t)out->width * out->height * j.n_components * 2;
    }
    return 0;
}
