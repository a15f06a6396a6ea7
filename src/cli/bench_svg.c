// SPDX-License-Identifier: Apache-2.0
// The speeds as a drawing: a panel for each kind of measurement that has any, values in even steps
// from left to right, tokens per second from bottom to top.
#include "cli/bench.h"
#include "cli/svg.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

// In pixels.
#define MARGIN       24.0
#define HEAD         64.0 // title and legend
#define PANEL_WIDTH  400.0
#define PANEL_HEIGHT 330.0
#define AXIS_LEFT    56.0 // from the panel's edges to the axes
#define AXIS_RIGHT   12.0
#define AXIS_TOP     40.0
#define AXIS_BOTTOM  52.0

#define TICKS_MAX 6
// A limit far above what was reached would press the speeds to the ground: it is left out.
#define LIMIT_MAX 4.0

#define COLOUR_SPEED SVG_COLOUR_POINT
#define COLOUR_LIMIT SVG_COLOUR_LIMIT

struct panel {
    const struct bench *bench;
    struct buf *out;
    enum measure_kind kind;
    size_t n;    // values
    double left; // of the plot inside the axes
    double top, width, height;
    double y_max;   // tokens per second at the top
    bool has_limit; // and it fits
};

static const char *const titles[] = {"Reading a prompt", "Writing an answer",
                                     "Conversations together"};
static const char *const x_titles[] = {"tokens of the prompt", "tokens that stand before",
                                       "conversations in a step"};

static size_t x_value(const struct measure *m)
{
    return m->kind == MEASURE_PREFILL  ? m->tokens
           : m->kind == MEASURE_DECODE ? m->depth
                                       : m->n_rows;
}

static size_t count(const struct bench *b, enum measure_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n_measures; i++) {
        n += b->measures[i].kind == kind;
    }
    return n;
}

// The i-th of the panel's measurements.
static const struct measure *measure_at(const struct panel *p, size_t i)
{
    const struct measure *m = p->bench->measures;
    for (;; m++) {
        if (m->kind == p->kind && i-- == 0) {
            return m;
        }
    }
}

static double limit_of(const struct panel *p, const struct measure *m)
{
    double speed = bench_speeds(p->bench, m).median;
    struct share share = bench_share(p->bench, m, speed);
    return share.of_limit > 0 ? speed / share.of_limit : 0;
}

static void scale_panel(struct panel *p)
{
    double fastest = 0, limit = 0;
    for (size_t i = 0; i < p->n; i++) {
        const struct measure *m = measure_at(p, i);
        fastest = fmax(fastest, bench_speeds(p->bench, m).max);
        limit = fmax(limit, limit_of(p, m));
    }
    p->has_limit = limit > 0 && limit <= LIMIT_MAX * fastest;
    p->y_max = 1.08 * (p->has_limit ? fmax(limit, fastest) : fastest);
    p->y_max = p->y_max > 0 ? p->y_max : 1;
}

static double x_of(const struct panel *p, size_t i)
{
    return p->left + p->width * ((double)i + 0.5) / (double)p->n;
}

static double y_of(const struct panel *p, double speed)
{
    return p->top + p->height * (1 - speed / p->y_max);
}

static void draw_axes(const struct panel *p)
{
    double step = svg_tick_step(p->y_max, TICKS_MAX), bottom = p->top + p->height;
    int decimals = step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
    char text[64];
    for (size_t i = 0; (double)i * step <= p->y_max; i++) {
        double y = y_of(p, (double)i * step);
        buf_addf(p->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n",
                 p->left, y, p->left + p->width, y, i ? SVG_COLOUR_GRID : SVG_COLOUR_FAINT);
        snprintf(text, sizeof(text), "%.*f", decimals, (double)i * step);
        svg_add_text(p->out, p->left - 8, y + 4,
                     "text-anchor=\"end\" fill=\"" SVG_COLOUR_FAINT "\"", text);
    }
    for (size_t i = 0; i < p->n; i++) {
        size_t x = x_value(measure_at(p, i));
        bool is_round = x >= 1024 && x % 1024 == 0;
        snprintf(text, sizeof(text), "%zu%s", is_round ? x / 1024 : x, is_round ? "K" : "");
        svg_add_text(p->out, x_of(p, i), bottom + 18, "text-anchor=\"middle\"", text);
    }
    svg_add_text(p->out, p->left + p->width / 2, bottom + 38,
                 "text-anchor=\"middle\" fill=\"" SVG_COLOUR_FAINT "\"", x_titles[p->kind]);
    svg_add_text(p->out, p->left - AXIS_LEFT + 8, p->top - 20, "font-weight=\"bold\"",
                 titles[p->kind]);
    svg_add_text(p->out, p->left + p->width, p->top - 20,
                 "text-anchor=\"end\" fill=\"" SVG_COLOUR_FAINT "\"", "tokens per second");
}

static void draw_line(const struct panel *p, bool is_limit)
{
    buf_addf(p->out, "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\"%s points=\"",
             is_limit ? COLOUR_LIMIT : COLOUR_SPEED, is_limit ? " stroke-dasharray=\"6 4\"" : "");
    for (size_t i = 0; i < p->n; i++) {
        const struct measure *m = measure_at(p, i);
        double speed = is_limit ? limit_of(p, m) : bench_speeds(p->bench, m).median;
        // A single value still shows as a line.
        double half = p->n == 1 ? p->width / 4 : 0;
        buf_addf(p->out, "%.1f,%.1f ", x_of(p, i) - half, y_of(p, speed));
        if (p->n == 1) {
            buf_addf(p->out, "%.1f,%.1f ", x_of(p, i) + half, y_of(p, speed));
        }
    }
    buf_adds(p->out, "\"/>\n");
}

// From the slowest run to the fastest, the median as a point with its value.
static void draw_points(const struct panel *p)
{
    for (size_t i = 0; i < p->n; i++) {
        struct speeds s = bench_speeds(p->bench, measure_at(p, i));
        double x = x_of(p, i);
        char text[32];
        buf_addf(p->out,
                 "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                 "stroke-width=\"2\"/>\n",
                 x, y_of(p, s.min), x, y_of(p, s.max), COLOUR_SPEED);
        buf_addf(p->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x,
                 y_of(p, s.median), COLOUR_SPEED);
        // Below the point where the line above could cross it.
        double y = y_of(p, s.min) + 20;
        if (y > p->top + p->height - 4) {
            y = y_of(p, s.max) - 10;
        }
        snprintf(text, sizeof(text), "%.*f", s.median < 100 ? 2 : 0, s.median);
        svg_add_text(p->out, x, y,
                     "text-anchor=\"middle\" fill=\"" COLOUR_SPEED "\" class=\"value\"", text);
    }
}

static void draw_panel(const struct bench *b, enum measure_kind kind, double left, struct buf *out)
{
    struct panel p = {
        .bench = b,
        .out = out,
        .kind = kind,
        .n = count(b, kind),
        .left = left + AXIS_LEFT,
        .top = MARGIN + HEAD + AXIS_TOP,
        .width = PANEL_WIDTH - AXIS_LEFT - AXIS_RIGHT,
        .height = PANEL_HEIGHT - AXIS_TOP - AXIS_BOTTOM,
    };
    scale_panel(&p);
    draw_axes(&p);
    if (p.has_limit) {
        draw_line(&p, true);
    } else if (b->limits.n_threads) {
        svg_add_text(out, p.left + p.width - 4, p.top + 8,
                     "text-anchor=\"end\" fill=\"" COLOUR_LIMIT "\" font-size=\"11\"",
                     "the limit is far above");
    }
    draw_line(&p, false);
    draw_points(&p);
}

static void draw_head(const struct bench *b, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(b->loaded.engine);
    double y = MARGIN + 18;
    buf_addf(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"18\" font-weight=\"bold\">", MARGIN, y);
    svg_add_escaped(out, info->name);
    buf_addf(out,
             "</text>\n<text x=\"%.1f\" y=\"%.1f\" fill=\"" SVG_COLOUR_FAINT
             "\">%s, kv cache in %s, %zu threads, kernels for %s, medians of %zu runs</text>\n",
             MARGIN, y + 20, info->weight_type, kv_type_names[b->settings.kv_type], info->n_threads,
             info->cpu_level, b->n_runs);
    buf_addf(out,
             "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"" COLOUR_SPEED
             "\"/><text x=\"%.1f\" y=\"%.1f\">measured</text>\n",
             MARGIN + 4, y + 36, MARGIN + 16, y + 40);
    if (b->limits.n_threads) {
        buf_addf(out,
                 "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke-width=\"2\" "
                 "stroke-dasharray=\"6 4\" stroke=\"" COLOUR_LIMIT
                 "\"/><text x=\"%.1f\" y=\"%.1f\">the machine's limit</text>\n",
                 MARGIN + 96, y + 36, MARGIN + 126, y + 36, MARGIN + 134, y + 40);
    }
}

void bench_write_svg(const struct bench *b, struct buf *out)
{
    static const enum measure_kind kinds[] = {MEASURE_PREFILL, MEASURE_DECODE, MEASURE_BATCH};
    size_t n_panels = 0;
    for (size_t i = 0; i < 3; i++) {
        n_panels += count(b, kinds[i]) > 0;
    }
    double width = 2 * MARGIN + PANEL_WIDTH * (double)(n_panels ? n_panels : 1);
    double height = 2 * MARGIN + HEAD + PANEL_HEIGHT;
    svg_begin(out, width, height);
    draw_head(b, out);
    double left = MARGIN;
    for (size_t i = 0; i < 3; i++) {
        if (count(b, kinds[i]) > 0) {
            draw_panel(b, kinds[i], left, out);
            left += PANEL_WIDTH;
        }
    }
    svg_end(out);
}
