// SPDX-License-Identifier: Apache-2.0
// Bytes as the model's output, with markers spelled out. Wherever the text is cut, the joined
// events must be the same, and arguments must be JSON. The first two bytes choose options and the
// cut.
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "chat/parser.h"
#include "formats/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CALL_MAX 200 // small, so that the fuzzer finds it

static void check_json(const struct carat_event *e)
{
    struct json_doc *doc = NULL;
    require(json_parse(&doc, e->text, e->size, "arguments", NULL) == 0);
    require(json_kind(json_root(doc)) == JSON_OBJECT);
    json_free(doc);
}

// Appends the events to one text per kind: pieces of one kind may be cut anywhere, and a thought
// between them does not change what they join to.
static void drain(struct carat_parser *p, struct buf joined[3])
{
    struct carat_event e;
    while (carat_parser_next(p, &e)) {
        require(utf8_is_valid(e.text, e.size));
        require(e.text[e.size] == '\0');
        struct buf *out = &joined[e.type == CARAT_EVENT_TEXT      ? 0
                                  : e.type == CARAT_EVENT_THOUGHT ? 1
                                                                  : 2];
        if (out == &joined[2]) {
            buf_addf(out, "\n%d %d ", (int)e.type, (int)e.stop);
        }
        buf_add(out, e.text, e.size);
        if (e.type == CARAT_EVENT_CALL_ARGS) {
            check_json(&e);
        }
    }
}

static void parse(struct buf joined[3], const char *text, size_t size, size_t step, unsigned flags)
{
    static const char *const stops[] = {"END", "ND<", "\n\n\n"};
    struct carat_parser_options options = {.starts_in_thought = flags & 1,
                                           .is_raw = flags & 2,
                                           .stops = stops,
                                           .n_stops = flags & 4 ? 3 : 0};
    struct parser_setup setup = {.call_max = flags & 8 ? CALL_MAX : 0};
    struct carat_parser *p = NULL;
    require(parser_new(&p, &setup, &options, NULL) == 0);
    for (size_t i = 0; i < size; i += step) {
        size_t n = size - i < step ? size - i : step;
        require(carat_parser_feed_text(p, text + i, n, NULL) == 0);
        drain(p, joined);
    }
    require(carat_parser_finish(p, CARAT_STOP_LENGTH, NULL) == 0);
    drain(p, joined);
    struct carat_event e;
    require(!carat_parser_next(p, &e));
    carat_parser_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    const char *text = (const char *)data + 2;
    size_t steps[] = {size, 1, 2 + data[1]};
    struct buf joined[3][3] = {0};
    for (size_t i = 0; i < 3; i++) {
        parse(joined[i], text, size - 2, steps[i], data[0]);
        for (size_t k = 0; k < 3; k++) {
            require(!strcmp(buf_text(&joined[i][k]), buf_text(&joined[0][k])));
            require(joined[i][k].size == joined[0][k].size);
        }
    }
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < 3; k++) {
            buf_release(&joined[i][k]);
        }
    }
    return 0;
}
