/*
 * guest/work/jit.c - random expressions are compiled to instructions, executed, and compared with an interpreter; the next
 * one is written over the last. A second program rewrites itself as it runs.
 */
#include "guest/work/work.h"

#include <string.h>

#define OPERATIONS 40u

struct operation {
    enum { ADD, SUBTRACT, MULTIPLY, XOR, ROTATE, KINDS } kind;
    uint32_t number;
};

static uint64_t interpret(const struct operation *operations, unsigned count, uint64_t x)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t number = (uint64_t)(int64_t)(int32_t)operations[i].number;

        switch (operations[i].kind) {
        case ADD:
            x += number;
            break;
        case SUBTRACT:
            x -= number;
            break;
        case MULTIPLY:
            x *= number;
            break;
        case XOR:
            x ^= number;
            break;
        default:
            x = x << (number % 63 + 1) | x >> (63 - number % 63);
            break;
        }
    }
    return x;
}

static uint8_t *put(uint8_t *code, const void *bytes, size_t count)
{
    memcpy(code, bytes, count);
    return code + count;
}

/* uint64_t code(uint64_t x). Return: its end. */
static uint8_t *compile(uint8_t *code, const struct operation *operations, unsigned count)
{
    static const uint8_t begin[] = {0x48, 0x89, 0xf8}; /* mov rax, rdi */
    static const uint8_t opcodes[KINDS][3] = {
        [ADD] = {0x48, 0x05},            /* add rax, imm32 */
        [SUBTRACT] = {0x48, 0x2d},       /* sub rax, imm32 */
        [MULTIPLY] = {0x48, 0x69, 0xc0}, /* imul rax, rax, imm32 */
        [XOR] = {0x48, 0x35},            /* xor rax, imm32 */
        [ROTATE] = {0x48, 0xc1, 0xc0},   /* rol rax, imm8 */
    };

    code = put(code, begin, sizeof(begin));
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *opcode = opcodes[operations[i].kind];

        code = put(code, opcode, opcode[2] != 0 ? 3 : 2);
        if (operations[i].kind == ROTATE) {
            *code++ = (uint8_t)((uint64_t)(int64_t)(int32_t)operations[i].number % 63 + 1);
        } else {
            code = put(code, &operations[i].number, sizeof(uint32_t));
        }
    }
    *code++ = 0xc3;
    return code;
}

static uint64_t call(uint8_t *code, uint64_t x)
{
    uint64_t (*function)(uint64_t);

    memcpy(&function, &code, sizeof(function));
    __asm__ volatile("" : : : "memory"); /* what is called has been written */
    return function(x);
}

/*
 * A loop of @count rounds that adds to its own instruction's number, two bytes further on, in each, as it goes:
 *     mov ecx, edi; xor eax, eax; again: mov edx, 1; add rax, rdx; inc dword [again + 1]; dec ecx; jnz again; ret
 */
static uint64_t rewrite_itself(uint8_t *code, uint32_t count)
{
    static const uint8_t bytes[] = {
        0x89, 0xf9,                         /* mov ecx, edi */
        0x31, 0xc0,                         /* xor eax, eax */
        0xba, 0x01, 0x00, 0x00, 0x00,       /* 4: mov edx, 1 */
        0x48, 0x01, 0xd0,                   /* add rax, rdx */
        0xff, 0x05, 0xf3, 0xff, 0xff, 0xff, /* inc dword [rip - 13]: 18 - 13 = 5 */
        0xff, 0xc9,                         /* dec ecx */
        0x75, 0xee,                         /* jnz 4 */
        0xc3,
    };

    memcpy(code, bytes, sizeof(bytes));
    return call(code, count);
}

uint64_t work_jit(uint64_t rounds)
{
    struct operation operations[OPERATIONS];
    uint8_t *code = env_code();
    uint64_t state = 31337, sum = 0;

    rounds *= 20;
    while (rounds-- > 0) {
        unsigned count = (unsigned)(random_next(&state) % OPERATIONS);
        /* Also over the border of two pages. */
        uint8_t *start = code + 4096 - random_next(&state) % 200;

        for (unsigned i = 0; i < count; i++) {
            operations[i].kind = random_next(&state) % KINDS;
            operations[i].number = (uint32_t)random_next(&state);
        }
        compile(start, operations, count);
        for (unsigned i = 0; i < 5; i++) {
            uint64_t x = random_next(&state), result = call(start, x);

            work_require(result == interpret(operations, count, x), "the compiled code is wrong");
            sum = fold(sum, result);
        }
        count = (unsigned)(rounds % 37 + 1);
        work_require(rewrite_itself(code + rounds % 64, count) == count * (count + 1ul) / 2,
                     "code that rewrites itself");
    }
    return sum;
}
