// SPDX-License-Identifier: Apache-2.0
// What the readers behind the libraries share among themselves, none of which needs a library's
// header: what a file is, what its headers say of its size and orientation. The rest of the
// room knows media.h only.
#ifndef CARAT_MEDIA_DECODE_H
#define CARAT_MEDIA_DECODE_H

#include "media/media.h"

static inline uint32_t big_u16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}
static inline uint32_t big_u32(const uint8_t *p)
{
    return big_u16(p) << 16 | big_u16(p + 2);
}
static inline uint64_t big_u64(const uint8_t *p)
{
    return (uint64_t)big_u32(p) << 32 | big_u32(p + 4);
}
static inline uint32_t little_u16(const uint8_t *p)
{
    return (uint32_t)p[1] << 8 | p[0];
}
static inline uint32_t little_u32(const uint8_t *p)
{
    return little_u16(p + 2) << 16 | little_u16(p);
}

// ---------------------------------------------------------------------------------- kind.c

// What the first bytes say a file is: no names, no guessing by content further in.
enum media_kind {
    KIND_UNKNOWN,
    KIND_JPEG,
    KIND_PNG,
    KIND_WEBP,
    KIND_GIF,
    KIND_BMP,
    KIND_TIFF,
    KIND_HEIC,
    KIND_AVIF,
    KIND_WAV,
    KIND_MP3,
    KIND_AAC, // ADTS
    KIND_FLAC,
    KIND_OGG,
    KIND_MP4, // and MOV, M4A, 3GP
    KIND_MATROSKA,
    KIND_AVI,
};
enum media_kind kind_of(const struct media_input *in);
const char *kind_name(enum media_kind kind);        // "jpeg", "mov,mp4", ...
size_t kind_tags_end(const struct media_input *in); // where the sound begins behind ID3v2 tags
bool kind_is_picture(enum media_kind kind);
// Is none of what is asked for: says what the file is, or what would be read.
int kind_refuse(const struct media_input *in, const char *wanted, struct carat_error *err);

// ------------------------------------------------------------------------- header_*.c

#define ORIENTATION_NORMAL 1 // as in EXIF, 1..8
// Every scan goes over the whole picture, and takes a few bytes if it adds nothing.
#define JPEG_SCANS_MAX       100
#define JPEG_SCAN_PIXELS_MAX ((uint64_t)1 << 32) // scans * pixels

// What a picture's headers say; found without decoding. The decoder gets a copy of the file with
// nothing but what the picture needs: texts and profiles may be bombs of their own, and versions of
// the libraries differ in what they make of them.
struct picture_header {
    uint32_t width; // as stored; of an animation the canvas
    uint32_t height;
    uint32_t left; // where the first picture lies on the canvas
    uint32_t top;
    unsigned orientation;   // 1..8
    uint64_t decoder_bytes; // that a decoder holds beside the picture itself
    struct buf bytes; // for the decoder, with PICTURE_PADDING zero bytes that bytes.size leaves out
};
#define PICTURE_PADDING 64
// Reads the headers; refuses what is over the limits, lies about its length or ends early.
int header_read(struct picture_header *out, enum media_kind kind, const struct media_input *in,
                struct media_budget *b, struct carat_error *err);
void header_release(struct picture_header *h); // takes zeroed memory

// By header_read: fill in all but the padding.
int header_jpeg(struct picture_header *out, const struct media_input *in, struct carat_error *err);
int header_webp(struct picture_header *out, const struct media_input *in, struct carat_error *err);
int header_tiff(struct picture_header *out, const struct media_input *in, struct carat_error *err);
int fail_cut(const struct media_input *in, const char *where, struct carat_error *err);

// Orientation (1..8) in a TIFF structure, as EXIF has it; 1 when there is none that makes sense.
unsigned exif_orientation(const uint8_t *data, size_t size);

// ---------------------------------------------------------------------------- container.c

#define TRACKS_MAX 64

// The frame of a sound or film file: lengths that lead past the end (it was cut off), more than
// TRACKS_MAX tracks, durations over the limit. Formats without such a frame pass.
int iso_check(const struct media_input *in, struct media_budget *b, struct carat_error *err);
int container_check(enum media_kind kind, const struct media_input *in, struct media_budget *b,
                    struct carat_error *err);

// ------------------------------------------------------------------------------- colour.c

// How chroma planes are brought to the size of the luma plane.
enum chroma_rule {
    CHROMA_WEBP, // libwebp's 9-3-3-1, centred
    CHROMA_FILM, // repeated, as the reference's films were converted
};
struct colour_planes {
    const uint8_t *y;
    const uint8_t *u;
    const uint8_t *v;
    ptrdiff_t y_stride;
    ptrdiff_t u_stride;
    ptrdiff_t v_stride;
    unsigned log2_x; // of the subsampling of u and v: 0..2
    unsigned log2_y; // 0..1
    uint32_t width;
    uint32_t height;
};
enum colour_matrix { MATRIX_BT601, MATRIX_BT709, MATRIX_BT2020 };
struct colour_rule {
    enum chroma_rule chroma;
    enum colour_matrix matrix;
    bool is_full_range;
};
// 8-bit planes to RGB [height][width][3].
int colour_to_rgb(uint8_t *out, const struct colour_planes *planes, struct colour_rule rule,
                  struct media_budget *b, struct carat_error *err);
// 16 bit to 8, rounded: as libpng's scale_16 does.
static inline uint8_t colour_16_to_8(uint32_t v)
{
    return (uint8_t)((v * 255 + 32895) >> 16);
}
// One channel on white, as Pillow's alpha_composite rounds it.
static inline uint8_t colour_on_white(uint32_t v, uint32_t alpha)
{
    uint32_t sum = (v * alpha + 255 * (255 - alpha)) * 128 + 0x4000;
    return (uint8_t)((((sum >> 8) + sum) >> 8) >> 7);
}
// One channel of a print, as Pillow's CMYK conversion rounds it: ink 255 is no light.
static inline uint8_t colour_of_ink(uint32_t ink, uint32_t light)
{
    uint32_t product = ink * light + 128;
    return (uint8_t)(light - (((product >> 8) + product) >> 8));
}
// Turns the picture as its EXIF orientation says.
int picture_orient(struct media_picture *p, unsigned orientation, struct media_budget *b,
                   struct carat_error *err);
// Takes the budget and the memory for width x height.
int picture_new(struct media_picture *out, uint64_t width, uint64_t height, struct media_budget *b,
                struct carat_error *err);

// ------------------------------------------- decode_heif.c, or decode_heif_none.c without libheif

bool decode_heif_has(enum media_kind kind); // KIND_HEIC, KIND_AVIF
int decode_heif(struct media_picture *out, const struct media_input *in, bool blends_alpha,
                struct media_budget *b, struct carat_error *err);

// ------------------------------------------- decode_jpeg.c, or decode_jpeg_none.c without libjpeg

bool decode_jpeg_has(void);
// From header_read's copy of the file; not turned yet.
int decode_jpeg(struct media_picture *out, const struct picture_header *h, struct media_budget *b,
                struct carat_error *err);

#endif
