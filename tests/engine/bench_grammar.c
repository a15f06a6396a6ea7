// SPDX-License-Identifier: Apache-2.0
// What grammars cost: making one, and the time per token while an answer is written, at the
// vocabulary of the model file that is named. Not a test: bench_grammar MODEL.gguf.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/os.h"
#include "engine/grammar.h"

#define TOKENS_MAX 4096

struct job {
    const char *name;
    struct carat_grammar_options options;
    const char *answer; // markers spelled out
};

#define PERSON                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"       \
    "\"integer\",\"minimum\":0,\"maximum\":150},\"email\":{\"type\":\"string\",\"format\":"        \
    "\"email\"},\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"note\":{\"type\":" \
    "\"string\",\"maxLength\":120}},\"required\":[\"name\",\"age\"]}"
#define TREE                                                                                       \
    "{\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"title\":{\"type\":\"string\"},"   \
    "\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/node\"}}},\"required\":"           \
    "[\"title\",\"kids\"]}},\"$ref\":\"#/$defs/node\"}"
#define TOOLS                                                                                      \
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":"     \
    "\"object\",\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"},"   \
    "\"unit\":{\"type\":\"string\",\"enum\":[\"c\",\"f\"]}},\"required\":[\"city\"]}}},"           \
    "{\"type\":\"function\",\"function\":{\"name\":\"write_file\",\"parameters\":{\"type\":"       \
    "\"object\",\"properties\":{\"path\":{\"type\":\"string\"},\"content\":{\"type\":"             \
    "\"string\"}},\"required\":[\"path\",\"content\"]}}}]"
#define SENTENCE                                                                                   \
    "The quick brown fox jumps over the lazy dog near the river bank, and 42 geese watch it go."

static const struct job jobs[] = {
    {"any JSON",
     {.json_schema = "{}"},
     "{\"a\": [1, 2.5, true, null, {\"b\": \"" SENTENCE "\", \"c\": []}], \"long key\": {\"x\": "
     "{\"y\": {\"z\": \"" SENTENCE " \\\"quoted\\\" \\u00e9 \xc3\xa9 \xe4\xb8\xad\"}}}}"},
    {"person",
     {.json_schema = PERSON},
     "{\"name\": \"Ada Lovelace\", \"age\": 36, \"email\": \"ada@example.org\", \"tags\": "
     "[\"maths\", \"engines\", \"poetry\"], \"note\": \"" SENTENCE "\"}"},
    {"tree",
     {.json_schema = TREE},
     "{\"title\": \"root\", \"kids\": [{\"title\": \"" SENTENCE
     "\", \"kids\": [{\"title\": \"leaf\""
     ", \"kids\": []}, {\"title\": \"other\", \"kids\": [{\"title\": \"deep\", \"kids\": "
     "[]}]}]}]}"},
    {"expression", {.regex = "[A-Z][a-z]+( [a-zA-Z0-9,.]+)*"}, SENTENCE},
    {"required call",
     {.tools = TOOLS, .tool_choice = CARAT_TOOLS_REQUIRED},
     "<|channel>thought\n" SENTENCE "\n<channel|><|tool_call>call:get_weather{city:<|\"|>Berlin"
     "<|\"|>,days:3,unit:<|\"|>c<|\"|>}<tool_call|><|tool_call>call:write_file{content:<|\"|>"
     "int main(void)\n{\n    return \"" SENTENCE "\"[0];\n}\n<|\"|>,path:<|\"|>src/main.c<|\"|>}"
     "<tool_call|>"},
    {"text or calls",
     {.tools = TOOLS},
     SENTENCE "<|tool_call>call:get_weather{city:<|\"|>Ulaanbaatar<|\"|>}<tool_call|>"},
};

static int by_time(const void *x, const void *y)
{
    const double a = *(const double *)x;
    const double b = *(const double *)y;
    return (a > b) - (a < b);
}

// One answer; times in microseconds. Negative when the grammar refuses it.
static int64_t write_answer(const struct carat_engine *engine, const struct carat_grammar *grammar,
                            const char *answer, double *times)
{
    carat_token tokens[TOKENS_MAX];
    struct grammar_run *run = NULL;
    const int64_t n = carat_tokenize(engine, answer, strlen(answer), CARAT_TOKENIZE_SPECIAL, tokens,
                                     TOKENS_MAX, NULL);
    if (n < 0 || n > TOKENS_MAX || grammar_run_new(&run, grammar, NULL)) {
        return -1;
    }
    int64_t done = 0;
    for (; done < n; done++) {
        const double begin = os_seconds();
        const uint64_t *allowed = grammar_run_allowed(run);
        grammar_run_accept(run, tokens[done]);
        times[done] = (os_seconds() - begin) * 1e6;
        if (allowed && !bit_get(allowed, tokens[done])) {
            size_t size = 0;
            const char *text = carat_token_text(engine, tokens[done], &size);
            printf("  token %d refused: \"%.*s\"\n", (int)done, (int)size, text);
            break;
        }
    }
    grammar_run_free(run);
    return done == n ? n : -1;
}

static void print_times(const char *what, double *times, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += times[i];
    }
    qsort(times, (size_t)n, sizeof(*times), by_time);
    printf("  %-10s %5d tokens  median %8.2f  mean %8.2f  p99 %8.2f  max %9.2f us\n", what, (int)n,
           times[n / 2], sum / (double)n, times[n * 99 / 100], times[n - 1]);
}

static int bench(const struct carat_engine *engine, const struct job *job)
{
    static double times[TOKENS_MAX];
    struct carat_grammar *grammar = NULL;
    struct carat_error err = {0};
    const double begin = os_seconds();
    if (carat_grammar_new(&grammar, engine, &job->options, &err)) {
        printf("%s: %s\n", job->name, err.text);
        return 1;
    }
    printf("%s: made in %.2f ms, %zu states\n", job->name, (os_seconds() - begin) * 1e3,
           grammar->program.n_states - grammar->program.n_shared);
    int rc = 0;
    for (int pass = 0; pass < 3 && rc == 0; pass++) {
        const int64_t n = write_answer(engine, grammar, job->answer, times);
        rc = n <= 0;
        if (rc == 0 && pass != 1) {
            print_times(pass == 0 ? "first use" : "then", times, n);
        }
    }
    carat_grammar_free(grammar);
    return rc;
}

// Of text that does not repeat itself.
static void bench_loop_guard(void)
{
    struct carat_loop_guard *guard = NULL;
    const size_t n = 100000;
    size_t n_loops = 0;
    if (carat_loop_guard_new(&guard, NULL) == 0) {
        const double begin = os_seconds();
        for (size_t i = 0; i < n; i++) {
            n_loops += carat_loop_guard_feed(guard, (carat_token)(i * i % 7919));
        }
        printf("loop guard: %.3f us per token, %zu loops\n",
               (os_seconds() - begin) / (double)n * 1e6, n_loops);
    }
    carat_loop_guard_free(guard);
}

int main(int argc, char **argv)
{
    const struct carat_engine_options options = {.model = argc > 1 ? argv[1] : "",
                                                 .is_vocab_only = true};
    struct carat_engine *engine = NULL;
    struct carat_error err = {0};
    if (carat_engine_open(&engine, &options, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const size_t memory = mem_bytes_now();
    const double begin = os_seconds();
    struct carat_grammar *first = NULL;
    int rc = carat_grammar_new(&first, engine, &(struct carat_grammar_options){0}, &err);
    if (rc == 0) {
        printf("%zu tokens: the first grammar takes %.0f ms and %.1f MiB\n",
               carat_engine_info(engine)->n_vocab, (os_seconds() - begin) * 1e3,
               (double)(mem_bytes_now() - memory) / (1 << 20));
    }
    for (size_t i = 0; rc == 0 && i < sizeof(jobs) / sizeof(jobs[0]); i++) {
        rc = bench(engine, &jobs[i]);
    }
    bench_loop_guard();
    carat_grammar_free(first);
    carat_engine_close(engine);
    return rc != 0;
}
