//! Events of the audit log, for people.

use chrono::{DateTime, SecondsFormat};
use proto::keyvault::{AuditEvent, VerifyAuditLogResponse, audit_event::Decision, audit_problem::Kind};

use super::{print, profiles, provider, source, table};

/// Prints events as a table.
pub(in crate::cli) fn events(events: &[AuditEvent]) {
    let mut table = table([
        "TIME",
        "PRINCIPAL",
        "ACTION",
        "OUTCOME",
        "ORGANIZATION",
        "PROFILE",
        "PROVIDER",
        "SOURCE",
        "KEY",
        "TRACE",
    ]);
    for event in events {
        table.add_row(cells(event));
    }
    print(&table.to_string());
}

/// Prints an event on a line of its own.
pub(in crate::cli) fn event(event: &AuditEvent) {
    print(cells(event).join("  ").trim_end());
}

/// Prints what a verification came to.
pub(in crate::cli) fn verification(verified: &VerifyAuditLogResponse) {
    let mut about = table(["", ""]);
    about.add_row(["audit log", if verified.valid { "as it was written" } else { "NOT AS IT WAS WRITTEN" }]);
    about.add_row(["events", &verified.event_count.to_string()]);
    about.add_row(["chains", &verified.chain_count.to_string()]);
    print(&about.to_string());
    if verified.problems.is_empty() {
        return;
    }
    let mut problems = table(["CHAIN", "FIRST BAD EVENT", "PROBLEM", "DETAIL"]);
    for problem in &verified.problems {
        let kind = match problem.kind() {
            Kind::Altered => "altered",
            Kind::Missing => "missing",
            Kind::Cut => "cut",
            Kind::Chain => "chain",
            Kind::Unspecified => "",
        };
        problems.add_row([&problem.chain_id, &problem.sequence.to_string(), kind, &problem.detail]);
    }
    print(&problems.to_string());
}

fn cells(event: &AuditEvent) -> [String; 10] {
    let decision = match event.decision() {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
        Decision::Failed => "failed",
        Decision::Unspecified => "",
    };
    let mut outcome = [decision, &event.reason].join(" ").trim_end().to_owned();
    if event.count > 1 {
        outcome = format!("{outcome} ({} times)", event.count);
    }
    let time = event.event_time.unwrap_or_default();
    let time = DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or(0)).unwrap_or_default();
    [
        time.to_rfc3339_opts(SecondsFormat::Millis, true),
        event.principal.clone(),
        event.action.clone(),
        outcome,
        event.organization_id.clone(),
        if event.profile_id.is_empty() { profiles(&event.profile_ids) } else { event.profile_id.clone() },
        provider(event.provider()).to_owned(),
        source(event.source()).to_owned(),
        event.api_key_id.clone(),
        event.trace_id.clone(),
    ]
}
