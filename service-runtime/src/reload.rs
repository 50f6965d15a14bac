//! What is read from files, and read anew when they change.
//!
//! Files are polled by content, not watched: a mounted Kubernetes secret is swapped by a
//! symbolic link, which file system events miss. All files of a set are read before any of
//! them counts, and what cannot be used leaves everything as it was.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use tokio::time::sleep;
use tracing::{info, warn};
use zeroize::Zeroizing;

/// How often files are read to see whether they changed. What is taken away with them must
/// be gone within 30 s, and a few small files cost nothing.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The largest file that is read. Certificates and policies have a few KiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The contents of a set of files, in the order in which they were named. May hold keys.
pub type Contents = [Zeroizing<Vec<u8>>];

/// Makes a value of the contents, or says why it cannot be used.
type Make<T> = dyn Fn(&Contents) -> anyhow::Result<T> + Send + Sync;

/// A value that is made of files, as it is now.
pub struct Reloading<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: Box<Make<T>>,
    current: ArcSwap<Loaded<T>>,
}

/// A value, and which one it is.
#[derive(Debug)]
pub struct Loaded<T> {
    /// Raised by one with each change.
    pub generation: u64,
    /// The value.
    pub value: T,
    digests: Vec<[u8; SHA256_OUTPUT_LEN]>,
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("what", &self.what).field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T: Send + Sync> Reloading<T> {
    /// Reads `files` and makes a value of them. `what` names it in logs: "the policy".
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, or what is in them cannot be used.
    pub fn open(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn(&Contents) -> anyhow::Result<T> + Send + Sync + 'static,
    ) -> anyhow::Result<Arc<Self>> {
        let contents = files.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let value = make(&contents).with_context(|| format!("{what} cannot be used ({})", listed(&files)))?;
        let loaded = Loaded { generation: 1, value, digests: digests(&contents) };
        Ok(Arc::new(Self { what, files, make: Box::new(make), current: ArcSwap::from_pointee(loaded) }))
    }

    /// The value as it is now.
    pub fn load(&self) -> Arc<Loaded<T>> {
        self.current.load_full()
    }

    /// Reads the files now. True if they are others than before and can be used.
    ///
    /// # Errors
    ///
    /// Says why they cannot be used. The value stays what it was.
    pub fn reload(&self) -> anyhow::Result<bool> {
        let contents = self.files.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let before = self.current.load();
        let digests = digests(&contents);
        if digests == before.digests {
            return Ok(false);
        }
        let value = (self.make)(&contents)?;
        self.current.store(Arc::new(Loaded { generation: before.generation + 1, value, digests }));
        Ok(true)
    }

    /// Reads the files again and again. Never ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the value as it is.
    pub async fn follow(&self) {
        let mut well = true;
        loop {
            sleep(POLL_INTERVAL).await;
            match self.reload() {
                Ok(changed) => {
                    if changed || !well {
                        info!(files = listed(&self.files), "{} was read anew", self.what);
                    }
                    well = true;
                }
                Err(error) => {
                    if well {
                        warn!(error = format!("{error:#}"), "{} cannot be read anew; what was goes on", self.what);
                    }
                    well = false;
                }
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let read = || -> io::Result<Zeroizing<Vec<u8>>> {
        let mut contents = Zeroizing::new(Vec::new());
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut contents)?;
        if u64::try_from(contents.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
            return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        Ok(contents)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

fn digests(contents: &Contents) -> Vec<[u8; SHA256_OUTPUT_LEN]> {
    let of = |bytes: &Zeroizing<Vec<u8>>| {
        let mut out = [0; SHA256_OUTPUT_LEN];
        out.copy_from_slice(digest(&SHA256, bytes).as_ref());
        out
    };
    contents.iter().map(of).collect()
}

fn listed(files: &[PathBuf]) -> String {
    files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[test]
    fn what_cannot_be_used_leaves_everything_as_it_was() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("value");
        std::fs::write(&path, "1")?;
        let number = Reloading::open("the number", vec![path.clone()], |contents| {
            let text = std::str::from_utf8(contents.first().context("one file")?)?;
            ensure!(!text.is_empty(), "empty");
            Ok(text.parse::<u32>()?)
        })?;
        assert_eq!((number.load().generation, number.load().value), (1, 1));
        assert!(!number.reload()?);

        std::fs::write(&path, "x")?;
        assert!(number.reload().is_err());
        std::fs::remove_file(&path)?;
        assert!(number.reload().is_err());
        assert_eq!((number.load().generation, number.load().value), (1, 1));

        std::fs::write(&path, "2")?;
        assert!(number.reload()?);
        assert_eq!((number.load().generation, number.load().value), (2, 2));
        Ok(())
    }
}
