//! How results and failures look: text for people, the JSON form of protocol buffers
//! for programs.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
};

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use proto::{
    chat::{Citation, DetectProviderResponse, Finished, Model, ProviderModels, Started, Usage},
    types::{Provider, Source},
};
use serde::Serialize;
use service_runtime::{doctor::Finding, token::Created};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const DIM: Style = Style::new().dimmed();
const RED: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));

/// Prints a response as one line of JSON, with the field names of the contract.
pub(super) fn json<M: Message>(name: &str, message: &M) -> anyhow::Result<()> {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET)?;
    let descriptor = pool
        .get_message_by_name(&format!("archestra.chat.v1.{name}"))
        .with_context(|| format!("the contract has no {name}"))?;
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut out = io::stdout().lock();
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut out), &options)?;
    writeln!(out)?;
    Ok(())
}

/// Prints values as JSON, one a line.
pub(super) fn json_lines<T: Serialize>(values: &[T]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for value in values {
        writeln!(out, "{}", serde_json::to_string(value)?)?;
    }
    Ok(())
}

/// Prints what `doctor` found, and what to do about it.
pub(super) fn findings(findings: &[Finding]) {
    for Finding { check, verdict, found, advice } in findings {
        print(&format!("{:<5} {check}: {found}\n", verdict.name()));
        if !advice.is_empty() {
            print(&format!("      {advice}\n"));
        }
    }
}

/// Prints a token, this once, and what the policy keeps of it.
pub(super) fn token(created: &Created) -> anyhow::Result<()> {
    print(&format!("{}\n", created.token));
    note("it is not shown again. Put this into `tokens` of its principal in the policy:");
    print(&format!("{}\n", serde_json::to_string_pretty(&created.policy_entry)?));
    Ok(())
}

/// Prints which provider a name leads to.
pub(super) fn detection(found: &DetectProviderResponse) {
    let chats = if found.chat_supported { "" } else { " (it does not chat)" };
    print(&format!("{}  {}{chats}  by {}\n", provider(found.provider()), found.provider_model, found.rule));
}

/// Prints models as a table, with what only some of them have in common if `all` are shown.
pub(super) fn models(listed: &[ProviderModels], all: bool) {
    let mut table = Table::new();
    let (header, last) = (["MODEL", "PROVIDER", "NAME", "READS", "PRODUCES"], "CHATS");
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.into_iter().chain(all.then_some(last)));
    let tokens = |count: Option<i64>| count.map(|count| count.to_string()).unwrap_or_default();
    for of in listed {
        for model in of.models.iter().filter(|model| all || model.chat_supported) {
            let Model { name, display_name, chat_supported, input_tokens_max, output_tokens_max } = model;
            let (reads, produces) = (tokens(*input_tokens_max), tokens(*output_tokens_max));
            let provider = provider(of.provider());
            let chats = all.then_some(if *chat_supported { "yes" } else { "no" });
            let row = [name, provider.as_str(), display_name, &reads, &produces];
            table.add_row(row.into_iter().chain(chats));
        }
    }
    if !table.is_empty() {
        print(&format!("{table}\n"));
    }
}

/// Prints why models of a provider are not listed.
pub(super) fn problem(of: &ProviderModels) {
    if let Some(problem) = &of.problem {
        note(&format!("{}: {} ({})", provider(of.provider()), problem.message, problem.reason().wire_name()));
    }
}

/// Prints a piece of an answer, at once. On a terminal without control characters: a
/// model's words must not command it.
pub(super) fn print(text: &str) {
    let mut out = anstream::stdout();
    let harmless: String;
    let text = if io::stdout().is_terminal() && text.chars().any(is_command) {
        harmless = text.chars().filter(|c| !is_command(*c)).collect();
        &harmless
    } else {
        text
    };
    // A closed pipe is the reader's choice.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn is_command(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

/// Prints a piece of what the model thinks, beside the answer and at once.
pub(super) fn aside(text: &str) {
    let harmless: String = text.chars().filter(|c| !is_command(*c)).collect();
    let _ = write!(anstream::stderr(), "{DIM}{harmless}{DIM:#}");
}

/// Prints a sentence beside the answer.
pub(super) fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{DIM}{text}{DIM:#}");
}

/// Prints why something failed.
pub(super) fn complain(text: &str) {
    let _ = writeln!(anstream::stderr(), "{RED}error:{RED:#} {text}");
}

/// Who answered and what it took, in one line.
pub(super) fn summary(started: Option<&Started>, finished: &Finished) -> String {
    let mut text = String::new();
    if let Some(started) = started {
        let _ = write!(text, "{} · {} · {}", provider(started.provider()), started.model, source(started.source()));
        if !started.api_key_id.is_empty() {
            let _ = write!(text, " {}", started.api_key_id);
        }
    }
    let reason = finished.finish_reason().as_str_name().trim_start_matches("FINISH_REASON_").to_lowercase();
    let _ = write!(text, " · {reason}");
    if let Some(Usage { input_tokens: Some(input), output_tokens: Some(output), .. }) = &finished.usage {
        let _ = write!(text, " · {input} tokens in, {output} out");
    }
    text
}

/// Where something in the text comes from, in one line.
pub(super) fn source_of(citation: &Citation) -> String {
    let harmless = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    match (citation.title.as_str(), citation.url.as_str()) {
        ("", "") => format!("[{}]", harmless(&citation.cited_text)),
        (title, "") => format!("[{}]", harmless(title)),
        ("", url) => format!("[{}]", harmless(url)),
        (title, url) => format!("[{} {}]", harmless(title), harmless(url)),
    }
}

/// A status in words: what is wrong, the reason for scripts, the trace for the operator.
pub(super) fn describe(status: &Status) -> String {
    let details = status.get_error_details();
    let mut text = match (details.error_info(), status.code()) {
        // Nobody answered: the text is the client library's own.
        (None, Code::Unavailable) => {
            format!("no chat-gateway answers ({}): is it running there? say where with --server", status.message())
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

pub(super) fn provider(provider: Provider) -> String {
    match provider {
        Provider::Unspecified => "unknown".to_owned(),
        known => known.as_str_name().trim_start_matches("PROVIDER_").to_lowercase(),
    }
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Profile => "profile key",
        Source::OrganizationDefault => "organization default key",
        Source::Environment => "environment key",
        Source::Unspecified => "",
    }
}
