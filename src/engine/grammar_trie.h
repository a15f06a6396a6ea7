// SPDX-License-Identifier: Apache-2.0
// A trie of byte strings that stand for tokens, laid out depth first: a walk goes on with the next
// node, or jumps over what lies below one.
#ifndef CARAT_ENGINE_GRAMMAR_TRIE_H
#define CARAT_ENGINE_GRAMMAR_TRIE_H

#include "base/str.h"

struct trie_entry {
    const char *data; // may be NULL when size is 0
    uint32_t size;
    carat_token token;
    uint32_t count; // what the maker wants to remember of it
    uint64_t head;  // the first bytes as a number: trie_new fills it in
};

struct trie_token {
    carat_token token;
    uint32_t count;
};

struct trie {
    size_t n_nodes;   // with the root, which is node 0
    uint8_t *bytes;   // [n_nodes] that leads to the node
    uint16_t *depths; // [n_nodes]
    uint32_t *ends;   // [n_nodes] first node that does not lie below
    uint32_t *firsts; // [n_nodes + 1] its tokens in `tokens`; equal: none end here
    struct trie_token *tokens;
    size_t n_tokens;
    size_t depth_max;
};

// Puts the entries in order; nothing of them is kept. Strings are at most TOKENIZER_TOKEN_SIZE_MAX
// long.
int trie_new(struct trie **out, struct trie_entry *entries, size_t n, struct carat_error *err);
size_t trie_memory(const struct trie *trie); // bytes
void trie_free(struct trie *trie);

#endif
