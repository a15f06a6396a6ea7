// SPDX-License-Identifier: Apache-2.0
// What a file that is not what it should be looks like, by its first bytes: for messages only.
#ifndef CARAT_FORMATS_SNIFF_H
#define CARAT_FORMATS_SNIFF_H

#include <stddef.h>

// "a zip archive, as PyTorch checkpoints are", ...; "something else" when nothing is recognised.
// Static.
const char *sniff_kind(const void *data, size_t size);

#endif
