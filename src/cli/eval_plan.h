// SPDX-License-Identifier: Apache-2.0
// From texts to windows of tokens, by the rule that docs/eval.md states.
#ifndef CARAT_CLI_EVAL_PLAN_H
#define CARAT_CLI_EVAL_PLAN_H

#include "base/hash.h"
#include "base/mem.h"

#define EVAL_DOMAINS_MAX 1000

struct eval_rule {
    size_t context;    // tokens of a window, <bos> included
    size_t stride;     // tokens of the text from one window to the next
    size_t skip;       // first tokens of each window that are not scored
    size_t tokens_max; // scored of each domain; 0: all
    bool has_special;
};

// <bos>, then tokens[first .. first + n - 1] of the plan; those from n_unscored on are scored.
struct eval_window {
    size_t first, n, n_unscored;
    uint32_t domain;
};
struct eval_domain {
    const char *name;
    size_t n_scored;
};
struct eval_plan {
    struct eval_rule rule;
    carat_token bos;
    carat_token *tokens;
    size_t n_tokens, tokens_capacity;
    struct eval_window *windows;
    size_t n_windows, windows_capacity;
    struct eval_domain domains[EVAL_DOMAINS_MAX];
    size_t n_domains;
    size_t n_scored;      // tokens, in all
    uint64_t n_evaluated; // tokens, with <bos> and what is context only
    struct arena arena;   // of the names
};

// Reads files (.jsonl: lines; "-": standard input, as a text) and cuts them up.
int eval_plan_make(struct eval_plan *plan, const struct eval_rule *rule,
                   const struct carat_engine *engine, const char *const *files, size_t n_files,
                   struct carat_error *err);
// Equal for equal tokens in equal windows of which the same are scored.
void eval_plan_hash(const struct eval_plan *plan, uint8_t out[HASH_SIZE]);
void eval_plan_release(struct eval_plan *plan); // takes zeroed memory

#endif
