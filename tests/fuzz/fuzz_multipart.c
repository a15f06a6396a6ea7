// SPDX-License-Identifier: Apache-2.0
// Random forms. The first line of the input is the Content-Type, the rest the body. What comes out
// lies inside the body, in order, does not hold the delimiter, and is the same when it is put
// together again.
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "server/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool holds(struct slice text, const char *what, size_t size)
{
    for (size_t i = 0; i + size <= text.size; i++) {
        if (memcmp(text.data + i, what, size) == 0) {
            return true;
        }
    }
    return false;
}

static void check_part(const struct multipart *m, const struct multipart_part *part, size_t at)
{
    require(strlen(part->name) <= MULTIPART_NAME_MAX);
    require(strlen(part->filename) <= MULTIPART_NAME_MAX);
    require(part->data.data >= m->body.data + at);
    require(part->data.data + part->data.size <= m->body.data + m->body.size);
    require(!holds(part->data, m->delimiter, m->delimiter_size));
    if (part->content_type.size > 0) {
        require(part->content_type.data > m->body.data);
        require(part->content_type.data + part->content_type.size <= part->data.data);
    }
}

// Reads the form; the parts' names and data go to out as a new form.
static int read_form(const char *content_type, struct slice body, struct buf *out,
                     struct carat_error *err)
{
    struct multipart m;
    struct multipart_part part;
    int rc = multipart_begin(&m, content_type, body, err);
    if (rc) {
        return rc;
    }
    size_t n = 0, at = m.at;
    require(at <= body.size);
    while ((rc = multipart_next(&m, &part, err)) > 0) {
        check_part(&m, &part, at);
        require(m.at > at);
        require(m.at <= body.size);
        at = m.at;
        require(++n <= MULTIPART_PARTS_MAX);
        buf_add(out, m.delimiter + (n == 1 ? 2 : 0), m.delimiter_size - (n == 1 ? 2 : 0));
        buf_addf(out, "\r\nContent-Disposition: form-data; name=\"part%zu\"\r\n\r\n", n);
        buf_add_slice(out, part.data);
    }
    if (rc == 0 && n > 0) {
        buf_add(out, m.delimiter, m.delimiter_size);
        buf_adds(out, "--\r\n");
    }
    require(rc == 0 || err->text[0]);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t type_size = end ? (size_t)(end - data) : 0;
    // In blocks of their own, so that a sanitizer sees a read behind them.
    char *type = mem_strndup((const char *)data, type_size, NULL);
    size_t body_size = end ? size - type_size - 1 : size;
    char *body = mem_new(body_size + 1, NULL);
    require(type);
    require(body);
    if (body_size > 0) {
        memcpy(body, end ? end + 1 : data, body_size);
    }
    struct buf again = {0}, third = {0};
    struct carat_error err = {0};
    if (read_form(type, slice_make(body, body_size), &again, &err) == 0 && again.size > 0) {
        require(read_form(type, slice_make(again.data, again.size), &third, &err) == 0);
        require(again.size == third.size);
        require(memcmp(again.data, third.data, third.size) == 0);
    }
    buf_release(&again);
    buf_release(&third);
    mem_free(body);
    mem_free(type);
    return 0;
}
