//! Weight formats: how many weights a block holds, in how many bytes, and what they decode to.
//!
//! Block layouts as ggml defines them:
//! <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>.

use super::{fit, k_quants};
use half::{bf16, f16};

/// How weights are stored, in the file and (in another order, see [`super::pack`]) on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(non_camel_case_types, reason = "ggml's own names")]
pub enum WeightFormat {
    F32,
    F16,
    BF16,
    /// 32 weights: f16 scale, 16 bytes of nibbles; `w = d * (q - 8)`.
    Q4_0,
    /// 32 weights: f16 scale, f16 minimum, 16 bytes of nibbles; `w = d * q + m`.
    Q4_1,
    /// 32 weights: f16 scale, 4 bytes of high bits, 16 bytes of nibbles; `w = d * (q - 16)`.
    Q5_0,
    /// 32 weights: f16 scale, f16 minimum, 4 bytes of high bits, 16 bytes of nibbles; `w = d * q + m`.
    Q5_1,
    /// 32 weights: f16 scale, 32 signed bytes; `w = d * q`.
    Q8_0,
    /// 256 weights in 8 blocks with 6-bit scales and minima, 4-bit codes: see [`super::k_quants`].
    Q4_K,
    /// As `Q4_K`, with 5-bit codes.
    Q5_K,
    /// 256 weights in 16 blocks with 8-bit scales, 6-bit codes: see [`super::k_quants`].
    Q6_K,
    /// 128 weights: f16 scale, four times the 16 bytes of nibbles of 32 weights; `w = d * (q - 8)`.
    ///
    /// Ours, for small devices: 4.125 bits a weight. GGUF files hold it under a number of our own.
    Q4_G128,
}

impl WeightFormat {
    /// Every format, the one list that loaders, kernels and tests iterate over.
    pub const ALL: [Self; 12] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::Q4_G128,
    ];

    /// Codes are bytes or less with one scale for 32 of them, so that products of bytes can stand for them.
    pub fn has_bytes(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::Q6_K)
    }

    /// Name as users write it; also the stem of the shader fragment `weight_NAME.wgsl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q4_K => "q4_k",
            Self::Q5_K => "q5_k",
            Self::Q6_K => "q6_k",
            Self::Q4_G128 => "q4_g128",
        }
    }

    /// The format called `name`, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// The names of all formats, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// ggml's number of the tensor type, as GGUF files have it.
    ///
    /// `Q4_G128` is not one of ggml's; its number is far outside ggml's range, so other programs refuse such a file
    /// instead of reading it as something else.
    pub fn ggml_kind(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4_K => 12,
            Self::Q5_K => 13,
            Self::Q6_K => 14,
            Self::BF16 => 30,
            Self::Q4_G128 => 1128,
        }
    }

    /// From ggml's number of a tensor type.
    pub fn from_ggml(kind: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.ggml_kind() == kind)
    }

    /// Weights in one block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4_G128 => 128,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => k_quants::BLOCK_LEN,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
            Self::Q4_G128 => 66,
        }
    }

    /// The format that rows of `columns` weights get where this one is asked for.
    ///
    /// Rows that do not fill blocks of more than 32 weights take a format of 32 that errs no more and has a minimum where
    /// this one has; so does llama.cpp, but for q4_k, where q5_0 costs SmolLM2 4.6 % of perplexity and q5_1 nothing.
    /// Rows that do not fill blocks of 32 either are padded on the device; a file cannot hold them quantised.
    pub fn for_columns(self, columns: usize) -> Self {
        match self {
            _ if columns.is_multiple_of(self.block_len()) => self,
            Self::Q4_K => Self::Q5_1,
            Self::Q5_K => Self::Q5_1,
            Self::Q6_K => Self::Q8_0,
            Self::Q4_G128 => Self::Q4_0,
            _ => self,
        }
    }

    /// Decodes whole blocks. Exact: every result is what the published definition gives in f32.
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
            Self::Q4_0 | Self::Q4_G128 => {
                let scale = half(0);
                let codes = block[2..].chunks_exact(16).flat_map(nibbles);
                out.extend(codes.map(|q| scale * (q as f32 - 8.0)));
            }
            Self::Q4_1 => {
                let (scale, min) = (half(0), half(2));
                out.extend(nibbles(&block[4..]).map(|q| scale * q as f32 + min));
            }
            Self::Q5_0 => {
                let scale = half(0);
                out.extend(five_bits(&block[2..]).map(|q| scale * (q as f32 - 16.0)));
            }
            Self::Q5_1 => {
                let (scale, min) = (half(0), half(2));
                out.extend(five_bits(&block[4..]).map(|q| scale * q as f32 + min));
            }
            Self::Q8_0 => {
                let scale = half(0);
                out.extend(block[2..].iter().map(|&q| scale * q as i8 as f32));
            }
            Self::Q4_K | Self::Q5_K => k_quants::decode_with_minima(self, block, out),
            Self::Q6_K => k_quants::decode_q6(block, out),
        }
    }

    /// Encodes `weights`, a whole number of blocks.
    ///
    /// All search for the scale that errs least (see [`super::fit`]), which on random weights errs a twelfth less than the
    /// block's extremes do.
    pub fn encode(self, weights: &[f32]) -> Vec<u8> {
        assert_eq!(weights.len() % self.block_len(), 0, "whole blocks of {}", self.name());
        let mut out = Vec::with_capacity(weights.len() / self.block_len() * self.block_bytes());
        for block in weights.chunks_exact(self.block_len()) {
            self.encode_block(block, &mut out);
        }
        out
    }

    /// Encodes one block of `Q4_0` or `Q8_0` by its extreme alone, as ggml's reference does, and as shaders do that
    /// quantise in passing.
    pub fn encode_by_extremes(self, block: &[f32; 32]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.block_bytes());
        match self {
            Self::Q4_0 => {
                let scale = fit::extreme(block) / -8.0;
                let inverse = fit::inverse(scale);
                out.extend(f16::from_f32(scale).to_le_bytes());
                // The weight of largest magnitude takes the code 0, which reaches one step further than 15.
                out.extend(pair_nibbles(|i| ((block[i] * inverse + 8.5) as u8).min(15)));
            }
            Self::Q8_0 => {
                let scale = fit::extreme(block).abs() / 127.0;
                let inverse = fit::inverse(scale);
                out.extend(f16::from_f32(scale).to_le_bytes());
                out.extend(block.iter().map(|w| (w * inverse).round() as i8 as u8));
            }
            _ => unreachable!("{self} is not written in passing"),
        }
        out
    }

    fn encode_block(self, block: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(block[0].to_le_bytes()),
            Self::F16 => out.extend(f16::from_f32(block[0]).to_le_bytes()),
            Self::BF16 => out.extend(bf16::from_f32(block[0]).to_le_bytes()),
            Self::Q4_0 | Self::Q4_G128 => {
                let (scale, code) = fit::symmetric_codes(block, 8.0);
                out.extend(scale.to_le_bytes());
                for block in block.chunks_exact(32) {
                    out.extend(pair_nibbles(|i| code(block[i])));
                }
            }
            Self::Q5_0 => {
                let (scale, code) = fit::symmetric_codes(block, 16.0);
                out.extend(scale.to_le_bytes());
                put_five_bits(|i| code(block[i]), out);
            }
            Self::Q4_1 => {
                let (scale, min, code) = fit::affine_codes(block, 15.0);
                out.extend([scale, min].into_iter().flat_map(f16::to_le_bytes));
                out.extend(pair_nibbles(|i| code(block[i])));
            }
            Self::Q5_1 => {
                let (scale, min, code) = fit::affine_codes(block, 31.0);
                out.extend([scale, min].into_iter().flat_map(f16::to_le_bytes));
                put_five_bits(|i| code(block[i]), out);
            }
            Self::Q8_0 => {
                let (scale, code) = fit::eight_bit_codes(block);
                out.extend(scale.to_le_bytes());
                out.extend(block.iter().map(|&w| code(w) as u8));
            }
            Self::Q4_K | Self::Q5_K => k_quants::encode_with_minima(self, block, out),
            Self::Q6_K => k_quants::encode_q6(block, out),
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

fn pair_nibbles(code: impl Fn(usize) -> u8) -> [u8; 16] {
    std::array::from_fn(|j| code(j) & 15 | code(j + 16) << 4)
}

/// The 32 codes of a 5-bit block: a word with element i's high bit at bit i, then the low bits as [`nibbles`].
fn five_bits(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    nibbles(&bytes[4..]).enumerate().map(move |(i, low)| low | ((high >> i & 1) << 4) as u8)
}

fn put_five_bits(code: impl Fn(usize) -> u8, out: &mut Vec<u8>) {
    let high = (0..32).fold(0u32, |high, i| high | (code(i) as u32 >> 4) << i);
    out.extend(high.to_le_bytes());
    out.extend(pair_nibbles(code));
}
