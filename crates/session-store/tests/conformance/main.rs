//! One suite for every implementation of the session store: in the process, in Redis alone, in a Redis Cluster of three
//! masters, and behind Sentinel. Each case gets two stores that are as those of two nodes.

mod attaching;
mod leases;
mod limits;
mod listing;
mod presence;
mod world;

use starling_testkit::redis::{RedisCluster, RedisSentinel};
use world::World;

/// Names each case, for the implementations that run them one by one and those that run them side by side.
macro_rules! for_all_cases {
    ($do:ident) => {
        $do! {
            leases::a_first_beat_is_told_that_the_lease_was_lost,
            leases::a_node_that_stops_beating_is_dead_a_lease_later,
            leases::a_node_that_leaves_is_gone_at_once,
            leases::a_wiped_store_says_that_leases_were_lost,
            attaching::a_dropped_session_is_resumed_with_all_it_was_in,
            attaching::a_resume_of_an_attached_session_names_the_previous_node,
            attaching::the_window_counts_from_the_drop,
            attaching::the_window_of_a_dead_node_counts_from_its_last_beat,
            attaching::an_ended_session_is_refused_and_stays_so,
            attaching::somebody_elses_session_is_refused,
            attaching::a_session_nobody_knows_is_refused_when_its_ticket_is_old,
            attaching::a_session_was_attached_when_its_ticket_was_issued,
            attaching::of_two_nodes_that_resume_at_once_the_one_that_began_last_holds_it,
            attaching::however_long_an_attach_takes_one_that_began_later_holds_the_session,
            attaching::an_attach_that_breaks_off_takes_nothing,
            attaching::an_attach_whose_hold_had_no_answer_learns_whom_it_took_the_session_from,
            attaching::later_attaches_of_a_node_do_not_hide_whom_it_took_the_session_from,
            attaching::stamps_rise_above_all_that_is_known,
            attaching::an_attach_that_waited_before_the_store_heard_of_it_keeps_its_place,
            attaching::an_end_comes_before_whatever_is_being_attached,
            attaching::only_the_attach_that_holds_a_session_can_drop_it,
            attaching::names_that_look_like_publications_are_names,
            attaching::a_wiped_store_believes_tickets_from_before_for_a_window,
            attaching::a_wiped_store_is_restored_and_nothing_newer_is_overwritten,
            attaching::of_two_nodes_that_write_a_session_again_the_later_attach_stays,
            attaching::thousands_are_restored_and_dropped_at_once,
            attaching::hundreds_that_begin_at_once_are_told_apart,
            attaching::a_session_whose_client_goes_before_the_answer_is_not_attached,
            listing::pages_hold_every_session_once,
            listing::sessions_of_dead_nodes_are_listed_as_not_attached,
            listing::a_tenant_sees_its_own,
            listing::a_cursor_names_no_session_of_another_tenant,
            listing::a_session_that_is_somebody_elses_now_is_listed_under_them_alone,
            listing::a_cursor_that_no_page_gave_is_refused,
            presence::devices_on_several_nodes_are_told_apart,
            presence::a_dead_node_takes_its_presence_with_it,
            presence::a_conversation_that_is_made_again_begins_with_nobody,
            attaching::a_conversation_that_was_made_again_is_told_apart,
            presence::a_wiped_store_is_filled_again,
            presence::thousands_of_entries_at_once,
            limits::two_nodes_share_one_allowance_exactly,
            limits::who_comes_back_when_told_to_finds_a_place,
            limits::an_allowance_comes_back_evenly,
            limits::users_and_tenants_have_their_own,
            limits::connections_of_a_tenant_stay_within_the_limit_over_all_nodes,
        }
    };
}

macro_rules! side_by_side {
    ($($module:ident::$case:ident,)*) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$module::$case(&super::World::in_memory()).await;
                }
            )*
        }
        mod redis {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$module::$case(&super::World::in_redis().await).await;
                }
            )*
        }
    };
}

macro_rules! one_by_one {
    ($($module:ident::$case:ident,)*) => {
        /// A cluster takes seconds to start, so all cases share one.
        #[tokio::test]
        async fn cluster_of_three_masters() {
            let cluster = RedisCluster::start().await.expect("a cluster starts");
            $(
                eprintln!("{}", stringify!($module::$case));
                $module::$case(&World::in_cluster(&cluster).await).await;
            )*
        }

        /// As `cluster_of_three_masters`.
        #[tokio::test]
        async fn behind_sentinel() {
            let sentinel = RedisSentinel::start().await.expect("sentinels start");
            $(
                eprintln!("{}", stringify!($module::$case));
                $module::$case(&World::behind_sentinel(&sentinel).await).await;
            )*
        }
    };
}

for_all_cases!(side_by_side);
for_all_cases!(one_by_one);
