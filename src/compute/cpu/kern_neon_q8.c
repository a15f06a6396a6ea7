// SPDX-License-Identifier: Apache-2.0
// The int8 products of many rows on arm64. Rows of x go in pairs, eight columns of each in a
// vector, and meet four outputs: 64 multiply-adds, by two smmla or four sdot. The two vectors of
// sums that a pair has keep the order that these instructions give until they are stored. The
// number of rows and the kind of type are constants in each copy, so that sums stay in registers;
// loops over pairs are bounded by another constant as well, because compilers may unroll a function
// before they inline it and know the number.
#include "compute/cpu/simd.h"

enum { PAIRS_MAX = SIMD_ROWS_Q8 / 2 };

#if defined(__ARM_FEATURE_MATMUL_INT8)
// A vector of codes has eight columns of two outputs, one of sums two outputs of both rows.
enum { STRIP_UNIT = 8, W_SECOND = 16, PRODUCTS = 2 };

SIMD_INLINE void add_products(int32x4_t sums[PRODUCTS], const int8x16_t w[2], int8x16_t x)
{
    sums[0] = vmmlaq_s32(sums[0], w[0], x);
    sums[1] = vmmlaq_s32(sums[1], w[1], x);
}
#elif defined(__ARM_FEATURE_DOTPROD)
// A vector of codes has four columns of four outputs, one of sums four outputs of a row.
enum { STRIP_UNIT = 4, W_SECOND = 4 * KERN_LANES, PRODUCTS = 2 };

SIMD_INLINE void add_products(int32x4_t sums[PRODUCTS], const int8x16_t w[2], int8x16_t x)
{
    sums[0] = vdotq_laneq_s32(sums[0], w[0], x, 0);
    sums[1] = vdotq_laneq_s32(sums[1], w[0], x, 2);
    sums[0] = vdotq_laneq_s32(sums[0], w[1], x, 1);
    sums[1] = vdotq_laneq_s32(sums[1], w[1], x, 3);
}
#else
// The same; products of two and two columns of an output are still to be added.
enum { STRIP_UNIT = 4, W_SECOND = 4 * KERN_LANES, PRODUCTS = 4 };

// Two products of 128 * 127 fit 16 bits.
SIMD_INLINE void add_row(int32x4_t sums[2], const int8x16_t w[2], int32x4_t x, int32x4_t x_second)
{
    const int8x16_t a = vreinterpretq_s8_s32(x);
    const int8x16_t b = vreinterpretq_s8_s32(x_second);
    const int16x8_t low = vmull_s8(vget_low_s8(w[0]), vget_low_s8(a));
    const int16x8_t high = vmull_high_s8(w[0], a);
    sums[0] = vpadalq_s16(sums[0], vmlal_s8(low, vget_low_s8(w[1]), vget_low_s8(b)));
    sums[1] = vpadalq_s16(sums[1], vmlal_high_s8(high, w[1], b));
}

SIMD_INLINE void add_products(int32x4_t sums[PRODUCTS], const int8x16_t w[2], int8x16_t x)
{
    const int32x4_t words = vreinterpretq_s32_s8(x);
    add_row(sums, w, vdupq_laneq_s32(words, 0), vdupq_laneq_s32(words, 1));
    add_row(sums + 2, w, vdupq_laneq_s32(words, 2), vdupq_laneq_s32(words, 3));
}
#endif

// Two vectors of a pair of rows and four outputs.
struct pair {
    vf part[2];
};

SIMD_INLINE struct pair pair_of_products(const int32x4_t sums[PRODUCTS])
{
    struct pair p;
    for (size_t i = 0; i < 2; i++) {
        const int32x4_t sum =
            PRODUCTS == 4 ? vpaddq_s32(sums[2 * i], sums[(2 * i + 1) % PRODUCTS]) : sums[i];
        p.part[i] = vcvtq_f32_s32(sum);
    }
    return p;
}

#if defined(__ARM_FEATURE_MATMUL_INT8)
SIMD_INLINE struct pair pair_of_rows(vf first, vf second)
{
    return (struct pair){{vzip1q_f32(first, second), vzip2q_f32(first, second)}};
}

SIMD_INLINE struct pair rows_of_pair(struct pair p)
{
    return (struct pair){{vuzp1q_f32(p.part[0], p.part[1]), vuzp2q_f32(p.part[0], p.part[1])}};
}

// Numbers of four outputs times those of two rows.
SIMD_INLINE struct pair pair_times(vf outputs, float32x2_t rows)
{
    const vf both = vcombine_f32(rows, rows);
    return (struct pair){{vmulq_f32(vzip1q_f32(outputs, outputs), both),
                          vmulq_f32(vzip2q_f32(outputs, outputs), both)}};
}

SIMD_INLINE struct pair pair_fma(vf outputs, float32x2_t rows, struct pair sum)
{
    const vf both = vcombine_f32(rows, rows);
    return (struct pair){{vfmaq_f32(sum.part[0], vzip1q_f32(outputs, outputs), both),
                          vfmaq_f32(sum.part[1], vzip2q_f32(outputs, outputs), both)}};
}
#else
SIMD_INLINE struct pair pair_of_rows(vf first, vf second)
{
    return (struct pair){{first, second}};
}

SIMD_INLINE struct pair rows_of_pair(struct pair p)
{
    return p;
}

SIMD_INLINE struct pair pair_times(vf outputs, float32x2_t rows)
{
    return (struct pair){{vmulq_lane_f32(outputs, rows, 0), vmulq_lane_f32(outputs, rows, 1)}};
}

SIMD_INLINE struct pair pair_fma(vf outputs, float32x2_t rows, struct pair sum)
{
    return (struct pair){{vfmaq_lane_f32(sum.part[0], outputs, rows, 0),
                          vfmaq_lane_f32(sum.part[1], outputs, rows, 1)}};
}
#endif

// The last of an odd number of rows stands for two.
SIMD_INLINE int8x16_t pair_codes(const int8_t *x, const bool is_single)
{
    const int8x8_t first = vld1_s8(x);
    return is_single ? vcombine_s8(first, first) : vld1q_s8(x);
}

SIMD_INLINE float32x2_t pair_numbers(const float *x, const bool is_single)
{
    return is_single ? vld1_dup_f32(x) : vld1_f32(x);
}

SIMD_INLINE struct pair load_pair(struct acc acc, size_t row, const bool is_single)
{
    const float *at = acc.data + row * acc.stride;
    if (acc.is_fresh) {
        return (struct pair){{vf_set1(0.0f), vf_set1(0.0f)}};
    }
    return pair_of_rows(vf_load(at), vf_load(is_single ? at : at + acc.stride));
}

SIMD_INLINE void store_pair(struct acc acc, size_t row, struct pair sums, const bool is_single)
{
    const struct pair rows = rows_of_pair(sums);
    vf_store(acc.data + row * acc.stride, rows.part[0]);
    if (!is_single) {
        vf_store(acc.data + (row + 1) * acc.stride, rows.part[1]);
    }
}

// Where the numbers of a block of 32 columns stand: codes of four outputs and of a panel's rows,
// and their scales, minima and sums.
struct block {
    const uint8_t *w;
    const float *w_scale;
    const float *w_min;
    const int8_t *x;
    const float *x_scale;
    const float *x_sum;
};

// The next sub_block columns.
SIMD_INLINE void add_sub_block(struct pair *sums, struct block *b, const size_t n_rows,
                               const size_t sub_block, const bool has_min)
{
    const size_t n_pairs = (n_rows + 1) / 2;
    const size_t n_whole = n_rows / 2;
    int32x4_t products[PAIRS_MAX][PRODUCTS];
#pragma GCC unroll 16
    for (size_t i = 0; i < PAIRS_MAX * PRODUCTS; i++) {
        products[i / PRODUCTS][i % PRODUCTS] = vdupq_n_s32(0);
    }
#pragma GCC unroll 4
    for (size_t k = 0; k < KERN_BLOCK && k < sub_block; k += 8) {
        const int8x16_t codes[2] = {vreinterpretq_s8_u8(vld1q_u8(b->w)),
                                    vreinterpretq_s8_u8(vld1q_u8(b->w + W_SECOND))};
        int8x16_t x[PAIRS_MAX];
#pragma GCC unroll 8
        for (size_t p = 0; p < PAIRS_MAX && p < n_pairs; p++) {
            x[p] = pair_codes(b->x + 16 * p, p >= n_whole);
        }
#pragma GCC unroll 8
        for (size_t p = 0; p < PAIRS_MAX && p < n_pairs; p++) {
            add_products(products[p], codes, x[p]);
        }
        b->w += 8 * KERN_LANES;
        b->x += 8 * n_rows;
    }
    const vf scale = vf_load(b->w_scale);
    const vf min = has_min ? vf_load(b->w_min) : vf_set1(0.0f);
#pragma GCC unroll 8
    for (size_t p = 0; p < PAIRS_MAX && p < n_pairs; p++) {
        const struct pair factor =
            pair_times(scale, pair_numbers(b->x_scale + 2 * p, p >= n_whole));
        const struct pair product = pair_of_products(products[p]);
        sums[p].part[0] = vf_fma(product.part[0], factor.part[0], sums[p].part[0]);
        sums[p].part[1] = vf_fma(product.part[1], factor.part[1], sums[p].part[1]);
        if (has_min) {
            sums[p] = pair_fma(min, pair_numbers(b->x_sum + 2 * p, p >= n_whole), sums[p]);
        }
    }
    b->w_scale += KERN_LANES;
    b->w_min += KERN_LANES;
    b->x_sum += n_rows;
}

// Four outputs of a panel; strip and acc begin with them.
SIMD_INLINE void dot_rows(struct acc acc, struct code_strip strip, struct panel panel, size_t n,
                          const size_t n_rows, const size_t sub_block, const bool has_min)
{
    const size_t n_pairs = (n_rows + 1) / 2;
    const size_t n_whole = n_rows / 2;
    struct pair sums[PAIRS_MAX];
    struct block block = {.w = strip.codes,
                          .w_scale = strip.scale,
                          .w_min = strip.min,
                          .x = panel.codes,
                          .x_scale = panel.scale,
                          .x_sum = sub_block == 16 ? panel.sum_16 : panel.sum_32};
#pragma GCC unroll 8
    for (size_t p = 0; p < PAIRS_MAX && p < n_pairs; p++) {
        sums[p] = load_pair(acc, 2 * p, p >= n_whole);
    }
    for (size_t b = 0; b < n / KERN_BLOCK; b++) {
#pragma GCC unroll 2
        for (size_t k = 0; k < KERN_BLOCK; k += sub_block) {
            add_sub_block(sums, &block, n_rows, sub_block, has_min);
        }
        block.x_scale += n_rows;
    }
#pragma GCC unroll 8
    for (size_t p = 0; p < PAIRS_MAX && p < n_pairs; p++) {
        store_pair(acc, 2 * p, sums[p], p >= n_whole);
    }
}

SIMD_INLINE void dot_kind(struct acc acc, struct code_strip strip, struct panel panel, size_t n,
                          const size_t sub_block, const bool has_min)
{
    for (size_t part = 0; part < KERN_LANES; part += 4) {
        struct acc a = acc;
        a.data += part;
        const struct code_strip s = {.codes = strip.codes + STRIP_UNIT * part,
                                     .scale = strip.scale + part,
                                     .min = strip.min + part};
        switch (panel.n_rows) {
        case 1:
            dot_rows(a, s, panel, n, 1, sub_block, has_min);
            break;
        case 2:
            dot_rows(a, s, panel, n, 2, sub_block, has_min);
            break;
        case 3:
            dot_rows(a, s, panel, n, 3, sub_block, has_min);
            break;
        case 4:
            dot_rows(a, s, panel, n, 4, sub_block, has_min);
            break;
        case 5:
            dot_rows(a, s, panel, n, 5, sub_block, has_min);
            break;
        case 6:
            dot_rows(a, s, panel, n, 6, sub_block, has_min);
            break;
        case 7:
            dot_rows(a, s, panel, n, 7, sub_block, has_min);
            break;
        case 8:
            dot_rows(a, s, panel, n, 8, sub_block, has_min);
            break;
        default:
            break;
        }
    }
}

static void dot_q8(struct acc acc, struct code_strip strip, struct panel panel,
                   const struct kern_coding *coding, size_t n)
{
    if (coding->sub_block == 16 && coding->has_min) {
        dot_kind(acc, strip, panel, n, 16, true);
    } else if (coding->sub_block == 16) {
        dot_kind(acc, strip, panel, n, 16, false);
    } else if (coding->has_min) {
        dot_kind(acc, strip, panel, n, 32, true);
    } else {
        dot_kind(acc, strip, panel, n, 32, false);
    }
}

// As in kern_simd_peak.c.
static uint64_t peak_q8(uint8_t *sink, size_t n_rounds)
{
    enum { PEAK_PAIRS = 6 };
    const int8x16_t codes[2] = {vdupq_n_s8(3), vdupq_n_s8(5)};
    int32x4_t sums[PEAK_PAIRS * PRODUCTS];
    int8x16_t x = vdupq_n_s8(7);
    memset(sums, 0, sizeof(sums));
    for (size_t round = 0; round < n_rounds; round++) {
        // The compiler must believe that x changes, or it multiplies once and only adds.
        __asm__ volatile("" : "+w"(x));
#pragma GCC unroll 6
        for (size_t i = 0; i < PEAK_PAIRS; i++) {
            add_products(sums + i * PRODUCTS, codes, x);
        }
    }
    for (size_t i = 1; i < PEAK_PAIRS * PRODUCTS; i++) {
        sums[0] = vaddq_s32(sums[0], sums[i]);
    }
    vi_store(sink, vreinterpretq_u32_s32(sums[0]));
    return (uint64_t)n_rounds * PEAK_PAIRS * 2 * 4 * 8;
}

void KERN_INIT_Q8(struct kern *k)
{
    k->panel_rows = SIMD_ROWS_Q8;
    k->order = (struct kern_order){.strip_unit = STRIP_UNIT, .strip_signed = true, .panel_unit = 8};
    k->dot_q8 = dot_q8;
    k->peak_q8 = peak_q8;
}
