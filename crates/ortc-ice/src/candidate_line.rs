//! The candidate line of RFC 8839 §5.1, read and written.

use std::fmt;
use std::str::FromStr;

use crate::error::Quoted;
use crate::{CandidateError, RTCIceCandidateDescription};

/// Longest line that is read. The longest of ours has 180 bytes; browsers append some 60.
const MAX_LINE: usize = 1024;

impl RTCIceCandidateDescription {
    /// Writes the candidate as a line, without `a=` and without a line end (RFC 8839 §5.1).
    pub fn to_candidate_line(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for RTCIceCandidateDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "candidate:{} {} {} {} {} {} typ {}",
            self.foundation,
            self.component,
            self.transport,
            self.priority,
            self.connection_address,
            self.connection_port,
            self.kind
        )?;
        if let Some(address) = &self.rel_address {
            write!(f, " raddr {address}")?;
        }
        if let Some(port) = self.rel_port {
            write!(f, " rport {port}")?;
        }
        if let Some(kind) = &self.tcp_type {
            write!(f, " tcptype {kind}")?;
        }
        Ok(())
    }
}

impl FromStr for RTCIceCandidateDescription {
    type Err = CandidateError;

    /// Reads a line, with or without `a=`.
    ///
    /// Extension attributes (`generation`, `ufrag`, `network-id`, …) are passed over. The
    /// result has passed [`validate`](RTCIceCandidateDescription::validate).
    fn from_str(line: &str) -> Result<Self, CandidateError> {
        if line.len() > MAX_LINE {
            return Err(CandidateError::TooLong);
        }
        let trimmed = line.trim();
        let attribute = trimmed.strip_prefix("a=").unwrap_or(trimmed);
        let Some(rest) = attribute.strip_prefix("candidate:") else {
            return Err(CandidateError::NotACandidateLine(Quoted::new(attribute)));
        };
        // One space separates fields, so that an empty foundation is seen.
        let mut fields = rest.split(' ').filter(|field| !field.is_empty());
        if rest.starts_with(' ') {
            return Err(CandidateError::Foundation(Quoted::new("")));
        }
        let mut field = |name| fields.next().ok_or(CandidateError::Truncated(name));
        let foundation = field("foundation")?.to_owned();
        let component = number(field("component")?, CandidateError::Component)?;
        let transport = field("transport")?.to_ascii_lowercase();
        let priority = number(field("priority")?, CandidateError::Priority)?;
        let connection_address = field("connectionAddress")?.to_owned();
        let connection_port = number(field("connectionPort")?, CandidateError::Port)?;
        match field("\"typ\"")? {
            "typ" => {}
            other => return Err(CandidateError::TypMissing(Quoted::new(other))),
        }
        let kind = field("type")?.to_owned();
        let (mut rel_address, mut rel_port, mut tcp_type) = (None, None, None);
        while let Some(name) = fields.next() {
            // An extension without a value ends the line; there is nothing to read in it.
            let Some(value) = fields.next() else { break };
            match name {
                "raddr" => rel_address = Some(value.to_owned()),
                "rport" => rel_port = Some(number(value, CandidateError::RelPort)?),
                "tcptype" => tcp_type = Some(value.to_ascii_lowercase()),
                _ => {}
            }
        }
        let candidate = Self {
            foundation,
            component,
            transport,
            priority,
            connection_address,
            connection_port,
            kind,
            rel_address,
            rel_port,
            tcp_type,
        };
        candidate.validate()?;
        Ok(candidate)
    }
}

/// Reads digits only: no sign, no more than ten.
fn number<T: FromStr>(
    text: &str,
    error: fn(Quoted) -> CandidateError,
) -> Result<T, CandidateError> {
    let digits = (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = digits.then(|| text.parse().ok()).flatten();
    value.ok_or_else(|| error(Quoted::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RTCIceCandidateDescription, CandidateError> {
        line.parse()
    }

    fn reflexive() -> RTCIceCandidateDescription {
        RTCIceCandidateDescription {
            foundation: "842163049".into(),
            component: 1,
            transport: "udp".into(),
            priority: 1_677_729_535,
            connection_address: "203.0.113.9".into(),
            connection_port: 46_154,
            kind: "srflx".into(),
            rel_address: Some("10.0.0.7".into()),
            rel_port: Some(0),
            tcp_type: None,
        }
    }

    #[test]
    fn a_browser_line_with_extensions_is_read_and_written_without_them() {
        let line = "a=candidate:842163049 1 UDP 1677729535 203.0.113.9 46154 typ srflx raddr \
                    10.0.0.7 rport 0 generation 0 ufrag 4Zc/ network-id 1 network-cost 10\r\n";
        assert_eq!(parse(line), Ok(reflexive()));
        assert_eq!(
            reflexive().to_candidate_line(),
            "candidate:842163049 1 udp 1677729535 203.0.113.9 46154 typ srflx raddr 10.0.0.7 rport 0"
        );
        assert_eq!(parse(&reflexive().to_candidate_line()), Ok(reflexive()));
    }

    #[test]
    fn ipv6_mdns_and_tcp_candidates_are_legal() {
        for line in [
            "candidate:1 1 udp 2122260223 2001:db8::7 50000 typ host",
            "candidate:1 1 udp 2122260223 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 5 typ host",
            "candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host",
            "candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
            "candidate:1 1 tcp 1518217215 2001:db8::7 4443 typ host tcptype passive",
            "candidate:1 1 tcp 9 192.0.2.1 4443 typ srflx raddr 10.0.0.7 rport 9 tcptype so",
        ] {
            let candidate = parse(line).expect(line);
            assert_eq!(candidate.to_string(), line);
        }
    }

    #[test]
    fn each_wrong_field_is_named_with_its_value() {
        let quoted = Quoted::new;
        let long = "f".repeat(33);
        let cases = [
            ("", CandidateError::NotACandidateLine(quoted(""))),
            ("candidate", CandidateError::NotACandidateLine(quoted("candidate"))),
            ("candidate:", CandidateError::Truncated("foundation")),
            ("candidate:1 1 udp", CandidateError::Truncated("priority")),
            ("candidate: 1 udp 1 192.0.2.1 1 typ host", CandidateError::Foundation(quoted(""))),
            (
                &format!("candidate:{long} 1 udp 1 192.0.2.1 1 typ host"),
                CandidateError::Foundation(quoted(&long)),
            ),
            ("candidate:1 0 udp 1 192.0.2.1 1 typ host", CandidateError::Component(quoted("0"))),
            ("candidate:1 +1 udp 1 192.0.2.1 1 typ host", CandidateError::Component(quoted("+1"))),
            ("candidate:1 1 u/p 1 192.0.2.1 1 typ host", CandidateError::Transport(quoted("u/p"))),
            ("candidate:1 1 udp 0 192.0.2.1 1 typ host", CandidateError::Priority(quoted("0"))),
            (
                "candidate:1 1 udp 2147483648 192.0.2.1 1 typ host",
                CandidateError::Priority(quoted("2147483648")),
            ),
            (
                "candidate:1 1 udp 1 192.0.2.256 1 typ host",
                CandidateError::Address(quoted("192.0.2.256")),
            ),
            ("candidate:1 1 udp 1 0.0.0.0 1 typ host", CandidateError::Address(quoted("0.0.0.0"))),
            ("candidate:1 1 udp 1 ff02::1 1 typ host", CandidateError::Address(quoted("ff02::1"))),
            ("candidate:1 1 udp 1 192.0.2.1 0 typ host", CandidateError::Port(quoted("0"))),
            ("candidate:1 1 udp 1 192.0.2.1 65536 typ host", CandidateError::Port(quoted("65536"))),
            ("candidate:1 1 udp 1 192.0.2.1 1 host", CandidateError::TypMissing(quoted("host"))),
            ("candidate:1 1 udp 1 192.0.2.1 1 typ hots", CandidateError::Kind(quoted("hots"))),
            (
                "candidate:1 1 udp 1 192.0.2.1 1 typ srflx raddr ? rport 1",
                CandidateError::RelAddress(quoted("?")),
            ),
            (
                "candidate:1 1 udp 1 192.0.2.1 1 typ srflx raddr 10.0.0.1 rport -1",
                CandidateError::RelPort(quoted("-1")),
            ),
            (
                "candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype both",
                CandidateError::TcpType(quoted("both")),
            ),
            (&"x".repeat(1025), CandidateError::TooLong),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line), Err(expected), "{line}");
        }
    }

    #[test]
    fn json_is_the_drafts_own_and_names_what_is_missing() {
        let drafts = r#"{"foundation":"abcd1234","component":1,"transport":"udp",
            "priority":1694498815,"connectionAddress":"192.0.2.33","connectionPort":10000,
            "type":"host","generation":0}"#;
        let candidate: RTCIceCandidateDescription = serde_json::from_str(drafts).unwrap();
        assert_eq!(
            serde_json::to_string(&candidate).unwrap(),
            r#"{"foundation":"abcd1234","component":1,"transport":"udp","priority":1694498815,"connectionAddress":"192.0.2.33","connectionPort":10000,"type":"host"}"#
        );
        let json = serde_json::to_string(&reflexive()).unwrap();
        assert_eq!(serde_json::from_str::<RTCIceCandidateDescription>(&json).unwrap(), reflexive());
        let missing = drafts.replace("\"connectionPort\":10000,", "");
        let error = serde_json::from_str::<RTCIceCandidateDescription>(&missing).unwrap_err();
        assert!(error.to_string().starts_with("missing field `connectionPort`"), "{error}");
        let info = serde_json::from_str::<crate::RTCIceConnectionInfo>(r#"{"usernameFrag":"x"}"#);
        let error = info.unwrap_err().to_string();
        assert!(error.starts_with("missing field `password`"), "{error}");
    }

    #[test]
    fn no_piece_or_mutation_of_a_line_panics() {
        let line = reflexive().to_candidate_line();
        for end in 0..=line.len() {
            let _ = parse(&line[..end]);
            let _ = parse(&line[end..]);
        }
        for index in 0..line.len() {
            for byte in ["", " ", "\0", "é", ":", "99999999999"] {
                let mutated = format!("{}{byte}{}", &line[..index], &line[index + 1..]);
                if let Ok(candidate) = parse(&mutated) {
                    assert_eq!(parse(&candidate.to_string()), Ok(candidate), "{mutated}");
                }
            }
        }
    }
}
