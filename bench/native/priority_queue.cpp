// The floor under the run queue: std::priority_queue, FIFO among equals by a sequence, no lock.
//
//   priority_queue ELEMENTS COUNT    prints M/s of one pop and one push at this many elements
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <queue>
#include <vector>

struct Item {
    uint32_t priority;
    uint64_t sequence, handle;
    bool operator<(const Item &other) const {
        return priority != other.priority ? priority > other.priority : sequence > other.sequence;
    }
};

static double now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    uint64_t elements = strtoull(argv[1], nullptr, 10), count = strtoull(argv[2], nullptr, 10);
    std::priority_queue<Item> queue;
    uint64_t sequence = 0, sum = 0;
    for (uint64_t i = 0; i < elements; i++) queue.push({uint32_t(i * 37 & 255), sequence++, i});
    double start = 0;
    for (uint64_t i = 0; i < count + count / 10; i++) {
        if (i == count / 10) start = now_ns();
        Item item = queue.top();
        queue.pop();
        sum += item.handle;
        queue.push({uint32_t(i * 37 & 255), sequence++, item.handle});
    }
    double took = now_ns() - start;
    fprintf(stderr, "%llu\n", (unsigned long long)sum);
    printf("%.4f\n", count / took * 1e3);
}
