// SPDX-License-Identifier: Apache-2.0
// Scores as a table for people and as JSON for programs.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/eval_tasks_score.h"

#define NAME_WIDTH_MAX  40
#define MODEL_WIDTH_MIN 8
#define SHOWN_MAX       300 // bytes of an answer in the list of wrong ones

static size_t count_characters(struct slice text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.size; i++) {
        n += ((unsigned char)text.data[i] & 0xC0) != 0x80;
    }
    return n;
}

// A name, the parts of a group further right, and space up to the width.
static void write_name(struct output *out, struct slice name, size_t indent, size_t width)
{
    size_t n = indent + count_characters(name);
    output_format(out, "%*s", (int)indent, "");
    output_foreign(out, name.data, name.size);
    output_format(out, "%*s", (int)(n < width ? width - n : 0), "");
}

static size_t name_width(const struct eval_scores *s)
{
    size_t width = 6;
    for (size_t i = 0; i < s->n_tallies; i++) {
        const struct eval_tally *t = &s->tallies[i];
        size_t n = count_characters(t->name) + (t->is_part ? 2 : 0);
        width = n > width && n <= NAME_WIDTH_MAX ? n : width;
    }
    return width;
}

// Whether the line of all tasks says more than the one above it.
static bool has_sum(const struct eval_scores *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_tallies; i++) {
        n += !s->tallies[i].is_part;
    }
    return n > 1;
}

static double character_rate(const struct eval_tally *t)
{
    const struct word_errors *c = &t->characters;
    return c->n ? (double)(c->substituted + c->deleted + c->inserted) / (double)c->n : 0;
}

// ------------------------------------------------------------------------------ one model

static void write_row(struct output *out, const struct eval_tally *t, const struct eval_tally *all,
                      size_t width)
{
    struct eval_figure share;
    write_name(out, t->name, t->is_part ? 2 : 0, width);
    output_format(out, " %7llu %7llu", (unsigned long long)t->n_right, (unsigned long long)t->n);
    if (t->n == 0) {
        output_text(out, "       -\n");
        return;
    }
    eval_share(&share, t->n_right, t->n);
    output_format(out, " %6.1f%%  %5.1f .. %5.1f", 100 * share.value, 100 * share.low,
                  100 * share.high);
    if (t->n_choices > 0) {
        output_format(out, "  %6.1f%%", 100 * (double)t->n_right_by_length / (double)t->n_choices);
    } else if (all->n_choices > 0 && t->n_words > 0) {
        output_text(out, "         ");
    }
    if (t->n_words > 0) {
        struct eval_figure rate;
        eval_word_rate(&rate, t);
        output_format(out, "  %6.1f%%  %5.1f .. %5.1f  %6.1f%%", 100 * rate.value, 100 * rate.low,
                      100 * rate.high, 100 * character_rate(t));
    }
    output_text(out, "\n");
}

static void write_one(struct output *out, const struct eval_scores *s)
{
    size_t width = name_width(s);
    struct eval_tally all = s->all;
    all.name = slice_of("all");
    output_format(out, "%-*s %7s %7s %7s  %14s", (int)width, "task", "right", "of", "share",
                  "95 % within");
    output_format(out, "%s%s\n", all.n_choices > 0 ? "  by size" : "",
                  all.n_words > 0 ? "      WER     95 % within      CER" : "");
    for (size_t i = 0; i < s->n_tallies; i++) {
        write_row(out, &s->tallies[i], &all, width);
    }
    if (has_sum(s)) {
        write_row(out, &all, &all, width);
    }
}

// ------------------------------------------------------------------------------ several models

// The one figure of a task: the word error rate where all are transcripts, else the share.
static void write_figure(struct output *out, const struct eval_tally *t, int width)
{
    char text[40] = "-";
    if (t->n > 0 && t->n_words == t->n) {
        struct eval_figure rate;
        eval_word_rate(&rate, t);
        snprintf(text, sizeof(text), "WER %.1f%%", 100 * rate.value);
    } else if (t->n > 0) {
        snprintf(text, sizeof(text), "%.1f%%", 100 * (double)t->n_right / (double)t->n);
    }
    output_format(out, "  %*s", width, text);
}

static int model_width(const struct eval_scores *s)
{
    size_t n = count_characters(slice_of(s->model));
    n = n < MODEL_WIDTH_MIN ? MODEL_WIDTH_MIN : n;
    return (int)(n > NAME_WIDTH_MAX ? NAME_WIDTH_MAX : n);
}

static void write_figures(struct output *out, const struct eval_scores *scores, size_t n, size_t i,
                          size_t width)
{
    bool is_sum = i == scores->n_tallies;
    const struct eval_tally *first = is_sum ? &scores->all : &scores->tallies[i];
    write_name(out, is_sum ? slice_of("all") : first->name, first->is_part ? 2 : 0, width);
    output_format(out, " %7llu", (unsigned long long)first->n);
    for (size_t k = 0; k < n; k++) {
        // The same lines in the same order: the same tallies.
        const struct eval_tally *t = is_sum                    ? &scores[k].all
                                     : i < scores[k].n_tallies ? &scores[k].tallies[i]
                                                               : &scores[k].all;
        write_figure(out, t, model_width(&scores[k]));
    }
    output_text(out, "\n");
}

static void write_several(struct output *out, const struct eval_scores *scores, size_t n)
{
    size_t width = name_width(scores);
    output_format(out, "%-*s %7s", (int)width, "task", "of");
    for (size_t k = 0; k < n; k++) {
        size_t room = (size_t)model_width(&scores[k]),
               size = count_characters(slice_of(scores[k].model));
        output_format(out, "  %*s", (int)(size < room ? room - size : 0), "");
        output_foreign(out, scores[k].model, strlen(scores[k].model));
    }
    output_text(out, "\n");
    for (size_t i = 0; i < scores->n_tallies + has_sum(scores); i++) {
        write_figures(out, scores, n, i, width);
    }
}

// ------------------------------------------------------------------------------ wrong answers

// As much of a text as fits, in whole characters.
static void write_text(struct buf *out, const char *text)
{
    size_t size = strlen(text), shown = size < SHOWN_MAX ? size : SHOWN_MAX;
    while (shown < size && ((unsigned char)text[shown] & 0xC0) == 0x80) {
        shown--;
    }
    buf_add(out, text, shown);
    buf_adds(out, shown < size ? "..." : "");
}

static void write_wrong(struct output *out, const struct eval_answer *a, const char *file)
{
    struct buf line = {.max = 1 << 20}, text = {.max = (size_t)1 << 30};
    buf_addf(&line, "%s:%llu", file, (unsigned long long)a->line);
    buf_addf(&line, *a->id ? " %s" : "%s", a->id);
    buf_adds(&line, ": expected ");
    write_text(&line, a->expected);
    buf_adds(&line, ", found ");
    buf_add_json(&text, a->text, strlen(a->text));
    write_text(&line, a->calls && !*a->text ? a->calls : buf_text(&text));
    if (a->score == EVAL_WER) {
        const struct word_errors *w = &a->verdict.words;
        buf_addf(&line, " (%llu substituted, %llu missing, %llu added of %llu words)",
                 (unsigned long long)w->substituted, (unsigned long long)w->deleted,
                 (unsigned long long)w->inserted, (unsigned long long)w->n);
    }
    buf_adds(&line, a->stop == CARAT_STOP_LENGTH ? " (cut off)\n" : "\n");
    output_foreign(out, buf_text(&line), line.size);
    buf_release(&line);
    buf_release(&text);
}

static void write_all_wrong(const struct eval_scores *s, const struct eval_tasks_options *o,
                            bool names_model)
{
    uint64_t n = 0;
    for (size_t i = 0; i < s->n && n < o->settings->wrong.value; i++) {
        const struct eval_answer *a = &s->answers[i];
        if (a->error || a->verdict.is_right) {
            continue;
        }
        if (n++ == 0) {
            output_text(o->out, "\n");
            if (names_model) {
                output_format(o->out, "%s:\n", s->model);
            }
        }
        write_wrong(o->out, a, o->files[a->file]);
    }
}

void eval_tasks_write_table(const struct eval_scores *scores, size_t n,
                            const struct eval_tasks_options *o)
{
    if (n == 1) {
        write_one(o->out, scores);
    } else {
        write_several(o->out, scores, n);
    }
    for (size_t i = 0; i < n; i++) {
        write_all_wrong(&scores[i], o, n > 1);
    }
    output_flush(o->out);
    for (size_t i = 0; i < n && !o->is_quiet; i++) {
        const struct eval_scores *s = &scores[i];
        say_plain("[%s: %s questions in %.1f s; %s tokens read, %s of them known, %s written]",
                  s->model, count_text(s->all.n).text, s->seconds,
                  count_text(s->prompt_tokens).text, count_text(s->reused_tokens).text,
                  count_text(s->answer_tokens).text);
    }
}

// ------------------------------------------------------------------------------ JSON

static void add_string(struct buf *out, const char *name, const char *text)
{
    buf_addf(out, ",\"%s\":", name);
    buf_add_json(out, text, strlen(text));
}

static void add_count(struct buf *out, const char *name, uint64_t n)
{
    buf_addf(out, ",\"%s\":%llu", name, (unsigned long long)n);
}

static void add_number(struct buf *out, const char *name, double value)
{
    buf_addf(out, ",\"%s\":", name);
    buf_add_number(out, value);
}

static void add_figure(struct buf *out, const char *name, const struct eval_figure *f)
{
    add_number(out, name, f->value);
    buf_addf(out, ",\"%s_error\":", name);
    buf_add_number(out, f->error);
    buf_addf(out, ",\"%s_95\":[", name);
    buf_add_number(out, f->low);
    buf_addc(out, ',');
    buf_add_number(out, f->high);
    buf_addc(out, ']');
}

static void add_errors(struct buf *out, const char *name, const struct word_errors *e)
{
    buf_addf(out, ",\"%s\":{\"n\":%llu,\"substituted\":%llu,\"missing\":%llu,\"added\":%llu}", name,
             (unsigned long long)e->n, (unsigned long long)e->substituted,
             (unsigned long long)e->deleted, (unsigned long long)e->inserted);
}

// The members of an object, without its braces.
static void add_tally(struct buf *out, const struct eval_tally *t)
{
    struct eval_figure f;
    buf_addf(out, "\"of\":%llu", (unsigned long long)t->n);
    add_count(out, "right", t->n_right);
    add_count(out, "failed", t->n_failed);
    if (t->n > 0) {
        eval_share(&f, t->n_right, t->n);
        add_figure(out, "share", &f);
    }
    if (t->n_choices > 0) {
        add_count(out, "choices", t->n_choices);
        add_count(out, "right_by_length", t->n_right_by_length);
    }
    if (t->n_words > 0) {
        eval_word_rate(&f, t);
        add_count(out, "transcripts", t->n_words);
        add_figure(out, "wer", &f);
        add_number(out, "cer", character_rate(t));
        add_errors(out, "words", &t->words);
        add_errors(out, "characters", &t->characters);
    }
}

static const char *stop_name(const struct eval_answer *a)
{
    switch (a->stop) {
    case CARAT_STOP_LENGTH:
        return "length";
    case CARAT_STOP_TOOL:
        return "tool_calls";
    case CARAT_STOP_LOOP:
    case CARAT_STOP_NONE:
    case CARAT_STOP_STRING:
    case CARAT_STOP_TURN:
    case CARAT_STOP_USER:
        break;
    }
    return "stop";
}

static void add_outcome(struct buf *out, const struct eval_answer *a)
{
    buf_addf(out, ",\"right\":%s", a->verdict.is_right ? "true" : "false");
    add_string(out, "answer", a->text);
    if (a->score == EVAL_CHOICE) {
        add_count(out, "choice", a->choice);
        add_count(out, "choice_by_length", a->choice_by_length);
        buf_addf(out, ",\"right_by_length\":%s,\"logprobs\":[",
                 a->is_right_by_length ? "true" : "false");
        for (size_t i = 0; i < a->n_choices; i++) {
            buf_adds(out, i ? "," : "");
            buf_add_number(out, a->logprobs[i]);
        }
        buf_addc(out, ']');
        return;
    }
    if (*a->thought) {
        add_string(out, "reasoning", a->thought);
    }
    if (a->calls) {
        buf_addf(out, ",\"tool_calls\":%s", a->calls);
    }
    add_string(out, "finish_reason", stop_name(a));
    add_count(out, "answer_tokens", a->n_tokens);
    if (a->score == EVAL_WER) {
        add_errors(out, "words", &a->verdict.words);
        add_errors(out, "characters", &a->verdict.characters);
    }
}

static void add_answer(struct buf *out, const struct eval_answer *a, const char *file)
{
    buf_adds(out, "{\"file\":");
    buf_add_json(out, file, strlen(file));
    add_count(out, "line", a->line);
    if (*a->id) {
        add_string(out, "id", a->id);
    }
    add_string(out, "task", a->task);
    add_string(out, "score", eval_score_names[a->score]);
    buf_addf(out, ",\"expected\":%s", a->expected);
    add_count(out, "prompt_tokens", a->n_prompt);
    if (a->error) {
        add_string(out, "error", a->error);
    } else {
        add_outcome(out, a);
    }
    buf_addc(out, '}');
}

static void add_scores(struct buf *out, const struct eval_scores *s)
{
    buf_adds(out, "{\"model\":");
    buf_add_json(out, s->model, strlen(s->model));
    buf_adds(out, ",\"all\":{");
    add_tally(out, &s->all);
    buf_adds(out, "},\"tasks\":[");
    for (size_t i = 0; i < s->n_tallies; i++) {
        buf_adds(out, i ? ",{\"task\":" : "{\"task\":");
        buf_add_json(out, s->tallies[i].name.data, s->tallies[i].name.size);
        buf_addc(out, ',');
        add_tally(out, &s->tallies[i]);
        buf_addc(out, '}');
    }
    buf_addc(out, ']');
    add_count(out, "prompt_tokens", s->prompt_tokens);
    add_count(out, "reused_tokens", s->reused_tokens);
    add_count(out, "answer_tokens", s->answer_tokens);
    add_number(out, "seconds", s->seconds);
}

// Written piece by piece: the answers may be many.
static int write_piece(struct output *out, struct buf *piece, struct carat_error *err)
{
    int rc = buf_status(piece, err);
    if (rc == 0) {
        output_write(out, buf_text(piece), piece->size);
    }
    buf_clear(piece);
    return rc;
}

int eval_tasks_write_json(const struct eval_scores *scores, size_t n,
                          const struct eval_tasks_options *o, struct carat_error *err)
{
    struct buf piece = {0};
    int rc = 0;
    buf_adds(&piece, "{\"models\":[");
    for (size_t k = 0; rc == 0 && k < n; k++) {
        const struct eval_scores *s = &scores[k];
        buf_adds(&piece, k ? "," : "");
        add_scores(&piece, s);
        buf_adds(&piece, ",\"answers\":[");
        for (size_t i = 0; rc == 0 && i < s->n; i++) {
            buf_adds(&piece, i ? ",\n" : "\n");
            add_answer(&piece, &s->answers[i], o->files[s->answers[i].file]);
            rc = write_piece(o->out, &piece, err);
        }
        buf_adds(&piece, "]}");
    }
    buf_adds(&piece, "]}\n");
    rc = rc ? rc : write_piece(o->out, &piece, err);
    buf_release(&piece);
    output_flush(o->out);
    return rc;
}
