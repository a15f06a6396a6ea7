// SPDX-License-Identifier: Apache-2.0
// Random films of every format: refused with a message, or frames in the order asked for.
#include <stdint.h>

#include "base/error.h"
#include "media/media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct carat_media_limits limits = {.pixels_max = 1 << 16,
                                                 .memory_max = 64 << 20,
                                                 .seconds_max = 600,
                                                 .decode_seconds = 5,
                                                 .frames_max = 8};

static int on_frame(void *user, size_t i, const struct media_picture *p, struct carat_error *err)
{
    (void)err;
    size_t *n = user;
    require(i == (*n)++);
    require((uint64_t)p->width * p->height <= limits.pixels_max);
    unsigned sum = 0;
    for (size_t k = 0; k < (size_t)p->width * p->height * 3; k++) {
        sum += p->pixels[k];
    }
    require(sum < UINT32_MAX);
    return 0;
}

static void read_some(struct film *film, const struct film_info *info)
{
    struct carat_error err = {0};
    size_t n = 0;
    size_t last = info->n_frames - 1;
    size_t frames[4] = {0, last / 2, last / 2, last};
    if (film_read(film, frames, 4, on_frame, &n, &err)) {
        require(err.text[0] != 0);
    } else {
        require(n == 4);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct carat_media_source source = {
        .type = CARAT_MEDIA_VIDEO, .data = data, .size = size, .n_frames = 4, .limits = limits};
    struct media_input in = {data, size, "film"};
    struct carat_error err = {0};
    struct media_budget b;
    struct film *film = NULL;
    struct film_info info;
    media_budget_init(&b, &source, in.name);
    if (film_open(&film, &info, &in, &b, &err)) {
        require(err.text[0] != 0);
    } else {
        require(info.n_frames > 0);
        require(info.fps > 0);
        read_some(film, &info);
    }
    film_close(film);
    require(b.memory == 0);
    struct carat_media *media = NULL;
    if (size > 0) {
        (void)carat_media_new(&media, &source, NULL);
    }
    carat_media_free(media);
    return 0;
}
