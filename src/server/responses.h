// SPDX-License-Identifier: Apache-2.0
// OpenAI's Responses: what its files share. api_responses.c reads the options of a request and
// answers about stored ones, responses_input.c reads its items and responses_tools.c its tools,
// responses_render.c writes answers. docs/api-responses.md
#ifndef CARAT_SERVER_RESPONSES_H
#define CARAT_SERVER_RESPONSES_H

#include "server/call.h"
#include "server/stored.h"

#define RESPONSES_ITEMS_MAX 10000 // of one request, and of a conversation

// A declared tool: the model knows it by one name, the client by a name in a namespace.
struct responses_tool {
    const char *model_name;
    struct slice name, space;
    bool is_custom; // takes a text: declared as a function of one string, "input"
    struct responses_tool *next;
};

enum responses_item_type { RESPONSES_REASONING, RESPONSES_MESSAGE, RESPONSES_CALL };
// An item of the answer: a range of the answer's thought or text, or one of its calls.
struct responses_item {
    enum responses_item_type type;
    size_t index;
    char id[STORED_ID_SIZE];
    size_t start, end;
    size_t logprob_start, logprob_end;
    const struct answer_call *call;
    const struct responses_tool *tool; // of the call; NULL: not declared
    struct responses_item *next;
};

// The dialect's own state of a call.
struct responses {
    const struct json_value *root; // the request
    char id[STORED_ID_SIZE];       // resp_...
    struct responses_tool *tools;
    bool has_summary;   // thoughts are shown as summaries, not as reasoning text
    bool has_encrypted; // and handed over in encrypted_content, to be sent back
    bool is_kept;       // `store`
    const char *previous;
    const char *input; // items of the request, as they are stored
    struct responses_item *first, *last;
    struct responses_item *open; // of a stream: the last one, while it grows
    size_t n_items;
    size_t text_size, thought_size, n_logprobs; // of a stream: how far it is
    size_t sequence;
};

// responses_tools.c
int responses_read_tools(struct call *call, struct responses *r, struct carat_error *err);
// The name by which the model knows a tool, in the arena; NULL when there is no memory.
const char *responses_tool_name(struct call *call, struct slice space, struct slice name,
                                struct carat_error *err);
const struct responses_tool *responses_tool_of(const struct responses *r, const char *model_name);

// responses_input.c: instructions, the conversation so far, and the request's items
int responses_read_input(struct call *call, struct responses *r, struct carat_error *err);

// responses_render.c
void responses_answer(struct call *call, struct buf *out);
void responses_begin(struct call *call, struct buf *out);
void responses_event(struct call *call, const struct call_event *e, struct buf *out);
void responses_end_choice(struct call *call, size_t choice, struct buf *out);
void responses_end(struct call *call, struct buf *out);
void responses_error(int status, const struct carat_error *error, bool in_stream, struct buf *out);
void responses_stream_error(struct call *call, int status, const struct carat_error *error,
                            struct buf *out);

#endif
