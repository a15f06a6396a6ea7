// SPDX-License-Identifier: Apache-2.0
// simd.h for NEON on aarch64, with or without the dot product and i8mm instructions.
#ifndef CARAT_COMPUTE_CPU_SIMD_NEON_H
#define CARAT_COMPUTE_CPU_SIMD_NEON_H

#include <arm_neon.h>

enum {
    SIMD_LANES = 4,
    SIMD_ROWS_F32 = 8,
};
#define SIMD_ROWS_Q8 8 // rows of x in a panel of int8; known to the preprocessor

typedef float32x4_t vf;
typedef uint32x4_t vi;

// ------------------------------------------------------------------------------------ f32

static inline vf vf_load(const float *p)
{
    return vld1q_f32(p);
}

static inline void vf_store(float *p, vf a)
{
    vst1q_f32(p, a);
}

static inline vf vf_set1(float x)
{
    return vdupq_n_f32(x);
}

static inline vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return vdivq_f32(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

static inline vf vf_max(vf a, vf b)
{
    return vmaxq_f32(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return vminq_f32(a, b);
}

static inline vf vf_where_less(vf a, vf b, vf yes, vf no)
{
    return vbslq_f32(vcltq_f32(a, b), yes, no);
}

// ------------------------------------------------------------------------------------ integers

static inline vi vi_load(const void *p)
{
    return vreinterpretq_u32_u8(vld1q_u8(p));
}

static inline void vi_store(void *p, vi a)
{
    vst1q_u8(p, vreinterpretq_u8_u32(a));
}

static inline vi vi_set1(uint32_t x)
{
    return vdupq_n_u32(x);
}

static inline vi vi_add(vi a, vi b)
{
    return vaddq_u32(a, b);
}

static inline vi vi_sub(vi a, vi b)
{
    return vsubq_u32(a, b);
}

static inline vi vi_mul(vi a, vi b)
{
    return vmulq_u32(a, b);
}

static inline vi vi_and(vi a, vi b)
{
    return vandq_u32(a, b);
}

static inline vi vi_or(vi a, vi b)
{
    return vorrq_u32(a, b);
}

static inline vi vi_xor(vi a, vi b)
{
    return veorq_u32(a, b);
}

static inline vi vi_shl(vi a, int n)
{
    return a << (uint32_t)n; // of constants an instruction of its own
}

static inline vi vi_shr(vi a, int n)
{
    return a >> (uint32_t)n;
}

static inline vi vi_sar(vi a, int n)
{
    return vreinterpretq_u32_s32(vreinterpretq_s32_u32(a) >> n);
}

static inline vi vi_high_nibbles(vi a)
{
    return vreinterpretq_u32_u8(vshrq_n_u8(vreinterpretq_u8_u32(a), 4));
}

static inline vi vi_join_nibbles(vi low, vi high)
{
    return vreinterpretq_u32_u8(
        vsliq_n_u8(vreinterpretq_u8_u32(low), vreinterpretq_u8_u32(high), 4));
}

static inline vi vi_max_u32(vi a, vi b)
{
    return vmaxq_u32(a, b);
}

static inline vf vf_from_vi(vi a)
{
    return vcvtq_f32_s32(vreinterpretq_s32_u32(a));
}

static inline vi vi_from_vf(vf a)
{
    return vreinterpretq_u32_s32(vcvtnq_s32_f32(a));
}

static inline vf vf_of_bits(vi a)
{
    return vreinterpretq_f32_u32(a);
}

static inline vi vi_of_bits(vf a)
{
    return vreinterpretq_u32_f32(a);
}

static inline vf vf_from_f16(vi a)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(a)));
}

static inline vf vf_load_f16(const void *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

static inline vi vi_load_u16(const void *p)
{
    return vmovl_u16(vreinterpret_u16_u8(vld1_u8(p)));
}

static inline vi vi_load_i8(const void *p)
{
    uint32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four)));
    return vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(wide)));
}

static inline vi vi_look_up(vi a, const uint8_t table[16])
{
    return vreinterpretq_u32_u8(vqtbl1q_u8(vld1q_u8(table), vreinterpretq_u8_u32(a)));
}

static inline void vf_load_pairs(vf *a, vf *b, const float *p)
{
    const float32x4x2_t pairs = vld2q_f32(p);
    *a = pairs.val[0];
    *b = pairs.val[1];
}

// ------------------------------------------------------------------------------------ rows to
// lanes

static inline vi vi_join_low(vi a, vi b) // the lower halves of both
{
    return vreinterpretq_u32_u64(vtrn1q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b)));
}

static inline vi vi_join_high(vi a, vi b)
{
    return vreinterpretq_u32_u64(vtrn2q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b)));
}

static inline void vi_load_rows(vi out[4], const uint8_t *p, size_t stride)
{
    const vi a = vi_load(p);
    const vi b = vi_load(p + stride);
    const vi c = vi_load(p + 2 * stride);
    const vi d = vi_load(p + 3 * stride);
    const vi ab_even = vtrn1q_u32(a, b);
    const vi ab_odd = vtrn2q_u32(a, b);
    const vi cd_even = vtrn1q_u32(c, d);
    const vi cd_odd = vtrn2q_u32(c, d);
    out[0] = vi_join_low(ab_even, cd_even);
    out[1] = vi_join_low(ab_odd, cd_odd);
    out[2] = vi_join_high(ab_even, cd_even);
    out[3] = vi_join_high(ab_odd, cd_odd);
}

static inline uint32_t vi_word_at(const void *p)
{
    uint32_t word;
    __builtin_memcpy(&word, p, sizeof(word));
    return word;
}

static inline vi vi_load_words(const uint8_t *p, size_t stride)
{
    const uint32_t words[4] = {vi_word_at(p), vi_word_at(p + stride), vi_word_at(p + 2 * stride),
                               vi_word_at(p + 3 * stride)};
    return vld1q_u32(words);
}

// ------------------------------------------------------------------------------------ int8
// products

struct vi_codes {
    vi first;
    vi second;
};

// Codes are multiplied as signed bytes: those below 64 as they are, so that zero times the sum of x
// has to come off, wide ones with their zero, 128, taken off.
static inline bool vi_has_zero(uint8_t run)
{
    return run != SIMD_WIDE;
}

static inline struct vi_codes vi_codes_of(vi first, vi second, uint8_t zero, uint8_t run)
{
    (void)zero;
    const vi top = vi_set1(run == SIMD_WIDE ? 0x80808080u : 0);
    return (struct vi_codes){.first = vi_xor(first, top), .second = vi_xor(second, top)};
}

// Eight columns of the rows from `part` on to those of a strip, as kern_neon_q8.c wants them.
static inline void vi_store_codes(uint8_t *p, size_t part, vi first, vi second, uint8_t zero)
{
    const uint8x16_t z = vdupq_n_u8(zero);
    const vi a = vreinterpretq_u32_u8(vsubq_u8(vreinterpretq_u8_u32(first), z));
    const vi b = vreinterpretq_u32_u8(vsubq_u8(vreinterpretq_u8_u32(second), z));
#if defined(__ARM_FEATURE_MATMUL_INT8)
    vi_store(p + 8 * part, vzip1q_u32(a, b));
    vi_store(p + 8 * part + 16, vzip2q_u32(a, b));
#else
    vi_store(p + 4 * part, a);
    vi_store(p + 4 * part + 4 * KERN_LANES, b);
#endif
}

// And back.
static inline void vi_stored_codes(vi codes[2], const uint8_t *p, size_t part, uint8_t zero)
{
    const uint8x16_t z = vdupq_n_u8(zero);
#if defined(__ARM_FEATURE_MATMUL_INT8)
    const vi a = vi_load(p + 8 * part);
    const vi b = vi_load(p + 8 * part + 16);
    const vi first = vuzp1q_u32(a, b);
    const vi second = vuzp2q_u32(a, b);
#else
    const vi first = vi_load(p + 4 * part);
    const vi second = vi_load(p + 4 * part + 4 * KERN_LANES);
#endif
    codes[0] = vreinterpretq_u32_u8(vaddq_u8(vreinterpretq_u8_u32(first), z));
    codes[1] = vreinterpretq_u32_u8(vaddq_u8(vreinterpretq_u8_u32(second), z));
}

// What the products of a sub-block begin with.
static inline vi vi_dot_begin(vi sum, uint8_t run)
{
    (void)run;
    return sum;
}

static inline vi vi_dot_end(vi sum, vi part, uint8_t run)
{
    (void)sum;
    (void)run;
    return part;
}

// The products with sixteen columns of one row, whose bytes follow each other.
#if defined(__ARM_FEATURE_DOTPROD)
static inline vi vi_dot_16(vi part, const struct vi_codes w[2], const int8_t *x, uint8_t run)
{
    (void)run;
    const int8x16_t four = vld1q_s8(x);
    int32x4_t s = vreinterpretq_s32_u32(part);
    s = vdotq_laneq_s32(s, vreinterpretq_s8_u32(w[0].first), four, 0);
    s = vdotq_laneq_s32(s, vreinterpretq_s8_u32(w[0].second), four, 1);
    s = vdotq_laneq_s32(s, vreinterpretq_s8_u32(w[1].first), four, 2);
    s = vdotq_laneq_s32(s, vreinterpretq_s8_u32(w[1].second), four, 3);
    return vreinterpretq_u32_s32(s);
}
#else
// Two products of 128 * 127 fit 16 bits, of 63 * 127 four.
static inline int32x4_t vi_dot_8(int32x4_t sum, struct vi_codes w, vi x_first, vi x_second,
                                 uint8_t run)
{
    const int8x16_t a = vreinterpretq_s8_u32(w.first);
    const int8x16_t b = vreinterpretq_s8_u32(w.second);
    const int8x16_t c = vreinterpretq_s8_u32(x_first);
    const int8x16_t d = vreinterpretq_s8_u32(x_second);
    const int16x8_t low =
        vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(c)), vget_low_s8(b), vget_low_s8(d));
    const int16x8_t high = vmlal_high_s8(vmull_high_s8(a, c), b, d);
    if (run == SIMD_WIDE) {
        return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
    }
    return vpadalq_s16(sum, vpaddq_s16(low, high));
}

static inline vi vi_dot_16(vi part, const struct vi_codes w[2], const int8_t *x, uint8_t run)
{
    const vi four = vreinterpretq_u32_s8(vld1q_s8(x));
    int32x4_t s = vreinterpretq_s32_u32(part);
    s = vi_dot_8(s, w[0], vdupq_laneq_u32(four, 0), vdupq_laneq_u32(four, 1), run);
    s = vi_dot_8(s, w[1], vdupq_laneq_u32(four, 2), vdupq_laneq_u32(four, 3), run);
    return vreinterpretq_u32_s32(s);
}
#endif

#endif
