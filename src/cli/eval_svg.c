// SPDX-License-Identifier: Apache-2.0
// Quality against bytes as a drawing: each model a point, in one panel for each measure.
#include "cli/eval_report.h"
#include "cli/svg.h"

#include <math.h>
#include <stdio.h>
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
#define LABEL_HEIGHT 12.0
#define LETTER_WIDTH 6.4 // of a label
#define DOT          5.0 // radius of a point with some air

// Divergences below are those of the rounding.
#define DIVERGENCE_MIN 1e-6

#define TICKS_MAX 6

struct panel {
    const struct eval_report *report;
    struct buf *out;
    bool is_log, is_divergence;
    double left, top, width, height; // of the plot inside the axes
    double x_min, x_max;             // bytes, on a logarithmic scale
    double y_min, y_max;             // or their logarithms to base 10
};

static double value_of(const struct panel *p, size_t i)
{
    const struct eval_summary *s = &p->report->summaries[i];
    return p->is_divergence ? s->divergence.mean : s->perplexity.mean;
}

// A divergence of next to nothing has no place on the axis.
static bool is_drawn(const struct panel *p, size_t i)
{
    return isfinite(value_of(p, i)) && (!p->is_log || value_of(p, i) >= DIVERGENCE_MIN);
}

static double x_of(const struct panel *p, double bytes)
{
    return p->left + p->width * log(bytes / p->x_min) / log(p->x_max / p->x_min);
}

static double y_of(const struct panel *p, double value)
{
    double y = p->is_log ? log10(value) : value;
    return p->top + p->height * (1 - (y - p->y_min) / (p->y_max - p->y_min));
}

static void set_scale(struct panel *p)
{
    const struct eval_report *r = p->report;
    double min = HUGE_VAL, max = -HUGE_VAL;
    p->x_min = HUGE_VAL;
    p->x_max = 0;
    for (size_t i = 0; i < r->n_models; i++) {
        p->x_min = fmin(p->x_min, (double)r->models[i].size);
        p->x_max = fmax(p->x_max, (double)r->models[i].size);
        if (is_drawn(p, i)) {
            double y = p->is_log ? log10(value_of(p, i)) : value_of(p, i);
            min = fmin(min, y);
            max = fmax(max, y);
        }
    }
    p->x_min = fmax(p->x_min / 1.1, 1);
    p->x_max = fmax(p->x_max * 1.1, 2 * p->x_min);
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

// 1, 2 and 5 times a power of ten, or where that is too coarse every tenth.
static void draw_sizes(const struct panel *p, double bottom)
{
    bool is_wide = p->x_max / p->x_min > 8;
    double unit = pow(10, floor(log10(p->x_min))), last = -HUGE_VAL;
    for (double x = unit; x <= p->x_max;) {
        double at = x_of(p, x);
        if (x >= p->x_min && at - last > 66) {
            svg_add_text(p->out, at, bottom + 18, "text-anchor=\"middle\"",
                         size_text((uint64_t)(x + 0.5)).text);
            buf_addf(p->out,
                     "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
                     "stroke=\"" SVG_COLOUR_FAINT "\"/>\n",
                     at, bottom, at, bottom + 4);
            last = at;
        }
        double power = pow(10, floor(log10(x * 1.001)));
        double digit = x / power;
        x = is_wide ? power * (digit < 1.5 ? 2 : digit < 4 ? 5 : 10) : x + power / 2;
    }
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
    draw_sizes(p, bottom);
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
    double x, y;      // of the point
    double left, top; // of the text
    double width;
    bool is_placed;
};

static bool overlap(const struct label *a, const struct label *b)
{
    return a->left < b->left + b->width && b->left < a->left + a->width &&
           fabs(a->top - b->top) < LABEL_HEIGHT;
}

static bool covers(const struct label *a, const struct label *b)
{
    return a->left < b->x + DOT && b->x - DOT < a->left + a->width && a->top < b->y + DOT &&
           b->y - DOT < a->top + LABEL_HEIGHT;
}

static bool is_free(const struct panel *p, const struct label *a, const struct label *all, size_t n)
{
    bool is_inside = a->left > p->left && a->top > p->top - AXIS_TOP / 2 &&
                     a->top + LABEL_HEIGHT < p->top + p->height &&
                     a->left + a->width < p->left + p->width + AXIS_RIGHT;
    for (size_t i = 0; is_inside && i < n; i++) {
        is_inside = !covers(a, &all[i]) && !(all[i].is_placed && overlap(a, &all[i]));
    }
    return is_inside;
}

// Beside its point, or in rings around it where that is taken.
static void place(const struct panel *p, struct label *a, const struct label *all, size_t n)
{
    static const double ways[][2] = {{1, 0}, {-1, 0},  {1, -1}, {-1, 1},
                                     {1, 1}, {-1, -1}, {0, -1}, {0, 1}};
    for (double ring = 0; ring < 14; ring++) {
        for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
            double away = 7 + ring * LABEL_HEIGHT, x = a->x + ways[i][0] * away;
            a->left = ways[i][0] > 0 ? x : ways[i][0] < 0 ? x - a->width : x - a->width / 2;
            a->top = a->y + ways[i][1] * away - LABEL_HEIGHT / 2;
            if (is_free(p, a, all, n)) {
                a->is_placed = true;
                return;
            }
        }
    }
}

static void draw_label(const struct panel *p, const struct label *a, size_t common)
{
    double right = a->left + a->width, middle = a->top + LABEL_HEIGHT / 2;
    double x = a->left > a->x ? a->left : right < a->x ? right : (a->left + right) / 2;
    if (hypot(x - a->x, middle - a->y) > LABEL_HEIGHT) {
        buf_addf(p->out,
                 "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
                 "stroke=\"" SVG_COLOUR_FAINT "\" stroke-width=\"0.6\"/>\n",
                 a->x, a->y, x, middle);
    }
    buf_addf(p->out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" class=\"value\">", a->left,
             a->top + LABEL_HEIGHT - 2.5);
    svg_add_escaped(p->out, p->report->models[a->model].name + common);
    buf_adds(p->out, "</text>\n");
}

static void draw_points(const struct panel *p)
{
    const struct eval_report *r = p->report;
    const size_t common = common_size(r);
    struct label labels[EVAL_WORDS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < r->n_models; i++) {
        if (is_drawn(p, i)) {
            labels[n++] = (struct label){
                .model = i,
                .x = x_of(p, (double)r->models[i].size),
                .y = y_of(p, value_of(p, i)),
                .width = LETTER_WIDTH * (double)strlen(r->models[i].name + common),
            };
        }
    }
    for (size_t i = 0; i < n; i++) {
        place(p, &labels[i], labels, n);
        if (labels[i].is_placed) {
            draw_label(p, &labels[i], common);
        }
    }
    for (size_t i = 0; i < n; i++) {
        buf_addf(p->out,
                 "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"" SVG_COLOUR_POINT "\"/>\n",
                 labels[i].x, labels[i].y);
    }
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
