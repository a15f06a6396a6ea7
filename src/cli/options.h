// SPDX-License-Identifier: Apache-2.0
// A command is a row: its words for the user, its options and its function. Parsing, --help, the
// man page and shell completion are all made from that row.
#ifndef CARAT_CLI_OPTIONS_H
#define CARAT_CLI_OPTIONS_H

#include "base/str.h"
#include "cli/output.h"

enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_INTERRUPTED = 130, // as shells report Ctrl-C
};

// Where an option's value goes, at its offset in the command's own struct. Zeroed memory: not
// given.
struct option_count {
    bool is_set;
    uint64_t value;
};
struct option_number {
    bool is_set;
    double value;
};
#define OPTION_TEXTS_MAX  256
#define OPTION_COUNTS_MAX 64
struct option_texts {
    const char *items[OPTION_TEXTS_MAX];
    size_t n;
};
struct option_counts {
    uint64_t items[OPTION_COUNTS_MAX];
    size_t n;
};

// Options whose order counts, among each other and against the arguments: the rows that share an
// offset are kept in one list.
#define OPTION_WORDS_MAX 512
struct option_word {
    const char *name;     // of the row
    const char *value;    // NULL for a row that takes none
    size_t n_args_before; // arguments that stood before it
};
struct option_words {
    struct option_word items[OPTION_WORDS_MAX];
    size_t n;
};

enum option_type {
    OPTION_FLAG,   // bool
    OPTION_TEXT,   // const char *
    OPTION_TEXTS,  // struct option_texts, repeatable
    OPTION_WORD,   // struct option_words, repeatable, in order; a flag when it has no argument
    OPTION_COUNT,  // struct option_count, an integer in [min, max]
    OPTION_COUNTS, // struct option_counts, a comma list of such
    OPTION_NUMBER, // struct option_number, in [min, max]
    OPTION_CHOICE, // size_t, index into choices; 0 is the default
};

struct option {
    const char *name; // without the dashes
    enum option_type type;
    const char *argument; // what the help calls the value; NULL for flags
    const char *help;
    size_t offset;
    double min, max;            // COUNT, COUNTS, NUMBER
    const char *const *choices; // CHOICE: ends with NULL
};

// Options that several commands share sit in a struct of their own inside the command's struct.
struct option_group {
    const char *title;
    const struct option *options; // ends with a row without name
    size_t offset;
};

struct example {
    const char *line;
    const char *what;
};

struct command_call {
    const struct command *command;
    const void *options; // the command's struct, filled
    const char *const *args;
    size_t n_args;
    size_t n_before_dashes; // of the arguments, how many stood before "--"
    struct output *out;
};

struct command {
    const char *name;
    const char *summary;               // one line
    const char *synopsis;              // "[MODEL] PROMPT"
    const char *details;               // paragraphs, separated by an empty line
    const struct option_group *groups; // ends with a row without options; may be NULL
    const struct example *examples;    // ends with a row without line; may be NULL
    size_t options_size;
    size_t args_max;
    bool is_missing;   // in this build: it takes any words, to say so
    bool reads_config; // options may stand in the environment and a file, too: sources.h
    int (*run)(const struct command_call *call); // an enum exit_code
};

extern const struct command *const commands[]; // ends with NULL; in main.c
const struct command *command_find(const char *name);
// The name most like this one among the commands; NULL when none is near.
const char *command_nearest(const char *name);

// Fills call->options (zeroed memory of options_size), args and the rest from the words after the
// command's name. args has room for n_words. *wants_help: --help was there, nothing else counts.
int options_parse(struct command_call *call, void *options, const char **args, char **words,
                  size_t n_words, bool *wants_help, struct carat_error *err);
// The row of this name; NULL when there is none.
const struct option *option_find(const struct command *command, const char *name, size_t size);
// A decimal integer, as an option takes it: digits only, in [min, max].
bool parse_count(const char *text, double min, double max, uint64_t *out);

// How alike two words are: edits that turn a into b, given up past a small limit.
size_t edit_distance(const char *a, const char *b);

extern const struct command command_run;
extern const struct command command_chat;
extern const struct command command_serve;
extern const struct command command_pull;
extern const struct command command_quantize;
extern const struct command command_convert;
extern const struct command command_inspect;
extern const struct command command_tokenize;
extern const struct command command_verify;
extern const struct command command_batch;
extern const struct command command_eval;
extern const struct command command_bench;
extern const struct command command_help;
extern const struct command command_completion;

#endif
