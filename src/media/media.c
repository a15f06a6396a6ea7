// SPDX-License-Identifier: Apache-2.0
// A medium from its source: checks what was asked for, brings the bytes into memory and hands them
// to picture.c, film.c or listen.c.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "media/parts.h"

int media_note(struct carat_media *m, struct carat_error *err, const char *format, ...)
{
    if (m->n_notes == MEDIA_NOTES_MAX) {
        return 0;
    }
    char text[MEDIA_NOTE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    m->notes[m->n_notes] = mem_strdup(text, err);
    if (!m->notes[m->n_notes]) {
        return CARAT_E_MEMORY;
    }
    m->n_notes++;
    return 0;
}

/* ------------------------------------------------------------------------------------- checks */

static bool is_amount(double x)
{
    return x >= 0 && isfinite(x);
}

static int check_limits(const struct carat_media_limits *l, struct carat_error *err)
{
    if (!is_amount(l->seconds_max) || !is_amount(l->decode_seconds)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "limits of a medium: expected seconds of at least 0, found %g and %g",
                    l->seconds_max, l->decode_seconds);
    }
    return 0;
}

static int check_pixels(const struct carat_media_source *s, struct carat_error *err)
{
    if (s->type == CARAT_MEDIA_AUDIO) {
        return fail(err, CARAT_E_ARGUMENT, "pixels cannot be read as sound");
    }
    if (s->width == 0 || s->height == 0) {
        return fail(err, CARAT_E_ARGUMENT, "pixels: expected sides above 0, found %u x %u",
                    s->width, s->height);
    }
    if (s->type == CARAT_MEDIA_VIDEO && s->n_pixel_frames == 0) {
        return fail(err, CARAT_E_ARGUMENT, "pixels of a film: expected at least one frame");
    }
    if (s->type == CARAT_MEDIA_VIDEO && s->frames_per_second > 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "pixels of a film: expected n_frames or nothing, found frames_per_second");
    }
    for (size_t i = 0; s->pixel_seconds && i < s->n_pixel_frames; i++) {
        if (!is_amount(s->pixel_seconds[i])) {
            return fail(err, CARAT_E_ARGUMENT, "time of frame %zu: expected at least 0 s, found %g",
                        i, s->pixel_seconds[i]);
        }
    }
    return 0;
}

static int check_sound(const struct carat_media_source *s, struct carat_error *err)
{
    if (s->type != CARAT_MEDIA_AUDIO) {
        return fail(err, CARAT_E_ARGUMENT, "samples and open media: expected type AUDIO, found %d",
                    (int)s->type);
    }
    if (s->samples && s->sample_rate == 0) {
        return fail(err, CARAT_E_ARGUMENT, "samples: expected their sample_rate, found 0");
    }
    return 0;
}

int media_check_options(const struct carat_media_source *s, struct carat_error *err)
{
    if (s->type < CARAT_MEDIA_IMAGE || s->type > CARAT_MEDIA_VIDEO) {
        return fail(err, CARAT_E_ARGUMENT, "type of a medium: expected 1 to 3, found %d",
                    (int)s->type);
    }
    int rc = check_limits(&s->limits, err);
    return rc ? rc : size_check_options(s->image_tokens, s->block, err);
}

static int check_source(const struct carat_media_source *s, struct carat_error *err)
{
    const int n = (s->path != NULL) + (s->data != NULL) + (s->pixels != NULL) +
                  (s->samples != NULL || s->is_open);
    if (n != 1) {
        return fail(err, CARAT_E_ARGUMENT,
                    "a medium: expected exactly one of path, data, pixels, samples or is_open, "
                    "found %d of them",
                    n);
    }
    if (s->keeps_size && !s->pixels) {
        return fail(err, CARAT_E_ARGUMENT, "keeps_size: expected pixels");
    }
    if (s->n_frames > 0 && s->frames_per_second != 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "a film: expected n_frames or frames_per_second, found both");
    }
    if (!is_amount(s->frames_per_second)) {
        return fail(err, CARAT_E_ARGUMENT, "frames_per_second: expected at least 0, found %g",
                    s->frames_per_second);
    }
    int rc = 0;
    if (s->pixels) {
        rc = check_pixels(s, err);
    }
    if (!rc && (s->samples || s->is_open)) {
        rc = check_sound(s, err);
    }
    return rc;
}

/* ---------------------------------------------------------------------------------- the bytes */

// A file, mapped or read to its end.
struct bytes {
    struct os_map map;
    struct buf read;
};

static int bytes_open(struct bytes *f, struct making *mk, struct carat_error *err)
{
    const struct carat_media_source *s = mk->source;
    const uint64_t max = mk->budget->limits.file_size_max;
    if (s->data) {
        mk->input = (struct media_input){s->data, s->size, mk->budget->name};
    } else if (os_is_file(s->path)) {
        int rc = os_map_open(&f->map, s->path, err);
        if (rc) {
            return rc;
        }
        mk->input = (struct media_input){f->map.data, f->map.size, mk->budget->name};
    } else {
        f->read.max = max < SIZE_MAX ? (size_t)max : SIZE_MAX;
        int rc = os_read_file(&f->read, s->path, f->read.max, err);
        if (!rc) {
            rc = media_budget_take(mk->budget, f->read.size, err);
        }
        if (rc) {
            return rc;
        }
        const void *data = buf_text(&f->read);
        mk->input = (struct media_input){data, f->read.size, mk->budget->name};
    }
    if (mk->input.size > max) {
        return fail(err, CARAT_E_FULL, "%s: %zu bytes are over the limit of %llu bytes",
                    mk->budget->name, mk->input.size, (unsigned long long)max);
    }
    if (mk->input.size == 0) {
        return fail(err, CARAT_E_FORMAT, "%s: the file is empty", mk->budget->name);
    }
    return 0;
}

static void bytes_close(struct bytes *f)
{
    os_map_close(&f->map);
    buf_release(&f->read);
}

/* -------------------------------------------------------------------------------------- media */

static int make(struct making *mk, struct carat_error *err)
{
    switch (mk->source->type) {
    case CARAT_MEDIA_IMAGE:
        return picture_make(mk, err);
    case CARAT_MEDIA_AUDIO:
        return listen_make(mk, err);
    case CARAT_MEDIA_VIDEO:
        return film_make(mk, err);
    }
    return CARAT_E_ARGUMENT;
}

const char *media_name_of(const struct carat_media_source *s)
{
    static const char *const names[] = {[CARAT_MEDIA_IMAGE] = "picture",
                                        [CARAT_MEDIA_AUDIO] = "sound",
                                        [CARAT_MEDIA_VIDEO] = "film"};
    if (s->path && strcmp(s->path, "-") == 0) {
        return "standard input";
    }
    return s->path ? s->path : names[s->type];
}

int carat_media_new(struct carat_media **out, const struct carat_media_source *source,
                    struct carat_error *err)
{
    int rc = media_check_options(source, err);
    rc = rc ? rc : check_source(source, err);
    if (rc) {
        return rc;
    }
    struct media_budget budget;
    media_budget_init(&budget, source, media_name_of(source));
    struct bytes file = {0};
    struct making mk = {.source = source, .budget = &budget};
    mk.media = mem_new(sizeof(*mk.media), err);
    if (!mk.media) {
        return CARAT_E_MEMORY;
    }
    mk.media->info.type = source->type;
    mk.media->info.format = mk.media->format;
    mk.media->info.block = size_block(source->block);
    rc = listen_check_options(mk.media, source, err);
    if (!rc && (source->path || source->data)) {
        rc = bytes_open(&file, &mk, err);
    }
    if (!rc) {
        rc = make(&mk, err);
    }
    if (!rc) {
        media_describe(mk.media);
        *out = mk.media;
        mk.media = NULL;
    }
    bytes_close(&file);
    carat_media_free(mk.media);
    return rc;
}

void carat_media_free(struct carat_media *media)
{
    if (!media) {
        return;
    }
    for (size_t i = 0; i < media->info.n_frames && media->frames; i++) {
        mem_free(media->frames[i].pixels);
    }
    for (size_t i = 0; i < media->n_notes; i++) {
        mem_free(media->notes[i]);
    }
    mem_free(media->frames);
    if (media->feed) {
        feed_free(media->feed); // the samples of an open sound are its own
    } else {
        mem_free(media->samples);
    }
    mem_free(media);
}

const struct carat_media_info *carat_media_info(const struct carat_media *media)
{
    return &media->info;
}

const uint8_t *carat_media_frame(const struct carat_media *media, size_t i, double *seconds)
{
    if (i >= media->info.n_frames) {
        return NULL;
    }
    if (seconds) {
        *seconds = media->frames[i].seconds;
    }
    return media->frames[i].pixels;
}

const float *carat_media_samples(const struct carat_media *media, size_t *n)
{
    *n = media->info.n_samples;
    return media->samples;
}

const char *carat_media_note(const struct carat_media *media, size_t i)
{
    return i < media->n_notes ? media->notes[i] : NULL;
}

bool carat_media_has(const char *feature)
{
    return decode_has(feature);
}
