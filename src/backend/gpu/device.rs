//! Adapters, the choice among them, and the device that everything runs on.

use super::{counters::Counting, pipeline_cache, pipelines::Pipelines};
use crate::{
    error::{Error, Result},
    kernels::{CoopShape, PromptMath, Tuning, XSource},
    platform::{self, AdapterFacts},
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// What an adapter is and can do, as `pocketlm devices` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterReport {
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `unknown`.
    pub kind: &'static str,
    pub backend: String,
    pub driver: String,
    /// Subgroup operations are there.
    pub subgroups: bool,
    /// Smallest and largest subgroup, in lanes.
    pub subgroup_size: [u32; 2],
    pub f16: bool,
    /// Cooperative matrices of f16 that add up in f32, of those that `PromptMath::Half` can use the largest.
    pub coop: Option<CoopShape>,
    pub timestamps: bool,
    pub max_binding_bytes: u64,
    pub max_buffer_bytes: u64,
    pub max_workgroup_bytes: u32,
    pub max_workgroup_invocations: u32,
    /// Why it is where it is in the order: the first is taken unless another is named.
    pub reason: &'static str,
}

/// A device, its queue, the pipelines built so far, and the first thing that went wrong.
#[derive(Debug)]
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) pipelines: Mutex<Pipelines>,
    pub(super) pipeline_cache: Option<wgpu::PipelineCache>,
    /// Where it is kept.
    pub(super) pipeline_path: Option<PathBuf>,
    pub(super) counting: Counting,
    /// How kernels are built for this adapter.
    pub tuning: Tuning,
    pub report: AdapterReport,
    fault: Arc<Mutex<Fault>>,
    /// What it was opened with, to open another like it.
    wanted: Option<String>,
    limits: Option<wgpu::Limits>,
}

/// What went wrong on a device.
#[derive(Debug, Default)]
struct Fault {
    /// The first complaint.
    what: Option<String>,
    /// Nothing will ever run on it again: it was unplugged, reset, put to sleep or destroyed.
    lost: bool,
}

/// An adapter, and what a browser tells of it that wgpu does not.
struct Found {
    adapter: wgpu::Adapter,
    facts: Option<AdapterFacts>,
}

/// Every adapter of this machine, best first: real before software, discrete before integrated.
pub async fn adapters() -> Vec<AdapterReport> {
    enumerate().await.iter().map(|found| report(&found.adapter, found.facts.as_ref())).collect()
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends =
        wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12 | wgpu::Backends::BROWSER_WEBGPU;
    // Validation layers belong to driver tests; indirect dispatches, which the third flag guards, are never used.
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

async fn enumerate() -> Vec<Found> {
    let instance = instance();
    let Some(fast) = platform::adapter_facts(true).await else {
        let all = instance.enumerate_adapters(wgpu::Backends::all()).await;
        let mut all: Vec<_> = all.into_iter().map(|adapter| Found { adapter, facts: None }).collect();
        all.sort_by_key(|found| rank(found.adapter.get_info().device_type).0);
        return all;
    };
    // A browser names no adapters: it hands out one for speed, and perhaps another for a long battery life.
    let mut all = Vec::new();
    for (facts, preference) in [
        (Some(fast), wgpu::PowerPreference::HighPerformance),
        (platform::adapter_facts(false).await, wgpu::PowerPreference::LowPower),
    ] {
        let is_new = |found: &Found| found.facts.as_ref().map(|f| &f.name) != facts.as_ref().map(|f| &f.name);
        let options = wgpu::RequestAdapterOptions { power_preference: preference, ..Default::default() };
        if facts.is_some() && all.iter().all(is_new) {
            let adapter = instance.request_adapter(&options).await.ok();
            all.extend(adapter.map(|adapter| Found { adapter, facts }));
        }
    }
    all
}

fn rank(kind: wgpu::DeviceType) -> (u32, &'static str, &'static str) {
    match kind {
        wgpu::DeviceType::DiscreteGpu => (0, "discrete", "a GPU with memory of its own is fastest"),
        wgpu::DeviceType::IntegratedGpu => (1, "integrated", "a real GPU, but it shares the system's memory"),
        wgpu::DeviceType::VirtualGpu => (2, "virtual", "a GPU behind a virtual machine"),
        wgpu::DeviceType::Other => (3, "unknown", "its kind is not known"),
        wgpu::DeviceType::Cpu => (4, "software", "a CPU that plays GPU: the last resort"),
    }
}

fn report(adapter: &wgpu::Adapter, facts: Option<&AdapterFacts>) -> AdapterReport {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let is_software = facts.is_some_and(|facts| facts.software);
    let (_, kind, reason) = rank(if is_software { wgpu::DeviceType::Cpu } else { info.device_type });
    AdapterReport {
        name: facts.map_or(info.name, |facts| facts.name.clone()),
        kind,
        backend: info.backend.to_string(),
        driver: [info.driver, info.driver_info].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" "),
        subgroups: facts.map_or(features.contains(wgpu::Features::SUBGROUP), |facts| facts.subgroups),
        subgroup_size: [info.subgroup_min_size, info.subgroup_max_size],
        f16: features.contains(wgpu::Features::SHADER_F16),
        coop: if facts.is_some() { None } else { coop(adapter) },
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        reason,
    }
}

/// The largest cooperative matrices that kernels exist for, with the features that these need beside them.
fn coop(adapter: &wgpu::Adapter) -> Option<CoopShape> {
    let needed =
        wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
    if !adapter.features().contains(needed) {
        return None;
    }
    let info = adapter.get_info();
    // Metal does not say how wide its subgroups are; on every Apple GPU that has such matrices it is 32 lanes.
    let subgroup_size = match info.backend {
        wgpu::Backend::Metal => [32, 32],
        _ => [info.subgroup_min_size, info.subgroup_max_size],
    };
    let usable = |m: &wgpu::CooperativeMatrixProperties| {
        let sums = (m.ab_type, m.cr_type) == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
        (sums && m.m_size == m.n_size && m.n_size == m.k_size).then_some(m.m_size)
    };
    let sides = adapter.cooperative_matrix_properties();
    sides.iter().filter_map(usable).filter_map(|side| CoopShape::of(side, subgroup_size)).max()
}

impl AdapterReport {
    /// Kernels that suit the one suit the other.
    pub fn is_like(&self, other: &Self) -> bool {
        let traits =
            |report: &Self| (report.name.clone(), report.driver.clone(), report.subgroups, report.subgroup_size);
        traits(self) == traits(other)
    }

    /// Every way to build kernels that this adapter can run, the baseline first.
    pub fn tunings(&self) -> Vec<Tuning> {
        let [min, max] = self.subgroup_size;
        let mut all = Tuning::candidates((self.subgroups && min >= 4).then_some([min, max]));
        all.iter_mut().for_each(|tuning| tuning.prompt.coop = self.coop);
        all
    }

    /// The one that suits it by what it is.
    fn preferred(&self) -> Tuning {
        let tunings = self.tunings();
        let pick = |wanted: &dyn Fn(&Tuning) -> bool| tunings.iter().copied().rfind(|t| wanted(t));
        match self.kind {
            "software" => pick(&|t| t.x_source == XSource::Broadcast).unwrap_or(tunings[1]),
            _ => pick(&|t| t.subgroups && t.k_split > 1).unwrap_or(tunings[0]),
        }
    }
}

impl Gpu {
    /// Opens the best adapter, or the one whose index (in [`adapters`]' order) or part of whose name is given.
    ///
    /// Errors: [`Error::NoAdapter`], [`Error::Device`].
    pub async fn open(wanted: Option<&str>) -> Result<Self> {
        let found = find(wanted).await?;
        let gpu = Self::from_found(&found, None).await?;
        Ok(Self { wanted: wanted.map(str::to_string), ..gpu })
    }

    /// Opens `adapter`, with all of its limits or with `limits`.
    ///
    /// Errors: [`Error::Device`].
    pub async fn from_adapter(adapter: &wgpu::Adapter, limits: Option<wgpu::Limits>) -> Result<Self> {
        let found = Found { adapter: adapter.clone(), facts: None };
        Self::from_found(&found, limits).await
    }

    /// Opens another device like this one, which was lost: kernels are built as they were here.
    ///
    /// Errors: as [`Gpu::open`].
    pub async fn reopen(&self) -> Result<Self> {
        // Asked for anew, since a driver that was reset may have new adapters, and a page's adapter is used up.
        let found = find(self.wanted.as_deref()).await?;
        let gpu = Self::from_found(&found, self.limits.clone()).await?;
        // Another adapter may have taken the place of one that is gone: only how exact prompts are is the caller's wish.
        let mut tuning = if gpu.report.is_like(&self.report) { self.tuning } else { gpu.tuning };
        tuning.prompt.math = self.tuning.prompt.math;
        Ok(Self { wanted: self.wanted.clone(), tuning, ..gpu })
    }

    async fn from_found(Found { adapter, facts }: &Found, limits: Option<wgpu::Limits>) -> Result<Self> {
        let mut report = report(adapter, facts.as_ref());
        let mut required_features = wgpu::Features::empty();
        // A page's device has them without being asked through wgpu, which does not know them there.
        required_features.set(wgpu::Features::SUBGROUP, report.subgroups && facts.is_none());
        required_features |= adapter.features() & wgpu::Features::PIPELINE_CACHE;
        required_features.set(wgpu::Features::SHADER_F16, report.f16);
        required_features.set(wgpu::Features::TIMESTAMP_QUERY, report.timestamps);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("pocketlm"),
            required_features,
            required_limits: limits.clone().unwrap_or_else(|| adapter.limits()),
            ..Default::default()
        };
        let mut opened = None;
        if report.coop.is_some() {
            opened = request_with_matrices(adapter, &descriptor).await;
            report.coop = report.coop.filter(|_| opened.is_some());
        }
        let (device, queue) = match opened {
            Some(opened) => opened,
            None => {
                let opened = adapter.request_device(&descriptor).await;
                opened.map_err(|e| device_error("opening the device", e.to_string()))?
            }
        };
        let fault = Arc::new(Mutex::new(Fault::default()));
        let on_error = fault.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| note(&on_error, e.to_string(), false)));
        let on_loss = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            note(&on_loss, format!("the device was lost ({reason:?}) {message}"), true);
        });
        let tuning = report.preferred();
        let (pipeline_cache, pipeline_path) = (pipeline_cache::open(adapter, &device), pipeline_cache::path(adapter));
        let (pipelines, counting) = (Mutex::default(), Counting::default());
        let wanted = facts.is_none().then(|| report.name.clone());
        Ok(Self {
            device,
            queue,
            pipelines,
            pipeline_cache,
            pipeline_path,
            counting,
            tuning,
            report,
            fault,
            wanted,
            limits,
        })
    }

    /// Multiplies prompts as `math` says, and exactly where the device cannot do that, with a warning.
    pub fn set_prompt_math(&mut self, math: PromptMath) {
        self.tuning.prompt.math = math;
        if math == PromptMath::Half && self.report.coop.is_none() {
            tracing::warn!(
                "{} has no cooperative matrices of f16 that wgpu knows of; prompts are multiplied exactly instead of half",
                self.report.name
            );
            self.tuning.prompt.math = PromptMath::Exact;
        }
    }

    /// The most bytes that one binding may have.
    pub fn max_binding_bytes(&self) -> u64 {
        let limits = self.device.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
    }

    /// Gives the device up, as a driver reset would: for tests of what follows.
    pub fn destroy(&self) {
        self.device.destroy();
    }

    /// Nothing will ever run on it again; [`Gpu::reopen`] opens another.
    pub fn is_lost(&self) -> bool {
        self.fault.lock().expect("no panic holds it").lost
    }

    /// A result could not be read back: only a device that is gone refuses that.
    pub(super) fn lose(&self, what: &str) {
        note(&self.fault, what.into(), true);
    }

    /// Whether it still works. Errors: [`Error::Device`] with what went wrong.
    pub fn check(&self, doing: &str) -> Result<()> {
        self.check_fault(doing)
    }

    /// What went wrong on the device since it was opened, if anything.
    pub(super) fn check_fault(&self, doing: &str) -> Result<()> {
        match self.fault.lock().expect("no panic holds it").what.as_ref() {
            Some(what) => Err(device_error(doing, what.clone())),
            None => Ok(()),
        }
    }

    /// Runs `work` and turns what it makes the device complain of into an error.
    pub(super) async fn scoped<T>(&self, doing: &str, work: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let result = work().await;
        let (internal, memory, validation) = (internal.pop().await, memory.pop().await, validation.pop().await);
        self.check_fault(doing)?;
        if memory.is_some() {
            let hint = "a smaller model or --weights q4_0 may fit".into();
            return Err(Error::OutOfMemory { doing: doing.into(), hint });
        }
        let complaints = [internal, validation];
        match complaints.into_iter().flatten().next() {
            Some(complaint) => Err(device_error(doing, complaint.to_string())),
            None => result,
        }
    }
}

/// A device with cooperative matrices beside what `descriptor` asks for; `None` if there is none to be had, since nobody
/// should be without a device for want of a feature that is optional and new.
async fn request_with_matrices(
    adapter: &wgpu::Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> Option<(wgpu::Device, wgpu::Queue)> {
    let descriptor = wgpu::DeviceDescriptor {
        required_features: descriptor.required_features | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX,
        // SAFETY: wgpu asks that one knows of undefined behaviour that may be left in the feature. Only `matmul_coop`
        // uses it, when a user asks for `PromptMath::Half`, and it is tried against its reference before.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
        ..descriptor.clone()
    };
    adapter.request_device(&descriptor).await.ok()
}

/// The adapter whose index or part of whose name is given, or the best one.
async fn find(wanted: Option<&str>) -> Result<Found> {
    let mut all = enumerate().await;
    let name = |found: &Found| report(&found.adapter, found.facts.as_ref()).name;
    let index = match wanted {
        None => Some(0),
        Some(wanted) => wanted
            .parse()
            .ok()
            .or_else(|| all.iter().position(|found| name(found).to_lowercase().contains(&wanted.to_lowercase()))),
    };
    if let Some(index) = index.filter(|&index| index < all.len()) {
        return Ok(all.swap_remove(index));
    }
    Err(match wanted {
        Some(wanted) => Error::NoAdapter {
            what: format!("no adapter matches `{wanted}`"),
            available: all.iter().enumerate().map(|(i, found)| format!("{i}: {}", name(found))).collect(),
        },
        None => Error::NoAdapter {
            what: "no adapter: neither a GPU nor a software driver for one was found".into(),
            available: Vec::new(),
        },
    })
}

fn note(fault: &Mutex<Fault>, what: String, lost: bool) {
    let mut fault = fault.lock().expect("no panic holds it");
    fault.what.get_or_insert(what);
    fault.lost |= lost;
}

pub(super) fn device_error(doing: &str, what: impl Into<String>) -> Error {
    Error::Device { doing: doing.into(), what: what.into() }
}
