/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Command lines and environments, read out of a task's memory by way of its page tables: no lock, no page fault,
 * nothing that waits.
 *
 * Nothing here holds the pages or the tables, so every one of them may be freed, and hold something of another process,
 * while it is read. What was read is discarded unless all this stood still from before the walk to after the copy:
 *
 * - task->mm and task->real_cred (see `fill`): the memory descriptor, and with it the topmost table, was not freed;
 * - what shows that pages of it were given back (page_tables.h);
 * - mm->mm_lock_seq, and nobody holds the lock: the mapping that was looked at is the one that the page belongs to.
 *   It must be anonymous, as for /proc/PID/cmdline: so neither devices nor hugetlbfs, which shares tables, come here.
 *   Without that number the mapping is looked at again before the last look at those signs: what takes a mapping away
 *   flushes the entries of its pages, so it is still the one that the page belonged to. (That it is one of this memory
 *   it says itself: one that was given up may be another's.)
 * - the last entries themselves, the four addresses and (see `fill`), where the reader does not see all, if the task may
 *   be dumped.
 *
 * What is not plain (long, rewritten by the process, not all in memory) are left to user space. */
#pragma once
#include "memory/memory.h"
#include "memory/page_tables.h"
#include "tasks/record.h"

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct slot);
} slots SEC(".maps");

#define LONGEST_ENVIRONMENT 16384

/* Does /proc/PID/cmdline read these bytes? It reads mappings that are anonymous and readable. */
GLOBAL u32 is_anonymous(u64 memory, u64 start, u64 end) {
    enum { VM_READ = 1, VM_PFNMAP = 0x400, VM_IO = 0x4000, VM_MIXEDMAP = 0x10000000 };
    u64 address = mapping_at(memory, start);
    if (!address) return 0;
    struct vm_area_struct *area = at(struct vm_area_struct, address);
    return address_in(area, vm_mm) == memory && get(area->vm_start) <= start && get(area->vm_end) >= end && !address_in(area, vm_ops) &&
           (get(area->vm_flags) & (VM_READ | VM_PFNMAP | VM_IO | VM_MIXEDMAP)) == VM_READ;
}

/* Copies bytes of one page of a memory to slot->bytes[to]; 0 if that went well. */
GLOBAL u32 copy(struct slot *slot, u64 to, u64 length, u64 memory, u64 address) {
    if (!slot || to > LINE_BYTES - PAGE || length > PAGE) return 1;
    u64 place = page_entry(memory, address), entry = word_at(place), page = page_of(entry);
    if (!page || bpf_probe_read_kernel(&slot->bytes[to], length, (void *)(page + (address & (PAGE - 1))))) return 1;
    return ((word_at(place) ^ entry) & ~ACCESSED_DIRTY) != 0;
}

/* Copies the bytes from start to end of a memory to slot->bytes[to]; 0 if that went well. */
GLOBAL u32 copy_all(struct slot *slot, u64 to, u64 memory, u64 start, u64 end) {
    if (!slot) return 1;
    for (int page = 0; page <= LONGEST_ENVIRONMENT / PAGE && start < end; page++) {
        u64 part = PAGE - (start & (PAGE - 1));
        if (part > end - start) part = end - start;
        if (copy(slot, to, part, memory, start)) return 1;
        start += part;
        to += part;
    }
    return 0;
}

/* Notes what must stand still while a memory is read; 0 where it does not. */
GLOBAL u32 note_standing(struct standing *standing, u64 memory) {
    if (!standing) return 0;
    struct mm_struct *mm = at(struct mm_struct, memory);
    standing->given_back = pages_given_back(mm);
    standing->sequence = lock_sequence(mm);
    if (being_written(mm)) return 0;
    standing->places[THE_ARGUMENTS] = fresh(mm->arg_start);
    standing->places[THE_ARGUMENTS + 1] = fresh(mm->arg_end);
    standing->places[THE_ENVIRONMENT] = fresh(mm->env_start);
    standing->places[THE_ENVIRONMENT + 1] = fresh(mm->env_end);
    return 1;
}

/* Is all that as it was noted? */
GLOBAL u32 still_stands(struct standing *standing, u64 memory) {
    if (!standing) return 0;
    struct mm_struct *mm = at(struct mm_struct, memory);
    if (standing->places[THE_ARGUMENTS] != fresh(mm->arg_start) ||
        standing->places[THE_ARGUMENTS + 1] != fresh(mm->arg_end) ||
        standing->places[THE_ENVIRONMENT] != fresh(mm->env_start) ||
        standing->places[THE_ENVIRONMENT + 1] != fresh(mm->env_end))
        return 0;
    if (being_written(mm) || standing->sequence != lock_sequence(mm)) return 0;
    return standing->given_back == pages_given_back(mm);
}

/* Reads the command line of a memory, or its environment, into slot->bytes from `to` on. Returns the length or UNTOLD.
 * Whether the task had this memory all the while is for the caller to see, afterwards, and whether it might be dumped. */
GLOBAL u32 read_area(struct slot *slot, struct view *view, u32 to, u64 memory, u32 which) {
    if (!slot || !view || which > THE_ENVIRONMENT) return UNTOLD;
    if (!note_standing(&view->standing, memory)) return UNTOLD;
    u64 start = view->standing.places[which], end = view->standing.places[which + 1];
    u64 length = view->standing.places[THE_ENVIRONMENT + 1] && start < end ? end - start : 0;
    if (which == THE_ENVIRONMENT && start > end && end) return UNTOLD;
    if (length > (which == THE_ARGUMENTS ? LONGEST_LINE : LONGEST_ENVIRONMENT)) return UNTOLD;
    if (length) {
        if (is_beyond_tables(end) || !is_anonymous(memory, start, end)) return UNTOLD;
        if (copy_all(slot, to, memory, start, end)) return UNTOLD;
        u64 last = to + length - 1;
        barrier_var(last);
        if (last >= LINE_BYTES || (which == THE_ARGUMENTS && slot->bytes[last])) return UNTOLD;
    }
    smp_rmb();
    if (length && !is_sequenced() && !is_anonymous(memory, start, end)) return UNTOLD;
    return still_stands(&view->standing, memory) ? length : UNTOLD;
}
