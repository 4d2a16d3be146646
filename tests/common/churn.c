/* A second of processor time that only a thread used that has ended; then many threads that wait, and others that come and go. */
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static void *burn(void *nothing) {
    struct timespec used;
    do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    while (used.tv_sec < 1);
    return nothing;
}

static void *wait_for_ever(void *nothing) {
    for (;;) pause();
    return nothing;
}

static void *nothing_at_all(void *nothing) { return nothing; }

int main(void) {
    pthread_t thread;
    pthread_attr_t small;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    pthread_create(&thread, 0, burn, 0);
    pthread_join(thread, 0);
    for (int i = 0; i < 1500; i++) pthread_create(&thread, &small, wait_for_ever, 0);
    write(1, "\n", 1);
    for (;;)
        if (!pthread_create(&thread, &small, nothing_at_all, 0)) pthread_join(thread, 0);
}
