//! What a result is about: which program, on which device, when.

use crate::{backend::gpu::AdapterReport, platform};

/// Where a result comes from. Two results compare if their devices are the same.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct About {
    pub version: String,
    /// Of the source, where whoever measures knows it.
    pub commit: Option<String>,
    /// UTC, as `2026-11-24T06:30:00Z`.
    pub date: String,
    pub system: String,
    pub adapter: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `unknown`.
    pub kind: String,
    pub backend: String,
    pub driver: String,
    pub subgroup_size: [u32; 2],
    pub f16: bool,
    /// The model's name or its shape's.
    pub model: String,
}

impl About {
    /// Now, on this adapter.
    pub fn now(adapter: &AdapterReport, model: &str, commit: Option<String>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            commit,
            date: date(platform::unix_time_s()),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            adapter: adapter.name.clone(),
            kind: adapter.kind.into(),
            backend: adapter.backend.clone(),
            driver: adapter.driver.clone(),
            subgroup_size: adapter.subgroup_size,
            f16: adapter.f16,
            model: model.into(),
        }
    }

    /// The same device with the same driver.
    pub fn same_device(&self, other: &Self) -> bool {
        let device = |about: &Self| [&about.adapter, &about.backend, &about.driver].map(String::clone);
        device(self) == device(other)
    }
}

/// Seconds since 1970 as a date and time; days are counted from March on, so that leap days come last.
fn date(unix_s: f64) -> String {
    let seconds = unix_s.max(0.0) as u64;
    let (days, second) = (seconds / 86400 + 719_468, seconds % 86400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + (month <= 2) as u64;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[test]
fn dates() {
    assert_eq!(date(0.0), "1970-01-01T00:00:00Z");
    assert_eq!(date(951_782_400.0), "2000-02-29T00:00:00Z");
    assert_eq!(date(1_767_225_599.5), "2025-12-31T23:59:59Z");
    assert_eq!(date(1_795_501_800.0), "2026-11-24T06:30:00Z");
}
