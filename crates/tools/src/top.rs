//! `ratekeeper top`: monitors a server from a shell. It queries the admin API on the debug port periodically and draws a
//! screen, or prints once if the output is not a terminal.

mod client;
mod report;
mod sample;
mod screen;
mod terminal;
mod text;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::sleep;

use crate::Outcome;
use crate::output::stdout;
use crate::values::{address, some_time};
use client::Client;
use report::{Report, Sort, View};
use sample::{Sample, Window, documents};
use screen::Colors;

/// Options of the command.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys:  q quit, m last minute, h last hour, s change the order of the rules,\n       \
    p pause, r refresh now\n\n\
    Exit code: 0 done, 1 the server cannot be queried, 2 wrong options.\n\n\
    Try:  ratekeeper top\n      \
          ratekeeper top --once --window hour\n      \
          kubectl exec deploy/ratekeeper -- ratekeeper top --json"
)]
pub struct Args {
    /// Address of the server's debug port, as host:port
    #[arg(long, short, value_name = "ADDRESS", default_value = "localhost:6070", value_parser = address)]
    address: String,

    /// Time between two queries, which is the time that rates are calculated over
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = some_time)]
    interval: Duration,

    /// Time window of the hottest and most denied buckets
    #[arg(long, value_name = "NAME", default_value = "minute")]
    window: Window,

    /// Order of the rules
    #[arg(long, value_name = "NAME", default_value = "rate")]
    sort: Sort,

    /// Print once as text and exit, which is the default unless the output is a terminal
    #[arg(long)]
    once: bool,

    /// Print the responses of the admin API once, as JSON
    #[arg(long, conflicts_with = "once")]
    json: bool,

    /// Disable colors when set to any value
    #[arg(long, env = "NO_COLOR", hide = true, num_args = 0..=1, default_missing_value = "1")]
    no_color: Option<String>,
}

/// Shows what a server does.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let client = Client::new(&args.address);
    runtime.block_on(async {
        if args.json {
            print_json(&client).await
        } else if args.once || !io::stdout().is_terminal() {
            print_once(args, &client).await
        } else {
            let colors = match args.no_color {
                Some(_) => Colors::None,
                None => Colors::Some,
            };
            terminal::watch(&client, args.view(), args.interval, colors).await
        }
    })?;
    Ok(Outcome::Done)
}

impl Args {
    fn view(&self) -> View {
        View {
            address: self.address.clone(),
            window: self.window,
            sort: self.sort,
        }
    }
}

/// The numbers as the server tells them. Clients choose some of the texts, so what a terminal may take for a command
/// is written as JSON can.
async fn print_json(client: &Client) -> anyhow::Result<()> {
    writeln!(stdout(), "{}", documents(client).await?)?;
    Ok(())
}

async fn print_once(args: &Args, client: &Client) -> anyhow::Result<()> {
    let before = Sample::ask(client, args.window).await?;
    sleep(args.interval).await;
    let now = Sample::ask(client, args.window).await?;
    let report = Report::new(&args.view(), Some(&before), &now);
    stdout().write_all(text::printed(&report).as_bytes())?;
    Ok(())
}
