//! An examination as one page that needs nothing else: rooflines, waterfalls and tables, light and dark.

use super::{Comparison, Examination};

/// The page.
pub fn page(_found: &Examination, _compared: Option<&Comparison>) -> String { String::new() }
