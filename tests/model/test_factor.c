// SPDX-License-Identifier: Apache-2.0
// A factor kept beside a matrix must act as if it were in the matrix: a file with "<name>.scale" =
// 0.5 gives the same bits as one whose blocks have half the scale.
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
#include "formats/gguf.h"

#define MODEL   TEST_DATA "/fixtures/quant/model-Q8_0.gguf" // vocabulary 384
#define MATRIX  "blk.1.ffn_gate.weight"
#define N_VOCAB 384

static char path[64];

static int make_path(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "/tmp/carat-test-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static void read_model(struct buf *out)
{
    assert_int_equal(os_read_file(out, MODEL, 1 << 24, NULL), 0);
}

static void put(struct buf *b, uint64_t value, size_t size)
{
    buf_add(b, &value, size); // little-endian, as every machine that runs the tests
}

// The file with one more tensor, a single F32, at the end of its list and of its data.
static void write_with_scale(const char *name, float value, uint32_t n_values)
{
    struct buf in = {0};
    struct buf out = {0};
    struct gguf *g = NULL;
    read_model(&in);
    assert_int_equal(gguf_open_memory(&g, in.data, in.size, "model", NULL), 0);
    size_t n = gguf_n_tensors(g);
    const struct gguf_tensor *last = gguf_tensor_at(g, n - 1);
    size_t data = (size_t)gguf_tensor_at(g, 0)->offset;
    size_t end_of_list =
        (size_t)(last->name.data - in.data) + last->name.size + 4 + 8 * last->n_dims + 4 + 8;
    buf_add(&out, in.data, 8);
    put(&out, n + 1, 8);
    buf_add(&out, in.data + 16, end_of_list - 16);
    put(&out, strlen(name), 8);
    buf_adds(&out, name);
    put(&out, 1, 4);
    put(&out, n_values, 8);
    put(&out, 0, 4); // F32
    put(&out, (in.size - data + 31) / 32 * 32, 8);
    while (out.size % 32 != 0) {
        buf_addc(&out, 0);
    }
    buf_add(&out, in.data + data, in.size - data);
    while (out.size % 32 != 0) {
        buf_addc(&out, 0);
    }
    for (uint32_t i = 0; i < n_values; i++) {
        buf_add(&out, &value, sizeof(value));
    }
    assert_int_equal(os_write_file(path, out.data, out.size, NULL), 0);
    gguf_close(g);
    buf_release(&in);
    buf_release(&out);
}

// The file with every block of the matrix at half its scale.
static void write_with_half_blocks(void)
{
    struct buf in = {0};
    struct gguf *g = NULL;
    read_model(&in);
    assert_int_equal(gguf_open_memory(&g, in.data, in.size, "model", NULL), 0);
    const struct gguf_tensor *t = gguf_find(g, MATRIX);
    assert_non_null(t);
    for (size_t at = 0; at < t->size; at += 34) {
        char *block = in.data + t->offset + at;
        uint16_t d = 0;
        memcpy(&d, block, sizeof(d));
        d = f16_from_f32(f16_to_f32(d) * 0.5f);
        memcpy(block, &d, sizeof(d));
    }
    assert_int_equal(os_write_file(path, in.data, in.size, NULL), 0);
    gguf_close(g);
    buf_release(&in);
}

static void logits_of(float out[N_VOCAB], const char *model)
{
    static const carat_token tokens[] = {2, 40, 77, 131, 300, 54, 99};
    struct carat_engine_options options = {.model = model, .n_threads = 1};
    struct carat_engine *engine = NULL;
    struct carat_session *session = NULL;
    struct carat_prompt *prompt = NULL;
    struct carat_error err = {0};
    if (carat_engine_open(&engine, &options, &err)) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(carat_session_new(&session, engine, NULL, &err), 0);
    assert_int_equal(carat_prompt_from_tokens(&prompt, engine, tokens, 7, &err), 0);
    assert_int_equal(carat_session_sync(session, prompt, NULL, &err), 0);
    memcpy(out, carat_session_logits(session), N_VOCAB * sizeof(float));
    carat_prompt_free(prompt);
    carat_session_free(session);
    carat_engine_close(engine);
}

static void test_factor_acts_as_if_in_the_matrix(void **state)
{
    (void)state;
    static const char *const names[] = {MATRIX ".scale", "blk.1.ffn_gate.scale"};
    float plain[N_VOCAB];
    float want[N_VOCAB];
    float got[N_VOCAB];
    logits_of(plain, MODEL);
    write_with_half_blocks();
    logits_of(want, path);
    assert_memory_not_equal(want, plain, sizeof(want));
    for (size_t i = 0; i < 2; i++) {
        write_with_scale(names[i], 0.5f, 1);
        logits_of(got, path);
        assert_memory_equal(got, want, sizeof(want));
    }
}

static void test_factor_of_another_shape_is_refused(void **state)
{
    (void)state;
    struct carat_engine_options options = {.model = path, .n_threads = 1};
    struct carat_engine *engine = NULL;
    struct carat_error err = {0};
    write_with_scale(MATRIX ".scale", 0.5f, 2);
    assert_int_equal(carat_engine_open(&engine, &options, &err), CARAT_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, MATRIX ".scale"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_factor_acts_as_if_in_the_matrix),
        cmocka_unit_test(test_factor_of_another_shape_is_refused),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
