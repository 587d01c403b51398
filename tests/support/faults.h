/* SPDX-License-Identifier: MIT */
/* faults.h - stands between the library and the system: the n-th call of a kind fails, or every one from the n-th on. And takes stock of what is held: memory, open
 * files, threads. A program that uses it must be linked with the shared library, whose calls then come here first. For one thread at a time, but for what workers do. */
#ifndef SL_TESTS_FAULTS_H
#define SL_TESTS_FAULTS_H

#include <spacellama/host.h>

typedef enum fault {
    FAULT_MEMORY,           /* the host's allocator */
    FAULT_C_MEMORY,         /* malloc, calloc, realloc: only codecs of pictures call them. Not under a sanitizer */
    FAULT_THREAD,           /* pthread_create. Not under a sanitizer, which stands there itself */
    FAULT_LOCK_MADE,        /* pthread_mutex_init, pthread_cond_init */
    FAULT_OPEN, FAULT_STAT, FAULT_READ, FAULT_MAP,
    FAULT_END,              /* a read finds the end of the file: somebody cut it */
    FAULT_INTERRUPT,        /* EINTR from open, pread, pwrite, fsync */
    FAULT_PIECES,           /* pread and pwrite do half of what was asked for */
    FAULT_WRITE, FAULT_FULL, FAULT_SYNC, FAULT_RENAME, FAULT_TRUNCATE, FAULT_CLOSE,
    FAULT_LOCK, FAULT_LOCKED,   /* flock: there are none here; somebody has it */
    FAULT_SURROUNDINGS,     /* open of what is not in the folder of the test: /proc, /sys */
    FAULT_CALLBACK,         /* the test's own callbacks: they ask fault_now(FAULT_CALLBACK) */
    FAULT_CANCEL,           /* the same: callbacks that may end a call */
    FAULT_COUNT
} fault;

/* Only files whose path begins with it count. The text must stay. */
void faults_folder(const char *folder);
/* From now on: call number `at` (from 1) of the kind fails; `persistent` 1: and all after it. */
void faults_arm(fault kind, unsigned at, int persistent);
/* Nothing fails any more; returns how many calls of the kind there were. */
unsigned faults_disarm(void);
/* While held, nothing fails and nothing counts: for checks in between. Nests. */
void faults_hold(void);
void faults_release(void);
/* 1 if this call is to fail. */
int fault_now(fault kind);

sl_allocator faults_allocator(void);

/* What is held. */
typedef struct stock { size_t blocks, bytes, files, threads; int wrong; } stock;
stock faults_stock(void);
/* Waits until threads that were joined are gone; what is there then. */
stock faults_stock_like(const stock *wanted);

#endif
