/*
 * pc/board.c - the devices' common ground: regions they add, the end they announce.
 */
#include "pc/board.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int board_add_region(struct board *board, struct gm_region *parent,
                     const struct gm_region_options *options, struct gm_region **region)
{
    struct gm_region *made;
    int err;

    if (board->region_count == BOARD_REGIONS_MAX) {
        return -E2BIG;
    }
    err = gm_region_new(board->map, options, &made, &board->diag);
    if (err != 0) {
        return err;
    }
    board->regions[board->region_count++] = made;
    if (parent != NULL) {
        err = gm_txn_add(board->building, parent, made);
    }
    if (err == 0 && region != NULL) {
        *region = made;
    }
    return err;
}

int board_add_ports(struct board *board, const struct board_ports *ports)
{
    const struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_MMIO,
        .name = ports->name,
        .addr = ports->port,
        .size_bytes = ports->count,
        .io = ports->io,
        .opaque = ports->opaque,
    };

    return board_add_region(board, board->ports, &options, NULL);
}

void board_put_regions(struct board *board)
{
    while (board->region_count > 0) {
        gm_region_put(board->regions[--board->region_count]);
    }
}

void board_end(struct board *board, enum pc_end end, uint32_t value)
{
    uint64_t running = PC_RUNNING;

    /* Relaxed is enough: the two halves travel in one word, and nothing else hangs on it. */
    atomic_compare_exchange_strong_explicit(&board->end, &running,
                                            (uint64_t)end | (uint64_t)value << 32,
                                            memory_order_relaxed, memory_order_relaxed);
    gm_vcpu_kick(board->vcpu);
}

enum pc_end board_ended(const struct board *board, uint32_t *value)
{
    uint64_t end = atomic_load_explicit(&board->end, memory_order_relaxed);

    if (value != NULL) {
        *value = (uint32_t)(end >> 32);
    }
    return (enum pc_end)(uint32_t)end;
}

void board_commit(struct board *board, struct gm_txn *txn, int err)
{
    struct gm_diag diag = {0};

    if (err != 0) {
        gm_txn_abort(txn);
    } else {
        err = gm_txn_commit(txn, &diag);
    }
    if (err == 0) {
        return;
    }
    if (board_ended(board, NULL) == PC_RUNNING) {
        board->diag = diag;
        board->diag.code = err;
        if (diag.text[0] == '\0') {
            snprintf(board->diag.text, sizeof(board->diag.text),
                     "the memory map could not be changed as the guest asked: %s", strerror(-err));
        }
    }
    board_end(board, PC_FAILED, 0);
}
