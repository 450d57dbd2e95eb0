/*
 * trace_commit.h - what the parts that follow a trace share: changes of slots within commits, and
 * findings.
 */
#ifndef TOOL_TRACE_COMMIT_H
#define TOOL_TRACE_COMMIT_H

#include "trace_vm.h"

/* A finding about an event, at the line at hand. */
struct trace_finding trace_finding_of(const struct trace_follow *follow,
                                      const struct trace_event *event,
                                      enum trace_finding_kind kind);
/* It is about this slot, not about what the call's arguments say. */
void trace_finding_about(struct trace_finding *finding, const struct trace_slot *slot);
void trace_finding_add(struct trace_follow *follow, const struct trace_finding *finding);

/* The slot with a number, or NULL; borrowed until the next change. */
struct trace_slot *trace_slot_of(const struct trace_vm *vm, uint32_t as, uint32_t number);

/* A call that goes on with the VM's open commit, or begins one. */
void trace_commit_call(struct trace_follow *follow, struct trace_vm *vm,
                       const struct trace_event *event);
/* A KVM_SET_USER_MEMORY_REGION that KVM has done, within a commit. */
void trace_commit_change(struct trace_follow *follow, struct trace_vm *vm,
                         const struct trace_event *event);
/* The open commit, if any, is over. */
void trace_commit_end(struct trace_follow *follow, struct trace_vm *vm);
/* The VM is gone: nothing comes back. */
void trace_commit_forget(struct trace_vm *vm);

#endif
