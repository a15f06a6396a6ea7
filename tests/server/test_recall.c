// SPDX-License-Identifier: Apache-2.0
// What was sampled for a call comes back for that call alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "server/recall.h"

static bool get(struct recall *r, const char *id, const char *name, const char *arguments)
{
    struct buf out = {0};
    buf_adds(&out, "before ");
    bool is_known = recall_get(r, slice_of(id), name, arguments, &out);
    assert_string_equal(buf_text(&out), is_known ? "before sampled" : "before ");
    buf_release(&out);
    return is_known;
}

static struct recall *open_one(const char *arguments)
{
    struct recall *r = NULL;
    assert_int_equal(recall_new(&r, 8, 10000, NULL), 0);
    recall_put(r, "call_1", "f", arguments, "sampled");
    return r;
}

static void test_finds_what_is_the_same(void **state)
{
    (void)state;
    static const char *const same[][2] = {
        {"{\"a\":1,\"b\":[true,null,\"x\"]}", "{\"a\":1,\"b\":[true,null,\"x\"]}"},
        {"{\"a\":1,\"b\":2}", " { \"b\" : 2, \"a\": 1 } "},
        {"{\"a\":1.0}", "{\"a\":1}"},
        {"{\"a\":\"\xc3\xa4\"}", "{\"a\":\"\\u00e4\"}"},
        {"{}", "{}"},
        {"{}", ""},
        {"{\"a\":{\"b\":{\"c\":[[],{}]}},\"d\":[]}", "{\"d\":[],\"a\":{\"b\":{\"c\":[[],{}]}}}"},
    };
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        struct recall *r = open_one(same[i][0]);
        assert_true(get(r, "call_1", "f", same[i][1]));
        recall_free(r);
    }
}

static void test_refuses_what_was_changed(void **state)
{
    (void)state;
    static const char *const changed[] = {
        "{\"a\":2,\"b\":[1,2]}",
        "{\"a\":1}",
        "{\"a\":1,\"b\":[2,1]}",
        "{\"a\":1,\"b\":[1,2],\"c\":0}",
        "{\"a\":1,\"c\":[1,2]}",
        "{\"a\":1,\"b\":[1,2,3]}",
        "{\"a\":\"1\",\"b\":[1,2]}",
        "{\"a\":1,\"b\":{\"0\":1,\"1\":2}}",
        "not json",
        "",
        "[]",
        "{\"a\":null,\"b\":[1,2]}",
    };
    struct recall *r = open_one("{\"a\":1,\"b\":[1,2]}");
    for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++) {
        if (get(r, "call_1", "f", changed[i])) {
            fail_msg("found for %s", changed[i]);
        }
    }
    assert_true(get(r, "call_1", "f", "{\"a\":1,\"b\":[1,2]}"));
    assert_false(get(r, "call_1", "g", "{\"a\":1,\"b\":[1,2]}"));
    assert_false(get(r, "call_2", "f", "{\"a\":1,\"b\":[1,2]}"));
    assert_false(get(r, "call_", "f", "{\"a\":1,\"b\":[1,2]}"));
    assert_false(get(r, "", "f", "{\"a\":1,\"b\":[1,2]}"));
    recall_free(r);
}

static void test_forgets_the_oldest(void **state)
{
    (void)state;
    struct recall *r = NULL;
    assert_int_equal(recall_new(&r, 4, 10000, NULL), 0);
    for (int i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof(id), "call_%d", i);
        recall_put(r, id, "f", "{}", "sampled");
        assert_true(get(r, id, "f", "{}"));
    }
    assert_true(get(r, "call_96", "f", "{}"));
    assert_false(get(r, "call_95", "f", "{}"));
    recall_free(r);
}

static void test_keeps_to_its_bytes(void **state)
{
    (void)state;
    struct recall *r = NULL;
    char large[200];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    assert_int_equal(recall_new(&r, 100, 100, NULL), 0);
    recall_put(r, "call_0", "f", "{}", "sampled");
    recall_put(r, "call_1", "f", "{}", large); // never fits, and pushes nobody out
    assert_true(get(r, "call_0", "f", "{}"));
    assert_false(get(r, "call_1", "f", "{}"));
    for (int i = 2; i < 20; i++) {
        char id[16];
        snprintf(id, sizeof(id), "call_%d", i);
        recall_put(r, id, "f", "{}", "sampled");
    }
    assert_false(get(r, "call_0", "f", "{}"));
    assert_true(get(r, "call_19", "f", "{}"));
    recall_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_what_is_the_same),
        cmocka_unit_test(test_refuses_what_was_changed),
        cmocka_unit_test(test_forgets_the_oldest),
        cmocka_unit_test(test_keeps_to_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
