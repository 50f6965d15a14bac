//! Somebody who can write to the database changes the log: it is found, and the first bad event
//! is named.
//!
//! Ten thousand records are made once for each database. Each change of them is made, looked for,
//! and taken back from a copy.

use std::{fmt::Write as _, sync::Arc};

use proto::{
    keyvault::{AuditProblem, audit_problem::Kind},
    types::Provider,
};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement};
use system_tests::{Links, Setup, Storage, System, on_both_databases, replicas::Door};
use tokio::task::JoinSet;

use super::{resolve, verify};

on_both_databases! {
    every_edit_removal_and_reordering_of_ten_thousand_records_is_found,
}

const RECORDS: i64 = 10_000;
const CALLERS: i64 = 50;
const TRACE: &str = "3af7651916cd43dd8448eb211c80319c";

/// The events that are looked at more closely: both ends, the middle, and one on each side of
/// a page of the verification.
const SAMPLE: [i64; 6] = [1, 2, 1_000, 1_001, 5_000, RECORDS];

/// A log, and a way past the vault to its rows.
struct Log {
    door: Door,
    database: DatabaseConnection,
    storage: Storage,
    /// The chain of the resolutions, and that of the mutations.
    chain: String,
    mutations: String,
    _system: System,
}

async fn every_edit_removal_and_reordering_of_ten_thousand_records_is_found(storage: Storage) {
    let log = Log::make(storage).await;
    let verified = verify(&log.door).await;
    assert!(verified.valid && verified.problems.is_empty(), "{verified:?}");
    assert_eq!((verified.event_count, verified.chain_count), (RECORDS + 1, 2));

    log.edits().await;
    log.removals().await;
    log.reorderings().await;
    log.changes_of_chains().await;

    let verified = verify(&log.door).await;
    assert!(verified.valid, "everything was taken back: {verified:?}");
}

impl Log {
    async fn make(storage: Storage) -> Self {
        let setup = Setup { folder_in_memory: true, database: storage, ..Setup::default() };
        let mut system = System::with(setup).await;
        let links = Links { default: true, ..Links::default() };
        system.add_key(Provider::Openai, "sk-tampered-0123456789abcdef", links).await;
        let door = Arc::new(Door::to(&system.vault.url()));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let door = Arc::clone(&door);
            callers.spawn(async move {
                for n in 0..RECORDS / CALLERS {
                    resolve(&door, &format!("profile-{caller}-{n}"), TRACE).await.expect("a key");
                }
            });
        }
        callers.join_all().await;
        let database = Database::connect(system.database_url()).await.expect("the database opens");
        let chain = |filter: &str| {
            let text = match storage {
                Storage::Sqlite => "lower(hex(chain_id))",
                Storage::Postgres => "CAST(chain_id AS TEXT)",
            };
            let query = format!("SELECT {text} FROM audit_chain WHERE {filter}");
            Statement::from_string(database.get_database_backend(), query)
        };
        let mut chains = Vec::new();
        for filter in ["ordinal = 1", "ordinal = 0"] {
            let row = database.query_one_raw(chain(filter)).await.expect("a query").expect("a chain");
            let text: String = row.try_get_by_index(0).expect("an id");
            chains.push(uuid::Uuid::try_parse(&text).expect("an id").to_string());
        }
        for table in ["audit_event", "audit_chain"] {
            let copy = format!("CREATE TABLE {table}_copy AS SELECT * FROM {table}");
            database.execute_unprepared(&copy).await.expect("a copy");
        }
        let index = "CREATE INDEX audit_event_copied ON audit_event_copy (chain_id, sequence)";
        database.execute_unprepared(index).await.expect("an index");
        let mutations = chains.pop().expect("two");
        let chain = chains.pop().expect("two");
        Self { door: door.as_ref().clone(), database, storage, chain, mutations, _system: system }
    }

    /// Each column of some events, set to something else.
    async fn edits(&self) {
        let (other, time) = match self.storage {
            Storage::Sqlite => ("randomblob(16)", "replace(event_time, '2', '3')"),
            Storage::Postgres => ("gen_random_uuid()", "event_time + interval '1 microsecond'"),
        };
        let mac = match self.storage {
            Storage::Sqlite => "zeroblob(32)",
            Storage::Postgres => "decode(repeat('00', 32), 'hex')",
        };
        let mut edits = vec![("event_time", time.to_owned()), ("mac", mac.to_owned())];
        for column in ["event_id", "api_key_id", "epoch", "request_id"] {
            edits.push((column, other.to_owned()));
        }
        edits.extend(["api_key_id", "epoch"].map(|column| (column, "NULL".to_owned())));
        for column in ["key_version", "revision", "latency_us", "count"] {
            edits.push((column, format!("{column} + 1")));
        }
        for column in [
            "principal",
            "authentication",
            "peer_address",
            "action",
            "organization_id",
            "profile_id",
            "provider",
            "source",
            "decision",
            "reason",
            "trace_id",
            "profile_ids",
        ] {
            edits.push((column, format!("{column} || 'x'")));
        }
        if self.storage == Storage::Sqlite {
            // A type that the column cannot have: SQLite takes it all the same.
            edits.extend(["key_version", "event_time", "mac"].map(|column| (column, "'nonsense'".to_owned())));
        }
        for (n, (column, value)) in edits.iter().enumerate() {
            let sequence = SAMPLE[n % SAMPLE.len()];
            let edit = format!("UPDATE audit_event SET {column} = {value} WHERE {}", self.event(sequence));
            self.finds(&edit, Kind::Altered, sequence).await;
        }
        // All of one event's columns, and one column of all events.
        for sequence in SAMPLE {
            let edit = format!("UPDATE audit_event SET principal = 'x' WHERE {}", self.event(sequence));
            self.finds(&edit, Kind::Altered, sequence).await;
        }
        let all = format!("UPDATE audit_event SET principal = 'x' WHERE {}", self.events("sequence > 0"));
        self.finds(&all, Kind::Altered, 1).await;
    }

    async fn removals(&self) {
        for sequence in SAMPLE {
            let kind = if sequence == RECORDS { Kind::Cut } else { Kind::Missing };
            self.finds(&format!("DELETE FROM audit_event WHERE {}", self.event(sequence)), kind, sequence).await;
        }
        for (filter, kind, first) in [
            ("sequence <= 3000", Kind::Missing, 1),
            ("sequence BETWEEN 4000 AND 6000", Kind::Missing, 4_000),
            ("sequence > 9990", Kind::Cut, 9_991),
            ("sequence > 0", Kind::Cut, 1),
        ] {
            self.finds(&format!("DELETE FROM audit_event WHERE {}", self.events(filter)), kind, first).await;
        }
        // A cut, with the end said to be where the cut is.
        let cut = format!(
            "DELETE FROM audit_event WHERE {}; UPDATE audit_chain SET sequence = 9990, mac = \
             (SELECT mac FROM audit_event WHERE {}) WHERE chain_id = {}",
            self.events("sequence > 9990"),
            self.event(9_990),
            self.id(&self.chain)
        );
        self.finds(&cut, Kind::Cut, 9_991).await;
        // The beginning, as if it had been kept for long enough.
        let purged = format!(
            "UPDATE audit_chain SET floor_sequence = 100, floor_mac = (SELECT mac FROM audit_event WHERE {}) \
             WHERE chain_id = {}; DELETE FROM audit_event WHERE {}",
            self.event(100),
            self.id(&self.chain),
            self.events("sequence <= 100")
        );
        self.finds(&purged, Kind::Cut, RECORDS + 1).await;
    }

    async fn reorderings(&self) {
        for (one, other) in [(1, 2), (1_000, 1_001), (17, 9_999)] {
            let mut swap = String::new();
            for (from, to) in [(one, -1), (other, one), (-1, other)] {
                write!(swap, "UPDATE audit_event SET sequence = {to} WHERE {};", self.event(from)).expect("a text");
            }
            self.finds(&swap, Kind::Altered, one).await;
        }
        let moved = format!("UPDATE audit_event SET sequence = 20000 WHERE {}", self.event(7_000));
        self.finds(&moved, Kind::Missing, 7_000).await;
        let again = format!(
            "UPDATE audit_event_copy SET sequence = 10001, event_id = {other} WHERE {event}; \
             INSERT INTO audit_event SELECT * FROM audit_event_copy WHERE sequence = 10001; \
             UPDATE audit_event_copy SET sequence = 5, event_id = (SELECT event_id FROM audit_event WHERE {event}) \
             WHERE sequence = 10001",
            other = self.storage.uuid("018f0000-0000-7000-8000-000000000001"),
            event = self.event(5),
        );
        self.finds(&again, Kind::Altered, RECORDS + 1).await;
    }

    async fn changes_of_chains(&self) {
        let (chain, mutations) = (self.id(&self.chain), self.id(&self.mutations));
        let whole =
            format!("DELETE FROM audit_event WHERE chain_id = {chain}; DELETE FROM audit_chain WHERE ordinal = 1");
        let problems = self.change(&whole).await;
        assert_eq!(kinds(&problems), [(Kind::Chain, 0)], "a whole chain is gone: {problems:?}");

        let unsaid = format!("DELETE FROM audit_chain WHERE chain_id = {chain}");
        let problems = self.change(&unsaid).await;
        assert_eq!(kinds(&problems), [(Kind::Chain, 1), (Kind::Chain, 0)], "nothing is said of a chain");

        let renamed = self.storage.uuid("018f0000-0000-7000-8000-000000000002");
        let added = format!(
            "INSERT INTO audit_chain SELECT {renamed}, 2, 0, mac, 0, mac, 0, seal FROM audit_chain_copy WHERE ordinal = 1"
        );
        let problems = self.change(&added).await;
        assert!(kinds(&problems).contains(&(Kind::Chain, 0)), "a chain was added: {problems:?}");

        let hidden = format!("{whole}; UPDATE audit_chain SET chain_count = 0 WHERE chain_id = {mutations}");
        let problems = self.change(&hidden).await;
        assert_eq!(kinds(&problems), [(Kind::Cut, 2)], "and the count of chains is changed to fit: {problems:?}");

        let everything = "DELETE FROM audit_event; DELETE FROM audit_chain";
        let problems = self.change(everything).await;
        assert_eq!(kinds(&problems), [(Kind::Chain, 0)], "the whole log is gone: {problems:?}");

        for column in ["sequence", "floor_sequence", "chain_count", "ordinal"] {
            let edit = format!("UPDATE audit_chain SET {column} = {column} + 10 WHERE chain_id = {chain}");
            assert!(!self.change(&edit).await.is_empty(), "{column}");
        }
    }

    /// Makes a change, and sees that the verification names exactly the event that is wrong first.
    async fn finds(&self, sql: &str, kind: Kind, sequence: i64) {
        let problems = self.change(sql).await;
        assert_eq!(kinds(&problems), [(kind, sequence)], "{sql}: {problems:?}");
        assert_eq!(problems[0].chain_id, self.chain, "{sql}");
    }

    /// Makes a change, returns what the verification says of it, and takes it back.
    async fn change(&self, sql: &str) -> Vec<AuditProblem> {
        self.database.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let verified = verify(&self.door).await;
        assert_eq!(verified.valid, verified.problems.is_empty());
        for table in ["audit_event", "audit_chain"] {
            let back = format!(
                "DELETE FROM {table} WHERE NOT EXISTS (SELECT 1 FROM {table}_copy c WHERE {same}); \
                 INSERT INTO {table} SELECT c.* FROM {table}_copy c WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {same})",
                same = self.same(table)
            );
            self.database.execute_unprepared(&back).await.unwrap_or_else(|error| panic!("{back}: {error}"));
        }
        verified.problems
    }

    /// Whether a row is as the copy `c` of it.
    fn same(&self, table: &str) -> String {
        let columns: &[&str] = match table {
            "audit_chain" => {
                &["chain_id", "ordinal", "sequence", "mac", "floor_sequence", "floor_mac", "chain_count", "seal"]
            }
            _ => &[
                "chain_id",
                "sequence",
                "event_id",
                "event_time",
                "principal",
                "authentication",
                "peer_address",
                "action",
                "organization_id",
                "profile_id",
                "provider",
                "api_key_id",
                "key_version",
                "source",
                "decision",
                "reason",
                "epoch",
                "revision",
                "request_id",
                "trace_id",
                "latency_us",
                "count",
                "profile_ids",
                "mac",
            ],
        };
        let same = match self.storage {
            Storage::Sqlite => "IS",
            Storage::Postgres => "IS NOT DISTINCT FROM",
        };
        // The first two find the row; the others are compared.
        let compared = columns.iter().map(|column| format!("{table}.{column} {same} c.{column}"));
        let found = match table {
            "audit_chain" => "audit_chain.chain_id = c.chain_id".to_owned(),
            _ => "audit_event.chain_id = c.chain_id AND audit_event.sequence = c.sequence".to_owned(),
        };
        std::iter::once(found).chain(compared).collect::<Vec<_>>().join(" AND ")
    }

    fn id(&self, chain: &str) -> String {
        self.storage.uuid(chain)
    }

    /// An event of the resolutions' chain, in SQL.
    fn event(&self, sequence: i64) -> String {
        self.events(&format!("sequence = {sequence}"))
    }

    fn events(&self, filter: &str) -> String {
        format!("chain_id = {} AND {filter}", self.id(&self.chain))
    }
}

fn kinds(problems: &[AuditProblem]) -> Vec<(Kind, i64)> {
    problems.iter().map(|problem| (problem.kind(), problem.sequence)).collect()
}
