/* SPDX-License-Identifier: MIT */
/* output.h - files that the library writes: whole or not at all. */
#ifndef SL_OUTPUT_H
#define SL_OUTPUT_H

#include "mem.h"
#include "platform.h"

/* A file on its way to `path`. Its bytes go to "<path>.partial" beside it; sl_output_commit puts them on the disk and renames in one step, so that whoever opens
 * `path`, also after a loss of power, finds the old bytes or all of the new ones. What a process that died left behind is overwritten by the next writer. */
typedef struct sl_output {
    const sl_mem *mem;
    char *path, *partial;
    sl_file *file;
    uint64_t size;              /* appended so far */
} sl_output;

/* Begins. `mem` must live as long. SL_ERR_STATE while another writer, in whatever process, is at work on the same path; SL_ERR_IO. On failure nothing is to be closed. */
sl_status sl_output_open(sl_output *output, const sl_mem *mem, const char *path);
/* Appends. Not buffered: collect small things first. After a failure only sl_output_discard is left to do. */
sl_status sl_output_append(sl_output *output, const void *data, size_t bytes);
/* Writes somewhere before or behind; does not move the place where the next append goes. Several threads may write to places of their own. */
sl_status sl_output_write(sl_output *output, uint64_t offset, const void *data, size_t bytes);
/* Finishes as sl_output_commit; the file that had the name gets the name `keep` (in the same folder) first, if keep is not NULL. A power cut between the two leaves it there. */
sl_status sl_output_commit_keeping(sl_output *output, const char *keep);
/* Finishes: disk, name, disk. Closes on failure too, and then `path` is as it was, unless its folder could not be written back. */
sl_status sl_output_commit(sl_output *output);
/* Gives up: `path` stays as it is. After commit, or on a zeroed structure, it does nothing. */
void sl_output_discard(sl_output *output);

#endif
