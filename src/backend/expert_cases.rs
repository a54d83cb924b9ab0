//! The shapes at which the kernels of some architectures alone are tried: other norms, biases, mixtures of experts.

use super::check::{Builder, Case, whole_blocks};
use crate::{
    format::pack::n_blocks,
    kernels::{Kernel, NOBODY, Variant, groups_of},
    plan::Extent::*,
};

/// The cases of `kernel`, `None` where [`super::check::cases`] has them.
pub(super) fn cases(kernel: &'static Kernel, variant: Variant) -> Option<Box<dyn Iterator<Item = Case>>> {
    let build = move |name: String| Builder::new(kernel, variant, name);
    Some(match kernel.name {
        "layer_norm" => Box::new(
            [(576, 3, 0), (1, 2, 0), (97, 4, 1), (3072, 2, 1)]
                .into_iter()
                .map(move |(dim, t, last)| build(format!("{t}x{dim}")).layer_norm(dim, t, last)),
        ),
        "head_norm" => Box::new(
            [(3, 1, 64, 3), (2, 2, 96, 1), (6, 2, 16, 5), (1, 1, 4, 2), (2, 1, 256, 1)].into_iter().map(move |shape| {
                build(format!("{} tokens, heads {}/{} of {}", shape.3, shape.0, shape.1, shape.2)).head_norm(shape)
            }),
        ),
        "add_bias" => Box::new(
            [(96, 3, 0), (1, 1, 0), (257, 5, 1), (130, 2, 0)]
                .into_iter()
                .map(move |(dim, t, rows)| build(format!("{t}x{dim}")).add_bias(dim, t, rows)),
        ),
        "route" => Box::new(
            [(8, 2, 70, 0, 0.0), (4, 2, 5, 1, 0.3), (16, 2, 3, 1, 0.01), (3, 3, 2, 0, 0.0)]
                .into_iter()
                .map(move |shape| build(format!("{} of {} for {} tokens", shape.1, shape.0, shape.2)).route(shape)),
        ),
        "expert_groups" => {
            Box::new([(8, 2, 37, 8), (4, 2, 1, 64), (200, 3, 65, 8), (3, 1, 9, 64), (3, 2, 150, 64)].into_iter().map(
                move |(n, used, t, size)| {
                    build(format!("{used} of {n} for {t} tokens by {size}")).expert_groups(n, used, t, size)
                },
            ))
        }
        "expert_matvec" => Box::new(
            [(32, 96, 3, 2, 0, 1), (64, 160, 2, 3, 1, 0), (320, 96, 4, 2, 2, 1), (32, 1536, 1, 1, 0, 0)]
                .into_iter()
                .map(move |(rows, k, n, used, first, shared)| (rows, whole_blocks(variant, k), n, used, first, shared))
                .map(move |shape| build(format!("{} of {}x{}", shape.3, shape.0, shape.1)).expert_matvec(shape)),
        ),
        "expert_matmul_lanes" | "expert_matmul_tiles" => Box::new(
            [(32, 96, 3, 1, 47, 2), (64, 160, 2, 0, 95, 1), (96, 96, 4, 1, 1, 2), (32, 1536, 2, 1, 3, 1)]
                .into_iter()
                .map(move |(rows, k, n, first, t, used)| (rows, whole_blocks(variant, k), n, first, t, used))
                .map(move |shape| {
                    build(format!("{}x{} for {} tokens", shape.0, shape.1, shape.4)).expert_matmul(shape)
                }),
        ),
        "expert_sum" => Box::new(
            [(96, 3, 2), (1, 2, 1), (576, 1, 4)]
                .into_iter()
                .map(move |(dim, t, used)| build(format!("{t}x{dim} of {used}")).expert_sum(dim, t, used)),
        ),
        _ => return None,
    })
}

impl Builder {
    fn layer_norm(mut self, dim: usize, n_tokens: usize, last_only: usize) -> Case {
        let stride = n_blocks(dim) * 32;
        let step = self.step(n_tokens, 0, &[]);
        let (x, weight) = (self.random("x", n_tokens * stride, 1.0), self.random("weight", dim, 1.0));
        let (bias, y) = (self.random("bias", dim, 1.0), self.poisoned("y", n_tokens * stride));
        let params = vec![dim as u32, stride as u32, 1e-5f32.to_bits(), last_only as u32];
        let rows = if last_only == 1 { Fixed(1) } else { PerTokens(1) };
        self.case(params, &[step, x, weight, bias], &[y], None, [rows, Fixed(1)], n_tokens)
    }

    fn head_norm(mut self, (n_heads, n_kv, head_dim, n_tokens): (usize, usize, usize, usize)) -> Case {
        let stride = (n_heads + 2 * n_kv) * head_dim;
        let step = self.step(n_tokens, 0, &[]);
        let (q, k) = (self.random("q_weight", head_dim, 1.0), self.random("k_weight", head_dim, 1.0));
        let qkv = self.random("qkv", n_tokens * stride, 1.0);
        let params = [n_heads, n_kv, head_dim, stride].map(|p| p as u32).into_iter().chain([1e-6f32.to_bits()]);
        let grid = [Fixed((n_heads + n_kv) as u32), PerTokens(1)];
        self.case(params.collect(), &[step, q, k], &[qkv], None, grid, n_tokens)
    }

    fn add_bias(mut self, dim: usize, n_tokens: usize, rows: usize) -> Case {
        let (step, stride) = (self.step(n_tokens, 0, &[]), dim + 3);
        let (bias, y) = (self.random("bias", dim, 1.0), self.random("y", n_tokens * stride, 1.0));
        let params = [dim, stride, rows].map(|p| p as u32).to_vec();
        let groups = Fixed(dim.div_ceil(64) as u32);
        self.case(params, &[step, bias], &[y], None, [groups, PerTokens(1)], n_tokens)
    }

    fn route(mut self, (n, n_used, n_tokens, sparse, jitter): (usize, usize, usize, u32, f32)) -> Case {
        let step = self.step(n_tokens, 0, &[]);
        let logits = self.random("logits", n_tokens * n, 1.0);
        let (ids, shares) = (self.poisoned("ids", n_tokens * n_used), self.poisoned("shares", n_tokens * n_used));
        let params = vec![n as u32, n_used as u32, sparse, jitter.to_bits()];
        self.case(params, &[step, logits], &[ids, shares], None, [PerTokens(64), Fixed(1)], n_tokens)
    }

    /// Which experts each token uses: some often, some never.
    fn ids(&mut self, n: usize, n_used: usize, n_tokens: usize) -> Vec<u32> {
        let favourite = |t: usize| (t * t + t / 3) % n.div_ceil(2);
        (0..n_tokens * n_used).map(|a| ((favourite(a / n_used) + a % n_used) % n) as u32).collect()
    }

    fn expert_groups(mut self, n: usize, n_used: usize, n_tokens: usize, size: usize) -> Case {
        let step = self.step(n_tokens, 0, &[]);
        let ids = self.ids(n, n_used, n_tokens);
        let ids = self.buffer("ids", ids);
        let n_groups = (n_tokens * n_used).div_ceil(size) + n + 2;
        let groups = self.poisoned("groups", n_groups * (1 + size));
        let params = [n, n_used, n_groups, size].map(|p| p as u32).to_vec();
        self.case(params, &[step, ids], &[groups], None, [Fixed(1), Fixed(1)], n_tokens)
    }

    /// Experts `first ..` of `n` more than those are in the part; the other picks' rows stay as they are.
    fn expert_matvec(
        mut self,
        (rows, columns, n, n_used, first, shared_x): (usize, usize, usize, usize, usize, usize),
    ) -> Case {
        let ids: Vec<u32> = (0..n_used).map(|i| (first + i % (n + 1)) as u32).collect();
        let (ids, y_first) = (self.buffer("ids", ids), 32);
        let x = self.random("x", if shared_x == 1 { 1 } else { n_used } * n_blocks(columns) * 32, 1.0);
        let weight = self.matrix(n * rows, columns);
        let y_stride = y_first + rows;
        let y = self.poisoned("y", n_used * y_stride);
        let groups = Fixed((rows.div_ceil(32) as u32).div_ceil(self.variant.tuning.tiles));
        let params = [rows, n_blocks(columns), first, n, y_first, y_stride, n_used, shared_x].map(|p| p as u32);
        self.case(params.to_vec(), &[ids, x], &[y], Some(weight), [groups, Fixed(n_used as u32)], 1)
    }

    /// As above; the groups are those that `expert_groups` would make of [`Builder::ids`].
    fn expert_matmul(
        mut self,
        (rows, columns, n, first, n_tokens, n_used): (usize, usize, usize, usize, usize, usize),
    ) -> Case {
        let n_all = first + n + 1;
        let ids = self.ids(n_all, n_used, n_tokens);
        let batched = self.prompt().expert_matmul(self.variant.tuning.tiles);
        let size = batched.tokens as usize;
        let n_groups = (n_tokens * n_used).div_ceil(size) + n_all;
        let mut groups = groups_of(&ids, n_all, size);
        groups.resize(n_groups * (1 + size), NOBODY);
        let groups = self.buffer("groups", groups);
        let x = self.random("x", n_tokens * n_blocks(columns) * 32, 1.0);
        let (weight, y_first) = (self.matrix(n * rows, columns), 32);
        let y_stride = y_first + rows + 3;
        let y = self.poisoned("y", n_tokens * n_used * y_stride);
        let tiles = Fixed((rows.div_ceil(32) as u32).div_ceil(batched.tiles));
        let per = PerAssignments { per_token: n_used as u32, of: batched.tokens, plus: n_all as u32 };
        let params = [rows, n_blocks(columns), first, n, y_first, y_stride, n_used].map(|p| p as u32).to_vec();
        self.case(params, &[groups, x], &[y], Some(weight), [tiles, per], n_tokens)
    }

    fn expert_sum(mut self, dim: usize, n_tokens: usize, n_used: usize) -> Case {
        let (step, x_stride, y_stride) = (self.step(n_tokens, 0, &[]), n_blocks(dim) * 32, dim + 3);
        let shares = self.random("shares", n_tokens * n_used, 0.5);
        let y = self.random("y", n_tokens * n_used * y_stride, 1.0);
        let x = self.random("x", n_tokens * x_stride, 1.0);
        let params = [dim, x_stride, y_stride, n_used].map(|p| p as u32).to_vec();
        let groups = Fixed(dim.div_ceil(64) as u32);
        self.case(params, &[step, shares, y], &[x], None, [groups, PerTokens(1)], n_tokens)
    }
}
