//! A plan: the flat list of dispatches that one step runs, over named buffers. Recorded once, run per step.

use crate::kernels::{AttentionTuning, Kernel, Splits, Tuning, Variant};
use std::fmt;

/// An activation, cache or result buffer, by its index in [`Plan::buffers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// One part of a packed matrix, by its index in the placement's list (`model::Placement`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightSlot(pub usize);

/// A named buffer. Plans of one session share buffers by name; the largest size asked for wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    pub name: String,
    pub bytes: u64,
    pub content: Content,
}

/// What a buffer holds, and so who fills it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The step: written by the CPU before each run.
    Step,
    /// Results of dispatches.
    Activation,
    /// Keys or values that live from step to step.
    Cache,
    /// Constants: norm weights and biases, by index in the placement's list of vectors.
    Vector(usize),
    /// Constants: the cosines and sines of every position.
    Angles,
}

/// The tokens that one run processes: how many, and where the first of them is in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub n_tokens: usize,
    pub position: usize,
}

/// How many workgroups: fixed, or so many that each takes `per` of the batch's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Fixed(u32),
    PerTokens(u32),
    /// Each takes `of` of the batch's assignments of a token to one of its `per_token` experts; `plus` more.
    PerAssignments {
        per_token: u32,
        of: u32,
        plus: u32,
    },
    /// One for each split of the keys.
    PerSplit(Splits),
    /// So many if the keys are split, else none: the dispatch is then left out.
    IfSplit(u32, Splits),
}

impl Extent {
    /// Workgroups for a batch.
    pub fn resolve(self, batch: Batch) -> u32 {
        let n_tokens = batch.n_tokens as u32;
        match self {
            Extent::Fixed(n) => n,
            Extent::PerTokens(per) => n_tokens.div_ceil(per),
            Extent::PerAssignments { per_token, of, plus } => (n_tokens * per_token).div_ceil(of) + plus,
            Extent::PerSplit(splits) => splits.at(batch.position),
            Extent::IfSplit(n, splits) => n * (splits.at(batch.position) > 1) as u32,
        }
    }
}

/// Workgroups in x and y.
pub type Grid = [Extent; 2];

/// One kernel run: what it reads and writes, with which parameters, over which grid.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// Unique within a plan, such as `layer0.attn_qkv`.
    pub label: String,
    pub kernel: &'static Kernel,
    pub variant: Variant,
    /// Words of the kernel's `Params`, in order.
    pub params: Vec<u32>,
    pub reads: Vec<Slot>,
    pub writes: Vec<Slot>,
    pub weight: Option<WeightSlot>,
    pub grid: Grid,
}

impl Dispatch {
    /// The same work by a kernel that is built in another way.
    pub fn retuned(&self, tuning: Tuning) -> Self {
        let mut other = self.clone();
        other.variant = self.kernel.variant(Variant { tuning, ..self.variant });
        if let Some(groups) = self.kernel.row_groups(tuning, &self.params) {
            other.grid[0] = Extent::Fixed(groups);
        }
        let AttentionTuning { split_keys, most_splits, .. } = tuning.attention;
        for (name, number) in [("split_keys", split_keys), ("most_splits", most_splits)] {
            if let Some(index) = self.kernel.params.iter().position(|&param| param == name) {
                other.params[index] = number;
            }
        }
        let split = |splits| Splits { keys: split_keys, most: most_splits, ..splits };
        other.grid = other.grid.map(|extent| match extent {
            Extent::PerSplit(splits) => Extent::PerSplit(split(splits)),
            Extent::IfSplit(n, splits) => Extent::IfSplit(n, split(splits)),
            fixed => fixed,
        });
        other
    }
}

/// Dispatches in order, and the buffers that they name.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub buffers: Vec<Buffer>,
    pub dispatches: Vec<Dispatch>,
    /// Where the CPU must step in, in order.
    pub stops: Vec<Stop>,
}

/// Dispatches that use experts of which the device holds some only. Before them the CPU reads `ids`, fetches experts,
/// and writes slots in the ids' place; where not all fit at once, it runs the dispatches several times, each time for
/// some of the experts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Index in the placement's list of pools.
    pub pool: usize,
    /// Indices in [`Plan::dispatches`].
    pub dispatches: std::ops::Range<usize>,
    /// (tokens, n_used)
    pub ids: Slot,
    pub n_used: usize,
}

impl Plan {
    /// The buffer called `name`, made if it is new.
    pub fn buffer(&mut self, name: &str, bytes: u64, content: Content) -> Slot {
        // As devices allocate: sizes then add up to what a plan takes there.
        let bytes = bytes.next_multiple_of(16);
        if let Some(slot) = self.find(name) {
            let buffer = &mut self.buffers[slot.0];
            assert_eq!(buffer.content, content, "buffer `{name}` has one content");
            buffer.bytes = buffer.bytes.max(bytes);
            return slot;
        }
        self.buffers.push(Buffer { name: name.into(), bytes, content });
        Slot(self.buffers.len() - 1)
    }

    /// The buffer called `name`.
    pub fn find(&self, name: &str) -> Option<Slot> {
        self.buffers.iter().position(|buffer| buffer.name == name).map(Slot)
    }

    /// Appends a dispatch after checking it against its kernel's contract.
    pub fn push(&mut self, dispatch: Dispatch) {
        let Dispatch { label, kernel, params, reads, writes, weight, .. } = &dispatch;
        assert_eq!(params.len(), kernel.params.len(), "{label}: params of {}", kernel.name);
        assert_eq!(reads.len(), kernel.reads.len(), "{label}: reads of {}", kernel.name);
        assert_eq!(writes.len(), kernel.writes.len(), "{label}: writes of {}", kernel.name);
        assert_eq!(weight.is_some(), kernel.needs.weights, "{label}: weights of {}", kernel.name);
        // WebGPU: a buffer that is bound for writing has no other use in the same dispatch.
        let slots: Vec<_> = reads.iter().chain(writes).collect();
        for (i, slot) in slots.iter().enumerate().skip(reads.len()) {
            assert!(!slots[..i].contains(slot), "{label}: `{}` is written and used", self.buffers[slot.0].name);
        }
        self.dispatches.push(dispatch);
    }

    /// Bytes of all buffers with this content.
    pub fn bytes(&self, content: impl Fn(&Content) -> bool) -> u64 {
        self.buffers.iter().filter(|buffer| content(&buffer.content)).map(|buffer| buffer.bytes).sum()
    }
}

impl fmt::Display for Plan {
    /// One line per dispatch: `001 layer0.attn_qkv  matvec q4_1 (normed) -> qkv  grid [3, 1]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |slots: &[Slot]| slots.iter().map(|slot| self.buffers[slot.0].name.as_str()).collect::<Vec<_>>().join(", ");
        for (i, d) in self.dispatches.iter().enumerate() {
            let grid = d.grid.map(|extent| match extent {
                Extent::Fixed(n) => n.to_string(),
                Extent::PerTokens(1) => "tokens".into(),
                Extent::PerTokens(per) => format!("tokens/{per}"),
                Extent::PerAssignments { per_token, of: 1, plus: 0 } => format!("tokens*{per_token}"),
                Extent::PerAssignments { per_token, of, plus } => format!("tokens*{per_token}/{of}+{plus}"),
                Extent::PerSplit(splits) => format!("keys/{}", splits.keys),
                Extent::IfSplit(n, splits) => format!("{n} if keys > {}", splits.keys),
            });
            let format = d.variant.format.map_or("", |format| format.name());
            let (reads, writes) = (names(&d.reads), names(&d.writes));
            writeln!(
                f,
                "{i:03} {:<22} {:<13} {format:<5} ({reads}) -> {writes}  grid [{}]",
                d.label,
                d.kernel.name,
                grid.join(", ")
            )?;
        }
        Ok(())
    }
}
