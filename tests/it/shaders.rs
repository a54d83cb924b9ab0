//! Every assembled shader: valid without capabilities it does not declare, true to its contract, translatable to every
//! backend, and buildable at WebGPU's default limits.

use naga::{
    back,
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};
use pocketlm::{
    CacheFormat, WeightFormat,
    backend::Gpu,
    kernels::{self, CoopShape, Kernel, PromptMath, Tuning, Variant},
    model::{Phase, RecordOptions, record, synthetic},
    plan::Batch,
};
use std::sync::Arc;

fn every_variant() -> Vec<(&'static Kernel, Variant)> {
    let mut tunings = Tuning::candidates(Some([8, 8]));
    // Subgroups of one width, and of any.
    for (side, subgroup_size) in [(16, [32, 32]), (16, [32, 64]), (8, [8, 8]), (8, [32, 32])] {
        let mut tuning = Tuning::BASELINE;
        tuning.prompt.coop = Some(CoopShape::of(side, subgroup_size).expect("a shape"));
        tunings.push(tuning);
    }
    kernels::every().flat_map(|kernel| kernel.variants(&tunings).into_iter().map(move |v| (kernel, v))).collect()
}

fn validate(kernel: &Kernel, variant: Variant) -> (naga::Module, ModuleInfo) {
    let shader = kernel.assemble(variant);
    let module = naga::front::wgsl::parse_str(&shader.wgsl).unwrap_or_else(|error| {
        let line = error.location(&shader.wgsl).map_or(1, |location| location.line_number as usize);
        panic!("{:?}: {}", shader.origin(line), error.emit_to_string(&shader.wgsl))
    });
    // `pack2x16float` and `unpack2x16float`: core WGSL, though naga counts them as a capability.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SUBGROUP, shader.subgroups);
    capabilities.set(Capabilities::SHADER_FLOAT16, kernel.needs.f16);
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, kernel.needs.coop);
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    if shader.subgroups {
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
        validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    }
    let info = validator.validate(&module).unwrap_or_else(|error| panic!("{} ({variant}): {error:?}", kernel.name));
    (module, info)
}

#[test]
fn shaders_are_valid_and_keep_their_contracts() {
    let all = every_variant();
    assert!(all.len() > 50);
    for (kernel, variant) in all {
        let (module, _) = validate(kernel, variant);
        let mut bound: Vec<_> = module
            .global_variables
            .iter()
            .filter_map(|(_, global)| Some((global.binding?.group, global.binding?.binding, global.name.clone()?)))
            .collect();
        bound.sort();
        let names: Vec<&str> = bound.iter().filter(|b| b.0 == 0).map(|b| b.2.as_str()).collect();
        let want: Vec<&str> = ["params"].iter().chain(kernel.reads).chain(kernel.writes).copied().collect();
        assert_eq!(names, want, "{} ({variant}): bindings", kernel.name);
        let planes = bound.iter().filter(|b| b.0 == 1).count();
        let want = variant.format.map_or(0, |format| 1 + (format.scale_words() > 0) as usize);
        assert_eq!(planes, want, "{} ({variant}): planes", kernel.name);
        assert!(names.len() - 1 + planes <= 8, "{}: storage buffers", kernel.name);
        let fields = module.types.iter().find_map(|(_, ty)| match (&ty.inner, ty.name.as_deref()) {
            (naga::TypeInner::Struct { members, .. }, Some("Params")) => {
                Some(members.iter().map(|m| m.name.clone().expect("a field")).collect::<Vec<_>>())
            }
            _ => None,
        });
        assert_eq!(fields.expect("Params"), kernel.params, "{}", kernel.name);
    }
}

#[test]
fn shaders_fit_default_limits() {
    for (kernel, variant) in every_variant() {
        let (module, _) = validate(kernel, variant);
        let layouts = module.global_variables.iter().filter(|(_, g)| g.space == naga::AddressSpace::WorkGroup);
        let bytes: u32 = layouts.map(|(_, g)| module.types[g.ty].inner.size(module.to_ctx())).sum();
        assert!(bytes <= 16384, "{} ({variant}): {bytes} bytes of workgroup memory", kernel.name);
        let size = module.entry_points[0].workgroup_size;
        assert!(size.iter().product::<u32>() <= 256, "{} ({variant}): {size:?}", kernel.name);
        assert_eq!(module.entry_points.len(), 1);
    }
}

#[test]
fn shaders_translate_to_every_backend() {
    for (kernel, variant) in every_variant() {
        let (module, info) = validate(kernel, variant);
        let name = format!("{} ({variant})", kernel.name);
        let spv = back::spv::Options { lang_version: (1, 3), ..Default::default() };
        back::spv::write_vec(&module, &info, &spv, None).unwrap_or_else(|e| panic!("{name}, SPIR-V: {e}"));
        // Metal has matrices of 8x8 alone, from 2.3 on; for others naga would write types that are not there.
        if variant.tuning.prompt.coop.is_none_or(|coop| coop.side == 8) {
            let lang_version = if kernel.needs.coop { (2, 3) } else { (2, 1) };
            let msl = back::msl::Options { lang_version, ..Default::default() };
            back::msl::write_string(&module, &info, &msl, &Default::default())
                .unwrap_or_else(|e| panic!("{name}, MSL: {e}"));
        }
        let flags = back::wgsl::WriterFlags::empty();
        back::wgsl::write_string(&module, &info, flags).unwrap_or_else(|e| panic!("{name}, WGSL: {e}"));
        if kernel.needs.coop {
            // wgpu reports cooperative matrices through Vulkan and Metal alone: naga has no HLSL for them.
            continue;
        }
        let options = back::hlsl::Options { shader_model: back::hlsl::ShaderModel::V6_0, ..Default::default() };
        let pipeline = back::hlsl::PipelineOptions::default();
        let mut hlsl = String::new();
        back::hlsl::Writer::new(&mut hlsl, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{name}, HLSL: {e}"));
    }
}

/// The validator is not one that lets everything through.
#[test]
fn undeclared_subgroups_are_refused() {
    let wgsl = "@compute @workgroup_size(8) fn main() { let x = subgroupAdd(1u); }";
    let module = naga::front::wgsl::parse_str(wgsl).expect("it parses");
    assert!(Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).is_err());
}

/// Neither does it take cooperative matrices for granted.
#[test]
fn undeclared_cooperative_matrices_are_refused() {
    let mut tuning = Tuning::BASELINE;
    tuning.prompt.coop = Some(CoopShape::USUAL);
    let variant = Variant { format: Some(WeightFormat::Q4_0), cache: None, heads: None, tuning };
    let wgsl = kernels::MATMUL_COOP.assemble(kernels::MATMUL_COOP.variant(variant)).wgsl;
    let module = naga::front::wgsl::parse_str(&wgsl).expect("it parses");
    let capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32 | Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP;
    let error = Validator::new(ValidationFlags::all(), capabilities).validate(&module).expect_err("no matrices");
    assert!(format!("{error:?}").contains("COOPERATIVE_MATRIX"), "{error:?}");
}

/// Pipelines and bind groups of whole plans on wgpu's no-op backend, at WebGPU's default limits.
#[test]
fn plans_bind_at_webgpu_default_limits() {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::NOOP;
    descriptor.backend_options.noop.enable = true;
    let instance = wgpu::Instance::new(descriptor);
    pollster::block_on(async {
        let adapter = instance.request_adapter(&Default::default()).await.expect("the no-op adapter");
        let limits = wgpu::Limits::default();
        assert_eq!(limits.max_storage_buffers_per_shader_stage, 8);
        let gpu = Gpu::from_adapter(&adapter, Some(limits)).await.expect("a device");
        assert_eq!(gpu.max_binding_bytes(), 128 << 20);
        for format in WeightFormat::ALL {
            for (_, config, weights) in synthetic::all_tiny(format, 1).expect("small models") {
                let (placement, placed) = weights.place(config.tied, None, gpu.max_binding_bytes()).expect("it fits");
                let weights = Arc::new(gpu.load(&placement, |_| ()).await.expect("it loads"));
                let mut packed = Tuning::BASELINE;
                packed.prompt.math = PromptMath::Packed;
                for tuning in [Tuning::BASELINE, Tuning::SOFTWARE, packed] {
                    let (cache, part_kv_heads) = (CacheFormat::Q8_0, 1);
                    let options = RecordOptions { capacity: 64, max_tokens: 32, cache, part_kv_heads, tuning };
                    for phase in Phase::ALL {
                        let plan = record(&config, &placed, &options, phase);
                        let memory = gpu.allocate(&[&plan], &weights, &config.rope.angles(64)).await.expect("it fits");
                        let program = gpu.program(&plan, &memory, &weights).await.expect("it binds");
                        gpu.run(&[&program], Batch { n_tokens: 32, position: 0 }).expect("it runs");
                    }
                }
            }
        }
    });
}
