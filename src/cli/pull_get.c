// SPDX-License-Identifier: Apache-2.0
// carat pull REPO[:TYPE]: from the list of the hub to a name in the store.
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "cli/pull.h"
#include "cli/pull_account.h"
#include "cli/pull_file.h"
#include "cli/pull_fit.h"
#include "cli/pull_plan.h"

#define PARALLEL_DEFAULT 4
#define PATIENCE_DEFAULT 30
#define TRIES_DEFAULT    10
#define DISK_SPARE       ((uint64_t)256 << 20) // that a pull leaves to others

struct pull {
    const struct pull_options *options;
    const struct store *store;
    struct output *out;
    struct buf repo; // "OWNER/REPO"
    const char *type;
    struct pull_account account;
    struct http *http;
    struct hub hub;
    struct hub_repo found;
    struct plan plan;
    struct os_lock lock;
    struct progress progress;
    struct buf path; // of the model
};

static int read_word(struct pull *p, const char *word, struct carat_error *err)
{
    const char *colon = strchr(word, ':');
    struct slice repo = slice_make(word, colon ? (size_t)(colon - word) : strlen(word));
    if (!store_is_repo(repo) || (colon && !store_is_part(slice_of(colon + 1)))) {
        return fail(err, CARAT_E_ARGUMENT,
                    "pull: expected OWNER/REPO or OWNER/REPO:TYPE, as in "
                    "unsloth/gemma-4-12b-it-GGUF:Q4_K_M; found '%.200s'",
                    word);
    }
    buf_add_slice(&p->repo, repo);
    p->type = colon ? colon + 1 : NULL;
    return buf_status(&p->repo, err);
}

static uint64_t or_default(const struct option_count *o, uint64_t value)
{
    return o->is_set ? o->value : value;
}

// Without the network only what is there already can be had.
static int answer_offline(struct pull *p, const char *word, struct carat_error *err)
{
    struct store_models models = {.n = 0};
    const struct store_model *m = NULL;
    int rc = store_read(&models, p->store, err);
    rc = rc ? rc : store_find(&m, &models, word, err);
    if (rc == 0 && !m) {
        rc = fail(err, CARAT_E_IO, "%s: is not in the store, and nothing is fetched offline", word);
    }
    if (rc == 0) {
        output_format(p->out, "%s\n", m->path);
    }
    store_models_release(&models);
    return rc;
}

static int open_hub(struct pull *p, struct carat_error *err)
{
    const struct pull_options *o = p->options;
    if (!http_is_built() || !digest_is_built()) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "pull: this build lacks %s and downloads nothing: fetch the files from %s/%s "
                    "by other means and give their path as MODEL, or install %s and build again",
                    http_is_built() ? "libcrypto" : "libcurl", p->account.endpoint, p->repo.data,
                    http_is_built() ? "libssl-dev" : "libcurl4-openssl-dev");
    }
    struct http_options http = {.endpoint = p->account.endpoint,
                                .token = p->account.token,
                                .patience_s = (size_t)or_default(&o->patience, PATIENCE_DEFAULT),
                                .n_tries = (size_t)or_default(&o->tries, TRIES_DEFAULT)};
    p->hub = (struct hub){.endpoint = p->account.endpoint,
                          .repo = p->repo.data,
                          .revision = o->revision ? o->revision : "main",
                          .has_token = p->account.token != NULL};
    return http_open(&p->http, &http, err);
}

static int make_plan(struct pull *p, struct carat_error *err)
{
    struct plan_options options = {.type = p->type,
                                   .memory = fit_room(),
                                   .no_projector = p->options->no_projector,
                                   .no_drafter = p->options->no_drafter};
    int rc = hub_read(&p->found, p->http, &p->hub, err);
    rc = rc ? rc : plan_make(&p->plan, p->repo.data, &p->found, &options, err);
    if (rc == 0 && !p->type && p->plan.n_others && !p->options->is_quiet) {
        say_plain("[%s:%s is taken of %zu types; %s:TYPE takes another]", p->repo.data,
                  p->plan.type, p->plan.n_others + 1, p->repo.data);
    }
    return rc;
}

// Bytes that are still to come. A file that is listed under two names comes once.
static uint64_t missing_size(const struct pull *p)
{
    uint64_t missing = 0;
    for (size_t i = 0; i < p->plan.n_files; i++) {
        const struct hub_file *f = p->plan.files[i].file;
        bool is_twin = false;
        for (size_t k = 0; k < i; k++) {
            is_twin |= strcmp(p->plan.files[k].file->id, f->id) == 0;
        }
        missing += is_twin ? 0 : f->size - pull_file_kept(p->store, f);
    }
    return missing;
}

// The store may not be there yet: then the nearest folder above it counts.
static uint64_t disk_free(const struct store *store)
{
    struct buf path = {.max = 1 << 16};
    buf_adds(&path, store->folder);
    while (!path.has_failed && path.size > 1 && !os_is_directory(path.data)) {
        char *slash = strrchr(path.data, '/');
        path.size = slash && slash > path.data ? (size_t)(slash - path.data) : 1;
        path.data[0] = slash ? path.data[0] : '.';
        path.data[path.size] = '\0';
    }
    uint64_t room = os_disk_free(buf_text(&path));
    buf_release(&path);
    return room;
}

static int check_disk(const struct pull *p, struct carat_error *err)
{
    uint64_t missing = missing_size(p), room = disk_free(p->store);
    if (missing && room != UINT64_MAX && (room < DISK_SPARE || missing > room - DISK_SPARE)) {
        return fail(err, CARAT_E_FULL,
                    "%s:%s: %s are to be fetched, and only %s are free in %s (%s stay free): make "
                    "room, or set CARAT_HOME to a folder on another disk",
                    p->repo.data, p->plan.type, size_text(missing).text, size_text(room).text,
                    p->store->folder, size_text(DISK_SPARE).text);
    }
    return 0;
}

// --------------------------------------------------------------------------------------- dry run

static void add_files(const struct pull *p, struct buf *out)
{
    for (size_t i = 0; i < p->plan.n_files; i++) {
        const struct plan_file *f = &p->plan.files[i];
        uint64_t kept = pull_file_kept(p->store, f->file);
        buf_addf(out, "  %-44s%10s  %s%s\n", f->name, size_text(f->file->size).text,
                 plan_role_name(f->role),
                 kept == f->file->size ? ", is there"
                 : kept                ? ", partly there"
                                       : "");
    }
}

static void add_fit(const struct fit *fit, uint64_t size, struct buf *out)
{
    uint64_t all = os_memory_total();
    if (fit->n == 0) {
        buf_addf(out, "Memory: cannot be computed (%s); by the files' size at least %s%s\n",
                 fit->reason.text, size_text(size).text,
                 all && size > all ? ": it does not fit" : "");
        return;
    }
    buf_addf(out, "Memory, with the kv cache as f16%s%s\n", all ? ", of " : "",
             all ? size_text(all).text : "");
    for (size_t i = 0; i < fit->n; i++) {
        const struct carat_memory *m = &fit->rows[i];
        buf_addf(out, "%12s tokens%12s  %s\n", count_text(m->context_max).text,
                 size_text(m->total).text,
                 !all              ? ""
                 : m->total <= all ? "fits"
                                   : "does not fit");
    }
}

static void add_json(const struct pull *p, const struct fit *fit, struct buf *out)
{
    uint64_t room = disk_free(p->store), all = os_memory_total();
    buf_addf(out, "{\"name\":\"%s:%s\",\"commit\":\"%s\",\"files\":[", p->repo.data, p->plan.type,
             p->found.commit);
    for (size_t i = 0; i < p->plan.n_files; i++) {
        const struct plan_file *f = &p->plan.files[i];
        buf_addf(out, "%s{\"name\":\"%s\",\"role\":\"%s\",\"size\":%" PRIu64 ",\"kept\":%" PRIu64,
                 i ? "," : "", f->name, plan_role_name(f->role), f->file->size,
                 pull_file_kept(p->store, f->file));
        buf_addf(out, ",\"id\":\"%s\"}", f->file->id);
    }
    buf_addf(out, "],\"size\":%" PRIu64 ",\"missing\":%" PRIu64, p->plan.size, missing_size(p));
    if (room != UINT64_MAX) {
        buf_addf(out, ",\"disk_free\":%" PRIu64, room);
    }
    buf_addf(out, ",\"memory_total\":%" PRIu64 ",\"memory\":[", all);
    for (size_t i = 0; i < fit->n; i++) {
        const struct carat_memory *m = &fit->rows[i];
        buf_addf(out, "%s{\"context\":%zu,\"total\":%" PRIu64 ",\"fits\":%s}", i ? "," : "",
                 m->context_max, m->total, !all || m->total <= all ? "true" : "false");
    }
    buf_adds(out, "]");
    if (fit->n == 0) {
        buf_adds(out, ",\"reason\":");
        buf_add_json(out, fit->reason.text, strlen(fit->reason.text));
    }
    buf_adds(out, "}\n");
}

static int show(const struct pull *p, struct carat_error *err)
{
    struct fit fit = {.n = 0};
    struct buf text = {.max = (size_t)16 << 20};
    uint64_t room = disk_free(p->store);
    int rc = fit_remote(&fit, p->store, p->http, &p->hub, &p->found, &p->plan, err);
    if (rc == 0 && p->options->is_json) {
        add_json(p, &fit, &text);
    } else if (rc == 0) {
        buf_addf(&text, "%s:%s\n", p->repo.data, p->plan.type);
        add_files(p, &text);
        buf_addf(&text, "To fetch: %s of %s", size_text(missing_size(p)).text,
                 size_text(p->plan.size).text);
        if (room != UINT64_MAX) {
            buf_addf(&text, "; free in %s: %s", p->store->folder, size_text(room).text);
        }
        buf_addc(&text, '\n');
        add_fit(&fit, p->plan.size, &text);
    }
    rc = rc ? rc : buf_status(&text, err);
    if (rc == 0) {
        output_foreign(p->out, buf_text(&text), text.size);
        rc = check_disk(p, err);
    }
    buf_release(&text);
    return rc;
}

// ---------------------------------------------------------------------------------------- pulling

static int fetch_one(struct pull *p, size_t i, uint64_t *done, uint64_t total,
                     struct carat_error *err)
{
    const struct plan_file *f = &p->plan.files[i];
    struct buf url = {.max = 1 << 16};
    struct http_answer answer = {0};
    int rc = hub_file_url(&url, &p->hub, &p->found, f->file->path, err);
    struct pull_file what = {.store = p->store,
                             .http = p->http,
                             .file = f->file,
                             .url = url.data,
                             .n_parallel =
                                 (size_t)or_default(&p->options->parallel, PARALLEL_DEFAULT),
                             .progress = &p->progress,
                             .done_before = *done,
                             .total = total};
    bool was_there = store_has_blob(p->store, f->file->id, f->file->size);
    rc = rc ? rc : pull_file(&what, &answer, err);
    if (rc == CARAT_E_IO && answer.status) {
        rc = hub_explain(&p->hub, &answer, err);
    }
    *done += f->file->size;
    if (rc == 0 && !p->options->is_quiet && !was_there) {
        progress_end(&p->progress);
        say_plain("[%zu of %zu: %s, %s]", i + 1, p->plan.n_files, f->name,
                  size_text(f->file->size).text);
    }
    buf_release(&url);
    return rc;
}

static int fetch_all(struct pull *p, struct carat_error *err)
{
    uint64_t done = 0;
    int rc = 0;
    for (size_t i = 0; i < p->plan.n_files && rc == 0; i++) {
        rc = fetch_one(p, i, &done, p->plan.size, err);
    }
    progress_end(&p->progress);
    if (rc) {
        uint64_t left = missing_size(p);
        if (!p->options->is_quiet && left < p->plan.size) {
            say_plain("[%s of %s are kept: the same command goes on from there]",
                      size_text(p->plan.size - left).text, size_text(p->plan.size).text);
        }
    }
    return rc;
}

static int give_name(struct pull *p, struct carat_error *err)
{
    struct store_model m = {.repo = p->repo.data,
                            .type = p->plan.type,
                            .commit = p->found.commit,
                            .model = p->plan.model,
                            .n_files = p->plan.n_files};
    struct store_file *files = mem_new_array(m.n_files, sizeof(*files), err);
    if (!files) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < m.n_files; i++) {
        const struct plan_file *f = &p->plan.files[i];
        files[i] = (struct store_file){.name = f->name, .id = f->file->id, .size = f->file->size};
    }
    m.files = files;
    int rc = store_commit(p->store, &m, &p->path, err);
    mem_free(files);
    return rc;
}

// What an older version of the model used and the new one does not. It does not matter when that
// cannot be done now.
static void sweep_after(struct pull *p)
{
    uint64_t freed = 0;
    os_lock_release(&p->lock, false);
    if (store_lock(&p->lock, p->store, false, NULL) == 0) {
        store_sweep(p->store, false, &freed, NULL);
    }
    os_lock_release(&p->lock, false);
}

static void say_fit(const struct pull *p)
{
    struct fit fit;
    uint64_t all = os_memory_total(), context = 0;
    fit_estimate(&fit, p->path.data, NULL);
    for (size_t i = 0; i < fit.n; i++) {
        context = !all || fit.rows[i].total <= all ? fit.rows[i].context_max : context;
    }
    if (fit.n == 0) {
        say("warning: carat cannot run this model: %s", fit.reason.text);
    } else if (context == 0) {
        say("warning: this takes %s and the machine has %s: a smaller type would fit",
            size_text(fit.rows[0].total).text, size_text(all).text);
    } else {
        say_plain("[fits into memory with up to %s tokens; try: carat run %s:%s \"Hello\"]",
                  count_text(context).text, p->repo.data, p->plan.type);
    }
}

static int take_shared(struct pull *p, struct carat_error *err)
{
    int rc = store_lock(&p->lock, p->store, true, err);
    while (rc == 1) { // somebody removes files: that takes no time
        os_pause(50);
        rc = os_interrupted() ? fail(err, CARAT_E_STOPPED, "interrupted")
                              : store_lock(&p->lock, p->store, true, err);
    }
    return rc;
}

static int get(struct pull *p, struct carat_error *err)
{
    int rc = take_shared(p, err);
    rc = rc ? rc : check_disk(p, err);
    rc = rc ? rc : fetch_all(p, err);
    rc = rc ? rc : give_name(p, err);
    if (rc == 0) {
        sweep_after(p);
        if (!p->options->is_quiet) {
            say_fit(p);
        }
        output_format(p->out, "%s\n", p->path.data);
    }
    return rc;
}

int pull_get(const struct pull_options *o, const struct store *store, const char *word,
             struct output *out)
{
    struct carat_error err = {0};
    struct pull p = {.options = o, .store = store, .out = out};
    p.repo.max = 1000;
    p.path.max = 1 << 16;
    p.progress.is_visible = out->errors_are_terminal && !o->is_quiet;
    p.progress.is_bytes = true;
    os_catch_interrupt();
    int rc = pull_account_find(&p.account, &err);
    bool is_offline = rc == 0 && (o->is_offline || p.account.is_offline);
    if (is_offline) {
        rc = answer_offline(&p, word, &err);
    } else {
        rc = rc ? rc : read_word(&p, word, &err);
        rc = rc ? rc : open_hub(&p, &err);
        rc = rc ? rc : make_plan(&p, &err);
        rc = rc ? rc : (o->is_dry ? show(&p, &err) : get(&p, &err));
    }
    progress_end(&p.progress);
    os_lock_release(&p.lock, false);
    plan_release(&p.plan);
    hub_release(&p.found);
    http_close(p.http);
    pull_account_release(&p.account);
    buf_release(&p.repo);
    buf_release(&p.path);
    if (rc == CARAT_E_STOPPED) {
        return EXIT_INTERRUPTED;
    }
    return rc ? say_error(&err) : EXIT_OK;
}
