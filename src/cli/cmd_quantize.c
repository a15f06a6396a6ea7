// SPDX-License-Identifier: Apache-2.0
// carat quantize: a model file or checkpoint to a GGUF file of another type.
#include "base/mem.h"
#include "base/os.h"
#include "cli/importance.h"
#include "cli/job_report.h"
#include "cli/model_path.h"
#include "cli/options.h"
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>

static const char *const places[] = {"auto", "inside", "apart", "none", NULL};

struct quantize_options {
    struct importance_settings importance;
    const char *type;
    struct option_texts rules;
    const char *projector;
    const char *projector_target;
    size_t place;
    struct option_count threads;
    bool is_pure;
    bool is_dry_run;
    bool is_forced;
    bool is_verbose;
    bool is_json;
    bool is_quiet;
    bool lists_types;
};

#define AT(field) offsetof(struct quantize_options, field)
// clang-format off
static const struct option quantize_rows[] = {
    {"type", OPTION_TEXT, "TYPE", "what to make: a type, a mix, or auto:SIZE (auto:7.5GB), the best mix that fits; instead of the third argument", AT(type), 0, 0, NULL},
    {"types", OPTION_FLAG, NULL, "list the types and mixes", AT(lists_types), 0, 0, NULL},
    {"tensor", OPTION_TEXTS, "PART=TYPE", "matrices whose name has PART get TYPE (attn_v=Q8_0, blk.0.=BF16); repeatable, the first that fits counts", AT(rules), 0, 0, NULL},
    {"pure", OPTION_FLAG, NULL, "every matrix gets the type, the embedding included", AT(is_pure), 0, 0, NULL},
    {"projector", OPTION_TEXT, "FILE", "take the projections of pictures and sound from this GGUF file", AT(projector), 0, 0, NULL},
    {"projector-place", OPTION_CHOICE, "WHERE", "put projections: inside the new file (other engines then refuse it), apart in a file beside it, none; auto: where they are, and apart for a checkpoint", AT(place), 0, 0, places},
    {"projector-target", OPTION_TEXT, "FILE", "the name of the file apart (mmproj-NAME beside the new one)", AT(projector_target), 0, 0, NULL},
    {"threads", OPTION_COUNT, "N", "threads to use", AT(threads), 1, 1024, NULL},
    {"dry-run", OPTION_FLAG, NULL, "say what would be made and how large it would be", AT(is_dry_run), 0, 0, NULL},
    {"force", OPTION_FLAG, NULL, "replace what is there, and drop what was begun otherwise", AT(is_forced), 0, 0, NULL},
    {"verbose", OPTION_FLAG, NULL, "list every tensor, and measure the errors", AT(is_verbose), 0, 0, NULL},
    {"json", OPTION_FLAG, NULL, "the report as JSON, with errors", AT(is_json), 0, 0, NULL},
    {"quiet", OPTION_FLAG, NULL, "no progress, no report", AT(is_quiet), 0, 0, NULL},
    {.name = NULL},
};
// clang-format on
#undef AT

static int list_types(struct output *out)
{
    struct carat_quantize_type type;
    for (size_t i = 0; carat_quantize_type_at(i, &type); i++) {
        output_format(out, "%-8s %s\n", type.name, type.what);
    }
    output_format(out, "%-8s %s\n", "auto:N",
                  "the best mix of N bytes (7.5GB, 600MiB), by errors "
                  "measured");
    return EXIT_OK;
}

static int make(const struct command_call *call, const char *source, const char *target,
                const char *type, struct carat_error *err)
{
    const struct quantize_options *o = call->options;
    struct job_report report = {.lists_tensors = o->is_verbose, .is_json = o->is_json};
    struct carat_quantize_result result = {0};
    struct carat_importance *importance = NULL;
    struct progress progress = {.is_visible = call->out->errors_are_terminal && !o->is_quiet,
                                .is_bytes = true};
    double started = os_seconds();
    int rc = importance_get(&importance, &o->importance, source, call->out, o->is_quiet, err);
    const struct carat_quantize_options options = {
        .source = source,
        .target = target,
        .type = type,
        .projector = o->projector,
        .projector_place = (enum carat_projector_place)o->place,
        .projector_target = o->projector_target,
        .rules = o->rules.items,
        .n_rules = o->rules.n,
        .importance = importance,
        .is_pure = o->is_pure,
        .is_dry_run = o->is_dry_run,
        .measures_errors = o->is_verbose || o->is_json,
        .overwrites = o->is_forced,
        .n_threads = (size_t)o->threads.value,
        .on_tensor = job_report_tensor,
        .tensor_user = &report,
        .result = &result,
    };
    rc = rc ? rc : carat_quantize(&options, progress_report, &progress, err);
    progress_end(&progress);
    if (rc == 0 && !o->is_quiet) {
        rc = job_report_show(&report, &result, target, os_seconds() - started, call->out, err);
    }
    job_report_release(&report);
    carat_importance_free(importance);
    return rc;
}

static int run_quantize(const struct command_call *call)
{
    const struct quantize_options *o = call->options;
    struct carat_error err;
    if (o->lists_types) {
        return list_types(call->out);
    }
    const char *type = call->n_args > 2 ? call->args[2] : o->type;
    if (call->n_args < 2 || (call->n_args > 2 && o->type)) {
        say("quantize: expected SOURCE, TARGET and a type ('carat help quantize')");
        return EXIT_USAGE;
    }
    if (!type) {
        say("quantize: no type: 'carat quantize %s %s Q4_K_M' makes the usual one, 'carat quantize "
            "--types' lists all",
            call->args[0], call->args[1]);
        return EXIT_USAGE;
    }
    struct buf path = {.max = 1 << 16};
    os_catch_interrupt();
    int rc = model_path_find(&path, call->args[0], &err);
    rc = rc ? rc : make(call, buf_text(&path), call->args[1], type, &err);
    buf_release(&path);
    return rc ? say_error(&err) : EXIT_OK;
}

const struct command command_quantize = {
    .name = "quantize",
    .summary = "shrink a model file, or make one of a checkpoint",
    .synopsis = "SOURCE TARGET TYPE [options]",
    .details =
        "Makes the GGUF file TARGET of a GGUF file or a Hugging Face directory, with all metadata, "
        "vocabulary and chat template. A mix gives more bits to the matrices that matter most; "
        "auto:SIZE measures which those are and fills the size. With an importance matrix errors "
        "count where the model looks.\n\n"
        "The file is whole or not there: until then it is TARGET.part. Stopped at any moment, the "
        "same command goes on behind the last finished tensor and makes the same bytes.",
    .groups =
        (const struct option_group[]){
            {"Options", quantize_rows, 0},
            {"Importance", importance_rows, offsetof(struct quantize_options, importance)},
            {.options = NULL},
        },
    .examples =
        (const struct example[]){
            {"carat quantize gemma-4-12B-it gemma-Q4_K_M.gguf Q4_K_M",
             "of a checkpoint; projections go to mmproj-gemma-Q4_K_M.gguf"},
            {"carat quantize gemma-BF16.gguf gemma-7GB.gguf auto:7GB --importance-from chats.jsonl",
             "the best of 7 GB for what is in chats.jsonl"},
            {"carat quantize gemma-BF16.gguf small.gguf Q4_0 --dry-run", "how large it would be"},
            {.line = NULL},
        },
    .options_size = sizeof(struct quantize_options),
    .args_max = 3,
    .run = run_quantize,
};
