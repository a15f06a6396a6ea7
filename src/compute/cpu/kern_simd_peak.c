// SPDX-License-Identifier: Apache-2.0
// Multiply-adds as fast as this level's instructions allow: operands stay in registers or in a few
// hot cache lines, and there are as many independent sums as it takes to hide an instruction's
// latency. Nothing useful is computed; what a product reaches is compared with these rates.
#include "compute/cpu/simd.h"

enum {
    PEAK_SUMS = 12,
    RUN = 32, // of codes of 4 bits, which are the fastest
};

#if !defined(__ARM_NEON) // which has kern_neon_q8.c
static uint64_t peak_q8(uint8_t *sink, size_t n_rounds)
{
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
#endif

static uint64_t peak_f32(uint8_t *sink, size_t n_rounds)
{
    vf sums[PEAK_SUMS];
    for (size_t i = 0; i < PEAK_SUMS; i++) {
        sums[i] = vf_set1((float)i);
    }
    const vf w = vf_set1(0.5f);
    const vf x = vf_set1(1.5f);
    for (size_t round = 0; round < n_rounds; round++) {
#pragma GCC unroll 12
        for (size_t i = 0; i < PEAK_SUMS; i++) {
            sums[i] = vf_fma(sums[i], w, x);
        }
    }
    for (size_t i = 1; i < PEAK_SUMS; i++) {
        sums[0] = vf_add(sums[0], sums[i]);
    }
    vi_store(sink, vi_of_bits(sums[0]));
    return (uint64_t)n_rounds * PEAK_SUMS * SIMD_LANES;
}

static void peak_read(uint8_t *sink, const uint8_t *data, size_t size)
{
    enum { STEP = 4 * 4 * KERN_LANES }; // bytes: four lines of a cache
    vi sums[STEP / 4 / SIMD_LANES];
    for (size_t i = 0; i < STEP / 4 / SIMD_LANES; i++) {
        sums[i] = vi_set1(0);
    }
    for (size_t at = 0; at + STEP <= size; at += STEP) {
        for (size_t i = 0; i < STEP / 4 / SIMD_LANES; i++) {
            sums[i] = vi_xor(sums[i], vi_load(data + at + 4 * SIMD_LANES * i));
        }
    }
    for (size_t i = 1; i < STEP / 4 / SIMD_LANES; i++) {
        sums[0] = vi_xor(sums[0], sums[i]);
    }
    vi_store(sink, sums[0]);
}

void KERN_INIT_PEAK(struct kern *k)
{
#if !defined(__ARM_NEON)
    k->peak_q8 = peak_q8;
#endif
    k->peak_f32 = peak_f32;
    k->peak_read = peak_read;
}
