// SPDX-License-Identifier: Apache-2.0
// Built without libedit: lines are read as the terminal gives them.
#include "cli/line_edit.h"

struct terminal_editor *terminal_editor_new(void)
{
    return NULL;
}

void terminal_editor_free(struct terminal_editor *e)
{
    (void)e;
}

enum line_result terminal_editor_read(struct terminal_editor *e, const char *prompt,
                                      struct buf *out)
{
    (void)e;
    (void)prompt;
    (void)out;
    return LINE_END;
}
