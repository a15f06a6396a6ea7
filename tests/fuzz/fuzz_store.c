// SPDX-License-Identifier: Apache-2.0
// What a folder of the store says about itself (carat.json): left out, or names and checksums that
// lead nowhere else.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "base/os_file.h"
#include "cli/store.h"
#include "scratch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char manifest[160];

// From the file up to the scratch folder, which goes by itself.
static void leave(void)
{
    remove(manifest);
    for (char *slash = strrchr(manifest, '/');
         slash && (size_t)(slash - manifest) > strlen(scratch_folder());
         slash = strrchr(manifest, '/')) {
        *slash = '\0';
        remove(manifest);
    }
}

static void make_folder(void)
{
    if (!manifest[0]) {
        snprintf(manifest, sizeof(manifest), "%s/models/owner/repo/Q4_K_M", scratch_folder());
        if (os_make_folder(manifest, NULL)) {
            abort();
        }
        snprintf(manifest + strlen(manifest), sizeof(manifest) - strlen(manifest), "/carat.json");
        atexit(leave);
    }
}

// One folder deep at most, nothing hidden, no way out.
static void check_name(const char *name)
{
    size_t n_slashes = 0;
    require(name[0] != 0 && name[0] != '/' && name[0] != '.');
    for (const char *p = name; *p; p++) {
        require((unsigned char)*p > ' ' && *p != '\\' && *p != 0x7F);
        n_slashes += *p == '/';
        require(*p != '/' || (p[1] != 0 && p[1] != '.' && p[1] != '/'));
    }
    require(n_slashes <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store_models models = {.n = 0};
    make_folder();
    scratch_write(manifest, data, size);
    char folder[sizeof(manifest)];
    snprintf(folder, sizeof(folder), "%s", scratch_folder());
    const struct store store = {.folder = folder};
    if (store_read(&models, &store, NULL)) {
        return 0;
    }
    require(models.n + models.n_broken == 1);
    for (size_t i = 0; i < models.n; i++) {
        const struct store_model *m = &models.items[i];
        const struct store_model *found = NULL;
        uint64_t total = 0;
        require(strcmp(m->name, "owner/repo:Q4_K_M") == 0 && m->n_files > 0);
        require(strncmp(m->path, manifest, strlen(manifest) - strlen("/carat.json")) == 0);
        require(m->model[0] == 0 || (check_name(m->model), true));
        for (size_t k = 0; k < m->n_files; k++) {
            check_name(m->files[k].name);
            require(store_is_id(slice_of(m->files[k].id)));
            total += m->files[k].size;
        }
        require(total == m->size);
        require(store_find(&found, &models, "repo:q4_k_m", NULL) == 0 && found == m);
    }
    store_models_release(&models);
    return 0;
}
