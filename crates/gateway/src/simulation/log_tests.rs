//! The simulated database against a real one. Both must give the same answers.

use std::sync::Arc;

use starling_conversation_store::{
    Append, ConversationId, ConversationStore, NewConversation, Page, Range, ReadMark, Seq, connect,
};
use starling_model::UserName;

use super::chance::Chance;
use super::line::{Line, Outage, Power};
use super::log::{Connections, Log, LogClient};

fn simulated() -> LogClient {
    let line = Line {
        power: Power::new(),
        outage: Arc::new(Outage::default()),
        typical_ms: 0,
        fails_one_in: 0,
        chance: Chance::new(0, "log").into(),
    };
    LogClient { log: Log::new(None), line, connections: Connections::new(4, false) }
}

/// Returns the parts of a page that do not depend on clocks.
fn view(page: Page) -> (Vec<(Seq, uuid::Uuid, UserName, String)>, bool) {
    let messages = page.messages.into_iter();
    (messages.map(|message| (message.seq, message.id, message.sender, message.content)).collect(), page.more)
}

#[tokio::test]
async fn the_simulated_log_answers_as_sqlite_does() {
    let (ours, theirs) = (simulated(), connect("sqlite://:memory:").await.expect("a database in memory"));
    theirs.migrate().await.expect("an empty database");
    let stores: [&dyn ConversationStore; 2] = [&ours, &*theirs];
    let mut ids = [ConversationId::new(0); 2];
    for (store, id) in stores.iter().zip(&mut ids) {
        let new = NewConversation {
            tenant: "t".into(),
            conversation: "room".into(),
            owner: "ann".into(),
            title: None,
            metadata: None,
            members: vec!["bob".into()],
        };
        let first = store.create(&new).await.expect("created");
        let again = store.create(&new).await.expect("there");
        assert!(first.created && !again.created && again.member && first.id == again.id);
        *id = first.id;
    }
    let chance = &mut Chance::new(7, "asks");
    for _ in 0..200 {
        let count = chance.between(1, 4);
        let batch: Vec<(uuid::Uuid, &str, String)> = (0..count)
            .map(|_| {
                let id = uuid::Uuid::from_u128(u128::from(chance.draw()));
                (id, chance.pick(&["ann", "bob"]), chance.between(0, 150).to_string())
            })
            .collect();
        let range = match chance.index(3) {
            0 => Range::Newest,
            1 => Range::Before(Seq::new(chance.between(0, 250))),
            _ => Range::After(Seq::new(chance.between(0, 250))),
        };
        let (limit, bytes_max) = (chance.between(1, 20) as u32, chance.pick(&[1, 40, 1_000]));
        let (reader, read) = (chance.pick(&["ann", "bob", "cy"]), chance.between(0, 300));
        let (member, add) = (chance.pick(&["bob", "cy", "dan"]), chance.between(0, 1) == 1);
        let mut answers = Vec::new();
        for (store, id) in stores.iter().zip(ids) {
            let messages: Vec<Append> = batch
                .iter()
                .map(|(message, sender, key)| {
                    Append::of_user(*message, id, *sender, key.clone(), format!("{sender} says {key}"))
                })
                .collect();
            let appended = store.append(&messages).await.expect("appended").into_iter();
            let appended: Vec<_> = appended
                .map(|answer| answer.map(|appended| (appended.id, appended.seq, appended.duplicate)))
                .collect();
            let page = store.messages(id, range, limit, bytes_max, true).await.expect("a page");
            let mark = ReadMark { conversation: id, user: reader.into(), seq: Seq::new(read) };
            let marked = store.mark_read(&[mark]).await.expect("marked");
            let heads = store
                .heads(&[id, ConversationId::new(999)])
                .await
                .expect("heads")
                .into_iter()
                .map(|head| (head.head, head.members_version));
            let changed = if add {
                store.add_member(id, &member.into()).await.expect("added")
            } else {
                store.remove_member(id, &member.into()).await.expect("removed")
            };
            let opened = store.open(&"t".into(), &"room".into()).await.expect("opened");
            let opened = opened.map(|opened| (opened.head, opened.members, opened.members_version));
            answers.push((appended, view(page), marked, heads.collect::<Vec<_>>(), changed, opened));
        }
        assert_eq!(answers[0], answers[1]);
    }
    assert!(stores[0].open(&"t".into(), &"nowhere".into()).await.expect("an answer").is_none());
}
