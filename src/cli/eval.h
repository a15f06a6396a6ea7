// SPDX-License-Identifier: Apache-2.0
// What carat eval is told, between the file of the command and those that measure.
#ifndef CARAT_CLI_EVAL_H
#define CARAT_CLI_EVAL_H

#include "cli/eval_tasks.h"
#include "cli/settings.h"

#define EVAL_WORDS_MAX       256 // models, and texts
#define EVAL_CONTEXT_DEFAULT 512 // of texts

struct eval_options {
    const char *against; // a model or a logit file
    const char *save_logits;
    struct option_count stride;
    struct option_count skip;
    struct option_count tokens; // to score of each domain, at most
    struct option_count worst;  // tokens to show
    bool has_special;           // strings like <turn|> in a text are control tokens
    const char *svg;
    bool is_json, is_quiet;
    struct model_settings model;
    struct eval_task_settings tasks;
};

// What the arguments were sorted into. Models are words as model_path_find takes them; without any,
// models[0] is NULL and stands for the default one.
struct eval_words {
    const char *models[EVAL_WORDS_MAX];
    size_t n_models;
    const char *texts[EVAL_WORDS_MAX];
    size_t n_texts;
};

// Measures of how well models foretell texts. Writes the answer; what failed is in err.
int eval_texts_run(const struct eval_options *o, const struct eval_words *words, struct output *out,
                   struct carat_error *err);

// Answers of earlier runs (.json) in one drawing.
bool eval_is_result(const char *path);
int eval_results_draw(const char *const *files, size_t n_files, const char *drawing,
                      struct carat_error *err);

#endif
