//! What requests about rollouts ask for: JSON and parameters in, the types of `rollout::control` out.
//!
//! Every mistake is one sentence that names the key. Whether there is such a filter, and whether its
//! new version and the name of that can be used, is not known here.

use super::paths::decoded;
use crate::rollout::control::{Back, ChainChange, Change, FilterChange, RolloutId};
use crate::rollout::words::{check_steps, parse_step, parse_steps, parse_sticky};
use crate::rollout::{Plan, Step};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

/// Parameters of `POST /filters/NAME/next`.
const PARAMETERS: [&str; 3] = ["steps", "sticky", "version"];

/// `POST /rollout`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    #[serde(default)]
    filters: BTreeMap<String, StartFilter>,
    #[serde(default)]
    chains: Vec<StartChain>,
    steps: Option<Vec<String>>,
    sticky: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartFilter {
    config: Value,
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartChain {
    listener: String,
    route: String,
    chain: Vec<String>,
}

/// `POST /rollout/promote`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promote {
    rollout: Option<u64>,
}

/// `POST /rollback`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Return {
    generation: Option<u64>,
    filter: Option<String>,
}

/// A change of configurations and chains, and its plan: `plan` where the body does not say.
pub(super) fn start(body: &[u8], plan: Plan) -> Result<(Change, Plan), String> {
    if body.is_empty() {
        return Err("the body is empty: say in JSON which `filters` or `chains` to try".to_owned());
    }
    let Start { filters, chains, steps, sticky } = from_json(body)?;
    if filters.is_empty() && chains.is_empty() {
        return Err("there is nothing to try: name `filters` or `chains`".to_owned());
    }
    let filters = filters
        .into_iter()
        .map(|(filter, StartFilter { config, version })| FilterChange {
            filter,
            component: None,
            version,
            config: Some(config),
        })
        .collect();
    let chains = chains
        .into_iter()
        .map(|StartChain { listener, route, chain }| ChainChange { listener, route, chain })
        .collect();
    let steps = steps.map(|steps| steps_of(&steps)).transpose()?;
    Ok((Change { filters, chains }, planned(plan, steps, sticky.as_deref())?))
}

/// A next version of the filter `filter`, and its plan: `plan` where the query does not say.
pub(super) fn start_filter(
    filter: String,
    query: Option<&str>,
    component: Bytes,
    plan: Plan,
) -> Result<(Change, Plan), String> {
    if component.is_empty() {
        return Err("the body is empty: it has to be the component".to_owned());
    }
    let mut parameters = parameters(query.unwrap_or_default())?;
    let version = parameters.remove("version");
    let steps = parameters
        .remove("steps")
        .map(|text| parse_steps(&text).map_err(|problem| format!("`steps`: {problem}")));
    let plan = planned(plan, steps.transpose()?, parameters.get("sticky").map(String::as_str))?;
    let component = Some(component);
    let filters = vec![FilterChange { filter, component, version, config: None }];
    Ok((Change { filters, chains: Vec::new() }, plan))
}

/// The rollout to promote, if the body names one.
pub(super) fn promote(body: &[u8]) -> Result<Option<RolloutId>, String> {
    let Promote { rollout } = from_json_or_nothing(body)?;
    Ok(rollout.map(RolloutId))
}

/// What to return to.
pub(super) fn back(body: &[u8]) -> Result<Back, String> {
    match from_json_or_nothing(body)? {
        Return { generation: None, filter: None } => Ok(Back::Previous),
        Return { generation: Some(generation), filter: None } => Ok(Back::Generation(generation)),
        Return { generation: None, filter: Some(filter) } => Ok(Back::Filter(filter)),
        Return { generation: Some(_), filter: Some(_) } => {
            Err("both `generation` and `filter` are named: name one of them".to_owned())
        }
    }
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the body cannot be used: {error}"))
}

fn from_json_or_nothing<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, String> {
    if body.is_empty() { Ok(T::default()) } else { from_json(body) }
}

fn steps_of(texts: &[String]) -> Result<Vec<Step>, String> {
    let said = |index: usize, problem| format!("`steps[{index}]`: {problem}");
    let steps = texts.iter().enumerate();
    let steps: Vec<Step> = steps
        .map(|(index, text)| parse_step(text).map_err(|problem| said(index, problem)))
        .collect::<Result<_, _>>()?;
    check_steps(&steps).map_err(|(index, problem)| said(index, problem))?;
    Ok(steps)
}

fn planned(plan: Plan, steps: Option<Vec<Step>>, sticky: Option<&str>) -> Result<Plan, String> {
    let sticky = sticky.map(parse_sticky).transpose();
    let sticky = sticky.map_err(|problem| format!("`sticky`: {problem}"))?;
    Ok(Plan { steps: steps.unwrap_or(plan.steps), sticky: sticky.unwrap_or(plan.sticky), ..plan })
}

/// The parameters of a query, each one known and there once.
fn parameters(query: &str) -> Result<BTreeMap<&'static str, String>, String> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let shown = name.escape_debug();
        let Some(known) = PARAMETERS.iter().find(|known| **known == name) else {
            let known = PARAMETERS.map(|known| format!("`{known}`")).join(", ");
            return Err(format!("there is no parameter `{shown}`; there are {known}"));
        };
        // Forms write a blank as `+`, others as `%20`.
        let value = decoded(&value.replace('+', " "))
            .ok_or_else(|| format!("the value of `{shown}` is no percent-encoded text"))?;
        if parameters.insert(*known, value).is_some() {
            return Err(format!("the parameter `{shown}` is there twice"));
        }
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::Sticky;
    use serde_json::json;

    fn said(plan: &Plan) -> String {
        plan.steps.iter().map(Step::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_component_comes_with_its_plan_in_the_query() {
        let component = Bytes::from_static(b"\0asm");
        let query = "steps=shadow%2010m,canary+5%25,full&sticky=header:x-user&version=v2";
        let plan = Plan::default();
        let (change, plan) =
            start_filter("limit".into(), Some(query), component.clone(), plan).unwrap();
        assert_eq!(said(&plan), "shadow 10m, canary 5%, full");
        assert_eq!(plan.sticky, Sticky::Header("x-user".parse().unwrap()));
        let filter = FilterChange {
            filter: "limit".into(),
            component: Some(component.clone()),
            version: Some("v2".into()),
            config: None,
        };
        assert_eq!(change, Change { filters: vec![filter], chains: Vec::new() });
        for query in [None, Some(""), Some("&")] {
            let plan = Plan { sticky: Sticky::Random, ..Plan::default() };
            let asked = start_filter("limit".into(), query, component.clone(), plan.clone());
            let (change, same) = asked.unwrap();
            assert_eq!((same, &change.filters[0].version), (plan, &None));
        }
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (query, message) in [
            ("stesp=full", "there is no parameter `stesp`; there are `steps`, `sticky`, `version`"),
            ("steps=full&steps=full", "the parameter `steps` is there twice"),
            ("steps=%zz", "the value of `steps` is no percent-encoded text"),
            ("steps=canary", "`steps`: `canary` has no share; write one"),
            ("sticky=cookie", "`sticky`: requests cannot be sticky by `cookie`; write"),
        ] {
            let asked =
                start_filter("x".into(), Some(query), Bytes::from_static(b"x"), Plan::default());
            let error = asked.unwrap_err();
            assert!(error.starts_with(message), "{query}: {error}");
        }
        let asked = start_filter("x".into(), None, Bytes::new(), Plan::default());
        assert_eq!(asked.unwrap_err(), "the body is empty: it has to be the component");
    }

    #[test]
    fn configurations_and_chains_are_json() {
        let body = json!({
            "filters": { "limit": { "config": { "key": "client" }, "version": "v2" } },
            "chains": [{ "listener": "in", "route": "all", "chain": ["trace", "limit"] }],
            "steps": ["canary 5% 10m", "full"],
            "sticky": "random",
        });
        let (change, plan) = start(body.to_string().as_bytes(), Plan::default()).unwrap();
        assert_eq!((said(&plan).as_str(), &plan.sticky), ("canary 5% 10m, full", &Sticky::Random));
        let filter = FilterChange {
            filter: "limit".into(),
            component: None,
            version: Some("v2".into()),
            config: Some(json!({ "key": "client" })),
        };
        let chain = ChainChange {
            listener: "in".into(),
            route: "all".into(),
            chain: vec!["trace".into(), "limit".into()],
        };
        assert_eq!(change, Change { filters: vec![filter], chains: vec![chain] });
        let body = br#"{"filters": {"limit": {"config": {}}}}"#;
        assert_eq!(start(body, Plan::default()).unwrap().1, Plan::default());
    }

    #[test]
    fn what_is_wrong_with_a_body_is_named() {
        let empty = "the body is empty: say in JSON which `filters` or `chains` to try";
        let nothing = "there is nothing to try: name `filters` or `chains`";
        for (body, message) in [
            ("", empty),
            ("{}", nothing),
            (r#"{"filters": {}, "chains": []}"#, nothing),
            (r#"{"fitlers": {}}"#, "the body cannot be used: unknown field `fitlers`, expected"),
            (r#"{"filters": {"a": {}}}"#, "the body cannot be used: missing field `config`"),
            (r#"{"filters": {"a": {"source": 1}}}"#, "the body cannot be used: unknown field `so"),
            (
                r#"{"filters": {"a": {"config": {}}}, "steps": ["shadow", "canary"]}"#,
                "`steps[1]`: `canary` has no share",
            ),
            (
                r#"{"filters": {"a": {"config": {}}}, "steps": ["shadow"]}"#,
                "`steps[0]`: `shadow` is the last step",
            ),
            ("{", "the body cannot be used: EOF"),
            ("[1", "the body cannot be used: "),
            ("{} {}", "the body cannot be used: trailing characters"),
        ] {
            let error = start(body.as_bytes(), Plan::default()).unwrap_err();
            assert!(error.starts_with(message), "{body}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(start(deep.as_bytes(), Plan::default()).is_err(), "without a deep stack");
    }

    #[test]
    fn a_return_names_one_thing_or_nothing() {
        for (body, wanted) in [
            ("", Back::Previous),
            ("{}", Back::Previous),
            (r#"{"generation": 7}"#, Back::Generation(7)),
            (r#"{"filter": "limit"}"#, Back::Filter("limit".into())),
        ] {
            assert_eq!(back(body.as_bytes()), Ok(wanted), "{body}");
        }
        for (body, message) in [
            (r#"{"generation": 7, "filter": "limit"}"#, "both `generation` and `filter`"),
            (r#"{"generation": -7}"#, "the body cannot be used: invalid value"),
            (r#"{"genration": 7}"#, "the body cannot be used: unknown field `genration`"),
        ] {
            assert!(back(body.as_bytes()).unwrap_err().starts_with(message), "{body}");
        }
    }

    #[test]
    fn a_promotion_may_name_its_rollout() {
        assert_eq!(promote(b""), Ok(None));
        assert_eq!(promote(b"{}"), Ok(None));
        assert_eq!(promote(br#"{"rollout": 3}"#), Ok(Some(RolloutId(3))));
        assert!(promote(br#"{"id": 3}"#).unwrap_err().contains("unknown field `id`"));
    }
}
