// SPDX-License-Identifier: Apache-2.0
// Which files of a repository make the model that was asked for: one GGUF file or a split set of
// the wanted type, or a checkpoint of safetensors with what belongs to it; with the projections of
// pictures and sound, and with the drafter, where the repository has them.
#ifndef CARAT_CLI_PULL_PLAN_H
#define CARAT_CLI_PULL_PLAN_H

#include "cli/pull_hub.h"

enum plan_role { ROLE_MODEL, ROLE_PROJECTOR, ROLE_DRAFTER };

struct plan_file {
    const struct hub_file *file; // the repository's
    char name[300];              // in the model's folder
    enum plan_role role;
};
struct plan {
    char type[129];  // "Q4_K_M", "safetensors"
    char model[300]; // the name of the file to open; "": the folder
    struct plan_file *files;
    size_t n_files;
    uint64_t size;
    size_t n_others; // types that could have been chosen instead
};
struct plan_options {
    const char *type; // NULL: chosen
    uint64_t memory;  // bytes of this machine, for choosing; 0: unknown
    bool no_projector, no_drafter;
};
int plan_make(struct plan *out, const char *repo_name, const struct hub_repo *repo,
              const struct plan_options *options, struct carat_error *err);
void plan_release(struct plan *p);
const char *plan_role_name(enum plan_role role);

#endif
