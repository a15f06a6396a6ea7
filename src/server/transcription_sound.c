// SPDX-License-Identifier: Apache-2.0
// A sound to conversations: cut into pieces that the model takes at once, at quiet places, each
// with the question that Gemma's documentation gives for it.
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "server/server.h"
#include "server/transcription.h"

#define RATE        16000               // samples per second of what carat_media_samples gives
#define QUIET_FRAME ((size_t)RATE / 50) // loudness is looked at in steps of 20 ms
#define QUIET_SPAN  10                  // steps that are looked at together

// ai.google.dev/gemma/docs/capabilities/audio: the wording that the model was trained with.
static const char ask_any[] = "Transcribe the following speech segment in its original language.";
static const char ask_language[] = "Transcribe the following speech segment in {language} into "
                                   "{language} text.";
static const char ask_form[] =
    " Follow these specific instructions for formatting the answer:\n"
    "* Only output the transcription, with no newlines.\n"
    "* When transcribing numbers, write the digits, i.e. write 1.7 and not one point seven, and "
    "write 3 instead of three.";
static const char ask_translation[] =
    "Transcribe the following speech segment in {language}, then translate it into English.\n"
    "When formatting the answer, first output the transcription in {language}, then one newline, "
    "then output the string 'English: ', then the translation in English.";

const char *transcription_language(struct slice code)
{
    // clang-format off
    static const struct {
        char code[3];
        const char *name;
    } rows[] = {
        {"af", "Afrikaans"},   {"ar", "Arabic"},      {"az", "Azerbaijani"}, {"be", "Belarusian"},
        {"bg", "Bulgarian"},   {"bn", "Bengali"},     {"bs", "Bosnian"},     {"ca", "Catalan"},
        {"cs", "Czech"},       {"cy", "Welsh"},       {"da", "Danish"},      {"de", "German"},
        {"el", "Greek"},       {"en", "English"},     {"es", "Spanish"},     {"et", "Estonian"},
        {"eu", "Basque"},      {"fa", "Persian"},     {"fi", "Finnish"},     {"fr", "French"},
        {"ga", "Irish"},       {"gl", "Galician"},    {"gu", "Gujarati"},    {"he", "Hebrew"},
        {"hi", "Hindi"},       {"hr", "Croatian"},    {"hu", "Hungarian"},   {"hy", "Armenian"},
        {"id", "Indonesian"},  {"is", "Icelandic"},   {"it", "Italian"},     {"ja", "Japanese"},
        {"ka", "Georgian"},    {"kk", "Kazakh"},      {"km", "Khmer"},       {"kn", "Kannada"},
        {"ko", "Korean"},      {"lo", "Lao"},         {"lt", "Lithuanian"},  {"lv", "Latvian"},
        {"mk", "Macedonian"},  {"ml", "Malayalam"},   {"mn", "Mongolian"},   {"mr", "Marathi"},
        {"ms", "Malay"},       {"my", "Burmese"},     {"ne", "Nepali"},      {"nl", "Dutch"},
        {"no", "Norwegian"},   {"pa", "Punjabi"},     {"pl", "Polish"},      {"pt", "Portuguese"},
        {"ro", "Romanian"},    {"ru", "Russian"},     {"sk", "Slovak"},      {"sl", "Slovenian"},
        {"sq", "Albanian"},    {"sr", "Serbian"},     {"sv", "Swedish"},     {"sw", "Swahili"},
        {"ta", "Tamil"},       {"te", "Telugu"},      {"th", "Thai"},        {"tr", "Turkish"},
        {"uk", "Ukrainian"},   {"ur", "Urdu"},        {"uz", "Uzbek"},       {"vi", "Vietnamese"},
        {"zh", "Chinese"},     {"zu", "Zulu"},
    };
    // clang-format on
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        // "pt-BR" is Portuguese.
        if (code.size >= 2 && memcmp(code.data, rows[i].code, 2) == 0 &&
            (code.size == 2 || code.data[2] == '-' || code.data[2] == '_')) {
            return rows[i].name;
        }
    }
    return NULL;
}

// ------------------------------------------------------------------------------ the question

// The text with {language} filled in.
static void fill(struct buf *out, const char *text, struct slice language)
{
    static const char place[] = "{language}";
    const char *at;
    while ((at = strstr(text, place))) {
        buf_add(out, text, (size_t)(at - text));
        buf_add_slice(out, language);
        text = at + sizeof(place) - 1;
    }
    buf_adds(out, text);
}

static const char *make_question(struct call *call, const struct transcription_wish *wish,
                                 struct carat_error *err)
{
    struct buf out = {0};
    const char *own = call->server->options->transcription_prompt;
    const char *known = transcription_language(wish->language);
    struct slice language = known                     ? slice_of(known)
                            : wish->language.size > 0 ? wish->language
                                                      : slice_of("its original language");
    if (wish->translates) {
        fill(&out, ask_translation, language);
    } else if (own) {
        fill(&out, own, language);
    } else {
        fill(&out, wish->language.size > 0 ? ask_language : ask_any, language);
        buf_adds(&out, ask_form);
    }
    if (wish->context.size > 0) {
        buf_adds(&out, "\nNames and words that may occur, or what was said before: ");
        buf_add_slice(&out, wish->context);
    }
    const char *question = NULL;
    if (buf_status(&out, err) == 0) {
        question = call_text(call, slice_make(buf_text(&out), out.size), err);
    }
    buf_release(&out);
    return question;
}

// ------------------------------------------------------------------------------ the pieces

static double energy(const float *samples, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)samples[i] * (double)samples[i];
    }
    return sum;
}

// Where a piece that starts at `start` ends: the middle of the quietest fifth of a second among the
// last ones that it could hold.
static size_t find_cut(const float *samples, size_t n, size_t start)
{
    const size_t longest = (size_t)TRANSCRIPTION_PIECE_SECONDS * RATE;
    const size_t window = (size_t)TRANSCRIPTION_QUIET_SECONDS * RATE;
    const size_t span = QUIET_SPAN * QUIET_FRAME;
    if (n - start <= longest) {
        return n;
    }
    size_t best = start + longest - span;
    double best_energy = HUGE_VAL;
    for (size_t at = start + longest - window; at + span <= start + longest; at += QUIET_FRAME) {
        double e = energy(samples + at, span);
        if (e < best_energy) {
            best_energy = e;
            best = at;
        }
    }
    return best + span / 2;
}

static int add_piece(struct call *call, const float *samples, size_t n, const char *question,
                     struct carat_chat *chat, struct carat_error *err)
{
    const struct carat_media_source source = {.type = CARAT_MEDIA_AUDIO,
                                              .samples = samples,
                                              .n_samples = n,
                                              .sample_rate = RATE,
                                              .n_channels = 1,
                                              .segment_seconds = -1};
    const struct carat_media *sound = NULL;
    int rc = call_add_media(call, &source, &sound, err);
    struct carat_part *parts = rc ? NULL : call_take(call, 2 * sizeof(*parts), err);
    struct carat_message *message = parts ? call_take(call, sizeof(*message), err) : NULL;
    if (!message) {
        return rc ? rc : CARAT_E_MEMORY;
    }
    // The sound comes before the text, as the model's card advises.
    parts[0] = (struct carat_part){.type = CARAT_PART_AUDIO, .media = sound};
    parts[1] = (struct carat_part){.type = CARAT_PART_TEXT, .text = question};
    *message =
        (struct carat_message){.role = "user", .parts = parts, .n_parts = 2, .is_part_list = true};
    *chat = (struct carat_chat){.messages = message, .n_messages = 1};
    return 0;
}

static int cut(struct call *call, const struct carat_media *sound, const char *question,
               struct transcription_piece **pieces, size_t *n_pieces, struct carat_error *err)
{
    size_t n = 0;
    const float *samples = carat_media_samples(sound, &n);
    // The shortest that pieces can be but the last.
    const size_t shortest =
        (size_t)(TRANSCRIPTION_PIECE_SECONDS - TRANSCRIPTION_QUIET_SECONDS) * RATE;
    size_t n_max = n / shortest + 1;
    if (n == 0) {
        return fail(err, CARAT_E_ARGUMENT, "file: the sound is empty");
    }
    if (n_max > CALL_CHATS_MAX) {
        return fail(err, CARAT_E_FULL, "file: %.0f seconds of sound: expected at most %.0f",
                    (double)n / RATE, (double)CALL_CHATS_MAX * (double)shortest / RATE);
    }
    struct carat_chat *chats = call_take(call, n_max * sizeof(*chats), err);
    *pieces = chats ? call_take(call, n_max * sizeof(**pieces), err) : NULL;
    int rc = *pieces ? 0 : CARAT_E_MEMORY;
    *n_pieces = 0;
    for (size_t start = 0; !rc && start < n;) {
        require(*n_pieces < n_max);
        size_t end = find_cut(samples, n, start);
        (*pieces)[*n_pieces] =
            (struct transcription_piece){(double)start / RATE, (double)end / RATE};
        rc = add_piece(call, samples + start, end - start, question, &chats[*n_pieces], err);
        *n_pieces += 1;
        start = end;
    }
    call->ask.chats = chats;
    call->ask.n_chats = *n_pieces;
    return rc;
}

int transcription_ask(struct call *call, const struct transcription_wish *wish, struct slice file,
                      struct transcription_piece **pieces, size_t *n, double *seconds,
                      struct carat_error *err)
{
    const struct carat_media_source source = {
        .type = CARAT_MEDIA_AUDIO, .data = file.data, .size = file.size, .segment_seconds = -1};
    struct carat_media *sound = NULL;
    const char *question = make_question(call, wish, err);
    int rc = question ? call_decode(call, &source, &sound, err) : CARAT_E_MEMORY;
    if (!rc) {
        *seconds = carat_media_info(sound)->source_seconds;
        rc = cut(call, sound, question, pieces, n, err);
    }
    carat_media_free(sound);
    return rc;
}
