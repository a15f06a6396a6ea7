// SPDX-License-Identifier: Apache-2.0
// What a decoder answers. It may be anything: the file that it read may have taken it over.
#include "base/error.h"
#include "base/str.h"
#include "server/decoder_words.h"

#define SIGNS_MAX 20000 // of life: one a second in the longest time that decoding may take

static int refuse(const char *what, struct carat_error *err)
{
    return fail(err, CARAT_E_FORMAT, "the decoder's answer makes no sense: %s", what);
}

// What the child says was wrong with the file. The libraries quote what stands in it.
static int read_refusal(const struct decoder_hearing *h, const struct decoder_answer *a,
                        struct carat_error *why, struct carat_error *err)
{
    struct carat_error said = {.status = a->status};
    if (a->status >= 0 || a->status < CARAT_E_STOPPED || a->size == 0 ||
        a->size >= sizeof(said.text)) {
        return refuse("an error that is none", err);
    }
    int rc = h->get(h->user, said.text, a->size, err);
    if (rc) {
        return rc;
    }
    const bool is_utf8 = utf8_is_valid(said.text, a->size);
    for (size_t i = 0; i < a->size; i++) {
        const unsigned char c = (unsigned char)said.text[i];
        if (c < ' ' || c == 0x7f || (c > 0x7f && !is_utf8)) {
            said.text[i] = '?';
        }
    }
    *why = said;
    return 0;
}

static int read_medium(const struct decoder_hearing *h, struct carat_media **out,
                       struct carat_error *err)
{
    struct carat_media *media = NULL;
    uint64_t number = 0;
    int rc = carat_media_read(&media, h->source, h->get, h->user, err);
    rc = rc ? rc : h->get(h->user, &number, sizeof(number), err);
    if (!rc && number != h->number) {
        rc = refuse("it does not end where it should", err);
    }
    if (rc) {
        carat_media_free(media);
        return rc;
    }
    *out = media;
    return 0;
}

int decoder_hear(const struct decoder_hearing *h, struct carat_media **out, struct carat_error *why,
                 struct carat_error *err)
{
    struct decoder_answer a = {.kind = DECODER_WORKING};
    int rc = 0;
    for (size_t n = 0; !rc && a.kind == DECODER_WORKING && n <= SIGNS_MAX; n++) {
        rc = h->get(h->user, &a, sizeof(a), err);
        if (!rc && a.number != h->number) {
            rc = refuse("it is for another request", err);
        }
    }
    if (rc) {
        return rc;
    }
    switch (a.kind) {
    case DECODER_REFUSED:
        return read_refusal(h, &a, why, err);
    case DECODER_DONE:
        return read_medium(h, out, err);
    default:
        return refuse("it is of no known kind", err);
    }
}
