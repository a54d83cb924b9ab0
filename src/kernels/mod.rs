//! What each kernel means: its shader, its bindings by name, its f64 reference; and how a shader is put together.
//!
//! A kernel is in [`ALL`], or in [`measure::PROBES`] if no model runs it, or it does not exist: pipelines, `doctor`, tests
//! and benches iterate over these lists.

mod add_bias;
mod attend;
mod attend_merge;
mod attention;
mod attention_lanes;
mod attention_tiles;
mod cache;
mod choice;
mod embed;
mod embed_norm;
mod expert_groups;
mod expert_matmul_lanes;
mod expert_matmul_tiles;
mod expert_matvec;
mod expert_residual;
mod expert_sum;
mod expert_swiglu;
mod head_norm;
mod layer_norm;
mod matmul_coop;
mod matmul_lanes;
mod matmul_packed;
mod matmul_tiles;
mod matvec;
mod matvec_norm;
mod matvec_residual;
mod matvec_swiglu;
pub mod measure;
mod prompt;
mod quantise;
pub mod reference;
mod rms_norm;
mod rope;
mod route;
mod sample_bins;
mod sample_peaks;
mod sample_pick;
pub mod sampling;
mod swiglu;
mod variant;
mod work;

pub use add_bias::ADD_BIAS;
pub use attend::{ATTEND, HeadShape, Splits};
pub use attend_merge::ATTEND_MERGE;
pub use attention::ATTENTION;
pub use attention_lanes::ATTENTION_LANES;
pub use attention_tiles::ATTENTION_TILES;
pub use cache::{CacheFormat, CacheLayout};
pub use choice::Choice;
pub use embed::EMBED;
pub use embed_norm::EMBED_NORM;
pub use expert_groups::{EXPERT_GROUPS, NOBODY, groups_of};
pub use expert_matmul_lanes::EXPERT_MATMUL_LANES;
pub use expert_matmul_tiles::EXPERT_MATMUL_TILES;
pub use expert_matvec::EXPERT_MATVEC;
pub use expert_residual::EXPERT_RESIDUAL;
pub use expert_sum::EXPERT_SUM;
pub use expert_swiglu::EXPERT_SWIGLU;
pub use head_norm::HEAD_NORM;
pub use layer_norm::LAYER_NORM;
pub use matmul_coop::MATMUL_COOP;
pub use matmul_lanes::MATMUL_LANES;
pub use matmul_packed::MATMUL_PACKED;
pub use matmul_tiles::MATMUL_TILES;
pub use matvec::MATVEC;
pub use matvec_norm::MATVEC_NORM;
pub use matvec_residual::MATVEC_RESIDUAL;
pub use matvec_swiglu::MATVEC_SWIGLU;
pub use prompt::{BatchMapping, Batched, CoopShape, PromptMath, PromptTuning};
pub use quantise::{PACKED_WORDS, QUANTISE, pack_activations, packed_codes, packed_scale};
pub use reference::{Call, Planes};
pub use rms_norm::RMS_NORM;
pub use rope::{ROPE, rope_workgroups};
pub use route::ROUTE;
pub use sample_bins::SAMPLE_BINS;
pub use sample_peaks::SAMPLE_PEAKS;
pub use sample_pick::SAMPLE_PICK;
pub use swiglu::SWIGLU;
pub use variant::{Assembled, AttentionTuning, Tuning, Variant, XSource};
pub use work::{Situation, Unit, Work, work};

/// Every kernel.
pub static ALL: [&Kernel; 33] = [
    &EMBED,
    &EMBED_NORM,
    &RMS_NORM,
    &LAYER_NORM,
    &MATVEC,
    &MATVEC_NORM,
    &MATVEC_RESIDUAL,
    &MATVEC_SWIGLU,
    &MATMUL_LANES,
    &MATMUL_TILES,
    &QUANTISE,
    &MATMUL_PACKED,
    &MATMUL_COOP,
    &ADD_BIAS,
    &HEAD_NORM,
    &ROPE,
    &ATTENTION,
    &ATTEND,
    &ATTEND_MERGE,
    &ATTENTION_LANES,
    &ATTENTION_TILES,
    &SWIGLU,
    &ROUTE,
    &EXPERT_GROUPS,
    &EXPERT_MATVEC,
    &EXPERT_MATMUL_LANES,
    &EXPERT_MATMUL_TILES,
    &EXPERT_SUM,
    &EXPERT_SWIGLU,
    &EXPERT_RESIDUAL,
    &SAMPLE_PEAKS,
    &SAMPLE_BINS,
    &SAMPLE_PICK,
];

/// Every kernel, and the probes that only measure.
pub fn every() -> impl Iterator<Item = &'static Kernel> {
    ALL.into_iter().chain(measure::PROBES)
}

/// One kernel: a WGSL file with one entry point `main`, and its meaning on the CPU.
///
/// Group 0 holds binding 0 `params` (uniform), then `reads`, then `writes`. Group 1, where `weights` says so, holds
/// the planes of one packed matrix (see [`crate::format::pack`]).
#[derive(Debug)]
pub struct Kernel {
    /// Stem of the files, label of pipelines and traces, id in tests.
    pub name: &'static str,
    pub shader: &'static str,
    /// Fields of `Params`, all `u32` or `f32`.
    pub params: &'static [&'static str],
    pub reads: &'static [&'static str],
    pub writes: &'static [&'static str],
    /// Which fragments the shader needs.
    pub needs: Needs,
    /// The same computation in f64, from the same words.
    pub reference: fn(&mut Call<'_>),
    /// Largest allowed `max|a - b| / max|b|` against the reference.
    pub tolerance: f64,
}

/// Fragments of `shaders/lib` that a kernel uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// `weight_FORMAT.wgsl`: a packed matrix in group 1.
    pub weights: bool,
    /// `tile_dots.wgsl`: products with tiles of rows.
    pub tile: bool,
    /// `pair_dots.wgsl`: products with tiles of two matrices.
    pub pair: bool,
    /// `norm_direct.wgsl` or `norm_shared.wgsl`: 1 / rms from sums of squares.
    pub norm: bool,
    /// `lane8.wgsl` or `lane8_shuffle.wgsl`: sums over eight lanes.
    pub lane8: bool,
    /// `key_lane.wgsl` or `key_lanes.wgsl`, and heads of one shape.
    pub heads: bool,
    /// `x_direct.wgsl` or `x_broadcast.wgsl`: activations read block by block.
    pub x: bool,
    /// `eight_direct.wgsl` or `eight_broadcast.wgsl`: quads of eight rows, and with weights their products.
    pub eight: bool,
    /// `staged_product.wgsl`: products through workgroup memory.
    pub staged: bool,
    /// Codes of weights as bytes, which not every format has.
    pub bytes: bool,
    /// `reduce.wgsl` or `reduce_subgroup.wgsl`.
    pub reduce: bool,
    /// `cache_FORMAT.wgsl`: how keys and values are stored.
    pub cache: bool,
    /// `cache_store_plain.wgsl` or `cache_store_groups.wgsl`: how they come there.
    pub cache_store: bool,
    /// Arithmetic in f16, which not every device has.
    pub f16: bool,
    /// Cooperative matrices, which few devices have; their shape is part of the tuning.
    pub coop: bool,
    /// `sampling.wgsl`: what choosing a token means.
    pub sampling: bool,
}

impl Needs {
    const NOTHING: Self = Self {
        weights: false,
        x: false,
        tile: false,
        pair: false,
        norm: false,
        lane8: false,
        heads: false,
        eight: false,
        staged: false,
        bytes: false,
        reduce: false,
        cache: false,
        cache_store: false,
        f16: false,
        coop: false,
        sampling: false,
    };
}

impl Kernel {
    /// The parameter called `name` among `params`, a dispatch's words.
    pub fn param(&self, params: &[u32], name: &str) -> usize {
        let index = self.params.iter().position(|&param| param == name);
        params[index.unwrap_or_else(|| panic!("{} has no `{name}`", self.name))] as usize
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for Kernel {}
