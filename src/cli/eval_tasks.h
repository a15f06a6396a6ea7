// SPDX-License-Identifier: Apache-2.0
// Tasks with expected answers: JSON lines that carat eval asks a model and scores.
// docs/eval-tasks.md
#ifndef CARAT_CLI_EVAL_TASKS_H
#define CARAT_CLI_EVAL_TASKS_H

#include "cli/settings.h"

// Options that concern tasks alone.
struct eval_task_settings {
    struct option_count tokens_max;
    struct option_count parallel;
    struct option_count image_tokens;
    struct option_count video_frames;
    struct option_number temperature;
    struct option_count seed;
    struct option_count wrong;
    struct option_number min_score;
};
extern const struct option eval_task_rows[];

struct eval_tasks_options {
    const struct eval_task_settings *settings;
    const struct model_settings *model;
    const char *const *models; // words as model_path_find takes them; NULL: the default model
    size_t n_models;           // at least 1
    const char *const *files;
    size_t n_files; // at least 1, all of them task files
    bool is_json, is_quiet;
    struct output *out;
};

// Whether this file's first line is a question with its answer. What cannot be read is none.
bool eval_is_task_file(const char *path);
// Asks and scores; writes the answer.
int eval_tasks_run(const struct eval_tasks_options *o, struct carat_error *err);

#endif
