// SPDX-License-Identifier: Apache-2.0
// carat chat: a conversation, one session from the first turn to the last.
#include "base/error.h"
#include "base/os.h"
#include "cli/answer.h"
#include "cli/conversation.h"
#include "cli/dragged.h"
#include "cli/line_edit.h"
#include "cli/loading.h"

#include <stdio.h>
#include <string.h>

// The thoughts of an answer are dropped from the conversation when the next message comes, so that
// much of the timeline is taken back. More costs memory in every sliding layer.
#define REWIND_DEFAULT 512

struct chat_options {
    const char *system;
    const char *messages;
    size_t chat_template; // an enum carat_template
    bool thinks;
    bool hides_thoughts;
    struct option_count tokens_max;
    struct option_count rewind;
    bool is_json, has_stats, is_quiet, is_verbose;
    struct media_settings media;
    struct sampling_settings sampling;
    struct model_settings model;
};

#define AT(field) offsetof(struct chat_options, field)
static const struct option chat_rows[] = {
    {"system", OPTION_TEXT, "TEXT", "instructions that stand before the conversation", AT(system),
     0, 0, NULL},
    {"messages", OPTION_TEXT, "FILE", "go on with a conversation that /save wrote", AT(messages), 0,
     0, NULL},
    {"think", OPTION_FLAG, NULL, "let the model think before it answers; also /think", AT(thinks),
     0, 0, NULL},
    {"hide-thoughts", OPTION_FLAG, NULL, "do not show the thoughts", AT(hides_thoughts), 0, 0,
     NULL},
    {"template", OPTION_CHOICE, "NAME", "version of the chat format (auto: what the model has)",
     AT(chat_template), 0, 0, template_names},
    {"max-tokens", OPTION_COUNT, "N", "end each answer after N tokens", AT(tokens_max), 1, 1e9,
     NULL},
    {"rewind", OPTION_COUNT, "N",
     "tokens at the end that can be taken back without evaluating all "
     "again, as after a long thought; costs memory (default: 512)",
     AT(rewind), 0, 1000000, NULL},
    {"json", OPTION_FLAG, NULL, "print each answer as a line of JSON", AT(is_json), 0, 0, NULL},
    {"stats", OPTION_FLAG, NULL, "print speed after each answer; also /stats", AT(has_stats), 0, 0,
     NULL},
    {"verbose", OPTION_FLAG, NULL, "say what is loaded and how much memory it takes",
     AT(is_verbose), 0, 0, NULL},
    {"quiet", OPTION_FLAG, NULL, "no greeting, no bars", AT(is_quiet), 0, 0, NULL},
    {.name = NULL},
};
#undef AT

struct chat {
    const struct chat_options *options;
    struct output *out;
    struct loaded loaded;
    struct conversation conversation;
    struct carat_sampler *sampler;
    struct media_list pending; // for the next message, opened
    bool is_terminal;          // somebody types and reads
    bool thinks, has_stats;
    bool is_over;
    bool has_failed; // a turn went wrong; of interest to scripts
};

// ------------------------------------------------------------------------------------- one turn

static int make_prompt(struct chat *c, struct carat_prompt **out, struct carat_error *err)
{
    struct carat_chat chat = {
        .messages = c->conversation.messages,
        .n_messages = c->conversation.n,
        .tools = c->conversation.tools,
        .chat_template = (enum carat_template)c->options->chat_template,
        .thinks = c->thinks,
        .sound_first = c->options->media.sound_first,
    };
    return carat_prompt_from_chat(out, c->loaded.engine, &chat, err);
}

static char *copy_buf(struct chat *c, const struct buf *b, struct carat_error *err)
{
    return conversation_copy(&c->conversation, buf_text(b), b->size, err);
}

// The answer becomes a message of the conversation, its calls included.
static int keep_answer(struct chat *c, const struct answer *a, struct carat_error *err)
{
    struct carat_tool_call *calls = NULL;
    if (a->n_calls) {
        calls = arena_take(&c->conversation.arena, a->n_calls * sizeof(*calls), err);
        if (!calls) {
            return CARAT_E_MEMORY;
        }
    }
    for (size_t i = 0; i < a->n_calls; i++) {
        calls[i].name = copy_buf(c, &a->calls[i].name, err);
        calls[i].arguments = copy_buf(c, &a->calls[i].arguments, err);
        if (!calls[i].name || !calls[i].arguments) {
            return CARAT_E_MEMORY;
        }
    }
    char *thought = a->thought.size ? copy_buf(c, &a->thought, err) : NULL;
    if (a->thought.size && !thought) {
        return CARAT_E_MEMORY;
    }
    int rc =
        conversation_add_text(&c->conversation, "assistant", buf_text(&a->text), a->text.size, err);
    if (rc == 0) {
        struct carat_message *m = &c->conversation.messages[c->conversation.n - 1];
        m->reasoning = thought;
        m->calls = calls;
        m->n_calls = a->n_calls;
    }
    return rc;
}

static void say_full(const struct chat *c, const struct carat_prompt *prompt)
{
    size_t n = 0;
    carat_prompt_tokens(prompt, &n);
    say("the conversation, now %zu tokens, does not fit into the context of %zu; your last message "
        "was not taken. A shorter one may fit; /save FILE keeps the conversation, to go on with "
        "'carat chat --messages FILE --context N'; /clear starts anew",
        n, carat_session_context_max(c->loaded.session));
}

static void show_turn_end(struct chat *c, const struct answer *a)
{
    if (c->options->is_json) {
        struct buf line = {.max = (size_t)1 << 30};
        buf_addc(&line, '{');
        answer_write_json(a, &line);
        buf_adds(&line, "}\n");
        output_write(c->out, buf_text(&line), line.size);
        buf_release(&line);
    } else if (c->out->last != '\n' || a->text.size == 0) {
        output_text(c->out, "\n");
    }
    output_flush(c->out);
    size_t used = 0, room = carat_session_context_max(c->loaded.session);
    carat_session_tokens(c->loaded.session, &used);
    if (a->stop == CARAT_STOP_USER && c->is_terminal) {
        say_plain("[stopped]");
    } else if (a->stop == CARAT_STOP_LENGTH && a->n_generated != c->options->tokens_max.value) {
        say("the answer is cut off: the context of %zu tokens is full. /save FILE keeps the "
            "conversation, to go on with 'carat chat --messages FILE --context N'; /clear starts "
            "anew",
            room);
    }
    if (c->has_stats) {
        answer_say_figures(a);
        say_plain("[context: %zu of %zu tokens]", used, room);
    }
    if (c->is_terminal) {
        say_plain("%s", "");
    }
}

static int answer_turn(struct chat *c, struct answer *a, struct carat_error *err)
{
    struct carat_prompt *prompt = NULL;
    struct carat_parser *parser = NULL;
    int rc = make_prompt(c, &prompt, err);
    if (rc) {
        goto out;
    }
    struct carat_parser_options parsing = {.starts_in_thought = carat_prompt_opens_thought(prompt)};
    rc = carat_parser_new(&parser, c->loaded.engine, &parsing, err);
    if (rc) {
        goto out;
    }
    struct answer_options answering = {
        .tokens_max = (size_t)c->options->tokens_max.value,
        .is_shown = !c->options->is_json,
        .shows_thoughts = c->out->errors_are_terminal && !c->options->hides_thoughts,
    };
    rc = answer_make(a, &answering, c->out, c->loaded.engine, c->loaded.session, prompt, c->sampler,
                     parser, err);
    progress_end(&c->loaded.prefill_progress);
    if (rc == CARAT_E_FULL) {
        say_full(c, prompt);
    }
out:
    carat_parser_free(parser);
    carat_prompt_free(prompt);
    return rc;
}

// The message with what was attached before it: pictures and films, then the text, then sounds, as
// the model's makers advise.
static int add_message(struct chat *c, const struct buf *text, struct carat_error *err)
{
    struct media_list *pending = &c->pending;
    if (pending->n == 0) {
        return conversation_add_text(&c->conversation, "user", text->data, text->size, err);
    }
    size_t n_seen = 0;
    for (size_t i = 0; i < pending->n; i++) {
        struct attachment a = pending->items[i];
        if (a.type != CARAT_MEDIA_AUDIO) {
            memmove(&pending->items[n_seen + 1], &pending->items[n_seen], (i - n_seen) * sizeof(a));
            pending->items[n_seen++] = a;
        }
    }
    size_t n = pending->n;
    pending->n = 0;
    return conversation_add_media(&c->conversation, "user", pending->items, n, text->data,
                                  text->size, n_seen, err);
}

// A message of the user and the answer to it; both stay out of the conversation when there is none.
static void take_turn(struct chat *c, const struct buf *text)
{
    struct carat_error err;
    struct answer answer = {.calls = NULL};
    size_t n_before = c->conversation.n;
    int rc = add_message(c, text, &err);
    rc = rc ? rc : answer_turn(c, &answer, &err);
    if (rc == 0) {
        show_turn_end(c, &answer);
    }
    bool is_empty = answer.stop == CARAT_STOP_USER && answer.text.size == 0;
    rc = rc || is_empty ? rc : keep_answer(c, &answer, &err);
    if (rc == CARAT_E_STOPPED && c->is_terminal) {
        say_plain("[stopped; your message was not taken]\n");
    } else if (rc && rc != CARAT_E_FULL) {
        say("%s", err.text);
    }
    c->has_failed = c->has_failed || rc != 0;
    if (rc || is_empty) {
        c->conversation.n = n_before;
        conversation_prune(&c->conversation);
    }
    answer_release(&answer);
}

// --------------------------------------------------------------------------- pictures, sound, film

static void drop_pending(struct chat *c)
{
    for (size_t i = 0; i < c->pending.n; i++) {
        attachment_close(&c->pending.items[i]);
    }
    c->pending.n = 0;
}

// Opens it at once, so that it can be said what it is and costs.
static int attach(struct chat *c, struct attachment a, struct carat_error *err)
{
    if (c->pending.n == OPTION_WORDS_MAX) {
        return fail(err, CARAT_E_FULL, "more than %d media in a message", OPTION_WORDS_MAX);
    }
    if (strcmp(a.source, "-") == 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "chat: standard input is the conversation: '-' cannot be a medium, too");
    }
    int rc = attachment_check(&a, err);
    rc = rc ? rc : attachment_open(&a, c->loaded.engine, &c->loaded.media_progress, err);
    a.source = conversation_copy(&c->conversation, a.source, strlen(a.source), rc ? NULL : err);
    if (rc || !a.source) {
        attachment_close(&a);
        return rc ? rc : CARAT_E_MEMORY;
    }
    c->pending.items[c->pending.n++] = a;
    if (!c->options->is_quiet) {
        struct buf line = {.max = 500};
        attachment_describe(&a, &line);
        say_plain("[%s: %s; goes with your next message]", a.source, buf_text(&line));
        buf_release(&line);
    }
    return 0;
}

static void attach_file(struct chat *c, enum carat_media_type type, const char *path)
{
    struct carat_error err;
    struct attachment a = {.type = type, .source = path, .how = c->pending.how};
    if (attach(c, a, &err)) {
        say("%s", err.text);
        c->has_failed = true;
    }
}

// ---------------------------------------------------------------------------------- slash commands

static void slash_help(struct chat *c, const char *rest);

static void slash_clear(struct chat *c, const char *rest)
{
    (void)rest;
    // The system message, if there is one, stays.
    bool has_system =
        c->conversation.n > 0 && strcmp(c->conversation.messages[0].role, "system") == 0;
    c->conversation.n = has_system ? 1 : 0;
    drop_pending(c);
    conversation_prune(&c->conversation);
    say_plain("[the conversation is empty]");
}

static void slash_think(struct chat *c, const char *rest)
{
    (void)rest;
    c->thinks = !c->thinks;
    say_plain("[thinking is %s]", c->thinks ? "on" : "off");
}

static void slash_stats(struct chat *c, const char *rest)
{
    (void)rest;
    c->has_stats = !c->has_stats;
    say_plain("[statistics are %s]", c->has_stats ? "on" : "off");
}

static void slash_system(struct chat *c, const char *rest)
{
    struct carat_error err;
    struct conversation *v = &c->conversation;
    bool has_system = v->n > 0 && strcmp(v->messages[0].role, "system") == 0;
    if (conversation_add_text(v, "system", rest, strlen(rest), &err)) {
        say("%s", err.text);
        return;
    }
    // It was added at the end and belongs to the beginning.
    struct carat_message made = v->messages[--v->n];
    if (!has_system && *rest) {
        memmove(v->messages + 1, v->messages, v->n * sizeof(made));
        v->n++;
        v->messages[0] = made;
    } else if (has_system && *rest) {
        v->messages[0] = made;
    } else if (has_system) {
        memmove(v->messages, v->messages + 1, --v->n * sizeof(made));
    }
    say_plain("[the system message is %s]", *rest ? "set" : "gone");
}

static void slash_save(struct chat *c, const char *rest)
{
    struct carat_error err;
    struct buf text = {.max = (size_t)1 << 30};
    if (!*rest) {
        say("/save needs the name of a file");
        return;
    }
    conversation_write(&c->conversation, &text);
    int rc = buf_status(&text, &err);
    rc = rc ? rc : os_write_file(rest, text.data, text.size, &err);
    if (rc) {
        say("%s", err.text);
        c->has_failed = true;
    } else {
        say_plain("[%zu messages saved in %s]", c->conversation.n, rest);
    }
    buf_release(&text);
}

static void slash_undo(struct chat *c, const char *rest)
{
    (void)rest;
    size_t n = c->conversation.n;
    while (n > 0 && strcmp(c->conversation.messages[n - 1].role, "user") != 0) {
        n--;
    }
    if (n == 0) {
        say_plain("[nothing to undo]");
        return;
    }
    c->conversation.n = n - 1;
    conversation_prune(&c->conversation);
    say_plain("[the last turn is forgotten]");
}

static void slash_attach(struct chat *c, enum carat_media_type type, const char *rest)
{
    struct buf path = {.max = 1 << 16};
    if (!*rest) {
        say("the name of a file is missing");
        c->has_failed = true;
    } else {
        // As it stands, or as a terminal writes it: with quotes or backslashes.
        unquote_path(&path, rest);
        attach_file(c, type, os_exists(rest) || path.has_failed ? rest : buf_text(&path));
    }
    buf_release(&path);
}

static void slash_image(struct chat *c, const char *rest)
{
    slash_attach(c, CARAT_MEDIA_IMAGE, rest);
}

static void slash_audio(struct chat *c, const char *rest)
{
    slash_attach(c, CARAT_MEDIA_AUDIO, rest);
}

static void slash_video(struct chat *c, const char *rest)
{
    slash_attach(c, CARAT_MEDIA_VIDEO, rest);
}

static void slash_quit(struct chat *c, const char *rest)
{
    (void)rest;
    c->is_over = true;
}

static const struct slash_command {
    const char *name;
    const char *argument;
    const char *help;
    void (*run)(struct chat *c, const char *rest);
} slash_commands[] = {
    {"help", "", "this list", slash_help},
    {"clear", "", "forget the conversation; the system message stays", slash_clear},
    {"undo", "", "forget your last message and the answer to it", slash_undo},
    {"think", "", "switch thinking on or off", slash_think},
    {"system", " TEXT", "set the system message; without TEXT, remove it", slash_system},
    {"image", " FILE", "show a picture with your next message", slash_image},
    {"audio", " FILE", "play a sound with it", slash_audio},
    {"video", " FILE", "show a film with it", slash_video},
    {"save", " FILE", "write the conversation as JSON, for --messages", slash_save},
    {"stats", "", "switch the figures after each answer on or off", slash_stats},
    {"quit", "", "end; so does Ctrl-D", slash_quit},
};
#define N_SLASH (sizeof(slash_commands) / sizeof(slash_commands[0]))

static void slash_help(struct chat *c, const char *rest)
{
    (void)c;
    (void)rest;
    for (size_t i = 0; i < N_SLASH; i++) {
        const struct slash_command *s = &slash_commands[i];
        say_plain("  /%s%-*s %s", s->name, (int)(14 - strlen(s->name)), s->argument, s->help);
    }
    say_plain(
        "  A file that is dropped on the terminal is attached, too; an empty line sends what is "
        "attached.");
    say_plain("  Ctrl-C stops an answer. A line that ends with a backslash goes on in the next; a "
              "message that\n  begins with a slash is written with two.");
}

static void take_slash(struct chat *c, const struct buf *line)
{
    const char *name = line->data + 1;
    size_t size = strcspn(name, " \t");
    const char *rest = name + size + strspn(name + size, " \t");
    for (size_t i = 0; i < N_SLASH; i++) {
        if (slice_is(slice_make(name, size), slash_commands[i].name)) {
            slash_commands[i].run(c, rest);
            return;
        }
    }
    if (slice_is(slice_make(name, size), "exit") || slice_is(slice_make(name, size), "bye")) {
        c->is_over = true;
        return;
    }
    say("unknown command '/%.*s': /help lists them; a message that begins with a slash is written "
        "with two",
        (int)size, name);
    c->has_failed = true;
}

// ------------------------------------------------------------------------------------- the loop

// A line that somebody typed may name files: they are attached, the rest is the message.
static void take_typed(struct chat *c, struct buf *line)
{
    struct dragged dragged = {.n = 0};
    struct carat_error err;
    if (!c->is_terminal) {
        take_turn(c, line);
        return;
    }
    int rc = dragged_find(&dragged, buf_text(line), &err);
    for (size_t i = 0; rc == 0 && i < dragged.n; i++) {
        struct attachment a = {
            .type = dragged.types[i], .source = buf_text(&dragged.paths[i]), .how = c->pending.how};
        rc = attach(c, a, &err);
    }
    if (rc) {
        // Nothing is sent: the message was about the file.
        say("%s", err.text);
    } else if (dragged.n == 0 || dragged.rest.size) {
        take_turn(c, dragged.n ? &dragged.rest : line);
    }
    dragged_release(&dragged);
}

static void take_line(struct chat *c, struct buf *line)
{
    struct slice trimmed = utf8_trim(slice_make(buf_text(line), line->size));
    if (trimmed.size == 0) {
        if (c->pending.n) {
            take_turn(c, line);
        }
        return;
    }
    if (slice_starts(trimmed, "//")) {
        struct buf text = {.max = LINE_SIZE_MAX};
        buf_add(&text, trimmed.data + 1, trimmed.size - 1);
        if (!text.has_failed) {
            take_turn(c, &text);
        }
        buf_release(&text);
    } else if (line->data[0] == '/' && !(c->is_terminal && dragged_begins(line->data))) {
        take_slash(c, line);
    } else {
        take_typed(c, line);
    }
}

static void greet(const struct chat *c)
{
    const struct carat_model_info *info = carat_engine_info(c->loaded.engine);
    say_plain("%s, %s, context of %zu tokens. /help lists commands; Ctrl-C stops an answer, Ctrl-D "
              "ends.\n",
              info->name, info->weight_type, carat_session_context_max(c->loaded.session));
}

static int converse(struct chat *c, struct carat_error *err)
{
    struct line_editor *editor = NULL;
    struct buf line = {.max = LINE_SIZE_MAX};
    int rc = line_editor_new(&editor, c->is_terminal, err);
    if (rc) {
        return rc;
    }
    if (c->is_terminal && !c->options->is_quiet) {
        greet(c);
    }
    while (!c->is_over && c->out->failed_errno == 0) {
        if (c->is_terminal) {
            os_clear_interrupt(); // from here on Ctrl-C is about the next message
        }
        enum line_result result = line_editor_read(editor, "> ", &line, err);
        if (result == LINE_FAILED) {
            rc = err->status;
            break;
        }
        if (result == LINE_END) {
            break;
        }
        if (result == LINE_INTERRUPTED && !c->is_terminal) {
            rc = fail(err, CARAT_E_STOPPED, "interrupted");
            break;
        }
        if (result == LINE_INTERRUPTED) {
            say_plain("[Ctrl-D or /quit ends]");
            continue;
        }
        take_line(c, &line);
        if (os_interrupted() && !c->is_terminal) {
            rc = fail(err, CARAT_E_STOPPED, "interrupted");
            break;
        }
    }
    line_editor_free(editor);
    buf_release(&line);
    return rc;
}

// The files of the command line go with the first message.
static int attach_first(struct chat *c, const struct media_list *first, struct carat_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < first->n; i++) {
        rc = attach(c, first->items[i], err);
    }
    return rc;
}

static int open_chat(struct chat *c, const char *model, const struct media_list *first,
                     struct carat_error *err)
{
    const struct chat_options *o = c->options;
    struct carat_sampling sampling;
    struct carat_logit_bias *biases = NULL;
    int rc = 0;
    c->pending.how = c->conversation.media_how = first->how;
    for (size_t i = 0; rc == 0 && i < first->n; i++) {
        rc = attachment_check(&first->items[i], err);
    }
    if (rc == 0 && o->system) {
        rc = conversation_add_text(&c->conversation, "system", o->system, strlen(o->system), err);
    }
    if (rc == 0 && o->messages) {
        rc = conversation_read_file(&c->conversation, o->messages, err);
    }
    if (rc) {
        return rc;
    }
    struct loading_options loading = {
        .model = model,
        .settings = &o->model,
        .rewind_max = o->rewind.is_set ? (size_t)o->rewind.value : REWIND_DEFAULT,
        .sound_sees_ahead = o->media.sound_sees_ahead,
        .is_quiet = o->is_quiet,
        .is_verbose = o->is_verbose,
    };
    rc = loaded_open(&c->loaded, &loading, c->out, err);
    rc = rc ? rc : settings_sampling(&sampling, &o->sampling, c->loaded.engine, &biases, err);
    rc = rc ? rc : carat_sampler_new(&c->sampler, c->loaded.engine, &sampling, err);
    mem_free(biases);
    rc = rc ? rc
            : conversation_open_media(&c->conversation, c->loaded.engine, &c->loaded.media_progress,
                                      err);
    return rc ? rc : attach_first(c, first, err);
}

static int run_chat(const struct command_call *call)
{
    struct carat_error err;
    const struct chat_options *o = call->options;
    struct media_list first = {.n = 0};
    if (media_list_read(&first, &o->media, true, &err)) {
        say("%s", err.text);
        return EXIT_USAGE;
    }
    struct chat chat = {
        .options = o,
        .out = call->out,
        .is_terminal = os_is_terminal(0) && call->out->errors_are_terminal,
        .thinks = o->thinks,
        .has_stats = o->has_stats,
    };
    os_catch_interrupt();
    int rc = open_chat(&chat, call->n_args ? call->args[0] : NULL, &first, &err);
    rc = rc ? rc : converse(&chat, &err);
    int code = EXIT_OK;
    if (rc) {
        progress_end(&chat.loaded.progress);
        code = say_error(&err);
    } else if (chat.has_failed && !chat.is_terminal) {
        code = EXIT_FAILED;
    }
    carat_sampler_free(chat.sampler);
    drop_pending(&chat);
    conversation_release(&chat.conversation);
    loaded_release(&chat.loaded);
    return code;
}

const struct command command_chat = {
    .name = "chat",
    .summary = "a conversation in the terminal",
    .synopsis = "[MODEL] [options]",
    .details =
        "Talks with the model, turn by turn; what was said is not evaluated again. Thoughts, when "
        "the model thinks, are shown dim. Ctrl-C stops the answer, Ctrl-D ends, /help lists what "
        "else can be typed.\n\n"
        "/image FILE, /audio FILE and /video FILE show and play the model something; so does a "
        "file that is dropped on the terminal, and so do the options of these names for the first "
        "message. Pictures and films stand before the text of the message, sounds after it. They "
        "stay in the conversation, and are not evaluated again.\n\n"
        "Without a terminal each line of standard input is a turn, and the answers alone go to "
        "standard output.",
    .groups =
        (const struct option_group[]){
            {"Conversation", chat_rows, 0},
            {"Pictures, sound, film", media_setting_rows, offsetof(struct chat_options, media)},
            {"Sampling", sampling_setting_rows, offsetof(struct chat_options, sampling)},
            {"Model", model_setting_rows, offsetof(struct chat_options, model)},
            {.options = NULL},
        },
    .examples =
        (const struct example[]){
            {"carat chat", "with the demonstration model"},
            {"carat chat gemma.gguf --system \"You are brief.\" --think", "with instructions"},
            {"carat chat gemma.gguf --image photo.jpg", "about a picture"},
            {"printf 'My name is Ada.\\nWhat is my name?\\n' | carat chat gemma.gguf",
             "two turns from a script"},
            {.line = NULL},
        },
    .options_size = sizeof(struct chat_options),
    .args_max = 1,
    .run = run_chat,
};
