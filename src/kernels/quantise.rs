//! Activations in blocks of 32 signed bytes, for products of integers.

use super::{Call, Kernel, Needs};

pub static QUANTISE: Kernel = Kernel {
    name: "quantise",
    shader: include_str!("../../shaders/quantise.wgsl"),
    params: &["n_blocks"],
    reads: &["step", "x"],
    writes: &["packed"],
    needs: Needs::NOTHING,
    reference,
    tolerance: 1e-5,
};

/// Words of a block of 32 packed activations: eight of codes, the scale, the scale times the sum of codes, two zeros.
pub const PACKED_WORDS: usize = 12;

fn reference(call: &mut Call<'_>) {
    let (n_blocks, n_tokens, x) = (call.count(0), call.step().n_tokens, call.read(1));
    for block in 0..n_tokens * n_blocks {
        let words = pack_activations(x[block * 32..][..32].try_into().expect("32 numbers"));
        call.writes[0][block * PACKED_WORDS..][..PACKED_WORDS].copy_from_slice(&words);
    }
}

/// A block of activations, packed.
pub fn pack_activations(x: &[f32; 32]) -> [u32; PACKED_WORDS] {
    let scale = x.iter().fold(0f32, |largest, v| largest.max(v.abs())) / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale as f64 };
    let codes = x.map(|v| (v as f64 * inverse).round_ties_even() as i8);
    let sum: i32 = codes.iter().map(|&code| code as i32).sum();
    let mut words = [0; PACKED_WORDS];
    for (word, codes) in words.iter_mut().zip(codes.chunks(4)) {
        *word = u32::from_le_bytes([codes[0], codes[1], codes[2], codes[3]].map(|code| code as u8));
    }
    words[8] = scale.to_bits();
    words[9] = (scale * sum as f32).to_bits();
    words
}

/// The codes of a packed block.
pub fn packed_codes(block: &[u32]) -> impl Iterator<Item = i8> {
    block[..8].iter().flat_map(|word| word.to_le_bytes()).map(|byte| byte as i8)
}

/// The scale of a packed block, and the scale times the sum of codes.
pub fn packed_scale(block: &[u32]) -> [f32; 2] {
    [8, 9].map(|i| f32::from_bits(block[i]))
}
