//! The sequencer, and the lanes that gather batches.

#![expect(missing_docs, reason = "the macro of Criterion makes functions without them")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use starling_hub::benchmarks::{Bound, Lane, Sequencer, Weigh, run};
use starling_model::Seq;

/// Messages in one round.
const MESSAGES: u64 = 256;

/// An item of a lane.
struct Item(u64);

impl Weigh for Item {
    fn bytes(&self) -> usize {
        128
    }
}

fn sequencer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sequencer");
    group.throughput(Throughput::Elements(MESSAGES));
    let in_order: Vec<u64> = (1..=MESSAGES).collect();
    // Neighbours are swapped: every second message waits behind a hole.
    let swapped: Vec<u64> = (1..=MESSAGES).map(|seq| if seq % 2 == 1 { seq + 1 } else { seq - 1 }).collect();
    for (name, order) in [("in order", in_order), ("neighbours swapped", swapped)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || Sequencer::new(Seq::new(0)),
                |sequencer| {
                    let mut released = 0;
                    for seq in &order {
                        sequencer.feed(Seq::new(*seq), *seq, |_, item| released += black_box(item));
                    }
                    assert_eq!(sequencer.head(), Seq::new(MESSAGES));
                    released
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn lane(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane");
    group.throughput(Throughput::Elements(MESSAGES));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    for batch in [1, 16, 256] {
        group.bench_function(format!("batches of {batch}"), |bencher| {
            bencher.iter(|| {
                let (lane, end) = Lane::new(Bound { items: 1024, bytes: 1 << 20 });
                for number in 0..MESSAGES {
                    assert!(lane.push(Item(number)).is_ok());
                }
                // Without senders the lane ends when it is empty.
                drop(lane);
                let mut sum = 0;
                runtime.block_on(run(end, Bound { items: batch, bytes: 1 << 20 }, |items| {
                    sum += items.iter().map(|item| item.0).sum::<u64>();
                    std::future::ready(())
                }));
                assert_eq!(sum, MESSAGES * (MESSAGES - 1) / 2);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sequencer, lane);
criterion_main!(benches);
