// SPDX-License-Identifier: Apache-2.0
#include "server/stored.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static struct stored *make(size_t n_max, size_t bytes_max)
{
    struct stored *s = NULL;
    assert_int_equal(stored_new(&s, n_max, bytes_max, NULL), 0);
    return s;
}

static void put(struct stored *s, const char *id, const char *previous, const char *input,
                const char *output)
{
    const struct stored_answer answer = {id, previous, slice_of("{}"), slice_of(input),
                                         slice_of(output)};
    stored_put(s, &answer);
}

static bool is_there(struct stored *s, const char *id)
{
    struct buf out = {0};
    bool found = stored_get(s, slice_of(id), STORED_RESPONSE, &out);
    buf_release(&out);
    return found;
}

static void expect_conversation(struct stored *s, const char *id, const char *expected)
{
    struct buf out = {0};
    assert_true(stored_conversation(s, slice_of(id), &out));
    assert_string_equal(buf_text(&out), expected);
    buf_release(&out);
}

static void test_stored_keeps_parts_apart(void **state)
{
    (void)state;
    struct stored *s = make(10, 10000);
    struct buf out = {0};
    put(s, "a", NULL, "1,2", "3");
    assert_true(stored_get(s, slice_of("a"), STORED_INPUT, &out));
    assert_string_equal(buf_text(&out), "[1,2]");
    buf_clear(&out);
    assert_true(stored_get(s, slice_of("a"), STORED_OUTPUT, &out));
    assert_string_equal(buf_text(&out), "[3]");
    assert_false(stored_get(s, slice_of("b"), STORED_OUTPUT, &out));
    assert_false(stored_get(s, slice_of(""), STORED_OUTPUT, &out));
    buf_release(&out);
    stored_free(s);
}

static void test_stored_joins_conversations(void **state)
{
    (void)state;
    struct stored *s = make(10, 10000);
    put(s, "a", NULL, "1", "2");
    put(s, "b", "a", "3", "");
    put(s, "c", "b", "", "4");
    put(s, "d", "b", "5", "6");
    expect_conversation(s, "c", "[1,2,3,4]");
    expect_conversation(s, "d", "[1,2,3,5,6]");
    expect_conversation(s, "a", "[1,2]");
    stored_free(s);
}

static void test_stored_keeps_what_others_continue(void **state)
{
    (void)state;
    struct stored *s = make(10, 10000);
    put(s, "a", NULL, "1", "2");
    put(s, "b", "a", "3", "4");
    size_t both = stored_bytes(s);
    assert_true(stored_delete(s, slice_of("a")));
    assert_false(stored_delete(s, slice_of("a")));
    assert_false(is_there(s, "a"));
    expect_conversation(s, "b", "[1,2,3,4]");
    assert_int_equal(stored_bytes(s), both);
    assert_true(stored_delete(s, slice_of("b")));
    assert_int_equal(stored_bytes(s), 0);
    stored_free(s);
}

static void test_stored_forgets_the_least_used(void **state)
{
    (void)state;
    struct stored *s = make(3, 100000);
    put(s, "a", NULL, "1", "");
    put(s, "b", NULL, "2", "");
    put(s, "c", NULL, "3", "");
    assert_true(is_there(s, "a"));
    put(s, "d", NULL, "4", "");
    assert_true(is_there(s, "a"));
    assert_false(is_there(s, "b"));
    assert_true(is_there(s, "c"));
    put(s, "e", "b", "5", ""); // what it continues is gone
    assert_false(is_there(s, "e"));
    stored_free(s);
}

static void test_stored_keeps_within_its_size(void **state)
{
    (void)state;
    char text[1001];
    memset(text, '7', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    struct stored *s = make(1000, 20000);
    char id[16], previous[16] = "";
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "id%d", i);
        put(s, id, NULL, text, text);
        assert_true(stored_bytes(s) <= 20000);
    }
    assert_true(is_there(s, "id99"));
    assert_false(is_there(s, "id0"));
    // A chain cannot be forgotten in parts: one that outgrows the size goes whole.
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "chain%d", i);
        put(s, id, previous[0] ? previous : NULL, text, text);
        assert_true(stored_bytes(s) <= 20000);
        memcpy(previous, id, sizeof(id));
    }
    char huge[30000];
    memset(huge, '7', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';
    put(s, "huge", NULL, huge, "");
    assert_false(is_there(s, "huge"));
    assert_int_equal(stored_bytes(s), 0);
    stored_free(s);
}

static void test_stored_survives_a_lack_of_memory(void **state)
{
    (void)state;
    struct stored *s = NULL;
    mem_fail_nth(1);
    assert_int_equal(stored_new(&s, 10, 1000, NULL), CARAT_E_MEMORY);
    s = make(10, 10000);
    mem_fail_nth(1);
    put(s, "a", NULL, "1", "2");
    mem_fail_nth(0);
    assert_false(is_there(s, "a"));
    assert_int_equal(stored_bytes(s), 0);
    stored_free(s);
    stored_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored_keeps_parts_apart),
        cmocka_unit_test(test_stored_joins_conversations),
        cmocka_unit_test(test_stored_keeps_what_others_continue),
        cmocka_unit_test(test_stored_forgets_the_least_used),
        cmocka_unit_test(test_stored_keeps_within_its_size),
        cmocka_unit_test(test_stored_survives_a_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
