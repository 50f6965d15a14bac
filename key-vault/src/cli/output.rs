//! How results and failures look: tables for people, the JSON form of protocol buffers
//! for programs.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use proto::{
    keyvault::{ApiKey, ExplainResolutionResponse, ProfileKey, api_key::State, resolution_step::Outcome},
    types::{Provider, Source},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// As many profiles of a key as a table shows by name.
const PROFILES_SHOWN: usize = 4;

/// Prints a response as JSON, with the field names of the contract.
pub(super) fn json<M: Message>(name: &str, message: &M) -> anyhow::Result<()> {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET)?;
    let descriptor = pool
        .get_message_by_name(&format!("archestra.keyvault.v1.{name}"))
        .with_context(|| format!("the contract has no {name}"))?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    let mut out = io::stdout().lock();
    let mut serializer = serde_json::Serializer::pretty(&mut out);
    message.serialize_with_options(&mut serializer, &options)?;
    writeln!(out)?;
    Ok(())
}

/// Prints keys as a table.
pub(super) fn keys(keys: &[ApiKey]) {
    let mut table = table(["ID", "PROVIDER", "NAME", "KEY", "VERSION", "STATE", "DEFAULT", "PROFILES"]);
    for key in keys {
        table.add_row([
            key.api_key_id.clone(),
            provider(key.provider()).to_owned(),
            key.display_name.clone(),
            if key.hint.is_empty() { "…".to_owned() } else { format!("…{}", key.hint) },
            key.version.to_string(),
            if key.state() == State::Disabled { "disabled" } else { "enabled" }.to_owned(),
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
            Outcome::Unspecified => "",
        };
        table.add_row([source(step.source()), outcome, step.detail.as_str()]);
    }
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

fn print(text: &str) {
    let _ = writeln!(anstream::stdout(), "{text}");
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

fn profiles(ids: &[String]) -> String {
    match ids.len().checked_sub(PROFILES_SHOWN) {
        None | Some(0) => ids.join(", "),
        Some(more) => format!("{}, and {more} more", ids[..PROFILES_SHOWN].join(", ")),
    }
}

fn provider(provider: Provider) -> &'static str {
    match provider {
        Provider::Anthropic => "anthropic",
        Provider::Openai => "openai",
        Provider::Gemini => "gemini",
        Provider::Unspecified => "",
    }
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Profile => "profile",
        Source::OrganizationDefault => "organization default",
        Source::Environment => "environment",
        Source::Unspecified => "",
    }
}
