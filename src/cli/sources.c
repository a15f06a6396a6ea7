// SPDX-License-Identifier: Apache-2.0
// A file and the environment are turned into words as a user would type them: one parser, one set
// of names and limits. Each is tried alone first, so that an error can say where it stands.
#include "cli/sources.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/os.h"

#define FILE_SIZE_MAX ((size_t)1 << 20)
#define WORDS_MAX     4096
#define WHERE_MAX     512

struct gathering {
    struct sources *sources;
    const struct command *command;
    char **words; // the user's
    size_t n_words;
    size_t n_file; // words of the file
};

// Whether one of these words gives this option.
static bool are_giving(char **words, size_t n, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; i < n && strcmp(words[i], "--") != 0; i++) {
        const char *word = words[i];
        if (strncmp(word, "--", 2) == 0 && strncmp(word + 2, name, size) == 0 &&
            (word[2 + size] == '=' || word[2 + size] == '\0')) {
            return true;
        }
    }
    return false;
}

static bool read_switch(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "true", "yes", "on"};
    static const char *const no[] = {"0", "false", "no", "off"};
    for (size_t i = 0; i < 4; i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *out = strcasecmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

// Tells what is wrong with a word by itself, if anything is.
static int try_word(const struct command *command, char *word, const char *where,
                    struct carat_error *err)
{
    const char *args[2];
    bool wants_help = false;
    struct command_call call = {.command = command};
    void *options = mem_new(command->options_size, err);
    if (!options) {
        return CARAT_E_MEMORY;
    }
    int rc = options_parse(&call, options, args, &word, 1, &wants_help, err);
    mem_free(options);
    if (rc) {
        fail_prefix(err, where);
    }
    return rc;
}

static int add_word(struct gathering *g, const char *name, const char *value, const char *where,
                    struct carat_error *err)
{
    struct sources *c = g->sources;
    size_t size = strlen(name) + (value ? strlen(value) : 0) + 4;
    if (c->n == WORDS_MAX) {
        return fail(err, CARAT_E_FULL, "%s: more than %d options", where, WORDS_MAX);
    }
    char *word = arena_take(&c->arena, size, err);
    if (!word) {
        return CARAT_E_MEMORY;
    }
    snprintf(word, size, "--%s%s%s", name, value ? "=" : "", value ? value : "");
    c->words[c->n++] = word;
    return try_word(g->command, word, where, err);
}

// One setting, from either source.
static int add_setting(struct gathering *g, const char *name, const char *value, const char *where,
                       struct carat_error *err)
{
    const struct option *o = option_find(g->command, name, strlen(name));
    bool is_on = false;
    if (o && o->type == OPTION_FLAG) {
        if (!read_switch(value, &is_on)) {
            return fail(err, CARAT_E_ARGUMENT, "%s: %s: expected true or false, found '%s'", where,
                        name, value);
        }
        return is_on ? add_word(g, name, NULL, where, err) : 0;
    }
    return add_word(g, name, value, where, err);
}

/* -------------------------------------------------------------------------------- the file */

// "name = value", with spaces around either and quotes around the value; empty lines and those that
// begin with # are skipped.
static int read_line(struct gathering *g, struct slice line, const char *where,
                     struct carat_error *err)
{
    line = utf8_trim(line);
    if (line.size == 0 || line.data[0] == '#') {
        return 0;
    }
    const char *equals = memchr(line.data, '=', line.size);
    if (!equals) {
        return fail(err, CARAT_E_FORMAT, "%s: expected 'name = value', found '%.*s'", where,
                    (int)(line.size < 100 ? line.size : 100), line.data);
    }
    size_t at = (size_t)(equals - line.data);
    struct slice name = utf8_trim(slice_make(line.data, at));
    struct slice value = utf8_trim(slice_make(equals + 1, line.size - at - 1));
    if (value.size >= 2 && value.data[0] == '"' && value.data[value.size - 1] == '"') {
        value = slice_make(value.data + 1, value.size - 2);
    }
    const char *name_text = arena_strndup(&g->sources->arena, name.data, name.size, err);
    const char *value_text = arena_strndup(&g->sources->arena, value.data, value.size, err);
    if (!name_text || !value_text) {
        return CARAT_E_MEMORY;
    }
    if (strcmp(name_text, "config") == 0 || strcmp(name_text, "help") == 0) {
        return fail(err, CARAT_E_ARGUMENT, "%s: %s does not belong into a file", where, name_text);
    }
    return add_setting(g, name_text, value_text, where, err);
}

static int read_file(struct gathering *g, const char *path, struct carat_error *err)
{
    struct buf text = {.max = FILE_SIZE_MAX};
    size_t number = 0;
    int rc = os_read_file(&text, path, FILE_SIZE_MAX, err);
    if (rc == 0 && memchr(buf_text(&text), '\0', text.size)) {
        rc = fail(err, CARAT_E_FORMAT, "%s: expected a text of 'name = value' lines", path);
    }
    for (size_t at = 0; rc == 0 && at < text.size;) {
        const char *start = text.data + at;
        const char *end = memchr(start, '\n', text.size - at);
        size_t size = end ? (size_t)(end - start) : text.size - at;
        char where[WHERE_MAX];
        snprintf(where, sizeof(where), "%.480s:%zu", path, ++number);
        rc = read_line(g, slice_make(start, size), where, err);
        at += size + 1;
    }
    buf_release(&text);
    return rc;
}

// The value of --config among the user's words; NULL when it is not there.
static const char *named_file(const struct gathering *g)
{
    const char *found = NULL;
    for (size_t i = 0; i < g->n_words && strcmp(g->words[i], "--") != 0; i++) {
        if (strncmp(g->words[i], "--config=", 9) == 0) {
            found = g->words[i] + 9;
        } else if (strcmp(g->words[i], "--config") == 0 && i + 1 < g->n_words) {
            found = g->words[++i];
        }
    }
    return found ? found : os_env("CARAT_CONFIG");
}

static int find_file(struct buf *path, const struct gathering *g)
{
    const char *named = named_file(g);
    const char *folder = os_env("XDG_CONFIG_HOME"), *home = os_env("HOME");
    if (named) {
        buf_adds(path, named);
        return path->size > 0;
    }
    if (folder) {
        buf_adds(path, folder);
    } else if (home) {
        buf_addf(path, "%s/.config", home);
    } else {
        return false;
    }
    buf_addf(path, "/carat/%s.conf", g->command->name);
    return !path->has_failed && os_is_file(path->data);
}

/* -------------------------------------------------------------------------------- environment */

// CARAT_API_KEY for api-key. False: the name is too long to be one.
static bool environment_name(char *out, size_t capacity, const char *name)
{
    if (strlen(name) + sizeof("CARAT_") > capacity) {
        return false;
    }
    size_t n = (size_t)snprintf(out, capacity, "CARAT_%s", name);
    for (size_t i = 0; i < n; i++) {
        char c = out[i];
        out[i] = c == '-' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
    }
    return true;
}

// Of an option that may be repeated, a list with commas.
static int add_list(struct gathering *g, const char *name, const char *value, const char *where,
                    struct carat_error *err)
{
    int rc = 0;
    for (const char *at = value; rc == 0; at++) {
        size_t size = strcspn(at, ",");
        struct slice item = utf8_trim(slice_make(at, size));
        const char *text = arena_strndup(&g->sources->arena, item.data, item.size, err);
        rc = !text ? CARAT_E_MEMORY : item.size ? add_word(g, name, text, where, err) : 0;
        at += size;
        if (!*at) {
            break;
        }
    }
    return rc;
}

static int read_environment(struct gathering *g, struct carat_error *err)
{
    int rc = 0;
    for (const struct option_group *group = g->command->groups; group->options; group++) {
        for (const struct option *o = group->options; o->name && rc == 0; o++) {
            char variable[100];
            const char *value =
                environment_name(variable, sizeof(variable), o->name) ? os_env(variable) : NULL;
            if (!value || strcmp(o->name, "config") == 0 ||
                are_giving(g->words, g->n_words, o->name)) {
                continue;
            }
            // A switch that is off here is off whatever the file says.
            for (size_t i = 0; i < g->n_file; i++) {
                if (g->sources->words[i] && are_giving(&g->sources->words[i], 1, o->name)) {
                    g->sources->words[i] = NULL;
                }
            }
            rc = o->type == OPTION_TEXTS ? add_list(g, o->name, value, variable, err)
                                         : add_setting(g, o->name, value, variable, err);
        }
    }
    return rc;
}

/* -------------------------------------------------------------------------------- together */

// Leaves out what the file says of options that the user gives.
static void drop_given(struct gathering *g)
{
    struct sources *c = g->sources;
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        char *word = c->words[i];
        char name[100] = "";
        if (word && i < g->n_file) {
            snprintf(name, sizeof(name), "%.*s", (int)strcspn(word + 2, "="), word + 2);
        }
        if (word && !(name[0] && are_giving(g->words, g->n_words, name))) {
            c->words[n++] = word;
        }
    }
    c->n = n;
}

int sources_gather(struct sources *c, const struct command *command, char **words, size_t n_words,
                   struct carat_error *err)
{
    struct gathering g = {.sources = c, .command = command, .words = words, .n_words = n_words};
    struct buf path = {.max = 1 << 14};
    int rc = 0;
    c->words = mem_new_array(WORDS_MAX + n_words, sizeof(*c->words), err);
    if (!c->words) {
        return CARAT_E_MEMORY;
    }
    if (find_file(&path, &g)) {
        rc = read_file(&g, path.data, err);
    }
    g.n_file = c->n;
    rc = rc ? rc : read_environment(&g, err);
    drop_given(&g);
    for (size_t i = 0; i < n_words; i++) {
        c->words[c->n++] = words[i];
    }
    buf_release(&path);
    return rc;
}

void sources_release(struct sources *c)
{
    mem_free(c->words);
    arena_release(&c->arena);
}
