// SPDX-License-Identifier: Apache-2.0
// The kernels that go along a row, in the vectors of simd.h: each does what its twin in
// kern_generic.c does, in the same order and with the same roundings.
#include "compute/cpu/simd.h"

#include <math.h>

#include "compute/cpu/simd_exp.h"

// The n < SIMD_LANES values at the end of a row, with zeros behind.
static inline vf load_part(const float *p, size_t n)
{
    float buffer[SIMD_LANES] = {0};
    memcpy(buffer, p, n * sizeof(float));
    return vf_load(buffer);
}

static inline void store_part(float *p, vf a, size_t n)
{
    float buffer[SIMD_LANES];
    vf_store(buffer, a);
    memcpy(p, buffer, n * sizeof(float));
}

static inline vf abs_vf(vf x)
{
    return vf_of_bits(vi_and(vi_of_bits(x), vi_set1(0x7fffffffu)));
}

static inline vf tanh_vf(vf x)
{
    const vf a = abs_vf(x);
    const vf s = vf_mul(x, x);
    vf p = vf_set1(TANH_P0);
    p = vf_fma(p, s, vf_set1(TANH_P1));
    p = vf_fma(p, s, vf_set1(TANH_P2));
    p = vf_fma(p, s, vf_set1(TANH_P3));
    p = vf_fma(p, s, vf_set1(TANH_P4));
    const vf near = vf_fma(p, vf_mul(s, x), x);
    const vf one = vf_set1(1.0f);
    const vf far = vf_sub(one, vf_div(vf_set1(2.0f), vf_add(exp_vf(vf_add(a, a)), one)));
    const vi sign = vi_and(vi_of_bits(x), vi_set1(0x80000000u));
    const vf far_signed = vf_of_bits(vi_or(vi_of_bits(abs_vf(far)), sign));
    return vf_where_less(a, vf_set1(TANH_NEAR), near, far_signed);
}

static float sum_lanes(const vf parts[SIMD_PARTS])
{
    float s[KERN_LANES];
    for (size_t i = 0; i < SIMD_PARTS; i++) {
        vf_store(s + i * SIMD_LANES, parts[i]);
    }
    for (size_t half = KERN_LANES / 2; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) {
            s[i] += s[i + half];
        }
    }
    return s[0];
}

static float sum_of_squares(const float *x, size_t n)
{
    vf sums[SIMD_PARTS];
    for (size_t p = 0; p < SIMD_PARTS; p++) {
        sums[p] = vf_set1(0.0f);
    }
    size_t i = 0;
    for (; i + KERN_LANES <= n; i += KERN_LANES) {
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            const vf a = vf_load(x + i + p * SIMD_LANES);
            sums[p] = vf_fma(a, a, sums[p]);
        }
    }
    for (size_t p = 0; i < n; p++, i += SIMD_LANES) {
        const vf a = load_part(x + i, n - i < SIMD_LANES ? n - i : SIMD_LANES);
        sums[p] = vf_fma(a, a, sums[p]);
    }
    return sum_lanes(sums);
}

static void norm(float *out, const float *x, const float *w, size_t n, float eps)
{
    const float factor = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps);
    const vf f = vf_set1(factor);
    size_t i = 0;
    for (; i + SIMD_LANES <= n; i += SIMD_LANES) {
        const vf y = vf_mul(vf_load(x + i), f);
        vf_store(out + i, w ? vf_mul(y, vf_load(w + i)) : y);
    }
    for (; i < n; i++) {
        const float y = x[i] * factor;
        out[i] = w ? y * w[i] : y;
    }
}

static float sum(const float *x, size_t n)
{
    vf sums[SIMD_PARTS];
    for (size_t p = 0; p < SIMD_PARTS; p++) {
        sums[p] = vf_set1(0.0f);
    }
    size_t i = 0;
    for (; i + KERN_LANES <= n; i += KERN_LANES) {
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            sums[p] = vf_add(sums[p], vf_load(x + i + p * SIMD_LANES));
        }
    }
    for (size_t p = 0; i < n; p++, i += SIMD_LANES) {
        sums[p] = vf_add(sums[p], load_part(x + i, n - i < SIMD_LANES ? n - i : SIMD_LANES));
    }
    return sum_lanes(sums);
}

// Of x - mean; the last few take the scalar way, so that the lanes behind them stay zero.
static float sum_of_deviations(const float *x, size_t n, float mean)
{
    vf sums[SIMD_PARTS];
    for (size_t p = 0; p < SIMD_PARTS; p++) {
        sums[p] = vf_set1(0.0f);
    }
    const vf m = vf_set1(mean);
    size_t i = 0;
    for (; i + KERN_LANES <= n; i += KERN_LANES) {
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            const vf d = vf_sub(vf_load(x + i + p * SIMD_LANES), m);
            sums[p] = vf_fma(d, d, sums[p]);
        }
    }
    for (size_t p = 0; i < n; p++, i += SIMD_LANES) {
        float rest[SIMD_LANES] = {0};
        for (size_t k = 0; k < SIMD_LANES && i + k < n; k++) {
            rest[k] = x[i + k] - mean;
        }
        const vf d = vf_load(rest);
        sums[p] = vf_fma(d, d, sums[p]);
    }
    return sum_lanes(sums);
}

static void layer_norm(float *out, const float *x, const float *w, const float *b, size_t n,
                       float eps)
{
    const float mean = sum(x, n) / (float)n;
    const float factor = 1.0f / sqrtf(sum_of_deviations(x, n, mean) / (float)n + eps);
    const vf m = vf_set1(mean);
    const vf f = vf_set1(factor);
    size_t i = 0;
    for (; i + SIMD_LANES <= n; i += SIMD_LANES) {
        const vf y = vf_mul(vf_sub(vf_load(x + i), m), f);
        vf_store(out + i, vf_fma(y, vf_load(w + i), vf_load(b + i)));
    }
    for (; i < n; i++) {
        out[i] = fmaf((x[i] - mean) * factor, w[i], b[i]);
    }
}

static inline vf geglu_vf(vf x, vf up)
{
    const vf one = vf_set1(1.0f);
    const vf cube = vf_fma(vf_set1(GELU_CUBE), vf_mul(x, x), one);
    const vf z = vf_mul(vf_mul(x, vf_set1(GELU_FACTOR)), cube);
    return vf_mul(vf_div(x, vf_add(one, exp_vf(z))), up);
}

static void geglu(float *out, const float *gate, const float *up, size_t n)
{
    size_t i = 0;
    for (; i + SIMD_LANES <= n; i += SIMD_LANES) {
        vf_store(out + i, geglu_vf(vf_load(gate + i), vf_load(up + i)));
    }
    if (i < n) {
        const vf y = geglu_vf(load_part(gate + i, n - i), load_part(up + i, n - i));
        store_part(out + i, y, n - i);
    }
}

static void add(float *out, const float *a, const float *b, size_t n, float scale)
{
    size_t i = 0;
    for (; i + SIMD_LANES <= n; i += SIMD_LANES) {
        vf_store(out + i, vf_mul(vf_add(vf_load(a + i), vf_load(b + i)), vf_set1(scale)));
    }
    for (; i < n; i++) {
        out[i] = (a[i] + b[i]) * scale;
    }
}

static void scale_by(float *x, size_t n, float factor)
{
    size_t i = 0;
    for (; i + SIMD_LANES <= n; i += SIMD_LANES) {
        vf_store(x + i, vf_mul(vf_load(x + i), vf_set1(factor)));
    }
    for (; i < n; i++) {
        x[i] *= factor;
    }
}

static inline vf softcap_vf(vf x, float cap)
{
    return vf_mul(vf_set1(cap), tanh_vf(vf_div(x, vf_set1(cap))));
}

static void softcap(float *x, size_t n, float cap)
{
    size_t i = 0;
    for (; i + SIMD_LANES <= n; i += SIMD_LANES) {
        vf_store(x + i, softcap_vf(vf_load(x + i), cap));
    }
    if (i < n) {
        store_part(x + i, softcap_vf(load_part(x + i, n - i), cap), n - i);
    }
}

static inline vf negate(vf a)
{
    return vf_of_bits(vi_xor(vi_of_bits(a), vi_set1(0x80000000u)));
}

static void rope(float *x, const float *table, size_t n_pairs, size_t half)
{
    size_t i = 0;
    for (; i + SIMD_LANES <= n_pairs; i += SIMD_LANES) {
        vf c;
        vf s;
        vf_load_pairs(&c, &s, table + 2 * i);
        const vf a = vf_load(x + i);
        const vf b = vf_load(x + i + half);
        vf_store(x + i, vf_fma(a, c, negate(vf_mul(b, s))));
        vf_store(x + i + half, vf_fma(b, c, vf_mul(a, s)));
    }
    for (; i < n_pairs; i++) {
        const float c = table[2 * i];
        const float s = table[2 * i + 1];
        const float a = x[i];
        const float b = x[i + half];
        x[i] = fmaf(a, c, -(b * s));
        x[i + half] = fmaf(b, c, a * s);
    }
}

static float exp_one(float x)
{
    float y[SIMD_LANES];
    vf_store(y, exp_vf(vf_set1(x)));
    return y[0];
}

static float largest(const float *s, size_t n, float top)
{
    vf m = vf_set1(top);
    for (size_t i = 0; i < n; i += SIMD_LANES) {
        m = vf_max(vf_load(s + i), m);
    }
    float lanes[SIMD_LANES];
    vf_store(lanes, m);
    for (size_t i = 0; i < SIMD_LANES; i++) {
        top = lanes[i] > top ? lanes[i] : top;
    }
    return top;
}

static float softmax(float *s, size_t n, struct kern_softmax *state)
{
    const float top = largest(s, n, state->max);
    if (top == -INFINITY) {
        memset(s, 0, n * sizeof(*s));
        return 1.0f;
    }
    vf sums[SIMD_PARTS];
    for (size_t p = 0; p < SIMD_PARTS; p++) {
        sums[p] = vf_set1(0.0f);
    }
    for (size_t i = 0; i < n; i += KERN_LANES) {
        for (size_t p = 0; p < SIMD_PARTS; p++) {
            float *at = s + i + p * SIMD_LANES;
            const vf e = exp_vf(vf_sub(vf_load(at), vf_set1(top)));
            vf_store(at, e);
            sums[p] = vf_add(sums[p], e);
        }
    }
    const float factor = exp_one(state->max - top);
    state->sum = fmaf(state->sum, factor, sum_lanes(sums));
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
    const float a_factor = exp_one(a_state->max - top);
    const float b_factor = exp_one(b_state->max - top);
    size_t i = 0;
    for (; i + SIMD_LANES <= n; i += SIMD_LANES) {
        const vf scaled = vf_mul(vf_load(b + i), vf_set1(b_factor));
        vf_store(a + i, vf_fma(vf_load(a + i), vf_set1(a_factor), scaled));
    }
    for (; i < n; i++) {
        a[i] = fmaf(a[i], a_factor, b[i] * b_factor);
    }
    a_state->sum = fmaf(a_state->sum, a_factor, b_state->sum * b_factor);
    a_state->max = top;
}

static void unpack_f16(float *out, const void *row, size_t n)
{
    const uint8_t *p = row;
    const size_t whole = n / SIMD_LANES * SIMD_LANES;
    for (size_t i = 0; i < whole; i += SIMD_LANES) {
        vf_store(out + i, vf_load_f16(p + 2 * i));
    }
    if (whole < n) {
        uint16_t rest[SIMD_LANES] = {0};
        memcpy(rest, p + 2 * whole, (n - whole) * 2);
        store_part(out + whole, vf_load_f16(rest), n - whole);
    }
}

static void unpack_bf16(float *out, const void *row, size_t n)
{
    const uint8_t *p = row;
    const size_t whole = n / SIMD_LANES * SIMD_LANES;
    for (size_t i = 0; i < whole; i += SIMD_LANES) {
        vf_store(out + i, vf_of_bits(vi_shl(vi_load_u16(p + 2 * i), 16)));
    }
    if (whole < n) {
        uint16_t rest[SIMD_LANES] = {0};
        memcpy(rest, p + 2 * whole, (n - whole) * 2);
        store_part(out + whole, vf_of_bits(vi_shl(vi_load_u16(rest), 16)), n - whole);
    }
}

static void unpack_q8_0(float *out, const void *row, size_t n)
{
    const uint8_t *p = row;
    for (size_t i = 0; i < n; i += 32, p += 34) {
        uint16_t d;
        memcpy(&d, p, sizeof(d));
        const vf scale = vf_from_f16(vi_set1(d));
        for (size_t k = 0; k < 32; k += SIMD_LANES) {
            vf_store(out + i + k, vf_mul(scale, vf_from_vi(vi_load_i8(p + 2 + k))));
        }
    }
}

void KERN_INIT(struct kern *k)
{
    kern_init_generic(k);
    k->name = KERN_NAME;
    k->norm = norm;
    k->layer_norm = layer_norm;
    k->geglu = geglu;
    k->add = add;
    k->scale = scale_by;
    k->softcap = softcap;
    k->rope = rope;
    k->softmax = softmax;
    k->merge = merge;
    k->unpack[DTYPE_F16] = unpack_f16;
    k->unpack[DTYPE_BF16] = unpack_bf16;
    k->unpack[DTYPE_Q8_0] = unpack_q8_0;
    KERN_INIT_DOT(k);
    KERN_INIT_Q8(k);
    KERN_INIT_STRIP(k);
    KERN_INIT_PEAK(k);
    KERN_INIT_ATTEND(k);
}
