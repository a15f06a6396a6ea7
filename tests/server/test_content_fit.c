// SPDX-License-Identifier: Apache-2.0
// Conversations as the versions of the chat template have places for them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/content_fit.h"

static const struct carat_part picture = {.type = CARAT_PART_IMAGE};
static const struct carat_tool_call calls[] = {{.id = "1", .name = "look"},
                                               {.id = "2", .name = "add"}};
// A result with a picture, one that is a value, and what the user says then.
static const struct carat_part shown[] = {{.type = CARAT_PART_TEXT, .text = "see \"it\""},
                                          {.type = CARAT_PART_IMAGE}};
static const struct carat_part value = {.type = CARAT_PART_JSON, .text = "{\"sum\": 3}"};
static const struct carat_part words = {.type = CARAT_PART_TEXT, .text = "and now?"};
static const struct carat_message messages[] = {
    {.role = "user", .parts = &words, .n_parts = 1},
    {.role = "assistant", .calls = calls, .n_calls = 2},
    {.role = "tool", .name = "look", .tool_call_id = "1", .parts = shown, .n_parts = 2},
    {.role = "tool", .name = "add", .tool_call_id = "2", .parts = &value, .n_parts = 1},
    {.role = "user", .parts = &words, .n_parts = 1},
};

static const struct carat_chat *fit(struct call *call, size_t n, const char *name)
{
    *call = (struct call){.ask.chat = {.messages = messages, .n_messages = n}};
    assert_int_equal(content_fit(call, name, NULL), 0);
    return &call->ask.chat;
}

static void test_fit_leaves_versions_alone_that_have_a_place_for_all(void **state)
{
    static const char *const names[] = {"canonical", "canonical-edge", "none", "unknown"};
    struct call call;
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_ptr_equal(fit(&call, 5, names[i])->messages, messages);
        assert_int_equal(call.ask.chat.n_messages, 5);
        arena_release(&call.arena);
    }
}

static void test_fit_moves_pictures_of_results_to_the_user(void **state)
{
    struct call call;
    (void)state;
    const struct carat_chat *chat = fit(&call, 5, "revision-2026-04");
    assert_int_equal(chat->n_messages, 5);
    assert_int_equal(chat->messages[2].n_parts, 1);
    assert_string_equal(chat->messages[2].parts[0].text, "see \"it\"");
    const struct carat_message *user = &chat->messages[4];
    assert_int_equal(user->n_parts, 2);
    assert_int_equal(user->parts[0].type, CARAT_PART_IMAGE);
    assert_string_equal(user->parts[1].text, "and now?");
    arena_release(&call.arena);
    // Nobody speaks after the results: the picture is what the user says.
    chat = fit(&call, 4, "revision-2026-04");
    assert_int_equal(chat->n_messages, 5);
    assert_string_equal(chat->messages[4].role, "user");
    assert_int_equal(chat->messages[4].n_parts, 1);
    arena_release(&call.arena);
}

static void test_fit_moves_results_onto_the_calls(void **state)
{
    static const char *const names[] = {"interleaved", "launch"};
    struct call call;
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct carat_chat *chat = fit(&call, 5, names[i]);
        assert_int_equal(chat->n_messages, 3);
        const struct carat_message *caller = &chat->messages[1];
        assert_int_equal(caller->n_responses, 2);
        assert_string_equal(caller->responses[0].name, "look");
        assert_string_equal(caller->responses[0].response, "\"see \\\"it\\\"\"");
        assert_string_equal(caller->responses[1].name, "add");
        assert_string_equal(caller->responses[1].response, "{\"sum\": 3}");
        assert_int_equal(chat->messages[2].parts[0].type, picture.type);
        assert_int_equal(chat->messages[2].n_parts, 2);
        arena_release(&call.arena);
    }
    // A result without calls before it stays what it is.
    call = (struct call){.ask.chat = {.messages = messages + 3, .n_messages = 1}};
    assert_int_equal(content_fit(&call, "launch", NULL), 0);
    assert_string_equal(call.ask.chat.messages[0].role, "tool");
    arena_release(&call.arena);
}

static void test_fit_reports_every_lack_of_memory(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct carat_error err = {0};
        struct call call = {.ask.chat = {.messages = messages, .n_messages = 5}};
        mem_fail_nth(n);
        int rc = content_fit(&call, "launch", &err);
        mem_fail_nth(0);
        arena_release(&call.arena);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fit_leaves_versions_alone_that_have_a_place_for_all),
        cmocka_unit_test(test_fit_moves_pictures_of_results_to_the_user),
        cmocka_unit_test(test_fit_moves_results_onto_the_calls),
        cmocka_unit_test(test_fit_reports_every_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
