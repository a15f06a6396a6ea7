// SPDX-License-Identifier: Apache-2.0
// A model on disk as one list of tensors: opens the container, its shards and the texts beside it,
// and checks that they belong together. What the tensors mean is model/'s affair.
#include "formats/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"
#include "formats/container.h"

// One file with tensors: exactly one of the two is set.
struct source_file {
    struct gguf *gguf;
    struct safetensors *safetensors;
};

struct source {
    char *path;
    struct source_file *files;
    size_t n_files;
    bool is_borrowed; // the bytes are the caller's, not mapped files
    struct source_tensor *tensors;
    size_t n_tensors;
    struct map by_name;
    struct json_doc *config; // of a directory, as are those below
    struct json_doc *generation_config;
    struct json_doc *tokenizer;
    char *template_text;
    struct slice chat_template;
};

// directory/name, owned by the caller.
static char *path_join(const char *directory, struct slice name, struct carat_error *err)
{
    struct buf path = {0};
    buf_addf(&path, "%s/", directory);
    buf_add_slice(&path, name);
    char *text = buf_take(&path);
    if (!text) {
        buf_status(&path, err);
    }
    buf_release(&path);
    return text;
}

/* ------------------------------------------------------------------------------------ tensors */

static const struct os_map *file_map(const struct source_file *f)
{
    return f->gguf ? gguf_map(f->gguf) : safetensors_map(f->safetensors);
}

static const char *file_name(const struct source_file *f)
{
    return f->gguf ? gguf_path(f->gguf) : safetensors_path(f->safetensors);
}

static size_t file_n_tensors(const struct source_file *f)
{
    return f->gguf ? gguf_n_tensors(f->gguf) : safetensors_n_tensors(f->safetensors);
}

static void view_gguf(struct source_tensor *out, const struct gguf_tensor *t)
{
    *out = (struct source_tensor){.name = t->name,
                                  .type = t->type,
                                  .n_dims = t->n_dims,
                                  .dims = {1, 1, 1, 1},
                                  .data = t->data,
                                  .size = t->size};
    for (uint32_t i = 0; i < t->n_dims; i++) {
        out->dims[i] = t->dims[t->n_dims - 1 - i];
    }
}

static int view_safetensors(struct source_tensor *out, const struct safetensors_tensor *t,
                            const char *path, struct carat_error *err)
{
    if (t->n_dims > 4) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: tensor '%s': expected at most 4 dimensions, found %" PRIu32, path, t->name,
                    t->n_dims);
    }
    *out = (struct source_tensor){.name = slice_of(t->name),
                                  .type = t->type,
                                  .n_dims = t->n_dims,
                                  .dims = {1, 1, 1, 1},
                                  .data = t->data,
                                  .size = t->size};
    for (uint32_t i = 0; i < t->n_dims; i++) {
        out->dims[i] = t->dims[i];
    }
    return 0;
}

static int add_tensor(struct source *s, size_t i_file, size_t i, struct carat_error *err)
{
    const struct source_file *f = &s->files[i_file];
    struct source_tensor *t = &s->tensors[s->n_tensors];
    if (f->gguf) {
        view_gguf(t, gguf_tensor_at(f->gguf, i));
    } else {
        int rc = view_safetensors(t, safetensors_tensor_at(f->safetensors, i), file_name(f), err);
        if (rc) {
            return rc;
        }
    }
    t->i_map = i_file;
    uint32_t existing = MAP_NONE;
    int rc = map_put(&s->by_name, t->name, (uint32_t)s->n_tensors, &existing, err);
    if (rc == 0 && existing != MAP_NONE) {
        rc = fail(err, CARAT_E_FORMAT, "%s: tensor '%.*s' is there twice: it is in %s, too",
                  file_name(f), (int)t->name.size, t->name.data,
                  file_name(&s->files[s->tensors[existing].i_map]));
    }
    s->n_tensors++;
    return rc;
}

// Joins the lists of all files.
static int add_tensors(struct source *s, struct carat_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < s->n_files; i++) {
        count += file_n_tensors(&s->files[i]);
    }
    s->tensors = mem_new_array(count, sizeof(*s->tensors), err);
    if (!s->tensors) {
        return CARAT_E_MEMORY;
    }
    int rc = map_reserve(&s->by_name, count, err);
    for (size_t i = 0; i < s->n_files && rc == 0; i++) {
        for (size_t k = 0; k < file_n_tensors(&s->files[i]) && rc == 0; k++) {
            rc = add_tensor(s, i, k, err);
        }
    }
    return rc;
}

// Room for count files; those beyond the present ones are empty.
static int grow_files(struct source *s, size_t count, struct carat_error *err)
{
    struct source_file *files = mem_resize(s->files, count * sizeof(*files), err);
    if (!files) {
        return CARAT_E_MEMORY;
    }
    s->files = files;
    return 0;
}

static int add_safetensors(struct source *s, struct slice name, struct carat_error *err)
{
    char *path = path_join(s->path, name, err);
    if (!path) {
        return CARAT_E_MEMORY;
    }
    int rc = grow_files(s, s->n_files + 1, err);
    if (rc == 0 && !os_is_file(path)) {
        rc = fail(err, CARAT_E_IO, "%s: is missing; the index of %s names it", path, s->path);
    }
    if (rc == 0) {
        rc = safetensors_open(&s->files[s->n_files].safetensors, path, err);
    }
    s->n_files += rc == 0;
    mem_free(path);
    return rc;
}

/* ------------------------------------------------------------------------------------ GGUF */

// What shards are called after their common beginning, in the form that llama.cpp's splitter
// writes.
static void shard_suffix(char *out, size_t size, uint64_t i, uint64_t count)
{
    snprintf(out, size, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", i + 1, count);
}

static int check_shard(const struct source *s, size_t i, uint64_t count, struct carat_error *err)
{
    const struct gguf *g = s->files[i].gguf;
    uint64_t found_count = 0;
    uint64_t found_no = 0;
    int rc = gguf_get_u64(g, "split.count", &found_count, err);
    rc = rc < 0 ? rc : gguf_get_u64(g, "split.no", &found_no, err);
    if (rc < 0) {
        return rc;
    }
    if (found_count != count || found_no != i) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: expected shard %zu of %" PRIu64 ", found shard %" PRIu64 " of %" PRIu64
                    ": it belongs to another set",
                    gguf_path(g), i + 1, count, found_no + 1, found_count);
    }
    return 0;
}

// path is that of the first shard; opens the others.
static int open_shards(struct source *s, uint64_t count, struct carat_error *err)
{
    char suffix[64];
    shard_suffix(suffix, sizeof(suffix), 0, count);
    if (!slice_ends(slice_of(s->path), suffix)) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: is the first of %" PRIu64 " shards: expected a name that ends in '%s', by "
                    "which the others can be found",
                    s->path, count, suffix);
    }
    int rc = grow_files(s, (size_t)count, err);
    size_t stem_size = strlen(s->path) - strlen(suffix);
    for (size_t i = 1; i < count && rc == 0; i++) {
        struct buf path = {0};
        shard_suffix(suffix, sizeof(suffix), i, count);
        buf_add(&path, s->path, stem_size);
        buf_adds(&path, suffix);
        rc = buf_status(&path, err);
        if (rc == 0 && !os_is_file(buf_text(&path))) {
            rc = fail(err, CARAT_E_IO, "%s: shard %zu of %" PRIu64 " is missing", buf_text(&path),
                      i + 1, count);
        }
        if (rc == 0) {
            rc = gguf_open(&s->files[i].gguf, buf_text(&path), err);
        }
        if (rc == 0) {
            s->n_files = i + 1;
            rc = check_shard(s, i, count, err);
        }
        buf_release(&path);
    }
    return rc;
}

// The first shard says how many tensors the whole set has.
static int check_set_total(const struct source *s, struct carat_error *err)
{
    uint64_t total = s->n_tensors;
    int rc = gguf_get_u64(s->files[0].gguf, "split.tensors.count", &total, err);
    if (rc >= 0 && total != s->n_tensors) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: expected %" PRIu64 " tensors in %zu shards, found %zu", s->path, total,
                    s->n_files, s->n_tensors);
    }
    return rc < 0 ? rc : 0;
}

// Takes an open GGUF file, the first or only one; opens what else belongs to it.
static int take_gguf(struct source *s, struct gguf *g, bool needs_tensors, struct carat_error *err)
{
    int rc = grow_files(s, 1, err);
    if (rc) {
        gguf_close(g);
        return rc;
    }
    s->files[0].gguf = g;
    s->n_files = 1;
    uint64_t count = 1;
    uint64_t no = 0;
    rc = gguf_get_u64(g, "split.count", &count, err);
    rc = rc < 0 ? rc : gguf_get_u64(g, "split.no", &no, err);
    rc = rc < 0 ? rc : gguf_get_string(g, "tokenizer.chat_template", &s->chat_template, err);
    if (rc < 0) {
        return rc;
    }
    if (count > SOURCE_SHARDS_MAX) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: key 'split.count': expected at most %d shards, found %" PRIu64, s->path,
                    SOURCE_SHARDS_MAX, count);
    }
    if (no != 0) {
        char suffix[64];
        shard_suffix(suffix, sizeof(suffix), 0, count);
        return fail(err, CARAT_E_ARGUMENT,
                    "%s: is shard %" PRIu64 " of %" PRIu64
                    "; give the first one, whose name ends in "
                    "'%s'",
                    s->path, no + 1, count, suffix);
    }
    bool is_set = count > 1 && needs_tensors;
    rc = is_set ? open_shards(s, count, err) : 0;
    if (rc == 0) {
        rc = add_tensors(s, err);
    }
    if (rc == 0 && is_set) {
        rc = check_set_total(s, err);
    }
    return rc;
}

static int open_gguf(struct source *s, bool needs_tensors, struct carat_error *err)
{
    struct gguf *g = NULL;
    int rc = gguf_open(&g, s->path, err);
    return rc ? rc : take_gguf(s, g, needs_tensors, err);
}

/* ------------------------------------------------------------------------------------ directory */

static int check_object(const struct json_doc *doc, const char *path, struct carat_error *err)
{
    enum json_kind kind = json_kind(json_root(doc));
    return kind == JSON_OBJECT ? 0
                               : fail(err, CARAT_E_FORMAT, "%s: expected an object, found %s", path,
                                      json_kind_name(kind));
}

// Parses a file of the directory; *out stays NULL when it is not there.
static int read_json(const struct source *s, const char *name, size_t size_max,
                     struct json_doc **out, struct carat_error *err)
{
    char *path = path_join(s->path, slice_of(name), err);
    if (!path) {
        return CARAT_E_MEMORY;
    }
    int rc = os_is_file(path) ? json_parse_file(out, path, size_max, err) : 0;
    if (rc == 0 && *out) {
        rc = check_object(*out, path, err);
    }
    mem_free(path);
    return rc;
}

// A name in the directory that ends in suffix, from names sorted; NULL when there is none.
static const char *name_with_suffix(char *const *names, size_t count, const char *suffix)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_ends(slice_of(names[i]), suffix)) {
            return names[i];
        }
    }
    return NULL;
}

static int fail_no_config(const struct source *s, struct carat_error *err)
{
    char **names = NULL;
    size_t count = 0;
    int rc = os_list(&names, &count, s->path, SOURCE_LIST_MAX, NULL); // only for a hint
    const char *gguf = rc == 0 ? name_with_suffix(names, count, ".gguf") : NULL;
    if (gguf) {
        rc = fail(err, CARAT_E_FORMAT,
                  "%s: expected a directory with config.json, found one with %s: give that file's "
                  "path",
                  s->path, gguf);
    } else {
        rc = fail(err, CARAT_E_FORMAT,
                  "%s: expected a model's directory, but there is no config.json in it", s->path);
    }
    os_list_free(names, count);
    return rc;
}

// A shard's name comes from the index: it must be a file of this directory, not a way out of it.
static bool is_plain_name(struct slice name)
{
    return container_is_name(name, 255) && name.data[0] != '.' &&
           !memchr(name.data, '/', name.size) && !memchr(name.data, '\\', name.size) &&
           slice_ends(name, ".safetensors");
}

// Opens each file that the weight map names, once.
static int open_indexed(struct source *s, const struct json_value *weights, struct map *files,
                        struct carat_error *err)
{
    int rc = 0;
    for (struct json_iter it = json_iter(weights); rc == 0 && json_next(&it);) {
        struct slice name = json_string(it.value);
        if (map_get(files, name) != MAP_NONE) {
            continue;
        }
        if (!is_plain_name(name)) {
            return fail(
                err, CARAT_E_FORMAT,
                "%s/model.safetensors.index.json: weight_map: expected names of safetensors "
                "files in this directory, found another for tensor '%.*s'",
                s->path, (int)it.key.size, it.key.data);
        }
        if (s->n_files == SOURCE_SHARDS_MAX) {
            return fail(err, CARAT_E_FORMAT,
                        "%s/model.safetensors.index.json: expected at most %d files, found more",
                        s->path, SOURCE_SHARDS_MAX);
        }
        rc = map_put(files, name, (uint32_t)s->n_files, NULL, err);
        if (rc == 0) {
            rc = add_safetensors(s, name, err);
        }
    }
    return rc;
}

// Whether every tensor is in the file that the weight map says.
static int check_indexed(const struct source *s, const struct json_value *weights,
                         const struct map *files, struct carat_error *err)
{
    for (struct json_iter it = json_iter(weights); json_next(&it);) {
        uint32_t i = map_get(&s->by_name, it.key);
        uint32_t i_file = map_get(files, json_string(it.value));
        if (i == MAP_NONE || s->tensors[i].i_map != i_file) {
            return fail(err, CARAT_E_FORMAT,
                        "%s: expected tensor '%.*s' in it, as the index says; it is %s",
                        file_name(&s->files[i_file]), (int)it.key.size, it.key.data,
                        i == MAP_NONE ? "nowhere" : file_name(&s->files[s->tensors[i].i_map]));
        }
    }
    return 0;
}

static int open_index(struct source *s, const struct json_doc *index, struct carat_error *err)
{
    const struct json_value *weights = json_get(json_root(index), "weight_map");
    if (json_kind(weights) != JSON_OBJECT || json_count(weights) == 0) {
        return fail(err, CARAT_E_FORMAT,
                    "%s/model.safetensors.index.json: weight_map: expected an object with tensors, "
                    "found %s",
                    s->path, json_kind_name(json_kind(weights)));
    }
    struct map files = {0}; // name to place in s->files; names live with the index
    int rc = open_indexed(s, weights, &files, err);
    if (rc == 0) {
        rc = add_tensors(s, err);
    }
    if (rc == 0) {
        rc = check_indexed(s, weights, &files, err);
    }
    map_release(&files);
    return rc;
}

// Every *.safetensors of the directory.
static int open_listed(struct source *s, struct carat_error *err)
{
    char **names = NULL;
    size_t count = 0;
    int rc = os_list(&names, &count, s->path, SOURCE_LIST_MAX, err);
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (slice_ends(slice_of(names[i]), ".safetensors")) {
            rc = s->n_files < SOURCE_SHARDS_MAX
                     ? add_safetensors(s, slice_of(names[i]), err)
                     : fail(err, CARAT_E_FORMAT, "%s: more than %d safetensors files", s->path,
                            SOURCE_SHARDS_MAX);
        }
    }
    if (rc == 0 && s->n_files == 0) {
        const char *other = name_with_suffix(names, count, ".bin");
        rc = fail(err, CARAT_E_FORMAT, "%s: expected model.safetensors or shards of it, found %s%s",
                  s->path, other ? other : "no such file",
                  other ? ", which cannot be read: convert it to safetensors" : "");
    }
    os_list_free(names, count);
    return rc ? rc : add_tensors(s, err);
}

static int open_weights(struct source *s, struct carat_error *err)
{
    char *single = path_join(s->path, slice_of("model.safetensors"), err);
    if (!single) {
        return CARAT_E_MEMORY;
    }
    bool is_single = os_is_file(single);
    mem_free(single);
    if (is_single) {
        int rc = add_safetensors(s, slice_of("model.safetensors"), err);
        return rc ? rc : add_tensors(s, err);
    }
    struct json_doc *index = NULL;
    int rc = read_json(s, "model.safetensors.index.json", SOURCE_INDEX_MAX, &index, err);
    if (rc == 0) {
        rc = index ? open_index(s, index, err) : open_listed(s, err);
    }
    json_free(index);
    return rc;
}

// tokenizer_config.json has the template as a text, or as a list of named ones.
static struct slice template_of(const struct json_value *v)
{
    if (json_kind(v) != JSON_ARRAY) {
        return json_string(v);
    }
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        if (slice_is(json_string(json_get(it.value, "name")), "default")) {
            return json_string(json_get(it.value, "template"));
        }
    }
    return (struct slice){0};
}

static int keep_template(struct source *s, struct slice text, struct carat_error *err)
{
    s->template_text = mem_strndup(text.data ? text.data : "", text.size, err);
    if (!s->template_text) {
        return CARAT_E_MEMORY;
    }
    s->chat_template = slice_make(s->template_text, text.size);
    return 0;
}

static int read_template(struct source *s, struct carat_error *err)
{
    char *path = path_join(s->path, slice_of("chat_template.jinja"), err);
    if (!path) {
        return CARAT_E_MEMORY;
    }
    int rc;
    if (os_is_file(path)) {
        struct buf text = {0};
        rc = os_read_file(&text, path, SOURCE_TEMPLATE_MAX, err);
        if (rc == 0) {
            rc = keep_template(s, slice_make(buf_text(&text), text.size), err);
        }
        buf_release(&text);
    } else {
        struct json_doc *doc = NULL;
        rc = read_json(s, "tokenizer_config.json", SOURCE_TOKENIZER_META_MAX, &doc, err);
        if (rc == 0 && doc) {
            rc = keep_template(s, template_of(json_get(json_root(doc), "chat_template")), err);
        }
        json_free(doc);
    }
    mem_free(path);
    return rc;
}

static bool has_file(const struct source *s, const char *name)
{
    char *path = path_join(s->path, slice_of(name), NULL);
    bool is_there = path && os_is_file(path);
    mem_free(path);
    return is_there;
}

static int open_directory(struct source *s, bool needs_tensors, struct carat_error *err)
{
    int rc = read_json(s, "config.json", SOURCE_CONFIG_MAX, &s->config, err);
    if (rc == 0 && !s->config) {
        // A vocabulary alone may lie in a directory of its own.
        rc = !needs_tensors && has_file(s, "tokenizer.json")
                 ? json_parse(&s->config, "{}", 2, "config.json", err)
                 : fail_no_config(s, err);
    }
    if (rc == 0) {
        rc = read_json(s, "generation_config.json", SOURCE_CONFIG_MAX, &s->generation_config, err);
    }
    if (rc == 0) {
        rc = read_template(s, err);
    }
    if (rc == 0 && needs_tensors) {
        rc = open_weights(s, err);
    }
    return rc;
}

/* ------------------------------------------------------------------------------------ the view */

static struct source *source_new(const char *path, struct carat_error *err)
{
    struct source *s = mem_new(sizeof(*s), err);
    if (s) {
        s->path = mem_strdup(path, err);
    }
    if (s && !s->path) {
        source_close(s);
        s = NULL;
    }
    return s;
}

int source_open(struct source **out, const char *path, bool needs_tensors, struct carat_error *err)
{
    struct source *s = source_new(path, err);
    if (!s) {
        return CARAT_E_MEMORY;
    }
    int rc;
    if (os_is_directory(path)) {
        rc = open_directory(s, needs_tensors, err);
    } else if (os_is_file(path) && slice_ends(slice_of(path), ".safetensors")) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "%s: is a safetensors file; give the directory that holds it, with its "
                  "config.json and tokenizer.json",
                  path);
    } else {
        rc = open_gguf(s, needs_tensors, err);
    }
    if (rc) {
        source_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

int source_open_memory(struct source **out, const void *data, size_t size, const char *name,
                       struct carat_error *err)
{
    struct source *s = source_new(name, err);
    if (!s) {
        return CARAT_E_MEMORY;
    }
    int rc;
    s->is_borrowed = true;
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) {
        struct gguf *g = NULL;
        rc = gguf_open_memory(&g, data, size, name, err);
        rc = rc ? rc : take_gguf(s, g, false, err);
    } else {
        rc = json_parse(&s->config, data, size, name, err);
        rc = rc ? rc : check_object(s->config, name, err);
    }
    if (rc) {
        source_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void source_close(struct source *s)
{
    if (s) {
        for (size_t i = 0; i < s->n_files; i++) {
            gguf_close(s->files[i].gguf);
            safetensors_close(s->files[i].safetensors);
        }
        mem_free(s->files);
        map_release(&s->by_name);
        mem_free(s->tensors);
        json_free(s->config);
        json_free(s->generation_config);
        json_free(s->tokenizer);
        mem_free(s->template_text);
        mem_free(s->path);
        mem_free(s);
    }
}

const char *source_path(const struct source *s)
{
    return s->path;
}

size_t source_n_tensors(const struct source *s)
{
    return s->n_tensors;
}

const struct source_tensor *source_tensor_at(const struct source *s, size_t i)
{
    require(i < s->n_tensors);
    return &s->tensors[i];
}

const struct source_tensor *source_find(const struct source *s, const char *name)
{
    uint32_t i = map_get(&s->by_name, slice_of(name));
    return i == MAP_NONE ? NULL : &s->tensors[i];
}

size_t source_n_maps(const struct source *s)
{
    return s->n_files;
}

const struct os_map *source_map_at(const struct source *s, size_t i)
{
    require(i < s->n_files);
    return file_map(&s->files[i]);
}

// The mapped file that these bytes lie in; NULL: none.
static const struct os_map *map_around(const struct source *s, const uint8_t *data, size_t size)
{
    const uintptr_t at = (uintptr_t)data;
    for (size_t i = 0; i < s->n_files && !s->is_borrowed; i++) {
        const struct os_map *map = file_map(&s->files[i]);
        const uintptr_t begin = (uintptr_t)map->data;
        if (map->data && at >= begin && at - begin <= map->size &&
            size <= map->size - (at - begin)) {
            return map;
        }
    }
    return NULL;
}

void source_will_need(const struct source *s, const uint8_t *data, size_t size)
{
    const struct os_map *map = map_around(s, data, size);
    if (map) {
        os_map_will_need(map, (size_t)(data - map->data), size);
    }
}

void source_drop(const struct source *s, const uint8_t *data, size_t size)
{
    const struct os_map *map = map_around(s, data, size);
    if (map) {
        os_map_drop(map, (size_t)(data - map->data), size);
    }
}

const struct gguf *source_gguf(const struct source *s)
{
    return s->config ? NULL : s->files[0].gguf;
}

const struct json_doc *source_config(const struct source *s)
{
    return s->config;
}

const struct json_doc *source_generation_config(const struct source *s)
{
    return s->generation_config;
}

int source_tokenizer(struct source *s, const struct json_doc **out, struct carat_error *err)
{
    if (s->config && !s->tokenizer) {
        int rc = read_json(s, "tokenizer.json", SOURCE_TOKENIZER_MAX, &s->tokenizer, err);
        if (rc) {
            source_drop_tokenizer(s);
            return rc;
        }
    }
    *out = s->tokenizer;
    return 0;
}

void source_drop_tokenizer(struct source *s)
{
    json_free(s->tokenizer);
    s->tokenizer = NULL;
}

struct slice source_chat_template(const struct source *s)
{
    return s->chat_template;
}
