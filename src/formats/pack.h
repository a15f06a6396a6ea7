// SPDX-License-Identifier: Apache-2.0
// What the packers of quantized blocks share: the values and weights of a block made safe to
// compute with, and the search for the scale (and minimum) with the least weighted squared error.
// docs/formats.md describes the method.
#ifndef CARAT_FORMATS_PACK_H
#define CARAT_FORMATS_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PACK_LANES = 16,  // candidates tried side by side, so that a compiler can make vectors of them
    PACK_BLOCK = 256, // the most values of a block
};

// A block's values, and weights whose mean is 1.
struct pack_block {
    float x[PACK_BLOCK];
    float w[PACK_BLOCK];
};

// Codes are the whole numbers from low to high; with a table, the sixteen levels of IQ4.
struct pack_codes {
    float low, high;
    const struct pack_iq4 *iq4;
};

// The level nearest to y and its code, at floor(2 y) + 256: between two levels the border is a
// multiple of 1/2.
struct pack_iq4 {
    float level[512];
    uint8_t code[512];
};
void pack_iq4_init(struct pack_iq4 *table);

// False when a value is an infinity or a NaN. Values larger than any block can hold are made
// smaller, those smaller than any block can hold become 0. importance may be NULL.
bool pack_block_read(struct pack_block *b, const float *values, const float *importance, size_t n);

// To the nearest whole number, halves to the even one; for |v| < 2^22.
static inline float pack_round(float v)
{
    return (v + 0x1.8p23f) - 0x1.8p23f;
}

static inline float pack_clamp(float v, float low, float high)
{
    v = v < low ? low : v;
    return v > high ? high : v;
}

// A half as near as possible to v that is not an infinity. For a scale, neither is it 0 unless v
// is: whole numbers times the smallest half are never worse than nothing.
float pack_half(uint8_t bytes[2], float v);
float pack_half_scale(uint8_t bytes[2], float v);
void pack_half_nan(uint8_t bytes[2]);

// The scale s with the least sum of w (x - s q)^2, where q is the code nearest to x / s, as far as
// PACK_LANES candidates and so many steps of refinement find it.
float pack_fit_scale(const float *x, const float *w, size_t n, const struct pack_codes *codes,
                     int n_steps);
// The same for x = s q + m with codes 0..high. With is_min_negative, m is at most 0.
struct pack_line {
    float scale, min;
};
struct pack_line pack_fit_line(const float *x, const float *w, size_t n, float high,
                               bool is_min_negative, int n_steps);

// The sum of w (x - s q - m)^2 for each of these lines, with the codes nearest. IQ4: m is 0.
void pack_errors(float errors[restrict PACK_LANES], const struct pack_line lines[PACK_LANES],
                 const float *x, const float *w, size_t n, const struct pack_codes *codes);
// The codes nearest to (x - m) / s, counted from 0. A scale of 0 gives the code of 0.
void pack_codes_of(uint8_t *out, const float *x, size_t n, struct pack_line line,
                   const struct pack_codes *codes);

#endif
