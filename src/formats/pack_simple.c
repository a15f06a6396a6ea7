// SPDX-License-Identifier: Apache-2.0
// f32 to the blocks of 32 with one scale, or one scale and one minimum, by pack.h's searches.
#include <math.h>
#include <string.h>

#include "formats/pack.h"
#include "formats/quant.h"

enum {
    N_STEPS = 2,     // of refinement
    N_STEPS_IQ4 = 1, // each takes twice the time there, and gives less
};

static const struct pack_codes codes_4 = {.low = -8, .high = 7};
static const struct pack_codes codes_5 = {.low = -16, .high = 15};
static const struct pack_codes codes_4_min = {.low = 0, .high = 15};
static const struct pack_codes codes_5_min = {.low = 0, .high = 31};

// Sixteen bytes: the first sixteen elements in the low halves, the others in the high ones.
static void put_nibbles(uint8_t q[16], const uint8_t codes[32])
{
    for (size_t k = 0; k < 16; k++) {
        q[k] = (uint8_t)((codes[k] & 15) | (codes[k + 16] & 15) << 4);
    }
}

static void put_fifth_bits(uint8_t h[4], const uint8_t codes[32])
{
    memset(h, 0, 4);
    for (size_t e = 0; e < 32; e++) {
        h[e / 8] = (uint8_t)(h[e / 8] | (codes[e] >> 4) << e % 8);
    }
}

// The codes of a block with one scale; false, with a NaN for scale, when it cannot have any.
static bool fit_block(uint8_t d[2], uint8_t codes[32], const float *values, const float *importance,
                      const struct pack_codes *kind)
{
    struct pack_block b;
    if (!pack_block_read(&b, values, importance, 32)) {
        pack_half_nan(d);
        return false;
    }
    float scale = pack_fit_scale(b.x, b.w, 32, kind, kind->iq4 ? N_STEPS_IQ4 : N_STEPS);
    if (kind->iq4 && fabsf(scale) < 0x1p-27f) {
        scale = 0; // IQ4 has no code for 0, so that here the smallest half could be worse
    }
    pack_codes_of(codes, b.x, 32, (struct pack_line){.scale = pack_half_scale(d, scale)}, kind);
    return true;
}

static bool fit_block_min(uint8_t d[2], uint8_t m[2], uint8_t codes[32], const float *values,
                          const float *importance, const struct pack_codes *kind)
{
    struct pack_block b;
    if (!pack_block_read(&b, values, importance, 32)) {
        pack_half_nan(d);
        return false;
    }
    struct pack_line line = pack_fit_line(b.x, b.w, 32, kind->high, false, N_STEPS);
    line.scale = pack_half_scale(d, line.scale);
    line.min = pack_half(m, line.min);
    pack_codes_of(codes, b.x, 32, line, kind);
    return true;
}

void pack_q4_0(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_q4_0 *b = blocks;
    uint8_t codes[32];
    memset(b, 0, n / 32 * sizeof(*b));
    for (size_t i = 0; i < n; i += 32, b++) {
        if (fit_block(b->d, codes, values + i, importance ? importance + i : NULL, &codes_4)) {
            put_nibbles(b->q, codes);
        }
    }
}

void pack_q5_0(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_q5_0 *b = blocks;
    uint8_t codes[32];
    memset(b, 0, n / 32 * sizeof(*b));
    for (size_t i = 0; i < n; i += 32, b++) {
        if (fit_block(b->d, codes, values + i, importance ? importance + i : NULL, &codes_5)) {
            put_nibbles(b->q, codes);
            put_fifth_bits(b->h, codes);
        }
    }
}

void pack_iq4_nl(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_iq4_nl *b = blocks;
    struct pack_iq4 table;
    pack_iq4_init(&table);
    struct pack_codes codes_iq4 = {.low = -127, .high = 113, .iq4 = &table};
    uint8_t codes[32];
    memset(b, 0, n / 32 * sizeof(*b));
    for (size_t i = 0; i < n; i += 32, b++) {
        if (fit_block(b->d, codes, values + i, importance ? importance + i : NULL, &codes_iq4)) {
            put_nibbles(b->q, codes);
        }
    }
}

void pack_q4_1(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_q4_1 *b = blocks;
    uint8_t codes[32];
    memset(b, 0, n / 32 * sizeof(*b));
    for (size_t i = 0; i < n; i += 32, b++) {
        if (fit_block_min(b->d, b->m, codes, values + i, importance ? importance + i : NULL,
                          &codes_4_min)) {
            put_nibbles(b->q, codes);
        }
    }
}

void pack_q5_1(void *blocks, const float *values, const float *importance, size_t n)
{
    struct block_q5_1 *b = blocks;
    uint8_t codes[32];
    memset(b, 0, n / 32 * sizeof(*b));
    for (size_t i = 0; i < n; i += 32, b++) {
        if (fit_block_min(b->d, b->m, codes, values + i, importance ? importance + i : NULL,
                          &codes_5_min)) {
            put_nibbles(b->q, codes);
            put_fifth_bits(b->h, codes);
        }
    }
}
