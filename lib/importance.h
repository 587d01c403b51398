/* SPDX-License-Identifier: MIT */
/* importance.h - making an importance matrix: an observer of a session's products that adds up squares. Reading one: importance_file.h. */
#ifndef SL_IMPORTANCE_H
#define SL_IMPORTANCE_H

#include "session.h"
#include <spacellama/importance.h>

/* As the public functions; arguments have been checked. create does not touch the model's reference count. */
sl_status sl_importance_open(sl_importance **out, sl_session *session, const char *text);
void sl_importance_close(sl_importance *importance);
sl_model *sl_importance_model(const sl_importance *importance);
sl_status sl_importance_put(const sl_importance *importance, sl_gguf_sink *sink, void *user);
sl_status sl_importance_put_file(const sl_importance *importance, const char *path);

#endif
