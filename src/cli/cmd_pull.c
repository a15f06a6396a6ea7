// SPDX-License-Identifier: Apache-2.0
// carat pull: models from a hub into the store.
#include "base/error.h"
#include "cli/pull.h"
#include "cli/pull_http.h"

#define AT(member) offsetof(struct pull_options, member)

static const struct option get_rows[] = {
    {"dry-run", OPTION_FLAG, NULL,
     "say what would be fetched and whether it fits, and fetch only headers", AT(is_dry), 0, 0,
     NULL},
    {"revision", OPTION_TEXT, "REV", "a branch, tag or commit of the repository (main)",
     AT(revision), 0, 0, NULL},
    {"no-projector", OPTION_FLAG, NULL, "without the projections of pictures and sound",
     AT(no_projector), 0, 0, NULL},
    {"no-drafter", OPTION_FLAG, NULL, "without the drafter", AT(no_drafter), 0, 0, NULL},
    {"parallel", OPTION_COUNT, "N", "connections at a time (4)", AT(parallel), 1, HTTP_PARALLEL_MAX,
     NULL},
    {"patience", OPTION_COUNT, "S", "seconds until a silent connection is given up (30)",
     AT(patience), 1, 3600, NULL},
    {"tries", OPTION_COUNT, "N", "failures in a row, with growing pauses, before giving up (10)",
     AT(tries), 1, 1000, NULL},
    {"offline", OPTION_FLAG, NULL, "use no network: succeed if it is there already", AT(is_offline),
     0, 0, NULL},
    {.name = NULL},
};

static const struct option store_rows[] = {
    {"list", OPTION_FLAG, NULL, "list what was pulled", AT(lists), 0, 0, NULL},
    {"remove", OPTION_TEXT, "NAME", "remove a model, and the files that no other one uses",
     AT(removed), 0, 0, NULL},
    {"clean", OPTION_FLAG, NULL, "remove unfinished downloads", AT(cleans), 0, 0, NULL},
    {.name = NULL},
};

static const struct option output_rows[] = {
    {"json", OPTION_FLAG, NULL, "with --list and --dry-run: print a JSON object", AT(is_json), 0, 0,
     NULL},
    {"quiet", OPTION_FLAG, NULL, "no progress, only errors", AT(is_quiet), 0, 0, NULL},
    {.name = NULL},
};

static int run_pull(const struct command_call *call)
{
    const struct pull_options *o = call->options;
    struct carat_error err;
    struct store store = {.folder = NULL};
    size_t n_tasks = call->n_args + o->lists + o->cleans + (o->removed != NULL);
    if (n_tasks != 1) {
        say("pull: %s ('carat help pull' shows examples)",
            n_tasks ? "expected one of: OWNER/REPO, --list, --remove NAME, --clean"
                    : "nothing to pull: name a repository, as in "
                      "'carat pull unsloth/gemma-4-12b-it-GGUF:Q4_K_M'");
        return EXIT_USAGE;
    }
    if (store_open(&store, &err)) {
        return say_error(&err);
    }
    int code = o->lists     ? pull_list(o, &store, call->out)
               : o->removed ? pull_remove(o, &store, call->out)
               : o->cleans  ? pull_clean(o, &store)
                            : pull_get(o, &store, call->args[0], call->out);
    store_release(&store);
    return code;
}

const struct command command_pull = {
    .name = "pull",
    .summary = "download a model from a hub, list and remove what was downloaded",
    .synopsis = "OWNER/REPO[:TYPE] | --list | --remove NAME | --clean",
    .details =
        "Fetches a model from huggingface.co, or from the hub that HF_ENDPOINT names, by several "
        "connections at a time. A pull that was interrupted, by whatever, goes on where it was; a "
        "file gets its name once its checksum is right. The path of the model is printed, and its "
        "name works as MODEL in every command: OWNER/REPO:TYPE, or shorter, without OWNER/, :TYPE "
        "or -GGUF. With no MODEL at all the newest pulled one is taken.\n\n"
        "Of a repository of GGUF files TYPE chooses one, such as Q4_K_M; without it that one, or "
        "the largest that fits into memory. Projections of pictures and sound (mmproj) and a "
        "drafter come along where the repository has them. Of other repositories the checkpoint "
        "comes: config.json, the tokenizer, safetensors.\n\n"
        "A repository whose licence must be accepted first needs a token: in HF_TOKEN, or in the "
        "file where the hub's own programs keep it (HF_HOME/token, ~/.cache/huggingface/token). It "
        "is sent to the hub alone. HF_HUB_OFFLINE=1 is --offline.\n\n"
        "Models lie in CARAT_HOME, else in carat/ of XDG_DATA_HOME or ~/.local/share. Files that "
        "several of them use are there once.",
    .groups =
        (const struct option_group[]){
            {"Options", get_rows, 0},
            {"The store", store_rows, 0},
            {"Output", output_rows, 0},
            {.options = NULL},
        },
    .examples =
        (const struct example[]){
            {"carat pull unsloth/gemma-4-12b-it-GGUF:Q4_K_M", "one type, with its projector"},
            {"carat pull unsloth/gemma-4-12b-it-GGUF --dry-run",
             "how large it is, and which context fits into memory"},
            {"carat pull google/gemma-4-12B-it", "the checkpoint, to quantize or train"},
            {"carat chat gemma-4-12b-it:Q4_K_M", "then, by its name"},
            {"HF_ENDPOINT=https://hub.example.org carat pull google/gemma-4-12B-it",
             "from a mirror"},
            {"carat pull --list", "what is there"},
            {"carat pull --remove gemma-4-12b-it:Q4_K_M", "and what is not needed any more"},
            {.line = NULL},
        },
    .options_size = sizeof(struct pull_options),
    .args_max = 1,
    .run = run_pull,
};
