//! The description of the HTTP API, generated from its code.

use std::sync::LazyLock;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::HeaderMap;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::console::File;
use super::error::{ErrorCodeName, ErrorObject};
use super::messages::MessageRole;
use super::names::Name;
use super::{
    conversations, deliveries, health, hooks, jobs, jobs_shown, limits, messages, operate, queues, schedules,
    topics, users, webhooks,
};

static DOCUMENT: LazyLock<File> = LazyLock::new(|| {
    // The document is made of nothing but strings and numbers.
    let json = Description::openapi().to_pretty_json().unwrap_or_default();
    File::new("application/json", Bytes::from(json))
});

/// Route of the description.
pub(super) fn routes() -> Router {
    Router::new().route("/openapi.json", get(|headers: HeaderMap| async move { DOCUMENT.answer(&headers) }))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Starling",
        description = "Durable, ordered conversations and ephemeral topics. This API is for servers and operators; clients \
                       use the WebSocket.",
        license(name = "MIT OR Apache-2.0"),
    ),
    paths(
        conversations::create,
        conversations::list,
        conversations::show,
        conversations::change,
        conversations::remove,
        conversations::add_member,
        conversations::remove_member,
        messages::list,
        messages::post,
        topics::publish,
        users::presence,
        operate::nodes,
        operate::sessions,
        operate::drain_node,
        operate::end_session,
        jobs::enqueue,
        jobs_shown::list,
        jobs_shown::count,
        jobs_shown::show,
        jobs::extend,
        jobs::done,
        jobs::fail,
        jobs::retry,
        jobs::cancel,
        jobs::discard,
        jobs::retry_all,
        jobs::cancel_all,
        jobs::discard_all,
        queues::list,
        queues::take,
        queues::pause,
        queues::resume,
        limits::put,
        limits::show,
        limits::remove,
        schedules::put,
        schedules::show,
        schedules::remove,
        schedules::list,
        hooks::put,
        hooks::list,
        hooks::rotate,
        hooks::remove,
        webhooks::add,
        webhooks::list,
        webhooks::show,
        webhooks::change,
        webhooks::remove,
        webhooks::rotate,
        deliveries::test,
        deliveries::list,
        deliveries::show,
        deliveries::resend,
        health::health,
        health::ready,
    ),
    components(schemas(ErrorObject, ErrorCodeName, MessageRole, Name)),
    tags(
        (name = "conversations", description = "Conversations and their members"),
        (name = "messages", description = "The log of a conversation"),
        (name = "topics", description = "Ephemeral publications"),
        (name = "users", description = "Presence of users"),
        (name = "jobs", description = "Durable work in queues"),
        (name = "webhooks", description = "Backends that are told what has happened"),
        (name = "hooks", description = "Backends that are asked before something happens"),
        (name = "operation", description = "For the scope `admin`"),
        (name = "health", description = "For monitors and load balancers; no token"),
    ),
    modifiers(&Bearer),
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use starling_model::{NAME_LENGTH_MAX, is_name};
    use starling_wire::protocol::{
        self, CONTENT_BYTES_MAX, CREATE_MEMBERS_MAX, KEY_CHARS_MAX, TITLE_BYTES_MAX, decode_create,
        decode_patch, decode_publish, decode_send,
    };

    use super::*;

    fn json(answer: &impl serde::Serialize) -> Value {
        serde_json::to_value(answer).expect("JSON")
    }

    fn document() -> Value {
        serde_json::to_value(Description::openapi()).expect("JSON")
    }

    #[test]
    fn the_description_is_the_one_that_was_reviewed() {
        let mut document = document();
        document["info"]["version"] = "VERSION".into();
        insta::assert_json_snapshot!("openapi", document);
    }

    #[test]
    fn what_the_examples_show_is_accepted() {
        let document = document();
        let example = |schema: &str| document["components"]["schemas"][schema]["example"].to_string();
        decode_create(example("NewConversation").as_bytes()).expect("create");
        decode_patch(example("ConversationPatch").as_bytes()).expect("patch");
        decode_send("picnic", example("NewMessage").as_bytes()).expect("send");
        decode_publish(example("NewPublication").as_bytes()).expect("publish");
    }

    #[test]
    fn what_is_described_of_answers_is_what_is_written() {
        let document = document();
        let check = |schema: &str, answer: Value, is_whole: bool| {
            let described = &document["components"]["schemas"][schema];
            let written: BTreeSet<&str> =
                answer.as_object().expect("an object").keys().map(String::as_str).collect();
            let listed: BTreeSet<&str> = if is_whole {
                described["properties"].as_object().expect("properties").keys().map(String::as_str).collect()
            } else {
                described["required"].as_array().expect("a list").iter().filter_map(Value::as_str).collect()
            };
            assert_eq!(written, listed, "{schema}, whole: {is_whole}");
        };
        let mut message = protocol::Message {
            conversation: "picnic".into(),
            seq: 4,
            id: 1,
            sender: "alice".into(),
            role: "user",
            content: "Who brings bread?".into(),
            metadata: Some(protocol::Json::from_compact("{}")),
            at: protocol::Timestamp(0),
        };
        check("Message", json(&message), true);
        message.metadata = None;
        check("Message", json(&message), false);
        let sent = protocol::Sent { id: 1, seq: 4, at: protocol::Timestamp(0), duplicate: false };
        let page = protocol::HistoryPage { messages: vec![message], more: false };
        let created = protocol::Created { conversation: "picnic".into(), created: true };
        let position = protocol::TopicPosition { epoch: "e".into(), offset: 7 };
        for is_whole in [true, false] {
            check("Sent", json(&sent), is_whole);
            check("MessagePage", json(&page), is_whole);
            check("Created", json(&created), is_whole);
            check("Publication", json(&position), is_whole);
        }
    }

    #[test]
    fn what_the_description_says_of_fields_is_what_the_decoders_do() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let name = &schemas["Name"];
        assert_eq!((&name["minLength"], &name["maxLength"]), (&1.into(), &NAME_LENGTH_MAX.into()));
        // The characters, one by one; what stands before them excludes the two names that are none.
        let pattern = name["pattern"].as_str().expect("a pattern");
        let class = pattern
            .strip_prefix(r"^(?!\.{1,2}$)[")
            .and_then(|rest| rest.strip_suffix("]+$"))
            .expect("a class");
        let listed = class.replace("A-Z", "").replace("a-z", "").replace("0-9", "");
        assert_eq!((listed.as_str(), class.len()), ("_.:@-", listed.len() + 9));
        for byte in 0..=0x7f_u8 {
            let character = char::from(byte);
            let in_class = character.is_ascii_alphanumeric() || listed.contains(character);
            assert_eq!(in_class, is_name(&format!("a{character}")), "{character:?}");
        }
        for (schema, field, key, limit) in [
            ("NewConversation", "title", "maxLength", TITLE_BYTES_MAX),
            ("NewConversation", "members", "maxItems", CREATE_MEMBERS_MAX),
            ("ConversationPatch", "title", "maxLength", TITLE_BYTES_MAX),
            ("NewMessage", "key", "maxLength", KEY_CHARS_MAX),
            ("NewMessage", "content", "maxLength", CONTENT_BYTES_MAX),
        ] {
            assert_eq!(schemas[schema]["properties"][field][key], limit, "{schema}.{field}");
        }
        // Where a field of a request may be absent, it may be null, and the description says so.
        for (schema, decode) in [
            ("NewConversation", &(|body: &[u8]| decode_create(body).is_ok()) as &dyn Fn(&[u8]) -> bool),
            ("ConversationPatch", &|body| decode_patch(body).is_ok()),
            ("NewMessage", &|body| decode_send("picnic", body).is_ok()),
            ("NewPublication", &|body| decode_publish(body).is_ok()),
        ] {
            let required: Vec<&str> = schemas[schema]["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for (field, described) in schemas[schema]["properties"].as_object().expect("properties") {
                let mut body = schemas[schema]["example"].clone();
                body[field] = Value::Null;
                let any = described.get("type").is_none() && described.get("oneOf").is_none();
                let null = any || described.to_string().contains("\"null\"");
                assert_eq!(null, decode(body.to_string().as_bytes()), "{schema}.{field}: {described}");
                assert!(null || required.contains(&field.as_str()), "{schema}.{field}");
            }
        }
    }

    #[test]
    fn references_lead_somewhere_ids_are_unique_and_the_api_is_secured() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().expect("a name");
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let id = operation["operationId"].as_str().expect("an id");
                assert!(ids.insert(id.to_owned()), "{id} twice");
                let secured = operation.get("security").is_some();
                assert_eq!(secured, path.starts_with("/v1/"), "{method} {path}");
                assert_eq!(secured, operation["responses"].get("401").is_some(), "{method} {path}");
            }
        }
    }

    #[test]
    fn every_route_is_described() {
        let document = document();
        let routes = [include_str!("mod.rs"), include_str!("health.rs")];
        let paths: Vec<&str> = routes
            .iter()
            .flat_map(|source| source.split(".route(").skip(1))
            .filter_map(|route| route.split('"').nth(1))
            .collect();
        assert!(paths.len() >= 11, "{paths:?}");
        for path in paths {
            assert!(document["paths"].get(path).is_some(), "{path}");
        }
    }
}
