// SPDX-License-Identifier: Apache-2.0
// The server's lifetime, for the command: open the model, serve until a signal, end well.
#ifndef CARAT_SERVER_SERVE_H
#define CARAT_SERVER_SERVE_H

#include "base/str.h"

#define SERVE_LIST_MAX 64

struct serve_options {
    struct carat_engine *engine;          // open; the server borrows it
    struct carat_session_options session; // of every slot
    struct carat_sampling sampling;       // defaults of requests
    const char *model_id;                 // NULL: the model's name
    const char *transcription_prompt;     // what is asked of the model with a sound whose words are
                                          // wanted; NULL: Gemma's own (docs/api-transcriptions.md)

    const char *host; // 127.0.0.1
    uint16_t port;    // 11435; 0: any
    const char *tls_cert, *tls_key;
    const char *api_keys[SERVE_LIST_MAX]; // ends with NULL
    const char *key_file; // one key a line; read again on SIGHUP and when it changes
    const char *allowed_hosts[SERVE_LIST_MAX];   // besides loopback names; "*": all
    const char *allowed_origins[SERVE_LIST_MAX]; // CORS and Origin check; "*": all
    bool fetches_urls;
    const char *media_folder; // requests may name files, by file: or as a path from there. For
                              // requests of the user's own, never those of a server; NULL: no
    bool has_page;

    size_t n_slots;      // sessions that are evaluated together
    size_t queue_max;    // calls that wait
    size_t n_workers;    // threads that parse and decode media; 0: 2
    double call_seconds; // longest time of one call; 0: no limit
    bool has_loop_guard;
    const char *cache_folder; // NULL: no snapshots on disk
    bool cache_is_optional;   // a folder that cannot be made is a warning
    uint64_t cache_size_max;  // bytes; 0: 8 GiB, or a tenth of what the disk has, if that is less

    size_t connections_max;
    size_t connections_per_client_max;
    size_t header_size_max;
    size_t body_size_max;
    size_t json_depth_max;
    size_t schema_size_max;
    double header_seconds, body_seconds, idle_seconds;
    struct carat_media_limits media;
    bool has_decoder;     // media are decoded by this program in processes of its own (decoder.h)
    double drain_seconds; // how long running answers may take at the end

    bool logs_json;
    bool is_quiet;
};
void serve_options_init(struct serve_options *o); // the defaults; engine must be set afterwards

// Serves until SIGTERM or SIGINT, lets running answers end, and returns; a second signal stops at
// once. on_ready is called when requests are taken.
struct serve_ready {
    const char *address;      // "http://127.0.0.1:11435"
    const char *cache_folder; // NULL: none
    uint64_t cache_size_max;
    uint64_t cache_bytes; // that are there already
};
int serve(const struct serve_options *options,
          void (*on_ready)(void *user, const struct serve_ready *ready), void *user,
          struct carat_error *err);

#endif
