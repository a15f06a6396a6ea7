// SPDX-License-Identifier: Apache-2.0
// What drawings have in common.
#ifndef CARAT_CLI_SVG_H
#define CARAT_CLI_SVG_H

#include "base/str.h"

#define SVG_COLOUR_TEXT  "#222222"
#define SVG_COLOUR_FAINT "#6b6b6b"
#define SVG_COLOUR_GRID  "#e2e2e2"
#define SVG_COLOUR_POINT "#1b5fa8"
#define SVG_COLOUR_LIMIT "#b4501c"

// A white sheet, sizes in pixels. Text of the class "value" stays legible upon lines.
void svg_begin(struct buf *out, double width, double height);
void svg_end(struct buf *out);
// text is written as it is.
void svg_add_text(struct buf *out, double x, double y, const char *style, const char *text);
// A name comes from a file: what could end the text, or is none, becomes harmless.
void svg_add_escaped(struct buf *out, const char *text);
// 1, 2 or 5 times a power of ten, so that at most n steps reach the value, which is above 0.
double svg_tick_step(double value, int n);

#endif
