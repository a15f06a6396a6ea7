// SPDX-License-Identifier: Apache-2.0
// The public functions about tokens, with the demo model's vocabulary: flags, counts, and text that
// comes back token by token.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"

#define DEMO_GGUF TEST_DATA "/../../demo/carat-demo.gguf"

static int open_demo(void **state)
{
    const struct carat_engine_options options = {.model = DEMO_GGUF, .is_vocab_only = true};
    struct carat_engine *engine = NULL;
    struct carat_error err = {0};
    if (carat_engine_open(&engine, &options, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = engine;
    return 0;
}

static int close_demo(void **state)
{
    carat_engine_close(*state);
    return 0;
}

static int64_t count(const struct carat_engine *e, const char *text, unsigned flags)
{
    carat_token tokens[64];
    return carat_tokenize(e, text, strlen(text), flags, tokens, 64, NULL);
}

static void test_flags(void **state)
{
    const struct carat_engine *e = *state;
    carat_token tokens[8];
    // <bos> is 2 and <turn|> 16 in this vocabulary.
    assert_int_equal(carat_tokenize(e, "<turn|>", 7, CARAT_TOKENIZE_SPECIAL, tokens, 8, NULL), 1);
    assert_int_equal(tokens[0], 16);
    assert_true(count(e, "<turn|>", 0) > 1);
    const unsigned both = CARAT_TOKENIZE_SPECIAL | CARAT_TOKENIZE_BOS;
    assert_int_equal(carat_tokenize(e, "<turn|>", 7, both, tokens, 8, NULL), 2);
    assert_int_equal(tokens[0], 2);
    assert_int_equal(tokens[1], 16);
    // It is there already.
    assert_int_equal(carat_tokenize(e, "<bos><turn|>", 12, both, tokens, 8, NULL), 2);
    assert_int_equal(tokens[0], 2);
    assert_int_equal(tokens[1], 16);
    // As plain text it is not.
    assert_true(count(e, "<bos>", CARAT_TOKENIZE_BOS) > 2);
    assert_int_equal(carat_tokenize(e, NULL, 0, both, tokens, 8, NULL), 1);
    assert_int_equal(carat_tokenize(e, NULL, 0, 0, NULL, 0, NULL), 0);
}

static void test_capacity_is_kept(void **state)
{
    const struct carat_engine *e = *state;
    static const char text[] = "one two three four five";
    carat_token all[32];
    carat_token some[32];
    memset(some, 0x55, sizeof(some));
    const int64_t n = carat_tokenize(e, text, strlen(text), 0, all, 32, NULL);
    assert_in_range(n, 5, 32);
    assert_int_equal(carat_tokenize(e, text, strlen(text), 0, some, 3, NULL), n);
    assert_memory_equal(some, all, 3 * sizeof(*all));
    assert_int_equal(some[3], 0x55555555);
    assert_int_equal(carat_tokenize(e, text, strlen(text), 0, NULL, 0, NULL), n);
}

static void test_arguments_are_checked(void **state)
{
    const struct carat_engine *e = *state;
    struct carat_error err = {0};
    assert_int_equal(carat_tokenize(e, "a", 1, 4, NULL, 0, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "flags"));
    assert_int_equal(carat_tokenize(e, NULL, 1, 0, NULL, 0, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "text"));
}

static void test_token_text(void **state)
{
    const struct carat_engine *e = *state;
    size_t size = 9;
    const char *text = carat_token_text(e, 16, &size);
    assert_int_equal(size, 7);
    assert_memory_equal(text, "<turn|>", 7);
    assert_true(carat_token_is_special(e, 16));
    assert_true(carat_token_is_stop(e, 16));
    assert_false(carat_token_is_special(e, 2000));
    assert_false(carat_token_is_stop(e, 2000));
    assert_null(carat_token_text(e, -1, &size));
    assert_int_equal(size, 0);
    assert_null(carat_token_text(e, 3072, &size));
    assert_false(carat_token_is_special(e, 3072));
}

static void add_shown(struct buf *out, const char *text, size_t size)
{
    assert_true(utf8_is_valid(text, size));
    buf_add(out, text, size);
}

static void test_detokenizer_gives_the_text_back(void **state)
{
    const struct carat_engine *e = *state;
    static const char text[] = "  Caf\xC3\xA9 \xF0\x9F\x98\x80\n\xE6\xB0\xB4<turn|>\t\xE2\x98\x83";
    carat_token tokens[64];
    const int64_t n =
        carat_tokenize(e, text, strlen(text), CARAT_TOKENIZE_SPECIAL, tokens, 64, NULL);
    assert_in_range(n, 8, 64);
    for (int skips = 0; skips < 2; skips++) {
        struct carat_detokenizer *d = NULL;
        assert_int_equal(carat_detokenizer_new(&d, e, skips, NULL), 0);
        struct buf shown = {0};
        size_t size = 0;
        for (int64_t i = 0; i < n; i++) {
            const char *piece = carat_detokenizer_feed(d, tokens[i], &size);
            add_shown(&shown, piece, size);
        }
        carat_detokenizer_flush(d, &size);
        assert_int_equal(size, 0);
        if (skips) {
            assert_string_equal(buf_text(&shown),
                                "  Caf\xC3\xA9 \xF0\x9F\x98\x80\n\xE6\xB0\xB4\t\xE2\x98\x83");
        } else {
            assert_string_equal(buf_text(&shown), text);
        }
        buf_release(&shown);
        carat_detokenizer_free(d);
    }
}

static void test_detokenizer_holds_back_and_flushes(void **state)
{
    const struct carat_engine *e = *state;
    carat_token tokens[2];
    assert_int_equal(carat_tokenize(e, "\xF0\x9F", 2, 0, tokens, 2, NULL), 2);
    struct carat_detokenizer *d = NULL;
    assert_int_equal(carat_detokenizer_new(&d, e, false, NULL), 0);
    size_t size = 9;
    for (int round = 0; round < 2; round++) {
        carat_detokenizer_feed(d, tokens[0], &size);
        assert_int_equal(size, 0);
        carat_detokenizer_feed(d, tokens[1], &size);
        assert_int_equal(size, 0);
        const char *text = carat_detokenizer_flush(d, &size);
        assert_int_equal(size, 3);
        assert_string_equal(text, "\xEF\xBF\xBD");
    }
    carat_detokenizer_feed(d, 999999, &size);
    assert_int_equal(size, 0);
    carat_detokenizer_free(d);
    carat_detokenizer_free(NULL);
}

static void test_detokenizer_allocations_may_fail(void **state)
{
    const struct carat_engine *e = *state;
    const size_t before = mem_bytes_now();
    for (size_t i = 1;; i++) {
        struct carat_detokenizer *d = NULL;
        struct carat_error err = {0};
        mem_fail_nth(i);
        const int rc = carat_detokenizer_new(&d, e, false, &err);
        mem_fail_nth(0);
        if (rc == 0) {
            assert_true(i > 2);
            // Feeding allocates nothing: it cannot fail.
            const size_t held = mem_bytes_now();
            size_t size = 0;
            for (carat_token token = 0; token < 3072; token++) {
                carat_detokenizer_feed(d, token, &size);
            }
            assert_int_equal(mem_bytes_now(), held);
            carat_detokenizer_free(d);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_int_equal(mem_bytes_now(), before);
    }
    assert_int_equal(mem_bytes_now(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_capacity_is_kept),
        cmocka_unit_test(test_arguments_are_checked),
        cmocka_unit_test(test_token_text),
        cmocka_unit_test(test_detokenizer_gives_the_text_back),
        cmocka_unit_test(test_detokenizer_holds_back_and_flushes),
        cmocka_unit_test(test_detokenizer_allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
