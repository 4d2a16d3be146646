/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* What mappings.bpf.c shares with the driver. */
#pragma once
#include "files/names.h"

struct mapping {
    u64 start, end;
    u64 flags;  /* the kernel's vm_flags */
    u64 offset; /* bytes */
    u64 inode;
    u32 device; /* the kernel's dev_t: 12 bits major, 20 bits minor */
    u32 generation;
    u32 name; /* its place in slot.names; 0 for none */
    u32 kind;
};
enum kind {
    ANONYMOUS,
    FROM_FILE,
    UNRESOLVED, /* a file whose name only the kernel can tell: read the link in map_files */
};
enum target_state {
    COMPLETE,
    PARTIAL, /* goes on from address `resume` */
    NO_MEMORY,
    ABSENT,
    BUSY, /* it kept changing: ask /proc */
};

#define TARGETS 512
#define MAPPINGS 16384
struct target {
    u32 id, state, first, count;
    u64 start_time, exec_id; /* of the program instance whose mappings these are */
};
struct mapping_request {
    u32 reader, targets, limit; /* in */
    u32 done;                   /* out: targets answered; a PARTIAL one is the last */
    u64 resume;                 /* in and out: of the first target, and of a PARTIAL one: where its list goes on */
    u32 mappings, names;        /* out */
};
struct mapping_slot {
    struct mapping_request request;
    struct target targets[TARGETS];
    struct mapping mappings[MAPPINGS];
    struct names names;
};
