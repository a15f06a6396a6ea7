// SPDX-License-Identifier: Apache-2.0
// A conversation that owns its strings, and its form as JSON: the messages of chat completion
// requests, which most tools write.
#ifndef CARAT_CLI_CONVERSATION_H
#define CARAT_CLI_CONVERSATION_H

#include "base/mem.h"
#include "formats/json.h"

struct conversation {
    struct arena arena; // holds all that the messages point to
    struct carat_message *messages;
    size_t n, capacity;
    char *tools; // JSON, or NULL; in the arena
};

// Both copy the text they get; a struct carat_message is taken as it is, pointing into the arena.
int conversation_add(struct conversation *c, const struct carat_message *message,
                     struct carat_error *err);
int conversation_add_text(struct conversation *c, const char *role, const char *text, size_t size,
                          struct carat_error *err);
char *conversation_copy(struct conversation *c, const char *text, size_t size,
                        struct carat_error *err);
void conversation_release(struct conversation *c);

enum conversation_flags {
    // Calls whose arguments are a JSON string that holds JSON, as the OpenAI form has them, get the
    // inner JSON.
    CONVERSATION_DECODES_ARGUMENTS = 1,
    // Of the parts only text, image, audio and video, as in Gemma 4's templates before July 2026;
    // else also their names in the OpenAI form (image_url, input_audio, ...).
    CONVERSATION_FIRST_NAMES = 2,
};
// Adds the messages of a JSON array. Errors name the message by its number.
int conversation_read(struct conversation *c, const struct json_value *messages, unsigned flags,
                      struct carat_error *err);
int conversation_read_tools(struct conversation *c, const struct json_value *tools,
                            struct carat_error *err);
// From a file: an array of messages, or an object with "messages" and perhaps "tools".
int conversation_read_file(struct conversation *c, const char *path, struct carat_error *err);
int conversation_read_tools_file(struct conversation *c, const char *path, struct carat_error *err);
// The messages as a JSON array.
void conversation_write(const struct conversation *c, struct buf *out);

#endif
