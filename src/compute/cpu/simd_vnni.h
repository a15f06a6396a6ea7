// SPDX-License-Identifier: Apache-2.0
// The int8 products of simd_avx2.h and simd_avx512.h where one instruction, vi_dpbusd, multiplies
// unsigned codes with signed x and adds four products to each lane.
#ifndef CARAT_COMPUTE_CPU_SIMD_VNNI_H
#define CARAT_COMPUTE_CPU_SIMD_VNNI_H

// Whether codes are multiplied as they are, so that zero times the sum of x has to come off.
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

// What the products of a sub-block begin with.
static inline vi vi_dot_begin(vi sum, uint8_t run)
{
    (void)run;
    return sum;
}

// part += codes of eight columns times x: a row's two words of four columns.
static inline vi vi_dot(vi part, struct vi_codes w, const int8_t *x, const int8_t *x_second,
                        uint8_t run)
{
    (void)run;
    part = vi_dpbusd(part, w.first, vi_set1((uint32_t)vi_word_at((const void *)x)));
    return vi_dpbusd(part, w.second, vi_set1((uint32_t)vi_word_at((const void *)x_second)));
}

static inline vi vi_dot_end(vi sum, vi part, uint8_t run)
{
    (void)sum;
    (void)run;
    return part;
}

#endif
