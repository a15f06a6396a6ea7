// SPDX-License-Identifier: Apache-2.0
#include "cli/svg.h"

#include <math.h>
#include <string.h>

void svg_begin(struct buf *out, double width, double height)
{
    buf_addf(out,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" "
             "height=\"%.0f\" font-family=\"sans-serif\" font-size=\"13\" fill=\"" SVG_COLOUR_TEXT
             "\">\n<style>.value { paint-order: stroke; stroke: white; stroke-width: 4px; }"
             "</style>\n<rect width=\"%.0f\" height=\"%.0f\" fill=\"white\"/>\n",
             width, height, width, height, width, height);
}

void svg_end(struct buf *out)
{
    buf_adds(out, "</svg>\n");
}

void svg_add_text(struct buf *out, double x, double y, const char *style, const char *text)
{
    buf_addf(out, "<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n", x, y, style, text);
}

void svg_add_escaped(struct buf *out, const char *text)
{
    size_t size = strlen(text);
    for (size_t at = 0; at < size;) {
        uint32_t c = 0;
        int n = utf8_next(text + at, size - at, &c);
        at += n > 0 ? (size_t)n : n < 0 ? (size_t)-n : size - at;
        if (n <= 0 || c < 0x20 || (c >= 0x7f && c < 0xa0) || c >= 0xfffe) {
            buf_add_utf8(out, 0xfffd);
        } else if (c == '<' || c == '>' || c == '&' || c == '"') {
            buf_addf(out, "&#%u;", (unsigned)c);
        } else {
            buf_add_utf8(out, c);
        }
    }
}

double svg_tick_step(double value, int n)
{
    double step = pow(10, floor(log10(value / n)));
    static const double factors[] = {1, 2, 5, 10};
    for (size_t i = 0; i < 4; i++) {
        if (step * factors[i] * n >= value) {
            return step * factors[i];
        }
    }
    return step * 10;
}
