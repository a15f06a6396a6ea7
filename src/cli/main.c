// SPDX-License-Identifier: Apache-2.0
// The program: finds the command, parses its words, runs it, and makes sure that what it wrote
// arrived.
#include "base/mem.h"
#include "base/os.h"
#include "cli/help.h"
#include "cli/sources.h"
#include "server/decoder.h"

#include <stdio.h>
#include <string.h>

const struct command *const commands[] = {
    &command_run,     &command_chat,    &command_serve,    &command_pull,       &command_quantize,
    &command_convert, &command_inspect, &command_tokenize, &command_verify,     &command_batch,
    &command_eval,    &command_bench,   &command_help,     &command_completion, NULL,
};

static int write_help(struct output *out, struct buf *text)
{
    struct carat_error err;
    int code = EXIT_OK;
    if (buf_status(text, &err)) {
        code = say_error(&err);
    } else {
        output_write(out, text->data, text->size);
    }
    buf_release(text);
    return code;
}

static int say_unknown_command(const char *name)
{
    const char *near = command_nearest(name);
    if (near) {
        say("unknown command '%s': did you mean '%s'? ('carat help' lists all)", name, near);
    } else {
        say("unknown command '%s' ('carat help' lists all)", name);
    }
    return EXIT_USAGE;
}

struct help_options {
    bool is_manual;
};

static const struct option help_rows[] = {
    {"man", OPTION_FLAG, NULL, "print the manual page, as source for man or troff",
     offsetof(struct help_options, is_manual), 0, 0, NULL},
    {.name = NULL},
};

static int run_help(const struct command_call *call)
{
    const struct help_options *o = call->options;
    const struct command *command = NULL;
    if (call->n_args > 0) {
        command = command_find(call->args[0]);
        if (!command) {
            return say_unknown_command(call->args[0]);
        }
    }
    struct buf text = {.max = 1 << 20};
    size_t columns = call->out->is_terminal ? os_terminal_columns(1) : 80;
    if (o->is_manual) {
        help_manual(&text, command);
    } else if (command) {
        help_command(&text, command, columns);
    } else {
        help_program(&text, columns);
    }
    return write_help(call->out, &text);
}

const struct command command_help = {
    .name = "help",
    .summary = "explain a command",
    .synopsis = "[COMMAND] [--man]",
    .details = "Says what a command does, with its options and examples; without COMMAND, lists "
               "the commands.",
    .groups = (const struct option_group[]){{"Options", help_rows, 0}, {.options = NULL}},
    .examples = (const struct example[]){{"carat help run", "the same as 'carat run --help'"},
                                         {"carat help --man bench | man -l -", "as a manual page"},
                                         {.line = NULL}},
    .options_size = sizeof(struct help_options),
    .args_max = 1,
    .run = run_help,
};

static int run_completion(const struct command_call *call)
{
    struct buf text = {.max = 1 << 20};
    const char *shell = call->n_args ? call->args[0] : "";
    if (strcmp(shell, "bash") == 0) {
        help_bash(&text);
    } else if (strcmp(shell, "zsh") == 0) {
        help_zsh(&text);
    } else {
        say("completion: expected bash or zsh, found '%s'", shell);
        return EXIT_USAGE;
    }
    return write_help(call->out, &text);
}

const struct command command_completion = {
    .name = "completion",
    .summary = "print a completion script for bash or zsh",
    .synopsis = "bash|zsh",
    .details = "Prints a script that lets the shell complete commands, options and file names.",
    .examples = (const struct example[]){{"source <(carat completion bash)",
                                          "for this shell; put it into ~/.bashrc to keep it"},
                                         {.line = NULL}},
    .options_size = 1,
    .args_max = 1,
    .run = run_completion,
};

// Warnings of the library, one line each.
static void on_log(void *user, enum carat_log_level level, const char *text)
{
    (void)user;
    if (level >= CARAT_LOG_WARNING) {
        say("%s", text);
    }
}

// Help is given whatever the environment and the files say.
static bool asks_for_help(char **words, size_t n_words)
{
    for (size_t i = 0; i < n_words && strcmp(words[i], "--") != 0; i++) {
        if (strcmp(words[i], "--help") == 0 || strcmp(words[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

static int run_command(const struct command *command, struct output *out, char **words,
                       size_t n_words)
{
    int code = EXIT_FAILED;
    struct carat_error err;
    struct command_call call = {.command = command, .out = out};
    struct sources sources = {.words = NULL};
    const char **args = NULL;
    bool wants_help = false;
    if (command->reads_config && !asks_for_help(words, n_words)) {
        if (sources_gather(&sources, command, words, n_words, &err)) {
            sources_release(&sources);
            say("%s", err.text);
            return EXIT_USAGE;
        }
        words = sources.words;
        n_words = sources.n;
    }
    void *options = mem_new(command->options_size, &err);
    if (!options) {
        code = say_error(&err);
        goto out;
    }
    args = mem_new_array(n_words + 1, sizeof(*args), &err);
    if (!args) {
        code = say_error(&err);
        goto out;
    }
    if (options_parse(&call, options, args, words, n_words, &wants_help, &err)) {
        say("%s", err.text);
        code = EXIT_USAGE;
        goto out;
    }
    if (wants_help) {
        struct buf text = {.max = 1 << 20};
        help_command(&text, command, out->is_terminal ? os_terminal_columns(1) : 80);
        code = write_help(out, &text);
        goto out;
    }
    code = command->run(&call);
out:
    mem_free(args);
    mem_free(options);
    sources_release(&sources);
    return code;
}

static bool is_word(const char *word, const char *a, const char *b)
{
    return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

// Not a command: what the server starts for itself.
static int run_decoder(void)
{
    struct carat_error err = {0};
    return decoder_serve(&err) ? say_error(&err) : EXIT_OK;
}

int main(int argc, char **argv)
{
    struct output out;
    int code = EXIT_OK;
    output_init(&out);
    carat_set_log(on_log, NULL);
    if (argc < 2) {
        struct buf text = {.max = 1 << 20};
        help_program(&text, os_terminal_columns(2));
        fputs(buf_text(&text), stderr);
        buf_release(&text);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, DECODER_WORD) == 0) {
        return run_decoder();
    }
    const struct command *command = command_find(word);
    if (command) {
        code = run_command(command, &out, argv + 2, (size_t)argc - 2);
    } else if (is_word(word, "--version", "-V")) {
        output_format(&out, "carat %s\n", carat_version());
    } else if (is_word(word, "--help", "-h")) {
        code = run_command(&command_help, &out, argv + 2, (size_t)argc - 2);
    } else {
        code = say_unknown_command(word);
    }
    int written = output_finish(&out);
    return code ? code : written;
}
