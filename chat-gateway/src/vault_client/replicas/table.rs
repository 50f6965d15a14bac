//! Which addresses there are, how well they are, and whose turn it is. No IO happens here.

use std::{net::SocketAddr, time::Duration};

use service_runtime::{
    client::{Dialer, Wire},
    reload::Loaded,
};
use tokio::time::Instant;

/// How long an address is left out after its first failure. Doubled with each further one.
const OUT_MIN: Duration = Duration::from_millis(250);
const OUT_MAX: Duration = Duration::from_secs(5);

/// How long a single call tries an address that failed before others may try it too: its own
/// limit and a little more.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// Addresses in the order of their turns.
#[derive(Default)]
pub(super) struct Table {
    replicas: Vec<Replica>,
    /// Whose turn it is.
    next: usize,
    /// The one of the dialer that connections were made with.
    generation: u64,
}

struct Replica {
    address: SocketAddr,
    wire: Wire,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    /// So many failures in a row; left out until then.
    Out {
        failures: u32,
        until: Instant,
    },
    /// One call tries it; left out for others until then.
    Probed {
        failures: u32,
        until: Instant,
    },
}

/// An address to ask.
pub(super) struct Picked {
    pub(super) address: SocketAddr,
    pub(super) wire: Wire,
    /// Whether there is another one to ask after it.
    pub(super) others: bool,
}

impl Table {
    /// Without any address yet.
    pub(super) fn starting_at(next: usize) -> Self {
        Self { next, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// The address of a turn, whether well or not.
    pub(super) fn address(&self, turn: usize) -> Option<SocketAddr> {
        let index = turn.checked_rem(self.replicas.len())?;
        self.replicas.get(index).map(|replica| replica.address)
    }

    /// Takes these addresses for those there are. Connections to addresses that stay are kept.
    pub(super) fn set(&mut self, addresses: &[SocketAddr], dialer: &Loaded<Dialer>) {
        self.dial_anew(dialer);
        self.replicas.retain(|replica| addresses.contains(&replica.address));
        for address in addresses {
            if !self.replicas.iter().any(|replica| replica.address == *address) {
                let wire = dialer.value.wire_to(*address);
                self.replicas.push(Replica { address: *address, wire, state: State::Well });
            }
        }
    }

    /// Makes connections anew if the gateway has another certificate or token now.
    pub(super) fn dial_anew(&mut self, dialer: &Loaded<Dialer>) {
        if self.generation != dialer.generation {
            self.generation = dialer.generation;
            for replica in &mut self.replicas {
                replica.wire = dialer.value.wire_to(replica.address);
            }
        }
    }

    /// The next address that is well and not among `tried`, or else the one that is well first.
    pub(super) fn pick(&mut self, tried: &[SocketAddr], now: Instant) -> Option<Picked> {
        let count = self.replicas.len();
        let turns = (0..count).map(|turn| (self.next + turn) % count);
        let left: Vec<_> = turns
            .filter_map(|index| self.replicas.get(index).map(|replica| (index, replica)))
            .filter(|(_, replica)| !tried.contains(&replica.address))
            .map(|(index, replica)| (index, replica.state.out_until(now)))
            .collect();
        // Of several that are well the first is taken: `min_by_key` does that.
        let (index, _) = *left.iter().min_by_key(|(_, until)| *until)?;
        self.next = (index + 1) % count;
        let replica = self.replicas.get_mut(index)?;
        if let State::Out { failures, .. } | State::Probed { failures, .. } = replica.state {
            replica.state = State::Probed { failures, until: now + PROBE_MAX };
        }
        Some(Picked { address: replica.address, wire: replica.wire.clone(), others: left.len() > 1 })
    }

    /// Notes that an address answered.
    pub(super) fn went_well(&mut self, address: SocketAddr) {
        if let Some(replica) = self.replica(address) {
            replica.state = State::Well;
        }
    }

    /// Notes that an address did not answer. Calls that fail together count as one failure.
    pub(super) fn failed(&mut self, address: SocketAddr, now: Instant) {
        let Some(replica) = self.replica(address) else { return };
        let failures = match replica.state {
            State::Well => 1,
            State::Probed { failures, .. } => failures.saturating_add(1),
            State::Out { .. } => return,
        };
        let doubled = OUT_MIN.saturating_mul(1 << (failures - 1).min(16));
        replica.state = State::Out { failures, until: now + doubled.min(OUT_MAX) };
    }

    fn replica(&mut self, address: SocketAddr) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| replica.address == address)
    }
}

impl State {
    /// `None` if it may be asked.
    fn out_until(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Well => None,
            Self::Out { until, .. } | Self::Probed { until, .. } => (now < until).then_some(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use service_runtime::client::Credentials;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn table(ports: &[u16]) -> Table {
        let mut table = Table::default();
        set(&mut table, ports);
        table
    }

    fn set(table: &mut Table, ports: &[u16]) {
        let dialer = Credentials::default().dialer("a test", "http://vault:1", |endpoint| endpoint).unwrap();
        let addresses: Vec<_> = ports.iter().copied().map(address).collect();
        table.set(&addresses, &dialer.load());
    }

    fn picks(table: &mut Table, count: usize, now: Instant) -> Vec<u16> {
        (0..count).filter_map(|_| table.pick(&[], now)).map(|picked| picked.address.port()).collect()
    }

    #[tokio::test]
    async fn each_has_its_turn() {
        let (mut table, now) = (table(&[1, 2, 3]), Instant::now());
        assert_eq!(picks(&mut table, 6, now), [1, 2, 3, 1, 2, 3]);
        set(&mut table, &[2, 3, 4]);
        assert_eq!(picks(&mut table, 6, now), [2, 3, 4, 2, 3, 4]);
        set(&mut table, &[9]);
        assert_eq!(picks(&mut table, 2, now), [9, 9]);
        assert!(Table::default().pick(&[], now).is_none());
    }

    #[tokio::test]
    async fn each_is_tried_once() {
        let (mut table, now) = (table(&[1, 2]), Instant::now());
        let first = table.pick(&[], now).expect("the first");
        let second = table.pick(&[first.address], now).expect("the second");
        assert!(first.others && !second.others && first.address != second.address);
        assert!(table.pick(&[first.address, second.address], now).is_none());
    }

    #[tokio::test]
    async fn one_that_fails_is_left_out_longer_each_time_and_then_tried_by_one_call() {
        let (mut table, mut now) = (table(&[1, 2, 3]), Instant::now());
        for out in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000].map(Duration::from_millis) {
            table.failed(address(2), now);
            table.failed(address(2), now);
            assert!(!picks(&mut table, 6, now + out - MILLISECOND).contains(&2), "{out:?}");
            now += out;
            let probes = picks(&mut table, 6, now).iter().filter(|port| **port == 2).count();
            assert_eq!(probes, 1, "{out:?}");
        }
        table.went_well(address(2));
        let mut shares = picks(&mut table, 6, now);
        shares.sort_unstable();
        assert_eq!(shares, [1, 1, 2, 2, 3, 3]);
    }

    #[tokio::test]
    async fn if_none_is_well_the_one_that_is_first_is_tried() {
        let (mut table, now) = (table(&[1, 2]), Instant::now());
        table.failed(address(2), now);
        table.failed(address(1), now + MILLISECOND);
        assert_eq!(picks(&mut table, 1, now + 2 * MILLISECOND), [2]);
        let mut alone = self::table(&[1]);
        alone.failed(address(1), now);
        assert_eq!(picks(&mut alone, 3, now), [1, 1, 1]);
    }
}
