// SPDX-License-Identifier: Apache-2.0
// The rows of a kv cache by position, for whoever copies them or puts them on disk. The bits of a
// row depend on the tokens before it alone, so rows may go from one timeline to another that
// begins with the same tokens.
#ifndef CARAT_MODEL_KV_ROWS_H
#define CARAT_MODEL_KV_ROWS_H

#include "model/kv_cache.h"

// The keys or the values of one head of one layer: position p is in slot p % capacity. Caches of
// one model and one type have the same lanes in the same order, whatever their sizes.
struct kv_lane {
    uint8_t *rows;
    size_t row_size; // bytes
    size_t capacity; // slots
    bool is_sliding; // holds the newest positions only
};
// All lanes of a cache in turn; `at` begins zeroed but for kv.
struct kv_lanes {
    const struct kv_cache *kv;
    size_t layer;
    size_t i; // in the layer
};
bool kv_lanes_next(struct kv_lanes *at, struct kv_lane *out);
// Rows from `position` on that stand side by side, at most n; *rows gets the first.
size_t kv_lane_run(const struct kv_lane *lane, size_t position, size_t n, uint8_t **rows);
// Bytes of a row of every lane that slides, or of every one that does not.
uint64_t kv_rows_size(const struct kv_cache *kv, bool is_sliding);

// Positions [first, end) whose rows all lanes that slide hold; the others hold [0, end).
struct kv_held {
    size_t first;
    size_t end;
};
// What a cache holds when n_written positions went through its rings and the newest of use is
// n_tokens - 1.
struct kv_held kv_cache_held(const struct kv_cache *kv, size_t n_tokens, size_t n_written);
// The longest timeline of at most `limit` tokens that can go on from what is held; 0: none.
size_t kv_held_longest(struct kv_held held, size_t window, size_t limit);
// What n_written has to be so that a cache does not claim more than rows [first, n) in its rings.
size_t kv_cache_written(const struct kv_cache *kv, size_t first, size_t n);

// Copies what `to` needs to go on after n tokens: rows [full_first, n) of the lanes that do not
// slide, and of the others what its rings can take of what is held. Returns its n_written.
size_t kv_cache_copy(struct kv_cache *to, const struct kv_cache *from, struct kv_held held,
                     size_t full_first, size_t n);

// The window before one position, put aside so that a timeline can come back to it, or to a few
// tokens before it, from any distance. A few: a prompt may end with tokens that do not come back,
// as the empty thought of an answer without one.
#define KV_MARK_SLACK 16
struct kv_mark {
    uint8_t *memory;
    size_t capacity;     // positions
    struct kv_held held; // end 0: nothing is put aside
};
uint64_t kv_mark_size(const struct model_config *config, const struct kv_options *options);
int kv_mark_init(struct kv_mark *out, const struct kv_cache *kv, struct carat_error *err);
void kv_mark_release(struct kv_mark *mark, const struct kv_cache *kv); // takes zeroed memory
// Puts aside the rows [end - capacity, end), which the rings must hold.
void kv_mark_take(struct kv_mark *mark, const struct kv_cache *kv, size_t end);
// Puts the rows into the rings of a cache of the same model and type, which then can go on after n
// tokens, as kv_held_longest said. Returns its n_written.
size_t kv_mark_put(const struct kv_mark *mark, struct kv_cache *to, size_t n);
// The mark's own lane for a lane that slides, counted from 0.
struct kv_lane kv_mark_lane(const struct kv_mark *mark, const struct kv_lane *lane,
                            uint64_t *offset);

#endif
