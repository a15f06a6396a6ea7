// SPDX-License-Identifier: Apache-2.0
// Text to ids and back (docs/tokenizer.md). A text is cut at added tokens; what lies between is
// merged pair by pair, lowest rank first, by a heap over a linked list of symbols. The vocabulary
// itself is in vocab.c.
#include "model/tokenizer.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "model/vocab.h"

struct tokenizer {
    struct vocab vocab;
    struct special_tokens specials;
    char byte_text[256]; // every byte once: the text of byte tokens
};

static void find_roles(struct tokenizer *t)
{
    for (size_t i = 0; i < vocab_n_roles; i++) {
        const carat_token id = tokenizer_find(t, slice_of(vocab_roles[i].text));
        memcpy((char *)&t->specials + vocab_roles[i].offset, &id, sizeof(id));
    }
}

// Makes a tokenizer from the one of the two documents that is not NULL.
static int new_from(struct tokenizer **out, const struct gguf *gguf, const struct json_doc *doc,
                    const char *name, struct carat_error *err)
{
    struct tokenizer *t = mem_new(sizeof(*t), err);
    if (!t) {
        return CARAT_E_MEMORY;
    }
    const int rc =
        gguf ? vocab_read_gguf(&t->vocab, gguf, err) : vocab_read_json(&t->vocab, doc, name, err);
    if (rc) {
        tokenizer_free(t);
        return rc;
    }
    for (unsigned b = 0; b < 256; b++) {
        t->byte_text[b] = (char)b;
    }
    find_roles(t);
    *out = t;
    return 0;
}

int tokenizer_new_gguf(struct tokenizer **out, const struct gguf *gguf, struct carat_error *err)
{
    return new_from(out, gguf, NULL, NULL, err);
}

int tokenizer_new_json(struct tokenizer **out, const struct json_doc *doc, const char *name,
                       struct carat_error *err)
{
    return new_from(out, NULL, doc, name, err);
}

int tokenizer_new(struct tokenizer **out, struct source *source, struct carat_error *err)
{
    if (source_gguf(source)) {
        return tokenizer_new_gguf(out, source_gguf(source), err);
    }
    const struct json_doc *doc = NULL;
    struct buf name = {0};
    int rc = source_tokenizer(source, &doc, err);
    if (rc) {
        return rc;
    }
    buf_addf(&name, "%s/tokenizer.json", source_path(source));
    rc = tokenizer_new_json(out, doc, buf_text(&name), err);
    buf_release(&name);
    source_drop_tokenizer(source);
    return rc;
}

void tokenizer_free(struct tokenizer *t)
{
    if (t) {
        vocab_release(&t->vocab);
        mem_free(t);
    }
}

size_t tokenizer_n_tokens(const struct tokenizer *t)
{
    return t->vocab.n_tokens;
}

static uint8_t flags_of(const struct tokenizer *t, carat_token token)
{
    return token >= 0 && (size_t)token < t->vocab.n_tokens ? t->vocab.flags[token] : 0;
}

static unsigned hex_value(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

struct slice tokenizer_text(const struct tokenizer *t, carat_token token)
{
    const struct slice text = vocab_text(&t->vocab, token);
    if ((flags_of(t, token) & VOCAB_BYTE) == 0) {
        return text;
    }
    const unsigned byte = hex_value(text.data[3]) * 16 + hex_value(text.data[4]);
    return slice_make(&t->byte_text[byte], 1);
}

bool tokenizer_is_special(const struct tokenizer *t, carat_token token)
{
    return (flags_of(t, token) & VOCAB_SPECIAL) != 0;
}

carat_token tokenizer_find(const struct tokenizer *t, struct slice text)
{
    const carat_token added = vocab_longest_added(&t->vocab, text, false);
    if (added != CARAT_TOKEN_NONE && vocab_text(&t->vocab, added).size == text.size) {
        return added;
    }
    return vocab_find_raw(&t->vocab, text);
}

const struct special_tokens *tokenizer_specials(const struct tokenizer *t)
{
    return &t->specials;
}

size_t tokenizer_next_special(const struct tokenizer *t, struct slice text, size_t from,
                              carat_token *token)
{
    return vocab_find_added(&t->vocab, text, from, false, token);
}

// ------------------------------------------------------------------------------------ lists

int token_list_add(struct token_list *list, carat_token token, struct carat_error *err)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 64;
        size_t size = 0;
        if (!size_mul(&size, capacity, sizeof(*list->tokens))) {
            return fail(err, CARAT_E_MEMORY, "a list of %zu tokens does not fit into memory",
                        capacity);
        }
        carat_token *tokens = mem_resize(list->tokens, size, err);
        if (!tokens) {
            return CARAT_E_MEMORY;
        }
        list->tokens = tokens;
        list->capacity = capacity;
    }
    list->tokens[list->count++] = token;
    return 0;
}

void token_list_release(struct token_list *list)
{
    mem_free(list->tokens);
    memset(list, 0, sizeof(*list));
}

// ------------------------------------------------------------------------------------ the heap

// A heap of keys, smallest first, with four children a node: half the depth of a binary one, and
// the children share a cache line.
static void heap_sink(uint64_t *heap, size_t n, size_t i)
{
    const uint64_t key = heap[i];
    for (;;) {
        const size_t first = 4 * i + 1;
        if (first >= n) {
            break;
        }
        const size_t end = first + 4 < n ? first + 4 : n;
        size_t least = first;
        for (size_t c = first + 1; c < end; c++) {
            if (heap[c] < heap[least]) {
                least = c;
            }
        }
        if (key <= heap[least]) {
            break;
        }
        heap[i] = heap[least];
        i = least;
    }
    heap[i] = key;
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t key)
{
    size_t i = (*n)++;
    while (i > 0 && heap[(i - 1) / 4] > key) {
        heap[i] = heap[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    heap[i] = key;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    const uint64_t key = heap[0];
    heap[0] = heap[--*n];
    if (*n > 0) {
        heap_sink(heap, *n, 0);
    }
    return key;
}

// ------------------------------------------------------------------------------------ merging

// A piece of text that is one token so far. Symbol i begins left of symbol i + 1 for ever; merging
// takes the right one out of the list.
struct symbol {
    carat_token id;
    uint32_t previous, next; // NO_SYMBOL at the ends
    uint32_t rank;           // of the merge with next; VOCAB_NO_RANK: none
};
#define NO_SYMBOL UINT32_MAX

// Memory for the longest piece so far.
struct workspace {
    struct symbol *symbols; // [capacity]
    // Keys rank * 2^32 + symbol: lowest rank first, leftmost among equal ones. Stale when the
    // symbol's rank is another by now. A merge takes one key and adds at most two, and n symbols
    // have at most n - 1 merges after n - 1 first keys, so 2 * capacity is enough.
    uint64_t *heap;
    size_t n_heap;
    size_t capacity;
};

static int workspace_reserve(struct workspace *w, size_t capacity, struct carat_error *err)
{
    if (capacity <= w->capacity) {
        return 0;
    }
    if (capacity < 256) {
        capacity = 256;
    }
    mem_free(w->symbols);
    mem_free(w->heap);
    w->capacity = 0;
    w->symbols = mem_new_array(capacity, sizeof(*w->symbols), err);
    w->heap = mem_new_array(capacity, 2 * sizeof(*w->heap), err);
    if (!w->symbols || !w->heap) {
        return CARAT_E_MEMORY;
    }
    w->capacity = capacity;
    return 0;
}

static void workspace_release(struct workspace *w)
{
    mem_free(w->symbols);
    mem_free(w->heap);
}

// One symbol for each character that is a token, one for each byte of all else.
static size_t split_symbols(const struct vocab *v, struct symbol *symbols, struct slice text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.size;) {
        const uint8_t byte = (uint8_t)text.data[i];
        carat_token id = CARAT_TOKEN_NONE;
        size_t size = 1;
        if (byte < 128) {
            id = v->ascii[byte];
        } else {
            uint32_t character = 0;
            const int length = utf8_next(text.data + i, text.size - i, &character);
            if (length > 0) {
                size = (size_t)length;
                id = character == 0x2581 ? v->ascii[' ']
                                         : vocab_find(v, slice_make(text.data + i, size));
            }
        }
        if (id != CARAT_TOKEN_NONE) {
            symbols[n++].id = id;
        } else {
            for (size_t k = 0; k < size; k++) {
                symbols[n++].id = v->bytes[(uint8_t)text.data[i + k]];
            }
        }
        i += size;
    }
    return n;
}

static void update_rank(const struct vocab *v, struct workspace *w, uint32_t i)
{
    struct symbol *s = &w->symbols[i];
    s->rank = VOCAB_NO_RANK;
    if (s->next != NO_SYMBOL) {
        const struct vocab_merge *m = vocab_find_merge(v, s->id, w->symbols[s->next].id);
        if (m) {
            s->rank = m->rank;
            heap_push(w->heap, &w->n_heap, (uint64_t)m->rank << 32 | i);
        }
    }
}

static void link_symbols(const struct vocab *v, struct workspace *w, size_t n)
{
    w->n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        w->symbols[i].previous = i > 0 ? (uint32_t)(i - 1) : NO_SYMBOL;
        w->symbols[i].next = i + 1 < n ? (uint32_t)(i + 1) : NO_SYMBOL;
        update_rank(v, w, (uint32_t)i);
    }
}

// Joins symbol i with the one after it.
static void merge_symbol(const struct vocab *v, struct workspace *w, uint32_t i)
{
    struct symbol *s = &w->symbols[i];
    struct symbol *gone = &w->symbols[s->next];
    s->id = v->merged[s->rank];
    s->next = gone->next;
    gone->rank = VOCAB_NO_RANK;
    if (s->next != NO_SYMBOL) {
        w->symbols[s->next].previous = i;
    }
    if (s->previous != NO_SYMBOL) {
        update_rank(v, w, s->previous);
    }
    update_rank(v, w, i);
}

static int encode_piece(const struct vocab *v, struct workspace *w, struct slice text,
                        struct token_list *out, struct carat_error *err)
{
    int rc = workspace_reserve(w, text.size, err);
    if (rc || text.size == 0) {
        return rc;
    }
    link_symbols(v, w, split_symbols(v, w->symbols, text));
    while (w->n_heap > 0) {
        const uint64_t key = heap_pop(w->heap, &w->n_heap);
        const uint32_t i = (uint32_t)key;
        if (w->symbols[i].rank == (uint32_t)(key >> 32)) {
            merge_symbol(v, w, i);
        }
    }
    // The first symbol is never taken out.
    for (uint32_t i = 0; i != NO_SYMBOL && rc == 0; i = w->symbols[i].next) {
        rc = token_list_add(out, w->symbols[i].id, err);
    }
    return rc;
}

// The end of the run that begins at `from`: all newlines, or none.
static size_t run_end(struct slice text, size_t from)
{
    if (text.data[from] != '\n') {
        const char *newline = memchr(text.data + from, '\n', text.size - from);
        return newline ? (size_t)(newline - text.data) : text.size;
    }
    size_t i = from;
    while (i < text.size && text.data[i] == '\n') {
        i++;
    }
    return i;
}

// Text without added tokens. Where the vocabulary allows it, lines are merged one by one: the
// result is the same, and the memory that is walked at random is small.
static int encode_text(const struct vocab *v, struct workspace *w, struct slice text,
                       struct token_list *out, struct carat_error *err)
{
    if (!v->is_cut_at_newlines) {
        return encode_piece(v, w, text, out, err);
    }
    int rc = 0;
    for (size_t i = 0; i < text.size && rc == 0;) {
        const size_t end = run_end(text, i);
        rc = encode_piece(v, w, slice_make(text.data + i, end - i), out, err);
        i = end;
    }
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, struct slice text, bool parses_special,
                     struct token_list *out, struct carat_error *err)
{
    if (text.size > TOKENIZER_TEXT_MAX) {
        return fail(err, CARAT_E_FULL, "text to tokenize: expected at most %zu bytes, found %zu",
                    TOKENIZER_TEXT_MAX, text.size);
    }
    const struct vocab *v = &t->vocab;
    const size_t count_before = out->count;
    struct workspace w = {0};
    int rc = 0;
    size_t from = 0;
    while (from < text.size && rc == 0) {
        carat_token added = CARAT_TOKEN_NONE;
        const size_t end = vocab_find_added(v, text, from, !parses_special, &added);
        rc = encode_text(v, &w, slice_make(text.data + from, end - from), out, err);
        from = end;
        if (rc == 0 && added != CARAT_TOKEN_NONE) {
            rc = token_list_add(out, added, err);
            from += vocab_text(v, added).size;
        }
    }
    if (rc) {
        out->count = count_before;
    }
    workspace_release(&w);
    return rc;
}

// ------------------------------------------------------------------------------------ streaming

#define REPLACEMENT 0xFFFDu

// Shows the first character of what is held, or U+FFFD for its invalid part. is_end: no more bytes
// will come. False: more are needed.
static bool show_first(struct utf8_stream *s, bool is_end, struct buf *out)
{
    uint32_t character = 0;
    const int length = utf8_next(s->held, s->n_held, &character);
    // The first two bytes of an encoded surrogate are wrong already, but the reference, Python's
    // incremental decoder, waits for the third.
    const bool is_surrogate =
        s->n_held == 2 && s->held[0] == '\xED' && (uint8_t)s->held[1] >> 5 == 0xA0 >> 5;
    if (!is_end && (length == 0 || is_surrogate)) {
        return false;
    }
    size_t taken = s->n_held;
    if (length > 0) {
        taken = (size_t)length;
        buf_add(out, s->held, taken);
    } else {
        taken = length < 0 ? (size_t)-length : taken;
        buf_add_utf8(out, REPLACEMENT);
    }
    s->n_held -= taken;
    memmove(s->held, s->held + taken, s->n_held);
    return true;
}

void utf8_stream_feed(struct utf8_stream *s, struct slice bytes, struct buf *out)
{
    for (size_t at = 0; at < bytes.size;) {
        // Four bytes are a character or wrong, so there is always room for another one.
        while (s->n_held < sizeof(s->held) && at < bytes.size) {
            s->held[s->n_held++] = bytes.data[at++];
        }
        while (s->n_held > 0 && show_first(s, false, out)) {
        }
    }
}

void utf8_stream_flush(struct utf8_stream *s, struct buf *out)
{
    while (s->n_held > 0) {
        (void)show_first(s, true, out);
    }
}

// ------------------------------------------------------------------------------------ memory

static size_t gguf_memory(const struct gguf *g)
{
    struct gguf_array tokens = {0};
    struct gguf_array merges = {0};
    if (gguf_get_array(g, "tokenizer.ggml.tokens", &tokens, NULL) != 0 ||
        gguf_get_array(g, "tokenizer.ggml.merges", &merges, NULL) != 0 ||
        tokens.type != GGUF_STRING || tokens.count > VOCAB_TOKENS_MAX ||
        merges.count > VOCAB_MERGES_MAX) {
        return 0; // opening it will say what is wrong
    }
    size_t text_size = 0;
    for (uint64_t i = 0; i < tokens.count; i++) {
        const size_t size = gguf_array_next_string(&tokens).size;
        text_size += size < TOKENIZER_TOKEN_SIZE_MAX ? size : TOKENIZER_TOKEN_SIZE_MAX;
    }
    return vocab_memory((size_t)tokens.count, text_size, (size_t)merges.count);
}

// tokenizer.json is not parsed for this. Its values, the copy of its text, and what is made of them
// take less than this many bytes for each of the file's, and a little for a file that is all holes.
#define JSON_BYTES_PER_BYTE 6

static size_t json_memory(const struct source *source)
{
    struct buf path = {0};
    struct os_map map = {0};
    size_t size = 0;
    buf_addf(&path, "%s/tokenizer.json", source_path(source));
    if (buf_status(&path, NULL) == 0 && os_map_open(&map, buf_text(&path), NULL) == 0) {
        size = map.size * JSON_BYTES_PER_BYTE + 2 * TOKENIZER_TOKEN_SIZE_MAX * 16;
    }
    os_map_close(&map);
    buf_release(&path);
    return size;
}

size_t tokenizer_memory(const struct source *source)
{
    const size_t size =
        source_gguf(source) ? gguf_memory(source_gguf(source)) : json_memory(source);
    return sizeof(struct tokenizer) + size;
}
