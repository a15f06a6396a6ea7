// SPDX-License-Identifier: Apache-2.0
// Packed strips to codes, values and products in the vectors of simd.h. A vector has the same four
// bytes of every row: what a type does to its bytes is done to all rows at once and gives the
// strip's order directly. The layouts of the blocks are in docs/formats.md, the packed order in
// kern.h.
#include "compute/cpu/simd.h"

// A block of a vector's rows.
struct spot {
    const uint8_t *words; // of the block, from this vector's first row on
    const uint8_t *loose; // its bytes that make no whole word
};

// 32 columns of it: codes in fours, and a scale (and minimum) for each sub-block of 16 or 32.
struct group {
    vi codes[8];
    vf scale[2];
    vf min[2];
};

SIMD_INLINE vi word_at(const struct spot *s, size_t i) // counted from the block's beginning
{
    return vi_load(s->words + i * KERN_LANES * 4);
}

SIMD_INLINE vf loose_half(const struct spot *s)
{
    return vf_load_f16(s->loose);
}

// -(factor * value), as the minima of the k types are subtracted.
SIMD_INLINE vf minus_product(vf factor, vi value)
{
    const vf min = vf_mul(factor, vf_from_vi(value));
    return vf_of_bits(vi_xor(vi_of_bits(min), vi_set1(0x80000000u)));
}

SIMD_INLINE vi low_nibbles(vi a)
{
    return vi_and(a, vi_set1(0x0f0f0f0fu));
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

// Nibbles as most types have them: four words from `first` on have 16 columns in their low nibbles
// and the next 16 in their high ones.
SIMD_INLINE void nibbles_16(struct group *out, const struct spot *s, size_t first)
{
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        const vi q = word_at(s, first + i);
        out->codes[i] = low_nibbles(q);
        out->codes[i + 4] = vi_high_nibbles(q);
    }
}

// And as the k types have them: eight words have 32 columns in their low nibbles, or the next 32.
SIMD_INLINE void nibbles_32(struct group *out, const struct spot *s, size_t first, bool are_high)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) {
        const vi q = word_at(s, first + i);
        out->codes[i] = are_high ? vi_high_nibbles(q) : low_nibbles(q);
    }
}

SIMD_INLINE void group_q4_0(struct group *out, const struct spot *s, size_t g)
{
    (void)g;
    out->scale[0] = loose_half(s);
    nibbles_16(out, s, 0);
}

SIMD_INLINE void scale_and_min(struct group *out, vi words)
{
    out->scale[0] = vf_from_f16(words);
    out->min[0] = vf_from_f16(vi_shr(words, 16));
}

SIMD_INLINE void group_q4_1(struct group *out, const struct spot *s, size_t g)
{
    (void)g;
    scale_and_min(out, word_at(s, 0));
    nibbles_16(out, s, 1);
}

SIMD_INLINE void add_fifth_bits(struct group *out, vi high)
{
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) {
        out->codes[i] = vi_or(out->codes[i], spread_bits(high, (int)(4 * i)));
    }
}

SIMD_INLINE void group_q5_0(struct group *out, const struct spot *s, size_t g)
{
    (void)g;
    out->scale[0] = loose_half(s);
    nibbles_16(out, s, 1);
    add_fifth_bits(out, word_at(s, 0));
}

SIMD_INLINE void group_q5_1(struct group *out, const struct spot *s, size_t g)
{
    (void)g;
    scale_and_min(out, word_at(s, 0));
    nibbles_16(out, s, 2);
    add_fifth_bits(out, word_at(s, 1));
}

SIMD_INLINE void group_q8_0(struct group *out, const struct spot *s, size_t g)
{
    (void)g;
    out->scale[0] = loose_half(s);
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) {
        out->codes[i] = vi_xor(word_at(s, i), vi_set1(0x80808080u));
    }
}

SIMD_INLINE void group_q2_k(struct group *out, const struct spot *s, size_t g)
{
    const vi factors = word_at(s, 20);
    const vf d = vf_from_f16(factors);
    const vf d_min = vf_from_f16(vi_shr(factors, 16));
#pragma GCC unroll 2
    for (size_t h = 0; h < 2; h++) {
        const vi both = byte_of(word_at(s, g / 2), 2 * (g % 2) + h);
        out->scale[h] = vf_mul(d, vf_from_vi(vi_and(both, vi_set1(15))));
        out->min[h] = minus_product(d_min, vi_shr(both, 4));
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) {
        const vi q = vi_shr(word_at(s, 4 + 8 * (g / 4) + i), (int)(2 * (g % 4)));
        out->codes[i] = vi_and(q, vi_set1(0x03030303u));
    }
}

SIMD_INLINE vf scale_q3_k(const struct spot *s, size_t k)
{
    const vi low = vi_shr(word_at(s, 24 + k % 8 / 4), (int)(8 * (k % 4) + k / 8 * 4));
    const vi high = vi_shr(word_at(s, 26), (int)(8 * (k % 4) + k / 4 * 2));
    const vi value = vi_or(vi_and(low, vi_set1(15)), vi_shl(vi_and(high, vi_set1(3)), 4));
    return vf_mul(loose_half(s), vf_from_vi(vi_sub(value, vi_set1(32))));
}

SIMD_INLINE void group_q3_k(struct group *out, const struct spot *s, size_t g)
{
    out->scale[0] = scale_q3_k(s, 2 * g);
    out->scale[1] = scale_q3_k(s, 2 * g + 1);
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) {
        const vi q = vi_shr(word_at(s, 8 + 8 * (g / 4) + i), (int)(2 * (g % 4)));
        const vi high = vi_and(vi_shr(word_at(s, i), (int)g), vi_set1(0x01010101u));
        out->codes[i] = vi_or(vi_and(q, vi_set1(0x03030303u)), vi_shl(high, 2));
    }
}

// The scale and minimum of q4_k and q5_k, which four words have for all eight groups.
SIMD_INLINE void scale_and_min_k4(struct group *out, const struct spot *s, size_t g)
{
    const vi factors = word_at(s, 0);
    const vi six = vi_set1(0x3f3f3f3fu);
    const vi top = vi_set1(0x30303030u);
    vi scales;
    vi mins;
    if (g < 4) {
        scales = vi_and(word_at(s, 1), six);
        mins = vi_and(word_at(s, 2), six);
    } else {
        const vi low = word_at(s, 3);
        scales = vi_or(low_nibbles(low), vi_and(vi_shr(word_at(s, 1), 2), top));
        mins = vi_or(vi_high_nibbles(low), vi_and(vi_shr(word_at(s, 2), 2), top));
    }
    out->scale[0] = vf_mul(vf_from_f16(factors), vf_from_vi(byte_of(scales, g % 4)));
    out->min[0] = minus_product(vf_from_f16(vi_shr(factors, 16)), byte_of(mins, g % 4));
}

SIMD_INLINE void group_q4_k(struct group *out, const struct spot *s, size_t g)
{
    scale_and_min_k4(out, s, g);
    nibbles_32(out, s, 4 + 8 * (g / 2), g % 2 == 1);
}

SIMD_INLINE void group_q5_k(struct group *out, const struct spot *s, size_t g)
{
    scale_and_min_k4(out, s, g);
    nibbles_32(out, s, 12 + 8 * (g / 2), g % 2 == 1);
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) {
        const vi high = vi_and(vi_shr(word_at(s, 4 + i), (int)g), vi_set1(0x01010101u));
        out->codes[i] = vi_join_nibbles(out->codes[i], high);
    }
}

SIMD_INLINE vf scale_q6_k(const struct spot *s, size_t k)
{
    const vi word = word_at(s, 48 + k / 4);
    const vi value = vi_sar(vi_shl(word, (int)(24 - 8 * (k % 4))), 24); // with its sign
    return vf_mul(loose_half(s), vf_from_vi(value));
}

SIMD_INLINE void group_q6_k(struct group *out, const struct spot *s, size_t g)
{
    out->scale[0] = scale_q6_k(s, 2 * g);
    out->scale[1] = scale_q6_k(s, 2 * g + 1);
    nibbles_32(out, s, 16 * (g / 4) + 8 * (g % 2), g % 4 >= 2);
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) {
        const vi high = vi_shr(word_at(s, 32 + 8 * (g / 4) + i), (int)(2 * (g % 4)));
        out->codes[i] = vi_join_nibbles(out->codes[i], vi_and(high, vi_set1(0x03030303u)));
    }
}

// The values of IQ4, plus 128; those of FP4 (E2M1) doubled, plus 16.
static const uint8_t iq4_codes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                      129, 141, 153, 166, 181, 197, 217, 241};
static const uint8_t fp4_codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

SIMD_INLINE void look_up(struct group *out, const uint8_t table[16])
{
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) {
        out->codes[i] = vi_look_up(out->codes[i], table);
    }
}

SIMD_INLINE void group_iq4_nl(struct group *out, const struct spot *s, size_t g)
{
    group_q4_0(out, s, g);
    look_up(out, iq4_codes);
}

SIMD_INLINE void group_iq4_xs(struct group *out, const struct spot *s, size_t g)
{
    const vi head = word_at(s, 0); // factor, then two high bits of each scale
    const vi low = vi_and(vi_shr(word_at(s, 1), (int)(4 * g)), vi_set1(15));
    const vi top = vi_and(vi_shr(head, (int)(16 + 2 * g)), vi_set1(3));
    const vi value = vi_sub(vi_or(low, vi_shl(top, 4)), vi_set1(32));
    out->scale[0] = vf_mul(vf_from_f16(head), vf_from_vi(value));
    nibbles_16(out, s, 2 + 4 * g);
    look_up(out, iq4_codes);
}

// The scale is half of 2^(exponent - 127); the two smallest are subnormal.
SIMD_INLINE void group_mxfp4(struct group *out, const struct spot *s, size_t g)
{
    (void)g;
    const vi e = vi_and(vi_load_i8(s->loose), vi_set1(0xff));
    const vf normal = vf_of_bits(vi_shl(vi_sub(e, vi_set1(1)), 23));
    const vf small = vf_of_bits(vi_shl(vi_add(e, vi_set1(1)), 21));
    out->scale[0] = vf_where_less(vf_from_vi(e), vf_set1(2.0f), small, normal);
    nibbles_16(out, s, 0);
    look_up(out, fp4_codes);
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

SIMD_INLINE void group_nvfp4(struct group *out, const struct spot *s, size_t g)
{
    const vi scales = word_at(s, 0);
#pragma GCC unroll 2
    for (size_t h = 0; h < 2; h++) {
        out->scale[h] = nvfp4_scale(byte_of(scales, 2 * g + h));
#pragma GCC unroll 2
        for (size_t i = 0; i < 2; i++) { // two words make 16 columns
            const vi q = word_at(s, 1 + 4 * g + 2 * h + i);
            out->codes[4 * h + i] = low_nibbles(q);
            out->codes[4 * h + 2 + i] = vi_high_nibbles(q);
        }
    }
    look_up(out, fp4_codes);
}

// A type as constants, so that each copy of the loops below is made for it.
struct layout {
    size_t values; // of a block
    size_t size;
    size_t loose;
    struct kern_coding coding;
};
typedef void (*unpack_group)(struct group *out, const struct spot *s, size_t g);
enum { GROUPS_MAX = 8 }; // of a block

// The block at hand, for the vector of rows from `part` on.
SIMD_INLINE struct spot spot_at(const uint8_t *block, size_t part, const struct layout *layout)
{
    return (struct spot){.words = block + layout->loose * KERN_LANES + 4 * part,
                         .loose = block + layout->loose * part};
}

// With few rows memory is what limits, and what comes is known: strips follow each other. Asked for
// group by group, because a core waits for only so many lines at once. A block of 32 columns is
// read in order, and goes to the first-level cache, not a multiple of 4096 bytes ahead, which would
// be the place of what is at hand. One of 256 columns is read back and forth: it must be there as a
// whole before its first group, which takes longer than the first level has room for.
enum { SMALL_AHEAD = 6336, LARGE_AHEAD = 8192, CACHE_LINE = 64 };

SIMD_INLINE void prefetch_group(const uint8_t *block, const struct layout *layout, const size_t g)
{
    const size_t size = layout->size * KERN_LANES * KERN_BLOCK / layout->values;
    const size_t first = (g * size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
#pragma GCC unroll 16
    for (size_t i = first; i < (g + 1) * size; i += CACHE_LINE) {
        if (layout->values == KERN_BLOCK) {
            __builtin_prefetch(block + SMALL_AHEAD + i, 0, 3);
        } else {
            __builtin_prefetch(block + LARGE_AHEAD + i, 0, 2);
        }
    }
}

// Of the rows from `part` on; at counts groups of a row.
SIMD_INLINE void store_group(struct code_strip strip, const struct group *group, size_t at,
                             size_t part, const struct kern_coding coding)
{
    const size_t n_subs = KERN_BLOCK / coding.sub_block;
    const uint8_t zero = coding.has_min ? 0 : (uint8_t)(1u << coding.zero_shift);
    uint8_t *codes = strip.codes + at * KERN_BLOCK * KERN_LANES;
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++, codes += 8 * KERN_LANES) {
        vi_store_codes(codes, part, group->codes[2 * i], group->codes[2 * i + 1], zero);
    }
#pragma GCC unroll 2
    for (size_t h = 0; h < n_subs; h++) {
        const size_t lane = (n_subs * at + h) * KERN_LANES + part;
        vf_store(strip.scale + lane, group->scale[h]);
        if (coding.has_min) {
            vf_store(strip.min + lane, group->min[h]);
        }
    }
}

SIMD_INLINE void strip_of(struct code_strip strip, const uint8_t *packed, size_t n,
                          const struct layout layout, const unpack_group unpack)
{
    const size_t n_groups = layout.values / KERN_BLOCK;
    for (size_t b = 0; b < n / layout.values; b++) {
        for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
            const struct spot s = spot_at(packed, part, &layout);
#pragma GCC unroll 8
            for (size_t g = 0; g < n_groups; g++) {
                struct group group;
                if (part == 0) {
                    prefetch_group(packed, &layout, g);
                }
                unpack(&group, &s, g);
                store_group(strip, &group, b * n_groups + g, part, layout.coding);
            }
        }
        packed += layout.size * KERN_LANES;
    }
}

// Adds a group's products with one row of x; at counts groups of the row.
SIMD_INLINE vf dot_group(vf sum, const struct group *group, const struct vi_codes codes[4],
                         const struct panel *x, size_t at, const struct kern_coding coding)
{
    const size_t sub = coding.sub_block;
    const size_t n_subs = KERN_BLOCK / sub;
    const bool has_zero = !coding.has_min && vi_has_zero(coding.run);
    const int32_t *minus = (sub == 16 ? x->minus_16 : x->minus_32) + n_subs * at;
    const float *x_sums = (sub == 16 ? x->sum_16 : x->sum_32) + n_subs * at;
    const int8_t *x_codes = x->codes + KERN_BLOCK * at;
    const vf x_scale = vf_set1(x->scale[at]);
#pragma GCC unroll 2
    for (size_t h = 0; h < n_subs; h++) {
        vi isum = has_zero ? vi_shl(vi_set1((uint32_t)minus[h]), coding.zero_shift) : vi_set1(0);
        vi part = vi_dot_begin(isum, coding.run);
#pragma GCC unroll 2
        for (size_t i = h * sub; i < (h + 1) * sub; i += 16) {
            part = vi_dot_16(part, codes + i / 8, x_codes + i, coding.run);
        }
        isum = vi_dot_end(isum, part, coding.run);
        sum = vf_fma(vf_from_vi(isum), vf_mul(group->scale[h], x_scale), sum);
        if (coding.has_min) {
            sum = vf_fma(group->min[h], vf_set1(x_sums[h]), sum);
        }
    }
    return sum;
}

// One block and all rows of x, whose sums stand in acc.
SIMD_INLINE void dot_block(struct acc acc, const uint8_t *block, const struct panel *x,
                           size_t n_rows, size_t b, const struct layout layout,
                           const unpack_group unpack)
{
    const struct kern_coding coding = layout.coding;
    const size_t n_groups = layout.values / KERN_BLOCK;
    const uint8_t zero = coding.has_min ? 0 : (uint8_t)(1u << coding.zero_shift);
    for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
        const struct spot s = spot_at(block, part, &layout);
#pragma GCC unroll 8
        for (size_t g = 0; g < n_groups; g++) {
            struct group group;
            struct vi_codes codes[4];
            if (part == 0) {
                prefetch_group(block, &layout, g);
            }
            unpack(&group, &s, g);
#pragma GCC unroll 4
            for (size_t i = 0; i < 4; i++) {
                codes[i] =
                    vi_codes_of(group.codes[2 * i], group.codes[2 * i + 1], zero, coding.run);
            }
            float *sums = acc.data + part;
            for (size_t r = 0; r < n_rows; r++, sums += acc.stride) {
                const vf sum =
                    dot_group(vf_load(sums), &group, codes, &x[r], b * n_groups + g, coding);
                vf_store(sums, sum);
            }
        }
    }
}

// The products of few rows of x without a strip of codes in between, in the order of dot_q8. Sums
// stand in memory, so that any number of rows shares what was unpacked, and close together: outputs
// of several rows lie a power of two apart and would push each other out of the cache.
SIMD_INLINE void rows_of(struct acc acc, const uint8_t *packed, const struct panel *x,
                         size_t n_rows, size_t n, const struct layout layout,
                         const unpack_group unpack)
{
    _Alignas(64) float sums[KERN_FEW_ROWS * KERN_LANES];
    const struct acc here = {.data = sums, .stride = KERN_LANES};
    for (size_t r = 0; r < n_rows; r++) {
        if (acc.is_fresh) {
            memset(sums + r * KERN_LANES, 0, KERN_LANES * sizeof(float));
        } else {
            memcpy(sums + r * KERN_LANES, acc.data + r * acc.stride, KERN_LANES * sizeof(float));
        }
    }
    for (size_t b = 0; b < n / layout.values; b++) {
        if (n_rows == 1) { // a copy of its own
            dot_block(here, packed, x, 1, b, layout, unpack);
        } else {
            dot_block(here, packed, x, n_rows, b, layout, unpack);
        }
        packed += layout.size * KERN_LANES;
    }
    for (size_t r = 0; r < n_rows; r++) {
        memcpy(acc.data + r * acc.stride, sums + r * KERN_LANES, KERN_LANES * sizeof(float));
    }
}

// clang-format off
// Must agree with kern_codings; static here, so that the compiler sees constants.
static const struct layout layout_q4_0 = {32, 18, 2, {.zero_shift = 3, .sub_block = 32, .run = 32, .has_min = false}};
static const struct layout layout_q4_1 = {32, 20, 0, {.zero_shift = 255, .sub_block = 32, .run = 32, .has_min = true}};
static const struct layout layout_q5_0 = {32, 22, 2, {.zero_shift = 4, .sub_block = 32, .run = 8, .has_min = false}};
static const struct layout layout_q5_1 = {32, 24, 0, {.zero_shift = 255, .sub_block = 32, .run = 8, .has_min = true}};
static const struct layout layout_q8_0 = {32, 34, 2, {.zero_shift = 7, .sub_block = 32, .run = 4, .has_min = false}};
static const struct layout layout_q2_k = {256, 84, 0, {.zero_shift = 255, .sub_block = 16, .run = 16, .has_min = true}};
static const struct layout layout_q3_k = {256, 110, 2, {.zero_shift = 2, .sub_block = 16, .run = 16, .has_min = false}};
static const struct layout layout_q4_k = {256, 144, 0, {.zero_shift = 255, .sub_block = 32, .run = 32, .has_min = true}};
static const struct layout layout_q5_k = {256, 176, 0, {.zero_shift = 255, .sub_block = 32, .run = 8, .has_min = true}};
static const struct layout layout_q6_k = {256, 210, 2, {.zero_shift = 5, .sub_block = 16, .run = 8, .has_min = false}};
static const struct layout layout_iq4_nl = {32, 18, 2, {.zero_shift = 7, .sub_block = 32, .run = 4, .has_min = false}};
static const struct layout layout_iq4_xs = {256, 136, 0, {.zero_shift = 7, .sub_block = 32, .run = 4, .has_min = false}};
static const struct layout layout_mxfp4 = {32, 17, 1, {.zero_shift = 4, .sub_block = 32, .run = 8, .has_min = false}};
static const struct layout layout_nvfp4 = {64, 36, 0, {.zero_shift = 4, .sub_block = 16, .run = 16, .has_min = false}};
// clang-format on

static void strip_q8(struct code_strip strip, const uint8_t *packed, size_t n, enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_0:
        strip_of(strip, packed, n, layout_q4_0, group_q4_0);
        break;
    case DTYPE_Q4_1:
        strip_of(strip, packed, n, layout_q4_1, group_q4_1);
        break;
    case DTYPE_Q5_0:
        strip_of(strip, packed, n, layout_q5_0, group_q5_0);
        break;
    case DTYPE_Q5_1:
        strip_of(strip, packed, n, layout_q5_1, group_q5_1);
        break;
    case DTYPE_Q8_0:
        strip_of(strip, packed, n, layout_q8_0, group_q8_0);
        break;
    case DTYPE_Q2_K:
        strip_of(strip, packed, n, layout_q2_k, group_q2_k);
        break;
    case DTYPE_Q3_K:
        strip_of(strip, packed, n, layout_q3_k, group_q3_k);
        break;
    case DTYPE_Q4_K:
        strip_of(strip, packed, n, layout_q4_k, group_q4_k);
        break;
    case DTYPE_Q5_K:
        strip_of(strip, packed, n, layout_q5_k, group_q5_k);
        break;
    case DTYPE_Q6_K:
        strip_of(strip, packed, n, layout_q6_k, group_q6_k);
        break;
    case DTYPE_IQ4_NL:
        strip_of(strip, packed, n, layout_iq4_nl, group_iq4_nl);
        break;
    case DTYPE_IQ4_XS:
        strip_of(strip, packed, n, layout_iq4_xs, group_iq4_xs);
        break;
    case DTYPE_MXFP4:
        strip_of(strip, packed, n, layout_mxfp4, group_mxfp4);
        break;
    case DTYPE_NVFP4:
        strip_of(strip, packed, n, layout_nvfp4, group_nvfp4);
        break;
    default:
        break;
    }
}

static void rows_q8(struct acc acc, const uint8_t *packed, const struct panel *x, size_t n_rows,
                    size_t n, enum dtype type)
{
    switch (type) {
    case DTYPE_Q4_0:
        rows_of(acc, packed, x, n_rows, n, layout_q4_0, group_q4_0);
        break;
    case DTYPE_Q4_1:
        rows_of(acc, packed, x, n_rows, n, layout_q4_1, group_q4_1);
        break;
    case DTYPE_Q5_0:
        rows_of(acc, packed, x, n_rows, n, layout_q5_0, group_q5_0);
        break;
    case DTYPE_Q5_1:
        rows_of(acc, packed, x, n_rows, n, layout_q5_1, group_q5_1);
        break;
    case DTYPE_Q8_0:
        rows_of(acc, packed, x, n_rows, n, layout_q8_0, group_q8_0);
        break;
    case DTYPE_Q2_K:
        rows_of(acc, packed, x, n_rows, n, layout_q2_k, group_q2_k);
        break;
    case DTYPE_Q3_K:
        rows_of(acc, packed, x, n_rows, n, layout_q3_k, group_q3_k);
        break;
    case DTYPE_Q4_K:
        rows_of(acc, packed, x, n_rows, n, layout_q4_k, group_q4_k);
        break;
    case DTYPE_Q5_K:
        rows_of(acc, packed, x, n_rows, n, layout_q5_k, group_q5_k);
        break;
    case DTYPE_Q6_K:
        rows_of(acc, packed, x, n_rows, n, layout_q6_k, group_q6_k);
        break;
    case DTYPE_IQ4_NL:
        rows_of(acc, packed, x, n_rows, n, layout_iq4_nl, group_iq4_nl);
        break;
    case DTYPE_IQ4_XS:
        rows_of(acc, packed, x, n_rows, n, layout_iq4_xs, group_iq4_xs);
        break;
    case DTYPE_MXFP4:
        rows_of(acc, packed, x, n_rows, n, layout_mxfp4, group_mxfp4);
        break;
    case DTYPE_NVFP4:
        rows_of(acc, packed, x, n_rows, n, layout_nvfp4, group_nvfp4);
        break;
    default:
        break;
    }
}

// ------------------------------------------------------------------------------------ values

// A quantized strip as values: scale * (code - zero) + min, each step rounded, as dtypes[].unpack
// does.
SIMD_INLINE void expand(float *strip, struct code_strip codes, size_t n, uint8_t zero,
                        const size_t sub_block, const bool has_min)
{
    for (size_t k = 0; k < n; k += 8) {
        const size_t at = k / sub_block * KERN_LANES;
        for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
            const vf scale = vf_load(codes.scale + at + part);
            vi words[2];
            vi_stored_codes(words, codes.codes + k * KERN_LANES, part, zero);
            for (size_t i = 0; i < 8; i++) {
                const vi value = vi_sub(byte_of(words[i / 4], i % 4), vi_set1(zero));
                vf w = vf_mul(scale, vf_from_vi(value));
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
    const uint8_t zero = coding->has_min ? 0 : (uint8_t)(1u << coding->zero_shift);
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

void KERN_INIT_STRIP(struct kern *k)
{
    for (size_t type = 0; type < DTYPE_COUNT_COMPUTE; type++) {
        if (kern_codings[type].sub_block != 0) {
            k->strip_q8[type] = strip_q8;
            k->rows_q8[type] = rows_q8;
            k->strip_f32[type] = strip_values;
        }
    }
    k->strip_f32[DTYPE_F32] = strip_f32;
    k->strip_f32[DTYPE_F16] = strip_f16;
    k->strip_f32[DTYPE_BF16] = strip_bf16;
    k->pack_strip = pack_strip;
}
