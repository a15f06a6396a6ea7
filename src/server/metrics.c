// SPDX-License-Identifier: Apache-2.0
// Prometheus text format, version 0.0.4. The figures that balancers and dashboards of inference
// servers look for are given a second time under the names that vLLM made common.
#include "server/metrics.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "server/decoder.h"
#include "server/queue.h"
#include "server/server.h"

static const double bounds[METRICS_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                               0.5,   1,      2.5,   5,    10,    30,   60,  300};

void histogram_add(struct histogram *h, double seconds)
{
    size_t i = 0;
    while (i < METRICS_BUCKETS && seconds > bounds[i]) {
        i++;
    }
    atomic_fetch_add(&h->counts[i], 1);
    atomic_fetch_add(&h->sum_us, seconds > 0 ? (uint_fast64_t)(seconds * 1e6) : 0);
}

struct writer {
    struct buf *out;
    char labels[400]; // model_name="..."
};

static void describe(struct writer *w, const char *name, const char *type, const char *help)
{
    buf_addf(w->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(struct writer *w, const char *name, const char *type, const char *help,
                double value)
{
    describe(w, name, type, help);
    buf_addf(w->out, "%s{%s} %.17g\n", name, w->labels, value);
}

// Ours, and its alias.
static void both(struct writer *w, const char *name, const char *alias, const char *type,
                 const char *help, double value)
{
    one(w, name, type, help, value);
    one(w, alias, type, help, value);
}

static void histogram(struct writer *w, const char *name, const char *help,
                      const struct histogram *h)
{
    uint64_t n = 0;
    describe(w, name, "histogram", help);
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        n += atomic_load(&h->counts[i]);
        buf_addf(w->out, "%s_bucket{%s,le=\"%g\"} %llu\n", name, w->labels, bounds[i],
                 (unsigned long long)n);
    }
    n += atomic_load(&h->counts[METRICS_BUCKETS]);
    buf_addf(w->out, "%s_bucket{%s,le=\"+Inf\"} %llu\n", name, w->labels, (unsigned long long)n);
    buf_addf(w->out, "%s_sum{%s} %.6f\n", name, w->labels, (double)atomic_load(&h->sum_us) / 1e6);
    buf_addf(w->out, "%s_count{%s} %llu\n", name, w->labels, (unsigned long long)n);
}

static void histograms(struct writer *w, const char *name, const char *alias, const char *help,
                       const struct histogram *h)
{
    histogram(w, name, help, h);
    histogram(w, alias, help, h);
}

static void write_queue(struct writer *w, struct server *s)
{
    struct queue_state q = {.n_waiting = 0};
    queue_state(s->queue, &q);
    both(w, "carat_requests_waiting", "vllm:num_requests_waiting", "gauge",
         "Requests that wait for their turn.", (double)q.n_waiting);
    both(w, "carat_requests_running", "vllm:num_requests_running", "gauge",
         "Answers that are being computed.", (double)q.n_running);
    both(w, "carat_kv_cache_usage", "vllm:kv_cache_usage_perc", "gauge",
         "Share of the positions of all conversations that are in use, 0 to 1.", q.cache_use);
    one(w, "carat_slots", "gauge", "Conversations that can be computed together.",
        (double)q.n_slots);
    one(w, "carat_connections", "gauge", "Open connections.", (double)http_connections(s->http));
}

static void write_requests(struct writer *w, struct metrics *m)
{
    static const char name[] = "carat_requests_total";
    describe(w, name, "counter", "Requests to the model, by how they ended.");
    const struct {
        const char *how;
        atomic_uint_fast64_t *count;
    } rows[] = {
        {"ok", &m->requests_ok},
        {"refused", &m->requests_refused},
        {"failed", &m->requests_failed},
        {"cancelled", &m->requests_cancelled},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_addf(w->out, "%s{%s,outcome=\"%s\"} %llu\n", name, w->labels, rows[i].how,
                 (unsigned long long)atomic_load(rows[i].count));
    }
    one(w, "vllm:request_success_total", "counter", "Requests to the model that were answered.",
        (double)atomic_load(&m->requests_ok));
}

static void write_tokens(struct writer *w, struct metrics *m)
{
    both(w, "carat_prompt_tokens_total", "vllm:prompt_tokens_total", "counter",
         "Tokens of all prompts.", (double)atomic_load(&m->prompt_tokens));
    one(w, "carat_cached_tokens_total", "counter",
        "Tokens of prompts that did not have to be read again.",
        (double)atomic_load(&m->cached_tokens));
    one(w, "vllm:prefix_cache_queries_total", "counter", "Tokens looked for in the caches.",
        (double)atomic_load(&m->prompt_tokens));
    one(w, "vllm:prefix_cache_hits_total", "counter", "Tokens found there.",
        (double)atomic_load(&m->cached_tokens));
    both(w, "carat_answer_tokens_total", "vllm:generation_tokens_total", "counter",
         "Tokens of all answers.", (double)atomic_load(&m->answer_tokens));
}

static void write_cache(struct writer *w, struct server *s)
{
    struct carat_cache_stats c = {.n_live_hits = 0};
    if (!s->cache) {
        return;
    }
    carat_cache_stats(s->cache, &c);
    one(w, "carat_cache_live_hits_total", "counter", "Beginnings copied from a live conversation.",
        (double)c.n_live_hits);
    one(w, "carat_cache_disk_hits_total", "counter", "Beginnings read from a snapshot.",
        (double)c.n_disk_hits);
    one(w, "carat_cache_snapshots", "gauge", "Snapshots on disk.", (double)c.n_snapshots);
    one(w, "carat_cache_bytes", "gauge", "Bytes of the snapshots.", (double)c.snapshot_bytes);
}

static void write_media(struct writer *w, struct server *s)
{
    static const char name[] = "carat_media_total";
    struct decoder_state d = {.n_ok = 0};
    if (!s->decoder) {
        return;
    }
    decoder_state(s->decoder, &d);
    describe(w, name, "counter", "Pictures, sounds and films of requests, by how decoding ended.");
    const struct {
        const char *how;
        uint64_t n;
    } rows[] = {{"ok", d.n_ok}, {"refused", d.n_refused}, {"failed", d.n_failed}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_addf(w->out, "%s{%s,outcome=\"%s\"} %llu\n", name, w->labels, rows[i].how,
                 (unsigned long long)rows[i].n);
    }
    one(w, "carat_media_running", "gauge", "Of these, being decoded.", (double)d.n_running);
    one(w, "carat_decoders_started_total", "counter", "Processes that were started to decode them.",
        (double)d.n_started);
}

void metrics_write(struct server *s, struct buf *out)
{
    struct metrics *m = &s->metrics;
    struct writer w = {.out = out};
    snprintf(w.labels, sizeof(w.labels), "model_name=\"%s\"", s->model_id); // has no quotes in it
    describe(&w, "carat_build_info", "gauge", "The version that runs.");
    buf_addf(out, "carat_build_info{version=\"%s\"} 1\n", carat_version());
    one(&w, "process_start_time_seconds", "gauge", "When the server started, Unix time.",
        (double)s->started);
    one(&w, "process_resident_memory_peak_bytes", "gauge", "Most memory the process has held.",
        (double)os_memory_resident_peak());
    write_queue(&w, s);
    write_requests(&w, m);
    write_tokens(&w, m);
    write_cache(&w, s);
    write_media(&w, s);
    histograms(&w, "carat_time_to_first_token_seconds", "vllm:time_to_first_token_seconds",
               "From a request to its first token.", &m->first_token);
    histograms(&w, "carat_time_per_output_token_seconds", "vllm:time_per_output_token_seconds",
               "Between tokens of one answer.", &m->per_token);
    histograms(&w, "carat_request_seconds", "vllm:e2e_request_latency_seconds",
               "From a request to the end of its answer.", &m->request);
    histograms(&w, "carat_queue_seconds", "vllm:request_queue_time_seconds",
               "That a request waited for its turn.", &m->queue);
}
