//! Reading the log in pages.

use anyhow::Result;
use starling_conversation_store::{Append, Page, Range, Seq};

use crate::place::{Place, append, conversation, message, unknown};

pub async fn pages_before_after_and_newest(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    let other = conversation(&store, "other").await?;
    let empty = store.messages(id, Range::Newest, 10, usize::MAX, true).await?;
    assert_eq!(empty, Page::default());
    let keys: Vec<String> = (1..=10).map(|number| number.to_string()).collect();
    append(&store, id, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    append(&store, other, &["not here"]).await?;

    let far = u64::MAX;
    for (range, limit, seqs, more) in [
        (Range::Newest, 3, vec![8, 9, 10], true),
        (Range::Newest, 10, (1..=10).collect(), false),
        (Range::Newest, 200, (1..=10).collect(), false),
        (Range::Before(Seq::new(8)), 3, vec![5, 6, 7], true),
        (Range::Before(Seq::new(3)), 3, vec![1, 2], false),
        (Range::Before(Seq::new(1)), 3, vec![], false),
        (Range::Before(Seq::new(0)), 3, vec![], false),
        (Range::Before(Seq::new(far)), 2, vec![9, 10], true),
        (Range::After(Seq::ZERO), 3, vec![1, 2, 3], true),
        (Range::After(Seq::new(7)), 3, vec![8, 9, 10], false),
        (Range::After(Seq::new(8)), 3, vec![9, 10], false),
        (Range::After(Seq::new(10)), 3, vec![], false),
        (Range::After(Seq::new(far)), 3, vec![], false),
    ] {
        for fresh in [true, false] {
            let page = store.messages(id, range, limit, usize::MAX, fresh).await?;
            let got: Vec<u64> = page.messages.iter().map(|m| m.seq.get()).collect();
            assert_eq!((got, page.more), (seqs.clone(), more), "{range:?} by {limit}");
        }
    }
    let missing = store.messages(unknown(id), Range::Newest, 10, usize::MAX, true).await?;
    assert_eq!(missing, Page::default());
    Ok(())
}

pub async fn a_page_ends_at_its_bytes_but_holds_one_message(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    // Each has 100 bytes: 30 of text that are 60 of UTF-8, and 40 of metadata.
    let metadata = format!("{{\"m\":\"{}\"}}", "x".repeat(32));
    assert_eq!(metadata.len(), 40);
    let batch: Vec<Append> = (0..10)
        .map(|number| Append {
            content: "ü".repeat(30).into(),
            metadata: Some(metadata.as_str().into()),
            ..message(id, &number.to_string())
        })
        .collect();
    store.append(&batch).await?;

    for (range, bytes_max, seqs, more) in [
        (Range::Newest, 300, vec![8, 9, 10], true),
        (Range::Newest, 299, vec![9, 10], true),
        (Range::Newest, 1_000, (1..=10).collect(), false),
        (Range::Newest, 0, vec![10], true),
        (Range::Before(Seq::new(2)), 0, vec![1], false),
        (Range::After(Seq::ZERO), 399, vec![1, 2, 3], true),
        (Range::After(Seq::ZERO), 1, vec![1], true),
        (Range::After(Seq::new(9)), 1, vec![10], false),
    ] {
        let page = store.messages(id, range, 50, bytes_max, true).await?;
        let got: Vec<u64> = page.messages.iter().map(|m| m.seq.get()).collect();
        assert_eq!((got, page.more), (seqs, more), "{range:?} within {bytes_max}");
    }
    Ok(())
}

pub async fn heads_of_many_in_one_call(place: Place) -> Result<()> {
    let store = place.store().await?;
    let (one, other) = (conversation(&store, "one").await?, conversation(&store, "other").await?);
    append(&store, other, &["a", "b", "c"]).await?;
    let heads = store.heads(&[other, unknown(one), one]).await?;
    let mut heads: Vec<_> = heads.iter().map(|head| (head.id, head.head.get())).collect();
    heads.sort_unstable();
    assert_eq!(heads, [(one, 0), (other, 3)]);
    assert!(store.heads(&[]).await?.is_empty());
    Ok(())
}
