//! Scopes from the `scope` claim.

/// Most words of a `scope` claim that are read. Ignoring the rest can only remove permissions.
pub const SCOPES_MAX: usize = 256;

/// Permissions of a token.
///
/// `admin` includes all permissions inside its tenant: creating conversations, using any topic, any jobs, webhooks and hooks. It does not
/// make its bearer a member of conversations; each call of the HTTP API documents what else it allows. `operate` is for actions on nodes,
/// which affect all tenants; no other scope includes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    admin: bool,
    operate: bool,
    create: bool,
    webhooks: bool,
    subscribe: Vec<Pattern>,
    publish: Vec<Pattern>,
    jobs: Vec<Pattern>,
}

impl Scopes {
    /// Parses a list, separated by spaces, of `admin`, `operate`, `conversations:create`, `subscribe:NAME`, `subscribe:PREFIX*`,
    /// `publish:NAME`, `publish:PREFIX*`, `jobs:QUEUE`, `jobs:PREFIX*` and `webhooks`. Unknown words are ignored, because the token may
    /// also be meant for other services.
    pub fn parse(scope: &str) -> Scopes {
        Scopes::of_words(scope.split_ascii_whitespace())
    }

    /// Parses a list of words. A word that contains a space is unknown.
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Scopes {
        let mut scopes = Scopes::default();
        for word in words.into_iter().take(SCOPES_MAX) {
            match word.split_once(':') {
                None if word == "admin" => scopes.admin = true,
                None if word == "operate" => scopes.operate = true,
                None if word == "webhooks" => scopes.webhooks = true,
                Some(("conversations", "create")) => scopes.create = true,
                Some(("subscribe", pattern)) => scopes.subscribe.extend(Pattern::parse(pattern)),
                Some(("publish", pattern)) => scopes.publish.extend(Pattern::parse(pattern)),
                Some(("jobs", pattern)) => scopes.jobs.extend(Pattern::parse(pattern)),
                _ => {}
            }
        }
        scopes
    }

    /// Whether the bearer may use the calls for administrators.
    pub fn is_admin(&self) -> bool {
        self.admin
    }

    /// Whether the bearer may act on nodes.
    pub fn may_operate(&self) -> bool {
        self.operate
    }

    /// Whether the bearer may create conversations.
    pub fn may_create(&self) -> bool {
        self.admin || self.create
    }

    /// Whether the bearer may set webhooks and hooks.
    pub fn may_set_webhooks(&self) -> bool {
        self.admin || self.webhooks
    }

    /// Whether the bearer may subscribe to this topic.
    pub fn may_subscribe(&self, topic: &str) -> bool {
        self.admin || self.subscribe.iter().any(|pattern| pattern.covers(topic))
    }

    /// Whether the bearer may publish to this topic.
    pub fn may_publish(&self, topic: &str) -> bool {
        self.admin || self.publish.iter().any(|pattern| pattern.covers(topic))
    }

    /// Whether the bearer may use the jobs of this queue.
    pub fn may_use_jobs_of(&self, queue: &str) -> bool {
        self.admin || self.jobs.iter().any(|pattern| pattern.covers(queue))
    }

    /// Whether the bearer may use the jobs of some queue.
    pub fn may_use_jobs(&self) -> bool {
        self.admin || !self.jobs.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Name(Box<str>),
    Prefix(Box<str>),
}

impl Pattern {
    /// Parses a pattern. `None` if it is malformed, so that a typing error does not grant more than was meant.
    fn parse(text: &str) -> Option<Pattern> {
        match text.strip_suffix('*') {
            Some(prefix) if prefix.contains('*') => None,
            Some(prefix) => Some(Pattern::Prefix(prefix.into())),
            None if text.is_empty() || text.contains('*') => None,
            None => Some(Pattern::Name(text.into())),
        }
    }

    fn covers(&self, name: &str) -> bool {
        match self {
            Pattern::Name(whole) => **whole == *name,
            Pattern::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_allowed_by_default() {
        let none = Scopes::parse("");
        assert!(!none.is_admin() && !none.may_create() && !none.may_set_webhooks());
        assert!(!none.may_subscribe("news") && !none.may_publish("news"));
    }

    #[test]
    fn names_and_prefixes_cover_what_they_say() {
        let scopes = Scopes::parse("conversations:create subscribe:news subscribe:room:* publish:room:1");
        assert!(scopes.may_create() && !scopes.is_admin());
        assert!(scopes.may_subscribe("news") && !scopes.may_subscribe("news2"));
        assert!(
            scopes.may_subscribe("room:7") && scopes.may_subscribe("room:") && !scopes.may_subscribe("room")
        );
        assert!(
            scopes.may_publish("room:1") && !scopes.may_publish("room:12") && !scopes.may_publish("news")
        );
        assert!(Scopes::parse("publish:*").may_publish("anything"));
        let scopes = Scopes::parse("jobs:mail jobs:import-*");
        assert!(
            scopes.may_use_jobs_of("mail") && scopes.may_use_jobs_of("import-1") && scopes.may_use_jobs()
        );
        assert!(!scopes.may_use_jobs_of("mail2") && !Scopes::parse("publish:*").may_use_jobs());
    }

    #[test]
    fn admin_implies_the_rest() {
        let admin = Scopes::parse("admin");
        assert!(admin.is_admin() && admin.may_create() && admin.may_subscribe("a") && admin.may_publish("a"));
        assert!(admin.may_set_webhooks());
        assert!(!admin.may_operate(), "nodes are everybody's");
        let webhooks = Scopes::parse("webhooks");
        assert!(webhooks.may_set_webhooks() && !webhooks.is_admin() && !webhooks.may_create());
        assert!(Scopes::parse("operate").may_operate() && !Scopes::parse("operate").is_admin());
    }

    #[test]
    fn unknown_and_broken_words_grant_nothing() {
        let scopes = Scopes::parse(
            "openid Admin admin:x admin: conversations:created conversations subscribe subscribe: publish:a*b publish:** SUBSCRIBE:* webhooks: webhooks:x webhook",
        );
        assert_eq!(scopes, Scopes::default());
    }

    #[test]
    fn words_beyond_the_limit_are_not_read() {
        let scope = (0..SCOPES_MAX).map(|i| format!("publish:t{i} ")).collect::<String>() + "admin";
        let scopes = Scopes::parse(&scope);
        assert_eq!(scopes.publish.len(), SCOPES_MAX);
        assert!(!scopes.is_admin());
    }

    #[test]
    fn a_list_of_words_grants_what_its_words_do() {
        let words = ["openid", "admin x", " admin", "publish:room:1", "subscribe:a b"];
        let scopes = Scopes::of_words(words);
        assert!(scopes.may_publish("room:1") && !scopes.is_admin() && !scopes.may_subscribe("a"));
        assert!(Scopes::of_words(["admin"]).is_admin());
        let many: Vec<String> = (0..SCOPES_MAX).map(|i| format!("publish:t{i}")).collect();
        assert!(!Scopes::of_words(many.iter().map(String::as_str).chain(["admin"])).is_admin());
    }

    proptest! {
        #[test]
        fn no_text_without_the_word_grants_admin(scope in "[a-z:* ]{0,200}") {
            let words = scope.split(' ').any(|word| word == "admin");
            prop_assert_eq!(Scopes::parse(&scope).is_admin(), words);
        }
    }
}
