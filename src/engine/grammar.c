// SPDX-License-Identifier: Apache-2.0
// From options to a grammar (docs/grammars.md).
#include "engine/grammar.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/grammar_call.h"
#include "engine/grammar_regex.h"
#include "engine/grammar_schema.h"
#include "engine/grammar_text.h"

#define MASKS_MAX    ((size_t)32 << 20) // bytes of masks that one grammar keeps
#define CHOICES_MAX  ((size_t)1 << 16)
#define CHOICES_SIZE ((size_t)1 << 20) // bytes of all choices

static int check_options(const struct carat_grammar_options *o, const struct lexicon *x,
                         struct carat_error *err)
{
    const int n = (o->json_schema != NULL) + (o->regex != NULL) + (o->choices != NULL);
    if (n > 1) {
        return fail(err, CARAT_E_ARGUMENT,
                    "grammar: expected one of json_schema, regex and choices, found %d", n);
    }
    if (o->tool_choice > CARAT_TOOLS_REQUIRED) {
        return fail(err, CARAT_E_ARGUMENT,
                    "grammar: tool_choice: expected a value of enum carat_tool_choice");
    }
    if (o->tool_choice == CARAT_TOOLS_REQUIRED && !o->tools) {
        return fail(err, CARAT_E_ARGUMENT, "grammar: a call is required, but there are no tools");
    }
    const bool has_calls = o->tools && o->tool_choice != CARAT_TOOLS_NONE;
    const struct special_tokens *s = &x->specials;
    if (has_calls && (s->call_open == CARAT_TOKEN_NONE || s->call_close == CARAT_TOKEN_NONE ||
                      s->quote == CARAT_TOKEN_NONE)) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "grammar: this vocabulary lacks <|tool_call>, <tool_call|> or <|\"|>");
    }
    return 0;
}

// ------------------------------------------------------------------------------ text

static int draw_schema(struct program *p, const char *text, uint32_t *rule, struct carat_error *err)
{
    const struct schema_options options = {.name = "json_schema"};
    const size_t size = strlen(text);
    struct json_doc *doc = NULL;
    if (size > SCHEMA_SIZE_MAX) {
        return fail(err, CARAT_E_FULL, "json_schema: expected at most %zu bytes, found %zu",
                    SCHEMA_SIZE_MAX, size);
    }
    int rc = json_parse(&doc, text, size, "json_schema", err);
    if (rc == 0) {
        rc = schema_draw(p, json_root(doc), &options, rule, err);
    }
    json_free(doc);
    return rc;
}

static int choice_texts(struct dfa *out, const char *const *choices, size_t n,
                        struct carat_error *err)
{
    struct nfa nfa = {.err = err};
    size_t size = 0;
    for (size_t i = 0; i < n && i < CHOICES_MAX && size <= CHOICES_SIZE; i++) {
        size += choices[i] ? strlen(choices[i]) : CHOICES_SIZE + 1;
    }
    if (n == 0 || n > CHOICES_MAX || size > CHOICES_SIZE) {
        return fail(err, CARAT_E_ARGUMENT,
                    "choices: expected 1 to %zu texts of at most %zu bytes in all", CHOICES_MAX,
                    CHOICES_SIZE);
    }
    const uint32_t start = nfa_state(&nfa);
    const uint32_t end = nfa_state(&nfa);
    for (size_t i = 0; i < n && nfa.rc == 0; i++) {
        const struct slice text = utf8_trim(slice_of(choices[i]));
        uint32_t at = start;
        for (size_t k = 0; k < text.size && nfa.rc == 0;) {
            uint32_t c = 0;
            const int length = utf8_next(text.data + k, text.size - k, &c);
            if (length <= 0) {
                nfa.rc = fail(err, CARAT_E_FORMAT, "choices[%zu]: expected UTF-8", i);
                break;
            }
            const uint32_t next = nfa_state(&nfa);
            nfa_edge(&nfa, at, c, c, next);
            at = next;
            k += (size_t)length;
        }
        nfa_empty(&nfa, at, end);
    }
    const int rc = nfa_determine(out, &nfa, start, end, GRAMMAR_STATES_MAX, err);
    nfa_release(&nfa);
    return rc;
}

static int regex_texts(struct dfa *out, const char *expression, struct carat_error *err)
{
    const size_t size = strlen(expression);
    struct dfa all = {0};
    if (size > REGEX_SIZE_MAX) {
        return fail(err, CARAT_E_FULL, "regex: expected at most %zu bytes, found %zu",
                    REGEX_SIZE_MAX, size);
    }
    int rc = regex_compile(&all, slice_make(expression, size), false, "regex", err);
    // Readers never see white space around an answer.
    rc = rc ? rc : text_trimmed(out, &all, err);
    dfa_release(&all);
    return rc;
}

static int draw_texts_rule(struct program *p, const struct carat_grammar_options *o, uint32_t *rule,
                           struct carat_error *err)
{
    struct dfa texts = {0};
    struct nfa nfa = {.err = err};
    struct call_letters letters = {0};
    int rc = o->regex ? regex_texts(&texts, o->regex, err)
                      : choice_texts(&texts, o->choices, o->n_choices, err);
    if (rc == 0) {
        const uint32_t from = nfa_state(&nfa);
        const uint32_t to = nfa_state(&nfa);
        draw_texts(&nfa, &letters, &texts, TEXT_BARE, from, to);
        p->alone = (uint32_t)p->n_states;
        rc = program_rule(p, rule, err);
        rc = rc ? rc : program_draw(p, *rule, &nfa, from, to, &letters, err);
        p->alone_end = (uint32_t)p->n_states;
    }
    dfa_release(&texts);
    nfa_release(&nfa);
    mem_free(letters.items);
    return rc;
}

// ------------------------------------------------------------------------------ all of it

#define NO_RULE UINT32_MAX

static int draw(struct carat_grammar *g, const struct carat_grammar_options *o,
                struct carat_error *err)
{
    struct program *p = &g->program;
    uint32_t text = NO_RULE;
    uint32_t call = NO_RULE;
    int rc = 0;
    if (o->json_schema) {
        rc = draw_schema(p, o->json_schema, &text, err);
    } else if (o->regex || o->choices) {
        rc = draw_texts_rule(p, o, &text, err);
    }
    if (rc == 0 && o->tools && o->tool_choice != CARAT_TOOLS_NONE) {
        const char *only = o->tool_choice == CARAT_TOOLS_REQUIRED ? o->tool_name : NULL;
        rc = call_draw(p, o->tools, only, &call, err);
    }
    if (rc) {
        return rc;
    }
    program_link(p);
    g->text = text == NO_RULE ? NO_STATE_YET : p->rules[text];
    g->call = call == NO_RULE ? NO_STATE_YET : p->rules[call];
    if (g->call != NO_STATE_YET && p->states[g->call].need == NEED_DEAD) {
        g->call = NO_STATE_YET;
    }
    if (g->text != NO_STATE_YET && p->states[g->text].need == NEED_DEAD) {
        return fail(err, CARAT_E_ARGUMENT, "grammar: no text fits the %s",
                    o->json_schema ? "schema"
                    : o->regex     ? "regular expression, white space around it apart"
                                   : "choices");
    }
    if (g->call == NO_STATE_YET && o->tool_choice == CARAT_TOOLS_REQUIRED) {
        return fail(err, CARAT_E_ARGUMENT, "grammar: a call is required, but none fits the tools");
    }
    return 0;
}

// What takes long is better done now than between two tokens.
static int find_masks(struct carat_grammar *g, struct carat_error *err)
{
    struct masker k;
    const size_t first = g->program.n_shared;
    const size_t n = g->program.n_states - first;
    int rc = mask_cache_init(g->masks, first, n, MASKS_MAX, err);
    rc = rc ? rc : masker_init(&k, g->lexicon, &g->program, g->masks, err);
    if (rc == 0) {
        masker_warm(&k, first, n);
        masker_release(&k);
    }
    return rc;
}

static int grammar_new(struct carat_grammar **out, struct lexicon *lexicon,
                       const struct carat_grammar_options *options, struct carat_error *err)
{
    static const struct carat_grammar_options defaults = {0};
    const struct carat_grammar_options *o = options ? options : &defaults;
    struct carat_grammar *g = NULL;
    int rc = check_options(o, lexicon, err);
    if (rc) {
        goto out;
    }
    rc = CARAT_E_MEMORY;
    g = mem_new(sizeof(*g), err);
    if (!g) {
        goto out;
    }
    g->lexicon = lexicon;
    g->tool_choice = o->tool_choice;
    g->is_single_call = o->is_single_call;
    g->starts_in_thought = o->starts_in_thought;
    g->has_no_thoughts = o->has_no_thoughts;
    g->masks = mem_new(sizeof(*g->masks), err);
    if (!g->masks) {
        goto out;
    }
    rc = program_copy(&g->program, &lexicon->builtin, err);
    if (rc) {
        goto out;
    }
    rc = draw(g, o, err);
    if (rc) {
        goto out;
    }
    rc = find_masks(g, err);
    if (rc) {
        goto out;
    }
    *out = g;
    g = NULL;
out:
    carat_grammar_free(g);
    return rc;
}

static bool is_engine_stop(const void *engine, carat_token token)
{
    return engine_is_stop(engine, token);
}

int carat_grammar_new(struct carat_grammar **out, const struct carat_engine *engine,
                      const struct carat_grammar_options *options, struct carat_error *err)
{
    const int rc = lexicon_prepare(engine->lexicon, engine_tokenizer(engine),
                                   carat_engine_info(engine)->n_vocab, is_engine_stop, engine, err);
    return rc ? rc : grammar_new(out, engine->lexicon, options, err);
}

void carat_grammar_free(struct carat_grammar *g)
{
    if (!g) {
        return;
    }
    if (g->masks) {
        mask_cache_release(g->masks);
        mem_free(g->masks);
    }
    program_release(&g->program);
    mem_free(g);
}
