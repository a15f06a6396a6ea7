// SPDX-License-Identifier: Apache-2.0
// Logit files. All numbers are little-endian; the layout is in docs/eval.md.
#include "cli/eval_logits.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#define VERSION   1
#define CODE_MAX  65535
#define HEAD_SIZE (8 + 4 + 4 + 8 + 2 * HASH_SIZE + 3 * 8 + 8 + LOGITS_NAME_MAX + HASH_SIZE)
#define ROW_HEAD  16 // bytes in front of the codes
#define ROW_CHECK 8  // bytes behind them

static const uint8_t magic[8] = {'C', 'A', 'R', 'A', 'T', 'L', 'G', 'T'};
_Static_assert(HEAD_SIZE % 8 == 0, "rows begin at a multiple of 8");

void logit_row_pack(struct logit_row *row, const float *logits, size_t n_vocab, double total,
                    uint32_t token)
{
    size_t top = 0, bottom = 0;
    for (size_t i = 1; i < n_vocab; i++) {
        top = logits[i] > logits[top] ? i : top;
        bottom = logits[i] < logits[bottom] ? i : bottom;
    }
    const double high = (double)logits[top];
    row->top = (uint32_t)top;
    row->high = (float)(high - total);
    row->logprob = (float)((double)logits[token] - total);
    row->step = (float)((high - (double)logits[bottom]) / CODE_MAX);
    const double per_step = row->step > 0 ? 1 / (double)row->step : 0;
    for (size_t i = 0; i < n_vocab; i++) {
        double code = (high - (double)logits[i]) * per_step + 0.5;
        row->codes[i] = code < CODE_MAX ? (uint16_t)code : CODE_MAX;
    }
}

// ----------------------------------------------------------------------------------------- layout

size_t logit_row_size(size_t n_vocab)
{
    return ROW_HEAD + 2 * n_vocab + ROW_CHECK;
}

uint64_t logit_file_size(const struct logit_head *head)
{
    uint64_t row = logit_row_size(head->n_vocab);
    return head->n_rows > (INT64_MAX - HEAD_SIZE) / row ? UINT64_MAX
                                                        : HEAD_SIZE + head->n_rows * row;
}

static void put(uint8_t **at, const void *data, size_t size)
{
    memcpy(*at, data, size);
    *at += size;
}

static void put_u64(uint8_t **at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        *(*at)++ = (uint8_t)(value >> (8 * i));
    }
}

static void put_f32(uint8_t **at, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    put_u64(at, bits, 4);
}

// The row's number goes into its check, so that rows cannot change places.
static uint64_t row_check(const uint8_t *bytes, size_t size, uint64_t i_row)
{
    struct hash h;
    hash_init(&h, NULL);
    hash_add_u64(&h, i_row);
    hash_add(&h, bytes, size);
    return hash_u64(&h);
}

static void pack_head(uint8_t out[HEAD_SIZE], const struct logit_head *head)
{
    uint8_t *at = out;
    size_t name_size = strlen(head->name);
    struct hash h;
    memset(out, 0, HEAD_SIZE);
    put(&at, magic, sizeof(magic));
    put_u64(&at, VERSION, 4);
    put_u64(&at, head->n_vocab, 4);
    put_u64(&at, head->n_rows, 8);
    put(&at, head->vocabulary, HASH_SIZE);
    put(&at, head->plan, HASH_SIZE);
    put_u64(&at, head->model_size, 8);
    put_u64(&at, head->n_parameters, 8);
    put_u64(&at, head->weights_size, 8);
    put_u64(&at, name_size, 8);
    put(&at, head->name, name_size);
    hash_init(&h, NULL);
    hash_add(&h, out, HEAD_SIZE - HASH_SIZE);
    hash_digest(&h, out + HEAD_SIZE - HASH_SIZE);
}

// ---------------------------------------------------------------------------------------- writing

int logit_writer_open(struct logit_writer *out, const char *path, const struct logit_head *head,
                      struct carat_error *err)
{
    uint8_t bytes[HEAD_SIZE];
    struct logit_writer w = {.n_vocab = head->n_vocab, .n_left = head->n_rows};
    w.bytes = mem_new(logit_row_size(head->n_vocab), err);
    int rc = w.bytes ? os_writer_open(&w.file, path, err) : CARAT_E_MEMORY;
    if (rc == 0) {
        pack_head(bytes, head);
        rc = os_writer_add(&w.file, bytes, sizeof(bytes), err);
    }
    if (rc) {
        logit_writer_close(&w);
        return rc;
    }
    *out = w;
    return 0;
}

int logit_writer_add(struct logit_writer *w, const struct logit_row *row, struct carat_error *err)
{
    const size_t size = ROW_HEAD + 2 * w->n_vocab;
    uint8_t *at = w->bytes;
    require(w->n_left > 0);
    put_f32(&at, row->high);
    put_f32(&at, row->step);
    put_f32(&at, row->logprob);
    put_u64(&at, row->top, 4);
    for (size_t i = 0; i < w->n_vocab; i++) {
        *at++ = (uint8_t)row->codes[i];
        *at++ = (uint8_t)(row->codes[i] >> 8);
    }
    // Counted from the end, because the writer knows how many are left.
    put_u64(&at, row_check(w->bytes, size, w->n_left), ROW_CHECK);
    w->n_left--;
    return os_writer_add(&w->file, w->bytes, size + ROW_CHECK, err);
}

int logit_writer_finish(struct logit_writer *w, struct carat_error *err)
{
    require(w->n_left == 0);
    return os_writer_finish(&w->file, true, err);
}

void logit_writer_close(struct logit_writer *w)
{
    os_writer_close(&w->file);
    mem_free(w->bytes);
    w->bytes = NULL;
}

// ---------------------------------------------------------------------------------------- reading

bool logit_file_is(const char *path)
{
    uint8_t found[sizeof(magic)];
    struct os_reader file = {.path = NULL};
    bool is_it = os_reader_open(&file, path, NULL) == 0 &&
                 os_reader_next(&file, found, sizeof(found), NULL) == 0 &&
                 memcmp(found, magic, sizeof(magic)) == 0;
    os_reader_close(&file);
    return is_it;
}

static int fail_file(const struct logit_reader *r, const char *what, struct carat_error *err)
{
    return fail(err, CARAT_E_FORMAT, "%s: %s; record it again with --save-logits", r->file.path,
                what);
}

static int read_head(struct logit_reader *r, struct carat_error *err)
{
    uint8_t bytes[HEAD_SIZE], check[HASH_SIZE];
    struct logit_head *head = &r->head;
    if (r->file.size < HEAD_SIZE) {
        return fail_file(r, "expected a file of recorded logits, found one too short for it", err);
    }
    int rc = os_reader_next(&r->file, bytes, sizeof(bytes), err);
    if (rc) {
        return rc;
    }
    struct cursor c = cursor_make(bytes, sizeof(bytes));
    if (memcmp(cursor_bytes(&c, sizeof(magic)), magic, sizeof(magic)) != 0) {
        return fail_file(r, "expected a file of recorded logits, found something else", err);
    }
    if (cursor_u32(&c) != VERSION) {
        return fail_file(r, "recorded by another version of carat", err);
    }
    struct hash h;
    hash_init(&h, NULL);
    hash_add(&h, bytes, HEAD_SIZE - HASH_SIZE);
    hash_digest(&h, check);
    if (memcmp(check, bytes + HEAD_SIZE - HASH_SIZE, HASH_SIZE) != 0) {
        return fail_file(r, "the beginning of the file is damaged", err);
    }
    head->n_vocab = cursor_u32(&c);
    head->n_rows = cursor_u64(&c);
    memcpy(head->vocabulary, cursor_bytes(&c, HASH_SIZE), HASH_SIZE);
    memcpy(head->plan, cursor_bytes(&c, HASH_SIZE), HASH_SIZE);
    head->model_size = cursor_u64(&c);
    head->n_parameters = cursor_u64(&c);
    head->weights_size = cursor_u64(&c);
    uint64_t name_size = cursor_u64(&c);
    if (name_size > LOGITS_NAME_MAX || head->n_vocab == 0 || head->n_vocab > LOGITS_VOCAB_MAX) {
        return fail_file(r, "impossible sizes", err);
    }
    memcpy(head->name, cursor_bytes(&c, name_size), (size_t)name_size);
    head->name[name_size] = '\0';
    if (logit_file_size(head) != r->file.size) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: expected %llu bytes for %llu rows, found %llu; record it again with "
                    "--save-logits",
                    r->file.path, (unsigned long long)logit_file_size(head),
                    (unsigned long long)head->n_rows, (unsigned long long)r->file.size);
    }
    return 0;
}

int logit_reader_take(struct logit_reader *out, struct os_reader *file, struct carat_error *err)
{
    struct logit_reader r = {.file = *file};
    *file = (struct os_reader){.path = NULL};
    int rc = read_head(&r, err);
    if (rc == 0) {
        r.bytes = mem_new(logit_row_size(r.head.n_vocab), err);
        rc = r.bytes ? 0 : CARAT_E_MEMORY;
    }
    if (rc) {
        logit_reader_close(&r);
        return rc;
    }
    *out = r;
    return 0;
}

int logit_reader_open(struct logit_reader *out, const char *path, struct carat_error *err)
{
    struct os_reader file = {.path = NULL};
    int rc = os_reader_open(&file, path, err);
    return rc ? rc : logit_reader_take(out, &file, err);
}

int logit_reader_next(struct logit_reader *r, struct logit_row *row, struct carat_error *err)
{
    const size_t n_vocab = r->head.n_vocab, size = ROW_HEAD + 2 * n_vocab;
    if (r->i_row == r->head.n_rows) {
        return fail_file(r, "there are no more rows", err);
    }
    int rc = os_reader_next(&r->file, r->bytes, size + ROW_CHECK, err);
    if (rc) {
        return rc;
    }
    struct cursor c = cursor_make(r->bytes, size + ROW_CHECK);
    row->high = cursor_f32(&c);
    row->step = cursor_f32(&c);
    row->logprob = cursor_f32(&c);
    row->top = cursor_u32(&c);
    for (size_t i = 0; i < n_vocab; i++) {
        row->codes[i] = cursor_u16(&c);
    }
    bool is_whole = cursor_u64(&c) == row_check(r->bytes, size, r->head.n_rows - r->i_row);
    bool is_sound = isfinite(row->high) && isfinite(row->step) && row->step >= 0 &&
                    isfinite(row->logprob) && row->top < n_vocab && row->codes[row->top] == 0;
    if (!is_whole || !is_sound) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: row %llu is damaged; record it again with --save-logits", r->file.path,
                    (unsigned long long)r->i_row);
    }
    r->i_row++;
    return 0;
}

void logit_reader_close(struct logit_reader *r)
{
    os_reader_close(&r->file);
    mem_free(r->bytes);
    r->bytes = NULL;
}
