// SPDX-License-Identifier: Apache-2.0
// What the model writes to events: text, thoughts, calls, stop (docs/chat.md, "Reading answers").
// Tokens and text with spelled markers meet in two functions, take_text and take_marker; all that
// follows works on whole characters, so that it cannot matter how the input was cut.
#include "chat/parser.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "chat/call.h"
#include "chat/stops.h"
#include "engine/internal.h"

enum marker {
    MARKER_NONE,
    MARKER_CHANNEL_OPEN,
    MARKER_CHANNEL_CLOSE,
    MARKER_CALL_OPEN,
    MARKER_CALL_CLOSE,
    MARKER_QUOTE,
    MARKER_STOP,
    MARKER_OTHER, // text like any other, except in raw mode
};

#define CALL_OPEN  "<|tool_call>"
#define CALL_CLOSE "<tool_call|>"

// All special tokens of the vocabulary. Each begins with its only '<' and none begins another: that
// is what find_markers relies on.
static const struct {
    const char *text;
    enum marker marker;
} markers[] = {
    {"<|channel>", MARKER_CHANNEL_OPEN},
    {"<channel|>", MARKER_CHANNEL_CLOSE},
    {CALL_OPEN, MARKER_CALL_OPEN},
    {CALL_CLOSE, MARKER_CALL_CLOSE},
    {"<|\"|>", MARKER_QUOTE},
    {"<turn|>", MARKER_STOP},
    {"<eos>", MARKER_STOP},
    {"<|tool_response>", MARKER_STOP},
    {"<tool_response|>", MARKER_OTHER},
    {"<|tool>", MARKER_OTHER},
    {"<tool|>", MARKER_OTHER},
    {"<|turn>", MARKER_OTHER},
    {"<|think|>", MARKER_OTHER},
    {"<pad>", MARKER_OTHER},
    {"<bos>", MARKER_OTHER},
    {"<unk>", MARKER_OTHER},
    {"<mask>", MARKER_OTHER},
    {"<|image>", MARKER_OTHER},
    {"<|image|>", MARKER_OTHER},
    {"<image|>", MARKER_OTHER},
    {"<|audio>", MARKER_OTHER},
    {"<|audio|>", MARKER_OTHER},
    {"<audio|>", MARKER_OTHER},
    {"<|video|>", MARKER_OTHER},
};
#define N_MARKERS       (sizeof(markers) / sizeof(markers[0]))
#define MARKER_SIZE_MAX 16

enum state { STATE_TEXT, STATE_THOUGHT, STATE_CALL, STATE_DONE };

static const char label[] = "thought\n";

struct queued {
    enum carat_event_type type;
    enum carat_stop stop;
    size_t at; // in parser.texts
    size_t size;
    carat_token token;
};

struct carat_parser {
    struct parser_setup setup;
    carat_token marker_tokens[N_MARKERS];
    bool is_raw;
    enum state state;
    struct utf8_stream utf8;
    char held[MARKER_SIZE_MAX]; // of fed text: what may become a marker
    size_t n_held;

    // The answer's text. Space is held back until it is known to be inside.
    struct stops stops;
    struct buf text_space;
    bool has_text;
    size_t n_calls;

    // The open thought.
    struct buf thought_space;
    struct buf label; // what may become the label; ready to be dropped
    bool expects_label;
    bool has_thought;      // this thought has text
    bool had_thought;      // an earlier one had
    bool is_thought_blank; // nothing but space since its opener, the label counting as text

    // The open call: what stands after its marker.
    struct buf call;
    bool is_in_quote;

    struct queued *events;
    size_t n_events;
    size_t i_event;
    size_t capacity;
    struct buf texts;
    size_t feed_begin; // events from here on came from this feed and may grow
    carat_token token; // what is being fed
    struct buf chars;  // whole characters on their way
    bool has_failed;   // no memory for the queue
};

// Empties a buffer, but remembers that it failed.
static void clear(struct carat_parser *p, struct buf *b)
{
    p->has_failed = p->has_failed || b->has_failed;
    buf_clear(b);
}

// ------------------------------------------------------------------------------ the queue

static void drop_taken(struct carat_parser *p)
{
    if (p->i_event == p->n_events) {
        p->i_event = 0;
        p->n_events = 0;
        p->texts.size = 0;
    }
    p->feed_begin = p->n_events;
}

static void grow_queue(struct carat_parser *p)
{
    size_t capacity = p->capacity ? 2 * p->capacity : 16;
    struct queued *grown = p->events ? mem_resize(p->events, capacity * sizeof(*grown), NULL)
                                     : mem_new_array(capacity, sizeof(*grown), NULL);
    if (!grown) {
        p->has_failed = true;
        return;
    }
    p->events = grown;
    p->capacity = capacity;
}

static void queue(struct carat_parser *p, enum carat_event_type type, struct slice text)
{
    if (p->n_events == p->capacity) {
        grow_queue(p);
    }
    if (p->has_failed) {
        return;
    }
    p->events[p->n_events++] =
        (struct queued){.type = type, .at = p->texts.size, .size = text.size, .token = p->token};
    buf_add_slice(&p->texts, text);
    buf_addc(&p->texts, '\0');
}

// Text and thoughts come in pieces: those of one feed become one event.
static void queue_piece(struct carat_parser *p, enum carat_event_type type, struct slice text)
{
    if (!text.size) {
        return;
    }
    bool continues =
        p->n_events > p->feed_begin && p->events[p->n_events - 1].type == type && !p->has_failed;
    if (!continues) {
        queue(p, type, text);
        return;
    }
    if (p->texts.has_failed) {
        return;
    }
    p->texts.size--; // over the terminator
    buf_add_slice(&p->texts, text);
    buf_addc(&p->texts, '\0');
    p->events[p->n_events - 1].size += text.size;
}

static void queue_stop(struct carat_parser *p, enum carat_stop stop, struct slice text)
{
    queue(p, CARAT_EVENT_STOP, text);
    if (!p->has_failed) {
        p->events[p->n_events - 1].stop = stop;
    }
    p->state = STATE_DONE;
}

static int status(const struct carat_parser *p, struct carat_error *err)
{
    const struct buf *bufs[] = {&p->texts,      &p->chars,         &p->call,      &p->label,
                                &p->text_space, &p->thought_space, &p->stops.held};
    if (p->has_failed) {
        return fail(err, CARAT_E_MEMORY, "no memory for the answer's events");
    }
    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++) {
        if (bufs[i]->has_failed) {
            return buf_status(bufs[i], err);
        }
    }
    return 0;
}

// ------------------------------------------------------------------------------ the answer's text

static struct slice take_character(struct slice *s, uint32_t *c)
{
    int length = utf8_next(s->data, s->size, c);
    struct slice character = slice_make(s->data, length > 0 ? (size_t)length : 1);
    *s = slice_make(s->data + character.size, s->size - character.size);
    return character;
}

static struct slice buf_slice(const struct buf *b)
{
    return slice_make(buf_text(b), b->size);
}

// Emits text that is known to stand before everything that follows, but for the space at its end.
static void emit_text(struct carat_parser *p, struct slice text)
{
    if (p->is_raw) {
        queue_piece(p, CARAT_EVENT_TEXT, text);
        return;
    }
    struct slice left = text;
    size_t inside = 0; // up to here it is not space at the end
    while (left.size) {
        uint32_t c = 0;
        take_character(&left, &c);
        inside = unicode_is_space(c) ? inside : text.size - left.size;
    }
    if (inside) {
        queue_piece(p, CARAT_EVENT_TEXT, buf_slice(&p->text_space));
        clear(p, &p->text_space);
        queue_piece(p, CARAT_EVENT_TEXT, slice_make(text.data, inside));
    }
    buf_add(&p->text_space, text.data + inside, text.size - inside);
}

static void add_text(struct carat_parser *p, struct slice text)
{
    struct buf sure = {0};
    while (text.size && p->state != STATE_DONE) {
        uint32_t c = 0;
        struct slice character = take_character(&text, &c);
        if (!p->is_raw && !p->has_text && unicode_is_space(c)) {
            continue;
        }
        p->has_text = true;
        size_t met = stops_feed(&p->stops, character, &sure);
        if (met != SIZE_MAX) {
            emit_text(p, buf_slice(&sure));
            queue_stop(p, CARAT_STOP_STRING, stops_text(&p->stops, met));
        }
    }
    if (p->state != STATE_DONE) {
        emit_text(p, buf_slice(&sure));
    }
    p->has_failed = p->has_failed || sure.has_failed;
    buf_release(&sure);
}

// A stop string does not reach over a thought or a call.
static void flush_stops(struct carat_parser *p)
{
    struct buf sure = {0};
    stops_flush(&p->stops, &sure);
    emit_text(p, buf_slice(&sure));
    p->has_failed = p->has_failed || sure.has_failed;
    buf_release(&sure);
}

// ------------------------------------------------------------------------------ thoughts

static void open_thought(struct carat_parser *p, bool expects_label)
{
    p->state = STATE_THOUGHT;
    p->expects_label = expects_label;
    p->has_thought = false;
    p->is_thought_blank = true;
    clear(p, &p->label);
    clear(p, &p->thought_space);
}

static void emit_thought(struct carat_parser *p, struct slice text)
{
    while (text.size) {
        uint32_t c = 0;
        struct slice character = take_character(&text, &c);
        if (unicode_is_space(c)) {
            if (p->has_thought) {
                buf_add_slice(&p->thought_space, character);
            }
            continue;
        }
        if (!p->has_thought && p->had_thought) {
            queue_piece(p, CARAT_EVENT_THOUGHT, slice_of("\n"));
        }
        queue_piece(p, CARAT_EVENT_THOUGHT, buf_slice(&p->thought_space));
        clear(p, &p->thought_space);
        queue_piece(p, CARAT_EVENT_THOUGHT, character);
        p->has_thought = true;
    }
}

// The first line, when it is exactly the label, is dropped.
static void add_thought(struct carat_parser *p, struct slice text)
{
    p->is_thought_blank = p->is_thought_blank && !utf8_trim(text).size;
    while (p->expects_label && text.size) {
        buf_addc(&p->label, text.data[0]);
        text = slice_make(text.data + 1, text.size - 1);
        size_t n = p->label.size;
        if (p->label.has_failed) {
            return;
        }
        bool is_label = !memcmp(p->label.data, label, n);
        if (is_label && n < strlen(label)) {
            continue;
        }
        p->expects_label = false;
        if (!is_label) { // the last byte may be the first of a character: give it back
            text = slice_make(text.data - 1, text.size + 1);
            emit_thought(p, slice_make(p->label.data, n - 1));
        }
    }
    emit_thought(p, text);
}

static void close_thought(struct carat_parser *p)
{
    bool is_label = slice_is(buf_slice(&p->label), "thought");
    if (p->expects_label && !is_label) {
        emit_thought(p, buf_slice(&p->label));
    }
    p->had_thought = p->had_thought || p->has_thought;
    p->state = STATE_TEXT;
}

// ------------------------------------------------------------------------------ calls

static void open_call(struct carat_parser *p)
{
    p->state = STATE_CALL;
    p->is_in_quote = false;
    clear(p, &p->call);
}

static void give_up_call(struct carat_parser *p, const char *close)
{
    p->state = STATE_TEXT;
    add_text(p, slice_of(CALL_OPEN));
    add_text(p, buf_slice(&p->call));
    add_text(p, slice_of(close));
}

static void add_call(struct carat_parser *p, struct slice text)
{
    while (text.size && p->state == STATE_CALL) {
        uint32_t c = 0;
        struct slice left = text;
        struct slice character = take_character(&left, &c);
        if (p->call.size + character.size > p->setup.call_max) {
            give_up_call(p, "");
        } else {
            buf_add_slice(&p->call, character);
            text = left;
        }
    }
    if (text.size && p->state == STATE_TEXT) {
        add_text(p, text);
    }
}

// close: the marker that ended the call, or nothing.
static void close_call(struct carat_parser *p, const char *close)
{
    struct buf name = {0};
    struct buf arguments = {0};
    int rc = call_parse(&name, &arguments, buf_slice(&p->call), NULL);
    if (rc == 0) {
        p->state = STATE_TEXT;
        p->n_calls++;
        queue(p, CARAT_EVENT_CALL, buf_slice(&name));
        queue(p, CARAT_EVENT_CALL_ARGS, buf_slice(&arguments));
        buf_clear(&name);
        buf_adds(&name, CALL_OPEN);
        buf_add_slice(&name, buf_slice(&p->call));
        buf_adds(&name, close);
        queue(p, CARAT_EVENT_CALL_END, buf_slice(&name));
        p->has_failed = p->has_failed || name.has_failed || arguments.has_failed;
    } else if (rc > 0) {
        give_up_call(p, close);
    } else {
        p->has_failed = true;
    }
    buf_release(&name);
    buf_release(&arguments);
}

// ------------------------------------------------------------------------------ characters,
// markers

static void add_characters(struct carat_parser *p, struct slice text)
{
    switch (p->state) {
    case STATE_TEXT:
        add_text(p, text);
        break;
    case STATE_THOUGHT:
        add_thought(p, text);
        break;
    case STATE_CALL:
        add_call(p, text);
        break;
    case STATE_DONE:
        break;
    }
}

static void take_text(struct carat_parser *p, struct slice bytes)
{
    clear(p, &p->chars);
    utf8_stream_feed(&p->utf8, bytes, &p->chars);
    add_characters(p, buf_slice(&p->chars));
}

static void flush_characters(struct carat_parser *p)
{
    clear(p, &p->chars);
    utf8_stream_flush(&p->utf8, &p->chars);
    add_characters(p, buf_slice(&p->chars));
}

static void end_message(struct carat_parser *p, enum carat_stop why)
{
    flush_characters(p);
    if (p->state == STATE_THOUGHT) {
        close_thought(p);
    } else if (p->state == STATE_CALL) {
        close_call(p, "");
    }
    if (p->state == STATE_DONE) {
        return;
    }
    flush_stops(p);
    bool is_turn = why == CARAT_STOP_NONE || why == CARAT_STOP_TURN || why == CARAT_STOP_TOOL;
    enum carat_stop turn = p->n_calls ? CARAT_STOP_TOOL : CARAT_STOP_TURN;
    queue_stop(p, is_turn ? turn : why, slice_of(""));
}

static void take_marker_in_call(struct carat_parser *p, enum marker marker, struct slice text)
{
    if (marker == MARKER_CALL_CLOSE && !p->is_in_quote) {
        close_call(p, CALL_CLOSE);
        return;
    }
    p->is_in_quote = p->is_in_quote != (marker == MARKER_QUOTE);
    add_call(p, text);
}

static void take_marker_in_thought(struct carat_parser *p, enum marker marker, struct slice text)
{
    if (marker == MARKER_CHANNEL_CLOSE) {
        close_thought(p);
    } else if (marker == MARKER_CHANNEL_OPEN && p->is_thought_blank) {
        open_thought(p, true); // a doubled opener
    } else {
        add_thought(p, text);
    }
}

static void take_marker_in_text(struct carat_parser *p, enum marker marker, struct slice text)
{
    switch (marker) {
    case MARKER_CHANNEL_OPEN:
        flush_stops(p);
        open_thought(p, true);
        break;
    case MARKER_CALL_OPEN:
        flush_stops(p);
        open_call(p);
        break;
    case MARKER_CHANNEL_CLOSE: // without an opener: dropped
        break;
    default:
        add_text(p, text);
        break;
    }
}

static void take_marker(struct carat_parser *p, enum marker marker, struct slice text)
{
    flush_characters(p);
    if (p->state == STATE_DONE) {
        return;
    }
    if (marker == MARKER_STOP) {
        end_message(p, CARAT_STOP_TURN);
    } else if (p->is_raw) {
        return;
    } else if (p->state == STATE_CALL) {
        take_marker_in_call(p, marker, text);
    } else if (p->state == STATE_THOUGHT) {
        take_marker_in_thought(p, marker, text);
    } else {
        take_marker_in_text(p, marker, text);
    }
}

// ------------------------------------------------------------------------------ tokens, text

static void flush_held(struct carat_parser *p)
{
    take_text(p, slice_make(p->held, p->n_held));
    p->n_held = 0;
}

static enum marker marker_of_token(const struct carat_parser *p, carat_token token)
{
    for (size_t i = 0; i < N_MARKERS; i++) {
        if (p->marker_tokens[i] == token && token != CARAT_TOKEN_NONE) {
            return markers[i].marker;
        }
    }
    return tokenizer_is_special(p->setup.tokenizer, token) ? MARKER_OTHER : MARKER_NONE;
}

int carat_parser_feed(struct carat_parser *p, carat_token token, struct carat_error *err)
{
    require(p->setup.tokenizer);
    drop_taken(p);
    p->token = token;
    flush_held(p);
    enum marker marker = marker_of_token(p, token);
    struct slice text = tokenizer_text(p->setup.tokenizer, token);
    if (p->setup.is_stop && p->setup.is_stop(p->setup.context, token)) {
        marker = MARKER_STOP;
    }
    if (marker == MARKER_NONE) {
        take_text(p, text);
    } else {
        take_marker(p, marker, text);
    }
    p->token = CARAT_TOKEN_NONE;
    return status(p, err);
}

// What p->held may become: SIZE_MAX nothing, N_MARKERS still several things, else that marker.
static size_t match_held(const struct carat_parser *p)
{
    struct slice held = slice_make(p->held, p->n_held);
    size_t match = SIZE_MAX;
    for (size_t i = 0; i < N_MARKERS; i++) {
        struct slice text = slice_of(markers[i].text);
        if (slice_equal(text, held)) {
            return i;
        }
        if (text.size > held.size && !memcmp(text.data, held.data, held.size)) {
            match = N_MARKERS;
        }
    }
    return match;
}

// One byte after '<' or more of what may be a marker.
static void hold_byte(struct carat_parser *p, char c)
{
    if (c == '<') { // no marker has one inside: what was held is text
        flush_held(p);
    }
    require(p->n_held < MARKER_SIZE_MAX);
    p->held[p->n_held++] = c;
    size_t match = match_held(p);
    if (match == N_MARKERS) {
        return;
    }
    if (match == SIZE_MAX) {
        flush_held(p);
        return;
    }
    p->n_held = 0;
    take_marker(p, markers[match].marker, slice_of(markers[match].text));
}

int carat_parser_feed_text(struct carat_parser *p, const char *text, size_t size,
                           struct carat_error *err)
{
    drop_taken(p);
    for (size_t i = 0; i < size && p->state != STATE_DONE;) {
        if (p->n_held || text[i] == '<') {
            hold_byte(p, text[i++]);
            continue;
        }
        const char *next = memchr(text + i, '<', size - i);
        size_t n = next ? (size_t)(next - text) - i : size - i;
        take_text(p, slice_make(text + i, n));
        i += n;
    }
    return status(p, err);
}

int carat_parser_finish(struct carat_parser *p, enum carat_stop why, struct carat_error *err)
{
    drop_taken(p);
    flush_held(p);
    if (p->state != STATE_DONE) {
        end_message(p, why);
    }
    return status(p, err);
}

bool carat_parser_next(struct carat_parser *p, struct carat_event *event)
{
    if (p->i_event == p->n_events) {
        return false;
    }
    const struct queued *q = &p->events[p->i_event++];
    *event = (struct carat_event){.type = q->type,
                                  .stop = q->stop,
                                  .text = buf_text(&p->texts) + q->at,
                                  .size = q->size,
                                  .token = q->token};
    return true;
}

// ------------------------------------------------------------------------------ new and free

static void find_marker_tokens(struct carat_parser *p)
{
    const struct tokenizer *t = p->setup.tokenizer;
    for (size_t i = 0; i < N_MARKERS; i++) {
        require(strlen(markers[i].text) <= MARKER_SIZE_MAX);
        carat_token token = t ? tokenizer_find(t, slice_of(markers[i].text)) : CARAT_TOKEN_NONE;
        bool is_special = token != CARAT_TOKEN_NONE && tokenizer_is_special(t, token);
        p->marker_tokens[i] = is_special ? token : CARAT_TOKEN_NONE;
    }
}

int parser_new(struct carat_parser **out, const struct parser_setup *setup,
               const struct carat_parser_options *options, struct carat_error *err)
{
    static const struct carat_parser_options defaults = {0};
    const struct carat_parser_options *o = options ? options : &defaults;
    struct carat_parser *p = mem_new(sizeof(*p), err);
    if (!p) {
        return CARAT_E_MEMORY;
    }
    p->setup = *setup;
    p->setup.call_max = setup->call_max ? setup->call_max : PARSER_CALL_MAX;
    p->is_raw = o->is_raw;
    p->token = CARAT_TOKEN_NONE;
    find_marker_tokens(p);
    if (o->starts_in_thought && !o->is_raw) {
        open_thought(p, false);
    }
    int rc =
        stops_init(&p->stops, o->stops, o->n_stops, PARSER_STOPS_MAX, PARSER_STOP_SIZE_MAX, err);
    if (rc) {
        carat_parser_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

static bool is_engine_stop(const void *engine, carat_token token)
{
    return engine_is_stop(engine, token);
}

int carat_parser_new(struct carat_parser **out, const struct carat_engine *engine,
                     const struct carat_parser_options *options, struct carat_error *err)
{
    struct parser_setup setup = {
        .tokenizer = engine_tokenizer(engine), .is_stop = is_engine_stop, .context = engine};
    return parser_new(out, &setup, options, err);
}

void carat_parser_free(struct carat_parser *p)
{
    if (!p) {
        return;
    }
    stops_release(&p->stops);
    buf_release(&p->text_space);
    buf_release(&p->thought_space);
    buf_release(&p->label);
    buf_release(&p->call);
    buf_release(&p->texts);
    buf_release(&p->chars);
    mem_free(p->events);
    mem_free(p);
}
