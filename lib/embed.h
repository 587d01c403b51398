/* SPDX-License-Identifier: MIT */
/* embed.h - vectors of texts from the passes of a session. */
#ifndef SL_EMBED_H
#define SL_EMBED_H

#include "session.h"
#include <spacellama/embed.h>

/* As the public function; no argument is NULL, `options` is whole. */
sl_status sl_embed(sl_session *session, const sl_token *ids, const size_t *lengths, size_t n_texts, const sl_embed_options *options, float *out, size_t n_rows);

#endif
