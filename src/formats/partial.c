// SPDX-License-Identifier: Apache-2.0
// The journal is a head (magic, key, check) and steps of one size, each with a check of its own:
// one that was torn when its writer ended counts as not written. A step also has a hash of its
// bytes, and who goes on reads them again: after a power cut the journal may be ahead of the file.
#include "formats/partial.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/os_file.h"

#define MAGIC     "caratpt2"            // changes with the layout
#define HEAD_SIZE 32                    // magic, key, check
#define STEP_SIZE 48                    // size, figures, hash, check
#define SYNC_SIZE ((uint64_t)256 << 20) // the disk is told to take what it has
#define READ_SIZE ((size_t)1 << 20)

// at: where in the journal; a line that strayed to another place is none.
static uint64_t check_of(const void *data, size_t size, uint64_t at)
{
    struct hash h;
    hash_init(&h, NULL);
    hash_add(&h, data, size);
    hash_add_u64(&h, at);
    return hash_u64(&h);
}

// A name beside the file's.
static char *beside(const char *path, const char *suffix, struct carat_error *err)
{
    size_t room = strlen(path) + strlen(suffix) + 1;
    char *name = mem_new(room, err);
    if (name) {
        snprintf(name, room, "%s%s", path, suffix);
    }
    return name;
}

static void make_head(uint8_t head[HEAD_SIZE], const uint8_t key[HASH_SIZE])
{
    memcpy(head, MAGIC, 8);
    memcpy(head + 8, key, HASH_SIZE);
    uint64_t check = check_of(head, 24, 0);
    memcpy(head + 24, &check, 8);
}

// 1: there is no journal, or not even its head was written.
static int read_head(struct os_part *journal, const uint8_t key[HASH_SIZE], bool *is_ours,
                     struct carat_error *err)
{
    uint8_t head[HEAD_SIZE];
    uint8_t want[HEAD_SIZE];
    size_t n = 0;
    int rc = os_part_read(journal, 0, head, sizeof(head), &n, err);
    if (rc) {
        return rc;
    }
    uint64_t check = check_of(head, 24, 0);
    if (n < HEAD_SIZE || memcmp(head, MAGIC, 8) != 0 || memcmp(&check, head + 24, 8) != 0) {
        return 1;
    }
    make_head(want, key);
    *is_ours = memcmp(head, want, HEAD_SIZE) == 0;
    return 0;
}

static int keep_step(struct partial *p, const struct partial_step *step, struct carat_error *err)
{
    if (p->n_steps % 256 == 0) {
        struct partial_step *steps = mem_resize(p->steps, (p->n_steps + 256) * sizeof(*steps), err);
        if (!steps) {
            return CARAT_E_MEMORY;
        }
        p->steps = steps;
    }
    p->steps[p->n_steps++] = *step;
    return 0;
}

// Whether the file holds the bytes that the step was entered for.
static int check_content(struct partial *p, const struct partial_step *step, bool *is_good,
                         struct carat_error *err)
{
    uint8_t *block = mem_new(READ_SIZE, err);
    struct hash h;
    int rc = block ? 0 : CARAT_E_MEMORY;
    hash_init(&h, NULL);
    for (uint64_t at = p->at; rc == 0 && at < step->size;) {
        uint64_t left = step->size - at;
        size_t n = 0;
        rc =
            os_part_read(&p->file, at, block, left < READ_SIZE ? (size_t)left : READ_SIZE, &n, err);
        if (rc || n == 0) {
            break;
        }
        hash_add(&h, block, n);
        at += n;
    }
    *is_good = rc == 0 && hash_u64(&h) == step->content;
    mem_free(block);
    return rc;
}

static int read_steps(struct partial *p, uint64_t file_size, struct carat_error *err)
{
    int rc = 0;
    while (rc == 0 && p->n_steps < PARTIAL_STEPS_MAX) {
        uint8_t bytes[STEP_SIZE];
        struct partial_step step;
        size_t n = 0;
        bool is_good = false;
        uint64_t at = HEAD_SIZE + p->n_steps * STEP_SIZE;
        rc = os_part_read(&p->journal, at, bytes, STEP_SIZE, &n, err);
        uint64_t check = check_of(bytes, STEP_SIZE - 8, at);
        memcpy(&step, bytes, sizeof(step));
        if (rc || n < STEP_SIZE || memcmp(&check, bytes + STEP_SIZE - 8, 8) != 0 ||
            step.size > file_size || step.size < p->at) {
            break;
        }
        rc = check_content(p, &step, &is_good, err);
        if (rc || !is_good) {
            break;
        }
        rc = keep_step(p, &step, err);
        p->at = step.size;
    }
    return rc;
}

static int begin(struct partial *p, const uint8_t key[HASH_SIZE], struct carat_error *err)
{
    uint8_t head[HEAD_SIZE];
    make_head(head, key);
    int rc = os_part_resize(&p->journal, 0, err);
    rc = rc ? rc : os_part_resize(&p->file, 0, err);
    return rc ? rc : os_part_write(&p->journal, 0, head, sizeof(head), err);
}

static int open_files(struct partial *p, const uint8_t key[HASH_SIZE], bool drops_other,
                      struct carat_error *err)
{
    char *part = beside(p->path, PARTIAL_SUFFIX, err);
    char *journal = part ? beside(p->path, PARTIAL_JOURNAL, err) : NULL;
    char *lock = journal ? beside(p->path, PARTIAL_LOCK, err) : NULL;
    struct os_file_info info = {0};
    bool is_ours = false;
    int rc = lock ? 0 : CARAT_E_MEMORY;
    if (rc) {
        goto out;
    }
    rc = os_lock_try(&p->lock, lock, false, err);
    if (rc) {
        rc = rc < 0 ? rc
                    : fail(err, CARAT_E_ARGUMENT, "%s: another process is making it right now",
                           p->path);
        goto out;
    }
    rc = os_part_open(&p->journal, journal, err);
    if (rc) {
        goto out;
    }
    rc = read_head(&p->journal, key, &is_ours, err);
    if (rc < 0) {
        goto out;
    }
    if (rc == 0 && !is_ours && !drops_other) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "%s" PARTIAL_SUFFIX ": was begun from another source or with other options: "
                  "finish it with those, remove it, or begin anew by force",
                  p->path);
        goto out;
    }
    rc = os_part_open(&p->file, part, err);
    if (rc) {
        goto out;
    }
    p->is_resumed = is_ours && os_file_info(&info, part);
    rc = p->is_resumed ? read_steps(p, info.size, err) : begin(p, key, err);
    // What comes after the last step was not finished.
    rc = rc ? rc : os_part_resize(&p->file, p->at, err);
    p->is_resumed = p->is_resumed && p->n_steps > 0;
    hash_init(&p->content, NULL);
out:
    mem_free(part);
    mem_free(journal);
    mem_free(lock);
    return rc;
}

int partial_open(struct partial *out, const char *path, const uint8_t key[HASH_SIZE],
                 bool drops_other, struct carat_error *err)
{
    struct partial p = {.path = mem_strdup(path, err)};
    int rc = p.path ? open_files(&p, key, drops_other, err) : CARAT_E_MEMORY;
    if (rc) {
        partial_close(&p);
        return rc;
    }
    *out = p;
    return 0;
}

int partial_add(struct partial *p, const void *data, size_t size, struct carat_error *err)
{
    int rc = os_part_write(&p->file, p->at, data, size, err);
    if (rc == 0) {
        hash_add(&p->content, data, size);
        p->at += size;
        p->unsynced += size;
    }
    return rc;
}

int partial_zeros(struct partial *p, uint64_t size, struct carat_error *err)
{
    static const uint8_t zeros[4096];
    int rc = 0;
    while (rc == 0 && size > 0) {
        size_t n = size < sizeof(zeros) ? (size_t)size : sizeof(zeros);
        rc = partial_add(p, zeros, n, err);
        size -= n;
    }
    return rc;
}

int partial_step(struct partial *p, const double figures[3], struct carat_error *err)
{
    struct partial_step step = {.size = p->at, .content = hash_u64(&p->content)};
    uint8_t bytes[STEP_SIZE];
    _Static_assert(sizeof(step) == STEP_SIZE - 8, "as stored");
    memcpy(step.figures, figures, sizeof(step.figures));
    memcpy(bytes, &step, sizeof(step));
    uint64_t at = HEAD_SIZE + p->n_steps * STEP_SIZE;
    uint64_t check = check_of(bytes, sizeof(step), at);
    memcpy(bytes + sizeof(step), &check, 8);
    int rc = p->n_steps < PARTIAL_STEPS_MAX
                 ? os_part_write(&p->journal, at, bytes, sizeof(bytes), err)
                 : fail(err, CARAT_E_FULL, "%s: more than %d parts", p->path, PARTIAL_STEPS_MAX);
    rc = rc ? rc : keep_step(p, &step, err);
    hash_init(&p->content, NULL);
    if (rc == 0 && p->unsynced >= SYNC_SIZE) {
        p->unsynced = 0;
        rc = os_part_sync(&p->file, err);
    }
    return rc;
}

int partial_finish(struct partial *p, struct carat_error *err)
{
    char *part = beside(p->path, PARTIAL_SUFFIX, err);
    char *journal = part ? beside(p->path, PARTIAL_JOURNAL, err) : NULL;
    int rc = journal ? os_share(part, err) : CARAT_E_MEMORY;
    rc = rc ? rc : os_part_sync(&p->file, err);
    if (rc == 0) {
        os_part_close(&p->file);
        rc = os_rename(part, p->path, err);
    }
    if (rc == 0) {
        os_part_close(&p->journal);
        os_remove(journal);
    }
    mem_free(part);
    mem_free(journal);
    return rc;
}

void partial_close(struct partial *p)
{
    os_part_close(&p->file);
    os_part_close(&p->journal);
    if (p->lock.path) {
        os_lock_release(&p->lock, true);
    }
    mem_free(p->steps);
    mem_free(p->path);
    *p = (struct partial){0};
}

bool partial_was_finished(const char *path, const uint8_t key[HASH_SIZE])
{
    char *part = beside(path, PARTIAL_SUFFIX, NULL);
    char *name = beside(path, PARTIAL_JOURNAL, NULL);
    struct os_part journal = {0};
    bool is_ours = false;
    bool is_finished = part && name && os_is_file(path) && os_is_file(name) && !os_exists(part) &&
                       os_part_open(&journal, name, NULL) == 0 &&
                       read_head(&journal, key, &is_ours, NULL) == 0 && is_ours;
    os_part_close(&journal);
    if (is_finished) {
        os_remove(name);
    }
    mem_free(part);
    mem_free(name);
    return is_finished;
}
