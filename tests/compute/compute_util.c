// SPDX-License-Identifier: Apache-2.0
#include "compute_util.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "compute/cpu/kern.h"

// splitmix64 (Steele, Lea, Flood 2014).
uint32_t rng_u32(struct rng *rng)
{
    uint64_t z = (rng->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

size_t rng_below(struct rng *rng, size_t n)
{
    return rng_u32(rng) % n;
}

float rng_f32(struct rng *rng)
{
    return (float)(rng_u32(rng) >> 8) * (1.0f / 8388608.0f) - 1.0f;
}

void rng_fill(struct rng *rng, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = rng_f32(rng);
    }
}

void *test_alloc(size_t size)
{
    void *block = mem_new(size, NULL);
    require(block);
    return block;
}

static void put_f16(uint8_t *at, float f)
{
    const uint16_t h = f16_from_f32(f);
    memcpy(at, &h, sizeof(h));
}

// Where a block has half-precision factors; the other bytes may be anything.
struct factors {
    enum dtype type;
    int at[2]; // -1: none
};
static const struct factors factors[] = {
    {DTYPE_Q4_0, {0, -1}},   {DTYPE_Q4_1, {0, 2}},    {DTYPE_Q5_0, {0, -1}},
    {DTYPE_Q5_1, {0, 2}},    {DTYPE_Q8_0, {0, -1}},   {DTYPE_Q2_K, {80, 82}},
    {DTYPE_Q3_K, {108, -1}}, {DTYPE_Q4_K, {0, 2}},    {DTYPE_Q5_K, {0, 2}},
    {DTYPE_Q6_K, {208, -1}}, {DTYPE_IQ4_NL, {0, -1}}, {DTYPE_IQ4_XS, {0, -1}},
};

static void fill_block(struct rng *rng, enum dtype type, uint8_t *block)
{
    float f = rng_f32(rng);
    if (type == DTYPE_F32) {
        memcpy(block, &f, sizeof(f));
        return;
    }
    if (type == DTYPE_F16 || type == DTYPE_BF16) {
        const uint16_t h = type == DTYPE_F16 ? f16_from_f32(f) : bf16_from_f32(f);
        memcpy(block, &h, sizeof(h));
        return;
    }
    for (size_t i = 0; i < dtypes[type].block_size; i++) {
        block[i] = (uint8_t)rng_u32(rng);
    }
    if (type == DTYPE_MXFP4) {
        // Now and then one of the two subnormal powers.
        block[0] = (uint8_t)(rng_below(rng, 64) ? 118 + rng_below(rng, 8) : rng_below(rng, 2));
    }
    if (type == DTYPE_NVFP4) {
        for (size_t i = 0; i < 4; i++) {
            block[i] = (uint8_t)rng_below(rng, 256); // 0, subnormals and 0x7F included
        }
    }
    for (size_t i = 0; i < sizeof(factors) / sizeof(factors[0]); i++) {
        for (size_t k = 0; k < 2 && factors[i].type == type; k++) {
            if (factors[i].at[k] >= 0) {
                put_f16(block + factors[i].at[k], 0.05f * rng_f32(rng));
            }
        }
    }
}

struct matrix matrix_new(struct rng *rng, enum dtype type, size_t rows, size_t columns, bool is_odd)
{
    struct matrix m = {.w = {.type = type, .rows = rows, .columns = columns}};
    require(dtype_row_size(&m.w.row_size, type, columns));
    m.block = test_alloc(rows * m.w.row_size + 1);
    uint8_t *data = (uint8_t *)m.block + (is_odd ? 1 : 0);
    for (size_t i = 0; i < rows * m.w.row_size; i += dtypes[type].block_size) {
        fill_block(rng, type, data + i);
    }
    m.w.data = data;
    require(kern_strip_size(&m.w.strip_size, type, columns));
    m.w.packed = test_alloc((rows + KERN_LANES - 1) / KERN_LANES * m.w.strip_size);
    for (size_t r = 0; r < rows; r += KERN_LANES) {
        const struct strip_source from = {data + r * m.w.row_size, m.w.row_size};
        kern_pack_strip(m.w.packed + r / KERN_LANES * m.w.strip_size, from,
                        rows - r < KERN_LANES ? rows - r : KERN_LANES, columns, type);
    }
    return m;
}

void matrix_release(struct matrix *m)
{
    mem_free(m->w.packed);
    mem_free(m->block);
}

void matrix_row(float *out, const struct matrix *m, size_t row)
{
    dtypes[m->w.type].unpack(out, m->w.data + row * m->w.row_size, m->w.columns);
}
