// SPDX-License-Identifier: Apache-2.0
// What the files of this room share: the one server of a process, its options, its tables.
#ifndef CARAT_SERVER_SERVER_H
#define CARAT_SERVER_SERVER_H

#include "server/call.h"
#include "server/metrics.h"
#include "server/serve.h"

struct decoder;
struct queue;
struct recall;
struct keys;
struct stored;

struct server {
    const struct serve_options *options;
    struct carat_engine *engine;
    struct carat_cache *cache;
    const char *cache_folder; // that it has; NULL: none
    uint64_t cache_size_max;
    struct queue *queue;
    struct decoder *decoder; // of media; NULL: they are decoded here
    struct recall *recall;
    struct stored *stored; // answers that clients refer to later (stored.h)
    struct keys *keys;
    struct http *http;
    struct metrics metrics;
    atomic_bool is_draining; // it ends: nothing new is taken
    char model_id[256];      // what /v1/models calls the model
    int64_t started;         // Unix time
};

// The part of a server that knows nothing of HTTP: what stands in options and engine gets a name, a
// cache and a queue. What calls use besides is there before. Release on failure, too.
int server_open(struct server *s, struct carat_error *err);
void server_release(struct server *s); // calls end before what they use: first of all

// A row in routes[]: exact paths, or a prefix that ends with '*'.
struct route {
    const char *method;
    const char *path;
    const struct dialect *dialect; // a call to the model, or NULL
    // Answers at once, on the polling thread: must not block.
    void (*answer)(struct server *server, struct http_request *request, struct http_reply *reply);
    bool is_open; // no key needed: /health, the page
};
extern const struct route routes[]; // ends with a row without path; in routes.c
// The row for this request; NULL when there is none, and then *allowed (may be NULL) gets the
// methods that the path has ("GET, HEAD, POST"), nothing when nobody knows the path.
const struct route *route_find(const char *method, const char *path, struct buf *allowed);
// The row with a dialect whose path is most like this one: clients that have lost their way expect
// errors in that form. NULL: none is.
const struct route *route_near(const char *path);

extern const struct dialect dialect_openai_chat, dialect_openai_text, dialect_openai_embeddings,
    dialect_openai_responses, dialect_openai_responses_count, dialect_openai_transcriptions,
    dialect_openai_translations, dialect_anthropic, dialect_anthropic_count, dialect_ollama_chat,
    dialect_ollama_generate, dialect_ollama_embed, dialect_ollama_embeddings, dialect_gemini,
    dialect_tokenize, dialect_detokenize;

#endif
