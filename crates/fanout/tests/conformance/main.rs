//! What every fan-out promises, shown for each: inside the process, over one Redis server, over a Redis Cluster of
//! three masters, and over Redis behind Sentinel. The servers are real; the faults in [`faults`] are, too.

mod cases;
mod faults;
mod setting;
mod witness;

/// Makes a test of each case, for each fan-out.
macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        conformance!(@ memory, Memory, $($case),*);
        conformance!(@ alone, Alone, $($case),*);
        conformance!(@ cluster, Cluster, $($case),*);
        conformance!(@ sentinel, Sentinel, $($case),*);
    };
    (@ $module:ident, $kind:ident, $($case:ident),*) => {
        mod $module {
            use crate::setting::{Kind, Setting};

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() -> anyhow::Result<()> {
                    crate::cases::$case(&Setting::shared(Kind::$kind).await?).await
                }
            )*
        }
    };
}

conformance! {
    publications_of_one_partition_keep_their_order,
    own_publications_do_not_come_back,
    large_batches_arrive_whole_and_in_order,
    large_bodies_arrive_and_larger_ones_are_refused,
    nothing_is_not_an_error,
    something_for_one_node_reaches_it_alone,
    a_publication_for_some_nodes_reaches_these_alone,
    publications_for_some_nodes_and_for_everyone_keep_their_order,
    a_probe_comes_back_to_its_node_alone,
    topics_reach_all_nodes_in_one_order,
    offsets_have_no_holes_under_concurrency,
    history_gives_what_came_since,
    asking_creates_nothing_and_what_comes_then_is_recovered,
    history_that_is_not_whole_is_not_recovered,
    history_ends_with_its_time_and_the_numbering_goes_on,
    a_position_of_another_life_is_not_recovered,
    names_of_all_characters_are_kept_apart,
    a_forced_reconnect_ends_in_a_gap,
    the_link_is_told,
    every_key_has_a_lifetime,
}
