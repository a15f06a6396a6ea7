// SPDX-License-Identifier: Apache-2.0
// A large file in the making that outlives its maker: it grows under another name, a journal beside
// it says how far it is whole, and whoever makes the same file again goes on from there.
#ifndef CARAT_FORMATS_PARTIAL_H
#define CARAT_FORMATS_PARTIAL_H

#include "base/hash.h"
#include "base/os_part.h"
#include "base/str.h"

#define PARTIAL_SUFFIX    ".part"
#define PARTIAL_JOURNAL   ".part.journal"
#define PARTIAL_LOCK      ".part.lock"
#define PARTIAL_STEPS_MAX 1000000

// Figures that belong to a step, kept for whoever goes on.
struct partial_step {
    uint64_t size; // of the file when the step was done
    double figures[3];
    uint64_t content; // hash of the step's bytes
};

struct partial {
    char *path;
    struct os_lock lock;
    struct os_part file;
    struct os_part journal;
    uint64_t at;                // bytes written
    uint64_t unsynced;          // of these, the ones that may not be on the disk yet
    struct hash content;        // of the bytes since the last step
    struct partial_step *steps; // done, [n_steps]
    size_t n_steps;
    bool is_resumed;
};
// key names what is made and of what: a journal with another key is refused (CARAT_E_ARGUMENT),
// unless drops_other, which begins anew. Nobody else may be making it.
int partial_open(struct partial *out, const char *path, const uint8_t key[HASH_SIZE],
                 bool drops_other, struct carat_error *err);
int partial_add(struct partial *p, const void *data, size_t size, struct carat_error *err);
int partial_zeros(struct partial *p, uint64_t size, struct carat_error *err);
// What was added so far need not be made again.
int partial_step(struct partial *p, const double figures[3], struct carat_error *err);
// Gives the file its name; it is on the disk then, and the journal is gone.
int partial_finish(struct partial *p, struct carat_error *err);
// What is not finished stays for the next time. Takes zeroed memory.
void partial_close(struct partial *p);
// Whether a file of this key was finished, and only its journal could not be removed any more; it
// is removed then.
bool partial_was_finished(const char *path, const uint8_t key[HASH_SIZE]);

#endif
