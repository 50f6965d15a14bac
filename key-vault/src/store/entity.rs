//! The tables, row by row. Nothing outside of `store` sees these.

pub(super) mod api_key {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "api_key")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) api_key_id: Uuid,
        pub(in crate::store) organization_id: String,
        pub(in crate::store) provider: String,
        pub(in crate::store) display_name: String,
        pub(in crate::store) state: String,
        pub(in crate::store) hint: String,
        pub(in crate::store) fingerprint: String,
        pub(in crate::store) version: i64,
        pub(in crate::store) creator: String,
        pub(in crate::store) create_time: ChronoDateTimeUtc,
        pub(in crate::store) update_time: ChronoDateTimeUtc,
        pub(in crate::store) revision: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod secret {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "secret")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) api_key_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) version: i64,
        pub(in crate::store) organization_id: String,
        pub(in crate::store) provider: String,
        pub(in crate::store) payload: Vec<u8>,
        pub(in crate::store) dek: Vec<u8>,
        pub(in crate::store) kek_id: String,
        pub(in crate::store) create_time: ChronoDateTimeUtc,
        pub(in crate::store) keep_until: Option<ChronoDateTimeUtc>,
    }

    impl std::fmt::Debug for Model {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("secret::Model").finish_non_exhaustive()
        }
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod organization_default {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "organization_default")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) organization_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) provider: String,
        pub(in crate::store) api_key_id: Uuid,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod profile_key {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "profile_key")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) organization_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) profile_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) provider: String,
        pub(in crate::store) api_key_id: Uuid,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod fallback_policy {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "fallback_policy")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) organization_id: String,
        /// Empty for the organization itself.
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) profile_id: String,
        pub(in crate::store) allow_organization_default: bool,
        pub(in crate::store) allow_environment: bool,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod kek {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "kek")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) kek_id: String,
        pub(in crate::store) manager: String,
        pub(in crate::store) key_ref: String,
        pub(in crate::store) wrapped: Vec<u8>,
        pub(in crate::store) check_value: Vec<u8>,
        pub(in crate::store) canary: Vec<u8>,
        pub(in crate::store) state: String,
        pub(in crate::store) wrap_count: i64,
        pub(in crate::store) create_time: ChronoDateTimeUtc,
        pub(in crate::store) promote_time: Option<ChronoDateTimeUtc>,
        pub(in crate::store) retire_time: Option<ChronoDateTimeUtc>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod vault_meta {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "vault_meta")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) id: i32,
        pub(in crate::store) vault_id: Uuid,
        pub(in crate::store) revision: i64,
        pub(in crate::store) fingerprint_key: Vec<u8>,
        pub(in crate::store) create_time: ChronoDateTimeUtc,
        /// Nothing in a database that was never restored: the vault's id stands for it.
        pub(in crate::store) epoch: Option<Uuid>,
        pub(in crate::store) compacted_revision: i64,
        pub(in crate::store) kek_revision: i64,
        /// Whether there ever was an audit log.
        pub(in crate::store) audit_log: bool,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod change {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "change")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) revision: i64,
        pub(in crate::store) organization_id: String,
        pub(in crate::store) kind: String,
        pub(in crate::store) providers: String,
        pub(in crate::store) api_key_ids: String,
        pub(in crate::store) create_time: ChronoDateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod request {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "request")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) principal: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) request_id: Uuid,
        pub(in crate::store) digest: Vec<u8>,
        pub(in crate::store) answer: String,
        pub(in crate::store) create_time: ChronoDateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod replica {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "replica")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) replica_id: Uuid,
        pub(in crate::store) seen_time: ChronoDateTimeUtc,
        pub(in crate::store) kek_ids: String,
        pub(in crate::store) managers: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod rewrap {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "rewrap")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) kek_id: String,
        pub(in crate::store) start_time: ChronoDateTimeUtc,
        pub(in crate::store) failed_count: i64,
        pub(in crate::store) worker: Option<Uuid>,
        pub(in crate::store) lease_until: Option<ChronoDateTimeUtc>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod usage_hour {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "usage_hour")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) organization_id: String,
        /// Hours since 1970 began.
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) hour: i64,
        /// Empty for calls without one.
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) profile_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) provider: String,
        /// Nil for the environment's.
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) api_key_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) version: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) source: String,
        #[sea_orm(primary_key, auto_increment = false, column_name = "model")]
        pub(in crate::store) asked_for: String,
        pub(in crate::store) call_count: i64,
        pub(in crate::store) partial_count: i64,
        pub(in crate::store) failed_count: i64,
        pub(in crate::store) rejected_count: i64,
        pub(in crate::store) input_tokens: i64,
        pub(in crate::store) cached_input_tokens: i64,
        pub(in crate::store) cache_write_tokens: i64,
        pub(in crate::store) output_tokens: i64,
        pub(in crate::store) reasoning_tokens: i64,
        pub(in crate::store) partial_input_tokens: i64,
        pub(in crate::store) partial_output_tokens: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod usage_report {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "usage_report")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) report_id: Uuid,
        pub(in crate::store) create_time: ChronoDateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod usage_reporter {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "usage_reporter")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) principal: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) reporter_id: Uuid,
        pub(in crate::store) seen_time: ChronoDateTimeUtc,
        /// Every use that ended before was reported, or dropped.
        pub(in crate::store) complete_until: ChronoDateTimeUtc,
        pub(in crate::store) ended: bool,
        pub(in crate::store) dropped_count: i64,
        /// The time in which uses were dropped. Nothing if none was.
        pub(in crate::store) dropped_from: Option<ChronoDateTimeUtc>,
        pub(in crate::store) dropped_until: Option<ChronoDateTimeUtc>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod key_use {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "key_use")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) api_key_id: Uuid,
        pub(in crate::store) last_used_time: Option<ChronoDateTimeUtc>,
        pub(in crate::store) last_rejected_time: Option<ChronoDateTimeUtc>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod audit_event {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_event")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) chain_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) sequence: i64,
        pub(in crate::store) event_id: Uuid,
        pub(in crate::store) event_time: ChronoDateTimeUtc,
        pub(in crate::store) principal: String,
        pub(in crate::store) authentication: String,
        pub(in crate::store) peer_address: String,
        pub(in crate::store) action: String,
        pub(in crate::store) organization_id: String,
        pub(in crate::store) profile_id: String,
        pub(in crate::store) provider: String,
        pub(in crate::store) api_key_id: Option<Uuid>,
        pub(in crate::store) key_version: i64,
        pub(in crate::store) source: String,
        pub(in crate::store) decision: String,
        pub(in crate::store) reason: String,
        pub(in crate::store) epoch: Option<Uuid>,
        pub(in crate::store) revision: i64,
        pub(in crate::store) request_id: Option<Uuid>,
        pub(in crate::store) trace_id: String,
        pub(in crate::store) latency_us: i64,
        pub(in crate::store) count: i64,
        pub(in crate::store) profile_ids: String,
        pub(in crate::store) mac: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod audit_chain {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_chain")]
    pub(in crate::store) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(in crate::store) chain_id: Uuid,
        pub(in crate::store) ordinal: i64,
        pub(in crate::store) sequence: i64,
        pub(in crate::store) mac: Vec<u8>,
        pub(in crate::store) floor_sequence: i64,
        pub(in crate::store) floor_mac: Vec<u8>,
        pub(in crate::store) chain_count: i64,
        pub(in crate::store) seal: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(in crate::store) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
