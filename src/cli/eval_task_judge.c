// SPDX-License-Identifier: Apache-2.0
// Whether an answer is right.
#include <string.h>

#include "base/error.h"
#include "cli/eval_task.h"

#define CALL_MARK "<|tool_call>"

// ------------------------------------------------------------------------------ values

// Two values that stand in the same place, and how far their children were compared.
struct pair {
    const struct json_value *a, *b;
    struct json_iter left, right;
};

// Whether what is in the values themselves is the same; of containers that is the number of
// children.
static bool is_same_alone(const struct json_value *a, const struct json_value *b)
{
    if (json_kind(a) != json_kind(b)) {
        return false;
    }
    switch (json_kind(a)) {
    case JSON_ABSENT:
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return json_bool(a) == json_bool(b);
    case JSON_NUMBER:
        // Integers beyond what a double holds differ in their text.
        return slice_equal(json_number_text(a), json_number_text(b)) ||
               (json_double(a) == json_double(b) && json_double(a) < 9e15 &&
                json_double(a) > -9e15);
    case JSON_STRING:
        return slice_equal(json_string(a), json_string(b));
    case JSON_ARRAY:
    case JSON_OBJECT:
        return json_count(a) == json_count(b);
    }
    return false;
}

// The next child of a and what stands in its place in b; false when there are no more.
static bool next_children(struct pair *p, const struct json_value **a, const struct json_value **b)
{
    if (!json_next(&p->left)) {
        return false;
    }
    if (json_kind(p->a) == JSON_OBJECT) {
        // By its name on both sides: of a name that occurs twice, the last one counts.
        *a = json_getn(p->a, p->left.key);
        *b = json_getn(p->b, p->left.key);
    } else {
        *a = p->left.value;
        *b = json_next(&p->right) ? p->right.value : NULL;
    }
    return true;
}

// Objects in any order, numbers by their value.
static int is_same_value(bool *out, const struct json_value *a, const struct json_value *b,
                         struct carat_error *err)
{
    // No deeper than the parser lets a text be.
    struct pair *stack = mem_new_array(JSON_DEPTH_MAX + 1, sizeof(*stack), err);
    size_t n = 0;
    if (!stack) {
        return CARAT_E_MEMORY;
    }
    bool is_same = is_same_alone(a, b);
    if (is_same) {
        stack[n++] = (struct pair){.a = a, .b = b, .left = json_iter(a), .right = json_iter(b)};
    }
    while (is_same && n > 0) {
        if (!next_children(&stack[n - 1], &a, &b)) {
            n--;
            continue;
        }
        is_same = is_same_alone(a, b);
        bool has_children = json_kind(a) == JSON_ARRAY || json_kind(a) == JSON_OBJECT;
        if (is_same && has_children) {
            require(n <= JSON_DEPTH_MAX);
            stack[n++] = (struct pair){.a = a, .b = b, .left = json_iter(a), .right = json_iter(b)};
        }
    }
    mem_free(stack);
    *out = is_same;
    return 0;
}

// ------------------------------------------------------------------------------ calls

void eval_calls_take(struct eval_calls *c, const struct carat_event *event)
{
    if (event->type == CARAT_EVENT_CALL) {
        buf_adds(&c->json, c->n++ == 0 ? "[{\"name\":" : ",{\"name\":");
        buf_add_json(&c->json, event->text, event->size);
        buf_adds(&c->json, ",\"arguments\":");
        c->has_arguments = false;
    } else if (event->type == CARAT_EVENT_CALL_ARGS) {
        buf_add(&c->json, event->text, event->size);
        c->has_arguments = c->has_arguments || event->size > 0;
    } else if (event->type == CARAT_EVENT_CALL_END) {
        buf_adds(&c->json, c->has_arguments ? "}" : "{}}");
    }
}

void eval_calls_end(struct eval_calls *c)
{
    buf_adds(&c->json, c->n == 0 ? "[]" : "]");
}

// The calls in an answer that is written as the model writes it, markers and all.
static int read_calls(struct eval_calls *out, const struct carat_engine *engine, struct slice text,
                      struct carat_error *err)
{
    struct carat_parser *parser = NULL;
    struct carat_event event;
    int rc = carat_parser_new(&parser, engine, &(struct carat_parser_options){.n_stops = 0}, err);
    rc = rc ? rc : carat_parser_feed_text(parser, text.data, text.size, err);
    rc = rc ? rc : carat_parser_finish(parser, CARAT_STOP_TURN, err);
    while (rc == 0 && carat_parser_next(parser, &event)) {
        eval_calls_take(out, &event);
    }
    eval_calls_end(out);
    carat_parser_free(parser);
    return rc ? rc : buf_status(&out->json, err);
}

static int are_same_calls(bool *out, const char *a, const char *b, struct carat_error *err)
{
    struct json_doc *left = NULL, *right = NULL;
    int rc = json_parse(&left, a, strlen(a), "expected calls", err);
    rc = rc ? rc : json_parse(&right, b, strlen(b), "calls", err);
    rc = rc ? rc : is_same_value(out, json_root(left), json_root(right), err);
    json_free(left);
    json_free(right);
    return rc;
}

static int judge_calls(bool *out, const struct eval_expected *e, const struct carat_engine *engine,
                       const char *calls, struct carat_error *err)
{
    struct eval_calls expected = {.n = 0};
    calls = calls ? calls : "[]";
    if (e->calls) {
        return are_same_calls(out, e->calls, calls, err);
    }
    int rc = read_calls(&expected, engine, e->text, err);
    rc = rc ? rc : are_same_calls(out, buf_text(&expected.json), calls, err);
    buf_release(&expected.json);
    return rc;
}

// ------------------------------------------------------------------------------ texts

// What counts of a text: trimmed, and without what is ignored.
static int add_normal(struct buf *out, struct slice text, enum eval_ignore ignore,
                      struct carat_error *err)
{
    struct slice trimmed = utf8_trim(text);
    switch (ignore) {
    case EVAL_IGNORE_NOTHING:
        buf_add_slice(out, trimmed);
        break;
    case EVAL_IGNORE_CASE:
        words_add_small(out, trimmed);
        break;
    case EVAL_IGNORE_MARKS:
        words_add(out, trimmed);
        break;
    }
    return buf_status(out, err);
}

static struct slice slice_of_buf(const struct buf *b)
{
    return slice_make(buf_text(b), b->size);
}

static int judge_exact(struct eval_verdict *out, const struct eval_task *t,
                       const struct carat_engine *engine, struct slice text, const char *calls,
                       struct carat_error *err)
{
    struct buf answer = {0}, expected = {0};
    bool has_calls = calls && strcmp(calls, "[]") != 0;
    int rc = add_normal(&answer, text, t->ignore, err);
    for (size_t i = 0; rc == 0 && !out->is_right && i < t->n_expected; i++) {
        const struct eval_expected *e = &t->expected[i];
        buf_clear(&expected);
        if (e->calls || strstr(e->text.data, CALL_MARK)) {
            rc = judge_calls(&out->is_right, e, engine, calls, err);
        } else if (!has_calls) {
            rc = add_normal(&expected, e->text, t->ignore, err);
            out->is_right = slice_equal(slice_of_buf(&answer), slice_of_buf(&expected));
        }
    }
    buf_release(&answer);
    buf_release(&expected);
    return rc;
}

static int judge_regex(struct eval_verdict *out, const struct eval_task *t, struct slice text,
                       struct carat_error *err)
{
    struct buf answer = {0};
    int rc = add_normal(&answer, text, t->ignore, err);
    for (size_t i = 0; rc == 0 && !out->is_right && i < t->n_expected; i++) {
        out->is_right = carat_regex_matches(t->expected[i].regex, buf_text(&answer), answer.size);
    }
    buf_release(&answer);
    return rc;
}

static uint64_t sum_errors(const struct word_errors *e)
{
    return e->substituted + e->deleted + e->inserted;
}

// Whether a is fewer errors for its words than b; of equal ones, of its characters.
static bool is_nearer(const struct eval_verdict *a, const struct eval_verdict *b)
{
    double left = (double)sum_errors(&a->words) * (double)b->words.n;
    double right = (double)sum_errors(&b->words) * (double)a->words.n;
    return left < right ||
           (left == right && (double)sum_errors(&a->characters) * (double)b->characters.n <
                                 (double)sum_errors(&b->characters) * (double)a->characters.n);
}

static int judge_words(struct eval_verdict *out, const struct eval_task *t, struct slice text,
                       struct carat_error *err)
{
    struct buf answer = {0}, expected = {0};
    int rc = add_normal(&answer, text, EVAL_IGNORE_MARKS, err);
    for (size_t i = 0; rc == 0 && i < t->n_expected; i++) {
        struct eval_verdict v = {.is_right = false};
        buf_clear(&expected);
        rc = add_normal(&expected, t->expected[i].text, EVAL_IGNORE_MARKS, err);
        rc = rc ? rc
                : words_count_errors(&v.words, slice_of_buf(&expected), slice_of_buf(&answer), err);
        rc = rc ? rc
                : words_count_character_errors(&v.characters, slice_of_buf(&expected),
                                               slice_of_buf(&answer), err);
        if (rc == 0 && (i == 0 || is_nearer(&v, out))) {
            *out = v;
        }
    }
    out->is_right = rc == 0 && sum_errors(&out->words) == 0;
    buf_release(&answer);
    buf_release(&expected);
    return rc;
}

int eval_task_judge(struct eval_verdict *out, const struct eval_task *t,
                    const struct carat_engine *engine, struct slice text, const char *calls,
                    struct carat_error *err)
{
    *out = (struct eval_verdict){.is_right = false};
    switch (t->score) {
    case EVAL_EXACT:
        return judge_exact(out, t, engine, text, calls, err);
    case EVAL_REGEX:
        return judge_regex(out, t, text, err);
    case EVAL_WER:
        return judge_words(out, t, text, err);
    case EVAL_CHOICE: // its likelihoods are compared instead
        break;
    }
    return fail(err, CARAT_E_ARGUMENT, "choices are not judged by an answer");
}
