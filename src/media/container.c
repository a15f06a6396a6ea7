// SPDX-License-Identifier: Apache-2.0
// The frame of a sound or film file, checked before a library builds tables from it: lengths that
// lead past the end mean that the file was cut off. ISO base media files are in iso.c.
#include <string.h>

#include "base/error.h"
#include "media/decode.h"

#define PAGES_PER_TICK 65536

// Pages to the end (RFC 3533, section 6): the last one must be whole.
static int ogg_check(const struct media_input *in, struct media_budget *b, struct carat_error *err)
{
    size_t at = 0;
    for (uint64_t n = 1; in->size - at >= 27 && memcmp(in->data + at, "OggS", 4) == 0; n++) {
        size_t n_segments = in->data[at + 26];
        size_t size = 27 + n_segments;
        if (size > in->size - at) {
            return fail_cut(in, "inside a page of an Ogg", err);
        }
        for (size_t i = 0; i < n_segments; i++) {
            size += in->data[at + 27 + i];
        }
        if (size > in->size - at) {
            return fail_cut(in, "inside a page of an Ogg", err);
        }
        at += size;
        int rc = n % PAGES_PER_TICK == 0 ? media_budget_tick(b, 0, 0, err) : 0;
        if (rc) {
            return rc;
        }
    }
    return 0;
}

// A number of variable length (RFC 8794, section 4); false at the end of the file. All ones in a
// size mean that it is unknown.
static bool ebml_number(const struct media_input *in, size_t *at, bool keeps_marker, uint64_t *out,
                        bool *is_unknown)
{
    if (*at >= in->size || in->data[*at] == 0) {
        return false;
    }
    size_t n = 1;
    while ((in->data[*at] << (n - 1) & 0x80) == 0) {
        n++;
    }
    if (n > in->size - *at) {
        return false;
    }
    uint64_t v = in->data[*at];
    v = keeps_marker ? v : v & (0xffu >> n);
    for (size_t i = 1; i < n; i++) {
        v = v << 8 | in->data[*at + i];
    }
    *at += n;
    *is_unknown = v == ((uint64_t)1 << (7 * n)) - 1;
    *out = v;
    return true;
}

// The header and the segment (RFC 9559). A segment that was being recorded has no size.
static int matroska_check(const struct media_input *in, struct carat_error *err)
{
    size_t at = 0;
    while (at < in->size) {
        uint64_t id = 0;
        uint64_t size = 0;
        bool is_unknown = false;
        if (!ebml_number(in, &at, true, &id, &is_unknown) ||
            !ebml_number(in, &at, false, &size, &is_unknown)) {
            return at > 64 ? 0 : fail_cut(in, "inside a Matroska header", err);
        }
        if (is_unknown) {
            return 0;
        }
        if (size > in->size - at) {
            return fail_cut(in, "inside a Matroska segment", err);
        }
        at += (size_t)size;
    }
    return 0;
}

// The sizes of the RIFF lists; 0 and all ones were never filled in.
static int avi_check(const struct media_input *in, struct carat_error *err)
{
    size_t at = 0;
    while (in->size - at >= 12 && memcmp(in->data + at, "RIFF", 4) == 0) {
        uint64_t size = little_u32(in->data + at + 4);
        if (size == 0 || size == UINT32_MAX) {
            return 0;
        }
        if (size > in->size - at - 8) {
            return fail_cut(in, "inside an AVI", err);
        }
        at += 8 + (size_t)size;
    }
    return 0;
}

int container_check(enum media_kind kind, const struct media_input *in, struct media_budget *b,
                    struct carat_error *err)
{
    switch (kind) {
    case KIND_OGG:
        return ogg_check(in, b, err);
    case KIND_MATROSKA:
        return matroska_check(in, err);
    case KIND_AVI:
        return avi_check(in, err);
    case KIND_MP4:
    case KIND_HEIC:
    case KIND_AVIF:
        return iso_check(in, b, err);
    default:
        return 0;
    }
}
