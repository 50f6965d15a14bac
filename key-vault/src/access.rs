//! Who calls, and what they may do. Pure: no transport, no clock, no file.
//!
//! [`RULES`] is the whole of it: a method that is not there is nobody's. A test holds it
//! against the contract.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use service_runtime::policy;

use crate::key::OrganizationId;

/// What a principal may do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "role", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Role {
    /// Manages keys, defaults, assignments and policies. Never resolves.
    Admin {
        /// Of these organizations, by name.
        organizations: Organizations,
    },
    /// Lists, explains, and reads usage.
    Reader {
        /// Of these organizations, by name.
        organizations: Organizations,
    },
    /// Resolves keys, follows changes, and reports use. Lists nothing.
    Gateway {
        /// Of these organizations, or `"all"`.
        organizations: Organizations,
    },
    /// Looks after seal and key encryption keys. Knows no organization.
    Operator {},
    /// Reads and checks the audit log.
    Auditor {},
}

/// Some organizations, or all there are and will be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Organizations {
    /// All.
    All(All),
    /// These, compared exactly.
    Only(Vec<String>),
}

/// The word for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum All {
    /// All.
    All,
}

impl Organizations {
    fn has(&self, organization: &str) -> bool {
        match self {
            Self::All(All::All) => true,
            Self::Only(these) => these.iter().any(|this| this == organization),
        }
    }
}

impl policy::Role for Role {
    fn check(roles: &[Self]) -> Result<(), String> {
        let has = |kind| roles.iter().any(|role| role.kind() == kind);
        if has(Kind::Admin) && has(Kind::Gateway) {
            return Err(
                "nobody is admin and gateway: who manages keys may not have them, and the other way round".into()
            );
        }
        for role in roles {
            match role.organizations() {
                Some(Organizations::All(_)) if role.kind() != Kind::Gateway => {
                    return Err("`organizations` of an admin or a reader must be a list".into());
                }
                Some(Organizations::Only(these)) => check_organizations(these)?,
                Some(Organizations::All(_)) | None => {}
            }
        }
        Ok(())
    }

    fn all() -> Vec<Self> {
        let organizations = || Organizations::All(All::All);
        vec![
            Self::Admin { organizations: organizations() },
            Self::Reader { organizations: organizations() },
            Self::Gateway { organizations: organizations() },
            Self::Operator {},
            Self::Auditor {},
        ]
    }
}

fn check_organizations(these: &[String]) -> Result<(), String> {
    if these.is_empty() {
        return Err("`organizations` is empty: leave the role out instead".into());
    }
    for this in these {
        OrganizationId::try_from(this.clone()).map_err(|problem| format!("organization {this:?} {problem}"))?;
    }
    Ok(())
}

impl Role {
    fn kind(&self) -> Kind {
        match self {
            Self::Admin { .. } => Kind::Admin,
            Self::Reader { .. } => Kind::Reader,
            Self::Gateway { .. } => Kind::Gateway,
            Self::Operator {} => Kind::Operator,
            Self::Auditor {} => Kind::Auditor,
        }
    }

    fn organizations(&self) -> Option<&Organizations> {
        match self {
            Self::Admin { organizations } | Self::Reader { organizations } | Self::Gateway { organizations } => {
                Some(organizations)
            }
            Self::Operator {} | Self::Auditor {} => None,
        }
    }
}

/// The kinds of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Admin,
    Reader,
    Gateway,
    Operator,
    Auditor,
}

use Kind::{Admin, Auditor, Gateway, Operator, Reader};

/// Each method, and the roles that may call it.
const RULES: &[(&str, &[Kind])] = &[
    ("CreateApiKey", &[Admin]),
    ("GetApiKey", &[Admin, Reader]),
    ("ListApiKeys", &[Admin, Reader]),
    ("UpdateApiKey", &[Admin]),
    ("RotateApiKey", &[Admin]),
    ("RollbackApiKey", &[Admin]),
    ("DeleteApiKey", &[Admin]),
    ("SetOrganizationDefault", &[Admin]),
    ("ClearOrganizationDefault", &[Admin]),
    ("AssignProfiles", &[Admin]),
    ("UnassignProfiles", &[Admin]),
    ("ReplaceProfiles", &[Admin]),
    ("BatchAssignProfiles", &[Admin]),
    ("ListProfileKeys", &[Admin, Reader]),
    ("SetFallbackPolicy", &[Admin]),
    ("GetFallbackPolicy", &[Admin, Reader]),
    ("ResolveKey", &[Gateway]),
    ("ExplainResolution", &[Admin, Reader, Gateway]),
    ("WatchKeyChanges", &[Gateway]),
    ("ReportKeyUse", &[Gateway]),
    ("QueryUsage", &[Admin, Reader]),
    ("GetSealStatus", &[Operator]),
    ("RotateKeyEncryptionKey", &[Operator]),
    ("GetRewrapStatus", &[Operator]),
    ("RewrapKeyEncryptionKeys", &[Operator]),
    ("ListAuditEvents", &[Auditor]),
    ("VerifyAuditLog", &[Auditor]),
];

/// The method of a path such as `/archestra.keyvault.v1.ApiKeyService/GetApiKey`. Empty if it
/// is none of ours: what callers write is not recorded.
pub(crate) fn method(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    RULES.iter().map(|(method, _)| *method).find(|method| *method == name).unwrap_or_default()
}

/// What a caller's roles let it do with one method.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The roles that may call the method.
    roles: Arc<[Role]>,
    method: &'static str,
}

impl Grant {
    /// What `roles` let do with `method`. `None` if nothing.
    pub(crate) fn of(roles: &Arc<[Role]>, method: &'static str) -> Option<Self> {
        let grant = Self { roles: Arc::clone(roles), method };
        let may = grant.counting().next().is_some();
        may.then_some(grant)
    }

    fn counting(&self) -> impl Iterator<Item = &Role> {
        let kinds = RULES.iter().find(|(name, _)| *name == self.method).map_or(&[][..], |(_, kinds)| kinds);
        self.roles.iter().filter(|role| kinds.contains(&role.kind()))
    }

    /// Whether the method may be called for this organization, as the caller wrote it.
    pub(crate) fn covers(&self, organization: &str) -> bool {
        self.counting().filter_map(Role::organizations).any(|organizations| organizations.has(organization))
    }
}

/// The caller of one method: what records say of it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Its name in the policy.
    pub(crate) principal: Arc<str>,
    /// How it said who it is, as records say it: `certificate`, `token:ID`, `dev`.
    pub(crate) authentication: String,
    /// Where it called from.
    pub(crate) address: Option<SocketAddr>,
    /// The method, such as `ResolveKey`.
    pub(crate) method: &'static str,
    /// The trace that the call is part of, 32 hexadecimal digits.
    pub(crate) trace_id: String,
    /// When the call came.
    pub(crate) since: Instant,
}

impl Caller {
    /// A caller that is not known, for a cause of a fixed set.
    pub(crate) fn unknown(
        method: &'static str,
        cause: &'static str,
        address: Option<SocketAddr>,
        trace_id: String,
    ) -> Self {
        let (principal, authentication) = (Arc::from(""), format!("none:{cause}"));
        Self { principal, authentication, address, method, trace_id, since: Instant::now() }
    }

    /// The vault itself, for what it does without being asked.
    pub(crate) fn upkeep(method: &'static str) -> Self {
        Self {
            principal: Arc::from("key-vault"),
            authentication: "upkeep".to_owned(),
            address: None,
            method,
            trace_id: String::new(),
            since: Instant::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use service_runtime::policy::{Policy, Role as _};

    use super::*;

    fn only(organizations: &[&str]) -> Organizations {
        Organizations::Only(organizations.iter().map(|name| (*name).to_owned()).collect())
    }

    /// Set by `make generate`: write what this test otherwise compares.
    const WRITE: &str = "GENERATE";

    #[test]
    fn the_committed_schema_is_that_of_the_policy() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/policy.schema.json");
        let schema = Policy::<Role>::schema().expect("a schema");
        #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(path, &schema).expect("the schema is written");
        }
        assert!(std::fs::read_to_string(path).expect("a schema") == schema, "{path} is old: run `make generate`");
    }

    #[test]
    fn each_method_of_the_contract_has_its_rule_and_nothing_else_has() {
        let pool = prost_reflect::DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors");
        let mut methods: Vec<String> = pool
            .services()
            .filter(|service| service.package_name() == "archestra.keyvault.v1")
            .flat_map(|service| service.methods().map(|method| method.name().to_owned()).collect::<Vec<_>>())
            .collect();
        let mut rules: Vec<_> = RULES.iter().map(|(name, _)| (*name).to_owned()).collect();
        methods.sort();
        rules.sort();
        assert_eq!(methods, rules);
        assert!(RULES.iter().all(|(_, kinds)| !kinds.is_empty()));
    }

    #[test]
    fn a_role_counts_for_its_organizations_only() {
        let roles: Arc<[Role]> =
            vec![Role::Admin { organizations: only(&["acme"]) }, Role::Reader { organizations: only(&["other"]) }]
                .into();
        let grant = |method| Grant::of(&roles, method);
        let list = grant("ListApiKeys").expect("both may list");
        assert!(list.covers("acme") && list.covers("other") && !list.covers("third") && !list.covers(""));
        let create = grant("CreateApiKey").expect("the admin may");
        assert!(create.covers("acme") && !create.covers("other") && !create.covers("Acme") && !create.covers("acme "));
        assert!(grant("ResolveKey").is_none() && grant("VerifyAuditLog").is_none() && grant("NoSuchMethod").is_none());
    }

    #[test]
    fn nobody_manages_keys_and_has_them() {
        let admin = Role::Admin { organizations: only(&["acme"]) };
        let gateway = Role::Gateway { organizations: Organizations::All(All::All) };
        assert!(Role::check(&[admin.clone(), Role::Operator {}, Role::Auditor {}]).is_ok());
        assert!(Role::check(std::slice::from_ref(&gateway)).is_ok());
        assert!(Role::check(&[admin, gateway]).is_err());
        assert!(Role::check(&[Role::Admin { organizations: Organizations::All(All::All) }]).is_err());
        assert!(Role::check(&[Role::Reader { organizations: only(&[]) }]).is_err());
        assert!(Role::check(&[Role::Reader { organizations: only(&["acme", "a*"]) }]).is_err());
    }
}
