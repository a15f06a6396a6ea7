// SPDX-License-Identifier: Apache-2.0
// The row files of an io folder that concern the chat format: conversations to prompts, answers to
// messages.
#include "cli/verify.h"

#include "base/error.h"
#include "base/mem.h"
#include "cli/conversation.h"
#include "cli/settings.h"

#include <string.h>

static const struct json_value *member(const struct row_file *f, const char *key)
{
    return json_get(json_root(f->row), key);
}

// ------------------------------------------------------------------------------- conversations

static int template_of(struct slice name, enum carat_template *out, struct carat_error *err)
{
    for (size_t i = 1; template_names[i]; i++) {
        if (slice_is(name, template_names[i])) {
            *out = (enum carat_template)i;
            return 0;
        }
    }
    return fail(err, CARAT_E_FORMAT, "unknown template '%.*s'", (int)name.size, name.data);
}

static int read_chat(struct row_file *f, struct conversation *c, struct carat_chat *chat,
                     struct carat_error *err)
{
    const struct json_value *tools = member(f, "tools"),
                            *prompts = member(f, "add_generation_prompt");
    int rc = template_of(json_string(member(f, "template")), &chat->chat_template, err);
    bool is_canonical = chat->chat_template == CARAT_TEMPLATE_CANONICAL ||
                        chat->chat_template == CARAT_TEMPLATE_CANONICAL_EDGE;
    unsigned flags = is_canonical ? 0 : CONVERSATION_FIRST_NAMES;
    rc = rc ? rc : conversation_read(c, member(f, "messages"), flags, err);
    if (rc == 0 && json_kind(tools) == JSON_ARRAY) {
        rc = conversation_read_tools(c, tools, err);
    }
    chat->messages = c->messages;
    chat->n_messages = c->n;
    chat->tools = c->tools;
    chat->thinks = json_bool(member(f, "enable_thinking"));
    chat->preserves_thinking = json_bool(member(f, "preserve_thinking"));
    chat->continues_final = json_bool(member(f, "continue_final_message"));
    chat->is_complete = !json_bool(prompts);
    return rc;
}

static int compare_prompt(struct row_file *f, struct carat_chat *chat, struct carat_error *err)
{
    struct carat_prompt *prompt = NULL;
    size_t size = 0, n = 0;
    chat->trusts_markers = true;
    int rc = carat_prompt_from_chat(&prompt, f->engine, chat, err);
    if (rc) {
        return rc;
    }
    const char *text = carat_prompt_text(prompt, &size);
    row_compare_text(f, "text", json_string(member(f, "rendered")), slice_make(text, size));
    const carat_token *ids = carat_prompt_tokens(prompt, &n);
    row_compare_ids(f, "ids", member(f, "ids"), ids, n);
    carat_prompt_free(prompt);
    return 0;
}

// Old answers with thought markers in their text: what the reference does with such a row when
// control strings are plain text is not recorded.
static bool has_old_markers(const struct conversation *c)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct carat_message *m = &c->messages[i];
        for (size_t j = 0; strcmp(m->role, "assistant") == 0 && j < m->n_parts; j++) {
            const char *text = m->parts[j].text;
            if (text && (strstr(text, "<|channel>") || strstr(text, "<channel|>"))) {
                return true;
            }
        }
    }
    return false;
}

// The same with control strings in the messages as plain text, as a server does it.
static int compare_safe_prompt(struct row_file *f, const struct conversation *c,
                               struct carat_chat *chat, struct carat_error *err)
{
    const struct json_value *safe = member(f, "safe_ids");
    struct carat_prompt *prompt = NULL;
    size_t n = 0;
    if (!safe && has_old_markers(c)) {
        return 0;
    }
    chat->trusts_markers = false;
    int rc = carat_prompt_from_chat(&prompt, f->engine, chat, err);
    if (rc == 0) {
        const carat_token *ids = carat_prompt_tokens(prompt, &n);
        row_compare_ids(f, "safe ids", safe ? safe : member(f, "ids"), ids, n);
    }
    carat_prompt_free(prompt);
    return rc;
}

// The tool message that answers with an object, which the reference's template cannot render.
static const struct carat_message *find_object_result(const struct conversation *c)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct carat_message *m = &c->messages[i];
        if (m->n_parts == 1 && m->parts[0].type == CARAT_PART_JSON && m->parts[0].text[0] == '{') {
            return m;
        }
    }
    return NULL;
}

// Where the reference refuses, carat may refuse too, or do what the format means: a tool result
// that is an object reads as if it stood on the message that made the call.
static int check_refused(struct row_file *f, struct conversation *c, struct carat_chat *chat,
                         struct carat_error *err)
{
    struct carat_prompt *prompt = NULL, *meant = NULL;
    const struct carat_message *result = find_object_result(c);
    chat->trusts_markers = true;
    if (carat_prompt_from_chat(&prompt, f->engine, chat, err)) {
        return 0;
    }
    if (!result || result == c->messages || !result[-1].n_calls) {
        buf_adds(f->detail, "expected a refusal, found a prompt");
        carat_prompt_free(prompt);
        return 0;
    }
    struct carat_tool_response response = {.name = result[-1].calls[0].name,
                                           .response = result->parts[0].text};
    size_t at = (size_t)(result - c->messages), size = 0, meant_size = 0;
    c->messages[at - 1].responses = &response;
    c->messages[at - 1].n_responses = 1;
    memmove(c->messages + at, c->messages + at + 1, (c->n - at - 1) * sizeof(*c->messages));
    chat->n_messages = --c->n;
    int rc = carat_prompt_from_chat(&meant, f->engine, chat, err);
    if (rc == 0) {
        const char *found = carat_prompt_text(prompt, &size);
        const char *expected = carat_prompt_text(meant, &meant_size);
        row_compare_text(f, "text", slice_make(expected, meant_size), slice_make(found, size));
    }
    carat_prompt_free(prompt);
    carat_prompt_free(meant);
    return rc;
}

int check_chat_row(struct row_file *f, struct carat_error *err)
{
    struct conversation c = {.messages = NULL};
    struct carat_chat chat = {.messages = NULL};
    int rc = read_chat(f, &c, &chat, err);
    if (rc == 0 && member(f, "error")) {
        rc = check_refused(f, &c, &chat, err);
    } else if (rc == 0) {
        rc = compare_prompt(f, &chat, err);
        rc = rc ? rc : compare_safe_prompt(f, &c, &chat, err);
    }
    conversation_release(&c);
    return rc;
}

// ------------------------------------------------------------------------------------- answers

// A message put together from events.
struct message {
    struct buf text, thought;
    struct buf calls; // a JSON array, still open
    size_t n_calls;
    enum carat_stop stop;
};

static void message_release(struct message *m)
{
    buf_release(&m->text);
    buf_release(&m->thought);
    buf_release(&m->calls);
}

static void take_events(struct carat_parser *parser, struct message *m)
{
    struct carat_event e;
    while (carat_parser_next(parser, &e)) {
        switch (e.type) {
        case CARAT_EVENT_TEXT:
            buf_add(&m->text, e.text, e.size);
            break;
        case CARAT_EVENT_THOUGHT:
            buf_add(&m->thought, e.text, e.size);
            break;
        case CARAT_EVENT_CALL:
            buf_adds(&m->calls, m->n_calls++ ? "},{\"name\":" : "{\"name\":");
            buf_add_json(&m->calls, e.text, e.size);
            buf_adds(&m->calls, ",\"arguments\":");
            break;
        case CARAT_EVENT_CALL_ARGS:
            buf_add(&m->calls, e.text, e.size);
            break;
        case CARAT_EVENT_CALL_END:
            break;
        case CARAT_EVENT_STOP:
            m->stop = e.stop;
            break;
        }
    }
}

static const char *finish_reason(enum carat_stop stop)
{
    switch (stop) {
    case CARAT_STOP_TURN:
        return "stop";
    case CARAT_STOP_TOOL:
        return "tool_calls";
    case CARAT_STOP_LENGTH:
        return "length";
    case CARAT_STOP_NONE:
    case CARAT_STOP_STRING:
    case CARAT_STOP_USER:
    case CARAT_STOP_LOOP:
        break;
    }
    return "none";
}

static int compare_calls(struct row_file *f, const char *way, const struct message *m,
                         struct carat_error *err)
{
    struct json_doc *found = NULL;
    struct buf list = {.max = (size_t)1 << 28};
    buf_addf(&list, "[%s%s]", buf_text(&m->calls), m->n_calls ? "}" : "");
    int rc = buf_status(&list, err);
    rc = rc ? rc : json_parse(&found, list.data, list.size, "calls", err);
    if (rc == 0 && f->detail->size == 0 && !json_equal(json_root(found), member(f, "tool_calls"))) {
        buf_addf(f->detail, "%s: tool calls differ: found %s", way, buf_text(&list));
    }
    json_free(found);
    buf_release(&list);
    return rc;
}

static int compare_message(struct row_file *f, const char *way, const struct message *m,
                           struct carat_error *err)
{
    struct buf what = {.max = 200};
    buf_addf(&what, "%s: content", way);
    row_compare_text(f, buf_text(&what), json_string(member(f, "content")),
                     slice_make(buf_text(&m->text), m->text.size));
    buf_clear(&what);
    buf_addf(&what, "%s: reasoning", way);
    row_compare_text(f, buf_text(&what), json_string(member(f, "reasoning")),
                     slice_make(buf_text(&m->thought), m->thought.size));
    buf_clear(&what);
    buf_addf(&what, "%s: finish reason", way);
    row_compare_text(f, buf_text(&what), json_string(member(f, "finish_reason")),
                     slice_of(finish_reason(m->stop)));
    buf_release(&what);
    return compare_calls(f, way, m, err);
}

// How an answer reaches the parser; the message must not depend on it.
enum way { WAY_IDS, WAY_IDS_AT_ONCE, WAY_TEXT, WAY_BYTES };
static const char *const way_names[] = {"id by id", "all ids", "whole text", "byte by byte"};

static int feed_ids(struct row_file *f, struct carat_parser *parser, struct message *m, bool drains,
                    struct carat_error *err)
{
    for (struct json_iter it = json_iter(member(f, "ids")); json_next(&it);) {
        int64_t id = -1;
        json_i64(it.value, &id);
        int rc = carat_parser_feed(parser, (carat_token)id, err);
        if (rc) {
            return rc;
        }
        if (drains) {
            take_events(parser, m);
        }
    }
    return 0;
}

static int feed_text(struct row_file *f, struct carat_parser *parser, struct message *m,
                     size_t step, struct carat_error *err)
{
    struct slice raw = json_string(member(f, "raw"));
    for (size_t i = 0; i < raw.size; i += step) {
        size_t size = raw.size - i < step ? raw.size - i : step;
        int rc = carat_parser_feed_text(parser, raw.data + i, size, err);
        if (rc) {
            return rc;
        }
        take_events(parser, m);
    }
    return 0;
}

static int parse_by(struct row_file *f, enum way way, struct carat_error *err)
{
    struct message m = {.stop = CARAT_STOP_NONE};
    struct carat_parser *parser = NULL;
    struct carat_parser_options options = {
        .starts_in_thought = slice_is(json_string(member(f, "start")), "reasoning")};
    bool is_cut = slice_is(json_string(member(f, "end")), "length");
    int rc = carat_parser_new(&parser, f->engine, &options, err);
    if (rc == 0) {
        rc = way == WAY_IDS || way == WAY_IDS_AT_ONCE
                 ? feed_ids(f, parser, &m, way == WAY_IDS, err)
                 : feed_text(f, parser, &m, way == WAY_BYTES ? 1 : SIZE_MAX, err);
    }
    if (rc == 0) {
        take_events(parser, &m);
        if (m.stop == CARAT_STOP_NONE) {
            rc = carat_parser_finish(parser, is_cut ? CARAT_STOP_LENGTH : CARAT_STOP_TURN, err);
            take_events(parser, &m);
        }
    }
    rc = rc ? rc : compare_message(f, way_names[way], &m, err);
    carat_parser_free(parser);
    message_release(&m);
    return rc;
}

int check_parse_row(struct row_file *f, struct carat_error *err)
{
    int rc = parse_by(f, WAY_IDS, err);
    rc = rc ? rc : parse_by(f, WAY_IDS_AT_ONCE, err);
    // Markers made of ordinary tokens look like the real ones in a text.
    if (json_bool(member(f, "token_level_only"))) {
        return rc;
    }
    rc = rc ? rc : parse_by(f, WAY_TEXT, err);
    return rc ? rc : parse_by(f, WAY_BYTES, err);
}

// ---------------------------------------------------------------------------------- JSON equality

static bool numbers_equal(const struct json_value *a, const struct json_value *b)
{
    struct slice x = json_number_text(a), y = json_number_text(b);
    if (slice_equal(x, y)) {
        return true;
    }
    int64_t i = 0, j = 0;
    if (json_i64(a, &i) && json_i64(b, &j)) {
        return i == j; // beyond 2^53 a double would not tell them apart
    }
    return json_double(a) == json_double(b);
}

static bool leaves_equal(const struct json_value *a, const struct json_value *b)
{
    enum json_kind kind = json_kind(a);
    if (kind != json_kind(b)) {
        return false;
    }
    switch (kind) {
    case JSON_ABSENT:
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return json_bool(a) == json_bool(b);
    case JSON_NUMBER:
        return numbers_equal(a, b);
    case JSON_STRING:
        return slice_equal(json_string(a), json_string(b));
    case JSON_ARRAY:
    case JSON_OBJECT:
        return json_count(a) == json_count(b);
    }
    return false;
}

// Two values being walked side by side; a list of these instead of recursion.
struct pair {
    struct json_iter a;
    struct json_iter b; // of an array
    const struct json_value *object_b;
};

static void open_pair(struct pair *p, const struct json_value *a, const struct json_value *b)
{
    p->a = json_iter(a);
    p->b = json_iter(b);
    p->object_b = json_kind(b) == JSON_OBJECT ? b : NULL;
}

bool json_equal(const struct json_value *a, const struct json_value *b)
{
    struct pair *stack = mem_new_array(JSON_DEPTH_MAX + 1, sizeof(*stack), NULL);
    bool is_equal = stack != NULL && leaves_equal(a, b);
    size_t depth = 0;
    if (is_equal && json_count(a)) {
        open_pair(&stack[depth++], a, b);
    }
    while (is_equal && depth > 0) {
        struct pair *top = &stack[depth - 1];
        if (!json_next(&top->a)) {
            depth--;
            continue;
        }
        const struct json_value *x = top->a.value, *y = NULL;
        if (top->object_b) {
            y = json_getn(top->object_b, top->a.key);
        } else if (json_next(&top->b)) {
            y = top->b.value;
        }
        is_equal = y && leaves_equal(x, y);
        if (is_equal && json_count(x)) {
            is_equal = depth <= JSON_DEPTH_MAX;
            if (is_equal) {
                open_pair(&stack[depth++], x, y);
            }
        }
    }
    mem_free(stack);
    return is_equal;
}
