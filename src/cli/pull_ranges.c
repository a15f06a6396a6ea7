// SPDX-License-Identifier: Apache-2.0
#include "cli/pull_ranges.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/str.h"

#define JOURNAL_MAX   ((size_t)16 << 20)
#define JOURNAL_TITLE "carat-journal-1"

// ------------------------------------------------------------------------------------------ sets

int ranges_add(struct ranges *set, uint64_t begin, uint64_t end, struct carat_error *err)
{
    if (begin >= end) {
        return 0;
    }
    // Those in [first, last) touch the new one and are joined with it.
    size_t first = 0;
    while (first < set->n && set->items[first].end < begin) {
        first++;
    }
    size_t last = first;
    while (last < set->n && set->items[last].begin <= end) {
        begin = set->items[last].begin < begin ? set->items[last].begin : begin;
        end = set->items[last].end > end ? set->items[last].end : end;
        last++;
    }
    if (last == first && set->n == set->capacity) {
        size_t capacity = set->capacity ? set->capacity * 2 : 16;
        struct range *items = set->items ? mem_resize(set->items, capacity * sizeof(*items), err)
                                         : mem_new_array(capacity, sizeof(*items), err);
        if (!items) {
            return CARAT_E_MEMORY;
        }
        set->items = items;
        set->capacity = capacity;
    }
    memmove(set->items + first + 1, set->items + last, (set->n - last) * sizeof(*set->items));
    set->items[first] = (struct range){.begin = begin, .end = end};
    set->n = set->n + 1 - (last - first);
    return 0;
}

uint64_t ranges_total(const struct ranges *set)
{
    uint64_t total = 0;
    for (size_t i = 0; i < set->n; i++) {
        total += set->items[i].end - set->items[i].begin;
    }
    return total;
}

bool ranges_gap(const struct ranges *set, uint64_t from, uint64_t size, struct range *out)
{
    struct range gap = {.begin = from, .end = size};
    for (size_t i = 0; i < set->n; i++) {
        const struct range *r = &set->items[i];
        if (r->begin > gap.begin) {
            gap.end = r->begin < size ? r->begin : size;
            break;
        }
        gap.begin = r->end > gap.begin ? r->end : gap.begin;
    }
    if (gap.begin >= gap.end) {
        return false;
    }
    *out = gap;
    return true;
}

void ranges_clear(struct ranges *set)
{
    set->n = 0;
}

void ranges_release(struct ranges *set)
{
    mem_free(set->items);
    *set = (struct ranges){0};
}

// --------------------------------------------------------------------------------------- journal

static uint64_t check_of(uint64_t begin, uint64_t end, uint64_t size)
{
    struct hash h;
    hash_init(&h, NULL);
    hash_add_u64(&h, begin);
    hash_add_u64(&h, end);
    hash_add_u64(&h, size);
    return hash_u64(&h);
}

static void write_line(struct buf *out, struct range r, uint64_t size)
{
    buf_addf(out, "%020" PRIu64 " %020" PRIu64 " %016" PRIx64 "\n", r.begin, r.end,
             check_of(r.begin, r.end, size));
}

#define LINE_SIZE (20 + 1 + 20 + 1 + 16 + 1)

static bool read_digits(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < 20; i++) {
        unsigned digit = (unsigned)text[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

// A line counts if it is letter by letter what would have been written.
static bool read_line(const char *text, uint64_t size, struct range *out)
{
    struct range r = {0};
    char expected[LINE_SIZE + 1];
    if (!read_digits(text, &r.begin) || !read_digits(text + 21, &r.end) || r.begin >= r.end ||
        r.end > size) {
        return false;
    }
    snprintf(expected, sizeof(expected), "%020" PRIu64 " %020" PRIu64 " %016" PRIx64 "\n", r.begin,
             r.end, check_of(r.begin, r.end, size));
    *out = r;
    return memcmp(expected, text, LINE_SIZE) == 0;
}

static void write_title(struct buf *out, uint64_t size)
{
    buf_addf(out, JOURNAL_TITLE " %020" PRIu64 "\n", size);
}

static int write_all(struct journal *j, const struct buf *text, struct carat_error *err)
{
    int rc = buf_status(text, err);
    rc = rc ? rc : os_part_write(&j->file, j->at, text->data, text->size, err);
    if (rc == 0) {
        j->at += text->size;
    }
    return rc;
}

static int read_lines(struct ranges *set, const struct buf *text, uint64_t size,
                      struct carat_error *err)
{
    int rc = 0;
    struct buf title = {0};
    write_title(&title, size);
    size_t at = title.size;
    if (!title.has_failed && text->size >= at && memcmp(text->data, title.data, at) == 0) {
        for (struct range r; rc == 0 && text->size - at >= LINE_SIZE; at += LINE_SIZE) {
            if (!read_line(text->data + at, size, &r)) {
                break;
            }
            rc = ranges_add(set, r.begin, r.end, err);
        }
    }
    buf_release(&title);
    return rc;
}

int journal_read(struct ranges *set, const char *path, uint64_t size, struct carat_error *err)
{
    struct buf text = {.max = JOURNAL_MAX};
    int rc = 0;
    if (os_is_file(path) && os_read_file(&text, path, JOURNAL_MAX, NULL) == 0) {
        rc = read_lines(set, &text, size, err);
    }
    buf_release(&text);
    return rc;
}

int journal_restart(struct journal *j, struct carat_error *err)
{
    struct buf text = {0};
    int rc = os_part_resize(&j->file, 0, err);
    j->at = 0;
    write_title(&text, j->size);
    rc = rc ? rc : write_all(j, &text, err);
    buf_release(&text);
    return rc;
}

int journal_open(struct journal *out, struct ranges *set, const char *path, uint64_t size,
                 struct carat_error *err)
{
    struct journal j = {.size = size};
    int rc = journal_read(set, path, size, err);
    rc = rc ? rc : os_part_open(&j.file, path, err);
    // Written anew, with what touches joined. Ended on the way, it says less than is there.
    rc = rc ? rc : journal_restart(&j, err);
    rc = rc ? rc : journal_add(&j, set, err);
    if (rc) {
        journal_close(&j);
        return rc;
    }
    *out = j;
    return 0;
}

int journal_add(struct journal *j, const struct ranges *set, struct carat_error *err)
{
    struct buf text = {.max = JOURNAL_MAX};
    for (size_t i = 0; i < set->n; i++) {
        write_line(&text, set->items[i], j->size);
    }
    int rc = set->n ? write_all(j, &text, err) : 0;
    buf_release(&text);
    return rc;
}

void journal_close(struct journal *j)
{
    os_part_close(&j->file);
}
