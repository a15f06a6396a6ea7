// SPDX-License-Identifier: Apache-2.0
// Files that are dropped on a terminal: it types their paths, in quotes, with backslashes before
// what is special to a shell, or as file:// URLs.
#ifndef CARAT_CLI_DRAGGED_H
#define CARAT_CLI_DRAGGED_H

#include "base/str.h"

#define DRAGGED_MAX 64

struct dragged {
    struct buf paths[DRAGGED_MAX];
    enum carat_media_type types[DRAGGED_MAX];
    size_t n;
    struct buf rest; // of the line, without them
};

// The words of a line that are paths of files which exist and whose names say that they are media.
int dragged_find(struct dragged *out, const char *line, struct carat_error *err);
void dragged_release(struct dragged *d);
// Whether the line begins with such a word.
bool dragged_begins(const char *line);
// Appends what one such word, the whole text, stands for.
void unquote_path(struct buf *out, const char *text);

#endif
