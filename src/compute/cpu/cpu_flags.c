// SPDX-License-Identifier: Apache-2.0
// Which levels of kernels this build has and this CPU can run. CARAT_CPU names one to use instead
// of the best: the tests run once per level.
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "compute/cpu/cpu.h"

const char *const cpu_levels[] = {"generic", NULL};

bool cpu_kern_init_level(struct kern *k, const char *level)
{
    kern_init_generic(k);
    return strcmp(level, "generic") == 0;
}

int cpu_kern_init(struct kern *k, struct carat_error *err)
{
    const char *wanted = os_env("CARAT_CPU");
    if (!wanted) {
        kern_init_generic(k);
        return 0;
    }
    if (cpu_kern_init_level(k, wanted)) {
        return 0;
    }
    return fail(err, CARAT_E_UNSUPPORTED, "CARAT_CPU: no level '%s' here", wanted);
}
