// SPDX-License-Identifier: Apache-2.0
// Options of a command from the environment and from a file, under the names they have on the
// command line.
#ifndef CARAT_CLI_SOURCES_H
#define CARAT_CLI_SOURCES_H

#include "base/mem.h"
#include "cli/options.h"

// Words for options_parse: those of the file, of the environment, and the user's own, so that the
// last of them counts. An option that is given further on is left out further up.
struct sources {
    char **words;
    size_t n;
    struct arena arena; // holds them
};

// The file is what --config names, else CARAT_CONFIG, else carat/COMMAND.conf in $XDG_CONFIG_HOME
// or ~/.config, if it is there; an empty name means none.
int sources_gather(struct sources *c, const struct command *command, char **words, size_t n_words,
                   struct carat_error *err);
void sources_release(struct sources *c);

#endif
