//! Products, schemas, domains and teams; facts about the broker; single reads and appends.

use std::time::{Duration, SystemTime};

use meshlog_proto::{server_v1, v1};

use crate::{
    BatchAck, ConsumedBatch, Durability, EncodedBatch, Result, StartAt,
    calls::{absent, every_page, members},
    time,
    transport::Connection,
};

/// Typed calls to the catalogue, schema and admin services and the single calls of the record
/// service. Messages are those of the contract ([`crate::proto`]). Every change is durable before
/// it is answered.
///
/// Errors are the broker's, as `docs/errors.md` lists them, or `CONNECTION_LOST`.
#[derive(Clone)]
pub struct Catalog {
    connection: Connection,
}

/// How [`Catalog::read_once`] reads.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Where to start. Default: the first readable record.
    pub start: StartAt,
    /// Which partitions; empty: all.
    pub partitions: Vec<u32>,
    /// Upper bound on what is returned, in bytes; at least one batch is. 0: 1 MiB.
    pub max_bytes: u32,
    /// How long to wait at the durable end. At most 60 s.
    pub max_wait: Duration,
    /// If not empty, the id the product must have.
    pub product_id: String,
}

/// What one read returned.
#[derive(Clone, Debug)]
pub struct ReadResult {
    /// The product's id.
    pub product_id: String,
    /// In order within each partition.
    pub batches: Vec<ConsumedBatch>,
    /// One per partition asked for.
    pub partitions: Vec<v1::PartitionState>,
}

impl ReadResult {
    /// Where the next read starts.
    #[must_use]
    pub fn next(&self) -> StartAt {
        let next = |state: &v1::PartitionState| (state.partition, state.next_offset);
        StartAt::Positions(self.partitions.iter().map(next).collect())
    }
}

members! {
    Catalog {
        /// Creates a product and, if the request says so, its domain and team, in one step.
        create_product(CreateProductRequest) -> product: Product;
        /// Changes the fields of a product that the mask names.
        update_product(UpdateProductRequest) -> product: Product;
        /// Creates a domain owned by an existing team.
        create_domain(CreateDomainRequest) -> domain: Domain;
        /// Creates a team with at least one contact.
        create_team(CreateTeamRequest) -> team: Team;
        /// Changes the fields of a domain that the mask names.
        update_domain(UpdateDomainRequest) -> domain: Domain;
        /// Changes the fields of a team that the mask names.
        update_team(UpdateTeamRequest) -> team: Team;
        /// Adds a key to the tag vocabulary.
        create_tag_key(CreateTagKeyRequest) -> tag_key: TagKey;
        /// Changes the fields of a tag key that the mask names.
        update_tag_key(UpdateTagKeyRequest) -> tag_key: TagKey;
        /// Makes a product's promises hold.
        activate_product(ActivateProductRequest) -> product: Product;
        /// Says that a product will end, why, and what to use instead.
        deprecate_product(DeprecateProductRequest) -> product: Product;
        /// Ends appends to a deprecated product.
        retire_product(RetireProductRequest) -> product: Product;
        /// Gives a product another name; the old one stays as an alias.
        move_product(MoveProductRequest) -> product: Product;
        /// Offers a product to another team.
        transfer_product(TransferProductRequest) -> product: Product;
        /// Takes a product that was offered.
        accept_product_transfer(AcceptProductTransferRequest) -> product: Product;
        /// Calls a transfer off.
        cancel_product_transfer(CancelProductTransferRequest) -> product: Product;
        /// Makes positions of a named cursor durable.
        commit_offsets(CommitOffsetsRequest) -> cursor: Cursor;
        /// Where a named cursor stands in a product.
        get_offsets(GetOffsetsRequest) -> cursor: Cursor;
        /// Adds a schema version to a product; it becomes the current one.
        add_schema_version(AddSchemaVersionRequest) -> schema_version: SchemaVersion;
    }
}

/// Calls that name one thing.
macro_rules! lookups {
    ($($(#[$doc:meta])* $method:ident($request:ident) -> $answer:ident: $message:ident;)*) => {
        impl Catalog {
            $($(#[$doc])*
            ///
            /// # Errors
            /// As the broker says.
            pub async fn $method(&self, name: impl Into<String>) -> Result<v1::$message> {
                let request = v1::$request { name: name.into() };
                let response = self.connection.$method(request).await?;
                response.$answer.ok_or_else(|| absent(stringify!($answer)))
            })*
        }
    };
}

lookups! {
    /// One product, by `<domain>.<name>`.
    get_product(GetProductRequest) -> product: Product;
    /// One domain.
    get_domain(GetDomainRequest) -> domain: Domain;
    /// One team.
    get_team(GetTeamRequest) -> team: Team;
    /// One key of the tag vocabulary.
    get_tag_key(GetTagKeyRequest) -> tag_key: TagKey;
}

/// Calls that list everything, page after page.
macro_rules! lists {
    ($($(#[$doc:meta])* $method:ident($request:ident $(, $field:ident)*) -> $answer:ident: $message:ident;)*) => {
        impl Catalog {
            $($(#[$doc])*
            ///
            /// # Errors
            /// As the broker says.
            pub async fn $method(&self $(, $field: impl Into<String>)*) -> Result<Vec<v1::$message>> {
                let request = v1::$request {
                    $($field: $field.into(),)*
                    ..v1::$request::default()
                };
                every_page!(self.connection, $method(request) -> $answer)
            })*
        }
    };
}

lists! {
    /// All products by name, or if `domain` is not empty those of one domain.
    list_products(ListProductsRequest, domain) -> products: Product;
    /// All domains by name.
    list_domains(ListDomainsRequest) -> domains: Domain;
    /// All teams by name.
    list_teams(ListTeamsRequest) -> teams: Team;
    /// The tag vocabulary by name.
    list_tag_keys(ListTagKeysRequest) -> tag_keys: TagKey;
    /// All cursors by name, then by product; those of one product and of one name, where these are
    /// not empty.
    list_cursors(ListCursorsRequest, product, cursor) -> cursors: Cursor;
}

impl Catalog {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Deletes a product with its records.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn delete_product(
        &self,
        request: v1::DeleteProductRequest,
    ) -> Result<v1::DeleteProductResponse> {
        self.connection.delete_product(request).await
    }

    /// Erases from the disk what was deleted, trimmed away or given up; of everything if the product
    /// is empty.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn erase_deleted_records(&self, product: impl Into<String>) -> Result<v1::Erased> {
        let request = v1::EraseDeletedRecordsRequest { product: product.into() };
        let response = self.connection.erase_deleted_records(request).await?;
        response.erased.ok_or_else(|| absent("erased"))
    }

    /// Deletes a domain without products.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn delete_domain(&self, request: v1::DeleteDomainRequest) -> Result<()> {
        self.connection.delete_domain(request).await.map(drop)
    }

    /// Deletes a team that owns nothing.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn delete_team(&self, request: v1::DeleteTeamRequest) -> Result<()> {
        self.connection.delete_team(request).await.map(drop)
    }

    /// Deletes a key of the tag vocabulary that no tag uses.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn delete_tag_key(&self, request: v1::DeleteTagKeyRequest) -> Result<()> {
        self.connection.delete_tag_key(request).await.map(drop)
    }

    /// Forgets a cursor, in one product or in all.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn delete_cursor(&self, request: v1::DeleteCursorRequest) -> Result<()> {
        self.connection.delete_cursor(request).await.map(drop)
    }

    /// Takes the oldest records of a product away, for good.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn trim_product(
        &self,
        request: v1::TrimProductRequest,
    ) -> Result<v1::TrimProductResponse> {
        self.connection.trim_product(request).await
    }

    /// Why the oldest records of a product are still there, and when they go.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn explain_retention(
        &self,
        request: v1::ExplainRetentionRequest,
    ) -> Result<v1::ExplainRetentionResponse> {
        self.connection.explain_retention(request).await
    }

    /// One page of the audit log, oldest first.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn list_audit(&self, request: v1::ListAuditRequest) -> Result<v1::ListAuditResponse> {
        self.connection.list_audit(request).await
    }

    /// Whether the audit log is as it was written. The broker reads all of it.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn verify_audit(
        &self,
        request: v1::VerifyAuditRequest,
    ) -> Result<v1::VerifyAuditResponse> {
        self.connection.verify_audit(request).await
    }

    /// Creates the breaking successor of a product and deprecates the product.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn succeed_product(
        &self,
        request: v1::SucceedProductRequest,
    ) -> Result<v1::SucceedProductResponse> {
        self.connection.succeed_product(request).await
    }

    /// One page of the products that a query finds, best first.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn search_products(
        &self,
        request: v1::SearchProductsRequest,
    ) -> Result<v1::SearchProductsResponse> {
        self.connection.search_products(request).await
    }

    /// The graph around a product or an application.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn get_lineage(
        &self,
        request: v1::GetLineageRequest,
    ) -> Result<v1::GetLineageResponse> {
        self.connection.get_lineage(request).await
    }

    /// Who would notice a change of a field.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn get_impact(&self, request: v1::GetImpactRequest) -> Result<v1::GetImpactResponse> {
        self.connection.get_impact(request).await
    }

    /// Some records of a product and, if asked for, what its fields look like.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn sample_product(
        &self,
        request: v1::SampleProductRequest,
    ) -> Result<v1::SampleProductResponse> {
        self.connection.sample_product(request).await
    }

    /// The rules of a product, each with what it made of records so far.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn list_rules(&self, request: v1::ListRulesRequest) -> Result<v1::ListRulesResponse> {
        self.connection.list_rules(request).await
    }

    /// What rules would make of records; nothing is appended and nothing counted.
    ///
    /// # Errors
    /// As the broker says; `RULE_INVALID` for an expression that cannot be a rule.
    pub async fn test_rules(&self, request: v1::TestRulesRequest) -> Result<v1::TestRulesResponse> {
        self.connection.test_rules(request).await
    }

    /// The products there are, then every change of one as it happens. The stream ends after its
    /// first error; begin another with the last `revision` as `after_revision`.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn watch_products(
        &self,
        request: v1::WatchProductsRequest,
    ) -> Result<impl futures_util::Stream<Item = Result<v1::WatchProductsResponse>> + Send + Unpin>
    {
        self.connection.watch_products(request).await
    }

    /// Whether a schema could be the next version of a product. Messages with progress come first, if
    /// records are tried; the last one has the result.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn check_compatibility(
        &self,
        request: v1::CheckCompatibilityRequest,
    ) -> Result<
        impl futures_util::Stream<Item = Result<v1::CheckCompatibilityResponse>> + Send + Unpin,
    > {
        self.connection.check_compatibility(request).await
    }

    /// One schema version of a product; 0 is the current one.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn get_schema_version(
        &self,
        product: impl Into<String>,
        version: u32,
    ) -> Result<v1::SchemaVersion> {
        let request = v1::GetSchemaVersionRequest { product: product.into(), version };
        let response = self.connection.get_schema_version(request).await?;
        response.schema_version.ok_or_else(|| absent("schema_version"))
    }

    /// Records that a product did not take, oldest first: one page.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn list_quarantined(
        &self,
        request: v1::ListQuarantinedRequest,
    ) -> Result<v1::ListQuarantinedResponse> {
        self.connection.list_quarantined(request).await
    }

    /// Appends a quarantined record to its product after all. Once: a second call appends nothing.
    ///
    /// # Errors
    /// As the broker says; `SCHEMA_REJECTED` if it still does not conform.
    pub async fn redrive_quarantined(
        &self,
        request: v1::RedriveQuarantinedRequest,
    ) -> Result<v1::RedriveQuarantinedResponse> {
        self.connection.redrive_quarantined(request).await
    }

    /// All schema versions of a product, oldest first.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn list_schema_versions(
        &self,
        product: impl Into<String>,
    ) -> Result<Vec<v1::SchemaVersion>> {
        let request = v1::ListSchemaVersionsRequest { product: product.into() };
        Ok(self.connection.list_schema_versions(request).await?.schema_versions)
    }

    /// Version, limits and storage of the broker.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn server_info(&self) -> Result<v1::GetServerInfoResponse> {
        self.connection.get_server_info(v1::GetServerInfoRequest {}).await
    }

    /// Whether the broker takes work now; false while it ends.
    ///
    /// # Errors
    /// `UNREACHABLE`, `CONNECTION_LOST`.
    pub async fn is_serving(&self) -> Result<bool> {
        self.connection.is_serving().await
    }

    /// Start offset and durable end of each partition (of all if `partitions` is empty) and, if a
    /// time is given, the offset of the first record whose append time is not before it.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn list_offsets(
        &self,
        product: impl Into<String>,
        partitions: &[u32],
        at: Option<SystemTime>,
    ) -> Result<Vec<v1::PartitionOffsets>> {
        let request = v1::ListOffsetsRequest {
            product: product.into(),
            product_id: String::new(),
            partitions: partitions.to_vec(),
            append_time: at.map(time::to_wire),
        };
        Ok(self.connection.list_offsets(request).await?.partitions)
    }

    /// Reads once. At the durable end it waits up to `max_wait` for new records.
    ///
    /// # Errors
    /// As the broker says, for instance `OFFSET_OUT_OF_RANGE` or `DATA_LOSS`.
    pub async fn read_once(
        &self,
        product: impl Into<String>,
        options: ReadOptions,
    ) -> Result<ReadResult> {
        let request = v1::ReadRequest {
            product: product.into(),
            product_id: options.product_id,
            start: Some(options.start.to_wire(&options.partitions)),
            partitions: options.partitions,
            max_bytes: options.max_bytes,
            max_wait: Some(time::duration_to_wire(options.max_wait)),
        };
        let response = self.connection.read(request, options.max_wait).await?;
        Ok(ReadResult {
            product_id: response.product_id,
            batches: response.batches.into_iter().map(ConsumedBatch::from).collect(),
            partitions: response.partitions,
        })
    }

    /// Appends one batch in one call, without a producer's sequence: after a lost connection its
    /// outcome is unknown and nothing is retried. For everything else use a
    /// [`Producer`](crate::Producer).
    ///
    /// # Errors
    /// As the broker says; [`Error::applied`](crate::Error::applied) tells whether the batch may be in the log.
    pub async fn append_once(
        &self,
        product: impl Into<String>,
        partition: Option<u32>,
        batch: &EncodedBatch,
        durability: Durability,
    ) -> Result<BatchAck> {
        let request = server_v1::AppendRequest {
            product: product.into(),
            partition,
            batch: vec![batch.bytes().clone()],
            durability: durability.into(),
            ..server_v1::AppendRequest::default()
        };
        self.connection.append(request).await.map(BatchAck::from)
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}
