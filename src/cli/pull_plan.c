// SPDX-License-Identifier: Apache-2.0
#include "cli/pull_plan.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/output.h"

#define TYPES_MAX  400
#define CHECKPOINT "safetensors"

// ---------------------------------------------------------------------------------- types in names

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool begins(struct slice s, const char *what)
{
    size_t n = strlen(what);
    for (size_t i = 0; i < n; i++) {
        if (i >= s.size || lower(s.data[i]) != lower(what[i])) {
            return false;
        }
    }
    return true;
}

static bool is_word(struct slice s, const char *word)
{
    return s.size == strlen(word) && begins(s, word);
}

static struct slice tail(struct slice s, size_t at)
{
    return slice_make(s.data + at, s.size - at);
}

static bool ends(struct slice s, const char *what)
{
    size_t n = strlen(what);
    return s.size >= n && is_word(tail(s, s.size - n), what);
}

static bool contains(struct slice s, const char *what)
{
    for (size_t i = 0; i < s.size; i++) {
        if (begins(tail(s, i), what)) {
            return true;
        }
    }
    return false;
}

static struct slice last_part(struct slice path)
{
    size_t at = path.size;
    while (at > 0 && path.data[at - 1] != '/') {
        at--;
    }
    return tail(path, at);
}

static struct slice folder_of(struct slice path)
{
    size_t n = last_part(path).size;
    return slice_make(path.data, path.size > n ? path.size - n - 1 : 0);
}

// How many bytes at the start of s are an element type's name: Q4_K_M, IQ4_XS, BF16, MXFP4_MOE.
static size_t type_size(struct slice s)
{
    static const char *const words[] = {"bf16", "f16", "f32", "fp16", "fp32"};
    static const char *const beginnings[] = {"q", "iq", "tq", "mxfp"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        n = begins(s, words[i]) ? strlen(words[i]) : n;
    }
    for (size_t i = 0; n == 0 && i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        size_t head = strlen(beginnings[i]);
        if (begins(s, beginnings[i]) && s.size > head && is_digit(s.data[head])) {
            n = head;
            while (n < s.size && (is_digit(s.data[n]) || s.data[n] == '_' ||
                                  (lower(s.data[n]) >= 'a' && lower(s.data[n]) <= 'z'))) {
                n++;
            }
        }
    }
    bool is_whole = n == s.size || s.data[n] == '-' || s.data[n] == '.';
    return is_whole ? n : 0;
}

// The last one in a name, with Unsloth's "UD-" before it; empty when there is none.
static struct slice find_type(struct slice name)
{
    struct slice found = {.data = "", .size = 0};
    for (size_t i = 0; i < name.size; i++) {
        bool is_start =
            i == 0 || name.data[i - 1] == '-' || name.data[i - 1] == '.' || name.data[i - 1] == '_';
        size_t n = is_start ? type_size(tail(name, i)) : 0;
        if (n > 0) {
            size_t before =
                i >= 3 && begins(tail(name, i - 3), "ud-") && (i == 3 || name.data[i - 4] == '-')
                    ? 3
                    : 0;
            found = slice_make(name.data + i - before, n + before);
            i += n;
        }
    }
    return found;
}

// Takes "-00001-of-00003" off; *i and *n get its numbers, 1 and 1 where there are none.
static struct slice without_shard(struct slice s, unsigned *i, unsigned *n)
{
    const size_t size = strlen("-00001-of-00003");
    *i = *n = 1;
    if (s.size <= size || !begins(tail(s, s.size - 9), "-of-")) {
        return s;
    }
    struct slice end = tail(s, s.size - size);
    unsigned numbers[2] = {0, 0};
    for (size_t k = 0; k < 5; k++) {
        if (!is_digit(end.data[1 + k]) || !is_digit(end.data[10 + k])) {
            return s;
        }
        numbers[0] = numbers[0] * 10 + (unsigned)(end.data[1 + k] - '0');
        numbers[1] = numbers[1] * 10 + (unsigned)(end.data[10 + k] - '0');
    }
    if (end.data[0] != '-' || numbers[0] < 1 || numbers[0] > numbers[1]) {
        return s;
    }
    *i = numbers[0];
    *n = numbers[1];
    return slice_make(s.data, s.size - size);
}

// --------------------------------------------------------------------------------- files by kind

enum kind { KIND_OTHER, KIND_GGUF, KIND_PROJECTOR, KIND_DRAFTER };

struct gguf_file {
    const struct hub_file *file;
    enum kind kind;
    struct slice stem; // its path without shard and ".gguf"
    struct slice type; // from its name or folder; its name when there is none
    unsigned i, n;     // shard i of n, from 1
};

static bool is_drafter_name(struct slice path)
{
    struct slice name = last_part(path);
    return contains(name, "-assistant") || contains(name, "drafter") || contains(name, "draft-") ||
           begins(name, "mtp-") || contains(name, "-mtp") || begins(path, "mtp/") ||
           begins(path, "drafter/") || begins(path, "assistant/");
}

static struct gguf_file look_at(const struct hub_file *f)
{
    struct gguf_file g = {.file = f, .kind = KIND_OTHER};
    if (!ends(f->path, ".gguf") || !store_is_part(last_part(f->path)) ||
        last_part(f->path).size > 255) {
        return g;
    }
    g.stem = without_shard(slice_make(f->path.data, f->path.size - 5), &g.i, &g.n);
    struct slice name = last_part(g.stem);
    g.type = find_type(name);
    g.type = g.type.size ? g.type : find_type(last_part(folder_of(g.stem)));
    g.type = g.type.size ? g.type : name;
    g.kind = contains(name, "mmproj")    ? KIND_PROJECTOR
             : is_drafter_name(f->path)  ? KIND_DRAFTER
             : contains(name, "imatrix") ? KIND_OTHER
             : store_is_part(g.type)     ? KIND_GGUF
                                         : KIND_OTHER;
    return g;
}

// ----------------------------------------------------------------------------------- choosing one

struct variants {
    struct gguf_file *all; // of every kind
    size_t n;
    const struct gguf_file *sets[TYPES_MAX]; // the first shard of each model
    uint64_t sizes[TYPES_MAX];
    size_t n_sets;
    bool has_checkpoint;
};

static bool is_of_set(const struct gguf_file *f, const struct gguf_file *first)
{
    return f->kind == first->kind && slice_equal(f->stem, first->stem) && f->n == first->n;
}

static int gather(struct variants *v, const struct hub_repo *repo, struct carat_error *err)
{
    v->all = mem_new_array(repo->n_files, sizeof(*v->all), err);
    if (!v->all) {
        return CARAT_E_MEMORY;
    }
    bool has_config = false, has_weights = false;
    for (size_t i = 0; i < repo->n_files; i++) {
        struct gguf_file g = look_at(&repo->files[i]);
        has_config |= is_word(g.file->path, "config.json");
        has_weights |= ends(g.file->path, ".safetensors") && !folder_of(g.file->path).size;
        v->all[v->n++] = g;
        if (g.kind == KIND_GGUF && g.i == 1 && v->n_sets < TYPES_MAX) {
            v->sets[v->n_sets++] = &v->all[v->n - 1];
        }
    }
    v->has_checkpoint = has_config && has_weights;
    for (size_t k = 0; k < v->n_sets; k++) {
        for (size_t i = 0; i < v->n; i++) {
            v->sizes[k] += is_of_set(&v->all[i], v->sets[k]) ? v->all[i].file->size : 0;
        }
    }
    return 0;
}

static void list_types(const struct variants *v, struct buf *out)
{
    for (size_t i = 0; i < v->n_sets; i++) {
        bool is_known = false;
        for (size_t k = 0; k < i; k++) {
            is_known |= slice_equal(v->sets[k]->type, v->sets[i]->type);
        }
        if (!is_known) {
            buf_addf(out, "%s%.*s (%s)", out->size ? ", " : "", (int)v->sets[i]->type.size,
                     v->sets[i]->type.data, size_text(v->sizes[i]).text);
        }
    }
    if (v->has_checkpoint) {
        buf_addf(out, "%s" CHECKPOINT, out->size ? ", " : "");
    }
}

static int fail_type(const struct variants *v, const char *repo, const char *type,
                     struct carat_error *err)
{
    struct buf list = {.max = 700};
    list_types(v, &list);
    int rc = fail(err, CARAT_E_ARGUMENT, "%s: has no type '%.60s'; there are: %s", repo, type,
                  list.size ? buf_text(&list) : "none that carat knows");
    buf_release(&list);
    return rc;
}

// The one whose type or file name this is.
static int find_asked(const struct variants *v, const char *repo, const char *type, size_t *out,
                      struct carat_error *err)
{
    size_t found = TYPES_MAX;
    for (size_t i = 0; i < v->n_sets; i++) {
        const struct gguf_file *f = v->sets[i];
        if (is_word(last_part(f->stem), type) || is_word(last_part(f->file->path), type)) {
            *out = i;
            return 0;
        }
        if (!is_word(f->type, type)) {
            continue;
        }
        if (found < TYPES_MAX) {
            struct slice a = last_part(v->sets[found]->stem), b = last_part(f->stem);
            return fail(err, CARAT_E_ARGUMENT,
                        "%s: several models are %s: write one of their names instead, %s:%.*s or "
                        "%s:%.*s",
                        repo, type, repo, (int)a.size, a.data, repo, (int)b.size, b.data);
        }
        found = i;
    }
    if (found == TYPES_MAX) {
        return fail_type(v, repo, type, err);
    }
    *out = found;
    return 0;
}

// What people take when nothing speaks for another; if that does not fit into memory, the largest
// that does; if none does, the smallest.
static size_t choose(const struct variants *v, uint64_t memory)
{
    static const char *const usual[] = {"Q4_K_M", "UD-Q4_K_XL", "Q4_0",   "Q4_K_S", "IQ4_XS",
                                        "IQ4_NL", "Q4_1",       "Q5_K_M", "Q5_0",   "Q6_K",
                                        "Q8_0",   "BF16",       "F16",    NULL};
    // Beside the weights stand the cache, scratch, the projector and everything else that runs.
    uint64_t room = memory / 10 * 7;
    for (size_t k = 0; usual[k]; k++) {
        for (size_t i = 0; i < v->n_sets; i++) {
            if (is_word(v->sets[i]->type, usual[k]) && (!memory || v->sizes[i] <= room)) {
                return i;
            }
        }
    }
    size_t best = 0;
    for (size_t i = 1; i < v->n_sets; i++) {
        bool fits = v->sizes[i] <= room, best_fits = v->sizes[best] <= room;
        bool is_better = fits == best_fits ? (v->sizes[i] > v->sizes[best]) == fits : fits;
        best = is_better ? i : best;
    }
    return best;
}

// --------------------------------------------------------------------------------- putting
// together

static int add_file(struct plan *p, const struct hub_file *file, struct slice name,
                    enum plan_role role, struct carat_error *err)
{
    if (p->n_files == STORE_FILES_MAX) {
        return fail(err, CARAT_E_FULL, "more than %d files", STORE_FILES_MAX);
    }
    struct plan_file *f = &p->files[p->n_files];
    *f = (struct plan_file){.file = file, .role = role};
    snprintf(f->name, sizeof(f->name), "%.*s", (int)name.size, name.data);
    for (size_t i = 0; i < p->n_files; i++) {
        if (strcmp(p->files[i].name, f->name) == 0) {
            return fail(err, CARAT_E_UNSUPPORTED,
                        "two files of the repository would be called %s: %.*s and %.*s", f->name,
                        (int)p->files[i].file->path.size, p->files[i].file->path.data,
                        (int)file->path.size, file->path.data);
        }
    }
    p->n_files++;
    p->size += file->size;
    return 0;
}

static int add_set(struct plan *p, const struct variants *v, const struct gguf_file *first,
                   enum plan_role role, struct carat_error *err)
{
    int rc = 0;
    for (unsigned i = 1; i <= first->n && rc == 0; i++) {
        const struct gguf_file *found = NULL;
        for (size_t k = 0; k < v->n; k++) {
            found = is_of_set(&v->all[k], first) && v->all[k].i == i ? &v->all[k] : found;
        }
        rc = found ? add_file(p, found->file, last_part(found->file->path), role, err)
                   : fail(err, CARAT_E_FORMAT, "%.*s: shard %u of %u is not in the repository",
                          (int)first->stem.size, first->stem.data, i, first->n);
    }
    return rc;
}

// Bytes at which two names begin to differ.
static size_t common(struct slice a, struct slice b)
{
    size_t n = 0;
    while (n < a.size && n < b.size && lower(a.data[n]) == lower(b.data[n])) {
        n++;
    }
    return n;
}

// How near a companion's name is to the model's; its own mark ("mmproj-") may stand before.
static size_t nearness(struct slice companion, struct slice model)
{
    struct slice name = last_part(companion);
    size_t best = common(name, last_part(model));
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] == '-' || name.data[i] == '_') {
            size_t n = common(tail(name, i + 1), last_part(model));
            best = n > best ? n : best;
        }
    }
    return best;
}

// Of projectors and drafters the one for this model; of several types the better ones first.
static const struct gguf_file *companion(const struct variants *v, enum kind kind,
                                         struct slice model, const char *const *types)
{
    const struct gguf_file *best = NULL;
    size_t best_near = 0, best_rank = 0;
    for (size_t i = 0; i < v->n; i++) {
        const struct gguf_file *f = &v->all[i];
        if (f->kind != kind || f->i != 1) {
            continue;
        }
        size_t rank = 0, near = nearness(f->stem, model);
        while (types[rank] && !is_word(f->type, types[rank])) {
            rank++;
        }
        if (!best || near > best_near || (near == best_near && rank < best_rank)) {
            best = f;
            best_near = near;
            best_rank = rank;
        }
    }
    return best;
}

static int plan_gguf(struct plan *p, const struct variants *v, size_t which,
                     const struct plan_options *o, struct carat_error *err)
{
    static const char *const exact[] = {"BF16", "F16", "F32", "Q8_0", NULL};
    static const char *const small[] = {"Q8_0", "Q4_0", "Q4_K_M", "BF16", "F16", NULL};
    const struct gguf_file *first = v->sets[which];
    const struct gguf_file *projector = companion(v, KIND_PROJECTOR, first->stem, exact);
    const struct gguf_file *drafter = companion(v, KIND_DRAFTER, first->stem, small);
    struct slice name = last_part(first->file->path), type = first->type;
    for (size_t i = 0; i < v->n_sets; i++) { // of two with one type the name tells them apart
        bool is_twin = i != which && is_word(v->sets[i]->type, "") == false &&
                       slice_equal(v->sets[i]->type, first->type);
        type = is_twin && store_is_part(last_part(first->stem)) ? last_part(first->stem) : type;
    }
    snprintf(p->type, sizeof(p->type), "%.*s", (int)type.size, type.data);
    snprintf(p->model, sizeof(p->model), "%.*s", (int)name.size, name.data);
    int rc = add_set(p, v, first, ROLE_MODEL, err);
    if (rc == 0 && projector && !o->no_projector) {
        rc = add_set(p, v, projector, ROLE_PROJECTOR, err);
    }
    if (rc == 0 && drafter && !o->no_drafter) {
        rc = add_set(p, v, drafter, ROLE_DRAFTER, err);
    }
    return rc;
}

// What a checkpoint is made of; other files of the repository are not needed.
static bool is_of_checkpoint(struct slice name, bool has_usual_names)
{
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer.model",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "processor_config.json",
                                        "added_tokens.json",
                                        "preprocessor_config.json",
                                        "model.safetensors.index.json",
                                        NULL};
    for (size_t i = 0; names[i]; i++) {
        if (is_word(name, names[i])) {
            return true;
        }
    }
    return ends(name, ".safetensors") && (!has_usual_names || begins(name, "model"));
}

static int plan_checkpoint(struct plan *p, const struct hub_repo *repo,
                           const struct plan_options *o, struct carat_error *err)
{
    bool has_usual_names = false;
    int rc = 0;
    for (size_t i = 0; i < repo->n_files; i++) {
        struct slice path = repo->files[i].path;
        has_usual_names |= begins(path, "model") && ends(path, ".safetensors");
    }
    snprintf(p->type, sizeof(p->type), CHECKPOINT);
    for (size_t i = 0; i < repo->n_files && rc == 0; i++) {
        const struct hub_file *f = &repo->files[i];
        struct slice folder = folder_of(f->path), name = last_part(f->path);
        bool is_drafter = is_word(folder, "assistant") || is_word(folder, "drafter");
        if (!store_is_part(name) || (folder.size && (!is_drafter || o->no_drafter)) ||
            !is_of_checkpoint(name, has_usual_names)) {
            continue;
        }
        rc = add_file(p, f, f->path, is_drafter ? ROLE_DRAFTER : ROLE_MODEL, err);
    }
    return rc;
}

int plan_make(struct plan *out, const char *repo_name, const struct hub_repo *repo,
              const struct plan_options *options, struct carat_error *err)
{
    struct plan p = {.n_files = 0};
    struct variants *v = mem_new(sizeof(*v), err);
    size_t which = 0;
    int rc = v ? gather(v, repo, err) : CARAT_E_MEMORY;
    if (rc) {
        goto out;
    }
    p.files = mem_new_array(STORE_FILES_MAX, sizeof(*p.files), err);
    if (!p.files) {
        rc = CARAT_E_MEMORY;
        goto out;
    }
    const char *type = options->type;
    bool wants_checkpoint = type ? is_word(slice_of(type), CHECKPOINT) : v->n_sets == 0;
    if (!type && v->n_sets == 0 && !v->has_checkpoint) {
        rc = fail(err, CARAT_E_FORMAT,
                  "%s: holds no model that carat reads: neither GGUF files nor config.json with "
                  "safetensors (%zu files, %zu more that cannot be checked)",
                  repo_name, repo->n_files, repo->n_odd);
    } else if (wants_checkpoint && v->has_checkpoint) {
        rc = plan_checkpoint(&p, repo, options, err);
        p.n_others = v->n_sets;
    } else {
        which = type ? 0 : choose(v, options->memory);
        rc = type ? find_asked(v, repo_name, type, &which, err) : 0;
        rc = rc ? rc : plan_gguf(&p, v, which, options, err);
        p.n_others = v->n_sets + v->has_checkpoint - 1;
    }
    if (rc == 0) {
        *out = p;
        p.files = NULL;
    }
out:
    if (v) {
        mem_free(v->all);
    }
    mem_free(v);
    plan_release(&p);
    return rc;
}

void plan_release(struct plan *p)
{
    mem_free(p->files);
    p->files = NULL;
    p->n_files = 0;
}

const char *plan_role_name(enum plan_role role)
{
    static const char *const names[] = {"model", "projector", "drafter"};
    return names[role];
}
