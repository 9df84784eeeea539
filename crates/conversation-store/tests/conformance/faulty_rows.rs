//! Rows that the database refuses, among others that it takes. Here it refuses them because somebody at a console has made triggers;
//! in real life also because of encodings, policies and broken pages.

use anyhow::{Result, ensure};
use starling_conversation_store::{Append, AppendError, Error, LastSeen, Range, ReadMark, Seq};
use starling_model::UserName;

use crate::place::{Place, Store, append, conversation, message};

/// As many as one transaction takes.
const BATCH: usize = 512;

/// Makes the database refuse rows of this table of which this holds.
async fn forbid(place: &Place, moment: &str, table: &str, condition: &str) -> Result<()> {
    let sqlite = format!(
        "CREATE TRIGGER forbid_{table} BEFORE {moment} ON {table} WHEN {condition} BEGIN SELECT raise(ABORT, 'forbidden'); END"
    );
    let postgres = format!(
        "CREATE FUNCTION forbid_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'forbidden'; END $$;
         CREATE TRIGGER forbid_{table} BEFORE {moment} ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION forbid_{table}()"
    );
    place.run_sql_of(&postgres, &sqlite).await
}

fn refused(key: &str) -> bool {
    key.ends_with('!')
}

/// A batch to two conversations whose messages at these positions are to be refused.
async fn batch(store: &Store, guilty: &[usize]) -> Result<Vec<Append>> {
    let ids = [conversation(store, "one").await?, conversation(store, "other").await?];
    let key = |position| format!("{position}{}", if guilty.contains(&position) { "!" } else { "" });
    Ok((0..BATCH).map(|position| message(ids[position % 2], &key(position))).collect())
}

pub async fn a_refused_message_fails_alone(place: Place) -> Result<()> {
    let store = place.store().await?;
    forbid(&place, "INSERT", "messages", "NEW.content LIKE '%!'").await?;
    let batch = batch(&store, &[0, 7, 8, 300, 511]).await?;
    let answers = store.append(&batch).await?;
    assert_eq!(answers.len(), BATCH);
    for (answer, message) in answers.iter().zip(&batch) {
        match answer {
            Ok(appended) => ensure!(!refused(&message.key) && !appended.duplicate, "{}", message.key),
            Err(error) => {
                ensure!(refused(&message.key) && *error == AppendError::Refused, "{}: {error}", message.key);
            }
        }
    }
    // No hole, in the order of the batch, and the same again for who repeats everything.
    for id in [batch[0].conversation, batch[1].conversation] {
        let page = store.messages(id, Range::After(Seq::ZERO), 1_000, usize::MAX, true).await?;
        let stored: Vec<_> = page.messages.iter().map(|message| (message.seq.get(), message.id)).collect();
        let wanted = batch.iter().filter(|message| message.conversation == id && !refused(&message.key));
        assert_eq!(stored, (1..).zip(wanted.map(|message| message.id)).collect::<Vec<_>>());
    }
    let again = store.append(&batch).await?;
    for (first, again) in answers.iter().zip(&again) {
        assert_eq!(first.map(|first| (first.seq, true)), again.map(|again| (again.seq, again.duplicate)));
    }
    assert_eq!(store.append(&batch[..1]).await?, [Err(AppendError::Refused)]);
    Ok(())
}

pub async fn a_refused_conversation_fails_alone(place: Place) -> Result<()> {
    let store = place.store().await?;
    let batch = batch(&store, &[]).await?;
    forbid(&place, "UPDATE", "conversations", "NEW.name = 'other'").await?;
    let answers = store.append(&batch).await?;
    for (answer, message) in answers.iter().zip(&batch) {
        assert_eq!(
            answer.is_ok(),
            message.conversation == batch[0].conversation,
            "{}: {answer:?}",
            message.key
        );
    }
    let heads = store.heads(&[batch[0].conversation, batch[1].conversation]).await?;
    let head = |id| heads.iter().find(|head| head.id == id).map(|head| head.head);
    assert_eq!(
        (head(batch[0].conversation), head(batch[1].conversation)),
        (Some(Seq::new(BATCH as u64 / 2)), Some(Seq::ZERO))
    );
    let left = store.messages(batch[1].conversation, Range::After(Seq::ZERO), 10, usize::MAX, true).await?;
    ensure!(left.messages.is_empty(), "messages beyond the head");
    Ok(())
}

pub async fn a_refused_mark_or_sighting_fails_alone(place: Place) -> Result<()> {
    let store = place.store().await?;
    let ids = [conversation(&store, "one").await?, conversation(&store, "other").await?];
    for id in ids {
        append(&store, id, &["a", "b"]).await?;
        store.add_member(id, &"bad".into()).await?;
    }
    forbid(&place, "UPDATE", "members", "NEW.user_name = 'bad'").await?;
    let mark = |conversation, user: &str| ReadMark { conversation, user: user.into(), seq: Seq::new(2) };
    let marks = [mark(ids[0], "bad"), mark(ids[0], "owner"), mark(ids[1], "owner"), mark(ids[1], "bad")];
    assert_eq!(store.mark_read(&marks).await?, [None, Some(Seq::new(2)), Some(Seq::new(2)), None]);
    ensure!(matches!(store.mark_read(&marks[..1]).await, Err(Error::Refused(_))));

    forbid(&place, "INSERT", "users", "NEW.user_name = 'bad'").await?;
    let seen = |user: &str| LastSeen { tenant: "t".into(), user: user.into(), at_ms: 1_790_000_000_123 };
    store.touch_users(&[seen("ada"), seen("bad"), seen("bob")]).await?;
    let names = ["ada", "bad", "bob"].map(UserName::from);
    let mut known: Vec<_> =
        store.last_seen(&"t".into(), &names).await?.into_iter().map(|seen| seen.user).collect();
    known.sort();
    assert_eq!(known, ["ada", "bob"]);
    Ok(())
}
