// SPDX-License-Identifier: Apache-2.0
// Sampled tokens to events, events to the answer and to the dialect's stream.
#include "server/choice.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "server/recall.h"

// A token of the text that no event has shown yet, and what is known of it.
struct pending {
    struct answer_logprob logprob;
    size_t size; // bytes of its text
};

struct choice {
    struct work *work;
    const struct job *job;
    struct answer *answer;
    struct choice_markers markers;
    struct carat_sampler *sampler;
    struct carat_parser *parser;
    struct carat_loop_guard *guard; // NULL: switched off
    bool is_raw, in_thought, in_call, has_ended;
    size_t thoughts_max; // tokens
    float *logits;       // [n_vocab], where thoughts have a limit: what the sampler is to see
    struct answer_call *tool_call; // the one that events are about
    size_t call_capacity;
    struct pending *pending; // [n_pending]
    size_t n_pending, pending_capacity;
    size_t logprob_capacity;
    double last_token;
    struct buf out; // what the dialect makes of the events of one token
};

void choice_find_markers(struct choice_markers *out, const struct carat_engine *engine)
{
    const struct {
        const char *text;
        carat_token *token;
    } rows[] = {{"<|channel>", &out->thought_open},
                {"<channel|>", &out->thought_close},
                {"<|tool_call>", &out->call_open},
                {"<tool_call|>", &out->call_close}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        carat_token tokens[16];
        int64_t n = carat_tokenize(engine, rows[i].text, strlen(rows[i].text),
                                   CARAT_TOKENIZE_SPECIAL, tokens, 16, NULL);
        *rows[i].token = n == 1 ? tokens[0] : CARAT_TOKEN_NONE;
    }
}

// Answer i of a request with a seed: the first has the seed itself, so that one choice is the first
// of several. splitmix64's finish, so that neighbouring seeds have unrelated choices.
static uint64_t derive_seed(uint64_t seed, size_t choice)
{
    if (seed == 0 || choice == 0) {
        return seed;
    }
    uint64_t x = seed + (uint64_t)choice * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return x ? x : 1;
}

static int make_sampler(struct choice *c, struct carat_error *err)
{
    const struct ask *ask = &c->work->call.ask;
    struct carat_sampling sampling = ask->sampling;
    sampling.seed = derive_seed(sampling.seed, c->job->choice);
    sampling.grammar = c->job->grammar;
    if (ask->wants_logprobs && sampling.n_top == 0) {
        sampling.n_top = 1; // the sampler tells of the token itself only beside the best ones
    }
    int rc = carat_sampler_new(&c->sampler, c->work->call.server->engine, &sampling, err);
    if (rc == 0 && (sampling.repetition_penalty < 1 || sampling.repetition_penalty > 1)) {
        size_t n = 0;
        const carat_token *tokens = carat_prompt_tokens(c->job->prompt, &n);
        for (size_t i = 0; i < n; i++) {
            carat_sampler_accept(c->sampler, tokens[i]);
        }
    }
    return rc;
}

// An answer of a demanded form, where nobody asked for thoughts, has none: the most likely token
// that the form leaves is often the one that begins a thought, and a long one.
static size_t thoughts_max_of(const struct ask *ask)
{
    const struct carat_grammar_options *g = &ask->grammar;
    bool is_demanded = ask->has_grammar && (g->json_schema || g->regex || g->choices ||
                                            g->tool_choice == CARAT_TOOLS_REQUIRED);
    if (is_demanded && !ask->chat.thinks) {
        return 0;
    }
    return ask->thought_tokens_max > 0 ? ask->thought_tokens_max : SIZE_MAX;
}

int choice_new(struct choice **out, const struct job *job, const struct choice_markers *markers,
               struct carat_error *err)
{
    struct choice *c = mem_new(sizeof(*c), err);
    if (!c) {
        return CARAT_E_MEMORY;
    }
    const struct ask *ask = &job->call->ask;
    const struct carat_engine *engine = job->call->server->engine;
    c->work = work_of(job->call);
    c->job = job;
    c->answer = &job->call->answers[job->i_answer];
    c->markers = *markers;
    c->is_raw = ask->kind != ASK_CHAT;
    c->in_thought = !c->is_raw && carat_prompt_opens_thought(job->prompt);
    struct carat_parser_options options = {.stops = ask->stops,
                                           .n_stops = ask->n_stops,
                                           .starts_in_thought = c->in_thought,
                                           .is_raw = c->is_raw};
    int rc = make_sampler(c, err);
    rc = rc ? rc : carat_parser_new(&c->parser, engine, &options, err);
    if (rc == 0 && ask->has_loop_guard) {
        rc = carat_loop_guard_new(&c->guard, err);
    }
    c->thoughts_max = thoughts_max_of(ask);
    if (rc == 0 && c->thoughts_max < SIZE_MAX && !c->is_raw &&
        markers->thought_close != CARAT_TOKEN_NONE) {
        size_t n = carat_engine_info(engine)->n_vocab;
        c->logits = mem_new_array(n, sizeof(*c->logits), err);
        rc = c->logits ? 0 : CARAT_E_MEMORY;
    }
    if (rc) {
        choice_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void choice_free(struct choice *c)
{
    if (c) {
        carat_sampler_free(c->sampler);
        carat_parser_free(c->parser);
        carat_loop_guard_free(c->guard);
        mem_free(c->logits);
        mem_free(c->pending);
        buf_release(&c->out);
        mem_free(c);
    }
}

// ------------------------------------------------------------------------------------ log-probs

// A list in the call's arena with room for one more.
static void *room_for(struct choice *c, void *list, size_t n, size_t *capacity, size_t size,
                      struct carat_error *err)
{
    if (n < *capacity) {
        return list;
    }
    size_t grown = *capacity ? *capacity * 2 : 8;
    void *copy = call_take(&c->work->call, grown * size, err);
    if (copy) {
        if (n > 0) {
            memcpy(copy, list, n * size);
        }
        *capacity = grown;
    }
    return copy;
}

// Remembers the last pick until an event shows its text.
static int add_pending(struct choice *c, carat_token token, struct carat_error *err)
{
    size_t n = 0;
    const struct carat_logprob *list = carat_sampler_logprobs(c->sampler, &n);
    size_t n_top = c->work->call.ask.sampling.n_top;
    struct pending p = {0};
    if (n == 0) {
        return 0;
    }
    n_top = n_top < n - 1 ? n_top : n - 1;
    p.logprob = (struct answer_logprob){.token = token, .logprob = list[0].logprob, .n_top = n_top};
    p.logprob.top = call_take(&c->work->call, (n_top + 1) * sizeof(*p.logprob.top), err);
    if (!p.logprob.top) {
        return CARAT_E_MEMORY;
    }
    memcpy(p.logprob.top, list + 1, n_top * sizeof(*p.logprob.top));
    carat_token_text(c->work->call.server->engine, token, &p.size);
    if (c->n_pending == c->pending_capacity) {
        size_t capacity = c->pending_capacity ? 2 * c->pending_capacity : 16;
        size_t size = capacity * sizeof(p);
        void *grown = c->pending ? mem_resize(c->pending, size, err) : mem_new(size, err);
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        c->pending = grown;
        c->pending_capacity = capacity;
    }
    c->pending[c->n_pending++] = p;
    return 0;
}

// Moves what belongs to a text of this size to the answer. A stop string cuts the text: then only
// the tokens that begin inside what is left are shown.
static int show_pending(struct choice *c, size_t size, bool is_cut, size_t *n,
                        struct carat_error *err)
{
    struct answer *a = c->answer;
    size_t at = 0;
    *n = 0;
    for (; *n < c->n_pending && (!is_cut || at < size); (*n)++) {
        struct answer_logprob *list =
            room_for(c, a->logprobs, a->n_logprobs, &c->logprob_capacity, sizeof(*list), err);
        if (!list) {
            return CARAT_E_MEMORY;
        }
        a->logprobs = list;
        a->logprobs[a->n_logprobs++] = c->pending[*n].logprob;
        at += c->pending[*n].size;
    }
    c->n_pending = 0;
    return 0;
}

// ------------------------------------------------------------------------------------ events

static void stream(struct choice *c, const struct carat_event *event, size_t n_logprobs)
{
    struct call *call = &c->work->call;
    if (!call->ask.streams || c->work->is_cancelled) {
        return;
    }
    const struct answer *a = c->answer;
    struct call_event e = {
        .choice = c->job->i_answer,
        .event = event,
        .tool_call = c->tool_call,
        .call_index = c->tool_call ? a->n_calls - 1 : 0,
        .logprobs = n_logprobs > 0 ? a->logprobs + a->n_logprobs - n_logprobs : NULL,
        .n_logprobs = n_logprobs,
    };
    call->dialect->event(call, &e, &c->out);
}

static int add_text(struct choice *c, const struct carat_event *event, bool is_cut,
                    struct carat_error *err)
{
    size_t n = 0;
    buf_add(&c->answer->text, event->text, event->size);
    int rc = c->n_pending ? show_pending(c, event->size, is_cut, &n, err) : 0;
    if (rc == 0) {
        stream(c, event, n);
    }
    return rc ? rc : buf_status(&c->answer->text, err);
}

static int add_thought(struct choice *c, const struct carat_event *event, struct carat_error *err)
{
    if (c->work->call.ask.hides_thoughts) {
        return 0;
    }
    buf_add(&c->answer->thought, event->text, event->size);
    stream(c, event, 0);
    return buf_status(&c->answer->thought, err);
}

static int begin_call(struct choice *c, const struct carat_event *event, struct carat_error *err)
{
    struct answer *a = c->answer;
    struct answer_call *calls =
        room_for(c, a->calls, a->n_calls, &c->call_capacity, sizeof(*calls), err);
    if (!calls) {
        return CARAT_E_MEMORY;
    }
    a->calls = calls;
    c->tool_call = &calls[a->n_calls++];
    *c->tool_call = (struct answer_call){.arguments = "{}", .sampled = ""};
    call_make_id(c->tool_call->id, "call_");
    c->tool_call->name = call_text(&c->work->call, slice_make(event->text, event->size), err);
    if (!c->tool_call->name) {
        a->n_calls--;
        c->tool_call = NULL;
        return CARAT_E_MEMORY;
    }
    stream(c, event, 0);
    return 0;
}

// Arguments come whole, in one event.
static int add_arguments(struct choice *c, const struct carat_event *event, struct carat_error *err)
{
    c->tool_call->arguments = call_text(&c->work->call, slice_make(event->text, event->size), err);
    if (!c->tool_call->arguments) {
        return CARAT_E_MEMORY;
    }
    stream(c, event, 0);
    return 0;
}

static int end_call(struct choice *c, const struct carat_event *event, struct carat_error *err)
{
    struct answer_call *t = c->tool_call;
    t->sampled = call_text(&c->work->call, slice_make(event->text, event->size), err);
    if (!t->sampled) {
        return CARAT_E_MEMORY;
    }
    if (c->work->call.server->recall) {
        recall_put(c->work->call.server->recall, t->id, t->name, t->arguments, t->sampled);
    }
    stream(c, event, 0);
    c->tool_call = NULL;
    return 0;
}

static void end_answer(struct choice *c, const struct carat_event *event)
{
    struct answer *a = c->answer;
    struct call *call = &c->work->call;
    a->stop = event->stop;
    if (event->stop == CARAT_STOP_STRING) {
        size_t size =
            event->size < sizeof(a->stop_string) ? event->size : sizeof(a->stop_string) - 1;
        memcpy(a->stop_string, event->text, size);
        a->stop_string[size] = '\0';
    }
    c->n_pending = 0;
    c->has_ended = true;
    stream(c, event, 0);
    if (call->ask.streams && !c->work->is_cancelled) {
        call->dialect->end_choice(call, c->job->i_answer, &c->out);
    }
}

static int take_event(struct choice *c, const struct carat_event *event, bool is_cut,
                      struct carat_error *err)
{
    switch (event->type) {
    case CARAT_EVENT_TEXT:
        return add_text(c, event, is_cut, err);
    case CARAT_EVENT_THOUGHT:
        return add_thought(c, event, err);
    case CARAT_EVENT_CALL:
        return begin_call(c, event, err);
    case CARAT_EVENT_CALL_ARGS:
        return c->tool_call ? add_arguments(c, event, err) : 0;
    case CARAT_EVENT_CALL_END:
        return c->tool_call ? end_call(c, event, err) : 0;
    case CARAT_EVENT_STOP:
        end_answer(c, event);
        return 0;
    }
    return 0;
}

// All events that the parser has, to the answer; then one piece of the stream. A text is known to
// be cut by a stop string only from the event behind it.
static int drain(struct choice *c, struct carat_error *err)
{
    struct carat_event event;
    struct carat_event next;
    int rc = 0;
    buf_clear(&c->out);
    bool has_event = carat_parser_next(c->parser, &event);
    while (rc == 0 && has_event) {
        bool has_next = carat_parser_next(c->parser, &next);
        bool is_cut = has_next && next.type == CARAT_EVENT_STOP && next.stop == CARAT_STOP_STRING;
        rc = take_event(c, &event, is_cut, err);
        event = next;
        has_event = has_next;
    }
    if (rc == 0 && c->work->has_begun) {
        work_send(c->work, &c->out);
    }
    return rc;
}

// ------------------------------------------------------------------------------------ tokens

// What the sampler is to see: once the thoughts have used up their tokens, only the marker that
// closes them, and then no marker that opens one.
static const float *limit_thought(struct choice *c, const float *logits)
{
    if (!c->logits || c->answer->n_thought_tokens < c->thoughts_max) {
        return logits;
    }
    size_t n = carat_engine_info(c->work->call.server->engine)->n_vocab;
    if (c->in_thought) {
        for (size_t i = 0; i < n; i++) {
            c->logits[i] = -INFINITY;
        }
        c->logits[c->markers.thought_close] = 0;
        return c->logits;
    }
    memcpy(c->logits, logits, n * sizeof(*logits));
    if (c->markers.thought_open != CARAT_TOKEN_NONE) {
        c->logits[c->markers.thought_open] = -INFINITY;
    }
    return c->logits;
}

// Whether the token is text of the answer; keeps track of where the answer is.
static bool follow(struct choice *c, carat_token token)
{
    if (c->is_raw) {
        return !carat_token_is_special(c->work->call.server->engine, token);
    }
    bool was_thought = c->in_thought;
    if (c->in_call) {
        c->in_call = token != c->markers.call_close;
        return false;
    }
    if (token == c->markers.thought_open) {
        c->in_thought = true;
    } else if (token == c->markers.thought_close) {
        c->in_thought = false;
    } else if (token == c->markers.call_open && !c->in_thought) {
        c->in_call = true;
    }
    bool is_thought = was_thought || c->in_thought;
    c->answer->n_thought_tokens += is_thought;
    return !is_thought && !c->in_call &&
           !carat_token_is_special(c->work->call.server->engine, token);
}

static void note_time(struct choice *c)
{
    struct work *w = c->work;
    struct metrics *m = &w->call.server->metrics;
    double now = os_seconds();
    if (c->last_token > 0) {
        histogram_add(&m->per_token, now - c->last_token);
    }
    c->last_token = now;
    if (w->first_token <= 0) {
        w->first_token = now;
        histogram_add(&m->first_token, now - w->submitted);
        w->call.usage.prefill_s = now - w->first_slot;
    }
    w->call.usage.decode_s = now - w->first_token;
}

int choice_pick(struct choice *c, const float *logits, bool has_room, carat_token *token,
                struct carat_error *err)
{
    const struct ask *ask = &c->work->call.ask;
    struct usage *usage = &c->work->call.usage;
    carat_token picked = carat_sampler_pick(c->sampler, limit_thought(c, logits));
    size_t thought_before = c->answer->n_thought_tokens;
    c->answer->n_tokens++;
    usage->answer_tokens++;
    note_time(c);
    int rc = 0;
    if (follow(c, picked) && ask->wants_logprobs) {
        rc = add_pending(c, picked, err);
    }
    usage->thought_tokens += c->answer->n_thought_tokens - thought_before;
    rc = rc ? rc : carat_parser_feed(c->parser, picked, err);
    rc = rc ? rc : drain(c, err);
    if (rc == 0 && !c->has_ended && c->guard && carat_loop_guard_feed(c->guard, picked)) {
        rc = choice_finish(c, CARAT_STOP_LOOP, err);
    }
    bool is_full = !has_room || (ask->tokens_max > 0 && c->answer->n_tokens >= ask->tokens_max);
    if (rc == 0 && !c->has_ended && is_full) {
        rc = choice_finish(c, CARAT_STOP_LENGTH, err);
    }
    *token = c->has_ended ? CARAT_TOKEN_NONE : picked;
    return rc;
}

int choice_finish(struct choice *c, enum carat_stop why, struct carat_error *err)
{
    if (c->has_ended) {
        return 0;
    }
    int rc = carat_parser_finish(c->parser, why, err);
    return rc ? rc : drain(c, err);
}
