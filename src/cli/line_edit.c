// SPDX-License-Identifier: Apache-2.0
#include "cli/line_edit.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

#include <stdio.h>

struct line_editor {
    bool is_terminal;
    struct terminal_editor *terminal; // NULL: plain reading
};

int line_editor_new(struct line_editor **out, bool is_terminal, struct carat_error *err)
{
    struct line_editor *e = mem_new(sizeof(*e), err);
    if (!e) {
        return CARAT_E_MEMORY;
    }
    e->is_terminal = is_terminal;
    e->terminal = is_terminal ? terminal_editor_new() : NULL;
    *out = e;
    return 0;
}

void line_editor_free(struct line_editor *e)
{
    if (e) {
        terminal_editor_free(e->terminal);
        mem_free(e);
    }
}

static enum line_result read_plain(struct buf *out)
{
    for (;;) {
        int c = getc(stdin);
        if (c == EOF && os_interrupted()) {
            os_clear_interrupt();
            clearerr(stdin);
            buf_clear(out);
            return LINE_INTERRUPTED;
        }
        if (c == EOF) {
            return out->size ? LINE_READ : LINE_END;
        }
        if (c == '\n') {
            return LINE_READ;
        }
        buf_addc(out, (char)c);
    }
}

static enum line_result read_one(struct line_editor *e, const char *prompt, struct buf *out)
{
    if (e->terminal) {
        return terminal_editor_read(e->terminal, prompt, out);
    }
    if (e->is_terminal) {
        fputs(prompt, stderr);
        fflush(stderr);
    }
    return read_plain(out);
}

enum line_result line_editor_read(struct line_editor *e, const char *prompt, struct buf *out,
                                  struct carat_error *err)
{
    buf_clear(out);
    out->max = LINE_SIZE_MAX;
    for (;;) {
        struct buf line = {.max = LINE_SIZE_MAX};
        enum line_result result = read_one(e, out->size ? "... " : prompt, &line);
        bool goes_on = result == LINE_READ && line.size && line.data[line.size - 1] == '\\';
        buf_add(out, buf_text(&line), line.size - (goes_on ? 1 : 0));
        buf_addc(out, '\n');
        bool has_failed = line.has_failed;
        buf_release(&line);
        if (has_failed || out->has_failed) {
            fail(err, CARAT_E_FULL, "a line is longer than %zu MB", LINE_SIZE_MAX >> 20);
            return LINE_FAILED;
        }
        if (!goes_on) {
            out->data[--out->size] = '\0';
            return result == LINE_END && out->size ? LINE_READ : result;
        }
    }
}
