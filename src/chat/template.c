// SPDX-License-Identifier: Apache-2.0
// The published chat templates as one procedure (docs/chat.md). Where versions differ, a row of
// traits[] says how; each odd-looking step is one of theirs, because the model was trained on the
// exact bytes.
#include "chat/template.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"
#include "chat/expand.h"
#include "chat/tools.h"
#include "engine/internal.h"

#define CALL_OPEN  "<|tool_call>"
#define CALL_CLOSE "<tool_call|>"

enum thoughts {
    THOUGHTS_NEVER,
    THOUGHTS_WITH_CALLS_TIGHT, // only beside calls, no line break before the closing marker
    THOUGHTS_WITH_CALLS,
    THOUGHTS_ALL, // and, when asked for, beside calls of older turns
};

struct traits {
    const char *name;
    const char *think;         // what switches thinking on
    const char *around_visual; // stands before and after a picture or film
    enum thoughts thoughts;
    bool has_null;            // null is "null", not "None"
    bool drops_keyword_names; // in declarations, see tools.h
    bool has_early_nullable;
    bool reads_tool_messages; // role tool continues the model's turn; else it is a turn of its own
    bool joins_answers;       // adjacent assistant messages share a turn's beginning
    bool joins_ends;          // and the end
    bool has_tool_media;      // placeholders after a tool's result
    bool has_part_system;     // a system message may be a list of parts
    bool media_ends_results;  // a placeholder in the content makes it forget that results stood
                              // before
    bool refuses_string_arguments;
    bool prefills_thought; // thinking off: the prompt ends with an empty thought
    bool prefills_after_results;
    bool opens_thought; // thinking on: after results the prompt ends in an open thought
    bool needs_messages;
};

// clang-format off
static const struct traits versions[] = {
    [CARAT_TEMPLATE_CANONICAL] = {
        .name = "canonical", .think = "<|think|>\n", .around_visual = "",
        .thoughts = THOUGHTS_ALL, .has_null = true, .reads_tool_messages = true,
        .joins_answers = true, .joins_ends = true, .has_tool_media = true, .has_part_system = true,
        .refuses_string_arguments = true, .prefills_thought = true, .opens_thought = true,
    },
    [CARAT_TEMPLATE_CANONICAL_EDGE] = {
        .name = "canonical-edge", .think = "<|think|>\n", .around_visual = "",
        .thoughts = THOUGHTS_ALL, .has_null = true, .reads_tool_messages = true,
        .joins_answers = true, .joins_ends = true, .has_tool_media = true, .has_part_system = true,
        .refuses_string_arguments = true, .opens_thought = true,
    },
    [CARAT_TEMPLATE_REVISION_2026_04] = {
        .name = "revision-2026-04", .think = "<|think|>\n", .around_visual = "",
        .thoughts = THOUGHTS_WITH_CALLS, .drops_keyword_names = true, .reads_tool_messages = true,
        .joins_answers = true, .media_ends_results = true, .prefills_thought = true,
        .needs_messages = true,
    },
    [CARAT_TEMPLATE_INTERLEAVED] = {
        .name = "interleaved", .think = "<|think|>\n", .around_visual = "",
        .thoughts = THOUGHTS_WITH_CALLS_TIGHT, .drops_keyword_names = true, .has_early_nullable = true,
        .media_ends_results = true, .prefills_thought = true, .prefills_after_results = true,
        .needs_messages = true,
    },
    [CARAT_TEMPLATE_LAUNCH] = {
        .name = "launch", .think = "<|think|>", .around_visual = "\n\n",
        .thoughts = THOUGHTS_NEVER, .drops_keyword_names = true, .has_early_nullable = true,
        .media_ends_results = true, .prefills_thought = true, .prefills_after_results = true,
        .needs_messages = true,
    },
};
// clang-format on
#define N_VERSIONS (sizeof(versions) / sizeof(versions[0]))

// What the last message that is no tool message ended with.
enum last { LAST_TEXT, LAST_CALL, LAST_RESULT };

struct renderer {
    const struct carat_chat *chat;
    const struct traits *traits;
    struct pieces out;
    size_t first;         // first message after the system turn
    size_t end_of_user;   // index after the last user message; first when there is none
    const char *previous; // role of the previous message that is no tool message, or NULL
    enum last last;
    bool opens_thought;
    struct expansion media;
    struct carat_error *err;
};

static bool is_role(const struct carat_message *m, const char *role)
{
    return m->role && !strcmp(m->role, role);
}

static bool is_system(const struct carat_message *m)
{
    return is_role(m, "system") || is_role(m, "developer");
}

static struct slice part_text(const struct carat_part *part)
{
    return part->text_size ? slice_make(part->text, part->text_size) : slice_of(part->text);
}

static bool has_json(const struct carat_message *m)
{
    for (size_t i = 0; i < m->n_parts; i++) {
        if (m->parts[i].type == CARAT_PART_JSON) {
            return true;
        }
    }
    return false;
}

// One text may stand alone; anything more can only have been a list.
static bool is_list(const struct carat_message *m)
{
    return m->is_part_list || m->n_parts > 1 ||
           (m->n_parts == 1 && m->parts[0].type >= CARAT_PART_IMAGE);
}

// What Jinja calls a true content: not "", not [], not missing.
static bool has_content(const struct carat_message *m)
{
    return m->n_parts > 0 && (is_list(m) || part_text(&m->parts[0]).size > 0);
}

// ------------------------------------------------------------------------------ content

static void add_trimmed(struct renderer *r, struct slice text)
{
    pieces_add_user(&r->out, utf8_trim(text));
}

static const char *find(struct slice text, const char *what)
{
    size_t size = strlen(what);
    for (size_t i = 0; i + size <= text.size; i++) {
        const char *at = memchr(text.data + i, what[0], text.size - size - i + 1);
        if (!at) {
            return NULL;
        }
        if (!memcmp(at, what, size)) {
            return at;
        }
        i = (size_t)(at - text.data);
    }
    return NULL;
}

// An old answer without the thoughts that were left in it: whatever stands between an opening
// marker and the next closing one, or the end.
static int add_answer(struct renderer *r, struct slice text)
{
    static const char open[] = "<|channel>";
    static const char close[] = "<channel|>";
    struct buf kept = {0};
    for (bool is_last = !text.size; !is_last;) {
        const char *end = find(text, close);
        is_last = !end;
        struct slice part = slice_make(text.data, end ? (size_t)(end - text.data) : text.size);
        const char *thought = find(part, open);
        buf_add(&kept, part.data, thought ? (size_t)(thought - part.data) : part.size);
        size_t taken = is_last ? text.size : part.size + strlen(close);
        text = slice_make(text.data + taken, text.size - taken);
    }
    int rc = buf_status(&kept, r->err);
    add_trimmed(r, slice_make(buf_text(&kept), kept.size));
    buf_release(&kept);
    return rc;
}

static int add_part(struct renderer *r, const struct carat_part *part, bool is_model)
{
    switch (part->type) {
    case CARAT_PART_TEXT:
        if (is_model) {
            return add_answer(r, part_text(part));
        }
        add_trimmed(r, part_text(part));
        return 0;
    case CARAT_PART_IMAGE:
    case CARAT_PART_AUDIO:
    case CARAT_PART_VIDEO:
        break;
    default:
        return fail(r->err, CARAT_E_ARGUMENT, "content part of unknown type %d", (int)part->type);
    }
    if (r->traits->media_ends_results) {
        r->last = LAST_TEXT;
    }
    bool is_visual = part->type != CARAT_PART_AUDIO;
    const char *around = is_visual ? r->traits->around_visual : "";
    pieces_add(&r->out, around);
    int rc = expansion_add(&r->media, &r->out, part, r->err);
    pieces_add(&r->out, around);
    return rc;
}

// In two rounds where the sounds of a user come first.
static int add_content(struct renderer *r, const struct carat_message *m, bool is_model)
{
    bool moves_sound = r->chat->sound_first && is_role(m, "user");
    for (int round = moves_sound ? 0 : 1; round < 2; round++) {
        for (size_t i = 0; i < m->n_parts; i++) {
            bool is_early = moves_sound && m->parts[i].type == CARAT_PART_AUDIO;
            int rc = is_early == (round == 0) ? add_part(r, &m->parts[i], is_model) : 0;
            if (rc) {
                return rc;
            }
        }
    }
    return 0;
}

static void add_thought(struct renderer *r, const struct carat_message *m, size_t index)
{
    bool is_current = index >= r->end_of_user;
    bool has_calls = m->n_calls > 0;
    bool is_shown = false;
    switch (r->traits->thoughts) {
    case THOUGHTS_NEVER:
        break;
    case THOUGHTS_WITH_CALLS_TIGHT:
    case THOUGHTS_WITH_CALLS:
        is_shown = is_current && has_calls;
        break;
    case THOUGHTS_ALL:
        is_shown = is_current || (r->chat->preserves_thinking && has_calls);
        break;
    }
    if (is_shown && m->reasoning && *m->reasoning) {
        bool is_tight = r->traits->thoughts == THOUGHTS_WITH_CALLS_TIGHT;
        pieces_add(&r->out, "<|channel>thought\n");
        pieces_add_user(&r->out, slice_of(m->reasoning));
        pieces_add(&r->out, is_tight ? "<channel|>" : "\n<channel|>");
    }
}

// The older templates leave some placeholders out; a medium would be lost without a word.
static int refuse_medium(const struct renderer *r, const struct carat_part *part, const char *where)
{
    if (!part->media) {
        return 0;
    }
    return fail(r->err, CARAT_E_UNSUPPORTED,
                "template version '%s' has no place for pictures and sound in %s: put them into a "
                "user message",
                r->traits->name, where);
}

// ------------------------------------------------------------------------------ calls and results

// Keys are bare at every level.
static int add_value(struct renderer *r, const struct json_value *v)
{
    struct notation n = {.out = &r->out, .has_null = r->traits->has_null};
    return notation_write(&n, v, r->err);
}

static int add_arguments(struct renderer *r, const struct carat_tool_call *call)
{
    struct json_doc *doc = NULL;
    const struct json_value *v = NULL;
    int rc = 0;
    if (call->arguments) {
        rc = json_parse(&doc, call->arguments, strlen(call->arguments), "tool call arguments",
                        r->err);
        if (rc) {
            return rc;
        }
        v = json_root(doc);
    }
    enum json_kind kind = json_kind(v);
    bool is_known = kind == JSON_OBJECT || kind == JSON_NULL || kind == JSON_ABSENT;
    if (!is_known && r->traits->refuses_string_arguments) {
        rc = fail(r->err, CARAT_E_FORMAT,
                  "arguments of the call to '%s': expected a JSON object, found %s: decode "
                  "arguments that come as a string first",
                  call->name, json_kind_name(kind));
        goto out;
    }
    if (kind == JSON_OBJECT) {
        rc = add_value(r, v);
        goto out;
    }
    pieces_add(&r->out, "{");
    pieces_add_user(&r->out, json_string(v)); // older versions paste a string as it is
    pieces_add(&r->out, "}");
out:
    json_free(doc);
    return rc;
}

static bool takes_marker(struct slice *text, const char *marker)
{
    bool is_there = slice_starts(*text, marker);
    size_t size = is_there ? strlen(marker) : 0;
    *text = slice_make(text->data + size, text->size - size);
    return is_there;
}

// A call as the model wrote it. The markers that make a call are the model's own; any other control
// string in it is an argument's text, which nobody can tell from a typed one.
static void add_sampled_call(struct renderer *r, struct slice text)
{
    if (takes_marker(&text, CALL_OPEN)) {
        pieces_add(&r->out, CALL_OPEN);
    }
    bool is_closed = slice_ends(text, CALL_CLOSE);
    text.size -= is_closed ? strlen(CALL_CLOSE) : 0;
    while (text.size) {
        const char *quote = find(text, QUOTE_MARKER);
        size_t size = quote ? (size_t)(quote - text.data) : text.size;
        pieces_add_user(&r->out, slice_make(text.data, size));
        text = slice_make(text.data + size, text.size - size);
        if (takes_marker(&text, QUOTE_MARKER)) {
            pieces_add(&r->out, QUOTE_MARKER);
        }
    }
    pieces_add(&r->out, is_closed ? CALL_CLOSE : "");
}

static int add_calls(struct renderer *r, const struct carat_message *m)
{
    for (size_t i = 0; i < m->n_calls; i++) {
        if (!m->calls[i].name) {
            return fail(r->err, CARAT_E_ARGUMENT, "tool call %zu has no name", i);
        }
        if (m->calls[i].sampled) {
            add_sampled_call(r, slice_of(m->calls[i].sampled));
            continue;
        }
        pieces_add(&r->out, CALL_OPEN "call:");
        pieces_add_user(&r->out, slice_of(m->calls[i].name));
        int rc = add_arguments(r, &m->calls[i]);
        if (rc) {
            return rc;
        }
        pieces_add(&r->out, CALL_CLOSE);
    }
    if (m->n_calls) {
        r->last = LAST_CALL;
    }
    return 0;
}

static void open_result(struct renderer *r, const char *name)
{
    pieces_add(&r->out, "<|tool_response>response:");
    pieces_add_user(&r->out, slice_of(name && *name ? name : "unknown"));
}

static int add_json_result(struct renderer *r, const char *name, struct slice json)
{
    struct json_doc *doc = NULL;
    int rc = 0;
    if (json.size) {
        rc = json_parse(&doc, json.data, json.size, "tool result", r->err);
        if (rc) {
            return rc;
        }
    }
    const struct json_value *v = doc ? json_root(doc) : NULL;
    bool is_object = json_kind(v) == JSON_OBJECT;
    open_result(r, name);
    pieces_add(&r->out, is_object ? "" : "{value:");
    rc = add_value(r, v);
    pieces_add(&r->out, is_object ? "<tool_response|>" : "}<tool_response|>");
    json_free(doc);
    return rc;
}

static int add_responses(struct renderer *r, const struct carat_message *m)
{
    for (size_t i = 0; i < m->n_responses; i++) {
        int rc = add_json_result(r, m->responses[i].name, slice_of(m->responses[i].response));
        if (rc) {
            return rc;
        }
        r->last = LAST_RESULT;
    }
    return 0;
}

// A tool message: a JSON value, or texts joined into one string and then the placeholders.
static int add_tool_message(struct renderer *r, const struct carat_message *m, const char *name)
{
    if (!m->n_parts && !is_list(m)) {
        return add_json_result(r, name, slice_of("null"));
    }
    if (has_json(m)) {
        if (m->n_parts > 1) {
            return fail(r->err, CARAT_E_ARGUMENT,
                        "tool message: a JSON part must be its only part, found %zu parts",
                        m->n_parts);
        }
        return add_json_result(r, name, part_text(&m->parts[0]));
    }
    open_result(r, name);
    pieces_add(&r->out, "{value:" QUOTE_MARKER);
    for (size_t i = 0; i < m->n_parts; i++) {
        if (m->parts[i].type == CARAT_PART_TEXT) {
            pieces_add_user(&r->out, part_text(&m->parts[i]));
        }
    }
    pieces_add(&r->out, QUOTE_MARKER "}<tool_response|>");
    for (size_t i = 0; i < m->n_parts; i++) {
        if (m->parts[i].type == CARAT_PART_TEXT) {
            continue;
        }
        int rc = r->traits->has_tool_media ? add_part(r, &m->parts[i], false)
                                           : refuse_medium(r, &m->parts[i], "a tool's result");
        if (rc) {
            return rc;
        }
    }
    return 0;
}

// Names by call id. The last call of an id counts, so they are entered from the end; calls
// without an id answer to messages without one.
static int index_calls(struct map *ids, uint32_t *without_id, const struct carat_message *m,
                       struct carat_error *err)
{
    *without_id = MAP_NONE;
    if (m->n_calls >= MAP_NONE) {
        return fail(err, CARAT_E_FULL, "too many tool calls: %zu", m->n_calls);
    }
    for (size_t i = m->n_calls; i > 0; i--) {
        uint32_t call = (uint32_t)(i - 1);
        if (m->calls[call].id) {
            int rc = map_put(ids, slice_of(m->calls[call].id), call, NULL, err);
            if (rc) {
                return rc;
            }
        } else if (*without_id == MAP_NONE) {
            *without_id = call;
        }
    }
    return 0;
}

static int add_tool_messages(struct renderer *r, const struct carat_message *m, size_t index)
{
    struct map ids = {0};
    uint32_t without_id = MAP_NONE;
    int rc = index_calls(&ids, &without_id, m, r->err);
    for (size_t i = index + 1; !rc && i < r->chat->n_messages; i++) {
        const struct carat_message *tool = &r->chat->messages[i];
        if (!is_role(tool, "tool")) {
            break;
        }
        uint32_t call =
            tool->tool_call_id ? map_get(&ids, slice_of(tool->tool_call_id)) : without_id;
        rc = add_tool_message(r, tool, call == MAP_NONE ? tool->name : m->calls[call].name);
        r->last = LAST_RESULT;
    }
    map_release(&ids);
    return rc;
}

static int add_results(struct renderer *r, const struct carat_message *m, size_t index)
{
    if (m->n_responses) {
        return add_responses(r, m);
    }
    return m->n_calls && r->traits->reads_tool_messages ? add_tool_messages(r, m, index) : 0;
}

// ------------------------------------------------------------------------------ turns

static int check_message(struct renderer *r, const struct carat_message *m, size_t index)
{
    bool takes_json = is_role(m, "tool") && r->traits->reads_tool_messages;
    if (!m->role) {
        return fail(r->err, CARAT_E_ARGUMENT, "message %zu has no role", index);
    }
    if (has_json(m) && !takes_json) {
        return fail(r->err, CARAT_E_ARGUMENT,
                    "message %zu (role '%.40s'): template version '%s' takes a JSON value as "
                    "content %s",
                    index, m->role, r->traits->name,
                    r->traits->reads_tool_messages ? "only in a tool message" : "nowhere");
    }
    return 0;
}

static const struct carat_message *next_non_tool(const struct renderer *r, size_t index)
{
    for (size_t i = index + 1; i < r->chat->n_messages; i++) {
        if (!is_role(&r->chat->messages[i], "tool")) {
            return &r->chat->messages[i];
        }
    }
    return NULL;
}

static void open_turn(struct renderer *r, const struct carat_message *m, const char *role)
{
    bool is_joined = r->traits->joins_answers && !strcmp(role, "model") && r->previous &&
                     !strcmp(r->previous, "assistant");
    if (r->traits->thoughts == THOUGHTS_WITH_CALLS_TIGHT) {
        is_joined = r->last == LAST_RESULT && m->n_calls > 0;
    }
    if (!is_joined) {
        pieces_add(&r->out, "<|turn>");
        pieces_add_user(&r->out, slice_of(role));
        pieces_add(&r->out, "\n");
    }
}

// has_written: the content gave any text.
static void close_turn(struct renderer *r, const struct carat_message *m, size_t index,
                       bool has_results, bool has_written)
{
    if (!r->traits->reads_tool_messages) {
        bool is_open = m->n_responses && !has_content(m);
        pieces_add(&r->out, is_open ? "" : "<turn|>\n");
        return;
    }
    if (r->last == LAST_CALL && !has_results) { // the model stopped here, to wait
        pieces_add(&r->out, "<|tool_response>");
        return;
    }
    bool is_open = has_results && !has_content(m);
    if (r->traits->joins_ends) {
        const struct carat_message *next = next_non_tool(r, index);
        bool is_model = is_role(m, "assistant") || is_role(m, "model");
        bool is_continued =
            is_model && next && is_role(next, "assistant") && (!m->n_calls || has_results);
        is_open = is_continued || (has_results && !has_written && !next);
    }
    pieces_add(&r->out, is_open ? "" : "<turn|>\n");
}

static int render_message(struct renderer *r, size_t index)
{
    const struct carat_message *m = &r->chat->messages[index];
    const char *role = is_role(m, "assistant") ? "model" : m->role;
    open_turn(r, m, role);
    r->last = LAST_TEXT;
    add_thought(r, m, index);
    int rc = add_calls(r, m);
    if (rc) {
        return rc;
    }
    rc = add_results(r, m, index);
    if (rc) {
        return rc;
    }
    bool has_results = r->last == LAST_RESULT;
    size_t before = r->out.text.size;
    rc = add_content(r, m, !strcmp(role, "model"));
    if (rc) {
        return rc;
    }
    bool is_left_open = r->chat->continues_final && index + 1 == r->chat->n_messages;
    if (!is_left_open) {
        close_turn(r, m, index, has_results, r->out.text.size > before);
    }
    r->previous = m->role;
    return 0;
}

static int add_system_text(struct renderer *r, const struct carat_message *m)
{
    if (is_list(m) && !r->traits->has_part_system) {
        return fail(r->err, CARAT_E_UNSUPPORTED,
                    "template version '%s' takes a system message as one text, not as a list of "
                    "parts: join the parts",
                    r->traits->name);
    }
    for (size_t i = 0; i < m->n_parts; i++) {
        bool is_text = m->parts[i].type == CARAT_PART_TEXT;
        int rc = is_text ? 0 : refuse_medium(r, &m->parts[i], "a system message");
        if (rc) {
            return rc;
        }
        add_trimmed(r, is_text ? part_text(&m->parts[i]) : slice_of(""));
        pieces_add(&r->out, is_list(m) ? " " : "");
    }
    return 0;
}

static int render_system(struct renderer *r)
{
    const struct carat_chat *chat = r->chat;
    struct json_doc *tools = NULL;
    bool has_system = chat->n_messages && is_system(&chat->messages[0]);
    int rc = 0;
    if (chat->tools) {
        rc = json_parse(&tools, chat->tools, strlen(chat->tools), "tools", r->err);
        if (rc) {
            return rc;
        }
    }
    const struct json_value *list = tools ? json_root(tools) : NULL;
    r->first = has_system;
    if (chat->thinks || has_system || value_is_true(list)) {
        pieces_add(&r->out, "<|turn>system\n");
        pieces_add(&r->out, chat->thinks ? r->traits->think : "");
        rc = has_system ? add_system_text(r, &chat->messages[0]) : 0;
        if (!rc) {
            struct tools_style style = {.has_null = r->traits->has_null,
                                        .drops_keyword_names = r->traits->drops_keyword_names,
                                        .has_early_nullable = r->traits->has_early_nullable};
            rc = tools_write(&r->out, list, style, r->err);
        }
        pieces_add(&r->out, "<turn|>\n");
    }
    json_free(tools);
    return rc;
}

static void add_generation_prompt(struct renderer *r)
{
    const struct traits *t = r->traits;
    bool waits = r->last == LAST_RESULT || (r->last == LAST_CALL && t->reads_tool_messages);
    pieces_add(&r->out, waits ? "" : "<|turn>model\n");
    if (!r->chat->thinks && t->prefills_thought && (!waits || t->prefills_after_results)) {
        pieces_add(&r->out, "<|channel>thought\n<channel|>");
    }
    if (r->chat->thinks && t->opens_thought && r->last == LAST_RESULT) {
        pieces_add(&r->out, "<|channel>thought\n");
        r->opens_thought = true;
    }
}

static int render(struct renderer *r)
{
    const struct carat_chat *chat = r->chat;
    pieces_add(&r->out, "<bos>");
    int rc = render_system(r);
    r->end_of_user = r->first;
    for (size_t i = r->first; !rc && i < chat->n_messages; i++) {
        if (is_role(&chat->messages[i], "user")) {
            r->end_of_user = i + 1;
        }
    }
    for (size_t i = r->first; !rc && i < chat->n_messages; i++) {
        if (!is_role(&chat->messages[i], "tool") || !r->traits->reads_tool_messages) {
            rc = render_message(r, i);
        }
    }
    if (!rc && !chat->is_complete && !chat->continues_final) {
        add_generation_prompt(r);
    }
    if (!rc && expansion_cut(&r->media, &r->out)) {
        r->opens_thought = false;
    }
    return rc ? rc : pieces_status(&r->out, r->err);
}

static int check_chat(struct renderer *r)
{
    const struct carat_chat *chat = r->chat;
    if (!chat->n_messages && (r->traits->needs_messages || chat->continues_final)) {
        return fail(r->err, CARAT_E_ARGUMENT, "a chat needs at least one message");
    }
    for (size_t i = 0; i < chat->n_messages; i++) {
        int rc = check_message(r, &chat->messages[i], i);
        if (rc) {
            return rc;
        }
    }
    const struct carat_message *last =
        chat->n_messages ? &chat->messages[chat->n_messages - 1] : NULL;
    if (chat->continues_final && !is_role(last, "assistant")) {
        return fail(
            r->err, CARAT_E_ARGUMENT,
            "only an assistant message can be continued, and the last one's role is '%.40s'",
            last->role);
    }
    return 0;
}

int chat_render(struct chat_result *out, const struct carat_chat *chat, enum carat_template which,
                const struct tokenizer *tokenizer, struct carat_error *err)
{
    struct renderer r = {.chat = chat, .err = err};
    struct token_list tokens = {0};
    int rc = 0;
    if ((size_t)which >= N_VERSIONS || !versions[which].name) {
        return fail(err, CARAT_E_ARGUMENT, "no chat template version has the number %d",
                    (int)which);
    }
    r.traits = &versions[which];
    rc = check_chat(&r);
    if (rc) {
        goto out;
    }
    rc = render(&r);
    if (rc) {
        goto out;
    }
    if (tokenizer) {
        rc = pieces_encode(&r.out, tokenizer, chat->trusts_markers, &tokens, err);
        rc = rc ? rc : expansion_place(&r.media, &r.out, err);
        if (rc) {
            goto out;
        }
    }
    *out = (struct chat_result){.text = r.out.text,
                                .tokens = tokens,
                                .runs = r.media.runs,
                                .n_runs = r.media.n_runs,
                                .opens_thought = r.opens_thought};
    r.out.text = (struct buf){0};
    r.media = (struct expansion){0};
    tokens = (struct token_list){0};
out:
    pieces_release(&r.out);
    expansion_release(&r.media);
    token_list_release(&tokens);
    return rc;
}

void chat_result_release(struct chat_result *r)
{
    buf_release(&r->text);
    token_list_release(&r->tokens);
    mem_free(r->runs);
    *r = (struct chat_result){0};
}

// ------------------------------------------------------------------------------ which version

// FNV-1a, 64 bits.
static uint64_t hash(struct slice text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < text.size; i++) {
        h = (h ^ (unsigned char)text.data[i]) * 0x100000001b3u;
    }
    return h;
}

// Of the published files without the line break at their end, which some converters drop.
static const struct {
    size_t size;
    uint64_t hash;
    enum carat_template version;
} known[] = {
    {18682, 0x6cc370a9399441fa, CARAT_TEMPLATE_CANONICAL},
    {18567, 0xb5a7c4713578081c, CARAT_TEMPLATE_CANONICAL_EDGE},
    {16447, 0xecf8ed96903a3852, CARAT_TEMPLATE_REVISION_2026_04},
    {12751, 0x1e244f9a64c9873f, CARAT_TEMPLATE_INTERLEAVED},
    {12044, 0x8db03aa6cb1ffc2f, CARAT_TEMPLATE_LAUNCH},
};

static struct slice without_line_break(struct slice text)
{
    return slice_ends(text, "\n") ? slice_make(text.data, text.size - 1) : text;
}

enum carat_template chat_template_identify(struct slice template_text)
{
    struct slice text = without_line_break(template_text);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (text.size == known[i].size && hash(text) == known[i].hash) {
            return known[i].version;
        }
    }
    return CARAT_TEMPLATE_AUTO;
}

const char *chat_template_name(enum carat_template which)
{
    bool is_known = (size_t)which < N_VERSIONS && versions[which].name;
    return is_known ? versions[which].name : "unknown";
}

static int pick_version(enum carat_template *out, const struct carat_engine *engine,
                        enum carat_template asked, struct carat_error *err)
{
    struct slice text = engine_chat_template(engine);
    *out = asked;
    if (asked == CARAT_TEMPLATE_AUTO) {
        *out = text.size ? chat_template_identify(text) : CARAT_TEMPLATE_CANONICAL;
    }
    if (*out == CARAT_TEMPLATE_AUTO) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "the model's chat template (%zu bytes, FNV-1a %016" PRIx64
                    ") is none of the published versions; name the one to use: canonical, "
                    "canonical-edge, revision-2026-04, interleaved or launch",
                    text.size, hash(text));
    }
    return 0;
}

int carat_prompt_from_chat(struct carat_prompt **out, const struct carat_engine *engine,
                           const struct carat_chat *chat, struct carat_error *err)
{
    struct chat_result result = {0};
    struct carat_prompt *prompt = NULL;
    enum carat_template which = CARAT_TEMPLATE_AUTO;
    int rc = pick_version(&which, engine, chat->chat_template, err);
    if (!rc) {
        rc = chat_render(&result, chat, which, engine_tokenizer(engine), err);
    }
    if (!rc) {
        rc = prompt_new(&prompt, &result.tokens, &result.text, result.opens_thought, err);
    }
    for (size_t i = 0; !rc && i < result.n_runs; i++) {
        const struct chat_run *run = &result.runs[i];
        rc = prompt_add_run(prompt, engine, run->first, run->n, run->media, run->i_run, err);
    }
    if (!rc) {
        *out = prompt;
        prompt = NULL;
    }
    carat_prompt_free(prompt);
    chat_result_release(&result);
    return rc;
}

const char *carat_chat_template_name(const struct carat_engine *engine)
{
    struct slice text = engine_chat_template(engine);
    return text.size ? chat_template_name(chat_template_identify(text)) : "none";
}
