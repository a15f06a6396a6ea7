// SPDX-License-Identifier: Apache-2.0
// The arithmetic of carat eval: a row of logits, two rows beside each other, and sums over tokens.
// docs/eval.md has the formulas. Knows base alone.
#ifndef CARAT_CLI_EVAL_MEASURE_H
#define CARAT_CLI_EVAL_MEASURE_H

#include "cli/eval_logits.h"

// The logarithm of the sum of exp(logit); no number when a logit is none or infinite.
double logits_total(const float *logits, size_t n);
// The divergence sum of p (ln p - ln q), in nats, at least 0; both rows are brought to a sum of one
// first. Exactly 0 for equal rows.
double logit_rows_divergence(const struct logit_row *p, const struct logit_row *q, size_t n_vocab);

// What is kept of a scored token.
struct eval_record {
    double divergence; // from the reference, which the next two are of as well
    float reference_logprob;
    uint32_t reference_top;
    float logprob; // ln p of the token that came
    uint32_t top;  // the likeliest token
    uint32_t token;
    uint32_t n_bytes; // of its text
    uint32_t domain;
    uint32_t window;
    uint32_t position; // tokens before it in the window, <bos> among them
};

// Which records count. Zero means all.
struct eval_filter {
    bool is_of_domain;
    uint32_t domain;
    uint32_t position_min, position_max; // max 0: all
};

// A mean and its standard error, tokens being taken as independent.
struct eval_mean {
    double mean, error;
};
struct eval_summary {
    size_t n;
    uint64_t n_bytes;
    struct eval_mean loss;       // -ln p of the token that came
    struct eval_mean perplexity; // exp of the mean loss
    double bits_per_byte;
    // Against a reference:
    struct eval_mean divergence;
    double median, p90, p99, p999, max; // of the divergence
    struct eval_mean agreement;         // share of tokens whose likeliest token is the reference's
    struct eval_mean difference;        // ln p of the token that came, less the reference's
    struct eval_mean ratio;             // of the perplexities
};
// scratch: room for n doubles.
void eval_summarize(struct eval_summary *out, const struct eval_record *records, size_t n,
                    const struct eval_filter *filter, double *scratch);
// The value below which this share of the sorted values lies, between two in proportion.
double eval_percentile(const double *sorted, size_t n, double share);

// Writes the indices of the n_out records with the largest divergence (has_reference), or the least
// likely tokens, worst first; of equal ones the first comes first. Those without a divergence are
// left out. How many there are.
size_t eval_worst(size_t *out, size_t n_out, const struct eval_record *records, size_t n,
                  bool has_reference);

#endif
