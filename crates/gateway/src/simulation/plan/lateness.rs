//! Publications about a conversation that arrive when another one has its name.

use std::time::Duration;

use super::super::chance::Chance;
use super::fault::Fault;
use super::script::{Deed, Script};

/// Freezes one node while conversations are created again, after its users typed and read. What it publishes about them arrives when another
/// conversation has the name.
pub(super) fn come_late(
    faults: &mut Vec<(Duration, Fault)>,
    clients: &mut [Script],
    nodes: usize,
    chance: &mut Chance,
) {
    let remakes: Vec<(Duration, usize)> = faults
        .iter()
        .filter_map(|(at, fault)| match fault {
            Fault::Remake { conversation } => Some((*at, *conversation)),
            _ => None,
        })
        .collect();
    for (at, conversation) in remakes {
        if chance.one_in(3) {
            continue;
        }
        let stops = at.saturating_sub(chance.millis(0, 150));
        let slot = chance.index(nodes);
        faults.push((stops, Fault::Freeze { slot, time: chance.millis(700, 4_000) }));
        let client = chance.index(clients.len());
        faults
            .push((stops.saturating_sub(chance.millis(0, 20)), Fault::Expel { slot, client, conversation }));
        for script in clients.iter_mut() {
            let before =
                |least: u64, most: u64, chance: &mut Chance| stops.saturating_sub(chance.millis(least, most));
            script.deeds.push((before(0, 80, chance), Deed::Send { conversation }));
            script.deeds.push((at.saturating_sub(chance.millis(0, 150)), Deed::Type { conversation }));
            // A read mark may come late. The new conversation must have as many messages.
            script.deeds.push((at + chance.millis(300, 1_500), Deed::Send { conversation }));
            script.deeds.sort_by_key(|(at, _)| *at);
        }
    }
    faults.sort_by_key(|(at, _)| *at);
}
