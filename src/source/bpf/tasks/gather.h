/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* One task into the slot: its record, and of the same moment its command line and its sections. */
#pragma once
#include "tasks/sections.h"

/* Bytes that one task takes at most. */
#define ONE_TASK (2 * PAGE + LONGEST_ENVIRONMENT + LONGEST_LINE)

static bool is_full(const struct view *view) {
    return view->used > LINE_BYTES - ONE_TASK;
}

/* Reads what stands beside a task's record; `fill`, which must come next, sees whether it was of one program. */
static __always_inline void read_ahead(struct view *view, u64 address) {
    struct task_struct *task = at(struct task_struct, address);
    u32 key = view->slot;
    struct slot *slot = bpf_map_lookup_elem(&slots, &key);
    u64 memory = address_in(task, mm), owner;
    view->memory = memory;
    view->credentials = address_in(task, real_cred);
    view->program = program_of(task);
    if (get(task->flags) & PF_KTHREAD) memory = 0;
    if (!view->unguarded) view->guard = guard_of(task, memory, &owner);
    smp_rmb();
    view->length = view->sections_length = UNTOLD;
    view->sections_at = view->used;
    if (!slot || is_full(view)) return;
    if (takes(CMDLINE) && view->options & WITH_LINES && memory)
        view->length = read_area(slot, view, view->used, memory, THE_ARGUMENTS);
    if (!view->sections) return;
    if (view->length != UNTOLD) view->sections_at += view->length;
    view->sections_at = (view->sections_at + 7) & ~7;
    view->sections_length = write_sections(slot, view, address, view->sections_at);
    u32 to = view->sections_at + view->sections_length;
    bool leader = address_in(task, group_leader) == address;
    if (asks(view, ENVIRON) && memory && (leader || !(view->options & THREAD_STAT))) {
        u32 length = read_area(slot, view, to + sizeof(struct section), memory, THE_ENVIRONMENT);
        to += end_environ(slot, to, length);
    }
    view->sections_length = write_sources(slot, view, address, to) + to - view->sections_at;
}

/* Makes what was read last that of the record at view->line. */
GLOBAL u32 keep(struct view *view) {
    if (!view) return 0;
    u32 key = view->slot, place = view->line;
    struct slot *slot = bpf_map_lookup_elem(&slots, &key);
    if (!slot || place >= RECORDS) return 0;
    if (view->options & WITH_LINES) {
        slot->lines[place].at = view->used;
        slot->lines[place].length = view->length;
    }
    slot->sections[place].at = view->sections_at;
    slot->sections[place].length = view->sections_length;
    if (view->sections_length != UNTOLD)
        view->used = view->sections_at + view->sections_length;
    else if (view->length != UNTOLD)
        view->used += view->length;
    return 0;
}

/* Fills a record, again if an exec came between. Returns whether there was such a task. */
GLOBAL u32 gather_one(u64 address, u32 number, struct view *view, struct task_record *record) {
    if (!view || !record) return 0;
    for (int try = 0; try < 4; try++) {
        barrier_var(address); /* as in read_stat */
        if (view->ahead) read_ahead(view, address);
        int result = fill(address, number, view, record);
        if (result == CHANGED) continue;
        if (view->ahead) keep(view);
        return result;
    }
    unsettle(record); /* it never holds still */
    view->length = view->sections_length = UNTOLD;
    if (view->ahead) keep(view);
    return 1;
}
