// SPDX-License-Identifier: Apache-2.0
// What carat bench measures, between the files that plan, measure and show it.
#ifndef CARAT_CLI_BENCH_H
#define CARAT_CLI_BENCH_H

#include "cli/bench_limits.h"
#include "cli/loading.h"

#define BENCH_RUNS_MAX     1000
#define BENCH_START_TOKENS 10 // of the prompt that follows opening

struct bench_options {
    struct option_counts prefill;
    struct option_count decode;
    struct option_counts depth;
    struct option_counts batch;
    struct option_count runs;
    bool is_full, evaluates, has_limits;
    const char *svg;
    bool is_media;
    const char *image, *audio;
    struct option_counts image_tokens;
    bool is_json, is_quiet;
    struct model_settings model;
};

enum measure_kind {
    MEASURE_PREFILL,
    MEASURE_DECODE,
    MEASURE_BATCH, // several sessions that decode together
};
extern const char *const measure_names[];

// One thing that is measured.
struct measure {
    enum measure_kind kind;
    size_t tokens; // of each session
    size_t depth;  // of a decode
    size_t n_rows; // sessions that decode together; else 1
    double seconds[BENCH_RUNS_MAX];
};

struct bench {
    const struct bench_options *options;
    struct output *out;
    struct loaded loaded;
    struct model_settings settings; // with the context that is needed
    struct carat_memory memory;
    struct carat_limits limits; // n_threads 0: not asked for
    uint64_t private_peak;      // the most that was seen while one session worked
    uint64_t resident_peak;     // the same, file pages included
    double first_token_s;       // from before opening to the first token of a short prompt
    size_t n_runs;
    struct measure *measures;
    size_t n_measures;
    carat_token *tokens;             // room for the longest prompt
    struct carat_session **sessions; // of batches
    struct carat_step *steps;
    size_t n_rows_max; // of all batches; 0: none
    bool is_visible;
};

// In bench_measure.c. Evaluates a short prompt, the first thing after opening: started is when that
// began.
int bench_start(struct bench *b, double started, struct carat_error *err);
int bench_measure(struct bench *b, struct carat_error *err);

struct speeds {
    double median, min, max; // tokens per second, of all sessions together
};
struct speeds bench_speeds(const struct bench *b, const struct measure *m);
// The median beside that of one row; 0 where it was not measured.
double bench_ratio(const struct bench *b, const struct measure *m);

// How much of the machine's limit a speed is, 0 to 1; 0 where limits were not asked for.
struct share {
    double of_limit;
    enum bound by;
};
struct share bench_share(const struct bench *b, const struct measure *m, double tokens_per_s);
// The same of opening, and of all that comes before the first token.
struct share bench_load_share(const struct bench *b);
struct share bench_first_token_share(const struct bench *b);

// In bench_report.c.
void bench_write_json(const struct bench *b, struct buf *out);
void bench_write_table(const struct bench *b, struct buf *out);
// In bench_svg.c: a drawing of the speeds, complete as a file.
void bench_write_svg(const struct bench *b, struct buf *out);

#endif
