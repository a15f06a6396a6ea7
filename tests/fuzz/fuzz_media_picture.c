// SPDX-License-Identifier: Apache-2.0
// Random pictures of every format: refused with a message, or whole, with nothing taken that is not
// given back. Small limits keep the decoders fast.
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "media/media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct carat_media_limits limits = {
    .pixels_max = 1 << 18, .memory_max = 64 << 20, .decode_seconds = 5};

static void decode(const struct media_input *in, bool blends_alpha)
{
    struct carat_media_source source = {.limits = limits};
    struct carat_error err = {0};
    struct media_budget b;
    struct media_picture p = {0};
    char format[32];
    media_budget_init(&b, &source, in->name);
    int rc = decode_picture(&p, format, in, blends_alpha, &b, &err);
    if (rc) {
        require(err.text[0] != 0);
        require(b.memory == 0);
        return;
    }
    require(p.width > 0);
    require((uint64_t)p.width * p.height <= limits.pixels_max);
    require(b.memory == (uint64_t)p.width * p.height * 3);
    require(memchr(format, 0, sizeof(format)) != NULL);
    unsigned sum = 0;
    for (size_t i = 0; i < (size_t)p.width * p.height * 3; i++) {
        sum += p.pixels[i];
    }
    require(sum < UINT32_MAX);
    media_picture_release(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct media_input in = {data, size, "picture"};
    decode(&in, false);
    decode(&in, true);
    struct carat_media_source source = {.type = CARAT_MEDIA_IMAGE,
                                        .data = data,
                                        .size = size,
                                        .image_tokens = 70,
                                        .limits = limits};
    struct carat_media *media = NULL;
    if (size > 0 && carat_media_new(&media, &source, NULL) == 0) {
        require(carat_media_frame(media, 0, NULL) != NULL);
    }
    carat_media_free(media);
    return 0;
}
