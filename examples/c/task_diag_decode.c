/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Decodes answers of task_diag: files that hold the bytes of reads, or standard input. A line for each message, attribute
 * and record of a list; bytes that are not plain are written as \xNN. GROUPS and FILES, which are joined first if they came
 * in pieces, stand at the end of their task.
 *
 *	task_diag_decode [FILE...]
 *
 * Ends with status 1 if an answer is malformed; the lines up to there are shown.
 */
#include "task_diag.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int malformed;

static void give_up(const char *what)
{
	printf("malformed %s\n", what);
	malformed = 1;
}

static void *must(void *memory);

static void plain(const char *label, const void *data, size_t len)
{
	const unsigned char *bytes = (const unsigned char *)data;
	size_t at;

	printf(" %s ", label);
	for (at = 0; at < len; at++) {
		if (bytes[at] > ' ' && bytes[at] < 0x7f && bytes[at] != '\\')
			putchar(bytes[at]);
		else
			printf("\\x%02x", (unsigned int)bytes[at]);
	}
}

static void escaped(const char *label, const void *data, size_t len)
{
	plain(label, data, len);
	putchar('\n');
}

static void string(const char *label, const char *text)
{
	plain(label, text, strlen(text));
}

static void numbers(const char *label, const uint64_t *values, size_t count)
{
	size_t at;

	printf("%s", label);
	for (at = 0; at < count; at++)
		printf(" %" PRIu64, values[at]);
}

static void show_base(const struct task_diag_base *b)
{
	const void *end = memchr(b->comm, 0, sizeof(b->comm));

	printf("base tgid %" PRIu32 " pid %" PRIu32 " ppid %" PRIu32 " tpid %" PRIu32, b->tgid, b->pid, b->ppid, b->tpid);
	printf(" sid %" PRIu32 " pgid %" PRIu32 " state %u %c", b->sid, b->pgid, (unsigned int)b->state,
	       task_diag_state_letter(b->state));
	escaped("comm", b->comm, end ? (size_t)((const char *)end - b->comm) : sizeof(b->comm));
}

static void show_set(const char *label, const uint32_t set[2])
{
	printf(" %s %08" PRIx32 "%08" PRIx32, label, set[1], set[0]);
}

static void show_creds(const struct task_diag_creds *c)
{
	printf("creds uid %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32, c->uid, c->euid, c->suid, c->fsuid);
	printf(" gid %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32, c->gid, c->egid, c->sgid, c->fsgid);
	show_set("inheritable", c->cap_inheritable);
	show_set("permitted", c->cap_permitted);
	show_set("effective", c->cap_effective);
	show_set("bounding", c->cap_bset);
	putchar('\n');
}

static void show_stat(const struct task_diag_stat *s)
{
	const uint64_t values[] = { s->minflt, s->cminflt, s->majflt, s->cmajflt, s->utime, s->stime, s->cutime, s->cstime };

	numbers("stat", values, sizeof(values) / sizeof(*values));
	printf(" threads %" PRIu32 "\n", s->threads);
}

static void show_statm(const struct task_diag_statm *m)
{
	const uint64_t values[] = {
		m->anon, m->file, m->shmem, m->total_vm, m->total_rss, m->hiwater_vm, m->hiwater_rss, m->text,
		m->lib, m->swap, m->ptes, m->locked_vm, m->pinned_vm, m->data_vm, m->stack_vm,
	};

	numbers("statm", values, sizeof(values) / sizeof(*values));
	putchar('\n');
}

static void show_mapping(const struct task_diag_mapping *mapping)
{
	const struct task_diag_vma *v = &mapping->vma;
	const char *name = task_diag_mapping_name(mapping);
	struct task_diag_vma_stat s;

	printf("mapping %" PRIx64 "-%" PRIx64 " flags %" PRIx64 " pgoff %" PRIu64, v->start, v->end, v->vm_flags, v->pgoff);
	printf(" device %" PRIu32 ":%" PRIu32 " inode %" PRIu64 " generation %" PRIu32, v->major, v->minor, v->inode,
	       v->generation);
	escaped("name", name, strlen(name));
	if (task_diag_mapping_stat(mapping, &s)) {
		const uint64_t values[] = { s.resident,	  s.shared_clean, s.shared_dirty,  s.private_clean, s.private_dirty,
					    s.referenced, s.anonymous,	  s.anonymous_thp, s.swap,	    s.pss };

		numbers("mapping_stat", values, sizeof(values) / sizeof(*values));
		putchar('\n');
	}
}

static void show_mappings(struct task_diag_bytes list)
{
	struct task_diag_mapping mapping;
	int more;

	while ((more = task_diag_next_mapping(&list, &mapping)) > 0)
		show_mapping(&mapping);
	if (more < 0)
		give_up("mapping");
}

static void show_sched(const struct task_diag_sched *s)
{
	const uint64_t values[] = { s->start_time, s->voluntary_switches,  s->involuntary_switches,
				    s->guest_time, s->children_guest_time, s->blkio_delay };

	numbers("sched", values, sizeof(values) / sizeof(*values));
	printf(" flags %" PRIx32 " nice %" PRId32 " priority %" PRId32 " rt_priority %" PRIu32, s->flags, s->nice, s->priority,
	       s->rt_priority);
	printf(" policy %" PRIu32 " processor %" PRId32 " tty_nr %" PRId32 " tpgid %" PRId32 " exit_signal %" PRId32 "\n",
	       s->policy, s->processor, s->tty_nr, s->tpgid, s->exit_signal);
}

static void show_io(const struct task_diag_io *i)
{
	const uint64_t values[] = { i->rchar,	   i->wchar,	   i->syscr,		     i->syscw,
				    i->read_bytes, i->write_bytes, i->cancelled_write_bytes };

	numbers("io", values, sizeof(values) / sizeof(*values));
	putchar('\n');
}

static void show_rollup(const struct task_diag_rollup *r)
{
	const uint64_t values[] = {
		r->rss, r->pss, r->pss_dirty, r->pss_anon, r->pss_file, r->pss_shmem, r->shared_clean, r->shared_dirty,
		r->private_clean, r->private_dirty, r->referenced, r->anonymous, r->ksm, r->lazy_free, r->anon_huge_pages,
		r->locked, r->shmem_pmd_mapped, r->file_pmd_mapped, r->shared_hugetlb, r->private_hugetlb, r->swap, r->swap_pss,
	};

	numbers("rollup", values, sizeof(values) / sizeof(*values));
	putchar('\n');
}

static void list(const char *label, struct task_diag_numbers list, size_t count)
{
	size_t at;

	printf(" %s", label);
	for (at = 0; at < count; at++)
		printf(" %" PRIu32, task_diag_number(list, at));
}

static void show_cgroups(struct task_diag_bytes records)
{
	struct task_diag_membership membership;
	int more;

	while ((more = task_diag_next_cgroup(&records, &membership)) > 0) {
		printf("cgroup %u", (unsigned int)membership.hierarchy);
		string("controllers", membership.controllers);
		string("path", membership.path);
		putchar('\n');
	}
	if (more < 0)
		give_up("cgroup");
}

static void show_fds(struct task_diag_bytes records)
{
	struct task_diag_fd fd;
	const char *name;
	int more;

	while ((more = task_diag_next_fd(&records, &fd, &name)) > 0) {
		printf("fd %" PRIu32 " pos %" PRIu64 " flags %" PRIo32 " type %u device %" PRIu32 ":%" PRIu32, fd.fd, fd.pos,
		       fd.flags, (unsigned int)fd.type, fd.major, fd.minor);
		printf(" inode %" PRIu64, fd.inode);
		string("name", name);
		putchar('\n');
	}
	if (more < 0)
		give_up("fd");
}

/* What came of an attribute that is understood only as a whole. */
struct pieces {
	unsigned char *data;
	size_t len;
	int came;
};

static struct pieces groups, files;

static void add_piece(struct pieces *pieces, struct task_diag_bytes piece)
{
	pieces->came = 1;
	if (piece.len == 0)
		return;
	pieces->data = (unsigned char *)must(realloc(pieces->data, pieces->len + piece.len));
	memcpy(pieces->data + pieces->len, piece.data, piece.len);
	pieces->len += piece.len;
}

static void forget(struct pieces *pieces)
{
	free(pieces->data);
	memset(pieces, 0, sizeof(*pieces));
}

static void show_joined(void)
{
	struct task_diag_groups g;
	struct task_diag_numbers gids;
	struct task_diag_places p;

	if (groups.came && task_diag_get_groups(task_diag_bytes_of(groups.data, groups.len), &g, &gids) > 0) {
		printf("groups");
		show_set("ambient", g.cap_ambient);
		printf(" securebits %" PRIx32 " no_new_privs %u seccomp %u", g.securebits, (unsigned int)g.no_new_privs,
		       (unsigned int)g.seccomp);
		list("gids", gids, gids.count);
		putchar('\n');
	} else if (groups.came) {
		give_up("groups");
	}
	if (files.came && task_diag_get_files(task_diag_bytes_of(files.data, files.len), &p) > 0) {
		printf("files");
		string("exe", p.exe);
		string("cwd", p.cwd);
		string("root", p.root);
		putchar('\n');
	} else if (files.came) {
		give_up("files");
	}
	forget(&groups);
	forget(&files);
}

/* 1, or -1 if malformed. */
static int show_attribute(const struct task_diag_attribute *attribute)
{
	struct task_diag_base base;
	struct task_diag_creds creds;
	struct task_diag_stat stat;
	struct task_diag_statm statm;
	struct task_diag_sched sched;
	struct task_diag_io io;
	struct task_diag_fd_count count;
	struct task_diag_rollup rollup;
	struct task_diag_misc misc;
	struct task_diag_numbers inodes, pids;
	const char *wchan, *label;
	uint64_t missing;
	int got;

	switch (attribute->id) {
	case TASK_DIAG_BASE:
		if ((got = task_diag_get_base(attribute, &base)) > 0)
			show_base(&base);
		return got;
	case TASK_DIAG_CRED:
		if ((got = task_diag_get_creds(attribute, &creds)) > 0)
			show_creds(&creds);
		return got;
	case TASK_DIAG_VMA:
		show_mappings(attribute->payload);
		return 1;
	case TASK_DIAG_STAT:
		if ((got = task_diag_get_stat(attribute, &stat)) > 0)
			show_stat(&stat);
		return got;
	case TASK_DIAG_CMDLINE:
		printf("cmdline");
		break;
	case TASK_DIAG_STATM:
		if ((got = task_diag_get_statm(attribute, &statm)) > 0)
			show_statm(&statm);
		return got;
	case TASK_DIAG_TASKSTATS:
		printf("taskstats");
		break;
	case TASK_DIAG_GROUPS:
		add_piece(&groups, attribute->payload);
		return 1;
	case TASK_DIAG_SCHED:
		if ((got = task_diag_get_sched(attribute, &sched)) > 0)
			show_sched(&sched);
		return got;
	case TASK_DIAG_IO:
		if ((got = task_diag_get_io(attribute, &io)) > 0)
			show_io(&io);
		return got;
	case TASK_DIAG_CGROUP:
		show_cgroups(attribute->payload);
		return 1;
	case TASK_DIAG_NS:
		if ((got = task_diag_get_ns(attribute, &inodes, &pids)) > 0) {
			printf("ns");
			list("inodes", inodes, TASK_DIAG_NS_KINDS);
			list("pids", pids, pids.count);
			putchar('\n');
		}
		return got;
	case TASK_DIAG_FILES:
		add_piece(&files, attribute->payload);
		return 1;
	case TASK_DIAG_FD_COUNT:
		if ((got = task_diag_get_fd_count(attribute, &count)) > 0)
			printf("fd_count %" PRIu32 " limits %" PRIu64 " %" PRIu64 "\n", count.open, count.soft_limit,
			       count.hard_limit);
		return got;
	case TASK_DIAG_FD:
		show_fds(attribute->payload);
		return 1;
	case TASK_DIAG_ROLLUP:
		if ((got = task_diag_get_rollup(attribute, &rollup)) > 0)
			show_rollup(&rollup);
		return got;
	case TASK_DIAG_ENVIRON:
		printf("environ");
		break;
	case TASK_DIAG_MISC:
		if ((got = task_diag_get_misc(attribute, &misc, &wchan, &label)) > 0) {
			printf("misc oom_score %" PRId32 " oom_score_adj %" PRId32, misc.oom_score, misc.oom_score_adj);
			printf(" loginuid %" PRIu32 " sessionid %" PRIu32, misc.loginuid, misc.sessionid);
			string("wchan", wchan);
			string("label", label);
			putchar('\n');
		}
		return got;
	case TASK_DIAG_MISSING:
		if ((got = task_diag_get_missing(attribute, &missing)) > 0)
			printf("missing %" PRIx64 "\n", missing);
		return got;
	default:
		printf("attribute %u", (unsigned int)attribute->id);
	}
	escaped("bytes", attribute->payload.data, attribute->payload.len);
	return 1;
}

static void show_message(const struct task_diag_message *message)
{
	struct task_diag_bytes rest = message->attributes;
	struct task_diag_attribute attribute;
	int more;

	printf("message seq %" PRIu32 " pid %" PRIu32 " tgid %" PRIu32 " continues %d\n", message->seq, message->pid,
	       message->tgid, task_diag_continues(message));
	while ((more = task_diag_next_attribute(&rest, &attribute)) > 0)
		if ((more = show_attribute(&attribute)) < 0)
			break;
	if (more < 0)
		give_up("attribute");
	if (!task_diag_continues(message))
		show_joined();
}

static void show_answer(const unsigned char *data, size_t len)
{
	struct task_diag_bytes rest = task_diag_bytes_of(data, len);
	struct task_diag_message message;
	int more;

	while ((more = task_diag_next_message(&rest, &message)) > 0)
		show_message(&message);
	if (more < 0)
		give_up("message");
	show_joined(); /* of a task that does not end */
}

static void die(const char *what)
{
	fprintf(stderr, "task_diag_decode: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void *must(void *memory)
{
	if (!memory)
		die("memory");
	return memory;
}

static void decode(const char *path)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
	unsigned char *data = NULL, *exact;
	size_t len = 0, room = 0;

	if (!file)
		die(path);
	do {
		if (len == room)
			data = (unsigned char *)must(realloc(data, room = room ? room * 2 : TASK_DIAG_BUFFER));
		len += fread(data + len, 1, room - len, file);
	} while (!feof(file) && !ferror(file));
	if (ferror(file))
		die(path);
	if (file != stdin)
		fclose(file);
	/* Exactly as large as the answer, so that tools which watch memory see a read of one byte too many. */
	exact = (unsigned char *)must(malloc(len ? len : 1));
	memcpy(exact, data, len);
	free(data);
	show_answer(exact, len);
	free(exact);
}

int main(int argc, char **argv)
{
	int at;

	if (argc < 2)
		decode("-");
	for (at = 1; at < argc; at++) {
		if (argc > 2)
			printf("file %s\n", argv[at]);
		decode(argv[at]);
	}
	if (fflush(stdout) != 0)
		die("standard output");
	return malformed;
}
