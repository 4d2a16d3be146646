/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Command lines and environments, read out of a task's memory by way of its page tables: no lock, no page fault,
 * nothing that waits.
 *
 * Nothing here holds the pages or the tables, so every one of them may be freed, and hold something of another process,
 * while it is read. What was read is discarded unless all this stood still from before the walk to after the copy:
 *
 * - task->mm and task->real_cred (see `fill`): the memory descriptor, and with it the topmost table, was not freed;
 * - mm->context.tlb_gen: a processor may have any translation in its TLB, so before a page or a table that was reached
 *   by an entry of this memory is given back, the entry is cleared and then the TLBs are flushed, and on x86 each flush
 *   for a memory raises this number first: with a locked instruction, whether or not the memory runs anywhere, for a
 *   whole memory that ends, and for reclaim that puts the flush itself off (it raises the number at once). So
 *   - an entry that we find set was still to be cleared when we had read the number, and whatever it led to could
 *     be freed only after the number was raised;
 *   - if we had read anything that was written after that, we would read the raised number too: x86 shows loads in
 *     program order, and stores to all others in one order.
 *   This goes for tables as for pages, one level after the other: a table found by a live entry is live.
 *   An entry that is not present (swapped, being migrated, PROT_NONE) may be changed without a flush: it is not used.
 * - mm->mm_lock_seq, and nobody holds the lock: the mapping that was looked at is the one that the page belongs to.
 *   It must be anonymous, as for /proc/PID/cmdline: so neither devices nor hugetlbfs, which shares tables, come here.
 * - the last entries themselves, the four addresses and (see `fill`), where the reader does not see all, if the task may
 *   be dumped.
 *
 * What is not plain (long, rewritten by the process, not all in memory) are left to user space. */
#pragma once
#include "memory/memory.h"
#include "tasks/record.h"

/* Where the kernel maps all memory, 0 while unknown; where that memory ends; the shift of the topmost table's index. */
u64 direct_map, memory_end;
u32 top_shift;

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct slot);
} slots SEC(".maps");

#define PAGE 4096
#define LONGEST_ENVIRONMENT (4 * PAGE)
#define FRAME 0x000ffffffffff000ull
#define PRESENT (1ull << 0)
#define USER (1ull << 2)
#define HUGE (1ull << 7)
/* Not plain cached memory (PWT, PCD, PAT), _PAGE_SPECIAL. */
#define PECULIAR (1ull << 3 | 1ull << 4 | 1ull << 7 | 1ull << 9)
#define ACCESSED_DIRTY (1ull << 5 | 1ull << 6)

/* What each flush of the memory's TLB entries raises. */
static u64 tlb_generation(struct mm_struct *mm) {
    return bpf_core_field_exists(mm->context.tlb_gen) ? fresh(mm->context.tlb_gen.counter) : 0;
}

/* The place of the entry for `address` in the table that an entry leads to; 0 for none. */
static u64 entry_in_next(u64 entry, u64 address, u32 shift) {
    if ((entry & (PRESENT | HUGE)) != PRESENT || (entry & FRAME) >= memory_end) return 0;
    return direct_map + (entry & FRAME) + (address >> shift & 511) * 8;
}

/* The place of the last entry for an address; 0 for none. */
GLOBAL u64 page_entry(u64 memory, u64 address) {
    u32 shift = top_shift;
    u64 place = address_in(at(struct mm_struct, memory), pgd) + (address >> (shift & 63) & 511) * 8;
    for (int depth = 0; depth < 4; depth++) {
        if (shift <= 12 || !place) break;
        shift -= 9;
        place = entry_in_next(word_at(place), address, shift & 63);
    }
    return place;
}

/* Where the kernel itself finds the bytes of a user's page; 0 where it is no plain one. */
static u64 page_of(u64 entry) {
    if ((entry & (PRESENT | USER | PECULIAR)) != (PRESENT | USER) || (entry & FRAME) >= memory_end) return 0;
    return direct_map + (entry & FRAME);
}

/* Does /proc/PID/cmdline read these bytes? It reads mappings that are anonymous and readable. */
GLOBAL u32 is_anonymous(u64 memory, u64 start, u64 end) {
    enum { VM_READ = 1, VM_PFNMAP = 0x400, VM_IO = 0x4000, VM_MIXEDMAP = 0x10000000 };
    u64 address = mapping_at(memory, start);
    if (!address) return 0;
    struct vm_area_struct *area = at(struct vm_area_struct, address);
    return area->vm_start <= start && area->vm_end >= end && !address_in(area, vm_ops) &&
           (area->vm_flags & (VM_READ | VM_PFNMAP | VM_IO | VM_MIXEDMAP)) == VM_READ;
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
    standing->generation = tlb_generation(mm);
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
    return standing->generation == tlb_generation(mm);
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
        if (end >> ((top_shift + 8) & 63) || !is_anonymous(memory, start, end)) return UNTOLD;
        if (copy_all(slot, to, memory, start, end)) return UNTOLD;
        u64 last = to + length - 1;
        barrier_var(last);
        if (last >= LINE_BYTES || (which == THE_ARGUMENTS && slot->bytes[last])) return UNTOLD;
    }
    return still_stands(&view->standing, memory) ? length : UNTOLD;
}

/* Set by the driver: pages of its own with random bytes, by which `find_direct_map` sees that it has found it. */
#define SAMPLES 8
#define SAMPLE_WORDS 8
u64 sample_addresses[SAMPLES], sample_words[SAMPLES * SAMPLE_WORDS];
/* And what came of it: how often its TLB entries had been flushed. */
u64 flushes;

/* Do the samples stand where the tables lead to, with direct_map as it is? */
GLOBAL u32 samples_stand(u64 memory) {
    u32 i, word;
    bpf_for(i, 0, SAMPLES) {
        u64 address = sample_addresses[i & (SAMPLES - 1)], page = page_of(word_at(page_entry(memory, address)));
        if (!page) return 0;
        bpf_for(word, 0, SAMPLE_WORDS) {
            u64 here = word_at(page + (address & (PAGE - 1)) + word * 8);
            if (here != sample_words[(i * SAMPLE_WORDS + word) & (SAMPLES * SAMPLE_WORDS - 1)]) return 0;
        }
    }
    return 1;
}

/* Finds the direct map, or leaves it unknown. The topmost table lies in it, and it begins at some whole GiB. */
GLOBAL u32 find_direct_map(u64 memory) {
    const u64 step = 1ull << 30;
    struct mm_struct *mm = at(struct mm_struct, memory);
    u64 top = address_in(mm, pgd), base = top & -step;
    bpf_repeat(1 << 16) {
        if (top - base >= memory_end) break;
        for (u32 levels = 4; levels <= 5; levels++) {
            direct_map = base;
            top_shift = 3 + 9 * levels;
            if (samples_stand(memory)) return 1;
        }
        base -= step;
    }
    direct_map = 0;
    return 0;
}
