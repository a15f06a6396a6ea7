// SPDX-License-Identifier: Apache-2.0
// A line of JSON to a question.
#include <string.h>

#include "base/error.h"
#include "cli/eval_task.h"

#define SHOWN_MAX  60                  // bytes of a value in a message
#define TOKENS_MAX ((uint64_t)1 << 24) // of an answer

const char *const eval_score_names[] = {"exact", "choice", "regex", "wer", NULL};
static const char *const ignore_names[] = {"nothing", "case", "punctuation", NULL};

// ------------------------------------------------------------------------------ fields

static bool is_given(const struct json_value *v)
{
    return json_kind(v) != JSON_ABSENT && json_kind(v) != JSON_NULL;
}

static int fail_kind(const char *field, const char *expected, const struct json_value *found,
                     struct carat_error *err)
{
    return fail(err, CARAT_E_FORMAT, "%s: expected %s, found %s", field, expected,
                json_kind_name(json_kind(found)));
}

static int copy_slice(struct eval_task *t, struct slice *out, struct slice text,
                      struct carat_error *err)
{
    char *copy = arena_strndup(&t->talk.arena, text.size ? text.data : "", text.size, err);
    if (!copy) {
        return CARAT_E_MEMORY;
    }
    *out = slice_make(copy, text.size);
    return 0;
}

// A string that is not there stays empty.
static int read_text(struct eval_task *t, struct slice *out, const struct json_value *v,
                     const char *field, size_t size_max, struct carat_error *err)
{
    struct slice text = json_string(v);
    if (!is_given(v)) {
        return 0;
    }
    if (json_kind(v) != JSON_STRING) {
        return fail_kind(field, "a string", v, err);
    }
    if (text.size > size_max) {
        return fail(err, CARAT_E_FULL, "%s: expected at most %zu bytes, found %zu", field, size_max,
                    text.size);
    }
    return copy_slice(t, out, text, err);
}

static int read_name(size_t *out, const struct json_value *v, const char *field,
                     const char *const *names, struct carat_error *err)
{
    struct slice text = json_string(v);
    struct buf list = {.max = 200};
    for (size_t i = 0; names[i]; i++) {
        if (json_kind(v) == JSON_STRING && slice_is(text, names[i])) {
            *out = i;
            buf_release(&list);
            return 0;
        }
        buf_addf(&list, "%s%s", i == 0 ? "" : names[i + 1] ? ", " : " or ", names[i]);
    }
    int rc =
        json_kind(v) != JSON_STRING
            ? fail_kind(field, buf_text(&list), v, err)
            : fail(err, CARAT_E_FORMAT, "%s: expected %s, found '%.*s'", field, buf_text(&list),
                   (int)(text.size < SHOWN_MAX ? text.size : SHOWN_MAX), text.data);
    buf_release(&list);
    return rc;
}

static int read_flag(bool *out, const struct json_value *root, const char *field,
                     struct carat_error *err)
{
    const struct json_value *v = json_get(root, field);
    if (is_given(v) && json_kind(v) != JSON_BOOL) {
        return fail_kind(field, "true or false", v, err);
    }
    *out = json_bool(v);
    return 0;
}

// ------------------------------------------------------------------------------ the prompt

// Pictures, sounds and films that stand beside a prompt: a path, or several.
static int add_media(struct buf *out, const struct json_value *root, const char *field,
                     struct carat_error *err)
{
    const struct json_value *v = json_get(root, field);
    bool is_list = json_kind(v) == JSON_ARRAY;
    struct json_iter it = json_iter(v);
    if (is_given(v) && !is_list && json_kind(v) != JSON_STRING) {
        return fail_kind(field, "a path or a list of paths", v, err);
    }
    for (const struct json_value *one = v; is_list ? json_next(&it) : one != NULL; one = NULL) {
        const struct json_value *path = is_list ? it.value : one;
        if (!is_given(path) && !is_list) {
            break;
        }
        if (json_kind(path) != JSON_STRING) {
            return fail_kind(field, "a path or a list of paths", path, err);
        }
        buf_addf(out, "{\"type\":\"%s\",\"path\":", field);
        json_write(path, out);
        buf_adds(out, "},");
    }
    return 0;
}

// The message that a prompt and its media stand for.
static int read_prompt(struct eval_task *t, const struct json_value *root,
                       const struct json_value *prompt, struct carat_error *err)
{
    static const char *const fields[] = {"image", "audio", "video"};
    struct buf text = {.max = 2 * EVAL_LINE_MAX};
    struct json_doc *doc = NULL;
    int rc = 0;
    buf_adds(&text, "[{\"role\":\"user\",\"content\":[");
    for (size_t i = 0; rc == 0 && i < 3; i++) {
        rc = add_media(&text, root, fields[i], err);
    }
    buf_adds(&text, "{\"type\":\"text\",\"text\":");
    json_write(prompt, &text);
    buf_adds(&text, "}]}]");
    rc = rc ? rc : buf_status(&text, err);
    rc = rc ? rc : json_parse(&doc, buf_text(&text), text.size, "prompt", err);
    rc = rc ? rc : conversation_read(&t->talk, json_root(doc), 0, err);
    json_free(doc);
    buf_release(&text);
    return rc;
}

static int read_raw(struct eval_task *t, const struct json_value *root, struct carat_error *err)
{
    static const char *const fields[] = {"messages", "system", "tools", "image", "audio", "video"};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const struct json_value *v = json_get(root, fields[i]);
        if (is_given(v) && (json_kind(v) != JSON_ARRAY || json_count(v) > 0)) {
            return fail(err, CARAT_E_FORMAT, "raw: the prompt is a plain text then, without %s",
                        fields[i]);
        }
    }
    if (t->thinks) {
        return fail(err, CARAT_E_FORMAT, "raw: there are no thoughts without a chat");
    }
    return read_text(t, &t->raw, json_get(root, "prompt"), "prompt", EVAL_LINE_MAX, err);
}

static int read_talk(struct eval_task *t, const struct json_value *root, struct carat_error *err)
{
    const struct json_value *prompt = json_get(root, "prompt"),
                            *messages = json_get(root, "messages"),
                            *tools = json_get(root, "tools");
    struct slice system = {0};
    bool is_raw = false;
    int rc = read_flag(&is_raw, root, "raw", err);
    if (rc) {
        return rc;
    }
    if (is_given(prompt) == is_given(messages)) {
        return fail(err, CARAT_E_FORMAT, "expected either \"prompt\" or \"messages\", found %s",
                    is_given(prompt) ? "both" : "neither");
    }
    if (is_given(prompt) && json_kind(prompt) != JSON_STRING) {
        return fail_kind("prompt", "a string", prompt, err);
    }
    if (is_given(messages) && json_kind(messages) == JSON_ARRAY && json_count(messages) == 0) {
        return fail(err, CARAT_E_FORMAT, "messages: expected some, found an empty list");
    }
    if (is_raw) {
        return read_raw(t, root, err);
    }
    rc = read_text(t, &system, json_get(root, "system"), "system", EVAL_LINE_MAX, err);
    if (rc == 0 && system.data) {
        rc = conversation_add_text(&t->talk, "system", system.data, system.size, err);
    }
    if (rc == 0) {
        rc = is_given(prompt)
                 ? read_prompt(t, root, prompt, err)
                 : conversation_read(&t->talk, messages, CONVERSATION_DECODES_ARGUMENTS, err);
    }
    // An empty list is no tools.
    bool has_tools = is_given(tools) && (json_kind(tools) != JSON_ARRAY || json_count(tools) > 0);
    return rc || !has_tools ? rc : conversation_read_tools(&t->talk, tools, err);
}

// ------------------------------------------------------------------------------ what is right

static int read_calls(struct eval_task *t, struct eval_expected *e, const struct json_value *v,
                      struct carat_error *err)
{
    struct buf text = {.max = EVAL_REFERENCE_MAX};
    bool is_list = json_kind(v) == JSON_ARRAY;
    struct json_iter it = json_iter(v);
    size_t n = 0;
    for (const struct json_value *one = v; is_list ? json_next(&it) : one != NULL; one = NULL) {
        const struct json_value *call = is_list ? it.value : one,
                                *arguments = json_get(call, "arguments");
        if (json_kind(json_get(call, "name")) != JSON_STRING ||
            (is_given(arguments) && json_kind(arguments) != JSON_OBJECT)) {
            buf_release(&text);
            return fail(err, CARAT_E_FORMAT,
                        "expected: a call is {\"name\": \"...\", \"arguments\": {...}}");
        }
        buf_adds(&text, n++ == 0 ? "[{\"name\":" : ",{\"name\":");
        json_write(json_get(call, "name"), &text);
        buf_adds(&text, ",\"arguments\":");
        if (is_given(arguments)) {
            json_write(arguments, &text);
        } else {
            buf_adds(&text, "{}");
        }
        buf_addc(&text, '}');
    }
    buf_adds(&text, n == 0 ? "[]" : "]");
    struct slice copy = {0};
    int rc = buf_status(&text, err);
    rc = rc ? rc : copy_slice(t, &copy, slice_make(buf_text(&text), text.size), err);
    buf_release(&text);
    e->calls = copy.data;
    return rc;
}

static int check_reference(struct slice text, struct carat_error *err)
{
    struct buf words = {0};
    words_add(&words, text);
    int rc = buf_status(&words, err);
    if (rc == 0 && words.size == 0) {
        rc = fail(err, CARAT_E_FORMAT, "expected: there is no word in '%.*s'",
                  (int)(text.size < SHOWN_MAX ? text.size : SHOWN_MAX), text.data);
    }
    buf_release(&words);
    return rc;
}

static int read_expression(struct eval_expected *e, struct carat_error *err)
{
    // A zero byte would end it unseen.
    if (memchr(e->text.data, '\0', e->text.size)) {
        return fail(err, CARAT_E_FORMAT, "expected: a zero byte in a regular expression");
    }
    int rc = carat_regex_new(&e->regex, e->text.data, err);
    if (rc) {
        fail_prefix(err, "expected");
    }
    return rc;
}

static int read_expected(struct eval_task *t, const struct json_value *v, struct carat_error *err)
{
    struct eval_expected *e = &t->expected[t->n_expected++];
    bool is_call = json_kind(v) == JSON_OBJECT || json_kind(v) == JSON_ARRAY;
    if (is_call && t->score == EVAL_EXACT) {
        return read_calls(t, e, v, err);
    }
    if (json_kind(v) != JSON_STRING) {
        return fail_kind("expected", "a string", v, err);
    }
    int rc = read_text(t, &e->text, v, "expected", EVAL_REFERENCE_MAX, err);
    if (rc == 0 && t->score == EVAL_WER) {
        rc = check_reference(e->text, err);
    }
    return rc || t->score != EVAL_REGEX ? rc : read_expression(e, err);
}

// By its text or its number, from 0.
static int mark_choice(struct eval_task *t, const struct json_value *v, struct carat_error *err)
{
    struct slice text = json_string(v);
    uint64_t number = 0;
    bool is_found = false;
    if (json_u64(v, &number) && number < t->n_choices) {
        t->choices[number].is_right = is_found = true;
    }
    for (size_t i = 0; json_kind(v) == JSON_STRING && i < t->n_choices; i++) {
        if (slice_equal(t->choices[i].text, text)) {
            t->choices[i].is_right = is_found = true;
        }
    }
    if (is_found) {
        return 0;
    }
    return json_kind(v) == JSON_STRING
               ? fail(err, CARAT_E_FORMAT, "expected: '%.*s' is not among the choices",
                      (int)(text.size < SHOWN_MAX ? text.size : SHOWN_MAX),
                      text.size ? text.data : "")
               : fail(err, CARAT_E_FORMAT,
                      "expected: expected one of the choices, or its number from 0 to %zu, found "
                      "%s",
                      t->n_choices - 1,
                      json_kind(v) == JSON_NUMBER ? "another number"
                                                  : json_kind_name(json_kind(v)));
}

static int read_choices(struct eval_task *t, const struct json_value *list, struct carat_error *err)
{
    size_t n = json_count(list);
    if (json_kind(list) != JSON_ARRAY || n < 2 || n > EVAL_CHOICES_MAX) {
        return json_kind(list) == JSON_ARRAY
                   ? fail(err, CARAT_E_FORMAT, "choices: expected 2 to %zu of them, found %zu",
                          EVAL_CHOICES_MAX, n)
                   : fail_kind("choices", "a list of strings", list, err);
    }
    t->choices = arena_take(&t->talk.arena, n * sizeof(*t->choices), err);
    if (!t->choices) {
        return CARAT_E_MEMORY;
    }
    for (struct json_iter it = json_iter(list); json_next(&it); t->n_choices++) {
        struct slice *text = &t->choices[t->n_choices].text;
        if (json_kind(it.value) != JSON_STRING || json_string(it.value).size == 0) {
            return fail(err, CARAT_E_FORMAT, "choices: expected strings that are not empty");
        }
        int rc = read_text(t, text, it.value, "choices", EVAL_REFERENCE_MAX, err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

// expected is one answer, or a list of such; a choice by its number is one, too.
static int read_answers(struct eval_task *t, const struct json_value *v, struct carat_error *err)
{
    bool is_list = json_kind(v) == JSON_ARRAY;
    struct json_iter it = json_iter(v);
    size_t n = is_list ? json_count(v) : 1;
    size_t n_max = t->score == EVAL_REGEX ? EVAL_REGEX_MAX : EVAL_EXPECTED_MAX;
    if (!is_given(v)) {
        return fail_kind("expected", "the answer that is right", v, err);
    }
    if (n == 0 || n > n_max) {
        return fail(err, CARAT_E_FORMAT, "expected: expected 1 to %zu answers, found %zu", n_max,
                    n);
    }
    t->expected = arena_take(&t->talk.arena, n * sizeof(*t->expected), err);
    int rc = t->expected ? 0 : CARAT_E_MEMORY;
    for (const struct json_value *one = v; rc == 0 && (is_list ? json_next(&it) : one != NULL);
         one = NULL) {
        const struct json_value *answer = is_list ? it.value : one;
        rc = t->score == EVAL_CHOICE ? mark_choice(t, answer, err) : read_expected(t, answer, err);
    }
    return rc;
}

static int read_score(struct eval_task *t, const struct json_value *root, struct carat_error *err)
{
    const struct json_value *score = json_get(root, "score"), *ignore = json_get(root, "ignore"),
                            *choices = json_get(root, "choices");
    size_t i = is_given(choices) ? EVAL_CHOICE : EVAL_EXACT;
    int rc = is_given(score) ? read_name(&i, score, "score", eval_score_names, err) : 0;
    t->score = (enum eval_score)i;
    i = EVAL_IGNORE_NOTHING;
    rc = rc || !is_given(ignore) ? rc : read_name(&i, ignore, "ignore", ignore_names, err);
    t->ignore = (enum eval_ignore)i;
    if (rc) {
        return rc;
    }
    if (t->ignore && t->score != EVAL_EXACT && t->score != EVAL_REGEX) {
        return fail(err, CARAT_E_FORMAT, "ignore: says nothing to the score %s",
                    eval_score_names[t->score]);
    }
    if (is_given(choices) != (t->score == EVAL_CHOICE)) {
        return fail(err, CARAT_E_FORMAT, "choices: %s",
                    is_given(choices)
                        ? "only the score choice has any"
                        : "expected a list of strings for the score choice, found none");
    }
    if (t->score == EVAL_CHOICE && t->thinks) {
        return fail(err, CARAT_E_FORMAT,
                    "thinking: choices are scored by their likelihood, without thoughts; ask with "
                    "the score exact instead");
    }
    rc = t->score == EVAL_CHOICE ? read_choices(t, choices, err) : 0;
    return rc ? rc : read_answers(t, json_get(root, "expected"), err);
}

// ------------------------------------------------------------------------------ the line

// A number is kept as it is written.
static int read_id(struct eval_task *t, const struct json_value *v, struct carat_error *err)
{
    struct slice number = json_number_text(v);
    return json_kind(v) == JSON_NUMBER && number.size <= EVAL_ID_MAX
               ? copy_slice(t, &t->id, number, err)
               : read_text(t, &t->id, v, "id", EVAL_ID_MAX, err);
}

static int read_line(struct eval_task *t, const struct json_value *root, struct carat_error *err)
{
    // Two names are in use for each of these.
    const struct json_value *name = json_get(root, "task"), *thinks = json_get(root, "thinking"),
                            *tokens = json_get(root, "max_tokens");
    if (json_kind(root) != JSON_OBJECT) {
        return fail(err, CARAT_E_FORMAT, "expected an object, found %s",
                    json_kind_name(json_kind(root)));
    }
    name = is_given(name) ? name : json_get(root, "kind");
    int rc = read_id(t, json_get(root, "id"), err);
    rc = rc ? rc : read_text(t, &t->name, name, "task", EVAL_NAME_MAX, err);
    rc = rc ? rc : read_flag(&t->thinks, root, is_given(thinks) ? "thinking" : "think", err);
    if (rc == 0 && is_given(tokens) &&
        (!json_u64(tokens, &t->tokens_max) || t->tokens_max < 1 || t->tokens_max > TOKENS_MAX)) {
        rc = fail(err, CARAT_E_FORMAT, "max_tokens: expected an integer from 1 to %llu",
                  (unsigned long long)TOKENS_MAX);
    }
    rc = rc ? rc : read_score(t, root, err);
    return rc ? rc : read_talk(t, root, err);
}

int eval_task_read(struct eval_task *t, struct slice line, const char *folder,
                   const struct media_how *how, struct carat_error *err)
{
    struct json_doc *doc = NULL;
    t->talk.media_folder = folder;
    if (how) {
        t->talk.media_how = *how;
    }
    int rc = json_parse(&doc, line.data, line.size, "JSON", err);
    rc = rc ? rc : read_line(t, json_root(doc), err);
    json_free(doc);
    return rc;
}

void eval_task_release(struct eval_task *t)
{
    for (size_t i = 0; i < t->n_expected; i++) {
        carat_regex_free(t->expected[i].regex);
    }
    conversation_release(&t->talk);
    *t = (struct eval_task){.n_expected = 0};
}
