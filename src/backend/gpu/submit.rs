//! Programs: plans bound to a device's pipelines and buffers, and how they run.

use super::{
    device::{Gpu, device_error},
    memory::{GpuWeights, Memory},
};
use crate::{
    error::Result,
    plan::{Batch, Dispatch, Grid, Plan, Stop},
};
use std::ops::Range;

/// WebGPU's default alignment of uniform offsets: each dispatch's params take one slice.
const PARAMS_BYTES: u64 = 256;
/// Dispatches per submit when a batch of tokens makes each of them long: no driver's watchdog should see more.
const BATCH_DISPATCHES: usize = 16;

/// A plan made ready: nothing is created when it runs.
#[derive(Debug)]
pub struct Program {
    pub(super) steps: Vec<Step>,
    pub(super) stops: Vec<Stop>,
    /// Name of the buffer that stops read and write.
    pub(super) ids: String,
}

#[derive(Debug)]
pub(super) struct Step {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    weights: Option<wgpu::BindGroup>,
    grid: Grid,
}

/// A buffer that the CPU can map, for results.
#[derive(Debug)]
pub struct ReadBack {
    buffer: wgpu::Buffer,
}

/// Results on their way to the CPU. One that is dropped leaves its [`ReadBack`] to the next.
#[derive(Debug)]
pub struct Flight {
    buffer: wgpu::Buffer,
    bytes: u64,
    submission: wgpu::SubmissionIndex,
    landed: futures_channel::oneshot::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.buffer.unmap();
    }
}

impl Step {
    /// Records it into a pass, and tells whether a batch has any work for it.
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>, batch: Batch) -> bool {
        let [x, y] = self.grid.map(|extent| extent.resolve(batch));
        if x * y == 0 {
            return false;
        }
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        if let Some(weights) = &self.weights {
            pass.set_bind_group(1, weights, &[]);
        }
        pass.dispatch_workgroups(x, y, 1);
        true
    }
}

impl ReadBack {
    /// Most bytes that it reads at once.
    pub fn bytes(&self) -> u64 {
        self.buffer.size()
    }
}

impl Program {
    /// Dispatches in it.
    pub(super) fn n_steps(&self) -> usize {
        self.steps.len()
    }

    /// The CPU must step in: run it with [`Gpu::run_fetching`].
    pub fn has_stops(&self) -> bool {
        !self.stops.is_empty()
    }
}

impl Gpu {
    /// Binds `plan` to pipelines, buffers and weights.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn program(&self, plan: &Plan, memory: &Memory, weights: &GpuWeights) -> Result<Program> {
        let wanted: Vec<_> = plan.dispatches.iter().map(|dispatch| (dispatch.kernel, dispatch.variant)).collect();
        self.build(&wanted).await?;
        let mut pipelines = Vec::with_capacity(plan.dispatches.len());
        for dispatch in &plan.dispatches {
            pipelines.push(self.pipeline(dispatch.kernel, dispatch.variant).await?);
        }
        self.scoped("binding a plan", async || {
            let params = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size: PARAMS_BYTES * plan.dispatches.len().max(1) as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let mut steps = Vec::with_capacity(plan.dispatches.len());
            self.count_created(1 + plan.dispatches.len());
            for (index, (dispatch, pipeline)) in plan.dispatches.iter().zip(pipelines).enumerate() {
                let offset = index as u64 * PARAMS_BYTES;
                self.queue.write_buffer(&params, offset, bytemuck::cast_slice(&dispatch.params));
                steps.push(Step {
                    group: self.group(plan, dispatch, memory, &pipeline.group, (&params, offset)),
                    pipeline: pipeline.pipeline,
                    weights: dispatch.weight.map(|slot| weights.groups[slot.0].clone()),
                    grid: dispatch.grid,
                });
            }
            let ids = plan.stops.first().map_or(String::new(), |stop| plan.buffers[stop.ids.0].name.clone());
            Ok(Program { steps, stops: plan.stops.clone(), ids })
        })
        .await
    }

    fn group(
        &self,
        plan: &Plan,
        dispatch: &Dispatch,
        memory: &Memory,
        layout: &wgpu::BindGroupLayout,
        (params, offset): (&wgpu::Buffer, u64),
    ) -> wgpu::BindGroup {
        let params = wgpu::BufferBinding { buffer: params, offset, size: wgpu::BufferSize::new(PARAMS_BYTES) };
        let buffers = dispatch.reads.iter().chain(&dispatch.writes).map(|slot| {
            let name = &plan.buffers[slot.0].name;
            memory.buffers[name].as_entire_binding()
        });
        let entries: Vec<_> = std::iter::once(wgpu::BindingResource::Buffer(params))
            .chain(buffers)
            .zip(0..)
            .map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let label = Some(dispatch.label.as_str());
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label, layout, entries: &entries })
    }

    /// A buffer to read up to `bytes` back through.
    pub fn read_back(&self, bytes: u64) -> ReadBack {
        self.count_created(1);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size: bytes.next_multiple_of(16),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        ReadBack { buffer }
    }

    /// Writes words to the buffer called `name`.
    pub fn write(&self, memory: &Memory, name: &str, words: &[u32]) {
        self.write_at(memory, name, 0, words);
    }

    /// Writes words to the buffer called `name`, from a byte on.
    pub fn write_at(&self, memory: &Memory, name: &str, offset: u64, words: &[u32]) {
        self.queue.write_buffer(&memory.buffers[name], offset, bytemuck::cast_slice(words));
    }

    /// Runs programs one after another on a batch; returns before they are done.
    ///
    /// Errors: [`crate::Error::Device`] when the device has already failed.
    pub fn run(&self, programs: &[&Program], batch: Batch) -> Result<()> {
        self.check_fault("running the model")?;
        if batch.n_tokens == 1 {
            self.encode(programs.iter().flat_map(|program| &program.steps), batch);
            return Ok(());
        }
        for steps in programs.iter().flat_map(|program| program.steps.chunks(BATCH_DISPATCHES)) {
            self.encode(steps.iter(), batch);
        }
        Ok(())
    }

    /// Runs some of the dispatches of `program`, as [`Gpu::run`] does.
    ///
    /// Errors: as [`Gpu::run`].
    pub(super) fn run_range(&self, program: &Program, range: Range<usize>, batch: Batch) -> Result<()> {
        self.check_fault("running the model")?;
        let together = if batch.n_tokens == 1 { range.len().max(1) } else { BATCH_DISPATCHES };
        for steps in program.steps[range].chunks(together) {
            self.encode(steps.iter(), batch);
        }
        Ok(())
    }

    /// Runs only dispatch `index` of `program`.
    pub fn run_one(&self, program: &Program, index: usize, batch: Batch) {
        self.encode(std::iter::once(&program.steps[index]), batch);
    }

    /// One pass over `steps`, submitted.
    fn encode<'a>(&self, steps: impl Iterator<Item = &'a Step>, batch: Batch) {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("step") };
        let mut encoder = self.device.create_command_encoder(&descriptor);
        self.pass(&mut encoder, steps.map(|step| (step, batch)), None);
        self.submit(Some(encoder.finish()));
    }

    /// Reads the first `out.len()` words of the buffer called `name`, after everything submitted before.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn read(&self, memory: &Memory, name: &str, through: &ReadBack, out: &mut [u32]) -> Result<()> {
        self.read_at(memory, name, 0, through, out).await
    }

    /// As [`Gpu::read`], from a byte on.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn read_at(
        &self,
        memory: &Memory,
        name: &str,
        offset: u64,
        through: &ReadBack,
        out: &mut [u32],
    ) -> Result<()> {
        self.read_buffer(name, (&memory.buffers[name], offset), through, out).await
    }

    /// Reads words of a buffer, from a byte on.
    pub(super) async fn read_buffer(
        &self,
        name: &str,
        (buffer, offset): (&wgpu::Buffer, u64),
        through: &ReadBack,
        out: &mut [u32],
    ) -> Result<()> {
        let bytes = 4 * out.len() as u64;
        let encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(name) });
        let flight = self.fly(encoder, buffer, std::slice::from_ref(&(offset..offset + bytes)), through);
        self.land(flight, out).await
    }

    /// Runs `programs` once for each of the `positions`, on one token, in one submit, and after it copies parts of the
    /// buffer called `name`, in words, to where the CPU can read them; returns before it is done.
    ///
    /// Errors: as [`Gpu::run`].
    pub fn launch(
        &self,
        (programs, positions): (&[&Program], Range<usize>),
        (memory, name, parts): (&Memory, &str, &[Range<usize>]),
        through: &ReadBack,
    ) -> Result<Flight> {
        self.check_fault("running the model")?;
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("steps") };
        let mut encoder = self.device.create_command_encoder(&descriptor);
        let steps = positions.flat_map(|position| {
            let batch = Batch { n_tokens: 1, position };
            programs.iter().flat_map(|program| &program.steps).map(move |step| (step, batch))
        });
        self.pass(&mut encoder, steps, None);
        let parts: Vec<_> = parts.iter().map(|words| 4 * words.start as u64..4 * words.end as u64).collect();
        Ok(self.fly(encoder, &memory.buffers[name], &parts, through))
    }

    /// Submits what `encoder` has, and behind it copies of parts of a buffer, one after the other.
    fn fly(
        &self,
        mut encoder: wgpu::CommandEncoder,
        buffer: &wgpu::Buffer,
        parts: &[Range<u64>],
        through: &ReadBack,
    ) -> Flight {
        let bytes = parts.iter().map(|part| part.end - part.start).sum();
        assert!(bytes <= through.buffer.size(), "{bytes} bytes through {}", through.buffer.size());
        let mut to = 0;
        for part in parts {
            encoder.copy_buffer_to_buffer(buffer, part.start, &through.buffer, to, part.end - part.start);
            to += part.end - part.start;
        }
        let submission = self.submit(Some(encoder.finish()));
        self.count_read_back(bytes);
        let (done, landed) = futures_channel::oneshot::channel();
        through.buffer.slice(..bytes).map_async(wgpu::MapMode::Read, move |result| {
            let _ = done.send(result);
        });
        Flight { buffer: through.buffer.clone(), bytes, submission, landed }
    }

    /// Waits for results and copies them to `out`.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn land(&self, mut flight: Flight, out: &mut [u32]) -> Result<()> {
        let doing = "reading results";
        self.poll_for(doing, Some(flight.submission.clone()))?;
        let mapped = (&mut flight.landed).await.map_err(|_| device_error(doing, "the device dropped its work"))?;
        if let Err(error) = mapped {
            self.lose(&format!("the device was lost ({error})"));
            self.check_fault(doing)?;
        }
        let slice = flight.buffer.slice(..flight.bytes);
        let view = slice.get_mapped_range().map_err(|e| device_error(doing, e.to_string()))?;
        out.copy_from_slice(bytemuck::cast_slice(&view));
        Ok(())
    }
}
