// SPDX-License-Identifier: Apache-2.0
#include "cli/pull_account.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

#define TOKEN_MAX 4096

// One word of visible letters: it becomes a line of a request.
static int take_token(char **out, struct slice text, const char *where, struct carat_error *err)
{
    struct slice token = utf8_trim(text);
    if (token.size == 0) {
        return 0;
    }
    for (size_t i = 0; i < token.size; i++) {
        if (token.data[i] <= ' ' || token.data[i] > '~') {
            return fail(err, CARAT_E_ARGUMENT,
                        "%s: a token is one word of letters and digits; something else is in it",
                        where);
        }
    }
    if (token.size > TOKEN_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "%s: a token is at most %d bytes long", where,
                    TOKEN_MAX);
    }
    *out = mem_strndup(token.data, token.size, err);
    return *out ? 0 : CARAT_E_MEMORY;
}

// Where the hub's own programs put it.
static bool find_token_file(struct buf *out)
{
    const char *file = os_env("HF_TOKEN_PATH"), *home = os_env("HF_HOME");
    const char *cache = os_env("XDG_CACHE_HOME"), *user = os_env("HOME");
    if (file) {
        buf_adds(out, file);
    } else if (home) {
        buf_addf(out, "%s/token", home);
    } else if (cache) {
        buf_addf(out, "%s/huggingface/token", cache);
    } else if (user) {
        buf_addf(out, "%s/.cache/huggingface/token", user);
    }
    return out->size > 0 && !out->has_failed && os_is_file(out->data);
}

static int find_token(char **out, struct carat_error *err)
{
    const char *named = os_env("HF_TOKEN");
    struct buf path = {.max = 1 << 16}, text = {.max = TOKEN_MAX * 2};
    int rc = 0;
    if (named) {
        rc = take_token(out, slice_of(named), "HF_TOKEN", err);
    } else if (find_token_file(&path) && os_read_file(&text, path.data, TOKEN_MAX * 2, NULL) == 0) {
        rc = take_token(out, slice_make(buf_text(&text), text.size), path.data, err);
    }
    buf_release(&path);
    buf_release(&text);
    return rc;
}

static bool is_yes(const char *value)
{
    static const char *const yes[] = {"1", "true", "TRUE", "True", "yes", "YES", "on", "ON"};
    for (size_t i = 0; value && i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(value, yes[i]) == 0) {
            return true;
        }
    }
    return false;
}

int pull_account_find(struct pull_account *out, struct carat_error *err)
{
    const char *named = os_env("HF_ENDPOINT");
    struct slice endpoint = slice_of(named ? named : "https://huggingface.co");
    while (slice_ends(endpoint, "/")) {
        endpoint.size--;
    }
    struct pull_account a = {.is_offline = is_yes(os_env("HF_HUB_OFFLINE"))};
    a.endpoint = mem_strndup(endpoint.data, endpoint.size, err);
    int rc = a.endpoint ? find_token(&a.token, err) : CARAT_E_MEMORY;
    if (rc) {
        pull_account_release(&a);
        return rc;
    }
    *out = a;
    return 0;
}

void pull_account_release(struct pull_account *a)
{
    mem_free(a->endpoint);
    mem_free(a->token);
    *a = (struct pull_account){.token = NULL};
}
