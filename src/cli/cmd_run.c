// SPDX-License-Identifier: Apache-2.0
// carat run: one answer to standard output.
#include "base/error.h"
#include "base/os.h"
#include "cli/answer.h"
#include "cli/conversation.h"
#include "cli/listen.h"
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
    struct media_settings media;
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
    size_t prompt_index; // which argument it is; SIZE_MAX: none
    bool takes_stdin;
    struct media_list media;
    bool media_takes_stdin;
};

// What became of a sound that was listened to.
struct heard {
    bool is_set;
    double seconds;  // how long it was
    double ended_at; // os_seconds
    size_t n_tokens; // of the prompt, evaluated before it ended
};

struct run {
    const struct run_options *options;
    struct output *out;
    struct run_input input;
    struct buf text;
    struct loaded loaded;
    struct conversation conversation;
    struct carat_sampler *sampler;
    struct heard heard;
    struct answer answer;
};

static int sort_arguments(struct run_input *in, const struct command_call *call,
                          struct carat_error *err)
{
    const char *first = call->n_args > 0 ? call->args[0] : NULL;
    const char *second = call->n_args > 1 ? call->args[1] : NULL;
    in->takes_stdin = !os_is_terminal(0) && !in->media_takes_stdin;
    in->prompt_index = SIZE_MAX;
    if (!first) {
        return 0;
    }
    in->prompt_index = second ? 1 : 0;
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
        in->prompt_index = SIZE_MAX;
    } else {
        in->prompt = first;
    }
    if (in->prompt && strcmp(in->prompt, "-") == 0) {
        if (in->media_takes_stdin) {
            return fail(err, CARAT_E_ARGUMENT,
                        "run: standard input is a medium already: give the prompt as an argument");
        }
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

// The media that stood before the prompt on the command line come before its text, the others
// after it.
static int add_message(struct run *r, struct carat_error *err)
{
    struct media_list *media = &r->input.media;
    const struct buf *text = &r->text;
    if (media->n == 0) {
        return text->size
                   ? conversation_add_text(&r->conversation, "user", text->data, text->size, err)
                   : 0;
    }
    size_t text_at = media->n;
    for (size_t i = media->n; r->input.prompt_index != SIZE_MAX && i > 0; i--) {
        bool is_behind = media->items[i - 1].n_args_before > r->input.prompt_index;
        text_at = is_behind ? i - 1 : text_at;
    }
    return conversation_add_media(&r->conversation, "user", media->items, media->n, text->data,
                                  text->size, text_at, err);
}

static int make_chat(struct run *r, struct carat_error *err)
{
    const struct run_options *o = r->options;
    struct conversation *c = &r->conversation;
    int rc = 0;
    c->media_how = r->input.media.how;
    if (o->system) {
        rc = conversation_add_text(c, "system", o->system, strlen(o->system), err);
    }
    if (rc == 0 && o->messages) {
        rc = conversation_read_file(c, o->messages, err);
    }
    rc = rc ? rc : add_message(r, err);
    if (rc == 0 && o->tools) {
        rc = conversation_read_tools_file(c, o->tools, err);
    }
    return rc;
}

static int make_prompt(struct carat_prompt **out, const struct run *r, struct carat_error *err)
{
    const struct run_options *o = r->options;
    if (o->is_raw) {
        return carat_prompt_from_text(out, r->loaded.engine, buf_text(&r->text), r->text.size,
                                      o->trusts_markers ? CARAT_TOKENIZE_SPECIAL : 0, err);
    }
    struct carat_chat chat = {
        .messages = r->conversation.messages,
        .n_messages = r->conversation.n,
        .tools = r->conversation.tools,
        .chat_template = (enum carat_template)o->chat_template,
        .thinks = o->thinks,
        .trusts_markers = o->trusts_markers,
        .sound_first = o->media.sound_first,
    };
    return carat_prompt_from_chat(out, r->loaded.engine, &chat, err);
}

static void say_media(const struct run *r)
{
    for (size_t i = 0; i < r->conversation.n_attachments; i++) {
        const struct attachment *a = &r->conversation.attachments[i];
        struct buf line = {.max = 500};
        attachment_describe(a, &line);
        say_plain("[%s: %s, %s]", attachment_name(a), carat_media_info(a->media)->format,
                  buf_text(&line));
        buf_release(&line);
    }
}

// ------------------------------------------------------------------------- sound as it comes in

// What is known of the prompt goes into the session; the sampler hears of it as well.
static int read_ahead(struct run *r, struct listener *listener, struct carat_error *err)
{
    struct carat_prompt *prompt = NULL;
    size_t n = 0, n_reused = 0;
    int rc = make_prompt(&prompt, r, err);
    rc = rc ? rc : carat_session_sync(r->loaded.session, prompt, &n_reused, err);
    if (rc == 0) {
        const carat_token *tokens = carat_prompt_tokens(prompt, &n);
        for (size_t i = n_reused; i < n; i++) {
            carat_sampler_accept(r->sampler, tokens[i]);
        }
        r->heard.n_tokens = listener->has_ended ? r->heard.n_tokens : n;
    } else if (rc == CARAT_E_STOPPED && !listener->is_ending) {
        listener_stopped(listener);
        rc = 0;
    }
    carat_prompt_free(prompt);
    return rc;
}

static int listen_to(struct run *r, struct attachment *sound, struct listener *listener,
                     struct carat_error *err)
{
    bool has_more = false;
    int rc = listener_open(listener, sound, &r->loaded, &r->loaded.prefill_progress, err);
    if (rc || !listener->is_live) {
        return rc;
    }
    rc = listener_wait(listener, &has_more, err);
    while (rc == 0 && has_more) {
        rc = read_ahead(r, listener, err);
        rc = rc ? rc : listener_wait(listener, &has_more, err);
    }
    if (rc == 0) {
        attachment_say_notes(sound);
        r->heard.is_set = true;
        r->heard.ended_at = listener->ended_at;
        r->heard.seconds = carat_media_info(sound->media)->source_seconds;
    }
    return rc;
}

static int open_media(struct run *r, struct carat_error *err)
{
    struct conversation *c = &r->conversation;
    struct attachment *sound = NULL;
    for (size_t i = 0; i < c->n_attachments; i++) {
        struct attachment *a = &c->attachments[i];
        a->is_listened_to = a->type == CARAT_MEDIA_AUDIO && strcmp(a->source, "-") == 0;
        sound = a->is_listened_to ? a : sound;
    }
    int rc = conversation_open_media(c, r->loaded.engine, &r->loaded.media_progress, err);
    if (rc == 0 && sound) {
        struct listener listener = {.sound = NULL};
        if (r->out->errors_are_terminal && !r->options->is_quiet) {
            say_plain("[listening; Ctrl-C ends that]");
        }
        rc = listen_to(r, sound, &listener, err);
        progress_end(&r->loaded.prefill_progress);
        listener_release(&listener);
    }
    if (rc == 0 && r->options->is_verbose) {
        say_media(r);
    }
    return rc;
}

// -------------------------------------------------------------------------------------- the end

static void write_json(struct buf *out, const struct run *r)
{
    const struct carat_model_info *info = carat_engine_info(r->loaded.engine);
    const struct answer *a = &r->answer;
    buf_adds(out, "{\"model\":");
    buf_add_json(out, info->name, strlen(info->name));
    buf_addc(out, ',');
    answer_write_json(a, out);
    if (r->heard.is_set) {
        buf_addf(out,
                 ",\"listening\":{\"seconds\":%.3f,\"tokens_before_end\":%zu,"
                 "\"end_to_answer_s\":%.4f}",
                 r->heard.seconds, r->heard.n_tokens, a->ready_at - r->heard.ended_at);
    }
    // A seed may need all of 64 bits, which not every reader of JSON numbers keeps.
    buf_addf(out, ",\"seed\":\"%llu\"", (unsigned long long)carat_sampler_seed(r->sampler));
    if (r->options->n_top.value > 0) {
        buf_addf(out, ",\"logprobs\":[%s]", buf_text(&a->logprobs));
    }
    buf_adds(out, "}\n");
}

static int show_end(const struct run *r, struct carat_error *err)
{
    const struct run_options *o = r->options;
    const struct answer *a = &r->answer;
    int rc = 0;
    if (o->is_json) {
        struct buf json = {.max = (size_t)1 << 30};
        write_json(&json, r);
        rc = buf_status(&json, err);
        output_write(r->out, buf_text(&json), json.size);
        buf_release(&json);
    } else if (r->out->last != '\n') {
        output_text(r->out, "\n");
    }
    output_flush(r->out);
    bool is_cut = a->stop == CARAT_STOP_LENGTH && a->n_generated != o->tokens_max.value;
    if (is_cut) {
        say("the answer is cut off: the context of %zu tokens is full (--context N makes it "
            "larger)",
            carat_session_context_max(r->loaded.session));
    }
    if (o->is_quiet || !(o->has_stats || o->is_verbose || r->out->errors_are_terminal)) {
        return rc;
    }
    if (r->heard.is_set) {
        say_plain("[heard %.1f s; %zu of the prompt's %zu tokens were read before its end; the "
                  "answer began %.2f s after it]",
                  r->heard.seconds, r->heard.n_tokens, a->n_prompt,
                  a->ready_at - r->heard.ended_at);
    }
    answer_say_figures(a);
    return rc;
}

// Everything after the model is open.
static int answer_once(struct run *r, struct carat_error *err)
{
    const struct run_options *o = r->options;
    struct carat_prompt *prompt = NULL;
    struct carat_parser *parser = NULL;
    struct carat_logit_bias *biases = NULL;
    struct carat_sampling sampling;
    int rc = settings_sampling(&sampling, &o->sampling, r->loaded.engine, &biases, err);
    if (rc) {
        goto out;
    }
    sampling.n_top = o->is_json ? (size_t)o->n_top.value : 0;
    rc = carat_sampler_new(&r->sampler, r->loaded.engine, &sampling, err);
    rc = rc ? rc : open_media(r, err);
    rc = rc ? rc : make_prompt(&prompt, r, err);
    if (rc) {
        goto out;
    }
    struct carat_parser_options parsing = {
        .stops = o->stops.items,
        .n_stops = o->stops.n,
        .starts_in_thought = carat_prompt_opens_thought(prompt),
        .is_raw = o->is_raw,
    };
    rc = carat_parser_new(&parser, r->loaded.engine, &parsing, err);
    if (rc) {
        goto out;
    }
    struct answer_options answering = {
        .tokens_max = (size_t)o->tokens_max.value,
        .n_top = sampling.n_top,
        .is_shown = !o->is_json,
        .shows_thoughts = r->out->errors_are_terminal && !o->is_quiet,
    };
    rc = answer_make(&r->answer, &answering, r->out, r->loaded.engine, r->loaded.session, prompt,
                     r->sampler, parser, err);
    rc = rc ? rc : show_end(r, err);
out:
    carat_parser_free(parser);
    carat_prompt_free(prompt);
    mem_free(biases);
    return rc;
}

static int check_options(const struct run_options *o, struct run_input *in, struct carat_error *err)
{
    int rc = media_list_read(&in->media, &o->media, o->messages != NULL, err);
    if (rc) {
        return rc;
    }
    if (o->is_raw &&
        (o->messages || o->tools || o->system || o->thinks || o->chat_template || in->media.n)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "run: --no-template is for plain text: it cannot go with --messages, --tools, "
                    "--system, --think, --template or media");
    }
    if (o->n_top.value && !o->is_json) {
        return fail(err, CARAT_E_ARGUMENT, "run: --logprobs needs --json");
    }
    for (size_t i = 0; i < in->media.n; i++) {
        in->media_takes_stdin =
            in->media_takes_stdin || strcmp(in->media.items[i].source, "-") == 0;
    }
    if (in->media_takes_stdin && o->messages && strcmp(o->messages, "-") == 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "run: standard input is a medium already: give --messages a file");
    }
    if (in->media_takes_stdin && os_is_terminal(0)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "run: '-' is standard input, and nothing is piped in, as by arecord -f S16_LE "
                    "-r 16000 | carat run --audio -");
    }
    return 0;
}

// What can be known to be wrong before anybody types a long prompt or a large model is opened.
static int check_paths(struct run *r, struct carat_error *err)
{
    int rc = r->input.model ? model_path_find(&r->loaded.path, r->input.model, err) : 0;
    for (size_t i = 0; rc == 0 && i < r->input.media.n; i++) {
        rc = attachment_check(&r->input.media.items[i], err);
    }
    return rc;
}

static int run_all(struct run *r, struct carat_error *err)
{
    const struct run_options *o = r->options;
    os_catch_interrupt();
    struct loading_options loading = {
        .model = r->input.model,
        .settings = &o->model,
        .sound_sees_ahead = o->media.sound_sees_ahead,
        .is_quiet = o->is_quiet,
        .is_verbose = o->is_verbose,
    };
    int rc = o->is_raw ? 0 : make_chat(r, err);
    rc = rc ? rc : loaded_open(&r->loaded, &loading, r->out, err);
    return rc ? rc : answer_once(r, err);
}

static int run_run(const struct command_call *call)
{
    struct carat_error err;
    struct run r = {.options = call->options, .out = call->out, .text.max = 2 * INPUT_SIZE_MAX};
    const struct run_options *o = r.options;
    if (check_options(o, &r.input, &err) || sort_arguments(&r.input, call, &err)) {
        say("%s", err.text);
        return EXIT_USAGE;
    }
    int code = EXIT_OK;
    int rc = check_paths(&r, &err);
    rc = rc ? rc : read_prompt(&r.text, &r.input, o, &err);
    bool has_prompt =
        r.text.size || o->messages || r.input.media.n || (o->is_raw && r.input.prompt);
    if (rc == 0 && !has_prompt) {
        say("run: no prompt: give one in quotes, as in carat run \"Why is the sky blue?\", or pipe "
            "it in");
        code = EXIT_USAGE;
        goto out;
    }
    rc = rc ? rc : run_all(&r, &err);
    if (rc) {
        progress_end(&r.loaded.progress);
        progress_end(&r.loaded.prefill_progress);
        code = say_error(&err);
    } else if (r.answer.stop == CARAT_STOP_USER && os_interrupted()) {
        code = EXIT_INTERRUPTED;
    }
out:
    carat_sampler_free(r.sampler);
    conversation_release(&r.conversation);
    answer_release(&r.answer);
    loaded_release(&r.loaded);
    buf_release(&r.text);
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
        "MODEL is a GGUF file, a Hugging Face directory or a pulled model. Without it: the "
        "environment variable CARAT_MODEL, the newest pulled model, or the demonstration model. A "
        "single word that names none of these is the prompt; a prompt that looks like a file goes "
        "after '--'.\n\n"
        "--image, --audio and --video show and play the model what it is asked about. In the "
        "message they stand as on the command line, the prompt among them; piped text is last. "
        "The options about how to read them concern those after them, and the last given concern "
        "those of --messages.\n\n"
        "Ctrl-C ends the answer with exit code 130; what was written stays. While a sound comes "
        "from standard input, Ctrl-C ends the sound, and the model answers.",
    .groups =
        (const struct option_group[]){
            {"Prompt", prompt_rows, 0},
            {"Pictures, sound, film", media_setting_rows, offsetof(struct run_options, media)},
            {"Answer", answer_rows, 0},
            {"Sampling", sampling_setting_rows, offsetof(struct run_options, sampling)},
            {"Model", model_setting_rows, offsetof(struct run_options, model)},
            {.options = NULL},
        },
    .examples =
        (const struct example[]){
            {"carat run \"What is the capital of France?\"", "with the demonstration model"},
            {"carat run gemma.gguf --image photo.jpg \"What is on this picture?\"", "a picture"},
            {"carat run gemma.gguf \"Compare:\" --image-tokens 560 --image a.png --image b.png",
             "two pictures in detail, after the text"},
            {"arecord -f S16_LE -r 16000 | carat run gemma.gguf \"Transcribe.\" --audio -",
             "listens until Ctrl-C, then answers at once"},
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
