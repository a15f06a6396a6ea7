// SPDX-License-Identifier: Apache-2.0
// Journals of downloads. The first byte says whether title and checks are made right first; two
// bytes are the size of the file that it is about. What is read back is sorted, apart and inside
// the file, and is read again as it was after going on.
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "cli/pull_ranges.h"
#include "scratch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINE_SIZE  59
#define CHECK_AT   42
#define TITLE_SIZE 37

// Makes the title that of the file, and the check of each line what its numbers ask for.
static void put_checks(char *text, size_t size, uint64_t file_size)
{
    char title[TITLE_SIZE + 1];
    size_t at = TITLE_SIZE;
    if (size < TITLE_SIZE) {
        return;
    }
    snprintf(title, sizeof(title), "carat-journal-1 %020" PRIu64 "\n", file_size);
    memcpy(text, title, TITLE_SIZE);
    for (; size >= at && size - at >= LINE_SIZE; at += LINE_SIZE) {
        uint64_t begin = strtoull(text + at, NULL, 10);
        uint64_t end = strtoull(text + at + 21, NULL, 10);
        char check[17];
        struct hash h;
        hash_init(&h, NULL);
        hash_add_u64(&h, begin);
        hash_add_u64(&h, end);
        hash_add_u64(&h, file_size);
        snprintf(check, sizeof(check), "%016" PRIx64, hash_u64(&h));
        memcpy(text + at + CHECK_AT, check, 16);
        text[at + 58] = '\n';
    }
}

static void check_set(const struct ranges *set, uint64_t size)
{
    struct range gap;
    uint64_t last = 0, missing = 0;
    for (size_t i = 0; i < set->n; i++) {
        require(set->items[i].begin < set->items[i].end && set->items[i].end <= size);
        require(i == 0 || set->items[i].begin > last);
        last = set->items[i].end;
    }
    for (uint64_t from = 0; ranges_gap(set, from, size, &gap); from = gap.end) {
        require(gap.begin >= from && gap.begin < gap.end && gap.end <= size);
        missing += gap.end - gap.begin;
    }
    require(ranges_total(set) + missing == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ranges set = {0}, again = {0};
    struct journal j = {0};
    char path[128];
    if (size < 4 || size > 65536) {
        return 0;
    }
    uint64_t file_size = (uint64_t)data[1] << 8 | data[2];
    size_t n = size - 3;
    char *text = malloc(n + 1);
    if (!text) {
        return 0;
    }
    memcpy(text, data + 3, n);
    text[n] = 0;
    if (data[0] & 1) {
        put_checks(text, n, file_size);
    }
    snprintf(path, sizeof(path), "%s/journal", scratch_folder());
    scratch_write(path, text, n);
    if (journal_read(&set, path, file_size, NULL) == 0) {
        check_set(&set, file_size);
    }
    ranges_clear(&set);
    if (journal_open(&j, &set, path, file_size, NULL) == 0) {
        check_set(&set, file_size);
        if (file_size > 7) {
            struct ranges more = {0};
            require(ranges_add(&more, 3, 7, NULL) == 0 && ranges_add(&set, 3, 7, NULL) == 0);
            require(journal_add(&j, &more, NULL) == 0);
            ranges_release(&more);
        }
        journal_close(&j);
        require(journal_read(&again, path, file_size, NULL) == 0);
        check_set(&again, file_size);
        require(again.n == set.n && ranges_total(&again) == ranges_total(&set));
    }
    remove(path);
    ranges_release(&set);
    ranges_release(&again);
    free(text);
    return 0;
}
