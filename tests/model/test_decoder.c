// SPDX-License-Identifier: Apache-2.0
// The decoder over a prompt with pictures and sound: its input, layers and logits against recorded
// numbers, and the same bits in chunks that cut the sound and go around the pictures.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "base/mem.h"
#include "model/decoder.h"
#include "model/load.h"

#define MODEL  TEST_DATA "/fixtures/unified-text/model"
#define GOLDEN TEST_DATA "/fixtures/unified-mixed/golden.safetensors"

enum { TOKENS_MAX = 64, SPANS_MAX = 4, WIDTH = 48, VOCAB = 384 };
enum { TYPE_IMAGE = 1, TYPE_AUDIO = 3 };

struct bench {
    struct safetensors *golden;
    struct source *source;
    struct model_config config;
    struct weights weights;
    struct projector projector;
    struct device *dev;
    struct decoder decoder;
    carat_token tokens[TOKENS_MAX];
    size_t n_tokens;
    struct soft_span spans[SPANS_MAX]; // row: position in the prompt
    size_t n_spans;
    size_t ends[TOKENS_MAX];
    float *samples;
    float embed[TOKENS_MAX * WIDTH];
    float logits[TOKENS_MAX * VOCAB];
};

static const struct safetensors_tensor *tensor(const struct bench *b, const char *form, size_t i)
{
    char name[48];
    snprintf(name, sizeof(name), form, i);
    const struct safetensors_tensor *t = safetensors_find(b->golden, name);
    if (!t) {
        fail_msg("%s is not there", name);
    }
    return t;
}

static void read_span(struct bench *b, int32_t type, size_t row, size_t n, size_t item)
{
    struct soft_span *span = &b->spans[b->n_spans++];
    *span = (struct soft_span){.row = row, .n = n};
    if (type == TYPE_IMAGE) {
        const struct safetensors_tensor *t = tensor(b, "in.image_u8.%zu", item);
        span->kind = SOFT_IMAGE;
        span->pixels = t->data;
        span->height = (uint32_t)t->dims[0];
        span->width = (uint32_t)t->dims[1];
        return;
    }
    const struct safetensors_tensor *t = tensor(b, "in.wave.%zu", item);
    assert_null(b->samples); // there is one
    b->samples = mem_new((size_t)t->size, NULL);
    memcpy(b->samples, t->data, (size_t)t->size);
    span->kind = SOFT_AUDIO;
    span->samples = b->samples;
    span->n_samples = (size_t)t->values;
}

// Runs of equal types are the items; pictures see to their ends.
static void read_prompt(struct bench *b)
{
    const struct safetensors_tensor *ids = tensor(b, "in.input_ids", 0);
    const struct safetensors_tensor *type_ids = tensor(b, "in.mm_token_type_ids", 0);
    int32_t types[TOKENS_MAX];
    size_t n_items[4] = {0};
    b->n_tokens = (size_t)ids->values;
    assert_true(b->n_tokens <= TOKENS_MAX);
    memcpy(b->tokens, ids->data, (size_t)ids->size);
    memcpy(types, type_ids->data, (size_t)type_ids->size);
    for (size_t p = 0, end = 0; p < b->n_tokens; p = end) {
        for (end = p + 1; types[p] != 0 && end < b->n_tokens && types[end] == types[p];) {
            end++;
        }
        if (types[p] != 0) {
            read_span(b, types[p], p, end - p, n_items[types[p]]++);
        }
        for (size_t i = p; i < end; i++) {
            b->ends[i] = types[p] == TYPE_IMAGE ? end : i + 1;
        }
    }
    assert_int_equal(b->n_spans, 3);
}

static int bench_open(void **state)
{
    static struct bench b;
    const struct device_options options = {.n_threads = 2, .activations = CARAT_ACTIVATIONS_FLOAT};
    assert_int_equal(safetensors_open(&b.golden, GOLDEN, NULL), 0);
    assert_int_equal(source_open(&b.source, MODEL, true, NULL), 0);
    assert_int_equal(config_read(&b.config, b.source, NULL), 0);
    assert_int_equal(weights_bind(&b.weights, &b.config, b.source, NULL), 0);
    assert_int_equal(projector_bind(&b.projector, &b.config, b.source, NULL), 0);
    assert_int_equal(device_new_cpu(&b.dev, &options, NULL), 0);
    struct load load = {.device = b.dev};
    assert_int_equal(load_weights(&load, &b.weights, b.source, NULL), 0);
    assert_int_equal(load_projector(&load, &b.projector, b.source, NULL), 0);
    b.decoder = (struct decoder){
        .config = &b.config, .weights = &b.weights, .projector = &b.projector, .device = b.dev};
    assert_int_equal(decoder_reserve(&b.decoder, TOKENS_MAX, TOKENS_MAX, NULL), 0);
    assert_int_equal(b.config.hidden_size, WIDTH);
    assert_int_equal(b.config.n_vocab, VOCAB);
    read_prompt(&b);
    *state = &b;
    return 0;
}

static int bench_close(void **state)
{
    struct bench *b = *state;
    decoder_release(&b->decoder);
    unload_weights(b->dev, &b->weights);
    unload_projector(b->dev, &b->projector);
    device_free(b->dev);
    projector_release(&b->projector);
    weights_release(&b->weights);
    config_release(&b->config);
    source_close(b->source);
    safetensors_close(b->golden);
    mem_free(b->samples);
    return 0;
}

static void on_logits(void *user, size_t position, const float *logits)
{
    struct bench *b = user;
    memcpy(b->logits + position * VOCAB, logits, VOCAB * sizeof(float));
}

static void check_values(const char *name, const struct safetensors_tensor *t, size_t first,
                         const float *found, size_t n, double tolerance)
{
    assert_true((first + n) * sizeof(float) <= t->size);
    for (size_t i = 0; i < n; i++) {
        float want = 0;
        memcpy(&want, t->data + (first + i) * sizeof(float), sizeof(want));
        if (!(fabs((double)want - (double)found[i]) <= tolerance)) {
            fail_msg("%s: value %zu: expected %g, found %g", name, first + i, (double)want,
                     (double)found[i]);
        }
    }
}

// The steps of the projections have a test of their own.
static void on_tensor(void *user, const char *name, int layer, size_t first, size_t n,
                      size_t columns, const float *data)
{
    struct bench *b = user;
    char full[48];
    snprintf(full, sizeof(full), layer < 0 ? "out.%s" : "out.%s.%d", name, layer);
    const struct safetensors_tensor *t = safetensors_find(b->golden, full);
    if (strcmp(name, "embed") == 0) {
        memcpy(b->embed + first * WIDTH, data, n * WIDTH * sizeof(float));
    }
    if (t && (layer >= 0 || strcmp(name, "norm") == 0 || strcmp(name, "embed") == 0)) {
        double squares = 0;
        for (size_t i = 0; i < n * columns; i++) {
            squares += (double)data[i] * (double)data[i];
        }
        const double size = fmax(1, sqrt(squares / (double)(n * columns)));
        check_values(full, t, first * columns, data, n * columns, 1e-3 * size);
    }
}

// What of the prompt's spans lies in a chunk.
static size_t spans_of(struct soft_span *out, const struct bench *b, size_t first, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < b->n_spans; i++) {
        const struct soft_span *s = &b->spans[i];
        const size_t begin = s->row > first ? s->row : first;
        const size_t end = s->row + s->n < first + n ? s->row + s->n : first + n;
        if (begin < end) {
            out[count] = *s;
            out[count].row = begin - first;
            out[count].skipped = begin - s->row;
            out[count++].n = end - begin;
        }
    }
    return count;
}

static void run(struct bench *b, size_t chunk, bool is_traced)
{
    const struct kv_options options = {
        .type = DTYPE_F32, .context_max = TOKENS_MAX, .recent_max = TOKENS_MAX};
    struct kv_cache kv;
    assert_int_equal(kv_cache_init(&kv, b->dev, &b->config, &b->weights, &options, NULL), 0);
    size_t n = 0;
    for (size_t first = 0; first < b->n_tokens; first += n) {
        struct soft_span spans[SPANS_MAX];
        n = b->n_tokens - first < chunk ? b->n_tokens - first : chunk;
        n = b->ends[first + n - 1] - first; // a picture is not cut
        const struct decoder_segment segment = {
            .kv = &kv,
            .tokens = b->tokens + first,
            .spans = spans,
            .n_spans = spans_of(spans, b, first, n),
            .ends = b->ends + first,
            .n = n,
            .first = first,
            .logits = LOGITS_ALL,
            .on_logits = on_logits,
            .on_tensor = is_traced ? on_tensor : NULL,
            .user = b,
            .tensor_user = b,
        };
        assert_true(decoder_run(&b->decoder, &segment, 1));
    }
    kv_cache_release(&kv);
}

static void test_decoder_matches_goldens_with_media(void **state)
{
    struct bench *b = *state;
    run(b, TOKENS_MAX, true);
    check_values("out.logits", tensor(b, "out.logits", 0), 0, b->logits, b->n_tokens * VOCAB, 1e-3);
}

static void test_decoder_gives_the_same_in_any_chunks(void **state)
{
    struct bench *b = *state;
    static float logits[TOKENS_MAX * VOCAB];
    static const size_t chunks[] = {1, 2, 3, 5, 16, 40};
    run(b, TOKENS_MAX, false);
    memcpy(logits, b->logits, sizeof(logits));
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        memset(b->logits, 0, sizeof(b->logits));
        run(b, chunks[i], true);
        assert_memory_equal(b->logits, logits, b->n_tokens * VOCAB * sizeof(float));
    }
}

// Placeholders are overwritten: which token stands there does not matter.
static void test_placeholders_leave_no_trace(void **state)
{
    struct bench *b = *state;
    static float embed[TOKENS_MAX * WIDTH];
    run(b, TOKENS_MAX, true);
    memcpy(embed, b->embed, sizeof(embed));
    for (size_t i = 0; i < b->n_spans; i++) {
        for (size_t k = 0; k < b->spans[i].n; k++) {
            b->tokens[b->spans[i].row + k] = 0;
        }
    }
    run(b, TOKENS_MAX, true);
    assert_memory_equal(b->embed, embed, b->n_tokens * WIDTH * sizeof(float));
}

static void test_decoder_plans_for_the_projections(void **state)
{
    struct bench *b = *state;
    const struct projector none = {0};
    const uint64_t text = decoder_size(&b->config, &b->weights, NULL, 8, 64, 2);
    assert_int_equal(decoder_size(&b->config, &b->weights, &none, 8, 64, 2), text);
    assert_true(decoder_size(&b->config, &b->weights, &b->projector, 8, 64, 2) >=
                text + embedder_size(&b->projector));
    struct decoder d = {
        .config = &b->config, .weights = &b->weights, .projector = &b->projector, .device = b->dev};
    const size_t before = mem_bytes_now();
    assert_int_equal(decoder_reserve(&d, 8, 64, NULL), 0);
    assert_true(mem_bytes_now() - before <=
                decoder_size(&b->config, &b->weights, &b->projector, 8, 64, 2));
    assert_int_equal(decoder_reserve(&d, 8, 64, NULL), 0);
    decoder_release(&d);
    assert_int_equal(mem_bytes_now(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoder_matches_goldens_with_media),
        cmocka_unit_test(test_decoder_gives_the_same_in_any_chunks),
        cmocka_unit_test(test_placeholders_leave_no_trace),
        cmocka_unit_test(test_decoder_plans_for_the_projections),
    };
    return cmocka_run_group_tests(tests, bench_open, bench_close);
}
