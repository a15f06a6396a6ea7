// SPDX-License-Identifier: Apache-2.0
// A build without libheif.
#include "base/error.h"
#include "media/decode.h"

bool decode_heif_has(enum media_kind kind)
{
    (void)kind;
    return false;
}

int decode_heif(struct media_picture *out, const struct media_input *in, bool blends_alpha,
                struct media_budget *b, struct carat_error *err)
{
    (void)out;
    (void)blends_alpha;
    (void)b;
    return fail(err, CARAT_E_UNSUPPORTED,
                "%s: reading HEIC needs libheif, which this build is without; install libheif "
                "(tools/setup.sh does) and build again",
                in->name);
}
