// SPDX-License-Identifier: Apache-2.0
#include "cli/job_report.h"

#include "base/os.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

// The error relative to the values' size: 1 would be as bad as zeros.
static double relative(double error, double energy)
{
    return energy > 0 ? sqrt(error / energy) : 0;
}

static struct job_row *row_of(struct job_report *r, const struct carat_tensor_report *t)
{
    for (size_t i = 0; i < r->n_rows; i++) {
        if (strcmp(r->rows[i].role, t->role) == 0 && strcmp(r->rows[i].to, t->to) == 0) {
            return &r->rows[i];
        }
    }
    if (r->n_rows == JOB_ROWS_MAX) {
        return &r->rows[JOB_ROWS_MAX - 1];
    }
    struct job_row *row = &r->rows[r->n_rows++];
    snprintf(row->role, sizeof(row->role), "%s", t->role);
    snprintf(row->to, sizeof(row->to), "%s", t->to);
    row->knows_error = true;
    return row;
}

static void add_json_error(struct buf *b, bool is_known, double error, double energy)
{
    buf_adds(b, ",\"error\":");
    if (is_known) {
        buf_add_number(b, relative(error, energy));
    } else {
        buf_adds(b, "null");
    }
}

static void add_tensor(struct job_report *r, const struct carat_tensor_report *t)
{
    struct buf *b = &r->tensors;
    if (r->is_json) {
        buf_adds(b, b->size ? ",{\"name\":" : "{\"name\":");
        buf_add_json(b, t->name, strlen(t->name));
        buf_addf(b, ",\"role\":\"%s\",\"from\":\"%s\",\"to\":\"%s\",\"values\":%llu,\"size\":%llu",
                 t->role, t->from, t->to, (unsigned long long)t->n_values,
                 (unsigned long long)t->to_size);
        if (t->instead_of) {
            buf_addf(b, ",\"instead_of\":\"%s\"", t->instead_of);
        }
        add_json_error(b, t->error >= 0, t->error, t->energy);
        buf_addc(b, '}');
        return;
    }
    buf_addf(b, "  %-36s %-6s -> %-6s %10s", t->name, t->from, t->to, size_text(t->to_size).text);
    if (t->error >= 0 && t->energy > 0) {
        buf_addf(b, "  %7.3f %%", relative(t->error, t->energy) * 100);
    }
    buf_adds(b, t->instead_of ? "  instead of " : "");
    buf_adds(b, t->instead_of ? t->instead_of : "");
    buf_addc(b, '\n');
}

void job_report_tensor(void *user, const struct carat_tensor_report *t)
{
    struct job_report *r = user;
    struct job_row *row = row_of(r, t);
    row->n++;
    row->n_values += t->n_values;
    row->size += t->to_size;
    row->knows_error = row->knows_error && t->error >= 0;
    row->error += t->error > 0 ? t->error : 0;
    row->energy += t->energy;
    r->n_values += t->is_projector ? 0 : t->n_values;
    r->size += t->is_projector ? 0 : t->to_size;
    r->is_planned = t->is_planned;
    if (t->instead_of && r->n_fallbacks++ == 0) {
        snprintf(r->fallback, sizeof(r->fallback), "%s is %s", t->name, t->to);
    }
    r->tensors.max = (size_t)64 << 20;
    if (r->lists_tensors || r->is_json) {
        add_tensor(r, t);
    }
}

static void add_rows(const struct job_report *r, struct buf *b)
{
    bool has_errors = false;
    for (size_t i = 0; i < r->n_rows; i++) {
        has_errors = has_errors || (r->rows[i].knows_error && r->rows[i].energy > 0);
    }
    buf_addf(b, "%-12s %-7s %8s %11s %6s%s\n", "role", "type", "tensors", "size", "bits",
             has_errors ? "     error" : "");
    for (size_t i = 0; i < r->n_rows; i++) {
        const struct job_row *row = &r->rows[i];
        buf_addf(b, "%-12s %-7s %8llu %11s %6.2f", row->role, row->to, (unsigned long long)row->n,
                 size_text(row->size).text,
                 row->n_values ? 8.0 * (double)row->size / (double)row->n_values : 0);
        if (row->knows_error && row->energy > 0) {
            buf_addf(b, " %7.3f %%", relative(row->error, row->energy) * 100);
        }
        buf_addc(b, '\n');
    }
}

static void add_text(const struct job_report *r, const struct carat_quantize_result *result,
                     const char *target, double seconds, struct buf *b)
{
    if (r->lists_tensors) {
        buf_add(b, r->tensors.data, r->tensors.size);
        buf_addc(b, '\n');
    }
    add_rows(r, b);
    if (r->n_fallbacks > 0) {
        buf_addf(
            b,
            "%zu matri%s with rows that the type's blocks do not fit got the next larger type: "
            "%s\n",
            r->n_fallbacks, r->n_fallbacks == 1 ? "x" : "ces", r->fallback);
    }
    buf_addf(b, "%s%s: %s", r->is_planned ? "would be " : "", target,
             size_text(result->file_size).text);
    if (r->n_values > 0) {
        buf_addf(b, ", %.2f bits per weight", 8.0 * (double)r->size / (double)r->n_values);
    }
    if (result->projector_size > 0) {
        buf_addf(b, ", and %s of projections beside it", size_text(result->projector_size).text);
    }
    if (!r->is_planned) {
        buf_addf(b, ", in %.1f s", seconds);
    }
    if (result->n_resumed > 0) {
        buf_addf(b, " (went on behind %zu finished tensors)", result->n_resumed);
    }
    buf_addc(b, '\n');
}

static void add_json(const struct job_report *r, const struct carat_quantize_result *result,
                     const char *target, double seconds, struct buf *b)
{
    buf_adds(b, "{\"target\":");
    buf_add_json(b, target, strlen(target));
    buf_addf(b,
             ",\"is_planned\":%s,\"file_size\":%llu,\"projector_size\":%llu,\"tensor_count\":%zu,"
             "\"resumed\":%zu,\"bits_per_weight\":%.4f,\"seconds\":%.3f,\"roles\":[",
             r->is_planned ? "true" : "false", (unsigned long long)result->file_size,
             (unsigned long long)result->projector_size, result->n_tensors, result->n_resumed,
             r->n_values ? 8.0 * (double)r->size / (double)r->n_values : 0, seconds);
    for (size_t i = 0; i < r->n_rows; i++) {
        const struct job_row *row = &r->rows[i];
        buf_addf(b, "%s{\"role\":\"%s\",\"type\":\"%s\",\"tensors\":%llu,\"size\":%llu",
                 i ? "," : "", row->role, row->to, (unsigned long long)row->n,
                 (unsigned long long)row->size);
        add_json_error(b, row->knows_error, row->error, row->energy);
        buf_addc(b, '}');
    }
    buf_adds(b, "],\"tensors\":[");
    buf_add(b, r->tensors.data, r->tensors.size);
    buf_adds(b, "]}\n");
}

int job_report_show(struct job_report *r, const struct carat_quantize_result *result,
                    const char *target, double seconds, struct output *out, struct carat_error *err)
{
    struct buf b = {.max = (size_t)128 << 20};
    if (r->is_json) {
        add_json(r, result, target, seconds, &b);
    } else {
        add_text(r, result, target, seconds, &b);
    }
    int rc = buf_status(&b, err);
    if (rc == 0) {
        output_foreign(out, b.data, b.size);
    }
    buf_release(&b);
    return rc;
}

void job_report_release(struct job_report *r)
{
    buf_release(&r->tensors);
}
