// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "media/media.h"
#include "wav_maker.h"

// ITU-T G.711 as CPython 3.11's audioop expands it.
// clang-format off
static const int16_t alaw[256] = {
    -5504, -5248, -6016, -5760, -4480, -4224, -4992, -4736, -7552, -7296, -8064, -7808,
    -6528, -6272, -7040, -6784, -2752, -2624, -3008, -2880, -2240, -2112, -2496, -2368,
    -3776, -3648, -4032, -3904, -3264, -3136, -3520, -3392, -22016, -20992, -24064, -23040,
    -17920, -16896, -19968, -18944, -30208, -29184, -32256, -31232, -26112, -25088, -28160, -27136,
    -11008, -10496, -12032, -11520, -8960, -8448, -9984, -9472, -15104, -14592, -16128, -15616,
    -13056, -12544, -14080, -13568, -344, -328, -376, -360, -280, -264, -312, -296,
    -472, -456, -504, -488, -408, -392, -440, -424, -88, -72, -120, -104,
    -24, -8, -56, -40, -216, -200, -248, -232, -152, -136, -184, -168,
    -1376, -1312, -1504, -1440, -1120, -1056, -1248, -1184, -1888, -1824, -2016, -1952,
    -1632, -1568, -1760, -1696, -688, -656, -752, -720, -560, -528, -624, -592,
    -944, -912, -1008, -976, -816, -784, -880, -848, 5504, 5248, 6016, 5760,
    4480, 4224, 4992, 4736, 7552, 7296, 8064, 7808, 6528, 6272, 7040, 6784,
    2752, 2624, 3008, 2880, 2240, 2112, 2496, 2368, 3776, 3648, 4032, 3904,
    3264, 3136, 3520, 3392, 22016, 20992, 24064, 23040, 17920, 16896, 19968, 18944,
    30208, 29184, 32256, 31232, 26112, 25088, 28160, 27136, 11008, 10496, 12032, 11520,
    8960, 8448, 9984, 9472, 15104, 14592, 16128, 15616, 13056, 12544, 14080, 13568,
    344, 328, 376, 360, 280, 264, 312, 296, 472, 456, 504, 488,
    408, 392, 440, 424, 88, 72, 120, 104, 24, 8, 56, 40,
    216, 200, 248, 232, 152, 136, 184, 168, 1376, 1312, 1504, 1440,
    1120, 1056, 1248, 1184, 1888, 1824, 2016, 1952, 1632, 1568, 1760, 1696,
    688, 656, 752, 720, 560, 528, 624, 592, 944, 912, 1008, 976,
    816, 784, 880, 848,
};
static const int16_t mulaw[256] = {
    -32124, -31100, -30076, -29052, -28028, -27004, -25980, -24956, -23932, -22908, -21884, -20860,
    -19836, -18812, -17788, -16764, -15996, -15484, -14972, -14460, -13948, -13436, -12924, -12412,
    -11900, -11388, -10876, -10364, -9852, -9340, -8828, -8316, -7932, -7676, -7420, -7164,
    -6908, -6652, -6396, -6140, -5884, -5628, -5372, -5116, -4860, -4604, -4348, -4092,
    -3900, -3772, -3644, -3516, -3388, -3260, -3132, -3004, -2876, -2748, -2620, -2492,
    -2364, -2236, -2108, -1980, -1884, -1820, -1756, -1692, -1628, -1564, -1500, -1436,
    -1372, -1308, -1244, -1180, -1116, -1052, -988, -924, -876, -844, -812, -780,
    -748, -716, -684, -652, -620, -588, -556, -524, -492, -460, -428, -396,
    -372, -356, -340, -324, -308, -292, -276, -260, -244, -228, -212, -196,
    -180, -164, -148, -132, -120, -112, -104, -96, -88, -80, -72, -64,
    -56, -48, -40, -32, -24, -16, -8, 0, 32124, 31100, 30076, 29052,
    28028, 27004, 25980, 24956, 23932, 22908, 21884, 20860, 19836, 18812, 17788, 16764,
    15996, 15484, 14972, 14460, 13948, 13436, 12924, 12412, 11900, 11388, 10876, 10364,
    9852, 9340, 8828, 8316, 7932, 7676, 7420, 7164, 6908, 6652, 6396, 6140,
    5884, 5628, 5372, 5116, 4860, 4604, 4348, 4092, 3900, 3772, 3644, 3516,
    3388, 3260, 3132, 3004, 2876, 2748, 2620, 2492, 2364, 2236, 2108, 1980,
    1884, 1820, 1756, 1692, 1628, 1564, 1500, 1436, 1372, 1308, 1244, 1180,
    1116, 1052, 988, 924, 876, 844, 812, 780, 748, 716, 684, 652,
    620, 588, 556, 524, 492, 460, 428, 396, 372, 356, 340, 324,
    308, 292, 276, 260, 244, 228, 212, 196, 180, 164, 148, 132,
    120, 112, 104, 96, 88, 80, 72, 64, 56, 48, 40, 32,
    24, 16, 8, 0,
};
// clang-format on

static struct media_budget budget;

static int new_budget(void **state)
{
    (void)state;
    media_budget_init(&budget, &(struct carat_media_source){0}, "test.wav");
    return 0;
}

// Keeps what a reader hands over.
struct keeper {
    struct sound_sink sink;
    uint32_t rate;
    uint32_t n_channels;
    float *values;
    size_t n;
};

static int keep_format(struct sound_sink *sink, uint32_t rate, uint32_t n_channels,
                       const char *name, struct carat_error *err)
{
    struct keeper *k = (struct keeper *)(void *)sink;
    (void)err;
    assert_int_equal(k->rate, 0); // once
    assert_string_equal(name, "wav");
    k->rate = rate;
    k->n_channels = n_channels;
    return 0;
}

static int keep_samples(struct sound_sink *sink, const float *interleaved, size_t n,
                        struct carat_error *err)
{
    struct keeper *k = (struct keeper *)(void *)sink;
    const size_t more = n * k->n_channels;
    k->values = mem_resize(k->values, (k->n + more) * sizeof(float), err);
    assert_non_null(k->values);
    memcpy(k->values + k->n, interleaved, more * sizeof(float));
    k->n += more;
    return 0;
}

static struct keeper keeper_make(void)
{
    struct keeper k = {.sink = {keep_format, keep_samples}};
    k.values = mem_new(1, NULL);
    return k;
}

static int read_whole(struct keeper *k, const struct buf *file, struct carat_error *err)
{
    *k = keeper_make();
    const struct media_input in = {(const uint8_t *)buf_text(file), file->size, "test.wav"};
    bool is_other = false;
    int rc = wav_read(&in, &k->sink, &budget, &is_other, err);
    assert_false(is_other);
    return rc;
}

// In pieces of this many bytes.
static int read_pieces(struct keeper *k, const struct buf *file, size_t piece,
                       struct carat_error *err)
{
    *k = keeper_make();
    struct wav_stream *w = NULL;
    assert_int_equal(wav_stream_new(&w, &k->sink, &budget, NULL), 0);
    int rc = 0;
    for (size_t at = 0; at < file->size && !rc; at += piece) {
        const size_t n = file->size - at < piece ? file->size - at : piece;
        rc = wav_stream_push(w, file->data + at, n, err);
    }
    if (!rc) {
        rc = wav_stream_finish(w, err);
    }
    wav_stream_free(w);
    return rc;
}

// The file must give these values, whole and in pieces.
static void expect(const struct buf *file, uint32_t rate, uint32_t n_channels, const float *values,
                   size_t n)
{
    static const size_t pieces[] = {0, 1, 2, 3, 7, 11, 12, 44, 100000};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct keeper k;
        struct carat_error err = {0};
        int rc =
            pieces[i] == 0 ? read_whole(&k, file, &err) : read_pieces(&k, file, pieces[i], &err);
        if (rc) {
            fail_msg("pieces of %zu: %s", pieces[i], err.text);
        }
        assert_int_equal(k.rate, rate);
        assert_int_equal(k.n_channels, n_channels);
        assert_int_equal(k.n, n);
        if (n > 0) {
            assert_memory_equal(k.values, values, n * sizeof(*values));
        }
        mem_free(k.values);
    }
}

static void refuse(const struct buf *file, int status, const char *part)
{
    for (size_t piece = 0; piece < 3; piece++) {
        struct keeper k;
        struct carat_error err = {0};
        int rc = piece == 0 ? read_whole(&k, file, &err) : read_pieces(&k, file, piece, &err);
        if (rc != status || !strstr(err.text, part) || strncmp(err.text, "test.wav: ", 10) != 0) {
            fail_msg("expected %d and '%s', found %d and '%s'", status, part, rc, err.text);
        }
        mem_free(k.values);
    }
}

static struct wav_form plain(void)
{
    return (struct wav_form){.tag = 1, .n_channels = 1, .rate = 8000, .bits = 16};
}

static const uint8_t four_16[] = {0x00, 0x80, 0xff, 0xff, 0x00, 0x40, 0xff, 0x7f};
static const float four[] = {-1, -1.0F / 32768, 0.5F, 32767.0F / 32768};

static void test_wav_reads_every_width(void **state)
{
    (void)state;
    static const uint8_t u8[] = {0, 128, 255};
    static const float u8_values[] = {-1, 0, 127.0F / 128};
    static const uint8_t s24[] = {0, 0, 0x80, 1, 0, 0, 0xff, 0xff, 0x7f};
    static const float s24_values[] = {-1, 1.0F / 8388608, 8388607.0F / 8388608};
    static const uint8_t s32[] = {0, 0, 0, 0x80, 0, 0, 0, 0x20};
    static const float s32_values[] = {-1, 0.25F};
    static const uint8_t f32[] = {0, 0, 0x80, 0x3f, 0, 0, 0xc0, 0xbf};
    static const float f32_values[] = {1, -1.5F};
    static const uint8_t f64[] = {0, 0, 0, 0, 0, 0, 0xe0, 0xbf};
    static const float f64_values[] = {-0.5F};
    static const uint8_t s12[] = {0, 0x80, 0xf0, 0x7f}; // the upper 12 bits of 16
    static const float s12_values[] = {-1, 32752.0F / 32768};
    static const struct {
        uint16_t tag, bits, block;
        const uint8_t *data;
        size_t size;
        const float *values;
        size_t n;
    } cases[] = {
        {1, 8, 0, u8, 3, u8_values, 3},    {1, 16, 0, four_16, 8, four, 4},
        {1, 12, 2, s12, 4, s12_values, 2}, {1, 24, 0, s24, 9, s24_values, 3},
        {1, 32, 0, s32, 8, s32_values, 2}, {1, 24, 4, s32, 8, s32_values, 2},
        {3, 32, 0, f32, 8, f32_values, 2}, {3, 64, 0, f64, 8, f64_values, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int is_extended = 0; is_extended < 2; is_extended++) {
            struct wav_form form = plain();
            form.tag = cases[i].tag;
            form.bits = cases[i].bits;
            form.block = cases[i].block;
            form.is_extended = is_extended;
            struct buf file = {0};
            wav_make(&file, &form, cases[i].data, cases[i].size);
            expect(&file, 8000, 1, cases[i].values, cases[i].n);
            buf_release(&file);
        }
    }
}

static void test_wav_expands_the_telephone_laws(void **state)
{
    (void)state;
    uint8_t codes[256];
    float values[256];
    for (int law = 0; law < 2; law++) {
        for (size_t i = 0; i < 256; i++) {
            codes[i] = (uint8_t)i;
            values[i] = (float)(law ? mulaw : alaw)[i] / 32768;
        }
        struct wav_form form = plain();
        form.tag = law ? 7 : 6;
        form.bits = 8;
        struct buf file = {0};
        wav_make(&file, &form, codes, 256);
        struct keeper k;
        assert_int_equal(read_whole(&k, &file, NULL), 0);
        assert_int_equal(k.n, 256);
        for (size_t i = 0; i < 256; i++) {
            assert_true(k.values[i] == values[i]);
        }
        mem_free(k.values);
        buf_release(&file);
    }
}

static void test_wav_interleaves_channels(void **state)
{
    (void)state;
    struct wav_form form = plain();
    form.n_channels = 2;
    form.rate = 44100;
    struct buf file = {0};
    wav_make(&file, &form, four_16, 8);
    expect(&file, 44100, 2, four, 4);
    buf_release(&file);
}

static void test_wav_passes_over_other_chunks(void **state)
{
    (void)state;
    for (uint32_t list = 1; list < 40; list++) {
        struct wav_form form = plain();
        form.list = list;
        form.trailer = "LIST\4\0\0\0abcd";
        form.trailer_size = 12;
        struct buf file = {0};
        wav_make(&file, &form, four_16, 8);
        expect(&file, 8000, 1, four, 4);
        buf_release(&file);
    }
}

static void test_wav_reads_sizes_beyond_32_bits(void **state)
{
    (void)state;
    static const char *const riffs[] = {"RF64", "BW64"};
    for (size_t i = 0; i < 2; i++) {
        struct wav_form form = plain();
        form.riff = riffs[i];
        form.riff_size = UINT32_MAX;
        form.long_size = 8;
        form.has_own_size = true;
        form.data_size = UINT32_MAX;
        form.trailer = "junk\4\0\0\0abcd"; // not sound
        form.trailer_size = 12;
        struct buf file = {0};
        wav_make(&file, &form, four_16, 8);
        expect(&file, 8000, 1, four, 4);
        buf_release(&file);
    }
}

// A recorder that does not know the length yet writes one of these.
static void test_wav_reads_on_when_the_size_is_open(void **state)
{
    (void)state;
    static const uint32_t sizes[][2] = {{36, 0}, {UINT32_MAX, UINT32_MAX}, {36, UINT32_MAX}};
    for (size_t i = 0; i < 3; i++) {
        struct wav_form form = plain();
        form.riff_size = sizes[i][0];
        form.has_own_size = true;
        form.data_size = sizes[i][1];
        struct buf file = {0};
        wav_make(&file, &form, four_16, 8);
        expect(&file, 8000, 1, four, 4);
        // Half a sample at the end is none.
        file.size--;
        expect(&file, 8000, 1, four, 3);
        buf_release(&file);
    }
}

static void test_wav_may_be_empty(void **state)
{
    (void)state;
    struct wav_form form = plain();
    struct buf file = {0};
    wav_make(&file, &form, "", 0);
    expect(&file, 8000, 1, NULL, 0);
    buf_release(&file);
    // Another chunk is announced: it is no sound.
    form.trailer = "LIST\4\0\0\0abcd";
    form.trailer_size = 12;
    wav_make(&file, &form, "", 0);
    expect(&file, 8000, 1, NULL, 0);
    buf_release(&file);
}

// A recording ends where it ends; a file that lacks what it promises was cut off.
static void test_wav_that_ends_early(void **state)
{
    (void)state;
    struct wav_form form = plain();
    form.has_own_size = true;
    form.data_size = 2000000000;
    const size_t peak = mem_bytes_peak();
    struct buf file = {0};
    struct keeper k;
    struct carat_error err = {0};
    wav_make(&file, &form, four_16, 8);
    assert_int_equal(read_whole(&k, &file, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "ends at byte 52, 1999999992 bytes before"));
    mem_free(k.values);
    assert_int_equal(read_pieces(&k, &file, 7, &err), 0);
    assert_int_equal(k.n, 4);
    assert_memory_equal(k.values, four, 4 * sizeof(float));
    mem_free(k.values);
    file.size -= 3;
    assert_int_equal(read_pieces(&k, &file, 7, &err), 0);
    assert_int_equal(k.n, 2);
    mem_free(k.values);
    assert_true(mem_bytes_peak() < peak + 1000000);
    buf_release(&file);
}

static void test_wav_keeps_the_limit_on_time(void **state)
{
    (void)state;
    uint8_t data[16000] = {0};
    struct wav_form form = plain();
    struct buf file = {0};
    wav_make(&file, &form, data, sizeof(data)); // 1 s
    budget.limits.seconds_max = 0.9;
    struct keeper k;
    struct carat_error err = {0};
    assert_int_equal(read_whole(&k, &file, &err), CARAT_E_FULL);
    assert_int_equal(k.n, 0); // from the header
    mem_free(k.values);
    buf_release(&file);
}

static void test_wav_names_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        struct wav_form form;
        const char *part;
    } cases[] = {
        {{.tag = 1, .n_channels = 0, .rate = 8000, .bits = 16, .block = 2}, "channels, found 0"},
        {{.tag = 1, .n_channels = 65, .rate = 8000, .bits = 16}, "channels, found 65"},
        {{.tag = 1, .n_channels = 1, .rate = 0, .bits = 16}, "sample rate above 0"},
        {{.tag = 1, .n_channels = 2, .rate = 8000, .bits = 16, .block = 3}, "block"},
        {{.tag = 1, .n_channels = 1, .rate = 8000, .bits = 4}, "block"},
        {{.tag = 1, .n_channels = 1, .rate = 8000, .bits = 24, .block = 2}, "bits"},
        {{.tag = 1, .n_channels = 1, .rate = 8000, .bits = 64}, "bits"},
        {{.tag = 3, .n_channels = 1, .rate = 8000, .bits = 16}, "bits"},
        {{.tag = 6, .n_channels = 1, .rate = 8000, .bits = 16}, "bits"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf file = {0};
        wav_make(&file, &cases[i].form, four_16, 8);
        refuse(&file, CARAT_E_FORMAT, cases[i].part);
        refuse(&file, CARAT_E_FORMAT, "before byte 36");
        buf_release(&file);
    }
}

static void test_wav_needs_its_chunks(void **state)
{
    (void)state;
    const struct wav_form form = plain();
    struct buf file = {0};
    wav_make(&file, &form, four_16, 8);
    for (size_t size = 12; size < 44; size++) {
        struct buf cut = {.data = file.data, .size = size};
        refuse(&cut, CARAT_E_FORMAT, "before the data");
    }
    memcpy(file.data + 12, "fmtx", 4);
    refuse(&file, CARAT_E_FORMAT, "the format before the data");
    memcpy(file.data + 12, "fmt \17\0\0\0", 8);
    refuse(&file, CARAT_E_FORMAT, "at least 16 bytes");
    memcpy(file.data, "RIFX", 4);
    refuse(&file, CARAT_E_FORMAT, "expected a WAV file");
    buf_release(&file);
}

static void test_wav_leaves_other_codecs_to_others(void **state)
{
    (void)state;
    for (int is_extended = 0; is_extended < 2; is_extended++) {
        struct wav_form form = plain();
        form.tag = 0x55; // MP3
        form.is_extended = is_extended;
        struct buf file = {0};
        wav_make(&file, &form, four_16, 8);
        struct keeper k = keeper_make();
        const struct media_input in = {(const uint8_t *)file.data, file.size, "test.wav"};
        bool is_other = false;
        assert_int_equal(wav_read(&in, &k.sink, &budget, &is_other, NULL), 0);
        assert_true(is_other);
        assert_int_equal(k.rate, 0);
        mem_free(k.values);
        struct carat_error err = {0};
        assert_int_equal(read_pieces(&k, &file, 5, &err), CARAT_E_UNSUPPORTED);
        assert_non_null(strstr(err.text, "codec 0x0055"));
        mem_free(k.values);
        buf_release(&file);
    }
}

static void test_wav_stream_stays_failed(void **state)
{
    (void)state;
    struct keeper k = keeper_make();
    struct wav_stream *w = NULL;
    assert_int_equal(wav_stream_new(&w, &k.sink, &budget, NULL), 0);
    assert_int_equal(wav_stream_push(w, "no wave at all", 14, NULL), CARAT_E_FORMAT);
    assert_int_equal(wav_stream_push(w, "RIFF", 4, NULL), CARAT_E_ARGUMENT);
    wav_stream_free(w);
    mem_free(k.values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_wav_reads_every_width, new_budget),
        cmocka_unit_test_setup(test_wav_expands_the_telephone_laws, new_budget),
        cmocka_unit_test_setup(test_wav_interleaves_channels, new_budget),
        cmocka_unit_test_setup(test_wav_passes_over_other_chunks, new_budget),
        cmocka_unit_test_setup(test_wav_reads_sizes_beyond_32_bits, new_budget),
        cmocka_unit_test_setup(test_wav_reads_on_when_the_size_is_open, new_budget),
        cmocka_unit_test_setup(test_wav_may_be_empty, new_budget),
        cmocka_unit_test_setup(test_wav_that_ends_early, new_budget),
        cmocka_unit_test_setup(test_wav_keeps_the_limit_on_time, new_budget),
        cmocka_unit_test_setup(test_wav_names_what_is_wrong, new_budget),
        cmocka_unit_test_setup(test_wav_needs_its_chunks, new_budget),
        cmocka_unit_test_setup(test_wav_leaves_other_codecs_to_others, new_budget),
        cmocka_unit_test_setup(test_wav_stream_stays_failed, new_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
