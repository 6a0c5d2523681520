//! A large organisation's products, made from word lists: always the same for the same number.

use meshlog_proto::v1;

/// Part of an organisation: its domain, what it deals in, and things with their fields.
struct Area {
    domain: &'static str,
    teams: &'static [&'static str],
    business: &'static [&'static str],
    things: &'static [(&'static str, &'static str, &'static [&'static str])],
}

const AREAS: &[Area] = &[
    Area {
        domain: "sales",
        teams: &["sales-platform", "deal-desk", "crm-core"],
        business: &["what the shops sold", "deals with business customers", "the sales pipeline"],
        things: &[
            ("orders", "order", &["order_id", "customer_id", "amount", "currency", "ordered_at"]),
            ("leads", "prospect", &["lead_id", "email", "score", "campaign", "created_at"]),
            ("quotes", "offer", &["quote_id", "customer_id", "valid_until", "discount"]),
            (
                "contracts",
                "signed contract",
                &["contract_id", "customer_id", "start_date", "end_date"],
            ),
            ("price-lists", "price", &["sku", "price", "currency", "valid_from"]),
            ("territories", "territory", &["territory_id", "manager", "country"]),
        ],
    },
    Area {
        domain: "payments",
        teams: &["payments-core", "treasury", "checkout"],
        business: &["money that moves", "what the acquirers settle", "the checkout"],
        things: &[
            (
                "transactions",
                "card transaction",
                &["transaction_id", "amount", "currency", "card_hash", "merchant_id"],
            ),
            ("refunds", "refund", &["refund_id", "transaction_id", "amount", "reason"]),
            ("chargebacks", "chargeback", &["chargeback_id", "transaction_id", "deadline"]),
            (
                "settlements",
                "settlement",
                &["settlement_id", "acquirer", "net_amount", "settled_at"],
            ),
            ("payouts", "payout", &["payout_id", "iban", "amount", "paid_at"]),
            ("mandates", "direct debit mandate", &["mandate_id", "iban", "signed_at"]),
        ],
    },
    Area {
        domain: "billing",
        teams: &["billing-run", "revenue", "collections"],
        business: &["what customers owe", "the monthly run", "revenue recognition"],
        things: &[
            ("statements", "statement", &["statement_id", "customer_id", "total", "due_date"]),
            ("credit-notes", "credit note", &["note_id", "statement_id", "total", "reason"]),
            (
                "subscriptions",
                "subscription",
                &["subscription_id", "plan", "renewal_date", "customer_id"],
            ),
            ("dunning", "reminder", &["customer_id", "level", "sent_at", "open_amount"]),
            ("usage-records", "metered use", &["subscription_id", "meter", "quantity", "used_at"]),
        ],
    },
    Area {
        domain: "logistics",
        teams: &["fulfilment", "carriers", "last-mile"],
        business: &["goods on their way", "carriers and hubs", "the last mile"],
        things: &[
            (
                "shipments",
                "shipment",
                &["shipment_id", "order_id", "carrier", "weight", "shipped_at"],
            ),
            (
                "deliveries",
                "delivery attempt",
                &["shipment_id", "driver", "delivered_at", "signature"],
            ),
            ("parcels", "parcel", &["parcel_id", "shipment_id", "length", "width", "height"]),
            ("routes", "planned route", &["route_id", "driver", "stops", "distance"]),
            (
                "customs",
                "customs declaration",
                &["declaration_id", "shipment_id", "tariff_code", "value"],
            ),
            ("returns", "returned parcel", &["return_id", "shipment_id", "reason", "received_at"]),
        ],
    },
    Area {
        domain: "inventory",
        teams: &["warehouse-systems", "stock-control"],
        business: &["what lies in the warehouses", "stock and its movements"],
        things: &[
            ("stock-levels", "stock level", &["sku", "warehouse", "quantity", "counted_at"]),
            (
                "movements",
                "stock movement",
                &["movement_id", "sku", "quantity", "from_bin", "to_bin"],
            ),
            (
                "replenishment",
                "replenishment proposal",
                &["sku", "warehouse", "quantity", "needed_by"],
            ),
            ("catalog-items", "article", &["sku", "title", "brand", "ean", "weight"]),
            ("suppliers", "supplier", &["supplier_id", "name", "country", "vat_number"]),
        ],
    },
    Area {
        domain: "people",
        teams: &["hr-systems", "payroll", "talent"],
        business: &["employees and their work", "pay and benefits", "hiring"],
        things: &[
            (
                "employees",
                "employee",
                &["employee_id", "full_name", "email", "birth_date", "department"],
            ),
            ("absences", "absence", &["employee_id", "kind", "first_day", "last_day"]),
            ("payslips", "payslip", &["employee_id", "gross", "net", "month"]),
            (
                "applications",
                "job application",
                &["applicant_id", "vacancy", "cv_text", "applied_at"],
            ),
            ("trainings", "training", &["employee_id", "course", "passed", "valid_until"]),
            ("timesheets", "timesheet", &["employee_id", "project", "hours", "week"]),
        ],
    },
    Area {
        domain: "marketing",
        teams: &["growth", "brand", "crm-campaigns"],
        business: &["campaigns and what they bring", "newsletters", "advertising"],
        things: &[
            ("campaigns", "campaign", &["campaign_id", "channel", "budget", "start_date"]),
            ("newsletter-sends", "newsletter", &["campaign_id", "email", "sent_at", "opened"]),
            ("attribution", "attributed visit", &["visitor_id", "campaign_id", "model", "weight"]),
            ("consents", "marketing consent", &["customer_id", "channel", "granted_at", "source"]),
            ("segments", "customer segment", &["segment_id", "customer_id", "score"]),
        ],
    },
    Area {
        domain: "web",
        teams: &["web-analytics", "storefront"],
        business: &["what visitors do", "the shop in the browser"],
        things: &[
            ("page-views", "page view", &["visitor_id", "url", "referrer", "viewed_at"]),
            ("clicks", "click", &["visitor_id", "element", "url", "clicked_at"]),
            ("sessions", "session", &["session_id", "visitor_id", "device", "started_at"]),
            ("searches", "site search", &["visitor_id", "query", "results", "searched_at"]),
            ("experiments", "experiment exposure", &["experiment", "variant", "visitor_id"]),
            ("cart-events", "cart change", &["visitor_id", "sku", "quantity", "action"]),
        ],
    },
    Area {
        domain: "risk",
        teams: &["fraud-detection", "credit-risk", "compliance"],
        business: &["fraud and credit risk", "rules and scores", "money laundering"],
        things: &[
            ("fraud-alerts", "fraud alert", &["alert_id", "transaction_id", "score", "rule"]),
            ("credit-scores", "credit score", &["customer_id", "score", "bureau", "scored_at"]),
            ("sanctions-hits", "sanctions list hit", &["customer_id", "list", "similarity"]),
            ("exposures", "exposure", &["counterparty", "amount", "limit", "as_of"]),
            ("device-fingerprints", "device fingerprint", &["device_id", "customer_id", "seen_at"]),
        ],
    },
    Area {
        domain: "claims",
        teams: &["claims-handling", "underwriting"],
        business: &["insurance claims", "policies and what they cover"],
        things: &[
            ("notices", "loss notice", &["claim_id", "policy_id", "loss_date", "description"]),
            ("reserves", "claim reserve", &["claim_id", "amount", "set_at"]),
            ("policies", "insurance policy", &["policy_id", "holder", "premium", "valid_from"]),
            ("assessments", "assessor's finding", &["claim_id", "assessor", "damage", "amount"]),
        ],
    },
    Area {
        domain: "clinical",
        teams: &["hospital-integration", "lab-systems"],
        business: &["patients and their treatment", "the laboratory"],
        things: &[
            ("admissions", "admission", &["patient_id", "ward", "admitted_at", "diagnosis"]),
            (
                "lab-results",
                "laboratory result",
                &["patient_id", "test", "value", "unit", "measured_at"],
            ),
            ("prescriptions", "prescription", &["patient_id", "drug", "dose", "prescriber"]),
            ("vitals", "vital sign", &["patient_id", "pulse", "temperature", "measured_at"]),
            ("appointments", "appointment", &["patient_id", "clinic", "scheduled_at"]),
        ],
    },
    Area {
        domain: "factory",
        teams: &["line-automation", "quality", "maintenance-crew"],
        business: &["production lines", "quality of what is made", "machines and their upkeep"],
        things: &[
            ("machine-states", "machine state", &["machine_id", "state", "since", "line"]),
            (
                "sensor-readings",
                "sensor reading",
                &["sensor_id", "temperature", "vibration", "measured_at"],
            ),
            (
                "work-orders",
                "work order",
                &["work_order_id", "machine_id", "planned_start", "status"],
            ),
            ("inspections", "quality inspection", &["batch_id", "inspector", "defects", "passed"]),
            ("downtimes", "downtime", &["machine_id", "cause", "minutes", "began_at"]),
        ],
    },
    Area {
        domain: "energy",
        teams: &["grid-operations", "metering"],
        business: &["the power grid", "meters and tariffs"],
        things: &[
            ("meter-readings", "meter reading", &["meter_id", "kilowatt_hours", "read_at"]),
            ("outages", "outage", &["outage_id", "substation", "began_at", "households"]),
            ("load-forecasts", "load forecast", &["zone", "megawatts", "for_hour"]),
            ("tariffs", "tariff", &["tariff_id", "price", "valid_from"]),
        ],
    },
    Area {
        domain: "telecom",
        teams: &["core-network", "customer-network"],
        business: &["calls and data", "cells and towers"],
        things: &[
            ("call-records", "call", &["caller_hash", "callee_hash", "seconds", "cell_id"]),
            ("cell-load", "cell load", &["cell_id", "utilisation", "users", "measured_at"]),
            ("sim-swaps", "SIM swap", &["subscriber_id", "old_sim", "new_sim", "swapped_at"]),
            ("roaming", "roaming session", &["subscriber_id", "country", "megabytes"]),
            ("tickets", "fault ticket", &["ticket_id", "cell_id", "severity", "opened_at"]),
        ],
    },
    Area {
        domain: "support",
        teams: &["service-desk", "self-service"],
        business: &["customers who ask for help", "the service desk"],
        things: &[
            ("cases", "support case", &["case_id", "customer_id", "subject", "opened_at"]),
            ("chats", "chat message", &["chat_id", "customer_id", "text", "sent_at"]),
            ("satisfaction", "survey answer", &["case_id", "score", "comment"]),
            ("calls", "phone call", &["call_id", "agent", "seconds", "queue"]),
            ("articles", "help article", &["article_id", "title", "views"]),
        ],
    },
    Area {
        domain: "infra",
        teams: &["platform", "observability", "security-operations"],
        business: &["machines in the data centre", "logs and metrics", "who logs in where"],
        things: &[
            ("deployments", "deployment", &["service", "version", "deployed_at", "commit"]),
            ("incidents", "incident", &["incident_id", "service", "severity", "began_at"]),
            ("logins", "login", &["user", "ip_address", "succeeded", "logged_in_at"]),
            ("host-metrics", "host metric", &["host", "cpu", "memory", "measured_at"]),
            ("certificates", "certificate", &["common_name", "expires_at", "issuer"]),
            ("backups", "backup run", &["host", "bytes", "finished_at"]),
        ],
    },
];

const QUALIFIERS: &[&str] = &[
    "",
    "raw",
    "clean",
    "enriched",
    "european",
    "american",
    "asian",
    "nordic",
    "retail",
    "wholesale",
    "online",
    "partner",
    "legacy",
    "internal",
    "external",
    "validated",
    "archived",
    "open",
    "late",
    "duplicate",
    "corporate",
    "private",
    "seasonal",
    "regional",
];
const STAGES: &[&str] = &[
    "",
    "daily",
    "hourly",
    "events",
    "snapshot",
    "summary",
    "history",
    "changes",
    "by-country",
    "v2",
    "forecast",
    "corrections",
];
const SENTENCES: &[&str] = &[
    "Every {thing}, as it is recorded.",
    "One record per {thing}, for {business}.",
    "Each {thing} with its times, kept for {business}.",
    "The {qualifier} {thing} stream behind the {stage} report.",
    "Changes of every {thing} since the system {system} was introduced.",
    "{business}: one {thing} per record, delivered by {system}.",
];
const USES: &[&str] = &[
    "Read by the {stage} dashboard of {business}.",
    "Finance closes the month with it.",
    "Joins with the {domain} calendar by day.",
    "Fed by {system}; late records come within a day.",
    "Nothing is corrected here, see the corrections product.",
    "Ask {team} before using it for forecasts.",
];
const SYLLABLES: &[&str] = &[
    "ba", "cor", "den", "fi", "gal", "hu", "jo", "kel", "lum", "mar", "nex", "or", "pru", "quin",
    "ral", "sov", "tam", "ul", "ven", "wex", "yor", "zan",
];
const TAGS: &[&str] = &[
    "gold",
    "certified",
    "experimental",
    "source=sap",
    "source=oracle",
    "source=kafka",
    "region=emea",
    "region=apac",
    "region=amer",
    "tier=1",
    "tier=2",
    "tier=3",
    "retention=7y",
];
const PERSONAL: &[&str] = &[
    "email",
    "full_name",
    "birth_date",
    "iban",
    "ip_address",
    "cv_text",
    "patient_id",
    "signature",
];

/// Keys of the tags that the generated products have, with whether they take a value.
pub const MESH_TAG_KEYS: &[(&str, bool)] = &[
    ("gold", false),
    ("certified", false),
    ("experimental", false),
    ("source", true),
    ("region", true),
    ("tier", true),
    ("retention", true),
    ("pii", false),
];

/// Requests for `count` products in sixteen business domains, at most 100,000; the first ones bring
/// domains and teams along.
pub fn generated_mesh(count: usize) -> impl Iterator<Item = v1::CreateProductRequest> {
    (0..count).map(generated)
}

fn generated(number: usize) -> v1::CreateProductRequest {
    let area = &AREAS[number % AREAS.len()];
    // Every name once: the number counts through all combinations.
    let mut rest = number / AREAS.len();
    let mut pick = |from: usize| {
        let at = rest % from;
        rest /= from;
        at
    };
    let (thing, noun, fields) = area.things[pick(area.things.len())];
    let stage = STAGES[pick(STAGES.len())];
    let qualifier = QUALIFIERS[pick(QUALIFIERS.len())];
    let wave = rest;
    let mut random = Random(number as u64);
    let system = random.system();
    let wave_name = if wave == 0 { String::new() } else { random.system() + &wave.to_string() };
    let parts = [qualifier, thing, stage, &wave_name];
    let name: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let name = format!("{}.{}", area.domain, name.join("-"));
    let team = random.of(area.teams);
    let fill = |sentence: &str, random: &mut Random| {
        let or = |word: &str, other: &str| {
            if word.is_empty() { other.to_owned() } else { word.replace('-', " ") }
        };
        sentence
            .replace("{thing}", noun)
            .replace("{business}", random.of(area.business))
            .replace("{qualifier}", &or(qualifier, "complete"))
            .replace("{stage}", &or(stage, "weekly"))
            .replace("{system}", &system)
            .replace("{domain}", area.domain)
            .replace("{team}", team)
    };
    let sentence = random.of(SENTENCES);
    let description = fill(sentence, &mut random);
    let docs: Vec<String> = (0..random.below(4))
        .map(|_| {
            let sentence = random.of(USES);
            fill(sentence, &mut random)
        })
        .collect();
    let mut tags: Vec<v1::Tag> = Vec::new();
    for _ in 0..random.below(4) {
        let text = random.of(TAGS);
        let (key, value) =
            text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
        if tags.iter().all(|tag| tag.key != key) {
            tags.push(tag(key, value, ""));
        }
    }
    let personal = fields.iter().filter(|field| PERSONAL.contains(field));
    tags.extend(personal.map(|field| tag("pii", None, field)));
    let classification = 1 + random.below(4) as i32;
    let (first, _) = area.teams.split_first().expect("an area has a team");
    v1::CreateProductRequest {
        product: Some(v1::Product {
            name,
            owner: team.to_owned(),
            description,
            classification,
            docs: docs.join(" "),
            tags,
            ..v1::Product::default()
        }),
        value_schema: Some(schema(noun, fields)),
        new_domain: Some(v1::Domain { owner: (*first).to_owned(), ..v1::Domain::default() }),
        new_team: Some(v1::Team {
            name: team.to_owned(),
            contacts: vec![format!("{team}@corp.example"), format!("#{team}")],
            ..v1::Team::default()
        }),
        ..v1::CreateProductRequest::default()
    }
}

/// Requests that create the domains and teams alone: products can then be created in any order.
pub fn generated_company() -> Vec<(v1::CreateTeamRequest, Option<v1::CreateDomainRequest>)> {
    let of_area = |area: &'static Area| {
        area.teams.iter().enumerate().map(|(at, team)| {
            let owner = (*team).to_owned();
            let contacts = vec![format!("{team}@corp.example"), format!("#{team}")];
            let team = v1::Team { name: owner.clone(), contacts, ..v1::Team::default() };
            let domain =
                v1::Domain { name: area.domain.to_owned(), owner, ..v1::Domain::default() };
            let domain = v1::CreateDomainRequest { domain: Some(domain), validate_only: false };
            let team = v1::CreateTeamRequest { team: Some(team), validate_only: false };
            (team, (at == 0).then_some(domain))
        })
    };
    AREAS.iter().flat_map(of_area).collect()
}

fn tag(key: &str, value: Option<&str>, field: &str) -> v1::Tag {
    v1::Tag { key: key.to_owned(), value: value.map(str::to_owned), field_path: field.to_owned() }
}

fn schema(noun: &str, fields: &[&str]) -> v1::SchemaSource {
    let field = |name: &&str| {
        let words = name.replace('_', " ");
        format!(
            r#""{name}": {{"type": ["string", "number", "null"], "description": "The {words} of the {noun}."}}"#
        )
    };
    let fields: Vec<String> = fields.iter().map(field).collect();
    v1::SchemaSource {
        format: v1::SchemaFormat::JsonSchema.into(),
        text: format!(
            r#"{{"title": "{noun}", "type": "object", "properties": {{{}}}}}"#,
            fields.join(", ")
        ),
        ..v1::SchemaSource::default()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A name that a system might have.
    fn system(&mut self) -> String {
        (0..3).map(|_| self.of(SYLLABLES)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_always_the_same() {
        let names: HashSet<String> = generated_mesh(100_000)
            .map(|request| request.product.expect("a request has a product").name)
            .collect();
        assert_eq!(names.len(), 100_000);
        assert!(names.contains("sales.orders"));
    }
}
