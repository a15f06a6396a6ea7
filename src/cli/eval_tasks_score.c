// SPDX-License-Identifier: Apache-2.0
// From answers to scores.
#include "cli/eval_tasks_score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"

#define Z95 1.959963984540054 // of the normal distribution, both sides

// ------------------------------------------------------------------------------ figures

// Wilson: Probable Inference, the Law of Succession, and Statistical Inference, 1927.
void eval_share(struct eval_figure *out, uint64_t n_right, uint64_t n)
{
    double p = (double)n_right / (double)n, square = Z95 * Z95 / (double)n;
    double middle = (p + square / 2) / (1 + square);
    double half = Z95 / (1 + square) * sqrt(p * (1 - p) / (double)n + square / (double)n / 4);
    *out = (struct eval_figure){.value = p,
                                .error = sqrt(p * (1 - p) / (double)n),
                                .low = n_right == 0 ? 0 : middle - half,
                                .high = n_right == n ? 1 : middle + half};
}

// The spread of a ratio of sums (Cochran: Sampling Techniques, 1977, chapter 6).
void eval_word_rate(struct eval_figure *out, const struct eval_tally *t)
{
    double words = (double)t->words.n, n = (double)t->n_words;
    double errors = (double)(t->words.substituted + t->words.deleted + t->words.inserted);
    double rate = errors / words;
    double spread = t->errors_square - 2 * rate * t->errors_words + rate * rate * t->words_square;
    double error = n > 1 && spread > 0 ? sqrt(spread * n / (n - 1)) / words : 0;
    double low = rate - Z95 * error;
    *out = (struct eval_figure){
        .value = rate, .error = error, .low = low > 0 ? low : 0, .high = rate + Z95 * error};
}

// ------------------------------------------------------------------------------ adding up

static void add_errors(struct word_errors *sum, const struct word_errors *e)
{
    sum->n += e->n;
    sum->substituted += e->substituted;
    sum->deleted += e->deleted;
    sum->inserted += e->inserted;
}

static void add_answer(struct eval_tally *t, const struct eval_answer *a)
{
    if (a->error) {
        t->n_failed++;
        return;
    }
    t->n++;
    t->n_right += a->verdict.is_right;
    if (a->score == EVAL_CHOICE) {
        t->n_choices++;
        t->n_right_by_length += a->is_right_by_length;
    }
    if (a->score == EVAL_WER) {
        const struct word_errors *w = &a->verdict.words;
        double errors = (double)(w->substituted + w->deleted + w->inserted);
        double words = (double)w->n;
        t->n_words++;
        t->errors_square += errors * errors;
        t->words_square += words * words;
        t->errors_words += errors * words;
        add_errors(&t->words, w);
        add_errors(&t->characters, &a->verdict.characters);
    }
}

// Where a tally stands, by its name; made when it is new.
static int find_tally(size_t *out, struct eval_scores *s, struct map *names, struct slice name,
                      struct carat_error *err)
{
    uint32_t existing = MAP_NONE;
    if (s->n_tallies == s->tallies_capacity) {
        size_t capacity = s->tallies_capacity ? 2 * s->tallies_capacity : 16, size = 0;
        struct eval_tally *grown = NULL;
        if (size_mul(&size, capacity, sizeof(*grown))) {
            grown = mem_resize(s->tallies, size, err);
        }
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        s->tallies = grown;
        s->tallies_capacity = capacity;
    }
    int rc = map_put(names, name, (uint32_t)s->n_tallies, &existing, err);
    if (rc) {
        return rc;
    }
    if (existing == MAP_NONE) {
        s->tallies[s->n_tallies] = (struct eval_tally){.name = name, .group = s->n_tallies};
        existing = (uint32_t)s->n_tallies++;
    }
    *out = existing;
    return 0;
}

static int add_to_tallies(struct eval_scores *s, struct map *names, const struct eval_answer *a,
                          struct carat_error *err)
{
    const char *colon = strchr(a->task, ':');
    struct slice name = slice_of(a->task);
    size_t group = 0, own = 0;
    bool is_part = colon && colon > a->task;
    if (is_part) {
        int rc = find_tally(&group, s, names, slice_make(a->task, (size_t)(colon - a->task)), err);
        if (rc) {
            return rc;
        }
        add_answer(&s->tallies[group], a);
    }
    int rc = find_tally(&own, s, names, name, err);
    if (rc) {
        return rc;
    }
    if (is_part) {
        s->tallies[own].is_part = true;
        s->tallies[own].group = group;
    }
    add_answer(&s->tallies[own], a);
    return 0;
}

// Groups stay in their order, with their parts behind them.
static int compare_tallies(const void *left, const void *right)
{
    const struct eval_tally *a = left, *b = right;
    if (a->group != b->group) {
        return a->group < b->group ? -1 : 1;
    }
    if (a->is_part != b->is_part) {
        return a->is_part ? 1 : -1;
    }
    return a->first < b->first ? -1 : a->first > b->first;
}

int eval_scores_add_up(struct eval_scores *s, struct carat_error *err)
{
    struct map names = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->n; i++) {
        add_answer(&s->all, &s->answers[i]);
        rc = add_to_tallies(s, &names, &s->answers[i], err);
    }
    map_release(&names);
    for (size_t i = 0; i < s->n_tallies; i++) {
        s->tallies[i].first = i;
    }
    if (rc == 0 && s->n_tallies > 0) {
        qsort(s->tallies, s->n_tallies, sizeof(*s->tallies), compare_tallies);
    }
    return rc;
}

void eval_scores_release(struct eval_scores *s)
{
    for (size_t i = 0; i < s->n; i++) {
        struct eval_answer *a = &s->answers[i];
        mem_free(a->id);
        mem_free(a->task);
        mem_free(a->expected);
        mem_free(a->text);
        mem_free(a->thought);
        mem_free(a->calls);
        mem_free(a->error);
        mem_free(a->logprobs);
    }
    mem_free(s->answers);
    mem_free(s->tallies);
    mem_free(s->model);
    *s = (struct eval_scores){.n = 0};
}
