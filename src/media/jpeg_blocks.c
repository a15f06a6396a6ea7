// SPDX-License-Identifier: Apache-2.0
// Brings a decoded JPEG to the rounding of libjpeg. Decoders agree on what a JPEG means only to a
// level or two, because their inverse transforms round differently. The reference is libjpeg's
// "islow" transform, columns first; FFmpeg's FF_IDCT_INT is the same one, rows first. The decoder
// does not hand out its coefficients, but it need not: each is a multiple of its quantum, and the
// forward transform of a block comes close enough to tell which. Where these give the block
// that was decoded, they are transformed anew, in the other order. Blocks for which none are found
// (quanta of 1, much that was cut at black or white) stay as they were.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "media/decode.h"

#define SIDE            8
#define COEFFICIENT_MAX 2047 // of 8-bit samples, T.81 table F.6
#define ATTEMPTS        6    // at what lies beyond black and white
#define OFF_MAX         4    // one wrong coefficient moves many more, if it is not a quantum of 1

// Of one component. In the order in which the loops below read them.
struct transform {
    double cosines[SIDE][SIDE];  // [place][frequency]
    double inverse[SIDE * SIDE]; // one over the quanta
    const uint16_t *quanta;
    int off_max; // levels that a block may differ in all
};

static void make_transform(struct transform *t, const uint16_t *quanta)
{
    const double pi = 3.14159265358979323846;
    bool is_fine = false;
    for (int f = 0; f < SIDE; f++) {
        double scale = f == 0 ? sqrt(0.125) : 0.5;
        for (int x = 0; x < SIDE; x++) {
            t->cosines[x][f] = scale * cos((2 * x + 1) * f * pi / 16);
        }
    }
    for (int i = 0; i < SIDE * SIDE; i++) {
        t->inverse[i] = 1.0 / quanta[i];
        is_fine = is_fine || quanta[i] == 1;
    }
    t->off_max = is_fine ? 0 : OFF_MAX;
    t->quanta = quanta;
}

// The multiples of the quanta that lie nearest to a block's transform; false when they lie outside
// of what there can be.
static bool find_coefficients(int32_t *out, const struct transform *t, const int32_t *pixels)
{
    double rows[SIDE][SIDE]; // [place][frequency]
    double sums[SIDE][SIDE]; // [frequency][frequency]
    memset(rows, 0, sizeof(rows));
    memset(sums, 0, sizeof(sums));
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            double v = pixels[y * SIDE + x] - 128;
            for (int f = 0; f < SIDE; f++) {
                rows[y][f] += v * t->cosines[x][f];
            }
        }
    }
    for (int g = 0; g < SIDE; g++) {
        for (int y = 0; y < SIDE; y++) {
            for (int f = 0; f < SIDE; f++) {
                sums[g][f] += rows[y][f] * t->cosines[y][g];
            }
        }
    }
    bool is_possible = true;
    for (int i = 0; i < SIDE * SIDE; i++) {
        double steps = sums[i / SIDE][i % SIDE] * t->inverse[i];
        out[i] = (int32_t)(steps + (steps < 0 ? -0.5 : 0.5)) * t->quanta[i];
        is_possible = is_possible && out[i] <= COEFFICIENT_MAX && out[i] >= -COEFFICIENT_MAX;
    }
    return is_possible;
}

// One dimension of libjpeg's jidctint.c, after Loeffler, Ligtenberg and Moschytz, in 13 bits; the
// results are shifted down by `shift`, rounded.
static void invert(int32_t *out, const int32_t *in, int step, int shift)
{
    int32_t a = in[2 * step];
    int32_t b = in[6 * step];
    int32_t both = (a + b) * 4433;
    int32_t even2 = both - b * 15137;
    int32_t even3 = both + a * 6270;
    int32_t even0 = (in[0] + in[4 * step]) * 8192;
    int32_t even1 = (in[0] - in[4 * step]) * 8192;
    int32_t even[4] = {even0 + even3, even1 + even2, even1 - even2, even0 - even3};

    int32_t p0 = in[7 * step];
    int32_t p1 = in[5 * step];
    int32_t p2 = in[3 * step];
    int32_t p3 = in[1 * step];
    int32_t z5 = (p0 + p2 + p1 + p3) * 9633;
    int32_t z1 = (p0 + p3) * -7373;
    int32_t z2 = (p1 + p2) * -20995;
    int32_t z3 = (p0 + p2) * -16069 + z5;
    int32_t z4 = (p1 + p3) * -3196 + z5;
    int32_t odd[4] = {p3 * 12299 + z1 + z4, p2 * 25172 + z2 + z3, p1 * 16819 + z2 + z4,
                      p0 * 2446 + z1 + z3};
    int32_t half = 1 << (shift - 1);
    for (int i = 0; i < 4; i++) {
        out[i * step] = (even[i] + odd[i] + half) >> shift;
        out[(7 - i) * step] = (even[i] - odd[i] + half) >> shift;
    }
}

// One direction, then the other, with two bits kept between them; not cut to 0..255.
static void invert_block(int32_t *out, const int32_t *in, bool is_columns_first)
{
    int along = is_columns_first ? SIDE : 1;
    int across = is_columns_first ? 1 : SIDE;
    for (int i = 0; i < SIDE; i++) {
        invert(out + i * across, in + i * across, along, 11);
    }
    for (int i = 0; i < SIDE; i++) {
        invert(out + i * along, out + i * along, across, 18);
    }
    for (int i = 0; i < SIDE * SIDE; i++) {
        out[i] += 128;
    }
}

static int32_t cut(int32_t v)
{
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

// What was black or white may have been anything beyond: as far beyond as the transform says.
// Returns how many pixels the transform does not give, where a level counts as one.
static int compare(int32_t *wanted, const int32_t *found, const int32_t *pixels, bool *has_cut)
{
    int n_off = 0;
    for (int i = 0; i < SIDE * SIDE; i++) {
        bool is_cut = pixels[i] == 0 || pixels[i] == 255;
        n_off += abs(cut(found[i]) - pixels[i]);
        wanted[i] = is_cut && cut(found[i]) == pixels[i] ? found[i] : pixels[i];
        *has_cut = *has_cut || is_cut;
    }
    return n_off;
}

// The coefficients whose transform, as the decoder does it, is the block; false when they were not
// found. The decoder's shortcuts for small blocks may move single pixels by a level.
static bool recover(int32_t *coefficients, const struct transform *t, const int32_t *pixels)
{
    int32_t wanted[SIDE * SIDE];
    int32_t found[SIDE * SIDE];
    memcpy(wanted, pixels, sizeof(wanted));
    for (int i = 0; i < ATTEMPTS; i++) {
        bool has_cut = false;
        if (!find_coefficients(coefficients, t, wanted)) {
            return false;
        }
        invert_block(found, coefficients, false);
        int n_off = compare(wanted, found, pixels, &has_cut);
        if (n_off <= t->off_max) {
            return true;
        }
        if (!has_cut) {
            return false;
        }
    }
    return false;
}

static void restore_block(uint8_t *pixels, ptrdiff_t stride, const struct transform *t)
{
    int32_t block[SIDE * SIDE];
    int32_t coefficients[SIDE * SIDE];
    bool is_flat = true;
    for (int i = 0; i < SIDE * SIDE; i++) {
        block[i] = pixels[i / SIDE * stride + i % SIDE];
        is_flat = is_flat && block[i] == block[0];
    }
    if (is_flat || !recover(coefficients, t, block)) {
        return;
    }
    invert_block(block, coefficients, true);
    for (int i = 0; i < SIDE * SIDE; i++) {
        pixels[i / SIDE * stride + i % SIDE] = (uint8_t)cut(block[i]);
    }
}

int jpeg_restore(const struct jpeg_plane *p, struct media_budget *b, struct carat_error *err)
{
    struct transform t;
    make_transform(&t, p->quanta);
    for (uint32_t y = 0; y < p->height; y += SIDE) {
        for (uint32_t x = 0; x < p->width; x += SIDE) {
            size_t first = (size_t)y * (size_t)p->stride + x;
            size_t last = first + (SIDE - 1) * (size_t)p->stride + SIDE;
            if (last <= p->size) {
                restore_block(p->pixels + first, p->stride, &t);
            }
        }
        int rc = media_budget_tick(b, 0, 0, err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}
