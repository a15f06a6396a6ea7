// SPDX-License-Identifier: Apache-2.0
// Pictures: decoded, then brought to the size that their budget of soft tokens allows.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/parts.h"

#define TOKENS_MAX 1120

struct media_picture picture_view(const uint8_t *pixels, uint32_t width, uint32_t height)
{
    // A picture's own pixels can be written, these are only read.
    return (struct media_picture){(uint8_t *)(uintptr_t)pixels, width, height};
}

static int check_kept(uint32_t width, uint32_t height, const struct making *mk,
                      struct carat_error *err)
{
    const uint32_t block = mk->media->info.block;
    const uint32_t most = mk->source->image_tokens > 0 ? mk->source->image_tokens : TOKENS_MAX;
    if (width % block != 0 || height % block != 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "%s: size to be kept: expected sides that are multiples of %u, found %u x %u",
                    mk->budget->name, block, width, height);
    }
    const uint64_t blocks = (uint64_t)(width / block) * (height / block);
    if (blocks > most) {
        return fail(err, CARAT_E_ARGUMENT,
                    "%s: size to be kept: expected at most %u blocks, found %llu", mk->budget->name,
                    most, (unsigned long long)blocks);
    }
    return 0;
}

int picture_set_size(struct making *mk, uint32_t width, uint32_t height, uint32_t tokens,
                     struct carat_error *err)
{
    struct carat_media_info *info = &mk->media->info;
    info->source_width = width;
    info->source_height = height;
    if (mk->source->keeps_size) {
        int rc = check_kept(width, height, mk, err);
        info->width = width;
        info->height = height;
        return rc;
    }
    return carat_image_size(&info->width, &info->height, width, height, tokens, info->block, err);
}

int picture_new_frames(struct making *mk, size_t n, struct carat_error *err)
{
    struct carat_media *m = mk->media;
    int rc = media_budget_take(mk->budget, (uint64_t)n * sizeof(*m->frames), err);
    if (rc) {
        return rc;
    }
    m->frames = mem_new_array(n, sizeof(*m->frames), err);
    m->info.n_frames = m->frames ? n : 0;
    return m->frames ? 0 : CARAT_E_MEMORY;
}

int picture_set_frame(struct making *mk, size_t i, const struct media_picture *p, double seconds,
                      struct carat_error *err)
{
    struct carat_media *m = mk->media;
    require(i < m->info.n_frames);
    struct media_frame *frame = &m->frames[i];
    require(!frame->pixels);
    const uint64_t bytes = (uint64_t)m->info.width * m->info.height * 3;
    int rc = media_budget_take(mk->budget, bytes, err);
    if (rc) {
        return rc;
    }
    frame->seconds = seconds;
    frame->pixels = mem_new((size_t)bytes, err);
    if (!frame->pixels) {
        return CARAT_E_MEMORY;
    }
    return resize_rgb(frame->pixels, m->info.width, m->info.height, p, mk->budget, err);
}

static int add_picture(struct making *mk, const struct media_picture *p, struct carat_error *err)
{
    int rc = picture_set_size(mk, p->width, p->height, mk->source->image_tokens, err);
    if (!rc) {
        rc = picture_new_frames(mk, 1, err);
    }
    if (!rc) {
        rc = picture_set_frame(mk, 0, p, 0, err);
    }
    return rc;
}

int picture_make(struct making *mk, struct carat_error *err)
{
    const struct carat_media_source *s = mk->source;
    struct carat_media *m = mk->media;
    if (s->pixels) {
        int rc = media_check_size(mk->budget, s->width, s->height, err);
        const struct media_picture view = picture_view(s->pixels, s->width, s->height);
        snprintf(m->format, sizeof(m->format), "pixels");
        return rc ? rc : add_picture(mk, &view, err);
    }
    struct media_picture picture = {0};
    int rc;
    if (ppm_is(&mk->input)) {
        snprintf(m->format, sizeof(m->format), "ppm");
        rc = ppm_read(&picture, &mk->input, mk->budget, err);
    } else {
        rc = decode_picture(&picture, m->format, &mk->input, s->blends_alpha, mk->budget, err);
    }
    if (!rc) {
        rc = add_picture(mk, &picture, err);
    }
    media_picture_release(&picture);
    return rc;
}
