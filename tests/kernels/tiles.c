/* SPDX-License-Identifier: MIT */
/* tiles.c - what the kernels rely on of AMX: every instruction in every form of address, its results, and what is refused. Where the processor has tiles it is the
 * processor that is tested, elsewhere tests/support/tiles.c: both must be as is written here. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pthread.h>
#include "check.h"
#include "cpu.h"
#include "random.h"
#include "tiles.h"

typedef struct config { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config;
static _Alignas(64) const config whole = { .palette = 1, .bytes = { 64, 64, 64, 64, 64, 64, 64, 64 }, .rows = { 16, 16, 16, 16, 16, 16, 16, 16 } };
/* Of products: 0: 3 x 5 dwords; 1: 3 x 2; 2: 2 x 5. 3: one byte; 4: 15 rows of 63. */
static const config odd = { .palette = 1, .bytes = { 20, 8, 20, 1, 63 }, .rows = { 3, 3, 2, 1, 15 } };

static void configure(const config *c) { __asm__ volatile("ldtilecfg %0" : : "m"(*c) : "memory"); }
static void release(void) { __asm__ volatile("tilerelease" : : : "memory"); }
#define ZERO(t) __asm__ volatile("tilezero %%tmm" #t : : : "memory")
#define LOAD(t, from, stride) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((size_t)(stride)) : "memory")
#define STORE(t, to, stride) __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((size_t)(stride)) : "memory")
#define PRODUCT(name, c, a, b) __asm__ volatile(name " %%tmm" #b ", %%tmm" #a ", %%tmm" #c : : : "memory")

static void fill(uint64_t *seed, void *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)to)[i] = (uint8_t)random_next(seed);
}

/* ---- shapes, memory ---- */

static void shapes_are_kept(void **state)
{
    config c;
    (void)state;
    configure(&odd);
    memset(&c, 0xff, sizeof c);
    __asm__ volatile("sttilecfg %0" : "=m"(c) : : "memory");
    assert_memory_equal(&c, &odd, sizeof c);
    release();
    memset(&c, 0xff, sizeof c);
    __asm__ volatile("sttilecfg %0" : "=m"(c) : : "memory");
    for (size_t i = 0; i < sizeof c; i++)
        assert_int_equal(((uint8_t *)&c)[i], 0);
}

/* Rows that are not there are not touched; what is not loaded is zero in a larger shape's eyes. */
static void loads_and_stores_rows(void **state)
{
    uint8_t from[20][80], to[20][80], want[20][80];
    uint64_t seed = 1;
    (void)state;
    fill(&seed, from, sizeof from);
    configure(&odd);
    memset(to, 0xee, sizeof to);
    memset(want, 0xee, sizeof want);
    LOAD(4, from, 80);
    STORE(4, to[1] + 7, 80);
    for (int i = 0; i < 15; i++)
        memcpy(want[1 + i] + 7, from[i], 63);
    assert_memory_equal(to, want, sizeof to);
    ZERO(4);
    STORE(4, to[1] + 7, 80);
    for (int i = 0; i < 15; i++)
        memset(want[1 + i] + 7, 0, 63);
    assert_memory_equal(to, want, sizeof to);
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm3" : : "r"(&from[19][79]), "r"((size_t)0) : "memory");
    STORE(3, &to[19][79], 0);
    assert_int_equal(to[19][79], from[19][79]);
    configure(&whole);      /* clears all tiles */
    STORE(4, from, 64);
    for (int i = 0; i < 1024; i++)
        assert_int_equal(((uint8_t *)from)[i], 0);
    release();
}

/* Distances by the index: times 1 to 8, none, negative; displacements of one and four bytes; every register that is encoded in another way. */
static void forms_of_addresses(void **state)
{
    static _Alignas(64) uint8_t area[4096];
    _Alignas(64) uint8_t got[16][64];
    uint64_t seed = 2;
    (void)state;
    fill(&seed, area, sizeof area);
    configure(&whole);
#define SAME(step, text, ...) do {                                                                                                                 \
        __asm__ volatile("tileloadd " text ", %%tmm7" : : __VA_ARGS__ : "memory");                                                                \
        STORE(7, got, 64);                                                                                                                         \
        for (int i = 0; i < 16; i++)                                                                                                               \
            assert_memory_equal(got[i], area + 2048 + i * (step), 64);                                                                             \
    } while (0)
    const uint8_t *at = area + 2048;
    SAME(24, "(%0,%1,1)", "r"(at), "r"((size_t)24));
    SAME(48, "(%0,%1,2)", "r"(at), "r"((size_t)24));
    SAME(96, "(%0,%1,4)", "r"(at), "r"((size_t)24));
    SAME(64, "(%0,%1,8)", "r"(at), "r"((size_t)8));
    SAME(-64, "(%0,%1,1)", "r"(at), "r"((ptrdiff_t)-64));
    SAME(40, "127(%0,%1,1)", "r"(at - 127), "r"((size_t)40));
    SAME(40, "-128(%0,%1,1)", "r"(at + 128), "r"((size_t)40));
    SAME(40, "70000(%0,%1,1)", "r"((uintptr_t)at - 70000), "r"((size_t)40));
    /* r13 as a base, r12 as an index, r9 and r8, no index (every row the same). */
#define AT(base, index, step) do {                                                                                                           \
        __asm__ volatile("mov %0, %%" base "\n\tmov %1, %%" index "\n\ttileloadd (%%" base ",%%" index ",1), %%tmm1" : : "r"(at), "r"((size_t)(step)) \
                         : "memory", base, index);                                                                                                 \
        STORE(1, got, 64);                                                                                                                         \
        for (int i = 0; i < 16; i++)                                                                                                               \
            assert_memory_equal(got[i], at + (step) * i, 64);                                                                                      \
    } while (0)
    AT("r13", "r12", 40);
    AT("r12", "r13", 41);
    AT("r9", "r8", 32);
    AT("rbx", "r15", 33);
    __asm__ volatile("tileloadd (%0), %%tmm2\n\ttilestored %%tmm2, (%1,%2,1)" : : "r"(at), "r"(got), "r"((size_t)64) : "memory");
    for (int i = 0; i < 16; i++)
        assert_memory_equal(got[i], at, 64);
    /* Shapes by every kind of address that compilers choose: relative, base, base and index. */
    __asm__ volatile("ldtilecfg %0" : : "m"(whole) : "memory");
    memcpy(area + 64, &odd, sizeof odd);
    __asm__ volatile("ldtilecfg 64(%0)" : : "r"(area) : "memory");
    __asm__ volatile("ldtilecfg (%0,%1,8)" : : "r"(area), "r"((size_t)8) : "memory");
    __asm__ volatile("sttilecfg 32(%0,%1,2)" : : "r"(got), "r"((size_t)16) : "memory");
    assert_memory_equal(got[1], &odd, sizeof odd);
    release();
}

/* ---- products ---- */

static int part(int is_signed, uint8_t byte) { return is_signed ? (int8_t)byte : byte; }

static void check_bytes(const char *name, int a_signed, int b_signed, uint8_t (*a)[64], uint8_t (*b)[64], uint32_t (*before)[16], uint32_t (*got)[16], int m, int n, int depth)
{
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            int64_t sum = before[i][j];
            for (int k = 0; k < 4 * depth; k++)
                sum += part(a_signed, a[i][k]) * part(b_signed, b[k / 4][4 * j + k % 4]);
            if (got[i][j] != (i < m && j < n ? (uint32_t)sum : 0xeeeeeeeeu))
                fail_msg("%s %d %d: %08x", name, i, j, (unsigned)got[i][j]);
        }
}

static void products_of_bytes(void **state)
{
    _Alignas(64) uint8_t a[16][64], b[16][64];
    _Alignas(64) uint32_t before[16][16], got[16][16];
    uint64_t seed = 3;
    (void)state;
    for (int round = 0; round < 40; round++) {
        const int part_of = round % 2, extreme = round % 4 / 2;
        fill(&seed, a, sizeof a), fill(&seed, b, sizeof b), fill(&seed, before, sizeof before);
        if (extreme)        /* -128 * -128, 255 * 255, and sums that wrap around */
            memset(a, round % 8 < 4 ? 0x80 : 0xff, sizeof a), memset(b, 0x80, sizeof b), memset(before, 0x7f, sizeof before);
#define BYTES(name, a_signed, b_signed) do {                                                                                                       \
        configure(part_of ? &odd : &whole);                                                                                                        \
        LOAD(0, before, 64); LOAD(1, a, 64); LOAD(2, b, 64);                                                                                       \
        PRODUCT(name, 0, 1, 2);                                                                                                                    \
        memset(got, 0xee, sizeof got);                                                                                                             \
        STORE(0, got, 64);                                                                                                                         \
        check_bytes(name, a_signed, b_signed, a, b, before, got, part_of ? 3 : 16, part_of ? 5 : 16, part_of ? 2 : 16);                            \
    } while (0)
        BYTES("tdpbssd", 1, 1);
        BYTES("tdpbsud", 1, 0);
        BYTES("tdpbusd", 0, 1);
        BYTES("tdpbuud", 0, 0);
    }
    release();
}

static float flushed(float x) { return (sl_bits(x) & 0x7f800000u) ? x : sl_float(sl_bits(x) & 0x80000000u); }
static float of_bf16(const uint16_t *x) { return flushed(sl_float((uint32_t)*x << 16)); }

/* Two chains, even and odd, of fused steps from zero; subnormal numbers are zeros of the same sign. Products that are themselves between the smallest normal number
 * and the next are left out: whether something is subnormal before or after rounding is not told apart. */
static float bf16_sum(uint16_t (*a)[32], uint16_t (*b)[32], int i, int j, int depth, float before)
{
    float chain[2] = { 0, 0 };
    for (int k = 0; k < 2 * depth; k++)
        chain[k % 2] = flushed(sl_fma(of_bf16(&a[i][k]), of_bf16(&b[k / 2][2 * j + k % 2]), chain[k % 2]));
    return flushed(flushed(before) + flushed(chain[0] + chain[1]));
}

static void products_of_bfloats(void **state)
{
    static const uint16_t ends[] = { 0, 0x8000, 1, 0x8001, 0x7f, 0x80, 0x2b80, 0xab80, 0x3f80, 0xbf80, 0x3f81, 0x4000, 0xc000, 0x7f7f, 0x1f00, 0x2000 };
    _Alignas(64) uint16_t a[16][32], b[16][32];
    _Alignas(64) float before[16][16], got[16][16];
    uint64_t seed = 4;
    (void)state;
    for (int round = 0; round < 60; round++) {
        const int part_of = round % 2;
        for (int i = 0; i < 512; i++) {
            const int any = round % 3 == 0;
            (&a[0][0])[i] = any ? ends[random_below(&seed, sizeof ends / 2)] : (uint16_t)(sl_bits(random_float(&seed)) >> 16);
            (&b[0][0])[i] = any ? ends[random_below(&seed, sizeof ends / 2)] : (uint16_t)(sl_bits(random_float(&seed)) >> 16);
        }
        for (int i = 0; i < 256; i++)
            (&before[0][0])[i] = round % 4 ? random_float(&seed) : random_float(&seed) * 0x1p-130f;
        configure(part_of ? &odd : &whole);
        LOAD(0, before, 64); LOAD(1, a, 64); LOAD(2, b, 64);
        PRODUCT("tdpbf16ps", 0, 1, 2);
        memset(got, 0xee, sizeof got);
        STORE(0, got, 64);
        for (int i = 0; i < (part_of ? 3 : 16); i++)
            for (int j = 0; j < (part_of ? 5 : 16); j++) {
                const float want = bf16_sum(a, b, i, j, part_of ? 2 : 16, before[i][j]);
                if (sl_bits(want) != sl_bits(got[i][j]) && (want == want || got[i][j] == got[i][j]))
                    fail_msg("round %d, %d %d: %a, must be %a", round, i, j, (double)got[i][j], (double)want);
            }
    }
    release();
}

/* ---- whose tiles they are, and what is refused ---- */

static void *other_thread(void *arg)
{
    config *c = arg;
    __asm__ volatile("sttilecfg %0" : "=m"(*c) : : "memory");
    configure(&odd);
    ZERO(0);
    return NULL;
}

static void tiles_belong_to_threads(void **state)
{
    _Alignas(64) uint8_t from[1024], to[1024];
    config c = odd;
    pthread_t thread;
    uint64_t seed = 5;
    (void)state;
    fill(&seed, from, sizeof from);
    configure(&whole);
    LOAD(0, from, 64);
    assert_int_equal(pthread_create(&thread, NULL, other_thread, &c), 0);
    pthread_join(thread, NULL);
    assert_int_equal(c.palette, 0);
    STORE(0, to, 64);
    assert_memory_equal(to, from, sizeof to);
    release();
}

static config wrong(int which)
{
    config c = odd;
    c.palette = which == 0 ? 2 : 1;
    c.zero[3] = which == 1;
    c.bytes[0] = which == 2 ? 65 : c.bytes[0];
    c.rows[0] = which == 3 ? 17 : c.rows[0];
    c.rows[9] = which == 4;
    return c;
}
static void refused_shape(int which)
{
    const config c = wrong(which);
    configure(&c);
}
static void no_shape(int which)
{
    (void)which;
    release();
    ZERO(0);
}
static void no_shape_of_tile(int which)
{
    (void)which;
    configure(&odd);
    ZERO(5);
}
/* As bytes: assemblers warn of them. */
static void twice(int which)
{
    (void)which;
    configure(&whole);
    __asm__ volatile(".byte 0xc4, 0xe2, 0x73, 0x5e, 0xc1" : : : "memory");      /* tdpbssd tmm1, tmm1, tmm0 */
}
static void sums_as_factor(int which)
{
    (void)which;
    configure(&whole);
    __asm__ volatile(".byte 0xc4, 0xe2, 0x72, 0x5c, 0xd2" : : : "memory");      /* tdpbf16ps tmm1, tmm2, tmm2 */
}
static void shapes_apart(int which)
{
    static const config depths = { .palette = 1, .bytes = { 20, 8, 20 }, .rows = { 3, 3, 3 } }, heights = { .palette = 1, .bytes = { 20, 8, 20 }, .rows = { 3, 2, 2 } },
                        widths = { .palette = 1, .bytes = { 20, 8, 16 }, .rows = { 3, 3, 2 } };
    configure(which == 0 ? &depths : which == 1 ? &heights : &widths);
    PRODUCT("tdpbusd", 0, 1, 2);
}
static void other_instruction(int which)
{
    (void)which;
    configure(&whole);
    __asm__ volatile("ud2");
}

/* Each in a process of its own. */
static void what_is_refused(void **state)
{
    static const struct { const char *name; void (*run)(int); int which, signal; } cases[] = {
        { "palette", refused_shape, 0, SIGSEGV }, { "reserved bytes", refused_shape, 1, SIGSEGV }, { "bytes", refused_shape, 2, SIGSEGV }, { "rows", refused_shape, 3, SIGSEGV },
        { "too many tiles", refused_shape, 4, SIGSEGV }, { "no shape", no_shape, 0, SIGILL }, { "no shape of this tile", no_shape_of_tile, 0, SIGILL }, { "twice", twice, 0, SIGILL },
        { "sums as a factor", sums_as_factor, 0, SIGILL }, { "depths", shapes_apart, 0, SIGILL }, { "heights", shapes_apart, 1, SIGILL }, { "widths", shapes_apart, 2, SIGILL },
        { "ud2", other_instruction, 0, SIGILL },
    };
    (void)state;
    fflush(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const pid_t child = fork();
        if (child == 0) {
            setrlimit(RLIMIT_CORE, &(struct rlimit) { 0, 0 });
            close(2);
            if (!tiles_are_emulated())      /* cmocka's handlers */
                signal(SIGILL, SIG_DFL);
            signal(SIGSEGV, SIG_DFL);
            cases[i].run(cases[i].which);
            _exit(0);
        }
        int status = 0;
        assert_true(child > 0 && waitpid(child, &status, 0) == child);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != cases[i].signal)
            fail_msg("%s: status %x, must end by signal %d", cases[i].name, (unsigned)status, cases[i].signal);
    }
}

int main(void)
{
    if (!(cpu_permitted(cpu_features()) & CPU_AMX)) {
        printf("level amx includes AVX-512 with VNNI, which this processor does not show, or the system refuses tiles\n");
        return 77;
    }
    printf("tiles are %s\n", tiles_are_emulated() ? "those of tests/support/tiles.c" : "the processor's");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_are_kept), cmocka_unit_test(loads_and_stores_rows), cmocka_unit_test(forms_of_addresses), cmocka_unit_test(products_of_bytes),
        cmocka_unit_test(products_of_bfloats), cmocka_unit_test(tiles_belong_to_threads), cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests_name("tiles", tests, NULL, NULL);
}
