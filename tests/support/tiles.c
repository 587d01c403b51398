/* SPDX-License-Identifier: MIT */
/* tiles.c - AMX in a handler of SIGILL: decodes the VEX-coded instructions of amx-tile, amx-int8 and amx-bf16 (Intel SDM, volume 2) and does them on tiles that belong
 * to the thread. What the processor refuses ends the program by the signal that Linux would send: SIGILL for #UD and tiles that were not asked for, SIGSEGV for #GP; a
 * sentence says why. TDPBF16PS adds as docs/numerics.md says, "bf16 arithmetic", and flushes subnormal numbers. */
#define _GNU_SOURCE     /* REG_RIP */
#include "tiles.h"
#include "cpu.h"

#include <immintrin.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { N_TILES = 8, MAX_ROWS = 16, MAX_BYTES = 64 };
/* What ldtilecfg reads and sttilecfg writes. */
typedef struct config { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config;
typedef struct tile { _Alignas(64) uint8_t row[MAX_ROWS][MAX_BYTES]; } tile;
static _Thread_local struct { config shape; tile tiles[N_TILES]; } state;

static atomic_int emulated, permitted;
static atomic_ullong done[TILES_N_KINDS], traps;

/* ---- refusals ---- */

enum { FINE, UNDEFINED = SIGILL, PROTECTION = SIGSEGV };

static int refuse(int signal, const char *why)
{
    const ssize_t written = write(2, "tiles: ", 7) + write(2, why, strlen(why)) + write(2, "\n", 1);
    (void)written;
    return signal;
}

static int configured(int t) { return state.shape.palette == 1 && state.shape.rows[t] && state.shape.bytes[t]; }

/* ---- instructions ---- */

static int do_config(const config *from)
{
    config c;
    memcpy(&c, from, sizeof c);
    for (int i = 0; i < 14; i++)
        if (c.zero[i])
            return refuse(PROTECTION, "ldtilecfg: bytes that must be zero are not");
    if (c.palette > 1)
        return refuse(PROTECTION, "ldtilecfg: no such palette");
    for (int t = 0; t < 16 && c.palette; t++)
        if (c.rows[t] > MAX_ROWS || c.bytes[t] > MAX_BYTES || !c.rows[t] != !c.bytes[t] || (t >= N_TILES && c.rows[t]))
            return refuse(PROTECTION, "ldtilecfg: no such shape");
    memset(&state, 0, sizeof state);
    if (c.palette)
        state.shape = c;
    return FINE;
}

static int do_memory(enum tiles_kind kind, int t, uint8_t *at, int64_t stride)
{
    if (!configured(t))
        return refuse(UNDEFINED, "a tile is used that has no shape");
    const size_t rows = state.shape.rows[t], bytes = state.shape.bytes[t];
    tile *x = &state.tiles[t];
    if (kind == TILES_LOAD)
        memset(x, 0, sizeof *x);
    for (size_t i = 0; i < rows; i++, at += stride) {
        if (kind == TILES_LOAD)
            memcpy(x->row[i], at, bytes);
        else
            memcpy(at, x->row[i], bytes);
    }
    return FINE;
}

/* c[m][n] += a[m][k] b[k][n]: four products of bytes per dword, of types X and Y; sums wrap around. For the widest registers that there are, lest tests take long. */
#define WIDE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"), noinline))
#define BYTES_PRODUCT(name, X, Y)                                                                                                                  \
    WIDE static void name(tile *c, const tile *a, const tile *b, int m, int n, int depth)                                                          \
    {                                                                                                                                              \
        for (int i = 0; i < m; i++)                                                                                                                \
            for (int k = 0; k < depth; k++) {                                                                                                      \
                const X *x = (const X *)a->row[i] + 4 * k;                                                                                         \
                const Y *y = (const Y *)b->row[k];                                                                                                 \
                uint32_t *sum = (uint32_t *)(void *)c->row[i];                                                                                     \
                for (int j = 0; j < n; j++)                                                                                                        \
                    sum[j] += (uint32_t)(x[0] * y[4 * j] + x[1] * y[4 * j + 1] + x[2] * y[4 * j + 2] + x[3] * y[4 * j + 3]);                       \
            }                                                                                                                                      \
    }
BYTES_PRODUCT(product_ssd, int8_t, int8_t)
BYTES_PRODUCT(product_sud, int8_t, uint8_t)
BYTES_PRODUCT(product_usd, uint8_t, int8_t)
BYTES_PRODUCT(product_uud, uint8_t, uint8_t)

static inline float widened(uint32_t upper)
{
    float x;
    memcpy(&x, &upper, 4);
    return x;
}

/* Two chains over k, even and odd, each from zero; c + (even + odd). */
WIDE static void chains(tile *c, const tile *a, const tile *b, int m, int n, int depth)
{
    for (int i = 0; i < m; i++) {
        float even[MAX_BYTES / 4] = { 0 }, odd[MAX_BYTES / 4] = { 0 }, *sum = (float *)(void *)c->row[i];
        for (int k = 0; k < depth; k++) {
            const uint32_t x = ((const uint32_t *)(const void *)a->row[i])[k], *y = (const void *)b->row[k];
            for (int j = 0; j < n; j++) {
                even[j] = __builtin_fmaf(widened(x << 16), widened(y[j] << 16), even[j]);
                odd[j] = __builtin_fmaf(widened(x & 0xffff0000u), widened(y[j] & 0xffff0000u), odd[j]);
            }
        }
        for (int j = 0; j < n; j++)
            sum[j] += even[j] + odd[j];
    }
}

static void product_bf16(tile *c, const tile *a, const tile *b, int m, int n, int depth)
{
    const unsigned before = _mm_getcsr();
    _mm_setcsr(0x9fc0);         /* to nearest; subnormal numbers are zeros, as operands and as results */
    chains(c, a, b, m, n, depth);
    _mm_setcsr(before);
}

typedef void product(tile *c, const tile *a, const tile *b, int m, int n, int depth);

static int do_product(product *multiply, int c, int a, int b)
{
    const uint8_t *rows = state.shape.rows;
    const uint16_t *bytes = state.shape.bytes;
    if (!configured(c) || !configured(a) || !configured(b))
        return refuse(UNDEFINED, "a tile is used that has no shape");
    if (c == a || c == b || a == b)
        return refuse(UNDEFINED, "a product has the same tile twice");
    if (bytes[c] % 4 || bytes[a] % 4 || rows[a] != rows[c] || bytes[b] != bytes[c] || rows[b] != bytes[a] / 4)
        return refuse(UNDEFINED, "shapes of a product do not belong together");
    multiply(&state.tiles[c], &state.tiles[a], &state.tiles[b], rows[c], bytes[c] / 4, bytes[a] / 4);
    return FINE;
}

/* ---- decoding ---- */

/* How the operands stand in ModRM: nothing; memory; a row of memory per SIB; one tile; three tiles. */
enum form { NONE, MEMORY, ROWS, ONE, THREE };
/* prefix: pp of VEX: none, 66, F3, F2. */
static const struct row { uint8_t opcode, prefix; enum form form; enum tiles_kind kind; product *multiply; } instructions[] = {
    { 0x49, 0, MEMORY, TILES_CONFIG, NULL }, { 0x49, 1, MEMORY, TILES_KEEP, NULL }, { 0x49, 0, NONE, TILES_RELEASE, NULL }, { 0x49, 3, ONE, TILES_ZERO, NULL },
    { 0x4b, 3, ROWS, TILES_LOAD, NULL }, { 0x4b, 1, ROWS, TILES_LOAD, NULL }, { 0x4b, 2, ROWS, TILES_STORE, NULL },     /* tileloadd, tileloaddt1, tilestored */
    { 0x5e, 3, THREE, TILES_SSD, product_ssd }, { 0x5e, 2, THREE, TILES_SUD, product_sud }, { 0x5e, 1, THREE, TILES_USD, product_usd }, { 0x5e, 0, THREE, TILES_UUD, product_uud },
    { 0x5c, 2, THREE, TILES_BF16, product_bf16 },
};

/* VEX of three bytes, opcode, ModRM. Numbers of registers have their fourth bit from VEX. */
typedef struct instruction { const struct row *row; int reg, rm, mod, v, x, b, length; const uint8_t *code; } instruction;

static int form_fits(enum form form, const instruction *n)
{
    const int memory = n->mod != 3;
    switch (form) {
    case NONE: return !memory && n->reg == 0 && n->rm == 0 && n->v == 0;
    case MEMORY: return memory && n->reg == 0 && n->v == 0;
    case ROWS: return memory && n->reg < N_TILES && n->rm == 4 && n->v == 0;
    case ONE: return !memory && n->reg < N_TILES && n->rm == 0 && n->v == 0;
    case THREE: return !memory && n->reg < N_TILES && !n->b && n->v < N_TILES;
    }
    return 0;
}

/* 0 if there is none of ours. Reads no byte behind an instruction. */
static int decode(const uint8_t *code, instruction *n)
{
    if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || code[2] & 0x84 || (code[3] != 0x49 && code[3] != 0x4b && code[3] != 0x5c && code[3] != 0x5e))
        return 0;
    *n = (instruction) { .code = code, .mod = code[4] >> 6, .reg = (code[4] >> 3 & 7) | (code[1] & 0x80 ? 0 : 8), .rm = code[4] & 7, .x = code[1] & 0x40 ? 0 : 8,
                         .b = code[1] & 0x20 ? 0 : 8, .v = ~code[2] >> 3 & 15, .length = 5 };
    for (size_t i = 0; i < sizeof instructions / sizeof *instructions && !n->row; i++)
        if (instructions[i].opcode == code[3] && instructions[i].prefix == (code[2] & 3) && form_fits(instructions[i].form, n))
            n->row = &instructions[i];
    return n->row != NULL;
}

static int64_t displacement(instruction *n, int bytes)
{
    int8_t small;
    int32_t large;
    memcpy(&small, n->code + n->length, 1);
    if (bytes == 1)
        n->length++;
    if (bytes != 4)
        return bytes ? small : 0;
    memcpy(&large, n->code + n->length, 4);
    n->length += 4;
    return large;
}

/* Where the operand begins; stride: what the index makes, rows' distance or 0. */
static uint64_t address(instruction *n, const greg_t *regs, int64_t *stride)
{
    static const int numbers[] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    const int bytes = n->mod == 1 ? 1 : n->mod == 2 ? 4 : 0;
    *stride = 0;
    if (n->rm != 4) {
        if (n->mod == 0 && n->rm == 5) {        /* from the next instruction on */
            const int64_t offset = displacement(n, 4);
            return (uint64_t)((int64_t)(uintptr_t)n->code + n->length + offset);
        }
        return (uint64_t)(regs[numbers[n->rm | n->b]] + displacement(n, bytes));
    }
    const uint8_t sib = n->code[n->length++];
    const int index = (sib >> 3 & 7) | n->x, base = (sib & 7) | n->b, none = n->mod == 0 && (sib & 7) == 5;
    if (index != 4)
        *stride = (int64_t)((uint64_t)regs[numbers[index]] << (sib >> 6));
    const int64_t offset = displacement(n, none ? 4 : bytes);
    return (uint64_t)((none ? 0 : regs[numbers[base]]) + offset);
}

static int perform(instruction *n, const greg_t *regs)
{
    int64_t stride = 0;
    uint8_t *at = NULL;
    if (n->row->form == MEMORY || n->row->form == ROWS)
        at = (uint8_t *)(uintptr_t)address(n, regs, &stride);
    if (!atomic_load(&permitted))
        return refuse(UNDEFINED, "tiles are used that nobody asked the system for");
    atomic_fetch_add_explicit(&done[n->row->kind], 1, memory_order_relaxed);
    switch (n->row->kind) {
    case TILES_CONFIG: return do_config((const void *)(at + stride));
    case TILES_KEEP: return memcpy(at + stride, &state.shape, sizeof state.shape), FINE;
    case TILES_RELEASE: return memset(&state, 0, sizeof state), FINE;
    case TILES_ZERO:
        if (!configured(n->reg))
            return refuse(UNDEFINED, "a tile is used that has no shape");
        return memset(&state.tiles[n->reg], 0, sizeof(tile)), FINE;
    case TILES_LOAD: case TILES_STORE: return do_memory(n->row->kind, n->reg, at, stride);
    default: return do_product(n->row->multiply, n->reg, n->rm, n->v);
    }
}

static void use(int number, void (*plain)(int), void (*with_context)(int, siginfo_t *, void *))
{
    struct sigaction action = { .sa_flags = with_context ? SA_SIGINFO : SA_RESTART };
    if (with_context)
        action.sa_sigaction = with_context;
    else
        action.sa_handler = plain;
    sigaction(number, &action, NULL);
}

/* Returning with the handler gone, the same instruction ends the program. */
static void handle(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    instruction n;
    int refused = UNDEFINED, some = 0;
    (void)info;
    atomic_fetch_add_explicit(&traps, 1, memory_order_relaxed);
    for (; decode((const uint8_t *)regs[REG_RIP], &n); some = 1) {
        refused = perform(&n, regs);
        if (refused)
            break;
        regs[REG_RIP] += n.length;
    }
    if (!refused && some)
        return;
    use(number, SIG_DFL, NULL);
    if (refused == PROTECTION) {
        use(SIGSEGV, SIG_DFL, NULL);
        raise(SIGSEGV);
    }
}

/* In place of the C library's: before every test cmocka takes SIGILL for itself. */
__attribute__((visibility("default"))) void (*signal(int number, void (*handler)(int)))(int)
{
    struct sigaction before;
    sigaction(number, NULL, &before);
    if (number != SIGILL || !tiles_are_emulated())
        use(number, handler, NULL);
    return before.sa_handler;
}

/* ---- in place of backends/cpu/features.c ---- */

uint32_t __real_cpu_features(void);
uint32_t __real_cpu_permitted(uint32_t levels);
uint32_t __wrap_cpu_features(void);
uint32_t __wrap_cpu_permitted(uint32_t levels);

uint32_t __wrap_cpu_features(void)
{
    const uint32_t levels = __real_cpu_features();
    if (!(levels & CPU_AVX512VNNI) || levels & CPU_AMX)
        return levels;
    if (!atomic_exchange(&emulated, 1))
        use(SIGILL, NULL, handle);
    return levels | CPU_AMX;
}

uint32_t __wrap_cpu_permitted(uint32_t levels)
{
    if (!atomic_load(&emulated))
        return __real_cpu_permitted(levels);
    if (levels & CPU_AMX)
        atomic_store(&permitted, 1);
    return __real_cpu_permitted(levels & ~(uint32_t)CPU_AMX) | (levels & CPU_AMX);
}

int tiles_are_emulated(void) { return atomic_load(&emulated); }
uint64_t tiles_done(enum tiles_kind kind) { return atomic_load(&done[kind]); }
uint64_t tiles_traps(void) { return atomic_load(&traps); }
