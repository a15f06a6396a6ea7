// SPDX-License-Identifier: Apache-2.0
// What the parts of the Ollama dialects share: api_ollama.c parses, api_ollama_answer.c renders,
// api_ollama_info.c tells about the model.
#ifndef CARAT_SERVER_API_OLLAMA_H
#define CARAT_SERVER_API_OLLAMA_H

#include "server/server.h"

struct ollama {
    bool is_generate; // the answer is a "response", not a "message"
    // Nothing to answer, as clients ask to load or unload a model: what to say, else NULL.
    const char *done_reason;
    size_t dimensions; // of embeddings; 0: all
};

void ollama_answer(struct call *call, struct buf *out);
void ollama_event(struct call *call, const struct call_event *e, struct buf *out);
void ollama_end_choice(struct call *call, size_t choice, struct buf *out);
void ollama_end(struct call *call, struct buf *out);
void ollama_begin(struct call *call, struct buf *out);
void ollama_answer_embed(struct call *call, struct buf *out);
void ollama_answer_embeddings(struct call *call, struct buf *out);
void ollama_error(int status, const struct carat_error *error, bool in_stream, struct buf *out);

// Whether a client's name is this server's model, with or without ":latest".
bool ollama_is_model(const struct server *server, struct slice name);

// Answers at once, for routes[].
void ollama_tags(struct server *server, struct http_request *request, struct http_reply *reply);
void ollama_show(struct server *server, struct http_request *request, struct http_reply *reply);
void ollama_ps(struct server *server, struct http_request *request, struct http_reply *reply);
void ollama_version(struct server *server, struct http_request *request, struct http_reply *reply);
void ollama_pull(struct server *server, struct http_request *request, struct http_reply *reply);
// push, create, copy, delete, blobs: says that they are not offered.
void ollama_refuse(struct server *server, struct http_request *request, struct http_reply *reply);

#endif
