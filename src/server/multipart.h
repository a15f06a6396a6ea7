// SPDX-License-Identifier: Apache-2.0
// multipart/form-data (RFC 7578, RFC 2046 section 5.1): the parts of a form, one after the other.
// Nothing is allocated; slices point into the body.
#ifndef CARAT_SERVER_MULTIPART_H
#define CARAT_SERVER_MULTIPART_H

#include "base/str.h"

#define MULTIPART_BOUNDARY_MAX 70 // bytes; RFC 2046
#define MULTIPART_PARTS_MAX    256
#define MULTIPART_HEADERS_MAX  16
#define MULTIPART_HEADER_MAX   4096 // bytes of all headers of a part
#define MULTIPART_NAME_MAX     255

struct multipart {
    struct slice body;
    char delimiter[MULTIPART_BOUNDARY_MAX + 5]; // "\r\n--" and the boundary
    size_t delimiter_size;
    size_t at; // behind the newest delimiter
    size_t n_parts;
    bool has_ended;
};
struct multipart_part {
    char name[MULTIPART_NAME_MAX + 1];
    char filename[MULTIPART_NAME_MAX + 1]; // "" when it has none; a longer one is cut
    struct slice content_type;             // empty when it has none
    struct slice data;
};

bool multipart_is(const char *content_type); // whether a request's Content-Type is a form
int multipart_begin(struct multipart *m, const char *content_type, struct slice body,
                    struct carat_error *err);
// 1: *out is the next part; 0: there are no more; negative: the form is not well made.
int multipart_next(struct multipart *m, struct multipart_part *out, struct carat_error *err);

#endif
