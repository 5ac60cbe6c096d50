// SPDX-License-Identifier: GPL-2.0-only
//! The command line.

use clap::{Parser, Subcommand};
use faultline::patch::Revision;
use faultline::recorded::{Archive, Summary};
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
    /// Sequences recorded on real kernels (JSON lines, or an archive made of them by --pack), judged against the model of the same release
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
        /// The sequences as scenarios, compressed, into this file
        #[arg(long, value_name = "FILE", conflicts_with_all = ["patch", "all"])]
        pack: Option<PathBuf>,
    },
    /// Scenarios on the kernel that is running here, and on the model of its release
    Live {
        /// Scenario files, or names of scenarios that come with faultline
        files: Vec<String>,
        /// All scenarios that come with faultline, a line each
        #[arg(long, conflicts_with_all = ["files", "record"])]
        matrix: bool,
        /// So many random programs
        #[arg(long, value_name = "N", conflicts_with_all = ["files", "record", "matrix"])]
        random: Option<u64>,
        /// Which random programs
        #[arg(long, value_name = "S", default_value_t = 1, requires = "random")]
        seed: u64,
        /// What random programs are made of: series (what v5.14 knows), later, or all
        #[arg(long, value_name = "SCOPE", default_value = "all", requires = "random")]
        scope: String,
        /// When the memory of random programs is looked at: after each operation, after the last (and in one program of eight after
        /// each), or never (none)
        #[arg(long, value_name = "WHEN", default_value = "last", requires = "random")]
        look: String,
        /// Each random program in a process that nothing else has run in: slower
        #[arg(long, requires = "random")]
        fresh: bool,
        /// Where the smallest random programs that differ are written
        #[arg(long, value_name = "DIR", default_value = "target/faultline", requires = "random")]
        out: PathBuf,
        /// A scenario with the results that the kernel gave, instead of the comparison
        #[arg(long)]
        record: bool,
        /// A revision instead of the newest release that is not newer than the running kernel, for instance v6_12
        #[arg(long, value_name = "REVISION")]
        kernel: Option<String>,
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
        /// Look for the table's sequences in recordings, and print what the kernels answered (it belongs into src/ask/confirmed.txt)
        #[arg(long, value_name = "RECORDING", num_args = 1.., conflicts_with_all = ["operation", "scenario", "format"])]
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
/// This machine cannot be asked.
const NOT_HERE: u8 = 3;

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
        Command::Recorded { files, patch, only, all, convert, pack } => {
            recorded(&files, patch.as_deref(), &only, all, convert, pack.as_deref())
        }
        Command::Live { files, matrix, random: Some(programs), seed, scope, look, fresh, out, kernel, .. } => {
            debug_assert!(files.is_empty() && !matrix);
            live_random(programs, seed, &scope, &look, fresh, &out, kernel.as_deref())
        }
        Command::Live { files, matrix, record, kernel, .. } => live(&files, matrix, record, kernel.as_deref()),
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
    let scenarios = if paths.is_empty() {
        let mut builtin = builtin()?;
        builtin.retain(|s| s.concerns(&revisions));
        builtin
    } else {
        read_all(paths)?
    };
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

fn recorded(files: &[PathBuf], patch: Option<&str>, only: &str, all: bool, convert: bool, pack: Option<&Path>) -> Answer {
    if pack.is_some() && files.len() > 1 {
        return Err("error: --pack takes one recording; each becomes a file of its own".to_owned());
    }
    let mut text = String::new();
    let mut code = 0;
    for path in files {
        let at = |e: String| format!("error: {}: {e}", path.display());
        let content = std::fs::read(path).map_err(|e| at(e.to_string()))?;
        let mut archive = Archive::read(&content).map_err(at)?;
        archive.cases.retain(|c| c.id.starts_with(only));
        if archive.cases.is_empty() {
            return Err(at(format!("no sequence whose name begins with `{only}`")));
        }
        if convert {
            text.push_str(&archive.print());
        }
        if let Some(to) = pack {
            let packed = archive.pack().map_err(|e| at(e.to_string()))?;
            std::fs::write(to, packed).map_err(|e| format!("error: {}: {e}", to.display()))?;
        }
        if convert || pack.is_some() {
            continue;
        }
        let revision = match (patch, archive.revision()) {
            (Some(_), _) => match revisions(patch)?[..] {
                [one] => one,
                _ => return Err("error: a recording is judged against one revision".to_owned()),
            },
            (None, Some(release)) => release,
            (None, None) => {
                return Err(at("its first line names no kernel that is modelled; choose one with --patch".to_owned()));
            }
        };
        let summary = Summary::of(&archive, revision);
        text.push_str(&format!("{}: Linux {}, {}", path.display(), archive.kernel, summary.print(revision, all)));
        if !summary.differ.is_empty() || !summary.see.is_empty() {
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
        let content = std::fs::read(path).map_err(|e| at(e.to_string()))?;
        recordings.push(Archive::read(&content).map_err(at)?);
    }
    let confirmed = ask::confirm::gather(&recordings).map_err(|e| format!("error: {e}"))?;
    Ok((confirmed.print(), 0))
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn live(_: &[String], _: bool, _: bool, _: Option<&str>) -> Answer {
    Ok(("the running kernel can be asked on x86-64 Linux only\n".to_owned(), NOT_HERE))
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn live_random(_: u64, _: u64, _: &str, _: &str, _: bool, _: &Path, _: Option<&str>) -> Answer {
    live(&[], false, false, None)
}

/// This machine and the revision to compare it with; or what stands in the way.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn here(kernel: Option<&str>) -> Result<Result<(faultline::live::Host, Revision), String>, String> {
    use faultline::{live::Host, report::live as show};
    let host = match Host::look() {
        Ok(host) => host,
        Err(missing) => return Ok(Err(show::missing(&missing))),
    };
    let revision = match kernel {
        Some(name) => match revisions(Some(name))?[..] {
            [one] => one,
            _ => return Err("error: the running kernel is compared with one revision".to_owned()),
        },
        None => match host.revision {
            Some(revision) => revision,
            None => return Ok(Err(show::too_old(&host))),
        },
    };
    Ok(Ok((host, revision)))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn live_random(programs: u64, seed: u64, scope: &str, look: &str, fresh: bool, out: &Path, kernel: Option<&str>) -> Answer {
    use faultline::live::random::{self, Looks, Plan, Scope};
    use faultline::report::live as show;
    use std::io::{IsTerminal, Write};
    let Some(&(_, scope)) = Scope::NAMES.iter().find(|(name, _)| *name == scope) else {
        return Err(unknown("scope", scope, &Scope::NAMES.map(|(name, _)| name)));
    };
    let Some(&(_, looks)) = Looks::NAMES.iter().find(|(name, _)| *name == look) else {
        return Err(unknown("value of --look", look, &Looks::NAMES.map(|(name, _)| name)));
    };
    let (host, revision) = match here(kernel)? {
        Ok(here) => here,
        Err(why) => return Ok((why, NOT_HERE)),
    };
    let plan = Plan { programs, seed, revision, scope, looks, fresh };
    let terminal = std::io::stderr().is_terminal();
    let report = random::run(&host, &plan, |report| {
        if terminal {
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", show::progress(report, programs));
        }
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    let report = match report {
        Ok(report) => report,
        Err(why) => return Ok((format!("{why}\n"), NOT_HERE)),
    };
    let saved = random::save(&host, &plan, &report, out).map_err(|e| format!("error: {}: {e}", out.display()))?;
    let code = if report.agree == report.programs && report.deaths.is_empty() { 0 } else { DIFFERS };
    Ok((show::random(&host, &plan, &report, &saved), code))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn live(files: &[String], matrix: bool, record: bool, kernel: Option<&str>) -> Answer {
    use faultline::live::{Live, Verdict, obstacle};
    use faultline::report::live as show;
    let scenarios: Vec<Scenario> = match (matrix, files) {
        (true, _) => builtin()?,
        (false, []) => return Err("error: name a scenario, or ask for --matrix or --random N".to_owned()),
        (false, files) => files.iter().map(|f| one(f)).collect::<Result<_, _>>()?,
    };
    let (host, revision) = match here(kernel)? {
        Ok(here) => here,
        Err(why) => return Ok((why, NOT_HERE)),
    };
    let mut text = String::new();
    let mut code = 0;
    let mut table = show::Matrix::default();
    let mut live = Live::new(host.clone());
    for scenario in &scenarios {
        if let Some(obstacle) = obstacle(scenario) {
            table.not_run(scenario, obstacle.why());
            text.push_str(&format!("{}: not run: {}\n", scenario.path, obstacle.why()));
            code = code.max(NOT_HERE);
            continue;
        }
        let sides = live.compare(scenario, revision);
        table.run(scenario, &sides);
        code = match sides.verdict() {
            Verdict::Differ => DIFFERS,
            Verdict::NotAsked(_) if code == 0 => NOT_HERE,
            _ => code,
        };
        text.push_str(&if record {
            faultline::scenario::print::scenario(&faultline::live::record(scenario, &sides.kernel))
        } else {
            show::render(scenario, &host, revision, &sides)
        });
    }
    if matrix {
        return Ok((table.render(&host, revision), if table.differs() { DIFFERS } else { 0 }));
    }
    Ok((text, code))
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
