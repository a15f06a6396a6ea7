// SPDX-License-Identifier: Apache-2.0
#include "scratch_file.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static void leave(void)
{
    rmdir(folder);
}

const char *scratch_folder(void)
{
    if (!folder[0]) {
        // In memory where there is such a place: a file is written for each input.
        struct stat s;
        bool has_memory = stat("/dev/shm", &s) == 0 && access("/dev/shm", W_OK) == 0;
        snprintf(folder, sizeof(folder), "%s/carat-fuzz-XXXXXX", has_memory ? "/dev/shm" : "/tmp");
        if (!mkdtemp(folder)) {
            abort();
        }
        atexit(leave);
    }
    return folder;
}

void scratch_write(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || (size && fwrite(data, 1, size, f) != size) || fclose(f) != 0) {
        abort();
    }
}

unsigned char *scratch_read(const char *path, size_t *size)
{
    struct stat s;
    FILE *f = fopen(path, "rb");
    unsigned char *data = NULL;
    *size = 0;
    if (!f) {
        return NULL;
    }
    if (fstat(fileno(f), &s) == 0 && (data = malloc((size_t)s.st_size + 1))) {
        *size = fread(data, 1, (size_t)s.st_size, f);
    }
    fclose(f);
    return data;
}
