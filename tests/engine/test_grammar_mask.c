// SPDX-License-Identifier: Apache-2.0
// Masks are what walking the whole trie gives, wherever an answer has got to; threads share them.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/engine.h"
#include "grammar_walk.h"

#define DEMO_GGUF TEST_DATA "/../../demo/carat-demo.gguf"

static int open_demo(void **state)
{
    const struct carat_engine_options options = {.model = DEMO_GGUF, .is_vocab_only = true};
    struct carat_engine *engine = NULL;
    struct carat_error err = {0};
    if (carat_engine_open(&engine, &options, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = engine;
    return 0;
}

static int close_demo(void **state)
{
    carat_engine_close(*state);
    return 0;
}

static const struct carat_grammar_options grammars[] = {
    {.json_schema = "{}"},
    {.json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":3,"
                    "\"maxLength\":9},\"maxItems\":3}"},
    {.json_schema = "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":2}}"},
    {.json_schema = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":"
                    "-20,\"maximum\":3000},\"ab\":{\"type\":\"string\",\"pattern\":\"^[a-m]+ x\"},"
                    "\"c\":{\"enum\":[\"red\",\"re\",[1,null]]}},\"additionalProperties\":"
                    "{\"anyOf\":[{\"type\":\"number\"},{\"$ref\":\"#\"}]}}"},
    {.json_schema = "{\"anyOf\":[{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":"
                    "4}},{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":6}}]}"},
    {.regex = "(ab|[c-z ]{2,5}|\\d+)*!"},
};

static void check_places(struct masker *k, struct places places, uint64_t *bits, uint64_t *exact)
{
    const struct lexicon *x = k->lexicon;
    memset(bits, 0, x->n_words * sizeof(*bits));
    memset(exact, 0, x->n_words * sizeof(*exact));
    masker_fill(k, places, bits);
    masker_walk(k, places, exact);
    for (size_t i = 0; i < x->n_vocab; i++) {
        if (bit_get(bits, (carat_token)i) != bit_get(exact, (carat_token)i)) {
            const struct slice text = tokenizer_text(x->tokenizer, (carat_token)i);
            fail_msg("token %zu \"%.*s\": mask %d, walk %d", i, (int)text.size, text.data,
                     bit_get(bits, (carat_token)i), bit_get(exact, (carat_token)i));
        }
    }
}

static carat_token choose(const uint64_t *bits, size_t n_vocab, uint64_t *random)
{
    carat_token chosen = CARAT_TOKEN_NONE;
    uint64_t n = 0;
    for (size_t i = 0; i < n_vocab; i++) {
        if (bit_get(bits, (carat_token)i) && walk_random(random) % ++n == 0) {
            chosen = (carat_token)i;
        }
    }
    return chosen;
}

// A random way through the grammar, as an answer goes, with the masks looked at after every token.
static size_t check_way(struct carat_engine *e, const struct carat_grammar *g, uint64_t random)
{
    struct masker k;
    struct place kept[64];
    const size_t n_words = e->lexicon->n_words;
    uint64_t *bits = mem_new_array(n_words, sizeof(*bits), NULL);
    uint64_t *exact = mem_new_array(n_words, sizeof(*exact), NULL);
    assert_int_equal(masker_init(&k, e->lexicon, &g->program, g->masks, NULL), 0);
    const struct place start = {.state = g->text, .stack = STACK_BOTTOM, .max = COUNT_UNLIMITED};
    struct places places = machine_settle(&k.machine, &start, 1);
    size_t n = 0;
    for (; n < 40 && places.n > 0; n++) {
        assert_true(places.n <= 64);
        memcpy(kept, places.items, places.n * sizeof(kept[0]));
        places.items = kept;
        machine_keep(&k.machine, kept, places.n);
        check_places(&k, places, bits, exact);
        const carat_token token = choose(bits, e->lexicon->n_vocab, &random);
        if (token == CARAT_TOKEN_NONE) {
            break;
        }
        const struct slice text = tokenizer_text(e->lexicon->tokenizer, token);
        for (size_t i = 0; i < text.size; i++) {
            places = machine_step(&k.machine, places, (uint8_t)text.data[i]);
        }
        assert_true(places.n > 0 || k.machine.is_at_end);
    }
    masker_release(&k);
    mem_free(bits);
    mem_free(exact);
    return n;
}

static void test_masks_are_exact(void **state)
{
    struct carat_engine *e = *state;
    for (size_t i = 0; i < sizeof(grammars) / sizeof(grammars[0]); i++) {
        struct carat_grammar *g = NULL;
        struct carat_error err = {0};
        if (carat_grammar_new(&g, e, &grammars[i], &err)) {
            fail_msg("%s", err.text);
        }
        size_t n = 0;
        for (uint64_t round = 0; round < 12; round++) {
            n += check_way(e, g, 100 * i + round);
        }
        assert_true(n > 40);
        carat_grammar_free(g);
    }
}

struct worker {
    pthread_t thread;
    struct carat_engine *engine;
    const struct carat_grammar *grammar;
    struct buf text;
};

static void *work(void *context)
{
    struct worker *w = context;
    struct walk_answer answer;
    walk_sample(w->engine, w->grammar, 5, 120, &answer);
    w->text = answer.text;
    answer.text = (struct buf){0};
    walk_answer_release(&answer);
    return NULL;
}

// One grammar, fresh, used by four samplers at once: the same answer comes of the same seed.
static void test_threads_share_a_grammar(void **state)
{
    struct carat_engine *e = *state;
    struct worker workers[4];
    struct carat_grammar *g = NULL;
    assert_int_equal(carat_grammar_new(&g, e, &grammars[3], NULL), 0);
    for (size_t i = 0; i < 4; i++) {
        workers[i] = (struct worker){.engine = e, .grammar = g};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(buf_text(&workers[i].text), buf_text(&workers[0].text));
    }
    for (size_t i = 0; i < 4; i++) {
        buf_release(&workers[i].text);
    }
    carat_grammar_free(g);
}

// What was found when the grammar was made.
static void forget_masks(struct carat_grammar *g)
{
    struct mask_cache *masks = g->masks;
    const size_t first = masks->first;
    const size_t n = masks->n;
    const size_t bytes_max = masks->bytes_max;
    mask_cache_release(masks);
    memset(masks, 0, sizeof(*masks));
    assert_int_equal(mask_cache_init(masks, first, n, bytes_max, NULL), 0);
}

// Masks that do not fit are found again each time, with the same result.
static void test_full_cache(void **state)
{
    struct carat_engine *e = *state;
    struct carat_grammar *g = NULL;
    assert_int_equal(carat_grammar_new(&g, e, &grammars[3], NULL), 0);
    struct mask_cache *masks = g->masks;
    assert_true(atomic_load(&masks->bytes) > 0); // what is wide is found at once
    forget_masks(g);
    masks->bytes_max = 1;
    for (uint64_t round = 0; round < 3; round++) {
        check_way(e, g, round);
    }
    assert_int_equal(atomic_load(&masks->bytes), 0);
    carat_grammar_free(g);
}

// Without memory for a mask the walk gives the same.
static void test_no_memory_for_masks(void **state)
{
    struct carat_engine *e = *state;
    const size_t n_words = e->lexicon->n_words;
    uint64_t *bits = mem_new_array(n_words, sizeof(*bits), NULL);
    uint64_t *exact = mem_new_array(n_words, sizeof(*exact), NULL);
    for (size_t n = 1; n < 8; n++) {
        struct carat_grammar *g = NULL;
        struct masker k;
        assert_int_equal(carat_grammar_new(&g, e, &grammars[3], NULL), 0);
        forget_masks(g);
        assert_int_equal(masker_init(&k, e->lexicon, &g->program, g->masks, NULL), 0);
        const struct place start = {
            .state = g->text, .stack = STACK_BOTTOM, .max = COUNT_UNLIMITED};
        struct place kept[4];
        struct places places = machine_settle(&k.machine, &start, 1);
        memcpy(kept, places.items, places.n * sizeof(kept[0]));
        places.items = kept;
        mem_fail_nth(n);
        check_places(&k, places, bits, exact);
        mem_fail_nth(0);
        masker_release(&k);
        carat_grammar_free(g);
    }
    mem_free(bits);
    mem_free(exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks_are_exact),
        cmocka_unit_test(test_threads_share_a_grammar),
        cmocka_unit_test(test_full_cache),
        cmocka_unit_test(test_no_memory_for_masks),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
