// SPDX-License-Identifier: Apache-2.0
// Blocks of pixels to soft tokens. The formula: docs/model.md, "Pictures and sound"; multimodal.md
// section 3.
#include "base/error.h"
#include "model/projector.h"

// A block's rows lie apart in the picture; its values go to the order of the weights.
static void gather_block(float *out, const struct projector *p, const uint8_t *corner,
                         size_t row_size)
{
    const size_t side = p->block;
    const size_t step = p->is_channel_major ? 1 : 3; // from a pixel to the next
    const size_t plane = p->is_channel_major ? side * side : 1;
    for (size_t y = 0; y < side; y++) {
        const uint8_t *from = corner + y * row_size;
        float *to = out + y * side * step;
        for (size_t x = 0; x < side; x++) {
            for (size_t c = 0; c < 3; c++) {
                to[x * step + c * plane] = (float)from[3 * x + c] * (1.0f / 255.0f);
            }
        }
    }
}

// Soft tokens first .. first + n - 1 of the picture, by rows of blocks.
static void gather(struct tensor out, const struct projector *p, const struct soft_span *span,
                   size_t first)
{
    const size_t row_size = (size_t)span->width * 3;
    const size_t per_row = span->width / p->block;
    for (size_t i = 0; i < out.rows; i++) {
        const size_t x = (first + i) % per_row;
        const size_t y = (first + i) / per_row;
        gather_block(out.data + i * out.stride, p, span->pixels + (y * row_size + x * 3) * p->block,
                     row_size);
    }
}

// One table has a row for each column of blocks and one for each row of blocks.
static void add_positions(const struct embedder *e, struct tensor u, const struct soft_span *span,
                          size_t first)
{
    const struct projector *p = e->projector;
    const size_t per_row = span->width / p->block;
    struct tensor position = tensor_make(e->position, u.rows, u.columns);
    int32_t rows[EMBED_ROWS];
    for (size_t axis = 0; axis < 2; axis++) {
        for (size_t i = 0; i < u.rows; i++) {
            const size_t at = axis == 0 ? (first + i) % per_row : (first + i) / per_row;
            rows[i] = (int32_t)(p->is_axis_major ? axis * p->n_positions + at : at * 2 + axis);
        }
        op_embed(e->device, position, &p->positions, rows, p->positions_factor);
        op_add(e->device, u, u, position, 1.0f);
    }
}

static void linear(struct device *dev, struct tensor out, struct tensor x, const struct weight *w,
                   float factor)
{
    op_linear(dev, &out, x, &w, 1);
    if (factor != 1.0f) {
        op_scale(dev, out, factor);
    }
}

static void show(struct embed_trace trace, const char *name, size_t first, struct tensor t)
{
    if (trace.on_tensor) {
        trace.on_tensor(trace.user, name, -1, first, t.rows, t.columns, t.data);
    }
}

static void embed_rows(const struct embedder *e, struct tensor out, const struct soft_span *span,
                       size_t first, struct embed_trace trace)
{
    const struct projector *p = e->projector;
    struct device *dev = e->device;
    struct tensor patches = tensor_make(e->patches, out.rows, (size_t)p->block * p->block * 3);
    struct tensor u = tensor_make(e->u, out.rows, p->width);
    gather(patches, p, span, first);
    op_layer_norm(dev, patches, patches, p->patch_norm1[0], p->patch_norm1[1], p->norm_eps);
    linear(dev, u, patches, &p->patch_dense, p->patch_dense_factor);
    op_add_row(dev, u, p->patch_bias);
    show(trace, "vision.patch_dense", first, u);
    op_layer_norm(dev, u, u, p->patch_norm2[0], p->patch_norm2[1], p->norm_eps);
    show(trace, "vision.patch_ln2", first, u);
    add_positions(e, u, span, first);
    op_layer_norm(dev, u, u, p->pos_norm[0], p->pos_norm[1], p->norm_eps);
    show(trace, "vision.pos_norm", first, u);
    op_norm(dev, u, u, NULL, u.columns, p->vision_rms_eps);
    linear(dev, out, u, &p->vision_projection, p->vision_projection_factor);
    show(trace, "vision.embeds", first, out);
}

void embed_image(struct embedder *e, struct tensor out, const struct soft_span *span,
                 struct embed_trace trace)
{
    const struct projector *p = e->projector;
    require(p->has_vision);
    require(out.rows == span->n);
    require(span->width > 0 && span->width % p->block == 0);
    require(span->height % p->block == 0);
    const size_t per_row = span->width / p->block;
    const size_t per_column = span->height / p->block;
    require(per_row <= p->n_positions && per_column <= p->n_positions);
    require(span->skipped <= per_row * per_column);
    require(span->n <= per_row * per_column - span->skipped);
    for (size_t i = 0; i < span->n; i += EMBED_ROWS) {
        const size_t n = span->n - i < EMBED_ROWS ? span->n - i : EMBED_ROWS;
        embed_rows(e, tensor_rows(out, i, n), span, span->skipped + i, trace);
    }
}
