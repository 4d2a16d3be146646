/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* What files.bpf.c shares with the driver. */
#pragma once
#include "files/names.h"

struct open_file {
    u64 position, inode;
    u32 fd;
    u32 flags;  /* O_*, O_CLOEXEC too */
    u32 device; /* the kernel's dev_t: 12 bits major, 20 bits minor */
    u32 name;   /* its place in slot.names */
    u32 kind;
    u32 type; /* the upper four bits of the inode's mode */
};
enum kind {
    NAMED,
    NAMESPACE, /* `name:[inode]` */
    PIPE,      /* without name: `pipe:[inode]` */
    SOCKET,
    PIDFD,
};
enum wants { LINKS = 1 << 0, DESCRIPTORS = 1 << 1 };
enum target_state {
    COMPLETE,
    PARTIAL, /* goes on from descriptor `resume` */
    ABSENT,
    BUSY, /* it kept changing, or has a name that only the kernel can tell: ask /proc */
};

#define TARGETS 512
#define FILES 16384
struct target {
    u32 id, wants;
    u32 state, first, count;
    u32 exe, cwd, root; /* places in slot.names; 0 for none */
    u64 start_time, exec_id; /* of the program instance whose files these are */
};
struct files_request {
    /* in */
    u32 reader, targets;
    u32 resume; /* in and out: of the first target, and of the last one answered if it is PARTIAL: where its list goes on */
    /* out */
    u32 done; /* targets answered; a PARTIAL one is the last */
    u32 files, names;
};
struct files_slot {
    struct files_request request;
    struct target targets[TARGETS];
    struct open_file files[FILES];
    struct names names;
};
