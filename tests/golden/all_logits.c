// SPDX-License-Identifier: Apache-2.0
// Writes the logits after every token: for tools/check_quantized.py.
//
//   all_logits MODEL float|auto < LINES > LOGITS
//
// A line is the ids of one text; what comes out are f32, [tokens of all lines, vocabulary].
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "carat.h"

#define TOKENS_MAX 4096
#define LINE_MAX   65536

static void write_logits(void *user, const char *name, int layer, size_t first, size_t n_rows,
                         size_t n_columns, const float *rows)
{
    (void)layer;
    (void)first;
    bool *is_short = user;
    if (strcmp(name, "logits") == 0) {
        *is_short = fwrite(rows, sizeof(float) * n_columns, n_rows, stdout) != n_rows || *is_short;
    }
}

static int run_line(struct carat_engine *engine, const char *line, struct carat_error *err)
{
    carat_token ids[TOKENS_MAX];
    size_t n = 0;
    bool is_short = false;
    char *end = NULL;
    for (const char *p = line; n < TOKENS_MAX; p = end) {
        long id = strtol(p, &end, 10);
        if (end == p) {
            break;
        }
        ids[n++] = (carat_token)id;
    }
    const struct carat_session_options options = {.context_max = TOKENS_MAX,
                                                  .kv_type = CARAT_KV_F32,
                                                  .has_all_logits = true,
                                                  .on_tensor = write_logits,
                                                  .user = &is_short};
    struct carat_prompt *prompt = NULL;
    struct carat_session *session = NULL;
    int rc = carat_prompt_from_tokens(&prompt, engine, ids, n, err);
    rc = rc ? rc : carat_session_new(&session, engine, &options, err);
    rc = rc ? rc : carat_session_sync(session, prompt, NULL, err);
    carat_session_free(session);
    carat_prompt_free(prompt);
    return rc ? rc : is_short;
}

int main(int argc, char **argv)
{
    static char line[LINE_MAX];
    struct carat_error err = {.text = "the output could not be written"};
    struct carat_engine *engine = NULL;
    if (argc != 3) {
        fprintf(stderr, "all_logits MODEL float|auto < LINES > LOGITS\n");
        return 2;
    }
    const struct carat_engine_options options = {.model = argv[1],
                                                 .activations = strcmp(argv[2], "float") == 0
                                                                    ? CARAT_ACTIVATIONS_FLOAT
                                                                    : CARAT_ACTIVATIONS_AUTO};
    int rc = carat_engine_open(&engine, &options, &err);
    while (rc == 0 && fgets(line, sizeof(line), stdin)) {
        rc = run_line(engine, line, &err);
    }
    carat_engine_close(engine);
    if (rc) {
        fprintf(stderr, "all_logits: %s\n", err.text);
    }
    return rc != 0;
}
