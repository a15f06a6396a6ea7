// SPDX-License-Identifier: Apache-2.0
// Notices that an answer repeats itself (docs/sampling.md, "Loops"). For every period it counts how
// many tokens in a row are what they were one period before; constant time and memory per token.
#include "base/error.h"
#include "base/mem.h"

#define PERIOD_MAX   512u // tokens of the longest block
#define REPEATED_MIN 256u // tokens that only repeat, for short blocks
#define REPEATS_MIN  4u   // times that a long block came again

struct carat_loop_guard {
    // The newest tokens, newest first, are at recent[at], recent[at + 1], ... They move down
    // through the buffer, and once in a while back up.
    carat_token recent[4 * PERIOD_MAX];
    uint32_t at;
    uint32_t repeated[PERIOD_MAX]; // [period - 1]
};

int carat_loop_guard_new(struct carat_loop_guard **out, struct carat_error *err)
{
    struct carat_loop_guard *g = mem_new(sizeof(*g), err);
    if (!g) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < 4 * PERIOD_MAX; i++) {
        g->recent[i] = CARAT_TOKEN_NONE;
    }
    g->at = 3 * PERIOD_MAX;
    *out = g;
    return 0;
}

static bool has_loop(const struct carat_loop_guard *g)
{
    for (uint32_t i = 0; i < PERIOD_MAX; i++) {
        if (g->repeated[i] >= REPEATED_MIN && g->repeated[i] >= REPEATS_MIN * (i + 1)) {
            return true;
        }
    }
    return false;
}

bool carat_loop_guard_feed(struct carat_loop_guard *g, carat_token token)
{
    uint32_t most = 0;
    const carat_token *before = g->recent + g->at;
    for (uint32_t i = 0; i < PERIOD_MAX; i++) {
        const uint32_t n = before[i] == token ? g->repeated[i] + 1 : 0;
        most = n > most ? n : most;
        g->repeated[i] = n;
    }
    if (g->at == 0) {
        for (uint32_t i = 0; i < PERIOD_MAX; i++) {
            g->recent[3 * PERIOD_MAX + i] = g->recent[i];
        }
        g->at = 3 * PERIOD_MAX;
    }
    g->recent[--g->at] = token;
    return most >= REPEATED_MIN && has_loop(g);
}

void carat_loop_guard_free(struct carat_loop_guard *g)
{
    mem_free(g);
}
