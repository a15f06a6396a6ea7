// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over the files of its corpus, so that seeds and old crashes are ordinary tests
// with any compiler. Each file is also cut short in several places: half a file is the commonest
// broken file.
//   fuzz_NAME FOLDER...
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/os.h"

#define INPUT_MAX ((size_t)16 << 20)
#define N_CUTS    32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The target gets a block of exactly the input's size, so that a sanitizer sees one byte too far.
static void run_one(const char *data, size_t size)
{
    uint8_t *copy = mem_new(size, NULL);
    if (copy) {
        if (size > 0) {
            memcpy(copy, data, size);
        }
        LLVMFuzzerTestOneInput(copy, size);
        mem_free(copy);
    }
}

static int run_file(const char *path)
{
    struct buf file = {0};
    struct carat_error err = {0};
    int rc = os_read_file(&file, path, INPUT_MAX, &err);
    if (rc) {
        fprintf(stderr, "%s\n", err.text);
    } else {
        // Named beforehand: after a crash it is too late.
        fprintf(stderr, "%s (%zu bytes)\n", path, file.size);
        run_one(file.data, file.size);
        for (size_t i = 0; i < N_CUTS && file.size > 0; i++) {
            run_one(file.data, (file.size - 1) * i / N_CUTS);
        }
        run_one(file.data, file.size > 0 ? file.size - 1 : 0);
    }
    buf_release(&file);
    return rc;
}

static int run_folder(const char *folder, size_t *n_files)
{
    char **names = NULL;
    size_t count = 0;
    struct carat_error err = {0};
    int rc = os_list(&names, &count, folder, 100000, &err);
    if (rc) {
        fprintf(stderr, "%s\n", err.text);
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct buf path = {0};
        buf_addf(&path, "%s/%s", folder, names[i]);
        rc = run_file(buf_text(&path));
        buf_release(&path);
        *n_files += 1;
    }
    os_list_free(names, count);
    return rc;
}

int main(int argc, char **argv)
{
    size_t n_files = 0;
    run_one("", 0);
    for (int i = 1; i < argc; i++) {
        int rc = os_is_directory(argv[i]) ? run_folder(argv[i], &n_files) : run_file(argv[i]);
        if (rc) {
            return 1;
        }
    }
    printf("%zu files replayed\n", n_files);
    return 0;
}
