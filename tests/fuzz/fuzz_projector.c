// SPDX-License-Identifier: Apache-2.0
// Random files of projections: refused with a message, or every tensor that was bound can be read,
// and a picture and a sound go through. The decoder has a hidden size of 8.
#include <stdint.h>

#include "base/error.h"
#include "model/load.h"

#define EMBEDDER_MAX ((uint64_t)1 << 22) // bytes; larger ones would only take time

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static float sum; // so that nothing that is read is left out

static void use_matrix(const struct weight *w)
{
    const uint32_t block = dtypes[w->type].block_values;
    float values[256];
    require(block <= 256 && w->rows > 0 && w->columns % block == 0);
    dtypes[w->type].unpack(values, w->data, block);
    sum += values[0];
    dtypes[w->type].unpack(values, w->data + w->rows * w->row_size - dtypes[w->type].block_size,
                           block);
    sum += values[block - 1];
}

static void use_vector(const float *v, size_t n)
{
    require(v && n > 0);
    sum += v[0] + v[n - 1];
}

static void embed(struct projector *p, const struct source *source)
{
    static uint8_t pixels[2 * PROJECTOR_BLOCK_MAX * PROJECTOR_BLOCK_MAX * 3];
    static const float samples[PROJECTOR_FRAME_MAX + 1] = {1};
    const struct device_options options = {.n_threads = 1};
    struct device_limits limits = {0};
    struct embedder e = {0};
    struct device *dev = NULL;
    float out[2 * 8];
    embedder_limits(&limits, p);
    if (device_new_cpu(&dev, &options, NULL)) {
        return;
    }
    struct load load = {.device = dev};
    if (device_reserve(dev, &limits, NULL) || load_projector(&load, p, source, NULL) ||
        embedder_reserve(&e, p, dev, NULL)) {
        unload_projector(dev, p);
        device_free(dev);
        return;
    }
    if (p->has_vision) {
        const size_t n = p->n_positions > 1 ? 2 : 1;
        const struct soft_span span = {.kind = SOFT_IMAGE,
                                       .n = n,
                                       .pixels = pixels,
                                       .width = (uint32_t)n * p->block,
                                       .height = p->block};
        embed_image(&e, tensor_make(out, n, 8), &span, (struct embed_trace){0});
    }
    if (p->has_audio) {
        const struct soft_span span = {
            .kind = SOFT_AUDIO, .n = 2, .samples = samples, .n_samples = p->frame_samples + 1};
        embed_audio(&e, tensor_make(out, 2, 8), &span, (struct embed_trace){0});
    }
    sum += out[0];
    embedder_release(&e);
    unload_projector(dev, p);
    device_free(dev);
}

static void use(struct projector *p, const struct source *source)
{
    if (p->has_vision) {
        const size_t n_values = (size_t)p->block * p->block * 3;
        use_matrix(&p->patch_dense);
        use_matrix(&p->positions);
        use_matrix(&p->vision_projection);
        for (size_t i = 0; i < 2; i++) {
            use_vector(p->patch_norm1[i], n_values);
            use_vector(p->patch_norm2[i], p->width);
            use_vector(p->pos_norm[i], p->width);
        }
        use_vector(p->patch_bias, p->width);
    }
    if (p->has_audio) {
        use_matrix(&p->audio_projection);
    }
    if (embedder_size(p) <= EMBEDDER_MAX) {
        embed(p, source);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct model_config config = {.hidden_size = 8};
    struct source *s = NULL;
    if (source_open_memory(&s, data, size, "fuzz.gguf", NULL) == 0) {
        struct projector p = {0};
        struct carat_error err = {0};
        const int rc = projector_bind(&p, &config, s, &err);
        require(rc == 0 || err.text[0] != 0);
        if (rc == 0) {
            use(&p, s);
        }
        projector_release(&p);
    }
    source_close(s);
    return 0;
}
