// SPDX-License-Identifier: Apache-2.0
#include "cli/model_path.h"

#include "base/error.h"
#include "base/os.h"

#include <string.h>

bool model_path_is_meant(const char *word)
{
    struct slice s = slice_of(word);
    bool has_space = strpbrk(word, " \t\n") != NULL;
    return slice_ends(s, ".gguf") || (strchr(word, '/') && !has_space);
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

int model_path_find(struct buf *out, const char *named, struct carat_error *err)
{
    const char *from_environment = os_env("CARAT_MODEL");
    const char *path = named ? named : from_environment;
    buf_clear(out);
    if (path) {
        if (!os_exists(path)) {
            return fail(err, CARAT_E_IO,
                        "%s: no such file or directory%s (a model is a GGUF file or a Hugging Face "
                        "directory)",
                        path, named ? "" : ", named by CARAT_MODEL");
        }
        buf_adds(out, path);
        return buf_status(out, err);
    }
    struct buf program = {.max = 1 << 16};
    os_program_path(&program);
    // First the source tree, the program being in its build folder; then an installation.
    bool is_found =
        find_demo(out, &program, "../demo/") || find_demo(out, &program, "../share/carat/");
    buf_release(&program);
    if (!is_found) {
        return fail(err, CARAT_E_IO,
                    "no model: name a GGUF file or a Hugging Face directory, or set CARAT_MODEL "
                    "(the demonstration model was not found beside the program)");
    }
    return buf_status(out, err);
}
