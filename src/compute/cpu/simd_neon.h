// SPDX-License-Identifier: Apache-2.0
// simd.h for NEON on aarch64, with or without the dot product and i8mm instructions.
#ifndef CARAT_COMPUTE_CPU_SIMD_NEON_H
#define CARAT_COMPUTE_CPU_SIMD_NEON_H

#include <arm_neon.h>

enum {
    SIMD_LANES = 4,
    SIMD_ROWS_F32 = 8,
    SIMD_KEEPS_CODES = false, // too few registers for those of a sub-block
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
    return vshlq_u32(a, vdupq_n_s32(n));
}

static inline vi vi_shr(vi a, int n)
{
    return vshlq_u32(a, vdupq_n_s32(-n));
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

#if defined(__ARM_FEATURE_MATMUL_INT8)
static inline bool vi_has_zero(uint8_t run)
{
    (void)run;
    return true;
}

static inline struct vi_codes vi_codes_of(vi first, vi second, uint8_t zero, uint8_t run)
{
    (void)zero;
    (void)run;
    return (struct vi_codes){.first = first, .second = second};
}
#else
// Codes are multiplied as signed numbers, with the zero taken off.
static inline bool vi_has_zero(uint8_t run)
{
    (void)run;
    return false;
}

static inline struct vi_codes vi_codes_of(vi first, vi second, uint8_t zero, uint8_t run)
{
    (void)run;
    const uint8x16_t z = vdupq_n_u8(zero);
    return (struct vi_codes){
        .first = vreinterpretq_u32_u8(vsubq_u8(vreinterpretq_u8_u32(first), z)),
        .second = vreinterpretq_u32_u8(vsubq_u8(vreinterpretq_u8_u32(second), z))};
}
#endif

static inline struct vi_codes vi_load_codes(const uint8_t *p, uint8_t zero, uint8_t run)
{
    return vi_codes_of(vi_load(p), vi_load(p + 4 * KERN_LANES), zero, run);
}

static inline int32x4_t vi_dot_words(int32x4_t sum, vi w, vi x)
{
    const int8x16_t b = vreinterpretq_s8_u32(x);
#if defined(__ARM_FEATURE_MATMUL_INT8)
    return vusdotq_s32(sum, vreinterpretq_u8_u32(w), b);
#elif defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, vreinterpretq_s8_u32(w), b);
#else
    // Two products of 128 * 127 fit 16 bits.
    const int8x16_t a = vreinterpretq_s8_u32(w);
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    const int16x8_t high = vmull_high_s8(a, b);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}

// What the products of a sub-block begin with.
static inline vi vi_dot_begin(vi sum, uint8_t run)
{
    (void)run;
    return sum;
}

static inline vi vi_dot(vi sum, struct vi_codes w, const int8_t *x, const int8_t *x_second,
                        uint8_t run)
{
    (void)run;
    int32x4_t s = vreinterpretq_s32_u32(sum);
    s = vi_dot_words(s, w.first, vdupq_n_u32(vi_word_at(x)));
    s = vi_dot_words(s, w.second, vdupq_n_u32(vi_word_at(x_second)));
    return vreinterpretq_u32_s32(s);
}

// The same for sixteen columns and one row, whose bytes follow each other.
static inline vi vi_dot_16(vi sum, const struct vi_codes w[2], const int8_t *x, uint8_t run)
{
    (void)run;
    const uint32x4_t four = vreinterpretq_u32_s8(vld1q_s8(x));
    int32x4_t s = vreinterpretq_s32_u32(sum);
    s = vi_dot_words(s, w[0].first, vdupq_laneq_u32(four, 0));
    s = vi_dot_words(s, w[0].second, vdupq_laneq_u32(four, 1));
    s = vi_dot_words(s, w[1].first, vdupq_laneq_u32(four, 2));
    s = vi_dot_words(s, w[1].second, vdupq_laneq_u32(four, 3));
    return vreinterpretq_u32_s32(s);
}

static inline vi vi_dot_end(vi sum, vi part, uint8_t run)
{
    (void)sum;
    (void)run;
    return part;
}

#endif
