//! The one table of who may call what. A call without a row here is refused.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::permission::{Permission, Permissions};

/// What a caller needs for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: not even to say who it is.
    Open,
    /// To say who it is. What it gets depends on what it may see.
    Authenticated,
    /// One of these permissions on what the call is about.
    AnyOf(Permissions),
}

impl Need {
    /// Whether it is met, for one who may make calls at all; `held` is asked only if it matters.
    pub(crate) fn is_met(self, held: impl FnOnce() -> Permissions) -> bool {
        match self {
            Self::Open | Self::Authenticated => true,
            Self::AnyOf(needed) => held().has_any(needed),
        }
    }
}

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The broker as a whole.
    Broker,
    /// A domain.
    Domain,
    /// A team.
    Team,
    /// A key of the tag vocabulary.
    TagKey,
    /// A product.
    Product,
    /// Many things, of which the caller gets what it may see.
    Listed,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The call.
    pub rpc: Rpc,
    /// `package.Service/Method`.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
    /// On what.
    pub on: On,
}

macro_rules! need {
    (open) => { Need::Open };
    (authenticated) => { Need::Authenticated };
    ($($permission:ident)|+) => { Need::AnyOf(Permissions::of(&[$(Permission::$permission),+])) };
}

macro_rules! table {
    ($($rpc:ident = $path:literal: [$($need:tt)+] on $on:ident;)*) => {
        /// Every call there is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "they are named as in the contract")]
        pub enum Rpc { $($rpc),* }

        /// The table: [`Rpc::row`] finds its row by number.
        pub const TABLE: &[Row] = &[
            $(Row { rpc: Rpc::$rpc, path: $path, need: need!($($need)+), on: On::$on }),*
        ];
    };
}

table! {
    Append = "meshlog.v1.RecordService/Append": [Produce] on Product;
    AppendStream = "meshlog.v1.RecordService/AppendStream": [Produce] on Product;
    Read = "meshlog.v1.RecordService/Read": [Consume] on Product;
    Subscribe = "meshlog.v1.RecordService/Subscribe": [Consume] on Product;
    ListQuarantined = "meshlog.v1.RecordService/ListQuarantined": [Consume] on Product;
    RedriveQuarantined = "meshlog.v1.RecordService/RedriveQuarantined": [Manage] on Product;
    ListOffsets = "meshlog.v1.RecordService/ListOffsets": [Consume | Produce | Manage] on Product;

    CreateDomain = "meshlog.v1.CatalogService/CreateDomain": [Govern] on Broker;
    GetDomain = "meshlog.v1.CatalogService/GetDomain": [authenticated] on Listed;
    ListDomains = "meshlog.v1.CatalogService/ListDomains": [authenticated] on Listed;
    UpdateDomain = "meshlog.v1.CatalogService/UpdateDomain": [Manage | Govern] on Domain;
    DeleteDomain = "meshlog.v1.CatalogService/DeleteDomain": [Manage | Govern] on Domain;
    CreateTeam = "meshlog.v1.CatalogService/CreateTeam": [Govern] on Broker;
    GetTeam = "meshlog.v1.CatalogService/GetTeam": [authenticated] on Listed;
    ListTeams = "meshlog.v1.CatalogService/ListTeams": [authenticated] on Listed;
    UpdateTeam = "meshlog.v1.CatalogService/UpdateTeam": [Manage | Govern] on Team;
    DeleteTeam = "meshlog.v1.CatalogService/DeleteTeam": [Govern] on Team;
    CreateTagKey = "meshlog.v1.CatalogService/CreateTagKey": [Govern] on Broker;
    GetTagKey = "meshlog.v1.CatalogService/GetTagKey": [authenticated] on Listed;
    ListTagKeys = "meshlog.v1.CatalogService/ListTagKeys": [authenticated] on Listed;
    UpdateTagKey = "meshlog.v1.CatalogService/UpdateTagKey": [Manage | Govern] on TagKey;
    DeleteTagKey = "meshlog.v1.CatalogService/DeleteTagKey": [Manage | Govern] on TagKey;
    CreateProduct = "meshlog.v1.CatalogService/CreateProduct": [Manage] on Domain;
    GetProduct = "meshlog.v1.CatalogService/GetProduct": [Discover] on Product;
    ListProducts = "meshlog.v1.CatalogService/ListProducts": [authenticated] on Listed;
    UpdateProduct = "meshlog.v1.CatalogService/UpdateProduct": [Manage | Govern] on Product;
    DeleteProduct = "meshlog.v1.CatalogService/DeleteProduct": [Manage] on Product;
    SearchProducts = "meshlog.v1.CatalogService/SearchProducts": [authenticated] on Listed;
    WatchProducts = "meshlog.v1.CatalogService/WatchProducts": [authenticated] on Listed;
    ActivateProduct = "meshlog.v1.CatalogService/ActivateProduct": [Manage] on Product;
    DeprecateProduct = "meshlog.v1.CatalogService/DeprecateProduct": [Manage] on Product;
    RetireProduct = "meshlog.v1.CatalogService/RetireProduct": [Manage] on Product;
    MoveProduct = "meshlog.v1.CatalogService/MoveProduct": [Manage] on Product;
    TransferProduct = "meshlog.v1.CatalogService/TransferProduct": [Manage] on Product;
    AcceptProductTransfer = "meshlog.v1.CatalogService/AcceptProductTransfer": [Manage] on Team;
    CancelProductTransfer = "meshlog.v1.CatalogService/CancelProductTransfer": [Manage] on Product;
    SucceedProduct = "meshlog.v1.CatalogService/SucceedProduct": [Manage] on Product;
    ListRules = "meshlog.v1.CatalogService/ListRules": [Discover] on Product;
    TestRules = "meshlog.v1.CatalogService/TestRules": [Discover] on Product;
    SampleProduct = "meshlog.v1.CatalogService/SampleProduct": [Consume] on Product;

    AddSchemaVersion = "meshlog.v1.SchemaService/AddSchemaVersion": [Schema] on Product;
    GetSchemaVersion = "meshlog.v1.SchemaService/GetSchemaVersion": [Discover] on Product;
    CheckCompatibility = "meshlog.v1.SchemaService/CheckCompatibility": [Discover] on Product;
    ListSchemaVersions = "meshlog.v1.SchemaService/ListSchemaVersions": [Discover] on Product;

    CommitOffsets = "meshlog.v1.SubscriptionService/CommitOffsets": [Consume] on Product;
    GetOffsets = "meshlog.v1.SubscriptionService/GetOffsets": [Consume] on Product;
    ListCursors = "meshlog.v1.SubscriptionService/ListCursors": [authenticated] on Listed;
    DeleteCursor = "meshlog.v1.SubscriptionService/DeleteCursor": [Consume] on Product;

    GetLineage = "meshlog.v1.LineageService/GetLineage": [authenticated] on Listed;
    GetImpact = "meshlog.v1.LineageService/GetImpact": [Discover] on Product;

    GetServerInfo = "meshlog.v1.AdminService/GetServerInfo": [authenticated] on Broker;
    Backup = "meshlog.v1.AdminService/Backup": [Admin] on Broker;
    TrimProduct = "meshlog.v1.AdminService/TrimProduct": [Manage] on Product;
    EraseDeletedRecords = "meshlog.v1.AdminService/EraseDeletedRecords": [Admin] on Broker;
    ExplainRetention = "meshlog.v1.AdminService/ExplainRetention": [Consume | Produce | Manage] on Product;

    WhoAmI = "meshlog.v1.GovernanceService/WhoAmI": [authenticated] on Broker;
    CreateKey = "meshlog.v1.GovernanceService/CreateKey": [Manage] on Team;
    ListKeys = "meshlog.v1.GovernanceService/ListKeys": [authenticated] on Listed;
    RevokeKey = "meshlog.v1.GovernanceService/RevokeKey": [Manage] on Team;
    RequestAccess = "meshlog.v1.GovernanceService/RequestAccess": [Discover] on Product;
    ListAccessRequests = "meshlog.v1.GovernanceService/ListAccessRequests": [authenticated] on Listed;
    ApproveAccess = "meshlog.v1.GovernanceService/ApproveAccess": [Manage] on Product;
    DenyAccess = "meshlog.v1.GovernanceService/DenyAccess": [Manage] on Product;
    CreateGrant = "meshlog.v1.GovernanceService/CreateGrant": [Manage] on Product;
    ListGrants = "meshlog.v1.GovernanceService/ListGrants": [authenticated] on Listed;
    RevokeGrant = "meshlog.v1.GovernanceService/RevokeGrant": [Manage] on Product;
    CheckAccess = "meshlog.v1.GovernanceService/CheckAccess": [authenticated] on Listed;

    ListAudit = "meshlog.v1.GovernanceService/ListAudit": [Govern] on Broker;
    VerifyAudit = "meshlog.v1.GovernanceService/VerifyAudit": [Govern] on Broker;

    HealthCheck = "grpc.health.v1.Health/Check": [open] on Broker;
    HealthList = "grpc.health.v1.Health/List": [open] on Broker;
    HealthWatch = "grpc.health.v1.Health/Watch": [open] on Broker;
    Reflect = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": [authenticated] on Broker;
    ReflectAlpha = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": [authenticated] on Broker;
}

static BY_PATH: LazyLock<HashMap<&'static str, Rpc>> =
    LazyLock::new(|| TABLE.iter().map(|row| (row.path, row.rpc)).collect());

impl Rpc {
    /// Its row.
    #[must_use]
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The call at this path of a gRPC request, with or without the leading slash.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        BY_PATH.get(path.strip_prefix('/').unwrap_or(path)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_stands_where_its_number_says() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.rpc as usize, at);
            assert_eq!(row.rpc.row().path, row.path);
            assert_eq!(Rpc::of_path(&format!("/{}", row.path)), Some(row.rpc));
        }
        assert_eq!(Rpc::of_path("/meshlog.v1.RecordService/Nothing"), None);
    }

    #[test]
    fn every_call_of_the_contract_has_its_row() {
        let pool = prost_reflect::DescriptorPool::decode(meshlog_proto::FILE_DESCRIPTOR_SET);
        let mut calls = 0;
        for service in pool.unwrap().services() {
            for method in service.methods() {
                let path = format!("{}/{}", service.full_name(), method.name());
                assert!(Rpc::of_path(&path).is_some(), "`{path}` has no row in access/table.rs");
                calls += 1;
            }
        }
        let ours = TABLE.iter().filter(|row| row.path.starts_with("meshlog.")).count();
        assert_eq!(calls, ours, "a row is for a call that does not exist");
    }
}
