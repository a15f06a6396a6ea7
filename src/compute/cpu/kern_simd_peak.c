// SPDX-License-Identifier: Apache-2.0
// Float multiply-adds as fast as this level's instructions allow: operands stay in registers or in
// a few hot cache lines, and there are as many independent sums as it takes to hide an
// instruction's latency. Nothing useful is computed; what a product reaches is compared with these
// rates.
#include "compute/cpu/simd.h"

enum { PEAK_SUMS = 12 };

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
    k->peak_f32 = peak_f32;
    k->peak_read = peak_read;
}
