// SPDX-License-Identifier: Apache-2.0
// Prompts for importance: plain text, which is cut into pieces, or JSON lines with a text, a prompt
// with its media, or messages.
#include "cli/importance.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "cli/attach.h"
#include "cli/progress.h"
#include "formats/json.h"

#include <stdio.h>
#include <string.h>

#define FILE_MAX     ((size_t)256 << 20)
#define MESSAGES_MAX 256
#define PARTS_MAX    64
#define CHUNK_TOKENS 512 // of plain text
#define AT(field)    offsetof(struct importance_settings, field)
// clang-format off
const struct option importance_rows[] = {
    {"imatrix", OPTION_TEXT, "FILE", "read it from an imatrix file, GGUF or .dat", AT(file), 0, 0, NULL},
    {"importance-from", OPTION_TEXT, "FILE", "collect it from these prompts: a text file, or JSON lines (docs/quantize.md)", AT(prompts), 0, 0, NULL},
    {"save-imatrix", OPTION_TEXT, "FILE", "keep what was collected; a name in .dat gives the older form", AT(target), 0, 0, NULL},
    {"importance-tokens", OPTION_COUNT, "N", "stop collecting after N tokens", AT(tokens), 1, 1e12, NULL},
    {"importance-context", OPTION_COUNT, "N", "longer prompts are left out (default: 4096)", AT(context), 1, 1 << 20, NULL},
    {.name = NULL},
};
// clang-format on
#undef AT

struct collector {
    const struct importance_settings *settings;
    struct carat_engine *engine;
    struct carat_importance *importance;
    struct progress media_progress;
    const char *file;
    size_t line;
    uint64_t at; // bytes of the file, for the bar
    uint64_t total;
    size_t n_prompts;
    size_t n_left_out;
    struct progress progress;
};

// One line on its way to a prompt.
struct line {
    struct json_doc *doc;
    struct carat_message messages[MESSAGES_MAX];
    struct carat_part parts[PARTS_MAX];
    struct attachment media[PARTS_MAX];
    struct buf paths[PARTS_MAX];
    char *strings[MESSAGES_MAX]; // terminated copies
    size_t n_messages, n_parts, n_media, n_strings;
};

static void line_release(struct line *l)
{
    for (size_t i = 0; i < l->n_media; i++) {
        carat_media_free(l->media[i].media);
        buf_release(&l->paths[i]);
    }
    for (size_t i = 0; i < l->n_strings; i++) {
        mem_free(l->strings[i]);
    }
    json_free(l->doc);
}

static int fail_line(const struct collector *c, const char *what, struct carat_error *err)
{
    return fail(err, CARAT_E_FORMAT, "%s: line %zu: %s", c->file, c->line, what);
}

static bool wants_more(const struct collector *c)
{
    struct carat_importance_info info;
    carat_importance_info(c->importance, &info);
    return !c->settings->tokens.is_set || info.n_tokens < c->settings->tokens.value;
}

// Takes the prompt.
static int collect(struct collector *c, struct carat_prompt *prompt, struct carat_error *err)
{
    size_t n = 0;
    size_t most = c->settings->context.is_set ? (size_t)c->settings->context.value : 4096;
    carat_prompt_tokens(prompt, &n);
    int rc = 0;
    if (n > most) {
        c->n_left_out++;
    } else {
        rc = carat_importance_collect(c->importance, c->engine, prompt, most, NULL, NULL, err);
        c->n_prompts++;
    }
    carat_prompt_free(prompt);
    if (rc == 0 && !progress_report(&c->progress, "collecting importance", c->at, c->total)) {
        rc = fail(err, CARAT_E_STOPPED, "interrupted");
    }
    return rc;
}

// --------------------------------------------------------------------------------------- plain
// text

static int collect_text(struct collector *c, const char *text, size_t size, struct carat_error *err)
{
    carat_token *tokens = mem_new_array(size + 2, sizeof(*tokens), err);
    int64_t n =
        tokens ? carat_tokenize(c->engine, text, size, 0, tokens, size + 2, err) : CARAT_E_MEMORY;
    int rc = n < 0 ? (int)n : 0;
    // Every piece begins as the model has learned that texts begin.
    carat_token piece[CHUNK_TOKENS];
    int64_t bos = rc ? 0 : carat_tokenize(c->engine, "", 0, CARAT_TOKENIZE_BOS, piece, 1, err);
    for (int64_t i = 0; rc == 0 && i < n && wants_more(c);) {
        size_t room = CHUNK_TOKENS - (size_t)bos;
        size_t left = (size_t)(n - i);
        size_t taken = left < room ? left : room;
        struct carat_prompt *prompt = NULL;
        memcpy(piece + bos, tokens + i, taken * sizeof(*tokens));
        rc = carat_prompt_from_tokens(&prompt, c->engine, piece, (size_t)bos + taken, err);
        i += (int64_t)taken;
        c->at = n > 0 ? (uint64_t)((double)c->total * (double)i / (double)n) : 0;
        rc = rc ? rc : collect(c, prompt, err);
    }
    mem_free(tokens);
    return rc;
}

// --------------------------------------------------------------------------------------- JSON
// lines

static const char *keep(struct line *l, struct slice s, struct carat_error *err)
{
    if (l->n_strings == MESSAGES_MAX) {
        fail(err, CARAT_E_FULL, "more than %d texts in a line", MESSAGES_MAX);
        return NULL;
    }
    char *text = mem_strndup(s.data ? s.data : "", s.size, err);
    if (text) {
        l->strings[l->n_strings++] = text;
    }
    return text;
}

static struct carat_part *new_part(struct line *l)
{
    return l->n_parts < PARTS_MAX ? &l->parts[l->n_parts++] : NULL;
}

static int add_text(struct line *l, struct slice s, struct carat_error *err)
{
    struct carat_part *part = new_part(l);
    const char *text = part ? keep(l, s, err) : NULL;
    if (!text) {
        return part ? CARAT_E_MEMORY : fail(err, CARAT_E_FULL, "more than %d parts", PARTS_MAX);
    }
    *part = (struct carat_part){.type = CARAT_PART_TEXT, .text = text};
    return 0;
}

// Paths are relative to the folder of the file that names them.
static int add_media(struct collector *c, struct line *l, enum carat_media_type type,
                     struct slice path, struct carat_error *err)
{
    struct carat_part *part = new_part(l);
    if (!part || path.size == 0) {
        return fail(err, CARAT_E_FORMAT, part ? "a medium without a path" : "too many parts");
    }
    struct attachment *a = &l->media[l->n_media];
    struct buf *name = &l->paths[l->n_media++];
    const char *slash = strrchr(c->file, '/');
    *name = (struct buf){.max = FILE_MAX};
    if (slice_starts(path, "file://")) {
        add_path_of_url(name, path);
    } else {
        if (slash && path.data[0] != '/' && !slice_starts(path, "data:")) {
            buf_add(name, c->file, (size_t)(slash - c->file) + 1);
        }
        buf_add_slice(name, path);
    }
    int rc = buf_status(name, err);
    *a = (struct attachment){.type = type, .source = buf_text(name)};
    rc = rc ? rc : attachment_check(a, err);
    rc = rc ? rc : attachment_check_model(a, c->engine, err);
    rc = rc ? rc : attachment_open(a, c->engine, &c->media_progress, err);
    if (rc == 0) {
        *part = (struct carat_part){.type = type == CARAT_MEDIA_IMAGE   ? CARAT_PART_IMAGE
                                            : type == CARAT_MEDIA_AUDIO ? CARAT_PART_AUDIO
                                                                        : CARAT_PART_VIDEO,
                                    .media = a->media};
    }
    return rc;
}

struct media_key {
    const char *key;
    enum carat_media_type type;
};
static const struct media_key media_keys[] = {
    {"image", CARAT_MEDIA_IMAGE},     {"audio", CARAT_MEDIA_AUDIO},
    {"video", CARAT_MEDIA_VIDEO},     {"image_url", CARAT_MEDIA_IMAGE},
    {"audio_url", CARAT_MEDIA_AUDIO}, {"video_url", CARAT_MEDIA_VIDEO},
};

// Media that an object names, each by a path, an object with a url, or a list of such.
static int add_object_media(struct collector *c, struct line *l, const struct json_value *object,
                            struct carat_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(media_keys) / sizeof(media_keys[0]); i++) {
        const struct json_value *v = json_get(object, media_keys[i].key);
        struct json_iter it = json_iter(v);
        if (json_kind(v) == JSON_STRING) {
            rc = add_media(c, l, media_keys[i].type, json_string(v), err);
        } else if (json_kind(v) == JSON_OBJECT) {
            rc = add_media(c, l, media_keys[i].type, json_string(json_get(v, "url")), err);
        }
        while (rc == 0 && json_kind(v) == JSON_ARRAY && json_next(&it)) {
            rc = add_media(c, l, media_keys[i].type, json_string(it.value), err);
        }
    }
    return rc;
}

static int add_content(struct collector *c, struct line *l, const struct json_value *content,
                       struct carat_error *err)
{
    if (json_kind(content) == JSON_STRING) {
        return add_text(l, json_string(content), err);
    }
    int rc = 0;
    struct json_iter it = json_iter(content);
    while (rc == 0 && json_kind(content) == JSON_ARRAY && json_next(&it)) {
        const struct json_value *text = json_get(it.value, "text");
        rc = json_kind(text) == JSON_STRING ? add_text(l, json_string(text), err)
                                            : add_object_media(c, l, it.value, err);
    }
    return rc;
}

// Parts from first on are the message's.
static int add_message(struct line *l, struct slice role, size_t first, struct carat_error *err)
{
    if (l->n_messages == MESSAGES_MAX) {
        return fail(err, CARAT_E_FULL, "more than %d messages", MESSAGES_MAX);
    }
    const char *name = keep(l, role, err);
    if (!name) {
        return CARAT_E_MEMORY;
    }
    l->messages[l->n_messages++] = (struct carat_message){
        .role = name, .parts = l->parts + first, .n_parts = l->n_parts - first};
    return 0;
}

static int read_messages(struct collector *c, struct line *l, const struct json_value *root,
                         struct carat_error *err)
{
    const struct json_value *messages = json_get(root, "messages");
    int rc = 0;
    if (json_kind(messages) == JSON_ARRAY) {
        struct json_iter it = json_iter(messages);
        while (rc == 0 && json_next(&it)) {
            size_t first = l->n_parts;
            rc = add_content(c, l, json_get(it.value, "content"), err);
            rc = rc ? rc : add_message(l, json_string(json_get(it.value, "role")), first, err);
        }
        return rc;
    }
    rc = add_object_media(c, l, root, err);
    rc = rc ? rc : add_text(l, json_string(json_get(root, "prompt")), err);
    rc = rc ? rc : add_message(l, slice_of("user"), 0, err);
    struct slice answer = json_string(json_get(root, "answer"));
    if (rc == 0 && answer.size > 0) {
        size_t first = l->n_parts;
        rc = add_text(l, answer, err);
        rc = rc ? rc : add_message(l, slice_of("assistant"), first, err);
    }
    return rc;
}

static int collect_line(struct collector *c, const char *text, size_t size, struct carat_error *err)
{
    struct line *l = mem_new(sizeof(*l), err);
    struct carat_prompt *prompt = NULL;
    int rc = l ? json_parse(&l->doc, text, size, c->file, err) : CARAT_E_MEMORY;
    if (rc) {
        if (l && err && rc == CARAT_E_FORMAT) {
            fail_line(c, "expected a JSON object", err);
        }
        mem_free(l);
        return rc;
    }
    const struct json_value *root = json_root(l->doc);
    struct slice plain = json_string(json_get(root, "text"));
    if (plain.size > 0) {
        rc = carat_prompt_from_text(&prompt, c->engine, plain.data, plain.size, 0, err);
    } else if (json_kind(json_get(root, "messages")) == JSON_ARRAY ||
               json_kind(json_get(root, "prompt")) == JSON_STRING) {
        rc = read_messages(c, l, root, err);
        bool is_answered =
            l->n_messages > 0 && strcmp(l->messages[l->n_messages - 1].role, "assistant") == 0;
        const struct carat_chat chat = {
            .messages = l->messages, .n_messages = l->n_messages, .is_complete = is_answered};
        rc = rc ? rc : carat_prompt_from_chat(&prompt, c->engine, &chat, err);
    } else {
        rc = fail_line(c, "expected \"text\", \"prompt\" or \"messages\"", err);
    }
    rc = rc ? rc : collect(c, prompt, err);
    line_release(l);
    mem_free(l);
    return rc;
}

static int collect_lines(struct collector *c, const struct buf *text, struct carat_error *err)
{
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < text->size && wants_more(c);) {
        const char *start = text->data + at;
        const char *end = memchr(start, '\n', text->size - at);
        size_t size = end ? (size_t)(end - start) : text->size - at;
        at += size + 1;
        c->line++;
        c->at = at < c->total ? at : c->total;
        if (strspn(start, " \t\r") < size) {
            rc = collect_line(c, start, size, err);
        }
    }
    return rc;
}

// ------------------------------------------------------------------------------------------
// getting

static int collect_file(struct collector *c, struct carat_error *err)
{
    struct buf text = {.max = FILE_MAX};
    int rc = os_read_file(&text, c->file, FILE_MAX, err);
    c->total = text.size;
    if (rc == 0) {
        size_t first = text.size ? strspn(buf_text(&text), " \t\r\n") : 0;
        bool is_json = first < text.size && text.data[first] == '{';
        rc = is_json ? collect_lines(c, &text, err)
                     : collect_text(c, buf_text(&text), text.size, err);
    }
    if (rc == 0 && c->n_prompts == 0) {
        rc = fail(err, CARAT_E_FORMAT, "%s: no prompt that fits into the context", c->file);
    }
    buf_release(&text);
    return rc;
}

int importance_get(struct carat_importance **out, const struct importance_settings *s,
                   const char *model, const struct output *output, bool is_quiet,
                   struct carat_error *err)
{
    if (!s->prompts && s->target) {
        return fail(err, CARAT_E_ARGUMENT,
                    "--save-imatrix: nothing to keep without "
                    "--importance-from");
    }
    if (s->file && s->prompts) {
        return fail(err, CARAT_E_ARGUMENT, "--imatrix and --importance-from: one of them");
    }
    if (!s->prompts) {
        return s->file ? carat_importance_read(out, s->file, err) : 0;
    }
    struct collector c = {.settings = s, .file = s->prompts};
    c.progress =
        (struct progress){.is_visible = output->errors_are_terminal && !is_quiet, .is_share = true};
    const struct carat_engine_options options = {.model = model};
    struct carat_importance_info info = {0};
    int rc = carat_engine_open(&c.engine, &options, err);
    rc = rc ? rc : carat_importance_new(&c.importance, err);
    rc = rc ? rc : collect_file(&c, err);
    progress_end(&c.progress);
    rc = rc || !s->target ? rc : carat_importance_write(c.importance, s->target, s->prompts, err);
    if (rc == 0 && !is_quiet) {
        carat_importance_info(c.importance, &info);
        say_plain("importance: %s tokens of %zu prompts%s", count_text(info.n_tokens).text,
                  c.n_prompts, c.n_left_out ? "; longer ones were left out" : "");
    }
    carat_engine_close(c.engine);
    if (rc) {
        carat_importance_free(c.importance);
        return rc;
    }
    *out = c.importance;
    return 0;
}
