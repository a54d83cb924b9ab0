//! k-quants: blocks of 256 weights whose parts have integer scales of their own.
//!
//! - Q4_K, 144 bytes: f16 d, f16 dmin, 12 bytes of 6-bit scales and minima for 8 parts of 32, 128 bytes of nibbles;
//!   `w = d * scale * q - dmin * min`.
//! - Q5_K, 176 bytes: the same with 32 bytes of high bits before the nibbles.
//! - Q6_K, 210 bytes: 128 bytes of low nibbles, 64 of high pairs, 16 signed scales for parts of 16, f16 d;
//!   `w = d * scale * (q - 32)`.
//!
//! [`low_nibbles`] and [`high_bits`] read the codes of 32 weights in the order in which [`super::pack`] stores them;
//! decoding and packing both go through them.

use super::{
    block::WeightFormat,
    fit::{self, Affine},
};
use half::f16;

/// Weights in a block.
pub const BLOCK_LEN: usize = 256;
/// Where the codes begin in a block of Q4_K and Q5_K, and where scales and d begin in a block of Q6_K.
const CODES: usize = 16;
const Q6_SCALES: usize = 192;
const Q6_D: usize = 208;

/// The low nibbles of the 32 weights of part `part`: byte j of the words holds element j below and j + 16 above.
pub fn low_nibbles(format: WeightFormat, block: &[u8], part: usize) -> [u32; 4] {
    // 64 or 128 weights share 32 or 64 bytes: the first half of them below, the second above.
    let (at, shift) = match format {
        WeightFormat::Q4_K => (CODES + part / 2 * 32, part % 2 * 4),
        WeightFormat::Q5_K => (CODES + 32 + part / 2 * 32, part % 2 * 4),
        _ => (part / 4 * 64 + part % 2 * 32, part % 4 / 2 * 4),
    };
    std::array::from_fn(|i| {
        let [low, high] = [4 * i, 4 * i + 16].map(|j| word(&block[at + j..]) >> shift & 0x0f0f_0f0f);
        low | high << 4
    })
}

/// The bits above the nibbles of the 32 weights of part `part`.
///
/// Q5_K: one word, bit `8 j + k` is that of element `4 k + j`. Q6_K: a word for each 16 weights, bits `8 j + 2 k` and
/// the one above belong to element `4 k + j`. So a shift and a mask give four neighbours, a byte each.
pub fn high_bits(format: WeightFormat, block: &[u8], part: usize) -> [u32; 2] {
    match format {
        WeightFormat::Q5_K => {
            let quad = |k: usize| (word(&block[CODES + 4 * k..]) >> part & 0x0101_0101) << k;
            [(0..8).fold(0, |bits, k| bits | quad(k)), 0]
        }
        WeightFormat::Q6_K => [0, 16].map(|first| {
            let at = 128 + part / 4 * 32 + first;
            let quad = |k: usize| (word(&block[at + 4 * k..]) >> (2 * (part % 4)) & 0x0303_0303) << (2 * k);
            (0..4).fold(0, |bits, k| bits | quad(k))
        }),
        _ => [0, 0],
    }
}

/// Scales and minima of the eight parts of a block of Q4_K or Q5_K, 6 bits each.
pub fn scales_and_minima(block: &[u8]) -> [[u8; 8]; 2] {
    let bytes = &block[4..CODES];
    let low = |at: usize| bytes[at] & 63;
    let top = |at: usize| bytes[at] >> 6 << 4;
    // The first four parts have bytes of their own, whose two upper bits belong to the last four.
    let scales = std::array::from_fn(|p| if p < 4 { low(p) } else { bytes[4 + p] & 15 | top(p - 4) });
    let minima = std::array::from_fn(|p| if p < 4 { low(4 + p) } else { bytes[4 + p] >> 4 | top(p) });
    [scales, minima]
}

/// Scales of the 16 parts of a block of Q6_K.
pub fn q6_scales(block: &[u8]) -> [i8; 16] {
    std::array::from_fn(|i| block[Q6_SCALES + i] as i8)
}

/// The bytes of d in a block of Q6_K.
pub fn q6_d(block: &[u8]) -> [u8; 2] {
    [block[Q6_D], block[Q6_D + 1]]
}

/// The 32 codes of part `part`.
fn codes(format: WeightFormat, block: &[u8], part: usize) -> [u8; 32] {
    let (low, high) = (low_nibbles(format, block, part), high_bits(format, block, part));
    std::array::from_fn(|i| {
        let low = low[i % 16 / 4] >> (8 * (i % 4) + i / 16 * 4) & 15;
        let high = match format {
            WeightFormat::Q5_K => high[0] >> (8 * (i % 4) + i / 4) & 1,
            _ => high[i / 16] >> (8 * (i % 4) + i % 16 / 4 * 2) & 3,
        };
        (low | high << 4) as u8
    })
}

/// Decodes a block of Q4_K or Q5_K.
pub fn decode_with_minima(format: WeightFormat, block: &[u8], out: &mut Vec<f32>) {
    let [d, dmin] = [0, 2].map(|at| f16::from_le_bytes([block[at], block[at + 1]]).to_f32());
    let [scales, minima] = scales_and_minima(block);
    for part in 0..8 {
        let (scale, min) = (d * scales[part] as f32, dmin * minima[part] as f32);
        out.extend(codes(format, block, part).map(|q| scale * q as f32 - min));
    }
}

/// Decodes a block of Q6_K.
pub fn decode_q6(block: &[u8], out: &mut Vec<f32>) {
    let d = f16::from_le_bytes(q6_d(block)).to_f32();
    for (part, scales) in q6_scales(block).chunks_exact(2).enumerate() {
        let codes = codes(WeightFormat::Q6_K, block, part);
        out.extend((0..32).map(|i| d * scales[i / 16] as f32 * (codes[i] as f32 - 32.0)));
    }
}

/// Encodes 256 weights as Q4_K or Q5_K.
pub fn encode_with_minima(format: WeightFormat, x: &[f32], out: &mut Vec<u8>) {
    let max = if format == WeightFormat::Q4_K { 15.0 } else { 31.0 };
    let weights = importance(x);
    let part = |p: usize| (&x[p * 32..][..32], &weights[p * 32..][..32]);
    let wanted: [Affine; 8] = std::array::from_fn(|p| fit::affine(part(p).0, part(p).1, max, 0.0));
    let largest = |value: fn(&Affine) -> f32| wanted.iter().map(value).fold(0f32, f32::max);
    let d = fit::half_beyond(largest(|a| a.scale) / 63.0);
    let dmin = fit::half_beyond(largest(|a| a.min) / 63.0);
    let (d_f32, dmin_f32) = (d.to_f32(), dmin.to_f32());
    let held = |[scale, min]: [f32; 2]| Affine { scale: d_f32 * scale, min: dmin_f32 * min };
    let pairs: [[f32; 2]; 8] = std::array::from_fn(|p| {
        let near = [wanted[p].scale * fit::inverse(d_f32), wanted[p].min * fit::inverse(dmin_f32)];
        best_neighbour(near, |pair| fit::affine_error(part(p).0, part(p).1, held(pair), max))
    });
    let mut codes = [0u8; BLOCK_LEN];
    for (p, pair) in pairs.into_iter().enumerate() {
        let Affine { scale, min } = held(pair);
        let inverse = fit::inverse(scale);
        for (code, &x) in codes[p * 32..][..32].iter_mut().zip(part(p).0) {
            *code = fit::code((x + min) * inverse, 0.0, max) as u8;
        }
    }
    out.extend([d, dmin].into_iter().flat_map(f16::to_le_bytes));
    out.extend(join_scales_and_minima(&pairs.map(|pair| pair.map(|v| v as u8))));
    if format == WeightFormat::Q5_K {
        out.extend((0..32).map(|i| (0..8).fold(0, |byte, p| byte | codes[32 * p + i] >> 4 << p)));
    }
    for pair in codes.chunks_exact(64) {
        out.extend((0..32).map(|i| pair[i] & 15 | pair[i + 32] << 4));
    }
}

/// How much an error at each weight matters: large weights meet large activations more often than chance has it.
fn importance(x: &[f32]) -> [f32; BLOCK_LEN] {
    let mut weights = [0f32; BLOCK_LEN];
    for (x, w) in x.chunks_exact(32).zip(weights.chunks_exact_mut(32)) {
        let mean = (x.iter().map(|x| x * x).sum::<f32>() / 32.0).sqrt();
        w.iter_mut().zip(x).for_each(|(w, x)| *w = mean + x.abs());
    }
    weights
}

/// The pair of 6-bit integers around `near` with the least error.
fn best_neighbour(near: [f32; 2], error: impl Fn([f32; 2]) -> f32) -> [f32; 2] {
    let [scale, min] = near.map(|v| fit::code(v, 0.0, 63.0));
    let mut best = ([scale, min], error([scale, min]));
    for ds in [-1.0, 0.0, 1.0] {
        for dm in [-1.0, 0.0, 1.0] {
            let pair = [(scale + ds).clamp(0.0, 63.0), (min + dm).clamp(0.0, 63.0)];
            let error = error(pair);
            if error < best.1 {
                best = (pair, error);
            }
        }
    }
    best.0
}

/// The inverse of [`scales_and_minima`], from a pair for each part.
fn join_scales_and_minima(pairs: &[[u8; 2]; 8]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..4 => pairs[i][0] | pairs[i + 4][0] >> 4 << 6,
        4..8 => pairs[i - 4][1] | pairs[i][1] >> 4 << 6,
        _ => pairs[i - 4][0] & 15 | pairs[i - 4][1] << 4,
    })
}

/// Encodes 256 weights as Q6_K.
pub fn encode_q6(x: &[f32], out: &mut Vec<u8>) {
    let mut weights = [0f32; BLOCK_LEN];
    weights.iter_mut().zip(x).for_each(|(w, x)| *w = x * x);
    let wanted: [f32; 16] = std::array::from_fn(|p| fit::symmetric(&x[p * 16..][..16], &weights[p * 16..][..16], 32.0));
    // The scale of largest magnitude takes the code -128.
    let largest = wanted.iter().fold(0f32, |m, &s| if s.abs() > m.abs() { s } else { m });
    let d = fit::half_beyond(largest / -128.0);
    let inverse = fit::inverse(d.to_f32());
    let scales = wanted.map(|scale| fit::code(scale * inverse, -128.0, 127.0));
    let mut codes = [0u8; BLOCK_LEN];
    for (i, code) in codes.iter_mut().enumerate() {
        let inverse = fit::inverse(d.to_f32() * scales[i / 16]);
        *code = (fit::code(x[i] * inverse, -32.0, 31.0) + 32.0) as u8;
    }
    for half in codes.chunks_exact(128) {
        out.extend((0..64).map(|i| half[i] & 15 | half[i + 64] << 4));
    }
    for half in codes.chunks_exact(128) {
        out.extend((0..32).map(|i| (0..4).fold(0, |byte, k| byte | half[32 * k + i] >> 4 << (2 * k))));
    }
    out.extend(scales.map(|scale| scale as i8 as u8));
    out.extend(d.to_le_bytes());
}

/// Four bytes as a little-endian word.
fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
