/* SPDX-License-Identifier: MIT */
/** @file chat.h
 *  Conversations to token ids, in the format that a model was trained on. No template is ever run: the formats are those of the library.
 *
 *  What a message says is text and stays text: a control token that is spelled in it is not taken for one. Pictures are parts of messages; the token that
 *  stands for a picture is put where the part stands. The pictures themselves go to the session, in the same order (sl_session_add_image()).
 *
 *  Formats: "llama3" (Llama 3), "llama3.1" (Llama 3.1, 3.2, 3.3), "llama4", "llama2", "chatml", "mistral-old", "mistral-v1", "mistral-nemo", "mistral-v7", "vicuna" (Vicuna 1.1 and
 *  later, LLaVA 1.5).
 *  White space at both ends of a message is dropped where the format's published template does so. */
#ifndef SPACELLAMA_CHAT_H
#define SPACELLAMA_CHAT_H

#include "image.h"
#include "tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @name Limits on conversations
 *  What exceeds one is refused with SL_ERR_LIMIT before its text is read. @{ */
#define SL_LIMIT_CHAT_PARTS 1048576         /**< messages of a conversation; parts of all of them */
#define SL_LIMIT_CHAT_BYTES 1073741824      /**< bytes of text of a conversation */
/** @} */

/** A piece of a message: text or a picture, and exactly one of them. */
typedef struct sl_chat_part {
    size_t size;                /**< sizeof(sl_chat_part) */
    const char *text;           /**< UTF-8, not necessarily terminated (NUL and invalid bytes are allowed), or NULL: a picture */
    size_t length;              /**< bytes of text */
    const sl_image *image;      /**< a picture, or NULL: text */
} sl_chat_part;

/** A message. */
typedef struct sl_chat_message {
    size_t size;                /**< sizeof(sl_chat_message) */
    const char *role;           /**< "system", "user" or "assistant", terminated */
    const sl_chat_part *parts;  /**< in the order of the message; all with the same `size` */
    size_t n_parts;             /**< at least 1. An empty message has a part with length 0 */
} sl_chat_message;

#define SL_CHAT_CLOSED 1u       /**< the conversation ends with its last message; 0: what opens the assistant's answer is appended. "llama3" always appends it, as its template does */

/** How to encode. Zero (or NULL) means the default. */
typedef struct sl_chat_options {
    size_t size;                /**< sizeof(sl_chat_options) */
    const char *format;         /**< name of a format; NULL: the model's own, see sl_chat_format() */
    /** The day that "llama3.1" tells the model in its system message ("Today Date: ..."), at most 256 bytes. NULL: "26 Jul 2024", which its template falls back to:
     *  the library reads no clock, so that the same conversation gives the same ids on every day. In conversations with pictures the format has no such lines. */
    const char *date;
    uint32_t flags;             /**< SL_CHAT_CLOSED */
    uint32_t reserved;          /**< 0 */
} sl_chat_options;

/** Initializer: all defaults. */
#define SL_CHAT_OPTIONS_INIT { sizeof(sl_chat_options) }
/** Writes the defaults into a structure of `size` bytes. Since 0.1. */
SL_API sl_status sl_chat_options_default(sl_chat_options *out, size_t size);

/** Turns the `n_messages` messages (at least 1, all with the same `size`) into ids, the token that begins a text included: nothing else is to be added.
 *  Writes at most `capacity` ids and sets *n_ids to the number of the whole conversation; SL_ERR_BUFFER if that is more (ids may be NULL
 *  when capacity is 0). SL_ERR_UNSUPPORTED: the model has no known format and none is named, the named one is not known, the format has no such role, or there is a picture and the model takes
 *  none; SL_ERR_ARGUMENT: NULL, an unknown role, an order of roles that the format refuses; SL_ERR_MISSING: the vocabulary lacks a token of the format;
 *  SL_ERR_STATE: the model has no vocabulary. Any thread. Since 0.1. */
SL_API sl_status sl_chat_encode(const sl_model *model, const sl_chat_message *messages, size_t n_messages, const sl_chat_options *options,
                                sl_token *ids, size_t capacity, size_t *n_ids);

/** The format of the model: recognised by what its tokenizer.chat_template holds or, if the file has no template, by the tokens of its
 *  vocabulary. NULL if none is recognised (also for NULL): then the caller must name one. Static text. Any thread. Since 0.1. */
SL_API const char *sl_chat_format(const sl_model *model);
/** Name of the index-th format of this build; NULL past the end. Static text. Any thread. Since 0.1. */
SL_API const char *sl_chat_format_name(size_t index);

#ifdef __cplusplus
}
#endif
#endif
