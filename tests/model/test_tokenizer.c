// SPDX-License-Identifier: Apache-2.0
// The tokenizer against recorded goldens and against small vocabularies written out here, where
// each rule can be seen; and that every wrong vocabulary is refused with what is wrong.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"
#include "model/tokenizer.h"

#define FIXTURE      TEST_DATA "/fixtures/tokenizer"
#define FIXTURE_GGUF TEST_DATA "/fixtures/quant/model-Q4_0.gguf"
#define DEMO_GGUF    TEST_DATA "/../../demo/carat-demo.gguf"
#define FILE_MAX     ((size_t)1 << 26)

// ------------------------------------------------------------------------------------ helpers

static struct tokenizer *open_json(const char *path)
{
    struct json_doc *doc = NULL;
    struct tokenizer *t = NULL;
    struct carat_error err = {0};
    if (json_parse_file(&doc, path, FILE_MAX, &err) || tokenizer_new_json(&t, doc, path, &err)) {
        fail_msg("%s", err.text);
    }
    json_free(doc);
    return t;
}

static struct tokenizer *open_gguf(const char *path)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct carat_error err = {0};
    if (gguf_open(&g, path, &err) || tokenizer_new_gguf(&t, g, &err)) {
        fail_msg("%s", err.text);
    }
    gguf_close(g);
    return t;
}

static struct token_list read_ids(const struct json_value *array)
{
    struct token_list list = {0};
    for (struct json_iter it = json_iter(array); json_next(&it);) {
        int64_t id = 0;
        assert_true(json_i64(it.value, &id));
        assert_int_equal(token_list_add(&list, (carat_token)id, NULL), 0);
    }
    return list;
}

static void expect_tokens(const struct tokenizer *t, struct slice text, bool parses_special,
                          const carat_token *expected, size_t n)
{
    struct token_list found = {0};
    struct carat_error err = {0};
    assert_int_equal(tokenizer_encode(t, text, parses_special, &found, &err), 0);
    for (size_t i = 0; i < n && i < found.count; i++) {
        if (found.tokens[i] != expected[i]) {
            fail_msg("\"%.*s\": token %zu: expected %d, found %d", (int)text.size, text.data, i,
                     expected[i], found.tokens[i]);
        }
    }
    assert_int_equal(found.count, n);
    assert_true(found.count <= text.size);
    token_list_release(&found);
}

static void expect_text(const struct tokenizer *t, const struct token_list *tokens,
                        bool skips_special, struct slice expected)
{
    struct buf found = {0};
    struct utf8_stream stream = {0};
    for (size_t i = 0; i < tokens->count; i++) {
        if (!skips_special || !tokenizer_is_special(t, tokens->tokens[i])) {
            utf8_stream_feed(&stream, tokenizer_text(t, tokens->tokens[i]), &found);
        }
    }
    utf8_stream_flush(&stream, &found);
    assert_int_equal(found.size, expected.size);
    if (expected.size > 0) {
        assert_memory_equal(found.data, expected.data, expected.size);
    }
    buf_release(&found);
}

// Calls check for each line of a file of JSON objects; returns how many there were.
static size_t for_each_row(const char *path,
                           void (*check)(const struct tokenizer *, const struct json_value *),
                           const struct tokenizer *t)
{
    struct buf file = {0};
    struct carat_error err = {0};
    if (os_read_file(&file, path, FILE_MAX, &err)) {
        fail_msg("%s", err.text);
    }
    size_t n = 0;
    for (size_t at = 0; at < file.size; n++) {
        const char *newline = memchr(file.data + at, '\n', file.size - at);
        const size_t size = newline ? (size_t)(newline - file.data) - at : file.size - at;
        struct json_doc *row = NULL;
        assert_int_equal(json_parse(&row, file.data + at, size, path, &err), 0);
        check(t, json_root(row));
        json_free(row);
        at += size + 1;
    }
    buf_release(&file);
    return n;
}

// ------------------------------------------------------------------------------------ goldens

static void check_fixture(struct tokenizer *t)
{
    struct json_doc *doc = NULL;
    assert_int_equal(json_parse_file(&doc, FIXTURE "/golden.json", FILE_MAX, NULL), 0);
    size_t n = 0;
    for (struct json_iter it = json_iter(json_at(doc, "cases")); json_next(&it); n++) {
        struct token_list ids = read_ids(json_get(it.value, "ids"));
        expect_tokens(t, json_string(json_get(it.value, "text")), true, ids.tokens, ids.count);
        expect_text(t, &ids, false, json_string(json_get(it.value, "decoded")));
        token_list_release(&ids);
    }
    assert_true(n > 5);
    json_free(doc);
    tokenizer_free(t);
}

static void test_fixture_from_tokenizer_json(void **state)
{
    (void)state;
    check_fixture(open_json(FIXTURE "/tokenizer.json"));
}

// The same vocabulary; here most control tokens are marked as ordinary ones.
static void test_fixture_from_gguf(void **state)
{
    (void)state;
    check_fixture(open_gguf(FIXTURE_GGUF));
}

static void check_demo_row(const struct tokenizer *t, const struct json_value *row)
{
    const struct slice text = json_string(json_get(row, "text"));
    const struct json_value *plain = json_get(row, "plain_ids");
    const struct json_value *skip = json_get(row, "detok_skip");
    struct token_list ids = read_ids(json_get(row, "ids"));
    struct token_list plain_ids = read_ids(plain ? plain : json_get(row, "ids"));
    expect_tokens(t, text, true, ids.tokens, ids.count);
    expect_tokens(t, text, false, plain_ids.tokens, plain_ids.count);
    expect_text(t, &ids, false, json_string(json_get(row, "detok")));
    expect_text(t, &ids, true, json_string(skip ? skip : json_get(row, "detok")));
    token_list_release(&ids);
    token_list_release(&plain_ids);
}

static void test_demo_vocabulary_against_the_reference(void **state)
{
    (void)state;
    struct tokenizer *t = open_gguf(DEMO_GGUF);
    assert_int_equal(for_each_row(TEST_DATA "/tokenizer/demo.jsonl", check_demo_row, t), 190);
    tokenizer_free(t);
}

static size_t hex_bytes(char *out, struct slice hex)
{
    for (size_t i = 0; i + 1 < hex.size; i += 2) {
        const char digits[3] = {hex.data[i], hex.data[i + 1], 0};
        out[i / 2] = (char)strtol(digits, NULL, 16);
    }
    return hex.size / 2;
}

static void check_stream_row(const struct tokenizer *t, const struct json_value *row)
{
    (void)t; // the pieces' bytes are in the row
    struct utf8_stream stream = {0};
    struct buf shown = {0};
    struct json_iter emit = json_iter(json_get(row, "emit"));
    for (struct json_iter it = json_iter(json_get(row, "pieces_hex")); json_next(&it);) {
        char bytes[256];
        assert_true(json_string(it.value).size <= 2 * sizeof(bytes));
        const size_t size = hex_bytes(bytes, json_string(it.value));
        buf_clear(&shown);
        utf8_stream_feed(&stream, slice_make(bytes, size), &shown);
        assert_true(json_next(&emit));
        assert_true(slice_equal(slice_make(shown.data, shown.size), json_string(emit.value)));
    }
    buf_clear(&shown);
    utf8_stream_flush(&stream, &shown);
    const struct slice flush = json_string(json_get(row, "flush"));
    assert_true(slice_equal(slice_make(shown.data, shown.size), flush));
    buf_release(&shown);
}

static void test_stream_holds_back_and_replaces_as_the_reference(void **state)
{
    (void)state;
    const size_t n = for_each_row(TEST_DATA "/io/detok_stream.jsonl", check_stream_row, NULL);
    assert_int_equal(n, 66);
}

static void test_stream_is_the_same_wherever_it_is_cut(void **state)
{
    (void)state;
    static const char text[] =
        "a\xC3\xA9\xE2\x98\x83\xF0\x9F\x98\x80\xFF\xED\xA0\x80z\xE2\x98q\xF0\x9F\xF4\x90\x80\x80"
        "\xC0\xAF\xED\xA0\xED\xA0\x41\x80\xE2\x98";
    struct utf8_stream stream = {0};
    struct buf whole = {0};
    utf8_stream_feed(&stream, slice_make(text, sizeof(text) - 1), &whole);
    utf8_stream_flush(&stream, &whole);
    assert_true(utf8_is_valid(whole.data, whole.size));
    for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
        struct buf parts = {0};
        for (size_t at = 0; at < sizeof(text) - 1; at += cut) {
            const size_t left = sizeof(text) - 1 - at;
            utf8_stream_feed(&stream, slice_make(text + at, left < cut ? left : cut), &parts);
        }
        utf8_stream_flush(&stream, &parts);
        assert_int_equal(parts.size, whole.size);
        assert_memory_equal(parts.data, whole.data, whole.size);
        buf_release(&parts);
    }
    buf_release(&whole);
}

// Both containers of one vocabulary say the same of every token.
static void test_gguf_and_json_agree(void **state)
{
    (void)state;
    struct tokenizer *a = open_json(FIXTURE "/tokenizer.json");
    struct tokenizer *b = open_gguf(FIXTURE_GGUF);
    assert_int_equal(tokenizer_n_tokens(a), 384);
    assert_int_equal(tokenizer_n_tokens(b), 384);
    size_t n_special = 0;
    for (carat_token i = 0; i < 384; i++) {
        const struct slice text = tokenizer_text(a, i);
        assert_true(slice_equal(text, tokenizer_text(b, i)));
        assert_int_equal(tokenizer_is_special(a, i), tokenizer_is_special(b, i));
        n_special += tokenizer_is_special(a, i);
        carat_token matched_a = CARAT_TOKEN_NONE;
        carat_token matched_b = CARAT_TOKEN_NONE;
        assert_int_equal(tokenizer_next_special(a, text, 0, &matched_a),
                         tokenizer_next_special(b, text, 0, &matched_b));
        assert_int_equal(matched_a, matched_b);
        assert_int_equal(matched_a != CARAT_TOKEN_NONE, tokenizer_is_special(a, i));
    }
    assert_int_equal(n_special, 22);
    assert_memory_equal(tokenizer_specials(a), tokenizer_specials(b),
                        sizeof(struct special_tokens));
    assert_int_equal(tokenizer_specials(a)->bos, 2);
    assert_int_equal(tokenizer_specials(a)->turn_open, 5);
    assert_int_equal(tokenizer_specials(a)->quote, 14);
    assert_int_equal(tokenizer_specials(a)->image, 16);
    assert_int_equal(tokenizer_specials(a)->image_close, 17);
    assert_int_equal(tokenizer_specials(a)->video, 21);
    assert_int_equal(tokenizer_specials(a)->tool_open, CARAT_TOKEN_NONE);
    tokenizer_free(a);
    tokenizer_free(b);
}

static void test_demo_roles(void **state)
{
    (void)state;
    struct tokenizer *t = open_gguf(DEMO_GGUF);
    const struct special_tokens *s = tokenizer_specials(t);
    assert_int_equal(s->tool_open, 5);
    assert_int_equal(s->call_close, 8);
    assert_int_equal(s->response_open, 9);
    assert_int_equal(s->turn_close, 16);
    assert_int_equal(s->audio, 3068);
    for (const carat_token *role = &s->bos; role <= &s->video; role++) {
        assert_in_range(*role, 0, 3071);
        assert_true(tokenizer_is_special(t, *role));
    }
    tokenizer_free(t);
}

// ------------------------------------------------------------------------------------ small
// vocabularies

// A tokenizer.json with the tokens <0x00>..<0xFF> = 0..255, U+2581 = 256, and what a test adds.
struct small {
    const char *vocab;  // `,"a":257`
    const char *merges; // `"a b",["ab","c"]`
    const char *added;  // `{"id":..,"content":..}`
};

static void write_small(struct buf *out, const struct small *s)
{
    buf_adds(out, "{\"added_tokens\":[");
    buf_adds(out, s->added ? s->added : "");
    buf_adds(out,
             "],\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
             "\"content\":\"\xE2\x96\x81\"},\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,"
             "\"vocab\":{");
    for (unsigned b = 0; b < 256; b++) {
        buf_addf(out, "\"<0x%02X>\":%u,", b, b);
    }
    buf_adds(out, "\"\xE2\x96\x81\":256");
    buf_adds(out, s->vocab ? s->vocab : "");
    buf_adds(out, "},\"merges\":[");
    buf_adds(out, s->merges ? s->merges : "");
    buf_adds(out, "]}}");
}

static int new_small(struct tokenizer **out, const struct buf *json, struct carat_error *err)
{
    struct json_doc *doc = NULL;
    int rc = json_parse(&doc, json->data, json->size, "small.json", err);
    if (rc == 0) {
        rc = tokenizer_new_json(out, doc, "small.json", err);
    }
    json_free(doc);
    return rc;
}

static struct tokenizer *make_small(const struct small *s)
{
    struct buf json = {0};
    struct tokenizer *t = NULL;
    struct carat_error err = {0};
    write_small(&json, s);
    if (new_small(&t, &json, &err)) {
        fail_msg("%s", err.text);
    }
    buf_release(&json);
    return t;
}

#define EXPECT(t, text, special, ...)                                                              \
    expect_tokens(t, slice_make(text, sizeof(text) - 1), special, (carat_token[]){__VA_ARGS__},    \
                  sizeof((carat_token[]){__VA_ARGS__}) / sizeof(carat_token))

static void test_lowest_rank_first_then_leftmost(void **state)
{
    (void)state;
    // b c has the lowest rank: a bc rather than ab c, although that is further left.
    const struct small s = {.vocab =
                                ",\"a\":257,\"b\":258,\"c\":259,\"ab\":260,\"bc\":261,\"aa\":262",
                            .merges = "\"b c\",[\"a\",\"b\"],\"a a\""};
    struct tokenizer *t = make_small(&s);
    EXPECT(t, "abc", false, 257, 261);
    EXPECT(t, "abab", false, 260, 260);
    EXPECT(t, "aaa", false, 262, 257); // leftmost of equal ranks
    EXPECT(t, "aab", false, 257, 260);
    tokenizer_free(t);
}

static void test_a_merge_makes_others_stale(void **state)
{
    (void)state;
    // In abcd, bc joins first; the entries for ab and cd must not be used any more, and a bc does.
    const struct small s = {
        .vocab =
            ",\"a\":257,\"b\":258,\"c\":259,\"d\":260,\"bc\":261,\"ab\":262,\"cd\":263,\"abc\":264",
        .merges = "\"b c\",\"a b\",\"c d\",\"a bc\""};
    struct tokenizer *t = make_small(&s);
    EXPECT(t, "abcd", false, 264, 260);
    EXPECT(t, "abd", false, 262, 260);
    EXPECT(t, "acd", false, 257, 263);
    tokenizer_free(t);
}

static void test_later_duplicates_count(void **state)
{
    (void)state;
    // a b has rank 0 and again 2: then b c, rank 1, comes first. The reference's maps are filled in
    // order, so the later entry stays. The same for the string "x", which is 260 and then 261.
    const struct small s = {
        .vocab = ",\"a\":257,\"b\":258,\"c\":259,\"x\":260,\"x\":261,\"ab\":262,\"bc\":263",
        .merges = "\"a b\",\"b c\",\"a b\""};
    struct tokenizer *t = make_small(&s);
    EXPECT(t, "abc", false, 257, 263);
    EXPECT(t, "x", false, 261);
    assert_true(slice_is(tokenizer_text(t, 260), "x"));
    tokenizer_free(t);
}

static void test_spaces_and_their_mark_are_one(void **state)
{
    (void)state;
    const struct small s = {.vocab = ",\"a\":257,\"\xE2\x96\x81\x61\":258",
                            .merges = "\"\xE2\x96\x81 a\""};
    struct tokenizer *t = make_small(&s);
    EXPECT(t, " a", false, 258);
    EXPECT(t, "\xE2\x96\x81\x61", false, 258);
    EXPECT(t, "  a", false, 256, 258);
    assert_true(slice_is(tokenizer_text(t, 258), " a"));
    assert_int_equal(tokenizer_find(t, slice_of("\xE2\x96\x81\x61")), 258);
    assert_int_equal(tokenizer_find(t, slice_of(" a")), CARAT_TOKEN_NONE);
    assert_int_equal(tokenizer_find(t, slice_of("<0x41>")), 0x41);
    assert_int_equal(tokenizer_find(t, slice_of("")), CARAT_TOKEN_NONE);
    tokenizer_free(t);
}

static void test_bytes_that_are_no_token_and_no_text(void **state)
{
    (void)state;
    const struct small s = {.vocab = ",\"\xC3\xA9\":257,\"<0xE2><0x98>\":258",
                            .merges = "\"<0xE2> <0x98>\""};
    struct tokenizer *t = make_small(&s);
    EXPECT(t, "A\r", false, 0x41, 0x0D);
    EXPECT(t, "\xC3\xA9", false, 257);
    // Byte tokens are symbols like others: a merge may join them, as in the reference.
    EXPECT(t, "\xE2\x98\x83", false, 258, 0x83);
    // Not UTF-8: stray and cut sequences, a surrogate, an overlong form, beyond the last plane.
    EXPECT(t, "\x80", false, 0x80);
    EXPECT(t, "\xC3", false, 0xC3);
    EXPECT(t, "\xC3z", false, 0xC3, 'z');
    EXPECT(t, "\xED\xA0\x80", false, 0xED, 0xA0, 0x80);
    EXPECT(t, "\xC0\xAF", false, 0xC0, 0xAF);
    EXPECT(t, "\xF4\x90\x80\x80", false, 0xF4, 0x90, 0x80, 0x80);
    expect_tokens(t, slice_make("a\0b", 3), false, (carat_token[]){'a', 0, 'b'}, 3);
    expect_tokens(t, slice_make(NULL, 0), true, NULL, 0);
    assert_int_equal(tokenizer_text(t, 0x80).size, 1);
    assert_memory_equal(tokenizer_text(t, 0x80).data, "\x80", 1);
    assert_int_equal(tokenizer_text(t, 259).size, 0);
    assert_int_equal(tokenizer_text(t, -1).size, 0);
    assert_false(tokenizer_is_special(t, -1));
    assert_false(tokenizer_is_special(t, 100000));
    tokenizer_free(t);
}

static void test_lines_are_not_cut_where_a_token_crosses_them(void **state)
{
    (void)state;
    const struct small crossing = {.vocab = ",\"a\":257,\"\\n\":258,\"a\\n\":259,\"a\\na\":260",
                                   .merges = "[\"a\",\"\\n\"],[\"a\\n\",\"a\"]"};
    struct tokenizer *t = make_small(&crossing);
    EXPECT(t, "a\naa\n", false, 260, 259);
    tokenizer_free(t);
    // No token for the newline: it becomes <0x0A>, and a merge may join that.
    const struct small bytes = {.vocab = ",\"a\":257,\"<0x0A>a\":258", .merges = "\"<0x0A> a\""};
    t = make_small(&bytes);
    EXPECT(t, "a\na\n", false, 257, 258, 10);
    tokenizer_free(t);
    const struct small safe = {.vocab = ",\"a\":257,\"\\n\":258,\"\\n\\n\":259,\"aa\":260",
                               .merges = "[\"\\n\",\"\\n\"],[\"a\",\"a\"]"};
    t = make_small(&safe);
    EXPECT(t, "aa\n\n\naa\na", false, 260, 259, 258, 260, 258, 257);
    tokenizer_free(t);
}

static void test_special_tokens_in_text(void **state)
{
    (void)state;
    const struct small s = {.vocab = ",\"<\":257,\"<a\":258,\"[x]\":261",
                            .merges = "\"< <0x61>\"",
                            .added = "{\"id\":259,\"content\":\"<ab>\",\"special\":true},"
                                     "{\"id\":260,\"content\":\"<ab><c>\",\"special\":true},"
                                     "{\"id\":261,\"content\":\"[x]\",\"special\":false},"
                                     "{\"id\":262,\"content\":\"A B\",\"special\":true},"
                                     "{\"id\":263,\"content\":\"\xE2\x98\x83\",\"special\":true},"
                                     "{\"id\":264,\"content\":\"<bos>\",\"special\":true}"};
    struct buf json = {0};
    write_small(&json, &s);
    struct tokenizer *t = NULL;
    struct carat_error err = {0};
    // "<a" is no merge of "<" and the byte token: their strings do not make it.
    assert_int_equal(new_small(&t, &json, &err), CARAT_E_FORMAT);
    buf_release(&json);

    struct small right = s;
    right.merges = "";
    t = make_small(&right);
    EXPECT(t, "z<ab>z", true, 'z', 259, 'z');
    EXPECT(t, "<ab><ab><c><ab><c", true, 259, 260, 259, 257,
           'c'); // the longest, then left to right
    EXPECT(t, "<ab", true, 257, 'a', 'b');
    EXPECT(t,
           "A BA\xE2\x96\x81"
           "B",
           true, 262, 'A', 256, 'B'); // matched as written
    EXPECT(t, "<ab>", false, 257, 'a', 'b', '>');
    // Plain text never becomes a special token, not even where it is a single character; tokens
    // that are added but not special are matched all the same.
    EXPECT(t, "\xE2\x98\x83[x]", false, 0xE2, 0x98, 0x83, 261);
    EXPECT(t, "\xE2\x98\x83[x]", true, 263, 261);
    assert_true(tokenizer_is_special(t, 259));
    assert_false(tokenizer_is_special(t, 261));
    assert_int_equal(tokenizer_specials(t)->bos, 264);
    assert_int_equal(tokenizer_specials(t)->eos, CARAT_TOKEN_NONE);

    const struct slice text = slice_of("..<ab>..<ab><c>.");
    carat_token token = CARAT_TOKEN_NONE;
    assert_int_equal(tokenizer_next_special(t, text, 0, &token), 2);
    assert_int_equal(token, 259);
    assert_int_equal(tokenizer_next_special(t, text, 3, &token), 8);
    assert_int_equal(token, 260);
    token = CARAT_TOKEN_NONE;
    assert_int_equal(tokenizer_next_special(t, text, 13, &token), text.size);
    assert_int_equal(token, CARAT_TOKEN_NONE);
    tokenizer_free(t);
}

// A million letters in one piece: as many merges as there can be, in three generations.
static void test_a_long_run(void **state)
{
    (void)state;
    enum { n = 1 << 20 };
    const struct small s = {.vocab = ",\"a\":257,\"aa\":258,\"aaaa\":259,\"aaaaaaaa\":260",
                            .merges = "\"a a\",\"aa aa\",\"aaaa aaaa\""};
    struct tokenizer *t = make_small(&s);
    char *text = malloc(n + 7);
    assert_non_null(text);
    memset(text, 'a', n + 7);
    struct token_list found = {0};
    assert_int_equal(tokenizer_encode(t, slice_make(text, n + 7), false, &found, NULL), 0);
    assert_int_equal(found.count, n / 8 + 3);
    for (size_t i = 0; i < n / 8; i++) {
        assert_int_equal(found.tokens[i], 260);
    }
    assert_int_equal(found.tokens[n / 8], 259);
    assert_int_equal(found.tokens[n / 8 + 1], 258);
    assert_int_equal(found.tokens[n / 8 + 2], 257);
    token_list_release(&found);
    free(text);
    tokenizer_free(t);
}

static void test_encoding_appends(void **state)
{
    (void)state;
    struct tokenizer *t = make_small(&(struct small){0});
    struct token_list list = {0};
    assert_int_equal(token_list_add(&list, 7, NULL), 0);
    assert_int_equal(tokenizer_encode(t, slice_of("ab"), false, &list, NULL), 0);
    assert_int_equal(list.count, 3);
    assert_int_equal(list.tokens[0], 7);
    assert_int_equal(list.tokens[2], 'b');
    // What is too long is refused before it is looked at.
    struct carat_error err = {0};
    const struct slice huge = slice_make("", TOKENIZER_TEXT_MAX + 1);
    assert_int_equal(tokenizer_encode(t, huge, false, &list, &err), CARAT_E_FULL);
    assert_int_equal(list.count, 3);
    token_list_release(&list);
    tokenizer_free(t);
}

// ------------------------------------------------------------------------------------ refusals

struct refusal {
    struct small small;
    const char *text; // part of the message
};

static void test_wrong_vocabularies_are_refused(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        // clang-format off
        {{.merges = "\"q <0x41>\""}, "model.merges: merge 0: expected a left token from the vocabulary, found \"q\""},
        {{.merges = "\"<0x41> q\""}, "merge 0: expected a right token from the vocabulary, found \"q\""},
        {{.merges = "\"<0x41> <0x42>\""}, "merge 0: expected the result from the vocabulary, found \"<0x41><0x42>\""},
        {{.merges = "\"ab\""}, "model.merges: expected pairs of tokens"},
        {{.merges = "[\"a\"]"}, "model.merges: expected pairs of tokens"},
        {{.merges = "[\"a\",\"b\",\"c\"]"}, "model.merges: expected pairs of tokens"},
        {{.merges = "[\"\",\"<0x41>\"]"}, "expected a left token"},
        {{.merges = "[\"<0x41>\",3]"}, "expected a right token"},
        {{.merges = "[\"<0x41>\",\"a b\"]"}, "expected a right token"},
        {{.merges = "7"}, "model.merges: expected pairs of tokens, found 7"},
        {{.vocab = ",\"a\":-1"}, "model.vocab: expected an id below"},
        {{.vocab = ",\"a\":2147483648"}, "model.vocab: expected an id below"},
        {{.vocab = ",\"a\":99999999999999999999"}, "model.vocab: expected an id below"},
        {{.vocab = ",\"a\":1.5"}, "model.vocab: expected an id below"},
        {{.vocab = ",\"a\":\"b\""}, "model.vocab: expected an id below"},
        {{.vocab = ",\"a\":5000"}, "model.vocab: expected an id below"},
        {{.vocab = ",\"a\":65"}, "vocabulary: expected one token with id 65, found \"<0x41>\" and \"a\""},
        {{.added = "{\"id\":257}"}, "added_tokens.content: expected a string"},
        {{.added = "{\"id\":257,\"content\":\"\"}"}, "added_tokens.content: expected a string that is not empty"},
        {{.added = "{\"content\":\"a\"}"}, "added_tokens.id: expected an id below"},
        {{.added = "{\"id\":65,\"content\":\"a\"}"}, "expected one token with id 65"},
        {{.added = "{\"id\":257,\"content\":\"a\",\"lstrip\":true}"}, "lstrip: expected false"},
        {{.added = "3"}, "added_tokens.content: expected a string"},
        // clang-format on
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf json = {0};
        struct tokenizer *t = NULL;
        struct carat_error err = {0};
        write_small(&json, &cases[i].small);
        assert_int_equal(new_small(&t, &json, &err), CARAT_E_FORMAT);
        assert_null(t);
        assert_non_null(strstr(err.text, "small.json"));
        if (!strstr(err.text, cases[i].text)) {
            fail_msg("expected \"%s\", found \"%s\"", cases[i].text, err.text);
        }
        buf_release(&json);
    }
}

// The right text with one part of it replaced by something else.
static void test_wrong_documents_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *right, *wrong, *text;
    } cases[] = {
        {"\"BPE\"", "\"Unigram\"", "model.type: expected \"BPE\", found \"Unigram\""},
        {"\"byte_fallback\":true", "\"byte_fallback\":false", "model.byte_fallback"},
        {"\"byte_fallback\":true", "\"byte_fallback\":true,\"ignore_merges\":true",
         "ignore_merges"},
        {"\"byte_fallback\":true", "\"byte_fallback\":true,\"end_of_word_suffix\":\"_\"",
         "end_of_word_suffix"},
        {"\"Replace\"", "\"NFC\"", "normalizer"},
        {"\"String\":\" \"", "\"String\":\"a\"", "normalizer"},
        {"\"content\":\"\xE2\x96\x81\"", "\"content\":\"_\"", "normalizer"},
        {"\"<0x41>\"", "\"<0x4g>\"", "expected a token for every byte, found no \"<0x41>\""},
        {"\"\xE2\x96\x81\":256", "\"_\":256", "expected the token U+2581"},
        {"\"vocab\"", "\"vocabulary\"", "model.vocab: expected an object"},
        {"\"merges\"", "\"merge\"", "model.merges: expected an array"},
        {"\"model\"", "\"mode\"", "model: expected an object"},
        {"\"added_tokens\":[", "\"added_tokens\":3,\"x\":[",
         "added_tokens: expected an array, found 3"},
    };
    struct buf right = {0};
    write_small(&right, &(struct small){0});
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *place = strstr(right.data, cases[i].right);
        assert_non_null(place);
        struct buf wrong = {0};
        buf_add(&wrong, right.data, (size_t)(place - right.data));
        buf_adds(&wrong, cases[i].wrong);
        buf_adds(&wrong, place + strlen(cases[i].right));
        struct tokenizer *t = NULL;
        struct carat_error err = {0};
        assert_int_equal(new_small(&t, &wrong, &err), CARAT_E_FORMAT);
        if (!strstr(err.text, cases[i].text)) {
            fail_msg("expected \"%s\", found \"%s\"", cases[i].text, err.text);
        }
        buf_release(&wrong);
    }
    buf_release(&right);
}

static void test_a_token_just_too_long(void **state)
{
    (void)state;
    for (size_t extra = 0; extra < 2; extra++) {
        struct buf vocab = {0};
        buf_adds(&vocab, ",\"");
        for (size_t i = 0; i < TOKENIZER_TOKEN_SIZE_MAX + extra; i++) {
            buf_addc(&vocab, 'a');
        }
        buf_adds(&vocab, "\":257");
        struct buf json = {0};
        write_small(&json, &(struct small){.vocab = buf_text(&vocab)});
        struct tokenizer *t = NULL;
        struct carat_error err = {0};
        const int rc = new_small(&t, &json, &err);
        assert_int_equal(rc, extra ? CARAT_E_FORMAT : 0);
        if (rc) {
            assert_non_null(strstr(err.text, "token 257: expected at most 4096 bytes, found 4097"));
        }
        tokenizer_free(t);
        buf_release(&json);
        buf_release(&vocab);
    }
}

// ------------------------------------------------------------------------------------ GGUF

// A GGUF file that is only a vocabulary.
struct small_gguf {
    const char *model;
    size_t n_tokens;   // byte tokens, U+2581, "a", "b", "ab", "<x>", "[y]": as many of them
    size_t n_types;    // 0: no such key
    int32_t last_type; // of the last token
    const char *merge; // NULL: no such key
    bool has_type_floats;
};

static void put_u32(struct buf *b, uint32_t x)
{
    const char bytes[4] = {(char)x, (char)(x >> 8), (char)(x >> 16), (char)(x >> 24)};
    buf_add(b, bytes, 4);
}

static void put_u64(struct buf *b, uint64_t x)
{
    put_u32(b, (uint32_t)x);
    put_u32(b, (uint32_t)(x >> 32));
}

static void put_string(struct buf *b, const char *text)
{
    put_u64(b, strlen(text));
    buf_adds(b, text);
}

static void put_array(struct buf *b, const char *key, enum gguf_type type, size_t n)
{
    put_string(b, key);
    put_u32(b, GGUF_ARRAY);
    put_u32(b, type);
    put_u64(b, n);
}

static void write_gguf(struct buf *b, const struct small_gguf *s)
{
    static const char *const texts[] = {"\xE2\x96\x81", "a", "b", "ab", "<x>", "[y]"};
    buf_adds(b, "GGUF");
    put_u32(b, 3);
    put_u64(b, 0);
    put_u64(b,
            (s->model ? 1 : 0) + (s->n_tokens ? 1 : 0) + (s->n_types ? 1 : 0) + (s->merge ? 1 : 0));
    if (s->model) {
        put_string(b, "tokenizer.ggml.model");
        put_u32(b, GGUF_STRING);
        put_string(b, s->model);
    }
    if (s->n_tokens) {
        put_array(b, "tokenizer.ggml.tokens", GGUF_STRING, s->n_tokens);
        for (unsigned i = 0; i < s->n_tokens; i++) {
            char text[8];
            snprintf(text, sizeof(text), "<0x%02X>", i & 255);
            put_string(b, i < 256 ? text : texts[i - 256]);
        }
    }
    if (s->n_types) {
        put_array(b, "tokenizer.ggml.token_type", s->has_type_floats ? GGUF_F32 : GGUF_I32,
                  s->n_types);
        for (size_t i = 0; i < s->n_types; i++) {
            put_u32(b, i + 1 == s->n_types ? (uint32_t)s->last_type : i == 260 ? 3 : 1);
        }
    }
    if (s->merge) {
        put_array(b, "tokenizer.ggml.merges", GGUF_STRING, 1);
        put_string(b, s->merge);
    }
}

static const struct small_gguf right_gguf = {"gemma4", 262, 262, 4, "a b", false};

static int new_gguf(struct tokenizer **out, const struct small_gguf *s, struct carat_error *err)
{
    struct buf bytes = {0};
    struct gguf *g = NULL;
    write_gguf(&bytes, s);
    int rc = gguf_open_memory(&g, bytes.data, bytes.size, "small.gguf", err);
    if (rc == 0) {
        rc = tokenizer_new_gguf(out, g, err);
    }
    gguf_close(g);
    buf_release(&bytes);
    return rc;
}

static void test_gguf_token_types(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    struct carat_error err = {0};
    if (new_gguf(&t, &right_gguf, &err)) {
        fail_msg("%s", err.text);
    }
    // <x> is control: special. [y] is user-defined: matched in any text, and not special.
    EXPECT(t, "ab<x>[y]", true, 259, 260, 261);
    EXPECT(t, "ab<x>[y]", false, 259, '<', 'x', '>', 261);
    assert_true(tokenizer_is_special(t, 260));
    assert_false(tokenizer_is_special(t, 261));
    tokenizer_free(t);

    struct small_gguf untyped = right_gguf;
    untyped.n_types = 0;
    assert_int_equal(new_gguf(&t, &untyped, &err), 0);
    EXPECT(t, "ab<x>[y]", true, 259, '<', 'x', '>', '[', 'y', ']');
    tokenizer_free(t);
}

static void test_wrong_gguf_vocabularies_are_refused(void **state)
{
    (void)state;
    struct small_gguf cases[10];
    for (size_t i = 0; i < 10; i++) {
        cases[i] = right_gguf;
    }
    cases[0].model = "llama";
    cases[1].model = NULL;
    cases[2].n_tokens = 0;
    cases[3].n_tokens = 256;
    cases[3].n_types = 256;
    cases[4].n_types = 261;
    cases[5].last_type = 7;
    cases[6].has_type_floats = true;
    cases[7].merge = NULL;
    cases[8].merge = "ab";
    cases[9].merge = "a c";
    static const char *const texts[] = {
        "tokenizer.ggml.model: expected \"gemma4\", found \"llama\"",
        "tokenizer.ggml.model: expected \"gemma4\"",
        "tokenizer.ggml.tokens: expected an array of strings, found no such key",
        "expected the token U+2581",
        "tokenizer.ggml.token_type: expected 262 elements, one per token, found 261",
        "tokenizer.ggml.token_type: token 261: expected 0 to 6, found 7",
        "tokenizer.ggml.token_type: expected an array of integers",
        "tokenizer.ggml.merges: expected an array of strings, found no such key",
        "tokenizer.ggml.merges: merge 0: expected two tokens with a space between them",
        "tokenizer.ggml.merges: merge 0: expected a right token from the vocabulary, found \"c\""};
    for (size_t i = 0; i < 10; i++) {
        struct tokenizer *t = NULL;
        struct carat_error err = {0};
        const int rc = new_gguf(&t, &cases[i], &err);
        assert_int_equal(rc, i < 2 ? CARAT_E_UNSUPPORTED : CARAT_E_FORMAT);
        assert_null(t);
        if (!strstr(err.text, texts[i]) || !strstr(err.text, "small.gguf")) {
            fail_msg("expected \"%s\", found \"%s\"", texts[i], err.text);
        }
    }
}

// ------------------------------------------------------------------------------------ memory

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    struct buf bytes = {0};
    struct gguf *g = NULL;
    write_gguf(&bytes, &right_gguf);
    assert_int_equal(gguf_open_memory(&g, bytes.data, bytes.size, "small.gguf", NULL), 0);
    const size_t before = mem_bytes_now();
    struct tokenizer *t = NULL;
    size_t n = 1;
    for (;; n++) {
        struct carat_error err = {0};
        mem_fail_nth(n);
        const int rc = tokenizer_new_gguf(&t, g, &err);
        mem_fail_nth(0);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_null(t);
        assert_int_equal(mem_bytes_now(), before);
    }
    assert_true(n > 8);

    const size_t with_tokenizer = mem_bytes_now();
    char text[1000];
    memset(text, 'x', sizeof(text));
    for (n = 1;; n++) {
        struct token_list list = {0};
        struct carat_error err = {0};
        mem_fail_nth(n);
        const int rc = tokenizer_encode(t, slice_make(text, sizeof(text)), true, &list, &err);
        mem_fail_nth(0);
        token_list_release(&list);
        assert_int_equal(mem_bytes_now(), with_tokenizer);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
    }
    assert_true(n > 3);
    tokenizer_free(t);
    tokenizer_free(NULL);
    assert_int_equal(mem_bytes_now(), before);
    gguf_close(g);
    buf_release(&bytes);
}

static void test_memory_is_bounded_beforehand(void **state)
{
    (void)state;
    static const char *const paths[] = {DEMO_GGUF, FIXTURE_GGUF,
                                        TEST_DATA "/fixtures/unified-text/model"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct source *source = NULL;
        struct carat_error err = {0};
        if (source_open(&source, paths[i], false, &err)) {
            fail_msg("%s", err.text);
        }
        const size_t before = mem_bytes_now();
        const size_t bound = tokenizer_memory(source);
        assert_int_equal(mem_bytes_now(), before);
        struct tokenizer *t = NULL;
        assert_int_equal(tokenizer_new(&t, source, &err), 0);
        assert_in_range(mem_bytes_now() - before, 1, bound);
        tokenizer_free(t);
        source_close(source);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixture_from_tokenizer_json),
        cmocka_unit_test(test_fixture_from_gguf),
        cmocka_unit_test(test_demo_vocabulary_against_the_reference),
        cmocka_unit_test(test_stream_holds_back_and_replaces_as_the_reference),
        cmocka_unit_test(test_stream_is_the_same_wherever_it_is_cut),
        cmocka_unit_test(test_gguf_and_json_agree),
        cmocka_unit_test(test_demo_roles),
        cmocka_unit_test(test_lowest_rank_first_then_leftmost),
        cmocka_unit_test(test_a_merge_makes_others_stale),
        cmocka_unit_test(test_later_duplicates_count),
        cmocka_unit_test(test_spaces_and_their_mark_are_one),
        cmocka_unit_test(test_bytes_that_are_no_token_and_no_text),
        cmocka_unit_test(test_lines_are_not_cut_where_a_token_crosses_them),
        cmocka_unit_test(test_special_tokens_in_text),
        cmocka_unit_test(test_a_long_run),
        cmocka_unit_test(test_encoding_appends),
        cmocka_unit_test(test_wrong_vocabularies_are_refused),
        cmocka_unit_test(test_wrong_documents_are_refused),
        cmocka_unit_test(test_a_token_just_too_long),
        cmocka_unit_test(test_gguf_token_types),
        cmocka_unit_test(test_wrong_gguf_vocabularies_are_refused),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_memory_is_bounded_beforehand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
