// SPDX-License-Identifier: Apache-2.0
// A folder of snapshots: which are there, what they hold, and how much all of them may take. Other
// processes may use the folder at the same time: a file that is gone, or new, is nothing unusual.
#ifndef CARAT_ENGINE_SNAPSHOT_FOLDER_H
#define CARAT_ENGINE_SNAPSHOT_FOLDER_H

#include "engine/snapshot.h"

#define SNAPSHOT_FILES_MAX 256 // in a folder, of all models: each costs memory, too
#define SNAPSHOT_NAME_SIZE 64

struct snapshot_entry {
    char name[SNAPSHOT_NAME_SIZE]; // of the file
    uint64_t size;                 // bytes
    int64_t used_at;               // as in struct os_file_info
    bool is_readable;              // of this model and version; else the head is empty
    struct snapshot_head head;
};

struct snapshot_folder {
    char *path;
    uint64_t size_max;
    uint8_t identity[HASH_SIZE];
    char prefix[SNAPSHOT_NAME_SIZE]; // of the names of this model's and version's files
    struct snapshot_entry *entries;  // [n_entries], in no order
    size_t n_entries;
    size_t capacity;
    uint64_t bytes;        // of all files
    uint64_t bytes_coming; // of those that are being written, and how many
    size_t n_coming;
    uint64_t n_written; // by this process
    uint64_t n_dropped;
    double failed_at; // when a file could not be written; 0: never
};
int snapshot_folder_open(struct snapshot_folder *out, const char *path, uint64_t size_max,
                         const uint8_t identity[HASH_SIZE], struct carat_error *err);
void snapshot_folder_close(struct snapshot_folder *f); // takes zeroed memory

// Looks again at what is there. Damaged files are removed.
int snapshot_folder_scan(struct snapshot_folder *f, struct carat_error *err);
// A timeline on its way into the folder. Writing it to its path (snapshot_write, not durable) is
// what takes time, and touches nothing of the folder: others may use it meanwhile.
struct snapshot_coming {
    struct snapshot_head head;
    char name[SNAPSHOT_NAME_SIZE];
    char *path;
    double begin;
};
// Whether begin would make room for the session's timeline.
bool snapshot_folder_lacks(const struct snapshot_folder *f, const struct carat_session *s);
// Others make room for the session's timeline. out->path is NULL when there is nothing to write: it
// is there already (and was of use), or too large for the folder.
int snapshot_folder_begin(struct snapshot_folder *f, const struct carat_session *s,
                          struct snapshot_coming *out, struct carat_error *err);
// It was written (rc 0), or could not be. Releases it; returns rc, or what else went wrong.
int snapshot_folder_end(struct snapshot_folder *f, struct snapshot_coming *c, int rc,
                        struct carat_error *err);
// It was of use. False: it is gone.
bool snapshot_folder_touch(struct snapshot_folder *f, size_t i);
// CARAT_E_FORMAT and CARAT_E_IO are dealt with: a damaged file is removed, one that is gone is
// forgotten.
int snapshot_folder_open_entry(struct snapshot_folder *f, size_t i, struct snapshot *out,
                               struct carat_error *err);
void snapshot_folder_remove(struct snapshot_folder *f, const char *name);

#endif
