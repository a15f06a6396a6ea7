// SPDX-License-Identifier: Apache-2.0
// The blocks of the quantized types as they stand in a file, and the functions of dtypes[]. Blocks
// are made of bytes, so they may be read at any address and on any machine. Only dtype.c and tests
// of layouts need this; everybody else goes through the table.
#ifndef CARAT_FORMATS_QUANT_H
#define CARAT_FORMATS_QUANT_H

#include <stddef.h>
#include <stdint.h>

// d, m and dmin are IEEE half, little-endian.
struct block_q4_0 {
    uint8_t d[2];
    uint8_t q[16];
};
struct block_q4_1 {
    uint8_t d[2], m[2];
    uint8_t q[16];
};
struct block_q5_0 {
    uint8_t d[2];
    uint8_t h[4]; // bit e is the fifth bit of element e
    uint8_t q[16];
};
struct block_q5_1 {
    uint8_t d[2], m[2];
    uint8_t h[4];
    uint8_t q[16];
};
struct block_q8_0 {
    uint8_t d[2];
    int8_t q[32];
};
struct block_q2_k {
    uint8_t scales[16]; // low half: scale, high half: minimum
    uint8_t q[64];
    uint8_t d[2], dmin[2];
};
struct block_q3_k {
    uint8_t high[32];
    uint8_t q[64];
    uint8_t scales[12];
    uint8_t d[2];
};
struct block_q4_k {
    uint8_t d[2], dmin[2];
    uint8_t scales[12];
    uint8_t q[128];
};
struct block_q5_k {
    uint8_t d[2], dmin[2];
    uint8_t scales[12];
    uint8_t high[32];
    uint8_t q[128];
};
struct block_q6_k {
    uint8_t low[128];
    uint8_t high[64];
    int8_t scales[16];
    uint8_t d[2];
};
struct block_iq4_nl {
    uint8_t d[2];
    uint8_t q[16];
};
struct block_iq4_xs {
    uint8_t d[2];
    uint8_t scales_high[2];
    uint8_t scales_low[4];
    uint8_t q[128];
};
struct block_mxfp4 {
    uint8_t exponent;
    uint8_t q[16];
};
struct block_nvfp4 {
    uint8_t scales[4]; // unsigned E4M3, one per 16 elements
    uint8_t q[32];
};

_Static_assert(sizeof(struct block_q4_0) == 18, "as stored");
_Static_assert(sizeof(struct block_q4_1) == 20, "as stored");
_Static_assert(sizeof(struct block_q5_0) == 22, "as stored");
_Static_assert(sizeof(struct block_q5_1) == 24, "as stored");
_Static_assert(sizeof(struct block_q8_0) == 34, "as stored");
_Static_assert(sizeof(struct block_q2_k) == 84, "as stored");
_Static_assert(sizeof(struct block_q3_k) == 110, "as stored");
_Static_assert(sizeof(struct block_q4_k) == 144, "as stored");
_Static_assert(sizeof(struct block_q5_k) == 176, "as stored");
_Static_assert(sizeof(struct block_q6_k) == 210, "as stored");
_Static_assert(sizeof(struct block_iq4_nl) == 18, "as stored");
_Static_assert(sizeof(struct block_iq4_xs) == 136, "as stored");
_Static_assert(sizeof(struct block_mxfp4) == 17, "as stored");
_Static_assert(sizeof(struct block_nvfp4) == 36, "as stored");

// The sixteen levels of IQ4_NL and IQ4_XS.
extern const int8_t quant_iq4_levels[16];

float quant_half(const uint8_t bytes[2]); // a half as it stands in a block

// n values, a whole number of blocks.
void unpack_f32(float *out, const void *blocks, size_t n);
void unpack_f16(float *out, const void *blocks, size_t n);
void unpack_bf16(float *out, const void *blocks, size_t n);
void unpack_q4_0(float *out, const void *blocks, size_t n);
void unpack_q4_1(float *out, const void *blocks, size_t n);
void unpack_q5_0(float *out, const void *blocks, size_t n);
void unpack_q5_1(float *out, const void *blocks, size_t n);
void unpack_q8_0(float *out, const void *blocks, size_t n);
void unpack_q2_k(float *out, const void *blocks, size_t n);
void unpack_q3_k(float *out, const void *blocks, size_t n);
void unpack_q4_k(float *out, const void *blocks, size_t n);
void unpack_q5_k(float *out, const void *blocks, size_t n);
void unpack_q6_k(float *out, const void *blocks, size_t n);
void unpack_iq4_nl(float *out, const void *blocks, size_t n);
void unpack_iq4_xs(float *out, const void *blocks, size_t n);
void unpack_mxfp4(float *out, const void *blocks, size_t n);
void unpack_nvfp4(float *out, const void *blocks, size_t n);

void pack_f32(void *blocks, const float *values, const float *importance, size_t n);
void pack_f16(void *blocks, const float *values, const float *importance, size_t n);
void pack_bf16(void *blocks, const float *values, const float *importance, size_t n);
// d = largest |x| / 127 stored as a half; q = x * (127 / largest), rounded to the nearest whole
// number, halves away from zero. A block with an infinity or a NaN becomes NaN throughout.
void pack_q8_0(void *blocks, const float *values, const float *importance, size_t n);
// By search: docs/formats.md, "How carat packs".
void pack_q4_0(void *blocks, const float *values, const float *importance, size_t n);
void pack_q4_1(void *blocks, const float *values, const float *importance, size_t n);
void pack_q5_0(void *blocks, const float *values, const float *importance, size_t n);
void pack_q5_1(void *blocks, const float *values, const float *importance, size_t n);
void pack_q2_k(void *blocks, const float *values, const float *importance, size_t n);
void pack_q3_k(void *blocks, const float *values, const float *importance, size_t n);
void pack_q4_k(void *blocks, const float *values, const float *importance, size_t n);
void pack_q5_k(void *blocks, const float *values, const float *importance, size_t n);
void pack_q6_k(void *blocks, const float *values, const float *importance, size_t n);
void pack_iq4_nl(void *blocks, const float *values, const float *importance, size_t n);
void pack_iq4_xs(void *blocks, const float *values, const float *importance, size_t n);

#endif
