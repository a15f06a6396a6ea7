// SPDX-License-Identifier: Apache-2.0
// What the two halves of the Anthropic dialect share: api_anthropic.c parses,
// api_anthropic_answer.c renders.
#ifndef CARAT_SERVER_API_ANTHROPIC_H
#define CARAT_SERVER_API_ANTHROPIC_H

#include "server/call.h"

// Clients that would leave the conversation to the server send it whole when they are told so,
// which they know by a code in the error.
#define ANTHROPIC_NO_THREADS "thread: conversations are not kept here; send all messages"

enum anthropic_block {
    BLOCK_NONE,
    BLOCK_THINKING,
    BLOCK_TEXT,
    BLOCK_TOOL,
};

struct anthropic {
    bool omits_thoughts; // a thinking block without its text, which is in the signature instead
    bool is_warming;     // max_tokens 0: reads the prompt, shows no answer
    // Of a stream:
    enum anthropic_block open; // the block that is open
    size_t i_block;            // its index; while none is open, the next one's
    size_t thought_at;         // where in the answer's thought the open thinking block began
    bool has_input;            // pieces of the open call's arguments were sent
};

// The thought that a signature holds, appended to out; false when it holds none.
bool anthropic_thought_of(struct slice signature, struct buf *out);

void anthropic_answer(struct call *call, struct buf *out);
void anthropic_answer_count(struct call *call, struct buf *out);
void anthropic_begin(struct call *call, struct buf *out);
void anthropic_event(struct call *call, const struct call_event *e, struct buf *out);
void anthropic_end_choice(struct call *call, size_t choice, struct buf *out);
void anthropic_end(struct call *call, struct buf *out);
void anthropic_error(int status, const struct carat_error *error, bool in_stream, struct buf *out);

#endif
