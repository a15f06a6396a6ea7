// SPDX-License-Identifier: Apache-2.0
// The kv cache's rows and attention over them, as a softmax that goes on over blocks of keys
// (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). Blocks of 64 keys
// and segments of 512 lie at absolute positions: how a row's sum is put together depends on its
// position alone, not on chunks, on the ring's wrap or on which thread took which segment.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "compute/cpu/cpu.h"

enum { PARALLEL_MIN = 1 << 16 }; // multiplications below which threads cost more than they bring

_Static_assert(ATTEND_SEGMENT % KERN_KEYS == 0, "segments are whole blocks");
_Static_assert(KERN_KEYS % KERN_LANES == 0, "blocks are whole strips");

// Head sizes are padded to whole strips in scratch.
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
    // Queries, sums of the segment and in all; scores and four running figures.
    if (!size_mul(&per_row, d, 3) || !size_add(&per_row, per_row, KERN_KEYS + 4) ||
        !size_mul(&total, per_row, rows)) {
        return false;
    }
    // Values of a block, keys of a strip as rows and transposed.
    if (!size_mul(&fixed, d, KERN_KEYS + 2 * KERN_LANES)) {
        return false;
    }
    return size_add(out, total, fixed);
}

static size_t tile_rows(size_t heads)
{
    return heads > ATTEND_ROWS ? heads : ATTEND_ROWS;
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

// ------------------------------------------------------------------------------------ the cache

// The row of a position. first is where the chunk begins: a ring keeps newer rows apart.
static uint8_t *kv_row(const struct kv_view *kv, uint8_t *base, uint8_t *recent, size_t head,
                       size_t position, size_t first)
{
    if (kv->window > 0 && position >= first) {
        return recent + (head * kv->recent_capacity + (position - first)) * kv->row_size;
    }
    return base + (head * kv->capacity + position % kv->capacity) * kv->row_size;
}

static void store_row(const struct kv_view *kv, uint8_t *row, const float *values)
{
    if (kv->type == DTYPE_F32) {
        memcpy(row, values, kv->head_dim * sizeof(float));
    } else {
        dtypes[kv->type].pack(row, values, kv->head_dim);
    }
}

struct store_job {
    const struct kv_view *kv;
    struct tensor k;
    struct tensor v;
    size_t first;
};

static void store_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct store_job *job = context;
    const struct kv_view *kv = job->kv;
    const size_t i = task / kv->n_heads;
    const size_t head = task % kv->n_heads;
    const size_t at = head * kv->head_dim;
    const size_t position = job->first + i;
    store_row(kv, kv_row(kv, kv->values, kv->recent_values, head, position, job->first),
              job->v.data + i * job->v.stride + at);
    if (kv->keys) {
        store_row(kv, kv_row(kv, kv->keys, kv->recent_keys, head, position, job->first),
                  job->k.data + i * job->k.stride + at);
    }
}

void cpu_kv_store(struct device *base, const struct kv_view *kv, struct tensor k, struct tensor v,
                  size_t first)
{
    struct cpu_device *dev = (struct cpu_device *)base;
    struct store_job job = {.kv = kv, .k = k, .v = v, .first = first};
    require(kv->type == DTYPE_F32 || dtypes[kv->type].pack);
    pool_run(v.rows > 4 ? dev->pool : NULL, v.rows * kv->n_heads, store_task, &job);
}

void cpu_kv_commit(struct device *base, const struct kv_view *kv, size_t first, size_t n)
{
    (void)base;
    if (kv->window == 0) {
        return;
    }
    // Of a chunk longer than the ring only the newest rows remain.
    const size_t begin = n > kv->capacity ? n - kv->capacity : 0;
    for (size_t head = 0; head < kv->n_heads; head++) {
        for (size_t i = begin; i < n; i++) {
            const size_t to = (head * kv->capacity + (first + i) % kv->capacity) * kv->row_size;
            const size_t from = (head * kv->recent_capacity + i) * kv->row_size;
            memcpy(kv->values + to, kv->recent_values + from, kv->row_size);
            if (kv->keys) {
                memcpy(kv->keys + to, kv->recent_keys + from, kv->row_size);
            }
        }
    }
}

// ------------------------------------------------------------------------------------ attention

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
    size_t first_segment; // when segments are tasks
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
    struct span keys;           // what any of its rows sees
    float *q;                   // [rows][d]
    float *sums;                // [rows][d], of the segment at hand
    struct kern_softmax *state; // [rows]
    float *total;               // [rows][d], over the segments
    struct kern_softmax *total_state;
    float *scores;   // [rows][KERN_KEYS]
    float *values;   // [KERN_KEYS][d]
    float *key_rows; // [16][d]
    float *strip;    // [d][16]
};

static float *take(float **at, size_t n)
{
    float *block = *at;
    *at += n;
    return block;
}

static void tile_init(struct tile *t, const struct attend_job *job, uint8_t *scratch, size_t head,
                      size_t first_token, size_t n_tokens)
{
    const size_t rows = n_tokens * job->group;
    const size_t head_dim = job->kv->head_dim;
    float *at = (float *)(void *)scratch;
    *t = (struct tile){.job = job, .head = head, .first_token = first_token, .n_rows = rows};
    t->keys = visible(job, first_token);
    for (size_t i = 1; i < n_tokens; i++) {
        const size_t end = visible(job, first_token + i).end;
        t->keys.end = end > t->keys.end ? end : t->keys.end;
    }
    t->q = take(&at, rows * job->d);
    t->sums = take(&at, rows * job->d);
    t->total = take(&at, rows * job->d);
    t->values = take(&at, KERN_KEYS * job->d);
    t->key_rows = take(&at, KERN_LANES * job->d);
    t->strip = take(&at, KERN_LANES * job->d);
    t->scores = take(&at, rows * KERN_KEYS);
    t->state = (struct kern_softmax *)(void *)take(&at, 2 * rows);
    t->total_state = (struct kern_softmax *)(void *)take(&at, 2 * rows);
    for (size_t r = 0; r < rows; r++) {
        const size_t token = first_token + r / job->group;
        const size_t query_head = head * job->group + r % job->group;
        memcpy(t->q + r * job->d, job->q.data + token * job->q.stride + query_head * head_dim,
               head_dim * sizeof(float));
    }
}

static void clear(struct kern_softmax *state, float *sums, size_t rows, size_t d)
{
    for (size_t r = 0; r < rows; r++) {
        state[r] = (struct kern_softmax){.max = -INFINITY};
    }
    memset(sums, 0, rows * d * sizeof(float));
}

// A strip or block may reach past what the tile sees; there it repeats the nearest row, and the
// mask drops it.
static size_t nearest(struct span keys, size_t position)
{
    if (position < keys.begin) {
        return keys.begin;
    }
    return position < keys.end ? position : keys.end - 1;
}

static void load_values(const struct tile *t, size_t begin, size_t n)
{
    const struct attend_job *job = t->job;
    const struct kv_view *kv = job->kv;
    const struct kern *kern = &job->dev->kern;
    for (size_t i = 0; i < n; i++) {
        float *value = t->values + i * job->d;
        const uint8_t *row = kv_row(kv, kv->values, kv->recent_values, t->head,
                                    nearest(t->keys, begin + i), job->first);
        kern->unpack[kv->type](value, row, kv->head_dim);
        memset(value + kv->head_dim, 0, (job->d - kv->head_dim) * sizeof(float));
    }
}

// The sixteen keys from position begin on where they stand, or copied where they do not follow each
// other: at the ring's wrap, between the ring and the chunk's own rows, and at the ends of what is
// seen.
static struct strip_source stored_keys(const struct tile *t, size_t begin)
{
    const struct kv_view *kv = t->job->kv;
    const size_t first = t->job->first;
    const uint8_t *row = kv_row(kv, kv->keys, kv->recent_keys, t->head, begin, first);
    const bool is_inside = begin >= t->keys.begin && begin + KERN_LANES <= t->keys.end;
    const bool is_recent = kv->window > 0 && begin >= first;
    const bool is_old = (kv->window == 0 || begin + KERN_LANES <= first) &&
                        begin % kv->capacity + KERN_LANES <= kv->capacity;
    if (is_inside && (is_recent || is_old)) {
        return (struct strip_source){row, kv->row_size};
    }
    uint8_t *copies = (uint8_t *)t->key_rows;
    for (size_t r = 0; r < KERN_LANES; r++) {
        const size_t position = nearest(t->keys, begin + r);
        row = kv_row(kv, kv->keys, kv->recent_keys, t->head, position, first);
        memcpy(copies + r * kv->row_size, row, kv->row_size);
    }
    return (struct strip_source){copies, kv->row_size};
}

// The same keys made from the values, which stand in t->values from position values_begin on: the
// value times the norm's weight, turned to its position.
static struct strip_source rebuilt_keys(const struct tile *t, size_t begin, size_t values_begin)
{
    const struct attend_job *job = t->job;
    const struct kv_view *kv = job->kv;
    for (size_t r = 0; r < KERN_LANES; r++) {
        const size_t position = nearest(t->keys, begin + r);
        const size_t i_value = begin + r < t->keys.end ? begin + r : t->keys.end - 1;
        const float *value = t->values + (i_value - values_begin) * job->d;
        float *key = t->key_rows + r * job->d;
        for (size_t i = 0; i < kv->head_dim; i++) {
            key[i] = value[i] * kv->key_norm[i];
        }
        job->dev->kern.rope(key, kv->rope_table + position * kv->n_pairs * 2, kv->n_pairs,
                            kv->head_dim / 2);
    }
    return (struct strip_source){(const uint8_t *)t->key_rows, job->d * sizeof(float)};
}

static void load_keys(const struct tile *t, size_t begin, size_t values_begin)
{
    const struct kv_view *kv = t->job->kv;
    const struct strip_source from =
        kv->keys ? stored_keys(t, begin) : rebuilt_keys(t, begin, values_begin);
    const enum dtype type = kv->keys ? kv->type : DTYPE_F32;
    t->job->dev->kern.rows_f32[type](t->strip, from, kv->head_dim);
}

static void mask_scores(const struct tile *t, size_t begin, size_t n_padded)
{
    for (size_t r = 0; r < t->n_rows; r++) {
        const struct span seen = visible(t->job, t->first_token + r / t->job->group);
        float *scores = t->scores + r * KERN_KEYS;
        for (size_t i = 0; i < n_padded; i++) {
            if (begin + i < seen.begin || begin + i >= seen.end) {
                scores[i] = -INFINITY;
            }
        }
    }
}

// Adds keys [begin, end) to the segment's sums; begin is a multiple of 16, and no block's border
// lies inside.
static void attend_block(const struct tile *t, size_t begin, size_t end)
{
    const struct attend_job *job = t->job;
    const struct kern *kern = &job->dev->kern;
    const size_t n = end - begin;
    const size_t n_padded = padded(n);
    load_values(t, begin, n);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        load_keys(t, begin + i, begin);
        const struct acc acc = {.data = t->scores + i, .stride = KERN_KEYS, .is_fresh = true};
        kern->dot_f32(acc, t->strip, KERN_LANES, t->q, job->d, t->n_rows, job->kv->head_dim);
    }
    mask_scores(t, begin, n_padded);
    for (size_t r = 0; r < t->n_rows; r++) {
        const float factor = kern->softmax(t->scores + r * KERN_KEYS, n_padded, &t->state[r]);
        if (factor != 1.0f) {
            kern->scale(t->sums + r * job->d, job->d, factor);
        }
    }
    for (size_t i = 0; i < job->d; i += KERN_LANES) {
        const struct acc acc = {.data = t->sums + i, .stride = job->d};
        kern->dot_f32(acc, t->values + i, job->d, t->scores, KERN_KEYS, t->n_rows, n);
    }
}

// The sums over one segment's share of the tile's keys.
static void attend_segment(const struct tile *t, size_t segment)
{
    clear(t->state, t->sums, t->n_rows, t->job->d);
    for (size_t i = 0; i < ATTEND_SEGMENT; i += KERN_KEYS) {
        const size_t block = segment * ATTEND_SEGMENT + i;
        const size_t first = t->keys.begin / KERN_LANES * KERN_LANES;
        const size_t begin = block > first ? block : first;
        const size_t end = block + KERN_KEYS < t->keys.end ? block + KERN_KEYS : t->keys.end;
        if (begin < end) {
            attend_block(t, begin, end);
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
    const size_t left = job->q.rows - first_token;
    struct tile t;
    tile_init(&t, job, job->dev->threads[thread], head, first_token,
              left < job->tile_tokens ? left : job->tile_tokens);
    clear(t.total_state, t.total, t.n_rows, job->d);
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
    tile_init(&t, job, job->dev->threads[thread], head, 0, 1);
    t.sums = partial_sums(job, segment, head * job->group);
    t.state = partial_state(job, segment, head * job->group);
    attend_segment(&t, job->first_segment + segment);
}

static void merge_task(void *context, size_t task, size_t thread)
{
    const struct attend_job *job = context;
    const struct kern *kern = &job->dev->kern;
    float *total = (float *)(void *)job->dev->threads[thread];
    struct kern_softmax state;
    clear(&state, total, 1, job->d);
    for (size_t s = 0; s < job->n_segments; s++) {
        kern->merge(total, &state, partial_sums(job, s, task), partial_state(job, s, task), job->d);
    }
    write_row(job, 0, task, total, &state);
}

static void attend_one(struct attend_job *job)
{
    const struct span keys = visible(job, 0);
    job->first_segment = keys.begin / ATTEND_SEGMENT;
    job->n_segments = (keys.end - 1) / ATTEND_SEGMENT - job->first_segment + 1;
    require(job->n_segments <= job->dev->limits.keys_max / ATTEND_SEGMENT + 2);
    const size_t n_keys = keys.end - keys.begin;
    const bool is_small = n_keys < PARALLEL_MIN / job->d / job->n_query_heads;
    pool_run(is_small ? NULL : job->dev->pool, job->n_segments * job->kv->n_heads, segment_task,
             job);
    pool_run(job->n_segments > 8 ? job->dev->pool : NULL, job->n_query_heads, merge_task, job);
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
    if (q.rows == 1) {
        attend_one(&job);
        return;
    }
    job.tile_tokens = job.group < ATTEND_ROWS ? ATTEND_ROWS / job.group : 1;
    // Short prompts are cut finer, so that every thread gets something.
    while (job.tile_tokens > 1 &&
           q.rows / job.tile_tokens * kv->n_heads < 2 * pool_threads(dev->pool)) {
        job.tile_tokens /= 2;
    }
    job.n_tiles = (q.rows + job.tile_tokens - 1) / job.tile_tokens;
    pool_run(dev->pool, job.n_tiles * kv->n_heads, tile_task, &job);
}
