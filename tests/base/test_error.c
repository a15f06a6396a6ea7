// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#undef fail // cmocka has a macro of the name

#include "base/str.h"

static void test_fail_fills_error_and_returns_status(void **state)
{
    (void)state;
    struct carat_error err = {0};
    assert_int_equal(fail(&err, CARAT_E_FORMAT, "%s: at %d", "file", 7), CARAT_E_FORMAT);
    assert_int_equal(err.status, CARAT_E_FORMAT);
    assert_string_equal(err.text, "file: at 7");
}

static void test_fail_takes_null(void **state)
{
    (void)state;
    assert_int_equal(fail(NULL, CARAT_E_IO, "nobody reads %s", "this"), CARAT_E_IO);
    fail_prefix(NULL, "nothing");
}

static void test_fail_may_quote_its_own_error(void **state)
{
    (void)state;
    struct carat_error err = {0};
    fail(&err, CARAT_E_IO, "inner");
    fail(&err, CARAT_E_FORMAT, "outer: %s", err.text);
    assert_string_equal(err.text, "outer: inner");
}

// A long text is cut where a character ends, wherever the characters happen to fall.
static void test_fail_cuts_on_character(void **state)
{
    (void)state;
    const char *characters[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x99\x82"};
    for (size_t c = 0; c < 4; c++) {
        for (size_t shift = 0; shift < 4; shift++) {
            char text[3000] = "";
            memset(text, 'x', shift);
            size_t unit = strlen(characters[c]);
            for (size_t at = shift; at + unit < sizeof(text); at += unit) {
                memcpy(text + at, characters[c], unit + 1);
            }
            struct carat_error err = {0};
            fail(&err, CARAT_E_FORMAT, "%s", text);
            size_t size = strlen(err.text);
            assert_true(size < sizeof(err.text));
            assert_true(size + unit >= sizeof(err.text)); // no more than one character is lost
            assert_int_equal((size - shift) % unit, 0);
            assert_true(utf8_is_valid(err.text, size));
            assert_memory_equal(err.text, text, size);
        }
    }
}

static void test_fail_prefix_goes_in_front(void **state)
{
    (void)state;
    struct carat_error err = {0};
    fail(&err, CARAT_E_FORMAT, "expected 3, found 4");
    fail_prefix(&err, "model.gguf");
    assert_string_equal(err.text, "model.gguf: expected 3, found 4");
    assert_int_equal(err.status, CARAT_E_FORMAT);
}

static void test_fail_prefix_keeps_within_the_error(void **state)
{
    (void)state;
    char prefix[1200];
    memset(prefix, 'p', sizeof(prefix) - 1);
    prefix[sizeof(prefix) - 1] = '\0';
    struct carat_error err = {0};
    fail(&err, CARAT_E_FORMAT, "tail");
    fail_prefix(&err, prefix);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_int_equal(err.text[0], 'p');
}

struct log_record {
    size_t n_lines;
    enum carat_log_level level;
    char text[2000];
};

static void record_line(void *user, enum carat_log_level level, const char *text)
{
    struct log_record *record = user;
    record->n_lines++;
    record->level = level;
    snprintf(record->text, sizeof(record->text), "%s", text);
}

static void test_log_goes_to_the_callback(void **state)
{
    (void)state;
    struct log_record record = {0};
    log_line(CARAT_LOG_ERROR, "dropped");
    carat_set_log(record_line, &record);
    log_line(CARAT_LOG_WARNING, "%d cores", 2);
    carat_set_log(NULL, NULL);
    log_line(CARAT_LOG_ERROR, "dropped too");
    assert_int_equal(record.n_lines, 1);
    assert_int_equal(record.level, CARAT_LOG_WARNING);
    assert_string_equal(record.text, "2 cores");
}

static void test_version_is_that_of_the_header(void **state)
{
    (void)state;
    assert_string_equal(carat_version(), "0.1.0");
}

static void test_require_ends_the_program(void **state)
{
    (void)state;
    require(1 + 1 == 2);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        require(1 + 1 == 3);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_fills_error_and_returns_status),
        cmocka_unit_test(test_fail_takes_null),
        cmocka_unit_test(test_fail_may_quote_its_own_error),
        cmocka_unit_test(test_fail_cuts_on_character),
        cmocka_unit_test(test_fail_prefix_goes_in_front),
        cmocka_unit_test(test_fail_prefix_keeps_within_the_error),
        cmocka_unit_test(test_log_goes_to_the_callback),
        cmocka_unit_test(test_version_is_that_of_the_header),
        cmocka_unit_test(test_require_ends_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
