//! What is to be done about one product.

use meshlog_client::{Catalog, proto};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    document::{Deprecation, Product, Schema},
    plan::{Action, Options, Plan, Problem, Step},
    terms::{Format, State},
    there::{Found, There},
    work::Work,
};
use crate::{
    change::{self, Line},
    exit::{Failure, Result},
    output,
    schema::{self, format_word},
    words,
};

/// Adds what makes a product as it is wanted. `later` are inputs that are set when all products are
/// there.
pub(super) async fn plan(
    catalog: &Catalog,
    wanted: &Product,
    later: &[&str],
    there: &There,
    options: Options,
    plan: &mut Plan,
) -> Result<()> {
    let mut step = Step::of("product", &wanted.name);
    let mut wanted = wanted.clone();
    for input in &mut wanted.inputs {
        if let Some(name) = there.aliases.get(input) {
            input.clone_from(name);
        }
    }
    match there.products.get(&wanted.name) {
        Some(found) => existing(catalog, wanted, found, later, options, plan, &mut step).await?,
        None => {
            if let Some(name) = there.aliases.get(&wanted.name) {
                plan.problems.push(Problem::conflict(format!(
                    "product {}: it is called {name} now; give it that name in the file",
                    wanted.name
                )));
            }
            new(&wanted, later, plan, &mut step)?;
        }
    }
    plan.steps.push(step);
    Ok(())
}

fn new(wanted: &Product, later: &[&str], plan: &mut Plan, step: &mut Step) -> Result<()> {
    step.lines = change::lines(None, Some(&shown(wanted)?))?;
    let mut product = wanted.wire()?;
    let all = product.inputs.clone();
    product.inputs.retain(|input| !later.contains(&&**input));
    let is_whole = all.len() == product.inputs.len();
    step.create(Work::CreateProduct(Box::new(proto::CreateProductRequest {
        product: Some(product),
        value_schema: wanted.schema.as_ref().map(Schema::wire),
        key_schema: wanted.key_schema.as_ref().map(Schema::wire),
        ..proto::CreateProductRequest::default()
    })));
    if !is_whole {
        let product = proto::Product { inputs: all, ..wanted.wire()? };
        let mut mask = vec!["inputs".to_owned()];
        if !wanted.managed_by.is_empty() {
            mask.push("managed_by".to_owned());
        }
        step.late.push(Work::UpdateProduct(Box::new(product), mask));
    }
    let state = wanted.state.unwrap_or(State::Draft);
    change_state(State::Draft, state, None, wanted, plan, step)
}

async fn existing(
    catalog: &Catalog,
    wanted: Product,
    found: &Found,
    later: &[&str],
    options: Options,
    plan: &mut Plan,
    step: &mut Step,
) -> Result<()> {
    let before = found.said();
    plan.manager(step, Some(&before.managed_by), &wanted.managed_by, options);
    let mut after = with_what_is_kept(wanted, &before, &found.product);
    for (what, is_same) in
        [("key", after.key == before.key), ("partitions", after.partitions == before.partitions)]
    {
        if !is_same {
            plan.problems.push(Problem::conflict(format!(
                "product {0}: its {what} is fixed since it was created; put back what it was, or \
                 create a successor: `meshlog product succeed {0} --schema FILE --reason TEXT`",
                after.name
            )));
        }
    }
    if after.schema != before.schema || after.key_schema != before.key_schema {
        schemas(catalog, &before, &mut after, found, plan, step).await?;
    }
    if after.owner != before.owner {
        transfer(&before, &mut after, &found.product, step);
    }
    if after != before {
        step.action = Action::Change;
        let mut lines = change::lines(Some(&shown(&before)?), Some(&shown(&after)?))?;
        lines.append(&mut step.lines);
        step.lines = lines;
    }
    let mut mask = changed(&before, &after);
    if !mask.is_empty() {
        remark_drift(&mask, &before, &after, &found.product, step);
        if !after.managed_by.is_empty() && !mask.iter().any(|path| path == "managed_by") {
            mask.push("managed_by".to_owned());
        }
        let work = Work::UpdateProduct(Box::new(after.wire()?), mask);
        // An input that this plan creates after it.
        let waits = after
            .inputs
            .iter()
            .any(|input| later.contains(&&**input) && plan.planned.products.contains(input));
        match waits {
            true => step.late.push(work),
            false => step.work.push(work),
        }
    }
    let (from, to) = (before.state.unwrap_or(State::Draft), after.state.unwrap_or(State::Draft));
    change_state(from, to, before.deprecation.as_ref(), &after, plan, step)
}

/// What the file does not say and what is not taken away by that: what it never takes away, and what
/// the broker had filled in itself.
fn with_what_is_kept(wanted: Product, before: &Product, product: &proto::Product) -> Product {
    let mut after = wanted;
    let is_inferred = |path: &str| {
        product
            .provenance
            .iter()
            .any(|known| known.path == path && known.kind() == proto::ProvenanceKind::Inferred)
    };
    if after.state.is_none() {
        after.state = before.state;
        after.deprecation = after.deprecation.or_else(|| before.deprecation.clone());
    } else if matches!(after.state, Some(State::Deprecated | State::Retired)) {
        after.deprecation = after.deprecation.or_else(|| before.deprecation.clone());
    }
    after.partitions = after.partitions.or(before.partitions);
    after.schema = after.schema.or_else(|| before.schema.clone());
    after.key_schema = after.key_schema.or_else(|| before.key_schema.clone());
    if after.owner.is_empty() && is_inferred("owner") {
        after.owner.clone_from(&before.owner);
    }
    if after.description.is_empty() && is_inferred("description") {
        after.description.clone_from(&before.description);
    }
    if after.classification.is_none() && is_inferred("classification") {
        after.classification = before.classification;
    }
    if after.settings.retention_age.is_none() && is_inferred("settings.retention_age") {
        after.settings.retention_age = before.settings.retention_age;
    }
    after
}

/// Asks the broker whether the schemas say something else, and whether they may follow.
async fn schemas(
    catalog: &Catalog,
    before: &Product,
    after: &mut Product,
    found: &Found,
    plan: &mut Plan,
    step: &mut Step,
) -> Result<()> {
    let mut request = proto::AddSchemaVersionRequest {
        product: after.name.clone(),
        value_schema: after.schema.as_ref().map(Schema::wire),
        key_schema: after.key_schema.as_ref().map(Schema::wire),
        etag: found.product.etag.clone(),
        validate_only: true,
    };
    match catalog.add_schema_version(request.clone()).await {
        // Written otherwise, and the same to the broker.
        Ok(version) if version.version == found.version.version => {
            after.schema.clone_from(&before.schema);
            after.key_schema.clone_from(&before.key_schema);
        }
        Ok(version) => {
            for field in schema::field_differences(&found.version.fields, &version.fields) {
                step.lines.push(field);
            }
            step.remarks.push(format!("schema version {}", version.version));
            request.validate_only = false;
            request.etag.clear();
            step.work.push(Work::AddSchema(Box::new(request)));
        }
        Err(error) => {
            let failure = Failure::from(error);
            if failure.exit() == crate::exit::Exit::Unavailable {
                return Err(failure);
            }
            plan.problems.push(Problem::of(&step.title(), &failure));
        }
    }
    Ok(())
}

/// Offers the product to its new owner, unless it waits for that team already.
fn transfer(before: &Product, after: &mut Product, product: &proto::Product, step: &mut Step) {
    let waits = product.pending_transfer.as_ref().map(|pending| &*pending.new_owner);
    let accept = format!("`meshlog product accept {} {}`", after.name, after.owner);
    if waits == Some(&*after.owner) {
        step.remarks.push(format!("offered to {}, which accepts with {accept}", after.owner));
    } else {
        step.lines.push(Line::Changed(
            "owner".into(),
            before.owner.clone(),
            format!("{}, when it accepts: {accept}", after.owner),
        ));
        let reason = match after.managed_by.as_str() {
            "" => "a file says so".to_owned(),
            by => format!("the file `{by}` says so"),
        };
        step.change(Work::Transfer(proto::TransferProductRequest {
            name: after.name.clone(),
            new_owner: after.owner.clone(),
            reason,
            ..proto::TransferProductRequest::default()
        }));
    }
    after.owner.clone_from(&before.owner);
}

/// The steps of life from one state to another.
fn change_state(
    from: State,
    to: State,
    deprecation: Option<&Deprecation>,
    after: &Product,
    plan: &mut Plan,
    step: &mut Step,
) -> Result<()> {
    let name = &after.name;
    let deprecate = |step: &mut Step, plan: &mut Plan| -> Result<()> {
        let Some(why) = &after.deprecation else {
            plan.problems.push(Problem::conflict(format!(
                "product {name}: those who use it are told why it ends; write `deprecation: \
                 {{reason: TEXT}}`"
            )));
            return Ok(());
        };
        step.late.push(Work::Deprecate(proto::DeprecateProductRequest {
            name: name.clone(),
            reason: why.reason.clone(),
            successor: why.successor.clone(),
            sunset_time: why.sunset_wire(name)?,
            ..proto::DeprecateProductRequest::default()
        }));
        Ok(())
    };
    let is_said_anew = after.deprecation.as_ref() != deprecation;
    match (from, to) {
        (State::Deprecated, State::Deprecated) if is_said_anew => {
            step.late.push(Work::Activate(name.clone()));
            deprecate(step, plan)?;
        }
        (from, to) if from == to && !(is_said_anew && to == State::Retired) => {}
        (State::Draft | State::Deprecated, State::Active) => {
            step.work.push(Work::Activate(name.clone()));
        }
        (State::Draft | State::Active, State::Deprecated) => deprecate(step, plan)?,
        (State::Draft | State::Active, State::Retired) => {
            deprecate(step, plan)?;
            step.late.push(Work::Retire(name.clone()));
        }
        (State::Deprecated, State::Retired) => step.late.push(Work::Retire(name.clone())),
        (from, to) => {
            let (from, to) = (word(from), word(to));
            plan.problems.push(Problem::conflict(match from == to {
                true => format!("product {name}: it is retired, and why stays as it was said"),
                false => format!(
                    "product {name}: it is {from} and cannot become {to}; write `state: {from}`, \
                     or leave the state out"
                ),
            }));
        }
    }
    Ok(())
}

fn word(state: State) -> String {
    output::value(&state).map(|value| output::plain(&value)).unwrap_or_default()
}

/// The paths of an update that makes the one out of the other.
fn changed(before: &Product, after: &Product) -> Vec<String> {
    let (was, is) = (&before.settings, &after.settings);
    let tags = before.tags == after.tags && before.field_tags == after.field_tags;
    let same = [
        ("description", before.description == after.description),
        ("classification", before.classification == after.classification),
        ("kind", before.kind == after.kind),
        ("tags", tags),
        ("rules", before.rules == after.rules),
        ("docs", before.docs == after.docs),
        ("links", before.links == after.links),
        ("support", before.support == after.support),
        ("inputs", before.inputs == after.inputs),
        ("managed_by", before.managed_by == after.managed_by),
        ("settings.enforcement", was.enforcement == is.enforcement),
        ("settings.minimum_durability", was.minimum_durability == is.minimum_durability),
        ("settings.retention_age", was.retention_age == is.retention_age),
        ("settings.retention_bytes", was.retention_bytes == is.retention_bytes),
        ("settings.retention_count", was.retention_count == is.retention_count),
        ("settings.compaction", was.compaction == is.compaction),
        ("settings.compatibility", was.compatibility == is.compatibility),
        ("settings.protobuf_profile", was.protobuf_profile == is.protobuf_profile),
        ("settings.on_fail", was.on_fail == is.on_fail),
        ("settings.framing", was.framing == is.framing),
    ];
    same.iter().filter(|(_, same)| !same).map(|(path, _)| (*path).to_owned()).collect()
}

/// Says of each value that differs and was not set by a file who set it, and when.
fn remark_drift(
    mask: &[String],
    before: &Product,
    after: &Product,
    product: &proto::Product,
    step: &mut Step,
) {
    if after.managed_by.is_empty() || before.managed_by != after.managed_by {
        return;
    }
    for path in mask {
        let about = product.provenance.iter().filter(|known| match path.as_str() {
            "tags" => known.path.starts_with("tags["),
            "rules" => known.path.starts_with("rules["),
            path => known.path == path,
        });
        let by_hand = about.filter(|known| known.kind() == proto::ProvenanceKind::Declared);
        let newest = by_hand.max_by_key(|known| {
            known.time.map(|time| (time.seconds, time.nanos)).unwrap_or_default()
        });
        if let Some(known) = newest {
            step.remarks.push(format!(
                "{path} was changed by {} at {}, not by the file",
                known.principal,
                words::when(words::time(known.time))
            ));
        }
    }
}

/// As the plan shows it: a schema by its fingerprint, a tag with its field.
fn shown(product: &Product) -> Result<Value> {
    let mut value = output::value(product)?;
    if let Value::Object(members) = &mut value {
        let of_fields = product.field_tags.iter();
        let of_fields = of_fields
            .flat_map(|(path, tags)| tags.iter().map(move |tag| format!("{path}:{tag}").into()));
        members.insert("field_tags".into(), Value::Array(of_fields.collect()));
        let rules = product.rules.iter().map(|rule| {
            let disabled = if rule.disabled { " (disabled)" } else { "" };
            Value::from(format!("{}{disabled}: {} — {}", rule.name, rule.expression, rule.message))
        });
        members.insert("rules".into(), Value::Array(rules.collect()));
        let links = product.links.iter();
        let links = links.map(|link| Value::from(format!("{}={}", link.title, link.url)));
        members.insert("links".into(), Value::Array(links.collect()));
        for (name, schema) in [("schema", &product.schema), ("key_schema", &product.key_schema)] {
            if let Some(schema) = schema {
                members.insert(name.into(), fingerprint(schema).into());
            }
        }
    }
    Ok(value)
}

/// A schema in a few words.
fn fingerprint(schema: &Schema) -> String {
    let format = schema.format.map_or(0, Format::wire);
    let format = format_word(proto::SchemaFormat::try_from(format).unwrap_or_default());
    if schema.format == Some(Format::Opaque) {
        return format!("{format} {}: {}", schema.media_type, schema.reason);
    }
    let digest: [u8; 32] = Sha256::digest(schema.text.as_bytes()).into();
    let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    match schema.message.as_str() {
        "" => format!("{format} {short}"),
        message => format!("{format} {message} {short}"),
    }
}
