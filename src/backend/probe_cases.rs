//! The shapes that the probes are tried at: sizes that fill their workgroups and sizes that do not.

use super::check::{Builder, Case};
use crate::{
    kernels::{Kernel, Variant, measure::PROBE_WIDTH},
    plan::{Extent::*, Slot},
};

/// The cases of a probe; `None` for any other kernel.
pub(super) fn cases(kernel: &'static Kernel, variant: Variant) -> Option<Box<dyn Iterator<Item = Case>>> {
    let build = move |name: String| Builder::new(kernel, variant, name);
    Some(match kernel.name {
        "probe_copy" => {
            Box::new([(4096, 4), (1, 1), (1000, 3)].into_iter().map(move |(n, per)| build(format!("{n}")).copy(n, per)))
        }
        "probe_read" => Box::new(
            [[1024, 4096, 4], [1000, 2048, 8], [1, 1024, 12]]
                .into_iter()
                .map(move |params| build(format!("{} lanes of {}", params[0], params[1])).read(params)),
        ),
        "probe_f32" | "probe_f16" => {
            let steps = if kernel.needs.f16 { [16, 8, 24] } else { [512, 8, 1000] };
            Box::new(steps.into_iter().map(move |n| {
                let a = 0.25f32;
                build(format!("{n} steps")).arithmetic([n, a.to_bits()])
            }))
        }
        "probe_dot8" => Box::new(
            [(64, 0x0102_fdfc), (1, 0x7f80_7f80), (333, 0x8101_7f05)]
                .into_iter()
                .map(move |(n, b)| build(format!("{n} steps")).arithmetic([n, b])),
        ),
        "probe_shared" => Box::new(
            [(64, 7), (1, 1), (100, 41)].into_iter().map(move |(n, s)| build(format!("{n} steps")).arithmetic([n, s])),
        ),
        "probe_coop" => {
            let side = variant.tuning.prompt.coop.map_or(1, |shape| shape.side);
            Box::new([1, 8, 300].into_iter().map(move |n| build(format!("{n} steps")).arithmetic([n, side])))
        }
        "probe_touch" => Box::new([(32, 1), (5, 7), (3, u32::MAX)].into_iter().map(move |(n, add)| {
            let mut builder = build(format!("{n} words"));
            let words = builder.words("words", 40);
            builder.case(vec![n, add], &[], &[words], None, [Fixed(1), Fixed(1)], 1)
        })),
        _ => return None,
    })
}

impl Builder {
    fn copy(mut self, n: usize, per_lane: usize) -> Case {
        let (x, y) = (self.words("x", 4 * n), self.poisoned("words", 4 * n));
        let groups = n.div_ceil(PROBE_WIDTH * per_lane) as u32;
        self.case(vec![n as u32, per_lane as u32], &[x], &[y], None, [Fixed(groups), Fixed(1)], 1)
    }

    fn read(mut self, params: [u32; 3]) -> Case {
        let [n_lanes, n, _] = params.map(|p| p as usize);
        let (x, y) = (self.words("x", 4 * n), self.poisoned("words", n_lanes));
        let groups = n_lanes.div_ceil(PROBE_WIDTH) as u32;
        self.case(params.to_vec(), &[x], &[y], None, [Fixed(groups), Fixed(1)], 1)
    }

    fn arithmetic(mut self, params: [u32; 2]) -> Case {
        let x = match self.kernel.name {
            "probe_dot8" => self.words("x", 4 * PROBE_WIDTH),
            _ => self.random("x", 4 * PROBE_WIDTH, 0.5),
        };
        let y = self.poisoned("y", PROBE_WIDTH);
        self.case(params.to_vec(), &[x], &[y], None, [Fixed(1), Fixed(1)], 1)
    }

    /// Words of any bits.
    fn words(&mut self, name: &str, n: usize) -> Slot {
        let seed = self.next_seed();
        self.buffer(name, (0..n as u64).map(|i| crate::random::bits(seed, i)).collect())
    }
}
