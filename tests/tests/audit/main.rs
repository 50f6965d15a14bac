//! The audit log: nothing is done unrecorded, anybody who may can ask who did what, and nobody
//! can change what stands there unseen.

mod crashes;
mod faults;
mod listing;
mod replicas;
mod tampering;
mod unrecorded;

use proto::{
    keyvault::{
        AuditEvent, ListAuditEventsRequest, ResolveKeyRequest, ResolveKeyResponse, VerifyAuditLogRequest,
        VerifyAuditLogResponse, audit_event::Decision,
    },
    types::Provider,
};
use system_tests::{
    ORGANIZATION,
    answer::Failure,
    mutation::{Change, Done},
    replicas::Door,
};
use tonic::{Request, metadata::MetadataValue};

/// Makes an OpenAI key that profiles of any name resolve to.
async fn default_key(door: &Door) -> String {
    let (name, material) = ("the default".to_owned(), "sk-audited-0123456789abcdef".to_owned());
    let change = Change::Create { provider: Provider::Openai, name, material, default: true, profiles: Vec::new() };
    match change.of(ORGANIZATION).send(&door.keys()).await.expect("a key is made") {
        Done::Key(key) => key.api_key_id,
        other => panic!("{other:?}"),
    }
}

/// Resolves the OpenAI key of a profile, as a part of a trace.
async fn resolve(door: &Door, profile: &str, trace: &str) -> Result<ResolveKeyResponse, Failure> {
    let mut request = Request::new(ResolveKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        profile_id: Some(profile.to_owned()),
        provider: Provider::Openai.into(),
    });
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    request.metadata_mut().insert("traceparent", MetadataValue::try_from(parent).expect("a trace"));
    Ok(door.resolution().resolve_key(request).await?.into_inner())
}

/// The events of all pages.
async fn events(door: &Door, mut request: ListAuditEventsRequest) -> Vec<AuditEvent> {
    let mut all = Vec::new();
    loop {
        let page = door.admin().list_audit_events(request.clone()).await.expect("a page").into_inner();
        all.extend(page.events);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

/// The profiles of all resolutions that released a key.
async fn released(door: &Door) -> Vec<String> {
    let request = ListAuditEventsRequest {
        action: "ResolveKey".to_owned(),
        decision: Decision::Allowed.into(),
        page_size: 1_000,
        ..Default::default()
    };
    events(door, request).await.into_iter().map(|event| event.profile_id).collect()
}

/// What the verification of everything comes to.
async fn verify(door: &Door) -> VerifyAuditLogResponse {
    let mut request = VerifyAuditLogRequest::default();
    let mut problems = Vec::new();
    loop {
        let part = door.admin().verify_audit_log(request).await.expect("a verification").into_inner();
        problems.extend(part.problems.iter().cloned());
        if part.next_page_token.is_empty() {
            return VerifyAuditLogResponse { problems, ..part };
        }
        request = VerifyAuditLogRequest { page_token: part.next_page_token };
    }
}
