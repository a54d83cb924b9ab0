//! Pipelines, one for each kernel and variant, built on first use and kept.

use super::device::{Gpu, device_error};
use crate::{
    error::Result,
    kernels::{Kernel, Variant},
    platform,
};
use std::collections::HashMap;

/// Pipelines by kernel name and variant.
pub(super) type Pipelines = HashMap<(&'static str, Variant), Pipeline>;

/// A compute pipeline and the layouts of its two groups.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub group: wgpu::BindGroupLayout,
}

impl Gpu {
    /// Builds what is missing of `wanted`, on every core where there are threads.
    ///
    /// Errors: as [`Gpu::pipeline`], of the first that cannot be built.
    pub async fn build(&self, wanted: &[(&'static Kernel, Variant)]) -> Result<()> {
        let built = platform::spread(wanted.len(), async |index| {
            let (kernel, variant) = wanted[index];
            self.pipeline(kernel, variant).await.map(|_| ())
        });
        built.await.into_iter().collect()
    }

    /// The pipeline of `kernel` in `variant`, built if it is not there yet.
    ///
    /// Errors: [`crate::Error::Device`] with the kernel, the variant and the driver's complaint.
    pub(super) async fn pipeline(&self, kernel: &'static Kernel, variant: Variant) -> Result<Pipeline> {
        let key = (kernel.name, variant);
        if let Some(found) = self.pipelines.lock().expect("no panic holds it").get(&key) {
            return Ok(found.clone());
        }
        let doing = format!("building kernel {} ({variant})", kernel.name);
        let built = self.scoped(&doing, async || Ok(self.create(kernel, variant))).await?;
        self.pipelines.lock().expect("no panic holds it").insert(key, built.clone());
        Ok(built)
    }

    fn create(&self, kernel: &'static Kernel, variant: Variant) -> Pipeline {
        let group = self.group_layout(kernel);
        let mut layouts = vec![Some(&group)];
        let weights = variant.format.filter(|_| kernel.needs.weights).map(|f| self.weight_layout(f.scale_words() > 0));
        layouts.extend(weights.as_ref().map(Some));
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &layouts,
            immediate_size: 0,
        });
        // A layout, a module and the pipeline itself.
        self.count_created(3);
        let wgsl = kernel.assemble(variant).wgsl;
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source: wgpu::ShaderSource::Wgsl(wgsl.into()) };
        // SAFETY: without naga's checks an index outside a buffer or an endless loop would be the shader's fault. The
        // shaders are ours, not the user's; every size they index by is checked in `Config::check` and by the plan,
        // token ids are checked against the vocabulary before they are uploaded or chosen from it by `sample_pick`, and
        // every loop is bounded by such a size. wgpu keeps the driver's robust buffer access on beside it.
        let module =
            unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // No kernel reads workgroup memory before it has written it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: self.pipeline_cache.as_ref(),
        });
        Pipeline { pipeline, group }
    }

    /// Group 0: `params`, then reads, then writes.
    fn group_layout(&self, kernel: &Kernel) -> wgpu::BindGroupLayout {
        let n_reads = kernel.reads.len();
        let kinds = (0..1 + n_reads + kernel.writes.len()).map(|i| match i {
            0 => wgpu::BufferBindingType::Uniform,
            i => wgpu::BufferBindingType::Storage { read_only: i <= n_reads },
        });
        self.layout(kernel.name, kinds)
    }

    /// Group 1: the planes of one packed matrix.
    pub(super) fn weight_layout(&self, has_scales: bool) -> wgpu::BindGroupLayout {
        let planes = if has_scales { 2 } else { 1 };
        self.layout("weights", (0..planes).map(|_| wgpu::BufferBindingType::Storage { read_only: true }))
    }

    fn layout(&self, label: &str, kinds: impl Iterator<Item = wgpu::BufferBindingType>) -> wgpu::BindGroupLayout {
        self.count_created(1);
        let entries: Vec<_> = kinds
            .zip(0..)
            .map(|(ty, binding)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            })
            .collect();
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries };
        self.device.create_bind_group_layout(&descriptor)
    }

    /// Waits until everything submitted so far has run.
    ///
    /// Errors: [`crate::Error::Device`].
    pub async fn finished(&self, doing: &str) -> Result<()> {
        let (done, wait) = futures_channel::oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            let _ = done.send(());
        });
        self.poll(doing)?;
        wait.await.map_err(|_| device_error(doing, "the device dropped its work"))?;
        // Browsers complain while one waits.
        self.check_fault(doing)
    }

    /// Waits for all work and lets callbacks run. Browsers do this themselves; there it returns at once.
    pub(super) fn poll(&self, doing: &str) -> Result<()> {
        self.poll_for(doing, None)
    }

    /// As [`Gpu::poll`], for one submission and those before it.
    pub(super) fn poll_for(&self, doing: &str, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let is_for_one = submission_index.is_some();
        let polled = self.device.poll(wgpu::PollType::Wait { submission_index, timeout: None });
        if let Err(error) = &polled
            && is_for_one
        {
            self.lose(&format!("the device was lost ({error})")); // it does not know what was submitted
        }
        self.check_fault(doing)?;
        polled.map(|_| ()).map_err(|e| device_error(doing, e.to_string()))
    }
}
