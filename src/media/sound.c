// SPDX-License-Identifier: Apache-2.0
// Sound of any rate and number of channels to 16 kHz mono: the mean of the channels, then a
// polyphase filter, a sinc under a Kaiser window (J. Kaiser, R. Schafer, On the use of the I0-sinh
// window, 1980). It is centred on each output sample, so nothing is shifted in time. What comes out
// does not depend on how the input was cut into pieces. docs/media.md has the figures.
#include "media/media.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define RATE_MIN     100
#define RATE_MAX     768000
#define CHANNELS_MAX 64
#define VALUE_MAX    1e9 // larger than any sound; its square still fits a float

// The pass band ends at this part of the lower Nyquist frequency, the stop band begins at 1.
#define PASS_END     0.9136
#define STOP_DB      126.4
#define LANES        16        // sums that run side by side in a dot product
#define TABLE_MAX    (1 << 20) // most weights of a filter that is kept for every phase
#define PHASES_MAX   1024 // else this many for each sample of the lower rate, and lines between
#define PIECE        4096 // samples that are mixed and filtered together
#define CAPACITY_MIN 16384

// Output i stands at the time i * down / up, in input samples: a whole number and a phase in 1/up.
struct filter {
    uint64_t up;
    uint64_t down;
    size_t half;   // weights on each side; both together are a multiple of LANES
    size_t n_rows; // phases in the table, besides the one that closes the circle
    float *table;  // [n_rows + 1][2 * half]
};

struct sound {
    struct media_budget *budget;
    uint32_t rate;
    uint32_t n_channels;
    bool is_finished;
    struct filter filter;
    float *heard;       // [2 * half + PIECE] mono input that is still needed
    size_t n_heard;     // in it
    int64_t heard_from; // number of the first of them; the silence before the sound is below 0
    uint64_t n_in;
    uint64_t whole; // where the next output stands
    uint64_t phase;
    float *samples;
    size_t n_samples;
    size_t capacity;
    uint64_t bytes; // taken from the budget, samples included
};

/* ------------------------------------------------------------------------------------- filter */

// The modified Bessel function of order 0, by its series.
static double bessel_i0(double x)
{
    double sum = 1;
    double term = 1;
    for (int k = 1; term > sum * 1e-17; k++) {
        term *= (x / (2 * k)) * (x / (2 * k));
        sum += term;
    }
    return sum;
}

static double sinc(double x)
{
    const double pi = 3.14159265358979323846;
    return x == 0 ? 1 : sin(pi * x) / (pi * x);
}

struct window {
    double cutoff; // middle of the transition, as a part of the input's Nyquist frequency
    double half;   // width to one side, in input samples
    double beta;
    double scale; // 1 / I0(beta)
};

static struct window window_for(uint32_t rate)
{
    const double pi = 3.14159265358979323846;
    const double ratio = rate > MEDIA_RATE ? (double)MEDIA_RATE / rate : 1;
    const double transition = pi * (1 - PASS_END) * ratio;
    struct window w = {.cutoff = ratio * (1 + PASS_END) / 2,
                       .half = (STOP_DB - 7.95) / (2.285 * transition) / 2,
                       .beta = 0.1102 * (STOP_DB - 8.7)};
    w.scale = 1 / bessel_i0(w.beta);
    return w;
}

static double window_at(const struct window *w, double x)
{
    const double part = x / w->half;
    if (part <= -1 || part >= 1) {
        return 0;
    }
    return w->cutoff * sinc(w->cutoff * x) * bessel_i0(w->beta * sqrt(1 - part * part)) * w->scale;
}

// The weights for an output that stands `phase` (0..1) behind an input sample; their sum is 1, so
// that a constant stays what it is.
static void fill_row(float *row, double *exact, const struct window *w, size_t half, double phase)
{
    double sum = 0;
    for (size_t k = 0; k < 2 * half; k++) {
        exact[k] = window_at(w, (double)k - (double)(half - 1) - phase);
        sum += exact[k];
    }
    for (size_t k = 0; k < 2 * half; k++) {
        row[k] = (float)(exact[k] / sum);
    }
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b > 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int filter_init(struct filter *f, uint32_t rate, struct media_budget *b, uint64_t *bytes,
                       struct carat_error *err)
{
    const uint64_t common = common_divisor(MEDIA_RATE, rate);
    const struct window w = window_for(rate);
    const size_t half = ((size_t)w.half / (LANES / 2) + 1) * (LANES / 2);
    *f = (struct filter){.up = MEDIA_RATE / common, .down = rate / common, .half = half};
    const size_t n_exact = TABLE_MAX / (2 * half);
    f->n_rows = f->up <= n_exact ? (size_t)f->up : (size_t)(PHASES_MAX * w.cutoff) + 1;
    const uint64_t size = (uint64_t)(f->n_rows + 1) * 2 * half * sizeof(float);
    int rc = media_budget_take(b, size, err);
    if (rc) {
        return rc;
    }
    *bytes += size;
    f->table = mem_new((size_t)size, err);
    double *exact = mem_new_array(2 * half, sizeof(*exact), err);
    for (size_t i = 0; i <= f->n_rows && f->table && exact; i++) {
        fill_row(f->table + i * 2 * half, exact, &w, half, (double)i / (double)f->n_rows);
    }
    rc = f->table && exact ? 0 : CARAT_E_MEMORY;
    mem_free(exact);
    return rc;
}

// LANES sums side by side, then joined in pairs: one order on every machine.
static float dot(const float *restrict a, const float *restrict b, size_t n)
{
    float sums[LANES] = {0};
    for (size_t i = 0; i < n; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            sums[k] += a[i + k] * b[i + k];
        }
    }
    for (size_t width = LANES / 2; width > 0; width /= 2) {
        for (size_t k = 0; k < width; k++) {
            sums[k] += sums[k + width];
        }
    }
    return sums[0];
}

static float filter_at(const struct filter *f, const float *heard, uint64_t phase)
{
    const size_t n = 2 * f->half;
    if (f->n_rows == f->up) {
        return dot(f->table + (size_t)phase * n, heard, n);
    }
    const double at = (double)phase / (double)f->up * (double)f->n_rows;
    const size_t row = (size_t)at;
    const float part = (float)(at - (double)row);
    const float low = dot(f->table + row * n, heard, n);
    const float high = dot(f->table + (row + 1) * n, heard, n);
    return low + part * (high - low);
}

/* -------------------------------------------------------------------------------------- sound */

int sound_new(struct sound **out, uint32_t rate, uint32_t n_channels, struct media_budget *b,
              struct carat_error *err)
{
    if (rate < RATE_MIN || rate > RATE_MAX) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: expected a sample rate from %d to %d Hz, found %u", b->name, RATE_MIN,
                    RATE_MAX, rate);
    }
    if (n_channels < 1 || n_channels > CHANNELS_MAX) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: expected 1 to %d channels, found %u", b->name,
                    CHANNELS_MAX, n_channels);
    }
    struct sound *s = mem_new(sizeof(*s), err);
    if (!s) {
        return CARAT_E_MEMORY;
    }
    s->budget = b;
    s->rate = rate;
    s->n_channels = n_channels;
    int rc = 0;
    if (rate != MEDIA_RATE) {
        rc = filter_init(&s->filter, rate, b, &s->bytes, err);
    }
    if (!rc) {
        // Silence stands before the first sample.
        s->n_heard = s->filter.half > 0 ? s->filter.half - 1 : 0;
        s->heard_from = -(int64_t)s->n_heard;
        s->heard = mem_new_array(2 * s->filter.half + PIECE, sizeof(float), err);
        rc = s->heard ? 0 : CARAT_E_MEMORY;
    }
    if (rc) {
        sound_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

// Room for n more samples.
static int reserve(struct sound *s, size_t n, struct carat_error *err)
{
    size_t needed;
    if (!size_add(&needed, s->n_samples, n)) {
        return fail(err, CARAT_E_MEMORY, "%s: too many samples", s->budget->name);
    }
    if (needed <= s->capacity) {
        return 0;
    }
    size_t capacity = s->capacity + s->capacity / 2;
    capacity = capacity < CAPACITY_MIN ? CAPACITY_MIN : capacity;
    capacity = capacity < needed ? needed : capacity;
    const uint64_t more = (uint64_t)(capacity - s->capacity) * sizeof(float);
    int rc = media_budget_take(s->budget, more, err);
    if (rc) {
        return rc;
    }
    float *samples = mem_resize(s->samples, capacity * sizeof(*samples), err);
    if (!samples) {
        media_budget_give(s->budget, more);
        return CARAT_E_MEMORY;
    }
    s->bytes += more;
    s->samples = samples;
    s->capacity = capacity;
    return 0;
}

// n outputs of an input of n_in samples: those that stand before its end.
static uint64_t n_out(const struct sound *s, uint64_t n_in)
{
    if (!s->filter.table) {
        return n_in;
    }
    return (n_in * s->filter.up + s->filter.down - 1) / s->filter.down;
}

// All outputs, up to number `end`, whose inputs are there.
static int filter_heard(struct sound *s, uint64_t end, struct carat_error *err)
{
    const struct filter *f = &s->filter;
    const int64_t half = (int64_t)f->half;
    const int64_t heard_end = s->heard_from + (int64_t)s->n_heard;
    while (s->n_samples < end && (int64_t)s->whole + half < heard_end) {
        int rc = reserve(s, 1, err);
        if (rc) {
            return rc;
        }
        const int64_t from = (int64_t)s->whole - half + 1 - s->heard_from;
        s->samples[s->n_samples] = filter_at(f, s->heard + from, s->phase);
        s->n_samples++;
        s->phase += f->down;
        s->whole += s->phase / f->up;
        s->phase %= f->up;
    }
    // What no later output needs goes. The next one may stand far behind all that was heard.
    int64_t unused = (int64_t)s->whole - half + 1 - s->heard_from;
    unused = unused < 0 ? 0 : unused;
    const size_t drop = (uint64_t)unused < s->n_heard ? (size_t)unused : s->n_heard;
    memmove(s->heard, s->heard + drop, (s->n_heard - drop) * sizeof(float));
    s->n_heard -= drop;
    s->heard_from += (int64_t)drop;
    return 0;
}

static float sane(double value)
{
    return value >= -VALUE_MAX && value <= VALUE_MAX ? (float)value : 0;
}

// n interleaved samples to mono.
static void mix(float *out, const float *in, size_t n, uint32_t n_channels)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t c = 0; c < n_channels; c++) {
            sum += (double)sane((double)in[i * n_channels + c]);
        }
        out[i] = (float)(sum / n_channels);
    }
}

static int push_piece(struct sound *s, const float *interleaved, size_t n, struct carat_error *err)
{
    if (!s->filter.table) {
        int rc = reserve(s, n, err);
        if (!rc) {
            mix(s->samples + s->n_samples, interleaved, n, s->n_channels);
            s->n_samples += n;
            s->n_in += n;
        }
        return rc;
    }
    mix(s->heard + s->n_heard, interleaved, n, s->n_channels);
    s->n_heard += n;
    s->n_in += n;
    return filter_heard(s, n_out(s, s->n_in), err);
}

int sound_push(struct sound *s, const float *interleaved, size_t n, struct carat_error *err)
{
    require(!s->is_finished);
    int rc = media_check_seconds(s->budget, ((double)s->n_in + (double)n) / s->rate, err);
    for (size_t at = 0; at < n && !rc; at += PIECE) {
        const size_t piece = n - at < PIECE ? n - at : PIECE;
        rc = push_piece(s, interleaved + at * s->n_channels, piece, err);
        if (!rc) {
            rc = media_budget_tick(s->budget, 0, 0, err);
        }
    }
    return rc;
}

int sound_finish(struct sound *s, struct carat_error *err)
{
    int rc = 0;
    const uint64_t end = n_out(s, s->n_in);
    // Silence stands behind the last sample, too.
    while (s->n_samples < end && !rc) {
        memset(s->heard + s->n_heard, 0, PIECE * sizeof(float));
        s->n_heard += PIECE;
        rc = filter_heard(s, end, err);
    }
    s->is_finished = true;
    return rc;
}

const float *sound_samples(const struct sound *s, size_t *n)
{
    *n = s->n_samples;
    return s->samples;
}

uint64_t sound_n_in(const struct sound *s)
{
    return s->n_in;
}

float *sound_take(struct sound *s, size_t *n)
{
    float *samples = s->samples;
    *n = s->n_samples;
    s->bytes -= (uint64_t)s->capacity * sizeof(float); // the budget's share goes along
    s->samples = NULL;
    s->n_samples = 0;
    s->capacity = 0;
    return samples;
}

void sound_free(struct sound *s)
{
    if (s) {
        mem_free(s->filter.table);
        mem_free(s->heard);
        mem_free(s->samples);
        media_budget_give(s->budget, s->bytes);
        mem_free(s);
    }
}
