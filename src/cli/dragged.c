// SPDX-License-Identifier: Apache-2.0
#include "cli/dragged.h"

#include "base/os.h"
#include "cli/attach.h"

#include <string.h>

#define PATH_SIZE_MAX 65536

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// One word as a shell reads it: appended to out without quotes and backslashes. Returns its length
// in the text; to_end: spaces do not end it.
static size_t read_word(struct buf *out, const char *text, bool to_end)
{
    char quote = '\0';
    size_t at = 0;
    for (; text[at] && (quote || to_end || !is_blank(text[at])); at++) {
        char c = text[at];
        if (quote ? c == quote : c == '\'' || c == '"') {
            quote = quote ? '\0' : c;
        } else if (c == '\\' && quote != '\'' && text[at + 1]) {
            buf_addc(out, text[++at]);
        } else {
            buf_addc(out, c);
        }
    }
    return at;
}

// Turns a word into a path and says whether it is a medium's.
static bool is_medium(struct buf *word, enum carat_media_type *type)
{
    if (slice_starts(slice_make(buf_text(word), word->size), "file://")) {
        struct buf path = {.max = PATH_SIZE_MAX};
        add_path_of_url(&path, slice_make(word->data, word->size));
        buf_release(word);
        *word = path;
    }
    return !word->has_failed && word->size && strlen(word->data) == word->size &&
           media_type_of_name(word->data, type) && os_is_file(word->data);
}

static void add_rest(struct buf *rest, const char *text, size_t size)
{
    if (size) {
        buf_adds(rest, rest->size ? " " : "");
        buf_add(rest, text, size);
    }
}

int dragged_find(struct dragged *out, const char *line, struct carat_error *err)
{
    size_t text_from = 0; // of the line, where the words that are text begin
    size_t size = strlen(line), at = 0;
    out->rest.max = size + 1;
    // A path with bare spaces, if it is all there is.
    struct slice all = utf8_trim(slice_make(line, size));
    struct buf *first = &out->paths[0];
    *first = (struct buf){.max = PATH_SIZE_MAX};
    buf_add_slice(first, all);
    if (is_medium(first, &out->types[0])) {
        out->n = 1;
        return 0;
    }
    buf_release(first);
    while (at < size && out->n < DRAGGED_MAX) {
        at += strspn(line + at, " \t\r\n");
        struct buf *word = &out->paths[out->n];
        *word = (struct buf){.max = PATH_SIZE_MAX};
        size_t word_size = read_word(word, line + at, false);
        if (is_medium(word, &out->types[out->n])) {
            struct slice text = utf8_trim(slice_make(line + text_from, at - text_from));
            add_rest(&out->rest, text.data, text.size);
            out->n++;
            text_from = at + word_size;
        } else {
            // A quote may have been an apostrophe: look again behind the next space.
            buf_release(word);
            word_size = strcspn(line + at, " \t\r\n");
        }
        at += word_size;
    }
    struct slice text = utf8_trim(slice_make(line + text_from, size - text_from));
    add_rest(&out->rest, text.data, text.size);
    return buf_status(&out->rest, err);
}

void dragged_release(struct dragged *d)
{
    for (size_t i = 0; i < d->n; i++) {
        buf_release(&d->paths[i]);
    }
    buf_release(&d->rest);
    d->n = 0;
}

bool dragged_begins(const char *line)
{
    enum carat_media_type type;
    struct buf word = {.max = PATH_SIZE_MAX}, all = {.max = PATH_SIZE_MAX};
    struct slice trimmed = utf8_trim(slice_of(line));
    read_word(&word, line, false);
    buf_add_slice(&all, trimmed);
    bool is_there = is_medium(&word, &type) || is_medium(&all, &type);
    buf_release(&word);
    buf_release(&all);
    return is_there;
}

void unquote_path(struct buf *out, const char *text)
{
    struct buf word = {.max = PATH_SIZE_MAX};
    struct slice trimmed = utf8_trim(slice_of(text));
    struct buf copy = {.max = PATH_SIZE_MAX};
    buf_add_slice(&copy, trimmed);
    read_word(&word, buf_text(&copy), true);
    if (slice_starts(slice_make(buf_text(&word), word.size), "file://")) {
        add_path_of_url(out, slice_make(word.data, word.size));
    } else {
        buf_add(out, buf_text(&word), word.size);
    }
    buf_release(&word);
    buf_release(&copy);
}
