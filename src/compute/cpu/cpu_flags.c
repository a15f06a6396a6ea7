// SPDX-License-Identifier: Apache-2.0
// Which levels of kernels this build has and this CPU can run. CARAT_CPU names one to use instead
// of the best: the tests run once per level. The build defines KERN_HAS_<LEVEL> for what it
// compiled.
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "base/error.h"
#include "base/os.h"
#include "compute/cpu/cpu.h"

#if defined(KERN_HAS_AVX2) || defined(KERN_HAS_AVX512)
// Clang's builtin learned this name late.
static bool has_f16c(void)
{
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

static bool has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
#endif

#if defined(KERN_HAS_AVX512)
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static bool has_avx512vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
#endif

#if defined(KERN_HAS_NEON) && defined(__linux__)
// Bits of the kernel's interface, spelled out because older headers lack them.
static bool has_dotprod(void)
{
    return (getauxval(AT_HWCAP) >> 20 & 1) != 0; // HWCAP_ASIMDDP
}

static bool has_i8mm(void)
{
    return has_dotprod() && (getauxval(AT_HWCAP2) >> 13 & 1) != 0; // HWCAP2_I8MM
}
#elif defined(KERN_HAS_NEON) && defined(__APPLE__)
static bool has_feature(const char *name)
{
    int value = 0;
    size_t size = sizeof(value);
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}

static bool has_dotprod(void)
{
    return has_feature("hw.optional.arm.FEAT_DotProd");
}

static bool has_i8mm(void)
{
    return has_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM");
}
#elif defined(KERN_HAS_NEON)
static bool has_dotprod(void)
{
    return false;
}

static bool has_i8mm(void)
{
    return false;
}
#endif

static bool has_always(void)
{
    return true;
}

struct level {
    const char *name;
    void (*init)(struct kern *k);
    bool (*is_usable)(void);
};

// Lowest first; the last usable one is taken.
static const struct level levels[] = {
    {"generic", kern_init_generic, has_always},
#if defined(KERN_HAS_AVX2)
    {"avx2", kern_init_avx2, has_avx2},
#endif
#if defined(KERN_HAS_AVX512)
    {"avx512", kern_init_avx512, has_avx512},
    {"avx512vnni", kern_init_avx512vnni, has_avx512vnni},
#endif
#if defined(KERN_HAS_NEON)
    {"neon", kern_init_neon, has_always},
    {"neondot", kern_init_neondot, has_dotprod},
    {"neoni8mm", kern_init_neoni8mm, has_i8mm},
#endif
};
enum { N_LEVELS = sizeof(levels) / sizeof(levels[0]) };

const char *cpu_level_name(size_t i)
{
    return i < N_LEVELS ? levels[i].name : NULL;
}

bool cpu_kern_init_level(struct kern *k, const char *name)
{
    for (size_t i = 0; i < N_LEVELS; i++) {
        if (strcmp(levels[i].name, name) == 0 && levels[i].is_usable()) {
            levels[i].init(k);
            return true;
        }
    }
    return false;
}

int cpu_kern_init(struct kern *k, struct carat_error *err)
{
    const char *wanted = os_env("CARAT_CPU");
    if (wanted) {
        if (cpu_kern_init_level(k, wanted)) {
            return 0;
        }
        char usable[128] = "";
        for (size_t i = 0; i < N_LEVELS; i++) {
            if (levels[i].is_usable()) {
                strncat(usable, " ", sizeof(usable) - strlen(usable) - 1);
                strncat(usable, levels[i].name, sizeof(usable) - strlen(usable) - 1);
            }
        }
        return fail(err, CARAT_E_UNSUPPORTED,
                    "CARAT_CPU: level '%.100s' is not one that this machine and build can use:%s",
                    wanted, usable);
    }
    size_t best = 0;
    for (size_t i = 0; i < N_LEVELS; i++) {
        best = levels[i].is_usable() ? i : best;
    }
    levels[best].init(k);
    return 0;
}
