use axum::extract::Path;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::*;
use crate::aggregates::ids::LeadId;
use crate::api::headers::IfMatch;
use crate::api::list::{Field, Kind};
use crate::api::page::Page;
use crate::api::{Json, Problem};

#[derive(Serialize, ToSchema)]
struct Lead {
    id: LeadId,
    #[schema(examples(3))]
    version: u64,
    #[schema(examples("Grace Hopper"))]
    name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewLead {
    #[schema(examples("Grace Hopper"))]
    name: String,
}

#[utoipa::path(get, path = "/api/leads", responses((status = 200, description = "A page", body = Page<Lead>)))]
async fn list() -> Page<Lead> {
    Page::whole(Vec::new())
}

#[utoipa::path(post, path = "/api/leads", responses((status = 201, description = "Captured", body = Lead)))]
async fn create(Json(lead): Json<NewLead>) -> Json<Lead> {
    Json(Lead { id: LeadId(0), version: 1, name: lead.name })
}

#[utoipa::path(patch, path = "/api/leads/{id}", params(("id" = LeadId, Path), IfMatch),
    responses((status = 200, description = "Changed", body = Lead), (status = 409, description = "It is closed")))]
async fn change(Path(id): Path<LeadId>, Json(lead): Json<NewLead>) -> Result<Json<Lead>, Problem> {
    Ok(Json(Lead { id, version: 2, name: lead.name }))
}

mod auth {
    #[utoipa::path(post, path = "/api/auth/logout", security(()), responses((status = 204, description = "Out")))]
    pub async fn list() {}
}

static FIELDS: &[Field] = &[
    Field::new("stage", Kind::Enum(&["new", "won"])),
    Field::new("updated_at", Kind::Timestamp).not_null(),
    Field::new("secret", Kind::Text).sort_only(),
];
static LEADS: ListSpec = ListSpec { search: &["name"], ..ListSpec::new("leads", FIELDS) };

fn document() -> Value {
    let router: OpenApiRouter =
        OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(change)).routes(routes!(auth::list));
    let mut document = complete(&router.into_openapi(), &[("/api/leads", &LEADS)]).unwrap();
    let components = document["components"].clone();
    resolve(&mut document["paths"], &components);
    document
}

/// Puts the shared headers, responses and parameters back to where they are referred to.
fn resolve(value: &mut Value, components: &Value) {
    if let Some(place) = value.get("$ref").and_then(Value::as_str).and_then(|place| place.strip_prefix("#/components/"))
    {
        let (section, name) = place.split_once('/').unwrap();
        if section != "schemas" {
            *value = components[section][name].clone();
        }
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| resolve(member, components)),
        Value::Array(items) => items.iter_mut().for_each(|item| resolve(item, components)),
        _ => {}
    }
}

fn statuses(operation: &Value) -> Vec<&str> {
    operation["responses"].as_object().unwrap().keys().map(String::as_str).collect()
}

fn parameters(operation: &Value) -> Vec<&str> {
    operation["parameters"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn an_operation_can_answer_with_what_follows_from_it() {
    let document = document();
    let paths = &document["paths"];
    assert_eq!(statuses(&paths["/api/leads"]["get"]), ["200", "400", "401", "403", "422", "429", "500", "503"]);
    assert_eq!(
        statuses(&paths["/api/leads/{id}"]["patch"]),
        ["200", "202", "400", "401", "403", "404", "409", "412", "413", "415", "422", "429", "500", "503"]
    );
    assert_eq!(statuses(&paths["/api/auth/logout"]["post"]), ["204", "400", "409", "422", "429", "500", "503"]);
}

#[test]
fn what_a_handler_says_is_kept() {
    let conflict = &document()["paths"]["/api/leads/{id}"]["patch"]["responses"]["409"];
    assert_eq!(conflict["description"], "It is closed");
    assert_eq!(conflict["content"]["application/problem+json"]["schema"]["$ref"], "#/components/schemas/Problem");
}

#[test]
fn a_list_offers_what_its_specification_does() {
    let document = document();
    assert_eq!(
        parameters(&document["paths"]["/api/leads"]["get"]),
        [
            "stage",
            "stage[ne]",
            "stage[in]",
            "updated_at",
            "updated_at[ne]",
            "updated_at[in]",
            "updated_at[gt]",
            "updated_at[gte]",
            "updated_at[lt]",
            "updated_at[lte]",
            "q",
            "sort",
            "limit",
            "cursor",
            "count",
            "DevHub-Min-Position"
        ]
    );
}

#[test]
fn writes_have_their_headers() {
    let document = document();
    let patch = &document["paths"]["/api/leads/{id}"]["patch"];
    assert_eq!(parameters(patch), ["id", "Idempotency-Key", "If-Match"]);
    for name in ["ETag", "DevHub-Position", "request-id", "RateLimit"] {
        assert!(patch["responses"]["200"]["headers"][name].is_object(), "{name}");
    }
    assert!(document["paths"]["/api/leads"]["post"]["responses"]["201"]["headers"]["Location"].is_object());
    assert_eq!(parameters(&document["paths"]["/api/auth/logout"]["post"]), ["Idempotency-Key"]);
}

#[test]
fn every_body_has_an_example() {
    let document = document();
    let lead = json!({"id": "LED-007", "version": 3, "name": "Grace Hopper"});
    let leads = &document["paths"]["/api/leads"];
    assert_eq!(leads["post"]["responses"]["201"]["content"]["application/json"]["example"], lead);
    assert_eq!(leads["post"]["requestBody"]["content"]["application/json"]["example"], json!({"name": "Grace Hopper"}));
    assert_eq!(leads["get"]["responses"]["200"]["content"]["application/json"]["example"]["data"], json!([lead]));
    let denied = &leads["post"]["responses"]["403"]["content"]["application/problem+json"]["examples"];
    assert_eq!(denied["permission_denied"]["value"]["permission"], "leads:convert");
}

#[test]
fn ids_are_unique_and_tags_are_there() {
    let document = document();
    let paths = &document["paths"];
    assert_eq!(paths["/api/leads"]["get"]["operationId"], "get_leads");
    assert_eq!(paths["/api/auth/logout"]["post"]["operationId"], "post_auth_logout");
    assert_eq!(paths["/api/leads"]["post"]["operationId"], "create");
    assert_eq!(document["tags"], json!([{"name": "auth"}, {"name": "leads"}]));
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(elements) => elements.iter().for_each(|element| references(element, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.contains(&"#/components/schemas/Problem".to_owned()));
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

#[test]
fn the_document_is_the_same_every_time() {
    assert_eq!(render(&document()).unwrap(), render(&document()).unwrap());
}
