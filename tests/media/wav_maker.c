// SPDX-License-Identifier: Apache-2.0
#include "wav_maker.h"

void wav_put(struct buf *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        buf_addc(out, i < 8 ? (char)(unsigned char)(value >> (8 * i)) : 0);
    }
}

static void put_format(struct buf *out, const struct wav_form *form)
{
    const uint16_t block =
        form->block ? form->block : (uint16_t)(form->n_channels * form->bits / 8);
    buf_adds(out, "fmt ");
    wav_put(out, form->is_extended ? 40 : 16, 4);
    wav_put(out, form->is_extended ? 0xFFFE : form->tag, 2);
    wav_put(out, form->n_channels, 2);
    wav_put(out, form->rate, 4);
    wav_put(out, (uint64_t)form->rate * block, 4);
    wav_put(out, block, 2);
    wav_put(out, form->bits, 2);
    if (form->is_extended) {
        wav_put(out, 22, 2);
        wav_put(out, form->bits, 2);
        wav_put(out, 0, 4);
        wav_put(out, form->tag, 2);
        buf_add(out, "\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71", 14);
    }
}

void wav_make(struct buf *out, const struct wav_form *form, const void *data, size_t size)
{
    struct buf body = {0};
    buf_adds(&body, "WAVE");
    if (form->long_size) {
        buf_adds(&body, "ds64");
        wav_put(&body, 28, 4);
        wav_put(&body, 0, 8);
        wav_put(&body, form->long_size, 8);
        wav_put(&body, 0, 12);
    }
    put_format(&body, form);
    if (form->list > 0) {
        buf_adds(&body, "LIST");
        wav_put(&body, form->list, 4);
        for (uint32_t i = 0; i < form->list + form->list % 2; i++) {
            buf_adds(&body, "d"); // looks like the beginning of "data"
        }
    }
    buf_adds(&body, "data");
    wav_put(&body, form->has_own_size ? form->data_size : size, 4);
    buf_add(&body, data, size);
    if (size % 2) {
        buf_addc(&body, 0);
    }
    buf_add(&body, form->trailer, form->trailer_size);
    buf_adds(out, form->riff ? form->riff : "RIFF");
    wav_put(out, form->riff_size ? form->riff_size : body.size, 4);
    buf_add(out, body.data, body.size);
    buf_release(&body);
}
