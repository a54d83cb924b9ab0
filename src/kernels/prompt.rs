//! How a batch of tokens is worked on: by which kernels, and how much of it each of their workgroups takes.

use super::{
    ATTENTION_LANES, ATTENTION_TILES, EXPERT_MATMUL_LANES, EXPERT_MATMUL_TILES, Kernel, MATMUL_COOP, MATMUL_LANES,
    MATMUL_PACKED, MATMUL_TILES,
};

/// How the products and the attention of a batch are shared among lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BatchMapping {
    /// Tiles of the result belong to workgroups, and what goes into them is staged in workgroup memory: for GPUs.
    Tiles,
    /// Lanes walk whole rows of weights with sums for eight tokens, without barriers: for CPUs that play GPU.
    Lanes,
}

/// How exactly a batch is multiplied by weights; single tokens always are as exactly as `Exact` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptMath {
    /// Activations and sums in f32.
    #[default]
    Exact,
    /// Activations rounded to signed bytes in blocks of 32, for dense products with formats that have bytes; other
    /// formats and experts stay exact. It pays where a device has an instruction for products of bytes, and it moves
    /// the logits: by 4 % of their size with SmolLM2-135M, which a test watches.
    Packed,
    /// Activations and weights rounded to f16 and sums in f32, for dense products on devices with cooperative matrices;
    /// experts stay exact. It pays where a device has units for them.
    Half,
}

/// The cooperative matrices of a device, and the workgroups that use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct CoopShape {
    /// Rows and columns of each matrix: f16 times f16, added up in f32.
    pub side: u32,
    /// Invocations of a workgroup.
    pub lanes: u32,
}

impl CoopShape {
    /// What NVIDIA's and most of AMD's GPUs have, for plans that are shown without a device.
    pub const USUAL: Self = Self { side: 16, lanes: 128 };

    /// The workgroups for matrices of `side` rows and columns, if there is one for them: four subgroups share its work,
    /// however wide a driver that has a choice makes them.
    pub fn of(side: u32, subgroup_size: [u32; 2]) -> Option<Self> {
        let lanes = 4 * subgroup_size[1];
        (matches!(side, 8 | 16) && (32..=256).contains(&lanes)).then_some(Self { side, lanes })
    }
}

impl PromptMath {
    pub const ALL: [Self; 3] = [Self::Exact, Self::Packed, Self::Half];

    /// Name as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Packed => "packed",
            Self::Half => "half",
        }
    }

    /// The one called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|math| math.name() == name)
    }
}

/// The part of a tuning that is for batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PromptTuning {
    pub mapping: BatchMapping,
    /// Quads of tokens that a lane sums in a tiled product, 1 or 2: more need more registers and fewer loads.
    pub token_quads: u32,
    /// Chosen by the user, not by measurement: it changes results.
    pub math: PromptMath,
    /// The device's cooperative matrices, which only `PromptMath::Half` uses.
    pub coop: Option<CoopShape>,
}

/// A kernel of a batch and what each of its workgroups takes.
#[derive(Debug, Clone, Copy)]
pub struct Batched {
    pub kernel: &'static Kernel,
    /// Tokens, or assignments of tokens to one expert.
    pub tokens: u32,
    /// Tiles of 32 rows.
    pub tiles: u32,
}

impl BatchMapping {
    /// Assignments of tokens to one expert that are listed and multiplied together.
    pub fn expert_group(self) -> usize {
        match self {
            Self::Tiles => 64,
            Self::Lanes => 8,
        }
    }
}

impl PromptTuning {
    /// Needs no more registers than small GPUs have.
    pub const TILES: Self = Self { mapping: BatchMapping::Tiles, token_quads: 1, math: PromptMath::Exact, coop: None };
    pub const LARGE_TILES: Self = Self { token_quads: 2, ..Self::TILES };
    pub const LANES: Self = Self { mapping: BatchMapping::Lanes, ..Self::TILES };

    /// The kernel for attention.
    pub fn attention(self) -> Batched {
        match self.mapping {
            BatchMapping::Tiles => Batched { kernel: &ATTENTION_TILES, tokens: 32, tiles: 1 },
            BatchMapping::Lanes => Batched { kernel: &ATTENTION_LANES, tokens: 8, tiles: 1 },
        }
    }

    /// The kernel for a product, where one of lanes takes `tiles`.
    pub fn matmul(self, tiles: u32) -> Batched {
        match self.mapping {
            BatchMapping::Tiles => Batched { kernel: &MATMUL_TILES, tokens: 64, tiles: 2 },
            BatchMapping::Lanes => Batched { kernel: &MATMUL_LANES, tokens: 8, tiles },
        }
    }

    /// The kernel for a product with packed activations.
    pub fn packed_matmul(self) -> Batched {
        Batched { kernel: &MATMUL_PACKED, tokens: 64, tiles: 2 }
    }

    /// The kernel for a product in f16, where that is wanted and the device has matrices for it.
    pub fn half_matmul(self) -> Option<Batched> {
        let CoopShape { side, .. } = self.coop.filter(|_| self.math == PromptMath::Half)?;
        Some(Batched { kernel: &MATMUL_COOP, tokens: 4 * side, tiles: side / 8 })
    }

    /// The kernel for a product with experts, where one of lanes takes `tiles`.
    pub fn expert_matmul(self, tiles: u32) -> Batched {
        let kernel = match self.mapping {
            BatchMapping::Tiles => &EXPERT_MATMUL_TILES,
            BatchMapping::Lanes => &EXPERT_MATMUL_LANES,
        };
        Batched { kernel, tokens: self.mapping.expert_group() as u32, ..self.matmul(tiles) }
    }
}
