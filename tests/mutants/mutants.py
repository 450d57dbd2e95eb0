"""The software KVM with one thing taken out, each in turn: what a test has to notice.

A mutant is a name, edits (file, text, replacement), and the tests that may kill it, most likely first. The text must be in
the file just as often as said (once, unless "*" stands before the name of the file: everywhere).
"""
KCORE = "src/kcore/"
MMU = "src/mmu/"

# The tests: program, environment. Seeds are fixed, so that a mutant that is killed once is killed always, threads aside.
TESTS = {
    "model": ("tests/prop-soft_model", {"GM_SEED": "1", "GM_SOFT_OPERATIONS": "12000"}),
    "model-long": ("tests/prop-soft_model", {"GM_SEED": "1", "GM_SOFT_OPERATIONS": "50000"}),
    "log": ("tests/unit-soft_log", {}),
    "points": ("tests/race-soft_points", {}),
    "walks": ("tests/race-soft_walks", {}),
    "race": ("tests/race-soft_race", {"GM_SEED": "1"}),
    "dirty": ("tests/race-soft_dirty", {"GM_SEED": "1"}),
    "linear": ("tests/unit-soft_linear", {}),
}

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
        (KCORE + "dirtylog.c", "    core->arch_ops->log_protect(core->arch, slot, word * WORD_PAGES, mask);\n    return mask;",
         "    return mask;"),
    ], ["model"]),
    ("get-does-not-flush", [
        (KCORE + "dirtylog.c", "    if (any) {\n        core->arch_ops->tlb_flush(core->arch);\n    }\n}", "    (void)any;\n}"),
    ], ["walks"]),
    ("clear-does-not-protect", [
        (KCORE + "dirtylog.c", "    core->arch_ops->log_protect(core->arch, slot, word * WORD_PAGES, mask);\n    return true;",
         "    return true;"),
    ], ["model"]),
    ("clear-does-not-flush", [
        (KCORE + "dirtylog.c", "        if (any) {\n            core->arch_ops->tlb_flush(core->arch);\n        }\n", "        (void)any;\n"),
    ], ["walks"]),
    ("log-not-put-back", [
        (KCORE + "dirtylog.c", "                atomic_fetch_or(&found->log->words[i], mask);\n", ""),
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
        (MMU + "fault.c", "static bool is_stale(struct mmu_vcpu *vcpu, const struct fault *fault,",
         "static bool is_stale(struct mmu_vcpu *vcpu, __attribute__((unused)) const struct fault *fault,"),
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
        (MMU + "fault.c", "rights |= (attributes & ATTRIBUTE_NO_EXECUTE) == 0 ? EPT_EXECUTE : 0;",
         "rights |= EPT_EXECUTE;"),
    ], ["model"]),
    ("private-page-in-shared-memory", [
        (MMU + "fault.c", "    if ((attributes & ATTRIBUTE_PRIVATE) == 0) {\n", "    if (attributes != UINT64_MAX) {\n"),
    ], ["model"]),
    ("tracked-page-writable", [
        (MMU + "fault.c", "slot_is_tracked(resolved->slot, fault->gfn) ? EPT_TRACKED : EPT_WRITE", "EPT_WRITE"),
    ], ["model"]),
    ("leaf-size-not-asked-again", [
        (MMU + "fault.c", "leaf.level = leaf.level < allowed ? leaf.level : allowed;", "(void)allowed;"),
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
        (MMU + "large.c", "return atomic_load(&tracking->tracked_1g[block_index(slot, gfn, 3)]) != 0;", "return false;"),
    ], ["model-long"]),
    ("large-though-host-pages-are-small", [
        (MMU + "fault.c", "resolved->level < resolved->backing_level ? resolved->level : resolved->backing_level;",
         "resolved->level;"),
    ], ["model"]),

    ("backing-not-forgotten", [
        (MMU + "arch.c", "    slot_forget_backing(slot);\n", ""),
    ], ["model-long"]),

    # ---- mmu: taking away ----
    ("log-begins-unprotected", [
        (MMU + "arch.c", "    take_writes(locked, range_of_slot(slot));\n", ""),
    ], ["model"]),
    ("all-set-log-of-rings-unprotected", [
        (MMU + "arch.c", "mmu->core->initially_all_set && mmu->core->ring_entries == 0", "mmu->core->initially_all_set"),
    ], ["model-long", "dirty"]),
    ("protect-leaves-large-leaves", [
        (MMU + "arch.c", "                     EPT_WRITE | EPT_DIRTY);", "                     0);"),
    ], ["model"]),
    ("large-leaf-keeps-dirty-flag", [
        (MMU + "arch.c", "                     EPT_WRITE | EPT_DIRTY);", "                     EPT_WRITE);"),
    ], ["log"]),
    ("dirty-flag-not-cleared", [
        (MMU + "arch.c", "locked.mmu->log_buffer ? EPT_DIRTY : EPT_WRITE,", "locked.mmu->log_buffer ? 0 : EPT_WRITE,"),
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
        (MMU + "tlb.c", "        forget(entry);\n", "        entry->load = GM_TLB_NONE;\n        entry->fetch = GM_TLB_NONE;\n"),
    ], ["model"]),
    ("tlb-tags-come-round", [
        (MMU + "tlb.c", "    clear_all(vcpu);\n    return false;\n", "    vcpu->tag_count = KCORE_SPACES + LINEAR_VIEWS;\n    return true;\n"),
    ], ["model"]),
    ("tlb-filled-for-writing", [
        (MMU + "walk.c", "leaf & ((leaf & EPT_DIRTY) != 0 ? EPT_RIGHTS : EPT_RIGHTS & ~EPT_WRITE)", "leaf & EPT_RIGHTS"),
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
        (MMU + "access.c", "        written(vcpu->mmu->written_opaque, part->gpa, part->size_bytes);\n",
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
        (MMU + "linear.c", "    if (!same_mode) {\n        tlb_flush_linear(vcpu);\n    }\n", "    (void)same_mode;\n"),
        (MMU + "linear.c", "    if (!switch_context(linear, registers->cr3 & ~CR3_KEEP) || !may_keep) {",
         "    if (!switch_context(linear, registers->cr3 & ~CR3_KEEP) && !may_keep) {"),
    ], ["linear"]),
    ("view-ignores-rights", [
        (MMU + "access.c", "rights & view_rights);", "rights);"),
    ], ["linear"]),
]
