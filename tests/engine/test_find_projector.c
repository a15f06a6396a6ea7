// SPDX-License-Identifier: Apache-2.0
// Which file beside a model holds its projections: by name, and whether it is taken.
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
#include "engine/engine.h"
#include "formats/safetensors.h"

#define HF        TEST_DATA "/fixtures/unified-text/model"
#define PROJECTOR TEST_DATA "/fixtures/unified-gguf/mmproj-bf16.gguf"
#define TEXT_ONLY TEST_DATA "/fixtures/quant/model-Q8_0.gguf"

static void test_chooses_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        const char *names[6]; // sorted, as os_list gives them
        const char *expected;
    } cases[] = {
        {"model-bf16.gguf", {"draft-bf16.gguf", "mmproj-bf16.gguf"}, "mmproj-bf16.gguf"},
        {"gemma-4-12b-it-Q4_0.gguf",
         {"mmproj-gemma-4-12b-it-f16.gguf", "mmproj-gemma-4-e4b-it-f16.gguf"},
         "mmproj-gemma-4-12b-it-f16.gguf"},
        {"Gemma-4-12B-it-UD-Q4_K_XL-00001-of-00003.gguf",
         {"mmproj-gemma-4-12b-it-BF16.gguf", "mmproj-gemma-4-31b-it-BF16.gguf"},
         "mmproj-gemma-4-12b-it-BF16.gguf"},
        {"gemma-4-12b-it.i1-IQ4_XS.gguf",
         {"gemma-4-12b-it.mmproj-Q8_0.gguf", "other.mmproj-Q8_0.gguf"},
         "gemma-4-12b-it.mmproj-Q8_0.gguf"},
        // The name of the base model; one without a name; the first of several types.
        {"gemma-4-12b-it-qat-q4_0.gguf",
         {"mmproj-BF16.gguf", "mmproj-gemma-4-12b-it.gguf", "mmproj-gemma-4-12b.gguf"},
         "mmproj-gemma-4-12b-it.gguf"},
        {"gemma-4-12b-it-Q4_0.gguf",
         {"mmproj-BF16.gguf", "mmproj-F32.gguf", "mmproj-gemma-4-12.gguf"},
         "mmproj-BF16.gguf"},
        // The only one, whatever it is called; several of other models are none.
        {"mine.gguf",
         {"mmproj-gemma-4-12b-it-f16.gguf", "notes.txt"},
         "mmproj-gemma-4-12b-it-f16.gguf"},
        {"mine.gguf", {"mmproj-a.gguf", "mmproj-b.gguf"}, NULL},
        {"mine.gguf", {"a.gguf", "mmproj-mine.bin", "mmproj"}, NULL},
        {"", {"mmproj-a.gguf"}, "mmproj-a.gguf"},
        {"", {NULL}, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n = 0;
        while (n < 6 && cases[i].names[n]) {
            n++;
        }
        const char *found = projector_choose(cases[i].names, n, slice_of(cases[i].model));
        if (cases[i].expected ? !found || strcmp(found, cases[i].expected) : !!found) {
            fail_msg("case %zu: expected %s, found %s", i, cases[i].expected, found);
        }
    }
}

// ---------------------------------------------------------------------------------- in a folder

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[160];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void copy_file(const char *from, const char *name)
{
    struct buf data = {0};
    assert_int_equal(os_read_file(&data, from, 4 << 20, NULL), 0);
    assert_int_equal(os_write_file(in_folder(name), data.data, data.size, NULL), 0);
    buf_release(&data);
}

// The checkpoint without what pictures and sound need.
static void write_text_tensors(void)
{
    struct safetensors *s = NULL;
    struct buf header = {0};
    struct buf data = {0};
    struct buf file = {0};
    assert_int_equal(safetensors_open(&s, HF "/model.safetensors", NULL), 0);
    for (size_t i = 0; i < safetensors_n_tensors(s); i++) {
        const struct safetensors_tensor *t = safetensors_tensor_at(s, i);
        if (strstr(t->name, "vision") || strstr(t->name, "audio")) {
            continue;
        }
        buf_addf(&header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", header.size ? "," : "{",
                 t->name);
        for (uint32_t k = 0; k < t->n_dims; k++) {
            buf_addf(&header, "%s%llu", k ? "," : "", (unsigned long long)t->dims[k]);
        }
        buf_addf(&header, "],\"data_offsets\":[%zu,%zu]}", data.size, data.size + t->size);
        buf_add(&data, t->data, t->size);
    }
    buf_adds(&header, "}");
    uint64_t size = header.size;
    buf_add(&file, &size, sizeof(size));
    buf_add(&file, header.data, header.size);
    buf_add(&file, data.data, data.size);
    assert_int_equal(buf_status(&file, NULL), 0);
    assert_int_equal(os_write_file(in_folder("model.safetensors"), file.data, file.size, NULL), 0);
    buf_release(&header);
    buf_release(&data);
    buf_release(&file);
    safetensors_close(s);
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/carat-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char **names = NULL;
    size_t n = 0;
    assert_int_equal(os_list(&names, &n, folder, 100, NULL), 0);
    for (size_t i = 0; i < n; i++) {
        unlink(in_folder(names[i]));
    }
    os_list_free(names, n);
    carat_set_log(NULL, NULL);
    return rmdir(folder);
}

static void keep_warning(void *user, enum carat_log_level level, const char *text)
{
    if (level == CARAT_LOG_WARNING) {
        snprintf(user, 300, "%s", text);
    }
}

static const struct carat_model_info *open_model(struct carat_engine **e, const char *path)
{
    struct carat_engine_options options = {.model = path, .n_threads = 1};
    struct carat_error err = {0};
    if (carat_engine_open(e, &options, &err)) {
        fail_msg("%s", err.text);
    }
    return carat_engine_info(*e);
}

static void test_takes_the_file_beside_the_model(void **state)
{
    (void)state;
    struct carat_engine *e = NULL;
    copy_file(HF "/config.json", "config.json");
    copy_file(HF "/tokenizer.json", "tokenizer.json");
    write_text_tensors();
    const struct carat_model_info *info = open_model(&e, folder);
    assert_false(info->sees || info->hears);
    assert_string_equal(info->projector, "");
    carat_engine_close(e);
    copy_file(PROJECTOR, "mmproj-bf16.gguf");
    info = open_model(&e, folder);
    assert_true(info->sees && info->hears);
    assert_string_equal(info->projector, in_folder("mmproj-bf16.gguf"));
    carat_engine_close(e);
    // The estimate finds the same file.
    struct carat_engine_options options = {.model = folder};
    struct carat_memory with;
    struct carat_memory without;
    assert_int_equal(carat_estimate(&with, &options, NULL, NULL), 0);
    unlink(in_folder("mmproj-bf16.gguf"));
    assert_int_equal(carat_estimate(&without, &options, NULL, NULL), 0);
    assert_true(with.weights > without.weights);
    assert_true(with.scratch > without.scratch);
}

static void test_passes_over_a_file_that_does_not_fit(void **state)
{
    (void)state;
    struct carat_engine *e = NULL;
    char warning[300] = "";
    carat_set_log(keep_warning, warning);
    copy_file(TEXT_ONLY, "model-Q8_0.gguf");
    open_model(&e, in_folder("model-Q8_0.gguf"));
    carat_engine_close(e);
    assert_string_equal(warning, "");
    copy_file(PROJECTOR, "mmproj-bf16.gguf"); // of a smaller model
    const struct carat_model_info *info = open_model(&e, in_folder("model-Q8_0.gguf"));
    assert_false(info->sees || info->hears);
    assert_non_null(strstr(warning, "mmproj-bf16.gguf"));
    carat_engine_close(e);
    warning[0] = '\0';
    assert_int_equal(os_write_file(in_folder("mmproj-bf16.gguf"), "GGUF", 4, NULL), 0);
    info = open_model(&e, in_folder("model-Q8_0.gguf"));
    assert_false(info->sees || info->hears);
    assert_non_null(strstr(warning, "mmproj-bf16.gguf"));
    carat_engine_close(e);
}

static void test_survives_failing_allocations(void **state)
{
    (void)state;
    copy_file(HF "/config.json", "config.json");
    copy_file(HF "/tokenizer.json", "tokenizer.json");
    write_text_tensors();
    copy_file(PROJECTOR, "mmproj-bf16.gguf");
    struct carat_engine_options options = {.model = folder, .n_threads = 1};
    size_t before = mem_bytes_now();
    for (size_t n = 1;; n++) {
        struct carat_engine *e = NULL;
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = carat_engine_open(&e, &options, &err);
        mem_fail_nth(0);
        bool sees = rc == 0 && carat_engine_info(e)->sees;
        carat_engine_close(e);
        assert_int_equal(mem_bytes_now(), before);
        if (rc == 0) {
            assert_true(sees); // not silently without
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chooses_by_name),
        cmocka_unit_test_setup_teardown(test_takes_the_file_beside_the_model, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_passes_over_a_file_that_does_not_fit, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_survives_failing_allocations, make_folder,
                                        remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
