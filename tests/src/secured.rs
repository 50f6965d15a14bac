//! Both services as they are deployed: TLS, certificates, tokens and policies.
//!
//! The principals of [`Secured::start`] are enough for most tests; each has a certificate
//! and a token. Policies and certificates are files in the folder of the system, which tests
//! replace while it runs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use serde_json::{Value, json};
use service_runtime::token::{CreateOptions, Created, create};
use tempfile::TempDir;
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    FakeProvider, Process, Setup,
    certs::{Authority, Issued, Leaf, replace},
};

/// The tokens of principals, by their names.
pub type Tokens = BTreeMap<String, Vec<Created>>;

/// The principals of a vault: their names and roles.
pub fn vault_roles() -> Vec<(&'static str, Value)> {
    vec![
        ("admin", json!([{"role": "admin", "organizations": ["acme"]}])),
        ("admin-other", json!([{"role": "admin", "organizations": ["other"]}])),
        ("reader", json!([{"role": "reader", "organizations": ["acme"]}])),
        ("gateway", json!([{"role": "gateway", "organizations": "all"}])),
        ("gateway-acme", json!([{"role": "gateway", "organizations": ["acme"]}])),
        ("operator", json!([{"role": "operator"}])),
        ("auditor", json!([{"role": "auditor"}])),
    ]
}

/// The principals of a gateway: their names and roles.
pub fn gateway_roles() -> Vec<(&'static str, Value)> {
    let caller = |organization: &str, profiles: Value, models: Value| json!([{"role": "caller", "organizations": [organization], "profiles": profiles, "models": models}]);
    vec![
        ("team-a", caller("acme", json!(["team-a"]), json!(["claude-sonnet-4-5"]))),
        ("team-b", caller("acme", json!(["team-b"]), json!("all"))),
        ("team-a-small", caller("acme", json!(["team-a"]), json!(["gpt-5-mini", "openai/fable"]))),
        ("platform", caller("acme", json!("all"), json!("all"))),
        ("other", caller("other", json!("all"), json!("all"))),
        ("admin", json!([{"role": "admin"}])),
    ]
}

/// The URI name in a principal's certificate.
pub fn uri(principal: &str) -> String {
    format!("spiffe://test.example/{principal}")
}

/// A policy with these principals. Each is known by its certificate, and by its tokens if
/// it has any.
pub fn policy(roles: &[(&str, Value)], tokens: &Tokens) -> String {
    let principals: Vec<Value> = roles
        .iter()
        .map(|(name, roles)| {
            let entries: Vec<_> =
                tokens.get(*name).into_iter().flatten().map(|token| json!(token.policy_entry)).collect();
            json!({"name": name, "uri_sans": [uri(name)], "tokens": entries, "roles": roles})
        })
        .collect();
    json!({ "principals": principals }).to_string()
}

/// A new token.
pub fn token(life: Duration) -> Created {
    create(&CreateOptions { expires_in: life }).expect("a token")
}

/// Which service is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The key-vault.
    Vault,
    /// The chat-gateway.
    Gateway,
}

/// As whom it is called.
#[derive(Clone, Debug)]
pub enum Who {
    /// As nobody.
    Nobody,
    /// With a certificate.
    Certificate(Issued),
    /// With the value of the header `authorization`.
    Authorization(String),
}

/// A connection that says who calls.
pub type Wire = InterceptedService<Channel, Authorization>;

/// Adds the header `authorization` to each call.
#[derive(Clone, Debug, Default)]
pub struct Authorization(Option<AsciiMetadataValue>);

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A vault and a gateway that know their callers, and a fake provider.
#[derive(Debug)]
pub struct Secured {
    /// The vault's process.
    pub vault: Process,
    /// The gateway's process.
    pub gateway: Process,
    /// What stands for all three providers.
    pub provider: FakeProvider,
    /// Who vouches for everybody.
    pub authority: Authority,
    /// The tokens of the vault's principals.
    pub vault_tokens: Tokens,
    /// The tokens of the gateway's principals.
    pub gateway_tokens: Tokens,
    folder: TempDir,
}

impl Secured {
    /// Starts the usual system.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// Starts a system and waits until it serves.
    pub async fn with(setup: Setup) -> Self {
        Self::try_with(setup).await.expect("the system starts")
    }

    async fn try_with(setup: Setup) -> Result<Self> {
        let folder = crate::folder(&setup)?;
        let files = Files(folder.path());
        let Made { authority, vault_tokens, gateway_tokens } = files.make().await?;
        let provider = FakeProvider::start().await?;
        let vault = crate::start_vault(folder.path(), &files.setup(&setup)).await?;
        let gateway = crate::start_gateway(folder.path(), &vault.url(), &provider.url(), &files.setup(&setup)).await?;
        Ok(Self { vault, gateway, provider, authority, vault_tokens, gateway_tokens, folder })
    }

    /// Where the files are that the services follow.
    pub fn files(&self) -> Files<'_> {
        Files(self.folder.path())
    }

    /// A certificate for a principal.
    pub fn certificate(&self, principal: &str) -> Who {
        Who::Certificate(self.authority.issue(&Leaf { uris: &[&uri(principal)], ..Leaf::default() }))
    }

    /// The token of a principal.
    pub fn token(&self, service: Service, principal: &str) -> Who {
        let tokens = match service {
            Service::Vault => &self.vault_tokens,
            Service::Gateway => &self.gateway_tokens,
        };
        Who::Authorization(format!("Bearer {}", tokens[principal][0].token))
    }

    /// A connection to a service, made by its first call.
    pub fn connect(&self, service: Service, who: &Who) -> Wire {
        let url = match service {
            Service::Vault => self.vault.url(),
            Service::Gateway => self.gateway.url(),
        };
        connect(&url, &self.authority.pem(), who)
    }
}

/// A connection to a service at `url`, whose certificate `ca` vouches for, or in the clear.
pub fn connect(url: &str, ca: &str, who: &Who) -> Wire {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    if let Who::Certificate(issued) = who {
        tls = tls.identity(Identity::from_pem(&issued.certificate, &issued.key));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
    let is_tls = url.starts_with("https:");
    let endpoint = if is_tls { endpoint.tls_config(tls).expect("certificates") } else { endpoint };
    let authorization = match who {
        Who::Authorization(value) => Some(value.parse().expect("a header")),
        Who::Nobody | Who::Certificate(_) => None,
    };
    InterceptedService::new(endpoint.connect_lazy(), Authorization(authorization))
}

/// The files that the services follow.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a>(pub &'a Path);

/// Who is in the files.
#[derive(Debug)]
pub struct Made {
    /// Who vouches for everybody.
    pub authority: Authority,
    /// The tokens of the vault's principals.
    pub vault_tokens: Tokens,
    /// The tokens of the gateway's principals.
    pub gateway_tokens: Tokens,
}

impl Files<'_> {
    /// Writes all of them, and makes the vault's keyring.
    ///
    /// # Errors
    ///
    /// Fails if the keyring cannot be made.
    pub async fn make(&self) -> Result<Made> {
        let authority = Authority::new("test");
        let one_each = |roles: &[(&str, Value)]| -> Tokens {
            roles.iter().map(|(name, _)| ((*name).to_owned(), vec![token(Duration::from_hours(1))])).collect()
        };
        let (vault_tokens, gateway_tokens) = (one_each(&vault_roles()), one_each(&gateway_roles()));
        replace(&self.ca(), &authority.pem());
        replace(&self.policy(Service::Vault), &policy(&vault_roles(), &vault_tokens));
        replace(&self.policy(Service::Gateway), &policy(&gateway_roles(), &gateway_tokens));
        for service in [Service::Vault, Service::Gateway] {
            authority.server().write(&self.certificate(service), &self.key(service));
        }
        let own = authority.issue(&Leaf { uris: &[&uri("gateway")], ..Leaf::default() });
        own.write(&self.gateways_certificate(), &self.gateways_key());
        let keyring = self.0.join("keyring");
        let made = crate::command("key-vault").args(["keyring", "init"]).arg(keyring).output().await?;
        anyhow::ensure!(made.status.success(), "no keyring: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Made { authority, vault_tokens, gateway_tokens })
    }

    /// The folder that they are in, with the vault's keyring and its database if that is a file.
    pub fn folder(&self) -> &Path {
        self.0
    }

    /// The authorities that everybody trusts.
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// The policy of a service.
    pub fn policy(&self, service: Service) -> PathBuf {
        self.0.join(format!("{}.policy.json", name(service)))
    }

    /// The certificate of a service.
    pub fn certificate(&self, service: Service) -> PathBuf {
        self.0.join(format!("{}.crt", name(service)))
    }

    /// Its private key.
    pub fn key(&self, service: Service) -> PathBuf {
        self.0.join(format!("{}.key", name(service)))
    }

    /// The certificate that the gateway calls the vault with.
    pub fn gateways_certificate(&self) -> PathBuf {
        self.0.join("gateway-client.crt")
    }

    /// Its private key.
    pub fn gateways_key(&self) -> PathBuf {
        self.0.join("gateway-client.key")
    }

    /// The options of a service that say who it is and whom it knows.
    pub fn options(&self, service: Service) -> Vec<String> {
        let option = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
        let mut options = vec![
            option("tls-certificate", self.certificate(service)),
            option("tls-key", self.key(service)),
            option("tls-client-ca", self.ca()),
            option("policy", self.policy(service)),
        ];
        if service == Service::Gateway {
            options.extend([
                option("vault-ca", self.ca()),
                option("vault-client-certificate", self.gateways_certificate()),
                option("vault-client-key", self.gateways_key()),
            ]);
        }
        options
    }

    /// A setup whose services have identities.
    pub fn setup(&self, setup: &Setup) -> Setup {
        let mut secured = setup.clone();
        secured.vault_options.extend(self.options(Service::Vault));
        secured.gateway_options.extend(self.options(Service::Gateway));
        secured.secured = true;
        secured
    }
}

fn name(service: Service) -> &'static str {
    match service {
        Service::Vault => "vault",
        Service::Gateway => "gateway",
    }
}
