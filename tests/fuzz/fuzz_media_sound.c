// SPDX-License-Identifier: Apache-2.0
// Random sounds of every format: refused with a message, or samples of one rate.
#include <stdint.h>

#include "base/error.h"
#include "media/media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct carat_media_limits limits = {
    .pixels_max = 1 << 18, .memory_max = 64 << 20, .seconds_max = 30, .decode_seconds = 5};

struct heard {
    struct sound_sink sink;
    uint32_t n_channels; // 0: no format yet
    double sum;
};

static int on_format(struct sound_sink *sink, uint32_t rate, uint32_t n_channels, const char *name,
                     struct carat_error *err)
{
    (void)err;
    struct heard *h = (struct heard *)sink;
    require(h->n_channels == 0);
    require(rate >= 1);
    require(n_channels >= 1);
    require(name[0] != 0);
    h->n_channels = n_channels;
    return 0;
}

static int on_samples(struct sound_sink *sink, const float *samples, size_t n,
                      struct carat_error *err)
{
    (void)err;
    struct heard *h = (struct heard *)sink;
    require(h->n_channels > 0);
    for (size_t i = 0; i < n * h->n_channels; i++) {
        h->sum += (double)samples[i];
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct carat_media_source source = {
        .type = CARAT_MEDIA_AUDIO, .data = data, .size = size, .limits = limits};
    struct media_input in = {data, size, "sound"};
    struct heard h = {.sink = {on_format, on_samples}};
    struct carat_error err = {0};
    struct media_budget b;
    media_budget_init(&b, &source, in.name);
    if (decode_sound(&in, &h.sink, &b, &err)) {
        require(err.text[0] != 0);
    }
    require(b.memory == 0);
    struct carat_media *media = NULL;
    if (size > 0) {
        (void)carat_media_new(&media, &source, NULL);
    }
    carat_media_free(media);
    return 0;
}
