/* guest/work/sort.c - quicksort of numbers and of records, each result looked up by bisection. */
#include "guest/work/work.h"

struct record {
    uint32_t key;
    uint16_t place;
    int8_t weight;
    uint8_t group;
};

static void sort_words(uint32_t *items, long low, long high)
{
    while (low < high) {
        uint32_t pivot = items[(low + high) / 2];
        long i = low, j = high;

        while (i <= j) {
            while (items[i] < pivot) {
                i++;
            }
            while (items[j] > pivot) {
                j--;
            }
            if (i <= j) {
                uint32_t item = items[i];

                items[i++] = items[j];
                items[j--] = item;
            }
        }
        sort_words(items, low, j);
        low = i;
    }
}

static int compare(const struct record *a, const struct record *b)
{
    if (a->group != b->group) {
        return a->group < b->group ? -1 : 1;
    }
    if (a->weight != b->weight) {
        return a->weight < b->weight ? -1 : 1;
    }
    return (int)a->place - (int)b->place;
}

static void sort_records(struct record *records, size_t count)
{
    for (size_t gap = count / 2; gap > 0; gap /= 2) {
        for (size_t i = gap; i < count; i++) {
            struct record record = records[i];
            size_t j = i;

            for (; j >= gap && compare(&record, &records[j - gap]) < 0; j -= gap) {
                records[j] = records[j - gap];
            }
            records[j] = record;
        }
    }
}

static uint64_t find(const uint32_t *items, size_t count, uint32_t item)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (items[middle] < item) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint64_t work_sort(uint64_t rounds)
{
    const size_t count = 6000, record_count = 1500;
    uint32_t *items = heap_new(count * sizeof(*items));
    struct record *records = heap_new(record_count * sizeof(*records));
    uint64_t state = 88172645463325252ul, sum = 0;

    while (rounds-- > 0) {
        for (size_t i = 0; i < count; i++) {
            items[i] = (uint32_t)random_next(&state);
        }
        sort_words(items, 0, (long)count - 1);
        for (size_t i = 0; i < count; i += 7) {
            sum = fold(sum, items[i] + find(items, count, (uint32_t)random_next(&state)));
        }
        for (size_t i = 0; i < record_count; i++) {
            uint64_t bits = random_next(&state);

            records[i] = (struct record){items[i], (uint16_t)i, (int8_t)bits, (bits >> 8) % 7};
        }
        sort_records(records, record_count);
        for (size_t i = 0; i < record_count; i++) {
            sum = fold(sum, records[i].key ^ records[i].place * 31u ^ (uint32_t)records[i].weight);
        }
    }
    heap_free(records);
    heap_free(items);
    return sum;
}
