// SPDX-License-Identifier: Apache-2.0
// Stop strings, each followed by its own matcher (Knuth, Morris and Pratt 1977): the time per byte
// does not depend on what the text looks like.
#include "chat/stops.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

struct stop_string {
    char *text;
    size_t size;
    size_t *fallbacks; // [size]: after i + 1 matched bytes, the longest shorter match
    size_t matched;
};

static void find_fallbacks(struct stop_string *s)
{
    size_t k = 0;
    for (size_t i = 1; i < s->size; i++) {
        while (k && s->text[i] != s->text[k]) {
            k = s->fallbacks[k - 1];
        }
        k += s->text[i] == s->text[k];
        s->fallbacks[i] = k;
    }
}

static int init_string(struct stop_string *s, const char *text, size_t index, size_t size_max,
                       struct carat_error *err)
{
    size_t size = text ? strlen(text) : 0;
    if (!size || size > size_max) {
        return fail(err, CARAT_E_ARGUMENT, "stop string %zu: expected 1 to %zu bytes, found %zu",
                    index, size_max, size);
    }
    if (!utf8_is_valid(text, size)) {
        return fail(err, CARAT_E_ARGUMENT, "stop string %zu is not UTF-8", index);
    }
    s->text = mem_strndup(text, size, err);
    s->fallbacks = mem_new_array(size, sizeof(*s->fallbacks), err);
    if (!s->text || !s->fallbacks) {
        return CARAT_E_MEMORY;
    }
    s->size = size;
    find_fallbacks(s);
    return 0;
}

int stops_init(struct stops *s, const char *const *strings, size_t n, size_t n_max, size_t size_max,
               struct carat_error *err)
{
    *s = (struct stops){0};
    if (n > n_max) {
        return fail(err, CARAT_E_ARGUMENT, "expected at most %zu stop strings, found %zu", n_max,
                    n);
    }
    s->strings = mem_new_array(n, sizeof(*s->strings), err);
    if (!s->strings) {
        return CARAT_E_MEMORY;
    }
    for (s->n = 0; s->n < n;) {
        size_t i = s->n++;
        int rc = init_string(&s->strings[i], strings[i], i, size_max, err);
        if (rc) {
            stops_release(s);
            return rc;
        }
    }
    return 0;
}

// Whether the string is complete with this byte.
static bool match_byte(struct stop_string *s, char c)
{
    if (s->matched == s->size) {
        s->matched = s->fallbacks[s->size - 1];
    }
    while (s->matched && s->text[s->matched] != c) {
        s->matched = s->fallbacks[s->matched - 1];
    }
    s->matched += s->text[s->matched] == c;
    return s->matched == s->size;
}

static void release_held(struct stops *s, struct buf *out, size_t n_kept)
{
    size_t n_text = s->held.size - n_kept;
    if (n_text) {
        buf_add(out, s->held.data, n_text);
        memmove(s->held.data, s->held.data + n_text, n_kept);
        s->held.size = n_kept;
    }
}

size_t stops_feed(struct stops *s, struct slice character, struct buf *out)
{
    size_t longest = 0;
    size_t met = SIZE_MAX;
    if (!s->n) {
        buf_add_slice(out, character);
        return SIZE_MAX;
    }
    buf_add_slice(&s->held, character);
    if (s->held.has_failed) {
        out->has_failed = true;
        return SIZE_MAX;
    }
    for (size_t i = 0; i < s->n; i++) {
        bool is_complete = false;
        for (size_t k = 0; k < character.size; k++) {
            is_complete = match_byte(&s->strings[i], character.data[k]);
        }
        longest = s->strings[i].matched > longest ? s->strings[i].matched : longest;
        if (is_complete && (met == SIZE_MAX || s->strings[i].size > s->strings[met].size)) {
            met = i;
        }
    }
    release_held(s, out, met == SIZE_MAX ? longest : s->strings[met].size);
    if (met != SIZE_MAX) {
        buf_clear(&s->held);
    }
    return met;
}

void stops_flush(struct stops *s, struct buf *out)
{
    release_held(s, out, 0);
    for (size_t i = 0; i < s->n; i++) {
        s->strings[i].matched = 0;
    }
}

struct slice stops_text(const struct stops *s, size_t index)
{
    require(index < s->n);
    return slice_make(s->strings[index].text, s->strings[index].size);
}

void stops_release(struct stops *s)
{
    for (size_t i = 0; i < s->n; i++) {
        mem_free(s->strings[i].text);
        mem_free(s->strings[i].fallbacks);
    }
    mem_free(s->strings);
    buf_release(&s->held);
    *s = (struct stops){0};
}
