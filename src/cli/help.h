// SPDX-License-Identifier: Apache-2.0
// What the table of commands looks like to a reader: --help, the manual page, shell completion.
#ifndef CARAT_CLI_HELP_H
#define CARAT_CLI_HELP_H

#include "cli/options.h"

void help_program(struct buf *out, size_t columns);
void help_command(struct buf *out, const struct command *command, size_t columns);
void help_manual(struct buf *out, const struct command *command); // NULL: of the whole program
void help_bash(struct buf *out);
void help_zsh(struct buf *out);

#endif
