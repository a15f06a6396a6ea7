// SPDX-License-Identifier: Apache-2.0
// Files that carat writes: GGUF and safetensors headers, and files that survive their writer.
#include "formats/gguf_write.h"

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
#include "formats/partial.h"
#include "formats/safetensors_write.h"
#include "maker.h"

static struct gguf_writer *new_writer(void)
{
    struct gguf_writer *w = NULL;
    assert_int_equal(gguf_writer_new(&w, NULL), 0);
    return w;
}

// The header with zeros for data, as a file.
static struct gguf *read_back(const struct gguf_writer *w, struct buf *bytes)
{
    struct gguf *g = NULL;
    struct carat_error err = {0};
    buf_add_slice(bytes, gguf_writer_header(w));
    while (bytes->size < gguf_writer_size(w)) {
        buf_addc(bytes, 0);
    }
    if (gguf_open_memory(&g, bytes->data, bytes->size, "made", &err)) {
        fail_msg("%s", err.text);
    }
    return g;
}

static void test_every_kind_of_value_is_read_back(void **state)
{
    struct gguf_writer *w = new_writer();
    struct buf bytes = {0};
    const int32_t numbers[] = {-1, 2, INT32_MAX};
    const struct slice texts[] = {slice_of("a"), slice_of(""), slice_of("\xE2\x96\x81")};
    const uint8_t bools[] = {1, 0};
    (void)state;
    gguf_set_u32(w, "u", 4000000000u);
    gguf_set_i32(w, "i", -5);
    gguf_set_f32(w, "f", 0.25f);
    gguf_set_bool(w, "b", true);
    gguf_set_string(w, "s", slice_of("text"));
    gguf_set_array(w, "ai", GGUF_I32, numbers, 3);
    gguf_set_array(w, "ab", GGUF_BOOL, bools, 2);
    gguf_set_strings(w, "as", texts, 3);
    gguf_set_u32(w, "gone", 1);
    gguf_unset(w, "gone");
    gguf_set_string(w, "u2", slice_of("first"));
    gguf_set_u32(w, "u2", 7);
    assert_false(gguf_is_set(w, "gone"));
    assert_true(gguf_is_set(w, "u2"));
    assert_int_equal(gguf_writer_plan(w, NULL), 0);
    struct gguf *g = read_back(w, &bytes);
    uint64_t u = 0;
    double f = 0;
    bool b = false;
    struct slice s = {0};
    struct gguf_array a;
    assert_int_equal(gguf_n_keys(g), 9);
    assert_int_equal(gguf_get_u64(g, "u", &u, NULL), 0);
    assert_true(u == 4000000000u);
    assert_int_equal(gguf_get_f64(g, "i", &f, NULL), 0);
    assert_true(f == -5);
    assert_int_equal(gguf_get_f64(g, "f", &f, NULL), 0);
    assert_true(f == 0.25);
    assert_int_equal(gguf_get_bool(g, "b", &b, NULL), 0);
    assert_true(b);
    assert_int_equal(gguf_get_string(g, "s", &s, NULL), 0);
    assert_true(slice_is(s, "text"));
    assert_int_equal(gguf_get_u64(g, "u2", &u, NULL), 0);
    assert_int_equal(u, 7);
    assert_int_equal(gguf_get_array(g, "ai", &a, NULL), 0);
    assert_int_equal(a.count, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gguf_array_next_i64(&a), numbers[i]);
    }
    assert_int_equal(gguf_get_array(g, "ab", &a, NULL), 0);
    assert_int_equal(gguf_array_next_i64(&a), 1);
    assert_int_equal(gguf_array_next_i64(&a), 0);
    assert_int_equal(gguf_get_array(g, "as", &a, NULL), 0);
    for (int i = 0; i < 3; i++) {
        assert_true(slice_equal(gguf_array_next_string(&a), texts[i]));
    }
    gguf_close(g);
    buf_release(&bytes);
    gguf_writer_free(w);
}

static void test_values_are_copied_as_they_stand(void **state)
{
    struct buf small = {0};
    struct buf bytes = {0};
    struct gguf *g = NULL;
    struct gguf_writer *w = new_writer();
    (void)state;
    maker_small(&small);
    assert_int_equal(gguf_open_memory(&g, small.data, small.size, "small", NULL), 0);
    for (size_t i = 0; i < gguf_n_keys(g); i++) {
        gguf_set_value(w, gguf_key_at(g, i), gguf_value_at(g, i));
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        assert_int_equal(gguf_writer_add(w, t->name, t->type, t->n_dims, t->dims, NULL), 0);
    }
    assert_int_equal(gguf_writer_plan(w, NULL), 0);
    struct gguf *made = read_back(w, &bytes);
    assert_int_equal(gguf_n_keys(made), gguf_n_keys(g));
    for (size_t i = 0; i < gguf_n_keys(g); i++) {
        struct gguf_value a = gguf_value_at(g, i);
        struct gguf_value b = gguf_value_at(made, i);
        assert_true(slice_equal(gguf_key_at(g, i), gguf_key_at(made, i)));
        assert_int_equal(a.type, b.type);
        assert_true(slice_equal(a.bytes, b.bytes));
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(made, i);
        assert_true(slice_equal(t->name, gguf_tensor_at(g, i)->name));
        assert_int_equal(t->offset, gguf_writer_offset(w, i));
        assert_int_equal(t->size, gguf_writer_tensor_size(w, i));
        assert_int_equal(t->offset % 32, 0);
    }
    gguf_close(made);
    gguf_close(g);
    buf_release(&bytes);
    buf_release(&small);
    gguf_writer_free(w);
}

static void test_tensors_that_cannot_be_written_are_refused(void **state)
{
    struct gguf_writer *w = new_writer();
    struct carat_error err = {0};
    const uint64_t odd[] = {33, 2};
    const uint64_t huge[] = {(uint64_t)1 << 40, (uint64_t)1 << 40};
    (void)state;
    assert_int_equal(gguf_writer_add(w, slice_of("a"), DTYPE_Q8_0, 2, odd, &err),
                     CARAT_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "33"));
    assert_int_equal(gguf_writer_add(w, slice_of("a"), DTYPE_F32, 2, huge, &err),
                     CARAT_E_UNSUPPORTED);
    assert_int_equal(gguf_writer_add(w, slice_of("a"), DTYPE_U8, 2, odd, &err),
                     CARAT_E_UNSUPPORTED);
    assert_int_equal(gguf_writer_add(w, slice_of(""), DTYPE_F32, 2, odd, &err),
                     CARAT_E_UNSUPPORTED);
    assert_int_equal(gguf_writer_add(w, slice_of("a"), DTYPE_F32, 2, odd, &err), 0);
    assert_int_equal(gguf_writer_add(w, slice_of("a"), DTYPE_F32, 2, odd, &err), CARAT_E_FORMAT);
    gguf_writer_free(w);
}

static void test_safetensors_headers_are_read_back(void **state)
{
    struct safetensors_writer w = {.n = 0};
    struct safetensors *s = NULL;
    struct carat_error err = {0};
    const uint64_t dims[] = {2, 3};
    (void)state;
    assert_int_equal(safetensors_writer_add(&w, "a \"b\"", DTYPE_BF16, 2, dims, &err), 0);
    assert_int_equal(safetensors_writer_add(&w, "scalar", DTYPE_F32, 0, NULL, &err), 0);
    assert_int_equal(safetensors_writer_add(&w, "q", DTYPE_Q8_0, 2, dims, &err),
                     CARAT_E_UNSUPPORTED);
    assert_int_equal(safetensors_writer_plan(&w, &err), 0);
    assert_int_equal(w.header.size % 8, 0);
    assert_int_equal(w.size, w.header.size + 16);
    while (w.header.size < w.size) {
        buf_addc(&w.header, 0);
    }
    if (safetensors_open_memory(&s, w.header.data, w.header.size, "made", &err)) {
        fail_msg("%s", err.text);
    }
    const struct safetensors_tensor *t = safetensors_find(s, "a \"b\"");
    assert_non_null(t);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(safetensors_find(s, "scalar")->n_dims, 0);
    safetensors_close(s);
    safetensors_writer_release(&w);
}

/* ------------------------------------------------------------------------------------ partial */

static const uint8_t key_a[HASH_SIZE] = {1};
static const uint8_t key_b[HASH_SIZE] = {2};
static const double figures[3] = {1.5, 2.5, 0};

static void open_part(struct partial *p, const char *path, const uint8_t *key)
{
    struct carat_error err = {0};
    if (partial_open(p, path, key, false, &err)) {
        fail_msg("%s", err.text);
    }
}

static char *kept_path(struct place *place, const char *name)
{
    return mem_strdup(place_path(place, name), NULL);
}

static void test_a_file_goes_on_behind_its_last_step(void **state)
{
    struct place *place = *state;
    char *path = kept_path(place, "file");
    struct partial p = {0};
    struct buf made = {0};
    open_part(&p, path, key_a);
    assert_false(p.is_resumed);
    assert_int_equal(partial_add(&p, "first", 5, NULL), 0);
    assert_int_equal(partial_step(&p, figures, NULL), 0);
    assert_int_equal(partial_add(&p, "lost", 4, NULL), 0);
    partial_close(&p); // as if its process had ended here
    assert_false(os_exists(path));

    open_part(&p, path, key_a);
    assert_true(p.is_resumed);
    assert_int_equal(p.at, 5);
    assert_int_equal(p.n_steps, 1);
    assert_true(p.steps[0].figures[1] == 2.5);
    assert_int_equal(partial_zeros(&p, 2, NULL), 0);
    assert_int_equal(partial_add(&p, "second", 6, NULL), 0);
    assert_int_equal(partial_step(&p, figures, NULL), 0);
    assert_int_equal(partial_finish(&p, NULL), 0);
    partial_close(&p);
    assert_int_equal(os_read_file(&made, path, 100, NULL), 0);
    assert_int_equal(made.size, 13);
    assert_memory_equal(made.data, "first\0\0second", 13);
    for (const char *const *s =
             (const char *const[]){"file.part", "file.part.journal", "file.part.lock", NULL};
         *s; s++) {
        assert_false(os_exists(place_path(place, *s)));
    }
    buf_release(&made);
    mem_free(path);
}

static void test_damage_is_made_again(void **state)
{
    struct place *place = *state;
    char *path = kept_path(place, "file");
    static const char *const damages[] = {"file.part", "file.part.journal"};
    for (size_t i = 0; i < 2; i++) {
        struct partial p = {0};
        struct buf b = {0};
        open_part(&p, path, key_a);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(partial_add(&p, "12345678", 8, NULL), 0);
            assert_int_equal(partial_step(&p, figures, NULL), 0);
        }
        partial_close(&p);
        const char *damaged = place_path(place, damages[i]);
        assert_int_equal(os_read_file(&b, damaged, 10000, NULL), 0);
        b.data[b.size - 1] ^= 1;
        assert_int_equal(os_write_file(damaged, b.data, b.size, NULL), 0);
        buf_release(&b);
        open_part(&p, path, key_a);
        assert_int_equal(p.n_steps, 2);
        assert_int_equal(p.at, 16);
        partial_close(&p);
        os_remove(place_path(place, "file.part"));
        os_remove(place_path(place, "file.part.journal"));
    }
    mem_free(path);
}

static void test_another_job_and_another_maker_are_refused(void **state)
{
    struct place *place = *state;
    char *path = kept_path(place, "file");
    struct partial p = {0};
    struct partial q = {0};
    struct carat_error err = {0};
    open_part(&p, path, key_a);
    assert_int_equal(partial_add(&p, "first", 5, NULL), 0);
    assert_int_equal(partial_step(&p, figures, NULL), 0);
    partial_close(&p);
    assert_int_equal(partial_open(&q, path, key_b, false, &err), CARAT_E_ARGUMENT);
    assert_non_null(strstr(err.text, "other options"));
    assert_int_equal(partial_open(&q, path, key_b, true, &err), 0);
    assert_int_equal(q.at, 0);
    assert_false(partial_was_finished(path, key_b));
    assert_int_equal(partial_finish(&q, NULL), 0);
    partial_close(&q);
    mem_free(path);
}

static void test_a_finished_file_is_known_again(void **state)
{
    struct place *place = *state;
    char *path = kept_path(place, "file");
    struct partial p = {0};
    struct buf journal = {0};
    open_part(&p, path, key_a);
    assert_int_equal(os_read_file(&journal, place_path(place, "file.part.journal"), 100, NULL), 0);
    assert_int_equal(partial_finish(&p, NULL), 0);
    partial_close(&p);
    assert_false(partial_was_finished(path, key_a));
    // As if its maker had ended just before the journal was removed.
    const char *name = place_path(place, "file.part.journal");
    assert_int_equal(os_write_file(name, journal.data, journal.size, NULL), 0);
    assert_false(partial_was_finished(path, key_b));
    assert_true(partial_was_finished(path, key_a));
    assert_false(os_exists(place_path(place, "file.part.journal")));
    buf_release(&journal);
    mem_free(path);
}

static void test_running_out_of_memory(void **state)
{
    struct place *place = *state;
    char *path = kept_path(place, "file");
    const uint64_t dims[] = {4};
    for (size_t nth = 1; nth < 200; nth++) {
        struct gguf_writer *w = NULL;
        struct partial p = {0};
        struct carat_error err = {0};
        mem_fail_nth(nth);
        int rc = gguf_writer_new(&w, &err);
        if (rc == 0) {
            gguf_set_u32(w, "a", 1);
            gguf_set_string(w, "b", slice_of("text"));
            rc = gguf_writer_add(w, slice_of("t"), DTYPE_F32, 1, dims, &err);
            rc = rc ? rc : gguf_writer_plan(w, &err);
        }
        rc = rc ? rc : partial_open(&p, path, key_a, true, &err);
        rc = rc ? rc : partial_add(&p, "12", 2, &err);
        rc = rc ? rc : partial_step(&p, figures, &err);
        mem_fail_nth(0);
        partial_close(&p);
        gguf_writer_free(w);
        if (rc == 0) {
            mem_free(path);
            return;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
    }
    fail_msg("it never came to an end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_of_value_is_read_back),
        cmocka_unit_test(test_values_are_copied_as_they_stand),
        cmocka_unit_test(test_tensors_that_cannot_be_written_are_refused),
        cmocka_unit_test(test_safetensors_headers_are_read_back),
        cmocka_unit_test_setup_teardown(test_a_file_goes_on_behind_its_last_step, place_make,
                                        place_remove),
        cmocka_unit_test_setup_teardown(test_damage_is_made_again, place_make, place_remove),
        cmocka_unit_test_setup_teardown(test_another_job_and_another_maker_are_refused, place_make,
                                        place_remove),
        cmocka_unit_test_setup_teardown(test_a_finished_file_is_known_again, place_make,
                                        place_remove),
        cmocka_unit_test_setup_teardown(test_running_out_of_memory, place_make, place_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
