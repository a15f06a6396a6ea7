// SPDX-License-Identifier: Apache-2.0
// Messages in the making: they and their parts and calls stand in the call's arena, in lists that
// double. A list that was outgrown stays in the arena until the call ends: at most as much again.
#include "server/content.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/error.h"
#include "base/mem.h"
#include "server/content_fit.h"
#include "server/server.h"

// How many calls before a tool's result are searched for its id: a bound on the work of a hostile
// history, far beyond what one answer can hold.
#define CALLS_LOOKED_AT_MAX 4096
#define MIME_MAX            128 // bytes of a MIME type that are looked at
#define PREFIX_MAX          200

struct content_message {
    struct carat_message message;
    struct carat_part *parts; // [message.n_parts]
    size_t part_capacity;
    char *text; // of the last part while it is a joined text, with room to grow
    size_t text_capacity;
    struct carat_tool_call *calls; // [message.n_calls]
    size_t call_capacity;
    char *reasoning; // message.reasoning, with room to grow
    size_t reasoning_size, reasoning_capacity;
    struct content_message *previous, *next;
};

int content_at(int rc, struct carat_error *err, const char *format, ...)
{
    if (rc && err) {
        char prefix[PREFIX_MAX];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(prefix, sizeof(prefix), format, arguments);
        va_end(arguments);
        fail_prefix(err, prefix);
    }
    return rc;
}

// The list with room for one more; NULL when there is no memory.
static void *grown(struct call *call, void *list, size_t n, size_t *capacity, size_t element_size,
                   struct carat_error *err)
{
    if (n < *capacity) {
        return list;
    }
    size_t new_capacity = *capacity == 0 ? 4 : 2 * *capacity;
    void *new_list = call_take(call, new_capacity * element_size, err);
    if (new_list) {
        if (n > 0) {
            memcpy(new_list, list, n * element_size);
        }
        *capacity = new_capacity;
    }
    return new_list;
}

int content_begin(struct content *c, struct slice role, struct carat_error *err)
{
    if (c->n >= CONTENT_MESSAGES_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "expected at most %d messages", CONTENT_MESSAGES_MAX);
    }
    struct content_message *m = call_take(c->call, sizeof(*m), err);
    if (!m) {
        return CARAT_E_MEMORY;
    }
    m->message.role = call_text(c->call, role, err);
    if (!m->message.role) {
        return CARAT_E_MEMORY;
    }
    m->previous = c->last;
    if (c->last) {
        c->last->next = m;
    } else {
        c->first = m;
    }
    c->last = m;
    c->n++;
    return 0;
}

static int add_part(struct content *c, struct carat_part part, struct carat_error *err)
{
    struct content_message *m = c->last;
    require(m);
    if (m->message.n_parts >= CONTENT_PARTS_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "expected at most %d parts in a message",
                    CONTENT_PARTS_MAX);
    }
    struct carat_part *parts =
        grown(c->call, m->parts, m->message.n_parts, &m->part_capacity, sizeof(*parts), err);
    if (!parts) {
        return CARAT_E_MEMORY;
    }
    m->parts = parts;
    m->parts[m->message.n_parts++] = part;
    return 0;
}

int content_text(struct content *c, struct slice text, struct carat_error *err)
{
    const char *copy = call_text(c->call, text, err);
    if (!copy) {
        return CARAT_E_MEMORY;
    }
    return add_part(
        c, (struct carat_part){.type = CARAT_PART_TEXT, .text = copy, .text_size = text.size}, err);
}

// Whether white space would stand between the two texts as they are.
static bool has_gap(const struct carat_part *last, struct slice text)
{
    char before = last->text_size ? last->text[last->text_size - 1] : ' ';
    char after = text.size ? text.data[0] : ' ';
    return strchr(" \n\t\r", before) || strchr(" \n\t\r", after);
}

int content_joined_text(struct content *c, struct slice text, const char *separator,
                        struct carat_error *err)
{
    struct content_message *m = c->last;
    require(m);
    struct carat_part *last = m->message.n_parts ? &m->parts[m->message.n_parts - 1] : NULL;
    if (!last || last->type != CARAT_PART_TEXT) {
        return content_text(c, text, err);
    }
    size_t gap = has_gap(last, text) ? 0 : strlen(separator);
    size_t size;
    if (!size_add(&size, last->text_size, gap) || !size_add(&size, size, text.size) ||
        size > SIZE_MAX / 4) {
        return fail(err, CARAT_E_MEMORY, "no memory for a text of %zu bytes", text.size);
    }
    if (m->text != last->text || size >= m->text_capacity) {
        char *grown_text = call_take(c->call, 2 * size + 1, err);
        if (!grown_text) {
            return CARAT_E_MEMORY;
        }
        memcpy(grown_text, last->text, last->text_size);
        m->text = grown_text;
        m->text_capacity = 2 * size + 1;
    }
    memcpy(m->text + last->text_size, separator, gap);
    if (text.size) {
        memcpy(m->text + last->text_size + gap, text.data, text.size);
    }
    m->text[size] = '\0';
    last->text = m->text;
    last->text_size = size;
    return 0;
}

int content_result(struct content *c, const struct json_value *v, struct carat_error *err)
{
    const char *text = call_json(c->call, v, err);
    if (!text) {
        return CARAT_E_MEMORY;
    }
    return add_part(c, (struct carat_part){.type = CARAT_PART_JSON, .text = text}, err);
}

int content_reasoning(struct content *c, struct slice text, struct carat_error *err)
{
    struct content_message *m = c->last;
    require(m);
    size_t size;
    if (!size_add(&size, m->reasoning_size, text.size) || size > SIZE_MAX / 4) {
        return fail(err, CARAT_E_MEMORY, "no memory for a text of %zu bytes", text.size);
    }
    if (!m->reasoning || size >= m->reasoning_capacity) {
        size_t capacity = 2 * size + 1;
        char *reasoning = call_take(c->call, capacity, err);
        if (!reasoning) {
            return CARAT_E_MEMORY;
        }
        if (m->reasoning_size > 0) {
            memcpy(reasoning, m->reasoning, m->reasoning_size);
        }
        m->reasoning = reasoning;
        m->reasoning_capacity = capacity;
    }
    if (text.size > 0) {
        memcpy(m->reasoning + m->reasoning_size, text.data, text.size);
    }
    m->reasoning_size = size;
    m->message.reasoning = m->reasoning;
    return 0;
}

void content_is_list(struct content *c)
{
    require(c->last);
    c->last->message.is_part_list = true;
}

// ------------------------------------------------------------------------------ media

int content_media(struct content *c, enum carat_media_type type, struct slice file, uint32_t tokens,
                  struct carat_error *err)
{
    static const enum carat_part_type part_types[] = {
        [CARAT_MEDIA_IMAGE] = CARAT_PART_IMAGE,
        [CARAT_MEDIA_AUDIO] = CARAT_PART_AUDIO,
        [CARAT_MEDIA_VIDEO] = CARAT_PART_VIDEO,
    };
    if (file.size == 0) {
        return fail(err, CARAT_E_ARGUMENT, "expected the bytes of a file, found none");
    }
    struct carat_media_source source = {
        .type = type, .data = file.data, .size = file.size, .image_tokens = tokens};
    const struct carat_media *media;
    int rc = call_add_media(c->call, &source, &media, err);
    if (rc) {
        return rc;
    }
    return add_part(c, (struct carat_part){.type = part_types[type], .media = media}, err);
}

int content_media_base64(struct content *c, enum carat_media_type type, struct slice base64,
                         uint32_t tokens, struct carat_error *err)
{
    struct buf file = {0};
    int rc = base64_decode(&file, base64, err);
    if (!rc) {
        rc = content_media(c, type, slice_make(buf_text(&file), file.size), tokens, err);
    }
    buf_release(&file);
    return rc;
}

int content_media_url(struct content *c, enum carat_media_type type, struct slice url,
                      uint32_t tokens, struct carat_error *err)
{
    struct slice file;
    int rc = call_read_url(c->call, url, &file, err);
    return rc ? rc : content_media(c, type, file, tokens, err);
}

// ------------------------------------------------------------------------------ files

enum file_kind {
    FILE_UNKNOWN = 0, // look further
    FILE_IMAGE,
    FILE_AUDIO,
    FILE_VIDEO,
    FILE_TEXT,
    FILE_OTHER, // known, and not readable
};

// Small ASCII letters, without the parameters ("; charset=..."), terminated.
static void plain_mime(struct slice mime, char out[MIME_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < mime.size && n + 1 < MIME_MAX && mime.data[i] != ';'; i++) {
        char letter = mime.data[i];
        if (letter != ' ' && letter != '\t') {
            out[n++] = letter >= 'A' && letter <= 'Z' ? (char)(letter + 32) : letter;
        }
    }
    out[n] = '\0';
}

struct kind_row {
    const char *text;
    enum file_kind kind;
};

static enum file_kind kind_of_mime(struct slice mime)
{
    // Beginnings, in this order.
    static const struct kind_row rows[] = {
        {"image/svg", FILE_OTHER},
        {"image/", FILE_IMAGE},
        {"audio/", FILE_AUDIO},
        {"video/", FILE_VIDEO},
        {"application/ogg", FILE_AUDIO},
        {"application/mp4", FILE_VIDEO},
        {"text/", FILE_TEXT},
        {"application/json", FILE_TEXT},
        {"application/xml", FILE_TEXT},
        {"application/yaml", FILE_TEXT},
        {"application/x-yaml", FILE_TEXT},
        {"application/toml", FILE_TEXT},
        {"application/javascript", FILE_TEXT},
        {"application/x-javascript", FILE_TEXT},
        {"application/typescript", FILE_TEXT},
        {"application/x-sh", FILE_TEXT},
        {"application/x-python", FILE_TEXT},
        {"application/sql", FILE_TEXT},
        {"application/octet-stream", FILE_UNKNOWN},
        {"application/", FILE_OTHER},
    };
    char plain[MIME_MAX];
    plain_mime(mime, plain);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strncmp(plain, rows[i].text, strlen(rows[i].text)) == 0) {
            return rows[i].kind;
        }
    }
    return FILE_UNKNOWN;
}

static enum file_kind kind_of_name(struct slice name)
{
    // clang-format off
    static const struct kind_row rows[] = {
        {"png", FILE_IMAGE}, {"jpg", FILE_IMAGE}, {"jpeg", FILE_IMAGE}, {"gif", FILE_IMAGE},
        {"webp", FILE_IMAGE}, {"bmp", FILE_IMAGE}, {"tif", FILE_IMAGE}, {"tiff", FILE_IMAGE},
        {"heic", FILE_IMAGE}, {"heif", FILE_IMAGE}, {"avif", FILE_IMAGE}, {"ppm", FILE_IMAGE},
        {"wav", FILE_AUDIO}, {"mp3", FILE_AUDIO}, {"flac", FILE_AUDIO}, {"ogg", FILE_AUDIO},
        {"oga", FILE_AUDIO}, {"opus", FILE_AUDIO}, {"m4a", FILE_AUDIO}, {"aac", FILE_AUDIO},
        {"mp4", FILE_VIDEO}, {"m4v", FILE_VIDEO}, {"mov", FILE_VIDEO}, {"webm", FILE_VIDEO},
        {"mkv", FILE_VIDEO}, {"pdf", FILE_OTHER}, {"doc", FILE_OTHER}, {"docx", FILE_OTHER},
        {"xls", FILE_OTHER}, {"xlsx", FILE_OTHER}, {"ppt", FILE_OTHER}, {"pptx", FILE_OTHER},
        {"zip", FILE_OTHER},
    };
    // clang-format on
    char extension[8] = "";
    size_t dot = name.size;
    while (dot > 0 && name.data[dot - 1] != '.') {
        dot--;
    }
    if (dot == 0 || name.size - dot >= sizeof(extension)) {
        return FILE_UNKNOWN;
    }
    for (size_t i = dot; i < name.size; i++) {
        char letter = name.data[i];
        extension[i - dot] = letter >= 'A' && letter <= 'Z' ? (char)(letter + 32) : letter;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(extension, rows[i].text) == 0) {
            return rows[i].kind;
        }
    }
    return FILE_UNKNOWN;
}

static enum file_kind kind_of_bytes(struct slice file)
{
    static const struct {
        size_t at;
        struct kind_row row;
    } rows[] = {
        {0, {"\x89PNG", FILE_IMAGE}},  {0, {"\xff\xd8\xff", FILE_IMAGE}},
        {0, {"GIF8", FILE_IMAGE}},     {8, {"WEBP", FILE_IMAGE}},
        {4, {"ftypheic", FILE_IMAGE}}, {4, {"ftypmif1", FILE_IMAGE}},
        {4, {"ftypavif", FILE_IMAGE}}, {8, {"WAVE", FILE_AUDIO}},
        {0, {"fLaC", FILE_AUDIO}},     {0, {"OggS", FILE_AUDIO}},
        {0, {"ID3", FILE_AUDIO}},      {4, {"ftypM4A", FILE_AUDIO}},
        {4, {"ftyp", FILE_VIDEO}},     {0, {"\x1a\x45\xdf\xa3", FILE_VIDEO}},
        {0, {"%PDF", FILE_OTHER}},     {0, {"PK\x03\x04", FILE_OTHER}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t n = strlen(rows[i].row.text);
        if (file.size >= rows[i].at + n &&
            memcmp(file.data + rows[i].at, rows[i].row.text, n) == 0) {
            return rows[i].row.kind;
        }
    }
    bool has_zero = file.size > 0 && memchr(file.data, '\0', file.size) != NULL;
    return !has_zero && utf8_is_valid(file.data, file.size) ? FILE_TEXT : FILE_OTHER;
}

bool content_type_of(struct slice mime, enum carat_media_type *out)
{
    switch (kind_of_mime(mime)) {
    case FILE_IMAGE:
        *out = CARAT_MEDIA_IMAGE;
        return true;
    case FILE_AUDIO:
        *out = CARAT_MEDIA_AUDIO;
        return true;
    case FILE_VIDEO:
        *out = CARAT_MEDIA_VIDEO;
        return true;
    default:
        return false;
    }
}

static int refuse_file(struct slice file, struct slice mime, struct carat_error *err)
{
    if (slice_starts(file, "%PDF") || slice_starts(mime, "application/pdf")) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "PDF files are not read: expected a picture, sound, film or text; send the "
                    "pages as pictures, or their text");
    }
    char plain[MIME_MAX];
    plain_mime(mime, plain);
    return fail(err, CARAT_E_UNSUPPORTED,
                "expected a picture, sound, film or text file, found %s%s",
                plain[0] ? "one of type " : "a file of another kind", plain);
}

int content_file(struct content *c, struct slice file, struct slice mime, struct slice name,
                 uint32_t tokens, struct carat_error *err)
{
    enum file_kind kind = kind_of_mime(mime);
    kind = kind == FILE_UNKNOWN ? kind_of_name(name) : kind;
    kind = kind == FILE_UNKNOWN ? kind_of_bytes(file) : kind;
    switch (kind) {
    case FILE_IMAGE:
        return content_media(c, CARAT_MEDIA_IMAGE, file, tokens, err);
    case FILE_AUDIO:
        return content_media(c, CARAT_MEDIA_AUDIO, file, tokens, err);
    case FILE_VIDEO:
        return content_media(c, CARAT_MEDIA_VIDEO, file, tokens, err);
    case FILE_TEXT:
        if (!utf8_is_valid(file.data, file.size)) {
            return fail(err, CARAT_E_FORMAT,
                        "expected the file's text in UTF-8, found other bytes");
        }
        return content_joined_text(c, file, "\n\n", err);
    default:
        return refuse_file(file, mime, err);
    }
}

int content_file_base64(struct content *c, struct slice base64, struct slice mime,
                        struct slice name, uint32_t tokens, struct carat_error *err)
{
    struct buf file = {0};
    int rc = base64_decode(&file, base64, err);
    if (!rc) {
        rc = content_file(c, slice_make(buf_text(&file), file.size), mime, name, tokens, err);
    }
    buf_release(&file);
    return rc;
}

// The MIME type in a data: address; empty for other addresses.
static struct slice mime_of_url(struct slice url)
{
    static const size_t scheme = 5; // "data:"
    if (!slice_starts(url, "data:")) {
        return (struct slice){0};
    }
    size_t end = scheme;
    while (end < url.size && url.data[end] != ';' && url.data[end] != ',') {
        end++;
    }
    return slice_make(url.data + scheme, end - scheme);
}

int content_file_url(struct content *c, struct slice url, struct slice mime, struct slice name,
                     uint32_t tokens, struct carat_error *err)
{
    struct slice file;
    int rc = call_read_url(c->call, url, &file, err);
    if (rc) {
        return rc;
    }
    struct slice told = mime_of_url(url);
    return content_file(c, file, told.size > 0 ? told : mime, name, tokens, err);
}

// ------------------------------------------------------------------------------ calls

// Arguments are an object: the templates and the replay both depend on it.
static int check_arguments(const char *arguments, struct carat_error *err)
{
    struct json_doc *doc = NULL;
    int rc = json_parse(&doc, arguments, strlen(arguments), "arguments", err);
    if (!rc && json_kind(json_root(doc)) != JSON_OBJECT) {
        rc = fail(err, CARAT_E_ARGUMENT, "arguments: expected a JSON object, found %s",
                  json_kind_name(json_kind(json_root(doc))));
    }
    json_free(doc);
    return rc;
}

static int check_name(struct slice name, struct carat_error *err)
{
    if (name.size == 0 || name.size > TOOL_NAME_MAX) {
        return fail(err, CARAT_E_ARGUMENT,
                    "name: expected the name of a tool, 1 to %d bytes, found %zu", TOOL_NAME_MAX,
                    name.size);
    }
    for (size_t i = 0; i < name.size; i++) {
        unsigned char letter = (unsigned char)name.data[i];
        if (letter <= ' ' || letter == '{' || letter == '}' || letter == 127) {
            return fail(err, CARAT_E_ARGUMENT,
                        "name: expected the name of a tool, found '%.*s': white space and braces "
                        "cannot stand in it",
                        (int)name.size, name.data);
        }
    }
    return 0;
}

int content_call(struct content *c, struct slice id, struct slice name, const char *arguments,
                 struct carat_error *err)
{
    struct content_message *m = c->last;
    require(m);
    if (m->message.n_calls >= CONTENT_CALLS_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "expected at most %d calls in a message",
                    CONTENT_CALLS_MAX);
    }
    int rc = check_name(name, err);
    if (rc) {
        return rc;
    }
    bool has_arguments = arguments && utf8_trim(slice_of(arguments)).size > 0;
    rc = has_arguments ? check_arguments(arguments, err) : 0;
    if (rc) {
        return rc;
    }
    struct carat_tool_call call = {0};
    call.id = call_text(c->call, id, err);
    call.name = call.id ? call_text(c->call, name, err) : NULL;
    const char *copy =
        call.name ? call_text(c->call, slice_of(has_arguments ? arguments : "{}"), err) : NULL;
    struct carat_tool_call *calls =
        copy ? grown(c->call, m->calls, m->message.n_calls, &m->call_capacity, sizeof(*calls), err)
             : NULL;
    if (!calls) {
        return CARAT_E_MEMORY;
    }
    call.arguments = copy;
    call.sampled = id.size > 0 ? call_recall(c->call, id, call.name, copy) : NULL;
    m->calls = calls;
    m->calls[m->message.n_calls++] = call;
    return 0;
}

// The newest call of that id before the current message; NULL when there is none.
static const char *name_of_call(const struct content *c, struct slice id)
{
    size_t n = 0;
    for (const struct content_message *m = c->last; m && n < CALLS_LOOKED_AT_MAX;
         m = m->previous, n++) {
        for (size_t i = m->message.n_calls; i > 0; i--, n++) {
            if (slice_is(id, m->calls[i - 1].id)) {
                return m->calls[i - 1].name;
            }
        }
    }
    return NULL;
}

int content_answers(struct content *c, struct slice id, struct slice name, struct carat_error *err)
{
    struct carat_message *m = c->last ? &c->last->message : NULL;
    require(m);
    if (id.size > 0) {
        m->tool_call_id = call_text(c->call, id, err);
        if (!m->tool_call_id) {
            return CARAT_E_MEMORY;
        }
    }
    if (name.size == 0) {
        m->name = id.size > 0 ? name_of_call(c, id) : NULL;
        return 0;
    }
    m->name = call_text(c->call, name, err);
    return m->name ? 0 : CARAT_E_MEMORY;
}

int content_finish(struct content *c, struct carat_error *err)
{
    struct carat_message *messages = call_take(c->call, (c->n + 1) * sizeof(*messages), err);
    if (!messages) {
        return CARAT_E_MEMORY;
    }
    size_t n = 0;
    for (struct content_message *m = c->first; m; m = m->next) {
        m->message.parts = m->parts;
        m->message.calls = m->calls;
        messages[n++] = m->message;
    }
    c->call->ask.chat.messages = messages;
    c->call->ask.chat.n_messages = n;
    return content_fit(c->call, carat_chat_template_name(c->call->server->engine), err);
}

// ------------------------------------------------------------------------------ tools

int tool_list_add(struct tool_list *t, struct slice name, struct slice description,
                  const struct json_value *parameters, bool is_strict, struct carat_error *err)
{
    if (t->n >= CONTENT_TOOLS_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "expected at most %d tools", CONTENT_TOOLS_MAX);
    }
    int rc = check_name(name, err);
    if (rc) {
        return rc;
    }
    enum json_kind kind = json_kind(parameters);
    if (kind != JSON_ABSENT && kind != JSON_NULL && kind != JSON_OBJECT) {
        return fail(err, CARAT_E_ARGUMENT, "parameters: expected a JSON Schema object, found %s",
                    json_kind_name(kind));
    }
    buf_adds(&t->json, t->n == 0 ? "[" : ",");
    buf_adds(&t->json, "{\"type\":\"function\",\"function\":{\"name\":");
    buf_add_json(&t->json, name.data, name.size);
    if (description.size > 0) {
        buf_adds(&t->json, ",\"description\":");
        buf_add_json(&t->json, description.data, description.size);
    }
    if (kind == JSON_OBJECT) {
        buf_adds(&t->json, ",\"parameters\":");
        json_write(parameters, &t->json);
    }
    buf_adds(&t->json, is_strict ? ",\"strict\":true}}" : "}}");
    t->n++;
    return buf_status(&t->json, err);
}

// Looks for the name among what was added.
static int find_tool(const char *tools, struct slice name, bool *out, struct carat_error *err)
{
    struct json_doc *doc = NULL;
    int rc = json_parse(&doc, tools, strlen(tools), "tools", err);
    if (rc) {
        return rc;
    }
    *out = false;
    for (struct json_iter it = json_iter(json_root(doc)); json_next(&it);) {
        const struct json_value *found = json_get(json_get(it.value, "function"), "name");
        *out = *out || slice_equal(json_string(found), name);
    }
    json_free(doc);
    return 0;
}

int tool_list_finish(struct tool_list *t, struct call *call, enum carat_tool_choice choice,
                     struct slice name, bool is_single, struct carat_error *err)
{
    if (t->n == 0) {
        return choice == CARAT_TOOLS_REQUIRED
                   ? fail(err, CARAT_E_ARGUMENT,
                          "tool_choice: expected tools to choose from, found none")
                   : 0;
    }
    buf_adds(&t->json, "]");
    int rc = buf_status(&t->json, err);
    const char *tools =
        rc ? NULL : call_text(call, slice_make(buf_text(&t->json), t->json.size), err);
    if (!tools) {
        return rc ? rc : CARAT_E_MEMORY;
    }
    struct ask *ask = &call->ask;
    if (choice == CARAT_TOOLS_REQUIRED && name.size > 0) {
        bool is_there = false;
        rc = find_tool(tools, name, &is_there, err);
        if (!rc && !is_there) {
            rc = fail(err, CARAT_E_ARGUMENT, "tool_choice: no tool has the name '%.*s'",
                      (int)(name.size < TOOL_NAME_MAX ? name.size : TOOL_NAME_MAX), name.data);
        }
        ask->grammar.tool_name = rc ? NULL : call_text(call, name, err);
        if (!ask->grammar.tool_name) {
            return rc ? rc : CARAT_E_MEMORY;
        }
    }
    ask->chat.tools = tools;
    ask->grammar.tools = tools;
    ask->grammar.tool_choice = choice;
    ask->grammar.is_single_call = is_single;
    ask->has_grammar = true;
    return 0;
}

void tool_list_release(struct tool_list *t)
{
    buf_release(&t->json);
}
