// Four numbers of each of eight rows, each lane loading all of them.
struct Eight { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, e: vec4<f32>, f: vec4<f32>, g: vec4<f32>, h: vec4<f32> }

// Quad `i` of rows 0 .. 7 of what the kernel calls `source`.
fn eight_quads(source: u32, own: u32, i: u32) -> Eight {
    return Eight(shared_quad(source, shared_row(source, 0u) + i), shared_quad(source, shared_row(source, 1u) + i),
        shared_quad(source, shared_row(source, 2u) + i), shared_quad(source, shared_row(source, 3u) + i),
        shared_quad(source, shared_row(source, 4u) + i), shared_quad(source, shared_row(source, 5u) + i),
        shared_quad(source, shared_row(source, 6u) + i), shared_quad(source, shared_row(source, 7u) + i));
}
