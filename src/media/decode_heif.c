// SPDX-License-Identifier: Apache-2.0
// HEIC and AVIF pictures by libheif, which also turns and mirrors them as the file says.
#include <libheif/heif.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/decode.h"

#define SIDE_MAX 65535
// What decoder and conversion hold at once, beside our own copy: planes twice, RGB.
#define BYTES_PER_PIXEL 12

static enum heif_compression_format compression_of(enum media_kind kind)
{
    return kind == KIND_AVIF ? heif_compression_AV1 : heif_compression_HEVC;
}

bool decode_heif_has(enum media_kind kind)
{
    // Some versions look for their plugins when a context is made, and not when asked for them.
    heif_context_free(heif_context_alloc());
    return (kind == KIND_HEIC || kind == KIND_AVIF) &&
           heif_have_decoder_for_format(compression_of(kind));
}

struct heif {
    struct heif_context *context;
    struct heif_image_handle *handle;
    struct heif_image *image;
    struct heif_decoding_options *options;
};

static int heif_fail(struct carat_error *err, const struct media_input *in, struct heif_error e)
{
    enum carat_status status = CARAT_E_FORMAT;
    if (e.subcode == heif_suberror_Security_limit_exceeded) {
        status = CARAT_E_FULL;
    } else if (e.code == heif_error_Memory_allocation_error) {
        status = CARAT_E_MEMORY;
    } else if (e.code == heif_error_Unsupported_filetype ||
               e.code == heif_error_Unsupported_feature) {
        status = CARAT_E_UNSUPPORTED;
    }
    return fail(err, status, "%s: libheif: %s", in->name,
                e.message ? e.message : "no reason given");
}

static int open_heif(struct heif *h, const struct media_input *in, struct media_budget *b,
                     struct carat_error *err)
{
    h->context = heif_context_alloc();
    h->options = heif_decoding_options_alloc();
    if (!h->context || !h->options) {
        return fail(err, CARAT_E_MEMORY, "%s: out of memory", in->name);
    }
    heif_context_set_maximum_image_size_limit(h->context, SIDE_MAX);
    heif_context_set_max_decoding_threads(h->context, 0);
    h->options->convert_hdr_to_8bit = 1;
    struct heif_error e =
        heif_context_read_from_memory_without_copy(h->context, in->data, in->size, NULL);
    if (e.code == heif_error_Ok) {
        e = heif_context_get_primary_image_handle(h->context, &h->handle);
    }
    if (e.code != heif_error_Ok) {
        return heif_fail(err, in, e);
    }
    int width = heif_image_handle_get_width(h->handle);
    int height = heif_image_handle_get_height(h->handle);
    return media_check_size(b, width > 0 ? (uint64_t)width : 0, height > 0 ? (uint64_t)height : 0,
                            err);
}

static void copy_rows(struct media_picture *out, const uint8_t *in, size_t stride, bool has_alpha)
{
    for (size_t y = 0; y < out->height; y++) {
        const uint8_t *row = in + y * stride;
        uint8_t *to = out->pixels + y * out->width * 3;
        if (!has_alpha) {
            memcpy(to, row, (size_t)out->width * 3);
            continue;
        }
        for (size_t x = 0; x < out->width; x++, row += 4, to += 3) {
            for (size_t i = 0; i < 3; i++) {
                to[i] = colour_on_white(row[i], row[3]);
            }
        }
    }
}

static int decode_rgb(struct media_picture *out, struct heif *h, const struct media_input *in,
                      bool has_alpha, struct media_budget *b, struct carat_error *err)
{
    struct heif_error e = heif_decode_image(
        h->handle, &h->image, heif_colorspace_RGB,
        has_alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB, h->options);
    if (e.code != heif_error_Ok) {
        return heif_fail(err, in, e);
    }
    int width = heif_image_get_width(h->image, heif_channel_interleaved);
    int height = heif_image_get_height(h->image, heif_channel_interleaved);
    int stride = 0;
    const uint8_t *rows =
        heif_image_get_plane_readonly(h->image, heif_channel_interleaved, &stride);
    if (!rows || width <= 0 || height <= 0 || stride < width * (has_alpha ? 4 : 3)) {
        return fail(err, CARAT_E_FORMAT, "%s: libheif gave no picture", in->name);
    }
    int rc = picture_new(out, (uint64_t)width, (uint64_t)height, b, err);
    if (rc == 0) {
        copy_rows(out, rows, (size_t)stride, has_alpha);
    }
    return rc;
}

int decode_heif(struct media_picture *out, const struct media_input *in, bool blends_alpha,
                struct media_budget *b, struct carat_error *err)
{
    struct heif h = {0};
    enum media_kind kind = kind_of(in);
    uint64_t bytes = 0;
    if (!decode_heif_has(kind)) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: libheif has no decoder for %s here", in->name,
                    kind_name(kind));
    }
    int rc = container_check(kind, in, b, err);
    if (rc == 0) {
        rc = open_heif(&h, in, b, err);
    }
    if (rc == 0) {
        bytes = (uint64_t)heif_image_handle_get_width(h.handle) *
                (uint64_t)heif_image_handle_get_height(h.handle) * BYTES_PER_PIXEL;
        rc = media_budget_take(b, bytes, err);
        bytes = rc ? 0 : bytes;
    }
    if (rc == 0) {
        bool has_alpha = blends_alpha && heif_image_handle_has_alpha_channel(h.handle);
        rc = decode_rgb(out, &h, in, has_alpha, b, err);
    }
    media_budget_give(b, bytes);
    heif_image_release(h.image);
    heif_image_handle_release(h.handle);
    heif_decoding_options_free(h.options);
    heif_context_free(h.context);
    return rc;
}
