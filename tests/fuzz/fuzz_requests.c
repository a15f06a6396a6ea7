// SPDX-License-Identifier: Apache-2.0
// Bodies of requests through every dialect: parsed, their media decoded, their prompts rendered and
// tokenized, and an answer made up and written, whole and as a stream. What is refused says why,
// and what is written is JSON. The first byte chooses the dialect, the second the answer; the body
// follows.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "formats/json.h"
#include "server/http_parts.h"
#include "server/stored.h"
#include "server/work.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    const struct dialect *dialect;
    const char *path, *content_type;
} rows[] = {
    {&dialect_openai_chat, "/v1/chat/completions", "application/json"},
    {&dialect_openai_text, "/v1/completions", "application/json"},
    {&dialect_openai_embeddings, "/v1/embeddings", "application/json"},
    {&dialect_openai_responses, "/v1/responses", "application/json"},
    {&dialect_openai_transcriptions, "/v1/audio/transcriptions", "multipart/form-data; boundary=x"},
    {&dialect_anthropic, "/v1/messages", "application/json"},
    {&dialect_anthropic_count, "/v1/messages/count_tokens", "application/json"},
    {&dialect_ollama_chat, "/api/chat", "application/json"},
    {&dialect_ollama_generate, "/api/generate", "application/json"},
    {&dialect_ollama_embed, "/api/embed", "application/json"},
    {&dialect_ollama_embeddings, "/api/embeddings", "application/json"},
    {&dialect_gemini, "/v1beta/models/m:generateContent", "application/json"},
    {&dialect_gemini, "/v1beta/models/m:streamGenerateContent", "application/json"},
    {&dialect_gemini, "/v1beta/models/m:countTokens", "application/json"},
    {&dialect_gemini, "/v1beta/models/m:batchEmbedContents", "application/json"},
    {&dialect_openai_responses_count, "/v1/responses/input_tokens", "application/json"},
    {&dialect_openai_translations, "/v1/audio/translations", "multipart/form-data; boundary=x"},
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))
// So many runs in a row without a failure: all allocations have had theirs.
#define ENOUGH_MEMORY 40

static struct server *get_server(void)
{
    static struct serve_options options;
    static struct server server;
    if (!server.engine) {
        struct carat_error err = {0};
        struct carat_engine_options engine = {.model = DEMO_MODEL, .n_threads = 1};
        if (carat_engine_open(&server.engine, &engine, &err)) {
            fprintf(stderr, "%s\n", err.text);
            abort();
        }
        serve_options_init(&options);
        carat_sampling_init(&options.sampling, server.engine);
        options.engine = server.engine;
        options.media = (struct carat_media_limits){.file_size_max = 1 << 20,
                                                    .pixels_max = 1 << 20,
                                                    .seconds_max = 30,
                                                    .memory_max = 64 << 20,
                                                    .frames_max = 4};
        server.options = &options;
        memcpy(server.model_id, "demo", 5);
        if (stored_new(&server.stored, 8, 1 << 20, NULL)) {
            abort();
        }
        // What requests refer to.
        const struct stored_answer stored = {
            .id = "resp_a",
            .response = slice_of("{}"),
            .input = slice_of("{\"type\":\"message\",\"role\":\"user\",\"content\":\"a\"}"),
            .output = slice_of("{\"id\":\"msg_a_0\",\"type\":\"message\",\"role\":\"assistant\","
                               "\"content\":[{\"type\":\"output_text\",\"text\":\"b\"}]}")};
        stored_put(server.stored, &stored);
    }
    return &server;
}

// ------------------------------------------------------------------------------ answers

// Texts that are awkward in JSON; how decides which there are.
static void make_answer(struct call *call, struct answer *a, unsigned how)
{
    static struct carat_logprob top[] = {{5, -0.5f}, {6, -INFINITY}};
    static struct answer_logprob logprobs[] = {{5, -0.5f, top, 2}, {6, -INFINITY, top, 1}};
    static struct answer_call calls[] = {
        {.id = "call_a", .name = "f", .arguments = "{}", .sampled = "call:f{}"},
        {.id = "call_b", .name = "g", .arguments = "{\"a\":\"\\\"\"}", .sampled = "call:g{}"},
    };
    static const enum carat_stop stops[] = {CARAT_STOP_TURN, CARAT_STOP_TOOL,   CARAT_STOP_STRING,
                                            CARAT_STOP_LOOP, CARAT_STOP_LENGTH, CARAT_STOP_USER};
    buf_adds(&a->text, how & 1 ? "a \"quoted\"\n\\ \xc3\xa9\x01</script>" : "");
    buf_adds(&a->thought, how & 2 ? "hm\t" : "");
    a->calls = calls;
    a->n_calls = how & 4 ? 2 : 0;
    a->logprobs = logprobs;
    a->n_logprobs = call->ask.wants_logprobs ? 2 : 0;
    a->stop = stops[how / 8 % 6];
    memcpy(a->stop_string, "\"\n", 3);
    a->n_tokens = 7;
    size_t n = carat_engine_info(call->server->engine)->hidden_size;
    a->embedding =
        call->ask.kind == ASK_EMBEDDING ? call_take(call, n * sizeof(float), NULL) : NULL;
}

static void send_event(struct call *call, size_t choice, enum carat_event_type type,
                       const char *text, size_t i_call, struct buf *out)
{
    const struct answer *a = &call->answers[choice];
    struct carat_event event = {.type = type, .text = text, .size = strlen(text), .stop = a->stop};
    bool is_call =
        type == CARAT_EVENT_CALL || type == CARAT_EVENT_CALL_ARGS || type == CARAT_EVENT_CALL_END;
    struct call_event e = {.choice = choice,
                           .event = &event,
                           .tool_call = is_call ? &a->calls[i_call] : NULL,
                           .call_index = i_call};
    if (type == CARAT_EVENT_TEXT) {
        e.logprobs = a->logprobs;
        e.n_logprobs = a->n_logprobs;
    }
    if (type == CARAT_EVENT_STOP) {
        event.text = a->stop_string;
        event.size = strlen(a->stop_string);
    }
    call->dialect->event(call, &e, out);
}

static void write_stream(struct call *call, struct buf *out)
{
    call->dialect->begin(call, out);
    for (size_t i = 0; i < call->n_answers; i++) {
        const struct answer *a = &call->answers[i];
        if (a->thought.size > 0 && !call->ask.hides_thoughts) {
            send_event(call, i, CARAT_EVENT_THOUGHT, buf_text(&a->thought), 0, out);
        }
        if (a->text.size > 0) {
            send_event(call, i, CARAT_EVENT_TEXT, buf_text(&a->text), 0, out);
        }
        for (size_t t = 0; t < a->n_calls; t++) {
            send_event(call, i, CARAT_EVENT_CALL, a->calls[t].name, t, out);
            send_event(call, i, CARAT_EVENT_CALL_ARGS, a->calls[t].arguments, t, out);
            send_event(call, i, CARAT_EVENT_CALL_END, a->calls[t].sampled, t, out);
        }
        send_event(call, i, CARAT_EVENT_STOP, "", 0, out);
        call->dialect->end_choice(call, i, out);
    }
    call->dialect->end(call, out);
}

static void check_json(struct slice text)
{
    struct json_doc *doc = NULL;
    struct carat_error err = {0};
    mem_fail_nth(0); // this is none of theirs
    if (json_parse(&doc, text.data, text.size, "answer", &err)) {
        fprintf(stderr, "%s: %.*s\n", err.text, (int)text.size, text.data);
        abort();
    }
    json_free(doc);
}

// Each line of a stream: JSON, or an event's name, or its data.
static void check_lines(struct slice text)
{
    size_t at = 0;
    while (at < text.size) {
        const char *end = memchr(text.data + at, '\n', text.size - at);
        size_t size = end ? (size_t)(end - text.data) - at : text.size - at;
        struct slice line = slice_make(text.data + at, size);
        at += size + 1;
        if (slice_starts(line, "data: ")) {
            line = slice_make(line.data + 6, line.size - 6);
        }
        if (line.size > 0 && !slice_starts(line, "event: ") && !slice_is(line, "[DONE]")) {
            check_json(line);
        }
    }
}

// False: there was no memory for it.
static bool answer(struct work *w, unsigned how)
{
    struct call *call = &w->call;
    struct buf out = {0};
    if (call->ask.kind != ASK_COUNT) {
        size_t n_prompts = w->n_prompts > 0 ? w->n_prompts : 1;
        size_t n_choices = call->ask.n_choices > 0 ? call->ask.n_choices : 1;
        n_choices = call->ask.kind == ASK_EMBEDDING ? 1 : n_choices;
        size_t n = n_prompts * n_choices;
        call->answers = call_take(call, n * sizeof(*call->answers), NULL);
        if (!call->answers) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            make_answer(call, &call->answers[i], how + (unsigned)i);
        }
        call->n_answers = n;
    }
    bool is_stream = call->ask.streams && call->ask.kind != ASK_COUNT;
    if (is_stream) {
        write_stream(call, &out);
    } else {
        call->dialect->answer(call, &out);
    }
    bool has_all = !out.has_failed;
    bool is_lines =
        is_stream && strcmp(call->dialect->stream_content_type, "application/json") != 0;
    struct slice text = slice_make(buf_text(&out), out.size);
    if (has_all && is_lines) {
        check_lines(text);
    } else if (has_all && !call->ask.content_type) {
        check_json(text);
    }
    buf_release(&out);
    return has_all;
}

// ------------------------------------------------------------------------------ requests

static int make_prompts(struct work *w, struct carat_error *err)
{
    const struct ask *ask = &w->call.ask;
    size_t n = ask->n_texts > 0 ? ask->n_texts : ask->n_chats > 0 ? ask->n_chats : 1;
    w->prompts = call_take(&w->call, n * sizeof(*w->prompts), err);
    int rc = w->prompts ? 0 : CARAT_E_MEMORY;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct carat_engine *engine = w->call.server->engine;
        if (ask->text_tokens) {
            rc = carat_prompt_from_tokens(&w->prompts[i], engine, ask->text_tokens[i],
                                          ask->n_text_tokens[i], err);
        } else if (ask->n_texts > 0) {
            rc = carat_prompt_from_text(&w->prompts[i], engine, ask->texts[i].data,
                                        ask->texts[i].size, 0, err);
        } else {
            rc = carat_prompt_from_chat(&w->prompts[i], engine,
                                        ask->n_chats > 0 ? &ask->chats[i] : &ask->chat, err);
        }
        w->n_prompts += rc == 0;
    }
    return rc;
}

static void refuse(const struct call *call, const struct carat_error *err)
{
    struct buf out = {0};
    require(err->text[0]);
    call->dialect->error(call_status_of(err), err, false, &out);
    if (!out.has_failed) {
        check_json(slice_make(buf_text(&out), out.size));
    }
    buf_release(&out);
}

// 0, or the status of the error; CARAT_E_MEMORY also when the answer could not be written.
static int run(const uint8_t *data, size_t size)
{
    size_t row = data[0] % N_ROWS;
    struct http_exchange exchange = {
        .reply = {.request = {.method = "POST",
                              .path = rows[row].path,
                              .content_type = rows[row].content_type,
                              .client = "",
                              .body = slice_make((const char *)data + 2, size - 2)}}};
    struct carat_error err = {0};
    struct work *w = mem_new(sizeof(*w), &err);
    if (!w) {
        return CARAT_E_MEMORY;
    }
    w->call = (struct call){.server = get_server(),
                            .dialect = rows[row].dialect,
                            .reply = &exchange.reply,
                            .body = exchange.reply.request.body,
                            .id = "id",
                            .model = "demo",
                            .ask = {.sampling = get_server()->options->sampling}};
    int rc = w->call.dialect->parse(&w->call, &err);
    rc = rc ? rc : make_prompts(w, &err);
    require(rc == 0 || err.status == rc);
    if (rc) {
        refuse(&w->call, &err);
    } else if (!answer(w, data[1])) {
        rc = CARAT_E_MEMORY;
    }
    work_free(w);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    int rc = run(data, size);
    size_t n_good = 0;
    // A fuzzer tries one of them for each input: it has inputs enough.
    size_t first = IS_REPLAY ? 1 : 1 + size % 97;
    size_t last = IS_REPLAY ? SIZE_MAX : first;
    for (size_t n = first; data[1] == 255 && n <= last && n_good < ENOUGH_MEMORY; n++) {
        size_t bytes = mem_bytes_now();
        mem_fail_nth(n);
        int found = run(data, size);
        mem_fail_nth(0);
        n_good = found == rc ? n_good + 1 : 0;
        require(found == rc || found == CARAT_E_MEMORY);
        require(mem_bytes_now() == bytes);
    }
    return 0;
}
