// SPDX-License-Identifier: Apache-2.0
// simd.h for AVX2 with FMA and F16C.
#ifndef CARAT_COMPUTE_CPU_SIMD_AVX2_H
#define CARAT_COMPUTE_CPU_SIMD_AVX2_H

#include <immintrin.h>

enum {
    SIMD_LANES = 8,
    SIMD_ROWS_F32 = 8,
    SIMD_KEEPS_CODES = false, // too few registers for those of a sub-block
};

#define SIMD_ROWS_Q8 4 // rows of x in a panel of int8; known to the preprocessor

typedef __m256 vf;
typedef __m256i vi;

// ------------------------------------------------------------------------------------ f32

static inline vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void vf_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a);
}

static inline vf vf_set1(float x)
{
    return _mm256_set1_ps(x);
}

static inline vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

static inline vf vf_where_less(vf a, vf b, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

// ------------------------------------------------------------------------------------ integers

static inline vi vi_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

static inline void vi_store(void *p, vi a)
{
    _mm256_storeu_si256(p, a);
}

static inline vi vi_set1(uint32_t x)
{
    return _mm256_set1_epi32((int)x);
}

static inline vi vi_add(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}

static inline vi vi_sub(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}

static inline vi vi_mul(vi a, vi b)
{
    return _mm256_mullo_epi32(a, b);
}

static inline vi vi_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}

static inline vi vi_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}

static inline vi vi_xor(vi a, vi b)
{
    return _mm256_xor_si256(a, b);
}

static inline vi vi_shl(vi a, int n)
{
    return _mm256_slli_epi32(a, n);
}

static inline vi vi_shr(vi a, int n)
{
    return _mm256_srli_epi32(a, n);
}

static inline vi vi_sar(vi a, int n)
{
    return _mm256_srai_epi32(a, n);
}

static inline vi vi_high_nibbles(vi a)
{
    return vi_and(vi_shr(a, 4), vi_set1(0x0f0f0f0fu));
}

static inline vi vi_join_nibbles(vi low, vi high)
{
    return vi_or(low, vi_shl(high, 4));
}

static inline vi vi_max_u32(vi a, vi b)
{
    return _mm256_max_epu32(a, b);
}

static inline vf vf_from_vi(vi a)
{
    return _mm256_cvtepi32_ps(a);
}

static inline vi vi_from_vf(vf a)
{
    return _mm256_cvtps_epi32(a);
}

static inline vf vf_of_bits(vi a)
{
    return _mm256_castsi256_ps(a);
}

static inline vi vi_of_bits(vf a)
{
    return _mm256_castps_si256(a);
}

static inline vf vf_from_f16(vi a)
{
    const vi low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
    const vi packed = _mm256_packus_epi32(low, low); // in each half: 4 words, twice
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
}

static inline vf vf_load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

static inline vi vi_load_u16(const void *p)
{
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(p));
}

static inline vi vi_load_i8(const void *p)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(p));
}

static inline vi vi_look_up(vi a, const uint8_t table[16])
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table)),
                               a);
}

static inline void vf_load_pairs(vf *a, vf *b, const float *p)
{
    const vf low = vf_load(p);
    const vf high = vf_load(p + SIMD_LANES);
    const vf first = _mm256_permute2f128_ps(low, high, 0x20);
    const vf second = _mm256_permute2f128_ps(low, high, 0x31);
    *a = _mm256_shuffle_ps(first, second, 0x88);
    *b = _mm256_shuffle_ps(first, second, 0xdd);
}

// ------------------------------------------------------------------------------------ rows to
// lanes

static inline vi vi_two_rows(const uint8_t *p, size_t stride) // every fourth row
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)p)),
                                   _mm_loadu_si128((const void *)(p + 4 * stride)), 1);
}

static inline void vi_load_rows(vi out[4], const uint8_t *p, size_t stride)
{
    const vi a = vi_two_rows(p, stride);
    const vi b = vi_two_rows(p + stride, stride);
    const vi c = vi_two_rows(p + 2 * stride, stride);
    const vi d = vi_two_rows(p + 3 * stride, stride);
    const vi ab_low = _mm256_unpacklo_epi32(a, b);
    const vi ab_high = _mm256_unpackhi_epi32(a, b);
    const vi cd_low = _mm256_unpacklo_epi32(c, d);
    const vi cd_high = _mm256_unpackhi_epi32(c, d);
    out[0] = _mm256_unpacklo_epi64(ab_low, cd_low);
    out[1] = _mm256_unpackhi_epi64(ab_low, cd_low);
    out[2] = _mm256_unpacklo_epi64(ab_high, cd_high);
    out[3] = _mm256_unpackhi_epi64(ab_high, cd_high);
}

static inline int vi_word_at(const uint8_t *p)
{
    int word;
    __builtin_memcpy(&word, p, sizeof(word));
    return word;
}

static inline vi vi_load_words(const uint8_t *p, size_t stride)
{
    const uint8_t *q = p + 4 * stride;
    return _mm256_setr_epi32(vi_word_at(p), vi_word_at(p + stride), vi_word_at(p + 2 * stride),
                             vi_word_at(p + 3 * stride), vi_word_at(q), vi_word_at(q + stride),
                             vi_word_at(q + 2 * stride), vi_word_at(q + 3 * stride));
}

// ------------------------------------------------------------------------------------ int8
// products

struct vi_codes {
    vi first;
    vi second;
    vi first_signed; // wide codes with their signs
    vi second_signed;
};

#if defined(__AVXVNNI__) || defined(AVXVNNI_TWIN)
static inline vi vi_dpbusd(vi sum, vi codes, vi x)
{
#if defined(AVXVNNI_TWIN)
    // The instruction for a CPU that lacks it: products of even bytes and of odd ones, in 16 bits.
    const vi even = _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(0xff)),
                                      _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    const vi odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(x, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
#else
    return _mm256_dpbusd_avx_epi32(sum, codes, x);
#endif
}

#include "compute/cpu/simd_vnni.h"
#else
static inline bool vi_has_zero(uint8_t run)
{
    return run != SIMD_WIDE;
}

static inline struct vi_codes vi_codes_of(vi first, vi second, uint8_t zero, uint8_t run)
{
    (void)zero;
    struct vi_codes w = {.first = first, .second = second};
    if (run == SIMD_WIDE) {
        const vi top = _mm256_set1_epi8((char)0x80);
        w.first_signed = _mm256_xor_si256(w.first, top);
        w.second_signed = _mm256_xor_si256(w.second, top);
        w.first = _mm256_abs_epi8(w.first_signed);
        w.second = _mm256_abs_epi8(w.second_signed);
    }
    return w;
}

// What the products of a sub-block begin with: where all of them fit they add up in 16 bits.
static inline vi vi_dot_begin(vi sum, uint8_t run)
{
    return run < 16 ? sum : _mm256_setzero_si256();
}

static inline vi vi_dot(vi part, struct vi_codes w, const int8_t *x, const int8_t *x_second,
                        uint8_t run)
{
    const vi ones = _mm256_set1_epi16(1);
    vi a = _mm256_set1_epi32(vi_word_at((const void *)x));
    vi b = _mm256_set1_epi32(vi_word_at((const void *)x_second));
    if (run == SIMD_WIDE) {
        // Magnitude of the code times x with the code's sign: two products of 128 * 127 fit 16
        // bits.
        a = _mm256_sign_epi8(a, w.first_signed);
        b = _mm256_sign_epi8(b, w.second_signed);
        part = _mm256_add_epi32(part, _mm256_madd_epi16(_mm256_maddubs_epi16(w.first, a), ones));
        return _mm256_add_epi32(part, _mm256_madd_epi16(_mm256_maddubs_epi16(w.second, b), ones));
    }
    // Codes up to 63: four products of 127 * 63 fit 16 bits.
    const vi both =
        _mm256_add_epi16(_mm256_maddubs_epi16(w.first, a), _mm256_maddubs_epi16(w.second, b));
    if (run < 16) {
        return _mm256_add_epi32(part, _mm256_madd_epi16(both, ones));
    }
    part = _mm256_add_epi16(part, both);
    // Left to itself the compiler multiplies all before it adds, and runs out of registers.
    __asm__("" : "+x"(part));
    return part;
}

static inline vi vi_dot_end(vi sum, vi part, uint8_t run)
{
    return run < 16 ? part : _mm256_add_epi32(sum, _mm256_madd_epi16(part, _mm256_set1_epi16(1)));
}
#endif

static inline struct vi_codes vi_load_codes(const uint8_t *p, uint8_t zero, uint8_t run)
{
    return vi_codes_of(vi_load(p), vi_load(p + 4 * KERN_LANES), zero, run);
}

// Eight columns of the rows from `part` on to those of a strip.
static inline void vi_store_codes(uint8_t *p, size_t part, vi first, vi second, uint8_t zero)
{
    (void)zero;
    vi_store(p + 4 * part, first);
    vi_store(p + 4 * part + 4 * KERN_LANES, second);
}

// And back.
static inline void vi_stored_codes(vi codes[2], const uint8_t *p, size_t part, uint8_t zero)
{
    (void)zero;
    codes[0] = vi_load(p + 4 * part);
    codes[1] = vi_load(p + 4 * part + 4 * KERN_LANES);
}

// The same for four columns whose codes are at hand.
static inline vi vi_dot_16(vi part, const struct vi_codes w[2], const int8_t *x, uint8_t run)
{
    part = vi_dot(part, w[0], x, x + 4, run);
    return vi_dot(part, w[1], x + 8, x + 12, run);
}

#endif
