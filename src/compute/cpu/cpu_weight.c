// SPDX-License-Identifier: Apache-2.0
// The device's copy of a matrix: packed strips (kern.h), one after the other. Strips are tasks, so
// that a model is packed by all threads.
#include "base/error.h"
#include "base/mem.h"
#include "compute/cpu/cpu.h"

uint64_t device_weight_size(const struct weight *w)
{
    size_t size;
    const uint64_t n_strips = w->rows / KERN_LANES + (w->rows % KERN_LANES != 0);
    if (!kern_strip_size(&size, w->type, w->columns) ||
        (n_strips > 0 && size > UINT64_MAX / n_strips)) {
        return UINT64_MAX;
    }
    return n_strips * size;
}

int cpu_new_weight(struct device *base, struct weight *w, struct carat_error *err)
{
    (void)base;
    const uint64_t size = device_weight_size(w);
    if (size > SIZE_MAX || !kern_strip_size(&w->strip_size, w->type, w->columns)) {
        return fail(err, CARAT_E_MEMORY, "a matrix of %zu x %zu does not fit this machine", w->rows,
                    w->columns);
    }
    w->packed = mem_new_filled((size_t)size, err);
    return w->packed ? 0 : CARAT_E_MEMORY;
}

void cpu_free_weight(struct device *base, struct weight *w)
{
    (void)base;
    mem_free(w->packed);
}

struct fill_job {
    const struct cpu_device *dev;
    const struct weight *w;
    size_t first_strip;
    size_t end_row;
};

static void fill_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct fill_job *job = context;
    const struct weight *w = job->w;
    const size_t strip = job->first_strip + task;
    const size_t row = strip * KERN_LANES;
    const size_t left = job->end_row - row;
    const struct strip_source from = {w->data + row * w->row_size, w->row_size};
    uint8_t *packed = w->packed + strip * w->strip_size;
    if (left >= KERN_LANES) {
        job->dev->kern.pack_strip(packed, from, w->columns, w->type);
    } else {
        kern_pack_strip(packed, from, left, w->columns, w->type);
    }
}

void cpu_fill_weight(struct device *base, const struct weight *w, size_t first, size_t n)
{
    struct cpu_device *dev = (struct cpu_device *)base;
    struct fill_job job = {
        .dev = dev, .w = w, .first_strip = first / KERN_LANES, .end_row = first + n};
    pool_run(dev->pool, n / KERN_LANES + (n % KERN_LANES != 0), fill_task, &job);
}
