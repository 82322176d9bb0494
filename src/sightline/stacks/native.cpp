// One call works out the logits of a few new slots: embedding, every layer, final norm and head, in one parallel region.
//
//   tokens -> x;  each layer: norm -> q, k, v -> attention over what is kept -> + -> norm -> feed-forward -> +;  -> logits
//
// Of two stacks the decoder's layers look at a source too, after what is kept: its keys and values are made once a text,
// by the same function, from all slots of an encoder that see each other (`sightline_read`).
//
// Weights are packed once (`sightline_pack`): 16 outputs side by side, so that a product is a run over memory in order,
// with no sum across a register. A product of many rows keeps a tile of rows x outputs in registers and reads each
// weight once per tile. Weights are fp32, or bf16 (sums, norms, softmax and the residual stream are always fp32).
// Vectors are the compiler's own (16 floats), so the same text serves AVX2 and AVX-512; only products of bf16 are
// instructions by name, where the processor has them: of vectors, and of tiles (AMX) where there are many rows.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <omp.h>
#include <vector>
#if defined(__AVX512BF16__) && defined(__AVX512F__)
#include <immintrin.h>
#define DOT 1
#else
#define DOT 0
#endif
#if DOT && defined(__AMX_BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define TILES 1
#else
#define TILES 0
#endif

namespace {

constexpr int LANES = 16;
#if defined(__AVX512F__)
constexpr int ROWS = 8, BLOCKS = 3;  // 24 sums and 3 weights in 32 registers
#else
constexpr int ROWS = 5, BLOCKS = 1;  // a vector is two registers here, and there are 16
#endif

typedef float Floats __attribute__((vector_size(64)));
typedef float Loose __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint16_t Shorts __attribute__((vector_size(32)));
typedef uint16_t LooseShorts __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t LooseWords __attribute__((vector_size(64), aligned(4), may_alias));

#define INLINE inline __attribute__((always_inline))

INLINE Floats all(float value) { return Floats{} + value; }
INLINE Floats load(const float *from) { return *(const Loose *)from; }
INLINE Floats load(const uint16_t *from) {
    return (Floats)(__builtin_convertvector(*(const LooseShorts *)from, Words) << 16);
}
INLINE void store(float *to, Floats value) { *(Loose *)to = value; }
INLINE void store(uint16_t *to, Floats value) {  // to the nearest, ties to even
    Words bits = (Words)value;
    bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    *(LooseShorts *)to = __builtin_convertvector(bits, Shorts);
}
INLINE float one(const float *from) { return *from; }
INLINE float one(const uint16_t *from) {
    uint32_t bits = (uint32_t)*from << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
INLINE void put(float *to, float value) { *to = value; }
INLINE void put(uint16_t *to, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    *to = (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

INLINE int64_t up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// e^x: 2^n times a polynomial of degree 6 over the rest, |rest| <= ln 2 / 2; relative error below 2e-7.
INLINE Floats exponential(Floats x) {
    x = x < all(-87.0f) ? all(-87.0f) : x;
    x = x > all(88.0f) ? all(88.0f) : x;
    const Floats magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    Floats shifted = x * 1.44269504f + magic;
    Floats n = shifted - magic;
    Floats r = x - n * 0.693145752f;
    r = r - n * 1.42860677e-6f;
    Floats p = r * (1.0f / 720) + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    Ints power = ((Ints)shifted - (Ints)magic + 127) << 23;
    return p * (Floats)power;
}

enum Activation { GELU, GELU_TANH, RELU, RELU2, SILU };

INLINE Floats activated(Floats x, int64_t kind) {
    const Floats zero = {};
    switch (kind) {
    case RELU:
        return x > zero ? x : zero;
    case RELU2: {
        Floats positive = x > zero ? x : zero;
        return positive * positive;
    }
    case SILU:
        return x / (exponential(-x) + 1.0f);
    case GELU_TANH: {  // (1 + tanh y) / 2 = 1 / (1 + e^-2y)
        Floats y = x * 0.7978845608f * (x * x * 0.044715f + 1.0f);
        return x / (exponential(y * -2.0f) + 1.0f);
    }
    default: {  // erf by Abramowitz and Stegun, 7.1.26: absolute error below 2e-7
        Floats z = x * 0.70710678f;
        Floats size = z < zero ? -z : z;
        Floats t = 1.0f / (size * 0.3275911f + 1.0f);
        Floats p = t * 1.061405429f - 1.453152027f;
        p = p * t + 1.421413741f;
        p = p * t - 0.284496736f;
        p = p * t + 0.254829592f;
        Floats rest = p * t * exponential(-size * size);
        Floats whole = z < zero ? rest : 2.0f - rest;  // 1 + erf
        return x * 0.5f * whole;
    }
    }
}

// Sums of `R` rows and `N` blocks of 16 outputs over `depth` inputs. Weights of a block: [depth][16], or for bf16
// [depth / 2][16][2], two inputs side by side.
template <int R, int N>
__attribute__((noinline)) void tile(const float *w, int64_t depth, const float *x, int64_t stride, Floats *out) {
    constexpr int U = R * N >= 4 ? 1 : 4 / (R * N) + (4 % (R * N) > 0);
    Floats sums[U][R][N] = {};
    int64_t i = 0;
    for (; i + U <= depth; i += U)
#pragma GCC unroll 4
        for (int u = 0; u < U; u++) {
            Floats weight[N];
#pragma GCC unroll 4
            for (int n = 0; n < N; n++) weight[n] = load(w + (n * depth + i + u) * LANES);
            if (R == 1) __builtin_prefetch(w + (i + u) * LANES + 4096);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                Floats input = all(x[r * stride + i + u]);
#pragma GCC unroll 4
                for (int n = 0; n < N; n++) sums[u][r][n] += weight[n] * input;
            }
        }
    for (; i < depth; i++)
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) sums[0][r][n] += load(w + (n * depth + i) * LANES) * x[r * stride + i];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) {
            Floats sum = sums[0][r][n];
#pragma GCC unroll 4
            for (int u = 1; u < U; u++) sum += sums[u][r][n];
            out[r * N + n] = sum;
        }
}

#if DOT
typedef uint16_t HalfInput;

template <int R, int N>
__attribute__((noinline)) void tile(const uint16_t *w, int64_t depth, const uint16_t *x, int64_t stride, Floats *out) {
    constexpr int U = R * N >= 8 ? 1 : 8 / (R * N) + (8 % (R * N) > 0);
    const int64_t pairs = (depth + 1) / 2;
    __m512 sums[U][R][N];
    for (int u = 0; u < U; u++)
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) sums[u][r][n] = _mm512_setzero_ps();
    int64_t i = 0;
    for (; i + U <= pairs; i += U)
#pragma GCC unroll 8
        for (int u = 0; u < U; u++) {
            __m512bh weight[N];
#pragma GCC unroll 4
            for (int n = 0; n < N; n++)
                weight[n] = (__m512bh)_mm512_loadu_si512(w + (n * pairs + i + u) * 2 * LANES);
            if (R == 1) __builtin_prefetch(w + (i + u) * 2 * LANES + 8192);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                int32_t two;
                std::memcpy(&two, x + r * stride + 2 * (i + u), 4);
                __m512bh input = (__m512bh)_mm512_set1_epi32(two);
#pragma GCC unroll 4
                for (int n = 0; n < N; n++) sums[u][r][n] = _mm512_dpbf16_ps(sums[u][r][n], weight[n], input);
            }
        }
    for (; i < pairs; i++)
        for (int r = 0; r < R; r++) {
            int32_t two;
            std::memcpy(&two, x + r * stride + 2 * i, 4);
            for (int n = 0; n < N; n++)
                sums[0][r][n] = _mm512_dpbf16_ps(sums[0][r][n],
                                                 (__m512bh)_mm512_loadu_si512(w + (n * pairs + i) * 2 * LANES),
                                                 (__m512bh)_mm512_set1_epi32(two));
        }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) {
            Floats sum = (Floats)sums[0][r][n];
#pragma GCC unroll 8
            for (int u = 1; u < U; u++) sum += (Floats)sums[u][r][n];
            out[r * N + n] = sum;
        }
}
#else
typedef float HalfInput;

template <int R, int N>
__attribute__((noinline)) void tile(const uint16_t *w, int64_t depth, const float *x, int64_t stride, Floats *out) {
    const int64_t pairs = (depth + 1) / 2;
    Floats sums[R][N] = {};
    for (int64_t i = 0; i < pairs; i++) {
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) {
            Words two = *(const LooseWords *)(w + (n * pairs + i) * 2 * LANES);
            Floats first = (Floats)(two << 16), second = (Floats)(two & 0xffff0000u);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++)
                sums[r][n] += first * x[r * stride + 2 * i] + second * x[r * stride + 2 * i + 1];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) out[r * N + n] = sums[r][n];
}
#endif

template <class W, class X, int N>
void tiled(int rows, const W *w, int64_t depth, const X *x, int64_t stride, Floats *out) {
    switch (rows) {
    case 1: return tile<1, N>(w, depth, x, stride, out);
    case 2: return tile<2, N>(w, depth, x, stride, out);
    case 3: return tile<3, N>(w, depth, x, stride, out);
    case 4: return tile<4, N>(w, depth, x, stride, out);
    case 5: return tile<5, N>(w, depth, x, stride, out);
#if defined(__AVX512F__)
    case 6: return tile<6, N>(w, depth, x, stride, out);
    case 7: return tile<7, N>(w, depth, x, stride, out);
    case 8: return tile<8, N>(w, depth, x, stride, out);
#endif
    }
}

struct Share {  // of `count` things, those of one thread
    int64_t start, end;
    Share(int64_t count, int me, int team) : start(count * me / team), end(count * (me + 1) / team) {}
};

#if TILES
// A thread's tiles: 0 to 3 for sums, 4 and 5 for so many rows of inputs, 6 and 7 for two blocks of weights, which lie
// packed as the instruction reads them.
struct Palette {
    uint8_t number = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
    explicit Palette(int64_t count) {
        for (int i = 0; i < 8; i++) bytes[i] = 64, rows[i] = (uint8_t)(i < 6 ? count : 16);
    }
};

bool tiles_allowed() {  // by the kernel, which a process asks once
    constexpr long ASK = 0x1023, TILE_DATA = 18;
    static const bool allowed = syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
    return allowed;
}

// Sums of `G` groups of rows and `N` blocks of 16 outputs, to [G][N] tiles of 16 x 16.
template <int G, int N>
void multiplied(const uint16_t *w, int64_t block, int64_t depth, const uint16_t *x, const uint16_t *more, int64_t stride,
                float *out) {
    _tile_zero(0);
    if constexpr (N == 2) _tile_zero(1);
    if constexpr (G == 2) _tile_zero(2);
    if constexpr (G == 2 && N == 2) _tile_zero(3);
    for (int64_t i = 0; i < depth; i += 2 * LANES) {
        _tile_loadd(6, w + i * LANES, 64);
        if constexpr (N == 2) _tile_loadd(7, w + block + i * LANES, 64);
        _tile_loadd(4, x + i, stride * 2);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (N == 2) _tile_dpbf16ps(1, 4, 7);
        if constexpr (G == 2) {
            _tile_loadd(5, more + i, stride * 2);
            _tile_dpbf16ps(2, 5, 6);
            if constexpr (N == 2) _tile_dpbf16ps(3, 5, 7);
        }
    }
    constexpr int64_t TILE = 256;
    _tile_stored(0, out, 64);
    if constexpr (N == 2) _tile_stored(1, out + TILE, 64);
    if constexpr (G == 2) _tile_stored(2, out + N * TILE, 64);
    if constexpr (G == 2 && N == 2) _tile_stored(3, out + 3 * TILE, 64);
}

// The same as `product` below, for more rows than it keeps in registers. Groups of rows are of one size: the last
// begins where the one before has not ended, and leaves those rows to it.
template <class Sink>
void product_of_tiles(const uint16_t *w, int64_t depth, int64_t outputs, const uint16_t *x, int64_t stride, int64_t rows,
                      int me, int team, Sink sink) {
    const Share mine((outputs + LANES - 1) / LANES, me, team);
    const int64_t groups = (rows + 15) / 16, size = (rows + groups - 1) / groups, step = depth * LANES;
    const Palette palette(size);
    _tile_loadconfig(&palette);
    alignas(64) float out[4 * 256];
    for (int64_t block = mine.start; block < mine.end; block += 2) {
        const int64_t n = std::min<int64_t>(2, mine.end - block);
        for (int64_t group = 0; group < groups; group += 2) {
            const int64_t g = std::min<int64_t>(2, groups - group);
            int64_t from[2];
            for (int64_t i = 0; i < 2; i++) from[i] = std::min((group + i) * size, rows - size);
            const uint16_t *weights = w + block * step, *one = x + from[0] * stride, *two = x + from[1] * stride;
            if (g == 2 && n == 2) multiplied<2, 2>(weights, step, depth, one, two, stride, out);
            else if (g == 2) multiplied<2, 1>(weights, step, depth, one, two, stride, out);
            else if (n == 2) multiplied<1, 2>(weights, step, depth, one, two, stride, out);
            else multiplied<1, 1>(weights, step, depth, one, two, stride, out);
            for (int64_t i = 0; i < g; i++)
                for (int64_t row = (group + i) * size; row < from[i] + size; row++)
                    for (int64_t j = 0; j < n; j++)
                        sink(row, (block + j) * LANES, load(out + (i * n + j) * 256 + (row - from[i]) * LANES));
        }
    }
    _tile_release();
}
#endif

// rows x outputs of a packed matrix: sink(row, output, 16 sums) for this thread's share of the outputs.
template <class W, class X, class Sink>
void product(const void *packed, int64_t depth, int64_t outputs, const X *x, int64_t stride, int64_t rows, int me,
             int team, Sink sink) {
    const W *w = (const W *)packed;
#if TILES
    if constexpr (sizeof(X) == 2) {
        if (rows > ROWS && depth % (2 * LANES) == 0 && tiles_allowed())
            return product_of_tiles(w, depth, outputs, x, stride, rows, me, team, sink);
    }
#endif
    const int64_t step = (sizeof(W) == 2 ? up(depth, 2) : depth) * LANES;
    const Share mine((outputs + LANES - 1) / LANES, me, team);
    const int64_t tiles = (rows + ROWS - 1) / ROWS;
    const int wide = rows == 1 ? 1 : BLOCKS;  // one row: one run over memory
    alignas(64) Floats out[ROWS * BLOCKS];
    for (int64_t block = mine.start; block < mine.end; block += wide) {
        const int n = (int)std::min<int64_t>(wide, mine.end - block);
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t row = rows * t / tiles;
            const int r = (int)(rows * (t + 1) / tiles - row);
            const W *from = w + block * step;
            const X *input = x + row * stride;
            if (n == 1) tiled<W, X, 1>(r, from, depth, input, stride, out);
#if defined(__AVX512F__)
            else if (n == 2) tiled<W, X, 2>(r, from, depth, input, stride, out);
            else tiled<W, X, 3>(r, from, depth, input, stride, out);
#endif
            for (int i = 0; i < r; i++)
                for (int j = 0; j < n; j++) sink(row + i, (block + j) * LANES, out[i * n + j]);
        }
    }
}

}  // namespace

extern "C" {

struct Normed {  // a null gain or bias is none
    int64_t there;
    const float *gain, *bias;
};

struct Matrix {
    const void *packed;
    const float *bias;  // padded to 16 outputs, or null
};

struct Layer {
    Normed attention, queries, keys, feed, cross, cross_queries, cross_keys;
    Matrix qkv, out, up, gate, down, cross_q, cross_kv, cross_out;  // across, where there is another stack
};

struct Plan {
    int64_t layers, width, heads, shared, head, hidden, vocabulary, context;
    int64_t half, rms, rope, parallel, activation, tables, barred_count;
    double eps, scale;
    const void *embedding, *places[2], *segments, *blank;  // as the model holds them
    const float *frequencies;
    const int64_t *barred;
    const Layer *layer;
    Normed norm_embedding, norm_final;
    Matrix table;
};

struct Source {  // what the layers look at beside, laid out as a step's keys and values
    int64_t blocks, seat_count;
    const int64_t *seats, *firsts, *ends;  // [lines] where a line lies, and which of its slots are seen
    void *keys, *values;
};

struct Step {
    int64_t lines, slots, held, blocks, asked, threads;
    const int64_t *tokens, *positions, *segments;  // [lines, slots] (positions: [lines, slots, tables])
    const int64_t *first;                          // [lines] padding slots before the text
    const int64_t *seats;                          // [lines] where a line lies in keys and values
    const int64_t *rows;                           // [asked] line * slots + slot of the answers wanted
    int64_t seat_count;
    void *keys;    // [layers, seats, shared, blocks, head, 16]
    void *values;  // [layers, seats, shared, blocks * 16, head padded to 16]
    float *logits; // [asked, vocabulary]
    char *scratch;
    int64_t whole;  // nothing is held, and each slot of a line sees its first `counts`; else those up to itself
    const int64_t *counts;        // [lines], where whole; keys and values are then of one layer
    Source source;
};

struct Run {  // steps of a slot a line, each of which shows the likeliest id of the one before
    int64_t rounds, stop_count;
    double seconds;  // after which it returns with what it has
    const int64_t *stops;
    const uint8_t *barred;  // [vocabulary] ids that are not chosen
    int64_t *tokens;        // [rounds, lines]: chosen; what it finds there stays where a line has ended before
    double *logprobs;       // [rounds, lines]
};

}  // extern "C"

namespace {

template <class X> void normed(const float *x, int64_t width, const Normed &norm, int64_t rms, float eps, X *to) {
    if (!norm.there) {
        for (int64_t i = 0; i < width; i++) put(to + i, x[i]);
        return;
    }
    float mean = 0, square = 0;
    if (!rms) {
#pragma omp simd reduction(+ : mean)
        for (int64_t i = 0; i < width; i++) mean += x[i];
        mean /= (float)width;
    }
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < width; i++) square += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / std::sqrt(square / (float)width + eps);
    if (norm.gain && norm.bias)
        for (int64_t i = 0; i < width; i++) put(to + i, (x[i] - mean) * scale * norm.gain[i] + norm.bias[i]);
    else if (norm.gain)
        for (int64_t i = 0; i < width; i++) put(to + i, (x[i] - mean) * scale * norm.gain[i]);
    else
        for (int64_t i = 0; i < width; i++) put(to + i, (x[i] - mean) * scale);
}

// Halves paired, as in LLaMA.
INLINE void turned(float *x, int64_t head, const float *cosine, const float *sine) {
    const int64_t half = head / 2;
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
    }
}

// `Q` sums of the same values, by shares of their own [Q][stride], N registers of each at a time.
template <int Q, int N, class W>
INLINE void gathered(const W *values, int64_t width, const float *share, int64_t stride, int64_t from, int64_t to,
                     const float *scale, float *const *out, int64_t part) {
    constexpr int U = Q == 1 ? 2 : 1;
    Floats sums[U][Q][N] = {};
    int64_t t = from;
    for (; t + U <= to; t += U)
#pragma GCC unroll 2
        for (int u = 0; u < U; u++)
#pragma GCC unroll 4
            for (int n = 0; n < N; n++) {
                const Floats value = load(values + (t + u) * width + part + n * LANES);
#pragma GCC unroll 4
                for (int q = 0; q < Q; q++) sums[u][q][n] += value * share[q * stride + t + u];
            }
    for (; t < to; t++)
        for (int n = 0; n < N; n++)
            for (int q = 0; q < Q; q++)
                sums[0][q][n] += load(values + t * width + part + n * LANES) * share[q * stride + t];
#pragma GCC unroll 4
    for (int q = 0; q < Q; q++)
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) {
            for (int u = 1; u < U; u++) sums[0][q][n] += sums[u][q][n];
            store(out[q] + part + n * LANES, sums[0][q][n] * scale[q]);
        }
}

constexpr int64_t WIDEST = 256;  // of a head

constexpr int QUERIES = 4;  // that read a key together
#if defined(__AVX512F__)
constexpr int WIDE = 4;
#else
constexpr int WIDE = 1;
#endif

// `Q` queries over the kept slots [first, end): where they lie, room for their scores [Q][stride], where results go.
template <int Q, class W, class X>
void looked(const Plan &plan, const float *const *q, const W *keys, const W *values, int64_t first, int64_t end,
            float *scores, int64_t stride, X *const *out) {
    constexpr int U = Q == 1 ? 4 : 2, N = Q == 1 ? 4 : WIDE;
    const int64_t head = plan.head, wide = up(head, LANES), from = first / LANES, to = (end + LANES - 1) / LANES;
    Floats most[Q];
    for (int j = 0; j < Q; j++) most[j] = all(-INFINITY);
    for (int64_t block = from; block < to; block++) {
        const W *kept = keys + block * head * LANES;
        Floats sums[U][Q] = {};
        int64_t i = 0;
        for (; i + U <= head; i += U)
#pragma GCC unroll 4
            for (int u = 0; u < U; u++) {
                const Floats key = load(kept + (i + u) * LANES);
#pragma GCC unroll 4
                for (int j = 0; j < Q; j++) sums[u][j] += key * q[j][i + u];
            }
        for (; i < head; i++)
            for (int j = 0; j < Q; j++) sums[0][j] += load(kept + i * LANES) * q[j][i];
        const Ints slots = Ints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + (int)(block * LANES);
        const bool edge = block * LANES < first || block * LANES + LANES > end;
#pragma GCC unroll 4
        for (int j = 0; j < Q; j++) {
            Floats score = sums[0][j];
            for (int u = 1; u < U; u++) score += sums[u][j];
            score *= (float)plan.scale;
            if (edge) {
                score = slots < (Ints{} + (int)first) ? all(-INFINITY) : score;
                score = slots >= (Ints{} + (int)end) ? all(-INFINITY) : score;
            }
            store(scores + j * stride + block * LANES, score);
            most[j] = score > most[j] ? score : most[j];
        }
    }
    float scale[Q], *to_row[Q];
    alignas(64) float seen[Q][WIDEST];
    for (int j = 0; j < Q; j++) {
        float top = -INFINITY;
        for (int i = 0; i < LANES; i++) top = std::max(top, most[j][i]);
        Floats sums = {};
        for (int64_t block = from; block < to; block++) {  // what is hidden comes out at e^-87, and is not read
            Floats share = exponential(load(scores + j * stride + block * LANES) - top);
            store(scores + j * stride + block * LANES, share);
            if (block * LANES < first || block * LANES + LANES > end) {
                for (int64_t i = 0; i < LANES; i++)
                    if (block * LANES + i < first || block * LANES + i >= end) share[i] = 0;
            }
            sums += share;
        }
        float total = 0;
        for (int i = 0; i < LANES; i++) total += sums[i];
        scale[j] = 1.0f / total, to_row[j] = seen[j];
    }
    int64_t part = 0;
    for (; part + N * LANES <= wide; part += N * LANES)
        gathered<Q, N>(values, wide, scores, stride, first, end, scale, to_row, part);
    for (; part < wide; part += LANES) gathered<Q, 1>(values, wide, scores, stride, first, end, scale, to_row, part);
    for (int j = 0; j < Q; j++)
        for (int64_t i = 0; i < head; i++) put(out[j] + i, seen[j][i]);
}

// The same of `slots` slots, `group` heads each, which all see these slots.
template <class W, class X>
void looked_all(const Plan &plan, float *q, int64_t stride, int64_t slots, int64_t group, const W *keys, const W *values,
                int64_t first, int64_t end, float *scores, int64_t scores_width, X *out, int64_t out_stride) {
    const int64_t head = plan.head, count = slots * group;
    const float *queries[QUERIES];
    X *to[QUERIES];
    for (int64_t at = 0; at < count;) {
        const int64_t some = std::min<int64_t>(QUERIES, count - at);
        for (int64_t j = 0; j < some; j++) {
            const int64_t slot = (at + j) / group, g = (at + j) % group;
            queries[j] = q + slot * stride + g * head, to[j] = out + slot * out_stride + g * head;
        }
        if (first >= end) {  // nothing to see
            for (int64_t j = 0; j < some; j++)
                for (int64_t i = 0; i < head; i++) put(to[j] + i, 0.0f);
            at += some;
        } else if (some == QUERIES) {
            looked<QUERIES>(plan, queries, keys, values, first, end, scores, scores_width, to);
            at += some;
        } else {
            looked<1>(plan, queries, keys, values, first, end, scores, scores_width, to);
            at++;
        }
    }
}

// Keep one slot's key and value of a head, those of each slot in their place.
template <class W> INLINE void kept(W *keys, W *values, int64_t at, int64_t head, const float *k, const float *v) {
    const int64_t wide = up(head, LANES);
    W *key = keys + (at / LANES) * head * LANES + at % LANES;
    for (int64_t i = 0; i < head; i++) put(key + i * LANES, k[i]);
    W *value = values + at * wide;
    for (int64_t i = 0; i < head; i++) put(value + i, v[i]);
    for (int64_t i = head; i < wide; i++) put(value + i, 0.0f);
}

// The new slots of one line and one key-value head: keep their keys and values, then look at all kept so far.
template <class W, class X>
void attended(const Plan &plan, const Step &step, const Layer &layer, int64_t number, int64_t line, int64_t shared,
              float *qkv, int64_t stride, const float *turns, float *scores, int64_t scores_width, X *out,
              int64_t out_stride) {
    const int64_t head = plan.head, wide = up(head, LANES), group = plan.heads / plan.shared;
    const int64_t at = ((step.whole ? 0 : number) * step.seat_count + step.seats[line]) * plan.shared + shared;
    W *keys = (W *)step.keys + at * step.blocks * head * LANES;
    W *values = (W *)step.values + at * step.blocks * LANES * wide;
    for (int64_t slot = 0; slot < step.slots; slot++) {
        const int64_t row = line * step.slots + slot;
        float *k = qkv + row * stride + (plan.heads + shared) * head;
        const float *v = qkv + row * stride + (plan.heads + plan.shared + shared) * head;
        const float *cosine = turns + row * head, *sine = cosine + head / 2;
        if (layer.keys.there) normed(k, head, layer.keys, plan.rms, (float)plan.eps, k);
        if (plan.rope) turned(k, head, cosine, sine);
        kept(keys, values, step.held + slot, head, k, v);
        float *q = qkv + row * stride + shared * group * head;
        for (int64_t g = 0; g < group; g++, q += head) {
            if (layer.queries.there) normed(q, head, layer.queries, plan.rms, (float)plan.eps, q);
            if (plan.rope) turned(q, head, cosine, sine);
        }
    }
    float *queries = qkv + line * step.slots * stride + shared * group * head;
    X *to = out + line * step.slots * out_stride + shared * group * head;
    if (step.whole)
        looked_all(plan, queries, stride, step.slots, group, keys, values, 0, step.counts[line], scores, scores_width, to,
                   out_stride);
    for (int64_t slot = 0; slot < (step.whole ? 0 : step.slots); slot++)
        looked_all(plan, queries + slot * stride, stride, 1, group, keys, values, step.first[line], step.held + slot + 1,
                   scores, scores_width, to + slot * out_stride, out_stride);
}

// The same across: to the source, of which every slot of the line sees all.
template <class W, class X>
void crossed(const Plan &plan, const Step &step, const Layer &layer, int64_t number, int64_t line, int64_t shared,
             float *queries, int64_t stride, float *scores, int64_t scores_width, X *out, int64_t out_stride) {
    const Source &source = step.source;
    const int64_t head = plan.head, wide = up(head, LANES), group = plan.heads / plan.shared;
    const int64_t at = (number * source.seat_count + source.seats[line]) * plan.shared + shared;
    const W *keys = (const W *)source.keys + at * source.blocks * head * LANES;
    const W *values = (const W *)source.values + at * source.blocks * LANES * wide;
    float *q = queries + line * step.slots * stride + shared * group * head;
    for (int64_t slot = 0; slot < step.slots && layer.cross_queries.there; slot++)
        for (int64_t g = 0; g < group; g++)
            normed(q + slot * stride + g * head, head, layer.cross_queries, plan.rms, (float)plan.eps,
                   q + slot * stride + g * head);
    looked_all(plan, q, stride, step.slots, group, keys, values, source.firsts[line], source.ends[line], scores,
               scores_width, out + line * step.slots * out_stride + shared * group * head, out_stride);
}

struct Room {  // scratch memory, in bytes from its start
    int64_t x, normed, qkv, seen, hidden, turns, scores, end;
    int64_t width, qkv_width, seen_width, hidden_width, scores_width;
    Room(const Plan &plan, const Step &step, int64_t input) {
        const int64_t rows = step.lines * step.slots;
        int64_t at = 0;
        auto take = [&](int64_t bytes) {
            const int64_t start = at;
            at += up(bytes, 64);
            return start;
        };
        width = up(plan.width, 32);
        qkv_width = up((plan.heads + 2 * plan.shared) * plan.head, 32);
        seen_width = up(plan.heads * plan.head, 32);
        hidden_width = up(plan.hidden, 32);
        scores_width = std::max(step.blocks, step.source.blocks) * LANES;
        x = take(rows * width * 4);
        normed = take(rows * width * input * step.threads);
        qkv = take(rows * qkv_width * 4);
        seen = take(rows * seen_width * input);
        hidden = take(rows * hidden_width * input);
        turns = take(rows * plan.head * 4);
        scores = take(step.threads * QUERIES * scores_width * 4);
        end = at;
    }
};

template <class W> void embedded(const Plan &plan, const Step &step, int64_t row, float *x) {
    const int64_t width = plan.width, token = step.tokens[row];
    const W *from = token >= 0 ? (const W *)plan.embedding + token * width : (const W *)plan.blank;
    for (int64_t i = 0; i < width; i++) x[i] = from ? one(from + i) : 0.0f;
    for (int64_t table = 0; table < plan.tables; table++) {
        const W *place = (const W *)plan.places[table] + step.positions[row * plan.tables + table] * width;
        for (int64_t i = 0; i < width; i++) x[i] += one(place + i);
    }
    if (plan.segments) {
        const W *segment = (const W *)plan.segments + step.segments[row] * width;
        for (int64_t i = 0; i < width; i++) x[i] += one(segment + i);
    }
    if (plan.norm_embedding.there) normed(x, width, plan.norm_embedding, plan.rms, (float)plan.eps, x);
}

// Through all layers; then `end`, in the same parallel region, makes of the states what is wanted.
template <class W, class X, class End> void passed(const Plan &plan, const Step &step, End end) {
    const Room room(plan, step, sizeof(X));
    const int64_t rows = step.lines * step.slots;
    const float eps = (float)plan.eps;
    float *x = (float *)(step.scratch + room.x), *qkv = (float *)(step.scratch + room.qkv);
    float *turns = (float *)(step.scratch + room.turns);
    X *seen = (X *)(step.scratch + room.seen), *hidden = (X *)(step.scratch + room.hidden);
    const int64_t stream = room.width, feed = room.hidden_width, wide = room.qkv_width, attended_width = room.seen_width;
#pragma omp parallel num_threads((int)step.threads)
    {
        const int me = omp_get_thread_num(), team = omp_get_num_threads();
        const bool alone = rows <= 2;  // few rows: each thread norms them for itself, and nobody waits
        X *normal = (X *)(step.scratch + room.normed) + (alone ? me * rows * stream : 0);
        float *scores = (float *)(step.scratch + room.scores) + me * QUERIES * room.scores_width;
        const Share mine(rows, me, team);
        const Share norms = alone ? Share(rows, 0, 1) : mine;
        for (int64_t row = mine.start; row < mine.end; row++) {
            embedded<W>(plan, step, row, x + row * stream);
            for (int64_t i = 0; plan.rope && i < plan.head / 2; i++) {
                const int64_t dimension = i / (plan.head / 2 / plan.rope);
                const float angle = (float)step.positions[row * plan.rope + dimension] * plan.frequencies[i];
                turns[row * plan.head + i] = std::cos(angle);
                turns[row * plan.head + plan.head / 2 + i] = std::sin(angle);
            }
        }
        for (int64_t row = norms.start; row < norms.end; row++)  // an input of odd width is read one further
            for (int64_t i = plan.width; i < stream; i++) put(normal + row * stream + i, 0.0f);
        for (int64_t row = mine.start; row < mine.end; row++)
            for (int64_t i = plan.heads * plan.head; i < attended_width; i++) put(seen + row * attended_width + i, 0.0f);
        const auto prepare = [&](const Normed &norm) {
            for (int64_t row = norms.start; row < norms.end; row++)
                normed(x + row * stream, plan.width, norm, plan.rms, eps, normal + row * stream);
            if (!alone) {
#pragma omp barrier
            }
        };
        const auto adding = [&](const Matrix &matrix) {
            return [&matrix, x, stream](int64_t row, int64_t output, Floats sum) {
                float *to = x + row * stream + output;
                if (matrix.bias) sum += load(matrix.bias + output);
                store(to, load(to) + sum);
            };
        };
#pragma omp barrier
        for (int64_t number = 0; number < plan.layers; number++) {
            const Layer &layer = plan.layer[number];
            prepare(layer.attention);
            product<W>(layer.qkv.packed, plan.width, (plan.heads + 2 * plan.shared) * plan.head, normal, stream, rows, me,
                       team, [&](int64_t row, int64_t output, Floats sum) {
                           if (layer.qkv.bias) sum += load(layer.qkv.bias + output);
                           store(qkv + row * wide + output, sum);
                       });
#pragma omp barrier
            const Share pairs(step.lines * plan.shared, me, team);
            for (int64_t pair = pairs.start; pair < pairs.end; pair++)
                attended<W>(plan, step, layer, number, pair / plan.shared, pair % plan.shared, qkv, wide, turns, scores,
                            room.scores_width, seen, attended_width);
#pragma omp barrier
            product<W>(layer.out.packed, plan.heads * plan.head, plan.width, seen, attended_width, rows, me, team,
                       adding(layer.out));
            if (layer.cross_q.packed) {
#pragma omp barrier
                prepare(layer.cross);
                product<W>(layer.cross_q.packed, plan.width, plan.heads * plan.head, normal, stream, rows, me, team,
                           [&](int64_t row, int64_t output, Floats sum) {
                               if (layer.cross_q.bias) sum += load(layer.cross_q.bias + output);
                               store(qkv + row * wide + output, sum);
                           });
#pragma omp barrier
                for (int64_t pair = pairs.start; pair < pairs.end; pair++)
                    crossed<W>(plan, step, layer, number, pair / plan.shared, pair % plan.shared, qkv, wide, scores,
                               room.scores_width, seen, attended_width);
#pragma omp barrier
                product<W>(layer.cross_out.packed, plan.heads * plan.head, plan.width, seen, attended_width, rows, me,
                           team, adding(layer.cross_out));
            }
            if (!plan.parallel) {
#pragma omp barrier
                prepare(layer.feed);
            }
            product<W>(layer.up.packed, plan.width, plan.hidden, normal, stream, rows, me, team,
                       [&](int64_t row, int64_t output, Floats sum) {
                           if (layer.up.bias) sum += load(layer.up.bias + output);
                           if (!layer.gate.packed) sum = activated(sum, plan.activation);
                           store(hidden + row * feed + output, sum);
                       });
            if (layer.gate.packed)  // the same thread has the same outputs
                product<W>(layer.gate.packed, plan.width, plan.hidden, normal, stream, rows, me, team,
                           [&](int64_t row, int64_t output, Floats sum) {
                               X *to = hidden + row * feed + output;
                               if (layer.gate.bias) sum += load(layer.gate.bias + output);
                               store(to, load(to) * activated(sum, plan.activation));
                           });
#pragma omp barrier
            product<W>(layer.down.packed, plan.hidden, plan.width, hidden, feed, rows, me, team, adding(layer.down));
#pragma omp barrier
        }
        const Share asked = alone ? Share(step.asked, 0, 1) : Share(step.asked, me, team);
        for (int64_t at = asked.start; at < asked.end; at++)
            normed(x + step.rows[at] * stream, plan.width, plan.norm_final, plan.rms, eps, normal + at * stream);
        if (!alone) {
#pragma omp barrier
        }
        end(normal, stream, qkv, wide, me, team);
    }
}

template <class W, class X> void stepped(const Plan &plan, const Step &step) {
    passed<W, X>(plan, step, [&](const X *states, int64_t stride, float *, int64_t, int me, int team) {
        product<W>(plan.table.packed, plan.width, plan.vocabulary, states, stride, step.asked, me, team,
                   [&](int64_t row, int64_t output, Floats sum) {
                       if (plan.table.bias) sum += load(plan.table.bias + output);
                       float *to = step.logits + row * plan.vocabulary + output;
                       if (output + LANES <= plan.vocabulary)
                           store(to, sum);
                       else
                           for (int64_t i = 0; output + i < plan.vocabulary; i++) to[i] = sum[i];
                   });
    });
    for (int64_t at = 0; at < step.asked; at++)
        for (int64_t i = 0; i < plan.barred_count; i++) step.logits[at * plan.vocabulary + plan.barred[i]] = -INFINITY;
}

// An encoder's states to `step.logits`, and as the layers of a decoder look at them, to `step.source`.
template <class W, class X> void read(const Plan &plan, const Plan &decoder, const Step &step) {
    const int64_t head = plan.head, shared = plan.shared, lines = step.lines, layer_size = step.source.seat_count * shared;
    passed<W, X>(plan, step, [&](const X *states, int64_t stride, float *both, int64_t wide, int me, int team) {
        const Share mine(step.asked, me, team);
        for (int64_t row = mine.start; row < mine.end; row++)
            for (int64_t i = 0; i < plan.width; i++) step.logits[row * plan.width + i] = one(states + row * stride + i);
        for (int64_t number = 0; number < decoder.layers; number++) {
            const Layer &layer = decoder.layer[number];
            product<W>(layer.cross_kv.packed, plan.width, 2 * shared * head, states, stride, step.asked, me, team,
                       [&](int64_t row, int64_t output, Floats sum) {
                           if (layer.cross_kv.bias) sum += load(layer.cross_kv.bias + output);
                           store(both + row * wide + output, sum);
                       });
#pragma omp barrier
            const Share pairs(lines * shared, me, team);
            for (int64_t pair = pairs.start; pair < pairs.end; pair++) {
                const int64_t line = pair / shared, which = pair % shared, at = number * layer_size + pair;
                W *keys = (W *)step.source.keys + at * step.source.blocks * head * LANES;
                W *values = (W *)step.source.values + at * step.source.blocks * LANES * up(head, LANES);
                for (int64_t slot = 0; slot < step.slots; slot++) {
                    float *k = both + (line * step.slots + slot) * wide + which * head;
                    const float *v = k + shared * head;
                    if (layer.cross_keys.there) normed(k, head, layer.cross_keys, plan.rms, (float)plan.eps, k);
                    kept(keys, values, slot, head, k, v);
                }
            }
#pragma omp barrier
        }
    });
}

// The likeliest id of a row of logits that is not barred, and its log p by the logits as they are.
double chosen(const float *logits, int64_t count, const uint8_t *barred, int64_t *token) {
    float top = -INFINITY, best = -INFINITY;
    *token = 0;
    for (int64_t i = 0; i < count; i++) {
        top = std::max(top, logits[i]);
        if (logits[i] > best && !barred[i]) best = logits[i], *token = i;
    }
    double total = 0;
    int64_t i = 0;
    Floats sums = {};
    for (; i + LANES <= count; i += LANES) {
        const Floats x = load(logits + i) - top;
        sums += x < all(-87.0f) ? Floats{} : exponential(x);
    }
    for (int j = 0; j < LANES; j++) total += sums[j];
    for (; i < count; i++) total += std::exp((double)logits[i] - top);
    return (double)best - top - std::log(total);
}

template <class W> void packed(const W *from, W *to, int64_t outputs, int64_t depth, int threads) {
    constexpr int64_t pair = sizeof(W) == 2 ? 2 : 1;
    const int64_t blocks = (outputs + LANES - 1) / LANES, inputs = up(depth, pair);
#pragma omp parallel for num_threads(threads)
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t lane = 0; lane < LANES; lane++) {
            const int64_t output = block * LANES + lane;
            for (int64_t i = 0; i < inputs; i++)
                to[(block * inputs + i / pair * pair) * LANES + lane * pair + i % pair] =
                    output < outputs && i < depth ? from[output * depth + i] : (W)0;
        }
}

}  // namespace

extern "C" {

// Bytes of scratch memory that a step needs.
int64_t sightline_room(const Plan *plan, const Step *step) { return Room(*plan, *step, 4).end; }

void sightline_step(const Plan *plan, const Step *step) {
    if (plan->half)
        stepped<uint16_t, HalfInput>(*plan, *step);
    else
        stepped<float, float>(*plan, *step);
}

// The source of a text: `step` holds all slots of the encoder, and where the decoder's keys and values go.
void sightline_read(const Plan *plan, const Plan *decoder, const Step *step) {
    if (plan->half)
        read<uint16_t, HalfInput>(*plan, *decoder, *step);
    else
        read<float, float>(*plan, *decoder, *step);
}

// Steps one after the other; returns how many. `step` has the tokens, positions and segments of all [rounds, lines], of
// which only the first tokens are read; lines leave where they write a stop mark, and it ends where none is left.
int64_t sightline_run(const Plan *plan, const Step *step, const Run *run) {
    const int64_t lines = step->lines, dimensions = std::max<int64_t>(1, std::max(plan->tables, plan->rope));
    std::vector<int64_t> left(lines), tokens(step->tokens, step->tokens + lines), rows(lines);
    std::vector<int64_t> positions(lines * dimensions), segments(lines), first(lines), seats(lines), sources(lines),
        firsts(lines), ends(lines);
    for (int64_t i = 0; i < lines; i++) left[i] = rows[i] = i;
    Step now = *step;
    now.tokens = tokens.data(), now.positions = positions.data(), now.segments = segments.data();
    now.first = first.data(), now.seats = seats.data(), now.rows = rows.data(), now.slots = 1;
    now.source.seats = sources.data(), now.source.firsts = firsts.data(), now.source.ends = ends.data();
    const double start = omp_get_wtime();
    int64_t round = 0;
    for (; round < run->rounds && !left.empty() && (!round || omp_get_wtime() - start < run->seconds); round++) {
        now.lines = now.asked = (int64_t)left.size(), now.held = step->held + round;
        for (int64_t i = 0; i < now.lines; i++) {
            const int64_t line = left[i], at = round * lines + line;
            for (int64_t d = 0; d < dimensions; d++)
                positions[i * dimensions + d] = step->positions[at * dimensions + d];
            segments[i] = step->segments[at], first[i] = step->first[line], seats[i] = step->seats[line];
            if (!step->source.blocks) continue;
            sources[i] = step->source.seats[line];
            firsts[i] = step->source.firsts[line], ends[i] = step->source.ends[line];
        }
        sightline_step(plan, &now);
        std::vector<int64_t> stay;
        for (int64_t i = 0; i < now.lines; i++) {
            int64_t token;
            const int64_t line = left[i], at = round * lines + line;
            run->logprobs[at] = chosen(now.logits + i * plan->vocabulary, plan->vocabulary, run->barred, &token);
            run->tokens[at] = token;
            if (std::find(run->stops, run->stops + run->stop_count, token) != run->stops + run->stop_count) continue;
            tokens[stay.size()] = token;
            stay.push_back(line);
        }
        left = stay;
    }
    return round;
}

// A matrix [outputs, depth] as products read it; `size` is 4 (fp32) or 2 (bf16) bytes.
void sightline_pack(const void *from, void *to, int64_t outputs, int64_t depth, int64_t size, int64_t threads) {
    if (size == 2)
        packed((const uint16_t *)from, (uint16_t *)to, outputs, depth, (int)threads);
    else
        packed((const float *)from, (float *)to, outputs, depth, (int)threads);
}

// A mark that changes with any word of a weight: what was packed is packed again when the model has learnt.
uint64_t sightline_mark(const void *from, int64_t bytes, uint64_t seed) {
    const uint32_t *words = (const uint32_t *)from;
    const int64_t count = bytes / 4;
    constexpr int CHAINS = 64;  // so many products wait for none before them
    uint64_t sums[CHAINS] = {};
    int64_t i = 0;
    for (; i + CHAINS <= count; i += CHAINS)
        for (int lane = 0; lane < CHAINS; lane++) sums[lane] = (sums[lane] ^ words[i + lane]) * 0x9e3779b97f4a7c15ull;
    uint64_t mark = seed;
    for (; i < count; i++) mark = (mark ^ words[i]) * 0x9e3779b97f4a7c15ull;
    for (int64_t rest = 4 * count; rest < bytes; rest++)
        mark = (mark ^ ((const uint8_t *)from)[rest]) * 0x9e3779b97f4a7c15ull;
    for (int lane = 0; lane < CHAINS; lane++) mark = ((mark ^ (mark >> 29)) + sums[lane]) * 0xbf58476d1ce4e5b9ull;
    return mark;
}

}  // extern "C"
