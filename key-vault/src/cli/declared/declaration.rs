//! What a file says about organizations: their keys, and their fallback policies.
//!
//! A declaration that is there is one that the contract allows: everything that a file alone can
//! be wrong in is found here, all of it at once, before a vault is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use proto::types::Provider;

pub(super) use reading::parse;

mod fields;
mod reading;

/// As many profiles as the contract allows a key.
const PROFILES_MAX: usize = 1_000;

/// An organization, as a file says that it should be.
#[derive(Debug, Default)]
pub(super) struct Organization {
    pub(super) id: String,
    pub(super) place: Place,
    pub(super) keys: Vec<Key>,
    /// Whether there is a list of keys, which may be empty.
    pub(super) lists_keys: bool,
    /// By profile; the one of the whole organization has none.
    pub(super) policies: BTreeMap<Option<String>, Policy>,
}

/// A key, as a file says that it should be.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) place: Place,
    /// Which key of the vault is meant, where provider and name do not tell.
    pub(super) id: Option<String>,
    pub(super) provider: Provider,
    pub(super) name: String,
    /// Left as it is unless the file says it: a key that was disabled in an emergency is not
    /// enabled by whoever applies the file next.
    pub(super) state: Option<State>,
    pub(super) default: bool,
    pub(super) profiles: BTreeSet<String>,
    pub(super) version: Option<i64>,
    pub(super) material: Option<Reference>,
}

/// Whether a key may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Enabled,
    Disabled,
}

/// Where a key's material is. It is never in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    File(PathBuf),
    Variable(String),
}

/// Which steps a resolution may fall back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) organization_default: bool,
    pub(super) environment: bool,
}

impl Policy {
    /// What holds where nothing was set.
    pub(super) const UNSET: Self = Self { organization_default: true, environment: true };
}

/// Where in a file something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u64,
    /// `organizations[0].keys[3]`.
    pub(super) path: String,
}

/// What is wrong, and where. Never has a value of the file that could be a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) text: String,
}

impl Problem {
    pub(super) fn new(place: &Place, text: impl Into<String>) -> Self {
        Self { place: place.clone(), text: text.into() }
    }
}
