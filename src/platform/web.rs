//! In a web page: files are objects of the page's script that are read piece by piece, the clock is the browser's, and
//! what wgpu does not hand on of WebGPU is asked for here.

use js_sys::{Reflect, Uint8Array};
use std::{
    io,
    path::{Path, PathBuf},
};
use wasm_bindgen::prelude::*;

/// `enable` lines that a shader needs here: browsers demand one for subgroup operations.
pub const ENABLE_SUBGROUPS: &str = "enable subgroups;\n";

/// Uploaded bytes after which the loader waits for the device: a browser copies them between processes, and keeps the
/// copies until then.
pub const UPLOAD_BYTES: u64 = 8 << 20;

/// Cores that a software adapter's threads have, as far as the browser tells.
pub fn n_cores() -> usize {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into());
    let found = navigator.and_then(|navigator| Reflect::get(&navigator, &"hardwareConcurrency".into()));
    found.ok().and_then(|n| n.as_f64()).map_or(1, |n| n as usize)
}

/// Things that are worth having in hand at once: a page has one thread, and little memory.
pub fn n_at_once() -> usize {
    1
}

/// Awaits `work` for every index below `n`, one after another.
pub async fn spread<T, F: Future<Output = T>>(n: usize, work: impl Fn(usize) -> F) -> Vec<T> {
    let mut all = Vec::with_capacity(n);
    for index in 0..n {
        all.push(work(index).await);
    }
    all
}

/// Waits for `aside`, then for `main`: a device counts its error scopes, so two cannot use it by turns.
pub async fn beside<T>(aside: impl Future<Output = ()>, main: impl Future<Output = T>) -> T {
    aside.await;
    main.await
}

/// Nowhere: browsers keep compiled shaders themselves.
pub fn cache_folder() -> Option<PathBuf> {
    None
}

#[wasm_bindgen]
extern "C" {
    /// A file of the page's: a user's `File`, one kept in the page's own storage, or one that is still being fetched.
    #[wasm_bindgen(typescript_type = "PageFile")]
    #[derive(Debug)]
    pub type PageFile;

    /// Its length in bytes.
    #[wasm_bindgen(method, getter)]
    fn size(this: &PageFile) -> f64;

    /// The bytes at an offset, as many as asked for.
    #[wasm_bindgen(method, catch)]
    async fn read(this: &PageFile, offset: f64, n_bytes: f64) -> Result<JsValue, JsValue>;

    /// A file that the page has opened for writing, front to back.
    #[wasm_bindgen(typescript_type = "PageSink")]
    #[derive(Debug)]
    pub type PageSink;

    /// Appends bytes.
    #[wasm_bindgen(method, catch)]
    fn write(this: &PageSink, bytes: &[u8]) -> Result<(), JsValue>;

    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// wgpu 30 tells neither an adapter's vendor nor whether it has subgroups, and cannot ask for them. A device that is
/// opened after this has every feature of `ask` that its adapter has.
#[wasm_bindgen(inline_js = r#"
const asked = new Set();
export async function describe_adapter(powerPreference, ask) {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference });
  if (!adapter) return undefined;
  if (asked.size === 0) {
    const plain = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = function (descriptor = {}) {
      const more = [...asked].filter((feature) => this.features.has(feature));
      return plain.call(this, { ...descriptor, requiredFeatures: [...(descriptor.requiredFeatures ?? []), ...more] });
    };
  }
  asked.add(ask);
  const info = adapter.info ?? {};
  const words = [info.vendor, info.architecture, info.description].filter((word) => word);
  return {
    name: [...new Set(words)].join(" "),
    has: adapter.features.has(ask),
    software: Boolean(info.isFallbackAdapter ?? adapter.isFallbackAdapter)
      || words.some((word) => /swiftshader|llvmpipe|lavapipe|softpipe|basic render/i.test(word)),
  };
}"#)]
extern "C" {
    #[wasm_bindgen(catch)]
    async fn describe_adapter(power_preference: &str, ask: &str) -> Result<JsValue, JsValue>;
}

/// What a browser tells of an adapter, beside what wgpu hands on.
#[derive(Debug, Clone)]
pub struct AdapterFacts {
    pub name: String,
    pub subgroups: bool,
    pub software: bool,
}

/// The adapter that the page gets for speed, or for a long battery life; `None` natively, where adapters are listed.
pub async fn adapter_facts(fast: bool) -> Option<AdapterFacts> {
    let preference = if fast { "high-performance" } else { "low-power" };
    let found = describe_adapter(preference, "subgroups").await.ok()?;
    let get = |key: &str| Reflect::get(&found, &key.into()).ok();
    let flag = |key: &str| get(key).is_some_and(|value| value.is_truthy());
    Some(AdapterFacts { name: get("name")?.as_string()?, subgroups: flag("has"), software: flag("software") })
}

/// A file opened for reads at any offset.
#[derive(Debug)]
pub struct PlatformFile(PageFile);

impl PlatformFile {
    /// There are no paths in a page: see [`PlatformFile::from`].
    pub fn open(_: &Path) -> io::Result<Self> {
        Err(no_paths())
    }

    /// Length in bytes when the file was opened.
    pub fn n_bytes(&self) -> u64 {
        self.0.size() as u64
    }

    /// Fills `out` from `offset`. Errors: what the page's script throws, and a file that ends too soon.
    pub async fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.read(offset as f64, out.len() as f64).await.map_err(thrown)?;
        let bytes: Uint8Array = bytes.dyn_into().map_err(thrown)?;
        if bytes.length() as usize != out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.copy_to(out);
        Ok(())
    }
}

impl From<PageFile> for PlatformFile {
    fn from(file: PageFile) -> Self {
        Self(file)
    }
}

/// Only natively can a file be written under its path; in a page see [`PageSink`].
#[derive(Debug)]
pub struct PartialFile(std::convert::Infallible);

impl PartialFile {
    /// Errors: always.
    pub fn create(_: &Path) -> io::Result<Self> {
        Err(no_paths())
    }

    /// See the native one.
    pub fn finish(self, _replace: bool) -> io::Result<()> {
        match self.0 {}
    }
}

impl io::Write for PartialFile {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}

impl io::Write for PageSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        PageSink::write(self, bytes).map_err(thrown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Pages are not told.
pub fn available_memory() -> Option<u64> {
    None
}

/// Seconds from a monotonic clock.
pub fn now_s() -> f64 {
    performance_now() / 1000.0
}

/// Seconds since 1970, by the system's clock.
pub fn unix_time_s() -> f64 {
    js_sys::Date::now() / 1000.0
}

/// Pages are not told how much memory they have had.
pub fn peak_memory() -> Option<u64> {
    None
}

fn no_paths() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a page has no files with paths")
}

/// What a script threw, in its own words.
fn thrown(value: JsValue) -> io::Error {
    let text = Reflect::get(&value, &"message".into()).ok().and_then(|message| message.as_string());
    io::Error::other(text.or(value.as_string()).unwrap_or_else(|| format!("{value:?}")))
}
