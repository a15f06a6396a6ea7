// SPDX-License-Identifier: Apache-2.0
// The options that commands share: how to run a model and how to pick tokens.
#ifndef CARAT_CLI_SETTINGS_H
#define CARAT_CLI_SETTINGS_H

#include "cli/options.h"
#include "cli/progress.h"

struct model_settings {
    struct option_count context;
    size_t kv_type; // an enum carat_dtype_kv
    struct option_count threads;
    struct option_count chunk;
    bool is_float;
    const char *projector;
};
extern const struct option model_setting_rows[];

struct sampling_settings {
    struct option_number temperature;
    struct option_count top_k;
    struct option_number top_p;
    struct option_number min_p;
    struct option_number repetition_penalty;
    struct option_number frequency_penalty;
    struct option_number presence_penalty;
    struct option_count seed;
    struct option_texts biases;
};
extern const struct option sampling_setting_rows[];

extern const char *const template_names[]; // by enum carat_template, then NULL
extern const char *const kv_type_names[];  // by enum carat_dtype_kv, then NULL

void settings_engine(struct carat_engine_options *out, const struct model_settings *settings,
                     const char *path, struct progress *progress);
void settings_session(struct carat_session_options *out, const struct model_settings *settings,
                      struct progress *progress);
// *biases is memory that the caller frees after carat_sampler_new.
int settings_sampling(struct carat_sampling *out, const struct sampling_settings *settings,
                      const struct carat_engine *engine, struct carat_logit_bias **biases,
                      struct carat_error *err);

#endif
