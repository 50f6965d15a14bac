//! The files of a keyring: one, or one for each entry.
//!
//! Odd: a directory that Kubernetes mounts changes by the swap of its link `..data` to
//! another directory. All files are read through that link as it was at the beginning,
//! and once more if it is another one at the end.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::Error;

/// A keyring of a hundred keys fits a hundred times.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// More than anybody has; each is a file to be read.
const FILES_MAX: usize = 1000;

/// How often a mounted directory is read if it changes meanwhile. It changes once a
/// minute at most.
const GENERATIONS_MAX: usize = 3;

/// Names and values, as they stand there.
type Entries = Vec<(String, Zeroizing<String>)>;

/// Reads the entries of a file or a directory.
pub(super) fn read(path: &Path) -> Result<Entries, Error> {
    if !path.is_dir() {
        return read_file(path);
    }
    let link = path.join("..data");
    if !fs::symlink_metadata(&link).is_ok_and(|metadata| metadata.is_symlink()) {
        return read_directory(path);
    }
    for _ in 0..GENERATIONS_MAX {
        let generation = resolved(&link)?;
        let entries = read_directory(&generation);
        if resolved(&link)? == generation {
            return entries;
        }
    }
    Err(unreadable(path, io::Error::other("it changes faster than it can be read")))
}

pub(super) fn malformed(path: &Path, problem: impl Into<String>) -> Error {
    Error::Malformed { path: path.display().to_string(), problem: problem.into() }
}

pub(super) fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Unreadable { path: path.display().to_string(), source: Arc::new(source) }
}

fn resolved(link: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(link).map_err(|source| unreadable(link, source))
}

fn read_file(path: &Path) -> Result<Entries, Error> {
    let text = read_private(path)?;
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line
            .split_once(": ")
            .ok_or_else(|| malformed(path, format!("line {} is not `ID: KEY` or `primary: ID`", number + 1)))?;
        entries.push((name.trim().to_owned(), Zeroizing::new(value.trim().to_owned())));
    }
    Ok(entries)
}

fn read_directory(path: &Path) -> Result<Entries, Error> {
    let unreadable = |source| unreadable(path, source);
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("..") {
            continue;
        }
        if entries.len() == FILES_MAX {
            return Err(malformed(path, format!("it has more than {FILES_MAX} files")));
        }
        let value = read_private(&entry.path())?;
        entries.push((name, Zeroizing::new(value.trim().to_owned())));
    }
    Ok(entries)
}

/// Reads a file that not everyone can read.
fn read_private(path: &Path) -> Result<Zeroizing<String>, Error> {
    let unreadable = |source| unreadable(path, source);
    // A pipe would hold the reader until somebody writes: what it is comes before it is opened.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a file")));
    }
    let file = fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(Error::Exposed { path: path.display().to_string(), mode });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::other("it is larger than 1 MiB")));
    }
    // Room for all of it, so that no copy of a part of it is left behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(metadata.len() + 1).unwrap_or_default()));
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}
