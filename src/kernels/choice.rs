//! What can be chosen about one kernel at one shape, beside the tuning that an adapter starts from.

use super::{AttentionTuning, Kernel, PromptTuning, Tuning, Variant, XSource};
use crate::{format::pack::n_tiles, platform};

/// Numbers that one dispatch is built with in place of its tuning's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// How lanes share a tile of rows in a product with one token: see [`Tuning::k_split`] and [`Tuning::tiles`].
    Product { k_split: u32, tiles: u32 },
    /// How lanes and workgroups share the keys of one token's attention: see [`AttentionTuning`].
    Attention { width: u32, four_lanes: bool, split_keys: u32, most_splits: u32 },
    /// Quads of tokens that a lane sums in a tiled product with a batch: see [`PromptTuning::token_quads`].
    Staged { token_quads: u32 },
}

/// Workgroups for each core that a product with one token should have at least where a workgroup is a thread's work, so
/// that no core has nothing to do for long while others finish.
const GROUPS_PER_CORE: usize = 3;
/// More threads than this Mesa's software driver does not start by itself.
const MOST_CORES: usize = 16;
/// [`AttentionTuning::split_keys`] and [`AttentionTuning::most_splits`] that are tried: few heads of keys want many
/// workgroups each, or a large GPU is idle; many heads want few, or putting them together costs more than it brings.
const SPLITS: [[u32; 2]; 4] = [[64, 16], [128, 32], [512, 16], [64, AttentionTuning::MOST_SPLITS]];
/// WebGPU's default limit on invocations.
const MAX_INVOCATIONS: u32 = 256;

impl Choice {
    /// `tuning` with the numbers chosen.
    pub fn apply(self, tuning: Tuning) -> Tuning {
        match self {
            Self::Product { k_split, tiles } => Tuning { k_split, tiles, ..tuning },
            Self::Attention { width, four_lanes, split_keys, most_splits } => {
                // A workgroup that is one subgroup is what the width of software adapters is about; no other width is.
                let one_subgroup = tuning.attention.one_subgroup && width == tuning.attention.width;
                let attention = AttentionTuning { width, four_lanes, one_subgroup, split_keys, most_splits };
                Tuning { attention, ..tuning }
            }
            Self::Staged { token_quads } => Tuning { prompt: PromptTuning { token_quads, ..tuning.prompt }, ..tuning },
        }
    }

    /// What `kernel` can be built with where `tuning` is the rule, that rule first; nothing where there is no choice.
    pub fn candidates(kernel: &Kernel, tuning: Tuning) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |choice: Self| {
            if !all.contains(&choice) {
                all.push(choice);
            }
        };
        if kernel.needs.tile {
            add(Self::Product { k_split: tuning.k_split, tiles: tuning.tiles });
            // Handing activations round keeps lanes busy with rows, not with parts of them.
            let splits: &[u32] = if tuning.x_source == XSource::Broadcast { &[1] } else { &[1, 4, 8, 16, 32] };
            for &k_split in splits {
                for tiles in [1, 2, 3, 4, 6, 8, 16] {
                    let lanes = 8 * k_split * tiles;
                    // A workgroup that leaves most of a subgroup idle is of no use to a GPU, and reductions over a
                    // workgroup halve its width again and again.
                    let halves = k_split == 1 || lanes >= 64 && lanes.is_power_of_two();
                    if lanes <= MAX_INVOCATIONS && halves {
                        add(Self::Product { k_split, tiles });
                    }
                }
            }
        } else if kernel.needs.heads {
            let AttentionTuning { width, four_lanes, split_keys, most_splits, .. } = tuning.attention;
            add(Self::Attention { width, four_lanes, split_keys, most_splits });
            // First each by itself, so that a search that is cut short has seen of both.
            for [split_keys, most_splits] in SPLITS {
                add(Self::Attention { width, four_lanes, split_keys, most_splits });
            }
            for width in [64, 128, 256] {
                for four_lanes in [false, true] {
                    for [split_keys, most_splits] in [[split_keys, most_splits]].into_iter().chain(SPLITS) {
                        if tuning.subgroups || !four_lanes {
                            add(Self::Attention { width, four_lanes, split_keys, most_splits });
                        }
                    }
                }
            }
        } else if kernel.needs.staged {
            add(Self::Staged { token_quads: tuning.prompt.token_quads });
            [1, 2].into_iter().for_each(|token_quads| add(Self::Staged { token_quads }));
        }
        all
    }
}

impl Kernel {
    /// Tells apart what choices are remembered for: the kernel, its formats and heads, and the sizes that time depends on.
    pub fn shape_key(&self, variant: Variant, params: &[u32]) -> Option<String> {
        let formats = [variant.format.map(|f| f.name().to_string()), variant.cache.map(|c| c.name().to_string())];
        let heads = variant.heads.map(|heads| {
            // How the keys are best split depends on how many workgroups the heads are.
            format!("{} heads of keys {}x{}", self.param(params, "part_kv_heads"), heads.sharing, heads.head_dim)
        });
        let sized = self.needs.tile || self.needs.staged;
        let sizes = sized
            .then(|| format!("{} rows of {} blocks", self.param(params, "n_rows"), self.param(params, "n_blocks")));
        if !sized && !self.needs.heads {
            return None;
        }
        let parts = [Some(self.name.to_string())].into_iter().chain(formats).chain([heads, sizes]);
        Some(parts.flatten().collect::<Vec<_>>().join(" "))
    }

    /// `tuning` as this kernel takes it for these sizes, where nothing better is known: on a CPU that plays GPU, few rows
    /// are shared out among more workgroups, or some of its cores would have nothing to do.
    pub fn usual(&self, tuning: Tuning, params: &[u32]) -> Tuning {
        if !self.needs.tile || tuning.k_split > 1 {
            return tuning;
        }
        let groups = GROUPS_PER_CORE * platform::n_cores().clamp(2, MOST_CORES);
        let tiles = n_tiles(self.param(params, "n_rows")) / groups;
        Tuning { tiles: (tiles as u32).clamp(1, tuning.tiles), ..tuning }
    }

    /// Workgroups over the rows of a product, which depend on how it is built; `None` for other kernels.
    pub fn row_groups(&self, tuning: Tuning, params: &[u32]) -> Option<u32> {
        self.needs.tile.then(|| (n_tiles(self.param(params, "n_rows")) as u32).div_ceil(tuning.tiles))
    }
}
