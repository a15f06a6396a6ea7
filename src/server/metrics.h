// SPDX-License-Identifier: Apache-2.0
// Counters and histograms, and their Prometheus text. All functions are thread-safe.
#ifndef CARAT_SERVER_METRICS_H
#define CARAT_SERVER_METRICS_H

#include <stdatomic.h>

#include "base/str.h"

#define METRICS_BUCKETS 16
struct histogram {
    atomic_uint_fast64_t counts[METRICS_BUCKETS + 1]; // the last: above all bounds
    atomic_uint_fast64_t sum_us;
};

struct metrics {
    atomic_uint_fast64_t requests_ok, requests_refused, requests_failed, requests_cancelled;
    atomic_uint_fast64_t prompt_tokens, cached_tokens, answer_tokens;
    struct histogram first_token; // seconds from the request to its first token
    struct histogram per_token;   // seconds between tokens of one answer
    struct histogram request;     // seconds of the whole request
    struct histogram queue;       // seconds waiting
};
void histogram_add(struct histogram *h, double seconds);

struct server;
void metrics_write(struct server *server, struct buf *out); // Prometheus text format 0.0.4

#endif
