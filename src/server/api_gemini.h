// SPDX-License-Identifier: Apache-2.0
// What the parts of the Gemini dialect share: api_gemini.c parses requests, api_gemini_contents.c
// their contents, api_gemini_schema.c their schemas; api_gemini_answer.c renders.
#ifndef CARAT_SERVER_API_GEMINI_H
#define CARAT_SERVER_API_GEMINI_H

#include "server/server.h"

struct gemini {
    bool is_array;     // the stream is one JSON array, not server-sent events
    bool has_chunk;    // of the array: something stands in it
    size_t dimensions; // of embeddings; 0: all
    uint32_t image_tokens;
};

// A member by its name in camelCase or, as this API takes it as well, in snake_case.
const struct json_value *gemini_get(const struct json_value *object, const char *camel);
// The name that is there, camel when neither is; snake has room for 64 bytes.
const char *gemini_key(const struct json_value *object, const char *camel, char snake[64]);

// contents and systemInstruction of root, into ask.chat.
int gemini_read_contents(struct call *call, const struct json_value *root, struct carat_error *err);
// The texts of one content's parts, one after the other, as one text in the arena.
int gemini_read_text(struct call *call, const struct json_value *content, struct slice *out,
                     struct carat_error *err);
// A schema as this API writes it (types in capitals, nullable, counts as strings) as JSON Schema.
// *out is freed by the caller.
int gemini_schema(const struct json_value *schema, struct json_doc **out, struct carat_error *err);

void gemini_answer(struct call *call, struct buf *out);
void gemini_begin(struct call *call, struct buf *out);
void gemini_event(struct call *call, const struct call_event *e, struct buf *out);
void gemini_end_choice(struct call *call, size_t choice, struct buf *out);
void gemini_end(struct call *call, struct buf *out);
void gemini_stream_error(struct call *call, int status, const struct carat_error *error,
                         struct buf *out);
void gemini_answer_count(struct call *call, struct buf *out);
void gemini_answer_embedding(struct call *call, struct buf *out);
void gemini_answer_embeddings(struct call *call, struct buf *out);
void gemini_error(int status, const struct carat_error *error, bool in_stream, struct buf *out);

// Whether the request comes from a client of this API: /v1/models is OpenAI's, too.
bool gemini_is_client(const struct http_request *request);
// GET /v1beta/models and /v1beta/models/NAME, for routes[].
void gemini_models(struct server *server, struct http_request *request, struct http_reply *reply);
void gemini_model(struct server *server, struct http_request *request, struct http_reply *reply);

#endif
