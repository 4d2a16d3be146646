/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* A memory's pages, found by way of its page tables: what of that is the processor's own.
 *
 * pages_given_back() is what command_line.h counts on: it changes before any page or table of a memory is given back. */
#pragma once
#include "memory/memory.h"

/* Where the kernel maps all memory, 0 while unknown; where that memory ends; the shift of the topmost table's index. */
u64 direct_map, memory_end;
u32 top_shift;

/* Set by the driver: pages of its own with random bytes, by which `find_direct_map` sees that it has found it. */
#define SAMPLES 8
#define SAMPLE_WORDS 8
u64 sample_addresses[SAMPLES], sample_words[SAMPLES * SAMPLE_WORDS];
/* And what came of it: how often its TLB entries had been flushed. */
u64 flushes;

#ifdef __TARGET_ARCH_x86
#include "memory/x86_64.h"
#else
#include "memory/arm64.h"
#endif
