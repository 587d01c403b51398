/* SPDX-License-Identifier: MIT */
/** @file spacellama.h
 *  The whole interface of libspacellama. Llama-family models from GGUF files, the same bits every time.
 *
 *  @code
 *  #include <spacellama/spacellama.h>
 *  #include <stdio.h>
 *
 *  static int32_t show(const char *text, size_t length, sl_token id, void *user)
 *  {
 *      (void)id, (void)user;
 *      return fwrite(text, 1, length, stdout) != length;
 *  }
 *
 *  int main(int argc, char **argv)
 *  {
 *      sl_model *model = NULL;
 *      sl_session *session = NULL;
 *      sl_token ids[256];
 *      size_t n = 0;
 *      sl_generate_options options = SL_GENERATE_OPTIONS_INIT;
 *      options.max_tokens = 64;
 *      options.on_text = show;
 *      sl_status s = argc == 2 ? sl_model_load(&model, argv[1], NULL) : SL_ERR_ARGUMENT;
 *      if (s == SL_OK)
 *          s = sl_session_create(&session, model, NULL);
 *      if (s == SL_OK)
 *          s = sl_encode(model, "Once upon a time", 16, SL_ENCODE_ADD_SPECIAL, ids, 256, &n);
 *      if (s == SL_OK)
 *          s = sl_generate(session, ids, n, &options, NULL);
 *      if (s != SL_OK)
 *          fprintf(stderr, "%s: %s\n", sl_status_name(s), sl_last_error());
 *      sl_session_free(session);
 *      sl_model_free(model);
 *      return s != SL_OK;
 *  }
 *  @endcode
 *
 *  Rules that hold everywhere: a call that fails returns a status and leaves a sentence in sl_last_error(); nothing aborts, prints or
 *  keeps global state. Handles are freed with their `_free`, which takes NULL. Structures begin with their own size, set by the
 *  initializer or the `_default` function; a member that is 0 has its default; a shorter structure of an older program is fine. Text is UTF-8. */
#ifndef SPACELLAMA_SPACELLAMA_H
#define SPACELLAMA_SPACELLAMA_H

#include "chat.h"
#include "embed.h"
#include "generate.h"
#include "host.h"
#include "image.h"
#include "importance.h"
#include "model.h"
#include "quantize.h"
#include "queue.h"
#include "sampler.h"
#include "sequence.h"
#include "session.h"
#include "state.h"
#include "status.h"
#include "tokenizer.h"
#include "version.h"

#endif
