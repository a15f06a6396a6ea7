// SPDX-License-Identifier: Apache-2.0
// Pictures and sound in a timeline: the reference's numbers, and the same bits whatever the chunks,
// threads, reuse or the time at which a sound arrived. On a tiny model of the 12B's architecture:
// window 16, blocks of 12 pixels.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "hand_media.h"

#define MODEL     TEST_DATA "/fixtures/unified-text/model"
#define GOLDEN    TEST_DATA "/fixtures/unified-mixed/golden.safetensors"
#define PROJECTOR TEST_DATA "/fixtures/unified-gguf/mmproj-bf16.gguf"
#define TEXT_ONLY TEST_DATA "/fixtures/quant/model-Q8_0.gguf"
#define BLOCK     12
#define N_VOCAB   384
#define FRAME     MEDIA_FRAME_SAMPLES

// The tiny vocabulary's control tokens.
enum { BOS = 2, BOI = 15, IMAGE, EOI, BOA, AUDIO, EOA, VIDEO };

static struct carat_engine *open_engine(size_t n_threads, const char *projector)
{
    struct carat_engine_options options = {.model = MODEL,
                                           .projector = projector,
                                           .n_threads = n_threads,
                                           .activations = CARAT_ACTIVATIONS_FLOAT};
    struct carat_engine *engine = NULL;
    struct carat_error err = {0};
    if (carat_engine_open(&engine, &options, &err)) {
        fail_msg("%s", err.text);
    }
    return engine;
}

static struct carat_session *open_session(struct carat_engine *engine,
                                          struct carat_session_options options)
{
    struct carat_session *session = NULL;
    struct carat_error err = {0};
    options.context_max = options.context_max ? options.context_max : 256;
    options.kv_type = CARAT_KV_F32;
    if (carat_session_new(&session, engine, &options, &err)) {
        fail_msg("%s", err.text);
    }
    return session;
}

// ---------------------------------------------------------------------------------------- prompts

// Tokens and the media for their placeholders, in order.
struct script {
    carat_token tokens[512];
    size_t n;
    const struct carat_media *media[16];
    size_t n_media;
};

static void add(struct script *s, carat_token token, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        s->tokens[s->n++] = token;
    }
}

static void add_text(struct script *s, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        add(s, (carat_token)(30 + (seed >> 16) % 350), 1);
    }
}

// All runs of a medium between their markers; a sound that is open has no end.
static void add_medium(struct script *s, const struct carat_media *m)
{
    for (size_t i = 0; i < media_n_runs(m); i++) {
        struct media_run run = media_run_at(m, i);
        bool is_sound = run.kind == MEDIA_RUN_AUDIO;
        add(s, is_sound ? BOA : BOI, 1);
        add(s, is_sound ? AUDIO : run.kind == MEDIA_RUN_VIDEO ? VIDEO : IMAGE, run.n_tokens);
        if (!run.is_open) {
            add(s, is_sound ? EOA : EOI, 1);
        }
    }
    s->media[s->n_media++] = m;
}

static struct carat_prompt *make_prompt(const struct script *s, const struct carat_engine *e)
{
    struct carat_prompt *prompt = NULL;
    struct carat_error err = {0};
    assert_int_equal(carat_prompt_from_tokens(&prompt, e, s->tokens, s->n, &err), 0);
    if (carat_prompt_add_media(prompt, e, s->media, s->n_media, &err)) {
        fail_msg("%s", err.text);
    }
    return prompt;
}

static size_t sync_script(struct carat_session *session, const struct script *s,
                          const struct carat_engine *e)
{
    struct carat_error err = {0};
    struct carat_prompt *prompt = make_prompt(s, e);
    size_t reused = 0;
    if (carat_session_sync(session, prompt, &reused, &err)) {
        fail_msg("%s", err.text);
    }
    carat_prompt_free(prompt);
    return reused;
}

static void fresh_logits(float out[N_VOCAB], const struct script *s, struct carat_engine *e,
                         struct carat_session_options options)
{
    struct carat_session *session = open_session(e, options);
    assert_int_equal(sync_script(session, s, e), 0);
    const float *logits = carat_session_logits(session);
    assert_non_null(logits);
    memcpy(out, logits, N_VOCAB * sizeof(float));
    carat_session_free(session);
}

static void assert_same_logits(const struct carat_session *session, const float want[N_VOCAB])
{
    const float *got = carat_session_logits(session);
    assert_non_null(got);
    assert_memory_equal(got, want, N_VOCAB * sizeof(float));
}

// One of everything: a picture longer than the window and than small chunks, a film, sounds.
struct everything {
    struct carat_media *picture;
    struct carat_media *other;  // of the same size
    struct carat_media *turned; // as many soft tokens
    struct carat_media *film;
    struct carat_media *sound;
};

static struct everything make_everything(void)
{
    static const double seconds[] = {0, 2};
    return (struct everything){
        .picture = hand_picture(72, 60, BLOCK, 1, NULL),
        .other = hand_picture(72, 60, BLOCK, 2, NULL),
        .turned = hand_picture(60, 72, BLOCK, 1, NULL),
        .film = hand_film(36, 24, BLOCK, seconds, 2, 3 * FRAME, 0),
        .sound = hand_sound(20 * FRAME - 5, 0, 3, NULL),
    };
}

static void free_everything(struct everything *m)
{
    hand_free(m->picture);
    hand_free(m->other);
    hand_free(m->turned);
    hand_free(m->film);
    hand_free(m->sound);
}

static struct script long_script(const struct everything *m)
{
    struct script s = {0};
    add(&s, BOS, 1);
    add_text(&s, 5, 1);
    add_medium(&s, m->picture);
    add_text(&s, 3, 2);
    add_medium(&s, m->sound);
    add_medium(&s, m->film);
    add_text(&s, 9, 3);
    return s;
}

// ---------------------------------------------------------------------------------------- goldens

struct watch {
    const struct hand_golden *golden;
    double worst;
    size_t n_rows;
};

static void compare_logits(void *user, const char *name, int layer, size_t first, size_t n_rows,
                           size_t n_columns, const float *rows)
{
    struct watch *w = user;
    (void)layer;
    if (strcmp(name, "logits") != 0) {
        return;
    }
    assert_int_equal(n_columns, w->golden->n_vocab);
    for (size_t i = 0; i < n_rows * n_columns; i++) {
        double d = fabs((double)rows[i] - (double)w->golden->logits[first * n_columns + i]);
        w->worst = d <= w->worst ? w->worst : d;
    }
    w->n_rows += n_rows;
}

static void check_golden(const char *projector, size_t chunk)
{
    struct hand_golden g;
    struct script s = {0};
    hand_golden_open(&g, GOLDEN, BLOCK);
    memcpy(s.tokens, g.ids, g.n_ids * sizeof(carat_token));
    s.n = g.n_ids;
    memcpy(s.media, g.media, g.n_media * sizeof(s.media[0]));
    s.n_media = g.n_media;
    struct watch watch = {.golden = &g};
    struct carat_engine *e = open_engine(2, projector);
    struct carat_session *session =
        open_session(e, (struct carat_session_options){.prefill_chunk = chunk,
                                                       .has_all_logits = true,
                                                       .on_tensor = compare_logits,
                                                       .user = &watch});
    sync_script(session, &s, e);
    assert_int_equal(watch.n_rows, g.n_ids);
    assert_true(watch.worst <= 1e-3); // fixtures' README: float arithmetic
    carat_session_free(session);
    carat_engine_close(e);
    hand_golden_close(&g);
}

static void test_logits_are_the_references(void **state)
{
    (void)state;
    check_golden(NULL, 0);
    check_golden(NULL, 4);
    check_golden(PROJECTOR, 0); // the same tensors, from another file and in another order
}

static void test_info_tells_what_there_is(void **state)
{
    (void)state;
    struct carat_engine *e = open_engine(1, NULL);
    const struct carat_model_info *info = carat_engine_info(e);
    assert_true(info->sees);
    assert_true(info->hears);
    assert_int_equal(info->image_block, BLOCK);
    assert_string_equal(info->projector, MODEL);
    assert_true(info->projector_size > 0);
    carat_engine_close(e);
    e = open_engine(1, PROJECTOR);
    assert_string_equal(carat_engine_info(e)->projector, PROJECTOR);
    carat_engine_close(e);
    struct carat_engine_options options = {.model = MODEL, .is_vocab_only = true};
    assert_int_equal(carat_engine_open(&e, &options, NULL), 0);
    info = carat_engine_info(e);
    assert_false(info->sees || info->hears);
    assert_string_equal(info->projector, "");
    carat_engine_close(e);
}

struct rows {
    const char *name;
    const float *want;
    size_t n_columns;
    size_t n;
};

static void compare_rows(void *user, const char *name, int layer, size_t first, size_t n_rows,
                         size_t n_columns, const float *rows)
{
    struct rows *r = user;
    (void)layer;
    if (strcmp(name, r->name) != 0) {
        return;
    }
    assert_int_equal(first, r->n); // of the whole medium, in order
    assert_int_equal(n_columns, r->n_columns);
    for (size_t i = 0; i < n_rows * n_columns; i++) {
        assert_true(fabs((double)rows[i] - (double)r->want[first * n_columns + i]) <= 1e-3);
    }
    r->n += n_rows;
}

// The golden's media are two pictures and a sound; their rows follow one another.
static void test_embeds_alone_as_the_reference(void **state)
{
    (void)state;
    struct hand_golden g;
    hand_golden_open(&g, GOLDEN, BLOCK);
    struct carat_engine *e = open_engine(2, NULL);
    const float *vision = (const void *)safetensors_find(g.tensors, "out.vision.embeds")->data;
    const float *audio = (const void *)safetensors_find(g.tensors, "out.audio.embeds")->data;
    for (size_t i = 0; i < g.n_media; i++) {
        bool is_sound = g.media[i]->info.type == CARAT_MEDIA_AUDIO;
        struct rows rows = {.name = is_sound ? "audio.embeds" : "vision.embeds",
                            .want = is_sound ? audio : vision,
                            .n_columns = 48};
        assert_int_equal(carat_media_embed(e, g.media[i], compare_rows, &rows, NULL), 0);
        assert_int_equal(rows.n, g.media[i]->info.n_tokens);
        assert_int_equal(carat_media_embed(e, g.media[i], NULL, NULL, NULL), 0);
        vision += is_sound ? 0 : rows.n * rows.n_columns;
    }
    struct carat_media *other = hand_picture(48, 48, 48, 1, NULL);
    struct carat_error err = {0};
    assert_int_equal(carat_media_embed(e, other, NULL, NULL, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "block of 12"));
    hand_free(other);
    carat_engine_close(e);
    hand_golden_close(&g);
}

// ------------------------------------------------------------------------------------ same results

static void test_chunks_and_threads_do_not_change_a_bit(void **state)
{
    (void)state;
    static const size_t chunks[] = {1, 2, 7, 13, 64, 512};
    struct everything m = make_everything();
    struct script s = long_script(&m);
    float want[2][N_VOCAB];
    struct carat_engine *e = open_engine(1, NULL);
    for (int ahead = 0; ahead < 2; ahead++) {
        fresh_logits(want[ahead], &s, e, (struct carat_session_options){.sound_sees_ahead = ahead});
    }
    carat_engine_close(e);
    assert_memory_not_equal(want[0], want[1], sizeof(want[0])); // the option does something
    for (size_t threads = 1; threads <= 3; threads++) {
        e = open_engine(threads, NULL);
        for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
            for (int ahead = 0; ahead < 2; ahead++) {
                struct carat_session *session =
                    open_session(e, (struct carat_session_options){.prefill_chunk = chunks[i],
                                                                   .sound_sees_ahead = ahead});
                sync_script(session, &s, e);
                assert_same_logits(session, want[ahead]);
                carat_session_free(session);
            }
        }
        carat_engine_close(e);
    }
    free_everything(&m);
}

static void test_another_question_reuses_the_picture(void **state)
{
    (void)state;
    struct everything m = make_everything();
    struct carat_engine *e = open_engine(2, NULL);
    struct carat_session_options options = {.rewind_max = 64, .prefill_chunk = 16};
    struct carat_session *session = open_session(e, options);
    float want[N_VOCAB];
    struct script first = {0};
    add(&first, BOS, 1);
    add_text(&first, 5, 1);
    add_medium(&first, m.picture);
    struct script second = first;
    add_text(&first, 12, 2);
    add_text(&second, 10, 3);
    sync_script(session, &first, e);
    // <bos>, five words, the picture between its markers.
    assert_int_equal(sync_script(session, &second, e), 1 + 5 + 1 + 30 + 1);
    fresh_logits(want, &second, e, options);
    assert_same_logits(session, want);
    carat_session_free(session);
    carat_engine_close(e);
    free_everything(&m);
}

static void test_another_picture_is_not_taken_for_the_old_one(void **state)
{
    (void)state;
    struct everything m = make_everything();
    const struct carat_media *others[] = {m.other, m.turned};
    struct carat_engine *e = open_engine(2, NULL);
    struct carat_session_options options = {.rewind_max = 64};
    for (size_t i = 0; i < 2; i++) {
        struct carat_session *session = open_session(e, options);
        float want[N_VOCAB];
        struct script scripts[2] = {0};
        for (size_t k = 0; k < 2; k++) {
            add(&scripts[k], BOS, 1);
            add_text(&scripts[k], 5, 1);
            add_medium(&scripts[k], k == 0 ? m.picture : others[i]);
            add_text(&scripts[k], 4, 2);
        }
        assert_memory_equal(scripts[0].tokens, scripts[1].tokens, sizeof(scripts[0].tokens));
        sync_script(session, &scripts[0], e);
        assert_int_equal(sync_script(session, &scripts[1], e), 7); // up to its begin marker
        fresh_logits(want, &scripts[1], e, options);
        assert_same_logits(session, want);
        // One pixel that differs is enough.
        struct carat_media *touched =
            hand_picture(72, 60, BLOCK, 0, scripts[1].media[0]->frames[0].pixels);
        if (i == 0) {
            touched->frames[0].pixels[72 * 60 * 3 - 1] ^= 1;
            scripts[1].media[0] = touched;
            assert_int_equal(sync_script(session, &scripts[1], e), 7);
        }
        hand_free(touched);
        carat_session_free(session);
    }
    carat_engine_close(e);
    free_everything(&m);
}

// The last token of a picture needs all of it again, though only its logits are missing.
static void test_a_timeline_is_never_cut_inside_a_picture(void **state)
{
    (void)state;
    struct everything m = make_everything();
    struct carat_engine *e = open_engine(1, NULL);
    struct carat_session_options options = {.rewind_max = 64};
    struct carat_session *session = open_session(e, options);
    float want[N_VOCAB];
    struct script longer = {0};
    add(&longer, BOS, 1);
    add_text(&longer, 5, 1);
    add_medium(&longer, m.picture);
    struct script shorter = longer;
    shorter.n--; // without the end marker
    add_text(&longer, 4, 2);
    sync_script(session, &longer, e);
    assert_int_equal(sync_script(session, &shorter, e), 7);
    fresh_logits(want, &shorter, e, options);
    assert_same_logits(session, want);
    carat_session_free(session);
    carat_engine_close(e);
    free_everything(&m);
}

static bool stop_at(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    (void)total;
    return done < *(const uint64_t *)user;
}

static void test_a_stopped_reading_ends_beside_pictures(void **state)
{
    (void)state;
    struct everything m = make_everything();
    struct carat_engine *e = open_engine(1, NULL);
    struct script s = long_script(&m);
    float want[N_VOCAB];
    fresh_logits(want, &s, e, (struct carat_session_options){0});
    for (uint64_t limit = 0; limit < s.n; limit += 5) {
        uint64_t stop = limit;
        struct carat_session *session =
            open_session(e, (struct carat_session_options){
                                .prefill_chunk = 4, .on_progress = stop_at, .user = &stop});
        struct carat_prompt *prompt = make_prompt(&s, e);
        size_t n = 0;
        assert_int_equal(carat_session_sync(session, prompt, NULL, NULL), CARAT_E_STOPPED);
        carat_session_tokens(session, &n);
        assert_false(n > 7 && n < 7 + 30); // the picture is at 7 to 36
        stop = UINT64_MAX;
        assert_int_equal(carat_session_sync(session, prompt, NULL, NULL), 0);
        assert_same_logits(session, want);
        carat_prompt_free(prompt);
        carat_session_free(session);
    }
    carat_engine_close(e);
    free_everything(&m);
}

// ------------------------------------------------------------------------------------------ sound

static struct script sound_script(const struct carat_media *sound, size_t n_behind)
{
    struct script s = {0};
    add(&s, BOS, 1);
    add_text(&s, 4, 1);
    add_medium(&s, sound);
    add_text(&s, n_behind, 2);
    return s;
}

// Frame by frame, each evaluated once, and in the end the same as the recording at once.
static void test_sound_is_read_as_it_arrives(void **state)
{
    (void)state;
    const size_t n_samples = 20 * FRAME - 5;
    struct carat_media *sound = hand_sound(n_samples, 0, 3, NULL);
    struct carat_engine *e = open_engine(2, NULL);
    struct carat_session *session = open_session(e, (struct carat_session_options){0});
    float want[N_VOCAB];
    size_t n_before = 0;
    for (size_t n = 0; n < n_samples; n += FRAME / 2) {
        hand_show(sound, n, true);
        struct script s = sound_script(sound, 0);
        assert_int_equal(s.n, 6 + n / FRAME);
        assert_int_equal(sync_script(session, &s, e), n_before); // all that was there
        n_before = s.n;
    }
    hand_show(sound, n_samples, false);
    struct script whole = sound_script(sound, 3);
    assert_int_equal(sync_script(session, &whole, e), n_before);
    fresh_logits(want, &whole, e, (struct carat_session_options){.prefill_chunk = 6});
    assert_same_logits(session, want);
    carat_session_free(session);
    carat_engine_close(e);
    hand_free(sound);
}

// Where frames see what comes after them, an open sound waits in front of its first one.
static void test_open_sound_that_sees_ahead_waits(void **state)
{
    (void)state;
    struct carat_session_options ahead = {.sound_sees_ahead = true};
    struct carat_media *sound = hand_sound(20 * FRAME, 0, 3, NULL);
    struct carat_engine *e = open_engine(2, NULL);
    struct carat_session *session = open_session(e, ahead);
    float want[N_VOCAB];
    size_t n = 0;
    for (size_t i = 0; i <= 20; i += 5) {
        hand_show(sound, i * FRAME, true);
        struct script s = sound_script(sound, 0);
        assert_int_equal(sync_script(session, &s, e), i == 0 ? 0 : 6);
        carat_session_tokens(session, &n);
        assert_int_equal(n, 6); // <bos>, four words, the begin marker
        assert_non_null(carat_session_logits(session));
    }
    hand_show(sound, 20 * FRAME, false);
    struct script whole = sound_script(sound, 3);
    assert_int_equal(sync_script(session, &whole, e), 6);
    fresh_logits(want, &whole, e, ahead);
    assert_same_logits(session, want);
    carat_session_free(session);
    carat_engine_close(e);
    hand_free(sound);
}

static void test_a_longer_sound_shares_its_beginning(void **state)
{
    (void)state;
    struct carat_media *sound = hand_sound(20 * FRAME, 0, 3, NULL);
    struct carat_engine *e = open_engine(1, NULL);
    for (int ahead = 0; ahead < 2; ahead++) {
        struct carat_session_options options = {.rewind_max = 64, .sound_sees_ahead = ahead};
        struct carat_session *session = open_session(e, options);
        float want[N_VOCAB];
        hand_show(sound, 8 * FRAME, false);
        struct script brief = sound_script(sound, 3);
        assert_int_equal(sync_script(session, &brief, e), 0);
        hand_show(sound, 20 * FRAME, false);
        struct script whole = sound_script(sound, 3);
        assert_int_equal(sync_script(session, &whole, e), ahead ? 6 : 6 + 8);
        fresh_logits(want, &whole, e, options);
        assert_same_logits(session, want);
        // And back.
        hand_show(sound, 8 * FRAME, false);
        assert_int_equal(sync_script(session, &brief, e), ahead ? 6 : 6 + 8);
        fresh_logits(want, &brief, e, options);
        assert_same_logits(session, want);
        carat_session_free(session);
    }
    carat_engine_close(e);
    hand_free(sound);
}

// ------------------------------------------------------------------------------------------ errors

static void expect_sync_error(struct carat_engine *e, struct carat_session_options options,
                              const struct script *s, int status, const char *text)
{
    struct carat_session *session = open_session(e, options);
    struct carat_prompt *prompt = make_prompt(s, e);
    struct carat_error err = {0};
    assert_int_equal(carat_session_sync(session, prompt, NULL, &err), status);
    if (!strstr(err.text, text)) {
        fail_msg("expected '%s' in '%s'", text, err.text);
    }
    carat_prompt_free(prompt);
    carat_session_free(session);
}

static void test_sync_refuses_what_it_cannot_evaluate(void **state)
{
    (void)state;
    struct carat_engine *e = open_engine(1, NULL);
    struct carat_session_options none = {0};
    struct script s = {0};
    // A medium for another model.
    struct carat_media *large = hand_picture(96, 48, 48, 1, NULL);
    add(&s, BOS, 1);
    add_medium(&s, large);
    expect_sync_error(e, none, &s, CARAT_E_ARGUMENT, "block of 12");
    // Sides that the position table does not reach: it has 24 rows.
    struct carat_media *wide = hand_picture(25 * BLOCK, BLOCK, BLOCK, 1, NULL);
    s = (struct script){0};
    add_medium(&s, wide);
    expect_sync_error(e, none, &s, CARAT_E_ARGUMENT, "at most 24 blocks");
    // A span of sound that must be read at once, and is too long for that.
    struct carat_media *sound = hand_sound(1200 * FRAME, 0, 1, NULL);
    struct carat_prompt *prompt = NULL;
    carat_token *tokens = mem_new_array(1201, sizeof(*tokens), NULL);
    for (size_t i = 0; i < 1201; i++) {
        tokens[i] = i ? AUDIO : BOA;
    }
    const struct carat_media *media[] = {sound};
    struct carat_error err = {0};
    assert_int_equal(carat_prompt_from_tokens(&prompt, e, tokens, 1201, NULL), 0);
    assert_int_equal(carat_prompt_add_media(prompt, e, media, 1, NULL), 0);
    struct carat_session *session = open_session(
        e, (struct carat_session_options){.context_max = 1300, .sound_sees_ahead = true});
    assert_int_equal(carat_session_sync(session, prompt, NULL, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "prefill_chunk"));
    carat_session_free(session);
    session =
        open_session(e, (struct carat_session_options){
                            .context_max = 1300, .sound_sees_ahead = true, .prefill_chunk = 1200});
    assert_int_equal(carat_session_sync(session, prompt, NULL, NULL), 0);
    carat_session_free(session);
    carat_prompt_free(prompt);
    mem_free(tokens);
    hand_free(large);
    hand_free(wide);
    hand_free(sound);
    carat_engine_close(e);
}

static void test_placeholders_need_media(void **state)
{
    (void)state;
    static const carat_token placeholders[] = {IMAGE, AUDIO, VIDEO};
    struct carat_engine *e = open_engine(1, NULL);
    struct carat_session *session = open_session(e, (struct carat_session_options){0});
    for (size_t i = 0; i < 3; i++) {
        carat_token tokens[] = {BOS, 40, placeholders[i]};
        struct carat_prompt *prompt = NULL;
        struct carat_error err = {0};
        assert_int_equal(carat_prompt_from_tokens(&prompt, e, tokens, 3, NULL), 0);
        assert_int_equal(carat_session_sync(session, prompt, NULL, &err), CARAT_E_ARGUMENT);
        assert_non_null(strstr(err.text, "position 2"));
        assert_non_null(strstr(err.text, "carat_prompt_add_media"));
        carat_prompt_free(prompt);
    }
    carat_session_free(session);
    carat_engine_close(e);
}

static void test_add_media_checks_lengths_and_order(void **state)
{
    (void)state;
    struct carat_engine *e = open_engine(1, NULL);
    struct everything m = make_everything();
    static const struct {
        size_t n_placeholders;
        size_t n_runs;
        size_t n_media;
        const char *text;
    } cases[] = {
        {29, 1, 1, "expected 30 placeholders"}, {31, 1, 1, "expected 30 placeholders"},
        {30, 2, 1, "no picture is left"},       {30, 1, 2, "no placeholders left"},
        {30, 0, 1, "no placeholders left"},
    };
    const struct carat_media *media[] = {m.picture, m.other};
    const struct carat_media *swapped[] = {m.sound};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct script s = {0};
        struct carat_prompt *prompt = NULL;
        struct carat_error err = {0};
        add(&s, BOS, 1);
        for (size_t k = 0; k < cases[i].n_runs; k++) {
            add(&s, BOI, 1);
            add(&s, IMAGE, cases[i].n_placeholders);
            add(&s, EOI, 1);
        }
        assert_int_equal(carat_prompt_from_tokens(&prompt, e, s.tokens, s.n, NULL), 0);
        size_t before = mem_bytes_now();
        assert_int_equal(carat_prompt_add_media(prompt, e, media, cases[i].n_media, &err),
                         CARAT_E_ARGUMENT);
        if (!strstr(err.text, cases[i].text)) {
            fail_msg("expected '%s' in '%s'", cases[i].text, err.text);
        }
        assert_int_equal(mem_bytes_now(), before); // as it was
        assert_int_equal(carat_prompt_add_media(prompt, e, swapped, 1, NULL), CARAT_E_ARGUMENT);
        carat_prompt_free(prompt);
    }
    // Once only, and an open sound at the end only.
    struct script s = {0};
    add_medium(&s, m.sound);
    struct carat_prompt *prompt = make_prompt(&s, e);
    assert_int_equal(carat_prompt_add_media(prompt, e, s.media, 1, NULL), CARAT_E_ARGUMENT);
    carat_prompt_free(prompt);
    m.sound->info.is_open = true;
    s = (struct script){0};
    add_medium(&s, m.sound);
    add(&s, 40, 1);
    assert_int_equal(carat_prompt_from_tokens(&prompt, e, s.tokens, s.n, NULL), 0);
    assert_int_equal(carat_prompt_add_media(prompt, e, s.media, 1, NULL), CARAT_E_ARGUMENT);
    carat_prompt_free(prompt);
    free_everything(&m);
    carat_engine_close(e);
}

static void test_a_model_without_projections_says_so(void **state)
{
    (void)state;
    struct carat_engine_options options = {.model = TEXT_ONLY};
    struct carat_engine *e = NULL;
    struct carat_error err = {0};
    assert_int_equal(carat_engine_open(&e, &options, NULL), 0);
    assert_false(carat_engine_info(e)->sees || carat_engine_info(e)->hears);
    struct carat_media *picture = hand_picture(48, 48, 48, 1, NULL);
    assert_int_equal(carat_media_embed(e, picture, NULL, NULL, &err), CARAT_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "mmproj"));
    carat_engine_close(e);
    hand_free(picture);
    // A file that belongs to another model is refused when it is named.
    options.projector = PROJECTOR;
    e = NULL;
    assert_true(carat_engine_open(&e, &options, &err) < 0);
    assert_non_null(strstr(err.text, "mmproj-bf16.gguf"));
    assert_null(e);
    options.projector = TEXT_ONLY;
    assert_int_equal(carat_engine_open(&e, &options, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "no projection"));
    struct carat_memory plan;
    assert_int_equal(carat_estimate(&plan, &options, NULL, NULL), CARAT_E_FORMAT);
}

// ------------------------------------------------------------------------------------------ memory

static void test_reading_allocates_nothing_and_estimate_holds(void **state)
{
    (void)state;
    struct everything m = make_everything();
    struct script s = long_script(&m);
    for (int ahead = 0; ahead < 2; ahead++) {
        struct carat_session_options options = {.context_max = 256,
                                                .prefill_chunk = 16,
                                                .kv_type = CARAT_KV_F32,
                                                .sound_sees_ahead = ahead};
        struct carat_engine_options engine_options = {.model = MODEL, .n_threads = 2};
        struct carat_memory plan;
        struct carat_memory same;
        assert_int_equal(carat_estimate(&plan, &engine_options, &options, NULL), 0);
        struct carat_engine *e = open_engine(2, NULL);
        assert_int_equal(carat_engine_estimate(&same, e, &options, NULL), 0);
        assert_true(plan.weights > carat_engine_info(e)->weights_size);
        assert_int_equal(same.total, plan.total);
        size_t before = mem_bytes_now();
        struct carat_session *session = open_session(e, options);
        size_t opened = mem_bytes_now();
        assert_true(opened - before <= plan.kv_sliding + plan.kv_full + plan.scratch);
        sync_script(session, &s, e);
        assert_int_equal(mem_bytes_now(), opened);
        carat_session_free(session);
        carat_engine_close(e);
    }
    free_everything(&m);
}

static void test_failing_allocations_leave_nothing_behind(void **state)
{
    (void)state;
    struct everything m = make_everything();
    struct script s = long_script(&m);
    struct carat_engine *e = open_engine(1, NULL);
    assert_int_equal(carat_media_embed(e, m.sound, NULL, NULL, NULL), 0); // the device's scratch
    size_t before = mem_bytes_now();
    for (size_t n = 1;; n++) {
        struct carat_prompt *prompt = NULL;
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = carat_prompt_from_tokens(&prompt, e, s.tokens, s.n, &err);
        rc = rc ? rc : carat_prompt_add_media(prompt, e, s.media, s.n_media, &err);
        rc = rc ? rc : carat_media_embed(e, m.sound, NULL, NULL, &err);
        mem_fail_nth(0);
        carat_prompt_free(prompt);
        assert_int_equal(mem_bytes_now(), before);
        if (rc == 0) {
            assert_true(n > 8);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_true(n < 1000);
    }
    carat_engine_close(e);
    free_everything(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_the_references),
        cmocka_unit_test(test_info_tells_what_there_is),
        cmocka_unit_test(test_embeds_alone_as_the_reference),
        cmocka_unit_test(test_chunks_and_threads_do_not_change_a_bit),
        cmocka_unit_test(test_another_question_reuses_the_picture),
        cmocka_unit_test(test_another_picture_is_not_taken_for_the_old_one),
        cmocka_unit_test(test_a_timeline_is_never_cut_inside_a_picture),
        cmocka_unit_test(test_a_stopped_reading_ends_beside_pictures),
        cmocka_unit_test(test_sound_is_read_as_it_arrives),
        cmocka_unit_test(test_open_sound_that_sees_ahead_waits),
        cmocka_unit_test(test_a_longer_sound_shares_its_beginning),
        cmocka_unit_test(test_sync_refuses_what_it_cannot_evaluate),
        cmocka_unit_test(test_placeholders_need_media),
        cmocka_unit_test(test_add_media_checks_lengths_and_order),
        cmocka_unit_test(test_a_model_without_projections_says_so),
        cmocka_unit_test(test_reading_allocates_nothing_and_estimate_holds),
        cmocka_unit_test(test_failing_allocations_leave_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
