// SPDX-License-Identifier: Apache-2.0
#include "server/pace.h"

#define ROUND_S       0.3  // of a round that answers are waiting for
#define ROUND_ALONE_S 3.0  // of a round that nobody waits for: a new request comes in after it
#define FIRST_PIECE   32   // while nothing is known
#define PIECE_MIN     8    // below, a round costs as much without reading anything
#define LEARN_MIN     16   // tokens from which a round tells something about the time of one
#define MEMORY        0.25 // weight of the newest round

static void learn(double *value, double found)
{
    *value = *value > 0 ? *value + MEMORY * (found - *value) : found;
}

void pace_learn(struct pace *p, size_t n_read, size_t n_answering, double seconds)
{
    if (n_read == 0 && n_answering > 0) {
        learn(&p->step_s, seconds);
    } else if (n_read >= LEARN_MIN) {
        double rest = seconds - (n_answering > 0 ? p->step_s : 0);
        rest = rest > seconds / 4 ? rest : seconds / 4; // a slow step before says little
        learn(&p->token_s, rest / (double)n_read);
    }
}

size_t pace_budget(const struct pace *p, size_t n_answering)
{
    double seconds = n_answering > 0 ? ROUND_S - p->step_s : ROUND_ALONE_S;
    size_t first = n_answering > 0 ? FIRST_PIECE : p->chunk_max;
    if (n_answering > 0 && seconds < ROUND_S / 3) {
        seconds = ROUND_S / 3; // slow answers: reading must go on all the same
    }
    double n = p->token_s > 0 ? seconds / p->token_s : (double)first;
    size_t budget = n < (double)PIECE_MIN ? PIECE_MIN : n > 1e9 ? 1000000000 : (size_t)n;
    return budget < p->chunk_max ? budget : p->chunk_max;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

// The prompt with the least left to read that is not in the round yet; n: none.
static size_t nearest_to_end(const size_t *left, const size_t *out, size_t n)
{
    size_t best = n;
    for (size_t i = 0; i < n; i++) {
        if (out[i] == 0 && left[i] > 0 && (best == n || left[i] < left[best])) {
            best = i;
        }
    }
    return best;
}

size_t pace_share(size_t budget, const size_t *left, size_t n, size_t *out, size_t *order)
{
    size_t n_order = 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = 0;
    }
    if (n == 0 || budget == 0) {
        return 0;
    }
    out[0] = smaller(left[0], n > 1 ? budget / 4 + 1 : budget);
    if (out[0] > 0) {
        order[n_order++] = 0;
        budget -= smaller(budget, out[0]);
    }
    while (budget > 0) {
        size_t i = nearest_to_end(left, out, n);
        if (i == n) {
            break;
        }
        out[i] = smaller(left[i], budget);
        order[n_order++] = i;
        budget -= out[i];
    }
    out[0] += smaller(budget, left[0] - out[0]); // nobody else wants it
    return n_order;
}
