// SPDX-License-Identifier: Apache-2.0
// Random PPM files, brought to the smallest budget of soft tokens.
#include <stdint.h>

#include "base/error.h"
#include "media/media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct media_input in = {data, size, "fuzz.ppm"};
    if (!ppm_is(&in)) {
        return 0; // would go to the libraries
    }
    const struct carat_media_source source = {
        .type = CARAT_MEDIA_IMAGE,
        .data = data,
        .size = size,
        .image_tokens = 70,
        .block = 3, // quicker than 48
        .limits = {.pixels_max = 1 << 20, .memory_max = 1 << 26, .decode_seconds = 20}};
    struct carat_media *m = NULL;
    struct carat_error err = {0};
    int rc = carat_media_new(&m, &source, &err);
    require(rc == 0 || err.text[0] != 0);
    if (rc == 0) {
        const struct carat_media_info *info = carat_media_info(m);
        require(info->n_tokens > 0 && info->n_tokens <= 70);
        const uint8_t *pixels = carat_media_frame(m, 0, NULL);
        uint64_t sum = 0;
        for (size_t i = 0; i < (size_t)info->width * info->height * 3; i++) {
            sum += pixels[i];
        }
        (void)sum;
    }
    carat_media_free(m);
    return 0;
}
