//! How long dispatches take: by the device's own clock where it has one, else by the CPU's.

use super::{
    device::Gpu,
    submit::{Program, ReadBack, Step},
};
use crate::{error::Result, plan::Batch, platform::now_s};

/// WebGPU's limit on the queries of a set.
const MAX_QUERIES: u32 = 4096;

/// What dispatches without tokens are run for.
const ONE: Batch = Batch { n_tokens: 1, position: 0 };

/// Queries and the buffers that their results come back through; made once, used for every measurement.
#[derive(Debug)]
pub struct Stopwatch {
    stamps: Option<Stamps>,
}

#[derive(Debug)]
struct Stamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    through: ReadBack,
    s_per_tick: f64,
}

impl Stopwatch {
    /// A stopwatch with the device's clock if it has one.
    pub fn new(gpu: &Gpu) -> Self {
        Self { stamps: gpu.report.timestamps.then(|| Stamps::new(gpu)) }
    }

    /// Whose clock it reads: `device` or `cpu`.
    pub fn clock(&self) -> &'static str {
        if self.stamps.is_some() { "device" } else { "cpu" }
    }

    /// Runs dispatches of `program` in one pass and returns the seconds that the pass took. What beginning and ending it
    /// costs is in there: subtract the times of two counts.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn time(
        &self,
        gpu: &Gpu,
        program: &Program,
        dispatches: impl Iterator<Item = usize>,
        batch: Batch,
    ) -> Result<f64> {
        let doing = "timing dispatches";
        // Stamps tell the pass from what was before it. A wait more is not for nothing: some browsers look every tenth of a
        // second whether the device is done.
        if self.stamps.is_none() {
            gpu.finished(doing).await?;
        }
        let steps = dispatches.map(|index| (&program.steps[index], batch));
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("timed") });
        gpu.pass(&mut encoder, steps, self.stamps.as_ref().map(|stamps| stamps.around(0)));
        let commands = match &self.stamps {
            None => encoder.finish(),
            Some(stamps) => stamps.resolve(encoder, 2),
        };
        // Recording is not what is timed. Where only the CPU's clock can be had, handing over the commands is in it.
        let start_s = now_s();
        gpu.submit(Some(commands));
        match &self.stamps {
            None => {
                gpu.finished(doing).await?;
                Ok(now_s() - start_s)
            }
            Some(stamps) => {
                let taken_s = stamps.read(gpu, 2).await?[1];
                // A device's clock that runs ahead of the CPU's is not to be trusted.
                Ok(taken_s.min(now_s() - start_s))
            }
        }
    }

    /// Runs dispatches of `program` once, with a pass for each, and returns when each began and ended, in seconds from the
    /// first. `None` without a clock on the device, or with more dispatches than it has queries for.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn stamp_each(
        &self,
        gpu: &Gpu,
        program: &Program,
        dispatches: &[usize],
        batch: Batch,
    ) -> Result<Option<Vec<[f64; 2]>>> {
        let n_queries = 2 * dispatches.len() as u32;
        let Some(stamps) = self.stamps.as_ref().filter(|_| n_queries <= MAX_QUERIES && n_queries > 0) else {
            return Ok(None);
        };
        gpu.finished("timing dispatches").await?;
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("timed") });
        for (&index, first) in dispatches.iter().zip((0..).step_by(2)) {
            gpu.pass(&mut encoder, std::iter::once((&program.steps[index], batch)), Some(stamps.around(first)));
        }
        gpu.submit(Some(stamps.resolve(encoder, n_queries)));
        let times = stamps.read(gpu, n_queries).await?;
        Ok(Some(times.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()))
    }

    /// Hands `n` submits of one dispatch over, then waits once for all of them; by the CPU's clock.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn time_submits(&self, gpu: &Gpu, program: &Program, index: usize, n: u64) -> Result<f64> {
        gpu.finished("timing submits").await?;
        let start_s = now_s();
        for _ in 0..n {
            gpu.run_one(program, index, ONE);
        }
        gpu.finished("timing submits").await?;
        Ok(now_s() - start_s)
    }

    /// Hands `n` submits of one dispatch over and waits for each; by the CPU's clock.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn time_waits(&self, gpu: &Gpu, program: &Program, index: usize, n: u64) -> Result<f64> {
        gpu.finished("timing waits").await?;
        let start_s = now_s();
        for _ in 0..n {
            gpu.run_one(program, index, ONE);
            gpu.finished("timing waits").await?;
        }
        Ok(now_s() - start_s)
    }
}

impl Stamps {
    fn new(gpu: &Gpu) -> Self {
        let ty = wgpu::QueryType::Timestamp;
        let descriptor = wgpu::QuerySetDescriptor { label: Some("stamps"), ty, count: MAX_QUERIES };
        gpu.count_created(2);
        Self {
            queries: gpu.device.create_query_set(&descriptor),
            resolved: gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("stamps"),
                size: 8 * MAX_QUERIES as u64,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
            through: gpu.read_back(8 * MAX_QUERIES as u64),
            s_per_tick: gpu.queue.get_timestamp_period() as f64 * 1e-9,
        }
    }

    /// Stamps `first` and the next at the begin and at the end of a pass.
    fn around(&self, first: u32) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }

    fn resolve(&self, mut encoder: wgpu::CommandEncoder, n: u32) -> wgpu::CommandBuffer {
        encoder.resolve_query_set(&self.queries, 0..n, &self.resolved, 0);
        encoder.finish()
    }

    /// The first `n` stamps in seconds after the first.
    async fn read(&self, gpu: &Gpu, n: u32) -> Result<Vec<f64>> {
        let mut words = vec![0u32; 2 * n as usize];
        gpu.read_buffer("the stamps", (&self.resolved, 0), &self.through, &mut words).await?;
        let ticks: Vec<u64> = words.chunks_exact(2).map(|w| w[0] as u64 | (w[1] as u64) << 32).collect();
        Ok(ticks.iter().map(|t| t.saturating_sub(ticks[0]) as f64 * self.s_per_tick).collect())
    }
}

impl Gpu {
    /// Records one pass over `steps`, each of them for a batch.
    pub(super) fn pass<'a>(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        steps: impl Iterator<Item = (&'a Step, Batch)>,
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("step"), timestamp_writes });
        let mut n_dispatches = 0;
        for (step, batch) in steps {
            n_dispatches += step.record(&mut pass, batch) as usize;
        }
        self.count_dispatches(n_dispatches);
    }
}
