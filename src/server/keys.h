// SPDX-License-Identifier: Apache-2.0
// API keys: those of the command line, and those of a file that is read again when it changes.
// Thread-safe.
#ifndef CARAT_SERVER_KEYS_H
#define CARAT_SERVER_KEYS_H

#include "base/str.h"

#define KEYS_MAX     10000
#define KEY_SIZE_MAX 512

struct keys;
// fixed ends with NULL; file may be NULL. No keys at all: nobody needs one.
int keys_new(struct keys **out, const char *const *fixed, const char *file,
             struct carat_error *err);
// Reads the file again, if it changed or if that is demanded. On failure, an empty file included,
// the keys stay as they were. *was_read (may be NULL) says whether there are new ones.
int keys_refresh(struct keys *k, bool is_demanded, bool *was_read, struct carat_error *err);
size_t keys_count(struct keys *k);
// Takes the same time for every key of a length, right or wrong.
bool keys_have(struct keys *k, struct slice key);
void keys_free(struct keys *k); // takes NULL

#endif
