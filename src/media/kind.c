// SPDX-License-Identifier: Apache-2.0
// Tells what a file is from its first bytes. Deciding this here means that a library only ever sees
// a file of the one format that it is asked to read.
#include "media/decode.h"

#include <string.h>

#include "base/error.h"

static bool has_at(const struct media_input *in, size_t at, const char *bytes, size_t n)
{
    return in->size >= at && in->size - at >= n && memcmp(in->data + at, bytes, n) == 0;
}

// Brands of an ISO base media file: the major one, else the first compatible one that is known.
static enum media_kind kind_of_brand(const uint8_t *brand)
{
    static const char heic[][5] = {"heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs"};
    if (memcmp(brand, "avif", 4) == 0 || memcmp(brand, "avis", 4) == 0) {
        return KIND_AVIF;
    }
    for (size_t i = 0; i < sizeof(heic) / sizeof(heic[0]); i++) {
        if (memcmp(brand, heic[i], 4) == 0) {
            return KIND_HEIC;
        }
    }
    return KIND_UNKNOWN;
}

static enum media_kind kind_of_iso(const struct media_input *in)
{
    const uint8_t *d = in->data;
    size_t size = (size_t)d[0] << 24 | (size_t)d[1] << 16 | (size_t)d[2] << 8 | d[3];
    if (size > in->size) {
        size = in->size;
    }
    bool is_image = has_at(in, 8, "mif1", 4) || has_at(in, 8, "msf1", 4);
    enum media_kind kind = kind_of_brand(d + 8);
    for (size_t at = 16; is_image && kind == KIND_UNKNOWN && at + 4 <= size; at += 4) {
        kind = kind_of_brand(d + at);
    }
    if (kind == KIND_UNKNOWN) {
        kind = is_image ? KIND_HEIC : KIND_MP4;
    }
    return kind;
}

// Old QuickTime files begin with any of these boxes.
static bool is_quicktime(const struct media_input *in)
{
    static const char boxes[][5] = {"moov", "mdat", "wide", "free", "skip", "pnot"};
    for (size_t i = 0; i < sizeof(boxes) / sizeof(boxes[0]); i++) {
        if (has_at(in, 4, boxes[i], 4)) {
            return true;
        }
    }
    return false;
}

// Where an ID3v2 tag ends that begins here; here, if there is none.
static size_t tag_end(const struct media_input *in, size_t at)
{
    if (!has_at(in, at, "ID3", 3) || in->size - at < 10) {
        return at;
    }
    const uint8_t *d = in->data + at;
    size_t size = (size_t)(d[6] & 127) << 21 | (size_t)(d[7] & 127) << 14 |
                  (size_t)(d[8] & 127) << 7 | (size_t)(d[9] & 127);
    return size > in->size - at - 10 ? in->size : at + 10 + size;
}

size_t kind_tags_end(const struct media_input *in)
{
    size_t at = 0;
    for (size_t next = tag_end(in, at); next != at; next = tag_end(in, at)) {
        at = next;
    }
    return at;
}

// An MPEG audio frame: 11 bits of sync, then a version, layer and bit rate that exist.
static enum media_kind kind_of_mpeg_audio(const struct media_input *in, size_t at)
{
    if (in->size < 4 || at > in->size - 4 || in->data[at] != 0xff) {
        return KIND_UNKNOWN;
    }
    unsigned b1 = in->data[at + 1];
    unsigned b2 = in->data[at + 2];
    if ((b1 & 0xf6) == 0xf0) {
        return KIND_AAC;
    }
    bool is_frame = (b1 & 0xe0) == 0xe0 && (b1 & 0x18) != 0x08 && (b1 & 0x06) != 0 &&
                    (b2 & 0xf0) != 0xf0 && (b2 & 0x0c) != 0x0c;
    return is_frame ? KIND_MP3 : KIND_UNKNOWN;
}

enum media_kind kind_of(const struct media_input *in)
{
    static const struct {
        const char *bytes;
        size_t n;
        enum media_kind kind;
    } starts[] = {
        {"\xff\xd8\xff", 3, KIND_JPEG},
        {"\x89PNG\r\n\x1a\n", 8, KIND_PNG},
        {"GIF87a", 6, KIND_GIF},
        {"GIF89a", 6, KIND_GIF},
        {"BM", 2, KIND_BMP},
        {"II*\0", 4, KIND_TIFF},
        {"MM\0*", 4, KIND_TIFF},
        {"fLaC", 4, KIND_FLAC},
        {"OggS", 4, KIND_OGG},
        {"\x1a\x45\xdf\xa3", 4, KIND_MATROSKA},
    };
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        if (has_at(in, 0, starts[i].bytes, starts[i].n)) {
            return starts[i].kind;
        }
    }
    if (has_at(in, 0, "RIFF", 4)) {
        return has_at(in, 8, "WEBP", 4)   ? KIND_WEBP
               : has_at(in, 8, "WAVE", 4) ? KIND_WAV
               : has_at(in, 8, "AVI ", 4) ? KIND_AVI
                                          : KIND_UNKNOWN;
    }
    if (has_at(in, 0, "RF64", 4) || has_at(in, 0, "BW64", 4)) {
        return KIND_WAV;
    }
    if (in->size >= 12 && has_at(in, 4, "ftyp", 4)) {
        return kind_of_iso(in);
    }
    if (is_quicktime(in)) {
        return KIND_MP4;
    }
    size_t at = kind_tags_end(in);
    if (at > 0 && has_at(in, at, "fLaC", 4)) {
        return KIND_FLAC;
    }
    enum media_kind kind = kind_of_mpeg_audio(in, at);
    return kind == KIND_UNKNOWN && at > 0 ? KIND_MP3 : kind;
}

const char *kind_name(enum media_kind kind)
{
    static const char *const names[] = {
        [KIND_UNKNOWN] = "unknown", [KIND_JPEG] = "jpeg",
        [KIND_PNG] = "png",         [KIND_WEBP] = "webp",
        [KIND_GIF] = "gif",         [KIND_BMP] = "bmp",
        [KIND_TIFF] = "tiff",       [KIND_HEIC] = "heic",
        [KIND_AVIF] = "avif",       [KIND_WAV] = "wav",
        [KIND_MP3] = "mp3",         [KIND_AAC] = "aac",
        [KIND_FLAC] = "flac",       [KIND_OGG] = "ogg",
        [KIND_MP4] = "mov,mp4",     [KIND_MATROSKA] = "matroska,webm",
        [KIND_AVI] = "avi",
    };
    return names[kind];
}

bool kind_is_picture(enum media_kind kind)
{
    return kind >= KIND_JPEG && kind <= KIND_AVIF;
}

int kind_refuse(const struct media_input *in, const char *wanted, struct carat_error *err)
{
    if (in->size == 0) {
        return fail(err, CARAT_E_FORMAT, "%s: the file is empty", in->name);
    }
    enum media_kind kind = kind_of(in);
    if (kind == KIND_UNKNOWN) {
        return fail(err, CARAT_E_FORMAT, "%s: the first bytes are of no known format; read are %s",
                    in->name, wanted);
    }
    return fail(err, CARAT_E_FORMAT, "%s: found %s; read are %s", in->name, kind_name(kind),
                wanted);
}
