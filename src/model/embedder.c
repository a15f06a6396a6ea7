// SPDX-License-Identifier: Apache-2.0
// Scratch of the projections: a few rows of pixels or samples, and what becomes of them.
#include "base/error.h"
#include "base/mem.h"
#include "model/projector.h"

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t patch_values(const struct projector *p)
{
    return p->has_vision ? (size_t)p->block * p->block * 3 : 0;
}

// Floats per row of each buffer, whole cache lines.
struct row_sizes {
    size_t patches;
    size_t u;
};

static size_t padded(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

static struct row_sizes row_sizes(const struct projector *p)
{
    return (struct row_sizes){
        .patches = padded(larger(patch_values(p), p->has_audio ? p->frame_samples : 0)),
        .u = padded(p->has_vision ? p->width : 0),
    };
}

// projector.h's and config.h's limits keep it far from overflow.
uint64_t embedder_size(const struct projector *projector)
{
    const struct row_sizes s = row_sizes(projector);
    return (uint64_t)EMBED_ROWS * (s.patches + 2 * s.u) * sizeof(float);
}

void embedder_limits(struct device_limits *limits, const struct projector *projector)
{
    if (projector->has_vision || projector->has_audio) {
        const struct row_sizes s = row_sizes(projector);
        limits->rows_max = larger(limits->rows_max, EMBED_ROWS);
        limits->columns_max = larger(limits->columns_max, larger(s.patches, s.u));
    }
}

int embedder_reserve(struct embedder *e, const struct projector *projector, struct device *device,
                     struct carat_error *err)
{
    if (e->memory || embedder_size(projector) == 0) {
        return 0;
    }
    const struct row_sizes s = row_sizes(projector);
    float *memory = device_alloc(device, (size_t)embedder_size(projector), err);
    if (!memory) {
        return CARAT_E_MEMORY;
    }
    *e = (struct embedder){
        .projector = projector,
        .device = device,
        .memory = memory,
        .patches = memory,
        .u = memory + EMBED_ROWS * s.patches,
        .position = memory + EMBED_ROWS * (s.patches + s.u),
    };
    return 0;
}

void embedder_release(struct embedder *e)
{
    if (e->memory) {
        device_release(e->device, e->memory);
    }
    *e = (struct embedder){0};
}
