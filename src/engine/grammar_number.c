// SPDX-License-Identifier: Apache-2.0
// A bound becomes a regular expression over digits: longer numbers are greater, of equally long
// ones the first digit that differs decides, and so after the point. Both bounds and the multiple
// are intersected with the form of a number.
#include "engine/grammar_number.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/grammar_regex.h"

#define DIGITS_MAX    20
#define MULTIPLES_MAX 12000u
#define WHOLE         "(0|[1-9][0-9]{0,19})"
#define FRACTION      "(\\.[0-9]{1,20})?"

// |value| = whole.fraction; no zeros in front of the whole part but a single one, none at the end
// of the fraction.
struct decimal {
    bool is_negative;
    char whole[DIGITS_MAX + 2];
    char fraction[DIGITS_MAX + 2];
};

// ------------------------------------------------------------------------------ reading

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// Digits and the place of the point among them; false when there are too many.
static bool read_digits(struct slice text, char *digits, size_t *n, long *point, bool *is_negative)
{
    size_t i = 0;
    bool has_point = false;
    *n = 0;
    *point = 0;
    *is_negative = text.size > 0 && text.data[0] == '-';
    for (i = *is_negative; i < text.size && (is_digit(text.data[i]) || text.data[i] == '.'); i++) {
        if (text.data[i] == '.') {
            has_point = true;
            continue;
        }
        *point += !has_point;
        if (*n == 0 && text.data[i] == '0') { // a leading zero
            *point -= 1;
            continue;
        }
        if (*n == 2 * DIGITS_MAX) {
            return false;
        }
        digits[(*n)++] = text.data[i];
    }
    if (i < text.size) { // e
        long exponent = 0;
        i++;
        const bool is_minus = i < text.size && text.data[i] == '-';
        for (i += i < text.size && !is_digit(text.data[i]); i < text.size; i++) {
            exponent = exponent > 1000 ? exponent : exponent * 10 + (text.data[i] - '0');
        }
        *point += is_minus ? -exponent : exponent;
    }
    while (*n > 0 && digits[*n - 1] == '0') {
        (*n)--;
    }
    return true;
}

enum reading { READ_RIGHT, READ_HUGE, READ_FINE };

static enum reading read_decimal(struct decimal *out, struct slice text)
{
    char digits[2 * DIGITS_MAX];
    size_t n = 0;
    long point = 0;
    *out = (struct decimal){0};
    if (!read_digits(text, digits, &n, &point, &out->is_negative)) {
        return READ_FINE;
    }
    if (n == 0) {
        out->is_negative = false;
        out->whole[0] = '0';
        return READ_RIGHT;
    }
    if (point > DIGITS_MAX) {
        return READ_HUGE;
    }
    if ((long)n - point > DIGITS_MAX) {
        return READ_FINE;
    }
    size_t n_whole = 0;
    size_t n_fraction = 0;
    for (long i = 0; i < point; i++) {
        out->whole[n_whole++] = i < (long)n ? digits[i] : '0';
    }
    if (n_whole == 0) {
        out->whole[0] = '0';
    }
    for (long i = point; i < (long)n; i++) {
        out->fraction[n_fraction++] = i < 0 ? '0' : digits[i];
    }
    return READ_RIGHT;
}

// ------------------------------------------------------------------------------ comparing

// Alternatives of one expression; each begins with a bar.
static void add_digit_between(struct buf *b, int lo, int hi)
{
    buf_addf(b, "[%c-%c]", '0' + lo, '0' + hi);
}

// Numbers without a sign that are at least d, or more than it.
static void add_at_least(struct buf *b, const struct decimal *d, bool is_strict, bool is_integer)
{
    const char *fraction = is_integer ? "" : FRACTION;
    const size_t n = strlen(d->whole);
    const size_t k = strlen(d->fraction);
    if (n < DIGITS_MAX) {
        buf_addf(b, "|[1-9][0-9]{%zu,19}%s", n, fraction);
    }
    for (size_t i = 0; i < n; i++) {
        if (d->whole[i] < '9') {
            buf_addf(b, "|%.*s", (int)i, d->whole);
            add_digit_between(b, d->whole[i] - '0' + 1, 9);
            buf_addf(b, "[0-9]{%zu}%s", n - i - 1, fraction);
        }
    }
    if (is_integer) {
        if (k == 0 && !is_strict) {
            buf_addf(b, "|%s", d->whole);
        }
        return;
    }
    if (k == 0 && !is_strict) {
        buf_addf(b, "|%s%s", d->whole, fraction);
        return;
    }
    for (size_t i = 0; i < k; i++) {
        if (d->fraction[i] < '9') {
            buf_addf(b, "|%s\\.%.*s", d->whole, (int)i, d->fraction);
            add_digit_between(b, d->fraction[i] - '0' + 1, 9);
            buf_adds(b, "[0-9]{0,20}");
        }
    }
    buf_addf(b, "|%s\\.%s%s", d->whole, d->fraction,
             is_strict ? "0{0,20}[1-9][0-9]{0,20}" : "[0-9]{0,20}");
}

// At most d, or less than it.
static void add_at_most(struct buf *b, const struct decimal *d, bool is_strict, bool is_integer)
{
    const char *fraction = is_integer ? "" : FRACTION;
    const size_t n = strlen(d->whole);
    const size_t k = strlen(d->fraction);
    if (n > 1) {
        buf_addf(b, "|(0|[1-9][0-9]{0,%zu})%s", n - 2, fraction);
    }
    for (size_t i = 0; i < n; i++) {
        const int least = i == 0 && n > 1 ? 1 : 0;
        if (d->whole[i] - '0' > least) {
            buf_addf(b, "|%.*s", (int)i, d->whole);
            add_digit_between(b, least, d->whole[i] - '0' - 1);
            buf_addf(b, "[0-9]{%zu}%s", n - i - 1, fraction);
        }
    }
    if (k > 0 || !is_strict) {
        buf_addf(b, "|%s", d->whole);
    }
    if (is_integer) {
        return;
    }
    for (size_t i = 0; i < k; i++) {
        if (d->fraction[i] > '0') {
            buf_addf(b, "|%s\\.%.*s", d->whole, (int)i, d->fraction);
            add_digit_between(b, 0, d->fraction[i] - '0' - 1);
            buf_adds(b, "[0-9]{0,20}");
        }
        if (i > 0) {
            buf_addf(b, "|%s\\.%.*s", d->whole, (int)i, d->fraction);
        }
    }
    if (!is_strict) {
        buf_addf(b, "|%s\\.%s0{0,20}", d->whole, d->fraction);
    }
}

static void add_any(struct buf *b, bool is_integer)
{
    buf_addf(b, "|%s%s", WHOLE, is_integer ? "" : FRACTION);
}

// All numbers on the right side of the bound, signs included.
static void add_bound(struct buf *b, const struct decimal *d, bool is_min, bool is_strict,
                      bool is_integer)
{
    const bool is_zero = !strcmp(d->whole, "0") && !d->fraction[0];
    buf_adds(b, "([]"); // never; the others follow with their bars
    if (!d->is_negative) {
        (is_min ? add_at_least : add_at_most)(b, d, is_strict, is_integer);
    } else if (is_min) {
        add_any(b, is_integer);
    }
    buf_adds(b, ")|-([]");
    if (d->is_negative) {
        (is_min ? add_at_most : add_at_least)(b, d, is_strict, is_integer);
    } else if (!is_min && is_zero && is_strict) {
        add_at_least(b, d, true, is_integer);
    } else if (!is_min) {
        add_any(b, is_integer);
    }
    buf_adds(b, ")");
}

// ------------------------------------------------------------------------------ multiples

struct multiple {
    uint32_t m; // the multiple is m / 10^k
    uint32_t k;
};

static bool read_multiple(struct multiple *out, const struct decimal *d)
{
    uint64_t m = 0;
    out->k = (uint32_t)strlen(d->fraction);
    for (const char *c = d->whole; *c && m <= MULTIPLES_MAX; c++) {
        m = m * 10 + (uint64_t)(*c - '0');
    }
    for (const char *c = d->fraction; *c && m <= MULTIPLES_MAX; c++) {
        m = m * 10 + (uint64_t)(*c - '0');
    }
    out->m = (uint32_t)m;
    return m > 0 && m * (out->k + 2) <= MULTIPLES_MAX;
}

// State phase * m + rest: phase 0 before the point, i after i - 1 digits behind it.
static int draw_multiples(struct dfa *out, struct multiple x, struct carat_error *err)
{
    struct nfa nfa = {.err = err};
    const uint32_t n = x.m * (x.k + 2);
    for (uint32_t i = 0; i < n; i++) {
        nfa_state(&nfa);
    }
    const uint32_t start = nfa_state(&nfa);
    const uint32_t end = nfa_state(&nfa);
    nfa_empty(&nfa, start, 0);
    nfa_edge(&nfa, start, '-', '-', 0);
    for (uint32_t phase = 0; phase < x.k + 2; phase++) {
        const uint32_t n_behind = phase > 0 ? phase - 1 : 0;
        uint64_t scale = 1;
        for (uint32_t i = n_behind; i < x.k; i++) {
            scale = scale * 10 % x.m;
        }
        for (uint32_t rest = 0; rest < x.m && nfa.rc == 0; rest++) {
            const uint32_t from = phase * x.m + rest;
            const uint32_t next = phase > 0 ? phase + 1 : 0;
            if (rest * scale % x.m == 0) {
                nfa_empty(&nfa, from, end);
            }
            if (phase == 0) {
                nfa_edge(&nfa, from, '.', '.', x.m + rest);
            }
            if (n_behind == x.k && phase > 0) { // only zeros are left
                nfa_edge(&nfa, from, '0', '0', from);
                continue;
            }
            for (uint32_t digit = 0; digit < 10; digit++) {
                const uint32_t to = next * x.m + (rest * 10 + digit) % x.m;
                nfa_edge(&nfa, from, '0' + digit, '0' + digit, to);
            }
        }
    }
    const int rc = nfa_determine(out, &nfa, start, end, DFA_STATES_MAX, err);
    nfa_release(&nfa);
    return rc;
}

// ------------------------------------------------------------------------------ all of it

// *texts becomes what it was and `other` too; other is released.
static int narrow(struct dfa *texts, struct dfa *other, struct carat_error *err)
{
    struct dfa both = {0};
    const int rc = dfa_product(&both, texts, other, false, err);
    dfa_release(other);
    if (rc == 0) {
        dfa_release(texts);
        *texts = both;
    }
    return rc;
}

static int narrow_to_bound(struct dfa *texts, const struct number_bounds *b, bool is_min,
                           const char *where, struct carat_error *err)
{
    const struct slice text = is_min ? b->min : b->max;
    struct decimal d;
    if (text.size == 0) {
        return 0;
    }
    const enum reading reading = read_decimal(&d, text);
    if (reading == READ_HUGE && d.is_negative == is_min) {
        return 0; // no number has so many digits
    }
    if (reading != READ_RIGHT) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: %s: expected at most 20 digits before and behind the point, found %.*s",
                    where, is_min ? "minimum" : "maximum", (int)text.size, text.data);
    }
    struct buf expression = {0};
    struct dfa side = {0};
    add_bound(&expression, &d, is_min, is_min ? b->is_min_exclusive : b->is_max_exclusive,
              b->is_integer);
    int rc = buf_status(&expression, err);
    if (rc == 0) {
        const struct slice all = slice_make(buf_text(&expression), expression.size);
        rc = regex_compile(&side, all, false, where, err);
    }
    buf_release(&expression);
    return rc ? rc : narrow(texts, &side, err);
}

static int narrow_to_multiple(struct dfa *texts, struct slice text, const char *where,
                              struct carat_error *err)
{
    struct decimal d;
    struct multiple x;
    struct dfa multiples = {0};
    if (text.size == 0) {
        return 0;
    }
    if (read_decimal(&d, text) != READ_RIGHT || d.is_negative || !read_multiple(&x, &d)) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: multipleOf: expected a positive number of few digits, found %.*s", where,
                    (int)text.size, text.data);
    }
    const int rc = draw_multiples(&multiples, x, err);
    return rc ? rc : narrow(texts, &multiples, err);
}

int number_texts(struct dfa *out, const struct number_bounds *b, const char *where,
                 struct carat_error *err)
{
    struct dfa texts = {0};
    const char *form = b->is_integer ? "-?" WHOLE : "-?" WHOLE FRACTION;
    int rc = regex_compile(&texts, slice_of(form), false, where, err);
    rc = rc ? rc : narrow_to_bound(&texts, b, true, where, err);
    rc = rc ? rc : narrow_to_bound(&texts, b, false, where, err);
    rc = rc ? rc : narrow_to_multiple(&texts, b->multiple, where, err);
    if (rc) {
        dfa_release(&texts);
        return rc;
    }
    *out = texts;
    return 0;
}
