// Slices and concatenations of wide values in time proportional to their own width.
//
// CXXRTL's expression templates shift the whole value for every slice, and once per part for every
// concatenation, in loops that the compiler does not unroll. A LUT array takes single bits out of
// weight words of 1,024 bits and puts lanes together into words of 1,600, so that costs most of
// its simulation time. These partial specialisations of the same templates touch only the words
// that hold the bits in question. To be included before any use of the templates.

#ifndef LUTCORE_CXXRTL_WIDE_H
#define LUTCORE_CXXRTL_WIDE_H

#include <cxxrtl/cxxrtl.h>

#include <type_traits>

namespace cxxrtl {

namespace wide {

constexpr size_t kChunk = 8 * sizeof(chunk_t);

// Bits [start, start + width) of a value.
template <size_t Start, size_t Width, size_t Bits>
CXXRTL_ALWAYS_INLINE value<Width> extract(const value<Bits> &from) {
    constexpr size_t first = Start / kChunk, shift = Start % kChunk;
    value<Width> result;
#pragma GCC unroll 64
    for (size_t n = 0; n < result.chunks; ++n) {
        result.data[n] = from.data[first + n] >> shift;
        if (shift != 0 && first + n + 1 < from.chunks)
            result.data[n] |= from.data[first + n + 1] << ((kChunk - shift) % kChunk);
    }
    result.data[result.chunks - 1] &= result.msb_mask;
    return result;
}

// Replace bits [start, start + width), or with kOr add to bits that are zero.
template <size_t Start, bool kOr, size_t Width, size_t Bits>
CXXRTL_ALWAYS_INLINE void deposit(value<Bits> &to, const value<Width> &part) {
    constexpr size_t first = Start / kChunk, shift = Start % kChunk;
#pragma GCC unroll 64
    for (size_t n = 0; n < part.chunks; ++n) {
        const chunk_t mask = n + 1 < part.chunks ? ~chunk_t(0) : part.msb_mask;
        chunk_t &low = to.data[first + n];
        low = (kOr ? low : low & ~(mask << shift)) | part.data[n] << shift;
        const chunk_t high_mask = shift == 0 ? 0 : mask >> ((kChunk - shift) % kChunk);
        if (high_mask != 0) {
            chunk_t &high = to.data[first + n + 1];
            high = (kOr ? high : high & ~high_mask) |
                   part.data[n] >> ((kChunk - shift) % kChunk);
        }
    }
}

template <class T>
constexpr bool is_concat = false;
template <class T, class U>
constexpr bool is_concat<concat_expr<T, U>> = true;

// Put an expression into zero bits from `At` on; nested concatenations part by part.
template <size_t At, class T, size_t Bits>
CXXRTL_ALWAYS_INLINE void gather(value<Bits> &to, const T &expr) {
    if constexpr (is_concat<T>) {
        gather<At>(to, expr.ls_expr);
        gather<At + std::remove_reference_t<decltype(expr.ls_expr)>::bits>(to, expr.ms_expr);
    } else {
        deposit<At, true>(to, static_cast<const value<T::bits> &>(expr));
    }
}

// Queue a write, if it writes anything.
template <size_t Width>
CXXRTL_ALWAYS_INLINE void update(memory<Width> &to, size_t index, const value<Width> &data,
                                 const value<Width> &mask, int priority) {
    if (!mask.is_zero()) to.update(index, data, mask, priority);
}

}  // namespace wide

template <class T, size_t Stop, size_t Start>
    requires(T::bits > wide::kChunk)
struct slice_expr<T, Stop, Start> : public expr_base<slice_expr<T, Stop, Start>> {
    static constexpr size_t bits = Stop - Start + 1;

    T &expr;

    slice_expr(T &expr) : expr(expr) {}
    slice_expr(const slice_expr &) = delete;

    CXXRTL_ALWAYS_INLINE operator value<bits>() const {
        return wide::extract<Start, bits>(static_cast<const value<T::bits> &>(expr));
    }

    CXXRTL_ALWAYS_INLINE slice_expr &operator=(const value<bits> &rhs) {
        if constexpr (std::is_same_v<T, value<T::bits>>) {
            wide::deposit<Start, false>(expr, rhs);
        } else {
            value<T::bits> whole = static_cast<const value<T::bits> &>(expr);
            wide::deposit<Start, false>(whole, rhs);
            expr = whole;
        }
        return *this;
    }

    CXXRTL_ALWAYS_INLINE value<bits> val() const { return *this; }
};

template <class T, class U>
    requires(T::bits + U::bits > wide::kChunk)
struct concat_expr<T, U> : public expr_base<concat_expr<T, U>> {
    static constexpr size_t bits = T::bits + U::bits;

    T &ms_expr;
    U &ls_expr;

    concat_expr(T &ms_expr, U &ls_expr) : ms_expr(ms_expr), ls_expr(ls_expr) {}
    concat_expr(const concat_expr &) = delete;

    CXXRTL_ALWAYS_INLINE operator value<bits>() const {
        value<bits> result;
        wide::gather<0>(result, *this);
        return result;
    }

    CXXRTL_ALWAYS_INLINE concat_expr &operator=(const value<bits> &rhs) {
        ms_expr = wide::extract<U::bits, T::bits>(rhs);
        ls_expr = wide::extract<0, U::bits>(rhs);
        return *this;
    }

    CXXRTL_ALWAYS_INLINE value<bits> val() const { return *this; }
};

}  // namespace cxxrtl

#endif
