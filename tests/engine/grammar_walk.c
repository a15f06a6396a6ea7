// SPDX-License-Identifier: Apache-2.0
#include "grammar_walk.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define TOKENS_MAX 4096

uint64_t walk_random(uint64_t *state)
{
    *state += 0x9E3779B97F4A7C15u;
    uint64_t x = *state;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static bool may_stop(const struct carat_engine *engine, const uint64_t *allowed)
{
    const size_t n = carat_engine_info(engine)->n_vocab;
    for (size_t i = 0; i < n; i++) {
        if (carat_token_is_stop(engine, (carat_token)i) &&
            (!allowed || bit_get(allowed, (carat_token)i))) {
            return true;
        }
    }
    return false;
}

bool walk_tokens(const struct carat_engine *engine, const struct carat_grammar *grammar,
                 const carat_token *tokens, size_t n, size_t *refused)
{
    struct grammar_run *run = NULL;
    require(grammar_run_new(&run, grammar, NULL) == 0);
    bool is_right = true;
    size_t i = 0;
    for (; i < n && is_right; i++) {
        const uint64_t *allowed = grammar_run_allowed(run);
        is_right = !allowed || bit_get(allowed, tokens[i]);
        grammar_run_accept(run, tokens[i]);
    }
    if (refused) {
        *refused = is_right ? i : i - 1;
    }
    is_right = is_right && may_stop(engine, grammar_run_allowed(run));
    grammar_run_free(run);
    return is_right;
}

bool walk_text(const struct carat_engine *engine, const struct carat_grammar *grammar,
               const char *text)
{
    static carat_token tokens[TOKENS_MAX];
    const int64_t n = carat_tokenize(engine, text, strlen(text), CARAT_TOKENIZE_SPECIAL, tokens,
                                     TOKENS_MAX, NULL);
    require(n >= 0 && n <= TOKENS_MAX);
    return walk_tokens(engine, grammar, tokens, (size_t)n, NULL);
}

bool walk_pieces(const struct carat_engine *engine, const struct carat_grammar *grammar,
                 const char *text, uint64_t *random)
{
    static carat_token tokens[TOKENS_MAX];
    const size_t n_vocab = carat_engine_info(engine)->n_vocab;
    const size_t size = strlen(text);
    size_t n = 0;
    for (size_t at = 0; at < size;) {
        carat_token chosen = CARAT_TOKEN_NONE;
        size_t chosen_size = 0;
        size_t n_fitting = 0;
        for (size_t i = 0; i < n_vocab; i++) {
            size_t token_size = 0;
            const char *token = carat_token_text(engine, (carat_token)i, &token_size);
            if (token_size > 0 && token_size <= size - at &&
                !carat_token_is_special(engine, (carat_token)i) &&
                !memcmp(token, text + at, token_size) && walk_random(random) % ++n_fitting == 0) {
                chosen = (carat_token)i;
                chosen_size = token_size;
            }
        }
        require(chosen != CARAT_TOKEN_NONE && n < TOKENS_MAX);
        tokens[n++] = chosen;
        at += chosen_size;
    }
    return walk_tokens(engine, grammar, tokens, n, NULL);
}

// ------------------------------------------------------------------------------ sampling

static void fill_logits(const struct carat_engine *engine, float *logits, size_t step,
                        uint64_t *random)
{
    const size_t n = carat_engine_info(engine)->n_vocab;
    for (size_t i = 0; i < n; i++) {
        size_t size = 0;
        const char *text = carat_token_text(engine, (carat_token)i, &size);
        float logit = 3 * (float)(walk_random(random) >> 11) * 0x1p-53F;
        if (size > 0 && strchr("\"}],:", text[0])) {
            logit += 3 + (float)step * 0.1F;
        }
        if (carat_token_is_stop(engine, (carat_token)i)) {
            logit += 8;
        } else if (carat_token_is_special(engine, (carat_token)i)) {
            // Thoughts begin now and then and end soon.
            logit += size > 1 && !memcmp(text, "<|ch", 4) ? 1.0F : 5.0F;
        }
        logits[i] = logit;
    }
}

static void take_event(struct walk_answer *out, const struct carat_event *event)
{
    switch (event->type) {
    case CARAT_EVENT_TEXT:
        buf_add(&out->text, event->text, event->size);
        break;
    case CARAT_EVENT_THOUGHT:
        buf_add(&out->thought, event->text, event->size);
        break;
    case CARAT_EVENT_CALL:
        out->n_calls++;
        buf_clear(&out->name);
        buf_add(&out->name, event->text, event->size);
        break;
    case CARAT_EVENT_CALL_ARGS:
        buf_clear(&out->arguments);
        buf_add(&out->arguments, event->text, event->size);
        break;
    case CARAT_EVENT_CALL_END:
        break;
    case CARAT_EVENT_STOP:
        out->stop = event->stop;
        break;
    }
}

bool walk_sample(const struct carat_engine *engine, const struct carat_grammar *grammar,
                 uint64_t seed, size_t n_max, struct walk_answer *out)
{
    const struct carat_sampling sampling = {.temperature = 1,
                                            .top_p = 1,
                                            .repetition_penalty = 1,
                                            .seed = seed + 1,
                                            .grammar = grammar};
    struct carat_sampler *sampler = NULL;
    struct carat_parser *parser = NULL;
    struct carat_event event;
    float *logits = mem_new_array(carat_engine_info(engine)->n_vocab, sizeof(*logits), NULL);
    const struct carat_parser_options options = {.starts_in_thought = grammar->starts_in_thought};
    require(logits);
    require(carat_sampler_new(&sampler, engine, &sampling, NULL) == 0);
    require(carat_parser_new(&parser, engine, &options, NULL) == 0);
    *out = (struct walk_answer){0};
    for (size_t i = 0; i < n_max && out->stop == CARAT_STOP_NONE; i++) {
        fill_logits(engine, logits, i, &seed);
        require(carat_parser_feed(parser, carat_sampler_pick(sampler, logits), NULL) == 0);
        while (carat_parser_next(parser, &event)) {
            take_event(out, &event);
        }
    }
    carat_parser_free(parser);
    carat_sampler_free(sampler);
    mem_free(logits);
    return out->stop != CARAT_STOP_NONE;
}

void walk_answer_release(struct walk_answer *answer)
{
    buf_release(&answer->text);
    buf_release(&answer->thought);
    buf_release(&answer->name);
    buf_release(&answer->arguments);
}
