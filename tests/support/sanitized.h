/* SPDX-License-Identifier: MIT */
/* sanitized.h - SANITIZED is defined where a sanitizer is built in: frames are larger, everything is ten times slower. WHEN_SANITIZED(a, b) is a there, and b elsewhere.
 * WHEN_SLOW(a, b) is a there and where an emulator runs the tests, which is slower still. */
#ifndef SANITIZED_H
#define SANITIZED_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#ifdef SANITIZED
#define WHEN_SANITIZED(a, b) (a)
#else
#define WHEN_SANITIZED(a, b) (b)
#endif

#if defined(SANITIZED) || defined(EMULATED)
#define WHEN_SLOW(a, b) (a)
#else
#define WHEN_SLOW(a, b) (b)
#endif

#endif
