//! The instrument: what a device can do at best, and what a model makes of it. Values only, ready for JSON; text and pages
//! are made of them by [`table`] and [`page`], and whoever runs it prints.

mod about;
mod bench;
mod ceilings;
mod compare;
mod examine;
pub mod page;
mod plot;
mod probes;
mod rooflines;
mod subject;
pub mod table;

pub use about::About;
pub use bench::{Bench, BenchOptions, BenchRow, DepthCost, PathTaken, bench, fill_depth_costs, wrong_paths};
pub use ceilings::{Ceiling, Ceilings, Point, measure_ceilings, measure_copy};
pub use compare::{Change, Comparison, compare, parse, read};
pub use examine::{Examination, ExamineOptions, KIND, KernelRow, PhaseReport, WaterfallBar, examine};
pub use rooflines::{Bound, Limit, bound};
pub use subject::{Subject, SubjectOptions};
