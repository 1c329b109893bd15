use crate::IceState;

/// What moves an ICE agent from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The owner sent the first credentials of the peer.
    ConnectRequested,
    /// The owner sent other credentials: one side has restarted.
    Restarted,
    /// A pair was selected where there was none.
    PairSelected,
    /// No response came on the selected pair for the consent timeout (RFC 7675 §5.1).
    ConsentExpired,
    /// The last pair that could work has failed.
    PairsFailed,
    /// A newer connection on the same socket has validated the selected path.
    PathTaken,
    /// The owner closed.
    CloseRequested,
}

/// The whole table; what is not in it is illegal.
pub(crate) const fn next(state: IceState, cause: Cause) -> Option<IceState> {
    use Cause::*;
    use IceState::*;
    match (state, cause) {
        (AwaitingConnect, ConnectRequested) => Some(Checking),
        (Checking | Connected | Disconnected, Restarted) => Some(Checking),
        (Checking | Disconnected, PairSelected) => Some(Connected),
        (Connected, ConsentExpired | PathTaken) => Some(Disconnected),
        (Checking | Connected, PairsFailed) => Some(Disconnected),
        (AwaitingConnect | Checking | Connected | Disconnected, CloseRequested) => Some(Closed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn the_table_of_legal_changes_is_this_one() {
        use Cause::*;
        use IceState::*;
        let mut table = String::new();
        for state in [AwaitingConnect, Checking, Connected, Disconnected, Closed] {
            for cause in [
                ConnectRequested,
                Restarted,
                PairSelected,
                ConsentExpired,
                PairsFailed,
                PathTaken,
                CloseRequested,
            ] {
                if let Some(next) = next(state, cause) {
                    writeln!(table, "{state:?} -- {cause:?} -> {next:?}").unwrap();
                }
            }
        }
        assert_eq!(
            table,
            "\
AwaitingConnect -- ConnectRequested -> Checking
AwaitingConnect -- CloseRequested -> Closed
Checking -- Restarted -> Checking
Checking -- PairSelected -> Connected
Checking -- PairsFailed -> Disconnected
Checking -- CloseRequested -> Closed
Connected -- Restarted -> Checking
Connected -- ConsentExpired -> Disconnected
Connected -- PairsFailed -> Disconnected
Connected -- PathTaken -> Disconnected
Connected -- CloseRequested -> Closed
Disconnected -- Restarted -> Checking
Disconnected -- PairSelected -> Connected
Disconnected -- CloseRequested -> Closed
"
        );
    }
}
