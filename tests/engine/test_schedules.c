// SPDX-License-Identifier: Apache-2.0
// Output does not depend on how it was scheduled. A round makes two timelines up and evaluates each
// in the plainest way: one session, one thread, one token at a time, at the best level of kernels.
// Then, at every level that this machine has, sessions with chunks, threads and caches of all kinds
// walk along them in a random order: syncing, rewinding, changing from one to the other, reading
// prompts in pieces of any size beside the others, decoding together, scoring, being stopped, saved
// and loaded, taking beginnings from each other and from snapshots, from one or two threads at
// once. Every row of logits that comes out must be the plain one's, to the bit.
//
// A round is made from its seed alone; docs/developing.md says how to run more of them. Plain C
// takes most of the time although it walks less than the others, and no deep timelines.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"
#include "base/os_file.h"
#include "compute/cpu/cpu.h"
#include "engine/internal.h"
#include "hand_media.h"
#include "twins.h"

static char folder[] = "/tmp/carat-schedules-XXXXXX";
static size_t n_live_hits;
static size_t n_disk_hits;
static size_t n_written;

#define ROUNDS       14
#define ACTIONS      14
#define STORY_MAX    640
#define CONTEXT      672
#define SESSIONS_MAX 5
#define MEDIA_MAX    4
#define N_KV         3
#define FRAME        MEDIA_FRAME_SAMPLES

// Tiny models of the 12B's architecture. block 0: text only.
static const struct model {
    const char *path;
    uint32_t block;
    size_t deepest; // tokens of the longest timeline: attention's segments are 512 keys
} models[] = {
    {TEST_DATA "/fixtures/quant/model-Q4_0.gguf", 0, 600},
    {TEST_DATA "/fixtures/unified-text/model", 12, 600},
    {TEST_DATA "/fixtures/quant/model-Q4_K.gguf", 0, 600},
    {TEST_DATA "/fixtures/quant/model-Q6_K.gguf", 0, 600},
    {TEST_DATA "/fixtures/unified-text/model", 12, 200},
    {TEST_DATA "/fixtures/quant/model-Q8_0.gguf", 0, 600},
    {TEST_DEMO "/carat-demo.gguf", 48, 60}, // Q8_0, sees and hears
};
enum { N_MODELS = sizeof(models) / sizeof(models[0]) };

// ------------------------------------------------------------------------------------------ chance

struct chance {
    uint64_t state;
};

// splitmix64
static uint64_t next(struct chance *c)
{
    uint64_t x = c->state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static size_t below(struct chance *c, size_t n)
{
    return (size_t)(next(c) % n);
}

static size_t between(struct chance *c, size_t first, size_t last)
{
    return first + below(c, last - first + 1);
}

// ----------------------------------------------------------------------------------------- stories

// A timeline that sessions walk along.
struct story {
    carat_token tokens[STORY_MAX];
    bool is_soft[STORY_MAX]; // stands for a part of a medium
    size_t n;
    struct {
        const struct carat_media *medium;
        size_t first;
    } media[MEDIA_MAX];
    size_t n_media;
};

struct round {
    uint64_t seed;
    const struct model *model;
    enum carat_activations activations;
    bool sound_sees_ahead;
    struct carat_media *pictures[2]; // of the same size
    struct carat_media *sound;
    struct story stories[2];
    bool is_deep; // beyond one of attention's segments
    bool has_kv[N_KV];
    size_t n_vocab;
    float *rows[2][N_KV]; // the plain logits [n][n_vocab]
};

// Whether a prompt may end in front of position n.
static bool may_end(const struct story *s, size_t n)
{
    return n > 0 && !(n < s->n && s->is_soft[n - 1] && s->is_soft[n]);
}

static size_t some_end(const struct story *s, struct chance *c)
{
    size_t n;
    do {
        n = between(c, 1, s->n);
    } while (!may_end(s, n));
    return n;
}

static void add(struct story *s, carat_token token, size_t n, bool is_soft)
{
    for (size_t i = 0; i < n && s->n < STORY_MAX; i++) {
        s->is_soft[s->n] = is_soft;
        s->tokens[s->n++] = token;
    }
}

static void add_text(struct story *s, const struct carat_engine *e, struct chance *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        carat_token token;
        do {
            token = (carat_token)below(c, carat_engine_info(e)->n_vocab);
        } while (carat_token_is_special(e, token));
        add(s, token, 1, false);
    }
}

static void add_medium(struct story *s, const struct carat_engine *e, const struct carat_media *m)
{
    const struct special_tokens *t = tokenizer_specials(engine_tokenizer(e));
    bool is_sound = m->info.type == CARAT_MEDIA_AUDIO;
    if (s->n_media == MEDIA_MAX || s->n + m->info.n_tokens + 2 > STORY_MAX) {
        return;
    }
    add(s, is_sound ? t->audio_open : t->image_open, 1, false);
    s->media[s->n_media].medium = m;
    s->media[s->n_media++].first = s->n;
    add(s, is_sound ? t->audio : t->image, m->info.n_tokens, true);
    add(s, is_sound ? t->audio_close : t->image_close, 1, false);
}

static void lengthen(struct story *s, const struct round *r, const struct carat_engine *e,
                     struct chance *c, size_t n)
{
    while (s->n < n) {
        size_t kind = r->model->block ? below(c, 6) : 2;
        if (kind < 2 && s->n + r->pictures[0]->info.n_tokens < n) {
            add_medium(s, e, kind == 0 ? r->sound : r->pictures[below(c, 2)]);
        }
        size_t part = between(c, 1, 40);
        add_text(s, e, c, part < n - s->n ? part : n > s->n ? n - s->n : 0);
    }
}

// The second begins like the first.
static void make_stories(struct round *r, const struct carat_engine *e, struct chance *c)
{
    r->is_deep = r->model->deepest > STORY_MAX / 2 && below(c, 4) == 0;
    size_t n = r->is_deep ? between(c, 500, r->model->deepest) : between(c, 20, 110);
    struct story *a = &r->stories[0];
    struct story *b = &r->stories[1];
    n = n < r->model->deepest ? n : r->model->deepest;
    add(a, tokenizer_specials(engine_tokenizer(e))->bos, 1, false);
    lengthen(a, r, e, c, n);
    *b = *a;
    do {
        b->n = some_end(a, c);
    } while (b->n > 90);
    while (b->n_media > 0 && b->media[b->n_media - 1].first >= b->n) {
        b->n_media--;
    }
    lengthen(b, r, e, c, b->n + between(c, 1, 60));
}

static struct carat_prompt *make_prompt(const struct story *s, size_t n,
                                        const struct carat_engine *e)
{
    struct carat_prompt *prompt = NULL;
    const struct carat_media *media[MEDIA_MAX];
    size_t n_media = 0;
    while (n_media < s->n_media && s->media[n_media].first < n) {
        media[n_media] = s->media[n_media].medium;
        n_media++;
    }
    if (carat_prompt_from_tokens(&prompt, e, s->tokens, n, NULL) ||
        (n_media > 0 && carat_prompt_add_media(prompt, e, media, n_media, NULL))) {
        carat_prompt_free(prompt);
        return NULL;
    }
    return prompt;
}

// ------------------------------------------------------------------------------------- plain rows

// level "": the best.
static struct carat_engine *open_engine(const struct round *r, const char *level, size_t n_threads)
{
    struct carat_engine_options options = {
        .model = r->model->path, .n_threads = n_threads, .activations = r->activations};
    struct carat_engine *e = NULL;
    struct carat_error err = {0};
    setenv("CARAT_CPU", level, 1);
    if (carat_engine_open(&e, &options, &err)) {
        fail_msg("%s", err.text);
    }
    return e;
}

struct plain {
    float *rows;
    size_t n_rows;
};

static void keep_rows(void *user, const char *name, int layer, size_t first, size_t n_rows,
                      size_t n_columns, const float *rows)
{
    struct plain *p = user;
    (void)layer;
    if (strcmp(name, "logits") == 0) {
        memcpy(p->rows + first * n_columns, rows, n_rows * n_columns * sizeof(float));
        p->n_rows += n_rows;
    }
}

static float *plain_rows(const struct round *r, const struct story *story, size_t kv,
                         struct carat_engine *e)
{
    struct plain plain = {.rows = mem_new_array(story->n * r->n_vocab, sizeof(float), NULL)};
    struct carat_session_options options = {.context_max = STORY_MAX,
                                            .kv_type = (enum carat_dtype_kv)kv,
                                            .prefill_chunk = 1,
                                            .sound_sees_ahead = r->sound_sees_ahead,
                                            .has_all_logits = true,
                                            .on_tensor = keep_rows,
                                            .user = &plain};
    struct carat_session *s = NULL;
    struct carat_prompt *prompt = make_prompt(story, story->n, e);
    struct carat_error err = {0};
    assert_non_null(plain.rows);
    assert_non_null(prompt);
    if (carat_session_new(&s, e, &options, &err) || carat_session_sync(s, prompt, NULL, &err)) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(plain.n_rows, story->n);
    carat_prompt_free(prompt);
    carat_session_free(s);
    return plain.rows;
}

static void make_round(struct round *r, uint64_t seed)
{
    struct chance c = {seed * 0x2545f4914f6cdd1du};
    *r = (struct round){.seed = seed, .model = &models[seed % N_MODELS]};
    r->activations = below(&c, 4) == 0 ? CARAT_ACTIVATIONS_FLOAT : CARAT_ACTIVATIONS_AUTO;
    r->sound_sees_ahead = below(&c, 3) == 0;
    if (r->model->block) {
        uint32_t block = r->model->block;
        uint32_t width = block * (uint32_t)between(&c, 1, 6);
        uint32_t height = block * (uint32_t)between(&c, 1, 6);
        r->pictures[0] = hand_picture(width, height, block, (unsigned)next(&c), NULL);
        r->pictures[1] = hand_picture(width, height, block, (unsigned)next(&c), NULL);
        r->sound = hand_sound(between(&c, 1, 24 * FRAME), 0, (unsigned)next(&c), NULL);
    }
    struct carat_engine *e = open_engine(r, "", 1);
    r->n_vocab = carat_engine_info(e)->n_vocab;
    make_stories(r, e, &c);
    r->has_kv[below(&c, N_KV)] = true;
    r->has_kv[below(&c, N_KV)] = true;
    for (size_t i = 0; i < 2; i++) {
        for (size_t kv = 0; kv < N_KV; kv++) {
            r->rows[i][kv] = r->has_kv[kv] ? plain_rows(r, &r->stories[i], kv, e) : NULL;
        }
    }
    carat_engine_close(e);
}

static void free_round(struct round *r)
{
    for (size_t i = 0; i < 2; i++) {
        hand_free(r->pictures[i]);
        for (size_t kv = 0; kv < N_KV; kv++) {
            mem_free(r->rows[i][kv]);
        }
    }
    hand_free(r->sound);
}

// ----------------------------------------------------------------------------------------- walking

// A session on its way. Engines call back while they hold their lock, and other threads walk at the
// same time, so that faults are noted down here instead of being asserted.
struct walker {
    struct carat_session *session;
    const struct round *round;
    struct carat_cache *cache;
    struct carat_session_options options;
    size_t i_story;
    bool must_sync; // it was stopped
    size_t reports_left;
    size_t n_rows; // looked at
    char fault[300];
};

static void note(struct walker *w, const char *what, size_t position)
{
    if (!w->fault[0]) {
        snprintf(
            w->fault, sizeof(w->fault),
            "%.100s at position %zu of timeline %zu (kv type %d, chunk %zu, rewind %zu, %s%s%s)",
            what, position, w->i_story, (int)w->options.kv_type, w->options.prefill_chunk,
            w->options.rewind_max, w->options.has_all_logits ? "all logits" : "last logits",
            w->options.cache ? ", cached" : "", w->options.returns_to_prompt ? ", returns" : "");
    }
}

static void check_row(struct walker *w, size_t position, const float *row)
{
    const struct round *r = w->round;
    const float *want = r->rows[w->i_story][w->options.kv_type] + position * r->n_vocab;
    w->n_rows++;
    if (position >= r->stories[w->i_story].n ||
        memcmp(row, want, r->n_vocab * sizeof(float)) != 0) {
        note(w, "logits differ from the plain ones", position);
    }
}

static void look(void *user, const char *name, int layer, size_t first, size_t n_rows,
                 size_t n_columns, const float *rows)
{
    (void)layer;
    for (size_t i = 0; strcmp(name, "logits") == 0 && i < n_rows; i++) {
        check_row(user, first + i, rows + i * n_columns);
    }
}

static bool report(void *user, const char *what, uint64_t done, uint64_t total)
{
    struct walker *w = user;
    (void)what;
    (void)done;
    (void)total;
    return w->reports_left == SIZE_MAX || w->reports_left-- > 0;
}

// What a session says of itself must be the story so far.
static void check_state(struct walker *w)
{
    const struct story *story = &w->round->stories[w->i_story];
    size_t n = 0;
    const carat_token *tokens = carat_session_tokens(w->session, &n);
    const float *logits = carat_session_logits(w->session);
    if (n > story->n || memcmp(tokens, story->tokens, n * sizeof(carat_token)) != 0) {
        note(w, "other tokens", n);
    } else if (logits && n > 0) {
        check_row(w, n - 1, logits);
    } else if (!w->must_sync && n > 0 && carat_session_pending(w->session) == 0) {
        note(w, "no logits", n);
    }
}

static void reopen(struct walker *w, struct carat_engine *e, struct chance *c)
{
    static const size_t chunks[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 31, 33, 64, 100, 512};
    struct carat_error err = {0};
    size_t kv;
    carat_session_free(w->session);
    w->session = NULL;
    do {
        kv = below(c, N_KV);
    } while (!w->round->has_kv[kv]);
    w->options = (struct carat_session_options){
        .context_max = CONTEXT,
        .kv_type = (enum carat_dtype_kv)kv,
        .rewind_max = below(c, 3) ? below(c, 30) : 0,
        .prefill_chunk = chunks[below(c, sizeof(chunks) / sizeof(chunks[0]))],
        .sound_sees_ahead = w->round->sound_sees_ahead,
        .has_all_logits = below(c, 3) == 0,
        .cache = below(c, 3) ? w->cache : NULL,
        .returns_to_prompt = below(c, 2) == 0,
        .on_progress = report,
        .on_tensor = look,
        .user = w,
    };
    w->must_sync = true;
    if (carat_session_new(&w->session, e, &w->options, &err)) {
        note(w, err.text, 0);
    }
}

// The prompt is freed at once: what is left of it is the session's own affair.
static void prepare(struct walker *w, const struct carat_prompt *prompt, size_t n, bool asks_disk)
{
    struct carat_error err = {0};
    size_t reused = 0;
    size_t common = carat_session_common(w->session, prompt);
    if (asks_disk && carat_session_needs_disk(w->session, prompt) &&
        carat_session_prepare_disk(w->session, prompt, &err)) {
        note(w, err.text, n);
    }
    if (carat_session_prepare(w->session, prompt, &reused, &err)) {
        note(w, err.text, n);
    } else if (w->options.cache ? reused < common : reused != common) {
        note(w, "another common beginning", reused);
    } else if (carat_session_pending(w->session) > n - reused) {
        note(w, "too much is pending", n);
    }
    w->must_sync = false;
}

// To any point of either story, forwards or back; now and then it is stopped on the way.
static void sync_somewhere(struct walker *w, struct carat_engine *e, struct chance *c)
{
    struct carat_error err = {0};
    w->i_story = below(c, 4) == 0 ? 1 - w->i_story : w->i_story;
    const struct story *story = &w->round->stories[w->i_story];
    size_t now = 0;
    carat_session_tokens(w->session, &now);
    size_t n = some_end(story, c);
    // Mostly a little further, or back by about what can be taken back.
    size_t how = below(c, 3);
    size_t back = below(c, w->options.rewind_max + 3);
    if (how == 0) {
        n = now + below(c, 30);
    } else if (how == 1 && now > back) {
        n = now - back;
    }
    n = n < story->n ? n : story->n;
    while (!may_end(story, n)) {
        n++;
    }
    struct carat_prompt *prompt = make_prompt(story, n, e);
    if (!prompt) {
        note(w, "no prompt", n);
        return;
    }
    w->reports_left = below(c, 5) == 0 ? below(c, 20) : SIZE_MAX;
    if (below(c, 2)) {
        prepare(w, prompt, n, below(c, 2) == 0);
    } else {
        int rc = carat_session_sync(w->session, prompt, NULL, &err);
        w->must_sync = rc == CARAT_E_STOPPED;
        if (rc && !w->must_sync) {
            note(w, err.text, n);
        }
    }
    carat_prompt_free(prompt);
}

// How many tokens can be appended: text of the story.
static size_t text_ahead(const struct walker *w)
{
    const struct story *story = &w->round->stories[w->i_story];
    size_t first = 0;
    carat_session_tokens(w->session, &first);
    size_t n = first;
    while (!w->must_sync && n < story->n && !story->is_soft[n]) {
        n++;
    }
    return n - first;
}

static const carat_token *tokens_ahead(const struct walker *w)
{
    size_t n = 0;
    carat_session_tokens(w->session, &n);
    return w->round->stories[w->i_story].tokens + n;
}

static void score_some(struct walker *w, struct chance *c)
{
    struct carat_error err = {0};
    float logprobs[STORY_MAX];
    size_t n = text_ahead(w);
    n = n > 30 ? 30 : n;
    if (n > 0 &&
        carat_session_score(w->session, tokens_ahead(w), between(c, 1, n), logprobs, &err)) {
        note(w, err.text, 0);
    }
}

// What a session does in a round: false when nothing. Seldom a token comes although a prompt is
// still being read, which ends the reading.
static bool choose_step(struct carat_step *out, const struct walker *w, struct chance *c)
{
    static const size_t sizes[] = {0, 1, 2, 3, 5, 8, 16, 30, 100};
    bool is_reading = carat_session_pending(w->session) > 0;
    *out = (struct carat_step){.session = w->session, .token = CARAT_TOKEN_NONE};
    if (below(c, 4) == 0 || (!is_reading && text_ahead(w) == 0)) {
        return false;
    }
    if (!is_reading || (below(c, 20) == 0 && text_ahead(w) > 0)) {
        out->token = *tokens_ahead(w);
    } else {
        out->n_tokens_max = sizes[below(c, sizeof(sizes) / sizeof(sizes[0]))];
    }
    return true;
}

// A few steps of some of the sessions together, others coming and going.
static void decode_some(struct walker *walkers, size_t n, struct chance *c)
{
    for (size_t i = between(c, 1, 12); i > 0; i--) {
        struct carat_step steps[SESSIONS_MAX];
        struct walker *who[SESSIONS_MAX];
        struct carat_error err = {0};
        size_t n_steps = 0;
        size_t first = below(c, n);
        for (size_t k = 0; k < n; k++) {
            struct walker *w = &walkers[(first + k) % n];
            if (choose_step(&steps[n_steps], w, c)) {
                who[n_steps++] = w;
            }
        }
        int rc = carat_decode(steps, n_steps, &err);
        for (size_t k = 0; k < n_steps; k++) {
            if (rc) {
                note(who[k], err.text, 0);
            }
            if (carat_session_parts(steps[k].session) && below(c, 4) > 0 &&
                carat_session_keep(steps[k].session, &err)) {
                note(who[k], err.text, 0);
            }
            check_state(who[k]);
        }
    }
}

// Sessions that one thread has.
struct player {
    struct carat_engine *engine;
    char path[100]; // for snapshots
    struct chance chance;
    struct walker walkers[SESSIONS_MAX];
    size_t n_walkers;
    size_t n_actions;
};

// One session goes on where another one is.
static void hand_over(const struct player *p, const struct walker *from, struct walker *to)
{
    struct carat_error err = {0};
    size_t n = 0;
    carat_session_tokens(from->session, &n);
    int rc = carat_session_save(from->session, p->path, &err);
    if (rc) {
        if (rc != CARAT_E_ARGUMENT || (n > 0 && !from->must_sync)) {
            note(to, err.text, n);
        }
        return;
    }
    bool fits = from->options.kv_type == to->options.kv_type;
    rc = carat_session_load(to->session, p->path, &err);
    if (fits && rc) {
        note(to, err.text, n);
    } else if (!fits && rc != CARAT_E_FORMAT) {
        note(to, "loaded rows of another type", n);
    } else if (fits) {
        to->i_story = from->i_story;
        to->must_sync = from->must_sync || (n > 0 && !carat_session_logits(from->session));
        check_state(to);
    }
}

static bool has_fault(const struct player *p)
{
    for (size_t i = 0; i < p->n_walkers; i++) {
        if (p->walkers[i].fault[0]) {
            return true;
        }
    }
    return false;
}

static void *play(void *argument)
{
    struct player *p = argument;
    struct chance *c = &p->chance;
    for (size_t i = 0; i < p->n_walkers; i++) {
        reopen(&p->walkers[i], p->engine, c);
    }
    for (size_t i = 0; i < p->n_actions && !has_fault(p); i++) {
        struct walker *w = &p->walkers[below(c, p->n_walkers)];
        size_t what = below(c, 16);
        if (what == 0) {
            reopen(w, p->engine, c);
        } else if (what < 7 || w->must_sync) {
            sync_somewhere(w, p->engine, c);
        } else if (what < 9) {
            score_some(w, c);
        } else if (what == 9) {
            hand_over(p, w, &p->walkers[below(c, p->n_walkers)]);
        } else if (what == 10) {
            struct carat_error err = {0};
            if (carat_session_keep(w->session, &err)) {
                note(w, err.text, 0);
            }
        } else {
            decode_some(p->walkers, p->n_walkers, c);
        }
        if (w->session) {
            check_state(w);
        }
    }
    return NULL;
}

static void start_player(struct player *p, const struct round *r, struct carat_engine *e,
                         struct carat_cache *cache, struct chance *c)
{
    *p = (struct player){.engine = e, .chance = {next(c)}};
    snprintf(p->path, sizeof(p->path), "%s/%llx", folder, (unsigned long long)next(c));
    p->n_walkers = between(c, 1, SESSIONS_MAX);
    for (size_t i = 0; i < p->n_walkers; i++) {
        p->walkers[i].round = r;
        p->walkers[i].cache = cache;
        p->walkers[i].i_story = below(c, 2);
    }
}

// Frees the sessions; how many rows were looked at.
static size_t end_player(struct player *p, const char *level, size_t n_threads)
{
    size_t n_rows = 0;
    for (size_t i = 0; i < p->n_walkers; i++) {
        struct walker *w = &p->walkers[i];
        carat_session_free(w->session);
        n_rows += w->n_rows;
        if (w->fault[0]) {
            const struct round *r = w->round;
            fail_msg("CARAT_SCHEDULE_SEED=%llu, %s, %s, %zu threads, %s activations: %s",
                     (unsigned long long)r->seed, r->model->path, level, n_threads,
                     r->activations ? "float" : "int8", w->fault);
        }
    }
    return n_rows;
}

static size_t run_level(const struct round *r, const char *level, uint64_t salt)
{
    struct chance c = {r->seed + salt};
    size_t n_threads = between(&c, 1, 4);
    struct carat_engine *e = open_engine(r, level, n_threads);
    // Snapshots of other rounds' and levels' sessions are there, too: bits do not depend on levels.
    struct carat_cache_options cache_options = {.folder = below(&c, 4) ? folder : NULL,
                                                .size_max = 4000000,
                                                .tokens_min = between(&c, 1, 40)};
    struct carat_cache *cache = NULL;
    assert_int_equal(carat_cache_new(&cache, e, &cache_options, NULL), 0);
    struct player players[2];
    size_t n_players = below(&c, 3) == 0 ? 2 : 1;
    pthread_t other;
    size_t n_rows = 0;
    for (size_t i = 0; i < n_players; i++) {
        start_player(&players[i], r, e, cache, &c);
        players[i].n_actions = strcmp(level, "generic") == 0 ? ACTIONS / 4 : ACTIONS;
    }
    if (n_players == 2) {
        assert_int_equal(pthread_create(&other, NULL, play, &players[1]), 0);
    }
    play(&players[0]);
    if (n_players == 2) {
        pthread_join(other, NULL);
    }
    for (size_t i = 0; i < n_players; i++) {
        n_rows += end_player(&players[i], level, n_threads);
        os_remove(players[i].path);
    }
    struct carat_cache_stats stats;
    carat_cache_stats(cache, &stats);
    n_live_hits += stats.n_live_hits;
    n_disk_hits += stats.n_disk_hits;
    n_written += stats.n_written;
    assert_true(stats.snapshot_bytes <= cache_options.size_max);
    carat_cache_free(cache);
    carat_engine_close(e);
    return n_rows;
}

static void remove_folder(void)
{
    char **names = NULL;
    size_t n = 0;
    assert_int_equal(os_list(&names, &n, folder, 100000, NULL), 0);
    for (size_t i = 0; i < n; i++) {
        char path[300];
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        os_remove(path);
    }
    os_list_free(names, n);
    rmdir(folder);
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = os_env(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void test_no_schedule_changes_a_bit(void **state)
{
    (void)state;
    uint64_t seed = setting("CARAT_SCHEDULE_SEED", 1);
    uint64_t n_rounds =
        setting("CARAT_SCHEDULE_ROUNDS", os_env("CARAT_SCHEDULE_SEED") ? 1 : ROUNDS);
    size_t n_rows = 0;
    struct kern unused;
    twins_add();
    assert_non_null(mkdtemp(folder));
    for (uint64_t i = 0; i < n_rounds; i++) {
        static struct round r;
        make_round(&r, seed + i);
        const char *level;
        for (size_t k = 0; (level = cpu_level_name(k)); k++) {
            bool is_slow = r.is_deep && strcmp(level, "generic") == 0;
            if (!is_slow && cpu_kern_init_level(&unused, level)) {
                n_rows += run_level(&r, level, k << 32);
            }
        }
        free_round(&r);
    }
    remove_folder();
    print_message(
        "%zu rows of logits in %llu rounds from seed %llu; beginnings from other sessions: "
        "%zu, from %zu snapshots: %zu\n",
        n_rows, (unsigned long long)n_rounds, (unsigned long long)seed, n_live_hits, n_written,
        n_disk_hits);
    assert_true(n_rows > n_rounds);
    assert_true(n_rows < 5000 || (n_live_hits > 0 && n_disk_hits > 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_schedule_changes_a_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
