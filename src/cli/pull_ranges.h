// SPDX-License-Identifier: Apache-2.0
// Which bytes of a file are there, and the journal that remembers it beside a file in the making.
#ifndef CARAT_CLI_PULL_RANGES_H
#define CARAT_CLI_PULL_RANGES_H

#include "base/os_part.h"

struct range {
    uint64_t begin, end; // bytes [begin, end)
};

// Sorted, apart from each other. Zeroed memory is an empty set.
struct ranges {
    struct range *items;
    size_t n, capacity;
};
int ranges_add(struct ranges *set, uint64_t begin, uint64_t end, struct carat_error *err);
uint64_t ranges_total(const struct ranges *set); // bytes
// The first run of bytes in [from, size) that is not in the set; false when there is none.
bool ranges_gap(const struct ranges *set, uint64_t from, uint64_t size, struct range *out);
void ranges_clear(struct ranges *set); // keeps the memory
void ranges_release(struct ranges *set);

// A line for each range. A line that was cut off, or damaged, ends it: what comes behind is
// downloaded again.
struct journal {
    struct os_part file;
    uint64_t at;   // where the next line goes
    uint64_t size; // of the file that it is about
};
// Reads a journal into the set; one that is not there says nothing.
int journal_read(struct ranges *set, const char *path, uint64_t size, struct carat_error *err);
// Reads what is there into the set and goes on from it. One of another size counts as none.
int journal_open(struct journal *out, struct ranges *set, const char *path, uint64_t size,
                 struct carat_error *err);
int journal_add(struct journal *j, const struct ranges *set, struct carat_error *err);
int journal_restart(struct journal *j, struct carat_error *err); // nothing is there any more
void journal_close(struct journal *j);

#endif
