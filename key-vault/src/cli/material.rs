//! Where the command line gets a key from: a prompt without echo, standard input, a
//! file. Never an argument, which everyone on the machine can read.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use proto::keyvault::KeyMaterial;
use zeroize::Zeroizing;

use crate::config::MaterialOptions;

/// Longer than any key, and short enough that a wrong file is noticed.
const INPUT_BYTES_MAX: u64 = 4096;

/// Reads a key.
pub(super) fn read(options: &MaterialOptions) -> anyhow::Result<KeyMaterial> {
    let text = match options.key_file.as_deref() {
        Some(path) if path != Path::new("-") => {
            let file = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            bounded(file).with_context(|| format!("cannot read {}", path.display()))?
        }
        None if io::stdin().is_terminal() => {
            Zeroizing::new(rpassword::prompt_password("Key (not shown): ").context("cannot read from the terminal")?)
        }
        Some(_) | None => bounded(io::stdin().lock()).context("cannot read standard input")?,
    };
    // A line break at the end is the editor's or the shell's; anything else is for the
    // vault to refuse.
    let key = text.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        bail!("no key was given");
    }
    Ok(KeyMaterial { api_key: key.to_owned() })
}

/// Reads no more than a key can be.
pub(super) fn bounded(input: impl io::Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    input.take(INPUT_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
