//! `starling capacity`: from users and messages to nodes, Redis, PostgreSQL, bandwidth and money.

mod constants;
mod model;
mod prices;
mod text;

use std::path::PathBuf;

use serde_json::json;
use starling_settings::BadConfig;

use crate::failure::Failure;
use model::Demand;
use prices::Prices;

/// What is asked for on the command line.
#[derive(Clone, Debug)]
pub struct CapacityRequest {
    /// The numbers of the demand, by the names of their flags.
    pub numbers: Vec<(&'static str, f64)>,
    /// A list of prices instead of the examples.
    pub prices: Option<PathBuf>,
    /// Whether to print the list of prices instead, to change it.
    pub print_prices: bool,
    /// Whether to print JSON.
    pub json: bool,
}

/// A flag with a number.
pub struct Number {
    /// Its name.
    pub flag: &'static str,
    /// Its value if it is not given; nothing if it must be.
    pub default: Option<f64>,
    /// The least and the most that it may be.
    range: (f64, f64),
    /// Its help.
    pub help: &'static str,
}

/// The flags with numbers.
pub static NUMBERS: [Number; 8] = [
    Number { flag: "users", default: None, range: (1.0, 1e11), help: "Users, online or not" },
    Number {
        flag: "online",
        default: Some(0.1),
        range: (0.0, 1.0),
        help: "Share of them that is online at the peak",
    },
    Number { flag: "conversations", default: None, range: (1.0, 1e12), help: "Conversations" },
    Number {
        flag: "members",
        default: Some(10.0),
        range: (1.0, 10_000.0),
        help: "Members of a conversation",
    },
    Number { flag: "messages", default: None, range: (0.0, 1e9), help: "Messages a second at the peak" },
    Number {
        flag: "mean-share",
        default: Some(0.3),
        range: (0.0, 1.0),
        help: "Mean rate of a day divided by that of the peak",
    },
    Number {
        flag: "message-bytes",
        default: Some(200.0),
        range: (1.0, 65_536.0),
        help: "Bytes of a message's text",
    },
    Number {
        flag: "months",
        default: Some(12.0),
        range: (0.0, 1_200.0),
        help: "Months that messages are kept",
    },
];

/// Plans for a demand. Returns what to print.
///
/// # Errors
/// When a number is out of its range, or the list of prices is wrong.
pub fn capacity(request: &CapacityRequest) -> Result<String, Failure> {
    if request.print_prices {
        return Ok(prices::EXAMPLES.to_owned());
    }
    let demand = demand(request)?;
    let prices = Prices::read(request.prices.as_deref())?;
    let plan = demand.plan();
    let money = prices.of(&plan);
    if !request.json {
        return Ok(text::text(&demand, &plan, &prices, &money, request.prices.is_none()));
    }
    let asked: serde_json::Map<String, serde_json::Value> =
        request.numbers.iter().map(|(flag, value)| (flag.replace('-', "_"), json!(value))).collect();
    let constants = constants::ALL.iter().map(|constant| {
        json!({
            "name": constant.name, "value": constant.value, "unit": constant.unit, "what": constant.what,
            "source": constant.source.text(),
        })
    });
    let all = json!({
        "demand": asked,
        "plan": plan.json(),
        "money_per_month": money.json(&prices.currency),
        "constants": constants.collect::<Vec<_>>(),
        "measured_on": constants::MACHINE,
    });
    Ok(format!("{all:#}\n"))
}

fn demand(request: &CapacityRequest) -> Result<Demand, BadConfig> {
    let number = |flag: &str| -> Result<f64, BadConfig> {
        let known = NUMBERS.iter().find(|number| number.flag == flag);
        let given = request.numbers.iter().find(|(name, _)| *name == flag).map(|(_, value)| *value);
        let (Some(known), Some(value)) = (known, given) else {
            return Err(BadConfig(format!("--{flag} is missing")));
        };
        let (least, most) = known.range;
        if !(least..=most).contains(&value) {
            return Err(BadConfig(format!("--{flag}: {value} is not between {least} and {most}")));
        }
        Ok(value)
    };
    Ok(Demand {
        users: number("users")?,
        online: number("online")?,
        conversations: number("conversations")?,
        members: number("members")?,
        messages: number("messages")?,
        mean_share: number("mean-share")?,
        message_bytes: number("message-bytes")?,
        months: number("months")?,
    })
}

#[cfg(test)]
mod tests;
