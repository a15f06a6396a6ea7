// SPDX-License-Identifier: Apache-2.0
// Makes WAV files, right ones and wrong ones.
#ifndef CARAT_TESTS_WAV_MAKER_H
#define CARAT_TESTS_WAV_MAKER_H

#include "base/str.h"

struct wav_form {
    const char *riff; // "RIFF", "RF64", "BW64"
    uint16_t tag;
    uint16_t n_channels;
    uint32_t rate;
    uint16_t bits;
    uint16_t block;    // 0: what follows from the others
    bool is_extended;  // WAVE_FORMAT_EXTENSIBLE around tag
    uint32_t list;     // bytes of a LIST chunk before the data; 0: none
    bool has_own_size; // data_size instead of the true one in the data chunk
    uint32_t data_size;
    uint32_t riff_size;  // 0: the true one
    uint64_t long_size;  // data size in a ds64 chunk; 0: none
    const char *trailer; // a chunk after the data, whole
    size_t trailer_size;
};

void wav_make(struct buf *out, const struct wav_form *form, const void *data, size_t size);
void wav_put(struct buf *out, uint64_t value, size_t bytes); // little-endian

#endif
