// SPDX-License-Identifier: Apache-2.0
// Random imatrix files, of either kind: refused with a message, or every figure is one.
#include <math.h>
#include <stdint.h>

#include "base/error.h"
#include "model/importance.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct carat_importance *im = NULL;
    struct carat_error err = {0};
    int rc = importance_read_memory(&im, data, size, "fuzz.imatrix", &err);
    require(rc == 0 || err.text[0] != 0);
    for (size_t i = 0; rc == 0 && i < im->n; i++) {
        size_t n = 0;
        const float *means = carat_importance_of(im, im->matrices[i].name, &n);
        require(means && n > 0 && n * sizeof(float) <= size);
        for (size_t k = 0; k < n; k++) {
            require(means[k] >= 0 && !isnan(means[k]));
        }
    }
    carat_importance_free(im);
    return 0;
}
