// SPDX-License-Identifier: Apache-2.0
#include "cli/answer.h"

#include "base/mem.h"
#include "base/os.h"

#include <stdio.h>

#define ANSWER_SIZE_MAX ((size_t)256 << 20)

// What the events of one answer are handed to.
struct maker {
    struct answer *answer;
    const struct answer_options *options;
    struct output *out;
    bool is_thinking; // the last thing shown was a thought
    struct carat_error *err;
    int rc;
};

static void show_thought(struct maker *m, const char *text, size_t size)
{
    if (!m->options->is_shown || !m->options->shows_thoughts) {
        return;
    }
    output_flush(m->out);
    if (!m->is_thinking && m->out->errors_have_colour) {
        fputs("\033[2m", stderr);
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        // Escape sequences of the model are not for the terminal.
        fputc(c < 32 && c != '\n' && c != '\t' ? '?' : c, stderr);
    }
    m->is_thinking = true;
    fflush(stderr);
}

static void end_thought(struct maker *m)
{
    if (m->is_thinking) {
        fputs(m->out->errors_have_colour ? "\033[0m\n\n" : "\n\n", stderr);
        fflush(stderr);
    }
    m->is_thinking = false;
}

static void begin_call(struct maker *m, const struct carat_event *event)
{
    struct answer *a = m->answer;
    if (a->n_calls == a->calls_capacity) {
        size_t capacity = a->calls_capacity ? a->calls_capacity * 2 : 4;
        void *grown = mem_resize(a->calls, capacity * sizeof(*a->calls), m->err);
        if (!grown) {
            m->rc = CARAT_E_MEMORY;
            return;
        }
        a->calls = grown;
        a->calls_capacity = capacity;
    }
    struct answer_call *call = &a->calls[a->n_calls++];
    *call = (struct answer_call){.name.max = ANSWER_SIZE_MAX, .arguments.max = ANSWER_SIZE_MAX};
    buf_add(&call->name, event->text, event->size);
}

static void show_call(struct maker *m, const struct answer_call *call)
{
    if (!m->options->is_shown) {
        return;
    }
    struct buf line = {.max = ANSWER_SIZE_MAX};
    buf_adds(&line, m->out->last == '\n' ? "{\"name\":" : "\n{\"name\":");
    buf_add_json(&line, buf_text(&call->name), call->name.size);
    buf_addf(&line, ",\"arguments\":%s}\n", call->arguments.size ? call->arguments.data : "{}");
    output_foreign(m->out, buf_text(&line), line.size);
    buf_release(&line);
}

static void take_event(struct maker *m, const struct carat_event *event)
{
    struct answer *a = m->answer;
    struct answer_call *call = a->n_calls ? &a->calls[a->n_calls - 1] : NULL;
    if (event->type != CARAT_EVENT_THOUGHT) {
        end_thought(m);
    }
    switch (event->type) {
    case CARAT_EVENT_TEXT:
        buf_add(&a->text, event->text, event->size);
        if (m->options->is_shown) {
            output_foreign(m->out, event->text, event->size);
            output_flush(m->out);
        }
        break;
    case CARAT_EVENT_THOUGHT:
        buf_add(&a->thought, event->text, event->size);
        show_thought(m, event->text, event->size);
        break;
    case CARAT_EVENT_CALL:
        begin_call(m, event);
        break;
    case CARAT_EVENT_CALL_ARGS:
        if (call) {
            buf_add(&call->arguments, event->text, event->size);
        }
        break;
    case CARAT_EVENT_CALL_END:
        if (call) {
            show_call(m, call);
        }
        break;
    case CARAT_EVENT_STOP:
        a->stop = event->stop;
        if (event->stop == CARAT_STOP_STRING && event->text) {
            buf_add(&a->stop_string, event->text, event->size);
        }
        break;
    }
}

static bool on_event(void *user, const struct carat_event *event)
{
    struct maker *m = user;
    take_event(m, event);
    return m->rc == 0 && m->out->failed_errno == 0 && !os_interrupted();
}

static void add_token(struct buf *out, const struct carat_engine *engine, carat_token token)
{
    size_t size = 0;
    const char *text = carat_token_text(engine, token, &size);
    buf_addf(out, "{\"id\":%d,\"token\":", (int)token);
    buf_add_json(out, text ? text : "", size);
}

// The figures of the last pick: the first is the token itself, then the best ones.
static void add_logprobs(struct answer *a, const struct carat_engine *engine,
                         const struct carat_sampler *sampler)
{
    size_t n = 0;
    const struct carat_logprob *list = carat_sampler_logprobs(sampler, &n);
    for (size_t i = 0; i < n; i++) {
        buf_adds(&a->logprobs, i == 0 ? (a->logprobs.size ? "," : "") : i == 1 ? "" : ",");
        add_token(&a->logprobs, engine, list[i].token);
        buf_adds(&a->logprobs, ",\"logprob\":");
        buf_add_number(&a->logprobs, (double)list[i].logprob);
        buf_adds(&a->logprobs, i == 0 ? ",\"top\":[" : "}");
    }
    buf_adds(&a->logprobs, n ? "]}" : "");
}

static bool take_events(struct maker *m, struct carat_parser *parser)
{
    struct carat_event event;
    bool goes_on = true;
    while (carat_parser_next(parser, &event)) {
        goes_on = on_event(m, &event) && goes_on;
        if (event.type == CARAT_EVENT_STOP) {
            goes_on = false;
        }
    }
    return goes_on;
}

// carat_generate with a look at the sampler after each token.
static int generate_with_logprobs(struct maker *m, const struct carat_engine *engine,
                                  struct carat_session *session, struct carat_sampler *sampler,
                                  struct carat_parser *parser)
{
    struct answer *a = m->answer;
    size_t room = carat_session_context_max(session), used = 0;
    carat_session_tokens(session, &used);
    size_t tokens_max = m->options->tokens_max ? m->options->tokens_max : SIZE_MAX;
    for (;;) {
        carat_token token = carat_sampler_pick(sampler, carat_session_logits(session));
        a->n_generated++;
        add_logprobs(a, engine, sampler);
        int rc = carat_parser_feed(parser, token, m->err);
        if (rc) {
            return rc;
        }
        if (!take_events(m, parser)) {
            break;
        }
        if (a->n_generated >= tokens_max || used == room) {
            break;
        }
        struct carat_step step = {.session = session, .token = token};
        rc = carat_decode(&step, 1, m->err);
        if (rc) {
            return rc;
        }
        used++;
    }
    if (a->stop == CARAT_STOP_NONE) {
        bool is_stopped = os_interrupted() || m->out->failed_errno;
        int rc =
            carat_parser_finish(parser, is_stopped ? CARAT_STOP_USER : CARAT_STOP_LENGTH, m->err);
        if (rc) {
            return rc;
        }
        take_events(m, parser);
    }
    return 0;
}

int answer_make(struct answer *a, const struct answer_options *options, struct output *out,
                const struct carat_engine *engine, struct carat_session *session,
                const struct carat_prompt *prompt, struct carat_sampler *sampler,
                struct carat_parser *parser, struct carat_error *err)
{
    struct maker m = {.answer = a, .options = options, .out = out, .err = err};
    a->text.max = a->thought.max = a->stop_string.max = a->logprobs.max = ANSWER_SIZE_MAX;
    const carat_token *tokens = carat_prompt_tokens(prompt, &a->n_prompt);

    double started = os_seconds();
    int rc = carat_session_sync(session, prompt, &a->n_reused, err);
    a->ready_at = os_seconds();
    a->prefill_s = a->ready_at - started;
    if (rc) {
        return rc;
    }
    for (size_t i = a->n_reused; i < a->n_prompt; i++) {
        carat_sampler_accept(sampler, tokens[i]);
    }
    started = os_seconds();
    if (options->n_top) {
        rc = generate_with_logprobs(&m, engine, session, sampler, parser);
    } else {
        rc = carat_generate(session, sampler, parser, options->tokens_max, on_event, &m,
                            &a->n_generated, err);
    }
    a->decode_s = os_seconds() - started;
    end_thought(&m);
    if (rc == CARAT_E_STOPPED) {
        a->stop = CARAT_STOP_USER;
        rc = 0;
    }
    rc = rc ? rc : m.rc;
    rc = rc ? rc : buf_status(&a->text, err);
    return rc ? rc : buf_status(&a->thought, err);
}

void answer_release(struct answer *a)
{
    for (size_t i = 0; i < a->n_calls; i++) {
        buf_release(&a->calls[i].name);
        buf_release(&a->calls[i].arguments);
    }
    mem_free(a->calls);
    buf_release(&a->text);
    buf_release(&a->thought);
    buf_release(&a->stop_string);
    buf_release(&a->logprobs);
    *a = (struct answer){.calls = NULL};
}

const char *answer_finish_reason(const struct answer *a)
{
    switch (a->stop) {
    case CARAT_STOP_TOOL:
        return "tool_calls";
    case CARAT_STOP_LENGTH:
        return "length";
    case CARAT_STOP_USER:
        return "interrupted";
    case CARAT_STOP_LOOP:
        return "loop";
    case CARAT_STOP_NONE:
    case CARAT_STOP_TURN:
    case CARAT_STOP_STRING:
        break;
    }
    return "stop";
}

void answer_write_json(const struct answer *a, struct buf *out)
{
    buf_adds(out, "\"content\":");
    buf_add_json(out, buf_text(&a->text), a->text.size);
    buf_adds(out, ",\"reasoning\":");
    buf_add_json(out, buf_text(&a->thought), a->thought.size);
    buf_adds(out, ",\"tool_calls\":[");
    for (size_t i = 0; i < a->n_calls; i++) {
        const struct answer_call *call = &a->calls[i];
        buf_adds(out, i ? ",{\"name\":" : "{\"name\":");
        buf_add_json(out, buf_text(&call->name), call->name.size);
        buf_addf(out, ",\"arguments\":%s}", call->arguments.size ? call->arguments.data : "{}");
    }
    buf_addf(out, "],\"finish_reason\":\"%s\"", answer_finish_reason(a));
    if (a->stop == CARAT_STOP_STRING) {
        buf_adds(out, ",\"stop_string\":");
        buf_add_json(out, buf_text(&a->stop_string), a->stop_string.size);
    }
    buf_addf(out,
             ",\"usage\":{\"prompt_tokens\":%zu,\"reused_tokens\":%zu,\"completion_tokens\":%zu},"
             "\"timings\":{\"prefill_s\":%.4f,\"decode_s\":%.4f}",
             a->n_prompt, a->n_reused, a->n_generated, a->prefill_s, a->decode_s);
}

void answer_say_figures(const struct answer *a)
{
    size_t evaluated = a->n_prompt > a->n_reused ? a->n_prompt - a->n_reused : 0;
    struct buf line = {.max = 500};
    buf_addf(&line, "prompt %zu tokens", a->n_prompt);
    if (a->n_reused) {
        buf_addf(&line, " (%zu reused)", a->n_reused);
    }
    if (evaluated && a->prefill_s > 0) {
        buf_addf(&line, ", %.1f tokens/s", (double)evaluated / a->prefill_s);
    }
    buf_addf(&line, "; answer %zu tokens", a->n_generated);
    if (a->n_generated && a->decode_s > 0) {
        buf_addf(&line, ", %.1f tokens/s", (double)a->n_generated / a->decode_s);
    }
    say_plain("[%s]", buf_text(&line));
    buf_release(&line);
}
