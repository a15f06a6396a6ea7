// SPDX-License-Identifier: Apache-2.0
#include "cli/pull_fit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "base/os_file.h"
#include "formats/gguf.h"
#include "formats/source.h"

#define GGUF_FIRST  ((uint64_t)1 << 20)   // bytes of a header that are asked for at first
#define HEADER_MAX  ((uint64_t)128 << 20) // and at most
#define SMALL_MAX   ((uint64_t)1 << 20)   // bytes of a tensor
#define TENSORS_MAX ((uint64_t)100 << 20) // of the header of safetensors
#define CONTEXT_MIN 4096
#define CONTEXT_MAX ((uint64_t)1 << 30)

struct sketch {
    const struct store *store;
    struct http *http;
    const struct hub *hub;
    const struct hub_repo *repo;
    struct buf folder;
};

uint64_t fit_room(void)
{
    return os_memory_total();
}

void fit_estimate(struct fit *out, const char *path, const char *projector)
{
    struct carat_engine_options engine = {.model = path, .projector = projector};
    *out = (struct fit){.n = 0};
    struct carat_memory usual; // what a session takes when nothing is said
    int rc = carat_estimate(&usual, &engine, &(struct carat_session_options){0}, &out->reason);
    for (uint64_t n = CONTEXT_MIN; rc == 0 && n < CONTEXT_MAX && out->n < FIT_ROWS_MAX - 1;
         n *= 2) {
        struct carat_session_options session = {.context_max = (size_t)n};
        if (carat_estimate(&out->rows[out->n], &engine, &session, NULL)) {
            break;
        }
        out->n++;
    }
    if (rc == 0 && out->n == 0) {
        out->rows[out->n++] = usual; // shorter than all of those
    }
    out->reason.status = rc;
}

static int add_part(struct sketch *s, const char *url, struct os_part *to, struct range part,
                    struct carat_error *err)
{
    struct buf bytes = {.max = (size_t)(part.end - part.begin)};
    struct http_answer answer;
    int rc = http_get(s->http, url, &part, &bytes, &answer, err);
    rc = rc ? rc : os_part_write(to, part.begin, bytes.data, bytes.size, err);
    buf_release(&bytes);
    return rc;
}

// Whether all of a GGUF file's header is there. What is missing is zero, so that either it cannot
// be read or it says that the tensors begin later. *small: the one tensor whose values are a part
// of the configuration, and are looked at; empty where there is none.
static bool has_header(const char *path, uint64_t n_bytes, struct range *small)
{
    struct gguf *g = NULL;
    if (gguf_open(&g, path, NULL)) {
        return false;
    }
    uint64_t first = UINT64_MAX;
    const struct gguf_tensor *t = gguf_find(g, "rope_freqs.weight");
    *small = t && t->size <= SMALL_MAX
                 ? (struct range){.begin = t->offset, .end = t->offset + t->size}
                 : (struct range){0};
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        uint64_t offset = gguf_tensor_at(g, i)->offset;
        first = offset < first ? offset : first;
    }
    gguf_close(g);
    return first <= n_bytes;
}

static int sketch_gguf(struct sketch *s, const char *url, const char *path, struct os_part *to,
                       uint64_t size, struct carat_error *err)
{
    uint64_t have = 0;
    struct range small;
    for (uint64_t want = GGUF_FIRST; have < size && want <= HEADER_MAX; want *= 2) {
        uint64_t end = want < size ? want : size;
        int rc = add_part(s, url, to, (struct range){.begin = have, .end = end}, err);
        if (rc) {
            return rc;
        }
        have = end;
        if (has_header(path, have, &small)) {
            return small.end > small.begin ? add_part(s, url, to, small, err) : 0;
        }
    }
    struct gguf *g = NULL;
    int rc = gguf_open(&g, path, err);
    gguf_close(g);
    return rc ? rc : fail(err, CARAT_E_FORMAT, "%s: no header could be found in it", url);
}

static int sketch_safetensors(struct sketch *s, const char *url, struct os_part *to, uint64_t size,
                              struct carat_error *err)
{
    uint8_t head[8] = {0};
    size_t n = 0;
    struct range part = {.end = size < 8 ? size : 8};
    int rc = add_part(s, url, to, part, err);
    rc = rc ? rc : os_part_read(to, 0, head, sizeof(head), &n, err);
    if (rc) {
        return rc;
    }
    struct cursor c = cursor_make(head, n);
    uint64_t header = cursor_u64(&c);
    if (c.has_failed || header > TENSORS_MAX || header + 8 > size) {
        return fail(err, CARAT_E_FORMAT, "%s: expected a header, found one of %" PRIu64 " bytes",
                    url, header);
    }
    part = (struct range){.begin = 8, .end = 8 + header};
    return header ? add_part(s, url, to, part, err) : 0;
}

static int sketch_file(struct sketch *s, const struct plan_file *f, struct carat_error *err)
{
    struct buf url = {.max = 1 << 16}, path = {.max = 1 << 16};
    struct os_part to = {.path = NULL};
    struct slice name = slice_of(f->name);
    uint64_t size = f->file->size;
    buf_addf(&path, "%s/%s", s->folder.data, f->name);
    int rc = buf_status(&path, err);
    rc = rc ? rc : hub_file_url(&url, s->hub, s->repo, f->file->path, err);
    rc = rc ? rc : os_part_open(&to, path.data, err);
    rc = rc ? rc : os_part_resize(&to, size, err);
    if (rc == 0 && slice_ends(name, ".gguf")) {
        rc = sketch_gguf(s, url.data, path.data, &to, size, err);
    } else if (rc == 0 && slice_ends(name, ".safetensors")) {
        rc = sketch_safetensors(s, url.data, &to, size, err);
    } else if (rc == 0 && size > 0) {
        rc = size > HEADER_MAX ? fail(err, CARAT_E_FULL, "%s: too large", f->name)
                               : add_part(s, url.data, &to, (struct range){.end = size}, err);
    }
    os_part_close(&to);
    buf_release(&url);
    buf_release(&path);
    return rc;
}

// Not for the estimate: the vocabulary's size is in the configuration.
static bool is_needed(const struct plan_file *f)
{
    struct slice name = slice_of(f->name);
    return f->role != ROLE_DRAFTER && !slice_starts(name, "tokenizer") &&
           !slice_starts(name, "special_tokens") && !slice_starts(name, "added_tokens") &&
           !slice_starts(name, "chat_template");
}

static int sketch_all(struct sketch *s, const struct plan *plan, struct fit *out,
                      struct carat_error *err)
{
    struct buf path = {.max = 1 << 16}, projector = {.max = 1 << 16};
    int rc = 0;
    for (size_t i = 0; i < plan->n_files && rc == 0; i++) {
        const struct plan_file *f = &plan->files[i];
        if (is_needed(f)) {
            rc = sketch_file(s, f, err);
        }
        if (f->role == ROLE_PROJECTOR && projector.size == 0) {
            buf_addf(&projector, "%s/%s", s->folder.data, f->name);
        }
    }
    buf_addf(&path, "%s%s%s", s->folder.data, plan->model[0] ? "/" : "", plan->model);
    rc = rc ? rc : buf_status(&path, err);
    rc = rc ? rc : buf_status(&projector, err);
    if (rc == 0) {
        fit_estimate(out, path.data, projector.size ? projector.data : NULL);
    }
    buf_release(&path);
    buf_release(&projector);
    return rc;
}

static void remove_sketch(struct sketch *s, const struct plan *plan)
{
    struct buf path = {.max = 1 << 16};
    for (size_t i = 0; i < plan->n_files; i++) {
        buf_clear(&path);
        buf_addf(&path, "%s/%s", s->folder.data, plan->files[i].name);
        if (!path.has_failed) {
            os_remove(path.data);
        }
    }
    os_remove_folder(s->folder.data);
    buf_release(&path);
}

int fit_remote(struct fit *out, const struct store *store, struct http *http, const struct hub *hub,
               const struct hub_repo *repo, const struct plan *plan, struct carat_error *err)
{
    struct sketch s = {.store = store, .http = http, .hub = hub, .repo = repo};
    const char *place = os_env("TMPDIR");
    s.folder.max = 1 << 16;
    *out = (struct fit){.n = 0};
    buf_addf(&s.folder, "%s/carat-%016" PRIx64, place ? place : "/tmp", os_random_u64());
    int rc = buf_status(&s.folder, err);
    rc = rc ? rc : os_make_folder(s.folder.data, err);
    if (rc == 0) {
        rc = sketch_all(&s, plan, out, &out->reason);
        out->reason.status = rc ? rc : out->reason.status;
        rc = rc == CARAT_E_STOPPED ? fail(err, rc, "interrupted") : 0;
        remove_sketch(&s, plan);
    }
    buf_release(&s.folder);
    return rc;
}
