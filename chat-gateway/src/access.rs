//! What callers may do. Pure: no transport, no clock, no file.
//!
//! [`RULES`] says which roles may call which method; a method that is not there is nobody's.
//! A chat must be allowed whole by one role: organization, profile and model. A list of models
//! is allowed where a chat with some model is.

use schemars::JsonSchema;
use serde::Deserialize;
use service_runtime::policy;

use crate::{
    detect::detect,
    message::{Label, Provider},
};

/// What a principal may do.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "role", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Role {
    /// Chats.
    Caller {
        /// For these organizations, compared exactly.
        organizations: Vec<String>,
        /// As these profiles, compared exactly, or as any and as none with `"all"`.
        profiles: Names,
        /// With these models, or `"all"`. Written as callers write them: `gpt-5` and
        /// `openai/gpt-5` are the same.
        models: Models,
    },
    /// Checks keys.
    Admin {},
}

/// Some names, or all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Names {
    /// All, and none.
    All(All),
    /// These.
    Only(Vec<String>),
}

/// Some models, or all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Models {
    /// All.
    All(All),
    /// These.
    Only(Vec<Model>),
}

/// The word for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum All {
    /// All.
    All,
}

/// A model, as it is called at its provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub(crate) struct Model {
    provider: Provider,
    name: String,
}

impl TryFrom<String> for Model {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match detect(&text) {
            Ok(detected) => Ok(Self { provider: detected.provider, name: detected.provider_model }),
            Err(none) => Err(format!("model {text:?} leads to no provider: {}", none.reason)),
        }
    }
}

/// Which part of a chat the policy does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Method,
    Organization,
    Profile,
    Model,
}

impl Denied {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Organization => "organization",
            Self::Profile => "profile",
            Self::Model => "model",
        }
    }
}

/// What a chat, or a list of models to chat with, is for, as the caller wrote it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chat<'a> {
    pub(crate) organization: &'a str,
    pub(crate) profile: Option<&'a str>,
    /// `None` asks for what can be chatted with, and is allowed with any model.
    pub(crate) model: Option<&'a str>,
    /// Who answers in its place if it cannot: each as much the caller's as the model itself.
    pub(crate) fallback_models: &'a [String],
}

/// The kinds of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Caller,
    Admin,
}

/// Each method, and the roles that may call it.
const RULES: &[(&str, &[Kind])] = &[
    ("StreamChat", &[Kind::Caller]),
    ("Chat", &[Kind::Caller]),
    ("ListModels", &[Kind::Caller]),
    ("DetectProvider", &[Kind::Caller]),
    ("CheckKey", &[Kind::Admin]),
];

/// Whether `roles` let a caller use `method`, for `chat` if it is one.
///
/// # Errors
///
/// What they do not allow.
pub(crate) fn check(roles: &[Role], method: &str, chat: Option<Chat<'_>>) -> Result<(), Denied> {
    let kinds = RULES.iter().find(|(name, _)| *name == method).map_or(&[][..], |(_, kinds)| kinds);
    let mut counting = roles.iter().filter(|role| kinds.contains(&role.kind())).peekable();
    if counting.peek().is_none() {
        return Err(Denied::Method);
    }
    let Some(chat) = chat else { return Ok(()) };
    // The role that comes nearest says what is missing.
    let nearest = counting.map(|role| role.denies(chat)).max_by_key(|denied| match denied {
        Some(Denied::Method | Denied::Organization) => 0,
        Some(Denied::Profile) => 1,
        Some(Denied::Model) => 2,
        None => 3,
    });
    nearest.flatten().map_or(Ok(()), Err)
}

impl Role {
    fn kind(&self) -> Kind {
        match self {
            Self::Caller { .. } => Kind::Caller,
            Self::Admin {} => Kind::Admin,
        }
    }

    fn denies(&self, chat: Chat<'_>) -> Option<Denied> {
        let Self::Caller { organizations, profiles, models } = self else { return Some(Denied::Method) };
        if !organizations.is_empty() && !organizations.iter().any(|this| this == chat.organization) {
            return Some(Denied::Organization);
        }
        let profile = match (profiles, chat.profile) {
            (Names::All(All::All), _) => true,
            (Names::Only(these), Some(profile)) => these.iter().any(|this| this == profile),
            (Names::Only(_), None) => false,
        };
        if !profile {
            return Some(Denied::Profile);
        }
        let model = match models {
            Models::All(All::All) => true,
            Models::Only(these) => {
                let mut asked = chat.model.into_iter().chain(chat.fallback_models.iter().map(String::as_str));
                asked.all(|model| Model::try_from(model.to_owned()).is_ok_and(|model| these.contains(&model)))
            }
        };
        (!model).then_some(Denied::Model)
    }
}

impl policy::Role for Role {
    fn check(roles: &[Self]) -> Result<(), String> {
        for role in roles {
            let Self::Caller { organizations, profiles, .. } = role else { continue };
            if organizations.is_empty() {
                return Err("`organizations` is empty: leave the role out instead".to_owned());
            }
            let profiles = match profiles {
                Names::All(All::All) => &[][..],
                Names::Only(these) => these,
            };
            for id in organizations.iter().chain(profiles) {
                Label::new(id.clone()).ok_or_else(|| {
                    format!(
                        "{id:?} is not an organization or a profile: 1 to {} of A-Z a-z 0-9 . _ : @ -",
                        Label::LENGTH_MAX
                    )
                })?;
            }
        }
        Ok(())
    }

    /// The one role without organizations, which no policy can have: it is for all of them.
    fn all() -> Vec<Self> {
        let caller =
            Self::Caller { organizations: Vec::new(), profiles: Names::All(All::All), models: Models::All(All::All) };
        vec![caller, Self::Admin {}]
    }
}

#[cfg(test)]
mod tests {
    use service_runtime::policy::{Policy, Role as _};

    use super::*;
    use crate::committed;

    fn roles(json: &str) -> Vec<Role> {
        serde_json::from_str(json).expect("roles")
    }

    fn chat<'a>(organization: &'a str, profile: Option<&'a str>, model: &'a str) -> Chat<'a> {
        Chat { organization, profile, model: Some(model), fallback_models: &[] }
    }

    #[test]
    fn the_committed_schema_is_that_of_the_policy() {
        committed::is_made_by("policy.schema.json", |_| Policy::<Role>::schema().expect("a schema"));
    }

    #[test]
    fn each_method_of_the_contract_has_its_rule_and_nothing_else_has() {
        let pool = prost_reflect::DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors");
        let mut methods: Vec<String> = pool
            .services()
            .filter(|service| service.package_name() == "archestra.chat.v1")
            .flat_map(|service| service.methods().map(|method| method.name().to_owned()).collect::<Vec<_>>())
            .collect();
        let mut rules: Vec<_> = RULES.iter().map(|(name, _)| (*name).to_owned()).collect();
        methods.sort();
        rules.sort();
        assert_eq!(methods, rules);
    }

    #[test]
    fn a_chat_is_allowed_whole_by_one_role() {
        let roles = roles(
            r#"[{"role": "caller", "organizations": ["acme"], "profiles": ["team-a"], "models": ["gpt-5", "claude-sonnet-4-5"]},
                {"role": "caller", "organizations": ["other"], "profiles": "all", "models": "all"}]"#,
        );
        let asked = |chat| check(&roles, "StreamChat", Some(chat));
        for (chat, expected) in [
            (chat("acme", Some("team-a"), "gpt-5"), Ok(())),
            (chat("acme", Some("team-a"), " openai/gpt-5 "), Ok(())),
            (chat("other", None, "anything"), Ok(())),
            (chat("other", Some("team-a"), "gpt-5-mini"), Ok(())),
            (chat("third", Some("team-a"), "gpt-5"), Err(Denied::Organization)),
            (chat("", Some("team-a"), "gpt-5"), Err(Denied::Organization)),
            (chat("Acme", Some("team-a"), "gpt-5"), Err(Denied::Organization)),
            (chat("acme", Some("team-b"), "gpt-5"), Err(Denied::Profile)),
            (chat("acme", Some("team-A"), "gpt-5"), Err(Denied::Profile)),
            (chat("acme", Some("team-a "), "gpt-5"), Err(Denied::Profile)),
            (chat("acme", Some(""), "gpt-5"), Err(Denied::Profile)),
            (chat("acme", None, "gpt-5"), Err(Denied::Profile)),
            (chat("acme", Some("team-a"), "gpt-5-mini"), Err(Denied::Model)),
            (chat("acme", Some("team-a"), "anthropic/gpt-5"), Err(Denied::Model)),
            (chat("acme", Some("team-a"), "nobody/gpt-5"), Err(Denied::Model)),
            (chat("acme", Some("team-a"), ""), Err(Denied::Model)),
        ] {
            assert_eq!(asked(chat), expected, "{chat:?}");
        }
        for (fallbacks, expected) in [
            (vec!["claude-sonnet-4-5", "openai/gpt-5"], Ok(())),
            (vec!["claude-sonnet-4-5", "gpt-5-mini"], Err(Denied::Model)),
            (vec!["no-such"], Err(Denied::Model)),
        ] {
            let fallbacks: Vec<_> = fallbacks.into_iter().map(str::to_owned).collect();
            let (organization, profile, model) = ("acme", Some("team-a"), Some("gpt-5"));
            let chat = Chat { organization, profile, model, fallback_models: &fallbacks };
            assert_eq!(
                check(&roles, "StreamChat", Some(chat)),
                expected,
                "who answers in its place is asked for too: {fallbacks:?}"
            );
        }
        let lists = |organization, profile| {
            check(&roles, "ListModels", Some(Chat { organization, profile, model: None, fallback_models: &[] }))
        };
        assert_eq!(lists("acme", Some("team-a")), Ok(()), "of those models that the role names");
        assert_eq!(lists("other", None), Ok(()));
        assert_eq!(lists("acme", None), Err(Denied::Profile));
        assert_eq!(lists("third", None), Err(Denied::Organization));
        assert_eq!(check(&roles, "CheckKey", None), Err(Denied::Method));
        assert_eq!(check(&roles, "DetectProvider", None), Ok(()));
        assert_eq!(check(&[Role::Admin {}], "DetectProvider", None), Err(Denied::Method));
        assert_eq!(check(&[], "StreamChat", Some(chat("acme", Some("team-a"), "gpt-5"))), Err(Denied::Method));
        assert_eq!(check(&[Role::Admin {}], "StreamChat", Some(chat("acme", None, "gpt-5"))), Err(Denied::Method));
    }

    #[test]
    fn a_policy_that_says_nothing_clear_is_refused() {
        let refused = |json: &str| match serde_json::from_str::<Vec<Role>>(json) {
            Ok(roles) => Role::check(&roles).is_err(),
            Err(_) => true,
        };
        assert!(refused(r#"[{"role": "caller", "organizations": [], "profiles": "all", "models": "all"}]"#));
        assert!(refused(r#"[{"role": "caller", "organizations": "all", "profiles": "all", "models": "all"}]"#));
        assert!(refused(r#"[{"role": "caller", "organizations": ["a*"], "profiles": "all", "models": "all"}]"#));
        assert!(refused(r#"[{"role": "caller", "organizations": ["a"], "profiles": ["b c"], "models": "all"}]"#));
        assert!(refused(r#"[{"role": "caller", "organizations": ["a"], "profiles": "all", "models": ["no-such"]}]"#));
        assert!(refused(r#"[{"role": "caller", "organizations": ["a"], "profiles": "all"}]"#));
        assert!(!refused(r#"[{"role": "caller", "organizations": ["a"], "profiles": "all", "models": "all"}]"#));
        assert!(Role::check(&Role::all()).is_err(), "what development has, no policy can have");
    }
}
