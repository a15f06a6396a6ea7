// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar_trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "model/tokenizer.h"

static int by_bytes(const void *x, const void *y)
{
    const struct trie_entry *a = x;
    const struct trie_entry *b = y;
    if (a->head != b->head) {
        return a->head < b->head ? -1 : 1;
    }
    const uint32_t size = a->size < b->size ? a->size : b->size;
    int order = size ? memcmp(a->data, b->data, size) : 0;
    if (!order) {
        order = (a->size > b->size) - (a->size < b->size);
    }
    if (!order) {
        order = (a->token > b->token) - (a->token < b->token);
    }
    return order ? order : (a->count > b->count) - (a->count < b->count);
}

static uint32_t common(struct trie_entry a, struct trie_entry b)
{
    const uint32_t size = a.size < b.size ? a.size : b.size;
    uint32_t n = 0;
    while (n < size && a.data[n] == b.data[n]) {
        n++;
    }
    return n;
}

static size_t count_nodes(const struct trie_entry *entries, size_t n)
{
    size_t nodes = 1;
    for (size_t i = 0; i < n; i++) {
        nodes += entries[i].size - (i > 0 ? common(entries[i - 1], entries[i]) : 0);
    }
    return nodes;
}

// In sorted order every new node is the next one.
static void fill(struct trie *t, const struct trie_entry *entries, size_t n)
{
    uint32_t path[TOKENIZER_TOKEN_SIZE_MAX + 1] = {0}; // nodes that lead to the last entry
    uint32_t depth = 0;
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t shared = i > 0 ? common(entries[i - 1], entries[i]) : 0;
        while (depth > shared) {
            t->ends[path[depth--]] = node + 1;
        }
        while (depth < entries[i].size) {
            path[++depth] = ++node;
            t->bytes[node] = (uint8_t)entries[i].data[depth - 1];
            t->depths[node] = (uint16_t)depth;
            t->firsts[node] = (uint32_t)i;
        }
        t->tokens[i] = (struct trie_token){.token = entries[i].token, .count = entries[i].count};
        t->depth_max = depth > t->depth_max ? depth : t->depth_max;
    }
    while (depth > 0) {
        t->ends[path[depth--]] = node + 1;
    }
    t->ends[0] = node + 1;
    t->firsts[node + 1] = (uint32_t)n;
}

// Most strings differ in the first eight bytes, which are compared at once. What is missing counts
// as zero; ties are settled by the whole.
static uint64_t head_of(struct trie_entry e)
{
    uint64_t head = 0;
    for (uint32_t i = 0; i < 8; i++) {
        head = head << 8 | (i < e.size ? (uint8_t)e.data[i] : 0);
    }
    return head;
}

int trie_new(struct trie **out, struct trie_entry *entries, size_t n, struct carat_error *err)
{
    struct trie *t = mem_new(sizeof(*t), err);
    if (!t) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        entries[i].head = head_of(entries[i]);
    }
    if (n > 1) {
        qsort(entries, n, sizeof(*entries), by_bytes);
    }
    t->n_nodes = count_nodes(entries, n);
    t->n_tokens = n;
    t->bytes = mem_new_array(t->n_nodes, sizeof(*t->bytes), err);
    t->depths = mem_new_array(t->n_nodes, sizeof(*t->depths), err);
    t->ends = mem_new_array(t->n_nodes, sizeof(*t->ends), err);
    t->firsts = mem_new_array(t->n_nodes + 1, sizeof(*t->firsts), err);
    t->tokens = mem_new_array(n, sizeof(*t->tokens), err);
    if (!t->bytes || !t->depths || !t->ends || !t->firsts || !t->tokens) {
        trie_free(t);
        return CARAT_E_MEMORY;
    }
    fill(t, entries, n);
    *out = t;
    return 0;
}

size_t trie_memory(const struct trie *t)
{
    return sizeof(*t) +
           t->n_nodes *
               (sizeof(*t->bytes) + sizeof(*t->depths) + sizeof(*t->ends) + sizeof(*t->firsts)) +
           t->n_tokens * sizeof(*t->tokens);
}

void trie_free(struct trie *t)
{
    if (t) {
        mem_free(t->bytes);
        mem_free(t->depths);
        mem_free(t->ends);
        mem_free(t->firsts);
        mem_free(t->tokens);
        mem_free(t);
    }
}
