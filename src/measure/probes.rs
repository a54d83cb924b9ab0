//! The probes of a device as dispatches of one plan, and the check that what was timed was done.

use crate::{
    backend::{
        Gpu,
        gpu::{GpuWeights, Memory, Program},
        lockstep,
    },
    error::Result,
    kernels::{
        CacheFormat, Call, Kernel,
        measure::{
            DOT8_OPERATIONS, FLOAT_OPERATIONS, PROBE_COOP, PROBE_COPY, PROBE_DOT8, PROBE_F16, PROBE_F32, PROBE_READ,
            PROBE_SHARED, PROBE_TOUCH, PROBE_WIDTH, SHARED_BYTES, coop_operations, probe_variant,
        },
    },
    placement::Placement,
    plan::{Batch, Content, Dispatch, Extent::Fixed, Plan, Slot},
    random,
    timing::Item,
};
use std::sync::Arc;

/// Words of random content, which memory is filled with again and again.
const CONTENT_WORDS: usize = 1 << 20;
/// Dispatches of which each writes a buffer of its own, so that none waits for another; a buffer that is written again in
/// the same pass would be waited for.
pub(super) const INDEPENDENT: usize = 1024;

/// What a probe measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Bytes that are moved in all, half of them read and half of them written.
    Copy(u64),
    /// Bytes that are read.
    Read(u64),
    F32,
    F16,
    Dot8,
    CooperativeMatrix,
    WorkgroupMemory,
    DependentDispatch,
    IndependentDispatch,
}

/// One way to measure something.
#[derive(Debug)]
pub(super) struct Probe {
    pub kind: Kind,
    pub kernel: &'static Kernel,
    pub item: Item,
    /// Bytes, operations or dispatches of one dispatch.
    pub amount: f64,
}

/// What fits a device and the time that there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Working sets, in bytes; powers of two.
    pub smallest: u64,
    pub largest: u64,
    /// A CPU that plays GPU: little work is enough to fill it.
    pub software: bool,
    /// Nothing but copies.
    pub copies_only: bool,
}

/// Every probe, with the plan, the memory and the program that it runs in.
#[derive(Debug)]
pub(super) struct Probes {
    pub all: Vec<Probe>,
    pub plan: Plan,
    pub memory: Memory,
    pub program: Program,
    content: Vec<u32>,
}

impl Probes {
    /// Allocates memory for every probe and fills it.
    ///
    /// Errors: [`crate::Error::Device`], [`crate::Error::OutOfMemory`].
    pub async fn new(gpu: &Gpu, extent: Extent) -> Result<Self> {
        let mut maker = Maker { gpu, extent, plan: Plan::default(), all: Vec::new() };
        if !extent.copies_only {
            maker.touches();
            maker.arithmetic();
        }
        maker.moves();
        let Maker { plan, all, .. } = maker;
        let weights: Arc<GpuWeights> = Arc::new(gpu.load(&Placement::default(), |_| ()).await?);
        let memory = gpu.allocate(&[&plan], &weights, &[]).await?;
        let program = gpu.program(&plan, &memory, &weights).await?;
        let content: Vec<u32> =
            (0..CONTENT_WORDS as u64 / 4).flat_map(|i| random::bits4(1, i)).map(|bits| bits & 0x3fff_ffff).collect();
        for buffer in plan.buffers.iter().filter(|buffer| buffer.name.starts_with("from")) {
            for first in (0..buffer.bytes as usize / 4).step_by(CONTENT_WORDS) {
                let n = CONTENT_WORDS.min(buffer.bytes as usize / 4 - first);
                gpu.write_at(&memory, &buffer.name, 4 * first as u64, &content[..n]);
            }
        }
        if !extent.copies_only {
            gpu.write(&memory, "start", &start());
        }
        gpu.finished("filling memory").await?;
        Ok(Self { all, plan, memory, program, content })
    }

    /// Whether the last dispatch of a probe has left what its reference says.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn was_done(&self, gpu: &Gpu, probe: &Probe) -> Result<bool> {
        let dispatch = &self.plan.dispatches[*probe.item.dispatches.last().expect("a probe has dispatches")];
        let output = &self.plan.buffers[dispatch.writes[0].0].name;
        let param = |name| dispatch.kernel.param(&dispatch.params, name);
        let through = gpu.read_back(4 * PROBE_WIDTH as u64);
        // The last words that it writes.
        let written = match probe.kind {
            Kind::Copy(_) => 4 * param("n"),
            Kind::Read(_) => param("n_lanes"),
            Kind::DependentDispatch | Kind::IndependentDispatch => return self.counts(gpu).await,
            _ => PROBE_WIDTH * dispatch.grid[0].resolve(ONE) as usize,
        };
        let mut got = vec![0; PROBE_WIDTH.min(written)];
        let first = 4 * (written - got.len()) as u64;
        gpu.read_at(&self.memory, output, first, &through, &mut got).await?;
        let content = |word: usize| self.content[word % self.content.len()];
        let want: Vec<u32> = match probe.kind {
            Kind::Copy(_) => (written - got.len()..written).map(content).collect(),
            Kind::Read(_) => {
                let (n, per_lane) = (param("n"), param("per_lane"));
                let sum = |lane: usize| {
                    let first = lane / PROBE_WIDTH * PROBE_WIDTH * per_lane + lane % PROBE_WIDTH;
                    let units = (0..per_lane).map(|i| (first + i * PROBE_WIDTH) % n * 4);
                    units.flat_map(|at| at..at + 4).fold(0u32, |sum, word| sum.wrapping_add(content(word)))
                };
                (written - got.len()..written).map(sum).collect()
            }
            _ => {
                let mut writes = [vec![0; PROBE_WIDTH]];
                let (params, cache) = (&dispatch.params[..], CacheFormat::F32);
                let reads = [&start()[..]];
                (dispatch.kernel.reference)(&mut Call {
                    params,
                    reads: &reads,
                    writes: &mut writes,
                    planes: None,
                    cache,
                });
                let [want] = writes;
                let float = dispatch.kernel.tolerance > 0.0;
                // Rounding adds up over more steps than the kernel's own test takes.
                let error = || lockstep::difference(bytemuck::cast_slice(&want), bytemuck::cast_slice(&got));
                return Ok(if float { error() <= 10.0 * dispatch.kernel.tolerance } else { want == got });
            }
        };
        Ok(want == got)
    }

    /// Of a chain of dispatches that each add one to the same words, every one has run.
    async fn counts(&self, gpu: &Gpu) -> Result<bool> {
        const N: usize = 100;
        let through = gpu.read_back(16);
        let (mut before, mut after) = ([0], [0]);
        gpu.read(&self.memory, "touched0", &through, &mut before).await?;
        for _ in 0..N {
            gpu.run_one(&self.program, TOUCH, ONE);
        }
        gpu.read(&self.memory, "touched0", &through, &mut after).await?;
        Ok(after[0].wrapping_sub(before[0]) == N as u32)
    }
}

/// Probes know no tokens.
pub(super) const ONE: Batch = Batch { n_tokens: 1, position: 0 };
/// Index of the dispatch that does next to nothing.
pub(super) const TOUCH: usize = 0;

/// What arithmetic begins with: small numbers, none of them zero.
fn start() -> Vec<u32> {
    (0..4 * PROBE_WIDTH as u64).map(|i| (0.25 + random::uniform(2, i)).to_bits()).collect()
}

struct Maker<'a> {
    gpu: &'a Gpu,
    extent: Extent,
    plan: Plan,
    all: Vec<Probe>,
}

impl Maker<'_> {
    fn push(&mut self, kernel: &'static Kernel, params: Vec<u32>, reads: &[Slot], write: Slot, groups: usize) -> usize {
        self.plan.push(Dispatch {
            label: format!("{}{}", kernel.name, self.plan.dispatches.len()),
            kernel,
            variant: probe_variant(kernel, self.gpu.report.coop),
            params,
            reads: reads.to_vec(),
            writes: vec![write],
            weight: None,
            grid: [Fixed(groups as u32), Fixed(1)],
        });
        self.plan.dispatches.len() - 1
    }

    fn probe(&mut self, kind: Kind, kernel: &'static Kernel, dispatches: Vec<usize>, amount: f64) {
        self.all.push(Probe { kind, kernel, item: Item { dispatches, batch: ONE, together: false }, amount });
    }

    fn buffer(&mut self, name: &str, bytes: u64) -> Slot {
        self.plan.buffer(name, bytes, Content::Activation)
    }

    fn touches(&mut self) {
        let all: Vec<usize> = (0..INDEPENDENT)
            .map(|i| {
                let words = self.buffer(&format!("touched{i}"), 256);
                self.push(&PROBE_TOUCH, vec![32, 1], &[], words, 1)
            })
            .collect();
        self.probe(Kind::DependentDispatch, &PROBE_TOUCH, vec![TOUCH], 1.0);
        self.probe(Kind::IndependentDispatch, &PROBE_TOUCH, all, 1.0);
    }

    /// Copies and reads of every working set, each in two ways.
    fn moves(&mut self) {
        let chunk = (128 << 20).min(1 << self.gpu.max_binding_bytes().ilog2());
        let Extent { smallest, largest, software, copies_only } = self.extent;
        // So much is read at least, over and over if need be, for a dispatch's launch to matter little.
        let least: u64 = if software { 1 << 20 } else { 64 << 20 };
        let mut bytes = smallest;
        while bytes <= largest {
            for per_lane in [1, 8] {
                let (half, mut copies) = ((bytes / 2).min(chunk), Vec::new());
                for i in 0..bytes / 2 / half {
                    let (x, y) = (self.buffer(&format!("from{i}"), half), self.buffer(&format!("to{i}"), half));
                    let (n, groups) = (half / 16, (half / 16).div_ceil(256 * per_lane));
                    copies.push(self.push(&PROBE_COPY, vec![n as u32, per_lane as u32], &[x], y, groups as usize));
                }
                self.probe(Kind::Copy(bytes), &PROBE_COPY, copies, 2.0 * half as f64);
            }
            for per_lane in [4u64, 16].into_iter().filter(|_| !copies_only) {
                let (part, mut reads) = (bytes.min(chunk), Vec::new());
                let read = part.max(least.min(chunk));
                let n_lanes = read / 16 / per_lane;
                for i in 0..bytes / part {
                    let (x, y) = (self.buffer(&format!("from{i}"), part), self.buffer("sums", 4 * n_lanes));
                    let params = [n_lanes, part / 16, per_lane].map(|p| p as u32).to_vec();
                    reads.push(self.push(&PROBE_READ, params, &[x], y, n_lanes as usize / PROBE_WIDTH));
                }
                self.probe(Kind::Read(bytes), &PROBE_READ, reads, (read + 4 * n_lanes) as f64);
            }
            bytes *= 4;
        }
    }

    fn arithmetic(&mut self) {
        let groups = if self.extent.software { 16 } else { 4096 };
        let x = self.buffer("start", 16 * PROBE_WIDTH as u64);
        let y = self.buffer("ends", (4 * groups * PROBE_WIDTH) as u64);
        let a = 0.25f32.to_bits();
        let probes: [(Kind, &'static Kernel, [u32; 2], usize); 4] = [
            (Kind::F32, &PROBE_F32, [512, a], FLOAT_OPERATIONS),
            (Kind::F16, &PROBE_F16, [512, a], FLOAT_OPERATIONS),
            (Kind::Dot8, &PROBE_DOT8, [512, 0x0102_fdfc], DOT8_OPERATIONS),
            (Kind::WorkgroupMemory, &PROBE_SHARED, [512, 7], SHARED_BYTES),
        ];
        for (kind, kernel, params, per_step) in probes {
            if kernel.needs.f16 && !self.gpu.report.f16 {
                continue;
            }
            let dispatch = self.push(kernel, params.to_vec(), &[x], y, groups);
            let amount = (groups * PROBE_WIDTH * per_step * params[0] as usize) as f64;
            self.probe(kind, kernel, vec![dispatch], amount);
        }
        if let Some(shape) = self.gpu.report.coop {
            let n_steps = 512;
            let dispatch = self.push(&PROBE_COOP, vec![n_steps, shape.side], &[x], y, groups);
            let amount = (groups * coop_operations(shape) * n_steps as usize) as f64;
            self.probe(Kind::CooperativeMatrix, &PROBE_COOP, vec![dispatch], amount);
        }
    }
}
