// SPDX-License-Identifier: Apache-2.0
// What the packers of quantized blocks share: the values and weights of a block made safe to
// compute with, and the search for the scale (and minimum) with the least weighted squared error.
// docs/formats.md describes the method.
#ifndef CARAT_FORMATS_PACK_H
#define CARAT_FORMATS_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Candidates are tried side by side, so that a compiler can make vectors of them.
enum {
    PACK_LANES = 16,
    PACK_BLOCK = 256, // the most values of a block
};

// A block on its way. Weights are at most PACK_BLOCK times their mean, which is 1.
struct pack_block {
    float x[PACK_BLOCK];
    float w[PACK_BLOCK];
};

// Codes of a type: whole numbers from low to high, or the sixteen levels of IQ4.
struct pack_codes {
    float low, high;
    bool is_iq4;
};

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

// A half as near as possible to v that is not an infinity.
float pack_half(uint8_t bytes[2], float v);
void pack_half_nan(uint8_t bytes[2]);

// The scale s with the least sum of w (x - s q)^2, where q is the code nearest to x / s.
float pack_fit_scale(const float *x, const float *w, size_t n, const struct pack_codes *codes);
// The same for x = s q + m with codes 0..high. With is_min_negative, m is at most 0.
void pack_fit_scale_min(float *scale, float *min, const float *x, const float *w, size_t n,
                        float high, bool is_min_negative);
// The sum of w (x - s q - m)^2 for each of these scales and minima, with the codes nearest.
void pack_errors(float errors[PACK_LANES], const float scales[PACK_LANES],
                 const float mins[PACK_LANES], const float *x, const float *w, size_t n,
                 const struct pack_codes *codes);
// The codes nearest to (x - min) / scale: the number itself, for IQ4 its index. A scale of 0 gives
// the code of 0.
void pack_codes_of(uint8_t *out, const float *x, size_t n, float scale, float min,
                   const struct pack_codes *codes);

#endif
