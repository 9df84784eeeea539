//! One suite for all stores of webhooks: each case runs against PostgreSQL, PostgreSQL behind PgBouncer (transaction mode), and SQLite.

mod activity;
mod deliveries;
mod hooks;
mod online;
mod overview;
mod place;
mod secrets;
mod webhooks;

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
    webhooks:
        a_webhook_is_kept_as_it_was_given,
        a_webhook_added_again_is_not_added_twice,
        a_tenant_has_no_more_webhooks_than_it_may,
        a_change_changes_only_what_it_names,
        nothing_of_another_tenant_is_reached,
        a_webhook_that_is_removed_leaves_nothing,
        a_backend_that_is_gone_loses_no_webhook_that_goes_elsewhere;
    overview:
        what_waits_is_found_without_what_is_paused,
        a_delivery_behind_another_in_its_order_is_not_due,
        what_waits_for_its_own_backend_is_not_due;
    secrets:
        a_secret_that_was_replaced_signs_for_a_day,
        only_a_few_secrets_sign_at_a_time,
        many_rotations_at_once_leave_one_newest_secret;
    deliveries:
        an_event_waits_at_each_webhook_that_wants_it,
        an_event_recorded_again_is_not_delivered_twice,
        deliveries_are_listed_page_by_page,
        a_delivery_that_has_ended_is_not_changed_by_a_late_attempt,
        an_attempt_that_ends_after_its_claim_changes_nothing,
        a_webhook_that_fails_for_long_is_paused_and_gets_later_what_it_missed,
        a_webhook_that_is_resumed_tries_for_a_day_again,
        deliveries_with_one_order_key_take_turns,
        a_claim_gives_what_is_due_once,
        a_claim_gives_no_more_of_a_webhook_than_it_may,
        tenants_take_turns_and_none_gets_more_than_it_may,
        a_claim_keeps_the_order_where_it_is_wanted,
        a_claim_looks_at_as_many_failing_webhooks_with_an_order_as_it_may,
        a_delivery_that_cannot_be_read_holds_up_no_other,
        a_delivery_is_sent_again,
        trimming_keeps_the_newest;
    activity:
        the_newest_attempts_and_what_waits_are_shown,
        a_test_goes_to_one_webhook_whatever_it_wants;
    online:
        a_user_is_told_once_over_all_nodes,
        users_of_a_dead_run_go_offline_unless_they_are_elsewhere,
        a_run_watches_others_once_it_has_sent_beats_for_long_enough,
        online_and_offline_alternate_although_nodes_race,
        many_users_come_and_go_in_few_transactions;
    hooks:
        a_hook_is_kept_as_it_was_given,
        a_hook_that_is_changed_keeps_its_secret,
        a_secret_that_was_replaced_signs_for_a_day_as_well,
        hooks_of_another_tenant_are_not_reached,
        every_change_is_in_the_next_registry,
        a_hook_that_cannot_be_read_refuses_and_hides_no_other;
}
