// SPDX-License-Identifier: Apache-2.0
// One answer of the model: shown while it comes, kept for the conversation, measured.
#ifndef CARAT_CLI_ANSWER_H
#define CARAT_CLI_ANSWER_H

#include "cli/output.h"

struct answer_call {
    struct buf name;
    struct buf arguments; // JSON
};

struct answer {
    struct buf text;
    struct buf thought;
    struct answer_call *calls;
    size_t n_calls, calls_capacity;
    enum carat_stop stop;
    struct buf stop_string; // with CARAT_STOP_STRING
    struct buf logprobs;    // the members of a JSON array, one per token, when asked for

    size_t n_prompt, n_reused, n_generated;
    double prefill_s, decode_s;
    double ready_at; // os_seconds, when the prompt was evaluated
};

struct answer_options {
    size_t tokens_max;   // 0: to the end of the context
    size_t n_top;        // > 0: log-probabilities of that many tokens are kept
    bool is_shown;       // print while it comes: text and calls on standard output,
    bool shows_thoughts; // thoughts on standard error
};

// Evaluates the prompt and generates. The parser must be fresh. When a callback or Ctrl-C stops it,
// what was made until then is there and stop is CARAT_STOP_USER. Standard output's failures are not
// errors here: they end the answer as Ctrl-C does.
int answer_make(struct answer *a, const struct answer_options *options, struct output *out,
                const struct carat_engine *engine, struct carat_session *session,
                const struct carat_prompt *prompt, struct carat_sampler *sampler,
                struct carat_parser *parser, struct carat_error *err);
void answer_release(struct answer *a);

// "stop", "length", "tool_calls", as chat completions say it.
const char *answer_finish_reason(const struct answer *a);
// The answer as the members of a JSON object, without its braces: content, reasoning, tool_calls,
// finish_reason, usage, timings.
void answer_write_json(const struct answer *a, struct buf *out);
// A line to standard error with what it took.
void answer_say_figures(const struct answer *a);

#endif
