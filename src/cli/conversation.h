// SPDX-License-Identifier: Apache-2.0
// A conversation that owns its strings, and its form as JSON: the messages of chat completion
// requests, which most tools write.
#ifndef CARAT_CLI_CONVERSATION_H
#define CARAT_CLI_CONVERSATION_H

#include "base/mem.h"
#include "cli/attach.h"
#include "formats/json.h"

struct conversation {
    struct arena arena; // holds all that the messages point to, but their media
    struct carat_message *messages;
    size_t n, capacity;
    char *tools;                    // JSON, or NULL; in the arena
    struct attachment *attachments; // every medium of the messages
    size_t n_attachments, attachments_capacity;
    // Where the media of a JSON text lie, relative to what; NULL: its media stay placeholders.
    const char *media_folder;
    struct media_how media_how; // and how they are read, unless they say
};

// Both copy the text they get; a struct carat_message is taken as it is, pointing into the arena.
int conversation_add(struct conversation *c, const struct carat_message *message,
                     struct carat_error *err);
int conversation_add_text(struct conversation *c, const char *role, const char *text, size_t size,
                          struct carat_error *err);
// A message of media and a text, which stands before media[text_at]. The media become the
// conversation's, opened or not, also when this fails.
int conversation_add_media(struct conversation *c, const char *role, struct attachment *media,
                           size_t n, const char *text, size_t text_size, size_t text_at,
                           struct carat_error *err);
// Opens the media that are not open yet.
int conversation_open_media(struct conversation *c, const struct carat_engine *engine,
                            struct progress *progress, struct carat_error *err);
// Frees the media of messages that are not there any more.
void conversation_prune(struct conversation *c);
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
// The messages as a JSON array; media by their paths from the root, or as they came.
void conversation_write(const struct conversation *c, struct buf *out);

// For conversation.c: a part of a message, {"type":"image","path":...} and the like, and back.
// Errors are about the part alone. conversation_media.c
int conversation_read_medium(struct conversation *c, const struct json_value *object,
                             struct carat_part *part, struct carat_error *err);
void conversation_write_medium(const struct conversation *c, const struct carat_part *part,
                               struct buf *out);
void conversation_free_media(struct conversation *c);

#endif
