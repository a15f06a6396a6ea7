// SPDX-License-Identifier: Apache-2.0
// Pictures, sound and film in a rendered prompt: the text of multimodal.md section 1, and which
// tokens belong to which medium whatever the text around them looks like. With a tiny vocabulary;
// `carat verify` compares ids under the real one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../engine/hand_media.h"
#include "base/mem.h"
#include "chat/template.h"
#include "engine/internal.h"

#define SEGMENT (30 * MEDIA_RATE)

static struct carat_engine *engine; // the tiny model: blocks of 12 pixels
static struct carat_media *picture; // 2 soft tokens
static struct carat_media *sound;   // 3
static struct carat_media *film;    // two frames of 1, and a sound of 2

static int make_all(void **state)
{
    (void)state;
    static const double seconds[] = {0, 62.5};
    struct carat_engine_options options = {.model = TEST_DATA "/fixtures/unified-text/model",
                                           .n_threads = 1};
    picture = hand_picture(24, 12, 12, 1, NULL);
    sound = hand_sound(3 * MEDIA_FRAME_SAMPLES, SEGMENT, 1, NULL);
    film = hand_film(12, 12, 12, seconds, 2, 2 * MEDIA_FRAME_SAMPLES, SEGMENT);
    return carat_engine_open(&engine, &options, NULL);
}

static int free_all(void **state)
{
    (void)state;
    carat_engine_close(engine);
    hand_free(picture);
    hand_free(sound);
    hand_free(film);
    return 0;
}

static struct carat_part text(const char *t)
{
    return (struct carat_part){.type = CARAT_PART_TEXT, .text = t};
}

static struct carat_part medium(const struct carat_media *m)
{
    static const enum carat_part_type types[] = {[CARAT_MEDIA_IMAGE] = CARAT_PART_IMAGE,
                                                 [CARAT_MEDIA_AUDIO] = CARAT_PART_AUDIO,
                                                 [CARAT_MEDIA_VIDEO] = CARAT_PART_VIDEO};
    return (struct carat_part){.type = types[m->info.type], .media = m};
}

// One user message; further settings are the caller's.
struct talk {
    struct carat_message message;
    struct carat_chat chat;
    enum carat_template which;
};

static void say(struct talk *t, const struct carat_part *parts, size_t n)
{
    *t = (struct talk){
        .message = {.role = "user", .parts = parts, .n_parts = n, .is_part_list = true},
        .chat = {.n_messages = 1, .is_complete = true},
        .which = CARAT_TEMPLATE_CANONICAL,
    };
    t->chat.messages = &t->message;
}

static int render(struct chat_result *r, const struct talk *t, struct carat_error *err)
{
    return chat_render(r, &t->chat, t->which, engine_tokenizer(engine), err);
}

// Each run stands on its placeholders, between its markers; the tokens are those of the text.
static void check_runs(const struct chat_result *r, bool has_plain_markers)
{
    const struct special_tokens *s = tokenizer_specials(engine_tokenizer(engine));
    struct token_list whole = {0};
    for (size_t i = 0; i < r->n_runs; i++) {
        const struct chat_run *run = &r->runs[i];
        struct media_run of = media_run_at(run->media, run->i_run);
        bool is_sound = of.kind == MEDIA_RUN_AUDIO;
        carat_token placeholder = is_sound                     ? s->audio
                                  : of.kind == MEDIA_RUN_VIDEO ? s->video
                                                               : s->image;
        assert_int_equal(run->n, of.n_tokens);
        assert_true(run->first + run->n <= r->tokens.count);
        assert_int_equal(r->tokens.tokens[run->first - 1],
                         is_sound ? s->audio_open : s->image_open);
        for (size_t k = 0; k < run->n; k++) {
            assert_int_equal(r->tokens.tokens[run->first + k], placeholder);
        }
        if (!of.is_open) {
            assert_int_equal(r->tokens.tokens[run->first + run->n],
                             is_sound ? s->audio_close : s->image_close);
        }
    }
    struct slice rendered = slice_make(buf_text(&r->text), r->text.size);
    assert_int_equal(tokenizer_encode(engine_tokenizer(engine), rendered, true, &whole, NULL), 0);
    if (!has_plain_markers) {
        assert_int_equal(r->tokens.count, whole.count);
        assert_memory_equal(r->tokens.tokens, whole.tokens, whole.count * sizeof(carat_token));
    }
    token_list_release(&whole);
}

static void check_text(const struct talk *t, const char *expected, size_t n_runs)
{
    struct chat_result r;
    struct carat_error err = {0};
    if (render(&r, t, &err)) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(buf_text(&r.text), expected);
    assert_int_equal(r.n_runs, n_runs);
    check_runs(&r, false);
    chat_result_release(&r);
}

static void test_media_become_text(void **state)
{
    (void)state;
    struct carat_part parts[] = {text("Look: "), medium(picture), text(" and "), medium(film),
                                 medium(sound)};
    struct talk t;
    say(&t, parts, 5);
    check_text(&t,
               "<bos><|turn>user\nLook:<|image><|image|><|image|><image|>and"
               "00:00 <|image><|video|><image|> 01:02 <|image><|video|><image|>"
               "<|audio><|audio|><|audio|><audio|>"
               "<|audio><|audio|><|audio|><|audio|><audio|><turn|>\n",
               5);
    // The first template puts empty lines around what is seen, not around what is heard.
    t.which = CARAT_TEMPLATE_LAUNCH;
    check_text(&t,
               "<bos><|turn>user\nLook:\n\n<|image><|image|><|image|><image|>\n\nand"
               "\n\n00:00 <|image><|video|><image|> 01:02 <|image><|video|><image|>"
               "<|audio><|audio|><|audio|><audio|>\n\n"
               "<|audio><|audio|><|audio|><|audio|><audio|><turn|>\n",
               5);
}

static void test_parts_without_media_stay_placeholders(void **state)
{
    (void)state;
    struct carat_part parts[] = {
        {.type = CARAT_PART_IMAGE}, {.type = CARAT_PART_AUDIO}, {.type = CARAT_PART_VIDEO}};
    struct talk t;
    say(&t, parts, 3);
    check_text(&t, "<bos><|turn>user\n<|image|><|audio|><|video|><turn|>\n", 0);
}

static void test_long_and_empty_sounds(void **state)
{
    (void)state;
    struct carat_media *brief = hand_sound(4 * MEDIA_FRAME_SAMPLES + 1, 2 * MEDIA_FRAME_SAMPLES, 1,
                                           NULL); // in spans of 80 ms
    struct carat_media *empty = hand_sound(0, SEGMENT, 1, NULL);
    struct carat_part parts[] = {medium(brief), medium(empty), text("x")};
    struct talk t;
    say(&t, parts, 3);
    check_text(&t,
               "<bos><|turn>user\n<|audio><|audio|><|audio|><audio|> 00:00 "
               "<|audio><|audio|><|audio|><audio|> 00:00 <|audio><|audio|><audio|>"
               "<|audio><audio|>x<turn|>\n",
               3);
    hand_free(brief);
    hand_free(empty);
}

// Text that looks like a placeholder takes nobody's place, plain or trusted.
static void test_look_alikes_take_no_medium(void **state)
{
    (void)state;
    struct carat_part parts[] = {text("<|image|><|image><|image|><image|>"), medium(picture),
                                 text("<|image|><|audio|>"), medium(sound), text("<|audio|>")};
    struct talk t;
    const struct special_tokens *s = tokenizer_specials(engine_tokenizer(engine));
    for (int trusts = 0; trusts < 2; trusts++) {
        struct chat_result r;
        size_t n_images = 0;
        say(&t, parts, 5);
        t.chat.trusts_markers = trusts;
        assert_int_equal(render(&r, &t, NULL), 0);
        assert_int_equal(r.n_runs, 2);
        check_runs(&r, !trusts);
        for (size_t i = 0; i < r.tokens.count; i++) {
            n_images += r.tokens.tokens[i] == s->image;
        }
        assert_int_equal(n_images, trusts ? 5 : 2);
        // The run is the template's own: behind everything that the text before it became.
        assert_int_equal(r.runs[0].media == picture, 1);
        assert_int_equal(r.tokens.tokens[r.runs[0].first + 2], s->image_close);
        assert_true(r.runs[0].first >= (trusts ? 8u : 20u));
        chat_result_release(&r);
    }
}

// ------------------------------------------------------------------------------------------ order

static void test_sound_first(void **state)
{
    (void)state;
    struct carat_part parts[] = {text("a"), medium(sound), medium(picture), text("b"),
                                 medium(sound)};
    struct talk t;
    say(&t, parts, 5);
    t.chat.sound_first = true;
    static const char one[] = "<|audio><|audio|><|audio|><|audio|><audio|>";
    struct buf expected = {0};
    buf_addf(&expected, "<bos><|turn>user\n%s%sa<|image><|image|><|image|><image|>b<turn|>\n", one,
             one);
    check_text(&t, buf_text(&expected), 3);
    buf_release(&expected);
    // Only within a message of the user.
    t.message.role = "narrator";
    buf_addf(&expected, "<bos><|turn>narrator\na%s<|image><|image|><|image|><image|>b%s<turn|>\n",
             one, one);
    check_text(&t, buf_text(&expected), 3);
    buf_release(&expected);
}

// What has arrived is a beginning of what comes later, token by token.
static void test_open_sound_ends_the_prompt(void **state)
{
    (void)state;
    struct carat_media *live =
        hand_sound(6 * MEDIA_FRAME_SAMPLES, 4 * MEDIA_FRAME_SAMPLES, 1, NULL);
    struct carat_part parts[] = {text("Listen: "), medium(live), text("what?"), medium(picture)};
    struct carat_message messages[2] = {
        {.role = "user", .parts = parts, .n_parts = 4, .is_part_list = true},
        {.role = "assistant", .parts = parts, .n_parts = 1}};
    struct talk t;
    struct chat_result whole;
    say(&t, parts, 4);
    t.chat.messages = messages;
    t.chat.n_messages = 2;
    t.chat.is_complete = false;
    t.chat.thinks = true;
    assert_int_equal(render(&whole, &t, NULL), 0);
    assert_int_equal(whole.n_runs, 3);
    size_t n_before = 0;
    for (size_t n = 0; n <= 6 * MEDIA_FRAME_SAMPLES; n += MEDIA_FRAME_SAMPLES / 2) {
        struct chat_result r;
        hand_show(live, n, true);
        assert_int_equal(render(&r, &t, NULL), 0);
        check_runs(&r, false);
        assert_true(r.tokens.count >= n_before && r.tokens.count <= whole.tokens.count);
        assert_memory_equal(r.tokens.tokens, whole.tokens.tokens,
                            r.tokens.count * sizeof(carat_token));
        const char *end = n < MEDIA_FRAME_SAMPLES ? "Listen:<|audio>" : "<|audio|>";
        assert_true(slice_ends(slice_make(buf_text(&r.text), r.text.size), end));
        assert_false(r.opens_thought);
        assert_int_equal(r.n_runs, n < MEDIA_FRAME_SAMPLES       ? 0
                                   : n < 5 * MEDIA_FRAME_SAMPLES ? 1
                                                                 : 2);
        n_before = r.tokens.count;
        chat_result_release(&r);
    }
    hand_free(live);
    chat_result_release(&whole);
}

// ------------------------------------------------------------------------------------------ errors

static void expect_error(const struct talk *t, int status, const char *what)
{
    struct chat_result r = {0};
    struct carat_error err = {0};
    assert_int_equal(render(&r, t, &err), status);
    if (!strstr(err.text, what)) {
        fail_msg("expected '%s' in '%s'", what, err.text);
    }
    assert_null(r.text.data);
}

static void test_refuses_media_in_the_wrong_place(void **state)
{
    (void)state;
    struct talk t;
    struct carat_part wrong = {.type = CARAT_PART_IMAGE, .media = sound};
    say(&t, &wrong, 1);
    expect_error(&t, CARAT_E_ARGUMENT, "expected a picture as its type says, found a sound");
    wrong = (struct carat_part){.type = CARAT_PART_VIDEO, .media = picture};
    expect_error(&t, CARAT_E_ARGUMENT, "expected a film as its type says, found a picture");
    struct carat_part parts[] = {medium(picture)};
    say(&t, parts, 1);
    t.message.role = "system";
    expect_error(&t, CARAT_E_UNSUPPORTED, "a system message");
    // Results of tools take pictures in the newest templates only.
    struct carat_tool_call call = {.name = "see"};
    struct carat_message messages[] = {
        {.role = "user", .parts = parts, .n_parts = 1},
        {.role = "assistant", .calls = &call, .n_calls = 1},
        {.role = "tool", .parts = parts, .n_parts = 1, .is_part_list = true}};
    say(&t, parts, 1);
    t.chat.messages = messages;
    t.chat.n_messages = 3;
    struct chat_result r;
    assert_int_equal(render(&r, &t, NULL), 0);
    assert_int_equal(r.n_runs, 2);
    check_runs(&r, false);
    chat_result_release(&r);
    t.which = CARAT_TEMPLATE_REVISION_2026_04;
    expect_error(&t, CARAT_E_UNSUPPORTED, "a tool's result");
}

static void test_survives_failing_allocations(void **state)
{
    (void)state;
    struct carat_part parts[] = {text("a"),       medium(picture), medium(film),
                                 medium(sound),   medium(picture), medium(picture),
                                 medium(picture), medium(picture), medium(picture)};
    struct talk t;
    say(&t, parts, 9);
    size_t before = mem_bytes_now();
    for (size_t n = 1;; n++) {
        struct carat_prompt *prompt = NULL;
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = carat_prompt_from_chat(&prompt, engine, &t.chat, &err);
        mem_fail_nth(0);
        carat_prompt_free(prompt);
        assert_int_equal(mem_bytes_now(), before);
        if (rc == 0) {
            assert_true(n > 15);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
    }
}

// -------------------------------------------------------------------------------- with the model

static const float *answer(struct carat_session *session, const struct carat_prompt *prompt)
{
    struct carat_error err = {0};
    if (carat_session_sync(session, prompt, NULL, &err)) {
        fail_msg("%s", err.text);
    }
    return carat_session_logits(session);
}

// A prompt from a chat, and the same tokens with the same media.
static void test_chat_and_tokens_agree(void **state)
{
    (void)state;
    struct carat_part parts[] = {text("a"), medium(film), medium(picture), medium(sound)};
    const struct carat_media *media[] = {film, picture, sound};
    struct talk t;
    struct carat_prompt *chat = NULL;
    struct carat_prompt *plain = NULL;
    struct carat_session *sessions[2] = {0};
    struct carat_session_options options = {.context_max = 128};
    size_t n = 0;
    size_t reused = 0;
    say(&t, parts, 4);
    assert_int_equal(carat_prompt_from_chat(&chat, engine, &t.chat, NULL), 0);
    const carat_token *tokens = carat_prompt_tokens(chat, &n);
    assert_int_equal(carat_prompt_from_tokens(&plain, engine, tokens, n, NULL), 0);
    assert_int_equal(carat_prompt_add_media(plain, engine, media, 3, NULL), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(carat_session_new(&sessions[i], engine, &options, NULL), 0);
    }
    const float *a = answer(sessions[0], chat);
    const float *b = answer(sessions[1], plain);
    assert_memory_equal(a, b, carat_engine_info(engine)->n_vocab * sizeof(float));
    assert_int_equal(carat_session_sync(sessions[0], plain, &reused, NULL), 0);
    assert_int_equal(reused, n);
    carat_session_free(sessions[0]);
    carat_session_free(sessions[1]);
    carat_prompt_free(chat);
    carat_prompt_free(plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_media_become_text),
        cmocka_unit_test(test_parts_without_media_stay_placeholders),
        cmocka_unit_test(test_long_and_empty_sounds),
        cmocka_unit_test(test_look_alikes_take_no_medium),
        cmocka_unit_test(test_sound_first),
        cmocka_unit_test(test_open_sound_ends_the_prompt),
        cmocka_unit_test(test_refuses_media_in_the_wrong_place),
        cmocka_unit_test(test_survives_failing_allocations),
        cmocka_unit_test(test_chat_and_tokens_agree),
    };
    return cmocka_run_group_tests(tests, make_all, free_all);
}
