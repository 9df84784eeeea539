use starling_hub::Reply;
use starling_wire::protocol;

use super::super::fixture::{attachment, connect, session, shard};
use super::super::subscriptions::NeededPage;
use super::*;

const CHANNEL: ChannelId = ChannelId(7);

/// The next page of the log that a connection needs.
fn next_page(table: &mut Table, key: u32) -> Option<NeededPage> {
    let Table { conns, channels, .. } = table;
    conns[key as usize]
        .subs
        .next_page(|channel| channels.get(&channel).map_or(0, |channel| channel.delivered))
}

/// Takes a page that ends with `last`, or an empty one.
fn take_page(table: &mut Table, key: u32, needed: &NeededPage, last: impl Into<Option<u64>>) -> bool {
    let sub = table.conns[key as usize].subs.get_mut(needed.sub).expect("it lasts");
    sub.take_page(&needed.room, needed.after, last.into())
}

#[test]
fn a_socket_is_served_from_the_log_although_an_older_one_that_is_closing_holds_the_channel_further_back() {
    let shard = shard();
    let ((older, _), (newer, _)) = (connect(&shard), connect(&shard));
    let mut table = shard.table.borrow_mut();
    table.subscribe(older, CHANNEL, Some(attachment(CHANNEL, 5, 5)));
    assert!(next_page(&mut table, older).is_none(), "it has all there is");
    // Its session went elsewhere, so that 6 to 10 were not handed to this shard, and has come back.
    table.subscribe(newer, CHANNEL, Some(attachment(CHANNEL, 10, 5)));
    let needed = next_page(&mut table, newer).expect("6 to 10 stand in the log alone");
    assert!(take_page(&mut table, newer, &needed, 10));
    assert!(next_page(&mut table, newer).is_none());
    assert!(!table.conns[newer as usize].subs.any_behind());
}

#[test]
fn after_a_log_is_gone_no_later_message_is_shown_without_those_before_it() {
    let shard = shard();
    let ((behind, _), (live, _)) = (connect(&shard), connect(&shard));
    let mut table = shard.table.borrow_mut();
    table.subscribe(behind, CHANNEL, Some(attachment(CHANNEL, 9, 5)));
    table.subscribe(live, CHANNEL, Some(attachment(CHANNEL, 9, 9)));
    assert!(next_page(&mut table, live).is_none(), "it has all there is");
    let needed = next_page(&mut table, behind).expect("6 to 9 stand in the log alone");
    // The conversation was deleted before the log was read.
    assert!(take_page(&mut table, behind, &needed, None));
    assert!(next_page(&mut table, behind).is_none());
    // A publication from before the deletion comes late.
    let event =
        Arc::new(Encoded::new(protocol::Typing { conversation: "c".into(), user: "u".into(), typing: true }));
    table.take(ShardItem::Message { channel: CHANNEL, seq: starling_model::Seq::new(10), event }, &shard.env);
    table.flush_channels(&shard.env);
    assert!(table.conns[behind as usize].outbox.is_empty());
    assert!(!table.conns[live as usize].outbox.is_empty(), "control: who has 9 is shown 10");
}

#[test]
fn a_quiet_channel_is_served_from_the_log_although_another_is_busier_than_the_socket_is_fast() {
    const BUSY: ChannelId = ChannelId(1);
    const QUIET: ChannelId = ChannelId(2);
    let shard = shard();
    let (key, _near) = connect(&shard);
    let mut table = shard.table.borrow_mut();
    table.subscribe(key, BUSY, Some(attachment(BUSY, 1_000, 0)));
    table.subscribe(key, QUIET, Some(attachment(QUIET, 2, 1)));
    let mut served = Vec::new();
    for _ in 0..4 {
        let Some(needed) = next_page(&mut table, key) else { break };
        served.push(needed.room.channel);
        if needed.room.channel == QUIET {
            assert!(take_page(&mut table, key, &needed, 2));
        } else {
            // A page of the log, while more than a page is said.
            assert!(take_page(&mut table, key, &needed, needed.after + 100));
            let busy = table.channels.get_mut(&BUSY).expect("joined");
            busy.delivered += 200;
        }
    }
    assert!(served[..2].contains(&QUIET), "{served:?}");
    assert_eq!(served.iter().filter(|channel| **channel == BUSY).count(), 3, "{served:?}");
}

#[test]
fn events_for_a_socket_alone_are_never_dropped_and_too_many_of_them_close_it() {
    let shard = shard();
    let (key, _near) = connect(&shard);
    let mut table = shard.table.borrow_mut();
    let socket = table.conns[key as usize].id(0, key);
    let removed = Arc::new(Encoded::new(protocol::Membership {
        conversation: "channel".into(),
        user: "u".repeat(1_000).into(),
        member: false,
    }));
    let hard = shard.env.settings.outbox_bytes_hard();
    let mut waited = 0;
    while table.conns[key as usize].is_open() {
        let before = table.conns[key as usize].outbox.bytes();
        assert!(before >= waited, "none was dropped");
        assert!(before <= hard, "{before} bytes wait");
        waited = before;
        table.take(ShardItem::Event { socket, event: removed.clone() }, &shard.env);
    }
    assert!(waited > shard.env.settings.outbox_bytes_soft(), "it was closed at {waited} bytes");
}

#[test]
fn too_many_events_that_come_before_connect_is_answered_close_the_socket() {
    let shard = shard();
    let (key, _near) = connect(&shard);
    let mut table = shard.table.borrow_mut();
    let conn = &mut table.conns[key as usize];
    conn.early.begin();
    let socket = conn.id(0, key);
    let event = Arc::new(Encoded::new(protocol::Deleted { conversation: "c".into(), log: "1".into() }));
    let events = (0..10_000).take_while(|_| {
        table.take(ShardItem::Event { socket, event: event.clone() }, &shard.env);
        table.conns[key as usize].is_open()
    });
    assert!((1_024..10_000).contains(&events.count()));
}

#[test]
fn the_answer_to_connect_comes_before_events_that_are_quicker() {
    let shard = shard();
    let (key, _near) = connect(&shard);
    let mut table = shard.table.borrow_mut();
    let conn = &mut table.conns[key as usize];
    conn.client.connected(session());
    conn.early.begin();
    let socket = conn.id(0, key);
    table.subscribe(key, CHANNEL, Some(attachment(CHANNEL, 0, 0)));
    let typing = |user: &str| {
        Arc::new(Encoded::new(protocol::Typing {
            conversation: "channel".into(),
            user: user.into(),
            typing: true,
        }))
    };
    table.take(ShardItem::Event { socket, event: typing("first") }, &shard.env);
    table.take(ShardItem::Ephemeral { channel: CHANNEL, event: typing("second"), except: None }, &shard.env);
    table.ask_to_move(key);
    let conn = &mut table.conns[key as usize];
    assert!(conn.outbox.is_empty());
    conn.reply(1, &Ok(Reply::Empty));
    conn.tell_early();
    let written = conn.outbox.waiting();
    let written = String::from_utf8_lossy(&written);
    let at = |words: &str| written.find(words).unwrap_or_else(|| panic!("no {words} in {written:?}"));
    assert!(at("\"ok\"") < at("first") && at("first") < at("second") && at("second") < at("draining"));
    assert!(!conn.early.is_holding());
}
