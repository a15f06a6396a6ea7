// SPDX-License-Identifier: Apache-2.0
// Quality against bytes as a drawing: each model a point, in one panel for each measure.
#include "cli/eval_report.h"
#include "cli/svg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// In pixels.
#define MARGIN       24.0
#define HEAD         56.0 // title
#define PANEL_WIDTH  560.0
#define PANEL_HEIGHT 420.0
#define AXIS_LEFT    72.0 // from the panel's edges to the axes
#define AXIS_RIGHT   84.0 // names of the rightmost points
#define AXIS_TOP     40.0
#define AXIS_BOTTOM  52.0
#define LABEL_HEIGHT 13.0

#define TICKS_MAX 6

struct panel {
    const struct eval_report *report;
    struct buf *out;
    bool is_log, is_divergence;
    double left, top, width, height; // of the plot inside the axes
    double x_max;                    // bytes
    double y_min, y_max;             // or their logarithms to base 10
};

static double value_of(const struct panel *p, size_t i)
{
    const struct eval_summary *s = &p->report->summaries[i];
    return p->is_divergence ? s->divergence.mean : s->perplexity.mean;
}

// A divergence of nothing has no place on the axis.
static bool is_drawn(const struct panel *p, size_t i)
{
    return isfinite(value_of(p, i)) && (!p->is_log || value_of(p, i) > 0);
}

static double x_of(const struct panel *p, double bytes)
{
    return p->left + p->width * bytes / p->x_max;
}

static double y_of(const struct panel *p, double value)
{
    double y = p->is_log ? log10(value) : value;
    return p->top + p->height * (1 - (y - p->y_min) / (p->y_max - p->y_min));
}

static void set_scale(struct panel *p)
{
    const struct eval_report *r = p->report;
    double min = INFINITY, max = -INFINITY;
    p->x_max = r->reference ? (double)r->reference->size : 0;
    for (size_t i = 0; i < r->n_models; i++) {
        p->x_max = fmax(p->x_max, (double)r->models[i].size);
        if (is_drawn(p, i)) {
            double y = p->is_log ? log10(value_of(p, i)) : value_of(p, i);
            min = fmin(min, y);
            max = fmax(max, y);
        }
    }
    p->x_max = p->x_max > 0 ? 1.04 * p->x_max : 1;
    if (r->reference && !p->is_divergence) {
        min = fmin(min, r->of_reference.perplexity.mean);
        max = fmax(max, r->of_reference.perplexity.mean);
    }
    if (!(min <= max)) {
        min = max = 0;
    }
    double room = max > min ? 0.06 * (max - min) : p->is_log || max == 0 ? 0.5 : 0.1 * fabs(max);
    p->y_min = p->is_log ? floor(min - room) : min - room;
    p->y_max = p->is_log ? ceil(max + room) : max + room;
}

static void draw_y_tick(const struct panel *p, double at, const char *text)
{
    double y = p->top + p->height * (1 - (at - p->y_min) / (p->y_max - p->y_min));
    buf_addf(p->out,
             "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"" SVG_COLOUR_GRID
             "\"/>\n",
             p->left, y, p->left + p->width, y);
    svg_add_text(p->out, p->left - 8, y + 4, "text-anchor=\"end\" fill=\"" SVG_COLOUR_FAINT "\"",
                 text);
}

static void draw_axes(const struct panel *p, const char *title)
{
    char text[64];
    double bottom = p->top + p->height;
    double step = p->is_log ? 1 : svg_tick_step(p->y_max - p->y_min, TICKS_MAX);
    int decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    for (double y = ceil(p->y_min / step) * step; y <= p->y_max; y += step) {
        if (p->is_log) {
            snprintf(text, sizeof(text), "%g", pow(10, y));
        } else {
            snprintf(text, sizeof(text), "%.*f", decimals < 9 ? decimals : 9, y);
        }
        draw_y_tick(p, y, text);
    }
    buf_addf(p->out,
             "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"" SVG_COLOUR_FAINT
             "\"/>\n",
             p->left, bottom, p->left + p->width, bottom);
    step = svg_tick_step(p->x_max, TICKS_MAX);
    for (size_t i = 0; (double)i * step <= p->x_max; i++) {
        svg_add_text(p->out, x_of(p, (double)i * step), bottom + 18, "text-anchor=\"middle\"",
                     i ? size_text((uint64_t)((double)i * step)).text : "0");
    }
    svg_add_text(p->out, p->left + p->width / 2, bottom + 38,
                 "text-anchor=\"middle\" fill=\"" SVG_COLOUR_FAINT "\"", "size of the file");
    svg_add_text(p->out, p->left - AXIS_LEFT + 8, p->top - 20, "font-weight=\"bold\"", title);
}

// What the models' names begin with alike, up to a dash, need not be said at every point.
static size_t common_size(const struct eval_report *r)
{
    const char *name = r->models[0].name;
    size_t common = 0;
    for (size_t n = 0; r->n_models > 1 && name[n]; n++) {
        for (size_t i = 1; i < r->n_models; i++) {
            if (strncmp(r->models[i].name, name, n + 1) != 0 || !r->models[i].name[n + 1]) {
                return common;
            }
        }
        common = name[n] == '-' && name[n + 1] ? n + 1 : common;
    }
    return common;
}

struct label {
    size_t model;
    double x, y;
};

static int compare_labels(const void *a, const void *b)
{
    const struct label *p = a, *q = b;
    return (p->y > q->y) - (p->y < q->y);
}

static bool overlap(const struct label *a, const struct label *b)
{
    return fabs(a->x - b->x) < 76 && fabs(a->y - b->y) < LABEL_HEIGHT;
}

// Names beside their points; one that would lie upon another moves down.
static void draw_labels(const struct panel *p, struct label *labels, size_t n)
{
    const size_t common = common_size(p->report);
    qsort(labels, n, sizeof(*labels), compare_labels);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            if (overlap(&labels[i], &labels[j])) {
                labels[i].y = labels[j].y + LABEL_HEIGHT;
                j = 0;
            }
        }
        buf_addf(p->out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" class=\"value\">",
                 labels[i].x + 7, labels[i].y + 4);
        svg_add_escaped(p->out, p->report->models[labels[i].model].name + common);
        buf_adds(p->out, "</text>\n");
    }
}

static void draw_points(const struct panel *p)
{
    const struct eval_report *r = p->report;
    struct label labels[EVAL_WORDS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < r->n_models; i++) {
        if (is_drawn(p, i)) {
            labels[n++] =
                (struct label){i, x_of(p, (double)r->models[i].size), y_of(p, value_of(p, i))};
        }
    }
    for (size_t i = 0; i < n; i++) {
        buf_addf(p->out,
                 "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"" SVG_COLOUR_POINT "\"/>\n",
                 labels[i].x, labels[i].y);
    }
    draw_labels(p, labels, n);
}

static void draw_reference(const struct panel *p)
{
    const struct eval_report *r = p->report;
    double y = y_of(p, r->of_reference.perplexity.mean);
    buf_addf(p->out,
             "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke-dasharray=\"6 4\" "
             "stroke-width=\"2\" stroke=\"" SVG_COLOUR_LIMIT "\"/>\n",
             p->left, y, p->left + p->width, y);
    svg_add_text(p->out, p->left + 4, y - 6, "font-size=\"11\" fill=\"" SVG_COLOUR_LIMIT "\"",
                 "the reference");
}

static void draw_panel(const struct eval_report *r, bool is_divergence, double left,
                       struct buf *out)
{
    struct panel p = {
        .report = r,
        .out = out,
        .is_log = is_divergence,
        .is_divergence = is_divergence,
        .left = left + AXIS_LEFT,
        .top = MARGIN + HEAD + AXIS_TOP,
        .width = PANEL_WIDTH - AXIS_LEFT - AXIS_RIGHT,
        .height = PANEL_HEIGHT - AXIS_TOP - AXIS_BOTTOM,
    };
    set_scale(&p);
    draw_axes(&p, is_divergence ? "Mean KL divergence from the reference" : "Perplexity");
    if (r->reference && !is_divergence) {
        draw_reference(&p);
    }
    draw_points(&p);
}

void eval_report_svg(const struct eval_report *r, struct buf *out)
{
    size_t n_panels = r->reference ? 2 : 1;
    svg_begin(out, 2 * MARGIN + PANEL_WIDTH * (double)n_panels, 2 * MARGIN + HEAD + PANEL_HEIGHT);
    buf_addf(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"18\" font-weight=\"bold\">", MARGIN,
             MARGIN + 18);
    if (r->reference) {
        buf_adds(out, "Compared with ");
        svg_add_escaped(out, r->reference->name);
    } else {
        buf_adds(out, "How well texts are foretold");
    }
    buf_addf(out,
             "</text>\n<text x=\"%.1f\" y=\"%.1f\" fill=\"" SVG_COLOUR_FAINT
             "\">%s tokens, windows of %zu</text>\n",
             MARGIN, MARGIN + 38, count_text(r->plan->n_scored).text, r->plan->rule.context);
    if (r->reference) {
        draw_panel(r, true, MARGIN, out);
    }
    draw_panel(r, false, MARGIN + (r->reference ? PANEL_WIDTH : 0), out);
    svg_end(out);
}
