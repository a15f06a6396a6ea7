// SPDX-License-Identifier: Apache-2.0
// The text of a prompt while it is being rendered. It remembers which parts the template wrote and
// which came from outside, because only the template's control strings become control tokens.
#ifndef CARAT_CHAT_PIECES_H
#define CARAT_CHAT_PIECES_H

#include "model/tokenizer.h"

// A place in the text, and the token that begins there.
struct piece_mark {
    size_t offset;
    size_t token; // set by pieces_encode; SIZE_MAX: no control token begins there
};

// Zeroed memory is an empty text. After a failure it stays failed: write freely, ask once.
struct pieces {
    struct buf text;
    size_t *borders; // offsets at which the origin changes; the text begins with the template's
    size_t n_borders;
    size_t capacity;
    struct piece_mark *marks; // in order of their offsets
    size_t n_marks;
    size_t mark_capacity;
    bool is_user;
    bool has_failed;
};
void pieces_add(struct pieces *p, const char *text);       // the template's
void pieces_add_user(struct pieces *p, struct slice text); // from outside
void pieces_mark(struct pieces *p);                        // a control string will begin here
// Takes back what was added after the first `size` bytes.
void pieces_cut(struct pieces *p, size_t size);
int pieces_status(const struct pieces *p, struct carat_error *err);
// Appends the tokens of the whole text. What stands between two control strings is encoded as one
// run, whoever wrote its parts; a control string from outside is a run of plain text by itself.
// Marks get their tokens. trusts_user: control strings from outside become control tokens as well.
int pieces_encode(struct pieces *p, const struct tokenizer *tokenizer, bool trusts_user,
                  struct token_list *out, struct carat_error *err);
void pieces_release(struct pieces *p);

#endif
