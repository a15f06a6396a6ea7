// SPDX-License-Identifier: Apache-2.0
// Ollama's questions about models: there is one, and it is always loaded.
#include "server/api_ollama.h"

#include <string.h>

#include "base/hash.h"
#include "formats/json.h"
#include "server/fields.h"

// The version of Ollama whose interface this is: clients refuse to talk to older ones.
#define OLLAMA_VERSION "0.12.6"
#define BODY_MAX       ((size_t)64 << 10) // of a request that is read on the polling thread
#define NEVER_S        ((int64_t)10 * 365 * 24 * 3600)

static const char latest[] = ":latest";

static void reply_json(struct http_reply *reply, int status, struct buf *out)
{
    if (out->has_failed) {
        static const char text[] = "{\"error\":\"no memory for an answer\"}";
        http_reply_all(reply, 503, "application/json", NULL, text, sizeof(text) - 1);
    } else {
        http_reply_all(reply, status, "application/json", NULL, buf_text(out), out->size);
    }
    buf_release(out);
}

static void reply_error(struct http_reply *reply, int status, const char *text)
{
    struct buf out = {0};
    buf_adds(&out, "{\"error\":");
    buf_add_json(&out, text, strlen(text));
    buf_adds(&out, "}");
    reply_json(reply, status, &out);
}

bool ollama_is_model(const struct server *server, struct slice name)
{
    size_t n = strlen(latest);
    if (slice_is(name, server->model_id)) {
        return true;
    }
    return slice_ends(name, latest) &&
           slice_is(slice_make(name.data, name.size - n), server->model_id);
}

// Names have a tag here.
static void add_name(const struct server *server, struct buf *out)
{
    struct buf name = {0};
    buf_adds(&name, server->model_id);
    buf_adds(&name, strchr(server->model_id, ':') ? "" : latest);
    buf_add_json(out, buf_text(&name), name.size);
    buf_release(&name);
}

// Names the weights without reading them all: what the file says of itself.
static void add_digest(const struct server *server, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(server->engine);
    struct hash h;
    hash_init(&h, NULL);
    hash_add(&h, info->name, strlen(info->name));
    hash_add(&h, info->weight_type, strlen(info->weight_type));
    hash_add_u64(&h, info->n_parameters);
    hash_add_u64(&h, info->weights_size);
    for (uint64_t i = 0; i < 2; i++) {
        uint8_t digest[HASH_SIZE];
        hash_add_u64(&h, i);
        hash_digest(&h, digest);
        for (size_t j = 0; j < HASH_SIZE; j++) {
            buf_addf(out, "%02x", digest[j]);
        }
    }
}

static void add_details(const struct server *server, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(server->engine);
    double n = (double)info->n_parameters;
    buf_addf(out,
             "\"details\":{\"parent_model\":\"\",\"format\":\"%s\",\"family\":\"%s\","
             "\"families\":[\"%s\"],\"parameter_size\":\"%.1f%s\",\"quantization_level\":",
             strcmp(info->container, "GGUF") == 0 ? "gguf" : "safetensors", info->architecture,
             info->architecture, n >= 1e9 ? n / 1e9 : n / 1e6, n >= 1e9 ? "B" : "M");
    buf_add_json(out, info->weight_type, strlen(info->weight_type));
    buf_adds(out, "}");
}

static size_t context_of(const struct server *server)
{
    size_t context = server->options->session.context_max;
    size_t model_max = carat_engine_info(server->engine)->context_max;
    return context ? context : model_max < 32768 ? model_max : 32768;
}

static void add_model(const struct server *server, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(server->engine);
    buf_adds(out, "{\"name\":");
    add_name(server, out);
    buf_adds(out, ",\"model\":");
    add_name(server, out);
    buf_addf(out, ",\"size\":%llu,\"digest\":\"", (unsigned long long)info->weights_size);
    add_digest(server, out);
    buf_adds(out, "\",");
    add_details(server, out);
}

void ollama_tags(struct server *server, struct http_request *request, struct http_reply *reply)
{
    struct buf out = {0};
    (void)request;
    buf_adds(&out, "{\"models\":[");
    add_model(server, &out);
    buf_adds(&out, ",\"modified_at\":");
    field_write_time(server->started, &out);
    buf_adds(&out, "}]}");
    reply_json(reply, 200, &out);
}

void ollama_ps(struct server *server, struct http_request *request, struct http_reply *reply)
{
    struct buf out = {0};
    (void)request;
    buf_adds(&out, "{\"models\":[");
    add_model(server, &out);
    buf_addf(&out, ",\"size_vram\":0,\"context_length\":%zu,\"expires_at\":", context_of(server));
    field_write_time(call_now() + NEVER_S, &out);
    buf_adds(&out, "}]}");
    reply_json(reply, 200, &out);
}

void ollama_version(struct server *server, struct http_request *request, struct http_reply *reply)
{
    struct buf out = {0};
    (void)server;
    (void)request;
    buf_addf(&out, "{\"version\":\"" OLLAMA_VERSION "\",\"carat\":\"%s\"}", carat_version());
    reply_json(reply, 200, &out);
}

// The model that a request names; false after an answer that says what is wrong with it.
static bool read_name(const struct server *server, const struct http_request *request,
                      struct http_reply *reply)
{
    struct json_doc *doc = NULL;
    struct carat_error error = {0};
    bool is_ours = false;
    if (request->body.size > BODY_MAX) {
        reply_error(reply, 413, "the request's body is too large");
        return false;
    }
    if (json_parse(&doc, request->body.data ? request->body.data : "", request->body.size,
                   "the request's body", &error)) {
        reply_error(reply, 400, error.text);
        return false;
    }
    const struct json_value *root = json_root(doc);
    struct slice name = json_string(json_get(root, "model"));
    name = name.size ? name : json_string(json_get(root, "name"));
    if (!name.size) {
        reply_error(reply, 400, "model: expected a name, found none");
    } else if (!ollama_is_model(server, name)) {
        struct buf text = {0};
        buf_addf(&text, "model '%.*s' not found: this server has '%s'",
                 (int)(name.size < 200 ? name.size : 200), name.data, server->model_id);
        reply_error(reply, 404, buf_text(&text));
        buf_release(&text);
    } else {
        is_ours = true;
    }
    json_free(doc);
    return is_ours;
}

static void add_model_info(const struct server *server, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(server->engine);
    const char *a = info->architecture;
    buf_addf(out, "\"model_info\":{\"general.architecture\":\"%s\",\"general.basename\":", a);
    buf_add_json(out, info->name, strlen(info->name));
    buf_addf(out,
             ",\"general.parameter_count\":%llu,\"%s.context_length\":%zu,"
             "\"%s.embedding_length\":%zu,\"%s.block_count\":%zu,\"%s.vocab_size\":%zu,"
             "\"%s.attention.sliding_window\":%zu}",
             (unsigned long long)info->n_parameters, a, context_of(server), a, info->hidden_size, a,
             info->n_layers, a, info->n_vocab, a, info->sliding_window);
}

void ollama_show(struct server *server, struct http_request *request, struct http_reply *reply)
{
    if (!read_name(server, request, reply)) {
        return;
    }
    const struct carat_model_info *info = carat_engine_info(server->engine);
    const struct carat_sampling *s = &server->options->sampling;
    struct buf out = {0};
    buf_addf(&out,
             "{\"modelfile\":\"# Served by carat; it has no model file of this kind.\\n\","
             "\"parameters\":\"temperature %g\\ntop_k %zu\\ntop_p %g\",\"template\":\"%s\",",
             (double)s->temperature, s->top_k, (double)s->top_p,
             carat_chat_template_name(server->engine));
    add_details(server, &out);
    buf_adds(&out, ",");
    add_model_info(server, &out);
    buf_adds(&out, ",\"capabilities\":[\"completion\",\"tools\",\"thinking\"");
    buf_adds(&out, info->sees ? ",\"vision\"" : "");
    buf_adds(&out, info->hears ? ",\"audio\"" : "");
    buf_adds(&out, "],\"modified_at\":");
    field_write_time(server->started, &out);
    buf_adds(&out, "}");
    reply_json(reply, 200, &out);
}

// Some clients pull whatever they are going to use: of the model that is here, nothing is missing.
void ollama_pull(struct server *server, struct http_request *request, struct http_reply *reply)
{
    static const char done[] = "{\"status\":\"success\"}\n";
    if (read_name(server, request, reply)) {
        http_reply_all(reply, 200, "application/x-ndjson", NULL, done, sizeof(done) - 1);
    }
}

void ollama_refuse(struct server *server, struct http_request *request, struct http_reply *reply)
{
    (void)server;
    struct buf text = {0};
    buf_addf(&text,
             "%s is not offered: this server has one model, which is chosen when it is started",
             request->path);
    reply_error(reply, 501, buf_text(&text));
    buf_release(&text);
}
