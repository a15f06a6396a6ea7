// SPDX-License-Identifier: Apache-2.0
// One model over all windows: what it foretells at each scored token is measured, recorded, or
// compared with what was recorded.
#ifndef CARAT_CLI_EVAL_PASS_H
#define CARAT_CLI_EVAL_PASS_H

#include "cli/eval.h"
#include "cli/eval_measure.h"
#include "cli/eval_plan.h"

struct eval_model {
    char *path;                     // owned
    char name[LOGITS_NAME_MAX + 1]; // the file's, without folder and ending
    uint64_t size;                  // bytes of the file
    uint64_t weights_size;
    uint64_t n_parameters;
    struct eval_record *records; // [plan->n_scored]
    double seconds;
};
void eval_model_release(struct eval_model *m);

// The vocabulary alone, for what comes before the models: their words must be the same.
void eval_vocabulary_hash(const struct carat_engine *engine, uint8_t out[HASH_SIZE]);

// Rows that are gathered, and what they take for each word: a float, and two packed forms.
#define EVAL_ROWS_MAX  16 // as many as the engine computes together
#define EVAL_ROW_BYTES (EVAL_ROWS_MAX * (sizeof(float) + 2 * sizeof(uint16_t)))

struct eval_pass {
    const struct eval_options *options;
    const struct eval_plan *plan;
    const struct output *output;
    const char *record_path;  // where to record; NULL: nowhere
    const char *against_path; // what to compare with; NULL: nothing
    uint8_t vocabulary[HASH_SIZE];
};
// Opens the model, fills m, closes it.
int eval_pass_run(const struct eval_pass *pass, struct eval_model *m, struct carat_error *err);

#endif
