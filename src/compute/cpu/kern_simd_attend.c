// SPDX-License-Identifier: Apache-2.0
// Attention in the vectors of simd.h. With sixteen query rows, a lane is a row of a strip when
// scores are made, so that keys need no turning; and a column of the values when they are summed.
// With few rows keys are turned in registers, from the cache's own bytes, and never stored.
#include "compute/cpu/simd.h"

#include <float.h>
#include <math.h>

#include "compute/cpu/simd_exp.h"

// Vectors of sums that stay in registers beside what they are made from.
#if defined(__AVX2__) && !defined(__AVX512F__)
enum { SUMS = 12, FEW_SUMS = 8 };
#else
enum { SUMS = 16, FEW_SUMS = 16 };
#endif
enum { CACHE_LINE = 64 };
enum { TILE = SUMS / SIMD_PARTS }; // keys, or query rows, whose sums are made together

static inline vf negate(vf a)
{
    return vf_of_bits(vi_xor(vi_of_bits(a), vi_set1(0x80000000u)));
}

// SIMD_LANES numbers of a row as stored, from column i on, a multiple of SIMD_LANES.
SIMD_INLINE vf numbers_at(const uint8_t *row, size_t i, const enum dtype type)
{
    if (type == DTYPE_F32) {
        return vf_of_bits(vi_load(row + 4 * i));
    }
    if (type == DTYPE_F16) {
        return vf_load_f16(row + 2 * i);
    }
    uint16_t scale;
    memcpy(&scale, row + i / 32 * 34, sizeof(scale));
    return vf_mul(vf_from_f16(vi_set1(scale)),
                  vf_from_vi(vi_load_i8(row + i / 32 * 34 + 2 + i % 32)));
}

// Where that column's bytes are, or near it.
SIMD_INLINE size_t column_at(size_t i, const enum dtype type)
{
    return type == DTYPE_F32 ? 4 * i : type == DTYPE_F16 ? 2 * i : i / 32 * 34;
}

// What comes next, of a cache that is read in order, is asked for bit by bit while what is here is
// multiplied: rows side by side are more streams than the processor follows by itself, and all at
// once more than it can wait for. Returns the end of these bytes.
SIMD_INLINE const uint8_t *fetch(const uint8_t *at, const size_t size)
{
#pragma GCC unroll 16
    for (size_t i = 0; i < size; i += CACHE_LINE) {
        __builtin_prefetch(at + i);
    }
    return at + size;
}

// ------------------------------------------------------------------------------------ strips

static void turn(float *strip, const float *rows, size_t stride, size_t n)
{
    const size_t whole = n / 4 * 4;
    for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
        const uint8_t *at = (const uint8_t *)(rows + part * stride);
        for (size_t k = 0; k < whole; k += 4) {
            vi w[4];
            vi_load_rows(w, at + k * sizeof(float), stride * sizeof(float));
            for (size_t i = 0; i < 4; i++) {
                vi_store(strip + (k + i) * KERN_LANES + part, w[i]);
            }
        }
    }
    for (size_t k = whole; k < n; k++) {
        for (size_t r = 0; r < KERN_LANES; r++) {
            strip[k * KERN_LANES + r] = rows[r * stride + k];
        }
    }
}

// next is the value of KERN_KEYS positions ahead.
SIMD_INLINE void rebuild_key(float *out, const uint8_t *value, const uint8_t *next,
                             const float *norm, const float *table, size_t n_pairs, size_t half,
                             const enum dtype type)
{
    size_t i = 0;
    for (; i + SIMD_LANES <= n_pairs; i += SIMD_LANES) {
        vf c;
        vf s;
        __builtin_prefetch(next + column_at(i, type));
        __builtin_prefetch(next + column_at(i + half, type));
        vf_load_pairs(&c, &s, table + 2 * i);
        const vf a = vf_mul(numbers_at(value, i, type), vf_load(norm + i));
        const vf b = vf_mul(numbers_at(value, i + half, type), vf_load(norm + i + half));
        vf_store(out + i, vf_fma(a, c, negate(vf_mul(b, s))));
        vf_store(out + i + n_pairs, vf_fma(b, c, vf_mul(a, s)));
    }
    for (; i < n_pairs; i++) { // only of floats
        float ab[2];
        memcpy(&ab[0], value + i * sizeof(float), sizeof(float));
        memcpy(&ab[1], value + (i + half) * sizeof(float), sizeof(float));
        const float c = table[2 * i];
        const float s = table[2 * i + 1];
        const float a = ab[0] * norm[i];
        const float b = ab[1] * norm[i + half];
        out[i] = fmaf(a, c, -(b * s));
        out[i + n_pairs] = fmaf(b, c, a * s);
    }
}

static void rebuild_keys(float *out, size_t stride, struct strip_source values, size_t n_keys,
                         const float *norm, const float *table, size_t n_pairs, size_t half,
                         enum dtype type)
{
    for (size_t j = 0; j < n_keys; j++) {
        float *key = out + j * stride;
        const uint8_t *value = values.data + j * values.stride;
        const uint8_t *next = value + KERN_KEYS * values.stride;
        const float *turns = table + j * 2 * n_pairs;
        if (type == DTYPE_F32) {
            rebuild_key(key, value, next, norm, turns, n_pairs, half, DTYPE_F32);
        } else if (type == DTYPE_F16) {
            rebuild_key(key, value, next, norm, turns, n_pairs, half, DTYPE_F16);
        } else {
            rebuild_key(key, value, next, norm, turns, n_pairs, half, DTYPE_Q8_0);
        }
    }
}

// What the sums of n_keys keys (a constant in each copy) with a strip of queries begin with, a
// column's products, and where the sums go.
struct score_sums {
    vf s[TILE][SIMD_PARTS];
};

SIMD_INLINE void sums_load(struct score_sums *sums, const float *scores, bool is_fresh,
                           const size_t n_keys)
{
#pragma GCC unroll 16
    for (size_t j = 0; j < TILE && j < n_keys; j++) {
#pragma GCC unroll 4
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            const float *at = scores + j * KERN_LANES + p * SIMD_LANES;
            sums->s[j][p] = is_fresh ? vf_set1(0.0f) : vf_load(at);
        }
    }
}

SIMD_INLINE void sums_store(const struct score_sums *sums, float *scores, const size_t n_keys)
{
#pragma GCC unroll 16
    for (size_t j = 0; j < TILE && j < n_keys; j++) {
#pragma GCC unroll 4
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            vf_store(scores + j * KERN_LANES + p * SIMD_LANES, sums->s[j][p]);
        }
    }
}

// Rows are reached from every fourth one, which leaves enough registers for addresses.
SIMD_INLINE void sums_add(struct score_sums *sums, const float *queries, const float *const *fourth,
                          size_t stride, size_t k, const size_t n_keys)
{
    vf q[SIMD_PARTS];
#pragma GCC unroll 4
    for (size_t p = 0; p < SIMD_PARTS; p++) {
        q[p] = vf_load(queries + k * KERN_LANES + p * SIMD_LANES);
    }
#pragma GCC unroll 16
    for (size_t j = 0; j < TILE && j < n_keys; j++) {
        const vf key = vf_set1(fourth[j / 4][j % 4 * stride + k]);
#pragma GCC unroll 4
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            sums->s[j][p] = vf_fma(key, q[p], sums->s[j][p]);
        }
    }
}

SIMD_INLINE void scores_f32(float *scores, const float *queries, const float *keys, size_t stride,
                            size_t n, bool is_fresh, const size_t n_keys)
{
    const float *fourth[(TILE + 3) / 4];
    struct score_sums sums;
    for (size_t i = 0; i < (n_keys + 3) / 4; i++) {
        fourth[i] = keys + 4 * i * stride;
    }
    sums_load(&sums, scores, is_fresh, n_keys);
    for (size_t k = 0; k < n; k++) {
        sums_add(&sums, queries, fourth, stride, k, n_keys);
    }
    sums_store(&sums, scores, n_keys);
}

// Keys as stored are unpacked 16 columns at a time, while the products of those before still run,
// and the next block's are fetched: as many streams as keys, each of which jumps to its next row,
// are more than the processor follows by itself.
SIMD_INLINE void scores_stored(float *scores, const float *queries, const uint8_t *keys,
                               size_t stride, size_t first, size_t n, bool is_fresh,
                               const enum dtype type, const size_t n_keys)
{
    struct score_sums sums;
    sums_load(&sums, scores, is_fresh, n_keys);
    for (size_t k = 0; k < n; k += KERN_LANES) {
        float numbers[TILE * KERN_LANES];
        const float *fourth[(TILE + 3) / 4];
#pragma GCC unroll 16
        for (size_t j = 0; j < TILE && j < n_keys; j++) {
#pragma GCC unroll 4
            for (size_t p = 0; p < KERN_LANES; p += SIMD_LANES) {
                vf_store(numbers + j * KERN_LANES + p,
                         numbers_at(keys + j * stride, first + k + p, type));
            }
            __builtin_prefetch(keys + (j + KERN_KEYS) * stride + column_at(first + k, type));
            if (j % 4 == 0) {
                fourth[j / 4] = numbers + j * KERN_LANES;
            }
        }
        for (size_t i = 0; i < KERN_LANES; i++) {
            sums_add(&sums, queries + k * KERN_LANES, fourth, KERN_LANES, i, n_keys);
        }
    }
    sums_store(&sums, scores, n_keys);
}

SIMD_INLINE void scores_type(float *scores, const float *queries, struct strip_source keys,
                             size_t n_keys, size_t first, size_t n, bool is_fresh,
                             const enum dtype type)
{
    size_t j = 0;
    while (j < n_keys) {
        float *to = scores + j * KERN_LANES;
        const uint8_t *from = keys.data + j * keys.stride;
        const float *f32 = (const float *)(const void *)from + first;
        const size_t stride = keys.stride / sizeof(float);
        const bool is_whole = n_keys - j >= TILE;
        if (is_whole && type == DTYPE_F32) {
            scores_f32(to, queries, f32, stride, n, is_fresh, TILE);
        } else if (is_whole) {
            scores_stored(to, queries, from, keys.stride, first, n, is_fresh, type, TILE);
        } else if (type == DTYPE_F32) {
            scores_f32(to, queries, f32, stride, n, is_fresh, 1);
        } else {
            scores_stored(to, queries, from, keys.stride, first, n, is_fresh, type, 1);
        }
        j += is_whole ? TILE : 1;
    }
}

static void strip_scores(float *scores, const float *queries, struct strip_source keys,
                         size_t n_keys, size_t first, size_t n, bool is_fresh, enum dtype type)
{
    if (type == DTYPE_F32) {
        scores_type(scores, queries, keys, n_keys, first, n, is_fresh, DTYPE_F32);
    } else if (type == DTYPE_F16) {
        scores_type(scores, queries, keys, n_keys, first, n, is_fresh, DTYPE_F16);
    } else {
        scores_type(scores, queries, keys, n_keys, first, n, is_fresh, DTYPE_Q8_0);
    }
}

// The largest score of each lane; scores of no visible key are -inf, and then 0 takes its place, so
// that exp makes them zeros.
static vf largest_of(const float *s, size_t n, vf top)
{
    for (size_t i = 0; i < n; i++) {
        top = vf_max(vf_load(s + i * KERN_LANES), top);
    }
    return top;
}

static void strip_softmax(float *s, size_t n, struct kern_softmax *states, float *factors)
{
    const vf none = vf_set1(-FLT_MAX);
    for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
        vf old_max;
        vf old_sum;
        vf_load_pairs(&old_max, &old_sum, &states[part].max);
        const vf top = largest_of(s + part, n, old_max);
        const vf base = vf_where_less(top, none, vf_set1(0.0f), top);
        vf sums[KERN_LANES];
        for (size_t i = 0; i < KERN_LANES; i++) {
            sums[i] = vf_set1(0.0f);
        }
        for (size_t i = 0; i < n; i++) {
            float *at = s + i * KERN_LANES + part;
            const vf e = exp_vf(vf_sub(vf_load(at), base));
            vf_store(at, e);
            sums[i % KERN_LANES] = vf_add(sums[i % KERN_LANES], e);
        }
        for (size_t half = KERN_LANES / 2; half > 0; half /= 2) {
            for (size_t i = 0; i < half; i++) {
                sums[i] = vf_add(sums[i], sums[i + half]);
            }
        }
        const vf change = exp_vf(vf_sub(old_max, base));
        const vf factor = vf_where_less(top, none, vf_set1(1.0f), change);
        float lanes[2][SIMD_LANES];
        vf_store(lanes[0], top);
        vf_store(lanes[1], vf_fma(old_sum, factor, sums[0]));
        vf_store(factors + part, factor);
        for (size_t i = 0; i < SIMD_LANES; i++) {
            states[part + i] = (struct kern_softmax){lanes[0][i], lanes[1][i]};
        }
    }
}

// 16 columns of n_rows rows, a constant in each copy.
SIMD_INLINE void values_of(struct acc sums, const float *factors, const float *weights,
                           struct strip_source values, size_t n_keys, size_t first,
                           const enum dtype type, const size_t n_rows)
{
    vf s[TILE][SIMD_PARTS];
#pragma GCC unroll 16
    for (size_t r = 0; r < TILE && r < n_rows; r++) {
#pragma GCC unroll 4
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            const float *at = sums.data + r * sums.stride + first + p * SIMD_LANES;
            s[r][p] = vf_mul(vf_load(at), vf_set1(factors[r]));
        }
    }
    for (size_t j = 0; j < n_keys; j++) {
        vf v[SIMD_PARTS];
#pragma GCC unroll 4
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            v[p] = numbers_at(values.data + j * values.stride, first + p * SIMD_LANES, type);
        }
#pragma GCC unroll 16
        for (size_t r = 0; r < TILE && r < n_rows; r++) {
            const vf w = vf_set1(weights[j * KERN_LANES + r]);
#pragma GCC unroll 4
            for (size_t p = 0; p < SIMD_PARTS; p++) {
                s[r][p] = vf_fma(v[p], w, s[r][p]);
            }
        }
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < TILE && r < n_rows; r++) {
#pragma GCC unroll 4
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            vf_store(sums.data + r * sums.stride + first + p * SIMD_LANES, s[r][p]);
        }
    }
}

// All columns of n_rows rows; the last few, which only floats have, one by one.
SIMD_INLINE void values_rows(struct acc sums, const float *factors, const float *weights,
                             struct strip_source values, size_t n_keys, size_t n,
                             const enum dtype type, const size_t n_rows)
{
    size_t i = 0;
    for (; i + KERN_LANES <= n; i += KERN_LANES) {
        values_of(sums, factors, weights, values, n_keys, i, type, n_rows);
    }
    for (; i < n; i++) {
        for (size_t r = 0; r < n_rows; r++) {
            float sum = sums.data[r * sums.stride + i] * factors[r];
            for (size_t j = 0; j < n_keys; j++) {
                float value;
                memcpy(&value, values.data + j * values.stride + i * sizeof(float), sizeof(float));
                sum = fmaf(value, weights[j * KERN_LANES + r], sum);
            }
            sums.data[r * sums.stride + i] = sum;
        }
    }
}

SIMD_INLINE void values_type(struct acc sums, const float *factors, const float *weights,
                             struct strip_source values, size_t n_rows, size_t n_keys, size_t n,
                             const enum dtype type)
{
    size_t r = 0;
    while (r < n_rows) {
        const size_t left = n_rows - r;
        const struct acc here = {.data = sums.data + r * sums.stride, .stride = sums.stride};
        if (left >= TILE) {
            values_rows(here, factors + r, weights + r, values, n_keys, n, type, TILE);
            r += TILE;
        } else if (TILE > 4 && left >= 4) {
            values_rows(here, factors + r, weights + r, values, n_keys, n, type, 4);
            r += 4;
        } else {
            values_rows(here, factors + r, weights + r, values, n_keys, n, type, 1);
            r++;
        }
    }
}

static void strip_values(struct acc sums, const float *factors, const float *weights,
                         struct strip_source values, size_t n_rows, size_t n_keys, size_t n,
                         enum dtype type)
{
    if (type == DTYPE_F32) {
        values_type(sums, factors, weights, values, n_rows, n_keys, n, DTYPE_F32);
    } else if (type == DTYPE_F16) {
        values_type(sums, factors, weights, values, n_rows, n_keys, n, DTYPE_F16);
    } else {
        values_type(sums, factors, weights, values, n_rows, n_keys, n, DTYPE_Q8_0);
    }
}

// ------------------------------------------------------------------------------------ few rows

// Where the sums of up to KERN_FEW_MAX rows grow while a vector of keys goes along their columns.
struct few {
    vf sums[KERN_FEW_MAX];
    const float *queries; // of column k
    size_t stride;
};

SIMD_INLINE void few_add(struct few *f, vf key, size_t k, const size_t n_rows)
{
#pragma GCC unroll 8
    for (size_t r = 0; r < KERN_FEW_MAX && r < n_rows; r++) {
        f->sums[r] = vf_fma(key, vf_set1(f->queries[r * f->stride + k]), f->sums[r]);
    }
}

// Each adds a piece of columns of SIMD_LANES keys and returns how many that were.
SIMD_INLINE size_t few_piece_f32(struct few *f, const uint8_t *keys, size_t stride,
                                 const size_t n_rows)
{
    vi w[4];
    vi_load_rows(w, keys, stride);
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        few_add(f, vf_of_bits(w[i]), i, n_rows);
    }
    return 4;
}

SIMD_INLINE size_t few_piece_f16(struct few *f, const uint8_t *keys, size_t stride,
                                 const size_t n_rows)
{
    vi w[4];
    vi_load_rows(w, keys, stride);
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        few_add(f, vf_from_f16(w[i]), 2 * i, n_rows);
        few_add(f, vf_from_f16(vi_shr(w[i], 16)), 2 * i + 1, n_rows);
    }
    return 8;
}

// A code at the top of its lane is 2^24 times too large; the scale makes up for that, and the
// product of 11 and 8 bits is exact either way.
SIMD_INLINE size_t few_piece_q8_0(struct few *f, const uint8_t *keys, size_t stride,
                                  const size_t n_rows)
{
    const vf scale =
        vf_mul(vf_from_f16(vi_load_words(keys, stride)), vf_set1(1.0f / (float)(1 << 24)));
#pragma GCC unroll 2
    for (size_t half = 0; half < 2; half++) {
        vi w[4];
        vi_load_rows(w, keys + 2 + 16 * half, stride);
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
#pragma GCC unroll 4
            for (size_t byte = 0; byte < 4; byte++) {
                const vi code = vi_and(vi_shl(w[i], (int)(24 - 8 * byte)), vi_set1(0xff000000u));
                few_add(f, vf_mul(scale, vf_from_vi(code)), 16 * half + 4 * i + byte, n_rows);
            }
        }
    }
    return 32;
}

// The columns behind the last whole piece.
SIMD_INLINE void few_rest(struct few *f, const uint8_t *keys, size_t stride, size_t n,
                          enum dtype type, const size_t n_rows)
{
    const size_t size = type == DTYPE_F32 ? 4 : 2;
    for (size_t k = 0; k < n; k++) {
        uint32_t words[SIMD_LANES] = {0};
        for (size_t j = 0; j < SIMD_LANES; j++) {
            memcpy(words + j, keys + j * stride + k * size, size);
        }
        const vi w = vi_load(words);
        few_add(f, type == DTYPE_F32 ? vf_of_bits(w) : vf_from_f16(w), k, n_rows);
    }
}

SIMD_INLINE void few_scores_of(struct acc scores, struct strip_source keys, struct f32_rows queries,
                               size_t n, const enum dtype type, const size_t n_rows)
{
    const size_t piece = type == DTYPE_F32 ? 4 : type == DTYPE_F16 ? 8 : 32;
    const size_t bytes = type == DTYPE_Q8_0 ? 34 : 16;
    for (size_t part = 0; part < KERN_LANES; part += SIMD_LANES) {
        const uint8_t *at = keys.data + part * keys.stride;
        struct few f = {.queries = queries.data, .stride = queries.stride};
        for (size_t r = 0; r < n_rows; r++) {
            f.sums[r] = vf_set1(0.0f);
        }
        const uint8_t *next = at + KERN_LANES * keys.stride;
        size_t k = 0;
        for (; k + piece <= n; k += piece, at += bytes, f.queries += piece) {
            next = fetch(next, SIMD_LANES * bytes);
            if (type == DTYPE_F32) {
                few_piece_f32(&f, at, keys.stride, n_rows);
            } else if (type == DTYPE_F16) {
                few_piece_f16(&f, at, keys.stride, n_rows);
            } else {
                few_piece_q8_0(&f, at, keys.stride, n_rows);
            }
        }
        few_rest(&f, at, keys.stride, n - k, type, n_rows);
        for (size_t r = 0; r < n_rows; r++) {
            vf_store(scores.data + r * scores.stride + part, f.sums[r]);
        }
    }
}

SIMD_INLINE void few_scores_type(struct acc scores, struct strip_source keys,
                                 struct f32_rows queries, size_t n_rows, size_t n,
                                 const enum dtype type)
{
    size_t r = 0;
    while (r < n_rows) {
        const size_t left = n_rows - r;
        const struct acc here = {.data = scores.data + r * scores.stride, .stride = scores.stride};
        const struct f32_rows q = {queries.data + r * queries.stride, queries.stride};
        if (left >= 8) {
            few_scores_of(here, keys, q, n, type, 8);
            r += 8;
        } else if (left >= 4) {
            few_scores_of(here, keys, q, n, type, 4);
            r += 4;
        } else if (left >= 2) {
            few_scores_of(here, keys, q, n, type, 2);
            r += 2;
        } else {
            few_scores_of(here, keys, q, n, type, 1);
            r++;
        }
    }
}

static void few_scores(struct acc scores, struct strip_source keys, struct f32_rows queries,
                       size_t n_rows, size_t n, enum dtype type)
{
    if (type == DTYPE_F32) {
        few_scores_type(scores, keys, queries, n_rows, n, DTYPE_F32);
    } else if (type == DTYPE_F16) {
        few_scores_type(scores, keys, queries, n_rows, n, DTYPE_F16);
    } else {
        few_scores_type(scores, keys, queries, n_rows, n, DTYPE_Q8_0);
    }
}

enum { VECTORS_MAX = 8 }; // of columns, taken together

// n_vectors vectors of columns of n_rows rows, from column i on.
SIMD_INLINE void few_values_of(struct acc sums, const float *factors, struct f32_rows weights,
                               struct strip_source values, size_t n_keys, size_t i,
                               const enum dtype type, const size_t n_rows, const size_t n_vectors)
{
    vf s[KERN_FEW_MAX][VECTORS_MAX];
#pragma GCC unroll 8
    for (size_t r = 0; r < KERN_FEW_MAX && r < n_rows; r++) {
#pragma GCC unroll 8
        for (size_t c = 0; c < VECTORS_MAX && c < n_vectors; c++) {
            const float *at = sums.data + r * sums.stride + i + c * SIMD_LANES;
            s[r][c] = vf_mul(vf_load(at), vf_set1(factors[r]));
        }
    }
    for (size_t j = 0; j < n_keys; j++) {
        const uint8_t *row = values.data + j * values.stride;
#pragma GCC unroll 8
        for (size_t c = 0; c < VECTORS_MAX && c < n_vectors; c++) {
            const size_t column = i + c * SIMD_LANES;
            const vf value = numbers_at(row, column, type);
            if (c * SIMD_LANES % KERN_BLOCK == 0) { // of the next block, which follows
                __builtin_prefetch(row + n_keys * values.stride + column_at(column, type), 0, 2);
            }
#pragma GCC unroll 8
            for (size_t r = 0; r < KERN_FEW_MAX && r < n_rows; r++) {
                const vf weight = vf_set1(weights.data[r * weights.stride + j]);
                s[r][c] = vf_fma(value, weight, s[r][c]);
            }
        }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < KERN_FEW_MAX && r < n_rows; r++) {
#pragma GCC unroll 8
        for (size_t c = 0; c < VECTORS_MAX && c < n_vectors; c++) {
            vf_store(sums.data + r * sums.stride + i + c * SIMD_LANES, s[r][c]);
        }
    }
}

// The last n columns, fewer than a vector, of rows that are not in blocks.
static void few_values_rest(struct acc sums, const float *factors, struct f32_rows weights,
                            struct strip_source values, size_t n_rows, size_t n_keys, size_t first,
                            size_t n, enum dtype type)
{
    const size_t size = type == DTYPE_F32 ? 4 : 2;
    for (size_t r = 0; r < n_rows; r++) {
        float *at = sums.data + r * sums.stride + first;
        float lanes[SIMD_LANES] = {0};
        memcpy(lanes, at, n * sizeof(float));
        vf s = vf_mul(vf_load(lanes), vf_set1(factors[r]));
        for (size_t j = 0; j < n_keys; j++) {
            uint8_t row[4 * SIMD_LANES] = {0};
            memcpy(row, values.data + j * values.stride + first * size, n * size);
            s = vf_fma(numbers_at(row, 0, type), vf_set1(weights.data[r * weights.stride + j]), s);
        }
        vf_store(lanes, s);
        memcpy(at, lanes, n * sizeof(float));
    }
}

SIMD_INLINE void few_values_rows(struct acc sums, const float *factors, struct f32_rows weights,
                                 struct strip_source values, size_t n_keys, size_t n,
                                 const enum dtype type, const size_t n_rows)
{
    const size_t n_vectors = FEW_SUMS / n_rows < VECTORS_MAX ? FEW_SUMS / n_rows : VECTORS_MAX;
    size_t i = 0;
    for (; i + n_vectors * SIMD_LANES <= n; i += n_vectors * SIMD_LANES) {
        few_values_of(sums, factors, weights, values, n_keys, i, type, n_rows, n_vectors);
    }
    for (; i + SIMD_LANES <= n; i += SIMD_LANES) {
        few_values_of(sums, factors, weights, values, n_keys, i, type, n_rows, 1);
    }
    if (i < n) {
        few_values_rest(sums, factors, weights, values, n_rows, n_keys, i, n - i, type);
    }
}

SIMD_INLINE void few_values_type(struct acc sums, const float *factors, struct f32_rows weights,
                                 struct strip_source values, size_t n_rows, size_t n_keys, size_t n,
                                 const enum dtype type)
{
    size_t r = 0;
    while (r < n_rows) {
        const size_t left = n_rows - r;
        const struct acc here = {.data = sums.data + r * sums.stride, .stride = sums.stride};
        const struct f32_rows w = {weights.data + r * weights.stride, weights.stride};
        if (left >= 8) {
            few_values_rows(here, factors + r, w, values, n_keys, n, type, 8);
            r += 8;
        } else if (left >= 4) {
            few_values_rows(here, factors + r, w, values, n_keys, n, type, 4);
            r += 4;
        } else if (left >= 2) {
            few_values_rows(here, factors + r, w, values, n_keys, n, type, 2);
            r += 2;
        } else {
            few_values_rows(here, factors + r, w, values, n_keys, n, type, 1);
            r++;
        }
    }
}

static void few_values(struct acc sums, const float *factors, struct f32_rows weights,
                       struct strip_source values, size_t n_rows, size_t n_keys, size_t n,
                       enum dtype type)
{
    if (type == DTYPE_F32) {
        few_values_type(sums, factors, weights, values, n_rows, n_keys, n, DTYPE_F32);
    } else if (type == DTYPE_F16) {
        few_values_type(sums, factors, weights, values, n_rows, n_keys, n, DTYPE_F16);
    } else {
        few_values_type(sums, factors, weights, values, n_rows, n_keys, n, DTYPE_Q8_0);
    }
}

void KERN_INIT_ATTEND(struct kern *k)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_Q8_0};
    k->turn = turn;
    k->strip_softmax = strip_softmax;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        k->rebuild_keys[types[i]] = rebuild_keys;
        k->strip_scores[types[i]] = strip_scores;
        k->strip_values[types[i]] = strip_values;
        k->few_scores[types[i]] = few_scores;
        k->few_values[types[i]] = few_values;
    }
}
