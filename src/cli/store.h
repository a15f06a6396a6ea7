// SPDX-License-Identifier: Apache-2.0
// The models that carat pull stored: files by their checksum, and a folder with links to them for
// each name, so that what several of them share is there once.
//
//   blobs/ID                             a whole file; ID.part, .journal, .lock while it is fetched
//   models/OWNER/REPO/TYPE/              links under the files' own names
//   models/OWNER/REPO/TYPE/carat.json    what they are; the folder appears with it, complete
//   lock                                 held by who pulls (shared) or removes files (alone)
#ifndef CARAT_CLI_STORE_H
#define CARAT_CLI_STORE_H

#include "base/mem.h"
#include "base/os_part.h"
#include "base/str.h"

#define STORE_FILES_MAX 2000 // of a model
#define STORE_ID_MAX    80   // "sha256-..." or "git-...", terminated

struct store {
    char *folder;
};
// Finds where the store is: CARAT_HOME, or carat in XDG_DATA_HOME. Makes nothing.
int store_open(struct store *out, struct carat_error *err);
void store_release(struct store *s);
// Whether it is an ID that may name a file.
bool store_is_id(struct slice id);
// "FOLDER/blobs/ID" and the suffix.
int store_blob_path(struct buf *out, const struct store *s, const char *id, const char *suffix,
                    struct carat_error *err);
bool store_has_blob(const struct store *s, const char *id, uint64_t size);
// Makes the folders; 1 when another process keeps it.
int store_lock(struct os_lock *out, const struct store *s, bool is_shared, struct carat_error *err);

struct store_file {
    const char *name; // at most one folder deep
    const char *id;
    uint64_t size;
};
struct store_model {
    const char *name; // "OWNER/REPO:TYPE"
    const char *repo, *type;
    const char *commit; // of the repository
    const char *model;  // of the files, the one to open; "": the folder
    const char *path;   // what carat opens; set when read
    const struct store_file *files;
    size_t n_files;
    uint64_t size;     // bytes of all files
    int64_t pulled_at; // in ns since 1970; set when read
};
struct store_models {
    struct store_model *items; // newest first
    size_t n;
    size_t n_broken; // folders whose list could not be read
    struct arena arena;
};
// A store that is not there is an empty one.
int store_read(struct store_models *out, const struct store *s, struct carat_error *err);
void store_models_release(struct store_models *m);

// Gives a model its name, in place of an older one; its files are there. *path gets what to open.
int store_commit(const struct store *s, const struct store_model *model, struct buf *path,
                 struct carat_error *err);
// Takes the name away. Files go with store_sweep.
int store_remove(const struct store *s, const struct store_model *model, struct carat_error *err);
// Removes files that no name uses any more, and, if asked, unfinished ones. The lock is held alone.
int store_sweep(const struct store *s, bool drops_unfinished, uint64_t *freed,
                struct carat_error *err);
// Files that are not finished, and the bytes they take.
void store_count_unfinished(const struct store *s, size_t *n, uint64_t *size);

// The model that a user's word means: OWNER/REPO:TYPE, or without TYPE (the newest), or without
// OWNER or the "-GGUF" at the end. 0 and NULL: none; an error when it is unclear which.
int store_find(const struct store_model **out, const struct store_models *models, const char *word,
               struct carat_error *err);
// "OWNER/REPO", of letters that are safe in paths.
bool store_is_repo(struct slice repo);
// One part of a path, of letters that are safe in paths.
bool store_is_part(struct slice part);

#endif
