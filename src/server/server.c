// SPDX-License-Identifier: Apache-2.0
// What answers requests, however they come in: the model's name, the cache, the queue.
#include "server/server.h"

#include <stdio.h>

#include "base/os.h"
#include "server/decoder.h"
#include "server/queue.h"

void serve_options_init(struct serve_options *o)
{
    *o = (struct serve_options){
        .host = "127.0.0.1",
        .port = 11435,
        .has_page = true,
        .n_slots = 4,
        .queue_max = 64,
        .n_workers = 2,
        .call_seconds = 3600,
        .has_loop_guard = true,
        .cache_size_max = (uint64_t)8 << 30,
        .connections_max = 1024,
        .header_size_max = 16384,
        .body_size_max = (size_t)64 << 20,
        .json_depth_max = 100,
        .schema_size_max = (size_t)256 << 10,
        .header_seconds = 20,
        .body_seconds = 300,
        .idle_seconds = 120,
        .drain_seconds = 30,
    };
}

// Ids go into paths and tables: no spaces, nothing unprintable.
static void name_model(struct server *s)
{
    const char *name =
        s->options->model_id ? s->options->model_id : carat_engine_info(s->engine)->name;
    size_t n = 0;
    for (; name[n] && n + 1 < sizeof(s->model_id); n++) {
        char c = name[n];
        s->model_id[n] = c <= ' ' || c == '"' || c == '\\' || c == 0x7f ? '-' : c;
    }
    s->model_id[n] = '\0';
    if (n == 0) {
        snprintf(s->model_id, sizeof(s->model_id), "carat");
    }
}

static int open_cache(struct server *s, struct carat_error *err)
{
    const struct serve_options *o = s->options;
    struct carat_cache_options cache = {.folder = o->cache_folder, .size_max = o->cache_size_max};
    return carat_cache_new(&s->cache, s->engine, &cache, err);
}

static int open_decoder(struct server *s, struct carat_error *err)
{
    const struct serve_options *o = s->options;
    const struct decoder_options decoder = {.ready_max = o->n_workers, .logs_json = o->logs_json};
    const struct carat_model_info *info = carat_engine_info(s->engine);
    return o->has_decoder && (info->sees || info->hears) ? decoder_new(&s->decoder, &decoder, err)
                                                         : 0;
}

int server_open(struct server *s, struct carat_error *err)
{
    name_model(s);
    s->started = os_unix_time();
    int rc = open_cache(s, err);
    rc = rc ? rc : open_decoder(s, err);
    return rc ? rc : queue_new(&s->queue, s, err);
}

void server_release(struct server *s)
{
    decoder_stop(s->decoder); // workers wait for it
    queue_free(s->queue);
    decoder_free(s->decoder);
    carat_cache_free(s->cache);
}
