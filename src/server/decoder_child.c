// SPDX-License-Identifier: Apache-2.0
// The decoder's own process: takes one file after the other, until its server closes the socket.
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/os_child.h"
#include "server/decoder.h"
#include "server/decoder_words.h"

#define WORKING_SECONDS 1.0                   // between two signs of life
#define MEMORY_SPARE    ((uint64_t)256 << 20) // for stacks of threads, tables, what is cut up

struct child {
    struct os_child server;
    struct os_patience patience; // for ever: the server's end is the child's
    struct decoder_request request;
    bool is_confined;
    double told; // os_seconds() of the last sign of life
};

static int say(struct child *c, enum decoder_answer_kind kind, int status, size_t size,
               struct carat_error *err)
{
    const struct decoder_answer answer = {.number = c->request.number,
                                          .kind = (uint32_t)kind,
                                          .status = status,
                                          .size = (uint32_t)size};
    return os_child_send(&c->server, &answer, sizeof(answer), &c->patience, err);
}

static bool on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    struct child *c = user;
    (void)what;
    (void)done;
    (void)total;
    const double now = os_seconds();
    if (now < c->told + WORKING_SECONDS) {
        return true;
    }
    c->told = now;
    return say(c, DECODER_WORKING, 0, 0, NULL) == 0;
}

static int put(void *user, const void *data, size_t size, struct carat_error *err)
{
    struct child *c = user;
    return os_child_send(&c->server, data, size, &c->patience, err);
}

static int answer(struct child *c, const void *file, struct carat_error *err)
{
    struct carat_media *media = NULL;
    struct carat_error why = {0};
    struct carat_media_source source = c->request.source;
    source.data = file;
    source.size = (size_t)c->request.size;
    source.on_progress = on_progress;
    source.user = c;
    c->told = os_seconds();
    int rc;
    if (carat_media_new(&media, &source, &why)) {
        const size_t size = strlen(why.text);
        rc = say(c, DECODER_REFUSED, why.status, size, err);
        rc = rc ? rc : put(c, why.text, size, err);
    } else {
        rc = say(c, DECODER_DONE, 0, 0, err);
        rc = rc ? rc : carat_media_write(media, put, c, err);
        rc = rc ? rc : put(c, &c->request.number, sizeof(c->request.number), err);
    }
    carat_media_free(media);
    return rc;
}

// The limits are the server's, the same for every medium: the first one brings them. The file is
// held twice: decoders get a copy of the part that they need.
static void confine(struct child *c)
{
    const struct carat_media_limits *l = &c->request.source.limits;
    if (!c->is_confined) {
        const uint64_t memory = l->memory_max > 0 ? l->memory_max : DECODER_MEMORY_DEFAULT;
        const uint64_t file = l->file_size_max > 0 ? l->file_size_max : DECODER_FILE_DEFAULT;
        os_child_confine(memory + 2 * file + MEMORY_SPARE);
        c->is_confined = true;
    }
    os_child_allow_cpu(c->request.cpu_seconds);
}

static int take_one(struct child *c, struct carat_error *err)
{
    int rc = os_child_receive(&c->server, &c->request, sizeof(c->request), &c->patience, err);
    if (rc) {
        return rc;
    }
    confine(c);
    if (c->request.size > SIZE_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "a file that is too large");
    }
    void *file = mem_new((size_t)c->request.size, err);
    rc = file ? os_child_receive(&c->server, file, (size_t)c->request.size, &c->patience, err)
              : CARAT_E_MEMORY;
    rc = rc ? rc : answer(c, file, err);
    mem_free(file);
    return rc;
}

int decoder_serve(struct carat_error *err)
{
    struct child c = {.is_confined = false};
    int rc = os_child_begin(&c.server, err);
    if (rc) {
        return rc;
    }
    // Libraries that look for parts of theirs in the file system do so now, not behind the filter.
    (void)carat_media_has("heif");
    while (take_one(&c, err) == 0) {
    }
    // The server is gone, or wants no more.
    os_child_leave(0);
}
