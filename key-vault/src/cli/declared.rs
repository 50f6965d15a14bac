//! Keys as code: `apply`, `diff` and `export`.
//!
//! A file is read into what it declares ([`declaration`]), the vault into what it has ([`reader`]), a
//! pure function says what is to be done ([`plan`]), and [`execution`] does it. Nothing is changed
//! before all of the first three, and the material of every key that is to be made, are right.

mod declaration;
mod execution;
mod export;
mod material;
mod plan;
mod progress;
mod reader;
mod report;
mod source;

use std::{collections::BTreeSet, fmt, path::Path};

use anyhow::{Context as _, bail};
use proto::keyvault::api_key_service_client::ApiKeyServiceClient;
use service_runtime::client::Wire;

use super::{output, session};
use crate::config::{ApplyOptions, DeclaredOptions, ExportOptions};
use declaration::{Place, Problem};
use execution::{Execution, Stopped};
use material::Materials;
use plan::{Actual, Plan, Unnamed};
use progress::Progress;

/// The vault is not as the file says, and that was printed.
#[derive(Debug, thiserror::Error)]
#[error("the vault is not as the file says")]
pub(super) struct Differs;

/// A file that is not applied, for these reasons. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) struct Refused {
    file: String,
    problems: Vec<Problem>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file is not applied, and nothing was changed:")?;
        for Problem { place: Place { line, path }, text } in &self.problems {
            let path = if path.is_empty() { String::new() } else { format!(" {path}") };
            write!(f, "\n  {}:{line}:{path} {text}", self.file)?;
        }
        Ok(())
    }
}

/// Makes the vault be as a file says.
pub(super) async fn apply(options: ApplyOptions) -> anyhow::Result<()> {
    let ApplyOptions { declared: options, material_folder, keep_previous_for, dry_run, yes } = options;
    if dry_run {
        return diff(options).await;
    }
    let seconds = i64::try_from(keep_previous_for.as_secs()).context("--keep-previous-for is too long")?;
    let Comparison { keys, plan, actual } = compare(&options).await?;
    report::plan(&plan, options.output)?;
    if plan.steps.is_empty() {
        output::note("0 changes: the vault is as the file says");
        return Ok(());
    }
    let materials = Materials { folder: material::folder(&options.file, material_folder) };
    let materials = materials.read(&plan.steps).map_err(|problems| refused(&options.file, problems))?;
    if !yes {
        let question =
            format!("{}.{} Go on?", report::counts(&plan.steps), report::deletions(&plan.steps).unwrap_or_default());
        if !session::confirmed(&question, "not changing anything")? {
            bail!("nothing was changed");
        }
    }
    let known = actual.into_iter().flat_map(|actual| actual.keys).map(|key| (key.api_key_id.clone(), key)).collect();
    let keep_previous_for = prost_types::Duration { seconds, nanos: 0 };
    let mut execution = Execution { keys, keep_previous_for, known, progress: Progress::of(plan.steps.len()) };
    match execution.run(&plan.steps, &materials).await {
        Ok(()) => {
            let made = report::counted(plan.steps.len(), "change");
            output::note(&format!("made {made}: {}", report::counts(&plan.steps)));
        }
        Err(Stopped { done, cause }) => {
            let step = plan.steps.get(done).map(report::step).unwrap_or_default();
            let total = report::counted(plan.steps.len(), "change");
            output::note(&format!(
                "made {done} of {total}. This one is not known to be made, and what follows it is not: {step}\n\
                 run the same command again: it goes on with what is left"
            ));
            return Err(cause);
        }
    }
    Ok(())
}

/// Says where the vault is not as a file says.
pub(super) async fn diff(options: DeclaredOptions) -> anyhow::Result<()> {
    let Comparison { plan, .. } = compare(&options).await?;
    report::plan(&plan, options.output)?;
    if plan.steps.is_empty() { Ok(()) } else { Err(Differs.into()) }
}

/// Writes down how the vault is.
pub(super) async fn export(options: ExportOptions) -> anyhow::Result<()> {
    let channel = session::connect(&options.connection, session::CALL_MAX)?;
    let mut keys = ApiKeyServiceClient::new(channel);
    let organization = &options.organization;
    let mut actual = reader::read(&mut keys, organization, [].iter()).await?;
    // The contract lists no policies: those of the organization, of the profiles that keys name, and
    // of those that were asked for are read one by one.
    let named = actual.keys.iter().flat_map(|key| &key.profile_ids).chain(&options.profiles).cloned();
    let mut profiles: BTreeSet<_> = named.map(Some).collect();
    profiles.insert(None);
    for profile in profiles {
        let policy = reader::policy(&mut keys, organization, profile.clone()).await?;
        actual.policies.insert(profile, policy);
    }
    output::print(export::document(organization, &actual)?.trim_end());
    Ok(())
}

/// What a file and a vault come to.
struct Comparison {
    keys: ApiKeyServiceClient<Wire>,
    actual: Vec<Actual>,
    plan: Plan,
}

async fn compare(options: &DeclaredOptions) -> anyhow::Result<Comparison> {
    let file = &options.file;
    let root = source::read(file)?.map_err(|source::Unreadable { line, problem }| {
        refused(file, vec![Problem::new(&Place { line, path: String::new() }, problem)])
    })?;
    let organizations = declaration::parse(&root, &options.organization).map_err(|problems| refused(file, problems))?;
    let unnamed = if options.prune { Unnamed::Deleted } else { Unnamed::LeftAlone };
    let channel = session::connect(&options.connection, session::CALL_MAX)?;
    let mut keys = ApiKeyServiceClient::new(channel);
    let (mut all, mut plan, mut problems) = (Vec::new(), Plan::default(), Vec::new());
    for organization in &organizations {
        let actual = reader::read(&mut keys, &organization.id, organization.policies.keys()).await?;
        match plan::plan(organization, &actual, unnamed) {
            Ok(found) => {
                plan.steps.extend(found.steps);
                plan.left_alone.extend(found.left_alone);
            }
            Err(found) => problems.extend(found),
        }
        all.push(actual);
    }
    if problems.is_empty() { Ok(Comparison { keys, actual: all, plan }) } else { Err(refused(file, problems).into()) }
}

fn refused(file: &Path, problems: Vec<Problem>) -> Refused {
    Refused { file: file.display().to_string(), problems }
}
