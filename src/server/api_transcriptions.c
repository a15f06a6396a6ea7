// SPDX-License-Identifier: Apache-2.0
// OpenAI's audio transcriptions and translations: a form with a sound, answered with its words.
// docs/api-transcriptions.md says what is honoured, ignored and refused.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "server/fields.h"
#include "server/logprobs.h"
#include "server/multipart.h"
#include "server/note.h"
#include "server/openai.h"
#include "server/server.h"
#include "server/transcription.h"

#define TOKENS_PER_SECOND 15 // more than anybody speaks, in any script
#define TOKENS_AT_LEAST   64
#define FIELD_MAX         4096 // bytes of a field that is not the file

enum format { FORMAT_JSON, FORMAT_TEXT, FORMAT_VERBOSE, FORMAT_SRT, FORMAT_VTT };
static const char *const format_names[] = {"json", "text", "verbose_json", "srt", "vtt"};
static const char *const format_types[] = {NULL, "text/plain; charset=utf-8", NULL,
                                           "text/plain; charset=utf-8", "text/vtt; charset=utf-8"};

// The dialect's own state of a call.
struct transcription {
    struct transcription_wish wish;
    enum format format;
    bool shows_logprobs;
    struct slice file;
    struct transcription_piece *pieces; // [n_pieces], an answer each
    size_t n_pieces;
    double seconds; // of the sound
    // Of a stream: pieces are heard side by side, and told in order.
    struct told {
        size_t seen; // bytes of its text that were sampled
        bool has_ended;
    } *told;        // [n_pieces]
    size_t current; // the piece that is being told
    size_t shown;   // bytes of its text that were
    size_t shown_logprobs;
    bool has_shown; // something was
};

// ------------------------------------------------------------------------------ parse

static int read_bool(struct slice text, const char *name, bool *out, struct carat_error *err)
{
    *out = slice_is(text, "true") || slice_is(text, "True") || slice_is(text, "1");
    if (!*out && !slice_is(text, "false") && !slice_is(text, "False") && !slice_is(text, "0") &&
        text.size > 0) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected true or false, found '%.*s'", name,
                    (int)(text.size < FIELDS_SHOWN ? text.size : FIELDS_SHOWN), text.data);
    }
    return 0;
}

static int read_number(struct slice text, const char *name, double min, double max, float *out,
                       struct carat_error *err)
{
    char copy[32] = "";
    char *end = copy;
    memcpy(copy, text.data, text.size < sizeof(copy) - 1 ? text.size : sizeof(copy) - 1);
    double x = strtod(copy, &end);
    if (text.size >= sizeof(copy) || end == copy || *end || !(x >= min && x <= max)) {
        return fail(err, CARAT_E_ARGUMENT, "%s: expected a number from %g to %g, found '%s'", name,
                    min, max, copy);
    }
    *out = (float)x;
    return 0;
}

static int read_format(struct transcription *t, struct slice text, struct carat_error *err)
{
    for (size_t i = 0; i < sizeof(format_names) / sizeof(format_names[0]); i++) {
        if (slice_is(text, format_names[i])) {
            t->format = (enum format)i;
            return 0;
        }
    }
    if (slice_is(text, "diarized_json")) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "response_format: speakers are not told apart: expected json or verbose_json");
    }
    return fail(err, CARAT_E_ARGUMENT,
                "response_format: expected json, text, verbose_json, srt or vtt, found '%.*s'",
                (int)(text.size < FIELDS_SHOWN ? text.size : FIELDS_SHOWN), text.data);
}

// What was found in the form, beside the state.
struct form {
    struct call *call;
    struct transcription *t;
    bool wants_words, wants_segments;
};

static int read_more(struct form *f, const struct multipart_part *part, struct carat_error *err)
{
    static const char *const ignored[] = {"chunking_strategy", "known_speaker_names[]",
                                          "known_speaker_references[]"};
    if (strcmp(part->name, "timestamp_granularities[]") == 0 ||
        strcmp(part->name, "timestamp_granularities") == 0) {
        f->wants_words = f->wants_words || slice_is(part->data, "word");
        f->wants_segments = f->wants_segments || slice_is(part->data, "segment");
        return 0;
    }
    if (strcmp(part->name, "include[]") == 0 || strcmp(part->name, "include") == 0) {
        f->t->shows_logprobs = f->t->shows_logprobs || slice_is(part->data, "logprobs");
        return 0;
    }
    if (strcmp(part->name, "seed") == 0) {
        float seed = 0;
        int rc = read_number(part->data, "seed", 0, 16777215, &seed, err);
        f->call->ask.sampling.seed = (uint64_t)seed + 1;
        return rc;
    }
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        if (strcmp(part->name, ignored[i]) == 0) {
            ask_note(f->call, "%s ignored", ignored[i]);
        }
    }
    return 0;
}

static int read_part(struct form *f, const struct multipart_part *part, struct carat_error *err)
{
    struct transcription *t = f->t;
    struct slice text = part->data;
    if (strcmp(part->name, "file") == 0) {
        t->file = text;
        return 0;
    }
    if (text.size > FIELD_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "%.60s: expected at most %d bytes, found %zu",
                    part->name, FIELD_MAX, text.size);
    }
    if (!utf8_is_valid(text.data, text.size)) {
        return fail(err, CARAT_E_ARGUMENT, "%.60s: expected UTF-8", part->name);
    }
    if (strcmp(part->name, "model") == 0) {
        return field_model(f->call, text, err);
    }
    if (strcmp(part->name, "language") == 0) {
        t->wish.language = text;
        return 0;
    }
    if (strcmp(part->name, "prompt") == 0) {
        t->wish.context = text;
        return 0;
    }
    if (strcmp(part->name, "response_format") == 0) {
        return read_format(t, text, err);
    }
    if (strcmp(part->name, "temperature") == 0) {
        return read_number(text, "temperature", 0, 2, &f->call->ask.sampling.temperature, err);
    }
    if (strcmp(part->name, "stream") == 0) {
        return read_bool(text, "stream", &f->call->ask.streams, err);
    }
    return read_more(f, part, err);
}

static int read_form(struct form *f, struct carat_error *err)
{
    struct multipart m;
    struct multipart_part part;
    const struct http_request *request = http_reply_request(f->call->reply);
    int rc = multipart_begin(&m, request->content_type, f->call->body, err);
    while (!rc && (rc = multipart_next(&m, &part, err)) > 0) {
        rc = read_part(f, &part, err);
    }
    return rc;
}

static int check_form(const struct form *f, struct carat_error *err)
{
    const struct transcription *t = f->t;
    if (t->file.size == 0) {
        return fail(err, CARAT_E_ARGUMENT, "file: expected a sound file in the form, found none");
    }
    if (f->call->ask.streams && t->format != FORMAT_JSON && t->format != FORMAT_TEXT) {
        return fail(err, CARAT_E_ARGUMENT, "stream: expected response_format json or text with it");
    }
    if (f->wants_words && !f->wants_segments) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "timestamp_granularities: the model does not tell when a word is said: "
                    "expected segment");
    }
    if (f->wants_words) {
        ask_note(f->call, "timestamps of words are not there");
    }
    return 0;
}

static int parse(struct call *call, bool translates, struct carat_error *err)
{
    struct transcription *t = call_take(call, sizeof(*t), err);
    struct form f = {.call = call, .t = t};
    if (!t) {
        return CARAT_E_MEMORY;
    }
    call->state = t;
    t->wish.translates = translates;
    struct ask *ask = &call->ask;
    ask->kind = ASK_CHAT;
    ask->n_choices = 1;
    ask->sampling.temperature = 0; // what is said is not a matter of chance
    int rc = read_form(&f, err);
    rc = rc ? rc : check_form(&f, err);
    // What is translated comes behind the transcription: nothing of it can be shown early.
    ask->streams = ask->streams && !translates;
    ask->wants_logprobs = t->shows_logprobs || t->format == FORMAT_VERBOSE;
    ask->content_type = format_types[t->format];
    ask->tokens_max =
        TOKENS_AT_LEAST + TOKENS_PER_SECOND * TRANSCRIPTION_PIECE_SECONDS * (translates ? 2 : 1);
    rc =
        rc ? rc
           : transcription_ask(call, &t->wish, t->file, &t->pieces, &t->n_pieces, &t->seconds, err);
    t->told = rc ? NULL : call_take(call, t->n_pieces * sizeof(*t->told), err);
    return rc ? rc : t->told ? 0 : CARAT_E_MEMORY;
}

static int parse_transcription(struct call *call, struct carat_error *err)
{
    return parse(call, false, err);
}

static int parse_translation(struct call *call, struct carat_error *err)
{
    return parse(call, true, err);
}

// ------------------------------------------------------------------------------ whole answers

// What was said in piece i: of a translation what follows its mark.
static struct slice text_of(const struct call *call, size_t i)
{
    static const char mark[] = "English:";
    const struct transcription *t = call->state;
    const struct buf *text = &call->answers[i].text;
    const char *at = t->wish.translates ? strstr(buf_text(text), mark) : NULL;
    const char *start = at ? at + sizeof(mark) - 1 : buf_text(text);
    return utf8_trim(slice_make(start, text->size - (size_t)(start - buf_text(text))));
}

static void join(const struct call *call, struct buf *out)
{
    for (size_t i = 0; i < call->n_answers; i++) {
        struct slice text = text_of(call, i);
        if (text.size > 0) {
            buf_adds(out, out->size > 0 ? " " : "");
            buf_add_slice(out, text);
        }
    }
}

static void write_joined(const struct call *call, struct buf *out)
{
    struct buf text = {0};
    join(call, &text);
    buf_add_json(out, buf_text(&text), text.size);
    out->has_failed = out->has_failed || text.has_failed;
    buf_release(&text);
}

static void write_token_usage(const struct call *call, struct buf *out)
{
    const struct usage *u = &call->usage;
    size_t n_sound = 0;
    for (size_t i = 0; i < call->n_media; i++) {
        n_sound += carat_media_info(call->media[i])->n_tokens;
    }
    buf_addf(out,
             "\"usage\":{\"type\":\"tokens\",\"input_tokens\":%zu,\"input_token_details\":"
             "{\"audio_tokens\":%zu,\"text_tokens\":%zu},\"output_tokens\":%zu,"
             "\"total_tokens\":%zu}",
             u->prompt_tokens, n_sound, u->prompt_tokens - n_sound, u->answer_tokens,
             u->prompt_tokens + u->answer_tokens);
}

static void write_all_logprobs(const struct call *call, struct buf *out)
{
    struct buf list = {0};
    bool has_any = false;
    buf_adds(out, ",\"logprobs\":[");
    for (size_t i = 0; i < call->n_answers; i++) {
        const struct answer *a = &call->answers[i];
        buf_clear(&list);
        logprobs_write(call, a->logprobs, a->n_logprobs, &list);
        if (list.size > 2) { // without its brackets
            buf_adds(out, has_any ? "," : "");
            buf_add(out, list.data + 1, list.size - 2);
            has_any = true;
        }
        out->has_failed = out->has_failed || list.has_failed;
    }
    buf_addc(out, ']');
    buf_release(&list);
}

static void write_segment(const struct call *call, size_t i, struct buf *out)
{
    const struct transcription *t = call->state;
    const struct answer *a = &call->answers[i];
    struct slice text = text_of(call, i);
    double sum = 0;
    buf_addf(out, "{\"id\":%zu,\"seek\":%.0f,\"start\":%.3f,\"end\":%.3f,\"text\":", i,
             floor(t->pieces[i].start * 100), t->pieces[i].start, t->pieces[i].end);
    buf_add_json(out, text.data, text.size);
    buf_adds(out, ",\"tokens\":[");
    for (size_t k = 0; k < a->n_logprobs; k++) {
        buf_addf(out, k > 0 ? ",%d" : "%d", (int)a->logprobs[k].token);
        sum += isfinite(a->logprobs[k].logprob) ? (double)a->logprobs[k].logprob : -100;
    }
    buf_addf(out,
             "],\"temperature\":%g,\"avg_logprob\":%.6g,\"compression_ratio\":0,"
             "\"no_speech_prob\":0}",
             (double)call->ask.sampling.temperature,
             a->n_logprobs > 0 ? sum / (double)a->n_logprobs : 0);
}

static void write_verbose(const struct call *call, struct buf *out)
{
    const struct transcription *t = call->state;
    const char *language = transcription_language(t->wish.language);
    buf_addf(out,
             "{\"task\":\"%s\",\"language\":", t->wish.translates ? "translate" : "transcribe");
    if (language) {
        buf_add_json(out, language, strlen(language));
    } else {
        buf_add_json(out, t->wish.language.size > 0 ? t->wish.language.data : "und",
                     t->wish.language.size > 0 ? t->wish.language.size : 3);
    }
    buf_addf(out, ",\"duration\":%.3f,\"text\":", t->seconds);
    write_joined(call, out);
    buf_adds(out, ",\"segments\":[");
    for (size_t i = 0; i < call->n_answers; i++) {
        buf_adds(out, i > 0 ? "," : "");
        write_segment(call, i, out);
    }
    buf_addf(out, "],\"usage\":{\"type\":\"duration\",\"seconds\":%.0f}}", ceil(t->seconds));
}

// 00:01:02,345
static void write_time(double seconds, char point, struct buf *out)
{
    unsigned long long ms = (unsigned long long)(seconds * 1000 + 0.5);
    buf_addf(out, "%02llu:%02llu:%02llu%c%03llu", ms / 3600000, ms / 60000 % 60, ms / 1000 % 60,
             point, ms % 1000);
}

static void write_subtitles(const struct call *call, bool is_vtt, struct buf *out)
{
    const struct transcription *t = call->state;
    size_t n = 0;
    buf_adds(out, is_vtt ? "WEBVTT\n\n" : "");
    for (size_t i = 0; i < call->n_answers; i++) {
        struct slice text = text_of(call, i);
        if (text.size == 0) {
            continue;
        }
        if (!is_vtt) {
            buf_addf(out, "%zu\n", ++n);
        }
        write_time(t->pieces[i].start, is_vtt ? '.' : ',', out);
        buf_adds(out, " --> ");
        write_time(t->pieces[i].end, is_vtt ? '.' : ',', out);
        buf_addc(out, '\n');
        // An empty line would end the subtitle.
        for (size_t k = 0; k < text.size; k++) {
            bool is_break = text.data[k] == '\n' || text.data[k] == '\r';
            buf_addc(out, is_break ? ' ' : text.data[k]);
        }
        buf_adds(out, "\n\n");
    }
}

static void answer(struct call *call, struct buf *out)
{
    const struct transcription *t = call->state;
    switch (t->format) {
    case FORMAT_JSON:
        buf_adds(out, "{\"text\":");
        write_joined(call, out);
        buf_addc(out, ',');
        write_token_usage(call, out);
        if (t->shows_logprobs) {
            write_all_logprobs(call, out);
        }
        buf_addc(out, '}');
        break;
    case FORMAT_TEXT:
        join(call, out);
        buf_addc(out, '\n');
        break;
    case FORMAT_VERBOSE:
        write_verbose(call, out);
        break;
    case FORMAT_SRT:
    case FORMAT_VTT:
        write_subtitles(call, t->format == FORMAT_VTT, out);
        break;
    }
}

// ------------------------------------------------------------------------------ streams

static void begin(struct call *call, struct buf *out)
{
    (void)call;
    (void)out;
}

// Tells what is known of the current piece and not yet shown.
static void tell(struct call *call, struct buf *out)
{
    struct transcription *t = call->state;
    const struct answer *a = &call->answers[t->current];
    size_t seen = t->told[t->current].seen < a->text.size ? t->told[t->current].seen : a->text.size;
    if (seen <= t->shown) {
        return;
    }
    sse_begin(out, NULL);
    buf_adds(out, "{\"type\":\"transcript.text.delta\",\"delta\":");
    struct buf delta = {0};
    buf_adds(&delta, t->shown == 0 && t->has_shown ? " " : "");
    buf_add(&delta, a->text.data + t->shown, seen - t->shown);
    buf_add_json(out, buf_text(&delta), delta.size);
    out->has_failed = out->has_failed || delta.has_failed;
    buf_release(&delta);
    if (t->shows_logprobs) {
        buf_adds(out, ",\"logprobs\":");
        logprobs_write(call, a->logprobs + t->shown_logprobs, a->n_logprobs - t->shown_logprobs,
                       out);
        t->shown_logprobs = a->n_logprobs;
    }
    buf_addc(out, '}');
    sse_end(out);
    t->shown = seen;
    t->has_shown = true;
}

static void event(struct call *call, const struct call_event *e, struct buf *out)
{
    struct transcription *t = call->state;
    if (e->event->type != CARAT_EVENT_TEXT) {
        return;
    }
    t->told[e->choice].seen += e->event->size;
    if (e->choice == t->current) {
        tell(call, out);
    }
}

static void end_choice(struct call *call, size_t choice, struct buf *out)
{
    struct transcription *t = call->state;
    t->told[choice].has_ended = true;
    while (t->current < t->n_pieces && t->told[t->current].has_ended) {
        tell(call, out);
        t->current++;
        t->shown = 0;
        t->shown_logprobs = 0;
    }
    if (t->current < t->n_pieces) {
        tell(call, out);
    }
}

static void end(struct call *call, struct buf *out)
{
    const struct transcription *t = call->state;
    sse_begin(out, NULL);
    buf_adds(out, "{\"type\":\"transcript.text.done\",\"text\":");
    write_joined(call, out);
    buf_addc(out, ',');
    write_token_usage(call, out);
    if (t->shows_logprobs) {
        write_all_logprobs(call, out);
    }
    buf_addc(out, '}');
    sse_end(out);
}

const struct dialect dialect_openai_transcriptions = {
    .name = "openai-transcriptions",
    .stream_content_type = "text/event-stream",
    .parse = parse_transcription,
    .answer = answer,
    .begin = begin,
    .event = event,
    .end_choice = end_choice,
    .end = end,
    .error = openai_error,
};

const struct dialect dialect_openai_translations = {
    .name = "openai-translations",
    .stream_content_type = "text/event-stream",
    .parse = parse_translation,
    .answer = answer,
    .begin = begin,
    .event = event,
    .end_choice = end_choice,
    .end = end,
    .error = openai_error,
};
