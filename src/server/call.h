// SPDX-License-Identifier: Apache-2.0
// A call is one request to the model on its way through the server:
//
//   HTTP thread   the route says which dialect                                     routes.c
//   worker        dialect->parse: JSON to `struct ask`; media are decoded, the     call.c
//                 prompt is rendered and tokenized, the grammar compiled
//   engine        prefill and decode steps; events go to dialect->event (streams)  queue.c
//   thread        or are gathered and go to dialect->answer                        call.c
//
// A dialect is a parse and a few render functions that are pure: they see the ask and the events,
// and append bytes to a buffer. Only dialects know a wire format.
#ifndef CARAT_SERVER_CALL_H
#define CARAT_SERVER_CALL_H

#include "base/mem.h"
#include "base/str.h"
#include "formats/json.h"
#include "server/http.h"

#define CALL_CHOICES_MAX 16
#define CALL_PROMPTS_MAX 64
#define CALL_CHATS_MAX   512

struct call;
struct server;

enum ask_kind {
    ASK_CHAT,      // chat -> one or more answers
    ASK_TEXT,      // texts as they are -> completions
    ASK_EMBEDDING, // texts -> vectors
    ASK_COUNT,     // chat, or texts -> usage.prompt_tokens, and nothing is evaluated
};

// What a dialect made of a request. Zeroed memory, filled by parse; everything it points to is in
// the call's arena or lives as long (struct call below).
struct ask {
    enum ask_kind kind;
    struct carat_chat chat;         // ASK_CHAT
    const struct carat_chat *chats; // instead of it: each is a prompt of its own [n_chats]
    size_t n_chats;
    struct slice *texts; // ASK_TEXT, ASK_EMBEDDING [n_texts]: each is a prompt of its own
    size_t n_texts;
    const carat_token *const *text_tokens; // instead of texts: prompts as tokens [n_texts]
    const size_t *n_text_tokens;
    struct carat_sampling sampling; // parse begins with the server's defaults in it
    struct carat_grammar_options grammar;
    bool has_grammar;
    const char **stops; // [n_stops]
    size_t n_stops;
    size_t n_choices;    // 0: 1; answers to the same prompt
    size_t tokens_max;   // 0: the context's end
    bool echoes;         // completions: the prompt is part of the answer
    bool wants_logprobs; // sampling.n_top then says how many alternatives (0: the token itself)
    bool streams;
    bool includes_usage;       // OpenAI's stream_options.include_usage
    bool has_loop_guard;       // the server's default is filled in
    double seconds_max;        // for the whole call; 0: the server's default
    size_t thought_tokens_max; // 0: no limit; thinking ends there
    bool hides_thoughts;       // the client did not ask to see them: counted, not shown
    const char *note; // something that was ignored and why: goes to the log and to X-Carat-Note
    const char *content_type; // of a whole answer; NULL: application/json
};

// One tool call of an answer, as it was read from the model's text.
struct answer_call {
    char id[40];           // made up, unique: "call_..." ; recall.h knows what was sampled
    const char *name;      // these three in the call's arena
    const char *arguments; // JSON object
    const char *sampled;
};

struct answer_logprob {
    carat_token token;
    float logprob;
    struct carat_logprob *top; // [n_top], best first
    size_t n_top;
};

// What the events of one choice add up to.
struct answer {
    struct buf text;
    struct buf thought;
    struct answer_call *calls; // [n_calls]
    size_t n_calls;
    struct answer_logprob *logprobs; // [n_logprobs], of the tokens of the text, when wanted
    size_t n_logprobs;
    enum carat_stop stop;
    char stop_string[256];
    size_t n_tokens;         // sampled
    size_t n_thought_tokens; // of these, inside thoughts
    float *embedding;        // ASK_EMBEDDING [hidden_size]
};

struct usage {
    size_t prompt_tokens; // of all prompts
    size_t cached_tokens; // of these, not evaluated again
    size_t answer_tokens; // of all choices
    size_t thought_tokens;
    double queue_s;   // waiting
    double prefill_s; // to the first token, from when it left the queue
    double decode_s;  // from the first token to the last
};

// One event of a stream: what the parser said, with what the server adds.
struct call_event {
    size_t choice;
    const struct carat_event *event;
    // Between CALL and CALL_END: which call of the answer this is about; its id is known from the
    // start. NULL otherwise.
    const struct answer_call *tool_call;
    size_t call_index;
    // Of the tokens whose text this event brings, when wanted.
    const struct answer_logprob *logprobs;
    size_t n_logprobs;
};

// A dialect's functions run on one thread at a time for one call. Render functions append to out
// and cannot fail but for memory, which the buffer remembers.
struct dialect {
    const char *name;                // for log and metrics
    const char *stream_content_type; // "text/event-stream", "application/x-ndjson"
    const char *id_header; // where clients look for the request's id, beside X-Request-Id; or NULL
    // From call->body to call->ask (and call->state, the dialect's own, in the arena). It may put
    // another dialect into call->dialect where the path or body asks for another form. On failure
    // the status of the error decides: ARGUMENT and FORMAT 400, UNSUPPORTED 400, FULL 413, MEMORY
    // 503.
    int (*parse)(struct call *call, struct carat_error *err);
    // A whole answer: call->answers[call->n_answers], call->usage.
    void (*answer)(struct call *call, struct buf *out);
    // A stream: before the first event, each event, the end of one choice, the end of all. From
    // begin on, usage has the prompt's tokens; answers grow with the events in a stream as well.
    void (*begin)(struct call *call, struct buf *out);
    void (*event)(struct call *call, const struct call_event *e, struct buf *out);
    void (*end_choice)(struct call *call, size_t choice, struct buf *out);
    void (*end)(struct call *call, struct buf *out);
    // An error, as the dialect's clients expect it: a body, or the last piece of a stream.
    void (*error)(int status, const struct carat_error *error, bool in_stream, struct buf *out);
    // The last piece of a stream that failed, where that has to name the call; NULL: error does it.
    void (*stream_error)(struct call *call, int status, const struct carat_error *error,
                         struct buf *out);
};

struct call {
    struct server *server;
    const struct dialect *dialect;
    struct http_reply *reply;
    struct slice body;    // as it came
    struct json_doc *doc; // parse may put its document here: freed with the call
    struct arena arena;
    struct carat_media **media; // decoded for this call: freed with it (call_add_media)
    size_t n_media;
    struct ask ask;
    void *state; // the dialect's own

    struct answer *answers; // [n_answers], n_choices for each prompt
    size_t n_answers;
    struct usage usage;
    char id[40];       // "Tk3...": the dialect puts its prefix before it (chatcmpl-, msg_, resp_)
    int64_t created;   // Unix time
    const char *model; // name to answer with: as asked for, else the model's own
};

// Takes a request from a route: makes a call and gives it to a worker. Never blocks.
void call_start(struct server *server, const struct dialect *dialect, struct http_reply *reply);

// For parse. All results live as long as the call.
void *call_take(struct call *call, size_t size, struct carat_error *err);             // zeroed
const char *call_text(struct call *call, struct slice text, struct carat_error *err); // terminated
const char *call_json(struct call *call, const struct json_value *v, struct carat_error *err);
// The body as a JSON object, in call->doc.
int call_parse_body(struct call *call, const struct json_value **root, struct carat_error *err);
// Decodes a medium under the server's limits, in a process of its own where there is one. The
// caller frees it.
int call_decode(struct call *call, const struct carat_media_source *source,
                struct carat_media **out, struct carat_error *err);
// The same for a medium of the call's. source->data etc. need not outlive the call.
int call_add_media(struct call *call, const struct carat_media_source *source,
                   const struct carat_media **out, struct carat_error *err);
// The address of a medium in a request: data: is decoded; http(s): only where the server allows
// fetching, else CARAT_E_UNSUPPORTED with what to do; file: and paths: only where it reads files.
// *out holds the bytes, in the arena.
int call_read_url(struct call *call, struct slice url, struct slice *out, struct carat_error *err);
// Where Base64 and addresses may stand: whether this is an address.
bool call_is_url(const struct call *call, struct slice text);
// What was sampled for a call id earlier, NULL when unknown: put it into carat_tool_call.sampled.
// name and arguments are what the client sent: NULL as well when they are no longer the same.
const char *call_recall(struct call *call, struct slice id, const char *name,
                        const char *arguments);
int64_t call_now(void); // Unix time

// Reading fields, with errors that name them ("temperature: expected a number from 0 to 2, found a
// string"). Absent and null leave *out alone.
int ask_number(const struct json_value *object, const char *key, double min, double max,
               double *out, struct carat_error *err);
int ask_float(const struct json_value *object, const char *key, double min, double max, float *out,
              struct carat_error *err);
int ask_size(const struct json_value *object, const char *key, size_t min, size_t max, size_t *out,
             struct carat_error *err);
int ask_bool(const struct json_value *object, const char *key, bool *out, struct carat_error *err);
int ask_string(const struct json_value *object, const char *key, struct slice *out,
               struct carat_error *err);
// A string or a list of strings, into the arena.
int ask_strings(struct call *call, const struct json_value *v, const char *name, size_t n_max,
                const char ***out, size_t *n, struct carat_error *err);

// HTTP status of an error.
int call_status_of(const struct carat_error *error);
// Server-sent events: "event: name\n" (name may be NULL), "data: ...\n\n".
void sse_begin(struct buf *out, const char *event);
void sse_end(struct buf *out);

#endif
