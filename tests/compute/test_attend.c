// SPDX-License-Identifier: Apache-2.0
// Attention against plain softmax in double over every layout of the cache, causal and with blocks
// that see ahead; and that chunks, the ring's wrap and threads change no bit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "base/mem.h"
#include "compute/device.h"
#include "compute_util.h"

struct shape {
    enum dtype type;
    size_t n_tokens;
    size_t n_heads; // of the cache
    size_t group;   // query heads per kv head
    size_t head_dim;
    size_t window;   // 0: full
    size_t capacity; // of a ring
    bool has_keys;
    size_t n_pairs; // turned, in keys that are made from values
};

enum { PAIRS_MAX = 16, CHUNK_MAX = 1300 };

struct timeline {
    struct shape shape;
    struct tensor q, k, v; // k as stored: turned
    float *key_norm;
    float *table;
    size_t *ends; // [n_tokens]; NULL: causal
};

static void timeline_init(struct timeline *t, struct device *dev, const struct shape *shape)
{
    struct rng rng = {.state = shape->n_tokens + shape->head_dim + shape->window};
    const size_t n = shape->n_tokens;
    const size_t kv_columns = shape->n_heads * shape->head_dim;
    *t = (struct timeline){.shape = *shape};
    t->q = tensor_make(test_alloc(n * kv_columns * shape->group * 4), n, kv_columns * shape->group);
    t->k = tensor_make(test_alloc(n * kv_columns * 4), n, kv_columns);
    t->v = tensor_make(test_alloc(n * kv_columns * 4), n, kv_columns);
    t->key_norm = test_alloc(shape->head_dim * 4);
    t->table = test_alloc(n * PAIRS_MAX * 2 * 4);
    rng_fill(&rng, t->q.data, n * t->q.columns);
    rng_fill(&rng, t->k.data, n * kv_columns);
    rng_fill(&rng, t->v.data, n * kv_columns);
    rng_fill(&rng, t->key_norm, shape->head_dim);
    float inv_freq[PAIRS_MAX];
    for (size_t i = 0; i < shape->n_pairs; i++) {
        inv_freq[i] = 1.0f / (float)(1 + 3 * i);
    }
    op_rope_table(dev, t->table, inv_freq, shape->n_pairs, 0, n);
}

// Blocks of all sizes, longer than the window too, at the very beginning and at the very end, with
// and without rows between them; rows of a block see to its end.
static void timeline_make_blocks(struct timeline *t)
{
    const size_t n = t->shape.n_tokens;
    const size_t lengths[] = {5, 1, t->shape.window + 9, 17, 2, t->shape.window / 2 + 3, 40};
    static const size_t gaps[] = {4, 0, 1, 11, 0, 30};
    size_t p = 0;
    t->ends = test_alloc(n * sizeof(size_t));
    for (size_t i = 0; p < n; i++) {
        size_t end = p + lengths[i % 7];
        end = end > n ? n : end;
        for (; p < end; p++) {
            t->ends[p] = end;
        }
        for (size_t gap = gaps[i % 6]; gap > 0 && p + 3 < n; gap--, p++) {
            t->ends[p] = p + 1;
        }
    }
}

static size_t end_of(const struct timeline *t, size_t position)
{
    return t->ends ? t->ends[position] : position + 1;
}

static void timeline_release(struct timeline *t)
{
    mem_free(t->ends);
    mem_free(t->q.data);
    mem_free(t->k.data);
    mem_free(t->v.data);
    mem_free(t->key_norm);
    mem_free(t->table);
}

static struct kv_view cache_new(const struct timeline *t)
{
    const struct shape *s = &t->shape;
    struct kv_view kv = {.type = s->type,
                         .n_heads = s->n_heads,
                         .head_dim = s->head_dim,
                         .capacity = s->window ? s->capacity : s->n_tokens,
                         .window = s->window,
                         .recent_capacity = s->window ? CHUNK_MAX : 0,
                         .key_norm = t->key_norm,
                         .rope_table = t->table,
                         .n_pairs = s->n_pairs};
    assert_true(dtype_row_size(&kv.row_size, s->type, s->head_dim));
    const size_t rows = kv.n_heads * kv.capacity;
    const size_t recent = kv.n_heads * kv.recent_capacity;
    kv.values = test_alloc(rows * kv.row_size);
    kv.keys = s->has_keys ? test_alloc(rows * kv.row_size) : NULL;
    kv.recent_values = s->window ? test_alloc(recent * kv.row_size) : NULL;
    kv.recent_keys = s->window && s->has_keys ? test_alloc(recent * kv.row_size) : NULL;
    return kv;
}

static void cache_free(struct kv_view *kv)
{
    mem_free(kv->keys);
    mem_free(kv->values);
    mem_free(kv->recent_keys);
    mem_free(kv->recent_values);
}

// Evaluates the whole timeline in chunks of this many tokens, and more where a block would be cut.
static float *run(struct device *dev, const struct timeline *t, size_t chunk)
{
    const struct shape *s = &t->shape;
    struct kv_view kv = cache_new(t);
    struct tensor out =
        tensor_make(test_alloc(t->q.rows * t->q.columns * 4), t->q.rows, t->q.columns);
    size_t n = 0;
    for (size_t first = 0; first < s->n_tokens; first += n) {
        n = s->n_tokens - first < chunk ? s->n_tokens - first : chunk;
        n = end_of(t, first + n - 1) - first;
        op_kv_store(dev, &kv, tensor_rows(t->k, first, n), tensor_rows(t->v, first, n), first);
        op_attend(dev, tensor_rows(out, first, n), tensor_rows(t->q, first, n), &kv,
                  s->n_heads * s->group, first, t->ends ? t->ends + first : NULL);
        op_kv_commit(dev, &kv, first, n);
    }
    cache_free(&kv);
    return out.data;
}

// A row as the cache gives it back.
static void through_cache(float *row, enum dtype type, size_t n)
{
    if (type != DTYPE_F32) {
        uint8_t block[4096];
        dtypes[type].pack(block, row, NULL, n);
        dtypes[type].unpack(row, block, n);
    }
}

static void reference_rows(const struct timeline *t, size_t position, size_t head, float *key,
                           float *value)
{
    const size_t d = t->shape.head_dim;
    const size_t at = position * t->v.stride + head * d;
    memcpy(value, t->v.data + at, d * 4);
    through_cache(value, t->shape.type, d);
    if (t->shape.has_keys) {
        memcpy(key, t->k.data + at, d * 4);
        through_cache(key, t->shape.type, d);
        return;
    }
    for (size_t i = 0; i < d; i++) {
        key[i] = value[i] * t->key_norm[i];
    }
    const size_t n_pairs = t->shape.n_pairs;
    for (size_t i = 0; i < n_pairs; i++) {
        const double c = (double)t->table[(position * n_pairs + i) * 2];
        const double s = (double)t->table[(position * n_pairs + i) * 2 + 1];
        const double a = (double)key[i];
        const double b = (double)key[i + d / 2];
        key[i] = (float)(a * c - b * s);
        key[i + d / 2] = (float)(b * c + a * s);
    }
}

// One query in double. Scores err by head_dim roundings of sums below head_dim, weights by as much
// again, and values are below 1.
static void check_query(const struct timeline *t, size_t position, size_t query_head,
                        const float *found)
{
    const struct shape *s = &t->shape;
    const size_t d = s->head_dim;
    const size_t begin = s->window && position + 1 > s->window ? position + 1 - s->window : 0;
    const float *q = t->q.data + position * t->q.stride + query_head * d;
    float *key = test_alloc(d * 4);
    float *value = test_alloc(d * 4);
    double *sum = test_alloc(d * sizeof(double));
    double weight = 0;
    for (size_t j = begin; j < end_of(t, position); j++) {
        reference_rows(t, j, query_head / s->group, key, value);
        double score = 0;
        for (size_t i = 0; i < d; i++) {
            score += (double)q[i] * (double)key[i];
        }
        weight += exp(score);
        for (size_t i = 0; i < d; i++) {
            sum[i] += exp(score) * (double)value[i];
        }
    }
    const double tolerance = ((double)d * 4 + (double)s->n_tokens) * ldexp(1, -24) * 8;
    for (size_t i = 0; i < d; i++) {
        const double expected = sum[i] / weight;
        if (!(fabs(expected - (double)found[i]) <= tolerance)) {
            fail_msg("position %zu, head %zu, element %zu: expected %g, found %g, tolerance %g",
                     position, query_head, i, expected, (double)found[i], tolerance);
        }
    }
    mem_free(key);
    mem_free(value);
    mem_free(sum);
}

static struct device *open_device(size_t n_threads)
{
    const struct device_options options = {.n_threads = n_threads};
    const struct device_limits limits = {.head_dim_max = 96, .heads_max = 80, .keys_max = 1600};
    struct device *dev = NULL;
    assert_int_equal(device_new_cpu(&dev, &options, NULL), 0);
    assert_int_equal(device_reserve(dev, &limits, NULL), 0);
    return dev;
}

// clang-format off
static const struct shape shapes[] = {
    // type      tokens heads group dim window capacity keys  pairs
    {DTYPE_F32,  150,   2,    3,    48,   0,    0,      true,  6},
    {DTYPE_F16,  150,   2,    1,    24,   0,    0,      true,  6},
    {DTYPE_F16,  1300,  1,    4,    32,   0,    0,      false, 6},
    {DTYPE_F32,  70,    1,    80,   40,   0,    0,      false, 6},
    {DTYPE_Q8_0, 90,    2,    2,    64,   0,    0,      false, 6},
    {DTYPE_F32,  300,   2,    2,    32,   40,   40,     true,  6},
    {DTYPE_Q8_0, 700,   3,    2,    96,   100,  117,    true,  6},
    {DTYPE_F16,  620,   1,    5,    16,   520,  519,    true,  6},
    {DTYPE_F32,  60,    1,    2,    13,   7,    7,      true,  6},
    {DTYPE_F32,  90,    2,    2,    32,   1,    1,      true,  6},
    // A strip of queries from one token takes rows as stored, of more tokens unpacked.
    {DTYPE_F16,  600,   1,    13,   96,   0,    0,      false, 16},
    {DTYPE_Q8_0, 600,   1,    16,   64,   0,    0,      false, 16},
    {DTYPE_Q8_0, 400,   2,    16,   64,   200,  210,    true,  16},
};
// clang-format on
enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static void check_shapes(bool has_blocks)
{
    struct device *dev = open_device(2);
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct timeline t;
        timeline_init(&t, dev, &shapes[i]);
        if (has_blocks) {
            timeline_make_blocks(&t);
        }
        float *out = run(dev, &t, 33);
        const size_t n_heads = shapes[i].n_heads * shapes[i].group;
        for (size_t p = 0; p < shapes[i].n_tokens; p += p < 70 ? 1 : 37) {
            for (size_t h = 0; h < n_heads; h += 1 + n_heads / 3) {
                check_query(&t, p, h, out + p * t.q.stride + h * shapes[i].head_dim);
            }
        }
        mem_free(out);
        timeline_release(&t);
    }
    device_free(dev);
}

static void test_attend_matches_softmax_in_double(void **state)
{
    (void)state;
    check_shapes(false);
}

static void test_attend_sees_ahead_in_blocks_alone(void **state)
{
    (void)state;
    check_shapes(true);
}

static void check_chunks(bool has_blocks)
{
    struct device *one = open_device(1);
    struct device *three = open_device(3);
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct timeline t;
        timeline_init(&t, one, &shapes[i]);
        if (has_blocks) {
            timeline_make_blocks(&t);
        }
        const size_t size = t.q.rows * t.q.columns * 4;
        float *single = run(one, &t, 1);
        static const size_t chunks[] = {3, 7, 16, 64, CHUNK_MAX};
        for (size_t c = 0; c < 5; c++) {
            float *out = run(c % 2 ? one : three, &t, chunks[c]);
            assert_memory_equal(single, out, size);
            mem_free(out);
        }
        mem_free(single);
        timeline_release(&t);
    }
    device_free(one);
    device_free(three);
}

static void test_attend_is_the_same_in_any_chunks(void **state)
{
    (void)state;
    check_chunks(false);
}

static void test_attend_is_the_same_wherever_blocks_are_not_cut(void **state)
{
    (void)state;
    check_chunks(true);
}

// Ends that are one past each row say what NULL says.
static void test_attend_with_causal_ends_is_causal(void **state)
{
    (void)state;
    struct device *dev = open_device(1);
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct timeline t;
        timeline_init(&t, dev, &shapes[i]);
        float *causal = run(dev, &t, 29);
        t.ends = test_alloc(shapes[i].n_tokens * sizeof(size_t));
        for (size_t p = 0; p < shapes[i].n_tokens; p++) {
            t.ends[p] = p + 1;
        }
        float *out = run(dev, &t, 29);
        assert_memory_equal(causal, out, t.q.rows * t.q.columns * 4);
        mem_free(causal);
        mem_free(out);
        timeline_release(&t);
    }
    device_free(dev);
}

// Keys far outside the usual: one score dominates, and large negative ones vanish.
static void test_attend_survives_large_scores(void **state)
{
    (void)state;
    struct device *dev = open_device(1);
    struct timeline t;
    timeline_init(&t, dev, &shapes[0]);
    for (size_t i = 0; i < t.q.rows * t.q.columns; i++) {
        t.q.data[i] *= 1000.0f;
    }
    float *out = run(dev, &t, 50);
    for (size_t i = 0; i < t.q.rows * t.q.columns; i++) {
        assert_true(fabsf(out[i]) <= 1.0f); // an average of values, never NaN
    }
    mem_free(out);
    timeline_release(&t);
    device_free(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attend_matches_softmax_in_double),
        cmocka_unit_test(test_attend_is_the_same_in_any_chunks),
        cmocka_unit_test(test_attend_sees_ahead_in_blocks_alone),
        cmocka_unit_test(test_attend_is_the_same_wherever_blocks_are_not_cut),
        cmocka_unit_test(test_attend_with_causal_ends_is_causal),
        cmocka_unit_test(test_attend_survives_large_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
