// SPDX-License-Identifier: Apache-2.0
// Everything here walks commands[]: a new row has its help, man page and completion at once.
#include "cli/help.h"

#include <string.h>

#define COLUMNS_MAX 100
#define COLUMN_HELP 26 // where an option's explanation begins

// Appends words of text, broken at spaces, each line indented; `at` is the column already reached.
static void add_wrapped(struct buf *out, const char *text, size_t indent, size_t at, size_t columns)
{
    const char *word = text;
    bool is_first = true;
    while (*word) {
        size_t size = strcspn(word, " \n");
        bool ends_paragraph = word[size] == '\n' && word[size + 1] == '\n';
        if (!is_first && at + 1 + size > columns) {
            buf_addf(out, "\n%*s", (int)indent, "");
            at = indent;
            is_first = true;
        }
        buf_addf(out, "%s%.*s", is_first ? "" : " ", (int)size, word);
        at += size + (is_first ? 0 : 1);
        is_first = false;
        word += size + (word[size] ? 1 : 0);
        if (ends_paragraph) {
            word++;
            buf_addf(out, "\n\n%*s", (int)indent, "");
            at = indent;
            is_first = true;
        }
    }
    buf_addc(out, '\n');
}

// What follows an option's name: its value, or the choices there are.
static void add_argument(struct buf *out, const struct option *o)
{
    if (o->type == OPTION_CHOICE) {
        for (size_t i = 0; o->choices[i]; i++) {
            buf_addf(out, "%s%s", i ? "|" : " ", o->choices[i]);
        }
    } else if (o->argument) {
        buf_addf(out, " %s", o->argument);
    }
}

static void add_option(struct buf *out, const struct option *o, size_t columns)
{
    struct buf left = {.max = 200};
    buf_addf(&left, "  --%s", o->name);
    add_argument(&left, o);
    buf_adds(out, buf_text(&left));
    if (left.size + 2 > COLUMN_HELP) {
        buf_addf(out, "\n%*s", COLUMN_HELP, "");
    } else {
        buf_addf(out, "%*s", COLUMN_HELP - (int)left.size, "");
    }
    add_wrapped(out, o->help, COLUMN_HELP, COLUMN_HELP, columns);
    buf_release(&left);
}

void help_command(struct buf *out, const struct command *command, size_t columns)
{
    columns = columns > COLUMNS_MAX ? COLUMNS_MAX : columns < 50 ? 50 : columns;
    buf_addf(out, "carat %s: %s\n\nUsage: carat %s %s\n\n", command->name, command->summary,
             command->name, command->synopsis);
    add_wrapped(out, command->details, 0, 0, columns);
    for (const struct option_group *g = command->groups; g && g->options; g++) {
        buf_addf(out, "\n%s:\n", g->title);
        for (const struct option *o = g->options; o->name; o++) {
            add_option(out, o, columns);
        }
    }
    if (command->examples) {
        buf_adds(out, "\nExamples:\n");
        for (const struct example *e = command->examples; e->line; e++) {
            buf_addf(out, "  %s\n      ", e->line);
            add_wrapped(out, e->what, 6, 6, columns);
        }
    }
}

static const char about_model[] =
    "MODEL is a GGUF file (of a split set, the first one), a Hugging Face directory, or the name "
    "of "
    "a pulled model. Without it the environment variable CARAT_MODEL is used, then the newest "
    "model "
    "that was pulled, and at last the small demonstration model that comes with carat.";

void help_program(struct buf *out, size_t columns)
{
    columns = columns > COLUMNS_MAX ? COLUMNS_MAX : columns < 50 ? 50 : columns;
    buf_addf(out,
             "carat %s: a local engine for Gemma 4 models\n\n"
             "Usage: carat COMMAND [MODEL] [ARGUMENT...] [--OPTION...]\n\nCommands:\n",
             carat_version());
    for (size_t i = 0; commands[i]; i++) {
        buf_addf(out, "  %-12s ", commands[i]->name);
        add_wrapped(out, commands[i]->summary, 15, 15, columns);
    }
    buf_addc(out, '\n');
    add_wrapped(out, about_model, 0, 0, columns);
    buf_adds(out, "\n'carat COMMAND --help' explains one command, with examples.\n");
}

// Text for troff: what would be taken for a command is escaped.
static void add_troff(struct buf *out, const char *text)
{
    bool is_line_start = true;
    for (const char *c = text; *c; c++) {
        if (*c == '\n' && c[1] == '\n') {
            buf_adds(out, "\n.PP\n");
            c++;
            is_line_start = true;
            continue;
        }
        if (is_line_start && (*c == '.' || *c == '\'')) {
            buf_adds(out, "\\&");
        }
        if (*c == '\\') {
            buf_adds(out, "\\e");
        } else if (*c == '-') {
            buf_adds(out, "\\-");
        } else {
            buf_addc(out, *c);
        }
        is_line_start = *c == '\n';
    }
}

static void add_manual_command(struct buf *out, const struct command *command)
{
    buf_adds(out, ".SH SYNOPSIS\n.B carat ");
    add_troff(out, command->name);
    buf_adds(out, "\n");
    add_troff(out, command->synopsis);
    buf_adds(out, "\n.SH DESCRIPTION\n");
    add_troff(out, command->details);
    buf_adds(out, "\n");
    for (const struct option_group *g = command->groups; g && g->options; g++) {
        buf_adds(out, ".SS ");
        add_troff(out, g->title);
        buf_adds(out, "\n");
        for (const struct option *o = g->options; o->name; o++) {
            buf_adds(out, ".TP\n.B \\-\\-");
            add_troff(out, o->name);
            struct buf argument = {.max = 200};
            add_argument(&argument, o);
            add_troff(out, buf_text(&argument));
            buf_release(&argument);
            buf_adds(out, "\n");
            add_troff(out, o->help);
            buf_adds(out, "\n");
        }
    }
    for (const struct example *e = command->examples; e && e->line; e++) {
        buf_adds(out, e == command->examples ? ".SH EXAMPLES\n.TP\n.B " : ".TP\n.B ");
        add_troff(out, e->line);
        buf_adds(out, "\n");
        add_troff(out, e->what);
        buf_adds(out, "\n");
    }
}

static const char exit_status[] = ".SH EXIT STATUS\n0 when all went well, 1 when something failed, "
                                  "2 when the command line was wrong, 130 after an interrupt.\n";

void help_manual(struct buf *out, const struct command *command)
{
    if (command) {
        buf_addf(out, ".TH CARAT\\-%s 1 \"\" \"carat %s\"\n.SH NAME\ncarat\\-%s \\- ",
                 command->name, carat_version(), command->name);
        add_troff(out, command->summary);
        buf_adds(out, "\n");
        add_manual_command(out, command);
        buf_adds(out, exit_status);
        buf_adds(out, ".SH SEE ALSO\n.BR carat (1)\n");
        return;
    }
    buf_addf(
        out,
        ".TH CARAT 1 \"\" \"carat %s\"\n.SH NAME\ncarat \\- a local engine for Gemma 4 models\n"
        ".SH SYNOPSIS\n.B carat\nCOMMAND [MODEL] [ARGUMENT...] [\\-\\-OPTION...]\n"
        ".SH DESCRIPTION\n",
        carat_version());
    add_troff(out, about_model);
    buf_adds(out, "\n.SH COMMANDS\n");
    for (size_t i = 0; commands[i]; i++) {
        buf_addf(out, ".TP\n.BR carat\\-%s (1)\n", commands[i]->name);
        add_troff(out, commands[i]->summary);
        buf_adds(out, "\n");
    }
    buf_adds(out, exit_status);
    buf_adds(out, ".SH ENVIRONMENT\n.TP\n.B CARAT_MODEL\nThe model to use when none is named.\n"
                  ".TP\n.B NO_COLOR\nNo colours on a terminal.\n");
}

static void add_command_names(struct buf *out)
{
    for (size_t i = 0; commands[i]; i++) {
        buf_addf(out, "%s%s", i ? " " : "", commands[i]->name);
    }
}

static void add_option_names(struct buf *out, const struct command *command)
{
    for (const struct option_group *g = command->groups; g && g->options; g++) {
        for (const struct option *o = g->options; o->name; o++) {
            buf_addf(out, "--%s ", o->name);
        }
    }
    buf_adds(out, "--help");
}

void help_bash(struct buf *out)
{
    buf_adds(out, "# bash completion for carat: source <(carat completion bash)\n"
                  "_carat() {\n"
                  "    local word=${COMP_WORDS[COMP_CWORD]} words=\n"
                  "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                  "        COMPREPLY=($(compgen -W '");
    add_command_names(out);
    buf_adds(out, " --help --version' -- \"$word\"))\n"
                  "        return\n"
                  "    fi\n"
                  "    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; commands[i]; i++) {
        buf_addf(out, "    %s) words='", commands[i]->name);
        add_option_names(out, commands[i]);
        buf_adds(out, "' ;;\n");
    }
    buf_adds(out, "    esac\n"
                  "    case $word in\n"
                  "    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$word\")) ;;\n"
                  "    *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
                  "    esac\n"
                  "}\n"
                  "complete -o filenames -F _carat carat\n");
}

// A zsh description stands in single quotes and brackets.
static void add_zsh_text(struct buf *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '\'') {
            buf_adds(out, "'\\''");
        } else if (*c == '[' || *c == ']' || *c == ':' || *c == '\\') {
            buf_addf(out, "\\%c", *c);
        } else {
            buf_addc(out, *c == '\n' ? ' ' : *c);
        }
    }
}

static bool is_repeatable(const struct option *o)
{
    return o->type == OPTION_TEXTS || o->type == OPTION_WORD;
}

static void add_zsh_command(struct buf *out, const struct command *command)
{
    buf_addf(out, "    %s)\n        _arguments '--help[explain this command]'", command->name);
    for (const struct option_group *g = command->groups; g && g->options; g++) {
        for (const struct option *o = g->options; o->name; o++) {
            buf_addf(out, " \\\n            '%s--%s[", is_repeatable(o) ? "*" : "", o->name);
            add_zsh_text(out, o->help);
            buf_adds(out, "]");
            if (o->type == OPTION_CHOICE) {
                buf_addf(out, ":%s:(", o->name);
                for (size_t i = 0; o->choices[i]; i++) {
                    buf_addf(out, "%s%s", i ? " " : "", o->choices[i]);
                }
                buf_adds(out, ")");
            } else if (o->argument) {
                buf_addf(out, ":%s:%s", o->argument,
                         strcmp(o->argument, "FILE") == 0 ? "_files" : "");
            }
            buf_adds(out, "'");
        }
    }
    buf_adds(out, " \\\n            '*:file:_files'\n        ;;\n");
}

void help_zsh(struct buf *out)
{
    buf_adds(out, "#compdef carat\n# zsh completion for carat: source <(carat completion zsh)\n"
                  "_carat() {\n"
                  "    if (( CURRENT == 2 )); then\n        local -a names=(");
    for (size_t i = 0; commands[i]; i++) {
        buf_addf(out, "\n            '%s:", commands[i]->name);
        add_zsh_text(out, commands[i]->summary);
        buf_adds(out, "'");
    }
    buf_adds(out, ")\n        _describe command names\n        return\n    fi\n"
                  "    local name=$words[2]\n    shift words\n    (( CURRENT-- ))\n"
                  "    case $name in\n");
    for (size_t i = 0; commands[i]; i++) {
        add_zsh_command(out, commands[i]);
    }
    buf_adds(out, "    esac\n}\ncompdef _carat carat\n");
}
