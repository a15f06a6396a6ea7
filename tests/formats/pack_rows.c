// SPDX-License-Identifier: Apache-2.0
// Packs rows of a file of raw f32 and says how fast that was: for tools/compare_packing.py.
//
//   pack_rows TYPE COLUMNS VALUES IMPORTANCE OUT    (IMPORTANCE: a file of COLUMNS f32, or -)
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/os.h"
#include "formats/dtype.h"

// Everything in a file, or NULL.
static float *read_floats(const char *path, size_t *n)
{
    struct os_map map = {0};
    if (os_map_open(&map, path, NULL)) {
        return NULL;
    }
    float *out = mem_new_array(map.size / sizeof(float) + 1, sizeof(float), NULL);
    if (out) {
        memcpy(out, map.data, map.size / sizeof(float) * sizeof(float));
        *n = map.size / sizeof(float);
    }
    os_map_close(&map);
    return out;
}

static enum dtype type_named(const char *name)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (strcmp(dtypes[i].name, name) == 0 && dtypes[i].pack) {
            return (enum dtype)i;
        }
    }
    return DTYPE_NONE;
}

static int write_all(const char *path, const void *data, size_t size)
{
    FILE *out = fopen(path, "wb");
    if (!out) {
        return 1;
    }
    size_t written = fwrite(data, 1, size, out);
    return fclose(out) != 0 || written != size;
}

int main(int argc, char **argv)
{
    enum dtype type = argc == 6 ? type_named(argv[1]) : DTYPE_NONE;
    size_t columns = type == DTYPE_NONE ? 0 : strtoul(argv[2], NULL, 10);
    size_t n = 0, n_importance = 0, row_size = 0;
    int rc = 2;
    float *values = NULL, *importance = NULL;
    uint8_t *blocks = NULL;
    if (columns == 0 || !dtype_row_size(&row_size, type, columns)) {
        fprintf(stderr, "pack_rows TYPE COLUMNS VALUES IMPORTANCE OUT\n");
        goto out;
    }
    values = read_floats(argv[3], &n);
    importance = strcmp(argv[4], "-") == 0 ? NULL : read_floats(argv[4], &n_importance);
    if (!values || (importance && n_importance != columns)) {
        fprintf(stderr, "pack_rows: cannot read %s and %s\n", argv[3], argv[4]);
        goto out;
    }
    blocks = mem_new_array(n / columns + 1, row_size, NULL);
    if (!blocks) {
        goto out;
    }
    clock_t begin = clock();
    for (size_t i = 0; i < n / columns; i++) {
        dtypes[type].pack(blocks + i * row_size, values + i * columns, importance, columns);
    }
    printf("%.6f\n", (double)(clock() - begin) / CLOCKS_PER_SEC);
    rc = write_all(argv[5], blocks, n / columns * row_size);
out:
    mem_free(blocks);
    mem_free(importance);
    mem_free(values);
    return rc;
}
