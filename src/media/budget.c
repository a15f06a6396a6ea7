// SPDX-License-Identifier: Apache-2.0
// The limits of one medium, and what of them is used up.
#include "media/media.h"

#include <math.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

#define FILE_SIZE_MAX_DEFAULT  ((uint64_t)1 << 30)
#define PIXELS_MAX_DEFAULT     ((uint64_t)100000000)
#define SECONDS_MAX_DEFAULT    (3 * 3600.0)
#define MEMORY_MAX_DEFAULT     ((uint64_t)2 << 30)
#define DECODE_SECONDS_DEFAULT 120.0
#define FRAMES_MAX_DEFAULT     ((size_t)1024)
#define PICTURE_SIDE_MAX       ((uint64_t)INT32_MAX / 4) // 3 bytes for a pixel fit an int

void media_budget_init(struct media_budget *b, const struct carat_media_source *source,
                       const char *name)
{
    struct carat_media_limits l = source->limits;
    *b = (struct media_budget){.name = name,
                               .on_progress = source->on_progress,
                               .user = source->user,
                               .adds_duration = l.decode_seconds == 0,
                               .started = os_seconds()};
    l.file_size_max = l.file_size_max > 0 ? l.file_size_max : FILE_SIZE_MAX_DEFAULT;
    l.pixels_max = l.pixels_max > 0 ? l.pixels_max : PIXELS_MAX_DEFAULT;
    l.seconds_max = l.seconds_max > 0 ? l.seconds_max : SECONDS_MAX_DEFAULT;
    l.memory_max = l.memory_max > 0 ? l.memory_max : MEMORY_MAX_DEFAULT;
    l.decode_seconds = l.decode_seconds > 0 ? l.decode_seconds : DECODE_SECONDS_DEFAULT;
    l.frames_max = l.frames_max > 0 ? l.frames_max : FRAMES_MAX_DEFAULT;
    b->limits = l;
    b->deadline = b->started + l.decode_seconds;
}

int media_budget_tick(struct media_budget *b, uint64_t done, uint64_t total,
                      struct carat_error *err)
{
    if (os_seconds() > b->deadline) {
        return fail(err, CARAT_E_FULL, "%s: takes longer to decode than the limit of %.0f s",
                    b->name, b->deadline - b->started);
    }
    if (total > 0) {
        b->done = done;
        b->total = total;
    }
    if (b->on_progress && !b->on_progress(b->user, "decoding", b->done, b->total)) {
        return fail(err, CARAT_E_STOPPED, "%s: decoding was stopped", b->name);
    }
    return 0;
}

int media_budget_take(struct media_budget *b, uint64_t bytes, struct carat_error *err)
{
    if (bytes > b->limits.memory_max - b->memory) {
        return fail(err, CARAT_E_FULL,
                    "%s: decoding needs %llu bytes more than the %llu it has taken, over the limit "
                    "of %llu",
                    b->name, (unsigned long long)bytes, (unsigned long long)b->memory,
                    (unsigned long long)b->limits.memory_max);
    }
    b->memory += bytes;
    return 0;
}

void media_budget_give(struct media_budget *b, uint64_t bytes)
{
    require(bytes <= b->memory);
    b->memory -= bytes;
}

int media_check_size(const struct media_budget *b, uint64_t width, uint64_t height,
                     struct carat_error *err)
{
    if (width == 0 || height == 0) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: expected a picture with sides above 0, found %llu x "
                    "%llu",
                    b->name, (unsigned long long)width, (unsigned long long)height);
    }
    if (width > b->limits.pixels_max / height || width > PICTURE_SIDE_MAX ||
        height > PICTURE_SIDE_MAX) {
        return fail(err, CARAT_E_FULL,
                    "%s: a picture of %llu x %llu pixels is over the limit of %llu pixels", b->name,
                    (unsigned long long)width, (unsigned long long)height,
                    (unsigned long long)b->limits.pixels_max);
    }
    return 0;
}

int media_check_seconds(struct media_budget *b, double seconds, struct carat_error *err)
{
    if (!(seconds >= 0) || !isfinite(seconds)) {
        return fail(err, CARAT_E_FORMAT, "%s: expected a duration in seconds, found %g", b->name,
                    seconds);
    }
    if (seconds > b->limits.seconds_max) {
        return fail(err, CARAT_E_FULL, "%s: %.1f s of sound or film are over the limit of %.0f s",
                    b->name, seconds, b->limits.seconds_max);
    }
    double deadline = b->started + b->limits.decode_seconds + seconds;
    if (b->adds_duration && deadline > b->deadline) {
        b->deadline = deadline;
    }
    return 0;
}

void media_picture_release(struct media_picture *p)
{
    if (p) {
        mem_free(p->pixels);
        *p = (struct media_picture){0};
    }
}
