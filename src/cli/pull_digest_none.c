// SPDX-License-Identifier: Apache-2.0
// A build without libcrypto: nothing is downloaded that could not be checked.
#include "base/error.h"
#include "cli/pull_digest.h"

bool digest_is_built(void)
{
    return false;
}

int digest_new(struct digest **out, enum digest_kind kind, uint64_t size, struct carat_error *err)
{
    (void)out;
    (void)kind;
    (void)size;
    return fail(err, CARAT_E_UNSUPPORTED, "this build has no checksums: it needs libcrypto");
}

int digest_add(struct digest *d, const void *data, size_t size, struct carat_error *err)
{
    (void)d;
    (void)data;
    (void)size;
    return fail(err, CARAT_E_UNSUPPORTED, "this build has no checksums: it needs libcrypto");
}

int digest_finish(struct digest *d, char out[DIGEST_TEXT_MAX], struct carat_error *err)
{
    (void)d;
    (void)out;
    return fail(err, CARAT_E_UNSUPPORTED, "this build has no checksums: it needs libcrypto");
}

void digest_free(struct digest *d)
{
    (void)d;
}
