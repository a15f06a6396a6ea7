// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "base/os_file.h"
#include "base/os_part.h"

static char folder[] = "/tmp/carat-os-part-XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[4][200];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_all(void **state)
{
    (void)state;
    char **names = NULL;
    size_t n = 0;
    os_list(&names, &n, folder, 100, NULL);
    for (size_t i = 0; i < n; i++) {
        os_remove(path_of(names[i]));
    }
    os_list_free(names, n);
    return os_remove_folder(folder) ? 0 : -1;
}

static void test_part_is_written_in_any_order(void **state)
{
    (void)state;
    struct carat_error err;
    struct os_part p;
    struct os_file_info info;
    char back[16];
    size_t n = 0;
    assert_int_equal(os_part_open(&p, path_of("a"), &err), 0);
    assert_int_equal(os_part_resize(&p, (uint64_t)1 << 33, &err), 0);
    assert_int_equal(os_part_write(&p, ((uint64_t)1 << 33) - 3, "end", 3, &err), 0);
    assert_int_equal(os_part_write(&p, 5, "begin", 5, &err), 0);
    assert_int_equal(os_part_sync(&p, &err), 0);
    assert_int_equal(os_part_read(&p, ((uint64_t)1 << 33) - 3, back, sizeof(back), &n, &err), 0);
    assert_int_equal(n, 3);
    assert_memory_equal(back, "end", 3);
    assert_int_equal(os_part_read(&p, 3, back, 8, &n, &err), 0);
    assert_memory_equal(back, "\0\0begin\0", 8);
    assert_true(os_file_info(&info, path_of("a")));
    assert_true(info.size == (uint64_t)1 << 33);
    assert_true(os_disk_used(path_of("a")) < (uint64_t)1 << 20);
    os_part_close(&p);
    os_part_close(&p);
    assert_true(os_part_open(&p, folder, &err) < 0);
    assert_non_null(strstr(err.text, folder));
}

// What another process gets: 0 the lock, 1 it is taken.
static int try_elsewhere(const char *path, bool is_shared)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct os_lock lock;
        _exit(os_lock_try(&lock, path, is_shared, NULL));
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void test_lock_keeps_others_out_until_released(void **state)
{
    (void)state;
    struct carat_error err;
    struct os_lock lock = {.path = NULL};
    const char *path = path_of("lock");
    assert_int_equal(os_lock_try(&lock, path, false, &err), 0);
    assert_int_equal(try_elsewhere(path, false), 1);
    assert_int_equal(try_elsewhere(path, true), 1);
    os_lock_release(&lock, true);
    assert_false(os_exists(path));
    assert_int_equal(os_lock_try(&lock, path, true, &err), 0);
    assert_int_equal(try_elsewhere(path, true), 0); // and its end frees it
    assert_int_equal(try_elsewhere(path, false), 1);
    os_lock_release(&lock, false);
    os_lock_release(&lock, false);
    assert_int_equal(try_elsewhere(path, false), 0);
    assert_true(os_lock_try(&lock, "/nowhere/at/all", false, &err) < 0);
}

static void test_names_links_and_room(void **state)
{
    (void)state;
    struct carat_error err;
    assert_int_equal(os_write_file(path_of("one"), "1", 1, &err), 0);
    assert_int_equal(os_link(path_of("link"), "one", &err), 0);
    assert_true(os_is_file(path_of("link")));
    assert_true(os_link(path_of("link"), "one", &err) < 0);
    assert_int_equal(os_rename(path_of("one"), path_of("two"), &err), 0);
    assert_false(os_exists(path_of("link"))); // it leads nowhere now
    assert_true(os_rename(path_of("one"), path_of("two"), &err) < 0);
    assert_true(os_disk_free(folder) > 0);
    assert_true(os_disk_free("/nowhere/at/all") == UINT64_MAX);
    assert_false(os_remove_folder(folder)); // something is in it
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_part_is_written_in_any_order),
        cmocka_unit_test(test_lock_keeps_others_out_until_released),
        cmocka_unit_test(test_names_links_and_room),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_all);
}
