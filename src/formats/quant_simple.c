// SPDX-License-Identifier: Apache-2.0
// Plain floats, the blocks of 32 and the 4-bit floats: rows to f32, and back where carat writes the
// type. Every product below is exact in f32, so the order of factors does not matter.
#include <math.h>
#include <string.h>

#include "formats/dtype.h"
#include "formats/quant.h"

const int8_t quant_iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

// Twice the values of E2M1 (OCP Microscaling Formats 1.0, section 5.3.3), to be whole numbers.
static const int8_t e2m1_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static uint16_t get_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static void put_u16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

static uint32_t get_u32(const uint8_t *bytes)
{
    return get_u16(bytes) | (uint32_t)get_u16(bytes + 2) << 16;
}

float quant_half(const uint8_t bytes[2])
{
    return f16_to_f32(get_u16(bytes));
}

void unpack_f32(float *out, const void *blocks, size_t n)
{
    const uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = get_u32(bytes + 4 * i);
        memcpy(&out[i], &bits, sizeof(bits));
    }
}

void unpack_f16(float *out, const void *blocks, size_t n)
{
    const uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        out[i] = f16_to_f32(get_u16(bytes + 2 * i));
    }
}

void unpack_bf16(float *out, const void *blocks, size_t n)
{
    const uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        out[i] = bf16_to_f32(get_u16(bytes + 2 * i));
    }
}

// In the blocks of 32 the low halves of q are the first sixteen elements, the high halves the rest.
void unpack_q4_0(float *out, const void *blocks, size_t n)
{
    const struct block_q4_0 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, b++, out += 32) {
        float d = quant_half(b->d);
        for (size_t k = 0; k < 16; k++) {
            out[k] = d * (float)((b->q[k] & 15) - 8);
            out[k + 16] = d * (float)((b->q[k] >> 4) - 8);
        }
    }
}

void unpack_q4_1(float *out, const void *blocks, size_t n)
{
    const struct block_q4_1 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, b++, out += 32) {
        float d = quant_half(b->d);
        float m = quant_half(b->m);
        for (size_t k = 0; k < 16; k++) {
            out[k] = d * (float)(b->q[k] & 15) + m;
            out[k + 16] = d * (float)(b->q[k] >> 4) + m;
        }
    }
}

void unpack_q5_0(float *out, const void *blocks, size_t n)
{
    const struct block_q5_0 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, b++, out += 32) {
        float d = quant_half(b->d);
        uint32_t h = get_u32(b->h);
        for (size_t k = 0; k < 16; k++) {
            int first = (int)((b->q[k] & 15u) | (h >> k & 1) << 4);
            int second = (int)((uint32_t)b->q[k] >> 4 | (h >> (k + 16) & 1) << 4);
            out[k] = d * (float)(first - 16);
            out[k + 16] = d * (float)(second - 16);
        }
    }
}

void unpack_q5_1(float *out, const void *blocks, size_t n)
{
    const struct block_q5_1 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, b++, out += 32) {
        float d = quant_half(b->d);
        float m = quant_half(b->m);
        uint32_t h = get_u32(b->h);
        for (size_t k = 0; k < 16; k++) {
            uint32_t first = (b->q[k] & 15u) | (h >> k & 1) << 4;
            uint32_t second = (uint32_t)b->q[k] >> 4 | (h >> (k + 16) & 1) << 4;
            out[k] = d * (float)first + m;
            out[k + 16] = d * (float)second + m;
        }
    }
}

void unpack_q8_0(float *out, const void *blocks, size_t n)
{
    const struct block_q8_0 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, b++, out += 32) {
        float d = quant_half(b->d);
        for (size_t k = 0; k < 32; k++) {
            out[k] = d * (float)b->q[k];
        }
    }
}

void unpack_iq4_nl(float *out, const void *blocks, size_t n)
{
    const struct block_iq4_nl *b = blocks;
    for (size_t i = 0; i < n / 32; i++, b++, out += 32) {
        float d = quant_half(b->d);
        for (size_t k = 0; k < 16; k++) {
            out[k] = d * (float)quant_iq4_levels[b->q[k] & 15];
            out[k + 16] = d * (float)quant_iq4_levels[b->q[k] >> 4];
        }
    }
}

void unpack_mxfp4(float *out, const void *blocks, size_t n)
{
    const struct block_mxfp4 *b = blocks;
    for (size_t i = 0; i < n / 32; i++, b++, out += 32) {
        // 2^(E - 127), halved because the table is doubled; 2^-128 is still a number in f32.
        float d = ldexpf(1.0f, b->exponent - 128);
        for (size_t k = 0; k < 16; k++) {
            out[k] = d * (float)e2m1_doubled[b->q[k] & 15];
            out[k + 16] = d * (float)e2m1_doubled[b->q[k] >> 4];
        }
    }
}

// Unsigned E4M3, halved for the doubled table. 0x7F, its NaN, counts as zero in GGUF; the top bit
// is not used.
static float nvfp4_scale(uint8_t code)
{
    int exponent = code >> 3 & 15;
    int mantissa = code & 7;
    if (code == 0 || code == 0x7F) {
        return 0.0f;
    }
    return exponent == 0 ? ldexpf((float)mantissa, -10)
                         : ldexpf((float)(8 + mantissa), exponent - 11);
}

void unpack_nvfp4(float *out, const void *blocks, size_t n)
{
    const struct block_nvfp4 *b = blocks;
    for (size_t i = 0; i < n / 64; i++, b++) {
        for (size_t k = 0; k < 4; k++, out += 16) {
            float d = nvfp4_scale(b->scales[k]);
            for (size_t r = 0; r < 8; r++) {
                out[r] = d * (float)e2m1_doubled[b->q[8 * k + r] & 15];
                out[r + 8] = d * (float)e2m1_doubled[b->q[8 * k + r] >> 4];
            }
        }
    }
}

void pack_f32(void *blocks, const float *values, const float *importance, size_t n)
{
    (void)importance;
    uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof(bits));
        put_u16(bytes + 4 * i, (uint16_t)bits);
        put_u16(bytes + 4 * i + 2, (uint16_t)(bits >> 16));
    }
}

void pack_f16(void *blocks, const float *values, const float *importance, size_t n)
{
    (void)importance;
    uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        put_u16(bytes + 2 * i, f16_from_f32(values[i]));
    }
}

void pack_bf16(void *blocks, const float *values, const float *importance, size_t n)
{
    (void)importance;
    uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        put_u16(bytes + 2 * i, bf16_from_f32(values[i]));
    }
}

static void pack_block_q8_0(struct block_q8_0 *b, const float *x)
{
    float largest = 0;
    for (size_t k = 0; k < 32; k++) {
        // Written so that a NaN, too, becomes the largest and stays it.
        if (!(fabsf(x[k]) <= largest)) {
            largest = fabsf(x[k]);
        }
        if (isnan(largest)) {
            break;
        }
    }
    memset(b, 0, sizeof(*b));
    if (!isfinite(largest)) {
        put_u16(b->d, f16_from_f32(NAN));
        return;
    }
    put_u16(b->d, f16_from_f32(largest / 127.0f));
    // Below this the inverse would overflow, and d is zero anyway.
    if (largest < 0x1p-100f) {
        return;
    }
    float inverse = 127.0f / largest;
    for (size_t k = 0; k < 32; k++) {
        b->q[k] = (int8_t)roundf(x[k] * inverse);
    }
}

void pack_q8_0(void *blocks, const float *values, const float *importance, size_t n)
{
    (void)importance;
    struct block_q8_0 *b = blocks;
    for (size_t i = 0; i < n / 32; i++) {
        pack_block_q8_0(b + i, values + 32 * i);
    }
}
