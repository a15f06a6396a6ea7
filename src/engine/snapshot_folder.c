// SPDX-License-Identifier: Apache-2.0
// Files are named by model and content, so that the same timeline is there once whoever wrote it.
// When they were used last is their time of change: it outlives the process, and all processes see
// it.
#include "engine/snapshot_folder.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

#define NAME_BEGIN       "carat-"
#define NAME_END         ".kv"
#define NAMES_MAX        100000 // files of any kind in the folder
#define STALE_SECONDS    3600   // a file that nobody finished for so long
#define PATIENCE_SECONDS 30     // after a failed write

static void add_hex(char *out, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

static void make_prefix(struct snapshot_folder *f)
{
    uint8_t digest[HASH_SIZE];
    char model[2 * HASH_SIZE + 1];
    struct hash h;
    hash_init(&h, NULL);
    hash_add(&h, f->identity, HASH_SIZE);
    hash_add_u64(&h, SNAPSHOT_VERSION);
    hash_digest(&h, digest);
    add_hex(model, digest, 8);
    snprintf(f->prefix, sizeof(f->prefix), NAME_BEGIN "%s-", model);
}

// The name of a timeline: what its rows depend on.
static void make_name(const struct snapshot_folder *f, const struct snapshot_head *h,
                      char out[SNAPSHOT_NAME_SIZE])
{
    uint8_t digest[HASH_SIZE];
    char content[2 * HASH_SIZE + 1];
    struct hash hash;
    hash_init(&hash, NULL);
    hash_add_u64(&hash, h->kv_type);
    hash_add_u64(&hash, h->sound_sees_ahead);
    hash_add_u64(&hash, h->n_tokens);
    hash_add(&hash, h->tokens, h->n_tokens * sizeof(h->tokens[0]));
    if (h->keys) {
        hash_add(&hash, h->keys, h->n_tokens * sizeof(h->keys[0]));
    }
    hash_digest(&hash, digest);
    add_hex(content, digest, HASH_SIZE);
    snprintf(out, SNAPSHOT_NAME_SIZE, "%.23s%.32s" NAME_END, f->prefix, content);
}

// Freed with mem_free; NULL without memory.
static char *path_of(const struct snapshot_folder *f, const char *name, struct carat_error *err)
{
    size_t size = strlen(f->path) + strlen(name) + 2;
    char *path = mem_new(size, err);
    if (path) {
        snprintf(path, size, "%s/%s", f->path, name);
    }
    return path;
}

static size_t find(const struct snapshot_folder *f, const char *name)
{
    size_t i = 0;
    while (i < f->n_entries && strcmp(f->entries[i].name, name) != 0) {
        i++;
    }
    return i;
}

static void forget(struct snapshot_folder *f, size_t i)
{
    snapshot_head_release(&f->entries[i].head);
    f->bytes -= f->entries[i].size;
    f->entries[i] = f->entries[--f->n_entries];
}

void snapshot_folder_remove(struct snapshot_folder *f, const char *name)
{
    char *path = path_of(f, name, NULL);
    size_t i = find(f, name);
    f->n_dropped += path && os_remove(path);
    if (i < f->n_entries) {
        forget(f, i);
    }
    mem_free(path);
}

// ---------------------------------------------------------------------------------------- scanning

static int make_room(struct snapshot_folder *f, struct carat_error *err)
{
    if (f->n_entries < f->capacity) {
        return 0;
    }
    size_t capacity = f->capacity ? 2 * f->capacity : 16;
    struct snapshot_entry *grown = f->entries
                                       ? mem_resize(f->entries, capacity * sizeof(*grown), err)
                                       : mem_new_array(capacity, sizeof(*grown), err);
    if (!grown) {
        return CARAT_E_MEMORY;
    }
    f->entries = grown;
    f->capacity = capacity;
    return 0;
}

// A file that was not there at the last look.
static int add_file(struct snapshot_folder *f, const char *name, const char *path,
                    const struct os_file_info *info, struct carat_error *err)
{
    struct snapshot file = {0};
    struct carat_error reason = {0};
    bool is_readable = strncmp(name, f->prefix, strlen(f->prefix)) == 0;
    int rc = make_room(f, err);
    if (rc) {
        return rc;
    }
    rc = is_readable ? snapshot_open(&file, path, &reason) : 0;
    if (rc == CARAT_E_FORMAT) {
        log_line(CARAT_LOG_WARNING, "removed from the cache: %s", reason.text);
        snapshot_folder_remove(f, name);
        return 0;
    }
    if (rc == CARAT_E_MEMORY) {
        return fail(err, CARAT_E_MEMORY, "%s", reason.text);
    }
    if (rc) {
        return 0; // another process removed it
    }
    struct snapshot_entry *e = &f->entries[f->n_entries++];
    *e = (struct snapshot_entry){
        .size = info->size, .used_at = info->used_at, .is_readable = is_readable};
    snprintf(e->name, sizeof(e->name), "%s", name);
    if (is_readable) {
        e->head = file.head;
        file.head = (struct snapshot_head){0};
    }
    f->bytes += e->size;
    snapshot_close(&file);
    return 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text);
    size_t m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int look_at(struct snapshot_folder *f, const char *name, int64_t now,
                   struct carat_error *err)
{
    struct os_file_info info;
    int rc = 0;
    if (strncmp(name, NAME_BEGIN, strlen(NAME_BEGIN)) != 0) {
        return 0;
    }
    char *path = path_of(f, name, err);
    if (!path) {
        return CARAT_E_MEMORY;
    }
    bool is_file = os_file_info(&info, path) && !info.is_directory;
    bool is_part = ends_with(name, OS_WRITER_SUFFIX);
    if (is_file && is_part && now - info.used_at / 1000000000 > STALE_SECONDS) {
        os_remove(path); // its writer is dead
    } else if (is_file && ends_with(name, NAME_END) && strlen(name) < SNAPSHOT_NAME_SIZE) {
        size_t i = find(f, name);
        if (i < f->n_entries) {
            f->entries[i].used_at = info.used_at;
        } else {
            rc = add_file(f, name, path, &info, err);
        }
    }
    mem_free(path);
    return rc;
}

// os_list's names are sorted.
static bool is_listed(char **names, size_t n, const char *name)
{
    size_t low = 0;
    while (n > 0) {
        int order = strcmp(name, names[low + n / 2]);
        if (order == 0) {
            return true;
        }
        low += order > 0 ? n / 2 + 1 : 0;
        n = order > 0 ? n - n / 2 - 1 : n / 2;
    }
    return false;
}

int snapshot_folder_scan(struct snapshot_folder *f, struct carat_error *err)
{
    char **names = NULL;
    size_t n = 0;
    int rc = os_list(&names, &n, f->path, NAMES_MAX, err);
    if (rc) {
        return rc;
    }
    for (size_t i = f->n_entries; i > 0; i--) {
        if (!is_listed(names, n, f->entries[i - 1].name)) {
            forget(f, i - 1);
        }
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = look_at(f, names[i], os_unix_time(), err);
    }
    os_list_free(names, n);
    return rc;
}

int snapshot_folder_open(struct snapshot_folder *out, const char *path, uint64_t size_max,
                         const uint8_t identity[HASH_SIZE], struct carat_error *err)
{
    struct snapshot_folder f = {.size_max = size_max};
    memcpy(f.identity, identity, HASH_SIZE);
    make_prefix(&f);
    f.path = mem_strdup(path, err);
    int rc = f.path ? os_make_folder(path, err) : CARAT_E_MEMORY;
    rc = rc ? rc : snapshot_folder_scan(&f, err);
    if (rc) {
        snapshot_folder_close(&f);
        return rc;
    }
    *out = f;
    return 0;
}

void snapshot_folder_close(struct snapshot_folder *f)
{
    for (size_t i = 0; i < f->n_entries; i++) {
        snapshot_head_release(&f->entries[i].head);
    }
    mem_free(f->entries);
    mem_free(f->path);
    *f = (struct snapshot_folder){0};
}

// -----------------------------------------------------------------------------------------
// changing

bool snapshot_folder_touch(struct snapshot_folder *f, size_t i)
{
    struct os_file_info info;
    char *path = path_of(f, f->entries[i].name, NULL);
    bool is_there = path && os_touch(path) && os_file_info(&info, path);
    if (is_there) {
        f->entries[i].used_at = info.used_at;
    }
    mem_free(path);
    return is_there;
}

int snapshot_folder_open_entry(struct snapshot_folder *f, size_t i, struct snapshot *out,
                               struct carat_error *err)
{
    char *path = path_of(f, f->entries[i].name, err);
    int rc = path ? snapshot_open(out, path, err) : CARAT_E_MEMORY;
    if (rc == CARAT_E_FORMAT) {
        snapshot_folder_remove(f, f->entries[i].name);
    } else if (rc == CARAT_E_IO) {
        forget(f, i);
    }
    mem_free(path);
    return rc;
}

// The ones that were not used for longest go.
static void shrink(struct snapshot_folder *f, uint64_t size)
{
    while (f->n_entries > 0 && (f->bytes + f->bytes_coming + size > f->size_max ||
                                f->n_entries + f->n_coming >= SNAPSHOT_FILES_MAX)) {
        size_t oldest = 0;
        for (size_t i = 1; i < f->n_entries; i++) {
            oldest = f->entries[i].used_at < f->entries[oldest].used_at ? i : oldest;
        }
        char name[SNAPSHOT_NAME_SIZE];
        memcpy(name, f->entries[oldest].name, sizeof(name));
        snapshot_folder_remove(f, name);
    }
}

// Whether such a file should be written now, when it is not there.
static bool has_room(const struct snapshot_folder *f, uint64_t size)
{
    bool failed_lately = f->failed_at > 0 && os_seconds() - f->failed_at < PATIENCE_SECONDS;
    return !failed_lately && size <= f->size_max && f->bytes_coming <= f->size_max - size;
}

bool snapshot_folder_lacks(const struct snapshot_folder *f, const struct carat_session *s)
{
    struct snapshot_head head;
    char name[SNAPSHOT_NAME_SIZE];
    if (snapshot_describe(&head, s, NULL) || !has_room(f, snapshot_file_size(&head))) {
        return false;
    }
    make_name(f, &head, name);
    return find(f, name) == f->n_entries;
}

int snapshot_folder_begin(struct snapshot_folder *f, const struct carat_session *s,
                          struct snapshot_coming *out, struct carat_error *err)
{
    struct snapshot_coming c = {.begin = os_seconds()};
    *out = c;
    int rc = snapshot_describe(&c.head, s, err);
    if (rc) {
        return rc;
    }
    uint64_t size = snapshot_file_size(&c.head);
    make_name(f, &c.head, c.name);
    size_t i = find(f, c.name);
    if ((i < f->n_entries && snapshot_folder_touch(f, i)) || !has_room(f, size)) {
        return 0;
    }
    c.path = path_of(f, c.name, err);
    rc = c.path ? snapshot_folder_scan(f, err) : CARAT_E_MEMORY;
    if (rc) {
        f->failed_at = os_seconds();
        mem_free(c.path);
        return rc;
    }
    shrink(f, size);
    f->bytes_coming += size;
    f->n_coming++;
    *out = c;
    return 0;
}

int snapshot_folder_end(struct snapshot_folder *f, struct snapshot_coming *c, int rc,
                        struct carat_error *err)
{
    struct os_file_info info;
    f->bytes_coming -= snapshot_file_size(&c->head);
    f->n_coming--;
    if (rc == 0) {
        f->n_written++;
        log_line(CARAT_LOG_DEBUG, "%s: %zu tokens kept in %.2f s", c->name, c->head.n_tokens,
                 os_seconds() - c->begin);
    }
    if (rc == 0 && find(f, c->name) == f->n_entries && os_file_info(&info, c->path)) {
        rc = add_file(f, c->name, c->path, &info, err);
    }
    f->failed_at = rc ? os_seconds() : 0;
    mem_free(c->path);
    *c = (struct snapshot_coming){0};
    return rc;
}
