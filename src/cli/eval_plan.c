// SPDX-License-Identifier: Apache-2.0
#include "cli/eval_plan.h"

#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "formats/json.h"

#define FILE_MAX ((size_t)1 << 30)

static int domain_find(uint32_t *out, struct eval_plan *plan, const char *name, size_t size,
                       struct carat_error *err)
{
    for (size_t i = 0; i < plan->n_domains; i++) {
        if (strlen(plan->domains[i].name) == size &&
            memcmp(plan->domains[i].name, name, size) == 0) {
            *out = (uint32_t)i;
            return 0;
        }
    }
    if (plan->n_domains == EVAL_DOMAINS_MAX) {
        return fail(err, CARAT_E_FULL, "more than %d domains", EVAL_DOMAINS_MAX);
    }
    const char *copy = arena_strndup(&plan->arena, name, size, err);
    if (!copy) {
        return CARAT_E_MEMORY;
    }
    *out = (uint32_t)plan->n_domains;
    plan->domains[plan->n_domains++] = (struct eval_domain){.name = copy};
    return 0;
}

// The block, with room for n more of what is `size` bytes large; NULL: it stays as it was.
static void *grow(void *block, size_t *capacity, size_t used, size_t n, size_t size,
                  struct carat_error *err)
{
    size_t needed = 0, bytes = 0;
    if (!size_add(&needed, used, n) || !size_mul(&bytes, needed, 2 * size)) {
        fail(err, CARAT_E_FULL, "the texts are too long");
        return NULL;
    }
    if (block && needed <= *capacity) {
        return block;
    }
    void *more = block ? mem_resize(block, bytes, err) : mem_new(bytes, err);
    if (more) {
        *capacity = 2 * needed;
    }
    return more;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

// The windows of one text, whose n tokens begin at `start`, the first n_prompt of them given and
// not to be scored. The last window is as long as what is left; one that would bring nothing new is
// not made.
static int add_windows(struct eval_plan *plan, uint32_t domain, size_t start, size_t n,
                       size_t n_prompt, struct carat_error *err)
{
    const struct eval_rule *rule = &plan->rule;
    const size_t room = rule->context - 1, overlap = room - rule->stride;
    struct eval_domain *d = &plan->domains[domain];
    for (size_t at = 0; at < n; at += rule->stride) {
        struct eval_window w = {.first = start + at, .n = smaller(room, n - at), .domain = domain};
        w.n_unscored = larger(rule->skip, at > 0 ? overlap : 0);
        w.n_unscored = larger(w.n_unscored, n_prompt > at ? n_prompt - at : 0);
        size_t wanted = rule->tokens_max ? rule->tokens_max - d->n_scored : w.n;
        if (w.n <= w.n_unscored || wanted == 0) {
            continue;
        }
        w.n = smaller(w.n, w.n_unscored + wanted);
        struct eval_window *windows =
            grow(plan->windows, &plan->windows_capacity, plan->n_windows, 1, sizeof(*windows), err);
        if (!windows) {
            return CARAT_E_MEMORY;
        }
        plan->windows = windows;
        plan->windows[plan->n_windows++] = w;
        d->n_scored += w.n - w.n_unscored;
        plan->n_scored += w.n - w.n_unscored;
        plan->n_evaluated += w.n; // <bos> instead of the last token, which is foretold only
    }
    return 0;
}

// Room for n more tokens; NULL: there is none.
static carat_token *room_for(struct eval_plan *plan, size_t n, struct carat_error *err)
{
    carat_token *all =
        grow(plan->tokens, &plan->tokens_capacity, plan->n_tokens, n, sizeof(*all), err);
    plan->tokens = all ? all : plan->tokens;
    return all ? all + plan->n_tokens : NULL;
}

// The n tokens that were put behind the plan's.
static int add_tokens(struct eval_plan *plan, uint32_t domain, size_t n, size_t n_prompt,
                      struct carat_error *err)
{
    size_t start = plan->n_tokens;
    plan->n_tokens += n;
    if (n > 0 && plan->tokens[start] == plan->bos) { // each window has its own
        start++;
        n--;
        n_prompt -= n_prompt > 0;
    }
    return add_windows(plan, domain, start, n, n_prompt, err);
}

static bool is_full(const struct eval_plan *plan, uint32_t domain)
{
    return plan->rule.tokens_max && plan->domains[domain].n_scored >= plan->rule.tokens_max;
}

// The prompt is cut into tokens by itself, so that the same tokens are scored whatever it ends
// with.
static int add_text(struct eval_plan *plan, const struct carat_engine *engine, uint32_t domain,
                    struct slice prompt, struct slice text, struct carat_error *err)
{
    if (is_full(plan, domain)) {
        return 0;
    }
    const unsigned flags = plan->rule.has_special ? CARAT_TOKENIZE_SPECIAL : 0;
    const size_t room = prompt.size + text.size + 2;
    carat_token *tokens = room_for(plan, room, err);
    if (!tokens) {
        return CARAT_E_MEMORY;
    }
    int64_t n_prompt = carat_tokenize(engine, prompt.data, prompt.size, flags, tokens, room, err);
    if (n_prompt < 0) {
        return (int)n_prompt;
    }
    int64_t n = carat_tokenize(engine, text.data, text.size, flags, tokens + n_prompt,
                               room - (size_t)n_prompt, err);
    return n < 0 ? (int)n : add_tokens(plan, domain, (size_t)(n_prompt + n), (size_t)n_prompt, err);
}

// Tokens that are given as such.
static int add_ids(struct eval_plan *plan, const struct carat_engine *engine, uint32_t domain,
                   const struct json_value *ids, const char *where, struct carat_error *err)
{
    const size_t n_vocab = carat_engine_info(engine)->n_vocab;
    carat_token *tokens = room_for(plan, json_count(ids), err);
    size_t n = 0;
    if (!tokens) {
        return CARAT_E_MEMORY;
    }
    for (struct json_iter it = json_iter(ids); json_next(&it);) {
        uint64_t id = 0;
        if (!json_u64(it.value, &id) || id >= n_vocab) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: tokens: expected integers below %zu, found another at index %zu",
                        where, n_vocab, n);
        }
        tokens[n++] = (carat_token)id;
    }
    return is_full(plan, domain) ? 0 : add_tokens(plan, domain, n, 0, err);
}

// --------------------------------------------------------------------------------------- files

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static int add_line(struct eval_plan *plan, const struct carat_engine *engine, const char *file,
                    size_t n_line, struct slice line, struct carat_error *err)
{
    struct json_doc *doc = NULL;
    uint32_t domain = 0;
    struct buf where = {.max = 1 << 16};
    buf_addf(&where, "%s: line %zu", file, n_line);
    int rc = buf_status(&where, err);
    rc = rc ? rc : json_parse(&doc, line.data, line.size, buf_text(&where), err);
    if (rc == 0) {
        const struct json_value *text = json_get(json_root(doc), "text");
        const struct json_value *ids = json_get(json_root(doc), "tokens");
        struct slice name = json_string(json_get(json_root(doc), "domain"));
        name = name.size ? name : slice_of(base_name(file));
        if (json_kind(text) != JSON_STRING && json_kind(ids) != JSON_ARRAY) {
            rc = fail(err, CARAT_E_FORMAT, "%s: expected a string \"text\", found %s",
                      buf_text(&where), json_kind_name(json_kind(text)));
        }
        rc = rc ? rc : domain_find(&domain, plan, name.data, name.size, err);
        if (rc == 0) {
            rc = json_kind(ids) == JSON_ARRAY
                     ? add_ids(plan, engine, domain, ids, buf_text(&where), err)
                     : add_text(plan, engine, domain,
                                json_string(json_get(json_root(doc), "prompt")), json_string(text),
                                err);
        }
    }
    json_free(doc);
    buf_release(&where);
    return rc;
}

static int add_lines(struct eval_plan *plan, const struct carat_engine *engine, const char *file,
                     const struct buf *content, struct carat_error *err)
{
    size_t n_line = 0;
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < content->size;) {
        const char *line = content->data + at;
        const char *end = memchr(line, '\n', content->size - at);
        size_t size = end ? (size_t)(end - line) : content->size - at;
        struct slice trimmed = utf8_trim(slice_make(line, size));
        n_line++;
        if (trimmed.size > 0) {
            rc = add_line(plan, engine, file, n_line, trimmed, err);
        }
        at += size + 1;
    }
    return rc;
}

static int add_file(struct eval_plan *plan, const struct carat_engine *engine, const char *file,
                    struct carat_error *err)
{
    struct buf content = {.max = FILE_MAX};
    bool is_input = strcmp(file, "-") == 0;
    const char *name = is_input ? "standard input" : base_name(file);
    uint32_t domain = 0;
    int rc = os_read_file(&content, file, FILE_MAX, err);
    if (rc == 0 && slice_ends(slice_of(file), ".jsonl")) {
        rc = add_lines(plan, engine, file, &content, err);
    } else if (rc == 0) {
        rc = domain_find(&domain, plan, name, strlen(name), err);
        rc = rc ? rc
                : add_text(plan, engine, domain, slice_of(""),
                           slice_make(buf_text(&content), content.size), err);
    }
    buf_release(&content);
    return rc;
}

int eval_plan_make(struct eval_plan *plan, const struct eval_rule *rule,
                   const struct carat_engine *engine, const char *const *files, size_t n_files,
                   struct carat_error *err)
{
    *plan = (struct eval_plan){.rule = *rule};
    carat_token bos = 0;
    int64_t n = carat_tokenize(engine, "", 0, CARAT_TOKENIZE_BOS, &bos, 1, err);
    int rc = n < 0 ? (int)n : 0;
    if (n == 0) {
        rc = fail(err, CARAT_E_UNSUPPORTED, "the model's vocabulary has no <bos>");
    }
    plan->bos = bos;
    for (size_t i = 0; rc == 0 && i < n_files; i++) {
        rc = add_file(plan, engine, files[i], err);
    }
    if (rc == 0 && plan->n_scored == 0) {
        rc = fail(err, CARAT_E_FORMAT, "%s: no token to score%s", files[0],
                  rule->skip ? ": no text is longer than --skip" : ": it is empty");
    }
    if (rc == 0 && (plan->n_windows > UINT32_MAX || rule->context > UINT32_MAX)) {
        rc = fail(err, CARAT_E_FULL, "the texts are too long");
    }
    return rc;
}

void eval_plan_hash(const struct eval_plan *plan, uint8_t out[HASH_SIZE])
{
    struct hash h;
    hash_init(&h, NULL);
    hash_add_u64(&h, (uint64_t)plan->bos);
    for (size_t i = 0; i < plan->n_windows; i++) {
        const struct eval_window *w = &plan->windows[i];
        hash_add_u64(&h, w->n);
        hash_add_u64(&h, w->n_unscored);
        for (size_t j = 0; j < w->n; j++) {
            hash_add_u64(&h, (uint64_t)plan->tokens[w->first + j]);
        }
    }
    hash_digest(&h, out);
}

void eval_plan_release(struct eval_plan *plan)
{
    mem_free(plan->tokens);
    mem_free(plan->windows);
    arena_release(&plan->arena);
    *plan = (struct eval_plan){.n_windows = 0};
}
