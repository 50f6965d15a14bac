//! Who may call a method: decided once, before anything of its message is looked at but the
//! organization, the profile and the model that it is for.

use std::sync::Arc;

use proto::chat::{ChatRequest, CheckKeyRequest, DetectProviderRequest, ListModelsRequest, StreamChatRequest};
use service_runtime::{
    identity::{Refusal, Roles},
    peer::Peer,
};
use tonic::Request;
use tracing::warn;

use super::Error;
use crate::access::{Chat, Role, check};

/// A request, as far as it matters to who may send it.
pub(super) trait Asked {
    /// The name of its method.
    const METHOD: &'static str;

    /// What it is for, if it is a chat.
    fn chat(&self) -> Option<Chat<'_>> {
        None
    }
}

/// What is asked, if the caller may ask it. The first line of every method.
pub(super) fn admit<M: Asked>(request: Request<M>) -> Result<Request<M>, Error> {
    let peer = Peer::of(&request).ok_or(Refusal::Nothing)?;
    let roles = roles(&request)?;
    if let Err(denied) = check(&roles, M::METHOD, request.get_ref().chat()) {
        let principal = Arc::clone(peer.principal());
        warn!(principal = %principal, method = M::METHOD, denied = denied.name(), "a caller was refused");
        return Err(Error::NotAllowed { principal, method: M::METHOD, denied });
    }
    Ok(request)
}

/// The roles of the caller.
pub(super) fn roles<M>(request: &Request<M>) -> Result<Arc<[Role]>, Error> {
    let Roles(roles) = request.extensions().get::<Roles<Role>>().ok_or(Refusal::Nothing)?;
    Ok(Arc::clone(roles))
}

impl Asked for StreamChatRequest {
    const METHOD: &'static str = "StreamChat";

    fn chat(&self) -> Option<Chat<'_>> {
        Some(Chat {
            organization: &self.organization_id,
            profile: self.profile_id.as_deref(),
            model: Some(&self.model),
            fallback_models: &self.fallback_models,
        })
    }
}

impl Asked for ChatRequest {
    const METHOD: &'static str = "Chat";

    fn chat(&self) -> Option<Chat<'_>> {
        Some(Chat {
            organization: &self.organization_id,
            profile: self.profile_id.as_deref(),
            model: Some(&self.model),
            fallback_models: &self.fallback_models,
        })
    }
}

impl Asked for ListModelsRequest {
    const METHOD: &'static str = "ListModels";

    fn chat(&self) -> Option<Chat<'_>> {
        Some(Chat {
            organization: &self.organization_id,
            profile: self.profile_id.as_deref(),
            model: None,
            fallback_models: &[],
        })
    }
}

impl Asked for DetectProviderRequest {
    const METHOD: &'static str = "DetectProvider";
}

impl Asked for CheckKeyRequest {
    const METHOD: &'static str = "CheckKey";
}
