// SPDX-License-Identifier: Apache-2.0
// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
// 2012): names for content. The same bytes under the same key give the same name everywhere.
#ifndef CARAT_BASE_HASH_H
#define CARAT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_SIZE 16 // bytes, of the key and of the result

// A hash in the making. It may be copied: both go on from there.
struct hash {
    uint64_t v[4];
    uint64_t size;   // bytes so far
    uint8_t tail[8]; // the last size % 8 of them
};

void hash_init(struct hash *h, const uint8_t key[HASH_SIZE]); // NULL: a key of zeros
void hash_add(struct hash *h, const void *data, size_t size);
void hash_add_u64(struct hash *h, uint64_t value); // as 8 bytes, little-endian
// The hash of what was added; more may be added afterwards.
void hash_digest(const struct hash *h, uint8_t out[HASH_SIZE]);
// The first half of the digest as a number.
uint64_t hash_u64(const struct hash *h);

#endif
