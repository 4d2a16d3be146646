/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The tree of a task's mappings, walked without its lock: what it says counts only if the sequence number that every
 * writer raises stood still meanwhile; before Linux 6.4, which has none, if a second look finds the same. */
#pragma once
#include "kernel/find.h"

/* Has the lock a sequence number? */
static bool is_sequenced(void) {
    struct mm_struct *mm = 0;
    struct mm_struct___counted *counted = 0;
    return bpf_core_field_exists(mm->mm_lock_seq) || bpf_core_field_exists(counted->mm_lock_seq);
}

/* It, or 0. */
static u32 lock_sequence(struct mm_struct *mm) {
    struct mm_struct___counted *counted = (void *)mm;
    if (bpf_core_field_exists(mm->mm_lock_seq)) return int_at(place(mm, mm_lock_seq));
    return bpf_core_field_exists(counted->mm_lock_seq) ? int_at(place(counted, mm_lock_seq)) : 0;
}

/* Is a writer at the tree of mappings? Kernels with a seqcount (since 6.13) make it odd first. Older ones raise the number at
 * the end of a change only, and the lock's word tells: that whoever takes a lock is seen to have it before what it then
 * writes is so on every processor there is, but arm64's architecture does not promise it; what could come of it is a list
 * of two moments. */
static bool being_written(struct mm_struct *mm) {
    if (bpf_core_field_exists(mm->mm_lock_seq) && lock_sequence(mm) & 1) return 1;
    return !bpf_core_field_exists(mm->mmap_lock.count) || fresh(mm->mmap_lock.count.counter) & 1;
}

#define IS_LEAF(node) (((node) >> 3 & 15) == 1)

/* One step down the tree: from a node to the slot for `address`, 0 for none. */
GLOBAL u64 slot_below(u64 node, u64 address) {
    enum { LEAF = 1, RANGE = 2, ALLOC_RANGE = 3 };
    u64 kind = node >> 3 & 15, here = node & ~0xffull, pivots = here, slots = here, chosen = 0;
    if (kind == ALLOC_RANGE) {
        pivots += bpf_core_field_offset(struct maple_arange_64, pivot);
        slots += bpf_core_field_offset(struct maple_arange_64, slot);
    } else {
        pivots += bpf_core_field_offset(struct maple_range_64, pivot);
        slots += bpf_core_field_offset(struct maple_range_64, slot);
        if (kind != LEAF && kind != RANGE) return 0;
    }
    /* How many pivots lie below, without a branch for each: those would be mispredicted. An unused one is 0. */
    for (int i = 0; i < 15; i++) {
        if (i == 9 && kind == ALLOC_RANGE) break;
        chosen += (((word_at(pivots + i * 8) - 1) >> 1) - (address >> 1)) >> 63;
    }
    return word_at(slots + chosen * 8);
}

/* The mapping in which `address` seems to lie, as an address; 0 for none. */
static u64 mapping_at(u64 memory, u64 address) {
    u64 node = address_in(at(struct mm_struct, memory), mm_mt.ma_root);
    for (int depth = 0; depth < 6; depth++) {
        if (!IS_NODE(node)) return 0;
        u64 below = slot_below(node, address);
        if (IS_LEAF(node)) return below & 3 ? 0 : below;
        /* A node's address bears its kind; only the root's is marked as one of the tree's own. */
        node = below | 2;
    }
    return 0;
}
