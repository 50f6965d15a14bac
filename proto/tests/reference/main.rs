//! docs/api is what the comments of the `.proto` files say: a page for each package, and one
//! that lists all methods.
//!
//! `make generate` writes the pages. They are made here and not by a plugin of protoc: this
//! knows who may call a method and which reasons it fails with, and links both.

mod contract;
mod page;
mod text;

use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use contract::Contract;

#[test]
fn the_pages_are_what_the_contract_says() -> Result<(), Box<dyn Error>> {
    let contract = Contract::read(&root())?;
    let folder = root().join("../docs/api");
    let made = page::all(&contract);
    if std::env::var_os("GENERATE").is_some() {
        fs::create_dir_all(&folder)?;
        for (name, text) in &made {
            fs::write(folder.join(name), text)?;
        }
    }
    let committed: BTreeSet<_> = fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()?;
    assert_eq!(committed, made.iter().map(|(name, _)| name.clone()).collect(), "run `make generate`");
    for (name, text) in &made {
        assert!(fs::read_to_string(folder.join(name))? == *text, "docs/api/{name} is old: run `make generate`");
    }
    Ok(())
}

#[test]
fn each_link_leads_to_something() -> Result<(), Box<dyn Error>> {
    let pages = page::all(&Contract::read(&root())?);
    let mut count = 0;
    for (name, text) in &pages {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { name } else { file };
            match pages.iter().find(|(page, _)| page == file) {
                Some((_, page)) => {
                    let leads = anchor.is_empty() || page.contains(&format!("<a id=\"{anchor}\">"));
                    assert!(leads, "{name}: {target}");
                }
                None => assert!(root().join("../docs/api").join(file).exists(), "{name}: {target}"),
            }
        }
    }
    assert!(count > 300, "types link to each other: {count}");
    Ok(())
}

#[test]
fn each_method_says_who_may_call_it_and_how_it_fails() -> Result<(), Box<dyn Error>> {
    let contract = Contract::read(&root())?;
    let mut count = 0;
    for method in contract.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let notes = text::Notes::of(contract.comment(&method.parent_file(), method.path()));
        for kind in ["Caller", "Idempotent", "Errors"] {
            assert!(notes.get(kind).is_some(), "{} does not say: {kind}", method.full_name());
        }
        count += 1;
    }
    assert!(count >= 32, "all methods are looked at: {count}");
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
