// SPDX-License-Identifier: Apache-2.0
#include "cli/slots.h"

#include "base/os.h"
#include "cli/output.h"

int slots_plan_memory(struct carat_memory *need, struct carat_engine *engine,
                      const struct carat_session_options *options, uint64_t n,
                      struct carat_error *err)
{
    int rc = carat_engine_estimate(need, engine, options, err);
    if (rc == 0) {
        need->kv_sliding *= n;
        need->kv_full *= n;
        need->scratch *= n;
        need->total =
            need->weights + need->tables + need->kv_sliding + need->kv_full + need->scratch;
    }
    return rc;
}

void slots_warn(const struct carat_memory *need)
{
    uint64_t all = os_memory_total(), available = os_memory_available();
    // What is loaded already is no longer available, and is counted in what is needed.
    uint64_t missing = need->kv_sliding + need->kv_full + need->scratch;
    if (all && need->total > all) {
        say("warning: this takes up to %s and the machine has %s: expect it to be very slow (a "
            "smaller --parallel or --context, or another --kv-type, needs less)",
            size_text(need->total).text, size_text(all).text);
    } else if (available && missing > available) {
        say("warning: conversations take up to %s more and only %s are free: close other programs "
            "(a smaller --parallel or --context, or another --kv-type, needs less)",
            size_text(missing).text, size_text(available).text);
    }
}
