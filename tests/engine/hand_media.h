// SPDX-License-Identifier: Apache-2.0
// Media made by hand, as the media room would hand them over, and prompts of recorded goldens.
#ifndef TESTS_HAND_MEDIA_H
#define TESTS_HAND_MEDIA_H

#include "engine/media.h"
#include "formats/safetensors.h"

// A picture of one colour pattern that `seed` chooses, or (pixels) of these. width and height are
// multiples of the block.
struct carat_media *hand_picture(uint32_t width, uint32_t height, uint32_t block, unsigned seed,
                                 const uint8_t *pixels);
// n samples of noise that `seed` chooses, or (samples) these. segment 0: never cut.
struct carat_media *hand_sound(size_t n, size_t segment, unsigned seed, const float *samples);
// Frames at these times, and a sound track.
struct carat_media *hand_film(uint32_t width, uint32_t height, uint32_t block,
                              const double *seconds, size_t n_frames, size_t n_samples,
                              size_t segment);
// Makes an open sound longer, or shorter than it was made: its first n samples are there.
void hand_show(struct carat_media *sound, size_t n, bool is_open);
void hand_free(struct carat_media *m);

// A golden's prompt: ids, and its media in the order of the placeholders.
#define HAND_MEDIA_MAX 16
struct hand_golden {
    struct safetensors *tensors;
    const int32_t *ids;
    size_t n_ids;
    const float *logits; // [n_ids, n_vocab]
    size_t n_vocab;
    struct carat_media *media[HAND_MEDIA_MAX];
    size_t n_media;
};
void hand_golden_open(struct hand_golden *g, const char *path, uint32_t block);
void hand_golden_close(struct hand_golden *g);

#endif
