// SPDX-License-Identifier: Apache-2.0
#include "cli/pull_hub.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "formats/container.h"
#include "formats/json.h"

#define ANSWER_MAX    ((size_t)64 << 20)
#define FILES_MAX     100000
#define PATH_SIZE_MAX 1000
#define FILE_SIZE_MAX ((uint64_t)1 << 46) // bytes of a file

static bool is_hex(struct slice s, size_t size)
{
    for (size_t i = 0; i < s.size; i++) {
        if (!s.data[i] || !strchr("0123456789abcdef", s.data[i])) {
            return false;
        }
    }
    return s.size == size;
}

// A relative path that stays below where it starts, on every system.
static bool is_path(struct slice path)
{
    if (!container_is_name(path, PATH_SIZE_MAX) || memchr(path.data, '\\', path.size)) {
        return false;
    }
    for (size_t at = 0; at <= path.size;) {
        const char *part = path.data + at;
        const char *slash = at < path.size ? memchr(part, '/', path.size - at) : NULL;
        size_t n = slash ? (size_t)(slash - part) : path.size - at;
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && memcmp(part, "..", 2) == 0)) {
            return false;
        }
        at += n + 1;
    }
    return true;
}

static bool read_file(struct hub_file *out, const struct json_value *v)
{
    const struct json_value *lfs = json_get(v, "lfs");
    struct slice sha256 = json_string(json_get(lfs, "sha256"));
    struct slice git = json_string(json_get(v, "blobId"));
    bool is_large = json_kind(lfs) == JSON_OBJECT;
    struct slice digest = is_large ? sha256 : git;
    *out = (struct hub_file){.path = json_string(json_get(v, "rfilename")),
                             .kind = is_large ? DIGEST_SHA256 : DIGEST_GIT};
    const struct json_value *size = json_get(is_large ? lfs : v, "size");
    if (!is_path(out->path) || !is_hex(digest, is_large ? 64 : 40) || !json_u64(size, &out->size) ||
        out->size > FILE_SIZE_MAX) {
        return false;
    }
    snprintf(out->digest, sizeof(out->digest), "%.*s", (int)digest.size, digest.data);
    snprintf(out->id, sizeof(out->id), "%s-%s", is_large ? "sha256" : "git", out->digest);
    return true;
}

int hub_parse(struct hub_repo *out, const char *text, size_t size, struct carat_error *err)
{
    struct hub_repo r = {.n_files = 0};
    int rc = json_parse(&r.doc, text, size, "the hub's answer", err);
    if (rc) {
        return rc;
    }
    const struct json_value *list = json_get(json_root(r.doc), "siblings");
    struct slice commit = json_string(json_get(json_root(r.doc), "sha"));
    size_t n = json_count(list);
    if (json_kind(list) != JSON_ARRAY || n > FILES_MAX || !is_hex(commit, 40)) {
        rc = fail(err, CARAT_E_FORMAT,
                  "the hub's answer: expected a commit 'sha' and a list 'siblings' of at most %d "
                  "files, found %s of %zu: is this a model hub?",
                  FILES_MAX, json_kind_name(json_kind(list)), n);
        goto out;
    }
    snprintf(r.commit, sizeof(r.commit), "%.*s", (int)commit.size, commit.data);
    r.files = mem_new_array(n, sizeof(*r.files), err);
    if (!r.files) {
        rc = CARAT_E_MEMORY;
        goto out;
    }
    for (struct json_iter it = json_iter(list); json_next(&it);) {
        bool is_ok = read_file(&r.files[r.n_files], it.value);
        r.n_files += is_ok;
        r.n_odd += !is_ok;
    }
    *out = r;
    r = (struct hub_repo){.doc = NULL};
out:
    hub_release(&r);
    return rc;
}

void hub_release(struct hub_repo *r)
{
    mem_free(r->files);
    json_free(r->doc);
    *r = (struct hub_repo){.doc = NULL};
}

// As it stands in an address.
static void add_escaped(struct buf *out, struct slice text, bool keeps_slashes)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if ((c && strchr(plain, c)) || (c == '/' && keeps_slashes)) {
            buf_addc(out, c);
        } else {
            buf_addf(out, "%%%02X", (unsigned)(unsigned char)c);
        }
    }
}

static int fail_gated(const struct hub *hub, struct carat_error *err)
{
    return fail(err, CARAT_E_IO,
                "%s: its licence must be accepted before it can be fetched: do so at %s/%s, %s",
                hub->repo, hub->endpoint, hub->repo,
                hub->has_token ? "with the account that your token belongs to"
                               : "then make a token there (Settings, Access Tokens) and set "
                                 "HF_TOKEN to it");
}

int hub_explain(const struct hub *hub, const struct http_answer *answer, struct carat_error *err)
{
    const char *code = answer->code;
    long status = answer->status;
    if (strcmp(code, "GatedRepo") == 0) {
        return fail_gated(hub, err);
    }
    if (strcmp(code, "RevisionNotFound") == 0) {
        return fail(err, CARAT_E_IO, "%s: has no revision '%s'", hub->repo, hub->revision);
    }
    if (strcmp(code, "EntryNotFound") == 0) {
        return fail(err, CARAT_E_IO, "%s: a file that the hub lists is not there: %s", hub->repo,
                    err->text);
    }
    if (strcmp(code, "RepoNotFound") == 0 || status == 404) {
        return fail(err, CARAT_E_IO, "%s: no such repository at %s%s", hub->repo, hub->endpoint,
                    hub->has_token ? ", or your token may not see it"
                                   : " (a private one needs a token: set HF_TOKEN)");
    }
    if (status == 401) {
        return fail(err, CARAT_E_IO,
                    hub->has_token ? "%s: the hub %s does not know this token: is HF_TOKEN right?"
                                   : "%s: no such repository at %s, or one that needs a token: set "
                                     "HF_TOKEN",
                    hub->repo, hub->endpoint);
    }
    return status == 403 ? fail_gated(hub, err) : err->status;
}

int hub_read(struct hub_repo *out, struct http *http, const struct hub *hub,
             struct carat_error *err)
{
    struct buf url = {.max = 8000}, text = {.max = ANSWER_MAX};
    struct http_answer answer = {0};
    buf_addf(&url, "%s/api/models/%s/revision/", hub->endpoint, hub->repo);
    add_escaped(&url, slice_of(hub->revision), false);
    buf_adds(&url, "?blobs=true");
    int rc = buf_status(&url, err);
    if (rc == 0) {
        rc = http_get(http, url.data, NULL, &text, &answer, err);
        rc = rc == CARAT_E_IO ? hub_explain(hub, &answer, err) : rc;
    }
    rc = rc ? rc : hub_parse(out, buf_text(&text), text.size, err);
    buf_release(&url);
    buf_release(&text);
    return rc;
}

int hub_file_url(struct buf *out, const struct hub *hub, const struct hub_repo *repo,
                 struct slice path, struct carat_error *err)
{
    buf_addf(out, "%s/%s/resolve/%s/", hub->endpoint, hub->repo, repo->commit);
    add_escaped(out, path, true);
    return buf_status(out, err);
}
