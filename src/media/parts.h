// SPDX-License-Identifier: Apache-2.0
// What the files behind media.c share: how a medium under way is put together.
#ifndef CARAT_MEDIA_PARTS_H
#define CARAT_MEDIA_PARTS_H

#include "media/media.h"

// A source being read, and the medium it becomes.
struct making {
    const struct carat_media_source *source;
    struct media_input input; // path and data: the bytes; else empty
    struct media_budget *budget;
    struct carat_media *media;
};

// -------------------------------------------------------------------------------------- size.c

uint32_t size_block(uint32_t block); // 0 is the published models' 48
int size_check_options(uint32_t tokens, uint32_t block, struct carat_error *err);

// ------------------------------------------------------------------------------------- media.c

#define MEDIA_NOTE_SIZE 400 // with its end
// What is asked of a medium, wherever it comes from: type, limits, sizes.
int media_check_options(const struct carat_media_source *source, struct carat_error *err);
// What messages call it: the path, or "picture", "sound", "film".
const char *media_name_of(const struct carat_media_source *source);
// One line for carat_media_note; dropped when there are too many already.
int media_note(struct carat_media *m, struct carat_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// ----------------------------------------------------------------------------------- picture.c

int picture_make(struct making *mk, struct carat_error *err);
// The caller's pixels as a picture, to be read only.
struct media_picture picture_view(const uint8_t *pixels, uint32_t width, uint32_t height);
// Sets the medium's size, and that of its source. tokens 0: automatic.
int picture_set_size(struct making *mk, uint32_t width, uint32_t height, uint32_t tokens,
                     struct carat_error *err);
int picture_new_frames(struct making *mk, size_t n, struct carat_error *err);
// Makes frame i: resized to the medium's size, counted in the budget.
int picture_set_frame(struct making *mk, size_t i, const struct media_picture *p, double seconds,
                      struct carat_error *err);

// -------------------------------------------------------------------------------------- film.c

int film_make(struct making *mk, struct carat_error *err);
// The numbers of n frames of total, evenly spread: i * total / n.
void film_choose(size_t *out, size_t n, size_t total);
// How many frames of a film are asked for, at most all it has; limits come on top.
size_t film_count(const struct carat_media_source *source, const struct film_info *film);

// ------------------------------------------------------------------------------------ listen.c

// Sets segment_samples from what the source asks for.
int listen_check_options(struct carat_media *m, const struct carat_media_source *source,
                         struct carat_error *err);
// The sound of an input or of samples, or the beginning of an open one.
int listen_make(struct making *mk, struct carat_error *err);
// The sound track of a film. None at all is fine.
int listen_to_film(struct making *mk, struct carat_error *err);
void feed_free(struct media_feed *f); // takes NULL

#endif
