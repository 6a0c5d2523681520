//! What one may be allowed to do, and the roles that bundle it.

use std::fmt;

/// One thing that one may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Permission {
    /// See that something exists, and what the catalogue says of it.
    Discover = 1 << 0,
    /// Read records, samples and positions, and keep cursors.
    Consume = 1 << 1,
    /// Append records.
    Produce = 1 << 2,
    /// Add schema versions.
    Schema = 1 << 3,
    /// Change, hand over, trim and delete, and decide who else gets access.
    Manage = 1 << 4,
    /// Keep the catalogue in order: domains, teams, the tag vocabulary, descriptions, the audit log.
    Govern = 1 << 5,
    /// Everything, on the whole broker.
    Admin = 1 << 6,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 7] = [
        Self::Discover,
        Self::Consume,
        Self::Produce,
        Self::Schema,
        Self::Manage,
        Self::Govern,
        Self::Admin,
    ];

    /// As people and requests write it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Consume => "consume",
            Self::Produce => "produce",
            Self::Schema => "schema",
            Self::Manage => "manage",
            Self::Govern => "govern",
            Self::Admin => "admin",
        }
    }

    /// The permission that is written so.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.text() == text)
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Permissions(u8);

impl Permissions {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self((1 << Permission::ALL.len()) - 1);

    /// These.
    #[must_use]
    pub const fn of(permissions: &[Permission]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < permissions.len() {
            bits |= permissions[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// The set whose bits these are.
    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// As a number below 128.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// Whether it holds one of the others.
    #[must_use]
    pub const fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether it holds all of the others.
    #[must_use]
    pub const fn has_all(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether it holds none at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in either.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn within(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// What is in this one alone.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Each of them, the least powerful first.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.0 & *permission as u8 != 0)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        for (at, permission) in self.iter().enumerate() {
            let between = if at == 0 { "" } else { ", " };
            write!(f, "{between}{}", permission.text())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// A named set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads.
    Consumer,
    /// Appends.
    Producer,
    /// Answers for it: the team that owns a product, or the domain that it is in.
    Owner,
    /// Keeps the catalogue in order and sees the audit log, without reading records.
    Steward,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Consumer, Self::Producer, Self::Owner, Self::Steward, Self::Admin];

    /// What it may do.
    #[must_use]
    pub const fn permissions(self) -> Permissions {
        use Permission::{Consume, Discover, Govern, Manage, Produce, Schema};
        match self {
            Self::Consumer => Permissions::of(&[Discover, Consume]),
            Self::Producer => Permissions::of(&[Discover, Produce]),
            Self::Owner => Permissions::of(&[Discover, Consume, Produce, Schema, Manage]),
            Self::Steward => Permissions::of(&[Discover, Govern]),
            Self::Admin => Permissions::ALL,
        }
    }

    /// As people and requests write it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Producer => "producer",
            Self::Owner => "owner",
            Self::Steward => "steward",
            Self::Admin => "admin",
        }
    }

    /// The role that is written so.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.text() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_permissions_are_sets() {
        let owner = Role::Owner.permissions();
        assert_eq!(owner.to_string(), "discover, consume, produce, schema, manage");
        assert!(!owner.has_any(Permissions::of(&[Permission::Govern, Permission::Admin])));
        assert!(owner.has_all(Role::Consumer.permissions().with(Role::Producer.permissions())));
        assert_eq!(Permissions::from_bits(owner.bits()), owner);
        assert_eq!(Permissions::NONE.to_string(), "nothing");
        assert_eq!(Permissions::ALL.iter().count(), Permission::ALL.len());
        assert!(!Role::Steward.permissions().has_any(Permissions::of(&[Permission::Consume])));
    }

    #[test]
    fn words_lead_back_to_what_they_name() {
        for permission in Permission::ALL {
            assert_eq!(Permission::from_text(permission.text()), Some(permission));
        }
        for role in Role::ALL {
            assert_eq!(Role::from_text(role.text()), Some(role));
        }
        assert_eq!(Permission::from_text("everything"), None);
    }
}
