// SPDX-License-Identifier: Apache-2.0
// The float products over a strip, and the packing of activations to int8, in the vectors of
// simd.h. The number of rows and the kind of type are constants in each copy, so that sums stay in
// registers.
#include "compute/cpu/simd.h"

#include <math.h>

#include "compute/cpu/kern_math.h"

// ------------------------------------------------------------------------------------ float

// SIMD_LANES outputs of n_rows rows of x.
SIMD_INLINE void dot_f32_rows(struct acc acc, const float *strip, size_t strip_stride,
                              const float *x, size_t x_stride, size_t n, const size_t n_rows)
{
    vf sum[SIMD_ROWS_F32];
    for (size_t r = 0; r < n_rows; r++) {
        sum[r] = acc.is_fresh ? vf_set1(0.0f) : vf_load(acc.data + r * acc.stride);
    }
    for (size_t k = 0; k < n; k++) {
        const vf w = vf_load(strip + k * strip_stride);
        for (size_t r = 0; r < n_rows; r++) {
            sum[r] = vf_fma(w, vf_set1(x[r * x_stride + k]), sum[r]);
        }
    }
    for (size_t r = 0; r < n_rows; r++) {
        vf_store(acc.data + r * acc.stride, sum[r]);
    }
}

static void dot_f32(struct acc acc, const float *strip, size_t strip_stride, const float *x,
                    size_t x_stride, size_t n_rows, size_t n)
{
    for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
        struct acc a = acc;
        a.data += part;
        const float *s = strip + part;
        size_t r = 0;
        for (; r + SIMD_ROWS_F32 <= n_rows;
             r += SIMD_ROWS_F32, a.data += SIMD_ROWS_F32 * a.stride) {
            dot_f32_rows(a, s, strip_stride, x + r * x_stride, x_stride, n, SIMD_ROWS_F32);
        }
        if (n_rows - r >= 4) {
            dot_f32_rows(a, s, strip_stride, x + r * x_stride, x_stride, n, 4);
            a.data += 4 * a.stride;
            r += 4;
        }
        if (n_rows - r >= 2) {
            dot_f32_rows(a, s, strip_stride, x + r * x_stride, x_stride, n, 2);
            a.data += 2 * a.stride;
            r += 2;
        }
        if (r < n_rows) {
            dot_f32_rows(a, s, strip_stride, x + r * x_stride, x_stride, n, 1);
        }
    }
}

// ------------------------------------------------------------------------- float, few rows

// One row of x gives one sum per lane, and each product waits for the one before: several strips
// side by side keep the multipliers busy. Rows of x that share what was unpacked:
#if defined(__AVX2__) && !defined(__AVX512F__)
enum { SHARED_ROWS = 2 };
#else
enum { SHARED_ROWS = 4 };
#endif
enum { FETCHED_AHEAD = 2048 }; // bytes of each strip

// Column i of the one or two whose numbers stand in a word of a packed strip.
SIMD_INLINE vf number_of(vi word, const size_t i, const enum dtype type)
{
    if (type == DTYPE_F32) {
        return vf_of_bits(word);
    }
    if (type == DTYPE_F16) {
        return vf_from_f16(i == 0 ? word : vi_shr(word, 16));
    }
    return vf_of_bits(i == 0 ? vi_shl(word, 16) : vi_and(word, vi_set1(0xffff0000u)));
}

struct beside {
    vf sums[KERN_F32_STRIPS][SHARED_ROWS];
    const uint8_t *packed; // of the word at hand
    size_t strip_size;
    const float *x; // of the word's first column
    size_t x_stride;
};

// The first n_columns columns of a word.
SIMD_INLINE void beside_add(struct beside *b, const enum dtype type, const size_t n_columns,
                            const size_t n_strips, const size_t n_rows)
{
#pragma GCC unroll 4
    for (size_t s = 0; s < KERN_F32_STRIPS && s < n_strips; s++) {
        const uint8_t *at = b->packed + s * b->strip_size;
        const vi word = vi_load(at);
        __builtin_prefetch(at + FETCHED_AHEAD);
#pragma GCC unroll 2
        for (size_t i = 0; i < 2 && i < n_columns; i++) {
            const vf number = number_of(word, i, type);
#pragma GCC unroll 4
            for (size_t r = 0; r < SHARED_ROWS && r < n_rows; r++) {
                const vf x = vf_set1(b->x[r * b->x_stride + i]);
                b->sums[s][r] = vf_fma(number, x, b->sums[s][r]);
            }
        }
    }
}

SIMD_INLINE void rows_f32_beside(struct acc acc, const uint8_t *packed, size_t strip_size,
                                 struct f32_rows x, size_t n, const enum dtype type,
                                 const size_t n_strips, const size_t n_rows)
{
    const size_t columns = type == DTYPE_F32 ? 1 : 2; // of a word
    for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
        struct beside b = {.packed = packed + part * 4,
                           .strip_size = strip_size,
                           .x = x.data,
                           .x_stride = x.stride};
        float *to = acc.data + part;
        for (size_t s = 0; s < n_strips; s++) {
            for (size_t r = 0; r < n_rows; r++) {
                const float *at = to + r * acc.stride + s * KERN_LANES;
                b.sums[s][r] = acc.is_fresh ? vf_set1(0.0f) : vf_load(at);
            }
        }
        for (size_t k = 0; k + columns <= n; k += columns) {
            beside_add(&b, type, columns, n_strips, n_rows);
            b.packed += KERN_LANES * 4;
            b.x += columns;
        }
        if (n % columns != 0) {
            beside_add(&b, type, 1, n_strips, n_rows);
        }
        for (size_t s = 0; s < n_strips; s++) {
            for (size_t r = 0; r < n_rows; r++) {
                vf_store(to + r * acc.stride + s * KERN_LANES, b.sums[s][r]);
            }
        }
    }
}

SIMD_INLINE void rows_f32_type(struct acc acc, const uint8_t *packed, size_t strip_size,
                               struct f32_rows x, size_t n_rows, size_t n, const enum dtype type,
                               const size_t n_strips)
{
    while (n_rows > 0) {
        size_t done = 1;
        if (n_rows >= SHARED_ROWS) {
            done = SHARED_ROWS;
            rows_f32_beside(acc, packed, strip_size, x, n, type, n_strips, SHARED_ROWS);
        } else if (SHARED_ROWS > 2 && n_rows >= 2) {
            done = 2;
            rows_f32_beside(acc, packed, strip_size, x, n, type, n_strips, 2);
        } else {
            rows_f32_beside(acc, packed, strip_size, x, n, type, n_strips, 1);
        }
        n_rows -= done;
        x.data += done * x.stride;
        acc.data += done * acc.stride;
    }
}

SIMD_INLINE void rows_f32_of(struct acc acc, const uint8_t *packed, size_t strip_size,
                             size_t n_strips, struct f32_rows x, size_t n_rows, size_t n,
                             const enum dtype type)
{
    if (n_strips == KERN_F32_STRIPS) {
        rows_f32_type(acc, packed, strip_size, x, n_rows, n, type, KERN_F32_STRIPS);
    } else {
        rows_f32_type(acc, packed, strip_size, x, n_rows, n, type, 1);
    }
}

static void rows_f32(struct acc acc, const uint8_t *packed, size_t strip_size, size_t n_strips,
                     struct f32_rows x, size_t n_rows, size_t n, enum dtype type)
{
    if (type == DTYPE_F32) {
        rows_f32_of(acc, packed, strip_size, n_strips, x, n_rows, n, DTYPE_F32);
    } else if (type == DTYPE_F16) {
        rows_f32_of(acc, packed, strip_size, n_strips, x, n_rows, n, DTYPE_F16);
    } else {
        rows_f32_of(acc, packed, strip_size, n_strips, x, n_rows, n, DTYPE_BF16);
    }
}

// ------------------------------------------------------------------------------------ packing

static uint32_t largest_bits(const float *x)
{
    vi top = vi_set1(0);
    for (size_t i = 0; i < KERN_BLOCK; i += SIMD_LANES) {
        top = vi_max_u32(top, vi_and(vi_of_bits(vf_load(x + i)), vi_set1(0x7fffffffu)));
    }
    uint32_t lanes[SIMD_LANES];
    vi_store(lanes, top);
    uint32_t largest = 0;
    for (size_t i = 0; i < SIMD_LANES; i++) {
        largest = lanes[i] > largest ? lanes[i] : largest;
    }
    return largest;
}

SIMD_INLINE void put_codes(int8_t *to, const int8_t *codes, size_t r, size_t n_rows,
                           const size_t unit)
{
    for (size_t i = 0; i < KERN_BLOCK; i += unit) {
        memcpy(to + i * n_rows + unit * r, codes + i, unit);
    }
}

static void pack_block(struct panel p, size_t r, size_t block, const float *x)
{
    const uint32_t bits = largest_bits(x);
    float top;
    memcpy(&top, &bits, sizeof(top));
    const bool is_finite = bits < 0x7f800000u;
    const float scale = top / 127.0f;
    const bool is_zero = !is_finite || scale < PACK_SCALE_MIN;
    const vf inverse = vf_set1(is_zero ? 0.0f : 127.0f / top);
    int32_t codes[KERN_BLOCK] = {0};
    for (size_t i = 0; i < KERN_BLOCK && !is_zero; i += SIMD_LANES) {
        vi_store(codes + i, vi_from_vf(vf_mul(vf_load(x + i), inverse)));
    }
    int32_t sums[2] = {0, 0};
    for (size_t i = 0; i < 16; i++) {
        sums[0] += codes[i];
        sums[1] += codes[i + 16];
    }
    int8_t bytes[KERN_BLOCK];
    for (size_t i = 0; i < KERN_BLOCK; i++) {
        bytes[i] = (int8_t)codes[i];
    }
    int8_t *to = p.codes + block * KERN_BLOCK * p.n_rows;
    if (p.order.panel_unit == KERN_BLOCK) {
        put_codes(to, bytes, r, p.n_rows, KERN_BLOCK);
    } else if (p.order.panel_unit == 8) {
        put_codes(to, bytes, r, p.n_rows, 8);
    } else {
        put_codes(to, bytes, r, p.n_rows, 4);
    }
    const float d = is_finite ? (is_zero ? 0.0f : scale) : NAN;
    p.scale[block * p.n_rows + r] = d;
    p.minus_32[block * p.n_rows + r] = -(sums[0] + sums[1]);
    p.sum_32[block * p.n_rows + r] = (float)(sums[0] + sums[1]) * d;
    for (size_t h = 0; h < 2; h++) {
        p.minus_16[(block * 2 + h) * p.n_rows + r] = -sums[h];
        p.sum_16[(block * 2 + h) * p.n_rows + r] = (float)sums[h] * d;
    }
}

static void pack(struct panel panel, const float *x, size_t x_stride, size_t n)
{
    for (size_t r = 0; r < panel.n_rows; r++) {
        for (size_t block = 0; block < n / KERN_BLOCK; block++) {
            pack_block(panel, r, block, x + r * x_stride + block * KERN_BLOCK);
        }
    }
}

void KERN_INIT_DOT(struct kern *k)
{
    k->dot_f32 = dot_f32;
    k->rows_f32[DTYPE_F32] = rows_f32;
    k->rows_f32[DTYPE_F16] = rows_f32;
    k->rows_f32[DTYPE_BF16] = rows_f32;
    k->pack = pack;
}
