// SPDX-License-Identifier: Apache-2.0
// The blocks of 256 ("super-blocks" with packed scales): rows to f32. In the comments e is the
// element's number in its block.
#include "formats/dtype.h"
#include "formats/quant.h"

void unpack_q2_k(float *out, const void *blocks, size_t n)
{
    const struct block_q2_k *b = blocks;
    for (size_t i = 0; i < n / 256; i++, b++, out += 256) {
        float d = quant_half(b->d);
        float dmin = quant_half(b->dmin);
        for (size_t e = 0; e < 256; e++) {
            // Two halves of 128; in each, 32 bytes hold four runs of 32, two bits apiece.
            int v = b->q[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
            int scale = b->scales[e / 16] & 15;
            int min = b->scales[e / 16] >> 4;
            out[e] = d * (float)scale * (float)v - dmin * (float)min;
        }
    }
}

// Sixteen scales of 6 bits: the low 4 bits in bytes 0..7, the high 2 bits in bytes 8..11.
static int q3_k_scale(const uint8_t packed[12], size_t k)
{
    int low = k < 8 ? packed[k] & 15 : packed[k - 8] >> 4;
    int high = packed[8 + k % 4] >> (k / 4 * 2) & 3;
    return (low | high << 4) - 32;
}

void unpack_q3_k(float *out, const void *blocks, size_t n)
{
    const struct block_q3_k *b = blocks;
    for (size_t i = 0; i < n / 256; i++, b++, out += 256) {
        float d = quant_half(b->d);
        for (size_t e = 0; e < 256; e++) {
            int v = b->q[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
            // The third bit, stored inverted: where it is clear, 4 is taken away.
            int high = b->high[e % 32] >> (e / 32) & 1;
            float scale = d * (float)q3_k_scale(b->scales, e / 16);
            out[e] = scale * (float)(v - (high ? 0 : 4));
        }
    }
}

// Eight scales and eight minima of 6 bits in 12 bytes: the first four of each whole in the low bits
// of bytes 0..7, the others with their low halves in bytes 8..11 and their top bits above the
// first.
static void q4_k_scale(const uint8_t packed[12], size_t g, float *scale, float *min)
{
    if (g < 4) {
        *scale = (float)(packed[g] & 63);
        *min = (float)(packed[g + 4] & 63);
    } else {
        *scale = (float)((packed[g + 4] & 15) | packed[g - 4] >> 6 << 4);
        *min = (float)(packed[g + 4] >> 4 | packed[g] >> 6 << 4);
    }
}

void unpack_q4_k(float *out, const void *blocks, size_t n)
{
    const struct block_q4_k *b = blocks;
    for (size_t i = 0; i < n / 256; i++, b++) {
        float d = quant_half(b->d);
        float dmin = quant_half(b->dmin);
        for (size_t g = 0; g < 8; g++, out += 32) {
            float scale, min;
            q4_k_scale(b->scales, g, &scale, &min);
            for (size_t l = 0; l < 32; l++) {
                int v = b->q[g / 2 * 32 + l] >> (g % 2 * 4) & 15;
                out[l] = d * scale * (float)v - dmin * min;
            }
        }
    }
}

void unpack_q5_k(float *out, const void *blocks, size_t n)
{
    const struct block_q5_k *b = blocks;
    for (size_t i = 0; i < n / 256; i++, b++) {
        float d = quant_half(b->d);
        float dmin = quant_half(b->dmin);
        for (size_t g = 0; g < 8; g++, out += 32) {
            float scale, min;
            q4_k_scale(b->scales, g, &scale, &min);
            for (size_t l = 0; l < 32; l++) {
                int v = b->q[g / 2 * 32 + l] >> (g % 2 * 4) & 15;
                v |= (b->high[l] >> g & 1) << 4;
                out[l] = d * scale * (float)v - dmin * min;
            }
        }
    }
}

void unpack_q6_k(float *out, const void *blocks, size_t n)
{
    const struct block_q6_k *b = blocks;
    for (size_t i = 0; i < n / 256; i++, b++, out += 256) {
        float d = quant_half(b->d);
        for (size_t e = 0; e < 256; e++) {
            size_t half = e / 128;
            size_t j = e % 128 / 32;
            size_t l = e % 32;
            int low = b->low[64 * half + j % 2 * 32 + l] >> (j / 2 * 4) & 15;
            int high = b->high[32 * half + l] >> (2 * j) & 3;
            out[e] = d * (float)b->scales[e / 16] * (float)((low | high << 4) - 32);
        }
    }
}

void unpack_iq4_xs(float *out, const void *blocks, size_t n)
{
    const struct block_iq4_xs *b = blocks;
    for (size_t i = 0; i < n / 256; i++, b++) {
        float d = quant_half(b->d);
        unsigned scales_high = b->scales_high[0] | (unsigned)b->scales_high[1] << 8;
        for (size_t g = 0; g < 8; g++, out += 32) {
            unsigned low = b->scales_low[g / 2] >> (g % 2 * 4) & 15;
            unsigned high = scales_high >> (2 * g) & 3;
            float scale = d * (float)((int)(low | high << 4) - 32);
            for (size_t l = 0; l < 16; l++) {
                out[l] = scale * (float)quant_iq4_levels[b->q[16 * g + l] & 15];
                out[l + 16] = scale * (float)quant_iq4_levels[b->q[16 * g + l] >> 4];
            }
        }
    }
}
