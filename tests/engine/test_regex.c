// SPDX-License-Identifier: Apache-2.0
// Expressions over whole texts; what an expression means beyond that is tested with grammars.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "carat_jobs.h"

static bool matches(const char *expression, const char *text)
{
    struct carat_regex *regex = NULL;
    struct carat_error err = {0};
    if (carat_regex_new(&regex, expression, &err)) {
        fail_msg("%s: %s", expression, err.text);
    }
    bool found = carat_regex_matches(regex, text, strlen(text));
    carat_regex_free(regex);
    return found;
}

static void test_matches_anywhere(void **state)
{
    (void)state;
    assert_true(matches("blue", "The sky is blue."));
    assert_true(matches("blue|grey", "The sky is grey."));
    assert_true(matches("", "anything"));
    assert_true(matches("", ""));
    assert_true(matches("b\n?c", "a\nb\nc"));
    assert_true(matches("\\d{2,3}", "in 1984"));
    assert_true(matches("\xc3\xa9t\xc3\xa9", "un \xc3\xa9t\xc3\xa9 chaud"));
    assert_false(matches("blue", "The sky is red."));
    assert_false(matches("Blue", "blue"));
    assert_false(matches("a", ""));
}

static void test_anchors_hold_it(void **state)
{
    (void)state;
    assert_true(matches("^blue$", "blue"));
    assert_false(matches("^blue$", "blue."));
    assert_false(matches("^blue$", " blue"));
    assert_true(matches("^The|grey$", "The sky"));
    assert_true(matches("^The|grey$", "all grey"));
    assert_false(matches("^The|grey$", "all grey things of The"));
}

// What takes backtracking matchers exponential time.
static void test_time_is_bounded(void **state)
{
    (void)state;
    static char text[200001];
    memset(text, 'a', sizeof(text) - 1);
    assert_false(matches("^(a+)+$b", text));
    assert_false(matches("^(a|a)*b$", text));
    assert_true(matches("(a*)*", text));
}

static void test_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *expression, *says;
        int status;
    } rows[] = {
        {"(", "regex: at byte 1", CARAT_E_FORMAT},
        {"a)", "closes nothing", CARAT_E_FORMAT},
        {"(a)\\1", "regex: at byte", CARAT_E_UNSUPPORTED},
        {"(?=a)", "regex: at byte", CARAT_E_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct carat_regex *regex = NULL;
        struct carat_error err = {0};
        assert_int_equal(carat_regex_new(&regex, rows[i].expression, &err), rows[i].status);
        assert_non_null(strstr(err.text, rows[i].says));
        assert_null(regex);
    }
    static char longest[4098];
    memset(longest, 'a', sizeof(longest) - 1);
    struct carat_regex *regex = NULL;
    struct carat_error err = {0};
    assert_int_equal(carat_regex_new(&regex, longest, &err), CARAT_E_FULL);
    assert_string_equal(err.text, "regex: expected at most 4096 bytes, found 4097");
    // One of these letters, and which of the ten behind it: too many to remember.
    assert_int_equal(carat_regex_new(&regex, "a.{20}b", &err), CARAT_E_FULL);
    carat_regex_free(NULL);
}

static void test_not_utf8(void **state)
{
    (void)state;
    struct carat_regex *regex = NULL;
    assert_int_equal(carat_regex_new(&regex, "a", NULL), 0);
    assert_true(carat_regex_matches(regex, "xa", 2));
    assert_false(carat_regex_matches(regex, "a\xff", 2));
    carat_regex_free(regex);
}

static void test_without_memory(void **state)
{
    (void)state;
    size_t before = mem_bytes_now();
    for (size_t n = 1;; n++) {
        struct carat_regex *regex = NULL;
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = carat_regex_new(&regex, "^(ab|c)+[x-z]{2}", &err);
        mem_fail_nth(0);
        if (rc == 0) {
            carat_regex_free(regex);
            assert_int_equal(mem_bytes_now(), before);
            assert_true(n > 3);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(mem_bytes_now(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_anywhere), cmocka_unit_test(test_anchors_hold_it),
        cmocka_unit_test(test_time_is_bounded),  cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_not_utf8),         cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests_name("regex", tests, NULL, NULL);
}
