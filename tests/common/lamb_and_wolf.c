/* Runs itself again and again: as its user's, then as root's by the set-user-id bit, which gives up its rights for good
 * and goes back. Root's has a secret by name: as a file that it has open and mapped, as its working directory, in its
 * arguments and its environment. Wherever its user's runs, all is at the same place as before. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static char **arguments;
enum { NAME, PLACE, ROOM };
static char lamb[256], wolf[256], den[256];

/* Up to two milliseconds. */
static void while_away(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    usleep((now.tv_nsec / 7 + getpid()) % 2000);
}

static void put(char *room, const char *name) {
    memset(room, '-', strlen(room));
    memcpy(room, name, strlen(name));
}

static void *run(void *program) {
    execve(program, arguments, environ);
    _exit(9);
}

/* Has the memory for a moment longer than the program that it was made by. */
static int keeper(void *nothing) {
    usleep(5000);
    _exit(0);
}

int main(int argc, char **argv) {
    arguments = argv;
    snprintf(lamb, 256, "%s/lamb", argv[PLACE]);
    snprintf(wolf, 256, "%s/wolf", argv[PLACE]);
    snprintf(den, 256, "%s/den", argv[PLACE]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (geteuid() == 0 && getuid() != 0) {
        chdir(den);
        int file = open("SECRET-OF-ROOTS", O_RDONLY | O_CLOEXEC);
        mmap(0, 4096, PROT_READ, MAP_PRIVATE, file, 0);
        put(argv[ROOM], "SECRET-OF-ROOTS");
        put(strchr(environ[0], '=') + 1, "SECRET-OF-ROOTS");
        prctl(PR_SET_NAME, "SECRET-OF-ROOT");
        while_away();
        put(argv[ROOM], "");
        put(strchr(environ[0], '=') + 1, "");
        chdir("/");
        gid_t gid = getgid();
        uid_t uid = getuid();
        if (setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) return 8;
        run(lamb);
    }
    if (!environ[0]) {
        static char *room[] = {"ROOM=----------------------------------------", 0};
        environ = room;
        run(lamb);
    }
    int now = personality(0xffffffff);
    if (!(now & ADDR_NO_RANDOMIZE)) {
        personality(now | ADDR_NO_RANDOMIZE);
        run(lamb);
    }
    signal(SIGCHLD, SIG_IGN);
    char *stack = malloc(65536);
    clone(keeper, stack + 65536, CLONE_VM | SIGCHLD, 0);
    while_away();
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    pthread_t thread;
    /* Of two threads now and then the one that is not the leader. */
    if (moment.tv_nsec / 64 % 4 == 0 && !pthread_create(&thread, 0, run, wolf)) pause();
    run(wolf);
}
