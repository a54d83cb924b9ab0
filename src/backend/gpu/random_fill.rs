//! Random weights made on the device: a few megabytes of each format are made on the CPU, and every matrix of a synthetic
//! model is copied together from them, each piece from a place of its own.

use super::{device::Gpu, memory::Place};
use crate::{
    backend::load,
    error::Result,
    format::{ByteSource, TensorInfo, WeightFormat, pack},
    placement::{PackedMatrix, Piece},
    plan::WeightSlot,
    random,
};
use std::{collections::BTreeMap, sync::Arc};

/// Blocks of a tile (1024 weights each) that are made on the CPU for each format: more than caches hold of a layer.
const TEMPLATE_BLOCKS: u64 = 4096;
/// Blocks that share scales in any format begin at multiples of this.
const GROUP_BLOCKS: u64 = 8;

/// Both planes of [`TEMPLATE_BLOCKS`] random blocks of each format that was needed so far.
#[derive(Debug, Default)]
pub(super) struct Templates {
    planes: BTreeMap<WeightFormat, [Option<wgpu::Buffer>; 2]>,
}

/// Nothing in `matrix` comes from a file, so what its weights are does not matter.
pub(super) fn is_random(matrix: &PackedMatrix) -> bool {
    matrix.pieces.iter().all(|piece| piece.tensor.source.is_random())
}

impl Gpu {
    /// Fills the places of a matrix's planes; `seed` tells matrices apart.
    ///
    /// Errors: [`crate::Error::Device`].
    pub(super) async fn fill_random(
        &self,
        matrix: &PackedMatrix,
        places: &[Place; 2],
        arenas: &[wgpu::Buffer],
        templates: &mut Templates,
        seed: u64,
    ) -> Result<()> {
        let format = matrix.format;
        let template = match templates.planes.remove(&format) {
            Some(template) => template,
            None => self.template(format).await?,
        };
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let words = [format.quant_words(), format.scale_words()];
        for ((template, place), words) in template.iter().zip(places).zip(words) {
            let Some(template) = template else { continue };
            let group_bytes = GROUP_BLOCKS * 4 * words as u64;
            let (mut done, mut draw) = (0, 0);
            while done < place.bytes {
                let group = random::bits(seed, draw) as u64 % (TEMPLATE_BLOCKS / GROUP_BLOCKS);
                let from = group * group_bytes;
                let n = (template.size() - from).min(place.bytes - done);
                encoder.copy_buffer_to_buffer(template, from, &arenas[place.arena], place.offset + done, n);
                (done, draw) = (done + n, draw + 1);
            }
        }
        self.submit(Some(encoder.finish()));
        templates.planes.insert(format, template);
        Ok(())
    }

    async fn template(&self, format: WeightFormat) -> Result<[Option<wgpu::Buffer>; 2]> {
        let (rows, columns) = (pack::TILE_ROWS, TEMPLATE_BLOCKS as usize * pack::BLOCK_COLUMNS);
        let source = Arc::new(ByteSource::random(format, rows * columns, 1, false));
        let tensor = TensorInfo { name: "template".into(), format, shape: vec![rows, columns], source, offset: 0 };
        let pieces = vec![Piece { tensor, first_row: 0, rows }];
        let matrix = PackedMatrix { label: "template".into(), format, rows, columns, pieces };
        let made = self
            .scoped("making random weights", async || {
                Ok(matrix.plane_bytes().map(|bytes| (bytes > 0).then(|| self.storage("template", bytes))))
            })
            .await?;
        load::stream_matrix(&matrix, WeightSlot(0), &mut async |chunk: load::Chunk<'_>| {
            let buffer = made[chunk.plane].as_ref().expect("a plane with words");
            self.queue.write_buffer(buffer, chunk.offset_bytes, bytemuck::cast_slice(chunk.words));
            Ok(())
        })
        .await?;
        Ok(made)
    }
}
