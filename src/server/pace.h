// SPDX-License-Identifier: Apache-2.0
// How much of the prompts a round reads: as much as keeps running answers flowing, measured as it
// goes; and whose prompt it is. Plain arithmetic, so that it can be tested by itself.
#ifndef CARAT_SERVER_PACE_H
#define CARAT_SERVER_PACE_H

#include <stddef.h>

struct pace {
    size_t chunk_max; // tokens a session reads at once at most
    double step_s;    // a round of answers alone; 0: not known yet
    double token_s;   // one more token of a prompt; 0: not known yet
};
// Learns from a round: tokens of prompts and of answers in it, seconds it took.
void pace_learn(struct pace *p, size_t n_read, size_t n_answering, double seconds);
// Tokens of prompts for the next round.
size_t pace_budget(const struct pace *p, size_t n_answering);

// Shares the budget: left[i] tokens remain of prompt i, which began before i + 1 did. The oldest
// gets a quarter, so that it always goes on; then the ones that are nearest to their end, because a
// short prompt should not wait for a long one. out[i] gets the tokens of i, 0: not in this round;
// order[k] the prompts in the order they are to be read. Both [n]; returns how many are.
size_t pace_share(size_t budget, const size_t *left, size_t n, size_t *out, size_t *order);

#endif
