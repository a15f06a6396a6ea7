// SPDX-License-Identifier: Apache-2.0
// Attention, as a softmax that goes on over blocks of keys (Milakov and Gimelshein, "Online
// normalizer calculation for softmax", 2018). Blocks of 64 keys and segments of 512 lie at absolute
// positions: how a row's sum is put together depends on its position alone, not on chunks, on the
// ring's wrap or on which thread took which segment.
//
// Query rows that share a kv head attend together, as strips of sixteen, or as a few rows for which
// unpacking keys would cost more than multiplying them.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "compute/cpu/cpu.h"

enum {
    PARALLEL_MIN = 1 << 17, // multiplications below which threads cost more than they bring
    MERGE_MIN = 1 << 16,    // numbers to merge, likewise
    ROW_GAP = 16,           // floats between unpacked rows, which else compete for cache lines
};

_Static_assert(ATTEND_SEGMENT % KERN_KEYS == 0, "segments are whole blocks");
_Static_assert(KERN_KEYS % KERN_LANES == 0, "blocks are whole strips");

// To whole strips.
static size_t padded(size_t n)
{
    return (n + KERN_LANES - 1) / KERN_LANES * KERN_LANES;
}

// What a thread needs, in floats; rows is the most query rows in a tile, d the padded head size.
static bool scratch_floats(size_t *out, size_t rows, size_t d)
{
    size_t per_row;
    size_t total;
    size_t fixed;
    // Queries, sums of the segment and in all; scores, a factor and four running figures.
    if (!size_mul(&per_row, d, 3) || !size_add(&per_row, per_row, KERN_KEYS + 5) ||
        !size_mul(&total, per_row, rows)) {
        return false;
    }
    // Values and keys of a block.
    if (!size_add(&fixed, d, ROW_GAP) || !size_mul(&fixed, fixed, 2 * KERN_KEYS)) {
        return false;
    }
    return size_add(out, total, fixed);
}

static size_t tile_rows(size_t heads)
{
    return padded(heads > ATTEND_ROWS ? heads : ATTEND_ROWS);
}

bool cpu_attend_thread_size(size_t *out, const struct device_limits *limits)
{
    size_t n;
    return scratch_floats(&n, tile_rows(limits->heads_max), padded(limits->head_dim_max)) &&
           size_mul(out, n, sizeof(float));
}

// One token's segments: sums [segments][heads][d], then two figures each.
bool cpu_attend_partials_size(size_t *out, const struct device_limits *limits)
{
    const size_t segments = limits->keys_max / ATTEND_SEGMENT + 2;
    size_t n;
    return size_mul(&n, padded(limits->head_dim_max) + 2, limits->heads_max) &&
           size_mul(&n, n, segments) && size_mul(out, n, sizeof(float));
}

struct attend_job {
    struct cpu_device *dev;
    struct tensor out;
    struct tensor q;
    const struct kv_view *kv;
    size_t first;
    const size_t *ends; // [q.rows], how far rows look ahead; NULL: causal
    size_t n_query_heads;
    size_t group; // query heads that share a kv head
    size_t d;     // padded head size
    size_t tile_tokens;
    size_t n_tiles;
    size_t token;         // whose segments are tasks
    size_t first_segment; // of those
    size_t n_segments;
};

// Which positions a query sees, [begin, end): the one place that decides about masks.
struct span {
    size_t begin;
    size_t end;
};

static struct span visible(const struct attend_job *job, size_t row)
{
    const size_t next = job->first + row + 1;
    const size_t window = job->kv->window;
    const bool is_cut = window > 0 && next > window;
    return (struct span){is_cut ? next - window : 0, job->ends ? job->ends[row] : next};
}

// Query rows that attend together (tokens x heads of one kv head) and where their sums grow.
struct tile {
    const struct attend_job *job;
    size_t head;        // kv head
    size_t first_token; // in the chunk
    size_t n_rows;
    size_t n_strips;            // 0: few rows
    struct span keys;           // what any of its rows sees
    struct span common;         // what all of them see
    float *q;                   // [strips][d][16], or [rows][d]
    float *sums;                // [rows][d], of the segment at hand
    float *total;               // [rows][d], over the segments
    struct kern_softmax *state; // [padded rows]
    struct kern_softmax *total_state;
    float *scores;  // [strips][KERN_KEYS][16], or [rows][KERN_KEYS]
    float *factors; // [padded rows]
    float *rows[2]; // of values and of keys, copied, unpacked or rebuilt: [KERN_KEYS][d + ROW_GAP]
};

static float *take(float **at, size_t n)
{
    float *block = *at;
    *at += n;
    return block;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

// ------------------------------------------------------------------------------------ queries

static void multiply(float *x, const float *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] *= w[i];
    }
}

// One query. Where keys are made from values, the norm's weight is taken into those elements of it
// that meet the value as it is, which are most, once instead of for each key.
static void load_query(const struct tile *t, float *to, size_t r)
{
    const struct attend_job *job = t->job;
    const struct kv_view *kv = job->kv;
    const size_t token = t->first_token + r / job->group;
    const size_t query_head = t->head * job->group + r % job->group;
    const size_t plain = kv->head_dim / 2 + kv->n_pairs; // where the second half's begin
    memcpy(to, job->q.data + token * job->q.stride + query_head * kv->head_dim,
           kv->head_dim * sizeof(float));
    if (!kv->keys) {
        multiply(to + kv->n_pairs, kv->key_norm + kv->n_pairs, kv->head_dim / 2 - kv->n_pairs);
        multiply(to + plain, kv->key_norm + plain, kv->head_dim - plain);
    }
}

static void load_queries(const struct tile *t)
{
    const struct attend_job *job = t->job;
    if (t->n_strips == 0) {
        for (size_t r = 0; r < t->n_rows; r++) {
            load_query(t, t->q + r * job->d, r);
        }
        return;
    }
    float *rows = t->rows[0]; // free until the first block
    for (size_t s = 0; s < t->n_strips; s++) {
        const size_t n = smaller(t->n_rows - s * KERN_LANES, KERN_LANES);
        memset(rows, 0, KERN_LANES * job->d * sizeof(float));
        for (size_t r = 0; r < n; r++) {
            load_query(t, rows + r * job->d, s * KERN_LANES + r);
        }
        job->dev->kern.turn(t->q + s * KERN_LANES * job->d, rows, job->d, job->kv->head_dim);
    }
}

static void tile_init(struct tile *t, const struct attend_job *job, uint8_t *scratch, size_t head,
                      size_t first_token, size_t n_tokens)
{
    const size_t rows = n_tokens * job->group;
    const size_t all_rows = padded(rows);
    float *at = (float *)(void *)scratch;
    *t = (struct tile){.job = job, .head = head, .first_token = first_token, .n_rows = rows};
    t->n_strips = rows > KERN_FEW_MAX ? all_rows / KERN_LANES : 0;
    t->keys = visible(job, first_token);
    t->common = t->keys;
    for (size_t i = 1; i < n_tokens; i++) {
        const struct span seen = visible(job, first_token + i);
        t->keys.end = larger(t->keys.end, seen.end);
        t->common.begin = larger(t->common.begin, seen.begin);
        t->common.end = smaller(t->common.end, seen.end);
    }
    t->q = take(&at, all_rows * job->d);
    t->rows[0] = take(&at, KERN_KEYS * (job->d + ROW_GAP));
    t->rows[1] = take(&at, KERN_KEYS * (job->d + ROW_GAP));
    t->scores = take(&at, all_rows * KERN_KEYS);
    t->sums = take(&at, rows * job->d);
    t->total = take(&at, rows * job->d);
    t->factors = take(&at, all_rows);
    t->state = (struct kern_softmax *)(void *)take(&at, 2 * all_rows);
    t->total_state = (struct kern_softmax *)(void *)take(&at, 2 * all_rows);
    load_queries(t);
}

static void clear(struct kern_softmax *state, size_t n_states, float *sums, size_t n)
{
    for (size_t r = 0; r < n_states; r++) {
        state[r] = (struct kern_softmax){.max = -INFINITY};
    }
    memset(sums, 0, n * sizeof(float));
}

// A block may reach past what the tile sees; there it repeats the nearest row, and the mask drops
// it.
static size_t nearest(struct span keys, size_t position)
{
    if (position < keys.begin) {
        return keys.begin;
    }
    return position < keys.end ? position : keys.end - 1;
}

static const uint8_t *row_at(const struct tile *t, bool is_key, size_t position)
{
    const struct kv_view *kv = t->job->kv;
    return cpu_kv_row(kv, is_key ? kv->keys : kv->values,
                      is_key ? kv->recent_keys : kv->recent_values, t->head,
                      nearest(t->keys, position), t->job->first);
}

static const float *rotation(const struct tile *t, size_t position)
{
    const struct kv_view *kv = t->job->kv;
    return kv->rope_table + nearest(t->keys, position) * kv->n_pairs * 2;
}

// Rows of keys or values, as stored or as f32.
struct rows {
    struct strip_source from;
    enum dtype type;
};

// n rows from position begin on where they stand, or copied where they do not follow each other: at
// the ring's wrap, between the ring and the chunk's own rows, and at the ends of what is seen.
static struct rows stored_rows(const struct tile *t, bool is_key, size_t begin, size_t n)
{
    const struct kv_view *kv = t->job->kv;
    const size_t first = t->job->first;
    const bool is_inside = begin >= t->keys.begin && begin + n <= t->keys.end;
    const bool is_recent = kv->window > 0 && begin >= first;
    const bool is_old =
        (kv->window == 0 || begin + n <= first) && begin % kv->capacity + n <= kv->capacity;
    if (is_inside && (is_recent || is_old)) {
        return (struct rows){{row_at(t, is_key, begin), kv->row_size}, kv->type};
    }
    uint8_t *copies = (uint8_t *)t->rows[is_key];
    for (size_t i = 0; i < n; i++) {
        memcpy(copies + i * kv->row_size, row_at(t, is_key, begin + i), kv->row_size);
    }
    return (struct rows){{copies, kv->row_size}, kv->type};
}

static struct rows f32_rows(const float *rows, size_t stride)
{
    return (struct rows){{(const uint8_t *)rows, stride * sizeof(float)}, DTYPE_F32};
}

// The same unpacked.
static struct rows unpacked_rows(const struct tile *t, float *to, bool is_key, size_t begin,
                                 size_t n)
{
    const struct kv_view *kv = t->job->kv;
    const size_t stride = t->job->d + ROW_GAP;
    for (size_t i = 0; i < n; i++) {
        t->job->dev->kern.unpack[kv->type](to + i * stride, row_at(t, is_key, begin + i),
                                           kv->head_dim);
    }
    return f32_rows(to, stride);
}

// ------------------------------------------------------------------------------------ strips

// One strip takes rows as they are stored, where whole vectors of them can be; for more strips they
// are unpacked once.
static struct rows load_rows(const struct tile *t, bool is_key, size_t begin, size_t n)
{
    const struct kv_view *kv = t->job->kv;
    const size_t pairs = kv->keys ? 0 : kv->n_pairs;
    const bool is_even = kv->head_dim % (2 * KERN_LANES) == 0 && pairs % KERN_LANES == 0;
    const bool is_stored = kv->type == DTYPE_F32 || (t->n_strips == 1 && is_even);
    return is_stored ? stored_rows(t, is_key, begin, n)
                     : unpacked_rows(t, t->rows[is_key], is_key, begin, n);
}

// Elements [first, first + n) of the queries with as many of the keys, from key_first on.
static void add_scores(const struct tile *t, struct rows keys, size_t n_keys, size_t first,
                       size_t key_first, size_t n)
{
    for (size_t s = 0; n > 0 && s < t->n_strips; s++) {
        const float *q = t->q + s * KERN_LANES * t->job->d + first * KERN_LANES;
        t->job->dev->kern.strip_scores[keys.type](t->scores + s * KERN_KEYS * KERN_LANES, q,
                                                  keys.from, n_keys, key_first, n, first == 0,
                                                  keys.type);
    }
}

// Keys made from values: of each only the turned elements are made, and the others are the value's.
// Elements keep their order.
static void add_rebuilt_scores(const struct tile *t, struct rows values, size_t begin, size_t n)
{
    const struct kv_view *kv = t->job->kv;
    const size_t pairs = kv->n_pairs;
    const size_t half = kv->head_dim / 2;
    const size_t stride = padded(2 * pairs) + ROW_GAP;
    const struct rows turned = f32_rows(t->rows[1], stride);
    t->job->dev->kern.rebuild_keys[values.type](t->rows[1], stride, values.from, n, kv->key_norm,
                                                kv->rope_table + begin * pairs * 2, pairs, half,
                                                values.type);
    add_scores(t, turned, n, 0, 0, pairs);
    add_scores(t, values, n, pairs, pairs, half - pairs);
    add_scores(t, turned, n, half, pairs, pairs);
    add_scores(t, values, n, half + pairs, half + pairs, kv->head_dim - half - pairs);
}

static void mask_strip(const struct tile *t, size_t strip, size_t begin, size_t n)
{
    float *scores = t->scores + strip * KERN_KEYS * KERN_LANES;
    for (size_t r = 0; r < KERN_LANES && strip * KERN_LANES + r < t->n_rows; r++) {
        const size_t token = t->first_token + (strip * KERN_LANES + r) / t->job->group;
        const struct span seen = visible(t->job, token);
        for (size_t i = 0; i < n; i++) {
            if (begin + i < seen.begin || begin + i >= seen.end) {
                scores[i * KERN_LANES + r] = -INFINITY;
            }
        }
    }
}

static bool all_see(const struct tile *t, size_t begin, size_t n)
{
    return begin >= t->common.begin && begin + n <= t->common.end;
}

static void attend_strips(const struct tile *t, size_t begin, size_t n)
{
    const struct attend_job *job = t->job;
    const struct kv_view *kv = job->kv;
    const struct rows values = load_rows(t, false, begin, n);
    if (kv->keys) {
        add_scores(t, load_rows(t, true, begin, n), n, 0, 0, kv->head_dim);
    } else {
        add_rebuilt_scores(t, values, begin, n);
    }
    for (size_t s = 0; s < t->n_strips; s++) {
        const size_t row = s * KERN_LANES;
        float *scores = t->scores + row * KERN_KEYS;
        const struct acc sums = {.data = t->sums + row * job->d, .stride = job->d};
        if (!all_see(t, begin, n)) {
            mask_strip(t, s, begin, n);
        }
        job->dev->kern.strip_softmax(scores, n, t->state + row, t->factors + row);
        job->dev->kern.strip_values[values.type](sums, t->factors + row, scores, values.from,
                                                 smaller(t->n_rows - row, KERN_LANES), n,
                                                 kv->head_dim, values.type);
    }
}

// ------------------------------------------------------------------------------------ few rows

// Sixteen keys made from values, whole.
static struct rows rebuilt_rows(const struct tile *t, size_t begin)
{
    const struct attend_job *job = t->job;
    const struct kv_view *kv = job->kv;
    const struct kern *kern = &job->dev->kern;
    const size_t half = kv->head_dim / 2;
    const struct rows keys = unpacked_rows(t, t->rows[1], false, begin, KERN_LANES);
    float *turned = t->rows[0];
    for (size_t i = 0; i < KERN_LANES; i++) {
        float *key = t->rows[1] + i * (job->d + ROW_GAP);
        const struct strip_source value = {(const uint8_t *)key, 0};
        kern->rebuild_keys[DTYPE_F32](turned, 0, value, 1, kv->key_norm, rotation(t, begin + i),
                                      kv->n_pairs, half, DTYPE_F32);
        memcpy(key, turned, kv->n_pairs * sizeof(float));
        memcpy(key + half, turned + kv->n_pairs, kv->n_pairs * sizeof(float));
    }
    return keys;
}

static void mask_rows(const struct tile *t, size_t begin, size_t n)
{
    for (size_t r = 0; r < t->n_rows; r++) {
        const struct span seen = visible(t->job, t->first_token + r / t->job->group);
        float *scores = t->scores + r * KERN_KEYS;
        for (size_t i = 0; i < n; i++) {
            if (begin + i < seen.begin || begin + i >= seen.end) {
                scores[i] = -INFINITY;
            }
        }
    }
}

static void attend_few(const struct tile *t, size_t begin, size_t n)
{
    const struct attend_job *job = t->job;
    const struct kv_view *kv = job->kv;
    const struct kern *kern = &job->dev->kern;
    const struct f32_rows queries = {t->q, job->d};
    const struct f32_rows weights = {t->scores, KERN_KEYS};
    const struct acc sums = {.data = t->sums, .stride = job->d};
    const size_t n_padded = padded(n);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const struct acc scores = {.data = t->scores + i, .stride = KERN_KEYS};
        const struct rows keys =
            kv->keys ? stored_rows(t, true, begin + i, KERN_LANES) : rebuilt_rows(t, begin + i);
        kern->few_scores[keys.type](scores, keys.from, queries, t->n_rows, kv->head_dim, keys.type);
    }
    if (!all_see(t, begin, n_padded)) {
        mask_rows(t, begin, n_padded);
    }
    for (size_t r = 0; r < t->n_rows; r++) {
        t->factors[r] = kern->softmax(t->scores + r * KERN_KEYS, n_padded, &t->state[r]);
    }
    const struct rows values = stored_rows(t, false, begin, n);
    kern->few_values[values.type](sums, t->factors, weights, values.from, t->n_rows, n,
                                  kv->head_dim, values.type);
}

// ------------------------------------------------------------------------------------ tiles

// The sums over one segment's share of the tile's keys. A block begins at a multiple of 16, which
// decides what partial sum of the exponentials a key belongs to.
static void attend_segment(const struct tile *t, size_t segment)
{
    const size_t first = t->keys.begin / KERN_LANES * KERN_LANES;
    clear(t->state, padded(t->n_rows), t->sums, t->n_rows * t->job->d);
    for (size_t i = 0; i < ATTEND_SEGMENT; i += KERN_KEYS) {
        const size_t block = segment * ATTEND_SEGMENT + i;
        const size_t begin = larger(block, first);
        const size_t end = smaller(block + KERN_KEYS, t->keys.end);
        if (begin < end && t->n_strips > 0) {
            attend_strips(t, begin, end - begin);
        } else if (begin < end) {
            attend_few(t, begin, end - begin);
        }
    }
}

static void write_row(const struct attend_job *job, size_t token, size_t query_head, float *sums,
                      const struct kern_softmax *state)
{
    const size_t head_dim = job->kv->head_dim;
    float *out = job->out.data + token * job->out.stride + query_head * head_dim;
    memcpy(out, sums, head_dim * sizeof(float));
    job->dev->kern.scale(out, head_dim, 1.0f / state->sum);
}

// A tile of several tokens, all segments in order.
static void tile_task(void *context, size_t task, size_t thread)
{
    const struct attend_job *job = context;
    const struct kern *kern = &job->dev->kern;
    const size_t head = task % job->kv->n_heads;
    // The last tiles see the most keys and go first, so that the threads end together.
    const size_t i_tile = job->n_tiles - 1 - task / job->kv->n_heads;
    const size_t first_token = i_tile * job->tile_tokens;
    struct tile t;
    tile_init(&t, job, job->dev->threads[thread], head, first_token,
              smaller(job->q.rows - first_token, job->tile_tokens));
    clear(t.total_state, t.n_rows, t.total, t.n_rows * job->d);
    for (size_t s = t.keys.begin / ATTEND_SEGMENT; s * ATTEND_SEGMENT < t.keys.end; s++) {
        attend_segment(&t, s);
        for (size_t r = 0; r < t.n_rows; r++) {
            kern->merge(t.total + r * job->d, &t.total_state[r], t.sums + r * job->d, &t.state[r],
                        job->d);
        }
    }
    for (size_t r = 0; r < t.n_rows; r++) {
        write_row(job, first_token + r / job->group, head * job->group + r % job->group,
                  t.total + r * job->d, &t.total_state[r]);
    }
}

// One token's segments: sums [segments][query heads][d], then as many states.
static float *partial_sums(const struct attend_job *job, size_t segment, size_t query_head)
{
    return job->dev->partials + (segment * job->n_query_heads + query_head) * job->d;
}

static struct kern_softmax *partial_state(const struct attend_job *job, size_t segment,
                                          size_t query_head)
{
    float *states = partial_sums(job, job->n_segments, 0);
    return (struct kern_softmax *)(void *)states + segment * job->n_query_heads + query_head;
}

static void segment_task(void *context, size_t task, size_t thread)
{
    const struct attend_job *job = context;
    const size_t head = task % job->kv->n_heads;
    const size_t segment = task / job->kv->n_heads;
    struct tile t;
    tile_init(&t, job, job->dev->threads[thread], head, job->token, 1);
    t.sums = partial_sums(job, segment, head * job->group);
    attend_segment(&t, job->first_segment + segment);
    memcpy(partial_state(job, segment, head * job->group), t.state, t.n_rows * sizeof(*t.state));
}

static void merge_task(void *context, size_t task, size_t thread)
{
    const struct attend_job *job = context;
    const struct kern *kern = &job->dev->kern;
    float *total = (float *)(void *)job->dev->threads[thread];
    struct kern_softmax state;
    clear(&state, 1, total, job->d);
    for (size_t s = 0; s < job->n_segments; s++) {
        kern->merge(total, &state, partial_sums(job, s, task), partial_state(job, s, task), job->d);
    }
    write_row(job, job->token, task, total, &state);
}

// One token with its segments spread over the threads.
static void attend_one(struct attend_job *job, size_t token)
{
    const struct span keys = visible(job, token);
    job->token = token;
    job->first_segment = keys.begin / ATTEND_SEGMENT;
    job->n_segments = (keys.end - 1) / ATTEND_SEGMENT - job->first_segment + 1;
    require(job->n_segments <= job->dev->limits.keys_max / ATTEND_SEGMENT + 2);
    const size_t n_keys = keys.end - keys.begin;
    const size_t n_heads = job->n_query_heads;
    const bool is_small = n_keys < PARALLEL_MIN / job->d / n_heads;
    const bool is_merge_small = job->n_segments < MERGE_MIN / job->d / n_heads;
    pool_run(is_small ? NULL : job->dev->pool, job->n_segments * job->kv->n_heads, segment_task,
             job);
    pool_run(is_merge_small ? NULL : job->dev->pool, n_heads, merge_task, job);
}

// Tiles of tokens: as large as scratch allows, but for short prompts, which are cut finer so that
// every thread gets something; a strip is not cut.
static void plan_tiles(struct attend_job *job)
{
    const size_t wanted = 2 * pool_threads(job->dev->pool);
    job->tile_tokens = job->group < ATTEND_ROWS ? ATTEND_ROWS / job->group : 1;
    for (;;) {
        job->n_tiles = (job->q.rows + job->tile_tokens - 1) / job->tile_tokens;
        if (job->n_tiles * job->kv->n_heads >= wanted || job->tile_tokens == 1 ||
            job->tile_tokens / 2 * job->group < KERN_LANES) {
            return;
        }
        job->tile_tokens /= 2;
    }
}

void cpu_attend(struct device *base, struct tensor out, struct tensor q, const struct kv_view *kv,
                size_t n_query_heads, size_t first, const size_t *ends)
{
    struct cpu_device *dev = (struct cpu_device *)base;
    struct attend_job job = {.dev = dev,
                             .out = out,
                             .q = q,
                             .kv = kv,
                             .first = first,
                             .ends = ends,
                             .n_query_heads = n_query_heads,
                             .group = n_query_heads / kv->n_heads,
                             .d = padded(kv->head_dim)};
    require(dev->threads[0]); // scratch was reserved
    require(kv->head_dim <= dev->limits.head_dim_max);
    require(n_query_heads <= dev->limits.heads_max);
    if (q.rows == 0 || n_query_heads == 0) {
        return;
    }
    plan_tiles(&job);
    // A few rows make too few tiles for all threads: then each has its segments shared out.
    if (q.rows == 1 || job.n_tiles * kv->n_heads < 2 * pool_threads(dev->pool)) {
        for (size_t i = 0; i < q.rows; i++) {
            attend_one(&job, i);
        }
        return;
    }
    pool_run(dev->pool, job.n_tiles * kv->n_heads, tile_task, &job);
}
