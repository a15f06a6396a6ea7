// SPDX-License-Identifier: Apache-2.0
// One answer under a grammar: thoughts, text and calls as docs/chat.md orders them. The program
// knows the inside of texts and calls; what comes between is decided here.
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/grammar.h"

enum phase {
    PHASE_FREE,         // text, thoughts and calls as they come
    PHASE_FREE_THOUGHT, // the same inside a thought
    PHASE_START,        // nothing but thoughts has come
    PHASE_THOUGHT,
    PHASE_TEXT,
    PHASE_CALL,
    PHASE_AFTER_CALL,
    PHASE_END,
};

struct grammar_run {
    const struct carat_grammar *grammar;
    struct masker masker;
    enum phase phase;
    struct place *places; // [PLACES_KEPT] where the text or call has got to
    size_t n;
    bool is_at_end; // it may end here
    uint64_t *allowed;
};
#define PLACES_KEPT 512

// ------------------------------------------------------------------------------ places

static struct places current(const struct grammar_run *r)
{
    return (struct places){.items = r->places, .n = r->n};
}

// Copies what was reached out of the machine's pool.
static void keep(struct grammar_run *r, struct places p)
{
    r->n = p.n < PLACES_KEPT ? p.n : PLACES_KEPT;
    if (r->n > 0) {
        memmove(r->places, p.items, r->n * sizeof(*r->places));
    }
    r->is_at_end = r->masker.machine.is_at_end;
}

static void end_step(struct grammar_run *r)
{
    machine_keep(&r->masker.machine, r->places, r->n);
}

static void begin_body(struct grammar_run *r, uint32_t state)
{
    const struct place start = {.state = state, .stack = STACK_BOTTOM, .max = COUNT_UNLIMITED};
    r->n = 0;
    end_step(r);
    keep(r, machine_settle(&r->masker.machine, &start, 1));
    end_step(r);
}

static void read_token(struct grammar_run *r, carat_token token)
{
    const struct slice text = tokenizer_text(r->grammar->lexicon->tokenizer, token);
    struct places p = current(r);
    for (size_t i = 0; i < text.size; i++) {
        p = machine_step(&r->masker.machine, p, (uint8_t)text.data[i]);
    }
    keep(r, p);
    end_step(r);
}

static void read_quote(struct grammar_run *r)
{
    keep(r, machine_quote(&r->masker.machine, current(r)));
    end_step(r);
}

static bool may_quote(struct grammar_run *r)
{
    struct machine *m = &r->masker.machine;
    const struct machine_mark mark = machine_mark(m);
    const struct places p = machine_quote(m, current(r));
    const bool may = p.n > 0 || m->is_at_end;
    machine_reset(m, mark);
    return may;
}

// ------------------------------------------------------------------------------ what may come

static void allow(struct grammar_run *r, carat_token token)
{
    if (token >= 0 && (size_t)token < r->grammar->lexicon->n_vocab) {
        bit_set(r->allowed, token);
    }
}

// An answer that is text does not wait for the result of a tool.
static void allow_stops(struct grammar_run *r, bool after_call)
{
    const struct lexicon *x = r->grammar->lexicon;
    for (size_t i = 0; i < x->n_stops; i++) {
        if (after_call || x->stops[i] != x->specials.response_open || x->n_stops == 1) {
            allow(r, x->stops[i]);
        }
    }
}

static bool may_call(const struct carat_grammar *g)
{
    return g->call != NO_STATE_YET && g->tool_choice != CARAT_TOOLS_NONE;
}

static void allow_body(struct grammar_run *r)
{
    masker_fill(&r->masker, current(r), r->allowed);
}

static void allow_start(struct grammar_run *r)
{
    const struct carat_grammar *g = r->grammar;
    if (!g->has_no_thoughts) {
        allow(r, g->lexicon->specials.channel_open);
    }
    if (may_call(g)) {
        allow(r, g->lexicon->specials.call_open);
    }
    if (g->tool_choice != CARAT_TOOLS_REQUIRED) {
        allow_body(r);
        if (r->is_at_end) {
            allow_stops(r, false);
        }
    }
}

static bool is_nothing(const struct grammar_run *r)
{
    for (size_t i = 0; i < r->grammar->lexicon->n_words; i++) {
        if (r->allowed[i]) {
            return false;
        }
    }
    return true;
}

static void allow_all(struct grammar_run *r)
{
    const struct lexicon *x = r->grammar->lexicon;
    memset(r->allowed, 0xFF, x->n_words * sizeof(*r->allowed));
    if (x->n_vocab % 64) {
        r->allowed[x->n_words - 1] = ((uint64_t)1 << (x->n_vocab % 64)) - 1;
    }
    const carat_token call = x->specials.call_open;
    if (call != CARAT_TOKEN_NONE) {
        r->allowed[(size_t)call / 64] &= ~((uint64_t)1 << ((size_t)call % 64));
    }
}

const uint64_t *grammar_run_allowed(struct grammar_run *r)
{
    const struct carat_grammar *g = r->grammar;
    const struct lexicon *x = g->lexicon;
    const bool is_free = r->phase == PHASE_FREE || r->phase == PHASE_FREE_THOUGHT;
    if (r->phase == PHASE_FREE_THOUGHT || (is_free && may_call(g))) {
        return NULL;
    }
    memset(r->allowed, 0, x->n_words * sizeof(*r->allowed));
    switch (r->phase) {
    case PHASE_FREE:
    case PHASE_FREE_THOUGHT:
        allow_all(r);
        break;
    case PHASE_START:
        allow_start(r);
        break;
    case PHASE_THOUGHT:
        memcpy(r->allowed, x->ordinary, x->n_words * sizeof(*r->allowed));
        allow(r, x->specials.channel_close);
        break;
    case PHASE_TEXT:
        allow_body(r);
        if (r->is_at_end) {
            allow_stops(r, false);
        }
        break;
    case PHASE_CALL:
        allow_body(r);
        if (may_quote(r)) {
            allow(r, x->specials.quote);
        }
        if (r->is_at_end) {
            allow(r, x->specials.call_close);
        }
        break;
    case PHASE_AFTER_CALL:
        if (!g->is_single_call) {
            allow(r, x->specials.call_open);
        }
        allow_stops(r, true);
        break;
    case PHASE_END:
        allow_stops(r, true);
        break;
    }
    if (is_nothing(r)) { // the vocabulary has no tokens for it
        allow_stops(r, true);
    }
    return r->allowed;
}

// ------------------------------------------------------------------------------ what came

static void start(struct grammar_run *r)
{
    r->phase = PHASE_START;
    r->n = 0;
    r->is_at_end = false;
    if (r->grammar->text != NO_STATE_YET) {
        begin_body(r, r->grammar->text);
    }
}

static void begin_call(struct grammar_run *r)
{
    r->phase = PHASE_CALL;
    begin_body(r, r->grammar->call);
}

static bool is_stop(const struct lexicon *x, carat_token token)
{
    for (size_t i = 0; i < x->n_stops; i++) {
        if (x->stops[i] == token) {
            return true;
        }
    }
    return false;
}

void grammar_run_accept(struct grammar_run *r, carat_token token)
{
    const struct carat_grammar *g = r->grammar;
    const struct special_tokens *s = &g->lexicon->specials;
    if (is_stop(g->lexicon, token)) {
        r->phase = PHASE_END;
        return;
    }
    switch (r->phase) {
    case PHASE_FREE:
        if (token == s->channel_open) {
            r->phase = PHASE_FREE_THOUGHT;
        } else if (token == s->call_open && may_call(g)) {
            begin_call(r);
        }
        break;
    case PHASE_FREE_THOUGHT:
        r->phase = token == s->channel_close ? PHASE_FREE : r->phase;
        break;
    case PHASE_START:
        if (token == s->channel_open) {
            r->phase = PHASE_THOUGHT;
        } else if (token == s->call_open && may_call(g)) {
            begin_call(r);
        } else {
            r->phase = PHASE_TEXT;
            read_token(r, token);
        }
        break;
    case PHASE_THOUGHT:
        if (token == s->channel_close) {
            start(r);
        }
        break;
    case PHASE_TEXT:
        read_token(r, token);
        break;
    case PHASE_CALL:
        if (token == s->quote) {
            read_quote(r);
        } else if (token == s->call_close) {
            r->phase = PHASE_AFTER_CALL;
        } else {
            read_token(r, token);
        }
        break;
    case PHASE_AFTER_CALL:
        if (token == s->call_open) {
            begin_call(r);
        }
        break;
    case PHASE_END:
        break;
    }
}

// ------------------------------------------------------------------------------ new and free

int grammar_run_new(struct grammar_run **out, const struct carat_grammar *grammar,
                    struct carat_error *err)
{
    struct grammar_run *r = mem_new(sizeof(*r), err);
    if (!r) {
        return CARAT_E_MEMORY;
    }
    r->grammar = grammar;
    r->allowed = mem_new_array(grammar->lexicon->n_words, sizeof(*r->allowed), err);
    r->places = mem_new_array(PLACES_KEPT, sizeof(*r->places), err);
    int rc = r->allowed && r->places ? 0 : CARAT_E_MEMORY;
    if (rc == 0) {
        rc = masker_init(&r->masker, grammar->lexicon, &grammar->program, grammar->masks, err);
    }
    if (rc) {
        grammar_run_free(r);
        return rc;
    }
    const bool is_free =
        grammar->text == NO_STATE_YET && grammar->tool_choice != CARAT_TOOLS_REQUIRED;
    if (is_free) {
        r->phase = grammar->starts_in_thought ? PHASE_FREE_THOUGHT : PHASE_FREE;
    } else {
        start(r);
        r->phase = grammar->starts_in_thought ? PHASE_THOUGHT : PHASE_START;
    }
    *out = r;
    return 0;
}

void grammar_run_free(struct grammar_run *r)
{
    if (r) {
        masker_release(&r->masker);
        mem_free(r->places);
        mem_free(r->allowed);
        mem_free(r);
    }
}
