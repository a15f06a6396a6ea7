// SPDX-License-Identifier: Apache-2.0
// A build without the FFmpeg libraries: says what is missing and how to get it. WAV and PPM do not
// come here; HEIC and AVIF still go to libheif where that is built in.
#include <string.h>

#include "base/error.h"
#include "media/decode.h"

struct film {
    char nothing;
};

bool decode_has(const char *feature)
{
    return strcmp(feature, "heif") == 0 && decode_heif_has(KIND_HEIC);
}

static int refuse(const struct media_input *in, const char *still, struct carat_error *err)
{
    enum media_kind kind = kind_of(in);
    if (kind == KIND_UNKNOWN) {
        return kind_refuse(in, still, err);
    }
    return fail(err, CARAT_E_UNSUPPORTED,
                "%s: reading %s needs the FFmpeg libraries, which this build is without; it reads "
                "%s. Install libavformat, libavcodec and libavutil (tools/setup.sh does) and build "
                "again",
                in->name, kind_name(kind), still);
}

int decode_picture(struct media_picture *out, char format[32], const struct media_input *in,
                   bool blends_alpha, struct media_budget *b, struct carat_error *err)
{
    enum media_kind kind = kind_of(in);
    if (decode_heif_has(kind)) {
        memcpy(format, kind_name(kind), strlen(kind_name(kind)) + 1);
        return decode_heif(out, in, blends_alpha, b, err);
    }
    return refuse(in, "PPM and raw pixels", err);
}

int decode_sound(const struct media_input *in, struct sound_sink *sink, struct media_budget *b,
                 struct carat_error *err)
{
    (void)sink;
    (void)b;
    return refuse(in, "PCM WAV and raw samples", err);
}

int film_open(struct film **out, struct film_info *info, const struct media_input *in,
              struct media_budget *b, struct carat_error *err)
{
    (void)out;
    (void)info;
    (void)b;
    return refuse(in, "raw frames", err);
}

int film_read(struct film *f, const size_t *frames, size_t n, film_on_frame on_frame, void *user,
              struct carat_error *err)
{
    (void)f;
    (void)frames;
    (void)n;
    (void)on_frame;
    (void)user;
    return fail(err, CARAT_E_UNSUPPORTED, "this build reads no films");
}

void film_close(struct film *f)
{
    (void)f;
}
