/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The order of loads.
 *
 * What is read without a lock counts only if something stood still from before it was read until afterwards: the task's
 * memory and credentials, a sequence number, a pointer that leads there. That takes loads to be seen in the order in
 * which they are written down, and smp_rmb() says where: what is loaded before it is loaded before what is loaded after
 * it, as for the kernel's own macro of that name. Whoever changes such things orders its stores with smp_wmb(), releases
 * or locks; where it does not, that is said beside the reader.
 *
 * A load through an address that was itself loaded needs none: it comes later on every processor (an address
 * dependency, as under rcu_dereference(), also where the address went through memory of a map meanwhile). */
#pragma once

#ifdef __TARGET_ARCH_x86
/* x86-64 shows loads in program order, so only the compiler is to be held. */
#define smp_rmb() asm volatile("" ::: "memory")
#else
/* BPF has no barrier, and a load-acquire only for kernels since 6.15. But an atomic operation that returns a value is
 * fully ordered, for the interpreter and for every JIT: arm64's makes `swpal` of it, or `ldxr`, `stlxr` and then
 * `dmb ish`. An exchange is chosen because no compiler turns it into one that returns none, which would order nothing. */
#define smp_rmb()                                                                                                      \
    ({                                                                                                                 \
        unsigned long long word_ = 0;                                                                                  \
        __sync_lock_test_and_set(&word_, 0);                                                                           \
        asm volatile("" ::: "memory");                                                                                 \
    })
#endif
