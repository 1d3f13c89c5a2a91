// Clock loop, AXI memory model and AXI4-Lite host around the generated model of `lutcore`.
//
// Compiled together with the output of `write_cxxrtl`, which `build.py` includes before this
// file. Macros set by the build:
//   LUTCORE_BEAT_BYTES  bytes per beat of m_axi
//   LUTCORE_SETTLE      1 if the model has combinational feedback and wants repeated evaluation
//   LUTCORE_TRACE       name of the member that holds the units' states, if the core has one
//   LUTCORE_INPUTS(X)   X(name) for each input that is no port of a core
//
// One clock cycle is one evaluation. The generated model computes everything from the registers'
// current values, so evaluating once at a rising edge yields the outputs of the ending cycle
// (read them before commit) and the registers' next values. The falling edge has no effect and is
// skipped by setting the remembered clock level back to 0. The inputs of a cycle must not depend
// on its outputs: all ready and valid signals of this file are decided from earlier cycles.

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <type_traits>
#include <vector>

namespace {

constexpr uint64_t kBeatBytes = LUTCORE_BEAT_BYTES;
constexpr size_t kMaxOutstanding = 32;  // Bursts per direction.
constexpr uint64_t kNever = UINT64_MAX;
constexpr int64_t kOneBeat = int64_t(1) << 32;  // Bandwidth credit is in 2^-32 beats.
constexpr uint8_t kPoison = 0xA5;  // Data where the bus defines none, so that its use shows.

constexpr uint8_t kOkay = 0, kSlaveError = 2, kDecodeError = 3;

enum Fault : uint32_t {
    kNoFault,
    kReadSlaveError,
    kReadDecodeError,
    kReadHang,
    kWriteSlaveError,
    kWriteDecodeError,
    kWriteHang,
    kReadAddressHang,
    kWriteAddressHang,
    kWriteDataHang,
};

enum Status : int32_t { kDone = 0, kIrq = 1, kViolation = 2, kTimeout = 3 };

// An output is a value<> if logic drives it and a wire<> if a register does; a register's value of
// this cycle is `curr`, since it is read before commit.
template <size_t N>
const cxxrtl::value<N> &output(const cxxrtl::value<N> &port) { return port; }
template <size_t N>
const cxxrtl::value<N> &output(const cxxrtl::wire<N> &port) { return port.curr; }

template <class Port>
uint64_t get(const Port &port) {
    const auto &bits = output(port);
    uint64_t result = bits.data[0];
    if (std::remove_reference_t<decltype(bits)>::chunks > 1) result |= uint64_t(bits.data[1]) << 32;
    return result;
}

template <size_t N>
void set(cxxrtl::value<N> &port, uint32_t bits) { port.data[0] = bits; }

}  // namespace

extern "C" {

// These are mirrored by ctypes structures in simulator.py.
struct lutcore_options {
    uint64_t memory_bytes;
    uint64_t latency;
    double bandwidth;
    double stall_probability;
    uint64_t stall_seed;
    uint64_t fault_burst;
    uint32_t fault_kind;
    uint32_t trace;
};

struct lutcore_stats {
    uint64_t cycles, read_bursts, write_bursts, read_beats, write_beats, bytes_read, bytes_written;
};

struct lutcore_access {
    uint32_t offset, value, strobe, response;
};

struct lutcore_violation {
    uint64_t cycle;
    char channel[16];
    char text[232];
};

}  // extern "C"

namespace {

struct Burst {
    uint64_t address;
    uint32_t beats;  // Still to come.
    uint8_t response;
    uint64_t ready_at;  // Cycle of the first beat (read) or of the response (write).
};

// A master's address channel in one cycle.
struct Address {
    uint64_t address;
    uint32_t length, size, burst;

    bool operator==(const Address &other) const {
        return address == other.address && length == other.length && size == other.size &&
               burst == other.burst;
    }
};

struct Data {
    uint8_t bytes[kBeatBytes];
    uint64_t strobe;
    bool last;

    bool operator==(const Data &other) const {
        return strobe == other.strobe && last == other.last &&
               std::memcmp(bytes, other.bytes, kBeatBytes) == 0;
    }
};

// What was offered and not taken in the last cycle: it must still be there in this one.
template <class Payload>
struct Held {
    bool valid = false;
    Payload payload{};
};

class Simulation {
public:
    lutcore_stats stats{};
    lutcore_violation violation{};
    std::vector<uint64_t> events;  // cycle << 8 | unit << 2 | state

    Simulation(uint8_t *memory, const lutcore_options &options)
        : options_(options), memory_(memory), random_(options.stall_seed),
          stall_below_(uint64_t(options.stall_probability * 4294967296.0)),
          credit_gain_(int64_t(options.bandwidth * double(kOneBeat))), credit_(2 * kOneBeat) {
        set(dut_.p_aresetn, 0);
        poison_read_data();
    }

    // Names are mangled as CXXRTL does it, with two underscores for one.
    int32_t set_input(const char *name, uint32_t value) {
#define LUTCORE_SET(port)                      \
    if (std::strcmp(name, #port) == 0) {       \
        set(dut_.p_##port, value);             \
        return 1;                              \
    }
        LUTCORE_INPUTS(LUTCORE_SET)
#undef LUTCORE_SET
        return 0;
    }

    int32_t reset(uint64_t cycles) {
        reads_.clear();
        writes_.clear();
        responses_.clear();
        read_offered_ = response_offered_ = false;
        set(dut_.p_aresetn, 0);
        for (uint64_t i = 0; i < cycles; ++i)
            if (!tick()) return kViolation;
        set(dut_.p_aresetn, 1);
        return kDone;
    }

    int32_t run(uint64_t cycles, bool until_irq) {
        for (uint64_t i = 0; i < cycles; ++i) {
            if (!tick()) return kViolation;
            if (until_irq && irq_) return kIrq;
        }
        return kDone;
    }

    // Writes and reads side by side, each channel as far ahead as the core lets it.
    int32_t access(lutcore_access *writes, uint64_t write_count, lutcore_access *reads,
                   uint64_t read_count, uint64_t max_cycles) {
        // Copies: what times out stays on the bus.
        host_writes_.assign(writes, writes + write_count);
        host_reads_.assign(reads, reads + read_count);
        host_aw_ = host_w_ = host_b_ = HostChannel{&host_writes_};
        host_ar_ = host_r_ = HostChannel{&host_reads_};
        for (uint64_t i = 0; host_b_.open() || host_r_.open(); ++i) {
            if (i == max_cycles) return kTimeout;
            const size_t answers = host_b_.next + host_r_.next;
            if (!tick()) return kViolation;
            // Each answer begins the time of the next one.
            if (host_b_.next + host_r_.next != answers) i = 0;
        }
        std::copy(host_writes_.begin(), host_writes_.end(), writes);
        std::copy(host_reads_.begin(), host_reads_.end(), reads);
        return kDone;
    }

private:
    // A channel goes through a list of accesses. It waits (for a random while) with each one, then
    // offers it until the core takes it.
    struct HostChannel {
        std::vector<lutcore_access> *list = nullptr;
        size_t next = 0;
        bool offered = false;

        bool open() const { return list && next < list->size(); }
        lutcore_access &now() const { return (*list)[next]; }
        void take() { ++next, offered = false; }
    };

    cxxrtl_design::p_lutcore dut_;
    const lutcore_options options_;
    uint8_t *const memory_;
    uint64_t random_;
    const uint64_t stall_below_;
    const int64_t credit_gain_;
    int64_t credit_;
    uint64_t cycles_in_reset_ = 0;

    std::deque<Burst> reads_, writes_, responses_;
    bool read_offered_ = false, response_offered_ = false;
    Held<Address> held_ar_, held_aw_;
    Held<Data> held_w_;

    std::vector<lutcore_access> host_writes_, host_reads_;
    HostChannel host_aw_, host_w_, host_b_, host_ar_, host_r_;
    Held<uint64_t> held_host_b_, held_host_r_;

    bool irq_ = false;
    uint64_t trace_state_ = 0;
    bool tracing_ = false;

    bool stall() {
        if (stall_below_ == 0) return false;
        // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
        uint64_t z = random_ += 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return ((z ^ (z >> 31)) >> 32) < stall_below_;
    }

    bool fail(const char *channel, const char *format, ...) {
        violation.cycle = stats.cycles;
        std::snprintf(violation.channel, sizeof violation.channel, "%s", channel);
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(violation.text, sizeof violation.text, format, arguments);
        va_end(arguments);
        return false;
    }

    bool violated() const { return violation.channel[0] != 0; }

    bool tick() {
        if (violated()) return false;
        const bool running = dut_.p_aresetn.data[0];
        if (running) {
            cycles_in_reset_ = 0;
            drive_memory();
            drive_host();
        } else {
            idle_inputs();
        }
        evaluate();
        if (running) {
            sample_read_address() && sample_read_data() && sample_write_address() &&
                sample_write_data() && sample_write_response() && sample_host();
        } else if (++cycles_in_reset_ > 1) {
            // The first edge in reset is the one that clears the core's registers.
            check_quiet();
        }
        irq_ = get(dut_.p_irq);
        if (options_.trace) record_trace();
        dut_.commit();
        ++stats.cycles;
        return !violated();
    }

    void evaluate() {
        set(dut_.p_aclk, 1);
#if LUTCORE_SETTLE
        set(dut_.prev_p_aclk, 1);
        for (int deltas = 0; dut_.eval(), dut_.commit(); ++deltas) {
            if (deltas == 1000) {
                fail("logic", "a combinational loop does not settle");
                return;
            }
        }
#endif
        set(dut_.prev_p_aclk, 0);
        dut_.eval();
    }

    void idle_inputs() {
        set(dut_.p_m__axi__arready, 0);
        set(dut_.p_m__axi__rvalid, 0);
        set(dut_.p_m__axi__awready, 0);
        set(dut_.p_m__axi__wready, 0);
        set(dut_.p_m__axi__bvalid, 0);
        set(dut_.p_s__axi__awvalid, 0);
        set(dut_.p_s__axi__wvalid, 0);
        set(dut_.p_s__axi__bready, 0);
        set(dut_.p_s__axi__arvalid, 0);
        set(dut_.p_s__axi__rready, 0);
        host_aw_ = host_w_ = host_b_ = host_ar_ = host_r_ = HostChannel{};
        held_ar_.valid = held_aw_.valid = held_w_.valid = false;
        held_host_b_.valid = held_host_r_.valid = false;
    }

    void check_quiet() {
        if (get(dut_.p_m__axi__arvalid)) fail("m_axi AR", "valid during reset");
        if (get(dut_.p_m__axi__awvalid)) fail("m_axi AW", "valid during reset");
        if (get(dut_.p_m__axi__wvalid)) fail("m_axi W", "valid during reset");
        if (get(dut_.p_s__axi__bvalid)) fail("s_axi B", "valid during reset");
        if (get(dut_.p_s__axi__rvalid)) fail("s_axi R", "valid during reset");
    }

    void drive_memory() {
        // Both directions may spend the last credit in one cycle; the debt is paid before the next
        // beat. Credit does not pile up while the bus is idle.
        credit_ = std::min(credit_ + credit_gain_, 2 * kOneBeat);
        const bool credit = credit_ >= kOneBeat;

        set(dut_.p_m__axi__arready,
            reads_.size() < kMaxOutstanding && !hangs(kReadAddressHang, stats.read_bursts) &&
                !stall());
        if (!read_offered_ && credit && !reads_.empty() &&
            reads_.front().ready_at <= stats.cycles && !stall()) {
            read_offered_ = true;
            offer_read_beat(reads_.front());
        }
        set(dut_.p_m__axi__rvalid, read_offered_);

        set(dut_.p_m__axi__awready,
            writes_.size() + responses_.size() < kMaxOutstanding &&
                !hangs(kWriteAddressHang, stats.write_bursts) && !stall());
        // A burst whose address is taken counts already.
        set(dut_.p_m__axi__wready,
            credit && !writes_.empty() &&
                !hangs(kWriteDataHang, stats.write_bursts - writes_.size()) && !stall());
        if (!response_offered_ && !responses_.empty() &&
            responses_.front().ready_at <= stats.cycles && !stall()) {
            response_offered_ = true;
            set(dut_.p_m__axi__bresp, responses_.front().response);
        }
        set(dut_.p_m__axi__bvalid, response_offered_);
    }

    // Whether a channel has stopped for good, with `burst` as the next one that it is about.
    bool hangs(Fault kind, uint64_t burst) const {
        return options_.fault_kind == kind && burst >= options_.fault_burst;
    }

    bool in_memory(uint64_t address) const {
        return address < options_.memory_bytes && kBeatBytes <= options_.memory_bytes - address;
    }

    void offer_read_beat(const Burst &burst) {
        uint8_t response = burst.response;
        if (response == kOkay && !in_memory(burst.address)) response = kDecodeError;
        if (response == kOkay)
            std::memcpy(dut_.p_m__axi__rdata.data, memory_ + burst.address, kBeatBytes);
        else
            poison_read_data();
        set(dut_.p_m__axi__rresp, response);
        set(dut_.p_m__axi__rlast, burst.beats == 1);
    }

    void poison_read_data() { std::memset(dut_.p_m__axi__rdata.data, kPoison, kBeatBytes); }

    template <class Payload>
    bool check_held(Held<Payload> &held, const char *channel, bool valid, bool ready,
                    const Payload &payload) {
        if (held.valid && !valid) return fail(channel, "valid fell before ready rose");
        if (held.valid && !(held.payload == payload))
            return fail(channel, "the payload changed while valid waited for ready");
        held.valid = valid && !ready;
        if (held.valid) held.payload = payload;
        return true;
    }

    bool check_burst(const char *channel, const Address &a) {
        const unsigned long long address = a.address;
        const unsigned beats = a.length + 1;
        if (a.burst != 1)
            return fail(channel, "burst type %u at %#llx, not INCR (1)", a.burst, address);
        if ((uint64_t(1) << a.size) != kBeatBytes)
            return fail(channel, "%u bytes per beat at %#llx, not %u", 1u << a.size, address,
                        unsigned(kBeatBytes));
        if (a.address % kBeatBytes != 0)
            return fail(channel, "address %#llx is not a multiple of the beat, %u bytes", address,
                        unsigned(kBeatBytes));
        if (a.address % 4096 + beats * kBeatBytes > 4096)
            return fail(channel, "%u beats at %#llx cross a 4 KiB boundary", beats, address);
        return true;
    }

    bool sample_read_address() {
        const bool valid = get(dut_.p_m__axi__arvalid), ready = dut_.p_m__axi__arready.data[0];
        if (!valid && !held_ar_.valid) return true;
        const Address a{get(dut_.p_m__axi__araddr), uint32_t(get(dut_.p_m__axi__arlen)),
                        uint32_t(get(dut_.p_m__axi__arsize)),
                        uint32_t(get(dut_.p_m__axi__arburst))};
        if (!check_held(held_ar_, "m_axi AR", valid, ready, a)) return false;
        if (!ready) return true;
        if (!check_burst("m_axi AR", a)) return false;
        const bool faulty = stats.read_bursts++ == options_.fault_burst;
        const uint32_t kind = faulty ? options_.fault_kind : kNoFault;
        reads_.push_back({a.address, a.length + 1,
                          kind == kReadSlaveError    ? kSlaveError
                          : kind == kReadDecodeError ? kDecodeError
                                                     : kOkay,
                          kind == kReadHang ? kNever : stats.cycles + options_.latency});
        return true;
    }

    bool sample_read_data() {
        if (!read_offered_ || !get(dut_.p_m__axi__rready)) return true;
        read_offered_ = false;
        poison_read_data();
        credit_ -= kOneBeat;
        ++stats.read_beats;
        stats.bytes_read += kBeatBytes;
        Burst &burst = reads_.front();
        burst.address += kBeatBytes;
        if (--burst.beats == 0) reads_.pop_front();
        return true;
    }

    bool sample_write_address() {
        const bool valid = get(dut_.p_m__axi__awvalid), ready = dut_.p_m__axi__awready.data[0];
        if (!valid && !held_aw_.valid) return true;
        const Address a{get(dut_.p_m__axi__awaddr), uint32_t(get(dut_.p_m__axi__awlen)),
                        uint32_t(get(dut_.p_m__axi__awsize)),
                        uint32_t(get(dut_.p_m__axi__awburst))};
        if (!check_held(held_aw_, "m_axi AW", valid, ready, a)) return false;
        if (!ready) return true;
        if (!check_burst("m_axi AW", a)) return false;
        const bool faulty = stats.write_bursts++ == options_.fault_burst;
        const uint32_t kind = faulty ? options_.fault_kind : kNoFault;
        writes_.push_back({a.address, a.length + 1,
                           kind == kWriteSlaveError    ? kSlaveError
                           : kind == kWriteDecodeError ? kDecodeError
                                                       : kOkay,
                           kind == kWriteHang ? kNever : 0});
        return true;
    }

    bool sample_write_data() {
        const bool valid = get(dut_.p_m__axi__wvalid), ready = dut_.p_m__axi__wready.data[0];
        if (!valid && !held_w_.valid) return true;
        Data d;
        std::memcpy(d.bytes, output(dut_.p_m__axi__wdata).data, kBeatBytes);
        d.strobe = get(dut_.p_m__axi__wstrb);
        d.last = get(dut_.p_m__axi__wlast);
        if (!check_held(held_w_, "m_axi W", valid, ready, d)) return false;
        if (!ready) return true;

        // Ready is given to a burst whose address has been taken, so there is one.
        Burst &burst = writes_.front();
        if (d.last != (burst.beats == 1))
            return fail("m_axi W",
                        "last is %d with %u beats of the burst to come, this one counted",
                        int(d.last), unsigned(burst.beats));
        if (burst.response == kOkay && !in_memory(burst.address)) burst.response = kDecodeError;
        if (burst.response == kOkay) {
            uint8_t *const to = memory_ + burst.address;
            for (uint64_t i = 0; i < kBeatBytes; ++i)
                if (d.strobe >> i & 1) to[i] = d.bytes[i];
        }
        credit_ -= kOneBeat;
        ++stats.write_beats;
        stats.bytes_written += uint64_t(__builtin_popcountll(d.strobe));
        burst.address += kBeatBytes;
        if (--burst.beats == 0) {
            if (burst.ready_at != kNever) burst.ready_at = stats.cycles + options_.latency;
            responses_.push_back(burst);
            writes_.pop_front();
        }
        return true;
    }

    bool sample_write_response() {
        if (response_offered_ && get(dut_.p_m__axi__bready)) {
            response_offered_ = false;
            responses_.pop_front();
        }
        return true;
    }

    void offer(HostChannel &channel) {
        if (channel.open() && !channel.offered) channel.offered = !stall();
    }

    void drive_host() {
        offer(host_aw_);
        offer(host_ar_);
        offer(host_w_);
        // What is not valid is something else than what was or will be taken.
        set(dut_.p_s__axi__awaddr, host_aw_.offered ? host_aw_.now().offset : not_offset(host_aw_));
        set(dut_.p_s__axi__araddr, host_ar_.offered ? host_ar_.now().offset : not_offset(host_ar_));
        set(dut_.p_s__axi__wdata, host_w_.offered ? host_w_.now().value : ~near(host_w_).value);
        set(dut_.p_s__axi__wstrb,
            host_w_.offered ? host_w_.now().strobe : ~near(host_w_).strobe & 0xF);
        set(dut_.p_s__axi__awvalid, host_aw_.offered);
        set(dut_.p_s__axi__wvalid, host_w_.offered);
        set(dut_.p_s__axi__bready, host_b_.open() && !stall());
        set(dut_.p_s__axi__arvalid, host_ar_.offered);
        set(dut_.p_s__axi__rready, host_r_.open() && !stall());
    }

    // The access that a channel has before it, or else the one behind it.
    static lutcore_access near(const HostChannel &channel) {
        if (!channel.list || channel.list->empty()) return lutcore_access{};
        return channel.open() ? channel.now() : channel.list->back();
    }

    static uint32_t not_offset(const HostChannel &channel) { return ~near(channel).offset & 0xFFF; }

    bool sample_host() {
        const bool b = get(dut_.p_s__axi__bvalid), r = get(dut_.p_s__axi__rvalid);
        if (b && host_b_.next >= std::min(host_aw_.next, host_w_.next))
            return fail("s_axi B", "a response that no write asked for");
        if (r && host_r_.next >= host_ar_.next)
            return fail("s_axi R", "data that no read asked for");

        const bool b_ready = dut_.p_s__axi__bready.data[0];
        const bool r_ready = dut_.p_s__axi__rready.data[0];
        const uint64_t b_payload = get(dut_.p_s__axi__bresp);
        const uint64_t r_payload = get(dut_.p_s__axi__rresp) << 32 | get(dut_.p_s__axi__rdata);
        if (!check_held(held_host_b_, "s_axi B", b, b_ready, b_payload)) return false;
        if (!check_held(held_host_r_, "s_axi R", r, r_ready, r_payload)) return false;

        if (b && b_ready) {
            host_b_.now().response = uint32_t(b_payload);
            host_b_.take();
        }
        if (r && r_ready) {
            host_r_.now().value = uint32_t(r_payload);
            host_r_.now().response = uint32_t(r_payload >> 32);
            host_r_.take();
        }
        if (host_aw_.offered && get(dut_.p_s__axi__awready)) host_aw_.take();
        if (host_w_.offered && get(dut_.p_s__axi__wready)) host_w_.take();
        if (host_ar_.offered && get(dut_.p_s__axi__arready)) host_ar_.take();
        return true;
    }

    void record_trace() {
#ifdef LUTCORE_TRACE
        using States = std::remove_reference_t<decltype(output(dut_.LUTCORE_TRACE))>;
        constexpr unsigned kUnits = States::bits / 2;
        const uint64_t now = get(dut_.LUTCORE_TRACE);
        if (tracing_ && now == trace_state_) return;
        for (unsigned unit = 0; unit < kUnits; ++unit) {
            const uint64_t state = now >> 2 * unit & 3;
            if (!tracing_ || state != (trace_state_ >> 2 * unit & 3))
                events.push_back(stats.cycles << 8 | unit << 2 | state);
        }
        trace_state_ = now;
        tracing_ = true;
#endif
    }
};

}  // namespace

#define LUTCORE_EXPORT extern "C" __attribute__((visibility("default")))

LUTCORE_EXPORT Simulation *lutcore_new(uint8_t *memory, const lutcore_options *options) {
    return new Simulation(memory, *options);
}

LUTCORE_EXPORT void lutcore_delete(Simulation *s) { delete s; }

LUTCORE_EXPORT int32_t lutcore_set_input(Simulation *s, const char *name, uint32_t value) {
    return s->set_input(name, value);
}

LUTCORE_EXPORT int32_t lutcore_reset(Simulation *s, uint64_t cycles) { return s->reset(cycles); }

LUTCORE_EXPORT int32_t lutcore_run(Simulation *s, uint64_t cycles, int32_t until_irq) {
    return s->run(cycles, until_irq != 0);
}

LUTCORE_EXPORT int32_t lutcore_access_csrs(Simulation *s, lutcore_access *writes,
                                           uint64_t write_count, lutcore_access *reads,
                                           uint64_t read_count, uint64_t max_cycles) {
    return s->access(writes, write_count, reads, read_count, max_cycles);
}

LUTCORE_EXPORT const lutcore_stats *lutcore_get_stats(const Simulation *s) { return &s->stats; }

LUTCORE_EXPORT const lutcore_violation *lutcore_get_violation(const Simulation *s) {
    return &s->violation;
}

LUTCORE_EXPORT const uint64_t *lutcore_get_events(const Simulation *s, uint64_t *count) {
    *count = s->events.size();
    return s->events.data();
}
