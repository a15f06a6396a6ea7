// SPDX-License-Identifier: Apache-2.0
// SipHash-2-4-128 as a stream, from the paper and its authors' description of the long output.
#include "base/hash.h"

#include <string.h>

static uint64_t read_u64(const uint8_t *p)
{
    uint64_t value = 0;
    for (size_t i = 8; i > 0; i--) {
        value = value << 8 | p[i - 1];
    }
    return value;
}

static void write_u64(uint8_t *p, uint64_t value)
{
    for (size_t i = 0; i < 8; i++) {
        p[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void round_once(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static void compress(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    round_once(v);
    round_once(v);
    v[0] ^= word;
}

void hash_init(struct hash *h, const uint8_t key[HASH_SIZE])
{
    uint64_t k0 = key ? read_u64(key) : 0;
    uint64_t k1 = key ? read_u64(key + 8) : 0;
    *h = (struct hash){.v = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du ^ 0xee,
                             k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u}};
}

void hash_add(struct hash *h, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t n_tail = h->size % 8;
    h->size += size;
    if (n_tail > 0) {
        size_t n = size < 8 - n_tail ? size : 8 - n_tail;
        if (n > 0) {
            memcpy(h->tail + n_tail, bytes, n);
        }
        if (n_tail + n < 8) {
            return;
        }
        compress(h->v, read_u64(h->tail));
        bytes += n;
        size -= n;
    }
    for (; size >= 8; size -= 8, bytes += 8) {
        compress(h->v, read_u64(bytes));
    }
    if (size > 0) {
        memcpy(h->tail, bytes, size);
    }
}

void hash_add_u64(struct hash *h, uint64_t value)
{
    uint8_t bytes[8];
    write_u64(bytes, value);
    hash_add(h, bytes, sizeof(bytes));
}

void hash_digest(const struct hash *h, uint8_t out[HASH_SIZE])
{
    uint64_t v[4];
    uint64_t last = h->size << 56; // the length's low byte ends the last word
    memcpy(v, h->v, sizeof(v));
    for (size_t i = 0; i < h->size % 8; i++) {
        last |= (uint64_t)h->tail[i] << (8 * i);
    }
    compress(v, last);
    v[2] ^= 0xee;
    for (size_t half = 0; half < 2; half++) {
        for (size_t i = 0; i < 4; i++) {
            round_once(v);
        }
        write_u64(out + 8 * half, v[0] ^ v[1] ^ v[2] ^ v[3]);
        v[1] ^= 0xdd;
    }
}

uint64_t hash_u64(const struct hash *h)
{
    uint8_t digest[HASH_SIZE];
    hash_digest(h, digest);
    return read_u64(digest);
}
