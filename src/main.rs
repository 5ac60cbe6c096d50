// SPDX-License-Identifier: GPL-2.0-only
//! The command line.

use clap::{Parser, Subcommand};
use faultline::patch::Revision;
use faultline::recorded::{Recording, Summary};
use faultline::replay::Verdicts;
use faultline::report::{findings, json, matrix::Review, reference, side, trace};
use faultline::scenario::{Scenario, did_you_mean, unknown};
use faultline::{ask, corpus, rules};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "faultline", version, about = "An executable model of Linux userfaultfd on shmem, revision by revision")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Every scenario on every revision: which of them break which promise (the default)
    Review {
        /// Scenario files or folders; without any, the ones that come with faultline
        paths: Vec<PathBuf>,
        /// Revisions, for instance v3,v4 or base..v4
        #[arg(long, value_name = "REVISIONS")]
        patch: Option<String>,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// One scenario on some revisions, results side by side
    Replay {
        /// A scenario file, or the name of one that comes with faultline
        file: String,
        /// Revisions, for instance v3,v4 or base..v4; all of them if not given
        #[arg(long, value_name = "REVISIONS")]
        patch: Option<String>,
        /// The control flow too
        #[arg(long)]
        trace: bool,
        /// For machines
        #[arg(long, conflicts_with = "trace")]
        json: bool,
    },
    /// Sequences recorded on real kernels (JSON lines), judged against the model of the same release
    Recorded {
        /// Recordings
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// A revision instead of the release that the recording names, for instance v6_18
        #[arg(long, value_name = "REVISION")]
        patch: Option<String>,
        /// Only sequences whose name begins like this
        #[arg(long, value_name = "NAME", default_value = "")]
        only: String,
        /// Every difference, not two of a kind
        #[arg(long)]
        all: bool,
        /// The sequences as scenarios instead of judging them
        #[arg(long, conflicts_with_all = ["patch", "all"])]
        convert: bool,
    },
    /// What an ioctl, a load or a store answers: one page in detail, some as a table, or without arguments the whole table
    Ask {
        /// copy, copy-wp, zeropage, continue, continue-wp, poison, writeprotect, unprotect, load, store
        operation: Option<String>,
        /// Mappings: shared, private, anonymous
        #[arg(long, value_name = "MAPPINGS")]
        mapping: Option<String>,
        /// Registrations: none, or missing, wp and minor joined by +
        #[arg(long, value_name = "REGISTRATIONS")]
        registration: Option<String>,
        /// Page states, for instance hole,swapped
        #[arg(long, value_name = "STATES")]
        state: Option<String>,
        /// Kernels: 5.14, 5.19, 6.1, 6.12, 6.18
        #[arg(long, value_name = "KERNELS", conflicts_with = "patch")]
        kernel: Option<String>,
        /// Revisions instead of kernels, for instance v3,v4
        #[arg(long, value_name = "REVISIONS")]
        patch: Option<String>,
        /// Protection of the mapping: rw or r
        #[arg(long, default_value = "rw")]
        protection: String,
        /// Of loads and stores: with UFFD_FEATURE_SIGBUS
        #[arg(long)]
        sigbus: bool,
        /// text, markdown or html
        #[arg(long, default_value = "text")]
        format: String,
        /// The scenarios that were run, with the answers
        #[arg(long, conflicts_with = "format")]
        scenario: bool,
        /// Look for the table's sequences in recordings, and print what the kernels answered (src/ask/confirmed.txt)
        #[arg(long, value_name = "RECORDING", num_args = 1.., exclusive = true)]
        confirm: Vec<PathBuf>,
    },
    /// What there is: revisions, rules, operations, scenarios, remarks
    List {
        /// One of them; without it, all
        what: Option<String>,
    },
    /// A rule, or a remark of the review by its number
    Explain {
        /// For instance blocks-accounted, or F19
        name: String,
    },
}

/// Evidence and claims differ.
const DIFFERS: u8 = 1;
/// The command could not be carried out as given.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = cli.command.unwrap_or(Command::Review { paths: Vec::new(), patch: None, json: false });
    match run(command) {
        Ok((text, code)) => {
            print(&text);
            ExitCode::from(code)
        }
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::from(USAGE)
        }
    }
}

/// To standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

type Answer = Result<(String, u8), String>;

fn run(command: Command) -> Answer {
    match command {
        Command::Review { paths, patch, json } => review(&paths, patch.as_deref(), json),
        Command::Replay { file, patch, trace, json } => replay(&file, patch.as_deref(), trace, json),
        Command::Recorded { files, patch, only, all, convert } => recorded(&files, patch.as_deref(), &only, all, convert),
        Command::Ask {
            operation,
            mapping,
            registration,
            state,
            kernel,
            patch,
            protection,
            sigbus,
            format,
            scenario,
            confirm,
        } => {
            if !confirm.is_empty() {
                return confirmed(&confirm);
            }
            let whole = [&operation, &mapping, &registration, &state].iter().all(|o| o.is_none()) && !sigbus;
            let mut query = ask::Query { sigbus, protection: ask::Protection::from_word(&protection)?, ..ask::Query::default() };
            query.operations = words(operation.as_deref(), query.operations, ask::Operation::from_word)?;
            query.mappings = words(mapping.as_deref(), query.mappings, ask::Mapping::from_word)?;
            query.registrations = words(registration.as_deref(), query.registrations, ask::Registration::from_word)?;
            query.states = words(state.as_deref(), query.states, ask::State::from_word)?;
            query.revisions = words(kernel.as_deref(), query.revisions, ask::kernel_from_word)?;
            if patch.is_some() {
                query.revisions = revisions(patch.as_deref())?;
            }
            answered(&query, whole, scenario, ask::document::Format::from_word(&format)?)
        }
        Command::List { what } => list(what.as_deref()),
        Command::Explain { name } => explain(&name),
    }
}

fn review(paths: &[PathBuf], patch: Option<&str>, as_json: bool) -> Answer {
    let revisions = revisions(patch)?;
    let scenarios = if paths.is_empty() { builtin()? } else { read_all(paths)? };
    if scenarios.is_empty() {
        return Err("error: no scenario found: name a .scn file or a folder that holds some".to_string());
    }
    let review = Review::run(&scenarios, &revisions);
    let code = if review.differs_from_claims() { DIFFERS } else { 0 };
    let text = if as_json { format!("{:#}\n", json::review(&review)) } else { review.render() };
    Ok((text, code))
}

fn replay(file: &str, patch: Option<&str>, with_trace: bool, as_json: bool) -> Answer {
    let revisions = revisions(patch)?;
    let scenario = one(file)?;
    let verdicts: Vec<Verdicts> = revisions.iter().map(|&r| Verdicts::of(&scenario, r, with_trace)).collect();
    let differs = verdicts.iter().zip(&revisions).any(|(v, &r)| {
        use faultline::replay::Judgement::{AsClaimed, Unclaimed};
        !matches!(v.judge(&scenario, r), AsClaimed | Unclaimed)
    });
    let code = if differs { DIFFERS } else { 0 };
    if as_json {
        let all: Vec<_> = verdicts.iter().map(|v| json::verdicts(&scenario, v)).collect();
        return Ok((format!("{:#}\n", serde_json::Value::from(all)), code));
    }
    let mut text = side::render(&scenario, &verdicts);
    if with_trace {
        for v in &verdicts {
            let run = v.telling();
            text.push_str(&format!("\n---- {} ----\n", run.revision));
            text.push_str(&trace::render(run));
        }
    }
    Ok((text, code))
}

fn recorded(files: &[PathBuf], patch: Option<&str>, only: &str, all: bool, convert: bool) -> Answer {
    let mut text = String::new();
    let mut code = 0;
    for path in files {
        let at = |e: String| format!("error: {}: {e}", path.display());
        let content = std::fs::read_to_string(path).map_err(|e| {
            at(if e.kind() == std::io::ErrorKind::InvalidData { "not a text; unpack it first".to_owned() } else { e.to_string() })
        })?;
        let mut recording = Recording::parse(&content).map_err(at)?;
        recording.cases.retain(|c| c.id.starts_with(only));
        if recording.cases.is_empty() {
            return Err(at(format!("no sequence whose name begins with `{only}`")));
        }
        if convert {
            for case in &recording.cases {
                match faultline::recorded::convert(case) {
                    Ok(scenario) => text.push_str(&format!("{scenario}\n")),
                    Err((what, why)) => text.push_str(&format!("# {}: {what}: {why}\n\n", case.id)),
                }
            }
            continue;
        }
        let revision = match (patch, recording.revision()) {
            (Some(_), _) => match revisions(patch)?[..] {
                [one] => one,
                _ => return Err("error: a recording is judged against one revision".to_owned()),
            },
            (None, Some(release)) => release,
            (None, None) => {
                return Err(at("its first line names no kernel that is modelled; choose one with --patch".to_owned()));
            }
        };
        let summary = Summary::of(&recording, revision);
        text.push_str(&format!("{}: Linux {}, {}", path.display(), recording.kernel, summary.print(revision, all)));
        if !summary.differ.is_empty() {
            code = DIFFERS;
        }
    }
    Ok((text, code))
}

/// Words joined by commas, or all there are.
fn words<T>(text: Option<&str>, all: Vec<T>, one: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.map_or(Ok(all), |text| text.split(',').map(|word| one(word.trim())).collect())
}

fn answered(query: &ask::Query, whole: bool, scenario: bool, format: ask::document::Format) -> Answer {
    if query.cells().is_empty() {
        return Err(
            "error: there is no such page: not every page state belongs to every mapping, and UFFD_FEATURE_SIGBUS is of loads \
                    and stores; `faultline ask` without arguments shows all there are"
                .to_owned(),
        );
    }
    let text = match (scenario, whole) {
        (true, _) => ask::document::scenarios(query),
        (false, true) => ask::document::whole(query, format),
        (false, false) => ask::document::some(query, format),
    };
    Ok((text, 0))
}

fn confirmed(files: &[PathBuf]) -> Answer {
    let mut recordings = Vec::new();
    for path in files {
        let at = |e: String| format!("error: {}: {e}", path.display());
        let content = std::fs::read_to_string(path).map_err(|e| at(e.to_string()))?;
        recordings.push(Recording::parse(&content).map_err(at)?);
    }
    let confirmed = ask::confirm::gather(&recordings).map_err(|e| format!("error: {e}"))?;
    Ok((confirmed.print(), 0))
}

fn list(what: Option<&str>) -> Answer {
    const WHAT: [&str; 5] = ["revisions", "rules", "operations", "scenarios", "remarks"];
    let one = |what: &str| -> Result<String, String> {
        Ok(match what {
            "revisions" => reference::revisions(),
            "rules" => reference::rules(),
            "operations" => reference::operations(),
            "scenarios" => reference::scenarios(&builtin()?),
            "remarks" => reference::remarks(),
            other => return Err(unknown("list", other, &WHAT)),
        })
    };
    match what {
        Some(what) => Ok((one(what)?, 0)),
        None => {
            let mut text = String::new();
            for what in WHAT {
                text.push_str(&format!("{}\n\n{}\n", what.to_uppercase(), one(what)?));
            }
            Ok((text, 0))
        }
    }
}

fn explain(name: &str) -> Answer {
    let scenarios = builtin()?;
    if let Some(rule) = rules::by_name(name) {
        return Ok((reference::explain_rule(rule, &scenarios), 0));
    }
    if let Some(remark) = findings::by_id(name) {
        return Ok((reference::explain_remark(remark, &scenarios), 0));
    }
    let known: Vec<&str> = rules::all().iter().map(|r| r.name).chain(findings::ALL.iter().map(|r| r.id)).collect();
    Err(unknown("rule or remark", name, &known))
}

/// `v3,v4`, `base..v4`, `all`.
fn revisions(patch: Option<&str>) -> Result<Vec<Revision>, String> {
    let Some(text) = patch else { return Ok(Revision::series()) };
    let one = |name: &str| {
        let known: Vec<&str> = Revision::ALL.iter().map(|r| r.name()).collect();
        Revision::from_name(name).ok_or_else(|| unknown("revision", name, &known))
    };
    let mut revisions = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        if part == "all" {
            revisions.extend(Revision::ALL);
        } else if let Some((from, to)) = part.split_once("..") {
            let (from, to) = (one(from)?, one(to)?);
            if from > to {
                return Err(format!("error: in `{part}`, {from} is later than {to}; write {to}..{from}"));
            }
            revisions.extend(Revision::ALL.iter().filter(|r| (from..=to).contains(r)));
        } else {
            revisions.push(one(part)?);
        }
    }
    let mut seen = Vec::new();
    revisions.retain(|r| {
        !seen.contains(r) && {
            seen.push(*r);
            true
        }
    });
    if revisions.is_empty() {
        return Err("error: --patch names no revision; `faultline list revisions` shows them".to_string());
    }
    Ok(revisions)
}

/// The scenarios that come with faultline, checked.
fn builtin() -> Result<Vec<Scenario>, String> {
    corpus::builtin().and_then(checked)
}

fn checked(scenarios: Vec<Scenario>) -> Result<Vec<Scenario>, String> {
    for s in &scenarios {
        corpus::check_names(s)?;
    }
    Ok(scenarios)
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Scenario>, String> {
    let mut scenarios = Vec::new();
    for path in paths {
        scenarios.extend(corpus::read(path)?);
    }
    checked(scenarios)
}

/// A file, or a scenario that comes with faultline by its name.
fn one(file: &str) -> Result<Scenario, String> {
    let path = Path::new(file);
    if path.exists() {
        let mut found = read_all(&[path.to_path_buf()])?;
        return match found.len() {
            1 => Ok(found.remove(0)),
            n => Err(format!("error: {file} holds {n} scenarios; name one file, or use `faultline review {file}`")),
        };
    }
    let scenarios = builtin()?;
    let names: Vec<&str> = scenarios.iter().map(|s| s.name.as_str()).collect();
    let wanted = file.strip_suffix(".scn").unwrap_or(file);
    let wanted = wanted.rsplit('/').next().unwrap_or(wanted);
    match scenarios.iter().position(|s| s.name == wanted) {
        Some(at) => Ok(scenarios[at].clone()),
        None => {
            let hint = match did_you_mean(wanted, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`faultline list scenarios` shows those that come with faultline".to_string(),
            };
            Err(format!("error: {file}: no such file, and no scenario of that name; {hint}"))
        }
    }
}
