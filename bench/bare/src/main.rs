//! A reverse proxy with nothing in it but the proxying: what a gateway built from the same crates
//! costs at least, and the ground on which runtime layouts are compared.

mod layout;
mod proxy;
mod upstream;

use std::{net::SocketAddr, num::NonZero};

use clap::Parser;
use layout::Layout;

#[derive(Parser)]
#[command(about = "Forwards HTTP/1.1 requests to one upstream")]
struct Args {
    /// How runtimes and listeners are arranged.
    #[arg(long, value_enum)]
    layout: Layout,
    /// Threads that serve connections.
    #[arg(long, default_value = "2")]
    threads: NonZero<usize>,
    /// A loopback address to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// The upstream's address.
    #[arg(long)]
    upstream: SocketAddr,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    anyhow::ensure!(args.listen.ip().is_loopback(), "only loopback addresses are allowed");
    args.layout.run(args.threads.get(), args.listen, args.upstream)
}
