// SPDX-License-Identifier: Apache-2.0
// Beginnings of prompts that some session has read: copied from live sessions, read from snapshots
// of those that made room. docs/caches.md says what is kept when, and why.
#include "engine/prefix_cache.h"

#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/snapshot_folder.h"

#define SIZE_DEFAULT   ((uint64_t)8 << 30)
#define TOKENS_DEFAULT 64

struct carat_cache {
    struct carat_engine *engine;
    size_t tokens_min;
    struct carat_session *sessions; // guarded by the engine's lock
    // Guards what is known of the folder, not while rows are written or read: nobody who only looks
    // waits for a disk. Taken before the engine's lock.
    pthread_mutex_t lock;
    struct snapshot_folder folder; // path NULL: none
    // Statistics are asked for by threads that must not wait for a file.
    atomic_uint_fast64_t n_live_hits, n_disk_hits, n_written, n_dropped;
    atomic_uint_fast64_t tokens_reused, tokens_prompted;
    atomic_uint_fast64_t n_snapshots, snapshot_bytes;
};

// The folder's own figures, for carat_cache_stats. The lock is held.
static void publish(struct carat_cache *c)
{
    c->n_written = c->folder.n_written;
    c->n_dropped = c->folder.n_dropped;
    c->n_snapshots = c->folder.n_entries;
    c->snapshot_bytes = c->folder.bytes;
}

int carat_cache_new(struct carat_cache **out, struct carat_engine *engine,
                    const struct carat_cache_options *options, struct carat_error *err)
{
    const struct carat_cache_options o = options ? *options : (struct carat_cache_options){0};
    uint8_t identity[HASH_SIZE];
    if (engine->info.is_vocab_only) {
        return fail(err, CARAT_E_ARGUMENT, "the model was opened for its vocabulary only");
    }
    struct carat_cache *c = mem_new(sizeof(*c), err);
    if (!c) {
        return CARAT_E_MEMORY;
    }
    c->engine = engine;
    c->tokens_min = o.tokens_min ? o.tokens_min : TOKENS_DEFAULT;
    engine_identity(engine, identity);
    int rc = o.folder ? snapshot_folder_open(&c->folder, o.folder,
                                             o.size_max ? o.size_max : SIZE_DEFAULT, identity, err)
                      : 0;
    if (rc == 0 && pthread_mutex_init(&c->lock, NULL) != 0) {
        rc = fail(err, CARAT_E_MEMORY, "the system gave no lock");
    }
    if (rc) {
        snapshot_folder_close(&c->folder);
        mem_free(c);
        return rc;
    }
    publish(c);
    *out = c;
    return 0;
}

void carat_cache_free(struct carat_cache *c)
{
    if (c) {
        require(!c->sessions);
        snapshot_folder_close(&c->folder);
        pthread_mutex_destroy(&c->lock);
        mem_free(c);
    }
}

void carat_cache_stats(struct carat_cache *c, struct carat_cache_stats *out)
{
    *out = (struct carat_cache_stats){
        .n_live_hits = c->n_live_hits,
        .n_disk_hits = c->n_disk_hits,
        .n_written = c->n_written,
        .n_dropped = c->n_dropped,
        .tokens_reused = c->tokens_reused,
        .tokens_prompted = c->tokens_prompted,
        .n_snapshots = (size_t)c->n_snapshots,
        .snapshot_bytes = c->snapshot_bytes,
    };
}

// --------------------------------------------------------------------------------------- sessions

int prefix_cache_check(const struct carat_session_options *options,
                       const struct carat_engine *engine, struct carat_error *err)
{
    if (options && options->cache && options->cache->engine != engine) {
        return fail(err, CARAT_E_ARGUMENT, "the cache belongs to another engine");
    }
    return 0;
}

void prefix_cache_join(struct carat_session *s)
{
    struct carat_cache *c = s->options.cache;
    if (c) {
        s->next = c->sessions;
        c->sessions = s;
        s->is_joined = true;
    }
}

void prefix_cache_leave(struct carat_session *s)
{
    if (!s->is_joined) {
        return;
    }
    pthread_mutex_lock(&s->engine->lock);
    struct carat_session **at = &s->options.cache->sessions;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    s->is_joined = false;
    pthread_mutex_unlock(&s->engine->lock);
}

void prefix_cache_count(struct carat_session *s, size_t reused, size_t to)
{
    struct carat_cache *c = s->options.cache;
    if (c) {
        c->tokens_reused += reused;
        c->tokens_prompted += to;
    }
}

// -------------------------------------------------------------------------------------- on the
// disk

// A snapshot for a prompt.
struct find {
    size_t i;     // entry
    size_t n;     // tokens that can be had from it; 0: none
    size_t known; // most that any of them has in common with the prompt
};

static size_t longest_window(const struct carat_session *s, const struct carat_prompt *p,
                             const struct snapshot_head *h, size_t to, size_t *common)
{
    size_t longest = 0;
    *common = session_common_tokens(s, p, h->tokens, h->keys, h->n_tokens);
    size_t wanted = session_wanted(s, p, *common, to, h->has_logits && h->n_tokens == to);
    for (size_t i = 0; i < h->n_windows; i++) {
        size_t n = session_longest(s, p, h->windows[i], wanted);
        longest = n > longest ? n : longest;
    }
    return longest;
}

static struct find find_on_disk(const struct carat_session *s, const struct carat_prompt *p,
                                size_t to)
{
    const struct snapshot_folder *f = &s->options.cache->folder;
    struct find found = {0};
    for (size_t i = 0; i < f->n_entries; i++) {
        const struct snapshot_head *h = &f->entries[i].head;
        size_t common = 0;
        if (!f->entries[i].is_readable || !snapshot_fits(h, s, f->identity)) {
            continue;
        }
        size_t n = longest_window(s, p, h, to, &common);
        found.known = common > found.known ? common : found.known;
        if (n > found.n) {
            found.n = n;
            found.i = i;
        }
    }
    return found;
}

// The timeline becomes what the snapshot has of the prompt; 0: it could not be read. The lock is
// held before and after, not while rows are read: a file that is removed meanwhile can still be
// read to its end.
static size_t read_entry(struct carat_session *s, const struct carat_prompt *p, size_t to, size_t i)
{
    struct carat_cache *c = s->options.cache;
    struct snapshot file = {0};
    struct carat_error err = {0};
    char name[SNAPSHOT_NAME_SIZE];
    size_t common = 0;
    size_t n = 0;
    memcpy(name, c->folder.entries[i].name, sizeof(name));
    snapshot_folder_touch(&c->folder, i);
    int rc = snapshot_folder_open_entry(&c->folder, i, &file, &err);
    if (rc == 0 && snapshot_fits(&file.head, s, c->folder.identity)) {
        n = longest_window(s, p, &file.head, to, &common); // what the file says now
    }
    if (n > 0) {
        pthread_mutex_unlock(&c->lock);
        rc = snapshot_restore(&file, s, n, &err);
        pthread_mutex_lock(&c->lock);
    }
    if (rc == CARAT_E_FORMAT) {
        snapshot_folder_remove(&c->folder, name);
    }
    if (rc) {
        log_line(CARAT_LOG_WARNING, "not used from the cache: %s", err.text);
    }
    snapshot_close(&file);
    return rc ? 0 : n;
}

// Of a timeline that is kept nowhere else. What a crash of the system leaves of a file is found out
// by its checksums.
static int put(struct carat_session *s, struct carat_error *err)
{
    struct carat_cache *c = s->options.cache;
    struct snapshot_coming coming;
    pthread_mutex_lock(&c->lock);
    int rc = snapshot_folder_begin(&c->folder, s, &coming, err);
    if (coming.path) {
        pthread_mutex_unlock(&c->lock);
        rc = snapshot_write(s, &coming.head, coming.path, false, err);
        pthread_mutex_lock(&c->lock);
        rc = snapshot_folder_end(&c->folder, &coming, rc, err);
    }
    publish(c);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

static bool is_worth_keeping(const struct carat_session *s)
{
    const struct carat_cache *c = s->options.cache;
    return c && c->folder.path && !s->is_filled && s->n_tokens >= c->tokens_min &&
           session_check_can_append(s, NULL) == 0;
}

int carat_session_keep(struct carat_session *s, struct carat_error *err)
{
    if (s->branch == s->n_tokens) {
        s->branch = 0;
    }
    return is_worth_keeping(s) ? put(s, err) : 0;
}

// Other conversations end where the next one takes their place. A conversation that goes on does
// not: what it lets go of is an answer that the client sends back otherwise, or wants anew.
static bool makes_room(const struct carat_session *s, const struct session_beginning *own)
{
    const struct carat_cache *c = s->options.cache;
    if (!c || own->common >= s->n_tokens || s->n_tokens - own->common < c->tokens_min) {
        return false;
    }
    const size_t reach = own->common + KV_MARK_SLACK;
    bool is_last_answer = reach >= s->prompt_end;
    bool is_last_turn =
        s->anchor > 0 && reach >= s->anchor && own->common < s->anchor + c->tokens_min;
    return !is_last_answer && !is_last_turn;
}

void prefix_cache_save(struct carat_session *s, const struct session_beginning *own)
{
    struct carat_error err = {0};
    if (makes_room(s, own) && carat_session_keep(s, &err)) {
        log_line(CARAT_LOG_WARNING, "a timeline of %zu tokens was not kept: %s", s->n_tokens,
                 err.text);
    }
}

// ----------------------------------------------------------------------------------- live sessions

struct live {
    const struct carat_session *from;
    size_t n;
    bool from_mark;
    size_t known;
};

static bool is_alike(const struct carat_session *a, const struct carat_session *b)
{
    return a != b && !b->is_filled && a->options.kv_type == b->options.kv_type &&
           a->options.sound_sees_ahead == b->options.sound_sees_ahead;
}

// The engine's lock is held, here and while the result is used.
static struct live find_live(const struct carat_session *s, const struct carat_prompt *p, size_t to)
{
    struct live found = {0};
    for (const struct carat_session *t = s->options.cache->sessions; t; t = t->next) {
        if (!is_alike(s, t)) {
            continue;
        }
        struct kv_held held = kv_cache_held(&t->kv, t->n_tokens, t->n_written);
        size_t common = session_common_tokens(s, p, t->tokens, t->keys, t->n_tokens);
        size_t wanted = session_wanted(s, p, common, to, t->n_tokens == to && t->has_logits);
        size_t n = session_longest(s, p, held, wanted);
        size_t marked = session_longest(s, p, t->mark.held, wanted);
        found.known = common > found.known ? common : found.known;
        if (n > found.n || marked > found.n) {
            found.from = t;
            found.from_mark = marked > n;
            found.n = marked > n ? marked : n;
        }
    }
    return found;
}

// Rows that both timelines have in common are there already, but for those of the rings.
static void copy_live(struct carat_session *s, const struct carat_prompt *p,
                      const struct live *live, size_t common)
{
    const struct carat_session *t = live->from;
    size_t n = live->n;
    size_t full_first = common < n ? common : n;
    struct kv_held held = kv_cache_held(&t->kv, t->n_tokens, t->n_written);
    if (live->from_mark) {
        held = (struct kv_held){.first = n, .end = n}; // no rows of the rings
    }
    size_t n_written = kv_cache_copy(&s->kv, &t->kv, held, full_first, n);
    if (live->from_mark) {
        n_written = kv_mark_put(&t->mark, &s->kv, n);
    }
    session_set_tokens(s, p, n);
    s->n_written = n_written;
    if (n == t->n_tokens && t->has_logits) {
        session_keep_logits(s, n - 1, t->logits);
        s->has_logits = true;
    }
}

// Takes at least n tokens from another session; 0 when none has as many.
static size_t take_live(struct carat_session *s, const struct carat_prompt *p, size_t to, size_t n,
                        size_t common, size_t *known)
{
    pthread_mutex_lock(&s->engine->lock);
    struct live live = find_live(s, p, to);
    if (live.n >= n) {
        copy_live(s, p, &live, common);
    }
    pthread_mutex_unlock(&s->engine->lock);
    *known = live.known;
    return live.n >= n ? live.n : 0;
}

// Memory is read in less time than a few tokens are evaluated, a file is not: how many tokens a
// live session has to have of a prompt, so that no file is read for it.
static size_t enough_live(const struct carat_cache *c, const struct session_beginning *own,
                          const struct find *disk)
{
    const size_t worth = own->n + c->tokens_min;
    return disk->n > worth + c->tokens_min ? disk->n - c->tokens_min : worth;
}

// A file for this prompt, when it spares enough more than all that is in memory. The lock is held.
static bool find_file(const struct carat_session *s, const struct carat_prompt *p, size_t to,
                      const struct session_beginning *own, struct find *out)
{
    const struct carat_cache *c = s->options.cache;
    *out = find_on_disk(s, p, to);
    if (out->n < own->n + c->tokens_min) {
        return false;
    }
    pthread_mutex_lock(&s->engine->lock);
    bool is_live = find_live(s, p, to).n >= enough_live(c, own, out);
    pthread_mutex_unlock(&s->engine->lock);
    return !is_live;
}

bool prefix_cache_needs_disk(const struct carat_session *s, const struct carat_prompt *p, size_t to,
                             const struct session_beginning *own)
{
    struct carat_cache *c = s->options.cache;
    struct find found;
    if (!c || !c->folder.path) {
        return false;
    }
    pthread_mutex_lock(&c->lock);
    bool is = makes_room(s, own) && is_worth_keeping(s) && snapshot_folder_lacks(&c->folder, s);
    is = is || (p && find_file(s, p, to, own, &found));
    pthread_mutex_unlock(&c->lock);
    return is;
}

void prefix_cache_fetch(struct carat_session *s, const struct carat_prompt *p, size_t to,
                        const struct session_beginning *own)
{
    struct carat_cache *c = s->options.cache;
    struct find found;
    if (!c || !c->folder.path) {
        return;
    }
    pthread_mutex_lock(&c->lock);
    if (find_file(s, p, to, own, &found)) {
        c->n_disk_hits += read_entry(s, p, to, found.i) > 0;
    }
    publish(c);
    pthread_mutex_unlock(&c->lock);
}

bool prefix_cache_extend(struct carat_session *s, const struct carat_prompt *p, size_t to,
                         const struct session_beginning *own, size_t *n)
{
    struct carat_cache *c = s->options.cache;
    struct find disk = {0};
    size_t known_live = 0;
    if (!c) {
        return false;
    }
    const size_t worth = own->n + c->tokens_min;
    pthread_mutex_lock(&c->lock);
    if (c->folder.path) {
        disk = find_on_disk(s, p, to);
    }
    *n = take_live(s, p, to, enough_live(c, own, &disk), own->common, &known_live);
    c->n_live_hits += *n > 0;
    if (*n == 0 && disk.n >= worth) {
        *n = read_entry(s, p, to, disk.i);
        c->n_disk_hits += *n > 0;
    }
    publish(c);
    pthread_mutex_unlock(&c->lock);

    // The longest beginning that anybody knows ends where prompts part. If it cannot be gone on
    // from now, it can be the next time.
    size_t known = own->common > known_live ? own->common : known_live;
    known = session_wanted(s, p, known > disk.known ? known : disk.known, to, false);
    size_t reached = *n > 0 ? *n : own->n;
    if (c->folder.path && known >= c->tokens_min && known >= reached + c->tokens_min) {
        s->branch = known;
    }
    return *n > 0;
}
