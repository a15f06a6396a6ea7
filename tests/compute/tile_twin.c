// SPDX-License-Identifier: Apache-2.0
#include "tile_twin.h"

#include "compute/cpu/cpu.h"

#if defined(HAS_TILE_TWIN)
void kern_init_tiletwin(struct kern *k); // named by the build

static void init(struct kern *k)
{
    kern_init_avx512vnni(k);
    kern_init_tiletwin(k);
}

void tile_twin_add(void)
{
    struct kern unused;
    if (cpu_kern_init_level(&unused, "avx512vnni")) {
        cpu_add_level("tiletwin", init);
    }
}
#else
void tile_twin_add(void)
{
}
#endif
