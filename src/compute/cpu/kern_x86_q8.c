// SPDX-License-Identifier: Apache-2.0
// The int8 products of many rows on x86: a strip with a panel of rows, in the vectors of simd.h.
// The number of rows and the kind of type are constants in each copy, so that sums stay in
// registers.
#include "compute/cpu/simd.h"

// What comes off a row's products where codes are multiplied with their zero.
SIMD_INLINE vi zero_part(int32_t minus, int zero_shift, const bool has_zero)
{
    return has_zero ? vi_shl(vi_set1((uint32_t)minus), zero_shift) : vi_set1(0);
}

// The products of a sub-block's codes with each row, eight columns after another.
SIMD_INLINE void add_columns(vi *part, const uint8_t *w, const int8_t *x, uint8_t zero,
                             const uint8_t run, const size_t n_rows, const size_t sub_block)
{
    for (size_t k = 0; k < sub_block; k += 8) {
        const struct vi_codes codes = vi_load_codes(w + k * KERN_LANES, zero, run);
        for (size_t r = 0; r < n_rows; r++) {
            const int8_t *at = x + k * n_rows + 4 * r;
            part[r] = vi_dot(part[r], codes, at, at + 4 * n_rows, run);
        }
    }
}

// The same row after row, where registers hold the codes of the whole sub-block, a run.
SIMD_INLINE void add_rows(vi *part, const uint8_t *w, const int8_t *x, uint8_t zero,
                          const uint8_t run, const size_t n_rows)
{
    struct vi_codes codes[KERN_BLOCK / 8];
#pragma GCC unroll 4
    for (size_t k = 0; k < run; k += 8) {
        codes[k / 8] = vi_load_codes(w + k * KERN_LANES, zero, run);
    }
#pragma GCC unroll 12
    for (size_t r = 0; r < n_rows; r++) {
#pragma GCC unroll 4
        for (size_t k = 0; k < run; k += 8) {
            const int8_t *at = x + k * n_rows + 4 * r;
            part[r] = vi_dot(part[r], codes[k / 8], at, at + 4 * n_rows, run);
        }
    }
}

// SIMD_LANES outputs of a panel.
SIMD_INLINE void dot_q8_part(struct acc acc, struct code_strip strip, struct panel panel, size_t n,
                             int zero_shift, const size_t n_rows, const size_t sub_block,
                             const bool has_min, const uint8_t run)
{
    const bool has_zero = !has_min && vi_has_zero(run);
    const uint8_t zero = has_min ? 0 : (uint8_t)(1u << zero_shift);
    const int32_t *minus = sub_block == 16 ? panel.minus_16 : panel.minus_32;
    const float *sums = sub_block == 16 ? panel.sum_16 : panel.sum_32;
    const int8_t *x = panel.codes;
    const uint8_t *w = strip.codes;
    vf sum[SIMD_ROWS_Q8];
    for (size_t r = 0; r < n_rows; r++) {
        sum[r] = acc.is_fresh ? vf_set1(0.0f) : vf_load(acc.data + r * acc.stride);
    }
    for (size_t b = 0; b < n / sub_block; b++) {
        const int32_t *off = minus + b * n_rows;
        vi part[SIMD_ROWS_Q8];
        for (size_t r = 0; r < n_rows; r++) {
            part[r] = vi_dot_begin(zero_part(off[r], zero_shift, has_zero), run);
        }
        if (SIMD_KEEPS_CODES && run == sub_block) {
            add_rows(part, w, x, zero, run, n_rows);
        } else {
            add_columns(part, w, x, zero, run, n_rows, sub_block);
        }
        w += sub_block * KERN_LANES;
        x += sub_block * n_rows;
        const vf scale = vf_load(strip.scale + b * KERN_LANES);
        const float *x_scale = panel.scale + b * sub_block / KERN_BLOCK * n_rows;
        for (size_t r = 0; r < n_rows; r++) {
            const vi isum = vi_dot_end(zero_part(off[r], zero_shift, has_zero), part[r], run);
            sum[r] = vf_fma(vf_from_vi(isum), vf_mul(scale, vf_set1(x_scale[r])), sum[r]);
            if (has_min) {
                const vf min = vf_load(strip.min + b * KERN_LANES);
                sum[r] = vf_fma(min, vf_set1(sums[b * n_rows + r]), sum[r]);
            }
        }
    }
    for (size_t r = 0; r < n_rows; r++) {
        vf_store(acc.data + r * acc.stride, sum[r]);
    }
}

SIMD_INLINE void dot_q8_kind(struct acc acc, struct code_strip strip, struct panel panel, size_t n,
                             int zero_shift, const size_t sub_block, const bool has_min,
                             const uint8_t run)
{
    for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
        struct acc a = acc;
        a.data += part;
        const struct code_strip s = {
            .codes = strip.codes + 4 * part, .scale = strip.scale + part, .min = strip.min + part};
        switch (panel.n_rows) {
        case 1:
            dot_q8_part(a, s, panel, n, zero_shift, 1, sub_block, has_min, run);
            break;
        case 2:
            dot_q8_part(a, s, panel, n, zero_shift, 2, sub_block, has_min, run);
            break;
        case 3:
            dot_q8_part(a, s, panel, n, zero_shift, 3, sub_block, has_min, run);
            break;
        case 4:
            dot_q8_part(a, s, panel, n, zero_shift, 4, sub_block, has_min, run);
            break;
#if SIMD_ROWS_Q8 > 4
        case 5:
            dot_q8_part(a, s, panel, n, zero_shift, 5, sub_block, has_min, run);
            break;
        case 6:
            dot_q8_part(a, s, panel, n, zero_shift, 6, sub_block, has_min, run);
            break;
        case 7:
            dot_q8_part(a, s, panel, n, zero_shift, 7, sub_block, has_min, run);
            break;
        case 8:
            dot_q8_part(a, s, panel, n, zero_shift, 8, sub_block, has_min, run);
            break;
#endif
#if SIMD_ROWS_Q8 > 8
        case 9:
            dot_q8_part(a, s, panel, n, zero_shift, 9, sub_block, has_min, run);
            break;
        case 10:
            dot_q8_part(a, s, panel, n, zero_shift, 10, sub_block, has_min, run);
            break;
        case 11:
            dot_q8_part(a, s, panel, n, zero_shift, 11, sub_block, has_min, run);
            break;
        case 12:
            dot_q8_part(a, s, panel, n, zero_shift, 12, sub_block, has_min, run);
            break;
#endif
        default:
            break;
        }
    }
}

static void dot_q8(struct acc acc, struct code_strip strip, struct panel panel,
                   const struct kern_coding *coding, size_t n)
{
    const int shift = coding->zero_shift;
    const bool is_whole = coding->run == coding->sub_block;
    if (coding->sub_block == 16) {
        if (coding->has_min) {
            dot_q8_kind(acc, strip, panel, n, shift, 16, true, 16);
        } else if (is_whole) {
            dot_q8_kind(acc, strip, panel, n, shift, 16, false, 16);
        } else {
            dot_q8_kind(acc, strip, panel, n, shift, 16, false, 8);
        }
    } else if (coding->has_min) {
        if (is_whole) {
            dot_q8_kind(acc, strip, panel, n, shift, 32, true, 32);
        } else {
            dot_q8_kind(acc, strip, panel, n, shift, 32, true, 8);
        }
    } else if (is_whole) {
        dot_q8_kind(acc, strip, panel, n, shift, 32, false, 32);
    } else if (coding->run == SIMD_WIDE) {
        dot_q8_kind(acc, strip, panel, n, shift, 32, false, SIMD_WIDE);
    } else {
        dot_q8_kind(acc, strip, panel, n, shift, 32, false, 8);
    }
}

// As in kern_simd_peak.c, with codes of 4 bits, which are the fastest.
static uint64_t peak_q8(uint8_t *sink, size_t n_rounds)
{
    enum { PEAK_SUMS = 12, RUN = 32 };
    _Alignas(64) uint8_t w[2 * 4 * KERN_LANES];
    int8_t x[RUN * PEAK_SUMS];
    for (size_t i = 0; i < sizeof(w); i++) {
        w[i] = (uint8_t)(i % 16);
    }
    for (size_t i = 0; i < sizeof(x); i++) {
        x[i] = (int8_t)(i % 7);
    }
    const struct vi_codes codes = vi_load_codes(w, 8, RUN);
    vi sums[PEAK_SUMS];
    for (size_t i = 0; i < PEAK_SUMS; i++) {
        sums[i] = vi_set1((uint32_t)i);
    }
    for (size_t round = 0; round < n_rounds; round++) {
        // The compiler must believe that x changes, or it multiplies once and only adds.
        __asm__ volatile("" : : "r"(x) : "memory");
#pragma GCC unroll 12
        for (size_t i = 0; i < PEAK_SUMS; i++) {
            const int8_t *at = x + RUN * i;
            vi part = vi_dot_begin(sums[i], RUN);
#pragma GCC unroll 4
            for (size_t k = 0; k < RUN; k += 8) {
                part = vi_dot(part, codes, at + k, at + k + 4, RUN);
            }
            sums[i] = vi_dot_end(sums[i], part, RUN);
        }
    }
    for (size_t i = 1; i < PEAK_SUMS; i++) {
        sums[0] = vi_add(sums[0], sums[i]);
    }
    vi_store(sink, sums[0]);
    return (uint64_t)n_rounds * PEAK_SUMS * SIMD_LANES * RUN;
}

void KERN_INIT_Q8(struct kern *k)
{
    k->panel_rows = SIMD_ROWS_Q8;
    k->dot_q8 = dot_q8;
    k->peak_q8 = peak_q8;
}
