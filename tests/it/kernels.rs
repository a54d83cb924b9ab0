//! Every kernel in every variant on the adapter at hand, and proof that the comparers can fail.

use crate::common::gpu;
use pocketlm::{
    CacheFormat, WeightFormat,
    backend::{
        Cpu, Gpu, check,
        lockstep::{self, difference, difference_in_steps, first_difference},
        packed_cases::difference_in_codes,
    },
    format::TensorInfo,
    kernels::{self, CacheLayout, CoopShape, PromptMath, Tuning, Variant, reference::STEP_HEAD_WORDS},
    model::{Architecture, Config, Phase, RecordOptions, Weights, record, synthetic},
    plan::{Batch, Content},
    random,
};
use std::sync::Arc;

#[test]
fn every_variant_agrees_with_its_reference() {
    let gpu = gpu();
    for kernel in kernels::every().filter(|kernel| gpu.report.f16 || !kernel.needs.f16) {
        for variant in kernel.variants(&gpu.report.tunings()) {
            let outcomes = pollster::block_on(check::check(&gpu, kernel, variant)).expect("it runs");
            assert!(outcomes.len() >= 3, "{}: {} checks", kernel.name, outcomes.len());
            if let Some(bad) = first_difference(&outcomes) {
                panic!("{} ({variant}) {}: error {:e} > {:e}", kernel.name, bad.label, bad.error, bad.tolerance);
            }
        }
    }
}

/// Lockstep of a small model; `sabotage` changes one dispatch on the GPU's side only.
fn walk(config: &Config, weights: &Weights<TensorInfo>, phase: Phase, sabotage: Option<&str>) -> Option<String> {
    let gpu = gpu();
    let tuning = gpu.tuning;
    walk_tuned(gpu, tuning, config, weights, (phase, 0), sabotage)
}

fn walk_tuned(
    gpu: Gpu,
    tuning: Tuning,
    config: &Config,
    weights: &Weights<TensorInfo>,
    (phase, position): (Phase, usize),
    sabotage: Option<&str>,
) -> Option<String> {
    let n_tokens = if phase == Phase::Decode { 1 } else { 29 };
    pollster::block_on(async {
        let (placement, placed) = weights.place(config.tied, None, gpu.max_binding_bytes()).expect("it fits");
        let weights = Arc::new(gpu.load(&placement, |_| ()).await.expect("it loads"));
        let (cache, part_kv_heads) = (CacheFormat::F16, config.n_kv_heads);
        let options = RecordOptions { capacity: 48, max_tokens: 32, cache, part_kv_heads, tuning };
        let plan = record(config, &placed, &options, phase);
        let angles = config.rope.angles(48);
        let memory = gpu.allocate(&[&plan], &weights, &angles).await.expect("it fits");
        let mut spoiled = plan.clone();
        if let Some(label) = sabotage {
            let dispatch = spoiled.dispatches.iter_mut().find(|d| d.label == label).expect(label);
            dispatch.params[1] -= 1;
        }
        let program = gpu.program(&spoiled, &memory, &weights).await.expect("it binds");
        let mut cpu = Cpu::load(&placement).await.expect("it loads");
        cpu.prepare(&plan, &angles);
        let mut step = vec![0u32; STEP_HEAD_WORDS + 32];
        step[..2].copy_from_slice(&[n_tokens as u32, position as u32]);
        step[STEP_HEAD_WORDS..].iter_mut().zip(0..).for_each(|(word, i)| *word = (i * 41 + 5) % 250);
        gpu.write(&memory, "step", &step);
        for cache in plan.buffers.iter().filter(|buffer| position > 0 && buffer.content == Content::Cache) {
            // Pairs of halves between 1 and 2, of either sign: what tokens before this one may have left.
            let words = (0..cache.bytes / 4).map(|i| random::bits(7, i) as u32 & 0x83ff_83ff | 0x3c00_3c00);
            gpu.write(&memory, &cache.name, &words.collect::<Vec<_>>());
        }
        let batch = Batch { n_tokens, position };
        let outcomes = lockstep::compare(&plan, &mut cpu, &gpu, &memory, &program, batch).await.expect("it runs");
        first_difference(&outcomes).map(|outcome| outcome.label.clone())
    })
}

#[test]
fn lockstep_agrees() {
    for (name, config, weights) in synthetic::all_tiny(WeightFormat::Q8_0, 3).expect("small models") {
        for phase in [Phase::Prompt, Phase::Decode] {
            let mut packed = Tuning::BASELINE;
            packed.prompt.math = PromptMath::Packed;
            // As `exact` where the adapter has no cooperative matrices.
            let mut half = packed;
            (half.prompt.math, half.prompt.coop) = (PromptMath::Half, gpu().report.coop);
            for tuning in [gpu().tuning, Tuning::BASELINE, packed, half] {
                assert_eq!(
                    walk_tuned(gpu(), tuning, &config, &weights, (phase, 0), None),
                    None,
                    "{name}, {phase:?}, {tuning:?}"
                );
            }
        }
        // Keys that several workgroups share, as long contexts have them.
        for mut tuning in [gpu().tuning, Tuning::BASELINE] {
            (tuning.attention.split_keys, tuning.attention.most_splits) = (8, 3);
            let found = walk_tuned(gpu(), tuning, &config, &weights, (Phase::Decode, 33), None);
            assert_eq!(found, None, "{name}, {tuning:?}");
        }
    }
}

#[test]
fn lockstep_names_the_sabotaged_dispatch() {
    let (config, weights) = synthetic::tiny(Architecture::Llama, WeightFormat::Q8_0, 3).expect("a small model");
    // One block of columns fewer.
    let found = walk(&config, &weights, Phase::Prompt, Some("layer1.attn_qkv"));
    assert_eq!(found.as_deref(), Some("layer1.attn_qkv y"));
    let (config, weights) = synthetic::tiny_mixtral(WeightFormat::Q8_0, 3).expect("a small model");
    let found = walk(&config, &weights, Phase::Prompt, Some("layer1.ffn_down_exps"));
    assert_eq!(found.as_deref(), Some("layer1.ffn_down_exps y"));
}

#[test]
fn the_comparer_can_fail() {
    assert_eq!(difference(&[1.0, -2.0], &[1.0, -2.0]), 0.0);
    assert_eq!(difference(&[1.0, -2.0], &[1.5, -2.0]), 0.25);
    assert_eq!(difference(&[1.0, 2.0], &[f32::NAN, 2.0]), f64::INFINITY, "a number is missing");
    assert_eq!(difference(&[f32::NAN, 2.0], &[1.0, 2.0]), f64::INFINITY, "too much was written");
    assert_eq!(difference(&[0.0, 1e-9], &[0.0, 1e-9]), f64::INFINITY, "a reference of zeros proves nothing");
}

/// The comparer of quantised caches: codes of one group of q8_0, then its scale of 1.
#[test]
fn the_comparer_of_codes_can_fail() {
    let layout = CacheLayout { format: CacheFormat::Q8_0, n_heads: 1, head_dim: 32 };
    let row = |first: i8, scale: u32| [&[first as u8 as u32 | 0x0102_0300][..], &[0x0102_0304; 7], &[scale]].concat();
    let poison = vec![0x7fc0_dead; 9];
    let (one, half) = (0x3c00, 0x3800);
    let want = [row(5, one), poison.clone()].concat();
    let steps = |row: Vec<u32>, rest: Vec<u32>| difference_in_steps(&want, &[row, rest].concat(), layout);
    assert_eq!(steps(row(5, one), poison.clone()), 0.0);
    assert_eq!(steps(row(6, one), poison.clone()), 1.0);
    assert_eq!(steps(row(-5, one), poison.clone()), 10.0);
    assert_eq!(steps(row(5, half), poison.clone()), f64::INFINITY, "every number is off");
    assert_eq!(steps(row(5, 0x7fff), poison.clone()), f64::INFINITY, "no number");
    assert_eq!(steps(row(5, one), row(5, one)), f64::INFINITY, "too much was written");
    assert_eq!(
        difference_in_steps(&[poison.clone(), poison.clone()].concat(), &[poison.clone(), poison].concat(), layout),
        f64::INFINITY,
        "nothing was written"
    );
}

/// The comparer of packed activations: one block whose codes are 1, 2, 3, 4 and again, its scale 1/2.
#[test]
fn the_comparer_of_packed_activations_can_fail() {
    let block = |first: u32, scale: f32, sum: f32| {
        [&[0x0403_0200 | first], &[0x0403_0201; 7][..], &[scale.to_bits(), sum.to_bits(), 0, 0]].concat()
    };
    let poison = vec![0x7fc0_dead; 12];
    let want = [block(1, 0.5, 40.0), poison.clone()].concat();
    let codes = |block: Vec<u32>, rest: Vec<u32>| difference_in_codes(&want, &[block, rest].concat());
    assert_eq!(codes(block(1, 0.5, 40.0), poison.clone()), 0.0);
    assert_eq!(codes(block(2, 0.5, 40.5), poison.clone()), 1.0);
    assert_eq!(codes(block(5, 0.5, 42.0), poison.clone()), 4.0);
    assert_eq!(codes(block(2, 0.5, 40.0), poison.clone()), f64::INFINITY, "the sum is another's");
    assert_eq!(codes(block(1, 0.6, 48.0), poison.clone()), f64::INFINITY, "another scale");
    assert_eq!(codes(block(1, f32::NAN, 40.0), poison.clone()), f64::INFINITY, "no number");
    assert_eq!(codes(block(1, 0.5, 40.0), block(1, 0.5, 40.0)), f64::INFINITY, "too much was written");
    assert_eq!(difference_in_codes(&poison, &poison), f64::INFINITY, "nothing was written");
}

/// A kernel that runs with other numbers than its reference is found, whichever kernel it is.
#[test]
fn a_wrong_parameter_is_found_in_every_kernel() {
    let gpu = gpu();
    for kernel in kernels::every().filter(|kernel| gpu.report.f16 || !kernel.needs.f16) {
        // None where the adapter has no cooperative matrices.
        let Some(&variant) = kernel.variants(&gpu.report.tunings()).first() else { continue };
        let case = check::cases(kernel, variant).next().expect("a case");
        let outcomes = pollster::block_on(check::run_spoiled(&gpu, &case)).expect("it runs");
        assert!(first_difference(&outcomes).is_some(), "{}: {outcomes:?}", kernel.name);
    }
}

/// A way of building kernels that this adapter cannot run gives way to the baseline, and the model still runs.
#[test]
fn a_failing_tuning_gives_way() {
    let mut gpu = gpu();
    // 16384 invocations are more than any adapter has.
    gpu.tuning = Tuning { tiles: 2048, ..Tuning::SOFTWARE };
    let formats = Variant { format: Some(WeightFormat::Q4_0), cache: None, heads: None, tuning: Tuning::BASELINE };
    let needed = |tuning: Tuning| vec![(tuning.prompt.matmul(tuning.tiles).kernel, formats)];
    pollster::block_on(check::settle(&mut gpu, needed)).expect("the baseline runs");
    assert_eq!(gpu.tuning, Tuning::BASELINE);
    let preferred = crate::common::gpu().tuning;
    gpu.tuning = preferred;
    pollster::block_on(check::settle(&mut gpu, needed)).expect("it runs");
    assert_eq!(gpu.tuning, preferred, "what works is kept");
}

/// Half prompts on a device whose matrices fail: exact ones take their place, and the rest of the tuning stays.
#[test]
fn failing_half_prompts_give_way_to_exact_ones() {
    let mut gpu = gpu();
    let preferred = gpu.tuning;
    gpu.tuning.prompt.math = PromptMath::Half;
    // More invocations than any adapter has.
    gpu.tuning.prompt.coop = Some(CoopShape { side: 16, lanes: 16384 });
    let formats = Variant { format: Some(WeightFormat::Q4_0), cache: None, heads: None, tuning: Tuning::BASELINE };
    let needed = |tuning: Tuning| {
        let exact = tuning.prompt.matmul(tuning.tiles);
        vec![(tuning.prompt.half_matmul().unwrap_or(exact).kernel, formats)]
    };
    assert_eq!(needed(gpu.tuning)[0].0.name, "matmul_coop");
    pollster::block_on(check::settle(&mut gpu, needed)).expect("exact prompts run");
    gpu.tuning.prompt.coop = preferred.prompt.coop;
    assert_eq!(gpu.tuning, preferred, "exact, and otherwise as it was");
}

/// Shapes of workgroups for which no kernel exists are not asked for.
#[test]
fn only_usable_matrices_are_taken() {
    assert_eq!(CoopShape::of(16, [32, 32]), Some(CoopShape { side: 16, lanes: 128 }));
    assert_eq!(CoopShape::of(16, [32, 64]), Some(CoopShape { side: 16, lanes: 256 }), "room for four of the widest");
    assert_eq!(CoopShape::of(8, [8, 8]), Some(CoopShape { side: 8, lanes: 32 }));
    assert_eq!(CoopShape::of(32, [32, 32]), None, "WGSL has no such matrices");
    assert_eq!(CoopShape::of(16, [128, 128]), None, "512 invocations are more than WebGPU promises");
    assert_eq!(CoopShape::of(16, [0, 0]), None, "nothing is known of subgroups");
}
