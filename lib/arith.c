/* SPDX-License-Identifier: MIT */
/* arith.c - base-2 logarithm, exponential, sine and cosine in binary64, from + - * / alone in a written order: no fma, no libm, so every
 * machine gives the same bits. Used per frequency and per position, never per weight. */
#include "arith.h"

/* 1.5 * 2^52: adding and subtracting it rounds to an integer, ties to even; the low bits of the sum hold that integer. */
#define MAGIC64 0x1.8p52
#define NAN64 0x7ff8000000000000u
#define INF64 0x7ff0000000000000u
#define MANTISSA64 0xfffffffffffffu

double sl_log2(double x)
{
    int64_t e = 0;
    if (!(x > 0.0))
        return x == 0.0 ? sl_double(INF64 | (uint64_t)1 << 63) : sl_double(NAN64);
    if (x < 0x1p-1022) {    /* subnormal */
        x *= 0x1p54;
        e = -54;
    }
    uint64_t u = sl_bits64(x);
    if (u >= INF64)
        return x;
    /* x = 2^e m, m in [sqrt(1/2), sqrt(2)) */
    e += (int64_t)(u >> 52) - 1023;
    double m = sl_double((u & MANTISSA64) | (uint64_t)1023 << 52);
    if (m >= 0x1.6a09e667f3bcdp0) {
        m *= 0.5;
        e++;
    }
    /* log(m) = 2 atanh(s) = 2 s (1 + s^2/3 + s^4/5 + ...), |s| <= 0.1716: the terms from s^24/25 on are below 2^-65 */
    double s = (m - 1.0) / (m + 1.0), z = s * s, sum = 0.0;
    for (int k = 23; k >= 3; k -= 2)
        sum = (sum + 1.0 / k) * z;
    double y = s * 0x1.71547652b82fep1;     /* 2 / ln 2 */
    return (double)e + (y + y * sum);
}

double sl_exp2(double x)
{
    if (!(x >= -1022.0))
        return x < -1022.0 ? 0.0 : x;
    if (x >= 1024.0)
        return sl_double(INF64);
    double t = x + MAGIC64, n = t - MAGIC64;
    double r = (x - n) * 0x1.62e42fefa39efp-1;      /* x - n is exact; |r| <= ln(2) / 2 */
    /* the series of e^r in Horner form, 1 + r (1 + r/2 (1 + r/3 (...))): terms from r^15/15! on are below 2^-63 */
    double sum = 1.0;
    for (int k = 14; k >= 2; k--)
        sum = 1.0 + r * sum / k;
    sum = 1.0 + r * sum;
    /* 2^n in two factors: n = 1024 occurs for x just below it, and 2^1024 is no number */
    int64_t e = (int64_t)n, half = e / 2;
    return sum * sl_double((uint64_t)(half + 1023) << 52) * sl_double((uint64_t)(e - half + 1023) << 52);
}

/* Taylor series, on |r| <= pi/4 + 2^-20: error below 2^-46. */
static double sin_series(double r)
{
    double z = r * r;
    double p = 1.0 / 6227020800.0;
    p = p * z - 1.0 / 39916800.0;
    p = p * z + 1.0 / 362880.0;
    p = p * z - 1.0 / 5040.0;
    p = p * z + 1.0 / 120.0;
    p = p * z - 1.0 / 6.0;
    return r + r * z * p;
}

static double cos_series(double r)
{
    double z = r * r;
    double p = -1.0 / 87178291200.0;
    p = p * z + 1.0 / 479001600.0;
    p = p * z - 1.0 / 3628800.0;
    p = p * z + 1.0 / 40320.0;
    p = p * z - 1.0 / 720.0;
    p = p * z + 1.0 / 24.0;
    p = p * z - 0.5;
    return 1.0 + z * p;
}

void sl_sincos(double angle, float *s, float *c)
{
    if (!(angle >= -SL_ANGLE_MAX && angle <= SL_ANGLE_MAX)) {
        *s = *c = (float)sl_double(NAN64);
        return;
    }
    /* angle = k pi/2 + r. pi/2 in four parts; the first three have 22 bits, so that k (31 bits) times each is exact. The first subtraction is
     * exact as well; the other three lose 2^-53 at most each. */
    double t = angle * 0x1.45f306dc9c883p-1 + MAGIC64, k = t - MAGIC64;
    double r = angle - k * 0x1.921fb0p0;
    r = r - k * 0x1.5110b0p-22;
    r = r - k * 0x1.184698p-44;
    r = r - k * 0x1.3198a2e037073p-69;
    double sine = sin_series(r), cosine = cos_series(r);
    uint64_t quarter = sl_bits64(t) & 3;    /* k mod 4, of negative k too */
    double a = quarter & 1 ? cosine : sine, b = quarter & 1 ? sine : cosine;
    *s = (float)(quarter & 2 ? -a : a);
    *c = (float)(quarter == 1 || quarter == 2 ? -b : b);
}
