// SPDX-License-Identifier: Apache-2.0
#include "base/os.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

static const char *program_name;

// A fresh folder for each test, and paths in it.
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

static int remove_place(void **state)
{
    struct place *p = *state;
    char **names = NULL;
    size_t count = 0;
    if (os_list(&names, &count, p->dir, 1000, NULL) == 0) {
        for (size_t i = 0; i < count; i++) {
            remove(in_place(p, names[i]));
        }
        os_list_free(names, count);
    }
    return rmdir(p->dir);
}

static void test_map_shows_the_file(void **state)
{
    struct place *p = *state;
    assert_int_equal(os_write_file(in_place(p, "f"), "content", 7, NULL), 0);
    struct os_map m = {0};
    assert_int_equal(os_map_open(&m, p->path, NULL), 0);
    assert_int_equal(m.size, 7);
    assert_memory_equal(m.data, "content", 7);
    os_map_will_need(&m, 0, 7);
    os_map_will_need(&m, 3, SIZE_MAX);
    os_map_will_need(&m, 8, 1);
    os_map_close(&m);
    assert_null(m.data);
    os_map_close(&m);
    os_map_close(NULL);
}

static void test_map_of_an_empty_file(void **state)
{
    struct place *p = *state;
    assert_int_equal(os_write_file(in_place(p, "empty"), NULL, 0, NULL), 0);
    struct os_map m = {.size = 5};
    assert_int_equal(os_map_open(&m, p->path, NULL), 0);
    assert_int_equal(m.size, 0);
    assert_null(m.data);
    os_map_close(&m);
}

static void test_map_refuses_what_is_no_file(void **state)
{
    struct place *p = *state;
    char fifo[128];
    snprintf(fifo, sizeof(fifo), "%s", in_place(p, "fifo"));
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const struct {
        const char *path;
        const char *reason;
    } cases[] = {
        {p->dir, "a directory"},
        {"/dev/null", "a device"},
        {fifo, "a pipe"}, // nobody writes to it: an ordinary open would wait for ever
        {"/nonexistent/model.gguf", "No such file"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct os_map m = {.size = 99};
        struct carat_error err = {0};
        assert_int_equal(os_map_open(&m, cases[i].path, &err), CARAT_E_IO);
        assert_int_equal(err.status, CARAT_E_IO);
        assert_non_null(strstr(err.text, cases[i].reason));
        assert_non_null(strstr(err.text, cases[i].path));
        assert_int_equal(m.size, 99);
    }
}

static void test_files_are_read_up_to_the_limit(void **state)
{
    struct place *p = *state;
    size_t size = 100000;
    char *data = mem_new(size, NULL);
    for (size_t i = 0; i < size; i++) {
        data[i] = (char)(i * 7);
    }
    assert_int_equal(os_write_file(in_place(p, "f"), data, size, NULL), 0);
    struct buf b = {0};
    buf_adds(&b, "old");
    struct carat_error err = {0};
    assert_int_equal(os_read_file(&b, p->path, size - 1, &err), CARAT_E_FULL);
    assert_int_equal(err.status, CARAT_E_FULL);
    assert_string_equal(buf_text(&b), "old");
    assert_int_equal(os_read_file(&b, p->path, 0, &err), CARAT_E_FULL);
    assert_int_equal(os_read_file(&b, p->path, size, &err), 0);
    assert_int_equal(b.size, size);
    assert_memory_equal(b.data, data, size);
    assert_int_equal(os_read_file(&b, p->path, SIZE_MAX, &err), 0);
    assert_int_equal(b.size, size);
    assert_int_equal(os_write_file(p->path, "", 0, NULL), 0); // replaces
    assert_int_equal(os_read_file(&b, p->path, 0, &err), 0);
    assert_int_equal(b.size, 0);
    buf_release(&b);
    mem_free(data);
}

static void test_files_that_cannot_be_read_or_written(void **state)
{
    struct place *p = *state;
    struct buf b = {0};
    struct carat_error err = {0};
    assert_int_equal(os_read_file(&b, p->dir, 100, &err), CARAT_E_IO);
    assert_non_null(strstr(err.text, "directory"));
    assert_int_equal(os_read_file(&b, in_place(p, "absent"), 100, &err), CARAT_E_IO);
    assert_non_null(strstr(err.text, p->path));
    assert_int_equal(os_write_file(p->dir, "x", 1, &err), CARAT_E_IO);
    assert_int_equal(os_write_file("/nonexistent/x", "x", 1, &err), CARAT_E_IO);
    buf_release(&b);
}

static void test_write_reports_a_full_disk(void **state)
{
    (void)state;
    if (!os_exists("/dev/full")) {
        skip();
    }
    struct carat_error err = {0};
    assert_int_equal(os_write_file("/dev/full", "x", 1, &err), CARAT_E_IO);
    assert_non_null(strstr(err.text, strerror(ENOSPC)));
}

static void test_read_takes_standard_input(void **state)
{
    (void)state;
    int ends[2];
    int old = dup(STDIN_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "piped", 5), 5);
    close(ends[1]);
    assert_true(dup2(ends[0], STDIN_FILENO) >= 0);
    struct buf b = {0};
    assert_int_equal(os_read_file(&b, "-", 5, NULL), 0);
    assert_string_equal(buf_text(&b), "piped");
    buf_release(&b);
    dup2(old, STDIN_FILENO);
    close(ends[0]);
    close(old);
}

static void test_read_takes_what_has_arrived(void **state)
{
    (void)state;
    int ends[2];
    int old = dup(STDIN_FILENO);
    char data[8];
    size_t n = 99;
    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[0], STDIN_FILENO) >= 0);
    assert_false(os_wait_readable(STDIN_FILENO, 0));
    assert_int_equal(write(ends[1], "first", 5), 5);
    assert_int_equal(os_read_some(data, sizeof(data), &n, NULL), 0);
    assert_int_equal(n, 5);
    assert_memory_equal(data, "first", 5);
    assert_int_equal(write(ends[1], "and more", 8), 8);
    close(ends[1]);
    assert_int_equal(os_read_some(data, 3, &n, NULL), 0);
    assert_int_equal(n, 3);
    assert_int_equal(os_read_some(data, sizeof(data), &n, NULL), 0);
    assert_int_equal(n, 5);
    assert_int_equal(os_read_some(data, sizeof(data), &n, NULL), 0);
    assert_int_equal(n, 0);
    dup2(old, STDIN_FILENO);
    close(ends[0]);
    close(old);
}

static void test_full_path_begins_at_the_root(void **state)
{
    struct place *p = *state;
    struct buf full = {.max = 1 << 16}, again = {.max = 1 << 16};
    assert_int_equal(os_write_file(in_place(p, "f"), "x", 1, NULL), 0);
    assert_true(os_full_path(&full, p->path));
    assert_int_equal(full.data[0], '/');
    assert_true(slice_ends(slice_of(full.data), "/f"));
    assert_true(os_full_path(&again, in_place(p, "./././f")));
    assert_string_equal(buf_text(&again), buf_text(&full));
    assert_false(os_full_path(&again, in_place(p, "nothing")));
    buf_release(&full);
    buf_release(&again);
}

static void test_list_is_sorted_and_limited(void **state)
{
    struct place *p = *state;
    const char *made[] = {"b", "a", "Z", "a.gguf", "\xC3\xA9"};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(os_write_file(in_place(p, made[i]), "", 0, NULL), 0);
    }
    char **names = NULL;
    size_t count = 0;
    assert_int_equal(os_list(&names, &count, p->dir, 5, NULL), 0);
    const char *sorted[] = {"Z", "a", "a.gguf", "b", "\xC3\xA9"};
    assert_int_equal(count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(names[i], sorted[i]);
    }
    os_list_free(names, count);
    struct carat_error err = {0};
    assert_int_equal(os_list(&names, &count, p->dir, 4, &err), CARAT_E_FULL);
    assert_int_equal(os_list(&names, &count, "/nonexistent", 4, &err), CARAT_E_IO);
}

static void test_list_reports_no_memory(void **state)
{
    struct place *p = *state;
    assert_int_equal(os_write_file(in_place(p, "a"), "", 0, NULL), 0);
    assert_int_equal(os_write_file(in_place(p, "b"), "", 0, NULL), 0);
    size_t before = mem_bytes_now();
    for (size_t n = 1;; n++) {
        char **names = NULL;
        size_t count = 0;
        mem_fail_nth(n);
        int rc = os_list(&names, &count, p->dir, 10, NULL);
        mem_fail_nth(0);
        if (rc == 0) {
            assert_true(n > 1);
            os_list_free(names, count);
            break;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
        assert_int_equal(mem_bytes_now(), before);
    }
    assert_int_equal(mem_bytes_now(), before);
}

static void test_questions_about_paths(void **state)
{
    struct place *p = *state;
    assert_int_equal(os_write_file(in_place(p, "f"), "x", 1, NULL), 0);
    assert_true(os_is_file(p->path));
    assert_true(os_exists(p->path));
    assert_false(os_is_directory(p->path));
    assert_true(os_is_directory(p->dir));
    assert_false(os_is_file(p->dir));
    in_place(p, "absent");
    assert_false(os_exists(p->path));
    assert_false(os_is_file(p->path));
}

static void test_program_path_names_this_program(void **state)
{
    (void)state;
    struct buf b = {0};
    os_program_path(&b);
    assert_true(os_is_file(buf_text(&b)));
    assert_true(slice_ends(slice_of(program_name), strrchr(buf_text(&b), '/') + 1));
    buf_release(&b);
}

static void test_env_empty_is_unset(void **state)
{
    (void)state;
    setenv("CARAT_TEST_VARIABLE", "value", 1);
    assert_string_equal(os_env("CARAT_TEST_VARIABLE"), "value");
    setenv("CARAT_TEST_VARIABLE", "", 1);
    assert_null(os_env("CARAT_TEST_VARIABLE"));
    unsetenv("CARAT_TEST_VARIABLE");
    assert_null(os_env("CARAT_TEST_VARIABLE"));
}

static void test_cpu_lists_as_the_kernel_writes_them(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        const char *has; // of 0 to 9
    } cases[] = {
        {"0\n", "x"},
        {"0,4\n", "x   x"},
        {"2-4,8\n", "  xxx   x"},
        {"0-1,6-7", "xx    xx"},
        {"7,3-3", "   x   x"},
        {"", ""},
        {"\n", ""},
        {"none", ""},
        {"1,", " x"},
        {"5-2", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n = strlen(cases[i].has);
        for (size_t cpu = 0; cpu < 10; cpu++) {
            assert_int_equal(os_cpu_list_has(cases[i].list, cpu),
                             cpu < n && cases[i].has[cpu] == 'x');
        }
    }
    assert_false(os_cpu_list_has("0,64", 6));
    assert_true(os_cpu_list_has("0,64", 64));
}

static void test_machine_figures_are_plausible(void **state)
{
    (void)state;
    double start = os_seconds();
    assert_true(os_cores() >= 1);
    assert_true(os_cores() <= os_processors());
    assert_true(os_processors() <= (size_t)sysconf(_SC_NPROCESSORS_ONLN));
    assert_true(os_random_u64() != os_random_u64());
#if defined(__linux__) || defined(__APPLE__)
    assert_true(os_memory_total() > (uint64_t)64 << 20);
    assert_true(os_memory_available() <= os_memory_total());
    assert_true(os_memory_unused() <= os_memory_total());
    assert_true(os_memory_resident_peak() > (uint64_t)100 << 10);
    assert_true(os_memory_private() > 0);
#endif
    assert_true(os_seconds() >= start);
}

static void test_interrupt_sets_a_flag_and_the_second_ends(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        os_catch_interrupt();
        int problems = os_interrupted();
        raise(SIGINT);
        problems += !os_interrupted();
        os_clear_interrupt();
        problems += os_interrupted();
        raise(SIGINT);
        problems += !os_interrupted();
        if (problems) {
            _exit(1);
        }
        raise(SIGINT);
        _exit(2); // never reached
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 130);
}

static void test_a_file_is_no_terminal(void **state)
{
    struct place *p = *state;
    FILE *f = fopen(in_place(p, "f"), "w");
    assert_non_null(f);
    assert_false(os_is_terminal(fileno(f)));
    assert_int_equal(os_terminal_columns(fileno(f)), 80);
    fclose(f);
}

#define in_folder(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(int argc, char **argv)
{
    program_name = argc > 0 ? argv[0] : "";
    const struct CMUnitTest tests[] = {
        in_folder(test_map_shows_the_file),
        in_folder(test_map_of_an_empty_file),
        in_folder(test_map_refuses_what_is_no_file),
        in_folder(test_files_are_read_up_to_the_limit),
        in_folder(test_files_that_cannot_be_read_or_written),
        cmocka_unit_test(test_write_reports_a_full_disk),
        cmocka_unit_test(test_read_takes_standard_input),
        cmocka_unit_test(test_read_takes_what_has_arrived),
        in_folder(test_list_is_sorted_and_limited),
        in_folder(test_list_reports_no_memory),
        in_folder(test_questions_about_paths),
        in_folder(test_full_path_begins_at_the_root),
        cmocka_unit_test(test_program_path_names_this_program),
        cmocka_unit_test(test_env_empty_is_unset),
        cmocka_unit_test(test_cpu_lists_as_the_kernel_writes_them),
        cmocka_unit_test(test_machine_figures_are_plausible),
        cmocka_unit_test(test_interrupt_sets_a_flag_and_the_second_ends),
        in_folder(test_a_file_is_no_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
