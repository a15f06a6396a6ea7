// SPDX-License-Identifier: Apache-2.0
// What the files of carat eval's tasks share: the answers of one model, and what they add up to.
#ifndef CARAT_CLI_EVAL_TASKS_SCORE_H
#define CARAT_CLI_EVAL_TASKS_SCORE_H

#include "cli/eval_task.h"
#include "cli/eval_tasks.h"

// What became of one line. Strings are owned.
struct eval_answer {
    size_t file; // its number
    uint64_t line;
    char *id;
    char *task;     // its name
    char *expected; // as JSON
    char *text;
    char *thought;
    char *calls; // a JSON array; NULL: none
    char *error; // it could not be asked; NULL: it was
    enum eval_score score;
    enum carat_stop stop;
    size_t n_prompt, n_tokens;
    struct eval_verdict verdict;
    // EVAL_CHOICE
    double *logprobs; // [n_choices], of each
    size_t n_choices;
    size_t choice;           // the likeliest
    size_t choice_by_length; // the likeliest for each of its bytes
    bool is_right_by_length;
};

// What the answers of a task, or of a group of tasks, add up to.
struct eval_tally {
    struct slice name;   // of the answers' own
    bool is_part;        // "a:b", listed under "a"
    size_t group, first; // numbers: of "a", and its own, by the first answer
    uint64_t n, n_right, n_failed;
    uint64_t n_choices, n_right_by_length;            // questions with choices
    uint64_t n_words;                                 // transcripts
    struct word_errors words, characters;             // of all of them
    double errors_square, words_square, errors_words; // sums over transcripts, for the error of WER
};

struct eval_scores {
    char *model;                 // its name
    struct eval_answer *answers; // [n], in the order of the lines
    size_t n, capacity;
    struct eval_tally *tallies; // [n_tallies], by the first answer; parts follow their group
    size_t n_tallies, tallies_capacity;
    struct eval_tally all;
    uint64_t prompt_tokens, reused_tokens, answer_tokens;
    double seconds;
};
void eval_scores_release(struct eval_scores *s);
// Fills the tallies from the answers.
int eval_scores_add_up(struct eval_scores *s, struct carat_error *err);

// A figure with its standard error and the interval that holds the true one in 95 of 100 cases.
struct eval_figure {
    double value, error, low, high;
};
// Of a share: Wilson's interval. n is not 0.
void eval_share(struct eval_figure *out, uint64_t n_right, uint64_t n);
// Of the word error rate, as a ratio of sums over n_words transcripts.
void eval_word_rate(struct eval_figure *out, const struct eval_tally *t);

// ------------------------------------------------------------------------------ eval_tasks_ask.c

struct eval_asking {
    const struct eval_tasks_options *options;
    uint64_t n_lines; // of all files, with questions
    struct eval_scores *scores;
    bool shows_progress;
};
// Reads all lines without asking any; what is wrong with one names its file and line.
int eval_check_lines(uint64_t *n_lines, const struct eval_tasks_options *o,
                     struct carat_error *err);
// Asks the model all lines of all files. Lines that cannot be asked are answers with an error.
int eval_ask(const struct eval_asking *asking, struct carat_engine *engine,
             struct carat_error *err);

// ------------------------------------------------------------------------------
// eval_tasks_report.c

void eval_tasks_write_table(const struct eval_scores *scores, size_t n,
                            const struct eval_tasks_options *o);
int eval_tasks_write_json(const struct eval_scores *scores, size_t n,
                          const struct eval_tasks_options *o, struct carat_error *err);

#endif
