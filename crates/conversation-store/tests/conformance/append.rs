//! Numbering, idempotency, and what may stand in a message.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use starling_conversation_store::{Append, AppendError, Appended, ConversationId, Range, Role, Seq};
use tokio::task::JoinSet;

use crate::place::{Answers, Place, append, conversation, message, unknown};

pub async fn messages_are_numbered_in_the_order_of_the_batch(place: Place) -> Result<()> {
    let store = place.store().await?;
    let (one, other) = (conversation(&store, "one").await?, conversation(&store, "other").await?);
    let batch = [message(other, "a"), message(one, "b"), message(other, "c"), message(one, "d")];
    let answers: Vec<Appended> = store.append(&batch).await?.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(answers.iter().map(|answer| answer.seq).collect::<Vec<_>>(), [1, 1, 2, 2]);
    for (answer, given) in answers.iter().zip(&batch) {
        assert_eq!((answer.id, answer.duplicate), (given.id, false));
    }
    assert_eq!(append(&store, one, &["e"]).await?[0].seq, 3);

    let page = store.messages(one, Range::After(Seq::ZERO), 10, usize::MAX, true).await?;
    let stored: Vec<_> = page.messages.iter().map(|m| (m.seq.get(), m.content.as_str())).collect();
    assert_eq!(stored, [(1, "content of b"), (2, "content of d"), (3, "content of e")]);
    assert_eq!((page.messages[0].id, page.messages[0].at_ms), (answers[1].id, answers[1].at_ms));
    assert_eq!(store.open(&"t".into(), &"one".into()).await?.map(|c| c.head), Some(Seq::new(3)));
    Ok(())
}

pub async fn an_empty_batch_gets_no_answers(place: Place) -> Result<()> {
    assert!(place.store().await?.append(&[]).await?.is_empty());
    Ok(())
}

/// Eight writers over two stores, each batch over all conversations, in opposite orders: nobody may deadlock.
pub async fn two_stores_at_once_leave_no_hole(place: Place) -> Result<()> {
    const WRITERS: usize = 8;
    const BATCHES: usize = 15;
    let stores = [place.store().await?, place.store().await?];
    let mut ids = Vec::new();
    for number in 0..6 {
        ids.push(conversation(&stores[0], &format!("c{number}")).await?);
    }
    let ids = Arc::new(ids);
    let mut writers: JoinSet<Result<Vec<(ConversationId, Appended)>>> = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, ids) = (stores[writer % 2].clone(), Arc::clone(&ids));
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            for batch in 0..BATCHES {
                let mut messages: Vec<Append> =
                    ids.iter().map(|id| message(*id, &format!("{writer}-{batch}"))).collect();
                if writer % 3 == 0 {
                    messages.reverse();
                }
                for (answer, message) in store.append(&messages).await?.into_iter().zip(messages) {
                    acknowledged.push((message.conversation, answer?));
                }
            }
            Ok(acknowledged)
        });
    }
    let mut acknowledged: HashMap<(ConversationId, Seq), uuid::Uuid> = HashMap::new();
    while let Some(writer) = writers.join_next().await {
        for (conversation, appended) in writer?? {
            ensure!(
                acknowledged.insert((conversation, appended.seq), appended.id).is_none(),
                "a number twice"
            );
        }
    }
    assert_eq!(acknowledged.len(), WRITERS * BATCHES * ids.len());
    for id in &*ids {
        let page = stores[1].messages(*id, Range::After(Seq::ZERO), 1_000, usize::MAX, true).await?;
        let seqs: Vec<_> = page.messages.iter().map(|m| m.seq.get()).collect();
        assert_eq!(seqs, (1..=(WRITERS * BATCHES) as u64).collect::<Vec<_>>());
        assert!(page.messages.iter().all(|m| acknowledged[&(*id, m.seq)] == m.id));
    }
    Ok(())
}

pub async fn a_key_repeated_in_a_batch_finds_the_first(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    let batch = [message(id, "a"), message(id, "b"), message(id, "a"), message(id, "c"), message(id, "a")];
    let answers: Vec<Appended> = store.append(&batch).await?.into_iter().collect::<Result<_, _>>()?;
    let shown: Vec<_> = answers.iter().map(|a| (a.seq.get(), a.duplicate, a.id)).collect();
    let [a, b, c] = [batch[0].id, batch[1].id, batch[3].id];
    assert_eq!(shown, [(1, false, a), (2, false, b), (1, true, a), (3, false, c), (1, true, a)]);

    // A later batch finds those of the log among new ones, and with the first one's time.
    let batch = [message(id, "d"), message(id, "b"), message(id, "b"), message(id, "e")];
    let again: Vec<Appended> = store.append(&batch).await?.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(
        again.iter().map(|a| (a.seq.get(), a.duplicate)).collect::<Vec<_>>(),
        [(4, false), (2, true), (2, true), (5, false)]
    );
    assert_eq!(again[1], Appended { duplicate: true, ..answers[1] });
    assert_eq!(store.heads(&[id]).await?.first().map(|head| head.head), Some(Seq::new(5)));
    Ok(())
}

pub async fn a_key_sent_through_two_stores_at_once_is_stored_once(place: Place) -> Result<()> {
    let stores = [place.store().await?, place.store().await?];
    let id = conversation(&stores[0], "c").await?;
    for round in 0..20_u64 {
        let [first, second, third] = ["x", "y", "z"].map(|name| format!("{round}-{name}"));
        let one = [message(id, &first), message(id, &second)];
        let other = [message(id, &second), message(id, &third), message(id, &first)];
        let (one, other) = tokio::join!(stores[0].append(&one), stores[1].append(&other));
        let all: Vec<Appended> = one?.into_iter().chain(other?).collect::<Result<_, _>>()?;
        assert_eq!(all.iter().filter(|a| !a.duplicate).count(), 3, "{all:?}");
        for (here, there) in [(0, 4), (1, 2)] {
            assert_eq!(
                (all[here].seq, all[here].id, all[here].at_ms),
                (all[there].seq, all[there].id, all[there].at_ms)
            );
        }
        assert_eq!(
            stores[0].heads(&[id]).await?.first().map(|head| head.head),
            Some(Seq::new(3 * (round + 1)))
        );
    }
    Ok(())
}

pub async fn a_key_is_remembered_after_a_restart(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    let before = append(&store, id, &["a", "b"]).await?;
    drop(store);
    place.close().await;
    let after = append(&place.store().await?, id, &["b", "c"]).await?;
    assert_eq!(after[0], Appended { duplicate: true, ..before[1] });
    assert_eq!((after[1].seq.get(), after[1].duplicate), (3, false));
    Ok(())
}

pub async fn a_key_belongs_to_its_sender_and_conversation(place: Place) -> Result<()> {
    let store = place.store().await?;
    let (one, other) = (conversation(&store, "one").await?, conversation(&store, "other").await?);
    let mine = message(one, "k");
    let theirs = Append { sender: "Owner".into(), ..message(one, "k") };
    let elsewhere = message(other, "k");
    let upper_case = message(one, "K");
    let answers: Answers = store.append(&[mine, theirs, elsewhere, upper_case]).await?;
    let shown: Vec<_> = answers.into_iter().flatten().map(|a| (a.seq.get(), a.duplicate)).collect();
    assert_eq!(shown, [(1, false), (2, false), (1, false), (3, false)]);
    Ok(())
}

pub async fn a_missing_conversation_fails_alone(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    let missing = unknown(id);
    let batch = [
        message(missing, "a"),
        message(id, "a"),
        message(missing, "a"),
        message(id, "b"),
        message(ConversationId::new(-1), "a"),
    ];
    let answers = store.append(&batch).await?;
    let no = Err(AppendError::NoSuchConversation);
    assert_eq!(
        answers.iter().map(|a| a.map(|a| (a.seq.get(), a.duplicate))).collect::<Vec<_>>(),
        [no, Ok((1, false)), no, Ok((2, false)), no]
    );
    assert_eq!(store.append(&[message(missing, "a")]).await?, [Err(AppendError::NoSuchConversation)]);
    Ok(())
}

pub async fn any_text_survives(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    let texts = [
        String::new(),
        "naïve Καλημέρα 你好 👩‍👩‍👧‍👦 \u{202e}rtl\u{fffd}\u{10ffff}".to_owned(),
        "'; DROP TABLE messages; -- \\ \" {a,NULL} \n\r\t\u{1}".to_owned(),
        "NULL".to_owned(),
        "é".repeat(32 * 1024),
        "x".repeat(64 * 1024),
    ];
    let metadatas = [
        None,
        Some("{}"),
        Some(r#"{"b":1,"a":{"deep":[1.50,null,"\u0000 and \ud83d"]},"b":2}"#),
        Some("{\"👋\":\"\\n\"}"),
    ];
    let roles = [Role::User, Role::Assistant, Role::System, Role::Tool];
    let batch: Vec<Append> = texts
        .iter()
        .enumerate()
        .map(|(number, text)| Append {
            sender: "ünï".into(),
            role: roles[number % roles.len()],
            content: text.as_str().into(),
            metadata: metadatas[number % metadatas.len()].map(Into::into),
            ..message(id, &format!("{number} 'ключ' \\"))
        })
        .collect();
    store.append(&batch).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let page = store.messages(id, Range::Newest, 50, usize::MAX, true).await?;
    assert_eq!(page.messages.len(), batch.len());
    for (stored, given) in page.messages.iter().zip(&batch) {
        assert_eq!(stored.content, *given.content);
        assert_eq!(stored.metadata.as_deref(), given.metadata.as_deref());
        assert_eq!((stored.sender.as_str(), stored.role, stored.id), (&*given.sender, given.role, given.id));
    }
    assert!(store.append(&batch).await?.into_iter().flatten().all(|answer| answer.duplicate));
    Ok(())
}

pub async fn times_never_fall(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    let created = store.open(&"t".into(), &"c".into()).await?.map(|c| c.created_at_ms).unwrap_or_default();
    ensure!(created > 1_700_000_000_000, "not Unix milliseconds: {created}");
    let mut last = created;
    for number in 0..20 {
        for appended in append(&store, id, &[&format!("{number}a"), &format!("{number}b")]).await? {
            ensure!(appended.at_ms >= last, "{} after {last}", appended.at_ms);
            last = appended.at_ms;
        }
    }
    // Even when the clock was set back meanwhile.
    drop(store);
    place.close().await;
    let (ahead, ahead_ms) = (4_000_000_000_i64, 4_000_000_000_000_i64);
    let set_back = format!("UPDATE conversations SET active_at = to_timestamp({ahead})");
    if place.run_sql(&set_back).await.is_err() {
        place.run_sql(&format!("UPDATE conversations SET active_at_ms = {ahead_ms}")).await?;
    }
    let store = place.store().await?;
    assert_eq!(append(&store, id, &["late"]).await?[0].at_ms, ahead_ms);
    Ok(())
}

pub async fn an_announced_message_is_noted_once_until_it_is_forgotten(place: Place) -> Result<()> {
    let store = place.store().await?;
    let (one, other) = (conversation(&store, "one").await?, conversation(&store, "other").await?);
    ensure!(store.announced(10).await?.is_empty());
    let announced = |conversation, key| Append { announced: true, ..message(conversation, key) };
    let first = announced(one, "a");
    store.append(&[first.clone(), message(one, "b"), announced(other, "c")]).await?;
    // A retry is no second message, whether it is alone or beside a new one.
    let again = || Append { id: uuid::Uuid::now_v7(), ..first.clone() };
    store.append(&[again()]).await?;
    store.append(&[again(), announced(one, "d")]).await?;

    let noted = store.announced(10).await?;
    let found: Vec<_> = noted
        .iter()
        .map(|noted| {
            let message = noted.message.as_ref().map(|message| (message.seq.get(), &*message.content));
            (&*noted.tenant, &*noted.conversation, message)
        })
        .collect();
    let expected = [
        ("t", "one", Some((1, "content of a"))),
        ("t", "other", Some((1, "content of c"))),
        ("t", "one", Some((3, "content of d"))),
    ];
    ensure!(found == expected, "{found:?}");
    ensure!(noted[0].message.as_ref().map(|message| message.id) == Some(first.id));
    ensure!(store.announced(1).await?.len() == 1, "the first ones");

    store.forget_announced(&[noted[0].position, noted[2].position]).await?;
    store.delete(other).await?;
    while store.erase().await? {}
    let rest = store.announced(10).await?;
    ensure!(rest.len() == 1 && &*rest[0].conversation == "other" && rest[0].message.is_none(), "{rest:?}");
    Ok(())
}
