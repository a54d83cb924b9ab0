//! Counts of what was asked of a device: whoever measures subtracts two of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What was asked of a device since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    pub submits: u64,
    pub dispatches: u64,
    /// Bytes that were mapped for the CPU to read.
    pub read_back_bytes: u64,
    /// Buffers, bind groups, layouts, shader modules and pipelines that were made.
    pub created: u64,
}

impl std::ops::Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            submits: self.submits - before.submits,
            dispatches: self.dispatches - before.dispatches,
            read_back_bytes: self.read_back_bytes - before.read_back_bytes,
            created: self.created - before.created,
        }
    }
}

/// The counts as they grow.
#[derive(Debug, Default)]
pub(super) struct Counting {
    pub submits: AtomicU64,
    pub dispatches: AtomicU64,
    pub read_back_bytes: AtomicU64,
    pub created: AtomicU64,
}

impl Counting {
    pub fn read(&self) -> Counters {
        let Self { submits, dispatches, read_back_bytes, created } = self;
        Counters {
            submits: submits.load(Relaxed),
            dispatches: dispatches.load(Relaxed),
            read_back_bytes: read_back_bytes.load(Relaxed),
            created: created.load(Relaxed),
        }
    }
}

impl super::Gpu {
    /// What was asked of the device so far.
    pub fn counters(&self) -> Counters {
        self.counting.read()
    }

    /// Notes that `n` objects were made.
    pub(super) fn count_created(&self, n: usize) {
        self.counting.created.fetch_add(n as u64, Relaxed);
    }

    /// Notes that `n` dispatches were recorded.
    pub(super) fn count_dispatches(&self, n: usize) {
        self.counting.dispatches.fetch_add(n as u64, Relaxed);
    }

    /// Notes that `bytes` were mapped.
    pub(super) fn count_read_back(&self, bytes: u64) {
        self.counting.read_back_bytes.fetch_add(bytes, Relaxed);
    }

    /// Hands work to the queue.
    pub(super) fn submit(&self, commands: Option<wgpu::CommandBuffer>) -> wgpu::SubmissionIndex {
        self.counting.submits.fetch_add(1, Relaxed);
        self.queue.submit(commands)
    }
}
