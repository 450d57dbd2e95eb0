/* temporary */
#include "x86/event.h"
#include "x86/exec.h"
#define STUB(n) insn_fn *n(struct insn *insn) { (void)insn; return NULL; }
STUB(exec_far) STUB(exec_segment) STUB(exec_system) STUB(exec_sse) STUB(exec_sse_packed) STUB(exec_fpu)
enum step event_deliver(struct x86_vcpu *vcpu) { return step_exit(vcpu, X86_EXIT_SHUTDOWN); }
