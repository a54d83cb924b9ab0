// Compiles every shader that `dump_shaders` wrote, as a browser would: the module through Tint, then a compute
// pipeline with the bind group layouts of the native backend, under WebGPU's default limits. No GPU is needed.
// Usage: node check.mjs FOLDER; exit status 1 when anything is refused.
import { create, globals } from "webgpu";
import fs from "node:fs";
import path from "node:path";
Object.assign(globalThis, globals);

// A device that has all of Dawn's validation and nothing behind it. Plain shaders are built on one without features:
// they must not need any.
const gpu = create(["backend=null"]);
const plain = await device([]);
const withSubgroups = await device(["subgroups"]);
const withF16 = await device(["shader-f16"]);

async function device(requiredFeatures) {
  const adapter = await gpu.requestAdapter();
  return await adapter.requestDevice({ requiredFeatures });
}

// What is wrong with a shader, warnings included: a list of messages, each with the file and line it is about.
async function problems(code, shader) {
  const device = shader.f16 ? withF16 : shader.subgroups ? withSubgroups : plain;
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code });
  const { messages } = await module.getCompilationInfo();
  const group = (types) => device.createBindGroupLayout({
    entries: types.map((type, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } })),
  });
  const reads = Array(shader.n_reads).fill("read-only-storage");
  const groups = [group(["uniform", ...reads, ...Array(shader.n_writes).fill("storage")])];
  if (shader.n_planes > 0) groups.push(group(Array(shader.n_planes).fill("read-only-storage")));
  const layout = device.createPipelineLayout({ bindGroupLayouts: groups });
  device.createComputePipeline({ layout, compute: { module, entryPoint: "main" } });
  const refused = await device.popErrorScope();
  const found = messages.map(({ type, lineNum, message }) => `${origin(shader, lineNum)}: ${type}: ${message}`);
  // Without a message of the compiler's it was the pipeline that failed.
  if (refused && !messages.some(({ type }) => type === "error")) found.push(refused.message);
  return found;
}

// The file and line that a line of an assembled shader came from.
function origin(shader, line) {
  const part = shader.parts.findLast(([, first]) => first <= line);
  return part ? `${part[0]}:${line - part[1] + 1}` : `line ${line}`;
}

// A checker that accepts everything proves nothing: it has to refuse these, and accept the first once it is right.
async function selfTest() {
  const shader = { subgroups: false, n_reads: 0, n_writes: 1, n_planes: 0, parts: [] };
  const text = (body) => `@group(0) @binding(1) var<storage, read_write> out: array<u32>;
    @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) { ${body} }`;
  const right = text("workgroupBarrier(); out[lane] = lane;");
  const uneven = text("if lane < 32u { workgroupBarrier(); } out[lane] = lane;");
  const wide = right.replace("64", "512");
  const feature = "enable subgroups;\n" + text("out[lane] = subgroupAdd(lane);");
  const half = "enable f16;\n" + text("out[lane] = u32(f16(lane));");
  const mustFail = {
    "a barrier in non-uniform control flow": [uneven, shader],
    "a buffer written although its layout says read": [right, { ...shader, n_reads: 1, n_writes: 0 }],
    "512 invocations where 256 are allowed": [wide, shader],
    "subgroup operations without the feature": [feature, shader],
    "f16 without the feature": [half, shader],
  };
  for (const [what, [code, shader]] of Object.entries(mustFail)) {
    if ((await problems(code, shader)).length === 0) throw new Error(`the checker checks nothing: it accepts ${what}`);
  }
  for (const [code, one] of [[right, shader], [feature, { ...shader, subgroups: true }], [half, { ...shader, f16: true }]]) {
    const found = await problems(code, one);
    if (found.length > 0) throw new Error(`the checker refuses a shader that is right: ${found.join("\n")}`);
  }
}

await selfTest();
const folder = process.argv[2];
const shaders = JSON.parse(fs.readFileSync(path.join(folder, "manifest.json"), "utf8"));
if (shaders.length === 0) throw new Error(`${folder}/manifest.json lists no shader`);
let rejected = 0;
for (const shader of shaders) {
  const file = path.join(folder, shader.file);
  const found = await problems(fs.readFileSync(file, "utf8"), shader);
  if (found.length === 0) continue;
  rejected += 1;
  console.log(`REJECTED ${file} (${shader.kernel}: ${shader.variant})\n  ${found.join("\n  ").trim()}`);
}
console.error(`Tint accepts ${shaders.length - rejected} of ${shaders.length} shaders`);
// Dawn keeps the event loop alive.
process.exit(rejected === 0 ? 0 : 1);
