// SPDX-License-Identifier: Apache-2.0
#include "base/os_file.h"

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

struct place {
    char dir[64];
    char path[128];
};

static const char *in_place(struct place *p, const char *name)
{
    snprintf(p->path, sizeof(p->path), "%s/%s", p->dir, name);
    return p->path;
}

static int make_place(void **state)
{
    static struct place place;
    strncpy(place.dir, "/tmp/carat-test-XXXXXX", sizeof(place.dir) - 1);
    *state = &place;
    return mkdtemp(place.dir) ? 0 : -1;
}

static size_t count_files(struct place *p, bool removes)
{
    char **names = NULL;
    size_t n = 0;
    assert_int_equal(os_list(&names, &n, p->dir, 1000, NULL), 0);
    for (size_t i = 0; removes && i < n; i++) {
        os_remove(in_place(p, names[i]));
    }
    os_list_free(names, n);
    return n;
}

static int remove_place(void **state)
{
    struct place *p = *state;
    count_files(p, true);
    return rmdir(p->dir);
}

static void test_a_file_appears_when_it_is_whole(void **state)
{
    struct place *p = *state;
    struct os_writer w = {0};
    struct os_reader r = {0};
    char text[16] = {0};
    os_writer_close(&w);          // zeroed
    for (int i = 0; i < 2; i++) { // the second one takes the place of the first
        assert_int_equal(os_writer_open(&w, in_place(p, "f"), NULL), 0);
        assert_int_equal(os_writer_add(&w, "some ", 5, NULL), 0);
        assert_int_equal(os_is_file(in_place(p, "f")), i == 1);
        assert_int_equal(os_writer_add(&w, i ? "more" : "text", 4, NULL), 0);
        assert_int_equal(os_writer_finish(&w, i == 0, NULL), 0);
        os_writer_close(&w);
        assert_int_equal(count_files(p, false), 1);
    }
    assert_int_equal(os_reader_open(&r, in_place(p, "f"), NULL), 0);
    assert_int_equal(r.size, 9);
    assert_int_equal(os_reader_next(&r, text, 6, NULL), 0);
    assert_int_equal(os_reader_next(&r, text + 6, 3, NULL), 0);
    assert_string_equal(text, "some more");
    assert_int_equal(r.at, 9);
    assert_int_equal(os_reader_next(&r, text, 1, NULL), CARAT_E_FORMAT);
    os_reader_close(&r);
    os_reader_close(&r);
}

static void test_what_was_not_finished_leaves_nothing(void **state)
{
    struct place *p = *state;
    struct os_writer w = {0};
    assert_int_equal(os_writer_open(&w, in_place(p, "f"), NULL), 0);
    assert_int_equal(os_writer_add(&w, "text", 4, NULL), 0);
    os_writer_close(&w);
    assert_int_equal(count_files(p, false), 0);
}

static void test_errors_name_the_path(void **state)
{
    struct place *p = *state;
    struct carat_error err = {0};
    struct os_writer w = {0};
    struct os_reader r = {0};
    assert_int_equal(os_writer_open(&w, in_place(p, "no/such/f"), &err), CARAT_E_IO);
    assert_non_null(strstr(err.text, "no/such/f"));
    assert_int_equal(os_reader_open(&r, in_place(p, "f"), &err), CARAT_E_IO);
    assert_int_equal(os_reader_open(&r, p->dir, &err), CARAT_E_IO);
    assert_non_null(strstr(err.text, p->dir));
}

static void test_folders_and_times(void **state)
{
    struct place *p = *state;
    struct os_file_info a = {0};
    struct os_file_info b = {0};
    char folder[200];
    assert_false(os_file_info(&a, in_place(p, "f")));
    assert_false(os_touch(in_place(p, "f")));
    assert_false(os_remove(in_place(p, "f")));
    assert_int_equal(os_write_file(in_place(p, "f"), "12345", 5, NULL), 0);
    assert_true(os_file_info(&a, in_place(p, "f")));
    assert_int_equal(a.size, 5);
    assert_false(a.is_directory);
    assert_true(os_touch(in_place(p, "f")));
    assert_true(os_file_info(&b, in_place(p, "f")));
    assert_true(b.used_at >= a.used_at);
    assert_int_equal(os_make_folder(in_place(p, "f"), NULL), CARAT_E_IO);
    assert_true(os_remove(in_place(p, "f")));

    snprintf(folder, sizeof(folder), "%s/one//two/", p->dir);
    assert_int_equal(os_make_folder(folder, NULL), 0);
    assert_int_equal(os_make_folder(folder, NULL), 0);
    assert_true(os_file_info(&a, in_place(p, "one/two")));
    assert_true(a.is_directory);
    assert_int_equal(rmdir(in_place(p, "one/two")), 0);
    assert_int_equal(rmdir(in_place(p, "one")), 0);
}

static void test_no_memory(void **state)
{
    struct place *p = *state;
    size_t before = mem_bytes_now();
    for (size_t n = 1; n < 100; n++) {
        struct os_writer w = {0};
        struct os_reader r = {0};
        const char *path = in_place(p, "f");
        mem_fail_nth(n);
        int rc = os_make_folder(p->dir, NULL);
        rc = rc ? rc : os_writer_open(&w, path, NULL);
        rc = rc ? rc : os_writer_finish(&w, false, NULL);
        rc = rc ? rc : os_reader_open(&r, path, NULL);
        mem_fail_nth(0);
        os_writer_close(&w);
        os_reader_close(&r);
        assert_int_equal(mem_bytes_now(), before);
        if (rc == 0) {
            return;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
    }
    fail_msg("it never succeeded");
}

static void check_cache_folder(const char *named, const char *home, const char *want)
{
    struct buf path = {0};
    assert_int_equal(setenv("XDG_CACHE_HOME", named, 1), 0);
    assert_int_equal(setenv("HOME", home, 1), 0);
    assert_int_equal(os_cache_folder(&path), want != NULL);
    assert_string_equal(buf_text(&path), want ? want : "");
    buf_release(&path);
}

static void test_the_folder_of_caches(void **state)
{
    (void)state;
#if defined(__APPLE__)
    const char *below_home = "/u/Library/Caches";
#else
    const char *below_home = "/u/.cache";
#endif
    check_cache_folder("/named", "/u", "/named");
    check_cache_folder("", "/u", below_home);
    check_cache_folder("not/whole", "/u", below_home);
    check_cache_folder("", "", NULL);
    check_cache_folder("", "not/whole", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_file_appears_when_it_is_whole, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(test_what_was_not_finished_leaves_nothing, make_place,
                                        remove_place),
        cmocka_unit_test_setup_teardown(test_errors_name_the_path, make_place, remove_place),
        cmocka_unit_test_setup_teardown(test_folders_and_times, make_place, remove_place),
        cmocka_unit_test_setup_teardown(test_no_memory, make_place, remove_place),
        cmocka_unit_test(test_the_folder_of_caches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
