//! Native: files read at an offset or written whole, and the system's monotonic clock.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

/// `enable` lines that a shader needs here. wgpu's naga takes subgroup operations without one.
pub const ENABLE_SUBGROUPS: &str = "";

/// Uploaded bytes after which the loader waits for the device, so that staging memory stays bounded.
pub const UPLOAD_BYTES: u64 = 32 << 20;

/// Cores that a software adapter's threads have.
pub fn n_cores() -> usize {
    static N: OnceLock<usize> = OnceLock::new();
    *N.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
}

/// Things that are worth having in hand at once: one for each core, within reason.
pub fn n_at_once() -> usize {
    n_cores().min(8)
}

/// Awaits `work` for every index below `n`, on every core; results come in order of index.
pub async fn spread<T: Send, F: Future<Output = T>>(n: usize, work: impl Fn(usize) -> F + Sync) -> Vec<T> {
    let n_threads = n_cores().min(n);
    let next = AtomicUsize::new(0);
    let each = || {
        let mut done = Vec::new();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                index if index < n => done.push((index, pollster::block_on(work(index)))),
                _ => return done,
            }
        }
    };
    if n_threads <= 1 {
        return each().into_iter().map(|(_, result)| result).collect();
    }
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(each)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("work that does not panic")).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Waits for `main` while `aside`, which may block, runs on another thread; both are done when it returns.
pub async fn beside<T>(aside: impl Future<Output = ()> + Send, main: impl Future<Output = T>) -> T {
    std::thread::scope(|scope| {
        scope.spawn(|| pollster::block_on(aside));
        pollster::block_on(main)
    })
}

/// Where to keep what can be made again: `POCKETLM_CACHE`, or the system's place for such files. `None` where there is
/// neither, or where the variable is empty: then nothing is kept.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(chosen) = std::env::var_os("POCKETLM_CACHE") {
        return Some(PathBuf::from(chosen)).filter(|folder| !folder.as_os_str().is_empty());
    }
    let home = || {
        set("HOME")
            .map(|home| if cfg!(target_os = "macos") { home.join("Library/Caches") } else { home.join(".cache") })
    };
    let system = if cfg!(windows) { set("LOCALAPPDATA") } else { set("XDG_CACHE_HOME").or_else(home) };
    system.map(|folder| folder.join("pocketlm"))
}

/// A file opened for reads at any offset, from any thread.
#[derive(Debug)]
pub struct PlatformFile {
    file: File,
    n_bytes: u64,
}

impl PlatformFile {
    /// Opens `path` for reading. Errors: those of the operating system; a folder is refused.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Asked before opening, which would wait for the other end of a pipe.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        let n_bytes = file.metadata()?.len();
        Ok(Self { file, n_bytes })
    }

    /// Length in bytes when the file was opened.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Fills `out` from `offset`. Errors: those of the operating system, and a file that ends too soon.
    pub async fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.file, out, offset);
        #[cfg(windows)]
        {
            use std::os::windows::fs::FileExt;
            let mut done = 0;
            while done < out.len() {
                match self.file.seek_read(&mut out[done..], offset + done as u64)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => done += n,
                }
            }
            Ok(())
        }
    }
}

/// What a browser tells of an adapter, beside what wgpu hands on.
#[derive(Debug, Clone)]
pub struct AdapterFacts {
    pub name: String,
    pub subgroups: bool,
    pub software: bool,
}

/// The adapter that a page gets; `None` natively, where wgpu lists all there are and tells all about them.
pub async fn adapter_facts(_fast: bool) -> Option<AdapterFacts> {
    None
}

/// Makes `link` a symbolic link to the file at `target`, a path relative to the link's own folder.
pub fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(target, link);
    #[cfg(windows)]
    return std::os::windows::fs::symlink_file(target, link);
}

/// A file that has its name only once it is complete. Until then it has another one in the same folder, and dropping it
/// removes it.
#[derive(Debug)]
pub struct PartialFile {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl PartialFile {
    /// Opens a file that is to become `path`. Errors: those of the operating system.
    pub fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file's name"))?;
        // A rename would put an ordinary file in the place of a device.
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "what is there is no ordinary file"));
        }
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        #[cfg(unix)]
        {
            // What the user's mask leaves of it, as for any new file; a temporary one would be for its owner alone.
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            builder.permissions(permissions);
        }
        Ok(Self { file: builder.tempfile_in(folder_of(path))?, path: path.into() })
    }

    /// Waits until every byte is on the disk, then gives the file its name; `replace` says whether another file of that
    /// name may go.
    ///
    /// Errors: those of the operating system; nothing is left behind then.
    pub fn finish(self, replace: bool) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        if replace {
            self.file.persist(&self.path)?;
        } else {
            self.file.persist_noclobber(&self.path)?;
        }
        // The name is on the disk once the folder is.
        #[cfg(unix)]
        File::open(folder_of(&self.path))?.sync_all()?;
        Ok(())
    }
}

impl io::Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Bytes of memory that the system could still give, where it tells (Linux).
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Seconds since the first call, from a monotonic clock.
pub fn now_s() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Seconds since 1970, by the system's clock.
pub fn unix_time_s() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The most memory that this process has had so far, in bytes, where the system tells (Linux).
pub fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
