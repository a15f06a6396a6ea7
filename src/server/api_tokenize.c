// SPDX-License-Identifier: Apache-2.0
// /tokenize and /detokenize in the forms of vLLM (prompt, messages) and llama.cpp (content): one
// answer has the fields of both. docs/serve.md
#include "base/error.h"
#include "server/openai.h"
#include "server/server.h"
#include "server/work.h"

#include <string.h>

struct tokenize_state {
    bool has_bos;     // the answer keeps what stands before the text
    bool has_pieces;  // tokens as objects with their text
    bool has_strings; // ... or their texts as a list of its own
    const carat_token *tokens;
    size_t n_tokens;
};

// A text whose bytes need not be whole characters: then its bytes, as llama.cpp gives them.
static void write_piece(struct buf *out, const char *text, size_t size)
{
    if (utf8_is_valid(text, size)) {
        buf_add_json(out, text, size);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        buf_addf(out, "%s%u", i ? "," : "[", (unsigned)(unsigned char)text[i]);
    }
    buf_adds(out, "]");
}

static int read_text(struct call *call, const struct json_value *root, const char *key,
                     struct carat_error *err)
{
    struct tokenize_state *state = call->state;
    struct ask *ask = &call->ask;
    bool reads_markers = true;
    ask->texts = call_take(call, sizeof(*ask->texts), err);
    if (!ask->texts) {
        return CARAT_E_MEMORY;
    }
    ask->n_texts = 1;
    int rc = ask_string(root, key, &ask->texts[0], err);
    rc = rc ? rc : ask_bool(root, "add_special_tokens", &state->has_bos, err);
    rc = rc ? rc : ask_bool(root, "add_special", &state->has_bos, err);
    rc = rc ? rc : ask_bool(root, "parse_special", &reads_markers, err);
    ask->chat.trusts_markers = reads_markers;
    return rc;
}

static int read_chat(struct call *call, const struct json_value *root, struct carat_error *err)
{
    struct tokenize_state *state = call->state;
    bool is_legacy = false, opens_answer = true;
    state->has_bos = true;
    int rc = openai_read_reasoning(call, root, err);
    rc = rc ? rc : openai_read_tools(call, root, &is_legacy, err);
    rc = rc ? rc : openai_read_messages(call, json_get(root, "messages"), 0, err);
    rc = rc ? rc : ask_bool(root, "add_generation_prompt", &opens_answer, err);
    rc = rc ? rc : ask_bool(root, "continue_final_message", &call->ask.chat.continues_final, err);
    call->ask.chat.is_complete = !opens_answer;
    return rc;
}

static int begin(struct call *call, const struct json_value **root, struct carat_error *err)
{
    call->ask.kind = ASK_COUNT;
    call->state = call_take(call, sizeof(struct tokenize_state), err);
    return call->state ? call_parse_body(call, root, err) : CARAT_E_MEMORY;
}

static int parse_tokenize(struct call *call, struct carat_error *err)
{
    const struct json_value *root = NULL;
    int rc = begin(call, &root, err);
    if (rc) {
        return rc;
    }
    struct tokenize_state *state = call->state;
    rc = ask_bool(root, "with_pieces", &state->has_pieces, err);
    rc = rc ? rc : ask_bool(root, "return_token_strs", &state->has_strings, err);
    if (rc) {
        return rc;
    }
    if (json_get(root, "messages")) {
        return read_chat(call, root, err);
    }
    if (json_get(root, "prompt")) {
        state->has_bos = true; // as vLLM; llama.cpp leaves it off
        return read_text(call, root, "prompt", err);
    }
    if (json_get(root, "content")) {
        return read_text(call, root, "content", err);
    }
    return fail(err, CARAT_E_ARGUMENT, "expected 'prompt', 'content' or 'messages', found none");
}

static void write_strings(const struct carat_engine *engine, const carat_token *tokens, size_t n,
                          struct buf *out)
{
    buf_adds(out, "[");
    for (size_t i = 0; i < n; i++) {
        size_t size = 0;
        const char *text = carat_token_text(engine, tokens[i], &size);
        buf_adds(out, i ? "," : "");
        buf_add_json(out, text ? text : "", size);
    }
    buf_adds(out, "]");
}

static void answer_tokenize(struct call *call, struct buf *out)
{
    const struct tokenize_state *state = call->state;
    const struct carat_engine *engine = call->server->engine;
    size_t n = 0;
    const carat_token *tokens = carat_prompt_tokens(work_of(call)->prompts[0], &n);
    if (!state->has_bos && n > 0) {
        tokens++;
        n--;
    }
    buf_addf(out, "{\"count\":%zu,\"max_model_len\":%zu,\"tokens\":[", n,
             queue_context_max(call->server->queue));
    for (size_t i = 0; i < n; i++) {
        size_t size = 0;
        const char *text = carat_token_text(engine, tokens[i], &size);
        if (state->has_pieces) {
            buf_addf(out, "%s{\"id\":%d,\"piece\":", i ? "," : "", (int)tokens[i]);
            write_piece(out, text ? text : "", size);
            buf_adds(out, "}");
        } else {
            buf_addf(out, "%s%d", i ? "," : "", (int)tokens[i]);
        }
    }
    buf_adds(out, "],\"token_strs\":");
    if (state->has_strings) {
        write_strings(engine, tokens, n, out);
    } else {
        buf_adds(out, "null");
    }
    buf_adds(out, "}");
}

static int read_tokens(struct call *call, const struct json_value *list, struct carat_error *err)
{
    struct tokenize_state *state = call->state;
    size_t n = json_count(list), n_vocab = carat_engine_info(call->server->engine)->n_vocab;
    if (json_kind(list) != JSON_ARRAY) {
        return fail(err, CARAT_E_ARGUMENT, "tokens: expected a list of token ids, found %s",
                    json_kind_name(json_kind(list)));
    }
    carat_token *tokens = call_take(call, (n + 1) * sizeof(*tokens), err);
    if (!tokens) {
        return CARAT_E_MEMORY;
    }
    struct json_iter it = json_iter(list);
    for (size_t i = 0; json_next(&it); i++) {
        uint64_t id = 0;
        if (!json_u64(it.value, &id) || id >= n_vocab) {
            return fail(err, CARAT_E_ARGUMENT, "tokens[%zu]: expected a token id below %zu", i,
                        n_vocab);
        }
        tokens[i] = (carat_token)id;
    }
    state->tokens = tokens;
    state->n_tokens = n;
    return 0;
}

static int parse_detokenize(struct call *call, struct carat_error *err)
{
    const struct json_value *root = NULL;
    int rc = begin(call, &root, err);
    rc = rc ? rc : read_tokens(call, json_get(root, "tokens"), err);
    // A call has a prompt, even one that nobody looks at.
    call->ask.texts = rc ? NULL : call_take(call, sizeof(*call->ask.texts), err);
    call->ask.n_texts = call->ask.texts != NULL;
    return rc ? rc : call->ask.texts ? 0 : CARAT_E_MEMORY;
}

static void answer_detokenize(struct call *call, struct buf *out)
{
    const struct tokenize_state *state = call->state;
    struct buf text = {.max = call->server->options->body_size_max};
    for (size_t i = 0; i < state->n_tokens; i++) {
        size_t size = 0;
        const char *piece = carat_token_text(call->server->engine, state->tokens[i], &size);
        buf_add(&text, piece ? piece : "", size);
    }
    buf_adds(out, "{\"prompt\":");
    buf_add_json(out, buf_text(&text), text.size);
    buf_adds(out, ",\"content\":");
    buf_add_json(out, buf_text(&text), text.size);
    buf_adds(out, "}");
    buf_release(&text);
}

const struct dialect dialect_tokenize = {
    .name = "tokenize",
    .parse = parse_tokenize,
    .answer = answer_tokenize,
    .error = openai_error,
};

const struct dialect dialect_detokenize = {
    .name = "detokenize",
    .parse = parse_detokenize,
    .answer = answer_detokenize,
    .error = openai_error,
};
