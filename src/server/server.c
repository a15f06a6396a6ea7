// SPDX-License-Identifier: Apache-2.0
// What answers requests, however they come in: the model's name, the cache, the queue.
#include "server/server.h"

#include <stdio.h>

#include "base/error.h"
#include "base/os.h"
#include "base/os_file.h"
#include "base/os_part.h"
#include "server/decoder.h"
#include "server/queue.h"

#define CACHE_SIZE_MAX  ((uint64_t)8 << 30)
#define CACHE_NAMES_MAX 100000

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

// What the folder holds already is not taken from what it may hold.
static uint64_t bytes_in(const char *folder)
{
    char **names = NULL;
    size_t n = 0;
    uint64_t bytes = 0;
    if (os_list(&names, &n, folder, CACHE_NAMES_MAX, NULL)) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        struct os_file_info info;
        struct buf path = {.max = 1 << 16};
        buf_addf(&path, "%s/%s", folder, names[i]);
        if (os_file_info(&info, buf_text(&path)) && !info.is_directory) {
            bytes += info.size;
        }
        buf_release(&path);
    }
    os_list_free(names, n);
    return bytes;
}

static uint64_t default_size(const char *folder)
{
    uint64_t room = os_disk_free(folder);
    uint64_t held = bytes_in(folder);
    uint64_t tenth = room < UINT64_MAX - held ? (room + held) / 10 : UINT64_MAX;
    return tenth < CACHE_SIZE_MAX ? tenth + 1 : CACHE_SIZE_MAX; // 0 would be no limit of ours
}

static int open_folder(struct server *s, struct carat_error *err)
{
    const struct serve_options *o = s->options;
    int rc = os_make_folder(o->cache_folder, err);
    if (rc) {
        return rc;
    }
    uint64_t size = o->cache_size_max ? o->cache_size_max : default_size(o->cache_folder);
    struct carat_cache_options cache = {.folder = o->cache_folder, .size_max = size};
    rc = carat_cache_new(&s->cache, s->engine, &cache, err);
    if (rc == 0) {
        s->cache_folder = o->cache_folder;
        s->cache_size_max = size;
    }
    return rc;
}

static int open_cache(struct server *s, struct carat_error *err)
{
    const struct serve_options *o = s->options;
    struct carat_error problem;
    int rc = o->cache_folder ? open_folder(s, &problem) : 0;
    if (rc && (rc == CARAT_E_MEMORY || !o->cache_is_optional)) {
        return fail(err, rc, "%s", problem.text);
    }
    if (rc) {
        log_line(CARAT_LOG_WARNING, "conversations are not kept on disk: %s", problem.text);
    }
    return s->cache ? 0 : carat_cache_new(&s->cache, s->engine, NULL, err);
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
