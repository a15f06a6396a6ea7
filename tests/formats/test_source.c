// SPDX-License-Identifier: Apache-2.0
#include "formats/source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "maker.h"

static struct source *open_at(const char *path, bool needs_tensors)
{
    struct source *s = NULL;
    struct carat_error err = {0};
    if (source_open(&s, path, needs_tensors, &err)) {
        fail_msg("%s", err.text);
    }
    return s;
}

static void refuse(const char *path, const char *part)
{
    struct source *s = NULL;
    struct carat_error err = {0};
    int rc = source_open(&s, path, true, &err);
    if (rc >= 0) {
        fail_msg("was not refused (%s)", part);
    }
    assert_null(s);
    assert_int_equal(err.status, rc);
    if (!strstr(err.text, part)) {
        fail_msg("expected '%s' in: %s", part, err.text);
    }
}

static float first_value(const struct source *s, const char *name)
{
    const struct source_tensor *t = source_find(s, name);
    assert_non_null(t);
    const struct os_map *map = source_map_at(s, t->i_map);
    assert_true(t->data >= map->data && t->data + t->size <= map->data + map->size);
    float value = 0;
    if (t->type == DTYPE_F32) {
        memcpy(&value, t->data, sizeof(value));
    } else {
        value = t->data[0];
    }
    return value;
}

/* ------------------------------------------------------------------------------------ GGUF */

static void test_a_gguf_is_shown_rows_first(void **state)
{
    struct place *p = *state;
    struct buf file = {0};
    maker_small(&file);
    place_write_buf(p, "small.gguf", &file);
    struct source *s = open_at(place_path(p, "small.gguf"), true);
    assert_int_equal(source_n_tensors(s), 2);
    assert_int_equal(source_n_maps(s), 1);
    const struct source_tensor *a = source_find(s, "a");
    assert_ptr_equal(a, source_tensor_at(s, 0));
    const uint64_t dims[] = {2, 4, 1, 1};
    assert_memory_equal(a->dims, dims, sizeof(dims));
    assert_int_equal(a->n_dims, 2);
    assert_true(source_find(s, "b")->dims[0] == 3);
    assert_true(first_value(s, "b") == 100);
    assert_null(source_find(s, "c"));
    assert_non_null(source_gguf(s));
    assert_null(source_config(s));
    assert_null(source_generation_config(s));
    const struct json_doc *tokenizer = NULL;
    assert_int_equal(source_tokenizer(s, &tokenizer, NULL), 0);
    assert_null(tokenizer);
    assert_int_equal(source_chat_template(s).size, 0);
    assert_string_equal(source_path(s), p->path);
    source_close(s);
    source_close(NULL);
}

static void test_the_template_of_a_gguf(void **state)
{
    struct place *p = *state;
    struct maker m = {0};
    struct buf file = {0};
    maker_string(&m, "tokenizer.chat_template", "{{ text }}");
    maker_finish(&m, &file);
    place_write_buf(p, "m.gguf", &file);
    struct source *s = open_at(place_path(p, "m.gguf"), false);
    assert_true(slice_is(source_chat_template(s), "{{ text }}"));
    source_close(s);
    maker_u32(&m, "tokenizer.chat_template", 5);
    maker_finish(&m, &file);
    place_write_buf(p, "m.gguf", &file);
    refuse(p->path, "key 'tokenizer.chat_template': expected a string, found 5");
}

static void test_a_missing_path_is_named(void **state)
{
    struct place *p = *state;
    refuse(place_path(p, "absent.gguf"), "absent.gguf: cannot be opened: No such file");
    place_write_text(p, "model.safetensors", "x");
    refuse(place_path(p, "model.safetensors"), "give the directory that holds it");
    place_write_text(p, "notes.txt", "hello");
    refuse(place_path(p, "notes.txt"), "expected a GGUF file, found something else");
}

// A set of shards; each has one tensor. What the shards say about the set can be made wrong.
struct set {
    uint32_t count, stated_count, total, wrong_no;
    const char *last_name;
};

static void write_set(struct place *p, struct set set)
{
    for (uint32_t i = 0; i < set.count; i++) {
        struct maker m = {0};
        char name[64];
        char tensor[16];
        bool is_last = i + 1 == set.count;
        maker_u32(&m, "split.count", is_last ? set.stated_count : set.count);
        maker_u32(&m, "split.no", is_last ? i + set.wrong_no : i);
        maker_u32(&m, "split.tensors.count", set.total);
        snprintf(tensor, sizeof(tensor), "t%u", i);
        maker_tensor(&m, is_last ? set.last_name : tensor, 4, 1, (float)i);
        struct buf file = {0};
        maker_finish(&m, &file);
        snprintf(name, sizeof(name), "m-%05u-of-%05u.gguf", i + 1, set.count);
        place_write_buf(p, name, &file);
    }
}

static void test_a_split_set_is_one_model(void **state)
{
    struct place *p = *state;
    write_set(p, (struct set){3, 3, 3, 0, "t2"});
    struct source *s = open_at(place_path(p, "m-00001-of-00003.gguf"), true);
    assert_int_equal(source_n_tensors(s), 3);
    assert_int_equal(source_n_maps(s), 3);
    assert_true(first_value(s, "t0") == 0 && first_value(s, "t1") == 1 &&
                first_value(s, "t2") == 2);
    assert_int_equal(source_find(s, "t2")->i_map, 2);
    source_close(s);
    s = open_at(p->path, false); // the vocabulary is in the first shard
    assert_int_equal(source_n_maps(s), 1);
    source_close(s);
}

static void test_wrong_sets_are_refused(void **state)
{
    struct place *p = *state;
    static const char first[] = "m-00001-of-00003.gguf";
    write_set(p, (struct set){3, 3, 3, 0, "t2"});
    refuse(place_path(p, "m-00002-of-00003.gguf"),
           "is shard 2 of 3; give the first one, whose name ends in '-00001-of-00003.gguf'");
    write_set(p, (struct set){3, 3, 4, 0, "t2"});
    refuse(place_path(p, first), "expected 4 tensors in 3 shards, found 3");
    write_set(p, (struct set){3, 3, 3, 0, "t1"});
    refuse(place_path(p, first), "m-00003-of-00003.gguf: tensor 't1' is there twice");
    write_set(p, (struct set){3, 4, 3, 0, "t2"});
    refuse(place_path(p, first),
           "expected shard 3 of 3, found shard 3 of 4: it belongs to another set");
    write_set(p, (struct set){3, 3, 3, 1, "t2"});
    refuse(place_path(p, first), "expected shard 3 of 3, found shard 4 of 3");
    write_set(p, (struct set){3, 3, 3, 0, "t2"});
    assert_int_equal(remove(place_path(p, "m-00003-of-00003.gguf")), 0);
    refuse(place_path(p, first), "m-00003-of-00003.gguf: shard 3 of 3 is missing");
    char renamed[256];
    snprintf(renamed, sizeof(renamed), "%s", place_path(p, "renamed.gguf"));
    assert_int_equal(rename(place_path(p, first), renamed), 0);
    refuse(renamed, "expected a name that ends in '-00001-of-00003.gguf'");
    struct maker m = {0};
    struct buf file = {0};
    maker_u32(&m, "split.count", SOURCE_SHARDS_MAX + 1);
    maker_finish(&m, &file);
    place_write_buf(p, "many.gguf", &file);
    refuse(place_path(p, "many.gguf"),
           "key 'split.count': expected at most 1000 shards, found 1001");
}

/* ------------------------------------------------------------------------------------ directory */

// A file with one tensor of four bytes whose first value is 0.
static void write_weights(struct place *p, const char *name, const char *tensor)
{
    char header[200];
    struct buf file = {0};
    snprintf(header, sizeof(header),
             "{\"%s\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,4]}}", tensor);
    make_safetensors(&file, header, 4);
    place_write_buf(p, name, &file);
}

static void test_a_directory_with_one_file(void **state)
{
    struct place *p = *state;
    place_write_text(p, "config.json", "{\"hidden_size\": 8}");
    place_write_text(p, "generation_config.json", "{\"top_k\": 64}");
    place_write_text(p, "tokenizer.json", "{\"version\": \"1.0\"}");
    place_write_text(p, "chat_template.jinja", "{{ jinja }}");
    write_weights(p, "model.safetensors", "x");
    write_weights(p, "unrelated.safetensors", "y"); // the single file counts
    struct source *s = open_at(p->dir, true);
    assert_int_equal(source_n_tensors(s), 1);
    assert_true(source_find(s, "x")->dims[1] == 2);
    assert_true(source_find(s, "x")->dims[3] == 1);
    assert_null(source_gguf(s));
    uint64_t u = 0;
    assert_int_equal(json_get_u64(source_config(s), "hidden_size", &u, NULL), 0);
    assert_int_equal(u, 8);
    assert_int_equal(json_get_u64(source_generation_config(s), "top_k", &u, NULL), 0);
    assert_int_equal(u, 64);
    assert_true(slice_is(source_chat_template(s), "{{ jinja }}"));
    const struct json_doc *tokenizer = NULL;
    assert_int_equal(source_tokenizer(s, &tokenizer, NULL), 0);
    const struct json_doc *again = NULL;
    assert_int_equal(source_tokenizer(s, &again, NULL), 0);
    assert_ptr_equal(tokenizer, again);
    assert_true(slice_is(json_string(json_at(tokenizer, "version")), "1.0"));
    source_drop_tokenizer(s);
    assert_int_equal(source_tokenizer(s, &tokenizer, NULL), 0);
    assert_non_null(tokenizer);
    source_close(s);
}

static void test_a_directory_for_its_vocabulary_needs_no_weights(void **state)
{
    struct place *p = *state;
    place_write_text(p, "config.json", "{}");
    refuse(p->dir, "expected model.safetensors or shards of it, found no such file");
    struct source *s = open_at(p->dir, false);
    assert_int_equal(source_n_tensors(s), 0);
    assert_int_equal(source_n_maps(s), 0);
    assert_null(source_generation_config(s));
    const struct json_doc *tokenizer = NULL;
    assert_int_equal(source_tokenizer(s, &tokenizer, NULL), 0);
    assert_null(tokenizer);
    place_write_text(p, "tokenizer.json", "{\"a\": ");
    struct carat_error err = {0};
    assert_int_equal(source_tokenizer(s, &tokenizer, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "tokenizer.json: line 1"));
    place_write_text(p, "tokenizer.json", "[]");
    assert_int_equal(source_tokenizer(s, &tokenizer, &err), CARAT_E_FORMAT);
    assert_non_null(strstr(err.text, "tokenizer.json: expected an object, found an array"));
    source_close(s);
}

static void test_templates_in_tokenizer_config(void **state)
{
    struct place *p = *state;
    struct {
        const char *json, *text;
    } cases[] = {
        {"{\"chat_template\": \"a\\nb\"}", "a\nb"},
        {"{\"chat_template\": [{\"name\":\"tool_use\",\"template\":\"t\"},"
         "{\"name\":\"default\",\"template\":\"d\"}]}",
         "d"},
        {"{\"chat_template\": []}", ""},
        {"{\"chat_template\": 5}", ""},
        {"{}", ""},
    };
    place_write_text(p, "config.json", "{}");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        place_write_text(p, "tokenizer_config.json", cases[i].json);
        struct source *s = open_at(p->dir, false);
        assert_true(slice_is(source_chat_template(s), cases[i].text));
        source_close(s);
    }
}

static void test_shards_by_index(void **state)
{
    struct place *p = *state;
    place_write_text(p, "config.json", "{}");
    write_weights(p, "model-00001-of-00002.safetensors", "x");
    write_weights(p, "model-00002-of-00002.safetensors", "y");
    write_weights(p, "unrelated.safetensors", "x"); // not in the index
    place_write_text(p, "model.safetensors.index.json",
                     "{\"metadata\":{\"total_size\":8},\"weight_map\":{"
                     "\"y\":\"model-00002-of-00002.safetensors\","
                     "\"x\":\"model-00001-of-00002.safetensors\"}}");
    struct source *s = open_at(p->dir, true);
    assert_int_equal(source_n_tensors(s), 2);
    assert_int_equal(source_n_maps(s), 2);
    assert_non_null(source_find(s, "x"));
    assert_true(source_find(s, "y")->data ==
                source_map_at(s, 0)->data + source_map_at(s, 0)->size - 4);
    source_close(s);
}

static void test_wrong_indexes_are_refused(void **state)
{
    struct place *p = *state;
    struct {
        const char *index, *part;
    } cases[] = {
        {"{}", "weight_map: expected an object with tensors, found nothing"},
        {"{\"weight_map\":[]}", "found an array"},
        {"{\"weight_map\":{}}", "weight_map: expected an object with tensors"},
        {"{\"weight_map\":", "model.safetensors.index.json: line 1"},
        {"{\"weight_map\":{\"x\":5}}", "found another for tensor 'x'"},
        {"{\"weight_map\":{\"x\":\"../a.safetensors\"}}", "found another for tensor 'x'"},
        {"{\"weight_map\":{\"x\":\"/etc/a.safetensors\"}}", "found another for tensor 'x'"},
        {"{\"weight_map\":{\"x\":\"b\\\\a.safetensors\"}}", "found another for tensor 'x'"},
        {"{\"weight_map\":{\"x\":\".a.safetensors\"}}", "found another for tensor 'x'"},
        {"{\"weight_map\":{\"x\":\"a\\u0000.safetensors\"}}", "found another for tensor 'x'"},
        {"{\"weight_map\":{\"x\":\"config.json\"}}", "found another for tensor 'x'"},
        {"{\"weight_map\":{\"x\":\"c.safetensors\"}}", "c.safetensors: is missing"},
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"a.safetensors\"}}",
         "expected tensor 'y' in it, as the index says; it is nowhere"},
        {"{\"weight_map\":{\"x\":\"b.safetensors\",\"y\":\"a.safetensors\"}}", "as the index says"},
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"same.safetensors\"}}",
         "tensor 'x' is there twice"},
    };
    place_write_text(p, "config.json", "{}");
    write_weights(p, "a.safetensors", "x");
    write_weights(p, "b.safetensors", "y");
    write_weights(p, "same.safetensors", "x");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        place_write_text(p, "model.safetensors.index.json", cases[i].index);
        refuse(p->dir, cases[i].part);
    }
}

static void test_too_many_shards_are_refused(void **state)
{
    struct place *p = *state;
    struct buf index = {0};
    place_write_text(p, "config.json", "{}");
    buf_adds(&index, "{\"weight_map\":{");
    for (int i = 0; i <= SOURCE_SHARDS_MAX; i++) {
        char name[32];
        char tensor[16];
        snprintf(tensor, sizeof(tensor), "t%d", i);
        snprintf(name, sizeof(name), "%d.safetensors", i);
        write_weights(p, name, tensor);
        buf_addf(&index, "%s\"%s\":\"%s\"", i > 0 ? "," : "", tensor, name);
    }
    buf_adds(&index, "}}");
    place_write_buf(p, "model.safetensors.index.json", &index);
    refuse(p->dir, "expected at most 1000 files, found more");
}

static void test_files_without_index_are_joined(void **state)
{
    struct place *p = *state;
    place_write_text(p, "config.json", "{}");
    write_weights(p, "b.safetensors", "y");
    write_weights(p, "a.safetensors", "x");
    struct source *s = open_at(p->dir, true);
    assert_int_equal(source_n_tensors(s), 2);
    assert_true(slice_is(source_tensor_at(s, 0)->name, "x"));
    source_close(s);
    write_weights(p, "c.safetensors", "x");
    refuse(p->dir, "c.safetensors: tensor 'x' is there twice: it is in ");
}

static void test_wrong_directories_are_refused(void **state)
{
    struct place *p = *state;
    refuse(p->dir, "expected a model's directory, but there is no config.json in it");
    place_write_text(p, "model-Q4_0.gguf", "");
    refuse(p->dir, "found one with model-Q4_0.gguf: give that file's path");
    place_write_text(p, "config.json", "");
    refuse(p->dir, "config.json: expected JSON, found nothing: it is empty");
    place_write_text(p, "config.json", "[]");
    refuse(p->dir, "config.json: expected an object, found an array");
    place_write_text(p, "config.json", "{}");
    place_write_text(p, "pytorch_model.bin", "");
    refuse(p->dir, "found pytorch_model.bin, which cannot be read: convert it to safetensors");
    place_write_text(p, "model.safetensors",
                     "version https://git-lfs.github.com/spec/v1\noid sha256");
    refuse(p->dir, "model.safetensors: expected a safetensors file, found a Git LFS pointer");
    struct buf file = {0};
    make_safetensors(&file,
                     "{\"x\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,1]}}", 1);
    place_write_buf(p, "model.safetensors", &file);
    refuse(p->dir, "model.safetensors: tensor 'x': expected at most 4 dimensions, found 5");
    write_weights(p, "model.safetensors", "x");
    place_write_text(p, "generation_config.json", "{");
    refuse(p->dir, "generation_config.json: line 1");
}

static void test_bytes_in_memory_are_a_source(void **state)
{
    (void)state;
    struct source *s = NULL;
    struct carat_error err = {0};
    struct buf file = {0};
    maker_small(&file);
    assert_int_equal(source_open_memory(&s, file.data, file.size, "m", &err), 0);
    assert_non_null(source_gguf(s));
    assert_true(first_value(s, "b") == 100);
    source_close(s);
    assert_int_equal(source_open_memory(&s, file.data, file.size - 1, "m", &err), CARAT_E_FORMAT);
    buf_release(&file);
    assert_int_equal(source_open_memory(&s, "{\"a\":1}", 7, "m", &err), 0);
    assert_non_null(json_at(source_config(s), "a"));
    assert_int_equal(source_n_tensors(s), 0);
    source_close(s);
    assert_int_equal(source_open_memory(&s, "[1]", 3, "m", &err), CARAT_E_FORMAT);
    assert_string_equal(err.text, "m: expected an object, found an array");
}

/* ------------------------------------------------------------------------------------ memory */

static void fail_each_allocation(const char *path)
{
    size_t before = mem_bytes_now();
    size_t n = 1;
    for (;; n++) {
        struct source *s = NULL;
        struct carat_error err = {0};
        mem_fail_nth(n);
        int rc = source_open(&s, path, true, &err);
        mem_fail_nth(0);
        if (rc == 0) {
            source_close(s);
            break;
        }
        assert_null(s);
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(err.status, CARAT_E_MEMORY);
        assert_int_equal(mem_bytes_now(), before);
    }
    assert_true(n > 10);
    assert_int_equal(mem_bytes_now(), before);
}

static void test_each_failing_allocation_is_reported(void **state)
{
    struct place *p = *state;
    place_write_text(p, "config.json", "{}");
    place_write_text(p, "generation_config.json", "{}");
    place_write_text(p, "tokenizer_config.json", "{\"chat_template\":\"t\"}");
    write_weights(p, "a.safetensors", "x");
    write_weights(p, "b.safetensors", "y");
    fail_each_allocation(p->dir);
    place_write_text(p, "model.safetensors.index.json",
                     "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}");
    fail_each_allocation(p->dir);
    write_set(p, (struct set){3, 3, 3, 0, "t2"});
    fail_each_allocation(place_path(p, "m-00001-of-00003.gguf"));
}

static void test_a_failing_allocation_in_the_tokenizer(void **state)
{
    struct place *p = *state;
    place_write_text(p, "config.json", "{}");
    place_write_text(p, "tokenizer.json", "{\"model\":{\"vocab\":{\"a\":1}}}");
    struct source *s = open_at(p->dir, false);
    size_t n = 1;
    const struct json_doc *tokenizer = NULL;
    for (;; n++) {
        mem_fail_nth(n);
        int rc = source_tokenizer(s, &tokenizer, NULL);
        mem_fail_nth(0);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_null(tokenizer);
    }
    assert_non_null(tokenizer);
    assert_true(n > 3);
    source_close(s);
}

int main(void)
{
#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)
    const struct CMUnitTest tests[] = {
        IN_PLACE(test_a_gguf_is_shown_rows_first),
        IN_PLACE(test_the_template_of_a_gguf),
        IN_PLACE(test_a_missing_path_is_named),
        IN_PLACE(test_a_split_set_is_one_model),
        IN_PLACE(test_wrong_sets_are_refused),
        IN_PLACE(test_a_directory_with_one_file),
        IN_PLACE(test_a_directory_for_its_vocabulary_needs_no_weights),
        IN_PLACE(test_templates_in_tokenizer_config),
        IN_PLACE(test_shards_by_index),
        IN_PLACE(test_wrong_indexes_are_refused),
        IN_PLACE(test_too_many_shards_are_refused),
        IN_PLACE(test_files_without_index_are_joined),
        IN_PLACE(test_wrong_directories_are_refused),
        cmocka_unit_test(test_bytes_in_memory_are_a_source),
        IN_PLACE(test_each_failing_allocation_is_reported),
        IN_PLACE(test_a_failing_allocation_in_the_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
