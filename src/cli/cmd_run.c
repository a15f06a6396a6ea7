// SPDX-License-Identifier: Apache-2.0
// carat run: one answer to standard output.
#include "base/error.h"
#include "base/os.h"
#include "cli/answer.h"
#include "cli/conversation.h"
#include "cli/loading.h"
#include "cli/model_path.h"

#include <string.h>

#define INPUT_SIZE_MAX ((size_t)64 << 20)
#define PATIENCE_MS    3000 // with an input that says nothing, before that is remarked upon

struct run_options {
    const char *system;
    const char *messages;
    const char *tools;
    size_t chat_template; // an enum carat_template
    bool thinks;
    bool is_raw;
    bool trusts_markers;
    struct option_count tokens_max;
    struct option_texts stops;
    struct option_count n_top;
    bool is_json, is_quiet, has_stats, is_verbose;
    struct sampling_settings sampling;
    struct model_settings model;
};

#define AT(field) offsetof(struct run_options, field)
static const struct option prompt_rows[] = {
    {"system", OPTION_TEXT, "TEXT", "instructions that stand before the conversation", AT(system),
     0, 0, NULL},
    {"messages", OPTION_TEXT, "FILE",
     "a whole conversation as JSON: a list of messages, or an "
     "object with messages and tools; a PROMPT is its last "
     "message",
     AT(messages), 0, 0, NULL},
    {"tools", OPTION_TEXT, "FILE",
     "JSON list of the tools that the model may call; each call is "
     "printed as a line of JSON",
     AT(tools), 0, 0, NULL},
    {"think", OPTION_FLAG, NULL,
     "let the model think first; thoughts go to standard error, if "
     "that is a terminal",
     AT(thinks), 0, 0, NULL},
    {"no-template", OPTION_FLAG, NULL, "no chat: the model goes on from the text as it is",
     AT(is_raw), 0, 0, NULL},
    {"template", OPTION_CHOICE, "NAME", "version of the chat format (auto: what the model has)",
     AT(chat_template), 0, 0, template_names},
    {"special", OPTION_FLAG, NULL,
     "control tokens spelled out in the text, such as <turn|>, are "
     "control tokens",
     AT(trusts_markers), 0, 0, NULL},
    {.name = NULL},
};
static const struct option answer_rows[] = {
    {"max-tokens", OPTION_COUNT, "N", "end the answer after N tokens (default: the context's end)",
     AT(tokens_max), 1, 1e9, NULL},
    {"stop", OPTION_TEXTS, "TEXT", "end the answer before this text; may be repeated", AT(stops), 0,
     0, NULL},
    {"logprobs", OPTION_COUNT, "N",
     "with --json: log-probabilities of each token and of the N "
     "likeliest in its place",
     AT(n_top), 1, 100, NULL},
    {"json", OPTION_FLAG, NULL, "print one JSON object, when the answer is complete", AT(is_json),
     0, 0, NULL},
    {"stats", OPTION_FLAG, NULL, "print speed to standard error (on a terminal: always)",
     AT(has_stats), 0, 0, NULL},
    {"verbose", OPTION_FLAG, NULL, "also say what is loaded and how much memory it takes",
     AT(is_verbose), 0, 0, NULL},
    {"quiet", OPTION_FLAG, NULL, "nothing but the answer and errors", AT(is_quiet), 0, 0, NULL},
    {.name = NULL},
};
#undef AT

// The model and the text of the prompt, taken from the arguments and standard input.
struct run_input {
    const char *model;
    const char *prompt;
    bool takes_stdin;
};

static int sort_arguments(struct run_input *in, const struct command_call *call,
                          struct carat_error *err)
{
    const char *first = call->n_args > 0 ? call->args[0] : NULL;
    const char *second = call->n_args > 1 ? call->args[1] : NULL;
    in->takes_stdin = !os_is_terminal(0);
    if (!first) {
        return 0;
    }
    bool is_behind_dashes = call->n_before_dashes == 0;
    if (second) {
        if (!os_exists(first) && !model_path_is_meant(first)) {
            return fail(err, CARAT_E_ARGUMENT,
                        "run: no model '%s' is there, and a prompt is one argument: put quotes "
                        "around it",
                        first);
        }
        in->model = first;
        in->prompt = second;
    } else if (!is_behind_dashes && strcmp(first, "-") != 0 &&
               (os_exists(first) || model_path_is_meant(first))) {
        in->model = first; // model_path_find says so if it is not there
    } else {
        in->prompt = first;
    }
    if (in->prompt && strcmp(in->prompt, "-") == 0) {
        in->prompt = NULL;
        in->takes_stdin = true;
    }
    return 0;
}

// The text of the prompt: the argument, then what was piped in.
static int read_prompt(struct buf *out, const struct run_input *in, const struct run_options *o,
                       struct carat_error *err)
{
    struct buf piped = {.max = INPUT_SIZE_MAX};
    int rc = 0;
    bool is_taken = o->messages && strcmp(o->messages, "-") == 0;
    if (in->takes_stdin && !is_taken) {
        if (!os_wait_readable(0, PATIENCE_MS) && !o->is_quiet) {
            say_plain("[waiting for standard input to end; </dev/null leaves it out]");
        }
        rc = os_read_file(&piped, "-", INPUT_SIZE_MAX, err);
    }
    if (rc == 0) {
        size_t size = piped.size;
        if (size > 0 && piped.data[size - 1] == '\n') {
            size--; // the line's end that echo and editors add
        }
        buf_adds(out, in->prompt ? in->prompt : "");
        buf_adds(out, in->prompt && size ? "\n\n" : "");
        buf_add(out, size ? piped.data : "", size);
        rc = buf_status(out, err);
    }
    buf_release(&piped);
    return rc;
}

static int make_chat(struct conversation *c, const struct run_options *o, const struct buf *text,
                     struct carat_error *err)
{
    int rc = 0;
    if (o->system) {
        rc = conversation_add_text(c, "system", o->system, strlen(o->system), err);
    }
    if (rc == 0 && o->messages) {
        rc = conversation_read_file(c, o->messages, err);
    }
    if (rc == 0 && text->size) {
        rc = conversation_add_text(c, "user", text->data, text->size, err);
    }
    if (rc == 0 && o->tools) {
        rc = conversation_read_tools_file(c, o->tools, err);
    }
    return rc;
}

static int make_prompt(struct carat_prompt **out, const struct carat_engine *engine,
                       const struct run_options *o, const struct buf *text, struct conversation *c,
                       struct carat_error *err)
{
    if (o->is_raw) {
        return carat_prompt_from_text(out, engine, buf_text(text), text->size,
                                      o->trusts_markers ? CARAT_TOKENIZE_SPECIAL : 0, err);
    }
    int rc = make_chat(c, o, text, err);
    if (rc) {
        return rc;
    }
    struct carat_chat chat = {
        .messages = c->messages,
        .n_messages = c->n,
        .tools = c->tools,
        .chat_template = (enum carat_template)o->chat_template,
        .thinks = o->thinks,
        .trusts_markers = o->trusts_markers,
    };
    return carat_prompt_from_chat(out, engine, &chat, err);
}

static void write_json(struct buf *out, const struct answer *a, const struct loaded *l,
                       uint64_t seed, bool has_logprobs)
{
    const struct carat_model_info *info = carat_engine_info(l->engine);
    buf_adds(out, "{\"model\":");
    buf_add_json(out, info->name, strlen(info->name));
    buf_addc(out, ',');
    answer_write_json(a, out);
    // A seed may need all of 64 bits, which not every reader of JSON numbers keeps.
    buf_addf(out, ",\"seed\":\"%llu\"", (unsigned long long)seed);
    if (has_logprobs) {
        buf_addf(out, ",\"logprobs\":[%s]", buf_text(&a->logprobs));
    }
    buf_adds(out, "}\n");
}

static int show_end(const struct command_call *call, const struct answer *a, const struct loaded *l,
                    uint64_t seed, struct carat_error *err)
{
    const struct run_options *o = call->options;
    int rc = 0;
    if (o->is_json) {
        struct buf json = {.max = (size_t)1 << 30};
        write_json(&json, a, l, seed, o->n_top.value > 0);
        rc = buf_status(&json, err);
        output_write(call->out, buf_text(&json), json.size);
        buf_release(&json);
    } else if (call->out->last != '\n') {
        output_text(call->out, "\n");
    }
    output_flush(call->out);
    bool is_cut = a->stop == CARAT_STOP_LENGTH && a->n_generated != o->tokens_max.value;
    if (is_cut) {
        say("the answer is cut off: the context of %zu tokens is full (--context N makes it "
            "larger)",
            carat_session_context_max(l->session));
    }
    if (!o->is_quiet && (o->has_stats || o->is_verbose || call->out->errors_are_terminal)) {
        answer_say_figures(a);
    }
    return rc;
}

// Everything after the model is open.
static int answer_once(const struct command_call *call, struct loaded *l, const struct buf *text,
                       struct answer *a, struct carat_error *err)
{
    const struct run_options *o = call->options;
    struct conversation conversation = {.messages = NULL};
    struct carat_prompt *prompt = NULL;
    struct carat_sampler *sampler = NULL;
    struct carat_parser *parser = NULL;
    struct carat_logit_bias *biases = NULL;
    struct carat_sampling sampling;
    int rc = make_prompt(&prompt, l->engine, o, text, &conversation, err);
    rc = rc ? rc : settings_sampling(&sampling, &o->sampling, l->engine, &biases, err);
    if (rc) {
        goto out;
    }
    sampling.n_top = o->is_json ? (size_t)o->n_top.value : 0;
    rc = carat_sampler_new(&sampler, l->engine, &sampling, err);
    if (rc) {
        goto out;
    }
    struct carat_parser_options parsing = {
        .stops = o->stops.items,
        .n_stops = o->stops.n,
        .starts_in_thought = carat_prompt_opens_thought(prompt),
        .is_raw = o->is_raw,
    };
    rc = carat_parser_new(&parser, l->engine, &parsing, err);
    if (rc) {
        goto out;
    }
    struct answer_options answering = {
        .tokens_max = (size_t)o->tokens_max.value,
        .n_top = sampling.n_top,
        .is_shown = !o->is_json,
        .shows_thoughts = call->out->errors_are_terminal && !o->is_quiet,
    };
    rc = answer_make(a, &answering, call->out, l->engine, l->session, prompt, sampler, parser, err);
    rc = rc ? rc : show_end(call, a, l, carat_sampler_seed(sampler), err);
out:
    carat_parser_free(parser);
    carat_sampler_free(sampler);
    carat_prompt_free(prompt);
    conversation_release(&conversation);
    mem_free(biases);
    return rc;
}

static int check_options(const struct run_options *o, struct carat_error *err)
{
    if (o->is_raw && (o->messages || o->tools || o->system || o->thinks || o->chat_template)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "run: --no-template is for plain text: it cannot go with --messages, --tools, "
                    "--system, --think or --template");
    }
    if (o->n_top.value && !o->is_json) {
        return fail(err, CARAT_E_ARGUMENT, "run: --logprobs needs --json");
    }
    return 0;
}

static int run_run(const struct command_call *call)
{
    const struct run_options *o = call->options;
    struct carat_error err;
    struct run_input input = {.model = NULL};
    if (check_options(o, &err) || sort_arguments(&input, call, &err)) {
        say("%s", err.text);
        return EXIT_USAGE;
    }
    struct loaded loaded = {.engine = NULL};
    struct answer answer = {.calls = NULL};
    struct buf text = {.max = 2 * INPUT_SIZE_MAX};
    int code = EXIT_OK;
    // A wrong path is said before anybody types a long prompt.
    int rc = input.model ? model_path_find(&loaded.path, input.model, &err) : 0;
    rc = rc ? rc : read_prompt(&text, &input, o, &err);
    if (rc == 0 && text.size == 0 && !o->messages && !(o->is_raw && input.prompt)) {
        say("run: no prompt: give one in quotes, as in carat run \"Why is the sky blue?\", or pipe "
            "it in");
        code = EXIT_USAGE;
        goto out;
    }
    os_catch_interrupt();
    struct loading_options loading = {
        .model = input.model,
        .settings = &o->model,
        .is_quiet = o->is_quiet,
        .is_verbose = o->is_verbose,
    };
    rc = rc ? rc : loaded_open(&loaded, &loading, call->out, &err);
    rc = rc ? rc : answer_once(call, &loaded, &text, &answer, &err);
    if (rc) {
        progress_end(&loaded.progress);
        progress_end(&loaded.prefill_progress);
        code = say_error(&err);
    } else if (answer.stop == CARAT_STOP_USER && os_interrupted()) {
        code = EXIT_INTERRUPTED;
    }
out:
    answer_release(&answer);
    loaded_release(&loaded);
    buf_release(&text);
    return code;
}

const struct command command_run = {
    .name = "run",
    .summary = "one answer to standard output",
    .synopsis = "[MODEL] [PROMPT] [options]",
    .details =
        "Answers PROMPT and ends. What is piped in is appended to PROMPT, or is the prompt when "
        "there is none; PROMPT may be '-' to say so. The answer alone goes to standard output, as "
        "it comes; with --json, one object when it is complete.\n\n"
        "MODEL is a GGUF file or a Hugging Face directory. Without it: the environment variable "
        "CARAT_MODEL, or else the demonstration model. A single word that is not a file is the "
        "prompt; a prompt that looks like a file goes after '--'.\n\n"
        "Ctrl-C ends the answer with exit code 130; what was written stays.",
    .groups =
        (const struct option_group[]){
            {"Prompt", prompt_rows, 0},
            {"Answer", answer_rows, 0},
            {"Sampling", sampling_setting_rows, offsetof(struct run_options, sampling)},
            {"Model", model_setting_rows, offsetof(struct run_options, model)},
            {.options = NULL},
        },
    .examples =
        (const struct example[]){
            {"carat run \"What is the capital of France?\"", "with the demonstration model"},
            {"git diff | carat run gemma.gguf \"Write a commit message\"", "a prompt and a text"},
            {"carat run gemma.gguf --temperature 0 --json \"2+2?\" | jq -r .content",
             "always the likeliest token; JSON for scripts"},
            {"carat run gemma.gguf --no-template \"Once upon a time\" --max-tokens 100",
             "plain continuation of a text"},
            {"carat run gemma.gguf --messages talk.json \"And then?\"",
             "the next turn of a saved conversation"},
            {.line = NULL},
        },
    .options_size = sizeof(struct run_options),
    .args_max = 2,
    .run = run_run,
};
