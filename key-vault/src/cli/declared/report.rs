//! How a plan looks: a table for people, one JSON document for programs.

use serde::Serialize;

use super::plan::{Action, Plan, Step, Subject};
use crate::{cli::output, config::Output};

/// A change, for programs.
#[derive(Debug, Serialize)]
struct Change<'a> {
    organization: &'a str,
    action: &'static str,
    provider: Option<&'static str>,
    name: Option<&'a str>,
    /// Null for a key that is to be made.
    api_key_id: Option<&'a str>,
    /// Whose policy; null for the one of the whole organization, and for keys.
    profile: Option<&'a str>,
    why: &'a str,
}

/// A key that the file does not name.
#[derive(Debug, Serialize)]
struct LeftAlone<'a> {
    organization: &'a str,
    provider: &'static str,
    name: &'a str,
    api_key_id: &'a str,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    changes: Vec<Change<'a>>,
    left_alone: Vec<LeftAlone<'a>>,
}

/// Prints what is to be done, and says what is not.
pub(super) fn plan(plan: &Plan, form: Output) -> anyhow::Result<()> {
    match form {
        Output::Json => output::print(&serde_json::to_string_pretty(&document(plan))?),
        Output::Table => table(plan),
    }
    if !plan.left_alone.is_empty() {
        let names: Vec<_> = plan.left_alone.iter().map(|key| format!("{:?}", key.display_name)).take(6).collect();
        let more = if plan.left_alone.len() > names.len() { ", …" } else { "" };
        let count = counted(plan.left_alone.len(), "key");
        let names = names.join(", ");
        output::note(&format!("left alone, as the file does not name them: {count} ({names}{more})"));
    }
    Ok(())
}

/// What is to be done, counted by kind: `2 create, 1 assign`.
pub(super) fn counts(steps: &[Step]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for step in steps {
        let name = step.action.name().0;
        match counts.last_mut() {
            Some((last, count)) if *last == name => *count += 1,
            _ => counts.push((name, 1)),
        }
    }
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

/// `1 key`, `2 keys`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A step in a few words.
pub(super) fn step(step: &Step) -> String {
    let (action, organization) = (step.action.name().0, &step.organization);
    match &step.subject {
        Subject::Key { provider, name, .. } => {
            format!("{action} {organization} {} {name:?}", output::provider(*provider))
        }
        Subject::Policy { profile: Some(profile) } => format!("{action} {organization} policy of {profile}"),
        Subject::Policy { profile: None } => format!("{action} {organization} policy of all"),
    }
}

/// What is lost when the keys are deleted that a plan deletes.
pub(super) fn deletions(steps: &[Step]) -> Option<String> {
    let count = steps.iter().filter(|step| matches!(step.action, Action::Delete)).count();
    (count > 0).then(|| format!(" Material that does not come back is destroyed: {}.", counted(count, "key")))
}

fn table(plan: &Plan) {
    if plan.steps.is_empty() {
        return;
    }
    let mut table = output::table(["ORGANIZATION", "ACTION", "PROVIDER", "KEY OR POLICY", "WHY"]);
    for step in &plan.steps {
        let (provider, name) = match &step.subject {
            Subject::Key { provider, name, .. } => (output::provider(*provider), name.clone()),
            Subject::Policy { profile: Some(profile) } => ("", format!("profile {profile}")),
            Subject::Policy { profile: None } => ("", "the whole organization".to_owned()),
        };
        table.add_row([step.organization.as_str(), step.action.name().0, provider, name.as_str(), step.why.as_str()]);
    }
    output::print(&table.to_string());
}

fn document(plan: &Plan) -> Document<'_> {
    let left_alone = plan.left_alone.iter().map(|key| LeftAlone {
        organization: &key.organization_id,
        provider: output::provider(key.provider()),
        name: &key.display_name,
        api_key_id: &key.api_key_id,
    });
    Document { changes: plan.steps.iter().map(change).collect(), left_alone: left_alone.collect() }
}

fn change(step: &Step) -> Change<'_> {
    let Step { organization, subject, action, why } = step;
    let (action, _) = action.name();
    match subject {
        Subject::Key { id, provider, name } => Change {
            organization,
            action,
            provider: Some(output::provider(*provider)),
            name: Some(name),
            api_key_id: (!id.is_empty()).then_some(id),
            profile: None,
            why,
        },
        Subject::Policy { profile } => {
            let profile = profile.as_deref();
            Change { organization, action, provider: None, name: None, api_key_id: None, profile, why }
        }
    }
}
