//! The shapes at which the kernels that work on one token are tried.

use super::check::{Builder, Case, Heads, Span, whole_blocks};
use crate::{
    format::pack::n_blocks,
    kernels::{HeadShape, Kernel, Splits, Variant},
    plan::{Extent::*, Slot},
};

/// The cases of `kernel`, `None` where another list has them.
pub(super) fn cases(kernel: &'static Kernel, variant: Variant) -> Option<Box<dyn Iterator<Item = Case>>> {
    let build = move |name: String| Builder::new(kernel, variant, name);
    let whole = move |columns| whole_blocks(variant, columns);
    Some(match kernel.name {
        "embed_norm" => Box::new(
            [(96, 70, 0), (32, 33, 1), (576, 300, 5), (3072, 40, 0)]
                .into_iter()
                .map(move |(dim, rows, first)| build(format!("{dim}")).embed_norm(whole(dim), rows, first)),
        ),
        "matvec_norm" => Box::new(
            [(33, 32, 0, 1), (1, 96, 5, 0), (260, 576, 0, 1), (130, 1536, 7, 0), (64, 3072, 0, 0)].into_iter().map(
                move |(rows, columns, first, bias)| {
                    build(format!("{rows}x{columns}")).matvec_norm(rows, whole(columns), first, bias)
                },
            ),
        ),
        "matvec_residual" => Box::new(
            [(33, 32, 0, 1), (1, 96, 32, 0), (260, 576, 64, 1), (130, 1536, 0, 0), (64, 3072, 0, 0)].into_iter().map(
                move |(rows, columns, first, bias)| {
                    build(format!("{rows}x{columns}")).matvec_residual(rows, whole(columns), first, bias)
                },
            ),
        ),
        "matvec_swiglu" => Box::new(
            [(32, 32), (64, 96), (288, 576), (32, 3072)]
                .into_iter()
                .map(move |(rows, columns)| build(format!("{rows}x{columns}")).matvec_swiglu(rows, whole(columns))),
        ),
        "expert_swiglu" => Box::new(
            [(32, 96, 3, 2, 0), (64, 160, 2, 3, 1), (320, 96, 4, 2, 2), (32, 1536, 1, 1, 0)]
                .into_iter()
                .map(move |(rows, k, n, used, first)| (rows, whole(k), n, used, first))
                .map(move |shape| build(format!("{} of {}x{}", shape.3, shape.0, shape.1)).expert_swiglu(shape)),
        ),
        "expert_residual" => Box::new(
            [(32, 96, 3, 2, 0), (64, 160, 2, 3, 1), (320, 96, 4, 2, 2), (32, 1536, 1, 1, 0)]
                .into_iter()
                .map(move |(rows, k, n, used, first)| (rows, whole(k), n, used, first))
                .map(move |shape| build(format!("{} of {}x{}", shape.3, shape.0, shape.1)).expert_residual(shape)),
        ),
        "attend" => Box::new(
            ATTEND_CASES
                .iter()
                // Rings and windows are about rows, whatever the width of a head.
                .filter(move |case| case.every_shape || variant.heads == Some(HeadShape::TESTED[1]))
                .map(move |case| build(case.name.to_string()).attend(case)),
        ),
        "attend_merge" => Box::new(
            [(96, 3, 0, 700, 0), (64, 9, 2, 257, 0), (256, 1, 0, 5000, 300), (4, 2, 1, 2000, 0)].into_iter().map(
                move |(dim, n, first, position, window)| {
                    build(format!("{n} heads of {dim}")).attend_merge(dim, n, first, position, window)
                },
            ),
        ),
        _ => return None,
    })
}

struct AttendCase {
    name: &'static str,
    /// Heads of keys: all, the first of the part, and those of it.
    kv_heads: [usize; 3],
    position: usize,
    /// Rows of the cache; 0: one for each position, and some to spare.
    capacity: usize,
    window: usize,
    splits: [u32; 2],
    interleaved: bool,
    /// Of the norms of heads; 0: none.
    norm_eps: f32,
    every_shape: bool,
}

const ONE_KEY: AttendCase = AttendCase {
    name: "1 key",
    kv_heads: [2, 0, 2],
    position: 0,
    capacity: 0,
    window: 0,
    splits: [256, 16],
    interleaved: false,
    norm_eps: 0.0,
    every_shape: true,
};

const ATTEND_CASES: [AttendCase; 8] = [
    AttendCase { name: "41 keys, normed heads", position: 40, norm_eps: 1e-5, interleaved: true, ..ONE_KEY },
    ONE_KEY,
    AttendCase { name: "300 keys in 3 splits", position: 299, splits: [64, 3], ..ONE_KEY },
    AttendCase { name: "130 keys, a part of 5 heads", kv_heads: [5, 2, 2], position: 129, ..ONE_KEY },
    AttendCase { name: "a window of 48", position: 127, window: 48, every_shape: false, ..ONE_KEY },
    AttendCase { name: "a ring of 24", position: 61, capacity: 24, window: 20, every_shape: false, ..ONE_KEY },
    AttendCase {
        name: "a ring of 1302 in splits",
        kv_heads: [3, 1, 1],
        position: 2000,
        capacity: 1302,
        window: 1300,
        every_shape: false,
        ..ONE_KEY
    },
    AttendCase { name: "1032 keys at once", position: 1031, splits: [4096, 16], every_shape: false, ..ONE_KEY },
];

impl Builder {
    fn token(&mut self, token: usize) -> Slot {
        self.step(1, 0, &[token as u32])
    }

    fn bias(&mut self, n: usize, has_bias: usize) -> Slot {
        match has_bias {
            0 => self.buffer("bias", vec![0]),
            _ => self.random("bias", n, 1.0),
        }
    }

    fn embed_norm(mut self, dim: usize, n_rows: usize, first_row: usize) -> Case {
        let (step, norm) = (self.token(first_row + n_rows * 2 / 3), self.random("norm", dim, 1.0));
        let weight = self.matrix(n_rows, dim);
        let writes = [self.poisoned("residual", dim), self.poisoned("weighted", dim)];
        let squares = self.poisoned("squares", n_blocks(dim));
        let params = [dim, first_row, n_rows].map(|p| p as u32).to_vec();
        let grid = [Fixed(n_blocks(dim).div_ceil(64) as u32), Fixed(1)];
        self.case(params, &[step, norm], &[writes[0], writes[1], squares], Some(weight), grid, 1)
    }

    fn groups(&self, rows: usize) -> u32 {
        (rows.div_ceil(32) as u32).div_ceil(self.variant.tuning.tiles)
    }

    /// Sums of squares that make rms about 1.
    fn squares(&mut self, columns: usize) -> Slot {
        let values = (0..n_blocks(columns)).map(|i| (20.0 + (i * 7 % 13) as f32).to_bits()).collect();
        self.buffer("squares", values)
    }

    fn matvec_norm(mut self, rows: usize, columns: usize, y_first: usize, has_bias: usize) -> Case {
        let (x, squares) = (self.random("x", n_blocks(columns) * 32, 1.0), self.squares(columns));
        let (bias, weight) = (self.bias(y_first + rows, has_bias), self.matrix(rows, columns));
        let y = self.poisoned("y", y_first + rows + 3);
        let params = [rows, n_blocks(columns), y_first, has_bias, n_blocks(columns), columns].map(|p| p as u32);
        let params = params.into_iter().chain([1e-5f32.to_bits()]).collect();
        let grid = [Fixed(self.groups(rows)), Fixed(1)];
        self.case(params, &[x, squares, bias], &[y], Some(weight), grid, 1)
    }

    fn matvec_residual(mut self, rows: usize, columns: usize, first_row: usize, has_bias: usize) -> Case {
        let x = self.random("x", n_blocks(columns) * 32, 1.0);
        let (bias, norm) = (self.bias(first_row + rows, has_bias), self.random("norm", first_row + rows, 1.0));
        let weight = self.matrix(rows, columns);
        let residual = self.random("residual", first_row + rows, 1.0);
        let weighted = self.poisoned("weighted", first_row + rows);
        let squares = self.poisoned("squares", first_row / 32 + rows.div_ceil(32));
        let params = [rows, n_blocks(columns), first_row, has_bias].map(|p| p as u32).to_vec();
        let grid = [Fixed(self.groups(rows)), Fixed(1)];
        self.case(params, &[x, bias, norm], &[residual, weighted, squares], Some(weight), grid, 1)
    }

    fn matvec_swiglu(mut self, rows: usize, columns: usize) -> Case {
        let (x, squares) = (self.random("x", n_blocks(columns) * 32, 1.0), self.squares(columns));
        let weight = self.matrix(2 * rows, columns);
        let h = self.poisoned("h", rows);
        let params = [rows, n_blocks(columns), n_blocks(columns), columns].map(|p| p as u32);
        let params = params.into_iter().chain([1e-5f32.to_bits()]).collect();
        let grid = [Fixed(self.groups(rows)), Fixed(1)];
        self.case(params, &[x, squares], &[h], Some(weight), grid, 1)
    }

    fn expert_swiglu(mut self, (rows, columns, n, n_used, first): (usize, usize, usize, usize, usize)) -> Case {
        let ids = (0..n_used).map(|i| (first + i % (n + 1)) as u32).collect();
        let (ids, shares) = (self.buffer("ids", ids), self.random("shares", n_used, 0.5));
        let (x, squares) = (self.random("x", n_blocks(columns) * 32, 1.0), self.squares(columns));
        let (weight, h_stride) = (self.matrix(n * 2 * rows, columns), rows + 5);
        let h = self.poisoned("h", n_used * h_stride);
        let params = [rows, n_blocks(columns), first, n, h_stride, n_used, n_blocks(columns), columns];
        let params = params.iter().map(|&p| p as u32).chain([1e-5f32.to_bits()]).collect();
        let grid = [Fixed(self.groups(rows)), Fixed(n_used as u32)];
        self.case(params, &[ids, shares, x, squares], &[h], Some(weight), grid, 1)
    }

    fn expert_residual(mut self, (rows, columns, n, n_used, first): (usize, usize, usize, usize, usize)) -> Case {
        let ids = (0..n_used).map(|i| (first + i % (n + 1)) as u32).collect();
        let ids = self.buffer("ids", ids);
        let (x, norm) = (self.random("x", n_used * n_blocks(columns) * 32, 1.0), self.random("norm", rows, 1.0));
        let weight = self.matrix(n * rows, columns);
        let writes = [self.random("residual", rows, 1.0), self.poisoned("weighted", rows)];
        let squares = self.poisoned("squares", rows / 32);
        let params = [rows, n_blocks(columns), first, n, n_used].map(|p| p as u32).to_vec();
        let grid = [Fixed(self.groups(rows)), Fixed(1)];
        self.case(params, &[ids, x, norm], &[writes[0], writes[1], squares], Some(weight), grid, 1)
    }

    fn attend(mut self, case: &AttendCase) -> Case {
        let HeadShape { head_dim, sharing } = self.variant.heads.expect("a kernel for heads of one shape");
        let ([n_kv, first, part], dim) = (case.kv_heads, head_dim as usize);
        let heads = Heads { n: n_kv * sharing as usize, n_kv, dim, first, part };
        // The rows of the tokens before; the own row is the kernel's to write.
        let span = Span { n_tokens: 0, position: case.position, capacity: case.capacity };
        let (capacity, rope_dim) = (span.rows(), (dim / 4 * 3).next_multiple_of(2));
        let step = self.step(1, case.position, &[]);
        let qkv = self.random("qkv", (heads.n + 2 * n_kv) * dim, 1.0);
        let angles = self.random("angles", (case.position + 1) * rope_dim, 0.5);
        let (q_norm, k_norm) = (self.random("q_norm", dim, 1.0), self.random("k_norm", dim, 1.0));
        let [k, v] = ["k", "v"].map(|name| self.cached(name, heads, span, case.window));
        let partials_at = heads.n * dim;
        let splits = Splits { keys: case.splits[0], most: case.splits[1], window: case.window as u32 };
        let n_partials = heads.n * splits.at(case.position) as usize * (dim + 2);
        let out = self.poisoned("out", partials_at + n_partials);
        let params = [heads.n, n_kv, dim, rope_dim, case.interleaved as usize, capacity, case.window, first, part];
        let mut params: Vec<u32> = params.iter().map(|&p| p as u32).collect();
        params.extend([splits.keys, splits.most, partials_at as u32, 0.3f32.to_bits(), case.norm_eps.to_bits()]);
        let grid = [Fixed(part as u32), PerSplit(splits)];
        self.case(params, &[step, qkv, angles, q_norm, k_norm], &[k, v, out], None, grid, 1)
    }

    fn attend_merge(mut self, dim: usize, n_heads: usize, first: usize, position: usize, window: usize) -> Case {
        let splits = Splits { keys: 100, most: 7, window: window as u32 };
        let partials_at = (first + n_heads) * dim + 2;
        let n_partials = (first + n_heads) * splits.at(position) as usize;
        let step = self.step(1, position, &[]);
        let out = self.poisoned("out", partials_at);
        // Behind the place of the outputs: sums, their maxima, and sums of weights, which are never below 1.
        let mut words = crate::random::with_outliers(self.next_seed(), n_partials * (dim + 2), 1.0);
        words.chunks_mut(dim + 2).for_each(|partial| partial[dim + 1] = 1.0 + partial[dim + 1].abs());
        let guards = self.contents[out.0].split_off(partials_at);
        self.contents[out.0].extend(words.iter().map(|word| word.to_bits()).chain(guards));
        let bytes = 4 * self.contents[out.0].len() as u64;
        self.plan.buffer("out", bytes, crate::plan::Content::Activation);
        let params = [dim, first, n_heads, window].map(|p| p as u32).into_iter();
        let params = params.chain([splits.keys, splits.most, partials_at as u32]).collect();
        self.case(params, &[step], &[out], None, [IfSplit(n_heads as u32, splits), Fixed(1)], 1)
    }
}
