//! Recorded plans: the same every time, split where a matrix is too large to bind, snapshot for review.

use crate::common::path;
use pocketlm::{
    CacheFormat, WeightFormat,
    kernels::Tuning,
    model::{Architecture, Phase, RecordOptions, record, synthetic},
};

fn plan_text(architecture: Architecture, phase: Phase, max_binding: u64) -> String {
    let (config, weights) = synthetic::tiny(architecture, WeightFormat::Q4_0, 1).expect("a small model");
    let (_, placed) = weights.place(config.tied, None, max_binding).expect("it fits");
    let options = RecordOptions { capacity: 64, max_tokens: 32, cache: CacheFormat::F16, tuning: Tuning::BASELINE };
    record(&config, &placed, &options, phase).to_string()
}

/// A change of the GPU's work shows in review: `UPDATE_SNAPSHOTS=1 cargo test plan` rewrites the files.
#[test]
fn snapshots() {
    for architecture in [Architecture::Llama, Architecture::Phi3] {
        for phase in [Phase::Decode, Phase::Prompt] {
            let text = plan_text(architecture, phase, 128 << 20);
            let file = format!("tests/data/plans/{}-{phase:?}.txt", architecture.name()).to_lowercase();
            if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
                std::fs::create_dir_all(path("tests/data/plans")).expect("a folder");
                std::fs::write(path(&file), &text).expect("the file is written");
            }
            let want = std::fs::read_to_string(path(&file)).expect(&file);
            assert_eq!(text, want, "{file}: if the change is meant, UPDATE_SNAPSHOTS=1 cargo test plan");
        }
    }
}

#[test]
fn matrices_too_large_to_bind_are_split() {
    let (config, weights) = synthetic::tiny(Architecture::Llama, WeightFormat::Q4_0, 1).expect("a small model");
    // Two tiles of 96 columns: 3 blocks of 32 rows and 18 bytes each.
    let limit = 2 * 3 * 32 * 18;
    let (placement, placed) = weights.place(config.tied, None, limit).expect("it fits");
    assert_eq!(placed.token_embd.parts.len(), 4);
    assert_eq!(placed.token_embd.parts[3].rows, 250 - 3 * 64);
    assert!(placement.matrices.iter().all(|m| m.plane_bytes().iter().all(|&bytes| bytes <= limit)));
    let rows: usize = placement.matrices.iter().map(|m| m.pieces.iter().map(|p| p.rows).sum::<usize>()).sum();
    assert_eq!(rows, placement.matrices.iter().map(|m| m.rows).sum::<usize>());
    assert!(plan_text(Architecture::Llama, Phase::Decode, limit).contains("output+192"));
    assert!(weights.place(config.tied, None, 100).is_err(), "not even one tile");
}

#[test]
fn queries_keys_and_values_become_one_product() {
    let text = plan_text(Architecture::Llama, Phase::Decode, 128 << 20);
    assert_eq!(text.lines().filter(|line| line.contains("attn_qkv")).count(), 2, "{text}");
}
