// SPDX-License-Identifier: Apache-2.0
// Finds stop strings in a stream of text that comes in pieces, holding back only what may still
// become one.
#ifndef CARAT_CHAT_STOPS_H
#define CARAT_CHAT_STOPS_H

#include "base/str.h"

struct stop_string;
struct stops {
    struct stop_string *strings;
    size_t n;
    struct buf held; // text that may be the beginning of a stop string
};
// Copies the strings. Refused: an empty one, one that is not UTF-8, too many, too long.
int stops_init(struct stops *s, const char *const *strings, size_t n, size_t n_max, size_t size_max,
               struct carat_error *err);
// Takes one whole character; what is text for sure is appended to out. Returns the index of the
// stop string that ends with this character (the longest, if several do), or SIZE_MAX.
size_t stops_feed(struct stops *s, struct slice character, struct buf *out);
// The text ends here or is interrupted: what was held back is text.
void stops_flush(struct stops *s, struct buf *out);
struct slice stops_text(const struct stops *s, size_t index);
void stops_release(struct stops *s);

#endif
