// SPDX-License-Identifier: Apache-2.0
// JPEG by libjpeg: what the reference decodes with, so that every level is the same. header.c has
// read the file before: sizes and scans are within the limits, and texts, profiles and thumbnails
// are left out of the bytes that come here.
#include <setjmp.h>
#include <stdio.h> // jpeglib.h needs it and does not say so

#include <jerror.h>
#include <jpeglib.h>

#include "base/error.h"
#include "base/mem.h"
#include "media/decode.h"

// The library leaves by a jump; what it was doing is in here.
struct jpeg_reader {
    struct jpeg_decompress_struct lib; // first: the library's callbacks get this address
    struct jpeg_error_mgr messages;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    struct media_budget *budget;
    struct carat_error *err;
    int status;
    uint8_t *row; // [width][4] of a print
};

static struct jpeg_reader *reader_of(j_common_ptr lib)
{
    return (struct jpeg_reader *)(void *)lib;
}

static void leave(struct jpeg_reader *r, int status)
{
    r->status = status;
    longjmp(r->back, 1);
}

static void on_error(j_common_ptr lib)
{
    struct jpeg_reader *r = reader_of(lib);
    char text[JMSG_LENGTH_MAX];
    lib->err->format_message(lib, text);
    leave(r,
          fail(r->err, lib->err->msg_code == JERR_OUT_OF_MEMORY ? CARAT_E_MEMORY : CARAT_E_FORMAT,
               "%s: the JPEG cannot be decoded: %.200s", r->budget->name, text));
}

// Warnings (level -1) say that data are damaged: half a picture is no picture.
static void on_message(j_common_ptr lib, int level)
{
    if (level < 0) {
        on_error(lib);
    }
}

static void on_progress(j_common_ptr lib)
{
    struct jpeg_reader *r = reader_of(lib);
    int rc = media_budget_tick(r->budget, 0, 0, r->err);
    if (rc) {
        leave(r, rc);
    }
}

static void reader_begin(struct jpeg_reader *r, struct media_budget *b, struct carat_error *err)
{
    *r = (struct jpeg_reader){.budget = b, .err = err};
    r->lib.err = jpeg_std_error(&r->messages);
    r->messages.error_exit = on_error;
    r->messages.emit_message = on_message;
    r->progress.progress_monitor = on_progress;
}

// Prints are stored inverted, as Adobe's programs do: 255 is no ink.
static void print_to_rgb(uint8_t *out, const uint8_t *row, uint32_t width)
{
    for (uint32_t x = 0; x < width; x++) {
        for (uint32_t i = 0; i < 3; i++) {
            out[3 * x + i] = colour_of_ink(255u - row[4 * x + i], row[4 * x + 3]);
        }
    }
}

static int read_rows(struct jpeg_reader *r, struct media_picture *out)
{
    bool is_print = r->lib.out_color_space == JCS_CMYK;
    while (r->lib.output_scanline < r->lib.output_height) {
        uint8_t *to = out->pixels + (size_t)r->lib.output_scanline * out->width * 3;
        JSAMPROW row = is_print ? r->row : to;
        jpeg_read_scanlines(&r->lib, &row, 1);
        if (is_print) {
            print_to_rgb(to, r->row, out->width);
        }
    }
    jpeg_finish_decompress(&r->lib);
    return 0;
}

// Everything that may jump.
static int read_all(struct jpeg_reader *r, struct media_picture *out,
                    const struct picture_header *h)
{
    if (setjmp(r->back)) {
        return r->status;
    }
    jpeg_create_decompress(&r->lib);
    r->lib.progress = &r->progress;
    jpeg_mem_src(&r->lib, (const unsigned char *)h->bytes.data, (unsigned long)h->bytes.size);
    jpeg_read_header(&r->lib, TRUE);
    r->lib.out_color_space = r->lib.num_components == 4 ? JCS_CMYK : JCS_RGB;
    if (r->lib.image_width != h->width || r->lib.image_height != h->height) {
        return fail(r->err, CARAT_E_FORMAT, "%s: the header says %u x %u, the picture has %u x %u",
                    r->budget->name, h->width, h->height, r->lib.image_width, r->lib.image_height);
    }
    jpeg_start_decompress(&r->lib);
    int rc = picture_new(out, h->width, h->height, r->budget, r->err);
    if (rc == 0 && r->lib.num_components == 4) {
        r->row = mem_new_array(h->width, 4, r->err);
        rc = r->row ? 0 : CARAT_E_MEMORY;
    }
    return rc ? rc : read_rows(r, out);
}

bool decode_jpeg_has(void)
{
    return true;
}

int decode_jpeg(struct media_picture *out, const struct picture_header *h, struct media_budget *b,
                struct carat_error *err)
{
    struct jpeg_reader r;
    reader_begin(&r, b, err);
    int rc = read_all(&r, out, h);
    jpeg_destroy_decompress(&r.lib);
    mem_free(r.row);
    return rc;
}
