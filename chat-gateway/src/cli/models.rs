//! Which models there are to chat with.

use std::process::ExitCode;

use proto::{
    chat::{ListModelsRequest, ListModelsResponse},
    types::Provider,
};

use super::{connect, output};
use crate::config::{ClientOptions, ModelsOptions, Output};

pub(super) async fn run(options: &ModelsOptions) -> anyhow::Result<ExitCode> {
    let provider = options.provider.map_or(Provider::Unspecified, Provider::from);
    let request = ListModelsRequest {
        organization_id: options.organization.clone(),
        profile_id: options.profile.clone(),
        provider: provider.into(),
    };
    let listed = list(&options.client, request).await?;
    match options.client.output {
        Output::Json => output::json("ListModelsResponse", &listed)?,
        Output::Text => {
            output::models(&listed.providers, options.all);
            listed.providers.iter().for_each(output::problem);
        }
    }
    // A profile rarely has keys of all providers: what it has is what was asked for.
    let none = listed.providers.iter().all(|of| of.problem.is_some());
    Ok(if none { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(super) async fn list(client: &ClientOptions, request: ListModelsRequest) -> anyhow::Result<ListModelsResponse> {
    Ok(connect(client)?.list_models(request).await?.into_inner())
}
