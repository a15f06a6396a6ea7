// SPDX-License-Identifier: Apache-2.0
// Comparing what carat computes with recorded reference outputs: the report, and one function per
// kind of golden. What a folder holds is read from its golden.json and its tensors, never from
// names of folders.
#ifndef CARAT_CLI_VERIFY_H
#define CARAT_CLI_VERIFY_H

#include "cli/output.h"
#include "formats/json.h"
#include "formats/safetensors.h"

// ---------------------------------------------------------------------------------- the report

struct report {
    struct output *out;
    bool is_json, is_verbose;
    size_t n_passed, n_failed, n_skipped;
    struct buf json;     // what --json prints, as it grows
    bool is_golden_open; // in json
    bool is_check_first;
    size_t n_threads;       // for engines
    const char *projector;  // for engines of goldens with media; NULL: as found
    const char *model_name; // when a golden is run with several models: which; else NULL
};

void report_golden(struct report *r, const char *folder, const char *kind);
// Frees the report's memory and writes the summary.
void report_end(struct report *r);

struct difference {
    double largest;
    size_t at; // where in the tensor
    double expected, found;
    double squares; // sum of squared errors
    size_t n;
};
// Adds n values; `from` is the index of the first in the whole tensor. What is not a number is
// infinitely wrong.
void difference_add(struct difference *d, const float *found, const float *expected, size_t n,
                    size_t from);
double difference_rms(const struct difference *d);
carat_token likeliest(const float *logits, size_t n);

// One comparison: passes when the largest error is within the tolerance. n_columns turns the place
// into row and column.
void report_difference(struct report *r, const char *what, const struct difference *d,
                       double tolerance, size_t n_columns);
void report_result(struct report *r, bool is_good, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void report_skip(struct report *r, const char *what, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void report_error(struct report *r, const char *what, const struct carat_error *err);
// Many rows of one file, in one line, each counted; how: how near they must be, and are.
void report_rows(struct report *r, const char *what, size_t n_rows, size_t n_failed,
                 const char *how);
// Of such a row: what was wrong with it. Printed for the first few, or all when verbose.
#define ROWS_SHOWN 5
void report_row(struct report *r, size_t n_failed_before, const char *id, const char *detail);

// -------------------------------------------------------------------------------- a golden folder

struct golden {
    struct buf folder;
    struct json_doc *doc;
    struct safetensors *tensors; // NULL when there are none
    struct buf model;            // path of the model that it names; empty when it names none
};
int golden_open(struct golden *g, const char *folder, struct carat_error *err);
void golden_close(struct golden *g);
struct slice golden_kind(const struct golden *g);

// Copies of a tensor's values, to be freed with mem_free. Tensors of another type or size are
// errors.
int golden_floats(const struct golden *g, const char *name, float **out, size_t *n,
                  struct carat_error *err);
int golden_ints(const struct golden *g, const char *name, int32_t **out, size_t *n,
                struct carat_error *err);
const struct safetensors_tensor *golden_find(const struct golden *g, const char *name);
// What a golden needs that this build does not have; NULL when it has all.
const char *golden_needs(const struct golden *g);

// The media of a golden, in the order of its prompt.
#define VERIFY_MEDIA_MAX  64
#define VERIFY_FRAMES_MAX 64 // of one film
struct media_set {
    struct carat_media *items[VERIFY_MEDIA_MAX];
    size_t n;
    size_t n_frames_left; // of the last film, while reading
};
// Whether its prompt has media, and one of their kinds.
bool golden_has_media(const struct golden *g, enum carat_media_type *type);
// is_other: media of the same shape but with other content.
int media_set_read(struct media_set *out, const struct golden *g, const struct carat_engine *engine,
                   bool is_other, struct carat_error *err);
void media_set_free(struct media_set *set); // takes zeroed memory
// A recorded tensor that verify_projections compares.
bool is_projection(const char *name);
int verify_projections(struct report *r, const struct golden *g, struct carat_engine *engine,
                       const struct media_set *set, struct carat_error *err);

// folder + "/" + name
void path_join(struct buf *out, const char *folder, const char *name);

// ------------------------------------------------------------------------------------- the kinds

// What a folder named on the command line must be able to show, and one that was found below it may
// lack.
enum asked { ASKED_BY_NAME, FOUND_BELOW };

// A language model: projections, layers, logits, greedy tokens, chunks. model is the path of the
// one to run. False when this build cannot run it.
bool verify_lm(struct report *r, const struct golden *g, const char *model, enum asked asked);
// Pictures brought to size and cut into patches.
void verify_preprocess(struct report *r, const struct golden *g);
// One small model in every weight type.
void verify_quant(struct report *r, const struct golden *g);
// Text to ids and back, cases in golden.json.
void verify_tokenizer(struct report *r, const struct golden *g);
// tokenize.jsonl, detok_stream.jsonl, chat.jsonl, parse.jsonl and a vocabulary.
bool is_io_folder(const char *folder);
void verify_io(struct report *r, const char *folder);

// The largest errors over the rows of one file of media.
struct tally {
    size_t n_lossy;    // rows that need not be exact
    size_t n_tower;    // rows with features for the encoders of other models
    size_t n_left_out; // rows that this build cannot read
    double row_mean, row_far, sum_error;
    double frame_error, frame_sum_error;
    double snr_reserve; // dB above what is asked for, the least
};

// For verify_io: each walks the rows of one file, with one vocabulary where it needs one.
struct row_file {
    struct report *report;
    const char *folder;
    const struct carat_engine *engine; // may be NULL
    struct safetensors *tensors;       // beside the file; may be NULL
    const struct json_doc *row;
    struct buf *detail; // what is wrong with this row; empty: nothing
    size_t n_failed;    // rows so far
    struct tally tally;
};
typedef int (*row_check)(struct row_file *f, struct carat_error *err);
int check_tokenize_row(struct row_file *f, struct carat_error *err);
int check_detok_row(struct row_file *f, struct carat_error *err);
int check_chat_row(struct row_file *f, struct carat_error *err);
int check_parse_row(struct row_file *f, struct carat_error *err);
int check_image_row(struct row_file *f, struct carat_error *err);
int check_audio_row(struct row_file *f, struct carat_error *err);
int check_video_row(struct row_file *f, struct carat_error *err);
int check_mixed_row(struct row_file *f, struct carat_error *err);
// How far off their rows were.
void tell_images(const struct tally *t, struct buf *out);
void tell_audio(const struct tally *t, struct buf *out);
void tell_video(const struct tally *t, struct buf *out);
// Notes the first difference of two texts or lists of ids in f->detail, if there is any.
void row_compare_text(struct row_file *f, const char *what, struct slice expected,
                      struct slice found);
void row_compare_ids(struct row_file *f, const char *what, const struct json_value *expected,
                     const carat_token *found, size_t n_found);
// Equal as JSON: members in any order, numbers by value.
bool json_equal(const struct json_value *a, const struct json_value *b);

#endif
