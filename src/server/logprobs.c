// SPDX-License-Identifier: Apache-2.0
#include "server/logprobs.h"

#include <math.h>

#include "server/fields.h"
#include "server/server.h"

// JSON has no minus infinity.
#define LOGPROB_LOWEST (-9999.0)

static void write_one(const struct call *call, carat_token token, float logprob, struct buf *out)
{
    size_t size = 0;
    const char *bytes = carat_token_text(call->server->engine, token, &size);
    buf_adds(out, "{\"token\":");
    field_write_token(call, token, out);
    buf_addf(out, ",\"logprob\":%.9g,\"bytes\":[",
             isfinite(logprob) ? (double)logprob : LOGPROB_LOWEST);
    for (size_t i = 0; bytes && i < size; i++) {
        buf_addf(out, i > 0 ? ",%u" : "%u", (unsigned)(unsigned char)bytes[i]);
    }
    buf_addc(out, ']');
}

void logprobs_write(const struct call *call, const struct answer_logprob *list, size_t n,
                    struct buf *out)
{
    size_t n_top = call->ask.sampling.n_top;
    buf_addc(out, '[');
    for (size_t i = 0; i < n; i++) {
        buf_adds(out, i > 0 ? "," : "");
        write_one(call, list[i].token, list[i].logprob, out);
        buf_adds(out, ",\"top_logprobs\":[");
        for (size_t t = 0; t < list[i].n_top && t < n_top; t++) {
            buf_adds(out, t > 0 ? "," : "");
            write_one(call, list[i].top[t].token, list[i].top[t].logprob, out);
            buf_addc(out, '}');
        }
        buf_adds(out, "]}");
    }
    buf_addc(out, ']');
}
