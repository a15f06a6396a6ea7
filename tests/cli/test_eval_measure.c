// SPDX-License-Identifier: Apache-2.0
// The measures of carat eval against figures worked out by hand, and files of logits against what
// was put into them.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"
#include "cli/eval_measure.h"

#define ROOM 64

static void assert_near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance)) {
        fail_msg("expected %.12g, found %.12g", expected, found);
    }
}

// ------------------------------------------------------------------------------------------- rows

struct packed {
    struct logit_row row;
    uint16_t codes[ROOM];
};

static void pack(struct packed *out, const float *logits, size_t n, uint32_t token)
{
    out->row.codes = out->codes;
    logit_row_pack(&out->row, logits, n, logits_total(logits, n), token);
}

static void test_total_is_the_logarithm_of_the_sum(void **state)
{
    (void)state;
    const float two[] = {0, 0}, large[] = {1000, 1000, 1000, 1000};
    const float ln[] = {logf(1), logf(2), logf(3)};
    assert_near(logits_total(two, 2), 0.693147180559945, 1e-15);
    assert_near(logits_total(large, 4), 1000 + 1.386294361119891, 1e-12);
    assert_near(logits_total(ln, 3), log(6), 1e-7);
}

static void test_total_of_what_is_no_number_is_none(void **state)
{
    (void)state;
    const float bad[][3] = {{0, NAN, 0}, {INFINITY, 0, 0}, {0, 0, -INFINITY}, {NAN, NAN, NAN}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_true(isnan(logits_total(bad[i], 3)));
    }
}

static void test_packed_row_is_within_half_a_step(void **state)
{
    (void)state;
    float logits[ROOM];
    struct packed p;
    for (int i = 0; i < ROOM; i++) {
        logits[i] = (float)((i * 37) % ROOM) * 0.9f - 30;
    }
    pack(&p, logits, ROOM, 5);
    double total = logits_total(logits, ROOM);
    assert_true(p.row.top < ROOM);
    assert_near((double)logits[p.row.top], 63 * 0.9 - 30, 1e-5);
    assert_near((double)p.row.logprob, (double)logits[5] - total, 1e-5);
    assert_near((double)p.row.step, 63 * 0.9 / 65535, 1e-8);
    for (int i = 0; i < ROOM; i++) {
        double value = (double)p.row.high - (double)p.row.step * p.codes[i];
        assert_near(value, (double)logits[i] - total, 0.51 * (double)p.row.step + 1e-5);
    }
    assert_int_equal(p.codes[p.row.top], 0);
}

static void test_first_of_equal_words_is_the_top(void **state)
{
    (void)state;
    const float logits[] = {1, 7, 7, 3};
    struct packed p;
    pack(&p, logits, 4, 0);
    assert_int_equal(p.row.top, 1);
}

static void test_divergence_of_distributions_by_hand(void **state)
{
    (void)state;
    // p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): 1/2 ln 2 + 0 - 1/4 ln 2 = ln 2 / 4.
    const float p_logits[] = {logf(0.5f), logf(0.25f), logf(0.25f)};
    const float q_logits[] = {logf(0.25f), logf(0.25f), logf(0.5f)};
    const float even[] = {3, 3, 3}, sure[] = {0, -60, -60};
    struct packed p, q, u, s;
    pack(&p, p_logits, 3, 0);
    pack(&q, q_logits, 3, 0);
    pack(&u, even, 3, 0);
    pack(&s, sure, 3, 0);
    assert_near(logit_rows_divergence(&p.row, &q.row, 3), log(2) / 4, 1e-5);
    assert_near(logit_rows_divergence(&q.row, &p.row, 3), log(2) / 4, 1e-5);
    // From the even one: -ln 3 minus the mean of ln q; from the sure one: -ln of what q gives it.
    assert_near(logit_rows_divergence(&u.row, &p.row, 3), -log(3) + 5.0 / 3 * log(2), 1e-5);
    assert_near(logit_rows_divergence(&s.row, &p.row, 3), log(2), 1e-5);
    assert_near(logit_rows_divergence(&s.row, &u.row, 3), log(3), 1e-5);
}

static void test_divergence_of_a_row_from_itself_is_nothing(void **state)
{
    (void)state;
    float logits[ROOM];
    struct packed p, q;
    for (int seed = 0; seed < 200; seed++) {
        for (int i = 0; i < ROOM; i++) {
            logits[i] = (float)sin(seed * 12.9898 + i * 78.233) * 30;
        }
        pack(&p, logits, ROOM, 1);
        pack(&q, logits, ROOM, 2);
        assert_true(logit_rows_divergence(&p.row, &q.row, ROOM) == 0);
    }
}

// ----------------------------------------------------------------------------------------
// summaries

static void test_percentiles_lie_between_values(void **state)
{
    (void)state;
    const double values[] = {10, 20, 30, 40, 50};
    assert_near(eval_percentile(values, 5, 0.5), 30, 0);
    assert_near(eval_percentile(values, 5, 0.9), 46, 1e-12);
    assert_near(eval_percentile(values, 5, 0.99), 49.6, 1e-12);
    assert_near(eval_percentile(values, 5, 0.999), 49.96, 1e-12);
    assert_near(eval_percentile(values, 5, 1), 50, 0);
    assert_near(eval_percentile(values, 2, 0.5), 15, 0);
    assert_near(eval_percentile(values, 1, 0.9), 10, 0);
    assert_near(eval_percentile(values, 0, 0.9), 0, 0);
}

static const struct eval_record records[] = {
    // divergence, of the reference: ln p, top; here: ln p, top, token, bytes, domain, window,
    // position
    {0.1, -1.0f, 3, -1.5f, 3, 3, 2, 0, 0, 1},
    {0.4, -2.0f, 4, -1.0f, 5, 4, 3, 0, 0, 2},
    {0.2, -3.0f, 6, -4.5f, 6, 7, 1, 1, 1, 1},
    {0.4, -0.5f, 8, -1.0f, 8, 8, 2, 1, 1, 4},
};

static void test_summary_by_hand(void **state)
{
    (void)state;
    struct eval_summary s;
    double scratch[4];
    const struct eval_filter all = {0};
    eval_summarize(&s, records, 4, &all, scratch);
    assert_int_equal(s.n, 4);
    assert_int_equal(s.n_bytes, 8);
    // Losses 1.5, 1, 4.5, 1: mean 2, squares about it 0.25 + 1 + 6.25 + 1 = 8.5, / 3 / 4.
    assert_near(s.loss.mean, 2, 1e-12);
    assert_near(s.loss.error, sqrt(8.5 / 12), 1e-12);
    assert_near(s.perplexity.mean, exp(2), 1e-9);
    assert_near(s.perplexity.error, exp(2) * sqrt(8.5 / 12), 1e-9);
    assert_near(s.bits_per_byte, 8 / log(2) / 8, 1e-12);
    // Divergences 0.1, 0.4, 0.2, 0.4: mean 0.275, squares about it 0.0675.
    assert_near(s.divergence.mean, 0.275, 1e-12);
    assert_near(s.divergence.error, sqrt(0.0675 / 12), 1e-12);
    assert_near(s.median, 0.3, 1e-12);
    assert_near(s.p90, 0.4, 1e-12);
    assert_near(s.max, 0.4, 0);
    // Three of four agree: 0.75, sqrt(0.75 * 0.25 / 3).
    assert_near(s.agreement.mean, 0.75, 1e-12);
    assert_near(s.agreement.error, sqrt(0.1875 / 3), 1e-12);
    // ln p changes by -0.5, 1, -1.5, -0.5: mean -0.375, squares about it 3.1875.
    assert_near(s.difference.mean, -0.375, 1e-12);
    assert_near(s.difference.error, sqrt(3.1875 / 12), 1e-12);
    assert_near(s.ratio.mean, exp(0.375), 1e-9);
    assert_near(s.ratio.error, exp(0.375) * sqrt(3.1875 / 12), 1e-9);
}

static void test_summary_of_a_part(void **state)
{
    (void)state;
    struct eval_summary s;
    double scratch[4];
    const struct eval_filter domain = {.is_of_domain = true, .domain = 1};
    const struct eval_filter early = {.position_min = 1, .position_max = 1};
    const struct eval_filter none = {.position_min = 8, .position_max = 15};
    eval_summarize(&s, records, 4, &domain, scratch);
    assert_int_equal(s.n, 2);
    assert_near(s.loss.mean, 2.75, 1e-12);
    eval_summarize(&s, records, 4, &early, scratch);
    assert_int_equal(s.n, 2);
    assert_near(s.loss.mean, 3, 1e-12);
    eval_summarize(&s, records, 1, &early, scratch);
    assert_near(s.loss.mean, 1.5, 1e-7);
    assert_near(s.loss.error, 0, 0);
    eval_summarize(&s, records, 4, &none, scratch);
    assert_int_equal(s.n, 0);
    assert_near(s.perplexity.mean, 1, 0);
}

static void test_worst_come_first(void **state)
{
    (void)state;
    size_t worst[5];
    assert_int_equal(eval_worst(worst, 3, records, 4, true), 3);
    assert_int_equal(worst[0], 1);
    assert_int_equal(worst[1], 3);
    assert_int_equal(worst[2], 2);
    assert_int_equal(eval_worst(worst, 5, records, 4, false), 4);
    assert_int_equal(worst[0], 2);
    assert_int_equal(worst[1], 0);
    assert_int_equal(worst[2], 1);
    assert_int_equal(worst[3], 3);
    assert_int_equal(eval_worst(worst, 0, records, 4, true), 0);
    struct eval_record equal = records[0];
    equal.divergence = 0;
    assert_int_equal(eval_worst(worst, 3, &equal, 1, true), 0);
}

// ------------------------------------------------------------------------------------------- files

#define FILE_NAME  "test_eval_measure.logits"
#define VOCABULARY 5
#define ROWS       3

static void make_head(struct logit_head *head)
{
    *head = (struct logit_head){.n_vocab = VOCABULARY,
                                .n_rows = ROWS,
                                .model_size = 123456789012,
                                .n_parameters = 12345,
                                .weights_size = 777,
                                .name = "a model"};
    memset(head->vocabulary, 0xab, HASH_SIZE);
    memset(head->plan, 0xcd, HASH_SIZE);
}

static uint16_t code_of(size_t row, size_t i)
{
    return i == row ? 0 : (uint16_t)(row * 20000 + i * 257); // that of the likeliest word is 0
}

static void write_file(void)
{
    struct logit_head head;
    struct logit_writer w = {.bytes = NULL};
    uint16_t codes[VOCABULARY];
    make_head(&head);
    assert_int_equal(logit_writer_open(&w, FILE_NAME, &head, NULL), 0);
    for (size_t i = 0; i < ROWS; i++) {
        struct logit_row row = {.high = -0.5f - (float)i,
                                .step = 0.001f * (float)i,
                                .logprob = -2.0f * (float)i,
                                .top = (uint32_t)i,
                                .codes = codes};
        for (size_t j = 0; j < VOCABULARY; j++) {
            codes[j] = code_of(i, j);
        }
        assert_int_equal(logit_writer_add(&w, &row, NULL), 0);
    }
    assert_int_equal(logit_writer_finish(&w, NULL), 0);
    logit_writer_close(&w);
}

static void test_file_gives_back_what_was_put_in(void **state)
{
    (void)state;
    struct logit_head head;
    struct logit_reader r = {.bytes = NULL};
    uint16_t codes[VOCABULARY];
    struct logit_row row = {.codes = codes};
    make_head(&head);
    write_file();
    assert_true(logit_file_is(FILE_NAME));
    assert_int_equal(logit_reader_open(&r, FILE_NAME, NULL), 0);
    assert_int_equal(r.file.size, logit_file_size(&head));
    assert_memory_equal(r.head.vocabulary, head.vocabulary, HASH_SIZE);
    assert_memory_equal(r.head.plan, head.plan, HASH_SIZE);
    assert_int_equal(r.head.model_size, head.model_size);
    assert_int_equal(r.head.n_parameters, head.n_parameters);
    assert_int_equal(r.head.weights_size, head.weights_size);
    assert_string_equal(r.head.name, "a model");
    for (size_t i = 0; i < ROWS; i++) {
        assert_int_equal(logit_reader_next(&r, &row, NULL), 0);
        assert_true(row.high == -0.5f - (float)i);
        assert_true(row.step == 0.001f * (float)i);
        assert_true(row.logprob == -2.0f * (float)i);
        assert_int_equal(row.top, i);
        for (size_t j = 0; j < VOCABULARY; j++) {
            assert_int_equal(codes[j], code_of(i, j));
        }
    }
    assert_int_equal(logit_reader_next(&r, &row, NULL), CARAT_E_FORMAT);
    logit_reader_close(&r);
    os_remove(FILE_NAME);
    assert_false(logit_file_is(FILE_NAME));
}

// Reads the whole of a file's bytes; the first failure.
static int read_bytes(const uint8_t *bytes, size_t size)
{
    struct os_reader file = {.path = NULL};
    struct logit_reader r = {.bytes = NULL};
    uint16_t *codes = NULL;
    int rc = os_reader_open_memory(&file, bytes, size, "bytes", NULL);
    rc = rc ? rc : logit_reader_take(&r, &file, NULL);
    if (rc == 0) {
        codes = mem_new_array(r.head.n_vocab, sizeof(*codes), NULL);
        rc = codes ? 0 : CARAT_E_MEMORY;
    }
    struct logit_row row = {.codes = codes};
    for (uint64_t i = 0; rc == 0 && i < r.head.n_rows; i++) {
        rc = logit_reader_next(&r, &row, NULL);
    }
    logit_reader_close(&r);
    mem_free(codes);
    return rc;
}

static void test_every_damage_is_noticed(void **state)
{
    (void)state;
    struct buf content = {.max = 1 << 20};
    write_file();
    assert_int_equal(os_read_file(&content, FILE_NAME, 1 << 20, NULL), 0);
    os_remove(FILE_NAME);
    uint8_t *bytes = (uint8_t *)content.data;
    assert_int_equal(read_bytes(bytes, content.size), 0);
    for (size_t i = 0; i < content.size; i++) {
        bytes[i] ^= 0x10;
        assert_int_equal(read_bytes(bytes, content.size), CARAT_E_FORMAT);
        bytes[i] ^= 0x10;
        assert_int_equal(read_bytes(bytes, i), CARAT_E_FORMAT);
    }
    // Two rows that change places are damage, too.
    size_t row = logit_row_size(VOCABULARY), head = content.size - ROWS * row;
    uint8_t first[64];
    memcpy(first, bytes + head, row);
    memcpy(bytes + head, bytes + head + row, row);
    memcpy(bytes + head + row, first, row);
    assert_int_equal(read_bytes(bytes, content.size), CARAT_E_FORMAT);
    buf_release(&content);
}

static void test_sizes_beyond_all_files(void **state)
{
    (void)state;
    struct logit_head head = {.n_vocab = LOGITS_VOCAB_MAX, .n_rows = UINT64_MAX};
    assert_true(logit_file_size(&head) == UINT64_MAX);
    head.n_rows = UINT64_MAX / 2;
    assert_true(logit_file_size(&head) == UINT64_MAX);
    head.n_rows = 1000;
    assert_true(logit_file_size(&head) > 1000ull * 2 * LOGITS_VOCAB_MAX);
}

static void test_reader_without_memory(void **state)
{
    (void)state;
    int rc = CARAT_E_MEMORY;
    write_file();
    for (size_t n = 1; rc == CARAT_E_MEMORY; n++) {
        struct logit_reader r = {.bytes = NULL};
        mem_fail_nth(n);
        rc = logit_reader_open(&r, FILE_NAME, NULL);
        mem_fail_nth(0);
        logit_reader_close(&r);
        assert_true(n < 100);
    }
    assert_int_equal(rc, 0);
    os_remove(FILE_NAME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_total_is_the_logarithm_of_the_sum),
        cmocka_unit_test(test_total_of_what_is_no_number_is_none),
        cmocka_unit_test(test_packed_row_is_within_half_a_step),
        cmocka_unit_test(test_first_of_equal_words_is_the_top),
        cmocka_unit_test(test_divergence_of_distributions_by_hand),
        cmocka_unit_test(test_divergence_of_a_row_from_itself_is_nothing),
        cmocka_unit_test(test_percentiles_lie_between_values),
        cmocka_unit_test(test_summary_by_hand),
        cmocka_unit_test(test_summary_of_a_part),
        cmocka_unit_test(test_worst_come_first),
        cmocka_unit_test(test_file_gives_back_what_was_put_in),
        cmocka_unit_test(test_every_damage_is_noticed),
        cmocka_unit_test(test_sizes_beyond_all_files),
        cmocka_unit_test(test_reader_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
