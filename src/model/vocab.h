// SPDX-License-Identifier: Apache-2.0
// The vocabulary and the merge table in memory: what tokenizer.c searches and vocab_read.c fills.
// Ids are whatever the file says; nothing here knows one.
#ifndef CARAT_MODEL_VOCAB_H
#define CARAT_MODEL_VOCAB_H

#include "model/tokenizer.h"

#define VOCAB_TOKENS_MAX ((size_t)1 << 22)
#define VOCAB_MERGES_MAX ((size_t)1 << 24)
#define VOCAB_TEXT_MAX   ((size_t)1 << 28) // bytes of all tokens together

enum vocab_flags {
    VOCAB_ADDED = 1,   // its string is looked for in the text before BPE
    VOCAB_SPECIAL = 2, // it is also left out by "skip special", and plain text never becomes it
    VOCAB_BYTE = 4,    // "<0xXX>": stands for that byte
    VOCAB_FOUND = 8,   // vocab_find gives this id for its text; special ones it never gives
};

// One entry of the vocabulary as the file has it; raw is borrowed. Of flags only ADDED and SPECIAL
// count. An empty string is an id without a token.
struct vocab_entry {
    struct slice raw;
    uint8_t flags;
};

struct vocab_slot {
    uint32_t hash;
    carat_token id; // CARAT_TOKEN_NONE: free
};

// A pair of tokens that may be joined. Slots with rank VOCAB_NO_RANK are free.
struct vocab_merge {
    carat_token left, right;
    uint32_t rank;
};
#define VOCAB_NO_RANK UINT32_MAX

struct vocab {
    size_t n_tokens;
    // The tokens' text one after the other, U+2581 written as the space it stands for. Byte tokens
    // have their string here ("<0x0A>"), because merges could name it.
    char *text;
    uint32_t *offsets; // [n_tokens + 1] into text
    uint8_t *flags;    // [n_tokens] enum vocab_flags
    struct vocab_slot *slots;
    size_t n_slots;
    uint64_t seed; // of both hashes, so that a file cannot choose keys that collide

    carat_token bytes[256];
    carat_token ascii[128]; // token of one character; CARAT_TOKEN_NONE: none

    carat_token *added; // VOCAB_ADDED tokens with text, sorted bytewise, no string twice
    size_t n_added;
    bool has_added_plain;    // some of them are not VOCAB_SPECIAL
    bool begins_added[256];  // first bytes of theirs
    bool is_cut_at_newlines; // no token mixes "\n" with anything else, so BPE never crosses there

    struct vocab_merge *merges; // open addressing
    size_t merge_capacity;
    carat_token *merged; // [n_merges] by rank
    size_t n_merges;
};

// Builds everything but the merges from entries[n]; name is what errors call the file. v is zeroed
// memory, and is released by the caller on failure too.
int vocab_build(struct vocab *v, const struct vocab_entry *entries, size_t n, const char *name,
                struct carat_error *err);
#define VOCAB_BATCH 32u
struct vocab_pair {
    struct slice left, right; // as the file has them
};
// Room for n merges in all, then some at a time in the order of their rank. A pair that comes twice
// has the later rank, as in Hugging Face's tokenizers. key is what errors call the list.
int vocab_reserve_merges(struct vocab *v, size_t n, const char *name, struct carat_error *err);
int vocab_add_merges(struct vocab *v, const struct vocab_pair *pairs, size_t n, const char *name,
                     const char *key, struct carat_error *err);
void vocab_release(struct vocab *v); // takes zeroed memory

// Read a file's vocabulary into zeroed memory, which the caller releases on failure too.
int vocab_read_gguf(struct vocab *v, const struct gguf *gguf, struct carat_error *err);
// name is what errors call the document.
int vocab_read_json(struct vocab *v, const struct json_doc *doc, const char *name,
                    struct carat_error *err);
// Bytes that n tokens with so much text, and so many merges, take at most, while they are read.
size_t vocab_memory(size_t n_tokens, size_t text_size, size_t n_merges);

struct slice vocab_text(const struct vocab *v, carat_token id);   // as stored
carat_token vocab_find(const struct vocab *v, struct slice text); // as stored
// The same for a string as files write it, with U+2581.
carat_token vocab_find_raw(const struct vocab *v, struct slice raw);
// NULL: no merge.
const struct vocab_merge *vocab_find_merge(const struct vocab *v, carat_token left,
                                           carat_token right);
// Offset of the first added token's string at or after from, the longest where several begin;
// text.size when there is none. only_plain passes over special ones.
size_t vocab_find_added(const struct vocab *v, struct slice text, size_t from, bool only_plain,
                        carat_token *id);
// The longest added token that text begins with, or CARAT_TOKEN_NONE.
carat_token vocab_longest_added(const struct vocab *v, struct slice text, bool only_plain);

// The control tokens that the chat format knows, and where tokenizer.h's struct special_tokens
// keeps each.
struct vocab_role {
    const char *text;
    size_t offset;
};
extern const struct vocab_role vocab_roles[];
extern const size_t vocab_n_roles;

#endif
