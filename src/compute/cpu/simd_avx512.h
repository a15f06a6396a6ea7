// SPDX-License-Identifier: Apache-2.0
// simd.h for AVX-512 (F, BW, VL, DQ), with or without VNNI.
#ifndef CARAT_COMPUTE_CPU_SIMD_AVX512_H
#define CARAT_COMPUTE_CPU_SIMD_AVX512_H

#include <immintrin.h>

enum {
    SIMD_LANES = 16,
    SIMD_ROWS_F32 = 8, // rows of x that share a strip's vector in registers
#if defined(__AVX512VNNI__)
    SIMD_KEEPS_CODES = false, // a product waits for the one before: rows in between hide that
#else
    SIMD_KEEPS_CODES = true,
#endif
};

#define SIMD_ROWS_Q8 12 // rows of x in a panel of int8; known to the preprocessor

typedef __m512 vf;
typedef __m512i vi;

// ------------------------------------------------------------------------------------ f32

static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void vf_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}

static inline vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c) // a * b + c
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

static inline vf vf_where_less(vf a, vf b, vf yes, vf no) // a < b ? yes : no
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}

// ------------------------------------------------------------------------------------ integers

static inline vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

static inline void vi_store(void *p, vi a)
{
    _mm512_storeu_si512(p, a);
}

static inline vi vi_set1(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}

static inline vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}

static inline vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}

static inline vi vi_mul(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}

static inline vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}

static inline vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

static inline vi vi_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}

static inline vi vi_shl(vi a, int n)
{
    return _mm512_slli_epi32(a, (unsigned)n);
}

static inline vi vi_shr(vi a, int n) // zeros come in
{
    return _mm512_srli_epi32(a, (unsigned)n);
}

static inline vi vi_sar(vi a, int n) // copies of the sign come in
{
    return _mm512_srai_epi32(a, (unsigned)n);
}

static inline vi vi_high_nibbles(vi a) // the upper half of each byte
{
    return vi_and(vi_shr(a, 4), vi_set1(0x0f0f0f0fu));
}

static inline vi vi_join_nibbles(vi low, vi high) // bytes of two halves; those of low have no other
{
    return vi_or(low, vi_shl(high, 4));
}

static inline vi vi_max_u32(vi a, vi b)
{
    return _mm512_max_epu32(a, b);
}

static inline vf vf_from_vi(vi a) // by value
{
    return _mm512_cvtepi32_ps(a);
}

static inline vi vi_from_vf(vf a) // by value, to the nearest, ties to even
{
    return _mm512_cvtps_epi32(a);
}

static inline vf vf_of_bits(vi a)
{
    return _mm512_castsi512_ps(a);
}

static inline vi vi_of_bits(vf a)
{
    return _mm512_castps_si512(a);
}

// The low 16 bits of each lane as a half.
static inline vf vf_from_f16(vi a)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a));
}

static inline vf vf_load_f16(const void *p) // SIMD_LANES halves
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

static inline vi vi_load_u16(const void *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
}

static inline vi vi_load_i8(const void *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(p));
}

// Each byte (0 .. 15) replaced by that entry.
static inline vi vi_look_up(vi a, const uint8_t table[16])
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table)), a);
}

// a, b: pairs (a0 b0 a1 b1 ...) taken apart from 2 * SIMD_LANES floats.
static inline void vf_load_pairs(vf *a, vf *b, const float *p)
{
    const vi even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const vf low = vf_load(p);
    const vf high = vf_load(p + SIMD_LANES);
    *a = _mm512_permutex2var_ps(low, even, high);
    *b = _mm512_permutex2var_ps(low, _mm512_add_epi32(even, _mm512_set1_epi32(1)), high);
}

// ------------------------------------------------------------------------------------ rows to
// lanes

static inline vi vi_four_rows(const uint8_t *p, size_t stride) // every fourth row
{
    const uint8_t *q = p + 8 * stride;
    const __m256i low =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)p)),
                                _mm_loadu_si128((const void *)(p + 4 * stride)), 1);
    const __m256i high =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)q)),
                                _mm_loadu_si128((const void *)(q + 4 * stride)), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// 16 bytes of SIMD_LANES rows: out[j] has 32-bit word j of row i in lane i.
static inline void vi_load_rows(vi out[4], const uint8_t *p, size_t stride)
{
    const vi a = vi_four_rows(p, stride);
    const vi b = vi_four_rows(p + stride, stride);
    const vi c = vi_four_rows(p + 2 * stride, stride);
    const vi d = vi_four_rows(p + 3 * stride, stride);
    const vi ab_low = _mm512_unpacklo_epi32(a, b);
    const vi ab_high = _mm512_unpackhi_epi32(a, b);
    const vi cd_low = _mm512_unpacklo_epi32(c, d);
    const vi cd_high = _mm512_unpackhi_epi32(c, d);
    out[0] = _mm512_unpacklo_epi64(ab_low, cd_low);
    out[1] = _mm512_unpackhi_epi64(ab_low, cd_low);
    out[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
    out[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
}

static inline int vi_word_at(const uint8_t *p)
{
    int word;
    __builtin_memcpy(&word, p, sizeof(word));
    return word;
}

static inline __m128i vi_four_words(const uint8_t *p, size_t stride)
{
    return _mm_setr_epi32(vi_word_at(p), vi_word_at(p + stride), vi_word_at(p + 2 * stride),
                          vi_word_at(p + 3 * stride));
}

// One 32-bit word of each row.
static inline vi vi_load_words(const uint8_t *p, size_t stride)
{
    const uint8_t *q = p + 8 * stride;
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(vi_four_words(p, stride)),
                                                vi_four_words(p + 4 * stride, stride), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(vi_four_words(q, stride)),
                                                 vi_four_words(q + 4 * stride, stride), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// ------------------------------------------------------------------------------------ int8
// products

// Eight columns of codes, ready to multiply.
struct vi_codes {
    vi first;
    vi second;
    __mmask64 first_signs; // of wide codes without VNNI
    __mmask64 second_signs;
};

#if defined(__AVX512VNNI__)
static inline vi vi_dpbusd(vi sum, vi codes, vi x)
{
    return _mm512_dpbusd_epi32(sum, codes, x);
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
        // Signed codes as magnitude and sign: a sum of two products then fits 16 bits.
        const vi top = _mm512_set1_epi8((char)0x80);
        w.first = _mm512_xor_si512(w.first, top);
        w.second = _mm512_xor_si512(w.second, top);
        w.first_signs = _mm512_movepi8_mask(w.first);
        w.second_signs = _mm512_movepi8_mask(w.second);
        w.first = _mm512_abs_epi8(w.first);
        w.second = _mm512_abs_epi8(w.second);
    }
    return w;
}

// What the products of a sub-block begin with: where all of them fit they add up in 16 bits.
static inline vi vi_dot_begin(vi sum, uint8_t run)
{
    return run < 16 ? sum : _mm512_setzero_si512();
}

static inline vi vi_dot(vi part, struct vi_codes w, const int8_t *x, const int8_t *x_second,
                        uint8_t run)
{
    const vi ones = _mm512_set1_epi16(1);
    vi a = _mm512_set1_epi32(vi_word_at((const void *)x));
    vi b = _mm512_set1_epi32(vi_word_at((const void *)x_second));
    if (run == SIMD_WIDE) {
        const vi zero = _mm512_setzero_si512();
        a = _mm512_mask_sub_epi8(a, w.first_signs, zero, a);
        b = _mm512_mask_sub_epi8(b, w.second_signs, zero, b);
        part = _mm512_add_epi32(part, _mm512_madd_epi16(_mm512_maddubs_epi16(w.first, a), ones));
        return _mm512_add_epi32(part, _mm512_madd_epi16(_mm512_maddubs_epi16(w.second, b), ones));
    }
    // Codes up to 63: four products of 127 * 63 fit 16 bits.
    const vi both =
        _mm512_add_epi16(_mm512_maddubs_epi16(w.first, a), _mm512_maddubs_epi16(w.second, b));
    if (run < 16) {
        return _mm512_add_epi32(part, _mm512_madd_epi16(both, ones));
    }
    part = _mm512_add_epi16(part, both);
    // Left to itself the compiler multiplies all before it adds, and runs out of registers.
    __asm__("" : "+v"(part));
    return part;
}

static inline vi vi_dot_end(vi sum, vi part, uint8_t run)
{
    return run < 16 ? part : _mm512_add_epi32(sum, _mm512_madd_epi16(part, _mm512_set1_epi16(1)));
}

#endif

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

static inline struct vi_codes vi_load_codes(const uint8_t *p, uint8_t zero, uint8_t run)
{
    return vi_codes_of(vi_load(p), vi_load(p + 4 * KERN_LANES), zero, run);
}

// The same for sixteen columns and one row, whose bytes follow each other.
static inline vi vi_dot_16(vi part, const struct vi_codes w[2], const int8_t *x, uint8_t run)
{
    part = vi_dot(part, w[0], x, x + 4, run);
    return vi_dot(part, w[1], x + 8, x + 12, run);
}

#endif
