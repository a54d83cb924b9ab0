//! Blocks of random weights in each format, any of them by its index: what synthetic models are made of.

use super::block::WeightFormat;
use crate::random::bits4;
use half::{bf16, f16};

/// Fills `out` from byte `offset` of an endless tensor of random blocks. With `near_one`, floats are around 1 as norm
/// weights are, instead of around 0.
pub fn fill(format: WeightFormat, seed: u64, near_one: bool, offset: u64, out: &mut [u8]) {
    let n_bytes = format.block_bytes();
    let mut block = [0u8; 256];
    let block = &mut block[..n_bytes];
    let (mut index, mut skip) = (offset / n_bytes as u64, (offset % n_bytes as u64) as usize);
    let mut at = 0;
    while at < out.len() {
        fill_block(format, seed, near_one, index, block);
        let n = (n_bytes - skip).min(out.len() - at);
        out[at..at + n].copy_from_slice(&block[skip..skip + n]);
        (at, index, skip) = (at + n, index + 1, 0);
    }
}

fn fill_block(format: WeightFormat, seed: u64, near_one: bool, index: u64, block: &mut [u8]) {
    for (draw, four) in block.chunks_mut(16).enumerate() {
        let words = bits4(seed, index * 16 + draw as u64);
        four.copy_from_slice(&bytemuck::cast_slice::<u32, u8>(&words)[..four.len()]);
    }
    let uniform = |bytes: &[u8]| (bytes[0] as f32 + 256.0 * bytes[1] as f32) / 65536.0;
    let float = |bytes: &[u8]| if near_one { 0.9 + 0.2 * uniform(bytes) } else { 0.16 * (uniform(bytes) - 0.5) };
    match format {
        WeightFormat::F32 => block.copy_from_slice(&float(block).to_le_bytes()),
        WeightFormat::F16 => block.copy_from_slice(&f16::from_f32(float(block)).to_le_bytes()),
        WeightFormat::BF16 => block.copy_from_slice(&bf16::from_f32(float(block)).to_le_bytes()),
        _ => {
            for &(at, value) in scales(format) {
                let value = value * (0.75 + 0.5 * uniform(&block[at..at + 2]));
                block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
            }
        }
    }
}

/// Where a block has f16 numbers, and the size that gives weights a deviation of about 0.05 around 0.
fn scales(format: WeightFormat) -> &'static [(usize, f32)] {
    match format {
        WeightFormat::F32 | WeightFormat::F16 | WeightFormat::BF16 => &[],
        WeightFormat::Q4_0 | WeightFormat::Q4_G128 => &[(0, 0.01)],
        WeightFormat::Q4_1 => &[(0, 0.01), (2, -0.075)],
        WeightFormat::Q5_0 => &[(0, 0.005)],
        WeightFormat::Q5_1 => &[(0, 0.005), (2, -0.0775)],
        WeightFormat::Q8_0 => &[(0, 0.0007)],
        WeightFormat::Q4_K => &[(0, 3.0e-4), (2, 2.3e-3)],
        WeightFormat::Q5_K => &[(0, 1.5e-4), (2, 2.3e-3)],
        WeightFormat::Q6_K => &[(208, 4.0e-5)],
    }
}
