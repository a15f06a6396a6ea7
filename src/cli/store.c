// SPDX-License-Identifier: Apache-2.0
#include "cli/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/map.h"
#include "base/os.h"
#include "base/os_file.h"
#include "formats/json.h"

#define MANIFEST     "carat.json"
#define MANIFEST_MAX ((size_t)4 << 20)
#define LIST_MAX     10000 // names in a folder of the store
#define PART_MAX     128   // bytes of OWNER, REPO or TYPE

// ---------------------------------------------------------------------------------------- names

bool store_is_part(struct slice part)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._";
    if (part.size < 1 || part.size > PART_MAX || part.data[0] == '.' || part.data[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < part.size; i++) {
        if (!part.data[i] || !strchr(plain, part.data[i])) {
            return false;
        }
    }
    return true;
}

bool store_is_repo(struct slice repo)
{
    const char *slash = repo.size ? memchr(repo.data, '/', repo.size) : NULL;
    size_t owner = slash ? (size_t)(slash - repo.data) : 0;
    return slash && store_is_part(slice_make(repo.data, owner)) &&
           store_is_part(slice_make(slash + 1, repo.size - owner - 1));
}

// A file of a model, which may stand in one folder.
static bool is_file_name(struct slice name)
{
    return store_is_part(name) || store_is_repo(name);
}

bool store_is_id(struct slice id)
{
    size_t head = slice_starts(id, "sha256-") ? 7 : slice_starts(id, "git-") ? 4 : 0;
    if (!head || id.size != head + (head == 7 ? 64 : 40)) {
        return false;
    }
    for (size_t i = head; i < id.size; i++) {
        if (!id.data[i] || !strchr("0123456789abcdef", id.data[i])) {
            return false;
        }
    }
    return true;
}

// ---------------------------------------------------------------------------------------- places

int store_open(struct store *out, struct carat_error *err)
{
    struct buf folder = {.max = 1 << 16};
    const char *named = os_env("CARAT_HOME");
    const char *data = os_env("XDG_DATA_HOME");
    const char *home = os_env("HOME");
    if (named) {
        buf_adds(&folder, named);
    } else if (data && data[0] == '/') {
        buf_addf(&folder, "%s/carat", data);
    } else if (home) {
        buf_addf(&folder, "%s/.local/share/carat", home);
    } else {
        return fail(err, CARAT_E_ARGUMENT, "no place for models: set CARAT_HOME or HOME");
    }
    while (folder.size > 1 && !folder.has_failed && folder.data[folder.size - 1] == '/') {
        folder.data[--folder.size] = '\0';
    }
    int rc = buf_status(&folder, err);
    out->folder = rc ? NULL : buf_take(&folder);
    buf_release(&folder);
    return rc;
}

void store_release(struct store *s)
{
    mem_free(s->folder);
    s->folder = NULL;
}

int store_blob_path(struct buf *out, const struct store *s, const char *id, const char *suffix,
                    struct carat_error *err)
{
    require(store_is_id(slice_of(id)));
    buf_addf(out, "%s/blobs/%s%s", s->folder, id, suffix);
    return buf_status(out, err);
}

bool store_has_blob(const struct store *s, const char *id, uint64_t size)
{
    struct buf path = {.max = 1 << 16};
    struct os_file_info info;
    bool has = store_blob_path(&path, s, id, "", NULL) == 0 && os_file_info(&info, path.data) &&
               !info.is_directory && info.size == size;
    buf_release(&path);
    return has;
}

int store_lock(struct os_lock *out, const struct store *s, bool is_shared, struct carat_error *err)
{
    struct buf path = {.max = 1 << 16};
    buf_addf(&path, "%s/blobs", s->folder);
    int rc = buf_status(&path, err);
    rc = rc ? rc : os_make_folder(path.data, err);
    buf_clear(&path);
    buf_addf(&path, "%s/lock", s->folder);
    rc = rc ? rc : buf_status(&path, err);
    rc = rc ? rc : os_lock_try(out, path.data, is_shared, err);
    buf_release(&path);
    return rc;
}

// --------------------------------------------------------------------------------------- reading

static char *keep(struct arena *arena, struct slice s, struct carat_error *err)
{
    return arena_strndup(arena, s.data, s.size, err);
}

static bool read_file(struct store_file *out, const struct json_value *v, struct arena *arena)
{
    struct slice name = json_string(json_get(v, "name")), id = json_string(json_get(v, "id"));
    if (!is_file_name(name) || !store_is_id(id) || !json_u64(json_get(v, "size"), &out->size)) {
        return false;
    }
    out->name = keep(arena, name, NULL);
    out->id = keep(arena, id, NULL);
    return out->name && out->id;
}

static bool read_files(struct store_model *m, const struct json_value *list, struct arena *arena)
{
    size_t n = json_count(list);
    struct store_file *files = NULL;
    if (json_kind(list) == JSON_ARRAY && n > 0 && n <= STORE_FILES_MAX) {
        files = arena_take(arena, n * sizeof(*files), NULL);
    }
    size_t i = 0;
    for (struct json_iter it = json_iter(list); files && json_next(&it); i++) {
        if (!read_file(&files[i], it.value, arena) || files[i].size > UINT64_MAX / 2 - m->size) {
            return false;
        }
        m->size += files[i].size;
    }
    m->files = files;
    m->n_files = n;
    return files != NULL;
}

// What a folder of the store says about itself; it must say its own name.
static bool read_manifest(struct store_model *out, const struct json_value *root,
                          const char *folder, const char *repo, const char *type,
                          struct arena *arena)
{
    struct store_model m = {0};
    struct slice model = json_string(json_get(root, "model"));
    struct buf name = {.max = 1000}, path = {.max = 1 << 16};
    bool is_ok = slice_is(json_string(json_get(root, "repo")), repo) &&
                 slice_is(json_string(json_get(root, "type")), type) &&
                 (model.size == 0 || is_file_name(model)) &&
                 read_files(&m, json_get(root, "files"), arena);
    buf_addf(&name, "%s:%s", repo, type);
    buf_addf(&path, "%s%s%.*s", folder, model.size ? "/" : "", (int)model.size,
             model.size ? model.data : "");
    if (is_ok && !name.has_failed && !path.has_failed) {
        m.name = keep(arena, slice_of(name.data), NULL);
        m.path = keep(arena, slice_of(path.data), NULL);
        m.repo = keep(arena, slice_of(repo), NULL);
        m.type = keep(arena, slice_of(type), NULL);
        m.model = keep(arena, model, NULL);
        m.commit = keep(arena, json_string(json_get(root, "commit")), NULL);
        is_ok = m.name && m.path && m.repo && m.type && m.model && m.commit;
        *out = m;
    }
    is_ok = is_ok && !name.has_failed && !path.has_failed;
    buf_release(&name);
    buf_release(&path);
    return is_ok;
}

static int add_model(struct store_models *out, const struct store_model *m, struct carat_error *err)
{
    size_t size = (out->n + 1) * sizeof(*m);
    struct store_model *items = out->items ? mem_resize(out->items, size, err) : mem_new(size, err);
    if (!items) {
        return CARAT_E_MEMORY;
    }
    out->items = items;
    out->items[out->n++] = *m;
    return 0;
}

static int read_one(struct store_models *out, const char *folder, const char *repo,
                    const char *type, struct carat_error *err)
{
    struct buf path = {.max = 1 << 16};
    struct os_file_info info;
    struct json_doc *doc = NULL;
    struct store_model m;
    int rc = 0;
    buf_addf(&path, "%s/" MANIFEST, folder);
    if (!path.has_failed && os_file_info(&info, path.data)) {
        bool is_ok = json_parse_file(&doc, path.data, MANIFEST_MAX, NULL) == 0 &&
                     read_manifest(&m, json_root(doc), folder, repo, type, &out->arena);
        if (is_ok) {
            m.pulled_at = info.used_at;
            rc = add_model(out, &m, err);
        } else {
            log_line(CARAT_LOG_WARNING, "%s: cannot be read; pull the model again", path.data);
            out->n_broken++;
        }
    }
    json_free(doc);
    buf_release(&path);
    return rc;
}

// Calls for each folder of a folder whose name may be part of a name.
typedef int (*on_folder)(void *user, const char *folder, const char *name, struct carat_error *err);

static int for_folders(const char *folder, on_folder call, void *user, struct carat_error *err)
{
    char **names = NULL;
    size_t n = 0;
    int rc = 0;
    if (!os_is_directory(folder)) {
        return 0;
    }
    rc = os_list(&names, &n, folder, LIST_MAX, err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct buf path = {.max = 1 << 16};
        buf_addf(&path, "%s/%s", folder, names[i]);
        rc = buf_status(&path, err);
        if (rc == 0 && os_is_directory(path.data)) {
            rc = call(user, path.data, names[i], err);
        }
        buf_release(&path);
    }
    os_list_free(names, n);
    return rc;
}

struct walk {
    struct store_models *models; // NULL: remove what was left behind instead
    const char *owner;
    struct buf repo;
};

static int on_type(void *user, const char *folder, const char *name, struct carat_error *err)
{
    struct walk *w = user;
    return store_is_part(slice_of(name))
               ? read_one(w->models, folder, buf_text(&w->repo), name, err)
               : 0;
}

static int on_repo(void *user, const char *folder, const char *name, struct carat_error *err)
{
    struct walk *w = user;
    buf_clear(&w->repo);
    buf_addf(&w->repo, "%s/%s", w->owner, name);
    return store_is_part(slice_of(name)) ? for_folders(folder, on_type, w, err) : 0;
}

static int on_owner(void *user, const char *folder, const char *name, struct carat_error *err)
{
    struct walk *w = user;
    w->owner = name;
    return store_is_part(slice_of(name)) ? for_folders(folder, on_repo, w, err) : 0;
}

static int compare_age(const void *a, const void *b)
{
    const struct store_model *x = a, *y = b;
    if (x->pulled_at != y->pulled_at) {
        return x->pulled_at > y->pulled_at ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

static int models_folder(struct buf *out, const struct store *s, struct carat_error *err)
{
    buf_addf(out, "%s/models", s->folder);
    return buf_status(out, err);
}

int store_read(struct store_models *out, const struct store *s, struct carat_error *err)
{
    struct store_models models = {.n = 0};
    struct walk w = {.models = &models, .repo = {.max = 1000}};
    struct buf folder = {.max = 1 << 16};
    int rc = models_folder(&folder, s, err);
    rc = rc ? rc : for_folders(folder.data, on_owner, &w, err);
    buf_release(&folder);
    buf_release(&w.repo);
    if (rc) {
        store_models_release(&models);
        return rc;
    }
    if (models.n) {
        qsort(models.items, models.n, sizeof(*models.items), compare_age);
    }
    *out = models;
    return 0;
}

void store_models_release(struct store_models *m)
{
    mem_free(m->items);
    arena_release(&m->arena);
    *m = (struct store_models){.n = 0};
}

// --------------------------------------------------------------------------------------- writing

// A folder of links or of unfinished ones, whatever is in it; one level of folders within.
static void remove_folder(const char *folder, size_t depth)
{
    char **names = NULL;
    size_t n = 0;
    if (os_list(&names, &n, folder, LIST_MAX, NULL) == 0) {
        for (size_t i = 0; i < n; i++) {
            struct buf path = {.max = 1 << 16};
            buf_addf(&path, "%s/%s", folder, names[i]);
            if (!path.has_failed && !os_remove(path.data) && depth > 0) {
                remove_folder(path.data, depth - 1);
            }
            buf_release(&path);
        }
        os_list_free(names, n);
    }
    os_remove_folder(folder);
}

static void write_manifest(struct buf *out, const struct store_model *m)
{
    buf_adds(out, "{\"format\":1,\"repo\":");
    buf_add_json(out, m->repo, strlen(m->repo));
    buf_adds(out, ",\"type\":");
    buf_add_json(out, m->type, strlen(m->type));
    buf_adds(out, ",\"commit\":");
    buf_add_json(out, m->commit, strlen(m->commit));
    buf_adds(out, ",\"model\":");
    buf_add_json(out, m->model, strlen(m->model));
    buf_adds(out, ",\"files\":[");
    for (size_t i = 0; i < m->n_files; i++) {
        buf_adds(out, i ? ",\n{\"name\":" : "\n{\"name\":");
        buf_add_json(out, m->files[i].name, strlen(m->files[i].name));
        buf_addf(out, ",\"id\":\"%s\",\"size\":%" PRIu64 "}", m->files[i].id, m->files[i].size);
    }
    buf_adds(out, "]}\n");
}

static int link_file(const char *folder, const struct store_file *f, struct carat_error *err)
{
    struct buf path = {.max = 1 << 16}, target = {.max = 1000};
    const char *slash = strchr(f->name, '/');
    int rc = 0;
    if (slash) {
        buf_addf(&path, "%s/%.*s", folder, (int)(slash - f->name), f->name);
        rc = buf_status(&path, err);
        rc = rc ? rc : os_make_folder(path.data, err);
        buf_clear(&path);
    }
    buf_addf(&path, "%s/%s", folder, f->name);
    buf_addf(&target, "%s../../../../blobs/%s", slash ? "../" : "", f->id);
    rc = rc ? rc : buf_status(&path, err);
    rc = rc ? rc : buf_status(&target, err);
    rc = rc ? rc : os_link(path.data, target.data, err);
    buf_release(&path);
    buf_release(&target);
    return rc;
}

static int fill_folder(const char *folder, const struct store_model *m, struct carat_error *err)
{
    struct buf path = {.max = 1 << 16}, text = {.max = MANIFEST_MAX};
    struct os_writer writer = {.fd = -1};
    int rc = os_make_folder(folder, err);
    for (size_t i = 0; i < m->n_files && rc == 0; i++) {
        rc = link_file(folder, &m->files[i], err);
    }
    buf_addf(&path, "%s/" MANIFEST, folder);
    write_manifest(&text, m);
    rc = rc ? rc : buf_status(&path, err);
    rc = rc ? rc : buf_status(&text, err);
    rc = rc ? rc : os_writer_open(&writer, path.data, err);
    if (rc == 0) {
        rc = os_writer_add(&writer, text.data, text.size, err);
        rc = rc ? rc : os_writer_finish(&writer, true, err);
        os_writer_close(&writer);
    }
    buf_release(&path);
    buf_release(&text);
    return rc;
}

// The new folder stands aside until it is whole; between the two renames there is none for a
// moment.
static int put_in_place(const char *fresh, const char *folder, const char *old,
                        struct carat_error *err)
{
    int rc = os_exists(folder) ? os_rename(folder, old, err) : 0;
    rc = rc ? rc : os_rename(fresh, folder, err);
    if (rc == 0 && os_exists(old)) {
        remove_folder(old, 1);
    }
    return rc;
}

int store_commit(const struct store *s, const struct store_model *model, struct buf *path,
                 struct carat_error *err)
{
    require(store_is_repo(slice_of(model->repo)) && store_is_part(slice_of(model->type)));
    struct buf folder = {.max = 1 << 16}, fresh = {.max = 1 << 16}, old = {.max = 1 << 16};
    uint64_t mark = os_random_u64();
    buf_addf(&folder, "%s/models/%s/%s", s->folder, model->repo, model->type);
    buf_addf(&fresh, "%s/models/%s/.new-%016" PRIx64, s->folder, model->repo, mark);
    buf_addf(&old, "%s/models/%s/.old-%016" PRIx64, s->folder, model->repo, mark);
    int rc = buf_status(&folder, err);
    rc = rc ? rc : buf_status(&fresh, err);
    rc = rc ? rc : buf_status(&old, err);
    rc = rc ? rc : fill_folder(fresh.data, model, err);
    rc = rc ? rc : put_in_place(fresh.data, folder.data, old.data, err);
    if (rc && !fresh.has_failed) {
        remove_folder(fresh.data, 1);
    }
    if (rc == 0) {
        buf_addf(path, "%s%s%s", folder.data, model->model[0] ? "/" : "", model->model);
        rc = buf_status(path, err);
    }
    buf_release(&folder);
    buf_release(&fresh);
    buf_release(&old);
    return rc;
}

int store_remove(const struct store *s, const struct store_model *model, struct carat_error *err)
{
    struct buf folder = {.max = 1 << 16}, old = {.max = 1 << 16};
    buf_addf(&folder, "%s/models/%s/%s", s->folder, model->repo, model->type);
    buf_addf(&old, "%s/models/%s/.old-%016" PRIx64, s->folder, model->repo, os_random_u64());
    int rc = buf_status(&folder, err);
    rc = rc ? rc : buf_status(&old, err);
    rc = rc ? rc : os_rename(folder.data, old.data, err);
    if (rc == 0) {
        remove_folder(old.data, 1);
        for (int i = 0; i < 2; i++) { // REPO and OWNER, if they are empty now
            *strrchr(folder.data, '/') = '\0';
            os_remove_folder(folder.data);
        }
    }
    buf_release(&folder);
    buf_release(&old);
    return rc;
}

// -------------------------------------------------------------------------------------- sweeping

static int sweep_left(void *user, const char *folder, const char *name, struct carat_error *err)
{
    (void)user;
    (void)err;
    if (name[0] == '.') { // of a commit or removal that was cut off
        remove_folder(folder, 1);
    }
    return 0;
}

static int sweep_repo(void *user, const char *folder, const char *name, struct carat_error *err)
{
    (void)name;
    return for_folders(folder, sweep_left, user, err);
}

static int sweep_owner(void *user, const char *folder, const char *name, struct carat_error *err)
{
    (void)name;
    return for_folders(folder, sweep_repo, user, err);
}

static int note_used(struct map *used, const struct store_models *models, struct carat_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < models->n; i++) {
        const struct store_model *m = &models->items[i];
        for (size_t k = 0; k < m->n_files && rc == 0; k++) {
            rc = map_put(used, slice_of(m->files[k].id), 0, NULL, err);
        }
    }
    return rc;
}

static bool is_to_go(const char *name, const struct map *used, bool drops_unfinished)
{
    const char *dot = strchr(name, '.');
    struct slice id = slice_make(name, dot ? (size_t)(dot - name) : strlen(name));
    if (!store_is_id(id)) {
        return false; // nothing of ours
    }
    return dot ? drops_unfinished : map_get(used, id) == MAP_NONE;
}

static int sweep_blobs(const struct store *s, const struct map *used, bool drops_unfinished,
                       uint64_t *freed, struct carat_error *err)
{
    struct buf path = {.max = 1 << 16};
    char **names = NULL;
    size_t n = 0;
    buf_addf(&path, "%s/blobs", s->folder);
    int rc = buf_status(&path, err);
    rc = rc ? rc : os_list(&names, &n, path.data, LIST_MAX, err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (is_to_go(names[i], used, drops_unfinished)) {
            buf_clear(&path);
            buf_addf(&path, "%s/blobs/%s", s->folder, names[i]);
            rc = buf_status(&path, err);
            uint64_t size = rc ? 0 : os_disk_used(path.data);
            *freed += rc == 0 && os_remove(path.data) ? size : 0;
        }
    }
    os_list_free(names, n);
    buf_release(&path);
    return rc;
}

int store_sweep(const struct store *s, bool drops_unfinished, uint64_t *freed,
                struct carat_error *err)
{
    struct store_models models = {.n = 0};
    struct map used = {0};
    struct buf folder = {.max = 1 << 16};
    *freed = 0;
    int rc = models_folder(&folder, s, err);
    rc = rc ? rc : for_folders(folder.data, sweep_owner, NULL, err);
    rc = rc ? rc : store_read(&models, s, err);
    rc = rc ? rc : note_used(&used, &models, err);
    // What a list that cannot be read names is not known.
    if (rc == 0 && models.n_broken == 0) {
        rc = sweep_blobs(s, &used, drops_unfinished, freed, err);
    }
    map_release(&used);
    store_models_release(&models);
    buf_release(&folder);
    return rc;
}

void store_count_unfinished(const struct store *s, size_t *n, uint64_t *size)
{
    struct buf path = {.max = 1 << 16};
    char **names = NULL;
    size_t n_names = 0;
    *n = 0;
    *size = 0;
    buf_addf(&path, "%s/blobs", s->folder);
    if (!path.has_failed && os_list(&names, &n_names, path.data, LIST_MAX, NULL) == 0) {
        for (size_t i = 0; i < n_names; i++) {
            if (slice_ends(slice_of(names[i]), ".part")) {
                buf_clear(&path);
                buf_addf(&path, "%s/blobs/%s", s->folder, names[i]);
                *size += path.has_failed ? 0 : os_disk_used(path.data);
                ++*n;
            }
        }
        os_list_free(names, n_names);
    }
    buf_release(&path);
}

// --------------------------------------------------------------------------------------- finding

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_alike(struct slice a, struct slice b)
{
    if (a.size != b.size) {
        return false;
    }
    for (size_t i = 0; i < a.size; i++) {
        if (lower(a.data[i]) != lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

// With or without "-GGUF" at its end.
static bool is_repo_alike(struct slice word, struct slice repo)
{
    static const char ending[] = "-gguf";
    size_t n = sizeof(ending) - 1;
    if (is_alike(word, repo)) {
        return true;
    }
    return repo.size > n &&
           is_alike(slice_make(repo.data + repo.size - n, n), slice_make(ending, n)) &&
           is_alike(word, slice_make(repo.data, repo.size - n));
}

// The whole name of a repository goes before shorter ones.
static bool is_meant(const struct store_model *m, struct slice repo, bool is_exact)
{
    struct slice full = slice_of(m->repo);
    return is_exact ? is_alike(repo, full)
                    : is_repo_alike(repo, full) ||
                          is_repo_alike(repo, slice_of(strchr(m->repo, '/') + 1));
}

int store_find(const struct store_model **out, const struct store_models *models, const char *word,
               struct carat_error *err)
{
    const char *colon = strrchr(word, ':');
    struct slice repo = slice_make(word, colon ? (size_t)(colon - word) : strlen(word));
    struct slice type = slice_of(colon ? colon + 1 : "");
    const struct store_model *found = NULL;
    for (int pass = 0; pass < 2 && !found; pass++) {
        for (size_t i = 0; i < models->n; i++) {
            const struct store_model *m = &models->items[i];
            if (!is_meant(m, repo, pass == 0) || (colon && !is_alike(type, slice_of(m->type)))) {
                continue;
            }
            if (found && strcmp(found->repo, m->repo) != 0) {
                return fail(err, CARAT_E_ARGUMENT, "%s: may mean %s or %s: name one of them", word,
                            found->name, m->name);
            }
            found = found ? found : m;
        }
    }
    *out = found;
    return 0;
}
