// Compares the templates of cxxrtl_wide.h with CXXRTL's own run-time operations, on random values.

#include "cxxrtl_wide.h"

#include <cstdio>
#include <cstdlib>
#include <random>

using namespace cxxrtl;

namespace {

std::mt19937 generator;
unsigned checks = 0, failures = 0;

void check(bool good, const char *what, size_t a, size_t b, size_t c) {
    ++checks;
    if (good) return;
    ++failures;
    std::printf("%s of %zu, %zu, %zu is wrong\n", what, a, b, c);
}

template <size_t Bits>
value<Bits> draw() {
    value<Bits> result;
    for (auto &chunk : result.data) chunk = generator();
    result.data[result.chunks - 1] &= result.msb_mask;
    return result;
}

template <size_t Bits>
bool bit(const value<Bits> &of, size_t at) { return of.data[at / 32] >> at % 32 & 1; }

template <size_t Bits, size_t Stop, size_t Start>
void test_slice() {
    value<Bits> whole = draw<Bits>();
    const value<Bits> before = whole;
    constexpr size_t width = Stop - Start + 1;
    const value<width> part = before.template slice<Stop, Start>().val(), other = draw<width>();
    bool good = (part.data[part.chunks - 1] & ~part.msb_mask) == 0;
    for (size_t n = 0; n < width; ++n) good &= bit(part, n) == bit(before, Start + n);
    check(good, "slice", Bits, Stop, Start);

    whole.template slice<Stop, Start>() = other;
    good = true;
    for (size_t n = 0; n < Bits; ++n)
        good &= bit(whole, n) ==
                (n < Start || n > Stop ? bit(before, n) : bit(other, n - Start));
    check(good, "assignment to slice", Bits, Stop, Start);
}

template <size_t A, size_t B, size_t C>
void test_concatenation() {
    const value<A> a = draw<A>();
    const value<B> b = draw<B>();
    const value<C> c = draw<C>();
    const value<A + B + C> left = a.concat(b).concat(c).val(), right = a.concat(b.concat(c)).val();
    bool good = left == right;
    for (size_t n = 0; n < A + B + C; ++n)
        good &= bit(left, n) == (n < C       ? bit(c, n)
                                 : n < B + C ? bit(b, n - C)
                                             : bit(a, n - B - C));
    check(good, "concatenation", A, B, C);

    value<A> to_a;
    value<B> to_b;
    value<C> to_c;
    to_a.concat(to_b).concat(to_c) = left;
    check(to_a == a && to_b == b && to_c == c, "assignment to concatenation", A, B, C);

    // A slice of a concatenation, to read and to write.
    constexpr size_t top = A + B + C - 1;
    check(a.concat(b).concat(c).template slice<top, 1>().val() ==
              left.template rtrunc<top>().template trunc<top>(),
          "slice of concatenation", A, B, C);
    to_a.concat(to_b).concat(to_c).template slice<top, top>() = value<1>{bit(a, A - 1) ? 0u : 1u};
    check(bit(to_a, A - 1) != bit(a, A - 1) && to_c == c, "assignment to its slice", A, B, C);
}

void test_update() {
    memory<70> words(4);
    const value<70> data = draw<70>(), mask = draw<70>(), none;
    wide::update(words, 1, data, none, 0);
    check(words.write_queue.empty(), "update of nothing", 0, 0, 0);
    wide::update(words, 2, data, mask, 0);
    observer observer;
    words.commit(observer);
    check(words[2] == data.bit_and(mask) && words[1] == none, "update", 0, 0, 0);
}

void test_all() {
    test_slice<33, 32, 32>();
    test_slice<33, 0, 0>();
    test_slice<64, 63, 0>();
    test_slice<64, 63, 32>();
    test_slice<64, 40, 20>();
    test_slice<65, 64, 1>();
    test_slice<70, 69, 33>();
    test_slice<96, 95, 64>();
    test_slice<100, 99, 31>();
    test_slice<1024, 605, 605>();
    test_slice<1600, 1599, 1575>();
    test_slice<1600, 800, 5>();
    test_concatenation<1, 1, 31>();
    test_concatenation<12, 13, 14>();
    test_concatenation<32, 32, 32>();
    test_concatenation<1, 64, 1>();
    test_concatenation<31, 1, 32>();
    test_concatenation<100, 33, 7>();
    test_concatenation<64, 64, 64>();
    test_concatenation<17, 15, 1>();
    test_update();
}

}  // namespace

int main(int, char **arguments) {
    generator.seed(unsigned(std::atoi(arguments[1])));
    for (int round = 0; round < 20; ++round) test_all();
    std::printf("%u of %u checks failed\n", failures, checks);
    return failures != 0;
}
