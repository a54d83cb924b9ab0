// Products of one block of 32 columns of a lane's four rows with the activations of eight tokens.

// Adds four columns' products; the weights are decoded once for all tokens.
fn products_quad(sums: Eight, x: Eight, w: mat4x4<f32>) -> Eight {
    return Eight(sums.a + x.a * w, sums.b + x.b * w, sums.c + x.c * w, sums.d + x.d * w,
        sums.e + x.e * w, sums.f + x.f * w, sums.g + x.g * w, sums.h + x.h * w);
}

// Adds a block's; `first` is its first quad in a row of activations, `own` where the row of the lane's number begins.
fn products_eight(before: Eight, w: WeightBlock, own: u32, first: u32) -> Eight {
    let scale = weight_scale(w);
    let low = weight_min(w);
    var sums = products_quad(before, eight_quads(0u, own, first), weight_numbers(w, 0u, scale, low));
    sums = products_quad(sums, eight_quads(0u, own, first + 1u), weight_numbers(w, 1u, scale, low));
    sums = products_quad(sums, eight_quads(0u, own, first + 2u), weight_numbers(w, 2u, scale, low));
    sums = products_quad(sums, eight_quads(0u, own, first + 3u), weight_numbers(w, 3u, scale, low));
    sums = products_quad(sums, eight_quads(0u, own, first + 4u), weight_numbers(w, 4u, scale, low));
    sums = products_quad(sums, eight_quads(0u, own, first + 5u), weight_numbers(w, 5u, scale, low));
    sums = products_quad(sums, eight_quads(0u, own, first + 6u), weight_numbers(w, 6u, scale, low));
    return products_quad(sums, eight_quads(0u, own, first + 7u), weight_numbers(w, 7u, scale, low));
}
