//! Giving a product another name. Its id, its records and everything that refers to it stay; the
//! old name goes on leading to it.

use meshlog_proto::v1::{self, ProductState};

use super::lifecycle::word;
use super::name::{SANDBOX, check_product, shell_word};
use super::view::View;
use super::{Catalogue, builtin, domain, invalid, provenance, team};
use crate::Caller;
use crate::access::Rpc;
use crate::error::{Error, Reason, Result};

const MAX_ALIASES: usize = 16;

impl Catalogue {
    /// Gives a product another name, also in another domain; the old one stays as an alias.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `ETAG_MISMATCH`, `NAME_INVALID`, `NAME_RESERVED`, `DOMAIN_NOT_FOUND`,
    /// `PRODUCT_EXISTS` for a name that is taken, `LIMIT_REACHED` for one alias too many;
    /// out of `sandbox`, `FIELD_MISSING` for what a product must have elsewhere; into it,
    /// `STATE_INVALID` for anything but a draft.
    pub async fn move_product(
        &self,
        caller: &Caller,
        request: v1::MoveProductRequest,
    ) -> Result<v1::MoveProductResponse> {
        let (to, _) = check_product(&request.new_name)?;
        let mut change =
            self.change_product(caller, Rpc::MoveProduct, &request.name, "", &request.etag).await?;
        let product = &mut change.product;
        let from = product.name.split('.').next().unwrap_or_default().to_owned();
        if product.name == request.new_name {
            let what = format!("`{}` has this name already", product.name);
            return Err(invalid("new_name", what));
        }
        if from != to {
            self.allow_in_domain(caller, to, false)?;
        }
        {
            let view = self.inner.view.read();
            if !domain::exists(&view, to) {
                return Err(domain::not_found(to, None).with("field", "new_name"));
            }
            check_free(&view, &request.new_name, &product.id)?;
            if from == SANDBOX && to != SANDBOX {
                check_leaving(&view, product)?;
                if provenance::is_inferred(product, "settings.retention_age")
                    && let Some(settings) = &mut product.settings
                {
                    settings.retention_age = None;
                }
            }
        }
        if to == SANDBOX && product.state() != ProductState::Draft {
            return Err(Error::new(
                Reason::StateInvalid,
                format!(
                    "`{}` is {}; in the sandbox nothing is promised, so only drafts move there",
                    product.name,
                    word(product.state())
                ),
            )
            .with("product", &product.name)
            .with("state", word(product.state())));
        }
        let old_name = std::mem::replace(&mut product.name, request.new_name);
        product.aliases.retain(|alias| *alias != product.name);
        product.aliases.push(old_name);
        if product.aliases.len() > MAX_ALIASES {
            return Err(Error::new(
                Reason::LimitReached,
                format!(
                    "`{0}` has {MAX_ALIASES} earlier names, the most there can be; give one up \
                     first: `meshlog product update {0} --remove-alias NAME`",
                    change.before.name
                ),
            )
            .with("limit", MAX_ALIASES)
            .with("product", &change.before.name));
        }
        let product = change.finish(caller, "move_product", request.validate_only).await?;
        Ok(v1::MoveProductResponse { product: Some(product) })
    }
}

/// Refuses a name that another product has, or had. `own` is the id of the product that may.
pub(super) fn check_free(view: &View, name: &str, own: &str) -> Result<()> {
    let Some(taken) = view.product(name).filter(|taken| *taken.id != *own) else { return Ok(()) };
    let what = match *taken.name == *name {
        true => {
            format!("the product `{name}` exists already; `meshlog product show {name}` shows it")
        }
        false => format!(
            "`{name}` is an earlier name of the product `{0}` and still leads there; choose \
             another name, or give the alias up first: \
             `meshlog product update {0} --remove-alias {name}`",
            taken.name
        ),
    };
    Err(Error::new(Reason::ProductExists, what).with("product", &taken.name))
}

/// Refuses to take a product out of the sandbox before it says what every other one does. What
/// the sandbox filled in does not count.
fn check_leaving(view: &View, product: &v1::Product) -> Result<()> {
    let name = shell_word(&product.name);
    let unsaid = |path: &str, empty: bool| empty || provenance::is_inferred(product, path);
    let owner = builtin::is_builtin(&product.owner) || product.owner.is_empty();
    let fields = [
        (
            owner,
            "owner",
            format!(
                "`meshlog product transfer {name} TEAM`, then `meshlog product accept {name} TEAM`"
            ),
        ),
        (
            unsaid("description", product.description.trim().is_empty()),
            "description",
            format!("`meshlog product update {name} --description TEXT`"),
        ),
        (
            unsaid("classification", product.classification == 0),
            "classification",
            format!(
                "`meshlog product update {name} --classification \
                 public|internal|confidential|restricted`"
            ),
        ),
        (unsaid("schema_version", false), "schema", format!("`meshlog schema add {name} FILE`")),
    ];
    let missing: Vec<_> = fields.into_iter().filter(|(missing, ..)| *missing).collect();
    let Some((_, first, command)) = missing.first() else {
        return team::check_owner(view, &product.owner).map(drop);
    };
    let names: Vec<&str> = missing.iter().map(|(_, name, _)| *name).collect();
    let commands: Vec<&str> = missing.iter().map(|(.., command)| command.as_str()).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    let error = Error::new(
        Reason::FieldMissing,
        format!(
            "{} {verb} missing; the sandbox filled in what every product elsewhere says itself: {}",
            names.join(", "),
            commands.join("; ")
        ),
    )
    .with("field", first)
    .with("missing", names.join(","))
    .with("product", &product.name)
    .with("command", command.trim_matches('`'));
    Err(missing.iter().fold(error, |error, (_, name, command)| {
        error.with_violation(format!("product.{name}"), format!("the {name} is missing: {command}"))
    }))
}
