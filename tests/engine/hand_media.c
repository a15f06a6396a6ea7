// SPDX-License-Identifier: Apache-2.0
#include "hand_media.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static uint32_t next(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16 & 0x7fff;
}

static struct carat_media *make(enum carat_media_type type)
{
    struct carat_media *m = mem_new(sizeof(*m), NULL);
    assert_non_null(m);
    m->info.type = type;
    m->segment_samples = SIZE_MAX;
    return m;
}

static void add_frames(struct carat_media *m, uint32_t width, uint32_t height, uint32_t block,
                       size_t n)
{
    m->info.width = width;
    m->info.height = height;
    m->info.block = block;
    m->info.n_frames = n;
    m->frames = mem_new_array(n, sizeof(*m->frames), NULL);
    assert_non_null(m->frames);
    for (size_t i = 0; i < n; i++) {
        m->frames[i].pixels = mem_new((size_t)width * height * 3, NULL);
        assert_non_null(m->frames[i].pixels);
    }
}

static void add_samples(struct carat_media *m, size_t n, size_t segment, unsigned seed)
{
    m->info.n_samples = n;
    m->segment_samples = segment ? segment : SIZE_MAX;
    m->samples = mem_new_array(n, sizeof(float), NULL);
    assert_non_null(m->samples);
    m->sample_capacity = n;
    for (size_t i = 0; i < n; i++) {
        m->samples[i] = (float)next(&seed) / 16384.0f - 1.0f;
    }
}

struct carat_media *hand_picture(uint32_t width, uint32_t height, uint32_t block, unsigned seed,
                                 const uint8_t *pixels)
{
    struct carat_media *m = make(CARAT_MEDIA_IMAGE);
    size_t size = (size_t)width * height * 3;
    add_frames(m, width, height, block, 1);
    for (size_t i = 0; i < size; i++) {
        m->frames[0].pixels[i] = pixels ? pixels[i] : (uint8_t)next(&seed);
    }
    media_describe(m);
    return m;
}

struct carat_media *hand_sound(size_t n, size_t segment, unsigned seed, const float *samples)
{
    struct carat_media *m = make(CARAT_MEDIA_AUDIO);
    add_samples(m, n, segment, seed);
    if (samples) {
        memcpy(m->samples, samples, n * sizeof(float));
    }
    media_describe(m);
    return m;
}

struct carat_media *hand_film(uint32_t width, uint32_t height, uint32_t block,
                              const double *seconds, size_t n_frames, size_t n_samples,
                              size_t segment)
{
    struct carat_media *m = make(CARAT_MEDIA_VIDEO);
    add_frames(m, width, height, block, n_frames);
    for (size_t i = 0; i < n_frames; i++) {
        m->frames[i].seconds = seconds[i];
        m->frames[i].pixels[0] = (uint8_t)i;
    }
    add_samples(m, n_samples, segment, 1);
    media_describe(m);
    return m;
}

void hand_show(struct carat_media *sound, size_t n, bool is_open)
{
    assert_true(n <= sound->sample_capacity);
    if (n < sound->info.n_samples) {
        sound->n_hashed = 0; // a new sound, as far as its description goes
    }
    sound->info.n_samples = n;
    sound->info.is_open = is_open;
    media_describe(sound);
}

void hand_free(struct carat_media *m)
{
    for (size_t i = 0; m && m->frames && i < m->info.n_frames; i++) {
        mem_free(m->frames[i].pixels);
    }
    if (m) {
        mem_free(m->frames);
        mem_free(m->samples);
        mem_free(m);
    }
}

// ---------------------------------------------------------------------------------------- goldens

static const struct safetensors_tensor *tensor(const struct hand_golden *g, const char *format,
                                               size_t i)
{
    char name[64];
    snprintf(name, sizeof(name), format, i);
    return safetensors_find(g->tensors, name);
}

void hand_golden_open(struct hand_golden *g, const char *path, uint32_t block)
{
    static const char *const pictures[] = {"in.image_u8.%zu", "in.frame_u8.%zu"};
    struct carat_error err = {0};
    *g = (struct hand_golden){0};
    if (safetensors_open(&g->tensors, path, &err)) {
        fail_msg("%s", err.text);
    }
    const struct safetensors_tensor *ids = safetensors_find(g->tensors, "in.input_ids");
    const struct safetensors_tensor *logits = safetensors_find(g->tensors, "out.logits");
    assert_non_null(ids);
    assert_non_null(logits);
    g->ids = (const int32_t *)(const void *)ids->data;
    g->n_ids = ids->size / sizeof(int32_t);
    g->logits = (const float *)(const void *)logits->data;
    g->n_vocab = logits->size / sizeof(float) / g->n_ids;
    for (size_t kind = 0; kind < 2; kind++) {
        const struct safetensors_tensor *t;
        for (size_t i = 0; (t = tensor(g, pictures[kind], i)); i++) {
            assert_true(g->n_media < HAND_MEDIA_MAX);
            g->media[g->n_media++] =
                hand_picture((uint32_t)t->dims[1], (uint32_t)t->dims[0], block, 0, t->data);
        }
    }
    const struct safetensors_tensor *wave;
    for (size_t i = 0; (wave = tensor(g, "in.wave.%zu", i)); i++) {
        assert_true(g->n_media < HAND_MEDIA_MAX);
        g->media[g->n_media++] =
            hand_sound((size_t)wave->dims[0], 0, 0, (const float *)(const void *)wave->data);
    }
}

void hand_golden_close(struct hand_golden *g)
{
    for (size_t i = 0; i < g->n_media; i++) {
        hand_free(g->media[i]);
    }
    safetensors_close(g->tensors);
}
