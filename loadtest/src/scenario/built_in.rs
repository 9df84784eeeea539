//! The scenarios that come with the program.

/// Name and text of each scenario, in the order in which they are listed.
pub const BUILT_IN: [(&str, &str); 10] = [
    ("baseline", include_str!("../../scenarios/baseline.toml")),
    ("spike", include_str!("../../scenarios/spike.toml")),
    ("sustained", include_str!("../../scenarios/sustained.toml")),
    ("stress", include_str!("../../scenarios/stress.toml")),
    ("soak", include_str!("../../scenarios/soak.toml")),
    ("chat", include_str!("../../scenarios/chat.toml")),
    ("idle", include_str!("../../scenarios/idle.toml")),
    ("storm", include_str!("../../scenarios/storm.toml")),
    ("hot-room", include_str!("../../scenarios/hot-room.toml")),
    ("jobs", include_str!("../../scenarios/jobs.toml")),
];

/// The text of a scenario by its name.
pub fn find(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).map(|(_, text)| *text)
}
