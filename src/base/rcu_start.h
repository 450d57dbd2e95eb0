/*
 * base/rcu_start.h - the one thing of read-copy-update that can fail.
 */
#ifndef BASE_RCU_START_H
#define BASE_RCU_START_H

/*
 * Before anything that will be deferred is made: what rcu_defer() needs, which cannot fail, is there from then on. Without it a process
 * that can have no more threads would end at its first deferral, by liburcu's hand. Return: 0; -ENOMEM no thread can be made.
 */
int rcu_start(void);

#endif
