// SPDX-License-Identifier: Apache-2.0
// What a repository of a model hub holds, by the hub's API:
// GET /api/models/REPO/revision/REVISION?blobs=true, and the files at /REPO/resolve/COMMIT/PATH.
#ifndef CARAT_CLI_PULL_HUB_H
#define CARAT_CLI_PULL_HUB_H

#include "cli/pull_digest.h"
#include "cli/pull_http.h"
#include "cli/store.h"

struct hub_file {
    struct slice path; // in the repository; no way out of it
    uint64_t size;
    enum digest_kind kind;
    char digest[DIGEST_TEXT_MAX];
    char id[STORE_ID_MAX]; // in the store
};
struct hub_repo {
    struct json_doc *doc; // the strings are its
    char commit[65];
    struct hub_file *files; // those that can be fetched and checked
    size_t n_files;
    size_t n_odd; // others: without checksum, or with names that are refused
};
struct hub {
    const char *endpoint; // without a slash at its end
    const char *repo;     // "OWNER/REPO"
    const char *revision; // a branch, tag or commit
    bool has_token;
};
// Reads the list. Errors say what to do: no such repository, a licence to accept, a token to set.
int hub_read(struct hub_repo *out, struct http *http, const struct hub *hub,
             struct carat_error *err);
// The same of an answer that is there already.
int hub_parse(struct hub_repo *out, const char *text, size_t size, struct carat_error *err);
void hub_release(struct hub_repo *r);
int hub_file_url(struct buf *out, const struct hub *hub, const struct hub_repo *repo,
                 struct slice path, struct carat_error *err);
// What a refusal means; the error that is there stays when the answer says nothing more.
int hub_explain(const struct hub *hub, const struct http_answer *answer, struct carat_error *err);

#endif
