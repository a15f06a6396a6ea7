// SPDX-License-Identifier: Apache-2.0
// How much of the prompts a round reads, and whose.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/pace.h"

#define N_MAX 16

static size_t share(size_t budget, const size_t *left, size_t n, size_t *out)
{
    size_t order[N_MAX];
    size_t n_order = pace_share(budget, left, n, out, order);
    size_t total = 0;
    size_t n_given = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(out[i] <= left[i]);
        total += out[i];
        n_given += out[i] > 0;
    }
    assert_int_equal(n_order, n_given);
    for (size_t k = 0; k < n_order; k++) {
        assert_true(order[k] < n && out[order[k]] > 0);
    }
    assert_true(n == 0 || n_order == 0 || order[0] == 0); // the oldest is never left for later
    return total;
}

static void test_one_prompt_gets_all(void **state)
{
    (void)state;
    size_t out[1];
    assert_int_equal(share(100, (size_t[]){1000}, 1, out), 100);
    assert_int_equal(share(100, (size_t[]){30}, 1, out), 30);
    assert_int_equal(share(0, (size_t[]){30}, 1, out), 0);
}

static void test_short_prompts_overtake(void **state)
{
    (void)state;
    size_t out[3];
    size_t total = share(100, (size_t[]){5000, 4000, 20}, 3, out);
    assert_int_equal(total, 100);
    assert_int_equal(out[2], 20); // whole
    assert_true(out[0] >= 25);    // the oldest goes on
    assert_true(out[1] > 0);      // the nearer of the others gets the rest
}

// However many short ones come in, a long prompt is read at a quarter of the rate.
static void test_a_long_prompt_is_never_stuck(void **state)
{
    (void)state;
    size_t left = 1000;
    size_t n_rounds = 0;
    for (; left > 0; n_rounds++) {
        size_t out[4];
        share(64, (size_t[]){left, 40, 40, 40}, 4, out);
        assert_true(out[0] > 0);
        left -= out[0];
    }
    assert_true(n_rounds <= 1000 / 16 + 1);
}

static void test_nothing_of_the_budget_is_lost(void **state)
{
    (void)state;
    size_t out[3];
    assert_int_equal(share(100, (size_t[]){90, 5, 5}, 3, out), 100);
    assert_int_equal(share(100, (size_t[]){500, 5, 5}, 3, out), 100);
    assert_int_equal(out[0], 90);
    assert_int_equal(share(7, (size_t[]){500, 500, 500}, 3, out), 7);
    assert_int_equal(share(1000, (size_t[]){5, 6, 7}, 3, out), 18);
}

// A machine that reads a token in a millisecond and answers in 50: the pieces come to a round of
// some 0.3 s while answers run, and to whole chunks while none do.
static void test_learns_the_machine(void **state)
{
    (void)state;
    struct pace p = {.chunk_max = 512};
    assert_int_equal(pace_budget(&p, 0), 512);
    size_t first = pace_budget(&p, 2);
    assert_true(first >= 16 && first <= 64); // careful while nothing is known
    for (int i = 0; i < 30; i++) {
        pace_learn(&p, 0, 2, 0.05);
        size_t n = pace_budget(&p, 2);
        pace_learn(&p, n, 2, 0.05 + 0.001 * (double)n);
    }
    double seconds = 0.05 + 0.001 * (double)pace_budget(&p, 2);
    assert_true(seconds > 0.2 && seconds < 0.4);
    assert_int_equal(pace_budget(&p, 0), 512);
}

// On a slow machine a lone reader is still interrupted now and then, and one beside answers reads
// on.
static void test_slow_machines(void **state)
{
    (void)state;
    struct pace p = {.chunk_max = 512};
    for (int i = 0; i < 30; i++) {
        pace_learn(&p, 0, 1, 1.0);
        pace_learn(&p, 64, 0, 64 * 0.05);
    }
    assert_true(pace_budget(&p, 0) <= 60);
    assert_true(pace_budget(&p, 1) >= 4);
    assert_true(pace_budget(&p, 1) <= 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_prompt_gets_all),
        cmocka_unit_test(test_short_prompts_overtake),
        cmocka_unit_test(test_a_long_prompt_is_never_stuck),
        cmocka_unit_test(test_nothing_of_the_budget_is_lost),
        cmocka_unit_test(test_learns_the_machine),
        cmocka_unit_test(test_slow_machines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
