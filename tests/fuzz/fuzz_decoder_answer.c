// SPDX-License-Identifier: Apache-2.0
// What a decoder answers its server: refused, or a medium within the limits, or a reason that is
// text. The first byte says what was asked for.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"
#include "server/decoder_words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NUMBER 1 // of the request
static const struct carat_media_limits limits = {
    .pixels_max = 1 << 20, .memory_max = 8 << 20, .seconds_max = 60, .frames_max = 4};

static int get(void *user, void *out, size_t size, struct carat_error *err)
{
    struct cursor *c = user;
    const void *data = cursor_bytes(c, size);
    if (!data) {
        return fail(err, CARAT_E_IO, "the answer ends");
    }
    memcpy(out, data, size);
    return 0;
}

static void check(const struct carat_media *m, const struct carat_media_source *asked)
{
    const struct carat_media_info *i = carat_media_info(m);
    size_t n = 0;
    double sum = 0;
    const float *samples = carat_media_samples(m, &n);
    require(i->type == asked->type);
    require(i->n_frames <= limits.frames_max);
    require(i->n_samples <= (size_t)limits.seconds_max * 16000 + 1);
    for (size_t k = 0; k < n; k++) {
        require(isfinite(samples[k]));
    }
    for (size_t f = 0; f < i->n_frames; f++) {
        double seconds = -1;
        const uint8_t *pixels = carat_media_frame(m, f, &seconds);
        for (size_t k = 0; k < (size_t)i->width * i->height * 3; k++) {
            sum += pixels[k];
        }
        require(seconds >= 0);
    }
    require(sum >= 0);
    require(memchr(i->format, '\0', 32));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct carat_media *media = NULL;
    struct carat_error why = {0}, err = {0};
    if (size == 0) {
        return 0;
    }
    const struct carat_media_source asked = {.type = (enum carat_media_type)(1 + data[0] % 3),
                                             .image_tokens = data[0] & 4 ? 70 : 0,
                                             .drops_sound = data[0] & 8,
                                             .limits = limits};
    struct cursor c = cursor_make(data + 1, size - 1);
    const struct decoder_hearing hearing = {
        .number = NUMBER, .source = &asked, .get = get, .user = &c};
    const size_t held = mem_bytes_now();
    int rc = decoder_hear(&hearing, &media, &why, &err);
    if (rc) {
        require(err.text[0] && rc == err.status);
        require(!media && !why.text[0]);
    } else if (media) {
        check(media, &asked);
    } else {
        require(why.text[0] && why.status < 0);
        require(utf8_is_valid(why.text, strlen(why.text)));
    }
    carat_media_free(media);
    require(mem_bytes_now() == held);
    return 0;
}
