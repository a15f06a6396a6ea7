// SPDX-License-Identifier: Apache-2.0
#include "server/multipart.h"

#include <string.h>

#include "base/error.h"

static const char form_type[] = "multipart/form-data";

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

// Whether the text begins with the word, which is in small letters, in any case.
static bool begins_with(struct slice text, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i < n; i++) {
        if (i >= text.size || lower(text.data[i]) != word[i]) {
            return false;
        }
    }
    return true;
}

static struct slice skip(struct slice text, size_t n)
{
    n = n < text.size ? n : text.size;
    return slice_make(text.data + n, text.size - n);
}

static struct slice skip_space(struct slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = skip(text, 1);
    }
    return text;
}

// ------------------------------------------------------------------------------ parameters

static int hex(char c)
{
    char l = lower(c);
    return c >= '0' && c <= '9' ? c - '0' : l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

// A quoted string after its first quote, or a token; what was read is taken off *text. Browsers
// write quotes and line ends in names as %22, %0D and %0A, others escape them by a backslash.
static void read_value(struct slice *text, bool is_quoted, char *out, size_t size)
{
    size_t i = 0, n = 0;
    for (; i < text->size; i++) {
        char c = text->data[i];
        if (is_quoted ? c == '"' : c == ';' || c == ' ' || c == '\t') {
            break;
        }
        int high = c == '%' && i + 2 < text->size ? hex(text->data[i + 1]) : -1;
        int low = high >= 0 ? hex(text->data[i + 2]) : -1;
        if (is_quoted && low >= 0) {
            c = (char)(high * 16 + low);
            i += 2;
        } else if (is_quoted && c == '\\' && i + 1 < text->size) {
            c = text->data[++i];
        }
        if (n + 1 < size && c != '\0') {
            out[n++] = c;
        }
    }
    out[n] = '\0';
    *text = skip(*text, i + (is_quoted && i < text->size));
}

// The parameter of a header's value ("form-data; name=\"file\"; filename=..."); false: not there.
static bool find_parameter(struct slice value, const char *name, char *out, size_t size)
{
    char ignored[2];
    bool is_found = false;
    while (value.size > 0 && !is_found) {
        // To the next semicolon; quoted strings are read as values and never get here.
        const char *semicolon = memchr(value.data, ';', value.size);
        if (!semicolon) {
            return false;
        }
        value = skip_space(skip(value, (size_t)(semicolon - value.data) + 1));
        bool is_it = begins_with(value, name) && skip(value, strlen(name)).size > 0 &&
                     value.data[strlen(name)] == '=';
        const char *equals = value.size > 0 ? memchr(value.data, '=', value.size) : NULL;
        const char *end = value.size > 0 ? memchr(value.data, ';', value.size) : NULL;
        if (!equals || (end && end < equals)) {
            continue;
        }
        value = skip(value, (size_t)(equals - value.data) + 1);
        bool is_quoted = value.size > 0 && value.data[0] == '"';
        value = skip(value, is_quoted);
        read_value(&value, is_quoted, is_it ? out : ignored, is_it ? size : sizeof(ignored));
        is_found = is_it;
    }
    return is_found;
}

// ------------------------------------------------------------------------------ beginning

bool multipart_is(const char *content_type)
{
    return begins_with(slice_of(content_type), form_type);
}

// Where the text begins from `at` on; the body's size when it does not.
static size_t find(struct slice body, size_t at, struct slice text)
{
    while (at < body.size && body.size - at >= text.size) {
        const char *first = memchr(body.data + at, text.data[0], body.size - at - text.size + 1);
        if (!first) {
            break;
        }
        at = (size_t)(first - body.data);
        if (memcmp(first, text.data, text.size) == 0) {
            return at;
        }
        at++;
    }
    return body.size;
}

static struct slice delimiter_of(const struct multipart *m)
{
    return slice_make(m->delimiter, m->delimiter_size);
}

int multipart_begin(struct multipart *m, const char *content_type, struct slice body,
                    struct carat_error *err)
{
    char boundary[MULTIPART_BOUNDARY_MAX + 2] = "";
    if (!multipart_is(content_type)) {
        return fail(err, CARAT_E_ARGUMENT, "expected a form (Content-Type: %s), found '%.60s'",
                    form_type, content_type);
    }
    find_parameter(slice_of(content_type), "boundary", boundary, sizeof(boundary));
    size_t size = strlen(boundary);
    if (size == 0 || size > MULTIPART_BOUNDARY_MAX) {
        return fail(err, CARAT_E_FORMAT,
                    "Content-Type: expected a boundary of 1 to %d bytes, found %zu%s",
                    MULTIPART_BOUNDARY_MAX, size, size > MULTIPART_BOUNDARY_MAX ? " or more" : "");
    }
    *m = (struct multipart){.body = body, .delimiter_size = size + 4};
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, boundary, size);
    // The first one may stand at the very beginning, without a line end before it.
    struct slice first = skip(delimiter_of(m), 2);
    if (body.size >= first.size && memcmp(body.data, first.data, first.size) == 0) {
        m->at = first.size;
        return 0;
    }
    size_t at = find(body, 0, delimiter_of(m));
    if (at == body.size) {
        return fail(err, CARAT_E_FORMAT, "the form does not hold its boundary");
    }
    m->at = at + m->delimiter_size;
    return 0;
}

// ------------------------------------------------------------------------------ parts

static int fail_part(const struct multipart *m, const char *what, struct carat_error *err)
{
    return fail(err, CARAT_E_FORMAT, "part %zu of the form: %s", m->n_parts, what);
}

// Behind a delimiter: "--" ends the form, else a line end begins a part. 1, 0 or an error.
static int after_delimiter(struct multipart *m, struct carat_error *err)
{
    struct slice rest = skip(m->body, m->at);
    if (slice_starts(rest, "--")) {
        m->has_ended = true;
        return 0;
    }
    rest = skip_space(rest);
    if (!slice_starts(rest, "\r\n")) {
        return fail_part(m, "expected a line end behind the boundary", err);
    }
    m->at = (size_t)(rest.data - m->body.data);
    return 1;
}

static void read_header(struct multipart_part *part, struct slice line, bool *has_name)
{
    static const char disposition[] = "content-disposition:";
    static const char type[] = "content-type:";
    if (begins_with(line, disposition)) {
        struct slice value = skip_space(skip(line, sizeof(disposition) - 1));
        if (begins_with(value, "form-data")) {
            *has_name = find_parameter(value, "name", part->name, sizeof(part->name));
            find_parameter(value, "filename", part->filename, sizeof(part->filename));
        }
    } else if (begins_with(line, type)) {
        part->content_type = utf8_trim(skip(line, sizeof(type) - 1));
    }
}

// From the line end before the first header to the data.
static int read_headers(struct multipart *m, struct multipart_part *part, struct carat_error *err)
{
    const struct slice line_end = slice_of("\r\n");
    size_t start = m->at;
    bool has_name = false;
    for (size_t n = 0; n <= MULTIPART_HEADERS_MAX; n++) {
        size_t line = m->at + line_end.size;
        struct slice head = m->body;
        if (head.size - start > MULTIPART_HEADER_MAX) {
            head.size = start + MULTIPART_HEADER_MAX;
        }
        size_t end = find(head, line, line_end);
        if (end == head.size) {
            return fail_part(m, "its headers do not end, or are too long", err);
        }
        m->at = end;
        if (end == line) {
            m->at = end + line_end.size;
            return has_name
                       ? 0
                       : fail_part(m, "expected Content-Disposition: form-data with a name", err);
        }
        read_header(part, slice_make(m->body.data + line, end - line), &has_name);
    }
    return fail_part(m, "it has too many headers", err);
}

int multipart_next(struct multipart *m, struct multipart_part *out, struct carat_error *err)
{
    if (m->has_ended) {
        return 0;
    }
    int rc = after_delimiter(m, err);
    if (rc <= 0) {
        return rc;
    }
    if (m->n_parts == MULTIPART_PARTS_MAX) {
        return fail(err, CARAT_E_FORMAT, "the form has more than %d parts", MULTIPART_PARTS_MAX);
    }
    m->n_parts++;
    *out = (struct multipart_part){0};
    rc = read_headers(m, out, err);
    if (rc) {
        return rc;
    }
    // An empty part's delimiter begins with the line end that ends its headers.
    size_t end = find(m->body, m->at - 2, delimiter_of(m));
    if (end == m->body.size) {
        return fail_part(m, "it does not end: the form was cut off", err);
    }
    out->data = slice_make(m->body.data + m->at, end > m->at ? end - m->at : 0);
    m->at = end + m->delimiter_size;
    return 1;
}
