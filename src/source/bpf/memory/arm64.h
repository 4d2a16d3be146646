/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* arm64, and every other processor but x86-64: memory is not read by way of page tables, but by user space through the
 * kernel, and nothing here finds a page.
 *
 * What was read with neither a lock nor a reference counts only if it shows afterwards that no page or table was given
 * back meanwhile. That the last entry is as it was does not show it: a page can be given back, serve another process and
 * come again to the same place, as one that was just freed is the first to be handed out. It takes a number of this
 * memory that only grows and is raised before anything is given back. x86-64 counts the flushes of each memory, for
 * processors that are late. arm64 flushes the TLBs of all processors with instructions, and nothing is written down:
 *
 * - mm->tlb_flush_pending is lowered again once a range was flushed, and reclaim, migration, merging and copy-on-write,
 *   which flush single entries, do not touch it; mm->tlb_flush_batched is reclaim's alone;
 * - mm->context.id changes when all ASIDs were used up, not when entries are flushed;
 * - mm->mm_lock_seq is raised by who changes mappings; MADV_DONTNEED, reclaim, migration, merging and copy-on-write take
 *   the lock for reading or not at all;
 * - faults are counted for the thread that had them, which need not be one of this memory, and not all that puts a page in
 *   place is a fault;
 * - frees are counted for each processor, and on a machine at work these numbers never stand still.
 *
 * RCU keeps tables only, and not on every kernel (tlb_remove_table_one() may wait for an interrupt of every processor
 * instead), never pages. bpf_copy_from_user_task() takes references, but waits for the memory's lock and for page faults, which a
 * process can hold up for as long as it likes: that is for threads with a deadline, not for a run that serves many. */
#pragma once

#define PAGE 4096
#define ACCESSED_DIRTY 0

static u64 pages_given_back(struct mm_struct *mm) {
    return 0;
}

static bool is_beyond_tables(u64 end) {
    return 1;
}

static u64 top_entry(u64 memory, u64 address) {
    return 0;
}

static u64 entry_in_next(u64 entry, u64 address, u32 shift) {
    return 0;
}

static u64 page_entry(u64 memory, u64 address) {
    return 0;
}

static u64 page_of(u64 entry) {
    return 0;
}

static u32 find_direct_map(u64 memory) {
    return 0;
}
