// SPDX-License-Identifier: Apache-2.0
// The table of element types, and the conversions of single 16-bit floats. The layouts and numbers
// are those of GGUF; docs/formats.md describes each.
#include "formats/dtype.h"

#include <string.h>

#include "base/mem.h"
#include "formats/quant.h"

// clang-format off
const struct dtype_info dtypes[DTYPE_COUNT] = {
    // type               name       safetensors id  values bytes unpack         pack
    [DTYPE_F32]     = {"F32",     "F32",     0,  1,   4,   unpack_f32,    pack_f32},
    [DTYPE_F16]     = {"F16",     "F16",     1,  1,   2,   unpack_f16,    pack_f16},
    [DTYPE_BF16]    = {"BF16",    "BF16",    30, 1,   2,   unpack_bf16,   pack_bf16},
    [DTYPE_Q4_0]    = {"Q4_0",    NULL,      2,  32,  18,  unpack_q4_0,   pack_q4_0},
    [DTYPE_Q4_1]    = {"Q4_1",    NULL,      3,  32,  20,  unpack_q4_1,   pack_q4_1},
    [DTYPE_Q5_0]    = {"Q5_0",    NULL,      6,  32,  22,  unpack_q5_0,   pack_q5_0},
    [DTYPE_Q5_1]    = {"Q5_1",    NULL,      7,  32,  24,  unpack_q5_1,   pack_q5_1},
    [DTYPE_Q8_0]    = {"Q8_0",    NULL,      8,  32,  34,  unpack_q8_0,   pack_q8_0},
    [DTYPE_Q2_K]    = {"Q2_K",    NULL,      10, 256, 84,  unpack_q2_k,   pack_q2_k},
    [DTYPE_Q3_K]    = {"Q3_K",    NULL,      11, 256, 110, unpack_q3_k,   pack_q3_k},
    [DTYPE_Q4_K]    = {"Q4_K",    NULL,      12, 256, 144, unpack_q4_k,   pack_q4_k},
    [DTYPE_Q5_K]    = {"Q5_K",    NULL,      13, 256, 176, unpack_q5_k,   pack_q5_k},
    [DTYPE_Q6_K]    = {"Q6_K",    NULL,      14, 256, 210, unpack_q6_k,   pack_q6_k},
    [DTYPE_IQ4_NL]  = {"IQ4_NL",  NULL,      20, 32,  18,  unpack_iq4_nl, pack_iq4_nl},
    [DTYPE_IQ4_XS]  = {"IQ4_XS",  NULL,      23, 256, 136, unpack_iq4_xs, pack_iq4_xs},
    [DTYPE_MXFP4]   = {"MXFP4",   NULL,      39, 32,  17,  unpack_mxfp4,  NULL},
    [DTYPE_NVFP4]   = {"NVFP4",   NULL,      40, 64,  36,  unpack_nvfp4,  NULL},
    [DTYPE_F64]     = {"F64",     "F64",     28, 1,   8,   NULL,          NULL},
    [DTYPE_I8]      = {"I8",      "I8",      24, 1,   1,   NULL,          NULL},
    [DTYPE_I16]     = {"I16",     "I16",     25, 1,   2,   NULL,          NULL},
    [DTYPE_I32]     = {"I32",     "I32",     26, 1,   4,   NULL,          NULL},
    [DTYPE_I64]     = {"I64",     "I64",     27, 1,   8,   NULL,          NULL},
    [DTYPE_U8]      = {"U8",      "U8",      -1, 1,   1,   NULL,          NULL},
    [DTYPE_U16]     = {"U16",     "U16",     -1, 1,   2,   NULL,          NULL},
    [DTYPE_U32]     = {"U32",     "U32",     -1, 1,   4,   NULL,          NULL},
    [DTYPE_U64]     = {"U64",     "U64",     -1, 1,   8,   NULL,          NULL},
    [DTYPE_BOOL]    = {"BOOL",    "BOOL",    -1, 1,   1,   NULL,          NULL},
    [DTYPE_F8_E4M3] = {"F8_E4M3", "F8_E4M3", -1, 1,   1,   NULL,          NULL},
    [DTYPE_F8_E5M2] = {"F8_E5M2", "F8_E5M2", -1, 1,   1,   NULL,          NULL},
    [DTYPE_IQ2_XXS] = {"IQ2_XXS", NULL,      16, 256, 66,  NULL,          NULL},
    [DTYPE_IQ2_XS]  = {"IQ2_XS",  NULL,      17, 256, 74,  NULL,          NULL},
    [DTYPE_IQ2_S]   = {"IQ2_S",   NULL,      22, 256, 82,  NULL,          NULL},
    [DTYPE_IQ3_XXS] = {"IQ3_XXS", NULL,      18, 256, 98,  NULL,          NULL},
    [DTYPE_IQ3_S]   = {"IQ3_S",   NULL,      21, 256, 110, NULL,          NULL},
    [DTYPE_IQ1_S]   = {"IQ1_S",   NULL,      19, 256, 50,  NULL,          NULL},
    [DTYPE_IQ1_M]   = {"IQ1_M",   NULL,      29, 256, 56,  NULL,          NULL},
    [DTYPE_TQ1_0]   = {"TQ1_0",   NULL,      34, 256, 54,  NULL,          NULL},
    [DTYPE_TQ2_0]   = {"TQ2_0",   NULL,      35, 256, 66,  NULL,          NULL},
    [DTYPE_Q1_0]    = {"Q1_0",    NULL,      41, 128, 18,  NULL,          NULL},
    [DTYPE_Q2_0]    = {"Q2_0",    NULL,      42, 64,  18,  NULL,          NULL},
};
// clang-format on

enum dtype dtype_from_gguf(uint32_t id)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (dtypes[i].gguf_id >= 0 && (uint32_t)dtypes[i].gguf_id == id) {
            return (enum dtype)i;
        }
    }
    return DTYPE_NONE;
}

enum dtype dtype_from_safetensors(const char *name)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (dtypes[i].safetensors && strcmp(dtypes[i].safetensors, name) == 0) {
            return (enum dtype)i;
        }
    }
    return DTYPE_NONE;
}

bool dtype_row_size(size_t *out, enum dtype type, uint64_t n)
{
    if ((unsigned)type >= DTYPE_COUNT || n % dtypes[type].block_values != 0) {
        return false;
    }
    uint64_t blocks = n / dtypes[type].block_values;
    return blocks <= SIZE_MAX && size_mul(out, (size_t)blocks, dtypes[type].block_size);
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t rest = h & 0x7FFFu;
    if (rest >= 0x7C00) { // infinity, NaN
        return float_of(sign | 0x7F800000 | (rest & 0x3FF) << 13);
    }
    if (rest >= 0x0400) { // the exponent's bias goes from 15 to 127
        return float_of(sign | (rest + ((127 - 15) << 10)) << 13);
    }
    // Zero or a multiple of 2^-24, which is a normal number in f32.
    float value = (float)rest * 0x1p-24f;
    return sign ? -value : value;
}

uint16_t f16_from_f32(float f)
{
    uint32_t bits = bits_of(f);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t rest = bits & 0x7FFFFFFF;
    if (rest > 0x7F800000) { // NaN: keep what fits of its payload, and keep it quiet
        return (uint16_t)(sign | 0x7E00 | (rest >> 13 & 0x3FF));
    }
    if (rest >= 0x47800000) { // 65536 and more
        return (uint16_t)(sign | 0x7C00);
    }
    if (rest >= 0x38800000) { // 2^-14 and more: normal. A carry may run on into infinity.
        uint32_t odd = rest >> 13 & 1;
        return (uint16_t)(sign | ((rest - ((127 - 15) << 23) + 0xFFF + odd) >> 13));
    }
    // Below, units of 2^-24: adding 1.5 * 2^-1 rounds to that unit, half to even, in the low bits.
    float sum = float_of(rest) + 0.75f;
    return (uint16_t)(sign | (bits_of(sum) - bits_of(0.75f)));
}

float bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t bf16_from_f32(float f)
{
    uint32_t bits = bits_of(f);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) { // NaN: rounding could make it an infinity
        return (uint16_t)(bits >> 16 | 0x0040);
    }
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
