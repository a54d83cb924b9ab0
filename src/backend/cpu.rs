//! Runs a plan on the CPU through the kernels' references: slow, in f64, and what the GPU is held against.

use super::load;
use crate::{
    error::Result,
    kernels::{Call, Planes},
    placement::Placement,
    plan::{Content, Dispatch, Plan},
};
use std::collections::HashMap;

/// Buffers by name, and the packed weights.
#[derive(Debug, Default)]
pub struct Cpu {
    pub buffers: HashMap<String, Vec<u32>>,
    /// Planes of each packed matrix: quants, scales.
    matrices: Vec<[Vec<u32>; 2]>,
    vectors: Vec<Vec<f32>>,
}

impl Cpu {
    /// Loads every weight of `placement` into host memory.
    pub async fn load(placement: &Placement) -> Result<Self> {
        let mut cpu = Self::default();
        cpu.matrices.resize_with(placement.matrices.len(), Default::default);
        load::stream(placement, async |chunk| {
            cpu.matrices[chunk.slot.0][chunk.plane].extend_from_slice(chunk.words);
            Ok(())
        })
        .await?;
        for index in 0..placement.vectors.len() {
            cpu.vectors.push(placement.read_vector(index).await?);
        }
        Ok(cpu)
    }

    /// Makes the buffers of `plan` that are not there yet; `angles` fills the rope table.
    pub fn prepare(&mut self, plan: &Plan, angles: &[f32]) {
        for buffer in &plan.buffers {
            let words = match buffer.content {
                Content::Vector(index) => bytemuck::cast_slice(&self.vectors[index]).to_vec(),
                Content::Angles => bytemuck::cast_slice(angles).to_vec(),
                _ => vec![0; buffer.bytes as usize / 4],
            };
            let old = self.buffers.entry(buffer.name.clone()).or_insert_with(|| words.clone());
            old.resize(old.len().max(words.len()), 0);
        }
    }

    /// Runs one dispatch.
    pub fn dispatch(&mut self, plan: &Plan, dispatch: &Dispatch) {
        let name = |slot: &crate::plan::Slot| plan.buffers[slot.0].name.as_str();
        let mut writes: Vec<Vec<u32>> = Vec::new();
        for slot in &dispatch.writes {
            writes.push(std::mem::take(self.buffers.get_mut(name(slot)).expect("prepared")));
        }
        let reads: Vec<&[u32]> = dispatch.reads.iter().map(|slot| &self.buffers[name(slot)][..]).collect();
        let planes = dispatch.weight.map(|slot| {
            let [quants, scales] = &self.matrices[slot.0];
            Planes { format: dispatch.variant.format.expect("weights have a format"), quants, scales }
        });
        (dispatch.kernel.reference)(&mut Call {
            params: &dispatch.params,
            reads: &reads,
            writes: &mut writes,
            planes,
            cache: dispatch.variant.cache.unwrap_or(crate::kernels::CacheFormat::F32),
        });
        for (slot, words) in dispatch.writes.iter().zip(writes) {
            self.buffers.insert(name(slot).to_string(), words);
        }
    }
}
