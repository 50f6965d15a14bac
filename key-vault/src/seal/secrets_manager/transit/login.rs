//! Getting a token: from a file, for an application's role, or for a pod's identity.
//!
//! What proves who we are stands in files, and is read anew for each login: others
//! replace it there.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use tokio::{
    io::AsyncReadExt as _,
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

use super::{
    client::{Answer, Client},
    session::{Life, Token},
};
use crate::seal::secrets_manager::Error;

/// A token of a Kubernetes account with many groups in it has a few KiB.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// How long reading a file may take: a folder that a network mounts can hang.
const FILE_MAX: Duration = Duration::from_secs(2);

/// How a token is got.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    /// Somebody puts it into a file.
    Token { file: PathBuf },
    /// `AppRole`.
    AppRole { mount: String, role_id: String, secret_id_file: PathBuf },
    /// Kubernetes.
    Kubernetes { mount: String, role: String, jwt_file: PathBuf },
}

impl Login {
    /// Gets a token.
    pub(super) async fn log_in(&self, client: &Client) -> Result<Token, Error> {
        match self {
            Self::Token { file } => {
                let token = Token::new(token_file(file).read().await?, Life::Unlimited, false);
                looked_up(client, token).await?.ok_or_else(|| self.refused())
            }
            Self::AppRole { mount, role_id, secret_id_file } => {
                let file = SecretFile { option: "--transit-secret-id-file", path: secret_id_file, is_private: true };
                let secret_id = file.read().await?;
                let body = AppRoleLogin { role_id, secret_id: secret_id.expose_secret() };
                self.post(client, mount, &body).await
            }
            Self::Kubernetes { mount, role, jwt_file } => {
                // Kubernetes lets everyone in the container read it.
                let file = SecretFile { option: "--transit-jwt-file", path: jwt_file, is_private: false };
                let jwt = file.read().await?;
                let body = KubernetesLogin { role, jwt: jwt.expose_secret() };
                self.post(client, mount, &body).await
            }
        }
    }

    /// Whether another token than this one was put into the file.
    pub(super) async fn offers_another(&self, token: &Token) -> bool {
        match self {
            Self::Token { file } => token_file(file).read().await.is_ok_and(|text| !token.is(&text)),
            Self::AppRole { .. } | Self::Kubernetes { .. } => false,
        }
    }

    async fn post(&self, client: &Client, mount: &str, body: &impl Serialize) -> Result<Token, Error> {
        // The token lives from when the server makes it, which is not before this.
        let asked = Instant::now();
        let answer = client.post(&format!("auth/{mount}/login"), None, body).await?;
        if answer.status != 200 {
            return Err(self.refused());
        }
        granted(&answer, asked)
    }

    fn refused(&self) -> Error {
        let advice = match self {
            Self::Token { .. } => "put a token that is valid and may look itself up into --transit-token-file",
            Self::AppRole { .. } => {
                "look at --transit-role-id, --transit-auth-mount and whether the secret id in --transit-secret-id-file \
                 is valid still"
            }
            Self::Kubernetes { .. } => {
                "look at --transit-role, --transit-auth-mount and which account and namespace the role is bound to"
            }
        };
        Error::LoginRefused { advice }
    }
}

#[derive(Serialize)]
struct AppRoleLogin<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct KubernetesLogin<'a> {
    role: &'a str,
    jwt: &'a str,
}

/// The token that a login or a renewal gives.
pub(super) fn granted(answer: &Answer, asked: Instant) -> Result<Token, Error> {
    #[derive(Deserialize)]
    struct Granted<'a> {
        #[serde(borrow)]
        auth: Auth<'a>,
    }
    /// Borrowed from the body, which is wiped.
    #[derive(Deserialize)]
    struct Auth<'a> {
        client_token: &'a str,
        lease_duration: u64,
        renewable: bool,
    }

    let Granted { auth } = answer.parse()?;
    if auth.client_token.is_empty() {
        return Err(Error::Unintelligible { problem: "it has no token" });
    }
    let life = match auth.lease_duration {
        0 => Life::Unlimited,
        seconds => Life::of(asked, seconds),
    };
    Ok(Token::new(SecretString::from(auth.client_token), life, auth.renewable))
}

/// What the server knows of a token from a file, if it knows it.
async fn looked_up(client: &Client, token: Token) -> Result<Option<Token>, Error> {
    #[derive(Deserialize)]
    struct LookedUp {
        data: Known,
    }
    #[derive(Deserialize)]
    struct Known {
        ttl: u64,
        renewable: bool,
        expire_time: Option<IgnoredAny>,
    }

    let asked = Instant::now();
    let answer = client.get(LOOKUP, &token).await?;
    if answer.status != 200 {
        return Ok(None);
    }
    let LookedUp { data } = answer.parse()?;
    let life = if data.expire_time.is_none() { Life::Unlimited } else { Life::of(asked, data.ttl) };
    Ok(Some(token.known(life, data.renewable)))
}

/// Says what a token is. Most policies allow it, and not all.
pub(super) const LOOKUP: &str = "auth/token/lookup-self";

/// A file with one secret in it.
struct SecretFile<'a> {
    option: &'static str,
    path: &'a Path,
    is_private: bool,
}

fn token_file(path: &Path) -> SecretFile<'_> {
    SecretFile { option: "--transit-token-file", path, is_private: true }
}

impl SecretFile<'_> {
    async fn read(&self) -> Result<SecretString, Error> {
        let text = timeout(FILE_MAX, self.read_whole()).await.map_err(|_| self.error("does not come in time"))??;
        let text = text.trim();
        if text.is_empty() {
            Err(self.error("is empty"))
        } else if text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(SecretString::from(text))
        } else {
            Err(self.error("is not one line of visible characters"))
        }
    }

    async fn read_whole(&self) -> Result<Zeroizing<String>, Error> {
        let unreadable = |_| self.error("cannot be read");
        let file = tokio::fs::File::open(self.path).await.map_err(unreadable)?;
        let metadata = file.metadata().await.map_err(unreadable)?;
        if self.is_private && metadata.permissions().mode() & 0o007 != 0 {
            return Err(self.error("can be read or written by everyone; take that away with `chmod o-rwx`"));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(self.error("is larger than 16 KiB"));
        }
        // Room for all of it, so that no copy of a part of it is left behind.
        let mut text = Zeroizing::new(String::with_capacity(usize::try_from(metadata.len() + 1).unwrap_or_default()));
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).await.map_err(unreadable)?;
        Ok(text)
    }

    fn error(&self, problem: &'static str) -> Error {
        Error::File { option: self.option, path: self.path.display().to_string(), problem }
    }
}
