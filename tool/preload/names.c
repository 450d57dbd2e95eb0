/* preload/names.c - what names.py has the compiler read: KVM's interface, with what is newer than the system's. */
#include <guestmem/kvm_abi.h>
