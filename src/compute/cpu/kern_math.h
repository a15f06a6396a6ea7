// SPDX-License-Identifier: Apache-2.0
// The constants that exp, tanh and gelu are made of, shared by all levels. The polynomials are
// those of the Cephes library (expf.c, tanhf.c).
#ifndef CARAT_COMPUTE_CPU_KERN_MATH_H
#define CARAT_COMPUTE_CPU_KERN_MATH_H

// clang-format off
#define EXP_MIN      (-87.0f)
#define EXP_MAX      88.0f
#define EXP_LOG2E    1.44269504088896341f
#define EXP_ROUND    12582912.0f // 1.5 * 2^23
#define EXP_LN2_HIGH 0.693359375f
#define EXP_LN2_LOW  (-2.12194440e-4f)
#define EXP_P0       1.9875691500e-4f
#define EXP_P1       1.3981999507e-3f
#define EXP_P2       8.3334519073e-3f
#define EXP_P3       4.1665795894e-2f
#define EXP_P4       1.6666665459e-1f
#define EXP_P5       5.0000001201e-1f

#define TANH_NEAR    0.625f
#define TANH_P0      (-5.70498872745e-3f)
#define TANH_P1      2.06390887954e-2f
#define TANH_P2      (-5.37397155531e-2f)
#define TANH_P3      1.33314422036e-1f
#define TANH_P4      (-3.33332819422e-1f)

#define GELU_FACTOR  (-1.5957691216057308f) // -2 sqrt(2 / pi)
#define GELU_CUBE    0.044715f

#define PACK_SCALE_MIN 1.17549435e-38f // smallest normal float
// clang-format on

#endif
