//! The product through cooperative matrices where there are none: its text with every matrix spelt out, so that what it
//! stages, loads and stores is tried at both sizes on any adapter. `doctor` tries the matrices themselves.

use pocketlm::{
    CacheFormat, WeightFormat,
    backend::lockstep::difference,
    format::pack::pack,
    kernels::{Call, CoopShape, MATMUL_COOP, Planes, Tuning, Variant},
    random,
};

/// Every lane stands for a subgroup and holds its matrices alone; rows and columns are where the strides say.
const SPELT_OUT: &str = "
// The four matrices that a lane sums; a matrix is known by its number.
var<private> all_sums: array<f32, 4u * SIDE * SIDE>;
fn load_sums(at: u32) -> u32 {
    for (var i = 0u; i < 4u * SIDE * SIDE; i++) { all_sums[i] = results[at + i % (SIDE * SIDE)]; }
    return 0u;
}
fn store_sums(sums: u32, at: u32) {
    for (var i = 0u; i < SIDE * SIDE; i++) { results[at + i] = all_sums[sums * SIDE * SIDE + i]; }
}
fn add_products(tokens: u32, rows: u32, sums: u32) -> u32 {
    for (var i = 0u; i < SIDE * SIDE; i++) {
        var sum = 0.0;
        for (var k = 0u; k < SIDE; k++) {
            sum += f32(staged_x[tokens + i / SIDE * STRIDE + k]) * f32(staged_w[rows + i % SIDE * STRIDE + k]);
        }
        all_sums[sums * SIDE * SIDE + i] += sum;
    }
    return sums;
}
";

/// Eight lanes: four that sum, and four that stand for the surplus of a device with narrow subgroups.
fn spelt_out(side: u32) -> String {
    let mut tuning = Tuning::BASELINE;
    tuning.prompt.coop = Some(CoopShape { side, lanes: 8 });
    let variant = Variant { format: Some(WeightFormat::F32), cache: None, heads: None, tuning };
    let mut wgsl = MATMUL_COOP.assemble(MATMUL_COOP.variant(variant)).wgsl;
    for (from, to) in [
        ("enable wgpu_cooperative_matrix;\n", ""),
        ("@builtin(subgroup_id) subgroup: u32,", ""),
        ("let sums = subgroup", "let subgroup = lane;\n    let sums = subgroup"),
        ("coopLoadT<Sums>(&results[own_results], SIDE)", "load_sums(own_results)"),
        ("var near_high = near_low", "var near_high = 1u"),
        ("var far_low = near_low", "var far_low = 2u"),
        ("var far_high = near_low", "var far_high = 3u"),
        ("coopLoadT<Tokens>(&staged_x[", "("),
        ("coopLoad<Rows>(&staged_w[", "("),
        ("], STRIDE)", ")"),
        ("coopMultiplyAdd(", "add_products("),
        ("coopStoreT(", "store_sums("),
        ("&results[own_results], SIDE)", "own_results)"),
    ] {
        assert!(wgsl.contains(from), "`{from}` is in the shader");
        wgsl = wgsl.replace(from, to);
    }
    let lines = wgsl.lines().filter(|line| !line.contains("= coop_mat"));
    let text = lines.collect::<Vec<_>>().join("\n") + SPELT_OUT;
    assert!(
        !["coopL", "coopM", "coopS", "coop_mat"].iter().any(|word| text.contains(word)),
        "a matrix is left:\n{text}"
    );
    text
}

/// Runs the text on one workgroup after the other, and returns what is in `y` then.
async fn run(wgsl: String, groups: [u32; 2], params: &[u32], reads: &[&[u32]], weights: &[u32], y: &[u32]) -> Vec<u32> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&Default::default()).await.expect("an adapter");
    let required_features = wgpu::Features::SHADER_F16;
    let descriptor = wgpu::DeviceDescriptor { required_features, ..Default::default() };
    let (device, queue) = adapter.request_device(&descriptor).await.expect("a device with f16");
    let buffer = |words: &[u32], usage: wgpu::BufferUsages| {
        let usage = usage | wgpu::BufferUsages::COPY_DST;
        let size = (4 * words.len() as u64).next_multiple_of(16);
        let buffer =
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
        buffer
    };
    let storage = wgpu::BufferUsages::STORAGE;
    let mut buffers = vec![buffer(params, wgpu::BufferUsages::UNIFORM)];
    buffers.extend(reads.iter().map(|words| buffer(words, storage)));
    buffers.push(buffer(y, storage | wgpu::BufferUsages::COPY_SRC));
    let weights = buffer(weights, storage);
    let source = wgpu::ShaderSource::Wgsl(wgsl.into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: Default::default(),
        cache: None,
    });
    let group = |index: u32, buffers: &[wgpu::Buffer]| {
        let layout = pipeline.get_bind_group_layout(index);
        let entries: Vec<_> = buffers
            .iter()
            .zip(0..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries })
    };
    let groups_bound = [group(0, &buffers), group(1, &[weights])];
    let y_buffer = buffers.last().expect("y");
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let size = y_buffer.size();
    let back = device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        groups_bound.iter().zip(0..).for_each(|(group, index)| pass.set_bind_group(index, group, &[]));
        pass.dispatch_workgroups(groups[0], groups[1], 1);
    }
    encoder.copy_buffer_to_buffer(y_buffer, 0, &back, 0, size);
    queue.submit([encoder.finish()]);
    back.map_async(wgpu::MapMode::Read, .., |result| result.expect("it maps"));
    device.poll(wgpu::PollType::wait_indefinitely()).expect("it runs");
    bytemuck::cast_slice(&back.get_mapped_range(..).expect("it is mapped"))[..y.len()].to_vec()
}

fn check(side: u32, [n_rows, n_blocks, n_tokens]: [usize; 3], accumulate: bool) {
    let (y_first, columns) = (5, 32 * n_blocks);
    let y_stride = y_first + n_rows + 3;
    let params = [n_rows, n_blocks, y_first, y_stride, accumulate as usize].map(|p| p as u32);
    let words = |values: Vec<f32>| -> Vec<u32> { bytemuck::cast_vec(values) };
    let mut x = random::with_outliers(3, n_tokens * columns, 1.0);
    if n_tokens == 1 {
        // Beyond f16: it must become the largest there and not infinity.
        x[1] = 1e6;
    }
    let (step, x) = ([n_tokens as u32, 0, 0, 0], words(x));
    let bytes = WeightFormat::F32.encode(&random::with_outliers(4, n_rows * columns, 1.0));
    let (quants, scales) = pack(WeightFormat::F32, &bytes, n_rows, columns);
    // What is not written stays NaN.
    let y = match accumulate {
        true => words(random::with_outliers(5, n_tokens * y_stride, 1.0)),
        false => vec![0x7fc0_dead; n_tokens * y_stride],
    };
    let groups = [n_rows.div_ceil(4 * side as usize) as u32, n_tokens.div_ceil(4 * side as usize) as u32];
    let got = pollster::block_on(run(spelt_out(side), groups, &params, &[&step, &x], &quants, &y));
    let planes = Planes { format: WeightFormat::F32, quants: &quants, scales: &scales };
    let (reads, writes): (&[&[u32]], _) = (&[&step, &x], &mut [y]);
    let cache = CacheFormat::F32;
    (MATMUL_COOP.reference)(&mut Call { params: &params, reads, writes, planes: Some(planes), cache });
    let error = difference(bytemuck::cast_slice(&writes[0]), bytemuck::cast_slice(&got));
    let shape = [n_rows, n_blocks, n_tokens];
    assert!(error <= MATMUL_COOP.tolerance, "{side}x{side}, {shape:?}: error {error:e}");
}

#[test]
fn the_product_without_matrices_agrees_at_both_sizes() {
    for side in [8, 16] {
        check(side, [70, 3, 69], false);
        check(side, [33, 1, 1], true);
        check(side, [1, 2, 17], false);
    }
}
