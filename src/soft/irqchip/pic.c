/*
 * soft/irqchip/pic.c - 8259A, twice, wired as in a PC. Words of the data sheet: ICW, OCW, IRR, ISR, IMR.
 *
 * As in KVM, and unlike the data sheet, an edge is remembered though the line goes low before it is
 * acknowledged, and cascading is a pulse at IR2 whenever the second chip asks. As the data sheet, and unlike KVM,
 * there is the special mask mode, and a poll puts its line into service.
 * Source: Intel 8259A data sheet; the ELCR is the PIIX's, 82371SB data sheet.
 */
#include "soft/irqchip/pic.h"

#include <string.h>

#define LINES 8u
#define NONE LINES
#define CASCADE_LINE 2u

#define PORT_FIRST 0x20u
#define PORT_SECOND 0xa0u
#define PORT_ELCR 0x4d0u

#define ICW1 0x10u
#define ICW1_NEEDS_ICW4 0x01u
#define ICW4_AUTO_EOI 0x02u
#define ICW4_SPECIAL_NESTED 0x10u
#define OCW3 0x08u
#define OCW3_READ 0x02u
#define OCW3_READ_ISR 0x01u
#define OCW3_POLL 0x04u
#define OCW3_SET_MASK_MODE 0x40u
#define OCW3_MASK_MODE 0x20u
#define POLL_PENDING 0x80u

/* The three bits of OCW2: rotate, specific, end of interrupt. */
enum ocw2 {
    OCW2_AUTO_ROTATE_CLEAR = 0,
    OCW2_EOI = 1,
    OCW2_SPECIFIC_EOI = 3,
    OCW2_AUTO_ROTATE_SET = 4,
    OCW2_ROTATE_EOI = 5,
    OCW2_SET_PRIORITY = 6,
    OCW2_ROTATE_SPECIFIC_EOI = 7,
};

/* What the next write to the odd port is. */
enum init_state {
    INIT_DONE = 0,
    INIT_ICW2 = 1,
    INIT_ICW3 = 2,
    INIT_ICW4 = 3,
};

void pic_reset(struct pic_pair *pics)
{
    memset(pics, 0, sizeof(*pics));
    pics->chips[0].elcr_mask = 0xf8; /* the timer, the keyboard and the cascade are edges */
    pics->chips[1].elcr_mask = 0xde; /* so are the clock and the coprocessor */
}

bool pic_owns(uint16_t port)
{
    return (port & ~1u) == PORT_FIRST || (port & ~1u) == PORT_SECOND || (port & ~1u) == PORT_ELCR;
}

/* How far a line is from the highest priority, 0 to 7. */
static unsigned rank_of(const struct kvm_pic_state *pic, unsigned line)
{
    return (line - pic->priority_add) % LINES;
}

/* The line of the highest priority among @lines, or NONE. */
static unsigned first_of(const struct kvm_pic_state *pic, uint8_t lines)
{
    for (unsigned rank = 0; rank < LINES; rank++) {
        unsigned line = (pic->priority_add + rank) % LINES;

        if ((lines >> line & 1) != 0) {
            return line;
        }
    }
    return NONE;
}

/* The line that the chip asks for, or NONE. */
static unsigned asking(const struct pic_pair *pics, unsigned index)
{
    const struct kvm_pic_state *pic = &pics->chips[index];
    uint8_t in_service = pic->isr;
    unsigned line = first_of(pic, pic->irr & (uint8_t)~pic->imr);
    unsigned serving;

    if (pic->special_mask != 0) {
        in_service &= (uint8_t)~pic->imr;
    }
    if (index == 0 && pic->special_fully_nested_mode != 0) {
        in_service &= (uint8_t) ~(1u << CASCADE_LINE);
    }
    serving = first_of(pic, in_service);
    if (line == NONE || (serving != NONE && rank_of(pic, serving) <= rank_of(pic, line))) {
        return NONE;
    }
    return line;
}

/* Return: false if what the line asks for was asked for already. */
static bool set_input(struct kvm_pic_state *pic, unsigned line, bool level)
{
    uint8_t bit = (uint8_t)(1u << line);
    bool was_asked = (pic->irr & bit) != 0;
    bool rises = level && (pic->last_irr & bit) == 0;
    bool by_level = (pic->elcr & bit) != 0;
    bool asks = by_level ? level : rises;

    if (asks) {
        pic->irr |= bit;
    } else if (by_level) {
        pic->irr &= (uint8_t)~bit;
    }
    pic->last_irr = (uint8_t)(level ? pic->last_irr | bit : pic->last_irr & ~bit);
    return !(asks && was_asked);
}

void pic_settle(struct pic_pair *pics)
{
    if (asking(pics, 1) != NONE) {
        (void)set_input(&pics->chips[0], CASCADE_LINE, true);
        (void)set_input(&pics->chips[0], CASCADE_LINE, false);
    }
}

int pic_set_line(struct pic_pair *pics, unsigned irq, bool level)
{
    struct kvm_pic_state *pic = &pics->chips[irq / LINES % 2];
    unsigned line = irq % LINES;
    bool is_new = set_input(pic, line, level);

    pic_settle(pics);
    if ((pic->imr >> line & 1) != 0) {
        return -1;
    }
    return is_new ? 1 : 0;
}

bool pic_output(const struct pic_pair *pics)
{
    return asking(pics, 0) != NONE;
}

uint16_t pic_in_service(const struct pic_pair *pics)
{
    return (uint16_t)(pics->chips[0].isr | pics->chips[1].isr << LINES);
}

static void end_service(struct kvm_pic_state *pic, unsigned line, bool rotate)
{
    if (line == NONE) {
        return;
    }
    pic->isr &= (uint8_t) ~(1u << line);
    if (rotate) {
        pic->priority_add = (line + 1) % LINES;
    }
}

/* The line goes into service; its edge is used up. */
static void serve(struct kvm_pic_state *pic, unsigned line)
{
    uint8_t bit = (uint8_t)(1u << line);

    pic->isr |= bit;
    if (pic->auto_eoi != 0) {
        end_service(pic, line, pic->rotate_on_auto_eoi != 0);
    }
    if ((pic->elcr & bit) == 0) {
        pic->irr &= (uint8_t)~bit;
    }
}

uint8_t pic_acknowledge(struct pic_pair *pics)
{
    unsigned line = asking(pics, 0);
    unsigned index = 0;

    if (line != NONE) {
        serve(&pics->chips[0], line);
    }
    if (line == CASCADE_LINE) {
        index = 1;
        line = asking(pics, 1);
        if (line != NONE) {
            serve(&pics->chips[1], line);
        }
    }
    pic_settle(pics);
    return (uint8_t)(pics->chips[index].irq_base + (line != NONE ? line : LINES - 1));
}

/* Return: whether what the chip asks for may be another line now. */
static bool write_ocw2(struct kvm_pic_state *pic, uint8_t value)
{
    unsigned line = value % LINES;
    bool is_idle = pic->isr == 0;

    switch ((enum ocw2)(value >> 5)) {
    case OCW2_AUTO_ROTATE_CLEAR:
        pic->rotate_on_auto_eoi = 0;
        return false;
    case OCW2_AUTO_ROTATE_SET:
        pic->rotate_on_auto_eoi = 1;
        return false;
    case OCW2_EOI:
        end_service(pic, first_of(pic, pic->isr), false);
        return !is_idle;
    case OCW2_ROTATE_EOI:
        end_service(pic, first_of(pic, pic->isr), true);
        return !is_idle;
    case OCW2_SPECIFIC_EOI:
        end_service(pic, line, false);
        return true;
    case OCW2_ROTATE_SPECIFIC_EOI:
        end_service(pic, line, true);
        return true;
    case OCW2_SET_PRIORITY:
        pic->priority_add = (line + 1) % LINES;
        return true;
    default: /* no operation */
        return false;
    }
}

/*
 * Requests by level stay while their lines are high; edges are forgotten. What is in service stays: but as in KVM
 * not if it has asked again by an edge.
 */
static void write_icw1(struct kvm_pic_state *pic, uint8_t value)
{
    pic->init4 = value & ICW1_NEEDS_ICW4;
    pic->last_irr = 0;
    pic->isr &= (uint8_t) ~(pic->irr & ~pic->elcr);
    pic->irr &= pic->elcr;
    pic->imr = 0;
    pic->priority_add = 0;
    pic->special_mask = 0;
    pic->read_reg_select = 0;
    if (pic->init4 == 0) {
        pic->special_fully_nested_mode = 0;
        pic->auto_eoi = 0;
    }
    pic->init_state = INIT_ICW2;
}

static void write_ocw3(struct kvm_pic_state *pic, uint8_t value)
{
    if ((value & OCW3_POLL) != 0) {
        pic->poll = 1;
    }
    if ((value & OCW3_READ) != 0) {
        pic->read_reg_select = value & OCW3_READ_ISR;
    }
    if ((value & OCW3_SET_MASK_MODE) != 0) {
        pic->special_mask = (value & OCW3_MASK_MODE) != 0;
    }
}

/* Return: as above. */
static bool write_odd(struct kvm_pic_state *pic, uint8_t value)
{
    switch ((enum init_state)pic->init_state) {
    case INIT_DONE:
        pic->imr = value;
        return true;
    case INIT_ICW2:
        pic->irq_base = value & 0xf8;
        pic->init_state = INIT_ICW3;
        break;
    case INIT_ICW3: /* the wiring is what it is */
        pic->init_state = pic->init4 != 0 ? INIT_ICW4 : INIT_DONE;
        break;
    case INIT_ICW4:
        pic->special_fully_nested_mode = (value & ICW4_SPECIAL_NESTED) != 0;
        pic->auto_eoi = (value & ICW4_AUTO_EOI) != 0;
        pic->init_state = INIT_DONE;
        break;
    default: /* set from outside, to what no chip is in */
        break;
    }
    return false;
}

/* Initialisation makes no edge at IR2 of a second chip that asks all the while. */
void pic_write(struct pic_pair *pics, uint16_t port, uint8_t value)
{
    struct kvm_pic_state *pic = &pics->chips[(port & 0x80) != 0];
    bool changes = false;

    if ((port & ~1u) == PORT_ELCR) {
        pic = &pics->chips[port & 1];
        pic->elcr = value & pic->elcr_mask;
        return;
    }
    if ((port & 1) != 0) {
        changes = write_odd(pic, value);
    } else if ((value & ICW1) != 0) {
        write_icw1(pic, value);
    } else if ((value & OCW3) != 0) {
        write_ocw3(pic, value);
    } else {
        changes = write_ocw2(pic, value);
    }
    if (changes) {
        pic_settle(pics);
    }
}

/* A poll is an acknowledgement by reading. If nothing asks, the line's bits are undefined: KVM has 7. */
static uint8_t read_poll(struct pic_pair *pics, unsigned index)
{
    struct kvm_pic_state *pic = &pics->chips[index];
    unsigned line = asking(pics, index);

    pic->poll = 0;
    if (line == NONE) {
        return LINES - 1;
    }
    serve(pic, line);
    pic_settle(pics);
    return (uint8_t)(POLL_PENDING | line);
}

uint8_t pic_read(struct pic_pair *pics, uint16_t port)
{
    unsigned index = (port & 0x80) != 0;
    const struct kvm_pic_state *pic = &pics->chips[index];

    if ((port & ~1u) == PORT_ELCR) {
        return pics->chips[port & 1].elcr;
    }
    if (pic->poll != 0) {
        return read_poll(pics, index);
    }
    if ((port & 1) != 0) {
        return pic->imr;
    }
    return pic->read_reg_select != 0 ? pic->isr : pic->irr;
}
