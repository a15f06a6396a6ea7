// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar_text.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

// ------------------------------------------------------------------------------ UTF-8

static bool is_all(const uint8_t *bytes, size_t n, uint8_t byte)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != byte) {
            return false;
        }
    }
    return true;
}

// Sequences of one length between two, which differ in no byte, or in the first, or later.
static void draw_between(struct nfa *nfa, uint32_t from, const uint8_t *lo, const uint8_t *hi,
                         size_t n, uint32_t to)
{
    static const uint8_t least[4] = {0x80, 0x80, 0x80, 0x80};
    static const uint8_t most[4] = {0xBF, 0xBF, 0xBF, 0xBF};
    if (n == 1) {
        nfa_edge(nfa, from, lo[0], hi[0], to);
        return;
    }
    uint8_t first = lo[0];
    uint8_t last = hi[0];
    if (first == last) {
        const uint32_t next = nfa_state(nfa);
        nfa_edge(nfa, from, first, first, next);
        draw_between(nfa, next, lo + 1, hi + 1, n - 1, to);
        return;
    }
    if (!is_all(lo + 1, n - 1, 0x80)) {
        const uint32_t next = nfa_state(nfa);
        nfa_edge(nfa, from, first, first, next);
        draw_between(nfa, next, lo + 1, most, n - 1, to);
        first++;
    }
    if (!is_all(hi + 1, n - 1, 0xBF)) {
        const uint32_t next = nfa_state(nfa);
        nfa_edge(nfa, from, last, last, next);
        draw_between(nfa, next, least, hi + 1, n - 1, to);
        last--;
    }
    if (first <= last) {
        const uint32_t next = nfa_state(nfa);
        nfa_edge(nfa, from, first, last, next);
        draw_between(nfa, next, least, most, n - 1, to);
    }
}

// Surrogates are left out: UTF-8 has none.
static void draw_utf8(struct nfa *nfa, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    static const uint32_t blocks[][2] = {
        {0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, LETTER_MAX}};
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++) {
        const uint32_t a = lo > blocks[i][0] ? lo : blocks[i][0];
        const uint32_t b = hi < blocks[i][1] ? hi : blocks[i][1];
        char first[4];
        char last[4];
        if (a <= b) {
            const size_t n = utf8_put(first, a);
            utf8_put(last, b);
            draw_between(nfa, from, (const uint8_t *)first, (const uint8_t *)last, n, to);
        }
    }
}

// ------------------------------------------------------------------------------ JSON

static bool is_escaped(uint32_t c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

static size_t escape(char out[8], uint32_t c)
{
    static const char plain[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    const char *at = c ? strchr(plain, (int)c) : NULL;
    if (at) {
        out[0] = '\\';
        out[1] = letters[at - plain];
        return 2;
    }
    snprintf(out, 8, "\\u%04x", (unsigned)c);
    return 6;
}

static void draw_json_range(struct nfa *nfa, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    char text[8];
    uint32_t begin = lo;
    for (uint32_t c = lo; c <= hi && c <= '\\'; c++) {
        if (is_escaped(c)) {
            if (begin < c) {
                draw_utf8(nfa, from, begin, c - 1, to);
            }
            const size_t n = escape(text, c);
            nfa_text(nfa, from, text, n, to);
            begin = c + 1;
        }
    }
    if (begin <= hi) {
        draw_utf8(nfa, from, begin, hi, to);
    }
}

// ------------------------------------------------------------------------------ texts

static void draw_end(struct nfa *nfa, enum text_form form, uint32_t from, uint32_t to)
{
    if (form == TEXT_BARE) {
        nfa_empty(nfa, from, to);
    } else {
        const uint32_t letter = form == TEXT_JSON ? '"' : LETTER_QUOTE;
        nfa_edge(nfa, from, letter, letter, to);
    }
}

void draw_texts(struct nfa *nfa, struct call_letters *letters, const struct dfa *texts,
                enum text_form form, uint32_t from, uint32_t to)
{
    const uint32_t first = (uint32_t)nfa->n_states;
    for (size_t i = 0; i < texts->n_states; i++) {
        nfa_state(nfa);
    }
    nfa_empty(nfa, from, first);
    for (uint32_t i = 0; i < texts->n_states && nfa->rc == 0; i++) {
        const struct dfa_state *s = &texts->states[i];
        if (s->is_free && form != TEXT_BARE) { // shared by all grammars
            const struct call_letter call = {.rule = form == TEXT_JSON ? RULE_JSON_STRING
                                                                       : RULE_CALL_STRING,
                                             .max = COUNT_UNLIMITED};
            draw_call(nfa, letters, first + i, call, to);
            continue;
        }
        for (size_t k = 0; k < s->n_edges; k++) {
            const struct dfa_edge e = texts->edges[s->edge + k];
            if (form == TEXT_JSON) {
                draw_json_range(nfa, first + i, e.lo, e.hi, first + e.to);
            } else {
                draw_utf8(nfa, first + i, e.lo, e.hi, first + e.to);
            }
        }
        if (s->is_final) {
            draw_end(nfa, form, first + i, to);
        }
    }
}

static bool contains(struct slice text, struct slice part)
{
    for (size_t i = 0; i + part.size <= text.size; i++) {
        if (!memcmp(text.data + i, part.data, part.size)) {
            return true;
        }
    }
    return false;
}

bool draw_text(struct nfa *nfa, struct slice text, enum text_form form, uint32_t from, uint32_t to)
{
    if (form == TEXT_MARKED && contains(text, slice_of(MARK))) {
        return false;
    }
    const uint32_t end = nfa_state(nfa);
    if (form != TEXT_JSON) {
        nfa_text(nfa, from, text.data, text.size, end);
    } else {
        for (size_t i = 0; i < text.size; i++) {
            char escaped[8];
            const uint32_t next = nfa_state(nfa);
            const uint8_t c = (uint8_t)text.data[i];
            if (is_escaped(c)) {
                nfa_text(nfa, from, escaped, escape(escaped, c), next);
            } else {
                nfa_edge(nfa, from, c, c, next);
            }
            from = next;
        }
        nfa_empty(nfa, from, end);
    }
    draw_end(nfa, form, end, to);
    return true;
}

// ------------------------------------------------------------------------------ sets of texts

static int end_dfa(struct dfa *out, struct nfa *nfa, uint32_t start, uint32_t end)
{
    const int rc = nfa_determine(out, nfa, start, end, DFA_STATES_MAX, nfa->err);
    nfa_release(nfa);
    return rc;
}

int text_any(struct dfa *out, struct carat_error *err)
{
    struct nfa nfa = {.err = err};
    const uint32_t state = nfa_state(&nfa);
    nfa_edge(&nfa, state, 0, LETTER_MAX, state);
    const int rc = end_dfa(out, &nfa, state, state);
    if (rc == 0) {
        dfa_mark_free(out);
    }
    return rc;
}

static int product(struct dfa *out, const struct dfa *texts, struct dfa *other, bool is_minus,
                   struct carat_error *err)
{
    const int rc = dfa_product(out, texts, other, is_minus, err);
    dfa_release(other);
    return rc;
}

// State i has read so many characters of the marker. From the first, whatever may follow in a
// marked string follows: that is what is_free means here.
int text_unmarked(struct dfa *out, const struct dfa *texts, struct carat_error *err)
{
    struct nfa nfa = {.err = err};
    uint32_t states[5];
    for (size_t i = 0; i < 5; i++) {
        states[i] = nfa_state(&nfa);
    }
    const uint32_t end = nfa_state(&nfa);
    for (size_t i = 0; i < 5; i++) {
        const uint32_t wanted = (uint8_t)MARK[i];
        nfa_empty(&nfa, states[i], end);
        if (i < 4) {
            nfa_edge(&nfa, states[i], wanted, wanted, states[i + 1]);
        }
        // Of the others '<' begins it anew. '<' comes before '>' and '|', but not before '"'.
        uint32_t next = 0;
        const uint32_t lesser = wanted < '<' ? wanted : '<';
        const uint32_t greater = wanted < '<' ? '<' : wanted;
        const uint32_t cuts[] = {lesser, greater};
        for (size_t k = 0; k < 2; k++) {
            if (cuts[k] > next) {
                nfa_edge(&nfa, states[i], next, cuts[k] - 1, states[0]);
            }
            next = cuts[k] + 1;
        }
        nfa_edge(&nfa, states[i], next, LETTER_MAX, states[0]);
        if (i > 0) {
            nfa_edge(&nfa, states[i], '<', '<', states[1]);
        }
    }
    struct dfa unmarked = {0};
    int rc = end_dfa(&unmarked, &nfa, states[0], end);
    if (rc == 0) {
        for (size_t i = 0; i < unmarked.n_states; i++) {
            unmarked.states[i].is_free = i == 0;
        }
        rc = product(out, texts, &unmarked, false, err);
    }
    return rc;
}

int text_trimmed(struct dfa *out, const struct dfa *texts, struct carat_error *err)
{
    struct nfa nfa = {.err = err};
    const uint32_t start = nfa_state(&nfa);
    const uint32_t solid = nfa_state(&nfa); // after a character that is no space
    const uint32_t blank = nfa_state(&nfa);
    uint32_t begin = 0;
    for (uint32_t c = 0; c <= 0x3001; c++) {
        const bool is_space = unicode_is_space(c);
        if (is_space && c > begin) {
            nfa_edge(&nfa, start, begin, c - 1, solid);
            nfa_edge(&nfa, solid, begin, c - 1, solid);
            nfa_edge(&nfa, blank, begin, c - 1, solid);
        }
        if (is_space) {
            nfa_edge(&nfa, solid, c, c, blank);
            nfa_edge(&nfa, blank, c, c, blank);
            begin = c + 1;
        }
    }
    nfa_edge(&nfa, start, begin, LETTER_MAX, solid);
    nfa_edge(&nfa, solid, begin, LETTER_MAX, solid);
    nfa_edge(&nfa, blank, begin, LETTER_MAX, solid);
    const uint32_t end = nfa_state(&nfa);
    nfa_empty(&nfa, start, end);
    nfa_empty(&nfa, solid, end);
    struct dfa trimmed = {0};
    const int rc = end_dfa(&trimmed, &nfa, start, end);
    return rc ? rc : product(out, texts, &trimmed, false, err);
}

int text_bounded(struct dfa *out, const struct dfa *texts, uint32_t min, uint32_t max,
                 struct carat_error *err)
{
    struct nfa nfa = {.err = err};
    const uint32_t start = nfa_state(&nfa);
    const uint32_t end = nfa_state(&nfa);
    const uint32_t n = max == COUNT_UNLIMITED ? min : max;
    uint32_t at = start;
    for (uint32_t i = 0; i < n && nfa.rc == 0; i++) {
        const uint32_t next = nfa_state(&nfa);
        if (i >= min) {
            nfa_empty(&nfa, at, end);
        }
        nfa_edge(&nfa, at, 0, LETTER_MAX, next);
        at = next;
    }
    if (max == COUNT_UNLIMITED) {
        nfa_edge(&nfa, at, 0, LETTER_MAX, at);
    }
    nfa_empty(&nfa, at, end);
    struct dfa counted = {0};
    int rc = end_dfa(&counted, &nfa, start, end);
    if (rc == 0) {
        dfa_mark_free(&counted);
        rc = product(out, texts, &counted, false, err);
    }
    return rc;
}
