// SPDX-License-Identifier: Apache-2.0
// A build without libjpeg.
#include "base/error.h"
#include "media/decode.h"

bool decode_jpeg_has(void)
{
    return false;
}

int decode_jpeg(struct media_picture *out, const struct picture_header *h, struct media_budget *b,
                struct carat_error *err)
{
    (void)out;
    (void)h;
    return fail(
        err, CARAT_E_UNSUPPORTED,
        "%s: reading JPEG needs libjpeg, which this build is without; install libjpeg-turbo "
        "(tools/setup.sh does) and build again",
        b->name);
}
