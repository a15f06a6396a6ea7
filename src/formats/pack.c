// SPDX-License-Identifier: Apache-2.0
// Weighted least squares for the packers. For given codes q the best scale of x = s q has a closed
// form, and for a given scale the best codes are the nearest ones; only the start has to be
// searched. So a row of candidate scales is tried, the best is kept, and the two steps are repeated
// from there while they help.
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

void pack_half_nan(uint8_t bytes[2])
{
    put_half(bytes, 0x7E00);
}

// What a row of candidates comes to: the sums that least squares asks for.
struct sums {
    float q[PACK_LANES];  // w q
    float qq[PACK_LANES]; // w q^2
    float xq[PACK_LANES]; // w x q
};

// The level of IQ4 next to y: halfway between two of them its size goes from one to the other.
static float iq4_level(float y)
{
    float level = quant_iq4_levels[0];
    for (int k = 0; k < 15; k++) {
        float step = (float)(quant_iq4_levels[k + 1] - quant_iq4_levels[k]);
        float between = 0.5f * (float)(quant_iq4_levels[k + 1] + quant_iq4_levels[k]);
        level += y > between ? step : 0;
    }
    return level;
}

static void sum_scales(struct sums *s, const float inverse[PACK_LANES], const float *x,
                       const float *w, size_t n, const struct pack_codes *codes)
{
    float low = codes->low, high = codes->high;
    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < n; i++) {
        float xi = x[i], wi = w[i];
        for (size_t k = 0; k < PACK_LANES; k++) {
            float q = codes->is_iq4 ? iq4_level(xi * inverse[k])
                                    : pack_round(pack_clamp(xi * inverse[k], low, high));
            float wq = wi * q;
            s->qq[k] += wq * q;
            s->xq[k] += wq * xi;
        }
    }
}

// Candidate k puts the value with the largest size at this part of the largest code.
static float shrink(size_t k)
{
    return 0.70f + 0.028f * (float)k;
}

static float largest_size(const float *x, size_t n)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    }
    return largest;
}

float pack_fit_scale(const float *x, const float *w, size_t n, const struct pack_codes *codes)
{
    float largest = largest_size(x, n);
    if (largest == 0) {
        return 0;
    }
    float best = -1, scale = 0;
    struct sums s;
    // Both signs: there is one code more on one side of zero than on the other.
    for (int sign = -1; sign <= 1; sign += 2) {
        float inverse[PACK_LANES];
        for (size_t k = 0; k < PACK_LANES; k++) {
            inverse[k] = (float)sign * codes->low * shrink(k) / largest;
        }
        sum_scales(&s, inverse, x, w, n, codes);
        for (size_t k = 0; k < PACK_LANES; k++) {
            float gain = s.qq[k] > 0 ? s.xq[k] * s.xq[k] / s.qq[k] : 0;
            if (gain > best) {
                best = gain;
                scale = s.qq[k] > 0 ? s.xq[k] / s.qq[k] : 0;
            }
        }
    }
    return scale;
}

void pack_fit_scale_min(float *scale, float *min, const float *x, const float *w, size_t n,
                        float high, bool is_min_negative)
{
    float lowest = x[0], highest = x[0];
    double sw = 0, swx = 0;
    for (size_t i = 0; i < n; i++) {
        lowest = x[i] < lowest ? x[i] : lowest;
        highest = x[i] > highest ? x[i] : highest;
        sw += (double)w[i];
        swx += (double)(w[i] * x[i]);
    }
    if (is_min_negative && lowest > 0) {
        lowest = 0;
    }
    *scale = 0;
    *min = is_min_negative && swx > 0 ? 0 : (float)(swx / sw);
    if (!(highest > lowest)) {
        return;
    }
    float mean = (float)(swx / sw);
    float range = highest - lowest;
    float best = 0;
    for (int r = 0; r < 4; r++) {
        struct sums s = {0};
        float inverse[PACK_LANES], start[PACK_LANES];
        for (size_t k = 0; k < PACK_LANES; k++) {
            float below = 0.045f * (float)r - 0.02f, above = 0.012f * (float)k - 0.03f;
            start[k] = lowest + below * range;
            inverse[k] = high / (range * (1 - below - above));
        }
        for (size_t i = 0; i < n; i++) {
            float xi = x[i], wi = w[i], centred = wi * (xi - mean);
            for (size_t k = 0; k < PACK_LANES; k++) {
                float q = pack_round(pack_clamp((xi - start[k]) * inverse[k], 0, high));
                float wq = wi * q;
                s.q[k] += wq;
                s.qq[k] += wq * q;
                s.xq[k] += centred * q;
            }
        }
        for (size_t k = 0; k < PACK_LANES; k++) {
            float spread = s.qq[k] - s.q[k] * s.q[k] / (float)sw;
            if (!(spread > 0)) {
                continue;
            }
            float slope = s.xq[k] / spread;
            float offset = mean - slope * s.q[k] / (float)sw;
            float gain = slope * s.xq[k];
            if (is_min_negative && offset > 0) {
                // Through zero: the sum of w x^2 without its mean's part is what gain counts from.
                float xq = s.xq[k] + mean * s.q[k];
                slope = xq / s.qq[k];
                offset = 0;
                gain = slope * xq - mean * mean * (float)sw;
            }
            if (gain > best || (is_min_negative && *scale == 0)) {
                best = gain;
                *scale = slope;
                *min = offset;
            }
        }
    }
}

static float inverse_of(float scale)
{
    return fabsf(scale) > 0x1p-100f ? 1 / scale : 0;
}

void pack_errors(float errors[PACK_LANES], const float scales[PACK_LANES],
                 const float mins[PACK_LANES], const float *x, const float *w, size_t n,
                 const struct pack_codes *codes)
{
    float inverse[PACK_LANES];
    for (size_t k = 0; k < PACK_LANES; k++) {
        inverse[k] = inverse_of(scales[k]);
        errors[k] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        float xi = x[i], wi = w[i];
        for (size_t k = 0; k < PACK_LANES; k++) {
            float y = (xi - mins[k]) * inverse[k];
            float q =
                codes->is_iq4 ? iq4_level(y) : pack_round(pack_clamp(y, codes->low, codes->high));
            float error = xi - (scales[k] * q + mins[k]);
            errors[k] += wi * error * error;
        }
    }
}

void pack_codes_of(uint8_t *out, const float *x, size_t n, float scale, float min,
                   const struct pack_codes *codes)
{
    float inverse = inverse_of(scale);
    for (size_t i = 0; i < n; i++) {
        float y = (x[i] - min) * inverse;
        if (codes->is_iq4) {
            int index = 0;
            for (int k = 0; k < 15; k++) {
                index += 2 * y > (float)(quant_iq4_levels[k + 1] + quant_iq4_levels[k]);
            }
            out[i] = (uint8_t)index;
        } else {
            out[i] =
                (uint8_t)(int)(pack_round(pack_clamp(y, codes->low, codes->high)) - codes->low);
        }
    }
}
