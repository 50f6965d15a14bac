//! The models that a caller can chat with.

use proto::{
    chat::{ListModelsRequest, ListModelsResponse, ListProblem, Model, ProviderModels},
    types,
};
use service_runtime::fields::{Check, Invalid};
use tonic::Request;

use super::{
    Error, Methods,
    admission::{Asked, admit, roles},
    convert, deadline, failure,
};
use crate::{
    access::{Chat, check},
    message::Provider,
    model_list::{self, Ask, ModelList},
};

impl Methods {
    pub(super) async fn list(&self, request: Request<ListModelsRequest>) -> Result<ListModelsResponse, Error> {
        let request = admit(request)?;
        let deadline = deadline(&request);
        let roles = roles(&request)?;
        let request = request.into_inner();
        let lists = self.models.list(&ask(&request)?, deadline).await?;
        let may_use = |model: &model_list::Model| {
            let chat = request.chat().map(|chat| Chat { model: Some(&model.name), ..chat });
            check(&roles, ListModelsRequest::METHOD, chat).is_ok()
        };
        Ok(ListModelsResponse { providers: lists.into_iter().map(|list| of_provider(list, may_use)).collect() })
    }
}

fn ask(request: &ListModelsRequest) -> Result<Ask, Invalid> {
    let mut check = Check::default();
    let organization = check.take(convert::label("organization_id", request.organization_id.clone()));
    let profile = request.profile_id.clone().map(|text| convert::label("profile_id", text));
    let profile = check.take(profile.transpose());
    let provider = check.take(provider(request.provider));
    let (Some(organization), Some(profile), Some(provider)) = (organization, profile, provider) else {
        return Err(check.failed());
    };
    Ok(Ask { organization, profile, provider })
}

/// Unspecified is all of them; a number that nobody knows is not.
fn provider(number: i32) -> Result<Option<Provider>, Invalid> {
    match types::Provider::try_from(number) {
        Ok(types::Provider::Unspecified) => Ok(None),
        known => convert::provider("provider", known.unwrap_or_default()).map(Some),
    }
}

fn of_provider(list: ModelList, may_use: impl Fn(&model_list::Model) -> bool) -> ProviderModels {
    let (api_key_id, source) = list.key.unzip();
    let (models, problem) = match list.models {
        Ok(models) => (models.iter().filter(|model| may_use(model)).map(message).collect(), None),
        Err(error) => {
            let (reason, message) = failure::problem(error);
            (Vec::new(), Some(ListProblem { reason: reason.into(), message }))
        }
    };
    ProviderModels {
        provider: types::Provider::from(list.provider).into(),
        api_key_id: api_key_id.unwrap_or_default(),
        source: source.map(types::Source::from).unwrap_or_default().into(),
        models,
        problem,
    }
}

fn message(model: &model_list::Model) -> Model {
    Model {
        name: model.name.clone(),
        display_name: model.display_name.clone(),
        chat_supported: model.chats,
        input_tokens_max: model.input_tokens_max,
        output_tokens_max: model.output_tokens_max,
    }
}
