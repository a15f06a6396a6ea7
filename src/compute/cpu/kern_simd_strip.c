// SPDX-License-Identifier: Apache-2.0
// Packed strips to codes, values and products in the vectors of simd.h. A vector has the same four
// bytes of every row: what a type does to its bytes is done to all rows at once and gives the
// strip's order directly. The layouts of the blocks are in docs/formats.md, the packed order in
// kern.h.
#include "compute/cpu/simd.h"

// A block of a vector's rows and what becomes of it: a part of a strip, or, where sums is set,
// products with one row of x at once. coding and sums are constants in each copy.
enum { SUBS_MAX = 16 }; // sub-blocks in a block

struct spot {
    const uint8_t *words; // of the block, from this vector's first row on
    const uint8_t *loose; // its bytes that make no whole word
    const struct kern_coding *coding;
    uint8_t *codes;
    float *scale;
    float *min;
    const int8_t *x;
    vi *sums; // one per sub-block
};

SIMD_INLINE vi word_at(const struct spot *s, size_t i) // counted from the block's beginning
{
    return vi_load(s->words + i * KERN_LANES * 4);
}

SIMD_INLINE void four_words_at(const struct spot *s, vi out[4], size_t i)
{
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; j++) {
        out[j] = word_at(s, i + j);
    }
}

SIMD_INLINE vf loose_half(const struct spot *s)
{
    return vf_load_f16(s->loose);
}

SIMD_INLINE uint8_t zero_of(const struct kern_coding *coding)
{
    return coding->has_min ? 0 : (uint8_t)(1u << coding->zero_shift);
}

SIMD_INLINE void put_codes(const struct spot *s, size_t i, vi codes) // columns 4 i .. 4 i + 3
{
    if (s->sums) {
        vi *sum = &s->sums[4 * i / s->coding->sub_block];
        *sum = vi_dot_four(*sum, codes, s->x + 4 * i, zero_of(s->coding), s->coding->is_wide);
    } else {
        vi_store(s->codes + i * 4 * KERN_LANES, codes);
    }
}

SIMD_INLINE void put_scale(const struct spot *s, size_t sub_block, vf scale)
{
    vf_store(s->scale + sub_block * KERN_LANES, scale);
}

// -(factor * value), as the minima of the k types are subtracted.
SIMD_INLINE void put_minus(const struct spot *s, size_t sub_block, vf factor, vi value)
{
    const vf min = vf_mul(factor, vf_from_vi(value));
    vf_store(s->min + sub_block * KERN_LANES,
             vf_of_bits(vi_xor(vi_of_bits(min), vi_set1(0x80000000u))));
}

SIMD_INLINE vi low_nibbles(vi a)
{
    return vi_and(a, vi_set1(0x0f0f0f0fu));
}

SIMD_INLINE vi high_nibbles(vi a)
{
    return low_nibbles(vi_shr(a, 4));
}

SIMD_INLINE vi byte_of(vi a, size_t i)
{
    return vi_and(vi_shr(a, (int)(8 * i)), vi_set1(0xff));
}

// Four bits to bit 4 of four bytes: the factor puts copies of them 4, 11, 18 and 25 places up.
SIMD_INLINE vi spread_bits(vi h, int shift)
{
    const vi bits = vi_and(vi_shr(h, shift), vi_set1(15));
    return vi_and(vi_mul(bits, vi_set1(0x02040810u)), vi_set1(0x10101010u));
}

// The nibbles of 16 bytes: the low ones are the first 16 columns.
SIMD_INLINE void put_nibbles(const struct spot *s, size_t first_word)
{
    vi q[4];
    four_words_at(s, q, first_word);
#pragma GCC unroll 16
    for (size_t i = 0; i < 4; i++) {
        put_codes(s, i, low_nibbles(q[i]));
        put_codes(s, i + 4, high_nibbles(q[i]));
    }
}

SIMD_INLINE void block_q4_0(const struct spot *s)
{
    put_scale(s, 0, loose_half(s));
    put_nibbles(s, 0);
}

SIMD_INLINE void put_scale_and_min(const struct spot *s, vi words)
{
    put_scale(s, 0, vf_from_f16(words));
    vf_store(s->min, vf_from_f16(vi_shr(words, 16)));
}

SIMD_INLINE void block_q4_1(const struct spot *s)
{
    put_scale_and_min(s, word_at(s, 0));
    put_nibbles(s, 1);
}

SIMD_INLINE void put_five_bits(const struct spot *s, size_t first_word, vi high)
{
    vi q[4];
    four_words_at(s, q, first_word);
#pragma GCC unroll 16
    for (size_t i = 0; i < 4; i++) {
        put_codes(s, i, vi_or(low_nibbles(q[i]), spread_bits(high, (int)(4 * i))));
        put_codes(s, i + 4, vi_or(high_nibbles(q[i]), spread_bits(high, (int)(16 + 4 * i))));
    }
}

SIMD_INLINE void block_q5_0(const struct spot *s)
{
    put_scale(s, 0, loose_half(s));
    put_five_bits(s, 1, word_at(s, 0));
}

SIMD_INLINE void block_q5_1(const struct spot *s)
{
    put_scale_and_min(s, word_at(s, 0));
    put_five_bits(s, 2, word_at(s, 1));
}

SIMD_INLINE void block_q8_0(const struct spot *s)
{
    put_scale(s, 0, loose_half(s));
#pragma GCC unroll 16
    for (size_t half = 0; half < 2; half++) {
        vi q[4];
        four_words_at(s, q, 4 * half);
#pragma GCC unroll 16
        for (size_t i = 0; i < 4; i++) {
            put_codes(s, 4 * half + i, vi_xor(q[i], vi_set1(0x80808080u)));
        }
    }
}

SIMD_INLINE void block_q2_k(const struct spot *s)
{
    const vi factors = word_at(s, 20);
    const vf d = vf_from_f16(factors);
    const vf d_min = vf_from_f16(vi_shr(factors, 16));
    vi sc[4];
    four_words_at(s, sc, 0);
#pragma GCC unroll 16
    for (size_t g = 0; g < 16; g++) {
        const vi both = byte_of(sc[g / 4], g % 4);
        put_scale(s, g, vf_mul(d, vf_from_vi(vi_and(both, vi_set1(15)))));
        put_minus(s, g, d_min, vi_shr(both, 4));
    }
#pragma GCC unroll 16
    for (size_t quarter = 0; quarter < 4; quarter++) { // 16 bytes of 64
        vi q[4];
        four_words_at(s, q, 4 + 4 * quarter);
#pragma GCC unroll 16
        for (size_t i = 0; i < 4; i++) {
#pragma GCC unroll 16
            for (size_t j = 0; j < 4; j++) {
                const size_t at = quarter / 2 * 32 + 8 * j + quarter % 2 * 4 + i;
                put_codes(s, at, vi_and(vi_shr(q[i], (int)(2 * j)), vi_set1(0x03030303u)));
            }
        }
    }
}

SIMD_INLINE void put_scales_q3_k(const struct spot *s)
{
    const vi words[3] = {word_at(s, 24), word_at(s, 25), word_at(s, 26)};
    const vf d = loose_half(s);
#pragma GCC unroll 16
    for (size_t k = 0; k < 16; k++) {
        const size_t in_word = 8 * (k % 4);
        const vi low = vi_and(vi_shr(words[k % 8 / 4], (int)(in_word + k / 8 * 4)), vi_set1(15));
        const vi high = vi_and(vi_shr(words[2], (int)(in_word + k / 4 * 2)), vi_set1(3));
        const vi value = vi_sub(vi_or(low, vi_shl(high, 4)), vi_set1(32));
        put_scale(s, k, vf_mul(d, vf_from_vi(value)));
    }
}

SIMD_INLINE void block_q3_k(const struct spot *s)
{
    put_scales_q3_k(s);
#pragma GCC unroll 16
    for (size_t half = 0; half < 2; half++) { // of the 32 columns that share a byte's place
        vi mask[4];
        four_words_at(s, mask, 4 * half);
#pragma GCC unroll 16
        for (size_t n = 0; n < 2; n++) {
            vi q[4];
            four_words_at(s, q, 8 + 8 * n + 4 * half);
#pragma GCC unroll 16
            for (size_t i = 0; i < 4; i++) {
#pragma GCC unroll 16
                for (size_t j = 0; j < 4; j++) {
                    const vi low = vi_and(vi_shr(q[i], (int)(2 * j)), vi_set1(0x03030303u));
                    const vi high = vi_and(vi_shr(mask[i], (int)(4 * n + j)), vi_set1(0x01010101u));
                    put_codes(s, 32 * n + 8 * j + 4 * half + i, vi_or(low, vi_shl(high, 2)));
                }
            }
        }
    }
}

// The eight scales and minima of q4_k and q5_k, four at a time in the bytes of a word.
SIMD_INLINE void put_scales_k4(const struct spot *s)
{
    vi head[4];
    four_words_at(s, head, 0);
    const vf d = vf_from_f16(head[0]);
    const vf d_min = vf_from_f16(vi_shr(head[0], 16));
    const vi six = vi_set1(0x3f3f3f3fu);
    const vi top = vi_set1(0x30303030u);
    const vi scales[2] = {vi_and(head[1], six),
                          vi_or(low_nibbles(head[3]), vi_and(vi_shr(head[1], 2), top))};
    const vi mins[2] = {vi_and(head[2], six),
                        vi_or(high_nibbles(head[3]), vi_and(vi_shr(head[2], 2), top))};
#pragma GCC unroll 16
    for (size_t g = 0; g < 8; g++) {
        put_scale(s, g, vf_mul(d, vf_from_vi(byte_of(scales[g / 4], g % 4))));
        put_minus(s, g, d_min, byte_of(mins[g / 4], g % 4));
    }
}

SIMD_INLINE void block_q4_k(const struct spot *s)
{
    put_scales_k4(s);
#pragma GCC unroll 16
    for (size_t eighth = 0; eighth < 8; eighth++) { // 16 bytes of 128
        vi q[4];
        four_words_at(s, q, 4 + 4 * eighth);
        const size_t at = eighth / 2 * 16 + eighth % 2 * 4;
#pragma GCC unroll 16
        for (size_t i = 0; i < 4; i++) {
            put_codes(s, at + i, low_nibbles(q[i]));
            put_codes(s, at + 8 + i, high_nibbles(q[i]));
        }
    }
}

SIMD_INLINE void block_q5_k(const struct spot *s)
{
    put_scales_k4(s);
    const vi one = vi_set1(0x01010101u);
#pragma GCC unroll 16
    for (size_t half = 0; half < 2; half++) {
        vi high[4];
        four_words_at(s, high, 4 + 4 * half);
#pragma GCC unroll 16
        for (size_t pair = 0; pair < 4; pair++) {
            vi q[4];
            four_words_at(s, q, 12 + 8 * pair + 4 * half);
#pragma GCC unroll 16
            for (size_t i = 0; i < 4; i++) {
                const vi even = vi_and(vi_shr(high[i], (int)(2 * pair)), one);
                const vi odd = vi_and(vi_shr(high[i], (int)(2 * pair + 1)), one);
                const size_t at = 16 * pair + 4 * half + i;
                put_codes(s, at, vi_or(low_nibbles(q[i]), vi_shl(even, 4)));
                put_codes(s, at + 8, vi_or(high_nibbles(q[i]), vi_shl(odd, 4)));
            }
        }
    }
}

SIMD_INLINE void put_scales_q6_k(const struct spot *s)
{
    const vf d = loose_half(s);
    vi sc[4];
    four_words_at(s, sc, 48);
#pragma GCC unroll 16
    for (size_t g = 0; g < 16; g++) {
        const vi byte = byte_of(sc[g / 4], g % 4);
        const vi value = vi_sub(vi_xor(byte, vi_set1(128)), vi_set1(128)); // its sign
        put_scale(s, g, vf_mul(d, vf_from_vi(value)));
    }
}

SIMD_INLINE void block_q6_k(const struct spot *s)
{
    put_scales_q6_k(s);
    const vi three = vi_set1(0x03030303u);
#pragma GCC unroll 16
    for (size_t quarter = 0; quarter < 4; quarter++) {
        const size_t n = quarter / 2; // half of the block
        const size_t half = quarter % 2;
        vi high[4];
        four_words_at(s, high, 32 + 8 * n + 4 * half);
#pragma GCC unroll 16
        for (size_t j = 0; j < 2; j++) {
            vi q[4];
            four_words_at(s, q, 16 * n + 8 * j + 4 * half);
#pragma GCC unroll 16
            for (size_t i = 0; i < 4; i++) {
                const vi a = vi_and(vi_shr(high[i], (int)(2 * j)), three);
                const vi b = vi_and(vi_shr(high[i], (int)(2 * j + 4)), three);
                const size_t at = 32 * n + 8 * j + 4 * half + i;
                put_codes(s, at, vi_or(low_nibbles(q[i]), vi_shl(a, 4)));
                put_codes(s, at + 16, vi_or(high_nibbles(q[i]), vi_shl(b, 4)));
            }
        }
    }
}

// The values of IQ4, plus 128; those of FP4 (E2M1) doubled, plus 16.
static const uint8_t iq4_codes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                      129, 141, 153, 166, 181, 197, 217, 241};
static const uint8_t fp4_codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

SIMD_INLINE void put_looked_up(const struct spot *s, size_t at, size_t first_word,
                               const uint8_t table[16])
{
    vi q[4];
    four_words_at(s, q, first_word);
#pragma GCC unroll 16
    for (size_t i = 0; i < 4; i++) {
        put_codes(s, at + i, vi_look_up(low_nibbles(q[i]), table));
        put_codes(s, at + i + 4, vi_look_up(high_nibbles(q[i]), table));
    }
}

SIMD_INLINE void block_iq4_nl(const struct spot *s)
{
    put_scale(s, 0, loose_half(s));
    put_looked_up(s, 0, 0, iq4_codes);
}

SIMD_INLINE void block_iq4_xs(const struct spot *s)
{
    const vi head = word_at(s, 0); // factor, then two high bits of each scale
    const vi low = word_at(s, 1);  // four low bits
    const vf d = vf_from_f16(head);
#pragma GCC unroll 16
    for (size_t g = 0; g < 8; g++) {
        const vi bits = vi_and(vi_shr(low, (int)(4 * g)), vi_set1(15));
        const vi top = vi_and(vi_shr(head, (int)(16 + 2 * g)), vi_set1(3));
        const vi value = vi_sub(vi_or(bits, vi_shl(top, 4)), vi_set1(32));
        put_scale(s, g, vf_mul(d, vf_from_vi(value)));
        put_looked_up(s, 8 * g, 2 + 4 * g, iq4_codes);
    }
}

// Half of 2^(exponent - 127); the two smallest are subnormal.
SIMD_INLINE void block_mxfp4(const struct spot *s)
{
    const vi e = vi_and(vi_load_i8(s->loose), vi_set1(0xff));
    const vf normal = vf_of_bits(vi_shl(vi_sub(e, vi_set1(1)), 23));
    const vf small = vf_of_bits(vi_shl(vi_add(e, vi_set1(1)), 21));
    put_scale(s, 0, vf_where_less(vf_from_vi(e), vf_set1(2.0f), small, normal));
    put_looked_up(s, 0, 0, fp4_codes);
}

// Half of an unsigned E4M3 number, where 0x7F counts as zero.
SIMD_INLINE vf nvfp4_scale(vi d)
{
    const vf value = vf_from_vi(d);
    const vi magnitude = vi_and(d, vi_set1(0x7f));
    const vf normal = vf_of_bits(vi_add(vi_shl(magnitude, 20), vi_set1(119u << 23)));
    const vf small = vf_mul(vf_from_vi(vi_and(d, vi_set1(7))), vf_set1(1.0f / 1024.0f));
    const vf scale = vf_where_less(vf_from_vi(magnitude), vf_set1(8.0f), small, normal);
    const vf above = vf_where_less(value, vf_set1(127.5f), vf_set1(0.0f), scale);
    return vf_where_less(value, vf_set1(126.5f), scale, above);
}

SIMD_INLINE void block_nvfp4(const struct spot *s)
{
    const vi scales = word_at(s, 0);
#pragma GCC unroll 16
    for (size_t k = 0; k < 4; k++) {
        put_scale(s, k, nvfp4_scale(byte_of(scales, k)));
    }
#pragma GCC unroll 16
    for (size_t half = 0; half < 2; half++) {
        vi q[4];
        four_words_at(s, q, 1 + 4 * half);
#pragma GCC unroll 16
        for (size_t i = 0; i < 4; i++) { // two words make 16 columns
            const size_t at = 8 * half + i / 2 * 4 + i % 2;
            put_codes(s, at, vi_look_up(low_nibbles(q[i]), fp4_codes));
            put_codes(s, at + 2, vi_look_up(high_nibbles(q[i]), fp4_codes));
        }
    }
}

// A type as constants, so that each copy of the loops below is made for it.
struct layout {
    size_t values; // of a block
    size_t size;
    size_t loose;
    struct kern_coding coding;
};
typedef void (*unpack_block)(const struct spot *s);

// The block at hand, for the vector of rows from `part` on.
SIMD_INLINE struct spot spot_at(const uint8_t *block, size_t part, const struct layout *layout)
{
    return (struct spot){.words = block + layout->loose * KERN_LANES + 4 * part,
                         .loose = block + layout->loose * part,
                         .coding = &layout->coding};
}

// With few rows memory is what limits, and what comes is known: strips follow each other.
enum { PREFETCH_AHEAD = 4096, CACHE_LINE = 64 };

SIMD_INLINE void prefetch_block(const uint8_t *block, const size_t size)
{
#pragma GCC unroll 64
    for (size_t i = 0; i < size; i += CACHE_LINE) {
        __builtin_prefetch(block + PREFETCH_AHEAD + i, 0, 3);
    }
}

SIMD_INLINE void strip_of(struct code_strip strip, const uint8_t *packed, size_t n,
                          const struct layout layout, const unpack_block unpack)
{
    const size_t n_subs = layout.values / layout.coding.sub_block;
    for (size_t b = 0; b < n / layout.values; b++) {
        prefetch_block(packed, layout.size * KERN_LANES);
        for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
            struct spot s = spot_at(packed, part, &layout);
            s.codes = strip.codes + 4 * part + b * layout.values * KERN_LANES;
            s.scale = strip.scale + part + b * n_subs * KERN_LANES;
            s.min = strip.min + part + b * n_subs * KERN_LANES;
            unpack(&s);
        }
        packed += layout.size * KERN_LANES;
    }
}

// The products of one row of x with one block.
SIMD_INLINE vf row_block(vf sum, const uint8_t *block, size_t part, struct panel panel, size_t b,
                         const struct layout layout, const unpack_block unpack)
{
    const struct kern_coding coding = layout.coding;
    const size_t sub = coding.sub_block;
    const size_t n_subs = layout.values / sub;
    const int32_t *minus = sub == 16 ? panel.minus_16 : panel.minus_32;
    const float *x_sums = sub == 16 ? panel.sum_16 : panel.sum_32;
    const bool has_zero = !coding.has_min && vi_has_zero(coding.is_wide);
    vi sums[SUBS_MAX];
    float scale[SUBS_MAX * KERN_LANES];
    float min[SUBS_MAX * KERN_LANES];
#pragma GCC unroll 16
    for (size_t i = 0; i < n_subs; i++) {
        sums[i] = has_zero ? vi_shl(vi_set1((uint32_t)minus[b * n_subs + i]), coding.zero_shift)
                           : vi_set1(0);
    }
    struct spot s = spot_at(block, part, &layout);
    s.scale = scale;
    s.min = min;
    s.x = panel.codes + b * layout.values;
    s.sums = sums;
    unpack(&s);
#pragma GCC unroll 16
    for (size_t i = 0; i < n_subs; i++) {
        const vf x_scale = vf_set1(panel.scale[(b * layout.values + i * sub) / KERN_BLOCK]);
        const vf factor = vf_mul(vf_load(scale + i * KERN_LANES), x_scale);
        sum = vf_fma(vf_from_vi(sums[i]), factor, sum);
        if (coding.has_min) {
            const vf x_sum = vf_set1(x_sums[b * n_subs + i]);
            sum = vf_fma(vf_load(min + i * KERN_LANES), x_sum, sum);
        }
    }
    return sum;
}

// The products of one row of x without codes in between, in the order of dot_q8.
SIMD_INLINE void row_of(struct acc acc, const uint8_t *packed, struct panel panel, size_t n,
                        const struct layout layout, const unpack_block unpack)
{
    vf sum[SIMD_PARTS];
    for (size_t p = 0; p < SIMD_PARTS; p++) {
        sum[p] = acc.is_fresh ? vf_set1(0.0f) : vf_load(acc.data + p * SIMD_LANES);
    }
    for (size_t b = 0; b < n / layout.values; b++) {
        prefetch_block(packed, layout.size * KERN_LANES);
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            sum[p] = row_block(sum[p], packed, p * SIMD_LANES, panel, b, layout, unpack);
        }
        packed += layout.size * KERN_LANES;
    }
    for (size_t p = 0; p < SIMD_PARTS; p++) {
        vf_store(acc.data + p * SIMD_LANES, sum[p]);
    }
}

// clang-format off
// Must agree with kern_codings; static here, so that the compiler sees constants.
static const struct layout layout_q4_0 = {32, 18, 2, {.zero_shift = 3, .sub_block = 32, .has_min = false, .is_wide = false}};
static const struct layout layout_q4_1 = {32, 20, 0, {.zero_shift = 255, .sub_block = 32, .has_min = true, .is_wide = false}};
static const struct layout layout_q5_0 = {32, 22, 2, {.zero_shift = 4, .sub_block = 32, .has_min = false, .is_wide = false}};
static const struct layout layout_q5_1 = {32, 24, 0, {.zero_shift = 255, .sub_block = 32, .has_min = true, .is_wide = false}};
static const struct layout layout_q8_0 = {32, 34, 2, {.zero_shift = 7, .sub_block = 32, .has_min = false, .is_wide = true}};
static const struct layout layout_q2_k = {256, 84, 0, {.zero_shift = 255, .sub_block = 16, .has_min = true, .is_wide = false}};
static const struct layout layout_q3_k = {256, 110, 2, {.zero_shift = 2, .sub_block = 16, .has_min = false, .is_wide = false}};
static const struct layout layout_q4_k = {256, 144, 0, {.zero_shift = 255, .sub_block = 32, .has_min = true, .is_wide = false}};
static const struct layout layout_q5_k = {256, 176, 0, {.zero_shift = 255, .sub_block = 32, .has_min = true, .is_wide = false}};
static const struct layout layout_q6_k = {256, 210, 2, {.zero_shift = 5, .sub_block = 16, .has_min = false, .is_wide = false}};
static const struct layout layout_iq4_nl = {32, 18, 2, {.zero_shift = 7, .sub_block = 32, .has_min = false, .is_wide = true}};
static const struct layout layout_iq4_xs = {256, 136, 0, {.zero_shift = 7, .sub_block = 32, .has_min = false, .is_wide = true}};
static const struct layout layout_mxfp4 = {32, 17, 1, {.zero_shift = 4, .sub_block = 32, .has_min = false, .is_wide = false}};
static const struct layout layout_nvfp4 = {64, 36, 0, {.zero_shift = 4, .sub_block = 16, .has_min = false, .is_wide = false}};
// clang-format on

static void strip_q8(struct code_strip strip, const uint8_t *packed, size_t n, enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_0:
        strip_of(strip, packed, n, layout_q4_0, block_q4_0);
        break;
    case DTYPE_Q4_1:
        strip_of(strip, packed, n, layout_q4_1, block_q4_1);
        break;
    case DTYPE_Q5_0:
        strip_of(strip, packed, n, layout_q5_0, block_q5_0);
        break;
    case DTYPE_Q5_1:
        strip_of(strip, packed, n, layout_q5_1, block_q5_1);
        break;
    case DTYPE_Q8_0:
        strip_of(strip, packed, n, layout_q8_0, block_q8_0);
        break;
    case DTYPE_Q2_K:
        strip_of(strip, packed, n, layout_q2_k, block_q2_k);
        break;
    case DTYPE_Q3_K:
        strip_of(strip, packed, n, layout_q3_k, block_q3_k);
        break;
    case DTYPE_Q4_K:
        strip_of(strip, packed, n, layout_q4_k, block_q4_k);
        break;
    case DTYPE_Q5_K:
        strip_of(strip, packed, n, layout_q5_k, block_q5_k);
        break;
    case DTYPE_Q6_K:
        strip_of(strip, packed, n, layout_q6_k, block_q6_k);
        break;
    case DTYPE_IQ4_NL:
        strip_of(strip, packed, n, layout_iq4_nl, block_iq4_nl);
        break;
    case DTYPE_IQ4_XS:
        strip_of(strip, packed, n, layout_iq4_xs, block_iq4_xs);
        break;
    case DTYPE_MXFP4:
        strip_of(strip, packed, n, layout_mxfp4, block_mxfp4);
        break;
    case DTYPE_NVFP4:
        strip_of(strip, packed, n, layout_nvfp4, block_nvfp4);
        break;
    default:
        break;
    }
}

static void row_q8(struct acc acc, const uint8_t *packed, struct panel panel, size_t n,
                   enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_0:
        row_of(acc, packed, panel, n, layout_q4_0, block_q4_0);
        break;
    case DTYPE_Q4_1:
        row_of(acc, packed, panel, n, layout_q4_1, block_q4_1);
        break;
    case DTYPE_Q5_0:
        row_of(acc, packed, panel, n, layout_q5_0, block_q5_0);
        break;
    case DTYPE_Q5_1:
        row_of(acc, packed, panel, n, layout_q5_1, block_q5_1);
        break;
    case DTYPE_Q8_0:
        row_of(acc, packed, panel, n, layout_q8_0, block_q8_0);
        break;
    case DTYPE_Q2_K:
        row_of(acc, packed, panel, n, layout_q2_k, block_q2_k);
        break;
    case DTYPE_Q3_K:
        row_of(acc, packed, panel, n, layout_q3_k, block_q3_k);
        break;
    case DTYPE_Q4_K:
        row_of(acc, packed, panel, n, layout_q4_k, block_q4_k);
        break;
    case DTYPE_Q5_K:
        row_of(acc, packed, panel, n, layout_q5_k, block_q5_k);
        break;
    case DTYPE_Q6_K:
        row_of(acc, packed, panel, n, layout_q6_k, block_q6_k);
        break;
    case DTYPE_IQ4_NL:
        row_of(acc, packed, panel, n, layout_iq4_nl, block_iq4_nl);
        break;
    case DTYPE_IQ4_XS:
        row_of(acc, packed, panel, n, layout_iq4_xs, block_iq4_xs);
        break;
    case DTYPE_MXFP4:
        row_of(acc, packed, panel, n, layout_mxfp4, block_mxfp4);
        break;
    case DTYPE_NVFP4:
        row_of(acc, packed, panel, n, layout_nvfp4, block_nvfp4);
        break;
    default:
        break;
    }
}

// ------------------------------------------------------------------------------------ values

// A quantized strip as values: scale * (code - zero) + min, each step rounded, as dtypes[].unpack
// does.
SIMD_INLINE void expand(float *strip, struct code_strip codes, size_t n, vi zero,
                        const size_t sub_block, const bool has_min)
{
    for (size_t k = 0; k < n; k += 4) {
        const size_t at = k / sub_block * KERN_LANES;
        for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
            const vi four = vi_load(codes.codes + k * KERN_LANES + 4 * part);
            const vf scale = vf_load(codes.scale + at + part);
            for (size_t i = 0; i < 4; i++) {
                vf w = vf_mul(scale, vf_from_vi(vi_sub(byte_of(four, i), zero)));
                if (has_min) {
                    w = vf_add(w, vf_load(codes.min + at + part));
                }
                vf_store(strip + (k + i) * KERN_LANES + part, w);
            }
        }
    }
}

static void strip_values(float *strip, const uint8_t *packed, size_t n, enum dtype type)
{
    enum { PIECE = 256 }; // a multiple of every block
    _Alignas(64) uint8_t codes[PIECE * KERN_LANES];
    _Alignas(64) float scale[PIECE / 16 * KERN_LANES];
    _Alignas(64) float min[PIECE / 16 * KERN_LANES];
    const struct code_strip piece = {.codes = codes, .scale = scale, .min = min};
    const struct kern_coding *coding = &kern_codings[type];
    const vi zero =
        vi_set1(coding->zero_shift == KERN_NO_ZERO ? 0 : (uint32_t)1 << coding->zero_shift);
    for (size_t k = 0; k < n; k += PIECE) {
        const size_t n_here = n - k < PIECE ? n - k : PIECE;
        const size_t block = k / dtypes[type].block_values;
        strip_q8(piece, packed + block * dtypes[type].block_size * KERN_LANES, n_here, type);
        float *to = strip + k * KERN_LANES;
        if (coding->sub_block == 16) {
            if (coding->has_min) {
                expand(to, piece, n_here, zero, 16, true);
            } else {
                expand(to, piece, n_here, zero, 16, false);
            }
        } else if (coding->has_min) {
            expand(to, piece, n_here, zero, 32, true);
        } else {
            expand(to, piece, n_here, zero, 32, false);
        }
    }
}

static void strip_f32(float *strip, const uint8_t *packed, size_t n, enum dtype type)
{
    (void)type;
    memcpy(strip, packed, n * KERN_LANES * sizeof(float));
}

static inline vf value_16(vi words, bool is_f16) // of the low 16 bits
{
    return is_f16 ? vf_from_f16(words) : vf_of_bits(vi_shl(words, 16));
}

// A word has two columns; of the last one there may be half.
SIMD_INLINE void strip_16(float *strip, const uint8_t *packed, size_t n, const bool is_f16)
{
    for (size_t k = 0; k < n; k += 2) {
        for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
            const vi words = vi_load(packed + (k / 2 * KERN_LANES + part) * 4);
            float *to = strip + k * KERN_LANES + part;
            vf_store(to, value_16(words, is_f16));
            if (k + 1 < n) {
                vf_store(to + KERN_LANES, value_16(vi_shr(words, 16), is_f16));
            }
        }
    }
}

static void strip_f16(float *strip, const uint8_t *packed, size_t n, enum dtype type)
{
    (void)type;
    strip_16(strip, packed, n, true);
}

static void strip_bf16(float *strip, const uint8_t *packed, size_t n, enum dtype type)
{
    (void)type;
    strip_16(strip, packed, n, false);
}

// ------------------------------------------------------------------------------ rows as stored

// Words [first, end) of a block, which begins at from, to their places.
SIMD_INLINE void pack_words(uint8_t *words, struct strip_source from, size_t first, size_t end)
{
    size_t i = first;
    for (; i + 4 <= end; i += 4) {
        for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
            vi w[4];
            vi_load_rows(w, from.data + part * from.stride + 4 * (i - first), from.stride);
            for (size_t j = 0; j < 4; j++) {
                vi_store(words + ((i + j) * KERN_LANES + part) * 4, w[j]);
            }
        }
    }
    for (; i < end; i++) {
        for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
            vi_store(words + (i * KERN_LANES + part) * 4,
                     vi_load_words(from.data + part * from.stride + 4 * (i - first), from.stride));
        }
    }
}

SIMD_INLINE void pack_blocks(uint8_t *strip, struct strip_source from, size_t n_blocks,
                             const struct kern_packing p, const size_t loose)
{
    const size_t before = loose > 0 ? p.loose_at / 4 : p.size / 4;
    for (size_t b = 0; b < n_blocks; b++) {
        for (size_t r = 0; r < KERN_LANES && loose > 0; r++) {
            memcpy(strip + loose * r, from.data + r * from.stride + p.loose_at, loose);
        }
        uint8_t *words = strip + loose * KERN_LANES;
        const struct strip_source rest = {from.data + p.loose_at + loose, from.stride};
        pack_words(words, from, 0, before);
        if (loose > 0) {
            pack_words(words, rest, before, p.size / 4);
        }
        strip += p.size * KERN_LANES;
        from.data += p.size;
    }
}

static void pack_strip(uint8_t *strip, struct strip_source from, size_t n, enum dtype type)
{
    const struct kern_packing p = kern_packing_of(type);
    if (p.size == 4 && n % (4 * p.values) == 0) { // floats: four words at a time
        const struct kern_packing four = {.values = 4 * p.values, .size = 16};
        pack_blocks(strip, from, n / four.values, four, 0);
    } else if (n % p.values != 0) {
        kern_pack_strip(strip, from, KERN_LANES, n, type);
    } else if (p.loose_size == 2) {
        pack_blocks(strip, from, n / p.values, p, 2);
    } else if (p.loose_size == 1) {
        pack_blocks(strip, from, n / p.values, p, 1);
    } else {
        pack_blocks(strip, from, n / p.values, p, 0);
    }
}

static void rows_f32(float *strip, struct strip_source from, size_t n)
{
    const size_t whole = n / 4 * 4;
    for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
        for (size_t k = 0; k < whole; k += 4) {
            vi w[4];
            vi_load_rows(w, from.data + part * from.stride + 4 * k, from.stride);
            for (size_t i = 0; i < 4; i++) {
                vi_store(strip + (k + i) * KERN_LANES + part, w[i]);
            }
        }
    }
    for (size_t k = whole; k < n; k++) {
        for (size_t r = 0; r < KERN_LANES; r++) {
            memcpy(strip + k * KERN_LANES + r, from.data + r * from.stride + 4 * k, sizeof(float));
        }
    }
}

// Two bytes per value: a word has two columns.
static void rows_f16(float *strip, struct strip_source from, size_t n)
{
    const size_t whole = n / 8 * 8;
    for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
        for (size_t k = 0; k < whole; k += 8) {
            vi w[4];
            vi_load_rows(w, from.data + part * from.stride + 2 * k, from.stride);
            for (size_t i = 0; i < 4; i++) {
                float *to = strip + (k + 2 * i) * KERN_LANES + part;
                vf_store(to, vf_from_f16(w[i]));
                vf_store(to + KERN_LANES, vf_from_f16(vi_shr(w[i], 16)));
            }
        }
    }
    for (size_t k = whole; k < n; k++) {
        for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
            uint32_t words[SIMD_LANES] = {0};
            for (size_t r = 0; r < SIMD_LANES; r++) {
                memcpy(words + r, from.data + (part + r) * from.stride + 2 * k,
                       2); // little-endian, as the file
            }
            vf_store(strip + k * KERN_LANES + part, vf_from_f16(vi_load(words)));
        }
    }
}

static void rows_q8_0(float *strip, struct strip_source from, size_t n)
{
    const struct dtype_info *t = &dtypes[DTYPE_Q8_0];
    for (size_t k = 0; k < n; k += t->block_values, from.data += t->block_size) {
        for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
            const uint8_t *at = from.data + part * from.stride;
            const vf scale = vf_from_f16(vi_load_words(at, from.stride));
            for (size_t half = 0; half < 2; half++) {
                vi w[4];
                vi_load_rows(w, at + 2 + 16 * half, from.stride);
                for (size_t i = 0; i < 16; i++) {
                    const vi code = byte_of(vi_xor(w[i / 4], vi_set1(0x80808080u)), i % 4);
                    vf_store(strip + (k + 16 * half + i) * KERN_LANES + part,
                             vf_mul(scale, vf_from_vi(vi_sub(code, vi_set1(128)))));
                }
            }
        }
    }
}

void KERN_INIT_STRIP(struct kern *k)
{
    for (size_t type = 0; type < DTYPE_COUNT_COMPUTE; type++) {
        if (kern_codings[type].sub_block != 0) {
            k->strip_q8[type] = strip_q8;
            k->row_q8[type] = row_q8;
            k->strip_f32[type] = strip_values;
        }
    }
    k->strip_f32[DTYPE_F32] = strip_f32;
    k->strip_f32[DTYPE_F16] = strip_f16;
    k->strip_f32[DTYPE_BF16] = strip_bf16;
    k->pack_strip = pack_strip;
    k->rows_f32[DTYPE_F32] = rows_f32;
    k->rows_f32[DTYPE_F16] = rows_f16;
    k->rows_f32[DTYPE_Q8_0] = rows_q8_0;
}
