//! A kernel's variant (formats, capabilities, numbers) and the WGSL text that it is assembled from.

use super::{CacheFormat, CoopShape, HeadShape, Kernel, Needs, PromptTuning};
use crate::{format::WeightFormat, platform};

/// How a matrix kernel's lanes come by the activations, 32 at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum XSource {
    /// Each lane loads all of them: right for GPUs, whose caches serve one address to many lanes at once.
    Direct,
    /// Eight lanes load a quarter each and hand it round: right where every lane's load is paid for one by one and
    /// subgroups are eight lanes wide (lavapipe: some three times faster than `Direct` on four tokens).
    Broadcast,
}

/// The numbers of the kernels for one token's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttentionTuning {
    /// Invocations per workgroup.
    pub width: u32,
    /// A workgroup is one subgroup of exactly eight lanes, which keeps eight keys in registers.
    pub one_subgroup: bool,
    /// Four lanes share a key; needs subgroups.
    pub four_lanes: bool,
    /// Keys that are not worth a second workgroup for their head.
    pub split_keys: u32,
    /// Most workgroups for one head of keys, up to [`Self::MOST_SPLITS`].
    pub most_splits: u32,
}

impl AttentionTuning {
    /// What plans have room for.
    pub const MOST_SPLITS: u32 = 64;
}

/// The numbers and capabilities that an adapter wants its kernels built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuning {
    /// Invocations per workgroup of kernels that reduce over a workgroup.
    pub reduce_width: u32,
    /// Reduce through subgroup operations.
    pub subgroups: bool,
    /// Eight neighbouring lanes are in one subgroup.
    pub lane8: bool,
    /// Lane groups of a matrix-vector product that share a tile of rows by splitting its columns.
    pub k_split: u32,
    /// Tiles of rows per workgroup, in matrix-vector and matrix-matrix products.
    pub tiles: u32,
    pub x_source: XSource,
    pub attention: AttentionTuning,
    pub prompt: PromptTuning,
}

impl Tuning {
    /// Runs everywhere: WebGPU's default limits, no optional feature.
    pub const BASELINE: Self = Self {
        reduce_width: 64,
        subgroups: false,
        lane8: false,
        k_split: 8,
        tiles: 1,
        x_source: XSource::Direct,
        attention: AttentionTuning {
            width: 128,
            one_subgroup: false,
            four_lanes: false,
            split_keys: 256,
            most_splits: 16,
        },
        prompt: PromptTuning::TILES,
    };

    /// For a CPU that plays GPU: no barrier pays, so a thread sums whole rows.
    pub const SOFTWARE: Self = Self {
        k_split: 1,
        tiles: 8,
        attention: AttentionTuning { width: 64, ..Self::BASELINE.attention },
        prompt: PromptTuning::LANES,
        ..Self::BASELINE
    };

    /// Every tuning that an adapter with these abilities can run; the first is the baseline. `subgroup_size` is the
    /// smallest and the largest, where there are subgroups of four lanes or more.
    pub fn candidates(subgroup_size: Option<[u32; 2]>) -> Vec<Self> {
        let mut all = vec![Self::BASELINE, Self::SOFTWARE];
        if let Some([min, max]) = subgroup_size {
            let attention = AttentionTuning { four_lanes: true, ..Self::BASELINE.attention };
            let prompt = PromptTuning::LARGE_TILES;
            all.push(Self { subgroups: true, lane8: min >= 8, k_split: 16, attention, prompt, ..Self::BASELINE });
            if [min, max] == [8, 8] {
                let attention = AttentionTuning { width: 8, one_subgroup: true, ..Self::SOFTWARE.attention };
                let x_source = XSource::Broadcast;
                all.push(Self { subgroups: true, lane8: true, x_source, attention, ..Self::SOFTWARE });
            }
        }
        all
    }
}

/// What one pipeline is specialised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    pub format: Option<WeightFormat>,
    pub cache: Option<CacheFormat>,
    pub heads: Option<HeadShape>,
    pub tuning: Tuning,
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.format.map(|format| format.name().to_string()));
        parts.extend(self.cache.map(|cache| format!("cache {}", cache.name())));
        parts.extend(self.heads.map(|heads| format!("heads {}x{}", heads.sharing, heads.head_dim)));
        let Tuning { reduce_width, subgroups, lane8, k_split, tiles, x_source, attention, prompt } = self.tuning;
        parts.push(format!("width {reduce_width} split {k_split} tiles {tiles}"));
        parts.extend(subgroups.then(|| "subgroups".to_string()));
        parts.extend(lane8.then(|| "lane8".to_string()));
        parts.extend((prompt.token_quads > 1).then(|| "two quads of tokens".to_string()));
        parts.extend(prompt.coop.map(|CoopShape { side, lanes }| format!("{side}x{side} matrices, {lanes} lanes")));
        parts.extend((x_source == XSource::Broadcast).then(|| "broadcast".to_string()));
        parts.extend(attention.one_subgroup.then(|| "one subgroup".to_string()));
        parts.extend(attention.four_lanes.then(|| "four lanes a key".to_string()));
        f.write_str(&parts.join(", "))
    }
}

/// A whole shader, and where each of its lines came from.
#[derive(Debug, Clone)]
pub struct Assembled {
    pub wgsl: String,
    /// `(file, first line in wgsl)` of each part, in order; lines count from 1.
    pub parts: Vec<(String, usize)>,
    /// Set when the text uses subgroup operations.
    pub subgroups: bool,
}

impl Assembled {
    /// The file and line that `line` of the assembled text came from.
    pub fn origin(&self, line: usize) -> (&str, usize) {
        let part = self.parts.iter().rev().find(|part| part.1 <= line).unwrap_or(&self.parts[0]);
        (&part.0, line + 1 - part.1)
    }
}

/// What a kernel takes of a tuning, as far as its text differs by it.
struct Ways {
    broadcast: bool,
    shared_norm: bool,
    eight_keys: bool,
    reduces: bool,
    four_lanes: bool,
    lane8: bool,
    /// The text uses subgroup operations.
    subgroups: bool,
}

impl Ways {
    fn of(needs: Needs, tuning: Tuning) -> Self {
        let broadcast = (needs.x || needs.eight) && tuning.x_source == XSource::Broadcast;
        let shared_norm = needs.norm && tuning.k_split > 1;
        let eight_keys = needs.heads && tuning.attention.one_subgroup;
        let reduces = needs.reduce && !eight_keys || shared_norm;
        let four_lanes = needs.heads && tuning.attention.four_lanes;
        let lane8 = needs.lane8 && tuning.lane8;
        let subgroups = broadcast || reduces && tuning.subgroups || eight_keys || four_lanes || lane8 || needs.coop;
        Self { broadcast, shared_norm, eight_keys, reduces, four_lanes, lane8, subgroups }
    }
}

impl Kernel {
    /// This kernel as WGSL text for `variant`: `enable` lines, numbers, the kernel's file, its fragments.
    ///
    /// Linking is concatenation: WGSL lets a function be used before it is declared.
    pub fn assemble(&self, variant: Variant) -> Assembled {
        let ways = Ways::of(self.needs, variant.tuning);
        let own = [("numbers".into(), self.head(variant, &ways)), (format!("{}.wgsl", self.name), self.shader.into())];
        let mut names = self.weight_fragments(variant, &ways);
        names.extend(self.attention_fragments(variant, &ways));
        if self.needs.lane8 {
            names.push(if ways.lane8 { "lane8_shuffle".into() } else { "lane8".into() });
        }
        if ways.reduces {
            names.push(if variant.tuning.subgroups { "reduce_subgroup".into() } else { "reduce".into() });
        }
        if self.needs.sampling {
            names.push("sampling".into());
        }
        let fragments = names.into_iter().map(|name| (format!("lib/{name}.wgsl"), fragment(&name).to_string()));
        let mut assembled = Assembled { wgsl: String::new(), parts: Vec::new(), subgroups: ways.subgroups };
        for (name, text) in own.into_iter().chain(fragments) {
            assembled.parts.push((name, assembled.wgsl.lines().count() + 1));
            assembled.wgsl.push_str(&text);
        }
        assembled
    }

    /// What comes before the kernel's file: `enable` lines and numbers.
    fn head(&self, variant: Variant, ways: &Ways) -> String {
        let Tuning { reduce_width, k_split, tiles, prompt, .. } = variant.tuning;
        let enable = if ways.subgroups { platform::ENABLE_SUBGROUPS } else { "" };
        let half = if self.needs.f16 { "enable f16;\n" } else { "" };
        let mut head = format!(
            "{enable}{half}const WIDTH = {reduce_width}u;\nconst K_SPLIT = {k_split}u;\nconst TILES = {tiles}u;\n"
        );
        if self.needs.staged || self.needs.bytes {
            head.push_str(&format!("const TOKEN_QUADS = {}u;\n", prompt.token_quads));
        }
        if self.needs.coop {
            let CoopShape { side, lanes } = prompt.coop.expect("a kernel with cooperative matrices needs their shape");
            head.insert_str(0, "enable wgpu_cooperative_matrix;\n");
            head.push_str(&format!("const SIDE = {side}u;\nconst LANES = {lanes}u;\n"));
            for (name, number, role) in [("Tokens", "f16", "A"), ("Rows", "f16", "B"), ("Sums", "f32", "C")] {
                head.push_str(&format!("alias {name} = coop_mat{side}x{side}<{number}, {role}>;\n"));
            }
        }
        if let Some(heads) = variant.heads {
            let HeadShape { head_dim, sharing } = heads;
            head.push_str(&format!("const HEAD_DIM = {head_dim}u;\nconst HEADS = {sharing}u;\n"));
            head.push_str(&format!("const TILE = {}u;\nconst PARTS = {}u;\n", heads.tile(), heads.parts(reduce_width)));
        }
        head
    }

    /// The fragments about weights, and about what they are multiplied by.
    fn weight_fragments(&self, variant: Variant, ways: &Ways) -> Vec<String> {
        let (needs, mut names) = (self.needs, Vec::new());
        if needs.weights {
            let format = variant.format.expect("a kernel with weights needs their format");
            names.push(format!("weight_{}", format.name()));
            match format {
                WeightFormat::Q4_0 | WeightFormat::Q4_1 | WeightFormat::Q4_K | WeightFormat::Q4_G128 => {
                    names.push("codes_4".into());
                }
                WeightFormat::Q5_0 | WeightFormat::Q5_1 | WeightFormat::Q5_K => names.push("codes_5".into()),
                // The others' fragments are the only ones with codes of their width.
                _ => {}
            }
            if matches!(format, WeightFormat::Q4_K | WeightFormat::Q5_K) {
                names.push("k_scales".into());
            }
            if format.scale_words() > 0 {
                names.push("half".into());
            }
        }
        let norm = match (ways.shared_norm, ways.broadcast) {
            (true, _) => "norm_shared",
            (false, true) => "norm_eight",
            (false, false) => "norm_direct",
        };
        let eight = needs.weights && needs.eight;
        let wanted = [
            (needs.weights && needs.x, "products"),
            (needs.x, if ways.broadcast { "x_broadcast" } else { "x_direct" }),
            (needs.tile, "tile_dots"),
            (needs.pair, "pair_dots"),
            (needs.norm, norm),
            (eight || needs.weights && (needs.staged || needs.coop), "dequantise"),
            (eight, "products_eight"),
            (needs.staged, "staged_product"),
            (needs.eight, if ways.broadcast { "eight_broadcast" } else { "eight_direct" }),
        ];
        names.extend(wanted.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, name)| name.to_string()));
        names
    }

    /// The fragments about keys and values.
    fn attention_fragments(&self, variant: Variant, ways: &Ways) -> Vec<String> {
        let (needs, mut names) = (self.needs, Vec::new());
        if needs.heads {
            names.push(if ways.eight_keys { "keys_eight".into() } else { "keys_tiled".into() });
            if !ways.eight_keys {
                names.push(if ways.four_lanes { "key_lanes".into() } else { "key_lane".into() });
            }
        }
        if needs.cache {
            let cache = variant.cache.expect("a kernel with a cache needs its format");
            let kind = if cache.is_quantised() { "groups" } else { "plain" };
            names.push(format!("cache_{}", cache.name()));
            names.extend(needs.heads.then(|| format!("cache_append_{kind}")));
            names.extend(needs.cache_store.then(|| format!("cache_store_{kind}")));
        }
        names
    }

    /// This kernel's part of a variant: what it does not use is left out, so that equal shaders compare equal.
    pub fn variant(&self, of: Variant) -> Variant {
        let (needs, tuning) = (self.needs, of.tuning);
        let mut own = Tuning::BASELINE;
        if needs.x {
            (own.k_split, own.tiles, own.x_source) = (tuning.k_split, tuning.tiles, tuning.x_source);
        }
        if needs.reduce {
            (own.reduce_width, own.subgroups) = (tuning.reduce_width, tuning.subgroups);
        }
        if needs.norm && tuning.k_split > 1 {
            (own.reduce_width, own.subgroups) = (8 * tuning.k_split * tuning.tiles, tuning.subgroups);
        }
        if needs.lane8 {
            own.lane8 = tuning.lane8;
        }
        if needs.heads {
            own.reduce_width = tuning.attention.width;
            let AttentionTuning { one_subgroup, four_lanes, .. } = tuning.attention;
            // The splits of keys are parameters, and the width is there already.
            own.attention = AttentionTuning { one_subgroup, four_lanes, ..own.attention };
        }
        if needs.eight {
            own.x_source = tuning.x_source;
        }
        if needs.eight && needs.weights {
            own.tiles = tuning.tiles;
        }
        if needs.staged || needs.bytes {
            own.prompt.token_quads = tuning.prompt.token_quads;
        }
        if needs.coop {
            own.prompt.coop = tuning.prompt.coop;
        }
        Variant {
            format: of.format.filter(|_| needs.weights),
            cache: of.cache.filter(|_| needs.cache),
            heads: of.heads.filter(|_| needs.heads),
            tuning: own,
        }
    }

    /// Every variant under `tunings`, each shader once; none where they have no cooperative matrices and the kernel is
    /// made of them.
    pub fn variants(&self, tunings: &[Tuning]) -> Vec<Variant> {
        fn each<T: Copy>(needed: bool, all: &[T]) -> Vec<Option<T>> {
            if needed { all.iter().copied().map(Some).collect() } else { vec![None] }
        }
        let mut all = Vec::new();
        for format in each(self.needs.weights, &WeightFormat::ALL) {
            if self.needs.bytes && !format.is_some_and(WeightFormat::has_bytes) {
                continue;
            }
            for cache in each(self.needs.cache, &CacheFormat::ALL) {
                for heads in each(self.needs.heads, &HeadShape::TESTED) {
                    for &tuning in tunings.iter().filter(|tuning| tuning.prompt.coop.is_some() || !self.needs.coop) {
                        let variant = self.variant(Variant { format, cache, heads, tuning });
                        if !all.contains(&variant) {
                            all.push(variant);
                        }
                    }
                }
            }
        }
        all
    }
}

/// The fragments, by stem.
fn fragment(name: &str) -> &'static str {
    match name {
        "weight_f32" => include_str!("../../shaders/lib/weight_f32.wgsl"),
        "weight_f16" => include_str!("../../shaders/lib/weight_f16.wgsl"),
        "weight_bf16" => include_str!("../../shaders/lib/weight_bf16.wgsl"),
        "weight_q4_0" => include_str!("../../shaders/lib/weight_q4_0.wgsl"),
        "weight_q4_1" => include_str!("../../shaders/lib/weight_q4_1.wgsl"),
        "weight_q5_0" => include_str!("../../shaders/lib/weight_q5_0.wgsl"),
        "weight_q5_1" => include_str!("../../shaders/lib/weight_q5_1.wgsl"),
        "weight_q8_0" => include_str!("../../shaders/lib/weight_q8_0.wgsl"),
        "products" => include_str!("../../shaders/lib/products.wgsl"),
        "weight_q4_k" => include_str!("../../shaders/lib/weight_q4_k.wgsl"),
        "weight_q5_k" => include_str!("../../shaders/lib/weight_q5_k.wgsl"),
        "weight_q6_k" => include_str!("../../shaders/lib/weight_q6_k.wgsl"),
        "weight_q4_g128" => include_str!("../../shaders/lib/weight_q4_g128.wgsl"),
        "k_scales" => include_str!("../../shaders/lib/k_scales.wgsl"),
        "codes_4" => include_str!("../../shaders/lib/codes_4.wgsl"),
        "codes_5" => include_str!("../../shaders/lib/codes_5.wgsl"),
        "half" => include_str!("../../shaders/lib/half.wgsl"),
        "x_direct" => include_str!("../../shaders/lib/x_direct.wgsl"),
        "x_broadcast" => include_str!("../../shaders/lib/x_broadcast.wgsl"),
        "staged_product" => include_str!("../../shaders/lib/staged_product.wgsl"),
        "dequantise" => include_str!("../../shaders/lib/dequantise.wgsl"),
        "products_eight" => include_str!("../../shaders/lib/products_eight.wgsl"),
        "eight_direct" => include_str!("../../shaders/lib/eight_direct.wgsl"),
        "eight_broadcast" => include_str!("../../shaders/lib/eight_broadcast.wgsl"),
        "reduce" => include_str!("../../shaders/lib/reduce.wgsl"),
        "reduce_subgroup" => include_str!("../../shaders/lib/reduce_subgroup.wgsl"),
        "cache_f32" => include_str!("../../shaders/lib/cache_f32.wgsl"),
        "cache_f16" => include_str!("../../shaders/lib/cache_f16.wgsl"),
        "cache_q8_0" => include_str!("../../shaders/lib/cache_q8_0.wgsl"),
        "cache_q4_0" => include_str!("../../shaders/lib/cache_q4_0.wgsl"),
        "cache_store_plain" => include_str!("../../shaders/lib/cache_store_plain.wgsl"),
        "cache_store_groups" => include_str!("../../shaders/lib/cache_store_groups.wgsl"),
        "pair_dots" => include_str!("../../shaders/lib/pair_dots.wgsl"),
        "tile_dots" => include_str!("../../shaders/lib/tile_dots.wgsl"),
        "norm_eight" => include_str!("../../shaders/lib/norm_eight.wgsl"),
        "norm_direct" => include_str!("../../shaders/lib/norm_direct.wgsl"),
        "norm_shared" => include_str!("../../shaders/lib/norm_shared.wgsl"),
        "lane8" => include_str!("../../shaders/lib/lane8.wgsl"),
        "lane8_shuffle" => include_str!("../../shaders/lib/lane8_shuffle.wgsl"),
        "keys_tiled" => include_str!("../../shaders/lib/keys_tiled.wgsl"),
        "keys_eight" => include_str!("../../shaders/lib/keys_eight.wgsl"),
        "key_lane" => include_str!("../../shaders/lib/key_lane.wgsl"),
        "key_lanes" => include_str!("../../shaders/lib/key_lanes.wgsl"),
        "cache_append_plain" => include_str!("../../shaders/lib/cache_append_plain.wgsl"),
        "cache_append_groups" => include_str!("../../shaders/lib/cache_append_groups.wgsl"),
        "sampling" => include_str!("../../shaders/lib/sampling.wgsl"),
        _ => unreachable!("no fragment `{name}`"),
    }
}
