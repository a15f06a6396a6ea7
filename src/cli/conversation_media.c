// SPDX-License-Identifier: Apache-2.0
// The media of a conversation: as they stand in its JSON, and while they live.
#include "cli/conversation.h"

#include "base/error.h"
#include "base/os.h"

#include <string.h>

static int keep_attachment(struct conversation *c, const struct attachment *a,
                           struct carat_error *err)
{
    if (c->n_attachments == c->attachments_capacity) {
        size_t capacity = c->attachments_capacity ? c->attachments_capacity * 2 : 8;
        size_t size = 0;
        struct attachment *grown = NULL;
        if (size_mul(&size, capacity, sizeof(*grown))) {
            grown = mem_resize(c->attachments, size, err);
        }
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        c->attachments = grown;
        c->attachments_capacity = capacity;
    }
    c->attachments[c->n_attachments++] = *a;
    return 0;
}

static enum carat_part_type part_type_of(enum carat_media_type type)
{
    return type == CARAT_MEDIA_IMAGE   ? CARAT_PART_IMAGE
           : type == CARAT_MEDIA_AUDIO ? CARAT_PART_AUDIO
                                       : CARAT_PART_VIDEO;
}

int conversation_add_media(struct conversation *c, const char *role, struct attachment *media,
                           size_t n, const char *text, size_t text_size, size_t text_at,
                           struct carat_error *err)
{
    size_t i = 0, n_parts = 0, size = 0;
    struct carat_part *parts = NULL;
    char *copy = conversation_copy(c, text_size ? text : "", text_size, err);
    char *role_copy = conversation_copy(c, role, strlen(role), err);
    int rc = copy && role_copy ? 0 : CARAT_E_MEMORY;
    if (rc == 0 && size_mul(&size, n + 1, sizeof(*parts))) {
        parts = arena_take(&c->arena, size, err);
    }
    rc = parts ? rc : CARAT_E_MEMORY;
    for (; rc == 0 && i <= n; i++) {
        if (i == text_at && text_size) {
            parts[n_parts++] =
                (struct carat_part){.type = CARAT_PART_TEXT, .text = copy, .text_size = text_size};
        }
        if (i == n) {
            break;
        }
        struct attachment a = media[i];
        parts[n_parts] = (struct carat_part){.type = part_type_of(a.type), .media = a.media};
        a.part = &parts[n_parts++];
        a.source = conversation_copy(c, a.source, strlen(a.source), err);
        rc = a.source ? keep_attachment(c, &a, err) : CARAT_E_MEMORY;
        if (rc) {
            break;
        }
    }
    for (; rc && i < n; i++) {
        attachment_close(&media[i]);
    }
    struct carat_message m = {
        .role = role_copy, .parts = parts, .n_parts = n_parts, .is_part_list = true};
    return rc ? rc : conversation_add(c, &m, err);
}

int conversation_open_media(struct conversation *c, const struct carat_engine *engine,
                            struct progress *progress, struct carat_error *err)
{
    for (size_t i = 0; i < c->n_attachments; i++) {
        struct attachment *a = &c->attachments[i];
        if (!a->media && !a->is_listened_to) {
            int rc = attachment_open(a, engine, progress, err);
            if (rc) {
                return rc;
            }
            a->part->media = a->media;
        }
    }
    return 0;
}

static bool has_part(const struct conversation *c, const struct carat_part *part)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct carat_message *m = &c->messages[i];
        if (m->n_parts && part >= m->parts && part < m->parts + m->n_parts) {
            return true;
        }
    }
    return false;
}

void conversation_prune(struct conversation *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_attachments; i++) {
        if (has_part(c, c->attachments[i].part)) {
            c->attachments[n++] = c->attachments[i];
        } else {
            attachment_close(&c->attachments[i]);
        }
    }
    c->n_attachments = n;
}

void conversation_free_media(struct conversation *c)
{
    for (size_t i = 0; i < c->n_attachments; i++) {
        attachment_close(&c->attachments[i]);
    }
    mem_free(c->attachments);
    c->attachments = NULL;
    c->n_attachments = c->attachments_capacity = 0;
}

// ------------------------------------------------------------------------------------ from JSON

// Where a part says that its medium is: in a string, in an object with "url", or with "data".
static const struct json_value *find_source(const struct json_value *object)
{
    static const char *const keys[] = {"path",      "url",       "image",     "audio",      "video",
                                       "image_url", "audio_url", "video_url", "input_audio"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const struct json_value *value = json_get(object, keys[i]);
        if (json_kind(value) == JSON_STRING || json_kind(value) == JSON_OBJECT) {
            return value;
        }
    }
    return NULL;
}

static int add_path(struct conversation *c, struct slice source, struct buf *out,
                    struct carat_error *err)
{
    if (slice_starts(source, "http://") || slice_starts(source, "https://")) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%.*s: carat does not fetch from the network: load the file down and give its "
                    "path",
                    (int)(source.size > 200 ? 200 : source.size), source.data);
    }
    if (slice_starts(source, "file://")) {
        add_path_of_url(out, source);
    } else if (slice_starts(source, "data:")) {
        buf_add_slice(out, source);
    } else {
        // A file called '-' is not standard input.
        const char *folder = slice_is(source, "-") && !*c->media_folder ? "./" : c->media_folder;
        buf_adds(out, source.size && source.data[0] == '/' ? "" : folder);
        buf_add_slice(out, source);
    }
    return 0;
}

static int read_source(struct conversation *c, const struct json_value *object, struct buf *out,
                       struct carat_error *err)
{
    const struct json_value *source = find_source(object);
    if (json_kind(source) == JSON_OBJECT) {
        const struct json_value *data = json_get(source, "data");
        if (json_kind(data) == JSON_STRING) {
            buf_adds(out, "data:;base64,");
            buf_add_slice(out, json_string(data));
            return buf_status(out, err);
        }
        source = json_get(source, "url");
    }
    if (json_kind(source) != JSON_STRING || json_string(source).size == 0) {
        return fail(err, CARAT_E_FORMAT, "expected its file as path, url or data, found %s",
                    json_kind_name(json_kind(source)));
    }
    int rc = add_path(c, json_string(source), out, err);
    return rc ? rc : buf_status(out, err);
}

// "tokens", "frames", "fps" and "sound" stand beside the path, as the options of the same purpose.
static int read_how(struct media_how *how, const struct json_value *object, struct carat_error *err)
{
    const struct json_value *tokens = json_get(object, "tokens"),
                            *frames = json_get(object, "frames"), *fps = json_get(object, "fps"),
                            *sound = json_get(object, "sound");
    uint64_t n = 0;
    if (tokens) {
        if (!json_u64(tokens, &n) || n > UINT32_MAX) {
            return fail(err, CARAT_E_FORMAT, "tokens: expected 70, 140, 280, 560 or 1120");
        }
        how->image_tokens = (uint32_t)n;
    }
    if (frames) {
        if (!json_u64(frames, &n) || n == 0 || n > SIZE_MAX) {
            return fail(err, CARAT_E_FORMAT, "frames: expected a number of frames");
        }
        how->n_frames = (size_t)n;
        how->frames_per_second = 0;
    }
    if (fps) {
        if (json_kind(fps) != JSON_NUMBER || !(json_double(fps) > 0)) {
            return fail(err, CARAT_E_FORMAT, "fps: expected a number above 0");
        }
        how->frames_per_second = json_double(fps);
        how->n_frames = 0;
    }
    how->drops_sound = sound ? !json_bool(sound) : how->drops_sound;
    return 0;
}

int conversation_read_medium(struct conversation *c, const struct json_value *object,
                             struct carat_part *part, struct carat_error *err)
{
    struct attachment a = {
        .type = part->type == CARAT_PART_IMAGE   ? CARAT_MEDIA_IMAGE
                : part->type == CARAT_PART_AUDIO ? CARAT_MEDIA_AUDIO
                                                 : CARAT_MEDIA_VIDEO,
        .how = c->media_how,
        .part = part,
    };
    struct buf source = {.max = (size_t)1 << 30};
    int rc = read_source(c, object, &source, err);
    rc = rc ? rc : read_how(&a.how, object, err);
    if (rc == 0) {
        a.source = conversation_copy(c, buf_text(&source), source.size, err);
        rc = a.source ? attachment_check(&a, err) : CARAT_E_MEMORY;
    }
    buf_release(&source);
    rc = rc ? rc : keep_attachment(c, &a, err);
    if (rc) {
        static const char *const names[] = {"text", "json", "image", "audio", "video"};
        fail_prefix(err, names[part->type]);
    }
    return rc;
}

void conversation_write_medium(const struct conversation *c, const struct carat_part *part,
                               struct buf *out)
{
    const struct attachment *a = NULL;
    for (size_t i = 0; i < c->n_attachments; i++) {
        a = c->attachments[i].part == part ? &c->attachments[i] : a;
    }
    if (!a) {
        return;
    }
    struct buf path = {.max = 1 << 16};
    bool is_data = strncmp(a->source, "data:", 5) == 0;
    const char *source = !is_data && os_full_path(&path, a->source) ? path.data : a->source;
    buf_adds(out, is_data ? ",\"url\":" : ",\"path\":");
    buf_add_json(out, source, strlen(source));
    if (a->how.image_tokens) {
        buf_addf(out, ",\"tokens\":%u", a->how.image_tokens);
    }
    if (a->type == CARAT_MEDIA_VIDEO && a->how.n_frames) {
        buf_addf(out, ",\"frames\":%zu", a->how.n_frames);
    } else if (a->type == CARAT_MEDIA_VIDEO && a->how.frames_per_second > 0) {
        buf_addf(out, ",\"fps\":%.17g", a->how.frames_per_second);
    }
    buf_adds(out, a->type == CARAT_MEDIA_VIDEO && a->how.drops_sound ? ",\"sound\":false" : "");
    buf_release(&path);
}
