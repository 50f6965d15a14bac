//! Replicas that are well, and that are not.

use proto::keyvault::ErrorReason;
use service_runtime::failure::Failure;
use tokio::net::TcpListener;

use super::*;
use crate::{
    message::{Label, Provider},
    vault_client::{
        KeyError, RESOLVE_MAX, VaultClient,
        fake::{AWAY, FakeVault, KEY, Say, client, client_of},
    },
};

async fn resolve(client: &VaultClient) -> Result<(), KeyError> {
    let organization = Label::new("acme".to_owned()).unwrap();
    client.resolve(&organization, None, Provider::OpenAi, RESOLVE_MAX).await.map(|_| ())
}

async fn resolve_all(client: &VaultClient, count: usize) {
    for nth in 0..count {
        resolve(client).await.unwrap_or_else(|error| panic!("call {nth}: {error:?}"));
    }
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn each_has_its_share() {
    let vaults = [FakeVault::says(KEY), FakeVault::says(KEY), FakeVault::says(KEY)];
    let client = client(&vaults.each_ref().map(|vault| vault.address));
    resolve_all(&client, 300).await;
    let shares = vaults.each_ref().map(FakeVault::asked);
    assert!(shares.iter().all(|share| (80..=120).contains(share)), "{shares:?}");
}

#[tokio::test]
async fn one_that_cannot_answer_is_left_for_another() {
    let sealed = Say::Refuse(Code::Unavailable, ErrorReason::VaultSealed);
    let stopping = Say::Refuse(Code::Unavailable, ErrorReason::ShuttingDown);
    for say in [AWAY, sealed, stopping] {
        let (ill, well) = (FakeVault::says(say), FakeVault::says(KEY));
        let client = client(&[ill.address, well.address]);
        resolve_all(&client, 50).await;
        assert_eq!(well.asked(), 50);
        assert!((1..10).contains(&ill.asked()), "{say:?}: {}", ill.asked());
    }
}

#[tokio::test]
async fn an_answer_counts_whoever_gives_it() {
    for (code, reason) in [
        (Code::FailedPrecondition, ErrorReason::KeyUnusable),
        (Code::ResourceExhausted, ErrorReason::RateLimited),
        (Code::PermissionDenied, ErrorReason::CallerNotAllowed),
        (Code::Unavailable, ErrorReason::AuditUnavailable),
    ] {
        let vaults = [(); 2].map(|()| FakeVault::says(Say::Refuse(code, reason)));
        let client = client(&vaults.each_ref().map(|vault| vault.address));
        assert!(resolve(&client).await.is_err());
        assert_eq!(vaults.iter().map(FakeVault::asked).sum::<usize>(), 1, "{reason:?}");
    }
}

#[tokio::test]
async fn one_that_is_dead_costs_nobody_a_key_and_is_used_when_it_is_back() {
    let (dead, well) = (nobody().await, FakeVault::says(KEY));
    let client = client(&[dead, well.address]);
    resolve_all(&client, 20).await;
    assert_eq!(well.asked(), 20);

    let back = FakeVault::at(dead, KEY);
    let begun = Instant::now();
    while back.asked() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is not used");
        resolve_all(&client, 1).await;
        sleep(Duration::from_millis(10)).await;
    }
    let before = back.asked();
    resolve_all(&client, 20).await;
    assert_eq!(back.asked() - before, 10, "it has its share again");
}

#[tokio::test]
async fn one_that_says_nothing_holds_up_a_call_and_not_the_next() {
    let (hung, well) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), FakeVault::says(KEY));
    let client = client(&[hung.local_addr().unwrap(), well.address]);
    let begun = Instant::now();
    resolve_all(&client, 2).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let begun = Instant::now();
    resolve_all(&client, 5).await;
    // One of them may be the one that tries it again.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn if_none_answers_each_is_asked_once() {
    let vaults = [(); 3].map(|()| FakeVault::says(AWAY));
    let client = client(&vaults.each_ref().map(|vault| vault.address));
    let error = resolve(&client).await.unwrap_err();
    assert!(matches!(error, KeyError::StoreUnavailable(_)), "{error:?}");
    assert_eq!(vaults.each_ref().map(FakeVault::asked), [1; 3]);

    let error = resolve(&self::client(&[nobody().await])).await.unwrap_err();
    assert!(matches!(error, KeyError::Unavailable(_)) && error.vault_could_not_answer(), "{error:?}");
}

#[tokio::test]
async fn a_name_leads_to_its_addresses() {
    let vault = FakeVault::says(KEY);
    let line = |host: &str| {
        let url = format!("http://{host}:{}", vault.address.port());
        ["chat-gateway", "serve", "--dev", "--vault-url", &url].map(str::to_owned)
    };
    resolve_all(&client_of(&line("localhost")), 2).await;
    let error = resolve(&client_of(&line("nowhere.invalid"))).await.unwrap_err();
    assert!(matches!(&error, KeyError::Unavailable(cause) if cause.to_string().contains("leads nowhere")), "{error:?}");
}

#[test]
fn an_address_is_not_looked_up() {
    let given = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
    for (url, address) in [
        ("http://127.0.0.1:50051", given("127.0.0.1:50051")),
        ("https://[::1]:50051/", given("[::1]:50051")),
        ("https://10.0.0.1", given("10.0.0.1:443")),
        ("http://10.0.0.1", given("10.0.0.1:80")),
        ("https://vault.example:50051", None),
    ] {
        match (Whence::of(url).unwrap(), address) {
            (Whence::Given(found), Some(address)) => assert_eq!(found, [address], "{url}"),
            (Whence::Name(host, port), None) => assert_eq!((host.as_str(), port), ("vault.example", 50051)),
            (whence, _) => panic!("{url}: {whence:?}"),
        }
    }
}

#[test]
fn another_is_asked_if_it_was_the_replica() {
    for (code, reason, expected) in [
        (Code::Unavailable, ErrorReason::ShuttingDown, true),
        (Code::Unavailable, ErrorReason::VaultSealed, true),
        (Code::Unavailable, ErrorReason::StoreUnavailable, true),
        (Code::Unavailable, ErrorReason::AuditUnavailable, false),
        (Code::DeadlineExceeded, ErrorReason::Unspecified, true),
        (Code::NotFound, ErrorReason::KeyNotFound, false),
        (Code::PermissionDenied, ErrorReason::CallerNotAllowed, false),
    ] {
        let status = Status::from(Failure::new(code, "test", reason.wire_name()));
        assert_eq!(another_may_answer(&status), expected, "{code:?} {reason:?}");
    }
}
