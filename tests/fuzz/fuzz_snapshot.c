// SPDX-License-Identifier: Apache-2.0
// Snapshots of timelines. The first byte says whether the checksums and the model's name are made
// right first: behind them is everything else.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/snapshot.h"

#define LIMIT     (1u << 20)
#define NUMBERS   96 // bytes in front of the tokens
#define HAS_NAME  1  // flags of the first byte
#define HAS_SUMS  2
#define KV_TYPE_1 4

static struct carat_engine *engine;
static struct carat_session *sessions[2]; // of both types

static void open_sessions(void)
{
    struct carat_engine_options options = {.model = TEST_DATA "/fixtures/unified-text/model",
                                           .n_threads = 1};
    if (engine) {
        return;
    }
    if (carat_engine_open(&engine, &options, NULL)) {
        abort();
    }
    for (int i = 0; i < 2; i++) {
        struct carat_session_options session = {
            .context_max = 40, .prefill_chunk = 8, .kv_type = i ? CARAT_KV_F32 : CARAT_KV_F16};
        if (carat_session_new(&sessions[i], engine, &session, NULL)) {
            abort();
        }
    }
}

static void put_sum(uint8_t *data, size_t size)
{
    struct hash h;
    hash_init(&h, NULL);
    hash_add(&h, data, size);
    hash_digest(&h, data + size);
}

// The checksum behind the tokens, and the one at the end.
static void put_sums(uint8_t *data, size_t size)
{
    uint64_t n_tokens = 0;
    uint32_t flags = 0;
    memcpy(&flags, data + 12, sizeof(flags));
    memcpy(&n_tokens, data + 40, sizeof(n_tokens));
    if (n_tokens > size) {
        return;
    }
    size_t at = NUMBERS + (size_t)n_tokens * (flags & 4 ? 12 : 4);
    if (size >= HASH_SIZE && at <= size - HASH_SIZE) {
        put_sum(data, at);
        put_sum(data, size - HASH_SIZE);
    }
}

static void go_on(struct carat_session *s)
{
    size_t n = 0;
    struct carat_step step = {.session = s, .token = 40};
    carat_session_tokens(s, &n);
    if (n < carat_session_context_max(s) && carat_decode(&step, 1, NULL)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    struct os_reader reader = {0};
    struct snapshot file = {0};
    if (input_size < 1 + NUMBERS || input_size > LIMIT) {
        return 0;
    }
    open_sessions();
    size_t size = input_size - 1;
    uint8_t *data = malloc(size);
    if (!data) {
        abort();
    }
    memcpy(data, input + 1, size);
    if (input[0] & HAS_NAME) {
        engine_identity(engine, data + 16);
    }
    if (input[0] & HAS_SUMS) {
        put_sums(data, size);
    }
    struct carat_session *s = sessions[(input[0] & KV_TYPE_1) != 0];
    if (os_reader_open_memory(&reader, data, size, "input", NULL) == 0 &&
        snapshot_open_reader(&file, &reader, NULL) == 0 && session_load(s, &file, NULL) == 0) {
        go_on(s);
    }
    snapshot_close(&file);
    free(data);
    return 0;
}
