//! What came in a topic since a position.

use anyhow::Result;
use bytes::Bytes;
use starling_fanout::{Position, TopicHistory, TopicSettings};
use starling_testkit::wait;

use crate::setting::Setting;
use crate::witness::LIMIT;

fn at(position: &Position, offset: u64) -> Position {
    Position { epoch: position.epoch.clone(), offset }
}

pub async fn history_gives_what_came_since(setting: &Setting) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let tenant = setting.tenant();
    let begin = a.fanout.topic_history(&tenant, &"news".into(), None).await?;
    assert_eq!((begin.position.offset, begin.recovered), (0, false));
    let nothing = b.fanout.topic_history(&tenant, &"news".into(), Some(&begin.position)).await?;
    assert_eq!(nothing, TopicHistory { recovered: true, ..begin.clone() });

    let bodies = ["text", "", "7", "\u{0}\r\n$-1\r\n", "message"].map(Bytes::from);
    let binary = Bytes::from_static(&[0xff, 0xfe, 0]);
    let bodies: Vec<Bytes> = bodies.into_iter().chain([binary]).collect();
    let batch: Vec<_> = bodies.iter().map(|body| setting.topic("news", body.clone())).collect();
    a.fanout.publish_topics(&batch[..4]).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    b.fanout.publish_topics(&batch[4..]).await.into_iter().collect::<Result<Vec<_>, _>>()?;

    let newest = at(&begin.position, bodies.len() as u64);
    for since in 0..=bodies.len() {
        let history =
            a.fanout.topic_history(&tenant, &"news".into(), Some(&at(&newest, since as u64))).await?;
        let expected: Vec<_> = (1..).zip(bodies.iter().cloned()).skip(since).collect();
        assert_eq!(
            history,
            TopicHistory { position: newest.clone(), recovered: true, publications: expected }
        );
    }
    let unasked = b.fanout.topic_history(&tenant, &"news".into(), None).await?;
    assert_eq!(unasked, TopicHistory { position: newest, recovered: false, publications: Vec::new() });
    Ok(())
}

pub async fn asking_creates_nothing_and_what_comes_then_is_recovered(setting: &Setting) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let tenant = setting.tenant();
    let mut begun = Vec::new();
    for n in 0..100 {
        begun.push(a.fanout.topic_history(&tenant, &format!("new{n}").into(), None).await?.position);
    }
    assert_eq!(setting.traces().await?, [""; 0], "a mere question leaves nothing behind");
    for (n, begin) in begun.iter().enumerate().step_by(10) {
        let topic = format!("new{n}");
        let first = b.fanout.publish_topics(&[setting.topic(&topic, "one")]).await.remove(0)?;
        assert_eq!(first, at(begin, 1), "the numbering goes on from the position that was told");
        let history = a.fanout.topic_history(&tenant, &topic.as_str().into(), Some(begin)).await?;
        assert!(history.recovered);
        assert_eq!(history.publications, [(1, Bytes::from("one"))]);
    }
    // Control: a publication does leave something.
    assert_eq!(setting.traces().await?.is_empty(), setting.servers().is_empty());
    Ok(())
}

pub async fn history_that_is_not_whole_is_not_recovered(setting: &Setting) -> Result<()> {
    let a = setting.node("a").await?;
    let tenant = setting.tenant();
    let kept = u64::from(setting.topics.history);
    let batch: Vec<_> = (1..=kept + 5).map(|n| setting.topic("busy", n.to_string())).collect();
    let positions = a.fanout.publish_topics(&batch).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let newest = positions[positions.len() - 1].clone();
    assert_eq!(newest.offset, kept + 5);
    for since in [0, 4] {
        let history = a.fanout.topic_history(&tenant, &"busy".into(), Some(&at(&newest, since))).await?;
        assert_eq!((history.recovered, history.publications.len()), (false, 0));
        assert_eq!(history.position, newest);
    }
    let history = a.fanout.topic_history(&tenant, &"busy".into(), Some(&at(&newest, 5))).await?;
    assert!(history.recovered);
    let offsets: Vec<u64> = history.publications.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (6..=kept + 5).collect::<Vec<_>>());
    Ok(())
}

pub async fn history_ends_with_its_time_and_the_numbering_goes_on(setting: &Setting) -> Result<()> {
    let setting = setting.with_topics(TopicSettings { history: 10, history_seconds: 2 });
    let a = setting.node("a").await?;
    let tenant = setting.tenant();
    let begin = a.fanout.topic_history(&tenant, &"short".into(), None).await?.position;
    a.fanout.publish_topics(&[setting.topic("short", "one")]).await.remove(0)?;
    let gone = async || {
        let history = a.fanout.topic_history(&tenant, &"short".into(), Some(&begin)).await?;
        assert_eq!(history.position, at(&begin, 1));
        Ok(!history.recovered)
    };
    wait::until_true(LIMIT, "the end of a history", gone).await?;
    let next = a.fanout.publish_topics(&[setting.topic("short", "two")]).await.remove(0)?;
    assert_eq!(next, at(&begin, 2));
    // What comes is kept again. On a machine that stands still it may have ended before it is read; then once more.
    let kept = async || {
        let next = a.fanout.publish_topics(&[setting.topic("short", "more")]).await.remove(0)?;
        let history =
            a.fanout.topic_history(&tenant, &"short".into(), Some(&at(&begin, next.offset - 1))).await?;
        Ok(history.recovered && history.publications == [(next.offset, Bytes::from("more"))])
    };
    wait::until_true(LIMIT, "a publication in the history", kept).await?;
    Ok(())
}

pub async fn a_position_of_another_life_is_not_recovered(setting: &Setting) -> Result<()> {
    let a = setting.node("a").await?;
    let tenant = setting.tenant();
    let newest = a.fanout.publish_topics(&[setting.topic("x", "one")]).await.remove(0)?;
    let foreign = Position { epoch: "0123456789abcdef".into(), offset: 0 };
    for since in
        [at(&newest, 2), at(&newest, u64::MAX), foreign, Position { epoch: String::new(), offset: 0 }]
    {
        let history = a.fanout.topic_history(&tenant, &"x".into(), Some(&since)).await?;
        let expected = TopicHistory { position: newest.clone(), recovered: false, publications: Vec::new() };
        assert_eq!(history, expected, "since {since:?}");
    }
    Ok(())
}
