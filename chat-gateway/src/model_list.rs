//! The models that a profile's keys reach, as each provider lists them.
//!
//! All providers are asked at once, and one that fails is named beside the lists of the others.
//! Its error is that of a chat: what keeps a list away keeps a chat away too. Asking for a list
//! is not a chat, and is not reported as a use of the key.
//!
//! The key is chosen as for a chat. What a provider said to a key is kept for a minute, and only
//! whoever is given that key is shown it.
//!
//! Knows no transport and no HTTP. Spawns nothing.

mod cache;

use std::sync::Arc;

use futures_util::future::join_all;
use service_runtime::semconv::attribute;
use tokio::time::Instant;
use tracing::{Span, field, info};

use crate::{
    chat::{Attempt, Error},
    detect::detect,
    keys::Keys,
    message::{KeyMaterial, Label, Provider, Source},
    metrics::provider_name,
    provider::ListedModel,
    upstream::{Class, Fault, Upstream},
    vault_client::{KeyError, ResolvedKey},
};
use cache::{Cache, Kept};

/// How many pages are read of one list. The longest known has two.
const PAGES_MAX: usize = 20;

/// How many models a list may have. Accounts with many fine-tuned models of their own have some
/// thousands.
const MODELS_MAX: usize = 10_000;

/// A longer name cannot be asked for in a chat.
const NAME_CHARS_MAX: usize = 256;

/// As much of a name for people as is shown.
const DISPLAY_NAME_CHARS_MAX: usize = 256;

/// For whom models are listed.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) organization: Label,
    pub(crate) profile: Option<Label>,
    /// Only this one, or all.
    pub(crate) provider: Option<Provider>,
}

/// The models of one provider, or why there is no list of them.
#[derive(Debug)]
pub(crate) struct ModelList {
    pub(crate) provider: Provider,
    /// The key that it was asked with: its id, empty for the environment's, and the step that
    /// chose it. `None` if there is none.
    pub(crate) key: Option<(String, Source)>,
    /// Ordered by name.
    pub(crate) models: Result<Arc<[Model]>, Error>,
}

/// A model of a provider.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// The name to chat with: it leads to this model of this provider.
    pub(crate) name: String,
    /// The name for people. Empty if there is none.
    pub(crate) display_name: String,
    /// Whether it chats, as far as its name and the provider tell.
    pub(crate) chats: bool,
    pub(crate) input_tokens_max: Option<i64>,
    pub(crate) output_tokens_max: Option<i64>,
}

/// Lists models.
#[derive(Debug)]
pub(crate) struct ModelLists {
    keys: Keys,
    upstream: Arc<Upstream>,
    cache: Cache,
}

impl ModelLists {
    /// Lists what `keys` reach.
    pub(crate) fn new(keys: Keys, upstream: Arc<Upstream>) -> Self {
        Self { keys, upstream, cache: Cache::default() }
    }

    /// The lists of the providers that are asked, in the order of the contract.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if it is the vault itself that keeps all of them away.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connections to the providers.
    pub(crate) async fn list(&self, ask: &Ask, callers_deadline: Option<Instant>) -> Result<Vec<ModelList>, Error> {
        Span::current().record(attribute::ORGANIZATION_ID, field::display(&ask.organization));
        let deadline = self.upstream.list_deadline(callers_deadline);
        let asked = Provider::ALL.into_iter().filter(|provider| ask.provider.is_none_or(|only| only == *provider));
        let lists = join_all(asked.map(|provider| self.of_provider(ask, provider, deadline))).await;
        if lists.iter().all(ModelList::failed_at_the_vault) {
            lists.into_iter().find_map(|list| list.models.err()).map_or_else(|| Ok(Vec::new()), Err)
        } else {
            Ok(lists)
        }
    }

    async fn of_provider(&self, ask: &Ask, provider: Provider, deadline: Instant) -> ModelList {
        let get = || self.keys.get(&ask.organization, ask.profile.as_ref(), provider, deadline);
        let mut key = match get().await {
            Ok(key) => key,
            Err(error) => return ModelList { provider, key: None, models: Err(error.into()) },
        };
        let mut models = self.of_key(provider, &key, deadline).await;
        // It may be another one by now.
        if models.as_ref().is_err_and(|fault| matches!(fault.class(), Class::Key | Class::Permission)) {
            self.keys.forget(&key);
            if let Ok(of_now) = get().await
                && (of_now.api_key_id != key.api_key_id || of_now.version != key.version)
            {
                models = self.of_key(provider, &of_now, deadline).await;
                key = of_now;
            }
        }
        let models = models.map_err(|fault| {
            let attempt = Attempt {
                provider,
                model: String::new(),
                api_key_id: key.api_key_id.clone(),
                source: key.source,
                request_id: String::new(),
                count: 1,
            };
            Error::Upstream { attempt: Box::new(attempt), fault }
        });
        ModelList { provider, key: Some((key.api_key_id.clone(), key.source)), models }
    }

    async fn of_key(&self, provider: Provider, key: &ResolvedKey, deadline: Instant) -> Result<Arc<[Model]>, Fault> {
        let kept = Kept::of(provider, key);
        if let Some(models) = self.cache.get(&kept, &key.material, Instant::now()) {
            return Ok(models);
        }
        let models = self.read(provider, &key.material, deadline).await?;
        info!(
            gen_ai.provider.name = provider_name(provider),
            keyvault.key.id = %key.api_key_id,
            keyvault.resolution.source = key.source.name(),
            models = models.len(),
            "models listed"
        );
        self.cache.put(kept, &key.material, Arc::clone(&models), Instant::now());
        Ok(models)
    }

    /// Reads a list page by page.
    async fn read(&self, provider: Provider, key: &KeyMaterial, deadline: Instant) -> Result<Arc<[Model]>, Fault> {
        let mut models = Vec::new();
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let page = self.upstream.models_page(provider, key, after.as_deref(), deadline).await?;
            models.extend(page.models.into_iter().filter_map(|listed| Model::of(provider, listed)));
            if models.len() > MODELS_MAX {
                return Err(Fault::Malformed("a list of too many models"));
            }
            after = page.next;
            if after.is_none() {
                return Ok(ordered(models));
            }
        }
        Err(Fault::Malformed("a list of models without end"))
    }
}

/// Ordered by name, each once: pages overlap if a model is added between them.
fn ordered(mut models: Vec<Model>) -> Arc<[Model]> {
    models.sort_by(|one, other| one.name.cmp(&other.name));
    models.dedup_by(|one, other| one.name == other.name);
    models.into()
}

impl ModelList {
    /// Whether the vault could say nothing of any key.
    fn failed_at_the_vault(&self) -> bool {
        use KeyError::{Limited, Refused, StoreUnavailable, Unavailable};
        let Err(Error::Key(error)) = &self.models else { return false };
        matches!(**error, Unavailable(_) | Refused(_) | StoreUnavailable(_) | Limited { .. })
    }
}

impl Model {
    /// `None` if no name leads to it: nobody could chat with it.
    fn of(provider: Provider, listed: ListedModel) -> Option<Self> {
        let (name, by_name) = name_of(provider, listed.id)?;
        let display_name = listed.display_name.chars().filter(|c| !c.is_control()).take(DISPLAY_NAME_CHARS_MAX);
        Some(Self {
            name,
            display_name: display_name.collect(),
            chats: by_name && listed.chats.unwrap_or(true),
            input_tokens_max: listed.input_tokens_max,
            output_tokens_max: listed.output_tokens_max,
        })
    }
}

/// The name that leads to a model, and whether it chats by that name: its own, or its own with
/// the provider in front where that would lead elsewhere.
fn name_of(provider: Provider, id: String) -> Option<(String, bool)> {
    let leads = |name: &str| {
        let found = detect(name).ok().filter(|found| found.provider == provider && found.provider_model == id)?;
        let fits = name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control);
        fits.then_some(found.chats)
    };
    let prefixed = format!("{provider}/{id}");
    if let Some(chats) = leads(&id) {
        return Some((id, chats));
    }
    leads(&prefixed).map(|chats| (prefixed, chats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_model() {
        use Provider::{Anthropic, Gemini, OpenAi};
        for (provider, id, expected) in [
            (Anthropic, "claude-sonnet-4-5", Some(("claude-sonnet-4-5", true))),
            (Anthropic, "fable-1", Some(("anthropic/fable-1", true))),
            (Anthropic, "gpt-5", Some(("anthropic/gpt-5", true))),
            (OpenAi, "gpt-5", Some(("gpt-5", true))),
            (OpenAi, "ft:gpt-4o:acme::x", Some(("ft:gpt-4o:acme::x", true))),
            (OpenAi, "gpt-oss-120b", Some(("openai/gpt-oss-120b", true))),
            (OpenAi, "meta/llama-3", Some(("openai/meta/llama-3", true))),
            (OpenAi, "openai/gpt-5", Some(("openai/openai/gpt-5", true))),
            (OpenAi, "tts-1", Some(("tts-1", false))),
            (Gemini, "gemini-2.5-flash", Some(("gemini-2.5-flash", true))),
            (Gemini, "tunedModels/mine", Some(("tunedModels/mine", true))),
            (Gemini, "text-bison-001", Some(("gemini/text-bison-001", true))),
            (Gemini, "gpt-5", Some(("gemini/gpt-5", true))),
            (Gemini, "veo-3", Some(("veo-3", false))),
            (OpenAi, "", None),
            (OpenAi, " gpt-5", None),
            (OpenAi, "gpt-5\u{7}", None),
        ] {
            let found = name_of(provider, id.to_owned());
            let found = found.as_ref().map(|(name, chats)| (name.as_str(), *chats));
            assert_eq!(found, expected, "{provider} {id:?}");
        }
        let long = |count| name_of(OpenAi, format!("gpt-{}", "x".repeat(count)));
        assert!(long(NAME_CHARS_MAX - 4).is_some() && long(NAME_CHARS_MAX - 3).is_none());
    }

    #[test]
    fn a_model_chats_if_neither_its_name_nor_its_provider_says_otherwise() {
        for (id, said, expected) in [
            ("gemini-2.5-flash", None, true),
            ("gemini-2.5-flash", Some(true), true),
            ("gemini-2.5-flash", Some(false), false),
            ("gemini-2.5-flash-image", Some(true), false),
        ] {
            let listed = ListedModel { id: id.to_owned(), chats: said, ..ListedModel::default() };
            let model = Model::of(Provider::Gemini, listed).expect("a model");
            assert_eq!(model.chats, expected, "{id} {said:?}");
        }
    }

    #[test]
    fn models_are_ordered_and_listed_once() {
        let models = ["o3", "gpt-5", "o3", "gpt-4o"].map(|id| {
            Model::of(Provider::OpenAi, ListedModel { id: id.to_owned(), ..ListedModel::default() }).expect("a model")
        });
        let names: Vec<_> = ordered(models.into()).iter().map(|model| model.name.clone()).collect();
        assert_eq!(names, ["gpt-4o", "gpt-5", "o3"]);
    }
}
