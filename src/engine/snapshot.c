// SPDX-License-Identifier: Apache-2.0
// Reading and writing the file that docs/caches.md describes. Rows go straight between the file and
// the cache: no copy of them is ever made.
#include "engine/snapshot.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#define MAGIC        "caratkv"
#define MAGIC_SIZE   8  // with its zero
#define HEAD_SIZE    96 // bytes in front of the tokens
#define PIECE_SIZE   65536
#define IS_SEEING    1u // flags
#define HAS_LOGITS   2u
#define HAS_KEYS     4u
#define FLAGS_KNOWN  7u
#define TOKENS_LIMIT CONFIG_CONTEXT_MAX

_Static_assert(sizeof(carat_token) == 4, "tokens are stored as they are");

// ------------------------------------------------------------------------------------------- sizes

// Sums and products that stay at UINT64_MAX once they are too large.
static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    return b > 0 && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

uint64_t snapshot_file_size(const struct snapshot_head *h)
{
    uint64_t size = HEAD_SIZE + 2 * HASH_SIZE;
    size = plus(size, times(h->n_tokens, sizeof(carat_token)));
    size = plus(size, h->keys ? times(h->n_tokens, sizeof(uint64_t)) : 0);
    size = plus(size, h->has_logits ? times(h->n_logits, sizeof(float)) : 0);
    return plus(size, h->rows_size);
}

// Bytes of the rows that a session of this head's kind keeps.
static uint64_t rows_size(const struct snapshot_head *h, const struct kv_cache *kv)
{
    uint64_t size = times(kv_rows_size(kv, false), h->n_tokens);
    for (size_t i = 0; i < h->n_windows; i++) {
        size = plus(size, times(kv_rows_size(kv, true), h->windows[i].end - h->windows[i].first));
    }
    return size;
}

void snapshot_head_release(struct snapshot_head *h)
{
    mem_free(h->tokens);
    mem_free(h->keys);
    *h = (struct snapshot_head){0};
}

// ----------------------------------------------------------------------------------------- reading

static int read_some(struct snapshot *s, void *out, size_t size, struct carat_error *err)
{
    int rc = os_reader_next(&s->reader, out, size, err);
    if (rc == 0) {
        hash_add(&s->hash, out, size);
    }
    return rc;
}

static int check_hash(struct snapshot *s, const char *what, struct carat_error *err)
{
    uint8_t want[HASH_SIZE];
    uint8_t found[HASH_SIZE];
    hash_digest(&s->hash, want);
    int rc = read_some(s, found, HASH_SIZE, err);
    if (rc == 0 && memcmp(want, found, HASH_SIZE) != 0) {
        rc = fail(err, CARAT_E_FORMAT, "%s: damaged: the checksum of %s is wrong", s->reader.path,
                  what);
    }
    return rc;
}

// A window has rows of positions that the timeline has; the last one goes up to its end.
static bool are_windows_right(const struct snapshot_head *h)
{
    bool is_right = h->n_windows >= 1 && h->n_windows <= SNAPSHOT_WINDOWS_MAX;
    for (size_t i = 0; is_right && i < h->n_windows; i++) {
        is_right = h->windows[i].first <= h->windows[i].end && h->windows[i].end <= h->n_tokens;
    }
    return is_right && h->windows[h->n_windows - 1].end == h->n_tokens;
}

// The numbers in front. *flags: the tokens' keys are not there yet.
static int parse_numbers(struct snapshot *s, const uint8_t data[HEAD_SIZE], uint32_t *flags,
                         struct carat_error *err)
{
    struct snapshot_head *h = &s->head;
    struct cursor c = cursor_make(data, HEAD_SIZE);
    bool is_ours = memcmp(cursor_bytes(&c, MAGIC_SIZE), MAGIC, MAGIC_SIZE) == 0;
    uint32_t version = cursor_u32(&c);
    if (!is_ours) {
        return fail(err, CARAT_E_FORMAT, "%s: not a snapshot of a session", s->reader.path);
    }
    if (version != SNAPSHOT_VERSION) {
        return fail(err, CARAT_E_FORMAT, "%s: a snapshot of version %u, this build reads %d",
                    s->reader.path, version, SNAPSHOT_VERSION);
    }
    *flags = cursor_u32(&c);
    memcpy(h->identity, cursor_bytes(&c, HASH_SIZE), HASH_SIZE);
    uint32_t type = cursor_u32(&c);
    uint32_t n_windows = cursor_u32(&c);
    uint64_t n_tokens = cursor_u64(&c);
    uint64_t n_logits = cursor_u64(&c);
    uint64_t n_rows = cursor_u64(&c);
    uint64_t numbers[2 * SNAPSHOT_WINDOWS_MAX];
    bool is_sane = true;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        numbers[i] = cursor_u64(&c);
        is_sane = is_sane && numbers[i] <= TOKENS_LIMIT;
    }
    require(cursor_left(&c) == 0);
    is_sane = is_sane && *flags <= FLAGS_KNOWN && type <= CARAT_KV_Q8_0 && n_tokens >= 1 &&
              n_tokens <= TOKENS_LIMIT && n_logits <= CONFIG_VOCAB_MAX &&
              n_windows <= SNAPSHOT_WINDOWS_MAX;
    if (is_sane) {
        h->sound_sees_ahead = *flags & IS_SEEING;
        h->has_logits = *flags & HAS_LOGITS;
        h->kv_type = (enum carat_dtype_kv)type;
        h->n_windows = n_windows;
        h->n_tokens = (size_t)n_tokens;
        h->n_logits = (size_t)n_logits;
        h->rows_size = n_rows;
        for (size_t i = 0; i < n_windows; i++) {
            h->windows[i].first = (size_t)numbers[2 * i];
            h->windows[i].end = (size_t)numbers[2 * i + 1];
        }
        is_sane = are_windows_right(h);
    }
    return is_sane ? 0
                   : fail(err, CARAT_E_FORMAT, "%s: damaged: numbers that no timeline has",
                          s->reader.path);
}

// Tokens and keys: there is as much of the file as the head asks for, so that a small file cannot
// ask for much memory.
static int read_tokens(struct snapshot *s, bool has_keys, struct carat_error *err)
{
    struct snapshot_head *h = &s->head;
    h->tokens = mem_new_array(h->n_tokens, sizeof(h->tokens[0]), err);
    h->keys = has_keys && h->tokens ? mem_new_array(h->n_tokens, sizeof(h->keys[0]), err) : NULL;
    if (!h->tokens || (has_keys && !h->keys)) {
        return CARAT_E_MEMORY;
    }
    int rc = read_some(s, h->tokens, h->n_tokens * sizeof(h->tokens[0]), err);
    if (rc == 0 && has_keys) {
        rc = read_some(s, h->keys, h->n_tokens * sizeof(h->keys[0]), err);
    }
    return rc;
}

static int check_file_size(const struct snapshot *s, bool has_keys, struct carat_error *err)
{
    uint64_t keys = has_keys ? times(s->head.n_tokens, sizeof(uint64_t)) : 0;
    uint64_t want = plus(snapshot_file_size(&s->head), keys);
    if (s->reader.size == want) {
        return 0;
    }
    return fail(err, CARAT_E_FORMAT, "%s: damaged: expected %llu bytes, found %llu", s->reader.path,
                (unsigned long long)want, (unsigned long long)s->reader.size);
}

int snapshot_open_reader(struct snapshot *out, struct os_reader *reader, struct carat_error *err)
{
    struct snapshot s = {.reader = *reader};
    uint8_t data[HEAD_SIZE];
    uint32_t flags = 0;
    hash_init(&s.hash, NULL);
    int rc = read_some(&s, data, HEAD_SIZE, err);
    rc = rc ? rc : parse_numbers(&s, data, &flags, err);
    rc = rc ? rc : check_file_size(&s, flags & HAS_KEYS, err);
    rc = rc ? rc : read_tokens(&s, flags & HAS_KEYS, err);
    rc = rc ? rc : check_hash(&s, "the tokens", err);
    if (rc) {
        snapshot_close(&s);
        return rc;
    }
    *out = s;
    return 0;
}

int snapshot_open(struct snapshot *out, const char *path, struct carat_error *err)
{
    struct os_reader reader;
    int rc = os_reader_open(&reader, path, err);
    return rc ? rc : snapshot_open_reader(out, &reader, err);
}

void snapshot_close(struct snapshot *s)
{
    os_reader_close(&s->reader);
    snapshot_head_release(&s->head);
}

bool snapshot_fits(const struct snapshot_head *h, const struct carat_session *s,
                   const uint8_t identity[HASH_SIZE])
{
    return memcmp(h->identity, identity, HASH_SIZE) == 0 && h->kv_type == s->options.kv_type &&
           h->sound_sees_ahead == s->options.sound_sees_ahead &&
           h->n_logits == s->engine->config.n_vocab && h->rows_size == rows_size(h, &s->kv);
}

// ----------------------------------------------------------------------------------------
// restoring

static int skip(struct snapshot *s, uint64_t size, struct carat_error *err)
{
    uint8_t piece[PIECE_SIZE];
    int rc = 0;
    while (rc == 0 && size > 0) {
        size_t part = size < sizeof(piece) ? (size_t)size : sizeof(piece);
        rc = read_some(s, piece, part, err);
        size -= part;
    }
    return rc;
}

// Rows [first, end) of a lane are next in the file; those in [from, to) are wanted.
static int read_rows(struct snapshot *s, const struct kv_lane *lane, struct kv_held there,
                     struct kv_held wanted, struct carat_error *err)
{
    size_t first = wanted.first > there.first ? wanted.first : there.first;
    size_t end = wanted.end < there.end ? wanted.end : there.end;
    if (first >= end) {
        return skip(s, (uint64_t)(there.end - there.first) * lane->row_size, err);
    }
    int rc = skip(s, (uint64_t)(first - there.first) * lane->row_size, err);
    while (rc == 0 && first < end) {
        uint8_t *rows = NULL;
        size_t n = kv_lane_run(lane, first, end - first, &rows);
        rc = read_some(s, rows, n * lane->row_size, err);
        first += n;
    }
    return rc ? rc : skip(s, (uint64_t)(there.end - end) * lane->row_size, err);
}

// The window that a timeline of n tokens goes on from.
static size_t choose_window(const struct snapshot_head *h, const struct kv_cache *kv, size_t n)
{
    size_t i = 0;
    while (i < h->n_windows && kv_held_longest(h->windows[i], kv->window, n) != n) {
        i++;
    }
    require(i < h->n_windows);
    return i;
}

static int read_lanes(struct snapshot *snapshot, struct carat_session *s, size_t n, size_t *written,
                      struct carat_error *err)
{
    const struct snapshot_head *h = &snapshot->head;
    const size_t chosen = choose_window(h, &s->kv, n);
    struct kv_held ring = {.first = n > s->kv.ring_capacity ? n - s->kv.ring_capacity : 0,
                           .end = n};
    struct kv_lanes lanes = {.kv = &s->kv};
    struct kv_lane lane;
    int rc = 0;
    ring.first = ring.first > h->windows[chosen].first ? ring.first : h->windows[chosen].first;
    *written = kv_cache_written(&s->kv, ring.first, n);
    while (rc == 0 && kv_lanes_next(&lanes, &lane)) {
        if (!lane.is_sliding) {
            const struct kv_held all = {0, h->n_tokens};
            const struct kv_held wanted = {0, n};
            rc = read_rows(snapshot, &lane, all, wanted, err);
        }
        for (size_t i = 0; rc == 0 && lane.is_sliding && i < h->n_windows; i++) {
            const struct kv_held none = {0, 0};
            rc = read_rows(snapshot, &lane, h->windows[i], i == chosen ? ring : none, err);
        }
    }
    return rc;
}

static int check_tokens(const struct snapshot *snapshot, const struct carat_session *s,
                        struct carat_error *err)
{
    const struct snapshot_head *h = &snapshot->head;
    for (size_t i = 0; i < h->n_tokens; i++) {
        if (h->tokens[i] < 0 || (uint32_t)h->tokens[i] >= s->engine->config.n_vocab) {
            return fail(err, CARAT_E_FORMAT, "%s: damaged: token %zu is no id of this vocabulary",
                        snapshot->reader.path, i);
        }
    }
    return 0;
}

// The timeline's tokens are there when its rows are.
static void take_over(struct carat_session *s, const struct snapshot_head *h, size_t n,
                      size_t n_written)
{
    pthread_mutex_lock(&s->engine->lock);
    memcpy(s->tokens, h->tokens, n * sizeof(s->tokens[0]));
    for (size_t i = 0; s->keys && i < n; i++) {
        s->keys[i] = h->keys ? h->keys[i] : 0;
    }
    session_set_length(s, n, n_written);
    s->has_logits = h->has_logits && n == h->n_tokens;
    s->prompt_end = n;
    pthread_mutex_unlock(&s->engine->lock);
}

int snapshot_restore(struct snapshot *snapshot, struct carat_session *s, size_t n,
                     struct carat_error *err)
{
    const struct snapshot_head *h = &snapshot->head;
    size_t n_written = 0;
    require(n >= 1);
    require(n <= h->n_tokens && n <= s->options.context_max);
    session_forget_rest(s);
    pthread_mutex_lock(&s->engine->lock);
    session_set_length(s, 0, 0);
    pthread_mutex_unlock(&s->engine->lock);
    int rc = check_tokens(snapshot, s, err);
    if (rc == 0 && h->has_logits) {
        rc = read_some(snapshot, s->logits, h->n_logits * sizeof(float), err);
    }
    rc = rc ? rc : read_lanes(snapshot, s, n, &n_written, err);
    rc = rc ? rc : check_hash(snapshot, "the rows", err);
    if (rc == 0) {
        take_over(s, h, n, n_written);
    }
    return rc;
}

// ----------------------------------------------------------------------------------------- writing

int snapshot_describe(struct snapshot_head *out, const struct carat_session *s,
                      struct carat_error *err)
{
    if (s->n_tokens == 0 || s->is_filled) {
        return fail(err, CARAT_E_ARGUMENT,
                    "the session has no timeline to be kept: sync it with a prompt first");
    }
    int rc = session_check_can_append(s, err);
    if (rc) {
        return rc;
    }
    struct snapshot_head h = {
        .kv_type = s->options.kv_type,
        .sound_sees_ahead = s->options.sound_sees_ahead,
        .has_logits = s->has_logits,
        .tokens = s->tokens,
        .n_tokens = s->n_tokens,
        .n_logits = s->engine->config.n_vocab,
    };
    for (size_t i = 0; s->keys && i < s->n_tokens; i++) {
        if (s->keys[i]) {
            h.keys = s->keys;
        }
    }
    if (s->mark.held.end > 0 && s->mark.held.end < s->n_tokens) {
        h.windows[h.n_windows++] = s->mark.held;
    }
    struct kv_held ring = kv_cache_held(&s->kv, s->n_tokens, s->n_written);
    h.windows[h.n_windows++] = ring;
    h.rows_size = rows_size(&h, &s->kv);
    engine_identity(s->engine, h.identity);
    *out = h;
    return 0;
}

struct sink {
    struct os_writer writer;
    struct hash hash;
};

static int put(struct sink *sink, const void *data, size_t size, struct carat_error *err)
{
    hash_add(&sink->hash, data, size);
    return os_writer_add(&sink->writer, data, size, err);
}

static int put_hash(struct sink *sink, struct carat_error *err)
{
    uint8_t digest[HASH_SIZE];
    hash_digest(&sink->hash, digest);
    return put(sink, digest, HASH_SIZE, err);
}

static void add_number(uint8_t **at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        *(*at)++ = (uint8_t)(value >> (8 * i));
    }
}

static int put_head(struct sink *sink, const struct snapshot_head *h, struct carat_error *err)
{
    uint8_t data[HEAD_SIZE] = {0};
    uint8_t *at = data;
    uint32_t flags = (h->sound_sees_ahead ? IS_SEEING : 0) | (h->has_logits ? HAS_LOGITS : 0) |
                     (h->keys ? HAS_KEYS : 0);
    memcpy(at, MAGIC, MAGIC_SIZE);
    at += MAGIC_SIZE;
    add_number(&at, SNAPSHOT_VERSION, 4);
    add_number(&at, flags, 4);
    memcpy(at, h->identity, HASH_SIZE);
    at += HASH_SIZE;
    add_number(&at, h->kv_type, 4);
    add_number(&at, h->n_windows, 4);
    add_number(&at, h->n_tokens, 8);
    add_number(&at, h->n_logits, 8);
    add_number(&at, h->rows_size, 8);
    for (size_t i = 0; i < SNAPSHOT_WINDOWS_MAX; i++) {
        add_number(&at, h->windows[i].first, 8);
        add_number(&at, h->windows[i].end, 8);
    }
    int rc = put(sink, data, HEAD_SIZE, err);
    rc = rc ? rc : put(sink, h->tokens, h->n_tokens * sizeof(h->tokens[0]), err);
    if (rc == 0 && h->keys) {
        rc = put(sink, h->keys, h->n_tokens * sizeof(h->keys[0]), err);
    }
    return rc ? rc : put_hash(sink, err);
}

static int put_rows(struct sink *sink, const struct kv_lane *lane, size_t first, size_t end,
                    struct carat_error *err)
{
    int rc = 0;
    while (rc == 0 && first < end) {
        uint8_t *rows = NULL;
        size_t n = kv_lane_run(lane, first, end - first, &rows);
        rc = put(sink, rows, n * lane->row_size, err);
        first += n;
    }
    return rc;
}

static int put_lanes(struct sink *sink, const struct carat_session *s,
                     const struct snapshot_head *h, struct carat_error *err)
{
    struct kv_lanes lanes = {.kv = &s->kv};
    struct kv_lane lane;
    uint64_t offset = 0; // in the mark
    int rc = 0;
    while (rc == 0 && kv_lanes_next(&lanes, &lane)) {
        if (!lane.is_sliding) {
            rc = put_rows(sink, &lane, 0, h->n_tokens, err);
        }
        for (size_t i = 0; rc == 0 && lane.is_sliding && i < h->n_windows; i++) {
            bool is_marked = i + 1 < h->n_windows;
            struct kv_lane from = is_marked ? kv_mark_lane(&s->mark, &lane, &offset) : lane;
            rc = put_rows(sink, &from, h->windows[i].first, h->windows[i].end, err);
        }
    }
    return rc;
}

int snapshot_write(const struct carat_session *s, const struct snapshot_head *h, const char *path,
                   bool is_durable, struct carat_error *err)
{
    struct sink sink = {.writer = {.fd = -1}};
    hash_init(&sink.hash, NULL);
    int rc = os_writer_open(&sink.writer, path, err);
    rc = rc ? rc : put_head(&sink, h, err);
    if (rc == 0 && h->has_logits) {
        rc = put(&sink, s->logits, h->n_logits * sizeof(float), err);
    }
    rc = rc ? rc : put_lanes(&sink, s, h, err);
    rc = rc ? rc : put_hash(&sink, err);
    rc = rc ? rc : os_writer_finish(&sink.writer, is_durable, err);
    os_writer_close(&sink.writer);
    return rc;
}
