//! Weight formats: how many weights a block holds, in how many bytes, and what they decode to.
//!
//! Block layouts as ggml defines them:
//! <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>.

use half::{bf16, f16};

/// How weights are stored, in the file and (in another order, see [`super::pack`]) on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightFormat {
    F32,
    F16,
    BF16,
    /// 32 weights: f16 scale, 16 bytes of nibbles; `w = d * (q - 8)`.
    Q4_0,
    /// 32 weights: f16 scale, f16 minimum, 16 bytes of nibbles; `w = d * q + m`.
    Q4_1,
    /// 32 weights: f16 scale, 32 signed bytes; `w = d * q`.
    Q8_0,
}

impl WeightFormat {
    /// Every format, the one list that loaders, kernels and tests iterate over.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::BF16, Self::Q4_0, Self::Q4_1, Self::Q8_0];

    /// Name as users write it; also the stem of the shader fragment `weight_NAME.wgsl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q8_0 => "q8_0",
        }
    }

    /// The format called `name`, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// From ggml's number of a tensor type.
    pub fn from_ggml(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// Weights in one block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q8_0 => 32,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q8_0 => 34,
        }
    }

    /// Decodes whole blocks. Exact: every result is the f32 nearest to the published definition's value.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::with_capacity(bytes.len() / self.block_bytes() * self.block_len());
        for block in bytes.chunks_exact(self.block_bytes()) {
            self.decode_block(block, &mut out);
        }
        out
    }

    fn decode_block(self, block: &[u8], out: &mut Vec<f32>) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        match self {
            Self::F32 => out.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
            Self::F16 => out.push(half(0)),
            Self::BF16 => out.push(bf16::from_le_bytes([block[0], block[1]]).to_f32()),
            Self::Q4_0 => {
                let scale = half(0);
                out.extend(nibbles(&block[2..]).map(|q| scale * (q as f32 - 8.0)));
            }
            Self::Q4_1 => {
                let (scale, min) = (half(0), half(2));
                out.extend(nibbles(&block[4..]).map(|q| scale * q as f32 + min));
            }
            Self::Q8_0 => {
                let scale = half(0);
                out.extend(block[2..].iter().map(|&q| scale * q as i8 as f32));
            }
        }
    }

    /// Encodes `weights`, a whole number of blocks, as ggml's reference quantisers do.
    pub fn encode(self, weights: &[f32]) -> Vec<u8> {
        assert_eq!(weights.len() % self.block_len(), 0, "whole blocks of {}", self.name());
        let mut out = Vec::with_capacity(weights.len() / self.block_len() * self.block_bytes());
        for block in weights.chunks_exact(self.block_len()) {
            self.encode_block(block, &mut out);
        }
        out
    }

    fn encode_block(self, block: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(block[0].to_le_bytes()),
            Self::F16 => out.extend(f16::from_f32(block[0]).to_le_bytes()),
            Self::BF16 => out.extend(bf16::from_f32(block[0]).to_le_bytes()),
            Self::Q4_0 => {
                // The weight of largest magnitude takes the code 0, which reaches one step further than 15.
                let extreme = block.iter().fold(0f32, |m, &w| if w.abs() > m.abs() { w } else { m });
                let scale = extreme / -8.0;
                let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
                out.extend(f16::from_f32(scale).to_le_bytes());
                out.extend(pair_nibbles(block, |w| (w * inverse + 8.5) as u8));
            }
            Self::Q4_1 => {
                let (min, max) = block.iter().fold((f32::MAX, f32::MIN), |(a, b), &w| (a.min(w), b.max(w)));
                let scale = (max - min) / 15.0;
                let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
                out.extend(f16::from_f32(scale).to_le_bytes());
                out.extend(f16::from_f32(min).to_le_bytes());
                out.extend(pair_nibbles(block, |w| ((w - min) * inverse + 0.5) as u8));
            }
            Self::Q8_0 => {
                let scale = block.iter().fold(0f32, |m, w| m.max(w.abs())) / 127.0;
                let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
                out.extend(f16::from_f32(scale).to_le_bytes());
                out.extend(block.iter().map(|w| (w * inverse).round() as i8 as u8));
            }
        }
    }
}

impl std::fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The 32 codes of a 4-bit block: byte j holds element j below and element j + 16 above.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    bytes[..16].iter().map(|b| b & 15).chain(bytes[..16].iter().map(|b| b >> 4))
}

fn pair_nibbles(block: &[f32], code: impl Fn(f32) -> u8) -> [u8; 16] {
    std::array::from_fn(|j| code(block[j]).min(15) | code(block[j + 16]).min(15) << 4)
}
