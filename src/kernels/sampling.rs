//! What choosing a token means, in whole numbers alone, so that every device and the CPU choose the same one.
//!
//! A logit counts by its *fall*: how much less probable it is than the largest, in 65,536ths of an octave, rounded down.
//! Its weight is 2^31 halved once an octave, which differs from an exponential by less than 1 part in 20,000, and 0 from
//! 32 octaves on. Filters keep the first so many tokens in order of their falls, and of their ids among equal falls; the
//! draw walks through what is kept in order of ids. `shaders/lib/sampling.wgsl` says the same.

use crate::random;

/// What the kernel reports as a token when a logit is NaN or infinite.
pub const NOT_A_NUMBER: u32 = u32::MAX;

/// Logits of a group, whose largest is kept, and of a workgroup that gathers such groups.
pub const GROUP_LOGITS: usize = 16;
pub const WORKGROUP_LOGITS: usize = 64 * GROUP_LOGITS;

/// The least fall with no weight: 32 octaves.
pub const NO_WEIGHT: u32 = 32 << 16;
/// Bins of falls, 32 of them an octave, and the words of each: tokens, and their weights' sum, low word first.
pub const N_BINS: usize = 1024;
pub const BIN_WORDS: usize = 3;
/// Falls of one bin.
pub const BIN_FALLS: u32 = NO_WEIGHT / N_BINS as u32;

/// Tokens that the ring of drawn ones holds; before them is a word that counts the draws.
pub const DRAWN_TOKENS: usize = 64;

/// Key of minus infinity, and of what is no number or plus infinity.
const MINUS_INFINITY: u32 = !0xff80_0000;
const BROKEN: u32 = u32::MAX;

/// How to choose, as the words that a device gets.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SamplingWords {
    /// `log2(e) / temperature` is `scale / 2^shift`, `scale` being 2^31 or more; 0 takes the most probable token.
    pub scale: u32,
    pub shift: i32,
    /// Tokens to choose among; 0 for all.
    pub top_k: u32,
    /// What the tokens to choose among have to reach together, of 2^32; 0 for all.
    pub top_p: u32,
    /// The largest fall to choose among.
    pub max_fall: u32,
    /// Bits of the factors for a seen token's logit: where it is negative, and where it is positive.
    pub penalty: u32,
    pub inverse_penalty: u32,
    /// Low word first.
    pub seed: [u32; 2],
}

impl SamplingWords {
    pub const GREEDY: Self = Self {
        scale: 0,
        shift: 0,
        top_k: 0,
        top_p: 0,
        max_fall: NO_WEIGHT,
        penalty: ONE,
        inverse_penalty: ONE,
        seed: [0; 2],
    };

    /// The temperature's part, and whether it draws at all.
    pub fn with_temperature(self, temperature: f32) -> Self {
        let per_unit = std::f64::consts::LOG2_E / f64::from(temperature);
        if !per_unit.is_finite() {
            return Self { scale: 0, ..self };
        }
        // The exponent as the number itself has it: `log2` may round up to the next whole number.
        let exponent = (per_unit.to_bits() >> 52) as i32 - 1023;
        let shift = 31 - exponent;
        Self { scale: (per_unit * 2f64.powi(shift)) as u32, shift, ..self }
    }

    /// The penalty's part. A factor beyond these limits could not be divided by.
    pub fn with_penalty(self, penalty: f32) -> Self {
        let penalty = penalty.clamp(1e-30, 1e30);
        Self { penalty: penalty.to_bits(), inverse_penalty: (1.0 / penalty).to_bits(), ..self }
    }

    /// Draws, and needs to know how many tokens, or how much of the probability, come first.
    pub fn needs_bins(&self) -> bool {
        self.scale > 0 && (self.top_k > 0 || self.top_p > 0)
    }

    /// Seen tokens are treated like others.
    pub fn is_penalty_free(&self) -> bool {
        self.penalty == ONE
    }

    /// The key of a logit: larger for larger logits, the largest of all for what is no number.
    pub fn key(&self, logit: f32, seen: bool) -> u32 {
        let mut bits = logit.to_bits();
        if bits & 0x7fff_ffff >= 0x7f80_0000 && bits != 0xff80_0000 {
            return BROKEN;
        }
        if seen && !self.is_penalty_free() {
            bits = product(bits, if bits >> 31 == 0 { self.inverse_penalty } else { self.penalty });
        }
        match (bits >> 31, bits & 0x7fff_ffff) {
            (_, 0) => 1 << 31,
            (0, _) => bits | 1 << 31,
            _ => !bits,
        }
    }

    /// How much less probable a logit with this key is than the largest one.
    pub fn fall(&self, key: u32, top_key: u32) -> u32 {
        if key == top_key {
            return 0;
        }
        if key == MINUS_INFINITY {
            return NO_WEIGHT;
        }
        let unit = unit(top_key);
        let distance = (fixed(top_key, unit) - fixed(key, unit)) as u64;
        // Below 10 even the least distance is worth 32 octaves.
        let shift = self.shift + unit - 16;
        match shift {
            _ if distance == 0 => 0,
            ..10 => NO_WEIGHT,
            10..64 => ((distance * u64::from(self.scale)) >> shift).min(u64::from(NO_WEIGHT)) as u32,
            64.. => 0,
        }
    }
}

/// 1 as bits of f32.
const ONE: u32 = 0x3f80_0000;

/// The product of two f32 as bits, rounded towards zero; `factor` is positive and normal. What is too small for a normal
/// number becomes zero, what is too large the largest number.
fn product(bits: u32, factor: u32) -> u32 {
    let (sign, magnitude) = (bits & 0x8000_0000, bits & 0x7fff_ffff);
    if magnitude < 0x0080_0000 {
        return sign;
    }
    if magnitude == 0x7f80_0000 {
        return bits;
    }
    let digits = |bits: u32| u64::from(bits & 0x007f_ffff | 0x0080_0000);
    let mut digits = (digits(magnitude) * digits(factor)) >> 23;
    let mut exponent = (magnitude >> 23) as i32 + (factor >> 23) as i32 - 127;
    if digits >= 1 << 24 {
        digits >>= 1;
        exponent += 1;
    }
    match exponent {
        ..1 => sign,
        1..255 => sign | (exponent as u32) << 23 | (digits as u32 & 0x007f_ffff),
        255.. => sign | 0x7f7f_ffff,
    }
}

/// The binary places that logits are compared with: 20, or as many as leave the largest below 2^30.
fn unit(top_key: u32) -> i32 {
    (156 - (magnitude(top_key) >> 23) as i32).min(20)
}

fn magnitude(key: u32) -> u32 {
    (if key >> 31 == 1 { key } else { !key }) & 0x7fff_ffff
}

/// A logit with `unit` binary places, rounded towards zero, and at most 2^30 large: what lies further below zero than
/// that counts as much, some thousand below the largest logit or several times what that is.
fn fixed(key: u32, unit: i32) -> i32 {
    let magnitude = magnitude(key);
    let digits = (magnitude & 0x007f_ffff | 0x0080_0000) as i32;
    let size = match (magnitude >> 23) as i32 - 150 + unit {
        _ if magnitude < 0x0080_0000 => 0,
        ..-31 => 0,
        right @ -31..0 => digits >> -right,
        left @ 0..7 => digits << left,
        7.. => 1 << 30,
    };
    if key >> 31 == 1 { size } else { -size }
}

/// The weight of a fall: 2^31 for none, half of it an octave further down.
pub fn weight(fall: u32) -> u64 {
    if fall >= NO_WEIGHT {
        return 0;
    }
    // (1 - 2^-x) / x for the part x of an octave.
    let part = fall & 0xffff;
    let slope = [3548, 15726, 45424].into_iter().fold(478, |sum, c| c - ((sum * part + 0x8000) >> 16));
    u64::from((0x8000_0000 - ((slope * part) >> 1)) >> (fall >> 16))
}

/// Chooses a token: the lowest id of the most probable, or by draw `n_draw` of the seed. [`NOT_A_NUMBER`] where a logit
/// is none.
pub fn pick(words: &SamplingWords, logits: &[f32], seen: impl Fn(usize) -> bool, n_draw: u64) -> u32 {
    let keys: Vec<u32> = logits.iter().enumerate().map(|(id, &logit)| words.key(logit, seen(id))).collect();
    let top_key = keys.iter().copied().max().unwrap_or(BROKEN);
    if top_key == BROKEN {
        return NOT_A_NUMBER;
    }
    if words.scale == 0 {
        return keys.iter().position(|&key| key == top_key).expect("the largest is there") as u32;
    }
    let kept = keep(words, keys.iter().map(|&key| words.fall(key, top_key)));
    let total: u64 = kept.iter().map(|&(fall, _)| weight(fall)).sum();
    let seed = u64::from(words.seed[1]) << 32 | u64::from(words.seed[0]);
    let mut left = part_of(total, random::bits(seed, n_draw));
    for &(fall, id) in &kept {
        match left.checked_sub(weight(fall)) {
            Some(rest) => left = rest,
            None => return id,
        }
    }
    unreachable!("less than the total is left")
}

/// What the filters leave, (fall, id), in order of ids.
fn keep(words: &SamplingWords, falls: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut kept: Vec<(u32, u32)> = falls.zip(0..).filter(|c| c.0 < NO_WEIGHT).collect();
    kept.sort_unstable();
    if words.top_k > 0 {
        kept.truncate(words.top_k as usize);
    }
    if words.top_p > 0 {
        let total = kept.iter().map(|&(fall, _)| weight(fall)).sum();
        let (goal, mut sum) = (part_of(total, words.top_p).max(1), 0);
        let enough = kept.iter().position(|&(fall, _)| {
            sum += weight(fall);
            sum >= goal
        });
        kept.truncate(enough.expect("all of them reach any part") + 1);
    }
    kept.retain(|&(fall, _)| fall <= words.max_fall);
    kept.sort_unstable_by_key(|c| c.1);
    kept
}

/// `part / 2^32` of `whole`, rounded down.
pub fn part_of(whole: u64, part: u32) -> u64 {
    ((u128::from(whole) * u128::from(part)) >> 32) as u64
}

/// The token `id` in a set of one bit each.
pub fn contains(set: &[u32], id: usize) -> bool {
    set.get(id / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
}

/// Puts the token `id` into a set of one bit each.
pub fn insert(set: &mut [u32], id: usize) {
    set[id / 32] |= 1 << (id % 32);
}
