//! What a device can do at best: bandwidth over size, arithmetic, and what launching, submitting and reading back cost.

use super::probes::{Extent, INDEPENDENT, Kind, ONE, Probe, Probes, TOUCH};
use crate::{
    backend::{Gpu, check, lockstep::first_difference},
    error::{Error, Result},
    kernels::Unit,
    timing::{self, Method, Timer, Timing, plausible_rate},
};

/// A figure that nothing on this device can exceed, or why there is none.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ceiling {
    /// A rate per second, or seconds.
    pub value: Option<f64>,
    /// Where the quartiles of all rounds are.
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub missing: Option<String>,
}

/// Bandwidth with a working set of so many bytes.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Point {
    pub bytes: u64,
    pub bytes_per_s: Ceiling,
}

/// Everything that was measured of a device.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ceilings {
    /// Whose clock told times on the device: `device` or `cpu`.
    pub clock: String,
    /// Half of the bytes read, half written.
    pub copy: Vec<Point>,
    pub read: Vec<Point>,
    /// Multiplications and additions a second.
    pub f32: Ceiling,
    pub f16: Ceiling,
    pub dot8: Ceiling,
    pub cooperative_matrix: Ceiling,
    /// Bytes a second.
    pub workgroup_memory: Ceiling,
    /// Seconds from the begin of a dispatch to the begin of the next that needs its result.
    pub dependent_dispatch_s: Ceiling,
    /// The same where it does not.
    pub independent_dispatch_s: Ceiling,
    /// Seconds of a submit when others follow.
    pub submit_s: Ceiling,
    /// Seconds of a submit and the wait for its end.
    pub wait_s: Ceiling,
    /// Seconds of a submit and the way of 16 bytes back to the CPU.
    pub read_back_s: Ceiling,
}

impl Ceiling {
    fn missing(why: impl Into<String>) -> Self {
        Self { missing: Some(why.into()), ..Self::default() }
    }

    fn of_rate(amount: f64, timing: &Timing) -> Self {
        match plausible_rate(amount, timing, None) {
            Err(why) => Self::missing(why),
            Ok(rate) => Self {
                value: Some(rate),
                low: Some(amount / timing.high_s),
                high: Some(amount / timing.low_s),
                missing: None,
            },
        }
    }

    fn of_time(timing: &Timing) -> Self {
        match plausible_rate(1.0, timing, None) {
            Err(why) => Self::missing(why),
            Ok(_) => {
                Self { value: Some(timing.median_s), low: Some(timing.low_s), high: Some(timing.high_s), missing: None }
            }
        }
    }
}

impl Ceilings {
    /// The most bytes a second that a working set of so many bytes can be moved at, be it by reading or by copying:
    /// between measured sizes in proportion to the logarithm, beyond them as at the last.
    pub fn bytes_per_s(&self, working_set: u64) -> Option<f64> {
        let at = |curve: &[Point]| on_curve(curve, working_set);
        at(&self.copy).into_iter().chain(at(&self.read)).reduce(f64::max)
    }

    /// The most of any size, caches included.
    pub fn peak_bytes_per_s(&self) -> Option<f64> {
        self.copy.iter().chain(&self.read).filter_map(|point| point.bytes_per_s.value).reduce(f64::max)
    }

    /// Bytes a second of a copy that no cache holds.
    pub fn copy_bytes_per_s(&self) -> Option<f64> {
        self.copy.iter().rev().find_map(|point| point.bytes_per_s.value)
    }

    /// Operations a second of a unit; f32's where the device has no such unit. F32 is no
    /// ceiling for cooperative matrices.
    pub fn operations_per_s(&self, unit: Unit) -> Option<f64> {
        let own = match unit {
            Unit::F32 => &self.f32,
            Unit::F16 => &self.f16,
            Unit::Dot8 => &self.dot8,
            Unit::CooperativeMatrix => return self.cooperative_matrix.value,
        };
        own.value.or(self.f32.value)
    }
}

fn on_curve(curve: &[Point], working_set: u64) -> Option<f64> {
    let known: Vec<(f64, f64)> =
        curve.iter().filter_map(|point| Some(((point.bytes as f64).log2(), point.bytes_per_s.value?))).collect();
    let (x, last) = ((working_set.max(1) as f64).log2(), *known.last()?);
    let above = known.iter().position(|(size, _)| *size >= x);
    Some(match above {
        None => last.1,
        Some(0) => known[0].1,
        Some(i) => {
            let ((x0, y0), (x1, y1)) = (known[i - 1], known[i]);
            y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        }
    })
}

/// Measures them; `progress` hears the share that is done, from 0 to 1.
///
/// Errors: [`Error::Device`], [`Error::OutOfMemory`].
pub async fn measure_ceilings(gpu: &Gpu, method: &Method, mut progress: impl FnMut(f64)) -> Result<Ceilings> {
    let probes = allocate(gpu, method, false).await?;
    let timer = Timer::new(gpu, *method);
    let (alone, together): (Vec<&Probe>, Vec<&Probe>) =
        probes.all.iter().partition(|probe| probe.kind == Kind::IndependentDispatch);
    let items = |probes: &[&Probe]| probes.iter().map(|probe| probe.item.clone()).collect::<Vec<_>>();
    // About as many counts of runs as there will be.
    let expected = (together.len() * (8 + 5 * method.rounds)) as f64;
    let mut n = 0.0;
    let count = || {
        n += 1.0;
        progress(f64::min(n / expected, 0.95));
    };
    let mut timings = timer.time(&probes.program, &items(&together), |_| (), count).await?;
    // No pass may come round to a buffer again.
    let once = Timer::new(gpu, Method { max_runs: INDEPENDENT as u64, ..*method });
    timings.extend(once.time(&probes.program, &items(&alone), |_| (), || ()).await?);
    let mut found = Vec::new();
    for (probe, timing) in together.iter().chain(&alone).zip(&timings) {
        found.push((probe.kind, judge(gpu, &probes, probe, timing).await?));
    }
    let [submit_s, wait_s, read_back_s] = latencies(gpu, &probes, &timer).await?;
    progress(1.0);
    let best = |kind: Kind| best_of(found.iter().filter(|(k, _)| *k == kind).map(|(_, ceiling)| ceiling));
    let curve = |size_of: fn(Kind) -> Option<u64>| {
        let mut sizes: Vec<_> = found.iter().filter_map(|(kind, _)| Some((size_of(*kind)?, *kind))).collect();
        sizes.sort();
        sizes.dedup();
        sizes.into_iter().map(|(bytes, kind)| Point { bytes, bytes_per_s: best(kind) }).collect()
    };
    Ok(Ceilings {
        clock: timer.clock().into(),
        copy: curve(|kind| if let Kind::Copy(bytes) = kind { Some(bytes) } else { None }),
        read: curve(|kind| if let Kind::Read(bytes) = kind { Some(bytes) } else { None }),
        f32: best(Kind::F32),
        f16: if gpu.report.f16 { best(Kind::F16) } else { Ceiling::missing("the device has no f16") },
        dot8: best(Kind::Dot8),
        cooperative_matrix: match gpu.report.coop {
            Some(_) => best(Kind::CooperativeMatrix),
            None => Ceiling::missing("the device has none of f16 that wgpu knows of"),
        },
        workgroup_memory: best(Kind::WorkgroupMemory),
        dependent_dispatch_s: best(Kind::DependentDispatch),
        independent_dispatch_s: best(Kind::IndependentDispatch),
        submit_s,
        wait_s,
        read_back_s,
    })
}

/// Bytes a second of a copy that no cache holds, measured alone; `None` where it was lost in noise.
///
/// Errors: as [`measure_ceilings`].
pub async fn measure_copy(gpu: &Gpu, method: &Method) -> Result<Option<f64>> {
    let probes = allocate(gpu, method, true).await?;
    let items: Vec<_> = probes.all.iter().map(|probe| probe.item.clone()).collect();
    let timings = Timer::new(gpu, *method).time(&probes.program, &items, |_| (), || ()).await?;
    let mut best = None;
    for (probe, timing) in probes.all.iter().zip(&timings) {
        let found = judge(gpu, &probes, probe, timing).await?;
        best = best.into_iter().chain(found.value).reduce(f64::max);
    }
    Ok(best)
}

/// As large a working set as fits: a quarter of it until the device agrees.
async fn allocate(gpu: &Gpu, method: &Method, copies_only: bool) -> Result<Probes> {
    let software = gpu.report.kind == "software";
    let quick = method.budget_s < 1.0;
    let mut largest: u64 = match (software, quick) {
        (true, true) => 4 << 20,
        (true, false) => 64 << 20,
        (false, _) => 256 << 20,
    };
    loop {
        let smallest = match (copies_only, quick) {
            (true, _) => largest,
            (false, true) => largest / 16,
            (false, false) => 256 << 10,
        };
        match Probes::new(gpu, Extent { smallest, largest, software, copies_only }).await {
            Err(Error::OutOfMemory { .. } | Error::TooLarge { .. }) if largest > 16 << 20 => largest /= 4,
            other => return other,
        }
    }
}

/// A probe's time as a ceiling, if it computes what it should: in its test's shapes, and in what was timed.
async fn judge(gpu: &Gpu, probes: &Probes, probe: &Probe, timing: &Timing) -> Result<Ceiling> {
    let last = *probe.item.dispatches.last().expect("a probe has dispatches");
    let outcomes = check::check(gpu, probe.kernel, probes.plan.dispatches[last].variant).await?;
    if let Some(bad) = first_difference(&outcomes) {
        return Ok(Ceiling::missing(format!("{} computes something else ({})", probe.kernel.name, bad.label)));
    }
    gpu.run_one(&probes.program, last, ONE);
    if !probes.was_done(gpu, probe).await? {
        return Ok(Ceiling::missing(format!("{} left undone what was timed", probe.kernel.name)));
    }
    Ok(match probe.kind {
        Kind::DependentDispatch | Kind::IndependentDispatch => Ceiling::of_time(timing),
        _ => Ceiling::of_rate(probe.amount, timing),
    })
}

/// The highest of several ways, or why there is none.
fn best_of<'a>(ways: impl Iterator<Item = &'a Ceiling>) -> Ceiling {
    let better = |a: &'a Ceiling, b: &'a Ceiling| match (a.value, b.value) {
        (Some(x), Some(y)) if x >= y => a,
        (Some(_), None) => a,
        _ => b,
    };
    ways.reduce(better).cloned().unwrap_or_else(|| Ceiling::missing("not measured"))
}

async fn latencies(gpu: &Gpu, probes: &Probes, timer: &Timer<'_>) -> Result<[Ceiling; 3]> {
    let through = gpu.read_back(16);
    let method = Method { max_runs: 1 << 8, ..timer.method };
    let mut run_s = async |item: usize, n: u64| match item {
        0 => timer.stopwatch().time_submits(gpu, &probes.program, TOUCH, n).await,
        1 => timer.stopwatch().time_waits(gpu, &probes.program, TOUCH, n).await,
        _ => {
            let start_s = crate::platform::now_s();
            for _ in 0..n {
                gpu.run_one(&probes.program, TOUCH, ONE);
                gpu.read(&probes.memory, "touched0", &through, &mut [0; 4]).await?;
            }
            Ok(crate::platform::now_s() - start_s)
        }
    };
    let timings = timing::measure(3, &method, &mut run_s).await?;
    Ok([0, 1, 2].map(|i| Ceiling::of_time(&timings[i])))
}
