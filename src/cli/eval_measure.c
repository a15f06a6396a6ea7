// SPDX-License-Identifier: Apache-2.0
#include "cli/eval_measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------------------------------- one row

double logits_total(const float *logits, size_t n)
{
    double max = (double)logits[0], sum = 0;
    bool is_finite = true;
    for (size_t i = 0; i < n; i++) {
        max = (double)logits[i] > max ? (double)logits[i] : max;
        is_finite = is_finite && isfinite(logits[i]);
    }
    for (size_t i = 0; is_finite && i < n; i++) {
        sum += exp((double)logits[i] - max);
    }
    return is_finite ? max + log(sum) : (double)NAN;
}

// exp(-step * code) for every code, as the product of two of 256 values each: a row has far more
// words than that.
struct powers {
    double of_high[256], of_low[256];
};

static void powers_set(struct powers *p, double step)
{
    for (int i = 0; i < 256; i++) {
        p->of_high[i] = exp(-step * 256 * i);
        p->of_low[i] = exp(-step * i);
    }
}

static double power_of(const struct powers *p, uint16_t code)
{
    return p->of_high[code >> 8] * p->of_low[code & 255];
}

static double row_sum(const struct powers *powers, const struct logit_row *row, size_t n_vocab)
{
    double sum = 0;
    for (size_t i = 0; i < n_vocab; i++) {
        sum += power_of(powers, row->codes[i]);
    }
    return sum;
}

double logit_rows_divergence(const struct logit_row *p, const struct logit_row *q, size_t n_vocab)
{
    struct powers of_p, of_q;
    powers_set(&of_p, (double)p->step);
    powers_set(&of_q, (double)q->step);
    const double sum_p = row_sum(&of_p, p, n_vocab), sum_q = row_sum(&of_q, q, n_vocab);
    const double totals = log(sum_q) - log(sum_p);
    double sum = 0;
    for (size_t i = 0; i < n_vocab; i++) {
        double difference = (double)q->step * q->codes[i] - (double)p->step * p->codes[i] + totals;
        sum += power_of(&of_p, p->codes[i]) * difference;
    }
    // It cannot be negative but by rounding.
    return sum > 0 ? sum / sum_p : 0;
}

// ------------------------------------------------------------------------------------ all of them

struct sums {
    double sum, squares; // of the values less the first, which keeps digits
    double first;
    size_t n;
};

static void sums_add(struct sums *s, double value)
{
    s->first = s->n ? s->first : value;
    s->sum += value - s->first;
    s->squares += (value - s->first) * (value - s->first);
    s->n++;
}

static struct eval_mean sums_mean(const struct sums *s)
{
    if (s->n == 0) {
        return (struct eval_mean){0};
    }
    const double n = (double)s->n, mean = s->sum / n;
    double variance = s->n > 1 ? (s->squares - n * mean * mean) / (n - 1) : 0;
    return (struct eval_mean){s->first + mean, variance > 0 ? sqrt(variance / n) : 0};
}

// Of exp(mean), to first order.
static struct eval_mean exponential(struct eval_mean m)
{
    return (struct eval_mean){exp(m.mean), exp(m.mean) * m.error};
}

static bool fits(const struct eval_filter *f, const struct eval_record *r)
{
    return (!f->is_of_domain || r->domain == f->domain) &&
           (f->position_max == 0 ||
            (r->position >= f->position_min && r->position <= f->position_max));
}

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double eval_percentile(const double *sorted, size_t n, double share)
{
    if (n == 0) {
        return 0;
    }
    double at = share * (double)(n - 1);
    size_t i = (size_t)at;
    double part = at - (double)i;
    return i + 1 < n ? sorted[i] + part * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

static void set_percentiles(struct eval_summary *out, double *values, size_t n)
{
    qsort(values, n, sizeof(*values), compare_doubles);
    out->median = eval_percentile(values, n, 0.5);
    out->p90 = eval_percentile(values, n, 0.9);
    out->p99 = eval_percentile(values, n, 0.99);
    out->p999 = eval_percentile(values, n, 0.999);
    out->max = eval_percentile(values, n, 1);
}

void eval_summarize(struct eval_summary *out, const struct eval_record *records, size_t n,
                    const struct eval_filter *filter, double *scratch)
{
    struct sums loss = {0}, divergence = {0}, agreement = {0}, difference = {0};
    *out = (struct eval_summary){.n = 0};
    for (size_t i = 0; i < n; i++) {
        const struct eval_record *r = &records[i];
        if (fits(filter, r)) {
            scratch[out->n++] = r->divergence;
            out->n_bytes += r->n_bytes;
            sums_add(&loss, -(double)r->logprob);
            sums_add(&divergence, r->divergence);
            sums_add(&agreement, r->top == r->reference_top);
            sums_add(&difference, (double)r->logprob - (double)r->reference_logprob);
        }
    }
    out->loss = sums_mean(&loss);
    out->perplexity = exponential(out->loss);
    out->bits_per_byte =
        out->n_bytes ? out->loss.mean * (double)out->n / log(2) / (double)out->n_bytes : 0;
    out->divergence = sums_mean(&divergence);
    out->agreement = sums_mean(&agreement);
    out->difference = sums_mean(&difference);
    out->ratio = exponential((struct eval_mean){-out->difference.mean, out->difference.error});
    set_percentiles(out, scratch, out->n);
}

static bool is_worse(const struct eval_record *a, const struct eval_record *b, bool has_reference)
{
    return has_reference ? a->divergence > b->divergence : a->logprob < b->logprob;
}

size_t eval_worst(size_t *out, size_t n_out, const struct eval_record *records, size_t n,
                  bool has_reference)
{
    size_t n_found = 0;
    for (size_t i = 0; n_out > 0 && i < n; i++) {
        if (has_reference && records[i].divergence == 0) {
            continue;
        }
        if (n_found == n_out && !is_worse(&records[i], &records[out[n_found - 1]], has_reference)) {
            continue;
        }
        size_t at = n_found < n_out ? n_found++ : n_found - 1;
        for (; at > 0 && is_worse(&records[i], &records[out[at - 1]], has_reference); at--) {
            out[at] = out[at - 1];
        }
        out[at] = i;
    }
    return n_found;
}
