//! The messages by which a client is connected to, as `ortc-bench` writes them.

use serde_json::{Value, json};

use crate::Result;

/// A client that wants to connect.
pub(crate) struct Offer {
    pub(crate) id: u64,
    pub(crate) ufrag: String,
    pub(crate) password: String,
    /// `sha-256 AB:CD:…`.
    pub(crate) fingerprint: String,
    /// `candidate:…`, as in RFC 8839 §5.1.
    pub(crate) candidates: Vec<String>,
    pub(crate) ssrc: u32,
    /// Whether it is the client that sends this track. Only forwarding asks.
    pub(crate) publishes: bool,
}

impl Offer {
    pub(crate) fn parse(message: &Value) -> Result<Self> {
        let text = |value: &Value, what: &str| {
            value.as_str().map(str::to_owned).ok_or_else(|| format!("no {what}"))
        };
        let ice = &message["ice"];
        let candidates = message["candidates"].as_array().ok_or("no candidates")?;
        Ok(Self {
            id: message["id"].as_u64().ok_or("no id")?,
            ufrag: text(&ice["usernameFrag"], "usernameFrag")?,
            password: text(&ice["password"], "password")?,
            fingerprint: text(&ice["fingerprint"], "fingerprint")?,
            candidates: candidates.iter().map(candidate_line).collect(),
            ssrc: text(&message["track"]["ssrc"], "ssrc")?.parse()?,
            publishes: message["publishes"] == true,
        })
    }
}

fn candidate_line(candidate: &Value) -> String {
    let text = |key: &str| candidate[key].as_str().unwrap_or_default();
    format!(
        "candidate:{} {} {} {} {} {} typ {}",
        text("foundation"),
        candidate["component"],
        text("transport"),
        candidate["priority"],
        text("connectionAddress"),
        candidate["connectionPort"],
        text("type"),
    )
}

/// Our side, from credentials, a fingerprint and candidate lines.
pub(crate) fn answer(
    id: u64,
    ufrag: &str,
    password: &str,
    fingerprint: &str,
    candidates: &[String],
) -> Value {
    let candidates: Vec<Value> =
        candidates.iter().filter_map(|line| candidate_object(line)).collect();
    json!({
        "id": id,
        "ice": { "usernameFrag": ufrag, "password": password, "fingerprint": fingerprint },
        "candidates": candidates,
    })
}

fn candidate_object(line: &str) -> Option<Value> {
    let line = line.strip_prefix("candidate:").unwrap_or(line);
    let fields: Vec<&str> = line.split(' ').collect();
    let [foundation, component, transport, priority, address, port, "typ", kind, ..] = fields[..]
    else {
        return None;
    };
    Some(json!({
        "foundation": foundation,
        "component": component.parse::<u32>().ok()?,
        "transport": transport.to_lowercase(),
        "priority": priority.parse::<u32>().ok()?,
        "connectionAddress": address,
        "connectionPort": port.parse::<u16>().ok()?,
        "type": kind,
    }))
}
