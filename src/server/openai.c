// SPDX-License-Identifier: Apache-2.0
// Fields and pieces of JSON that Chat Completions, Completions and Embeddings have in common.
#include "server/openai.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "server/fields.h"
#include "server/server.h"

#define PREFIX_MAX      200
#define FIELD_SHOWN_MAX 200

// ------------------------------------------------------------------------------ errors

// Bytes of the field's name that the text begins with ("messages[0].role: expected..."); 0: none.
static size_t field_size(const char *text)
{
    size_t n = 0;
    while ((text[n] >= 'a' && text[n] <= 'z') || (text[n] >= 'A' && text[n] <= 'Z') ||
           (text[n] >= '0' && text[n] <= '9') || (text[n] != '\0' && strchr("_.[]-", text[n]))) {
        n++;
    }
    return n < FIELD_SHOWN_MAX && text[n] == ':' ? n : 0;
}

int openai_in(int rc, struct carat_error *err, const char *format, ...)
{
    if (rc && err) {
        char prefix[PREFIX_MAX];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(prefix, sizeof(prefix), format, arguments);
        va_end(arguments);
        struct carat_error inner = *err;
        fail(err, inner.status, "%s%s%s", prefix, field_size(inner.text) > 0 ? "." : ": ",
             inner.text);
    }
    return rc;
}

static const char *error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

static const char *error_code(int status, const struct carat_error *error)
{
    if (error->status == CARAT_E_FULL && strstr(error->text, "context")) {
        return "context_length_exceeded";
    }
    switch (status) {
    case 401:
        return "invalid_api_key";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_exceeded";
    case 503:
        return "overloaded";
    default:
        return NULL;
    }
}

void openai_error(int status, const struct carat_error *error, bool in_stream, struct buf *out)
{
    size_t n = status < 500 ? field_size(error->text) : 0;
    const char *code = error_code(status, error);
    if (in_stream) {
        sse_begin(out, NULL);
    }
    buf_adds(out, "{\"error\":{\"message\":");
    buf_add_json(out, error->text, strlen(error->text));
    buf_addf(out, ",\"type\":\"%s\",\"param\":", error_type(status));
    if (n > 0) {
        buf_add_json(out, error->text, n);
    } else {
        buf_adds(out, "null");
    }
    buf_adds(out, ",\"code\":");
    buf_addf(out, code ? "\"%s\"}}" : "null}}", code ? code : "");
    if (in_stream) {
        sse_end(out);
    }
}

// ------------------------------------------------------------------------------ fields

int openai_read_limit(const struct json_value *root, const char *key, size_t *out,
                      struct carat_error *err)
{
    int64_t n;
    if (json_i64(json_get(root, key), &n) && n == -1) {
        return 0;
    }
    return ask_size(root, key, 1, INT32_MAX, out, err);
}

// top_k: 0 and -1 are off.
static int read_top_k(struct call *call, const struct json_value *root, struct carat_error *err)
{
    int64_t n;
    if (json_i64(json_get(root, "top_k"), &n) && n == -1) {
        call->ask.sampling.top_k = 0;
        return 0;
    }
    return ask_size(root, "top_k", 0, INT32_MAX, &call->ask.sampling.top_k, err);
}

static int read_bias(struct call *call, struct json_iter *it, struct carat_logit_bias *out,
                     struct carat_error *err)
{
    size_t n_vocab = carat_engine_info(call->server->engine)->n_vocab;
    uint64_t token = 0;
    bool is_token = it->key.size > 0 && it->key.size <= 9;
    for (size_t i = 0; is_token && i < it->key.size; i++) {
        is_token = it->key.data[i] >= '0' && it->key.data[i] <= '9';
        token = 10 * token + (uint64_t)(it->key.data[i] - '0');
    }
    if (!is_token || token >= n_vocab) {
        return fail(err, CARAT_E_ARGUMENT,
                    "logit_bias: expected token numbers below %zu as names, found '%.*s'", n_vocab,
                    (int)(it->key.size < 40 ? it->key.size : 40), it->key.data);
    }
    double bias = json_double(it->value);
    if (json_kind(it->value) != JSON_NUMBER || !(bias >= -100 && bias <= 100)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "logit_bias: of token %llu: expected a number from -100 to 100",
                    (unsigned long long)token);
    }
    // -100 and 100 forbid and force: no logit is that far from another.
    *out = (struct carat_logit_bias){.token = (carat_token)token,
                                     .bias = bias <= -100 ? -INFINITY : (float)bias};
    return 0;
}

static int read_biases(struct call *call, const struct json_value *root, struct carat_error *err)
{
    const struct json_value *v = json_get(root, "logit_bias");
    if (!field_is_given(v)) {
        return 0;
    }
    if (json_kind(v) != JSON_OBJECT || json_count(v) > OPENAI_BIASES_MAX) {
        return fail(err, CARAT_E_ARGUMENT,
                    "logit_bias: expected an object with at most %d members, found %s",
                    OPENAI_BIASES_MAX, json_kind_name(json_kind(v)));
    }
    struct carat_logit_bias *biases = call_take(call, (json_count(v) + 1) * sizeof(*biases), err);
    if (!biases) {
        return CARAT_E_MEMORY;
    }
    size_t n = 0;
    for (struct json_iter it = json_iter(v); json_next(&it); n++) {
        int rc = read_bias(call, &it, &biases[n], err);
        if (rc) {
            return rc;
        }
    }
    call->ask.sampling.biases = biases;
    call->ask.sampling.n_biases = n;
    return 0;
}

static int read_sampling(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct carat_sampling *s = &call->ask.sampling;
    const struct {
        const char *key;
        double min, max;
        float *out;
    } rows[] = {
        {"temperature", 0, 2, &s->temperature},
        {"top_p", 0, 1, &s->top_p},
        {"min_p", 0, 1, &s->min_p},
        {"repeat_penalty", 0.01, 10, &s->repetition_penalty},
        {"repetition_penalty", 0.01, 10, &s->repetition_penalty},
        {"frequency_penalty", -2, 2, &s->frequency_penalty},
        {"presence_penalty", -2, 2, &s->presence_penalty},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int rc = ask_float(root, rows[i].key, rows[i].min, rows[i].max, rows[i].out, err);
        if (rc) {
            return rc;
        }
    }
    int rc = read_top_k(call, root, err);
    rc = rc ? rc : field_seed(call, root, "seed", err);
    return rc ? rc : read_biases(call, root, err);
}

// An object's member that is an object itself; absent and null give NULL.
static int read_object(const struct json_value *object, const char *key,
                       const struct json_value **out, struct carat_error *err)
{
    const struct json_value *v = json_get(object, key);
    *out = field_is_given(v) ? v : NULL;
    return *out && json_kind(v) != JSON_OBJECT ? field_refuse(key, "an object", v, err) : 0;
}

static int read_stream(struct call *call, const struct json_value *root, struct carat_error *err)
{
    const struct json_value *options = NULL;
    int rc = ask_bool(root, "stream", &call->ask.streams, err);
    rc = rc ? rc : read_object(root, "stream_options", &options, err);
    return rc ? rc
              : openai_in(ask_bool(options, "include_usage", &call->ask.includes_usage, err), err,
                          "stream_options");
}

// ------------------------------------------------------------------------------ structured output

static int one_rule(const struct call *call, const char *key, struct carat_error *err)
{
    const struct carat_grammar_options *g = &call->ask.grammar;
    if (g->json_schema || g->regex || g->choices) {
        return fail(err, CARAT_E_ARGUMENT,
                    "%s: the answer's form is given by another field already: expected one", key);
    }
    return 0;
}

static int set_schema(struct call *call, const struct json_value *schema, const char *key,
                      struct carat_error *err)
{
    int rc = one_rule(call, key, err);
    if (rc) {
        return rc;
    }
    const char *text = NULL;
    if (json_kind(schema) == JSON_STRING) {
        text = call_text(call, json_string(schema), err); // the schema's text
    } else if (json_kind(schema) == JSON_OBJECT || json_kind(schema) == JSON_BOOL) {
        text = call_json(call, schema, err);
    } else {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected a JSON Schema object, found %s", key,
                    json_kind_name(json_kind(schema)));
    }
    size_t size_max = call->server->options->schema_size_max;
    if (text && size_max > 0 && strlen(text) > size_max) {
        return fail(err, CARAT_E_FULL, "%s: expected at most %zu bytes, found %zu", key, size_max,
                    strlen(text));
    }
    call->ask.grammar.json_schema = text;
    call->ask.has_grammar = true;
    return text ? 0 : CARAT_E_MEMORY;
}

static int set_regex(struct call *call, const struct json_value *v, const char *key,
                     struct carat_error *err)
{
    int rc = one_rule(call, key, err);
    if (rc) {
        return rc;
    }
    if (json_kind(v) != JSON_STRING) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected a regular expression, found %s", key,
                    json_kind_name(json_kind(v)));
    }
    call->ask.grammar.regex = call_text(call, json_string(v), err);
    call->ask.has_grammar = true;
    return call->ask.grammar.regex ? 0 : CARAT_E_MEMORY;
}

static int set_choices(struct call *call, const struct json_value *v, const char *key,
                       struct carat_error *err)
{
    int rc = one_rule(call, key, err);
    if (rc) {
        return rc;
    }
    const char **choices = NULL;
    size_t n = 0;
    rc = ask_strings(call, v, key, OPENAI_BIASES_MAX, &choices, &n, err);
    if (rc == 0 && n == 0) {
        rc = fail(err, CARAT_E_ARGUMENT, "%s: expected at least one string", key);
    }
    call->ask.grammar.choices = choices;
    call->ask.grammar.n_choices = n;
    call->ask.has_grammar = true;
    return rc;
}

// structured_outputs {json, regex, choice}, guided_*, json_schema: as other engines take them.
static int read_structured(struct call *call, const struct json_value *root,
                           struct carat_error *err)
{
    const struct json_value *options = NULL;
    int status = read_object(root, "structured_outputs", &options, err);
    if (status) {
        return status;
    }
    const struct {
        const struct json_value *from;
        const char *key, *name;
        int (*set)(struct call *, const struct json_value *, const char *, struct carat_error *);
    } rows[] = {
        {options, "json", "structured_outputs.json", set_schema},
        {options, "regex", "structured_outputs.regex", set_regex},
        {options, "choice", "structured_outputs.choice", set_choices},
        {root, "guided_json", "guided_json", set_schema},
        {root, "guided_regex", "guided_regex", set_regex},
        {root, "guided_choice", "guided_choice", set_choices},
        {root, "json_schema", "json_schema", set_schema},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct json_value *v = json_get(rows[i].from, rows[i].key);
        int rc = field_is_given(v) ? rows[i].set(call, v, rows[i].name, err) : 0;
        if (rc) {
            return rc;
        }
    }
    if (field_is_given(json_get(root, "grammar")) ||
        field_is_given(json_get(root, "guided_grammar")) ||
        field_is_given(json_get(options, "grammar"))) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "grammar: grammars are not read: expected response_format with a JSON Schema, "
                    "or structured_outputs with json, regex or choice");
    }
    return 0;
}

int openai_read_format(struct call *call, const struct json_value *root, struct carat_error *err)
{
    const struct json_value *format = NULL;
    struct slice type = {0};
    int rc = read_object(root, "response_format", &format, err);
    if (rc || !format) {
        return rc;
    }
    rc = openai_in(ask_string(format, "type", &type, err), err, "response_format");
    if (rc || slice_is(type, "text")) {
        return rc;
    }
    if (slice_is(type, "json_object")) {
        const struct json_value *schema = json_get(format, "schema");
        if (field_is_given(schema)) {
            return set_schema(call, schema, "response_format.schema", err);
        }
        rc = one_rule(call, "response_format", err);
        call->ask.grammar.json_schema = "{\"type\":\"object\"}";
        call->ask.has_grammar = true;
        return rc;
    }
    if (slice_is(type, "json_schema")) {
        const struct json_value *named = json_get(format, "json_schema");
        const struct json_value *schema = json_get(named, "schema");
        return set_schema(call, schema, "response_format.json_schema.schema", err);
    }
    return fail(err, CARAT_E_ARGUMENT,
                "response_format.type: expected text, json_object or json_schema, found '%.*s'",
                (int)(type.size < 40 ? type.size : 40), type.data ? type.data : "");
}

int openai_read_common(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct slice model = {0};
    struct ask *ask = &call->ask;
    ask->n_choices = 1;
    int rc = ask_string(root, "model", &model, err);
    rc = rc ? rc : field_model(call, model, err);
    rc = rc ? rc : read_stream(call, root, err);
    rc = rc ? rc : ask_size(root, "n", 1, CALL_CHOICES_MAX, &ask->n_choices, err);
    rc = rc ? rc : read_sampling(call, root, err);
    rc = rc ? rc : field_stops(call, json_get(root, "stop"), "stop", err);
    rc = rc ? rc : ask_bool(root, "loop_guard", &ask->has_loop_guard, err);
    return rc ? rc : read_structured(call, root, err);
}

// ------------------------------------------------------------------------------ thinking

static int read_effort(const struct json_value *object, const char *key, bool *thinks,
                       struct carat_error *err)
{
    static const char *const off[] = {"none", "minimal"};
    static const char *const on[] = {"low", "medium", "high", "xhigh", "max"};
    struct slice effort = {0};
    int rc = ask_string(object, key, &effort, err);
    if (rc || effort.size == 0) {
        return rc;
    }
    for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++) {
        if (slice_is(effort, on[i])) {
            *thinks = true;
            return 0;
        }
    }
    for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++) {
        if (slice_is(effort, off[i])) {
            *thinks = false;
            return 0;
        }
    }
    return fail(err, CARAT_E_ARGUMENT,
                "%s: expected none, minimal, low, medium, high, xhigh or max, found '%.*s'", key,
                (int)(effort.size < 40 ? effort.size : 40), effort.data);
}

int openai_read_reasoning(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct ask *ask = &call->ask;
    struct carat_chat *chat = &ask->chat;
    const struct json_value *reasoning = NULL;
    const struct json_value *kwargs = NULL;
    bool shows = !ask->hides_thoughts;
    bool excludes = ask->hides_thoughts;
    int rc = read_object(root, "reasoning", &reasoning, err);
    rc = rc ? rc : read_object(root, "chat_template_kwargs", &kwargs, err);
    if (rc) {
        return rc;
    }
    rc = read_effort(reasoning, "effort", &chat->thinks, err);
    rc = rc ? rc : ask_bool(reasoning, "enabled", &chat->thinks, err);
    rc = rc ? rc : ask_bool(reasoning, "exclude", &excludes, err);
    rc = rc ? rc : openai_read_limit(reasoning, "max_tokens", &ask->thought_tokens_max, err);
    rc = openai_in(rc, err, "reasoning");
    rc = rc ? rc : read_effort(root, "reasoning_effort", &chat->thinks, err);
    rc = rc ? rc : openai_read_limit(root, "thinking_token_budget", &ask->thought_tokens_max, err);
    rc = rc ? rc : ask_bool(root, "include_reasoning", &shows, err);
    if (rc) {
        return rc;
    }
    ask->hides_thoughts = excludes || !shows;
    rc = ask_bool(kwargs, "enable_thinking", &chat->thinks, err);
    rc = rc ? rc : ask_bool(kwargs, "preserve_thinking", &chat->preserves_thinking, err);
    return openai_in(rc, err, "chat_template_kwargs");
}

// ------------------------------------------------------------------------------ prompts

static int read_tokens(struct call *call, const struct json_value *v, const char *name,
                       const carat_token **out, size_t *n_out, struct carat_error *err)
{
    size_t n_vocab = carat_engine_info(call->server->engine)->n_vocab;
    size_t n = 0;
    size_t size;
    if (json_count(v) == 0) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected at least one token", name);
    }
    if (!size_mul(&size, json_count(v), sizeof(carat_token))) {
        return fail(err, CARAT_E_MEMORY, "%s: no memory for so many tokens", name);
    }
    carat_token *tokens = call_take(call, size, err);
    if (!tokens) {
        return CARAT_E_MEMORY;
    }
    for (struct json_iter it = json_iter(v); json_next(&it); n++) {
        uint64_t token;
        if (!json_u64(it.value, &token) || token >= n_vocab) {
            return fail(err, CARAT_E_ARGUMENT, "%s[%zu]: expected a token, 0 to %zu", name, n,
                        n_vocab - 1);
        }
        tokens[n] = (carat_token)token;
    }
    *out = tokens;
    *n_out = n;
    return 0;
}

// Lists of tokens: one prompt each. v itself is the only one when it holds numbers.
static int read_token_prompts(struct call *call, const struct json_value *v, const char *key,
                              bool is_one, struct carat_error *err)
{
    size_t n = is_one ? 1 : json_count(v);
    const carat_token **lists = call_take(call, n * sizeof(*lists), err);
    size_t *sizes = lists ? call_take(call, n * sizeof(*sizes), err) : NULL;
    if (!sizes) {
        return CARAT_E_MEMORY;
    }
    int rc = is_one ? read_tokens(call, v, key, &lists[0], &sizes[0], err) : 0;
    size_t i = 0;
    for (struct json_iter it = json_iter(is_one ? NULL : v); rc == 0 && json_next(&it); i++) {
        char name[64];
        snprintf(name, sizeof(name), "%s[%zu]", key, i);
        if (json_kind(it.value) != JSON_ARRAY) {
            return fail(err, CARAT_E_ARGUMENT, "%s: expected a list of tokens, found %s", name,
                        json_kind_name(json_kind(it.value)));
        }
        rc = read_tokens(call, it.value, name, &lists[i], &sizes[i], err);
    }
    call->ask.text_tokens = (const carat_token *const *)lists;
    call->ask.n_text_tokens = sizes;
    call->ask.n_texts = n;
    return rc;
}

static int read_text_prompts(struct call *call, const struct json_value *v, const char *key,
                             bool is_one, struct carat_error *err)
{
    size_t n = is_one ? 1 : json_count(v);
    struct slice *texts = call_take(call, n * sizeof(*texts), err);
    if (!texts) {
        return CARAT_E_MEMORY;
    }
    texts[0] = is_one ? json_string(v) : (struct slice){0};
    size_t i = 0;
    for (struct json_iter it = json_iter(is_one ? NULL : v); json_next(&it); i++) {
        if (json_kind(it.value) != JSON_STRING) {
            return fail(err, CARAT_E_ARGUMENT, "%s[%zu]: expected a string, found %s", key, i,
                        json_kind_name(json_kind(it.value)));
        }
        texts[i] = json_string(it.value);
    }
    call->ask.texts = texts;
    call->ask.n_texts = n;
    return 0;
}

int openai_read_prompts(struct call *call, const struct json_value *v, const char *key,
                        struct carat_error *err)
{
    if (json_kind(v) == JSON_STRING) {
        return read_text_prompts(call, v, key, true, err);
    }
    struct json_iter it = json_iter(json_kind(v) == JSON_ARRAY ? v : NULL);
    if (!json_next(&it)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "%s: expected a string, a list of strings, or tokens, found %s", key,
                    json_kind(v) == JSON_ARRAY ? "an empty list" : json_kind_name(json_kind(v)));
    }
    bool is_tokens = json_kind(it.value) == JSON_NUMBER;
    if (!is_tokens && json_count(v) > CALL_PROMPTS_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected at most %d prompts, found %zu", key,
                    CALL_PROMPTS_MAX, json_count(v));
    }
    if (is_tokens || json_kind(it.value) == JSON_ARRAY) {
        return read_token_prompts(call, v, key, is_tokens, err);
    }
    return read_text_prompts(call, v, key, false, err);
}

// ------------------------------------------------------------------------------ writing

void openai_write_head(const struct call *call, const char *id_prefix, const char *object,
                       struct buf *out)
{
    buf_addf(out, "{\"id\":\"%s%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", id_prefix,
             call->id, object, (long long)call->created);
    buf_add_json(out, call->model, strlen(call->model));
    buf_addf(out, ",\"system_fingerprint\":\"carat-%s\"", carat_version());
}

void openai_write_usage(const struct call *call, struct buf *out)
{
    const struct usage *u = &call->usage;
    buf_addf(out,
             "\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu,"
             "\"prompt_tokens_details\":{\"cached_tokens\":%zu},"
             "\"completion_tokens_details\":{\"reasoning_tokens\":%zu}}",
             u->prompt_tokens, u->answer_tokens, u->prompt_tokens + u->answer_tokens,
             u->cached_tokens, u->thought_tokens);
}

static double per_second(size_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

void openai_write_timings(const struct call *call, struct buf *out)
{
    const struct usage *u = &call->usage;
    size_t n_read = u->prompt_tokens -
                    (u->cached_tokens < u->prompt_tokens ? u->cached_tokens : u->prompt_tokens);
    // The first token comes with the end of the prompt: decoding made the others.
    size_t n_decoded = u->answer_tokens > 0 ? u->answer_tokens - 1 : 0;
    buf_addf(out,
             "\"timings\":{\"cache_n\":%zu,\"prompt_n\":%zu,\"prompt_ms\":%.3f,"
             "\"prompt_per_second\":%.3f,\"predicted_n\":%zu,\"predicted_ms\":%.3f,"
             "\"predicted_per_second\":%.3f,\"queue_ms\":%.3f}",
             u->cached_tokens, n_read, u->prefill_s * 1e3, per_second(n_read, u->prefill_s),
             u->answer_tokens, u->decode_s * 1e3, per_second(n_decoded, u->decode_s),
             u->queue_s * 1e3);
}

void openai_write_finish(const struct answer *answer, bool is_legacy, struct buf *out)
{
    const char *reason = "stop";
    const char *more = NULL;
    switch (answer->stop) {
    case CARAT_STOP_LENGTH:
    case CARAT_STOP_USER:
        reason = "length";
        break;
    case CARAT_STOP_LOOP: // cut short, which is what clients make of "length"
        reason = "length";
        more = "loop";
        break;
    default:
        if (answer->n_calls > 0) {
            reason = is_legacy ? "function_call" : "tool_calls";
        }
        break;
    }
    buf_addf(out, "\"finish_reason\":\"%s\"", reason);
    if (answer->stop == CARAT_STOP_STRING) {
        buf_adds(out, ",\"stop_reason\":");
        buf_add_json(out, answer->stop_string, strlen(answer->stop_string));
    }
    if (more) {
        buf_addf(out, ",\"carat_finish\":\"%s\"", more);
    }
}
