// SPDX-License-Identifier: Apache-2.0
// The output as a journal. Lines are only ever added, and each is on the disk before it counts; a
// last line without its end is one whose writing was cut short, and is written again.
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/batch.h"
#include "formats/json.h"

#define ANSWER_MAX  ((size_t)1 << 30) // bytes of a line
#define LOCK_SUFFIX ".lock"
#define TOLD_MAX    5 // changed lines that the message names

static const char line_begin[] = "{\"id\":\"" BATCH_ID_PREFIX;

// A whole line. False: not one of ours.
static bool read_entry(struct batch_entry *out, const struct buf *line)
{
    struct json_doc *doc = NULL;
    if (json_parse(&doc, buf_text(line), line->size, "answer", NULL)) {
        return false;
    }
    const struct json_value *root = json_root(doc);
    const struct json_value *status = json_get(json_get(root, "response"), "status_code");
    uint64_t code = 0;
    bool is_ours = batch_read_id(json_string(json_get(root, "id")), &out->line, &out->hash) &&
                   json_kind(json_get(root, "error")) != JSON_ABSENT;
    out->has_failed = !json_u64(status, &code) || code != 200;
    json_free(doc);
    return is_ours;
}

// What a cut may leave of a line: its beginning, or zeros where the disk was not reached.
static bool is_torn_line(const struct buf *line)
{
    size_t size = sizeof(line_begin) - 1;
    size = line->size < size ? line->size : size;
    bool is_begin = memcmp(buf_text(line), line_begin, size) == 0;
    size_t n_zeros = 0;
    while (n_zeros < line->size && line->data[n_zeros] == '\0') {
        n_zeros++;
    }
    return is_begin || n_zeros == line->size;
}

static int add_entry(struct batch_journal *j, const struct batch_entry *entry,
                     struct carat_error *err)
{
    if (j->n == j->capacity) {
        size_t n = j->capacity ? 2 * j->capacity : 256, size = 0;
        if (!size_mul(&size, n, sizeof(*j->entries))) {
            return fail(err, CARAT_E_MEMORY, "no memory for %zu answers", n);
        }
        void *grown = j->entries ? mem_resize(j->entries, size, err) : mem_new(size, err);
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        j->entries = grown;
        j->capacity = n;
    }
    j->entries[j->n++] = *entry;
    return 0;
}

static int refuse(const char *path, uint64_t line, struct carat_error *err)
{
    return fail(err, CARAT_E_ARGUMENT,
                "%s: line %llu is no answer of a batch: this file is something else, and is left "
                "as it is; name another output",
                path, (unsigned long long)line);
}

// Reads what is there; copy, if it is not NULL, gets the answers that have not failed.
static int read_past(struct batch_journal *j, const char *path, struct os_writer *copy,
                     struct carat_error *err)
{
    struct batch_lines l = {0};
    bool is_there = true;
    int rc = batch_lines_open(&l, path, ANSWER_MAX, err);
    while (rc == 0 && is_there) {
        struct batch_entry entry;
        rc = batch_lines_next(&l, &is_there, err);
        if (rc || !is_there) {
            break;
        }
        if (l.is_torn) {
            j->was_torn = true;
            rc = is_torn_line(&l.line) ? 0 : refuse(path, l.number, err);
            break;
        }
        if (!read_entry(&entry, &l.line)) {
            rc = refuse(path, l.number, err);
            break;
        }
        if (!copy || !entry.has_failed) {
            rc = add_entry(j, &entry, err);
            j->size = l.end;
            if (rc == 0 && copy) {
                buf_addc(&l.line, '\n');
                rc = buf_status(&l.line, err);
                rc = rc ? rc : os_writer_add(copy, l.line.data, l.line.size, err);
            }
        }
    }
    batch_lines_close(&l);
    return rc;
}

// The file without the answers that have failed takes its place.
static int drop_failed(struct batch_journal *j, const char *path, struct carat_error *err)
{
    struct os_writer copy = {.fd = -1};
    int rc = os_writer_open(&copy, path, err);
    rc = rc ? rc : read_past(j, path, &copy, err);
    rc = rc ? rc : os_writer_finish(&copy, true, err);
    os_writer_close(&copy);
    struct os_file_info info = {0};
    if (rc == 0 && os_file_info(&info, path)) {
        j->size = info.size;
        j->was_torn = false;
    }
    return rc;
}

static int lock(struct batch_journal *j, const char *path, struct carat_error *err)
{
    struct buf name = {0};
    buf_adds(&name, path);
    buf_adds(&name, LOCK_SUFFIX);
    int rc = buf_status(&name, err);
    rc = rc ? rc : os_lock_try(&j->lock, name.data, false, err);
    buf_release(&name);
    return rc <= 0 ? rc
                   : fail(err, CARAT_E_ARGUMENT,
                          "%s: another batch is writing there: wait for it, or name another output",
                          path);
}

int batch_journal_open(struct batch_journal *j, const char *path, enum batch_past past,
                       struct carat_error *err)
{
    struct os_file_info info;
    int rc = lock(j, path, err);
    if (rc == 0 && os_file_info(&info, path)) {
        rc = past == BATCH_RETRY_FAILED ? drop_failed(j, path, err) : read_past(j, path, NULL, err);
    }
    if (rc == 0 && past == BATCH_START_OVER) {
        j->n = 0;
        j->size = 0;
        j->was_torn = false;
    }
    rc = rc ? rc : os_part_open(&j->file, path, err);
    rc = rc ? rc : os_part_resize(&j->file, j->size, err);
    return rc;
}

int batch_journal_match(const struct batch_journal *j, struct batch_table *t, const char *input,
                        const char *output, struct carat_error *err)
{
    struct buf told = {0};
    size_t n = 0;
    for (size_t i = 0; i < j->n; i++) {
        const struct batch_entry *e = &j->entries[i];
        bool is_there = e->line >= 1 && e->line <= t->n;
        uint8_t *state = is_there ? &t->states[e->line - 1] : NULL;
        if (!is_there || *state == BATCH_NO_REQUEST || t->hashes[e->line - 1] != e->hash) {
            if (n++ < TOLD_MAX) {
                buf_addf(&told, "%s%llu", told.size ? ", " : "", (unsigned long long)e->line);
            }
        } else if (*state == BATCH_OPEN) {
            *state = BATCH_DONE;
            t->n_done++;
            t->n_failed += e->has_failed;
        }
    }
    if (n > TOLD_MAX) {
        buf_addf(&told, " and %zu more", n - TOLD_MAX);
    }
    int rc = n ? fail(err, CARAT_E_ARGUMENT,
                      "%s has changed since %s was begun, in lines that are answered already: %s. "
                      "Name another output, or begin anew with --restart",
                      input, output, buf_text(&told))
               : 0;
    buf_release(&told);
    return rc;
}

int batch_journal_add(struct batch_journal *j, const struct buf *line, struct carat_error *err)
{
    int rc = buf_status(line, err);
    rc = rc ? rc : os_part_write(&j->file, j->size, line->data, line->size, err);
    if (rc) {
        os_part_resize(&j->file, j->size, NULL); // what is there of it is of no use
        return rc;
    }
    j->size += line->size;
    return 0;
}

int batch_journal_sync(struct batch_journal *j, struct carat_error *err)
{
    return os_part_sync(&j->file, err);
}

void batch_journal_close(struct batch_journal *j)
{
    os_part_close(&j->file);
    os_lock_release(&j->lock, true);
    mem_free(j->entries);
    *j = (struct batch_journal){0};
}
