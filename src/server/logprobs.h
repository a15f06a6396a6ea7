// SPDX-License-Identifier: Apache-2.0
// Log-probabilities as lists of tokens with their bytes: Responses and transcriptions write them
// so.
#ifndef CARAT_SERVER_LOGPROBS_H
#define CARAT_SERVER_LOGPROBS_H

#include "server/call.h"

// [{"token":...,"logprob":...,"bytes":[...],"top_logprobs":[...]},...]
void logprobs_write(const struct call *call, const struct answer_logprob *list, size_t n,
                    struct buf *out);

#endif
