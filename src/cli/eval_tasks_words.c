// SPDX-License-Identifier: Apache-2.0
// The usual word error rate (Levenshtein distance over words). Only cells near the diagonal are
// computed: as many beside it as there are errors (Ukkonen: Algorithms for Approximate String
// Matching, 1985).
#include "cli/eval_tasks_words.h"

#include <string.h>

#include "base/map.h"
#include "base/mem.h"

#define APOSTROPHE  0x27
#define RIGHT_QUOTE 0x2019
#define FIRST_BAND  16
#define ONE_ERROR   ((uint64_t)1 << 32) // below it: how many errors are no substitutions
#define OUTSIDE     (UINT64_MAX / 2)

// ------------------------------------------------------------------------------ normal forms

static uint32_t take_character(struct slice text, size_t *at)
{
    uint32_t c = 0;
    int n = utf8_next(text.data + *at, text.size - *at, &c);
    size_t size = n == 0 ? text.size - *at : (size_t)(n < 0 ? -n : n);
    *at += size;
    return n > 0 ? c : 0xFFFD;
}

void words_add_small(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.size;) {
        buf_add_utf8(out, unicode_small(take_character(text, &i)));
    }
}

static bool is_gap(uint32_t c)
{
    return unicode_is_space(c) || unicode_is_mark(c);
}

void words_add(struct buf *out, struct slice text)
{
    bool has_words = false, is_inside = false;
    for (size_t i = 0; i < text.size;) {
        uint32_t c = take_character(text, &i);
        size_t next = i;
        if ((c == APOSTROPHE || c == RIGHT_QUOTE) && is_inside && next < text.size &&
            !is_gap(take_character(text, &next))) {
            buf_addc(out, '\'');
        } else if (is_gap(c)) {
            is_inside = false;
        } else {
            if (has_words && !is_inside) {
                buf_addc(out, ' ');
            }
            buf_add_utf8(out, unicode_small(c));
            has_words = is_inside = true;
        }
    }
}

// ------------------------------------------------------------------------------ the distance

// Words or characters as numbers.
struct units {
    uint32_t *items;
    size_t n;
};

// Cells (i, j) of one row i after the other, those with |i - j| <= band: cell j is at[j + band + 1
// - i], and on both sides is one that stays outside. Over at[k] is the cell (i - 1, j - 1), at[k +
// 1] is (i - 1, j), and at[k - 1] is (i, j - 1), which is computed already.
static uint64_t distance_in_band(uint64_t *at, const struct units *a, const struct units *b,
                                 size_t band)
{
    for (size_t k = 0; k < 2 * band + 3; k++) {
        at[k] = OUTSIDE;
    }
    for (size_t j = 0; j <= b->n && j <= band; j++) {
        at[j + band + 1] = (ONE_ERROR + 1) * j;
    }
    for (size_t i = 1; i <= a->n; i++) {
        size_t first = i > band ? i - band : 0;
        size_t last = i + band < b->n ? i + band : b->n;
        for (size_t j = first; j <= last; j++) {
            size_t k = j + band + 1 - i;
            uint64_t best = at[k + 1] + ONE_ERROR + 1;
            if (j > 0) {
                uint64_t over = at[k] + (a->items[i - 1] == b->items[j - 1] ? 0 : ONE_ERROR);
                uint64_t added = at[k - 1] + ONE_ERROR + 1;
                best = over < best ? over : best;
                best = added < best ? added : best;
            }
            at[k] = best;
        }
    }
    return at[b->n + band + 1 - a->n];
}

// What both begin and end with is the same in the best way, too.
static void trim_common(struct units *a, struct units *b)
{
    while (a->n > 0 && b->n > 0 && a->items[0] == b->items[0]) {
        a->items++;
        b->items++;
        a->n--;
        b->n--;
    }
    while (a->n > 0 && b->n > 0 && a->items[a->n - 1] == b->items[b->n - 1]) {
        a->n--;
        b->n--;
    }
}

static int count_errors(struct word_errors *out, struct units a, struct units b,
                        struct carat_error *err)
{
    struct word_errors e = {.n = a.n};
    trim_common(&a, &b);
    size_t most = a.n > b.n ? a.n : b.n;
    size_t band = most - (a.n < b.n ? a.n : b.n) + FIRST_BAND;
    uint64_t distance = 0;
    for (;;) {
        band = band < most ? band : most;
        uint64_t *cells = mem_new_array(2 * band + 3, sizeof(*cells), err);
        if (!cells) {
            return CARAT_E_MEMORY;
        }
        distance = distance_in_band(cells, &a, &b, band);
        mem_free(cells);
        if (band == most || distance / ONE_ERROR <= band) {
            break;
        }
        band *= 2;
    }
    uint64_t others = distance % ONE_ERROR;
    e.substituted = distance / ONE_ERROR - others;
    e.deleted = (others + a.n - b.n) / 2;
    e.inserted = others - e.deleted;
    *out = e;
    return 0;
}

// ------------------------------------------------------------------------------ words, characters

static int number_words(struct units *out, struct slice text, struct map *known,
                        struct carat_error *err)
{
    out->items = mem_new_array(text.size / 2 + 1, sizeof(*out->items), err);
    if (!out->items) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < text.size;) {
        const char *space = memchr(text.data + i, ' ', text.size - i);
        size_t size = space ? (size_t)(space - (text.data + i)) : text.size - i;
        uint32_t number = (uint32_t)known->count, existing = MAP_NONE;
        int rc = map_put(known, slice_make(text.data + i, size), number, &existing, err);
        if (rc) {
            return rc;
        }
        out->items[out->n++] = existing == MAP_NONE ? number : existing;
        i += size + 1;
    }
    return 0;
}

static int number_characters(struct units *out, struct slice text, struct map *unused,
                             struct carat_error *err)
{
    (void)unused;
    out->items = mem_new_array(text.size + 1, sizeof(*out->items), err);
    if (!out->items) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < text.size;) {
        out->items[out->n++] = take_character(text, &i);
    }
    return 0;
}

static int compare(struct word_errors *out, struct slice reference, struct slice answer,
                   int (*number)(struct units *, struct slice, struct map *, struct carat_error *),
                   struct carat_error *err)
{
    struct map known = {0};
    struct units a = {0}, b = {0};
    int rc = number(&a, reference, &known, err);
    rc = rc ? rc : number(&b, answer, &known, err);
    rc = rc ? rc : count_errors(out, a, b, err);
    mem_free(a.items);
    mem_free(b.items);
    map_release(&known);
    return rc;
}

int words_count_errors(struct word_errors *out, struct slice reference, struct slice answer,
                       struct carat_error *err)
{
    return compare(out, reference, answer, number_words, err);
}

int words_count_character_errors(struct word_errors *out, struct slice reference,
                                 struct slice answer, struct carat_error *err)
{
    return compare(out, reference, answer, number_characters, err);
}
