/* SPDX-License-Identifier: MIT */
/* layout.c - what programs were compiled against, on machines with 64-bit pointers: size of every public structure, offset of every member,
 * value of every constant. It is proved by compiling. Rows are only ever added; a structure may grow, its members never move (docs/abi.md).
 * That nothing is missing here is checked by pinned.py. */
#include <spacellama/spacellama.h>

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "size of " #type);
#define MEMBER(type, member, offset) _Static_assert(offsetof(type, member) == (offset), "offset of " #member " in " #type);
#define VALUE(name, value) _Static_assert((name) == (value), "value of " #name);

SIZE(sl_allocator, 32) MEMBER(sl_allocator, size, 0) MEMBER(sl_allocator, alloc, 8) MEMBER(sl_allocator, free, 16)
MEMBER(sl_allocator, user, 24)

SIZE(sl_source, 48) MEMBER(sl_source, size, 0) MEMBER(sl_source, data, 8) MEMBER(sl_source, length, 16)
MEMBER(sl_source, read, 24) MEMBER(sl_source, user, 32) MEMBER(sl_source, name, 40)

SIZE(sl_model_options, 152) MEMBER(sl_model_options, size, 0) MEMBER(sl_model_options, backend, 8)
MEMBER(sl_model_options, cpu_level, 16) MEMBER(sl_model_options, arith, 24) MEMBER(sl_model_options, pre, 32)
MEMBER(sl_model_options, n_threads, 40) MEMBER(sl_model_options, in_place, 44) MEMBER(sl_model_options, parts, 48)
MEMBER(sl_model_options, reserved, 52) MEMBER(sl_model_options, memory_limit, 56) MEMBER(sl_model_options, progress, 64)
MEMBER(sl_model_options, progress_user, 72) MEMBER(sl_model_options, log, 80) MEMBER(sl_model_options, log_user, 88)
MEMBER(sl_model_options, allocator, 96) MEMBER(sl_model_options, projector, 104) MEMBER(sl_model_options, projector_source, 112)
MEMBER(sl_model_options, cross_norm, 120) MEMBER(sl_model_options, global_gates, 128)
MEMBER(sl_model_options, weight_cache, 136) MEMBER(sl_model_options, pin, 144) MEMBER(sl_model_options, reserved_pin, 148)

SIZE(sl_memory, 64) MEMBER(sl_memory, size, 0) MEMBER(sl_memory, weights, 8) MEMBER(sl_memory, in_place, 16)
MEMBER(sl_memory, load_peak, 24) MEMBER(sl_memory, cache, 32) MEMBER(sl_memory, compute, 40)
MEMBER(sl_memory, image, 48) MEMBER(sl_memory, encoder, 56)

SIZE(sl_model_info, 160) MEMBER(sl_model_info, size, 0) MEMBER(sl_model_info, architecture, 8)
MEMBER(sl_model_info, name, 16) MEMBER(sl_model_info, n_ctx_train, 24) MEMBER(sl_model_info, n_embd, 28)
MEMBER(sl_model_info, n_layer, 32) MEMBER(sl_model_info, n_head, 36) MEMBER(sl_model_info, n_head_kv, 40)
MEMBER(sl_model_info, d_head, 44) MEMBER(sl_model_info, n_ff, 48) MEMBER(sl_model_info, n_expert, 52)
MEMBER(sl_model_info, n_expert_used, 56) MEMBER(sl_model_info, n_vocab, 60) MEMBER(sl_model_info, n_threads, 64)
MEMBER(sl_model_info, n_parts, 68) MEMBER(sl_model_info, n_params, 72) MEMBER(sl_model_info, file_bytes, 80)
MEMBER(sl_model_info, weight_bytes, 88) MEMBER(sl_model_info, in_place_bytes, 96) MEMBER(sl_model_info, load_peak_bytes, 104)
MEMBER(sl_model_info, vision, 112) MEMBER(sl_model_info, tile_side, 120) MEMBER(sl_model_info, max_tiles, 124)
MEMBER(sl_model_info, image_token, 128) MEMBER(sl_model_info, reserved, 132)
MEMBER(sl_model_info, cached_bytes, 136)
MEMBER(sl_model_info, identity, 144) MEMBER(sl_model_info, numerics, 152) MEMBER(sl_model_info, reserved_numerics, 156)

SIZE(sl_meta, 32) MEMBER(sl_meta, size, 0) MEMBER(sl_meta, key, 8) MEMBER(sl_meta, type, 16)
MEMBER(sl_meta, element_type, 20) MEMBER(sl_meta, count, 24)

SIZE(sl_tensor_info, 80) MEMBER(sl_tensor_info, size, 0) MEMBER(sl_tensor_info, name, 8) MEMBER(sl_tensor_info, type, 16)
MEMBER(sl_tensor_info, n_dims, 24) MEMBER(sl_tensor_info, part, 28) MEMBER(sl_tensor_info, dims, 32)
MEMBER(sl_tensor_info, bytes, 64) MEMBER(sl_tensor_info, offset, 72)

SIZE(sl_quantize_override, 24) MEMBER(sl_quantize_override, size, 0) MEMBER(sl_quantize_override, pattern, 8)
MEMBER(sl_quantize_override, type, 16)

SIZE(sl_quantize_options, 88) MEMBER(sl_quantize_options, size, 0) MEMBER(sl_quantize_options, n_threads, 8)
MEMBER(sl_quantize_options, flags, 12) MEMBER(sl_quantize_options, overrides, 16)
MEMBER(sl_quantize_options, n_overrides, 24) MEMBER(sl_quantize_options, importance, 32) MEMBER(sl_quantize_options, importance_source, 40)
MEMBER(sl_quantize_options, progress, 48) MEMBER(sl_quantize_options, progress_user, 56)
MEMBER(sl_quantize_options, log, 64) MEMBER(sl_quantize_options, log_user, 72) MEMBER(sl_quantize_options, allocator, 80)

SIZE(sl_quantize_result, 48) MEMBER(sl_quantize_result, size, 0) MEMBER(sl_quantize_result, bytes_in, 8)
MEMBER(sl_quantize_result, bytes_out, 16) MEMBER(sl_quantize_result, encode_ns, 24)
MEMBER(sl_quantize_result, n_tensors, 32) MEMBER(sl_quantize_result, n_changed, 36) MEMBER(sl_quantize_result, n_odd, 40)
MEMBER(sl_quantize_result, n_weighted, 44)
VALUE(SL_QUANTIZE_PURE, 1)

SIZE(sl_token_info, 40) MEMBER(sl_token_info, size, 0) MEMBER(sl_token_info, text, 8) MEMBER(sl_token_info, length, 16)
MEMBER(sl_token_info, kind, 24) MEMBER(sl_token_info, end, 28) MEMBER(sl_token_info, score, 32)
MEMBER(sl_token_info, reserved, 36)

SIZE(sl_state_info, 32) MEMBER(sl_state_info, size, 0) MEMBER(sl_state_info, generation, 8) MEMBER(sl_state_info, bytes, 16)
MEMBER(sl_state_info, n_seq, 24) MEMBER(sl_state_info, older, 28)

SIZE(sl_session_options, 32) MEMBER(sl_session_options, size, 0) MEMBER(sl_session_options, n_ctx, 8)
MEMBER(sl_session_options, n_batch, 12) MEMBER(sl_session_options, cache_type, 16)
MEMBER(sl_session_options, n_seq, 24) MEMBER(sl_session_options, n_ctx_shared, 28)

SIZE(sl_session_stats, 96) MEMBER(sl_session_stats, size, 0) MEMBER(sl_session_stats, n_passes, 8)
MEMBER(sl_session_stats, n_tokens, 16) MEMBER(sl_session_stats, n_threads, 24) MEMBER(sl_session_stats, busy_ns, 32)
MEMBER(sl_session_stats, cache_bytes, 40) MEMBER(sl_session_stats, compute_bytes, 48)
MEMBER(sl_session_stats, n_images, 56) MEMBER(sl_session_stats, image_ns, 64) MEMBER(sl_session_stats, image_bytes, 72)
MEMBER(sl_session_stats, image_encode_ns, 80) MEMBER(sl_session_stats, image_keys_ns, 88)

SIZE(sl_embed_options, 24) MEMBER(sl_embed_options, size, 0) MEMBER(sl_embed_options, pooling, 8)
MEMBER(sl_embed_options, flags, 16) MEMBER(sl_embed_options, reserved, 20)
VALUE(SL_EMBED_RAW, 1)

SIZE(sl_chat_part, 32) MEMBER(sl_chat_part, size, 0) MEMBER(sl_chat_part, text, 8) MEMBER(sl_chat_part, length, 16)
MEMBER(sl_chat_part, image, 24)

SIZE(sl_chat_message, 32) MEMBER(sl_chat_message, size, 0) MEMBER(sl_chat_message, role, 8)
MEMBER(sl_chat_message, parts, 16) MEMBER(sl_chat_message, n_parts, 24)

SIZE(sl_chat_options, 32) MEMBER(sl_chat_options, size, 0) MEMBER(sl_chat_options, format, 8)
MEMBER(sl_chat_options, date, 16) MEMBER(sl_chat_options, flags, 24) MEMBER(sl_chat_options, reserved, 28)

SIZE(sl_generate_options, 72) MEMBER(sl_generate_options, size, 0) MEMBER(sl_generate_options, max_tokens, 8)
MEMBER(sl_generate_options, decode_flags, 12) MEMBER(sl_generate_options, sampler, 16) MEMBER(sl_generate_options, stop, 24)
MEMBER(sl_generate_options, n_stop, 32) MEMBER(sl_generate_options, on_text, 40) MEMBER(sl_generate_options, user, 48)
MEMBER(sl_generate_options, lookup, 56) MEMBER(sl_generate_options, reuse, 60)
MEMBER(sl_generate_options, shift, 64) MEMBER(sl_generate_options, reserved, 68)

SIZE(sl_generate_result, 48) MEMBER(sl_generate_result, size, 0) MEMBER(sl_generate_result, finish, 8)
MEMBER(sl_generate_result, n_prompt, 12) MEMBER(sl_generate_result, n_tokens, 16) MEMBER(sl_generate_result, n_drafts, 20)
MEMBER(sl_generate_result, prompt_ns, 24) MEMBER(sl_generate_result, decode_ns, 32)
MEMBER(sl_generate_result, n_accepted, 40) MEMBER(sl_generate_result, n_kept, 44)

SIZE(sl_queue_options, 16) MEMBER(sl_queue_options, size, 0) MEMBER(sl_queue_options, first_seq, 8) MEMBER(sl_queue_options, n_seq, 12)

SIZE(sl_queue_result, 72) MEMBER(sl_queue_result, size, 0) MEMBER(sl_queue_result, id, 8) MEMBER(sl_queue_result, user, 16)
MEMBER(sl_queue_result, status, 24) MEMBER(sl_queue_result, finish, 28) MEMBER(sl_queue_result, n_prompt, 32)
MEMBER(sl_queue_result, n_kept, 36) MEMBER(sl_queue_result, n_tokens, 40) MEMBER(sl_queue_result, n_restarts, 44)
MEMBER(sl_queue_result, wait_ns, 48) MEMBER(sl_queue_result, prompt_ns, 56) MEMBER(sl_queue_result, decode_ns, 64)

VALUE(SL_FINISH_LENGTH, 0) VALUE(SL_FINISH_END, 1) VALUE(SL_FINISH_STOP, 2) VALUE(SL_FINISH_CALLBACK, 3)
VALUE(SL_FINISH_FULL, 4)

VALUE(SL_TOKEN_NONE, -1) VALUE(SL_TOKEN_NORMAL, 1) VALUE(SL_TOKEN_UNKNOWN, 2) VALUE(SL_TOKEN_CONTROL, 3)
VALUE(SL_TOKEN_USER_DEFINED, 4) VALUE(SL_TOKEN_UNUSED, 5) VALUE(SL_TOKEN_BYTE, 6)

VALUE(SL_LIMIT_ALIGNMENT, 65536) VALUE(SL_LIMIT_ARRAY_DEPTH, 4) VALUE(SL_LIMIT_ARRAY_ELEMENTS, 16777216)
VALUE(SL_LIMIT_BATCH, 65536) VALUE(SL_LIMIT_CONTEXT, 16777216) VALUE(SL_LIMIT_EMBEDDING, 1048576)
VALUE(SL_LIMIT_EXPERTS, 512) VALUE(SL_LIMIT_HEAD_DIM, 1024) VALUE(SL_LIMIT_IMAGES, 256) VALUE(SL_LIMIT_IMAGE_BYTES, 268435456) VALUE(SL_LIMIT_IMAGE_PIXELS, 67108864)
VALUE(SL_LIMIT_IMAGE_SIDE, 32768) VALUE(SL_LIMIT_KEYS, 65536) VALUE(SL_LIMIT_KEY_BYTES, 65535)
VALUE(SL_LIMIT_LAYERS, 1024) VALUE(SL_LIMIT_PARTS, 1024) VALUE(SL_LIMIT_STRING_BYTES, 16777216)
VALUE(SL_LIMIT_TENSORS, 65536) VALUE(SL_LIMIT_TENSOR_NAME_BYTES, 64) VALUE(SL_LIMIT_THREADS, 512) VALUE(SL_LIMIT_SEQUENCES, 1024)
VALUE(SL_PAGE_POSITIONS, 64) VALUE(SL_SEQ_ALL, 0xffffffffu)
VALUE(SL_LIMIT_TOKEN_BYTES, 65536) VALUE(SL_LIMIT_VOCABULARY, 1048576)

VALUE(SL_LIMIT_CHAT_BYTES, 1073741824) VALUE(SL_LIMIT_CHAT_PARTS, 1048576) VALUE(SL_CHAT_CLOSED, 1)

VALUE(SL_DECODE_SPECIAL, 1) VALUE(SL_DECODE_KEEP_SPACE, 2)

VALUE(SL_PARTS_ALL, 0) VALUE(SL_PARTS_VOCABULARY, 1) VALUE(SL_PARTS_METADATA, 2)

VALUE(SL_ENCODE_ADD_SPECIAL, 1) VALUE(SL_ENCODE_PARSE_SPECIAL, 2)

VALUE(SL_OK, 0) VALUE(SL_ERR_ARGUMENT, -1) VALUE(SL_ERR_NOMEM, -2) VALUE(SL_ERR_IO, -3) VALUE(SL_ERR_MAGIC, -4)
VALUE(SL_ERR_VERSION, -5) VALUE(SL_ERR_TRUNCATED, -6) VALUE(SL_ERR_LIMIT, -7) VALUE(SL_ERR_DUPLICATE, -8)
VALUE(SL_ERR_TYPE, -9) VALUE(SL_ERR_RANGE, -10) VALUE(SL_ERR_OVERFLOW, -11) VALUE(SL_ERR_BOUNDS, -12)
VALUE(SL_ERR_ALIGNMENT, -13) VALUE(SL_ERR_SHAPE, -14) VALUE(SL_ERR_MISSING, -15) VALUE(SL_ERR_SYNTAX, -16)
VALUE(SL_ERR_UTF8, -17) VALUE(SL_ERR_DEPTH, -18) VALUE(SL_ERR_CHECKSUM, -19) VALUE(SL_ERR_UNSUPPORTED, -20)
VALUE(SL_ERR_NONFINITE, -21) VALUE(SL_ERR_STATE, -22) VALUE(SL_ERR_CANCELLED, -23) VALUE(SL_ERR_FULL, -24)
VALUE(SL_ERR_BUFFER, -25) VALUE(SL_ERR_BACKEND, -26) VALUE(SL_ERR_INTERNAL, -27)

VALUE(SL_LOG_ERROR, 1) VALUE(SL_LOG_WARN, 2) VALUE(SL_LOG_INFO, 3) VALUE(SL_LOG_DEBUG, 4)

VALUE(SL_META_U8, 0) VALUE(SL_META_I8, 1) VALUE(SL_META_U16, 2) VALUE(SL_META_I16, 3) VALUE(SL_META_U32, 4)
VALUE(SL_META_I32, 5) VALUE(SL_META_F32, 6) VALUE(SL_META_BOOL, 7) VALUE(SL_META_STRING, 8) VALUE(SL_META_ARRAY, 9)
VALUE(SL_META_U64, 10) VALUE(SL_META_I64, 11) VALUE(SL_META_F64, 12)

int main(void) { return 0; }
