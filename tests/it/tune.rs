//! Tuning: whatever is chosen, the answer is the same; what is kept of one device is not taken for another's.

use crate::common::{engine, feed, max_difference, path};
use pocketlm::{
    Engine, Session, SessionOptions,
    kernels::Choice,
    timing::Method,
    tune::{Kept, SearchOptions, usable},
};
use std::sync::Arc;

const QUICK: SearchOptions = SearchOptions { budget_s: 60.0, thorough: false, method: Method::QUICK };

fn model() -> Engine {
    let engine = engine(&path("tests/data/golden/llama2"), None);
    Arc::try_unwrap(engine).expect("nobody else has it")
}

fn logits(engine: Engine) -> (Engine, Vec<f32>) {
    logits_after(engine, &[3, 14, 15, 92])
}

fn logits_after(engine: Engine, text: &[u32]) -> (Engine, Vec<f32>) {
    let engine = Arc::new(engine);
    // Choices are remembered by format, so the session has the one that was searched.
    let options = SessionOptions::default();
    let mut session = pollster::block_on(Session::new(engine.clone(), &options)).expect("a session opens");
    feed(&mut session, text);
    let logits = feed(&mut session, &[65]);
    drop(session);
    (Arc::try_unwrap(engine).expect("nobody else has it"), logits)
}

fn found(engine: &Engine) -> Kept {
    let mut kept = Kept::new(&engine.gpu);
    pollster::block_on(engine.search(&mut kept, QUICK, |_, _| ())).expect("it runs");
    kept
}

/// Every way of building the kernels that was found to be right gives the logits of the usual one.
#[test]
fn every_choice_gives_the_same_answer() {
    let (mut engine, want) = logits(model());
    let kept = found(&engine);
    assert!(kept.shapes.len() >= 4, "{:?}", kept.shapes.keys());
    let most = kept.shapes.values().map(|shape| shape.candidates.len()).max().expect("shapes");
    assert!(most > 2, "there was something to choose from");
    let (mut changed, mut got) = (0, Vec::new());
    for index in 0..most {
        for (key, shape) in &kept.shapes {
            let (choice, _) = shape.candidates[index.min(shape.candidates.len() - 1)];
            changed += (choice != shape.candidates[0].0) as usize;
            engine.choices.set(key.clone(), choice);
        }
        (engine, got) = logits(engine);
        assert!(max_difference(&got, &want) < 1e-4, "candidates {index}");
    }
    assert!(changed > 0 && !got.is_empty());
}

#[test]
fn what_is_kept_comes_back() {
    let engine = model();
    let kept = found(&engine);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tuning.json");
    kept.export(&file).expect("it is written");
    let back = Kept::import(&engine.gpu, &file).expect("it is read");
    assert_eq!(back.choices(), kept.choices());
    assert_eq!(back.shapes.len(), kept.shapes.len());
    // What is known is not measured again.
    let mut again = back;
    let measured = pollster::block_on(engine.search(&mut again, QUICK, |key, _| panic!("{key} is known")));
    measured.expect("nothing to do");
}

#[test]
fn other_devices_files_and_damaged_ones_are_refused() {
    let engine = model();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tuning.json");
    let refused = |kept: &Kept, what: &str| {
        kept.export(&file).expect("it is written");
        let error = Kept::import(&engine.gpu, &file).expect_err(what).to_string();
        assert!(error.contains("another device"), "{what}: {error}");
    };
    let own = Kept::new(&engine.gpu);
    refused(&Kept { adapter: "another".into(), ..own.clone() }, "an adapter");
    refused(&Kept { driver: "older".into(), ..own.clone() }, "a driver");
    refused(&Kept { wgpu: "29.0.0".into(), ..own }, "a version of wgpu");
    for damaged in ["", "{", "[1, 2]", "{\"kind\": \"pocketlm-tuning-1\"}"] {
        std::fs::write(&file, damaged).expect("a file");
        let error = Kept::import(&engine.gpu, &file).expect_err(damaged).to_string();
        assert!(error.contains("no file of tuning"), "{error}");
    }
    assert!(Kept::import(&engine.gpu, &folder.path().join("absent")).is_err());
}

/// A file may say anything: what is no candidate, or was measured with another shader, is not used.
#[test]
fn foreign_choices_are_not_used() {
    let engine = model();
    let [(plan, batch), _] = engine.tuning_plans();
    let mut kept = found(&engine);
    // Others than the usual ones, which come first and need no file.
    kept.shapes.retain(|_, shape| shape.candidates.len() > 1);
    kept.shapes.values_mut().for_each(|shape| shape.choice = shape.candidates[shape.candidates.len() - 1].0);
    let all = pollster::block_on(usable(&engine.gpu, &kept, (&plan, batch))).expect("it runs");
    assert!(!all.is_empty());
    let spoil = |change: fn(&mut pocketlm::tune::KeptShape)| {
        let mut kept = kept.clone();
        kept.shapes.values_mut().for_each(change);
        pollster::block_on(usable(&engine.gpu, &kept, (&plan, batch))).expect("it runs")
    };
    assert!(spoil(|shape| shape.choice = Choice::Product { k_split: 1000, tiles: 0 }).is_empty());
    assert!(spoil(|shape| shape.choice = Choice::Attention { width: 7, four_lanes: true, split_keys: 256, most_splits: 16 }).is_empty());
    assert!(spoil(|shape| shape.shader = "0".into()).is_empty());
}

/// What a file says in vain is measured anew; times that are none are not taken over.
#[test]
fn a_spoilt_file_does_not_stand_in_the_way() {
    let engine = model();
    let right = found(&engine);
    let mut kept = right.clone();
    kept.shapes.values_mut().for_each(|shape| shape.choice = Choice::Product { k_split: u32::MAX, tiles: 0 });
    pollster::block_on(engine.search(&mut kept, QUICK, |_, _| ())).expect("it runs");
    assert!(kept.shapes.values().all(|shape| !matches!(shape.choice, Choice::Product { tiles: 0, .. })));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tuning.json");
    for wrong in [-1.0, 1e300] {
        let mut kept = right.clone();
        kept.shapes.values_mut().for_each(|shape| shape.usual_s = Some(wrong));
        kept.export(&file).expect("it is written");
        assert!(Kept::import(&engine.gpu, &file).expect("it is read").shapes.is_empty(), "{wrong}");
    }
}

/// A budget that is spent begins nothing.
#[test]
fn a_budget_is_kept() {
    let engine = model();
    let mut kept = Kept::new(&engine.gpu);
    let spent = SearchOptions { budget_s: -1.0, ..QUICK };
    pollster::block_on(engine.search(&mut kept, spent, |_, _| ())).expect("it runs");
    assert!(kept.shapes.is_empty());
}

/// A shape that is begun within a budget does not overrun it by all its candidates; who asks for all gets the rest.
#[test]
fn a_budget_cuts_a_shape_short() {
    let engine = model();
    let mut kept = Kept::new(&engine.gpu);
    let search = |kept: &mut Kept, options| {
        let mut heard = Vec::new();
        pollster::block_on(engine.search(kept, options, |key, shape| heard.push((key.to_string(), shape.n_tried))))
            .expect("it runs");
        heard
    };
    let short = SearchOptions { budget_s: 1e-9, ..QUICK };
    let first = search(&mut kept, short);
    let (key, n_tried) = first.first().expect("something comes of it");
    assert!(*n_tried < kept.shapes[key].n_all, "{first:?}");
    // Every later start goes on with others, and leaves what was begun as it is.
    let second = search(&mut kept, short);
    assert!(second.iter().all(|(other, _)| other != key) && !second.is_empty(), "{second:?}");
    assert!(search(&mut kept, QUICK).iter().all(|(other, _)| other != key));
    let all = search(&mut kept, SearchOptions { thorough: true, ..QUICK });
    assert!(all.iter().any(|(again, _)| again == key), "{all:?}");
    assert!(kept.shapes.values().all(|shape| shape.n_tried == shape.n_all), "{all:?}");
}

/// However the keys are split among workgroups, a token sees them all.
#[test]
fn every_split_of_keys_gives_the_same_answer() {
    let (mut engine, few) = split_logits(model(), 0);
    assert_ne!(few, split_logits(model(), 7).1, "the text matters");
    let [(plan, batch), _] = engine.tuning_plans();
    let attend = plan.dispatches.iter().find(|d| d.kernel.name == "attend").expect("it attends");
    let key = attend.kernel.shape_key(attend.variant, &attend.params).expect("it has choices");
    assert!(batch.position > 64);
    let mut tried = Vec::new();
    for choice in Choice::candidates(attend.kernel, engine.gpu.tuning) {
        let Choice::Attention { width, split_keys, most_splits, .. } = choice else { panic!("{choice:?}") };
        if width != engine.gpu.tuning.attention.width {
            continue;
        }
        engine.choices.set(key.clone(), choice);
        let found = split_logits(engine, 0);
        engine = found.0;
        assert!(max_difference(&found.1, &few) < 1e-4, "{choice:?}");
        tried.push((split_keys, most_splits));
    }
    assert!(tried.iter().any(|&(keys, _)| keys < 128), "{tried:?}");
}

/// The logits after a text that several workgroups share where keys are split by 64.
fn split_logits(engine: Engine, first: u32) -> (Engine, Vec<f32>) {
    let text: Vec<u32> = (first..first + 150).map(|i| 3 + i * 7 % 90).collect();
    logits_after(engine, &text)
}

#[test]
fn the_version_of_wgpu_is_the_locked_one() {
    let lock = std::fs::read_to_string(path("Cargo.lock")).expect("a lock file");
    let version = lock.split("name = \"wgpu\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    assert_eq!(version, Some(pocketlm::tune::WGPU));
}
