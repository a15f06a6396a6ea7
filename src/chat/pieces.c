// SPDX-License-Identifier: Apache-2.0
// Rendered text with the origin of each part, and its tokens.
#include "chat/pieces.h"

#include "base/error.h"
#include "base/mem.h"

// A million tokens of ordinary text take a few megabytes; this only stops what is absurd.
#define PIECES_TEXT_MAX ((size_t)256 << 20)

static void add_border(struct pieces *p)
{
    if (p->n_borders == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 64;
        size_t *grown = p->borders ? mem_resize(p->borders, capacity * sizeof(*grown), NULL)
                                   : mem_new_array(capacity, sizeof(*grown), NULL);
        if (!grown) {
            p->has_failed = true;
            return;
        }
        p->borders = grown;
        p->capacity = capacity;
    }
    p->borders[p->n_borders++] = p->text.size;
}

static void add(struct pieces *p, struct slice text, bool is_user)
{
    if (!text.size || p->has_failed) {
        return;
    }
    if (is_user != p->is_user) {
        add_border(p);
        p->is_user = is_user;
    }
    p->text.max = PIECES_TEXT_MAX;
    buf_add_slice(&p->text, text);
}

void pieces_add(struct pieces *p, const char *text)
{
    add(p, slice_of(text), false);
}

void pieces_add_user(struct pieces *p, struct slice text)
{
    add(p, text, true);
}

void pieces_mark(struct pieces *p)
{
    if (p->n_marks == p->mark_capacity && !p->has_failed) {
        size_t capacity = p->mark_capacity ? 2 * p->mark_capacity : 8;
        struct piece_mark *grown = p->marks ? mem_resize(p->marks, capacity * sizeof(*grown), NULL)
                                            : mem_new_array(capacity, sizeof(*grown), NULL);
        p->has_failed = !grown;
        p->marks = grown ? grown : p->marks;
        p->mark_capacity = grown ? capacity : p->mark_capacity;
    }
    if (!p->has_failed) {
        p->marks[p->n_marks++] = (struct piece_mark){p->text.size, SIZE_MAX};
    }
}

void pieces_cut(struct pieces *p, size_t size)
{
    if (p->has_failed || size >= p->text.size) {
        return;
    }
    p->text.size = size;
    p->text.data[size] = '\0';
    while (p->n_borders > 0 && p->borders[p->n_borders - 1] >= size) {
        p->n_borders--;
    }
    while (p->n_marks > 0 && p->marks[p->n_marks - 1].offset >= size) {
        p->n_marks--;
    }
    p->is_user = p->n_borders % 2 == 1;
}

int pieces_status(const struct pieces *p, struct carat_error *err)
{
    if (p->has_failed) {
        return fail(err, CARAT_E_MEMORY, "no memory for the prompt's text (%zu bytes so far)",
                    p->text.size);
    }
    return buf_status(&p->text, err);
}

// A control string lies whole inside one part. Everything between two of them is one run of plain
// text. So is a control string from outside: by itself, the way the reference takes it apart.
struct encoder {
    const struct tokenizer *tokenizer;
    struct slice text;
    size_t run;              // where the plain text that is not encoded yet begins
    struct piece_mark *mark; // the next one
    size_t n_marks;          // that are left
    struct token_list *out;
};

// A control token was found at this offset, and comes next.
static void pass_marks(struct encoder *e, size_t offset)
{
    for (; e->n_marks > 0 && e->mark->offset <= offset; e->mark++, e->n_marks--) {
        if (e->mark->offset == offset) {
            e->mark->token = e->out->count;
        }
    }
}

static int encode_run(struct encoder *e, size_t end, struct carat_error *err)
{
    struct slice run = slice_make(e->text.data + e->run, end - e->run);
    e->run = end;
    return run.size ? tokenizer_encode(e->tokenizer, run, false, e->out, err) : 0;
}

static int encode_part(struct encoder *e, size_t begin, size_t end, bool is_user,
                       struct carat_error *err)
{
    struct slice part = slice_make(e->text.data + begin, end - begin);
    for (size_t at = 0;;) {
        carat_token token = CARAT_TOKEN_NONE;
        size_t found = tokenizer_next_special(e->tokenizer, part, at, &token);
        if (found >= part.size) {
            return 0;
        }
        int rc = encode_run(e, begin + found, err);
        at = found + tokenizer_text(e->tokenizer, token).size;
        if (!rc && is_user) {
            rc = encode_run(e, begin + at, err);
        } else if (!rc) {
            pass_marks(e, begin + found);
            rc = token_list_add(e->out, token, err);
            e->run = begin + at;
        }
        if (rc) {
            return rc;
        }
    }
}

int pieces_encode(struct pieces *p, const struct tokenizer *tokenizer, bool trusts_user,
                  struct token_list *out, struct carat_error *err)
{
    struct slice text = slice_make(buf_text(&p->text), p->text.size);
    struct encoder e = {
        .tokenizer = tokenizer, .text = text, .mark = p->marks, .n_marks = p->n_marks, .out = out};
    size_t n_borders = trusts_user ? 0 : p->n_borders;
    for (size_t i = 0; i <= n_borders; i++) {
        size_t begin = i ? p->borders[i - 1] : 0;
        size_t end = i < n_borders ? p->borders[i] : text.size;
        int rc = encode_part(&e, begin, end, i % 2 == 1, err);
        if (rc) {
            return rc;
        }
    }
    return encode_run(&e, text.size, err);
}

void pieces_release(struct pieces *p)
{
    buf_release(&p->text);
    mem_free(p->borders);
    mem_free(p->marks);
    *p = (struct pieces){0};
}
