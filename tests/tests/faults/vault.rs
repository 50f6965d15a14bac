//! Rows 22 and 23: the vault is away, and a key is taken back.

use std::time::{Duration, Instant};

use proto::keyvault::{ApiKey, UpdateApiKeyRequest, WatchKeyChangesRequest, api_key::State};
use system_tests::{
    ORGANIZATION,
    answer::Answer,
    fake_provider::{Answer as Said, Http},
    replicas::eventually,
    stage::{
        Case, Stage,
        row::{Row, tell},
        wire::Api,
    },
};

/// A key that was taken back is not used after this.
const FRESH_WITHIN: Duration = Duration::from_secs(2);

/// On systems of its own: what is done to the vault is done for good.
async fn on_stages(number: usize, what: &str, case: impl AsyncFn(Case)) {
    let mut hold = 0;
    for http in Http::ALL {
        let stage = Stage::start(http, &[]).await;
        case(stage.case(Api::Messages)).await;
        hold += 1;
    }
    tell(number, what, hold, Http::ALL.len(), "Anthropic, HTTP/1.1 and HTTP/2");
}

#[tokio::test]
async fn row_22_a_key_that_is_kept_answers_without_the_vault() {
    on_stages(22, "vault killed, with a kept key", async |case| {
        case.is_healthy_afterwards().await;
        kill_vault(&case).await;
        case.is_healthy_afterwards().await;
    })
    .await;
}

#[tokio::test]
async fn row_22_without_a_kept_key_the_vault_is_unavailable() {
    on_stages(22, "vault killed, without a kept key", async |case| {
        case.says(case.api, [case.api.whole(2)]);
        kill_vault(&case).await;
        let answer = case.plainly().await;
        assert_eq!(answer.failed().class(), "Unavailable VAULT_UNAVAILABLE");
        assert_eq!(case.tries(), 0);
    })
    .await;
}

async fn kill_vault(case: &Case) {
    let id = case.stage.system.vault.id().to_string();
    let killed = tokio::process::Command::new("kill").args(["-KILL", &id]).status().await;
    assert!(killed.is_ok_and(|status| status.success()), "SIGKILL is sent");
    let vault = &case.stage.system.resolution;
    eventually("the vault is gone", async || {
        vault.clone().watch_key_changes(WatchKeyChangesRequest::default()).await.err()
    })
    .await;
}

#[tokio::test]
async fn row_23_a_key_that_is_taken_back_ends_no_stream_and_begins_none() {
    let row = Row::new(23, "key revoked while a stream runs");
    row.holds_at_once(async |case| {
        let begun = case.api.opening() + &case.api.tokens(0..5);
        let rest = case.api.tokens(5..8) + &case.api.closing(8);
        case.says(case.api, [Said::stream(begun).and_after(Duration::from_secs(4), rest)]);
        let mut client = case.stage.system.chat.clone();
        let outcome = client.stream_chat(case.request(&[])).await;
        disable(&case).await;
        let disabled = Instant::now();

        loop {
            let next = case.another();
            next.says(case.api, [case.api.whole(2)]);
            let answer = next.plainly().await;
            if let Some(failure) = &answer.failure {
                assert_eq!(failure.class(), "FailedPrecondition KEY_UNUSABLE");
                assert_eq!((next.tries(), failure.value("cause")), (0, "disabled"));
                break;
            }
            assert!(disabled.elapsed() < FRESH_WITHIN, "still used after {:?}", disabled.elapsed());
        }
        Answer::read(outcome).await.is_whole(case.api, 8);
    })
    .await;
}

async fn disable(case: &Case) {
    let api_key = ApiKey {
        organization_id: ORGANIZATION.to_owned(),
        api_key_id: case.key(case.api).to_owned(),
        state: State::Disabled.into(),
        ..Default::default()
    };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["state".to_owned()] });
    let request = UpdateApiKeyRequest { api_key: Some(api_key), update_mask, ..Default::default() };
    case.stage.system.keys.clone().update_api_key(request).await.expect("the key is disabled");
}
