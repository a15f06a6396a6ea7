// SPDX-License-Identifier: Apache-2.0
// Lines with questions: the first line of the input is read, the second is an answer to it. What is
// refused says why; an expected answer is right; words that are missing and added are those that
// the lengths tell.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli/eval_task.h"
#include "cli/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The commands that options belong to are not needed here.
const struct command *const commands[] = {NULL};

// So many runs in a row without a failure: all allocations have had theirs.
#define ENOUGH_MEMORY 40
#define FAILURES_MAX  200

static const struct carat_engine *get_engine(void)
{
    static struct carat_engine *engine;
    if (!engine) {
        struct carat_error err = {0};
        struct carat_engine_options options = {.model = DEMO_MODEL, .is_vocab_only = true};
        if (carat_engine_open(&engine, &options, &err)) {
            fprintf(stderr, "%s\n", err.text);
            abort();
        }
    }
    return engine;
}

static uint64_t count_words(struct slice text)
{
    struct buf words = {0};
    words_add(&words, text);
    uint64_t n = words.size > 0;
    for (size_t i = 0; i < words.size; i++) {
        n += words.data[i] == ' ';
    }
    buf_release(&words);
    return n;
}

static void check_answer(const struct eval_task *t, struct slice text)
{
    struct eval_verdict v;
    struct carat_error err = {0};
    int rc =
        eval_task_judge(&v, t, get_engine(), text, "[{\"name\":\"f\",\"arguments\":{}}]", &err);
    require(rc == 0 || err.text[0]);
    rc = eval_task_judge(&v, t, get_engine(), text, NULL, &err);
    require(rc == 0 || err.text[0]);
    if (rc == 0 && t->score == EVAL_WER) {
        uint64_t n = v.words.n - v.words.deleted + v.words.inserted;
        require(n == count_words(text));
        require(v.words.substituted + v.words.deleted <= v.words.n);
        require(v.characters.substituted + v.characters.deleted <= v.characters.n);
    }
}

static void check_expected(const struct eval_task *t)
{
    struct eval_verdict v;
    struct carat_error err = {0};
    for (size_t i = 0; i < t->n_expected; i++) {
        const struct eval_expected *e = &t->expected[i];
        bool has_marks = e->text.size && strstr(e->text.data, "<|");
        if (t->score != EVAL_REGEX && !has_marks &&
            eval_task_judge(&v, t, get_engine(), e->text, e->calls, &err) == 0) {
            require(v.is_right);
        }
    }
}

static void check_memory(struct slice line)
{
    int rc = CARAT_E_MEMORY;
    for (size_t n = 1, fine = 0; n < FAILURES_MAX && fine < ENOUGH_MEMORY; n++) {
        struct eval_task t = {.n_expected = 0};
        mem_fail_nth(n);
        rc = eval_task_read(&t, line, NULL, NULL, NULL);
        fine = rc == CARAT_E_MEMORY ? 0 : fine + 1;
        mem_fail_nth(0);
        eval_task_release(&t);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *end = size ? memchr(text, '\n', size) : NULL;
    size_t line_size = end ? (size_t)(end - text) : size;
    struct slice line = slice_make(text, line_size);
    struct slice answer = slice_make(end ? end + 1 : "", end ? size - line_size - 1 : 0);
    struct eval_task t = {.n_expected = 0};
    struct carat_error err = {0};
    int rc = eval_task_read(&t, line, NULL, NULL, &err);
    require(rc <= 0);
    require(rc == 0 || err.text[0]);
    if (rc == 0 && t.score != EVAL_CHOICE) {
        check_answer(&t, answer);
        check_expected(&t);
    }
    enum eval_score score = t.score;
    eval_task_release(&t);
    // Expressions allocate much, and have a target of their own.
    if (size < 1000 && score != EVAL_REGEX) {
        check_memory(line);
    }
    return 0;
}
