// SPDX-License-Identifier: Apache-2.0
// carat serve: from options to a running server. What the server does is in src/server/.
#include <string.h>

#include "base/mem.h"
#include "base/os_file.h"
#include "cli/loading.h"
#include "cli/slots.h"
#include "server/serve.h"

struct serve_settings {
    const char *model_path; // --model, for configuration files
    const char *config;
    const char *model_id;
    const char *transcription_prompt;
    const char *host;
    struct option_count port;
    const char *tls_cert, *tls_key;
    struct option_texts api_keys;
    const char *key_file;
    struct option_texts hosts, origins;
    bool fetches_urls;
    bool has_no_page;
    struct option_count slots, queue, workers;
    struct option_number call_seconds;
    bool has_no_loop_guard;
    const char *cache_folder;
    struct option_number cache_gb;
    struct option_count rewind;
    struct option_count connections, connections_per_client, header_size, json_depth, schema_size;
    struct option_number body_mb;
    struct option_number header_seconds, body_seconds, idle_seconds, drain_seconds;
    struct option_number media_mb, media_megapixels, media_seconds, media_timeout;
    bool logs_json, is_quiet;
    struct model_settings model;
    struct sampling_settings sampling;
};

#define AT(field) offsetof(struct serve_settings, field)
static const struct option address_rows[] = {
    {"model", OPTION_TEXT, "MODEL", "the same as the argument, for configuration files",
     AT(model_path), 0, 0, NULL},
    {"config", OPTION_TEXT, "FILE",
     "read options from FILE, 'name = value' a line (default: $XDG_CONFIG_HOME/carat/serve.conf if "
     "it is there)",
     AT(config), 0, 0, NULL},
    {"host", OPTION_TEXT, "ADDRESS",
     "address to listen on (default: 127.0.0.1); 0.0.0.0 and :: are all, and need an API key",
     AT(host), 0, 0, NULL},
    {"port", OPTION_COUNT, "N", "port to listen on (default: 11435); 0: any that is free", AT(port),
     0, 65535, NULL},
    {"model-id", OPTION_TEXT, "NAME", "what clients call the model (default: the model's own name)",
     AT(model_id), 0, 0, NULL},
    {"transcription-prompt", OPTION_TEXT, "TEXT",
     "what is asked of the model about a sound at /v1/audio/transcriptions; {language} stands for "
     "the language (default: Gemma's own question)",
     AT(transcription_prompt), 0, 0, NULL},
    {"tls-cert", OPTION_TEXT, "FILE", "certificate chain (PEM): serve HTTPS", AT(tls_cert), 0, 0,
     NULL},
    {"tls-key", OPTION_TEXT, "FILE", "its private key (PEM)", AT(tls_key), 0, 0, NULL},
    {"no-page", OPTION_FLAG, NULL, "no web page at /", AT(has_no_page), 0, 0, NULL},
    {"log-json", OPTION_FLAG, NULL, "log lines are JSON objects", AT(logs_json), 0, 0, NULL},
    {"json", OPTION_FLAG, NULL, "the same as --log-json", AT(logs_json), 0, 0, NULL},
    {"quiet", OPTION_FLAG, NULL, "no line for each request", AT(is_quiet), 0, 0, NULL},
    {.name = NULL},
};

static const struct option protection_rows[] = {
    {"api-key", OPTION_TEXTS, "KEY",
     "a key that clients must send; may be repeated. Other users of this machine see the command "
     "line: a file or CARAT_API_KEY is better",
     AT(api_keys), 0, 0, NULL},
    {"api-key-file", OPTION_TEXT, "FILE",
     "keys, one a line; read again when it changes and on SIGHUP", AT(key_file), 0, 0, NULL},
    {"allow-host", OPTION_TEXTS, "NAME",
     "a name by which clients may call this server, besides localhost; '*': any. May be repeated",
     AT(hosts), 0, 0, NULL},
    {"allow-origin", OPTION_TEXTS, "ORIGIN",
     "a site whose pages may use this server, as in https://chat.example.org; '*': any. May be "
     "repeated",
     AT(origins), 0, 0, NULL},
    {"fetch-urls", OPTION_FLAG, NULL,
     "fetch pictures and sound that requests name by http: and https: addresses; never from "
     "private networks",
     AT(fetches_urls), 0, 0, NULL},
    {.name = NULL},
};

static const struct option work_rows[] = {
    {"parallel", OPTION_COUNT, "N",
     "conversations that are computed together (default: 4); each has a kv cache of its own",
     AT(slots), 1, 256, NULL},
    {"queue", OPTION_COUNT, "N", "requests that may wait (default: 64); more are refused with 429",
     AT(queue), 0, 100000, NULL},
    {"workers", OPTION_COUNT, "N", "threads that read requests and decode media (default: 2)",
     AT(workers), 1, 64, NULL},
    {"timeout", OPTION_NUMBER, "S", "longest time of one request (default: 3600; 0: no limit)",
     AT(call_seconds), 0, 1e7, NULL},
    {"no-loop-guard", OPTION_FLAG, NULL, "let answers go round in circles", AT(has_no_loop_guard),
     0, 0, NULL},
    {"cache-dir", OPTION_TEXT, "FOLDER",
     "where conversations are kept across restarts (default: carat/snapshots in $XDG_CACHE_HOME, "
     "else in ~/.cache, on macOS in ~/Library/Caches); none: nowhere",
     AT(cache_folder), 0, 0, NULL},
    {"cache-size", OPTION_NUMBER, "GB",
     "most that folder may hold (default: 8.6, or a tenth of what the disk has left, if less)",
     AT(cache_gb), 0.001, 1e6, NULL},
    {"rewind", OPTION_COUNT, "N",
     "tokens that a long conversation can be cut back by without being read again (default: 256); "
     "to the "
     "end of its last prompt it can be cut back anyway",
     AT(rewind), 0, 1e6, NULL},
    {.name = NULL},
};

static const struct option limit_rows[] = {
    {"connections", OPTION_COUNT, "N", "open connections (default: 1024)", AT(connections), 1,
     100000, NULL},
    {"connections-per-client", OPTION_COUNT, "N",
     "of these, from one address (default: 0, no limit of its own)", AT(connections_per_client), 0,
     100000, NULL},
    {"header-max", OPTION_COUNT, "BYTES", "headers of a request (default: 16384)", AT(header_size),
     4096, 1048576, NULL},
    {"body-max", OPTION_NUMBER, "MB", "body of a request (default: 64)", AT(body_mb), 0.001, 4000,
     NULL},
    {"json-depth-max", OPTION_COUNT, "N", "nesting of a request's JSON (default: 100)",
     AT(json_depth), 8, 500, NULL},
    {"schema-max", OPTION_COUNT, "BYTES",
     "a JSON schema or the tools of a request (default: 262144)", AT(schema_size), 1, 1e9, NULL},
    {"header-timeout", OPTION_NUMBER, "S", "time for a request's headers (default: 20)",
     AT(header_seconds), 0.1, 3600, NULL},
    {"body-timeout", OPTION_NUMBER, "S", "time for its body (default: 300)", AT(body_seconds), 0.1,
     86400, NULL},
    {"idle-timeout", OPTION_NUMBER, "S", "an idle connection is closed after it (default: 120)",
     AT(idle_seconds), 1, 86400, NULL},
    {"drain-timeout", OPTION_NUMBER, "S",
     "time that running answers get when the server is told to stop (default: 30)",
     AT(drain_seconds), 0, 86400, NULL},
    {"media-max", OPTION_NUMBER, "MB",
     "one picture, sound or film as a file (default: as --body-max)", AT(media_mb), 0.001, 1e5,
     NULL},
    {"megapixels-max", OPTION_NUMBER, "N", "a picture or frame (default: 100)",
     AT(media_megapixels), 0.001, 1e5, NULL},
    {"media-seconds-max", OPTION_NUMBER, "S", "a sound or film (default: 10800, 3 hours)",
     AT(media_seconds), 0.1, 1e6, NULL},
    {"media-timeout", OPTION_NUMBER, "S",
     "time that decoding one may take (default: 120, and the duration of a sound or film)",
     AT(media_timeout), 0.1, 86400, NULL},
    {.name = NULL},
};
#undef AT

static void set_size(size_t *out, const struct option_count *from)
{
    if (from->is_set) {
        *out = (size_t)from->value;
    }
}

static void set_seconds(double *out, const struct option_number *from)
{
    if (from->is_set) {
        *out = from->value;
    }
}

static int set_list(const char **out, const struct option_texts *from, const char *name)
{
    if (from->n >= SERVE_LIST_MAX) {
        say("serve: --%s is given more than %d times", name, SERVE_LIST_MAX - 1);
        return EXIT_USAGE;
    }
    memcpy(out, from->items, from->n * sizeof(*out)); // the rest is NULL
    return EXIT_OK;
}

static int set_options(struct serve_options *o, const struct serve_settings *s)
{
    o->model_id = s->model_id;
    o->transcription_prompt = s->transcription_prompt;
    o->host = s->host ? s->host : o->host;
    o->port = s->port.is_set ? (uint16_t)s->port.value : o->port;
    o->tls_cert = s->tls_cert;
    o->tls_key = s->tls_key;
    o->key_file = s->key_file;
    o->fetches_urls = s->fetches_urls;
    o->has_page = !s->has_no_page;
    o->has_loop_guard = !s->has_no_loop_guard;
    o->logs_json = s->logs_json;
    o->is_quiet = s->is_quiet;
    set_size(&o->n_slots, &s->slots);
    set_size(&o->queue_max, &s->queue);
    set_size(&o->n_workers, &s->workers);
    set_size(&o->connections_max, &s->connections);
    set_size(&o->connections_per_client_max, &s->connections_per_client);
    set_size(&o->header_size_max, &s->header_size);
    set_size(&o->json_depth_max, &s->json_depth);
    set_size(&o->schema_size_max, &s->schema_size);
    set_seconds(&o->call_seconds, &s->call_seconds);
    set_seconds(&o->header_seconds, &s->header_seconds);
    set_seconds(&o->body_seconds, &s->body_seconds);
    set_seconds(&o->idle_seconds, &s->idle_seconds);
    set_seconds(&o->drain_seconds, &s->drain_seconds);
    if (s->body_mb.is_set) {
        o->body_size_max = (size_t)(s->body_mb.value * 1e6);
    }
    if (s->cache_gb.is_set) {
        o->cache_size_max = (uint64_t)(s->cache_gb.value * 1e9);
    }
    o->media.file_size_max =
        s->media_mb.is_set ? (uint64_t)(s->media_mb.value * 1e6) : o->body_size_max;
    o->media.pixels_max = (uint64_t)(s->media_megapixels.value * 1e6);
    o->media.seconds_max = s->media_seconds.value;
    o->media.decode_seconds = s->media_timeout.value;
    o->has_decoder = true;
    int code = set_list(o->api_keys, &s->api_keys, "api-key");
    code = code ? code : set_list(o->allowed_hosts, &s->hosts, "allow-host");
    return code ? code : set_list(o->allowed_origins, &s->origins, "allow-origin");
}

// The folder that was named, or the user's own, which is nobody's wish: where it cannot be made,
// the server does without. *own is to be released after the server.
static int set_cache_folder(struct serve_options *o, const char *named, struct buf *own)
{
    struct carat_error err;
    if (named) {
        o->cache_folder = strcmp(named, "none") == 0 ? NULL : named;
        return EXIT_OK;
    }
    if (!os_cache_folder(own)) {
        say("warning: HOME is not set: conversations are not kept on disk; --cache-dir says where");
        return EXIT_OK;
    }
    buf_adds(own, "/carat/snapshots");
    o->cache_folder = buf_text(own);
    o->cache_is_optional = true;
    return buf_status(own, &err) ? say_error(&err) : EXIT_OK;
}

/* -------------------------------------------------------------------------------- start */

struct starting {
    const struct serve_options *options;
    const struct loaded *loaded;
    struct carat_memory need; // of all conversations
};

static void say_ready_json(const struct starting *s, const struct serve_ready *ready)
{
    const struct carat_model_info *info = carat_engine_info(s->loaded->engine);
    struct buf line = {.max = 1 << 16};
    buf_adds(&line, "{\"level\":\"info\",\"event\":\"ready\",\"address\":");
    buf_add_json(&line, ready->address, strlen(ready->address));
    buf_adds(&line, ",\"model\":");
    buf_add_json(&line, info->name, strlen(info->name));
    buf_addf(&line, ",\"context\":%zu,\"parallel\":%zu,\"memory_bytes\":%llu,\"load_seconds\":%.3f",
             s->need.context_max, s->options->n_slots, (unsigned long long)s->need.total,
             s->loaded->load_s);
    if (ready->cache_folder) {
        buf_adds(&line, ",\"cache_folder\":");
        buf_add_json(&line, ready->cache_folder, strlen(ready->cache_folder));
        buf_addf(&line, ",\"cache_bytes\":%llu,\"cache_bytes_max\":%llu",
                 (unsigned long long)ready->cache_bytes, (unsigned long long)ready->cache_size_max);
    }
    buf_addc(&line, '}');
    say_plain("%s", buf_text(&line));
    buf_release(&line);
}

static void say_ready(void *user, const struct serve_ready *ready)
{
    const struct starting *s = user;
    const struct serve_options *o = s->options;
    const struct carat_model_info *info = carat_engine_info(s->loaded->engine);
    if (o->logs_json) {
        say_ready_json(s, ready);
        return;
    }
    say_plain("[%s: %s, %s, %s parameters, %zu threads (%s), loaded in %.2f s]", info->name,
              info->container, info->weight_type, count_text(info->n_parameters).text,
              info->n_threads, info->cpu_level, s->loaded->load_s);
    say_plain("[memory: %s in all: weights %s, kv cache %s for %zu x %zu tokens, other %s]",
              size_text(s->need.total).text, size_text(s->need.weights).text,
              size_text(s->need.kv_full + s->need.kv_sliding).text, o->n_slots, s->need.context_max,
              size_text(s->need.tables + s->need.scratch).text);
    bool has_keys = o->api_keys[0] || o->key_file;
    say_plain("[%s; %s%s]", has_keys ? "an API key is needed" : "open to every program here",
              o->allowed_origins[0] ? "pages of named sites may ask"
                                    : "pages of other sites are kept out",
              o->fetches_urls ? "; fetches media from public addresses" : "");
    if (ready->cache_folder) {
        say_plain("[conversations are kept in %s: %s now, %s at most]", ready->cache_folder,
                  size_text(ready->cache_bytes).text, size_text(ready->cache_size_max).text);
    } else {
        say_plain("[conversations are not kept on disk]");
    }
    say_plain("carat: ready at %s", ready->address);
}

static int start(const struct serve_settings *settings, struct serve_options *o,
                 const struct command_call *call, struct loaded *loaded)
{
    struct carat_error err;
    struct carat_logit_bias *biases = NULL;
    struct starting s = {.options = o, .loaded = loaded};
    const char *model = call->n_args ? call->args[0] : settings->model_path;
    struct loading_options loading = {.model = model, .settings = &settings->model};
    int rc = loaded_open_engine(loaded, &loading, call->out, &err);
    if (rc) {
        goto out;
    }
    o->engine = loaded->engine;
    settings_session(&o->session, &settings->model, NULL);
    o->session.rewind_max = settings->rewind.is_set ? (size_t)settings->rewind.value : 256;
    o->session.returns_to_prompt = true; // clients leave thoughts out of what they send back
    rc = settings_sampling(&o->sampling, &settings->sampling, loaded->engine, &biases, &err);
    rc = rc ? rc : slots_plan_memory(&s.need, loaded->engine, &o->session, o->n_slots, &err);
    if (rc) {
        goto out;
    }
    o->session.context_max = s.need.context_max;
    slots_warn(&s.need);
    rc = serve(o, say_ready, &s, &err);
out:
    mem_free(biases);
    if (rc == CARAT_E_ARGUMENT) {
        say("%s", err.text);
        return EXIT_USAGE;
    }
    return rc ? say_error(&err) : EXIT_OK;
}

static int run_serve(const struct command_call *call)
{
    const struct serve_settings *settings = call->options;
    struct serve_options o;
    serve_options_init(&o);
    int code = set_options(&o, settings);
    if (code) {
        return code;
    }
    struct buf folder = {.max = 1 << 16};
    struct loaded loaded = {.engine = NULL};
    code = set_cache_folder(&o, settings->cache_folder, &folder);
    code = code ? code : start(settings, &o, call, &loaded);
    loaded_release(&loaded);
    buf_release(&folder);
    return code;
}

const struct command command_serve = {
    .name = "serve",
    .summary = "HTTP server for clients of OpenAI, Anthropic, Ollama and Gemini, and a web page",
    .synopsis = "[MODEL] [options]",
    .details =
        "Loads MODEL and answers HTTP requests until it is stopped: Ctrl-C or SIGTERM let running "
        "answers end, a second one stops at once. docs/serve.md lists the endpoints and shows how "
        "to set up clients; most need no more than a base URL such as "
        "http://127.0.0.1:11435/v1.\n\n"
        "Only programs on this machine can connect unless --host says otherwise, and then an API "
        "key is needed. Pages of other sites are kept out unless --allow-origin names them.\n\n"
        "Every option may also stand in the environment, as CARAT_ and its name in capitals "
        "(CARAT_PORT, CARAT_API_KEY; of options that may be repeated a comma list), and in a "
        "configuration file, 'name = value' a line. The command line goes before the environment, "
        "and that before the file.\n\n"
        "The log goes to standard error, a line for each request.",
    .groups =
        (const struct option_group[]){
            {"Server", address_rows, 0},
            {"Protection", protection_rows, 0},
            {"Work", work_rows, 0},
            {"Limits", limit_rows, 0},
            {"Defaults of requests", sampling_setting_rows,
             offsetof(struct serve_settings, sampling)},
            {"Model", model_setting_rows, offsetof(struct serve_settings, model)},
            {.options = NULL},
        },
    .examples =
        (const struct example[]){
            {"carat serve", "the demonstration model at http://127.0.0.1:11435"},
            {"carat serve gemma.gguf --context 65536 --parallel 2 --cache-size 20",
             "two long conversations at a time, and 20 GB of earlier ones on disk"},
            {"OPENAI_BASE_URL=http://127.0.0.1:11435/v1 OPENAI_API_KEY=none some-agent",
             "a client of OpenAI's API"},
            {"ANTHROPIC_BASE_URL=http://127.0.0.1:11435 some-agent", "a client of Anthropic's API"},
            {"carat serve --host 0.0.0.0 --api-key-file keys --tls-cert cert.pem --tls-key key.pem",
             "for other machines, encrypted"},
            {"CARAT_PORT=8080 carat serve --config team.conf", "options from elsewhere"},
            {.line = NULL},
        },
    .options_size = sizeof(struct serve_settings),
    .args_max = 1,
    .reads_config = true,
    .run = run_serve,
};
