// SPDX-License-Identifier: Apache-2.0
// Configuration and weights: what a right file gives, and that every wrong one is refused with the
// key or tensor named. Wrong files are right ones with one thing changed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "model/weights.h"

#define HF   TEST_DATA "/fixtures/unified-text/model"
#define GGUF TEST_DATA "/fixtures/quant/model-Q4_0.gguf"

static char scratch[64];

static int make_scratch(void **state)
{
    (void)state;
    snprintf(scratch, sizeof(scratch), "/tmp/carat-test-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state)
{
    (void)state;
    char path[128];
    static const char *const names[] = {"config.json", "model.safetensors", "model.gguf"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", scratch, names[i]);
        unlink(path);
    }
    return rmdir(scratch);
}

static int read_model(struct model_config *config, struct weights *weights, const char *path,
                      struct source **source, struct carat_error *err)
{
    int rc = source_open(source, path, true, err);
    if (rc == 0) {
        rc = config_read(config, *source, err);
    }
    if (rc == 0) {
        rc = weights_bind(weights, config, *source, err);
    }
    return rc;
}

static void expect_refusal(const char *path, const char *want)
{
    struct source *source = NULL;
    struct model_config config = {0};
    struct weights weights = {0};
    struct carat_error err = {0};
    int rc = read_model(&config, &weights, path, &source, &err);
    weights_release(&weights);
    config_release(&config);
    source_close(source);
    if (rc == 0) {
        fail_msg("expected a refusal with \"%s\"", want);
    }
    if (!strstr(err.text, want)) {
        fail_msg("expected \"%s\" in: %s", want, err.text);
    }
}

static void test_config_json_is_read(void **state)
{
    (void)state;
    struct source *source = NULL;
    struct model_config c = {0};
    struct weights w = {0};
    assert_int_equal(read_model(&c, &w, HF, &source, NULL), 0);
    assert_true(c.is_unified);
    assert_int_equal(c.n_layers, 12);
    assert_int_equal(c.hidden_size, 48);
    assert_int_equal(c.window, 16);
    assert_int_equal(c.n_vocab, 384);
    assert_true(c.layers[0].is_sliding);
    assert_false(c.layers[5].is_sliding);
    assert_int_equal(c.layers[0].head_dim, 32);
    assert_int_equal(c.layers[5].head_dim, 64);
    assert_int_equal(c.layers[0].n_kv_heads, 2);
    assert_int_equal(c.layers[5].n_kv_heads, 1);
    assert_true(c.layers[5].has_shared_kv_vector);
    assert_int_equal(c.sampling.top_k, 64);
    assert_int_equal(c.stops.count, 2); // 1 and 6
    assert_int_equal(c.suppressed.count, 3);
    assert_int_equal(w.n_pairs_full, 8); // a quarter of 32 pairs
    assert_int_equal(w.n_pairs_sliding, 16);
    assert_int_equal(w.main_type, DTYPE_BF16);
    weights_release(&w);
    config_release(&c);
    source_close(source);
}

static void test_gguf_is_read(void **state)
{
    (void)state;
    struct source *source = NULL;
    struct model_config c = {0};
    struct weights w = {0};
    assert_int_equal(read_model(&c, &w, GGUF, &source, NULL), 0);
    assert_int_equal(c.n_layers, 2);
    assert_int_equal(c.layers[0].n_kv_heads, 2);
    assert_int_equal(c.layers[1].n_kv_heads, 1);
    assert_true(c.layers[1].has_shared_kv_vector);
    assert_int_equal(c.layers[1].head_dim, 128);
    assert_int_equal(w.n_pairs_full, 16);
    assert_int_equal(w.main_type, DTYPE_Q4_0);
    weights_release(&w);
    config_release(&c);
    source_close(source);
}

// model.md section 4.2 gives these for the published head sizes.
static void test_frequencies_have_the_published_values(void **state)
{
    (void)state;
    struct source *source = NULL;
    struct model_config c = {0};
    struct weights w = {0};
    assert_int_equal(read_model(&c, &w, GGUF, &source, NULL), 0);
    // head sizes 64 and 128 here: 10000^(-2/64), 1000000^(-2/128)
    assert_float_equal(w.rope_sliding[1], 0.74989421f, 1e-6);
    assert_float_equal(w.rope_full[1], 0.80584219f, 1e-6);
    weights_release(&w);
    config_release(&c);
    source_close(source);
}

static void write_changed_config(const char *from, const char *to)
{
    struct buf text = {0};
    struct buf changed = {0};
    char path[128];
    assert_int_equal(os_read_file(&text, HF "/config.json", 1 << 20, NULL), 0);
    const char *at = strstr(buf_text(&text), from);
    assert_non_null(at);
    buf_add(&changed, text.data, (size_t)(at - text.data));
    buf_adds(&changed, to);
    buf_adds(&changed, at + strlen(from));
    snprintf(path, sizeof(path), "%s/config.json", scratch);
    assert_int_equal(os_write_file(path, changed.data, changed.size, NULL), 0);
    buf_release(&text);
    buf_release(&changed);
    snprintf(path, sizeof(path), "%s/model.safetensors", scratch);
    unlink(path);
    assert_int_equal(symlink(HF "/model.safetensors", path), 0);
}

static void test_wrong_config_json_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *want;
    } cases[] = {
        {"\"hidden_size\": 48", "\"hidden_size\": -1", "hidden_size"},
        {"\"hidden_size\": 48", "\"hidden_size\": \"big\"", "hidden_size"},
        {"\"hidden_size\": 48", "\"hidden_size\": 0", "hidden_size"},
        {"\"hidden_size\": 48", "\"hidden_size\": 4611686018427387904", "hidden_size"},
        {"\"hidden_size\": 48", "\"hidden_size\": 64", "embed_tokens.weight"},
        {"\"num_hidden_layers\": 12", "\"num_hidden_layers\": 4000000000", "num_hidden_layers"},
        {"\"num_hidden_layers\": 12", "\"num_hidden_layers\": 13", "layer_types"},
        {"\"num_hidden_layers\": 12", "\"num_layers\": 12", "num_hidden_layers"},
        {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "multiple of 3"},
        {"\"head_dim\": 32", "\"head_dim\": 33", "even head size"},
        {"\"vocab_size\": 384", "\"vocab_size\": 385", "embed_tokens.weight"},
        {"\"intermediate_size\": 120", "\"intermediate_size\": 121", "mlp."},
        {"\"sliding_window\": 16", "\"sliding_window\": null", "sliding_window"},
        {"\"model_type\": \"gemma4_unified\"", "\"model_type\": \"llama\"", "llama"},
        {"\"enable_moe_block\": false", "\"enable_moe_block\": true", "experts"},
        {"\"enable_moe_block\": false", "\"enable_moe_block\": 7", "enable_moe_block"},
        {"\"attention_k_eq_v\": true", "\"attention_k_eq_v\": \"yes\"", "attention_k_eq_v"},
        {"\"num_kv_shared_layers\": 0", "\"num_kv_shared_layers\": []", "num_kv_shared_layers"},
        {"\"num_kv_shared_layers\": 0", "\"num_kv_shared_layers\": 2", "share keys"},
        {"\"hidden_size_per_layer_input\": 0", "\"hidden_size_per_layer_input\": 8", "per-layer"},
        {"\"rope_type\": \"proportional\"", "\"rope_type\": \"yarn\"", "yarn"},
        {"\"partial_rotary_factor\": 0.25", "\"partial_rotary_factor\": 2",
         "partial_rotary_factor"},
        {"\"sliding_attention\",", "\"strange_attention\",", "strange_attention"},
        {"\"rms_norm_eps\": 1e-06,\n  \"rope", "\"rms_norm_eps\": \"x\",\n  \"rope",
         "rms_norm_eps"},
        {"\"use_bidirectional_attention\": \"vision\"", "\"use_bidirectional_attention\": \"all\"",
         "found all"},
        {"\"use_bidirectional_attention\": \"vision\"", "\"use_bidirectional_attention\": 1",
         "use_bidirectional_attention"},
        {"\"hidden_activation\": \"gelu", "\"hidden_activation\": \"relu", "relu"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_changed_config(cases[i].from, cases[i].to);
        expect_refusal(scratch, cases[i].want);
    }
}

// What stands for the rule of published models, and what switches it off.
static void test_pictures_see_ahead_as_the_file_says(void **state)
{
    (void)state;
    static const struct {
        const char *to;
        bool expected;
    } cases[] = {
        {"\"use_bidirectional_attention\": \"vision\"", true},
        {"\"unknown\": 0", true},
        {"\"use_bidirectional_attention\": null", false},
        {"\"use_bidirectional_attention\": false", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct source *source = NULL;
        struct model_config c = {0};
        struct weights w = {0};
        struct carat_error err = {0};
        write_changed_config("\"use_bidirectional_attention\": \"vision\"", cases[i].to);
        if (read_model(&c, &w, scratch, &source, &err)) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(c.pictures_see_ahead, cases[i].expected);
        weights_release(&w);
        config_release(&c);
        source_close(source);
    }
}

// Changes the bytes that follow a key's name in the file, behind the value's type.
static void write_changed_gguf(const char *key, size_t skip, const void *bytes, size_t n)
{
    struct buf file = {0};
    char path[128];
    assert_int_equal(os_read_file(&file, GGUF, 1 << 24, NULL), 0);
    size_t length = strlen(key);
    size_t at = 0;
    while (at + length < file.size && memcmp(file.data + at, key, length) != 0) {
        at++;
    }
    assert_true(at + length + skip + n < file.size);
    memcpy(file.data + at + length + skip, bytes, n);
    snprintf(path, sizeof(path), "%s/model.gguf", scratch);
    assert_int_equal(os_write_file(path, file.data, file.size, NULL), 0);
    buf_release(&file);
}

static void test_wrong_gguf_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        size_t skip; // 4: the value of a scalar; 12: the first byte of a string
        uint32_t value;
        const char *want;
    } cases[] = {
        {"gemma4.block_count", 4, 0, "gemma4.block_count"},
        {"gemma4.block_count", 4, 0xffffffff, "gemma4.block_count"},
        {"gemma4.block_count", 4, 3, "one per layer, found 2 values"},
        {"gemma4.embedding_length", 4, 255, "token_embd.weight"},
        {"gemma4.attention.head_count", 4, 7, "multiple"},
        {"gemma4.attention.key_length", 4, 1u << 30, "gemma4.attention.key_length"},
        {"gemma4.attention.sliding_window", 4, 0, "sliding_window"},
        {"gemma4.feed_forward_length", 4, 300, "ffn_"},
        {"gemma4.attention.layer_norm_rms_epsilon", 4, 0x7fc00000, "rms_epsilon"},
        {"gemma4.embedding_length_per_layer_input", 4, 256, "per-layer"},
        {"gemma4.attention.shared_kv_layers", 4, 1, "share keys"},
        {"general.architecture", 12, 0x6d616c6c, "\"llama4\""},
        {"blk.1.ffn_down.weight", 20, 16, "IQ2_XXS"}, // an element type that can only be listed
        {"blk.1.ffn_down.w", 0, 0x6e6e6e6e, "blk.1.ffn_down.weight"}, // another name
    };
    char path[128];
    snprintf(path, sizeof(path), "%s/model.gguf", scratch);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_changed_gguf(cases[i].key, cases[i].skip, &cases[i].value, sizeof(cases[i].value));
        expect_refusal(path, cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_json_is_read),
        cmocka_unit_test(test_gguf_is_read),
        cmocka_unit_test(test_frequencies_have_the_published_values),
        cmocka_unit_test(test_wrong_config_json_is_refused),
        cmocka_unit_test(test_pictures_see_ahead_as_the_file_says),
        cmocka_unit_test(test_wrong_gguf_is_refused),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
