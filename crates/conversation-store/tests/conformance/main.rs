//! One suite for all implementations of the store: each case runs against PostgreSQL, PostgreSQL behind PgBouncer
//! (transaction mode), and SQLite.

mod append;
mod conversations;
mod ended;
mod faulty_rows;
mod history;
mod incarnation;
mod members;
mod nodes;
mod place;
mod schema;
mod users;

/// Makes a test per case and place.
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
                    crate::$module::$case(place).await.expect(stringify!($case));
                }
            )+)+
        }
    };
}

conformance! {
    append:
        an_announced_message_is_noted_once_until_it_is_forgotten,
        messages_are_numbered_in_the_order_of_the_batch,
        an_empty_batch_gets_no_answers,
        two_stores_at_once_leave_no_hole,
        a_key_repeated_in_a_batch_finds_the_first,
        a_key_sent_through_two_stores_at_once_is_stored_once,
        a_key_is_remembered_after_a_restart,
        a_key_belongs_to_its_sender_and_conversation,
        a_missing_conversation_fails_alone,
        any_text_survives,
        times_never_fall;
    conversations:
        creating_again_tells_of_the_one_that_is_there,
        many_creators_make_one,
        title_and_metadata_change_separately,
        deleted_and_made_again_is_another,
        many_are_opened_in_one_call,
        each_of_many_who_open_at_once_gets_its_own,
        many_created_at_once_stay_within_the_limit,
        a_deletion_among_appends_leaves_nothing_behind,
        lists_show_newest_activity_first,
        lists_go_on_at_the_cursor,
        tenants_do_not_see_each_other,
        counting_stops_at_the_limit;
    ended:
        an_ended_session_stays_ended_until_it_is_forgotten;
    faulty_rows:
        a_refused_message_fails_alone,
        a_refused_conversation_fails_alone,
        a_refused_mark_or_sighting_fails_alone;
    history:
        pages_before_after_and_newest,
        a_page_ends_at_its_bytes_but_holds_one_message,
        heads_of_many_in_one_call;
    incarnation:
        a_conversation_that_is_made_again_has_another_log,
        another_incarnation_is_another_log,
        a_head_that_went_back_begins_another_incarnation_once,
        a_conversation_from_before_logs_has_one,
        changes_of_title_and_metadata_are_counted,
        an_owner_who_leaves_is_followed_by_who_joined_first;
    members:
        those_that_somebody_is_in_are_told_from_those_that_are_not,
        members_come_and_go,
        an_announced_change_is_noted_once_until_it_is_forgotten,
        the_version_tells_whether_members_changed,
        changes_made_at_once_are_numbered_without_a_hole,
        many_added_at_once_stay_within_the_limit,
        read_marks_never_fall_and_end_at_the_head,
        of_marks_set_at_once_the_highest_stays,
        sharing_needs_a_common_conversation;
    nodes:
        a_deaf_node_learns_whether_others_hear_for_as_long_as_they_say_so;
    users:
        the_latest_sighting_stays;
    schema:
        many_stores_migrate_at_once,
        a_newer_schema_is_used_unless_it_needs_a_newer_program,
        conversations_whose_owner_left_are_handed_on,
        a_checked_store_shows_its_pools;
}
