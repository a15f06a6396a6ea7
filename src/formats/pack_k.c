// SPDX-License-Identifier: Apache-2.0
// f32 to the blocks of 256: groups of 16 or 32 values, whose scales (and minima) are whole numbers
// times one half for all. Each group's own best scale comes first, from pack.h's search; then the
// whole numbers and the half are fitted to each other in turns.
#include <math.h>
#include <string.h>

#include "formats/pack.h"
#include "formats/quant.h"

enum {
    MAX_GROUPS = 16,
    N_ROUNDS = 2, // of fitting the groups, then what they share
};

// How a type divides its block, and what its scales can be.
struct super_kind {
    struct pack_codes codes;
    size_t group;              // values
    int scale_low, scale_high; // minima of a type that has them: 0 to scale_high
    int n_steps;               // of refinement, for a group's own scale
};

// A block on its way to its layout.
struct super {
    struct pack_block b;
    float d, dmin;
    int scales[MAX_GROUPS], mins[MAX_GROUPS];
    uint8_t codes[PACK_BLOCK];
};

static const struct super_kind kind_q2 = {{0, 3, NULL}, 16, 0, 15, 1};
static const struct super_kind kind_q3 = {{-4, 3, NULL}, 16, -32, 31, 1};
static const struct super_kind kind_q4 = {{0, 15, NULL}, 32, 0, 63, 1};
static const struct super_kind kind_q5 = {{0, 31, NULL}, 32, 0, 63, 1};
static const struct super_kind kind_q6 = {{-32, 31, NULL}, 16, -128, 127, 0};

static int int_clamp(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}

// v / unit to the nearest whole number within bounds.
static int units(float v, float unit, int low, int high)
{
    if (fabsf(unit) < 0x1p-30f) {
        return int_clamp(0, low, high);
    }
    return (int)pack_round(pack_clamp(v / unit, (float)low, (float)high));
}

static float code_value(const struct pack_codes *codes, uint8_t code)
{
    return codes->iq4 ? (float)quant_iq4_levels[code] : (float)code + codes->low;
}

// Takes the best of these lines for group g.
static void take_best(struct super *s, const struct super_kind *kind, size_t g,
                      const struct pack_line lines[PACK_LANES], const int scales[PACK_LANES],
                      const int mins[PACK_LANES])
{
    const float *x = s->b.x + g * kind->group;
    float errors[PACK_LANES];
    pack_errors(errors, lines, x, s->b.w + g * kind->group, kind->group, &kind->codes);
    size_t best = 0;
    for (size_t k = 1; k < PACK_LANES; k++) {
        best = errors[k] < errors[best] ? k : best;
    }
    s->scales[g] = scales[best];
    s->mins[g] = mins[best];
    pack_codes_of(s->codes + g * kind->group, x, kind->group, lines[best], &kind->codes);
}

// The whole number near to the group's own scale with the least error.
static void choose_scale(struct super *s, const struct super_kind *kind, size_t g, float own)
{
    struct pack_line lines[PACK_LANES];
    int scales[PACK_LANES], mins[PACK_LANES] = {0};
    int middle = units(own, s->d, kind->scale_low, kind->scale_high);
    for (int k = 0; k < PACK_LANES; k++) {
        scales[k] = int_clamp(middle + k - PACK_LANES / 2, kind->scale_low, kind->scale_high);
        lines[k] = (struct pack_line){.scale = s->d * (float)scales[k]};
    }
    take_best(s, kind, g, lines, scales, mins);
}

// Least squares for d with everything else fixed.
static float best_d(const struct super *s, const struct super_kind *kind)
{
    float above = 0, below = 0;
    for (size_t i = 0; i < PACK_BLOCK; i++) {
        float v = (float)s->scales[i / kind->group] * code_value(&kind->codes, s->codes[i]);
        above += s->b.w[i] * s->b.x[i] * v;
        below += s->b.w[i] * v * v;
    }
    return below > 0 ? above / below : 0;
}

static bool fit_super(struct super *s, uint8_t d[2], const float *values, const float *importance,
                      const struct super_kind *kind)
{
    if (!pack_block_read(&s->b, values, importance, PACK_BLOCK)) {
        pack_half_nan(d);
        return false;
    }
    float own[MAX_GROUPS], largest = 0;
    size_t n_groups = PACK_BLOCK / kind->group;
    for (size_t g = 0; g < n_groups; g++) {
        own[g] = pack_fit_scale(s->b.x + g * kind->group, s->b.w + g * kind->group, kind->group,
                                &kind->codes, kind->n_steps);
        largest = fabsf(own[g]) > fabsf(largest) ? own[g] : largest;
    }
    s->d = pack_half_scale(d, largest / (float)kind->scale_low);
    for (int round = 0; round < N_ROUNDS; round++) {
        if (round > 0) {
            s->d = pack_half_scale(d, best_d(s, kind));
        }
        for (size_t g = 0; g < n_groups; g++) {
            choose_scale(s, kind, g, own[g]);
        }
    }
    return true;
}

// The same for a line. Least squares goes through the means of values and codes, so for each scale
// the minimum is known but for rounding: both neighbours are tried.
static void choose_line(struct super *s, const struct super_kind *kind, size_t g, float mean,
                        struct pack_line own)
{
    struct pack_line lines[PACK_LANES];
    int scales[PACK_LANES], mins[PACK_LANES];
    float code_mean = own.scale > 0 ? (mean - own.min) / own.scale : 0;
    int first = units(own.scale, s->d, 0, kind->scale_high) - PACK_LANES / 4;
    for (int k = 0; k < PACK_LANES; k++) {
        scales[k] = int_clamp(first + k / 2, 0, kind->scale_high);
        lines[k].scale = s->d * (float)scales[k];
        float min = lines[k].scale * code_mean - mean - 0.5f * s->dmin;
        mins[k] = int_clamp(units(min, s->dmin, 0, kind->scale_high) + k % 2, 0, kind->scale_high);
        lines[k].min = -s->dmin * (float)mins[k];
    }
    take_best(s, kind, g, lines, scales, mins);
}

static float weighted_mean(const float *x, const float *w, size_t n)
{
    float sum = 0, sum_w = 0;
    for (size_t i = 0; i < n; i++) {
        sum += w[i] * x[i];
        sum_w += w[i];
    }
    return sum / sum_w;
}

// Least squares for d and dmin with everything else fixed.
static void best_d_min(struct super *s, const struct super_kind *kind)
{
    double vv = 0, vm = 0, mm = 0, xv = 0, xm = 0;
    for (size_t i = 0; i < PACK_BLOCK; i++) {
        size_t g = i / kind->group;
        double v = s->scales[g] * s->codes[i], m = -s->mins[g];
        double w = (double)s->b.w[i], x = (double)s->b.x[i];
        vv += w * v * v;
        vm += w * v * m;
        mm += w * m * m;
        xv += w * x * v;
        xm += w * x * m;
    }
    double determinant = vv * mm - vm * vm;
    if (determinant > 1e-6 * vv * mm) {
        s->d = (float)((xv * mm - xm * vm) / determinant);
        s->dmin = (float)((xm * vv - xv * vm) / determinant);
    } else if (vv > 0) {
        s->d = (float)(xv / vv);
        s->dmin = 0;
    }
}

static bool fit_super_min(struct super *s, uint8_t d[2], uint8_t dmin[2], const float *values,
                          const float *importance, const struct super_kind *kind)
{
    if (!pack_block_read(&s->b, values, importance, PACK_BLOCK)) {
        pack_half_nan(d);
        return false;
    }
    struct pack_line own[MAX_GROUPS];
    float mean[MAX_GROUPS], largest = 0, lowest = 0;
    size_t n_groups = PACK_BLOCK / kind->group;
    for (size_t g = 0; g < n_groups; g++) {
        const float *x = s->b.x + g * kind->group, *w = s->b.w + g * kind->group;
        own[g] = pack_fit_line(x, w, kind->group, kind->codes.high, true, kind->n_steps);
        mean[g] = weighted_mean(x, w, kind->group);
        largest = own[g].scale > largest ? own[g].scale : largest;
        lowest = own[g].min < lowest ? own[g].min : lowest;
    }
    s->d = largest / (float)kind->scale_high;
    s->dmin = -lowest / (float)kind->scale_high;
    for (int round = 0; round < N_ROUNDS; round++) {
        if (round > 0) {
            best_d_min(s, kind);
        }
        s->d = pack_half_scale(d, s->d);
        s->dmin = pack_half_scale(dmin, s->dmin);
        for (size_t g = 0; g < n_groups; g++) {
            choose_line(s, kind, g, mean[g], own[g]);
        }
    }
    return true;
}

// Two bits of each code, from bit `shift` on: two halves of 128 elements, and in each 32 bytes hold
// four runs of 32.
static void put_pairs(uint8_t q[64], const uint8_t codes[PACK_BLOCK], int shift)
{
    for (size_t k = 0; k < 64; k++) {
        const uint8_t *run = codes + k / 32 * 128 + k % 32;
        unsigned byte = 0;
        for (unsigned j = 0; j < 4; j++) {
            byte |= (run[32 * j] >> shift & 3u) << 2 * j;
        }
        q[k] = (uint8_t)byte;
    }
}

void pack_q2_k(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_q2_k *b = blocks;
    struct super s;
    memset(b, 0, n / PACK_BLOCK * sizeof(*b));
    for (size_t i = 0; i < n; i += PACK_BLOCK, b++) {
        if (!fit_super_min(&s, b->d, b->dmin, values + i, importance ? importance + i : NULL,
                           &kind_q2)) {
            continue;
        }
        for (size_t g = 0; g < 16; g++) {
            b->scales[g] = (uint8_t)(s.scales[g] | s.mins[g] << 4);
        }
        put_pairs(b->q, s.codes, 0);
    }
}

void pack_q3_k(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_q3_k *b = blocks;
    struct super s;
    memset(b, 0, n / PACK_BLOCK * sizeof(*b));
    for (size_t i = 0; i < n; i += PACK_BLOCK, b++) {
        if (!fit_super(&s, b->d, values + i, importance ? importance + i : NULL, &kind_q3)) {
            continue;
        }
        for (size_t g = 0; g < 16; g++) {
            unsigned scale = (unsigned)(s.scales[g] + 32);
            b->scales[g % 8] = (uint8_t)(b->scales[g % 8] | (scale & 15) << g / 8 * 4);
            b->scales[8 + g % 4] = (uint8_t)(b->scales[8 + g % 4] | scale >> 4 << g / 4 * 2);
        }
        put_pairs(b->q, s.codes, 0);
        for (size_t e = 0; e < PACK_BLOCK; e++) {
            b->high[e % 32] = (uint8_t)(b->high[e % 32] | (s.codes[e] >> 2) << e / 32);
        }
    }
}

// Eight scales and eight minima of 6 bits in 12 bytes (docs/formats.md, Q4_K).
static void put_scales_min(uint8_t packed[12], const struct super *s)
{
    for (size_t g = 0; g < 4; g++) {
        packed[g] = (uint8_t)(s->scales[g] | s->scales[g + 4] >> 4 << 6);
        packed[g + 4] = (uint8_t)(s->mins[g] | s->mins[g + 4] >> 4 << 6);
        packed[g + 8] = (uint8_t)((s->scales[g + 4] & 15) | (s->mins[g + 4] & 15) << 4);
    }
}

// The low four bits: 32 bytes for each two groups of 32.
static void put_low_nibbles(uint8_t q[128], const uint8_t codes[PACK_BLOCK])
{
    for (size_t k = 0; k < 128; k++) {
        const uint8_t *pair = codes + k / 32 * 64 + k % 32;
        q[k] = (uint8_t)((pair[0] & 15) | (pair[32] & 15) << 4);
    }
}

void pack_q4_k(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_q4_k *b = blocks;
    struct super s;
    memset(b, 0, n / PACK_BLOCK * sizeof(*b));
    for (size_t i = 0; i < n; i += PACK_BLOCK, b++) {
        if (fit_super_min(&s, b->d, b->dmin, values + i, importance ? importance + i : NULL,
                          &kind_q4)) {
            put_scales_min(b->scales, &s);
            put_low_nibbles(b->q, s.codes);
        }
    }
}

void pack_q5_k(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_q5_k *b = blocks;
    struct super s;
    memset(b, 0, n / PACK_BLOCK * sizeof(*b));
    for (size_t i = 0; i < n; i += PACK_BLOCK, b++) {
        if (!fit_super_min(&s, b->d, b->dmin, values + i, importance ? importance + i : NULL,
                           &kind_q5)) {
            continue;
        }
        put_scales_min(b->scales, &s);
        put_low_nibbles(b->q, s.codes);
        for (size_t e = 0; e < PACK_BLOCK; e++) {
            b->high[e % 32] = (uint8_t)(b->high[e % 32] | (s.codes[e] >> 4) << e / 32);
        }
    }
}

void pack_q6_k(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_q6_k *b = blocks;
    struct super s;
    memset(b, 0, n / PACK_BLOCK * sizeof(*b));
    for (size_t i = 0; i < n; i += PACK_BLOCK, b++) {
        if (!fit_super(&s, b->d, values + i, importance ? importance + i : NULL, &kind_q6)) {
            continue;
        }
        for (size_t g = 0; g < 16; g++) {
            b->scales[g] = (int8_t)s.scales[g];
        }
        for (size_t k = 0; k < 128; k++) {
            const uint8_t *pair = s.codes + k / 64 * 128 + k % 64;
            b->low[k] = (uint8_t)((pair[0] & 15) | (pair[64] & 15) << 4);
        }
        put_pairs(b->high, s.codes, 4);
    }
}

void pack_iq4_xs(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_iq4_xs *b = blocks;
    struct super s;
    struct pack_iq4 table;
    pack_iq4_init(&table);
    const struct super_kind kind_iq4 = {{-127, 113, &table}, 32, -32, 31, 0};
    memset(b, 0, n / PACK_BLOCK * sizeof(*b));
    for (size_t i = 0; i < n; i += PACK_BLOCK, b++) {
        if (!fit_super(&s, b->d, values + i, importance ? importance + i : NULL, &kind_iq4)) {
            continue;
        }
        unsigned high = 0;
        for (size_t g = 0; g < 8; g++) {
            unsigned scale = (unsigned)(s.scales[g] + 32);
            b->scales_low[g / 2] = (uint8_t)(b->scales_low[g / 2] | (scale & 15) << g % 2 * 4);
            high |= scale >> 4 << 2 * g;
        }
        b->scales_high[0] = (uint8_t)high;
        b->scales_high[1] = (uint8_t)(high >> 8);
        for (size_t k = 0; k < 128; k++) {
            const uint8_t *pair = s.codes + k / 16 * 32 + k % 16;
            b->q[k] = (uint8_t)(pair[0] | pair[16] << 4);
        }
    }
}
