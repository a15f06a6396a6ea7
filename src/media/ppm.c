// SPDX-License-Identifier: Apache-2.0
// Netpbm's gray and colour pictures, P2, P3, P5 and P6:
// https://netpbm.sourceforge.net/doc/ppm.html. Samples of any depth become 8 bits by rounding, as
// 16-bit PNG samples do.
#include "media/media.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define SAMPLE_MAX 65535
#define TICK_ROWS  256

struct ppm {
    const struct media_input *in;
    size_t at;
    bool is_text;
    uint32_t width;
    uint32_t height;
    uint32_t n_channels;
    uint32_t maxval;
};

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static void skip_blanks(struct ppm *p)
{
    const uint8_t *data = p->in->data;
    bool is_comment = false;
    while (p->at < p->in->size) {
        const uint8_t c = data[p->at];
        is_comment = is_comment ? c != '\n' && c != '\r' : c == '#';
        if (!is_comment && !is_space(c)) {
            return;
        }
        p->at++;
    }
}

static int read_number(struct ppm *p, uint32_t *out, uint32_t max, const char *what,
                       struct carat_error *err)
{
    skip_blanks(p);
    const size_t start = p->at;
    uint64_t value = 0;
    while (p->at < p->in->size && is_digit(p->in->data[p->at]) && value <= max) {
        value = value * 10 + p->in->data[p->at] - '0';
        p->at++;
    }
    if (p->at == start || value > max) {
        return fail(err, CARAT_E_FORMAT, "%s: byte %zu of a PPM file: expected %s up to %u, %s",
                    p->in->name, start, what, max,
                    p->at < p->in->size ? "found something else" : "found the end");
    }
    *out = (uint32_t)value;
    return 0;
}

static int read_header(struct ppm *p, struct carat_error *err)
{
    const uint8_t kind = p->in->data[1];
    p->is_text = kind == '2' || kind == '3';
    p->n_channels = kind == '2' || kind == '5' ? 1 : 3;
    p->at = 2;
    int rc = read_number(p, &p->width, INT32_MAX, "a width", err);
    if (!rc) {
        rc = read_number(p, &p->height, INT32_MAX, "a height", err);
    }
    if (!rc) {
        rc = read_number(p, &p->maxval, SAMPLE_MAX, "a largest value", err);
    }
    if (!rc && p->maxval == 0) {
        rc = fail(err, CARAT_E_FORMAT,
                  "%s: byte %zu of a PPM file: expected a largest value above "
                  "0",
                  p->in->name, p->at);
    }
    // One blank ends the header; the next byte is a sample, whatever it looks like.
    p->at += p->at < p->in->size ? 1 : 0;
    return rc;
}

static uint8_t to_8_bits(uint32_t value, uint32_t maxval)
{
    value = value < maxval ? value : maxval;
    return (uint8_t)((2 * 255 * (uint64_t)value + maxval) / (2 * (uint64_t)maxval));
}

// Before anything is allocated: the file is long enough for the samples that it announces.
static int check_length(const struct ppm *p, struct carat_error *err)
{
    const uint64_t n = (uint64_t)p->width * p->height * p->n_channels;
    const uint64_t left = p->in->size - p->at;
    // A text sample is a digit and a blank; the last blank may be missing.
    const uint64_t least = p->is_text ? 2 * n - 1 : n * (p->maxval > 255 ? 2 : 1);
    if (left < least) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: byte %zu of a PPM file: expected at least %llu bytes of samples, found "
                    "%llu",
                    p->in->name, p->at, (unsigned long long)least, (unsigned long long)left);
    }
    return 0;
}

static void put(const struct ppm *p, uint8_t *pixels, uint64_t i, uint8_t value)
{
    if (p->n_channels == 3) {
        pixels[i] = value;
    } else {
        memset(pixels + 3 * i, value, 3);
    }
}

static int read_text(struct ppm *p, uint8_t *pixels, uint64_t first, uint64_t n,
                     struct carat_error *err)
{
    int rc = 0;
    for (uint64_t i = first; i < first + n && !rc; i++) {
        uint32_t value = 0;
        rc = read_number(p, &value, SAMPLE_MAX, "a sample", err);
        put(p, pixels, i, to_8_bits(value, p->maxval));
    }
    return rc;
}

static void read_binary(struct ppm *p, uint8_t *pixels, uint64_t first, uint64_t n)
{
    const uint8_t *data = p->in->data + p->at;
    if (p->maxval > 255) {
        for (uint64_t i = 0; i < n; i++) {
            const uint32_t value = (uint32_t)data[2 * i] << 8 | data[2 * i + 1];
            put(p, pixels, first + i, to_8_bits(value, p->maxval));
        }
        p->at += (size_t)(2 * n);
    } else if (p->maxval == 255 && p->n_channels == 3) {
        memcpy(pixels + first, data, (size_t)n);
        p->at += (size_t)n;
    } else {
        for (uint64_t i = 0; i < n; i++) {
            put(p, pixels, first + i, to_8_bits(data[i], p->maxval));
        }
        p->at += (size_t)n;
    }
}

bool ppm_is(const struct media_input *in)
{
    return in->size >= 3 && in->data[0] == 'P' &&
           (in->data[1] == '2' || in->data[1] == '3' || in->data[1] == '5' || in->data[1] == '6') &&
           (is_space(in->data[2]) || in->data[2] == '#');
}

int ppm_read(struct media_picture *out, const struct media_input *in, struct media_budget *b,
             struct carat_error *err)
{
    require(ppm_is(in));
    struct ppm p = {.in = in};
    int rc = read_header(&p, err);
    if (!rc) {
        rc = media_check_size(b, p.width, p.height, err);
    }
    if (!rc) {
        rc = check_length(&p, err);
    }
    const uint64_t bytes = (uint64_t)p.width * p.height * 3;
    if (!rc) {
        rc = media_budget_take(b, bytes, err);
    }
    if (rc) {
        return rc;
    }
    struct media_picture picture = {.width = p.width, .height = p.height};
    picture.pixels = mem_new((size_t)bytes, err);
    rc = picture.pixels ? 0 : CARAT_E_MEMORY;
    const uint64_t row = (uint64_t)p.width * p.n_channels;
    for (uint32_t y = 0; y < p.height && !rc; y++) {
        if (y % TICK_ROWS == 0) {
            rc = media_budget_tick(b, y, p.height, err);
        }
        if (!rc && p.is_text) {
            rc = read_text(&p, picture.pixels, y * row, row, err);
        } else if (!rc) {
            read_binary(&p, picture.pixels, y * row, row);
        }
    }
    if (rc) {
        media_picture_release(&picture);
        media_budget_give(b, bytes);
        return rc;
    }
    *out = picture;
    return 0;
}
