// SPDX-License-Identifier: Apache-2.0
// exp in the vectors of simd.h, as exp_f32 in kern_generic.c defines it.
#ifndef CARAT_COMPUTE_CPU_SIMD_EXP_H
#define CARAT_COMPUTE_CPU_SIMD_EXP_H

#include "compute/cpu/kern_math.h"
#include "compute/cpu/simd.h"

static inline vf exp_vf(vf x)
{
    const vf c = vf_min(vf_set1(EXP_MAX), vf_max(vf_set1(EXP_MIN), x));
    const vf t = vf_fma(c, vf_set1(EXP_LOG2E), vf_set1(EXP_ROUND));
    const vf n = vf_sub(t, vf_set1(EXP_ROUND));
    vf r = vf_fma(n, vf_set1(-EXP_LN2_HIGH), c);
    r = vf_fma(n, vf_set1(-EXP_LN2_LOW), r);
    vf p = vf_set1(EXP_P0);
    p = vf_fma(p, r, vf_set1(EXP_P1));
    p = vf_fma(p, r, vf_set1(EXP_P2));
    p = vf_fma(p, r, vf_set1(EXP_P3));
    p = vf_fma(p, r, vf_set1(EXP_P4));
    p = vf_fma(p, r, vf_set1(EXP_P5));
    const vf y = vf_add(vf_fma(p, vf_mul(r, r), r), vf_set1(1.0f));
    const vi steps = vi_sub(vi_of_bits(t), vi_of_bits(vf_set1(EXP_ROUND)));
    const vf power = vf_of_bits(vi_shl(vi_add(steps, vi_set1(127)), 23));
    return vf_where_less(x, vf_set1(EXP_MIN), vf_set1(0.0f), vf_mul(y, power));
}

#endif
