// SPDX-License-Identifier: Apache-2.0
#include "twins.h"

#include "compute/cpu/cpu.h"

#if defined(HAS_AVXVNNI_TWIN)
void kern_init_q8_vnnitwin(struct kern *k); // named by the build
void kern_init_strip_vnnitwin(struct kern *k);

static void init_vnnitwin(struct kern *k)
{
    kern_init_avx2(k);
    k->name = "vnnitwin";
    kern_init_q8_vnnitwin(k);
    kern_init_strip_vnnitwin(k);
}
#endif

#if defined(HAS_TILE_TWIN)
void kern_init_tiletwin(struct kern *k); // named by the build

static void init_tiletwin(struct kern *k)
{
    kern_init_avx512vnni(k);
    kern_init_tiletwin(k);
}
#endif

void twins_add(void)
{
    struct kern unused;
    (void)unused;
#if defined(HAS_AVXVNNI_TWIN)
    if (cpu_kern_init_level(&unused, "avx2")) {
        cpu_add_level("vnnitwin", init_vnnitwin);
    }
#endif
#if defined(HAS_TILE_TWIN)
    if (cpu_kern_init_level(&unused, "avx512vnni")) {
        cpu_add_level("tiletwin", init_tiletwin);
    }
#endif
}
