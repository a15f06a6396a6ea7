// SPDX-License-Identifier: Apache-2.0
// One timeline in a file, docs/caches.md: its tokens, the rows of its kv cache that are needed to
// go on exactly as before, the logits of its last token.
#ifndef CARAT_ENGINE_SNAPSHOT_H
#define CARAT_ENGINE_SNAPSHOT_H

#include "base/os_file.h"
#include "engine/session.h"

#define SNAPSHOT_VERSION     1
#define SNAPSHOT_WINDOWS_MAX 2

// What a file says before its rows.
struct snapshot_head {
    uint8_t identity[HASH_SIZE]; // of the engine
    enum carat_dtype_kv kv_type;
    bool sound_sees_ahead;
    bool has_logits;
    carat_token *tokens; // [n_tokens], at least 1
    uint64_t *keys;      // [n_tokens] as in struct carat_prompt; NULL: all 0
    size_t n_tokens;
    // Rows of the sliding layers: those before the end of the timeline, and in front of them maybe
    // those before a place to which it can be taken back. [n_windows]
    struct kv_held windows[SNAPSHOT_WINDOWS_MAX];
    size_t n_windows;
    size_t n_logits;    // of the model
    uint64_t rows_size; // bytes of all rows
};
// Bytes of the whole file; UINT64_MAX when there are too many.
uint64_t snapshot_file_size(const struct snapshot_head *head);
void snapshot_head_release(struct snapshot_head *head); // takes zeroed memory

// A file that is being read: the head was there and is right.
struct snapshot {
    struct os_reader reader;
    struct hash hash; // of all that was read
    struct snapshot_head head;
};
// CARAT_E_FORMAT, with the reason, for anything but a snapshot of this version.
int snapshot_open(struct snapshot *out, const char *path, struct carat_error *err);
// The same over a file that is open; the reader is the snapshot's own from then on.
int snapshot_open_reader(struct snapshot *out, struct os_reader *reader, struct carat_error *err);
void snapshot_close(struct snapshot *s); // takes zeroed memory
// Whether this session can go on with it: the same model, arithmetic and kinds of rows.
bool snapshot_fits(const struct snapshot_head *head, const struct carat_session *s,
                   const uint8_t identity[HASH_SIZE]);
// The session's timeline becomes the first n tokens of one that fits, with what it needs to go on;
// n as session_longest says for one of the windows. Logits come with all n_tokens. On failure the
// timeline is empty. Once for an open snapshot; it is read to its end.
int snapshot_restore(struct snapshot *snapshot, struct carat_session *s, size_t n,
                     struct carat_error *err);

// carat_session_load from a snapshot that is open. In session_save.c.
int session_load(struct carat_session *s, struct snapshot *file, struct carat_error *err);

// What a file of this session's timeline would hold; tokens and keys are the session's own, not to
// be released. CARAT_E_ARGUMENT when nothing can be read back from the timeline.
int snapshot_describe(struct snapshot_head *out, const struct carat_session *s,
                      struct carat_error *err);
int snapshot_write(const struct carat_session *s, const struct snapshot_head *head,
                   const char *path, bool is_durable, struct carat_error *err);

#endif
