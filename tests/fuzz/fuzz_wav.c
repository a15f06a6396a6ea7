// SPDX-License-Identifier: Apache-2.0
// Random WAV files: read whole and in pieces they give the same samples, or are refused alike. The
// last byte of the input decides how the pieces are cut, and whether the sound is resampled, too,
// which takes longer.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "media/media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct carat_media_limits limits = {
    .file_size_max = 1 << 24, .seconds_max = 600, .memory_max = 1 << 26, .decode_seconds = 20};

// What a reader found, shortened.
struct found {
    struct sound_sink sink;
    struct media_budget budget;
    uint32_t rate;
    uint32_t n_channels;
    uint64_t n;
    struct hash values;
};

static int on_format(struct sound_sink *sink, uint32_t rate, uint32_t n_channels, const char *name,
                     struct carat_error *err)
{
    struct found *f = (struct found *)(void *)sink;
    (void)err;
    require(f->rate == 0 && rate > 0);
    require(n_channels > 0 && n_channels <= 64);
    require(strcmp(name, "wav") == 0);
    f->rate = rate;
    f->n_channels = n_channels;
    return 0;
}

static int on_samples(struct sound_sink *sink, const float *interleaved, size_t n,
                      struct carat_error *err)
{
    struct found *f = (struct found *)(void *)sink;
    (void)err;
    f->n += n;
    hash_add(&f->values, interleaved, n * f->n_channels * sizeof(*interleaved));
    return 0;
}

static void found_init(struct found *f)
{
    const struct carat_media_source source = {.limits = limits};
    *f = (struct found){.sink = {on_format, on_samples}};
    media_budget_init(&f->budget, &source, "fuzz.wav");
    f->budget.limits.seconds_max = 1e300; // of a stream it is the sound that asks
    hash_init(&f->values, NULL);
}

// Each piece is in a block of its own, so that a sanitizer sees a read behind it.
static int push(struct wav_stream *w, const uint8_t *data, size_t size, struct carat_error *err)
{
    uint8_t *piece = mem_new(size, NULL);
    require(piece);
    if (size > 0) {
        memcpy(piece, data, size);
    }
    int rc = wav_stream_push(w, piece, size, err);
    mem_free(piece);
    return rc;
}

static int read_pieces(struct found *f, const uint8_t *data, size_t size, uint32_t seed,
                       struct carat_error *err)
{
    struct wav_stream *w = NULL;
    int rc = wav_stream_new(&w, &f->sink, &f->budget, err);
    const uint32_t most = seed % 4 == 0 ? 3 : seed % 4 == 1 ? 50 : 3000;
    for (size_t at = 0; at < size && !rc;) {
        seed = seed * 1664525 + 1013904223;
        size_t n = (seed >> 8) % most;
        n = n < size - at ? n : size - at;
        rc = push(w, data + at, n, err);
        at += n;
    }
    if (!rc) {
        rc = wav_stream_finish(w, err);
    }
    wav_stream_free(w);
    return rc;
}

static void check_sound(const uint8_t *data, size_t size)
{
    const struct carat_media_source source = {
        .type = CARAT_MEDIA_AUDIO, .data = data, .size = size, .limits = limits};
    struct carat_media *m = NULL;
    struct carat_error err = {0};
    int rc = carat_media_new(&m, &source, &err);
    require(rc == 0 || err.text[0] != 0);
    if (rc == 0) {
        size_t n;
        const float *samples = carat_media_samples(m, &n);
        for (size_t i = 0; i < n; i++) {
            require(isfinite(samples[i]));
        }
    }
    carat_media_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct media_input in = {data, size, "fuzz.wav"};
    if (!wav_is(&in)) {
        return 0; // would go to the libraries
    }
    struct found whole;
    struct found pieces;
    struct carat_error err_whole = {0};
    struct carat_error err_pieces = {0};
    bool is_other = false;
    found_init(&whole);
    found_init(&pieces);
    int rc_whole = wav_read(&in, &whole.sink, &whole.budget, &is_other, &err_whole);
    int rc_pieces = read_pieces(&pieces, data, size, data[size - 1], &err_pieces);
    // A file must have what it promises; a recording ends where it ends.
    bool is_cut = rc_whole == CARAT_E_FORMAT && rc_pieces == 0;
    require(is_other ? rc_pieces == CARAT_E_UNSUPPORTED : is_cut || rc_pieces == rc_whole);
    require(rc_pieces == 0 || err_pieces.text[0] != 0);
    require(whole.rate == pieces.rate);
    require(whole.n == pieces.n);
    require(hash_u64(&whole.values) == hash_u64(&pieces.values));
    if (rc_whole == 0 && !is_other && data[size - 1] >= 250) {
        check_sound(data, size);
    }
    return 0;
}
