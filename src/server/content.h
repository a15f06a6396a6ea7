// SPDX-License-Identifier: Apache-2.0
// From the JSON of a conversation to a struct carat_chat: what all dialects share. A builder that
// grows messages and parts in the call's arena.
#ifndef CARAT_SERVER_CONTENT_H
#define CARAT_SERVER_CONTENT_H

#include "server/call.h"

#define CONTENT_MESSAGES_MAX 10000
#define CONTENT_PARTS_MAX    1000 // of one message
#define CONTENT_CALLS_MAX    256  // of one message
#define CONTENT_TOOLS_MAX    1024
#define TOOL_NAME_MAX        128 // bytes

struct content_message; // a message in the making
struct content {
    struct call *call;
    struct content_message *first, *last;
    size_t n;
};
// Begins a message; what follows is added to it. Strings are copied.
int content_begin(struct content *c, struct slice role, struct carat_error *err);
int content_text(struct content *c, struct slice text, struct carat_error *err);
// The same, but joined to the part before when that is a text: the template trims each part and
// puts nothing between them. The separator comes between unless there is white space already.
int content_joined_text(struct content *c, struct slice text, const char *separator,
                        struct carat_error *err);
// The result of a tool: a JSON value, not a text.
int content_result(struct content *c, const struct json_value *v, struct carat_error *err);
int content_reasoning(struct content *c, struct slice text,
                      struct carat_error *err); // joins pieces
// A medium from the bytes of a file. tokens: most soft tokens of a picture, 0: automatic. What is
// wrong with it is what the decoder says: put the place before it with content_at.
int content_media(struct content *c, enum carat_media_type type, struct slice file, uint32_t tokens,
                  struct carat_error *err);
// The same from Base64, and from an address (data:, or http: where allowed).
int content_media_base64(struct content *c, enum carat_media_type type, struct slice base64,
                         uint32_t tokens, struct carat_error *err);
int content_media_url(struct content *c, enum carat_media_type type, struct slice url,
                      uint32_t tokens, struct carat_error *err);
// A file of any kind: a picture, sound or film becomes a medium, text becomes text, the rest is
// CARAT_E_UNSUPPORTED. The kind is told by the MIME type, else by the name's extension, else by the
// first bytes; mime and name may be empty. Of a data: address the MIME type in it counts.
int content_file(struct content *c, struct slice file, struct slice mime, struct slice name,
                 uint32_t tokens, struct carat_error *err);
int content_file_base64(struct content *c, struct slice base64, struct slice mime,
                        struct slice name, uint32_t tokens, struct carat_error *err);
int content_file_url(struct content *c, struct slice url, struct slice mime, struct slice name,
                     uint32_t tokens, struct carat_error *err);
// Whether a MIME type is that of a medium, and of which.
bool content_type_of(struct slice mime, enum carat_media_type *out);
// A call the model made earlier: replayed as it was sampled when the id is known (call_recall).
// arguments: the text of a JSON object; NULL or empty: none.
int content_call(struct content *c, struct slice id, struct slice name, const char *arguments,
                 struct carat_error *err);
// Of a message with role "tool": which call it answers. The name is looked up among the calls so
// far when it is empty.
int content_answers(struct content *c, struct slice id, struct slice name, struct carat_error *err);
void content_is_list(struct content *c); // the message's content was a list, not a string
// Fills call->ask.chat with everything gathered, which may be nothing.
int content_finish(struct content *c, struct carat_error *err);

// Puts the place in the request, printed like printf, before what went wrong; returns rc, and does
// nothing when that is 0: `return content_at(rc, err, "messages[%zu].content[%zu]", i, j);`
int content_at(int rc, struct carat_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Tools: checks the OpenAI form and keeps it as JSON for chat.tools and grammar.tools. The others
// turn their forms into that. is_strict: parameters that cannot be held to are refused.
struct tool_list {
    struct buf json; // "[" so far
    size_t n;
};
int tool_list_add(struct tool_list *t, struct slice name, struct slice description,
                  const struct json_value *parameters, bool is_strict, struct carat_error *err);
// Puts the list into ask.chat.tools and ask.grammar, with the choice. REQUIRED needs a tool; name,
// if not empty, must be among them. Without tools nothing else happens.
int tool_list_finish(struct tool_list *t, struct call *call, enum carat_tool_choice choice,
                     struct slice name, bool is_single, struct carat_error *err);
void tool_list_release(struct tool_list *t);

#endif
