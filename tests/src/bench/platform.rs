//! Both services as they are deployed, with a load's own limits raised.

use std::path::{Path, PathBuf};

use anyhow::Result;
use proto::{
    chat::chat_service_client::ChatServiceClient,
    keyvault::{
        CreateApiKeyRequest, KeyMaterial, api_key_service_client::ApiKeyServiceClient,
        key_resolution_service_client::KeyResolutionServiceClient,
    },
    types::Provider,
};
use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::{question::PROFILE, servers::Tls};
use crate::{
    ORGANIZATION, Process, Setup,
    secured::{Authorization, Files, Service, Who, Wire, connect},
};

/// A key of every measurement.
pub const MATERIAL: &str = "sk-proj-bench-0123456789abcdef0123456789abcdef0123456789abcdef";

/// What is on.
#[derive(Clone, Debug, Default)]
pub struct Kind {
    /// TLS, certificates and tokens. Otherwise the services run for development.
    pub tls: bool,
    /// Where spans and metrics are sent.
    pub collector: Option<String>,
    /// Whether a key is released only with a record.
    pub audit: bool,
    /// Where the vault keeps its keys. A file, unless given.
    pub database_url: Option<String>,
    /// What is logged.
    pub log_filter: Option<String>,
    /// Further options of the gateway.
    pub gateway_options: Vec<String>,
}

/// A vault with a key, and a gateway in front of a provider.
#[derive(Debug)]
pub struct Platform {
    /// The vault's process.
    pub vault: Process,
    /// The gateway's process.
    pub gateway: Process,
    authority: String,
    vault_token: Who,
    admin_token: Who,
    gateway_token: Who,
    _folder: TempDir,
}

/// What all platforms share: who vouches for whom.
#[derive(Debug)]
pub struct Trust {
    folder: TempDir,
    /// In PEM.
    pub authority: PathBuf,
    /// Of the servers beside the services.
    pub tls: Tls,
}

impl Trust {
    /// An authority and a certificate of this machine.
    ///
    /// # Errors
    ///
    /// Fails if there is no room for files.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = crate::certs::Authority::new("bench");
        let path = |name: &str| folder.path().join(name);
        let tls = Tls { certificate: path("server.crt"), key: path("server.key") };
        authority.server().write(&tls.certificate, &tls.key);
        let own = path("authority.pem");
        crate::certs::replace(&own, &authority.pem());
        Ok(Self { authority: own, tls, folder })
    }

    /// A folder for what servers need.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection to a server that the authority vouches for, or in the clear.
    ///
    /// # Errors
    ///
    /// Fails if the URL is none.
    pub fn wire(&self, url: &str) -> Result<Wire> {
        let mut endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
        if url.starts_with("https:") {
            let authority = Certificate::from_pem(std::fs::read(&self.authority)?);
            endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(authority))?;
        }
        Ok(Wire::new(endpoint.connect_lazy(), Authorization::default()))
    }
}

impl Platform {
    /// Starts it in front of a provider, with a key for [`PROFILE`].
    ///
    /// # Errors
    ///
    /// Says which part did not start.
    pub async fn start(kind: &Kind, provider: &str, trust: &Trust) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let files = Files(folder.path());
        let made = files.make().await?;
        let mut setup = Setup {
            vault_options: ["resolves-per-second", "mutations-per-second", "distinct-keys-per-minute"]
                .map(|limit| format!("--{limit}=0"))
                .to_vec(),
            gateway_options: kind.gateway_options.clone(),
            gateway_environment: vec![("SSL_CERT_FILE".into(), trust.authority.display().to_string())],
            log_filter: kind.log_filter.clone(),
            database: crate::Storage::Sqlite,
            ..Setup::default()
        };
        setup.vault_options.extend(kind.database_url.iter().map(|url| format!("--database-url={url}")));
        if !kind.audit {
            setup.vault_options.push("--unrecorded-resolutions".into());
        }
        if let Some(collector) = &kind.collector {
            let option = format!("--otlp-endpoint={collector}");
            setup.vault_options.push(option.clone());
            setup.gateway_options.push(option);
        }
        if kind.tls {
            setup = files.setup(&setup);
        }
        let vault = crate::start_vault(folder.path(), &setup).await?;
        let gateway = crate::start_gateway(folder.path(), &vault.url(), provider, &setup).await?;
        let authorization = |service, name: &str| {
            let tokens = if service == Service::Vault { &made.vault_tokens } else { &made.gateway_tokens };
            if kind.tls { Who::Authorization(format!("Bearer {}", tokens[name][0].token)) } else { Who::Nobody }
        };
        let platform = Self {
            authority: made.authority.pem(),
            vault_token: authorization(Service::Vault, "gateway"),
            admin_token: authorization(Service::Vault, "admin"),
            gateway_token: authorization(Service::Gateway, "platform"),
            vault,
            gateway,
            _folder: folder,
        };
        platform.add_key(PROFILE).await?;
        Ok(platform)
    }

    /// Stores a key for a profile.
    ///
    /// # Errors
    ///
    /// That of the vault.
    pub async fn add_key(&self, profile: &str) -> Result<()> {
        let request = CreateApiKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            provider: Provider::Openai.into(),
            display_name: "bench".to_owned(),
            material: Some(KeyMaterial { api_key: MATERIAL.to_owned() }),
            profile_ids: vec![profile.to_owned()],
            ..Default::default()
        };
        self.keys().create_api_key(request).await?;
        Ok(())
    }

    /// Stops both where they are: an idle service does something every second, and several of them
    /// disturb whoever is measured.
    pub async fn rests(&self) {
        self.gateway.pause().await;
        self.vault.pause().await;
    }

    /// Lets both go on.
    pub async fn works(&self) {
        self.vault.resume().await;
        self.gateway.resume().await;
    }

    /// An administrator of the vault, on a connection of its own.
    pub fn keys(&self) -> ApiKeyServiceClient<Wire> {
        ApiKeyServiceClient::new(self.connect(&self.vault, &self.admin_token))
    }

    /// Who asks the vault for keys, on a connection of its own.
    pub fn resolution(&self) -> KeyResolutionServiceClient<Wire> {
        KeyResolutionServiceClient::new(self.connect(&self.vault, &self.vault_token))
    }

    /// A caller of the gateway, on a connection of its own.
    pub fn chat(&self) -> ChatServiceClient<Wire> {
        ChatServiceClient::new(self.connect(&self.gateway, &self.gateway_token))
    }

    fn connect(&self, process: &Process, who: &Who) -> Wire {
        connect(&process.url(), &self.authority, who)
    }
}
