// SPDX-License-Identifier: Apache-2.0
// Messages to the text and tokens of a prompt: the five published versions of Gemma 4's chat
// template as one fixed procedure in C. docs/chat.md describes the format.
#ifndef CARAT_CHAT_TEMPLATE_H
#define CARAT_CHAT_TEMPLATE_H

#include "chat/expand.h"

struct chat_result {
    struct buf text; // the rendered prompt, markers spelled out
    struct token_list tokens;
    struct chat_run *runs; // in order
    size_t n_runs;
    bool opens_thought;
};
// `which` must not be AUTO. tokenizer may be NULL: only the text is made. A sound that is open ends
// the result behind its last whole frame.
int chat_render(struct chat_result *out, const struct carat_chat *chat, enum carat_template which,
                const struct tokenizer *tokenizer, struct carat_error *err);
void chat_result_release(struct chat_result *r);

// Which version a template text is, by size and hash; AUTO when it is none of them.
enum carat_template chat_template_identify(struct slice template_text);
const char *chat_template_name(enum carat_template which); // "canonical", ...

#endif
