//! What tuning found, as a file: one for each adapter, driver and version of wgpu, that can be looked at and shared.

use super::Choices;
use crate::{
    backend::Gpu,
    error::{Error, Result},
    kernels::Choice,
    platform,
    small_file::SmallFile,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// [`Kept::kind`] of files that this version writes and reads.
const KIND: &str = "pocketlm-tuning-2";
/// The version of wgpu that translates the shaders; `tests/it/tune.rs` holds it against Cargo.lock.
pub const WGPU: &str = "30.0.1";
const FILE: SmallFile = SmallFile {
    what: "a file of tuning",
    hint: "`pocketlm tune MODEL --export FILE` makes one, for devices and drivers like the one that it runs on",
    max_bytes: 16 << 20,
};

/// What is known of an adapter.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    pub kind: String,
    pub adapter: String,
    pub backend: String,
    pub driver: String,
    pub wgpu: String,
    /// By kernel, formats and sizes.
    pub shapes: BTreeMap<String, KeptShape>,
}

/// What was measured of one kernel at one shape.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KeptShape {
    /// A hash of the shader's text: another text may want other numbers.
    pub shader: String,
    pub choice: Choice,
    /// Seconds of one run with the adapter's usual numbers, and with those chosen, where they were not lost in noise; of
    /// attention, the geometric mean of a run with few keys and one with many.
    pub usual_s: Option<f64>,
    pub chosen_s: Option<f64>,
    /// Candidates that were looked at, of as many as there are: a budget may have left some.
    pub n_tried: usize,
    pub n_all: usize,
    /// Every candidate that ran and was right.
    pub candidates: Vec<(Choice, f64)>,
}

impl Kept {
    /// Nothing yet, for this device.
    pub fn new(gpu: &Gpu) -> Self {
        let report = &gpu.report;
        Self {
            kind: KIND.into(),
            adapter: report.name.clone(),
            backend: report.backend.clone(),
            driver: report.driver.clone(),
            wgpu: WGPU.into(),
            shapes: BTreeMap::new(),
        }
    }

    /// Where this device's file is; `None` where nothing may be kept.
    pub fn path(gpu: &Gpu) -> Option<PathBuf> {
        let Self { adapter, backend, driver, wgpu, .. } = Self::new(gpu);
        let name = format!("{backend} {adapter} {driver} wgpu {wgpu}");
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
        Some(platform::cache_folder()?.join("tuning").join(name.chars().map(safe).collect::<String>() + ".json"))
    }

    /// What is kept of this device; nothing if there is no file, or one that cannot be read, which is told to the log.
    pub fn load(gpu: &Gpu) -> Self {
        let Some(path) = Self::path(gpu).filter(|path| path.exists()) else { return Self::new(gpu) };
        Self::import(gpu, &path).unwrap_or_else(|error| {
            tracing::warn!("what tuning found is not used: {error}");
            Self::new(gpu)
        })
    }

    /// Reads a file that was exported for an adapter, driver and version like this device's.
    ///
    /// Errors: [`Error::Io`]; [`Error::Foreign`] for a file that is none of ours, or another device's.
    pub fn import(gpu: &Gpu, path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = FILE.read(path)?;
        let mut kept: Self = serde_json::from_slice(&bytes)
            .map_err(|error| FILE.refuse(&name, format!("it is no file of tuning: {error}")))?;
        let own = Self::new(gpu);
        let what =
            |kept: &Self| [&kept.kind, &kept.backend, &kept.adapter, &kept.driver, &kept.wgpu].map(String::clone);
        if what(&kept) != what(&own) {
            let [found, here] = [&kept, &own].map(|kept| what(kept).join(", "));
            return Err(FILE.refuse(&name, format!("it was made for another device: {found}; this one is {here}")));
        }
        // Keys and times are shown to people; ours are short, plain and sound.
        let sound = |s: Option<f64>| s.is_none_or(|s| (1e-12..1e3).contains(&s));
        kept.shapes.retain(|key, shape| {
            key.len() <= 200
                && key.chars().all(|c| c == ' ' || c.is_ascii_graphic())
                && [shape.usual_s, shape.chosen_s].into_iter().all(sound)
        });
        Ok(kept)
    }

    /// Writes it where this device looks for it, and says where that is; `None` where nothing may be kept.
    ///
    /// Errors: [`Error::Write`].
    pub fn save(&self, gpu: &Gpu) -> Result<Option<PathBuf>> {
        Self::path(gpu).map(|path| self.export(&path).map(|()| path)).transpose()
    }

    /// Writes it to `path`.
    ///
    /// Errors: [`Error::Write`].
    pub fn export(&self, path: &Path) -> Result<()> {
        let write = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            let mut file = platform::PartialFile::create(path)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.finish(true)
        };
        write().map_err(|source| Error::Write { path: path.into(), source })
    }

    /// Every choice, unchecked: [`super::usable`] says which can be used.
    pub fn choices(&self) -> Choices {
        let mut choices = Choices::default();
        for (key, shape) in &self.shapes {
            choices.set(key.clone(), shape.choice);
        }
        choices
    }
}
