// SPDX-License-Identifier: Apache-2.0
// From planes of luma and chroma to RGB, in the integers that the reference's decoders use for each
// kind of file, because a decoder's own conversion differs visibly at edges of colour. Formulas
// after libwebp (upsampling.c, yuv.h) and ITU-R BT.601, BT.709 and BT.2020.
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/decode.h"

int picture_new(struct media_picture *out, uint64_t width, uint64_t height, struct media_budget *b,
                struct carat_error *err)
{
    int rc = media_check_size(b, width, height, err);
    if (rc) {
        return rc;
    }
    size_t size = 0;
    if (!size_mul(&size, (size_t)width, (size_t)height) || !size_mul(&size, size, 3)) {
        return fail(err, CARAT_E_FULL, "%s: a picture of %llu x %llu is too large", b->name,
                    (unsigned long long)width, (unsigned long long)height);
    }
    rc = media_budget_take(b, size, err);
    if (rc) {
        return rc;
    }
    uint8_t *pixels = mem_new(size, err);
    if (!pixels) {
        media_budget_give(b, size);
        return CARAT_E_MEMORY;
    }
    *out = (struct media_picture){pixels, (uint32_t)width, (uint32_t)height};
    return 0;
}

// --------------------------------------------------------------------------- chroma rows

// One row of chroma at luma width, in the making.
struct chroma {
    const struct colour_planes *planes;
    enum chroma_rule rule;
    uint32_t width;  // of the chroma plane
    uint32_t height; // likewise
};

static const uint8_t *chroma_row(const uint8_t *plane, ptrdiff_t stride, uint32_t y)
{
    return plane + (ptrdiff_t)y * stride;
}

static void repeat_row(uint8_t *out, const uint8_t *row, unsigned log2_x, uint32_t width)
{
    for (uint32_t x = 0; x < width; x++) {
        out[x] = row[x >> log2_x];
    }
}

// The row that a luma row lies nearest to, and the one on its other side, repeated at the edges.
static void near_and_far(const struct chroma *c, uint32_t y, uint32_t *near, uint32_t *far)
{
    *near = y / 2;
    *far = *near;
    if (y % 2 == 0 && *near > 0) {
        *far = *near - 1;
    } else if (y % 2 == 1 && *near + 1 < c->height) {
        *far = *near + 1;
    }
}

// upsampling.c: two averages of the diagonals, each rounded down on the way
static void webp_row(uint8_t *out, struct chroma *c, const uint8_t *plane, ptrdiff_t stride,
                     uint32_t y)
{
    uint32_t near;
    uint32_t far;
    near_and_far(c, y, &near, &far);
    const uint8_t *a = chroma_row(plane, stride, near);
    const uint8_t *b = chroma_row(plane, stride, far);
    uint32_t width = c->planes->width;
    out[0] = (uint8_t)((3u * a[0] + b[0] + 2) >> 2);
    for (uint32_t x = 1; x < width; x++) {
        uint32_t i = x / 2;                      // the column this pixel lies nearest to
        uint32_t j = x % 2 == 0 ? i - 1 : i + 1; // and the one on its other side
        if (j >= c->width) {
            out[x] = (uint8_t)((3u * a[i] + b[i] + 2) >> 2);
            continue;
        }
        uint32_t sum = (uint32_t)a[i] + a[j] + b[i] + b[j] + 8;
        uint32_t diagonal = (sum + 2u * (a[j] + b[i])) >> 3;
        out[x] = (uint8_t)((diagonal + a[i]) >> 1);
    }
}

static void upsample_row(uint8_t *out, struct chroma *c, const uint8_t *plane, ptrdiff_t stride,
                         uint32_t y)
{
    const struct colour_planes *p = c->planes;
    if (p->log2_x == 0 && p->log2_y == 0) {
        memcpy(out, chroma_row(plane, stride, y), p->width);
    } else if (c->rule == CHROMA_WEBP && p->log2_x == 1 && p->log2_y == 1) {
        webp_row(out, c, plane, stride, y);
    } else {
        repeat_row(out, chroma_row(plane, stride, y >> p->log2_y), p->log2_x, p->width);
    }
}

// ------------------------------------------------------------------------------- matrices

static uint8_t clamp_u8(int32_t v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static int32_t webp_high(int32_t v, int32_t factor)
{
    return (v * factor) >> 8;
}

// yuv.h: BT.601 of limited range in 8.6 with factors of 14 bits
static void webp_to_rgb(uint8_t *out, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                        uint32_t width)
{
    for (uint32_t x = 0; x < width; x++) {
        int32_t luma = webp_high(y[x], 19077);
        out[3 * x] = clamp_u8((luma + webp_high(v[x], 26149) - 14234) >> 6);
        out[3 * x + 1] =
            clamp_u8((luma - webp_high(u[x], 6419) - webp_high(v[x], 13320) + 8708) >> 6);
        out[3 * x + 2] = clamp_u8((luma + webp_high(u[x], 33050) - 17685) >> 6);
    }
}

// 3.13, from the matrix's weights of red and blue
struct factors {
    int32_t offset; // of luma
    int32_t luma;
    int32_t red_v;
    int32_t green_u;
    int32_t green_v;
    int32_t blue_u;
};

static struct factors factors_of(struct colour_rule rule)
{
    static const double weights[][2] = {
        [MATRIX_BT601] = {0.299, 0.114},
        [MATRIX_BT709] = {0.2126, 0.0722},
        [MATRIX_BT2020] = {0.2627, 0.0593},
    };
    double kr = weights[rule.matrix][0];
    double kb = weights[rule.matrix][1];
    double kg = 1 - kr - kb;
    double luma = rule.is_full_range ? 1.0 : 255.0 / 219;
    double chroma = (rule.is_full_range ? 1.0 : 255.0 / 224) * 2;
    return (struct factors){
        .offset = rule.is_full_range ? 0 : 16,
        .luma = (int32_t)(luma * 8192 + 0.5),
        .red_v = (int32_t)(chroma * (1 - kr) * 8192 + 0.5),
        .green_u = -(int32_t)(chroma * (1 - kb) * kb / kg * 8192 + 0.5),
        .green_v = -(int32_t)(chroma * (1 - kr) * kr / kg * 8192 + 0.5),
        .blue_u = (int32_t)(chroma * (1 - kb) * 8192 + 0.5),
    };
}

static int32_t film_product(int32_t v, int32_t factor)
{
    return (v * factor) >> 13;
}

// As the reference's films were converted: every product is rounded down by itself.
static void film_to_rgb(uint8_t *out, const uint8_t *y, const uint8_t *u, const uint8_t *v,
                        uint32_t width, const struct factors *f)
{
    for (uint32_t x = 0; x < width; x++) {
        int32_t luma = film_product(y[x] - f->offset, f->luma);
        int32_t cb = u[x] - 128;
        int32_t cr = v[x] - 128;
        out[3 * x] = clamp_u8(luma + film_product(cr, f->red_v));
        out[3 * x + 1] =
            clamp_u8(luma + film_product(cb, f->green_u) + film_product(cr, f->green_v));
        out[3 * x + 2] = clamp_u8(luma + film_product(cb, f->blue_u));
    }
}

int colour_to_rgb(uint8_t *out, const struct colour_planes *planes, struct colour_rule rule,
                  struct media_budget *b, struct carat_error *err)
{
    const struct colour_planes *p = planes;
    struct chroma c = {
        .planes = p,
        .rule = rule.chroma,
        .width = (uint32_t)(((uint64_t)p->width + (1u << p->log2_x) - 1) >> p->log2_x),
        .height = (uint32_t)(((uint64_t)p->height + (1u << p->log2_y) - 1) >> p->log2_y)};
    struct factors factors = factors_of(rule);
    size_t width = p->width;
    int rc = 0;
    uint8_t *rows = mem_new_array(width, 2, err);
    if (!rows) {
        rc = CARAT_E_MEMORY;
    }
    for (uint32_t y = 0; y < p->height && rc == 0; y++, out += width * 3) {
        const uint8_t *luma = chroma_row(p->y, p->y_stride, y);
        upsample_row(rows, &c, p->u, p->u_stride, y);
        upsample_row(rows + width, &c, p->v, p->v_stride, y);
        if (rule.chroma == CHROMA_WEBP) {
            webp_to_rgb(out, luma, rows, rows + width, p->width);
        } else {
            film_to_rgb(out, luma, rows, rows + width, p->width, &factors);
        }
        if (y % 64 == 63) {
            rc = media_budget_tick(b, 0, 0, err);
        }
    }
    mem_free(rows);
    return rc;
}

// ---------------------------------------------------------------------------- orientation

// Where pixel (x, y) of the turned picture lies in the stored one.
static size_t source_of(unsigned orientation, uint32_t x, uint32_t y, uint32_t width,
                        uint32_t height)
{
    size_t right = width - 1;
    size_t bottom = height - 1;
    size_t sx = x;
    size_t sy = y;
    switch (orientation) {
    case 2:
        sx = right - x;
        break;
    case 3:
        sx = right - x;
        sy = bottom - y;
        break;
    case 4:
        sy = bottom - y;
        break;
    case 5:
        sx = y;
        sy = x;
        break;
    case 6:
        sx = y;
        sy = bottom - x;
        break;
    case 7:
        sx = right - y;
        sy = bottom - x;
        break;
    case 8:
        sx = right - y;
        sy = x;
        break;
    default:
        break;
    }
    return (sy * width + sx) * 3;
}

int picture_orient(struct media_picture *p, unsigned orientation, struct media_budget *b,
                   struct carat_error *err)
{
    if (orientation <= 1 || orientation > 8) {
        return 0;
    }
    bool is_turned = orientation >= 5;
    struct media_picture turned = {0};
    int rc = picture_new(&turned, is_turned ? p->height : p->width,
                         is_turned ? p->width : p->height, b, err);
    uint8_t *out = turned.pixels;
    for (uint32_t y = 0; y < turned.height && rc == 0; y++) {
        for (uint32_t x = 0; x < turned.width; x++, out += 3) {
            memcpy(out, p->pixels + source_of(orientation, x, y, p->width, p->height), 3);
        }
        if (y % 64 == 63) {
            rc = media_budget_tick(b, 0, 0, err);
        }
    }
    size_t bytes = (size_t)p->width * p->height * 3;
    if (rc == 0) {
        struct media_picture old = *p;
        *p = turned;
        turned = old;
    }
    if (turned.pixels) {
        media_budget_give(b, bytes);
    }
    media_picture_release(&turned);
    return rc;
}
