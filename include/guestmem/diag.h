/*
 * guestmem/diag.h - what a call that failed has to say: a sentence for people, and an id for programs.
 *
 * An errno says what kind of failure it was; an id says which one. Ids are never renumbered and never used again for
 * something else; new ones may come with any version. docs/errors.md is this table, made to be read.
 */
#ifndef GUESTMEM_DIAG_H
#define GUESTMEM_DIAG_H

#ifdef __cplusplus
extern "C" {
#endif

/* X(NAME, number, "name in texts", "errnos that it comes with", "what happened, and what to do") */
#define GM_DIAG_IDS(X)                                                                             \
    X(NO_MEMORY, 1, "no-memory", "ENOMEM", "The allocator, or the host, has no memory.")           \
    X(OPTIONS_TOO_SHORT, 2, "options-too-short", "EINVAL",                                         \
      "A structure's size is below that of its first version: set it to its sizeof.")              \
    X(OPTIONS_TOO_NEW, 3, "options-too-new", "E2BIG",                                              \
      "A structure asks for what a newer library knows.")                                          \
    X(IN_CALLBACK, 4, "in-callback", "EDEADLK",                                                    \
      "A listener's callback runs: it cannot change the map that it is told about.")               \
    X(OTHER_MAP, 5, "other-map", "EINVAL", "Two things that are put together belong to two maps.") \
    X(MAP_GIVEN_UP, 6, "map-given-up", "EIO, EINVAL", "gm_map_free() was called.")                 \
    X(MAP_BROKEN, 7, "map-broken", "EIO",                                                          \
      "An earlier commit failed and could not be undone: the map takes no more.")                  \
    X(UNDO_FAILED, 8, "undo-failed", "EIO", "This commit failed and could not be undone.")         \
    X(LISTENER_REFUSED, 9, "listener-refused", "any",                                              \
      "A listener's prepare or apply returned an error, and said nothing.")                        \
    X(FORKED, 10, "forked", "EIO",                                                                 \
      "The process is a child of fork(): what its parent made is not for it.")                     \
    X(KERNEL_TOO_OLD, 11, "kernel-too-old", "EOPNOTSUPP",                                          \
      "The kernel lacks MADV_WIPEONFORK: it takes Linux 4.14 or newer.")                           \
    X(REGION_KIND, 20, "region-kind", "EINVAL", "There is no such kind of region.")                \
    X(REGION_SIZE, 21, "region-size", "EINVAL", "A region is larger than 2^64.")                   \
    X(REGION_TARGET, 22, "region-target", "EINVAL",                                                \
      "An alias lacks a target of its map, or another kind has one.")                              \
    X(REGION_CALLBACKS, 23, "region-callbacks", "EINVAL",                                          \
      "An MMIO region or ROM device lacks callbacks, or another kind has them.")                   \
    X(REGION_ACCESS_SIZES, 24, "region-access-sizes", "EINVAL",                                    \
      "Sizes of accesses are 1, 2, 4 or 8, the least not above the most.")                         \
    X(REGION_TRANSLATION, 25, "region-translation", "EINVAL",                                      \
      "An IOMMU region lacks its translation, or another kind has one.")                           \
    X(REGION_MEMORY, 26, "region-memory", "EINVAL",                                                \
      "A region of a RAM kind lacks a block, or another kind has one.")                            \
    X(REGION_BEYOND_RAM, 27, "region-beyond-ram", "EINVAL",                                        \
      "A region ends beyond its block of memory.")                                                 \
    X(IOMMU_NOTIFIER, 28, "iommu-notifier", "EINVAL",                                              \
      "A notifier's region, table, range, kinds or callback are not right.")                       \
    X(IOMMU_REFUSED, 29, "iommu-refused", "any", "The IOMMU's owner refused a notifier.")          \
    X(EDIT_REFUSED, 40, "edit-refused", "EINVAL, ENOMEM",                                          \
      "An edit that its region does not take.")                                                    \
    X(EDIT_HAS_PARENT, 41, "edit-has-parent", "EBUSY",                                             \
      "A region is added that has a parent: remove it there first.")                               \
    X(EDIT_NOT_THERE, 42, "edit-not-there", "ENOENT",                                              \
      "An edit removes what is not there, or names a space that has ended.")                       \
    X(EDIT_THERE_ALREADY, 43, "edit-there-already", "EEXIST", "An eventfd is added twice.")        \
    X(EDIT_LOOP, 44, "edit-loop", "ELOOP", "A region would become its own ancestor.")              \
    X(EDIT_DESCRIPTOR, 45, "edit-descriptor", "EBADF, EMFILE",                                     \
      "An eventfd's descriptor cannot be duplicated.")                                             \
    X(ROOT_LOOP, 46, "root-loop", "ELOOP", "A space's root leads back to itself by aliases.")      \
    X(VIEW_LOOP, 47, "view-loop", "ELOOP", "A region shows itself at the same address.")           \
    X(VIEW_TOO_BIG, 48, "view-too-big", "E2BIG",                                                   \
      "A view has more ranges, steps or levels than the map's limits.")                            \
    X(SPACE_HAS_LISTENERS, 49, "space-has-listeners", "EBUSY",                                     \
      "A space cannot end while listeners of its own, or slots, are attached.")                    \
    X(SLOTS_EXHAUSTED, 60, "slots-exhausted", "ENOSPC",                                            \
      "The map needs more memory slots than the hypervisor has.")                                  \
    X(SLOTS_NO_DESTROY, 61, "slots-no-destroy", "EOPNOTSUPP",                                      \
      "A slot would have to be deleted, which the hypervisor cannot do.")                          \
    X(SLOTS_UNBACKED, 62, "slots-unbacked", "EINVAL",                                              \
      "RAM without host memory cannot be given to this hypervisor.")                               \
    X(SLOTS_UNKNOWN, 63, "slots-unknown", "EIO",                                                   \
      "The hypervisor's slots or eventfds are in an unknown state since an undo failed.")          \
    X(BACKEND_OPS, 64, "backend-ops", "EINVAL", "A backend lacks an operation.")                   \
    X(BACKEND_OPTIONS, 65, "backend-options", "EINVAL",                                            \
      "An option of a backend is out of its range.")                                               \
    X(BACKEND_SLOT, 66, "backend-slot", "any",                                                     \
      "The hypervisor refused to create, change or delete a slot.")                                \
    X(BACKEND_EVENTFD, 67, "backend-eventfd", "any",                                               \
      "The hypervisor refused to add or remove an eventfd.")                                       \
    X(BACKEND_HOLD, 68, "backend-hold", "any", "vCPUs could not be held out of guest mode.")       \
    X(BACKEND_COALESCED, 69, "backend-coalesced", "any",                                           \
      "The hypervisor refused to add or remove a coalesced range.")                                \
    X(SLOTS_GUEST_MEMFD, 70, "slots-guest-memfd", "EOPNOTSUPP",                                    \
      "RAM with a guest memfd cannot be given to this hypervisor.")                                \
    X(BACKEND_GUEST_MEMFD, 71, "backend-guest-memfd", "any",                                       \
      "A guest memfd was refused: it is another VM's, or a part of it is shown twice.")            \
    X(KVM_MISSING, 80, "kvm-missing", "ENOENT",                                                    \
      "/dev/kvm does not exist: load kvm_intel or kvm_amd, or take GM_ACCEL_AUTO.")                \
    X(KVM_DENIED, 81, "kvm-denied", "EACCES",                                                      \
      "/dev/kvm may not be opened by this user: join its group.")                                  \
    X(KVM_NO_DRIVER, 82, "kvm-no-driver", "ENODEV",                                                \
      "/dev/kvm has no driver: virtualization is off, or absent.")                                 \
    X(KVM_OPEN, 83, "kvm-open", "any", "/dev/kvm cannot be opened for another reason.")            \
    X(KVM_VERSION, 84, "kvm-version", "EOPNOTSUPP", "The device speaks no KVM, or another one.")   \
    X(KVM_LACKS, 85, "kvm-lacks", "EOPNOTSUPP", "KVM lacks what guestmem needs.")                  \
    X(KVM_CREATE_VM, 86, "kvm-create-vm", "any", "KVM does not make a VM.")                        \
    X(KVM_CREATE_VCPU, 87, "kvm-create-vcpu", "any", "KVM does not make a vCPU.")                  \
    X(KVM_RUN_AREA, 88, "kvm-run-area", "any", "A vCPU's shared area cannot be mapped.")           \
    X(KVM_SIGNAL_MASK, 89, "kvm-signal-mask", "any", "KVM does not set a vCPU's signal mask.")     \
    X(KVM_MANUAL_LOG, 90, "kvm-manual-log", "any",                                                 \
      "KVM does not switch manual protection of dirty logs.")                                      \
    X(KVM_GATE, 91, "kvm-gate", "ENOMEM, EAGAIN", "A VM's run gate cannot be made.")               \
    X(KVM_RINGS, 92, "kvm-rings", "any", "KVM does not make dirty rings, or not of that size.")    \
    X(KVM_SPACES, 93, "kvm-spaces", "EOPNOTSUPP", "KVM has one address space, and none for SMM.")  \
    X(KVM_GUEST_MEMFD, 94, "kvm-guest-memfd", "any", "KVM does not make a guest memfd.")           \
    X(KVM_ATTRIBUTES, 95, "kvm-attributes", "any",                                                 \
      "KVM does not take these attributes of guest addresses.")                                    \
    X(VM_ACCEL, 100, "vm-accel", "EINVAL",                                                         \
      "There is no such kind of VM, or the call is not for this kind.")                            \
    X(VM_SIGNAL, 101, "vm-signal", "EINVAL", "The kick signal cannot be blocked and sent.")        \
    X(VM_RUNS, 102, "vm-runs", "EBUSY", "A vCPU of the VM is running.")                            \
    X(VM_VCPUS_LEFT, 103, "vm-vcpus-left", "EBUSY",                                                \
      "A vCPU of gm_soft_vcpu_new() is left: free it first.")                                      \
    X(VCPU_NO_DESCRIPTOR, 104, "vcpu-no-descriptor", "EOPNOTSUPP",                                 \
      "A software VM's vCPUs cannot be attached: make them by gm_vcpu_new().")                     \
    X(VCPU_ARGUMENTS, 105, "vcpu-arguments", "EINVAL",                                             \
      "A vCPU to attach has no descriptor, or no shared area.")                                    \
    X(VCPU_ATTACHED, 106, "vcpu-attached", "EEXIST", "A vCPU is attached already.")                \
    X(SOFT_VCPU, 107, "soft-vcpu", "any", "The software KVM does not make a vCPU.")                \
    X(VM_RINGS, 108, "vm-rings", "EINVAL",                                                         \
      "A dirty ring has a power of two of entries, 128 or more.")                                  \
    X(VM_SMM, 109, "vm-smm", "EEXIST", "The VM has a space for SMM already.")                      \
    X(SOFT_OPTIONS, 120, "soft-options", "EINVAL", "An option of a software VM is out of range.")  \
    X(SOFT_KERNEL, 121, "soft-kernel", "EOPNOTSUPP",                                               \
      "The software KVM takes Linux 5.14 or newer.")                                               \
    X(SOFT_FAILED, 122, "soft-failed", "any", "A software VM cannot be made.")                     \
    X(SOFT_RINGS, 123, "soft-rings", "EINVAL",                                                     \
      "A VM with dirty rings keeps no logs for a map to read.")                                    \
    X(RAM_SIZE, 140, "ram-size", "EINVAL", "A RAM block of no bytes, or of too many.")             \
    X(RAM_OPTIONS, 141, "ram-options", "EINVAL", "What a RAM block is asked for does not fit.")    \
    X(RAM_MEMFD, 142, "ram-memfd", "any",                                                          \
      "The kernel gives no memfd, or none of that size: see ulimit -n and -f.")                    \
    X(RAM_HOST_FULL, 143, "ram-host-full", "ENOMEM", "The host has no room for a RAM block.")      \
    X(RAM_FILE, 144, "ram-file", "any", "The file for a RAM block cannot be used as memory.")      \
    X(RAM_HUGE_PAGES, 145, "ram-huge-pages", "ENOMEM, EOPNOTSUPP",                                 \
      "No such huge pages, or not enough: see /sys/kernel/mm/hugepages.")                          \
    X(RAM_ADVICE, 146, "ram-advice", "any",                                                        \
      "The kernel, or this kind of memory, does not take the advice.")                             \
    X(RAM_NUMA, 147, "ram-numa", "any",                                                            \
      "The memory cannot be placed on these NUMA nodes, or the library lacks libnuma.")            \
    X(RAM_RANGE, 148, "ram-range", "EINVAL",                                                       \
      "A range lies outside of its RAM block, or does not consist of whole pages.")                \
    X(RAM_BUSY, 149, "ram-busy", "EBUSY",                                                          \
      "The RAM block is being resized or preallocated by another thread.")                         \
    X(RAM_IN_USE, 150, "ram-in-use", "EBUSY",                                                      \
      "A region shows the end of a block that shall become smaller.")                              \
    X(RAM_PINNED, 151, "ram-pinned", "EBUSY", "Somebody has forbidden discards of the RAM block.") \
    X(RAM_PREALLOC, 152, "ram-prealloc", "any",                                                    \
      "Pages could not be made present, or the caller stopped it.")                                \
    X(RAM_DISCARD, 153, "ram-discard", "any", "The memory cannot be given back to the host.")      \
    X(RAM_RESIZE, 154, "ram-resize", "EINVAL, EOPNOTSUPP", "The RAM block cannot have that size.") \
    X(RAM_CALLER_MEMORY, 155, "ram-caller-memory", "EINVAL, EACCES",                               \
      "The caller's memory is not mapped, or not readable and writable.")                          \
    X(RAM_GUEST_MEMFD, 156, "ram-guest-memfd", "any",                                              \
      "The guest memfd cannot be a RAM block's private memory, or the block has none.")

/* Numbers from here on are never the library's: a listener's prepare may use them. */
#define GM_DIAG_CALLERS 0x10000

enum gm_diag_id {
    GM_DIAG_NONE = 0, /* nothing was said */
#define GM_DIAG_ENTRY(name, number, text, errnos, meaning) GM_DIAG_##name = (number),
    GM_DIAG_IDS(GM_DIAG_ENTRY)
#undef GM_DIAG_ENTRY
};

/*
 * A sentence that a person can act on, for calls that configure. Give the address of one, or NULL.
 * The callee writes it on failure only; `code` is the negative errno that was returned.
 */
#define GM_DIAG_TEXT_BYTES 240
struct gm_diag {
    int code;
    int id; /* enum gm_diag_id, or a number from GM_DIAG_CALLERS on */
    char text[GM_DIAG_TEXT_BYTES];
};

/*
 * An id's name, as in the table: "slots-exhausted". Any thread, never freed.
 * Return: "unknown" for numbers that are none of this library's; never NULL.
 */
const char *gm_diag_id_name(int id);

#ifdef __cplusplus
}
#endif

#endif
