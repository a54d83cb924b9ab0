//! Compiled pipelines on disk, for drivers that keep none themselves: the second start then compiles nothing.

use super::device::Gpu;
use crate::platform;
use std::path::PathBuf;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the checksum before a driver's data.
const CHECKSUM_BYTES: usize = 8;

/// Where an adapter's pipelines are kept; `None` where its backend has no such cache, or nothing may be kept.
pub(super) fn path(adapter: &wgpu::Adapter) -> Option<PathBuf> {
    let name = wgpu::util::pipeline_cache_key(&adapter.get_info())?;
    Some(platform::cache_folder()?.join("pipelines").join(name))
}

/// The cache of `device`, with what an earlier run left.
pub(super) fn open(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Option<wgpu::PipelineCache> {
    if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return None;
    }
    let bytes = path(adapter).and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    let kept = bytes.split_at_checked(CHECKSUM_BYTES).filter(|(sum, data)| *sum == xxh3_64(data).to_le_bytes());
    let descriptor =
        wgpu::PipelineCacheDescriptor { label: Some("pocketlm"), data: kept.map(|(_, data)| data), fallback: true };
    // SAFETY: the data is what `get_data` gave: the checksum in front, which `save` wrote, tells a damaged file, and
    // wgpu and the driver check that it is of this driver's version and drop it otherwise.
    Some(unsafe { device.create_pipeline_cache(&descriptor) })
}

impl Gpu {
    /// Keeps the pipelines built so far for the next start. What cannot be written is compiled again: no error.
    pub fn save_pipelines(&self) {
        let Some((cache, path)) = self.pipeline_cache.as_ref().zip(self.pipeline_path.as_ref()) else { return };
        let Some(data) = cache.get_data() else { return };
        // Most starts add nothing.
        let sum = xxh3_64(&data).to_le_bytes();
        let kept = std::fs::read(path).unwrap_or_default();
        if data.is_empty() || kept.split_at_checked(CHECKSUM_BYTES) == Some((&sum, &data)) {
            return;
        }
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
            let mut file = platform::PartialFile::create(path)?;
            std::io::Write::write_all(&mut file, &sum)?;
            std::io::Write::write_all(&mut file, &data)?;
            file.finish(true)
        });
        if let Err(error) = written {
            tracing::debug!("pipelines are not kept: {}: {error}", path.display());
        }
    }
}
