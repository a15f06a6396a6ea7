// SPDX-License-Identifier: Apache-2.0
// A tensor is cut into slabs, a slab into tasks of whole segments of rows. Every segment is a whole
// number of blocks of any type, and sums are added in the order of tasks, so that neither bytes nor
// sums depend on threads.
#include "model/transcode.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"

#define SEGMENT_MAX  ((uint64_t)1 << 15)             // values of a row that are worked on together
#define SLAB_VALUES  ((uint64_t)4 << 20)             // at most
#define SLAB_SIZE    ((size_t)SLAB_VALUES * 4)       // bytes, as F32
#define TASK_VALUES  ((uint64_t)1 << 14)             // about
#define TASKS_MAX    1024                            // of a slab
#define THREADS_MAX  (SLAB_SIZE / (SEGMENT_MAX * 4)) // each has a place in a slab when measuring
#define COPY_SIZE    ((uint64_t)16 << 20)
#define SAMPLE_UNITS 96 // at least, where there are so many, and less than twice that

int transcoder_init(struct transcoder *t, size_t n_threads, struct carat_error *err)
{
    size_t n = n_threads ? n_threads : os_cores();
    int rc = pool_new(&t->pool, n < THREADS_MAX ? n : THREADS_MAX, err);
    if (rc) {
        return rc;
    }
    t->scratch = mem_new_array(pool_threads(t->pool), 2 * (size_t)SEGMENT_MAX * sizeof(float), err);
    t->packed = t->scratch ? mem_new(SLAB_SIZE, err) : NULL;
    t->sums = t->packed ? mem_new_array(TASKS_MAX, sizeof(t->sums[0]), err) : NULL;
    return t->sums ? 0 : CARAT_E_MEMORY;
}

void transcoder_release(struct transcoder *t)
{
    pool_free(t->pool);
    mem_free(t->scratch);
    mem_free(t->packed);
    mem_free(t->sums);
    *t = (struct transcoder){0};
}

// ------------------------------------------------------------------------------------------- tasks

// Units are numbered through the tensor, row by row.
struct slab {
    struct transcoder *t;
    const struct item *item;
    struct column_importance importance;
    enum dtype to;
    bool measures;
    uint64_t segment;  // values of a unit, the last one of a row apart
    uint64_t per_row;  // units
    uint64_t first;    // unit
    uint64_t n;        // units
    uint64_t stride;   // of units: 1, or more in a sample
    uint64_t per_task; // units
    uint8_t *out;      // of the first unit; of a sample, a place for each thread
};

static uint64_t bytes_of(enum dtype type, uint64_t n)
{
    return n / dtypes[type].block_values * dtypes[type].block_size;
}

// From the start of the tensor to this unit.
static uint64_t values_before(const struct slab *s, uint64_t unit)
{
    return unit / s->per_row * s->item->columns + unit % s->per_row * s->segment;
}

static const float *importance_at(const struct slab *s, uint64_t row, uint64_t column)
{
    const struct column_importance *c = &s->importance;
    if (!c->values) {
        return NULL;
    }
    uint64_t part = c->n > s->item->columns ? row / s->item->dims[1] : 0;
    return c->values + part * s->item->columns + column;
}

static void add_errors(struct transcode_sum *sum, const float *new, const float *old,
                       const float *importance, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double w = importance ? (double)importance[i] : 1;
        double e = (double)new[i] - (double)old[i];
        sum->error += w * e * e;
        sum->energy += w * (double)old[i] * (double)old[i];
    }
}

static bool all_finite(const float *x, size_t n)
{
    // A sum of zeros unless one of them is an infinity or a NaN.
    float zero = 0;
    for (size_t i = 0; i < n; i++) {
        zero += x[i] * 0;
    }
    return zero == 0;
}

static void run_unit(const struct slab *s, uint64_t unit, float *scratch, uint8_t *out,
                     struct transcode_sum *sum)
{
    uint64_t row = unit / s->per_row;
    uint64_t column = unit % s->per_row * s->segment;
    uint64_t left = s->item->columns - column;
    size_t n = (size_t)(left < s->segment ? left : s->segment);
    const float *importance = importance_at(s, row, column);
    float *back = scratch + SEGMENT_MAX;
    item_read(s->item, scratch, row, column, n);
    dtypes[s->to].pack(out, scratch, importance, n);
    sum->is_finite = sum->is_finite && all_finite(scratch, n);
    if (s->measures || s->to == DTYPE_F16) {
        dtypes[s->to].unpack(back, out, n);
        sum->is_finite = sum->is_finite && all_finite(back, n);
    }
    if (s->measures) {
        add_errors(sum, back, scratch, importance, n);
    }
}

static void run_task(void *context, size_t task, size_t thread)
{
    const struct slab *s = context;
    float *scratch = s->t->scratch + thread * 2 * SEGMENT_MAX;
    struct transcode_sum sum = {.is_finite = true};
    uint64_t begin = s->first + task * s->per_task * s->stride;
    uint64_t end = s->first + s->n * s->stride;
    for (uint64_t i = 0; i < s->per_task && begin + i * s->stride < end; i++) {
        uint64_t unit = begin + i * s->stride;
        uint64_t place = s->stride > 1
                             ? thread * SEGMENT_MAX * sizeof(float)
                             : bytes_of(s->to, values_before(s, unit) - values_before(s, s->first));
        run_unit(s, unit, scratch, s->out + place, &sum);
    }
    s->t->sums[task] = sum;
}

static struct slab slab_of(struct transcoder *t, const struct item *item,
                           struct column_importance importance, enum dtype to)
{
    struct slab s = {.t = t, .item = item, .importance = importance, .to = to, .stride = 1};
    s.segment = item->columns < SEGMENT_MAX ? item->columns : SEGMENT_MAX;
    s.per_row = (item->columns + s.segment - 1) / s.segment;
    s.per_task = s.segment < TASK_VALUES ? TASK_VALUES / s.segment : 1;
    s.out = t->packed;
    return s;
}

static void run_slab(struct slab *s, struct transcode_sum *sum)
{
    size_t n_tasks = (size_t)((s->n + s->per_task - 1) / s->per_task);
    require(n_tasks <= TASKS_MAX);
    pool_run(s->t->pool, n_tasks, run_task, s);
    for (size_t i = 0; i < n_tasks; i++) {
        sum->error += s->t->sums[i].error;
        sum->energy += s->t->sums[i].energy;
        sum->is_finite = sum->is_finite && s->t->sums[i].is_finite;
    }
}

// ------------------------------------------------------------------------------------------
// tensors

static int report(struct transcoder *t, struct carat_error *err)
{
    if (t->on_progress && !t->on_progress(t->user, t->what, t->done, t->total)) {
        return fail(err, CARAT_E_STOPPED, "stopped; the same command goes on where this one ended");
    }
    return 0;
}

static int copy(struct transcoder *t, const struct item *item, struct partial *file,
                struct carat_error *err)
{
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < item->size; at += COPY_SIZE) {
        size_t n = (size_t)(item->size - at < COPY_SIZE ? item->size - at : COPY_SIZE);
        rc = partial_add(file, item->data + at, n, err);
        source_drop(item->source, item->data + at, n);
        t->done += n;
        rc = rc ? rc : report(t, err);
    }
    return rc;
}

static int fail_infinite(const struct item *item, struct carat_error *err)
{
    return fail(err, CARAT_E_FORMAT,
                "tensor '%s': holds values that are not finite numbers, or that %s cannot hold%s",
                item->name, dtypes[item->to].name,
                item->to == DTYPE_F16 ? "; BF16 has the range" : "");
}

int transcode_item(struct transcoder *t, const struct item *item,
                   struct column_importance importance, bool measures, struct partial *file,
                   struct transcode_sum *sum, struct carat_error *err)
{
    *sum = (struct transcode_sum){.is_finite = true};
    if (item->to == item->type && !item->made) {
        return copy(t, item, file, err);
    }
    struct slab s = slab_of(t, item, importance, item->to);
    uint64_t n_units = item->rows * s.per_row;
    uint64_t units_max = SLAB_VALUES / s.segment;
    int rc = 0;
    s.measures = measures;
    for (uint64_t first = 0; rc == 0 && first < n_units; first += s.n) {
        s.first = first;
        s.n = n_units - first < units_max ? n_units - first : units_max;
        // Rows begin and end with slabs where they have several segments: sums stay simple.
        s.n = s.per_row > 1 && s.n > s.per_row ? s.n / s.per_row * s.per_row : s.n;
        run_slab(&s, sum);
        if (!sum->is_finite) {
            return fail_infinite(item, err);
        }
        uint64_t from = values_before(&s, first);
        uint64_t n =
            (first + s.n == n_units ? item->rows * item->columns : values_before(&s, first + s.n)) -
            from;
        rc = partial_add(file, s.out, (size_t)bytes_of(s.to, n), err);
        if (!item->made) {
            uint64_t read = bytes_of(item->type, n);
            source_drop(item->source, item->data + bytes_of(item->type, from), (size_t)read);
            t->done += read;
        }
        rc = rc ? rc : report(t, err);
    }
    return rc;
}

void transcode_measure(struct transcoder *t, const struct item *item,
                       struct column_importance importance, enum dtype type,
                       struct transcode_sum *sum)
{
    struct slab s = slab_of(t, item, importance, type);
    uint64_t n_units = item->rows * s.per_row;
    *sum = (struct transcode_sum){.is_finite = true};
    s.measures = true;
    s.per_task = 1;
    s.stride = n_units / SAMPLE_UNITS;
    // A stride of one would lay the blocks of a whole slab side by side.
    s.stride = s.stride < 2 ? 2 : s.stride;
    s.n = (n_units + s.stride - 1) / s.stride;
    s.n = s.n > 2 * SAMPLE_UNITS ? 2 * SAMPLE_UNITS : s.n;
    run_slab(&s, sum);
}
