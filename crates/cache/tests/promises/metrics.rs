//! What the metrics count.

use anyhow::{Context, Result, ensure};
use metrics_exporter_prometheus::PrometheusBuilder;
use starling_cache::CacheConfig;
use starling_testkit::redis::Redis;
use starling_testkit::wait;

use crate::early::EAGER;
use crate::world::{PATIENCE, World, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_misses_loads_and_refusals_are_counted_by_level() -> Result<()> {
    let redis = Redis::shared().await?;
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let count = |series: &str| -> Result<u64> {
        let page = handle.render();
        let line = page.lines().find_map(|line| line.strip_prefix(series)).context(series.to_owned())?;
        Ok(line.trim().parse()?)
    };
    // The handles are registered when the cache is made.
    let world =
        metrics::with_local_recorder(&recorder, || World::start(&redis.url(), 2, &config("counted")))?;
    world.table.commit("k", "first");
    for node in [0, 0, 1, 1, 1] {
        world.version(node, "k").await?;
    }
    ensure!(world.nodes[0].get("nothing").await?.is_none());
    for (series, expected) in [
        ("starling_cache_hits_total{cache=\"counted\",level=\"process\"}", 3),
        ("starling_cache_misses_total{cache=\"counted\",level=\"process\"}", 3),
        ("starling_cache_hits_total{cache=\"counted\",level=\"redis\"}", 1),
        ("starling_cache_misses_total{cache=\"counted\",level=\"redis\"}", 2),
        ("starling_cache_loads_total{cache=\"counted\",outcome=\"found\"}", 1),
        ("starling_cache_loads_total{cache=\"counted\",outcome=\"absent\"}", 1),
        ("starling_cache_outdated_total{cache=\"counted\",level=\"process\"}", 0),
    ] {
        let counted = count(series)?;
        ensure!(counted == expected, "{series} is {counted}, not {expected}");
    }
    // A writer that was held up puts an older value.
    let version = world.change(0, "k", "second").await;
    let late = crate::world::Row { text: "first".into() };
    world.nodes[1].put("k", version - 1, late).await;
    for level in ["process", "redis"] {
        let series = format!("starling_cache_outdated_total{{cache=\"counted\",level=\"{level}\"}}");
        ensure!(count(&series)? == 1, "the older value was not refused in the {level}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_load_is_counted_once_with_redis_and_without() -> Result<()> {
    let redis = Redis::shared().await?;
    for has_redis in [true, false] {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let config = CacheConfig { early: EAGER, ..config("counted_early") };
        let start = || match has_redis {
            true => World::start(&redis.url(), 1, &config),
            false => Ok(World::alone(&config)),
        };
        let world = metrics::with_local_recorder(&recorder, start)?;
        world.table.commit("k", "value");
        world.version(0, "k").await?;
        // This read finds an entry that ends soon, and does not wait for the load that it begins.
        world.version(0, "k").await?;
        let is_loaded = async || Ok(world.table.loads() == 2);
        wait::until_true(PATIENCE, "the early load", is_loaded).await?;
        let page = handle.render();
        let counted = "starling_cache_early_refreshes_total{cache=\"counted_early\"} 1";
        ensure!(page.lines().any(|line| line == counted), "with Redis: {has_redis}\n{page}");
    }
    Ok(())
}
