// SPDX-License-Identifier: Apache-2.0
// carat tokenize: text to ids and back. Needs no tensors.
#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "cli/loading.h"
#include "cli/model_path.h"

#include <string.h>

#define TEXT_SIZE_MAX ((size_t)256 << 20)

struct tokenize_options {
    const char *ids;
    bool decodes, has_special, has_bos, is_json, is_count, shows_pieces;
};

#define AT(field) offsetof(struct tokenize_options, field)
static const struct option tokenize_rows[] = {
    {"ids", OPTION_TEXT, "\"N ...\"",
     "turn these ids into text; spaces, commas and brackets "
     "between them do not matter",
     AT(ids), 0, 0, NULL},
    {"decode", OPTION_FLAG, NULL, "TEXT, or what is piped in, is a list of ids: turn it into text",
     AT(decodes), 0, 0, NULL},
    {"special", OPTION_FLAG, NULL,
     "strings like <turn|> in the text become control tokens; when "
     "decoding, control tokens are written out",
     AT(has_special), 0, 0, NULL},
    {"bos", OPTION_FLAG, NULL, "put <bos> first", AT(has_bos), 0, 0, NULL},
    {"count", OPTION_FLAG, NULL, "print only how many tokens there are", AT(is_count), 0, 0, NULL},
    {"pieces", OPTION_FLAG, NULL, "one token per line: its id and its text", AT(shows_pieces), 0, 0,
     NULL},
    {"json", OPTION_FLAG, NULL, "print a JSON object with ids and text", AT(is_json), 0, 0, NULL},
    {.name = NULL},
};
#undef AT

struct ids {
    carat_token *items;
    size_t n;
};

static int read_ids(struct ids *out, struct slice text, size_t n_vocab, struct carat_error *err)
{
    static const char between[] = " \t\r\n,[]";
    size_t room = text.size / 2 + 1; // a digit and something between
    out->items = mem_new_array(room, sizeof(*out->items), err);
    if (!out->items) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < text.size;) {
        if (strchr(between, text.data[i]) && text.data[i]) {
            i++;
            continue;
        }
        char word[24] = "";
        size_t size = 0;
        uint64_t id = 0;
        while (i + size < text.size && !strchr(between, text.data[i + size])) {
            size++;
        }
        if (size < sizeof(word)) {
            memcpy(word, text.data + i, size);
        }
        if (!parse_count(word, 0, (double)n_vocab - 1, &id)) {
            return fail(err, CARAT_E_FORMAT, "ids: expected integers below %zu, found '%.*s'",
                        n_vocab, (int)(size > 40 ? 40 : size), text.data + i);
        }
        out->items[out->n++] = (carat_token)id;
        i += size;
    }
    return 0;
}

static int encode(struct ids *out, const struct tokenize_options *o, struct slice text,
                  const struct carat_engine *engine, struct carat_error *err)
{
    unsigned flags =
        (o->has_special ? CARAT_TOKENIZE_SPECIAL : 0u) | (o->has_bos ? CARAT_TOKENIZE_BOS : 0u);
    out->items = mem_new_array(text.size + 1, sizeof(*out->items), err);
    if (!out->items) {
        return CARAT_E_MEMORY;
    }
    int64_t n = carat_tokenize(engine, text.data, text.size, flags, out->items, text.size + 1, err);
    if (n < 0) {
        return (int)n;
    }
    out->n = (size_t)n;
    return 0;
}

static int decode(struct buf *out, const struct tokenize_options *o, const struct ids *ids,
                  const struct carat_engine *engine, struct carat_error *err)
{
    struct carat_detokenizer *d = NULL;
    size_t size = 0;
    int rc = carat_detokenizer_new(&d, engine, !o->has_special, err);
    if (rc) {
        return rc;
    }
    for (size_t i = 0; i < ids->n; i++) {
        const char *text = carat_detokenizer_feed(d, ids->items[i], &size);
        buf_add(out, text, size);
    }
    const char *text = carat_detokenizer_flush(d, &size);
    buf_add(out, text, size);
    carat_detokenizer_free(d);
    return buf_status(out, err);
}

static void write_pieces(struct output *out, const struct ids *ids,
                         const struct carat_engine *engine)
{
    struct buf line = {.max = 1 << 20};
    for (size_t i = 0; i < ids->n && out->failed_errno == 0; i++) {
        size_t size = 0;
        const char *text = carat_token_text(engine, ids->items[i], &size);
        buf_clear(&line);
        buf_addf(&line, "%d\t", (int)ids->items[i]);
        buf_add_json(&line, text ? text : "", size);
        buf_addc(&line, '\n');
        output_write(out, line.data, line.size);
    }
    buf_release(&line);
}

static void write_ids(struct buf *out, const struct ids *ids, const char *between)
{
    for (size_t i = 0; i < ids->n; i++) {
        buf_addf(out, "%s%d", i ? between : "", (int)ids->items[i]);
    }
}

static int show(const struct command_call *call, const struct ids *ids, const struct buf *text,
                const struct carat_engine *engine, struct carat_error *err)
{
    const struct tokenize_options *o = call->options;
    struct buf out = {.max = (size_t)2 << 30};
    bool is_text = o->ids || o->decodes;
    if (o->is_json) {
        buf_addf(&out, "{\"count\":%zu,\"ids\":[", ids->n);
        write_ids(&out, ids, ",");
        buf_adds(&out, "],\"text\":");
        buf_add_json(&out, buf_text(text), text->size);
        buf_adds(&out, "}\n");
    } else if (o->is_count) {
        buf_addf(&out, "%zu\n", ids->n);
    } else if (o->shows_pieces) {
        write_pieces(call->out, ids, engine);
    } else if (is_text) {
        output_foreign(call->out, buf_text(text), text->size);
        buf_adds(&out, call->out->is_terminal ? "\n" : "");
    } else {
        write_ids(&out, ids, " ");
        buf_addc(&out, '\n');
    }
    int rc = buf_status(&out, err);
    output_write(call->out, buf_text(&out), out.size);
    buf_release(&out);
    return rc;
}

// The model and the text among the arguments: one argument is the model if it is there as a file.
static int sort_arguments(const struct command_call *call, const char **model, const char **text,
                          struct carat_error *err)
{
    const char *first = call->n_args > 0 ? call->args[0] : NULL;
    *text = call->n_args > 1 ? call->args[1] : NULL;
    if (*text) {
        *model = first;
    } else if (first && call->n_before_dashes > 0 && strcmp(first, "-") != 0 &&
               (os_exists(first) || model_path_is_meant(first))) {
        *model = first;
    } else {
        *text = first;
    }
    const struct tokenize_options *o = call->options;
    if (o->ids && (*text || o->decodes)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "tokenize: --ids gives the ids: no TEXT and no --decode with it");
    }
    return 0;
}

static int convert(const struct command_call *call, const struct carat_engine *engine,
                   const struct buf *input, struct carat_error *err)
{
    const struct tokenize_options *o = call->options;
    struct ids ids = {.items = NULL};
    struct buf text = {.max = TEXT_SIZE_MAX};
    struct slice given = o->ids ? slice_of(o->ids) : slice_make(buf_text(input), input->size);
    int rc = 0;
    if (o->ids || o->decodes) {
        rc = read_ids(&ids, given, carat_engine_info(engine)->n_vocab, err);
        rc = rc ? rc : decode(&text, o, &ids, engine, err);
    } else {
        rc = encode(&ids, o, given, engine, err);
        buf_add_slice(&text, given);
    }
    rc = rc ? rc : show(call, &ids, &text, engine, err);
    mem_free(ids.items);
    buf_release(&text);
    return rc;
}

static int run_tokenize(const struct command_call *call)
{
    const struct tokenize_options *o = call->options;
    const char *model = NULL, *text = NULL;
    struct carat_error err;
    if (sort_arguments(call, &model, &text, &err)) {
        say("%s", err.text);
        return EXIT_USAGE;
    }
    bool takes_stdin = !o->ids && (text ? strcmp(text, "-") == 0 : true);
    if (takes_stdin && !text && os_is_terminal(0)) {
        say("tokenize: no text: give it in quotes, or pipe it in");
        return EXIT_USAGE;
    }
    struct loaded loaded = {.engine = NULL};
    struct buf input = {.max = TEXT_SIZE_MAX};
    int rc = 0;
    if (takes_stdin) {
        rc = os_read_file(&input, "-", TEXT_SIZE_MAX, &err);
    } else if (text) {
        buf_adds(&input, text);
        rc = buf_status(&input, &err);
    }
    rc = rc ? rc : loaded_open_vocab(&loaded, model, &err);
    rc = rc ? rc : convert(call, loaded.engine, &input, &err);
    int code = rc ? say_error(&err) : EXIT_OK;
    loaded_release(&loaded);
    buf_release(&input);
    return code;
}

const struct command command_tokenize = {
    .name = "tokenize",
    .summary = "text to token ids and back",
    .synopsis = "[MODEL] [TEXT|-] [options]",
    .details =
        "Prints the ids of TEXT, or of what is piped in, taken exactly as it is: no chat format, "
        "no "
        "<bos> unless asked for. With --ids or --decode the other way round. Only the vocabulary "
        "of MODEL is read.",
    .groups = (const struct option_group[]){{"Options", tokenize_rows, 0}, {.options = NULL}},
    .examples =
        (const struct example[]){
            {"carat tokenize gemma.gguf \"Hello, world\"", "ids, separated by spaces"},
            {"carat tokenize gemma.gguf --ids \"9259 236764 1902\"", "their text"},
            {"carat tokenize gemma.gguf --count < book.txt", "how many tokens a file has"},
            {"carat tokenize gemma.gguf --special --pieces \"<|turn>user\"",
             "each token with its text"},
            {.line = NULL},
        },
    .options_size = sizeof(struct tokenize_options),
    .args_max = 2,
    .run = run_tokenize,
};
