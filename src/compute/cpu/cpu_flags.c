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

#if defined(KERN_HAS_AVXVNNI)
// Processors for laptops that have no AVX-512 may have its int8 products in 256 bits.
static bool has_avxvnni(void)
{
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1) != 0;
}

static void init_avxvnni(struct kern *k)
{
    kern_init_avx2(k);
    k->name = "avxvnni";
    kern_init_q8_avxvnni(k);
    kern_init_strip_avxvnni(k);
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

#if defined(KERN_HAS_AVX512AMX)
// The CPU has tiles and their int8 products, the system keeps them for each thread, and this
// process was allowed to use them.
static bool has_avx512amx(void)
{
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;
    if (!has_avx512vnni() || !__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) {
        return false;
    }
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    const bool is_kept = (a >> 17 & 3) == 3; // XTILECFG and XTILEDATA
    const bool is_there = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 24 & 3) == 3;
    return is_kept && is_there && os_may_use_tiles();
}

static void init_avx512amx(struct kern *k)
{
    kern_init_avx512vnni(k);
    kern_init_avx512amx(k);
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
#if defined(KERN_HAS_AVXVNNI)
    {"avxvnni", init_avxvnni, has_avxvnni},
#endif
#if defined(KERN_HAS_AVX512)
    {"avx512", kern_init_avx512, has_avx512},
    {"avx512vnni", kern_init_avx512vnni, has_avx512vnni},
#endif
#if defined(KERN_HAS_AVX512AMX)
    {"avx512amx", init_avx512amx, has_avx512amx},
#endif
#if defined(KERN_HAS_NEON)
    {"neon", kern_init_neon, has_always},
    {"neondot", kern_init_neondot, has_dotprod},
    {"neoni8mm", kern_init_neoni8mm, has_i8mm},
#endif
};
enum { N_LEVELS = sizeof(levels) / sizeof(levels[0]) };

// Those that only a test has; never taken by themselves.
static struct level added[2];
static size_t n_added;

void cpu_add_level(const char *name, void (*init)(struct kern *k))
{
    require(n_added < sizeof(added) / sizeof(added[0]));
    added[n_added++] = (struct level){name, init, has_always};
}

static const struct level *level_at(size_t i)
{
    return i < N_LEVELS ? &levels[i] : i < N_LEVELS + n_added ? &added[i - N_LEVELS] : NULL;
}

const char *cpu_level_name(size_t i)
{
    const struct level *level = level_at(i);
    return level ? level->name : NULL;
}

bool cpu_kern_init_level(struct kern *k, const char *name)
{
    const struct level *level;
    for (size_t i = 0; (level = level_at(i)); i++) {
        if (strcmp(level->name, name) == 0 && level->is_usable()) {
            level->init(k);
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
