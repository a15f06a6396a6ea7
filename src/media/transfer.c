// SPDX-License-Identifier: Apache-2.0
// A decoded medium as bytes and back, so that decoding can be a process's of its own. What is read
// is checked like a file of a stranger: the decoder on the other side may have been taken over by
// the file it read. In memory order, little-endian:
//
//   head    magic[8] u32 version, type; source: u32 width, height; f64 seconds; u32 rate, channels;
//           u64 frames; f64 fps; u64 n_frames; u32 width, height, block, n_notes; u64 n_samples;
//           format[32]
//   notes   each u32 size, bytes
//   frames  each f64 seconds, pixels [height][width][3]
//   samples [n_samples] f32
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/parts.h"

#define VERSION       1
#define HEAD_SIZE     120
#define PIECE_SAMPLES 65536 // read, checked, read again
#define TOKENS_MAX    1120  // of a picture
#define TOKENS_FRAME  70    // of a frame of a film, unless something else was asked for

static const char magic[8] = "caratmed";

/* --------------------------------------------------------------------------------------- write */

static void add_u32(struct buf *b, uint64_t v)
{
    require(v <= UINT32_MAX);
    const uint32_t value = (uint32_t)v;
    buf_add(b, &value, sizeof(value));
}

static void add_u64(struct buf *b, uint64_t v)
{
    buf_add(b, &v, sizeof(v));
}

static void add_f64(struct buf *b, double v)
{
    buf_add(b, &v, sizeof(v));
}

static size_t n_frames_of(const struct carat_media *m)
{
    return m->info.type == CARAT_MEDIA_AUDIO ? 0 : m->info.n_frames;
}

static void add_head(struct buf *b, const struct carat_media *m)
{
    const struct carat_media_info *i = &m->info;
    buf_add(b, magic, sizeof(magic));
    add_u32(b, VERSION);
    add_u32(b, (uint64_t)i->type);
    add_u32(b, i->source_width);
    add_u32(b, i->source_height);
    add_f64(b, i->source_seconds);
    add_u32(b, i->source_rate);
    add_u32(b, i->source_channels);
    add_u64(b, i->source_frames);
    add_f64(b, i->source_fps);
    add_u64(b, n_frames_of(m));
    add_u32(b, i->width);
    add_u32(b, i->height);
    add_u32(b, i->block);
    add_u32(b, m->n_notes);
    add_u64(b, i->n_samples);
    buf_add(b, m->format, sizeof(m->format));
}

int carat_media_write(const struct carat_media *media, carat_media_put put, void *user,
                      struct carat_error *err)
{
    if (media->info.is_open) {
        return fail(err, CARAT_E_ARGUMENT, "carat_media_write: expected a sound that is finished");
    }
    struct buf head = {0};
    add_head(&head, media);
    for (size_t i = 0; i < media->n_notes; i++) {
        add_u32(&head, strlen(media->notes[i]));
        buf_adds(&head, media->notes[i]);
    }
    int rc = buf_status(&head, err);
    rc = rc ? rc : put(user, head.data, head.size, err);
    buf_release(&head);
    const size_t picture_size = (size_t)media->info.width * media->info.height * 3;
    for (size_t i = 0; i < n_frames_of(media) && !rc; i++) {
        const struct media_frame *frame = &media->frames[i];
        rc = put(user, &frame->seconds, sizeof(frame->seconds), err);
        rc = rc ? rc : put(user, frame->pixels, picture_size, err);
    }
    if (!rc && media->info.n_samples > 0) {
        rc = put(user, media->samples, media->info.n_samples * sizeof(float), err);
    }
    return rc;
}

/* ---------------------------------------------------------------------------------------- read */

struct reading {
    const struct carat_media_source *source; // what was asked for
    struct media_budget budget;
    struct carat_media *media;
    carat_media_get get;
    void *user;
    size_t n_notes;
    uint64_t n_frames, n_samples; // not yet believed
};

static int refuse(const struct reading *r, const char *what, struct carat_error *err)
{
    return fail(err, CARAT_E_FORMAT, "%s: the decoded medium makes no sense: %s", r->budget.name,
                what);
}

static bool is_amount(double x)
{
    return x >= 0 && isfinite(x);
}

// Text for people. The libraries quote what stands in files: only whole characters that can be
// shown stay.
static void make_plain(char *text, size_t size)
{
    const bool is_utf8 = utf8_is_valid(text, size);
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c < ' ' || c == 0x7f || (c > 0x7f && !is_utf8)) {
            text[i] = '?';
        }
    }
}

static int parse_head(struct reading *r, const uint8_t *head, struct carat_error *err)
{
    struct cursor c = cursor_make(head, HEAD_SIZE);
    struct carat_media *m = r->media;
    struct carat_media_info *i = &m->info;
    if (memcmp(cursor_bytes(&c, sizeof(magic)), magic, sizeof(magic)) != 0 ||
        cursor_u32(&c) != VERSION) {
        return refuse(r, "it is of another version, or none", err);
    }
    if (cursor_u32(&c) != (uint32_t)i->type) {
        return refuse(r, "it is of another type", err);
    }
    i->source_width = cursor_u32(&c);
    i->source_height = cursor_u32(&c);
    i->source_seconds = cursor_f64(&c);
    i->source_rate = cursor_u32(&c);
    i->source_channels = cursor_u32(&c);
    const uint64_t source_frames = cursor_u64(&c);
    i->source_frames = source_frames < SIZE_MAX ? (size_t)source_frames : SIZE_MAX;
    i->source_fps = cursor_f64(&c);
    r->n_frames = cursor_u64(&c);
    i->width = cursor_u32(&c);
    i->height = cursor_u32(&c);
    const uint32_t block = cursor_u32(&c);
    r->n_notes = cursor_u32(&c);
    r->n_samples = cursor_u64(&c);
    memcpy(m->format, cursor_bytes(&c, sizeof(m->format)), sizeof(m->format));
    require(!c.has_failed && cursor_left(&c) == 0);
    m->format[sizeof(m->format) - 1] = '\0';
    make_plain(m->format, strlen(m->format));
    if (!is_amount(i->source_seconds) || !is_amount(i->source_fps)) {
        return refuse(r, "its times are no numbers", err);
    }
    return block == i->block ? 0 : refuse(r, "its blocks have another size", err);
}

// Sizes that the source and its limits allow: nothing is allocated before.
static int check_pictures(struct reading *r, struct carat_error *err)
{
    const struct carat_media_info *i = &r->media->info;
    const bool is_picture = i->type == CARAT_MEDIA_IMAGE;
    if (i->type == CARAT_MEDIA_AUDIO) {
        return r->n_frames == 0 && i->width == 0 && i->height == 0
                   ? 0
                   : refuse(r, "a sound with pictures", err);
    }
    if (r->n_frames < 1 || r->n_frames > (is_picture ? 1 : r->budget.limits.frames_max)) {
        return refuse(r, "another number of pictures was asked for", err);
    }
    const uint64_t asked = r->source->image_tokens;
    const uint64_t most = asked > 0 ? asked : is_picture ? TOKENS_MAX : TOKENS_FRAME;
    const uint64_t across = i->width / i->block;
    const uint64_t down = i->height / i->block;
    if (i->width % i->block != 0 || i->height % i->block != 0 || across == 0 || down == 0 ||
        across > most / down) {
        return refuse(r, "its pictures have another size than was asked for", err);
    }
    return 0;
}

static int check_sound(struct reading *r, struct carat_error *err)
{
    const bool may_have = r->media->info.type == CARAT_MEDIA_AUDIO ||
                          (r->media->info.type == CARAT_MEDIA_VIDEO && !r->source->drops_sound);
    if (r->n_samples == 0) {
        return 0;
    }
    if (!may_have || r->n_samples > SIZE_MAX / sizeof(float)) {
        return refuse(r, "sound that was not asked for", err);
    }
    // The last sample may stand anywhere before the end.
    return media_check_seconds(&r->budget, (double)(r->n_samples - 1) / MEDIA_RATE, err);
}

static int read_notes(struct reading *r, struct carat_error *err)
{
    if (r->n_notes > MEDIA_NOTES_MAX) {
        return refuse(r, "too many notes", err);
    }
    for (size_t i = 0; i < r->n_notes; i++) {
        char text[MEDIA_NOTE_SIZE];
        uint32_t size;
        int rc = r->get(r->user, &size, sizeof(size), err);
        if (rc) {
            return rc;
        }
        if (size >= sizeof(text)) {
            return refuse(r, "a note that is too long", err);
        }
        rc = size > 0 ? r->get(r->user, text, size, err) : 0;
        if (rc) {
            return rc;
        }
        make_plain(text, size);
        text[size] = '\0';
        rc = media_note(r->media, err, "%s", text);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

static int read_frame(struct reading *r, size_t i, struct carat_error *err)
{
    struct carat_media *m = r->media;
    struct media_frame *frame = &m->frames[i];
    double seconds;
    const size_t size = (size_t)m->info.width * m->info.height * 3;
    int rc = r->get(r->user, &seconds, sizeof(seconds), err);
    if (rc) {
        return rc;
    }
    if (!is_amount(seconds)) {
        return refuse(r, "the times of its pictures are no numbers", err);
    }
    rc = media_budget_take(&r->budget, size, err);
    if (rc) {
        return rc;
    }
    frame->seconds = seconds;
    frame->pixels = mem_new(size, err);
    return frame->pixels ? r->get(r->user, frame->pixels, size, err) : CARAT_E_MEMORY;
}

static int read_frames(struct reading *r, struct carat_error *err)
{
    struct making mk = {.source = r->source, .budget = &r->budget, .media = r->media};
    int rc = r->n_frames > 0 ? picture_new_frames(&mk, (size_t)r->n_frames, err) : 0;
    for (size_t i = 0; i < r->n_frames && !rc; i++) {
        rc = read_frame(r, i, err);
    }
    return rc;
}

static int read_samples(struct reading *r, struct carat_error *err)
{
    struct carat_media *m = r->media;
    const size_t n = (size_t)r->n_samples;
    if (n == 0) {
        return 0;
    }
    int rc = media_budget_take(&r->budget, (uint64_t)n * sizeof(float), err);
    if (rc) {
        return rc;
    }
    m->samples = mem_new_array(n, sizeof(float), err);
    if (!m->samples) {
        return CARAT_E_MEMORY;
    }
    for (size_t at = 0; at < n && !rc; at += PIECE_SAMPLES) {
        const size_t piece = n - at < PIECE_SAMPLES ? n - at : PIECE_SAMPLES;
        rc = r->get(r->user, m->samples + at, piece * sizeof(float), err);
        for (size_t i = 0; i < piece && !rc; i++) {
            if (!isfinite(m->samples[at + i])) {
                rc = refuse(r, "samples that are no numbers", err);
            }
        }
    }
    m->info.n_samples = n;
    m->sample_capacity = n;
    return rc;
}

static int read_all(struct reading *r, struct carat_error *err)
{
    uint8_t head[HEAD_SIZE];
    int rc = r->get(r->user, head, sizeof(head), err);
    rc = rc ? rc : parse_head(r, head, err);
    rc = rc ? rc : check_pictures(r, err);
    rc = rc ? rc : check_sound(r, err);
    rc = rc ? rc : read_notes(r, err);
    rc = rc ? rc : read_frames(r, err);
    return rc ? rc : read_samples(r, err);
}

int carat_media_read(struct carat_media **out, const struct carat_media_source *source,
                     carat_media_get get, void *user, struct carat_error *err)
{
    int rc = media_check_options(source, err);
    if (rc) {
        return rc;
    }
    struct reading r = {.source = source, .get = get, .user = user};
    media_budget_init(&r.budget, source, media_name_of(source));
    r.media = mem_new(sizeof(*r.media), err);
    if (!r.media) {
        return CARAT_E_MEMORY;
    }
    r.media->info.type = source->type;
    r.media->info.format = r.media->format;
    r.media->info.block = size_block(source->block);
    rc = listen_check_options(r.media, source, err);
    rc = rc ? rc : read_all(&r, err);
    if (!rc) {
        media_describe(r.media);
        *out = r.media;
        r.media = NULL;
    }
    carat_media_free(r.media);
    return rc;
}
