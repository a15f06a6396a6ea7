// SPDX-License-Identifier: Apache-2.0
// The one door to libedit: editing, history, pasting of several lines.
#include "cli/line_edit.h"

#include "base/mem.h"
#include "base/os.h"

#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HISTORY_LINES 1000

struct terminal_editor {
    EditLine *line;
    History *history;
    const char *prompt;
    bool is_interrupted;
};

static struct terminal_editor *editor_of(EditLine *line)
{
    struct terminal_editor *e = NULL;
    el_get(line, EL_CLIENTDATA, &e);
    return e;
}

static char *give_prompt(EditLine *line)
{
    static char none[] = "";
    struct terminal_editor *e = editor_of(line);
    // libedit takes the prompt without const and only reads it.
    union {
        const char *from;
        char *to;
    } prompt = {.from = e->prompt};
    return prompt.from ? prompt.to : none;
}

// Ctrl-C: the line is dropped.
static unsigned char cancel(EditLine *line, int key)
{
    (void)key;
    editor_of(line)->is_interrupted = true;
    return CC_NEWLINE;
}

static unsigned char suspend(EditLine *line, int key)
{
    (void)key;
    el_set(line, EL_PREP_TERM, 0);
    os_suspend();
    el_set(line, EL_PREP_TERM, 1);
    return CC_REDISPLAY;
}

// What the terminal sends between the marks of a paste is text, line ends included.
static unsigned char paste(EditLine *line, int key)
{
    static const char end[] = "\033[201~";
    struct buf text = {.max = LINE_SIZE_MAX};
    char c;
    (void)key;
    while (el_getc(line, &c) == 1) {
        buf_addc(&text, c == '\r' ? '\n' : c);
        if (text.has_failed || slice_ends(slice_make(text.data, text.size), end)) {
            break;
        }
    }
    size_t size = text.size;
    if (size >= strlen(end) && !text.has_failed) {
        text.data[size - strlen(end)] = '\0';
        el_insertstr(line, text.data);
    }
    buf_release(&text);
    return CC_REFRESH;
}

struct terminal_editor *terminal_editor_new(void)
{
    // libedit counts characters by the locale; without one that knows UTF-8, take the plainest.
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
    struct terminal_editor *e = mem_new(sizeof(*e), NULL);
    if (!e) {
        return NULL;
    }
    HistEvent event;
    e->line = el_init("carat", stdin, stderr, stderr);
    e->history = history_init();
    if (!e->line || !e->history) {
        terminal_editor_free(e);
        return NULL;
    }
    history(e->history, &event, H_SETSIZE, HISTORY_LINES);
    history(e->history, &event, H_SETUNIQUE, 1);
    el_set(e->line, EL_CLIENTDATA, e);
    el_set(e->line, EL_PROMPT, give_prompt);
    el_set(e->line, EL_EDITOR, "emacs");
    el_set(e->line, EL_HIST, history, e->history);
    // While a line is edited Ctrl-C is a key like any other; while the model answers it is a
    // signal. That takes the signal from Ctrl-Z too.
    el_set(e->line, EL_SETTY, "-d", "-isig", NULL);
    el_set(e->line, EL_ADDFN, "carat-suspend", "suspend the program", suspend);
    el_set(e->line, EL_BIND, "^Z", "carat-suspend", NULL);
    el_set(e->line, EL_ADDFN, "carat-cancel", "drop the line", cancel);
    el_set(e->line, EL_BIND, "^C", "carat-cancel", NULL);
    el_set(e->line, EL_ADDFN, "carat-paste", "insert a pasted text", paste);
    el_set(e->line, EL_BIND, "\033[200~", "carat-paste", NULL);
    el_set(e->line, EL_BIND, "^R", "em-inc-search-prev", NULL);
    return e;
}

void terminal_editor_free(struct terminal_editor *e)
{
    if (!e) {
        return;
    }
    if (e->line) {
        el_end(e->line);
    }
    if (e->history) {
        history_end(e->history);
    }
    mem_free(e);
}

enum line_result terminal_editor_read(struct terminal_editor *e, const char *prompt,
                                      struct buf *out)
{
    int count = 0;
    HistEvent event;
    e->prompt = prompt;
    e->is_interrupted = false;
    fputs("\033[?2004h", stderr); // the terminal marks what is pasted
    fflush(stderr);
    const char *line = el_gets(e->line, &count);
    fputs("\033[?2004l", stderr);
    fflush(stderr);
    if (e->is_interrupted) {
        return LINE_INTERRUPTED;
    }
    if (!line || count <= 0) {
        return LINE_END;
    }
    size_t size = (size_t)count;
    size -= line[size - 1] == '\n' ? 1 : 0;
    buf_add(out, line, size);
    if (size > 0 && !out->has_failed) {
        history(e->history, &event, H_ENTER, out->data);
    }
    return LINE_READ;
}
