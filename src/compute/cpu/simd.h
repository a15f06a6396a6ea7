// SPDX-License-Identifier: Apache-2.0
// The few vector operations that the kern_simd_*.c files are written in, for whatever instruction
// set this translation unit is compiled for. Those files are compiled once per level, each time
// with its flags. Everything here is static, so nothing leaks into code that runs everywhere. A
// vector has SIMD_LANES 32-bit lanes; 16 lanes, a strip's width, are SIMD_PARTS vectors.
#ifndef CARAT_COMPUTE_CPU_SIMD_H
#define CARAT_COMPUTE_CPU_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "compute/cpu/kern.h"

enum { SIMD_WIDE = 4 }; // the run of codes above 63: see struct kern_coding

#if defined(__AVX512F__)
#include "compute/cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "compute/cpu/simd_avx2.h"
#elif defined(__ARM_NEON)
#include "compute/cpu/simd_neon.h"
#endif

#define SIMD_INLINE static inline __attribute__((always_inline))

enum { SIMD_PARTS = KERN_LANES / SIMD_LANES };

// The build names the functions of each level.
#if defined(KERN_INIT)
void KERN_INIT(struct kern *k);
void KERN_INIT_DOT(struct kern *k);
void KERN_INIT_PEAK(struct kern *k);
void KERN_INIT_ATTEND(struct kern *k);
#endif
#if defined(KERN_INIT_Q8)          // avxvnni has these two alone
void KERN_INIT_Q8(struct kern *k); // of kern_x86_q8.c or kern_neon_q8.c
void KERN_INIT_STRIP(struct kern *k);
#endif
#if defined(KERN_INIT_TILE)
void KERN_INIT_TILE(struct kern *k); // of kern_tile.c alone
#endif

#endif
