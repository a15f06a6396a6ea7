// SPDX-License-Identifier: Apache-2.0
// The importance that a quantizer weighs errors with: read from a file, or collected from prompts.
#ifndef CARAT_CLI_IMPORTANCE_H
#define CARAT_CLI_IMPORTANCE_H

#include "carat_jobs.h"
#include "cli/options.h"

struct importance_settings {
    const char *file;
    const char *prompts;
    const char *target;          // where to keep what was collected
    struct option_count context; // tokens of a prompt, at most
    struct option_count tokens;  // of all prompts, at most
};
extern const struct option importance_rows[];

// *out stays NULL when none is asked for. model: what the prompts run through.
int importance_get(struct carat_importance **out, const struct importance_settings *settings,
                   const char *model, const struct output *output, bool is_quiet,
                   struct carat_error *err);

#endif
