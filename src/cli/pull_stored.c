// SPDX-License-Identifier: Apache-2.0
// carat pull --list, --remove and --clean: what is in the store.
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/map.h"
#include "cli/pull.h"

// Bytes of all files, those that several models share counted once.
static uint64_t total_size(const struct store_models *models)
{
    struct map seen = {0};
    uint64_t total = 0;
    for (size_t i = 0; i < models->n; i++) {
        for (size_t k = 0; k < models->items[i].n_files; k++) {
            const struct store_file *f = &models->items[i].files[k];
            uint32_t existing = MAP_NONE;
            if (map_put(&seen, slice_of(f->id), 0, &existing, NULL) || existing == MAP_NONE) {
                total += f->size;
            }
        }
    }
    map_release(&seen);
    return total;
}

static void add_date(struct buf *out, int64_t ns)
{
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm parts;
    char text[32] = "";
    if (gmtime_r(&seconds, &parts)) {
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
    buf_adds(out, text);
}

static void add_table(const struct store_models *models, struct buf *out)
{
    size_t width = 4;
    for (size_t i = 0; i < models->n; i++) {
        size_t n = strlen(models->items[i].name);
        width = n > width ? n : width;
    }
    for (size_t i = 0; i < models->n; i++) {
        const struct store_model *m = &models->items[i];
        buf_addf(out, "%-*s%10s  %zu file%s  ", (int)width, m->name, size_text(m->size).text,
                 m->n_files, m->n_files == 1 ? " " : "s");
        add_date(out, m->pulled_at);
        buf_addc(out, '\n');
    }
}

static void add_json(const struct store_models *models, size_t n_unfinished, uint64_t unfinished,
                     const struct store *store, struct buf *out)
{
    buf_adds(out, "{\"folder\":");
    buf_add_json(out, store->folder, strlen(store->folder));
    buf_adds(out, ",\"models\":[");
    for (size_t i = 0; i < models->n; i++) {
        const struct store_model *m = &models->items[i];
        buf_addf(out, "%s{\"name\":\"%s\",\"path\":", i ? "," : "", m->name);
        buf_add_json(out, m->path, strlen(m->path));
        buf_addf(out, ",\"size\":%" PRIu64 ",\"commit\":", m->size);
        buf_add_json(out, m->commit, strlen(m->commit));
        buf_adds(out, ",\"pulled_at\":\"");
        add_date(out, m->pulled_at);
        buf_adds(out, "\",\"files\":[");
        for (size_t k = 0; k < m->n_files; k++) {
            buf_addf(out, "%s{\"name\":\"%s\",\"size\":%" PRIu64 ",\"id\":\"%s\"}", k ? "," : "",
                     m->files[k].name, m->files[k].size, m->files[k].id);
        }
        buf_adds(out, "]}");
    }
    buf_addf(out, "],\"size\":%" PRIu64 ",\"unfinished\":{\"files\":%zu,\"size\":%" PRIu64 "}}\n",
             total_size(models), n_unfinished, unfinished);
}

int pull_list(const struct pull_options *o, const struct store *store, struct output *out)
{
    struct carat_error err;
    struct store_models models = {.n = 0};
    struct buf text = {.max = (size_t)64 << 20};
    size_t n_unfinished = 0;
    uint64_t unfinished = 0;
    int rc = store_read(&models, store, &err);
    if (rc == 0) {
        store_count_unfinished(store, &n_unfinished, &unfinished);
        if (o->is_json) {
            add_json(&models, n_unfinished, unfinished, store, &text);
        } else {
            add_table(&models, &text);
        }
        rc = buf_status(&text, &err);
    }
    if (rc == 0) {
        output_write(out, buf_text(&text), text.size);
    }
    if (rc == 0 && !o->is_json && !o->is_quiet) {
        say_plain("[%zu model%s, %s in %s]", models.n, models.n == 1 ? "" : "s",
                  size_text(total_size(&models)).text, store->folder);
        if (n_unfinished) {
            say_plain("[%zu unfinished download%s, %s: pulled again they go on; carat pull --clean "
                      "drops them]",
                      n_unfinished, n_unfinished == 1 ? "" : "s", size_text(unfinished).text);
        }
    }
    buf_release(&text);
    store_models_release(&models);
    return rc ? say_error(&err) : EXIT_OK;
}

// Without a type only if there is no doubt about which.
static int find_one(const struct store_model **out, const struct store_models *models,
                    const char *word, struct carat_error *err)
{
    int rc = store_find(out, models, word, err);
    if (rc) {
        return rc;
    }
    if (!*out) {
        return fail(err, CARAT_E_ARGUMENT, "%s: no such model was pulled (carat pull --list)",
                    word);
    }
    for (size_t i = 0; i < models->n && !strchr(word, ':'); i++) {
        const struct store_model *m = &models->items[i];
        if (m != *out && strcmp(m->repo, (*out)->repo) == 0) {
            return fail(err, CARAT_E_ARGUMENT, "%s: may mean %s or %s: name one of them", word,
                        (*out)->name, m->name);
        }
    }
    return 0;
}

// Files that nothing uses are removed when no other process is at work on the store; else the next
// one does it.
static int sweep(const struct store *store, bool drops_unfinished, uint64_t *freed,
                 struct carat_error *err)
{
    struct os_lock lock = {.path = NULL};
    *freed = 0;
    int rc = store_lock(&lock, store, false, err);
    if (rc == 0) {
        rc = store_sweep(store, drops_unfinished, freed, err);
    }
    os_lock_release(&lock, false);
    return rc;
}

int pull_remove(const struct pull_options *o, const struct store *store, struct output *out)
{
    struct carat_error err;
    struct store_models models = {.n = 0};
    const struct store_model *m = NULL;
    uint64_t freed = 0;
    (void)out;
    int rc = store_read(&models, store, &err);
    rc = rc ? rc : find_one(&m, &models, o->removed, &err);
    rc = rc ? rc : store_remove(store, m, &err);
    if (rc == 0) {
        rc = sweep(store, false, &freed, &err);
        if (rc >= 0 && !o->is_quiet) {
            say_plain("[removed %s, %s freed%s]", m->name, size_text(freed).text,
                      rc == 1 ? "; another carat pull is running, files go when the next one ends"
                              : "");
        }
    }
    store_models_release(&models);
    return rc < 0 ? say_error(&err) : EXIT_OK;
}

int pull_clean(const struct pull_options *o, const struct store *store)
{
    struct carat_error err;
    uint64_t freed = 0;
    int rc = sweep(store, true, &freed, &err);
    if (rc == 1) {
        rc = fail(&err, CARAT_E_IO, "another carat pull is running: its files stay");
    }
    if (rc == 0 && !o->is_quiet) {
        say_plain("[%s freed]", size_text(freed).text);
    }
    return rc ? say_error(&err) : EXIT_OK;
}
