// SPDX-License-Identifier: Apache-2.0
// Where the projections of pictures and sound are: in a file that was named, in the model itself,
// or in an mmproj file beside it. Names follow what publishers do: "mmproj-<model>-<type>.gguf",
// "<model>.mmproj-<type>.gguf", or "mmproj-<type>.gguf" in a folder of its own.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/engine.h"

// -------------------------------------------------------------------------------------- by name

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_separator(char c)
{
    return c == '-' || c == '_' || c == '.';
}

// Both without regard to case; what is in lower case already.
static bool begins(struct slice text, const char *what)
{
    size_t n = strlen(what);
    if (text.size < n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (lower(text.data[i]) != what[i]) {
            return false;
        }
    }
    return true;
}

static bool is(struct slice text, const char *what)
{
    return text.size == strlen(what) && begins(text, what);
}

// A part of a name that tells the element type or the shard, not the model.
static bool is_type(struct slice part)
{
    static const char *const words[] = {"f16", "bf16", "f32", "fp16", "fp32", "ud", "of"};
    static const char *const beginnings[] = {"q", "iq", "tq", "mxfp"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (is(part, words[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        size_t n = strlen(beginnings[i]);
        if (begins(part, beginnings[i]) && part.size > n && is_digit(part.data[n])) {
            return true;
        }
    }
    size_t n_digits = 0;
    while (n_digits < part.size && is_digit(part.data[n_digits])) {
        n_digits++;
    }
    return n_digits == 5 && part.size == 5; // "-00001-of-00003"
}

static struct slice trim_separators(struct slice s)
{
    while (s.size > 0 && is_separator(s.data[0])) {
        s = slice_make(s.data + 1, s.size - 1);
    }
    while (s.size > 0 && is_separator(s.data[s.size - 1])) {
        s.size--;
    }
    return s;
}

// "gemma-4-12b-it" of "gemma-4-12b-it-UD-Q4_K_XL".
static struct slice without_types(struct slice name)
{
    name = trim_separators(name);
    for (;;) {
        size_t at = name.size;
        while (at > 0 && name.data[at - 1] != '-' && name.data[at - 1] != '.') {
            at--;
        }
        if (name.size == 0 || !is_type(slice_make(name.data + at, name.size - at))) {
            return name;
        }
        name = trim_separators(slice_make(name.data, at));
    }
}

static struct slice without_extension(struct slice name)
{
    const size_t n = strlen(".gguf");
    bool has = name.size > n && is(slice_make(name.data + name.size - n, n), ".gguf");
    return has ? slice_make(name.data, name.size - n) : name;
}

static const char word[] = "mmproj";
#define WORD_SIZE (sizeof(word) - 1)

// Where "mmproj" stands in a name; its size when it does not.
static size_t find_word(struct slice name)
{
    for (size_t i = 0; i + WORD_SIZE <= name.size; i++) {
        if (begins(slice_make(name.data + i, name.size - i), word)) {
            return i;
        }
    }
    return name.size;
}

static bool is_candidate(const char *name)
{
    struct slice s = slice_of(name);
    return without_extension(s).size < s.size && find_word(s) < s.size;
}

// What an mmproj file's name says about its model: what stands before the word, or behind it.
static struct slice model_of(const char *name)
{
    struct slice s = without_extension(slice_of(name));
    size_t at = find_word(s);
    struct slice before = without_types(slice_make(s.data, at));
    size_t behind = at + WORD_SIZE;
    return before.size > 0 ? before : without_types(slice_make(s.data + behind, s.size - behind));
}

static bool equal_start(struct slice a, struct slice b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (lower(a.data[i]) != lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

// How well a file belongs to the model: by its whole name, by the beginning of it, by no name at
// all; 0: it names another.
static int closeness(const char *name, struct slice model)
{
    struct slice found = model_of(name);
    if (found.size == 0) {
        return 1;
    }
    if (found.size > model.size || !equal_start(found, model, found.size)) {
        return 0;
    }
    return found.size == model.size ? 3 : is_separator(model.data[found.size]) ? 2 : 0;
}

const char *projector_choose(const char *const *names, size_t n, struct slice model_name)
{
    struct slice model = without_types(without_extension(model_name));
    const char *best = NULL;
    const char *any = NULL;
    int best_closeness = 0;
    size_t n_candidates = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_candidate(names[i])) {
            continue;
        }
        int c = closeness(names[i], model);
        any = names[i];
        n_candidates++;
        if (c > best_closeness) {
            best = names[i];
            best_closeness = c;
        }
    }
    return best ? best : n_candidates == 1 ? any : NULL;
}

// ---------------------------------------------------------------------------------------- opening

static bool has_any(const struct projector *p)
{
    return p->has_vision || p->has_audio;
}

static int open_file(struct projector *out, struct source **out_source,
                     const struct model_config *config, const char *path, struct carat_error *err)
{
    struct source *source = NULL;
    struct projector p = {0};
    int rc = source_open(&source, path, true, err);
    if (rc == 0) {
        rc = projector_bind(&p, config, source, err);
    }
    if (rc == 0 && !has_any(&p)) {
        rc = fail(err, CARAT_E_FORMAT, "%s: holds no projection of pictures or sound", path);
    }
    if (rc) {
        projector_release(&p);
        source_close(source);
        return rc;
    }
    *out = p;
    *out_source = source;
    return 0;
}

// The folder that holds the model's file, or the directory that is the model, with its last slash;
// *name gets the file's name.
static int split_path(struct buf *folder, struct slice *name, const struct source *model,
                      struct carat_error *err)
{
    struct slice path = slice_of(source_path(model));
    size_t at = path.size;
    while (source_gguf(model) && at > 0 && path.data[at - 1] != '/') {
        at--;
    }
    *name = slice_make(path.data + at, path.size - at);
    buf_add(folder, at > 0 ? path.data : "./", at > 0 ? at : 2);
    if (!slice_ends(slice_make(buf_text(folder), folder->size), "/")) {
        buf_addc(folder, '/');
    }
    return buf_status(folder, err);
}

// A file that nobody named is taken where it fits, and passed over where it does not.
static int open_beside(struct projector *out, struct source **out_source,
                       const struct model_config *config, const struct source *model,
                       struct carat_error *err)
{
    char **names = NULL;
    size_t n = 0;
    struct buf path = {0};
    struct slice model_name = {0};
    struct carat_error why = {0};
    int rc = split_path(&path, &model_name, model, &why);
    if (rc == 0) {
        rc = os_list(&names, &n, buf_text(&path), SOURCE_LIST_MAX, &why);
    }
    const char *name = rc == 0 ? projector_choose((const char *const *)names, n, model_name) : NULL;
    if (name) {
        buf_adds(&path, name);
        rc = buf_status(&path, &why);
    }
    if (rc == 0 && name) {
        rc = open_file(out, out_source, config, buf_text(&path), &why);
        if (rc == 0) {
            log_line(CARAT_LOG_INFO, "%s: projections of pictures and sound", buf_text(&path));
        } else if (rc != CARAT_E_MEMORY) {
            log_line(CARAT_LOG_WARNING, "a file beside the model does not belong to it: %s",
                     why.text);
        }
    }
    os_list_free(names, n);
    buf_release(&path);
    return rc == CARAT_E_MEMORY ? fail(err, CARAT_E_MEMORY, "%s", why.text) : 0;
}

int engine_open_projector(struct projector *out, struct source **out_source,
                          const struct model_config *config, const struct source *model,
                          const char *named, struct carat_error *err)
{
    if (named) {
        return open_file(out, out_source, config, named, err);
    }
    int rc = projector_bind(out, config, model, err);
    return rc || has_any(out) ? rc : open_beside(out, out_source, config, model, err);
}
