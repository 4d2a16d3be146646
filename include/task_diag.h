/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * task_diag.h - the task_diag interface for programs in C (C99) and C++ (C++11).
 *
 * A task-diag daemon serves the file TASK_DIAG_PATH; a kernel with the task_diag patch serves /proc/task-diag. A program
 * writes one request into it ("these groups of attributes, of these tasks"), then reads until a read gives 0 bytes:
 *
 *	int fd = task_diag_open(NULL);
 *	struct task_diag_request request = task_diag_request_for(
 *		TASK_DIAG_SHOW_BASE | TASK_DIAG_SHOW_STAT, TASK_DIAG_DUMP_ALL, 0);
 *	static char buffer[TASK_DIAG_BUFFER];
 *	ssize_t n;
 *
 *	if (fd < 0 || task_diag_ask(fd, &request) < 0)
 *		return errno;				// task_diag_reason(errno) says what that means
 *	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
 *		struct task_diag_bytes rest = task_diag_bytes_of(buffer, (size_t)n);
 *		struct task_diag_message message;
 *
 *		while (task_diag_next_message(&rest, &message) > 0) {
 *			struct task_diag_attribute attribute;
 *			struct task_diag_base base;
 *
 *			while (task_diag_next_attribute(&message.attributes, &attribute) > 0)
 *				if (task_diag_get_base(&attribute, &base) > 0)
 *					printf("%u %.16s\n", base.pid, base.comm);
 *		}
 *	}
 *
 * What to know of it:
 *
 * - One open file is one conversation: no second request before the end of the first (EBUSY), and no two threads at it.
 * - Each read gives whole messages. Each message is one task, or a part of one: where task_diag_continues() says so, the
 *   next message, perhaps of the next read, goes on with the same task. VMA, CMDLINE, GROUPS, CGROUP, FILES, FD and
 *   ENVIRON may be spread over several attributes and messages; the pieces are joined in their order. (Records of VMA,
 *   CGROUP and FD are never split: these lists can be read piece by piece.)
 * - A task without a thing lacks the attribute: a kernel thread or a zombie has no memory. Tasks that the reading thread
 *   may not look at are left out.
 * - read() fails with EMSGSIZE if the next piece is larger than the buffer: read again with a larger one, nothing is
 *   lost. It fails with ENOTCONN once the daemon has ended (task_diag_is_gone()): open the file again.
 * - Structures grow at their end. What follows the part that this header knows is ignored, as are unknown attributes.
 * - All integers are in the machine's byte order.
 *
 * Nothing here allocates, and the decoders read no byte beyond what they are given, whatever the bytes say. Every
 * iterator gives 1 and a piece, 0 at the end, or -1 where the bytes are malformed; after -1 it is at its end.
 *
 * Attributes 0 to 4, their structures, the strategies and the mapping flags are those of the kernel patch's last public
 * header. The numbers of 5 and 6, the order of the fields of 6, and everything from 32 up are the task-diag project's
 * own. docs/protocol.md is the reference.
 */
#ifndef TASK_DIAG_H
#define TASK_DIAG_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where a daemon serves the interface unless told otherwise, and the text file beside it that says what it offers. */
#define TASK_DIAG_PATH "/run/task_diag/task_diag"
#define TASK_DIAG_INFO_PATH "/run/task_diag/info"

/* A good length for read(): larger ones gain little. */
#define TASK_DIAG_BUFFER (160 * 1024)

/* Fails to compile where a structure is not laid out as on the wire. */
#define TASK_DIAG_ASSERT(name, condition) typedef char task_diag_assert_##name[(condition) ? 1 : -1]
#define TASK_DIAG_ASSERT_SIZE(type, size) TASK_DIAG_ASSERT(type##_size, sizeof(struct type) == (size))
#define TASK_DIAG_ASSERT_AT(type, field, offset) \
	TASK_DIAG_ASSERT(type##_##field, offsetof(struct type, field) == (offset))

/* ---- What can be asked for ------------------------------------------------------------------------------------- */

/* Numbers of attributes. A request's bit of the same number asks for each. */
#define TASK_DIAG_BASE 0	/* struct task_diag_base */
#define TASK_DIAG_CRED 1	/* struct task_diag_creds */
#define TASK_DIAG_VMA 2		/* a list of struct task_diag_vma: task_diag_next_mapping() */
#define TASK_DIAG_VMA_STAT 3	/* a bit only: adds struct task_diag_vma_stat to each mapping of TASK_DIAG_VMA */
#define TASK_DIAG_STAT 4	/* struct task_diag_stat */
#define TASK_DIAG_CMDLINE 5	/* the bytes of /proc/PID/cmdline; this number is the project's own */
#define TASK_DIAG_STATM 6	/* struct task_diag_statm; this number is the project's own */
/* From 32 up: groups that the kernel patch does not have. The file "info" lists those of a server. */
#define TASK_DIAG_TASKSTATS 32	/* the bytes of struct taskstats of <linux/taskstats.h>; a __u16, its version, is first */
#define TASK_DIAG_GROUPS 33	/* struct task_diag_groups and the supplementary group ids */
#define TASK_DIAG_SCHED 34	/* struct task_diag_sched */
#define TASK_DIAG_IO 35		/* struct task_diag_io */
#define TASK_DIAG_CGROUP 36	/* a list of struct task_diag_cgroup: task_diag_next_cgroup() */
#define TASK_DIAG_NS 37		/* struct task_diag_ns, inodes of namespaces, ids of the task in them */
#define TASK_DIAG_FILES 38	/* struct task_diag_files: program, working directory, root */
#define TASK_DIAG_FD_COUNT 39	/* struct task_diag_fd_count */
#define TASK_DIAG_FD 40		/* a list of struct task_diag_fd: task_diag_next_fd() */
#define TASK_DIAG_ROLLUP 41	/* struct task_diag_rollup */
#define TASK_DIAG_ENVIRON 42	/* the bytes of /proc/PID/environ */
#define TASK_DIAG_MISC 43	/* struct task_diag_misc */
#define TASK_DIAG_MISSING 44	/* uint64_t: bits of the groups that could not be read in time */

/* Bits of task_diag_request.show_flags. */
#define TASK_DIAG_BIT(id) ((uint64_t)1 << (id))
#define TASK_DIAG_SHOW_BASE TASK_DIAG_BIT(TASK_DIAG_BASE)
#define TASK_DIAG_SHOW_CRED TASK_DIAG_BIT(TASK_DIAG_CRED)
#define TASK_DIAG_SHOW_VMA TASK_DIAG_BIT(TASK_DIAG_VMA)
#define TASK_DIAG_SHOW_VMA_STAT TASK_DIAG_BIT(TASK_DIAG_VMA_STAT)
#define TASK_DIAG_SHOW_STAT TASK_DIAG_BIT(TASK_DIAG_STAT)
#define TASK_DIAG_SHOW_CMDLINE TASK_DIAG_BIT(TASK_DIAG_CMDLINE)
#define TASK_DIAG_SHOW_STATM TASK_DIAG_BIT(TASK_DIAG_STATM)
#define TASK_DIAG_SHOW_TASKSTATS TASK_DIAG_BIT(TASK_DIAG_TASKSTATS)
#define TASK_DIAG_SHOW_GROUPS TASK_DIAG_BIT(TASK_DIAG_GROUPS)
#define TASK_DIAG_SHOW_SCHED TASK_DIAG_BIT(TASK_DIAG_SCHED)
#define TASK_DIAG_SHOW_IO TASK_DIAG_BIT(TASK_DIAG_IO)
#define TASK_DIAG_SHOW_CGROUP TASK_DIAG_BIT(TASK_DIAG_CGROUP)
#define TASK_DIAG_SHOW_NS TASK_DIAG_BIT(TASK_DIAG_NS)
#define TASK_DIAG_SHOW_FILES TASK_DIAG_BIT(TASK_DIAG_FILES)
#define TASK_DIAG_SHOW_FD_COUNT TASK_DIAG_BIT(TASK_DIAG_FD_COUNT)
#define TASK_DIAG_SHOW_FD TASK_DIAG_BIT(TASK_DIAG_FD)
#define TASK_DIAG_SHOW_ROLLUP TASK_DIAG_BIT(TASK_DIAG_ROLLUP)
#define TASK_DIAG_SHOW_ENVIRON TASK_DIAG_BIT(TASK_DIAG_ENVIRON)
#define TASK_DIAG_SHOW_MISC TASK_DIAG_BIT(TASK_DIAG_MISC)
#define TASK_DIAG_SHOW_MISSING TASK_DIAG_BIT(TASK_DIAG_MISSING)

/* Values of task_diag_request.dump_strategy: which tasks. */
#define TASK_DIAG_DUMP_ALL 0		/* every process */
#define TASK_DIAG_DUMP_ONE 1		/* the task pid */
#define TASK_DIAG_DUMP_ALL_THREAD 2	/* every thread of every process */
#define TASK_DIAG_DUMP_CHILDREN 3	/* the tasks whose parent is exactly the task (thread) pid */
#define TASK_DIAG_DUMP_THREAD 4		/* every thread of the process that pid is a thread of */
/* Not of the kernel patch. The file "info" lists the strategies of a server. */
#define TASK_DIAG_DUMP_SET 16		/* the tasks listed behind the request: task_diag_set_request() */
#define TASK_DIAG_DUMP_SUBTREE 17	/* the process that pid is a thread of, its children, theirs, and so on */

/* The most ids of TASK_DIAG_DUMP_SET in one request: up to 64 KiB are taken whole. */
#define TASK_DIAG_SET_MAX ((64 * 1024 - 44) / 4)

/* nlmsg_type of requests and of messages; nlmsg_flags of requests (never looked at) and of messages. */
#define TASK_DIAG_CMD_GET 0xd101
#define TASK_DIAG_NLM_F_REQUEST 1
#define TASK_DIAG_NLM_F_MULTI 2

/* task_diag_msg.flags: the task goes on in the next message. Other bits mean nothing. */
#define TASK_DIAG_FLAG_CONT 1

/* ---- The structures of the wire -------------------------------------------------------------------------------- */

/* What is written: struct nlmsghdr, then struct task_diag_pid of the kernel patch. */
struct task_diag_request {
	uint32_t nlmsg_len;	/* 40, or more: what follows is ignored, but for SET */
	uint16_t nlmsg_type;	/* never looked at */
	uint16_t nlmsg_flags;	/* never looked at */
	uint32_t nlmsg_seq;	/* echoed in every message of the answer */
	uint32_t nlmsg_pid;	/* never looked at */
	uint64_t show_flags;	/* TASK_DIAG_SHOW_*; unknown bits are ignored */
	uint64_t dump_strategy;	/* TASK_DIAG_DUMP_* */
	uint32_t pid;		/* of all but ALL, ALL_THREAD and SET: any thread's id, in the reader's pid namespace */
	uint32_t pad;
};
TASK_DIAG_ASSERT_SIZE(task_diag_request, 40);
TASK_DIAG_ASSERT_AT(task_diag_request, show_flags, 16);
TASK_DIAG_ASSERT_AT(task_diag_request, dump_strategy, 24);
TASK_DIAG_ASSERT_AT(task_diag_request, pid, 32);

/* What every message begins with: struct nlmsghdr, then struct task_diag_msg of the kernel patch. */
struct task_diag_message_header {
	uint32_t nlmsg_len;	/* of the whole message; the next begins at the next multiple of 4 */
	uint16_t nlmsg_type;	/* TASK_DIAG_CMD_GET */
	uint16_t nlmsg_flags;	/* TASK_DIAG_NLM_F_MULTI */
	uint32_t nlmsg_seq;	/* that of the request */
	uint32_t nlmsg_pid;	/* 0 */
	uint32_t pid;		/* the task, a thread */
	uint32_t tgid;		/* its thread group, the process */
	uint32_t flags;		/* TASK_DIAG_FLAG_CONT */
};
TASK_DIAG_ASSERT_SIZE(task_diag_message_header, 28);
TASK_DIAG_ASSERT_AT(task_diag_message_header, pid, 16);

/* What every attribute begins with: struct nlattr. */
struct task_diag_attribute_header {
	uint16_t nla_len;	/* of header and payload; the next begins at the next multiple of 4 */
	uint16_t nla_type;	/* TASK_DIAG_BASE and the like; the two highest bits are netlink's own flags */
};
TASK_DIAG_ASSERT_SIZE(task_diag_attribute_header, 4);

/* TASK_DIAG_BASE: who the task is. Ids are those of the reader's pid namespace. */
struct task_diag_base {
	uint32_t tgid;		/* thread-group id: the process */
	uint32_t pid;		/* thread id */
	uint32_t ppid;		/* thread-group id of the real parent */
	uint32_t tpid;		/* thread id of the tracer; 0 without one */
	uint32_t sid;		/* session */
	uint32_t pgid;		/* process group */
	uint8_t state;		/* TASK_DIAG_RUNNING and so on; task_diag_state_letter() */
	char comm[16];		/* the raw name, padded with NULs; print it with "%.16s", it may hold any byte */
	uint8_t pad[3];
};
TASK_DIAG_ASSERT_SIZE(task_diag_base, 44);
TASK_DIAG_ASSERT_AT(task_diag_base, state, 24);
TASK_DIAG_ASSERT_AT(task_diag_base, comm, 25);
TASK_DIAG_ASSERT_AT(task_diag_base, pad, 41);

/* task_diag_base.state, with the letters of /proc/PID/stat. */
#define TASK_DIAG_RUNNING 0		/* R */
#define TASK_DIAG_SLEEPING 1		/* S: a signal wakes it */
#define TASK_DIAG_DISK_SLEEP 2		/* D: no signal wakes it */
#define TASK_DIAG_STOPPED 3		/* T: by a signal */
#define TASK_DIAG_TRACING_STOP 4	/* t: by its tracer */
#define TASK_DIAG_DEAD 5		/* X */
#define TASK_DIAG_ZOMBIE 6		/* Z: waits for its parent */
#define TASK_DIAG_PARKED 7		/* P: a kernel thread */
#define TASK_DIAG_IDLE 8		/* I: a kernel thread */
#define TASK_DIAG_STATE_LETTERS "RSDTtXZPI"

/* TASK_DIAG_CRED: what the task may do, and as whom. Ids are those of the reader's user namespace, 65534 where it has
 * none. Of each set of capabilities the low word comes first; bit N is capability N of <linux/capability.h>. */
struct task_diag_creds {
	uint32_t cap_inheritable[2];
	uint32_t cap_permitted[2];
	uint32_t cap_effective[2];
	uint32_t cap_bset[2];	/* bounding */
	uint32_t uid;		/* real */
	uint32_t euid;		/* effective */
	uint32_t suid;		/* saved */
	uint32_t fsuid;		/* for file access */
	uint32_t gid;
	uint32_t egid;
	uint32_t sgid;
	uint32_t fsgid;
};
TASK_DIAG_ASSERT_SIZE(task_diag_creds, 64);
TASK_DIAG_ASSERT_AT(task_diag_creds, uid, 32);
TASK_DIAG_ASSERT_AT(task_diag_creds, gid, 48);

/* TASK_DIAG_VMA: the head of one mapping's record. Offsets count from its own first byte. */
struct task_diag_vma {
	uint64_t start;		/* first address */
	uint64_t end;		/* address after the last */
	uint64_t vm_flags;	/* TASK_DIAG_VMA_F_* */
	uint64_t pgoff;		/* offset in the file, in bytes */
	uint32_t major;		/* of the file's device; this and all above and below are 0 without a file */
	uint32_t minor;
	uint64_t inode;
	uint32_t generation;	/* of the inode; 0 where the server cannot know it */
	uint16_t vma_len;	/* of the whole record, a multiple of 4: the way to the next */
	uint16_t name_off;	/* 0 without a name */
	uint16_t name_len;	/* with the NUL at its end; 0 without a name */
	uint16_t stat_off;	/* 0 without statistics */
	uint16_t stat_len;	/* 0 without statistics */
	uint8_t pad[2];
};
TASK_DIAG_ASSERT_SIZE(task_diag_vma, 64);
TASK_DIAG_ASSERT_AT(task_diag_vma, major, 32);
TASK_DIAG_ASSERT_AT(task_diag_vma, inode, 40);
TASK_DIAG_ASSERT_AT(task_diag_vma, generation, 48);
TASK_DIAG_ASSERT_AT(task_diag_vma, vma_len, 52);
TASK_DIAG_ASSERT_AT(task_diag_vma, stat_len, 60);

/* task_diag_vma.vm_flags: the protocol's own bits, not the kernel's VM_*. */
#define TASK_DIAG_VMA_F_READ 0x1
#define TASK_DIAG_VMA_F_WRITE 0x2
#define TASK_DIAG_VMA_F_EXEC 0x4
#define TASK_DIAG_VMA_F_SHARED 0x8
#define TASK_DIAG_VMA_F_MAYREAD 0x10
#define TASK_DIAG_VMA_F_MAYWRITE 0x20
#define TASK_DIAG_VMA_F_MAYEXEC 0x40
#define TASK_DIAG_VMA_F_MAYSHARE 0x80		/* the "s" of /proc/PID/maps */
#define TASK_DIAG_VMA_F_GROWSDOWN 0x100
#define TASK_DIAG_VMA_F_PFNMAP 0x200
#define TASK_DIAG_VMA_F_DENYWRITE 0x400
#define TASK_DIAG_VMA_F_MPX 0x800
#define TASK_DIAG_VMA_F_LOCKED 0x1000
#define TASK_DIAG_VMA_F_IO 0x2000
#define TASK_DIAG_VMA_F_SEQ_READ 0x4000
#define TASK_DIAG_VMA_F_RAND_READ 0x8000
#define TASK_DIAG_VMA_F_DONTCOPY 0x10000
#define TASK_DIAG_VMA_F_DONTEXPAND 0x20000
#define TASK_DIAG_VMA_F_ACCOUNT 0x40000
#define TASK_DIAG_VMA_F_NORESERVE 0x80000
#define TASK_DIAG_VMA_F_HUGETLB 0x100000
#define TASK_DIAG_VMA_F_ARCH_1 0x200000
#define TASK_DIAG_VMA_F_DONTDUMP 0x400000
#define TASK_DIAG_VMA_F_SOFTDIRTY 0x800000
#define TASK_DIAG_VMA_F_MIXEDMAP 0x1000000
#define TASK_DIAG_VMA_F_HUGEPAGE 0x2000000
#define TASK_DIAG_VMA_F_NOHUGEPAGE 0x4000000
#define TASK_DIAG_VMA_F_MERGEABLE 0x8000000

/* TASK_DIAG_VMA_STAT: what of a mapping is resident, in bytes. */
struct task_diag_vma_stat {
	uint64_t resident;
	uint64_t shared_clean;	/* of that: mapped elsewhere too, not written */
	uint64_t shared_dirty;	/* of that: mapped elsewhere too, written; the kernel patch leaves it 0 */
	uint64_t private_clean;	/* of that: mapped only here, not written */
	uint64_t private_dirty;	/* of that: mapped only here, written */
	uint64_t referenced;	/* of that: lately used */
	uint64_t anonymous;	/* of that: no page of a file */
	uint64_t anonymous_thp;	/* of that: in huge pages */
	uint64_t swap;		/* swapped out */
	uint64_t pss;		/* the proportional share of what is resident, in bytes << 12 */
};
TASK_DIAG_ASSERT_SIZE(task_diag_vma_stat, 80);
TASK_DIAG_ASSERT_AT(task_diag_vma_stat, pss, 72);

/* TASK_DIAG_STAT: of the whole process in ALL, ONE and CHILDREN, of the single thread in ALL_THREAD and THREAD; threads
 * and the four of the children are the process's in both. Times are in clock ticks, 100 a second. */
struct task_diag_stat {
	uint64_t minflt;	/* page faults that needed no I/O */
	uint64_t cminflt;	/* the same of waited-for children */
	uint64_t majflt;	/* page faults that needed I/O */
	uint64_t cmajflt;
	uint64_t utime;		/* in user mode */
	uint64_t stime;		/* in kernel mode */
	uint64_t cutime;	/* the same of waited-for children */
	uint64_t cstime;
	uint32_t threads;	/* of the process */
	uint32_t pad;
};
TASK_DIAG_ASSERT_SIZE(task_diag_stat, 72);
TASK_DIAG_ASSERT_AT(task_diag_stat, utime, 32);
TASK_DIAG_ASSERT_AT(task_diag_stat, threads, 64);

/* TASK_DIAG_STATM: memory in pages, but for ptes. */
struct task_diag_statm {
	uint64_t anon;		/* resident: anonymous */
	uint64_t file;		/* resident: of files */
	uint64_t shmem;		/* resident: shared memory */
	uint64_t total_vm;	/* address space */
	uint64_t total_rss;	/* resident of all kinds */
	uint64_t hiwater_vm;	/* the largest total_vm so far */
	uint64_t hiwater_rss;	/* the largest total_rss so far */
	uint64_t text;		/* the program's code */
	uint64_t lib;		/* other executable mappings */
	uint64_t swap;		/* swapped out */
	uint64_t ptes;		/* page tables, in bytes */
	uint64_t locked_vm;	/* locked by mlock(2) */
	uint64_t pinned_vm;	/* pinned for a device */
	uint64_t data_vm;	/* private writable mappings other than stacks */
	uint64_t stack_vm;	/* stacks */
};
TASK_DIAG_ASSERT_SIZE(task_diag_statm, 120);
TASK_DIAG_ASSERT_AT(task_diag_statm, hiwater_rss, 48);
TASK_DIAG_ASSERT_AT(task_diag_statm, stack_vm, 112);

/* The groups from 32 up. Strings and lists lie behind the structure, at offsets that count from its first byte; the length
 * of a string counts its NUL, and 0 says that there is none. */

/* TASK_DIAG_GROUPS, with its list of ids: task_diag_get_groups(). */
struct task_diag_groups {
	uint32_t cap_ambient[2]; /* the low word first */
	uint32_t securebits;	/* SECBIT_*; TASK_DIAG_UNKNOWN where the server cannot know them */
	uint8_t no_new_privs;	/* 0 or 1 */
	uint8_t seccomp;	/* 0 none, 1 strict, 2 filters */
	uint16_t gids_off;
	uint32_t gids_count;	/* supplementary group ids, ascending */
};
TASK_DIAG_ASSERT_SIZE(task_diag_groups, 20);
TASK_DIAG_ASSERT_AT(task_diag_groups, no_new_privs, 12);
TASK_DIAG_ASSERT_AT(task_diag_groups, gids_count, 16);

/* Of task_diag_groups.securebits, task_diag_misc.loginuid and task_diag_misc.sessionid. */
#define TASK_DIAG_UNKNOWN 0xffffffffU

/* TASK_DIAG_SCHED: since when it runs, and how it is scheduled. */
struct task_diag_sched {
	uint64_t start_time;	/* ns since boot; some servers know it to a clock tick only */
	uint64_t voluntary_switches; /* of the very thread, like the next */
	uint64_t involuntary_switches;
	uint64_t guest_time;	/* clock ticks; of the process or of the thread, like task_diag_stat */
	uint64_t children_guest_time; /* clock ticks, of waited-for children */
	uint64_t blkio_delay;	/* clock ticks waited for block I/O; 0 unless delay accounting is on */
	uint32_t flags;		/* the kernel's PF_* */
	int32_t nice;		/* -20 to 19 */
	int32_t priority;	/* 20 + nice, or below 0 for real time, as in /proc/PID/stat */
	uint32_t rt_priority;	/* 1 to 99, 0 for none */
	uint32_t policy;	/* SCHED_* */
	int32_t processor;	/* that it ran on last */
	int32_t tty_nr;		/* device of the controlling terminal, as in /proc/PID/stat; 0 for none */
	int32_t tpgid;		/* process group in the terminal's foreground; -1 without terminal */
	int32_t exit_signal;	/* that the parent gets; -1 for none */
	uint32_t pad;
};
TASK_DIAG_ASSERT_SIZE(task_diag_sched, 88);
TASK_DIAG_ASSERT_AT(task_diag_sched, flags, 48);
TASK_DIAG_ASSERT_AT(task_diag_sched, exit_signal, 80);

/* TASK_DIAG_IO: the lines of /proc/PID/io. */
struct task_diag_io {
	uint64_t rchar;		/* bytes that read() and the like gave */
	uint64_t wchar;		/* bytes that write() and the like took */
	uint64_t syscr;		/* such reads */
	uint64_t syscw;		/* such writes */
	uint64_t read_bytes;	/* bytes fetched from storage */
	uint64_t write_bytes;	/* bytes sent to storage */
	uint64_t cancelled_write_bytes;
};
TASK_DIAG_ASSERT_SIZE(task_diag_io, 56);
TASK_DIAG_ASSERT_AT(task_diag_io, cancelled_write_bytes, 48);

/* TASK_DIAG_CGROUP: the head of one record, which is a line of /proc/PID/cgroup. */
struct task_diag_cgroup {
	uint16_t cgroup_len;	/* of the whole record, a multiple of 4: the way to the next */
	uint16_t hierarchy;	/* 0: the unified hierarchy (v2) */
	uint16_t controllers_off;
	uint16_t controllers_len;
	uint16_t path_off;
	uint16_t path_len;
};
TASK_DIAG_ASSERT_SIZE(task_diag_cgroup, 12);

/* TASK_DIAG_NS, with its two lists: task_diag_get_ns(). */
struct task_diag_ns {
	uint16_t ns_off;
	uint16_t ns_count;
	uint16_t pids_off;
	uint16_t pids_count;
};
TASK_DIAG_ASSERT_SIZE(task_diag_ns, 8);

/* Places in the list of namespaces. */
#define TASK_DIAG_NS_CGROUP 0
#define TASK_DIAG_NS_IPC 1
#define TASK_DIAG_NS_MNT 2
#define TASK_DIAG_NS_NET 3
#define TASK_DIAG_NS_PID 4
#define TASK_DIAG_NS_PID_FOR_CHILDREN 5
#define TASK_DIAG_NS_TIME 6
#define TASK_DIAG_NS_TIME_FOR_CHILDREN 7
#define TASK_DIAG_NS_USER 8
#define TASK_DIAG_NS_UTS 9
#define TASK_DIAG_NS_KINDS 10

/* TASK_DIAG_FILES, with its strings: task_diag_get_files(). */
struct task_diag_files {
	uint16_t exe_off;
	uint16_t exe_len;
	uint16_t cwd_off;
	uint16_t cwd_len;
	uint16_t root_off;
	uint16_t root_len;
};
TASK_DIAG_ASSERT_SIZE(task_diag_files, 12);

/* TASK_DIAG_FD_COUNT */
struct task_diag_fd_count {
	uint32_t open;		/* open file descriptors */
	uint32_t pad;
	uint64_t soft_limit;	/* RLIMIT_NOFILE; all ones for none */
	uint64_t hard_limit;
};
TASK_DIAG_ASSERT_SIZE(task_diag_fd_count, 24);
TASK_DIAG_ASSERT_AT(task_diag_fd_count, soft_limit, 8);

/* TASK_DIAG_FD: the head of one open descriptor's record. */
struct task_diag_fd {
	uint64_t pos;
	uint64_t inode;
	uint32_t fd;
	uint32_t flags;		/* O_*, O_CLOEXEC too */
	uint32_t major;		/* device of the inode */
	uint32_t minor;
	uint16_t fd_len;	/* of the whole record, a multiple of 4: the way to the next */
	uint16_t name_off;
	uint16_t name_len;
	uint8_t type;		/* st_mode >> 12; 0 for what is no file of the filesystem's kinds (epoll, eventfd) */
	uint8_t pad;
};
TASK_DIAG_ASSERT_SIZE(task_diag_fd, 40);
TASK_DIAG_ASSERT_AT(task_diag_fd, fd_len, 32);
TASK_DIAG_ASSERT_AT(task_diag_fd, type, 38);

/* TASK_DIAG_ROLLUP: /proc/PID/smaps_rollup, in bytes. */
struct task_diag_rollup {
	uint64_t rss;
	uint64_t pss;		/* the proportional share of rss */
	uint64_t pss_dirty;
	uint64_t pss_anon;
	uint64_t pss_file;
	uint64_t pss_shmem;
	uint64_t shared_clean;
	uint64_t shared_dirty;
	uint64_t private_clean;
	uint64_t private_dirty;
	uint64_t referenced;
	uint64_t anonymous;
	uint64_t ksm;
	uint64_t lazy_free;
	uint64_t anon_huge_pages;
	uint64_t locked;
	uint64_t shmem_pmd_mapped;
	uint64_t file_pmd_mapped;
	uint64_t shared_hugetlb;
	uint64_t private_hugetlb;
	uint64_t swap;
	uint64_t swap_pss;
};
TASK_DIAG_ASSERT_SIZE(task_diag_rollup, 176);
TASK_DIAG_ASSERT_AT(task_diag_rollup, private_clean, 64);
TASK_DIAG_ASSERT_AT(task_diag_rollup, shmem_pmd_mapped, 128);

/* TASK_DIAG_MISC, with its strings: task_diag_get_misc(). */
struct task_diag_misc {
	int32_t oom_score;
	int32_t oom_score_adj;
	uint32_t loginuid;	/* TASK_DIAG_UNKNOWN for none, like the next */
	uint32_t sessionid;
	uint16_t wchan_off;
	uint16_t wchan_len;
	uint16_t label_off;
	uint16_t label_len;
};
TASK_DIAG_ASSERT_SIZE(task_diag_misc, 24);
TASK_DIAG_ASSERT_AT(task_diag_misc, wchan_off, 16);

/* ---- Reading an answer ----------------------------------------------------------------------------------------- */

/* So many bytes from there: what is left to be read. */
struct task_diag_bytes {
	const unsigned char *data;
	size_t len;
};

/* One message; its attributes are read by task_diag_next_attribute(&message.attributes, ...). */
struct task_diag_message {
	uint32_t seq;
	uint32_t pid;
	uint32_t tgid;
	uint32_t flags;
	struct task_diag_bytes attributes;
};

/* One attribute; the payloads of TASK_DIAG_VMA, TASK_DIAG_CGROUP and TASK_DIAG_FD are read by
 * task_diag_next_mapping(&attribute.payload, ...) and the like, those of TASK_DIAG_CMDLINE and TASK_DIAG_ENVIRON are the
 * bytes themselves, and for the others there is a task_diag_get_*() each. */
struct task_diag_attribute {
	uint16_t id;
	struct task_diag_bytes payload;
};

/* One mapping; its name and its statistics are had by task_diag_mapping_name() and task_diag_mapping_stat(). */
struct task_diag_mapping {
	struct task_diag_vma vma;
	struct task_diag_bytes record;
};

static inline struct task_diag_bytes task_diag_bytes_of(const void *data, size_t len)
{
	struct task_diag_bytes bytes;

	bytes.data = (const unsigned char *)data;
	bytes.len = len;
	return bytes;
}

/* Moves on by len rounded up to a multiple of 4, but never beyond the end. */
static inline void task_diag_skip(struct task_diag_bytes *rest, size_t len)
{
	size_t left = rest->len - len;
	size_t padding = (4 - len % 4) % 4;

	len += padding < left ? padding : left;
	rest->data += len;
	rest->len -= len;
}

/* What every iterator gives for malformed bytes, the rest of which is given up. */
static inline int task_diag_malformed(struct task_diag_bytes *rest)
{
	rest->data += rest->len;
	rest->len = 0;
	return -1;
}

/* The next message of the bytes of one read, or of several behind each other: 1, 0 at the end, -1 if malformed. */
static inline int task_diag_next_message(struct task_diag_bytes *rest, struct task_diag_message *message)
{
	struct task_diag_message_header header;

	if (rest->len == 0)
		return 0;
	if (rest->len < sizeof(header))
		return task_diag_malformed(rest);
	memcpy(&header, rest->data, sizeof(header));
	if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > rest->len)
		return task_diag_malformed(rest);
	if (header.nlmsg_type != TASK_DIAG_CMD_GET)
		return task_diag_malformed(rest);
	message->seq = header.nlmsg_seq;
	message->pid = header.pid;
	message->tgid = header.tgid;
	message->flags = header.flags;
	message->attributes = task_diag_bytes_of(rest->data + sizeof(header), header.nlmsg_len - sizeof(header));
	task_diag_skip(rest, header.nlmsg_len);
	return 1;
}

/* Whether the task goes on in the next message. */
static inline int task_diag_continues(const struct task_diag_message *message)
{
	return (message->flags & TASK_DIAG_FLAG_CONT) != 0;
}

/* The next attribute of a message: 1, 0 at the end, -1 if malformed. */
static inline int task_diag_next_attribute(struct task_diag_bytes *rest, struct task_diag_attribute *attribute)
{
	struct task_diag_attribute_header header;

	if (rest->len == 0)
		return 0;
	if (rest->len < sizeof(header))
		return task_diag_malformed(rest);
	memcpy(&header, rest->data, sizeof(header));
	if (header.nla_len < sizeof(header) || header.nla_len > rest->len)
		return task_diag_malformed(rest);
	attribute->id = (uint16_t)(header.nla_type & 0x3fff);
	attribute->payload = task_diag_bytes_of(rest->data + sizeof(header), header.nla_len - sizeof(header));
	task_diag_skip(rest, header.nla_len);
	return 1;
}

/* Copies an attribute of fixed size: 1, 0 if it is another attribute, -1 if it is this one but has less than needed. */
static inline int task_diag_get(const struct task_diag_attribute *attribute, uint16_t id, void *to, size_t size,
				size_t needed)
{
	if (attribute->id != id)
		return 0;
	if (attribute->payload.len < needed)
		return -1;
	memset(to, 0, size);
	memcpy(to, attribute->payload.data, needed);
	return 1;
}

/* TASK_DIAG_BASE: 1, 0 if it is another attribute, -1 if malformed. Padding comes out as zeros. */
static inline int task_diag_get_base(const struct task_diag_attribute *attribute, struct task_diag_base *base)
{
	return task_diag_get(attribute, TASK_DIAG_BASE, base, sizeof(*base), offsetof(struct task_diag_base, pad));
}

/* TASK_DIAG_CRED: 1, 0 if it is another attribute, -1 if malformed. */
static inline int task_diag_get_creds(const struct task_diag_attribute *attribute, struct task_diag_creds *creds)
{
	return task_diag_get(attribute, TASK_DIAG_CRED, creds, sizeof(*creds), sizeof(*creds));
}

/* TASK_DIAG_STAT: 1, 0 if it is another attribute, -1 if malformed. The kernel patch leaves the padding as it was. */
static inline int task_diag_get_stat(const struct task_diag_attribute *attribute, struct task_diag_stat *stat)
{
	int got = task_diag_get(attribute, TASK_DIAG_STAT, stat, sizeof(*stat), sizeof(*stat));

	if (got > 0)
		stat->pad = 0;
	return got;
}

/* TASK_DIAG_STATM: 1, 0 if it is another attribute, -1 if malformed. */
static inline int task_diag_get_statm(const struct task_diag_attribute *attribute, struct task_diag_statm *statm)
{
	return task_diag_get(attribute, TASK_DIAG_STATM, statm, sizeof(*statm), sizeof(*statm));
}

/* TASK_DIAG_SCHED: 1, 0 if it is another attribute, -1 if malformed. */
static inline int task_diag_get_sched(const struct task_diag_attribute *attribute, struct task_diag_sched *sched)
{
	return task_diag_get(attribute, TASK_DIAG_SCHED, sched, sizeof(*sched), sizeof(*sched));
}

/* TASK_DIAG_IO: 1, 0 if it is another attribute, -1 if malformed. */
static inline int task_diag_get_io(const struct task_diag_attribute *attribute, struct task_diag_io *io)
{
	return task_diag_get(attribute, TASK_DIAG_IO, io, sizeof(*io), sizeof(*io));
}

/* TASK_DIAG_FD_COUNT: 1, 0 if it is another attribute, -1 if malformed. */
static inline int task_diag_get_fd_count(const struct task_diag_attribute *attribute, struct task_diag_fd_count *count)
{
	return task_diag_get(attribute, TASK_DIAG_FD_COUNT, count, sizeof(*count), sizeof(*count));
}

/* TASK_DIAG_ROLLUP: 1, 0 if it is another attribute, -1 if malformed. */
static inline int task_diag_get_rollup(const struct task_diag_attribute *attribute, struct task_diag_rollup *rollup)
{
	return task_diag_get(attribute, TASK_DIAG_ROLLUP, rollup, sizeof(*rollup), sizeof(*rollup));
}

/* TASK_DIAG_MISSING: 1, 0 if it is another attribute, -1 if malformed. */
static inline int task_diag_get_missing(const struct task_diag_attribute *attribute, uint64_t *missing)
{
	return task_diag_get(attribute, TASK_DIAG_MISSING, missing, sizeof(*missing), sizeof(*missing));
}

/* Whether count pieces of size bytes lie within whole, from off on. */
static inline int task_diag_within(struct task_diag_bytes whole, size_t off, size_t count, size_t size)
{
	return off <= whole.len && count <= (whole.len - off) / size;
}

/* The same of a string, or of none. Its only NUL is its last byte. */
static inline int task_diag_is_string(struct task_diag_bytes whole, size_t off, size_t len)
{
	if (len == 0)
		return 1;
	return task_diag_within(whole, off, len, 1) && memchr(whole.data + off, 0, len) == whole.data + off + len - 1;
}

/* A string that was checked, ended by a NUL, within the buffer; "" without one. It may hold any other byte. */
static inline const char *task_diag_string(struct task_diag_bytes whole, size_t off, size_t len)
{
	return len == 0 ? "" : (const char *)(whole.data + off);
}

/* The next mapping of a TASK_DIAG_VMA attribute: 1, 0 at the end, -1 if malformed. All of the record is checked here. */
static inline int task_diag_next_mapping(struct task_diag_bytes *rest, struct task_diag_mapping *mapping)
{
	struct task_diag_vma *vma = &mapping->vma;

	if (rest->len == 0)
		return 0;
	if (rest->len < sizeof(*vma))
		return task_diag_malformed(rest);
	memcpy(vma, rest->data, sizeof(*vma));
	if (vma->vma_len < sizeof(*vma) || vma->vma_len % 4 != 0 || vma->vma_len > rest->len)
		return task_diag_malformed(rest);
	mapping->record = task_diag_bytes_of(rest->data, vma->vma_len);
	if (vma->stat_len != 0 && (vma->stat_len < sizeof(struct task_diag_vma_stat) || vma->stat_off < sizeof(*vma) ||
				   !task_diag_within(mapping->record, vma->stat_off, vma->stat_len, 1)))
		return task_diag_malformed(rest);
	if (vma->name_len != 0 && (vma->name_off < sizeof(*vma) ||
				   !task_diag_is_string(mapping->record, vma->name_off, vma->name_len)))
		return task_diag_malformed(rest);
	task_diag_skip(rest, vma->vma_len);
	return 1;
}

/* The name of a mapping that task_diag_next_mapping() gave, ended by a NUL, within the buffer; "" without one. It is
 * that of /proc/PID/maps ("[heap]", "/usr/bin/x (deleted)") but not escaped: it may hold any other byte. */
static inline const char *task_diag_mapping_name(const struct task_diag_mapping *mapping)
{
	return task_diag_string(mapping->record, mapping->vma.name_off, mapping->vma.name_len);
}

/* The statistics of a mapping that task_diag_next_mapping() gave: 1, or 0 without any. */
static inline int task_diag_mapping_stat(const struct task_diag_mapping *mapping, struct task_diag_vma_stat *stat)
{
	if (mapping->vma.stat_len == 0)
		return 0;
	memcpy(stat, mapping->record.data + mapping->vma.stat_off, sizeof(*stat));
	return 1;
}

/* The numbers of a list that was checked; the bytes need not lie as the machine likes numbers to lie. */
struct task_diag_numbers {
	const unsigned char *data;
	size_t count;
};

/* Number n of a list; 0 beyond its end. */
static inline uint32_t task_diag_number(struct task_diag_numbers list, size_t n)
{
	uint32_t number = 0;

	if (n < list.count)
		memcpy(&number, list.data + n * sizeof(number), sizeof(number));
	return number;
}

static inline struct task_diag_numbers task_diag_numbers_of(struct task_diag_bytes whole, size_t off, size_t count)
{
	struct task_diag_numbers list;

	list.data = whole.data + off;
	list.count = count;
	return list;
}

/* The payload of TASK_DIAG_GROUPS, joined if it came in pieces: 1, or -1 if malformed. gids stays within the payload. */
static inline int task_diag_get_groups(struct task_diag_bytes payload, struct task_diag_groups *groups,
				       struct task_diag_numbers *gids)
{
	if (payload.len < sizeof(*groups))
		return -1;
	memcpy(groups, payload.data, sizeof(*groups));
	if (!task_diag_within(payload, groups->gids_off, groups->gids_count, 4))
		return -1;
	*gids = task_diag_numbers_of(payload, groups->gids_off, groups->gids_count);
	return 1;
}

/* TASK_DIAG_NS: 1, 0 if it is another attribute, -1 if malformed. namespaces: inode numbers, by TASK_DIAG_NS_*, 0 where
 * there is none. pids: the task's ids, from the reader's pid namespace down to its own. Both stay within the payload. */
static inline int task_diag_get_ns(const struct task_diag_attribute *attribute, struct task_diag_numbers *namespaces,
				   struct task_diag_numbers *pids)
{
	struct task_diag_ns ns;
	int got = task_diag_get(attribute, TASK_DIAG_NS, &ns, sizeof(ns), sizeof(ns));

	if (got <= 0)
		return got;
	if (!task_diag_within(attribute->payload, ns.ns_off, ns.ns_count, 4) ||
	    !task_diag_within(attribute->payload, ns.pids_off, ns.pids_count, 4))
		return -1;
	*namespaces = task_diag_numbers_of(attribute->payload, ns.ns_off, ns.ns_count);
	*pids = task_diag_numbers_of(attribute->payload, ns.pids_off, ns.pids_count);
	return 1;
}

/* What /proc/PID/exe, cwd and root read: strings within the payload; "" where there is none. */
struct task_diag_places {
	const char *exe;
	const char *cwd;
	const char *root;
};

/* The payload of TASK_DIAG_FILES, joined if it came in pieces: 1, or -1 if malformed. */
static inline int task_diag_get_files(struct task_diag_bytes payload, struct task_diag_places *places)
{
	struct task_diag_files files;

	if (payload.len < sizeof(files))
		return -1;
	memcpy(&files, payload.data, sizeof(files));
	if (!task_diag_is_string(payload, files.exe_off, files.exe_len) ||
	    !task_diag_is_string(payload, files.cwd_off, files.cwd_len) ||
	    !task_diag_is_string(payload, files.root_off, files.root_len))
		return -1;
	places->exe = task_diag_string(payload, files.exe_off, files.exe_len);
	places->cwd = task_diag_string(payload, files.cwd_off, files.cwd_len);
	places->root = task_diag_string(payload, files.root_off, files.root_len);
	return 1;
}

/* TASK_DIAG_MISC: 1, 0 if it is another attribute, -1 if malformed. wchan (where it sleeps in the kernel) and label (what
 * a security module calls it) are strings within the payload; "" where there is none. */
static inline int task_diag_get_misc(const struct task_diag_attribute *attribute, struct task_diag_misc *misc,
				     const char **wchan, const char **label)
{
	int got = task_diag_get(attribute, TASK_DIAG_MISC, misc, sizeof(*misc), sizeof(*misc));

	if (got <= 0)
		return got;
	if (!task_diag_is_string(attribute->payload, misc->wchan_off, misc->wchan_len) ||
	    !task_diag_is_string(attribute->payload, misc->label_off, misc->label_len))
		return -1;
	*wchan = task_diag_string(attribute->payload, misc->wchan_off, misc->wchan_len);
	*label = task_diag_string(attribute->payload, misc->label_off, misc->label_len);
	return 1;
}

/* One record of TASK_DIAG_CGROUP: strings within the buffer; "" where there is none. */
struct task_diag_membership {
	uint16_t hierarchy;	/* 0: the unified hierarchy (v2) */
	const char *controllers; /* "cpu,cpuacct", "name=x"; "" in the unified hierarchy */
	const char *path;	/* in the reader's cgroup namespace */
};

/* The next record of a TASK_DIAG_CGROUP attribute: 1, 0 at the end, -1 if malformed. */
static inline int task_diag_next_cgroup(struct task_diag_bytes *rest, struct task_diag_membership *membership)
{
	struct task_diag_cgroup head;
	struct task_diag_bytes record;

	if (rest->len == 0)
		return 0;
	if (rest->len < sizeof(head))
		return task_diag_malformed(rest);
	memcpy(&head, rest->data, sizeof(head));
	if (head.cgroup_len < sizeof(head) || head.cgroup_len % 4 != 0 || head.cgroup_len > rest->len)
		return task_diag_malformed(rest);
	record = task_diag_bytes_of(rest->data, head.cgroup_len);
	if (!task_diag_is_string(record, head.controllers_off, head.controllers_len) ||
	    !task_diag_is_string(record, head.path_off, head.path_len))
		return task_diag_malformed(rest);
	membership->hierarchy = head.hierarchy;
	membership->controllers = task_diag_string(record, head.controllers_off, head.controllers_len);
	membership->path = task_diag_string(record, head.path_off, head.path_len);
	task_diag_skip(rest, head.cgroup_len);
	return 1;
}

/* The next record of a TASK_DIAG_FD attribute: 1, 0 at the end, -1 if malformed. name is what /proc/PID/fd/FD reads, a
 * string within the buffer; "" without one. */
static inline int task_diag_next_fd(struct task_diag_bytes *rest, struct task_diag_fd *fd, const char **name)
{
	struct task_diag_bytes record;

	if (rest->len == 0)
		return 0;
	if (rest->len < sizeof(*fd))
		return task_diag_malformed(rest);
	memcpy(fd, rest->data, sizeof(*fd));
	if (fd->fd_len < sizeof(*fd) || fd->fd_len % 4 != 0 || fd->fd_len > rest->len)
		return task_diag_malformed(rest);
	record = task_diag_bytes_of(rest->data, fd->fd_len);
	if (!task_diag_is_string(record, fd->name_off, fd->name_len))
		return task_diag_malformed(rest);
	*name = task_diag_string(record, fd->name_off, fd->name_len);
	task_diag_skip(rest, fd->fd_len);
	return 1;
}

/* The letter of task_diag_base.state in /proc/PID/stat; '?' for a state that is not known. */
static inline char task_diag_state_letter(unsigned int state)
{
	return state < sizeof(TASK_DIAG_STATE_LETTERS) - 1 ? TASK_DIAG_STATE_LETTERS[state] : '?';
}

/* ---- Asking ---------------------------------------------------------------------------------------------------- */

/* A request for groups (TASK_DIAG_SHOW_*) of the tasks that strategy (TASK_DIAG_DUMP_*) and pid choose. */
static inline struct task_diag_request task_diag_request_for(uint64_t groups, uint64_t strategy, uint32_t pid)
{
	struct task_diag_request request;

	memset(&request, 0, sizeof(request));
	request.nlmsg_len = sizeof(request);
	request.nlmsg_type = TASK_DIAG_CMD_GET;
	request.nlmsg_flags = TASK_DIAG_NLM_F_REQUEST;
	request.show_flags = groups;
	request.dump_strategy = strategy;
	request.pid = pid;
	return request;
}

/* Puts a request for groups of the tasks pids, and these ids behind it, into to, which has 44 + 4 * count bytes. Gives the
 * bytes to be written by task_diag_ask_bytes(); 0 if room is less, or count more than TASK_DIAG_SET_MAX. */
static inline size_t task_diag_set_request(void *to, size_t room, uint64_t groups, const uint32_t *pids, uint32_t count)
{
	struct task_diag_request request = task_diag_request_for(groups, TASK_DIAG_DUMP_SET, 0);
	unsigned char *bytes = (unsigned char *)to;
	const size_t ids = (size_t)count * sizeof(*pids), len = sizeof(request) + sizeof(count) + ids;

	if (count > TASK_DIAG_SET_MAX || room < len)
		return 0;
	request.nlmsg_len = (uint32_t)len;
	memcpy(bytes, &request, sizeof(request));
	memcpy(bytes + sizeof(request), &count, sizeof(count));
	if (count > 0)
		memcpy(bytes + sizeof(request) + sizeof(count), pids, ids);
	return len;
}

/* Writes the len bytes of a request: 0, or -1 and errno. */
static inline int task_diag_ask_bytes(int fd, const void *request, size_t len)
{
	ssize_t n;

	do
		n = write(fd, request, len);
	while (n < 0 && errno == EINTR);
	if (n >= 0 && (size_t)n != len)
		errno = EPROTO;
	return n == (ssize_t)len ? 0 : -1;
}

/* Writes a request: 0, or -1 and errno. */
static inline int task_diag_ask(int fd, const struct task_diag_request *request)
{
	return task_diag_ask_bytes(fd, request, sizeof(*request));
}

/* Asks the file for the calling process itself, which everybody may see: 0 if it answers as it should. */
static inline int task_diag_probe(int fd)
{
	struct task_diag_request request =
		task_diag_request_for(TASK_DIAG_SHOW_BASE, TASK_DIAG_DUMP_ONE, (uint32_t)getpid());
	unsigned char answer[256];
	struct task_diag_bytes rest;
	struct task_diag_message message;
	struct stat file;
	ssize_t n;
	int found = 0;

	if (fstat(fd, &file) < 0)
		return -1;
	/* Nothing is written into a file that cannot be the interface. */
	if (!S_ISREG(file.st_mode) || file.st_size != 0) {
		errno = EPROTO;
		return -1;
	}
	request.nlmsg_seq = 0x7461736b;
	if (task_diag_ask(fd, &request) < 0)
		return -1;
	for (;;) {
		n = read(fd, answer, sizeof(answer));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		rest = task_diag_bytes_of(answer, (size_t)n);
		while (task_diag_next_message(&rest, &message) > 0)
			found += message.seq == request.nlmsg_seq && message.pid == request.pid;
	}
	if (n == 0 && found != 1)
		errno = EPROTO;
	return n == 0 && found == 1 ? 0 : -1;
}

/*
 * Opens the interface at path (NULL for TASK_DIAG_PATH) and asks it a first question. Gives a descriptor, closed on
 * exec, that waits for a request; or -1 and errno, in the words of task_diag_reason().
 */
static inline int task_diag_open(const char *path)
{
	int fd, flags, error;

#ifdef O_CLOEXEC
	fd = open(path ? path : TASK_DIAG_PATH, O_RDWR | O_NOCTTY | O_CLOEXEC);
#else
	fd = open(path ? path : TASK_DIAG_PATH, O_RDWR | O_NOCTTY);
#endif
	if (fd < 0)
		return -1;
	flags = fcntl(fd, F_GETFD);
	if (flags >= 0 && fcntl(fd, F_SETFD, flags | FD_CLOEXEC) == 0 && task_diag_probe(fd) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* Whether an errno of open(), write() or read() says that the daemon behind the file has ended: close the file, and open
 * it again when the daemon may be back. */
static inline int task_diag_is_gone(int error)
{
	return error == ENOTCONN || error == ECONNABORTED;
}

/* What an errno of these functions, of write() and of read() means here. */
static inline const char *task_diag_reason(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return "there is no such file: no task-diag daemon serves here";
	case ENOTCONN:
	case ECONNABORTED:
		return "the daemon behind this file has ended";
	case EACCES:
	case EPERM:
		return "not allowed: to open the file, or the daemon cannot tell who this process is";
	case EPROTO:
		return "the file does not speak the protocol of task_diag";
	case EBUSY:
		return "an earlier request has not been read to its end";
	case EINVAL:
		return "the request is malformed";
	case ESRCH:
		return "there is no task of that id";
	case EMSGSIZE:
		return "the buffer does not hold the next piece";
	default:
		return "a system error";
	}
}

#ifdef __cplusplus
}
#endif

#endif
