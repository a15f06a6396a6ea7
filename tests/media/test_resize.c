// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "media/media.h"

static struct media_budget budget;

static int new_budget(void **state)
{
    (void)state;
    media_budget_init(&budget, &(struct carat_media_source){0}, "test");
    return 0;
}

enum kind { NOISE, EDGES, SLOPE };

// Pixels that anybody can make again from their number.
static uint8_t pixel(enum kind kind, uint32_t w, uint32_t x, uint32_t y, uint32_t c)
{
    uint32_t r = ((y * w + x) * 3 + c) * 2654435761U;
    r = (r ^ (r >> 15)) * 2246822519U >> 24;
    switch (kind) {
    case NOISE:
        return (uint8_t)r;
    case EDGES:
        return r > 127 ? 255 : 0;
    case SLOPE:
        break;
    }
    return (uint8_t)(x * 255 / (w > 1 ? w - 1 : 1) * (c + 1) / 3 + y * 7);
}

static struct media_picture make(uint32_t width, uint32_t height, enum kind kind)
{
    struct media_picture p = {mem_new((size_t)width * height * 3, NULL), width, height};
    assert_non_null(p.pixels);
    for (uint32_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < width; x++) {
            for (uint32_t c = 0; c < 3; c++) {
                p.pixels[((size_t)y * width + x) * 3 + c] = pixel(kind, width, x, y, c);
            }
        }
    }
    return p;
}

static uint64_t fnv1a(const uint8_t *data, size_t size)
{
    uint64_t h = 0xcbf29ce484222325U;
    for (size_t i = 0; i < size; i++) {
        h = (h ^ data[i]) * 0x100000001b3U;
    }
    return h;
}

// The hashes are of what torchvision 0.29.2 makes of these pictures with resize(..., BICUBIC,
// antialias=True) on 8-bit pixels, which is what the published processor calls.
static void test_resize_equals_the_reference_bit_for_bit(void **state)
{
    (void)state;
    static const struct {
        uint32_t width, height, out_width, out_height;
        enum kind kind;
        uint64_t hash;
    } cases[] = {
        {1, 1, 384, 384, NOISE, 0x3b761076690ee325},
        {2, 7, 240, 816, NOISE, 0xb8f369d1b867ba31},
        {61, 47, 432, 336, NOISE, 0xe1e825930d14f8ae},
        {61, 47, 96, 48, EDGES, 0x65dab7cd028da62c},
        {320, 200, 480, 288, EDGES, 0x260917866635178b},
        {640, 480, 432, 336, NOISE, 0x07c42b59abb6ae65},
        {640, 480, 96, 48, EDGES, 0x7ddc0f818d797ca8},
        {1000, 700, 48, 48, EDGES, 0x13edfae540718b58},
        {5000, 4, 3360, 48, NOISE, 0x847cfbfb8b992b30},
        {4, 5000, 48, 3360, EDGES, 0x0b842d12cb4d8ac4},
        {1999, 17, 720, 48, NOISE, 0x42d616ace9691aea},
        {7, 1601, 48, 1200, EDGES, 0x280a924ed5917976},
        {768, 768, 768, 768, NOISE, 0x104a95e9dbc7ef5f},
        {768, 400, 768, 96, EDGES, 0x183f7e35387bc38c},
        {400, 768, 96, 768, EDGES, 0x19296844f5bdb4fe},
        {48, 48, 49, 47, NOISE, 0xb6ace4611bc28db0},
        {805, 801, 384, 384, SLOPE, 0x8aae409367f26bbf},
        {1920, 1080, 528, 288, SLOPE, 0xc7e312ccfa6b6bab}, // large enough for threads
        {1283, 1021, 432, 336, NOISE, 0xf55df38a2d4a09e4},
        {3, 1, 144, 48, EDGES, 0x1155ab9b0e605625},
        {20000, 2, 144, 48, EDGES, 0x7ffeeefa0a80d54d},
        {255, 257, 254, 258, NOISE, 0x7d582add1dfea7d1},
        {100, 9000, 48, 480, SLOPE, 0x74a84e3c500a036c},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct media_picture in = make(cases[i].width, cases[i].height, cases[i].kind);
        const size_t size = (size_t)cases[i].out_width * cases[i].out_height * 3;
        uint8_t *out = mem_new(size, NULL);
        struct carat_error err = {0};
        if (resize_rgb(out, cases[i].out_width, cases[i].out_height, &in, &budget, &err)) {
            fail_msg("case %zu: %s", i, err.text);
        }
        const uint64_t hash = fnv1a(out, size);
        if (hash != cases[i].hash) {
            fail_msg("case %zu: %u x %u to %u x %u differs: %016llx", i, cases[i].width,
                     cases[i].height, cases[i].out_width, cases[i].out_height,
                     (unsigned long long)hash);
        }
        assert_int_equal(budget.memory, 0); // everything was given back
        mem_free(out);
        media_picture_release(&in);
    }
}

static void test_resize_keeps_a_plain_colour(void **state)
{
    (void)state;
    struct media_picture in = {mem_new(300 * 200 * 3, NULL), 300, 200};
    memset(in.pixels, 173, 300 * 200 * 3);
    uint8_t *out = mem_new(96 * 48 * 3, NULL);
    assert_int_equal(resize_rgb(out, 96, 48, &in, &budget, NULL), 0);
    for (size_t i = 0; i < 96 * 48 * 3; i++) {
        assert_int_equal(out[i], 173);
    }
    mem_free(out);
    media_picture_release(&in);
}

// A very tall picture: the rows between the passes must not all be kept.
static void test_resize_keeps_few_rows(void **state)
{
    (void)state;
    struct media_picture in = make(2, 1000000, NOISE);
    uint8_t *out = mem_new((size_t)48 * 3360 * 3, NULL);
    budget.limits.memory_max = 12000000; // the weights take 8 MB; all rows would take 144 MB
    struct carat_error err = {0};
    if (resize_rgb(out, 48, 3360, &in, &budget, &err)) {
        fail_msg("%s", err.text);
    }
    mem_free(out);
    media_picture_release(&in);
}

static void test_resize_stops_in_time(void **state)
{
    (void)state;
    struct media_picture in = make(2, 1000000, NOISE);
    uint8_t *out = mem_new((size_t)48 * 3360 * 3, NULL);
    struct carat_error err = {0};
    budget.deadline = budget.started - 1;
    assert_int_equal(resize_rgb(out, 48, 3360, &in, &budget, &err), CARAT_E_FULL);
    assert_non_null(strstr(err.text, "longer to decode"));
    assert_int_equal(budget.memory, 0);
    mem_free(out);
    media_picture_release(&in);
}

static void test_resize_survives_missing_memory(void **state)
{
    (void)state;
    struct media_picture in = make(50, 40, NOISE);
    uint8_t out[48 * 48 * 3];
    const size_t before = mem_bytes_now();
    int rc = CARAT_E_MEMORY;
    for (size_t nth = 1; rc == CARAT_E_MEMORY; nth++) {
        assert_true(nth < 50);
        mem_fail_nth(nth);
        rc = resize_rgb(out, 48, 48, &in, &budget, NULL);
        mem_fail_nth(0);
        assert_true(rc == 0 || rc == CARAT_E_MEMORY);
        assert_int_equal(mem_bytes_now(), before);
        assert_int_equal(budget.memory, 0);
    }
    media_picture_release(&in);
}

// The table of docs/media.md, which is the published processor's.
static void test_image_size_follows_the_table(void **state)
{
    (void)state;
    static const uint32_t tokens[] = {70, 140, 280, 560, 1120};
    static const struct {
        uint32_t height, width;
        uint32_t sizes[5][2]; // height, width
    } cases[] = {
        {480, 640, {{336, 432}, {480, 624}, {672, 912}, {960, 1296}, {1344, 1824}}},
        {1080, 1920, {{288, 528}, {384, 720}, {576, 1056}, {816, 1488}, {1200, 2112}}},
        {1920, 1080, {{528, 288}, {720, 384}, {1056, 576}, {1488, 816}, {2112, 1200}}},
        {1, 1, {{384, 384}, {528, 528}, {768, 768}, {1104, 1104}, {1584, 1584}}},
        {100, 100, {{384, 384}, {528, 528}, {768, 768}, {1104, 1104}, {1584, 1584}}},
        {768, 768, {{384, 384}, {528, 528}, {768, 768}, {1104, 1104}, {1584, 1584}}},
        {10, 5000, {{48, 3360}, {48, 6720}, {48, 13440}, {48, 25392}, {48, 35904}}},
        {600, 20000, {{48, 2304}, {96, 3264}, {96, 4608}, {192, 6528}, {240, 9264}}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t k = 0; k < 5; k++) {
            uint32_t w = 0;
            uint32_t h = 0;
            assert_int_equal(
                carat_image_size(&w, &h, cases[i].width, cases[i].height, tokens[k], 0, NULL), 0);
            assert_int_equal(h, cases[i].sizes[k][0]);
            assert_int_equal(w, cases[i].sizes[k][1]);
        }
    }
}

static void test_image_size_picks_a_budget(void **state)
{
    (void)state;
    static const struct {
        uint32_t width, height, tokens; // the budget that gives the same
    } cases[] = {
        {1, 1, 70},       {336, 480, 70},     {337, 480, 140},    {640, 480, 140}, {800, 800, 280},
        {1280, 720, 560}, {1920, 1080, 1120}, {8000, 6000, 1120}, {10000, 10, 70},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t w[2];
        uint32_t h[2];
        assert_int_equal(
            carat_image_size(&w[0], &h[0], cases[i].width, cases[i].height, 0, 0, NULL), 0);
        assert_int_equal(carat_image_size(&w[1], &h[1], cases[i].width, cases[i].height,
                                          cases[i].tokens, 48, NULL),
                         0);
        assert_int_equal(w[0], w[1]);
        assert_int_equal(h[0], h[1]);
    }
}

static void test_image_size_stays_within_its_budget(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (size_t i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        const uint32_t width = 1 + (seed >> (8 + seed % 20));
        seed = seed * 1664525 + 1013904223;
        const uint32_t height = 1 + (seed >> (8 + seed % 20));
        uint32_t w = 0;
        uint32_t h = 0;
        assert_int_equal(carat_image_size(&w, &h, width, height, 280, 12, NULL), 0);
        assert_true(w > 0);
        assert_true(h > 0);
        assert_int_equal(w % 12, 0);
        assert_int_equal(h % 12, 0);
        assert_true((uint64_t)(w / 12) * (h / 12) <= 280);
    }
}

static void test_image_size_refuses_other_budgets(void **state)
{
    (void)state;
    uint32_t w = 7;
    uint32_t h = 7;
    struct carat_error err = {0};
    assert_int_equal(carat_image_size(&w, &h, 10, 10, 100, 0, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "70, 140, 280, 560, 1120"));
    assert_int_equal(carat_image_size(&w, &h, 0, 10, 70, 0, &err), CARAT_E_ARGUMENT);
    assert_int_equal(carat_image_size(&w, &h, 10, 10, 70, 5000, &err), CARAT_E_ARGUMENT);
    assert_int_equal(w, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_resize_equals_the_reference_bit_for_bit, new_budget),
        cmocka_unit_test_setup(test_resize_keeps_a_plain_colour, new_budget),
        cmocka_unit_test_setup(test_resize_keeps_few_rows, new_budget),
        cmocka_unit_test_setup(test_resize_stops_in_time, new_budget),
        cmocka_unit_test_setup(test_resize_survives_missing_memory, new_budget),
        cmocka_unit_test(test_image_size_follows_the_table),
        cmocka_unit_test(test_image_size_picks_a_budget),
        cmocka_unit_test(test_image_size_stays_within_its_budget),
        cmocka_unit_test(test_image_size_refuses_other_budgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
