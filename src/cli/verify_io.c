// SPDX-License-Identifier: Apache-2.0
// An io folder: *.jsonl files with one case a row, and the vocabulary that they are about under
// vocab/, as GGUF, as tokenizer.json, or both.
#include "cli/verify.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

#include <string.h>

#define FILES_MAX 4096
#define ROW_MAX   ((size_t)64 << 20)

static const struct row_kind {
    const char *file;
    row_check check;
    bool needs_vocab;
    bool is_vocab_only;  // worth repeating with each form of the vocabulary
    bool needs_decoder;  // of compressed files
    const char *tensors; // beside it; NULL: none
    void (*tell)(const struct tally *t, struct buf *out); // NULL: all must be exact
} row_kinds[] = {
    {"tokenize.jsonl", check_tokenize_row, true, true, false, NULL, NULL},
    {"detok_stream.jsonl", check_detok_row, true, true, false, NULL, NULL},
    {"chat.jsonl", check_chat_row, true, false, false, NULL, NULL},
    {"parse.jsonl", check_parse_row, true, false, false, NULL, NULL},
    {"images.jsonl", check_image_row, false, false, true, "images.safetensors", tell_images},
    {"audio.jsonl", check_audio_row, false, false, false, "audio.safetensors", tell_audio},
    {"video.jsonl", check_video_row, true, false, true, "video.safetensors", tell_video},
    {"mixed.jsonl", check_mixed_row, true, false, true, NULL, NULL},
};
#define N_ROW_KINDS (sizeof(row_kinds) / sizeof(row_kinds[0]))

static bool has_file(const char *folder, const char *name)
{
    struct buf path = {.max = 1 << 16};
    path_join(&path, folder, name);
    bool is_there = !path.has_failed && os_is_file(buf_text(&path));
    buf_release(&path);
    return is_there;
}

bool is_io_folder(const char *folder)
{
    for (size_t i = 0; i < N_ROW_KINDS; i++) {
        if (has_file(folder, row_kinds[i].file)) {
            return true;
        }
    }
    return false;
}

static void check_row(struct row_file *f, struct slice line, size_t number, row_check check)
{
    struct carat_error err;
    struct json_doc *doc = NULL;
    int rc = line.size > ROW_MAX ? fail(&err, CARAT_E_FULL, "the row is too long")
                                 : json_parse(&doc, line.data, line.size, "row", &err);
    f->row = doc;
    struct buf id = {.max = 1000};
    if (rc == 0) {
        struct slice name = json_string(json_get(json_root(doc), "id"));
        name = name.size ? name : json_string(json_get(json_root(doc), "name"));
        struct slice chat_template = json_string(json_get(json_root(doc), "template"));
        buf_addf(&id, "%zu (%.*s%s%.*s)", number + 1, (int)name.size, name.size ? name.data : "",
                 chat_template.size ? ", " : "", (int)chat_template.size,
                 chat_template.size ? chat_template.data : "");
        rc = check(f, &err);
    } else {
        buf_addf(&id, "%zu", number + 1);
    }
    if (rc && f->detail->size == 0) {
        buf_adds(f->detail, err.text);
    }
    if (f->detail->size) {
        report_row(f->report, f->n_failed++, buf_text(&id), f->detail->data);
    }
    json_free(doc);
    buf_release(&id);
}

static void tell_rows(const struct row_file *f, const struct row_kind *kind, const char *what,
                      size_t n_rows)
{
    struct buf how = {.max = 1000};
    if (kind->tell) {
        kind->tell(&f->tally, &how);
    } else {
        buf_adds(&how, "all must be exact");
    }
    report_rows(f->report, what, n_rows, f->n_failed, buf_text(&how));
    if (f->tally.n_tower) {
        report_skip(f->report, kind->file,
                    "the mel features of %zu rows need the sound encoder of other models, which "
                    "this build does not have",
                    f->tally.n_tower);
    }
    if (f->tally.n_left_out) {
        report_skip(f->report, kind->file,
                    "%zu of these rows were not compared: compressed files need FFmpeg",
                    f->tally.n_left_out);
    }
    buf_release(&how);
}

static int open_rows(struct row_file *f, const struct row_kind *kind, struct os_map *map,
                     struct carat_error *err)
{
    struct buf path = {.max = 1 << 16};
    path_join(&path, f->folder, kind->file);
    int rc = buf_status(&path, err);
    rc = rc ? rc : os_map_open(map, path.data, err);
    if (rc == 0 && kind->tensors) {
        path_join(&path, f->folder, kind->tensors);
        rc = safetensors_open(&f->tensors, buf_text(&path), err);
    }
    buf_release(&path);
    return rc;
}

static void check_rows(struct report *r, const char *folder, const struct row_kind *kind,
                       const struct carat_engine *engine, const char *vocabulary)
{
    struct carat_error err;
    struct os_map map = {.data = NULL};
    struct buf detail = {.max = 1 << 16}, what = {.max = 1000};
    size_t n_rows = 0;
    struct row_file f = {.report = r, .folder = folder, .engine = engine, .detail = &detail};
    buf_adds(&what, kind->file);
    if (vocabulary) {
        buf_addf(&what, " with %s", vocabulary);
    }
    if (open_rows(&f, kind, &map, &err)) {
        report_error(r, buf_text(&what), &err);
        goto out;
    }
    const char *text = (const char *)map.data;
    for (size_t at = 0; at < map.size;) {
        const char *end = memchr(text + at, '\n', map.size - at);
        size_t size = end ? (size_t)(end - text) - at : map.size - at;
        if (size > 0) {
            buf_clear(&detail);
            check_row(&f, slice_make(text + at, size), n_rows++, kind->check);
        }
        at += size + 1;
    }
    tell_rows(&f, kind, buf_text(&what), n_rows);
out:
    safetensors_close(f.tensors);
    os_map_close(&map);
    buf_release(&detail);
    buf_release(&what);
}

// --------------------------------------------------------------- vectors beside the vocabulary

static const char vector_mark[] = "\n__ggml_vocab_test__\n";

static const char *find_mark(const char *at, const char *end)
{
    const size_t size = strlen(vector_mark);
    for (; (size_t)(end - at) >= size; at++) {
        at = memchr(at, '\n', (size_t)(end - at));
        if (!at || (size_t)(end - at) < size) {
            return NULL;
        }
        if (memcmp(at, vector_mark, size) == 0) {
            return at;
        }
    }
    return NULL;
}

// Whether the numbers of one line are the ids of a text. The texts are tokenized with the strings
// of control tokens recognised.
static bool vector_matches(const struct carat_engine *engine, struct slice text, struct slice line)
{
    carat_token *ids = mem_new_array(text.size + 1, sizeof(*ids), NULL);
    if (!ids) {
        return false;
    }
    int64_t n = carat_tokenize(engine, text.data, text.size, CARAT_TOKENIZE_SPECIAL, ids,
                               text.size + 1, NULL);
    struct buf found = {.max = (size_t)1 << 28};
    for (int64_t i = 0; i < n; i++) {
        buf_addf(&found, " %d", (int)ids[i]);
    }
    struct slice list = slice_make(buf_text(&found), found.size);
    bool is_same = n >= 0 && slice_equal(utf8_trim(list), utf8_trim(line));
    mem_free(ids);
    buf_release(&found);
    return is_same;
}

static void count_vectors(struct report *r, const struct carat_engine *engine, const char *what,
                          const struct os_map *in, const struct os_map *out)
{
    const char *text = (const char *)in->data, *text_end = text + in->size;
    const char *ids = (const char *)out->data, *ids_end = ids + out->size;
    size_t n_rows = 0, n_failed = 0;
    while (ids < ids_end) {
        const char *mark = find_mark(text, text_end);
        const char *line_end = memchr(ids, '\n', (size_t)(ids_end - ids));
        line_end = line_end ? line_end : ids_end;
        struct slice one = slice_make(text, (size_t)((mark ? mark : text_end) - text));
        struct slice line = slice_make(ids, (size_t)(line_end - ids));
        if (!mark && one.size == 0 && line.size == 0) {
            break;
        }
        if (!vector_matches(engine, one, line)) {
            struct buf id = {.max = 100}, detail = {.max = 1000};
            buf_addf(&id, "%zu", n_rows + 1);
            buf_adds(&detail, "ids differ for ");
            buf_add_json(&detail, one.data, one.size > 60 ? 60 : one.size);
            report_row(r, n_failed++, buf_text(&id), buf_text(&detail));
            buf_release(&id);
            buf_release(&detail);
        }
        n_rows++;
        if (!mark) {
            break;
        }
        text = mark + strlen(vector_mark);
        ids = line_end < ids_end ? line_end + 1 : ids_end;
    }
    report_rows(r, what, n_rows, n_failed, "all must be exact");
}

// name.gguf.inp holds texts, name.gguf.out their ids, a line each.
static void check_vectors(struct report *r, const struct carat_engine *engine, const char *model,
                          const char *name)
{
    struct carat_error err;
    struct buf path = {.max = 1 << 16}, what = {.max = 1000};
    struct os_map in = {.data = NULL}, out = {.data = NULL};
    buf_addf(&path, "%s.inp", model);
    buf_addf(&what, "vocab/%s.inp", name);
    if (path.has_failed || !os_is_file(buf_text(&path))) {
        goto out;
    }
    int rc = os_map_open(&in, path.data, &err);
    buf_clear(&path);
    buf_addf(&path, "%s.out", model);
    rc = rc ? rc : os_map_open(&out, buf_text(&path), &err);
    if (rc) {
        report_error(r, buf_text(&what), &err);
    } else {
        count_vectors(r, engine, buf_text(&what), &in, &out);
    }
out:
    os_map_close(&in);
    os_map_close(&out);
    buf_release(&path);
    buf_release(&what);
}

// --------------------------------------------------------------------------------- vocabularies

static bool can_check(const struct row_kind *kind)
{
    return !kind->needs_decoder || carat_media_has("ffmpeg");
}

static void check_vocabulary(struct report *r, const char *folder, const char *model,
                             const char *name, bool is_first)
{
    struct carat_error err;
    struct carat_engine *engine = NULL;
    struct carat_engine_options options = {.model = model, .n_threads = 1, .is_vocab_only = true};
    if (carat_engine_open(&engine, &options, &err)) {
        report_error(r, name, &err);
        return;
    }
    if (slice_ends(slice_of(name), ".gguf")) {
        check_vectors(r, engine, model, name);
    }
    for (size_t i = 0; i < N_ROW_KINDS; i++) {
        const struct row_kind *kind = &row_kinds[i];
        bool is_due = kind->needs_vocab && (is_first || kind->is_vocab_only);
        if (is_due && can_check(kind) && has_file(folder, kind->file)) {
            check_rows(r, folder, kind, engine, kind->is_vocab_only ? name : NULL);
        }
    }
    carat_engine_close(engine);
}

static void check_vocabularies(struct report *r, const char *folder, const char *vocab)
{
    struct carat_error err;
    struct buf path = {.max = 1 << 16};
    char **names = NULL;
    size_t n_names = 0, n_used = 0;
    if (os_list(&names, &n_names, vocab, FILES_MAX, &err)) {
        report_error(r, "vocab", &err);
        return;
    }
    for (size_t i = 0; i < n_names; i++) {
        bool is_json = strcmp(names[i], "tokenizer.json") == 0;
        if (slice_ends(slice_of(names[i]), ".gguf")) {
            path_join(&path, vocab, names[i]);
        } else if (is_json) {
            buf_clear(&path);
            buf_adds(&path, vocab); // a Hugging Face directory
        } else {
            if (strcmp(names[i], "tokenizer.json.gz") == 0 && !has_file(vocab, "tokenizer.json")) {
                report_skip(r, "vocab/tokenizer.json.gz", "packed; unpack it to compare it, too");
            }
            continue;
        }
        check_vocabulary(r, folder, buf_text(&path), names[i], n_used++ == 0);
    }
    if (n_used == 0) {
        report_result(r, false, "vocab", "expected a .gguf or tokenizer.json in %s", vocab);
    }
    os_list_free(names, n_names);
    buf_release(&path);
}

void verify_io(struct report *r, const char *folder)
{
    struct buf vocab = {.max = 1 << 16};
    path_join(&vocab, folder, "vocab");
    bool needs_vocab = false;
    for (size_t i = 0; i < N_ROW_KINDS; i++) {
        const struct row_kind *kind = &row_kinds[i];
        needs_vocab = needs_vocab || (kind->needs_vocab && has_file(folder, kind->file));
    }
    if (needs_vocab) {
        check_vocabularies(r, folder, buf_text(&vocab));
    }
    for (size_t i = 0; i < N_ROW_KINDS; i++) {
        const struct row_kind *kind = &row_kinds[i];
        if (!has_file(folder, kind->file)) {
            continue;
        }
        if (!can_check(kind)) {
            report_skip(r, kind->file, "needs FFmpeg, which this build is without");
        } else if (!kind->needs_vocab) {
            check_rows(r, folder, kind, NULL, NULL);
        }
    }
    buf_release(&vocab);
}
