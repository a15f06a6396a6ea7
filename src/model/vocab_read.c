// SPDX-License-Identifier: Apache-2.0
// The vocabulary from a file: GGUF metadata (tokenizer.ggml.*) or Hugging Face's tokenizer.json,
// checked here once. docs/tokenizer.md says what is accepted.
#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "model/tokenizer.h"
#include "model/vocab.h"

#define ROLE(text, field)                                                                          \
    {                                                                                              \
        text, offsetof(struct special_tokens, field)                                               \
    }
const struct vocab_role vocab_roles[] = {
    ROLE("<pad>", pad),
    ROLE("<eos>", eos),
    ROLE("<bos>", bos),
    ROLE("<unk>", unk),
    ROLE("<mask>", mask),
    ROLE("<|tool>", tool_open),
    ROLE("<tool|>", tool_close),
    ROLE("<|tool_call>", call_open),
    ROLE("<tool_call|>", call_close),
    ROLE("<|tool_response>", response_open),
    ROLE("<tool_response|>", response_close),
    ROLE("<|\"|>", quote),
    ROLE("<|think|>", think),
    ROLE("<|channel>", channel_open),
    ROLE("<channel|>", channel_close),
    ROLE("<|turn>", turn_open),
    ROLE("<turn|>", turn_close),
    ROLE("<|image>", image_open),
    ROLE("<|audio>", audio_open),
    ROLE("<|image|>", image),
    ROLE("<|audio|>", audio),
    ROLE("<image|>", image_close),
    ROLE("<audio|>", audio_close),
    ROLE("<|video|>", video),
};
#undef ROLE
const size_t vocab_n_roles = sizeof(vocab_roles) / sizeof(vocab_roles[0]);

static bool is_role(struct slice raw)
{
    for (size_t i = 0; i < vocab_n_roles; i++) {
        if (slice_is(raw, vocab_roles[i].text)) {
            return true;
        }
    }
    return false;
}

// "left right": the first space that is not the first byte.
static bool split_pair(struct vocab_pair *out, struct slice text)
{
    const char *space = text.size > 1 ? memchr(text.data + 1, ' ', text.size - 1) : NULL;
    if (!space) {
        return false;
    }
    const size_t left = (size_t)(space - text.data);
    out->left = slice_make(text.data, left);
    out->right = slice_make(space + 1, text.size - left - 1);
    return true;
}

// ------------------------------------------------------------------------------------ GGUF

// llama.cpp's token types.
enum { TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4, TYPE_LAST = 6 };

// Control and user-defined tokens are the added tokens of tokenizer.json: special ones, and those
// that are only matched. The roles are special in tokenizer.json whatever a converter made of them
// (it marks some user-defined, to keep them visible, and in small files some as ordinary).
static uint8_t flags_of_type(int64_t type, struct slice raw)
{
    if (raw.size > 0 && raw.data[0] == '<' && is_role(raw)) {
        return VOCAB_ADDED | VOCAB_SPECIAL;
    }
    if (type == TYPE_CONTROL) {
        return VOCAB_ADDED | VOCAB_SPECIAL;
    }
    return type == TYPE_USER_DEFINED ? VOCAB_ADDED : 0;
}

// An array that must be there, with elements of this type.
static int need_strings(const struct gguf *g, const char *key, struct gguf_array *out,
                        struct carat_error *err)
{
    const int rc = gguf_get_array(g, key, out, err);
    if (rc > 0) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected an array of strings, found no such key",
                    gguf_path(g), key);
    }
    if (rc == 0 && out->type != GGUF_STRING) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: %s: expected an array of strings, found elements of type %d", gguf_path(g),
                    key, (int)out->type);
    }
    return rc;
}

static int read_gguf_types(const struct gguf *g, struct vocab_entry *entries, size_t n,
                           struct carat_error *err)
{
    static const char key[] = "tokenizer.ggml.token_type";
    struct gguf_array types;
    const int rc = gguf_get_array(g, key, &types, err);
    if (rc < 0) {
        return rc;
    }
    const bool has_types = rc == 0;
    if (has_types && (types.type == GGUF_STRING || types.type == GGUF_F32 ||
                      types.type == GGUF_F64 || types.type == GGUF_ARRAY)) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected an array of integers, found type %d",
                    gguf_path(g), key, (int)types.type);
    }
    if (has_types && types.count != n) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected %zu elements, one per token, found %llu",
                    gguf_path(g), key, n, (unsigned long long)types.count);
    }
    for (size_t i = 0; i < n; i++) {
        const int64_t type = has_types ? gguf_array_next_i64(&types) : 0;
        if (type < 0 || type > TYPE_LAST) {
            return fail(err, CARAT_E_FORMAT, "%s: %s: token %zu: expected 0 to %d, found %lld",
                        gguf_path(g), key, i, TYPE_LAST, (long long)type);
        }
        entries[i].flags = flags_of_type(type, entries[i].raw);
    }
    return 0;
}

static int read_gguf_tokens(struct vocab *v, const struct gguf *g, struct carat_error *err)
{
    static const char key[] = "tokenizer.ggml.tokens";
    struct gguf_array tokens;
    int rc = need_strings(g, key, &tokens, err);
    if (rc) {
        return rc;
    }
    if (tokens.count == 0 || tokens.count > VOCAB_TOKENS_MAX) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected 1 to %zu tokens, found %llu",
                    gguf_path(g), key, VOCAB_TOKENS_MAX, (unsigned long long)tokens.count);
    }
    const size_t n = (size_t)tokens.count;
    struct vocab_entry *entries = mem_new_array(n, sizeof(*entries), err);
    if (!entries) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        entries[i].raw = gguf_array_next_string(&tokens);
    }
    rc = read_gguf_types(g, entries, n, err);
    if (rc == 0) {
        rc = vocab_build(v, entries, n, gguf_path(g), err);
    }
    mem_free(entries);
    return rc;
}

static int read_gguf_merges(struct vocab *v, const struct gguf *g, struct carat_error *err)
{
    static const char key[] = "tokenizer.ggml.merges";
    struct gguf_array merges;
    int rc = need_strings(g, key, &merges, err);
    if (rc) {
        return rc;
    }
    if (merges.count > VOCAB_MERGES_MAX) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected at most %zu merges, found %llu",
                    gguf_path(g), key, VOCAB_MERGES_MAX, (unsigned long long)merges.count);
    }
    struct vocab_pair pairs[VOCAB_BATCH];
    size_t n = 0;
    rc = vocab_reserve_merges(v, (size_t)merges.count, gguf_path(g), err);
    for (uint64_t i = 0; i < merges.count && rc == 0; i++) {
        if (!split_pair(&pairs[n++], gguf_array_next_string(&merges))) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: %s: merge %llu: expected two tokens with a space between them",
                        gguf_path(g), key, (unsigned long long)i);
        }
        if (n == VOCAB_BATCH) {
            rc = vocab_add_merges(v, pairs, n, gguf_path(g), key, err);
            n = 0;
        }
    }
    return rc ? rc : vocab_add_merges(v, pairs, n, gguf_path(g), key, err);
}

int vocab_read_gguf(struct vocab *v, const struct gguf *g, struct carat_error *err)
{
    static const char key[] = "tokenizer.ggml.model";
    struct slice model = {0};
    int rc = gguf_get_string(g, key, &model, err);
    if (rc < 0) {
        return rc;
    }
    if (!slice_is(model, "gemma4")) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: %s: expected \"gemma4\", found \"%.*s\"",
                    gguf_path(g), key, (int)(model.size < 64 ? model.size : 64),
                    model.data ? model.data : "");
    }
    rc = read_gguf_tokens(v, g, err);
    return rc ? rc : read_gguf_merges(v, g, err);
}

// ------------------------------------------------------------------------------------
// tokenizer.json

static int fail_json(const char *name, const char *path, const char *expected,
                     const struct json_value *found, struct carat_error *err)
{
    struct buf shown = {.max = 64};
    if (json_kind(found) == JSON_STRING || json_kind(found) == JSON_NUMBER ||
        json_kind(found) == JSON_BOOL) {
        json_write(found, &shown);
    }
    const bool is_shown = shown.size > 0 && !shown.has_failed;
    const int rc = fail(err, CARAT_E_FORMAT, "%s: %s: expected %s, found %s", name, path, expected,
                        is_shown ? buf_text(&shown) : json_kind_name(json_kind(found)));
    buf_release(&shown);
    return rc;
}

static bool is_string(const struct json_value *v, const char *text)
{
    return json_kind(v) == JSON_STRING && slice_is(json_string(v), text);
}

static bool is_empty(const struct json_value *v)
{
    return json_kind(v) == JSON_ABSENT || json_kind(v) == JSON_NULL || is_string(v, "");
}

// What would change the ids and is not implemented is refused rather than ignored.
static int check_json_model(const struct json_value *root, const char *name,
                            struct carat_error *err)
{
    const struct json_value *model = json_get(root, "model");
    if (json_kind(model) != JSON_OBJECT) {
        return fail_json(name, "model", "an object", model, err);
    }
    if (!is_string(json_get(model, "type"), "BPE")) {
        return fail_json(name, "model.type", "\"BPE\"", json_get(model, "type"), err);
    }
    if (!json_bool(json_get(model, "byte_fallback"))) {
        return fail_json(name, "model.byte_fallback", "true", json_get(model, "byte_fallback"),
                         err);
    }
    if (json_bool(json_get(model, "ignore_merges"))) {
        return fail_json(name, "model.ignore_merges", "false", json_get(model, "ignore_merges"),
                         err);
    }
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const struct json_value *affix = json_get(model, affixes[i]);
        if (!is_empty(affix)) {
            return fail_json(name, affixes[i], "null", affix, err);
        }
    }
    const struct json_value *normalizer = json_get(root, "normalizer");
    if (!is_string(json_get(normalizer, "type"), "Replace") ||
        !is_string(json_get(json_get(normalizer, "pattern"), "String"), " ") ||
        !is_string(json_get(normalizer, "content"), "\xE2\x96\x81")) {
        return fail_json(name, "normalizer", "the replacement of spaces by U+2581", normalizer,
                         err);
    }
    return 0;
}

// Ids have to be dense: at most twice as many as there are tokens, and so many more in small files.
#define JSON_HOLES_MAX 1024

static int read_json_id(const struct json_value *v, size_t n_given, const char *name,
                        const char *path, size_t *out, struct carat_error *err)
{
    uint64_t id = 0;
    if (json_kind(v) != JSON_NUMBER || !json_u64(v, &id) || id >= 2 * n_given + JSON_HOLES_MAX) {
        struct buf b = {0};
        buf_addf(&b, "an id below %zu", 2 * n_given + JSON_HOLES_MAX);
        const int rc = fail_json(name, path, buf_text(&b), v, err);
        buf_release(&b);
        return rc;
    }
    *out = (size_t)id;
    return 0;
}

struct entry_list {
    struct vocab_entry *entries;
    size_t count; // highest id + 1
};

// Two strings cannot share an id; one string may come twice (vocab and added_tokens).
static int put_entry(struct entry_list *list, size_t id, struct slice raw, uint8_t flags,
                     const char *name, struct carat_error *err)
{
    struct vocab_entry *e = &list->entries[id];
    if (e->raw.size > 0 && !slice_equal(e->raw, raw)) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: vocabulary: expected one token with id %zu, found \"%.*s\" and \"%.*s\"",
                    name, id, (int)(e->raw.size < 64 ? e->raw.size : 64), e->raw.data,
                    (int)(raw.size < 64 ? raw.size : 64), raw.data);
    }
    e->raw = raw;
    e->flags |= flags;
    if (id >= list->count) {
        list->count = id + 1;
    }
    return 0;
}

static int read_json_vocab(struct entry_list *list, const struct json_value *vocab, size_t n_given,
                           const char *name, struct carat_error *err)
{
    for (struct json_iter it = json_iter(vocab); json_next(&it);) {
        size_t id = 0;
        int rc = read_json_id(it.value, n_given, name, "model.vocab", &id, err);
        if (rc == 0) {
            rc = put_entry(list, id, it.key, 0, name, err);
        }
        if (rc) {
            return rc;
        }
    }
    return 0;
}

static int read_json_added(struct entry_list *list, const struct json_value *added, size_t n_given,
                           const char *name, struct carat_error *err)
{
    static const char *const unlike_gemma[] = {"single_word", "lstrip", "rstrip"};
    for (struct json_iter it = json_iter(added); json_next(&it);) {
        const struct json_value *content = json_get(it.value, "content");
        if (json_kind(content) != JSON_STRING || json_string(content).size == 0) {
            return fail_json(name, "added_tokens.content", "a string that is not empty", content,
                             err);
        }
        for (size_t i = 0; i < 3; i++) {
            const struct json_value *flag = json_get(it.value, unlike_gemma[i]);
            if (json_bool(flag)) {
                return fail_json(name, unlike_gemma[i], "false in added_tokens", flag, err);
            }
        }
        const struct slice raw = json_string(content);
        const bool is_special = json_bool(json_get(it.value, "special")) || is_role(raw);
        const uint8_t flags = (uint8_t)(VOCAB_ADDED | (is_special ? VOCAB_SPECIAL : 0));
        size_t id = 0;
        int rc = read_json_id(json_get(it.value, "id"), n_given, name, "added_tokens.id", &id, err);
        if (rc == 0) {
            rc = put_entry(list, id, raw, flags, name, err);
        }
        if (rc) {
            return rc;
        }
    }
    return 0;
}

static int read_json_tokens(struct vocab *v, const struct json_value *root, const char *name,
                            struct carat_error *err)
{
    const struct json_value *vocab = json_get(json_get(root, "model"), "vocab");
    const struct json_value *added = json_get(root, "added_tokens");
    if (json_kind(vocab) != JSON_OBJECT) {
        return fail_json(name, "model.vocab", "an object", vocab, err);
    }
    if (json_kind(added) != JSON_ARRAY && !is_empty(added)) {
        return fail_json(name, "added_tokens", "an array", added, err);
    }
    const size_t n_given = json_count(vocab) + json_count(added);
    if (n_given == 0 || n_given > VOCAB_TOKENS_MAX / 2) {
        return fail(err, CARAT_E_FORMAT, "%s: model.vocab: expected 1 to %zu tokens, found %zu",
                    name, VOCAB_TOKENS_MAX / 2, n_given);
    }
    struct entry_list list = {0};
    list.entries = mem_new_array(2 * n_given + JSON_HOLES_MAX, sizeof(*list.entries), err);
    if (!list.entries) {
        return CARAT_E_MEMORY;
    }
    int rc = read_json_vocab(&list, vocab, n_given, name, err);
    if (rc == 0) {
        rc = read_json_added(&list, added, n_given, name, err);
    }
    if (rc == 0) {
        rc = vocab_build(v, list.entries, list.count, name, err);
    }
    mem_free(list.entries);
    return rc;
}

// Either "left right" or ["left", "right"].
static bool read_json_pair(struct vocab_pair *out, const struct json_value *merge)
{
    if (json_kind(merge) == JSON_STRING) {
        return split_pair(out, json_string(merge));
    }
    if (json_kind(merge) != JSON_ARRAY || json_count(merge) != 2) {
        return false;
    }
    struct json_iter it = json_iter(merge);
    (void)json_next(&it);
    out->left = json_string(it.value); // empty unless a string, and no token is empty
    (void)json_next(&it);
    out->right = json_string(it.value);
    return true;
}

static int read_json_merges(struct vocab *v, const struct json_value *root, const char *name,
                            struct carat_error *err)
{
    static const char key[] = "model.merges";
    const struct json_value *merges = json_get(json_get(root, "model"), "merges");
    if (json_kind(merges) != JSON_ARRAY) {
        return fail_json(name, key, "an array", merges, err);
    }
    int rc = vocab_reserve_merges(v, json_count(merges), name, err);
    if (rc) {
        return rc;
    }
    struct vocab_pair pairs[VOCAB_BATCH];
    size_t n = 0;
    for (struct json_iter it = json_iter(merges); rc == 0 && json_next(&it);) {
        if (!read_json_pair(&pairs[n++], it.value)) {
            return fail_json(name, key, "pairs of tokens", it.value, err);
        }
        if (n == VOCAB_BATCH) {
            rc = vocab_add_merges(v, pairs, n, name, key, err);
            n = 0;
        }
    }
    return rc ? rc : vocab_add_merges(v, pairs, n, name, key, err);
}

int vocab_read_json(struct vocab *v, const struct json_doc *doc, const char *name,
                    struct carat_error *err)
{
    const struct json_value *root = json_root(doc);
    int rc = check_json_model(root, name, err);
    if (rc == 0) {
        rc = read_json_tokens(v, root, name, err);
    }
    return rc ? rc : read_json_merges(v, root, name, err);
}
