//! The vault does what a page of plain code does: random sequences of operations, each
//! compared with an in-memory model, through the public RPCs.

mod model;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use proto::{
    keyvault::{
        ApiKey, AssignProfilesRequest, BatchAssignProfilesRequest, ClearOrganizationDefaultRequest,
        CreateApiKeyRequest, DeleteApiKeyRequest, KeyMaterial, ListApiKeysRequest, ListProfileKeysRequest,
        ReplaceProfilesRequest, ResolveKeyRequest, RotateApiKeyRequest, SetFallbackPolicyRequest,
        SetOrganizationDefaultRequest, UnassignProfilesRequest, UpdateApiKeyRequest, api_key::State,
    },
    types::Provider,
};
use system_tests::{Setup, System, answer::Failure};
use tokio::runtime::Handle;
use tonic::Status;

use model::{Model, PROFILES, PROVIDERS};

/// How many sequences are run, unless `RESOLUTION_MODEL_SEQUENCES` says otherwise.
const SEQUENCES: u32 = 1_000;
const OPERATIONS: usize = 50;

/// An operation. Keys are named by their number in the order of creation, modulo how many
/// there were; deleted ones too, so that some operations meet a key that is gone.
#[derive(Clone, Debug)]
enum Operation {
    Create { provider: usize, default: bool, profiles: Vec<usize> },
    Rotate(usize),
    Delete(usize),
    SetState(usize, bool),
    SetDefault(usize),
    ClearDefault(usize),
    Assign(usize, Vec<usize>),
    Unassign(usize, Vec<usize>),
    Replace(usize, Vec<usize>),
    BatchAssign(Vec<usize>, Vec<usize>),
    SetPolicy { profile: Option<usize>, default: bool, environment: bool },
    Resolve { profile: Option<usize>, provider: usize },
    List { provider: Option<usize>, profile: Option<usize> },
    ProfileKeys(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = 0..8_usize;
    let provider = 0..PROVIDERS.len();
    let profile = 0..PROFILES.len();
    let some = vec(profile.clone(), 1..4);
    let maybe = vec(profile.clone(), 0..4);
    prop_oneof![
        4 => (provider.clone(), any::<bool>(), maybe.clone())
            .prop_map(|(provider, default, profiles)| Operation::Create { provider, default, profiles }),
        2 => key.clone().prop_map(Operation::Rotate),
        1 => key.clone().prop_map(Operation::Delete),
        3 => (key.clone(), any::<bool>()).prop_map(|(key, enabled)| Operation::SetState(key, enabled)),
        2 => key.clone().prop_map(Operation::SetDefault),
        1 => provider.clone().prop_map(Operation::ClearDefault),
        2 => (key.clone(), some.clone()).prop_map(|(key, profiles)| Operation::Assign(key, profiles)),
        2 => (key.clone(), some.clone()).prop_map(|(key, profiles)| Operation::Unassign(key, profiles)),
        2 => (key.clone(), maybe).prop_map(|(key, profiles)| Operation::Replace(key, profiles)),
        2 => (vec(key, 1..4), some).prop_map(|(keys, profiles)| Operation::BatchAssign(keys, profiles)),
        2 => (proptest::option::of(profile.clone()), any::<bool>(), any::<bool>())
            .prop_map(|(profile, default, environment)| Operation::SetPolicy { profile, default, environment }),
        6 => (proptest::option::of(profile.clone()), provider.clone())
            .prop_map(|(profile, provider)| Operation::Resolve { profile, provider }),
        2 => (proptest::option::of(provider), proptest::option::of(profile.clone()))
            .prop_map(|(provider, profile)| Operation::List { provider, profile }),
        1 => profile.prop_map(Operation::ProfileKeys),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sequences_of_fifty_operations_match_the_model() {
    const WORKERS: u32 = 4;
    let given = std::env::var("RESOLUTION_MODEL_SEQUENCES").ok();
    let sequences = given.map_or(SEQUENCES, |text| text.parse().expect("RESOLUTION_MODEL_SEQUENCES is a number"));
    let vault_environment = vec![(model::VARIABLE.to_owned(), model::ENVIRONMENT_KEY.to_owned())];
    let system = System::with(Setup { vault_environment, folder_in_memory: true, ..Setup::default() }).await;
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (keys, resolution) = (system.keys.clone(), system.resolution.clone());
            let handle = Handle::current();
            tokio::task::spawn_blocking(move || run(worker, sequences / WORKERS, &handle, &keys, &resolution))
        })
        .collect();
    for worker in workers {
        if let Err(problem) = worker.await.expect("the worker ends") {
            panic!("{problem}");
        }
    }
    println!("{sequences} sequences of {OPERATIONS} operations matched");
}

type Keys = proto::keyvault::api_key_service_client::ApiKeyServiceClient<tonic::transport::Channel>;
type Resolution = proto::keyvault::key_resolution_service_client::KeyResolutionServiceClient<tonic::transport::Channel>;

/// Runs sequences, each in an organization of its own. Says the smallest one that differs.
fn run(worker: u32, sequences: u32, handle: &Handle, keys: &Keys, resolution: &Resolution) -> Result<(), String> {
    let config = Config { cases: sequences, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut seed = [7; 32];
    seed[0] = u8::try_from(worker).expect("few workers");
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let number = std::cell::Cell::new(0_u64);
    let outcome = runner.run(&vec(operation(), OPERATIONS..=OPERATIONS), |operations| {
        number.set(number.get() + 1);
        let organization = format!("model-{worker}-{}", number.get());
        let sequence = Sequence { keys: keys.clone(), resolution: resolution.clone(), model: Model::new(organization) };
        handle.block_on(sequence.run(&operations)).map_err(TestCaseError::fail)
    });
    outcome.map_err(|error| match error {
        TestError::Fail(reason, operations) => format!("{reason}\nin {operations:#?}"),
        TestError::Abort(reason) => reason.to_string(),
    })
}

struct Sequence {
    keys: Keys,
    resolution: Resolution,
    model: Model,
}

impl Sequence {
    async fn run(mut self, operations: &[Operation]) -> Result<(), String> {
        for (n, operation) in operations.iter().enumerate() {
            let (expected, found) = self.apply(operation).await;
            if expected != found {
                return Err(format!("operation {n}, {operation:?}: the vault says {found}, the model {expected}"));
            }
        }
        Ok(())
    }

    /// What the model and the vault make of an operation, as text to compare.
    #[expect(clippy::too_many_lines, reason = "one arm an operation")]
    async fn apply(&mut self, operation: &Operation) -> (String, String) {
        let organization_id = self.model.organization.clone();
        let key_id = |model: &Model, key: &usize| model.id(*key);
        let names = |profiles: &[usize]| profiles.iter().map(|n| PROFILES[*n].to_owned()).collect::<Vec<_>>();
        match operation {
            Operation::Create { provider, default, profiles } => {
                let material = self.model.next_material();
                let request = CreateApiKeyRequest {
                    organization_id,
                    provider: PROVIDERS[*provider].into(),
                    display_name: "model".to_owned(),
                    material: Some(KeyMaterial { api_key: material.clone() }),
                    set_as_organization_default: *default,
                    profile_ids: names(profiles),
                    ..Default::default()
                };
                let created = self.keys.create_api_key(request).await.map(|r| r.into_inner().api_key);
                let id = created.as_ref().ok().and_then(Option::as_ref).map(|key| key.api_key_id.clone());
                let expected = self.model.create(id.unwrap_or_default(), *provider, material, *default, profiles);
                (expected, described(created))
            }
            Operation::Rotate(key) => {
                let material = self.model.next_material();
                let request = RotateApiKeyRequest {
                    organization_id,
                    api_key_id: key_id(&self.model, key),
                    material: Some(KeyMaterial { api_key: material.clone() }),
                    ..Default::default()
                };
                let found = self.keys.rotate_api_key(request).await.map(|r| r.into_inner().api_key);
                (self.model.rotate(*key, material), described(found))
            }
            Operation::Delete(key) => {
                let request =
                    DeleteApiKeyRequest { organization_id, api_key_id: key_id(&self.model, key), ..Default::default() };
                let found = self.keys.delete_api_key(request).await.map(|r| r.into_inner().api_key);
                (self.model.delete(*key), described(found))
            }
            Operation::SetState(key, enabled) => {
                let state = if *enabled { State::Enabled } else { State::Disabled };
                let api_key = ApiKey {
                    organization_id,
                    api_key_id: key_id(&self.model, key),
                    state: state.into(),
                    ..ApiKey::default()
                };
                let update_mask = Some(prost_types::FieldMask { paths: vec!["state".to_owned()] });
                let request = UpdateApiKeyRequest { api_key: Some(api_key), update_mask, ..Default::default() };
                let found = self.keys.update_api_key(request).await.map(|r| r.into_inner().api_key);
                (self.model.set_state(*key, *enabled), described(found))
            }
            Operation::SetDefault(key) => {
                let request = SetOrganizationDefaultRequest {
                    organization_id,
                    api_key_id: key_id(&self.model, key),
                    ..Default::default()
                };
                let found = self.keys.set_organization_default(request).await.map(|r| r.into_inner().api_key);
                (self.model.set_default(*key), described(found))
            }
            Operation::ClearDefault(provider) => {
                let request = ClearOrganizationDefaultRequest {
                    organization_id,
                    provider: PROVIDERS[*provider].into(),
                    ..Default::default()
                };
                let found = self.keys.clear_organization_default(request).await;
                (self.model.clear_default(*provider), text(found.map(|r| r.into_inner().api_key_id)))
            }
            Operation::Assign(key, profiles) => {
                let api_key_id = key_id(&self.model, key);
                let request = AssignProfilesRequest {
                    organization_id,
                    api_key_id,
                    profile_ids: names(profiles),
                    ..Default::default()
                };
                let found = self.keys.assign_profiles(request).await.map(|r| r.into_inner().api_key);
                (self.model.assign(*key, profiles), described(found))
            }
            Operation::Unassign(key, profiles) => {
                let api_key_id = key_id(&self.model, key);
                let request = UnassignProfilesRequest {
                    organization_id,
                    api_key_id,
                    profile_ids: names(profiles),
                    ..Default::default()
                };
                let found = self.keys.unassign_profiles(request).await.map(|r| r.into_inner().api_key);
                (self.model.unassign(*key, profiles), described(found))
            }
            Operation::Replace(key, profiles) => {
                let api_key_id = key_id(&self.model, key);
                let request = ReplaceProfilesRequest {
                    organization_id,
                    api_key_id,
                    profile_ids: names(profiles),
                    ..Default::default()
                };
                let found = self.keys.replace_profiles(request).await.map(|r| r.into_inner().api_key);
                (self.model.replace(*key, profiles), described(found))
            }
            Operation::BatchAssign(keys, profiles) => {
                let request = BatchAssignProfilesRequest {
                    organization_id,
                    api_key_ids: keys.iter().map(|key| key_id(&self.model, key)).collect(),
                    profile_ids: names(profiles),
                    ..Default::default()
                };
                let found = self.keys.batch_assign_profiles(request).await;
                (self.model.batch_assign(keys, profiles), text(found.map(|r| r.into_inner().assigned_count)))
            }
            Operation::SetPolicy { profile, default, environment } => {
                let request = SetFallbackPolicyRequest {
                    organization_id,
                    profile_id: profile.map(|n| PROFILES[n].to_owned()),
                    allow_organization_default: Some(*default),
                    allow_environment: Some(*environment),
                    ..Default::default()
                };
                let found = self.keys.set_fallback_policy(request).await.map(|response| {
                    let set = response.into_inner().fallback_policy.expect("a policy is returned");
                    format!("{} {}", set.allow_organization_default, set.allow_environment)
                });
                (self.model.set_policy(*profile, *default, *environment), text(found))
            }
            Operation::Resolve { profile, provider } => {
                let request = ResolveKeyRequest {
                    organization_id,
                    profile_id: profile.map(|n| PROFILES[n].to_owned()),
                    provider: PROVIDERS[*provider].into(),
                };
                let found = self.resolution.resolve_key(request).await.map(|response| {
                    let key = response.into_inner();
                    let material = key.material.clone().unwrap_or_default().api_key;
                    format!("{material} {} v{} {:?}", key.api_key_id, key.version, key.source())
                });
                (self.model.resolve(*profile, *provider), text(found))
            }
            Operation::List { provider, profile } => {
                let found = self.list(*provider, *profile).await;
                (self.model.list(*provider, *profile), text(found.map(|keys| keys.join("; "))))
            }
            Operation::ProfileKeys(profile) => {
                let request = ListProfileKeysRequest { organization_id, profile_id: PROFILES[*profile].to_owned() };
                let found = self.keys.list_profile_keys(request).await.map(|response| {
                    let rows = response.into_inner().profile_keys;
                    let row = |row: &proto::keyvault::ProfileKey| {
                        let id = row.api_key.as_ref().map(|key| key.api_key_id.clone()).unwrap_or_default();
                        format!("{:?} {:?} {id}", row.provider(), row.source())
                    };
                    rows.iter().map(row).collect::<Vec<_>>().join("; ")
                });
                (self.model.profile_keys(*profile), text(found))
            }
        }
    }

    /// A whole listing, in pages so small that there are several.
    async fn list(&mut self, provider: Option<usize>, profile: Option<usize>) -> Result<Vec<String>, Status> {
        let mut request = ListApiKeysRequest {
            organization_id: self.model.organization.clone(),
            provider: provider.map_or(Provider::Unspecified, |n| PROVIDERS[n]).into(),
            profile_id: profile.map(|n| PROFILES[n].to_owned()).unwrap_or_default(),
            page_size: 3,
            page_token: String::new(),
        };
        let mut all = Vec::new();
        loop {
            let page = self.keys.list_api_keys(request.clone()).await?.into_inner();
            all.extend(page.api_keys.iter().map(model::describe));
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }
}

fn described(outcome: Result<Option<ApiKey>, Status>) -> String {
    text(outcome.map(|key| model::describe(&key.expect("a key is returned"))))
}

fn text(outcome: Result<impl ToString, Status>) -> String {
    match outcome {
        Ok(value) => value.to_string(),
        Err(status) => Failure::from(status).class(),
    }
}
