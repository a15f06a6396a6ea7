// SPDX-License-Identifier: Apache-2.0
// What carat pull does, between its options and the files that do it.
#ifndef CARAT_CLI_PULL_H
#define CARAT_CLI_PULL_H

#include "cli/options.h"
#include "cli/store.h"

struct pull_options {
    const char *revision;
    struct option_count parallel, patience, tries;
    bool no_projector, no_drafter;
    bool is_dry, is_offline, is_quiet, is_json;
    bool lists, cleans;
    const char *removed;
};

// Gets REPO[:TYPE] into the store; with is_dry says what that would be. An exit code.
int pull_get(const struct pull_options *o, const struct store *store, const char *word,
             struct output *out);
int pull_list(const struct pull_options *o, const struct store *store, struct output *out);
int pull_remove(const struct pull_options *o, const struct store *store, struct output *out);
int pull_clean(const struct pull_options *o, const struct store *store);

#endif
