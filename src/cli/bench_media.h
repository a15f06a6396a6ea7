// SPDX-License-Identifier: Apache-2.0
// What pictures and sound cost before the decoder sees them, against the decoder's own time.
#ifndef CARAT_CLI_BENCH_MEDIA_H
#define CARAT_CLI_BENCH_MEDIA_H

#include "cli/loading.h"

struct bench_media_options {
    const char *image; // a picture to decode, or NULL: one that is made, 4000 x 3000 pixels
    const char *audio; // a sound to decode, or NULL: 30 s that are made, 48 kHz stereo
    struct option_counts image_tokens;
    size_t n_runs;
    bool is_json, is_visible;
    const struct model_settings *settings;
    bool is_quiet;
};

// Opens the model, measures, prints. l is released by the caller.
int bench_media(const struct bench_media_options *options, const char *model, struct loaded *l,
                struct output *out, struct carat_error *err);

#endif
