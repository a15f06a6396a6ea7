// SPDX-License-Identifier: Apache-2.0
// The kernels of attention in plain C: what the twins in kern_simd_attend.c reproduce bit by bit.
#include <math.h>
#include <string.h>

#include "compute/cpu/kern.h"
#include "compute/cpu/kern_generic.h"

static void turn(float *strip, const float *rows, size_t stride, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        for (size_t r = 0; r < KERN_LANES; r++) {
            strip[k * KERN_LANES + r] = rows[r * stride + k];
        }
    }
}

// Numbers [first, first + n) of a row as stored, all in one block of PIECE.
enum { PIECE = 32 };

static void piece_of(float *out, const uint8_t *row, size_t first, size_t n, enum dtype type)
{
    const struct dtype_info *info = &dtypes[type];
    const uint8_t *at = row + first / info->block_values * info->block_size;
    float block[PIECE];
    if (type == DTYPE_F32) {
        memcpy(out, at, n * sizeof(float));
    } else if (info->block_values == 1) {
        info->unpack(out, at, n);
    } else {
        info->unpack(block, at, info->block_values);
        memcpy(out, block + first % info->block_values, n * sizeof(float));
    }
}

// How many numbers up to end stand in the same block as number first.
static size_t piece_size(size_t first, size_t end)
{
    const size_t n = PIECE - first % PIECE;
    return end - first < n ? end - first : n;
}

static float number_at(const uint8_t *row, size_t i, enum dtype type)
{
    float number;
    piece_of(&number, row, i, 1, type);
    return number;
}

static void rebuild_keys(float *out, size_t stride, struct strip_source values, size_t n_keys,
                         const float *norm, const float *table, size_t n_pairs, size_t half,
                         enum dtype type)
{
    for (size_t j = 0; j < n_keys; j++) {
        const uint8_t *value = values.data + j * values.stride;
        float *key = out + j * stride;
        for (size_t i = 0; i < n_pairs; i++) {
            const float c = table[2 * (j * n_pairs + i)];
            const float s = table[2 * (j * n_pairs + i) + 1];
            const float a = number_at(value, i, type) * norm[i];
            const float b = number_at(value, i + half, type) * norm[i + half];
            key[i] = fmaf(a, c, -(b * s));
            key[i + n_pairs] = fmaf(b, c, a * s);
        }
    }
}

static void strip_scores(float *scores, const float *queries, struct strip_source keys,
                         size_t n_keys, size_t first, size_t n, bool is_fresh, enum dtype type)
{
    for (size_t j = 0; j < n_keys; j++) {
        float *sums = scores + j * KERN_LANES;
        if (is_fresh) {
            memset(sums, 0, KERN_LANES * sizeof(float));
        }
        size_t n_here;
        for (size_t k = 0; k < n; k += n_here) {
            float piece[PIECE];
            n_here = piece_size(first + k, first + n);
            piece_of(piece, keys.data + j * keys.stride, first + k, n_here, type);
            for (size_t i = 0; i < n_here; i++) {
                for (size_t r = 0; r < KERN_LANES; r++) {
                    sums[r] = fmaf(piece[i], queries[(k + i) * KERN_LANES + r], sums[r]);
                }
            }
        }
    }
}

static void strip_softmax(float *s, size_t n, struct kern_softmax *states, float *factors)
{
    for (size_t r = 0; r < KERN_LANES; r++) {
        float lane[KERN_KEYS];
        for (size_t i = 0; i < n; i++) {
            lane[i] = s[i * KERN_LANES + r];
        }
        factors[r] = kern_generic_softmax(lane, n, &states[r]);
        for (size_t i = 0; i < n; i++) {
            s[i * KERN_LANES + r] = lane[i];
        }
    }
}

// weights of key j and row r are at weights + j * key_stride + r * row_stride.
static void add_values(struct acc sums, const float *factors, const float *weights,
                       size_t key_stride, size_t row_stride, struct strip_source values,
                       size_t n_rows, size_t n_keys, size_t n, enum dtype type)
{
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < n; i++) {
            sums.data[r * sums.stride + i] *= factors[r];
        }
    }
    for (size_t j = 0; j < n_keys; j++) {
        size_t n_here;
        for (size_t first = 0; first < n; first += n_here) {
            float piece[PIECE];
            n_here = piece_size(first, n);
            piece_of(piece, values.data + j * values.stride, first, n_here, type);
            for (size_t r = 0; r < n_rows; r++) {
                const float weight = weights[j * key_stride + r * row_stride];
                float *sum = sums.data + r * sums.stride + first;
                for (size_t i = 0; i < n_here; i++) {
                    sum[i] = fmaf(piece[i], weight, sum[i]);
                }
            }
        }
    }
}

static void strip_values(struct acc sums, const float *factors, const float *weights,
                         struct strip_source values, size_t n_rows, size_t n_keys, size_t n,
                         enum dtype type)
{
    add_values(sums, factors, weights, KERN_LANES, 1, values, n_rows, n_keys, n, type);
}

static void few_scores(struct acc scores, struct strip_source keys, struct f32_rows queries,
                       size_t n_rows, size_t n, enum dtype type)
{
    for (size_t j = 0; j < KERN_LANES; j++) {
        float sums[KERN_FEW_MAX] = {0};
        size_t n_here;
        for (size_t k = 0; k < n; k += n_here) {
            float piece[PIECE];
            n_here = piece_size(k, n);
            piece_of(piece, keys.data + j * keys.stride, k, n_here, type);
            for (size_t i = 0; i < n_here; i++) {
                for (size_t r = 0; r < n_rows; r++) {
                    const float q = queries.data[r * queries.stride + k + i];
                    sums[r] = fmaf(piece[i], q, sums[r]);
                }
            }
        }
        for (size_t r = 0; r < n_rows; r++) {
            scores.data[r * scores.stride + j] = sums[r];
        }
    }
}

static void few_values(struct acc sums, const float *factors, struct f32_rows weights,
                       struct strip_source values, size_t n_rows, size_t n_keys, size_t n,
                       enum dtype type)
{
    add_values(sums, factors, weights.data, 1, weights.stride, values, n_rows, n_keys, n, type);
}

void kern_init_generic_attend(struct kern *k)
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
