// SPDX-License-Identifier: Apache-2.0
// A timeline that went through a file goes on to the bit as if it had not; a file that is not
// right in any way is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/os.h"
#include "base/os_file.h"
#include "engine/internal.h"
#include "engine/snapshot.h"
#include "hand_media.h"
#include "timelines.h"

#define N 90

struct fixture {
    struct place place;
    struct carat_engine *engine;
    carat_token tokens[N];
};

static int open_fixture(void **state)
{
    static struct fixture f;
    place_make(&f.place);
    f.engine = open_engine(TIMELINES_MODEL);
    fill_tokens(f.tokens, N, 1);
    *state = &f;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *f = *state;
    carat_engine_close(f->engine);
    place_remove(&f->place);
    return 0;
}

static void save(struct carat_session *s, const char *path)
{
    struct carat_error err = {0};
    if (carat_session_save(s, path, &err)) {
        fail_msg("%s", err.text);
    }
}

static void load(struct carat_session *s, const char *path)
{
    struct carat_error err = {0};
    if (carat_session_load(s, path, &err)) {
        fail_msg("%s", err.text);
    }
}

static void check_refused(struct carat_session *s, const char *path, int status, const char *says)
{
    struct carat_error err = {0};
    assert_int_equal(carat_session_load(s, path, &err), status);
    if (!strstr(err.text, says) || !strstr(err.text, path)) {
        fail_msg("expected a message about %s, \"%s\": %s", path, says, err.text);
    }
}

// Below, at and far above the window; with every type of rows.
static void test_loading_goes_on_to_the_bit(void **state)
{
    struct fixture *f = *state;
    static const size_t lengths[] = {1, 15, 16, 17, 40, N};
    for (int type = CARAT_KV_F16; type <= CARAT_KV_Q8_0; type++) {
        struct carat_session_options options = {.kv_type = (enum carat_dtype_kv)type};
        struct carat_session *a = open_session(f->engine, options);
        struct carat_session *b = open_session(f->engine, options);
        sync_tokens(b, f->tokens + 3, 50); // something else is there
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            const char *path = place_path(&f->place, "a.kv");
            sync_tokens(a, f->tokens, lengths[i]);
            save(a, path);
            load(b, path);
            check_logits(b, f->tokens, lengths[i]); // stored with it: nothing was evaluated
            check_goes_on(b, f->tokens, lengths[i]);
        }
        carat_session_free(a);
        carat_session_free(b);
    }
}

static void test_sizes_of_sessions_may_differ(void **state)
{
    struct fixture *f = *state;
    static const struct carat_session_options kinds[] = {
        {.context_max = 101, .rewind_max = 0},
        {.context_max = 256, .rewind_max = 30, .prefill_chunk = 7},
        {.context_max = 120, .rewind_max = 5, .returns_to_prompt = true},
    };
    enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };
    for (size_t i = 0; i < N_KINDS; i++) {
        for (size_t k = 0; k < N_KINDS; k++) {
            const char *path = place_path(&f->place, "b.kv");
            struct carat_session *a = open_session(f->engine, kinds[i]);
            struct carat_session *b = open_session(f->engine, kinds[k]);
            sync_tokens(a, f->tokens, 40);
            for (size_t at = 40; at < 80; at++) {
                decode_token(a, f->tokens[at]);
            }
            save(a, path);
            load(b, path);
            // It rewinds as far as the rows that both have room for.
            size_t back = kinds[i].rewind_max < kinds[k].rewind_max ? kinds[i].rewind_max
                                                                    : kinds[k].rewind_max;
            assert_int_equal(sync_tokens(b, f->tokens, 80 - back + 1), 80 - back);
            check_goes_on(b, f->tokens, 80 - back + 1);
            carat_session_free(a);
            carat_session_free(b);
        }
    }
}

// A timeline without logits: its last token is evaluated again by a sync, as ever.
static void test_what_is_half_read_can_be_saved(void **state)
{
    struct fixture *f = *state;
    const char *path = place_path(&f->place, "c.kv");
    struct carat_session *a = open_session(f->engine, (struct carat_session_options){0});
    struct carat_session *b = open_session(f->engine, (struct carat_session_options){0});
    prepare_tokens(a, f->tokens, 60);
    struct carat_step step = {.session = a, .token = CARAT_TOKEN_NONE, .n_tokens_max = 33};
    assert_int_equal(carat_decode(&step, 1, NULL), 0);
    save(a, path);
    load(b, path);
    assert_null(carat_session_logits(b));
    assert_int_equal(sync_tokens(b, f->tokens, 60), 33);
    check_logits(b, f->tokens, 60);
    assert_int_equal(carat_session_pending(a), 27); // saving changed nothing
    step.n_tokens_max = 0;
    assert_int_equal(carat_decode(&step, 1, NULL), 0);
    check_logits(a, f->tokens, 60);
    carat_session_free(a);
    carat_session_free(b);
}

static void test_pictures_are_known_again(void **state)
{
    struct fixture *f = *state;
    const char *path = place_path(&f->place, "d.kv");
    struct carat_engine *e = open_engine(TEST_DEMO "/carat-demo.gguf");
    const struct special_tokens *t = tokenizer_specials(engine_tokenizer(e));
    struct carat_media *one = hand_picture(96, 48, 48, 1, NULL);
    struct carat_media *two = hand_picture(96, 48, 48, 2, NULL);
    const carat_token ids[] = {t->bos, 300, t->image_open, t->image, t->image, t->image_close, 301};
    const struct carat_media *media[] = {one};
    struct carat_session *a = open_session(e, (struct carat_session_options){0});
    struct carat_session *b = open_session(e, (struct carat_session_options){0});
    struct carat_prompt *p = make_prompt(e, ids, 7);
    struct carat_prompt *q = make_prompt(e, ids, 7);
    size_t reused = 0;
    assert_int_equal(carat_prompt_add_media(p, e, media, 1, NULL), 0);
    media[0] = two;
    assert_int_equal(carat_prompt_add_media(q, e, media, 1, NULL), 0);
    assert_int_equal(carat_session_sync(a, p, NULL, NULL), 0);
    save(a, path);
    load(b, path);
    assert_int_equal(carat_session_sync(b, p, &reused, NULL), 0);
    assert_int_equal(reused, 7);
    assert_memory_equal(carat_session_logits(a), carat_session_logits(b),
                        carat_engine_info(e)->n_vocab * sizeof(float));
    assert_int_equal(carat_session_sync(b, q, &reused, NULL), 0);
    assert_int_equal(reused, 3); // another picture
    carat_session_free(a);
    carat_session_free(b);
    carat_prompt_free(p);
    carat_prompt_free(q);
    hand_free(one);
    hand_free(two);
    carat_engine_close(e);
}

static void test_other_models_and_options_are_refused(void **state)
{
    struct fixture *f = *state;
    const char *path = place_path(&f->place, "e.kv");
    struct carat_session *a = open_session(f->engine, (struct carat_session_options){0});
    sync_tokens(a, f->tokens, 40);
    save(a, path);

    struct carat_engine *e = open_engine(TEST_DATA "/fixtures/quant/model-Q8_0.gguf");
    struct carat_session *b = open_session(e, (struct carat_session_options){0});
    check_refused(b, path, CARAT_E_FORMAT, "another model");
    carat_session_free(b);
    carat_engine_close(e);

    struct carat_engine_options exact = {
        .model = TIMELINES_MODEL, .n_threads = 1, .activations = CARAT_ACTIVATIONS_FLOAT};
    assert_int_equal(carat_engine_open(&e, &exact, NULL), 0);
    uint8_t names[2][HASH_SIZE];
    engine_identity(e, names[0]);
    engine_identity(f->engine, names[1]);
    assert_memory_not_equal(names[0], names[1], HASH_SIZE);
    carat_engine_close(e);

    b = open_session(f->engine, (struct carat_session_options){.kv_type = CARAT_KV_F32});
    check_refused(b, path, CARAT_E_FORMAT, "kv_type");
    carat_session_free(b);
    b = open_session(f->engine, (struct carat_session_options){.context_max = 39});
    check_refused(b, path, CARAT_E_FULL, "40 tokens");
    carat_session_free(b);
    carat_session_free(a);
}

static void test_nothing_to_save_is_said(void **state)
{
    struct fixture *f = *state;
    struct carat_error err = {0};
    const char *path = place_path(&f->place, "f.kv");
    struct carat_session *a = open_session(f->engine, (struct carat_session_options){0});
    assert_int_equal(carat_session_save(a, path, &err), CARAT_E_ARGUMENT);
    assert_int_equal(carat_session_fill(a, 30, NULL), 0);
    assert_int_equal(carat_session_save(a, path, &err), CARAT_E_ARGUMENT);
    sync_tokens(a, f->tokens, 20);
    assert_int_equal(carat_session_save(a, place_path(&f->place, "no/g.kv"), &err), CARAT_E_IO);
    check_goes_on(a, f->tokens, 20);
    assert_int_equal(place_count(&f->place, "f.kv", NULL), 0);
    assert_int_equal(place_count(&f->place, OS_WRITER_SUFFIX, NULL), 0);
    carat_session_free(a);
}

// Every byte counts, and every length but the right one.
static void test_damage_is_noticed(void **state)
{
    struct fixture *f = *state;
    const char *path = place_path(&f->place, "h.kv");
    struct carat_session *a = open_session(f->engine, (struct carat_session_options){0});
    struct carat_session *b = open_session(f->engine, (struct carat_session_options){0});
    struct buf file = {0};
    sync_tokens(a, f->tokens, 3);
    save(a, path);
    assert_int_equal(os_read_file(&file, path, 1 << 20, NULL), 0);
    for (size_t at = 0; at < file.size; at += at < 300 ? 1 : 97) {
        file.data[at] = (char)(file.data[at] ^ 16);
        assert_int_equal(os_write_file(path, file.data, file.size, NULL), 0);
        check_refused(b, path, CARAT_E_FORMAT, "");
        assert_null(carat_session_logits(b));
        file.data[at] = (char)(file.data[at] ^ 16);
    }
    for (size_t size = 0; size < file.size; size += size < 300 ? 1 : 511) {
        assert_int_equal(os_write_file(path, file.data, size, NULL), 0);
        check_refused(b, path, CARAT_E_FORMAT, "");
    }
    buf_addc(&file, 'x');
    assert_int_equal(os_write_file(path, file.data, file.size, NULL), 0);
    check_refused(b, path, CARAT_E_FORMAT, "bytes");
    assert_int_equal(os_write_file(path, file.data, file.size - 1, NULL), 0);
    load(b, path);
    check_goes_on(b, f->tokens, 3);
    buf_release(&file);
    carat_session_free(a);
    carat_session_free(b);
}

static void test_no_memory(void **state)
{
    struct fixture *f = *state;
    const char *path = place_path(&f->place, "i.kv");
    struct carat_session *a = open_session(f->engine, (struct carat_session_options){0});
    sync_tokens(a, f->tokens, 20);
    size_t before = mem_bytes_now();
    for (size_t n = 1;; n++) {
        mem_fail_nth(n);
        int rc = carat_session_save(a, path, NULL);
        rc = rc ? rc : carat_session_load(a, path, NULL);
        mem_fail_nth(0);
        assert_int_equal(mem_bytes_now(), before);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(place_count(&f->place, OS_WRITER_SUFFIX, NULL), 0);
        assert_true(n < 100);
    }
    check_goes_on(a, f->tokens, 20);
    carat_session_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loading_goes_on_to_the_bit),
        cmocka_unit_test(test_sizes_of_sessions_may_differ),
        cmocka_unit_test(test_what_is_half_read_can_be_saved),
        cmocka_unit_test(test_pictures_are_known_again),
        cmocka_unit_test(test_other_models_and_options_are_refused),
        cmocka_unit_test(test_nothing_to_save_is_said),
        cmocka_unit_test(test_damage_is_noticed),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
