/* SPDX-License-Identifier: MIT */
/* same_bits_types.c - the promise of docs/numerics.md for every type of tensors: the same bits in all the ways of tests/support/ways.h. Other shapes: same_bits_shapes.c;
 * the reference files: same_bits_fixtures.c; pictures: tests/arch/mllama_same_bits.c. */
#include "check.h"
#include "model_build.h"
#include "random_blocks.h"
#include "sanitized.h"
#include "ways.h"


enum { N = WHEN_SANITIZED(24, 70), N_RANDOM = WHEN_SANITIZED(4, 24) };        /* 70: two pages of the cache, two passes of 64 */

/* Two layers of whole super-blocks, and an odd vocabulary. */
static const model_spec small = { .n_embd = 256, .n_ff = 256, .n_layer = 2, .n_head = 4, .n_head_kv = 1, .d_head = 32, .n_vocab = 101, .n_ctx = 512, .words = 1 };

/* Every one of the types of this build whose number is `rest` modulo 4; a cache type goes with it, another one each time. */
static void types(int rest)
{
    static const char *const caches[] = { "f16", "f32", "q8_0", "bf16" };
    for (int i = 0; random_block_types[i] >= 0; i++) {
        if (i % 4 != rest)
            continue;
        model_spec spec = model_spec_of(small, (sl_type)random_block_types[i]);
        spec.seed = 100 + (uint64_t)i;
        spec.types[ROLE_ATTN_OUTPUT] = SL_TYPE_F32;     /* 128 numbers are no super-block */
        model_file *file = model_build(&spec);
        const ways_subject s = { .name = random_block_name((sl_type)random_block_types[i]), .cache = caches[i / 4 % 4], .data = file->data, .size = file->size, .n = N, .seed = (uint64_t)i };
        ways_prove(&s, N_RANDOM);
        model_build_free(file);
    }
}

static void first_types(void **state) { (void)state, types(0); }
static void second_types(void **state) { (void)state, types(1); }
static void third_types(void **state) { (void)state, types(2); }
static void fourth_types(void **state) { (void)state, types(3); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(first_types), cmocka_unit_test(second_types), cmocka_unit_test(third_types), cmocka_unit_test(fourth_types) };
    return cmocka_run_group_tests_name("same_bits_types", tests, NULL, NULL);
}
