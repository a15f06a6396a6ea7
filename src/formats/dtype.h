// SPDX-License-Identifier: Apache-2.0
// The table of element types: how a row of weights is stored, and back to f32. The layouts are
// those of GGUF; docs/formats.md describes each.
#ifndef CARAT_FORMATS_DTYPE_H
#define CARAT_FORMATS_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The values are carat's own; GGUF's numbers are in the table.
enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_Q4_0,
    DTYPE_Q4_1,
    DTYPE_Q5_0,
    DTYPE_Q5_1,
    DTYPE_Q8_0,
    DTYPE_Q2_K,
    DTYPE_Q3_K,
    DTYPE_Q4_K,
    DTYPE_Q5_K,
    DTYPE_Q6_K,
    DTYPE_IQ4_NL,
    DTYPE_IQ4_XS,
    DTYPE_MXFP4,
    DTYPE_NVFP4,
    DTYPE_COUNT_COMPUTE, // the types above can be weights; those below can be stored and listed
                         // only
    DTYPE_F64 = DTYPE_COUNT_COMPUTE,
    DTYPE_I8,
    DTYPE_I16,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_U8,
    DTYPE_U16,
    DTYPE_U32,
    DTYPE_U64,
    DTYPE_BOOL,
    DTYPE_F8_E4M3,
    DTYPE_F8_E5M2,
    DTYPE_IQ2_XXS,
    DTYPE_IQ2_XS,
    DTYPE_IQ2_S,
    DTYPE_IQ3_XXS,
    DTYPE_IQ3_S,
    DTYPE_IQ1_S,
    DTYPE_IQ1_M,
    DTYPE_TQ1_0,
    DTYPE_TQ2_0,
    DTYPE_Q1_0,
    DTYPE_Q2_0,
    DTYPE_COUNT,
    DTYPE_NONE = DTYPE_COUNT,
};

struct dtype_info {
    const char *name;        // "Q4_0"
    const char *safetensors; // its name in a safetensors header, or NULL
    int gguf_id;             // -1: not in GGUF
    uint32_t block_values;   // values per block
    uint32_t block_size;     // bytes per block
    // n values, a multiple of block_values, to f32. NULL for types that cannot be weights.
    void (*unpack)(float *out, const void *blocks, size_t n);
    // f32 to blocks, with the least sum of importance[i] * error[i]^2 that a search finds; NULL
    // where nothing in carat writes the type. importance may be NULL (all count the same) and is
    // not used by F32, F16 and BF16. A block with an infinity or a NaN becomes NaN throughout.
    void (*pack)(void *blocks, const float *values, const float *importance, size_t n);
};

extern const struct dtype_info dtypes[DTYPE_COUNT];

enum dtype dtype_from_gguf(uint32_t id);             // DTYPE_NONE when unknown
enum dtype dtype_from_safetensors(const char *name); // DTYPE_NONE when unknown
// Bytes of a row of n values; false when n is not a whole number of blocks or the size overflows.
bool dtype_row_size(size_t *out, enum dtype type, uint64_t n);

float f16_to_f32(uint16_t h);
uint16_t f16_from_f32(float f); // rounds to nearest even; overflows to infinity
float bf16_to_f32(uint16_t h);
uint16_t bf16_from_f32(float f); // rounds to nearest even; keeps NaN

#endif
