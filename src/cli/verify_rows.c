// SPDX-License-Identifier: Apache-2.0
// The row files of an io folder that concern the tokenizer, and what all row checks share.
#include "cli/verify.h"

#include "base/error.h"
#include "base/mem.h"

#include <string.h>

#define SHOWN_MAX 40 // bytes of a text that differs

static void add_excerpt(struct buf *out, struct slice text, size_t from)
{
    size_t size = text.size - from;
    buf_add_json(out, text.data + from, size > SHOWN_MAX ? SHOWN_MAX : size);
}

void row_compare_text(struct row_file *f, const char *what, struct slice expected,
                      struct slice found)
{
    if (f->detail->size || slice_equal(expected, found)) {
        return;
    }
    size_t at = 0;
    while (at < expected.size && at < found.size && expected.data[at] == found.data[at]) {
        at++;
    }
    buf_addf(f->detail, "%s differs at byte %zu: expected ", what, at);
    add_excerpt(f->detail, expected, at);
    buf_adds(f->detail, ", found ");
    add_excerpt(f->detail, found, at);
}

void row_compare_ids(struct row_file *f, const char *what, const struct json_value *expected,
                     const carat_token *found, size_t n_found)
{
    size_t at = 0;
    if (f->detail->size) {
        return;
    }
    for (struct json_iter it = json_iter(expected); json_next(&it); at++) {
        int64_t id = -1;
        if (!json_i64(it.value, &id) || at >= n_found || found[at] != id) {
            buf_addf(f->detail, "%s differ at %zu: expected %lld, found %lld", what, at,
                     (long long)id, at < n_found ? (long long)found[at] : -1LL);
            return;
        }
    }
    if (at != n_found) {
        buf_addf(f->detail, "%s: expected %zu, found %zu", what, at, n_found);
    }
}

static const struct json_value *member(const struct row_file *f, const char *key)
{
    return json_get(json_root(f->row), key);
}

// The ids of a row, for the ways back to text.
static int read_ids(const struct json_value *list, carat_token **out, size_t *n,
                    struct carat_error *err)
{
    carat_token *ids = mem_new_array(json_count(list) + 1, sizeof(*ids), err);
    if (!ids) {
        return CARAT_E_MEMORY;
    }
    *n = 0;
    for (struct json_iter it = json_iter(list); json_next(&it);) {
        int64_t id = -1;
        if (!json_i64(it.value, &id) || id < 0 || id > INT32_MAX) {
            mem_free(ids);
            return fail(err, CARAT_E_FORMAT, "ids: expected a list of token ids");
        }
        ids[(*n)++] = (carat_token)id;
    }
    *out = ids;
    return 0;
}

static int compare_tokens(struct row_file *f, const char *what, struct slice text, unsigned flags,
                          const struct json_value *expected, struct carat_error *err)
{
    carat_token *ids = mem_new_array(text.size + 1, sizeof(*ids), err);
    if (!ids) {
        return CARAT_E_MEMORY;
    }
    int64_t n = carat_tokenize(f->engine, text.data, text.size, flags, ids, text.size + 1, err);
    if (n >= 0) {
        row_compare_ids(f, what, expected, ids, (size_t)n);
    }
    mem_free(ids);
    return n < 0 ? (int)n : 0;
}

static int compare_detok(struct row_file *f, const char *what, const carat_token *ids, size_t n,
                         bool skips_special, struct slice expected, struct carat_error *err)
{
    struct carat_detokenizer *d = NULL;
    struct buf text = {.max = (size_t)1 << 28};
    size_t size = 0;
    int rc = carat_detokenizer_new(&d, f->engine, skips_special, err);
    if (rc) {
        return rc;
    }
    for (size_t i = 0; i < n; i++) {
        const char *piece = carat_detokenizer_feed(d, ids[i], &size);
        buf_add(&text, piece, size);
    }
    const char *rest = carat_detokenizer_flush(d, &size);
    buf_add(&text, rest, size);
    rc = buf_status(&text, err);
    if (rc == 0) {
        row_compare_text(f, what, expected, slice_make(buf_text(&text), text.size));
    }
    carat_detokenizer_free(d);
    buf_release(&text);
    return rc;
}

int check_tokenize_row(struct row_file *f, struct carat_error *err)
{
    struct slice text = json_string(member(f, "text"));
    const struct json_value *plain = member(f, "plain_ids"), *skip = member(f, "detok_skip");
    carat_token *ids = NULL;
    size_t n = 0;
    text.data = text.data ? text.data : "";
    int rc = compare_tokens(f, "ids", text, CARAT_TOKENIZE_SPECIAL, member(f, "ids"), err);
    // Where the row does not say otherwise, the text means the same as plain text.
    rc = rc ? rc : compare_tokens(f, "plain ids", text, 0, plain ? plain : member(f, "ids"), err);
    rc = rc ? rc : read_ids(member(f, "ids"), &ids, &n, err);
    rc = rc ? rc : compare_detok(f, "text", ids, n, false, json_string(member(f, "detok")), err);
    if (rc == 0 && skip) {
        rc = compare_detok(f, "text without special tokens", ids, n, true, json_string(skip), err);
    }
    mem_free(ids);
    return rc;
}

// The bytes of one token in hexadecimal.
static void compare_piece(struct row_file *f, carat_token token, struct slice expected)
{
    size_t size = 0;
    struct buf hex = {.max = 1 << 20};
    const char *text = carat_token_text(f->engine, token, &size);
    for (size_t i = 0; i < size; i++) {
        buf_addf(&hex, "%02x", (unsigned)(unsigned char)text[i]);
    }
    row_compare_text(f, "bytes of a token", expected, slice_make(buf_text(&hex), hex.size));
    buf_release(&hex);
}

int check_detok_row(struct row_file *f, struct carat_error *err)
{
    struct carat_detokenizer *d = NULL;
    carat_token *ids = NULL;
    size_t n = 0, size = 0;
    int rc = read_ids(member(f, "ids"), &ids, &n, err);
    rc = rc ? rc : carat_detokenizer_new(&d, f->engine, false, err);
    if (rc) {
        mem_free(ids);
        return rc;
    }
    struct json_iter emit = json_iter(member(f, "emit"));
    struct json_iter pieces = json_iter(member(f, "pieces_hex"));
    for (size_t i = 0; i < n; i++) {
        const char *text = carat_detokenizer_feed(d, ids[i], &size);
        if (!json_next(&emit)) {
            buf_adds(f->detail, "fewer pieces in the row than ids");
            break;
        }
        row_compare_text(f, "what a token lets show", json_string(emit.value),
                         slice_make(text, size));
        if (json_next(&pieces)) {
            compare_piece(f, ids[i], json_string(pieces.value));
        }
    }
    const char *rest = carat_detokenizer_flush(d, &size);
    row_compare_text(f, "what remains", json_string(member(f, "flush")), slice_make(rest, size));
    carat_detokenizer_free(d);
    mem_free(ids);
    return 0;
}

// One case of golden.json.
static int check_case(struct row_file *f, const struct json_value *one, struct carat_error *err)
{
    struct slice text = json_string(json_get(one, "text"));
    const struct json_value *ids = json_get(one, "ids");
    const unsigned special = CARAT_TOKENIZE_SPECIAL;
    carat_token *tokens = NULL;
    size_t n = 0;
    text.data = text.data ? text.data : "";
    int rc = compare_tokens(f, "ids", text, special, ids, err);
    rc = rc ? rc
            : compare_tokens(f, "ids with <bos>", text, special | CARAT_TOKENIZE_BOS,
                             json_get(one, "ids_with_bos"), err);
    rc = rc ? rc : read_ids(ids, &tokens, &n, err);
    rc =
        rc ? rc
           : compare_detok(f, "text", tokens, n, false, json_string(json_get(one, "decoded")), err);
    mem_free(tokens);
    return rc;
}

void verify_tokenizer(struct report *r, const struct golden *g)
{
    struct carat_error err;
    struct carat_engine *engine = NULL;
    struct carat_engine_options options = {
        .model = buf_text(&g->folder), .n_threads = 1, .is_vocab_only = true};
    if (carat_engine_open(&engine, &options, &err)) {
        report_error(r, "tokenizer", &err);
        return;
    }
    size_t n_rows = 0, n_failed = 0;
    struct buf detail = {.max = 1 << 16}, id = {.max = 100};
    struct row_file f = {.report = r, .engine = engine, .detail = &detail};
    for (struct json_iter it = json_iter(json_get(json_root(g->doc), "cases")); json_next(&it);
         n_rows++) {
        buf_clear(&detail);
        if (check_case(&f, it.value, &err)) {
            buf_adds(&detail, err.text);
        }
        if (detail.size) {
            buf_clear(&id);
            buf_addf(&id, "%zu", n_rows);
            report_row(r, n_failed++, buf_text(&id), detail.data);
        }
    }
    report_rows(r, "cases", n_rows, n_failed, "all must be exact");
    buf_release(&detail);
    buf_release(&id);
    carat_engine_close(engine);
}
