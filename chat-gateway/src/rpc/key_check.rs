//! Whether a provider accepts a key.

use proto::{
    chat::{
        CheckKeyRequest, CheckKeyResponse, check_key_response::Result as Checked,
        key_check_service_server::KeyCheckService,
    },
    keyvault,
};
use service_runtime::fields::{Check, Invalid};
use tonic::{Request, Response, Status, async_trait};

use super::{Error, Methods, admission::admit, answer, convert, deadline};
use crate::{
    key_check::Verdict,
    message::{KeyMaterial, Provider},
    provider::Standing,
};

/// As long as a key may be that the vault stores.
const KEY_CHARS_MAX: usize = 512;

#[async_trait]
impl KeyCheckService for Methods {
    async fn check_key(&self, request: Request<CheckKeyRequest>) -> Result<Response<CheckKeyResponse>, Status> {
        answer(self.check(request).await)
    }
}

impl Methods {
    async fn check(&self, request: Request<CheckKeyRequest>) -> Result<CheckKeyResponse, Error> {
        let request = admit(request)?;
        let deadline = deadline(&request);
        let (provider, key) = ask(request.into_inner())?;
        Ok(self.checks.check(provider, &key, deadline).await.into())
    }
}

fn ask(request: CheckKeyRequest) -> Result<(Provider, KeyMaterial), Invalid> {
    let mut check = Check::default();
    let provider = check.take(convert::provider("provider", request.provider()));
    let key = check.take(material(request.material));
    provider.zip(key).ok_or_else(|| check.failed())
}

fn material(material: Option<keyvault::KeyMaterial>) -> Result<KeyMaterial, Invalid> {
    let text = material.unwrap_or_default().api_key;
    let fits = (1..=KEY_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let key = KeyMaterial::new(text);
    let problem = format_args!("must have 1 to {KEY_CHARS_MAX} characters, all visible ASCII without white space");
    if fits { Ok(key) } else { Err(Invalid::new("material.api_key", problem)) }
}

impl From<Verdict> for CheckKeyResponse {
    fn from(verdict: Verdict) -> Self {
        let result = match verdict.standing {
            Standing::Accepted | Standing::AcceptedWith(_) => Checked::Accepted,
            Standing::Rejected => Checked::Rejected,
            Standing::RateLimited => Checked::RateLimited,
            Standing::Unknown => Checked::Unreachable,
            Standing::WrongEndpoint => Checked::WrongEndpoint,
        };
        Self {
            result: result.into(),
            detail: verdict.detail,
            upstream_status: verdict.status.map_or(0, i32::from),
            upstream_code: verdict.code,
        }
    }
}
