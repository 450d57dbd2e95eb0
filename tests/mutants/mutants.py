"""The software KVM, and what a map tells of its coalesced ranges, with one thing taken out, each in turn: what a test has to notice.

A mutant is a name, edits (file, text, replacement), and the tests that may kill it, most likely first. The text must be in
the file just as often as said (once, unless "*" stands before the name of the file: everywhere).
"""
BASE = "src/base/"
KCORE = "src/kcore/"
MMU = "src/mmu/"
RAM = "src/ram/"
REGION = "src/region/"
SLOTS = "src/slots/"
SOFT = "src/soft/"
SPACE = "src/space/"
VIEW = "src/view/"
VM = "src/vm/"

# The tests: program, environment. Seeds are fixed, so that a mutant that is killed once is killed always, threads aside.
TESTS = {
    "model": ("tests/prop-soft_model", {"GM_SEED": "1", "GM_SOFT_OPERATIONS": "12000"}),
    "model-long": ("tests/prop-soft_model", {"GM_SEED": "1", "GM_SOFT_OPERATIONS": "50000"}),
    "log": ("tests/unit-soft_log", {}),
    "kcore-log": ("tests/unit-kcore_log", {}),
    "ahead": ("tests/unit-soft_ahead", {}),
    "points": ("tests/race-soft_points", {}),
    "walks": ("tests/race-soft_walks", {}),
    "race": ("tests/race-soft_race", {"GM_SEED": "1"}),
    "dirty": ("tests/race-soft_dirty", {"GM_SEED": "1"}),
    "linear": ("tests/unit-soft_linear", {}),
    "shadow-points": ("tests/race-shadow_points", {}),
    "shadow-tables": ("tests/unit-shadow_tables", {}),
    "shadow-host": ("tests/unit-shadow_host", {}),
    "shadow-roles": ("tests/unit-shadow_roles", {}),
    "shadow-orders": ("tests/unit-shadow_orders", {}),
    "rings": ("tests/unit-rings", {}),
    "nesting": ("tests/unit-nesting", {}),
    "ring": ("tests/kvm-ring", {}),
    "edits": ("tests/prop-prop_edits", {"GM_SEED": "1", "GM_EDITS": "20000"}),
    "resample": ("tests/kvm-resample", {}),
    "coalesced-points": ("tests/race-coalesced_points", {}),
    "dirty-points": ("tests/race-dirty_points", {}),
    "gate-points": ("tests/race-gate_points", {}),
    "install-points": ("tests/race-install_points", {}),
    "ram-points": ("tests/race-ram_points", {}),
    "reader-points": ("tests/race-reader_points", {}),
    "ring-points": ("tests/race-ring_points", {}),
    "soft-orders": ("tests/race-soft_orders", {}),
    "vcpu-points": ("tests/race-vcpu_points", {}),
}


def role_without(member):
    """Shadow pages are found by their roles, less one member."""
    return [(MMU + "shadow_page.h", "    return page->gfn.value == gfn.value && memcmp(&page->role, role, sizeof(*role)) == 0;\n",
             "    struct shadow_role wanted = *role;\n\n"
             f"    wanted.{member} = page->role.{member};\n"
             "    return page->gfn.value == gfn.value && memcmp(&page->role, &wanted, sizeof(wanted)) == 0;\n")]


MUTANTS = [
    # ---- kcore: changes of slots ----
    ("generation-not-bumped", [
        (KCORE + "apply.c", "    core->generation++;\n", ""),
    ], ["model"]),
    ("wrap-not-noticed", [
        (KCORE + "apply.c", "if (is_generation_wrapped(core)) {", "if (false) {"),
        (KCORE + "apply.c", "static bool is_generation_wrapped(", "__attribute__((unused)) static bool is_generation_wrapped("),
    ], ["model"]),
    ("slot-not-flushed", [
        (KCORE + "apply.c", "core->arch_ops->slot_flush(core->arch, &invalid->invalid[j]);", "(void)j;"),
    ], ["model"]),
    ("invalid-step-without-the-flag", [
        (KCORE + "seal.c", "            copies[invalid->invalid_count].flags |= MEMSLOT_INVALID;\n", ""),
    ], ["points"]),
    ("vcpus-not-held-for-a-change", [
        (KCORE + "apply.c", "    kcore_hold(core);\n    drain_logs", "    drain_logs"),
        (KCORE + "apply.c", "    kcore_release(core);\n    retire", "    retire"),
    ], ["race"]),
    ("log-not-kept-by-a-move", [
        (KCORE + "draft.c", "if (current != NULL && current->log != NULL) {",
         "if (current != NULL && current->log != NULL && effect_keeps(current, slot)) {"),
        (KCORE + "draft.c", "static int give_log(",
         "static bool effect_keeps(const struct memslot *a, const struct memslot *b)\n"
         "{\n    return a->base.value == b->base.value;\n}\n\nstatic int give_log("),
        (KCORE + "draft.c", "if (!touched->was_deleted && touched->before != NULL && touched->before->log != NULL) {",
         "if (false) {"),
    ], ["model"]),
    ("log-kept-by-a-replacement", [
        (KCORE + "draft.c", "if (!touched->was_deleted && touched->before != NULL", "if (touched->before != NULL"),
    ], ["model", "model-long"]),

    # ---- kcore: dirty logs ----
    ("write-not-marked", [
        (KCORE + "dirtylog.c", "        set_bit(slot->log, page);\n", "        (void)page;\n"),
    ], ["model"]),
    ("get-does-not-protect", [
        (KCORE + "dirtylog.c", "    core->arch_ops->log_protect_words(core->arch, slot, 0, loan->taken, log->word_count);\n", "    (void)slot;\n"),
    ], ["model"]),
    # The hold is the flush: who comes in again forgets what was appended.
    ("harvest-does-not-flush", [
        (KCORE + "dirtylog.c", "    kcore_hold(core);\n    core->arch_ops->log_begin(core->arch);\n", "    core->arch_ops->log_begin(core->arch);\n"),
        (KCORE + "dirtylog.c", "    if (changed) {\n        core->arch_ops->tlb_flush(core->arch);\n    }\n    kcore_release(core);\n", "    (void)changed;\n"),
    ], ["walks"]),
    ("clear-does-not-protect", [
        (KCORE + "dirtylog.c", "                clear->core->arch_ops->log_protect(clear->core->arch, clear->slot, i * WORD_PAGES,\n"
         "                                                   taken[i - word]);\n", "                (void)taken;\n"),
    ], ["model"]),
    ("clear-does-not-protect-blocks", [
        (KCORE + "dirtylog.c", "        protect_run(clear);\n        harvest_end(", "        harvest_end("),
    ], ["model"]),
    ("clear-forgets-a-block-before-one-in-part", [
        (KCORE + "dirtylog.c", "        protect_run(clear);\n        for (", "        clear->run_end = 0;\n        for ("),
    ], ["model", "kcore-log"]),
    ("log-not-known-to-be-dirty", [
        (KCORE + "dirtylog.c", "        atomic_store_explicit(&log->is_dirty, true, memory_order_release);\n    }\n}\n\nbool", "    }\n}\n\nbool"),
    ], ["model"]),
    ("log-not-put-back", [
        (KCORE + "dirtylog.c", "            __atomic_fetch_or(&words[i], taken[i], __ATOMIC_RELEASE);\n", "            (void)words;\n"),
    ], ["model", "model-long"]),
    ("harvest-does-not-drain", [
        (KCORE + "dirtylog.c", "        kcore_hold(core);\n        core->arch_ops->log_drain(core->arch);\n        kcore_release(core);\n",
         ""),
    ], ["dirty"]),
    ("reset-does-not-protect", [
        (KCORE + "ring.c", "        core->arch_ops->log_protect(core->arch, slot, batch->first_page, mask);\n", "        (void)slot;\n"),
    ], ["model"]),
    ("reset-does-not-flush", [
        (KCORE + "ring.c", "        core->arch_ops->tlb_flush(core->arch);\n", ""),
    ], ["walks"]),
    ("ring-never-full", [
        (KCORE + "ring.c", "return ring->entries != NULL && used_count(ring) >= ring->entry_count - RING_RESERVED_ENTRIES;",
         "return ring->entries != NULL && used_count(ring) > ring->entry_count;"),
    ], ["model-long", "dirty"]),

    # ---- kcore: attributes, notifier ----
    ("attributes-do-not-unmap", [
        (KCORE + "attributes.c", "        core->arch_ops->attributes_changed(core->arch, i, first, page_count);\n",
         "        (void)first;\n        (void)page_count;\n"),
    ], ["model"]),
    ("attributes-do-not-renew-faults", [
        (KCORE + "attributes.c", "    notifier_renew(&core->notifier);\n", ""),
        (MMU + "fault.c", " ||\n           kcore_attributes(core, fault->gfn) != resolved->attributes;", ";"),
        (MMU + "fault.c", "bool fault_is_stale(const struct mmu_vcpu *vcpu, const struct fault *fault,",
         "bool fault_is_stale(const struct mmu_vcpu *vcpu, __attribute__((unused)) const struct fault *fault,"),
    ], ["points"]),
    ("invalidation-does-not-unmap", [
        (KCORE + "notifier.c", "        memslots_visit_hva(kcore_slots(core, i), hva, size_bytes, unmap, &unmapping);\n",
         "        (void)unmap;\n"),
    ], ["model"]),
    ("retry-not-for-an-active-invalidation", [
        (KCORE + "notifier.c", "if (atomic_load(&notifier->active) != 0 &&", "if (notifier == NULL &&"),
    ], ["points"]),
    ("retry-not-for-an-ended-invalidation", [
        (KCORE + "notifier.c", "return atomic_load(&notifier->sequence) != token; /* 3, 4 */", "return token == UINT64_MAX;"),
    ], ["points"]),
    ("invalidation-end-not-counted", [
        (KCORE + "notifier.c", "    lock_take(&notifier->lock);\n    atomic_fetch_add(&notifier->sequence, 1);\n",
         "    lock_take(&notifier->lock);\n"),
    ], ["points"]),

    # ---- mmu: faults ----
    ("retry-not-for-other-slots", [
        (MMU + "fault.c", "if (kcore_slots(core, vcpu->space) != resolved->slots ||\n"
                          "        resolved->slots->generation != resolved->generation) {", "if (core == NULL) {"),
    ], ["points"]),
    ("retry-asked-for-the-small-page", [
        (MMU + "fault.c", "leaf_bytes = level_bytes(resolved->level);", "leaf_bytes = PAGE_BYTES_4K;"),
    ], ["points"]),
    ("error-while-invalidated", [
        (MMU + "fault.c", "return notifier_retry(notifier, resolved->token, resolved->hva, PAGE_BYTES_4K)\n"
                          "               ? FAULT_RETRY", "return notifier == NULL\n               ? FAULT_RETRY"),
        (MMU + "fault.c", "                                     const struct resolved *resolved, int error)",
         "                                     __attribute__((unused)) const struct resolved *resolved, int error)"),
    ], ["points"]),
    ("fault-not-an-installer", [
        (MMU + "fault.c", "    gate_enter(&vcpu->mmu->installers, &vcpu->installer);\n", ""),
        (MMU + "fault.c", "    gate_leave(&vcpu->mmu->installers, &vcpu->installer);\n", ""),
    ], ["points"]),
    ("taker-does-not-close-the-gate", [
        ("*" + MMU + "arch.c", "gate_hold(&mmu->installers);", ""),
        ("*" + MMU + "arch.c", "gate_release(&locked.mmu->installers);", ""),
        ("*" + MMU + "arch.c", "gate_release(&mmu->installers);", ""),
    ], ["points"]),
    ("fault-does-not-mark", [
        (MMU + "fault.c", "        guest_mark_written(vcpu, slot, fault->gfn);\n", ""),
    ], ["model"]),
    ("readonly-slot-written", [
        (MMU + "fault.c", "if (fault->access == GM_MMU_WRITE && (slot->flags & MEMSLOT_READONLY) != 0) {", "if (false) {"),
    ], ["model"]),
    ("attributes-not-in-rights", [
        (MMU + "fault.c", "rights |= (resolved->attributes & ATTRIBUTE_NO_EXECUTE) == 0 ? EPT_EXECUTE : 0;",
         "rights |= EPT_EXECUTE;"),
    ], ["model"]),
    ("private-page-in-shared-memory", [
        (MMU + "fault.c", "    if ((attributes & ATTRIBUTE_PRIVATE) == 0) {\n", "    if (attributes != UINT64_MAX) {\n"),
    ], ["model"]),
    ("tracked-page-writable", [
        (MMU + "fault.c", "slot_is_tracked(slot, fault->gfn) ? EPT_TRACKED : EPT_WRITE", "EPT_WRITE"),
    ], ["model"]),
    ("leaf-size-not-asked-again", [
        (MMU + "fault.c", "    return resolved->level < allowed ? resolved->level : allowed;\n", "    (void)allowed;\n    return resolved->level;\n"),
    ], ["points"]),

    # ---- mmu: how large a leaf may be ----
    ("large-though-slot-ends", [
        ("*" + MMU + "large.c", "!leaf_fits(slot, gfn, level) || ", ""),
        (MMU + "large.c", " || !leaf_fits(slot, gfn, 2)", ""),
        (MMU + "large.c", "static bool leaf_fits(", "__attribute__((unused)) static bool leaf_fits("),
    ], ["model"]),
    ("large-though-not-alike", [
        (MMU + "large.c", "    unsigned level = alike_level(slot);\n", "    unsigned level = EPT_LEAF_LEVEL_MAX;\n"),
        (MMU + "large.c", "static unsigned alike_level(", "__attribute__((unused)) static unsigned alike_level("),
    ], ["model"]),
    ("large-though-logged", [
        (MMU + "large.c", "if ((slot->flags & MEMSLOT_LOG) != 0 || ", "if ("),
    ], ["model"]),
    ("large-though-attributes-differ", [
        (MMU + "large.c", "!kcore_attributes_same(mmu->core, level_first(level, gfn), level_pages(level))", "mmu == NULL"),
    ], ["model"]),
    ("large-though-tracked", [
        (MMU + "large.c", " || is_tracked_within(slot, gfn, level)", ""),
        (MMU + "large.c", "static bool is_tracked_within(", "__attribute__((unused)) static bool is_tracked_within("),
    ], ["model", "points"]),
    ("large-of-1g-though-tracked", [
        (MMU + "large.c", "return atomic_load(&tracking->tracked_1g[slot_block_index(slot, gfn, 3)]) != 0;", "return false;"),
    ], ["model-long"]),
    ("large-though-host-pages-are-small", [
        (MMU + "fault.c", "resolved->level < resolved->backing_level ? resolved->level : resolved->backing_level;",
         "resolved->level;"),
    ], ["model"]),

    ("backing-not-forgotten", [
        (MMU + "arch.c", "    slot_forget_backing(slot);\n", ""),
    ], ["model-long"]),

    ("ahead-outlives-slots", [
        (MMU + "ahead.c", " && ahead->generation == resolved->generation", ""),
    ], ["ahead"]),
    ("ahead-outlives-an-invalidation", [
        (MMU + "ahead.c", "ahead->token == resolved->token && ahead", "ahead"),
    ], ["ahead"]),
    ("ahead-for-reading-is-for-writing", [
        (MMU + "ahead.c", "(ahead->for_writing || fault->access != GM_MMU_WRITE)", "(ahead->for_writing || fault != NULL)"),
    ], ["ahead"]),
    ("ahead-fills-holes", [
        (MMU + "ahead.c", "    count = host_present_pages(next, (unsigned)count);\n", ""),
    ], ["ahead"]),
    ("ahead-copies-private-pages", [
        (MMU + "ahead.c", "    return resolved->host_kind == HOST_KIND_SHARED;\n", "    return true;\n"),
    ], ["ahead"]),
    ("ahead-in-no-order", [
        (MMU + "ahead.c", "resolved->hva.value == ahead->end && ", ""),
    ], ["ahead"]),

    # ---- mmu: taking away ----
    ("log-begins-unprotected", [
        (MMU + "arch.c", "    take_writes(locked, range_of_slot(slot));\n", ""),
    ], ["model"]),
    ("all-set-log-of-rings-unprotected", [
        (MMU + "arch.c", "mmu->core->initially_all_set && mmu->core->ring_entries == 0", "mmu->core->initially_all_set"),
    ], ["model-long", "dirty"]),
    ("protect-leaves-large-leaves", [
        (MMU + "mmu.h", "return EPT_WRITE | EPT_DIRTY;", "return 0;"),
    ], ["model"]),
    ("large-leaf-keeps-dirty-flag", [
        (MMU + "mmu.h", "return EPT_WRITE | EPT_DIRTY;", "return EPT_WRITE;"),
    ], ["log"]),
    ("dirty-flag-not-cleared", [
        (MMU + "mmu.h", "return mmu->log_buffer ? EPT_DIRTY : EPT_WRITE;", "return mmu->log_buffer ? 0 : EPT_WRITE;"),
    ], ["model"]),
    ("table-protection-not-heeded", [
        (MMU + "walk.c", "        path->rights &= value;\n", "        path->rights = value;\n"),
    ], ["model"]),
    ("table-protection-not-handed-on", [
        (MMU + "install.c", "        protect_line(mmu, entries, level - 1);\n", "        (void)mmu;\n        (void)level;\n"),
        (MMU + "install.c", "static void protect_line(", "__attribute__((unused)) static void protect_line("),
    ], ["model"]),
    ("writable-leaf-not-noted", [
        (MMU + "install.c", "                table_note_writable(entry);\n            }\n", "            }\n"),
    ], ["model"]),
    ("writable-split-not-noted", [
        (MMU + "install.c", "(leaf & EPT_WRITE) != 0 ? UINT64_MAX : 0,", "(leaf & EPT_WRITE) != 0 ? 0 : 0,"),
    ], ["model"]),
    ("mmio-not-dropped-at-wrap", [
        (MMU + "arch.c", "    take_mmio(locked);\n", ""),
    ], ["model"]),
    ("takers-do-not-flush", [
        (MMU + "arch.c", "    mmu_unlock(locked);\n    mmu_flush(mmu);\n    tables_free_retired(mmu->core->deferred, retired);",
         "    mmu_unlock(locked);\n    tables_free_retired(mmu->core->deferred, retired);"),
    ], ["walks"]),
    ("tracking-does-not-flush", [
        (MMU + "track.c", "    mmu_flush(mmu);\n", ""),
    ], ["walks"]),
    ("age-does-not-flush", [
        (MMU + "arch.c", "    mmu_flush(mmu); /* a translation in a TLB sets no flag */\n", ""),
    ], ["walks"]),
    ("zap-all-does-not-flush", [
        (MMU + "arch.c", "    gate_release(&mmu->installers);\n    mmu_flush(mmu);\n", "    gate_release(&mmu->installers);\n"),
    ], ["walks"]),
    ("zap-all-not-appended", [
        (MMU + "arch.c", "        flush_append(&mmu->flush_log, space, (struct gfn){0}, FLUSH_ALL_PAGES);\n", ""),
    ], ["model"]),
    ("new-root-not-loaded", [
        (MMU + "guest.c", "    vcpu->root = atomic_load_explicit(&mmu->roots[vcpu->space], memory_order_acquire);\n",
         "    if (vcpu->root == NULL) {\n        vcpu->root = atomic_load(&mmu->roots[vcpu->space]);\n    }\n"),
    ], ["model"]),
    ("zap-all-drops-the-lock", [
        (MMU + "arch.c", "    gate_release(&mmu->installers);\n    mmu_flush(mmu);\n",
         "    gate_release(&mmu->installers);\n    lock_drop(&mmu->lock);\n    mmu_flush(mmu);\n    lock_take(&mmu->lock);\n"),
    ], ["race"]),
    ("removed-entry-not-appended", [
        (MMU + "take.c", "ACQ_REL);\n\n    note_change(visit, spot);\n    if (entry_is_table", "ACQ_REL);\n\n    if (entry_is_table"),
    ], ["model"]),
    ("cleared-flag-not-appended", [
        (MMU + "take.c", "        note_change(visit, spot);\n        visit->found +=", "        visit->found +="),
    ], ["model"]),
    ("write-protection-not-appended", [
        (MMU + "take.c", "    if ((was & flags) != 0) {\n        note_change(visit, spot);\n    }\n    return false;\n}\n\nvoid take_writes",
         "    (void)was;\n    return false;\n}\n\nvoid take_writes"),
    ], ["model"]),
    ("zap-all-frees-before-the-flush", [
        (MMU + "arch.c", "    gate_release(&mmu->installers);\n    mmu_flush(mmu);\n", "    gate_release(&mmu->installers);\n"),
        (MMU + "arch.c", "    lock_drop(&mmu->lock);\n    tables_free_retired(mmu->core->deferred, &retired);\n",
         "    lock_drop(&mmu->lock);\n    tables_free_retired(mmu->core->deferred, &retired);\n    mmu_flush(mmu);\n"),
        (MMU + "tables.c", "        rcu_domain_defer(deferred, &retired->first->reclaim, reclaim_list);",
         "        (void)deferred;\n        reclaim_list(&retired->first->reclaim);"),
    ], ["walks"]),

    # ---- mmu: the processor's side ----
    ("flush-does-not-hold", [
        (MMU + "flush.c", "    kcore_hold(mmu->core);\n    kcore_release(mmu->core);\n", ""),
    ], ["walks"]),
    ("flush-log-overrun-not-noticed", [
        (MMU + "flush.c", "return count <= FLUSH_RECORDS ? (int)count : -1;", "return count <= FLUSH_RECORDS ? (int)count : 0;"),
    ], ["model-long"]),
    ("tlb-not-replayed", [
        (MMU + "guest.c", "        tlb_replay(vcpu);\n", ""),
    ], ["model"]),
    ("tlb-page-not-forgotten", [
        (MMU + "tlb.c", "if (entry->load == key || entry->store == key || entry->fetch == key) {", "if (entry->load == key + 1) {"),
    ], ["model"]),
    ("tlb-store-not-forgotten", [
        (MMU + "tlb.c", "entry->fetch == key) {\n        forget(entry);\n",
         "entry->fetch == key) {\n        entry->load = GM_TLB_NONE;\n        entry->fetch = GM_TLB_NONE;\n"),
    ], ["model"]),
    ("tlb-tags-come-round", [
        (MMU + "tlb.c", "    clear_all(vcpu);\n    return false;\n", "    vcpu->tag_count = KCORE_SPACES + LINEAR_VIEWS;\n    return true;\n"),
    ], ["model"]),
    ("tlb-filled-for-writing", [
        (MMU + "walk.c", "path.rights & ((leaf & EPT_DIRTY) != 0 ? EPT_RIGHTS : ~EPT_WRITE)", "path.rights"),
    ], ["model"]),
    ("walk-sets-no-accessed-flag", [
        (MMU + "walk.c", "if (!set_accessed(&path) || ", "if ("),
        (MMU + "walk.c", "static bool set_accessed(", "__attribute__((unused)) static bool set_accessed("),
    ], ["model"]),
    ("walk-does-not-note-the-frame", [
        (MMU + "walk.c", "        vcpu->log_buffer[vcpu->log_count] = gfn.value;\n        vcpu->log_count++;\n", "        (void)gfn;\n"),
    ], ["model"]),
    ("walk-believes-old-mmio", [
        (MMU + "walk.c", "return leaf == entry_of_mmio(vcpu->generation) ? WALK_MMIO : WALK_VIOLATION;", "return WALK_MMIO;"),
    ], ["model"]),
    ("log-buffer-not-drained", [
        (MMU + "guest.c", "    if (vcpu->log_count != 0) {\n        guest_drain_log(vcpu);\n    }\n    kcore_vcpu_leave",
         "    kcore_vcpu_leave"),
    ], ["model"]),
    ("instruction-not-begun-anew", [
        (MMU + "guest.c", "if (vcpu->boundary_generation == mmu_newest_generation(vcpu->mmu)) {", "if (true) {"),
    ], ["race"]),
    ("tracker-not-told", [
        (MMU + "access.c", "        written(mmu->written_opaque, part->gpa, part->size_bytes);\n",
         "        (void)part;\n"),
    ], ["model"]),
    ("tracked-write-not-marked", [
        (MMU + "access.c", "        guest_mark_written(vcpu, slot, gfn);\n", "        (void)slot;\n"),
    ], ["model"]),
    ("unaligned-exchange-not-alone", [
        (MMU + "cmpxchg.c", "    kcore_hold(mmu->core);\n    locked = mmu_lock(mmu);\n", "    locked = mmu_lock(mmu);\n"),
        (MMU + "cmpxchg.c", "    mmu_unlock(locked);\n    kcore_release(mmu->core);\n", "    mmu_unlock(locked);\n"),
    ], ["walks", "race"]),

    # ---- mmu: linear addresses ----
    ("linear-outlives-its-slot", [
        (MMU + "tlb.c", "    if (is_mine) {\n        tlb_flush_linear(vcpu);\n    }\n", "    (void)is_mine;\n"),
    ], ["linear"]),
    ("mode-change-forgets-nothing", [
        (MMU + "linear.c", "    if (!is_same_mode(before, registers)) {\n        flush_all_contexts(vcpu);\n    } else if", "    if"),
        (MMU + "linear.c", "    if (!is_kept || !may_keep) {", "    if (!is_kept && !may_keep) {"),
    ], ["linear"]),
    ("view-ignores-rights", [
        (MMU + "access.c", "rights & view_rights);", "rights);"),
    ], ["linear"]),

    # ---- shadow paging: writes to tables are seen ----
    ("shadow-table-not-protected", [
        (MMU + "shadow_page.c", "        shadow_protect_frame(work, space, gfn);\n        shadow_work_flush(work);\n",
         "        shadow_work_flush(work);\n"),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-table-not-flushed-for", [
        (MMU + "shadow_page.c", "        shadow_protect_frame(work, space, gfn);\n        shadow_work_flush(work);\n",
         "        shadow_protect_frame(work, space, gfn);\n"),
    ], ["shadow-orders"]),
    ("shadow-table-writable-by-ept", [
        (MMU + "shadow_page.c", "    if (rc == 0) {\n        remap(work, space, gfn);\n    }\n    return rc;", "    return rc;"),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-table-not-counted-by-its-slot", [
        (MMU + "large.c", "    atomic_fetch_or(&group->tables[index / 64], 1ull << index % 64);\n", "    (void)index;\n"),
    ], ["shadow-tables"]),
    ("shadow-table-counted-for-ever", [
        (MMU + "large.c", "    atomic_fetch_and(&group->tables[index / 64], ~(1ull << index % 64));\n", "    (void)index;\n"),
    ], ["shadow-roles"]),
    ("shadow-table-under-a-large-leaf", [
        (MMU + "shadow_sync.c", "    if (level > 1) {\n        while (", "    if (level > 1) {\n        while (level == 0 && "),
    ], ["shadow-host"]),
    ("shadow-sync-does-not-protect", [
        (MMU + "shadow_sync.c", "        shadow_protect_frame(work, page->role.space, page->gfn);\n", ""),
    ], ["shadow-tables"]),
    ("shadow-sync-does-not-flush", [
        (MMU + "shadow_sync.c", "        shadow_work_flush(work);\n", ""),
    ], ["shadow-orders"]),
    ("shadow-takers-do-not-protect", [
        (MMU + "arch.c", "mask, shadow_protect);", "0 * mask, shadow_protect);"),
        (MMU + "arch.c", "words[i], shadow_protect);", "0 * words[i], shadow_protect);"),
        (MMU + "arch.c", "    shadow_protect(locked, range_of_slot(slot));\n", ""),
    ], ["shadow-host"]),
    ("shadow-takers-do-not-unmap", [
        (MMU + "arch.c", "    shadow_unmap(locked, range, &retired);\n", ""),
    ], ["shadow-host"]),
    ("shadow-tables-outlive-their-memory", [
        (MMU + "shadow_take.c", "    zap_tables(&work, range);\n", ""),
        (MMU + "shadow_take.c", "static void zap_tables(", "__attribute__((unused)) static void zap_tables("),
    ], ["shadow-host"]),
    ("shadow-tracking-leaves-leaves", [
        (MMU + "track.c", "    shadow_unmap(locked, range, &retired);\n", ""),
    ], ["shadow-host"]),
    ("shadow-writes-of-users-pages-unseen", [
        (MMU + "shadow_map.c", "return !slot_is_tracked_by_user(slot, gfn) &&\n", "return"),
    ], ["shadow-host"]),
    ("shadow-trackers-told-of-tables", [
        (MMU + "track.c", "slot != NULL && slot_is_tracked_by_user(slot, gfn);", "slot != NULL && slot_is_tracked(slot, gfn);"),
    ], ["shadow-host"]),
    ("shadow-tracking-of-a-table-changes-nothing", [
        (MMU + "track.c", "was_tracked = slot_is_tracked_by_user(slot, gfn);", "was_tracked = slot_is_tracked(slot, gfn);"),
        (MMU + "track.c", "was_tracked != slot_is_tracked_by_user(slot, gfn)", "was_tracked != slot_is_tracked(slot, gfn)"),
    ], ["shadow-host"]),
    ("shadow-write-not-logged", [
        (MMU + "shadow_map.c", "        guest_mark_written(map->vcpu, slot, fault->gfn);\n", "        (void)slot;\n"),
    ], ["shadow-host"]),

    # ---- shadow paging: links, parents, reverse maps ----
    ("shadow-parent-not-added", [
        (MMU + "shadow_page.c", "    entry_list_add(&child->parents, entry, stock);\n", "    (void)stock;\n"),
    ], ["shadow-tables"]),
    ("shadow-parent-not-removed", [
        (MMU + "shadow_page.c", "        entry_list_remove(&child->parents, entry, &mmu->allocator);\n", ""),
    ], ["shadow-tables"]),
    ("shadow-parents-not-unlinked", [
        (MMU + "shadow_page.c", "    while ((parent = entry_list_any(&page->parents)) != NULL) {", "    parent = NULL;\n    while (parent != NULL) {"),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-entries-outlive-their-page", [
        (MMU + "shadow_page.c", "    for (unsigned i = 0; i < EPT_ENTRIES; i++) {\n        shadow_drop(work, page, i);\n    }\n    while",
         "    while"),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-leaf-not-in-its-reverse-map", [
        (MMU + "rmap.c", "    entry_list_add(find_list(rmap, slot, level, gfn), entry, stock);\n", "    (void)entry;\n    (void)stock;\n"),
    ], ["shadow-tables"]),
    ("shadow-leaf-for-ever-in-its-reverse-map", [
        (MMU + "rmap.c", "    entry_list_remove(find_list(rmap, slot, level, gfn), entry, &mmu->allocator);\n", "    (void)entry;\n    (void)mmu;\n"),
    ], ["shadow-tables"]),
    ("shadow-list-forgets-its-last-chunk", [
        (MMU + "entry_list.c", "        set_chunk(list, first->next);\n        mem_free(allocator, first);\n",
         "        set_chunk(list, NULL);\n        mem_free(allocator, first);\n"),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-root-not-given-up", [
        (MMU + "shadow_root.c", "        atomic_fetch_sub(&page->root_count, 1);\n", ""),
    ], ["shadow-tables"]),
    ("shadow-root-not-counted", [
        (MMU + "shadow_root.c", "        atomic_fetch_add(&(*page)->root_count, 1);\n", ""),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-invalid-pages-not-swept", [
        (MMU + "shadow_page.c", "    sweep(work);\n    append_losses(work);\n", "    append_losses(work);\n"),
    ], ["shadow-tables", "shadow-host"]),

    # ---- shadow paging: unsync, and in step again ----
    ("shadow-unsync-not-marked", [
        (MMU + "shadow_sync.c", "        shadow_set_unsync(work, page, true);\n", ""),
    ], ["shadow-tables"]),
    ("shadow-directory-unsync", [
        (MMU + "shadow_sync.c", "        if (page->role.level != 1) {\n", "        if (page->role.level == 0) {\n"),
    ], ["shadow-tables"]),
    ("shadow-unsync-parents-not-told", [
        (MMU + "shadow_page.c", "    tell_parents(page, is_unsync); /* of the lowest level", "    /* of the lowest level"),
    ], ["shadow-tables"]),
    ("shadow-unsync-grandparents-not-told", [
        (MMU + "shadow_page.c", "        tell_parents(page, is_unsync);\n    }\n}\n", "        (void)had;\n    }\n}\n"),
    ], ["shadow-tables"]),
    ("shadow-unsync-not-cleared-by-a-sync", [
        (MMU + "shadow_sync.c", "        shadow_set_unsync(work, page, false);\n        pages[count] = page;\n        count++;\n",
         "        pages[count] = page;\n        count++;\n        if (count == 1) {\n            break;\n        }\n"),
        (MMU + "shadow_sync.c", "    while ((count = collect(work, page, pages)) != 0) {", "    if ((count = collect(work, page, pages)) != 0) {"),
    ], ["shadow-tables"]),
    ("shadow-unsync-outlives-its-page", [
        (MMU + "shadow_page.c", "    shadow_set_unsync(work, page, false);\n    for (", "    for ("),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-unsync-bit-outlives-its-link", [
        (MMU + "shadow_page.c", "        set_child_bit(page, index, false);\n", ""),
    ], ["shadow-roles"]),
    ("shadow-cr3-does-not-sync", [
        (MMU + "linear.c", "        shadow_note_flush(&linear->contexts[linear->current].root);\n", "        (void)linear;\n"),
    ], ["shadow-tables"]),
    ("shadow-flush-of-all-does-not-sync", [
        (MMU + "linear.c", "        shadow_note_flush(&vcpu->linear.contexts[i].root);\n", "        (void)i;\n"),
    ], ["shadow-roles"]),
    ("shadow-change-of-mode-does-not-sync", [
        (MMU + "linear.c", "        flush_all_contexts(vcpu);\n    } else if", "        tlb_flush_linear(vcpu);\n    } else if"),
    ], ["shadow-roles"]),
    ("shadow-invlpg-does-not-sync", [
        (MMU + "shadow_root.c", "        shadow_sync_entry(work, page, level_index(1, gfn));\n", "        (void)work;\n"),
    ], ["shadow-tables"]),
    ("shadow-invlpg-of-one-context", [
        (MMU + "shadow_root.c", "        struct shadow_root *root = &vcpu->linear.contexts[i].root;\n\n        for (unsigned index",
         "        struct shadow_root *root = &vcpu->linear.contexts[vcpu->linear.current].root;\n\n        for (unsigned index"),
    ], ["shadow-roles"]),
    ("shadow-many-invlpgs-lost", [
        (MMU + "shadow_root.c", "            shadow_note_flush(&vcpu->linear.contexts[i].root);\n", "            (void)i;\n"),
    ], ["shadow-tables"]),
    ("shadow-link-does-not-sync", [
        (MMU + "shadow_page.c", "        shadow_sync_tree(work, *page);\n", ""),
    ], ["shadow-tables"]),
    ("shadow-sync-drops-nothing", [
        (MMU + "shadow_sync.c", "        shadow_sync_entry(work, page, index);\n    }\n    atomic", "        (void)index;\n    }\n    atomic"),
    ], ["shadow-tables"]),
    ("shadow-sync-ignores-the-frame", [
        (MMU + "shadow_sync.c", "        (entry & format->address_mask) >> PAGE_SHIFT_4K != page->frames[index] ||\n", ""),
    ], ["shadow-tables"]),
    ("shadow-sync-ignores-rights", [
        (MMU + "shadow_sync.c", "    return rights << SHADOW_RIGHTS_SHIFT | key << SHADOW_KEY_SHIFT;\n",
         "    return key << SHADOW_KEY_SHIFT | (entry_load(page->entries) & rights & 0);\n"),
        (MMU + "shadow_sync.c", "SHADOW_KEY_MASK << SHADOW_KEY_SHIFT | (uint64_t)PAGING_RIGHTS_ALL\n"
         "                                                                        << SHADOW_RIGHTS_SHIFT;", "SHADOW_KEY_MASK << SHADOW_KEY_SHIFT;"),
    ], ["shadow-tables"]),
    ("shadow-sync-ignores-keys", [
        (MMU + "shadow_sync.c", "    const uint64_t of_guest = SHADOW_KEY_MASK << SHADOW_KEY_SHIFT | (uint64_t)", "    const uint64_t of_guest = (uint64_t)"),
        (MMU + "shadow_sync.c", "    return rights << SHADOW_RIGHTS_SHIFT | key << SHADOW_KEY_SHIFT;\n", "    (void)key;\n    return rights << SHADOW_RIGHTS_SHIFT;\n"),
    ], ["shadow-roles"]),
    ("shadow-sync-ignores-present", [
        (MMU + "shadow_sync.c", "return (entry & PAGING_PRESENT) != 0 && ", "return "),
    ], ["shadow-tables"]),
    ("shadow-sync-ignores-accessed", [
        (MMU + "shadow_sync.c", " && (entry & PAGING_ACCESSED) != 0 &&", " &&"),
    ], ["shadow-tables"]),
    ("shadow-sync-ignores-reserved-bits", [
        (MMU + "shadow_sync.c", " &&\n           (entry & format->levels[1].reserved_leaf) == 0;", ";\n    (void)format;"),
    ], ["shadow-tables"]),
    ("shadow-sync-ignores-dirty", [
        (MMU + "shadow_sync.c", "        (void)shadow_take_flags(work, place, EPT_WRITE);\n", ""),
    ], ["shadow-tables"]),
    ("shadow-sync-of-the-other-half", [
        (MMU + "shadow_sync.c", "index + page->role.quadrant * EPT_ENTRIES;", "index;"),
    ], ["shadow-roles"]),

    # ---- shadow paging: roles ----
    ("shadow-role-without-level", role_without("level"), ["shadow-tables"]),
    ("shadow-role-without-space", role_without("space"), ["shadow-host"]),
    ("shadow-role-without-format", role_without("format"), ["shadow-roles"]),
    ("shadow-role-without-quadrant", role_without("quadrant"), ["shadow-tables"]),
    ("shadow-role-without-rights", role_without("rights"), ["shadow-tables"]),
    ("shadow-role-without-key", role_without("key"), ["shadow-roles"]),
    ("shadow-role-without-is-direct", role_without("is_direct"), ["shadow-roles"]),
    ("shadow-role-without-is-dirty", role_without("is_dirty"), ["shadow-roles"]),
    ("shadow-halves-are-one", [
        (MMU + "shadow_map.c", "(uint8_t)(map->request->linear >> level_shift(2) & 1)", "0"),
    ], ["shadow-tables"]),
    ("shadow-quarters-are-one", [
        (MMU + "shadow_root.c", "paging->mode == PAGING_32 ? (uint8_t)index : 0,", "0,"),
    ], ["shadow-tables"]),
    ("shadow-table-with-all-rights", [
        (MMU + "shadow_map.c", "        .rights = walk->table_rights[level],\n", "        .rights = PAGING_RIGHTS_ALL,\n"),
    ], ["shadow-tables"]),
    ("shadow-direct-page-dirty-by-reads", [
        (MMU + "shadow_map.c", ".is_dirty = walk->is_dirty || request->fault->access == GM_MMU_WRITE,", ".is_dirty = true,"),
    ], ["shadow-roles"]),

    # ---- shadow paging: roots ----
    ("shadow-root-not-invalid", [
        (MMU + "shadow_page.c", "    atomic_store(&page->is_invalid, true);\n", ""),
    ], ["shadow-host"]),
    ("shadow-invalid-root-not-noticed", [
        (MMU + "shadow_root.c", "        if (root->pages[i] != NULL && atomic_load(&root->pages[i]->is_invalid)) {\n            return true;",
         "        if (root->pages[i] == NULL && root->needs_sync) {\n            return true;"),
    ], ["shadow-host"]),
    ("shadow-root-of-another-format-kept", [
        (MMU + "shadow_root.c", "           is_same_format(format, paging) && page->gfn.value", "           page->gfn.value"),
        (MMU + "shadow_root.c", "    return has_guest_root(paging, index) && !atomic_load", "    (void)format;\n    return has_guest_root(paging, index) && !atomic_load"),
    ], ["shadow-roles"]),
    ("shadow-root-of-another-frame-kept", [
        (MMU + "shadow_root.c", " page->gfn.value == guest_root(paging, index).value &&\n", "\n"),
    ], ["shadow-tables"]),
    ("shadow-root-of-an-absent-pdpte-kept", [
        (MMU + "shadow_root.c", "    return has_guest_root(paging, index) && !atomic_load", "    (void)has_guest_root;\n    return !atomic_load"),
    ], ["shadow-tables"]),
    ("shadow-flush-does-not-wait-for-writers", [
        (MMU + "shadow_root.c", "    wait_for_writers(shadow);\n", "    (void)wait_for_writers;\n"),
    ], ["shadow-points"]),
    ("shadow-pages-outlive-their-formats", [
        (MMU + "shadow_root.c", "        while (shadow->oldest != NULL) {\n            shadow_zap(work, shadow->oldest);\n        }\n", "        (void)work;\n"),
    ], ["shadow-roles"]),

    # ---- shadow paging: TLBs ----
    ("shadow-loss-not-noted", [
        (MMU + "shadow_page.c", "    work->lost[page->role.space] = true;\n", "    (void)work;\n    (void)page;\n"),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-loss-not-appended", [
        (MMU + "shadow_page.c", "            flush_append(&work->mmu->flush_log, space, (struct gfn){0}, FLUSH_LINEAR);\n", ""),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-loss-not-replayed", [
        (MMU + "tlb.c", "is_mine || record->space == vcpu->space;", "is_mine || (record->page_count != FLUSH_LINEAR && record->space == vcpu->space);"),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-page-freed-before-the-flush", [
        (MMU + "shadow_page.c", "        mmu_flush(mmu);\n        tables_free_retired", "        tables_free_retired"),
    ], ["shadow-orders"]),
    ("linear-page-flushed-in-one-context", [
        (MMU + "tlb.c", "    return key != GM_TLB_NONE && (key & GM_MMU_PAGE_MASK) == page;", "    return key == page;"),
    ], ["shadow-tables", "linear"]),

    # ---- shadow paging: writes by hand ----
    ("shadow-written-entry-stays", [
        (MMU + "shadow_write.c", "            shadow_drop(work, page, first + i);\n", "            (void)work;\n            (void)i;\n"),
    ], ["shadow-tables"]),
    ("shadow-written-second-entry-stays", [
        (MMU + "shadow_write.c", "unsigned last = (offset + size_bytes - 1) / entry_bytes;", "unsigned last = offset / entry_bytes;\n    (void)size_bytes;"),
    ], ["shadow-tables"]),
    ("shadow-written-half-of-4m-stays", [
        (MMU + "shadow_write.c", "return guest_index / of_page == page->role.quadrant ? each : 0;", "return guest_index / of_page == page->role.quadrant ? 1 : 0;"),
    ], ["shadow-roles"]),
    ("shadow-written-quarter-not-found", [
        (MMU + "shadow_write.c", "return guest_index / of_page == page->role.quadrant ? each : 0;", "return guest_index / of_page == 0 ? each : 0;"),
    ], ["shadow-tables"]),
    ("shadow-written-for-ever", [
        (MMU + "shadow_write.c", "        page->write_count++;\n", ""),
    ], ["shadow-tables"]),
    ("shadow-writes-counted-for-ever", [
        ("*" + MMU + "shadow_map.c", "        child->write_count = 0;\n", ""),
    ], ["shadow-roles"]),
    ("shadow-flags-by-hand-not-dropped", [
        (MMU + "access.c", "        shadow_written(mmu, vcpu->space, part->gpa, part->size_bytes);\n", "        (void)mmu;\n"),
    ], ["shadow-tables"]),

    # ---- shadow paging: faults ----
    ("shadow-entry-not-read-again", [
        (MMU + "shadow_map.c", "        if (!is_unchanged(map, level)) {\n", "        (void)is_unchanged;\n        if (level == 0) {\n"),
    ], ["shadow-orders"]),
    ("shadow-directory-not-read-again", [
        (MMU + "shadow_map.c", "        if (!is_unchanged(map, level)) {\n", "        if (level == request->walk->level && !is_unchanged(map, level)) {\n"),
    ], ["shadow-orders"]),
    ("shadow-leaf-entry-not-read-again", [
        (MMU + "shadow_map.c", "        if (!is_unchanged(map, level)) {\n", "        if (level != request->walk->level && !is_unchanged(map, level)) {\n"),
    ], ["shadow-orders"]),
    ("shadow-flags-not-read-again", [
        (MMU + "shadow_map.c", " &&\n                               is_read_only(map, map->page->gfn));", ");\n    (void)is_read_only;"),
    ], ["shadow-orders"]),
    ("shadow-table-may-be-invalidated", [
        (MMU + "shadow_map.c", "&hva) ||\n        notifier_retry(&core->notifier, request->token, hva, PAGE_BYTES_4K)) {", "&hva)) {\n        (void)request->token;"),
    ], ["shadow-orders"]),
    ("shadow-fault-never-stale", [
        (MMU + "shadow_map.c", "    if (fault_is_stale(map->vcpu, request->fault, request->resolved)) {", "    if (request->fault == NULL) {"),
    ], ["shadow-orders"]),
    ("shadow-invalid-root-mapped", [
        (MMU + "shadow_map.c", "    if (got == SHADOW_GOT && atomic_load(&map->page->is_invalid)) {", "    if (got == SHADOW_GOT && map == NULL) {"),
    ], ["shadow-orders", "shadow-host"]),
    ("shadow-tables-in-read-only-memory-not-mapped", [
        (MMU + "shadow_map.c", "    return (slot->flags & MEMSLOT_READONLY) != 0;\n", "    return slot == NULL;\n"),
    ], ["shadow-host"]),
    ("shadow-leaf-too-large", [
        (MMU + "shadow_map.c", "    unsigned level = fault_leaf_level(map->vcpu->mmu, fault, resolved);\n", "    unsigned level = resolved->level;\n"),
    ], ["shadow-orders", "shadow-host"]),
    ("shadow-leaf-keeps-its-old-page", [
        (MMU + "shadow_map.c", "((seen ^ leaf) & ~addable) == 0 &&\n        shadow_frame(page, index).value == first.value) {", "shadow_frame(page, index).value == first.value) {"),
    ], ["shadow-roles"]),

    # ---- shadow paging: the processor's walk ----
    ("shadow-walk-ignores-rights", [
        (MMU + "shadow_walk.c", "    unsigned rights = leaf >> SHADOW_RIGHTS_SHIFT & PAGING_RIGHTS_ALL;\n", "    unsigned rights = PAGING_RIGHTS_ALL;\n"),
    ], ["shadow-tables"]),
    ("shadow-walk-ignores-keys", [
        (MMU + "shadow_walk.c", "paging->keys ? leaf >> SHADOW_KEY_SHIFT & SHADOW_KEY_MASK : 0;", "0;"),
    ], ["shadow-roles"]),
    ("shadow-walk-ignores-the-host", [
        (MMU + "shadow_walk.c", "return (unsigned)leaf & linear_rights(", "return linear_rights("),
    ], ["shadow-tables", "shadow-host"]),
    ("shadow-walk-sets-no-accessed-flag", [
        (MMU + "shadow_walk.c", "        if ((leaf & EPT_ACCESSED) == 0 && !entry_replace(entry, &leaf, leaf | EPT_ACCESSED)) {\n            continue;\n        }\n", ""),
    ], ["shadow-host"]),
    ("shadow-age-clears-nothing", [
        (MMU + "shadow_take.c", "shadow_take_flags(work, entry, EPT_ACCESSED);", "entry_load(entry) & EPT_ACCESSED;\n            (void)work;"),
    ], ["shadow-host"]),
    ("shadow-does-not-collapse", [
        (MMU + "arch.c", "    shadow_collapse(locked, slot, &retired);\n", ""),
    ], ["shadow-host"]),
    ("shadow-does-not-reclaim", [
        (MMU + "reclaim.c", "    (void)shadow_reclaim(locked, page_count, &retired);\n", ""),
    ], ["shadow-host"]),
    ("shadow-tables-reclaimed-as-ept", [
        (MMU + "tables.c", " && table->shadow == NULL) {", ") {"),
    ], ["shadow-host"]),
    ("shadow-not-zapped-with-all", [
        (MMU + "arch.c", "    shadow_zap_all(locked, &retired);\n", ""),
    ], ["shadow-host"]),

    # ---- slots: harvesting rings ----
    ("ring-marked-before-its-reset", [
        (SLOTS + "rings.c", "        return 0;\n    }\n    reset = rings->reset", "        return 0;\n    }\n    mark(rings, count);\n    reset = rings->reset"),
    ], ["rings"]),
    ("ring-overflow-not-noticed", [
        (SLOTS + "rings.c", "count == rings->entry_count || ", ""),
    ], ["rings"]),
    ("ring-failed-reset-not-noticed", [
        (SLOTS + "rings.c", " || reset != (int)count", ""),
    ], ["rings"]),
    ("ring-front-not-looked-for", [
        (SLOTS + "rings.c", "    place(rings, ring);\n", "    (void)place;\n"),
    ], ["rings"]),
    ("ring-harvested-by-others-not-known", [
        (SLOTS + "rings.c", "harvest(rings, ring) != 0 || ring->was_harvested;\n        ring->was", "harvest(rings, ring) != 0;\n        ring->was"),
    ], ["rings"]),
    ("ring-not-drained-as-its-vcpu-goes", [
        (SLOTS + "rings.c", "            harvest(rings, ring);\n", ""),
    ], ["ring"]),
    ("ring-entries-beyond-the-slot-marked", [
        (SLOTS + "rings.c", "} else if (slot != NULL && page < slot->page_count) {", "} else if (slot != NULL) {"),
    ], ["rings"]),
    ("ring-slot-not-forgotten", [
        (SLOTS + "rings.c", "        rings->slots[space][number].page_count = 0;\n", "        (void)space;\n"),
    ], ["rings"]),
    ("ring-loss-not-told", [
        (SLOTS + "rings.c", "    if (is_news) {", "    if (is_news && false) {"),
    ], ["rings"]),
    ("ring-loss-told-each-time", [
        (SLOTS + "rings.c", " && !rings->is_told;", ";"),
    ], ["rings"]),

    # ---- soft: requests ----
    ("request-while-an-answer-is-finished-lost", [
        (SOFT + "run.c", "being finished: the guest is not left for it. */\n        if (rc == RUN_ON) {", "being finished: the guest is not left for it. */\n        if (false) {"),
    ], ["resample"]),

    # ---- coalesced ranges: telling, planning, undoing ----
    ("coalesced-del-not-told", [
        (VIEW + "diff.c", """        if (result == 0) {
            result = append_coalesced(list, allocator, GM_CHANGE_COALESCED_DEL, old.now,
                                      stays ? new.now->coalesced : NULL);
        }
""", ""),
    ], ["edits"]),
    ("coalesced-del-told-of-those-that-stay", [
        (VIEW + "diff.c", "stays ? new.now->coalesced : NULL", "NULL"),
    ], ["edits"]),
    ("coalesced-add-told-of-new-sections-only", [
        (VIEW + "diff.c", "stays ? old.now->coalesced : NULL", "stays ? new.now->coalesced : NULL"),
    ], ["edits"]),
    ("coalesced-not-cut-to-its-section", [
        (VIEW + "diff.c", "        span = span_meet(span, shown);\n        if (!span_is_empty(span) &&", "        if (!span_is_empty(span_meet(span, shown)) &&"),
    ], ["edits"]),
    ("coalesced-change-leaves-the-view", [
        (SPACE + "update.c", " || old->coalesced != fresh->coalesced", ""),
    ], ["edits"]),
    ("coalesced-del-told-late", [
        (SPACE + "tell.c", " ||\n           kind == GM_CHANGE_COALESCED_DEL;", ";"),
    ], ["edits"]),
    ("coalesced-edit-not-undone", [
        (REGION + "edit.c", "        coalesced_list_put(edit->region->coalesced);\n        edit->region->coalesced = edit->from.coalesced;\n", "        coalesced_list_put(edit->from.coalesced);\n"),
    ], ["edits"]),
    ("coalesced-whole-of-this-size-only", [
        (REGION + "edit.c", "return is_whole || span_holds(", "(void)is_whole;\n    return span_holds("),
    ], ["edits"]),
    ("coalesced-ranges-overlap", [
        (REGION + "coalesced.c", "    if (overlaps(old, item)) {", "    if (overlaps(old, item) && coalesced_list_has(old, item)) {"),
    ], ["edits"]),
    ("coalesced-removed-and-added-again", [
        (SLOTS + "io.c", "            adds[kept_adds] = adds[add];\n            kept_adds++;\n        }\n", "            adds[kept_adds] = adds[add];\n            kept_adds++;\n        } else {\n            plan->steps[kept_dels++] = plan->steps[del];\n            adds[kept_adds++] = adds[add];\n        }\n"),
    ], ["edits"]),
    ("coalesced-of-another-region-left-alone", [
        (SLOTS + "io.c", "        {(uintptr_t)a->region, (uintptr_t)b->region},\n        {a->offset, b->offset},\n", ""),
    ], ["edits"]),
    ("coalesced-not-taken-back", [
        (SLOTS + "io.c", "    return call(ops, opaque, step, !step->adds);", "    return step->kind == IO_COALESCED ? 0 : call(ops, opaque, step, !step->adds);"),
    ], ["edits"]),

    # ---- orders that only forced ones come to ----
    ("gate-signal-beside-the-holders-look", [
        (BASE + "gate.c", "        lock_take(&gate->lock);\n        pthread_cond_signal(&gate->left);\n        lock_drop(&gate->lock);\n",
         "        pthread_cond_signal(&gate->left);\n"),
    ], ["gate-points"]),
    ("cell-freed-at-once", [
        (SPACE + "cell.c", "    rcu_defer(&cell->reclaim, reclaim);\n", "    reclaim(&cell->reclaim);\n"),
    ], ["reader-points"]),
    ("graveyard-not-looked-at-after-the-drop", [
        (REGION + "map.c", "    GM_POINT(\"map-unlocked\");\n    map_bury(map);\n", "    GM_POINT(\"map-unlocked\");\n"),
    ], ["reader-points"]),
    ("resize-does-not-wait-for-readers", [
        (RAM + "resize.c", "        rcu_wait();\n", ""),
    ], ["ram-points"]),
    ("take-of-a-part-clears-the-summary", [
        (RAM + "pageset.c", "    uint64_t cleared = (found & whole) != 0 ? clear_bits(summary, whole) : 0;",
         "    uint64_t cleared = found != 0 ? clear_bits(summary, touched) : 0;"),
        (RAM + "pageset.c", "        nodes &= nodes - 1;\n    }\n    return 0;",
         "        nodes &= nodes - 1;\n    }\n    pageset_or(summary, cleared & ~whole);\n    return 0;"),
    ], ["dirty-points"]),
    ("ring-slot-told-after-it-logs", [
        (SOFT + "backend.c", "    int rc = rings_before_change(rings, face->space, slot, new_flags);", "    int rc = 0;"),
        (SOFT + "backend.c", "        GM_POINT(\"slot-changed\");\n",
         "        GM_POINT(\"slot-changed\");\n        rc = rc != 0 ? rc : rings_before_change(rings, face->space, slot, new_flags);\n"),
    ], ["ring-points"]),
    ("coalesced-ring-chosen-without-its-lock", [
        (VM + "vcpu.c", "    lock_take(&vm->coalesced.lock);\n    lock_take(&vm->lock);\n", "    lock_take(&vm->lock);\n"),
        (VM + "vcpu.c", "    lock_drop(&vm->lock);\n    lock_drop(&vm->coalesced.lock);\n", "    lock_drop(&vm->lock);\n"),
    ], ["coalesced-points"]),
    ("reclaim-let-in-by-zap-all", [
        (MMU + "arch.c", "    gate_release(&mmu->installers);\n    mmu_flush(mmu);",
         "    gate_release(&mmu->installers);\n    lock_drop(&mmu->lock);\n    mmu_flush(mmu);\n    lock_take(&mmu->lock);"),
    ], ["soft-orders"]),
    ("line-not-looked-at-after-its-bit-is-taken", [
        (MMU + "install.c", "        if (line_is_writable(entries)) {", "        if (line_is_writable(entries) && false) {"),
    ], ["install-points"]),
    ("leave-cleared-behind-the-gate", [
        (KCORE + "vcpu.c", "    vcpu->in_guest = true;\n",
         "    __atomic_fetch_and(vcpu->requests, ~(uint32_t)KCORE_REQUEST_LEAVE, __ATOMIC_RELAXED);\n    vcpu->in_guest = true;\n"),
    ], ["vcpu-points"]),
    ("tracking-does-not-wait", [
        (MMU + "track.c", "    mmu_flush(mmu);\n    tables_free_retired", "    tables_free_retired"),
    ], ["soft-orders"]),
    ("aging-does-not-wait", [
        (MMU + "arch.c", "    mmu_flush(mmu); /* a translation in a TLB sets no flag */\n", ""),
    ], ["soft-orders"]),
    ("walk-goes-round-in-guest-mode", [
        (MMU + "linear.c", "    if (view->lost_races < LINEAR_RACES_MAX) {", "    if (view->lost_races > 0) {"),
    ], ["linear"]),
    ("dirty-flag-of-a-leaf-that-is-gone", [
        (MMU + "walk.c", "    if (!add_flags(path, path->count - 1, EPT_DIRTY)) {\n        return false;",
         "    if (!add_flags(path, path->count - 1, EPT_DIRTY)) {\n        return true;"),
    ], ["walks"]),
    ("callbacks-nest-without-end", [
        (SPACE + "dispatch.h", "    if (__builtin_expect(dispatch_depth == GM_IO_DEPTH_MAX, 0)) {", "    if (dispatch_depth > 100000) {"),
    ], ["nesting"]),
]
