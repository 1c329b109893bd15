/// What an endpoint is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// To be told its role. Datagrams are parked.
    ExpectStart,
    /// The peer's certificate.
    ExpectCertificate,
    /// The end of the handshake; the certificate is the expected one.
    ExpectFinished,
    /// Application data, or the end.
    ExpectClose,
    /// Nothing any more.
    Stopped,
}

/// What moves an endpoint from one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transition {
    /// The owner has decided the role.
    Start,
    /// The engine gave up, a fresh one begins.
    Restart,
    /// The peer's certificate is the expected one.
    Accept,
    /// The handshake is complete and there are SRTP keys.
    Finish,
    /// Either side has closed.
    Close,
    /// It cannot be done.
    Fail,
}

impl State {
    /// The one legal table; `None` is an event that cannot come in this state.
    pub(crate) fn next(self, transition: Transition) -> Option<Self> {
        match (self, transition) {
            (Self::ExpectStart, Transition::Start) => Some(Self::ExpectCertificate),
            (Self::ExpectCertificate | Self::ExpectFinished, Transition::Restart) => {
                Some(Self::ExpectCertificate)
            }
            (Self::ExpectCertificate, Transition::Accept) => Some(Self::ExpectFinished),
            (Self::ExpectFinished, Transition::Finish) => Some(Self::ExpectClose),
            (Self::Stopped, _) => None,
            (_, Transition::Close) => Some(Self::Stopped),
            (Self::ExpectStart, Transition::Fail) => None,
            (_, Transition::Fail) => Some(Self::Stopped),
            _ => None,
        }
    }

    /// Between start and connected.
    pub(crate) fn is_handshaking(self) -> bool {
        matches!(self, Self::ExpectCertificate | Self::ExpectFinished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_legal_table() {
        let states = [
            State::ExpectStart,
            State::ExpectCertificate,
            State::ExpectFinished,
            State::ExpectClose,
            State::Stopped,
        ];
        let transitions = [
            Transition::Start,
            Transition::Restart,
            Transition::Accept,
            Transition::Finish,
            Transition::Close,
            Transition::Fail,
        ];
        let mut table = String::new();
        for state in states {
            for transition in transitions {
                if let Some(next) = state.next(transition) {
                    table.push_str(&format!("{state:?} --{transition:?}--> {next:?}\n"));
                }
            }
        }
        assert_eq!(
            table,
            "\
ExpectStart --Start--> ExpectCertificate
ExpectStart --Close--> Stopped
ExpectCertificate --Restart--> ExpectCertificate
ExpectCertificate --Accept--> ExpectFinished
ExpectCertificate --Close--> Stopped
ExpectCertificate --Fail--> Stopped
ExpectFinished --Restart--> ExpectCertificate
ExpectFinished --Finish--> ExpectClose
ExpectFinished --Close--> Stopped
ExpectFinished --Fail--> Stopped
ExpectClose --Close--> Stopped
ExpectClose --Fail--> Stopped
"
        );
    }
}
