// SPDX-License-Identifier: Apache-2.0
// From the words of the command line to a command's struct, by the rows of its option groups.
#include "cli/options.h"

#include "base/error.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX 40 // longer words are not compared for suggestions

const struct command *command_find(const char *name)
{
    for (size_t i = 0; commands[i]; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static size_t smallest(size_t a, size_t b)
{
    return a < b ? a : b;
}

// Letters put in, left out, changed, or swapped with their neighbour (Damerau's distance, without
// edits inside a swap).
size_t edit_distance(const char *a, const char *b)
{
    size_t n_a = strlen(a), n_b = strlen(b);
    if (n_a > WORD_MAX || n_b > WORD_MAX) {
        return WORD_MAX;
    }
    // Row i % 3: edits that turn the first i letters of a into each beginning of b.
    size_t rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= n_b; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= n_a; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            bool is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            row[j] =
                smallest(above[j - 1] + (a[i - 1] != b[j - 1]), smallest(above[j], row[j - 1]) + 1);
            row[j] = is_swap ? smallest(row[j], before[j - 2] + 1) : row[j];
        }
    }
    return rows[n_a % 3][n_b];
}

// Whether a word that is this many edits away may be what was meant.
static bool is_near(const char *meant, size_t distance)
{
    size_t length = strlen(meant);
    return distance <= (length < 4 ? 1 : length < 8 ? 2 : 3);
}

const char *command_nearest(const char *name)
{
    const char *best = NULL;
    size_t best_distance = WORD_MAX;
    for (size_t i = 0; commands[i]; i++) {
        size_t distance = edit_distance(name, commands[i]->name);
        if (distance < best_distance) {
            best_distance = distance;
            best = commands[i]->name;
        }
    }
    return best && is_near(best, best_distance) ? best : NULL;
}

// The row of this name and the place where its group begins.
static const struct option *find_option(const struct command *command, const char *name,
                                        size_t size, size_t *group_offset)
{
    for (const struct option_group *g = command->groups; g && g->options; g++) {
        for (const struct option *o = g->options; o->name; o++) {
            if (strlen(o->name) == size && memcmp(o->name, name, size) == 0) {
                *group_offset = g->offset;
                return o;
            }
        }
    }
    return NULL;
}

const struct option *option_find(const struct command *command, const char *name, size_t size)
{
    size_t group_offset = 0;
    return find_option(command, name, size, &group_offset);
}

static int fail_unknown(const struct command *command, const char *word, size_t size,
                        struct carat_error *err)
{
    char name[WORD_MAX + 1] = "";
    const char *best = NULL;
    size_t best_distance = WORD_MAX;
    if (size <= WORD_MAX) {
        memcpy(name, word, size);
    }
    for (const struct option_group *g = command->groups; g && g->options; g++) {
        for (const struct option *o = g->options; o->name; o++) {
            size_t distance = edit_distance(name, o->name);
            bool is_beginning = size >= 3 && strncmp(o->name, name, size) == 0;
            if (is_beginning) {
                distance = 0;
            }
            if (distance < best_distance) {
                best_distance = distance;
                best = o->name;
            }
        }
    }
    if (best && is_near(best, best_distance)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "%s: unknown option '--%.*s': did you mean '--%s'? ('carat help %s' lists all)",
                    command->name, (int)size, word, best, command->name);
    }
    return fail(err, CARAT_E_ARGUMENT, "%s: unknown option '--%.*s' ('carat help %s' lists all)",
                command->name, (int)size, word, command->name);
}

bool parse_count(const char *text, double min, double max, uint64_t *out)
{
    if (!*text || strspn(text, "0123456789") != strlen(text)) {
        return false;
    }
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno || (double)value < min || (double)value > max) {
        return false;
    }
    *out = value;
    return true;
}

static int fail_count(const struct option *o, const char *text, struct carat_error *err)
{
    return fail(err, CARAT_E_ARGUMENT, "--%s: expected an integer from %.0f to %.0f%s, found '%s'",
                o->name, o->min, o->max, o->type == OPTION_COUNTS ? ", or several with commas" : "",
                text);
}

static int store_counts(const struct option *o, struct option_counts *list, const char *text,
                        struct carat_error *err)
{
    struct option_counts found = {.n = 0};
    const char *at = text;
    for (;;) {
        char item[24];
        size_t size = strcspn(at, ",");
        if (size >= sizeof(item)) {
            return fail_count(o, text, err);
        }
        memcpy(item, at, size);
        item[size] = '\0';
        if (found.n == OPTION_COUNTS_MAX) {
            return fail(err, CARAT_E_ARGUMENT, "--%s: more than %d values", o->name,
                        OPTION_COUNTS_MAX);
        }
        if (!parse_count(item, o->min, o->max, &found.items[found.n])) {
            return fail_count(o, text, err);
        }
        found.n++;
        if (!at[size]) {
            break;
        }
        at += size + 1;
    }
    *list = found;
    return 0;
}

static int store_number(const struct option *o, struct option_number *out, const char *text,
                        struct carat_error *err)
{
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    if (!*text || *end || errno == ERANGE || !isfinite(value) || value < o->min || value > o->max) {
        return fail(err, CARAT_E_ARGUMENT, "--%s: expected a number from %g to %g, found '%s'",
                    o->name, o->min, o->max, text);
    }
    out->is_set = true;
    out->value = value;
    return 0;
}

static int store_choice(const struct option *o, size_t *out, const char *text,
                        struct carat_error *err)
{
    for (size_t i = 0; o->choices[i]; i++) {
        if (strcmp(o->choices[i], text) == 0) {
            *out = i;
            return 0;
        }
    }
    struct buf list = {.max = 500};
    for (size_t i = 0; o->choices[i]; i++) {
        buf_addf(&list, "%s%s", i ? ", " : "", o->choices[i]);
    }
    int rc = fail(err, CARAT_E_ARGUMENT, "--%s: expected one of %s, found '%s'", o->name,
                  buf_text(&list), text);
    buf_release(&list);
    return rc;
}

static int store_text(const struct option *o, struct option_texts *list, const char *text,
                      struct carat_error *err)
{
    if (list->n == OPTION_TEXTS_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "--%s: given more than %d times", o->name,
                    OPTION_TEXTS_MAX);
    }
    list->items[list->n++] = text;
    return 0;
}

static int store_word(const struct option *o, struct option_words *list, const char *text,
                      size_t n_args, struct carat_error *err)
{
    if (list->n == OPTION_WORDS_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "--%s: more than %d such options", o->name,
                    OPTION_WORDS_MAX);
    }
    list->items[list->n++] =
        (struct option_word){.name = o->name, .value = text, .n_args_before = n_args};
    return 0;
}

static int store(const struct option *o, void *at, const char *text, size_t n_args,
                 struct carat_error *err)
{
    struct option_count *count = at;
    switch (o->type) {
    case OPTION_FLAG:
        *(bool *)at = true;
        return 0;
    case OPTION_TEXT:
        *(const char **)at = text;
        return 0;
    case OPTION_TEXTS:
        return store_text(o, at, text, err);
    case OPTION_WORD:
        return store_word(o, at, text, n_args, err);
    case OPTION_COUNT:
        count->is_set = parse_count(text, o->min, o->max, &count->value);
        return count->is_set ? 0 : fail_count(o, text, err);
    case OPTION_COUNTS:
        return store_counts(o, at, text, err);
    case OPTION_NUMBER:
        return store_number(o, at, text, err);
    case OPTION_CHOICE:
        return store_choice(o, at, text, err);
    }
    return 0;
}

// One word that begins with "--"; takes the next word as its value when it needs one.
static int parse_option(const struct command_call *call, void *options, char **words,
                        size_t n_words, size_t *i, struct carat_error *err)
{
    const struct command *command = call->command;
    const char *name = words[*i] + 2;
    size_t size = strcspn(name, "=");
    size_t group_offset = 0;
    const struct option *o = find_option(command, name, size, &group_offset);
    if (!o) {
        return fail_unknown(command, name, size, err);
    }
    const char *value = name[size] == '=' ? name + size + 1 : NULL;
    bool takes_value = o->argument || o->type == OPTION_CHOICE;
    if (!takes_value && value) {
        return fail(err, CARAT_E_ARGUMENT, "--%s takes no value", o->name);
    }
    if (takes_value && !value) {
        if (*i + 1 >= n_words) {
            return fail(err, CARAT_E_ARGUMENT, "--%s needs a value: --%s %s", o->name, o->name,
                        o->argument);
        }
        value = words[++*i];
    }
    return store(o, (char *)options + group_offset + o->offset, value, call->n_args, err);
}

int options_parse(struct command_call *call, void *options, const char **args, char **words,
                  size_t n_words, bool *wants_help, struct carat_error *err)
{
    bool is_over = false;
    *wants_help = false;
    call->options = options;
    call->args = args;
    for (size_t i = 0; i < n_words; i++) {
        const char *word = words[i];
        if (!is_over && strcmp(word, "--") == 0) {
            is_over = true;
            call->n_before_dashes = call->n_args;
        } else if (!is_over && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            *wants_help = true;
            return 0;
        } else if (call->command->is_missing) {
            continue;
        } else if (!is_over && strncmp(word, "--", 2) == 0) {
            int rc = parse_option(call, options, words, n_words, &i, err);
            if (rc) {
                return rc;
            }
        } else if (!is_over && word[0] == '-' && word[1]) {
            return fail(err, CARAT_E_ARGUMENT,
                        "%s: unknown option '%s': options are long, as in --help; text that "
                        "begins with a dash goes after '--'",
                        call->command->name, word);
        } else {
            args[call->n_args++] = word;
        }
    }
    if (!is_over) {
        call->n_before_dashes = call->n_args;
    }
    if (call->n_args > call->command->args_max) {
        return fail(err, CARAT_E_ARGUMENT,
                    "%s: '%s' is one argument too many: text with spaces needs quotes ('carat help "
                    "%s' shows how)",
                    call->command->name, args[call->command->args_max], call->command->name);
    }
    return 0;
}
