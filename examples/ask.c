// SPDX-License-Identifier: Apache-2.0
// Asks a model one question and prints the answer as it comes.
//   cc -std=c11 ask.c $(pkg-config --cflags --libs carat) -o ask
//   ./ask model.gguf "Why is the sky blue?"
#include <stdio.h>

#include <carat.h>

static bool print_text(void *user, const struct carat_event *event)
{
    (void)user;
    if (event->type == CARAT_EVENT_TEXT) {
        fwrite(event->text, 1, event->size, stdout);
        fflush(stdout);
    }
    return true; // false would stop the answer
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: ask MODEL QUESTION\n");
        return 2;
    }
    struct carat_error err = {0};
    struct carat_engine *engine = NULL;
    struct carat_prompt *prompt = NULL;
    struct carat_session *session = NULL;
    struct carat_sampler *sampler = NULL;
    struct carat_parser *parser = NULL;

    struct carat_part question = {.text = argv[2]};
    struct carat_message message = {.role = "user", .parts = &question, .n_parts = 1};
    struct carat_chat chat = {.messages = &message, .n_messages = 1};
    struct carat_engine_options model = {.model = argv[1]};
    struct carat_session_options options = {.context_max = 4096};
    struct carat_parser_options reading = {0};

    bool is_ok = carat_engine_open(&engine, &model, &err) == 0 &&
                 carat_prompt_from_chat(&prompt, engine, &chat, &err) == 0 &&
                 carat_session_new(&session, engine, &options, &err) == 0 &&
                 carat_session_sync(session, prompt, NULL, &err) == 0 &&
                 carat_sampler_new(&sampler, engine, NULL, &err) == 0 &&
                 carat_parser_new(&parser, engine, &reading, &err) == 0 &&
                 carat_generate(session, sampler, parser, 0, print_text, NULL, NULL, &err) == 0;
    printf("\n");
    if (!is_ok) {
        fprintf(stderr, "ask: %s\n", err.text);
    }
    carat_parser_free(parser);
    carat_sampler_free(sampler);
    carat_session_free(session);
    carat_prompt_free(prompt);
    carat_engine_close(engine);
    return is_ok ? 0 : 1;
}
