//! Recorded plans: the same every time, split where a matrix is too large to bind, snapshot for review.

use crate::common::path;
use pocketlm::{
    CacheFormat, WeightFormat,
    kernels::Tuning,
    model::{Architecture, Phase, RecordOptions, record, synthetic, weights::FeedForward},
};

fn plan_text(name: &str, phase: Phase, max_binding: u64) -> String {
    let models = synthetic::all_tiny(WeightFormat::Q4_0, 1).expect("small models");
    let (_, config, weights) = models.into_iter().find(|model| model.0 == name).expect("a model of that name");
    let (_, placed) = weights.place(config.tied, None, max_binding).expect("it fits");
    let (cache, part_kv_heads, tuning) = (CacheFormat::F16, config.n_kv_heads, Tuning::BASELINE);
    let options = RecordOptions { capacity: 64, max_tokens: 32, cache, part_kv_heads, tuning };
    record(&config, &placed, &options, phase).to_string()
}

/// A change of the GPU's work shows in review: `UPDATE_SNAPSHOTS=1 cargo test plan` rewrites the files.
#[test]
fn snapshots() {
    for name in ["llama", "phi3", "qwen3", "mixtral", "phimoe"] {
        for phase in [Phase::Decode, Phase::Prompt] {
            let text = plan_text(name, phase, 128 << 20);
            let file = format!("tests/data/plans/{name}-{phase:?}.txt").to_lowercase();
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
    assert!(plan_text("llama", Phase::Decode, limit).contains("output+192"));
    assert!(weights.place(config.tied, None, 100).is_err(), "not even one tile");
}

#[test]
fn queries_keys_and_values_become_one_product() {
    let text = plan_text("llama", Phase::Decode, 128 << 20);
    assert_eq!(text.lines().filter(|line| line.contains("attn_qkv")).count(), 2, "{text}");
}

/// A part holds as many whole experts as can be bound, and an expert that alone is too large is split by rows.
#[test]
fn expert_stacks_too_large_to_bind_are_split() {
    let (config, weights) = synthetic::tiny_mixtral(WeightFormat::Q4_0, 1).expect("a small model");
    // An expert's gate and up: 320 rows of 3 blocks, and its down: 96 rows of 5.
    let expert = 320 * 3 * 18;
    for (limit, gate_up_parts, down_parts) in [(2 * expert, 3, 2), (expert, 5, 3), (expert * 3 / 4, 8, 5)] {
        let (placement, placed) = weights.place(config.tied, None, limit).expect("it fits");
        assert!(placement.matrices.iter().all(|m| m.plane_bytes().iter().sum::<u64>() <= limit));
        let FeedForward::Experts { gate_up, down, .. } = &placed.layers[0].ffn else { panic!("experts") };
        assert_eq!((gate_up.parts.len(), down.parts.len()), (gate_up_parts, down_parts), "{limit}");
        let rows: usize = gate_up.parts.iter().map(|part| part.n_experts * part.rows).sum();
        assert_eq!(rows, 5 * 320);
    }
}
