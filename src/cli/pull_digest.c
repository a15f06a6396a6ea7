// SPDX-License-Identifier: Apache-2.0
#include "cli/pull_digest.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"

struct digest {
    EVP_MD_CTX *context;
};

bool digest_is_built(void)
{
    return true;
}

static int fail_crypto(struct carat_error *err)
{
    return fail(err, CARAT_E_UNSUPPORTED, "libcrypto refuses to compute a checksum");
}

int digest_new(struct digest **out, enum digest_kind kind, uint64_t size, struct carat_error *err)
{
    struct digest *d = mem_new(sizeof(*d), err);
    if (!d) {
        return CARAT_E_MEMORY;
    }
    int rc = 0;
    const EVP_MD *method = kind == DIGEST_SHA256 ? EVP_sha256() : EVP_sha1();
    d->context = EVP_MD_CTX_new();
    if (!d->context || EVP_DigestInit_ex(d->context, method, NULL) != 1) {
        rc = fail_crypto(err);
    }
    if (rc == 0 && kind == DIGEST_GIT) {
        char head[40]; // with its terminator: git-hash-object(1)
        int n = snprintf(head, sizeof(head), "blob %" PRIu64, size);
        rc = digest_add(d, head, (size_t)n + 1, err);
    }
    if (rc) {
        digest_free(d);
        return rc;
    }
    *out = d;
    return 0;
}

int digest_add(struct digest *d, const void *data, size_t size, struct carat_error *err)
{
    return EVP_DigestUpdate(d->context, data, size) == 1 ? 0 : fail_crypto(err);
}

int digest_finish(struct digest *d, char out[DIGEST_TEXT_MAX], struct carat_error *err)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_DigestFinal_ex(d->context, bytes, &n) != 1 || n * 2 >= DIGEST_TEXT_MAX) {
        return fail_crypto(err);
    }
    for (unsigned i = 0; i < n; i++) {
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
    return 0;
}

void digest_free(struct digest *d)
{
    if (d) {
        EVP_MD_CTX_free(d->context);
        mem_free(d);
    }
}
