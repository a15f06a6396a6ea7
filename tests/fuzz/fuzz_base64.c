// SPDX-License-Identifier: Apache-2.0
// Base64: what is encoded here comes back, in one piece, with white space and without padding; any
// text is decoded to no more than its letters hold, or refused.
#include <stdint.h>
#include <string.h>

#include "base/base64.h"
#include "base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(struct buf *out, const uint8_t *data, size_t size, bool is_loose)
{
    const char *letters = is_loose
                              ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                              : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t bits = (uint32_t)data[i] << 16;
        bits |= i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0;
        bits |= i + 2 < size ? data[i + 2] : 0;
        size_t n = size - i >= 3 ? 4 : size - i + 1;
        for (size_t j = 0; j < 4; j++) {
            if (j < n) {
                buf_addc(out, letters[bits >> (18 - 6 * j) & 63]);
            } else if (!is_loose) {
                buf_addc(out, '=');
            }
        }
        buf_adds(out, is_loose && i % 57 == 0 ? " \r\n\t" : "");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct carat_error err;
    struct buf out = {.max = size + 1};
    int rc = base64_decode(&out, slice_make((const char *)data, size), &err);
    require(rc ? err.status == rc : out.size <= size / 4 * 3 + 2);
    buf_release(&out);
    for (int is_loose = 0; is_loose < 2; is_loose++) {
        struct buf text = {.max = 4 * size + 8}, back = {.max = size + 1};
        encode(&text, data, size, is_loose);
        rc = base64_decode(&back, slice_make(buf_text(&text), text.size), &err);
        require(rc == 0 && back.size == size && memcmp(buf_text(&back), data, size) == 0);
        buf_release(&text);
        buf_release(&back);
    }
    return 0;
}
