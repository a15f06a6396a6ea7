// SPDX-License-Identifier: Apache-2.0
// Media as bytes and back: the same medium, or a reason.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "media/media.h"

#define N_SAMPLES 490000 // 30.6 s: worth a note
#define HEAD_SIZE 120

static uint8_t pixels[3 * 48 * 96 * 3];
static float samples[N_SAMPLES];
static const double times[] = {0, 0.5, 61};

static int fill(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(pixels); i++) {
        pixels[i] = (uint8_t)(i * 2654435761U >> 24);
    }
    for (size_t i = 0; i < N_SAMPLES; i++) {
        samples[i] = (float)((int)(i * 2654435761U >> 16) % 30000) / 30000;
    }
    return 0;
}

static struct carat_media_source picture(void)
{
    return (struct carat_media_source){
        .type = CARAT_MEDIA_IMAGE, .pixels = pixels, .width = 31, .height = 60, .image_tokens = 70};
}

static struct carat_media_source sound(void)
{
    return (struct carat_media_source){.type = CARAT_MEDIA_AUDIO,
                                       .samples = samples,
                                       .n_samples = N_SAMPLES,
                                       .sample_rate = 16000,
                                       .segment_seconds = 7};
}

static struct carat_media_source film(void)
{
    return (struct carat_media_source){.type = CARAT_MEDIA_VIDEO,
                                       .pixels = pixels,
                                       .n_pixel_frames = 3,
                                       .width = 96,
                                       .height = 48,
                                       .pixel_seconds = times,
                                       .keeps_size = true};
}

static int append(void *user, const void *data, size_t size, struct carat_error *err)
{
    struct buf *b = user;
    buf_add(b, data, size);
    return buf_status(b, err);
}

static int take(void *user, void *out, size_t size, struct carat_error *err)
{
    struct cursor *c = user;
    const void *data = cursor_bytes(c, size);
    if (!data) {
        snprintf(err->text, sizeof(err->text), "the bytes end");
        return err->status = CARAT_E_IO;
    }
    memcpy(out, data, size);
    return 0;
}

static struct buf written(const struct carat_media_source *s, struct carat_media **out)
{
    struct buf b = {0};
    struct carat_error err = {0};
    if (carat_media_new(out, s, &err) || carat_media_write(*out, append, &b, &err)) {
        fail_msg("%s", err.text);
    }
    return b;
}

static void expect_same(const struct carat_media *a, const struct carat_media *b)
{
    struct carat_media_info x = *carat_media_info(a);
    struct carat_media_info y = *carat_media_info(b);
    assert_string_equal(x.format, y.format);
    x.format = y.format = NULL;
    assert_int_equal(x.type, y.type);
    assert_int_equal(x.n_tokens, y.n_tokens);
    assert_int_equal(x.n_segments, y.n_segments);
    assert_memory_equal(x.hash, y.hash, sizeof(x.hash));
    assert_int_equal(x.source_width, y.source_width);
    assert_int_equal(x.source_height, y.source_height);
    assert_int_equal(x.source_rate, y.source_rate);
    assert_int_equal(x.source_channels, y.source_channels);
    assert_int_equal(x.source_frames, y.source_frames);
    assert_true(x.source_seconds == y.source_seconds);
    assert_true(x.source_fps == y.source_fps);
    assert_int_equal(x.n_frames, y.n_frames);
    assert_int_equal(x.n_samples, y.n_samples);
    assert_int_equal(x.width, y.width);
    assert_int_equal(x.height, y.height);
    assert_int_equal(a->segment_samples, b->segment_samples);
    size_t n = 0;
    if (x.n_samples > 0) {
        assert_memory_equal(carat_media_samples(a, &n), carat_media_samples(b, &n), n * 4);
    }
    for (size_t i = 0; i < x.n_frames; i++) {
        double s = -1, t = -2;
        const uint8_t *p = carat_media_frame(a, i, &s);
        assert_memory_equal(p, carat_media_frame(b, i, &t), (size_t)x.width * x.height * 3);
        assert_true(s == t);
    }
    for (size_t i = 0; i < MEDIA_NOTES_MAX; i++) {
        const char *note = carat_media_note(a, i);
        const char *other = carat_media_note(b, i);
        assert_int_equal(note == NULL, other == NULL);
        if (note) {
            assert_string_equal(note, other);
        }
    }
}

static void check_round_trip(struct carat_media_source source, size_t n_notes)
{
    struct carat_media *before = NULL, *after = NULL;
    struct carat_error err = {0};
    struct buf b = written(&source, &before);
    assert_int_equal(carat_media_note(before, n_notes) == NULL, true);
    assert_int_equal(n_notes == 0 || carat_media_note(before, n_notes - 1) != NULL, true);
    struct cursor c = cursor_make(b.data, b.size);
    if (carat_media_read(&after, &source, take, &c, &err)) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(cursor_left(&c), 0);
    expect_same(before, after);
    carat_media_free(after);
    carat_media_free(before);
    buf_release(&b);
}

static void test_media_arrive_as_they_left(void **state)
{
    (void)state;
    check_round_trip(picture(), 0);
    check_round_trip(sound(), 1);
    check_round_trip(film(), 0);
    struct carat_media_source empty = sound();
    empty.n_samples = 0;
    check_round_trip(empty, 0);
}

// How a medium of `source` is refused that was made with `made_with`, with `size` bytes at `at`
// replaced (0: none).
static void refuse(struct carat_media_source made_with, struct carat_media_source source, size_t at,
                   const void *bytes, size_t size, int status, const char *part)
{
    struct carat_media *m = NULL, *after = NULL;
    struct carat_error err = {0};
    struct buf b = written(&made_with, &m);
    carat_media_free(m);
    if (size > 0) {
        memcpy(b.data + at, bytes, size);
    }
    const size_t held = mem_bytes_now();
    struct cursor c = cursor_make(b.data, b.size);
    int rc = carat_media_read(&after, &source, take, &c, &err);
    if (rc != status || !strstr(err.text, part)) {
        fail_msg("at %zu: expected %d and '%s', found %d and '%s'", at, status, part, rc, err.text);
    }
    assert_null(after);
    assert_int_equal(mem_bytes_now(), held);
    buf_release(&b);
}

static void refuse_u64(struct carat_media_source s, size_t at, uint64_t value, size_t size,
                       int status, const char *part)
{
    refuse(s, s, at, &value, size, status, part);
}

static void refuse_double(struct carat_media_source s, size_t at, double value, const char *part)
{
    refuse(s, s, at, &value, sizeof(value), CARAT_E_FORMAT, part);
}

static void test_heads_that_lie_are_refused(void **state)
{
    (void)state;
    const uint64_t huge[] = {UINT64_MAX, UINT64_MAX / 4, (uint64_t)1 << 40, 1 << 20};
    refuse_u64(picture(), 0, 'x', 1, CARAT_E_FORMAT, "another version");
    refuse_u64(picture(), 8, 2, 4, CARAT_E_FORMAT, "another version");
    refuse_u64(picture(), 12, CARAT_MEDIA_VIDEO, 4, CARAT_E_FORMAT, "another type");
    refuse_double(picture(), 24, (double)NAN, "times");
    refuse_double(film(), 48, -1, "times");
    refuse_double(film(), HEAD_SIZE, (double)INFINITY, "times of its pictures");
    for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
        refuse_u64(picture(), 56, huge[i], 8, CARAT_E_FORMAT, "number of pictures");
        refuse_u64(film(), 56, huge[i], 8, CARAT_E_FORMAT, "number of pictures");
        refuse_u64(sound(), 56, huge[i], 8, CARAT_E_FORMAT, "with pictures");
        refuse_u64(picture(), 80, huge[i], 8, CARAT_E_FORMAT, "not asked for");
    }
    const uint32_t large[] = {UINT32_MAX, 48 * 89478485U, INT32_MAX, 48 << 20};
    for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
        refuse_u64(picture(), 64, large[i], 4, CARAT_E_FORMAT, "another size");
        refuse_u64(picture(), 68, large[i], 4, CARAT_E_FORMAT, "another size");
        refuse_u64(sound(), 76, large[i], 4, CARAT_E_FORMAT, "notes");
    }
    refuse_u64(picture(), 56, 0, 8, CARAT_E_FORMAT, "number of pictures");
    refuse_u64(picture(), 56, 2, 8, CARAT_E_FORMAT, "number of pictures");
    refuse_u64(film(), 56, 4, 8, CARAT_E_IO, "bytes end");
    refuse_u64(picture(), 64, 0, 4, CARAT_E_FORMAT, "another size");
    refuse_u64(picture(), 64, 49, 4, CARAT_E_FORMAT, "another size");
    refuse_u64(picture(), 72, 0, 4, CARAT_E_FORMAT, "blocks");
    refuse_u64(sound(), 80, huge[0], 8, CARAT_E_FORMAT, "not asked for");
    refuse_u64(sound(), 80, huge[2], 8, CARAT_E_FULL, "over the limit");
    refuse_u64(sound(), HEAD_SIZE, UINT32_MAX, 4, CARAT_E_FORMAT, "too long");
}

static void test_limits_hold_for_what_is_read(void **state)
{
    (void)state;
    struct carat_media_source s = film();
    s.limits.frames_max = 2;
    refuse(film(), s, 0, NULL, 0, CARAT_E_FORMAT, "number of pictures");
    s = film();
    s.limits.memory_max = 1000;
    refuse(film(), s, 0, NULL, 0, CARAT_E_FULL, "limit");
    s = picture();
    s.image_tokens = 0;
    struct carat_media_source large = picture();
    large.image_tokens = 1120;
    refuse(large, picture(), 0, NULL, 0, CARAT_E_FORMAT, "another size");
    s = sound();
    s.limits.seconds_max = 30;
    refuse(sound(), s, 0, NULL, 0, CARAT_E_FULL, "30 s");
    s = sound();
    s.limits.memory_max = 1000;
    refuse(sound(), s, 0, NULL, 0, CARAT_E_FULL, "limit");
    s = picture();
    s.block = 24;
    refuse(picture(), s, 0, NULL, 0, CARAT_E_FORMAT, "blocks");
    s = picture();
    s.image_tokens = 71;
    refuse(picture(), s, 0, NULL, 0, CARAT_E_ARGUMENT, "soft tokens");
}

static void test_samples_are_numbers(void **state)
{
    (void)state;
    const float not_one = NAN;
    struct carat_media *m = NULL;
    struct carat_media_source s = sound();
    struct buf b = written(&s, &m);
    const size_t last = b.size - sizeof(float);
    carat_media_free(m);
    buf_release(&b);
    refuse(s, s, last, &not_one, sizeof(not_one), CARAT_E_FORMAT, "samples");
}

// What the libraries quote from a file may be anything; it is shown to people.
static void test_texts_become_plain(void **state)
{
    (void)state;
    struct carat_error err = {0};
    static const char name[32] = "a\x1b[31m\xff";
    struct carat_media *m = NULL, *after = NULL;
    struct carat_media_source s = sound();
    struct buf b = written(&s, &m);
    carat_media_free(m);
    memcpy(b.data + 88, name, sizeof(name));
    memcpy(b.data + HEAD_SIZE + 4, "\n\xc3\xa4", 3);
    struct cursor c = cursor_make(b.data, b.size);
    assert_int_equal(carat_media_read(&after, &s, take, &c, &err), 0);
    assert_string_equal(carat_media_info(after)->format, "a?[31m?");
    assert_memory_equal(carat_media_note(after, 0), "?\xc3\xa4", 3);
    carat_media_free(after);
    // Without an end, it gets one.
    memset(b.data + 88, 'a', 32);
    c = cursor_make(b.data, b.size);
    assert_int_equal(carat_media_read(&after, &s, take, &c, &err), 0);
    assert_int_equal(strlen(carat_media_info(after)->format), 31);
    carat_media_free(after);
    buf_release(&b);
}

static void test_reasons_of_the_other_side_are_passed_on(void **state)
{
    (void)state;
    struct carat_error err = {0};
    struct carat_media *m = NULL, *after = NULL;
    struct carat_media_source s = film();
    struct buf b = written(&s, &m);
    for (size_t size = 0; size < b.size; size += size < 200 ? 1 : 997) {
        struct cursor c = cursor_make(b.data, size);
        assert_int_equal(carat_media_read(&after, &s, take, &c, &err), CARAT_E_IO);
        struct buf cut = {.max = size > 0 ? size : 1};
        assert_int_equal(carat_media_write(m, append, &cut, NULL), CARAT_E_FULL);
        buf_release(&cut);
    }
    assert_null(after);
    carat_media_free(m);
    buf_release(&b);
    s = (struct carat_media_source){
        .type = CARAT_MEDIA_AUDIO, .is_open = true, .sample_rate = 16000};
    assert_int_equal(carat_media_new(&m, &s, NULL), 0);
    assert_int_equal(carat_media_write(m, append, &b, NULL), CARAT_E_ARGUMENT);
    carat_media_free(m);
}

static void test_transfer_survives_missing_memory(void **state)
{
    (void)state;
    struct carat_error err = {0};
    const struct carat_media_source sources[] = {picture(), sound(), film()};
    for (size_t i = 0; i < 3; i++) {
        struct carat_media *m = NULL;
        struct buf b = written(&sources[i], &m);
        const size_t before = mem_bytes_now();
        int rc = CARAT_E_MEMORY;
        for (size_t nth = 1; rc == CARAT_E_MEMORY; nth++) {
            assert_true(nth < 100);
            struct carat_media *after = NULL;
            struct cursor c = cursor_make(b.data, b.size);
            mem_fail_nth(nth);
            rc = carat_media_read(&after, &sources[i], take, &c, &err);
            mem_fail_nth(0);
            assert_true(rc == 0 || rc == CARAT_E_MEMORY);
            carat_media_free(after);
            assert_int_equal(mem_bytes_now(), before);
        }
        carat_media_free(m);
        buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_media_arrive_as_they_left),
        cmocka_unit_test(test_heads_that_lie_are_refused),
        cmocka_unit_test(test_limits_hold_for_what_is_read),
        cmocka_unit_test(test_samples_are_numbers),
        cmocka_unit_test(test_texts_become_plain),
        cmocka_unit_test(test_reasons_of_the_other_side_are_passed_on),
        cmocka_unit_test(test_transfer_survives_missing_memory),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
