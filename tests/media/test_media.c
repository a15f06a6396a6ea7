// SPDX-License-Identifier: Apache-2.0
// The public calls, with the formats that need no library.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"
#include "media/parts.h"
#include "wav_maker.h"

static struct carat_media *make(const struct carat_media_source *source)
{
    struct carat_media *m = NULL;
    struct carat_error err = {0};
    if (carat_media_new(&m, source, &err)) {
        fail_msg("%s", err.text);
    }
    return m;
}

static void refuse(const struct carat_media_source *source, int status, const char *part)
{
    struct carat_media *m = NULL;
    struct carat_error err = {0};
    const size_t before = mem_bytes_now();
    int rc = carat_media_new(&m, source, &err);
    if (rc != status || !strstr(err.text, part)) {
        fail_msg("expected %d and '%s', found %d and '%s'", status, part, rc, err.text);
    }
    assert_null(m);
    assert_int_equal(mem_bytes_now(), before);
}

static uint8_t some_pixels[96 * 96 * 3 * 10];
static float some_samples[16000];

static int fill(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(some_pixels); i++) {
        some_pixels[i] = (uint8_t)(i * 2654435761U >> 24);
    }
    for (size_t i = 0; i < 16000; i++) {
        some_samples[i] = (float)((int)(i * 2654435761U >> 16) % 30000) / 30000;
    }
    return 0;
}

static struct carat_media_source picture(uint32_t width, uint32_t height)
{
    return (struct carat_media_source){
        .type = CARAT_MEDIA_IMAGE, .pixels = some_pixels, .width = width, .height = height};
}

static struct carat_media_source sound(size_t n)
{
    return (struct carat_media_source){
        .type = CARAT_MEDIA_AUDIO, .samples = some_samples, .n_samples = n, .sample_rate = 16000};
}

static struct carat_media_source film(size_t n_frames)
{
    return (struct carat_media_source){.type = CARAT_MEDIA_VIDEO,
                                       .pixels = some_pixels,
                                       .width = 48,
                                       .height = 48,
                                       .keeps_size = true,
                                       .n_pixel_frames = n_frames};
}

/* ------------------------------------------------------------------------------------- sources */

static void test_media_wants_exactly_one_source(void **state)
{
    (void)state;
    struct carat_media_source s = {.type = CARAT_MEDIA_IMAGE};
    refuse(&s, CARAT_E_ARGUMENT, "exactly one of path, data, pixels, samples or is_open, found 0");
    s = picture(2, 2);
    s.path = "a.png";
    refuse(&s, CARAT_E_ARGUMENT, "found 2 of them");
    s = sound(1);
    s.data = "";
    refuse(&s, CARAT_E_ARGUMENT, "found 2 of them");
    s = (struct carat_media_source){.type = CARAT_MEDIA_AUDIO, .path = "a.wav", .is_open = true};
    refuse(&s, CARAT_E_ARGUMENT, "found 2 of them");
}

static void test_media_refuses_options_that_make_no_sense(void **state)
{
    (void)state;
    struct carat_media_source s = picture(2, 2);
    s.type = 0;
    refuse(&s, CARAT_E_ARGUMENT, "type of a medium");
    s.type = CARAT_MEDIA_AUDIO;
    refuse(&s, CARAT_E_ARGUMENT, "cannot be read as sound");
    s = picture(0, 2);
    refuse(&s, CARAT_E_ARGUMENT, "sides above 0");
    s = picture(2, 2);
    s.image_tokens = 71;
    refuse(&s, CARAT_E_ARGUMENT, "70, 140, 280, 560, 1120");
    s = picture(48, 50);
    s.keeps_size = true;
    refuse(&s, CARAT_E_ARGUMENT, "multiples of 48, found 48 x 50");
    s = picture(480, 48 * 113);
    s.keeps_size = true;
    refuse(&s, CARAT_E_ARGUMENT, "at most 1120 blocks, found 1130");
    s = (struct carat_media_source){.type = CARAT_MEDIA_IMAGE, .path = "x", .keeps_size = true};
    refuse(&s, CARAT_E_ARGUMENT, "keeps_size");
    s = sound(1);
    s.type = CARAT_MEDIA_VIDEO;
    refuse(&s, CARAT_E_ARGUMENT, "expected type AUDIO");
    s = sound(1);
    s.sample_rate = 0;
    refuse(&s, CARAT_E_ARGUMENT, "sample_rate");
    s = sound(1);
    s.segment_seconds = (double)NAN;
    refuse(&s, CARAT_E_ARGUMENT, "segment_seconds");
    s = sound(1);
    s.limits.seconds_max = -1;
    refuse(&s, CARAT_E_ARGUMENT, "limits");
    s = film(0);
    refuse(&s, CARAT_E_ARGUMENT, "at least one frame");
    s = film(2);
    s.n_frames = 2;
    s.frames_per_second = 1;
    refuse(&s, CARAT_E_ARGUMENT, "found both");
    s = film(2);
    s.frames_per_second = 1;
    refuse(&s, CARAT_E_ARGUMENT, "frames_per_second");
    s = film(2);
    s.frames_per_second = -1;
    refuse(&s, CARAT_E_ARGUMENT, "frames_per_second");
    s = film(2);
    s.pixel_seconds = (const double[]){0, (double)NAN};
    refuse(&s, CARAT_E_ARGUMENT, "time of frame 1");
}

static const char ppm[] = "P6 2 1 255\n\x0a\x14\x1e\x0a\x14\x1e"; // of one colour
#define PPM_SIZE (sizeof(ppm) - 1)

static void check_ppm(const struct carat_media_source *s)
{
    struct carat_media *m = make(s);
    const struct carat_media_info *info = carat_media_info(m);
    assert_int_equal(info->type, CARAT_MEDIA_IMAGE);
    assert_string_equal(info->format, "ppm");
    assert_int_equal(info->source_width, 2);
    assert_int_equal(info->source_height, 1);
    assert_int_equal(info->width, 528); // docs/media.md's formula by hand: f = sqrt(161280 / 2)
    assert_int_equal(info->height, 240);
    assert_int_equal(info->n_frames, 1);
    assert_int_equal(info->n_tokens, 55);
    const uint8_t *pixels = carat_media_frame(m, 0, NULL);
    for (size_t i = 0; i < (size_t)528 * 240; i++) {
        assert_memory_equal(pixels + 3 * i, "\x0a\x14\x1e", 3);
    }
    assert_null(carat_media_frame(m, 1, NULL));
    assert_null(carat_media_note(m, 0));
    carat_media_free(m);
}

static void test_media_reads_memory_files_and_pipes(void **state)
{
    (void)state;
    struct carat_media_source s = {
        .type = CARAT_MEDIA_IMAGE, .data = ppm, .size = PPM_SIZE, .image_tokens = 70};
    check_ppm(&s);

    char path[] = "test_media.ppm";
    assert_int_equal(os_write_file(path, ppm, PPM_SIZE, NULL), 0);
    s.data = NULL;
    s.size = 0;
    s.path = path;
    check_ppm(&s);
    s.limits.file_size_max = PPM_SIZE - 1;
    refuse(&s, CARAT_E_FULL, "17 bytes are over the limit of 16");
    s.limits.file_size_max = 0;
    unlink(path);
    refuse(&s, CARAT_E_IO, path);

    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], ppm, PPM_SIZE), PPM_SIZE);
    close(ends[1]);
    char name[40];
    snprintf(name, sizeof(name), "/dev/fd/%d", ends[0]);
    s.path = name;
    check_ppm(&s);
    close(ends[0]);

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], ppm, PPM_SIZE), PPM_SIZE);
    close(ends[1]);
    snprintf(name, sizeof(name), "/dev/fd/%d", ends[0]);
    s.limits.file_size_max = PPM_SIZE - 1;
    refuse(&s, CARAT_E_FULL, "at most 16 bytes");
    close(ends[0]);

    s = (struct carat_media_source){.type = CARAT_MEDIA_IMAGE, .path = "."};
    refuse(&s, CARAT_E_IO, "directory");
    s = (struct carat_media_source){.type = CARAT_MEDIA_IMAGE, .data = ppm};
    refuse(&s, CARAT_E_FORMAT, "empty");
}

/* ------------------------------------------------------------------------------------ pictures */

static void test_media_keeps_pixels_that_fit(void **state)
{
    (void)state;
    struct carat_media_source s = picture(96, 48);
    s.keeps_size = true;
    struct carat_media *m = make(&s);
    const struct carat_media_info *info = carat_media_info(m);
    assert_string_equal(info->format, "pixels");
    assert_int_equal(info->n_tokens, 2);
    assert_memory_equal(carat_media_frame(m, 0, NULL), some_pixels, 96 * 48 * 3);
    carat_media_free(m);
    s.block = 12;
    m = make(&s);
    assert_int_equal(carat_media_info(m)->n_tokens, 32);
    carat_media_free(m);
}

static void test_media_enlarges_a_small_picture(void **state)
{
    (void)state;
    struct carat_media_source s = picture(96, 96);
    struct carat_media *m = make(&s);
    assert_int_equal(carat_media_info(m)->width, 384);
    assert_int_equal(carat_media_info(m)->n_tokens, 64);
    carat_media_free(m);
    s.image_tokens = 280;
    m = make(&s);
    assert_int_equal(carat_media_info(m)->n_tokens, 256);
    carat_media_free(m);
}

static void test_media_names_content(void **state)
{
    (void)state;
    struct carat_media_source s = picture(48, 48);
    s.keeps_size = true;
    struct carat_media *a = make(&s);
    struct carat_media *b = make(&s);
    some_pixels[5] ^= 1;
    struct carat_media *c = make(&s);
    some_pixels[5] ^= 1;
    assert_memory_equal(carat_media_info(a)->hash, carat_media_info(b)->hash, 16);
    assert_memory_not_equal(carat_media_info(a)->hash, carat_media_info(c)->hash, 16);
    carat_media_free(a);
    carat_media_free(b);
    carat_media_free(c);
}

static void test_media_keeps_the_limits_of_pictures(void **state)
{
    (void)state;
    struct carat_media_source s = picture(96, 96);
    s.limits.pixels_max = 96 * 96 - 1;
    refuse(&s, CARAT_E_FULL, "96 x 96 pixels is over the limit of 9215");
    s.limits.pixels_max = 0;
    s.limits.memory_max = 400000; // 384 * 384 * 3 is more
    refuse(&s, CARAT_E_FULL, "over the limit of 400000");
}

static bool stop(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    (void)done;
    (void)total;
    *(int *)user += 1;
    return false;
}

static void test_media_stops_when_asked(void **state)
{
    (void)state;
    int n = 0;
    struct carat_media_source s = picture(96, 96);
    s.on_progress = stop;
    s.user = &n;
    refuse(&s, CARAT_E_STOPPED, "stopped");
    assert_int_equal(n, 1);
}

/* ---------------------------------------------------------------------------------------- film */

// Frame numbers as the published processor takes them, recorded with transformers 5.23.0.
static void test_film_takes_the_frames_of_the_reference(void **state)
{
    (void)state;
    static const struct {
        size_t total;
        double fps, seconds;
        size_t n_frames;
        double frames_per_second;
        size_t n;
        size_t frames[32];
    } cases[] = {
        {60, 12, 5, 0, 0, 32, {0,  1,  3,  5,  7,  9,  11, 13, 15, 16, 18, 20, 22, 24, 26, 28,
                               30, 31, 33, 35, 37, 39, 41, 43, 45, 46, 48, 50, 52, 54, 56, 58}},
        {60, 12, 5, 8, 0, 8, {0, 7, 15, 22, 30, 37, 45, 52}},
        {60, 12, 5, 1, 0, 1, {0}},
        {60, 12, 5, 0, 1, 5, {0, 12, 24, 36, 48}},
        {60, 12, 5, 0, 2, 10, {0, 6, 12, 18, 24, 30, 36, 42, 48, 54}},
        {75, 25, 3, 16, 0, 16, {0, 4, 9, 14, 18, 23, 28, 32, 37, 42, 46, 51, 56, 60, 65, 70}},
        {100,
         100 * 1001.0 / (100 * 1001.0 / 30000 * 1001),
         3.3367,
         0,
         3,
         10,
         {0, 10, 20, 30, 40, 50, 60, 70, 80, 90}},
        // Not the reference's: fewer frames than asked for.
        {20, 10, 2, 0, 0, 20, {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
                               10, 11, 12, 13, 14, 15, 16, 17, 18, 19}},
        {3, 10, 0.3, 0, 100, 3, {0, 1, 2}},
        {3, 0.1, 30, 0, 0.01, 1, {0}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct carat_media_source s = {.n_frames = cases[i].n_frames,
                                             .frames_per_second = cases[i].frames_per_second};
        const struct film_info info = {
            .n_frames = cases[i].total, .fps = cases[i].fps, .seconds = cases[i].seconds};
        size_t frames[32];
        assert_int_equal(film_count(&s, &info), cases[i].n);
        film_choose(frames, cases[i].n, cases[i].total);
        assert_memory_equal(frames, cases[i].frames, cases[i].n * sizeof(frames[0]));
    }
}

static void test_film_takes_32_frames_of_each_minute_begun(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        size_t n;
    } cases[] = {{0, 32}, {59.9, 32}, {60, 32}, {60.1, 64}, {120, 64}, {3600, 1920}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct carat_media_source s = {0};
        const struct film_info info = {.n_frames = 100000, .fps = 25, .seconds = cases[i].seconds};
        assert_int_equal(film_count(&s, &info), cases[i].n);
    }
}

static void test_media_takes_frames_from_pixels(void **state)
{
    (void)state;
    struct carat_media_source s = film(10);
    s.pixel_seconds = (const double[]){0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5};
    struct carat_media *m = make(&s);
    assert_int_equal(carat_media_info(m)->n_frames, 10);
    assert_int_equal(carat_media_info(m)->n_tokens, 10);
    carat_media_free(m);

    s.n_frames = 4; // 0, 2, 5, 7
    m = make(&s);
    const struct carat_media_info *info = carat_media_info(m);
    assert_int_equal(info->n_frames, 4);
    assert_int_equal(info->source_frames, 10);
    double seconds;
    const uint8_t *pixels = carat_media_frame(m, 2, &seconds);
    assert_true(seconds == 2.5);
    assert_memory_equal(pixels, some_pixels + 5 * 48 * 48 * 3, 48 * 48 * 3);
    assert_null(carat_media_note(m, 0));
    carat_media_free(m);

    s.n_frames = 0;
    s.limits.frames_max = 2; // 0, 5
    m = make(&s);
    assert_int_equal(carat_media_info(m)->n_frames, 2);
    carat_media_frame(m, 1, &seconds);
    assert_true(seconds == 2.5);
    assert_non_null(strstr(carat_media_note(m, 0), "10 frames are more than the limit of 2"));
    carat_media_free(m);

    s = film(10);
    m = make(&s); // 24 frames a second are assumed
    carat_media_frame(m, 6, &seconds);
    assert_true(seconds == 0.25);
    carat_media_free(m);
}

static void test_media_gives_frames_70_tokens(void **state)
{
    (void)state;
    struct carat_media_source s = film(2);
    s.keeps_size = false;
    struct carat_media *m = make(&s);
    assert_int_equal(carat_media_info(m)->n_tokens, 2 * 64);
    carat_media_free(m);
    s.image_tokens = 140;
    m = make(&s);
    assert_int_equal(carat_media_info(m)->n_tokens, 2 * 121);
    carat_media_free(m);
}

/* --------------------------------------------------------------------------------------- sound */

static void test_media_counts_frames_of_sound(void **state)
{
    (void)state;
    static const size_t counts[][2] = {{1, 1}, {640, 1}, {641, 2}, {1280, 2}, {16000, 25}};
    for (size_t i = 0; i < 5; i++) {
        const struct carat_media_source s = sound(counts[i][0]);
        struct carat_media *m = make(&s);
        size_t n;
        const float *samples = carat_media_samples(m, &n);
        assert_int_equal(n, counts[i][0]);
        assert_memory_equal(samples, some_samples, n * sizeof(*samples));
        assert_int_equal(carat_media_info(m)->n_tokens, counts[i][1]);
        assert_string_equal(carat_media_info(m)->format, "samples");
        carat_media_free(m);
    }
}

static void test_media_cuts_long_sound_with_a_note(void **state)
{
    (void)state;
    const size_t n = 75 * 1000 + 200; // 75.2 s at 1 kHz
    float *samples = mem_new_array(n, sizeof(*samples), NULL);
    static const struct {
        double segment;
        size_t n_segments;
        const char *note;
    } cases[] = {
        {0, 3,
         "sound of 75.2 s is longer than the 30 s the model was made for: it is read in 3 "
         "parts with their times"},
        {10, 8, "in 8 parts"},
        {0.01, 1880, "in 1880 parts"}, // 40 ms is the shortest
        {100, 1, "in one piece"},
        {-1, 1, "in one piece"},
        {1e300, 1, "in one piece"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct carat_media_source s = sound(n);
        s.samples = samples;
        s.sample_rate = 1000;
        s.segment_seconds = cases[i].segment;
        struct carat_media *m = make(&s);
        assert_int_equal(carat_media_info(m)->n_segments, cases[i].n_segments);
        assert_non_null(carat_media_note(m, 0));
        if (!strstr(carat_media_note(m, 0), cases[i].note)) {
            fail_msg("%s", carat_media_note(m, 0));
        }
        assert_null(carat_media_note(m, 1));
        carat_media_free(m);
    }
    struct carat_media_source s = sound(30000);
    s.samples = samples;
    s.sample_rate = 1000;
    struct carat_media *m = make(&s); // 30 s exactly
    assert_int_equal(carat_media_info(m)->n_segments, 1);
    assert_null(carat_media_note(m, 0));
    carat_media_free(m);
    mem_free(samples);
}

static void make_wav(struct buf *file, size_t n_blocks)
{
    const struct wav_form form = {.tag = 1, .n_channels = 2, .rate = 44100, .bits = 16};
    struct buf data = {0};
    for (size_t i = 0; i < 2 * n_blocks; i++) {
        wav_put(&data, i * 2654435761U >> 16, 2);
    }
    wav_make(file, &form, data.data, data.size);
    buf_release(&data);
}

static void test_media_reads_wav(void **state)
{
    (void)state;
    struct buf file = {0};
    make_wav(&file, 44100);
    struct carat_media_source s = {.type = CARAT_MEDIA_AUDIO, .data = file.data, .size = file.size};
    struct carat_media *m = make(&s);
    const struct carat_media_info *info = carat_media_info(m);
    assert_string_equal(info->format, "wav");
    assert_int_equal(info->source_rate, 44100);
    assert_int_equal(info->source_channels, 2);
    assert_true(info->source_seconds == 1);
    assert_int_equal(info->n_samples, 16000);
    assert_int_equal(info->n_tokens, 25);
    assert_int_equal(info->n_segments, 1);
    assert_false(info->is_open);
    carat_media_free(m);

    s.size -= 100;
    refuse(&s, CARAT_E_FORMAT, "100 bytes before its sound does");
    s.size += 100;
    s.limits.seconds_max = 0.5;
    refuse(&s, CARAT_E_FULL, "over the limit of 0 s");
    buf_release(&file);
}

/* ---------------------------------------------------------------------------------- open sound */

static void expect_same_sound(const struct carat_media *a, const struct carat_media *b)
{
    size_t n_a;
    size_t n_b;
    const float *x = carat_media_samples(a, &n_a);
    const float *y = carat_media_samples(b, &n_b);
    assert_int_equal(n_a, n_b);
    assert_memory_equal(x, y, n_a * sizeof(*x));
    assert_int_equal(carat_media_info(a)->n_tokens, carat_media_info(b)->n_tokens);
    assert_int_equal(carat_media_info(a)->n_segments, carat_media_info(b)->n_segments);
    assert_true(carat_media_info(a)->source_seconds == carat_media_info(b)->source_seconds);
    assert_memory_equal(carat_media_info(a)->hash, carat_media_info(b)->hash, 16);
}

static void test_media_hears_wav_while_it_is_written(void **state)
{
    (void)state;
    struct buf file = {0};
    make_wav(&file, 20000);
    const struct carat_media_source whole = {
        .type = CARAT_MEDIA_AUDIO, .data = file.data, .size = file.size};
    struct carat_media *m = make(&whole);
    static const size_t pieces[] = {1, 100, 4444, 1000000};
    for (size_t i = 0; i < 4; i++) {
        const struct carat_media_source s = {.type = CARAT_MEDIA_AUDIO, .is_open = true};
        struct carat_media *open = make(&s);
        const struct carat_media_info *info = carat_media_info(open);
        assert_true(info->is_open);
        assert_int_equal(info->n_tokens, 0);
        for (size_t at = 0; at < file.size; at += pieces[i]) {
            const size_t n = file.size - at < pieces[i] ? file.size - at : pieces[i];
            assert_int_equal(carat_media_feed(open, file.data + at, n, NULL), 0);
            assert_int_equal(info->n_tokens, info->n_samples / 640);
        }
        // All but what the filter waits for is there before the end.
        assert_true(info->n_samples > 7000);
        assert_int_equal(carat_media_finish(open, NULL), 0);
        assert_false(info->is_open);
        expect_same_sound(open, m);
        assert_int_equal(carat_media_feed(open, "x", 1, NULL), CARAT_E_ARGUMENT);
        assert_int_equal(carat_media_finish(open, NULL), CARAT_E_ARGUMENT);
        carat_media_free(open);
    }
    carat_media_free(m);
    buf_release(&file);
}

static void test_media_hears_samples_as_they_come(void **state)
{
    (void)state;
    for (size_t n_first = 0; n_first < 2; n_first++) {
        struct carat_media_source s = sound(16000);
        s.sample_rate = 48000;
        struct carat_media *m = make(&s);
        s.is_open = true;
        s.samples = n_first ? some_samples : NULL;
        s.n_samples = n_first ? 5000 : 0;
        struct carat_media *open = make(&s);
        if (n_first) {
            assert_true(carat_media_info(open)->n_samples > 1500);
            assert_int_equal(carat_media_info(open)->n_tokens, 2);
        }
        for (size_t at = s.n_samples; at < 16000; at += 1000) {
            assert_int_equal(carat_media_append(open, some_samples + at, 1000, NULL), 0);
        }
        assert_int_equal(carat_media_finish(open, NULL), 0);
        expect_same_sound(open, m);
        carat_media_free(open);
        carat_media_free(m);
    }
}

static void test_media_open_calls_go_together(void **state)
{
    (void)state;
    struct carat_error err = {0};
    const struct carat_media_source wav = {.type = CARAT_MEDIA_AUDIO, .is_open = true};
    struct carat_media *m = make(&wav);
    assert_int_equal(carat_media_append(m, some_samples, 1, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "carat_media_feed"));
    assert_int_equal(carat_media_finish(m, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "ends at byte 0"));
    assert_int_equal(carat_media_feed(m, "RIFF", 4, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "failed before"));
    carat_media_free(m);

    struct carat_media_source samples = wav;
    samples.sample_rate = 8000;
    m = make(&samples);
    assert_int_equal(carat_media_feed(m, "RIFF", 4, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "carat_media_append"));
    assert_int_equal(carat_media_finish(m, NULL), 0); // no sound at all
    assert_int_equal(carat_media_info(m)->n_tokens, 0);
    carat_media_free(m);

    samples.sample_rate = 8;
    refuse(&samples, CARAT_E_UNSUPPORTED, "sample rate");
    const struct carat_media_source closed = sound(10);
    m = make(&closed);
    assert_int_equal(carat_media_append(m, some_samples, 1, NULL), CARAT_E_ARGUMENT);
    assert_int_equal(carat_media_finish(m, NULL), CARAT_E_ARGUMENT);
    carat_media_free(m);
}

// An open sound may last: the limit on time for decoding counts from each call.
static void test_media_open_sound_keeps_its_limits(void **state)
{
    (void)state;
    struct carat_error err = {0};
    struct carat_media_source s = sound(0);
    s.samples = NULL;
    s.is_open = true;
    s.limits.seconds_max = 1.5;
    struct carat_media *m = make(&s);
    assert_int_equal(carat_media_append(m, some_samples, 16000, NULL), 0);
    assert_int_equal(carat_media_append(m, some_samples, 16000, &err), CARAT_E_FULL);
    assert_non_null(strstr(err.text, "2.0 s"));
    assert_int_equal(carat_media_info(m)->n_samples, 16000); // what came before stays
    carat_media_free(m);
}

/* -------------------------------------------------------------------------------------- memory */

static void test_media_survives_missing_memory(void **state)
{
    (void)state;
    struct buf file = {0};
    make_wav(&file, 2000);
    struct carat_media_source long_sound = sound(16000);
    long_sound.sample_rate = 400; // a note, too
    struct carat_media_source thinned = film(10);
    thinned.limits.frames_max = 3;
    const struct carat_media_source sources[] = {
        {.type = CARAT_MEDIA_IMAGE, .data = ppm, .size = PPM_SIZE},
        {.type = CARAT_MEDIA_AUDIO, .data = file.data, .size = file.size},
        {.type = CARAT_MEDIA_AUDIO, .is_open = true},
        long_sound,
        thinned,
    };
    const size_t before = mem_bytes_now();
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        int rc = CARAT_E_MEMORY;
        for (size_t nth = 1; rc == CARAT_E_MEMORY; nth++) {
            assert_true(nth < 100);
            struct carat_media *m = NULL;
            mem_fail_nth(nth);
            rc = carat_media_new(&m, &sources[i], NULL);
            if (!rc && sources[i].is_open) {
                rc = carat_media_feed(m, file.data, file.size, NULL);
                rc = rc ? rc : carat_media_finish(m, NULL);
            }
            mem_fail_nth(0);
            assert_true(rc == 0 || rc == CARAT_E_MEMORY);
            carat_media_free(m);
            assert_int_equal(mem_bytes_now(), before);
        }
    }
    buf_release(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_media_wants_exactly_one_source),
        cmocka_unit_test(test_media_refuses_options_that_make_no_sense),
        cmocka_unit_test(test_media_reads_memory_files_and_pipes),
        cmocka_unit_test(test_media_keeps_pixels_that_fit),
        cmocka_unit_test(test_media_enlarges_a_small_picture),
        cmocka_unit_test(test_media_names_content),
        cmocka_unit_test(test_media_keeps_the_limits_of_pictures),
        cmocka_unit_test(test_media_stops_when_asked),
        cmocka_unit_test(test_film_takes_the_frames_of_the_reference),
        cmocka_unit_test(test_film_takes_32_frames_of_each_minute_begun),
        cmocka_unit_test(test_media_takes_frames_from_pixels),
        cmocka_unit_test(test_media_gives_frames_70_tokens),
        cmocka_unit_test(test_media_counts_frames_of_sound),
        cmocka_unit_test(test_media_cuts_long_sound_with_a_note),
        cmocka_unit_test(test_media_reads_wav),
        cmocka_unit_test(test_media_hears_wav_while_it_is_written),
        cmocka_unit_test(test_media_hears_samples_as_they_come),
        cmocka_unit_test(test_media_open_calls_go_together),
        cmocka_unit_test(test_media_open_sound_keeps_its_limits),
        cmocka_unit_test(test_media_survives_missing_memory),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
