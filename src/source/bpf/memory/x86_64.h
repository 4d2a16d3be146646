/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Page tables of x86-64: pages of 4 KiB, four levels or five. */
#pragma once

#define PAGE 4096
#define FRAME 0x000ffffffffff000ull
#define PRESENT (1ull << 0)
#define USER (1ull << 2)
#define HUGE (1ull << 7)
/* Not plain cached memory (PWT, PCD, PAT), _PAGE_SPECIAL. */
#define PECULIAR (1ull << 3 | 1ull << 4 | 1ull << 7 | 1ull << 9)
#define ACCESSED_DIRTY (1ull << 5 | 1ull << 6)

/* What each flush of a memory's TLB entries raises, and so whoever gives back pages or tables of it:
 *
 * A processor may have any translation in its TLB, so before a page or a table that was reached by an entry of this
 * memory is given back, the entry is cleared and then the TLBs are flushed, and here each flush for a memory raises this
 * number first: with a locked instruction, whether or not the memory runs anywhere, for a whole memory that ends, and
 * for reclaim that puts the flush itself off (it raises the number at once). So
 * - an entry that we find set was still to be cleared when we had read the number, and whatever it led to could be freed
 *   only after the number was raised;
 * - if we had read anything that was written after that, we would read the raised number too: x86 shows loads in program
 *   order, and stores to all others in one order.
 * This goes for tables as for pages, one level after the other: a table found by a live entry is live.
 * An entry that is not present (swapped, being migrated, PROT_NONE) may be changed without a flush: it is not used. */
static u64 pages_given_back(struct mm_struct *mm) {
    return bpf_core_field_exists(mm->context.tlb_gen) ? fresh(mm->context.tlb_gen.counter) : 0;
}

/* The place of the entry for `address` in the table that an entry leads to; 0 for none. */
static u64 entry_in_next(u64 entry, u64 address, u32 shift) {
    if ((entry & (PRESENT | HUGE)) != PRESENT || (entry & FRAME) >= memory_end) return 0;
    return direct_map + (entry & FRAME) + (address >> shift & 511) * 8;
}

/* The place of the topmost entry for an address. */
static u64 top_entry(u64 memory, u64 address) {
    return address_in(at(struct mm_struct, memory), pgd) + (address >> (top_shift & 63) & 511) * 8;
}

static bool is_beyond_tables(u64 end) {
    return end >> ((top_shift + 8) & 63);
}

/* The place of the last entry for an address; 0 for none. */
GLOBAL u64 page_entry(u64 memory, u64 address) {
    u32 shift = top_shift;
    u64 place = top_entry(memory, address);
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
    if (!bpf_core_field_exists(mm->context.tlb_gen)) return 0;
    flushes = pages_given_back(mm);
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
