/*
 * soft/irqchip/pic.h - the two 8259A of a PC: the second's output is the first's IR2.
 *
 * A chip's state is kept as KVM gives it out. Any bytes can be set, so each use makes sense of any.
 */
#ifndef SOFT_IRQCHIP_PIC_H
#define SOFT_IRQCHIP_PIC_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

struct pic_pair {
    struct kvm_pic_state chips[2];
};

void pic_reset(struct pic_pair *pics);

bool pic_owns(uint16_t port);
uint8_t pic_read(struct pic_pair *pics, uint16_t port);
void pic_write(struct pic_pair *pics, uint16_t port, uint8_t value);

/* @irq is 0 to 15. Return: as irqchip_set_line(). */
int pic_set_line(struct pic_pair *pics, unsigned irq, bool level);

/* Lines in service: bit N is line N. */
uint16_t pic_in_service(const struct pic_pair *pics);

/* Does the first chip ask for the processor? */
bool pic_output(const struct pic_pair *pics);

/* The processor's acknowledgement. Return: the vector; if nothing asks any more, that of IR7. */
uint8_t pic_acknowledge(struct pic_pair *pics);

/* State was set: let the output follow it. */
void pic_settle(struct pic_pair *pics);

#endif
