//! Native: files read at an offset, and the system's monotonic clock.

use std::{fs::File, io, path::Path, sync::OnceLock, time::Instant};

/// `enable` lines that a shader needs here. wgpu's naga takes subgroup operations without one.
pub const ENABLE_SUBGROUPS: &str = "";

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

/// Makes `link` a symbolic link to the file at `target`, a path relative to the link's own folder.
pub fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(target, link);
    #[cfg(windows)]
    return std::os::windows::fs::symlink_file(target, link);
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
