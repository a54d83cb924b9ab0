//! Writes every variant of every kernel's shader to a folder, with a manifest of what each binds.
//!
//! `cargo xtask shaders` hands them to Tint. Usage: `cargo run --example dump_shaders -- FOLDER`.

use pocketlm::kernels::{self, Tuning};
use serde_json::json;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args().nth(1).ok_or("usage: dump_shaders FOLDER")?);
    fs::create_dir_all(&folder)?;
    // As if for an adapter with every ability that some variant asks for, but for cooperative matrices: Tint does not know
    // wgpu's, and no browser has them.
    let tunings = Tuning::candidates(Some([8, 8]));
    let mut manifest = Vec::new();
    for kernel in kernels::every() {
        for (index, variant) in kernel.variants(&tunings).into_iter().enumerate() {
            let mut shader = kernel.assemble(variant);
            // Tint wants this line wherever subgroup operations occur; naga, for which the text is assembled here,
            // refuses it.
            if shader.subgroups {
                shader.wgsl.insert_str(0, "enable subgroups;\n");
                shader.parts.iter_mut().for_each(|part| part.1 += 1);
            }
            let file = format!("{}{index}.wgsl", kernel.name);
            fs::write(folder.join(&file), &shader.wgsl)?;
            let planes = variant.format.map_or(0, |format| 1 + usize::from(format.scale_words() > 0));
            manifest.push(json!({
                "file": file,
                "kernel": kernel.name,
                "variant": variant.to_string(),
                "subgroups": shader.subgroups,
                "f16": kernel.needs.f16,
                "n_reads": kernel.reads.len(),
                "n_writes": kernel.writes.len(),
                "n_planes": planes,
                "parts": shader.parts,
            }));
        }
    }
    fs::write(folder.join("manifest.json"), serde_json::to_string_pretty(&manifest)?)?;
    eprintln!("{} shaders in {}", manifest.len(), folder.display());
    Ok(())
}
