// SPDX-License-Identifier: Apache-2.0
// Products y = x W^T. Tasks are groups of strips of 16 outputs; a task unpacks a piece of its
// strips into its thread's scratch, small enough for the cache, and applies it to every row of x.
// Cutting the columns into pieces, the rows into panels or the outputs into tasks changes no
// result.
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "compute/cpu/cpu.h"

enum { PARALLEL_MIN = 1 << 17 }; // multiplications below which threads cost more than they bring

// Bytes that 32 columns of one activation row take in a panel: see struct panel.
enum { PANEL_BLOCK_SIZE = KERN_BLOCK + 4 + 2 * 4 + 4 + 2 * 4 + 4 };

enum {
    STRIP_CODES_SIZE = LINEAR_CHUNK_Q8 * KERN_LANES,
    STRIP_SCALES = LINEAR_CHUNK_Q8 / 16 * KERN_LANES, // floats, for the smallest sub-block
    STRIP_SIZE = STRIP_CODES_SIZE + 2 * STRIP_SCALES * 4,
};
_Static_assert(LINEAR_CHUNK_F32 *KERN_LANES * 4 <= STRIP_SIZE, "a float strip fits");
_Static_assert(LINEAR_CHUNK_FEW <= LINEAR_CHUNK_F32, "a short strip fits");

struct linear_job {
    struct cpu_device *dev;
    const struct tensor *outs;
    struct tensor x;
    const struct weight *const *weights;
    size_t n;
    bool is_direct;    // few rows, and kernels that take them without unpacking
    size_t panel_rows; // rows in a full panel
    size_t strips_per_task;
    size_t first_task[OP_LINEAR_MAX + 1];
};

size_t cpu_linear_thread_size(void)
{
    return (size_t)LINEAR_STRIPS * STRIP_SIZE;
}

bool cpu_linear_panels_size(size_t *out, const struct device_limits *limits)
{
    size_t blocks = limits->columns_max / KERN_BLOCK + (limits->columns_max % KERN_BLOCK != 0);
    size_t size;
    if (!size_mul(&size, blocks, PANEL_BLOCK_SIZE) || !size_mul(&size, size, limits->rows_max)) {
        return false;
    }
    *out = size;
    return true;
}

// Rows are cut evenly into as few panels as there can be: a full one beside a small one would take
// longer than two of middling size.
struct panel_rows {
    size_t first;
    size_t n;
};

static size_t count_panels(size_t rows, size_t full)
{
    return rows / full + (rows % full != 0);
}

static struct panel_rows panel_at(size_t rows, size_t full, size_t index)
{
    const size_t n_panels = count_panels(rows, full);
    const size_t n = rows / n_panels;
    const size_t n_larger = rows % n_panels; // the first ones have one row more
    if (index < n_larger) {
        return (struct panel_rows){index * (n + 1), n + 1};
    }
    return (struct panel_rows){index * n + n_larger, n};
}

// The panel of these rows from column first on; x has n_columns.
static struct panel panel_view(const struct linear_job *job, struct panel_rows rows, size_t first)
{
    const size_t blocks = job->x.columns / KERN_BLOCK;
    uint8_t *at = job->dev->panels + rows.first * blocks * PANEL_BLOCK_SIZE;
    const size_t n = rows.n * blocks; // blocks of all rows
    const size_t skip = rows.n * (first / KERN_BLOCK);
    struct panel p = {.n_rows = rows.n, .order = job->dev->kern.order};
    p.scale = (float *)(void *)at + skip;
    at += n * 4;
    p.minus_32 = (int32_t *)(void *)at + skip;
    at += n * 4;
    p.sum_32 = (float *)(void *)at + skip;
    at += n * 4;
    p.minus_16 = (int32_t *)(void *)at + 2 * skip;
    at += n * 8;
    p.sum_16 = (float *)(void *)at + 2 * skip;
    at += n * 8;
    p.codes = (int8_t *)at + KERN_BLOCK * skip;
    return p;
}

static void pack_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct linear_job *job = context;
    const struct kern *kern = &job->dev->kern;
    const struct panel_rows rows = panel_at(job->x.rows, job->panel_rows, task);
    kern->pack(panel_view(job, rows, 0), job->x.data + rows.first * job->x.stride, job->x.stride,
               job->x.columns);
}

static bool is_q8(const struct linear_job *job, const struct weight *w)
{
    return device_multiplies_int8(&job->dev->base, w->type);
}

static struct code_strip code_strip_at(const struct kern *kern, uint8_t *scratch, size_t i)
{
    uint8_t *at = scratch + i * STRIP_SIZE;
    float *scale = (float *)(void *)(at + STRIP_CODES_SIZE);
    return (struct code_strip){
        .codes = at, .scale = scale, .min = scale + STRIP_SCALES, .order = kern->order};
}

_Static_assert((int)KERN_PANEL_MAX <= (int)KERN_FEW_ROWS, "the rows of a panel are few");
_Static_assert((int)KERN_F32_STRIPS <= (int)LINEAR_STRIPS, "a task has room for a group of strips");

// A last strip with fewer than 16 outputs is computed beside and copied.
struct edge {
    float lanes[KERN_FEW_ROWS][KERN_LANES];
    struct acc target;
    size_t n_rows;
    size_t n_lanes;
};

static struct acc edge_begin(struct edge *e, struct acc target, size_t n_rows, size_t n_lanes)
{
    *e = (struct edge){.target = target, .n_rows = n_rows, .n_lanes = n_lanes};
    for (size_t r = 0; r < n_rows && !target.is_fresh; r++) {
        memcpy(e->lanes[r], target.data + r * target.stride, n_lanes * sizeof(float));
    }
    return (struct acc){.data = e->lanes[0], .stride = KERN_LANES, .is_fresh = target.is_fresh};
}

static void edge_end(const struct edge *e)
{
    for (size_t r = 0; r < e->n_rows; r++) {
        memcpy(e->target.data + r * e->target.stride, e->lanes[r], e->n_lanes * sizeof(float));
    }
}

// One piece of one group of strips, columns [column, column + n), unpacked in scratch.
struct piece {
    const struct weight *w;
    struct tensor out;
    size_t strip; // first
    size_t n_strips;
    size_t column;
    size_t n;
    uint8_t *scratch;
};

static struct acc acc_at(const struct piece *p, size_t strip, size_t row)
{
    return (struct acc){.data = p->out.data + row * p->out.stride + strip * KERN_LANES,
                        .stride = p->out.stride,
                        .is_fresh = p->column == 0};
}

static size_t lanes_of(const struct weight *w, size_t strip)
{
    const size_t left = w->rows - strip * KERN_LANES;
    return left < KERN_LANES ? left : KERN_LANES;
}

// The piece's columns of a packed strip.
static const uint8_t *packed_at(const struct piece *p, size_t strip)
{
    const struct weight *w = p->w;
    const struct kern_packing packing = kern_packing_of(w->type);
    return w->packed + strip * w->strip_size +
           p->column / packing.values * packing.size * KERN_LANES;
}

// Where to put the outputs of one strip for n rows; edge_end is due when it has fewer than 16.
static struct acc outputs_begin(struct edge *edge, const struct piece *p, size_t strip,
                                struct panel_rows rows)
{
    const struct acc acc = acc_at(p, strip, rows.first);
    const size_t n_lanes = lanes_of(p->w, strip);
    return n_lanes < KERN_LANES ? edge_begin(edge, acc, rows.n, n_lanes) : acc;
}

static void outputs_end(const struct edge *edge, const struct piece *p, size_t strip)
{
    if (lanes_of(p->w, strip) < KERN_LANES) {
        edge_end(edge);
    }
}

static void piece_q8(const struct linear_job *job, const struct piece *p)
{
    const struct kern *kern = &job->dev->kern;
    const enum dtype type = p->w->type;
    struct code_strip strips[LINEAR_STRIPS];
    struct edge edge;
    for (size_t s = 0; s < p->n_strips; s++) {
        strips[s] = code_strip_at(kern, p->scratch, s);
        kern->strip_q8[type](strips[s], packed_at(p, p->strip + s), p->n, type);
    }
    const size_t n_panels = count_panels(job->x.rows, job->panel_rows);
    for (size_t i = 0; i < n_panels; i++) {
        const struct panel_rows rows = panel_at(job->x.rows, job->panel_rows, i);
        const struct panel panel = panel_view(job, rows, p->column);
        for (size_t s = 0; s < p->n_strips; s++) {
            const struct acc acc = outputs_begin(&edge, p, p->strip + s, rows);
            kern->dot_q8(acc, strips[s], panel, &kern_codings[type], p->n);
            outputs_end(&edge, p, p->strip + s);
        }
    }
}

// Few rows: each a panel of its own, whole strips at once.
static void piece_direct(const struct linear_job *job, const struct piece *p)
{
    const struct kern *kern = &job->dev->kern;
    const enum dtype type = p->w->type;
    struct panel rows[KERN_FEW_ROWS];
    struct edge edge;
    const struct panel_rows all = {0, job->x.rows};
    for (size_t r = 0; r < all.n; r++) {
        rows[r] = panel_view(job, (struct panel_rows){r, 1}, p->column);
    }
    for (size_t s = p->strip; s < p->strip + p->n_strips; s++) {
        const struct acc acc = outputs_begin(&edge, p, s, all);
        kern->rows_q8[type](acc, packed_at(p, s), rows, all.n, p->n, type);
        outputs_end(&edge, p, s);
    }
}

static void piece_f32(const struct linear_job *job, const struct piece *p)
{
    const struct kern *kern = &job->dev->kern;
    float *strips = (float *)(void *)p->scratch;
    for (size_t s = 0; s < p->n_strips; s++) {
        kern->strip_f32[p->w->type](strips + s * LINEAR_CHUNK_F32 * KERN_LANES,
                                    packed_at(p, p->strip + s), p->n, p->w->type);
    }
    for (size_t row = 0; row < job->x.rows; row += KERN_PANEL_MAX) {
        const size_t left = job->x.rows - row;
        const size_t n_rows = left < KERN_PANEL_MAX ? left : KERN_PANEL_MAX;
        const float *x = job->x.data + row * job->x.stride + p->column;
        for (size_t s = 0; s < p->n_strips; s++) {
            struct edge edge;
            const struct panel_rows rows = {row, n_rows};
            const struct acc acc = outputs_begin(&edge, p, p->strip + s, rows);
            kern->dot_f32(acc, strips + s * LINEAR_CHUNK_F32 * KERN_LANES, KERN_LANES, x,
                          job->x.stride, n_rows, p->n);
            outputs_end(&edge, p, p->strip + s);
        }
    }
}

// Few rows of x: numbers are multiplied as they are unpacked, whole groups of strips at once.
static void piece_few_f32(const struct linear_job *job, const struct piece *p)
{
    const struct f32_rows x = {job->x.data + p->column, job->x.stride};
    const struct panel_rows all = {0, job->x.rows};
    const enum dtype type = p->w->type;
    const bool is_group =
        p->n_strips == KERN_F32_STRIPS && lanes_of(p->w, p->strip + p->n_strips - 1) == KERN_LANES;
    const size_t step = is_group ? p->n_strips : 1;
    for (size_t s = p->strip; s < p->strip + p->n_strips; s += step) {
        struct edge edge;
        const struct acc acc = outputs_begin(&edge, p, s, all);
        job->dev->kern.rows_f32[type](acc, packed_at(p, s), p->w->strip_size, step, x, all.n, p->n,
                                      type);
        outputs_end(&edge, p, s);
    }
}

static size_t strips_of(const struct weight *w)
{
    return w->rows / KERN_LANES + (w->rows % KERN_LANES != 0);
}

static bool is_few_f32(const struct linear_job *job, const struct weight *w)
{
    return job->x.rows <= KERN_FEW_ROWS && job->dev->kern.rows_f32[w->type];
}

// How a task goes through its part of a matrix.
struct pace {
    size_t strips;  // taken together
    size_t columns; // taken together
};

static struct pace pace_of(const struct linear_job *job, const struct weight *w, bool is_int8)
{
    if (is_int8 && job->is_direct) {
        return (struct pace){.strips = LINEAR_STRIPS, .columns = w->columns};
    }
    if (is_few_f32(job, w) && !is_int8) {
        return (struct pace){.strips = KERN_F32_STRIPS, .columns = LINEAR_CHUNK_FEW};
    }
    // With few rows the unpacking is what costs: one strip at a time reads memory in order.
    if (job->x.rows <= KERN_FEW_ROWS) {
        return (struct pace){.strips = 1, .columns = LINEAR_CHUNK_FEW};
    }
    return (struct pace){.strips = LINEAR_STRIPS,
                         .columns = is_int8 ? LINEAR_CHUNK_Q8 : LINEAR_CHUNK_F32};
}

static void strips_task(void *context, size_t task, size_t thread)
{
    const struct linear_job *job = context;
    size_t i = 0;
    while (task >= job->first_task[i + 1]) {
        i++;
    }
    const struct weight *w = job->weights[i];
    const bool is_int8 = is_q8(job, w);
    const struct pace pace = pace_of(job, w, is_int8);
    struct piece p = {.w = w, .out = job->outs[i], .scratch = job->dev->threads[thread]};
    const size_t begin = (task - job->first_task[i]) * job->strips_per_task;
    const size_t n_strips = strips_of(w);
    const size_t end =
        n_strips - begin < job->strips_per_task ? n_strips : begin + job->strips_per_task;
    for (p.strip = begin; p.strip < end; p.strip += p.n_strips) {
        p.n_strips = end - p.strip < pace.strips ? end - p.strip : pace.strips;
        for (p.column = 0; p.column < w->columns; p.column += p.n) {
            const size_t left = w->columns - p.column;
            p.n = left < pace.columns ? left : pace.columns;
            if (is_int8 && job->is_direct) {
                piece_direct(job, &p);
            } else if (is_int8) {
                piece_q8(job, &p);
            } else if (is_few_f32(job, w)) {
                piece_few_f32(job, &p);
            } else {
                piece_f32(job, &p);
            }
        }
    }
}

void cpu_linear(struct device *base, const struct tensor *outs, struct tensor x,
                const struct weight *const *weights, size_t n)
{
    struct cpu_device *dev = (struct cpu_device *)base;
    struct linear_job job = {.dev = dev, .outs = outs, .x = x, .weights = weights, .n = n};
    size_t n_strips = 0;
    bool has_q8 = false;
    struct pool *pool = dev->pool;
    for (size_t i = 0; i < n; i++) {
        n_strips += strips_of(weights[i]);
        has_q8 = has_q8 || is_q8(&job, weights[i]);
        // A level has such kernels for all types or for none.
        job.is_direct =
            job.is_direct || (x.rows <= KERN_FEW_ROWS && dev->kern.rows_q8[weights[i]->type]);
    }
    job.panel_rows = job.is_direct ? 1 : dev->kern.panel_rows;
    require(dev->threads[0]); // scratch was reserved
    if (x.rows == 0 || x.columns == 0) {
        return;
    }
    if (has_q8) {
        require(x.rows <= dev->limits.rows_max);
        require(x.columns <= dev->limits.columns_max);
        require(x.columns % KERN_BLOCK == 0);
        const size_t n_panels = count_panels(x.rows, job.panel_rows);
        pool_run(x.rows > KERN_FEW_ROWS ? dev->pool : NULL, n_panels, pack_task, &job);
    }
    if (n_strips * KERN_LANES < PARALLEL_MIN / x.columns / x.rows) {
        pool = NULL;
    }
    // Small matrices are cut finer, so that every thread gets something.
    job.strips_per_task = LINEAR_STRIPS;
    while (job.strips_per_task > 1 &&
           n_strips / job.strips_per_task < 4 * pool_threads(dev->pool)) {
        job.strips_per_task /= 2;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t per = job.strips_per_task;
        job.first_task[i + 1] = job.first_task[i] + (strips_of(weights[i]) + per - 1) / per;
    }
    pool_run(pool, job.first_task[n], strips_task, &job);
}
