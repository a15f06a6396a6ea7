// SPDX-License-Identifier: Apache-2.0
// What evaluating tokens costs. The figures were counted by a loop over every position, layer and
// matrix of the fixture's configuration: 10 sliding layers (window 16, 2 kv heads of 32) and 2 full
// ones (1 kv head of 64, one vector per token), 4 query heads, width 48, 384 tokens, bf16 weights.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "carat.h"

#define MODEL TEST_DATA "/fixtures/unified-text/model"

static void test_cost_is_what_a_loop_counts(void **state)
{
    (void)state;
    static const struct {
        size_t first, n, chunk;
        double bytes, weight_bytes, products;
    } cases[] = {
        {0, 1, 512, 933632, 930816, 468992},
        {40, 1, 512, 984832, 930816, 548352},
        {0, 40, 16, 2925568, 2718720, 20068352},
    };
    struct carat_engine *engine = NULL;
    struct carat_engine_options options = {.model = MODEL, .n_threads = 1};
    assert_int_equal(carat_engine_open(&engine, &options, NULL), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct carat_session_options session = {.prefill_chunk = cases[i].chunk};
        struct carat_cost cost;
        assert_int_equal(
            carat_engine_cost(&cost, engine, &session, cases[i].first, cases[i].n, NULL), 0);
        assert_true(cost.bytes == cases[i].bytes);
        assert_true(cost.weight_bytes == cases[i].weight_bytes);
        assert_true(cost.float_products == cases[i].products);
        assert_true(cost.int8_products == 0);
    }
    carat_engine_close(engine);
}

static void test_limits_are_measured(void **state)
{
    (void)state;
    struct carat_limits limits;
    assert_int_equal(carat_measure_limits(&limits, 2, NULL), 0);
    assert_int_equal(limits.n_threads, 2);
    // A machine that has little free is not asked.
    assert_true(limits.fresh_rate == 0 || (limits.fresh_rate > 1e6 && limits.fresh_rate < 1e13));
    for (size_t i = 0; i < limits.n_levels; i++) {
        assert_non_null(limits.levels[i].name);
        assert_true(limits.levels[i].int8_rate > 0);
        assert_true(limits.levels[i].float_rate > 0);
        assert_true(limits.read_rate > 0 && limits.read_rate_one > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cost_is_what_a_loop_counts),
        cmocka_unit_test(test_limits_are_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
