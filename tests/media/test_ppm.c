// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "media/media.h"

static struct media_budget budget;

static int new_budget(void **state)
{
    (void)state;
    media_budget_init(&budget, &(struct carat_media_source){0}, "test.ppm");
    return 0;
}

// Reads from a block of the exact size.
static int read(struct media_picture *out, const void *data, size_t size, struct carat_error *err)
{
    uint8_t *exact = mem_new(size, NULL);
    memcpy(exact, data, size);
    const struct media_input in = {exact, size, "test.ppm"};
    assert_true(ppm_is(&in));
    int rc = ppm_read(out, &in, &budget, err);
    mem_free(exact);
    return rc;
}

static void expect(const void *data, size_t size, uint32_t width, uint32_t height,
                   const uint8_t *pixels)
{
    struct media_picture p = {0};
    struct carat_error err = {0};
    if (read(&p, data, size, &err)) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(p.width, width);
    assert_int_equal(p.height, height);
    assert_memory_equal(p.pixels, pixels, (size_t)width * height * 3);
    media_picture_release(&p);
}

static void refuse(const void *data, size_t size, int status, const char *part)
{
    struct media_picture p = {0};
    struct carat_error err = {0};
    const uint64_t before = budget.memory;
    int rc = read(&p, data, size, &err);
    if (rc != status || !strstr(err.text, part) || strncmp(err.text, "test.ppm: ", 10) != 0) {
        fail_msg("expected %d and '%s', found %d and '%s'", status, part, rc, err.text);
    }
    assert_null(p.pixels);
    assert_int_equal(budget.memory, before);
}

#define TEXT(t) (t), sizeof(t) - 1

static void test_ppm_reads_colour_and_gray(void **state)
{
    (void)state;
    static const uint8_t colour[] = {0, 128, 255, 10, 20, 30};
    static const uint8_t gray[] = {7, 7, 7, 200, 200, 200};
    expect(TEXT("P6 2 1 255\n\0\x80\xff\x0a\x14\x1e"), 2, 1, colour);
    expect(TEXT("P6\n1\n2\n255\n\0\x80\xff\x0a\x14\x1e"), 1, 2, colour);
    expect(TEXT("P3 2 1 255 0 128 255 10 20 30"), 2, 1, colour);
    expect(TEXT("P3\n2 1 255\n0\n128\n255\n10\t20\r\n30\n"), 2, 1, colour);
    expect(TEXT("P5 2 1 255\n\x07\xc8"), 2, 1, gray);
    expect(TEXT("P2 2 1 255 7 200"), 2, 1, gray);
    // More pictures, or anything, may follow.
    expect(TEXT("P5 2 1 255\n\x07\xc8P5 9 9 255\n"), 2, 1, gray);
}

static void test_ppm_skips_comments(void **state)
{
    (void)state;
    static const uint8_t gray[] = {7, 7, 7, 35, 35, 35};
    expect(TEXT("P5 # made by hand\n#2 9\n2# two\n1 255\n\x07#"), 2, 1, gray);
    expect(TEXT("P2#2 9\n2 1 255 7 # 8\n35"), 2, 1, gray);
}

static void test_ppm_scales_to_8_bits(void **state)
{
    (void)state;
    static const uint8_t bits[] = {0, 0, 0, 255, 255, 255};
    static const uint8_t fifteen[] = {0, 0, 0, 17, 17, 17, 255, 255, 255};
    static const uint8_t thousand[] = {0, 0, 0, 128, 128, 128, 255, 255, 255};
    expect(TEXT("P5 2 1 1\n\0\1"), 2, 1, bits);
    expect(TEXT("P5 3 1 15\n\0\1\x0f"), 3, 1, fifteen);
    expect(TEXT("P2 3 1 1000 0 502 1000"), 3, 1, thousand); // 502 * 0.255 = 128.01
    expect(TEXT("P2 3 1 1000 0 502 1001"), 3, 1, thousand); // above the largest
    // 16 bits as in a PNG: (v * 255 + 32895) >> 16.
    char file[64 + 2 * 65536] = "P5 256 256 65535\n";
    const size_t head = strlen(file);
    for (uint32_t v = 0; v < 65536; v++) {
        file[head + 2 * v] = (char)(unsigned char)(v >> 8);
        file[head + 2 * v + 1] = (char)(unsigned char)v;
    }
    struct media_picture p = {0};
    assert_int_equal(read(&p, file, head + 2 * 65536, NULL), 0);
    for (uint32_t v = 0; v < 65536; v++) {
        assert_int_equal(p.pixels[3 * v], (v * 255 + 32895) >> 16);
    }
    media_picture_release(&p);
}

static void test_ppm_refuses_what_is_not_there(void **state)
{
    (void)state;
    static const char whole[] = "P6 2 1 255\n\0\x80\xff\x0a\x14\x1e";
    for (size_t size = 3; size < sizeof(whole) - 1; size++) {
        refuse(whole, size, CARAT_E_FORMAT, "PPM file");
    }
    static const char text[] = "P3 2 1 255 0 128 255 10 20 3";
    for (size_t size = 3; size < sizeof(text) - 1; size++) {
        refuse(text, size, CARAT_E_FORMAT, "PPM file");
    }
    refuse(TEXT("P6 2 1 255\n\0\x80\xff\x0a\x14"), CARAT_E_FORMAT,
           "byte 11 of a PPM file: expected at least 6 bytes of samples, found 5");
}

static void test_ppm_refuses_nonsense(void **state)
{
    (void)state;
    refuse(TEXT("P6 x 1 255\n"), CARAT_E_FORMAT, "a width");
    refuse(TEXT("P6 -2 1 255\n"), CARAT_E_FORMAT, "a width");
    refuse(TEXT("P6 2 1 0\n      "), CARAT_E_FORMAT, "largest value above 0");
    refuse(TEXT("P6 2 1 65536\n      "), CARAT_E_FORMAT, "up to 65535");
    refuse(TEXT("P6 0 1 255\n      "), CARAT_E_FORMAT, "sides above 0");
    refuse(TEXT("P6 2 0 255\n      "), CARAT_E_FORMAT, "sides above 0");
    refuse(TEXT("P3 2 1 255 0 128 255 10 20 x0"), CARAT_E_FORMAT, "a sample");
    refuse(TEXT("P3 2 1 255 0 128 255 10 20 70000"), CARAT_E_FORMAT, "a sample");
}

static void test_ppm_refuses_lies_for_nothing(void **state)
{
    (void)state;
    static const char *const headers[] = {"P6 9000 9000 255\n", "P5 9000 9000 255\n",
                                          "P5 9000 9000 65535\n", "P3 9000 9000 255\n",
                                          "P2 9000 9000 255\n"};
    const size_t before = mem_bytes_peak();
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        refuse(headers[i], strlen(headers[i]), CARAT_E_FORMAT, "bytes of samples");
    }
    refuse(TEXT("P6 30000 30000 255\n"), CARAT_E_FULL, "over the limit of 100000000 pixels");
    refuse(TEXT("P6 2147483647 2147483647 255\n"), CARAT_E_FULL, "over the limit");
    refuse(TEXT("P6 2147483647 1 255\n"), CARAT_E_FULL, "over the limit");
    refuse(TEXT("P6 2147483648 1 255\n"), CARAT_E_FORMAT, "a width");
    refuse(TEXT("P6 99999999999999999999999 1 255\n"), CARAT_E_FORMAT, "a width");
    assert_true(mem_bytes_peak() < before + 100000);
    budget.limits.memory_max = 5;
    refuse(TEXT("P6 2 1 255\n\0\x80\xff\x0a\x14\x1e"), CARAT_E_FULL, "6 bytes more");
}

static void test_ppm_is_told_from_others(void **state)
{
    (void)state;
    static const char *const others[] = {"", "P", "P6", "P1 ", "P4 ", "P7 ", "P66", "p6 ", "GIF"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        const struct media_input in = {(const uint8_t *)others[i], strlen(others[i]), "x"};
        assert_false(ppm_is(&in));
    }
}

static void test_ppm_survives_missing_memory(void **state)
{
    (void)state;
    const struct media_input in = {(const uint8_t *)"P2 1 1 255 7", 12, "test.ppm"};
    struct media_picture p = {0};
    mem_fail_nth(1);
    assert_int_equal(ppm_read(&p, &in, &budget, NULL), CARAT_E_MEMORY);
    mem_fail_nth(0);
    assert_int_equal(budget.memory, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_ppm_reads_colour_and_gray, new_budget),
        cmocka_unit_test_setup(test_ppm_skips_comments, new_budget),
        cmocka_unit_test_setup(test_ppm_scales_to_8_bits, new_budget),
        cmocka_unit_test_setup(test_ppm_refuses_what_is_not_there, new_budget),
        cmocka_unit_test_setup(test_ppm_refuses_nonsense, new_budget),
        cmocka_unit_test_setup(test_ppm_refuses_lies_for_nothing, new_budget),
        cmocka_unit_test_setup(test_ppm_is_told_from_others, new_budget),
        cmocka_unit_test_setup(test_ppm_survives_missing_memory, new_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
