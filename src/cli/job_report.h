// SPDX-License-Identifier: Apache-2.0
// What quantize and convert tell at their end: a table by role, each tensor with --verbose, JSON.
#ifndef CARAT_CLI_JOB_REPORT_H
#define CARAT_CLI_JOB_REPORT_H

#include "carat_jobs.h"
#include "cli/output.h"

#define JOB_ROWS_MAX 128

struct job_row {
    char role[24];
    char to[16];
    uint64_t n;
    uint64_t n_values;
    uint64_t size;
    double error;
    double energy;
    bool knows_error;
};
struct job_report {
    bool lists_tensors; // every one as well
    struct job_row rows[JOB_ROWS_MAX];
    size_t n_rows;
    struct buf tensors; // text, or JSON
    bool is_json;
    size_t n_fallbacks;
    char fallback[160]; // the first one, in words
    uint64_t n_values;
    uint64_t size;
    bool is_planned;
};
// A carat_on_tensor_done; user is a struct job_report.
void job_report_tensor(void *user, const struct carat_tensor_report *t);
// The whole report to standard output.
int job_report_show(struct job_report *r, const struct carat_quantize_result *result,
                    const char *target, double seconds, struct output *out,
                    struct carat_error *err);
void job_report_release(struct job_report *r);

#endif
