//! Experts of which the device holds some and host memory all: which is where, what is fetched, what it costs.

use super::{
    device::Gpu,
    memory::{GpuWeights, Memory, Place},
    submit::{Program, ReadBack},
};
use crate::{
    backend::load,
    error::Result,
    kernels::NOBODY,
    placement::{ExpertPart, Placement},
    plan::{Batch, WeightSlot},
    platform::now_s,
};

/// How often experts were found on the device, and what fetching the others cost.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct ExpertStats {
    /// Experts that a layer needed for a token or a batch and that were there.
    pub n_hits: u64,
    /// Those that were not.
    pub n_fetched: u64,
    pub fetched_bytes: u64,
    /// Spent on copying them to the device's queue.
    pub fetch_s: f64,
}

impl ExpertStats {
    /// The share of needed experts that were there, from 0 to 1; `None` before any was needed.
    pub fn hit_rate(&self) -> Option<f64> {
        let needed = self.n_hits + self.n_fetched;
        (needed > 0).then(|| self.n_hits as f64 / needed as f64)
    }
}

/// Every pool of a model.
#[derive(Debug, Default)]
pub(super) struct ExpertPools {
    pools: Vec<Pool>,
    pub stats: ExpertStats,
}

/// One layer's experts.
#[derive(Debug)]
struct Pool {
    residents: Residents,
    runs: Vec<Run>,
}

/// Rows that every expert has: their places in each slot, their words for each expert.
#[derive(Debug)]
struct Run {
    slots: Vec<[Place; 2]>,
    experts: Vec<[Vec<u32>; 2]>,
}

/// Which expert each slot holds, and when it was last used.
#[derive(Debug, Clone)]
pub struct Residents {
    experts: Vec<u32>,
    last_used: Vec<u64>,
    clock: u64,
}

/// Experts that fit the device together: slots to fill, then the ids with slots in the place of experts, and
/// [`NOBODY`] where another round has the expert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// (expert, slot)
    pub fetch: Vec<(usize, usize)>,
    pub slots: Vec<u32>,
    pub n_hits: usize,
}

impl Residents {
    /// Slot `i` holds expert `i`.
    pub fn new(n_slots: usize) -> Self {
        Self { experts: (0..n_slots as u32).collect(), last_used: vec![0; n_slots], clock: 0 }
    }

    /// Plans how the experts in `ids` come to the device, as many at a time as there are slots; those that are there
    /// already come first, and the least recently used make way.
    pub fn rounds(&mut self, ids: &[u32]) -> Vec<Round> {
        let mut needed: Vec<u32> = Vec::new();
        for id in ids {
            if !needed.contains(id) {
                needed.push(*id);
            }
        }
        needed.sort_by_key(|id| !self.experts.contains(id));
        let mut rounds = Vec::new();
        for together in needed.chunks(self.experts.len()) {
            self.clock += 1;
            let mut round = Round { fetch: Vec::new(), slots: vec![NOBODY; ids.len()], n_hits: 0 };
            for id in together {
                if let Some(slot) = self.experts.iter().position(|expert| expert == id) {
                    self.last_used[slot] = self.clock;
                    round.n_hits += 1;
                }
            }
            for id in together {
                let slot = self.experts.iter().position(|expert| expert == id).unwrap_or_else(|| {
                    let slots = 0..self.experts.len();
                    let oldest = slots.min_by_key(|&slot| self.last_used[slot]).expect("a pool has slots");
                    round.fetch.push((*id as usize, oldest));
                    (self.experts[oldest], self.last_used[oldest]) = (*id, self.clock);
                    oldest
                });
                for (word, _) in round.slots.iter_mut().zip(ids).filter(|(_, other)| *other == id) {
                    *word = slot as u32;
                }
            }
            rounds.push(round);
        }
        rounds
    }
}

impl ExpertPools {
    /// Reads the experts of every pool into host memory; `progress` hears the bytes read so far.
    ///
    /// Errors: those of the files.
    pub async fn load(placement: &Placement, places: &[[Place; 2]], mut progress: impl FnMut(u64)) -> Result<Self> {
        let (mut pools, mut done) = (Vec::new(), 0);
        for pool in &placement.pools {
            let mut runs = Vec::new();
            for run in &pool.runs {
                let mut experts = Vec::with_capacity(run.experts.len());
                for matrix in &run.experts {
                    let mut planes: [Vec<u32>; 2] = matrix.plane_bytes().map(|n| Vec::with_capacity(n as usize / 4));
                    load::stream_matrix(matrix, WeightSlot(0), &mut async |chunk: load::Chunk<'_>| {
                        planes[chunk.plane].extend_from_slice(chunk.words);
                        Ok(())
                    })
                    .await?;
                    done += planes.iter().map(|plane| 4 * plane.len() as u64).sum::<u64>();
                    progress(done);
                    experts.push(planes);
                }
                let slots = run.slots.iter().flat_map(|part| slot_places(part, places)).collect();
                runs.push(Run { slots, experts });
            }
            pools.push(Pool { residents: Residents::new(pool.n_slots), runs });
        }
        Ok(Self { pools, stats: ExpertStats::default() })
    }
}

/// Where each slot of a part begins in both planes.
fn slot_places(part: &ExpertPart<WeightSlot>, places: &[[Place; 2]]) -> Vec<[Place; 2]> {
    let whole = places[part.tensor.0];
    let slot = |i: usize| {
        whole.map(|place| {
            let bytes = place.bytes / part.n_experts as u64;
            Place { offset: place.offset + i as u64 * bytes, bytes, ..place }
        })
    };
    (0..part.n_experts).map(slot).collect()
}

impl Gpu {
    /// As [`Gpu::run`], for programs with stops: at each of them the experts that the batch needs are fetched.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn run_fetching(
        &self,
        programs: &[&Program],
        batch: Batch,
        memory: &Memory,
        weights: &GpuWeights,
        through: &ReadBack,
    ) -> Result<()> {
        for program in programs {
            let mut next = 0;
            for stop in &program.stops {
                self.run_range(program, next..stop.dispatches.start, batch)?;
                let mut ids = vec![0; batch.n_tokens * stop.n_used];
                self.read(memory, &program.ids, through, &mut ids).await?;
                // Locked until all is submitted: another session may fetch other experts right after.
                let mut pools = weights.pools();
                for round in pools.pools[stop.pool].residents.rounds(&ids) {
                    self.fetch(weights, &mut pools, stop.pool, &round);
                    self.write(memory, &program.ids, &round.slots);
                    self.run_range(program, stop.dispatches.clone(), batch)?;
                }
                next = stop.dispatches.end;
            }
            self.run_range(program, next..program.n_steps(), batch)?;
        }
        Ok(())
    }

    /// Queues the copies of a round's experts to their slots: they are there before anything submitted later runs.
    fn fetch(&self, weights: &GpuWeights, pools: &mut ExpertPools, pool: usize, round: &Round) {
        let start_s = now_s();
        let mut fetched_bytes = 0;
        for &(expert, slot) in &round.fetch {
            for run in &pools.pools[pool].runs {
                for (place, words) in run.slots[slot].iter().zip(&run.experts[expert]).filter(|(_, w)| !w.is_empty()) {
                    let bytes: &[u8] = bytemuck::cast_slice(words);
                    self.queue.write_buffer(&weights.arenas[place.arena], place.offset, bytes);
                    fetched_bytes += bytes.len() as u64;
                }
            }
        }
        pools.stats.n_hits += round.n_hits as u64;
        pools.stats.n_fetched += round.fetch.len() as u64;
        pools.stats.fetched_bytes += fetched_bytes;
        pools.stats.fetch_s += now_s() - start_s;
    }
}

impl GpuWeights {
    pub(super) fn pools(&self) -> std::sync::MutexGuard<'_, ExpertPools> {
        self.pools.lock().expect("no panic holds it")
    }

    /// What fetching experts has cost so far; all zeros for a model that is whole on the device.
    pub fn expert_stats(&self) -> ExpertStats {
        self.pools().stats
    }
}
