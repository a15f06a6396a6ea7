// SPDX-License-Identifier: Apache-2.0
#include "cli/bench.h"

#include <string.h>

static void write_json_row(const struct bench *b, const struct measure *m, struct buf *out)
{
    struct speeds s = bench_speeds(b, m);
    struct share share = bench_share(b, m, s.median);
    buf_adds(out, "{");
    if (m->kind == MEASURE_DECODE) {
        buf_addf(out, "\"depth\":%zu,", m->depth);
    } else if (m->kind == MEASURE_BATCH) {
        buf_addf(out, "\"rows\":%zu,\"ratio_to_one\":%.4f,", m->n_rows, bench_ratio(b, m));
    }
    buf_addf(out,
             "\"tokens\":%zu,\"tokens_per_s\":%.3f,\"min_tokens_per_s\":%.3f,"
             "\"max_tokens_per_s\":%.3f",
             m->tokens, s.median, s.min, s.max);
    if (share.of_limit > 0) {
        buf_addf(out, ",\"share_of_limit\":%.4f,\"bound_by\":\"%s\"", share.of_limit,
                 bound_names[share.by]);
    }
    buf_adds(out, "}");
}

static void write_json_list(const struct bench *b, enum measure_kind kind, struct buf *out)
{
    bool is_first = true;
    buf_addf(out, "\"%s\":[", measure_names[kind]);
    for (size_t i = 0; i < b->n_measures; i++) {
        if (b->measures[i].kind == kind) {
            buf_adds(out, is_first ? "" : ",");
            write_json_row(b, &b->measures[i], out);
            is_first = false;
        }
    }
    buf_adds(out, "],");
}

// What follows a time of the start under this name.
static void write_json_start(const char *name, double seconds, struct share share, struct buf *out)
{
    buf_addf(out, ",\"%s_s\":%.4f", name, seconds);
    if (share.of_limit > 0) {
        buf_addf(out, ",\"%s_share_of_limit\":%.6f,\"%s_bound_by\":\"%s\"", name, share.of_limit,
                 name, bound_names[share.by]);
    }
}

void bench_write_json(const struct bench *b, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(b->loaded.engine);
    const struct carat_memory *m = &b->memory;
    buf_adds(out, "{");
    write_json_list(b, MEASURE_PREFILL, out);
    write_json_list(b, MEASURE_DECODE, out);
    write_json_list(b, MEASURE_BATCH, out);
    buf_addf(out,
             "\"memory\":{\"weights\":%llu,\"tables\":%llu,\"kv_sliding\":%llu,\"kv_full\":%llu,"
             "\"scratch\":%llu,\"total\":%llu,\"context\":%zu,\"measured_private\":%llu,"
             "\"measured_resident_peak\":%llu}",
             (unsigned long long)m->weights, (unsigned long long)m->tables,
             (unsigned long long)m->kv_sliding, (unsigned long long)m->kv_full,
             (unsigned long long)m->scratch, (unsigned long long)m->total, m->context_max,
             (unsigned long long)b->private_peak, (unsigned long long)b->resident_peak);
    if (b->limits.n_threads) {
        buf_adds(out, ",");
        limits_write_json(&b->limits, out);
    }
    buf_adds(out, ",\"model\":");
    buf_add_json(out, info->name, strlen(info->name));
    buf_addf(out,
             ",\"weight_type\":\"%s\",\"cpu\":\"%s\",\"threads\":%zu,\"runs\":%zu,"
             "\"depth_by\":\"%s\",\"kv_type\":\"%s\"",
             info->weight_type, info->cpu_level, info->n_threads, b->n_runs,
             b->options->evaluates ? "evaluating" : "filling", kv_type_names[b->settings.kv_type]);
    write_json_start("load", b->loaded.load_s, bench_load_share(b), out);
    write_json_start("first_token", b->first_token_s, bench_first_token_share(b), out);
    buf_adds(out, "}\n");
}

static void write_share(const struct bench *b, const struct measure *m, struct buf *out)
{
    struct share share = bench_share(b, m, bench_speeds(b, m).median);
    if (share.of_limit > 0) {
        buf_addf(out, "  %5.1f %% of %s", 100 * share.of_limit, bound_names[share.by]);
    }
    buf_adds(out, "\n");
}

static void write_speeds(const struct bench *b, struct buf *out)
{
    bool has_depth = false;
    buf_addf(out, "%-8s %8s %8s %12s %12s %12s%s\n", "", "depth", "tokens", "tokens/s", "slowest",
             "fastest", b->limits.n_threads ? "  of the limit" : "");
    for (size_t i = 0; i < b->n_measures; i++) {
        const struct measure *m = &b->measures[i];
        if (m->kind != MEASURE_BATCH) {
            struct speeds s = bench_speeds(b, m);
            buf_addf(out, "%-8s %8zu %8zu %12.2f %12.2f %12.2f", measure_names[m->kind], m->depth,
                     m->tokens, s.median, s.min, s.max);
            write_share(b, m, out);
            has_depth = has_depth || m->depth > 0;
        }
    }
    buf_addf(out, "\ntokens/s is the median of %zu runs.", b->n_runs);
    if (has_depth) {
        buf_adds(out, b->options->evaluates
                          ? " What stands before a decode was evaluated."
                          : " What stands before a decode was filled in, not evaluated.");
    }
    buf_adds(out, "\n");
}

static void write_batches(const struct bench *b, struct buf *out)
{
    buf_addf(out, "\n%-8s %8s %8s %12s %12s %12s%s\n", "", "rows", "to one", "tokens/s", "slowest",
             "fastest", b->limits.n_threads ? "  of the limit" : "");
    for (size_t i = 0; i < b->n_measures; i++) {
        const struct measure *m = &b->measures[i];
        if (m->kind == MEASURE_BATCH) {
            struct speeds s = bench_speeds(b, m);
            buf_addf(out, "%-8s %8zu %8.2f %12.2f %12.2f %12.2f", measure_names[m->kind], m->n_rows,
                     bench_ratio(b, m), s.median, s.min, s.max);
            write_share(b, m, out);
        }
    }
    buf_adds(out,
             "\nrows: conversations that go on together, one token of each in a step; tokens/s "
             "is that of all.\n");
}

static void write_start_share(struct share share, struct buf *out)
{
    if (share.of_limit > 0) {
        buf_addf(out, ", %.1f %% of %s", 100 * share.of_limit, bound_names[share.by]);
    }
    buf_adds(out, "\n");
}

void bench_write_table(const struct bench *b, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(b->loaded.engine);
    const struct carat_memory *m = &b->memory;
    buf_addf(out, "%s, %s, %zu threads (%s), loaded in %.2f s", info->name, info->weight_type,
             info->n_threads, info->cpu_level, b->loaded.load_s);
    write_start_share(bench_load_share(b), out);
    buf_addf(out, "First token of a prompt of %d: %.2f s after the start", BENCH_START_TOKENS,
             b->first_token_s);
    write_start_share(bench_first_token_share(b), out);
    buf_adds(out, "\n");
    if (b->limits.n_threads) {
        limits_write_table(&b->limits, out);
    }
    write_speeds(b, out);
    if (b->n_rows_max > 0) {
        write_batches(b, out);
    }
    buf_addf(out, "\nMemory for a context of %zu tokens, kv cache in %s: ", m->context_max,
             kv_type_names[b->settings.kv_type]);
    buf_addf(out, "%s planned (weights %s,\n", size_text(m->total).text,
             size_text(m->weights).text);
    buf_addf(out, "kv cache %s, ", size_text(m->kv_sliding + m->kv_full).text);
    buf_addf(out, "other %s), ", size_text(m->tables + m->scratch).text);
    buf_addf(out, "%s private and ", size_text(b->private_peak).text);
    buf_addf(out, "%s resident at most,\nfile pages included%s.\n",
             size_text(b->resident_peak).text, b->n_rows_max > 0 ? ", batches not" : "");
}
