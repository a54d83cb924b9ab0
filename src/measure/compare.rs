//! Two examinations of one device: what became slower or faster by more than the noise of both.

use super::{About, Examination, KIND, KernelRow, PhaseReport};
use crate::{error::Result, small_file::SmallFile, timing::Timing};
use std::path::Path;

const FILE: SmallFile = SmallFile {
    what: "an examination",
    hint: "`pocketlm kernels MODEL --out DIR` writes one as DIR/kernels.json",
    max_bytes: 64 << 20,
};

/// Differences smaller than this are never called one, however quiet two runs were: they were at different times.
const LEAST_CHANGE: f64 = 0.03;
/// So many times that changed together are more than one kernel's doing.
const MANY: usize = 4;

/// A time that is in both.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Such as `decode 1 @ 256: matvec 1536 x 576 ffn_down`: the phase, then what is in it.
    pub name: String,
    pub old_s: f64,
    pub new_s: f64,
    /// Above it a difference counts, as a share of the old time.
    pub noise: f64,
}

impl Change {
    fn of(name: String, old: &Timing, new: &Timing) -> Self {
        // Quartiles miss half of the rounds: two medians differ by twice their distance often enough.
        let noise = (2.0 * (old.noise() + new.noise())).max(LEAST_CHANGE);
        Self { name, old_s: old.median_s, new_s: new.median_s, noise }
    }

    /// How many times as long it takes.
    pub fn factor(&self) -> f64 {
        self.new_s / self.old_s
    }

    /// Slower beyond the noise.
    pub fn is_regression(&self) -> bool {
        self.factor() > 1.0 + self.noise
    }

    /// Faster beyond the noise.
    pub fn is_improvement(&self) -> bool {
        // As large a factor as a regression's.
        1.0 / self.factor() > 1.0 + self.noise
    }

    /// The factor in words, the larger way round, as it is compared with the noise.
    pub fn told(&self) -> String {
        match self.factor() {
            factor if factor >= 1.0 => format!("{factor:.2} times as long"),
            factor => format!("{:.2} times as fast", 1.0 / factor),
        }
    }
}

/// What two examinations say of each other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    pub regressions: Vec<Change>,
    pub improvements: Vec<Change>,
    /// Neither.
    pub n_same: usize,
    /// What only one of them has.
    pub only_old: Vec<String>,
    pub only_new: Vec<String>,
    /// What makes the comparison doubtful, such as another device.
    pub doubts: Vec<String>,
}

/// Reads an examination.
///
/// Errors: [`crate::Error::Io`], and those of [`parse`].
pub fn read(path: &Path) -> Result<Examination> {
    parse(&path.display().to_string(), &FILE.read(path)?)
}

/// An examination from JSON, the content of `file`.
///
/// Errors: [`crate::Error::Foreign`] for anything else.
pub fn parse(file: &str, json: &[u8]) -> Result<Examination> {
    let value: serde_json::Value =
        serde_json::from_slice(json).map_err(|e| FILE.refuse(file, format!("it is no JSON: {e}")))?;
    match value.get("kind").and_then(|kind| kind.as_str()) {
        Some(KIND) => {}
        Some(other) => return Err(FILE.refuse(file, format!("it is a `{other}`, not a `{KIND}`"))),
        None => return Err(FILE.refuse(file, format!("it has no `kind` that is `{KIND}`"))),
    }
    let found: Examination = serde_json::from_value(value).map_err(|e| FILE.refuse(file, e.to_string()))?;
    let About { version, commit, date, system, adapter, kind, backend, driver, model, .. } = &found.about;
    let told = [version, date, system, adapter, kind, backend, driver, model].into_iter().chain(commit);
    let timings = timings(&found);
    let names = timings.iter().map(|(name, _)| name);
    // These are shown on a terminal; none of ours has anything in it that steers one.
    if let Some(bad) = told.chain(names).find(|text| text.chars().any(steers)) {
        return Err(FILE.refuse(file, format!("{bad:?} has control characters in it")));
    }
    for (name, timing) in timings {
        let Timing { median_s, low_s, high_s, .. } = timing;
        // Not-a-number is none of these either. A time may be lost in noise, but then it is no number of many digits.
        let sound = |s: f64| s.abs() < 1e6 && (s <= 0.0 || s > 1e-12);
        if !(sound(median_s) && low_s <= median_s && median_s <= high_s) {
            return Err(FILE.refuse(file, format!("the time of `{name}` is {low_s} to {high_s} around {median_s}")));
        }
    }
    Ok(found)
}

/// Compares what both have measured.
pub fn compare(old: &Examination, new: &Examination) -> Comparison {
    let mut found = Comparison { doubts: doubts(old, new), ..Comparison::default() };
    let phases = &new.phases;
    let (old, mut new) = (timings(old), timings(new));
    let mut changes = Vec::new();
    for (name, before) in old {
        let Some(at) = new.iter().position(|(other, _)| *other == name) else {
            found.only_old.push(name);
            continue;
        };
        let (_, after) = new.remove(at);
        if before.is_lost_in_noise() || after.is_lost_in_noise() {
            found.n_same += 1;
            continue;
        }
        let change = Change::of(name, &before, &after);
        changes.push(change.clone());
        if change.is_regression() {
            found.regressions.push(change);
        } else if change.is_improvement() {
            found.improvements.push(change);
        } else {
            found.n_same += 1;
        }
    }
    found.only_new = new.into_iter().map(|(name, _)| name).collect();
    found.regressions.sort_by(|a, b| b.factor().total_cmp(&a.factor()));
    found.improvements.sort_by(|a, b| a.factor().total_cmp(&b.factor()));
    found.doubts.extend(drifts(phases, &changes));
    found
}

/// Whether a terminal would do something with a character other than show it: control characters, and those that turn
/// the direction of text.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Phases most of whose times went the same way: noise within a run does not show what was different between two.
fn drifts(phases: &[PhaseReport], changes: &[Change]) -> Vec<String> {
    let drift = |phase: &PhaseReport| {
        let name = phase_name(phase);
        let of: Vec<&Change> = changes.iter().filter(|change| change.name.starts_with(&format!("{name}: "))).collect();
        let slower = of.iter().filter(|change| change.is_regression()).count();
        let faster = of.iter().filter(|change| change.is_improvement()).count();
        let (n, how) = if slower > faster { (slower, "slower") } else { (faster, "faster") };
        (n >= MANY && 3 * n >= 2 * of.len()).then(|| {
            format!(
                "{n} of the {} times of {name} became {how} together: the machine may have, not the kernels",
                of.len()
            )
        })
    };
    phases.iter().filter_map(drift).collect()
}

fn doubts(old: &Examination, new: &Examination) -> Vec<String> {
    let mut doubts = Vec::new();
    if !old.about.same_device(&new.about) {
        let name = |e: &Examination| format!("{} ({}, {})", e.about.adapter, e.about.backend, e.about.driver);
        doubts.push(format!("another device: {} then, {} now", name(old), name(new)));
    }
    if old.about.model != new.about.model {
        doubts.push(format!("another model: {} then, {} now", old.about.model, new.about.model));
    }
    let before = rows(old);
    let differs =
        |(name, row): &(String, &KernelRow)| before.iter().any(|(n, r)| n == name && r.variant != row.variant);
    let n_other = rows(new).iter().filter(|now| differs(now)).count();
    if n_other > 0 {
        doubts.push(format!("{n_other} kernels are built in another way, or for other formats"));
    }
    // A machine that is busy, or throttled, is slower at everything.
    if let (Some(then), Some(now)) = (old.ceilings.copy_bytes_per_s(), new.ceilings.copy_bytes_per_s()) {
        let by = now / then - 1.0;
        if then > 0.0 && by.abs() > 0.1 {
            doubts.push(format!(
                "the device itself copies {:+.0} % bytes a second: it was not in the same state",
                100.0 * by
            ));
        }
    }
    doubts
}

/// What tells the times of a phase from another's.
fn phase_name(phase: &PhaseReport) -> String {
    format!("{} {} @ {}", phase.phase, phase.n_tokens, phase.position)
}

/// Every row by its name, in order.
fn rows(examination: &Examination) -> Vec<(String, &KernelRow)> {
    let rows = examination.phases.iter().flat_map(|phase| phase.rows.iter().map(move |row| (phase, row)));
    let name = |phase, row: &KernelRow| format!("{}: {} {} {}", phase_name(phase), row.kernel, row.shape, row.label);
    rows.map(|(phase, row)| (name(phase, row), row)).collect()
}

/// Every time by its name: the rows', then those of whole phases.
fn timings(examination: &Examination) -> Vec<(String, Timing)> {
    let whole = |phase: &PhaseReport| (format!("{}: everything", phase_name(phase)), phase.whole);
    let rows = rows(examination).into_iter().map(|(name, row)| (name, row.timing));
    rows.chain(examination.phases.iter().map(whole)).collect()
}
