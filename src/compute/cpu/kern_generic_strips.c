// SPDX-License-Identifier: Apache-2.0
// Weights to strips in plain C: values by way of dtypes[].unpack, codes type by type. The layouts
// of the blocks are described in docs/formats.md.
#include "compute/cpu/kern_generic.h"

#include <string.h>

#include "formats/dtype.h"

// clang-format off
const struct kern_coding kern_codings[DTYPE_COUNT_COMPUTE] = {
    [DTYPE_Q4_0]   = {.zero_shift = 3,            .sub_block = 32, .run = 32, .loose_size = 2},
    [DTYPE_Q4_1]   = {.zero_shift = KERN_NO_ZERO, .sub_block = 32, .run = 32, .has_min = true},
    [DTYPE_Q5_0]   = {.zero_shift = 4,            .sub_block = 32, .run = 8, .loose_size = 2},
    [DTYPE_Q5_1]   = {.zero_shift = KERN_NO_ZERO, .sub_block = 32, .run = 8, .has_min = true},
    [DTYPE_Q8_0]   = {.zero_shift = 7,            .sub_block = 32, .run = 4, .loose_size = 2},
    [DTYPE_Q2_K]   = {.zero_shift = KERN_NO_ZERO, .sub_block = 16, .run = 16, .has_min = true},
    [DTYPE_Q3_K]   = {.zero_shift = 2,            .sub_block = 16, .run = 16, .loose_at = 108, .loose_size = 2},
    [DTYPE_Q4_K]   = {.zero_shift = KERN_NO_ZERO, .sub_block = 32, .run = 32, .has_min = true},
    [DTYPE_Q5_K]   = {.zero_shift = KERN_NO_ZERO, .sub_block = 32, .run = 8, .has_min = true},
    [DTYPE_Q6_K]   = {.zero_shift = 5,            .sub_block = 16, .run = 8, .loose_at = 208, .loose_size = 2},
    [DTYPE_IQ4_NL] = {.zero_shift = 7,            .sub_block = 32, .run = 4, .loose_size = 2},
    [DTYPE_IQ4_XS] = {.zero_shift = 7,            .sub_block = 32, .run = 4},
    [DTYPE_MXFP4]  = {.zero_shift = 4,            .sub_block = 32, .run = 8, .loose_size = 1},
    [DTYPE_NVFP4]  = {.zero_shift = 4,            .sub_block = 16, .run = 16},
};
// clang-format on

static float read_f16(const uint8_t *at)
{
    uint16_t h;
    memcpy(&h, at, sizeof(h));
    return f16_to_f32(h);
}

enum { BLOCK_SIZE_MAX = 256 }; // bytes, more than any block has

// One block of one row as codes in the order of the columns.
struct block_codes {
    uint8_t codes[256];
    float scale[16];
    float min[16];
};

static void split_nibbles(uint8_t *codes, const uint8_t *bytes, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        codes[i] = bytes[i] & 15;
        codes[i + n_bytes] = bytes[i] >> 4;
    }
}

static void codes_q4_0(struct block_codes *out, const uint8_t *b)
{
    out->scale[0] = read_f16(b);
    split_nibbles(out->codes, b + 2, 16);
}

static void codes_q4_1(struct block_codes *out, const uint8_t *b)
{
    out->scale[0] = read_f16(b);
    out->min[0] = read_f16(b + 2);
    split_nibbles(out->codes, b + 4, 16);
}

// The fifth bit of element e is bit e of four bytes.
static void add_fifth_bits(uint8_t codes[32], const uint8_t *h)
{
    for (size_t e = 0; e < 32; e++) {
        codes[e] = (uint8_t)(codes[e] | (((h[e / 8] >> e % 8) & 1) << 4));
    }
}

static void codes_q5_0(struct block_codes *out, const uint8_t *b)
{
    out->scale[0] = read_f16(b);
    split_nibbles(out->codes, b + 6, 16);
    add_fifth_bits(out->codes, b + 2);
}

static void codes_q5_1(struct block_codes *out, const uint8_t *b)
{
    out->scale[0] = read_f16(b);
    out->min[0] = read_f16(b + 2);
    split_nibbles(out->codes, b + 8, 16);
    add_fifth_bits(out->codes, b + 4);
}

static void codes_q8_0(struct block_codes *out, const uint8_t *b)
{
    out->scale[0] = read_f16(b);
    for (size_t e = 0; e < 32; e++) {
        out->codes[e] = b[2 + e] ^ 0x80;
    }
}

static void codes_q2_k(struct block_codes *out, const uint8_t *b)
{
    const float d = read_f16(b + 80);
    const float d_min = read_f16(b + 82);
    for (size_t g = 0; g < 16; g++) {
        out->scale[g] = d * (float)(b[g] & 15);
        out->min[g] = -(d_min * (float)(b[g] >> 4));
    }
    for (size_t e = 0; e < 256; e++) {
        out->codes[e] = (b[16 + e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2)) & 3;
    }
}

// The code is the value plus 4: bit 2 set where the high mask says that nothing is taken off.
static void codes_q3_k(struct block_codes *out, const uint8_t *b)
{
    const float d = read_f16(b + 108);
    const uint8_t *sc = b + 96;
    for (size_t k = 0; k < 16; k++) {
        const int low = k < 8 ? sc[k] & 15 : sc[k - 8] >> 4;
        const int high = (sc[8 + k % 4] >> (2 * (k / 4))) & 3;
        out->scale[k] = d * (float)((low | high << 4) - 32);
    }
    for (size_t e = 0; e < 256; e++) {
        const size_t l = e % 32;
        const unsigned low = (b[32 + e / 128 * 32 + l] >> (e % 128 / 32 * 2)) & 3u;
        const unsigned high = (b[l] >> (e / 32)) & 1u;
        out->codes[e] = (uint8_t)(low | high << 2);
    }
}

static void scales_k4(struct block_codes *out, const uint8_t *b)
{
    const float d = read_f16(b);
    const float d_min = read_f16(b + 2);
    const uint8_t *sc = b + 4;
    for (size_t g = 0; g < 8; g++) {
        const int s = g < 4 ? sc[g] & 63 : (sc[g + 4] & 15) | (sc[g - 4] >> 6) << 4;
        const int m = g < 4 ? sc[g + 4] & 63 : (sc[g + 4] >> 4) | (sc[g] >> 6) << 4;
        out->scale[g] = d * (float)s;
        out->min[g] = -(d_min * (float)m);
    }
}

static void codes_q4_k(struct block_codes *out, const uint8_t *b)
{
    scales_k4(out, b);
    for (size_t pair = 0; pair < 4; pair++) {
        split_nibbles(out->codes + 64 * pair, b + 16 + 32 * pair, 32);
    }
}

static void codes_q5_k(struct block_codes *out, const uint8_t *b)
{
    scales_k4(out, b);
    for (size_t pair = 0; pair < 4; pair++) {
        split_nibbles(out->codes + 64 * pair, b + 48 + 32 * pair, 32);
    }
    for (size_t e = 0; e < 256; e++) {
        const unsigned high = (b[16 + e % 32] >> (e / 32)) & 1u;
        out->codes[e] = (uint8_t)(out->codes[e] | high << 4);
    }
}

static void codes_q6_k(struct block_codes *out, const uint8_t *b)
{
    const float d = read_f16(b + 208);
    for (size_t g = 0; g < 16; g++) {
        const int s = b[192 + g] < 128 ? b[192 + g] : b[192 + g] - 256;
        out->scale[g] = d * (float)s;
    }
    for (size_t e = 0; e < 256; e++) {
        const size_t n = e / 128;
        const size_t j = e % 128 / 32;
        const size_t l = e % 32;
        const unsigned low = (b[64 * n + 32 * (j % 2) + l] >> (4 * (j / 2))) & 15u;
        const unsigned high = (b[128 + 32 * n + l] >> (2 * j)) & 3u;
        out->codes[e] = (uint8_t)(low | high << 4);
    }
}

// The values of IQ4, plus 128.
static const uint8_t iq4_codes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                      129, 141, 153, 166, 181, 197, 217, 241};
// Twice the values of FP4 (E2M1), plus 16. Minus zero is zero.
static const uint8_t fp4_codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

static void look_up(uint8_t *codes, size_t n, const uint8_t table[16])
{
    for (size_t i = 0; i < n; i++) {
        codes[i] = table[codes[i]];
    }
}

static void codes_iq4_nl(struct block_codes *out, const uint8_t *b)
{
    out->scale[0] = read_f16(b);
    split_nibbles(out->codes, b + 2, 16);
    look_up(out->codes, 32, iq4_codes);
}

static void codes_iq4_xs(struct block_codes *out, const uint8_t *b)
{
    const float d = read_f16(b);
    const unsigned high = (unsigned)b[2] | (unsigned)b[3] << 8;
    for (size_t g = 0; g < 8; g++) {
        const unsigned low = (b[4 + g / 2] >> (4 * (g % 2))) & 15u;
        const int s = (int)(low | ((high >> (2 * g)) & 3u) << 4);
        out->scale[g] = d * (float)(s - 32);
        split_nibbles(out->codes + 32 * g, b + 8 + 16 * g, 16);
    }
    look_up(out->codes, 256, iq4_codes);
}

// Half of 2^(exponent - 127), because the codes are doubled. The two smallest are subnormal.
static float mxfp4_scale(uint8_t exponent)
{
    const uint32_t bits = exponent < 2 ? 0x00200000u << exponent : (uint32_t)(exponent - 1) << 23;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static void codes_mxfp4(struct block_codes *out, const uint8_t *b)
{
    out->scale[0] = mxfp4_scale(b[0]);
    split_nibbles(out->codes, b + 1, 16);
    look_up(out->codes, 32, fp4_codes);
}

// Half of an unsigned E4M3 number: exponent bias 7, 0x7F counts as zero; the sign bit is ignored.
static float nvfp4_scale(uint8_t d)
{
    const unsigned exponent = (d >> 3) & 15u;
    const unsigned mantissa = d & 7u;
    if (d == 0 || d == 0x7f) {
        return 0.0f;
    }
    if (exponent == 0) {
        return (float)mantissa * (1.0f / 1024.0f);
    }
    const uint32_t bits = (exponent + 119u) << 23 | mantissa << 20;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static void codes_nvfp4(struct block_codes *out, const uint8_t *b)
{
    for (size_t k = 0; k < 4; k++) {
        out->scale[k] = nvfp4_scale(b[k]);
        split_nibbles(out->codes + 16 * k, b + 4 + 8 * k, 8);
    }
    look_up(out->codes, 64, fp4_codes);
}

typedef void (*codes_of_block)(struct block_codes *out, const uint8_t *block);

// clang-format off
static const codes_of_block codes_of[DTYPE_COUNT_COMPUTE] = {
    [DTYPE_Q4_0] = codes_q4_0,     [DTYPE_Q4_1] = codes_q4_1,     [DTYPE_Q5_0] = codes_q5_0,
    [DTYPE_Q5_1] = codes_q5_1,     [DTYPE_Q8_0] = codes_q8_0,     [DTYPE_Q2_K] = codes_q2_k,
    [DTYPE_Q3_K] = codes_q3_k,     [DTYPE_Q4_K] = codes_q4_k,     [DTYPE_Q5_K] = codes_q5_k,
    [DTYPE_Q6_K] = codes_q6_k,     [DTYPE_IQ4_NL] = codes_iq4_nl, [DTYPE_IQ4_XS] = codes_iq4_xs,
    [DTYPE_MXFP4] = codes_mxfp4,   [DTYPE_NVFP4] = codes_nvfp4,
};
// clang-format on

static void strip_codes(struct code_strip strip, const uint8_t *packed, size_t n, enum dtype type)
{
    const struct dtype_info *t = &dtypes[type];
    const struct kern_coding *coding = &kern_codings[type];
    const size_t n_subs = t->block_values / coding->sub_block;
    const bool has_zero = strip.order.strip_signed && coding->zero_shift != KERN_NO_ZERO;
    const int zero = has_zero ? 1 << coding->zero_shift : 0;
    struct block_codes codes;
    uint8_t block[BLOCK_SIZE_MAX];
    for (size_t r = 0; r < KERN_LANES; r++) {
        for (size_t b = 0; b < n / t->block_values; b++) {
            kern_packed_row(block, packed, r, b * t->block_values, t->block_values, type);
            codes_of[type](&codes, block);
            for (size_t i = 0; i < t->block_values; i++) {
                const size_t k = b * t->block_values + i;
                strip.codes[kern_code_at(strip.order, k, r)] = (uint8_t)(codes.codes[i] - zero);
            }
            for (size_t g = 0; g < n_subs; g++) {
                strip.scale[(b * n_subs + g) * KERN_LANES + r] = codes.scale[g];
                if (coding->has_min) {
                    strip.min[(b * n_subs + g) * KERN_LANES + r] = codes.min[g];
                }
            }
        }
    }
}

enum { PIECE = 256 }; // values, a multiple of every block

static void put_lane(float *strip, size_t lane, const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        strip[i * KERN_LANES + lane] = values[i];
    }
}

static void strip_values(float *strip, const uint8_t *packed, size_t n, enum dtype type)
{
    uint8_t row[PIECE * sizeof(float)];
    float values[PIECE];
    for (size_t r = 0; r < KERN_LANES; r++) {
        for (size_t k = 0; k < n; k += PIECE) {
            const size_t n_here = n - k < PIECE ? n - k : PIECE;
            kern_packed_row(row, packed, r, k, n_here, type);
            dtypes[type].unpack(values, row, n_here);
            put_lane(strip + k * KERN_LANES, r, values, n_here);
        }
    }
}

static void pack_strip(uint8_t *strip, struct strip_source from, size_t n, enum dtype type)
{
    kern_pack_strip(strip, from, KERN_LANES, n, type);
}

void kern_init_generic_strips(struct kern *k)
{
    k->pack_strip = pack_strip;
    for (size_t type = 0; type < DTYPE_COUNT_COMPUTE; type++) {
        k->unpack[type] = dtypes[type].unpack;
        k->strip_f32[type] = strip_values;
        k->strip_q8[type] = codes_of[type] ? strip_codes : NULL;
    }
}
