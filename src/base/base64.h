// SPDX-License-Identifier: Apache-2.0
// Base64 (RFC 4648), as files inside JSON come.
#ifndef CARAT_BASE_BASE64_H
#define CARAT_BASE_BASE64_H

#include "base/str.h"

// Appends the bytes that the text stands for. Both alphabets ("+/" and "-_") are read, padding may
// be missing, white space is passed over; anything else is CARAT_E_FORMAT, with its place.
int base64_decode(struct buf *out, struct slice text, struct carat_error *err);

#endif
