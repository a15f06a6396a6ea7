// SPDX-License-Identifier: Apache-2.0
// Tables for people and JSON for programs.
#include "cli/eval_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NAME_WIDTH_MAX 40
#define CONTEXT_SHOWN  16 // tokens before one of the worst

double eval_bits(const struct eval_model *m)
{
    return m->n_parameters ? 8.0 * (double)m->weights_size / (double)m->n_parameters : 0;
}

bool eval_bucket(struct eval_filter *out, size_t i, size_t context)
{
    *out = (struct eval_filter){0};
    if (i >= 31 || ((size_t)1 << i) >= context) {
        return false;
    }
    out->position_min = 1u << i;
    out->position_max = (2u << i) - 1;
    return true;
}

int eval_report_init(struct eval_report *r, struct carat_error *err)
{
    const struct eval_filter all = {0};
    const size_t n = r->plan->n_scored;
    r->scratch = mem_new_array(n, sizeof(*r->scratch), err);
    r->summaries = r->scratch ? mem_new_array(r->n_models, sizeof(*r->summaries), err) : NULL;
    if (!r->summaries) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < r->n_models; i++) {
        eval_summarize(&r->summaries[i], r->models[i].records, n, &all, r->scratch);
    }
    if (r->reference) {
        eval_summarize(&r->of_reference, r->reference->records, n, &all, r->scratch);
    }
    return 0;
}

void eval_report_release(struct eval_report *r)
{
    mem_free(r->scratch);
    mem_free(r->summaries);
}

// ------------------------------------------------------------------------------------------ table

// "1.2345 ± 0.0012", padded by hand because ± is two bytes.
static void add_mean(struct buf *out, int width, int decimals, struct eval_mean m, double factor)
{
    char text[80];
    int n = snprintf(text, sizeof(text), "%.*f ± %.*f", decimals, factor * m.mean, decimals,
                     factor * m.error);
    int padding = width - (n - 1);
    buf_addf(out, "  %*s%s", padding > 0 ? padding : 0, "", text);
}

// Perplexities of a bad model are large, and their digits worth nothing.
static void add_perplexity(struct buf *out, int width, struct eval_mean m)
{
    if (m.mean < 1e4) {
        add_mean(out, width, m.mean < 1e3 ? 4 : 1, m, 1);
    } else {
        char text[80];
        int n = snprintf(text, sizeof(text), "%.4g ± %.2g", m.mean, m.error);
        buf_addf(out, "  %*s%s", width > n - 1 ? width - (n - 1) : 0, "", text);
    }
}

static int name_width(const struct eval_report *r)
{
    size_t width = 12;
    for (size_t i = 0; i < r->n_models; i++) {
        size_t size = strlen(r->models[i].name);
        width = size > width ? size : width;
    }
    for (size_t i = 0; i < r->plan->n_domains; i++) {
        size_t size = strlen(r->plan->domains[i].name);
        width = size > width ? size : width;
    }
    return width < NAME_WIDTH_MAX ? (int)width : NAME_WIDTH_MAX;
}

static void write_head(const struct eval_report *r, struct buf *out)
{
    const struct eval_plan *plan = r->plan;
    const struct eval_rule *rule = &plan->rule;
    buf_addf(out, "%s tokens (%s bytes) of ", count_text(plan->n_scored).text,
             count_text(r->summaries[0].n_bytes).text);
    buf_addf(out, "%zu domain%s scored, in %s window%s of at most %zu tokens", plan->n_domains,
             plan->n_domains == 1 ? "" : "s", count_text(plan->n_windows).text,
             plan->n_windows == 1 ? "" : "s", rule->context);
    if (rule->stride != rule->context - 1) {
        buf_addf(out, ", one every %zu", rule->stride);
    }
    if (rule->skip) {
        buf_addf(out, ", the first %zu of each left out", rule->skip);
    }
    buf_adds(out, ".\n");
    if (r->reference) {
        const struct eval_model *m = r->reference;
        buf_addf(out, "Compared with %s, %s, %.2f bits per weight: perplexity", m->name,
                 size_text(m->size).text, eval_bits(m));
        add_perplexity(out, 0, r->of_reference.perplexity);
        buf_addf(out, ", %.4f bits per byte.\n", r->of_reference.bits_per_byte);
    }
}

static void write_models(const struct eval_report *r, int width, struct buf *out)
{
    buf_addf(out, "\n%-*s  %9s  %6s  %17s  %9s", width, "model", "bytes", "bits/w", "perplexity",
             "bits/byte");
    buf_adds(out,
             r->reference ? "             ratio              KL mean      same top %\n" : "\n");
    for (size_t i = 0; i < r->n_models; i++) {
        const struct eval_model *m = &r->models[i];
        const struct eval_summary *s = &r->summaries[i];
        buf_addf(out, "%-*s  %9s  %6.2f", width, m->name, size_text(m->size).text, eval_bits(m));
        add_perplexity(out, 17, s->perplexity);
        buf_addf(out, "  %9.4f", s->bits_per_byte);
        if (r->reference) {
            add_mean(out, 16, 4, s->ratio, 1);
            add_mean(out, 19, 6, s->divergence, 1);
            add_mean(out, 14, 2, s->agreement, 100);
        }
        buf_addc(out, '\n');
    }
}

static void write_percentiles(const struct eval_report *r, int width, struct buf *out)
{
    buf_addf(out, "\n%-*s  %9s  %9s  %9s  %9s  %9s  %20s\n", width, "KL divergence", "median",
             "90 %", "99 %", "99.9 %", "largest", "change of ln p");
    for (size_t i = 0; i < r->n_models; i++) {
        const struct eval_summary *s = &r->summaries[i];
        buf_addf(out, "%-*s  %9.6f  %9.6f  %9.6f  %9.6f  %9.6f", width, r->models[i].name,
                 s->median, s->p90, s->p99, s->p999, s->max);
        add_mean(out, 20, 6, s->difference, 1);
        buf_addc(out, '\n');
    }
}

static void write_part_head(const struct eval_report *r, const char *what, int width,
                            struct buf *out)
{
    buf_addf(out, "\n%-*s  %10s  %17s  %9s", width, what, "tokens", "perplexity", "bits/byte");
    buf_adds(out, r->reference ? "              KL mean    KL 99 %      same top %\n" : "\n");
}

static void write_part(const struct eval_report *r, const struct eval_model *m, const char *name,
                       const struct eval_filter *filter, int width, struct buf *out)
{
    struct eval_summary s;
    eval_summarize(&s, m->records, r->plan->n_scored, filter, r->scratch);
    if (s.n == 0) {
        return;
    }
    buf_addf(out, "%-*s  %10s", width, name, count_text(s.n).text);
    add_perplexity(out, 17, s.perplexity);
    buf_addf(out, "  %9.4f", s.bits_per_byte);
    if (r->reference) {
        add_mean(out, 19, 6, s.divergence, 1);
        buf_addf(out, "  %9.6f", s.p99);
        add_mean(out, 14, 2, s.agreement, 100);
    }
    buf_addc(out, '\n');
}

static void write_parts(const struct eval_report *r, const struct eval_model *m, int width,
                        struct buf *out)
{
    struct eval_filter filter = {.is_of_domain = true};
    if (r->n_models > 1) {
        buf_addf(out, "\n%s", m->name);
    }
    write_part_head(r, "domain", width, out);
    for (size_t i = 0; i < r->plan->n_domains; i++) {
        filter.domain = (uint32_t)i;
        write_part(r, m, r->plan->domains[i].name, &filter, width, out);
    }
    write_part_head(r, "position", width, out);
    for (size_t i = 0; eval_bucket(&filter, i, r->plan->rule.context); i++) {
        char name[40];
        snprintf(name, sizeof(name), i ? "%u-%u" : "%u", filter.position_min, filter.position_max);
        write_part(r, m, name, &filter, width, out);
    }
}

// ----------------------------------------------------------------------------------- worst tokens

static void add_token(const struct eval_report *r, uint32_t token, struct buf *out)
{
    size_t size = 0;
    const char *text = carat_token_text(r->words, (carat_token)token, &size);
    buf_add_json(out, text ? text : "", size);
}

// The tokens before it, joined before they become a string: a character may lie across two.
static void add_context(const struct eval_report *r, const struct eval_record *record,
                        struct buf *out)
{
    const struct eval_window *w = &r->plan->windows[record->window];
    size_t end = record->position - 1, n = end < CONTEXT_SHOWN ? end : CONTEXT_SHOWN;
    struct buf text = {.max = 1 << 20};
    for (size_t i = end - n; i < end; i++) {
        size_t size = 0;
        const char *piece = carat_token_text(r->words, r->plan->tokens[w->first + i], &size);
        buf_add(&text, piece ? piece : "", size);
    }
    buf_add_json(out, buf_text(&text), text.size);
    buf_release(&text);
}

static void write_worst(const struct eval_report *r, const struct eval_model *m, size_t *worst,
                        struct buf *out)
{
    size_t n = eval_worst(worst, r->n_worst, m->records, r->plan->n_scored, r->reference != NULL);
    buf_addf(out, n ? "\nWorst tokens of %s:\n" : "\n%s: no token differs.\n", m->name);
    for (size_t i = 0; i < n; i++) {
        const struct eval_record *t = &m->records[worst[i]];
        if (r->reference) {
            buf_addf(out, "KL %.4f", t->divergence);
        } else {
            buf_addf(out, "ln p %.4f", (double)t->logprob);
        }
        buf_addf(out, ", %s, window %u, position %u: ", r->plan->domains[t->domain].name, t->window,
                 t->position);
        add_context(r, t, out);
        buf_adds(out, "\n    came ");
        add_token(r, t->token, out);
        if (r->reference) {
            buf_addf(out, " (ln p %.3f, here %.3f), likeliest ", (double)t->reference_logprob,
                     (double)t->logprob);
            add_token(r, t->reference_top, out);
            buf_adds(out, ", here ");
        } else {
            buf_adds(out, ", likeliest ");
        }
        add_token(r, t->top, out);
        buf_addc(out, '\n');
    }
}

void eval_report_table(const struct eval_report *r, struct buf *out)
{
    const int width = name_width(r);
    size_t *worst = mem_new_array(r->n_worst, sizeof(*worst), NULL);
    write_head(r, out);
    write_models(r, width, out);
    if (r->reference) {
        write_percentiles(r, width, out);
    }
    for (size_t i = 0; i < r->n_models; i++) {
        write_parts(r, &r->models[i], width, out);
    }
    for (size_t i = 0; worst && r->n_worst && i < r->n_models; i++) {
        write_worst(r, &r->models[i], worst, out);
    }
    mem_free(worst);
}

// ------------------------------------------------------------------------------------------- JSON

// Sums over many tokens have more digits than a float.
static void add_double(struct buf *out, double value)
{
    if (isfinite(value)) {
        buf_addf(out, "%.15g", value);
    } else {
        buf_adds(out, "null");
    }
}

static void add_number(struct buf *out, const char *name, double value)
{
    buf_addf(out, ",\"%s\":", name);
    add_double(out, value);
}

static void add_json_mean(struct buf *out, const char *name, struct eval_mean m)
{
    buf_addf(out, ",\"%s\":{\"mean\":", name);
    add_double(out, m.mean);
    add_number(out, "error", m.error);
    buf_addc(out, '}');
}

static void add_summary(const struct eval_summary *s, bool is_compared, struct buf *out)
{
    buf_addf(out, "\"tokens\":%zu,\"bytes_of_text\":%llu", s->n, (unsigned long long)s->n_bytes);
    add_json_mean(out, "loss", s->loss);
    add_json_mean(out, "perplexity", s->perplexity);
    add_number(out, "bits_per_byte", s->bits_per_byte);
    if (is_compared) {
        add_json_mean(out, "perplexity_ratio", s->ratio);
        add_json_mean(out, "kl", s->divergence);
        add_number(out, "kl_median", s->median);
        add_number(out, "kl_90", s->p90);
        add_number(out, "kl_99", s->p99);
        add_number(out, "kl_99_9", s->p999);
        add_number(out, "kl_max", s->max);
        add_json_mean(out, "same_top", s->agreement);
        add_json_mean(out, "ln_p_change", s->difference);
    }
}

static void add_json_worst(const struct eval_report *r, const struct eval_model *m, size_t *worst,
                           struct buf *out)
{
    size_t n = eval_worst(worst, r->n_worst, m->records, r->plan->n_scored, r->reference != NULL);
    buf_adds(out, ",\"worst\":[");
    for (size_t i = 0; i < n; i++) {
        const struct eval_record *t = &m->records[worst[i]];
        const char *domain = r->plan->domains[t->domain].name;
        buf_adds(out, i ? ",{\"domain\":" : "{\"domain\":");
        buf_add_json(out, domain, strlen(domain));
        buf_addf(out, ",\"window\":%u,\"position\":%u,\"context\":", t->window, t->position);
        add_context(r, t, out);
        buf_adds(out, ",\"token\":");
        add_token(r, t->token, out);
        buf_adds(out, ",\"got\":");
        add_token(r, t->top, out);
        add_number(out, "ln_p", (double)t->logprob);
        if (r->reference) {
            buf_adds(out, ",\"expected\":");
            add_token(r, t->reference_top, out);
            add_number(out, "reference_ln_p", (double)t->reference_logprob);
            add_number(out, "kl", t->divergence);
        }
        buf_addc(out, '}');
    }
    buf_addc(out, ']');
}

static void add_json_parts(const struct eval_report *r, const struct eval_model *m,
                           bool is_compared, struct buf *out)
{
    struct eval_summary s;
    struct eval_filter filter = {.is_of_domain = true};
    buf_adds(out, ",\"domains\":[");
    for (size_t i = 0, n = 0; i < r->plan->n_domains; i++) {
        const char *name = r->plan->domains[i].name;
        filter.domain = (uint32_t)i;
        eval_summarize(&s, m->records, r->plan->n_scored, &filter, r->scratch);
        if (s.n > 0) {
            buf_adds(out, n++ ? ",{\"domain\":" : "{\"domain\":");
            buf_add_json(out, name, strlen(name));
            buf_addc(out, ',');
            add_summary(&s, is_compared, out);
            buf_addc(out, '}');
        }
    }
    buf_adds(out, "],\"positions\":[");
    for (size_t i = 0, n = 0; eval_bucket(&filter, i, r->plan->rule.context); i++) {
        eval_summarize(&s, m->records, r->plan->n_scored, &filter, r->scratch);
        if (s.n > 0) {
            buf_addf(out, "%s{\"first\":%u,\"last\":%u,", n++ ? "," : "", filter.position_min,
                     filter.position_max);
            add_summary(&s, is_compared, out);
            buf_addc(out, '}');
        }
    }
    buf_addc(out, ']');
}

static void add_json_model(const struct eval_report *r, const struct eval_model *m,
                           const struct eval_summary *s, size_t *worst, struct buf *out)
{
    const bool is_compared = m != r->reference && r->reference;
    buf_adds(out, "{\"model\":");
    buf_add_json(out, m->name, strlen(m->name));
    buf_addf(out, ",\"bytes\":%llu,\"parameters\":%llu", (unsigned long long)m->size,
             (unsigned long long)m->n_parameters);
    add_number(out, "bits_per_weight", eval_bits(m));
    buf_addc(out, ',');
    add_summary(s, is_compared, out);
    add_json_parts(r, m, is_compared, out);
    if (worst) {
        add_json_worst(r, m, worst, out);
    }
    buf_addc(out, '}');
}

void eval_report_json(const struct eval_report *r, struct buf *out)
{
    const struct eval_rule *rule = &r->plan->rule;
    size_t *worst = r->n_worst ? mem_new_array(r->n_worst, sizeof(*worst), NULL) : NULL;
    buf_addf(out, "{\"tokens\":%zu,\"windows\":%zu,\"context\":%zu,\"stride\":%zu,\"skip\":%zu",
             r->plan->n_scored, r->plan->n_windows, rule->context, rule->stride, rule->skip);
    if (r->reference) {
        buf_adds(out, ",\"reference\":");
        add_json_model(r, r->reference, &r->of_reference, NULL, out);
    }
    buf_adds(out, ",\"models\":[");
    for (size_t i = 0; i < r->n_models; i++) {
        buf_adds(out, i ? "," : "");
        add_json_model(r, &r->models[i], &r->summaries[i], worst, out);
    }
    buf_adds(out, "]}\n");
    mem_free(worst);
}
