// SPDX-License-Identifier: Apache-2.0
// Compares every kernel of every level that this machine can run with its generic twin, bit for
// bit, over odd sizes, unaligned input and guarded output; and the generic ones with sums in
// double. With --bench [WORD] it measures instead: products per element type and level beside the
// speed of reading memory. Exit code 0 when everything is equal.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "check_kernels.h"
#include "compute/cpu/cpu.h"
#include "compute_util.h"
#include "twins.h"

enum {
    GUARD = 64,         // bytes around each output
    COLUMNS_MAX = 1024, // of a strip
    ROWS_MAX = 9,
};

struct check {
    const char *level;
    struct kern plain; // generic
    struct kern fast;
    struct rng rng;
    size_t n_compared;
    size_t n_failed;
};

// ------------------------------------------------------------------------------------ outputs

// The same output twice, for the two twins, each between guards.
struct pair {
    uint8_t *blocks[2];
    size_t size;
};

static struct pair pair_new(size_t size)
{
    struct pair p = {.size = size};
    for (size_t i = 0; i < 2; i++) {
        p.blocks[i] = test_alloc(size + 2 * GUARD);
        memset(p.blocks[i], 0xa5, size + 2 * GUARD);
    }
    return p;
}

static void *pair_at(const struct pair *p, size_t i)
{
    return p->blocks[i] + GUARD;
}

// Gives both the same content to begin with.
static void pair_fill(const struct pair *p, const void *content)
{
    memcpy(pair_at(p, 0), content, p->size);
    memcpy(pair_at(p, 1), content, p->size);
}

static bool guards_hold(const struct pair *p)
{
    for (size_t i = 0; i < GUARD; i++) {
        if (p->blocks[1][i] != 0xa5 || p->blocks[1][GUARD + p->size + i] != 0xa5) {
            return false;
        }
    }
    return true;
}

static void pair_check(struct check *c, struct pair *p, const char *what, const char *type,
                       size_t n)
{
    c->n_compared++;
    const uint8_t *a = pair_at(p, 0);
    const uint8_t *b = pair_at(p, 1);
    size_t at = 0;
    while (at < p->size && a[at] == b[at]) {
        at++;
    }
    if (at < p->size || !guards_hold(p)) {
        c->n_failed++;
        if (at < p->size) {
            printf("%s: %s %s, n %zu: byte %zu of %zu is %02x, generic has %02x\n", c->level, what,
                   type, n, at, p->size, b[at], a[at]);
        } else {
            printf("%s: %s %s, n %zu: wrote outside its output\n", c->level, what, type, n);
        }
    }
    mem_free(p->blocks[0]);
    mem_free(p->blocks[1]);
}

static const struct kern *twin(const struct check *c, size_t i)
{
    return i == 0 ? &c->plain : &c->fast;
}

// n numbers of this size, at a place that no vector is aligned to.
static float *numbers(struct check *c, size_t n, float size)
{
    float *x = (float *)test_alloc((n + 1) * sizeof(float)) + 1;
    for (size_t i = 0; i < n; i++) {
        x[i] = size * rng_f32(&c->rng);
    }
    return x;
}

static void numbers_free(float *x)
{
    mem_free(x - 1);
}

// ------------------------------------------------------------------------------------ rows

static void check_rows_of(struct check *c, size_t n)
{
    float *x = numbers(c, n, 12);
    float *y = numbers(c, n, 3);
    struct pair p = pair_new(n * 4);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->norm(pair_at(&p, i), x, n % 3 ? y : NULL, n, 1e-6f);
    }
    pair_check(c, &p, "norm", "", n);

    p = pair_new(n * 4);
    float *b = numbers(c, n, 2);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->layer_norm(pair_at(&p, i), x, y, b, n, 1e-5f);
    }
    pair_check(c, &p, "layer_norm", "", n);
    numbers_free(b);

    p = pair_new(n * 4);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->geglu(pair_at(&p, i), x, y, n);
    }
    pair_check(c, &p, "geglu", "", n);

    p = pair_new(n * 4);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->add(pair_at(&p, i), x, y, n, 0.3f);
    }
    pair_check(c, &p, "add", "", n);

    p = pair_new(n * 4);
    pair_fill(&p, x);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->scale(pair_at(&p, i), n, 0.3f);
    }
    pair_check(c, &p, "scale", "", n);

    p = pair_new(n * 4);
    pair_fill(&p, x);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->softcap(pair_at(&p, i), n, n % 2 ? 30.0f : 1.5f);
    }
    pair_check(c, &p, "softcap", "", n);
    numbers_free(x);
    numbers_free(y);
}

static void check_rope_of(struct check *c, size_t n_pairs)
{
    const size_t half = n_pairs + 3;
    float *x = numbers(c, 2 * half, 1);
    float *table = numbers(c, 2 * n_pairs, 1);
    struct pair p = pair_new(2 * half * 4);
    pair_fill(&p, x);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->rope(pair_at(&p, i), table, n_pairs, half);
    }
    pair_check(c, &p, "rope", "", n_pairs);
    numbers_free(x);
    numbers_free(table);
}

// Three blocks of scores, some masked, one wholly; then their sums merged.
static void check_softmax_of(struct check *c, size_t n)
{
    struct kern_softmax states[2] = {{-INFINITY, 0}, {-INFINITY, 0}};
    for (size_t block = 0; block < 3; block++) {
        float *s = numbers(c, n, 60);
        for (size_t i = 0; i < n; i++) {
            s[i] = block == 0 || rng_below(&c->rng, 4) == 0 ? -INFINITY : s[i];
        }
        struct pair p = pair_new(n * 4);
        struct pair q = pair_new(3 * 4);
        pair_fill(&p, s);
        for (size_t i = 0; i < 2; i++) {
            float *out = pair_at(&q, i);
            out[0] = twin(c, i)->softmax(pair_at(&p, i), n, &states[i]);
            out[1] = states[i].max;
            out[2] = states[i].sum;
        }
        pair_check(c, &p, "softmax", "", n);
        pair_check(c, &q, "softmax state", "", n);
        numbers_free(s);
    }
    float *a = numbers(c, n + 3, 1);
    float *b = numbers(c, n + 3, 1);
    for (size_t k = 0; k < 3; k++) {
        const struct kern_softmax b_state = {k == 1 ? -INFINITY : states[0].max - 1, 2};
        struct pair p = pair_new((n + 3) * 4);
        struct pair q = pair_new(2 * 4);
        pair_fill(&p, a);
        for (size_t i = 0; i < 2; i++) {
            struct kern_softmax a_state = {k == 2 ? -INFINITY : states[0].max, 3};
            twin(c, i)->merge(pair_at(&p, i), &a_state, b, &b_state, n + 3);
            memcpy(pair_at(&q, i), &a_state, sizeof(a_state));
        }
        pair_check(c, &p, "merge", "", n);
        pair_check(c, &q, "merge state", "", n);
    }
    numbers_free(a);
    numbers_free(b);
}

// ------------------------------------------------------------------------------------ strips

static void check_strip_f32(struct check *c, enum dtype type, size_t n)
{
    struct matrix m = matrix_new(&c->rng, type, KERN_LANES, n, n / 32 % 2);
    const struct strip_source from = {m.w.data, m.w.row_size};
    struct pair p = pair_new(n * KERN_LANES * 4);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->strip_f32[type](pair_at(&p, i), m.w.packed, n, type);
    }
    pair_check(c, &p, "strip_f32", dtypes[type].name, n);
    p = pair_new(n * 4);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->unpack[type](pair_at(&p, i), from.data + 12 * from.stride, n);
    }
    pair_check(c, &p, "unpack", dtypes[type].name, n);
    matrix_release(&m);
}

// From rows at places that nothing is aligned to.
static void check_pack_strip(struct check *c, enum dtype type, size_t n)
{
    struct matrix m = matrix_new(&c->rng, type, KERN_LANES, n, true);
    const struct strip_source from = {m.w.data, m.w.row_size};
    struct pair p = pair_new(m.w.strip_size);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->pack_strip(pair_at(&p, i), from, n, type);
    }
    pair_check(c, &p, "pack_strip", dtypes[type].name, n);
    matrix_release(&m);
}

// Codes, scales and minima of a strip in one block, so that guards stand around all of them.
static struct code_strip strip_in(const struct check *c, uint8_t *block, size_t n, size_t sub_block)
{
    float *scale = (float *)(void *)(block + n * KERN_LANES);
    return (struct code_strip){.codes = block,
                               .scale = scale,
                               .min = scale + n / sub_block * KERN_LANES,
                               .order = c->fast.order};
}

static size_t strip_size(size_t n, const struct kern_coding *coding)
{
    return n * KERN_LANES + n / coding->sub_block * KERN_LANES * 4 * (coding->has_min ? 2 : 1);
}

// A panel's parts in one block: 60 bytes per row and 32 columns.
static struct panel panel_in(const struct check *c, uint8_t *block, size_t n, size_t n_rows)
{
    const size_t blocks = n / KERN_BLOCK * n_rows;
    struct panel p = {.n_rows = n_rows, .order = c->fast.order};
    p.codes = (int8_t *)block;
    p.scale = (float *)(void *)(block + blocks * KERN_BLOCK);
    p.minus_32 = (int32_t *)(void *)(p.scale + blocks);
    p.sum_32 = (float *)(void *)(p.minus_32 + blocks);
    p.minus_16 = (int32_t *)(void *)(p.sum_32 + blocks);
    p.sum_16 = (float *)(void *)(p.minus_16 + 2 * blocks);
    return p;
}

static void check_pack(struct check *c, size_t n_rows, size_t n)
{
    const size_t stride = n + 3;
    float *x = numbers(c, n_rows * stride, 4);
    for (size_t i = 0; i < 40; i++) {
        x[i] = i < 32 ? 0.0f : ldexpf(x[i], -30); // a block of zeros, then a few small ones
    }
    struct pair p = pair_new(n / KERN_BLOCK * n_rows * 60);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->pack(panel_in(c, pair_at(&p, i), n, n_rows), x, stride, n);
    }
    pair_check(c, &p, "pack", "", n);
    numbers_free(x);
}

// Products of one panel, continued in a second call, from the strip that the generic level
// unpacked.
static void check_dot_q8(struct check *c, enum dtype type, struct code_strip strip, size_t n,
                         size_t n_rows)
{
    const struct kern_coding *coding = &kern_codings[type];
    float *x = numbers(c, n_rows * n, 2);
    uint8_t *block = test_alloc(n / KERN_BLOCK * n_rows * 60);
    const struct panel panel = panel_in(c, block, n, n_rows);
    c->plain.pack(panel, x, n, n);
    const size_t stride = KERN_LANES + 1;
    struct pair p = pair_new(((n_rows - 1) * stride + KERN_LANES) * 4);
    for (size_t i = 0; i < 2; i++) {
        struct acc acc = {.data = pair_at(&p, i), .stride = stride, .is_fresh = true};
        twin(c, i)->dot_q8(acc, strip, panel, coding, n);
        acc.is_fresh = false;
        twin(c, i)->dot_q8(acc, strip, panel, coding, n);
    }
    pair_check(c, &p, "dot_q8", dtypes[type].name, n);
    mem_free(block);
    numbers_free(x);
}

// Strip and products in one step, continued in a second call, against the two steps.
static void check_rows_q8(struct check *c, enum dtype type, const uint8_t *packed,
                          struct code_strip strip, size_t n, size_t n_rows)
{
    if (!c->fast.rows_q8[type]) {
        return;
    }
    float *x = numbers(c, n_rows * n, 2);
    const size_t row_size = n / KERN_BLOCK * 60;
    uint8_t *block = test_alloc(n_rows * row_size);
    struct panel rows[KERN_FEW_ROWS];
    const size_t stride = KERN_LANES + 3;
    struct pair p = pair_new(((n_rows - 1) * stride + KERN_LANES) * 4);
    for (size_t r = 0; r < n_rows; r++) {
        rows[r] = panel_in(c, block + r * row_size, n, 1);
        c->plain.pack(rows[r], x + r * n, n, n);
    }
    for (size_t again = 0; again < 2; again++) {
        struct acc acc = {.data = pair_at(&p, 1), .stride = stride, .is_fresh = again == 0};
        c->fast.rows_q8[type](acc, packed, rows, n_rows, n, type);
        for (size_t r = 0; r < n_rows; r++) {
            acc.data = (float *)pair_at(&p, 0) + r * stride;
            c->plain.dot_q8(acc, strip, rows[r], &kern_codings[type], n);
        }
    }
    pair_check(c, &p, "rows_q8", dtypes[type].name, n);
    mem_free(block);
    numbers_free(x);
}

static void check_strip_q8(struct check *c, enum dtype type, size_t n)
{
    const struct kern_coding *coding = &kern_codings[type];
    struct matrix m = matrix_new(&c->rng, type, KERN_LANES, n, n / 32 % 2);
    struct pair p = pair_new(strip_size(n, coding));
    for (size_t i = 0; i < 2; i++) {
        struct code_strip strip = strip_in(c, pair_at(&p, i), n, coding->sub_block);
        twin(c, i)->strip_q8[type](strip, m.w.packed, n, type);
    }
    const struct code_strip strip = strip_in(c, pair_at(&p, 0), n, coding->sub_block);
    for (size_t n_rows = c->fast.panel_rows; n_rows > 0; n_rows--) {
        check_dot_q8(c, type, strip, n, n_rows);
    }
    for (size_t n_rows = 1; n_rows <= KERN_FEW_ROWS; n_rows += n_rows) {
        check_rows_q8(c, type, m.w.packed, strip, n, n_rows);
    }
    pair_check(c, &p, "strip_q8", dtypes[type].name, n);
    matrix_release(&m);
}

// Of a type, by the bits that its layout has for a code (docs/formats.md); e2m1 goes from -12 to 12
// in halves around 16.
static uint8_t largest_code(enum dtype type)
{
    switch (type) {
    case DTYPE_Q2_K:
        return 3;
    case DTYPE_Q3_K:
        return 7;
    case DTYPE_Q4_0:
    case DTYPE_Q4_1:
    case DTYPE_Q4_K:
        return 15;
    case DTYPE_MXFP4:
    case DTYPE_NVFP4:
        return 28;
    case DTYPE_Q5_0:
    case DTYPE_Q5_1:
    case DTYPE_Q5_K:
        return 31;
    case DTYPE_Q6_K:
        return 63;
    default:
        return 255;
    }
}

// Codes at the ends of their range and activations of +-127: sums must not saturate.
static void check_extremes(struct check *c, enum dtype type)
{
    enum { N = 256 };
    const struct kern_coding *coding = &kern_codings[type];
    const uint8_t largest = largest_code(type);
    const int zero = c->fast.order.strip_signed && !coding->has_min ? 1 << coding->zero_shift : 0;
    uint8_t *block = test_alloc(strip_size(N, coding) + N * KERN_LANES * 4);
    const struct code_strip strip = strip_in(c, block, N, coding->sub_block);
    for (size_t k = 0; k < N; k++) {
        for (size_t i = 0; i < KERN_LANES; i++) {
            const uint8_t code = i % 4 == 0 ? 0 : i % 4 == 1 ? largest : (uint8_t)(k % largest);
            strip.codes[kern_code_at(strip.order, k, i)] = (uint8_t)(code - zero);
        }
    }
    for (size_t i = 0; i < N / coding->sub_block * KERN_LANES; i++) {
        strip.scale[i] = 1;
        strip.min[i] = 1;
    }
    float x[N];
    uint8_t panel_block[N / KERN_BLOCK * 60];
    const struct panel panel = panel_in(c, panel_block, N, 1);
    for (size_t k = 0; k < N; k++) {
        x[k] = k / 64 % 2 ? -127.0f : 127.0f;
    }
    c->plain.pack(panel, x, N, N);
    struct pair p = pair_new(KERN_LANES * 4);
    for (size_t i = 0; i < 2; i++) {
        const struct acc acc = {.data = pair_at(&p, i), .stride = KERN_LANES, .is_fresh = true};
        twin(c, i)->dot_q8(acc, strip, panel, coding, N);
    }
    pair_check(c, &p, "dot_q8 extremes", dtypes[type].name, N);
    mem_free(block);
}

static void check_dot_f32(struct check *c, size_t n_rows, size_t n)
{
    const size_t strip_stride = KERN_LANES + n % 2 * 16;
    const size_t x_stride = n + 1;
    float *strip = numbers(c, n * strip_stride, 1);
    float *x = numbers(c, n_rows * x_stride, 1);
    const size_t stride = KERN_LANES + 5;
    struct pair p = pair_new(((n_rows - 1) * stride + KERN_LANES) * 4);
    for (size_t i = 0; i < 2; i++) {
        struct acc acc = {.data = pair_at(&p, i), .stride = stride, .is_fresh = true};
        twin(c, i)->dot_f32(acc, strip, strip_stride, x, x_stride, n_rows, n);
        acc.is_fresh = false;
        twin(c, i)->dot_f32(acc, strip, strip_stride, x, x_stride, n_rows, n);
    }
    pair_check(c, &p, "dot_f32", "", n);
    numbers_free(strip);
    numbers_free(x);
}

// Strips and products in one step, in two pieces of columns, against the two steps.
static void check_rows_f32(struct check *c, enum dtype type, size_t n_strips, size_t n_rows,
                           size_t n)
{
    if (!c->fast.rows_f32[type]) {
        return;
    }
    struct matrix m = matrix_new(&c->rng, type, n_strips * KERN_LANES, n, false);
    float *unpacked = numbers(c, n * KERN_LANES, 1);
    float *numbers_x = numbers(c, n_rows * (n + 1), 1);
    const struct f32_rows x = {numbers_x, n + 1};
    const struct kern_packing packing = kern_packing_of(type);
    const size_t pieces[2] = {n / 2 / packing.values * packing.values, n};
    const size_t stride = n_strips * KERN_LANES + 3;
    struct pair p = pair_new(((n_rows - 1) * stride + n_strips * KERN_LANES) * 4);
    for (size_t i = 0, k = 0; i < 2; k = pieces[i++]) {
        const size_t here = pieces[i] - k;
        const uint8_t *packed = m.w.packed + k / packing.values * packing.size * KERN_LANES;
        struct acc acc = {.data = pair_at(&p, 1), .stride = stride, .is_fresh = i == 0};
        const struct f32_rows columns = {x.data + k, x.stride};
        c->fast.rows_f32[type](acc, packed, m.w.strip_size, n_strips, columns, n_rows, here, type);
        for (size_t s = 0; s < n_strips; s++) {
            acc.data = (float *)pair_at(&p, 0) + s * KERN_LANES;
            c->plain.strip_f32[type](unpacked, packed + s * m.w.strip_size, here, type);
            c->plain.dot_f32(acc, unpacked, KERN_LANES, columns.data, x.stride, n_rows, here);
        }
    }
    pair_check(c, &p, "rows_f32", dtypes[type].name, n);
    numbers_free(unpacked);
    numbers_free(numbers_x);
    matrix_release(&m);
}

// ------------------------------------------------------------------------------------ attention

static void check_turn(struct check *c, size_t n)
{
    const size_t stride = n + 5;
    float *rows = numbers(c, KERN_LANES * stride, 1);
    struct pair p = pair_new(n * KERN_LANES * 4);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->turn(pair_at(&p, i), rows, stride, n);
    }
    pair_check(c, &p, "turn", "", n);
    numbers_free(rows);
}

// Rows of a cache: those of floats are aligned, others need not be.
static struct matrix cache_rows(struct check *c, enum dtype type, size_t n_rows, size_t n)
{
    return matrix_new(&c->rng, type, n_rows, n, type != DTYPE_F32);
}

static void check_rebuild_keys(struct check *c, enum dtype type, size_t n_pairs, size_t half)
{
    enum { KEYS = 5 };
    const size_t stride = 2 * n_pairs + 3;
    struct matrix m = cache_rows(c, type, KEYS, 2 * half);
    const struct strip_source from = {m.w.data, m.w.row_size};
    float *norm = numbers(c, 2 * half, 2);
    float *table = numbers(c, KEYS * 2 * n_pairs, 1);
    struct pair p = pair_new(((KEYS - 1) * stride + 2 * n_pairs) * 4);
    for (size_t i = 0; i < 2; i++) {
        twin(c, i)->rebuild_keys[type](pair_at(&p, i), stride, from, KEYS, norm, table, n_pairs,
                                       half, type);
    }
    pair_check(c, &p, "rebuild_keys", dtypes[type].name, n_pairs);
    numbers_free(norm);
    numbers_free(table);
    matrix_release(&m);
}

// A score of columns [first, first + n) of rows of `columns`, continued by a second call.
static void check_strip_scores(struct check *c, enum dtype type, size_t n_keys, size_t columns,
                               size_t first, size_t n)
{
    struct matrix m = cache_rows(c, type, n_keys, columns);
    const struct strip_source from = {m.w.data, m.w.row_size};
    float *q = numbers(c, n * KERN_LANES, 1);
    struct pair p = pair_new(n_keys * KERN_LANES * 4);
    for (size_t i = 0; i < 2; i++) {
        for (size_t again = 0; again < 2; again++) {
            twin(c, i)->strip_scores[type](pair_at(&p, i), q, from, n_keys, first, n, again == 0,
                                           type);
        }
    }
    pair_check(c, &p, "strip_scores", dtypes[type].name, n);
    numbers_free(q);
    matrix_release(&m);
}

// Three blocks of scores, some masked, the first wholly and one lane always.
static void check_strip_softmax(struct check *c, size_t n)
{
    struct kern_softmax states[2][KERN_LANES];
    for (size_t i = 0; i < 2 * KERN_LANES; i++) {
        states[i / KERN_LANES][i % KERN_LANES] = (struct kern_softmax){-INFINITY, 0};
    }
    for (size_t block = 0; block < 3; block++) {
        float *s = numbers(c, n * KERN_LANES, 60);
        for (size_t i = 0; i < n * KERN_LANES; i++) {
            const bool is_masked = block == 0 || i % KERN_LANES == 3 || rng_below(&c->rng, 4) == 0;
            s[i] = is_masked ? -INFINITY : s[i];
        }
        struct pair p = pair_new(n * KERN_LANES * 4);
        struct pair q = pair_new(KERN_LANES * 4 + sizeof(states[0]));
        pair_fill(&p, s);
        for (size_t i = 0; i < 2; i++) {
            float *out = pair_at(&q, i);
            twin(c, i)->strip_softmax(pair_at(&p, i), n, states[i], out);
            memcpy(out + KERN_LANES, states[i], sizeof(states[i]));
        }
        pair_check(c, &p, "strip_softmax", "", n);
        pair_check(c, &q, "strip_softmax state", "", n);
        numbers_free(s);
    }
}

static void check_strip_values(struct check *c, enum dtype type, size_t n_rows, size_t n_keys,
                               size_t n)
{
    const size_t stride = n + 7;
    struct matrix m = cache_rows(c, type, n_keys, n);
    const struct strip_source from = {m.w.data, m.w.row_size};
    float *weights = numbers(c, n_keys * KERN_LANES, 1);
    float *factors = numbers(c, n_rows, 1);
    float *sums = numbers(c, n_rows * stride, 1);
    struct pair p = pair_new(((n_rows - 1) * stride + n) * 4);
    pair_fill(&p, sums);
    for (size_t i = 0; i < 2; i++) {
        const struct acc acc = {.data = pair_at(&p, i), .stride = stride};
        twin(c, i)->strip_values[type](acc, factors, weights, from, n_rows, n_keys, n, type);
    }
    pair_check(c, &p, "strip_values", dtypes[type].name, n);
    numbers_free(weights);
    numbers_free(factors);
    numbers_free(sums);
    matrix_release(&m);
}

static void check_few(struct check *c, enum dtype type, size_t n_rows, size_t n)
{
    const size_t n_keys = 13 + n_rows;
    const size_t stride = n + 7;
    struct matrix m = cache_rows(c, type, KERN_LANES + n_rows, n);
    const struct strip_source from = {m.w.data, m.w.row_size};
    float *q = numbers(c, n_rows * stride, 1);
    float *weights = numbers(c, n_rows * KERN_KEYS, 1);
    float *sums = numbers(c, n_rows * stride, 1);
    struct pair scores = pair_new(((n_rows - 1) * KERN_KEYS + KERN_LANES) * 4);
    struct pair p = pair_new(((n_rows - 1) * stride + n) * 4);
    pair_fill(&p, sums);
    for (size_t i = 0; i < 2; i++) {
        const struct acc to = {.data = pair_at(&scores, i), .stride = KERN_KEYS};
        const struct acc acc = {.data = pair_at(&p, i), .stride = stride};
        twin(c, i)->few_scores[type](to, from, (struct f32_rows){q, stride}, n_rows, n, type);
        twin(c, i)->few_values[type](acc, q, (struct f32_rows){weights, KERN_KEYS}, from, n_rows,
                                     n_keys, n, type);
    }
    pair_check(c, &scores, "few_scores", dtypes[type].name, n);
    pair_check(c, &p, "few_values", dtypes[type].name, n);
    numbers_free(q);
    numbers_free(weights);
    numbers_free(sums);
    matrix_release(&m);
}

static void check_attention_of(struct check *c, enum dtype type)
{
    const size_t unit = dtypes[type].block_values;
    for (size_t n_rows = 1; n_rows <= KERN_FEW_MAX; n_rows++) {
        check_few(c, type, n_rows, unit == 1 ? 13 : 32);
        check_few(c, type, n_rows, unit == 1 ? 40 : 96);
        check_few(c, type, n_rows, 256);
        check_strip_values(c, type, 2 * n_rows, n_rows, 64);
        check_strip_values(c, type, 2 * n_rows - 1, 64 - n_rows, 160);
    }
    for (size_t n_keys = 1; n_keys <= 2 * KERN_LANES + 1; n_keys += 2) {
        check_strip_scores(c, type, n_keys, 64, 0, 64);
        check_strip_scores(c, type, n_keys, 128, 16, 48);
    }
    check_rebuild_keys(c, type, 16, 16);
    check_rebuild_keys(c, type, 48, 80);
    if (type == DTYPE_F32) {
        check_strip_values(c, type, 11, 20, 45);
        check_strip_scores(c, type, 7, 29, 3, 23);
        check_rebuild_keys(c, type, 7, 9);
        check_rebuild_keys(c, type, 21, 33);
    }
}

static void check_attention(struct check *c)
{
    for (size_t n = 1; n <= KERN_KEYS; n += 1 + n / 4) {
        check_turn(c, n);
        check_strip_softmax(c, n);
    }
    check_strip_softmax(c, KERN_KEYS);
    check_attention_of(c, DTYPE_F32);
    check_attention_of(c, DTYPE_F16);
    check_attention_of(c, DTYPE_Q8_0);
}

// ------------------------------------------------------------------------------------ all of a
// level

static void check_types(struct check *c)
{
    for (size_t type = 0; type < DTYPE_COUNT_COMPUTE; type++) {
        const size_t block = dtypes[type].block_values;
        const size_t unit = block == 1 ? 7 : block;
        for (size_t n = unit; n <= COLUMNS_MAX; n += unit * (1 + n / unit / 3)) {
            check_strip_f32(c, type, n);
            check_pack_strip(c, type, n);
            if (kern_codings[type].sub_block != 0) {
                check_strip_q8(c, type, n);
            }
        }
        if (kern_codings[type].sub_block != 0) {
            check_extremes(c, type);
        }
    }
}

static void check_level(struct check *c)
{
    for (size_t n = 1; n <= 40; n++) {
        check_rows_of(c, n);
        check_rope_of(c, n);
    }
    check_rows_of(c, 999);
    for (size_t n = KERN_LANES; n <= KERN_KEYS; n += KERN_LANES) {
        check_softmax_of(c, n);
    }
    for (size_t n_rows = 1; n_rows <= ROWS_MAX; n_rows++) {
        check_dot_f32(c, n_rows, 1);
        check_dot_f32(c, n_rows, 48);
        check_dot_f32(c, n_rows, 259);
        for (size_t i = 0; i < 3; i++) {
            const enum dtype type = (enum dtype[]){DTYPE_F32, DTYPE_F16, DTYPE_BF16}[i];
            check_rows_f32(c, type, 1, n_rows, 1);
            check_rows_f32(c, type, KERN_F32_STRIPS, n_rows, 67);
            check_rows_f32(c, type, KERN_F32_STRIPS, n_rows, 96);
        }
    }
    for (size_t n_rows = c->fast.panel_rows; n_rows > 0; n_rows--) {
        check_pack(c, n_rows, 64);
        check_pack(c, n_rows, 2240);
    }
    check_types(c);
    check_attention(c);
}

// The generic kernels' products against double, through the same strips. Every f32 addition errs by
// at most 2^-24 of a partial sum; minima and codes may cancel, so twice the largest weight is
// added.
static void check_against_double(struct check *c, enum dtype type)
{
    enum { N = 512, ROWS = 3 };
    struct matrix m = matrix_new(&c->rng, type, KERN_LANES, N, false);
    float *strip = test_alloc(N * KERN_LANES * 4);
    float *x = numbers(c, ROWS * N, 1);
    float out[ROWS * KERN_LANES];
    float w[N];
    c->plain.strip_f32[type](strip, m.w.packed, N, type);
    const struct acc acc = {.data = out, .stride = KERN_LANES, .is_fresh = true};
    c->plain.dot_f32(acc, strip, KERN_LANES, x, N, ROWS, N);
    for (size_t i = 0; i < ROWS * KERN_LANES; i++) {
        double sum = 0;
        double size = 0;
        matrix_row(w, &m, i % KERN_LANES);
        for (size_t k = 0; k < N; k++) {
            const double product = (double)w[k] * (double)x[i / KERN_LANES * N + k];
            sum += product;
            size += fabs(product);
        }
        c->n_compared++;
        if (!(fabs(sum - (double)out[i]) <= (N + 2) * ldexp(1, -24) * size)) {
            c->n_failed++;
            printf("generic: %s: output %zu is %g, in double %g\n", dtypes[type].name, i,
                   (double)out[i], sum);
        }
    }
    numbers_free(x);
    mem_free(strip);
    matrix_release(&m);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench_kernels(argc > 2 ? argv[2] : "");
        return 0;
    }
    if (argc > 1) {
        fprintf(stderr, "usage: check_kernels [--bench [WORD]]\n");
        return 2;
    }
    bool has_failed = false;
    struct check c = {.level = "generic", .rng = {.state = 1}};
    kern_init_generic(&c.plain);
    twins_add();
    for (size_t type = 0; type < DTYPE_COUNT_COMPUTE; type++) {
        check_against_double(&c, type);
    }
    for (size_t i = 0; c.level; c.level = cpu_level_name(++i)) {
        if (i > 0 && !cpu_kern_init_level(&c.fast, c.level)) {
            printf("%-10s not on this machine\n", c.level);
            continue;
        }
        if (i > 0) {
            check_level(&c);
        }
        printf("%-10s %zu comparisons, %zu failed\n", c.level, c.n_compared, c.n_failed);
        has_failed = has_failed || c.n_failed > 0;
        c.n_compared = 0;
        c.n_failed = 0;
    }
    return has_failed ? 1 : 0;
}
