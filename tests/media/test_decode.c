// SPDX-License-Identifier: Apache-2.0
// The readers behind the libraries: recorded pixels, formats, turns, limits and errors. In the
// steps-* films frame i is flat, with luma 20 + 8 i of 16..235: any wrong frame shows.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"
#include "formats/safetensors.h"
#include "media/decode.h"

#define MEDIA(name) TEST_MEDIA "/" name
#define IO(name)    TEST_MEDIA "/../io/" name

// A file, the budget for it, and what is found.
struct reading {
    struct os_map map;
    struct media_input in;
    struct media_budget budget;
    struct media_picture picture;
    char format[32];
    struct carat_error err;
};

static void open_reading(struct reading *r, const char *path)
{
    struct carat_media_source source = {0};
    *r = (struct reading){0};
    assert_int_equal(os_map_open(&r->map, path, &r->err), 0);
    r->in = (struct media_input){r->map.data, r->map.size, "it"};
    media_budget_init(&r->budget, &source, "it");
}

static void close_reading(struct reading *r)
{
    if (r->picture.pixels) {
        media_budget_give(&r->budget, (uint64_t)r->picture.width * r->picture.height * 3);
    }
    media_picture_release(&r->picture);
    assert_int_equal(r->budget.memory, 0); // nothing forgotten
    os_map_close(&r->map);
}

static int read_picture(struct reading *r, const char *path, bool blends_alpha)
{
    open_reading(r, path);
    return decode_picture(&r->picture, r->format, &r->in, blends_alpha, &r->budget, &r->err);
}

static void skip_without(const char *feature)
{
    if (!decode_has(feature)) {
        skip();
    }
}

// Mean and largest difference of two pictures of the same size.
static double difference(const struct media_picture *a, const struct media_picture *b, int *largest)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    size_t n = (size_t)a->width * a->height * 3;
    double sum = 0;
    *largest = 0;
    for (size_t i = 0; i < n; i++) {
        int d = abs(a->pixels[i] - b->pixels[i]);
        sum += d;
        *largest = d > *largest ? d : *largest;
    }
    return sum / (double)n;
}

/* ----------------------------------------------------------------------------------- pictures */

// Pixels as the reference decodes them.
static void test_pixels_are_the_recorded_ones(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    struct safetensors *t = NULL;
    assert_int_equal(safetensors_open(&t, MEDIA("pixels.safetensors"), NULL), 0);
    for (size_t i = 0; i < safetensors_n_tensors(t); i++) {
        const struct safetensors_tensor *rows = safetensors_tensor_at(t, i);
        const char *kind = strrchr(rows->name, '/');
        char path[400];
        snprintf(path, sizeof(path), "%s%.*s", IO("images/"), (int)(kind - rows->name), rows->name);
        struct reading r;
        if (read_picture(&r, path, strcmp(kind, "/white") == 0)) {
            fail_msg("%s: %s", path, r.err.text);
        }
        for (uint64_t k = 0; k < rows->dims[0]; k++) {
            int16_t row[5]; // x, y, red, green, blue
            memcpy(row, rows->data + k * sizeof(row), sizeof(row));
            const uint8_t *found =
                r.picture.pixels + ((size_t)row[1] * r.picture.width + (size_t)row[0]) * 3;
            for (int c = 0; c < 3; c++) {
                if (found[c] != row[2 + c]) {
                    fail_msg("%s: pixel (%d, %d): expected %d %d %d, found %d %d %d", rows->name,
                             row[0], row[1], row[2], row[3], row[4], found[0], found[1], found[2]);
                }
            }
        }
        close_reading(&r);
    }
    safetensors_close(t);
}

// The same picture in other formats; PNG is the measure, which the goldens hold to its own.
static void test_formats_hold_the_same_picture(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    static const struct {
        const char *path;
        const char *format;
        int largest; // difference allowed
        double mean;
    } rows[] = {
        {MEDIA("shape.bmp"), "bmp", 0, 0},
        {MEDIA("shape-565.bmp"), "bmp", 8, 4}, // 5 and 6 bits
        {MEDIA("shape.tiff"), "tiff", 0, 0},
        {MEDIA("shape-16bit.tiff"), "tiff", 1, 0.6}, // widened by the tool that made it
        {MEDIA("shape.webp"), "webp", 0, 0},
        {MEDIA("shape.heic"), "heic", 255, 10},
        {MEDIA("shape.avif"), "avif", 255, 10},
    };
    struct reading png;
    assert_int_equal(read_picture(&png, MEDIA("shape.png"), false), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reading r;
        int largest = 0;
        if (strcmp(rows[i].format, "heic") == 0 && !decode_has("heif")) {
            continue;
        }
        int rc = read_picture(&r, rows[i].path, false);
        if (rc) {
            fail_msg("%s: %s", rows[i].path, r.err.text);
        }
        assert_string_equal(r.format, rows[i].format);
        double mean = difference(&png.picture, &r.picture, &largest);
        if (mean > rows[i].mean || largest > rows[i].largest) {
            fail_msg("%s: off by %g, at most %d", rows[i].path, mean, largest);
        }
        close_reading(&r);
    }
    close_reading(&png);
}

// The first frame of this animation is the upper left 20 x 16 of shape.png, put at (10, 8).
static void test_first_frame_of_animated_webp(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    struct reading png;
    assert_int_equal(read_picture(&png, MEDIA("shape.png"), false), 0);
    for (int blends = 0; blends < 2; blends++) {
        struct reading r;
        assert_int_equal(read_picture(&r, MEDIA("moving.webp"), blends), 0);
        assert_int_equal(r.picture.width, 40);
        assert_int_equal(r.picture.height, 30);
        for (size_t y = 0; y < 30; y++) {
            for (size_t x = 0; x < 40; x++) {
                bool is_frame = x >= 10 && x < 30 && y >= 8 && y < 24;
                const uint8_t *found = r.picture.pixels + (y * 40 + x) * 3;
                uint8_t empty[3];
                memset(empty, blends ? 255 : 0, 3);
                const uint8_t *expected =
                    is_frame ? png.picture.pixels + ((y - 8) * 40 + x - 10) * 3 : empty;
                assert_memory_equal(found, expected, 3);
            }
        }
        close_reading(&r);
    }
    close_reading(&png);
}

// Sizes that end the file inside its own header, or behind what is there.
static void test_webp_of_impossible_size_is_refused(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    static const uint8_t sizes[] = {0, 1, 2, 3, 255};
    for (size_t i = 0; i < sizeof(sizes); i++) {
        uint8_t *file = malloc(20); // of its own, so that reading past its end is noticed
        assert_non_null(file);
        memcpy(file, "RIFF\0\0\0\0WEBPVP8 \0\0\0\0", 20);
        file[4] = sizes[i];
        struct reading r = {.in = {file, 20, "short.webp"}};
        struct carat_media_source source = {0};
        media_budget_init(&r.budget, &source, r.in.name);
        assert_int_equal(decode_picture(&r.picture, r.format, &r.in, false, &r.budget, &r.err),
                         CARAT_E_FORMAT);
        assert_non_null(strstr(r.err.text, "WebP"));
        free(file);
    }
}

// Where the stored picture's top left corner is seen, and whether rows became columns: EXIF 2.3,
// table of Orientation.
static void test_orientations_turn_as_exif_says(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    static const struct {
        bool is_right;
        bool is_bottom;
        bool is_turned;
    } corner[9] = {{0},
                   {false, false, false},
                   {true, false, false},
                   {true, true, false},
                   {false, true, false},
                   {false, false, true},
                   {true, false, true},
                   {true, true, true},
                   {false, true, true}};
    struct reading plain;
    assert_int_equal(read_picture(&plain, IO("images/exif6.jpg"), true), 0);
    const struct media_picture *p = &plain.picture;
    uint8_t *copy = malloc(plain.in.size);
    memcpy(copy, plain.in.data, plain.in.size);
    uint8_t *value = NULL;
    for (size_t i = 0; !value && i + 12 < plain.in.size; i++) {
        bool is_little = memcmp(copy + i, "\x12\x01\x03\x00\x01\x00\x00\x00", 8) == 0;
        bool is_big = memcmp(copy + i, "\x01\x12\x00\x03\x00\x00\x00\x01", 8) == 0;
        value = is_little ? copy + i + 8 : is_big ? copy + i + 9 : NULL;
    }
    assert_non_null(value);
    assert_int_equal(*value, 6);
    for (uint8_t o = 1; o <= 8; o++) {
        struct reading r;
        open_reading(&r, IO("images/exif6.jpg"));
        *value = o;
        r.in.data = copy;
        assert_int_equal(decode_picture(&r.picture, r.format, &r.in, false, &r.budget, &r.err), 0);
        uint32_t width = corner[o].is_turned ? p->height : p->width;
        uint32_t height = corner[o].is_turned ? p->width : p->height;
        assert_int_equal(r.picture.width, width);
        assert_int_equal(r.picture.height, height);
        for (uint32_t y = 0; y < p->height; y += 7) {
            for (uint32_t x = 0; x < p->width; x += 5) {
                uint32_t right = corner[o].is_turned ? y : x;
                uint32_t down = corner[o].is_turned ? x : y;
                right = corner[o].is_right ? width - 1 - right : right;
                down = corner[o].is_bottom ? height - 1 - down : down;
                assert_memory_equal(r.picture.pixels + ((size_t)down * width + right) * 3,
                                    p->pixels + ((size_t)y * p->width + x) * 3, 3);
            }
        }
        close_reading(&r);
    }
    free(copy);
    close_reading(&plain);
}

static void test_alpha_on_white_rounds_as_pillow(void **state)
{
    (void)state;
    // By hand: (v * a + 255 * (255 - a)) / 255, rounded.
    assert_int_equal(colour_on_white(0, 0), 255);
    assert_int_equal(colour_on_white(0, 255), 0);
    assert_int_equal(colour_on_white(100, 128), 177);
    assert_int_equal(colour_on_white(255, 77), 255);
    assert_int_equal(colour_16_to_8(65535), 255);
    assert_int_equal(colour_16_to_8(128), 0);
    assert_int_equal(colour_16_to_8(129), 1);
    assert_int_equal(colour_of_ink(0, 255), 255);
    assert_int_equal(colour_of_ink(255, 255), 0);
    assert_int_equal(colour_of_ink(128, 100), 50);
}

/* ------------------------------------------------------------------------------------- limits */

static void test_large_picture_is_refused_from_its_header(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    static const char *const paths[] = {IO("images/scene.png"),  IO("images/exif6.jpg"),
                                        IO("images/lossy.webp"), IO("images/anim.gif"),
                                        MEDIA("shape.tiff"),     MEDIA("shape.bmp")};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct reading r;
        open_reading(&r, paths[i]);
        r.budget.limits.pixels_max = 1000;
        assert_int_equal(decode_picture(&r.picture, r.format, &r.in, false, &r.budget, &r.err),
                         CARAT_E_FULL);
        assert_non_null(strstr(r.err.text, "1000 pixels"));
        close_reading(&r);
    }
}

static void test_memory_and_time_are_limited(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    for (uint64_t memory = 1000; memory < 150000; memory *= 5) {
        struct reading r;
        open_reading(&r, IO("images/scene.png"));
        r.budget.limits.memory_max = memory;
        assert_int_equal(decode_picture(&r.picture, r.format, &r.in, false, &r.budget, &r.err),
                         CARAT_E_FULL);
        close_reading(&r);
    }
    struct reading r;
    open_reading(&r, IO("images/scene.png"));
    r.budget.deadline = 0;
    assert_int_equal(decode_picture(&r.picture, r.format, &r.in, false, &r.budget, &r.err),
                     CARAT_E_FULL);
    assert_non_null(strstr(r.err.text, "longer"));
    close_reading(&r);
}

static void test_files_of_another_kind_are_named(void **state)
{
    (void)state;
    struct reading r;
    open_reading(&r, IO("images/scene.png"));
    struct film *film = NULL;
    struct film_info info;
    int rc = film_open(&film, &info, &r.in, &r.budget, &r.err);
    assert_true(rc == CARAT_E_FORMAT || rc == CARAT_E_UNSUPPORTED);
    assert_non_null(strstr(r.err.text, "png"));
    r.in.size = 0;
    rc = decode_picture(&r.picture, r.format, &r.in, false, &r.budget, &r.err);
    assert_int_equal(rc, CARAT_E_FORMAT);
    assert_non_null(strstr(r.err.text, "empty"));
    r.in = (struct media_input){(const uint8_t *)"plain text", 10, "it"};
    rc = decode_picture(&r.picture, r.format, &r.in, false, &r.budget, &r.err);
    assert_int_equal(rc, CARAT_E_FORMAT);
    assert_non_null(strstr(r.err.text, "no known format"));
    close_reading(&r);
}

/* ------------------------------------------------------------------------------------- sounds */

struct heard {
    struct sound_sink sink;
    uint32_t rate;
    uint32_t n_channels;
    size_t n;
    double squares;
    char format[32];
};

static int on_format(struct sound_sink *sink, uint32_t rate, uint32_t n_channels, const char *name,
                     struct carat_error *err)
{
    (void)err;
    struct heard *h = (struct heard *)sink;
    h->rate = rate;
    h->n_channels = n_channels;
    strncpy(h->format, name, sizeof(h->format) - 1);
    return 0;
}

static int on_samples(struct sound_sink *sink, const float *samples, size_t n,
                      struct carat_error *err)
{
    (void)err;
    struct heard *h = (struct heard *)sink;
    h->n += n;
    for (size_t i = 0; i < n * h->n_channels; i++) {
        h->squares += (double)samples[i] * (double)samples[i];
    }
    return 0;
}

// Lengths as recorded in audio.jsonl, or as the tone was made: a sine of 1/8.
static void test_sounds_are_as_long_as_they_were(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    static const struct {
        const char *path;
        const char *format;
        uint32_t rate;
        uint32_t n_channels;
        size_t n;
        size_t slack; // samples an encoder may have added
        bool is_tone;
    } rows[] = {
        {IO("audio/speech-16k.mp3"), "mp3", 16000, 1, 35084, 0, false},
        {IO("audio/speech-22k.ogg"), "ogg vorbis", 22050, 1, 52643, 0, false},
        {IO("audio/speech.opus"), "ogg opus", 48000, 1, 93421, 0, false},
        {MEDIA("tone.flac"), "flac", 16000, 1, 4000, 0, true},
        {MEDIA("tone.m4a"), "mov,mp4 aac", 22050, 2, 11025, 1024, false},
        {MEDIA("tone.aac"), "aac", 16000, 1, 8000, 2048, true},
        {MEDIA("tone.webm"), "matroska,webm opus", 48000, 1, 12000, 0, true},
        {MEDIA("tone-adpcm.wav"), "wav adpcm_ms", 22050, 1, 11025, 2048, false},
        {MEDIA("turned.mp4"), "mov,mp4 aac", 16000, 1, 8000, 1024, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct heard h = {.sink = {on_format, on_samples}};
        struct reading r;
        open_reading(&r, rows[i].path);
        if (decode_sound(&r.in, &h.sink, &r.budget, &r.err)) {
            fail_msg("%s: %s", rows[i].path, r.err.text);
        }
        assert_string_equal(h.format, rows[i].format);
        assert_int_equal(h.rate, rows[i].rate);
        assert_int_equal(h.n_channels, rows[i].n_channels);
        if (h.n < rows[i].n || h.n > rows[i].n + rows[i].slack) {
            fail_msg("%s: %zu samples, expected %zu", rows[i].path, h.n, rows[i].n);
        }
        double rms = sqrt(h.squares / ((double)h.n * h.n_channels));
        if (rows[i].is_tone && fabs(rms - 0.125 / sqrt(2.0)) > 0.01) {
            fail_msg("%s: a level of %g", rows[i].path, rms);
        }
        close_reading(&r);
    }
}

static void test_sound_limits(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    struct heard h = {.sink = {on_format, on_samples}};
    struct reading r;
    open_reading(&r, IO("audio/speech-22k.ogg"));
    r.budget.limits.seconds_max = 1;
    assert_int_equal(decode_sound(&r.in, &h.sink, &r.budget, &r.err), CARAT_E_FULL);
    close_reading(&r);
    open_reading(&r, MEDIA("steps-open.mp4"));
    assert_int_equal(decode_sound(&r.in, &h.sink, &r.budget, &r.err), CARAT_E_FORMAT);
    assert_non_null(strstr(r.err.text, "no sound track"));
    close_reading(&r);
}

/* -------------------------------------------------------------------------------------- films */

struct watched {
    const size_t *frames;
    size_t n;
    double means[64];
};

static int on_frame(void *user, size_t i, const struct media_picture *p, struct carat_error *err)
{
    (void)err;
    struct watched *w = user;
    double sum = 0;
    size_t n = (size_t)p->width * p->height * 3;
    for (size_t k = 0; k < n; k++) {
        sum += p->pixels[k];
    }
    assert_int_equal(i, w->n); // in order, none left out
    w->means[w->n++] = sum / (double)n;
    return 0;
}

static void read_steps(const char *path, const size_t *frames, size_t n)
{
    struct reading r;
    struct film *film = NULL;
    struct film_info info;
    struct watched w = {.frames = frames};
    open_reading(&r, path);
    if (film_open(&film, &info, &r.in, &r.budget, &r.err) ||
        film_read(film, frames, n, on_frame, &w, &r.err)) {
        fail_msg("%s: %s", path, r.err.text);
    }
    assert_int_equal(info.n_frames, 24);
    assert_int_equal(info.width, 48);
    assert_int_equal(info.height, 32);
    assert_true(fabs(info.fps - 12) < 1e-6);
    assert_false(info.has_sound);
    assert_int_equal(w.n, n);
    for (size_t i = 0; i < n; i++) {
        double expected = (20 + 8 * (double)frames[i] - 16) * 255 / 219;
        if (fabs(w.means[i] - expected) > 3) {
            fail_msg("%s: frame %zu has %g, expected %g", path, frames[i], w.means[i], expected);
        }
    }
    film_close(film);
    close_reading(&r);
}

// B frames, open groups of pictures, 10 bits; films whose times tell the order and one (AVI) where
// they do not.
static void test_frames_are_the_ones_asked_for(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    static const char *const paths[] = {MEDIA("steps-open.mp4"), MEDIA("steps.avi"),
                                        MEDIA("steps-10bit.mov"), MEDIA("steps-vp8.webm"),
                                        MEDIA("steps-av1.mkv")};
    size_t all[24];
    for (size_t i = 0; i < 24; i++) {
        all[i] = i;
    }
    static const size_t some[] = {0, 0, 5, 6, 9, 17, 17, 23};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        read_steps(paths[i], all, 24);
        read_steps(paths[i], some, 8);
        for (size_t k = 0; k < 24; k++) {
            read_steps(paths[i], &k, 1);
        }
    }
}

// Left dark and right bright, to be turned by a quarter against the clock.
static int on_turned(void *user, size_t i, const struct media_picture *p, struct carat_error *err)
{
    (void)i;
    (void)err;
    bool *is_seen = user;
    assert_int_equal(p->width, 32);
    assert_int_equal(p->height, 48);
    uint8_t top = p->pixels[(4 * 32 + 16) * 3];
    uint8_t bottom = p->pixels[(43 * 32 + 16) * 3];
    assert_true(bottom > 200 || top > 200);
    assert_true(bottom < 50 || top < 50);
    *is_seen = true;
    return 0;
}

static void test_turned_film(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    struct reading r;
    struct film *film = NULL;
    struct film_info info;
    bool is_seen = false;
    size_t frame = 3;
    open_reading(&r, MEDIA("turned.mp4"));
    assert_int_equal(film_open(&film, &info, &r.in, &r.budget, &r.err), 0);
    assert_int_equal(info.width, 32);
    assert_int_equal(info.height, 48);
    assert_true(info.has_sound);
    assert_int_equal(film_read(film, &frame, 1, on_turned, &is_seen, &r.err), 0);
    assert_true(is_seen);
    film_close(film);
    close_reading(&r);
}

static void test_film_limits(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    struct reading r;
    struct film *film = NULL;
    struct film_info info;
    open_reading(&r, MEDIA("steps-open.mp4"));
    r.budget.limits.seconds_max = 1;
    assert_int_equal(film_open(&film, &info, &r.in, &r.budget, &r.err), CARAT_E_FULL);
    r.budget.limits.seconds_max = 10;
    r.budget.limits.pixels_max = 48 * 32 - 1;
    assert_int_equal(film_open(&film, &info, &r.in, &r.budget, &r.err), CARAT_E_FULL);
    r.budget.limits.pixels_max = 48 * 32;
    r.budget.limits.memory_max = 45000; // the index fits, the decoder's frames do not
    struct watched w = {0};
    size_t frame = 20;
    assert_int_equal(film_open(&film, &info, &r.in, &r.budget, &r.err), 0);
    assert_int_equal(film_read(film, &frame, 1, on_frame, &w, &r.err), CARAT_E_FULL);
    film_close(film);
    close_reading(&r);
}

// No allocation of ours may be taken for granted.
static void test_out_of_memory_is_an_error(void **state)
{
    (void)state;
    skip_without("ffmpeg");
    static const char *const paths[] = {IO("images/cmyk.jpg"), MEDIA("moving.webp"),
                                        IO("images/exif8.png"), MEDIA("shape.heic")};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]) - !decode_has("heif"); i++) {
        int rc = CARAT_E_MEMORY;
        for (size_t n = 1; rc; n++) {
            struct reading r;
            open_reading(&r, paths[i]);
            mem_fail_nth(n);
            rc = decode_picture(&r.picture, r.format, &r.in, false, &r.budget, &r.err);
            mem_fail_nth(0);
            assert_true(rc == 0 || rc == CARAT_E_MEMORY);
            assert_true(n < 100);
            close_reading(&r);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pixels_are_the_recorded_ones),
        cmocka_unit_test(test_formats_hold_the_same_picture),
        cmocka_unit_test(test_first_frame_of_animated_webp),
        cmocka_unit_test(test_webp_of_impossible_size_is_refused),
        cmocka_unit_test(test_orientations_turn_as_exif_says),
        cmocka_unit_test(test_alpha_on_white_rounds_as_pillow),
        cmocka_unit_test(test_large_picture_is_refused_from_its_header),
        cmocka_unit_test(test_memory_and_time_are_limited),
        cmocka_unit_test(test_files_of_another_kind_are_named),
        cmocka_unit_test(test_sounds_are_as_long_as_they_were),
        cmocka_unit_test(test_sound_limits),
        cmocka_unit_test(test_frames_are_the_ones_asked_for),
        cmocka_unit_test(test_turned_film),
        cmocka_unit_test(test_film_limits),
        cmocka_unit_test(test_out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
