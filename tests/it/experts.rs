//! Experts that take turns on the device: which comes when, and that answers do not depend on it.

use crate::common::{ids, json, logits, max_difference, path};
use pocketlm::{
    CacheFormat, Engine, EngineOptions, Session, SessionOptions, WeightFormat,
    backend::gpu::{Residents, Round},
    kernels::NOBODY,
};
use std::sync::Arc;

#[test]
fn the_least_recently_used_makes_way() {
    let mut residents = Residents::new(3);
    // Experts 0, 1 and 2 are there.
    let round =
        |fetch: &[(usize, usize)], slots: &[u32], n_hits| Round { fetch: fetch.to_vec(), slots: slots.into(), n_hits };
    assert_eq!(residents.rounds(&[2, 0]), [round(&[], &[2, 0], 2)]);
    assert_eq!(residents.rounds(&[5, 0]), [round(&[(5, 1)], &[1, 0], 1)], "1 was never used");
    assert_eq!(residents.rounds(&[1, 5]), [round(&[(1, 2)], &[2, 1], 1)], "2 was used before 0 was");
    // Five experts for three slots: what is there (0, 5, 1) goes first, each assignment in one round only.
    let rounds = residents.rounds(&[4, 1, 0, 3, 5, 0]);
    assert_eq!(rounds[0], round(&[], &[NOBODY, 2, 0, NOBODY, 1, 0], 3));
    assert_eq!(rounds[1].fetch.iter().map(|f| f.0).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(rounds.len(), 2);
    let slots = |expert: usize| rounds[1].fetch.iter().find(|f| f.0 == expert).expect("fetched").1 as u32;
    assert_eq!(rounds[1].slots, [slots(4), NOBODY, NOBODY, slots(3), NOBODY, NOBODY]);
    assert_ne!(slots(4), slots(3));
}

fn open(name: &str, experts_per_layer: Option<usize>, max_weights_bytes: Option<u64>) -> pocketlm::Result<Session> {
    let options = EngineOptions {
        weights: Some(WeightFormat::F32),
        experts_per_layer,
        max_weights_bytes,
        ..EngineOptions::default()
    };
    let model = path(&format!("tests/data/golden/{name}"));
    let options_of_session = SessionOptions { cache: CacheFormat::F32, ..SessionOptions::default() };
    pollster::block_on(async {
        let engine = Arc::new(Engine::open(&model, &options, |_, _| ()).await?);
        Session::new(engine, &options_of_session).await
    })
}

/// With one, two or three of four experts on the device, prompts and single tokens give what all four give.
#[test]
fn answers_do_not_depend_on_where_experts_are() {
    for name in ["mixtral", "phimoe"] {
        let golden = json(&format!("tests/data/golden/{name}/golden.json"));
        let prompt = ids(&golden["cases"][5]["input_ids"]);
        let run = |session: &mut Session| {
            let mut all = logits(session, &prompt);
            for token in [7, 99, 13] {
                let mut row = Vec::new();
                pollster::block_on(session.feed(&[token])).expect("room");
                pollster::block_on(session.logits(&mut row)).expect("logits");
                all.extend(row);
            }
            all
        };
        let mut whole = open(name, None, None).expect("it opens");
        let want = run(&mut whole);
        assert_eq!(whole.engine().expert_stats().hit_rate(), None, "all are there");
        for n in 1..4 {
            let mut session = open(name, Some(n), None).expect("it opens");
            assert!(session.engine().weights_bytes() < whole.engine().weights_bytes());
            let error = max_difference(&want, &run(&mut session));
            assert!(error < 1e-5, "{name} with {n} experts: {error}");
            let stats = session.engine().expert_stats();
            assert!(stats.n_fetched > 0 && stats.fetched_bytes > 0, "{stats:?}");
            assert!(n == 1 || stats.n_hits > 0, "{stats:?}");
        }
    }
}

/// As many experts as a limit leaves room for, and an error that says so when not even one of each layer fits.
#[test]
fn experts_fill_the_memory_they_are_given() {
    let bytes = |limit| open("mixtral", None, limit).map(|session| session.engine().weights_bytes());
    let whole = bytes(None).expect("it opens");
    let limit = whole * 3 / 4;
    let less = bytes(Some(limit)).expect("it opens");
    assert!(less <= limit && less > whole / 2, "{less} of {whole}");
    let error = bytes(Some(whole / 8)).expect_err("too little");
    assert!(error.to_string().contains("the weights"), "{error}");
}
