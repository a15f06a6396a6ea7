// SPDX-License-Identifier: Apache-2.0
// Loaded before all other libraries: while the file that CARAT_TEST_HOLD names is there, nothing is
// written to a file in the making (base/os_file.h). CARAT_TEST_HELD is made when that begins.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool is_in_the_making(int fd)
{
    char link[64];
    char path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path));
    return n > 5 && memcmp(path + n - 5, ".part", 5) == 0;
}

__attribute__((visibility("default"))) ssize_t write(int fd, const void *data, size_t size)
{
    ssize_t (*next)(int, const void *, size_t) = NULL;
    void *symbol = dlsym(RTLD_NEXT, "write");
    memcpy(&next, &symbol, sizeof(next));
    const char *hold = getenv("CARAT_TEST_HOLD");
    const char *held = getenv("CARAT_TEST_HELD");
    const struct timespec pause = {.tv_nsec = 5000000};
    if (hold && held && access(hold, F_OK) == 0 && is_in_the_making(fd)) {
        close(open(held, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        while (access(hold, F_OK) == 0) {
            nanosleep(&pause, NULL);
        }
    }
    return next(fd, data, size);
}
