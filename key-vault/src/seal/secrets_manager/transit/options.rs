//! The options of the transit engine, and what is wrong with them.
//!
//! Secrets come from files and from nowhere else.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use http::HeaderValue;
use url::{Host, Url};

use super::login::Login;

const KUBERNETES_JWT_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Paths and names of the server's are short; each segment of them at most this.
const NAME_LENGTH_MAX: usize = 128;

/// Where the transit engine is, and who we are there.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Transit engine")]
#[expect(clippy::struct_field_names, reason = "they are the names of the options, as clap takes them")]
pub struct TransitOptions {
    /// The server of OpenBao or Vault: https, or plain http on this machine
    #[arg(long, value_name = "URL")]
    pub transit_address: Option<String>,

    /// Where the transit engine is mounted
    #[arg(long, value_name = "PATH", default_value = "transit")]
    pub transit_mount: String,

    /// The engine's key that wraps, of type aes256-gcm96
    #[arg(long, value_name = "NAME")]
    pub transit_key: Option<String>,

    /// How to log in
    #[arg(long, value_enum, value_name = "METHOD")]
    pub transit_auth: Option<TransitAuth>,

    /// Where the method is mounted, if not where it usually is: `approle`, `kubernetes`
    #[arg(long, value_name = "PATH")]
    pub transit_auth_mount: Option<String>,

    /// The file with the token, for `token`. Read again when it changes
    #[arg(long, value_name = "PATH")]
    pub transit_token_file: Option<PathBuf>,

    /// The id of the role, for `approle`
    #[arg(long, value_name = "ID")]
    pub transit_role_id: Option<String>,

    /// The file with the secret id, for `approle`
    #[arg(long, value_name = "PATH")]
    pub transit_secret_id_file: Option<PathBuf>,

    /// The role, for `kubernetes`
    #[arg(long, value_name = "NAME")]
    pub transit_role: Option<String>,

    /// The file with the pod's token, for `kubernetes`, if not where Kubernetes mounts it
    #[arg(long, value_name = "PATH")]
    pub transit_jwt_file: Option<PathBuf>,

    /// The authorities that the server's certificate may come from, in PEM form. Those of
    /// the system, unless given
    #[arg(long, value_name = "PATH")]
    pub transit_ca_file: Option<PathBuf>,

    /// The namespace to work in
    #[arg(long, value_name = "PATH")]
    pub transit_namespace: Option<String>,
}

/// How to log in to the transit server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransitAuth {
    /// A token in a file.
    Token,
    /// A role id, and a secret id in a file.
    Approle,
    /// The account of the pod.
    Kubernetes,
}

/// What is wrong with the options, and what to change.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionsError {
    /// One is needed and not given.
    #[error("{option} is missing: {reason}")]
    Missing {
        /// The option.
        option: &'static str,
        /// Who needs it.
        reason: &'static str,
    },
    /// One is given that has no effect beside another.
    #[error("{option} has no effect with --transit-auth {auth}: take it away, or choose another method")]
    NoEffect {
        /// The option.
        option: &'static str,
        /// The method.
        auth: &'static str,
    },
    /// A value cannot be used.
    #[error("{option} is refused: {problem}")]
    Refused {
        /// The option.
        option: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Options that fit together.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(super) endpoint: Endpoint,
    pub(super) mount: String,
    pub(super) key: String,
    pub(super) login: Login,
}

/// Where the server is.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) address: Url,
    pub(super) namespace: Option<HeaderValue>,
    pub(super) ca_file: Option<PathBuf>,
}

impl TransitOptions {
    /// Whether any option says that a transit engine is meant.
    pub(crate) fn is_given(&self) -> bool {
        self.transit_address.is_some()
            || self.transit_key.is_some()
            || self.transit_auth.is_some()
            || self.transit_auth_mount.is_some()
            || self.transit_token_file.is_some()
            || self.transit_role_id.is_some()
            || self.transit_secret_id_file.is_some()
            || self.transit_role.is_some()
            || self.transit_jwt_file.is_some()
            || self.transit_ca_file.is_some()
            || self.transit_namespace.is_some()
    }

    /// The settings, if the options are complete and do not contradict each other.
    ///
    /// # Errors
    ///
    /// The first option that is wrong.
    pub(crate) fn settings(&self) -> Result<Settings, OptionsError> {
        const REASON: &str = "the transit engine needs it";
        let address = required(self.transit_address.as_ref(), "--transit-address", REASON)?;
        let key = required(self.transit_key.as_ref(), "--transit-key", REASON)?;
        let auth = required(self.transit_auth.as_ref(), "--transit-auth", "it is one of token, approle, kubernetes")?;
        let namespace = self.transit_namespace.as_deref().map(|name| path("--transit-namespace", name)).transpose()?;
        Ok(Settings {
            endpoint: Endpoint {
                address: origin(address)?,
                // What `path` lets through can stand in a header.
                namespace: namespace.and_then(|name| HeaderValue::from_str(&name).ok()),
                ca_file: self.transit_ca_file.clone(),
            },
            mount: path("--transit-mount", &self.transit_mount)?,
            key: segment("--transit-key", key)?,
            login: self.login(*auth)?,
        })
    }

    fn login(&self, auth: TransitAuth) -> Result<Login, OptionsError> {
        self.refuse_without_effect(auth)?;
        let mount = |usual| path("--transit-auth-mount", self.transit_auth_mount.as_deref().unwrap_or(usual));
        let reason = "--transit-auth needs it";
        Ok(match auth {
            TransitAuth::Token => Login::Token {
                file: required(self.transit_token_file.as_ref(), "--transit-token-file", reason)?.clone(),
            },
            TransitAuth::Approle => Login::AppRole {
                mount: mount("approle")?,
                role_id: required(self.transit_role_id.as_ref(), "--transit-role-id", reason)?.clone(),
                secret_id_file: required(self.transit_secret_id_file.as_ref(), "--transit-secret-id-file", reason)?
                    .clone(),
            },
            TransitAuth::Kubernetes => Login::Kubernetes {
                mount: mount("kubernetes")?,
                role: required(self.transit_role.as_ref(), "--transit-role", reason)?.clone(),
                jwt_file: self.transit_jwt_file.clone().unwrap_or_else(|| PathBuf::from(KUBERNETES_JWT_FILE)),
            },
        })
    }

    /// An option of another method is a mistake: one of the two is not what was meant.
    fn refuse_without_effect(&self, auth: TransitAuth) -> Result<(), OptionsError> {
        use TransitAuth::{Approle, Kubernetes, Token};
        let (name, methods): (_, [(_, &[_], _); 6]) = (
            match auth {
                Token => "token",
                Approle => "approle",
                Kubernetes => "kubernetes",
            },
            [
                ("--transit-auth-mount", &[Approle, Kubernetes], self.transit_auth_mount.is_some()),
                ("--transit-token-file", &[Token], self.transit_token_file.is_some()),
                ("--transit-role-id", &[Approle], self.transit_role_id.is_some()),
                ("--transit-secret-id-file", &[Approle], self.transit_secret_id_file.is_some()),
                ("--transit-role", &[Kubernetes], self.transit_role.is_some()),
                ("--transit-jwt-file", &[Kubernetes], self.transit_jwt_file.is_some()),
            ],
        );
        match methods.iter().find(|(_, methods, is_given)| *is_given && !methods.contains(&auth)) {
            Some((option, ..)) => Err(OptionsError::NoEffect { option, auth: name }),
            None => Ok(()),
        }
    }
}

fn required<'a, T>(value: Option<&'a T>, option: &'static str, reason: &'static str) -> Result<&'a T, OptionsError> {
    value.ok_or(OptionsError::Missing { option, reason })
}

/// A scheme, a host and a port. A token is sent there: nobody may listen on the way.
fn origin(address: &str) -> Result<Url, OptionsError> {
    let refused = |problem| OptionsError::Refused { option: "--transit-address", problem };
    let url = Url::parse(address).map_err(|_| refused("it is not a URL such as https://vault.internal:8200"))?;
    let is_loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        "http" => return Err(refused("plain http would show the token to the network; use https")),
        _ => return Err(refused("it must begin with https://")),
    }
    let has_more = !url.username().is_empty()
        || url.password().is_some()
        || url.path() != "/"
        || url.query().is_some()
        || url.fragment().is_some();
    if has_more { Err(refused("it must be a scheme, a host and a port only")) } else { Ok(url) }
}

/// One or more segments, without a slash at either end.
fn path(option: &'static str, text: &str) -> Result<String, OptionsError> {
    let text = text.trim_matches('/');
    text.split('/').try_for_each(|part| segment(option, part).map(drop))?;
    Ok(text.to_owned())
}

/// What can stand between two slashes of a URL and means only itself.
fn segment(option: &'static str, text: &str) -> Result<String, OptionsError> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_name && (1..=NAME_LENGTH_MAX).contains(&text.len()) && text != "." && text != ".." {
        Ok(text.to_owned())
    } else {
        Err(OptionsError::Refused { option, problem: "it is not made of names: 1 to 128 of A-Z a-z 0-9 . _ -" })
    }
}
