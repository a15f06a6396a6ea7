// SPDX-License-Identifier: Apache-2.0
// Whether a model would fit into memory, and at which context, before it is fetched: the headers of
// its files are, into empty files of the right size, and the engine estimates from those.
#ifndef CARAT_CLI_PULL_FIT_H
#define CARAT_CLI_PULL_FIT_H

#include "cli/pull_hub.h"
#include "cli/pull_plan.h"

#define FIT_ROWS_MAX 16

struct fit {
    struct carat_memory rows[FIT_ROWS_MAX]; // from a short context to the model's longest
    size_t n;
    struct carat_error reason; // why there are none; status 0: there are
};
// Of a model on disk.
void fit_estimate(struct fit *out, const char *path, const char *projector);
// Of one that is still at the hub. An error is one of ours; that a model cannot be estimated is
// told in out->reason.
int fit_remote(struct fit *out, const struct store *store, struct http *http, const struct hub *hub,
               const struct hub_repo *repo, const struct plan *plan, struct carat_error *err);
// Bytes of memory that a model may take here; 0 when unknown.
uint64_t fit_room(void);

#endif
