// SPDX-License-Identifier: Apache-2.0
// Checksums of what was fetched, by libcrypto: the only files that know it are pull_digest.c and
// its absence, pull_digest_none.c.
#ifndef CARAT_CLI_PULL_DIGEST_H
#define CARAT_CLI_PULL_DIGEST_H

#include "base/str.h"

// SHA-256 of large files, which the hub keeps beside the repository, and git's name of the small
// ones in it.
enum digest_kind { DIGEST_SHA256, DIGEST_GIT };
#define DIGEST_TEXT_MAX 65 // in hexadecimal, terminated

struct digest;
bool digest_is_built(void);
// size: bytes of the whole file, which is a part of git's name.
int digest_new(struct digest **out, enum digest_kind kind, uint64_t size, struct carat_error *err);
int digest_add(struct digest *d, const void *data, size_t size, struct carat_error *err);
int digest_finish(struct digest *d, char out[DIGEST_TEXT_MAX], struct carat_error *err);
void digest_free(struct digest *d); // takes NULL

#endif
