// SPDX-License-Identifier: Apache-2.0
// Embeddings: the pooled hidden state of a generative model, carat_session_embed. Said so in the
// answer, because it was not trained to be one. docs/api-openai.md
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "server/openai.h"
#include "server/server.h"

struct embedding_state {
    bool is_base64;
    size_t n; // numbers of each vector
};

static int read_encoding(struct embedding_state *state, const struct json_value *root,
                         struct carat_error *err)
{
    struct slice encoding = slice_of("float");
    int rc = ask_string(root, "encoding_format", &encoding, err);
    state->is_base64 = slice_is(encoding, "base64");
    if (rc == 0 && !state->is_base64 && !slice_is(encoding, "float")) {
        rc = fail(err, CARAT_E_ARGUMENT, "encoding_format: expected float or base64, found '%.*s'",
                  (int)(encoding.size < 40 ? encoding.size : 40), encoding.data);
    }
    return rc;
}

static int parse(struct call *call, struct carat_error *err)
{
    const struct json_value *root = NULL;
    size_t hidden_size = carat_engine_info(call->server->engine)->hidden_size;
    struct embedding_state *state = call_take(call, sizeof(*state), err);
    if (!state) {
        return CARAT_E_MEMORY;
    }
    state->n = hidden_size;
    call->state = state;
    int rc = call_parse_body(call, &root, err);
    rc = rc ? rc : openai_read_common(call, root, err);
    rc = rc ? rc : read_encoding(state, root, err);
    rc = rc ? rc : ask_size(root, "dimensions", 1, hidden_size, &state->n, err);
    rc = rc ? rc : openai_read_prompts(call, json_get(root, "input"), "input", err);
    call->ask.kind = ASK_EMBEDDING;
    call->ask.n_choices = 1;
    call->ask.streams = false;
    call->ask.has_grammar = false;
    return rc;
}

// What the first numbers have to be multiplied by to have length 1 by themselves.
static float scale_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sum > 0 ? (float)(1 / sqrt(sum)) : 1;
}

static void put_base64(struct buf *out, const uint8_t three[3], size_t n)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned bits = (unsigned)three[0] << 16 | (unsigned)three[1] << 8 | three[2];
    for (size_t i = 0; i < 4; i++) {
        buf_addc(out, i <= n ? letters[bits >> (18 - 6 * i) & 63] : '=');
    }
}

// f32, little-endian whatever the machine is.
static void write_base64(struct buf *out, const float *x, size_t n, float scale)
{
    uint8_t three[3] = {0};
    size_t filled = 0;
    buf_addc(out, '"');
    for (size_t i = 0; i < n; i++) {
        float value = x[i] * scale;
        uint32_t bits;
        memcpy(&bits, &value, sizeof(bits));
        for (unsigned shift = 0; shift < 32; shift += 8) {
            three[filled++] = (uint8_t)(bits >> shift);
            if (filled == 3) {
                put_base64(out, three, 3);
                memset(three, 0, sizeof(three));
                filled = 0;
            }
        }
    }
    if (filled > 0) {
        put_base64(out, three, filled);
    }
    buf_addc(out, '"');
}

static void write_vector(const struct embedding_state *state, const float *x, struct buf *out)
{
    float scale = scale_of(x, state->n);
    if (state->is_base64) {
        write_base64(out, x, state->n, scale);
        return;
    }
    buf_addc(out, '[');
    for (size_t i = 0; i < state->n; i++) {
        buf_addf(out, i > 0 ? ",%.9g" : "%.9g", (double)(x[i] * scale));
    }
    buf_addc(out, ']');
}

static void answer(struct call *call, struct buf *out)
{
    buf_adds(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < call->n_answers; i++) {
        buf_addf(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i > 0 ? "," : "",
                 i);
        write_vector(call->state, call->answers[i].embedding, out);
        buf_addc(out, '}');
    }
    buf_adds(out, "],\"model\":");
    buf_add_json(out, call->model, strlen(call->model));
    buf_addf(out,
             ",\"pooling\":\"mean of the last hidden state\",\"usage\":{\"prompt_tokens\":%zu,"
             "\"total_tokens\":%zu}}",
             call->usage.prompt_tokens, call->usage.prompt_tokens);
}

const struct dialect dialect_openai_embeddings = {
    .name = "openai-embeddings",
    .stream_content_type = "text/event-stream",
    .parse = parse,
    .answer = answer,
    .error = openai_error,
};
