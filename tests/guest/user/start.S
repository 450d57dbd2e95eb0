/* guest/user/start.S - where the program, and each of its threads begins. */
    .text
    .globl  start
start:
    xor     %ebp, %ebp
    call    user_main
    ud2
    .globl  start_thread
start_thread: /* with its argument in RDI */
    xor     %ebp, %ebp
    call    user_thread
    ud2
    .section .note.GNU-stack, "", @progbits
