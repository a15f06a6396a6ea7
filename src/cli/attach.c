// SPDX-License-Identifier: Apache-2.0
#include "cli/attach.h"

#include "base/base64.h"
#include "base/error.h"
#include "base/os.h"

#include <stdlib.h>
#include <string.h>

#define STDIN_SIZE_MAX   ((size_t)1 << 30) // as files, include/carat.h
#define FRAMES_MAX       1024
#define FRAME_RATE_MAX   1000.0
#define SEGMENT_SHORTEST 0.04 // s: one soft token
#define SEGMENT_LONGEST  1e6
#define EXTENSION_MAX    8

#define AT(field) offsetof(struct media_settings, field)
const struct option media_setting_rows[] = {
    {"image", OPTION_WORD, "FILE", "show the model this picture; '-' is standard input", AT(words),
     0, 0, NULL},
    {"audio", OPTION_WORD, "FILE",
     "play it this sound, or the sound of a film; '-' is standard input: a WAV that is still being "
     "recorded is listened to as it comes",
     AT(words), 0, 0, NULL},
    {"video", OPTION_WORD, "FILE", "show it this film, with its sound; '-' is standard input",
     AT(words), 0, 0, NULL},
    {"image-tokens", OPTION_WORD, "N",
     "at most 70, 140, 280, 560 or 1120 tokens for a picture after this option or a frame of a "
     "film: more show more detail and take longer (default: auto: for a picture what its size "
     "needs, for a frame 70)",
     AT(words), 0, 0, NULL},
    {"video-frames", OPTION_WORD, "N",
     "take N frames of each film after this option (default: 32 for each minute)", AT(words), 0, 0,
     NULL},
    {"video-fps", OPTION_WORD, "X", "take X frames a second instead", AT(words), 0, 0, NULL},
    {"no-sound", OPTION_WORD, NULL, "films after this option without their sound", AT(words), 0, 0,
     NULL},
    {"segment", OPTION_WORD, "S",
     "sounds after this option that are longer than S seconds are heard in parts, each with its "
     "time (default: 30, for which the model was made; off: in one)",
     AT(words), 0, 0, NULL},
    {"sound-first", OPTION_FLAG, NULL,
     "put the sounds of a message before all else in it: helps when much text stands before a "
     "sound",
     AT(sound_first), 0, 0, NULL},
    {"sound-sees-ahead", OPTION_FLAG, NULL,
     "let the parts of a sound see each other in both directions: off the published rule of the "
     "model, see docs/media.md",
     AT(sound_sees_ahead), 0, 0, NULL},
    {.name = NULL},
};
#undef AT

static int read_tokens(uint32_t *out, const char *text, struct carat_error *err)
{
    static const uint32_t allowed[] = {70, 140, 280, 560, 1120};
    uint64_t n = 0;
    if (strcmp(text, "auto") == 0) {
        *out = 0;
        return 0;
    }
    parse_count(text, 1, 1e6, &n);
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        if (n == allowed[i]) {
            *out = allowed[i];
            return 0;
        }
    }
    return fail(err, CARAT_E_ARGUMENT,
                "--image-tokens: expected auto, 70, 140, 280, 560 or 1120, found '%s'", text);
}

static int read_frames(struct media_how *how, const char *text, struct carat_error *err)
{
    uint64_t n = 0;
    if (!parse_count(text, 1, FRAMES_MAX, &n)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "--video-frames: expected an integer from 1 to %d, found '%s'", FRAMES_MAX,
                    text);
    }
    how->n_frames = (size_t)n;
    how->frames_per_second = 0;
    return 0;
}

static bool read_number(double *out, const char *text, double min, double max)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (!*text || *end || !(value >= min && value <= max)) {
        return false;
    }
    *out = value;
    return true;
}

static int read_how(struct media_how *how, const struct option_word *word, struct carat_error *err)
{
    if (strcmp(word->name, "image-tokens") == 0) {
        return read_tokens(&how->image_tokens, word->value, err);
    }
    if (strcmp(word->name, "video-frames") == 0) {
        return read_frames(how, word->value, err);
    }
    if (strcmp(word->name, "video-fps") == 0) {
        how->n_frames = 0;
        if (!read_number(&how->frames_per_second, word->value, 1e-6, FRAME_RATE_MAX)) {
            return fail(err, CARAT_E_ARGUMENT,
                        "--video-fps: expected a number above 0, at most %g, found '%s'",
                        FRAME_RATE_MAX, word->value);
        }
        return 0;
    }
    if (strcmp(word->name, "segment") == 0) {
        if (strcmp(word->value, "off") == 0) {
            how->segment_seconds = -1;
        } else if (!read_number(&how->segment_seconds, word->value, SEGMENT_SHORTEST,
                                SEGMENT_LONGEST)) {
            return fail(err, CARAT_E_ARGUMENT,
                        "--segment: expected off or seconds from %g to %g, found '%s'",
                        SEGMENT_SHORTEST, SEGMENT_LONGEST, word->value);
        }
        return 0;
    }
    how->drops_sound = true; // --no-sound, the one that is left
    return 0;
}

static bool type_of_option(const char *name, enum carat_media_type *out)
{
    if (strcmp(name, "image") == 0) {
        *out = CARAT_MEDIA_IMAGE;
    } else if (strcmp(name, "audio") == 0) {
        *out = CARAT_MEDIA_AUDIO;
    } else if (strcmp(name, "video") == 0) {
        *out = CARAT_MEDIA_VIDEO;
    } else {
        return false;
    }
    return true;
}

int media_list_read(struct media_list *out, const struct media_settings *settings, bool takes_later,
                    struct carat_error *err)
{
    const char *unused = NULL; // an option that no file has followed yet
    size_t n_stdin = 0;
    for (size_t i = 0; i < settings->words.n; i++) {
        const struct option_word *word = &settings->words.items[i];
        struct attachment *a = &out->items[out->n];
        enum carat_media_type type;
        if (!type_of_option(word->name, &type)) {
            unused = word->name;
            int rc = read_how(&out->how, word, err);
            if (rc) {
                return rc;
            }
            continue;
        }
        unused = NULL;
        n_stdin += strcmp(word->value, "-") == 0;
        *a = (struct attachment){.type = type,
                                 .source = word->value,
                                 .how = out->how,
                                 .n_args_before = word->n_args_before};
        out->n++;
    }
    if (n_stdin > 1) {
        return fail(err, CARAT_E_ARGUMENT, "'-' is given %zu times: standard input is one file",
                    n_stdin);
    }
    if (unused && !takes_later) {
        return fail(err, CARAT_E_ARGUMENT,
                    "--%s is about the --image, --audio and --video after it, and none follows: "
                    "put it before them",
                    unused);
    }
    return 0;
}

bool media_type_of_name(const char *name, enum carat_media_type *out)
{
    static const struct {
        enum carat_media_type type;
        const char *extensions; // each behind a space
    } kinds[] = {
        {CARAT_MEDIA_IMAGE, " jpg jpeg jpe png webp gif bmp tif tiff heic heif avif ppm pgm pnm "},
        {CARAT_MEDIA_AUDIO, " wav mp3 flac m4a aac ogg oga opus "},
        {CARAT_MEDIA_VIDEO, " mp4 m4v mov webm mkv avi "},
    };
    const char *dot = strrchr(name, '.');
    size_t size = dot ? strlen(dot + 1) : 0;
    if (size == 0 || size > EXTENSION_MAX) {
        return false;
    }
    char word[EXTENSION_MAX + 3] = " ";
    for (size_t i = 0; i < size; i++) {
        char c = dot[1 + i];
        word[1 + i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    word[1 + size] = ' ';
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strstr(kinds[i].extensions, word)) {
            *out = kinds[i].type;
            return true;
        }
    }
    return false;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

void add_path_of_url(struct buf *out, struct slice url)
{
    size_t at = strlen("file://");
    // file://localhost/path is file:///path
    struct slice rest = slice_make(url.data + at, url.size - at);
    at += slice_starts(rest, "localhost/") ? strlen("localhost") : 0;
    for (; at < url.size; at++) {
        int high = at + 2 < url.size && url.data[at] == '%' ? hex_digit(url.data[at + 1]) : -1;
        int low = high >= 0 ? hex_digit(url.data[at + 2]) : -1;
        if (low > 0 || (low == 0 && high > 0)) {
            buf_addc(out, (char)(high * 16 + low));
            at += 2;
        } else {
            buf_addc(out, url.data[at]);
        }
    }
}

static bool is_data_url(const char *source)
{
    return strncmp(source, "data:", 5) == 0;
}

const char *attachment_name(const struct attachment *a)
{
    return strcmp(a->source, "-") == 0 ? "standard input"
           : is_data_url(a->source)    ? "the data: URL"
                                       : a->source;
}

int attachment_check(const struct attachment *a, struct carat_error *err)
{
    if (strcmp(a->source, "-") == 0 || is_data_url(a->source) || os_exists(a->source)) {
        return 0;
    }
    return fail(err, CARAT_E_IO, "%s: no such file", a->source);
}

int attachment_check_model(const struct attachment *a, const struct carat_engine *engine,
                           struct carat_error *err)
{
    const struct carat_model_info *info = carat_engine_info(engine);
    bool is_sound = a->type == CARAT_MEDIA_AUDIO;
    // A vocabulary alone can have its prompts written.
    if (info->is_vocab_only || (is_sound ? info->hears : info->sees)) {
        return 0;
    }
    return fail(err, CARAT_E_UNSUPPORTED,
                "%s: the model '%s' %s: it has no projection for %s. Give the file with it, often "
                "called mmproj-*.gguf, with --projector FILE",
                attachment_name(a), info->name, is_sound ? "does not hear" : "does not see",
                is_sound                       ? "sound"
                : a->type == CARAT_MEDIA_IMAGE ? "pictures"
                                               : "films");
}

void attachment_source(struct carat_media_source *out, const struct attachment *a,
                       const struct carat_engine *engine, struct progress *progress)
{
    *out = (struct carat_media_source){
        .type = a->type,
        .image_tokens = a->how.image_tokens,
        .block = (uint32_t)carat_engine_info(engine)->image_block,
        .n_frames = a->how.n_frames,
        .frames_per_second = a->how.frames_per_second,
        .drops_sound = a->how.drops_sound,
        .segment_seconds = a->how.segment_seconds,
        .on_progress = progress ? progress_report : NULL,
        .user = progress,
    };
}

// The bytes of a data: URL, "data:image/png;base64,iVBORw0...".
static int read_data_url(struct buf *out, const char *url, struct carat_error *err)
{
    const char *comma = strchr(url, ',');
    if (!comma || !slice_ends(slice_make(url, (size_t)(comma - url)), ";base64")) {
        return fail(err, CARAT_E_FORMAT, "expected data:TYPE;base64,..., found '%.40s'", url);
    }
    return base64_decode(out, slice_of(comma + 1), err);
}

int attachment_open(struct attachment *a, const struct carat_engine *engine,
                    struct progress *progress, struct carat_error *err)
{
    struct carat_media_source source;
    struct buf bytes = {.max = STDIN_SIZE_MAX};
    int rc = attachment_check_model(a, engine, err);
    if (rc) {
        return rc;
    }
    const struct carat_model_info *info = carat_engine_info(engine);
    bool is_deaf = !info->hears && !info->is_vocab_only;
    if (a->type == CARAT_MEDIA_VIDEO && is_deaf && !a->how.drops_sound) {
        say("%s: the model does not hear: the film is shown without its sound", attachment_name(a));
        a->how.drops_sound = true;
    }
    attachment_source(&source, a, engine, progress);
    if (strcmp(a->source, "-") == 0) {
        rc = os_read_file(&bytes, "-", STDIN_SIZE_MAX, err);
    } else if (is_data_url(a->source)) {
        rc = read_data_url(&bytes, a->source, err);
    } else {
        source.path = a->source;
    }
    if (rc == 0 && !source.path) {
        source.data = buf_text(&bytes);
        source.size = bytes.size;
    }
    rc = rc ? rc : carat_media_new(&a->media, &source, err);
    if (progress) {
        progress_end(progress);
    }
    if (rc == 0) {
        attachment_say_notes(a);
    } else if (!source.path && rc != CARAT_E_STOPPED) {
        fail_prefix(err, attachment_name(a));
    }
    buf_release(&bytes);
    return rc;
}

void attachment_say_notes(const struct attachment *a)
{
    const char *note = NULL;
    for (size_t i = 0; (note = carat_media_note(a->media, i)) != NULL; i++) {
        say("%s", note);
    }
}

void attachment_describe(const struct attachment *a, struct buf *out)
{
    const struct carat_media_info *info = carat_media_info(a->media);
    switch (info->type) {
    case CARAT_MEDIA_IMAGE:
        buf_addf(out, "%u x %u pixels, seen as %u x %u", info->source_width, info->source_height,
                 info->width, info->height);
        break;
    case CARAT_MEDIA_AUDIO:
        buf_addf(out, "%.1f s", (double)info->n_samples / 16000);
        break;
    case CARAT_MEDIA_VIDEO:
        buf_addf(out, "%.1f s, %zu of %zu frames, seen as %u x %u%s", info->source_seconds,
                 info->n_frames, info->source_frames, info->width, info->height,
                 info->n_samples ? ", with sound" : "");
        break;
    }
    buf_addf(out, ", %zu tokens", info->n_tokens);
}

void attachment_close(struct attachment *a)
{
    carat_media_free(a->media);
    a->media = NULL;
}
