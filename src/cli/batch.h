// SPDX-License-Identifier: Apache-2.0
// What the files of `carat batch` share. The output is the journal: a line of it is an answer, and
// its id says which line of the input it answers and what stood there. docs/batch.md
#ifndef CARAT_CLI_BATCH_H
#define CARAT_CLI_BATCH_H

#include "base/os_file.h"
#include "base/os_part.h"
#include "base/str.h"
#include "cli/output.h"

// ------------------------------------------------------------------------------ batch_lines.c

// A file line by line, in bounded memory.
struct batch_lines {
    struct os_reader file;
    char *chunk;
    size_t chunk_size, chunk_at;
    // The current line, without its end.
    struct buf line;
    uint64_t number; // from 1
    uint64_t end;    // offset in the file of what follows
    uint64_t hash;   // of all its bytes
    bool is_long;    // more than line.max: the rest is not in line
    bool is_torn;    // the file's last line, and it has no end
};
int batch_lines_open(struct batch_lines *l, const char *path, size_t line_max,
                     struct carat_error *err);
// false: there are no more.
int batch_lines_next(struct batch_lines *l, bool *is_there, struct carat_error *err);
bool batch_line_is_blank(const struct batch_lines *l);
void batch_lines_close(struct batch_lines *l); // takes zeroed memory

// ------------------------------------------------------------------------------ batch_table.c

// The lines of an input: 9 bytes each.
struct batch_table {
    uint64_t *hashes; // [n], of line i + 1
    uint8_t *states;  // [n], of enum batch_state
    size_t n, capacity;
    uint64_t n_requests;       // of this shard
    uint64_t n_done, n_failed; // of these, those that the journal has answered
};
enum batch_state {
    BATCH_NO_REQUEST, // blank
    BATCH_ELSEWHERE,  // of another shard
    BATCH_OPEN,
    BATCH_DONE,
};
struct batch_shard {
    uint64_t i, n; // lines whose number is i modulo n; n is 1 for all
};
// Reads the whole input. Two requests with the same custom_id are refused, whatever the shard.
int batch_table_read(struct batch_table *t, const char *path, size_t line_max,
                     struct batch_shard shard, struct carat_error *err);
void batch_table_release(struct batch_table *t);

// ------------------------------------------------------------------------------ batch_journal.c

struct batch_entry {
    uint64_t line, hash; // of the input
    bool has_failed;
};
struct batch_journal {
    struct os_lock lock;
    struct os_part file;
    uint64_t size;
    struct batch_entry *entries; // [n], those that were there, as they come
    size_t n, capacity;
    bool was_torn; // the last line was cut off
};
enum batch_past { BATCH_GO_ON, BATCH_RETRY_FAILED, BATCH_START_OVER };
// Opens the output, which nobody else may have open, and reads what is there. A file that is no
// output of this command is refused. A last line that was not written to its end is cut off.
int batch_journal_open(struct batch_journal *j, const char *path, enum batch_past past,
                       struct carat_error *err);
// Marks in the table what is answered; CARAT_E_ARGUMENT when the input has changed there.
int batch_journal_match(const struct batch_journal *j, struct batch_table *t, const char *input,
                        const char *output, struct carat_error *err);
// The answer's line with its end: whole, or not at all.
int batch_journal_add(struct batch_journal *j, const struct buf *line, struct carat_error *err);
int batch_journal_sync(struct batch_journal *j, struct carat_error *err);
void batch_journal_close(struct batch_journal *j); // takes zeroed memory

// ------------------------------------------------------------------------------ batch_request.c

struct batch_request {
    uint64_t line, hash;
    char *custom_id; // as JSON; "null" when there is none
    char *path;
    struct buf body;
};
// custom_id: empty when the line has none.
void batch_custom_id(const struct buf *line, struct buf *custom_id, bool *is_there);
// From the current line. On failure line, hash and custom_id are there all the same; without memory
// for that, custom_id is NULL.
int batch_request_read(struct batch_request *r, const struct batch_lines *l,
                       struct carat_error *err);
void batch_request_release(struct batch_request *r);
// The id of a line of the output; and back. False: it is no such id.
void batch_add_id(struct buf *out, uint64_t line, uint64_t hash);
bool batch_read_id(struct slice id, uint64_t *line, uint64_t *hash);
// A line of the output, its end included: an answer, or why there is none.
void batch_add_answer(struct buf *out, const struct batch_request *r, int status,
                      const char *request_id, const struct buf *body);
void batch_add_error(struct buf *out, const struct batch_request *r, const char *code,
                     const char *message);
#define BATCH_ID_PREFIX "batch_req_"

// ------------------------------------------------------------------------------ batch_run.c

struct local;
struct batch_run {
    const char *input;
    size_t line_max;
    struct batch_table *table;
    struct batch_journal *journal;
    struct local *local;
    size_t n_pending_max;
    bool shows_progress; // on standard error's line
    // What came of it.
    uint64_t n_answered, n_failed; // n_failed of n_answered
    uint64_t prompt_tokens, cached_tokens, answer_tokens;
    double seconds;
    bool was_interrupted;
};
// Until every line is answered, or Ctrl-C: then what runs is finished.
int batch_run(struct batch_run *run, struct carat_error *err);

#endif
