// SPDX-License-Identifier: Apache-2.0
// A hash map from byte strings to indices. Keys are borrowed: they must outlive the map. The hash
// is seeded per map, so that keys from a file cannot be chosen to collide.
#ifndef CARAT_BASE_MAP_H
#define CARAT_BASE_MAP_H

#include "base/str.h"

struct map_entry;
struct map {
    struct map_entry *entries;
    size_t capacity; // a power of two, or 0
    size_t count;
    uint64_t seed[2]; // drawn when the first key comes
};
#define MAP_NONE UINT32_MAX

// Room for count keys without growing. Zeroed memory is an empty map.
int map_reserve(struct map *m, size_t count, struct carat_error *err);
// Stores value under key. If the key is there already, nothing changes and *existing (may be NULL)
// gets its value; otherwise *existing is MAP_NONE.
int map_put(struct map *m, struct slice key, uint32_t value, uint32_t *existing,
            struct carat_error *err);
uint32_t map_get(const struct map *m, struct slice key); // MAP_NONE when absent
void map_release(struct map *m);

#endif
