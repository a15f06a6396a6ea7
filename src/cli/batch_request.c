// SPDX-License-Identifier: Apache-2.0
// A line of the input to a request, and what came of it to a line of the output: the forms of
// OpenAI's Batch API.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/batch.h"
#include "formats/json.h"
#include "server/local.h"

#define CUSTOM_ID_MAX 4096 // bytes
#define SHOWN_MAX     60   // bytes of a value in a message

void batch_custom_id(const struct buf *line, struct buf *custom_id, bool *is_there)
{
    struct json_doc *doc = NULL;
    *is_there = false;
    if (json_parse(&doc, buf_text(line), line->size, "line", NULL) == 0) {
        const struct json_value *v = json_get(json_root(doc), "custom_id");
        *is_there = json_kind(v) == JSON_STRING;
        buf_add_slice(custom_id, json_string(v));
    }
    json_free(doc);
}

// ------------------------------------------------------------------------------ reading

static int take_custom_id(struct batch_request *r, const struct json_value *v,
                          struct carat_error *err)
{
    struct buf text = {0};
    struct slice id = json_string(v);
    bool is_fine = json_kind(v) == JSON_STRING && id.size <= CUSTOM_ID_MAX;
    if (is_fine) {
        buf_add_json(&text, id.data, id.size);
    } else {
        buf_adds(&text, "null");
    }
    int rc = buf_status(&text, err);
    r->custom_id = rc ? NULL : buf_take(&text);
    buf_release(&text);
    if (rc) {
        return rc;
    }
    if (json_kind(v) == JSON_STRING) {
        return is_fine
                   ? 0
                   : fail(err, CARAT_E_ARGUMENT, "custom_id: expected at most %d bytes, found %zu",
                          CUSTOM_ID_MAX, id.size);
    }
    return fail(err, CARAT_E_ARGUMENT, "custom_id: expected a string, found %s",
                json_kind_name(json_kind(v)));
}

static int check_method(const struct json_value *v, struct carat_error *err)
{
    struct slice method = json_string(v);
    if (json_kind(v) == JSON_ABSENT || slice_is(method, "POST")) {
        return 0;
    }
    return fail(err, CARAT_E_ARGUMENT, "method: expected \"POST\", found %s%.*s",
                json_kind(v) == JSON_STRING ? "" : json_kind_name(json_kind(v)),
                (int)(method.size < SHOWN_MAX ? method.size : SHOWN_MAX),
                method.data ? method.data : "");
}

static int take_path(struct batch_request *r, const struct json_value *v, struct carat_error *err)
{
    struct slice url = json_string(v);
    r->path = mem_strndup(url.data ? url.data : "", url.size, err);
    if (!r->path) {
        return CARAT_E_MEMORY;
    }
    if (!local_knows(r->path)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "url: expected /v1/chat/completions, /v1/completions, /v1/embeddings or "
                    "/v1/responses, found %s%.*s",
                    json_kind(v) == JSON_STRING ? "" : json_kind_name(json_kind(v)),
                    (int)(url.size < SHOWN_MAX ? url.size : SHOWN_MAX), url.data ? url.data : "");
    }
    return 0;
}

// An answer in pieces would not fit a line: it comes whole, which is the same answer.
static int take_body(struct batch_request *r, const struct json_value *v, struct carat_error *err)
{
    if (json_kind(v) != JSON_OBJECT) {
        return fail(err, CARAT_E_ARGUMENT, "body: expected a JSON object, found %s",
                    json_kind_name(json_kind(v)));
    }
    size_t n = 0;
    buf_addc(&r->body, '{');
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        if (!slice_is(it.key, "stream") && !slice_is(it.key, "stream_options")) {
            buf_adds(&r->body, n++ > 0 ? "," : "");
            buf_add_json(&r->body, it.key.data, it.key.size);
            buf_addc(&r->body, ':');
            json_write(it.value, &r->body);
        }
    }
    buf_addc(&r->body, '}');
    return buf_status(&r->body, err);
}

int batch_request_read(struct batch_request *r, const struct batch_lines *l,
                       struct carat_error *err)
{
    struct json_doc *doc = NULL;
    *r = (struct batch_request){.line = l->number, .hash = l->hash};
    int rc = 0;
    if (l->is_long) {
        rc = fail(err, CARAT_E_FULL, "the line is longer than %zu bytes (--line-max)", l->line.max);
    } else {
        rc = json_parse(&doc, buf_text(&l->line), l->line.size, "the line", err);
    }
    const struct json_value *root = rc ? NULL : json_root(doc);
    if (rc == 0 && json_kind(root) != JSON_OBJECT) {
        rc = fail(err, CARAT_E_FORMAT, "expected a JSON object, found %s",
                  json_kind_name(json_kind(root)));
    }
    struct carat_error unused;
    int taken = take_custom_id(r, json_get(root, "custom_id"), rc ? &unused : err);
    rc = rc ? rc : taken;
    rc = rc ? rc : check_method(json_get(root, "method"), err);
    rc = rc ? rc : take_path(r, json_get(root, "url"), err);
    rc = rc ? rc : take_body(r, json_get(root, "body"), err);
    json_free(doc);
    return rc;
}

void batch_request_release(struct batch_request *r)
{
    mem_free(r->custom_id);
    mem_free(r->path);
    buf_release(&r->body);
    *r = (struct batch_request){0};
}

// ------------------------------------------------------------------------------ writing

void batch_add_id(struct buf *out, uint64_t line, uint64_t hash)
{
    buf_addf(out, BATCH_ID_PREFIX "%llu_%016llx", (unsigned long long)line,
             (unsigned long long)hash);
}

bool batch_read_id(struct slice id, uint64_t *line, uint64_t *hash)
{
    size_t at = strlen(BATCH_ID_PREFIX);
    uint64_t number = 0, bits = 0;
    if (!slice_starts(id, BATCH_ID_PREFIX)) {
        return false;
    }
    for (; at < id.size && id.data[at] >= '0' && id.data[at] <= '9'; at++) {
        number = number < UINT64_MAX / 10 - 9 ? 10 * number + (uint64_t)(id.data[at] - '0') : 0;
    }
    if (number == 0 || id.size != at + 17 || id.data[at] != '_') {
        return false;
    }
    for (at++; at < id.size; at++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = id.data[at] ? strchr(digits, id.data[at]) : NULL;
        if (!digit) {
            return false;
        }
        bits = bits << 4 | (uint64_t)(digit - digits);
    }
    *line = number;
    *hash = bits;
    return true;
}

static void begin_line(struct buf *out, const struct batch_request *r)
{
    buf_adds(out, "{\"id\":\"");
    batch_add_id(out, r->line, r->hash);
    buf_addf(out, "\",\"custom_id\":%s,\"response\":", r->custom_id);
}

void batch_add_answer(struct buf *out, const struct batch_request *r, int status,
                      const char *request_id, const struct buf *body)
{
    begin_line(out, r);
    buf_addf(out, "{\"status_code\":%d,\"request_id\":\"%s\",\"body\":", status, request_id);
    size_t begin = out->size;
    buf_add(out, buf_text(body), body->size);
    // Between values only: in strings they are escaped.
    for (size_t i = begin; i < out->size && !out->has_failed; i++) {
        out->data[i] = out->data[i] == '\n' || out->data[i] == '\r' ? ' ' : out->data[i];
    }
    buf_adds(out, "},\"error\":null}\n");
}

void batch_add_error(struct buf *out, const struct batch_request *r, const char *code,
                     const char *message)
{
    begin_line(out, r);
    buf_addf(out, "null,\"error\":{\"code\":\"%s\",\"message\":", code);
    buf_add_json(out, message, strlen(message));
    buf_adds(out, "}}\n");
}
