// SPDX-License-Identifier: Apache-2.0
// Random text on small vocabularies: never more tokens than bytes, the same text comes back, and
// the same tokens as from the plainest BPE there is, which looks through all pairs before every
// merge.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MARK      "\xE2\x96\x81"
#define NAIVE_MAX 160u // bytes: it takes the cube of it

// Single characters, then merges in the order of their rank. The last one mixes a newline with a
// letter, and only the second vocabulary has it.
static const char *const characters[] = {MARK, "a", "b", "c", "\n", "\xC3\xA9", "<", ">", "x"};
static const char *const merges[][2] = {
    {"\n", "\n"},      {"b", "c"},         {"a", "b"},      {MARK, "a"},        {"a", "a"},
    {"aa", "aa"},      {"a", "bc"},        {MARK "a", "b"}, {"ab", "c"},        {MARK, MARK},
    {MARK MARK, MARK}, {"\n\n", "\n\n"},   {"<", "x"},      {"\xC3\xA9", "aa"}, {"c", "c"},
    {"bc", "cc"},      {"\xC3\xA9", MARK}, {"a", "\n"},
};
static const char *const added[] = {"<x>", "<x><", "<a\n>"};
#define N_CHARACTERS (sizeof(characters) / sizeof(characters[0]))
#define N_MERGES     (sizeof(merges) / sizeof(merges[0]))
#define N_ADDED      (sizeof(added) / sizeof(added[0]))

struct vocabulary {
    struct tokenizer *tokenizer;
    size_t n_merges;
    carat_token left[N_MERGES], right[N_MERGES], result[N_MERGES];
};

static struct tokenizer *make_tokenizer(size_t n_merges)
{
    struct buf json = {0};
    unsigned id = 0;
    buf_adds(
        &json,
        "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" MARK
        "\"},\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{");
    for (; id < 256; id++) {
        buf_addf(&json, "\"<0x%02X>\":%u,", id, id);
    }
    for (size_t i = 0; i < N_CHARACTERS; i++) {
        buf_add_json(&json, characters[i], strlen(characters[i]));
        buf_addf(&json, ":%u,", id++);
    }
    for (size_t i = 0; i < n_merges; i++) {
        char text[32];
        const size_t left = strlen(merges[i][0]);
        const size_t right = strlen(merges[i][1]);
        memcpy(text, merges[i][0], left);
        memcpy(text + left, merges[i][1], right);
        buf_add_json(&json, text, left + right);
        buf_addf(&json, ":%u%s", id++, i + 1 < n_merges ? "," : "},\"merges\":[");
    }
    for (size_t i = 0; i < n_merges; i++) {
        buf_addc(&json, '[');
        buf_add_json(&json, merges[i][0], strlen(merges[i][0]));
        buf_addc(&json, ',');
        buf_add_json(&json, merges[i][1], strlen(merges[i][1]));
        buf_adds(&json, i + 1 < n_merges ? "]," : "]]},\"added_tokens\":[");
    }
    for (size_t i = 0; i < N_ADDED; i++) {
        buf_addf(&json, "{\"id\":%u,\"special\":true,\"content\":", id++);
        buf_add_json(&json, added[i], strlen(added[i]));
        buf_adds(&json, i + 1 < N_ADDED ? "}," : "}]}");
    }
    struct json_doc *doc = NULL;
    struct tokenizer *t = NULL;
    require(json_parse(&doc, json.data, json.size, "vocabulary", NULL) == 0);
    require(tokenizer_new_json(&t, doc, "vocabulary", NULL) == 0);
    json_free(doc);
    buf_release(&json);
    return t;
}

static carat_token find(const struct tokenizer *t, const char *left, const char *right)
{
    char text[32];
    const size_t n = strlen(left);
    memcpy(text, left, n);
    memcpy(text + n, right, strlen(right));
    return tokenizer_find(t, slice_make(text, n + strlen(right)));
}

static const struct vocabulary *vocabulary(size_t which)
{
    static struct vocabulary made[2];
    struct vocabulary *v = &made[which];
    if (!v->tokenizer) {
        v->n_merges = N_MERGES - 1 + which;
        v->tokenizer = make_tokenizer(v->n_merges);
        for (size_t i = 0; i < v->n_merges; i++) {
            v->left[i] = find(v->tokenizer, merges[i][0], "");
            v->right[i] = find(v->tokenizer, merges[i][1], "");
            v->result[i] = find(v->tokenizer, merges[i][0], merges[i][1]);
            require(v->result[i] != CARAT_TOKEN_NONE);
        }
    }
    return v;
}

static void forget_vocabularies(void)
{
    tokenizer_free(((struct vocabulary *)(uintptr_t)vocabulary(0))->tokenizer);
    tokenizer_free(((struct vocabulary *)(uintptr_t)vocabulary(1))->tokenizer);
}

static size_t naive_symbols(const struct vocabulary *v, carat_token *out, struct slice text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t character = 0;
        const int length = utf8_next(text.data + i, text.size - i, &character);
        size_t taken = length > 0 ? (size_t)length : 1;
        const struct slice s = slice_make(text.data + i, taken);
        carat_token id = CARAT_TOKEN_NONE;
        if (length > 0) {
            id = slice_is(s, " ") ? tokenizer_find(v->tokenizer, slice_of(MARK))
                                  : tokenizer_find(v->tokenizer, s);
        }
        for (size_t k = 0; k < taken && id == CARAT_TOKEN_NONE; k++) {
            out[n++] = (uint8_t)s.data[k]; // byte tokens have the first ids
        }
        if (id != CARAT_TOKEN_NONE) {
            out[n++] = id;
        }
        i += taken;
    }
    return n;
}

static size_t naive_encode(const struct vocabulary *v, carat_token *tokens, struct slice text)
{
    size_t n = naive_symbols(v, tokens, text);
    for (;;) {
        size_t best = v->n_merges;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            for (size_t rank = 0; rank < best; rank++) {
                if (tokens[i] == v->left[rank] && tokens[i + 1] == v->right[rank]) {
                    best = rank;
                    at = i;
                }
            }
        }
        if (best == v->n_merges) {
            return n;
        }
        tokens[at] = v->result[best];
        memmove(&tokens[at + 1], &tokens[at + 2], (n - at - 2) * sizeof(*tokens));
        n--;
    }
}

static void check_naive(const struct vocabulary *v, struct slice text)
{
    carat_token expected[NAIVE_MAX];
    struct token_list found = {0};
    const size_t n = naive_encode(v, expected, text);
    require(tokenizer_encode(v->tokenizer, text, false, &found, NULL) == 0);
    require(found.count == n);
    require(n == 0 || memcmp(found.tokens, expected, n * sizeof(*expected)) == 0);
    token_list_release(&found);
}

// The text with U+2581 as a space is what the tokens' bytes make.
static void check_round_trip(const struct vocabulary *v, struct slice text, bool parses_special)
{
    struct token_list tokens = {0};
    require(tokenizer_encode(v->tokenizer, text, parses_special, &tokens, NULL) == 0);
    require(tokens.count <= text.size);
    size_t at = 0;
    struct buf shown = {0};
    struct utf8_stream stream = {0};
    for (size_t i = 0; i < tokens.count; i++) {
        const struct slice s = tokenizer_text(v->tokenizer, tokens.tokens[i]);
        require(s.size > 0);
        require(parses_special || !tokenizer_is_special(v->tokenizer, tokens.tokens[i]));
        for (size_t k = 0; k < s.size; k++) {
            const bool is_mark = text.size - at >= 3 && memcmp(text.data + at, MARK, 3) == 0;
            require(s.data[k] == (is_mark ? ' ' : text.data[at]));
            at += is_mark ? 3 : 1;
        }
        utf8_stream_feed(&stream, s, &shown);
    }
    require(at == text.size);
    utf8_stream_flush(&stream, &shown);
    require(utf8_is_valid(buf_text(&shown), shown.size));
    buf_release(&shown);
    token_list_release(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_registered;
    if (!is_registered) {
        is_registered = true;
        require(atexit(forget_vocabularies) == 0);
    }
    const struct slice text = slice_make((const char *)data, size);
    for (size_t which = 0; which < 2; which++) {
        const struct vocabulary *v = vocabulary(which);
        check_round_trip(v, text, false);
        check_round_trip(v, text, true);
        check_naive(v, slice_make(text.data, size < NAIVE_MAX ? size : NAIVE_MAX));
    }
    return 0;
}
