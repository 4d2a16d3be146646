/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A small ps: asks a task_diag daemon, and reads /proc where none answers. Says on standard error which it was.
 *
 *	task_diag_ps [-i] [PATH]
 *
 * -i: another list for each line of standard input; an empty line ends each. PATH: the file of another mount.
 */
#define _POSIX_C_SOURCE 200809L

#include "task_diag.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct process {
	uint32_t pid, ppid, euid;
	char state;
	uint64_t rss;	/* pages */
	uint64_t ticks; /* in user and in kernel mode */
	uint64_t start; /* ticks since boot; UINT64_MAX: not known */
	char comm[17];
	char *args; /* each ended by a NUL */
	size_t args_len;
};

struct list {
	struct process *processes;
	size_t count, room;
};

/* Ticks that this process' time namespace is ahead of the one that times of start are given in. */
static int64_t ahead;

static void die(const char *what)
{
	fprintf(stderr, "task_diag_ps: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void *must(void *memory)
{
	if (!memory)
		die("memory");
	return memory;
}

static void clear(struct list *list)
{
	while (list->count > 0)
		free(list->processes[--list->count].args);
}

static struct process *append(struct list *list, uint32_t pid)
{
	struct process *process;

	if (list->count == list->room) {
		list->room = list->room ? list->room * 2 : 256;
		list->processes = must(realloc(list->processes, list->room * sizeof(*list->processes)));
	}
	process = &list->processes[list->count++];
	memset(process, 0, sizeof(*process));
	process->pid = pid;
	process->state = '?';
	process->start = UINT64_MAX;
	return process;
}

static void append_args(struct process *process, const void *data, size_t len)
{
	if (len == 0)
		return;
	process->args = must(realloc(process->args, process->args_len + len));
	memcpy(process->args + process->args_len, data, len);
	process->args_len += len;
}

/* ---- From a daemon --------------------------------------------------------------------------------------------- */

static int add_message(struct process *process, const struct task_diag_message *message)
{
	struct task_diag_bytes rest = message->attributes;
	struct task_diag_attribute attribute;
	struct task_diag_base base;
	struct task_diag_creds creds;
	struct task_diag_stat stat;
	struct task_diag_statm statm;
	struct task_diag_sched sched;
	int more;

	while ((more = task_diag_next_attribute(&rest, &attribute)) > 0) {
		if (task_diag_get_base(&attribute, &base) > 0) {
			process->ppid = base.ppid;
			process->state = task_diag_state_letter(base.state);
			memcpy(process->comm, base.comm, sizeof(base.comm));
		} else if (task_diag_get_creds(&attribute, &creds) > 0) {
			process->euid = creds.euid;
		} else if (task_diag_get_stat(&attribute, &stat) > 0) {
			process->ticks = stat.utime + stat.stime;
		} else if (task_diag_get_statm(&attribute, &statm) > 0) {
			process->rss = statm.total_rss;
		} else if (task_diag_get_sched(&attribute, &sched) > 0) {
			process->start = sched.start_time / (1000000000 / (uint64_t)sysconf(_SC_CLK_TCK));
		} else if (attribute.id == TASK_DIAG_CMDLINE) {
			append_args(process, attribute.payload.data, attribute.payload.len);
		}
	}
	return more;
}

/* 0, or -1 and errno. */
static int dump(struct list *list, int fd)
{
	static unsigned char *buffer;
	static size_t room = TASK_DIAG_BUFFER;
	const struct task_diag_request request = task_diag_request_for(
		TASK_DIAG_SHOW_BASE | TASK_DIAG_SHOW_CRED | TASK_DIAG_SHOW_STAT | TASK_DIAG_SHOW_STATM |
			TASK_DIAG_SHOW_CMDLINE | TASK_DIAG_SHOW_SCHED,
		TASK_DIAG_DUMP_ALL, 0);
	int within = 0; /* whether the next message goes on with the last process */

	if (!buffer)
		buffer = must(malloc(room));
	if (task_diag_ask(fd, &request) < 0)
		return -1;
	for (;;) {
		ssize_t n = read(fd, buffer, room);
		struct task_diag_bytes rest;
		struct task_diag_message message;
		int more;

		if (n == 0)
			return 0;
		if (n < 0 && errno == EMSGSIZE) {
			buffer = must(realloc(buffer, room *= 2));
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		rest = task_diag_bytes_of(buffer, (size_t)n);
		while ((more = task_diag_next_message(&rest, &message)) > 0) {
			if (!within)
				append(list, message.pid);
			within = task_diag_continues(&message);
			if (add_message(&list->processes[list->count - 1], &message) < 0)
				break;
		}
		if (more != 0) {
			errno = EPROTO;
			return -1;
		}
	}
}

/* 0, or -1 and errno. *fd stays open from list to list; a daemon that was started again is found. */
static int from_daemon(struct list *list, const char *path, int *fd)
{
	int error;

	do {
		if (*fd < 0)
			*fd = task_diag_open(path);
		if (*fd < 0)
			return -1;
		if (dump(list, *fd) == 0)
			return 0;
		error = errno;
		close(*fd);
		*fd = -1;
		clear(list);
		if (task_diag_is_gone(error))
			fprintf(stderr, "task_diag_ps: %s; opening it again\n", task_diag_reason(error));
	} while (task_diag_is_gone(error));
	errno = error;
	return -1;
}

/* ---- From /proc ------------------------------------------------------------------------------------------------ */

/* A whole file of a process, ended by a NUL beyond its len bytes; NULL if the process is gone. */
static char *proc_file(uint32_t pid, const char *name, size_t *len)
{
	char path[64], *text = NULL;
	size_t room = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/%s", pid, name);
	*len = 0;
	file = fopen(path, "rb");
	if (!file)
		return NULL;
	do {
		if (*len + 1 >= room)
			text = must(realloc(text, room = room ? room * 2 : 4096));
		*len += fread(text + *len, 1, room - *len - 1, file);
	} while (!feof(file) && !ferror(file));
	text[*len] = 0;
	if (ferror(file)) {
		free(text);
		text = NULL;
	}
	fclose(file);
	return text;
}

/* A daemon may be in another time namespace: this very process tells how far that is. */
static void compare_clocks(const struct list *list)
{
	size_t at, len;
	char *stat = proc_file((uint32_t)getpid(), "stat", &len);
	const char *behind = stat ? strrchr(stat, ')') : NULL;
	uint64_t start;

	ahead = 0;
	if (behind && sscanf(behind, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64, &start) == 1)
		for (at = 0; at < list->count; at++)
			if (list->processes[at].pid == (uint32_t)getpid() && list->processes[at].start != UINT64_MAX)
				ahead = (int64_t)start - (int64_t)list->processes[at].start;
	/* What a rounding makes is no other clock. */
	if (ahead >= -2 && ahead <= 2)
		ahead = 0;
	free(stat);
}

static void add_proc_process(struct list *list, uint32_t pid)
{
	size_t len, comm_len, args_len;
	char *stat = proc_file(pid, "stat", &len), *status = proc_file(pid, "status", &len);
	char *statm = proc_file(pid, "statm", &len), *comm = proc_file(pid, "comm", &comm_len);
	char *args = proc_file(pid, "cmdline", &args_len);
	/* A name may hold parentheses and line ends; nothing behind the last parenthesis does. */
	const char *behind = stat ? strrchr(stat, ')') : NULL, *uid = status ? strstr(status, "\nUid:") : NULL;
	uint64_t utime = 0, stime = 0;

	if (behind && uid && statm && comm && args) {
		struct process *process = append(list, pid);

		sscanf(behind, ") %c %" SCNu32 " %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
		       " %*d %*d %*d %*d %*d %*d %" SCNu64, &process->state, &process->ppid, &utime, &stime, &process->start);
		process->ticks = utime + stime;
		sscanf(uid, "\nUid: %*u %" SCNu32, &process->euid);
		sscanf(statm, "%*u %" SCNu64, &process->rss);
		comm_len = comm_len > 16 ? 16 : comm_len; /* of kernel workers it says more */
		memcpy(process->comm, comm, comm_len > 0 ? comm_len - 1 : 0); /* but for the line end */
		append_args(process, args, args_len);
	}
	free(stat);
	free(status);
	free(statm);
	free(comm);
	free(args);
}

static void from_proc(struct list *list)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	if (!dir)
		die("/proc");
	while ((entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			add_proc_process(list, (uint32_t)strtoul(entry->d_name, NULL, 10));
	closedir(dir);
}

/* ---- The list -------------------------------------------------------------------------------------------------- */

/* Of a known user the name, of others the number. */
static const char *user(uint32_t uid)
{
	static char name[33];
	static uint32_t known;
	const struct passwd *entry;

	if (name[0] && known == uid)
		return name;
	known = uid;
	entry = getpwuid((uid_t)uid);
	if (entry)
		snprintf(name, sizeof(name), "%s", entry->pw_name);
	else
		snprintf(name, sizeof(name), "%" PRIu32, uid);
	return name;
}

/* Of a process that was started today the hour, else the day; "-" if the daemon does not say. */
static const char *started(const struct process *process)
{
	static char text[16];
	struct timespec now, since_boot;
	struct tm today, day;
	time_t then;

	if (process->start == UINT64_MAX)
		return "-";
	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &since_boot);
	then = now.tv_sec - since_boot.tv_sec - (now.tv_nsec < since_boot.tv_nsec);
	then += (time_t)(((int64_t)process->start + ahead) / sysconf(_SC_CLK_TCK));
	localtime_r(&now.tv_sec, &today);
	localtime_r(&then, &day);
	strftime(text, sizeof(text), day.tm_yday == today.tm_yday && day.tm_year == today.tm_year ? "%H:%M" : "%b%d", &day);
	return text;
}

/* The bytes, but for what could confuse a terminal. */
static void plain(const char *text, size_t len)
{
	size_t at;

	for (at = 0; at < len; at++) {
		if (text[at] == 0)
			putchar(' ');
		else
			putchar(isprint((unsigned char)text[at]) ? text[at] : '?');
	}
}

static void show(const struct process *process)
{
	const uint64_t kib = (uint64_t)sysconf(_SC_PAGESIZE) / 1024, ticks = (uint64_t)sysconf(_SC_CLK_TCK);
	const char *name = user(process->euid);
	size_t len = process->args_len;

	printf("%7" PRIu32 " %7" PRIu32 " ", process->pid, process->ppid);
	plain(name, strlen(name));
	printf("%*s %c %9" PRIu64 " %6" PRIu64 ".%02" PRIu64 " %-5s ", strlen(name) < 12 ? 12 - (int)strlen(name) : 0, "",
	       process->state, process->rss * kib, process->ticks / ticks, process->ticks % ticks * 100 / ticks,
	       started(process));
	while (len > 0 && process->args[len - 1] == 0)
		len--;
	if (len > 0) {
		plain(process->args, len);
	} else {
		putchar('[');
		plain(process->comm, strlen(process->comm));
		putchar(']');
	}
	putchar('\n');
}

int main(int argc, char **argv)
{
	int again = argc > 1 && strcmp(argv[1], "-i") == 0, fd = -1, c;
	const char *path = argc > 1 + again ? argv[1 + again] : TASK_DIAG_PATH;
	struct list list = { NULL, 0, 0 };
	size_t at;

	do {
		if (from_daemon(&list, path, &fd) == 0) {
			compare_clocks(&list);
			fprintf(stderr, "task_diag_ps: asked %s\n", path);
		} else {
			fprintf(stderr, "task_diag_ps: %s: %s (%s); reading /proc\n", path, task_diag_reason(errno),
				strerror(errno));
			from_proc(&list);
			ahead = 0;
		}
		printf("%7s %7s %-12s %c %9s %9s %-5s %s\n", "PID", "PPID", "USER", 'S', "RSS/KiB", "TIME/s", "START",
		       "COMMAND");
		for (at = 0; at < list.count; at++)
			show(&list.processes[at]);
		clear(&list);
		if (again)
			putchar('\n');
		if (fflush(stdout) != 0)
			die("standard output");
		do
			c = again ? getchar() : EOF;
		while (c != '\n' && c != EOF);
	} while (c != EOF);
	free(list.processes);
	if (fd >= 0)
		close(fd);
	return 0;
}
