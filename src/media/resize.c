// SPDX-License-Identifier: Apache-2.0
// Bicubic resizing with antialiasing, the same bit for bit as the model's published processor does
// it: weights in 16-bit fixed point, first along the rows, then along the columns, rounded to 8
// bits after each. docs/media.md has the formula.
#include "media/media.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/pool.h"

#define PRECISION_MAX 22  // bits of a weight behind the point; 2^31 holds the sum of 255 * weight
#define TAPS_STEP     8   // rows of weights are padded with zeros to a multiple: whole vectors
#define STRIP         512 // columns of the second pass that are summed together
#define BANDS_MAX     8   // threads
#define PARALLEL_MIN  ((uint64_t)1 << 20) // pixels below which threads cost more than they bring

// The weights of one pass: output i is the sum of weights[i][t] * input[first[i] + t].
struct taps {
    uint32_t n;       // outputs
    uint32_t *first;  // [n]
    uint32_t *count;  // [n]
    uint32_t stride;  // of weights: the largest count, padded
    int16_t *weights; // [n][stride], scaled by 2^precision
    int precision;
    uint64_t bytes; // taken from the budget
};

static void taps_release(struct taps *t, struct media_budget *b)
{
    mem_free(t->first);
    mem_free(t->count);
    mem_free(t->weights);
    media_budget_give(b, t->bytes);
    *t = (struct taps){0};
}

// Keys' cubic with a = -0.5 (R. Keys, Cubic convolution interpolation, 1981).
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) {
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    }
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

struct pass {
    uint32_t in;
    uint32_t out;
    double scale;   // input pixels for an output pixel
    double stretch; // of the kernel: above 1 when the picture shrinks
};

static struct pass pass_of(uint32_t in, uint32_t out)
{
    double scale = (double)in / out;
    return (struct pass){in, out, scale, scale > 1 ? scale : 1};
}

// Which inputs output i is made of: first, and one past the last.
static void reach(const struct pass *p, uint32_t i, uint32_t *first, uint32_t *end)
{
    double center = p->scale * (i + 0.5);
    double support = 2 * p->stretch;
    double low = center - support + 0.5;
    double high = center + support + 0.5;
    *first = low > 0 ? (uint32_t)low : 0;
    *end = high < p->in ? (uint32_t)high : p->in;
}

// The weights of output i in double precision, their sum 1.
static void weigh(double *out, const struct pass *p, uint32_t i, uint32_t first, uint32_t count)
{
    double center = p->scale * (i + 0.5);
    double inverse = 1 / p->stretch;
    double sum = 0;
    for (uint32_t t = 0; t < count; t++) {
        out[t] = cubic((t + (double)first - center + 0.5) * inverse);
        sum += out[t];
    }
    for (uint32_t t = 0; t < count && sum != 0; t++) {
        out[t] /= sum;
    }
}

// The most bits for which the largest weight of the pass still fits.
static int precision_for(double weight_max)
{
    int precision = 0;
    while (precision < PRECISION_MAX && 0.5 + ldexp(weight_max, precision + 1) < 32768) {
        precision++;
    }
    return precision;
}

static int taps_new(struct taps *out, const struct pass *p, struct media_budget *b,
                    struct carat_error *err)
{
    uint32_t count_max = 0;
    for (uint32_t i = 0; i < p->out; i++) {
        uint32_t first;
        uint32_t end;
        reach(p, i, &first, &end);
        count_max = end - first > count_max ? end - first : count_max;
    }
    struct taps t = {.n = p->out, .stride = (count_max + TAPS_STEP - 1) / TAPS_STEP * TAPS_STEP};
    uint64_t bytes = (uint64_t)t.n * (2 * sizeof(uint32_t) + (uint64_t)t.stride * sizeof(int16_t)) +
                     count_max * sizeof(double);
    int rc = media_budget_take(b, bytes, err);
    if (rc) {
        return rc;
    }
    t.bytes = bytes;
    t.first = mem_new_array(t.n, sizeof(*t.first), err);
    t.count = mem_new_array(t.n, sizeof(*t.count), err);
    t.weights = mem_new_array((size_t)t.n * t.stride, sizeof(*t.weights), err);
    double *row = mem_new_array(count_max, sizeof(*row), err);
    if (!t.first || !t.count || !t.weights || !row) {
        taps_release(&t, b);
        mem_free(row);
        return CARAT_E_MEMORY;
    }
    double weight_max = 0;
    for (uint32_t i = 0; i < t.n; i++) {
        uint32_t end;
        reach(p, i, &t.first[i], &end);
        t.count[i] = end - t.first[i];
        weigh(row, p, i, t.first[i], t.count[i]);
        for (uint32_t k = 0; k < t.count[i]; k++) {
            weight_max = row[k] > weight_max ? row[k] : weight_max;
        }
    }
    t.precision = precision_for(weight_max);
    for (uint32_t i = 0; i < t.n; i++) {
        weigh(row, p, i, t.first[i], t.count[i]);
        int16_t *weights = t.weights + (size_t)i * t.stride;
        for (uint32_t k = 0; k < t.count[i]; k++) {
            weights[k] = (int16_t)round(ldexp(row[k], t.precision));
        }
    }
    mem_free(row);
    *out = t;
    return 0;
}

static uint8_t rounded(int32_t sum, int precision)
{
    // Arithmetic shift: a negative sum stays negative and becomes 0.
    int32_t value = sum >> precision;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

// One row as three planes of 16-bit values, with room for the padding of the weights behind each.
struct planes {
    int16_t *values; // [3][stride]
    size_t stride;
};

static void split_row(const struct planes *p, const uint8_t *rgb, uint32_t width)
{
    int16_t *r = p->values;
    int16_t *g = r + p->stride;
    int16_t *b = g + p->stride;
    for (size_t x = 0; x < width; x++) {
        r[x] = rgb[3 * x];
        g[x] = rgb[3 * x + 1];
        b[x] = rgb[3 * x + 2];
    }
}

// Whole numbers: the compiler may add them in any order, eight products at a time. n is a multiple
// of TAPS_STEP.
static int32_t dot(const int16_t *restrict weights, const int16_t *restrict values, size_t n)
{
    int32_t sum = 0;
    n -= n % TAPS_STEP;
    for (size_t i = 0; i < n; i++) {
        sum += weights[i] * values[i];
    }
    return sum;
}

// The first pass, of one row.
static void resize_row(uint8_t *out, const struct taps *t, const struct planes *p)
{
    const int32_t half = t->precision > 0 ? (int32_t)1 << (t->precision - 1) : 0;
    for (size_t i = 0; i < t->n; i++) {
        const int16_t *weights = t->weights + i * t->stride;
        for (size_t c = 0; c < 3; c++) {
            const int16_t *values = p->values + c * p->stride + t->first[i];
            out[3 * i + c] = rounded(dot(weights, values, t->stride) + half, t->precision);
        }
    }
}

// Rows after the first pass: as many as one output row is made of, each in its place modulo that.
struct ring {
    uint8_t *rows;
    uint32_t n_rows;
    size_t row_size;
    uint32_t end; // one past the newest row
};

static uint8_t *ring_row(const struct ring *r, uint32_t i)
{
    return r->rows + (size_t)(i % r->n_rows) * r->row_size;
}

// The second pass, of output row i.
static void resize_columns(uint8_t *out, const struct taps *t, uint32_t i, const struct ring *r)
{
    const int16_t *weights = t->weights + (size_t)i * t->stride;
    const int32_t half = t->precision > 0 ? (int32_t)1 << (t->precision - 1) : 0;
    for (size_t at = 0; at < r->row_size; at += STRIP) {
        const size_t n = r->row_size - at < STRIP ? r->row_size - at : STRIP;
        int32_t sums[STRIP];
        for (size_t k = 0; k < n; k++) {
            sums[k] = half;
        }
        for (uint32_t k = 0; k < t->count[i]; k++) {
            const uint8_t *restrict row = ring_row(r, t->first[i] + k) + at;
            const int16_t weight = weights[k];
            for (size_t x = 0; x < n; x++) {
                sums[x] += weight * (int16_t)row[x];
            }
        }
        for (size_t k = 0; k < n; k++) {
            out[at + k] = rounded(sums[k], t->precision);
        }
    }
}

// A band of output rows, and what a thread needs to make it.
struct band {
    struct planes planes;
    struct ring ring;
};

struct resizer {
    const struct media_picture *in;
    uint8_t *out;
    uint32_t height;
    struct taps across;
    struct taps down;
    struct band bands[BANDS_MAX];
    size_t n_bands;
    uint64_t bytes; // taken from the budget for the bands
};

static int band_init(struct resizer *r, struct band *band, size_t row_size, struct media_budget *b,
                     struct carat_error *err)
{
    const struct media_picture *in = r->in;
    band->planes.stride = (size_t)in->width + r->across.stride;
    band->ring.n_rows = r->down.stride < in->height ? r->down.stride : in->height;
    band->ring.row_size = row_size;
    const uint64_t bytes = (uint64_t)band->planes.stride * 3 * sizeof(int16_t) +
                           (uint64_t)band->ring.n_rows * row_size;
    int rc = media_budget_take(b, bytes, err);
    if (rc) {
        return rc;
    }
    r->bytes += bytes;
    band->planes.values = mem_new_array(band->planes.stride * 3, sizeof(int16_t), err);
    band->ring.rows = mem_new_array(band->ring.n_rows, row_size, err);
    return band->planes.values && band->ring.rows ? 0 : CARAT_E_MEMORY;
}

static int resizer_init(struct resizer *r, const struct media_picture *in, uint32_t width,
                        uint32_t height, struct media_budget *b, struct carat_error *err)
{
    const struct pass across = pass_of(in->width, width);
    const struct pass down = pass_of(in->height, height);
    *r = (struct resizer){.in = in, .height = height, .n_bands = 1};
    if ((uint64_t)in->width * in->height >= PARALLEL_MIN) {
        const size_t cores = os_cores();
        r->n_bands = cores < BANDS_MAX ? cores : BANDS_MAX;
        r->n_bands = r->n_bands < height ? r->n_bands : height;
    }
    int rc = taps_new(&r->across, &across, b, err);
    if (!rc) {
        rc = taps_new(&r->down, &down, b, err);
    }
    for (size_t i = 0; i < r->n_bands && !rc; i++) {
        rc = band_init(r, &r->bands[i], (size_t)width * 3, b, err);
    }
    return rc;
}

static void resizer_release(struct resizer *r, struct media_budget *b)
{
    taps_release(&r->across, b);
    taps_release(&r->down, b);
    for (size_t i = 0; i < r->n_bands; i++) {
        mem_free(r->bands[i].planes.values);
        mem_free(r->bands[i].ring.rows);
    }
    media_budget_give(b, r->bytes);
}

// Takes rows through the first pass until the ring has all below end.
static void fill_ring(const struct resizer *r, struct band *band, uint32_t end)
{
    const struct media_picture *in = r->in;
    struct ring *ring = &band->ring;
    for (; ring->end < end; ring->end++) {
        split_row(&band->planes, in->pixels + (size_t)ring->end * in->width * 3, in->width);
        resize_row(ring_row(ring, ring->end), &r->across, &band->planes);
    }
}

// Bands share nothing; the rows between two of them go through the first pass twice.
static void band_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    struct resizer *r = context;
    struct band *band = &r->bands[task];
    const uint32_t begin = (uint32_t)((uint64_t)r->height * task / r->n_bands);
    const uint32_t end = (uint32_t)((uint64_t)r->height * (task + 1) / r->n_bands);
    band->ring.end = r->down.first[begin];
    for (uint32_t y = begin; y < end; y++) {
        fill_ring(r, band, r->down.first[y] + r->down.count[y]);
        resize_columns(r->out + (size_t)y * band->ring.row_size, &r->down, y, &band->ring);
    }
}

int resize_rgb(uint8_t *out, uint32_t width, uint32_t height, const struct media_picture *in,
               struct media_budget *b, struct carat_error *err)
{
    require(width > 0 && height > 0);
    require(in->width > 0 && in->height > 0);
    if (width == in->width && height == in->height) {
        memcpy(out, in->pixels, (size_t)width * height * 3);
        return 0;
    }
    struct resizer r;
    struct pool *pool = NULL;
    int rc = resizer_init(&r, in, width, height, b, err);
    r.out = out;
    if (!rc && r.n_bands > 1 && pool_new(&pool, r.n_bands, NULL)) {
        pool = NULL; // no more threads: the bands one after the other
    }
    if (!rc) { // some tenths of a second at most, whatever the limits allow
        pool_run(pool, r.n_bands, band_task, &r);
        rc = media_budget_tick(b, 0, 0, err);
    }
    pool_free(pool);
    resizer_release(&r, b);
    return rc;
}
