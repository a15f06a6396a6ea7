// SPDX-License-Identifier: Apache-2.0
// Linear probing over one array, at most two thirds full; nothing is ever removed. The hash is
// SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): without the seed
// nobody can choose keys that collide.
#include "base/map.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

struct map_entry {
    const char *key;
    size_t key_size;
    uint32_t hash;
    uint32_t value_plus_one; // 0: the entry is empty
};

struct sip {
    uint64_t a, b, c, d;
};

static uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void sip_round(struct sip *s)
{
    s->a += s->b;
    s->b = rotate(s->b, 13) ^ s->a;
    s->a = rotate(s->a, 32);
    s->c += s->d;
    s->d = rotate(s->d, 16) ^ s->c;
    s->a += s->d;
    s->d = rotate(s->d, 21) ^ s->a;
    s->c += s->b;
    s->b = rotate(s->b, 17) ^ s->c;
    s->c = rotate(s->c, 32);
}

static void sip_word(struct sip *s, uint64_t word)
{
    s->d ^= word;
    sip_round(s);
    s->a ^= word;
}

static uint32_t hash_of(const struct map *m, struct slice key)
{
    struct sip s = {
        .a = m->seed[0] ^ UINT64_C(0x736f6d6570736575),
        .b = m->seed[1] ^ UINT64_C(0x646f72616e646f6d),
        .c = m->seed[0] ^ UINT64_C(0x6c7967656e657261),
        .d = m->seed[1] ^ UINT64_C(0x7465646279746573),
    };
    size_t at = 0;
    uint64_t word;
    for (; key.size - at >= 8; at += 8) {
        memcpy(&word, key.data + at, 8);
        sip_word(&s, word);
    }
    word = 0;
    if (key.size > at) {
        memcpy(&word, key.data + at, key.size - at);
    }
    // The last byte of the last word tells lengths apart.
    sip_word(&s, word ^ (uint64_t)(key.size & 0xFF) << 56);
    s.c ^= 0xFF;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    uint64_t h = s.a ^ s.b ^ s.c ^ s.d;
    return (uint32_t)(h ^ h >> 32);
}

// The entry of this key, or the empty one where it belongs. There is always an empty one.
static struct map_entry *find(const struct map *m, struct slice key, uint32_t hash)
{
    size_t mask = m->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct map_entry *e = &m->entries[i];
        if (e->value_plus_one == 0) {
            return e;
        }
        if (e->hash == hash && slice_equal(slice_make(e->key, e->key_size), key)) {
            return e;
        }
    }
}

static int map_rebuild(struct map *m, size_t capacity, struct carat_error *err)
{
    struct map_entry *entries = mem_new_array(capacity, sizeof(*entries), err);
    if (!entries) {
        return CARAT_E_MEMORY;
    }
    struct map old = *m;
    m->entries = entries;
    m->capacity = capacity;
    if (!old.entries) {
        m->seed[0] = os_random_u64();
        m->seed[1] = os_random_u64();
    }
    for (size_t i = 0; i < old.capacity; i++) {
        const struct map_entry *e = &old.entries[i];
        if (e->value_plus_one) {
            *find(m, slice_make(e->key, e->key_size), e->hash) = *e;
        }
    }
    mem_free(old.entries);
    return 0;
}

int map_reserve(struct map *m, size_t count, struct carat_error *err)
{
    // The hash has 32 bits, and values are 32 bits, so more than this is nobody's wish.
    if (count > UINT32_MAX / 2) {
        return fail(err, CARAT_E_FULL, "a map of %zu keys is more than can be held", count);
    }
    size_t capacity = m->capacity < 16 ? 16 : m->capacity;
    while (capacity / 3 * 2 < count) {
        capacity *= 2;
    }
    return capacity == m->capacity ? 0 : map_rebuild(m, capacity, err);
}

int map_put(struct map *m, struct slice key, uint32_t value, uint32_t *existing,
            struct carat_error *err)
{
    require(value != MAP_NONE);
    int rc = map_reserve(m, m->count + 1, err);
    if (rc) {
        return rc;
    }
    uint32_t hash = hash_of(m, key);
    struct map_entry *e = find(m, key, hash);
    if (existing) {
        *existing = e->value_plus_one ? e->value_plus_one - 1 : MAP_NONE;
    }
    if (!e->value_plus_one) {
        *e = (struct map_entry){
            .key = key.data, .key_size = key.size, .hash = hash, .value_plus_one = value + 1};
        m->count++;
    }
    return 0;
}

uint32_t map_get(const struct map *m, struct slice key)
{
    if (m->count == 0) {
        return MAP_NONE;
    }
    const struct map_entry *e = find(m, key, hash_of(m, key));
    return e->value_plus_one ? e->value_plus_one - 1 : MAP_NONE;
}

void map_release(struct map *m)
{
    if (m) {
        mem_free(m->entries);
        *m = (struct map){0};
    }
}
