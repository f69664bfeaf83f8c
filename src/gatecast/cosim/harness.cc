// Steps the Verilated NPU and answers its memory port. Everything outside sees it through the C functions at
// the end, whose counterpart is simulator.py. One thread at a time for each instance.

#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vnpu.h"
#include "verilated.h"
#ifdef GATECAST_TRACE
#include "verilated_fst_c.h"
#endif

double sc_time_stamp() { return 0; }  // the run-time library asks for it; time lies in the context

namespace {

constexpr uint64_t BEAT = 16;             // bytes of one transfer
constexpr uint32_t UNIT_RATE = 1u << 16;  // one beat a cycle
constexpr size_t MOST_READS = 64;         // reads that memory holds before it stops taking requests
constexpr uint64_t POLL = 512;            // cycles from one look at the status register to the next
constexpr int BUS_PATIENCE = 1000;        // cycles in which an access must be acknowledged
constexpr uint32_t STATUS = 7;            // word of the status register, and its bits
constexpr uint32_t DONE = 2, ERROR = 4;

enum Outcome { RUNNING, FINISHED, REFUSED, STUCK, BROKEN };
enum Fault { NO_FAULT, READ_OUTSIDE, WRITE_OUTSIDE, UNALIGNED, REQUEST_CHANGED, BUS_SILENT };

}  // namespace

extern "C" {

// How memory behaves, and how large it is. `writable` is the first byte that the NPU may write.
struct Settings {
    uint64_t bytes, writable, seed;
    uint32_t latency;  // cycles from a read to its answer, at least 1
    uint32_t rate;     // beats for 65,536 cycles
    uint32_t stalls;   // cycles of 65,536 in which each side of memory stands still
};

// An instruction that has written all. `at` is the cycle, counted from reset.
struct Retired {
    uint64_t at;
    uint32_t unit, number, cycles, unused;
};
}

namespace {

struct Read {
    uint64_t due;
    uint32_t data[4];
};

class Simulation {
  public:
    explicit Simulation(const Settings& settings)
        : settings(settings), random(settings.seed | 1), bytes(settings.bytes), npu(&context) {
        npu.bus_cyc = npu.bus_stb = npu.bus_we = npu.response_valid = 0;
        npu.rst = 1;
        step();
        step();
        npu.rst = 0;
    }

    ~Simulation() {
        trace(nullptr);
        npu.final();
    }

    bool trace(const char* path) {
#ifdef GATECAST_TRACE
        if (waves) waves->close();
        waves.reset();
        if (!path) return true;
        context.traceEverOn(true);
        waves = std::make_unique<VerilatedFstC>();
        npu.trace(waves.get(), 99);
        waves->open(path);
        return waves->isOpen();
#else
        return !path;
#endif
    }

    uint32_t access(uint32_t word, bool write, uint32_t value) {
        npu.bus_cyc = npu.bus_stb = 1;
        npu.bus_we = write;
        npu.bus_adr = word;
        npu.bus_dat_w = value;
        acknowledged = false;
        for (int i = 0; i < BUS_PATIENCE && !acknowledged; i++) step();
        if (!acknowledged) fail(BUS_SILENT, word);
        npu.bus_cyc = npu.bus_stb = npu.bus_we = 0;
        step();
        return answer;
    }

    // Run until something ends it, or for `cycles`; `patience` cycles without progress are a standstill.
    Outcome run(uint64_t cycles, uint64_t patience) {
        for (const uint64_t end = now + cycles; now < end;) {
            step();
            if (fault) return BROKEN;
            if (npu.done) return FINISHED;
            if (now - moved > patience) return access(STATUS, false, 0) & ERROR ? REFUSED : STUCK;
            if (now % POLL == 0) {
                const uint32_t status = access(STATUS, false, 0);
                if (status & ERROR) return REFUSED;
                if (status & DONE) return FINISHED;
            }
        }
        return RUNNING;
    }

    void move() { moved = now; }

    const Settings settings;
    uint64_t now = 0;      // cycles since reset
    Fault fault = NO_FAULT;
    uint32_t culprit = 0;  // address of the request at fault
    std::vector<Retired> retired;

  private:
    bool stalls() {
        if (!settings.stalls) return false;
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        return (random >> 20 & 0xffff) < settings.stalls;
    }

    // One clock cycle: inputs that registers outside would drive, what the NPU makes of them, the edge.
    void step() {
        credit = credit + settings.rate < 2 * UNIT_RATE ? credit + settings.rate : 2 * UNIT_RATE;
        npu.memory_ready = credit >= UNIT_RATE && reads.size() < MOST_READS && !stalls();
        if (!npu.response_valid && !reads.empty() && reads.front().due <= now && !stalls()) {
            std::memcpy(&npu.response_data, reads.front().data, BEAT);
            npu.response_valid = 1;
        }
        npu.clk = 0;
        npu.eval();
        dump(2 * now);
        watch();
        const bool request = npu.memory_valid && npu.memory_ready;
        const bool taken = npu.response_valid && npu.response_ready;
        check_request();
        if (request && !fault) serve();
        npu.clk = 1;
        npu.eval();
        dump(2 * now + 1);
        now++;
        if (taken) {
            reads.pop_front();
            npu.response_valid = 0;
        }
    }

    // What the NPU shows in this cycle, before the edge.
    void watch() {
        acknowledged = npu.bus_ack;
        answer = npu.bus_dat_r;
        if (npu.progress) moved = now;
        if (npu.trace_load_retired) retire(0, npu.trace_load_number, npu.trace_load_cycles);
        if (npu.trace_weights_retired) retire(1, npu.trace_weights_number, npu.trace_weights_cycles);
        if (npu.trace_matrix_retired) retire(2, npu.trace_matrix_number, npu.trace_matrix_cycles);
        if (npu.trace_vector_retired) retire(3, npu.trace_vector_number, npu.trace_vector_cycles);
        if (npu.trace_store_retired) retire(4, npu.trace_store_number, npu.trace_store_cycles);
    }

    void retire(uint32_t unit, uint32_t number, uint32_t cycles) {
        retired.push_back({now, unit, number, cycles, 0});
    }

    // A request that is not taken must stay as it is.
    void check_request() {
        const Request current{bool(npu.memory_valid), bool(npu.memory_write), npu.memory_address};
        if (refused.valid && (!current.valid || current.write != refused.write || current.address != refused.address))
            fail(REQUEST_CHANGED, refused.address);
        refused = current;
        refused.valid = current.valid && !npu.memory_ready;
    }

    // Take a request: a write is done at once, a read is answered later with what memory holds now.
    void serve() {
        const uint64_t address = npu.memory_address;
        credit -= UNIT_RATE;
        if (address % BEAT) return fail(UNALIGNED, address);
        if (address + BEAT > settings.bytes) return fail(npu.memory_write ? WRITE_OUTSIDE : READ_OUTSIDE, address);
        uint8_t* const place = bytes.data() + address;
        if (!npu.memory_write) {
            reads.push_back({now + settings.latency, {}});
            std::memcpy(reads.back().data, place, BEAT);
            return;
        }
        if (address < settings.writable) return fail(WRITE_OUTSIDE, address);
        uint8_t data[BEAT];
        std::memcpy(data, &npu.memory_data, BEAT);
        for (uint64_t i = 0; i < BEAT; i++)
            if (npu.memory_mask >> i & 1) place[i] = data[i];
    }

    void fail(Fault kind, uint64_t address) {
        if (!fault) fault = kind, culprit = uint32_t(address);
    }

    void dump(uint64_t time) {
#ifdef GATECAST_TRACE
        if (waves) waves->dump(time);
#else
        (void)time;
#endif
    }

    struct Request {
        bool valid = false, write = false;
        uint32_t address = 0;
    };

    uint64_t random;
    uint32_t credit = 0;  // beats that memory may still move, times 65,536
    std::deque<Read> reads;
    Request refused;
    uint64_t moved = 0;   // last cycle with progress
    bool acknowledged = false;
    uint32_t answer = 0;

  public:
    std::vector<uint8_t> bytes;

  private:
    VerilatedContext context;
    Vnpu npu;
#ifdef GATECAST_TRACE
    std::unique_ptr<VerilatedFstC> waves;
#endif
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT Simulation* gatecast_open(const Settings* settings) { return new Simulation(*settings); }
EXPORT void gatecast_close(Simulation* simulation) { delete simulation; }
EXPORT int gatecast_trace(Simulation* simulation, const char* path) { return simulation->trace(path); }
EXPORT uint8_t* gatecast_memory(Simulation* simulation) { return simulation->bytes.data(); }
EXPORT uint64_t gatecast_now(Simulation* simulation) { return simulation->now; }
EXPORT uint32_t gatecast_read(Simulation* simulation, uint32_t word) { return simulation->access(word, false, 0); }
EXPORT void gatecast_write(Simulation* simulation, uint32_t word, uint32_t value) {
    simulation->access(word, true, value);
    simulation->move();
}
EXPORT int gatecast_run(Simulation* simulation, uint64_t cycles, uint64_t patience) {
    return simulation->run(cycles, patience);
}
EXPORT uint32_t gatecast_fault(Simulation* simulation, uint32_t* address) {
    *address = simulation->culprit;
    return simulation->fault;
}
EXPORT uint64_t gatecast_retired(Simulation* simulation, const Retired** records) {
    *records = simulation->retired.data();
    return simulation->retired.size();
}
EXPORT void gatecast_forget(Simulation* simulation) {
    simulation->retired.clear();
    simulation->fault = NO_FAULT;
}
