//! Reads the keys that a plan needs, before anything is changed.
//!
//! Only those: whoever changes who uses a key need not be able to read it. Neither a path nor a
//! value is shown, since either may be a key that stands in the wrong place: lines are.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    declaration::{Place, Problem, Reference},
    plan::{Action, Step},
};
use crate::{cli::material, config, key::KeyMaterial};

/// Where references of a file lead.
#[derive(Debug)]
pub(super) struct Materials {
    /// Where relative paths begin.
    pub(super) folder: PathBuf,
}

impl Materials {
    /// The key of each step, if it has one.
    pub(super) fn read(&self, steps: &[Step]) -> Result<Vec<Option<KeyMaterial>>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut keys = Vec::new();
        for step in steps {
            let found = match &step.action {
                Action::Create(key) => key.material.as_ref().map(|reference| (&key.place, reference)),
                Action::Rotate { place, material } => Some((place, material)),
                _ => None,
            };
            keys.push(found.and_then(|(place, reference)| {
                self.key(reference).map_err(|text| problems.push(in_material(place, text))).ok()
            }));
        }
        if problems.is_empty() { Ok(keys) } else { Err(problems) }
    }

    fn key(&self, reference: &Reference) -> Result<KeyMaterial, String> {
        let text = match reference {
            Reference::File(path) => {
                let unread = |error: io::Error| format!("`file` cannot be read: {error}");
                let file = fs::File::open(self.folder.join(path)).map_err(unread)?;
                material::bounded(file).map_err(unread)?
            }
            Reference::Variable(name) => {
                config::secret_variable(name).ok_or("`env` is the name of a variable that is not set, or not text")?
            }
        };
        let key = text.trim_end_matches(['\r', '\n']).to_owned();
        KeyMaterial::try_from(key).map_err(|problem| format!("is a key that no provider issues: it {problem}"))
    }
}

/// The folder of the declaring file, unless another is given.
pub(super) fn folder(file: &Path, given: Option<PathBuf>) -> PathBuf {
    given.or_else(|| file.parent().map(Path::to_owned)).unwrap_or_default()
}

fn in_material(place: &Place, text: String) -> Problem {
    Problem { place: Place { line: place.line, path: format!("{}.material", place.path) }, text }
}
