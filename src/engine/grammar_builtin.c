// SPDX-License-Identifier: Apache-2.0
// The rules of every grammar: strings, numbers, any value. Their states come first in each program
// and are numbered alike, so that one set of masks serves all.
#include "base/error.h"
#include "base/mem.h"
#include "engine/grammar_program.h"
#include "engine/grammar_regex.h"
#include "engine/grammar_text.h"

// More digits than a double or a 64-bit integer holds, and no more than that: endless digits are
// how small models get lost. Exponents stay inside of what a double can be.
#define INTEGER "-?(0|[1-9][0-9]{0,19})"
#define NUMBER  INTEGER "(\\.[0-9]{1,20})?([eE][+-]?([0-9]{1,2}|1[0-9]{2}|2[0-7][0-9]))?"

struct hand {
    struct program *p;
    int rc;
    struct carat_error *err;
};

static uint32_t state(struct hand *h)
{
    uint32_t s = 0;
    if (h->rc == 0) {
        h->rc = program_state(h->p, &s, h->err);
    }
    if (h->rc == 0) {
        h->p->states[s].is_counted = true;
    }
    return s;
}

static void edge(struct hand *h, uint8_t lo, uint8_t hi, enum edge_kind kind, uint32_t to)
{
    if (h->rc == 0) {
        const struct program_edge e = {.lo = lo, .hi = hi, .kind = (uint8_t)kind, .to = to};
        h->rc = program_edge(h->p, e, h->err);
    }
}

// The well-formed sequences of Unicode 15, table 3-7. `tails` are the states that are drawn by
// draw_tails, in its order.
static void draw_leads(struct hand *h, uint32_t tails)
{
    edge(h, 0xC2, 0xDF, EDGE_CHARACTER, tails);
    edge(h, 0xE0, 0xE0, EDGE_CHARACTER, tails + 3);
    edge(h, 0xE1, 0xEC, EDGE_CHARACTER, tails + 1);
    edge(h, 0xED, 0xED, EDGE_CHARACTER, tails + 4);
    edge(h, 0xEE, 0xEF, EDGE_CHARACTER, tails + 1);
    edge(h, 0xF0, 0xF0, EDGE_CHARACTER, tails + 5);
    edge(h, 0xF1, 0xF3, EDGE_CHARACTER, tails + 2);
    edge(h, 0xF4, 0xF4, EDGE_CHARACTER, tails + 6);
}

static void draw_tails(struct hand *h, uint32_t content)
{
    static const struct {
        uint8_t lo, hi;
        int8_t to; // -1: the character is whole
    } tails[] = {{0x80, 0xBF, -1}, {0x80, 0xBF, 0}, {0x80, 0xBF, 1}, {0xA0, 0xBF, 0},
                 {0x80, 0x9F, 0},  {0x90, 0xBF, 1}, {0x80, 0x8F, 1}};
    uint32_t first = 0;
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        const uint32_t s = state(h);
        first = i == 0 ? s : first;
        edge(h, tails[i].lo, tails[i].hi, EDGE_PLAIN,
             tails[i].to < 0 ? content : first + (uint32_t)tails[i].to);
    }
}

// Content, end, escapes (6 states), tails. An escape is never half of a surrogate pair: what needs
// one stands for itself.
static void draw_json_string(struct hand *h, uint32_t *rule)
{
    const uint32_t content = (uint32_t)h->p->n_states;
    const uint32_t end = content + 1;
    const uint32_t escaped = content + 2;
    *rule = state(h);
    edge(h, 0x20, 0x21, EDGE_CHARACTER, content);
    edge(h, '"', '"', EDGE_CLOSE, end);
    edge(h, 0x23, 0x5B, EDGE_CHARACTER, content);
    edge(h, '\\', '\\', EDGE_CHARACTER, escaped);
    edge(h, 0x5D, 0x7F, EDGE_CHARACTER, content);
    draw_leads(h, content + 8);
    state(h); // end
    if (h->rc == 0) {
        h->p->states[end].is_final = true;
    }
    state(h); // after the backslash
    static const char plain[] = "\"/\\bfnrt";
    for (const char *c = plain; *c; c++) {
        edge(h, (uint8_t)*c, (uint8_t)*c, EDGE_PLAIN, content);
    }
    edge(h, 'u', 'u', EDGE_PLAIN, escaped + 1);
    // The digits: the first, the second after D, the second after another, the third, the fourth.
    for (uint32_t i = 1; i <= 5; i++) {
        state(h);
        const uint32_t next = i == 1 ? escaped + 3 : i == 2 ? escaped + 4 : escaped + i + 1;
        const uint32_t to = i == 5 ? content : next;
        edge(h, '0', i == 2 ? '7' : '9', EDGE_PLAIN, to);
        if (i == 2) {
            continue;
        }
        if (i == 1) {
            edge(h, 'A', 'C', EDGE_PLAIN, to);
            edge(h, 'D', 'D', EDGE_PLAIN, escaped + 2);
            edge(h, 'E', 'F', EDGE_PLAIN, to);
            edge(h, 'a', 'c', EDGE_PLAIN, to);
            edge(h, 'd', 'd', EDGE_PLAIN, escaped + 2);
            edge(h, 'e', 'f', EDGE_PLAIN, to);
        } else {
            edge(h, 'A', 'F', EDGE_PLAIN, to);
            edge(h, 'a', 'f', EDGE_PLAIN, to);
        }
    }
    draw_tails(h, content);
}

// Five states that have read so much of the marker spelled out, end, tails. The marker is a token
// of its own; spelled out it would end the string for whoever reads the text, so it may not be.
static void draw_call_string(struct hand *h, uint32_t *rule)
{
    const uint32_t content = (uint32_t)h->p->n_states;
    const uint32_t end = content + 5;
    *rule = content;
    for (uint32_t i = 0; i < 5; i++) {
        const uint32_t s = state(h);
        const uint8_t wanted = (uint8_t)MARK[i];
        uint8_t next = 1; // no NUL
        for (uint32_t c = 1; c <= 0x80; c++) {
            const bool is_special = c == 0x80 || c == '<' || c == wanted;
            if (!is_special) {
                continue;
            }
            if (c > next) {
                edge(h, next, (uint8_t)(c - 1), EDGE_CHARACTER, content);
            }
            next = (uint8_t)(c + 1);
            if (c == 0x80) {
                break;
            }
            if (c == wanted && i < 4) {
                edge(h, wanted, wanted, EDGE_CHARACTER, content + i + 1);
            } else if (c == '<') {
                edge(h, '<', '<', EDGE_CHARACTER, content + 1);
            }
        }
        draw_leads(h, content + 6);
        if (h->rc == 0) {
            h->p->states[s].quote = end;
            h->p->states[s].quote_kind = EDGE_CLOSE;
        }
    }
    state(h);
    if (h->rc == 0) {
        h->p->states[end].is_final = true;
    }
    draw_tails(h, content);
}

static void draw_pattern(struct hand *h, uint32_t rule, const char *pattern)
{
    struct dfa texts = {0};
    struct nfa nfa = {.err = h->err};
    struct call_letters letters = {0};
    if (h->rc == 0) {
        h->rc = regex_compile(&texts, slice_of(pattern), false, "number", h->err);
    }
    if (h->rc == 0) {
        const uint32_t from = nfa_state(&nfa);
        const uint32_t to = nfa_state(&nfa);
        draw_texts(&nfa, &letters, &texts, TEXT_BARE, from, to);
        h->rc = program_draw(h->p, rule, &nfa, from, to, &letters, h->err);
    }
    dfa_release(&texts);
    nfa_release(&nfa);
}

static struct call_letter call(uint32_t rule, uint32_t min)
{
    return (struct call_letter){.rule = rule, .min = min, .max = COUNT_UNLIMITED};
}

static void draw_byte(struct nfa *n, uint32_t from, char c, uint32_t to)
{
    nfa_edge(n, from, (uint8_t)c, (uint8_t)c, to);
}

// A separator and the one space that may follow it in JSON.
static void draw_separator(struct nfa *n, uint32_t from, char c, bool is_json, uint32_t to)
{
    const uint32_t behind = nfa_state(n);
    draw_byte(n, from, c, behind);
    nfa_empty(n, behind, to);
    if (is_json) {
        draw_byte(n, behind, ' ', to);
    }
}

static void draw_value(struct hand *h, uint32_t rule, bool is_json)
{
    struct nfa n = {.err = h->err};
    struct call_letters letters = {0};
    const uint32_t from = nfa_state(&n);
    const uint32_t to = nfa_state(&n);
    const uint32_t string = nfa_state(&n);
    nfa_text(&n, from, "true", 4, to);
    nfa_text(&n, from, "false", 5, to);
    nfa_text(&n, from, "null", 4, to);
    draw_call(&n, &letters, from, call(RULE_NUMBER, 0), to);
    nfa_edge(&n, from, is_json ? '"' : LETTER_QUOTE, is_json ? '"' : LETTER_QUOTE, string);
    draw_call(&n, &letters, string, call(is_json ? RULE_JSON_STRING : RULE_CALL_STRING, 0), to);

    const uint32_t array = nfa_state(&n);
    const uint32_t item = nfa_state(&n);
    const uint32_t after_item = nfa_state(&n);
    draw_byte(&n, from, '[', array);
    draw_byte(&n, array, ']', to);
    nfa_empty(&n, array, item);
    draw_call(&n, &letters, item, call(rule, 0), after_item);
    draw_separator(&n, after_item, ',', is_json, item);
    draw_byte(&n, after_item, ']', to);

    const uint32_t object = nfa_state(&n);
    const uint32_t member = nfa_state(&n);
    const uint32_t after_key = nfa_state(&n);
    const uint32_t value = nfa_state(&n);
    const uint32_t after_value = nfa_state(&n);
    draw_byte(&n, from, '{', object);
    draw_byte(&n, object, '}', to);
    nfa_empty(&n, object, member);
    if (is_json) {
        const uint32_t key = nfa_state(&n);
        draw_byte(&n, member, '"', key);
        draw_call(&n, &letters, key, call(RULE_JSON_STRING, 0), after_key);
        draw_separator(&n, after_key, ':', is_json, value);
    } else {
        draw_call(&n, &letters, member, call(RULE_CALL_KEY, 0), value);
    }
    draw_call(&n, &letters, value, call(rule, 0), after_value);
    draw_separator(&n, after_value, ',', is_json, member);
    draw_byte(&n, after_value, '}', to);
    if (h->rc == 0) {
        h->rc = program_draw(h->p, rule, &n, from, to, &letters, h->err);
    }
    nfa_release(&n);
    mem_free(letters.items);
}

// Bare where that is plain, else marked. The colon belongs to it: where a rule may end after every
// byte, all that follows depends on who called.
static void draw_call_key(struct hand *h)
{
    struct nfa n = {.err = h->err};
    struct call_letters letters = {0};
    const uint32_t from = nfa_state(&n);
    const uint32_t to = nfa_state(&n);
    const uint32_t string = nfa_state(&n);
    const uint32_t colon = nfa_state(&n);
    struct dfa bare = {0};
    if (h->rc == 0) {
        h->rc = regex_compile(&bare, slice_of("[A-Za-z0-9_$@/.\\-\\u00A1-\\u1FFF\\u2C00-\\uD7FF]+"),
                              false, "key", h->err);
    }
    draw_texts(&n, &letters, &bare, TEXT_BARE, from, colon);
    nfa_edge(&n, from, LETTER_QUOTE, LETTER_QUOTE, string);
    draw_call(&n, &letters, string, call(RULE_CALL_STRING, 1), colon);
    draw_byte(&n, colon, ':', to);
    if (h->rc == 0) {
        h->rc = program_draw(h->p, RULE_CALL_KEY, &n, from, to, &letters, h->err);
    }
    dfa_release(&bare);
    nfa_release(&n);
    mem_free(letters.items);
}

int program_builtin(struct program *p, struct carat_error *err)
{
    struct hand h = {.p = p, .err = err};
    for (uint32_t i = 0; i < N_BUILTIN_RULES && h.rc == 0; i++) {
        uint32_t rule = 0;
        h.rc = program_rule(p, &rule, err);
    }
    if (h.rc) {
        return h.rc;
    }
    draw_json_string(&h, &p->rules[RULE_JSON_STRING]);
    draw_call_string(&h, &p->rules[RULE_CALL_STRING]);
    draw_pattern(&h, RULE_INTEGER, INTEGER);
    draw_pattern(&h, RULE_NUMBER, NUMBER);
    draw_value(&h, RULE_JSON_VALUE, true);
    draw_value(&h, RULE_CALL_VALUE, false);
    draw_call_key(&h);
    p->n_shared = p->n_states;
    return h.rc;
}
