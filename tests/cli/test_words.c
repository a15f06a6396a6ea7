// SPDX-License-Identifier: Apache-2.0
// How carat eval compares texts: normal forms and counted errors. Expected values are worked out by
// hand, or by the plain table of the definition.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cli/eval_tasks_words.h"

static void assert_form(void (*add)(struct buf *, struct slice), const char *text,
                        const char *expected)
{
    struct buf out = {0};
    add(&out, slice_of(text));
    assert_string_equal(buf_text(&out), expected);
    buf_release(&out);
}

static void test_words(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"", ""},
        {" \n\t", ""},
        {"...!?", ""},
        {"The sky is blue.", "the sky is blue"},
        {"  Two   gaps\n", "two gaps"},
        {"well-known, yes?", "well known yes"},
        {"It's John\xe2\x80\x99s", "it's john's"},
        {"'quoted' words'", "quoted words"},
        {"rock 'n' roll", "rock n roll"},
        {"a''b", "a b"},
        {"3.5 \xe2\x82\xac", "3 5"},
        {"\xc3\x89T\xc3\x89 \xc2\xabici\xc2\xbb", "\xc3\xa9t\xc3\xa9 ici"},
        // Greek, with either small sigma; Cyrillic.
        {"\xce\xa3\xce\x9f\xce\xa6\xce\x9f\xce\xa3", "\xcf\x83\xce\xbf\xcf\x86\xce\xbf\xcf\x83"},
        {"\xcf\x83\xce\xbf\xcf\x86\xce\xbf\xcf\x82", "\xcf\x83\xce\xbf\xcf\x86\xce\xbf\xcf\x83"},
        {"\xd0\x9f\xd0\xa0\xd0\x98\xd0\x92\xd0\x95\xd0\xa2!",
         "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82"},
        // An ideographic full stop and space.
        {"\xe4\xbd\xa0\xe3\x80\x82\xe3\x80\x80\xe5\xa5\xbd", "\xe4\xbd\xa0 \xe5\xa5\xbd"},
        // Vowel signs are part of their word.
        {"\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8", "\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8"},
        {"a\xff"
         "b",
         "a b"}, // U+FFFD is a symbol
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_form(words_add, rows[i].text, rows[i].words);
    }
    assert_form(words_add_small, "It's \xc3\x89T\xc3\x89!", "it's \xc3\xa9t\xc3\xa9!");
}

static void test_unicode(void **state)
{
    (void)state;
    static const uint32_t marks[] = {'!',    '\'',   '$',    '_',    '~',    0xa1,    0xd7,
                                     0x2019, 0x20ac, 0x3002, 0xfe30, 0xff01, 0x1f600, 0x1e95e};
    static const uint32_t others[] = {0,     ' ',   '0',    'A',    'z',    0xaa,     0xe9,   0x300,
                                      0x3b1, 0x5d0, 0x2000, 0x4e00, 0xac00, 0x10ffff, 0x1d400};
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        assert_true(unicode_is_mark(marks[i]));
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_false(unicode_is_mark(others[i]));
    }
    static const uint32_t pairs[][2] = {
        {'A', 'a'},         {'Z', 'z'},           {'a', 'a'},       {'@', '@'},
        {'[', '['},         {0xc0, 0xe0},         {0xd7, 0xd7},     {0xdf, 0xdf},
        {0x100, 0x101},     {0x101, 0x101},       {0x178, 0xff},    {0x1e9e, 0xdf},
        {0x3a3, 0x3c3},     {0x3c2, 0x3c3},       {0x410, 0x430},   {0x531, 0x561},
        {0x2126, 0x3c9},    {0x212a, 'k'},        {0xff21, 0xff41}, {0x10400, 0x10428},
        {0x1e900, 0x1e922}, {0x10ffff, 0x10ffff},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_int_equal(unicode_small(pairs[i][0]), pairs[i][1]);
    }
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *reference, *answer;
        uint64_t n, substituted, deleted, inserted;
    } rows[] = {
        {"a b c", "a b c", 3, 0, 0, 0},
        {"a b c", "", 3, 0, 3, 0},
        {"", "a b", 0, 0, 0, 2},
        {"", "", 0, 0, 0, 0},
        {"a b c", "a x c", 3, 1, 0, 0},
        {"a b c", "a c", 3, 0, 1, 0},
        {"a b c", "a b x c", 3, 0, 0, 1},
        {"a b c", "b c d", 3, 0, 1, 1}, // cheaper than three substitutions
        {"a b", "b a", 2, 2, 0, 0},     // not one missing and one added
        {"a b c d", "x b d e", 4, 3, 0, 0},
        {"the cat sat on the mat", "the cat sit on mat", 6, 1, 1, 0},
        {"a a a", "a a a a a", 3, 0, 0, 2},
        {"one two", "completely other words here", 2, 2, 0, 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct word_errors e = {.n = 99};
        assert_int_equal(
            words_count_errors(&e, slice_of(rows[i].reference), slice_of(rows[i].answer), NULL), 0);
        assert_int_equal(e.n, rows[i].n);
        assert_int_equal(e.substituted, rows[i].substituted);
        assert_int_equal(e.deleted, rows[i].deleted);
        assert_int_equal(e.inserted, rows[i].inserted);
    }
    struct word_errors e = {.n = 99};
    // Characters, not bytes; kitten and sitting are the textbook's.
    words_count_character_errors(&e, slice_of("kitten"), slice_of("sitting"), NULL);
    assert_int_equal(e.n, 6);
    assert_int_equal(e.substituted, 2);
    assert_int_equal(e.inserted, 1);
    assert_int_equal(e.deleted, 0);
    words_count_character_errors(&e, slice_of("\xc3\xa9t\xc3\xa9 a"), slice_of("ete a"), NULL);
    assert_int_equal(e.n, 5);
    assert_int_equal(e.substituted, 2);
    assert_int_equal(e.inserted + e.deleted, 0);
}

// ------------------------------------------------------------------------------ the definition

struct cost {
    unsigned errors, others;
};

static struct cost better(struct cost a, struct cost b)
{
    return b.errors < a.errors || (b.errors == a.errors && b.others < a.others) ? b : a;
}

// The whole table, row by row.
static struct cost whole_table(const char *a, size_t n, const char *b, size_t m)
{
    static struct cost rows[2][400];
    for (size_t j = 0; j <= m; j++) {
        rows[0][j] = (struct cost){(unsigned)j, (unsigned)j};
    }
    for (size_t i = 1; i <= n; i++) {
        const struct cost *above = rows[(i - 1) % 2];
        struct cost *row = rows[i % 2];
        row[0] = (struct cost){(unsigned)i, (unsigned)i};
        for (size_t j = 1; j <= m; j++) {
            struct cost c = {above[j - 1].errors + (a[i - 1] != b[j - 1]), above[j - 1].others};
            c = better(c, (struct cost){above[j].errors + 1, above[j].others + 1});
            row[j] = better(c, (struct cost){row[j - 1].errors + 1, row[j - 1].others + 1});
        }
    }
    return rows[n % 2][m];
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// Texts that are alike, and texts that have nothing to do with each other, of few letters: many
// ways are equally short.
static void test_against_the_whole_table(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252u;
    char a[400], b[400];
    for (size_t round = 0; round < 3000; round++) {
        size_t n = next_random(&random) % (round % 10 == 0 ? 300 : 20), m = 0;
        size_t letters = 1 + next_random(&random) % 4, keeps = next_random(&random) % 12;
        for (size_t i = 0; i < n; i++) {
            a[i] = (char)('a' + next_random(&random) % letters);
        }
        for (size_t i = 0; i < n && m < 390; i++) {
            bool is_kept = next_random(&random) % 12 < keeps;
            size_t change = is_kept ? 3 : next_random(&random) % 3;
            if (change == 1) {
                b[m++] = (char)('a' + next_random(&random) % letters);
            }
            if (change != 0) {
                b[m++] = is_kept || change == 1 ? a[i] : 'x';
            }
        }
        struct cost c = whole_table(a, n, b, m);
        struct word_errors e = {.n = 0};
        assert_int_equal(words_count_character_errors(&e, slice_make(a, n), slice_make(b, m), NULL),
                         0);
        assert_int_equal(e.n, n);
        assert_int_equal(e.substituted + e.deleted + e.inserted, c.errors);
        assert_int_equal(e.deleted + e.inserted, c.others);
        assert_int_equal(n - e.deleted + e.inserted, m);
    }
}

static void test_long_texts(void **state)
{
    (void)state;
    struct buf a = {0}, b = {0};
    struct word_errors e = {.n = 0};
    for (size_t i = 0; i < 30000; i++) {
        buf_addf(&a, i ? " w%zu" : "w%zu", i % 977);
        if (i % 1000 != 5) {
            buf_addf(&b, i ? " w%zu" : "w%zu", i % 1000 == 7 ? 0 : i % 977);
        }
    }
    assert_int_equal(
        words_count_errors(&e, slice_make(a.data, a.size), slice_make(b.data, b.size), NULL), 0);
    assert_int_equal(e.n, 30000);
    // Each thousand lacks a word and has another one wrong, unless that is word 0 anyway.
    assert_int_equal(e.deleted, 30);
    assert_int_equal(e.substituted, 30);
    assert_int_equal(e.inserted, 0);
    buf_release(&a);
    buf_release(&b);
}

static void test_without_memory(void **state)
{
    (void)state;
    size_t before = mem_bytes_now();
    for (size_t n = 1;; n++) {
        struct word_errors e = {.n = 77};
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = words_count_errors(&e, slice_of("a b c"), slice_of("x b d e"), &err);
        mem_fail_nth(0);
        assert_int_equal(mem_bytes_now(), before);
        if (rc == 0) {
            assert_int_equal(e.n, 3);
            assert_true(n > 3);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(e.n, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),      cmocka_unit_test(test_unicode),
        cmocka_unit_test(test_errors),     cmocka_unit_test(test_against_the_whole_table),
        cmocka_unit_test(test_long_texts), cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
