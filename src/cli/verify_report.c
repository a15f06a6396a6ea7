// SPDX-License-Identifier: Apache-2.0
#include "cli/verify.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define JSON_MAX ((size_t)1 << 30)

enum verdict { VERDICT_PASS, VERDICT_FAIL, VERDICT_SKIP };

static void close_golden(struct report *r)
{
    if (r->is_golden_open) {
        buf_adds(&r->json, "]}");
    }
}

void report_golden(struct report *r, const char *folder, const char *kind)
{
    if (!r->is_json) {
        output_format(r->out, "%s%s", r->out->has_colour ? "\033[1m" : "", folder);
        output_format(r->out, "%s (%s)\n", r->out->has_colour ? "\033[0m" : "", kind);
        output_flush(r->out);
        return;
    }
    r->json.max = JSON_MAX;
    close_golden(r);
    buf_adds(&r->json, r->is_golden_open ? ",{\"folder\":" : "{\"goldens\":[{\"folder\":");
    buf_add_json(&r->json, folder, strlen(folder));
    buf_adds(&r->json, ",\"kind\":");
    buf_add_json(&r->json, kind, strlen(kind));
    buf_adds(&r->json, ",\"checks\":[");
    r->is_golden_open = true;
    r->is_check_first = true;
}

void report_end(struct report *r)
{
    if (r->is_json) {
        close_golden(r);
        buf_adds(&r->json, r->is_golden_open ? "]" : "{\"goldens\":[]");
        buf_addf(&r->json, ",\"passed\":%zu,\"failed\":%zu,\"skipped\":%zu}\n", r->n_passed,
                 r->n_failed, r->n_skipped);
        output_write(r->out, buf_text(&r->json), r->json.size);
    } else {
        if (r->n_skipped) {
            output_format(r->out, "%zu skipped, for the reasons given\n", r->n_skipped);
        }
        output_format(r->out, "%zu passed, %zu failed\n", r->n_passed, r->n_failed);
    }
    buf_release(&r->json);
}

// A line of the report, or an object of the JSON.
static void add_check(struct report *r, enum verdict verdict, const char *what, const char *members,
                      const char *text)
{
    static const char *const words[] = {"pass", "FAIL", "skip"};
    static const char *const statuses[] = {"pass", "fail", "skip"};
    static const char *const colours[] = {"\033[32m", "\033[31m", "\033[33m"};
    if (r->is_json) {
        buf_adds(&r->json, r->is_check_first ? "{\"what\":" : ",{\"what\":");
        buf_add_json(&r->json, what, strlen(what));
        if (r->model_name) {
            buf_adds(&r->json, ",\"model\":");
            buf_add_json(&r->json, r->model_name, strlen(r->model_name));
        }
        buf_addf(&r->json, ",\"status\":\"%s\"%s,\"detail\":", statuses[verdict], members);
        buf_add_json(&r->json, text, strlen(text));
        buf_addc(&r->json, '}');
        r->is_check_first = false;
        return;
    }
    bool has_colour = r->out->has_colour;
    output_format(r->out, "  %s%s%s  ", has_colour ? colours[verdict] : "", words[verdict],
                  has_colour ? "\033[0m" : "");
    if (r->model_name) {
        output_format(r->out, "%s: ", r->model_name);
    }
    struct buf line = {.max = 1 << 20};
    buf_addf(&line, "%-26s %s\n", what, text);
    output_foreign(r->out, buf_text(&line), line.size);
    buf_release(&line);
    output_flush(r->out);
}

void difference_add(struct difference *d, const float *found, const float *expected, size_t n,
                    size_t from)
{
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)found[i] - (double)expected[i]);
        if (isnan(error)) {
            error = (double)INFINITY;
        }
        if (d->n == 0 || error > d->largest) {
            d->largest = error;
            d->at = from + i;
            d->expected = (double)expected[i];
            d->found = (double)found[i];
        }
        d->squares += error * error;
        d->n++;
    }
}

double difference_rms(const struct difference *d)
{
    return d->n ? sqrt(d->squares / (double)d->n) : 0;
}

carat_token likeliest(const float *logits, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (carat_token)best;
}

void report_difference(struct report *r, const char *what, const struct difference *d,
                       double tolerance, size_t n_columns)
{
    bool is_good = d->n > 0 && d->largest <= tolerance;
    struct buf text = {.max = 1000}, members = {.max = 1000};
    buf_addf(&text, "%zu values, largest error %.2g, tolerance %.2g", d->n, d->largest, tolerance);
    if (!is_good && d->n > 0) {
        size_t columns = n_columns ? n_columns : 1;
        buf_addf(&text, ", at [%zu, %zu]: expected %.6g, found %.6g", d->at / columns,
                 d->at % columns, d->expected, d->found);
    }
    buf_adds(&members, ",\"error\":");
    buf_add_number(&members, d->largest);
    buf_adds(&members, ",\"tolerance\":");
    buf_add_number(&members, tolerance);
    buf_addf(&members, ",\"values\":%zu", d->n);
    add_check(r, is_good ? VERDICT_PASS : VERDICT_FAIL, what, buf_text(&members), buf_text(&text));
    r->n_passed += is_good;
    r->n_failed += !is_good;
    buf_release(&text);
    buf_release(&members);
}

void report_result(struct report *r, bool is_good, const char *what, const char *format, ...)
{
    char text[1200];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    add_check(r, is_good ? VERDICT_PASS : VERDICT_FAIL, what, "", text);
    r->n_passed += is_good;
    r->n_failed += !is_good;
}

void report_skip(struct report *r, const char *what, const char *format, ...)
{
    char text[1200];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    struct buf line = {.max = 2000};
    buf_addf(&line, "skipped: %s", text);
    add_check(r, VERDICT_SKIP, what, "", buf_text(&line));
    buf_release(&line);
    r->n_skipped++;
}

void report_error(struct report *r, const char *what, const struct carat_error *err)
{
    report_result(r, false, what, "%s", err->text);
}

void report_rows(struct report *r, const char *what, size_t n_rows, size_t n_failed,
                 const char *how)
{
    struct buf text = {.max = 1000}, members = {.max = 200};
    buf_addf(&text, "%zu rows, %zu right, %zu wrong, %s", n_rows, n_rows - n_failed, n_failed, how);
    buf_addf(&members, ",\"rows\":%zu,\"rows_failed\":%zu", n_rows, n_failed);
    bool is_good = n_failed == 0 && n_rows > 0;
    add_check(r, is_good ? VERDICT_PASS : VERDICT_FAIL, what, buf_text(&members), buf_text(&text));
    r->n_passed += n_rows - n_failed;
    r->n_failed += n_rows ? n_failed : 1; // an empty file shows nothing
    buf_release(&text);
    buf_release(&members);
}

void report_row(struct report *r, size_t n_failed_before, const char *id, const char *detail)
{
    if (r->is_json || (!r->is_verbose && n_failed_before >= ROWS_SHOWN)) {
        return;
    }
    struct buf line = {.max = 1 << 20};
    buf_addf(&line, "        row %s: %s\n", id, detail);
    output_foreign(r->out, buf_text(&line), line.size);
    buf_release(&line);
}
