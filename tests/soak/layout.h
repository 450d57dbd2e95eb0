/*
 * soak/layout.h - what host and guest of the soak agree on. Included by guest.S, so numbers only.
 *
 * Each vCPU counts steps in RBX, by SOAK_STEP. A step is of one page out of SOAK_PAGES, each once in so many steps. The page is at a linear
 * address of its own, in tables of the vCPU's own; where in guest-physical memory it is the host says in `place`, as an entry,
 * and the vCPU writes it into its table when it has changed, and now and then although it has not.
 *
 *   not parked   the vCPU loads its own word of the page, which has to be `expect`, stores its step there, and then into `expect`
 *   READ pages   it only loads
 *   parked       it leaves the page alone
 *
 * and ends by storing the step into `done`. So host and guest know of each word what has to be in it, whatever shows it.
 */
#ifndef SOAK_LAYOUT_H
#define SOAK_LAYOUT_H

#define SOAK_VCPUS 2
#define SOAK_PAGES 256
#define SOAK_STEP 0x10000 /* between two steps the host has numbers of its own */
#define SOAK_STRIDE 37    /* page = step * stride modulo pages */

/* Groups of pages, by number. */
#define SOAK_FILE 0       /* 96: memory of the caller's, of a file's pages that come and go */
#define SOAK_ANON 96      /* 32: anonymous memory of the library's, likewise */
#define SOAK_WINDOWED 128 /* 32: under BARs of other memory */
#define SOAK_MOVED 160    /* 32: a region that moves */
#define SOAK_HOT 192      /* 32: memory that is made, plugged, unplugged and freed */
#define SOAK_READ 224     /* 32: flash, read-only or not, under shadow RAM */

/* Low memory, mapped one to one by the guest's tables. */
#define SOAK_LOW_BYTES 0x40000
#define SOAK_CODE 0x1000
#define SOAK_PARKED 0x2000 /* a byte for each page: how many have parked it */
#define SOAK_PLACES 0x3000 /* an entry for each page */
#define SOAK_OWN 0x10000   /* of vCPU 0; as much again for the next */
#define SOAK_OWN_DONE 0
#define SOAK_OWN_FOUND 8 /* what was wrong */
#define SOAK_OWN_WANTED 16
#define SOAK_OWN_EXPECT 0x1000 /* a number for each page */
#define SOAK_OWN_PML4 0x2000
#define SOAK_OWN_PDPT 0x3000
#define SOAK_OWN_PD 0x4000
#define SOAK_OWN_PT 0x5000 /* of the pages */

#define SOAK_LINEAR 0x200000 /* where the pages are */
#define SOAK_PORT 0x20       /* 8 for each vCPU: the page that had the wrong number */

#endif
