// SPDX-License-Identifier: Apache-2.0
// carat convert: between GGUF files and directories of checkpoints, without a loss where there need
// be none.
#include "base/os.h"
#include "cli/job_report.h"
#include "cli/model_path.h"
#include "cli/options.h"
#include "cli/progress.h"

#include <string.h>

static const char *const types[] = {"auto", "bf16", "f16", "f32", NULL};
static const char *const quantize_types[] = {NULL, "BF16", "F16", "F32"};

struct convert_options {
    size_t type;
    const char *projector;
    const char *mmproj;
    struct option_count threads;
    bool has_no_projector;
    bool is_dry_run;
    bool is_forced;
    bool is_verbose;
    bool is_json;
    bool is_quiet;
};

#define AT(field) offsetof(struct convert_options, field)
// clang-format off
static const struct option convert_rows[] = {
    {"type", OPTION_CHOICE, "TYPE", "of matrices; auto: as they are, and BF16 for quantized ones and wherever it loses nothing", AT(type), 0, 0, types},
    {"projector", OPTION_TEXT, "FILE", "put the projections of pictures and sound of this GGUF file in as well", AT(projector), 0, 0, NULL},
    {"mmproj", OPTION_TEXT, "FILE", "to GGUF: projections go to this file, as other engines want them, not into the model's", AT(mmproj), 0, 0, NULL},
    {"no-projector", OPTION_FLAG, NULL, "to GGUF: leave projections out", AT(has_no_projector), 0, 0, NULL},
    {"threads", OPTION_COUNT, "N", "threads to use", AT(threads), 1, 1024, NULL},
    {"dry-run", OPTION_FLAG, NULL, "say what would be made and how large it would be", AT(is_dry_run), 0, 0, NULL},
    {"force", OPTION_FLAG, NULL, "replace what is there, and drop what was begun otherwise", AT(is_forced), 0, 0, NULL},
    {"verbose", OPTION_FLAG, NULL, "list every tensor", AT(is_verbose), 0, 0, NULL},
    {"json", OPTION_FLAG, NULL, "the report as JSON", AT(is_json), 0, 0, NULL},
    {"quiet", OPTION_FLAG, NULL, "no progress, no report", AT(is_quiet), 0, 0, NULL},
    {.name = NULL},
};
// clang-format on
#undef AT

static int to_gguf(const struct convert_options *o, const char *source, const char *target,
                   struct job_report *report, struct carat_quantize_result *result,
                   struct progress *progress, struct carat_error *err)
{
    const struct carat_quantize_options options = {
        .source = source,
        .target = target,
        .type = quantize_types[o->type],
        .projector = o->projector,
        .projector_place = o->has_no_projector ? CARAT_PROJECTOR_NONE
                           : o->mmproj         ? CARAT_PROJECTOR_APART
                                               : CARAT_PROJECTOR_INSIDE,
        .projector_target = o->mmproj,
        .is_pure = true,
        .is_dry_run = o->is_dry_run,
        .overwrites = o->is_forced,
        .n_threads = (size_t)o->threads.value,
        .on_tensor = job_report_tensor,
        .tensor_user = report,
        .result = result,
    };
    return carat_quantize(&options, progress_report, progress, err);
}

static int to_checkpoint(const struct convert_options *o, const char *source, const char *target,
                         struct job_report *report, struct carat_quantize_result *result,
                         struct progress *progress, struct carat_error *err)
{
    const struct carat_convert_options options = {
        .source = source,
        .target = target,
        .projector = o->projector,
        .type = (enum carat_convert_type)o->type,
        .is_dry_run = o->is_dry_run,
        .overwrites = o->is_forced,
        .n_threads = (size_t)o->threads.value,
        .on_tensor = job_report_tensor,
        .tensor_user = report,
        .result = result,
    };
    return carat_convert(&options, progress_report, progress, err);
}

static int run_convert(const struct command_call *call)
{
    const struct convert_options *o = call->options;
    struct carat_error err;
    struct buf path = {.max = 1 << 16};
    if (call->n_args != 2) {
        say("convert: expected SOURCE and TARGET ('carat help convert')");
        return EXIT_USAGE;
    }
    const char *target = call->args[1];
    bool makes_gguf = slice_ends(slice_of(target), ".gguf");
    if (!makes_gguf && (o->mmproj || o->has_no_projector)) {
        say("convert: --mmproj and --no-projector are for targets that end in .gguf");
        return EXIT_USAGE;
    }
    os_catch_interrupt();
    struct job_report report = {.lists_tensors = o->is_verbose, .is_json = o->is_json};
    struct carat_quantize_result result = {0};
    struct progress progress = {.is_visible = call->out->errors_are_terminal && !o->is_quiet,
                                .is_bytes = true};
    double started = os_seconds();
    int rc = model_path_find(&path, call->args[0], &err);
    if (rc == 0) {
        rc = (makes_gguf ? to_gguf : to_checkpoint)(o, buf_text(&path), target, &report, &result,
                                                    &progress, &err);
    }
    progress_end(&progress);
    if (rc == 0 && !o->is_quiet) {
        rc = job_report_show(&report, &result, target, os_seconds() - started, call->out, &err);
    }
    job_report_release(&report);
    buf_release(&path);
    return rc ? say_error(&err) : EXIT_OK;
}

const struct command command_convert = {
    .name = "convert",
    .summary = "between GGUF files and Hugging Face directories",
    .synopsis = "SOURCE TARGET [options]",
    .details =
        "A TARGET that ends in .gguf becomes a GGUF file, with the projections of pictures and "
        "sound "
        "inside; any other one a directory with model.safetensors, config.json and tokenizer.json, "
        "under the names of the published checkpoints, for tools of the Python world. Values that "
        "are not quantized arrive bit by bit.",
    .groups = (const struct option_group[]){{"Options", convert_rows, 0}, {.options = NULL}},
    .examples =
        (const struct example[]){
            {"carat convert gemma-4-12B-it gemma.gguf", "a checkpoint to one file"},
            {"carat convert gemma-Q4_K_M.gguf gemma-hf --projector mmproj-gemma.gguf",
             "and back, dequantized"},
            {"carat convert gemma-4-12B-it gemma.gguf --mmproj mmproj-gemma.gguf",
             "two files, as other engines want them"},
            {.line = NULL},
        },
    .options_size = sizeof(struct convert_options),
    .args_max = 2,
    .run = run_convert,
};
