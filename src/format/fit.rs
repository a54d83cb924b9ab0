//! Scales of blocks: which one, and which minimum, make the codes of a block err least.
//!
//! Codes are integers times a scale, so once they are chosen the best scale follows by least squares. The searches
//! below try a row of scales near the one that the block's extremes call for, refit each, and keep the best.
//! Sums run in eight lanes, which compilers turn into vector instructions without changing a result.

use half::f16;

const LANES: usize = 8;
/// Weights of the errors where all count the same; as many as the longest block has.
const ONES: [f32; 128] = [1.0; 128];

/// The f16 next to `value` and no smaller in magnitude, so that codes made for `value` stay in range. Near f16's
/// smallest numbers the nearest one can be a third too small, or zero.
pub fn half_beyond(value: f32) -> f16 {
    let nearest = f16::from_f32(value);
    let short = nearest.to_f32().abs() < value.abs();
    // The sign is a bit of its own, so the next bits are the next magnitude.
    f16::from_bits(nearest.to_bits() + short as u16)
}

/// The reciprocal of a scale; 0 for 0, which makes every code 0.
pub fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The integer nearest to `value` within `low..=high`; NaN becomes `low`.
#[inline]
pub fn code(value: f32, low: f32, high: f32) -> f32 {
    /// Added and taken away again, it leaves an f32 below 2^22 without a fraction.
    const ROUND: f32 = 12_582_912.0;
    let value = if value > low { value } else { low };
    let value = if value < high { value } else { high };
    (value + ROUND) - ROUND
}

/// The scale with which codes of `-n..n` times it come closest to `x`, by squared error weighted with `weights`.
pub fn symmetric(x: &[f32], weights: &[f32], n: f32) -> f32 {
    let extreme = extreme(x);
    if extreme == 0.0 {
        return 0.0;
    }
    let (mut best, mut best_scale) = (0.0, extreme / -n);
    // The extreme gets the code -n, up to two more or less: the range is clipped, or not used to its end. The last try
    // starts from the best one.
    for step in -8..=9 {
        let tried = if step == 9 { inverse(best_scale) } else { -(n + 0.25 * step as f32) / extreme };
        let [xq, qq] = moments(x, weights, tried, n);
        if qq > 0.0 && xq * xq > best * qq {
            (best, best_scale) = (xq * xq / qq, xq / qq);
        }
    }
    best_scale
}

/// Sums of `w x q` and of `w q q` for the codes q of `x * inverse`.
fn moments(x: &[f32], weights: &[f32], inverse: f32, n: f32) -> [f32; 2] {
    let (mut xq, mut qq) = ([0f32; LANES], [0f32; LANES]);
    for (x, w) in x.chunks_exact(LANES).zip(weights.chunks_exact(LANES)) {
        for i in 0..LANES {
            let q = code(x[i] * inverse, -n, n - 1.0);
            xq[i] += w[i] * x[i] * q;
            qq[i] += w[i] * q * q;
        }
    }
    [xq, qq].map(|lanes| lanes.iter().sum())
}

/// The element of largest magnitude.
pub fn extreme(x: &[f32]) -> f32 {
    x.iter().fold(0f32, |m, &w| if w.abs() > m.abs() { w } else { m })
}

/// An f16 scale for codes of `-n..n`, and the function from a weight to its code plus n.
///
/// The better of two: the scale that gives the extreme the code -n, and the searched one.
pub fn symmetric_codes(x: &[f32], n: f32) -> (f16, impl Fn(f32) -> u8) {
    let error = |scale: f16| -> f32 {
        let (scale, inverse) = (scale.to_f32(), inverse(scale.to_f32()));
        x.iter().map(|&x| x - scale * code(x * inverse, -n, n - 1.0)).map(|e| e * e).sum()
    };
    let plain = f16::from_f32(extreme(x) / -n);
    let searched = f16::from_f32(symmetric(x, &ONES[..x.len()], n));
    let scale = if error(searched) < error(plain) { searched } else { plain };
    let inverse = inverse(scale.to_f32());
    (scale, move |x| (code(x * inverse, -n, n - 1.0) + n) as u8)
}

/// An f16 scale for codes of -127 to 127, and the function from a weight to its code.
///
/// Of the scales that give the extreme a code of 95 to 127, the one that errs least. On random weights that saves a
/// tenth of the error, on weights that have been rounded to few levels before up to half.
pub fn eight_bit_codes(x: &[f32]) -> (f16, impl Fn(f32) -> i8) {
    let extreme = extreme(x).abs();
    let (mut least, mut best) = (f32::INFINITY, f16::from_f32(extreme / 127.0));
    for top in (95..=127).rev() {
        let held = f16::from_f32(extreme / top as f32);
        let (scale, inverse) = (held.to_f32(), inverse(held.to_f32()));
        let mut sums = [0f32; LANES];
        for x in x.chunks_exact(LANES) {
            for i in 0..LANES {
                let error = scale * code(x[i] * inverse, -127.0, 127.0) - x[i];
                sums[i] += error * error;
            }
        }
        let error = sums.iter().sum();
        if error < least {
            (least, best) = (error, held);
        }
    }
    let inverse = inverse(best.to_f32());
    (best, move |x| code(x * inverse, -127.0, 127.0) as i8)
}

/// An f16 scale and minimum for codes of `0..=max`, and the function from a weight to its code.
///
/// The better of two: the pair that spans the block from its least to its largest weight, and the searched one.
pub fn affine_codes(x: &[f32], max: f32) -> (f16, f16, impl Fn(f32) -> u8) {
    let ones = &ONES[..x.len()];
    let rounded = |wanted: Affine| {
        let [scale, low] = [f16::from_f32(wanted.scale), f16::from_f32(-wanted.min)];
        let held = Affine { scale: scale.to_f32(), min: -low.to_f32() };
        (affine_error(x, ones, held, max), held, scale, low)
    };
    let spanned = rounded(span(x, max, f32::NEG_INFINITY));
    let searched = rounded(affine(x, ones, max, f32::NEG_INFINITY));
    let (_, held, scale, low) = if searched.0 < spanned.0 { searched } else { spanned };
    let inverse = inverse(held.scale);
    (scale, low, move |x| code((x + held.min) * inverse, 0.0, max) as u8)
}

/// A scale and a minimum: weights are `scale * code - min`, the scale not below zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct Affine {
    pub scale: f32,
    pub min: f32,
}

/// The pair with which codes of `0..=max` come closest to `x`, by squared error weighted with `weights`.
///
/// `least_min` is 0, for formats whose minima have no sign, or minus infinity.
pub fn affine(x: &[f32], weights: &[f32], max: f32, least_min: f32) -> Affine {
    let spanned = span(x, max, least_min);
    if spanned.scale == 0.0 {
        return spanned;
    }
    let mut best = spanned;
    let mut least = affine_error(x, weights, best, max) as f64;
    let known = KnownSums::of(x, weights);
    // From codes that stop one short of the largest to a range that is clipped by one step; the last try starts from
    // the best one.
    for step in 0..=11 {
        let tried = Affine { scale: spanned.scale * max / (max - 1.0 + 0.2 * step as f32), ..spanned };
        let tried = if step == 11 { best } else { tried };
        let (fitted, error) = refit(x, weights, known, tried, max, least_min);
        if error < least {
            (least, best) = (error, fitted);
        }
    }
    best
}

/// The pair that reaches from the least weight to the largest.
fn span(x: &[f32], max: f32, least_min: f32) -> Affine {
    let (low, high) = x.iter().fold((-least_min, f32::MIN), |(a, b), &w| (a.min(w), b.max(w)));
    Affine { scale: ((high - low) / max).max(0.0), min: -low }
}

/// Sums that do not depend on the codes: of w, w x and w x x.
#[derive(Clone, Copy)]
struct KnownSums {
    w: f64,
    x: f64,
    xx: f64,
}

impl KnownSums {
    fn of(x: &[f32], weights: &[f32]) -> Self {
        let each = x.iter().zip(weights).map(|(&x, &w)| (x as f64, w as f64));
        each.fold(Self { w: 0.0, x: 0.0, xx: 0.0 }, |sums, (x, w)| Self {
            w: sums.w + w,
            x: sums.x + w * x,
            xx: sums.xx + w * x * x,
        })
    }
}

/// Least squares for the codes that `from` gives, and the squared error with those codes.
fn refit(x: &[f32], weights: &[f32], known: KnownSums, from: Affine, max: f32, least_min: f32) -> (Affine, f64) {
    let inverse = inverse(from.scale);
    let [mut q, mut xq, mut qq] = [[0f32; LANES]; 3];
    for (x, w) in x.chunks_exact(LANES).zip(weights.chunks_exact(LANES)) {
        for i in 0..LANES {
            let code = code((x[i] + from.min) * inverse, 0.0, max);
            let weighted = w[i] * code;
            q[i] += weighted;
            xq[i] += weighted * x[i];
            qq[i] += weighted * code;
        }
    }
    let [q, xq, qq] = [q, xq, qq].map(|lanes| lanes.iter().map(|&v| v as f64).sum::<f64>());
    let determinant = known.w * qq - q * q;
    let mut scale = (known.w * xq - known.x * q) / determinant;
    let mut min = (q * xq - qq * known.x) / determinant;
    if min < least_min as f64 {
        (scale, min) = (xq / qq, 0.0);
    }
    let square = scale * scale * qq + min * min * known.w + known.xx;
    let error = square - 2.0 * (scale * xq - min * known.x + scale * min * q);
    (Affine { scale: scale as f32, min: min as f32 }, error)
}

/// The weighted squared error of `x` with this scale and minimum.
pub fn affine_error(x: &[f32], weights: &[f32], fitted: Affine, max: f32) -> f32 {
    let inverse = inverse(fitted.scale);
    let mut sums = [0f32; LANES];
    for (x, w) in x.chunks_exact(LANES).zip(weights.chunks_exact(LANES)) {
        for i in 0..LANES {
            let error = fitted.scale * code((x[i] + fitted.min) * inverse, 0.0, max) - fitted.min - x[i];
            sums[i] += w[i] * error * error;
        }
    }
    sums.iter().sum()
}
