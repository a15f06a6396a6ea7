// SPDX-License-Identifier: Apache-2.0
// Children are this test once more, told by a word what to do.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/os_child.h"

#define MEMORY     ((uint64_t)64 << 20) // that a confined child may take
#define TEXT_SIZE  200
#define LARGE_SIZE ((size_t)3 << 20) // more than any socket holds

static const struct os_patience patience = {.silence_seconds = 60};

/* ------------------------------------------------------------------------------- the children */

static void *return_it(void *argument)
{
    return argument;
}

static bool has_threads(void)
{
    pthread_t thread;
    int x = 0;
    void *y = NULL;
    return pthread_create(&thread, NULL, return_it, &x) == 0 && pthread_join(thread, &y) == 0 &&
           y == &x;
}

static bool has_memory(uint64_t size)
{
    char *block = malloc((size_t)size);
    volatile char *pages = block;
    for (uint64_t i = 0; block && i < size; i += 4096) {
        pages[i] = 1;
    }
    free(block);
    return block != NULL;
}

// A word for all that it can do.
static void tell_abilities(char out[TEXT_SIZE])
{
    const char *const words[] = {"child", NULL};
    struct os_child child = {0};
    size_t n = 0;
    const struct {
        const char *name;
        bool can;
    } rows[] = {
        {"read", open("/dev/null", O_RDONLY) >= 0},
        {"write", open("/dev/null", O_WRONLY) >= 0},
        {"connect", socket(AF_UNIX, SOCK_STREAM, 0) >= 0},
        {"duplicate", dup(0) >= 0},
        {"start", os_child_start(&child, words, NULL) == 0},
        {"threads", has_threads()},
        {"memory", has_memory(MEMORY / 2)},
        {"much", has_memory(2 * MEMORY)},
        {"kill", getppid() > 1 && kill(getppid(), 0) == 0},
        {"secrets", getenv("OS_CHILD_SECRET") != NULL},
        {"settings", getenv("LD_OS_CHILD") != NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].can) {
            n += (size_t)snprintf(out + n, TEXT_SIZE - n, "%s ", rows[i].name);
        }
    }
}

static void waste_time(void)
{
    for (volatile uint64_t i = 0;; i++) {
    }
}

static int be_child(const char *what)
{
    struct os_child parent;
    char text[TEXT_SIZE] = "";
    char letter = 0;
    if (os_child_begin(&parent, NULL)) {
        return 3;
    }
    bool is_confined = strcmp(what, "confined") == 0;
    if (is_confined) {
        os_child_confine(MEMORY);
    }
    if (strcmp(what, "free") == 0 || is_confined) {
        tell_abilities(text);
        return os_child_send(&parent, text, sizeof(text), &patience, NULL) ? 4 : 0;
    }
    // Sends back what comes; letters of its own have a meaning.
    while (os_child_receive(&parent, &letter, 1, &patience, NULL) == 0) {
        if (letter == 'a') {
            os_child_confine(MEMORY); // no core is left behind, and abort() works behind the filter
            abort();
        } else if (letter == 'c') {
            os_child_allow_cpu(0);
            waste_time();
        } else if (letter == 'e') {
            os_child_leave(7);
        } else if (letter == 'h') {
            raise(SIGTERM);
            raise(SIGINT);
            raise(SIGHUP);
        }
        if (os_child_send(&parent, &letter, 1, &patience, NULL)) {
            return 5;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------------------------- the tests */

static struct os_child start(const char *what)
{
    const char *const words[] = {"child", what, NULL};
    struct os_child child = {0};
    struct carat_error err = {0};
    if (os_child_start(&child, words, &err)) {
        fail_msg("%s", err.text);
    }
    return child;
}

static void tell(const struct os_child *child, char letter)
{
    assert_int_equal(os_child_send(child, &letter, 1, &patience, NULL), 0);
}

static void expect_letter(const struct os_child *child, char letter)
{
    char found = 0;
    tell(child, letter);
    assert_int_equal(os_child_receive(child, &found, 1, &patience, NULL), 0);
    assert_int_equal(found, letter);
}

static void expect_end(const char *what, char letter, const char *expected)
{
    char how[OS_CHILD_HOW] = "";
    char found;
    struct os_child child = start(what);
    tell(&child, letter);
    assert_int_equal(os_child_receive(&child, &found, 1, &patience, NULL), CARAT_E_IO);
    os_child_end(&child, how);
    assert_string_equal(how, expected);
    assert_int_equal(child.pid, 0);
    os_child_end(&child, NULL); // once more does nothing
}

static void test_child_talks(void **state)
{
    (void)state;
    struct os_child child = start("echo");
    expect_letter(&child, 'x');
    expect_letter(&child, 'h'); // signals that are its parent's do nothing
    assert_true(os_child_is_quiet(&child));
    tell(&child, 'y');
    while (os_child_is_quiet(&child)) {
        os_wait_readable(child.fd, 100);
    }
    os_child_end(&child, NULL);
    assert_int_equal(waitpid(-1, NULL, 0), -1); // nothing is left
    assert_int_equal(errno, ECHILD);
}

static void test_child_says_how_it_ended(void **state)
{
    (void)state;
    expect_end("echo", 'e', "ended with exit code 7");
    expect_end("echo", 'a', "ended with signal 6 (aborted)");
    expect_end("echo", 'c', "ended with signal 24 (time of the processor used up)");
}

static void expect_abilities(const char *what, const char *expected)
{
    char text[TEXT_SIZE];
    struct os_child child = start(what);
    assert_int_equal(os_child_receive(&child, text, sizeof(text), &patience, NULL), 0);
    os_child_end(&child, NULL);
    assert_string_equal(text, expected);
}

static void test_confined_child_can_compute_and_no_more(void **state)
{
    (void)state;
    setenv("OS_CHILD_SECRET", "1", 1);
    setenv("LD_OS_CHILD", "1", 1);
    expect_abilities("free",
                     "read write connect duplicate start threads memory much kill settings ");
    if (CHILD_IS_CONFINED) {
        expect_abilities("confined", "threads memory settings ");
    }
}

static bool never(void *user)
{
    (void)user;
    return false;
}

static void test_parent_does_not_wait_for_ever(void **state)
{
    (void)state;
    struct carat_error err = {0};
    char letter;
    struct os_child child = start("echo");
    expect_letter(&child, 'x');
    kill(child.pid, SIGSTOP);
    tell(&child, 'y');
    const struct os_patience little = {.silence_seconds = 0.05};
    assert_int_equal(os_child_receive(&child, &letter, 1, &little, &err), CARAT_E_FULL);
    const struct os_patience until = {.deadline = os_seconds() + 0.05};
    assert_int_equal(os_child_receive(&child, &letter, 1, &until, &err), CARAT_E_FULL);
    const struct os_patience stops = {.go_on = never};
    assert_int_equal(os_child_receive(&child, &letter, 1, &stops, &err), CARAT_E_STOPPED);
    // Neither does it where the other end takes nothing.
    char *large = calloc(1, LARGE_SIZE);
    assert_non_null(large);
    assert_int_equal(os_child_send(&child, large, LARGE_SIZE, &little, &err), CARAT_E_FULL);
    free(large);
    char how[OS_CHILD_HOW];
    os_child_end(&child, how);
    assert_string_equal(how, "ended with signal 9 (killed)");
}

static void test_deadline_holds_for_a_child_that_talks_on(void **state)
{
    (void)state;
    char letters[2];
    struct os_child child = start("echo");
    tell(&child, 'x');
    tell(&child, 'x');
    while (os_child_is_quiet(&child)) {
        os_wait_readable(child.fd, 100);
    }
    const struct os_patience over = {.deadline = os_seconds() - 1};
    assert_int_equal(os_child_receive(&child, letters, 1, &over, NULL), CARAT_E_FULL);
    os_child_end(&child, NULL);
}

static void test_a_child_that_is_gone_raises_no_signal(void **state)
{
    (void)state;
    struct os_child child = start("echo");
    expect_letter(&child, 'x');
    kill(child.pid, SIGKILL);
    while (os_child_is_quiet(&child)) {
        os_wait_readable(child.fd, 100);
    }
    char letter = 'y';
    assert_int_equal(os_child_send(&child, &letter, 1, &patience, NULL), CARAT_E_IO);
    os_child_end(&child, NULL);
}

static void test_child_by_hand_is_refused(void **state)
{
    (void)state;
    struct carat_error err = {0};
    struct os_child parent;
    int null = open("/dev/null", O_RDONLY);
    int kept = dup(0);
    assert_true(null >= 0);
    assert_true(kept >= 0);
    dup2(null, 0);
    assert_int_equal(os_child_begin(&parent, &err), CARAT_E_ARGUMENT);
    dup2(kept, 0);
    close(kept);
    close(null);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "child") == 0) {
        return be_child(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_talks),
        cmocka_unit_test(test_child_says_how_it_ended),
        cmocka_unit_test(test_confined_child_can_compute_and_no_more),
        cmocka_unit_test(test_parent_does_not_wait_for_ever),
        cmocka_unit_test(test_deadline_holds_for_a_child_that_talks_on),
        cmocka_unit_test(test_a_child_that_is_gone_raises_no_signal),
        cmocka_unit_test(test_child_by_hand_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
