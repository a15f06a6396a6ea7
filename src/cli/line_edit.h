// SPDX-License-Identifier: Apache-2.0
// Reading what a person types, line by line: with editing and history on a terminal when the
// program was built with libedit, plainly otherwise.
#ifndef CARAT_CLI_LINE_EDIT_H
#define CARAT_CLI_LINE_EDIT_H

#include "base/str.h"

#define LINE_SIZE_MAX ((size_t)16 << 20)

enum line_result {
    LINE_READ,
    LINE_END,         // Ctrl-D, the end of a file
    LINE_INTERRUPTED, // Ctrl-C: what was typed is dropped
    LINE_FAILED,      // err says why
};

struct line_editor;
int line_editor_new(struct line_editor **out, bool is_terminal, struct carat_error *err);
void line_editor_free(struct line_editor *e); // takes NULL
// One line without its end. A backslash at the end joins the next line to it. The prompt is shown
// on a terminal only, on standard error.
enum line_result line_editor_read(struct line_editor *e, const char *prompt, struct buf *out,
                                  struct carat_error *err);

// What libedit does when it is there; line_edit_none.c stands in for it.
struct terminal_editor;
struct terminal_editor *terminal_editor_new(void); // NULL: none
void terminal_editor_free(struct terminal_editor *e);
enum line_result terminal_editor_read(struct terminal_editor *e, const char *prompt,
                                      struct buf *out);

#endif
