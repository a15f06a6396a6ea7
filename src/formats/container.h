// SPDX-License-Identifier: Apache-2.0
// What the two containers share: what may be a name, and what a file that is neither looks like.
#ifndef CARAT_FORMATS_CONTAINER_H
#define CARAT_FORMATS_CONTAINER_H

#include "base/str.h"

// Names of tensors and keys appear in messages and listings, so they must be text: 1 to size_max
// bytes of UTF-8 without control characters.
bool container_is_name(struct slice name, size_t size_max);

// What a file is, by its first bytes, for messages: "a web page: the download went wrong", ...;
// "something else" when nothing is recognised. Static.
const char *container_sniff(const void *data, size_t size);

#endif
