// SPDX-License-Identifier: Apache-2.0
// What was measured, in the forms that carat eval shows it in.
#ifndef CARAT_CLI_EVAL_REPORT_H
#define CARAT_CLI_EVAL_REPORT_H

#include "cli/eval_pass.h"

struct eval_report {
    const struct eval_plan *plan;
    const struct carat_engine *words; // the vocabulary of all of them
    const struct eval_model *models;  // [n_models]
    size_t n_models;
    const struct eval_model *reference; // NULL: nothing is compared
    struct eval_summary *summaries;     // of the models over everything
    struct eval_summary of_reference;
    size_t n_worst;  // tokens to show of each model
    double *scratch; // [plan->n_scored]
};
int eval_report_init(struct eval_report *r, struct carat_error *err); // the last rows of the struct
void eval_report_release(struct eval_report *r);

void eval_report_table(const struct eval_report *r, struct buf *out);
void eval_report_json(const struct eval_report *r, struct buf *out);
void eval_report_svg(const struct eval_report *r, struct buf *out); // in eval_svg.c

// Bits per weight.
double eval_bits(const struct eval_model *m);
// The positions of bucket i: 1, 2-3, 4-7 and so on; false past the last of this context.
bool eval_bucket(struct eval_filter *out, size_t i, size_t context);

#endif
