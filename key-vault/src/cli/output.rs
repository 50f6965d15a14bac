//! How results and failures look: tables for people, the JSON form of protocol buffers
//! for programs.

mod audit;

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use prost_types::Timestamp;
use proto::{
    keyvault::{
        ApiKey, ExplainResolutionResponse, GetFallbackPolicyResponse, GetRewrapStatusResponse, GetSealStatusResponse,
        ProfileKey, api_key::State, get_rewrap_status_response::State as RewrapState,
        key_encryption_key::State as KekState, resolution_step::Outcome,
    },
    types::{Provider, Source},
};
use service_runtime::{doctor::Finding, token::Created};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub(super) use audit::{event, events, verification};

/// As many profiles of a key as a table shows by name.
const PROFILES_SHOWN: usize = 4;

/// Prints a response as JSON, with the field names of the contract.
pub(super) fn json<M: Message>(name: &str, message: &M) -> anyhow::Result<()> {
    let message = DynamicMessage::decode(descriptor(name)?, message.encode_to_vec().as_slice())?;
    let mut out = io::stdout().lock();
    let mut serializer = serde_json::Serializer::pretty(&mut out);
    message.serialize_with_options(&mut serializer, &as_in_the_contract())?;
    writeln!(out)?;
    Ok(())
}

/// Prints messages of one type in the same form, one a line.
pub(super) fn messages<M: Message>(name: &str, messages: &[M]) -> anyhow::Result<()> {
    let descriptor = descriptor(name)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for message in messages {
        let message = DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice())?;
        message.serialize_with_options(&mut serde_json::Serializer::new(&mut out), &as_in_the_contract())?;
        writeln!(out)?;
    }
    Ok(out.flush()?)
}

fn descriptor(name: &str) -> anyhow::Result<MessageDescriptor> {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET)?;
    let found = pool.get_message_by_name(&format!("archestra.keyvault.v1.{name}"));
    found.with_context(|| format!("the contract has no {name}"))
}

fn as_in_the_contract() -> SerializeOptions {
    SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false)
}

/// Prints keys as a table.
pub(super) fn keys(keys: &[ApiKey]) {
    let mut table = table(["ID", "PROVIDER", "NAME", "KEY", "VERSION", "STATE", "LAST USED", "DEFAULT", "PROFILES"]);
    for key in keys {
        table.add_row([
            key.api_key_id.clone(),
            provider(key.provider()).to_owned(),
            key.display_name.clone(),
            if key.hint.is_empty() { "…".to_owned() } else { format!("…{}", key.hint) },
            key.version.to_string(),
            if key.state() == State::Disabled { "disabled" } else { "enabled" }.to_owned(),
            key.last_used_time.map(day).unwrap_or_default(),
            if key.organization_default { "yes" } else { "" }.to_owned(),
            profiles(&key.profile_ids),
        ]);
    }
    print(&table.to_string());
}

/// Prints what a profile uses as a table.
pub(super) fn profile_keys(found: &[ProfileKey]) {
    let mut table = table(["PROVIDER", "SOURCE", "KEY", "NAME", "STATE"]);
    for row in found {
        let (id, name, state) = match &row.api_key {
            Some(key) => (
                key.api_key_id.as_str(),
                key.display_name.as_str(),
                if key.state() == State::Disabled { "disabled: calls fail" } else { "enabled" },
            ),
            None => (row.variable.as_str(), "", "set in the vault"),
        };
        table.add_row([provider(row.provider()), source(row.source()), id, name, state]);
    }
    print(&table.to_string());
}

/// Prints the steps of a resolution as a table.
pub(super) fn explanation(explanation: &ExplainResolutionResponse) {
    let mut table = table(["STEP", "OUTCOME", "DETAIL"]);
    for step in &explanation.steps {
        let outcome = match step.outcome() {
            Outcome::Chosen => "chosen",
            Outcome::NotConfigured => "no key",
            Outcome::Unusable => "unusable: calls fail",
            Outcome::NotReached => "not reached",
            Outcome::Forbidden => "forbidden by a policy",
            Outcome::Unspecified => "",
        };
        table.add_row([source(step.source()), outcome, step.detail.as_str()]);
    }
    print(&table.to_string());
}

/// Prints a fallback policy as a table.
pub(super) fn fallback_policy(found: &GetFallbackPolicyResponse) {
    let permission = |allowed: bool| if allowed { "allow" } else { "forbid" };
    let set = found.fallback_policy.clone().unwrap_or_default();
    let effective = found.effective_policy.clone().unwrap_or_default();
    let mut table = table(["STEP", "SET", "IN EFFECT"]);
    for (step, set, effective) in [
        (Source::OrganizationDefault, set.allow_organization_default, effective.allow_organization_default),
        (Source::Environment, set.allow_environment, effective.allow_environment),
    ] {
        table.add_row([source(step), permission(set), permission(effective)]);
    }
    print(&table.to_string());
}

/// Prints what `doctor` found as a table.
pub(super) fn findings(findings: &[Finding]) {
    let mut table = table(["", "CHECK", "FOUND", "WHAT TO DO"]);
    for finding in findings {
        table.add_row([finding.verdict.name(), finding.check, &finding.found, &finding.advice]);
    }
    print(&table.to_string());
}

/// Prints a token, this once, and what the policy keeps of it.
pub(super) fn token(created: &Created) -> anyhow::Result<()> {
    print(&created.token);
    note("it is not shown again. Put this into `tokens` of its principal in the policy:");
    print(&serde_json::to_string_pretty(&created.policy_entry)?);
    Ok(())
}

/// Prints values as JSON, one a line.
pub(super) fn json_lines<T: serde::Serialize>(values: &[T]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for value in values {
        writeln!(out, "{}", serde_json::to_string(value)?)?;
    }
    Ok(())
}

/// Prints how a replica is: whether it is sealed, its key encryption keys, the replicas.
pub(super) fn seal_status(status: &GetSealStatusResponse) {
    let manager = status.secrets_manager.clone().unwrap_or_default();
    let mut about = table(["", ""]);
    about.add_row(["state", if status.sealed { "SEALED" } else { "unsealed" }]);
    if status.sealed {
        about.add_row(["reason", status.reason.as_str()]);
    }
    about.add_row(["vault", status.vault_id.as_str()]);
    about.add_row(["epoch", status.epoch.as_str()]);
    about.add_row(["revision", status.revision.to_string().as_str()]);
    let well = if manager.healthy { "well".to_owned() } else { manager.problem };
    about.add_row(["secrets manager", format!("{}: {well}", manager.kind).as_str()]);
    about.add_row(["do not open", status.undecryptable_versions.to_string().as_str()]);
    print(&about.to_string());
    let mut keks = table(["KEY ENCRYPTION KEY", "STATE", "WRAPPED BY", "WRAPS", "VERSIONS"]);
    for kek in &status.key_encryption_keys {
        let state = match kek.state() {
            KekState::Pending => "pending",
            KekState::Primary => "primary",
            KekState::DecryptOnly => "decrypt only",
            KekState::Retired => "retired",
            KekState::Unspecified => "",
        };
        let wrapped_by = format!("{} {}", kek.secrets_manager, kek.key_ref);
        keks.add_row([&kek.kek_id, state, &wrapped_by, &kek.wrap_count.to_string(), &kek.version_count.to_string()]);
    }
    print(&keks.to_string());
    let mut replicas = table(["REPLICA", "KEY ENCRYPTION KEYS", "SECRETS MANAGERS", ""]);
    for replica in &status.replicas {
        let own = if replica.replica_id == status.replica_id { "answers" } else { "" };
        let known = replica.kek_ids.len().to_string();
        replicas.add_row([&replica.replica_id, &known, &replica.secrets_managers.join(", "), own]);
    }
    print(&replicas.to_string());
}

/// Prints how far the wrapping of data keys is.
pub(super) fn rewrap_status(status: &GetRewrapStatusResponse) {
    let state = match status.state() {
        RewrapState::Done => "done",
        RewrapState::Running => "running",
        RewrapState::Incomplete => "incomplete: some versions do not open, and keep their old key alive",
        RewrapState::Unspecified => "",
    };
    let mut table = table(["KEY ENCRYPTION KEY", "STATE", "TOTAL", "REMAINING", "DO NOT OPEN"]);
    let counts = [status.total_count, status.remaining_count, status.failed_count].map(|count| count.to_string());
    table.add_row([status.kek_id.as_str(), state, &counts[0], &counts[1], &counts[2]]);
    print(&table.to_string());
}

/// Prints a sentence about what was done, beside the results.
pub(super) fn note(text: &str) {
    // A closed pipe is the reader's choice.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints why a command failed.
pub(super) fn complain(text: &str) {
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let _ = writeln!(anstream::stderr(), "{red}error:{red:#} {text}");
}

/// A status in words: what is wrong, which fields, the reason for scripts, the trace for
/// the operator.
pub(super) fn describe(status: &Status) -> String {
    use std::fmt::Write as _;
    let details = status.get_error_details();
    let mut text = match (details.error_info(), status.code()) {
        // Nobody answered: the text is the client library's own.
        (None, Code::Unavailable) => {
            format!("no key-vault answers ({}): is it running there? say where with --server", status.message())
        }
        _ if status.message().is_empty() => status.code().to_string(),
        _ => status.message().to_owned(),
    };
    if let Some(info) = details.error_info() {
        let _ = write!(text, "\n  reason: {}", info.reason);
    }
    if let Some(request) = details.request_info() {
        let _ = write!(text, "\n  trace:  {}", request.request_id);
    }
    text
}

pub(super) fn print(text: &str) {
    let _ = writeln!(anstream::stdout(), "{text}");
}

pub(super) fn table<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.into_iter().collect::<Vec<_>>());
    table
}

fn day(time: Timestamp) -> String {
    time.to_string().chars().take_while(|character| *character != 'T').collect()
}

fn profiles(ids: &[String]) -> String {
    match ids.len().checked_sub(PROFILES_SHOWN) {
        None | Some(0) => ids.join(", "),
        Some(more) => format!("{}, and {more} more", ids[..PROFILES_SHOWN].join(", ")),
    }
}

pub(super) fn provider(provider: Provider) -> &'static str {
    match provider {
        Provider::Anthropic => "anthropic",
        Provider::Openai => "openai",
        Provider::Gemini => "gemini",
        Provider::Unspecified => "",
    }
}

pub(super) fn source(source: Source) -> &'static str {
    match source {
        Source::Profile => "profile",
        Source::OrganizationDefault => "organization default",
        Source::Environment => "environment",
        Source::Unspecified => "",
    }
}
