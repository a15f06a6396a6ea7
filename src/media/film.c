// SPDX-License-Identifier: Apache-2.0
// Films: which frames are taken, all of one size, and the sound track beside them.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/parts.h"

#define FRAMES_PER_MINUTE 32 // for each minute begun; the model's processor takes 32 of any film
#define SECONDS_STATED    60 // the longest film that the model was made for
#define FPS_UNKNOWN       24
#define TOKENS_DEFAULT    70

void film_choose(size_t *out, size_t n, size_t total)
{
    for (size_t i = 0; i < n; i++) {
        // i * total / n without overflow: total = n * whole + rest.
        out[i] = i * (total / n) + (size_t)((uint64_t)i * (total % n) / n);
    }
}

size_t film_count(const struct carat_media_source *s, const struct film_info *film)
{
    double n = (double)s->n_frames;
    if (s->frames_per_second > 0) {
        n = floor((double)film->n_frames / film->fps * s->frames_per_second);
        n = n > 1 ? n : 1;
    } else if (s->n_frames == 0) {
        const double minutes = ceil(film->seconds / 60);
        n = FRAMES_PER_MINUTE * (minutes > 1 ? minutes : 1);
    }
    // A film of fewer frames gives every one.
    return n < (double)film->n_frames ? (size_t)n : film->n_frames;
}

// The frames that are taken: numbers (mem_free) and how many.
static int choose(size_t **out, size_t *n_out, struct making *mk, size_t n, size_t total,
                  struct carat_error *err)
{
    const size_t most = mk->budget->limits.frames_max;
    int rc = 0;
    if (n > most) {
        rc =
            media_note(mk->media, err,
                       "%s: %zu frames are more than the limit of %zu: that many are taken, evenly "
                       "spread; fewer can be asked for",
                       mk->budget->name, n, most);
        n = most;
    }
    size_t *frames = rc ? NULL : mem_new_array(n, sizeof(*frames), err);
    if (!frames) {
        return CARAT_E_MEMORY;
    }
    film_choose(frames, n, total);
    *out = frames;
    *n_out = n;
    return 0;
}

/* ----------------------------------------------------------------------------- from the caller */

static int make_from_pixels(struct making *mk, struct carat_error *err)
{
    const struct carat_media_source *s = mk->source;
    struct carat_media *m = mk->media;
    const size_t total = s->n_pixel_frames;
    size_t *frames = NULL;
    size_t n = s->n_frames > 0 && s->n_frames < total ? s->n_frames : total;
    snprintf(m->format, sizeof(m->format), "pixels");
    m->info.source_frames = total;
    m->info.source_fps = s->pixel_seconds ? 0 : FPS_UNKNOWN;
    int rc = media_check_size(mk->budget, s->width, s->height, err);
    if (!rc) {
        rc = picture_set_size(mk, s->width, s->height,
                              s->image_tokens > 0 ? s->image_tokens : TOKENS_DEFAULT, err);
    }
    if (!rc) {
        rc = choose(&frames, &n, mk, n, total, err);
    }
    if (!rc) {
        rc = picture_new_frames(mk, n, err);
    }
    for (size_t i = 0; i < n && !rc; i++) {
        const size_t frame = frames[i];
        const double seconds =
            s->pixel_seconds ? s->pixel_seconds[frame] : (double)frame / FPS_UNKNOWN;
        const uint8_t *pixels = s->pixels + frame * ((size_t)s->width * s->height * 3);
        const struct media_picture view = picture_view(pixels, s->width, s->height);
        m->info.source_seconds = seconds;
        rc = picture_set_frame(mk, i, &view, seconds, err);
    }
    mem_free(frames);
    return rc;
}

/* -------------------------------------------------------------------------------- from a file */

struct frame_taker {
    struct making *mk;
    const size_t *frames;
    double fps;
    size_t n_taken;
};

static int take_frame(void *user, size_t i, const struct media_picture *picture,
                      struct carat_error *err)
{
    struct frame_taker *t = user;
    require(i == t->n_taken);
    t->n_taken++;
    return picture_set_frame(t->mk, i, picture, (double)t->frames[i] / t->fps, err);
}

static int read_frames(struct making *mk, struct film *film, const struct film_info *info,
                       struct carat_error *err)
{
    struct carat_media *m = mk->media;
    size_t *frames = NULL;
    size_t n = 0;
    int rc = choose(&frames, &n, mk, film_count(mk->source, info), info->n_frames, err);
    if (!rc) {
        rc = picture_new_frames(mk, n, err);
    }
    struct frame_taker taker = {.mk = mk, .frames = frames, .fps = info->fps};
    if (!rc) {
        rc = film_read(film, frames, n, take_frame, &taker, err);
    }
    if (!rc && taker.n_taken == 0) {
        rc = fail(err, CARAT_E_FORMAT, "%s: expected %zu frames, none could be decoded",
                  mk->budget->name, info->n_frames);
    }
    if (!rc && taker.n_taken < n) {
        rc = media_note(m, err, "%s: the film ends early: %zu of %zu frames are taken",
                        mk->budget->name, taker.n_taken, n);
        m->info.n_frames = taker.n_taken;
    }
    if (!rc && info->seconds > SECONDS_STATED) {
        rc = media_note(
            m, err,
            "%s: film of %.1f s is longer than the %d s the model was made for: %zu frames "
            "of it are read; another number can be asked for",
            mk->budget->name, info->seconds, SECONDS_STATED, m->info.n_frames);
    }
    mem_free(frames);
    return rc;
}

int film_make(struct making *mk, struct carat_error *err)
{
    if (mk->source->pixels) {
        return make_from_pixels(mk, err);
    }
    struct carat_media *m = mk->media;
    struct film *film = NULL;
    struct film_info info = {0};
    int rc = film_open(&film, &info, &mk->input, mk->budget, err);
    if (rc) {
        return rc;
    }
    if (info.n_frames == 0 || !(info.fps > 0)) {
        rc = fail(err, CARAT_E_FORMAT, "%s: expected a film with frames, found none",
                  mk->budget->name);
    }
    if (!rc) {
        rc = media_check_size(mk->budget, info.width, info.height, err);
    }
    if (!rc) {
        memcpy(m->format, info.format, sizeof(m->format));
        m->info.source_seconds = info.seconds;
        m->info.source_frames = info.n_frames;
        m->info.source_fps = info.fps;
        rc = picture_set_size(
            mk, info.width, info.height,
            mk->source->image_tokens > 0 ? mk->source->image_tokens : TOKENS_DEFAULT, err);
    }
    if (!rc) {
        rc = read_frames(mk, film, &info, err);
    }
    film_close(film);
    if (!rc && info.has_sound && !mk->source->drops_sound) {
        rc = listen_to_film(mk, err);
    }
    return rc;
}
