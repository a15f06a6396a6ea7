// SPDX-License-Identifier: Apache-2.0
// Weighted least squares for the packers. For given codes q the best scale of x = s q has a closed
// form, and for a given scale the best codes are the nearest ones; only the start has to be
// searched: a row of candidates is tried side by side, each is refined by repeating the two, and
// the best of all that were seen is taken.
#include "formats/pack.h"

#include <math.h>
#include <string.h>

#include "formats/dtype.h"
#include "formats/quant.h"

// The largest value of any block is below 65504 * 128 * 127 < 2^30, the smallest is 2^-24 * 1.
static const float largest_useful = 0x1p30f;
static const float smallest_useful = 0x1p-40f;
// Of the mean importance of a block: so that columns which nobody saw are not made nonsense.
static const float least_weight = 0x1p-10f;

static void read_weights(float *w, const float *importance, size_t n)
{
    float largest = 0;
    for (size_t i = 0; importance && i < n; i++) {
        if (isfinite(importance[i]) && importance[i] > largest) {
            largest = importance[i];
        }
    }
    if (largest < 0x1p-120f) { // none, or its inverse would overflow
        for (size_t i = 0; i < n; i++) {
            w[i] = 1;
        }
        return;
    }
    float sum = 0;
    float inverse = 1 / largest;
    for (size_t i = 0; i < n; i++) {
        w[i] = isfinite(importance[i]) && importance[i] > 0 ? importance[i] * inverse : 0;
        sum += w[i];
    }
    float scale = (float)n / sum;
    for (size_t i = 0; i < n; i++) {
        w[i] = w[i] * scale > least_weight ? w[i] * scale : least_weight;
    }
}

bool pack_block_read(struct pack_block *b, const float *values, const float *importance, size_t n)
{
    bool is_finite = true;
    for (size_t i = 0; i < n; i++) {
        float size = fabsf(values[i]);
        is_finite = is_finite && size < INFINITY;
        float x = pack_clamp(values[i], -largest_useful, largest_useful);
        b->x[i] = size < smallest_useful ? 0 : x;
    }
    read_weights(b->w, importance, n);
    return is_finite;
}

static void put_half(uint8_t bytes[2], uint16_t half)
{
    bytes[0] = (uint8_t)half;
    bytes[1] = (uint8_t)(half >> 8);
}

float pack_half(uint8_t bytes[2], float v)
{
    put_half(bytes, f16_from_f32(pack_clamp(v, -65504, 65504)));
    return quant_half(bytes);
}

float pack_half_scale(uint8_t bytes[2], float v)
{
    if (v != 0 && fabsf(v) < 0x1p-24f) {
        v = v < 0 ? -0x1p-24f : 0x1p-24f;
    }
    return pack_half(bytes, v);
}

void pack_half_nan(uint8_t bytes[2])
{
    put_half(bytes, 0x7E00);
}

void pack_iq4_init(struct pack_iq4 *table)
{
    int at = 0;
    for (int k = 0; k < 16; k++) {
        int end = k < 15 ? quant_iq4_levels[k] + quant_iq4_levels[k + 1] + 256 : 512;
        for (; at < end; at++) {
            table->level[at] = (float)quant_iq4_levels[k];
            table->code[at] = (uint8_t)k;
        }
    }
}

// Where pack_iq4 has y, less 256. Codes carry their bounds, as whole numbers do: with constants
// compilers would branch instead.
static inline float iq4_place(float y, float low, float high)
{
    return pack_round(2 * pack_clamp(y, low, high) - 0.5f);
}

static float inverse_of(float scale)
{
    return fabsf(scale) > 0x1p-100f ? 1 / scale : 0;
}

// What a row of candidates comes to: the sums that least squares asks for.
struct sums {
    float q[PACK_LANES];  // w q
    float qq[PACK_LANES]; // w q^2
    float xq[PACK_LANES]; // w x q
};

static void sum_scales(struct sums *restrict s, const float inverse[restrict PACK_LANES],
                       const float *restrict x, const float *restrict w, size_t n, float low,
                       float high)
{
    float qq[PACK_LANES] = {0}, xq[PACK_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < PACK_LANES; k++) {
            float q = pack_round(pack_clamp(x[i] * inverse[k], low, high));
            float wq = w[i] * q;
            qq[k] += wq * q;
            xq[k] += wq * x[i];
        }
    }
    memcpy(s->qq, qq, sizeof(qq));
    memcpy(s->xq, xq, sizeof(xq));
}

static void iq4_levels(float q[restrict PACK_LANES], const float y[restrict PACK_LANES],
                       const struct pack_codes *codes)
{
    float low = codes->low, high = codes->high;
    // Three loops, because the first two become vectors.
    float place[PACK_LANES];
    int index[PACK_LANES];
    for (size_t k = 0; k < PACK_LANES; k++) {
        place[k] = iq4_place(y[k], low, high);
    }
    for (size_t k = 0; k < PACK_LANES; k++) {
        index[k] = (int)place[k] + 256;
    }
    for (size_t k = 0; k < PACK_LANES; k++) {
        q[k] = codes->iq4->level[index[k]];
    }
}

static void sum_scales_iq4(struct sums *restrict s, const float inverse[restrict PACK_LANES],
                           const float *restrict x, const float *restrict w, size_t n,
                           const struct pack_codes *codes)
{
    float qq[PACK_LANES] = {0}, xq[PACK_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        float y[PACK_LANES], q[PACK_LANES];
        for (size_t k = 0; k < PACK_LANES; k++) {
            y[k] = x[i] * inverse[k];
        }
        iq4_levels(q, y, codes);
        for (size_t k = 0; k < PACK_LANES; k++) {
            float wq = w[i] * q[k];
            qq[k] += wq * q[k];
            xq[k] += wq * x[i];
        }
    }
    memcpy(s->qq, qq, sizeof(qq));
    memcpy(s->xq, xq, sizeof(xq));
}

// The value with the largest size.
static float largest_of(const float *x, size_t n)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    }
    return largest;
}

float pack_fit_scale(const float *x, const float *w, size_t n, const struct pack_codes *codes,
                     int n_steps)
{
    float largest = largest_of(x, n);
    if (largest == 0) {
        return 0;
    }
    // Where the value with the largest size goes, as a part of the lowest code and of the highest:
    // one of them is a little larger. Beyond 1 it is cut, which it may be if it counts for little.
    static const float parts[8] = {0.80f, 0.87f, 0.94f, 1.0f, 1.06f, 1.14f, 1.24f, 1.36f};
    float inverse[PACK_LANES];
    for (size_t k = 0; k < PACK_LANES; k++) {
        inverse[k] = (k < 8 ? codes->low : codes->high) * parts[k % 8] / largest;
    }
    float best = 0, scale = 0;
    struct sums s;
    for (int step = 0; step <= n_steps; step++) {
        if (codes->iq4) {
            sum_scales_iq4(&s, inverse, x, w, n, codes);
        } else {
            sum_scales(&s, inverse, x, w, n, codes->low, codes->high);
        }
        for (size_t k = 0; k < PACK_LANES; k++) {
            if (!(s.qq[k] > 0)) {
                continue;
            }
            float candidate = s.xq[k] / s.qq[k];
            float gain = candidate * s.xq[k];
            if (gain > best) {
                best = gain;
                scale = candidate;
            }
            inverse[k] = inverse_of(candidate);
        }
    }
    return scale;
}

// Candidates x = (code - bias) / inverse; the values are centred for xq, or the sums would lose the
// digits that matter.
static void sum_lines(struct sums *restrict s, const float inverse[restrict PACK_LANES],
                      const float bias[restrict PACK_LANES], const float *restrict x,
                      const float *restrict w, size_t n, float mean, float high)
{
    float q1[PACK_LANES] = {0}, qq[PACK_LANES] = {0}, xq[PACK_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        float centred = x[i] - mean;
        for (size_t k = 0; k < PACK_LANES; k++) {
            float q = pack_round(pack_clamp(centred * inverse[k] + bias[k], 0, high));
            float wq = w[i] * q;
            q1[k] += wq;
            qq[k] += wq * q;
            xq[k] += wq * centred;
        }
    }
    memcpy(s->q, q1, sizeof(q1));
    memcpy(s->qq, qq, sizeof(qq));
    memcpy(s->xq, xq, sizeof(xq));
}

// What is known of a group before any candidate.
struct extent {
    float lowest, highest, mean;
    float w; // sum of the weights
};

static struct extent extent_of(const float *x, const float *w, size_t n)
{
    struct extent e = {.lowest = x[0], .highest = x[0]};
    float wx = 0;
    for (size_t i = 0; i < n; i++) {
        e.lowest = x[i] < e.lowest ? x[i] : e.lowest;
        e.highest = x[i] > e.highest ? x[i] : e.highest;
        e.w += w[i];
        wx += w[i] * x[i];
    }
    e.mean = pack_clamp(wx / e.w, e.lowest, e.highest);
    return e;
}

// Least squares for candidate k's codes: how much of the sum of w (x - mean)^2 it explains.
static bool solve_line(struct pack_line *line, float *gain, const struct sums *s, size_t k,
                       const struct extent *e, bool is_min_negative)
{
    float q_mean = s->q[k] / e->w;
    float spread = s->qq[k] - s->q[k] * q_mean;
    if (!(spread > 0)) {
        return false;
    }
    line->scale = s->xq[k] / spread;
    line->min = e->mean - line->scale * q_mean;
    *gain = line->scale * s->xq[k];
    if (is_min_negative && line->min > 0) { // then the line goes through zero
        float xq = s->xq[k] + e->mean * s->q[k];
        line->min = 0;
        line->scale = xq / s->qq[k];
        *gain = line->scale * xq - e->mean * e->mean * e->w;
    }
    return line->scale > 0;
}

struct pack_line pack_fit_line(const float *x, const float *w, size_t n, float high,
                               bool is_min_negative, int n_steps)
{
    struct extent e = extent_of(x, w, n);
    struct pack_line best = {.scale = 0, .min = e.mean};
    if (is_min_negative && e.lowest > 0) {
        e.lowest = 0;
    }
    if (is_min_negative && best.min > 0) {
        best = (struct pack_line){.scale = e.mean / high, .min = 0};
    }
    float range = e.highest - e.lowest;
    if (!(range > 0)) {
        return best;
    }
    // How much of the range is given up below the lowest code and above the highest.
    static const float beyond[4] = {-0.01f, 0.02f, 0.06f, 0.14f};
    float inverse[PACK_LANES], bias[PACK_LANES], best_gain = -INFINITY;
    for (size_t k = 0; k < PACK_LANES; k++) {
        float start = e.lowest + beyond[k % 4] * range;
        inverse[k] = high / (range * (1 - beyond[k % 4] - beyond[k / 4]));
        bias[k] = (e.mean - start) * inverse[k];
    }
    struct sums s;
    for (int step = 0; step <= n_steps; step++) {
        sum_lines(&s, inverse, bias, x, w, n, e.mean, high);
        for (size_t k = 0; k < PACK_LANES; k++) {
            struct pack_line line;
            float gain;
            if (!solve_line(&line, &gain, &s, k, &e, is_min_negative)) {
                continue;
            }
            if (gain > best_gain) {
                best_gain = gain;
                best = line;
            }
            inverse[k] = inverse_of(line.scale);
            bias[k] = (e.mean - line.min) * inverse[k];
        }
    }
    return best;
}

static void errors_iq4(float errors[restrict PACK_LANES], const float scales[restrict PACK_LANES],
                       const float inverse[restrict PACK_LANES], const float *restrict x,
                       const float *restrict w, size_t n, const struct pack_codes *codes)
{
    float sums[PACK_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        float y[PACK_LANES], q[PACK_LANES];
        for (size_t k = 0; k < PACK_LANES; k++) {
            y[k] = x[i] * inverse[k];
        }
        iq4_levels(q, y, codes);
        for (size_t k = 0; k < PACK_LANES; k++) {
            float error = x[i] - scales[k] * q[k];
            sums[k] += w[i] * (error * error);
        }
    }
    memcpy(errors, sums, sizeof(sums));
}

static void errors_line(float errors[restrict PACK_LANES], const float scales[restrict PACK_LANES],
                        const float inverse[restrict PACK_LANES],
                        const float mins[restrict PACK_LANES], const float *restrict x,
                        const float *restrict w, size_t n, float low, float high)
{
    float sums[PACK_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < PACK_LANES; k++) {
            float above = x[i] - mins[k];
            float error = above - scales[k] * pack_round(pack_clamp(above * inverse[k], low, high));
            sums[k] += w[i] * (error * error);
        }
    }
    memcpy(errors, sums, sizeof(sums));
}

void pack_errors(float errors[restrict PACK_LANES], const struct pack_line lines[PACK_LANES],
                 const float *x, const float *w, size_t n, const struct pack_codes *codes)
{
    float scales[PACK_LANES], inverse[PACK_LANES], mins[PACK_LANES];
    for (size_t k = 0; k < PACK_LANES; k++) {
        scales[k] = lines[k].scale;
        inverse[k] = inverse_of(scales[k]);
        mins[k] = lines[k].min;
    }
    if (codes->iq4) {
        errors_iq4(errors, scales, inverse, x, w, n, codes);
    } else {
        errors_line(errors, scales, inverse, mins, x, w, n, codes->low, codes->high);
    }
}

void pack_codes_of(uint8_t *out, const float *x, size_t n, struct pack_line line,
                   const struct pack_codes *codes)
{
    float inverse = inverse_of(line.scale);
    for (size_t i = 0; i < n; i++) {
        float y = (x[i] - line.min) * inverse;
        if (codes->iq4) {
            out[i] = codes->iq4->code[(int)iq4_place(y, codes->low, codes->high) + 256];
        } else {
            out[i] =
                (uint8_t)(int)(pack_round(pack_clamp(y, codes->low, codes->high)) - codes->low);
        }
    }
}
