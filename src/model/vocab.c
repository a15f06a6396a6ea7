// SPDX-License-Identifier: Apache-2.0
// The vocabulary in memory: one block of text, an open-addressing table from text to id, one from a
// pair of ids to its merge, and the sorted list of added tokens. Built once, read by many threads.
#include "model/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

// U+2581, which stands for a space in the files.
static const char space_mark[3] = "\xE2\x96\x81";

// Finalizer in the manner of splitmix64 (Steele, Lea, Flood 2014): every bit of x moves every bit
// of the result.
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static uint32_t hash_text(uint64_t seed, struct slice s)
{
    uint64_t h = seed ^ (uint64_t)s.size;
    size_t at = 0;
    for (; s.size - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, s.data + at, 8);
        h = mix(h ^ word);
    }
    uint64_t tail = 0;
    memcpy(&tail, s.data + at, s.size - at);
    return (uint32_t)mix(h ^ tail ^ (seed >> 1));
}

static size_t merge_slot(const struct vocab *v, carat_token left, carat_token right)
{
    const uint64_t key = ((uint64_t)(uint32_t)left << 32) | (uint32_t)right;
    return (size_t)((mix(key ^ v->seed) >> 32) * v->merge_capacity >> 32);
}

// Scales a 32-bit hash to [0, n): n need not be a power of two.
static size_t text_slot(const struct vocab *v, uint32_t hash)
{
    return (size_t)((uint64_t)hash * v->n_slots >> 32);
}

struct slice vocab_text(const struct vocab *v, carat_token id)
{
    if (id < 0 || (size_t)id >= v->n_tokens) {
        return slice_make(NULL, 0);
    }
    return slice_make(v->text + v->offsets[id], v->offsets[id + 1] - v->offsets[id]);
}

// The slot that holds this text, or the free one where it would go.
static struct vocab_slot *find_slot(const struct vocab *v, struct slice text, uint32_t hash)
{
    size_t i = text_slot(v, hash);
    while (v->slots[i].id != CARAT_TOKEN_NONE) {
        if (v->slots[i].hash == hash && slice_equal(vocab_text(v, v->slots[i].id), text)) {
            break;
        }
        i = i + 1 == v->n_slots ? 0 : i + 1;
    }
    return &v->slots[i];
}

carat_token vocab_find(const struct vocab *v, struct slice text)
{
    if (text.size == 0 || text.size > TOKENIZER_TOKEN_SIZE_MAX) {
        return CARAT_TOKEN_NONE;
    }
    return find_slot(v, text, hash_text(v->seed, text))->id;
}

// ------------------------------------------------------------------------------------ building

// Copies s with every U+2581 as a space; returns the size, never more than s.size.
static size_t copy_with_spaces(char *out, struct slice s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.size;) {
        if (s.size - i >= 3 && memcmp(s.data + i, space_mark, 3) == 0) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = s.data[i++];
        }
    }
    return n;
}

carat_token vocab_find_raw(const struct vocab *v, struct slice raw)
{
    char text[TOKENIZER_TOKEN_SIZE_MAX];
    if (raw.size == 0 || raw.size > sizeof(text) || memchr(raw.data, ' ', raw.size)) {
        return CARAT_TOKEN_NONE;
    }
    return vocab_find(v, slice_make(text, copy_with_spaces(text, raw)));
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_byte_string(struct slice s)
{
    return s.size == 6 && slice_starts(s, "<0x") && s.data[5] == '>' && hex_value(s.data[3]) >= 0 &&
           hex_value(s.data[4]) >= 0;
}

static bool is_mixed_with_newline(struct slice s)
{
    size_t n_newlines = 0;
    for (size_t i = 0; i < s.size; i++) {
        n_newlines += s.data[i] == '\n';
    }
    return n_newlines > 0 && n_newlines < s.size;
}

static int check_entries(const struct vocab_entry *entries, size_t n, const char *name,
                         size_t *text_size, struct carat_error *err)
{
    if (n == 0 || n > VOCAB_TOKENS_MAX) {
        return fail(err, CARAT_E_FORMAT, "%s: vocabulary: expected 1 to %zu tokens, found %zu",
                    name, VOCAB_TOKENS_MAX, n);
    }
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (entries[i].raw.size > TOKENIZER_TOKEN_SIZE_MAX) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: vocabulary: token %zu: expected at most %u bytes, found %zu", name, i,
                        TOKENIZER_TOKEN_SIZE_MAX, entries[i].raw.size);
        }
        total += entries[i].raw.size; // cannot overflow: 2^22 * 2^12
    }
    if (total > VOCAB_TEXT_MAX) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: vocabulary: expected at most %zu bytes of text in all, found %zu", name,
                    VOCAB_TEXT_MAX, total);
    }
    *text_size = total;
    return 0;
}

// Copies one token's text and settles what it is.
//
// Text comes with spaces for U+2581, so a string that has a space of its own cannot come out of
// BPE: it is kept for decoding and, when added, for matching. In the same way an added token whose
// string has U+2581 is left to the merges, since the text to match has spaces there. Special tokens
// are found by vocab_find_added alone: no plain text, and no merge, can become one.
static void copy_entry(struct vocab *v, size_t i, struct slice raw, uint8_t flags)
{
    const uint32_t at = v->offsets[i];
    const size_t size = copy_with_spaces(v->text + at, raw);
    v->offsets[i + 1] = at + (uint32_t)size;
    if (size == 0) {
        return;
    }
    flags &= VOCAB_ADDED | VOCAB_SPECIAL;
    if (size != raw.size) {
        flags &= (uint8_t)~VOCAB_ADDED;
    }
    if (is_byte_string(raw)) {
        flags |= VOCAB_BYTE;
    }
    if ((flags & VOCAB_SPECIAL) == 0 && memchr(raw.data, ' ', raw.size) == NULL) {
        flags |= VOCAB_FOUND;
    }
    v->flags[i] = flags;
}

// Enters a token into the table of texts. Of equal ones the last counts, as in the reference, whose
// map from string to id is filled in order.
static void enter_text(struct vocab *v, carat_token id, uint32_t hash)
{
    struct vocab_slot *slot = find_slot(v, vocab_text(v, id), hash);
    if (slot->id != CARAT_TOKEN_NONE) {
        v->flags[slot->id] &= (uint8_t)~VOCAB_FOUND;
    }
    slot->hash = hash;
    slot->id = id;
}

static void prefetch(const void *p)
{
    __builtin_prefetch(p);
}

// Some at a time, so that the slots of all are on their way before the first is looked at.
static void enter_texts(struct vocab *v)
{
    for (size_t first = 0; first < v->n_tokens; first += VOCAB_BATCH) {
        const size_t left = v->n_tokens - first;
        const size_t n = left < VOCAB_BATCH ? left : VOCAB_BATCH;
        uint32_t hashes[VOCAB_BATCH];
        for (size_t i = 0; i < n; i++) {
            hashes[i] = hash_text(v->seed, vocab_text(v, (carat_token)(first + i)));
            prefetch(&v->slots[text_slot(v, hashes[i])]);
        }
        for (size_t i = 0; i < n; i++) {
            if ((v->flags[first + i] & VOCAB_FOUND) != 0) {
                enter_text(v, (carat_token)(first + i), hashes[i]);
            }
        }
    }
}

static int find_characters(struct vocab *v, const char *name, struct carat_error *err)
{
    static const char digits[] = "0123456789ABCDEF";
    for (unsigned b = 0; b < 256; b++) {
        const char text[6] = {'<', '0', 'x', digits[b >> 4], digits[b & 15], '>'};
        v->bytes[b] = vocab_find(v, slice_make(text, 6));
        if (v->bytes[b] == CARAT_TOKEN_NONE) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: vocabulary: expected a token for every byte, found no \"%.6s\"", name,
                        text);
        }
    }
    for (unsigned c = 0; c < 128; c++) {
        const char text[1] = {(char)c};
        v->ascii[c] = vocab_find(v, slice_make(text, 1));
    }
    // Without it a space would fall back to the three bytes of U+2581, and a text could have more
    // tokens than bytes.
    if (v->ascii[' '] == CARAT_TOKEN_NONE) {
        return fail(
            err, CARAT_E_FORMAT,
            "%s: vocabulary: expected the token U+2581, which stands for a space, found none",
            name);
    }
    return 0;
}

static bool check_newlines(const struct vocab *v)
{
    if (v->ascii['\n'] == CARAT_TOKEN_NONE) {
        return false; // a newline becomes <0x0A>, and merges could join that with anything
    }
    for (size_t i = 0; i < v->n_tokens; i++) {
        if ((v->flags[i] & VOCAB_FOUND) != 0 &&
            is_mixed_with_newline(vocab_text(v, (carat_token)i))) {
            return false;
        }
    }
    return true;
}

struct added {
    struct slice text;
    carat_token id;
};

static int compare_added(const void *a, const void *b)
{
    const struct added *x = a;
    const struct added *y = b;
    const size_t size = x->text.size < y->text.size ? x->text.size : y->text.size;
    const int order = memcmp(x->text.data, y->text.data, size);
    if (order != 0) {
        return order;
    }
    if (x->text.size != y->text.size) {
        return x->text.size < y->text.size ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

static int list_added(struct vocab *v, struct carat_error *err)
{
    int rc = CARAT_E_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < v->n_tokens; i++) {
        n += (v->flags[i] & VOCAB_ADDED) != 0;
    }
    struct added *list = mem_new_array(n, sizeof(*list), err);
    v->added = mem_new_array(n, sizeof(*v->added), err);
    if (!list || !v->added) {
        goto out;
    }
    n = 0;
    for (size_t i = 0; i < v->n_tokens; i++) {
        if ((v->flags[i] & VOCAB_ADDED) != 0) {
            list[n].text = vocab_text(v, (carat_token)i);
            list[n++].id = (carat_token)i;
        }
    }
    if (n > 0) {
        qsort(list, n, sizeof(*list), compare_added);
    }
    for (size_t i = 0; i < n; i++) {
        if (i + 1 < n && slice_equal(list[i].text, list[i + 1].text)) {
            continue; // the last of equal ones counts here too
        }
        v->added[v->n_added++] = list[i].id;
        v->begins_added[(uint8_t)list[i].text.data[0]] = true;
        v->has_added_plain |= (v->flags[list[i].id] & VOCAB_SPECIAL) == 0;
    }
    rc = 0;
out:
    mem_free(list);
    return rc;
}

int vocab_build(struct vocab *v, const struct vocab_entry *entries, size_t n, const char *name,
                struct carat_error *err)
{
    size_t text_size = 0;
    int rc = check_entries(entries, n, name, &text_size, err);
    if (rc) {
        return rc;
    }
    v->n_tokens = n;
    v->n_slots = n + n / 2 + 1;
    v->seed = os_random_u64();
    v->text = mem_new(text_size, err);
    v->offsets = mem_new_array(n + 1, sizeof(*v->offsets), err);
    v->flags = mem_new_array(n, sizeof(*v->flags), err);
    v->slots = mem_new_array(v->n_slots, sizeof(*v->slots), err);
    if (!v->text || !v->offsets || !v->flags || !v->slots) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < v->n_slots; i++) {
        v->slots[i].id = CARAT_TOKEN_NONE;
    }
    for (size_t i = 0; i < n; i++) {
        copy_entry(v, i, entries[i].raw, entries[i].flags);
    }
    enter_texts(v);
    rc = find_characters(v, name, err);
    if (rc) {
        return rc;
    }
    v->is_cut_at_newlines = check_newlines(v);
    return list_added(v, err);
}

void vocab_release(struct vocab *v)
{
    mem_free(v->text);
    mem_free(v->offsets);
    mem_free(v->flags);
    mem_free(v->slots);
    mem_free(v->added);
    mem_free(v->merges);
    mem_free(v->merged);
    memset(v, 0, sizeof(*v));
}

size_t vocab_memory(size_t n_tokens, size_t text_size, size_t n_merges)
{
    const size_t n_slots = n_tokens + n_tokens / 2 + 1;
    const size_t tokens = text_size + (n_tokens + 1) * (sizeof(uint32_t) + sizeof(uint8_t)) +
                          n_slots * sizeof(struct vocab_slot);
    const size_t merges =
        (n_merges + n_merges / 2 + 1) * sizeof(struct vocab_merge) + n_merges * sizeof(carat_token);
    // The list of entries is dropped before the merges are read.
    const size_t entries = n_tokens * sizeof(struct vocab_entry);
    return sizeof(struct vocab) + tokens + (entries > merges ? entries : merges) + 16 * MEM_ALIGN;
}

// ------------------------------------------------------------------------------------ merges

int vocab_reserve_merges(struct vocab *v, size_t n, const char *name, struct carat_error *err)
{
    if (n > VOCAB_MERGES_MAX) {
        return fail(err, CARAT_E_FORMAT, "%s: merges: expected at most %zu, found %zu", name,
                    VOCAB_MERGES_MAX, n);
    }
    v->merge_capacity = n + n / 2 + 1;
    v->merges = mem_new_array(v->merge_capacity, sizeof(*v->merges), err);
    v->merged = mem_new_array(n, sizeof(*v->merged), err);
    if (!v->merges || !v->merged) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < v->merge_capacity; i++) {
        v->merges[i].rank = VOCAB_NO_RANK;
    }
    return 0;
}

// The slot that holds this pair, or the free one where it would go.
static struct vocab_merge *find_merge_slot(const struct vocab *v, carat_token left,
                                           carat_token right)
{
    size_t i = merge_slot(v, left, right);
    while (v->merges[i].rank != VOCAB_NO_RANK &&
           (v->merges[i].left != left || v->merges[i].right != right)) {
        i = i + 1 == v->merge_capacity ? 0 : i + 1;
    }
    return &v->merges[i];
}

const struct vocab_merge *vocab_find_merge(const struct vocab *v, carat_token left,
                                           carat_token right)
{
    const struct vocab_merge *m = find_merge_slot(v, left, right);
    return m->rank == VOCAB_NO_RANK ? NULL : m;
}

// Files list merges with the same result together, and results in the order of their ids: looking
// at the last one and its neighbour first saves most searches.
static carat_token find_result(const struct vocab *v, struct slice text)
{
    const carat_token last = v->n_merges > 0 ? v->merged[v->n_merges - 1] : 0;
    for (carat_token id = last; id <= last + 1 && (size_t)id < v->n_tokens; id++) {
        if ((v->flags[id] & VOCAB_FOUND) != 0 && slice_equal(vocab_text(v, id), text)) {
            return id;
        }
    }
    return vocab_find(v, text);
}

static int fail_merge(size_t rank, struct slice part, const char *what, const char *name,
                      const char *key, struct carat_error *err)
{
    struct buf shown = {0};
    buf_add_json(&shown, part.data, part.size < 64 ? part.size : 64);
    const int rc =
        fail(err, CARAT_E_FORMAT, "%s: %s: merge %zu: expected %s from the vocabulary, found %s",
             name, key, rank, what, buf_text(&shown));
    buf_release(&shown);
    return rc;
}

// Half a million merges are a million and a half searches in tables that no cache holds. Some are
// done at a time, step by step, so that the memory of one is on its way while the others are worked
// on.
struct batch {
    char text[2 * TOKENIZER_TOKEN_SIZE_MAX + 8192]; // a left and its right side by side: the result
    struct slice left[VOCAB_BATCH], right[VOCAB_BATCH];
    uint32_t left_hash[VOCAB_BATCH], right_hash[VOCAB_BATCH];
    carat_token left_id[VOCAB_BATCH], right_id[VOCAB_BATCH];
    size_t n;
};

static bool can_be_token(struct slice raw)
{
    return raw.size > 0 && raw.size <= TOKENIZER_TOKEN_SIZE_MAX &&
           memchr(raw.data, ' ', raw.size) == NULL;
}

// Takes in as many of the pairs as there is room for.
static int fill_batch(const struct vocab *v, struct batch *b, const struct vocab_pair *pairs,
                      size_t n, const char *name, const char *key, struct carat_error *err)
{
    size_t at = 0;
    b->n = 0;
    for (; b->n < n && b->n < VOCAB_BATCH; b->n++) {
        const struct slice left = pairs[b->n].left;
        const struct slice right = pairs[b->n].right;
        if (!can_be_token(left) || !can_be_token(right)) {
            const bool is_left = !can_be_token(left);
            return fail_merge(v->n_merges + b->n, is_left ? left : right,
                              is_left ? "a left token" : "a right token", name, key, err);
        }
        if (left.size + right.size > sizeof(b->text) - at) {
            break; // never the first
        }
        b->left[b->n] = slice_make(b->text + at, copy_with_spaces(b->text + at, left));
        at += b->left[b->n].size;
        b->right[b->n] = slice_make(b->text + at, copy_with_spaces(b->text + at, right));
        at += b->right[b->n].size;
        b->left_hash[b->n] = hash_text(v->seed, b->left[b->n]);
        b->right_hash[b->n] = hash_text(v->seed, b->right[b->n]);
    }
    return 0;
}

static void prefetch_batch(const struct vocab *v, const uint32_t *hashes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        prefetch(&v->slots[text_slot(v, hashes[i])]);
    }
    for (size_t i = 0; i < n; i++) {
        const carat_token id = v->slots[text_slot(v, hashes[i])].id;
        prefetch(&v->offsets[id == CARAT_TOKEN_NONE ? 0 : id]);
    }
    for (size_t i = 0; i < n; i++) {
        const carat_token id = v->slots[text_slot(v, hashes[i])].id;
        prefetch(v->text + v->offsets[id == CARAT_TOKEN_NONE ? 0 : id]);
    }
}

static int find_batch(const struct vocab *v, struct batch *b, const char *name, const char *key,
                      struct carat_error *err)
{
    prefetch_batch(v, b->left_hash, b->n);
    prefetch_batch(v, b->right_hash, b->n);
    for (size_t i = 0; i < b->n; i++) {
        b->left_id[i] = find_slot(v, b->left[i], b->left_hash[i])->id;
        b->right_id[i] = find_slot(v, b->right[i], b->right_hash[i])->id;
        if (b->left_id[i] == CARAT_TOKEN_NONE || b->right_id[i] == CARAT_TOKEN_NONE) {
            const bool is_left = b->left_id[i] == CARAT_TOKEN_NONE;
            return fail_merge(v->n_merges + i, is_left ? b->left[i] : b->right[i],
                              is_left ? "a left token" : "a right token", name, key, err);
        }
        prefetch(&v->merges[merge_slot(v, b->left_id[i], b->right_id[i])]);
    }
    return 0;
}

static int enter_batch(struct vocab *v, const struct batch *b, const char *name, const char *key,
                       struct carat_error *err)
{
    for (size_t i = 0; i < b->n; i++) {
        const struct slice whole = slice_make(b->left[i].data, b->left[i].size + b->right[i].size);
        const carat_token merged = find_result(v, whole);
        if (merged == CARAT_TOKEN_NONE) {
            return fail_merge(v->n_merges, whole, "the result", name, key, err);
        }
        struct vocab_merge *slot = find_merge_slot(v, b->left_id[i], b->right_id[i]);
        slot->left = b->left_id[i];
        slot->right = b->right_id[i];
        slot->rank = (uint32_t)v->n_merges;
        v->merged[v->n_merges++] = merged;
    }
    return 0;
}

int vocab_add_merges(struct vocab *v, const struct vocab_pair *pairs, size_t n, const char *name,
                     const char *key, struct carat_error *err)
{
    struct batch b;
    int rc = 0;
    while (n > 0 && rc == 0) {
        rc = fill_batch(v, &b, pairs, n, name, key, err);
        if (rc == 0) {
            rc = find_batch(v, &b, name, key, err);
        }
        if (rc == 0) {
            rc = enter_batch(v, &b, name, key, err);
        }
        pairs += b.n;
        n -= b.n;
    }
    return rc;
}

// ------------------------------------------------------------------------------------ added tokens

// The byte at k of an added token, -1 past its end: the order in which they are sorted.
static int byte_at(const struct vocab *v, size_t i, size_t k)
{
    const struct slice s = vocab_text(v, v->added[i]);
    return k < s.size ? (uint8_t)s.data[k] : -1;
}

// First of added[low..high), which agree in k bytes, whose byte at k is at least b.
static size_t lower_bound(const struct vocab *v, size_t low, size_t high, size_t k, int b)
{
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (byte_at(v, middle, k) < b) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

carat_token vocab_longest_added(const struct vocab *v, struct slice text, bool only_plain)
{
    carat_token found = CARAT_TOKEN_NONE;
    size_t low = 0;
    size_t high = v->n_added;
    for (size_t k = 0; k < text.size && low < high; k++) {
        const int b = (uint8_t)text.data[k];
        low = lower_bound(v, low, high, k, b);
        high = lower_bound(v, low, high, k, b + 1);
        // Of those left, the one that ends here sorts first.
        if (low < high && byte_at(v, low, k + 1) < 0) {
            const carat_token id = v->added[low];
            if (!only_plain || (v->flags[id] & VOCAB_SPECIAL) == 0) {
                found = id;
            }
        }
    }
    return found;
}

size_t vocab_find_added(const struct vocab *v, struct slice text, size_t from, bool only_plain,
                        carat_token *id)
{
    if (v->n_added == 0 || (only_plain && !v->has_added_plain)) {
        return text.size;
    }
    for (size_t i = from; i < text.size; i++) {
        if (!v->begins_added[(uint8_t)text.data[i]]) {
            continue;
        }
        const carat_token found =
            vocab_longest_added(v, slice_make(text.data + i, text.size - i), only_plain);
        if (found != CARAT_TOKEN_NONE) {
            *id = found;
            return i;
        }
    }
    return text.size;
}
