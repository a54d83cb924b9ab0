//! How keys and values lie in the cache: a row per slot, its numbers held in 32, 16, 8 or 4 bits.

use crate::format::WeightFormat;
use half::f16;

/// Numbers of a head that share a scale in the quantised formats. Where 32 does not divide a head, its last group has
/// fewer: it is quantised as if zeros filled it, and the zeros are not stored.
const GROUP: usize = 32;

/// How keys and values are stored in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CacheFormat {
    F32,
    F16,
    /// Signed bytes and an f16 scale per group, as ggml's q8_0.
    Q8_0,
    /// Four bits less 8 and an f16 scale per group, as ggml's q4_0.
    Q4_0,
}

impl CacheFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Q8_0, Self::Q4_0];

    /// Name as users write it; also the stem of the fragment `cache_NAME.wgsl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// The format called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// Groups of numbers share a scale.
    pub fn is_quantised(self) -> bool {
        self.block().is_some()
    }

    /// The block format that a group is quantised as.
    fn block(self) -> Option<WeightFormat> {
        match self {
            Self::F32 | Self::F16 => None,
            Self::Q8_0 => Some(WeightFormat::Q8_0),
            Self::Q4_0 => Some(WeightFormat::Q4_0),
        }
    }
}

/// The keys, or the values, of some heads: (slots, row). A row holds one token: the codes of every head, each head from
/// a word of its own, then the scales of every group, two to a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLayout {
    pub format: CacheFormat,
    pub n_heads: usize,
    /// A multiple of 4.
    pub head_dim: usize,
}

impl CacheLayout {
    /// Bytes of a row.
    pub fn row_bytes(self) -> u64 {
        4 * self.row_words() as u64
    }

    /// Words of a row.
    pub fn row_words(self) -> usize {
        let scales = if self.format.is_quantised() { (self.n_heads * self.n_groups()).div_ceil(2) } else { 0 };
        self.n_heads * self.head_words() + scales
    }

    /// Groups of a head.
    pub fn n_groups(self) -> usize {
        self.head_dim.div_ceil(GROUP)
    }

    fn head_words(self) -> usize {
        match self.format {
            CacheFormat::F32 => self.head_dim,
            CacheFormat::F16 => self.head_dim / 2,
            CacheFormat::Q8_0 => self.head_dim / 4,
            CacheFormat::Q4_0 => self.head_dim.div_ceil(8),
        }
    }

    /// The numbers of one head in one row, decoded.
    pub fn head(self, row: &[u32], head: usize) -> Vec<f64> {
        let codes = &row[head * self.head_words()..][..self.head_words()];
        let number = |d: usize| match self.format {
            CacheFormat::F32 => f32::from_bits(codes[d]) as f64,
            CacheFormat::F16 => f16::from_bits((codes[d / 2] >> (d % 2 * 16)) as u16).to_f64(),
            CacheFormat::Q8_0 => (codes[d / 4] >> (d % 4 * 8)) as u8 as i8 as f64 * self.scale(row, head, d / GROUP),
            CacheFormat::Q4_0 => ((codes[d / 8] >> (d % 8 * 4) & 15) as f64 - 8.0) * self.scale(row, head, d / GROUP),
        };
        (0..self.head_dim).map(number).collect()
    }

    /// The scale of a group in a quantised format.
    pub fn scale(self, row: &[u32], head: usize, group: usize) -> f64 {
        let index = head * self.n_groups() + group;
        let word = row[self.n_heads * self.head_words() + index / 2];
        f16::from_bits((word >> (index % 2 * 16)) as u16).to_f64()
    }

    /// Stores the numbers of one head in one row. They pass through f32, as the GPU has them before it rounds.
    pub fn set_head(self, row: &mut [u32], head: usize, values: &[f64]) {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        let codes = &mut row[head * self.head_words()..][..self.head_words()];
        let Some(block) = self.format.block() else {
            let bytes = match self.format {
                CacheFormat::F32 => WeightFormat::F32.encode(&values),
                _ => WeightFormat::F16.encode(&values),
            };
            codes.copy_from_slice(&bytemuck::pod_collect_to_vec::<u8, u32>(&bytes));
            return;
        };
        codes.fill(0);
        let mut scales = Vec::new();
        for (group, numbers) in values.chunks(GROUP).enumerate() {
            let mut padded = [0f32; GROUP];
            padded[..numbers.len()].copy_from_slice(numbers);
            let bytes = block.encode_by_extremes(&padded);
            scales.push(u16::from_le_bytes([bytes[0], bytes[1]]) as u32);
            for d in 0..GROUP {
                let (code, per_word) = match block {
                    WeightFormat::Q8_0 => (bytes[2 + d] as u32, 4),
                    _ => (bytes[2 + d % 16] as u32 >> (d / 16 * 4) & 15, 8),
                };
                // A padding zero's code may fill up the last word; there is none for it beyond.
                if let Some(word) = codes.get_mut((group * GROUP + d) / per_word) {
                    *word |= code << (d % per_word * (32 / per_word));
                }
            }
        }
        for (group, scale) in scales.into_iter().enumerate() {
            let index = head * self.n_groups() + group;
            let word = &mut row[self.n_heads * self.head_words() + index / 2];
            *word = *word & !(0xffff << (index % 2 * 16)) | scale << (index % 2 * 16);
        }
    }
}
