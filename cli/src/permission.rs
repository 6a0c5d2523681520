//! Permissions, as they are written on the command line and shown.

use clap::ValueEnum;
use meshlog_client::proto;

/// One thing that one may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Permission {
    /// See that it exists, and what the catalogue says of it
    Discover,
    /// Read records, samples and positions
    Consume,
    /// Append records
    Produce,
    /// Add schema versions
    Schema,
    /// Change, hand over, trim and delete, and decide who else gets access
    Manage,
    /// Keep the catalogue in order: domains, teams, tag keys, the audit log
    Govern,
    /// Everything, on the whole broker
    Admin,
}

impl Permission {
    /// For the contract.
    pub(crate) fn to_wire(self) -> i32 {
        let wire = match self {
            Self::Discover => proto::Permission::Discover,
            Self::Consume => proto::Permission::Consume,
            Self::Produce => proto::Permission::Produce,
            Self::Schema => proto::Permission::Schema,
            Self::Manage => proto::Permission::Manage,
            Self::Govern => proto::Permission::Govern,
            Self::Admin => proto::Permission::Admin,
        };
        wire.into()
    }
}

/// The words of permissions of the contract.
pub(crate) fn words(permissions: impl Iterator<Item = proto::Permission>) -> Vec<String> {
    permissions.map(|one| crate::words::word(one.as_str_name(), "PERMISSION_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_of_the_contract_has_its_word() {
        for permission in Permission::value_variants() {
            let wire = proto::Permission::try_from(permission.to_wire()).unwrap();
            let word = permission.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(words([wire].into_iter()), [word]);
        }
        assert!(
            proto::Permission::try_from(Permission::value_variants().len() as i32 + 1).is_err()
        );
    }
}
