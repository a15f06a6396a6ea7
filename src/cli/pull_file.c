// SPDX-License-Identifier: Apache-2.0
#include "cli/pull_file.h"

#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "base/os_file.h"

// Between two entries of the journal, which is what a sudden end costs: often, but writing them
// takes at most a twentieth of the time.
#define JOURNAL_MIN_S 0.05
#define JOURNAL_MAX_S 5.0
#define JOURNAL_SHARE 20.0
#define CHECK_BLOCK   ((size_t)1 << 20)

struct fetch {
    const struct pull_file *what;
    struct os_lock lock;
    struct os_part part;
    struct journal journal;
    struct ranges done;  // in the file
    struct ranges fresh; // of them, those that the journal does not have yet
    double journal_next; // on os_seconds' clock
    struct buf path, part_path, journal_path;
};

static int report(const struct fetch *f, struct carat_error *err)
{
    const struct pull_file *w = f->what;
    bool goes_on = progress_report(w->progress, "downloading",
                                   w->done_before + ranges_total(&f->done), w->total);
    return goes_on ? 0 : fail(err, CARAT_E_STOPPED, "interrupted");
}

// The bytes are on the disk before the journal says that they are.
static int note(struct fetch *f, struct carat_error *err)
{
    int rc = 0;
    double begun = os_seconds();
    if (f->fresh.n) {
        rc = os_part_sync(&f->part, err);
        rc = rc ? rc : journal_add(&f->journal, &f->fresh, err);
        ranges_clear(&f->fresh);
    }
    double now = os_seconds(), pause = (now - begun) * JOURNAL_SHARE;
    pause = pause > JOURNAL_MAX_S ? JOURNAL_MAX_S : pause;
    f->journal_next = now + (pause < JOURNAL_MIN_S ? JOURNAL_MIN_S : pause);
    return rc;
}

static int put(void *user, uint64_t at, const void *data, size_t size, struct carat_error *err)
{
    struct fetch *f = user;
    int rc = os_part_write(&f->part, at, data, size, err);
    rc = rc ? rc : ranges_add(&f->done, at, at + size, err);
    return rc ? rc : ranges_add(&f->fresh, at, at + size, err);
}

static int restart(void *user, struct carat_error *err)
{
    struct fetch *f = user;
    ranges_clear(&f->done);
    ranges_clear(&f->fresh);
    return journal_restart(&f->journal, err);
}

static int tick(void *user, struct carat_error *err)
{
    struct fetch *f = user;
    int rc = report(f, err);
    return rc || os_seconds() < f->journal_next ? rc : note(f, err);
}

static int find_paths(struct fetch *f, struct buf *lock, struct carat_error *err)
{
    const struct store *s = f->what->store;
    const char *id = f->what->file->id;
    int rc = store_blob_path(&f->path, s, id, "", err);
    rc = rc ? rc : store_blob_path(&f->part_path, s, id, ".part", err);
    rc = rc ? rc : store_blob_path(&f->journal_path, s, id, ".journal", err);
    return rc ? rc : store_blob_path(lock, s, id, ".lock", err);
}

// Of several processes that want the same file one fetches it, and the others wait for that.
static int take_lock(struct fetch *f, const char *path, struct carat_error *err)
{
    bool is_said = false;
    int rc = os_lock_try(&f->lock, path, false, err);
    while (rc == 1) {
        if (!is_said && !os_interrupted()) {
            say("another process is downloading %.*s: waiting for it",
                (int)f->what->file->path.size, f->what->file->path.data);
            is_said = true;
        }
        os_pause(100);
        rc = os_interrupted() ? fail(err, CARAT_E_STOPPED, "interrupted")
                              : os_lock_try(&f->lock, path, false, err);
    }
    return rc;
}

static int open_part(struct fetch *f, struct carat_error *err)
{
    uint64_t size = f->what->file->size;
    struct os_file_info info;
    bool is_there = os_file_info(&info, f->part_path.data) && info.size == size;
    if (!is_there) {
        os_remove(f->journal_path.data); // before the file: a journal must not outlive its bytes
    }
    int rc = os_part_open(&f->part, f->part_path.data, err);
    rc = rc ? rc : os_part_resize(&f->part, size, err);
    rc = rc ? rc : journal_open(&f->journal, &f->done, f->journal_path.data, size, err);
    f->journal_next = os_seconds() + JOURNAL_MIN_S;
    return rc;
}

static int download(struct fetch *f, struct http_answer *answer, struct carat_error *err)
{
    const struct pull_file *w = f->what;
    struct http_download d = {.url = w->url,
                              .size = w->file->size,
                              .n_parallel = w->n_parallel,
                              .done = &f->done,
                              .put = put,
                              .restart = restart,
                              .tick = tick,
                              .user = f};
    int rc = report(f, err);
    rc = rc ? rc : http_download(w->http, &d, answer, err);
    // Whatever happened, what has come is remembered.
    int noted = note(f, rc ? NULL : err);
    return rc ? rc : noted;
}

static int compute(struct fetch *f, struct digest *d, void *block, struct carat_error *err)
{
    const struct pull_file *w = f->what;
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < w->file->size;) {
        size_t n = 0;
        rc = os_part_read(&f->part, at, block, CHECK_BLOCK, &n, err);
        if (rc == 0 && n == 0) {
            rc = fail(err, CARAT_E_IO, "%s: became shorter", f->part_path.data);
        }
        rc = rc ? rc : digest_add(d, block, n, err);
        at += n;
        if (rc == 0 && !progress_report(w->progress, "checking", at, w->file->size)) {
            rc = fail(err, CARAT_E_STOPPED, "interrupted");
        }
    }
    return rc;
}

static int check(struct fetch *f, bool *is_right, struct carat_error *err)
{
    struct digest *d = NULL;
    char found[DIGEST_TEXT_MAX] = "";
    void *block = mem_new(CHECK_BLOCK, err);
    int rc = block ? 0 : CARAT_E_MEMORY;
    rc = rc ? rc : digest_new(&d, f->what->file->kind, f->what->file->size, err);
    rc = rc ? rc : compute(f, d, block, err);
    rc = rc ? rc : digest_finish(d, found, err);
    *is_right = rc == 0 && strcmp(found, f->what->file->digest) == 0;
    digest_free(d);
    mem_free(block);
    return rc;
}

// Bytes may be wrong because of the network, or of a disk that lost what it had promised. That is
// tried once more; who sends wrong bytes twice will do so again.
static int fetch_right(struct fetch *f, struct http_answer *answer, struct carat_error *err)
{
    const struct hub_file *file = f->what->file;
    int n = (int)file->path.size;
    for (int tries = 0; tries < 2; tries++) {
        bool is_right = false;
        int rc = download(f, answer, err);
        rc = rc ? rc : check(f, &is_right, err);
        if (rc || is_right) {
            return rc;
        }
        rc = restart(f, err);
        if (rc) {
            return rc;
        }
        if (tries == 0) {
            say("%.*s: the checksum is wrong: fetching it again", n, file->path.data);
        }
    }
    os_remove(f->journal_path.data);
    os_remove(f->part_path.data);
    return fail(err, CARAT_E_FORMAT,
                "%.*s: twice the bytes that came were not those that the hub lists (%s); they were "
                "dropped, the other files are kept, and the next pull fetches this one anew",
                n, file->path.data, file->id);
}

static int finish(struct fetch *f, struct carat_error *err)
{
    int rc = os_part_sync(&f->part, err);
    rc = rc ? rc : os_rename(f->part_path.data, f->path.data, err);
    if (rc == 0) {
        os_remove(f->journal_path.data);
    }
    return rc;
}

int pull_file(const struct pull_file *what, struct http_answer *answer, struct carat_error *err)
{
    struct fetch f = {.what = what};
    struct buf lock = {.max = 1 << 16};
    *answer = (struct http_answer){0};
    f.path.max = f.part_path.max = f.journal_path.max = 1 << 16;
    int rc = find_paths(&f, &lock, err);
    rc = rc ? rc : take_lock(&f, lock.data, err);
    if (rc == 0 && !store_has_blob(what->store, what->file->id, what->file->size)) {
        rc = open_part(&f, err);
        rc = rc ? rc : fetch_right(&f, answer, err);
        rc = rc ? rc : finish(&f, err);
    }
    journal_close(&f.journal);
    os_part_close(&f.part);
    os_lock_release(&f.lock, true);
    ranges_release(&f.done);
    ranges_release(&f.fresh);
    buf_release(&f.path);
    buf_release(&f.part_path);
    buf_release(&f.journal_path);
    buf_release(&lock);
    return rc;
}

uint64_t pull_file_kept(const struct store *store, const struct hub_file *file)
{
    struct buf path = {.max = 1 << 16};
    struct ranges done = {.n = 0};
    uint64_t kept = 0;
    struct os_file_info info;
    if (store_has_blob(store, file->id, file->size)) {
        return file->size;
    }
    bool is_there = store_blob_path(&path, store, file->id, ".part", NULL) == 0 &&
                    os_file_info(&info, path.data) && info.size == file->size;
    buf_clear(&path);
    if (is_there && store_blob_path(&path, store, file->id, ".journal", NULL) == 0) {
        kept = journal_read(&done, path.data, file->size, NULL) ? 0 : ranges_total(&done);
    }
    ranges_release(&done);
    buf_release(&path);
    return kept;
}
