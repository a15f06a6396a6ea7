// SPDX-License-Identifier: Apache-2.0
// What a medium becomes in a prompt: runs, times, counts, names. Expected values follow from
// multimodal.md sections 1, 5 and 6 and from docs/media.md.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "hand_media.h"

#define SEGMENT (30 * MEDIA_RATE)

// All runs as one line: the text, the kind's letter, the number of soft tokens, "+" where open.
static const char *describe(const struct carat_media *m)
{
    static char line[4096];
    size_t at = 0;
    line[0] = '\0';
    for (size_t i = 0; i < media_n_runs(m); i++) {
        struct media_run run = media_run_at(m, i);
        at += (size_t)snprintf(line + at, sizeof(line) - at, "%s[%c%zu%s]", run.text,
                               "IVA"[run.kind], run.n_tokens, run.is_open ? "+" : "");
        assert_true(at < sizeof(line));
    }
    return line;
}

static void check(struct carat_media *m, const char *expected, size_t n_tokens, size_t n_segments)
{
    assert_string_equal(describe(m), expected);
    assert_int_equal(m->info.n_tokens, n_tokens);
    assert_int_equal(m->info.n_segments, n_segments);
    hand_free(m);
}

static void test_picture_is_one_run(void **state)
{
    (void)state;
    check(hand_picture(96, 48, 48, 1, NULL), "[I2]", 2, 0);
    check(hand_picture(60, 36, 12, 1, NULL), "[I15]", 15, 0);
}

static void test_sound_counts_begun_frames(void **state)
{
    (void)state;
    check(hand_sound(0, SEGMENT, 1, NULL), "[A0]", 0, 1);
    check(hand_sound(1, SEGMENT, 1, NULL), "[A1]", 1, 1);
    check(hand_sound(640, SEGMENT, 1, NULL), "[A1]", 1, 1);
    check(hand_sound(641, SEGMENT, 1, NULL), "[A2]", 2, 1);
    check(hand_sound(720000, 0, 1, NULL), "[A1125]", 1125, 1); // 45 s, never cut: as the reference
}

static void test_long_sound_has_times(void **state)
{
    (void)state;
    check(hand_sound(SEGMENT, SEGMENT, 1, NULL), "[A750]", 750, 1);
    check(hand_sound(SEGMENT + 1, SEGMENT, 1, NULL), "[A750] 00:30 [A1]", 751, 2);
    check(hand_sound(3 * SEGMENT, SEGMENT, 1, NULL), "[A750] 00:30 [A750] 01:00 [A750]", 2250, 3);
    check(hand_sound(64000, 16000, 1, NULL), "[A25] 00:01 [A25] 00:02 [A25] 00:03 [A25]", 100, 4);
}

// Minutes are not wrapped into hours.
static void test_times_beyond_an_hour(void **state)
{
    (void)state;
    static const double seconds[] = {59.999, 60, 3599.9, 3600, 6000.5};
    check(hand_film(48, 48, 48, seconds, 5, 0, SEGMENT),
          "00:59 [V1] 01:00 [V1] 59:59 [V1] 60:00 [V1] 100:00 [V1]", 5, 0);
}

static void test_open_sound_counts_whole_frames(void **state)
{
    (void)state;
    struct carat_media *m = hand_sound(2 * SEGMENT, SEGMENT, 1, NULL);
    static const struct {
        size_t n;
        const char *expected;
    } cases[] = {
        {0, "[A0+]"},
        {639, "[A0+]"},
        {640, "[A1+]"},
        {1279, "[A1+]"},
        {SEGMENT, "[A750+]"},
        {SEGMENT + 639, "[A750+]"},
        {SEGMENT + 640, "[A750] 00:30 [A1+]"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        hand_show(m, cases[i].n, true);
        assert_string_equal(describe(m), cases[i].expected);
    }
    hand_show(m, SEGMENT + 641, false); // the end: the rest is filled with zeros
    check(m, "[A750] 00:30 [A2]", 752, 2);
}

static void test_film_ends_with_a_short_sound(void **state)
{
    (void)state;
    static const double seconds[] = {0, 1.99, 2};
    check(hand_film(96, 96, 48, seconds, 3, 0, SEGMENT), "00:00 [V4] 00:01 [V4] 00:02 [V4]", 12, 0);
    check(hand_film(96, 96, 48, seconds, 3, 1281, SEGMENT), "00:00 [V4] 00:01 [V4] 00:02 [V4][A3]",
          15, 1);
    // Also where the film goes on after it.
    static const double slow[] = {0, 40, 80};
    check(hand_film(48, 48, 48, slow, 3, SEGMENT, SEGMENT),
          "00:00 [V1] 00:40 [V1] 01:20 [V1][A750]", 753, 1);
}

static void test_long_film_has_its_sound_in_time_order(void **state)
{
    (void)state;
    static const double seconds[] = {0, 29.9, 30, 59, 61, 89, 95};
    check(hand_film(48, 48, 48, seconds, 7, 2 * SEGMENT + 640, SEGMENT),
          "00:00 [V1] 00:29 [V1][A750] 00:30 [V1] 00:59 [V1] 00:30 [A750] 01:01 [V1] 01:29 [V1]"
          " 01:00 [A1] 01:35 [V1]",
          7 + 1501, 3);
    // Sound that goes on after the last frame, and before the first.
    check(hand_film(48, 48, 48, seconds, 1, 2 * SEGMENT, SEGMENT), "00:00 [V1][A750] 00:30 [A750]",
          1501, 2);
    check(hand_film(48, 48, 48, seconds + 4, 1, 2 * SEGMENT, SEGMENT),
          "[A750] 00:30 [A750] 01:01 [V1]", 1501, 2);
}

static void test_spans_of_sound_point_into_the_samples(void **state)
{
    (void)state;
    struct carat_media *m = hand_sound(SEGMENT + 1000, SEGMENT, 1, NULL);
    struct media_run first = media_run_at(m, 0);
    struct media_run second = media_run_at(m, 1);
    assert_int_equal(first.first_sample, 0);
    assert_int_equal(first.n_samples, SEGMENT);
    assert_int_equal(second.first_sample, SEGMENT);
    assert_int_equal(second.n_samples, 1000);
    hand_free(m);
}

// ------------------------------------------------------------------------------------------ names

static bool same_hash(const struct carat_media *a, const struct carat_media *b)
{
    return memcmp(a->info.hash, b->info.hash, sizeof(a->info.hash)) == 0;
}

static void test_names_follow_content_and_size(void **state)
{
    (void)state;
    uint8_t pixels[48 * 96 * 3] = {0};
    struct carat_media *wide = hand_picture(96, 48, 48, 0, pixels);
    struct carat_media *again = hand_picture(96, 48, 48, 0, pixels);
    struct carat_media *tall = hand_picture(48, 96, 48, 0, pixels);
    pixels[48 * 96 * 3 - 1] = 1;
    struct carat_media *other = hand_picture(96, 48, 48, 0, pixels);
    assert_true(same_hash(wide, again));
    assert_false(same_hash(wide, tall)); // the same bytes
    assert_false(same_hash(wide, other));
    hand_free(wide);
    hand_free(again);
    hand_free(tall);
    hand_free(other);
}

static void test_sound_that_grew_has_the_name_of_the_whole(void **state)
{
    (void)state;
    struct carat_media *whole = hand_sound(5000, SEGMENT, 7, NULL);
    struct carat_media *grown = hand_sound(5000, SEGMENT, 7, NULL);
    hand_show(grown, 0, true);
    for (size_t n = 0; n < 5000; n += 333) {
        hand_show(grown, n, true);
        assert_false(same_hash(whole, grown));
    }
    hand_show(grown, 5000, false);
    assert_true(same_hash(whole, grown));
    struct carat_media *silence = hand_sound(5001, SEGMENT, 7, NULL);
    silence->samples[5000] = 0;
    hand_show(silence, 5000, false);
    assert_true(same_hash(whole, silence));
    hand_show(silence, 5001, false);
    assert_false(same_hash(whole, silence)); // one sample more, if a silent one
    hand_free(whole);
    hand_free(grown);
    hand_free(silence);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_picture_is_one_run),
        cmocka_unit_test(test_sound_counts_begun_frames),
        cmocka_unit_test(test_long_sound_has_times),
        cmocka_unit_test(test_times_beyond_an_hour),
        cmocka_unit_test(test_open_sound_counts_whole_frames),
        cmocka_unit_test(test_film_ends_with_a_short_sound),
        cmocka_unit_test(test_long_film_has_its_sound_in_time_order),
        cmocka_unit_test(test_spans_of_sound_point_into_the_samples),
        cmocka_unit_test(test_names_follow_content_and_size),
        cmocka_unit_test(test_sound_that_grew_has_the_name_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
