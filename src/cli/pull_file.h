// SPDX-License-Identifier: Apache-2.0
// One file from the hub into the store: what an earlier run left is gone on with, and it gets its
// name once its checksum is right.
#ifndef CARAT_CLI_PULL_FILE_H
#define CARAT_CLI_PULL_FILE_H

#include "cli/progress.h"
#include "cli/pull_hub.h"

struct pull_file {
    const struct store *store;
    struct http *http;
    const struct hub_file *file;
    const char *url;
    size_t n_parallel;
    struct progress *progress;
    uint64_t done_before, total; // bytes of the files before it, and of all, for the progress
};
// An error leaves what was fetched for the next run, unless its checksum is wrong.
int pull_file(const struct pull_file *what, struct http_answer *answer, struct carat_error *err);
// Bytes of it that are there from an earlier run.
uint64_t pull_file_kept(const struct store *store, const struct hub_file *file);

#endif
