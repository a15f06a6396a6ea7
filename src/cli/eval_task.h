// SPDX-License-Identifier: Apache-2.0
// One question with its expected answers: a line of JSON, and whether an answer to it is right.
// docs/eval-tasks.md
#ifndef CARAT_CLI_EVAL_TASK_H
#define CARAT_CLI_EVAL_TASK_H

#include "carat_jobs.h"
#include "cli/conversation.h"
#include "cli/eval_tasks_words.h"

#define EVAL_LINE_MAX      ((size_t)64 << 20) // bytes of a line: media may be in it
#define EVAL_ID_MAX        ((size_t)256)      // bytes of an id
#define EVAL_NAME_MAX      ((size_t)128)      // bytes of a task's name
#define EVAL_EXPECTED_MAX  ((size_t)1000)     // answers that are right
#define EVAL_REGEX_MAX     ((size_t)64)       // of them where they are expressions
#define EVAL_CHOICES_MAX   ((size_t)1000)
#define EVAL_REFERENCE_MAX ((size_t)200000) // bytes of an expected answer

enum eval_score { EVAL_EXACT, EVAL_CHOICE, EVAL_REGEX, EVAL_WER };
extern const char *const eval_score_names[]; // by enum eval_score, then NULL

// What does not count when texts are compared.
enum eval_ignore { EVAL_IGNORE_NOTHING, EVAL_IGNORE_CASE, EVAL_IGNORE_MARKS };

// An answer that is right; one of the three says how.
struct eval_expected {
    struct slice text; // also the expression, for errors
    const char *calls; // a JSON array of {"name", "arguments"}
    struct carat_regex *regex;
};

struct eval_choice {
    struct slice text;
    bool is_right;
};

struct eval_task {
    struct conversation talk; // its arena holds all that is pointed to
    struct slice id;          // empty: none
    struct slice name;        // of the task; "a:b" is b of the group a; empty: none
    enum eval_score score;
    enum eval_ignore ignore;
    struct eval_expected *expected; // [n_expected]; none for EVAL_CHOICE
    size_t n_expected;
    struct eval_choice *choices; // [n_choices]
    size_t n_choices;
    struct slice raw; // the prompt is this text alone, without chat; data NULL: it is the talk
    bool thinks;
    uint64_t tokens_max; // of the answer; 0: not said
};

// folder: where media given by path lie, "" or with its slash; NULL: they are not looked at. Errors
// name the field. t is zeroed memory, and to be released also after a failure.
int eval_task_read(struct eval_task *t, struct slice line, const char *folder,
                   const struct media_how *how, struct carat_error *err);
void eval_task_release(struct eval_task *t);

// The calls of an answer, event by event: a JSON array of {"name", "arguments"}.
struct eval_calls {
    struct buf json;
    size_t n;
    bool has_arguments; // of the last one
};
void eval_calls_take(struct eval_calls *c, const struct carat_event *event);
void eval_calls_end(struct eval_calls *c);

// What an answer is worth.
struct eval_verdict {
    bool is_right;
    struct word_errors words, characters; // EVAL_WER: against the expected text that is nearest
};
// calls: a JSON array as in struct eval_expected, or NULL. engine reads expected calls that are
// written as the model writes them.
int eval_task_judge(struct eval_verdict *out, const struct eval_task *t,
                    const struct carat_engine *engine, struct slice text, const char *calls,
                    struct carat_error *err);

#endif
