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
 *   next message, perhaps of the next read, goes on with the same task. A list (TASK_DIAG_VMA) or the bytes of a
 *   command line may be spread over several attributes and messages; the pieces are joined in their order.
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
#define TASK_DIAG_SHOW_MISSING TASK_DIAG_BIT(TASK_DIAG_MISSING)

/* Values of task_diag_request.dump_strategy: which tasks. */
#define TASK_DIAG_DUMP_ALL 0		/* every process */
#define TASK_DIAG_DUMP_ONE 1		/* the task pid */
#define TASK_DIAG_DUMP_ALL_THREAD 2	/* every thread of every process */
#define TASK_DIAG_DUMP_CHILDREN 3	/* the tasks whose parent is exactly the task (thread) pid */
#define TASK_DIAG_DUMP_THREAD 4		/* every thread of the process that pid is a thread of */

/* nlmsg_type of requests and of messages; nlmsg_flags of requests (never looked at) and of messages. */
#define TASK_DIAG_CMD_GET 0xd101
#define TASK_DIAG_NLM_F_REQUEST 1
#define TASK_DIAG_NLM_F_MULTI 2

/* task_diag_msg.flags: the task goes on in the next message. Other bits mean nothing. */
#define TASK_DIAG_FLAG_CONT 1

/* ---- The structures of the wire -------------------------------------------------------------------------------- */

/* What is written: struct nlmsghdr, then struct task_diag_pid of the kernel patch. */
struct task_diag_request {
	uint32_t nlmsg_len;	/* 40, or more: what follows is ignored */
	uint16_t nlmsg_type;	/* never looked at */
	uint16_t nlmsg_flags;	/* never looked at */
	uint32_t nlmsg_seq;	/* echoed in every message of the answer */
	uint32_t nlmsg_pid;	/* never looked at */
	uint64_t show_flags;	/* TASK_DIAG_SHOW_*; unknown bits are ignored */
	uint64_t dump_strategy;	/* TASK_DIAG_DUMP_* */
	uint32_t pid;		/* of ONE, CHILDREN and THREAD: any thread's id, in the reader's pid namespace */
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

/* One attribute; the payload of TASK_DIAG_VMA is read by task_diag_next_mapping(&attribute.payload, ...), that of
 * TASK_DIAG_CMDLINE is the bytes themselves, and for the others there is a task_diag_get_*() each. */
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

/* TASK_DIAG_MISSING: 1, 0 if it is another attribute, -1 if malformed. */
static inline int task_diag_get_missing(const struct task_diag_attribute *attribute, uint64_t *missing)
{
	return task_diag_get(attribute, TASK_DIAG_MISSING, missing, sizeof(*missing), sizeof(*missing));
}

/* Whether a part of a mapping's record lies behind its head and within it. */
static inline int task_diag_within(const struct task_diag_mapping *mapping, size_t off, size_t len)
{
	return off >= sizeof(mapping->vma) && off + len <= mapping->record.len;
}

/* The next mapping of a TASK_DIAG_VMA attribute: 1, 0 at the end, -1 if malformed. All of the record is checked here. */
static inline int task_diag_next_mapping(struct task_diag_bytes *rest, struct task_diag_mapping *mapping)
{
	struct task_diag_vma *vma = &mapping->vma;
	const unsigned char *name;

	if (rest->len == 0)
		return 0;
	if (rest->len < sizeof(*vma))
		return task_diag_malformed(rest);
	memcpy(vma, rest->data, sizeof(*vma));
	if (vma->vma_len < sizeof(*vma) || vma->vma_len % 4 != 0 || vma->vma_len > rest->len)
		return task_diag_malformed(rest);
	mapping->record = task_diag_bytes_of(rest->data, vma->vma_len);
	if (vma->stat_len != 0 && (vma->stat_len < sizeof(struct task_diag_vma_stat) ||
				   !task_diag_within(mapping, vma->stat_off, vma->stat_len)))
		return task_diag_malformed(rest);
	if (vma->name_len != 0) {
		if (!task_diag_within(mapping, vma->name_off, vma->name_len))
			return task_diag_malformed(rest);
		/* Its only NUL is its last byte. */
		name = rest->data + vma->name_off;
		if (memchr(name, 0, vma->name_len) != name + vma->name_len - 1)
			return task_diag_malformed(rest);
	}
	task_diag_skip(rest, vma->vma_len);
	return 1;
}

/* The name of a mapping that task_diag_next_mapping() gave, ended by a NUL, within the buffer; "" without one. It is
 * that of /proc/PID/maps ("[heap]", "/usr/bin/x (deleted)") but not escaped: it may hold any other byte. */
static inline const char *task_diag_mapping_name(const struct task_diag_mapping *mapping)
{
	return mapping->vma.name_len == 0 ? "" : (const char *)(mapping->record.data + mapping->vma.name_off);
}

/* The statistics of a mapping that task_diag_next_mapping() gave: 1, or 0 without any. */
static inline int task_diag_mapping_stat(const struct task_diag_mapping *mapping, struct task_diag_vma_stat *stat)
{
	if (mapping->vma.stat_len == 0)
		return 0;
	memcpy(stat, mapping->record.data + mapping->vma.stat_off, sizeof(*stat));
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

/* Writes a request: 0, or -1 and errno. */
static inline int task_diag_ask(int fd, const struct task_diag_request *request)
{
	ssize_t n;

	do
		n = write(fd, request, sizeof(*request));
	while (n < 0 && errno == EINTR);
	if (n >= 0 && (size_t)n != sizeof(*request))
		errno = EPROTO;
	return n == (ssize_t)sizeof(*request) ? 0 : -1;
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
		return "not allowed; the reader may live in another namespace than the daemon";
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
