// SPDX-License-Identifier: Apache-2.0
// What sessions share and what is kept on disk, seen from outside: how much of a prompt did not
// have to be evaluated, what the folder holds, and always the same logits.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"
#include "base/os_file.h"
#include "engine/internal.h"
#include "timelines.h"

#define N   200
#define MIN 8 // tokens_min

struct fixture {
    struct place place;
    struct carat_engine *engine;
    struct carat_cache *cache;
    carat_token tokens[N];  // a conversation
    carat_token another[N]; // one that has nothing in common with it
    carat_token same[N];    // one that begins with the first 60 of its tokens
};

static struct carat_cache *open_cache(struct fixture *f, const char *folder, uint64_t size_max)
{
    struct carat_cache_options options = {
        .folder = folder, .size_max = size_max, .tokens_min = MIN};
    struct carat_cache *cache = NULL;
    struct carat_error err = {0};
    if (carat_cache_new(&cache, f->engine, &options, &err)) {
        fail_msg("%s", err.text);
    }
    return cache;
}

static int open_fixture(void **state)
{
    static struct fixture f;
    place_make(&f.place);
    f.engine = open_engine(TIMELINES_MODEL);
    fill_tokens(f.tokens, N, 1);
    fill_tokens(f.another, N, 2);
    memcpy(f.same, f.tokens, sizeof(f.same));
    fill_tokens(f.same + 60, N - 60, 3);
    f.cache = open_cache(&f, place_path(&f.place, ""), 0);
    *state = &f;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *f = *state;
    carat_cache_free(f->cache);
    carat_engine_close(f->engine);
    place_remove(&f->place);
    return 0;
}

static struct carat_session *cached(struct fixture *f)
{
    return open_session(f->engine, (struct carat_session_options){.cache = f->cache});
}

static struct carat_cache_stats stats_of(struct carat_cache *cache)
{
    struct carat_cache_stats stats;
    carat_cache_stats(cache, &stats);
    return stats;
}

static void reopen(struct fixture *f, uint64_t size_max)
{
    carat_cache_free(f->cache);
    f->cache = open_cache(f, f->place.folder, size_max);
}

// ----------------------------------------------------------------------------------- live sessions

static void test_a_session_takes_the_beginning_of_another(void **state)
{
    struct fixture *f = *state;
    struct carat_session *a = cached(f);
    struct carat_session *b = cached(f);
    sync_tokens(a, f->tokens, 60);
    assert_int_equal(sync_tokens(b, f->same, 90), 60);
    check_logits(b, f->same, 90);
    check_goes_on(b, f->same, 90);
    // The same prompt again: with the other's logits nothing is left to do.
    assert_int_equal(sync_tokens(b, f->tokens, 60), 60);
    check_logits(b, f->tokens, 60);
    check_goes_on(a, f->tokens, 60);
    struct carat_cache_stats stats = stats_of(f->cache);
    assert_int_equal(stats.n_live_hits, 2);
    assert_int_equal(stats.n_disk_hits, 0);
    assert_int_equal(stats.tokens_reused, 120);
    assert_int_equal(stats.tokens_prompted, 60 + 90 + 60);
    carat_session_free(a);
    assert_int_equal(sync_tokens(b, f->tokens, 30), 0); // it is gone
    carat_session_free(b);
}

static void test_only_like_sessions_share(void **state)
{
    struct fixture *f = *state;
    struct carat_session *a = cached(f);
    struct carat_session *b = open_session(
        f->engine, (struct carat_session_options){.cache = f->cache, .kv_type = CARAT_KV_F32});
    struct carat_session *c = open_session(f->engine, (struct carat_session_options){0});
    struct carat_session *d = cached(f);
    sync_tokens(a, f->tokens, 60);
    assert_int_equal(sync_tokens(b, f->tokens, 60), 0);
    assert_int_equal(sync_tokens(c, f->tokens, 60), 0);
    assert_int_equal(carat_session_fill(a, 60, NULL), 0);
    const carat_token zeros[20] = {0};
    assert_int_equal(sync_tokens(d, zeros, 20), 0); // rows that were made up are no beginning
    assert_int_equal(sync_tokens(a, f->tokens, MIN - 1), 0);
    assert_int_equal(sync_tokens(d, f->tokens, 30), 0); // not worth it
    carat_session_free(a);
    carat_session_free(b);
    carat_session_free(c);
    carat_session_free(d);
}

// The window before the beginning's end is gone from the ring of who has read on; but its mark
// remembers one place.
static void test_a_mark_serves_other_sessions_too(void **state)
{
    struct fixture *f = *state;
    struct carat_session *a = open_session(
        f->engine, (struct carat_session_options){.cache = f->cache, .returns_to_prompt = true});
    struct carat_session *b = cached(f);
    sync_tokens(a, f->tokens, 60);
    for (size_t i = 60; i < 100; i++) {
        decode_token(a, f->tokens[i]);
    }
    assert_int_equal(sync_tokens(b, f->same, 90), 60);
    check_logits(b, f->same, 90);
    carat_session_free(a);
    carat_session_free(b);
}

// ------------------------------------------------------------------------------------
// conversations

// The answer is longer than the window; what comes back of it is shorter.
static void test_thoughts_may_be_left_out(void **state)
{
    struct fixture *f = *state;
    for (size_t answer = 1; answer < 100; answer += 13) {
        struct carat_session *s =
            open_session(f->engine, (struct carat_session_options){.returns_to_prompt = true,
                                                                   .rewind_max = answer % 10});
        assert_int_equal(sync_tokens(s, f->tokens, 60), 0);
        for (size_t i = 0; i < answer; i++) {
            decode_token(s, f->another[i]);
        }
        struct carat_prompt *p = make_prompt(f->engine, f->tokens, 80);
        assert_int_equal(carat_session_common(s, p), 60);
        carat_prompt_free(p);
        assert_int_equal(prepare_tokens(s, f->tokens, 80), 60);
        while (carat_session_pending(s) > 0) {
            struct carat_step step = {s, CARAT_TOKEN_NONE, 11};
            assert_int_equal(carat_decode(&step, 1, NULL), 0);
        }
        check_logits(s, f->tokens, 80);
        // Twice the same answer, and the next turn.
        for (size_t i = 0; i < answer; i++) {
            decode_token(s, f->another[i]);
        }
        assert_int_equal(sync_tokens(s, f->tokens, 80), 79);
        for (size_t i = 0; i < answer; i++) {
            decode_token(s, f->another[i + 3]);
        }
        assert_int_equal(sync_tokens(s, f->tokens, 120), 80);
        check_logits(s, f->tokens, 120);
        check_goes_on(s, f->tokens, 120);
        carat_session_free(s);
    }
}

// The prompt's own last tokens, an empty thought, are not there in the next one either.
static void test_an_empty_thought_may_be_left_out(void **state)
{
    struct fixture *f = *state;
    struct carat_session *s = open_session(
        f->engine, (struct carat_session_options){.cache = f->cache, .returns_to_prompt = true});
    carat_token prompt[N];
    for (size_t n = 60; n <= 160; n += 50) {
        memcpy(prompt, f->tokens, sizeof(prompt));
        fill_tokens(prompt + n - 4, 4, 99);
        assert_int_equal(sync_tokens(s, prompt, n), n == 60 ? 0 : n - 50 - 4);
        check_logits(s, prompt, n);
        for (size_t i = 0; i < 40; i++) {
            decode_token(s, f->another[i]);
        }
    }
    assert_int_equal(place_count(&f->place, ".kv", NULL), 0);
    carat_session_free(s);
}

// A model that calls tools goes on in its turn, thoughts included; they are left out when the user
// speaks again, which is several prompts later.
static void test_thoughts_of_a_turn_with_tools_may_be_left_out(void **state)
{
    struct fixture *f = *state;
    struct carat_session *s =
        open_session(f->engine, (struct carat_session_options){.returns_to_prompt = true});
    carat_token timeline[N];
    size_t n = 60;
    memcpy(timeline, f->tokens, sizeof(timeline));
    sync_tokens(s, timeline, n);
    for (size_t call = 0; call < 3; call++) {
        for (size_t i = 0; i < 25; i++) {
            timeline[n] = f->another[n];
            decode_token(s, timeline[n]);
            n++;
        }
        assert_int_equal(sync_tokens(s, timeline, n + 5), n); // the tool's answer
        n += 5;
    }
    assert_int_equal(sync_tokens(s, f->same, 60), 59); // one token again, for its logits
    assert_int_equal(sync_tokens(s, f->same, 110), 60);
    check_logits(s, f->same, 110);
    carat_session_free(s);
}

// Where every turn only lengthens the timeline, it is the newest turn whose answer can be taken
// back.
static void test_the_newest_turn_is_the_one_to_go_back_to(void **state)
{
    struct fixture *f = *state;
    struct carat_session *s =
        open_session(f->engine, (struct carat_session_options){.returns_to_prompt = true});
    carat_token timeline[N];
    size_t n = 0;
    memcpy(timeline, f->tokens, sizeof(timeline));
    for (size_t turn = 0; turn < 4; turn++) {
        timeline[n] = tokenizer_specials(engine_tokenizer(f->engine))->turn_open;
        assert_int_equal(sync_tokens(s, timeline, n + 12), n);
        n += 12;
        for (size_t i = 0; i < 25; i++) {
            decode_token(s, timeline[n++]);
        }
    }
    for (size_t i = 0; i < 25; i++) { // what is behind the last prompt differs
        timeline[n - 25 + i] = f->another[i];
    }
    assert_int_equal(sync_tokens(s, timeline, n), n - 25);
    check_logits(s, timeline, n);
    carat_session_free(s);
}

// ---------------------------------------------------------------------------------------- the disk

static void test_what_makes_room_is_kept_and_found_again(void **state)
{
    struct fixture *f = *state;
    struct carat_session *s = cached(f);
    sync_tokens(s, f->tokens, 100);
    decode_token(s, f->tokens[100]);
    assert_int_equal(place_count(&f->place, ".kv", NULL), 0);
    assert_int_equal(sync_tokens(s, f->another, 50), 0);
    assert_int_equal(place_count(&f->place, ".kv", NULL), 1);
    assert_int_equal(sync_tokens(s, f->tokens, 120), 101);
    check_logits(s, f->tokens, 120);
    check_goes_on(s, f->tokens, 120);
    assert_int_equal(place_count(&f->place, ".kv", NULL), 2);
    carat_session_free(s);

    reopen(f, 0); // another process
    assert_int_equal(stats_of(f->cache).n_snapshots, 2);
    s = cached(f);
    assert_int_equal(sync_tokens(s, f->another, 60), 50);
    check_logits(s, f->another, 60);
    struct carat_cache_stats stats = stats_of(f->cache);
    assert_int_equal(stats.n_disk_hits, 1);
    assert_int_equal(stats.n_written, 0);
    assert_true(stats.snapshot_bytes > 100 * 256); // two full layers of 64 halves
    carat_session_free(s);
}

static void test_what_is_there_is_not_written_again(void **state)
{
    struct fixture *f = *state;
    struct carat_session *s = cached(f);
    sync_tokens(s, f->tokens, 100);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(carat_session_keep(s, NULL), 0);
    }
    assert_int_equal(stats_of(f->cache).n_written, 1);
    sync_tokens(s, f->another, MIN - 1);
    assert_int_equal(carat_session_keep(s, NULL), 0); // too short
    assert_int_equal(stats_of(f->cache).n_written, 1);
    carat_session_free(s);
}

// Answers that a client sends back otherwise, or wants anew, are no conversations of their own.
static void test_answers_alone_are_not_kept(void **state)
{
    struct fixture *f = *state;
    struct carat_session *s = open_session(
        f->engine, (struct carat_session_options){.cache = f->cache, .returns_to_prompt = true});
    sync_tokens(s, f->tokens, 60);
    for (size_t turn = 0; turn < 3; turn++) {
        for (size_t i = 0; i < 40; i++) {
            decode_token(s, f->another[i]);
        }
        assert_int_equal(sync_tokens(s, f->tokens, 60 + 20 * turn),
                         60 + 20 * turn - (turn ? 20 : 1));
    }
    assert_int_equal(place_count(&f->place, ".kv", NULL), 0);
    carat_session_free(s);
}

// Prompts that part where no window is left: the first to come this way leaves a snapshot there.
static void test_where_prompts_part_a_snapshot_is_kept(void **state)
{
    struct fixture *f = *state;
    struct carat_session *s = cached(f);
    carat_token third[N];
    sync_tokens(s, f->tokens, 150);
    assert_int_equal(sync_tokens(s, f->same, 150), 0);
    check_logits(s, f->same, 150);
    assert_int_equal(place_count(&f->place, ".kv", NULL), 2); // the conversation, and the place
    memcpy(third, f->tokens, sizeof(third));
    fill_tokens(third + 60, N - 60, 9);
    assert_int_equal(prepare_tokens(s, third, 150), 60);
    for (size_t n = 0; carat_session_pending(s) > 0; n++) {
        struct carat_step step = {s, CARAT_TOKEN_NONE, 13};
        assert_int_equal(carat_decode(&step, 1, NULL), 0);
    }
    check_logits(s, third, 150);
    carat_session_free(s);
}

// The same with a prompt that is read in rounds, and a date early in it that changes.
static void test_a_changing_date_costs_what_is_behind_it(void **state)
{
    struct fixture *f = *state;
    carat_token prompt[N];
    struct carat_session *s = cached(f);
    for (int day = 0; day < 4; day++) {
        memcpy(prompt, f->tokens, sizeof(prompt));
        prompt[40] = (carat_token)(200 + day);
        assert_int_equal(prepare_tokens(s, prompt, 150), day < 2 ? 0 : 40);
        while (carat_session_pending(s) > 0) {
            struct carat_step step = {s, CARAT_TOKEN_NONE, 64};
            assert_int_equal(carat_decode(&step, 1, NULL), 0);
            if (carat_session_parts(s)) {
                assert_int_equal(carat_session_keep(s, NULL), 0);
                assert_false(carat_session_parts(s));
            }
        }
        check_logits(s, prompt, 150);
    }
    carat_session_free(s);
}

// --------------------------------------------------------------------------- the disk, beforehand

static void prepare_disk(struct fixture *f, struct carat_session *s, const carat_token *tokens,
                         size_t n)
{
    struct carat_prompt *p = make_prompt(f->engine, tokens, n);
    struct carat_error err = {0};
    assert_true(carat_session_needs_disk(s, p));
    if (carat_session_prepare_disk(s, p, &err)) {
        fail_msg("%s", err.text);
    }
    assert_false(carat_session_needs_disk(s, p));
    carat_prompt_free(p);
}

static bool needs_disk(struct fixture *f, struct carat_session *s, const carat_token *tokens,
                       size_t n)
{
    struct carat_prompt *p = make_prompt(f->engine, tokens, n);
    bool needs = carat_session_needs_disk(s, p);
    carat_prompt_free(p);
    return needs;
}

static void read_pending(struct carat_session *s)
{
    while (carat_session_pending(s) > 0) {
        struct carat_step step = {s, CARAT_TOKEN_NONE, 13};
        assert_int_equal(carat_decode(&step, 1, NULL), 0);
    }
}

static void test_files_can_be_written_and_read_beforehand(void **state)
{
    struct fixture *f = *state;
    struct carat_session *s = cached(f);
    assert_false(needs_disk(f, s, f->tokens, 100)); // there is nothing to be kept or found
    sync_tokens(s, f->tokens, 100);
    assert_false(needs_disk(f, s, f->tokens, 120)); // goes on from what it has
    prepare_disk(f, s, f->another, 100);
    assert_int_equal(stats_of(f->cache).n_written, 1);
    check_logits(s, f->tokens, 100); // the timeline is as it was
    assert_int_equal(prepare_tokens(s, f->another, 100), 0);
    read_pending(s);
    check_logits(s, f->another, 100);

    prepare_disk(f, s, f->tokens, 110); // writes the one, reads the other
    struct carat_cache_stats stats = stats_of(f->cache);
    assert_int_equal(stats.n_written, 2);
    assert_int_equal(stats.n_disk_hits, 1);
    assert_int_equal(prepare_tokens(s, f->tokens, 110), 100);
    read_pending(s);
    check_logits(s, f->tokens, 110);
    stats = stats_of(f->cache);
    assert_int_equal(stats.n_written, 2);
    assert_int_equal(stats.n_disk_hits, 1);

    // What another session has in memory is not read from a file.
    struct carat_session *t = cached(f);
    assert_false(needs_disk(f, t, f->tokens, 110));
    carat_session_free(t);
    carat_session_free(s);
}

static void test_a_damaged_file_is_found_out_beforehand(void **state)
{
    struct fixture *f = *state;
    char path[300] = "";
    struct buf file = {0};
    struct carat_session *s = cached(f);
    sync_tokens(s, f->tokens, 100);
    prepare_disk(f, s, f->another, 100);
    assert_int_equal(place_count(&f->place, ".kv", path), 1);
    assert_int_equal(os_read_file(&file, path, 1 << 24, NULL), 0);
    file.data[file.size - 40] ^= 1; // among the rows
    assert_int_equal(os_write_file(path, file.data, file.size, NULL), 0);
    carat_session_free(s);
    s = cached(f);
    prepare_disk(f, s, f->tokens, 110);
    assert_int_equal(prepare_tokens(s, f->tokens, 110), 0);
    assert_int_equal(stats_of(f->cache).n_dropped, 1);
    read_pending(s);
    check_logits(s, f->tokens, 110);
    carat_session_free(s);
    buf_release(&file);
}

// Rounds of one session go on while another one's files are written and read, whose beginning they
// may take.
struct shuttle {
    struct fixture *fixture;
    struct carat_session *session;
};

static void *go_to_and_fro(void *argument)
{
    struct shuttle *shuttle = argument;
    struct fixture *f = shuttle->fixture;
    for (int i = 0; i < 20; i++) {
        const carat_token *tokens = i % 2 ? f->tokens : f->another;
        struct carat_prompt *p = make_prompt(f->engine, tokens, 100 + (size_t)i);
        assert_int_equal(carat_session_prepare_disk(shuttle->session, p, NULL), 0);
        assert_int_equal(carat_session_prepare(shuttle->session, p, NULL, NULL), 0);
        read_pending(shuttle->session);
        carat_prompt_free(p);
    }
    return NULL;
}

static void test_rounds_go_on_beside_the_disk(void **state)
{
    struct fixture *f = *state;
    struct shuttle shuttle = {f, cached(f)};
    struct carat_session *s = cached(f);
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, go_to_and_fro, &shuttle), 0);
    for (size_t i = 0; i < 20; i++) {
        const carat_token *tokens = i % 3 ? f->same : f->another;
        sync_tokens(s, tokens, 60 + i);
        check_logits(s, tokens, 60 + i);
        needs_disk(f, s, i % 2 ? f->tokens : f->same, 120);
    }
    pthread_join(other, NULL);
    check_logits(shuttle.session, f->tokens, 119);
    assert_true(stats_of(f->cache).n_written >= 2);
    carat_session_free(shuttle.session);
    carat_session_free(s);
}

// ------------------------------------------------------------------------------------- the folder

static void keep(struct fixture *f, const carat_token *tokens, size_t n)
{
    struct carat_session *s = cached(f);
    struct carat_error err = {0};
    sync_tokens(s, tokens, n);
    if (carat_session_keep(s, &err)) {
        fail_msg("%s", err.text);
    }
    carat_session_free(s);
}

// Times of files are no finer than the system's clock ticks.
static void pause_a_little(void)
{
    const struct timespec t = {.tv_nsec = 12000000};
    nanosleep(&t, NULL);
}

static void test_the_least_recently_used_go(void **state)
{
    struct fixture *f = *state;
    carat_token tokens[N];
    keep(f, f->tokens, 100);
    uint64_t size = stats_of(f->cache).snapshot_bytes;
    reopen(f, 3 * size + size / 2);
    for (unsigned i = 0; i < 5; i++) {
        pause_a_little();
        fill_tokens(tokens, N, 20 + i);
        keep(f, tokens, 100);
        pause_a_little();
        struct carat_session *s = cached(f); // the first one is of use all the time
        assert_int_equal(sync_tokens(s, f->tokens, 110), 100);
        carat_session_free(s);
        struct carat_cache_stats stats = stats_of(f->cache);
        assert_true(stats.snapshot_bytes <= 3 * size + size / 2);
        assert_int_equal(stats.n_snapshots, i < 2 ? i + 2 : 3);
        assert_int_equal(stats.n_dropped, i < 2 ? 0 : i - 1);
    }
    // One that is larger than the folder may be is not written.
    reopen(f, size / 2);
    keep(f, f->another, 100);
    assert_int_equal(stats_of(f->cache).n_written, 0);
}

static void test_damaged_files_are_removed(void **state)
{
    struct fixture *f = *state;
    char path[300] = "";
    struct buf file = {0};
    keep(f, f->tokens, 100);
    assert_int_equal(place_count(&f->place, ".kv", path), 1);
    assert_int_equal(os_read_file(&file, path, 1 << 24, NULL), 0);
    // In the rows: only who reads them finds out.
    file.data[file.size - 100] ^= 1;
    assert_int_equal(os_write_file(path, file.data, file.size, NULL), 0);
    struct carat_session *s = cached(f);
    assert_int_equal(sync_tokens(s, f->tokens, 110), 0);
    check_logits(s, f->tokens, 110);
    assert_int_equal(stats_of(f->cache).n_dropped, 1);
    carat_session_free(s);
    // It was known to be worth something, so that it was made anew in passing.
    s = cached(f);
    assert_int_equal(sync_tokens(s, f->tokens, 120), 100);
    check_logits(s, f->tokens, 120);
    carat_session_free(s);
    // In front: found when the folder is opened.
    file.data[120] ^= 1;
    assert_int_equal(os_write_file(path, file.data, file.size, NULL), 0);
    reopen(f, 0);
    assert_int_equal(stats_of(f->cache).n_snapshots, 0);
    assert_int_equal(stats_of(f->cache).n_dropped, 1);
    assert_false(os_exists(path));
    buf_release(&file);
}

// Files of other models count, but are not read; others' files are none of our business.
static void test_what_else_is_in_the_folder(void **state)
{
    struct fixture *f = *state;
    const char *other = place_path(&f->place, "carat-0123456789abcdef-0123.kv");
    const char *strange = place_path(&f->place, "notes.txt");
    const char *part = place_path(&f->place, "carat-1.kv.0123" OS_WRITER_SUFFIX);
    assert_int_equal(os_write_file(other, "x", 1, NULL), 0);
    assert_int_equal(os_write_file(strange, "y", 1, NULL), 0);
    assert_int_equal(os_write_file(part, "z", 1, NULL), 0);
    reopen(f, 0);
    assert_int_equal(stats_of(f->cache).n_snapshots, 1);
    assert_int_equal(stats_of(f->cache).snapshot_bytes, 1);
    assert_true(os_exists(part)); // somebody may be writing it
    keep(f, f->tokens, 100);
    uint64_t size = stats_of(f->cache).snapshot_bytes;
    reopen(f, size);
    keep(f, f->another, 100); // the oldest makes room first
    assert_false(os_exists(other));
    assert_true(os_exists(strange));
}

// Somebody else removes files, or the whole folder: requests go on.
static void test_a_folder_that_vanishes_is_no_error(void **state)
{
    struct fixture *f = *state;
    char folder[300];
    char path[300] = "";
    snprintf(folder, sizeof(folder), "%s", place_path(&f->place, "sub"));
    carat_cache_free(f->cache);
    f->cache = open_cache(f, folder, 0);
    keep(f, f->tokens, 100);
    struct place sub;
    snprintf(sub.folder, sizeof(sub.folder), "%.63s", folder);
    assert_int_equal(place_count(&sub, ".kv", path), 1);
    assert_true(os_remove(path));
    struct carat_session *s = cached(f);
    assert_int_equal(sync_tokens(s, f->tokens, 110), 0);
    check_logits(s, f->tokens, 110);
    assert_int_equal(stats_of(f->cache).n_written, 2); // made anew in passing
    place_remove(&sub);
    assert_int_equal(sync_tokens(s, f->another, 100), 0);
    check_logits(s, f->another, 100);
    struct carat_error err = {0};
    carat_session_keep(s, &err);
    assert_int_equal(stats_of(f->cache).n_written, 2);
    carat_session_free(s);
}

// A full disk, as a limit on the size of files: requests go on, and no half files stay.
static void test_a_full_disk_is_no_error(void **state)
{
    struct fixture *f = *state;
    struct rlimit before;
    struct carat_error err = {0};
    struct carat_session *s = cached(f);
    sync_tokens(s, f->tokens, 100);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = 5000, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = carat_session_save(s, place_path(&f->place, "a"), &err);
    size_t reused = sync_tokens(s, f->same, 100);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(rc, CARAT_E_IO);
    assert_int_equal(reused, 0);
    check_logits(s, f->same, 100);
    assert_int_equal(stats_of(f->cache).n_written, 0);
    assert_int_equal(place_count(&f->place, "", NULL), 0);
    carat_session_free(s);
}

// Texts are embedded one after the other; no conversation goes on behind them.
static void test_embedded_texts_are_not_kept(void **state)
{
    struct fixture *f = *state;
    static float out[1024];
    struct carat_session *s = cached(f);
    struct carat_prompt *prompts[] = {make_prompt(f->engine, f->tokens, 100),
                                      make_prompt(f->engine, f->another, 100)};
    sync_tokens(s, f->same, 100);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(carat_session_embed(s, prompts[i % 2], out, NULL), 0);
    }
    assert_int_equal(place_count(&f->place, ".kv", NULL), 1); // what was there before them
    carat_session_free(s);
    carat_prompt_free(prompts[0]);
    carat_prompt_free(prompts[1]);
}

static void test_without_a_folder_nothing_is_kept(void **state)
{
    struct fixture *f = *state;
    carat_cache_free(f->cache);
    f->cache = open_cache(f, NULL, 0);
    struct carat_session *s = cached(f);
    sync_tokens(s, f->tokens, 100);
    assert_int_equal(carat_session_keep(s, NULL), 0);
    assert_int_equal(sync_tokens(s, f->same, 100), 0);
    check_logits(s, f->same, 100);
    assert_int_equal(place_count(&f->place, ".kv", NULL), 0);
    carat_session_free(s);
}

// ------------------------------------------------------------------------------------------ limits

static void test_wrong_arguments(void **state)
{
    struct fixture *f = *state;
    struct carat_error err = {0};
    struct carat_engine *e = open_engine(TEST_DATA "/fixtures/quant/model-Q8_0.gguf");
    struct carat_session_options options = {.cache = f->cache};
    struct carat_session *s = NULL;
    assert_int_equal(carat_session_new(&s, e, &options, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "another engine"));
    carat_engine_close(e);
    struct carat_cache *cache = NULL;
    assert_int_equal(os_write_file(place_path(&f->place, "file"), "x", 1, NULL), 0);
    struct carat_cache_options bad = {.folder = place_path(&f->place, "file")};
    assert_int_equal(carat_cache_new(&cache, f->engine, &bad, &err), CARAT_E_IO);
    carat_cache_free(NULL);
    assert_null(cache);
}

static void test_the_estimate_counts_the_mark(void **state)
{
    struct fixture *f = *state;
    struct carat_memory with;
    struct carat_memory without;
    struct carat_session_options options = {.context_max = 128, .cache = f->cache};
    assert_int_equal(carat_engine_estimate(&without, f->engine, &options, NULL), 0);
    options.returns_to_prompt = true;
    assert_int_equal(carat_engine_estimate(&with, f->engine, &options, NULL), 0);
    // Window 16 and 16 more, and as many more in the rings; 10 sliding layers, 2 heads of 32
    // halves, keys and values.
    assert_int_equal(with.total - without.total, (32 + 16) * 10 * 2 * 32 * 2 * 2);
    carat_session_free(open_session(f->engine, options)); // makes the room that all share
    size_t before = mem_bytes_now();
    struct carat_session *s = open_session(f->engine, options);
    assert_true(mem_bytes_now() - before <= with.kv_sliding + with.kv_full + with.scratch);
    before = mem_bytes_now();
    sync_tokens(s, f->tokens, 100);
    for (size_t i = 0; i < 28; i++) {
        decode_token(s, f->another[i]);
    }
    assert_int_equal(mem_bytes_now(), before);
    carat_session_free(s);
}

static void test_no_memory(void **state)
{
    struct fixture *f = *state;
    keep(f, f->tokens, 100);
    keep(f, f->another, 50);
    size_t before = mem_bytes_now();
    for (size_t n = 1;; n++) {
        struct carat_cache_options options = {.folder = f->place.folder};
        struct carat_cache *cache = NULL;
        mem_fail_nth(n);
        int rc = carat_cache_new(&cache, f->engine, &options, NULL);
        mem_fail_nth(0);
        carat_cache_free(cache);
        assert_int_equal(mem_bytes_now(), before);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_true(n < 1000);
    }
    assert_int_equal(place_count(&f->place, ".kv", NULL), 2);
}

// A cache that has no memory is no reason for a request to fail, nor for wrong numbers.
static void test_no_memory_while_in_use(void **state)
{
    struct fixture *f = *state;
    keep(f, f->tokens, 60);
    struct carat_session *s = cached(f);
    struct carat_prompt *prompts[] = {make_prompt(f->engine, f->same, 100),
                                      make_prompt(f->engine, f->another, 100)};
    for (size_t n = 1; n < 60; n++) {
        mem_fail_nth(n);
        int rc = carat_session_sync(s, prompts[n % 2], NULL, NULL);
        mem_fail_nth(0);
        assert_int_equal(rc, 0);
        check_logits(s, n % 2 ? f->another : f->same, 100);
    }
    carat_session_free(s);
    carat_prompt_free(prompts[0]);
    carat_prompt_free(prompts[1]);
}

// Two threads, each with its sessions, on one cache.
struct worker {
    struct fixture *fixture;
    unsigned seed;
};

static void *work(void *argument)
{
    struct worker *w = argument;
    struct fixture *f = w->fixture;
    unsigned seed = w->seed;
    struct carat_session *sessions[2] = {cached(f), cached(f)};
    struct carat_cache_stats stats;
    for (int i = 0; i < 40; i++) {
        seed = seed * 1103515245u + 12345u;
        const carat_token *stories[] = {f->tokens, f->another, f->same};
        struct carat_session *s = sessions[seed >> 16 & 1];
        sync_tokens(s, stories[(seed >> 18) % 3], 30 + (seed >> 20) % 150);
        carat_cache_stats(f->cache, &stats);
    }
    carat_session_free(sessions[0]);
    carat_session_free(sessions[1]);
    return NULL;
}

static void test_threads_share_a_cache(void **state)
{
    struct fixture *f = *state;
    struct worker workers[2] = {{f, 1}, {f, 2}};
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, work, &workers[1]), 0);
    work(&workers[0]);
    pthread_join(other, NULL);
    struct carat_cache_stats stats = stats_of(f->cache);
    assert_true(stats.tokens_reused > 0);
    struct carat_session *s = cached(f);
    sync_tokens(s, f->same, 100);
    check_logits(s, f->same, 100);
    carat_session_free(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_session_takes_the_beginning_of_another),
        TEST(test_only_like_sessions_share),
        TEST(test_a_mark_serves_other_sessions_too),
        TEST(test_thoughts_may_be_left_out),
        TEST(test_an_empty_thought_may_be_left_out),
        TEST(test_thoughts_of_a_turn_with_tools_may_be_left_out),
        TEST(test_the_newest_turn_is_the_one_to_go_back_to),
        TEST(test_what_makes_room_is_kept_and_found_again),
        TEST(test_what_is_there_is_not_written_again),
        TEST(test_answers_alone_are_not_kept),
        TEST(test_where_prompts_part_a_snapshot_is_kept),
        TEST(test_a_changing_date_costs_what_is_behind_it),
        TEST(test_files_can_be_written_and_read_beforehand),
        TEST(test_a_damaged_file_is_found_out_beforehand),
        TEST(test_rounds_go_on_beside_the_disk),
        TEST(test_the_least_recently_used_go),
        TEST(test_damaged_files_are_removed),
        TEST(test_what_else_is_in_the_folder),
        TEST(test_a_folder_that_vanishes_is_no_error),
        TEST(test_a_full_disk_is_no_error),
        TEST(test_embedded_texts_are_not_kept),
        TEST(test_without_a_folder_nothing_is_kept),
        TEST(test_wrong_arguments),
        TEST(test_the_estimate_counts_the_mark),
        TEST(test_no_memory),
        TEST(test_no_memory_while_in_use),
        TEST(test_threads_share_a_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
