//! Device memory: weights in a few large buffers, activations and caches in one buffer each.

use super::{
    device::Gpu,
    experts::ExpertPools,
    random_fill::{self, Templates},
};
use crate::{
    backend::load,
    error::{Error, Result},
    placement::{PackedMatrix, Placement},
    plan::{Buffer, Content, Plan, WeightSlot},
    platform,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// Largest buffer that weights are gathered in; WebGPU's default limit on a buffer.
const ARENA_BYTES: u64 = 256 << 20;
/// WebGPU's default alignment of binding offsets.
const ALIGNMENT: u64 = 256;

/// The weights of a model on the device.
#[derive(Debug)]
pub struct GpuWeights {
    /// Group 1 of each packed matrix.
    pub(super) groups: Vec<wgpu::BindGroup>,
    pub(super) vectors: Vec<wgpu::Buffer>,
    pub(super) arenas: Vec<wgpu::Buffer>,
    /// Experts that take turns on the device. Locked while a stop is served, not between stops: a session on another
    /// thread may put its own experts in the slots as soon as this one's dispatches are submitted.
    pub(super) pools: Mutex<ExpertPools>,
    /// Bytes allocated.
    pub bytes: u64,
}

/// Buffers of one session, by name.
#[derive(Debug)]
pub struct Memory {
    pub(super) buffers: HashMap<String, wgpu::Buffer>,
    /// Bytes allocated, norm weights not counted.
    pub bytes: u64,
}

/// Where one plane lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub arena: usize,
    pub offset: u64,
    pub bytes: u64,
}

impl Gpu {
    /// Uploads every weight; `progress` hears the bytes uploaded so far (and, after
    /// them, those of experts that wait in host memory).
    ///
    /// Errors: those of the files; [`Error::Device`] when the device runs out of memory.
    pub async fn load(&self, placement: &Placement, mut progress: impl FnMut(u64)) -> Result<GpuWeights> {
        let (places, arena_bytes) = lay_out(placement, ARENA_BYTES.min(self.device.limits().max_buffer_size));
        let doing = format!("allocating {} bytes for weights", arena_bytes.iter().sum::<u64>());
        let arenas = self
            .scoped(&doing, async || {
                Ok(arena_bytes.iter().map(|&bytes| self.storage("weights", bytes)).collect::<Vec<_>>())
            })
            .await?;
        let (mut uploaded, mut since_wait) = (0, 0);
        let mut templates = Templates::default();
        for (index, matrix) in placement.matrices.iter().enumerate() {
            if random_fill::is_random(matrix) {
                self.fill_random(matrix, &places[index], &arenas, &mut templates, index as u64).await?;
                uploaded += matrix.plane_bytes().iter().sum::<u64>();
                progress(uploaded);
                continue;
            }
            load::stream_matrix(matrix, WeightSlot(index), &mut async |chunk: load::Chunk<'_>| {
                let place = places[chunk.slot.0][chunk.plane];
                let bytes: &[u8] = bytemuck::cast_slice(chunk.words);
                self.queue.write_buffer(&arenas[place.arena], place.offset + chunk.offset_bytes, bytes);
                uploaded += bytes.len() as u64;
                since_wait += bytes.len() as u64;
                if since_wait >= platform::UPLOAD_BYTES {
                    self.submit(None);
                    self.finished("uploading weights").await?;
                    since_wait = 0;
                }
                progress(uploaded);
                Ok(())
            })
            .await?;
        }
        let mut vectors = Vec::with_capacity(placement.vectors.len());
        for (index, tensors) in placement.vectors.iter().enumerate() {
            let values = placement.read_vector(index).await?;
            let buffer = self.storage(&tensors[0].name, 4 * values.len() as u64);
            self.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&values));
            vectors.push(buffer);
        }
        self.submit(None);
        self.finished("uploading weights").await?;
        let groups =
            self.scoped("binding weights", async || Ok(self.weight_groups(placement, &places, &arenas))).await?;
        let bytes = arenas.iter().chain(&vectors).map(|buffer| buffer.size()).sum();
        let pools = ExpertPools::load(placement, &places, |done| progress(uploaded + done)).await?;
        Ok(GpuWeights { groups, vectors, arenas, pools: Mutex::new(pools), bytes })
    }

    fn weight_groups(
        &self,
        placement: &Placement,
        places: &[[Place; 2]],
        arenas: &[wgpu::Buffer],
    ) -> Vec<wgpu::BindGroup> {
        let layouts = [false, true].map(|has_scales| self.weight_layout(has_scales));
        let group = |(matrix, places): (&PackedMatrix, &[Place; 2])| {
            let has_scales = matrix.format.scale_words() > 0;
            let entries: Vec<_> = places[..1 + has_scales as usize]
                .iter()
                .zip(0..)
                .map(|(place, binding)| wgpu::BindGroupEntry {
                    binding,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: &arenas[place.arena],
                        offset: place.offset,
                        size: wgpu::BufferSize::new(place.bytes),
                    }),
                })
                .collect();
            let layout = &layouts[has_scales as usize];
            let label = Some(matrix.label.as_str());
            self.device.create_bind_group(&wgpu::BindGroupDescriptor { label, layout, entries: &entries })
        };
        self.count_created(placement.matrices.len());
        placement.matrices.iter().zip(places).map(group).collect()
    }

    /// Refuses plans with a buffer that cannot be bound, before anything is made for them.
    ///
    /// Errors: [`Error::TooLarge`].
    pub fn check_sizes(&self, plans: &[&Plan]) -> Result<()> {
        let limit = self.max_binding_bytes();
        match plans.iter().flat_map(|plan| &plan.buffers).find(|buffer| buffer.bytes > limit) {
            Some(large) => Err(Error::TooLarge {
                what: format!("the buffer `{}`", large.name),
                needed: large.bytes,
                limit,
                hint: "lower --ctx".into(),
                fits: None,
            }),
            None => Ok(()),
        }
    }

    /// Bytes that can still be allocated, where that is known: a software adapter's memory is the system's, which would
    /// rather end the program than refuse. Others do not tell; they refuse.
    pub fn available_memory(&self) -> Option<u64> {
        crate::platform::available_memory().filter(|_| self.report.kind == "software")
    }

    /// Refuses `bytes` that the system cannot give.
    ///
    /// Errors: [`Error::TooLarge`].
    pub fn check_memory(&self, what: &str, bytes: u64, hint: &str) -> Result<()> {
        match self.available_memory() {
            Some(limit) if bytes > limit => {
                Err(Error::TooLarge { what: what.into(), needed: bytes, limit, hint: hint.into(), fits: None })
            }
            _ => Ok(()),
        }
    }

    /// Allocates the buffers of `plans`, which share those of one name. `angles` fills the rope table.
    ///
    /// Errors: [`Error::Device`] when memory runs out.
    pub async fn allocate(&self, plans: &[&Plan], weights: &Arc<GpuWeights>, angles: &[f32]) -> Result<Memory> {
        let mut wanted: HashMap<&str, Buffer> = HashMap::new();
        for buffer in plans.iter().flat_map(|plan| &plan.buffers) {
            let entry = wanted.entry(&buffer.name).or_insert_with(|| buffer.clone());
            entry.bytes = entry.bytes.max(buffer.bytes);
        }
        let total: u64 = wanted.values().map(|buffer| buffer.bytes).sum();
        let doing = format!("allocating {total} bytes for the context");
        let memory = self
            .scoped(&doing, async || {
                let mut memory = Memory { buffers: HashMap::new(), bytes: 0 };
                for (name, buffer) in wanted {
                    let made = match buffer.content {
                        Content::Vector(index) => weights.vectors[index].clone(),
                        _ => self.storage(name, buffer.bytes),
                    };
                    if !matches!(buffer.content, Content::Vector(_)) {
                        memory.bytes += made.size();
                    }
                    if buffer.content == Content::Angles {
                        self.queue.write_buffer(&made, 0, bytemuck::cast_slice(angles));
                    }
                    memory.buffers.insert(name.to_string(), made);
                }
                Ok(memory)
            })
            .await?;
        Ok(memory)
    }

    /// Replaces every cache and table of angles in `memory` that is smaller than `plans` ask for, one after another;
    /// caches keep their content if `keep` says so. Nothing else may hold on to the old ones.
    ///
    /// Errors: [`Error::Device`] when memory runs out: those done so far are large then, and none has lost anything.
    pub async fn enlarge(&self, memory: &mut Memory, plans: &[&Plan], angles: &[f32], keep: bool) -> Result<()> {
        for buffer in plans.iter().flat_map(|plan| &plan.buffers) {
            let old = &memory.buffers[&buffer.name];
            let grows = matches!(buffer.content, Content::Cache | Content::Angles) && old.size() < buffer.bytes;
            if !grows {
                continue;
            }
            let doing = format!("allocating {} bytes for a larger {}", buffer.bytes, buffer.name);
            let new = self.scoped(&doing, async || Ok(self.storage(&buffer.name, buffer.bytes))).await?;
            if buffer.content == Content::Angles {
                self.queue.write_buffer(&new, 0, bytemuck::cast_slice(angles));
            } else if keep {
                let mut encoder = self.device.create_command_encoder(&Default::default());
                encoder.copy_buffer_to_buffer(old, 0, &new, 0, old.size());
                self.submit(Some(encoder.finish()));
            }
            memory.bytes += new.size() - old.size();
            memory.buffers.insert(buffer.name.clone(), new);
            // The old one is given back once the copy is done, before the next is made.
            self.finished(&doing).await?;
        }
        Ok(())
    }

    pub(super) fn storage(&self, label: &str, bytes: u64) -> wgpu::Buffer {
        self.count_created(1);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes.next_multiple_of(16),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    }
}

/// Gives every plane an arena and an offset; returns them with the size of each arena.
fn lay_out(placement: &Placement, arena_limit: u64) -> (Vec<[Place; 2]>, Vec<u64>) {
    let mut arenas = vec![0u64];
    let mut places = Vec::with_capacity(placement.matrices.len());
    for matrix in &placement.matrices {
        places.push(matrix.plane_bytes().map(|bytes| {
            let last = arenas.len() - 1;
            // A plane larger than the usual arena has one of its own.
            if arenas[last] > 0 && arenas[last] + bytes > arena_limit {
                arenas.push(0);
            }
            let arena = arenas.len() - 1;
            let offset = arenas[arena];
            arenas[arena] = (offset + bytes).next_multiple_of(ALIGNMENT);
            Place { arena, offset, bytes }
        }));
    }
    (places, arenas)
}
