// SPDX-License-Identifier: Apache-2.0
// Every kernel in plain C: the meaning of the table in kern.h, which the other levels reproduce bit
// by bit. Compiled without contraction, so that a fused multiply-add happens exactly where fmaf
// stands.
#include "compute/cpu/kern.h"

#include <math.h>
#include <string.h>

#include "compute/cpu/kern_generic.h"
#include "compute/cpu/kern_math.h"

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}

// Cephes' expf: x = n ln 2 + r, a polynomial in r, then n into the exponent. Good to 2 units in the
// last place; exactly 1 at 0; 0 below EXP_MIN, where nothing in here can tell the difference.
static float exp_f32(float x)
{
    float c = x < EXP_MIN ? EXP_MIN : x;
    c = c > EXP_MAX ? EXP_MAX : c;
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    const float t = fmaf(c, EXP_LOG2E, EXP_ROUND);
    const float n = t - EXP_ROUND;
    float r = fmaf(n, -EXP_LN2_HIGH, c);
    r = fmaf(n, -EXP_LN2_LOW, r);
    float p = EXP_P0;
    p = fmaf(p, r, EXP_P1);
    p = fmaf(p, r, EXP_P2);
    p = fmaf(p, r, EXP_P3);
    p = fmaf(p, r, EXP_P4);
    p = fmaf(p, r, EXP_P5);
    const float y = fmaf(p, r * r, r) + 1.0f;
    const uint32_t power = (bits_of(t) - bits_of(EXP_ROUND) + 127u) << 23;
    return x < EXP_MIN ? 0.0f : y * float_of(power);
}

// Cephes' tanhf: a polynomial near zero, where 1 - 2 / (exp(2x) + 1) would cancel.
static float tanh_f32(float x)
{
    const float a = fabsf(x);
    const float s = x * x;
    float p = TANH_P0;
    p = fmaf(p, s, TANH_P1);
    p = fmaf(p, s, TANH_P2);
    p = fmaf(p, s, TANH_P3);
    p = fmaf(p, s, TANH_P4);
    const float near = fmaf(p, s * x, x);
    const float far = 1.0f - 2.0f / (exp_f32(a + a) + 1.0f);
    return a < TANH_NEAR ? near : copysignf(far, x);
}

// 16 partial sums to one, in the order that halving a vector gives.
static float sum_lanes(const float lanes[KERN_LANES])
{
    float s[KERN_LANES];
    memcpy(s, lanes, sizeof(s));
    for (size_t half = KERN_LANES / 2; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) {
            s[i] += s[i + half];
        }
    }
    return s[0];
}

static void norm(float *out, const float *x, const float *w, size_t n, float eps)
{
    float lanes[KERN_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i % KERN_LANES] = fmaf(x[i], x[i], lanes[i % KERN_LANES]);
    }
    const float factor = 1.0f / sqrtf(sum_lanes(lanes) / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        const float y = x[i] * factor;
        out[i] = w ? y * w[i] : y;
    }
}

// The mean first, then the squares of what is left of it: nothing cancels.
static void layer_norm(float *out, const float *x, const float *w, const float *b, size_t n,
                       float eps)
{
    float lanes[KERN_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i % KERN_LANES] += x[i];
    }
    const float mean = sum_lanes(lanes) / (float)n;
    memset(lanes, 0, sizeof(lanes));
    for (size_t i = 0; i < n; i++) {
        const float d = x[i] - mean;
        lanes[i % KERN_LANES] = fmaf(d, d, lanes[i % KERN_LANES]);
    }
    const float factor = 1.0f / sqrtf(sum_lanes(lanes) / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        out[i] = fmaf((x[i] - mean) * factor, w[i], b[i]);
    }
}

// x * 0.5 (1 + tanh(y)) is x / (1 + exp(-2y)), which loses nothing near zero.
static void geglu(float *out, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float x = gate[i];
        const float z = x * GELU_FACTOR * fmaf(GELU_CUBE, x * x, 1.0f);
        out[i] = x / (1.0f + exp_f32(z)) * up[i];
    }
}

static void add(float *out, const float *a, const float *b, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (a[i] + b[i]) * scale;
    }
}

static void scale_by(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++) {
        x[i] *= factor;
    }
}

static void softcap(float *x, size_t n, float cap)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = cap * tanh_f32(x[i] / cap);
    }
}

static void rope(float *x, const float *table, size_t n_pairs, size_t half)
{
    for (size_t i = 0; i < n_pairs; i++) {
        const float c = table[2 * i];
        const float s = table[2 * i + 1];
        const float a = x[i];
        const float b = x[i + half];
        x[i] = fmaf(a, c, -(b * s));
        x[i + half] = fmaf(b, c, a * s);
    }
}

float kern_generic_softmax(float *s, size_t n, struct kern_softmax *state)
{
    float top = state->max;
    for (size_t i = 0; i < n; i++) {
        top = s[i] > top ? s[i] : top;
    }
    if (top == -INFINITY) {
        memset(s, 0, n * sizeof(*s));
        return 1.0f;
    }
    float lanes[KERN_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        s[i] = exp_f32(s[i] - top);
        lanes[i % KERN_LANES] += s[i];
    }
    const float factor = exp_f32(state->max - top);
    state->sum = fmaf(state->sum, factor, sum_lanes(lanes));
    state->max = top;
    return factor;
}

static void merge(float *a, struct kern_softmax *a_state, const float *b,
                  const struct kern_softmax *b_state, size_t n)
{
    if (b_state->max == -INFINITY) {
        return;
    }
    const float top = a_state->max > b_state->max ? a_state->max : b_state->max;
    const float a_factor = exp_f32(a_state->max - top);
    const float b_factor = exp_f32(b_state->max - top);
    for (size_t i = 0; i < n; i++) {
        a[i] = fmaf(a[i], a_factor, b[i] * b_factor);
    }
    a_state->sum = fmaf(a_state->sum, a_factor, b_state->sum * b_factor);
    a_state->max = top;
}

static void dot_f32(struct acc acc, const float *strip, size_t strip_stride, const float *x,
                    size_t x_stride, size_t n_rows, size_t n)
{
    for (size_t r = 0; r < n_rows; r++) {
        float lanes[KERN_LANES] = {0};
        float *out = acc.data + r * acc.stride;
        if (!acc.is_fresh) {
            memcpy(lanes, out, sizeof(lanes));
        }
        for (size_t k = 0; k < n; k++) {
            const float *w = strip + k * strip_stride;
            for (size_t i = 0; i < KERN_LANES; i++) {
                lanes[i] = fmaf(w[i], x[r * x_stride + k], lanes[i]);
            }
        }
        memcpy(out, lanes, sizeof(lanes));
    }
}

// Where the code of column k of row r is.
static size_t code_at(struct panel p, size_t k, size_t r)
{
    const size_t unit = p.order.panel_unit;
    return (k / unit * p.n_rows + r) * unit + k % unit;
}

// One row of activations in a panel, 32 columns: scale = largest / 127, codes to the nearest
// (even). A row with an infinity or a NaN gets the scale NaN, which every product then shows.
static void pack_block(struct panel p, size_t r, size_t block, const float *x)
{
    uint32_t top = 0;
    for (size_t i = 0; i < KERN_BLOCK; i++) {
        const uint32_t a = bits_of(x[i]) & 0x7fffffffu; // ordered as the absolute values are
        top = a > top ? a : top;
    }
    const bool is_finite = top < 0x7f800000u;
    const float scale = float_of(top) / 127.0f;
    // Below the smallest normal number the inverse would overflow; such a block counts as zero.
    const bool is_zero = !is_finite || scale < PACK_SCALE_MIN;
    const float inverse = is_zero ? 0.0f : 127.0f / float_of(top);
    int32_t sums[2] = {0, 0};
    for (size_t i = 0; i < KERN_BLOCK; i++) {
        const int32_t q = is_zero ? 0 : (int32_t)nearbyintf(x[i] * inverse);
        const size_t k = block * KERN_BLOCK + i;
        p.codes[code_at(p, k, r)] = (int8_t)q;
        sums[i / 16] += q;
    }
    const float d = is_finite ? (is_zero ? 0.0f : scale) : NAN;
    p.scale[block * p.n_rows + r] = d;
    p.minus_32[block * p.n_rows + r] = -(sums[0] + sums[1]);
    p.sum_32[block * p.n_rows + r] = (float)(sums[0] + sums[1]) * d;
    for (size_t h = 0; h < 2; h++) {
        p.minus_16[(block * 2 + h) * p.n_rows + r] = -sums[h];
        p.sum_16[(block * 2 + h) * p.n_rows + r] = (float)sums[h] * d;
    }
}

static void pack(struct panel panel, const float *x, size_t x_stride, size_t n)
{
    for (size_t r = 0; r < panel.n_rows; r++) {
        for (size_t block = 0; block < n / KERN_BLOCK; block++) {
            pack_block(panel, r, block, x + r * x_stride + block * KERN_BLOCK);
        }
    }
}

static int32_t weight_code(struct code_strip strip, size_t k, size_t lane)
{
    const uint8_t code = strip.codes[kern_code_at(strip.order, k, lane)];
    return strip.order.strip_signed ? (int8_t)code : code;
}

static void dot_q8(struct acc acc, struct code_strip strip, struct panel panel,
                   const struct kern_coding *coding, size_t n)
{
    const size_t sub = coding->sub_block;
    const size_t rows = panel.n_rows;
    const int32_t *minus = sub == 16 ? panel.minus_16 : panel.minus_32;
    const float *sums = sub == 16 ? panel.sum_16 : panel.sum_32;
    const bool has_zero = coding->zero_shift != KERN_NO_ZERO && !strip.order.strip_signed;
    const int32_t zero = has_zero ? 1 << coding->zero_shift : 0;
    for (size_t r = 0; r < rows; r++) {
        float lanes[KERN_LANES] = {0};
        float *out = acc.data + r * acc.stride;
        if (!acc.is_fresh) {
            memcpy(lanes, out, sizeof(lanes));
        }
        for (size_t b = 0; b < n / sub; b++) {
            const float x_scale = panel.scale[b * sub / KERN_BLOCK * rows + r];
            for (size_t i = 0; i < KERN_LANES; i++) {
                int32_t isum = zero * minus[b * rows + r];
                for (size_t k = b * sub; k < (b + 1) * sub; k++) {
                    isum += weight_code(strip, k, i) * panel.codes[code_at(panel, k, r)];
                }
                const float scale = strip.scale[b * KERN_LANES + i] * x_scale;
                lanes[i] = fmaf((float)isum, scale, lanes[i]);
                if (coding->has_min) {
                    lanes[i] = fmaf(strip.min[b * KERN_LANES + i], sums[b * rows + r], lanes[i]);
                }
            }
        }
        memcpy(out, lanes, sizeof(lanes));
    }
}

// As fast as plain C goes: eight words at a time.
static void peak_read(uint8_t *sink, const uint8_t *data, size_t size)
{
    uint64_t sums[8] = {0};
    for (size_t at = 0; at < size; at += sizeof(sums)) {
        uint64_t words[8];
        memcpy(words, data + at, sizeof(words));
        for (size_t i = 0; i < 8; i++) {
            sums[i] ^= words[i];
        }
    }
    memcpy(sink, sums, sizeof(sums));
}

void kern_init_generic(struct kern *k)
{
    *k = (struct kern){
        .name = "generic",
        .panel_rows = KERN_PANEL_MAX,
        .order = {.strip_unit = 4, .panel_unit = 4},
        .norm = norm,
        .layer_norm = layer_norm,
        .geglu = geglu,
        .add = add,
        .scale = scale_by,
        .softcap = softcap,
        .rope = rope,
        .merge = merge,
        .softmax = kern_generic_softmax,
        .dot_f32 = dot_f32,
        .pack = pack,
        .dot_q8 = dot_q8,
        .peak_read = peak_read,
    };
    kern_init_generic_strips(k);
    kern_init_generic_attend(k);
}
