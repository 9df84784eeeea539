//! One suite for all stores of jobs: each case runs against PostgreSQL, PostgreSQL behind PgBouncer (transaction mode), and SQLite.

mod claims;
mod endings;
mod enqueueing;
mod failures;
mod limits;
mod operating;
mod overview;
mod place;
mod schedules;
mod workers;

/// Makes a test for each case and place.
macro_rules! conformance {
    ($($module:ident: $($case:ident),+;)+) => {
        conformance! { @place postgres_direct, Place::postgres; $($module: $($case),+;)+ }
        conformance! { @place postgres_behind_pgbouncer, Place::pgbouncer; $($module: $($case),+;)+ }
        conformance! { @place sqlite_file, Place::sqlite; $($module: $($case),+;)+ }
    };
    (@place $name:ident, $start:path; $($module:ident: $($case:ident),+;)+) => {
        mod $name {
            use crate::place::Place;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let place = $start().await.expect("a database");
                    crate::$module::$case(&place).await.expect(stringify!($case));
                }
            )+)+
        }
    };
}

conformance! {
    enqueueing:
        a_job_is_kept_as_it_was_given,
        a_job_added_again_is_not_added_twice,
        a_key_is_held_for_as_long_as_it_was_asked,
        a_retried_job_takes_its_key_again_unless_another_job_has_it,
        a_key_added_from_many_callers_at_once_is_held_by_one,
        a_delay_counts_from_when_the_job_was_added,
        a_job_waits_for_its_time;
    claims:
        jobs_of_a_backlog_are_claimed_in_order,
        many_workers_claim_each_job_once,
        marks_hide_no_job_that_is_committed_late,
        a_known_backlog_hides_no_job_that_is_committed_late,
        a_claim_that_is_rolled_back_is_found_again,
        a_paused_queue_gives_none,
        arrivals_name_each_backlog,
        arrivals_of_many_jobs_name_each_backlog_with_its_first_job;
    endings:
        a_failed_job_is_tried_again_and_then_fails,
        a_late_ending_changes_nothing,
        a_job_that_is_handed_back_has_lost_no_attempt,
        many_endings_at_once_end_each_job_once,
        the_newest_attempts_are_shown_and_only_so_many_are_kept;
    failures:
        a_job_that_fails_for_good_is_noted_for_who_listens,
        a_job_whose_last_worker_died_is_noted,
        an_older_list_of_listeners_replaces_no_newer_one;
    workers:
        the_jobs_of_a_silent_worker_are_given_to_others,
        a_buried_worker_gets_no_jobs_and_is_told,
        a_lease_that_is_over_is_given_to_others,
        the_jobs_of_a_worker_whose_lock_is_gone_are_given_to_others,
        a_worker_that_has_locked_again_keeps_its_jobs,
        silent_workers_are_buried_a_few_at_a_time,
        many_leases_that_end_together_are_taken_back;
    operating:
        a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked,
        an_ended_job_is_tried_again_or_discarded,
        counts_follow_every_change,
        nothing_is_kept_of_numbers_that_are_zero,
        trimming_keeps_the_newest,
        who_comes_second_leaves_trimming_to_the_first,
        what_is_done_to_a_queue_concerns_one_tenant,
        a_waiting_job_is_discarded,
        a_cancelled_job_loses_its_lease,
        a_job_that_is_made_ready_meanwhile_is_cancelled,
        a_job_that_is_made_ready_meanwhile_is_discarded,
        a_job_that_fails_meanwhile_is_cancelled_and_not_tried_again,
        jobs_are_found_newest_first_by_queue_state_and_kind;
    overview:
        a_summary_shows_the_newest_attempt_and_reads_no_payload,
        jobs_that_were_done_lately_are_counted_by_queue;
    limits:
        never_more_run_at_once_than_the_limits_allow,
        without_limits_the_same_work_exceeds_them,
        it_is_the_lock_of_the_limits_that_lets_them_hold,
        jobs_behind_those_of_a_full_key_begin,
        blocked_jobs_begin_in_order_when_one_of_their_key_ends,
        the_place_of_a_dead_worker_is_free_again,
        a_rate_lets_so_many_begin_and_says_when_the_next_may,
        a_key_whose_rate_is_used_up_holds_no_other_key,
        jobs_that_run_when_limits_are_set_are_counted,
        blocked_jobs_are_ready_for_everybody_else,
        limits_are_kept_as_they_were_given,
        tidying_loses_no_turn,
        a_job_that_ends_while_a_claim_counts_wakes_the_next_one,
        tidying_wakes_a_key_that_nothing_else_would_wake;
    schedules:
        a_schedule_is_kept_as_it_was_given,
        a_replaced_schedule_goes_on_where_it_was_unless_its_times_change,
        schedules_are_listed_by_name_and_limited,
        a_due_schedule_is_found_and_fires_once,
        many_nodes_fire_each_moment_once,
        a_moment_that_comes_again_adds_no_second_job,
        a_firing_of_an_earlier_version_or_without_moments_adds_nothing,
        tenants_take_turns_when_many_schedules_are_due;
}
