//! `alerts [HOST:PORT]`: prints alerts as they are made. It may be killed at any time.

use std::io::Write as _;
use std::process::ExitCode;

use alerts::Alerts;
use meshlog_client::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7420".to_owned());
    match tell(&address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "alerts: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn tell(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(address).await?;
    let mut alerts = Alerts::resume(&client).await?;
    let mut out = std::io::stdout();
    while let Some(alert) = alerts.next().await? {
        let alerts::Alert { flight, origin, dest, minutes, time_hour } = alert;
        writeln!(
            out,
            "{flight} from {origin} to {dest} left {minutes} minutes late ({time_hour})"
        )?;
    }
    Ok(())
}
