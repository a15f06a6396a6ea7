// SPDX-License-Identifier: Apache-2.0
// Frames of sound to soft tokens: a norm that takes the loudness away, and one product.
// docs/model.md, "Pictures and sound"; multimodal.md section 6.
#include <string.h>

#include "base/error.h"
#include "model/projector.h"

// The last frame is filled with zeros.
static void gather(struct tensor out, const struct soft_span *span, size_t first)
{
    for (size_t i = 0; i < out.rows; i++) {
        const size_t at = (first + i) * out.columns;
        const size_t left = span->n_samples - at;
        const size_t n = left < out.columns ? left : out.columns;
        float *row = out.data + i * out.stride;
        memcpy(row, span->samples + at, n * sizeof(float));
        memset(row + n, 0, (out.columns - n) * sizeof(float));
    }
}

void embed_audio(struct embedder *e, struct tensor out, const struct soft_span *span,
                 struct embed_trace trace)
{
    const struct projector *p = e->projector;
    require(p->has_audio);
    require(out.rows == span->n);
    const size_t n_frames =
        span->n_samples / p->frame_samples + (span->n_samples % p->frame_samples != 0);
    require(span->skipped <= n_frames);
    require(span->n <= n_frames - span->skipped);
    const struct weight *w = &p->audio_projection;
    for (size_t i = 0; i < span->n; i += EMBED_ROWS) {
        const size_t n = span->n - i < EMBED_ROWS ? span->n - i : EMBED_ROWS;
        struct tensor frames = tensor_make(e->patches, n, p->frame_samples);
        struct tensor rows = tensor_rows(out, i, n);
        gather(frames, span, span->skipped + i);
        op_norm(e->device, frames, frames, NULL, frames.columns, p->audio_rms_eps);
        op_linear(e->device, &rows, frames, &w, 1);
        if (p->audio_projection_factor != 1.0f) {
            op_scale(e->device, rows, p->audio_projection_factor);
        }
        if (trace.on_tensor) {
            trace.on_tensor(trace.user, "audio.embeds", -1, span->skipped + i, n, rows.columns,
                            rows.data);
        }
    }
}
