// SPDX-License-Identifier: Apache-2.0
// carat verify: reproduces recorded reference outputs and says how far off it is.
#include "base/error.h"
#include "base/os.h"
#include "cli/options.h"
#include "cli/verify.h"

#include <string.h>

#define FOLDERS_MAX 4096

struct verify_options {
    struct option_count threads;
    const char *projector;
    bool is_json, is_verbose;
};

static const struct option verify_rows[] = {
    {"verbose", OPTION_FLAG, NULL, "list every row that is wrong, not only the first few",
     offsetof(struct verify_options, is_verbose), 0, 0, NULL},
    {"threads", OPTION_COUNT, "N", "threads to compute with (default: one per core)",
     offsetof(struct verify_options, threads), 1, 1024, NULL},
    {"projector", OPTION_TEXT, "FILE",
     "take the projections of pictures and sound from this GGUF file (default: those of the model, "
     "or of the file mmproj*.gguf beside it)",
     offsetof(struct verify_options, projector), 0, 0, NULL},
    {"json", OPTION_FLAG, NULL, "print a JSON object", offsetof(struct verify_options, is_json), 0,
     0, NULL},
    {.name = NULL},
};

static bool has_golden(const char *folder)
{
    struct buf path = {.max = 1 << 16};
    path_join(&path, folder, "golden.json");
    bool is_there = !path.has_failed && os_is_file(buf_text(&path));
    buf_release(&path);
    return is_there;
}

// Runs one golden of another folder on a GGUF file of this one.
static bool verify_with(struct report *r, const struct golden *other, const char *folder,
                        const char *file)
{
    struct buf model = {.max = 1 << 16}, name = {.max = 1 << 16};
    path_join(&model, folder, file);
    const char *slash = strrchr(buf_text(&other->folder), '/');
    buf_addf(&name, "%s, %s", slash ? slash + 1 : buf_text(&other->folder), file);
    r->model_name = buf_text(&name);
    bool was_run = verify_lm(r, other, buf_text(&model), FOUND_BELOW);
    r->model_name = NULL;
    buf_release(&model);
    buf_release(&name);
    return was_run;
}

static bool is_model_file(const char *name)
{
    struct slice s = slice_of(name);
    return slice_starts(s, "model") && slice_ends(s, ".gguf");
}

// One entry of "goldens": all models of the folder must give what it recorded.
static void verify_listed(struct report *r, const struct golden *g, struct slice listed,
                          char **names, size_t n_names, size_t *n_run)
{
    struct carat_error err;
    struct golden other = {.doc = NULL};
    struct buf name = {.max = 1 << 16}, path = {.max = 1 << 16};
    buf_add_slice(&name, listed);
    path_join(&path, buf_text(&g->folder), buf_text(&name));
    if (!has_golden(buf_text(&path))) {
        report_skip(r, buf_text(&name), "that folder is not there");
        goto out;
    }
    if (golden_open(&other, buf_text(&path), &err)) {
        report_error(r, buf_text(&name), &err);
        goto out;
    }
    const char *needs = golden_needs(&other);
    if (needs) {
        report_skip(r, buf_text(&name), "needs %s", needs);
        goto out;
    }
    for (size_t i = 0; i < n_names; i++) {
        if (is_model_file(names[i])) {
            *n_run += verify_with(r, &other, buf_text(&g->folder), names[i]);
        }
    }
out:
    golden_close(&other);
    buf_release(&name);
    buf_release(&path);
}

static void verify_gguf(struct report *r, const struct golden *g, enum asked asked)
{
    struct carat_error err;
    char **names = NULL;
    size_t n_names = 0, n_run = 0;
    if (os_list(&names, &n_names, buf_text(&g->folder), FOLDERS_MAX, &err)) {
        report_error(r, "folder", &err);
        return;
    }
    for (struct json_iter it = json_iter(json_get(json_root(g->doc), "goldens")); json_next(&it);) {
        verify_listed(r, g, json_string(it.value), names, n_names, &n_run);
    }
    if (n_run == 0 && asked == ASKED_BY_NAME) {
        report_result(r, false, "goldens", "none of them could be run");
    }
    os_list_free(names, n_names);
}

static void verify_golden(struct report *r, const char *folder, enum asked asked)
{
    struct carat_error err;
    struct golden g = {.doc = NULL};
    struct buf kind = {.max = 200};
    int rc = golden_open(&g, folder, &err);
    if (rc == 0) {
        buf_add_slice(&kind, golden_kind(&g));
    }
    report_golden(r, folder, rc ? "golden" : buf_text(&kind));
    const char *needs = rc ? NULL : golden_needs(&g);
    if (rc) {
        report_error(r, "golden", &err);
    } else if (needs && asked == ASKED_BY_NAME) {
        report_result(r, false, "all", "needs %s, which this build does not have", needs);
    } else if (needs) {
        report_skip(r, "all", "needs %s", needs);
    } else if (slice_is(golden_kind(&g), "lm")) {
        verify_lm(r, &g, buf_text(&g.model), asked);
    } else if (slice_is(golden_kind(&g), "preprocess")) {
        verify_preprocess(r, &g);
    } else if (slice_is(golden_kind(&g), "quant")) {
        verify_quant(r, &g);
    } else if (slice_is(golden_kind(&g), "gguf")) {
        verify_gguf(r, &g, asked);
    } else {
        verify_tokenizer(r, &g);
    }
    golden_close(&g);
    buf_release(&kind);
}

// False: nothing in this folder is a golden.
static bool verify_folder(struct report *r, const char *folder, enum asked asked)
{
    if (has_golden(folder)) {
        verify_golden(r, folder, asked);
        return true;
    }
    if (is_io_folder(folder)) {
        report_golden(r, folder, "io");
        verify_io(r, folder);
        return true;
    }
    return false;
}

// A folder of folders: one level down.
static int verify_below(struct report *r, const char *folder, struct carat_error *err)
{
    char **names = NULL;
    size_t n_names = 0, n_found = 0;
    struct buf path = {.max = 1 << 16};
    int rc = os_list(&names, &n_names, folder, FOLDERS_MAX, err);
    for (size_t i = 0; rc == 0 && i < n_names; i++) {
        path_join(&path, folder, names[i]);
        if (os_is_directory(buf_text(&path))) {
            n_found += verify_folder(r, buf_text(&path), FOUND_BELOW);
        }
    }
    if (rc == 0 && n_found == 0) {
        rc = fail(err, CARAT_E_FORMAT,
                  "%s: expected golden.json, or *.jsonl as in an io folder, or folders with them",
                  folder);
    }
    os_list_free(names, n_names);
    buf_release(&path);
    return rc;
}

static void verify_argument(struct report *r, const char *folder)
{
    struct carat_error err;
    int rc = 0;
    if (os_is_file(folder)) {
        // A README among the folders that the shell made of a pattern.
        say("%s: passed over: expected a folder, found a file", folder);
    } else if (!os_is_directory(folder)) {
        rc = fail(&err, CARAT_E_IO, "%s: no such folder", folder);
    } else if (!verify_folder(r, folder, ASKED_BY_NAME)) {
        rc = verify_below(r, folder, &err);
    }
    if (rc) {
        say("%s", err.text);
        r->n_failed++;
    }
}

static int run_verify(const struct command_call *call)
{
    const struct verify_options *o = call->options;
    struct report report = {
        .out = call->out,
        .is_json = o->is_json,
        .is_verbose = o->is_verbose,
        .n_threads = (size_t)o->threads.value,
        .projector = o->projector,
        .json = {.max = (size_t)1 << 30},
    };
    if (call->n_args == 0) {
        say("verify: no folder: name one or more, as in carat verify tests/data/unified-text");
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < call->n_args && call->out->failed_errno == 0; i++) {
        verify_argument(&report, call->args[i]);
    }
    // A run that compared nothing has shown nothing.
    bool is_good = report.n_failed == 0 && report.n_passed > 0;
    report_end(&report);
    return is_good ? EXIT_OK : EXIT_FAILED;
}

const struct command command_verify = {
    .name = "verify",
    .summary = "compare with recorded reference outputs",
    .synopsis = "DIR... [options]",
    .details =
        "Runs what a folder of goldens recorded (golden.json and golden.safetensors with a model, "
        "or "
        "the *.jsonl rows of an io folder) and prints for each what was compared, the largest "
        "error "
        "and the tolerance. A folder of such folders is searched one level down. What needs a part "
        "that this build lacks is listed as skipped; it counts as failed when its folder was named "
        "itself.\n\n"
        "The last line counts comparisons and rows: 'N passed, N failed'. The exit code is 0 only "
        "if "
        "none failed.",
    .groups = (const struct option_group[]){{"Options", verify_rows, 0}, {.options = NULL}},
    .examples =
        (const struct example[]){
            {"carat verify tests/data/unified-text", "one golden"},
            {"carat verify ../fixtures --json", "all goldens of a folder, for a script"},
            {.line = NULL},
        },
    .options_size = sizeof(struct verify_options),
    .args_max = FOLDERS_MAX,
    .run = run_verify,
};
