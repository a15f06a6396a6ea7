// SPDX-License-Identifier: Apache-2.0
#include "cli/model_path.h"

#include "base/error.h"
#include "base/os.h"
#include "cli/store.h"

#include <string.h>

// Looks into the store for a name, or with NULL for the newest model. 0 with nothing in out: not
// there. A store that cannot be read stands in nobody's way.
static int find_pulled(struct buf *out, const char *named, struct carat_error *err)
{
    struct store store = {.folder = NULL};
    struct store_models models = {.n = 0};
    const struct store_model *m = NULL;
    int rc = 0;
    if (store_open(&store, NULL) == 0 && store_read(&models, &store, NULL) == 0) {
        if (named) {
            rc = store_find(&m, &models, named, err);
        } else if (models.n > 0) {
            m = &models.items[0];
        }
    }
    if (m) {
        buf_adds(out, m->path);
        rc = buf_status(out, err);
    }
    store_models_release(&models);
    store_release(&store);
    return rc;
}

static bool has_space(const char *word)
{
    return strpbrk(word, " \t\n") != NULL;
}

bool model_path_is_meant(const char *word)
{
    if (slice_ends(slice_of(word), ".gguf") || (strchr(word, '/') && !has_space(word))) {
        return true;
    }
    struct buf path = {.max = 1 << 16};
    bool is_pulled = !has_space(word) && (find_pulled(&path, word, NULL) || path.size > 0);
    buf_release(&path);
    return is_pulled;
}

// Tries directory-of-the-program + middle + the demonstration model's name.
static bool find_demo(struct buf *out, const struct buf *program, const char *middle)
{
    const char *slash = program->size ? strrchr(program->data, '/') : NULL;
    if (!slash) {
        return false;
    }
    buf_clear(out);
    buf_add(out, program->data, (size_t)(slash - program->data) + 1);
    buf_adds(out, middle);
    buf_adds(out, DEMO_MODEL_NAME);
    return !out->has_failed && os_is_file(buf_text(out));
}

static int fail_absent(const char *path, const char *from, struct carat_error *err)
{
    const char *colon = strchr(path, ':');
    struct slice repo = slice_make(path, colon ? (size_t)(colon - path) : strlen(path));
    if (store_is_repo(repo) && !slice_ends(repo, ".gguf")) {
        return fail(err, CARAT_E_IO,
                    "%s: no such file or directory%s, and no model of this name was pulled "
                    "('carat pull %s' fetches it, 'carat pull --list' shows what is there)",
                    path, from, path);
    }
    return fail(err, CARAT_E_IO,
                "%s: no such file or directory%s (a model is a GGUF file, a Hugging Face "
                "directory, or a name that 'carat pull --list' shows)",
                path, from);
}

static int find_named(struct buf *out, const char *path, const char *from, struct carat_error *err)
{
    if (os_exists(path)) {
        buf_adds(out, path);
        return buf_status(out, err);
    }
    int rc = find_pulled(out, path, err);
    return rc || out->size > 0 ? rc : fail_absent(path, from, err);
}

int model_path_find(struct buf *out, const char *named, struct carat_error *err)
{
    const char *from_environment = os_env("CARAT_MODEL");
    buf_clear(out);
    if (named || from_environment) {
        return named ? find_named(out, named, "", err)
                     : find_named(out, from_environment, ", named by CARAT_MODEL", err);
    }
    int rc = find_pulled(out, NULL, err);
    if (rc || out->size > 0) {
        return rc;
    }
    struct buf program = {.max = 1 << 16};
    os_program_path(&program);
    // First the source tree, the program being in its build folder; then an installation.
    bool is_found =
        find_demo(out, &program, "../demo/") || find_demo(out, &program, "../share/carat/");
    buf_release(&program);
    if (!is_found) {
        return fail(err, CARAT_E_IO,
                    "no model: pull one ('carat help pull'), name a GGUF file or a Hugging Face "
                    "directory, or set CARAT_MODEL (the demonstration model was not found beside "
                    "the program)");
    }
    return buf_status(out, err);
}
