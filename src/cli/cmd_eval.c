// SPDX-License-Identifier: Apache-2.0
// carat eval: how well models foretell texts, how far they are from another, and how many questions
// they answer right.
#include "base/error.h"
#include "base/os.h"
#include "cli/eval.h"

#include <string.h>

#define AT(field) offsetof(struct eval_options, field)
// clang-format off
static const struct option eval_rows[] = {
    {"against", OPTION_TEXT, "REF", "compare with this model, or with the logits that --save-logits recorded: KL divergence, agreement, ratio of perplexities", AT(against), 0, 0, NULL},
    {"save-logits", OPTION_TEXT, "FILE", "record the logits, of REF where there is one and else of MODEL, for later runs over the same texts", AT(save_logits), 0, 0, NULL},
    {"context", OPTION_COUNT, "N", "tokens of a window, <bos> included (default: 512); for questions, most tokens of a conversation", AT(model.context), 2, 1 << 24, NULL},
    {"stride", OPTION_COUNT, "N", "tokens from the beginning of a window to that of the next (default: context - 1, no overlap); what the window before had is context only", AT(stride), 1, 1 << 24, NULL},
    {"skip", OPTION_COUNT, "N", "leave the first N tokens of each window out of the figures (default: 0)", AT(skip), 0, 1 << 24, NULL},
    {"tokens", OPTION_COUNT, "N", "score at most N tokens of each domain (default: all)", AT(tokens), 1, 1e9, NULL},
    {"special", OPTION_FLAG, NULL, "strings like <turn|> in the texts become control tokens", AT(has_special), 0, 0, NULL},
    {"worst", OPTION_COUNT, "N", "show the N tokens with the largest divergence, or least expected where nothing is compared (default: 0)", AT(worst), 0, 1000, NULL},
    {"svg", OPTION_TEXT, "FILE", "draw quality against bytes, of this run or of the answers of earlier ones: carat eval --svg FILE A.json B.json", AT(svg), 0, 0, NULL},
    {"json", OPTION_FLAG, NULL, "print a JSON object", AT(is_json), 0, 0, NULL},
    {"quiet", OPTION_FLAG, NULL, "no progress", AT(is_quiet), 0, 0, NULL},
    {.name = NULL},
};
static const struct option eval_model_rows[] = {
    {"kv-type", OPTION_CHOICE, "TYPE", "element type of the kv cache", AT(model.kv_type), 0, 0, kv_type_names},
    {"threads", OPTION_COUNT, "N", "threads to compute with (default: one per core)", AT(model.threads), 1, 1024, NULL},
    {"chunk", OPTION_COUNT, "N", "tokens evaluated together (default: 512)", AT(model.chunk), 1, 65536, NULL},
    {"float", OPTION_FLAG, NULL, "exact mode: float activations in products with quantized weights; slower", AT(model.is_float), 0, 0, NULL},
    {"projector", OPTION_TEXT, "FILE", "GGUF file with the projections of pictures and sound, for questions about them", AT(model.projector), 0, 0, NULL},
    {.name = NULL},
};
// clang-format on
#undef AT

// Whether an argument is a model: what is a file and no GGUF file is a text, and so is what only
// would be one; what else is not there must be a name that was pulled.
static bool is_model(const char *word)
{
    static const char *const texts[] = {".txt", ".jsonl", ".json", ".md"};
    bool is_text = strcmp(word, "-") == 0;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        is_text = is_text || (slice_ends(slice_of(word), texts[i]) && !os_is_directory(word));
    }
    return !is_text && (!os_is_file(word) || slice_ends(slice_of(word), ".gguf"));
}

static int sort_words(struct eval_words *out, const struct command_call *call,
                      struct carat_error *err)
{
    bool has_dashes = call->n_before_dashes < call->n_args;
    for (size_t i = 0; i < call->n_args; i++) {
        const char *word = call->args[i];
        if (has_dashes ? i < call->n_before_dashes : is_model(word)) {
            out->models[out->n_models++] = word;
        } else {
            out->texts[out->n_texts++] = word;
        }
    }
    if (out->n_texts == 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "eval: no file to evaluate: expected texts or JSON lines behind the models "
                    "('carat help eval')");
    }
    out->n_models += out->n_models == 0;
    return 0;
}

// What can be told from the options alone.
static int check_options(const struct eval_options *o, const struct eval_words *words,
                         struct carat_error *err)
{
    uint64_t context = o->model.context.is_set ? o->model.context.value : EVAL_CONTEXT_DEFAULT;
    if (o->stride.value >= context || o->skip.value >= context - 1) {
        return fail(err, CARAT_E_ARGUMENT,
                    "eval: a window of %llu tokens has <bos> and %llu of the text: expected a "
                    "--stride of at most as many, and a --skip below that",
                    (unsigned long long)context, (unsigned long long)context - 1);
    }
    if (o->save_logits && !o->against && words->n_models > 1) {
        return fail(err, CARAT_E_ARGUMENT,
                    "eval: --save-logits records one model: name one, or the reference with "
                    "--against");
    }
    return 0;
}

static size_t count_texts(const struct eval_words *words, bool (*is)(const char *path))
{
    size_t n = 0;
    for (size_t i = 0; i < words->n_texts; i++) {
        n += is(words->texts[i]);
    }
    return n;
}

static int evaluate(const struct command_call *call, const struct eval_words *words,
                    struct carat_error *err)
{
    const struct eval_options *o = call->options;
    if (o->svg && count_texts(words, eval_is_result) == words->n_texts) {
        return eval_results_draw(words->texts, words->n_texts, o->svg, err);
    }
    size_t n_tasks = count_texts(words, eval_is_task_file);
    if (n_tasks == 0) {
        return eval_texts_run(o, words, call->out, err);
    }
    if (n_tasks < words->n_texts || o->against || o->save_logits || o->svg) {
        return fail(err, CARAT_E_ARGUMENT,
                    "eval: questions with answers are scored by themselves: without texts, "
                    "--against, --save-logits and --svg");
    }
    const struct eval_tasks_options tasks = {
        .settings = &o->tasks,
        .model = &o->model,
        .models = words->models,
        .n_models = words->n_models,
        .files = words->texts,
        .n_files = words->n_texts,
        .is_json = o->is_json,
        .is_quiet = o->is_quiet,
        .out = call->out,
    };
    return eval_tasks_run(&tasks, err);
}

static int run_eval(const struct command_call *call)
{
    struct carat_error err;
    struct eval_words words = {.n_models = 0};
    if (sort_words(&words, call, &err) || check_options(call->options, &words, &err)) {
        say("%s", err.text);
        return EXIT_USAGE;
    }
    os_catch_interrupt();
    return evaluate(call, &words, &err) ? say_error(&err) : EXIT_OK;
}

const struct command command_eval = {
    .name = "eval",
    .summary = "measure how good a model is, and what shrinking it cost",
    .synopsis = "[MODEL...] FILE... [options]",
    .details =
        "Texts (plain, or JSON lines with \"text\" and, if they like, \"domain\" and a \"prompt\" "
        "that stands before it) give the perplexity of each model: how well it foretells them. "
        "With --against the model is "
        "compared with another, usually the one it was made from, at every token. Lines with "
        "questions and expected answers give scores.\n\n"
        "Files that are no GGUF file are texts; '-' is standard input. Where that is in doubt, "
        "what "
        "stands before '--' are models and what follows are texts. Of two models one is in memory "
        "at a time: the logits of REF go to a file first.",
    .groups =
        (const struct option_group[]){
            {"Options", eval_rows, 0},
            {"Questions", eval_task_rows, offsetof(struct eval_options, tasks)},
            {"Model", eval_model_rows, 0},
            {.options = NULL},
        },
    .examples =
        (const struct example[]){
            {"carat eval gemma-Q4_K_M.gguf wiki.txt", "perplexity"},
            {"carat eval --against gemma-BF16.gguf gemma-Q8_0.gguf gemma-Q4_K_M.gguf wiki.txt",
             "what shrinking cost, for both"},
            {"carat eval gemma-BF16.gguf wiki.txt --save-logits wiki.logits",
             "record the reference once; later: --against wiki.logits"},
            {"carat eval gemma.gguf questions.jsonl --wrong 10",
             "scores by task, and ten answers that are wrong"},
            {.line = NULL},
        },
    .options_size = sizeof(struct eval_options),
    .args_max = EVAL_WORDS_MAX - 1,
    .run = run_eval,
};
