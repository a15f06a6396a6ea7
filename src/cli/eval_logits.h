// SPDX-License-Identifier: Apache-2.0
// What a model foretold at each scored token of some texts, in a file: 16 bits for each word of the
// vocabulary. docs/eval.md has the layout. Knows base alone.
#ifndef CARAT_CLI_EVAL_LOGITS_H
#define CARAT_CLI_EVAL_LOGITS_H

#include "base/hash.h"
#include "base/os_file.h"

#define LOGITS_VOCAB_MAX 0x1000000u
#define LOGITS_NAME_MAX  200 // bytes

// The log-probability of word i is high - step * codes[i].
struct logit_row {
    float high;      // of the likeliest word
    float step;      // at least 0
    float logprob;   // of the token that came, not rounded to a step
    uint32_t top;    // the likeliest word, the first of several
    uint16_t *codes; // [n_vocab], of the caller
};
// Rounds a row. total: the logarithm of the sum of exp(logit). token: the one that came.
void logit_row_pack(struct logit_row *row, const float *logits, size_t n_vocab, double total,
                    uint32_t token);

struct logit_head {
    uint32_t n_vocab;
    uint64_t n_rows;
    uint8_t vocabulary[HASH_SIZE]; // of the words
    uint8_t plan[HASH_SIZE];       // of the tokens, and which of them are scored
    uint64_t model_size;           // of the model that was recorded: bytes of its file,
    uint64_t n_parameters;
    uint64_t weights_size;          // bytes
    char name[LOGITS_NAME_MAX + 1]; // what it was called
};
size_t logit_row_size(size_t n_vocab);                   // bytes in a file
uint64_t logit_file_size(const struct logit_head *head); // UINT64_MAX: beyond all files

struct logit_writer {
    struct os_writer file;
    uint8_t *bytes; // of one row
    size_t n_vocab;
    uint64_t n_left;
};
int logit_writer_open(struct logit_writer *out, const char *path, const struct logit_head *head,
                      struct carat_error *err);
int logit_writer_add(struct logit_writer *w, const struct logit_row *row, struct carat_error *err);
// All rows were added: gives the file its name.
int logit_writer_finish(struct logit_writer *w, struct carat_error *err);
void logit_writer_close(struct logit_writer *w); // takes zeroed and finished ones

struct logit_reader {
    struct os_reader file;
    struct logit_head head;
    uint8_t *bytes;
    uint64_t i_row;
};
// Whether a file begins as one of these; false as well for what cannot be read.
bool logit_file_is(const char *path);
int logit_reader_open(struct logit_reader *out, const char *path, struct carat_error *err);
// The same over a reader at its beginning, which is taken in any case.
int logit_reader_take(struct logit_reader *out, struct os_reader *file, struct carat_error *err);
// The next row; row->codes has room for head.n_vocab. Past the last, and where the file is damaged:
// CARAT_E_FORMAT.
int logit_reader_next(struct logit_reader *r, struct logit_row *row, struct carat_error *err);
void logit_reader_close(struct logit_reader *r); // takes zeroed memory

#endif
